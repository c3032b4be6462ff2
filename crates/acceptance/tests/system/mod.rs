//! The running system as a test sees it, which may change it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use acceptance::{Outcome, Run, Scratch, library};
use disk::names;

/// The library's installed name.
pub const LIBRARY: &str = names::LIBRARY;

/// The administrator's file.
pub const CONF: &str = names::CONFIGURATION_FILE;

/// The manual pages, below the directory of the manual.
pub const PAGES: [&str; 13] = [
    "man1/vmware-bdwrapper-add.1",
    "man1/vmware-bdwrapper-doctor.1",
    "man1/vmware-bdwrapper-link.1",
    "man1/vmware-bdwrapper-list.1",
    "man1/vmware-bdwrapper-probe.1",
    "man1/vmware-bdwrapper-run.1",
    "man1/vmware-bdwrapper-setup.1",
    "man1/vmware-bdwrapper-trace.1",
    "man1/vmware-bdwrapper-vmdk.1",
    "man1/vmware-bdwrapper.1",
    "man5/vmware-bdwrapper.conf.5",
    "man7/libvmware-bdwrapper.7",
    "man7/vmware-bdwrapper-messages.7",
];

/// What shells complete from, below the directory of shared data, on other systems than Debian.
pub const COMPLETIONS: [&str; 3] = [
    "bash-completion/completions/vmware-bdwrapper",
    "fish/vendor_completions.d/vmware-bdwrapper.fish",
    "zsh/site-functions/_vmware-bdwrapper",
];

/// The directory that cargo builds into.
fn target() -> PathBuf {
    library().ancestors().nth(2).expect("it is in TARGET/release").to_path_buf()
}

/// The root of the sources.
pub fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it is in crates/acceptance")
}

/// The command.
pub fn command() -> PathBuf {
    target().join("release/vmware-bdwrapper")
}

/// Runs `make`; nothing is compiled, but manual pages are made.
pub fn make<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> Outcome {
    static PAGES_MADE: Once = Once::new();
    let target = format!("CARGO_TARGET_DIR={}", target().display());
    let make = || Run::new("make").arg("-sC").arg(sources()).args([&target, "CARGO=true"]);
    PAGES_MADE.call_once(|| drop(make().arg("all").output().expect_out()));
    make().args(arguments).output()
}

/// The directory that the system's loader trusts.
pub fn trusted() -> PathBuf {
    Run::new(command()).arg("libdir").output().expect_out().trim_end().into()
}

/// The files that this system's shells complete from.
pub fn completions() -> [PathBuf; 3] {
    let is_debian = Path::new("/etc/debian_version").exists();
    COMPLETIONS.map(|file| {
        let file = Path::new("/usr/share").join(file);
        match file.file_name() {
            Some(name) if is_debian && file.starts_with("/usr/share/zsh") => {
                Path::new("/usr/share/zsh/vendor-completions").join(name)
            }
            _ => file,
        }
    })
}

/// `/etc` and `/usr` of the running system, to be changed at will: what is written there stands in memory, is seen by this process
/// alone, and is gone at the end.
pub struct System {
    libdir: PathBuf,
    // Unmounted before the lock is given up.
    _changes: Changes,
    _lock: MutexGuard<'static, ()>,
}

impl System {
    /// The system without anything of ours.
    pub fn clean() -> System {
        static LOCK: Mutex<()> = Mutex::new(());
        let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let libdir = trusted();
        let pages = PAGES.map(|page| Path::new("/usr/share/man").join(page));
        let files = ["/usr/bin/vmware-bdwrapper".into(), CONF.into()];
        let files: Vec<PathBuf> = files.into_iter().chain(pages).chain(completions()).collect();
        // Those, and where tests put libraries.
        let libraries =
            [&libdir, Path::new("/usr/lib"), Path::new("/usr/lib64"), Path::new("/usr/local/lib")];
        let changes = Changes::new(files.iter().filter_map(|file| file.parent()).chain(libraries));
        let system = System { libdir, _changes: changes, _lock: lock };
        for file in files.iter().chain([&system.library()]) {
            remove(file);
        }
        for entry in fs::read_dir("/etc").expect("it can be read") {
            let name = entry.expect("it can be read").file_name();
            // Which `setup` keeps: FILE.bak, FILE.bak.1 and so on.
            if name.as_encoded_bytes().starts_with(b"vmware-bdwrapper.conf.bak") {
                remove(&Path::new("/etc").join(name));
            }
        }
        system
    }

    /// The installed library.
    pub fn library(&self) -> PathBuf {
        self.libdir.join(LIBRARY)
    }
}

/// Mounts over `/etc` and `/usr`.
struct Changes(Scratch);

impl Changes {
    /// What is to be written stands in these directories.
    fn new<'a>(directories: impl Iterator<Item = &'a Path>) -> Changes {
        let changes = Changes(Scratch::new());
        // The superuser of a user namespace may write only where the directory is his own.
        let script = "mount -t tmpfs -o mode=755 tmpfs \"$0\"\n\
            for name; do [ ! -d \"$name\" ] || mkdir -p \"$0$(realpath \"$name\")\"; done\n\
            for name in etc usr; do\n\
                mkdir \"$0/$name.work\"\n\
                mount -t overlay -o \"lowerdir=/$name,upperdir=$0/$name,workdir=$0/$name.work\" overlay /$name\n\
            done";
        Run::new("sh")
            .args(["-ec", script])
            .arg(changes.0.directory())
            .args(directories)
            .output()
            .expect_out();
        changes
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        for place in [Path::new("/usr"), Path::new("/etc"), self.0.directory()] {
            Run::new("umount").arg("--lazy").arg(place).output();
        }
    }
}

/// Removes what stands there, whatever it is.
pub fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(status) if status.is_dir() => fs::remove_dir(path).expect("it is empty"),
        Ok(_) => fs::remove_file(path).expect("root can remove it"),
        Err(_) => {}
    }
}

/// Sets the permissions.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}
