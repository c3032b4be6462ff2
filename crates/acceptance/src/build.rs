//! The built library, and the C programs of `programs/`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

use crate::engine::COMMAND;

/// The directory that cargo builds into: the test program stands in `TARGET/PROFILE/deps`.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("/proc/self/exe names this test program");
    program.ancestors().nth(3).expect("cargo puts test programs into TARGET/PROFILE/deps").to_path_buf()
}

/// The release build of the library, not older than its sources.
pub fn library() -> PathBuf {
    built("libvmware_bdwrapper.so", &["disk", "engine", "preload"])
}

/// The release build of the command, not older than the sources of the supervisor.
pub fn built_command() -> PathBuf {
    built(COMMAND, &["disk", "engine", "supervisor"])
}

/// A file of the release build, not older than the sources of these crates.
fn built(name: &str, sources: &[&str]) -> PathBuf {
    let path = target().join("release").join(name);
    let Ok(built) = path.metadata().and_then(|file| file.modified()) else {
        panic!("{} does not exist: run cargo build --release first", path.display());
    };
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/acceptance has a parent");
    for name in sources {
        if let Some(newer) = newer_than(built, &crates.join(name).join("src")) {
            panic!("{} is newer than {}: run cargo build --release first", newer.display(), path.display());
        }
    }
    path
}

/// Python, with the packages that scripts/deps has installed for the tests.
pub fn python() -> PathBuf {
    target().join("python/bin/python")
}

/// A file below `directory` that changed after `time`.
fn newer_than(time: SystemTime, directory: &Path) -> Option<PathBuf> {
    let entries = directory.read_dir().expect("a source directory can be read");
    entries.map(|entry| entry.expect("a source directory can be read").path()).find_map(|path| {
        if path.is_dir() {
            return newer_than(time, &path);
        }
        let changed = path.metadata().and_then(|file| file.modified()).expect("a source file has a time");
        (changed > time).then_some(path)
    })
}

/// `programs/NAME.c`, compiled.
pub fn program(name: &str) -> PathBuf {
    program_with(name, name, &["-O2"])
}

/// `programs/NAME.c`, statically linked.
pub fn statically_linked(name: &str) -> PathBuf {
    program_with(name, name, &["-O2", "-static"])
}

/// `programs/NAME.c` as an i386 program, with the C library of `programs/i386`.
pub fn i386_program(name: &str) -> PathBuf {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/i386");
    let source = library.join("libc.c");
    let [library, source] = [&library, &source].map(|path| path.to_str().expect("the name is UTF-8"));
    // The headers of 64-bit programs are those of both.
    let headers = ["-I", library, "-idirafter", "/usr/include/x86_64-linux-gnu"];
    let options = ["-m32", "-O1", "-ffreestanding", "-nostdlib", "-static", "-fno-stack-protector"];
    let options = [&options[..], &["-fno-pic", "-no-pie", source], &headers].concat();
    program_with(name, &format!("{name}-i386"), &options)
}

/// `programs/SOURCE.c`, compiled to `OUTPUT` with these options of the C compiler.
pub fn program_with(source: &str, output: &str, options: &[&str]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(source).with_extension("c");
    let directory = target().join("acceptance-programs");
    let output = directory.join(output);
    let time = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    if time(&output) > time(&source) {
        return output;
    }
    std::fs::create_dir_all(&directory).expect("the target directory can be written");
    let unfinished = output.with_extension(format!("{}.tmp", std::process::id()));
    let compiler = std::env::var_os("CC").unwrap_or("cc".into());
    let arguments = ["-Wall", "-Wextra", "-pthread", "-o"].map(OsStr::new);
    let result = Command::new(&compiler)
        .args(arguments)
        .arg(&unfinished)
        .args(options)
        .arg(&source)
        .output()
        .unwrap_or_else(|error| {
            panic!("the C compiler {} cannot be run: {error}", Path::new(&compiler).display())
        });
    assert!(
        result.status.success() && result.stderr.is_empty(),
        "{} does not compile cleanly: {}",
        source.display(),
        String::from_utf8_lossy(&result.stderr)
    );
    std::fs::rename(&unfinished, &output).expect("the target directory can be written");
    output
}
