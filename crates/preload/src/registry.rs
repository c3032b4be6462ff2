//! The listed devices, and which of them a descriptor is open on.
//!
//! A block device is recognised by its number, an image file by its inode. What is recognised stays so until the
//! process ends, even where the name leads elsewhere later: a program that has the device open must not suddenly
//! reach a disk underneath.

use core::ffi::{CStr, c_int};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use disk::entry::{Entry, Printed};
use disk::real::{BLOCK_EXT_MAJOR, is_disk_link, is_disk_number};
use disk::{Device, Errno, Medium, State};

use crate::host::Caller;
use crate::log::{self, Level};
use crate::storage::{List, OnceCell, keep_path};
use crate::sys::{self, Name, Status};

/// The most devices that can be listed.
pub const MOST: usize = 256;

/// A listed device.
struct Listed {
    entry: Entry<'static>,
    path: &'static CStr,
    /// In a set-user-ID program: it counts only where the real user may open it.
    for_user: bool,
    /// Where the name led when the library was set up.
    at_first: OnceCell<Result<Key, Problem>>,
    state: State,
}

static LISTED: List<Listed, MOST> = List::new();

/// The real user when the library was set up. Where a program changes that, nothing new counts as the user's.
static REAL_USER: AtomicU32 = AtomicU32::new(u32::MAX);

/// What a device or file is recognised by.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    /// The number of a block device, or the device that a file is on.
    device: u64,
    /// The inode of a file; 0 for a block device.
    inode: u64,
    /// When the inode was made.
    birth: u64,
}

/// A device or file that a listed name led to.
struct Known {
    device: AtomicU64,
    inode: AtomicU64,
    birth: AtomicU64,
    /// The place of the entry in the list, from 1; [`FREE`], or [`TAKEN`] while the others are not written yet.
    place: AtomicU32,
}

const FREE: u32 = 0;
const TAKEN: u32 = u32::MAX;

/// A hash table, in which nothing is ever removed. Where names have led to so many devices, others are known only as long as a name
/// leads to them.
static KNOWN: [Known; 4096] = [const { Known::new() }; 4096];

/// Adds a device; `false` where there are too many.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn add(entry: Entry<'static>, for_user: bool) -> bool {
    let Some(path) = keep_path(entry.path) else { return false };
    // SAFETY: as the caller says.
    unsafe { LISTED.push(Listed { entry, path, for_user, at_first: OnceCell::new(), state: State::new() }) }
}

/// Looks where the names lead now, and remembers it.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn settle() {
    if LISTED.as_slice().iter().any(|listed| listed.for_user) {
        REAL_USER.store(sys::real_user(), Ordering::Relaxed);
    }
    for (index, listed) in (0..).zip(LISTED.as_slice()) {
        let found = listed.leads_to();
        // What is the user's is only known of a descriptor.
        if let Ok(key) = found {
            if !listed.for_user && Known::find(key).is_none() {
                Known::add(key, index);
            }
        }
        // SAFETY: as the caller says.
        unsafe { listed.at_first.set(found) };
    }
}

/// The listed device that a descriptor is open on; `None` also where the descriptor cannot carry requests.
pub fn find(fd: c_int) -> Option<(Device<'static>, Caller)> {
    let (listed, index, medium) = look_up(fd)?;
    let caller = Caller::new(fd, medium);
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
    let status = sys::fstat(fd).ok()?;
    let medium = match status.kind() {
        libc::S_IFBLK => Medium::BlockDevice,
        libc::S_IFREG => Medium::ImageFile,
        _ => return None,
    };
    if let Some(index) = known(&status) {
        return Some((LISTED.as_slice().get(usize::from(index))?, index, medium));
    }
    let (index, listed, key) = named(&status)?;
    // The name could have led elsewhere when the user's rights were looked at; the descriptor cannot.
    if listed.for_user && !is_users(fd, &listed.entry) {
        return None;
    }
    Known::add(key, index);
    // Another thread may have found another entry; one of both holds from now on.
    let index = Known::find(key).unwrap_or(index);
    Some((LISTED.as_slice().get(usize::from(index))?, index, medium))
}

/// Whether this is a listed device or file.
pub fn is_listed(status: &Status) -> bool {
    known(status).is_some() || named(status).is_some()
}

/// The entry whose name has led to a device or file.
fn known(status: &Status) -> Option<u8> {
    Known::find(Key::of_file(status)).or_else(|| Known::find(Key::of_device(status)?))
}

/// The first entry whose name leads to a device or file now: it may have appeared, or lead elsewhere since.
fn named(status: &Status) -> Option<(u8, &'static Listed, Key)> {
    let keyed = LISTED.as_slice().iter().filter_map(|listed| Some((listed, listed.key(status)?)));
    let mut places = (0..).zip(keyed);
    let (index, (listed, key)) =
        places.find(|(_, (listed, key))| listed.leads_to().is_ok_and(|found| found == *key))?;
    Some((index, listed, key))
}

impl Key {
    fn of_file(status: &Status) -> Key {
        Key { device: status.device, inode: status.inode, birth: status.birth }
    }

    fn of_device(status: &Status) -> Option<Key> {
        let (major, minor) = status.number;
        let device = u64::from(major) << 32 | u64::from(minor);
        (status.kind() == libc::S_IFBLK).then_some(Key { device, inode: 0, birth: 0 })
    }
}

impl Known {
    const fn new() -> Known {
        let [device, inode, birth] = [const { AtomicU64::new(0) }; 3];
        Known { device, inode, birth, place: AtomicU32::new(0) }
    }

    /// The places where a key can be, the first one first.
    fn places(key: Key) -> impl Iterator<Item = &'static Known> {
        // Fibonacci hashing: the upper bits depend on all of the key's.
        let mixed = (key.device ^ key.inode.rotate_left(32) ^ key.birth).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (mixed >> 52) as usize;
        let (before, after) = KNOWN.split_at_checked(first).unwrap_or((&[], &KNOWN));
        after.iter().chain(before)
    }

    fn find(key: Key) -> Option<u8> {
        for known in Known::places(key) {
            match known.place.load(Ordering::Acquire) {
                FREE => break,
                TAKEN => {}
                place if known.key() == key => return u8::try_from(place.wrapping_sub(1)).ok(),
                _ => {}
            }
        }
        None
    }

    fn key(&self) -> Key {
        let [device, inode, birth] =
            [&self.device, &self.inode, &self.birth].map(|part| part.load(Ordering::Relaxed));
        Key { device, inode, birth }
    }

    /// Adds one, also while others do. Where the same is added twice, the first one counts.
    fn add(key: Key, index: u8) {
        let take = |known: &&Known| {
            known.place.compare_exchange(FREE, TAKEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if let Some(known) = Known::places(key).find(take) {
            known.device.store(key.device, Ordering::Relaxed);
            known.inode.store(key.inode, Ordering::Relaxed);
            known.birth.store(key.birth, Ordering::Relaxed);
            known.place.store(u32::from(index).wrapping_add(1), Ordering::Release);
        }
    }
}

/// Why a listed name does not lead to a disk.
enum Problem {
    /// It cannot be looked at.
    Missing(Errno),
    /// It is neither a block device nor a file.
    NoDisk(u32),
    /// It is a physical disk.
    RealDisk,
    /// The real user may not open it.
    NotTheUsers(Errno),
}

impl Listed {
    /// What a device or file would be recognised by, if it were this one's.
    fn key(&self, status: &Status) -> Option<Key> {
        match status.kind() {
            // The user may open this node of the device, which says nothing of others.
            libc::S_IFBLK if !self.for_user => Key::of_device(status),
            libc::S_IFBLK | libc::S_IFREG => Some(Key::of_file(status)),
            _ => None,
        }
    }

    fn leads_to(&self) -> Result<Key, Problem> {
        if self.for_user {
            if sys::real_user() != REAL_USER.load(Ordering::Relaxed) {
                return Err(Problem::NotTheUsers(Errno::EPERM));
            }
            sys::access(self.path, access(&self.entry)).map_err(|errno| match errno {
                Errno::ENOENT => Problem::Missing(errno),
                _ => Problem::NotTheUsers(errno),
            })?;
        }
        let status = sys::stat(self.path).map_err(Problem::Missing)?;
        let key = self.key(&status).ok_or(Problem::NoDisk(status.kind()))?;
        if status.kind() == libc::S_IFBLK && !self.entry.force && is_real_disk(status.number) {
            return Err(Problem::RealDisk);
        }
        Ok(key)
    }
}

fn is_real_disk((major, minor): (u32, u32)) -> bool {
    if major != BLOCK_EXT_MAJOR {
        return is_disk_number(major, minor);
    }
    let mut name = Name::new();
    let mut link = [0; 512];
    let _ = write!(name, "/sys/dev/block/{major}:{minor}");
    let link = name.as_c_str().and_then(|name| sys::readlink(name, &mut link));
    link.is_ok_and(is_disk_link)
}

/// What the real user must be able to do with a device.
fn access(entry: &Entry<'_>) -> c_int {
    if entry.read_only { libc::R_OK } else { libc::R_OK | libc::W_OK }
}

fn is_users(fd: c_int, entry: &Entry<'_>) -> bool {
    let by = |process: &str| {
        let mut name = Name::new();
        let _ = write!(name, "/proc/{process}/fd/{fd}");
        sys::access(name.as_c_str()?, access(entry))
    };
    match by("thread-self") {
        // Linux before 3.17.
        Err(Errno::ENOENT) => by("self").is_ok(),
        answer => answer.is_ok(),
    }
}

/// Says at start-up what the entries are.
pub fn report() {
    for listed in LISTED.as_slice() {
        let entry = &listed.entry;
        let path = entry.printed_path();
        let kind = entry.kind.name();
        match listed.at_first.get() {
            Some(Ok(key)) => match first(*key) {
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
            Some(Err(problem @ Problem::Missing(_))) => {
                log::say(Level::Startup, format_args!("{path}: {problem}"));
            }
            Some(Err(problem)) => log::say(Level::Errors, format_args!("{path}: {problem}")),
            None => {}
        }
    }
}

/// The first entry whose name led to a device or file.
fn first(key: Key) -> Option<&'static Listed> {
    LISTED.as_slice().iter().find(|listed| matches!(listed.at_first.get(), Some(Ok(found)) if *found == key))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inode {
            0 => write!(f, "block device {}:{}", self.device >> 32, self.device & 0xffff_ffff),
            inode => write!(f, "file of inode {inode}"),
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
