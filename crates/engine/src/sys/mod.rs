//! System calls. Not the C library's functions: some of those are cancellation points, some are
//! interposed by the preload library or others, and fstat(2) is a symbol only since glibc 2.33.

pub(crate) mod call;
mod file;
mod lock;
mod memory;
mod process;
mod signal;
mod socket;
mod status;
mod text;

pub use file::{
    File, access, close_range, extent, fallocate, file_system, flags, flush, ioctl, is_mounted_read_only,
    is_terminal, preadv, preadv_cached, pwritev, pwritev_in_place, readlink, seek, sync, write, write_atomic,
};
pub use lock::{Conflict, conflict, lock_byte, lock_file};
pub use memory::{Memory, PAGE, copy_in, copy_out, is_readable, is_writable};
pub use process::{
    RealUser, capabilities, effective_user, file_size_limit, has_thread, milliseconds, nanoseconds, process,
    sleep, take_real_rights, thread, thread_name,
};
pub use signal::{without_signals, without_write_signals};
pub use socket::send;
pub use status::{
    DeviceNumber, Status, UserId, atomic_unit, birth, fstat, fstat_with_birth, stat, stat_with_birth,
};
pub use text::{PathBuffer, decimal};
