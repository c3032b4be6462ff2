//! The start of the program: its filter, its identity, and its execution.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::c_int;
use rustix::thread::set_no_new_privs;

use super::message::{Message, Step, send_descriptor};
use super::signals::Inherited;
use crate::filter;
use crate::policy::Policy;
use crate::user::User;

/// The program: installs the filter, hands the listener to the supervisor, and is executed.
pub(super) fn become_program(
    command: &mut Command,
    policy: Policy,
    inherited: &Inherited,
    socket: &OwnedFd,
) -> ! {
    let failed = |step, error| -> ! { fail(socket, step, &error) };
    if policy.no_new_privileges {
        if let Err(errno) = set_no_new_privs(true) {
            failed(Step::Filter, errno.into());
        }
    }
    let listener = match install_filter() {
        Ok(listener) => listener,
        Err(error) => failed(Step::Filter, error),
    };
    let sent = send_descriptor(socket, listener);
    if let Err(error) = sent {
        failed(Step::Prepare, error);
    }
    if Message::receive(socket) != Some(Message::Ready) {
        failed(Step::Prepare, io::Error::from_raw_os_error(libc::ECHILD));
    }
    if let Some(Err(error)) = policy.user.map(User::take_identity) {
        failed(Step::Prepare, error);
    }
    inherited.restore();
    let error = command.exec();
    failed(Step::Execute, error)
}

/// Tells the supervisor why the program is not executed, and ends this process.
fn fail(socket: &OwnedFd, step: Step, error: &io::Error) -> ! {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let _ = Message::NotStarted(step, errno).send(socket);
    // SAFETY: it ends this process.
    unsafe { libc::_exit(127) }
}

/// Installs the filter in this process, and returns its listener.
pub(crate) fn install_filter() -> io::Result<OwnedFd> {
    let program = filter::program();
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the kernel reads the program.
    let fd =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}
