//! `vmware-bdwrapper run --engine supervisor`: runs a program under a supervisor of its own.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::names;
use supervisor::{Ended, Missing, Policy, Records, Registry};

use crate::check::config::FILE;
use crate::check::{library, script};
use crate::command::run::{not_started, program};
use crate::command::sudo::{self, Permit};
use crate::entries::{self, Device};
use crate::program::{find, secure};
use crate::say::failure::{Failure, cause, say};
use crate::say::finding::{Code, Finding};

/// Runs a program under a supervisor, and ends as it ends. `command` is its name and its arguments.
pub fn supervise(
    options: Vec<OsString>,
    log_level: Option<&str>,
    force: bool,
    command: &[OsString],
) -> Result<Infallible, Failure> {
    // The library's levels: of those after the start, a supervisor sees the requests alone.
    let level = log_level.map(OsString::from).or_else(|| std::env::var_os(names::LOG_LEVEL));
    let level = level.and_then(|level| level.to_str()?.parse::<i32>().ok()).unwrap_or(1);
    let prepared = prepare(options, force, command)?;
    let records = match level {
        1000.. if prepared.may_show => Records::Lines,
        1000.. => {
            say(not_shown(Finding::warning));
            Records::Ignored
        }
        _ => Records::Ignored,
    };
    let (ended, _) = prepared.run(records)?;
    ended.end()
}

/// Says that the configuration file does not let requests be shown.
fn not_shown(finding: impl Fn(Code, String) -> Finding) -> Finding {
    let why = "does not let requests be shown to users".into();
    finding(Code::PermissionDenied, why).of(FILE).hint("set messages to yes there as root")
}

/// A program that is ready to be started under a supervisor.
pub struct Prepared {
    /// Its file.
    file: PathBuf,
    /// With its arguments and environment.
    pub command: Command,
    /// The device entries, and what they say.
    pub texts: &'static [OsString],
    pub listed: Vec<Device<'static>>,
    devices: Registry,
    policy: Policy,
    /// Whether the configuration file lets requests be shown.
    may_show: bool,
}

/// Finds a program, and says what the user should know. A device that something uses is refused unless `force`.
pub fn prepare(options: Vec<OsString>, force: bool, command: &[OsString]) -> Result<Prepared, Failure> {
    let policy = Policy::current().map_err(|unknown| sudo::unknown(&unknown))?;
    // The supervisor needs them as long as it runs.
    let texts = if policy.user.is_some() { options } else { entries::require_texts(options)? };
    let texts: &'static [OsString] = texts.leak();
    let permit = policy.user.map(|user| Permit::read(user, texts, force)).transpose()?;
    let listed = match &permit {
        Some(permit) => permit.devices(),
        None => entries::parse(texts)?,
    };
    let (file, mut command) = sudo::with_file_rights(policy.user, || {
        let program = program(&listed, command, force)?;
        find::unstartable(&program.0).iter().for_each(say);
        Ok(program)
    })?;
    if listed.len() > Registry::MOST {
        let why = format!("{} devices are given", listed.len());
        return Err(Finding::problem(Code::Usage, why)
            .hint(format!("name at most {}", Registry::MOST))
            .into());
    }
    entries::clashes(&listed).flatten().for_each(say);
    if policy.no_new_privileges {
        say_without_privileges(&file)?;
    }
    let preload = std::env::var_os(library::VARIABLE).unwrap_or_default();
    match without_library(&preload) {
        Some(rest) => command.env(library::VARIABLE, rest),
        None => command.env_remove(library::VARIABLE),
    };
    for variable in [names::DEVICES, names::LOG_LEVEL, names::TRACE] {
        command.env_remove(variable);
    }
    let from_file = permit.as_ref().map_or(&listed, |permit| &permit.listed);
    let entries: Vec<_> = from_file.iter().map(|device| device.entry).collect();
    let (mut devices, problems) = Registry::new(&entries, policy.user);
    for (device, key) in permit.iter().flat_map(|permit| &permit.named) {
        devices.list_node(device.entry, *key);
    }
    for (entry, problem) in problems {
        let finding = Finding::warning(Code::NotADevice, problem.to_string());
        say(finding.of(OsStr::from_bytes(entry.path)));
    }
    let may_show = permit.as_ref().is_none_or(|permit| permit.messages);
    Ok(Prepared { file, command, texts, listed, devices, policy, may_show })
}

impl Prepared {
    /// Runs the program to its end, or where records are shown to the end of the tree; says how it ended, and what
    /// is missing in the records.
    pub fn run(mut self, records: Records<'_>) -> Result<(Ended, Missing), Failure> {
        if !self.may_show && matches!(records, Records::Shown(_)) {
            return Err(not_shown(Finding::problem).into());
        }
        let file = &self.file;
        let lost = || {
            let why = "has lost its supervisor, so requests to disks fail in it and in what it started";
            say(Finding::problem(Code::Io, why).of(file).hint("end them, and start again"));
        };
        let ended = supervisor::run(&mut self.command, self.devices, self.policy, records, lost);
        ended.map_err(|failure| match failure {
            supervisor::Failure::NotExecuted(error) => not_started(file, &error),
            failure => {
                let why = format!("The supervisor cannot be started ({failure})");
                Finding::problem(Code::NotExecutable, why).hint("use --engine library").into()
            }
        })
    }
}

/// Says of a set-user-ID program that it will not have its rights.
fn say_without_privileges(file: &Path) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| find::not_executed(file, &cause(&error));
    let status = file.metadata().map_err(cannot)?;
    if secure::is_secure(file, &status).map_err(cannot)? || script::is_vmwares(file) {
        let why =
            "runs with your own rights under the supervisor, as all set-user-ID programs do (no_new_privs)";
        say(Finding::warning(Code::PermissionDenied, why)
            .of(file)
            .hint("to have it keep its own, use --engine library"));
    }
    Ok(())
}

/// The libraries of `LD_PRELOAD` without this project's: the supervisor answers alone.
fn without_library(preload: &OsStr) -> Option<OsString> {
    let is_ours = |name: &&[u8]| {
        name.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name == names::LIBRARY.as_bytes())
    };
    let names = preload.as_bytes().split(|byte| matches!(byte, b' ' | b':'));
    let rest: Vec<&[u8]> = names.filter(|name| !name.is_empty() && !is_ours(name)).collect();
    (!rest.is_empty()).then(|| OsStr::from_bytes(&rest.join(&b':')).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_left_out() {
        let without = |preload: &str| without_library(preload.as_ref());
        assert_eq!(without(""), None);
        assert_eq!(without("/usr/lib/libvmware-bdwrapper.so.0"), None);
        assert_eq!(without("libvmware-bdwrapper.so.0 libx.so:/y.so"), Some("libx.so:/y.so".into()));
    }
}
