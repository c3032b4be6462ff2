//! Records of requests for `vmware-bdwrapper trace`, in place of the lines of log level 1000.

use core::sync::atomic::{AtomicBool, Ordering};

use disk::Errno;
use disk::host::Segment;
use disk::record::{Header, TOKEN};
use disk::trace::capture::Capture;
use engine::sys::{self, File, UserId};

use crate::storage::{OnceCell, copy_text};

/// The receiver of records.
pub struct Receiver {
    name: &'static [u8],
    secret: &'static [u8],
    /// The effective user at set-up; `None` if other users have the same number
    /// (user_namespaces(7)).
    user: Option<UserId>,
}

/// Set when the receiver is gone or not trusted; tracing stays off.
static DISABLED: AtomicBool = AtomicBool::new(false);

static RECEIVER: OnceCell<Receiver> = OnceCell::new();

/// Remembers the receiver in the variable; returns whether it has one.
///
/// # Safety
///
/// Only called while the library is set up, by one thread. Not in secure mode, where the
/// environment decides nothing.
pub unsafe fn set_up(variable: &[u8]) -> bool {
    if variable.len() != 2 * TOKEN {
        return false;
    }
    let Some((name, secret)) = copy_text(variable).and_then(|text| text.split_at_checked(TOKEN)) else {
        return false;
    };
    // SAFETY: as the caller says.
    unsafe { RECEIVER.set(Receiver { name, secret, user: effective_user() }) };
    true
}

/// Returns the effective user, unless it is the overflow user of a user namespace.
fn effective_user() -> Option<UserId> {
    /// `DEFAULT_OVERFLOWUID` (include/linux/highuid.h).
    const OVERFLOW: UserId = UserId(65534);
    let user = sys::effective_user();
    let all_have_numbers = || {
        let mut text = [0; 64];
        let file = File::open(c"/proc/self/uid_map", libc::O_RDONLY | libc::O_CLOEXEC);
        let length = file.and_then(|file| file.read(&mut text)).unwrap_or(0);
        let text = text.get(..length).unwrap_or_default();
        let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.eq([&b"0"[..], b"0", b"4294967295"])
    };
    (user != OVERFLOW || all_have_numbers()).then_some(user)
}

/// Returns the receiver of records, if there is one.
pub fn receiver() -> Option<&'static Receiver> {
    RECEIVER.get()
}

impl Receiver {
    /// Sends a record, by a descriptor of its own each time, because a program may close any. Only
    /// root and the user who ran the program may receive it: after the trace, any user can listen
    /// on the name.
    pub fn send(&self, header: &Header, path: &[u8], capture: &Capture) -> Result<(), Errno> {
        let send = |all| {
            let ([path, input, output, cdb, sense, data @ ..], lengths) = capture.segments(path, all);
            let words = header.words(lengths);
            let (secret, words) = (Segment::of(self.secret), Segment::of(&words));
            let [a, b, c, d, e, f, g, h] = data;
            let parts = [secret, words, path, input, output, cdb, sense, a, b, c, d, e, f, g, h];
            sys::send(self.name, |user| user == UserId::ROOT || Some(user) == self.user, &parts)
        };
        if DISABLED.load(Ordering::Relaxed) {
            return Err(Errno::ECONNREFUSED);
        }
        let sent = match send(true) {
            // Some of the caller's memory is bad.
            Err(Errno::EFAULT) => send(false),
            sent => sent,
        };
        if let Err(Errno::EPERM | Errno::ECONNREFUSED | Errno::EAGAIN) = sent {
            DISABLED.store(true, Ordering::Relaxed);
        }
        sent
    }
}
