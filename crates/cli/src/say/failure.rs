//! How the command ends without having done its work, and how it says anything at all.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::ValueEnum;
use disk::entry::Printed;
use std::os::unix::ffi::OsStrExt;

use crate::say::finding::{Code, Finding};
use crate::say::json;

/// How messages are written to the standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As sentences.
    Text,
    /// As JSON objects, one on each line.
    Json,
}

/// The format of this process; text before it is set.
pub static FORMAT: OnceLock<Format> = OnceLock::new();

/// Set where the standard error is a listed device, on which a message would destroy what is there.
static STANDARD_ERROR_IS_DISK: OnceLock<()> = OnceLock::new();

/// Writes nothing more to the standard error, which is a listed device.
pub fn spare_standard_error() {
    let _ = STANDARD_ERROR_IS_DISK.set(());
}

/// Why the command ends without having done its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: u8,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl From<Finding> for Failure {
    fn from(finding: Finding) -> Failure {
        Failure { status: finding.code.status(), findings: vec![finding] }
    }
}

impl Failure {
    /// The exit status of a failure that has no other.
    pub const FAILED: u8 = 1;
    /// The exit status where the command line is wrong.
    pub const USAGE: u8 = 2;
    /// The exit status where a program is not executed.
    pub const NOT_EXECUTED: u8 = 126;

    /// Something on the command line is wrong.
    pub fn usage(finding: Finding) -> Failure {
        Failure { status: Failure::USAGE, findings: vec![finding] }
    }

    /// Says it, and gives the exit status.
    pub fn report(self) -> ExitCode {
        self.findings.iter().for_each(say);
        ExitCode::from(self.status)
    }
}

/// Writes a message to the standard error.
pub fn say(finding: impl Borrow<Finding>) {
    let finding = finding.borrow();
    write(&match FORMAT.get() {
        Some(Format::Json) => json::line(finding).unwrap_or_default(),
        _ => format!("vmware-bdwrapper: {finding}\n"),
    });
}

/// Writes to the standard error or, where that cannot be written, to the terminal. A reader that has left has chosen to be told
/// nothing.
pub fn write(line: &str) {
    let written = match STANDARD_ERROR_IS_DISK.get() {
        Some(()) => Err(io::ErrorKind::Unsupported.into()),
        None => io::stderr().write_all(line.as_bytes()),
    };
    if written.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        // Without a terminal the exit status alone can tell.
        let terminal = OpenOptions::new().write(true).open("/dev/tty");
        let _ = terminal.and_then(|mut terminal| terminal.write_all(line.as_bytes()));
    }
}

/// Writes to the standard output; a reader that has left is no failure.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let why = format!("The standard output cannot be written ({})", cause(&error));
            Err(Finding::problem(Code::Io, why).hint("write it elsewhere").into())
        }
        _ => Ok(()),
    }
}

/// A file name for people.
pub fn shown<T: AsRef<Path> + ?Sized>(path: &T) -> Printed<'_> {
    Printed(path.as_ref().as_os_str().as_bytes())
}

/// A word of a command that users paste into a shell. It can stand between apostrophes in a sentence.
pub fn quoted<T: AsRef<OsStr> + ?Sized>(word: &T) -> String {
    let bytes = word.as_ref().as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && bytes.iter().all(is_plain) => text.to_owned(),
        // The history of an interactive shell takes an exclamation mark even here.
        Ok(text) if !text.contains(|letter: char| letter == '!' || letter.is_control()) => {
            let escaped = |letter| if "\"$\\`".contains(letter) { vec!['\\', letter] } else { vec![letter] };
            format!("\"{}\"", text.chars().flat_map(escaped).collect::<String>())
        }
        _ => {
            let escaped = |&byte: &u8| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(byte)),
                b' '..=b'~' => char::from(byte).to_string(),
                // Octal: what follows a hexadecimal number could belong to it.
                _ => format!("\\{byte:03o}"),
            };
            format!("$'{}'", bytes.iter().map(escaped).collect::<String>())
        }
    }
}

/// What the system says of an error, without the number.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn words_of_a_shell() {
        for (word, wanted) in [
            (&b"/dev/sd/test=scsi,serial=A-1"[..], "/dev/sd/test=scsi,serial=A-1"),
            (b"", "\"\""),
            (b"/a b", "\"/a b\""),
            (b"/it's", "\"/it's\""),
            (b"~", "\"~\""),
            (b"a$b`c\"d\\e", r#""a\$b\`c\"d\\e""#),
            (b"a!b'c\n\xff0", r"$'a!b\'c\012\3770'"),
        ] {
            let word = OsStr::from_bytes(word);
            assert_eq!(quoted(word), wanted);
            // What bash reads is what was meant.
            if let Ok(read) =
                Command::new("bash").args(["-c", &format!("printf %s {}", quoted(word))]).output()
            {
                assert_eq!(read.stdout, word.as_bytes());
            }
        }
    }
}
