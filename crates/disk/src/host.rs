//! What an engine lends the core: the caller's memory and the device that stands behind the disk.

use crate::errno::Errno;

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

/// A part of the caller's memory, laid out as `struct iovec` of 64-bit systems (readv(2)).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its address.
    pub address: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Whether and how the backing device gives back space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provisioning {
    /// Space can be given back, and reads as zeros then.
    pub is_thin: bool,
    /// The bytes that are given back at once.
    pub granularity: u32,
    /// The first of such parts, in bytes.
    pub alignment: u32,
}

/// A part of the backing device that is all mapped or all not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Whether there is space behind it.
    pub is_mapped: bool,
    /// Its length in bytes, from the place that was asked for.
    pub length: u64,
}

/// A privilege of capabilities(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `CAP_SYS_RAWIO`
    RawIo = 17,
    /// `CAP_SYS_ADMIN`
    Admin = 21,
}

/// Why [`Host::update`] failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// Other updates could not be excluded; `EAGAIN` where one of them took longer than the caller waits.
    Exclude(Errno),
    /// The device could not be read.
    Read(Errno),
    /// The device could not be written.
    Write(Errno),
}

/// What an engine implements: one call of one caller on one descriptor.
pub trait Host {
    /// Copies from the caller's memory; a bad address is `EFAULT`.
    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno>;

    /// Copies to the caller's memory; a bad address is `EFAULT`.
    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno>;

    /// Says that a part of the caller's memory will be read and written several times: an engine may look at it once.
    fn prepare(&self, _address: u64, _length: usize) {}

    /// Whether the caller has a privilege.
    fn capable(&self, capability: Capability) -> bool;

    /// Whether the descriptor is open for writing.
    fn writable(&self) -> bool;

    /// What stands behind the disk.
    fn medium(&self) -> Medium;

    /// What tells the backing device from others behind the same entry, such as its device number; the same number where it
    /// cannot be told at no cost.
    fn identity(&self) -> u64 {
        0
    }

    /// A property of the backing device.
    fn limit(&self, limit: Limit) -> Result<u64, Errno>;

    /// Memory of the engine's own, zeroed and aligned to a page; it is freed when it is dropped.
    type Scratch: AsMut<[u8]>;

    /// Reads from an offset in bytes straight into the caller's memory; how many bytes. `EINVAL` where the device does not
    /// take the caller's addresses.
    fn read_at(&self, offset: u64, into: &[Segment]) -> Result<u64, Errno>;

    /// The same the other way round. `durable`: the data is on the medium afterwards.
    fn write_at(&self, offset: u64, from: &[Segment], durable: bool) -> Result<u64, Errno>;

    /// Reads all of a buffer that came from [`Host::scratch`], from an offset in bytes.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Errno>;

    /// Writes all of a buffer that came from [`Host::scratch`].
    fn write(&self, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno>;

    /// The least and the most bytes that [`Host::write_atomic`] can write, powers of two; none where the backing device does
    /// not say that it can.
    fn atomic_unit(&self) -> Option<(u32, u32)>;

    /// Writes a buffer that came from [`Host::scratch`], all of it or nothing, even if the power fails meanwhile. Its length
    /// is a power of two within [`Host::atomic_unit`], the offset in bytes a multiple of it.
    fn write_atomic(&self, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno>;

    /// Writes the backing device's cache to its medium.
    fn sync(&self) -> Result<(), Errno>;

    /// Whether and how space is given back.
    fn provisioning(&self) -> Result<Provisioning, Errno>;

    /// What stands behind an offset in bytes.
    fn extent(&self, offset: u64) -> Result<Extent, Errno>;

    /// Memory of at least this many bytes.
    fn scratch(&self, length: usize) -> Result<Self::Scratch, Errno>;

    /// Reads a part of the device into a buffer that came from [`Host::scratch`], lets `change` look at it and change it, and
    /// writes it back where that returns true. Other updates of the device, in other threads and processes too, happen
    /// before or after. Waits at most `patience` milliseconds for them.
    fn update(
        &self,
        offset: u64,
        medium: &mut [u8],
        durable: bool,
        patience: u32,
        change: impl FnMut(&mut [u8]) -> bool,
    ) -> Result<(), UpdateError>;

    /// A clock, in milliseconds.
    fn milliseconds(&self) -> u64;

    /// Gives back the space of a part of the device; it reads as zeros afterwards. Offset and length in bytes.
    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno>;

    /// Makes a part of the device read as zeros and keeps its space. Offset and length in bytes.
    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno>;

    /// Writes the caches of an image file to its storage and forgets what they hold.
    fn flush(&self) -> Result<(), Errno>;
}
