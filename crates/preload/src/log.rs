//! Messages to people: one line, one write(2) to the standard error.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use rustix::stdio::stderr;

use crate::{errno, registry};

/// How much is said: `VMWARE_BDWRAPPER_LOG_LEVEL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Errors.
    Errors = 0,
    /// Warnings; the default.
    Warnings = 1,
    /// What was found at start-up.
    Startup = 10,
    /// Descriptors that are acquired and released.
    Descriptors = 100,
    /// Each request.
    Requests = 1000,
}

static LEVEL: AtomicI32 = AtomicI32::new(-1);

/// Sets the level; -1 is silence.
pub fn set_level(level: i32) {
    LEVEL.store(level, Ordering::Relaxed);
}

/// Whether messages of a level are written.
#[inline]
pub fn enabled(level: Level) -> bool {
    LEVEL.load(Ordering::Relaxed) >= level as i32
}

/// Writes a message of a level.
pub fn say(level: Level, message: fmt::Arguments<'_>) {
    if enabled(level) {
        write(message);
    }
}

/// Writes a line, unless the standard error is a device or a listed file: data is never written over.
#[inline(never)]
pub fn write(message: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; Line::LONGEST], length: 0 };
    // What does not fit is cut; nothing else can fail.
    let _ = line.write_str("vmware-bdwrapper: ").and_then(|()| line.write_fmt(message));
    errno::kept(|| without_sigpipe(|| line.send()));
}

/// A line in the making.
struct Line {
    bytes: [u8; Line::LONGEST],
    length: usize,
}

impl Line {
    /// The longest line, in bytes. Handlers of signals run on small stacks.
    const LONGEST: usize = 1024;

    fn send(&mut self) {
        if self.length >= Line::LONGEST {
            self.length = Line::LONGEST - 4;
            let _ = self.write_str("...");
        }
        let _ = self.write_str("\n");
        // SAFETY: never closed here; where the program has closed it, the calls fail.
        let stderr = unsafe { stderr() };
        if rustix::fs::fstat(stderr).is_ok_and(|status| is_for_messages(&status)) {
            let text = self.bytes.get(..self.length).unwrap_or_default();
            while rustix::io::write(stderr, text) == Err(Errno::INTR) {}
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let fits = room.len() >= text.len();
        for (to, from) in room.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        self.length = self.length.saturating_add(text.len()).min(Line::LONGEST);
        if fits { Ok(()) } else { Err(fmt::Error) }
    }
}

fn is_for_messages(status: &Stat) -> bool {
    match FileType::from_raw_mode(status.st_mode) {
        FileType::BlockDevice => false,
        FileType::RegularFile => !registry::is_listed(status),
        _ => true,
    }
}

/// Does something in which a broken pipe must not kill the program.
fn without_sigpipe(act: impl FnOnce()) {
    const SIGPIPE: u64 = 1 << (libc::SIGPIPE - 1);
    // System calls instead of the C library's functions: some of those are cancellation points.
    let mask = |how: i32, set: &u64, old: *mut u64| {
        // SAFETY: both sets are of the size that is given.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, core::ptr::from_ref(set), old, 8) }
    };
    let pending = || {
        let mut set = 0u64;
        // SAFETY: the set is of the size that is given.
        unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set, 8) };
        set & SIGPIPE != 0
    };
    let mut before = 0u64;
    mask(libc::SIG_BLOCK, &SIGPIPE, &raw mut before);
    let pending_before = pending();
    act();
    if !pending_before && pending() {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let set = SIGPIPE;
        let nothing = core::ptr::null_mut::<libc::siginfo_t>();
        // SAFETY: the set is of the size that is given; nothing is written.
        unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, nothing, &raw const at_once, 8) };
    }
    mask(libc::SIG_SETMASK, &before, core::ptr::null_mut());
}
