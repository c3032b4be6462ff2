//! `vmware-bdwrapper run`: becomes a program with the library.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::devices::Device;
use crate::failure::{Failure, cause, say};
use crate::{administrator, devices, library, program, secure};

/// The library's variable for the amount of messages.
pub const LOG_LEVEL: &str = "VMWARE_BDWRAPPER_LOG_LEVEL";

/// Becomes the program. `command` is its name and its arguments.
pub fn run(
    options: Vec<OsString>,
    log_level: Option<&str>,
    command: &[OsString],
) -> Result<Infallible, Failure> {
    let texts = devices::texts(options)?;
    let Prepared { file, mut command, .. } = prepare(&texts, command)?;
    if let Some(level) = log_level {
        command.env(LOG_LEVEL, level);
    }
    Err(not_started(&file, &command.exec()))
}

/// A program that is ready to be started with the library.
pub struct Prepared {
    /// Its file.
    pub file: PathBuf,
    /// With its arguments and environment.
    pub command: Command,
    /// Whether it runs in secure mode.
    pub is_secure: bool,
}

/// Finds a program, and says what the user should know.
pub fn prepare(texts: &[OsString], command: &[OsString]) -> Result<Prepared, Failure> {
    let listed = devices::parse(texts)?;
    let (name, arguments) = command
        .split_first()
        .ok_or_else(|| Failure::new(Failure::USAGE, "No program is given: name one behind the options."))?;
    let file = program::find(name)?;
    let (library, is_secure) = library_for(&file, &listed)?;
    for sentence in devices::absent(&listed) {
        say(sentence);
    }
    let preload = std::env::var_os(library::VARIABLE);
    let mut command = Command::new(&file);
    command.arg0(name).args(arguments);
    command.env(library::VARIABLE, library::appended(preload.as_deref(), &library));
    command.env(devices::VARIABLE, devices::list(texts));
    Ok(Prepared { file, command, is_secure })
}

/// Why a program was not started.
pub fn not_started(file: &Path, error: &std::io::Error) -> Failure {
    let cause = match error.kind() {
        std::io::ErrorKind::NotFound => "its interpreter or dynamic loader does not exist".into(),
        _ => cause(error),
    };
    program::not_executed(file, &cause)
}

/// The name by which the program takes the library, and whether it runs in secure mode; says what the user should know.
fn library_for(file: &Path, listed: &[Device<'_>]) -> Result<(OsString, bool), Failure> {
    let cannot = |error: std::io::Error| program::not_executed(file, &cause(&error));
    let status = file.metadata().map_err(cannot)?;
    if !secure::is_secure(file, &status).map_err(cannot)? {
        if let Some(remark) = program::unreachable(file) {
            say(remark);
        }
        let library =
            library::ordinary().map_err(|sentence| Failure::new(Failure::NOT_EXECUTED, sentence))?;
        return Ok((library, false));
    }
    let findings = administrator::examine(file, &status, listed);
    for remark in &findings.remarks {
        say(remark);
    }
    if findings.obstacles.is_empty() {
        return Ok((library::NAME.into(), true));
    }
    Err(Failure { status: Failure::NOT_EXECUTED, sentences: findings.obstacles })
}
