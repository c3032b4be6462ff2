//! The traits that an engine implements: the caller and the backing device.

use core::slice;

use zerocopy::{FromZeros, IntoBytes};

pub use crate::abi::Segment;
use crate::abi::{Abi, Structure};
use crate::device::Device;
use crate::errno::Errno;
use crate::shared::Shared;

/// The kind of backing device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A block device: the kernel answers block-layer requests.
    BlockDevice,
    /// A regular file.
    ImageFile,
}

/// The provisioning of the backing device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provisioning {
    /// Blocks can be deallocated, and then read as zeros.
    pub is_thin: bool,
    /// The unit of deallocation in bytes.
    pub granularity: u32,
    /// The offset of the first unit in bytes.
    pub alignment: u32,
}

/// An extent of the backing device, all of it mapped or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Whether space is allocated for it.
    pub is_mapped: bool,
    /// Its length in bytes, from the requested offset.
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

/// Why [`Backing::update`] failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// Other updates could not be excluded; `EAGAIN` where one of them took longer than the caller
    /// waits.
    Exclude(Errno),
    /// The device could not be read.
    Read(Errno),
    /// The device could not be written.
    Write(Errno),
}

/// The caller: the process that called ioctl(2), with its descriptor.
///
/// A copy fails with `EFAULT` if the address is bad, and with [`Errno::CALLER_GONE`] if the caller
/// has ended or its call was cancelled, so nothing can be copied or answered any more.
pub trait Caller {
    /// Copies from the caller's memory.
    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno>;

    /// Copies to the caller's memory.
    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno>;

    /// Returns how the caller lays out structures.
    fn abi(&self) -> Abi {
        Abi::Native
    }

    /// Copies a structure from the caller's memory.
    fn fetch<T: Structure>(&self, address: u64) -> Result<T, Errno> {
        match self.abi() {
            Abi::Native => {
                let mut native = T::new_zeroed();
                self.copy_in(address, native.as_mut_bytes())?;
                Ok(native)
            }
            Abi::I386 => {
                let mut i386 = T::I386::new_zeroed();
                self.copy_in(address, i386.as_mut_bytes())?;
                Ok(i386.into())
            }
        }
    }

    /// Copies a structure to the caller's memory.
    fn store<T: Structure>(&self, address: u64, structure: T) -> Result<(), Errno> {
        match self.abi() {
            Abi::Native => self.copy_out(address, structure.as_bytes()),
            Abi::I386 => self.copy_out(address, T::I386::from(structure).as_bytes()),
        }
    }

    /// Announces several copies from and to a part of the caller's memory, which an engine may
    /// check once.
    fn prepare(&self, _address: u64, _length: usize) {}

    /// Returns whether the caller has a privilege.
    fn capable(&self, capability: Capability) -> bool;

    /// Returns whether the descriptor is open for writing.
    fn writable(&self) -> bool;

    /// Returns the time of a clock, in milliseconds.
    fn milliseconds(&self) -> u64;
}

/// The backing device, as it is at this moment: its properties can change at any time. Offsets and
/// lengths are in bytes.
pub trait Backing {
    /// A bounce buffer: memory of the engine, aligned to a page, freed when dropped. It may first
    /// hold data of another call: only the part that has been filled is used.
    type BounceBuffer: AsMut<[u8]>;

    /// Returns the kind of backing device.
    fn medium(&self) -> Medium;

    /// Returns a number that distinguishes the backing device from others behind the same entry,
    /// such as its device number; a constant if finding that number would cost something.
    fn identity(&self) -> u64 {
        0
    }

    /// Returns the size in bytes.
    fn bytes(&self) -> Result<u64, Errno>;

    /// Returns the bytes per logical block.
    fn logical_block(&self) -> Result<u32, Errno>;

    /// Returns the bytes per physical block.
    fn physical_block(&self) -> Result<u32, Errno>;

    /// Returns the block size of the page cache in bytes (`BLKBSZGET`).
    fn soft_block(&self) -> Result<u32, Errno>;

    /// Returns the shortest efficient transfer in bytes (`BLKIOMIN`).
    fn minimum_io(&self) -> Result<u32, Errno>;

    /// Returns the longest transfer, in 512-byte sectors.
    fn max_sectors(&self) -> Result<u16, Errno>;

    /// Returns whether the device cannot be written.
    fn is_read_only(&self) -> Result<bool, Errno>;

    /// Returns the provisioning.
    fn provisioning(&self) -> Result<Provisioning, Errno>;

    /// Returns the least and the most bytes that [`Backing::write_atomic`] can write, powers of
    /// two; none if the backing device does not report that it can.
    fn atomic_unit(&self) -> Option<(u32, u32)>;

    /// Returns the extent at an offset.
    fn extent(&self, offset: u64) -> Result<Extent, Errno>;

    /// Returns a bounce buffer of at least this many bytes.
    fn bounce_buffer(&self, length: usize) -> Result<Self::BounceBuffer, Errno>;

    /// Reads straight into the caller's memory, and returns how many bytes; `None` where the data
    /// must go through a bounce buffer, because the device does not take the caller's addresses.
    fn read_at(&self, offset: u64, into: &[Segment]) -> Result<Option<u64>, Errno>;

    /// Writes straight from the caller's memory, and returns how many bytes; `None` as in
    /// [`Backing::read_at`]. `durable`: the data is on the medium afterwards.
    fn write_at(&self, offset: u64, from: &[Segment], durable: bool) -> Result<Option<u64>, Errno>;

    /// Reads as [`Backing::read_at`] does, if one system call can; also `None` if it cannot.
    fn read_directly(&self, offset: u64, into: Segment) -> Result<Option<u64>, Errno> {
        self.read_at(offset, slice::from_ref(&into))
    }

    /// Writes as [`Backing::write_at`] does, if one system call can; also `None` if it cannot.
    fn write_directly(&self, offset: u64, from: Segment, durable: bool) -> Result<Option<u64>, Errno> {
        self.write_at(offset, slice::from_ref(&from), durable)
    }

    /// Reads all of a buffer that came from [`Backing::bounce_buffer`].
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Errno>;

    /// Writes all of a buffer that came from [`Backing::bounce_buffer`].
    fn write(&self, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno>;

    /// Writes a buffer that came from [`Backing::bounce_buffer`], all of it or nothing, even if the
    /// power fails meanwhile. Its length is a power of two within [`Backing::atomic_unit`], the
    /// offset a multiple of it.
    fn write_atomic(&self, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno>;

    /// Reads a part of the device into a buffer that came from [`Backing::bounce_buffer`], lets
    /// `change` look at it and change it, and writes it back where that returns true. Other updates
    /// of the device, in other threads and processes too, happen before or after. Waits for them
    /// until the timeout.
    fn update(
        &self,
        offset: u64,
        medium: &mut [u8],
        durable: bool,
        timeout_ms: u32,
        change: impl FnMut(&mut [u8]) -> bool,
    ) -> Result<(), UpdateError>;

    /// Writes the backing device's cache to its medium.
    fn sync(&self) -> Result<(), Errno>;

    /// Deallocates a part of the device, which reads as zeros afterwards.
    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno>;

    /// Makes a part of the device read as zeros and keeps it allocated.
    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno>;

    /// Writes the page cache of an image file to its storage and drops it (`BLKFLSBUF`).
    fn flush(&self) -> Result<(), Errno>;
}

/// The I_T nexuses of the logical unit. An engine that answers a single process does not know those of
/// others, so that nothing can be shared with them: the default.
pub trait Nexuses {
    /// Returns whether the engine knows all I_T nexuses, so that they have reservations.
    fn are_known(&self) -> bool {
        false
    }

    /// Looks at what they share.
    fn look<R>(&self, _look: impl FnOnce(&Shared) -> R) -> Result<R, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Changes what they share, all of it or, on an error, nothing. No other change happens meanwhile, and
    /// no command that begins later misses it.
    fn change<R>(&self, _change: impl FnOnce(&mut Shared) -> R) -> Result<R, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Waits for the end of the other commands that have begun; `ETIMEDOUT` when the timeout has passed
    /// (0: none).
    fn wait_for_others(&self, _timeout_ms: u32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}

/// The other listed devices, which the caller's own device copies from and to. An engine that does not know
/// them has none: the default.
pub trait Peers {
    /// Calls `act` with the listed device that has this [`designator`](crate::identity::designator), open
    /// for reading or, with `writing`, for both. The caller must be able to open it so.
    ///
    /// Errors: `ENXIO` if there is no such device, and those of open(2).
    fn with_peer<R>(
        &self,
        _designator: u64,
        _writing: bool,
        _act: impl FnOnce(&Device<'_>, &Self) -> R,
    ) -> Result<R, Errno> {
        Err(Errno::ENXIO)
    }
}

/// One call of one caller on one backing device.
pub trait Host: Caller + Backing + Nexuses + Peers {}

impl<T: Caller + Backing + Nexuses + Peers> Host for T {}
