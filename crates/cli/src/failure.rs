//! What the command says when something is wrong.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use disk::entry::Printed;
use std::os::unix::ffi::OsStrExt;

/// Why the command ends without having done its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: u8,
    /// Complete sentences, each of which names a thing, what is wrong with it and what to do.
    pub sentences: Vec<String>,
}

impl Failure {
    /// Something failed.
    pub const FAILED: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// A program cannot be executed.
    pub const NOT_EXECUTED: u8 = 126;
    /// There is no program of this name.
    pub const NOT_FOUND: u8 = 127;

    /// A single sentence.
    pub fn new(status: u8, sentence: impl Into<String>) -> Failure {
        Failure { status, sentences: vec![sentence.into()] }
    }

    /// Says it, and gives the exit status.
    pub fn report(self) -> ExitCode {
        for sentence in &self.sentences {
            say(sentence);
        }
        ExitCode::from(self.status)
    }
}

/// Writes a message to the standard error. Where that is impossible there is nobody to be told.
pub fn say(message: impl Display) {
    let _ = writeln!(io::stderr(), "vmware-bdwrapper: {message}");
}

/// Writes to the standard output; a reader that has left is no failure.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Failure::FAILED,
            format!("The standard output cannot be written ({}): write it elsewhere.", cause(&error)),
        )),
        _ => Ok(()),
    }
}

/// A file name for people.
pub fn shown<T: AsRef<Path> + ?Sized>(path: &T) -> Printed<'_> {
    Printed(path.as_ref().as_os_str().as_bytes())
}

/// What the system says of an error, without the number.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}
