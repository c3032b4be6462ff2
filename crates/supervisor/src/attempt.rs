//! Whether a supervisor can be started here: a child process tries what one needs.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::set_no_new_privs;

use crate::launch::{Failure, Message, StartError, Step, fork, install_filter, sockets};
use crate::policy::loses_privileges;
use crate::target::find_itself;

/// Says why no supervisor can be started by this process. It changes nothing in this process.
pub fn available() -> Result<(), Failure> {
    let (socket, theirs) = sockets().map_err(Failure::System)?;
    let Some(child) = fork().map_err(Failure::System)? else {
        drop(socket);
        answer(&theirs)
    };
    drop(theirs);
    let found = ask(&socket, child);
    // The child ends when this closes.
    drop(socket);
    while matches!(waitpid(Some(child), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
    found
}

/// The child: says how it has fared, and stays until it may end.
fn answer(socket: &OwnedFd) -> ! {
    let tried = attempt();
    let message = match &tried {
        Ok(_) => Message::Ready,
        Err((step, error)) => Message::NotStarted(*step, error.raw_os_error().unwrap_or(libc::EIO)),
    };
    let _ = message.send(socket);
    let _ = Message::receive(socket);
    // SAFETY: it ends this process.
    unsafe { libc::_exit(0) }
}

/// Looks for itself in /proc, and installs the filter.
fn attempt() -> Result<OwnedFd, StartError> {
    find_itself()?;
    let privileges =
        if loses_privileges() { set_no_new_privs(true).map_err(io::Error::from) } else { Ok(()) };
    privileges.and_then(|()| install_filter()).map_err(|error| (Step::Filter, error))
}

fn ask(socket: &OwnedFd, child: Pid) -> Result<(), Failure> {
    match Message::receive(socket) {
        Some(Message::Ready) => reaches(child),
        Some(Message::NotStarted(step, errno)) => Err(Failure::of(step, io::Error::from_raw_os_error(errno))),
        // A filter of a sandbox has killed the child.
        _ => Err(Failure::Forbidden(io::Error::from_raw_os_error(libc::EPERM))),
    }
}

/// Whether the memory of a child can be read, as that of a program must be.
fn reaches(child: Pid) -> Result<(), Failure> {
    let (theirs, mut ours) = (0_u8, 1_u8);
    let remote = libc::iovec { iov_base: (&raw const theirs).cast_mut().cast(), iov_len: 1 };
    let local = libc::iovec { iov_base: (&raw mut ours).cast(), iov_len: 1 };
    // SAFETY: the kernel writes a byte to the local variable; the other address is looked at in the child.
    let read = unsafe {
        libc::process_vm_readv(child.as_raw_nonzero().get(), &raw const local, 1, &raw const remote, 1, 0)
    };
    match read {
        1 => Ok(()),
        _ => Err(Failure::Unreadable(io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_changes() {
        let privileges = rustix::thread::no_new_privs();
        // Whether it is available is the machine's; two attempts agree.
        let first = available().map_err(|failure| failure.to_string());
        assert_eq!(first, available().map_err(|failure| failure.to_string()));
        assert_eq!(rustix::thread::no_new_privs(), privileges);
    }
}
