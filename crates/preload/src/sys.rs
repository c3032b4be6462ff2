//! System calls. Not the C library's functions: some of those are cancellation points, some are interposed here or by
//! others, and fstat(2) is a symbol only since glibc 2.33.

use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::fmt::{self, Write};
use core::mem::MaybeUninit;

use disk::Errno;
use disk::host::Segment;
use libc::{c_uint, syscall};

use crate::errno;

/// The result of a system call.
fn result(value: c_long) -> Result<usize, Errno> {
    usize::try_from(value).map_err(|_| Errno(errno::get()))
}

/// What tells a file from another, and what kind of file it is.
#[derive(Clone, Copy)]
pub struct Status {
    /// Its type (`S_IFMT`) and permissions.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// The device that it is on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
    /// When the inode was made, in nanoseconds; 0 where that is not known. A number can be given to another file.
    pub birth: u64,
    /// The number of a device.
    pub number: (u32, u32),
    /// Its size in bytes.
    pub size: u64,
}

impl Status {
    /// Its type.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Whether both are of one file.
    pub fn is_same_file(&self, other: &Status) -> bool {
        (self.device, self.inode, self.birth) == (other.device, other.inode, other.birth)
    }
}

/// fstat(2).
pub fn fstat(fd: c_int) -> Result<Status, Errno> {
    status(fd, c"", libc::AT_EMPTY_PATH)
}

/// stat(2).
pub fn stat(path: &CStr) -> Result<Status, Errno> {
    status(libc::AT_FDCWD, path, 0)
}

/// The least and the most bytes that a file or block device takes by [`write_atomic`] (statx(2), Linux 6.11).
pub fn atomic_unit(fd: c_int) -> Option<(u32, u32)> {
    let found = statx(fd, c"", libc::AT_EMPTY_PATH, libc::STATX_WRITE_ATOMIC).ok()?;
    // Where it cannot, all of them are 0; an older kernel leaves them so.
    let (least, most) = (found.stx_atomic_write_unit_min, found.stx_atomic_write_unit_max);
    (least > 0 && found.stx_atomic_write_segments_max > 0).then_some((least, most))
}

/// statx(2).
fn statx(directory: c_int, path: &CStr, flags: c_int, wanted: c_uint) -> Result<libc::statx, Errno> {
    let mut found = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the path is a string, the structure the kernel's.
    result(unsafe { syscall(libc::SYS_statx, directory, path.as_ptr(), flags, wanted, found.as_mut_ptr()) })?;
    // SAFETY: the kernel filled it.
    Ok(unsafe { found.assume_init() })
}

fn status(directory: c_int, path: &CStr, flags: c_int) -> Result<Status, Errno> {
    let found = match statx(directory, path, flags, libc::STATX_BASIC_STATS | libc::STATX_BTIME) {
        Ok(found) => found,
        // Linux before 4.11, or a sandbox of that time.
        Err(Errno::ENOSYS | Errno::EPERM) => return old_status(directory, path, flags),
        Err(errno) => return Err(errno),
    };
    let birth = (found.stx_btime.tv_sec as u64).wrapping_mul(1_000_000_000);
    Ok(Status {
        mode: found.stx_mode.into(),
        user: found.stx_uid,
        device: u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor),
        inode: found.stx_ino,
        birth: if found.stx_mask & libc::STATX_BTIME == 0 {
            0
        } else {
            birth.wrapping_add(found.stx_btime.tv_nsec.into())
        },
        number: (found.stx_rdev_major, found.stx_rdev_minor),
        size: found.stx_size,
    })
}

#[cold]
fn old_status(directory: c_int, path: &CStr, flags: c_int) -> Result<Status, Errno> {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path is a string; on 64-bit systems the kernel's structure is the C library's.
    result(unsafe { syscall(libc::SYS_newfstatat, directory, path.as_ptr(), found.as_mut_ptr(), flags) })?;
    // SAFETY: the kernel filled it.
    let found = unsafe { found.assume_init_ref() };
    Ok(Status {
        mode: found.st_mode,
        user: found.st_uid,
        device: u64::from(libc::major(found.st_dev)) << 32 | u64::from(libc::minor(found.st_dev)),
        inode: found.st_ino,
        birth: 0,
        number: (libc::major(found.st_rdev), libc::minor(found.st_rdev)),
        size: u64::try_from(found.st_size).unwrap_or(0),
    })
}

/// access(2): whether the real user may do this.
pub fn access(path: &CStr, mode: c_int) -> Result<(), Errno> {
    // SAFETY: the path is a string.
    result(unsafe { syscall(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), mode) }).map(drop)
}

/// readlink(2): the part of the buffer that was filled.
pub fn readlink<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    // SAFETY: the path is a string; the kernel writes at most as many bytes as the buffer has.
    let length = result(unsafe {
        syscall(libc::SYS_readlinkat, libc::AT_FDCWD, path.as_ptr(), buffer.as_mut_ptr(), buffer.len())
    })?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// A file that is open until it is dropped.
pub struct File(c_int);

impl File {
    /// open(2).
    pub fn open(path: &CStr, flags: c_int) -> Result<File, Errno> {
        // SAFETY: the path is a string.
        let fd = result(unsafe { syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) })?;
        Ok(File(c_int::try_from(fd).map_err(|_| Errno::EBADF)?))
    }

    /// fstat(2).
    pub fn status(&self) -> Result<Status, Errno> {
        fstat(self.0)
    }

    /// read(2).
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the kernel writes at most as many bytes as the buffer has.
        result(unsafe { syscall(libc::SYS_read, self.0, buffer.as_mut_ptr(), buffer.len()) })
    }
}

impl File {
    /// Its descriptor.
    pub fn fd(&self) -> c_int {
        self.0
    }

    /// Opens anew what a descriptor is open on.
    pub fn reopen(fd: c_int, flags: c_int) -> Result<File, Errno> {
        let mut name = Name::new();
        let _ = write!(name, "/proc/thread-self/fd/{fd}");
        match File::open(name.as_c_str()?, flags | libc::O_CLOEXEC) {
            // Linux before 3.17.
            Err(Errno::ENOENT) => {
                let mut name = Name::new();
                let _ = write!(name, "/proc/self/fd/{fd}");
                File::open(name.as_c_str()?, flags | libc::O_CLOEXEC)
            }
            opened => opened,
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody uses it any more.
        unsafe { syscall(libc::SYS_close, self.0) };
    }
}

/// write(2).
pub fn write(fd: c_int, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads the bytes that the slice has.
    result(unsafe { syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) })
}

/// preadv(2), into memory that the kernel checks.
pub fn preadv(fd: c_int, into: &[Segment], offset: u64) -> Result<usize, Errno> {
    // The second half of the offset is for 32-bit systems.
    // SAFETY: a segment is a `struct iovec`; what is written the caller has asked for.
    result(unsafe { syscall(libc::SYS_preadv, fd, into.as_ptr(), into.len(), offset, 0) })
}

/// pwritev2(2), from memory that the kernel checks; with `durable` it is on the medium afterwards.
pub fn pwritev(fd: c_int, from: &[Segment], offset: u64, durable: bool) -> Result<usize, Errno> {
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    // SAFETY: a segment is a `struct iovec`.
    let written = unsafe { syscall(libc::SYS_pwritev2, fd, from.as_ptr(), from.len(), offset, 0, flags) };
    match result(written) {
        // Linux before 4.7.
        Err(Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            // SAFETY: as above.
            let written = unsafe { syscall(libc::SYS_pwritev, fd, from.as_ptr(), from.len(), offset, 0) };
            let written = result(written)?;
            if durable {
                sync(fd)?;
            }
            Ok(written)
        }
        written => written,
    }
}

/// pwritev2(2) with `RWF_ATOMIC`: all of the bytes are written, or none.
pub fn write_atomic(file: &File, from: &[u8], offset: u64, durable: bool) -> Result<usize, Errno> {
    let flags = libc::RWF_ATOMIC | if durable { libc::RWF_DSYNC } else { 0 };
    let from = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    // SAFETY: the kernel reads the bytes that the slice has.
    result(unsafe { syscall(libc::SYS_pwritev2, file.0, &raw const from, 1, offset, 0, flags) })
}

/// fdatasync(2).
pub fn sync(fd: c_int) -> Result<(), Errno> {
    // SAFETY: it reads nothing of ours.
    result(unsafe { syscall(libc::SYS_fdatasync, fd) }).map(drop)
}

/// lseek(2).
pub fn seek(file: &File, offset: u64, whence: c_int) -> Result<u64, Errno> {
    // SAFETY: it reads nothing of ours.
    result(unsafe { syscall(libc::SYS_lseek, file.0, offset, whence) }).map(|place| place as u64)
}

/// A lock that is held until it is dropped. The file is our own, so that it keeps other threads out too.
pub struct Lock {
    file: File,
    /// Of one byte of the file, where there is one.
    byte: Option<i64>,
}

impl Lock {
    /// Waits for the lock of a whole file (flock(2)), which need not be open for writing.
    pub fn file(file: File) -> Result<Lock, Errno> {
        loop {
            // SAFETY: it reads nothing of ours.
            match result(unsafe { syscall(libc::SYS_flock, file.0, libc::LOCK_EX) }) {
                Err(Errno::EINTR) => {}
                locked => return locked.map(|_| Lock { file, byte: None }),
            }
        }
    }

    /// Waits for the lock of a byte (fcntl(2), "Open file description locks"), which stands in nobody's way who locks the
    /// whole file.
    pub fn byte(file: File, byte: i64) -> Result<Lock, Errno> {
        loop {
            match Lock::set(&file, libc::F_OFD_SETLKW, libc::F_WRLCK, byte) {
                Err(Errno::EINTR) => {}
                locked => return locked.map(|()| Lock { file, byte: Some(byte) }),
            }
        }
    }

    fn set(file: &File, command: c_int, kind: c_int, byte: i64) -> Result<(), Errno> {
        let lock = libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        // SAFETY: the kernel's structure is the C library's on 64-bit systems.
        result(unsafe { syscall(libc::SYS_fcntl, file.0, command, &raw const lock) }).map(drop)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // To close the file is not enough: a child that was forked meanwhile has it too.
        match self.byte {
            Some(byte) => drop(Lock::set(&self.file, libc::F_OFD_SETLK, libc::F_UNLCK, byte)),
            // SAFETY: it reads nothing of ours.
            None => drop(result(unsafe { syscall(libc::SYS_flock, self.file.0, libc::LOCK_UN) })),
        }
    }
}

/// Memory that is mapped until it is dropped: zeroed, and aligned to a page.
pub struct Memory {
    start: *mut u8,
    length: usize,
}

impl Memory {
    /// Of at least this many bytes.
    pub fn map(length: usize) -> Result<Memory, Errno> {
        let length = length.max(1);
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping; nothing else uses its place.
        let start = unsafe { libc::mmap(core::ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            Err(Errno::ENOMEM)
        } else {
            Ok(Memory { start: start.cast(), length })
        }
    }
}

impl AsMut<[u8]> for Memory {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: our mapping, which nobody else has.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: our mapping, which nobody uses any more.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// The time since some moment, in milliseconds.
pub fn milliseconds() -> u64 {
    time(libc::CLOCK_MONOTONIC_COARSE) / 1_000_000
}

/// The time since some moment, in nanoseconds.
pub fn nanoseconds() -> u64 {
    time(libc::CLOCK_MONOTONIC)
}

fn time(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the C library fills its own structure.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// The calling thread's name.
pub fn thread_name() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: the kernel writes as many bytes.
    unsafe { syscall(libc::SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0) };
    name
}

/// The effective user.
pub fn effective_user() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { syscall(libc::SYS_geteuid) as u32 }
}

/// Sends a message to an abstract unix(7) socket of type `SOCK_SEQPACKET`; `EPERM` where the user who listens there is not
/// trusted. A receiver that does not read holds nobody up for longer than two seconds, however many signals come.
pub fn send(receiver: &[u8], trusted: impl Fn(u32) -> bool, parts: &[Segment]) -> Result<(), Errno> {
    let mut address =
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    // Its name begins with a NUL.
    for (to, from) in address.sun_path.iter_mut().skip(1).zip(receiver) {
        *to = *from as c_char;
    }
    let address_length = size_of::<libc::sa_family_t>() + 1 + receiver.len();
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is involved.
    let socket = result(unsafe { syscall(libc::SYS_socket, libc::AF_UNIX, kind, 0) })?;
    let socket = File(c_int::try_from(socket).map_err(|_| Errno::EBADF)?);
    let patience = libc::timeval { tv_sec: 1, tv_usec: 0 };
    let (level, size) = (libc::SOL_SOCKET, size_of::<libc::timeval>());
    // SAFETY: the kernel reads a `struct timeval`, which is one.
    result(unsafe {
        syscall(libc::SYS_setsockopt, socket.0, level, libc::SO_SNDTIMEO, &raw const patience, size)
    })?;
    let start = milliseconds();
    loop {
        // SAFETY: the kernel reads as much of the address as is said.
        match result(unsafe { syscall(libc::SYS_connect, socket.0, &raw const address, address_length) }) {
            // It would wait for as long again.
            Err(Errno::EINTR) if milliseconds().saturating_sub(start) < 1000 => {}
            Err(Errno::EINTR) => return Err(Errno::EAGAIN),
            connected => {
                connected?;
                break;
            }
        }
    }
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel fills its own structure.
    result(unsafe {
        syscall(libc::SYS_getsockopt, socket.0, level, libc::SO_PEERCRED, &raw mut peer, &raw mut size)
    })?;
    if !trusted(peer.uid) {
        return Err(Errno::EPERM);
    }
    // SAFETY: zeros are a message without anything.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = parts.as_ptr().cast::<libc::iovec>().cast_mut();
    message.msg_iovlen = parts.len();
    // Nothing has been sent before, so there is room, and it does not wait.
    // SAFETY: a segment is a `struct iovec`, whose memory the kernel checks.
    result(unsafe { syscall(libc::SYS_sendmsg, socket.0, &raw const message, libc::MSG_NOSIGNAL) }).map(drop)
}

/// A short file name in the making.
pub struct Name {
    bytes: [u8; 64],
    length: usize,
}

impl Name {
    /// An empty one.
    pub fn new() -> Name {
        Name { bytes: [0; 64], length: 0 }
    }

    /// What has been written.
    pub fn as_c_str(&self) -> Result<&CStr, Errno> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno::ENAMETOOLONG)
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.bytes.get_mut(self.length).ok_or(fmt::Error)? = byte;
            self.length = self.length.wrapping_add(1);
        }
        Ok(())
    }
}

/// fcntl(F_GETFL): how a descriptor was opened.
pub fn flags(fd: c_int) -> Result<c_int, Errno> {
    // SAFETY: it reads nothing of ours.
    let flags = result(unsafe { syscall(libc::SYS_fcntl, fd, libc::F_GETFL) })?;
    Ok(c_int::try_from(flags).unwrap_or(0))
}

/// fallocate(2).
pub fn fallocate(fd: c_int, mode: c_int, offset: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: it reads nothing of ours.
    result(unsafe { syscall(libc::SYS_fallocate, fd, mode, offset, length) }).map(drop)
}

/// fsync(2), then posix_fadvise(2) that nothing of the file is needed any more.
pub fn flush(fd: c_int) -> Result<(), Errno> {
    // SAFETY: it reads nothing of ours.
    result(unsafe { syscall(libc::SYS_fsync, fd) })?;
    // SAFETY: as above.
    result(unsafe { syscall(libc::SYS_fadvise64, fd, 0u64, 0u64, libc::POSIX_FADV_DONTNEED) }).map(drop)
}

/// Whether a descriptor is on a file system that is mounted read-only.
pub fn is_mounted_read_only(fd: c_int) -> Result<bool, Errno> {
    let mut mount = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the C library fills its own structure.
    result(unsafe { libc::fstatvfs(fd, mount.as_mut_ptr()) }.into())?;
    // SAFETY: it was filled.
    Ok(unsafe { mount.assume_init() }.f_flag & libc::ST_RDONLY != 0)
}

/// The kind of file system that a file is on (`f_type` of statfs(2)).
pub fn file_system(fd: c_int) -> Result<u64, Errno> {
    let mut mount = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the C library fills its own structure.
    result(unsafe { libc::fstatfs(fd, mount.as_mut_ptr()) }.into())?;
    // SAFETY: it was filled.
    Ok(unsafe { mount.assume_init() }.f_type as u64)
}

/// The process that calls.
pub fn process() -> c_int {
    // SAFETY: it has no arguments.
    unsafe { syscall(libc::SYS_getpid) as c_int }
}

/// The thread that calls.
pub fn thread() -> c_int {
    // SAFETY: it has no arguments.
    unsafe { syscall(libc::SYS_gettid) as c_int }
}

/// The user who started the program.
pub fn real_user() -> c_uint {
    // SAFETY: it has no arguments.
    unsafe { syscall(libc::SYS_getuid) as c_uint }
}

/// Whether a descriptor is open on a terminal.
pub fn is_terminal(fd: c_int) -> bool {
    let mut settings = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the C library's structure is larger than the kernel's.
    unsafe { syscall(libc::SYS_ioctl, fd, libc::TCGETS, settings.as_mut_ptr()) == 0 }
}

/// Whether pages can be read and written, now and as long as the program leaves them alone (madvise(2),
/// `MADV_POPULATE_WRITE`; Linux 5.14).
pub fn can_be_written(start: u64, length: u64) -> bool {
    const MADV_POPULATE_WRITE: c_int = 23;
    // SAFETY: it changes nothing of what the pages hold.
    unsafe { syscall(libc::SYS_madvise, start, length, MADV_POPULATE_WRITE) == 0 }
}

/// Moves bytes from an address of this process to another through a pipe. The kernel looks at both, so that a bad one
/// is an error: for where process_vm_readv(2) is not to be had.
pub fn move_bytes(from: *const c_void, to: *mut c_void, length: usize) -> Result<(), Errno> {
    let mut pipe = [0 as c_int; 2];
    // SAFETY: it writes two descriptors.
    result(unsafe { syscall(libc::SYS_pipe2, pipe.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    let [reader, writer] = pipe.map(File);
    // SAFETY: the kernel checks the address.
    let written = result(unsafe { syscall(libc::SYS_write, writer.0, from, length) })?;
    // SAFETY: the kernel checks the address; what it writes there the caller asked for.
    let read = result(unsafe { syscall(libc::SYS_read, reader.0, to, length) })?;
    if (written, read) == (length, length) { Ok(()) } else { Err(Errno::EFAULT) }
}

/// The calling thread's effective capabilities, a bit each (capget(2)).
pub fn capabilities() -> u64 {
    /// `_LINUX_CAPABILITY_VERSION_3`, and 0 for the calling thread.
    const HEADER: [c_uint; 2] = [0x2008_0522, 0];
    let mut header = HEADER;
    // Effective, permitted, inheritable: the low 32 bits of each, then the high ones.
    let mut data = [0 as c_uint; 6];
    // SAFETY: both have the size of the kernel's structures.
    let asked = unsafe { syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    if asked == 0 { u64::from(data[0]) | u64::from(data[3]) << 32 } else { 0 }
}

/// Blocks SIGPIPE in the calling thread, does something, takes a SIGPIPE that it raised, and restores the mask.
pub fn without_sigpipe(act: impl FnOnce()) {
    const SIGPIPE: u64 = 1 << (libc::SIGPIPE - 1);
    /// The size of the kernel's signal set, in bytes.
    const SIZE: usize = size_of::<u64>();
    let set = SIGPIPE;
    let mut before = 0u64;
    let pending = || {
        let mut pending = 0u64;
        // SAFETY: the set has the size that is given.
        unsafe { syscall(libc::SYS_rt_sigpending, &raw mut pending, SIZE) };
        pending & SIGPIPE != 0
    };
    // SAFETY: both sets have the size that is given.
    unsafe { syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, &raw mut before, SIZE) };
    let was_pending = pending();
    act();
    if !was_pending && pending() {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let nowhere = core::ptr::null_mut::<c_void>();
        // SAFETY: the set has the size that is given; nothing is written.
        unsafe { syscall(libc::SYS_rt_sigtimedwait, &raw const set, nowhere, &raw const at_once, SIZE) };
    }
    let nowhere = core::ptr::null_mut::<c_void>();
    // SAFETY: the set has the size that is given.
    unsafe { syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const before, nowhere, SIZE) };
}
