//! What a descriptor is probably open on, so that READ and WRITE look at its file only once, right
//! before the system call that moves the data. A wrong guess costs time alone: nothing is answered and
//! no data moves before that look, and what is asked before changes nothing, whatever the descriptor
//! is open on. A guess is made when `SG_IO` succeeds, and forgotten when open(2), dup(2), fcntl(2) or one
//! of their kind in the C library returns the descriptor anew; where a stream, a socket or a received
//! descriptor takes its number, the look tells.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::registry::{self, Hit};

/// What one descriptor was open on the last time. What the look finds is compared with both parts, so that
/// they need not be of one moment.
struct Guess {
    /// The index of its slot in the table of devices, and 1; 0: none.
    slot: AtomicU32,
    /// The size of a file in bytes; 0: it is none.
    size: AtomicU64,
}

/// The guesses for descriptors 0 to 1023.
static GUESSES: [Guess; 1024] = [const { Guess { slot: AtomicU32::new(0), size: AtomicU64::new(0) } }; 1024];

fn of(fd: c_int) -> Option<&'static Guess> {
    GUESSES.get(usize::try_from(fd).ok()?)
}

/// Returns whether a descriptor is probably open on a file, if there is a guess.
#[inline]
pub fn is_file(fd: c_int) -> Option<bool> {
    let guess = of(fd).filter(|guess| guess.slot.load(Ordering::Relaxed) != 0)?;
    Some(guess.size.load(Ordering::Relaxed) != 0)
}

/// Returns the listed device that a descriptor is probably open on, and when its inode was made.
#[inline]
pub fn device(fd: c_int) -> Option<(Hit, u64)> {
    let guess = of(fd)?;
    let slot = guess.slot.load(Ordering::Relaxed).checked_sub(1)?;
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
            guess.slot.store(slot.wrapping_add(1), Ordering::Relaxed);
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
