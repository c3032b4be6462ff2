//! The backing device of one call, as the core sees it.

use core::ffi::{c_int, c_ulong};

use disk::host::{Extent, Provisioning, Segment, UpdateError};
use disk::request::{BLKBSZGET, BLKGETSIZE64, BLKIOMIN, BLKPBSZGET, BLKROGET, BLKSECTGET, BLKSSZGET};
use disk::{Backing, Errno, Medium};

use crate::call::{Call, Process};
use crate::exclusion::{self, OwnLocks};
use crate::sys::{self, File, Memory};
use crate::task;

/// The limits of an image file: bytes per physical block, a page; the longest transfer in sectors,
/// as for most SCSI disks.
const IMAGE_PHYSICAL_BLOCK: u32 = 4096;
const IMAGE_MAX_SECTORS: u16 = 2560;

/// The file systems that punch holes in any file (include/uapi/linux/magic.h): ext4, XFS, Btrfs,
/// tmpfs, F2FS.
const HOLE_PUNCHING: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010];

impl<P: Process> Backing for Call<P> {
    type BounceBuffer = P::BounceBuffer;

    fn medium(&self) -> Medium {
        self.medium
    }

    fn identity(&self) -> u64 {
        match self.medium {
            Medium::BlockDevice => self.status.number.word(),
            Medium::ImageFile => self.status.device.word() ^ self.status.inode.rotate_left(32),
        }
    }

    fn bytes(&self) -> Result<u64, Errno> {
        match self.medium {
            Medium::BlockDevice => self.query(BLKGETSIZE64).map(u64::from_ne_bytes),
            Medium::ImageFile => self.file_size(),
        }
    }

    fn logical_block(&self) -> Result<u32, Errno> {
        self.query_int(BLKSSZGET, 512)
    }

    fn physical_block(&self) -> Result<u32, Errno> {
        self.query_int(BLKPBSZGET, IMAGE_PHYSICAL_BLOCK)
    }

    fn soft_block(&self) -> Result<u32, Errno> {
        self.query_int(BLKBSZGET, IMAGE_PHYSICAL_BLOCK)
    }

    fn minimum_io(&self) -> Result<u32, Errno> {
        self.query_int(BLKIOMIN, IMAGE_PHYSICAL_BLOCK)
    }

    fn max_sectors(&self) -> Result<u16, Errno> {
        match self.medium {
            Medium::BlockDevice => self.query(BLKSECTGET).map(u16::from_ne_bytes),
            Medium::ImageFile => Ok(IMAGE_MAX_SECTORS),
        }
    }

    fn is_read_only(&self) -> Result<bool, Errno> {
        match self.medium {
            Medium::BlockDevice => Ok(u32::from_ne_bytes(self.query(BLKROGET)?) != 0),
            Medium::ImageFile => sys::is_mounted_read_only(self.fd),
        }
    }

    fn read_at(&self, offset: u64, into: &[Segment]) -> Result<Option<u64>, Errno> {
        if P::IS_OWN { or_bounce(self.read_once(offset, into)) } else { Ok(None) }
    }

    fn write_at(&self, offset: u64, from: &[Segment], durable: bool) -> Result<Option<u64>, Errno> {
        if P::IS_OWN { or_bounce(self.write_once(offset, from, durable)) } else { Ok(None) }
    }

    fn read_directly(&self, offset: u64, into: Segment) -> Result<Option<u64>, Errno> {
        if !P::IS_OWN {
            return Ok(None);
        }
        match self.checked_fd() {
            Ok(fd) => or_another_way(sys::preadv(fd, &[into], offset)),
            Err(_) => Ok(None),
        }
    }

    fn write_directly(&self, offset: u64, from: Segment, durable: bool) -> Result<Option<u64>, Errno> {
        let end = offset.saturating_add(from.length);
        if !P::IS_OWN || self.has_flag(libc::O_APPEND) || end > self.size_limit() {
            return Ok(None);
        }
        match self.checked_fd() {
            Ok(fd) => or_another_way(sys::pwritev(fd, &[from], offset, durable)),
            Err(_) => Ok(None),
        }
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        // Not for writing where the caller's descriptor is not.
        let mode = if self.mode()? == libc::O_RDONLY { libc::O_RDONLY } else { libc::O_RDWR };
        transfer_all(offset, Segment::of_mut(into), |at, rest| {
            self.buffered(
                mode,
                || self.read_once(at, rest),
                |file| Ok(sys::preadv(file.fd(), rest, at)? as u64),
            )
        })
    }

    fn write(&self, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno> {
        transfer_all(offset, Segment::of(from), |at, rest| {
            self.buffered(
                libc::O_RDWR,
                || self.write_once(at, rest, durable),
                |file| Ok(sys::pwritev(file.fd(), rest, at, durable)? as u64),
            )
        })
    }

    fn atomic_unit(&self) -> Option<(u32, u32)> {
        sys::atomic_unit(self.fd)
    }

    fn write_atomic(&self, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno> {
        // Linux requires O_DIRECT.
        self.reopened_as(libc::O_RDWR | libc::O_DIRECT, |file| {
            loop {
                match sys::write_atomic(file, from, offset, durable) {
                    Err(Errno::EINTR) => {}
                    Ok(written) if written < from.len() => return Err(Errno::EIO),
                    written => return written.map(drop),
                }
            }
        })
    }

    fn update(
        &self,
        offset: u64,
        medium: &mut [u8],
        durable: bool,
        timeout_ms: u32,
        mut change: impl FnMut(&mut [u8]) -> bool,
    ) -> Result<(), UpdateError> {
        let flags = libc::O_RDWR | self.flags().map_err(UpdateError::Exclude)? & libc::O_DIRECT;
        let deadline = sys::milliseconds().saturating_add(timeout_ms.into());
        let (owner, report) = (self.process.number(), self.process.lock_report(self.fd));
        self.process.before_waiting();
        let mut attempt = || {
            let Some(_threads) = self.exclusion.try_lock_threads() else { return Ok(false) };
            let once = || {
                task::free_descriptors(self.fd);
                // A POSIX lock is shown only there (fs/locks.c, show_fd_locks).
                let own = OwnLocks::read(report.as_ref().ok());
                self.take_rights(flags).map_err(UpdateError::Exclude)?;
                let file = task::reopen(self.fd, &self.status, flags).map_err(UpdateError::Exclude)?;
                let guard = exclusion::try_lock_processes(&file, &self.status, owner, own);
                let Some(_processes) = guard.map_err(UpdateError::Exclude)? else { return Ok(false) };
                read_all(&file, offset, medium).map_err(UpdateError::Read)?;
                if change(medium) {
                    write_all(&file, offset, medium, durable).map_err(UpdateError::Write)?;
                }
                Ok(true)
            };
            task::run_without_signals(once).map_err(UpdateError::Exclude)?
        };
        exclusion::retry_until(deadline, || sys::without_signals(&mut attempt))
    }

    fn sync(&self) -> Result<(), Errno> {
        self.process.before_waiting();
        sys::sync(self.checked_fd()?)
    }

    fn provisioning(&self) -> Result<Provisioning, Errno> {
        Ok(match self.medium {
            Medium::ImageFile => Provisioning {
                // On other file systems it is not tried, because that would change the file.
                is_thin: HOLE_PUNCHING.contains(&sys::file_system(self.fd)?),
                granularity: IMAGE_PHYSICAL_BLOCK,
                alignment: 0,
            },
            Medium::BlockDevice => self.discard_limits.provisioning(),
        })
    }

    fn extent(&self, offset: u64) -> Result<Extent, Errno> {
        const ALL: Extent = Extent { is_mapped: true, length: u64::MAX };
        if self.medium == Medium::BlockDevice {
            return Ok(ALL);
        }
        match sys::extent(self.fd, offset) {
            Ok(None) => Ok(Extent { is_mapped: false, length: u64::MAX }),
            Ok(Some((start, _))) if start > offset => {
                Ok(Extent { is_mapped: false, length: start.saturating_sub(offset) })
            }
            Ok(Some((start, length))) => {
                Ok(Extent { is_mapped: true, length: start.saturating_add(length).saturating_sub(offset) })
            }
            // tmpfs. lseek(2) moves the caller's file offset, so it needs a separate descriptor.
            Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EINVAL) => {
                let found =
                    self.reopened_as(libc::O_RDONLY, |file| match sys::seek(file, offset, libc::SEEK_DATA) {
                        Ok(data) if data > offset => {
                            Ok(Extent { is_mapped: false, length: data.saturating_sub(offset) })
                        }
                        Ok(_) => {
                            let hole = sys::seek(file, offset, libc::SEEK_HOLE).unwrap_or(u64::MAX);
                            Ok(Extent { is_mapped: true, length: hole.saturating_sub(offset) })
                        }
                        // No data any more.
                        Err(Errno::ENXIO) => Ok(Extent { is_mapped: false, length: u64::MAX }),
                        Err(_) => Ok(ALL),
                    });
                match found {
                    Err(errno) if errno != Errno::ENODEV => Ok(ALL),
                    found => found,
                }
            }
            Err(_) => Ok(ALL),
        }
    }

    fn bounce_buffer(&self, length: usize) -> Result<P::BounceBuffer, Errno> {
        self.process.bounce_buffer(length)
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.fallocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, length)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let flags = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        match self.fallocate(flags, offset, length) {
            // Not every file system can zero a range and keep its space (tmpfs cannot).
            Err(Errno::EOPNOTSUPP) => match self.discard(offset, length) {
                Err(Errno::EOPNOTSUPP) => self.write_zeros(offset, length),
                result => result,
            },
            result => result,
        }
    }

    fn flush(&self) -> Result<(), Errno> {
        self.process.before_waiting();
        sys::flush(self.checked_fd()?)
    }
}

impl<P: Process> Call<P> {
    /// Makes one system call with the descriptor or, if it is not open for that, with one that is:
    /// a caller who may send any command may have it open only for reading.
    fn with_descriptor<T>(&self, act: impl Fn(c_int) -> Result<T, Errno>) -> Result<T, Errno> {
        match act(self.checked_fd()?) {
            Err(Errno::EBADF) => self.reopened(|file| act(file.fd())),
            done => done,
        }
    }

    /// Calls `act` with a descriptor that is open on the same device for reading and writing.
    fn reopened<T>(&self, act: impl FnOnce(&File) -> Result<T, Errno>) -> Result<T, Errno> {
        self.reopened_as(libc::O_RDWR | self.flags()? & libc::O_DIRECT, act)
    }

    /// Returns the access mode of the descriptor (open(2)).
    fn mode(&self) -> Result<c_int, Errno> {
        Ok(self.flags()? & libc::O_ACCMODE)
    }

    /// Gives the calling task, which opens the device with these flags, the rights of the process.
    fn take_rights(&self, flags: c_int) -> Result<(), Errno> {
        let mode = self.mode()?;
        self.process.take_rights(mode != libc::O_RDWR && mode != flags & libc::O_ACCMODE)
    }

    fn reopened_as<T>(&self, flags: c_int, act: impl FnOnce(&File) -> Result<T, Errno>) -> Result<T, Errno> {
        self.process.before_waiting();
        task::run(|| {
            self.take_rights(flags)?;
            act(&task::reopen(self.fd, &self.status, flags)?)
        })?
    }

    /// Makes a request of a block device that returns a number of 2, 4 or 8 bytes.
    fn query<const N: usize>(&self, request: u32) -> Result<[u8; N], Errno> {
        let mut value = [0u8; 8];
        // SAFETY: a block device writes a number of that size. On any file that may have replaced
        // it, such a request writes at most 8 bytes: BLKSECTGET of /dev/sg an int
        // (drivers/scsi/sg.c).
        unsafe { sys::ioctl(self.fd, c_ulong::from(request), value.as_mut_ptr().cast()) }?;
        Ok(value.first_chunk().copied().unwrap_or([0; N]))
    }

    /// Makes a request that returns an int; for an image file, returns `of_image`.
    fn query_int(&self, request: u32, of_image: u32) -> Result<u32, Errno> {
        match self.medium {
            Medium::BlockDevice => self.query(request).map(u32::from_ne_bytes),
            Medium::ImageFile => Ok(of_image),
        }
    }

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

    fn read_once(&self, offset: u64, into: &[Segment]) -> Result<u64, Errno> {
        if !P::IS_OWN && !self.has_flag(libc::O_DIRECT) {
            if let Ok(read @ 1..) = sys::preadv_cached(self.fd, into, offset) {
                return Ok(read as u64);
            }
        }
        self.process.before_waiting();
        self.with_descriptor(|fd| Ok(sys::preadv(fd, into, offset)? as u64))
    }

    /// Returns the size in bytes up to which the process may write (`RLIMIT_FSIZE`).
    fn size_limit(&self) -> u64 {
        match self.medium {
            Medium::BlockDevice => u64::MAX,
            Medium::ImageFile => self.process.file_size_limit(),
        }
    }

    fn write_once(&self, offset: u64, from: &[Segment], durable: bool) -> Result<u64, Errno> {
        self.process.before_waiting();
        let length = from.iter().fold(0u64, |sum, segment| sum.saturating_add(segment.length));
        let limit = self.size_limit();
        if offset.saturating_add(length) <= limit {
            return self.write_in_place(offset, from, durable);
        }
        // Beyond what the process may give a file (`RLIMIT_FSIZE`) the kernel raises SIGXFSZ.
        if P::IS_OWN {
            return task::run(|| self.write_in_place(offset, from, durable))?;
        }
        // The limit is not the engine's, which writes one buffer here.
        let room = limit.saturating_sub(offset);
        let Some(&Segment { address, .. }) = from.first().filter(|_| room > 0) else {
            return Err(Errno::EFBIG);
        };
        self.write_in_place(offset, &[Segment { address, length: room }], durable)
    }

    /// Writes once, at the offset.
    fn write_in_place(&self, offset: u64, from: &[Segment], durable: bool) -> Result<u64, Errno> {
        if !self.has_flag(libc::O_APPEND) {
            return self.with_descriptor(|fd| Ok(sys::pwritev(fd, from, offset, durable)? as u64));
        }
        let in_place = sys::pwritev_in_place(self.checked_fd()?, from, offset, durable);
        match in_place {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EBADF) => {
                self.reopened(|file| Ok(sys::pwritev(file.fd(), from, offset, durable)? as u64))
            }
            written => Ok(written? as u64),
        }
    }

    /// Calls `act` or, if the file system requires whole blocks of an `O_DIRECT` descriptor
    /// (open(2)), `act_buffered` with a descriptor of this mode that is open without `O_DIRECT`.
    fn buffered<T>(
        &self,
        mode: c_int,
        act: impl FnOnce() -> Result<T, Errno>,
        act_buffered: impl FnOnce(&File) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match act() {
            Err(Errno::EINVAL) if self.has_flag(libc::O_DIRECT) => self.reopened_as(mode, act_buffered),
            done => done,
        }
    }

    fn fallocate(&self, mode: c_int, offset: u64, length: u64) -> Result<(), Errno> {
        self.process.before_waiting();
        self.with_descriptor(|fd| sys::fallocate(fd, mode, offset, length))
    }
}

/// Returns `None`, "use a bounce buffer", if the device does not take the caller's addresses.
fn or_bounce(transferred: Result<u64, Errno>) -> Result<Option<u64>, Errno> {
    match transferred {
        Err(Errno::EINVAL) => Ok(None),
        transferred => transferred.map(Some),
    }
}

/// Returns `None` if another way may work: the descriptor is not open for that, or does not take the
/// caller's addresses.
fn or_another_way(transferred: Result<usize, Errno>) -> Result<Option<u64>, Errno> {
    match transferred {
        Err(Errno::EINVAL | Errno::EBADF) => Ok(None),
        transferred => transferred.map(|bytes| Some(bytes as u64)),
    }
}

/// Transfers a whole buffer in steps; each gets the offset and the rest of the buffer, and returns
/// how many bytes it transferred; `EIO` if none.
fn transfer_all(
    offset: u64,
    buffer: Segment,
    step: impl Fn(u64, &[Segment]) -> Result<u64, Errno>,
) -> Result<(), Errno> {
    let mut done = 0;
    while done < buffer.length {
        let rest = Segment { address: buffer.address.wrapping_add(done), length: buffer.length - done };
        match step(offset.saturating_add(done), &[rest]) {
            Ok(0) => return Err(Errno::EIO),
            Ok(more) => done = done.saturating_add(more),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads all of a buffer.
fn read_all(file: &File, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
    transfer_all(offset, Segment::of_mut(into), |at, rest| {
        match sys::preadv(file.fd(), rest, at) {
            // The file system requires whole blocks of an O_DIRECT descriptor.
            Err(Errno::EINVAL) if file.is_direct() => {
                file.turn_direct_off()?;
                Ok(sys::preadv(file.fd(), rest, at)? as u64)
            }
            read => Ok(read? as u64),
        }
    })
}

/// Writes all of a buffer.
fn write_all(file: &File, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno> {
    transfer_all(offset, Segment::of(from), |at, rest| Ok(sys::pwritev(file.fd(), rest, at, durable)? as u64))
}
