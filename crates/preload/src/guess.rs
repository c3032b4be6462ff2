//! What a descriptor is probably open on, so that a command asks what it needs to know before the
//! file is looked at. A wrong guess costs time alone: nothing is answered and no data moves before
//! the look, and the questions change nothing, whatever the descriptor is open on. A guess is made
//! when `SG_IO` succeeds, which it does not with `O_PATH`, and forgotten when the C library returns
//! the descriptor anew.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU8, Ordering};

use disk::Medium;

/// The kind of listed device that each of the first descriptors was open on the last time.
static MEDIA: [AtomicU8; 1024] = [const { AtomicU8::new(NONE) }; 1024];

const NONE: u8 = 0;
const BLOCK_DEVICE: u8 = 1;
const IMAGE_FILE: u8 = 2;

fn place(fd: c_int) -> Option<&'static AtomicU8> {
    MEDIA.get(usize::try_from(fd).ok()?)
}

/// Returns the kind of listed device that a descriptor is probably open on.
#[inline]
pub fn medium(fd: c_int) -> Option<Medium> {
    match place(fd)?.load(Ordering::Relaxed) {
        BLOCK_DEVICE => Some(Medium::BlockDevice),
        IMAGE_FILE => Some(Medium::ImageFile),
        _ => None,
    }
}

/// Remembers what a descriptor has turned out to be open on; `None`: on nothing that is listed.
#[inline]
pub fn remember(fd: c_int, medium: Option<Medium>) {
    let new = match medium {
        Some(Medium::BlockDevice) => BLOCK_DEVICE,
        Some(Medium::ImageFile) => IMAGE_FILE,
        None => NONE,
    };
    // Threads do not take the cache line from each other.
    if let Some(place) = place(fd).filter(|place| place.load(Ordering::Relaxed) != new) {
        place.store(new, Ordering::Relaxed);
    }
}
