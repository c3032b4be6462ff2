//! Memory of the calling process: the engine's own, and what the program names by an address.

use core::ffi::{c_int, c_long, c_void};
use core::ptr;
use core::sync::atomic::{AtomicU8, Ordering};

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
        let anywhere = ptr::null_mut::<u8>();
        // SAFETY: a new mapping; nothing else uses its place.
        let start = unsafe { call(libc::SYS_mmap, (anywhere, length, protection, flags, -1, 0)) };
        start
            .map(|start| Memory { start: ptr::with_exposed_provenance_mut(start), length })
            .map_err(|_| Errno::ENOMEM)
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
        let _ = unsafe { call(libc::SYS_munmap, (self.start, self.length)) };
    }
}

/// The smallest page: memory that is mapped or not as a whole.
pub const PAGE: u64 = 4096;

/// Returns whether memory can be read, now and as long as the program leaves it alone; also false
/// if that is not known, or for more than a page. It costs a fourth of [`copy_in`].
pub fn is_readable(address: u64, length: usize) -> bool {
    // Words that are aligned lie in one page.
    tells(Probe::Reading) && probe_ends(address, length, |byte| probe_readable(byte & !7))
}

/// Returns whether memory of at least 8 bytes can be read and written, as [`is_readable`]. Its
/// first and last 8 bytes are written with the values that they have.
pub fn is_writable(address: u64, length: usize) -> bool {
    let word = |byte: u64| if byte == address { byte } else { byte.wrapping_sub(7) };
    length >= WORD && tells(Probe::Writing) && probe_ends(address, length, |byte| probe_writable(word(byte)))
}

/// What the kernel reads or writes to look at memory, in bytes.
const WORD: usize = size_of::<u64>();

/// Probes the first and, if it lies in another page, the last byte of memory, which is not empty.
#[inline]
fn probe_ends(address: u64, length: usize, probe: impl Fn(u64) -> bool) -> bool {
    if length as u64 > PAGE {
        return false;
    }
    let Some(last) = address.checked_add((length as u64).wrapping_sub(1)) else { return false };
    let page = |address: u64| address & !(PAGE - 1);
    probe(address) && (page(address) == page(last) || probe(last))
}

/// A system call that tests memory.
#[derive(Clone, Copy)]
enum Probe {
    Reading,
    Writing,
}

/// Returns whether the kernel looks at the memory before it finds that the rest of the call is wrong.
/// Linux does; what imitates it may not.
fn tells(probe: Probe) -> bool {
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;
    static TELL: [AtomicU8; 2] = [const { AtomicU8::new(UNKNOWN) }; 2];
    static CONSTANT: u64 = 0;
    /// An address that is never mapped (`vm.mmap_min_addr`).
    const NOWHERE: u64 = 8;
    let known = &TELL[probe as usize];
    match known.load(Ordering::Relaxed) {
        UNKNOWN => {
            let tells = match probe {
                Probe::Reading => is_linux_itself() && !probe_readable(NOWHERE),
                Probe::Writing => !probe_writable((&raw const CONSTANT).expose_provenance() as u64),
            };
            known.store(if tells { YES } else { NO }, Ordering::Relaxed);
            tells
        }
        tells => tells == YES,
    }
}

/// Returns whether Linux answers requests about signals. Valgrind does in its place: it takes signal
/// sets of a wrong size, and complains of [`probe_readable`].
fn is_linux_itself() -> bool {
    let nothing = ptr::null_mut::<u64>();
    // SAFETY: the kernel neither reads nor writes memory, nor does valgrind.
    let done = unsafe { call(libc::SYS_rt_sigaction, (libc::SIGUSR1, nothing, nothing, WORD / 2)) };
    done == Err(Errno::EINVAL)
}

/// Returns whether the kernel can read 8 bytes: sigprocmask(2) reads the signals before it finds that
/// nothing is to be done with them.
fn probe_readable(address: u64) -> bool {
    const NOTHING: c_int = -1;
    let nowhere = ptr::null_mut::<u64>();
    // SAFETY: the kernel neither writes nor changes the signal mask.
    let done = unsafe { call(libc::SYS_rt_sigprocmask, (NOTHING, address, nowhere, WORD)) };
    // Address 0 stands for no signals.
    done == Err(Errno::EINVAL)
}

/// Returns whether the kernel can read and write 8 bytes: sendfile(2) reads the offset before it
/// finds that there are no such descriptors, and writes it back.
fn probe_writable(address: u64) -> bool {
    // SAFETY: the program passed this memory to be written; the kernel writes what it has just read.
    let done = unsafe { call(libc::SYS_sendfile, (-1, -1, address, 0)) };
    // Address 0 stands for no offset.
    address != 0 && done == Err(Errno::EBADF)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Three pages: one that can be written, one that can be read, one that can be neither.
    fn pages() -> Memory {
        let mut memory = Memory::map(3 * PAGE as usize).expect("there is memory");
        memory.as_mut().fill(0x5a);
        for (page, protection) in [(1, libc::PROT_READ), (2, libc::PROT_NONE)] {
            let start = memory.start.wrapping_add(page * PAGE as usize);
            // SAFETY: nothing else uses the mapping.
            unsafe { call(libc::SYS_mprotect, (start, PAGE as usize, protection)) }.expect("it is ours");
        }
        memory
    }

    #[test]
    fn what_can_be_read_and_written() {
        let memory = pages();
        let start = memory.start.expose_provenance() as u64;
        // The address behind the start, the length, whether it can be read and written.
        let expected = [
            (0, 1, true, false),
            (0, 8, true, true),
            (3, 88, true, true),
            (0, 4096, true, true),
            (0, 4097, false, false),
            (4090, 6, true, false),
            (4088, 8, true, true),
            (4088, 9, true, false),
            (4095, 16, true, false),
            (4096, 4096, true, false),
            (8191, 1, true, false),
            (8186, 6, true, false),
            (8191, 2, false, false),
            (8192, 8, false, false),
            (8000, 400, false, false),
        ];
        for (behind, length, can_read, can_write) in expected {
            let found = (is_readable(start + behind, length), is_writable(start + behind, length));
            assert_eq!(found, (can_read, can_write), "{length} bytes at {behind}");
        }
        // SAFETY: the two pages can be read.
        let bytes = unsafe { core::slice::from_raw_parts(memory.start, 2 * PAGE as usize) };
        assert!(bytes.iter().all(|&byte| byte == 0x5a));
    }

    #[test]
    fn addresses_without_memory() {
        for address in [0, 7, 8, u64::MAX - 7, u64::MAX, 1 << 63, 1 << 47] {
            for length in [0, 1, 6, 8, 16, 88, 4096] {
                assert!(!is_readable(address, length), "{length} bytes at {address:#x}");
                assert!(!is_writable(address, length), "{length} bytes at {address:#x}");
            }
        }
    }
}
