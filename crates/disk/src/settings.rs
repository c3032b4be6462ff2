//! The settings of a disk, which requests set and others read back. They last as long as the
//! process, as a driver's last as long as the disk is attached.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The settings of a logical unit, which all its I_T nexuses share; all bits are zero at first.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Settings {
    /// `SG_SET_TIMEOUT`, in units of 10 ms.
    pub(crate) timeout: Setting,
    /// `SG_SET_RESERVED_SIZE`, in bytes.
    pub(crate) reserved_size: Setting,
    /// The switches of MODE SELECT and SET FEATURES.
    pub(crate) switches: Switches,
    /// How often MODE SELECT has changed a switch; it wraps around.
    mode_changes: AtomicU32,
    /// The size of a logical block, by backing device and size: [`block_key`] with the exponent in
    /// its lowest bits; 0 before.
    block: AtomicU64,
    /// The settings of `HDIO_SET_…`.
    pub(crate) io_32bit: Setting,
    pub(crate) unmask_interrupts: Setting,
    pub(crate) keep_settings: Setting,
    pub(crate) ignore_write_errors: Setting,
    pub(crate) dma: Setting,
    pub(crate) nice: Setting,
    pub(crate) acoustic: Setting,
    pub(crate) address: Setting,
    /// ATA: sectors per DRQ data block of READ MULTIPLE; 0: multiple mode is off.
    pub(crate) multiple: Setting,
    /// ATA: the level of advanced power management; 0: off.
    pub(crate) power_management: Setting,
    /// ATA: the DMA mode, as SET FEATURES codes it.
    pub(crate) transfer_mode: Setting,
    /// ATA: the last self-test and the LBA that it could not read (see ata/log.rs).
    pub(crate) self_test: Setting,
    pub(crate) self_test_block: Number,
}

/// The number of low bits that hold the exponent of a block size, which is 9 to 31.
pub(crate) const EXPONENT: u32 = 5;
const EXPONENT_BITS: u64 = (1 << EXPONENT) - 1;

/// Returns the exponent of a block size.
pub(crate) fn exponent(block: u32) -> u64 {
    block.checked_ilog2().unwrap_or(0).into()
}

/// Returns the key of a cached block size: a hash of the backing device's identity and size in
/// bytes, with the lowest bits 0.
fn block_key(identity: u64, bytes: u64) -> u64 {
    // Fibonacci hashing: the upper bits depend on all of the key's.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (identity.wrapping_mul(FACTOR).rotate_left(32) ^ bytes).wrapping_mul(FACTOR);
    (mixed ^ mixed >> 32) & !EXPONENT_BITS
}

impl Settings {
    /// Returns how often MODE SELECT has changed a switch.
    pub(crate) fn mode_changes(&self) -> u32 {
        self.mode_changes.load(Ordering::Relaxed)
    }

    /// Counts a change by MODE SELECT, and returns how often there has been one.
    pub(crate) fn count_mode_change(&self) -> u32 {
        self.mode_changes.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Returns the size of a logical block of a backing device of this size in bytes, if that was
    /// cached last.
    pub(crate) fn cached_block_size(&self, identity: u64, bytes: u64) -> Option<u32> {
        let cached = self.block.load(Ordering::Relaxed);
        let exponent = cached & EXPONENT_BITS;
        (exponent != 0 && cached & !EXPONENT_BITS == block_key(identity, bytes)).then_some(1 << exponent)
    }

    /// Caches the size of a logical block.
    pub(crate) fn cache_block_size(&self, identity: u64, bytes: u64, block: u32) {
        self.block.store(block_key(identity, bytes) | exponent(block), Ordering::Relaxed);
    }
}

/// A number that is 0 until it is set.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A number below 2^32 - 1 that has a default until it is set.
#[derive(Debug, Default)]
pub(crate) struct Setting(AtomicU32);

impl Setting {
    pub(crate) fn get(&self, default: u32) -> u32 {
        self.0.load(Ordering::Relaxed).checked_sub(1).unwrap_or(default)
    }

    pub(crate) fn set(&self, value: u32) {
        self.0.store(value.saturating_add(1), Ordering::Relaxed);
    }
}

/// WCE of the caching page: the write cache is on.
pub const WCE: u32 = 1;
/// SWP of the control page: software write protect.
pub const SWP: u32 = 2;
/// D_SENSE of the control page: sense data in the descriptor format.
pub const D_SENSE: u32 = 4;
/// DRA of the caching page: read look-ahead is off.
pub const DRA: u32 = 8;
/// SMART of an ATA disk is on.
pub const SMART: u32 = 16;

/// Switches; a bit is set if the switch differs from its default.
#[derive(Debug, Default)]
pub struct Switches(AtomicU32);

/// The switches that are on by default.
pub(crate) const DEFAULTS: u32 = WCE | SMART;

impl Switches {
    /// Returns whether a switch is on.
    pub fn is_on(&self, switch: u32) -> bool {
        self.get() & switch != 0
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed) ^ DEFAULTS
    }

    /// Turns a switch on or off.
    pub(crate) fn turn(&self, switch: u32, on: bool) {
        self.change(switch, if on { switch } else { 0 });
    }

    /// Sets the switches `which` to their bits in `on`, and leaves the others to other threads.
    pub(crate) fn change(&self, which: u32, on: u32) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            Some(old & !which | (on ^ DEFAULTS) & which)
        });
    }
}
