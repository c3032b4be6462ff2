//! The medium: its capacity, limits, provisioning and write protection.

pub(crate) mod io;

use crate::device::{Capacity, Device};
use crate::errno::Errno;
use crate::host::Host;
use crate::settings::{SWP, WCE};

impl Device<'_> {
    /// Returns the bytes per logical block: the backing device's, or the entry's `sector=` if that
    /// is larger.
    pub fn logical_block(&self, host: &impl Host) -> Result<u32, Errno> {
        let least = self.entry.sector.unwrap_or(512).max(512);
        Ok(host.logical_block()?.max(least))
    }

    /// Returns the bytes per physical block, at least a logical block.
    pub fn physical_block(&self, host: &impl Host) -> Result<u32, Errno> {
        let logical = self.logical_block(host)?;
        Ok(host.physical_block()?.max(logical))
    }

    /// Returns the capacity at this moment.
    pub fn capacity(&self, host: &impl Host) -> Result<Capacity, Errno> {
        Ok(Capacity::new(host.bytes()?, self.logical_block(host)?))
    }

    /// Returns whether the disk is write-protected, apart from SWP.
    pub(crate) fn is_read_only(&self, host: &impl Host) -> Result<bool, Errno> {
        Ok(self.entry.read_only || host.is_read_only()?)
    }
}

/// The longest transfer of a command, in bytes, unless the backing device's limit is larger.
pub(crate) const LONGEST_TRANSFER: u64 = 4 << 20;

/// Returns the longest transfer of a command, in bytes.
pub(crate) fn longest_transfer(host: &impl Host) -> Result<u64, Errno> {
    Ok((u64::from(host.max_sectors()?) * 512).max(LONGEST_TRANSFER))
}

/// Returns the capacity at this moment. Frequent commands (`is_frequent`) use the block size that
/// the last other command cached, as long as the backing device and its size in bytes are the same.
pub(crate) fn read_capacity(
    device: &Device<'_>,
    host: &impl Host,
    is_frequent: bool,
) -> Result<Capacity, Errno> {
    let bytes = host.bytes()?;
    let cached = cached_capacity(device, host, bytes);
    if let Some(capacity) = cached.filter(|_| is_frequent) {
        return Ok(capacity);
    }
    let block_size = device.logical_block(host)?;
    if cached.is_none_or(|capacity| capacity.block_size != block_size) {
        device.settings.cache_block_size(block_identity(device, host), bytes, block_size);
    }
    Ok(Capacity::new(bytes, block_size))
}

/// Returns the capacity that a frequent command uses on a device of so many bytes, if the block size is
/// cached.
#[inline]
pub(crate) fn cached_capacity(device: &Device<'_>, host: &impl Host, bytes: u64) -> Option<Capacity> {
    let block_size = device.settings.cached_block_size(block_identity(device, host), bytes)?;
    Some(Capacity::new(bytes, block_size))
}

/// Returns what the size of a block depends on beside that of the device: clients that share the settings can
/// have different entries.
#[inline]
fn block_identity(device: &Device<'_>, host: &impl Host) -> u64 {
    host.identity() ^ u64::from(device.entry.sector.unwrap_or(0)) << 32
}

/// Returns whether the disk is thin-provisioned.
pub(crate) fn is_thin(host: &impl Host) -> bool {
    host.provisioning().is_ok_and(|provisioning| provisioning.is_thin)
}

/// Returns whether the medium is write-protected.
pub(crate) fn is_protected(device: &Device<'_>, host: &impl Host) -> Result<bool, Errno> {
    Ok(device.settings.switches.is_on(SWP) || device.is_read_only(host)?)
}

/// Returns whether written data must be on the medium when the command ends: with forced unit
/// access (`fua`), or if the write cache is off.
pub(crate) fn is_durable(device: &Device<'_>, fua: bool) -> bool {
    fua || !device.settings.switches.is_on(WCE)
}

/// Returns the fewest and the most blocks of WRITE ATOMIC, powers of two; `None` if the disk lacks
/// it.
pub(crate) fn atomic_blocks(device: &Device<'_>, host: &impl Host) -> Option<(u32, u32)> {
    let (least, most) = host.atomic_unit()?;
    let block_size = device.logical_block(host).ok()?;
    let least = least.checked_div(block_size)?.max(1);
    let most = most.min(LONGEST_TRANSFER as u32).checked_div(block_size)?;
    (least <= most).then_some((least, most))
}

/// A range of logical blocks that exist.
#[derive(Clone, Copy)]
pub(crate) struct BlockRange {
    /// The first one's LBA.
    pub(crate) lba: u64,
    /// The number of blocks.
    pub(crate) blocks: u64,
    /// Bytes per logical block.
    pub(crate) block_size: u32,
}

impl BlockRange {
    /// Returns a range; `None` if one of its blocks does not exist.
    pub(crate) fn new(capacity: Capacity, lba: u64, blocks: u64) -> Option<BlockRange> {
        let end = lba.checked_add(blocks)?;
        (end <= capacity.blocks).then_some(BlockRange { lba, blocks, block_size: capacity.block_size })
    }

    /// Returns the offset of the first byte.
    pub(crate) fn offset(&self) -> u64 {
        self.lba.saturating_mul(self.block_size.into())
    }

    /// Returns the length in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size.into())
    }

    /// Returns the LBA of the block that holds the byte at this offset of the medium.
    pub(crate) fn lba_at(&self, offset: u64) -> u64 {
        offset.checked_div(self.block_size.into()).unwrap_or(0)
    }
}
