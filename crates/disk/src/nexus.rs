//! The state of an I_T nexus: one caller, or group of callers, of a logical unit.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::settings::{EXPONENT, exponent};

/// What a nexus was last told. A unit attention is pending while the device has something else.
#[derive(Debug, Default)]
pub struct Nexus {
    /// Its number, where the engine knows all nexuses ([`Shared::add_nexus`](crate::Shared::add_nexus)).
    pub number: u64,
    /// The capacity, as [`packed`]; 0 at first.
    capacity: AtomicU64,
    /// How often mode parameters had been changed, and 1; 0 at first.
    mode_changes: AtomicU32,
    /// WRITE BUFFER has written the echo buffer through it.
    has_written_echo_buffer: AtomicBool,
}

/// Returns the number of blocks, below 2^59, and the exponent of their size in one word.
fn packed(blocks: u64, block_size: u32) -> u64 {
    blocks << EXPONENT | exponent(block_size)
}

impl Nexus {
    /// Returns a nexus with this number.
    pub fn new(number: u64) -> Nexus {
        Nexus { number, ..Nexus::default() }
    }

    /// Sets how often mode parameters have been changed, and returns whether others than this nexus have
    /// changed them since it was told.
    pub(crate) fn update_mode_changes(&self, changes: u32) -> bool {
        let new = changes.wrapping_add(1);
        let old = self.mode_changes.load(Ordering::Relaxed);
        if old != new {
            self.mode_changes.store(new, Ordering::Relaxed);
        }
        old != 0 && old != new
    }

    pub(crate) fn has_written_echo_buffer(&self) -> bool {
        self.has_written_echo_buffer.load(Ordering::Relaxed)
    }

    pub(crate) fn set_written_echo_buffer(&self) {
        self.has_written_echo_buffer.store(true, Ordering::Relaxed);
    }

    /// Returns whether this is the capacity that the nexus was last told.
    #[inline]
    pub(crate) fn is_current(&self, blocks: u64, block_size: u32) -> bool {
        self.capacity.load(Ordering::Relaxed) == packed(blocks, block_size)
    }

    /// Sets the capacity, and returns the old number of blocks if the capacity has changed.
    pub(crate) fn update_capacity(&self, blocks: u64, block_size: u32) -> Option<u64> {
        let new = packed(blocks, block_size);
        // Threads that only read do not take the cache line from each other.
        if self.is_current(blocks, block_size) {
            return None;
        }
        let old = self.capacity.swap(new, Ordering::Relaxed);
        (old != 0 && old != new).then_some(old >> EXPONENT)
    }
}
