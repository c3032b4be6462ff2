//! The process that the library is loaded into, as the engine sees the caller.

use core::cell::Cell;
use core::ffi::c_int;

use disk::abi::SgIoHdr;
use disk::sg_io::is_read_or_write;
use disk::{Errno, Nexuses};
use engine::call::Process;
use engine::sys::{Memory, PAGE, PathBuffer};
use engine::{rights, sys};

/// The process that the library is loaded into; by default no memory is known.
#[derive(Clone, Default)]
pub struct OwnProcess {
    /// The pages that are known to be readable and writable, and the last that are known to be
    /// readable: the first one's address, and how many bytes.
    prepared: Cell<(u64, u64)>,
    readable: Cell<(u64, u64)>,
}

/// Returns the address and length of the pages that hold memory.
fn pages(address: u64, length: usize) -> (u64, u64) {
    let start = address & !(PAGE - 1);
    let behind = address.wrapping_sub(start).saturating_add(length as u64);
    (start, behind.checked_next_multiple_of(PAGE).unwrap_or(0))
}

/// Returns whether pages hold all of some memory.
fn hold((start, size): (u64, u64), address: u64, length: usize) -> bool {
    address.wrapping_sub(start).saturating_add(length as u64) <= size
}

/// Returns whether two parts of memory, each an address and a length, have a byte in common.
fn overlap((one, of_one): (u64, usize), (other, of_other): (u64, usize)) -> bool {
    other.wrapping_sub(one) < of_one as u64 || one.wrapping_sub(other) < of_other as u64
}

impl OwnProcess {
    /// Returns whether memory can be read.
    fn can_read(&self, address: u64, length: usize) -> bool {
        if hold(self.prepared.get(), address, length) || hold(self.readable.get(), address, length) {
            return true;
        }
        let is_readable = sys::is_readable(address, length);
        if is_readable {
            self.readable.set(pages(address, length));
        }
        is_readable
    }

    /// Returns whether memory can be read and written.
    fn can_write(&self, address: u64, length: usize) -> bool {
        if hold(self.prepared.get(), address, length) {
            return true;
        }
        sys::is_writable(address, length)
    }

    /// Returns whether memory can be read and written, and remembers it.
    fn is_prepared(&self, address: u64, length: usize) -> bool {
        let can_write = self.can_write(address, length);
        if can_write {
            self.prepared.set(pages(address, length));
        }
        can_write
    }

    /// Returns whether the header of `SG_IO` at an address has a CDB of READ or WRITE and no list; false also
    /// where that is not known, and where data would be read over the header or the CDB: if only a part can
    /// be read, the command begins again, and must be the same.
    pub fn has_read_or_write(&self, header: u64) -> bool {
        const SIZE: usize = size_of::<SgIoHdr>();
        if !self.is_prepared(header, SIZE) {
            return false;
        }
        // SAFETY: the kernel has just read and written it.
        let SgIoHdr { iovec_count, cmd_len, cmdp, dxfer_len, dxferp, .. } =
            unsafe { (header as *const SgIoHdr).read_unaligned() };
        let length = usize::from(cmd_len).max(1);
        if iovec_count > 0 || !self.can_read(cmdp, length) {
            return false;
        }
        // SAFETY: the kernel has just read it.
        let is_read_or_write = is_read_or_write(unsafe { *(cmdp as *const u8) });
        let data = (dxferp, dxfer_len as usize);
        is_read_or_write && !overlap(data, (header, SIZE)) && !overlap(data, (cmdp, length))
    }
}

// The kernel has looked at the pages during this call, so they were there. Where another thread of
// the program unmaps or protects them before the call ends, an access is a fault in the program, as
// any of its own accesses would be; the kernel's ioctl(2) would say EFAULT (see SECURITY.md).
/// A process knows no nexus but its own.
impl Nexuses for OwnProcess {}

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
        if !self.can_read(address, bytes.len()) {
            return sys::copy_in(address, bytes);
        }
        // SAFETY: one is a buffer of the core, the other is known, as said above.
        unsafe { core::ptr::copy(address as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.can_write(address, bytes.len()) {
            return sys::copy_out(address, bytes);
        }
        // SAFETY: one is a buffer of the core, the other is known, as said above.
        unsafe { core::ptr::copy(bytes.as_ptr(), address as *mut u8, bytes.len()) };
        Ok(())
    }

    fn prepare(&self, address: u64, length: usize) {
        self.is_prepared(address, length);
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
