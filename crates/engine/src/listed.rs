//! Recognition of listed devices: where a listed name leads, and whether that can be a disk. A
//! block device is recognised by its number, an image file by its inode.

use core::ffi::CStr;
use core::fmt;

use disk::entry::Entry;
use disk::physical_disk::{BLOCK_EXT_MAJOR, is_physical_disk_link, is_physical_disk_number};
use disk::{Errno, names};

use crate::rights;
use crate::sys::{self, DeviceNumber, PathBuffer, RealUser, Status};

/// The key of a device or file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A block device, through whichever node it is reached.
    BlockDevice(DeviceNumber),
    /// A file, or one node of a block device.
    Inode(InodeKey),
}

/// An inode, distinguished from others that had its number before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InodeKey {
    /// The device that holds it.
    pub device: DeviceNumber,
    /// Its number there.
    pub inode: u64,
    /// Its birth time, as [`sys::birth`]; 0 if unknown.
    pub birth: u64,
}

impl Key {
    /// Returns whether this is the key of a file with this status and [`sys::birth`].
    pub fn is_of(&self, status: &Status, birth: impl Fn() -> u64) -> bool {
        match *self {
            Key::BlockDevice(number) => status.file_type() == libc::S_IFBLK && number == status.number,
            Key::Inode(key) => {
                (key.device, key.inode) == (status.device, status.inode) && key.birth == birth()
            }
        }
    }
}

/// Why a listed name does not lead to a disk.
pub enum Problem {
    /// It does not exist, or cannot be looked up.
    Missing(Errno),
    /// It cannot be determined where it leads, or whether the user may open it.
    Unknown(Errno),
    /// It is neither a block device nor a file; its type (`S_IFMT`).
    NotADisk(u32),
    /// It is a physical disk.
    PhysicalDisk,
    /// The user may not open it.
    NotPermitted(Errno),
}

/// Returns whether an error does not tell where a name leads: no memory, or a sandbox that refuses
/// the call.
pub fn is_inconclusive(errno: Errno) -> bool {
    matches!(errno, Errno::EPERM | Errno::ENOSYS | Errno::ENOMEM | Errno::ENFILE)
}

/// Returns where a listed name leads.
pub fn look_up(path: &CStr, entry: &Entry<'_>) -> Result<Key, Problem> {
    let (status, birth) = sys::stat_with_birth(path).map_err(|errno| {
        if is_inconclusive(errno) { Problem::Unknown(errno) } else { Problem::Missing(errno) }
    })?;
    check_disk(&status, entry)?;
    Ok(match status.file_type() {
        libc::S_IFBLK => Key::BlockDevice(status.number),
        _ => inode_key(&status, birth),
    })
}

/// Returns where a name leads that the real user of a set-user-ID program lists; `None`: that user
/// is not known. The key is this node of a block device, since the user may be unable to open
/// others.
pub fn look_up_for_user(user: Option<RealUser>, path: &CStr, entry: &Entry<'_>) -> Result<Key, Problem> {
    let user = user.ok_or(Problem::NotPermitted(Errno::EPERM))?;
    let (status, birth) =
        rights::real_user_can_open(user, path, !entry.read_only).map_err(|errno| match errno {
            Errno::ENOENT => Problem::Missing(errno),
            Errno::EAGAIN | Errno::ENFILE | Errno::ENOMEM => Problem::Unknown(errno),
            _ => Problem::NotPermitted(errno),
        })?;
    node_key(&status, birth, entry)
}

/// Returns the key of one file, or of one node of a block device, that has been looked at.
pub fn node_key(status: &Status, birth: u64, entry: &Entry<'_>) -> Result<Key, Problem> {
    check_disk(status, entry)?;
    Ok(inode_key(status, birth))
}

fn inode_key(status: &Status, birth: u64) -> Key {
    Key::Inode(InodeKey { device: status.device, inode: status.inode, birth })
}

/// Checks that a file can be the backing device of an entry.
fn check_disk(status: &Status, entry: &Entry<'_>) -> Result<(), Problem> {
    match status.file_type() {
        libc::S_IFBLK if !entry.force && is_physical_disk(status.number) => Err(Problem::PhysicalDisk),
        libc::S_IFBLK | libc::S_IFREG => Ok(()),
        kind => Err(Problem::NotADisk(kind)),
    }
}

/// Returns whether a device is a physical SCSI, IDE or NVMe disk.
pub fn is_physical_disk(number: DeviceNumber) -> bool {
    if number.major() != BLOCK_EXT_MAJOR {
        return is_physical_disk_number(number.major(), number.minor());
    }
    let mut link = [0; 512];
    let link = PathBuffer::format(format_args!("/sys/dev/block/{number}"))
        .and_then(|path| sys::readlink(path.as_c_str(), &mut link));
    link.is_ok_and(is_physical_disk_link)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::BlockDevice(number) => write!(f, "block device {number}"),
            Key::Inode(_) => f.write_str("image file"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing(errno) | Problem::Unknown(errno) => {
                write!(f, "cannot be examined now ({}); it is picked up as soon as that works", errno)
            }
            Problem::NotADisk(kind) => {
                let what = match *kind {
                    libc::S_IFDIR => "a directory",
                    libc::S_IFCHR => "a character device",
                    libc::S_IFIFO => "a FIFO",
                    libc::S_IFSOCK => "a socket",
                    _ => "something else",
                };
                write!(f, "is not a block device or image file (it is {what}); name one that is")
            }
            Problem::PhysicalDisk => f.write_str(
                "is a physical disk, which needs no wrapper; to use it all the same, add the option force",
            ),
            Problem::NotPermitted(errno) => {
                write!(
                    f,
                    "you may not open it yourself ({errno}), so it is ignored in this set-user-ID program; \
                     have the administrator list it in {}",
                    names::CONFIGURATION_FILE
                )
            }
        }
    }
}
