//! `vmware-bdwrapper run`: becomes a program with the library.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::devices::Device;
use crate::failure::{Failure, cause, say};
use crate::{administrator, devices, library, program, secure};

/// The library's variable for the amount of messages.
const LOG_LEVEL: &str = "VMWARE_BDWRAPPER_LOG_LEVEL";

/// Becomes the program. `command` is its name and its arguments.
pub fn run(
    options: Vec<OsString>,
    log_level: Option<&str>,
    command: &[OsString],
) -> Result<Infallible, Failure> {
    let texts = devices::texts(options)?;
    let listed = devices::parse(&texts)?;
    let (name, arguments) = command
        .split_first()
        .ok_or_else(|| Failure::new(Failure::USAGE, "No program is given: name one behind the options."))?;
    let file = program::find(name)?;
    let library = library_for(&file, &listed)?;
    for sentence in devices::absent(&listed) {
        say(sentence);
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

/// The name by which the program takes the library; says what the user should know.
fn library_for(file: &Path, listed: &[Device<'_>]) -> Result<OsString, Failure> {
    let cannot = |error: std::io::Error| program::not_executed(file, &cause(&error));
    let status = file.metadata().map_err(cannot)?;
    if !secure::is_secure(file, &status).map_err(cannot)? {
        if let Some(remark) = program::unreachable(file) {
            say(remark);
        }
        return library::ordinary().map_err(|sentence| Failure::new(Failure::NOT_EXECUTED, sentence));
    }
    let findings = administrator::examine(file, &status, listed);
    for remark in &findings.remarks {
        say(remark);
    }
    if findings.obstacles.is_empty() {
        return Ok(OsStr::new(library::NAME).into());
    }
    Err(Failure { status: Failure::NOT_EXECUTED, sentences: findings.obstacles })
}
