//! What this engine lends the core: the memory of its own process and the descriptor of the call.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_ulong, c_void};

use disk::request::{BLKBSZGET, BLKGETSIZE64, BLKIOMIN, BLKPBSZGET, BLKROGET, BLKSECTGET, BLKSSZGET};
use disk::{Capability, Errno, Host, Limit, Medium};
use libc::iovec;

use crate::{errno, next, sys};

/// One call on a listed device.
pub struct Caller {
    fd: c_int,
    medium: Medium,
    /// How it was opened, as fcntl(F_GETFL) gives it.
    flags: c_int,
}

/// What is said of an image file: bytes a physical block, because it lives in pages; the longest transfer in sectors,
/// as SCSI disks usually have it.
const IMAGE_PHYSICAL_BLOCK: u64 = 4096;
const IMAGE_MAX_SECTORS: u64 = 2560;

impl Caller {
    /// A descriptor that is open on a block device or file; `None` for one that cannot carry requests (`O_PATH`).
    pub fn new(fd: c_int, medium: Medium) -> Option<Caller> {
        let flags = sys::flags(fd).ok().filter(|flags| flags & libc::O_PATH == 0)?;
        Some(Caller { fd, medium, flags })
    }

    /// The descriptor.
    pub fn fd(&self) -> c_int {
        self.fd
    }

    /// Asks the kernel for a number of 2, 4 or 8 bytes.
    fn ask<const N: usize>(&self, request: u32) -> Result<[u8; N], Errno> {
        let mut value = [0u8; N];
        match next::kernel_ioctl(self.fd, c_ulong::from(request), value.as_mut_ptr().cast()) {
            -1 => Err(Errno(errno::get())),
            _ => Ok(value),
        }
    }

    fn ask_int(&self, request: u32) -> Result<u64, Errno> {
        Ok(u32::from_ne_bytes(self.ask(request)?).into())
    }

    /// Moves bytes between a buffer of ours and the caller's memory: unlike a copy, that fails where an address is bad.
    fn transfer(&self, direction: Direction, theirs: u64, ours: iovec) -> Result<(), Errno> {
        if ours.iov_len == 0 {
            return Ok(());
        }
        let theirs = iovec { iov_base: theirs as *mut c_void, iov_len: ours.iov_len };
        // The thread, not the process: that has no memory any more when its first thread has ended.
        // SAFETY: `ours` is a buffer of ours. The kernel checks the other address; what stands there the caller asked
        // to be read or written, as by the kernel's ioctl(2).
        let moved = unsafe {
            match direction {
                Direction::In => {
                    libc::process_vm_readv(sys::thread(), &raw const ours, 1, &raw const theirs, 1, 0)
                }
                Direction::Out => {
                    libc::process_vm_writev(sys::thread(), &raw const ours, 1, &raw const theirs, 1, 0)
                }
            }
        };
        match usize::try_from(moved) {
            Ok(moved) if moved == ours.iov_len => return Ok(()),
            Ok(_) => return Err(Errno::EFAULT),
            Err(_) => {}
        }
        match Errno(errno::get()) {
            // A kernel or sandbox without the call.
            Errno::ENOSYS | Errno::EPERM => match direction {
                Direction::In => sys::move_bytes(theirs.iov_base, ours.iov_base, ours.iov_len),
                Direction::Out => sys::move_bytes(ours.iov_base, theirs.iov_base, ours.iov_len),
            },
            errno => Err(errno),
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy)]
enum Direction {
    /// From the caller.
    In,
    /// To the caller.
    Out,
}

impl Host for Caller {
    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let ours = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        self.transfer(Direction::In, address, ours)
    }

    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let ours = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.transfer(Direction::Out, address, ours)
    }

    fn capable(&self, capability: Capability) -> bool {
        sys::capabilities() >> (capability as u32) & 1 != 0
    }

    fn writable(&self) -> bool {
        matches!(self.flags & libc::O_ACCMODE, libc::O_WRONLY | libc::O_RDWR)
    }

    fn medium(&self) -> Medium {
        self.medium
    }

    fn limit(&self, limit: Limit) -> Result<u64, Errno> {
        let block_device = self.medium == Medium::BlockDevice;
        match limit {
            Limit::Bytes if block_device => Ok(u64::from_ne_bytes(self.ask(BLKGETSIZE64)?)),
            Limit::LogicalBlock if block_device => self.ask_int(BLKSSZGET),
            Limit::SoftBlock if block_device => self.ask_int(BLKBSZGET),
            Limit::PhysicalBlock if block_device => self.ask_int(BLKPBSZGET),
            Limit::MinimumIo if block_device => self.ask_int(BLKIOMIN),
            Limit::MaxSectors if block_device => Ok(u16::from_ne_bytes(self.ask(BLKSECTGET)?).into()),
            Limit::ReadOnly if block_device => self.ask_int(BLKROGET),
            Limit::Bytes => Ok(sys::fstat(self.fd)?.size),
            Limit::LogicalBlock => Ok(512),
            Limit::PhysicalBlock | Limit::MinimumIo | Limit::SoftBlock => Ok(IMAGE_PHYSICAL_BLOCK),
            Limit::MaxSectors => Ok(IMAGE_MAX_SECTORS),
            Limit::ReadOnly => Ok(sys::is_mounted_read_only(self.fd)?.into()),
        }
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        sys::fallocate(self.fd, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, length)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let flags = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        match sys::fallocate(self.fd, flags, offset, length) {
            // Not every file system can keep the space of what it makes zero (tmpfs).
            Err(Errno::EOPNOTSUPP) => match self.discard(offset, length) {
                Err(Errno::EOPNOTSUPP) => self.write_zeros(offset, length),
                result => result,
            },
            result => result,
        }
    }

    fn flush(&self) -> Result<(), Errno> {
        sys::flush(self.fd)
    }
}

/// Zeros to write, at an address that descriptors opened with `O_DIRECT` accept too. A cell, so that they take no space
/// in the file.
#[repr(align(4096))]
struct Zeros(UnsafeCell<[u8; 65536]>);

// SAFETY: nobody writes to it.
unsafe impl Sync for Zeros {}

static ZEROS: Zeros = Zeros(UnsafeCell::new([0; 65536]));

impl Caller {
    fn write_zeros(&self, offset: u64, length: u64) -> Result<(), Errno> {
        // Linux would append them.
        if self.flags & libc::O_APPEND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        // SAFETY: nobody writes to it.
        let zeros = unsafe { &*ZEROS.0.get() };
        let mut done = 0;
        while done < length {
            let left = usize::try_from(length - done).unwrap_or(usize::MAX);
            let part = zeros.get(..left).unwrap_or(zeros);
            match sys::pwrite(self.fd, part, offset.saturating_add(done)) {
                Ok(0) => return Err(Errno::EIO),
                Ok(written) => done = done.saturating_add(written as u64),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}
