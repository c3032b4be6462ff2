//! The policy of the configuration file for set-user-ID programs.

use disk::Errno;
use disk::conf::{Directive, check_trust, parse};
use disk::entry::Entry;
use disk::names;
use engine::sys::{self, File, Status};

use crate::log::{self, Level};
use crate::storage::{allocate, copy_path};

/// The policy of a trusted file that lists the running program.
pub struct Policy {
    text: &'static [u8],
    /// Whether the environment may name other devices.
    pub user_devices: bool,
    /// Whether messages may be written.
    pub messages: bool,
}

impl Policy {
    /// Reads the file; `None` if it does not list the running program.
    pub fn read() -> Option<Policy> {
        let text = read()?;
        let running = sys::stat(c"/proc/self/exe").ok()?;
        let mut policy = Policy { text, user_devices: false, messages: false };
        let mut listed = false;
        for directive in parse(text).flatten() {
            match directive {
                Directive::Executable(path) => listed = listed || is_running_program(path, &running),
                Directive::AllowUserDevices(yes) => policy.user_devices = yes,
                Directive::Messages(yes) => policy.messages = yes,
                Directive::Device(_) | Directive::Supervise(_) => {}
            }
        }
        listed.then_some(policy)
    }

    /// Returns the devices that the file lists.
    pub fn devices(&self) -> impl Iterator<Item = Entry<'static>> + use<> {
        parse(self.text).flatten().filter_map(|directive| match directive {
            Directive::Device(entry) => Some(entry),
            _ => None,
        })
    }

    /// Reports the numbers of invalid lines, not their text, which the user may be unable to read.
    pub fn report(&self) {
        for error in parse(self.text).filter_map(Result::err) {
            let line = error.line;
            let file = names::CONFIGURATION_FILE;
            log::log(
                Level::Errors,
                format_args!("{file}: line {line} is ignored; see vmware-bdwrapper.conf(5)"),
            );
        }
    }
}

/// Returns the text of the file if only root can have written it.
fn read() -> Option<&'static [u8]> {
    // O_NONBLOCK: opening a FIFO must not wait.
    const FLAGS: i32 =
        libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    let file = File::open(names::CONFIGURATION_FILE_C, FLAGS).ok()?;
    let status = file.status().ok()?;
    check_trust(status.user.0, status.mode, status.size).ok()?;
    let size = usize::try_from(status.size).ok()?;
    // One byte more shows whether it has grown.
    let buffer = allocate(size.checked_add(1)?)?;
    let mut length = 0;
    loop {
        match file.read(buffer.get_mut(length..)?) {
            Ok(0) => break,
            Ok(more) => length = more.checked_add(length)?,
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
    if length > size {
        return None;
    }
    buffer.get(..length)
}

/// Returns whether a path leads to the running program.
fn is_running_program(path: &[u8], running: &Status) -> bool {
    copy_path(path).and_then(|path| sys::stat(path).ok()).is_some_and(|status| status.is_same_file(running))
}
