//! The functions that acquire and release descriptors. They observe: at log level 100 each descriptor on a listed device
//! is reported; nothing is decided here.

use core::ffi::{c_char, c_int, c_uint, c_void};

use disk::entry::Printed;
use engine::errno;
use libc::{FILE, mode_t};

use crate::log::{self, Level};
use crate::{next, registry, setup};

/// Reports a descriptor that was acquired.
#[inline]
fn acquired(fd: c_int, how: &str) -> c_int {
    if log::enabled(Level::Descriptors) {
        report(fd, listed(fd), "on", how);
    }
    fd
}

#[inline]
fn acquired_file(file: *mut FILE, how: &str) -> *mut FILE {
    acquired(number(file), how);
    file
}

/// The descriptor of a stream, -1 where it is not needed.
#[inline]
fn number(file: *mut FILE) -> c_int {
    if file.is_null() || !log::enabled(Level::Descriptors) {
        return -1;
    }
    // SAFETY: a stream that the C library has just opened or is about to use.
    errno::preserving(|| unsafe { libc::fileno(file) })
}

/// Does what releases a descriptor, and reports it where that did.
#[inline]
fn released<T>(fd: c_int, how: &str, act: impl FnOnce() -> T, did: impl FnOnce(&T) -> bool) -> T {
    let path = if log::enabled(Level::Descriptors) { listed(fd) } else { None };
    let result = act();
    if path.is_some() && did(&result) {
        report(fd, path, "no longer on", how);
    }
    result
}

/// The name by which a descriptor's device is listed.
#[cold]
#[inline(never)]
fn listed(fd: c_int) -> Option<Printed<'static>> {
    errno::preserving(|| if setup::ready() { registry::name(fd) } else { None })
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

macro_rules! acquiring {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty, $report:ident;)*) => {
        $(#[doc = concat!(stringify!($name), ", observed.\n\n# Safety\n\nAs for the C library's.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            // SAFETY: the caller's own call.
            $report(unsafe { next::$name($($argument),*) }, stringify!($name))
        })*
    };
}

// A mode that the caller did not give is passed on as whatever stands in its register, and not looked at.
acquiring! {
    open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, acquired;
    open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, acquired;
    __open_2(path: *const c_char, flags: c_int) -> c_int, acquired;
    __open64_2(path: *const c_char, flags: c_int) -> c_int, acquired;
    openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int, acquired;
    openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int, acquired;
    __openat_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int, acquired;
    __openat64_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int, acquired;
    creat(path: *const c_char, mode: mode_t) -> c_int, acquired;
    creat64(path: *const c_char, mode: mode_t) -> c_int, acquired;
    fopen(path: *const c_char, mode: *const c_char) -> *mut FILE, acquired_file;
    fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE, acquired_file;
    dup(fd: c_int) -> c_int, acquired;
}

macro_rules! reopening {
    ($($name:ident)*) => {
        $(#[doc = concat!(stringify!($name), ", observed.\n\n# Safety\n\nAs for the C library's.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            path: *const c_char,
            mode: *const c_char,
            file: *mut FILE,
        ) -> *mut FILE {
            // The old file is closed even where the new one cannot be opened.
            // SAFETY: the caller's own call.
            let reopen = || unsafe { next::$name(path, mode, file) };
            acquired_file(released(number(file), stringify!($name), reopen, |_| true), stringify!($name))
        })*
    };
}

reopening! { freopen freopen64 }

/// fclose(3), observed.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fclose(file: *mut FILE) -> c_int {
    // The descriptor is closed even where that fails.
    // SAFETY: the caller's own call.
    released(number(file), "fclose", || unsafe { next::fclose(file) }, |_| true)
}

/// close(2), observed.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    // Linux closes the descriptor even where that fails.
    // SAFETY: the caller's own call.
    released(fd, "close", || unsafe { next::close(fd) }, |_| true)
}

/// dup2(2), observed.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    let replaced = if old == new { -1 } else { new };
    // SAFETY: the caller's own call.
    let fd = released(replaced, "dup2", || unsafe { next::dup2(old, new) }, succeeded);
    if old == new { fd } else { acquired(fd, "dup2") }
}

/// dup3(2), observed.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's own call.
    let fd = released(new, "dup3", || unsafe { next::dup3(old, new, flags) }, succeeded);
    acquired(fd, "dup3")
}

/// close_range(2), observed.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    // With other flags it fails, or closes nothing yet.
    if first <= last && flags as c_uint & !libc::CLOSE_RANGE_UNSHARE == 0 {
        report_range(first, last, "close_range");
    }
    // SAFETY: the caller's own call.
    unsafe { next::close_range(first, last, flags) }
}

/// closefrom(3), observed.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn closefrom(first: c_int) {
    report_range(first.max(0) as c_uint, c_uint::MAX, "closefrom");
    // SAFETY: the caller's own call.
    unsafe { next::closefrom(first) }
}

#[inline]
fn report_range(first: c_uint, last: c_uint, how: &str) {
    /// The limit of descriptors may be a thousand million, and looking at each takes its time.
    const MOST: c_uint = 65535;
    if log::enabled(Level::Descriptors) {
        for fd in (first..=last.min(MOST)).map(|fd| fd as c_int) {
            report(fd, listed(fd), "no longer on", how);
        }
    }
}

/// fcntl(2), observed.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: the caller's own call.
    controlled(command, unsafe { next::fcntl(fd, command, argument) })
}

/// fcntl(2) for large files, observed.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: the caller's own call.
    controlled(command, unsafe { next::fcntl64(fd, command, argument) })
}

#[inline]
fn controlled(command: c_int, result: c_int) -> c_int {
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => acquired(result, "fcntl"),
        _ => result,
    }
}
