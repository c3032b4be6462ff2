//! The listener of a filter (seccomp_unotify(2)): what it is notified of, and the answers.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use disk::Errno;
use rustix::event::{PollFd, PollFlags, poll};

use crate::filter;

/// ioctl(2) of a thread of the tree, which waits for the answer.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    /// What it is called.
    pub id: u64,
    /// The thread; 0 where this process cannot see it.
    pub thread: i32,
    /// Whether the thread made the call as i386 programs do.
    pub is_i386: bool,
    /// The descriptor.
    pub fd: i32,
    /// The request.
    pub request: u32,
    /// The third argument.
    pub argument: u64,
}

/// What the thread gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The kernel's own answer.
    Continue,
    /// Success, with what ioctl(2) returns.
    Value(i32),
    /// A failure.
    Error(Errno),
}

/// The listener of the tree's filter.
pub struct Listener(OwnedFd);

impl Listener {
    /// Takes over the descriptor that seccomp(2) returned.
    pub fn new(fd: OwnedFd) -> Listener {
        let listener = Listener(fd);
        // Linux before 6.6 wakes the other side less directly.
        const SYNC_WAKE_UP: u64 = 1;
        // SAFETY: the request takes a number.
        unsafe { libc::ioctl(listener.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
        listener
    }

    /// Waits for a notification; `None` when no process has the filter any more. Before Linux 6.11 it
    /// waits longer than that.
    pub fn receive(&self) -> Option<Notification> {
        loop {
            // SAFETY: all of its fields are numbers; the kernel wants zeros.
            let mut found: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the kernel fills its structure.
            let received =
                unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut found) };
            if received == 0 {
                return Some(Notification::from(&found));
            }
            // Otherwise a signal has arrived, or the thread has been killed since.
            if self.events().intersects(PollFlags::HUP | PollFlags::ERR) {
                return None;
            }
        }
    }

    /// Returns whether another notification waits.
    pub fn has_more(&self) -> bool {
        self.events().contains(PollFlags::IN)
    }

    fn events(&self) -> PollFlags {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = poll(&mut fds, Some(&now));
        fds[0].revents()
    }

    /// Returns whether the thread still waits, so that its number is still its own.
    pub fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the kernel reads a number of 64 bits.
        let valid =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
        valid == 0
    }

    /// Answers. A thread that has been killed since needs no answer.
    pub fn answer(&self, id: u64, reply: Reply) {
        let (val, error, flags) = match reply {
            Reply::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Reply::Value(value) => (value.into(), 0, 0),
            Reply::Error(Errno(errno)) => (0, -errno, 0),
        };
        let response = libc::seccomp_notif_resp { id, val, error, flags };
        // SAFETY: the kernel reads its structure.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<&libc::seccomp_notif> for Notification {
    fn from(found: &libc::seccomp_notif) -> Notification {
        let [fd, request, argument, ..] = found.data.args;
        let is_i386 = found.data.arch == filter::I386;
        Notification {
            id: found.id,
            thread: found.pid as i32,
            is_i386,
            // The kernel looks at the low halves of both.
            fd: fd as i32,
            request: request as u32,
            argument: if is_i386 { argument & u64::from(u32::MAX) } else { argument },
        }
    }
}
