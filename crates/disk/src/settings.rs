//! What requests can set and other requests read back. It lives as long as the process, as the drivers'
//! lives as long as the disk is attached.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The settings of one logical unit, which all its I_T nexuses share; all bits zero is a fresh one.
#[derive(Debug, Default)]
pub struct Settings {
    /// `SG_SET_TIMEOUT`, in units of 10 ms.
    pub(crate) timeout: Setting,
    /// `SG_SET_RESERVED_SIZE`, in bytes.
    pub(crate) reserved_size: Setting,
    /// What MODE SELECT has changed.
    pub(crate) switches: Switches,
    /// The size of a logical block, by backing device and size: [`block_key`] with the exponent in its lowest bits; 0 before.
    block: AtomicU64,
    /// `HDIO_SET_…` of these names.
    pub(crate) io_32bit: Setting,
    pub(crate) unmask_interrupts: Setting,
    pub(crate) keep_settings: Setting,
    pub(crate) ignore_write_errors: Setting,
    pub(crate) dma: Setting,
    pub(crate) nice: Setting,
    pub(crate) acoustic: Setting,
    pub(crate) address: Setting,
    /// The sectors of one READ MULTIPLE of an ATA disk; 0: multiple mode is off.
    pub(crate) multiple: Setting,
    /// The level of an ATA disk's advanced power management; 0: off.
    pub(crate) power_management: Setting,
    /// Its DMA mode, as SET FEATURES names it.
    pub(crate) transfer_mode: Setting,
    /// Its last self-test, and the block that it could not read: see the logs of `ata`.
    pub(crate) self_test: Setting,
    pub(crate) self_test_block: Number,
}

impl Settings {
    /// A fresh one.
    pub const fn new() -> Settings {
        Settings {
            timeout: Setting::new(),
            reserved_size: Setting::new(),
            switches: Switches::new(),
            block: AtomicU64::new(0),
            io_32bit: Setting::new(),
            unmask_interrupts: Setting::new(),
            keep_settings: Setting::new(),
            ignore_write_errors: Setting::new(),
            dma: Setting::new(),
            nice: Setting::new(),
            acoustic: Setting::new(),
            address: Setting::new(),
            multiple: Setting::new(),
            power_management: Setting::new(),
            transfer_mode: Setting::new(),
            self_test: Setting::new(),
            self_test_block: Number::new(),
        }
    }
}

/// How many of the lowest bits of a word hold the exponent of a logical block's size: 9 to 31.
pub(crate) const EXPONENT: u32 = 5;
const EXPONENT_BITS: u64 = (1 << EXPONENT) - 1;

pub(crate) fn exponent(block: u32) -> u64 {
    block.checked_ilog2().unwrap_or(0).into()
}

/// What the size of a logical block is remembered by: a mixture of what the backing device is recognised by and its size in
/// bytes, with the lowest bits free.
fn block_key(identity: u64, bytes: u64) -> u64 {
    // Fibonacci hashing: the upper bits depend on all of the key's.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (identity.wrapping_mul(FACTOR).rotate_left(32) ^ bytes).wrapping_mul(FACTOR);
    (mixed ^ mixed >> 32) & !EXPONENT_BITS
}

impl Settings {
    /// Returns the size of a logical block of a backing device of this size in bytes, if that was cached
    /// last.
    pub(crate) fn cached_block_size(&self, identity: u64, bytes: u64) -> Option<u32> {
        let known = self.block.load(Ordering::Relaxed);
        let exponent = known & EXPONENT_BITS;
        (exponent != 0 && known & !EXPONENT_BITS == block_key(identity, bytes)).then_some(1 << exponent)
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
    const fn new() -> Number {
        Number(AtomicU64::new(0))
    }

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
    const fn new() -> Setting {
        Setting(AtomicU32::new(0))
    }

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
/// DRA of the caching page: read look-ahead is off. The library never reads ahead, so that it is easy to obey.
pub const DRA: u32 = 8;
/// SMART of an ATA disk is on.
pub const SMART: u32 = 16;

/// What can be changed; a bit is set where it is not the default.
#[derive(Debug, Default)]
pub struct Switches(AtomicU32);

/// The write cache is on, and SMART; all else is off.
pub(crate) const DEFAULTS: u32 = WCE | SMART;

impl Switches {
    pub(crate) const fn new() -> Switches {
        Switches(AtomicU32::new(0))
    }

    /// Whether a switch is on.
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

    /// Turns those of `which` on that are in `on`, and the others of them off; what other threads do with the rest stays.
    pub(crate) fn change(&self, which: u32, on: u32) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            Some(old & !which | (on ^ DEFAULTS) & which)
        });
    }
}
