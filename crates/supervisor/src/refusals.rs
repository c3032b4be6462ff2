//! What the front is told of programs that the supervisor may not look at. It has a socket of its own: what
//! comes by that for the shell's job has an order.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{RecvFlags, SendFlags, recv, send};

/// A thread whose request is refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Its number.
    pub thread: i32,
    /// Its name (`PR_GET_NAME`), with zeros behind it.
    pub name: [u8; 16],
}

/// Tells the front of the first such thread.
pub struct Refusals {
    front: OwnedFd,
    is_told: AtomicBool,
}

impl Refusals {
    /// Begins with a socket to the front.
    pub fn new(front: OwnedFd) -> Refusals {
        Refusals { front, is_told: AtomicBool::new(false) }
    }

    /// Tells which thread is refused, unless another has been told of.
    pub fn tell(&self, refused: impl FnOnce() -> Refused) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            let Refused { thread, name } = refused();
            // A front that has ended has nobody to tell.
            let _ = send(&self.front, &[&thread.to_ne_bytes()[..], &name].concat(), SendFlags::NOSIGNAL);
        }
    }
}

impl AsFd for Refusals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.front.as_fd()
    }
}

/// Takes what has come to the front; `None` where the supervisor has ended.
pub fn receive(socket: &OwnedFd) -> Option<Refused> {
    let mut bytes = [0; 20];
    match recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
        Ok((_, 20)) => {
            Some(Refused { thread: i32::from_ne_bytes(*bytes.first_chunk()?), name: *bytes.last_chunk()? })
        }
        _ => None,
    }
}
