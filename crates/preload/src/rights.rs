//! Whose rights count.

use core::ffi::CStr;
use core::fmt::Write;

use disk::Errno;

use crate::storage::OnceCell;
use crate::sys::{self, File, Name, Status};
use crate::task;

/// The inode of the initial user namespace (`PROC_USER_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: u64 = 0xefff_fffd;

/// What is known of the program when the library is set up.
struct AtStart {
    /// The real user, the real group and a sum over the supplementary groups.
    real: Option<[u64; 3]>,
    /// Whether its privileges are those of the initial user namespace.
    of_the_machine: bool,
}

static AT_START: OnceCell<AtStart> = OnceCell::new();

/// Remembers what the program is allowed. In secure mode: who the real user is.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn set_up(secure: bool) {
    let real = if secure { sys::real_rights() } else { None };
    let of_the_machine = is_in_initial_namespace().unwrap_or(false);
    // SAFETY: as the caller says.
    unsafe { AT_START.set(AtStart { real, of_the_machine }) };
}

fn is_in_initial_namespace() -> Result<bool, Errno> {
    sys::stat(c"/proc/thread-self/ns/user").map(|namespace| namespace.inode == INITIAL_USER_NAMESPACE)
}

/// Whether the calling thread's privileges are those over the machine, not over a user namespace of its own
/// (user_namespaces(7)). Without /proc: as it was at the start.
pub fn are_of_the_machine() -> bool {
    is_in_initial_namespace().unwrap_or_else(|_| AT_START.get().is_some_and(|start| start.of_the_machine))
}

/// What the real user, with the groups that the program was started with, can open by a path for reading or, with `writing`, for
/// both. The path is walked and the file looked at with the rights of that user, and it is held in between: a link that
/// is exchanged meanwhile leads to one file or the other.
pub fn real_user_can_open(path: &CStr, writing: bool) -> Result<Status, Errno> {
    let start = AT_START.get().and_then(|start| start.real).ok_or(Errno::EPERM)?;
    if sys::real_rights() != Some(start) {
        return Err(Errno::EPERM);
    }
    task::run(|| {
        // SAFETY: this is a task of its own.
        unsafe { sys::take_real_rights() };
        let file = File::open(path, libc::O_PATH | libc::O_CLOEXEC)?;
        let status = file.status()?;
        let mut name = Name::new();
        let _ = write!(name, "/proc/thread-self/fd/{}", file.fd());
        sys::access(name.as_c_str()?, if writing { libc::R_OK | libc::W_OK } else { libc::R_OK })?;
        Ok(status)
    })?
}
