//! The front: the process that the user started, which stands for the program in the shell's job.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, getpgid, getpid, wait};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use super::message::Message;
use super::signals::{Arrived, Signals, is_ignored, kill, stop_by};
use super::{Ended, Event, Failure};
use crate::refusals;
use crate::trace::Receiver;

/// The front: passes on the signals that are sent to it, stops when the program stops, and returns how
/// that ended.
pub(super) fn stand_for_program(
    supervisor: Pid,
    front: &OwnedFd,
    refusals: &OwnedFd,
    signals: &Signals,
    tell: impl Fn(Event),
) -> Result<Ended, Failure> {
    let mut program = None;
    let mut refusals = Some(refusals);
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
        let watched = [front, &signals.descriptor].into_iter().chain(refusals);
        let mut fds: Vec<_> = watched.map(|descriptor| PollFd::new(descriptor, PollFlags::IN)).collect();
        if poll(&mut fds, None).is_err() {
            continue;
        }
        // Behind the others: where the end of the program is seen, what was refused before is, too.
        if fds.get(2).is_some_and(|fd| !fd.revents().is_empty()) {
            refusals.take().and_then(refusals::receive).map(Event::Refused).into_iter().for_each(&tell);
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
    tell(Event::Lost);
    wait_alone(program, supervisor, signals)
}

/// Makes the program the foreground of the terminal if a shell has brought this process there, and the
/// program, a shell itself, has a process group of its own.
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

/// Waits until no process of the tree is left, or until a signal ends the trace.
pub(super) fn wait_for_others(receiver: &Receiver<'_>, signals: &Signals, waits: impl Fn()) {
    /// Processes that end together with the program are gone by then.
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
