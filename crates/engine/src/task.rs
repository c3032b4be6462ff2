//! A task with a descriptor table of its own, for descriptors that the program must not see.
//!
//! Closing any descriptor of a file drops the locks that the process has on it (fcntl(2), "Advisory
//! record locking"), and a descriptor that is opened in the program's table can clash with one that
//! another thread opens. So the rare operations that open something run in a task that shares the
//! program's memory, but has a descriptor table of its own. It is a thread that the C library does
//! not know: there is no child to wait for and no signal when it ends, and a job control stop stops
//! both.

use core::ffi::{c_int, c_uint, c_void};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use disk::Errno;

use crate::errno;
use crate::sys::call::{NumericCall, call, numeric};
use crate::sys::{self, File, Memory, Status};

/// The bytes of the task's stack.
const STACK: usize = 64 * 1024;

struct Work<F, T> {
    act: Option<F>,
    result: Option<T>,
}

/// Runs a function in a task with a descriptor table of its own, and waits for it; no signal is
/// handled meanwhile. The table is a copy of the program's, and is closed when the task ends.
///
/// Errors are those of clone(2) and mmap(2); `EAGAIN` if the task cannot get a table of its own.
pub fn run<T>(act: impl FnOnce() -> T) -> Result<T, Errno> {
    sys::without_signals(|| run_without_signals(act))
}

/// As [`run`], if the calling thread already handles no signal.
pub fn run_without_signals<F: FnOnce() -> T, T>(act: F) -> Result<T, Errno> {
    // As pthread_create(3): sandboxes that forbid new processes kill a program that leaves any of
    // these out (QEMU's).
    const FLAGS: c_int = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID;
    let mut stack = Memory::map(STACK)?;
    let mut work = Work { act: Some(act), result: None };
    // The kernel sets it to 0 when the task does not use its memory any more.
    let runs = AtomicU32::new(1);
    let top = stack.as_mut().as_mut_ptr_range().end;
    let mut number: c_int = 0;
    // SAFETY: the stack is the task's alone, `start` gets the address of what it works on, and all
    // of it lives until the task has ended: this function waits for that.
    let task = unsafe {
        libc::clone(
            start::<F, T>,
            top.cast(),
            FLAGS,
            (&raw mut work).cast(),
            &raw mut number,
            thread_pointer(),
            runs.as_ptr(),
        )
    };
    if task == -1 {
        return Err(Errno(errno::get()));
    }
    while runs.load(Ordering::Acquire) != 0 {
        // Not FUTEX_PRIVATE_FLAG: the kernel wakes without it.
        // SAFETY: the kernel reads the word, which this function holds.
        let _ = unsafe {
            call(libc::SYS_futex, (runs.as_ptr(), libc::FUTEX_WAIT, 1, ptr::null::<libc::timespec>()))
        };
    }
    work.result.ok_or(Errno::EAGAIN)
}

extern "C" fn start<F: FnOnce() -> T, T>(work: *mut c_void) -> c_int {
    // SAFETY: `run_without_signals` gave its address, and touches it only when the task has ended.
    let work = unsafe { &mut *work.cast::<Work<F, T>>() };
    if unshare_descriptors() {
        work.result = work.act.take().map(|act| act());
        // What the program closes from now on is not kept open by a copy. Before Linux 5.9 the
        // copies are closed when the task has ended, a moment after it is waited for.
        let _ = sys::close_range(0, c_uint::MAX, 0);
    }
    // Not by returning: before glibc 2.25 that ended the process.
    // SAFETY: it ends this task alone.
    let _ = unsafe { call(libc::SYS_exit, (0,)) };
    0
}

/// Gives the task a descriptor table of its own; returns false if that fails.
fn unshare_descriptors() -> bool {
    // It closes nothing. Before Linux 5.9: unshare(2), which sandboxes allow less often.
    sys::close_range(c_uint::MAX, c_uint::MAX, libc::CLOSE_RANGE_UNSHARE as c_int).is_ok()
        || numeric(NumericCall::UNSHARE, (libc::CLONE_FILES,)).is_ok()
}

/// Returns the thread pointer: the task has the calling thread's variables, `errno` among them.
fn thread_pointer() -> *mut c_void {
    let pointer;
    // SAFETY: it reads a register; on x86-64 the first word there is its own address (System V ABI,
    // "Thread-Local Storage").
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, nomem, preserves_flags));
    }
    pointer
}

/// Closes the task's copies of some descriptors, so that it can open others if the program has none
/// left.
pub fn free_descriptors(except: c_int) {
    for fd in (0..4).filter(|fd| *fd != except) {
        drop(File::from_fd(fd));
    }
}

/// Reopens the file of a descriptor if it is still the one that was checked. Only in a task of its
/// own.
///
/// Errors: `ENODEV` where the descriptor is open on something else; `EAGAIN` where there is no
/// /proc or no descriptor; those of open(2).
pub fn reopen(fd: c_int, checked: &Status, flags: c_int) -> Result<File, Errno> {
    // Before open(2), which could block or have effects on another file.
    if !sys::fstat(fd)?.is_same_file(checked) {
        return Err(Errno::ENODEV);
    }
    // Another process's lease is not waited for (fcntl(2), "Leases"): EAGAIN.
    let flags = if checked.file_type() == libc::S_IFREG { flags | libc::O_NONBLOCK } else { flags };
    let file = match File::reopen(fd, flags) {
        Err(Errno::EMFILE) => {
            free_descriptors(fd);
            File::reopen(fd, flags)
        }
        opened => opened,
    };
    let file = file.map_err(|errno| if errno == Errno::ENOENT { Errno::EAGAIN } else { errno })?;
    // The task's own copy, which would keep the file open a moment longer than the program does.
    drop(File::from_fd(fd));
    if file.status()?.is_same_file(checked) { Ok(file) } else { Err(Errno::ENODEV) }
}
