//! The front, the supervisor and the program: how they are started, and how each of them ends.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::thread;

use libc::{c_int, sigset_t};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, WaitOptions, WaitStatus, getpgid, getpid, getppid, getrlimit, getsid,
    pidfd_open, set_child_subreaper, setpgid, setrlimit, setsid, wait,
};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use rustix::thread::{CapabilitySet, set_no_new_privs};

use crate::filter;
use crate::notify::Listener;
use crate::policy::Policy;
use crate::pool::Pool;
use crate::registry::Registry;
use crate::trace::{Missing, Receiver, Records, Sink, Tracer};
use crate::user::User;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
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
            Failure::Unreadable(error) => {
                write!(f, "the memory of other processes cannot be read: {error}")
            }
            Failure::System(error) | Failure::NotExecuted(error) => error.fmt(f),
        }
    }
}

/// What the processes tell each other: a kind and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// To the front: the program runs, and is this process.
    Started(i32),
    /// To the front: why it does not run.
    NotStarted(Step, i32),
    /// To the front: it was stopped by this signal, for the so-many-th time.
    Stopped(i32, i32),
    /// To the front: it goes on.
    Continued,
    /// To the front: it has ended with this status.
    Exited(i32),
    /// To the front: it was killed by this signal.
    Killed(i32),
    /// To the supervisor: send the program this signal, which came when it had been stopped so many times.
    Signal(i32, i32),
    /// To the program: the supervisor is ready.
    Ready,
}

/// What was tried when the program could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Step {
    Prepare,
    Filter,
    Execute,
}

impl Message {
    const LENGTH: usize = 12;

    fn numbers(self) -> [i32; 3] {
        match self {
            Message::Started(process) => [1, process, 0],
            Message::NotStarted(step, errno) => [2, step as i32, errno],
            Message::Stopped(signal, stop) => [3, signal, stop],
            Message::Exited(status) => [4, status, 0],
            Message::Killed(signal) => [5, signal, 0],
            Message::Signal(signal, stop) => [6, signal, stop],
            Message::Ready => [7, 0, 0],
            Message::Continued => [8, 0, 0],
        }
    }

    fn from_numbers(numbers: [i32; 3]) -> Option<Message> {
        let step = |number| {
            [Step::Prepare, Step::Filter, Step::Execute].into_iter().find(|step| *step as i32 == number)
        };
        Some(match numbers {
            [1, process, _] => Message::Started(process),
            [2, number, errno] => Message::NotStarted(step(number)?, errno),
            [3, signal, stop] => Message::Stopped(signal, stop),
            [4, status, _] => Message::Exited(status),
            [5, signal, _] => Message::Killed(signal),
            [6, signal, stop] => Message::Signal(signal, stop),
            [7, ..] => Message::Ready,
            [8, ..] => Message::Continued,
            _ => return None,
        })
    }

    fn send(self, socket: &OwnedFd) -> io::Result<()> {
        let bytes = self.numbers().map(i32::to_ne_bytes).concat();
        send(socket, &bytes, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for the next one; `None` where the other side has ended.
    fn receive(socket: &OwnedFd) -> Option<Message> {
        let mut bytes = [0; Message::LENGTH];
        loop {
            match recv(socket, &mut bytes, RecvFlags::empty()) {
                Ok((_, Message::LENGTH)) => return Message::from_numbers(numbers(&bytes)),
                // The other side has ended without reading all: what it has sent is still there.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                _ => return None,
            }
        }
    }
}

fn numbers(bytes: &[u8; Message::LENGTH]) -> [i32; 3] {
    let number = |at: usize| i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [number(0), number(4), number(8)]
}

fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// fork(2); `None` in the child.
///
/// Only while this process has one thread.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: there is one thread, so that the child can do whatever this process can.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// Signals of a process that it takes from a descriptor instead of handling them.
struct Signals {
    descriptor: OwnedFd,
    inherited: Inherited,
}

/// What a program inherits of signals from the process that executed the command.
#[derive(Clone, Copy)]
struct Inherited {
    /// Those that are blocked.
    mask: sigset_t,
    /// What happens when a child ends: where that is ignored, it cannot be waited for.
    child: libc::sighandler_t,
}

/// A signal, and where it came from.
struct Arrived {
    signal: i32,
    /// The process that sent it; `None` of the terminal and the kernel.
    sender: Option<Pid>,
}

impl Signals {
    /// Blocks all signals of this process, and has them arrive here.
    fn take() -> io::Result<Signals> {
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
    fn next(&self) -> Option<Arrived> {
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
    fn restore(&self) {
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
    fn is_for_program(&self, supervisor: Pid, has_started: bool) -> bool {
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

/// Sends a signal to a process.
fn send_signal(process: &OwnedFd, signal: i32) {
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

/// Stops this process by the signal, one that can be blocked, that has stopped the program, unless that goes on already.
fn stop_by(signal: i32, front: &OwnedFd) {
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
    if poll(&mut [PollFd::new(front, PollFlags::IN)], Some(&now)) == Ok(0) {
        // SAFETY: the C library reads the set.
        unsafe {
            libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
            libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
        }
    }
}

/// kill(2)
fn kill(process: Pid, signal: i32) {
    // SAFETY: the call takes numbers.
    unsafe { libc::kill(process.as_raw_nonzero().get(), signal) };
}

/// Ends this process by a signal, as the program has ended.
fn end_by(signal: i32) -> ! {
    // The program has left the core that there is to leave.
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

/// Runs a program under a supervisor of its own, to its end. `lost` is called where the supervisor is
/// killed before the program has ended. Where records are shown, it returns when no process of the tree is
/// left, or when a signal asks for it after the program's end.
///
/// Only while this process has one thread.
pub fn run(
    command: &mut Command,
    devices: Registry,
    policy: Policy,
    records: Records<'_>,
    lost: impl FnOnce(),
) -> Result<(Ended, Missing), Failure> {
    // A process that is orphaned when the supervisor is killed becomes a child of this one.
    set_child_subreaper(Some(getpid())).map_err(|errno| Failure::System(errno.into()))?;
    let (front, supervisor) = sockets().map_err(Failure::System)?;
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
        drop((front, receiver));
        supervise(command, devices, policy, sink, &signals, Front { process, socket: supervisor });
    };
    drop((process, supervisor, sink));
    if let Some(user) = policy.user {
        user.confine(CapabilitySet::empty()).map_err(Failure::System)?;
    }
    let (Records::Shown(shown), Some(socket)) = (records, receiver) else {
        return stand_for_program(child, &front, &signals, lost).map(|ended| (ended, Missing::default()));
    };
    thread::scope(|scope| {
        let receiver = Receiver::start(scope, &socket, shown.record).map_err(Failure::System)?;
        let ended = stand_for_program(child, &front, &signals, lost)?;
        wait_for_others(&receiver, &signals, shown.waits);
        Ok((ended, receiver.join()))
    })
}

/// Waits until no process of the tree is left, or until a signal ends the trace.
fn wait_for_others(receiver: &Receiver<'_>, signals: &Signals, waits: impl Fn()) {
    /// How long those take at most to be gone that end with the program.
    const SHORT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    let mut timeout = Some(&SHORT);
    loop {
        let mut fds =
            [PollFd::new(&receiver.end, PollFlags::IN), PollFd::new(&signals.descriptor, PollFlags::IN)];
        match poll(&mut fds, timeout) {
            Ok(0) => waits(),
            _ if !fds[0].revents().is_empty() => return,
            _ => {}
        }
        timeout = None;
        while let Some(Arrived { signal, .. }) = signals.next() {
            match signal {
                libc::SIGINT | libc::SIGQUIT | libc::SIGTERM | libc::SIGHUP if !is_ignored(signal) => {
                    return receiver.stop();
                }
                libc::SIGTSTP => kill(getpid(), libc::SIGSTOP),
                _ => {}
            }
        }
    }
}

/// Returns whether this process ignores a signal, as nohup(1) has it do.
fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the C library fills the structure, for which zeros are valid.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// The front: passes on the signals that are sent to it, stops when the program stops, and returns how
/// that ended.
fn stand_for_program(
    supervisor: Pid,
    front: &OwnedFd,
    signals: &Signals,
    lost: impl FnOnce(),
) -> Result<Ended, Failure> {
    let mut program = None;
    // The last time that the program was stopped and this process was, too.
    let mut stop = 0;
    let pass_on = |program: Option<Pid>, stop: i32| {
        while let Some(arrived) = signals.next() {
            if arrived.is_for_program(supervisor, program.is_some()) {
                if arrived.signal == libc::SIGCONT {
                    program.into_iter().for_each(give_terminal_to);
                }
                let _ = Message::Signal(arrived.signal, stop).send(front);
            }
        }
    };
    loop {
        let mut fds = [PollFd::new(front, PollFlags::IN), PollFd::new(&signals.descriptor, PollFlags::IN)];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        // Before the signals: what has continued this process is for the time that it was stopped.
        if fds[0].revents().is_empty() {
            pass_on(program, stop);
            continue;
        }
        match Message::receive(front) {
            Some(Message::Started(process)) => program = Pid::from_raw(process),
            Some(Message::NotStarted(step, errno)) => {
                return Err(Failure::of(step, io::Error::from_raw_os_error(errno)));
            }
            // This process has been stopped already.
            Some(Message::Stopped(libc::SIGSTOP, time)) => stop = time,
            Some(Message::Stopped(signal, time)) => {
                pass_on(program, stop);
                stop = time;
                stop_by(signal, front);
                pass_on(program, stop);
            }
            Some(Message::Exited(status)) => return Ok(Ended::Exited(status)),
            Some(Message::Killed(signal)) => return Ok(Ended::Killed(signal)),
            Some(Message::Continued | Message::Signal(..) | Message::Ready) => {}
            None => break,
        }
    }
    let Some(program) = program else {
        return Err(Failure::System(io::Error::other("the supervisor has been killed")));
    };
    lost();
    wait_alone(program, supervisor, signals)
}

/// Has the program read from the terminal again where a shell has brought this process to the foreground,
/// and the program, a shell itself, has a process group of its own.
fn give_terminal_to(program: Pid) {
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else { return };
    let own = getpgid(None).ok();
    if let Some(group) = getpgid(Some(program)).ok().filter(|group| Some(*group) != own) {
        if tcgetpgrp(&terminal).ok() == own {
            let _ = tcsetpgrp(&terminal, group);
        }
    }
}

/// Waits for the program when the supervisor has been killed.
fn wait_alone(program: Pid, supervisor: Pid, signals: &Signals) -> Result<Ended, Failure> {
    loop {
        // Children that end, and signals to pass on, arrive here alike.
        let mut fds = [PollFd::new(&signals.descriptor, PollFlags::IN)];
        loop {
            match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((process, status))) if process == program => match Ended::of(status) {
                    Some(ended) => return Ok(ended),
                    None => kill(getpid(), libc::SIGSTOP),
                },
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => break,
                Err(errno) => return Err(Failure::System(errno.into())),
            }
        }
        let _ = poll(&mut fds, None);
        while let Some(arrived) = signals.next() {
            if arrived.is_for_program(supervisor, true) {
                kill(program, arrived.signal);
            }
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
            (Step::Execute, _) => Failure::NotExecuted(error),
        }
    }
}

/// The front, as the supervisor has it.
struct Front {
    process: OwnedFd,
    socket: OwnedFd,
}

/// The supervisor: starts the program, and answers until the last process of the tree has ended.
fn supervise(
    command: &mut Command,
    devices: Registry,
    policy: Policy,
    sink: Option<Sink>,
    signals: &Signals,
    front: Front,
) -> ! {
    let status = match start(command, devices, policy, sink, signals, &front) {
        Ok((program, pool)) => {
            answer_until_end(program, front, signals);
            pool.tracer.iter().for_each(Tracer::end);
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

/// The program, as the supervisor has it.
struct Program {
    number: Pid,
    /// It is sent signals through this, so that no other process gets them.
    descriptor: OwnedFd,
}

type StartError = (Step, io::Error);

fn start(
    command: &mut Command,
    devices: Registry,
    policy: Policy,
    sink: Option<Sink>,
    signals: &Signals,
    front: &Front,
) -> Result<(Program, &'static Pool), StartError> {
    let failed = |error: io::Error| (Step::Prepare, error);
    let errno = |errno: rustix::io::Errno| failed(errno.into());
    // Processes whose parents end become this one's children: a security module (Yama) may allow only an
    // ancestor to look at a process.
    set_child_subreaper(Some(getpid())).map_err(errno)?;
    let (socket, programs) = sockets().map_err(failed)?;
    let Some(number) = fork().map_err(failed)? else {
        drop(socket);
        become_program(command, policy, &signals.inherited, &programs)
    };
    drop(programs);
    leave_job();
    let descriptor = pidfd_open(number, PidfdFlags::empty()).map_err(errno)?;
    let program = Program { number, descriptor };
    let listener = receive_descriptor(&socket)?;
    let tracer = sink.map(Tracer::new).transpose().map_err(failed)?;
    let pool = Pool::new(Listener::new(listener), devices, policy, tracer);
    let pool: &'static Pool = Box::leak(Box::new(pool));
    let own = [&socket, &program.descriptor, &front.process, &front.socket, &signals.descriptor];
    let own = own.map(AsFd::as_fd).into_iter();
    let kept = own.chain([pool.listener.as_fd()]).chain(pool.tracer.as_ref().map(AsFd::as_fd));
    leave_behind(&kept.collect::<Vec<_>>()).map_err(failed)?;
    if let Some(user) = policy.user {
        user.confine(CapabilitySet::SYS_PTRACE).map_err(failed)?;
    }
    pool.start().map_err(failed)?;
    Message::Ready.send(&socket).map_err(failed)?;
    // The socket closes when the program is executed.
    match Message::receive(&socket) {
        Some(Message::NotStarted(step, errno)) => {
            let _ = wait(WaitOptions::empty());
            Err((step, io::Error::from_raw_os_error(errno)))
        }
        _ => Ok((program, pool)),
    }
}

/// Lets go of what belongs to the program: its files, its directory, its limits.
fn leave_behind(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
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

fn receive_descriptor(socket: &OwnedFd) -> Result<OwnedFd, StartError> {
    let lost = || (Step::Prepare, io::Error::from_raw_os_error(libc::ECHILD));
    let mut bytes = [0; Message::LENGTH];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let received = received.map_err(|errno| (Step::Prepare, errno.into()))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return descriptors.next().ok_or_else(lost);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err((Step::Prepare, io::Error::from_raw_os_error(libc::EMFILE)));
    }
    match Message::from_numbers(numbers(&bytes)) {
        Some(Message::NotStarted(step, errno)) => Err((step, io::Error::from_raw_os_error(errno))),
        _ => Err(lost()),
    }
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
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Pid::from_raw(parent.trim().parse().ok()?)
}

/// What the supervisor knows of the shell's job.
struct Job {
    program: Program,
    front: Front,
    is_stopped: bool,
    /// How often the program was stopped.
    stops: i32,
    /// Whether the front is stopped, as far as it has told.
    has_stopped_front: bool,
    /// Whether a signal that was passed on can still stop the program.
    may_stop: bool,
}

impl Job {
    /// Tells the front what has become of the program; fails where this process has no child any more.
    fn look(&mut self) -> rustix::io::Result<()> {
        loop {
            let options = WaitOptions::UNTRACED | WaitOptions::CONTINUED | WaitOptions::NOHANG;
            match wait(options) {
                Ok(None) => return Ok(()),
                Ok(Some((process, status))) if process == self.program.number => self.tell(status),
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn tell(&mut self, status: WaitStatus) {
        self.is_stopped = status.stopped();
        let message = match Ended::of(status) {
            Some(Ended::Exited(status)) => Message::Exited(status),
            Some(Ended::Killed(signal)) => Message::Killed(signal),
            None => match status.stopping_signal() {
                Some(signal) => {
                    self.may_stop = false;
                    self.stops = self.stops.wrapping_add(1).max(1);
                    // Before it can have read the message, so that what continues it comes later than both.
                    if signal == libc::SIGSTOP {
                        send_signal(&self.front.process, signal);
                    }
                    Message::Stopped(signal, self.stops)
                }
                None => Message::Continued,
            },
        };
        let _ = message.send(&self.front.socket);
        // Not without need: SIGCONT would take back a stop that is on its way to the front.
        if std::mem::replace(&mut self.has_stopped_front, self.is_stopped) && !self.is_stopped {
            send_signal(&self.front.process, libc::SIGCONT);
        }
    }

    /// Passes on a signal that came when the program had been stopped so many times, as far as the front
    /// knew. SIGCONT that a shell sends reaches the program too: then the program may have been stopped
    /// again meanwhile.
    fn pass_on(&mut self, signal: i32, stop: i32) {
        if signal == libc::SIGCONT {
            let is_current = stop == self.stops;
            if is_current {
                self.has_stopped_front = false;
            }
            let is_for_stop = self.is_stopped && is_current;
            if !is_for_stop && !self.may_stop {
                return;
            }
        }
        let stops = matches!(signal, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU);
        self.may_stop = stops && !self.is_stopped;
        send_signal(&self.program.descriptor, signal);
    }
}

/// Passes on what happens to the program and to the front, and returns when no process of the tree is left.
fn answer_until_end(program: Program, front: Front, signals: &Signals) {
    let _ = Message::Started(program.number.as_raw_nonzero().get()).send(&front.socket);
    let mut job =
        Job { program, front, is_stopped: false, stops: 0, has_stopped_front: false, may_stop: false };
    let mut has_front = true;
    loop {
        while signals.next().is_some() {}
        if job.look().is_err() {
            return;
        }
        let mut fds =
            [PollFd::new(&signals.descriptor, PollFlags::IN), PollFd::new(&job.front.socket, PollFlags::IN)];
        let watched = if has_front { 2 } else { 1 };
        if poll(&mut fds[..watched], None).is_err() || fds[1].revents().is_empty() {
            continue;
        }
        match Message::receive(&job.front.socket) {
            Some(Message::Signal(signal, stop)) => {
                // It may be for what has happened to the program since.
                if job.look().is_err() {
                    return;
                }
                job.pass_on(signal, stop);
            }
            Some(_) => {}
            None => {
                // Where the front has been killed, the program would have been.
                has_front = false;
                send_signal(&job.program.descriptor, libc::SIGKILL);
            }
        }
    }
}

/// The program: installs the filter, hands the listener to the supervisor, and is executed.
fn become_program(command: &mut Command, policy: Policy, inherited: &Inherited, socket: &OwnedFd) -> ! {
    let failed = |step, error| -> ! { not_executed(socket, step, &error) };
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

fn not_executed(socket: &OwnedFd, step: Step, error: &io::Error) -> ! {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let _ = Message::NotStarted(step, errno).send(socket);
    // SAFETY: it ends this process.
    unsafe { libc::_exit(127) }
}

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

fn send_descriptor(socket: &OwnedFd, descriptor: OwnedFd) -> io::Result<()> {
    let bytes = [0; Message::LENGTH];
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
