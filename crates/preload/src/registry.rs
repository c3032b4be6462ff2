//! The listed devices, and which of them a descriptor is open on.
//!
//! A device stays recognised until the process ends, even if the name leads elsewhere later: a
//! program that has it open must not suddenly reach a disk underneath.

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
use fast::OwnProcess;

use crate::storage::{List, OnceCell, copy_path};

/// The most devices that can be listed.
pub const MOST: usize = 256;

/// The source of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The environment of an ordinary program, or the configuration file for an entry that the
    /// environment names.
    Authority,
    /// The real user of a set-user-ID program, for what that user may open.
    User,
    /// The configuration file, for an entry that the environment does not name: it is used if a
    /// user's entry leads to the same device.
    FileAlone,
}

/// A listed device.
pub struct Listed {
    /// Its index among those of the environment; those of the configuration file alone count down
    /// from 255.
    index: u8,
    /// Its entry.
    pub entry: Entry<'static>,
    path: &'static CStr,
    source: Source,
    /// The device to which the name led at set-up.
    pub initial: OnceCell<Result<Key, Problem>>,
    settings: Settings,
    /// The nexus of all threads of the program.
    nexus: Nexus,
    exclusion: Exclusion,
}

/// In secure mode, the real user at set-up; `None` if that could not be determined.
static REAL_USER: OnceCell<Option<RealUser>> = OnceCell::new();

static LISTED: List<Listed, { 2 * MOST }> = List::new();

/// A slot of the hash table: a device or file to which a listed name led.
struct Slot {
    device: AtomicU64,
    /// The inode of a file; 0 for a block device.
    inode: AtomicU64,
    birth: AtomicU64,
    discard_limits: AtomicU64,
    /// The index of the entry plus 1; [`FREE`]; [`RESERVED`] while the other fields are written.
    place: AtomicU32,
}

const FREE: u32 = 0;
const RESERVED: u32 = u32::MAX;

/// A hash table from which nothing is removed. If it is full, other devices are recognised only as
/// long as a name leads to them.
static SLOTS: [Slot; 4096] = [const { Slot::new() }; 4096];

/// Remembers the real user, in secure mode.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn set_real_user() {
    // SAFETY: as the caller says.
    unsafe { REAL_USER.set(RealUser::current()) };
}

/// Adds a device; returns false if there are too many.
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
    let Some(path) = copy_path(entry.path) else { return false };
    let (initial, exclusion) = (OnceCell::new(), Exclusion::default());
    let (settings, nexus) = (Settings::default(), Nexus::default());
    // SAFETY: as the caller says.
    unsafe { LISTED.push(Listed { index, entry, path, source, initial, settings, nexus, exclusion }) }
}

/// Looks up where all names lead, and remembers it.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn look_up_all() {
    for (place, listed) in LISTED.as_slice().iter().enumerate() {
        let found = listed.look_up();
        // A user's entry is looked up only for a descriptor.
        if let (Ok(key), Source::Authority) = (&found, listed.source) {
            if Slot::find_key(*key).is_none() {
                let limits = match *key {
                    Key::BlockDevice(number) => discard_limits(number, DiscardLimits::read),
                    Key::Inode(_) => DiscardLimits::default(),
                };
                Slot::add(*key, place, limits);
            }
        }
        // SAFETY: as the caller says.
        unsafe { listed.initial.set(found) };
    }
}

/// Returns the discard limits of a block device, which do not change.
fn discard_limits(number: DeviceNumber, read: impl FnOnce(DeviceNumber) -> DiscardLimits) -> DiscardLimits {
    rights::remember_user_namespace();
    read(number)
}

/// Returns the name by which the device that a descriptor is open on is listed.
pub fn name(fd: c_int) -> Option<Printed<'static>> {
    look_up(fd, false).ok()?.map(|hit| hit.listed.entry.printed_path())
}

/// Returns whether a descriptor is open on a listed device or file.
pub fn is_listed(fd: c_int) -> bool {
    matches!(look_up(fd, false), Ok(Some(_)))
}

/// A listed device that a descriptor is open on.
pub struct Hit {
    listed: &'static Listed,
    status: Status,
    discard_limits: DiscardLimits,
    /// The index of its slot in the table of devices; `None` for a block device that a user's entry lists:
    /// that lists a node, and a guess has only the device's number.
    slot: Option<u32>,
}

impl Hit {
    /// Returns the device.
    #[inline]
    pub fn device(&self) -> Device<'static> {
        let Listed { entry, index, settings, nexus, .. } = self.listed;
        Device { entry, index: *index, settings, nexus }
    }

    /// Begins a call on the descriptor.
    #[inline]
    pub fn call(&self, process: OwnProcess, fd: c_int) -> Call<OwnProcess> {
        Call::new(process, fd, self.status, self.discard_limits, &self.listed.exclusion)
    }

    /// Returns what [`assumed`] takes: the index of the slot, and the size of a file.
    pub fn key(&self) -> Option<(u32, u64)> {
        self.slot.map(|slot| (slot, self.status.size))
    }
}

/// Returns the device of a slot as [`look_up`] would, with the status as far as
/// [`Call::assuming`] needs it; and when its inode was made.
#[inline]
pub fn assumed(slot: u32, size: u64) -> Option<(Hit, u64)> {
    let found = &SLOTS[slot as usize % SLOTS.len()];
    // First, for the other parts are there when this one is.
    let (place, discard_limits) = found.target();
    let listed = LISTED.as_slice().get(place)?;
    let [device, inode, birth] =
        [&found.device, &found.inode, &found.birth].map(|part| part.load(Ordering::Relaxed));
    let device = DeviceNumber::of(device);
    let status = match inode {
        0 => Status { mode: libc::S_IFBLK, number: device, ..Status::default() },
        inode => Status { mode: libc::S_IFREG, device, inode, size, ..Status::default() },
    };
    Some((Hit { listed, status, discard_limits, slot: Some(slot) }, birth))
}

/// Returns the listed device that a descriptor is open on. `is_file`: it probably is a file.
///
/// Errors: `EBADF`; others where it cannot be determined.
pub fn look_up(fd: c_int, is_file: bool) -> Result<Option<Hit>, Errno> {
    let all = LISTED.as_slice();
    if all.is_empty() {
        return Ok(None);
    }
    let (status, birth) = if is_file {
        sys::fstat_with_birth(fd).map(|(status, birth)| (status, Some(birth)))?
    } else {
        (sys::fstat(fd)?, None)
    };
    let found = match status.file_type() {
        libc::S_IFBLK => Slot::find(status.number, 0, || 0),
        libc::S_IFREG => Slot::find(status.device, status.inode, || birth.unwrap_or_else(|| sys::birth(fd))),
        _ => return Ok(None),
    };
    if let Some(found) = found {
        let (place, discard_limits) = SLOTS[found].target();
        let slot = Some(found as u32);
        return Ok(all.get(place).map(|listed| Hit { listed, status, discard_limits, slot }));
    }
    look_up_by_name(fd, status)
}

/// Returns the listed device that a descriptor with this status is open on, which is not in the
/// table as such.
#[cold]
#[inline(never)]
fn look_up_by_name(fd: c_int, status: Status) -> Result<Option<Hit>, Errno> {
    let all = LISTED.as_slice();
    let birth = || sys::birth(fd);
    let is_block_device = status.file_type() == libc::S_IFBLK;
    let hit = |(place, discard_limits): (usize, DiscardLimits)| {
        let listed = all.get(place)?;
        Some(Hit { listed, status, discard_limits, slot: None })
    };
    // A user's entry lists a node, not the device.
    if is_block_device && all.iter().any(|listed| listed.source == Source::User) {
        if let Some(found) = Slot::find(status.device, status.inode, birth) {
            return Ok(hit(SLOTS[found].target()));
        }
    }
    let Some((place, key)) = find_by_name(&status, birth)? else { return Ok(None) };
    // In a task, because /sys is opened and the program's descriptor table must not change.
    let limits = if is_block_device {
        let task = |number| {
            task::free_descriptors(-1);
            DiscardLimits::read(number)
        };
        let read = |number| task::run(|| task(number)).unwrap_or_default();
        discard_limits(status.number, read)
    } else {
        DiscardLimits::default()
    };
    Slot::add(key, place, limits);
    // Another thread may have found another entry; the first in the table is used from now on.
    Ok(hit(Slot::find_key(key).map_or((place, limits), |found| SLOTS[found].target())))
}

/// Returns the first entry whose name leads to a device or file now: it may have appeared, or lead
/// elsewhere since.
fn find_by_name(status: &Status, birth: impl Fn() -> u64) -> Result<Option<(usize, Key)>, Errno> {
    let all = LISTED.as_slice();
    let leads_here = |listed: &Listed| {
        // The check of the user's rights is slow, so first compare the file.
        if listed.source == Source::User {
            match sys::stat(listed.path) {
                Ok(found) if found.is_same_file(status) => {}
                Err(errno) if listed::is_inconclusive(errno) => return Err(errno),
                _ => return Ok(None),
            }
        }
        match listed.look_up() {
            Ok(key) => Ok(Some(key).filter(|key| key.is_of(status, &birth))),
            Err(Problem::Unknown(errno)) => Err(errno),
            Err(_) => Ok(None),
        }
    };
    let first_but = |source| {
        for (place, listed) in all.iter().enumerate().filter(|(_, listed)| listed.source != source) {
            if let Some(key) = leads_here(listed)? {
                return Ok(Some((place, key)));
            }
        }
        Ok(None)
    };
    let found = first_but(Source::FileAlone)?;
    match found {
        // A device in the configuration file has the file's options, whatever name the user gives
        // it.
        Some((place, _)) if all.get(place).is_some_and(|listed| listed.source == Source::User) => {
            Ok(first_but(Source::User)?.or(found))
        }
        found => Ok(found),
    }
}

impl Slot {
    const fn new() -> Slot {
        let [device, inode, birth, discard_limits] = [const { AtomicU64::new(0) }; 4];
        Slot { device, inode, birth, discard_limits, place: AtomicU32::new(0) }
    }

    /// Returns the slots where a key can be, in the order of the search.
    #[inline]
    fn probe(device: u64, inode: u64) -> impl Iterator<Item = usize> {
        // Fibonacci hashing: the upper bits depend on all of the key's.
        let mixed = (device ^ inode.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (mixed >> 52) as usize;
        (first..first + SLOTS.len()).map(|at| at % SLOTS.len())
    }

    /// Returns where a block device (inode 0) or an inode is in the table. When the inode was made is
    /// asked for only where the rest is the same.
    #[inline]
    fn find(device: DeviceNumber, inode: u64, birth: impl Fn() -> u64) -> Option<usize> {
        let device = device.word();
        for at in Slot::probe(device, inode) {
            let slot = &SLOTS[at];
            let place = slot.place.load(Ordering::Acquire);
            if place == FREE {
                break;
            }
            if slot.device.load(Ordering::Relaxed) != device
                || slot.inode.load(Ordering::Relaxed) != inode
                || place == RESERVED
            {
                continue;
            }
            // If the birth time is not known any more, it is not compared.
            let is_as_old = |now| now == 0 || now == slot.birth.load(Ordering::Relaxed);
            if inode == 0 || is_as_old(birth()) {
                return Some(at);
            }
        }
        None
    }

    /// Returns the place of the entry that has led here, and what is known of the device.
    fn target(&self) -> (usize, DiscardLimits) {
        let limits = DiscardLimits(self.discard_limits.load(Ordering::Relaxed));
        (self.place.load(Ordering::Acquire).wrapping_sub(1) as usize, limits)
    }

    fn find_key(key: Key) -> Option<usize> {
        let InodeKey { device, inode, birth } = inode_key(key);
        Slot::find(device, inode, || birth)
    }

    /// Adds a device, also while other threads do. Where the same is added twice, the first one is
    /// used.
    fn add(key: Key, place: usize, limits: DiscardLimits) {
        let InodeKey { device, inode, birth } = inode_key(key);
        let reserve = |slot: &&Slot| {
            slot.place.compare_exchange(FREE, RESERVED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if let Some(slot) = Slot::probe(device.word(), inode).map(|at| &SLOTS[at]).find(reserve) {
            slot.device.store(device.word(), Ordering::Relaxed);
            slot.inode.store(inode, Ordering::Relaxed);
            slot.birth.store(birth, Ordering::Relaxed);
            slot.discard_limits.store(limits.0, Ordering::Relaxed);
            slot.place.store((place as u32).wrapping_add(1), Ordering::Release);
        }
    }
}

/// Returns a key as the table holds it: no file has inode 0.
fn inode_key(key: Key) -> InodeKey {
    match key {
        Key::BlockDevice(device) => InodeKey { device, inode: 0, birth: 0 },
        Key::Inode(key) => key,
    }
}

impl Listed {
    fn look_up(&self) -> Result<Key, Problem> {
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
