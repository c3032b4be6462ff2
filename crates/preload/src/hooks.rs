//! The functions that acquire and release descriptors. They only observe: log level 100 reports
//! each descriptor on a listed device.

use core::ffi::{c_char, c_int, c_uint, c_void};

use disk::entry::Printed;
use engine::errno;
use libc::{FILE, mode_t};

use crate::log::{self, Level};
use crate::{guess, next, registry, setup};

/// Forgets the guess for a descriptor that was acquired, and reports it.
#[inline]
fn report_acquired(fd: c_int, how: &str) -> c_int {
    guess::forget(fd);
    if log::is_enabled(Level::Descriptors) {
        report(fd, listed_name(fd), "on", how);
    }
    fd
}

#[inline]
fn report_acquired_file(file: *mut FILE, how: &str) -> *mut FILE {
    report_acquired(descriptor(file), how);
    file
}

/// Returns the descriptor of a stream, -1 if nothing is reported.
#[inline]
fn descriptor(file: *mut FILE) -> c_int {
    if file.is_null() || !log::is_enabled(Level::Descriptors) {
        return -1;
    }
    // SAFETY: a stream that the C library has just opened or is about to use.
    errno::preserving(|| unsafe { libc::fileno(file) })
}

/// Calls what releases a descriptor, and reports it if that did.
#[inline]
fn report_released<T>(fd: c_int, how: &str, act: impl FnOnce() -> T, did: impl FnOnce(&T) -> bool) -> T {
    let path = if log::is_enabled(Level::Descriptors) { listed_name(fd) } else { None };
    let result = act();
    if path.is_some() && did(&result) {
        report(fd, path, "no longer on", how);
    }
    result
}

/// Returns the name by which a descriptor's device is listed.
#[cold]
#[inline(never)]
fn listed_name(fd: c_int) -> Option<Printed<'static>> {
    errno::preserving(|| if setup::is_ready() { registry::name(fd) } else { None })
}

#[cold]
#[inline(never)]
fn report(fd: c_int, path: Option<Printed<'static>>, what: &str, how: &str) {
    if let Some(path) = path {
        log::write(format_args!("fd {fd} {what} {path} ({how})"));
    }
}

fn succeeded(result: &c_int) -> bool {
    *result != -1
}

/// Defines functions that take the place of the C library's.
macro_rules! hooks {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(#[doc = concat!(stringify!($name), ", observed.\n\n# Safety\n\nAs for the C library's.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? $body)*
    };
}

macro_rules! acquiring {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty, $report:ident;)*) => {
        hooks! {
            $(fn $name($($argument: $type),*) -> $result {
                // SAFETY: the caller's own call.
                $report(unsafe { next::$name($($argument),*) }, stringify!($name))
            })*
        }
    };
}

// Without O_CREAT the mode is garbage; it is forwarded unread.
acquiring! {
    open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, report_acquired;
    open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, report_acquired;
    __open_2(path: *const c_char, flags: c_int) -> c_int, report_acquired;
    __open64_2(path: *const c_char, flags: c_int) -> c_int, report_acquired;
    openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int, report_acquired;
    openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int, report_acquired;
    __openat_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int, report_acquired;
    __openat64_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int, report_acquired;
    creat(path: *const c_char, mode: mode_t) -> c_int, report_acquired;
    creat64(path: *const c_char, mode: mode_t) -> c_int, report_acquired;
    fopen(path: *const c_char, mode: *const c_char) -> *mut FILE, report_acquired_file;
    fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE, report_acquired_file;
    dup(fd: c_int) -> c_int, report_acquired;
}

/// Reports what freopen(3) releases and acquires. The old file is closed even if the new one cannot
/// be opened.
#[inline]
fn report_reopened(file: *mut FILE, how: &str, reopen: impl FnOnce() -> *mut FILE) -> *mut FILE {
    report_acquired_file(report_released(descriptor(file), how, reopen, |_| true), how)
}

hooks! {
    fn freopen(path: *const c_char, mode: *const c_char, file: *mut FILE) -> *mut FILE {
        // SAFETY: the caller's own call.
        report_reopened(file, "freopen", || unsafe { next::freopen(path, mode, file) })
    }

    fn freopen64(path: *const c_char, mode: *const c_char, file: *mut FILE) -> *mut FILE {
        // SAFETY: the caller's own call.
        report_reopened(file, "freopen64", || unsafe { next::freopen64(path, mode, file) })
    }

    fn fclose(file: *mut FILE) -> c_int {
        // The descriptor is closed even if that fails.
        // SAFETY: the caller's own call.
        report_released(descriptor(file), "fclose", || unsafe { next::fclose(file) }, |_| true)
    }

    fn close(fd: c_int) -> c_int {
        // Linux closes the descriptor even if that fails.
        // SAFETY: the caller's own call.
        report_released(fd, "close", || unsafe { next::close(fd) }, |_| true)
    }

    fn dup2(old: c_int, new: c_int) -> c_int {
        let replaced = if old == new { -1 } else { new };
        // SAFETY: the caller's own call.
        let fd = report_released(replaced, "dup2", || unsafe { next::dup2(old, new) }, succeeded);
        if old == new { fd } else { report_acquired(fd, "dup2") }
    }

    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
        // SAFETY: the caller's own call.
        let fd = report_released(new, "dup3", || unsafe { next::dup3(old, new, flags) }, succeeded);
        report_acquired(fd, "dup3")
    }

    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
        // With other flags it fails, or closes nothing yet.
        if first <= last && flags as c_uint & !libc::CLOSE_RANGE_UNSHARE == 0 {
            report_released_range(first, last, "close_range");
        }
        // SAFETY: the caller's own call.
        unsafe { next::close_range(first, last, flags) }
    }

    fn closefrom(first: c_int) {
        report_released_range(first.max(0) as c_uint, c_uint::MAX, "closefrom");
        // SAFETY: the caller's own call.
        unsafe { next::closefrom(first) }
    }

    fn fcntl(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
        // SAFETY: the caller's own call.
        report_fcntl(command, unsafe { next::fcntl(fd, command, argument) })
    }

    fn fcntl64(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
        // SAFETY: the caller's own call.
        report_fcntl(command, unsafe { next::fcntl64(fd, command, argument) })
    }
}

#[inline]
fn report_released_range(first: c_uint, last: c_uint, how: &str) {
    /// The limit of descriptors may be a thousand million, and each takes time to look up.
    const MOST: c_uint = 65535;
    if log::is_enabled(Level::Descriptors) {
        for fd in (first..=last.min(MOST)).map(|fd| fd as c_int) {
            report(fd, listed_name(fd), "no longer on", how);
        }
    }
}

#[inline]
fn report_fcntl(command: c_int, result: c_int) -> c_int {
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => report_acquired(result, "fcntl"),
        _ => result,
    }
}
