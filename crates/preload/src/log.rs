//! Messages to people: one line, one write(2) to the standard error.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use disk::Errno;
use engine::errno;
use engine::sys::{self, Status};

use crate::registry;
use crate::storage::OnceCell;

/// How much is said: [`LOG_LEVEL`](disk::names::LOG_LEVEL).
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

static SECURE: AtomicBool = AtomicBool::new(false);

/// Whether messages of a level are written.
#[inline]
pub fn is_enabled(level: Level) -> bool {
    LEVEL.load(Ordering::Relaxed) >= level as i32
}

/// Writes a message of a level.
pub fn log(level: Level, message: fmt::Arguments<'_>) {
    if is_enabled(level) {
        write(message);
    }
}

/// Writes a line, unless the standard error is a device or a listed file: data is never written over.
#[inline(never)]
pub fn write(message: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; Line::LONGEST], length: 0 };
    // What does not fit is cut; nothing else can fail.
    let _ = line.write_str("vmware-bdwrapper: ").and_then(|()| line.write_fmt(message));
    errno::preserving(|| sys::without_write_signals(|| line.send()));
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

/// The standard error when the library was set up, where messages come later, too; none where there was none.
static STDERR: OnceCell<Option<Status>> = OnceCell::new();

/// Remembers where messages go. In a program with rights that its user does not have (`secure`) they go nowhere else. `later`:
/// there are messages after the start whatever the level is.
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

/// Whether a message to the standard error cannot do harm: a program may have closed it, and have opened something
/// else that got its number.
fn is_for_messages(status: &Status) -> bool {
    let is_it = |before: &Option<Status>| before.as_ref().is_some_and(|before| before.is_same_file(status));
    let same = STDERR.get().is_none_or(is_it);
    let other = || {
        // A terminal, or a log that is appended to.
        let appended = || sys::flags(libc::STDERR_FILENO).is_ok_and(|flags| flags & libc::O_APPEND != 0);
        !SECURE.load(Ordering::Relaxed)
            && match status.kind() {
                libc::S_IFCHR => sys::is_terminal(libc::STDERR_FILENO),
                libc::S_IFREG => appended(),
                _ => false,
            }
    };
    match status.kind() {
        libc::S_IFBLK => false,
        libc::S_IFREG if registry::is_listed(libc::STDERR_FILENO) => false,
        _ => same || other(),
    }
}
