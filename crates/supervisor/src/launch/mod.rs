//! The front, the supervisor and the program: how they are started, and how each of them ends.

mod front;
mod job;
mod message;
mod program;
mod signals;
mod supervisor;

use std::fmt;
use std::io;
use std::process::Command;
use std::thread;

use rustix::process::{Pid, PidfdFlags, WaitStatus, getpid, pidfd_open, set_child_subreaper};
use rustix::thread::CapabilitySet;

use crate::policy::Policy;
use crate::refusals::{Refusals, Refused};
use crate::registry::Registry;
use crate::trace::{Missing, Receiver, Records, Sink};

use front::{stand_for_program, wait_for_others};
pub(crate) use message::{Message, StartError, Step, sockets};
pub(crate) use program::install_filter;
use signals::{Signals, end_by};
use supervisor::{Front, start, supervise};

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl Ended {
    /// Ends this process in the same way.
    pub fn end(self) -> ! {
        match self {
            Ended::Exited(status) => std::process::exit(status),
            Ended::Killed(signal) => end_by(signal),
        }
    }

    fn of(status: WaitStatus) -> Option<Ended> {
        status.exit_status().map(Ended::Exited).or(status.terminating_signal().map(Ended::Killed))
    }
}

/// Why the program was not started.
#[derive(Debug)]
pub enum Failure {
    /// The kernel has no notifications, or none that signals cannot interrupt.
    OldKernel,
    /// A supervisor of the same kind is there already.
    Supervised,
    /// A sandbox does not allow a filter.
    Forbidden(io::Error),
    /// /proc does not show the processes by the numbers that they have here.
    NoProc,
    /// A security module does not allow processes to look at others.
    Unreadable(io::Error),
    /// Something that the supervisor needs failed.
    System(io::Error),
    /// The program cannot be executed.
    NotExecuted(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::OldKernel => f.write_str(
                "the kernel lacks uninterruptible seccomp notifications (Linux 5.19 has them)",
            ),
            Failure::Supervised => f.write_str(
                "another supervisor already receives the system calls of this process: a container manager, or \
                 vmware-bdwrapper itself",
            ),
            Failure::Forbidden(error) => write!(f, "seccomp(2) is not allowed here: {error}"),
            Failure::NoProc => f.write_str("no /proc of this PID namespace is mounted"),
            Failure::Unreadable(error) => {
                write!(f, "the memory of other processes cannot be read: {error}")
            }
            Failure::System(error) | Failure::NotExecuted(error) => error.fmt(f),
        }
    }
}

impl Failure {
    pub(crate) fn of(step: Step, error: io::Error) -> Failure {
        match (step, error.raw_os_error()) {
            (Step::Filter, Some(libc::EINVAL | libc::ENOSYS)) => Failure::OldKernel,
            (Step::Filter, Some(libc::EBUSY)) => Failure::Supervised,
            (Step::Filter, _) => Failure::Forbidden(error),
            (Step::Prepare, _) => Failure::System(error),
            (Step::Proc, _) => Failure::NoProc,
            (Step::Null, _) => {
                Failure::System(io::Error::other(format!("/dev/null cannot be opened: {error}")))
            }
            (Step::Execute, _) => Failure::NotExecuted(error),
        }
    }
}

/// What the user should know while the program runs.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The supervisor has been killed.
    Lost,
    /// The supervisor may not look at this thread, the first such one.
    Refused(Refused),
}

/// Runs a program under a supervisor of its own, to its end, and calls `tell` for each event. Where records
/// are shown, it returns when no process of the tree is left, or when a signal asks for it after the
/// program's end.
///
/// Only while this process has one thread.
pub fn run(
    command: &mut Command,
    devices: Registry,
    policy: Policy,
    records: Records<'_>,
    tell: impl Fn(Event),
) -> Result<(Ended, Missing), Failure> {
    // A process that is orphaned when the supervisor is killed becomes a child of this one.
    set_child_subreaper(Some(getpid())).map_err(|errno| Failure::System(errno.into()))?;
    let (front, supervisor) = sockets().map_err(Failure::System)?;
    let (refusals, of_supervisor) = sockets().map_err(Failure::System)?;
    let (receiver, sink) = match records {
        Records::Shown(_) => {
            sockets().map(|(front, supervisor)| (Some(front), Some(Sink::Front(supervisor))))
        }
        Records::Lines => Sink::lines(&devices).map(|sink| (None, sink)),
        Records::Ignored => Ok((None, None)),
    }
    .map_err(Failure::System)?;
    let signals = Signals::take().map_err(Failure::System)?;
    let process = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|errno| Failure::System(errno.into()))?;
    let Some(child) = fork().map_err(Failure::System)? else {
        drop((front, refusals, receiver));
        let refusals = Refusals::new(of_supervisor);
        let front = Front { process, socket: supervisor };
        let started = start(command, devices, policy, sink, refusals, &signals, &front);
        supervise(started, &signals, front);
    };
    drop((process, supervisor, of_supervisor, sink));
    if let Some(user) = policy.user {
        user.confine(CapabilitySet::empty()).map_err(Failure::System)?;
    }
    let (Records::Shown(shown), Some(socket)) = (records, receiver) else {
        return stand_for_program(child, &front, &refusals, &signals, tell)
            .map(|ended| (ended, Missing::default()));
    };
    thread::scope(|scope| {
        let receiver = Receiver::start(scope, &socket, shown.record).map_err(Failure::System)?;
        let ended = stand_for_program(child, &front, &refusals, &signals, tell)?;
        wait_for_others(&receiver, &signals, shown.waits);
        Ok((ended, receiver.join()))
    })
}

/// fork(2); `None` in the child.
///
/// Only while this process has one thread.
#[allow(unsafe_code)]
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: there is one thread, so that the child can do whatever this process can.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}
