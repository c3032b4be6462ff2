//! `vmware-bdwrapper run --engine supervisor`: runs a program under a supervisor of its own.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::names;
use rustix::process::geteuid;
use supervisor::{Ended, Event, Missing, Policy, Records, Registry, User};

use crate::check::config::FILE;
use crate::check::{engine, library};
use crate::command::run::{not_started, program};
use crate::command::sudo::{self, Permit};
use crate::entries::{self, Device};
use crate::program::find;
use crate::say::failure::{Failure, say};
use crate::say::finding::{Code, Finding};

/// Runs a program under a supervisor, and ends as it ends. `command` is its name and its arguments; `why` says
/// why the supervisor was chosen.
pub fn supervise(
    options: Vec<OsString>,
    log_level: Option<&str>,
    force: bool,
    command: &[OsString],
    why: Option<Finding>,
) -> Result<Infallible, Failure> {
    // The library's levels: of those after the start, a supervisor sees the requests alone.
    let level = log_level.map(OsString::from).or_else(|| std::env::var_os(names::LOG_LEVEL));
    let level = level.and_then(|level| level.to_str()?.parse::<i32>().ok()).unwrap_or(1);
    // What sudo(8) starts is root's, unless its user has asked for a supervisor.
    let prepared = prepare(options, force, command, why.is_none())?;
    why.iter().filter(|_| level >= 1).for_each(say);
    let records = match level {
        1000.. if prepared.may_show => Records::Lines,
        1000.. => {
            say(not_shown(Finding::warning));
            Records::Ignored
        }
        _ => Records::Ignored,
    };
    let (ended, _) = prepared.run(records, level >= 1)?;
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
    /// The devices.
    pub listed: Vec<Device<'static>>,
    devices: Registry,
    policy: Policy,
    /// Whether the configuration file lets requests be shown.
    may_show: bool,
}

/// Finds a program, and says what the user should know. A device that something uses is refused unless `force`.
///
/// `by_sudo`: it is run for the user who called sudo(8), if somebody did, else for the caller.
pub fn prepare(
    options: Vec<OsString>,
    force: bool,
    command: &[OsString],
    by_sudo: bool,
) -> Result<Prepared, Failure> {
    let policy = Policy::current(by_sudo).map_err(|unknown| sudo::unknown(&unknown))?;
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
    if engine::loses_rights(&file) {
        say_without_privileges(&file, &listed);
    }
    if !policy.reaches_others && find::is_unreadable(&file) {
        say_unreadable(&file, &listed);
    }
    match library::removed(std::env::var_os(library::VARIABLE).as_deref()) {
        Some(rest) => command.env(library::VARIABLE, rest),
        None => command.env_remove(library::VARIABLE),
    };
    for variable in [names::DEVICES, names::LOG_LEVEL, names::TRACE] {
        command.env_remove(variable);
    }
    let from_file = permit.as_ref().map_or(&listed, |permit| &permit.listed);
    let entries: Vec<_> = from_file.iter().map(|device| device.entry).collect();
    let mut devices = Registry::new(&entries, policy.user);
    for (device, key) in permit.iter().flat_map(|permit| &permit.named) {
        devices.list_node(device.entry, *key);
    }
    let may_show = permit.as_ref().is_none_or(|permit| permit.messages);
    Ok(Prepared { file, command, listed, devices, policy, may_show })
}

impl Prepared {
    /// Calls `act` with the number of the user whom the program is for, and with that user's rights to files.
    pub fn with_file_rights<T>(&self, act: impl FnOnce(u32) -> Result<T, Failure>) -> Result<T, Failure> {
        let user = self.policy.user;
        let number = user.map_or_else(|| geteuid().as_raw(), User::number);
        sudo::with_file_rights(user, || act(number))
    }

    /// Refuses to show requests where the configuration file does not let users see them.
    pub fn require_shown(&self) -> Result<(), Failure> {
        if self.may_show {
            return Ok(());
        }
        Err(Failure { status: Failure::NOT_EXECUTED, findings: vec![not_shown(Finding::problem)] })
    }

    /// Returns the entries of the devices.
    pub fn texts(&self) -> Vec<OsString> {
        self.listed.iter().map(|device| device.text.to_owned()).collect()
    }

    /// Runs the program to its end, or where records are shown to the end of the tree; says how it ended, and what
    /// is missing in the records. `says_refused`: the user is told of a program that the supervisor may not look at.
    pub fn run(mut self, records: Records<'_>, says_refused: bool) -> Result<(Ended, Missing), Failure> {
        let (file, listed) = (&self.file, &self.listed);
        let tell = |event: Event| match event {
            Event::Lost => {
                let why = "has lost its supervisor, so requests to disks fail in it and in what it started";
                say(Finding::problem(Code::Io, why).of(file).hint("end them, and start again"));
            }
            Event::Refused(refused) if says_refused => say(engine::refused(refused, file, listed)),
            Event::Refused(_) => {}
        };
        let ended = supervisor::run(&mut self.command, self.devices, self.policy, records, tell);
        ended.map_err(|failure| match failure {
            supervisor::Failure::NotExecuted(error) => not_started(file, &error),
            failure => engine::not_started(&failure).into(),
        })
    }
}

/// Says of a set-user-ID program, or of one that starts others, that these have the rights of the user alone.
fn say_without_privileges(file: &Path, listed: &[Device<'_>]) {
    let why = "set-user-ID programs run with your own rights under your supervisor (no_new_privs)";
    let finding = Finding::warning(Code::PermissionDenied, why).of(file);
    say(finding.hint(format!("to let them keep their own, {}", engine::keeping_rights(file, listed))));
}

/// Says of a program that may be executed and not read that an ordinary user's supervisor cannot look at it.
fn say_unreadable(file: &Path, listed: &[Device<'_>]) {
    let why = "cannot be read, so your supervisor cannot answer it: its requests to disks fail with EPERM";
    let finding = Finding::warning(Code::PermissionDenied, why).of(file);
    say(finding.hint(engine::as_root(file, listed)));
}
