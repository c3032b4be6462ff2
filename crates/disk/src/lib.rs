//! What a physical disk answers to an ioctl: a pure function of the request, the device and the caller's memory.
//!
//! An engine catches the call, finds the [`Device`] and calls [`answer`] with a [`Host`] that lends the caller's
//! memory and the backing device. Whatever the [`Answer`], a request that a disk driver would carry out is never left to
//! the kernel: on a logical volume it would reach the whole disk underneath.
#![no_std]
#![forbid(unsafe_code)]

pub mod ata;
mod block;
pub mod conf;
pub mod drive;
pub mod entry;
pub mod errno;
pub mod geometry;
mod hdio;
pub mod host;
pub mod identity;
pub mod names;
pub mod real;
pub mod record;
pub mod request;
pub mod scsi;
mod scsi_ioctl;
mod sg;
mod state;
pub mod trace;

use entry::{Entry, Kind};
pub use errno::Errno;
pub use host::{Capability, Host, Limit, Medium};
pub use state::State;

/// A listed device.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// What its entry says.
    pub entry: &'a Entry<'a>,
    /// Its position among the listed devices: the target id of its SCSI address.
    pub index: u8,
    /// What requests can set and other requests read back.
    pub state: &'a State,
}

/// What becomes of a request on a listed device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel's own answer is right: forward the request.
    Forward,
    /// The request succeeded; the value is what `ioctl(2)` returns.
    Value(i32),
    /// The request failed.
    Error(Errno),
}

impl From<Result<i32, Errno>> for Answer {
    fn from(result: Result<i32, Errno>) -> Answer {
        match result {
            Ok(value) => Answer::Value(value),
            Err(errno) => Answer::Error(errno),
        }
    }
}

/// The size of a device in whole logical blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Logical blocks.
    pub blocks: u64,
    /// Bytes a logical block: a power of two from 512.
    pub block: u32,
}

impl Capacity {
    /// The whole logical blocks that fit into this many bytes.
    pub fn new(bytes: u64, block: u32) -> Capacity {
        Capacity { blocks: bytes.checked_div(block.into()).unwrap_or(0), block }
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.blocks.saturating_mul(self.block.into())
    }

    /// The size in 512-byte sectors.
    pub fn sectors(self) -> u64 {
        self.bytes() / 512
    }
}

impl Device<'_> {
    /// Bytes a logical block: the backing device's, or the entry's `sector=` where that is larger.
    pub fn logical_block(&self, host: &impl Host) -> Result<u32, Errno> {
        let least = self.entry.sector.unwrap_or(512).max(512);
        let backing = host.limit(Limit::LogicalBlock)?;
        Ok(u32::try_from(backing).unwrap_or(least).max(least))
    }

    /// Bytes a physical block; at least a logical block.
    pub fn physical_block(&self, host: &impl Host) -> Result<u32, Errno> {
        let logical = self.logical_block(host)?;
        Ok(u32::try_from(host.limit(Limit::PhysicalBlock)?).unwrap_or(logical).max(logical))
    }

    /// The size at this moment.
    pub fn capacity(&self, host: &impl Host) -> Result<Capacity, Errno> {
        Ok(Capacity::new(host.limit(Limit::Bytes)?, self.logical_block(host)?))
    }

    /// Whether the disk says that it is write-protected.
    fn read_only(&self, host: &impl Host) -> Result<bool, Errno> {
        Ok(self.entry.read_only || host.limit(Limit::ReadOnly)? != 0)
    }

    /// How this kind of disk refuses a request that it does not know: the SCSI mid-layer and drivers/ide by
    /// `EINVAL` (drivers/scsi/scsi_ioctl.c), libata by `ENOTTY` (drivers/ata/libata-scsi.c).
    pub fn refusal(&self) -> Errno {
        match self.entry.kind {
            Kind::Scsi | Kind::Ide => Errno::EINVAL,
            Kind::Sata => Errno::ENOTTY,
        }
    }
}

/// Answers a request on a listed device; `argument` is the caller's third argument, a number or an address.
///
/// Call it for what [`request::is_disk_request`] names; anything else is forwarded.
pub fn answer(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Answer {
    match request::family(request) {
        Some(request::Family::BlockLayer) => block::answer(device, host, request, argument),
        Some(request::Family::Hdio) => hdio::answer(device, host, request, argument).into(),
        // fs/ioctl.c answers FIBMAP, which is SCSI_IOCTL_SEND_COMMAND too, on any regular file.
        Some(request::Family::Scsi) if request == request::FIBMAP && host.medium() == Medium::ImageFile => {
            Answer::Forward
        }
        Some(request::Family::Scsi) => scsi_ioctl::answer(device, host, request, argument),
        Some(request::Family::Driver) => Answer::Error(device.refusal()),
        Some(request::Family::Unknown) => match host.medium() {
            Medium::BlockDevice => Answer::Error(device.refusal()),
            Medium::ImageFile => Answer::Forward,
        },
        Some(request::Family::Reservation) => Answer::Error(block::reservation(device, host, request)),
        None => Answer::Forward,
    }
}
