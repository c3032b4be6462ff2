//! The rights of the real user, and user namespaces.

use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};

use disk::Errno;

use crate::sys::{self, File, PathBuffer, RealUser, Status};
use crate::task;

/// The inode of the initial user namespace (`PROC_USER_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: u64 = 0xefff_fffd;

/// The remembered value.
static WAS_IN_INITIAL_USER_NAMESPACE: AtomicBool = AtomicBool::new(false);

/// Remembers [`is_in_initial_user_namespace`], for when /proc is not reachable any more.
pub fn remember_user_namespace() {
    WAS_IN_INITIAL_USER_NAMESPACE.store(is_in_initial_user_namespace(), Ordering::Relaxed);
}

/// Returns whether the calling thread is in the initial user namespace (user_namespaces(7)).
pub fn is_in_initial_user_namespace() -> bool {
    match is_initial_user_namespace(c"/proc/thread-self/ns/user") {
        Ok(is_initial) => is_initial,
        Err(_) => WAS_IN_INITIAL_USER_NAMESPACE.load(Ordering::Relaxed),
    }
}

/// Returns whether a file of /proc/PID/ns is the initial user namespace.
pub fn is_initial_user_namespace(path: &CStr) -> Result<bool, Errno> {
    Ok(sys::stat(path)?.inode == INITIAL_USER_NAMESPACE)
}

/// Looks up what the real user, with the groups that the program was started with (`at_start`), can
/// open by a path for reading or, with `writing`, for both. The path is walked and the file is
/// checked with the rights of that user, and the file is held in between: a link that is replaced
/// meanwhile leads to one file or the other. The result is the file's status, and when its inode
/// was made.
///
/// Errors: `EAGAIN`, `ENFILE` and `ENOMEM` if that cannot be determined.
pub fn real_user_can_open(at_start: RealUser, path: &CStr, writing: bool) -> Result<(Status, u64), Errno> {
    if RealUser::current() != Some(at_start) {
        return Err(Errno::EPERM);
    }
    let opened = task::run(|| {
        task::free_descriptors(-1);
        // SAFETY: this is a task of its own.
        unsafe { sys::take_real_rights() };
        let file = File::open(path, libc::O_PATH | libc::O_CLOEXEC)?;
        let (status, birth) = (file.status()?, sys::birth(file.fd()));
        let name = PathBuffer::format(format_args!("/proc/thread-self/fd/{}", file.fd()))?;
        sys::access(name.as_c_str(), if writing { libc::R_OK | libc::W_OK } else { libc::R_OK })?;
        Ok((status, birth))
    });
    opened.unwrap_or(Err(Errno::EAGAIN))
}
