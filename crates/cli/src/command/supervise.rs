//! `vmware-bdwrapper run --engine supervisor`: runs a program under a supervisor of its own.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use disk::names;
use supervisor::{Policy, Registry};

use crate::check::{library, script};
use crate::command::run::{not_started, program};
use crate::entries;
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
    find::unstartable(&file).iter().for_each(say);
    // The library's levels: of those after the start, a supervisor sees the requests alone.
    let level = log_level.map(OsString::from).or_else(|| std::env::var_os(names::LOG_LEVEL));
    let level = level.and_then(|level| level.to_str()?.parse::<i32>().ok()).unwrap_or(1);
    let policy = Policy { shows_requests: level >= 1000, ..Policy::current() };
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
    let entries: Vec<_> = listed.iter().map(|device| device.entry).collect();
    // What is wrong with them has been said.
    let (devices, _) = Registry::new(&entries);
    let lost = || {
        let why = "has lost its supervisor, so requests to disks fail in it and in what it started";
        say(Finding::problem(Code::Io, why).of(&file).hint("end them, and start again"));
    };
    match supervisor::run(&mut command, devices, policy, lost) {
        Ok(ended) => ended.end(),
        Err(supervisor::Failure::NotExecuted(error)) => Err(not_started(&file, &error)),
        Err(failure) => {
            let why = format!("The supervisor cannot be started ({failure})");
            Err(Finding::problem(Code::NotExecutable, why).hint("use --engine library").into())
        }
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
