//! The calling process and thread: numbers, rights, limits, time.

use core::ffi::c_int;
use core::ptr;

use disk::Errno;

use super::UserId;
use super::call::{NumericCall, call, filled, number, numeric};

/// Returns the calling process.
pub fn process() -> c_int {
    number(NumericCall::GETPID) as c_int
}

/// Returns the calling thread.
pub fn thread() -> c_int {
    number(NumericCall::GETTID) as c_int
}

/// Returns the effective user.
pub fn effective_user() -> UserId {
    UserId(number(NumericCall::GETEUID))
}

/// Returns whether the calling process has this thread.
pub fn has_thread(thread: c_int) -> bool {
    // Signal 0 is not sent.
    numeric(NumericCall::TGKILL, (process(), thread, 0)) != Err(Errno::ESRCH)
}

/// Returns the calling thread's name.
pub fn thread_name() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: the kernel writes 16 bytes.
    let _ = unsafe { call(libc::SYS_prctl, (libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0)) };
    name
}

/// Returns the largest size that the calling process may give a file, in bytes (getrlimit(2),
/// `RLIMIT_FSIZE`).
pub fn file_size_limit() -> u64 {
    let nothing = ptr::null::<libc::rlimit64>();
    let limit = |limit: *mut libc::rlimit64| {
        // SAFETY: the kernel fills a `struct rlimit64`.
        unsafe { call(libc::SYS_prlimit64, (0, libc::RLIMIT_FSIZE, nothing, limit)) }
    };
    // SAFETY: as it says.
    unsafe { filled(limit, |limit| limit.rlim_cur) }.unwrap_or(u64::MAX)
}

/// Sleeps for a part of a second, or until a signal comes.
pub fn sleep(nanoseconds: u32) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds.min(999_999_999).into() };
    let nowhere = ptr::null_mut::<libc::timespec>();
    // SAFETY: the kernel reads a `struct timespec`.
    let _ = unsafe { call(libc::SYS_nanosleep, (&raw const time, nowhere)) };
}

/// Returns the time since some moment, in milliseconds.
pub fn milliseconds() -> u64 {
    time(libc::CLOCK_MONOTONIC_COARSE) / 1_000_000
}

/// Returns the time since some moment, in nanoseconds.
pub fn nanoseconds() -> u64 {
    time(libc::CLOCK_MONOTONIC)
}

fn time(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the C library fills its own structure.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// `_LINUX_CAPABILITY_VERSION_3`, and 0 for the calling thread.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];

/// Returns the calling thread's effective, permitted and inheritable capabilities: the low 32 bits
/// of each, then the high ones (capget(2)).
fn capability_sets() -> Result<[u32; 6], Errno> {
    let (mut header, mut data) = (CAPABILITY_HEADER, [0; 6]);
    // SAFETY: both have the size of the kernel's structures.
    unsafe { call(libc::SYS_capget, (header.as_mut_ptr(), data.as_mut_ptr())) }?;
    Ok(data)
}

/// Returns the calling thread's effective capabilities, a bit each.
pub fn capabilities() -> u64 {
    capability_sets().map_or(0, |[low, _, _, high, ..]| u64::from(low) | u64::from(high) << 32)
}

/// The real user, the real group and a sum over the supplementary groups of a process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RealUser {
    user: UserId,
    group: u32,
    groups: u64,
}

impl RealUser {
    /// Returns those of the calling process; `None` where it has too many groups to tell.
    pub fn current() -> Option<RealUser> {
        let mut groups = [0u32; 256];
        // SAFETY: the kernel writes at most as many groups as it is told.
        let count = unsafe { call(libc::SYS_getgroups, (groups.len(), groups.as_mut_ptr())) }.ok()?;
        // FNV-1a; the kernel keeps the groups sorted.
        let sum = groups.get(..count)?.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, &group| {
            (sum ^ u64::from(group)).wrapping_mul(0x0100_0000_01b3)
        });
        let (user, group) = (UserId(number(NumericCall::GETUID)), number(NumericCall::GETGID));
        Some(RealUser { user, group, groups: sum })
    }
}

/// Gives the calling task the real user's rights to files (setfsuid(2)), and no others.
///
/// # Safety
///
/// Only in a task of its own: the C library does not know of the change.
pub unsafe fn take_real_rights() {
    let dumpable = |arguments: (c_int, c_int, c_int, c_int, c_int)| {
        // SAFETY: these operations take no address.
        unsafe { call(libc::SYS_prctl, arguments) }
    };
    // The kernel then clears the dumpable flag (PR_SET_DUMPABLE) of the memory, which is also the
    // program's.
    let is_dumpable = dumpable((libc::PR_GET_DUMPABLE, 0, 0, 0, 0)) == Ok(1);
    let _ = numeric(NumericCall::SETFSGID, (number(NumericCall::GETGID),));
    let _ = numeric(NumericCall::SETFSUID, (number(NumericCall::GETUID),));
    // As access(2) does it.
    if number(NumericCall::GETUID) != 0 {
        if let Ok([_, permitted, inheritable, _, permitted_high, inheritable_high]) = capability_sets() {
            let data = [0, permitted, inheritable, 0, permitted_high, inheritable_high];
            let mut header = CAPABILITY_HEADER;
            // SAFETY: both have the size of the kernel's structures.
            let _ = unsafe { call(libc::SYS_capset, (header.as_mut_ptr(), data.as_ptr())) };
        }
    }
    if is_dumpable {
        let _ = dumpable((libc::PR_SET_DUMPABLE, 1, 0, 0, 0));
    }
}
