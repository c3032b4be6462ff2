//! What only root may change.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::Path;

use rustix::process::geteuid;

use crate::failure::{Failure, cause, shown};

/// A failure for whoever is not root; `task` is what to run as root.
pub fn required(task: &str) -> Result<(), Failure> {
    if geteuid().is_root() {
        return Ok(());
    }
    let sentence = format!("Only root can change the system's files: run 'sudo vmware-bdwrapper {task}'.");
    Err(Failure::new(Failure::FAILED, sentence))
}

/// Makes a file of root's with mode 0644 or replaces one, in one step; a sentence says why that failed.
pub fn put(path: &Path, text: &[u8]) -> Result<(), String> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".vmware-bdwrapper-").permissions(Permissions::from_mode(0o644));
        let mut file = builder.tempfile_in(directory)?;
        file.write_all(text)?;
        fchown(file.as_file(), Some(0), Some(0))?;
        // Whatever the umask took away.
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| {
        format!("{} cannot be written ({}): nothing of it was changed.", shown(path), cause(&error))
    })
}
