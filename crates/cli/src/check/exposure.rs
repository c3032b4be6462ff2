//! Whether others than root can change a program that the configuration file lists.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use disk::conf::OTHERS_WRITE;

use crate::program::loader;
use crate::say::failure::{cause, quoted, shown};
use crate::say::finding::{Code, Finding};

/// What of a directory's mode lets nobody remove or replace what is not his.
const STICKY: u32 = 0o1000;

/// Says what lets others than root put another program in a program's place, or change it: the library looks where a listed name leads
/// whenever a program starts.
pub fn exposure(program: &Path) -> Option<Finding> {
    let warning = |code, why| Finding::warning(code, why).of(program);
    let found = |what: String, could: &str, remedy: String| {
        let why = format!("{what}, so users other than root could {could}");
        Some(warning(Code::Untrusted, why).hint(remedy))
    };
    let unknown = |error: &io::Error| {
        let why = format!("cannot be examined ({})", cause(error));
        Some(warning(Code::Unknown, why).hint("correct that first"))
    };
    let mut directories = BTreeSet::new();
    let file = loader::walk(Path::new("/"), program, |directory| {
        directories.insert(Path::new("/").join(directory));
    });
    for directory in &directories {
        let status = match directory.metadata() {
            Ok(status) => status,
            Err(error) => return unknown(&error),
        };
        let (place, word, mode) = (shown(directory), quoted(directory), status.mode() & 0o7777);
        let could = "put another program in its place";
        let elsewhere =
            "move the program to a directory that root alone can write to, such as /usr/local/bin";
        if status.uid() != 0 {
            let what = format!("the directory {place} belongs to user {}", status.uid());
            return found(what, could, elsewhere.into());
        }
        if mode & OTHERS_WRITE != 0 {
            let remedy = match mode & STICKY {
                0 => format!("run 'chmod go-w {word}', or {elsewhere}"),
                _ => elsewhere.into(),
            };
            return found(format!("the directory {place} has the mode {mode:04o}"), could, remedy);
        }
    }
    let file = Path::new("/").join(file.unwrap_or_default());
    match file.metadata().map(|status| status.mode() & 0o7777) {
        Err(error) => unknown(&error),
        Ok(mode) if mode & OTHERS_WRITE != 0 => found(
            format!("it has the mode {mode:04o}"),
            "change what it does",
            format!("run 'chmod go-w {}'", quoted(&file)),
        ),
        Ok(_) => None,
    }
}
