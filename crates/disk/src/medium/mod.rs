//! The medium: its size, its limits, how its space is given back, whether it may be written.

pub(crate) mod io;

use crate::device::{Capacity, Device};
use crate::errno::Errno;
use crate::host::Host;
use crate::settings::{SWP, WCE};

/// The most bytes that one command moves, where the backing device's limit is not larger.
pub(crate) const LONGEST: u64 = 4 << 20;

/// The most bytes that one command moves.
pub(crate) fn longest_transfer(host: &impl Host) -> Result<u64, Errno> {
    Ok((u64::from(host.max_sectors()?) * 512).max(LONGEST))
}

/// The device's size at this moment. Commands that move blocks, which are frequent, use the size of a logical block that the
/// last other command found, as long as the device and its size in bytes are the same.
pub(crate) fn read_capacity(
    device: &Device<'_>,
    host: &impl Host,
    moves_blocks: bool,
) -> Result<Capacity, Errno> {
    let (identity, bytes) = (host.identity(), host.bytes()?);
    let known = device.settings.cached_block_size(identity, bytes);
    if let Some(block) = known.filter(|_| moves_blocks) {
        return Ok(Capacity::new(bytes, block));
    }
    let block = device.logical_block(host)?;
    if known != Some(block) {
        device.settings.cache_block_size(identity, bytes, block);
    }
    Ok(Capacity::new(bytes, block))
}

pub(crate) fn is_thin(host: &impl Host) -> bool {
    host.provisioning().is_ok_and(|provisioning| provisioning.is_thin)
}

/// Whether nothing may be written.
pub(crate) fn is_protected(device: &Device<'_>, host: &impl Host) -> Result<bool, Errno> {
    Ok(device.settings.switches.is_on(SWP) || device.read_only(host)?)
}

/// Whether what is written must be on the medium when the command ends. `fua`: the command says so.
pub(crate) fn is_durable(device: &Device<'_>, fua: bool) -> bool {
    fua || !device.settings.switches.is_on(WCE)
}

/// The least and the most blocks of a WRITE ATOMIC, powers of two, where the disk has that command.
pub(crate) fn atomic_blocks(device: &Device<'_>, host: &impl Host) -> Option<(u32, u32)> {
    let (least, most) = host.atomic_unit()?;
    let block = device.logical_block(host).ok()?;
    let least = least.checked_div(block)?.max(1);
    let most = most.min(LONGEST as u32).checked_div(block)?;
    (least <= most).then_some((least, most))
}

/// A range of logical blocks that exist.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    /// The first one's address.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) blocks: u64,
    /// Bytes a logical block.
    pub(crate) block: u32,
}

impl Range {
    /// A range; none where one of its blocks does not exist.
    pub(crate) fn new(capacity: Capacity, first: u64, blocks: u64) -> Option<Range> {
        let end = first.checked_add(blocks)?;
        (end <= capacity.blocks).then_some(Range { first, blocks, block: capacity.block })
    }

    /// The first byte.
    pub(crate) fn offset(&self) -> u64 {
        self.first.saturating_mul(self.block.into())
    }

    /// How many bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block.into())
    }

    /// The block that a byte is in.
    pub(crate) fn block_of(&self, offset: u64) -> u64 {
        offset.checked_div(self.block.into()).unwrap_or(0)
    }
}
