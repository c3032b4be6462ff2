//! The preload engine: catches a program's calls of ioctl(2), lets the core answer those on listed
//! devices and forwards all others unchanged.
//!
//! It may be called at any time: before its own constructor, in a signal handler, in a child of
//! vfork(2), in threads at once. So it waits for no lock (COMPARE AND WRITE and ORWRITE try theirs
//! until their timeout), allocates nothing, keeps no descriptor and leaves `errno` alone unless a
//! call fails.
#![no_std]

mod guess;
mod hooks;
mod log;
mod next;
mod panic;
mod record;
mod registry;
mod report;
mod secure;
mod setup;
mod storage;

use core::ffi::{c_int, c_ulong, c_void};

use disk::record::Header;
use disk::request::Family;
use disk::trace::capture::Capture;
use disk::trace::{DecodedArgument, Input, Output, RequestName, ReturnValue};
use disk::{Answer, Device, Errno};
use engine::call::Call;
use engine::{errno, sys};
use fast::OwnProcess;
use log::Level;

/// ioctl(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // Like the kernel, use the low 32 bits: a request that was an int may be sign-extended.
    if !disk::request::is_disk_request(request as u32) {
        // SAFETY: the caller's own call.
        return unsafe { next::ioctl(fd, request, argument) };
    }
    disk_request(fd, request, argument)
}

/// Handles a request that a disk driver could answer.
#[cold]
#[inline(never)]
fn disk_request(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: the caller's own call.
    let forward = || unsafe { next::ioctl(fd, request, argument) };
    match errno::preserving(|| answer(fd, request as u32, argument as u64, forward)) {
        Some(result) => result.unwrap_or_else(fail),
        None => forward(),
    }
}

/// Returns the result of a request; `None` if it is to be forwarded.
#[inline]
fn answer(
    fd: c_int,
    request: u32,
    argument: u64,
    forward: impl FnOnce() -> c_int,
) -> Option<Result<c_int, Errno>> {
    // Not every request of a family is a driver's.
    let family = disk::request::family(request)?;
    let is_command = request == disk::request::SG_IO;
    let is_traced = || log::is_enabled(Level::Requests) || record::receiver().is_some();
    let process = OwnProcess::default();
    let guess = if is_command { guess::is_file(fd) } else { None };
    if guess.is_some() && !is_traced() && process.has_read_or_write(argument) {
        if let Some(result) = read_or_write(fd, argument, &process) {
            return Some(result);
        }
    }
    let found =
        if setup::is_ready() { registry::look_up(fd, guess == Some(true)) } else { Err(Errno::EPERM) };
    let hit = match found {
        Ok(Some(hit)) => hit,
        Ok(None) | Err(Errno::EBADF) => {
            guess::forget(fd);
            return None;
        }
        // The block layer stays on the device; a driver's request could reach the disk underneath.
        Err(_) if family == Family::BlockLayer => return None,
        Err(_) => return Some(Err(Errno::EPERM)),
    };
    let device = hit.device();
    let call = hit.call(process, fd);
    // Returns EBADF for O_PATH. SG_IO checks only when it fails, to be fast; the kernel checks what
    // it answers.
    let by_kernel = family == Family::BlockLayer && call.is_block_device() && !device.entry.read_only;
    if !is_command && !by_kernel {
        if let Err(errno) = call.flags() {
            return Some(Err(errno));
        }
    }
    if is_traced() {
        return Some(answer_traced(&device, &call, request, argument, forward));
    }
    let result = result(&call, disk::answer(&device, &call, request, argument));
    if is_command && result.is_some_and(|result| result.is_ok()) {
        guess::remember(fd, &hit);
    }
    result
}

/// Returns the result of READ or WRITE on what the descriptor is probably open on, if it is, and that can
/// be carried out directly.
fn read_or_write(fd: c_int, header: u64, process: &OwnProcess) -> Option<Result<c_int, Errno>> {
    let (hit, birth) = guess::device(fd)?;
    let call = hit.call(process.clone(), fd).assuming(birth);
    result(&call, fast::read_or_write(&hit.device(), &call, header)?)
}

/// Returns the result of an answer; `None` if the kernel is to answer.
#[inline]
fn result(call: &Call<OwnProcess>, answer: Answer) -> Option<Result<c_int, Errno>> {
    match answer {
        Answer::Forward => None,
        Answer::Value(value) => Some(Ok(value)),
        Answer::Error(errno) => Some(Err(call.flags().err().unwrap_or(errno))),
        // Never: the caller is this process.
        Answer::CallerGone => Some(Err(Errno::EFAULT)),
    }
}

/// Sets `errno` and returns -1.
fn fail(errno: Errno) -> c_int {
    errno::set(errno.0);
    -1
}

/// Answers or forwards a request, and records or logs it.
#[inline(never)]
fn answer_traced(
    device: &Device<'_>,
    call: &Call<OwnProcess>,
    request: u32,
    argument: u64,
    forward: impl FnOnce() -> c_int,
) -> Result<c_int, Errno> {
    let mut decoded = DecodedArgument::read_input(call, request, argument);
    let capture = record::receiver().map(|receiver| (receiver, Capture::before(call, request, argument)));
    let start = sys::nanoseconds();
    let answered = result(call, disk::answer(device, call, request, argument));
    let forwarded = answered.is_none();
    let result = answered.unwrap_or_else(|| match forward() {
        -1 => Err(Errno(errno::get())),
        value => Ok(value),
    });
    let (process, thread) = (sys::process(), sys::thread());
    if let Some((receiver, mut capture)) = capture {
        let header = Header {
            process: process as u32,
            thread: thread as u32,
            name: sys::thread_name(),
            fd: call.fd(),
            request,
            argument,
            kind: device.entry.kind,
            abi: disk::Abi::Native,
            result: Some(result),
            forwarded,
            duration: sys::nanoseconds().saturating_sub(start),
            data_length: capture.data_length(),
        };
        capture.cut_to_answer(call, &header);
        if receiver.send(&header, device.entry.path, &capture).is_ok() {
            return result;
        }
    }
    if result.is_ok() {
        decoded.read_output(call);
    }
    log::write(format_args!(
        "pid {process} tid {thread}: ioctl({}, {}, {}) on {} = {}{}, {}",
        call.fd(),
        RequestName(request),
        Input(&decoded),
        device.entry.printed_path(),
        ReturnValue(result),
        Output(&decoded),
        if forwarded { "forwarded" } else { "answered" },
    ));
    result
}
