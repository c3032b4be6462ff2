//! SCSI commands by `programs/sgio.c`.

use std::path::{Path, PathBuf};

use crate::fixture::{Disk, Scratch};
use crate::run::{Run, Session};

/// The program of `programs/sgio.c`, in a conversation.
pub struct Sgio(Session);

impl Sgio {
    /// Starts it as `run` says.
    pub fn start(run: impl FnOnce(PathBuf) -> Run, scratch: &Scratch) -> Sgio {
        Sgio(run(scratch.program("sgio")).start(&scratch.path("stderr")))
    }

    /// Starts it with a disk listed.
    pub fn of(disk: &Disk) -> Sgio {
        Sgio::start(|program| disk.run(program), disk.scratch())
    }

    /// Opens a file; the result is the descriptor.
    pub fn open(&mut self, flags: &str, path: &Path) -> String {
        self.0.ask(&format!("open {flags} {}", path.display()))
    }

    /// Returns a line that it says without having been asked.
    pub fn line(&mut self) -> String {
        self.0.line()
    }

    /// Asks a line of it.
    pub fn ask(&mut self, line: &str) -> String {
        self.0.ask(line)
    }

    /// Sends a command without data.
    pub fn none(&mut self, fd: &str, cdb: &str) -> String {
        self.ask(&format!("none {fd} {}", hex(cdb)))
    }

    /// Sends a command and reads data; the answer stands before the data.
    pub fn read(&mut self, fd: &str, cdb: &str, bytes: u64) -> (String, String) {
        let answer = self.ask(&format!("in {fd} {} {bytes}", hex(cdb)));
        let (answer, data) = answer.rsplit_once(' ').unwrap_or((&answer, ""));
        (answer.to_owned(), data.to_owned())
    }

    /// Sends a command and one byte again and again.
    pub fn write(&mut self, fd: &str, cdb: &str, bytes: u64, byte: u8) -> String {
        self.ask(&format!("out {fd} {} {bytes} {byte:02x}", hex(cdb)))
    }
}

/// A CDB without blanks; dots stand for as many zeros as are wanted in a CDB of 16 bytes.
pub fn hex(cdb: &str) -> String {
    let cdb: String = cdb.split(' ').collect();
    match cdb.split_once("..") {
        Some((start, end)) => format!("{start}{}{end}", "0".repeat(32 - start.len() - end.len())),
        None => cdb,
    }
}
