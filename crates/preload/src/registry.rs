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

use crate::process::OwnProcess;
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

/// The file that a descriptor is open on.
pub enum OpenFile {
    /// A listed device.
    Listed(Device<'static>, Call<OwnProcess>),
    /// Another file, or none.
    Other,
    /// It cannot be determined.
    Unknown,
}

/// Returns the listed device that a descriptor is open on.
pub fn find(fd: c_int) -> OpenFile {
    match look_up(fd) {
        Ok(Some(Hit { listed, status, discard_limits })) => {
            let Listed { entry, index, settings, nexus, .. } = listed;
            let device = Device { entry, index: *index, settings, nexus };
            let call = Call::new(OwnProcess::new(), fd, status, discard_limits, &listed.exclusion);
            OpenFile::Listed(device, call)
        }
        Ok(None) | Err(Errno::EBADF) => OpenFile::Other,
        Err(_) => OpenFile::Unknown,
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

/// A listed device that a descriptor is open on.
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
    if !matches!(status.file_type(), libc::S_IFBLK | libc::S_IFREG) {
        return Ok(None);
    }
    let hit = |(place, discard_limits): (usize, DiscardLimits)| {
        let listed = all.get(place)?;
        Some(Hit { listed, status, discard_limits })
    };
    let birth = || sys::birth(fd);
    if let Some(slot) = find_slot(&status, birth) {
        return Ok(hit(slot));
    }
    let Some((place, key)) = find_by_name(&status, birth)? else { return Ok(None) };
    // In a task, because /sys is opened and the program's descriptor table must not change.
    let limits = match status.file_type() {
        libc::S_IFBLK => {
            let task = |number| {
                task::free_descriptors(-1);
                DiscardLimits::read(number)
            };
            let read = |number| task::run(|| task(number)).unwrap_or_default();
            discard_limits(status.number, read)
        }
        _ => DiscardLimits::default(),
    };
    Slot::add(key, place, limits);
    // Another thread may have found another entry; the first in the table is used from now on.
    Ok(hit(Slot::find_key(key).unwrap_or((place, limits))))
}

/// Returns the entry whose name has led to a device or file.
fn find_slot(status: &Status, birth: impl Fn() -> u64) -> Option<(usize, DiscardLimits)> {
    if status.file_type() == libc::S_IFBLK {
        let slot = Slot::find(status.number, 0, || 0);
        // A user's entry lists a node, not the device.
        return slot.or_else(|| {
            if !LISTED.as_slice().iter().any(|listed| listed.source == Source::User) {
                return None;
            }
            Slot::find(status.device, status.inode, birth)
        });
    }
    Slot::find(status.device, status.inode, birth)
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
    fn probe(device: u64, inode: u64) -> impl Iterator<Item = &'static Slot> {
        // Fibonacci hashing: the upper bits depend on all of the key's.
        let mixed = (device ^ inode.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (mixed >> 52) as usize;
        (first..first + SLOTS.len()).map(|at| &SLOTS[at % SLOTS.len()])
    }

    /// Returns the place of the entry that has led to a block device (inode 0) or an inode, and
    /// what is known of the device. When the inode was made is asked for only where the rest is the
    /// same.
    fn find(device: DeviceNumber, inode: u64, birth: impl Fn() -> u64) -> Option<(usize, DiscardLimits)> {
        let device = device.word();
        for slot in Slot::probe(device, inode) {
            let place = match slot.place.load(Ordering::Acquire) {
                FREE => break,
                RESERVED => continue,
                place => place.wrapping_sub(1) as usize,
            };
            if slot.device.load(Ordering::Relaxed) != device || slot.inode.load(Ordering::Relaxed) != inode {
                continue;
            }
            // If the birth time is not known any more, it is not compared.
            let is_as_old = |now| now == 0 || now == slot.birth.load(Ordering::Relaxed);
            if inode == 0 || is_as_old(birth()) {
                return Some((place, DiscardLimits(slot.discard_limits.load(Ordering::Relaxed))));
            }
        }
        None
    }

    fn find_key(key: Key) -> Option<(usize, DiscardLimits)> {
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
        if let Some(slot) = Slot::probe(device.word(), inode).find(reserve) {
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
