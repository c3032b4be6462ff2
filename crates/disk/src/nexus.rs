//! What belongs to an I_T nexus: one caller, or one group of callers, of a logical unit.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::settings::{EXPONENT, exponent};

/// The capacity that a nexus has seen last. A unit attention is pending while that is not the
/// device's.
#[derive(Debug, Default)]
pub struct Nexus {
    /// As [`packed`]; 0 before any.
    capacity: AtomicU64,
}

/// The number of logical blocks, below 2^59, and the exponent of their size.
fn packed(blocks: u64, block: u32) -> u64 {
    blocks << EXPONENT | exponent(block)
}

impl Nexus {
    /// A nexus that has seen no capacity.
    pub const fn new() -> Nexus {
        Nexus { capacity: AtomicU64::new(0) }
    }

    /// Remembers the capacity, in logical blocks of this size, and returns the number of logical blocks
    /// before if that or their size was another.
    pub(crate) fn update_capacity(&self, blocks: u64, block: u32) -> Option<u64> {
        let new = packed(blocks, block);
        // Threads that only read do not take the cache line from each other.
        if self.capacity.load(Ordering::Relaxed) == new {
            return None;
        }
        let old = self.capacity.swap(new, Ordering::Relaxed);
        (old != 0 && old != new).then_some(old >> EXPONENT)
    }
}
