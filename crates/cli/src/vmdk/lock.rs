//! The locks of files that VMware uses.

use std::path::{Path, PathBuf};

use crate::say::failure::shown;
use crate::say::finding::{Code, Finding};

/// Fails if VMware uses a file: its lock, a file or directory `NAME.lck`, is beside it.
pub fn check_free(path: &Path) -> Result<(), Finding> {
    let lock = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".lck");
        PathBuf::from(name)
    };
    let locks = [Some(lock(path)), path.canonicalize().ok().as_deref().map(lock)];
    match locks.into_iter().flatten().find(|lock| lock.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(lock) => {
            let why = format!("is in use, because {} exists", shown(&lock));
            Err(Finding::problem(Code::InUse, why).of(path).hint(
                "shut the virtual machine down and close it in VMware. If VMware is not running, remove the lock",
            ))
        }
    }
}
