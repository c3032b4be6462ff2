//! Messages to people: one line, one write(2) to the standard error.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicI32, Ordering};

use disk::Errno;

use crate::{errno, registry, sys};

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
    errno::kept(|| sys::without_sigpipe(|| line.send()));
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
        if sys::fstat(libc::STDERR_FILENO).is_ok_and(|status| is_for_messages(&status)) {
            let text = self.bytes.get(..self.length).unwrap_or_default();
            while sys::write(libc::STDERR_FILENO, text) == Err(Errno::EINTR) {}
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

fn is_for_messages(status: &libc::stat) -> bool {
    match status.st_mode & libc::S_IFMT {
        libc::S_IFBLK => false,
        libc::S_IFREG => !registry::is_listed(status),
        _ => true,
    }
}
