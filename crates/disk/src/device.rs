//! A listed device and its capacity.

use crate::entry::{Entry, Kind};
use crate::errno::Errno;
use crate::nexus::Nexus;
use crate::settings::Settings;

/// A listed device.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// Its entry.
    pub entry: &'a Entry<'a>,
    /// Its position among the listed devices: the target id of its SCSI address.
    pub index: u8,
    /// The settings of the logical unit.
    pub settings: &'a Settings,
    /// The I_T nexus of the caller.
    pub nexus: &'a Nexus,
}

/// A capacity in whole logical blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The number of logical blocks.
    pub blocks: u64,
    /// Bytes per logical block, a power of two from 512.
    pub block_size: u32,
}

impl Capacity {
    /// Returns the capacity of a backing device of this many bytes.
    pub fn new(bytes: u64, block_size: u32) -> Capacity {
        Capacity { blocks: bytes.checked_div(block_size.into()).unwrap_or(0), block_size }
    }

    /// Returns the capacity in bytes.
    pub fn bytes(self) -> u64 {
        self.blocks.saturating_mul(self.block_size.into())
    }

    /// Returns the capacity in 512-byte sectors.
    pub fn sectors(self) -> u64 {
        self.bytes() / 512
    }
}

impl Device<'_> {
    /// Returns the errno by which this kind of disk refuses an unknown request: `EINVAL` of the
    /// SCSI mid-layer (drivers/scsi/scsi_ioctl.c) and drivers/ide, `ENOTTY` of libata
    /// (drivers/ata/libata-scsi.c).
    pub fn refusal(&self) -> Errno {
        match self.entry.kind {
            Kind::Scsi | Kind::Ide => Errno::EINVAL,
            Kind::Sata => Errno::ENOTTY,
        }
    }
}
