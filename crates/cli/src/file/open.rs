//! Looks at files, and opens those that it is safe to open.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::say::finding::Finding;

/// Returns the file that a symbolic link leads to: other files are beside that, not beside the link.
pub fn follow_link(path: &Path) -> PathBuf {
    match path.is_symlink() {
        true => path.canonicalize().unwrap_or(path.into()),
        false => path.into(),
    }
}

/// Returns whether something has this name; fails where that cannot be told.
pub fn exists(path: &Path) -> Result<bool, Finding> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Finding::io("cannot be examined", &error).of(path).hint("correct that first")),
    }
}

/// Returns the directory of a file.
pub fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Opens a file to look at it alone (`O_PATH`).
pub fn look(path: &Path, flags: OFlags) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlags::PATH | flags).bits() as i32).open(path)
}

/// Opens a file of a wanted type for reading. Any other is not even opened, which would wake the writers of a FIFO, rewind a tape or
/// start a watchdog. A symbolic link is not followed.
pub fn open(path: &Path, is_wanted: impl Fn(&FileType) -> bool) -> io::Result<Option<File>> {
    let looked = look(path, OFlags::NOFOLLOW)?;
    if !is_wanted(&looked.metadata()?.file_type()) {
        return Ok(None);
    }
    // What was looked at, whatever has its name now. One with a lease must not wait.
    let flags = OFlags::NONBLOCK.bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(proc_path(&looked)).map(Some)
}

/// Returns the device and inode of a file, where it can be looked at.
pub fn inode(status: io::Result<Metadata>) -> Option<(u64, u64)> {
    status.ok().map(|status| (status.dev(), status.ino()))
}

/// Reads at most this many bytes at the start of a file.
pub fn read_start(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the name by which this process reaches an open file, wherever that is now.
pub fn proc_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
