//! `vmware-bdwrapper run --engine supervisor`: runs a program under a supervisor of its own.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use disk::names;
use supervisor::{Policy, Registry};

use crate::check::{engine, library};
use crate::command::run::{not_started, program};
use crate::entries;
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
    // The supervisor needs them as long as it runs.
    let texts: &'static [OsString] = entries::require_texts(options)?.leak();
    let listed = entries::parse(texts)?;
    let (file, mut command) = program(&listed, command, force)?;
    if listed.len() > Registry::MOST {
        let why = format!("{} devices are given", listed.len());
        return Err(Finding::problem(Code::Usage, why)
            .hint(format!("name at most {}", Registry::MOST))
            .into());
    }
    entries::clashes(&listed).flatten().for_each(say);
    find::unstartable(&file).iter().for_each(say);
    // The library's levels: of those after the start, a supervisor sees the requests alone.
    let level = log_level.map(OsString::from).or_else(|| std::env::var_os(names::LOG_LEVEL));
    let level = level.and_then(|level| level.to_str()?.parse::<i32>().ok()).unwrap_or(1);
    let policy = Policy { shows_requests: level >= 1000, ..Policy::current() };
    why.iter().filter(|_| level >= 1).for_each(say);
    if engine::loses_rights(&file) {
        say_without_privileges(&file);
    }
    match library::removed(std::env::var_os(library::VARIABLE).as_deref()) {
        Some(rest) => command.env(library::VARIABLE, rest),
        None => command.env_remove(library::VARIABLE),
    };
    for variable in [names::DEVICES, names::LOG_LEVEL, names::TRACE] {
        command.env_remove(variable);
    }
    let entries: Vec<_> = listed.iter().map(|device| device.entry).collect();
    let (devices, problems) = Registry::new(&entries);
    for (entry, problem) in problems {
        let finding = Finding::warning(Code::NotADevice, problem.to_string());
        say(finding.of(OsStr::from_bytes(entry.path)));
    }
    let lost = || {
        let why = "has lost its supervisor, so requests to disks fail in it and in what it started";
        say(Finding::problem(Code::Io, why).of(&file).hint("end them, and start again"));
    };
    match supervisor::run(&mut command, devices, policy, lost) {
        Ok(ended) => ended.end(),
        Err(supervisor::Failure::NotExecuted(error)) => Err(not_started(&file, &error)),
        Err(failure) => Err(engine::not_started(&failure).into()),
    }
}

/// Says of a set-user-ID program, or of one that starts others, that these have the rights of the user alone.
fn say_without_privileges(file: &Path) {
    let why = "set-user-ID programs run with your own rights under your supervisor (no_new_privs)";
    let finding = Finding::warning(Code::PermissionDenied, why).of(file);
    say(finding.hint(format!("to have them keep their own, {}", engine::keeping_rights(file))));
}
