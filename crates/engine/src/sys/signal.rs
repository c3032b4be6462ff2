//! Signals of the calling thread.

use core::ffi::c_int;
use core::ptr;

use super::call::call;

/// A set of signals as the kernel has it.
type SignalSet = u64;

const SIZE: usize = size_of::<SignalSet>();

fn set_mask(how: c_int, set: SignalSet) -> SignalSet {
    let mut before: SignalSet = 0;
    // SAFETY: the kernel reads one set and writes the other; both have the size that is given.
    let _ = unsafe { call(libc::SYS_rt_sigprocmask, (how, &raw const set, &raw mut before, SIZE)) };
    before
}

/// Does something while no signal is handled in the calling thread.
pub fn without_signals<T>(act: impl FnOnce() -> T) -> T {
    let before = set_mask(libc::SIG_BLOCK, SignalSet::MAX);
    let done = act();
    set_mask(libc::SIG_SETMASK, before);
    done
}

/// Does something that writes a message, and takes the signals that this raises: SIGPIPE and
/// SIGXFSZ.
pub fn without_write_signals(act: impl FnOnce()) {
    const RAISED: SignalSet = 1 << (libc::SIGPIPE - 1) | 1 << (libc::SIGXFSZ - 1);
    let pending = || {
        let mut pending: SignalSet = 0;
        // SAFETY: the kernel writes a set of the size that is given.
        let _ = unsafe { call(libc::SYS_rt_sigpending, (&raw mut pending, SIZE)) };
        pending & RAISED
    };
    let before = set_mask(libc::SIG_BLOCK, RAISED);
    let old = pending();
    act();
    let set = pending() & !old;
    if set != 0 {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let nowhere = ptr::null_mut::<libc::siginfo_t>();
        // SAFETY: the kernel reads a set of the size that is given and a `struct timespec`.
        let _ =
            unsafe { call(libc::SYS_rt_sigtimedwait, (&raw const set, nowhere, &raw const at_once, SIZE)) };
    }
    set_mask(libc::SIG_SETMASK, before);
}
