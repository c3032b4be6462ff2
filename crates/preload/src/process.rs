//! The process that the library is loaded into, as the engine sees the caller.

use core::cell::Cell;
use core::ffi::c_int;

use disk::Errno;
use engine::call::Process;
use engine::sys::{Memory, PathBuffer};
use engine::{rights, sys};

/// The process that the library is loaded into.
pub struct OwnProcess {
    /// The part of its memory that is known to be readable and writable: address and length.
    prepared: Cell<(u64, u64)>,
}

/// The size of a page, or of a part of one.
const PAGE: u64 = 4096;

impl OwnProcess {
    /// Returns the process with no memory prepared.
    pub fn new() -> OwnProcess {
        OwnProcess { prepared: Cell::new((0, 0)) }
    }

    /// Returns an address if its memory is prepared.
    fn prepared(&self, address: u64, length: usize) -> Option<*mut u8> {
        let (start, prepared) = self.prepared.get();
        let at = address.checked_sub(start)?;
        (at.saturating_add(length as u64) <= prepared).then_some(address as *mut u8)
    }
}

// The kernel has written to the pages of memory that is prepared during this call, so they were
// there and writable. Where another thread of the program unmaps or protects them before the call
// ends, an access is a fault in the program, as any of its own accesses would be; the kernel's
// ioctl(2) would say EFAULT (see SECURITY.md).
impl Process for OwnProcess {
    type BounceBuffer = Memory;

    const IS_OWN: bool = true;

    fn bounce_buffer(&self, length: usize) -> Result<Memory, Errno> {
        Memory::map(length)
    }

    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(theirs) = self.prepared(address, bytes.len()) else { return sys::copy_in(address, bytes) };
        // SAFETY: one is a buffer of the core, the other is prepared, as said above.
        unsafe { core::ptr::copy(theirs, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(theirs) = self.prepared(address, bytes.len()) else { return sys::copy_out(address, bytes) };
        // SAFETY: one is a buffer of the core, the other is prepared, as said above.
        unsafe { core::ptr::copy(bytes.as_ptr(), theirs, bytes.len()) };
        Ok(())
    }

    fn prepare(&self, address: u64, length: usize) {
        let length = length as u64;
        let start = address & !(PAGE - 1);
        let in_one_page = address.wrapping_sub(start).saturating_add(length) <= PAGE;
        if in_one_page && sys::probe_word_writable(address) {
            self.prepared.set((start, PAGE));
            return;
        }
        let end = address.saturating_add(length).checked_next_multiple_of(PAGE).unwrap_or(start);
        if sys::populate_writable(start, end.saturating_sub(start)) {
            self.prepared.set((start, end.saturating_sub(start)));
        }
    }

    fn capabilities(&self) -> u64 {
        sys::capabilities()
    }

    fn is_in_initial_user_namespace(&self) -> bool {
        rights::is_in_initial_user_namespace()
    }
    fn file_size_limit(&self) -> u64 {
        sys::file_size_limit()
    }

    fn number(&self) -> c_int {
        sys::process()
    }

    fn lock_report(&self, fd: c_int) -> Result<PathBuffer, Errno> {
        // The thread's table: a POSIX lock is shown only there (fs/locks.c, show_fd_locks).
        PathBuffer::format(format_args!("/proc/self/task/{}/fdinfo/{fd}", sys::thread()))
    }
}
