//! What requests can set and other requests read back. It lives as long as the process, as the drivers'
//! lives as long as the disk is attached.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::scsi::mode::Switches;

/// The settings of one device; all bits zero is a fresh one.
#[derive(Debug, Default)]
pub struct State {
    /// `SG_SET_TIMEOUT`, in units of 10 ms.
    pub(crate) timeout: Setting,
    /// `SG_SET_RESERVED_SIZE`, in bytes.
    pub(crate) reserved_size: Setting,
    /// What MODE SELECT has changed.
    pub(crate) switches: Switches,
    /// The size in bytes, and 1, when the last SCSI command saw it; 0 before.
    bytes: AtomicU64,
    /// Bytes a logical block then.
    block: AtomicU32,
    /// `HDIO_SET_…`, in the order of [`crate::hdio`]'s table.
    pub(crate) hdio: [Setting; 9],
    /// The level of an ATA disk's advanced power management; 0: off.
    pub(crate) power_management: Setting,
    /// Its DMA mode, as SET FEATURES names it.
    pub(crate) transfer_mode: Setting,
    /// Its last self-test, and the block that it could not read: see [`crate::ata`]'s logs.
    pub(crate) self_test: Setting,
    pub(crate) self_test_block: Number,
}

impl State {
    /// A fresh one.
    pub const fn new() -> State {
        State {
            timeout: Setting::new(),
            reserved_size: Setting::new(),
            switches: Switches::new(),
            bytes: AtomicU64::new(0),
            block: AtomicU32::new(0),
            hdio: [const { Setting::new() }; 9],
            power_management: Setting::new(),
            transfer_mode: Setting::new(),
            self_test: Setting::new(),
            self_test_block: Number::new(),
        }
    }
}

impl State {
    /// The size of a logical block when the device had this size in bytes, if it was the last that was seen. A device that
    /// keeps its size keeps its blocks.
    pub(crate) fn block_of(&self, bytes: u64) -> Option<u32> {
        let same = self.bytes.load(Ordering::Acquire) == bytes.saturating_add(1);
        same.then(|| self.block.load(Ordering::Relaxed))
    }

    /// Remembers the size in bytes and of a logical block; whether there were as many logical blocks before.
    pub(crate) fn saw(&self, bytes: u64, block: u32) -> bool {
        let blocks = |bytes: u64, block: u32| (bytes.checked_div(block.into()), block);
        let old_block = self.block.swap(block, Ordering::Relaxed);
        let old = self.bytes.swap(bytes.saturating_add(1), Ordering::AcqRel).checked_sub(1);
        old.is_none_or(|old| blocks(old, old_block) == blocks(bytes, block))
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
