//! Programs of the system that this command runs.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::say::failure::cause;

/// Runs a program without input; returns its output, or why it did not succeed.
pub fn run(program: &str, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Result<String, String> {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(done) if done.status.success() => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        Ok(done) => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
        Err(error) => Err(cause(&error)),
    }
}
