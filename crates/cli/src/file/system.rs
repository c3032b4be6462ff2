//! What only root may change.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{geteuid, umask};

use crate::file::{Place, Rights, inode};
use crate::say::failure::{Failure, quoted, say};
use crate::say::finding::{Code, Finding};

/// For root alone, as its directory is: a lock on what others may open could be held by them.
const LOCK: &str = "/run/vmware-bdwrapper.lock";

/// Keeps other runs waiting until it is dropped.
pub struct Alone {
    _lock: File,
}

impl Drop for Alone {
    fn drop(&mut self) {
        // While it is locked. Who waits for it finds that its name is gone.
        let _ = fs::remove_file(LOCK);
    }
}

/// Waits until no other run changes the system's files; a failure for whoever is not root. A dry run changes nothing and needs
/// neither.
pub fn alone(dry_run: bool) -> Result<Option<Alone>, Failure> {
    if dry_run {
        return Ok(None);
    }
    required()?;
    // Others need what is made to be readable, and must not write it, whatever the caller's mask is.
    umask(Mode::WGRP | Mode::WOTH);
    loop {
        match lock() {
            Ok(Some(lock)) => return Ok(Some(Alone { _lock: lock })),
            // The run that had it is done, and has removed it.
            Ok(None) => {}
            Err(error) => {
                let finding = Finding::io("cannot be locked, so nothing was changed", &error).of(LOCK);
                return Err(finding.hint("make it a file that root may write").into());
            }
        }
    }
}

/// The file, locked; none where it has lost its name.
fn lock() -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(LOCK)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            let finding =
                Finding::warning(Code::Waiting, "waits for another run of add, remove, setup or link")
                    .of(LOCK);
            say(finding.hint("'lslocks' shows that run"));
            retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        }
        done => done?,
    }
    let is_it = inode(file.metadata()) == inode(Path::new(LOCK).symlink_metadata());
    Ok(is_it.then_some(file))
}

/// A failure for whoever is not root, with the same command for root.
fn required() -> Result<(), Failure> {
    if geteuid().is_root() {
        return Ok(());
    }
    let words: String = std::env::args_os().skip(1).map(|word| format!(" {}", quoted(&word))).collect();
    let finding = Finding::problem(Code::RootOnly, "Only root can change the system's files");
    Err(finding.hint(format!("run 'sudo vmware-bdwrapper{words}'")).into())
}

/// Makes a file of root's with mode 0644, or replaces one, whose owner and mode stay, in one step. Where `keep` says so the old
/// file stays under another name, which is returned.
pub fn put(path: &Path, text: &[u8], keep: bool) -> Result<Option<PathBuf>, Finding> {
    let place = Place::of(path)?;
    if path.exists() {
        return place.replace(text, keep);
    }
    place.create_with(text, &Rights { user: 0, group: 0, mode: 0o644, list: None }).map(|()| None)
}
