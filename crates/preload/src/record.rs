//! Records of requests for `vmware-bdwrapper trace`, in place of the lines of log level 1000.

use core::sync::atomic::{AtomicBool, Ordering};

use disk::Errno;
use disk::host::Segment;
use disk::record::{Header, TOKEN};
use disk::trace::capture::Capture;
use engine::sys::{self, File, UserId};

use crate::storage::{OnceCell, keep};

/// Where records go.
pub struct Receiver {
    name: &'static [u8],
    secret: &'static [u8],
    /// The effective user when the library was set up; none where other users may look the same (user_namespaces(7)).
    user: Option<UserId>,
}

/// Set when nobody listens who may, which does not change any more.
static GONE: AtomicBool = AtomicBool::new(false);

static RECEIVER: OnceCell<Receiver> = OnceCell::new();

/// Remembers the receiver that a variable names; whether it names one.
///
/// # Safety
///
/// Only called while the library is set up, by one thread. Not in secure mode, where the environment decides nothing.
pub unsafe fn set_up(variable: &[u8]) -> bool {
    if variable.len() != 2 * TOKEN {
        return false;
    }
    let Some((name, secret)) = keep(variable).and_then(|text| text.split_at_checked(TOKEN)) else {
        return false;
    };
    // SAFETY: as the caller says.
    unsafe { RECEIVER.set(Receiver { name, secret, user: user() }) };
    true
}

/// The effective user, unless that is what stands for all that have no number in this user namespace.
fn user() -> Option<UserId> {
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

/// Where records go, if they go anywhere.
pub fn receiver() -> Option<&'static Receiver> {
    RECEIVER.get()
}

impl Receiver {
    /// Sends a record. No descriptor is kept for that: a program may close all that it does not know. Nobody gets one but root
    /// and the user who ran the program: whoever likes can take the name once the trace has ended.
    pub fn send(&self, head: &Header, path: &[u8], memory: &Capture) -> Result<(), Errno> {
        let try_to = |all| {
            let ([path, given, got, command, sense, data @ ..], lengths) = memory.segments(path, all);
            let words = head.words(lengths);
            let [secret, words] = [
                (self.secret.as_ptr().addr(), self.secret.len()),
                (words.as_ptr().addr(), size_of_val(&words)),
            ]
            .map(|(address, length)| Segment { address: address as u64, length: length as u64 });
            let [a, b, c, d, e, f, g, h] = data;
            let parts = [secret, words, path, given, got, command, sense, a, b, c, d, e, f, g, h];
            sys::send(self.name, |user| user == UserId::ROOT || Some(user) == self.user, &parts)
        };
        if GONE.load(Ordering::Relaxed) {
            return Err(Errno::ECONNREFUSED);
        }
        let sent = match try_to(true) {
            // Some of the memory is none.
            Err(Errno::EFAULT) => try_to(false),
            sent => sent,
        };
        if let Err(Errno::EPERM | Errno::ECONNREFUSED | Errno::EAGAIN) = sent {
            GONE.store(true, Ordering::Relaxed);
        }
        sent
    }
}
