//! The listed devices, and which of them a descriptor is open on.
//!
//! What is recognised stays so until the process ends, even where the name leads elsewhere later: a
//! program that has the device open must not suddenly reach a disk underneath.

use core::ffi::{CStr, c_int};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use disk::entry::{Entry, Printed};
use disk::{Device, Errno, Nexus, Settings};
use engine::call::Call;
use engine::discard::DiscardLimits;
use engine::exclusion::Exclusion;
use engine::listed::{self, InodeKey, Key, Problem};
use engine::sys::{self, DeviceNumber, RealUser, Status};
use engine::{rights, task};

use crate::process::OwnProcess;
use crate::storage::{List, OnceCell, keep_path};

/// The most devices that can be listed.
pub const MOST: usize = 256;

/// Who decided that a device is listed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The environment of an ordinary program, or the configuration file for an entry that the
    /// environment names.
    Authority,
    /// In a set-user-ID program the real user, for what that user may open.
    User,
    /// The configuration file, for an entry that the environment does not name: it is used where a
    /// user's entry leads to the same device.
    FileAlone,
}

/// A listed device.
pub struct Listed {
    /// Its place among those of the environment; of what the configuration file alone lists, counted
    /// from the end.
    index: u8,
    /// Its entry.
    pub entry: Entry<'static>,
    path: &'static CStr,
    source: Source,
    /// Where the name led when the library was set up.
    pub at_first: OnceCell<Result<Key, Problem>>,
    settings: Settings,
    /// One for all threads of the program.
    nexus: Nexus,
    exclusion: Exclusion,
}

/// In secure mode the real user when the library was set up; `None` where that could not be told.
static REAL_USER: OnceCell<Option<RealUser>> = OnceCell::new();

static LISTED: List<Listed, { 2 * MOST }> = List::new();

/// A device or file that a listed name led to.
struct Known {
    device: AtomicU64,
    /// The inode of a file; 0 for a block device.
    inode: AtomicU64,
    birth: AtomicU64,
    discard_limits: AtomicU64,
    /// The place of the entry in the list, from 1; [`FREE`], or [`TAKEN`] while the others are not written yet.
    place: AtomicU32,
}

const FREE: u32 = 0;
const TAKEN: u32 = u32::MAX;

/// A hash table, in which nothing is ever removed. Where names have led to so many devices, others are
/// known only as long as a name leads to them.
static KNOWN: [Known; 4096] = [const { Known::new() }; 4096];

/// In secure mode: remembers who the real user is.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn set_real_user() {
    // SAFETY: as the caller says.
    unsafe { REAL_USER.set(RealUser::current()) };
}

/// Adds a device; `false` where there are too many.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn add(entry: Entry<'static>, source: Source) -> bool {
    let is_from_file_alone = |source| source == Source::FileAlone;
    let alike = LISTED.as_slice().iter();
    let alike =
        alike.filter(|listed| is_from_file_alone(listed.source) == is_from_file_alone(source)).count();
    if alike >= MOST {
        return false;
    }
    let index = if is_from_file_alone(source) { !(alike as u8) } else { alike as u8 };
    let Some(path) = keep_path(entry.path) else { return false };
    let (at_first, exclusion) = (OnceCell::new(), Exclusion::default());
    let (settings, nexus) = (Settings::default(), Nexus::default());
    // SAFETY: as the caller says.
    unsafe { LISTED.push(Listed { index, entry, path, source, at_first, settings, nexus, exclusion }) }
}

/// Looks where the names lead now, and remembers it.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn settle() {
    for (place, listed) in LISTED.as_slice().iter().enumerate() {
        let found = listed.look_up();
        // What is the user's is only known of a descriptor.
        if let (Ok((key, status)), Source::Authority) = (&found, listed.source) {
            if Known::find_key(*key).is_none() {
                Known::add(*key, place, learn(status, DiscardLimits::learn));
            }
        }
        // SAFETY: as the caller says.
        unsafe { listed.at_first.set(found.map(|(key, _)| key)) };
    }
}

/// Returns what a block device tells once and for all; a file has nothing to be learned.
fn learn(status: &Status, ask: impl FnOnce(DeviceNumber) -> DiscardLimits) -> DiscardLimits {
    if status.kind() != libc::S_IFBLK {
        return DiscardLimits::default();
    }
    rights::remember_user_namespace();
    ask(status.number)
}

/// What a descriptor is open on.
pub enum Found {
    /// A listed device.
    Listed(Device<'static>, Call<OwnProcess>),
    /// Something else, or nothing.
    Other,
    /// It cannot be told.
    Unknown,
}

/// Returns the listed device that a descriptor is open on.
pub fn find(fd: c_int) -> Found {
    match look_up(fd) {
        Ok(Some(Hit { listed, status, discard_limits })) => {
            let Listed { entry, index, settings, nexus, .. } = listed;
            let device = Device { entry, index: *index, settings, nexus };
            let call = Call::new(OwnProcess::new(), fd, status, discard_limits, &listed.exclusion);
            Found::Listed(device, call)
        }
        Ok(None) | Err(Errno::EBADF) => Found::Other,
        Err(_) => Found::Unknown,
    }
}

/// Returns the name by which the device that a descriptor is open on is listed.
pub fn name(fd: c_int) -> Option<Printed<'static>> {
    look_up(fd).ok()?.map(|hit| hit.listed.entry.printed_path())
}

/// Returns whether a descriptor is open on a listed device or file.
pub fn is_listed(fd: c_int) -> bool {
    matches!(look_up(fd), Ok(Some(_)))
}

/// An entry, and what a descriptor is open on that it lists.
struct Hit {
    listed: &'static Listed,
    status: Status,
    discard_limits: DiscardLimits,
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
    let hit = |(place, discard_limits): (usize, DiscardLimits)| {
        let listed = all.get(place)?;
        Some(Hit { listed, status, discard_limits })
    };
    let birth = || sys::birth(fd);
    if let Some(known) = known(&status, birth) {
        return Ok(hit(known));
    }
    let Some((place, key)) = named(&status, birth)? else { return Ok(None) };
    // The program has its own descriptor table, which the look at /sys leaves alone.
    let limits = learn(&status, |number| task::run(|| DiscardLimits::learn(number)).unwrap_or_default());
    Known::add(key, place, limits);
    // Another thread may have found another entry; one of both holds from now on.
    Ok(hit(Known::find_key(key).unwrap_or((place, limits))))
}

/// Returns the entry whose name has led to a device or file.
fn known(status: &Status, birth: impl Fn() -> u64) -> Option<(usize, DiscardLimits)> {
    if status.kind() == libc::S_IFBLK {
        let known = Known::find(status.number, 0, || 0);
        // A user's entry lists a node, not the device.
        return known.or_else(|| {
            if !LISTED.as_slice().iter().any(|listed| listed.source == Source::User) {
                return None;
            }
            Known::find(status.device, status.inode, birth)
        });
    }
    Known::find(status.device, status.inode, birth)
}

/// Returns the first entry whose name leads to a device or file now: it may have appeared, or lead
/// elsewhere since.
fn named(status: &Status, birth: impl Fn() -> u64) -> Result<Option<(usize, Key)>, Errno> {
    let all = LISTED.as_slice();
    let leads_here = |listed: &Listed| {
        // What takes longer is done only where it could be this one.
        if listed.source == Source::User {
            match sys::stat(listed.path) {
                Ok(found) if found.is_same_file(status) => {}
                Err(errno) if listed::is_inconclusive(errno) => return Err(errno),
                _ => return Ok(None),
            }
        }
        match listed.look_up() {
            Ok((key, _)) => Ok(Some(key).filter(|key| key.is_of(status, &birth))),
            Err(Problem::Unknown(errno)) => Err(errno),
            Err(_) => Ok(None),
        }
    };
    let first = |wanted: &dyn Fn(&Listed) -> bool| {
        let mut found = all.iter().enumerate().filter(|(_, listed)| wanted(listed));
        found
            .find_map(|(place, listed)| leads_here(listed).map(|key| Some((place, key?))).transpose())
            .transpose()
    };
    let found = first(&|listed| listed.source != Source::FileAlone)?;
    match found {
        // The options of a device that the configuration file lists are the file's, whatever name the
        // user gives it.
        Some((place, _)) if all.get(place).is_some_and(|listed| listed.source == Source::User) => {
            Ok(first(&|rule| rule.source != Source::User)?.or(found))
        }
        found => Ok(found),
    }
}

impl Known {
    const fn new() -> Known {
        let [device, inode, birth, discard_limits] = [const { AtomicU64::new(0) }; 4];
        Known { device, inode, birth, discard_limits, place: AtomicU32::new(0) }
    }

    /// Returns the places where a key can be, the first one first.
    fn places(device: u64, inode: u64) -> impl Iterator<Item = &'static Known> {
        // Fibonacci hashing: the upper bits depend on all of the key's.
        let mixed = (device ^ inode.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (mixed >> 52) as usize;
        let (before, after) = KNOWN.split_at_checked(first).unwrap_or((&[], &KNOWN));
        after.iter().chain(before)
    }

    /// Returns the place of the entry that has led to a block device (inode 0) or an inode, and what is
    /// known of the device. When the inode was made is asked for only where the rest is the same.
    fn find(device: DeviceNumber, inode: u64, birth: impl Fn() -> u64) -> Option<(usize, DiscardLimits)> {
        let device = device.word();
        for known in Known::places(device, inode) {
            let place = match known.place.load(Ordering::Acquire) {
                FREE => break,
                TAKEN => continue,
                place => place.wrapping_sub(1) as usize,
            };
            let [known_device, known_inode, known_birth, limits] =
                [&known.device, &known.inode, &known.birth, &known.discard_limits]
                    .map(|part| part.load(Ordering::Relaxed));
            // Where it cannot be told any more when the inode was made, the rest decides.
            let is_as_old = || matches!(birth(), now if now == 0 || now == known_birth);
            if (known_device, known_inode) == (device, inode) && (inode == 0 || is_as_old()) {
                return Some((place, DiscardLimits(limits)));
            }
        }
        None
    }

    fn find_key(key: Key) -> Option<(usize, DiscardLimits)> {
        let InodeKey { device, inode, birth } = as_inode(key);
        Known::find(device, inode, || birth)
    }

    /// Adds a device, also while other threads do. Where the same is added twice, the first one is used.
    fn add(key: Key, place: usize, limits: DiscardLimits) {
        let InodeKey { device, inode, birth } = as_inode(key);
        let take = |known: &&Known| {
            known.place.compare_exchange(FREE, TAKEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if let Some(known) = Known::places(device.word(), inode).find(take) {
            known.device.store(device.word(), Ordering::Relaxed);
            known.inode.store(inode, Ordering::Relaxed);
            known.birth.store(birth, Ordering::Relaxed);
            known.discard_limits.store(limits.0, Ordering::Relaxed);
            known.place.store((place as u32).wrapping_add(1), Ordering::Release);
        }
    }
}

/// Returns a key as the table holds it: no file has inode 0.
fn as_inode(key: Key) -> InodeKey {
    match key {
        Key::BlockDevice(device) => InodeKey { device, inode: 0, birth: 0 },
        Key::Inode(key) => key,
    }
}

impl Listed {
    fn look_up(&self) -> Result<(Key, Status), Problem> {
        match self.source {
            Source::User => {
                let user = REAL_USER.get().copied().flatten();
                listed::look_up_for_user(user, self.path, &self.entry)
            }
            Source::Authority | Source::FileAlone => listed::look_up(self.path, &self.entry),
        }
    }
}

/// Returns the devices that the environment lists.
pub fn of_environment() -> impl Iterator<Item = &'static Listed> {
    LISTED.as_slice().iter().filter(|listed| listed.source != Source::FileAlone)
}
