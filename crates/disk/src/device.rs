//! A listed device and its size.

use crate::entry::{Entry, Kind};
use crate::errno::Errno;
use crate::host::Host;
use crate::nexus::Nexus;
use crate::settings::Settings;

/// A listed device.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// What its entry says.
    pub entry: &'a Entry<'a>,
    /// Its position among the listed devices: the target id of its SCSI address.
    pub index: u8,
    /// What requests can set and other requests read back.
    pub settings: &'a Settings,
    /// The I_T nexus of the caller.
    pub nexus: &'a Nexus,
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
        Ok(host.logical_block()?.max(least))
    }

    /// Bytes a physical block; at least a logical block.
    pub fn physical_block(&self, host: &impl Host) -> Result<u32, Errno> {
        let logical = self.logical_block(host)?;
        Ok(host.physical_block()?.max(logical))
    }

    /// The size at this moment.
    pub fn capacity(&self, host: &impl Host) -> Result<Capacity, Errno> {
        Ok(Capacity::new(host.bytes()?, self.logical_block(host)?))
    }

    /// Whether the disk says that it is write-protected.
    pub(crate) fn read_only(&self, host: &impl Host) -> Result<bool, Errno> {
        Ok(self.entry.read_only || host.is_read_only()?)
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
