//! What stat(2) and similar calls report about a file.

use core::cmp::Ordering;
use core::ffi::{CStr, c_int};
use core::fmt;

use disk::Errno;

use super::call::{call, filled};

/// The number of a device, as stat(2) and similar calls report it (`st_dev`, `st_rdev`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceNumber(u64);

impl DeviceNumber {
    /// Returns the device with a major and a minor number.
    pub const fn new(major: u32, minor: u32) -> DeviceNumber {
        DeviceNumber(libc::makedev(major, minor))
    }

    /// Returns the device with a number of stat(2).
    #[inline]
    pub fn of(dev: u64) -> DeviceNumber {
        DeviceNumber(dev)
    }

    /// Returns the major number.
    pub fn major(self) -> u32 {
        libc::major(self.0)
    }

    /// Returns the minor number.
    pub fn minor(self) -> u32 {
        libc::minor(self.0)
    }

    /// Returns both in one word.
    pub fn word(self) -> u64 {
        self.0
    }
}

impl Ord for DeviceNumber {
    fn cmp(&self, other: &DeviceNumber) -> Ordering {
        (self.major(), self.minor()).cmp(&(other.major(), other.minor()))
    }
}

impl PartialOrd for DeviceNumber {
    fn partial_cmp(&self, other: &DeviceNumber) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major(), self.minor())
    }
}

/// A user's number.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct UserId(pub u32);

impl UserId {
    /// The superuser.
    pub const ROOT: UserId = UserId(0);
}

/// The status of a file.
#[derive(Clone, Copy, Default)]
pub struct Status {
    /// Its type (`S_IFMT`) and permissions.
    pub mode: u32,
    /// Its owner.
    pub user: UserId,
    /// The device that holds it.
    pub device: DeviceNumber,
    /// Its inode there.
    pub inode: u64,
    /// The number of the device that it is, if it is one.
    pub number: DeviceNumber,
    /// Its size in bytes.
    pub size: u64,
}

impl Status {
    /// Returns the type.
    #[inline]
    pub fn file_type(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Returns whether both are of one file, as far as that can be told while it is open.
    #[inline]
    pub fn is_same_file(&self, other: &Status) -> bool {
        self.inode == other.inode
            && self.device == other.device
            && self.number == other.number
            && self.file_type() == other.file_type()
    }
}

impl From<&libc::stat> for Status {
    #[inline]
    fn from(found: &libc::stat) -> Status {
        Status {
            mode: found.st_mode,
            user: UserId(found.st_uid),
            device: DeviceNumber::of(found.st_dev),
            inode: found.st_ino,
            number: DeviceNumber::of(found.st_rdev),
            size: u64::try_from(found.st_size).unwrap_or(0),
        }
    }
}

impl From<&libc::statx> for Status {
    fn from(found: &libc::statx) -> Status {
        Status {
            mode: found.stx_mode.into(),
            user: UserId(found.stx_uid),
            device: DeviceNumber::new(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            number: DeviceNumber::new(found.stx_rdev_major, found.stx_rdev_minor),
            size: found.stx_size,
        }
    }
}

/// fstat(2). If a sandbox refuses it, other calls that report the same are tried.
// Not inlined, as `fstat_with_birth`.
#[inline(never)]
pub fn fstat(fd: c_int) -> Result<Status, Errno> {
    // SAFETY: the kernel fills its `struct stat`, which on 64-bit systems is the C library's.
    let found =
        unsafe { filled(|stat: *mut libc::stat| call(libc::SYS_fstat, (fd, stat)), |stat| stat.into()) };
    match found {
        Err(Errno::EBADF) => Err(Errno::EBADF),
        Err(_) => other_status(fd, c"", libc::AT_EMPTY_PATH),
        found => found,
    }
}

/// stat(2).
pub fn stat(path: &CStr) -> Result<Status, Errno> {
    newfstatat(libc::AT_FDCWD, path, 0).or_else(|errno| match errno {
        Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::ENOSYS => other_status(libc::AT_FDCWD, path, 0),
        errno => Err(errno),
    })
}

/// Returns the status of a path, and the time at which its inode was made, as [`birth`].
pub fn stat_with_birth(path: &CStr) -> Result<(Status, u64), Errno> {
    with_birth(libc::AT_FDCWD, path, 0, || stat(path))
}

/// Returns the status of an open file, and the time at which its inode was made, as [`birth`].
// Not inlined: its stack is not needed any more when a command is carried out.
#[inline(never)]
pub fn fstat_with_birth(fd: c_int) -> Result<(Status, u64), Errno> {
    with_birth(fd, c"", libc::AT_EMPTY_PATH, || fstat(fd))
}

fn with_birth(
    directory: c_int,
    path: &CStr,
    flags: c_int,
    without: impl FnOnce() -> Result<Status, Errno>,
) -> Result<(Status, u64), Errno> {
    const WANTED: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    match statx(directory, path, flags, WANTED, |found| (found.into(), birth_of(found))) {
        // Linux before 4.11, or a sandbox.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL | Errno::EACCES) => {
            without().map(|status| (status, 0))
        }
        found => found,
    }
}

/// Returns the time at which the inode of an open file was made, in nanoseconds; 0 where that is
/// not known. An inode's number can be given to another file.
pub fn birth(fd: c_int) -> u64 {
    statx(fd, c"", libc::AT_EMPTY_PATH, libc::STATX_BTIME, birth_of).unwrap_or(0)
}

fn birth_of(found: &libc::statx) -> u64 {
    if found.stx_mask & libc::STATX_BTIME == 0 {
        return 0;
    }
    let seconds = found.stx_btime.tv_sec as u64;
    seconds.wrapping_mul(1_000_000_000).wrapping_add(found.stx_btime.tv_nsec.into())
}

/// Returns the least and the most bytes that a file or block device takes by
/// [`write_atomic`](super::write_atomic) (statx(2), Linux 6.11).
pub fn atomic_unit(fd: c_int) -> Option<(u32, u32)> {
    let unit = |found: &libc::statx| {
        // Where it cannot, all of them are 0; an older kernel leaves them so.
        let (least, most) = (found.stx_atomic_write_unit_min, found.stx_atomic_write_unit_max);
        (least > 0 && found.stx_atomic_write_segments_max > 0).then_some((least, most))
    };
    statx(fd, c"", libc::AT_EMPTY_PATH, libc::STATX_WRITE_ATOMIC, unit).ok()?
}

fn statx<T>(
    directory: c_int,
    path: &CStr,
    flags: c_int,
    wanted: u32,
    read: impl FnOnce(&libc::statx) -> T,
) -> Result<T, Errno> {
    // SAFETY: the path is a string, and the kernel fills its `struct statx`.
    unsafe { filled(|statx| call(libc::SYS_statx, (directory, path.as_ptr(), flags, wanted, statx)), read) }
}

#[cold]
fn other_status(directory: c_int, path: &CStr, flags: c_int) -> Result<Status, Errno> {
    statx(directory, path, flags, libc::STATX_BASIC_STATS, |found| found.into())
        .or_else(|_| newfstatat(directory, path, flags))
}

fn newfstatat(directory: c_int, path: &CStr, flags: c_int) -> Result<Status, Errno> {
    // SAFETY: the path is a string, and the kernel fills its `struct stat`, as in `fstat`.
    unsafe {
        filled(
            |stat: *mut libc::stat| call(libc::SYS_newfstatat, (directory, path.as_ptr(), stat, flags)),
            |stat| stat.into(),
        )
    }
}
