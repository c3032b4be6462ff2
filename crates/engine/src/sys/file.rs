//! System calls. Not the C library's functions: some of those are cancellation points, some are interposed here or by
//! others, and fstat(2) is a symbol only since glibc 2.33.

use core::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
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

/// What fstat(2) says of a file.
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

    /// The number of a device in one word, as `device` has it.
    pub fn device_number(&self) -> u64 {
        in_one_word(self.number)
    }

    /// Whether both are of one file, as far as that can be told while it is open.
    pub fn is_same_file(&self, other: &Status) -> bool {
        (self.device, self.inode, self.kind(), self.number)
            == (other.device, other.inode, other.kind(), other.number)
    }
}

/// The major and the minor number of a device in one word.
fn in_one_word((major, minor): (u32, u32)) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}

/// A decimal number; no digit is 0.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |sum, &digit| {
        sum.checked_mul(10)?.checked_add(char::from(digit).to_digit(10)?.into())
    })
}

/// fstat(2). Where a sandbox refuses it, the other calls that tell the same are tried.
pub fn fstat(fd: c_int) -> Result<Status, Errno> {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: on 64-bit systems the kernel's structure is the C library's.
    match result(unsafe { syscall(libc::SYS_fstat, fd, found.as_mut_ptr()) }) {
        // SAFETY: the kernel filled it.
        Ok(_) => Ok(unsafe { found.assume_init_ref() }.into()),
        Err(Errno::EBADF) => Err(Errno::EBADF),
        Err(_) => other_status(fd, c"", libc::AT_EMPTY_PATH),
    }
}

/// stat(2).
pub fn stat(path: &CStr) -> Result<Status, Errno> {
    old_status(libc::AT_FDCWD, path, 0).or_else(|errno| match errno {
        Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::ENOSYS => other_status(libc::AT_FDCWD, path, 0),
        errno => Err(errno),
    })
}

impl From<&libc::stat> for Status {
    fn from(found: &libc::stat) -> Status {
        Status {
            mode: found.st_mode,
            user: found.st_uid,
            device: in_one_word((libc::major(found.st_dev), libc::minor(found.st_dev))),
            inode: found.st_ino,
            number: (libc::major(found.st_rdev), libc::minor(found.st_rdev)),
            size: u64::try_from(found.st_size).unwrap_or(0),
        }
    }
}

/// When the inode of an open file was made, in nanoseconds; 0 where that is not known. An inode's number can be given to
/// another file.
pub fn birth(fd: c_int) -> u64 {
    statx(fd, c"", libc::AT_EMPTY_PATH, libc::STATX_BTIME).map_or(0, |found| birth_of(&found))
}

fn birth_of(found: &libc::statx) -> u64 {
    if found.stx_mask & libc::STATX_BTIME == 0 {
        return 0;
    }
    let seconds = found.stx_btime.tv_sec as u64;
    seconds.wrapping_mul(1_000_000_000).wrapping_add(found.stx_btime.tv_nsec.into())
}

/// stat(2), and when the inode was made, as [`birth`] has it.
pub fn stat_with_birth(path: &CStr) -> Result<(Status, u64), Errno> {
    match statx(libc::AT_FDCWD, path, 0, libc::STATX_BASIC_STATS | libc::STATX_BTIME) {
        Ok(found) => Ok(((&found).into(), birth_of(&found))),
        // Linux before 4.11, or a sandbox.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL | Errno::EACCES) => {
            stat(path).map(|status| (status, 0))
        }
        Err(errno) => Err(errno),
    }
}

impl From<&libc::statx> for Status {
    fn from(found: &libc::statx) -> Status {
        Status {
            mode: found.stx_mode.into(),
            user: found.stx_uid,
            device: in_one_word((found.stx_dev_major, found.stx_dev_minor)),
            inode: found.stx_ino,
            number: (found.stx_rdev_major, found.stx_rdev_minor),
            size: found.stx_size,
        }
    }
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

#[cold]
fn other_status(directory: c_int, path: &CStr, flags: c_int) -> Result<Status, Errno> {
    match statx(directory, path, flags, libc::STATX_BASIC_STATS) {
        Ok(found) => Ok((&found).into()),
        Err(_) => old_status(directory, path, flags),
    }
}

fn old_status(directory: c_int, path: &CStr, flags: c_int) -> Result<Status, Errno> {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path is a string; on 64-bit systems the kernel's structure is the C library's.
    result(unsafe { syscall(libc::SYS_newfstatat, directory, path.as_ptr(), found.as_mut_ptr(), flags) })?;
    // SAFETY: the kernel filled it.
    Ok(unsafe { found.assume_init_ref() }.into())
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
    /// Takes over a descriptor, to close it.
    pub fn own(fd: c_int) -> File {
        File(fd)
    }

    /// Its descriptor.
    pub fn fd(&self) -> c_int {
        self.0
    }

    /// Whether it is open with `O_DIRECT`.
    pub fn is_direct(&self) -> bool {
        flags(self.0).is_ok_and(|flags| flags & libc::O_DIRECT != 0)
    }

    /// Goes on without `O_DIRECT`.
    pub fn turn_direct_off(&self) -> Result<(), Errno> {
        let flags = flags(self.0)? & !libc::O_DIRECT;
        // SAFETY: it reads nothing of ours.
        result(unsafe { syscall(libc::SYS_fcntl, self.0, libc::F_SETFL, flags) }).map(drop)
    }

    /// Opens anew what a descriptor of the calling task is open on.
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
    match pwritev2(fd, from, offset, if durable { libc::RWF_DSYNC } else { 0 }) {
        // Linux before 4.7.
        Err(Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            // SAFETY: a segment is a `struct iovec`.
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

/// The same through a descriptor that appends: `EOPNOTSUPP` before Linux 6.9, which writes to the end, whatever the offset.
pub fn pwritev_in_place(fd: c_int, from: &[Segment], offset: u64, durable: bool) -> Result<usize, Errno> {
    const RWF_NOAPPEND: c_int = 0x20;
    pwritev2(fd, from, offset, if durable { RWF_NOAPPEND | libc::RWF_DSYNC } else { RWF_NOAPPEND })
}

fn pwritev2(fd: c_int, from: &[Segment], offset: u64, flags: c_int) -> Result<usize, Errno> {
    // The second half of the offset is for 32-bit systems.
    // SAFETY: a segment is a `struct iovec`.
    result(unsafe { syscall(libc::SYS_pwritev2, fd, from.as_ptr(), from.len(), offset, 0, flags) })
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

/// A lock of another open file description or process on a byte (fcntl(2), `F_OFD_GETLK`).
pub struct Conflict {
    /// `F_RDLCK` or `F_WRLCK`.
    pub kind: c_int,
    /// The process that has it; -1 where an open file description has it.
    pub process: c_int,
}

fn byte_lock(kind: c_int, byte: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: byte, l_len: 1, l_pid: 0 }
}

/// Locks a byte for a file's open file description, without waiting; `EAGAIN` where that conflicts with another lock.
pub fn lock_byte(file: &File, kind: c_int, byte: i64) -> Result<(), Errno> {
    let lock = byte_lock(kind, byte);
    // SAFETY: the kernel's structure is the C library's on 64-bit systems.
    let locked = result(unsafe { syscall(libc::SYS_fcntl, file.0, libc::F_OFD_SETLK, &raw const lock) });
    match locked {
        Err(Errno::EACCES) => Err(Errno::EAGAIN),
        locked => locked.map(drop),
    }
}

/// A lock that keeps a file's open file description from locking a byte for writing.
pub fn conflict(file: &File, byte: i64) -> Result<Option<Conflict>, Errno> {
    let mut lock = byte_lock(libc::F_WRLCK, byte);
    // SAFETY: as above; the kernel writes into it.
    result(unsafe { syscall(libc::SYS_fcntl, file.0, libc::F_OFD_GETLK, &raw mut lock) })?;
    let found = Conflict { kind: lock.l_type.into(), process: lock.l_pid };
    Ok(Some(found).filter(|found| found.kind != libc::F_UNLCK))
}

/// Locks a whole file by flock(2), without waiting; `EAGAIN` where another open file description has it.
pub fn lock_file(file: &File) -> Result<(), Errno> {
    // SAFETY: it reads nothing of ours.
    result(unsafe { syscall(libc::SYS_flock, file.0, libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
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

/// Sleeps, or until a signal comes.
pub fn sleep(nanoseconds: u32) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds.min(999_999_999).into() };
    let nowhere = core::ptr::null_mut::<libc::timespec>();
    // SAFETY: the kernel reads a `struct timespec`, which is one.
    unsafe { syscall(libc::SYS_nanosleep, &raw const time, nowhere) };
}

/// Whether the calling process has this thread.
pub fn has_thread(thread: c_int) -> bool {
    // SAFETY: no memory is involved; signal 0 is sent to nobody.
    result(unsafe { syscall(libc::SYS_tgkill, process(), thread, 0) }) != Err(Errno::ESRCH)
}

/// The largest size that the calling process may give a file, in bytes (getrlimit(2), `RLIMIT_FSIZE`).
pub fn file_size_limit() -> u64 {
    let mut limit = libc::rlimit64 { rlim_cur: u64::MAX, rlim_max: u64::MAX };
    let nothing = core::ptr::null::<libc::rlimit64>();
    // SAFETY: the kernel fills a `struct rlimit64`, which is one.
    unsafe { syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_FSIZE, nothing, &raw mut limit) };
    limit.rlim_cur
}

/// The real user, the real group and a sum over the supplementary groups; `None` where there are more than can be looked at.
pub fn real_rights() -> Option<[u64; 3]> {
    let mut groups = [0 as c_uint; 256];
    // SAFETY: the kernel writes at most as many groups as it is told.
    let count = result(unsafe { syscall(libc::SYS_getgroups, groups.len(), groups.as_mut_ptr()) }).ok()?;
    let groups = groups.get(..count)?;
    // FNV-1a; the kernel keeps the groups sorted.
    let sum = groups.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, &group| {
        (sum ^ u64::from(group)).wrapping_mul(0x0100_0000_01b3)
    });
    // SAFETY: they have no arguments.
    let (user, group) = unsafe { (syscall(libc::SYS_getuid), syscall(libc::SYS_getgid)) };
    Some([user as u64, group as u64, sum])
}

/// Gives the calling task the real user's rights to files (setfsuid(2)), and no others.
///
/// # Safety
///
/// Only in a task of its own: the C library knows nothing of it.
pub unsafe fn take_real_rights() {
    // The kernel takes from the memory, which is the program's too, what PR_SET_DUMPABLE has said of it.
    // SAFETY: no memory is involved.
    let is_dumpable = unsafe { syscall(libc::SYS_prctl, libc::PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 };
    // SAFETY: as above.
    unsafe {
        syscall(libc::SYS_setfsgid, syscall(libc::SYS_getgid));
        syscall(libc::SYS_setfsuid, syscall(libc::SYS_getuid));
    }
    // As access(2) does it.
    // SAFETY: it has no arguments.
    if unsafe { syscall(libc::SYS_getuid) } != 0 {
        if let Ok([_, permitted, inheritable, _, permitted_high, inheritable_high]) = capability_sets() {
            let data = [0, permitted, inheritable, 0, permitted_high, inheritable_high];
            let mut header = CAPABILITY_HEADER;
            // SAFETY: both have the size of the kernel's structures.
            unsafe { syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) };
        }
    }
    if is_dumpable {
        // SAFETY: no memory is involved.
        unsafe { syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
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

/// Whether a descriptor is open on a terminal.
pub fn is_terminal(fd: c_int) -> bool {
    let mut settings = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the C library's structure is larger than the kernel's.
    unsafe { syscall(libc::SYS_ioctl, fd, libc::TCGETS, settings.as_mut_ptr()) == 0 }
}

/// Whether the page that an address is in can be read and written, now and as long as the program leaves it alone: the kernel adds 0
/// to the int there (futex(2), `FUTEX_WAKE_OP`), which costs a third of [`can_be_written`].
pub fn can_be_changed(address: u64) -> bool {
    /// `FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_LT, -2048)`
    const ADD_NOTHING: c_uint = 1 << 28 | 2 << 24 | 0x800;
    const NOBODY: c_long = 0;
    let operation = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
    let nobody_waits_here: c_uint = 0;
    // SAFETY: the kernel checks the address and changes nothing of what stands there; nobody waits at the other.
    let done = unsafe {
        let here = &raw const nobody_waits_here;
        syscall(libc::SYS_futex, here, operation, NOBODY, NOBODY, address, ADD_NOTHING)
    };
    done >= 0
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

/// `_LINUX_CAPABILITY_VERSION_3`, and 0 for the calling thread.
const CAPABILITY_HEADER: [c_uint; 2] = [0x2008_0522, 0];

/// The calling thread's effective, permitted and inheritable capabilities: the low 32 bits of each, then the high ones
/// (capget(2)).
fn capability_sets() -> Result<[c_uint; 6], Errno> {
    let (mut header, mut data) = (CAPABILITY_HEADER, [0 as c_uint; 6]);
    // SAFETY: both have the size of the kernel's structures.
    result(unsafe { syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) })?;
    Ok(data)
}

/// The calling thread's effective capabilities, a bit each.
pub fn capabilities() -> u64 {
    capability_sets().map_or(0, |[low, _, _, high, ..]| u64::from(low) | u64::from(high) << 32)
}

/// A set of signals as the kernel has it.
type SignalSet = u64;

fn set_mask(how: c_int, set: SignalSet) -> SignalSet {
    let mut before = 0;
    // SAFETY: both sets have the size that is given.
    unsafe {
        syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut before, size_of::<SignalSet>())
    };
    before
}

/// Does something while no signal is handled in the calling thread.
pub fn without_signals<T>(act: impl FnOnce() -> T) -> T {
    let before = set_mask(libc::SIG_BLOCK, SignalSet::MAX);
    let done = act();
    set_mask(libc::SIG_SETMASK, before);
    done
}

/// Does something that writes a message, and takes the signals that this raises: SIGPIPE and SIGXFSZ.
pub fn without_write_signals(act: impl FnOnce()) {
    const RAISED: SignalSet = 1 << (libc::SIGPIPE - 1) | 1 << (libc::SIGXFSZ - 1);
    const SIZE: usize = size_of::<SignalSet>();
    let pending = || {
        let mut pending: SignalSet = 0;
        // SAFETY: the set has the size that is given.
        unsafe { syscall(libc::SYS_rt_sigpending, &raw mut pending, SIZE) };
        pending & RAISED
    };
    let before = set_mask(libc::SIG_BLOCK, RAISED);
    let old = pending();
    act();
    let set = pending() & !old;
    if set != 0 {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let nowhere = core::ptr::null_mut::<c_void>();
        // SAFETY: the set has the size that is given; nothing is written.
        unsafe { syscall(libc::SYS_rt_sigtimedwait, &raw const set, nowhere, &raw const at_once, SIZE) };
    }
    set_mask(libc::SIG_SETMASK, before);
}

/// What a file system says of a part of a file (ioctl_fiemap(2)): the extent that holds an offset or follows it,
/// together with those that adjoin it, as its start and length in bytes; none behind the last.
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
        result(unsafe { syscall(libc::SYS_ioctl, fd, FS_IOC_FIEMAP, &raw mut map) })?;
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

/// The kernel's ioctl(2), whatever other libraries are preloaded.
pub fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: the caller's own call, or one of ours whose argument has the shape that the request asks for.
    unsafe { syscall(libc::SYS_ioctl, fd, request, argument) as c_int }
}
