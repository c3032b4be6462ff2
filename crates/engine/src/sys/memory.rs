//! Memory of the calling process: the engine's own, and what the program names by an address.

use core::ffi::{c_int, c_long, c_void};
use core::ptr;

use disk::Errno;
use libc::iovec;

use super::call::call;
use super::{File, thread};

/// Memory that is mapped until it is dropped: zeroed, and aligned to a page.
pub struct Memory {
    start: *mut u8,
    length: usize,
}

impl Memory {
    /// Maps at least this many bytes.
    pub fn map(length: usize) -> Result<Memory, Errno> {
        let length = length.max(1);
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping; nothing else uses its place.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            Err(Errno::ENOMEM)
        } else {
            Ok(Memory { start: start.cast(), length })
        }
    }
}

impl AsMut<[u8]> for Memory {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping belongs to this value alone.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: nothing uses the mapping any more.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// Returns whether the page of an address can be read and written, now and as long as the program
/// leaves it alone: the kernel adds 0 to the int there (futex(2), `FUTEX_WAKE_OP`), which costs a
/// third of [`populate_writable`].
pub fn probe_word_writable(address: u64) -> bool {
    /// `FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_LT, -2048)`
    const ADD_NOTHING: u32 = 1 << 28 | 2 << 24 | 0x800;
    const NOBODY: c_long = 0;
    let operation = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
    let nobody_waits_here: u32 = 0;
    // SAFETY: the kernel changes nothing of what stands at the address; nobody waits at the other.
    let done = unsafe {
        let here = &raw const nobody_waits_here;
        call(libc::SYS_futex, (here, operation, NOBODY, NOBODY, address, ADD_NOTHING))
    };
    done.is_ok()
}

/// Returns whether pages can be read and written, now and as long as the program leaves them alone
/// (madvise(2), `MADV_POPULATE_WRITE`; Linux 5.14).
pub fn populate_writable(start: u64, length: u64) -> bool {
    const MADV_POPULATE_WRITE: c_int = 23;
    // SAFETY: it changes nothing of what the pages hold.
    unsafe { call(libc::SYS_madvise, (start, length, MADV_POPULATE_WRITE)) }.is_ok()
}

/// Copies from an address that the program gave; `EFAULT` where it is bad.
pub fn copy_in(address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
    let (ours, length) = (bytes.as_mut_ptr().cast::<c_void>(), bytes.len());
    let theirs = address as *mut c_void;
    match by_kernel(libc::SYS_process_vm_readv, ours, theirs, length) {
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => by_pipe(theirs, ours, length),
        copied => copied,
    }
}

/// Copies to an address that the program gave; `EFAULT` where it is bad.
pub fn copy_out(address: u64, bytes: &[u8]) -> Result<(), Errno> {
    let (ours, length) = (bytes.as_ptr().cast_mut().cast::<c_void>(), bytes.len());
    let theirs = address as *mut c_void;
    match by_kernel(libc::SYS_process_vm_writev, ours, theirs, length) {
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => by_pipe(ours, theirs, length),
        copied => copied,
    }
}

#[inline(always)]
fn by_kernel(number: c_long, ours: *mut c_void, theirs: *mut c_void, length: usize) -> Result<(), Errno> {
    let [ours, theirs] = [ours, theirs].map(|iov_base| iovec { iov_base, iov_len: length });
    // The thread, not the process: that has no memory any more when its first thread has ended.
    // SAFETY: `ours` is a buffer of this module's caller; what stands at the other address the
    // program asked to be read or written, as by the kernel's ioctl(2).
    let copied = unsafe { call(number, (thread(), &raw const ours, 1, &raw const theirs, 1, 0)) }?;
    if copied == length { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies through a pipe, for a kernel or sandbox without process_vm_readv(2): the kernel looks at
/// both addresses.
fn by_pipe(from: *const c_void, to: *mut c_void, length: usize) -> Result<(), Errno> {
    let mut pipe = [0 as c_int; 2];
    // SAFETY: the kernel writes two descriptors.
    unsafe { call(libc::SYS_pipe2, (pipe.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK)) }?;
    let [reader, writer] = pipe.map(File::from_fd);
    // SAFETY: one address is a buffer, the other the program's, as in `by_kernel`.
    let (written, read) = unsafe {
        let written = call(libc::SYS_write, (writer.fd(), from, length))?;
        (written, call(libc::SYS_read, (reader.fd(), to, length))?)
    };
    if (written, read) == (length, length) { Ok(()) } else { Err(Errno::EFAULT) }
}
