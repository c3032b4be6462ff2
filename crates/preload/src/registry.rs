//! The listed devices, and which of them a descriptor is open on.
//!
//! A block device is recognised by its number, an image file by its device and inode. What is recognised stays so until
//! the process ends, even where the name leads elsewhere later: a program that has the device open must not
//! suddenly reach a disk underneath.

use core::ffi::{CStr, c_int};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use disk::entry::{Entry, Printed};
use disk::real::{BLOCK_EXT_MAJOR, is_disk_link, is_disk_number};
use disk::{Device, Errno, Medium, State};
use libc::{major, minor, mode_t, stat};

use crate::host::Caller;
use crate::log::{self, Level};
use crate::storage::{List, keep_path};
use crate::sys;

/// The most devices that can be listed.
pub const MOST: usize = 256;

/// A listed device.
struct Listed {
    entry: Entry<'static>,
    path: &'static CStr,
    /// In a set-user-ID program: it counts only where the real user may open it.
    for_user: bool,
    state: State,
}

/// What a device or file is recognised by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    BlockDevice(u64),
    ImageFile { device: u64, inode: u64 },
}

/// A device or file that a listed name led to.
struct Known {
    key: Key,
    /// The place of the entry in the list.
    index: u8,
}

static LISTED: List<Listed, MOST> = List::new();
static KNOWN: List<Known, { 2 * MOST }> = List::new();

/// Adds a device; `false` where there are too many.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn add(entry: Entry<'static>, for_user: bool) -> bool {
    let Some(path) = keep_path(entry.path) else { return false };
    // SAFETY: as the caller says.
    unsafe { LISTED.push(Listed { entry, path, for_user, state: State::new() }) }
}

/// Remembers where the names lead now.
pub fn settle() {
    for (index, listed) in (0..).zip(LISTED.as_slice()) {
        if let Ok(key) = listed.leads_to() {
            remember(key, index);
        }
    }
}

/// The listed device that a descriptor is open on; `None` also where the descriptor cannot carry requests.
pub fn find(fd: c_int) -> Option<(Device<'static>, Caller)> {
    let (listed, index, medium) = look_up(fd)?;
    let caller = Caller::new(fd, medium)?;
    Some((Device { entry: &listed.entry, index, state: &listed.state }, caller))
}

/// The name by which the device that a descriptor is open on is listed.
pub fn name(fd: c_int) -> Option<Printed<'static>> {
    look_up(fd).map(|(listed, ..)| listed.entry.printed_path())
}

fn look_up(fd: c_int) -> Option<(&'static Listed, u8, Medium)> {
    if LISTED.as_slice().is_empty() {
        return None;
    }
    let key = Key::new(&sys::fstat(fd).ok()?)?;
    let index = index_of(key)?;
    let listed = LISTED.as_slice().get(usize::from(index))?;
    let medium = match key {
        Key::BlockDevice(_) => Medium::BlockDevice,
        Key::ImageFile { .. } => Medium::ImageFile,
    };
    // The name could have led elsewhere when it was looked at, the descriptor cannot.
    if listed.for_user && !is_users(fd, &listed.entry) {
        return None;
    }
    Some((listed, index, medium))
}

/// Whether this is a listed device or file.
pub fn is_listed(status: &stat) -> bool {
    Key::new(status).and_then(index_of).is_some()
}

fn index_of(key: Key) -> Option<u8> {
    if let Some(known) = KNOWN.as_slice().iter().find(|known| known.key == key) {
        return Some(known.index);
    }
    // A name may have appeared, or lead elsewhere now.
    let (index, _) =
        (0..).zip(LISTED.as_slice()).find(|(_, listed)| listed.leads_to().is_ok_and(|found| found == key))?;
    remember(key, index);
    Some(index)
}

/// Remembers, so that the next search is short; where another thread is at it, or the list is full, it does not.
fn remember(key: Key, index: u8) {
    static BUSY: AtomicBool = AtomicBool::new(false);
    if !BUSY.swap(true, Ordering::Acquire) {
        if KNOWN.as_slice().iter().all(|known| known.key != key) {
            // SAFETY: BUSY lets only one in.
            unsafe { KNOWN.push(Known { key, index }) };
        }
        BUSY.store(false, Ordering::Release);
    }
}

impl Key {
    fn new(status: &stat) -> Option<Key> {
        match status.st_mode & libc::S_IFMT {
            libc::S_IFBLK => Some(Key::BlockDevice(status.st_rdev)),
            libc::S_IFREG => Some(Key::ImageFile { device: status.st_dev, inode: status.st_ino }),
            _ => None,
        }
    }
}

/// Why a listed name does not lead to a disk.
enum Problem {
    /// It cannot be looked at.
    Missing(Errno),
    /// It is neither a block device nor a file.
    NoDisk(mode_t),
    /// It is a physical disk.
    RealDisk,
    /// The real user may not open it.
    NotTheUsers(Errno),
}

impl Listed {
    fn leads_to(&self) -> Result<Key, Problem> {
        if self.for_user {
            sys::access(self.path, access(&self.entry)).map_err(|errno| match errno {
                Errno::ENOENT => Problem::Missing(errno),
                _ => Problem::NotTheUsers(errno),
            })?;
        }
        let status = sys::stat(self.path).map_err(Problem::Missing)?;
        let key = Key::new(&status).ok_or(Problem::NoDisk(status.st_mode & libc::S_IFMT))?;
        match key {
            Key::BlockDevice(number) if !self.entry.force && is_real_disk(number) => Err(Problem::RealDisk),
            _ => Ok(key),
        }
    }
}

fn is_real_disk(number: u64) -> bool {
    let (major, minor) = (major(number), minor(number));
    if major != BLOCK_EXT_MAJOR {
        return is_disk_number(major, minor);
    }
    let mut name = Path::new();
    let mut link = [0; 512];
    let _ = write!(name, "/sys/dev/block/{major}:{minor}");
    let link = name.as_c_str().and_then(|name| sys::readlink(name, &mut link).ok());
    link.is_some_and(is_disk_link)
}

/// What the real user must be able to do with a device.
fn access(entry: &Entry<'_>) -> c_int {
    if entry.read_only { libc::R_OK } else { libc::R_OK | libc::W_OK }
}

fn is_users(fd: c_int, entry: &Entry<'_>) -> bool {
    let mut name = Path::new();
    let _ = write!(name, "/proc/self/fd/{fd}");
    name.as_c_str().is_some_and(|name| sys::access(name, access(entry)).is_ok())
}

/// A short file name in the making.
struct Path {
    bytes: [u8; 48],
    length: usize,
}

impl Path {
    fn new() -> Path {
        Path { bytes: [0; 48], length: 0 }
    }

    fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}

impl Write for Path {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.bytes.get_mut(self.length).ok_or(fmt::Error)? = byte;
            self.length = self.length.wrapping_add(1);
        }
        Ok(())
    }
}

/// Says at start-up what the entries are.
pub fn report() {
    for listed in LISTED.as_slice() {
        let entry = &listed.entry;
        let path = entry.printed_path();
        let kind = entry.kind.name();
        match listed.leads_to() {
            Ok(key) => match index_of(key).and_then(|known| LISTED.as_slice().get(usize::from(known))) {
                Some(first) if !core::ptr::eq(first, listed) => {
                    let other = (first.entry.printed_path(), first.entry.kind.name());
                    let level = if first.entry.kind == entry.kind { Level::Startup } else { Level::Errors };
                    log::say(
                        level,
                        format_args!(
                            "{path}={kind}: the same device is listed already, as {}={}; this entry does not count",
                            other.0, other.1
                        ),
                    );
                }
                _ => log::say(Level::Startup, format_args!("{path}: listed as {kind}, {key}")),
            },
            Err(problem @ Problem::Missing(_)) => {
                log::say(Level::Startup, format_args!("{path}: {problem}"));
            }
            Err(problem) => log::say(Level::Errors, format_args!("{path}: {problem}")),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Key::BlockDevice(number) => write!(f, "block device {}:{}", major(number), minor(number)),
            Key::ImageFile { inode, .. } => write!(f, "image file (inode {inode})"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing(errno) => {
                write!(f, "cannot be looked at now ({}); it counts as soon as it can", errno)
            }
            Problem::NoDisk(found) => {
                let what = match *found {
                    libc::S_IFDIR => "a directory",
                    libc::S_IFCHR => "a character device",
                    libc::S_IFIFO => "a FIFO",
                    libc::S_IFSOCK => "a socket",
                    _ => "something else",
                };
                write!(f, "is not a block device or image file (it is {what}); name one that is")
            }
            Problem::RealDisk => f.write_str(
                "is a physical disk, which needs no wrapper; to use it all the same, add the option force",
            ),
            Problem::NotTheUsers(errno) => {
                write!(
                    f,
                    "you may not open it yourself ({}), so it does not count in this set-user-ID program; \
                     have the administrator list it in /etc/vmware-bdwrapper.conf",
                    errno
                )
            }
        }
    }
}
