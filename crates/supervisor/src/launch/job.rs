//! The shell's job, as the supervisor sees it: what happens to the program and to the front.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, WaitStatus, wait};

use super::Ended;
use super::message::Message;
use super::signals::{Signals, send_signal};
use super::supervisor::{Front, Program};

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

    /// Tells the front if the program could not be executed.
    fn tell_start(&mut self) {
        let Some(start) = self.program.start.take() else { return };
        if let Some(why @ Message::NotStarted(..)) = Message::receive(&start) {
            let _ = why.send(&self.front.socket);
        }
    }

    fn tell(&mut self, status: WaitStatus) {
        if Ended::of(status).is_some() {
            self.tell_start();
        }
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
pub(super) fn answer_until_end(program: Program, front: Front, signals: &Signals) {
    let _ = Message::Started(program.number.as_raw_nonzero().get()).send(&front.socket);
    let mut job =
        Job { program, front, is_stopped: false, stops: 0, has_stopped_front: false, may_stop: false };
    let mut has_front = true;
    loop {
        while signals.next().is_some() {}
        if job.look().is_err() {
            return;
        }
        let watched =
            [Some(&signals.descriptor), has_front.then_some(&job.front.socket), job.program.start.as_ref()];
        let mut fds: Vec<_> =
            watched.iter().flatten().map(|descriptor| PollFd::new(*descriptor, PollFlags::IN)).collect();
        if poll(&mut fds, None).is_err() {
            continue;
        }
        let mut is_ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let [_, from_front, has_started] =
            watched.map(|descriptor| descriptor.is_some() && is_ready.next().is_some_and(|ready| ready));
        if has_started {
            job.tell_start();
        }
        if !from_front {
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
