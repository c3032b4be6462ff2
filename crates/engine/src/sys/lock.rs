//! Locks of open file descriptions.

use core::ffi::c_int;

use disk::Errno;

use super::File;
use super::call::{NumericCall, call, numeric};

/// A lock of another open file description or process on a byte (fcntl(2), `F_OFD_GETLK`).
pub struct Conflict {
    /// `F_RDLCK` or `F_WRLCK`.
    pub kind: c_int,
    /// The process that has it; -1 where an open file description has it.
    pub process: c_int,
}

fn byte_lock(kind: c_int, byte: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: byte, l_len: 1, l_pid: 0 }
}

fn fcntl(file: &File, command: c_int, lock: &mut libc::flock) -> Result<usize, Errno> {
    // SAFETY: the kernel reads and writes a `struct flock`, which on 64-bit systems is the C
    // library's.
    unsafe { call(libc::SYS_fcntl, (file.fd(), command, &raw mut *lock)) }
}

/// Locks a byte for a file's open file description, without waiting; `EAGAIN` where that conflicts
/// with another lock.
pub fn lock_byte(file: &File, kind: c_int, byte: i64) -> Result<(), Errno> {
    match fcntl(file, libc::F_OFD_SETLK, &mut byte_lock(kind, byte)) {
        Err(Errno::EACCES) => Err(Errno::EAGAIN),
        locked => locked.map(drop),
    }
}

/// Returns a lock that keeps a file's open file description from locking a byte for writing.
pub fn conflict(file: &File, byte: i64) -> Result<Option<Conflict>, Errno> {
    let mut lock = byte_lock(libc::F_WRLCK, byte);
    fcntl(file, libc::F_OFD_GETLK, &mut lock)?;
    let found = Conflict { kind: lock.l_type.into(), process: lock.l_pid };
    Ok(Some(found).filter(|found| found.kind != libc::F_UNLCK))
}

/// Locks a whole file by flock(2), without waiting; `EAGAIN` where another open file description
/// has locked it.
pub fn lock_file(file: &File) -> Result<(), Errno> {
    numeric(NumericCall::FLOCK, (file.fd(), libc::LOCK_EX | libc::LOCK_NB)).map(drop)
}
