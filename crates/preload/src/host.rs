//! What this engine lends the core: the memory of its own process and the descriptor of the call.

use core::cell::Cell;
use core::ffi::{c_int, c_ulong, c_void};
use core::fmt::Write;

use disk::host::{Extent, Provisioning, Segment};
use disk::request::{BLKBSZGET, BLKGETSIZE64, BLKIOMIN, BLKPBSZGET, BLKROGET, BLKSECTGET, BLKSSZGET};
use disk::{Capability, Errno, Host, Limit, Medium};
use libc::iovec;

use crate::sys::{File, Lock, Memory, Name};
use crate::{errno, next, sys};

/// One call on a listed device.
pub struct Caller {
    fd: c_int,
    medium: Medium,
    /// How it was opened, as fcntl(F_GETFL) gives it; -1 before it was asked for.
    flags: Cell<c_int>,
    /// A part of the caller's memory that can be read and written: first address and length.
    prepared: Cell<(u64, u64)>,
}

/// What is said of an image file: bytes a physical block, because it lives in pages; the longest transfer in sectors,
/// as SCSI disks usually have it.
const IMAGE_PHYSICAL_BLOCK: u64 = 4096;
const IMAGE_MAX_SECTORS: u64 = 2560;

/// File systems that punch holes in any file (include/uapi/linux/magic.h): ext4, XFS, Btrfs, tmpfs, F2FS.
const PUNCHING: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010];

impl Caller {
    /// A descriptor that is open on a block device or file.
    pub fn new(fd: c_int, medium: Medium) -> Caller {
        Caller { fd, medium, flags: Cell::new(-1), prepared: Cell::new((0, 0)) }
    }

    /// How it was opened. `EBADF` for a descriptor that cannot carry requests (`O_PATH`).
    pub fn flags(&self) -> Result<c_int, Errno> {
        if self.flags.get() == -1 {
            self.flags.set(sys::flags(self.fd)?);
        }
        Some(self.flags.get()).filter(|flags| flags & libc::O_PATH == 0).ok_or(Errno::EBADF)
    }

    fn has(&self, flag: c_int) -> bool {
        self.flags().is_ok_and(|flags| flags & flag != 0)
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
        let (start, length) = self.prepared.get();
        if theirs.checked_sub(start).is_some_and(|at| at.saturating_add(ours.iov_len as u64) <= length) {
            let theirs = theirs as *mut u8;
            let ours_at = ours.iov_base.cast::<u8>();
            // SAFETY: `ours` is a buffer of ours. The kernel has just said that the other memory can be read and written; a
            // caller who takes it away during the call loses it under the kernel's hands too.
            unsafe {
                match direction {
                    Direction::In => core::ptr::copy(theirs, ours_at, ours.iov_len),
                    Direction::Out => core::ptr::copy(ours_at, theirs, ours.iov_len),
                }
            }
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

/// The size of a page, or of a part of one.
const PAGE: u64 = 4096;

/// Which way bytes go.
#[derive(Clone, Copy)]
enum Direction {
    /// From the caller.
    In,
    /// To the caller.
    Out,
}

impl Host for Caller {
    type Scratch = Memory;
    type Guard = Lock;

    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let ours = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        self.transfer(Direction::In, address, ours)
    }

    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let ours = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.transfer(Direction::Out, address, ours)
    }

    fn prepare(&self, address: u64, length: usize) {
        let start = address & !(PAGE - 1);
        let end = address.saturating_add(length as u64).checked_next_multiple_of(PAGE).unwrap_or(start);
        if sys::can_be_written(start, end.saturating_sub(start)) {
            self.prepared.set((start, end.saturating_sub(start)));
        }
    }

    fn capable(&self, capability: Capability) -> bool {
        sys::capabilities() >> (capability as u32) & 1 != 0
    }

    fn writable(&self) -> bool {
        let mode = self.flags().map(|flags| flags & libc::O_ACCMODE);
        matches!(mode, Ok(libc::O_WRONLY | libc::O_RDWR))
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
            Limit::Bytes => self.flags().and_then(|_| Ok(sys::fstat(self.fd)?.size)),
            Limit::LogicalBlock => Ok(512),
            Limit::PhysicalBlock | Limit::MinimumIo | Limit::SoftBlock => Ok(IMAGE_PHYSICAL_BLOCK),
            Limit::MaxSectors => Ok(IMAGE_MAX_SECTORS),
            Limit::ReadOnly => Ok(sys::is_mounted_read_only(self.fd)?.into()),
        }
    }

    fn read_at(&self, offset: u64, into: &[Segment]) -> Result<u64, Errno> {
        self.with_descriptor(|fd| Ok(sys::preadv(fd, into, offset)? as u64))
    }

    fn write_at(&self, offset: u64, from: &[Segment], durable: bool) -> Result<u64, Errno> {
        // Through a descriptor that appends, Linux writes to the end, whatever the offset.
        if self.has(libc::O_APPEND) {
            return Ok(sys::pwritev(self.reopened()?.fd(), from, offset, durable)? as u64);
        }
        self.with_descriptor(|fd| Ok(sys::pwritev(fd, from, offset, durable)? as u64))
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let segment = Segment { address: rest.as_mut_ptr().addr() as u64, length: rest.len() as u64 };
            match self.read_at(offset.saturating_add(done as u64), &[segment]) {
                Ok(0) => return Err(Errno::EIO),
                Ok(more) => done = done.saturating_add(more as usize),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno> {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let segment = Segment { address: rest.as_ptr().addr() as u64, length: rest.len() as u64 };
            match self.write_at(offset.saturating_add(done as u64), &[segment], durable) {
                Ok(0) => return Err(Errno::EIO),
                Ok(more) => done = done.saturating_add(more as usize),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn atomic_unit(&self) -> Option<(u32, u32)> {
        sys::atomic_unit(self.fd)
    }

    fn write_atomic(&self, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno> {
        // Linux does that by O_DIRECT alone.
        let file = File::reopen(self.fd, libc::O_RDWR | libc::O_DIRECT)?;
        loop {
            match sys::write_atomic(&file, from, offset, durable) {
                Err(Errno::EINTR) => {}
                Ok(written) if written < from.len() => return Err(Errno::EIO),
                written => return written.map(drop),
            }
        }
    }

    fn sync(&self) -> Result<(), Errno> {
        sys::sync(self.fd)
    }

    fn provisioning(&self) -> Result<Provisioning, Errno> {
        const THICK: Provisioning = Provisioning { is_thin: false, granularity: 0, alignment: 0 };
        let number =
            |attribute| self.queue(attribute).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Ok(match self.medium {
            Medium::ImageFile => {
                // Elsewhere it is tried: a hole behind the end changes nothing but the file's times.
                let is_thin = PUNCHING.contains(&sys::file_system(self.fd)?) || {
                    let end = sys::fstat(self.fd)?.size.next_multiple_of(IMAGE_PHYSICAL_BLOCK);
                    self.discard(end, IMAGE_PHYSICAL_BLOCK).is_ok()
                };
                Provisioning { is_thin, granularity: IMAGE_PHYSICAL_BLOCK as u32, alignment: 0 }
            }
            Medium::BlockDevice => match (number("write_zeroes_max_bytes"), number("discard_max_bytes")) {
                (Ok(1..), Ok(1..)) => Provisioning {
                    is_thin: true,
                    granularity: number("discard_granularity").unwrap_or(0),
                    alignment: 0,
                },
                _ => THICK,
            },
        })
    }

    fn extent(&self, offset: u64) -> Result<Extent, Errno> {
        const ALL: Extent = Extent { is_mapped: true, length: u64::MAX };
        if self.medium == Medium::BlockDevice {
            return Ok(ALL);
        }
        // A descriptor of our own: lseek(2) moves what the caller reads next.
        let file = File::reopen(self.fd, libc::O_RDONLY)?;
        match sys::seek(&file, offset, libc::SEEK_DATA) {
            Ok(data) if data > offset => Ok(Extent { is_mapped: false, length: data.saturating_sub(offset) }),
            Ok(_) => {
                let hole = sys::seek(&file, offset, libc::SEEK_HOLE).unwrap_or(u64::MAX);
                Ok(Extent { is_mapped: true, length: hole.saturating_sub(offset) })
            }
            // No data any more.
            Err(Errno::ENXIO) => Ok(Extent { is_mapped: false, length: u64::MAX }),
            Err(_) => Ok(ALL),
        }
    }

    fn scratch(&self, length: usize) -> Result<Memory, Errno> {
        Memory::map(length)
    }

    fn lock(&self) -> Result<Lock, Errno> {
        if self.medium == Medium::BlockDevice {
            // A device can have several nodes, each an inode with locks of its own, but one place in sysfs.
            let (major, minor) = sys::fstat(self.fd)?.number;
            let mut name = Name::new();
            let _ = write!(name, "/sys/dev/block/{major}:{minor}/dev");
            if let Ok(file) = File::open(name.as_c_str()?, libc::O_RDONLY | libc::O_CLOEXEC) {
                return Lock::file(file);
            }
        }
        Lock::byte(self.reopened()?, LOCK)
    }

    fn milliseconds(&self) -> u64 {
        sys::milliseconds()
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.fallocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, length)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let flags = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        match self.fallocate(flags, offset, length) {
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

/// Where the lock that keeps other COMPARE AND WRITE out stands in an image file: far behind what other programs lock (QEMU: bytes 100
/// to 203).
const LOCK: i64 = 1 << 62;

impl Caller {
    /// Writes zeros.
    fn write_zeros(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let mut zeros = Memory::map(usize::try_from(length).unwrap_or(usize::MAX).min(65536))?;
        let mut done = 0;
        while done < length {
            let left = usize::try_from(length - done).unwrap_or(usize::MAX);
            let part = zeros.as_mut();
            let part = part.get(..left).unwrap_or(part);
            self.write(offset.saturating_add(done), part, false)?;
            done = done.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    /// Does something with the caller's descriptor, and where that is not open for it with one that is: a caller who may send
    /// any command has it open for reading alone.
    fn with_descriptor<T>(&self, act: impl Fn(c_int) -> Result<T, Errno>) -> Result<T, Errno> {
        match act(self.fd) {
            Err(Errno::EBADF) => act(self.reopened()?.fd()),
            result => result,
        }
    }

    fn reopened(&self) -> Result<File, Errno> {
        File::reopen(self.fd, libc::O_RDWR | self.flags()? & libc::O_DIRECT)
    }

    fn fallocate(&self, mode: c_int, offset: u64, length: u64) -> Result<(), Errno> {
        self.with_descriptor(|fd| sys::fallocate(fd, mode, offset, length))
    }

    /// A number of the block device's queue (Documentation/ABI/stable/sysfs-block); a partition has its disk's.
    fn queue(&self, attribute: &str) -> Result<u64, Errno> {
        let (major, minor) = sys::fstat(self.fd)?.number;
        let read = |up: &str| {
            let mut name = Name::new();
            let _ = write!(name, "/sys/dev/block/{major}:{minor}/{up}queue/{attribute}");
            let mut text = [0; 24];
            let length = File::open(name.as_c_str()?, libc::O_RDONLY | libc::O_CLOEXEC)?.read(&mut text)?;
            let digits = text.get(..length).unwrap_or_default().trim_ascii();
            let number = digits.iter().try_fold(0u64, |sum, &digit| {
                sum.checked_mul(10)?.checked_add(char::from(digit).to_digit(10)?.into())
            });
            number.ok_or(Errno::EINVAL)
        };
        read("").or_else(|_| read("../"))
    }
}
