//! The running system, changed for a test and afterwards as it was before.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use acceptance::{Outcome, Run, library};
use rustix::fs::{FlockOperation, flock};

/// The library's installed name.
pub const LIBRARY: &str = "libvmware-bdwrapper.so.0";

/// The administrator's file.
pub const CONF: &str = "/etc/vmware-bdwrapper.conf";

/// The manual pages, below the directory of the manual.
pub const PAGES: [&str; 3] =
    ["man1/vmware-bdwrapper.1", "man7/libvmware-bdwrapper.7", "man5/vmware-bdwrapper.conf.5"];

/// What shells complete from, below the directory of shared data, on other systems than Debian.
pub const COMPLETIONS: [&str; 3] = [
    "bash-completion/completions/vmware-bdwrapper",
    "fish/vendor_completions.d/vmware-bdwrapper.fish",
    "zsh/site-functions/_vmware-bdwrapper",
];

/// The directory that cargo builds into.
fn target() -> PathBuf {
    library().ancestors().nth(2).expect("it stands in TARGET/release").to_path_buf()
}

/// The root of the sources.
pub fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it stands in crates/acceptance")
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

/// The running system, which no other test changes meanwhile.
pub struct System {
    libdir: PathBuf,
    // Restored before the lock is given up.
    saved: Vec<Saved>,
    _lock: File,
}

impl System {
    /// The system without anything of ours.
    pub fn clean() -> System {
        let lock = File::create("/run/vmware-bdwrapper-test.lock").expect("root can write to /run");
        flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");
        let libdir = trusted();
        let mut system = System { libdir, saved: Vec::new(), _lock: lock };
        system.save(system.library());
        system.save("/usr/bin/vmware-bdwrapper".into());
        system.save(CONF.into());
        // Which `setup` keeps: FILE.bak, FILE.bak.1 and so on.
        system.save(format!("{CONF}.bak").into());
        for number in 1..8 {
            system.save(format!("{CONF}.bak.{number}").into());
        }
        for page in PAGES {
            system.save(Path::new("/usr/share/man").join(page));
        }
        for file in completions() {
            system.save(file);
        }
        system
    }

    /// The installed library.
    pub fn library(&self) -> PathBuf {
        self.libdir.join(LIBRARY)
    }

    /// Moves a file out of the way until the end.
    pub fn save(&mut self, path: PathBuf) {
        self.saved.push(Saved::new(path));
    }
}

/// A name that holds at the end what it held at the beginning.
struct Saved {
    path: PathBuf,
    before: PathBuf,
}

impl Saved {
    fn new(path: PathBuf) -> Saved {
        let mut before = path.clone().into_os_string();
        before.push(".before-test");
        let saved = Saved { path, before: before.into() };
        // Where one is there already, an earlier test was killed: that one is the original.
        if saved.before.symlink_metadata().is_ok() {
            remove(&saved.path);
        } else if saved.path.symlink_metadata().is_ok() {
            fs::rename(&saved.path, &saved.before).expect("root can rename it");
        }
        saved
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        remove(&self.path);
        if self.before.symlink_metadata().is_ok() && fs::rename(&self.before, &self.path).is_err() {
            eprintln!("{} could not be restored: it is in {}", self.path.display(), self.before.display());
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
