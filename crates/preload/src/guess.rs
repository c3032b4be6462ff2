//! What a descriptor is probably open on, so that READ and WRITE look at its file only once, right
//! before the system call that moves the data. A wrong guess costs time alone: nothing is answered and
//! no data moves before that look, and what is asked before changes nothing, whatever the descriptor
//! is open on. A guess is made when `SG_IO` succeeds, and forgotten when the C library returns the
//! descriptor anew.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::registry::{self, Hit};

/// What one descriptor was open on the last time. Both parts are compared with what the look finds, so
/// that they need not be of one moment.
struct Guess {
    /// The place in the table of devices, and 1; 0: none.
    slot: AtomicU32,
    /// The size of a file in bytes; 0: it is none.
    size: AtomicU64,
}

/// Those of the first descriptors.
static GUESSES: [Guess; 1024] = [const { Guess { slot: AtomicU32::new(0), size: AtomicU64::new(0) } }; 1024];

fn of(fd: c_int) -> Option<&'static Guess> {
    GUESSES.get(usize::try_from(fd).ok()?)
}

/// Returns whether there is a guess, and whether it is a file.
#[inline]
pub fn kind(fd: c_int) -> (bool, bool) {
    of(fd).map_or((false, false), |guess| {
        (guess.slot.load(Ordering::Relaxed) != 0, guess.size.load(Ordering::Relaxed) != 0)
    })
}

/// Returns the listed device that a descriptor is probably open on, and when its inode was made.
#[inline]
pub fn device(fd: c_int) -> Option<(Hit, u64)> {
    let guess = of(fd)?;
    let slot = guess.slot.load(Ordering::Acquire).checked_sub(1)?;
    registry::assumed(slot, guess.size.load(Ordering::Relaxed))
}

/// Remembers what a descriptor has turned out to be open on.
pub fn remember(fd: c_int, hit: &Hit) {
    if let (Some(guess), Some((slot, size))) = (of(fd), hit.key()) {
        // Threads do not take the cache line from each other.
        if guess.size.load(Ordering::Relaxed) != size {
            guess.size.store(size, Ordering::Relaxed);
        }
        if guess.slot.load(Ordering::Relaxed) != slot.wrapping_add(1) {
            guess.slot.store(slot.wrapping_add(1), Ordering::Release);
        }
    }
}

/// Forgets it.
#[inline]
pub fn forget(fd: c_int) {
    if let Some(guess) = of(fd).filter(|guess| guess.slot.load(Ordering::Relaxed) != 0) {
        guess.slot.store(0, Ordering::Relaxed);
    }
}
