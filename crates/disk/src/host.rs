//! What an engine lends the core: the caller's memory and the device that stands behind the disk.

use crate::Errno;

/// What stands behind a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A block device: the kernel answers block-layer requests.
    BlockDevice,
    /// A regular file.
    ImageFile,
}

/// A property of the backing device that can change at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The size in bytes.
    Bytes,
    /// Bytes a logical block.
    LogicalBlock,
    /// Bytes a physical block.
    PhysicalBlock,
    /// Bytes a block of the page cache (`BLKBSZGET`).
    SoftBlock,
    /// The least sensible transfer, in bytes.
    MinimumIo,
    /// The longest transfer, in 512-byte sectors.
    MaxSectors,
    /// Not 0 where the device cannot be written.
    ReadOnly,
}

/// A privilege of capabilities(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `CAP_SYS_RAWIO`
    RawIo = 17,
    /// `CAP_SYS_ADMIN`
    Admin = 21,
}

/// What an engine implements: one call of one caller on one descriptor.
pub trait Host {
    /// Copies from the caller's memory; a bad address is `EFAULT`.
    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno>;

    /// Copies to the caller's memory; a bad address is `EFAULT`.
    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno>;

    /// Whether the caller has a privilege.
    fn capable(&self, capability: Capability) -> bool;

    /// Whether the descriptor is open for writing.
    fn writable(&self) -> bool;

    /// What stands behind the disk.
    fn medium(&self) -> Medium;

    /// A property of the backing device.
    fn limit(&self, limit: Limit) -> Result<u64, Errno>;

    /// Gives back the space of a part of an image file; it reads as zeros afterwards. Offset and length in bytes.
    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno>;

    /// Makes a part of an image file read as zeros and keeps its space. Offset and length in bytes.
    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno>;

    /// Writes the caches of an image file to its storage and forgets what they hold.
    fn flush(&self) -> Result<(), Errno>;
}
