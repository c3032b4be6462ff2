//! The state of an I_T nexus: one caller, or group of callers, of a logical unit.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::settings::{EXPONENT, exponent};

/// The capacity that a nexus was last told. A unit attention is pending while the device has
/// another one.
#[derive(Debug, Default)]
pub struct Nexus {
    /// As [`packed`]; 0 at first.
    capacity: AtomicU64,
}

/// Returns the number of blocks, below 2^59, and the exponent of their size in one word.
fn packed(blocks: u64, block_size: u32) -> u64 {
    blocks << EXPONENT | exponent(block_size)
}

impl Nexus {
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
