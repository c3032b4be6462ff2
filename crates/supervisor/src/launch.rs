//! The front, the supervisor and the program: how they are started, and how each of them ends.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::Arc;
use std::thread;

use libc::{c_int, sigset_t};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getppid, getrlimit,
    kill_process, pidfd_open, pidfd_send_signal, set_child_subreaper, setpgid, setrlimit, wait,
};
use rustix::thread::set_no_new_privs;

use crate::filter;
use crate::notify::Listener;
use crate::policy::Policy;
use crate::pool::Pool;
use crate::registry::Registry;

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
    /// To the front: it was stopped by this signal.
    Stopped,
    /// To the front: it has ended with this status.
    Exited(i32),
    /// To the front: it was killed by this signal.
    Killed(i32),
    /// To the supervisor: send the program this signal.
    Signal(i32),
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
            Message::Stopped => [3, 0, 0],
            Message::Exited(status) => [4, status, 0],
            Message::Killed(signal) => [5, signal, 0],
            Message::Signal(signal) => [6, signal, 0],
            Message::Ready => [7, 0, 0],
        }
    }

    fn from_numbers(numbers: [i32; 3]) -> Option<Message> {
        let step = |number| {
            [Step::Prepare, Step::Filter, Step::Execute].into_iter().find(|step| *step as i32 == number)
        };
        Some(match numbers {
            [1, process, _] => Message::Started(process),
            [2, number, errno] => Message::NotStarted(step(number)?, errno),
            [3, ..] => Message::Stopped,
            [4, status, _] => Message::Exited(status),
            [5, signal, _] => Message::Killed(signal),
            [6, signal, _] => Message::Signal(signal),
            [7, ..] => Message::Ready,
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
                Err(rustix::io::Errno::INTR) => {}
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
    /// Those that were blocked before.
    mask: sigset_t,
}

/// A signal, and where it came from.
struct Arrived {
    signal: i32,
    /// Whether a process sent it, not the terminal or the kernel.
    is_sent: bool,
}

impl Signals {
    /// Blocks all signals of this process, and has them arrive here.
    fn take() -> io::Result<Signals> {
        let (mut all, mut mask) = (MaybeUninit::<sigset_t>::uninit(), MaybeUninit::<sigset_t>::uninit());
        // SAFETY: the C library fills both sets; one is blocked and watched.
        let (fd, mask) = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(mask.as_mut_ptr());
            libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), mask.as_mut_ptr());
            (libc::signalfd(-1, all.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK), mask.assume_init())
        };
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it.
        Ok(Signals { descriptor: unsafe { OwnedFd::from_raw_fd(fd) }, mask })
    }

    /// Returns one that has arrived.
    fn next(&self) -> Option<Arrived> {
        // SAFETY: all of its fields are numbers.
        let mut found: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&found);
        // SAFETY: the kernel fills its structure.
        let read = unsafe { libc::read(self.descriptor.as_raw_fd(), (&raw mut found).cast(), size) };
        let is_sent = matches!(found.ssi_code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL);
        (read == size as isize).then_some(Arrived { signal: found.ssi_signo as i32, is_sent })
    }
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
/// killed before the program has ended.
///
/// Only while this process has one thread.
pub fn run(
    command: &mut Command,
    devices: Registry,
    policy: Policy,
    lost: impl FnOnce(),
) -> Result<Ended, Failure> {
    // A process that is orphaned when the supervisor is killed becomes a child of this one.
    set_child_subreaper(Some(getpid())).map_err(|errno| Failure::System(errno.into()))?;
    let (front, supervisor) = sockets().map_err(Failure::System)?;
    let signals = Signals::take().map_err(Failure::System)?;
    if fork().map_err(Failure::System)?.is_none() {
        drop(front);
        supervise(command, devices, policy, signals.mask, supervisor);
    }
    drop(supervisor);
    stand_for_program(&front, &signals, lost)
}

/// The front: passes on the signals that are sent to it, stops when the program stops, and returns how
/// that ended.
fn stand_for_program(front: &OwnedFd, signals: &Signals, lost: impl FnOnce()) -> Result<Ended, Failure> {
    let mut program = None;
    loop {
        let mut fds = [PollFd::new(front, PollFlags::IN), PollFd::new(&signals.descriptor, PollFlags::IN)];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        let [has_message, _] = fds.map(|fd| !fd.revents().is_empty());
        while let Some(arrived) = signals.next() {
            // The terminal has sent the others to the program itself.
            let is_passed_on = arrived.signal == libc::SIGCONT || arrived.is_sent;
            if is_passed_on && arrived.signal != libc::SIGCHLD {
                let _ = Message::Signal(arrived.signal).send(front);
            }
        }
        if !has_message {
            continue;
        }
        match Message::receive(front) {
            Some(Message::Started(process)) => program = Pid::from_raw(process),
            Some(Message::NotStarted(step, errno)) => {
                return Err(Failure::of(step, io::Error::from_raw_os_error(errno)));
            }
            Some(Message::Stopped) => {
                let _ = kill_process(getpid(), Signal::STOP);
            }
            Some(Message::Exited(status)) => return Ok(Ended::Exited(status)),
            Some(Message::Killed(signal)) => return Ok(Ended::Killed(signal)),
            Some(Message::Signal(_) | Message::Ready) => {}
            None => break,
        }
    }
    let Some(program) = program else {
        return Err(Failure::System(io::Error::other("the supervisor has been killed")));
    };
    lost();
    wait_alone(program, signals)
}

/// Waits for the program when the supervisor has been killed.
fn wait_alone(program: Pid, signals: &Signals) -> Result<Ended, Failure> {
    loop {
        // Children that end, and signals to pass on, arrive here alike.
        let mut fds = [PollFd::new(&signals.descriptor, PollFlags::IN)];
        loop {
            match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((process, status))) if process == program => match Ended::of(status) {
                    Some(ended) => return Ok(ended),
                    None => drop(kill_process(getpid(), Signal::STOP)),
                },
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => break,
                Err(errno) => return Err(Failure::System(errno.into())),
            }
        }
        let _ = poll(&mut fds, None);
        while let Some(arrived) = signals.next() {
            let is_passed_on = arrived.signal == libc::SIGCONT || arrived.is_sent;
            let signal = Signal::from_named_raw(arrived.signal);
            if let Some(signal) = signal.filter(|signal| is_passed_on && *signal != Signal::CHILD) {
                let _ = kill_process(program, signal);
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

/// The supervisor: starts the program, and answers until the last process of the tree has ended.
fn supervise(command: &mut Command, devices: Registry, policy: Policy, mask: sigset_t, front: OwnedFd) -> ! {
    let status = match start(command, devices, policy, mask, &front) {
        Ok(program) => {
            answer_until_end(program, front);
            0
        }
        Err((step, error)) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let _ = Message::NotStarted(step, errno).send(&front);
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
    socket: OwnedFd,
}

type StartError = (Step, io::Error);

fn start(
    command: &mut Command,
    devices: Registry,
    policy: Policy,
    mask: sigset_t,
    front: &OwnedFd,
) -> Result<Program, StartError> {
    let failed = |error: io::Error| (Step::Prepare, error);
    let errno = |errno: rustix::io::Errno| failed(errno.into());
    // Processes whose parents end become this one's children: a security module (Yama) may allow only an
    // ancestor to look at a process.
    set_child_subreaper(Some(getpid())).map_err(errno)?;
    let (socket, programs) = sockets().map_err(failed)?;
    let Some(number) = fork().map_err(failed)? else {
        drop(socket);
        become_program(command, policy, mask, &programs)
    };
    drop(programs);
    // The keys of the terminal are for the program.
    let _ = setpgid(None, None);
    let descriptor = pidfd_open(number, PidfdFlags::empty()).map_err(errno)?;
    let program = Program { number, descriptor, socket };
    let listener = receive_descriptor(&program.socket)?;
    let messages = if policy.shows_requests { messages(&devices).map_err(failed)? } else { None };
    let pool = Pool::new(Listener::new(listener), devices, policy, messages);
    let pool: &'static Pool = Box::leak(Box::new(pool));
    let own = [&program.socket, &program.descriptor, front].map(AsFd::as_fd).into_iter();
    let kept = own.chain([pool.listener.as_fd()]).chain(pool.messages.as_ref().map(AsFd::as_fd));
    leave_behind(&kept.collect::<Vec<_>>()).map_err(failed)?;
    thread::Builder::new().spawn(|| pool.serve()).map_err(failed)?;
    Message::Ready.send(&program.socket).map_err(failed)?;
    // The socket closes when the program is executed.
    match Message::receive(&program.socket) {
        Some(Message::NotStarted(step, errno)) => {
            let _ = wait(WaitOptions::empty());
            Err((step, io::Error::from_raw_os_error(errno)))
        }
        _ => Ok(program),
    }
}

/// Returns the standard error, unless messages would destroy what is there.
fn messages(devices: &Registry) -> io::Result<Option<File>> {
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let is_disk = file.metadata()?.file_type().is_block_device() || devices.lists(&file);
    Ok(Some(file).filter(|_| !is_disk))
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
    for resource in [Resource::Nofile, Resource::Fsize] {
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
    received.map_err(|errno| (Step::Prepare, errno.into()))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return descriptors.next().ok_or_else(lost);
        }
    }
    match Message::from_numbers(numbers(&bytes)) {
        Some(Message::NotStarted(step, errno)) => Err((step, io::Error::from_raw_os_error(errno))),
        _ => Err(lost()),
    }
}

/// Answers, passes on what happens to the program, and returns when no process of the tree is left.
fn answer_until_end(program: Program, front: OwnedFd) {
    let Program { number, descriptor, socket } = program;
    drop(socket);
    let front = Arc::new(front);
    let _ = Message::Started(number.as_raw_nonzero().get()).send(&front);
    // While it has not been told how the program ended, it is this process's parent.
    let fronts = getppid().and_then(|front| pidfd_open(front, PidfdFlags::empty()).ok());
    let from_front = Arc::clone(&front);
    // Where there is no thread for it, signals to the front are lost; the program runs.
    let _ = thread::Builder::new().spawn(move || {
        while let Some(message) = Message::receive(&from_front) {
            let Message::Signal(signal) = message else { continue };
            // A shell has sent SIGCONT to the program too.
            if signal == libc::SIGCONT && !is_stopped(number) {
                continue;
            }
            if let Some(signal) = Signal::from_named_raw(signal) {
                let _ = pidfd_send_signal(&descriptor, signal);
            }
        }
        // Where the front has been killed, the program would have been.
        let _ = pidfd_send_signal(&descriptor, Signal::KILL);
    });
    loop {
        match wait(WaitOptions::UNTRACED | WaitOptions::CONTINUED) {
            Ok(Some((process, status))) if process == number => {
                let message = match Ended::of(status) {
                    Some(Ended::Exited(status)) => Message::Exited(status),
                    Some(Ended::Killed(signal)) => Message::Killed(signal),
                    None if status.continued() => {
                        // It may have stopped only now.
                        let _ = fronts.as_ref().map(|front| pidfd_send_signal(front, Signal::CONT));
                        continue;
                    }
                    None => Message::Stopped,
                };
                let _ = message.send(&front);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Nobody is left.
            Err(_) => return,
        }
    }
}

/// Returns whether a process is stopped (proc_pid_stat(5)).
fn is_stopped(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

/// The program: installs the filter, hands the listener to the supervisor, and is executed.
fn become_program(command: &mut Command, policy: Policy, mask: sigset_t, socket: &OwnedFd) -> ! {
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
    // SAFETY: the C library reads the set.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, ptr::null_mut()) };
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
