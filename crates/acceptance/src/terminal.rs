//! A terminal, and a program that runs on it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::run::{DEFAULT_SIGNALS, PATH, wait_for};

/// A terminal (pts(4)) that a session of its own has, whose first process is a program.
pub struct Terminal {
    /// Dropped, it hangs up: no other process has it.
    master: Arc<File>,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much of it has been waited for.
    seen: usize,
    child: Ending,
}

/// A program that is killed if it still runs.
struct Ending(Child);

impl Terminal {
    /// Starts a program on a terminal; it inherits the variables alone that are given.
    pub fn start<T: AsRef<OsStr>>(words: &[T], variables: &[(&str, &OsStr)]) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = master.expect("a terminal can be made");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("the terminal is ours");
        let name = OsString::from_vec(ptsname(&master, Vec::new()).expect("it has a name").into_bytes());
        let open = || File::options().read(true).write(true).open(&name).expect("the terminal is ours");
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "env"])
            // A shell leaves alone what was ignored when it began.
            .args(DEFAULT_SIGNALS)
            .args(words)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("TERM", "dumb");
        command.envs(variables.iter().copied()).stdin(open()).stdout(open()).stderr(open());
        let child = Ending(command.spawn().expect("setsid can be run"));
        drop(command);
        let master = Arc::new(File::from(master));
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (reader, text) = (Arc::downgrade(&master), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Some(master) = reader.upgrade() {
                let mut fds = [PollFd::new(&*master, PollFlags::IN)];
                let short = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
                if poll(&mut fds, Some(&short)) != Ok(1) {
                    continue;
                }
                // It fails when no process has the terminal any more.
                let Ok(read @ 1..) = (&*master).read(&mut bytes) else { return };
                text.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..read]);
            }
        });
        Terminal { master, shown, seen: 0, child }
    }

    /// What it shows so far.
    pub fn text(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).replace('\r', "")
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        (&*self.master).write_all(keys.as_bytes()).expect("a terminal takes what is typed");
    }

    /// Waits until it shows a text, and returns what it shows up to its end since the last time.
    pub fn wait(&mut self, text: &str) -> String {
        self.wait_with(text, |new| new.find(text).map(|at| at + text.len()))
    }

    /// Waits until `end` finds the end of what is waited for, and returns what it shows up to there since the last
    /// time.
    pub fn wait_with(&mut self, what: &str, end: impl Fn(&str) -> Option<usize>) -> String {
        let found = wait_for_shown(self, what, &end);
        self.seen += found.len();
        found
    }

    /// Sets its size, in rows and columns.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&*self.master, size).expect("a terminal has a size");
    }

    /// Hangs up, and waits for the end of the program.
    pub fn hang_up(self) {
        let Terminal { master, mut child, .. } = self;
        drop(master);
        wait_for("an end of the program", || child.0.try_wait().expect("it is a child"));
    }

    /// Waits for the end of the program, and returns its exit status.
    pub fn end(mut self) -> Option<i32> {
        let status = wait_for("an end of the program", || self.child.0.try_wait().expect("it is a child"));
        status.code()
    }
}

fn wait_for_shown(terminal: &Terminal, what: &str, end: &impl Fn(&str) -> Option<usize>) -> String {
    let shows = || {
        let text = terminal.text();
        let new = &text[terminal.seen..];
        end(new).map(|end| new[..end].to_owned())
    };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for(what, shows)));
    result.unwrap_or_else(|_| panic!("{what:?} is not shown: {}", terminal.text()))
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
