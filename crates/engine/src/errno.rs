//! The calling thread's `errno`.

use core::ffi::c_int;

fn location() -> *mut c_int {
    // SAFETY: the C library gives the address of an int that belongs to this thread.
    unsafe { libc::__errno_location() }
}

/// Returns `errno`.
#[inline]
pub fn get() -> c_int {
    // SAFETY: an int of this thread.
    unsafe { *location() }
}

/// Returns its address, which no other thread of the process has.
pub fn address() -> usize {
    location().addr()
}

/// Sets `errno`.
#[inline]
pub fn set(value: c_int) {
    // SAFETY: an int of this thread.
    unsafe { *location() = value }
}

/// Calls `act`, then restores `errno`.
#[inline]
pub fn preserving<T>(act: impl FnOnce() -> T) -> T {
    let before = get();
    let value = act();
    set(before);
    value
}
