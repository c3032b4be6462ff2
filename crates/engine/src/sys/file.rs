//! Descriptors and files.

use core::ffi::{CStr, c_int, c_ulong, c_void};
use core::mem::MaybeUninit;

use disk::Errno;
use disk::host::Segment;

use super::call::{NumericCall, call, filled, numeric};
use super::{PathBuffer, Status, fstat};

/// A file that is open until it is dropped.
pub struct File(c_int);

impl File {
    /// open(2).
    pub fn open(path: &CStr, flags: c_int) -> Result<File, Errno> {
        // SAFETY: the path is a string.
        File::from_result(unsafe { call(libc::SYS_openat, (libc::AT_FDCWD, path.as_ptr(), flags, 0)) })
    }

    /// Returns the file of a system call that returns a descriptor.
    pub(super) fn from_result(fd: Result<usize, Errno>) -> Result<File, Errno> {
        Ok(File(c_int::try_from(fd?).map_err(|_| Errno::EBADF)?))
    }

    /// Takes ownership of a descriptor, to close it.
    pub fn from_fd(fd: c_int) -> File {
        File(fd)
    }

    /// Reopens the file of a descriptor of the calling task.
    pub fn reopen(fd: c_int, flags: c_int) -> Result<File, Errno> {
        let open = |directory| {
            let path = PathBuffer::format(format_args!("/proc/{directory}/fd/{fd}"))?;
            File::open(path.as_c_str(), flags | libc::O_CLOEXEC)
        };
        match open("thread-self") {
            // Linux before 3.17.
            Err(Errno::ENOENT) => open("self"),
            opened => opened,
        }
    }

    /// Returns the descriptor.
    pub fn fd(&self) -> c_int {
        self.0
    }

    /// fstat(2).
    pub fn status(&self) -> Result<Status, Errno> {
        fstat(self.0)
    }

    /// read(2).
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the kernel writes at most as many bytes as the buffer has.
        unsafe { call(libc::SYS_read, (self.0, buffer.as_mut_ptr(), buffer.len())) }
    }

    /// Returns whether it is open with `O_DIRECT`.
    pub fn is_direct(&self) -> bool {
        flags(self.0).is_ok_and(|flags| flags & libc::O_DIRECT != 0)
    }

    /// Clears `O_DIRECT`.
    pub fn turn_direct_off(&self) -> Result<(), Errno> {
        let flags = flags(self.0)? & !libc::O_DIRECT;
        // SAFETY: this command takes no address.
        unsafe { call(libc::SYS_fcntl, (self.0, libc::F_SETFL, flags)) }.map(drop)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = numeric(NumericCall::CLOSE, (self.0,));
    }
}

/// close_range(2).
pub fn close_range(first: u32, last: u32, flags: c_int) -> Result<(), Errno> {
    numeric(NumericCall::CLOSE_RANGE, (first, last, flags)).map(drop)
}

/// Returns the status flags of a descriptor (fcntl(2), `F_GETFL`).
#[inline]
pub fn flags(fd: c_int) -> Result<c_int, Errno> {
    // SAFETY: this command takes no address.
    unsafe { call(libc::SYS_fcntl, (fd, libc::F_GETFL)) }.map(|flags| flags as c_int)
}

/// access(2): whether the real user may do this.
pub fn access(path: &CStr, mode: c_int) -> Result<(), Errno> {
    // SAFETY: the path is a string.
    unsafe { call(libc::SYS_faccessat, (libc::AT_FDCWD, path.as_ptr(), mode)) }.map(drop)
}

/// readlink(2): the part of the buffer that was filled.
pub fn readlink<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let (start, size) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the path is a string; the kernel writes at most as many bytes as the buffer has.
    let length = unsafe { call(libc::SYS_readlinkat, (libc::AT_FDCWD, path.as_ptr(), start, size)) }?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// write(2).
pub fn write(fd: c_int, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads the bytes that the slice has.
    unsafe { call(libc::SYS_write, (fd, bytes.as_ptr(), bytes.len())) }
}

/// preadv(2), into memory that the kernel checks.
#[inline]
pub fn preadv(fd: c_int, into: &[Segment], offset: u64) -> Result<usize, Errno> {
    // The second half of the offset is for 32-bit systems.
    // SAFETY: a segment is a `struct iovec`; what is written there the program has asked for.
    unsafe { call(libc::SYS_preadv, (fd, into.as_ptr(), into.len(), offset, 0)) }
}

/// preadv2(2) of what is in memory already; `EAGAIN` where the device would be waited for.
pub fn preadv_cached(fd: c_int, into: &[Segment], offset: u64) -> Result<usize, Errno> {
    // The second half of the offset is for 32-bit systems.
    // SAFETY: a segment is a `struct iovec`; what is written there the program has asked for.
    unsafe { call(libc::SYS_preadv2, (fd, into.as_ptr(), into.len(), offset, 0, libc::RWF_NOWAIT)) }
}

/// pwritev2(2), from memory that the kernel checks; with `durable` the data is on the medium
/// afterwards.
pub fn pwritev(fd: c_int, from: &[Segment], offset: u64, durable: bool) -> Result<usize, Errno> {
    match pwritev2(fd, from, offset, if durable { libc::RWF_DSYNC } else { 0 }) {
        // Linux before 4.7.
        Err(Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            // SAFETY: a segment is a `struct iovec`.
            let written = unsafe { call(libc::SYS_pwritev, (fd, from.as_ptr(), from.len(), offset, 0)) }?;
            if durable {
                sync(fd)?;
            }
            Ok(written)
        }
        written => written,
    }
}

/// The same through a descriptor that appends: `EOPNOTSUPP` before Linux 6.9, which writes to the
/// end, whatever the offset.
pub fn pwritev_in_place(fd: c_int, from: &[Segment], offset: u64, durable: bool) -> Result<usize, Errno> {
    const RWF_NOAPPEND: c_int = 0x20;
    pwritev2(fd, from, offset, if durable { RWF_NOAPPEND | libc::RWF_DSYNC } else { RWF_NOAPPEND })
}

/// pwritev2(2) with `RWF_ATOMIC`: all of the bytes are written, or none.
pub fn write_atomic(file: &File, from: &[u8], offset: u64, durable: bool) -> Result<usize, Errno> {
    pwritev2(
        file.0,
        &[Segment::of(from)],
        offset,
        libc::RWF_ATOMIC | if durable { libc::RWF_DSYNC } else { 0 },
    )
}

fn pwritev2(fd: c_int, from: &[Segment], offset: u64, flags: c_int) -> Result<usize, Errno> {
    // The second half of the offset is for 32-bit systems.
    // SAFETY: a segment is a `struct iovec`.
    unsafe { call(libc::SYS_pwritev2, (fd, from.as_ptr(), from.len(), offset, 0, flags)) }
}

/// fdatasync(2).
pub fn sync(fd: c_int) -> Result<(), Errno> {
    numeric(NumericCall::FDATASYNC, (fd,)).map(drop)
}

/// fsync(2), then posix_fadvise(2) that nothing of the file is needed any more.
pub fn flush(fd: c_int) -> Result<(), Errno> {
    numeric(NumericCall::FSYNC, (fd,))?;
    numeric(NumericCall::FADVISE, (fd, 0, 0, libc::POSIX_FADV_DONTNEED)).map(drop)
}

/// lseek(2).
pub fn seek(file: &File, offset: u64, whence: c_int) -> Result<u64, Errno> {
    numeric(NumericCall::LSEEK, (file.0, offset, whence)).map(|place| place as u64)
}

/// fallocate(2).
pub fn fallocate(fd: c_int, mode: c_int, offset: u64, length: u64) -> Result<(), Errno> {
    numeric(NumericCall::FALLOCATE, (fd, mode, offset, length)).map(drop)
}

/// Returns whether a descriptor is on a file system that is mounted read-only.
pub fn is_mounted_read_only(fd: c_int) -> Result<bool, Errno> {
    fstatfs(fd, |mount| mount.f_flags as c_ulong & libc::ST_RDONLY != 0)
}

/// Returns the kind of file system that holds a file (`f_type` of statfs(2)).
pub fn file_system(fd: c_int) -> Result<u64, Errno> {
    fstatfs(fd, |mount| mount.f_type as u64)
}

fn fstatfs<T>(fd: c_int, read: impl FnOnce(&libc::statfs64) -> T) -> Result<T, Errno> {
    // SAFETY: the kernel fills its `struct statfs`, which on 64-bit systems is this one of the C library's.
    unsafe { filled(|mount: *mut libc::statfs64| call(libc::SYS_fstatfs, (fd, mount)), read) }
}

/// ioctl(2) of the kernel, whatever the program or the preload library has in its place.
///
/// # Safety
///
/// The argument is what the request takes: a number, or an address whose memory is the program's or
/// has the shape that the request asks for.
#[inline]
pub unsafe fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> Result<usize, Errno> {
    // SAFETY: as the caller says.
    unsafe { call(libc::SYS_ioctl, (fd, request, argument)) }
}

/// Returns whether a descriptor is open on a terminal.
pub fn is_terminal(fd: c_int) -> bool {
    let mut settings = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the C library's structure is larger than the kernel's, which is filled.
    unsafe { ioctl(fd, libc::TCGETS, settings.as_mut_ptr().cast()) }.is_ok()
}

/// Returns what a file system reports of a part of a file (ioctl_fiemap(2)): the extent that holds
/// an offset or follows it, together with those that adjoin it, as its start and length in bytes;
/// none behind the last.
pub fn extent(fd: c_int, offset: u64) -> Result<Option<(u64, u64)>, Errno> {
    const FS_IOC_FIEMAP: c_ulong = 0xc020_660b;
    const MOST: usize = 8;
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct FiemapExtent {
        logical: u64,
        physical: u64,
        length: u64,
        reserved64: [u64; 2],
        flags: u32,
        reserved: [u32; 3],
    }
    #[repr(C)]
    #[derive(Default)]
    struct Fiemap {
        start: u64,
        length: u64,
        flags: u32,
        mapped_extents: u32,
        extent_count: u32,
        reserved: u32,
        extents: [FiemapExtent; MOST],
    }
    const FIEMAP_EXTENT_LAST: u32 = 1;
    let mut found: Option<(u64, u64)> = None;
    loop {
        let start = found.map_or(offset, |(start, length)| start.saturating_add(length));
        let mut map =
            Fiemap { start, length: u64::MAX - start, extent_count: MOST as u32, ..Fiemap::default() };
        // SAFETY: the kernel's structure, with room for as many extents as it says.
        unsafe { ioctl(fd, FS_IOC_FIEMAP, (&raw mut map).cast()) }?;
        let extents = map.extents.get(..map.mapped_extents as usize).unwrap_or_default();
        for extent in extents {
            match &mut found {
                None => found = Some((extent.logical, extent.length)),
                Some((start, length)) if start.saturating_add(*length) == extent.logical => {
                    *length = length.saturating_add(extent.length);
                }
                Some(_) => return Ok(found),
            }
            if extent.flags & FIEMAP_EXTENT_LAST != 0 || extent.length == 0 {
                return Ok(found);
            }
        }
        if extents.len() < MOST {
            return Ok(found);
        }
    }
}
