//! Signals: taken from a descriptor, passed on, and repeated on the front as they came to the program.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use libc::sigset_t;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Resource, Rlimit, getpid, getsid, setrlimit};

/// The signals of this process, which it reads from a descriptor.
pub(super) struct Signals {
    pub(super) descriptor: OwnedFd,
    pub(super) inherited: Inherited,
}

/// What a program inherits of signals from the process that executed the command.
#[derive(Clone, Copy)]
pub(super) struct Inherited {
    /// Those that are blocked.
    mask: sigset_t,
    /// What happens when a child ends: where that is ignored, it cannot be waited for.
    child: libc::sighandler_t,
}

/// A signal, and where it came from.
pub(super) struct Arrived {
    pub(super) signal: i32,
    /// The process that sent it; `None` of the terminal and the kernel.
    sender: Option<Pid>,
}

impl Signals {
    /// Blocks all signals of this process, and watches them.
    pub(super) fn take() -> io::Result<Signals> {
        let (mut all, mut mask) = (MaybeUninit::<sigset_t>::uninit(), MaybeUninit::<sigset_t>::uninit());
        // SAFETY: the C library fills both sets; one is blocked and watched.
        let (fd, inherited) = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(mask.as_mut_ptr());
            libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), mask.as_mut_ptr());
            let child = libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            let fd = libc::signalfd(-1, all.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            (fd, Inherited { mask: mask.assume_init(), child })
        };
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it.
        Ok(Signals { descriptor: unsafe { OwnedFd::from_raw_fd(fd) }, inherited })
    }

    /// Returns one that has arrived.
    pub(super) fn next(&self) -> Option<Arrived> {
        // SAFETY: all of its fields are numbers.
        let mut found: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&found);
        // SAFETY: the kernel fills its structure.
        let read = unsafe { libc::read(self.descriptor.as_raw_fd(), (&raw mut found).cast(), size) };
        let is_sent = matches!(found.ssi_code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL);
        let sender = Pid::from_raw(found.ssi_pid as i32).filter(|_| is_sent);
        (read == size as isize).then_some(Arrived { signal: found.ssi_signo as i32, sender })
    }
}

impl Inherited {
    /// Gives it back to this process.
    pub(super) fn restore(&self) {
        // SAFETY: the C library reads the set, and takes what it returned.
        unsafe {
            libc::signal(libc::SIGCHLD, self.child);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, ptr::null_mut());
        }
    }
}

impl Arrived {
    /// Returns whether the front passes it on: the program has received for itself what the terminal
    /// sends to a process group.
    pub(super) fn is_for_program(&self, supervisor: Pid, has_started: bool) -> bool {
        match (self.signal, self.sender) {
            (libc::SIGCHLD, _) => false,
            // It stops and continues this process as the program is.
            (_, Some(sender)) if sender == supervisor || sender == getpid() => false,
            (_, Some(_)) | (libc::SIGCONT, None) => true,
            // The leader of a session hears alone that the terminal has hung up. Timers are this process's.
            (libc::SIGHUP, None) => getsid(None).is_ok_and(|leader| leader == getpid()) || !has_started,
            (signal, None) => signal == libc::SIGALRM || !has_started,
        }
    }
}

/// Returns whether this process ignores a signal, as nohup(1) has it do.
pub(super) fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the C library fills the structure, for which zeros are valid.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Sends a signal to a process.
pub(super) fn send_signal(process: &OwnedFd, signal: i32) {
    // SAFETY: the call takes numbers, and no information of the signal. One to a process that has ended is
    // lost, as by kill(2).
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
}

/// kill(2)
pub(super) fn kill(process: Pid, signal: i32) {
    // SAFETY: the call takes numbers.
    unsafe { libc::kill(process.as_raw_nonzero().get(), signal) };
}

/// Stops this process by the signal that has stopped the program, which must be one that can be blocked;
/// does nothing if the program has been continued since.
pub(super) fn stop_by(signal: i32, front: &OwnedFd) {
    let mut set = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: the C library fills the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::signal(signal, libc::SIG_DFL);
        // It waits until it is not blocked, and SIGCONT, which follows the message, takes it back.
        libc::kill(libc::getpid(), signal);
    }
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // The messages after that of a stop say that it is over.
    if poll(&mut [PollFd::new(front, PollFlags::IN)], Some(&now)) == Ok(0) {
        // SAFETY: the C library reads the set.
        unsafe {
            libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
            libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
        }
    }
}

/// Ends this process by the signal that has ended the program.
pub(super) fn end_by(signal: i32) -> ! {
    // The program has left its core already.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let mut all = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: the C library fills the set.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::sigfillset(all.as_mut_ptr());
        libc::raise(signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, all.as_ptr(), ptr::null_mut());
    }
    std::process::exit(128 + signal)
}
