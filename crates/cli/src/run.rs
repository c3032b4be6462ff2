//! `vmware-bdwrapper run`: becomes a program with the library.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::block::{self, Host};
use crate::devices::Device;
use crate::failure::{Failure, cause, say, shown};
use crate::finding::{Finding, Verdict, only};
use crate::{administrator, devices, fitness, library, program, secure};

/// The library's variable for the amount of messages.
const LOG_LEVEL: &str = "VMWARE_BDWRAPPER_LOG_LEVEL";

/// Becomes the program. `command` is its name and its arguments.
///
/// A device that something uses is refused unless `force`. Whoever begins to use it afterwards is not kept from it: the
/// program that is started does not have it for itself alone, either.
pub fn run(
    options: Vec<OsString>,
    log_level: Option<&str>,
    force: bool,
    command: &[OsString],
) -> Result<Infallible, Failure> {
    let texts = devices::texts(options)?;
    let listed = devices::parse(&texts)?;
    let (name, arguments) = command
        .split_first()
        .ok_or_else(|| Failure::new(Failure::USAGE, "No program is given: name one behind the options."))?;
    let file = program::find(name)?;
    let library = library_for(&file, &listed)?;
    refuse_taken(&listed, force)?;
    for finding in listed.iter().filter_map(devices::absent) {
        say(finding);
    }
    let preload = std::env::var_os(library::VARIABLE);
    let mut command = Command::new(&file);
    command.arg0(name).args(arguments);
    command.env(library::VARIABLE, library::appended(preload.as_deref(), &library));
    command.env(devices::VARIABLE, devices::list(&texts));
    if let Some(level) = log_level {
        command.env(LOG_LEVEL, level);
    }
    let error = command.exec();
    let cause = match error.kind() {
        std::io::ErrorKind::NotFound => "its interpreter or dynamic loader does not exist".into(),
        _ => cause(&error),
    };
    Err(program::not_executed(&file, &cause))
}

/// Refuses devices that something uses, or says of them what does.
fn refuse_taken(listed: &[Device<'_>], force: bool) -> Result<(), Failure> {
    let host = Host::running().unwrap_or_else(|error| {
        say(block::unknown(&error));
        Host::default()
    });
    let findings: Vec<Finding> = listed.iter().flat_map(|device| fitness::taken(device, &host)).collect();
    if findings.is_empty() {
        return Ok(());
    }
    if force {
        findings.iter().for_each(say);
        return Ok(());
    }
    let mut sentences: Vec<String> = findings.iter().map(Finding::to_string).collect();
    sentences
        .push("The program is not started: give run the option --force where that is what you want.".into());
    Err(Failure { status: Failure::NOT_EXECUTED, sentences })
}

/// The name by which the program takes the library; says what the user should know.
fn library_for(file: &Path, listed: &[Device<'_>]) -> Result<OsString, Failure> {
    let cannot = |error: std::io::Error| program::not_executed(file, &cause(&error));
    let status = file.metadata().map_err(cannot)?;
    if let Some(finding) = program::unreachable(file) {
        say(finding);
    }
    if !secure::is_secure(file, &status).map_err(cannot)? {
        return library::ordinary().map_err(|sentence| Failure::new(Failure::NOT_EXECUTED, sentence));
    }
    let findings = [library::trusted(), administrator::examine(file, &status, listed)].concat();
    for remark in only(&findings, Verdict::Warning) {
        say(remark);
    }
    let obstacles: Vec<String> = only(&findings, Verdict::Problem).map(Finding::to_string).collect();
    if obstacles.is_empty() {
        return Ok(OsStr::new(library::NAME).into());
    }
    let heading = format!(
        "{} would not find the devices, because it runs with rights that you do not have (a set-user-ID program, \
         see libvmware-bdwrapper(7)):",
        shown(file)
    );
    Err(Failure { status: Failure::NOT_EXECUTED, sentences: [vec![heading], obstacles].concat() })
}
