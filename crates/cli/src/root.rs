//! What only root may change.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::process::geteuid;

use crate::failure::{Failure, cause, shown};
use crate::file::{self, Rights};

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
        file::temporary(path, text, Some(Rights { user: 0, group: 0, mode: 0o644 }))?.persist(path)?;
        File::open(file::directory(path))?.sync_all()
    };
    write().map_err(|error| {
        format!("{} cannot be written ({}): nothing of it was changed.", shown(path), cause(&error))
    })
}
