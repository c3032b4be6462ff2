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
        // Commands of the nexus at the same time are told once, also if one of them has an older number.
        let is_later = |old: u32| old == 0 || new.wrapping_sub(old) as i32 > 0;
        let told = self
            .mode_changes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| is_later(old).then_some(new));
        told.is_ok_and(|old| old != 0)
    }

    /// Skips the change with this number, which the nexus has made itself. If others have changed mode
    /// parameters before it and the nexus has not been told, it still will be.
    pub(crate) fn skip_mode_change(&self, number: u32) {
        let told = (number, number.wrapping_add(1));
        let _ = self.mode_changes.compare_exchange(told.0, told.1, Ordering::Relaxed, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_mode_parameters_is_told_once() {
        let nexus = Nexus::default();
        assert!(!nexus.update_mode_changes(5));
        assert!(nexus.update_mode_changes(7));
        // A command that has read the number before.
        assert!(!nexus.update_mode_changes(6));
        assert!(!nexus.update_mode_changes(7));
    }

    #[test]
    fn the_changes_of_others_are_told_although_the_nexus_makes_one_too() {
        let nexus = Nexus::default();
        assert!(!nexus.update_mode_changes(0));
        nexus.skip_mode_change(1);
        assert!(!nexus.update_mode_changes(1));
        // Number 2 is of another nexus.
        nexus.skip_mode_change(3);
        assert!(nexus.update_mode_changes(3));
        assert!(!nexus.update_mode_changes(3));
    }
}
