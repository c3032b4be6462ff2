//! Whose rights count.

use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use disk::Errno;

use crate::sys::{self, File, Name, Status};
use crate::task;

/// The inode of the initial user namespace (`PROC_USER_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: u64 = 0xefff_fffd;

/// Whether the program's privileges were those over the machine when a block device was first found.
static OF_THE_MACHINE: AtomicBool = AtomicBool::new(false);

/// Remembers what [`are_of_the_machine`] says, for when /proc cannot be reached any more.
pub fn learn() {
    OF_THE_MACHINE.store(are_of_the_machine(), Ordering::Relaxed);
}

fn is_in_initial_namespace() -> Result<bool, Errno> {
    sys::stat(c"/proc/thread-self/ns/user").map(|namespace| namespace.inode == INITIAL_USER_NAMESPACE)
}

/// Whether the calling thread's privileges are those over the machine, not over a user namespace of its own
/// (user_namespaces(7)).
pub fn are_of_the_machine() -> bool {
    is_in_initial_namespace().unwrap_or_else(|_| OF_THE_MACHINE.load(Ordering::Relaxed))
}

/// What the real user, with the groups that the program was started with (`at_start`), can open by a path for reading or, with
/// `writing`, for both. The path is walked and the file looked at with the rights of that user, and it is held in between: a link that
/// is exchanged meanwhile leads to one file or the other. The result is what the file is, and when its inode was made.
///
/// Errors: `EAGAIN`, `ENFILE` and `ENOMEM` where it cannot be told.
pub fn real_user_can_open(at_start: [u64; 3], path: &CStr, writing: bool) -> Result<(Status, u64), Errno> {
    if sys::real_rights() != Some(at_start) {
        return Err(Errno::EPERM);
    }
    let looked = task::run(|| {
        task::make_room(-1);
        // SAFETY: this is a task of its own.
        unsafe { sys::take_real_rights() };
        let file = File::open(path, libc::O_PATH | libc::O_CLOEXEC)?;
        let (status, birth) = (file.status()?, sys::birth(file.fd()));
        let mut name = Name::new();
        let _ = write!(name, "/proc/thread-self/fd/{}", file.fd());
        sys::access(name.as_c_str()?, if writing { libc::R_OK | libc::W_OK } else { libc::R_OK })?;
        Ok((status, birth))
    });
    looked.unwrap_or(Err(Errno::EAGAIN))
}
