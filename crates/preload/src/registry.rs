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

use engine::backing::Caller;
use engine::exclusion::Exclusion;
use engine::facts::Facts;
use engine::sys::{self, Name, Status};
use engine::{rights, task};

use crate::log::{self, Level};
use crate::storage::{List, OnceCell, keep_path};

/// The most devices that can be listed.
pub const MOST: usize = 256;

/// Whose device an entry lists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Whoever decides: the environment of an ordinary program, or the configuration file for an entry that the environment
    /// names.
    Authority,
    /// In a set-user-ID program the real user, for what he may open.
    User,
    /// The configuration file, for an entry that the environment does not name: it is used where a user's entry leads to the
    /// same device.
    FileAlone,
}

/// A listed device.
struct Listed {
    /// Its place among those of the environment; of what the configuration file alone lists, counted from the end.
    index: u8,
    entry: Entry<'static>,
    path: &'static CStr,
    by: By,
    /// Where the name led when the library was set up.
    at_first: OnceCell<Result<Key, Problem>>,
    state: State,
    exclusion: Exclusion,
}

/// In secure mode the real user's rights when the library was set up; `None` where they could not be told.
static REAL_USER: OnceCell<Option<[u64; 3]>> = OnceCell::new();

static LISTED: List<Listed, { 2 * MOST }> = List::new();

/// What a device or file is recognised by.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    /// The number of a block device, or the device that a file is on.
    device: u64,
    /// The inode of a file; 0 for a block device.
    inode: u64,
    /// When the inode was made; 0 for a block device, and where it is not known.
    birth: u64,
}

/// A device or file that a listed name led to.
struct Known {
    device: AtomicU64,
    inode: AtomicU64,
    birth: AtomicU64,
    facts: AtomicU64,
    /// The place of the entry in the list, from 1; [`FREE`], or [`TAKEN`] while the others are not written yet.
    place: AtomicU32,
}

const FREE: u32 = 0;
const TAKEN: u32 = u32::MAX;

/// A hash table, in which nothing is ever removed. Where names have led to so many devices, others are known only as long as a name
/// leads to them.
static KNOWN: [Known; 4096] = [const { Known::new() }; 4096];

/// In secure mode: remembers who the real user is.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn set_real_user() {
    // SAFETY: as the caller says.
    unsafe { REAL_USER.set(sys::real_rights()) };
}

/// Adds a device; `false` where there are too many.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn add(entry: Entry<'static>, by: By) -> bool {
    let alike =
        LISTED.as_slice().iter().filter(|listed| (listed.by == By::FileAlone) == (by == By::FileAlone));
    let alike = alike.count();
    if alike >= MOST {
        return false;
    }
    let index = if by == By::FileAlone { !(alike as u8) } else { alike as u8 };
    let Some(path) = keep_path(entry.path) else { return false };
    let (at_first, state, exclusion) = (OnceCell::new(), State::new(), Exclusion::new());
    // SAFETY: as the caller says.
    unsafe { LISTED.push(Listed { index, entry, path, by, at_first, state, exclusion }) }
}

/// Looks where the names lead now, and remembers it.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn settle() {
    for (place, listed) in LISTED.as_slice().iter().enumerate() {
        let found = listed.leads_to();
        // What is the user's is only known of a descriptor.
        if let (Ok((key, status)), By::Authority) = (&found, listed.by) {
            if Known::find(key.device, key.inode, || key.birth).is_none() {
                Known::add(*key, place, Facts::of(status, Facts::learn));
            }
        }
        // SAFETY: as the caller says.
        unsafe { listed.at_first.set(found.map(|(key, _)| key)) };
    }
}

/// What a descriptor is open on.
pub enum Found {
    /// A listed device.
    Listed(Device<'static>, Caller),
    /// Something else, or nothing.
    Other,
    /// It cannot be told.
    Unknown,
}

/// The listed device that a descriptor is open on.
pub fn find(fd: c_int) -> Found {
    match look_up(fd) {
        Ok(Some(Hit { listed, status, facts })) => {
            let medium = if status.kind() == libc::S_IFBLK { Medium::BlockDevice } else { Medium::ImageFile };
            let device = Device { entry: &listed.entry, index: listed.index, state: &listed.state };
            Found::Listed(device, Caller::new(fd, medium, status, facts, &listed.exclusion))
        }
        Ok(None) | Err(Errno::EBADF) => Found::Other,
        Err(_) => Found::Unknown,
    }
}

/// The name by which the device that a descriptor is open on is listed.
pub fn name(fd: c_int) -> Option<Printed<'static>> {
    look_up(fd).ok()?.map(|hit| hit.listed.entry.printed_path())
}

/// Whether a descriptor is open on a listed device or file.
pub fn is_listed(fd: c_int) -> bool {
    matches!(look_up(fd), Ok(Some(_)))
}

/// An entry, and what a descriptor is open on that it lists.
struct Hit {
    listed: &'static Listed,
    status: Status,
    facts: Facts,
}

fn look_up(fd: c_int) -> Result<Option<Hit>, Errno> {
    let all = LISTED.as_slice();
    if all.is_empty() {
        return Ok(None);
    }
    let status = sys::fstat(fd)?;
    if !matches!(status.kind(), libc::S_IFBLK | libc::S_IFREG) {
        return Ok(None);
    }
    let hit = |(place, facts): (usize, Facts)| {
        let listed = all.get(place)?;
        Some(Hit { listed, status, facts })
    };
    let birth = || sys::birth(fd);
    if let Some(known) = known(&status, birth) {
        return Ok(hit(known));
    }
    let Some((place, key)) = named(&status, birth)? else { return Ok(None) };
    // The program has its own descriptor table, which the look at /sys leaves alone.
    let facts = Facts::of(&status, |number| task::run(|| Facts::learn(number)).unwrap_or_default());
    Known::add(key, place, facts);
    // Another thread may have found another entry; one of both holds from now on.
    Ok(hit(Known::find(key.device, key.inode, || key.birth).unwrap_or((place, facts))))
}

/// The entry whose name has led to a device or file.
fn known(status: &Status, birth: impl Fn() -> u64) -> Option<(usize, Facts)> {
    if status.kind() == libc::S_IFBLK {
        let known = Known::find(status.device_number(), 0, || 0);
        // A user's entry lists a node, not the device.
        return known.or_else(|| {
            if !LISTED.as_slice().iter().any(|listed| listed.by == By::User) {
                return None;
            }
            Known::find(status.device, status.inode, birth)
        });
    }
    Known::find(status.device, status.inode, birth)
}

/// The first entry whose name leads to a device or file now: it may have appeared, or lead elsewhere since.
fn named(status: &Status, birth: impl Fn() -> u64) -> Result<Option<(usize, Key)>, Errno> {
    let all = LISTED.as_slice();
    let leads_to = |listed: &Listed| {
        // What takes longer is done only where it could be this one.
        if listed.by == By::User {
            match sys::stat(listed.path) {
                Ok(found) if found.is_same_file(status) => {}
                Err(errno) if is_unclear(errno) => return Err(errno),
                _ => return Ok(None),
            }
        }
        let key = match listed.leads_to() {
            Ok((key, _)) => key,
            Err(Problem::Unknown(errno)) => return Err(errno),
            Err(_) => return Ok(None),
        };
        let is_this = if key.inode == 0 {
            status.kind() == libc::S_IFBLK && key.device == status.device_number()
        } else {
            (key.device, key.inode) == (status.device, status.inode) && key.birth == birth()
        };
        Ok(is_this.then_some(key))
    };
    let first = |wanted: &dyn Fn(&Listed) -> bool| {
        let mut found = all.iter().enumerate().filter(|(_, listed)| wanted(listed));
        found
            .find_map(|(place, listed)| leads_to(listed).map(|key| Some((place, key?))).transpose())
            .transpose()
    };
    let found = first(&|listed| listed.by != By::FileAlone)?;
    match found {
        // What the configuration file lists is what the file says, whatever name the user gives it.
        Some((place, _)) if all.get(place).is_some_and(|listed| listed.by == By::User) => {
            Ok(first(&|rule| rule.by != By::User)?.or(found))
        }
        found => Ok(found),
    }
}

impl Known {
    const fn new() -> Known {
        let [device, inode, birth, facts] = [const { AtomicU64::new(0) }; 4];
        Known { device, inode, birth, facts, place: AtomicU32::new(0) }
    }

    /// The places where a key can be, the first one first.
    fn places(device: u64, inode: u64) -> impl Iterator<Item = &'static Known> {
        // Fibonacci hashing: the upper bits depend on all of the key's.
        let mixed = (device ^ inode.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (mixed >> 52) as usize;
        let (before, after) = KNOWN.split_at_checked(first).unwrap_or((&[], &KNOWN));
        after.iter().chain(before)
    }

    /// The place of the entry that has led there, and what is known of the device. When the inode was made is asked for only where the
    /// rest is the same.
    fn find(device: u64, inode: u64, birth: impl Fn() -> u64) -> Option<(usize, Facts)> {
        for known in Known::places(device, inode) {
            let place = match known.place.load(Ordering::Acquire) {
                FREE => break,
                TAKEN => continue,
                place => place.wrapping_sub(1) as usize,
            };
            let [known_device, known_inode, known_birth, facts] =
                [&known.device, &known.inode, &known.birth, &known.facts]
                    .map(|part| part.load(Ordering::Relaxed));
            // Where it cannot be told any more when the inode was made, the rest decides.
            let is_as_old = || matches!(birth(), now if now == 0 || now == known_birth);
            if (known_device, known_inode) == (device, inode) && (inode == 0 || is_as_old()) {
                return Some((place, Facts(facts)));
            }
        }
        None
    }

    /// Adds one, also while others do. Where the same is added twice, the first one counts.
    fn add(key: Key, place: usize, facts: Facts) {
        let take = |known: &&Known| {
            known.place.compare_exchange(FREE, TAKEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if let Some(known) = Known::places(key.device, key.inode).find(take) {
            known.device.store(key.device, Ordering::Relaxed);
            known.inode.store(key.inode, Ordering::Relaxed);
            known.birth.store(key.birth, Ordering::Relaxed);
            known.facts.store(facts.0, Ordering::Relaxed);
            known.place.store((place as u32).wrapping_add(1), Ordering::Release);
        }
    }
}

/// Why a listed name does not lead to a disk.
enum Problem {
    /// It cannot be looked at.
    Missing(Errno),
    /// It cannot be told whether the real user may open it.
    Unknown(Errno),
    /// It is neither a block device nor a file.
    NoDisk(u32),
    /// It is a physical disk.
    RealDisk,
    /// The real user may not open it.
    NotTheUsers(Errno),
}

impl Listed {
    fn leads_to(&self) -> Result<(Key, Status), Problem> {
        let (status, birth) = if self.by == By::User {
            real_user_can_open(self.path, !self.entry.read_only).map_err(|errno| match errno {
                Errno::ENOENT => Problem::Missing(errno),
                Errno::EAGAIN | Errno::ENFILE | Errno::ENOMEM => Problem::Unknown(errno),
                _ => Problem::NotTheUsers(errno),
            })?
        } else {
            sys::stat_with_birth(self.path).map_err(|errno| {
                if is_unclear(errno) { Problem::Unknown(errno) } else { Problem::Missing(errno) }
            })?
        };
        let key = match status.kind() {
            // The user may open this node of the device, which says nothing of others.
            libc::S_IFBLK if self.by != By::User => {
                Key { device: status.device_number(), inode: 0, birth: 0 }
            }
            libc::S_IFBLK | libc::S_IFREG => Key { device: status.device, inode: status.inode, birth },
            kind => return Err(Problem::NoDisk(kind)),
        };
        if status.kind() == libc::S_IFBLK && !self.entry.force && is_real_disk(status.number) {
            return Err(Problem::RealDisk);
        }
        Ok((key, status))
    }
}

/// As [`rights::real_user_can_open`], with the rights when the library was set up.
fn real_user_can_open(path: &CStr, writing: bool) -> Result<(Status, u64), Errno> {
    let at_start = REAL_USER.get().copied().flatten().ok_or(Errno::EPERM)?;
    rights::real_user_can_open(at_start, path, writing)
}

/// Whether an error says nothing of where a name leads: there was no memory, or a sandbox refused the call.
fn is_unclear(errno: Errno) -> bool {
    matches!(errno, Errno::EPERM | Errno::ENOSYS | Errno::ENOMEM | Errno::ENFILE)
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

/// Says at start-up what the entries are.
pub fn report() {
    for listed in LISTED.as_slice().iter().filter(|listed| listed.by != By::FileAlone) {
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
            Some(Err(problem @ (Problem::Missing(_) | Problem::Unknown(_)))) => {
                log::say(Level::Startup, format_args!("{path}: {problem}"));
            }
            Some(Err(problem)) => log::say(Level::Errors, format_args!("{path}: {problem}")),
            None => {}
        }
    }
}

/// The first entry whose name led to a device or file.
fn first(key: Key) -> Option<&'static Listed> {
    let listed = |listed: &&Listed| listed.by != By::FileAlone;
    LISTED
        .as_slice()
        .iter()
        .filter(listed)
        .find(|listed| matches!(listed.at_first.get(), Some(Ok(found)) if *found == key))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inode {
            0 => write!(f, "block device {}:{}", self.device >> 32, self.device & 0xffff_ffff),
            _ => f.write_str("image file"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing(errno) | Problem::Unknown(errno) => {
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
