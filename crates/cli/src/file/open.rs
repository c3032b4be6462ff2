//! Reaches files, and opens those that it is safe to open.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The file itself where a symbolic link leads to it: what stands beside it, does not stand beside the link.
pub fn follow_link(path: &Path) -> PathBuf {
    match path.is_symlink() {
        true => path.canonicalize().unwrap_or(path.into()),
        false => path.into(),
    }
}

/// The directory that a file stands in.
pub fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Looks at a file without opening it.
pub fn look(path: &Path, flags: OFlags) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlags::PATH | flags).bits() as i32).open(path)
}

/// Opens a file for reading where it is of a type that is wanted. All others are not even opened: that wakes those who wait at a
/// FIFO, rewinds a tape, starts a watchdog. A symbolic link is not followed.
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

/// The name by which this process reaches what it has open, wherever that is now.
pub fn proc_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
