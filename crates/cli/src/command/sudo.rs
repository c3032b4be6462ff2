//! `sudo vmware-bdwrapper run --engine supervisor`: what the configuration file lets the user do who
//! called sudo.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use disk::conf::{Fault, parse};
use disk::entry::Entry;
use engine::listed::{Key, Problem};
use supervisor::{Unknown, User};

use crate::check::config::{self, FILE};
use crate::check::device;
use crate::check::permit::Rights;
use crate::entries::{self, Device};
use crate::host::scan::Host;
use crate::say::failure::{Failure, cause, quoted, say};
use crate::say::finding::{Code, Finding};

/// The line that lists a device.
const DEVICE: &str = "device ENTRY";

/// What a user may do.
pub struct Permit {
    /// The devices, as the file lists them.
    pub listed: Vec<Device<'static>>,
    /// Those that the user has named and may open, and what each of them is.
    pub named: Vec<(Device<'static>, Key)>,
    /// Whether requests may be shown.
    pub messages: bool,
}

impl Permit {
    /// Reads what the file permits a user who asks for these devices; without any, those that it lists
    /// and that are free, or all of them with `force`.
    pub fn read(user: &User, texts: &'static [OsString], force: bool) -> Result<Permit, Failure> {
        // The devices point into it as long as the supervisor runs.
        let name = user.name().to_string_lossy();
        let permission = format!("supervise {name}");
        let absent = |finding: Finding| match finding.code {
            Code::NotFound => {
                let devices: Vec<String> = match texts {
                    [] => vec![DEVICE.into()],
                    texts => texts.iter().map(|text| config::line_of(text)).collect(),
                };
                finding.hint(config::adding(&[vec![permission.clone()], devices].concat()))
            }
            _ => finding,
        };
        let file: &'static [u8] = config::read().map_err(|finding| refused(absent(finding)))?.leak();
        // The user may be unable to read the text.
        for error in parse(file).filter_map(Result::err) {
            let why = match error.fault {
                Fault::NotASubject(value) if value.contains(&b'#') => ": no comment may follow a name",
                _ => "",
            };
            let why = format!("line {} is wrong{why}, and is ignored", error.line);
            say(Finding::warning(Code::Malformed, why).of(FILE).hint("correct the line as root"));
        }
        let Rights { supervise, user_devices, messages } = Rights::of(file, user);
        if !supervise {
            let why = format!("does not let {} start programs under a supervisor with sudo", quoted(&*name));
            let hint = format!("{}, or start the program without sudo", config::adding(&[permission]));
            return Err(refused(Finding::problem(Code::PermissionDenied, why).of(FILE).hint(hint)));
        }
        let mut permit = Permit { listed: config::devices(file), named: Vec::new(), messages };
        match texts {
            [] => permit.leave_out_used(force)?,
            texts => permit.choose(user, texts, user_devices)?,
        }
        Ok(permit)
    }

    /// Keeps only the file's devices that are free.
    fn leave_out_used(&mut self, force: bool) -> Result<(), Failure> {
        if self.listed.is_empty() {
            let finding = Finding::problem(Code::NotListed, "lists no device").of(FILE);
            return Err(refused(finding.hint(config::adding(&[DEVICE.into()]))));
        }
        if force {
            return Ok(());
        }
        let host = Host::known();
        let mut used = Vec::new();
        self.listed.retain(|one| {
            let uses = device::taken(one.path(), &host);
            let is_free = uses.is_empty();
            used.extend(uses);
            is_free
        });
        if self.listed.is_empty() {
            used.push(Finding::force_needed("The program is not started"));
            return Err(Failure { status: Failure::NOT_EXECUTED, findings: used });
        }
        for finding in used {
            let cause = format!("{}, so it is left out", finding.cause);
            say(Finding { cause, ..finding }.at_most_warning());
        }
        Ok(())
    }

    /// Finds the devices that the user asks for: by the rules for set-user-ID programs, where the
    /// environment asks for them.
    fn choose(&mut self, user: &User, texts: &'static [OsString], user_devices: bool) -> Result<(), Failure> {
        let file = std::mem::take(&mut self.listed);
        for text in texts {
            let path = text.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
            if let Some(device) = file.iter().find(|device| device.entry.path == path) {
                let asked = Entry::parse(text.as_bytes());
                if asked.is_ok_and(|asked| asked != device.entry) && text.as_bytes().contains(&b'=') {
                    let why = format!("has options in {FILE}, which are used instead of these");
                    let finding = Finding::warning(Code::Different, why).of(OsStr::from_bytes(path));
                    say(finding.hint("omit the options"));
                }
                self.listed.push(*device);
                continue;
            }
            let path = OsStr::from_bytes(path);
            if !user_devices {
                let finding = Finding::problem(Code::NotListed, format!("is not listed in {FILE}")).of(path);
                let hint = format!(
                    "{}, or set allow-user-devices to yes there",
                    config::adding(&[config::line_of(text)])
                );
                return Err(refused(finding.hint(hint)));
            }
            let entry = Entry::parse(text.as_bytes()).map_err(|error| refused(entries::explain(&error)))?;
            let entry = Entry { force: false, ..entry };
            let found = user.look_up_device(&entry).map_err(|problem| refused(explain(path, &problem)))?;
            // A device of the file has the file's options, whatever name the user gives it. The name may
            // lead elsewhere by now.
            let entry = match file.iter().find(|other| found.is_of(&other.entry)) {
                Some(other) => Entry { path: entry.path, ..other.entry },
                None => entry,
            };
            self.named.push((Device { text, entry }, found.key));
        }
        Ok(())
    }

    /// Returns all of the devices.
    pub fn devices(&self) -> Vec<Device<'static>> {
        self.listed.iter().chain(self.named.iter().map(|(device, _)| device)).copied().collect()
    }
}

/// Says for whom the program cannot be started.
pub fn unknown(unknown: &Unknown) -> Failure {
    let finding = Finding::problem(Code::Usage, format!("The program's user is not known ({unknown})"));
    refused(finding.hint(match unknown {
        Unknown::SetUserId => "remove it as root: 'chmod u-s \"$(command -v vmware-bdwrapper)\"'",
        _ => {
            "call sudo as an ordinary user or, to run the program as root, remove the variable: 'sudo env -u SUDO_UID \
             vmware-bdwrapper run ...'"
        }
    }))
}

/// Calls `act` with the rights to files of the user, if there is one.
pub fn with_file_rights<T>(
    user: Option<&User>,
    act: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(user) = user else { return act() };
    user.with_file_rights(act).unwrap_or_else(|error| {
        let why = format!(
            "The supervisor cannot act with the rights of the user who called sudo ({})",
            cause(&error)
        );
        Err(refused(Finding::problem(Code::PermissionDenied, why).hint("start the program without sudo")))
    })
}

fn explain(path: &OsStr, problem: &Problem) -> Finding {
    let why = match problem {
        Problem::NotPermitted(errno) => format!("you may not open it yourself ({errno})"),
        Problem::Missing(errno) | Problem::Unknown(errno) => format!("cannot be examined ({errno})"),
        problem => problem.to_string(),
    };
    Finding::problem(Code::PermissionDenied, why).of(path).hint(format!("have it listed in {FILE} as root"))
}

fn refused(finding: Finding) -> Failure {
    Failure { status: Failure::NOT_EXECUTED, findings: vec![finding] }
}
