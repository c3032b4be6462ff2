//! Lets one COMPARE AND WRITE or ORWRITE at a time update a device.
//!
//! A word of memory excludes other threads. A lock of an open file description (fcntl(2)) excludes
//! other processes. It is on a byte far beyond what other programs lock; to lock it for writing, a
//! program must be able to write the device. A program that may only read the device can prevent
//! that with a lock for reading, so in that case all take such a lock, too, and flock(2) as well.
//! No wait is longer than the command's timeout.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU64, Ordering};

use disk::Errno;
use disk::host::UpdateError;

use crate::sys::{self, File, PathBuffer, Status, decimal};

/// The offset of the byte that is locked.
const BYTE: i64 = 1 << 62;

/// The thread that updates a device: its process ID and thread ID; 0: none.
#[derive(Default)]
pub struct Exclusion(AtomicU64);

impl Exclusion {
    /// Keeps other threads out until the result is dropped; `None` where one updates the device.
    /// Only while no signal is handled: a handler might leave by siglongjmp(3), and the thread
    /// would then exclude itself.
    pub fn try_lock_threads(&self) -> Option<ThreadGuard<'_>> {
        let (process, thread) = (sys::process(), sys::thread());
        let this = (process as u64) << 32 | thread as u64;
        let take = |holder| self.0.compare_exchange(holder, this, Ordering::Acquire, Ordering::Relaxed);
        let guard = || ThreadGuard { exclusion: self, this };
        let Err(holder) = take(0) else { return Some(guard()) };
        // A child has the word of its parent, whose threads it does not have.
        let exists = holder != this && holder >> 32 == process as u64 && sys::has_thread(holder as c_int);
        (!exists && take(holder).is_ok()).then(guard)
    }
}

/// Keeps other threads out until it is dropped.
pub struct ThreadGuard<'a> {
    exclusion: &'a Exclusion,
    this: u64,
}

impl Drop for ThreadGuard<'_> {
    fn drop(&mut self) {
        let _ = self.exclusion.0.compare_exchange(self.this, 0, Ordering::Release, Ordering::Relaxed);
    }
}

/// Repeats `attempt` until it returns true or an error, or the deadline has passed.
pub fn retry_until(
    deadline: u64,
    mut attempt: impl FnMut() -> Result<bool, UpdateError>,
) -> Result<(), UpdateError> {
    let mut pause = Pause::new();
    while !attempt()? {
        pause.before(deadline).map_err(UpdateError::Exclude)?;
    }
    Ok(())
}

/// The time between two attempts, in nanoseconds.
struct Pause(u32);

impl Pause {
    fn new() -> Pause {
        Pause(20_000)
    }

    /// Waits; `EAGAIN` when the deadline has passed.
    fn before(&mut self, deadline: u64) -> Result<(), Errno> {
        const LONGEST: u32 = 2_000_000;
        if sys::milliseconds() >= deadline {
            return Err(Errno::EAGAIN);
        }
        sys::sleep(self.0);
        self.0 = self.0.saturating_mul(2).min(LONGEST);
        Ok(())
    }
}

/// The locks that the program holds through a descriptor: no other process can hold them, and the
/// engine would exclude itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLocks {
    /// The byte, for writing.
    byte: bool,
    /// The file by flock(2), exclusively.
    file: bool,
}

impl OwnLocks {
    /// Returns what a file of /proc/PID/fdinfo reports. Only in a task of its own.
    pub fn read(report: Option<&PathBuffer>) -> OwnLocks {
        let (mut text, mut length) = ([0; 16384], 0);
        let open = |name: &PathBuffer| File::open(name.as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC).ok();
        if let Some(file) = report.and_then(open) {
            while let Ok(more @ 1..) = file.read(text.get_mut(length..).unwrap_or_default()) {
                length = more.saturating_add(length);
            }
        }
        OwnLocks::parse(text.get(..length).unwrap_or_default())
    }

    /// Returns what the text of a file of /proc/PID/fdinfo reports.
    fn parse(text: &[u8]) -> OwnLocks {
        let lines = text.split(|&byte| byte == b'\n');
        // "lock:\t1: OFDLCK  ADVISORY  WRITE -1 08:01:123 0 EOF" (fs/locks.c, lock_get_status)
        let mut own = OwnLocks::default();
        for lock in lines.filter_map(|line| line.strip_prefix(b"lock:")) {
            let mut words = lock.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1);
            let kind = words.next();
            if words.nth(1) != Some(b"WRITE") {
                continue;
            }
            let bound = |word: Option<&[u8]>| match word {
                Some(b"EOF") => Some(i64::MAX),
                Some(digits) => decimal(digits).and_then(|number| i64::try_from(number).ok()),
                None => None,
            };
            let (start, end) = (bound(words.nth(2)), bound(words.next()));
            match kind {
                Some(b"FLOCK") => own.file = true,
                Some(b"POSIX" | b"OFDLCK") => {
                    own.byte |=
                        start.is_some_and(|start| start <= BYTE) && end.is_some_and(|end| end >= BYTE);
                }
                _ => {}
            }
        }
        own
    }
}

/// Keeps other processes out as long as the file and the result are open; `None` where one updates
/// the device. `owner` is the program's process. Only in a task of its own.
pub fn try_lock_processes(
    file: &File,
    checked: &Status,
    owner: c_int,
    own: OwnLocks,
) -> Result<Option<ProcessGuard>, Errno> {
    // A lock of the byte through the program's descriptor excludes all that have not inherited it.
    let locked = if own.byte { lock_file(file, own)? } else { lock(file, owner, own)? };
    if !locked {
        return Ok(None);
    }
    // A block device can have several nodes, each an inode with locks of its own.
    let node = system_node(checked)?;
    if let Some(node) = &node {
        if !lock(node, owner, OwnLocks::default())? {
            return Ok(None);
        }
    }
    Ok(Some(ProcessGuard { _node: node }))
}

/// Keeps other processes out, together with the file.
pub struct ProcessGuard {
    _node: Option<File>,
}

/// Locks by flock(2), unless the program has done so itself.
fn lock_file(file: &File, own: OwnLocks) -> Result<bool, Errno> {
    if own.file {
        return Ok(true);
    }
    match sys::lock_file(file) {
        Err(Errno::EAGAIN) => Ok(false),
        locked => locked.map(|()| true),
    }
}

fn lock(file: &File, owner: c_int, own: OwnLocks) -> Result<bool, Errno> {
    match sys::lock_byte(file, libc::F_WRLCK, BYTE) {
        Err(Errno::EAGAIN) => {}
        locked => return locked.map(|()| true),
    }
    match sys::conflict(file, BYTE)? {
        // The program's own: as long as it has that, no other process gets this far.
        Some(conflict) if conflict.kind == libc::F_WRLCK => Ok(conflict.process == owner),
        Some(_) => match sys::lock_byte(file, libc::F_RDLCK, BYTE) {
            Err(Errno::EAGAIN) => Ok(false),
            locked => locked.and_then(|()| lock_file(file, own)),
        },
        // It has been released meanwhile.
        None => Ok(false),
    }
}

/// Opens the node that the system has made of a block device, where the file is open on another one
/// and this program can open it.
fn system_node(checked: &Status) -> Result<Option<File>, Errno> {
    if checked.file_type() != libc::S_IFBLK {
        return Ok(None);
    }
    let find = || {
        let event = PathBuffer::format(format_args!("/sys/dev/block/{}/uevent", checked.number))?;
        let mut text = [0; 512];
        let length = File::open(event.as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC)?.read(&mut text)?;
        let lines = text.get(..length).unwrap_or_default().split(|&byte| byte == b'\n');
        let device = lines.filter_map(|line| line.strip_prefix(b"DEVNAME=")).next().ok_or(Errno::ENOENT)?;
        let device = core::str::from_utf8(device).map_err(|_| Errno::ENOENT)?;
        let path = PathBuffer::format(format_args!("/dev/{device}"))?;
        let node = File::open(path.as_c_str(), libc::O_PATH | libc::O_CLOEXEC)?;
        let status = node.status()?;
        if status.file_type() != libc::S_IFBLK
            || status.number != checked.number
            || status.is_same_file(checked)
        {
            return Err(Errno::ENOENT);
        }
        File::reopen(node.fd(), libc::O_RDWR)
    };
    match find() {
        Ok(node) => Ok(Some(node)),
        Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => Err(errno),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_a_descriptor() {
        let parse = |locks: &str| OwnLocks::parse(locks.as_bytes());
        let none = OwnLocks::default();
        let head = "pos:\t0\nflags:\t0100002\nmnt_id:\t30\nino:\t12\n";
        assert_eq!(parse(head), none);
        let whole = "lock:\t1: POSIX  ADVISORY  WRITE 71 08:01:123 0 EOF\n";
        let byte = "lock:\t2: OFDLCK ADVISORY  WRITE -1 08:01:123 4611686018427387904 4611686018427387904\n";
        for lock in [whole, byte] {
            assert_eq!(parse(&[head, lock].concat()), OwnLocks { byte: true, file: false }, "{lock}");
        }
        let file = "lock:\t1: FLOCK  ADVISORY  WRITE 71 08:01:123 0 EOF\n";
        assert_eq!(parse(file), OwnLocks { byte: false, file: true });
        assert_eq!(parse(&[file, byte].concat()), OwnLocks { byte: true, file: true });
        for other in [
            "lock:\t1: POSIX  ADVISORY  READ 71 08:01:123 0 EOF\n",
            "lock:\t1: OFDLCK ADVISORY  WRITE -1 08:01:123 0 4611686018427387903\n",
            "lock:\t1: POSIX  ADVISORY  WRITE 71 08:01:123 4611686018427387905 EOF\n",
            "lock:\t1: FLOCK  ADVISORY  READ 71 08:01:123 0 EOF\n",
            "lock:\t1: LEASE  ACTIVE    WRITE 71 08:01:123 0 EOF\n",
            "lock:\t1: POSIX  ADVISORY  WRITE 71 08:01:123 0\n",
        ] {
            assert_eq!(parse(other), none, "{other}");
        }
    }
}
