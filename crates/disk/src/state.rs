//! What requests can set and other requests read back. It lives as long as the process, as the drivers'
//! lives as long as the disk is attached.

use core::sync::atomic::{AtomicU32, Ordering};

/// The settings of one device; all bits zero is a fresh one.
#[derive(Debug, Default)]
pub struct State {
    /// `SG_SET_TIMEOUT`, in units of 10 ms.
    pub(crate) timeout: Setting,
    /// `SG_SET_RESERVED_SIZE`, in bytes.
    pub(crate) reserved_size: Setting,
    /// `HDIO_SET_…`, in the order of [`crate::hdio`]'s table.
    pub(crate) hdio: [Setting; 10],
}

impl State {
    /// A fresh one.
    pub const fn new() -> State {
        State { timeout: Setting::new(), reserved_size: Setting::new(), hdio: [const { Setting::new() }; 10] }
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
