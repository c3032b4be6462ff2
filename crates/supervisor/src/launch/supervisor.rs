//! The start of the supervisor, and what it leaves to the program.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;

use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, getpgid, getpid, getppid, getrlimit, getsid, pidfd_open,
    set_child_subreaper, setpgid, setrlimit, setsid,
};
use rustix::thread::CapabilitySet;

use super::fork;
use super::job::answer_until_end;
use super::message::{Message, StartError, Step, receive_descriptor, sockets};
use super::program::become_program;
use super::signals::Signals;
use crate::notify::Listener;
use crate::policy::Policy;
use crate::pool::Pool;
use crate::refusals::Refusals;
use crate::registry::Registry;
use crate::target::{ProcessStatus, find_itself};
use crate::trace::{Sink, Tracer};

/// The front, as the supervisor has it.
pub(super) struct Front {
    pub(super) process: OwnedFd,
    pub(super) socket: OwnedFd,
}

/// The program, as the supervisor has it.
pub(super) struct Program {
    pub(super) number: Pid,
    /// It is sent signals through this, so that no other process gets them.
    pub(super) descriptor: OwnedFd,
    /// It closes when the program is executed. Until then the program can be stopped and killed, too.
    pub(super) start: Option<OwnedFd>,
}

/// The supervisor, from when it has tried to start the program: answers until the last process of the tree
/// has ended.
pub(super) fn supervise(
    started: Result<(Program, &'static Pool), StartError>,
    signals: &Signals,
    front: Front,
) -> ! {
    let status = match started {
        Ok((program, pool)) => {
            answer_until_end(program, front, signals);
            pool.tracer.iter().for_each(Tracer::end);
            pool.registry.close();
            0
        }
        Err((step, error)) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let _ = Message::NotStarted(step, errno).send(&front.socket);
            1
        }
    };
    std::process::exit(status)
}

/// Starts the program, and the threads that answer it.
pub(super) fn start(
    command: &mut Command,
    devices: Registry,
    policy: Policy,
    sink: Option<Sink>,
    refusals: Refusals,
    signals: &Signals,
    front: &Front,
) -> Result<(Program, &'static Pool), StartError> {
    find_itself()?;
    let failed = |error: io::Error| (Step::Prepare, error);
    let errno = |errno: rustix::io::Errno| failed(errno.into());
    // Processes whose parents end become this one's children: a security module (Yama) may allow only an
    // ancestor to look at a process.
    set_child_subreaper(Some(getpid())).map_err(errno)?;
    let (socket, program_socket) = sockets().map_err(failed)?;
    let Some(number) = fork().map_err(failed)? else {
        drop(socket);
        become_program(command, policy, &signals.inherited, &program_socket)
    };
    drop(program_socket);
    leave_job();
    let descriptor = pidfd_open(number, PidfdFlags::empty()).map_err(errno)?;
    let listener = receive_descriptor(&socket)?;
    let tracer = sink.map(Tracer::new).transpose().map_err(failed)?;
    let pool = Pool::new(Listener::new(listener), devices, policy, tracer, refusals);
    let pool: &'static Pool = Box::leak(Box::new(pool));
    let own = [&socket, &descriptor, &front.process, &front.socket, &signals.descriptor];
    let own = own.map(AsFd::as_fd).into_iter();
    let kept = own
        .chain([pool.listener.as_fd(), pool.refusals.as_fd()])
        .chain(pool.tracer.as_ref().map(AsFd::as_fd));
    let nothing = File::options().read(true).write(true).open("/dev/null");
    let nothing = nothing.map_err(|error| (Step::Null, error))?;
    leave_behind(nothing, &kept.collect::<Vec<_>>()).map_err(failed)?;
    if let Some(user) = policy.user {
        user.confine(CapabilitySet::SYS_PTRACE).map_err(failed)?;
    }
    pool.registry.open();
    pool.start().map_err(failed)?;
    Message::Ready.send(&socket).map_err(failed)?;
    Ok((Program { number, descriptor, start: Some(socket) }, pool))
}

/// Lets go of what belongs to the program: its files, its directory, its limits.
fn leave_behind(nothing: File, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    for standard in 0..3 {
        // SAFETY: nothing of this process uses them any more.
        unsafe { libc::dup2(nothing.as_raw_fd(), standard) };
    }
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut first = 3;
    drop(nothing);
    for fd in kept.into_iter().chain([u32::MAX]) {
        if fd > first {
            engine::sys::close_range(first, fd - 1, 0)
                .map_err(|errno| io::Error::from_raw_os_error(errno.0))?;
        }
        first = fd.saturating_add(1);
    }
    std::env::set_current_dir("/")?;
    for resource in [Resource::As, Resource::Cpu, Resource::Data, Resource::Fsize, Resource::Nofile] {
        let limit = getrlimit(resource);
        let _ = setrlimit(resource, Rlimit { current: limit.maximum, ..limit });
    }
    Ok(())
}

/// Leaves the job of the shell, which the program stays in: the keys of the terminal are for that alone.
fn leave_job() {
    // A process group whose processes have no parent in another group of the session cannot be stopped by
    // the terminal, as nobody would continue it. The program's parent is this process.
    let _ = if is_orphaned() { setsid().map(drop) } else { setpgid(None, None) };
}

/// Returns whether the process group of this process is an orphaned one (setpgid(2)), as far as those tell
/// that this process descends from.
fn is_orphaned() -> bool {
    let mut parent = getppid();
    while parent.is_some() && getpgid(parent) == getpgid(None) {
        parent = parent.and_then(parent_of);
    }
    getsid(parent.or(Pid::from_raw(1))) != getsid(None)
}

/// Returns the parent of a process (proc_pid_status(5)).
fn parent_of(process: Pid) -> Option<Pid> {
    let status = ProcessStatus::read(&format!("/proc/{}/status", process.as_raw_nonzero())).ok()?;
    Pid::from_raw(status.number("PPid:").ok()?)
}
