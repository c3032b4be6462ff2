//! Messages to the user: one line, one write(2) to the standard error.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use disk::Errno;
use disk::bytes::copy;
use engine::errno;
use engine::sys::{self, Status};

use crate::registry;
use crate::storage::OnceCell;

/// The levels of [`LOG_LEVEL`](disk::names::LOG_LEVEL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Errors.
    Errors = 0,
    /// Warnings; the default.
    Warnings = 1,
    /// The listed devices at set-up.
    Startup = 10,
    /// Descriptors that are acquired and released.
    Descriptors = 100,
    /// Each request.
    Requests = 1000,
}

static LEVEL: AtomicI32 = AtomicI32::new(-1);

static SECURE: AtomicBool = AtomicBool::new(false);

/// Returns whether messages of a level are written.
#[inline]
pub fn is_enabled(level: Level) -> bool {
    LEVEL.load(Ordering::Relaxed) >= level as i32
}

/// Writes a message if its level is written.
pub fn log(level: Level, message: fmt::Arguments<'_>) {
    if is_enabled(level) {
        write(message);
    }
}

/// Writes a message, unless the standard error is a block device or a listed file, whose data it
/// would overwrite.
#[inline(never)]
pub fn write(message: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; Line::LONGEST], length: 0 };
    // A message that does not fit is cut; nothing else can fail.
    let _ = line.write_str("vmware-bdwrapper: ").and_then(|()| line.write_fmt(message));
    errno::preserving(|| sys::without_write_signals(|| line.send()));
}

/// Builds a line.
struct Line {
    bytes: [u8; Line::LONGEST],
    length: usize,
}

impl Line {
    /// The longest line in bytes. Signal handlers run on small stacks.
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
        copy(&mut self.bytes, self.length, text.as_bytes());
        let end = self.length.saturating_add(text.len());
        self.length = end.min(Line::LONGEST);
        if end <= Line::LONGEST { Ok(()) } else { Err(fmt::Error) }
    }
}

/// The standard error at set-up, if messages are written later, too; `None` if it was closed.
static STDERR: OnceCell<Option<Status>> = OnceCell::new();

/// Sets the level and remembers the standard error, the only place for messages in secure mode
/// (`secure`). `later`: messages follow after set-up whatever the level is.
///
/// # Safety
///
/// Only called while the library is set up, by one thread.
pub unsafe fn set_up(level: i32, secure: bool, later: bool) {
    if later || level >= Level::Descriptors as i32 {
        // SAFETY: as the caller says.
        unsafe { STDERR.set(sys::fstat(libc::STDERR_FILENO).ok()) };
    }
    SECURE.store(secure, Ordering::Relaxed);
    LEVEL.store(level, Ordering::Relaxed);
}

/// Returns whether the standard error is for messages: a program may have closed it and opened
/// another file with its number.
fn is_for_messages(status: &Status) -> bool {
    let is_same = |before: &Option<Status>| before.as_ref().is_some_and(|before| before.is_same_file(status));
    let same = STDERR.get().is_none_or(is_same);
    let other = || {
        // A terminal, or a log file that is appended to.
        !SECURE.load(Ordering::Relaxed)
            && match status.file_type() {
                libc::S_IFCHR => sys::is_terminal(libc::STDERR_FILENO),
                libc::S_IFREG => {
                    sys::flags(libc::STDERR_FILENO).is_ok_and(|flags| flags & libc::O_APPEND != 0)
                }
                _ => false,
            }
    };
    match status.file_type() {
        libc::S_IFBLK => false,
        libc::S_IFREG if registry::is_listed(libc::STDERR_FILENO) => false,
        _ => same || other(),
    }
}
