//! The calling thread's `errno`.

use core::ffi::c_int;

/// Its value.
pub fn get() -> c_int {
    // SAFETY: the C library gives the address of an int that is this thread's.
    unsafe { *libc::__errno_location() }
}

/// Its address, which no other thread of the process has.
pub fn address() -> usize {
    // SAFETY: as above.
    unsafe { libc::__errno_location() }.addr()
}

/// Gives it a value.
pub fn set(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value }
}

/// Does something that may change it, and restores it.
pub fn kept<T>(what: impl FnOnce() -> T) -> T {
    let before = get();
    let value = what();
    set(before);
    value
}
