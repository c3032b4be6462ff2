//! Whether a supervisor can be started here: a child process tries what one needs.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::set_no_new_privs;

use crate::launch::{Failure, Step, fork, install_filter};
use crate::policy::loses_privileges;

/// Says why no supervisor can be started by this process. It changes nothing in this process.
pub fn available() -> Result<(), Failure> {
    let (mut socket, theirs) = UnixStream::pair().map_err(Failure::System)?;
    let Some(child) = fork().map_err(Failure::System)? else {
        drop(socket);
        answer(theirs)
    };
    drop(theirs);
    let found = ask(&mut socket, child);
    // The child ends when this closes.
    drop(socket);
    while matches!(waitpid(Some(child), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
    found
}

/// The child: installs the filter, writes the errno or 0, and stays until it may end.
fn answer(mut socket: UnixStream) -> ! {
    let privileges =
        if loses_privileges() { set_no_new_privs(true).map_err(io::Error::from) } else { Ok(()) };
    let listener = privileges.and_then(|()| install_filter());
    let errno = listener.as_ref().map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |_| 0);
    let _ = socket.write_all(&errno.to_ne_bytes());
    let _ = socket.read(&mut [0]);
    // SAFETY: it ends this process.
    unsafe { libc::_exit(0) }
}

fn ask(socket: &mut UnixStream, child: Pid) -> Result<(), Failure> {
    let mut errno = [0; 4];
    socket.read_exact(&mut errno).map_err(|error| match error.kind() {
        // A filter of a sandbox has killed the child.
        ErrorKind::UnexpectedEof => Failure::Forbidden(io::Error::from_raw_os_error(libc::EPERM)),
        _ => Failure::System(error),
    })?;
    match i32::from_ne_bytes(errno) {
        0 => reaches(child),
        errno => Err(Failure::of(Step::Filter, io::Error::from_raw_os_error(errno))),
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
