//! Set-up, once: reads the environment and the configuration file, and looks the listed devices up.

use core::ffi::{CStr, c_char};
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use disk::entry::{Entry, EntryError, Printed, entries};
use disk::names;
use engine::{errno, sys};

use crate::log::{self, Level};
use crate::registry::Source;
use crate::secure::Policy;
use crate::{next, record, registry, report, storage};

/// [`NEW`], [`READY`], or the thread that sets up, by the address of its `errno`.
static PHASE: AtomicUsize = AtomicUsize::new(NEW);

const NEW: usize = 0;
const READY: usize = usize::MAX;

/// Returns whether the library is set up. The first call sets it up, and other threads wait for
/// that. False in a call from within, of a signal handler for example.
#[inline]
pub fn is_ready() -> bool {
    PHASE.load(Ordering::Acquire) == READY || begin()
}

#[cold]
#[inline(never)]
fn begin() -> bool {
    /// The longest wait for set-up, which does not end in a child that was forked meanwhile, and
    /// the pause between looks.
    const TIMEOUT_MS: u64 = 1000;
    const PAUSE_NS: u32 = 50_000;
    let this = errno::address();
    if PHASE.compare_exchange(NEW, this, Ordering::Acquire, Ordering::Acquire).is_ok() {
        errno::preserving(set_up);
        PHASE.store(READY, Ordering::Release);
        return true;
    }
    let deadline = sys::milliseconds().saturating_add(TIMEOUT_MS);
    while sys::milliseconds() < deadline {
        match PHASE.load(Ordering::Acquire) {
            READY => return true,
            holder if holder == this => return false,
            _ => errno::preserving(|| sys::sleep(PAUSE_NS)),
        }
    }
    false
}

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn constructor() {
    next::resolve();
    is_ready();
}

fn set_up() {
    // SAFETY: getauxval(3) has no preconditions.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    let policy = if secure { Policy::read() } else { None };
    if secure && policy.is_none() {
        return;
    }
    let mut policy = policy;
    if let Some(policy) = &mut policy {
        // SAFETY: PHASE lets only one thread in.
        unsafe { registry::set_real_user() };
        let mut add = |entry| {
            // SAFETY: PHASE lets only one thread in.
            unsafe { registry::add(entry, Source::FileAlone) }
        };
        // If they do not all fit, a user's entry could lead to one that is missing.
        policy.user_devices = policy.user_devices && policy.devices().all(&mut add);
    }
    let policy = policy.as_ref();
    let list = variable(names::DEVICES).and_then(storage::copy_text).unwrap_or_default();
    let mut first_excess = None;
    for text in entries(list) {
        if let Ok((entry, source)) = entry_of(text, policy) {
            // SAFETY: PHASE lets only one thread in.
            if !unsafe { registry::add(entry, source) } {
                first_excess = Some(text);
                break;
            }
        }
    }
    // SAFETY: PHASE lets only one thread in.
    unsafe { registry::look_up_all() };

    // From here on, a message cannot overwrite a listed device.
    let level = variable(names::LOG_LEVEL).filter(|text| !text.is_empty());
    let level = level.map(|text| (text, number(text)));
    if policy.is_some_and(|policy| !policy.messages) {
        return;
    }
    // If requests are recorded, the level is for the set-user-ID programs that this one starts.
    // SAFETY: PHASE lets only one thread in.
    let is_recorded = || variable(names::TRACE).is_some_and(|text| unsafe { record::set_up(text) });
    let number = match level {
        _ if !secure && is_recorded() => None,
        Some((_, number)) => number,
        None => None,
    };
    let number = number.unwrap_or(Level::Warnings as i32);
    // SAFETY: PHASE lets only one thread in.
    unsafe { log::set_up(number, secure, record::receiver().is_some()) };
    if let Some((text, None)) = level {
        let text = Printed(text);
        log::log(
            Level::Warnings,
            format_args!("{}={text} is not one of the numbers -1, 0, 1, 10, 100 and 1000", names::LOG_LEVEL),
        );
    }
    if let Some(policy) = policy {
        policy.report();
    }
    for text in
        entries(list).take_while(|text| !first_excess.is_some_and(|excess| core::ptr::eq(*text, excess)))
    {
        if let Err(refusal) = entry_of(text, policy) {
            log::log(Level::Errors, format_args!("{refusal}"));
        }
    }
    if let Some(text) = first_excess {
        let most = registry::MOST;
        log::log(
            Level::Errors,
            format_args!(
                "{}: this entry and those after it are ignored; at most {most} can be listed",
                Printed(text)
            ),
        );
    }
    report::report();
}

/// Why an entry of the environment is ignored.
enum Refusal<'a> {
    Invalid(EntryError<'a>),
    NotInFile(&'a [u8]),
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Invalid(error) => error.fmt(f),
            Refusal::NotInFile(text) => write!(
                f,
                "{}: is ignored in this set-user-ID program; have the administrator list it in \
                 {}",
                Printed(text),
                names::CONFIGURATION_FILE
            ),
        }
    }
}

/// Returns the entry of a text of the environment, and its source.
fn entry_of<'a>(text: &'a [u8], policy: Option<&Policy>) -> Result<(Entry<'a>, Source), Refusal<'a>> {
    let Some(policy) = policy else {
        return Ok((Entry::parse(text).map_err(Refusal::Invalid)?, Source::Authority));
    };
    let path = text.split(|&byte| byte == b'=').next().unwrap_or_default();
    if let Some(entry) = policy.devices().find(|entry| entry.path == path) {
        return Ok((entry, Source::Authority));
    }
    if !policy.user_devices {
        return Err(Refusal::NotInFile(text));
    }
    let entry = Entry::parse(text).map_err(Refusal::Invalid)?;
    Ok((Entry { force: false, ..entry }, Source::User))
}

/// Returns the value of a variable of the environment.
fn variable(name: &str) -> Option<&'static [u8]> {
    unsafe extern "C" {
        static mut environ: *const *const c_char;
    }
    // SAFETY: the C library's variable. Only a thread that a constructor before ours has started
    // could change it now, and getenv(3) would be no safer.
    let mut at = unsafe { environ };
    if at.is_null() {
        return None;
    }
    loop {
        // SAFETY: the array ends with a null pointer, which was not reached yet.
        let text = unsafe { *at };
        if text.is_null() {
            return None;
        }
        let mut wanted = name.bytes().chain([b'=']).enumerate();
        // SAFETY: each element is the address of a string, which differs at its own end at the latest.
        if unsafe { wanted.all(|(at, byte)| *text.add(at) as u8 == byte) } {
            // SAFETY: it is a string, and longer than this.
            return Some(unsafe { CStr::from_ptr(text.add(name.len().wrapping_add(1))) }.to_bytes());
        }
        // SAFETY: this element was not the last.
        at = unsafe { at.add(1) };
    }
}

/// Parses a decimal number with an optional minus sign.
fn number(text: &[u8]) -> Option<i32> {
    let (sign, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    if digits.is_empty() {
        return None;
    }
    i32::try_from(i64::try_from(sys::decimal(digits)?).ok()? * sign).ok()
}
