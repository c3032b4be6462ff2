//! What set-user-ID programs need: the line of the configuration file, and the set-user-ID bit of the library.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use disk::conf::{Directive, parse};
use disk::entry::Entry;
use serde::{Deserialize, Serialize};

use super::step::{Act, Addition, changed};
use crate::check::config::{FILE, devices};
use crate::check::exposure::exposure;
use crate::check::library::installed;
use crate::command::setup::configuration::{Change, DEFAULT};
use crate::command::setup::library;
use crate::file::system;
use crate::program::secure::has_bit;
use crate::say::failure::{Failure, shown};
use crate::say::finding::Finding;

/// The configuration file, which is created.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {}

impl Act for Configuration {
    fn text(&self, _: &Addition) -> String {
        format!("create {FILE}")
    }

    fn carry_out(&self, _: &Addition) -> Result<(), Failure> {
        Change::plan(Vec::new())?.carry_out(false)?;
        Ok(())
    }

    fn undo(&self, _: &Addition) -> Result<Option<String>, Failure> {
        match text()? {
            None => Ok(None),
            Some(text) if text == DEFAULT => {
                fs::remove_file(FILE).map_err(|error| Finding::io("cannot be removed", &error).of(FILE))?;
                Ok(Some(format!("removed {FILE}")))
            }
            Some(_) => Err(changed(FILE, "has been changed")),
        }
    }
}

/// A line of the configuration file: the device's, or that of a program of VMware's.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// The line.
    pub line: String,
    /// The line before had no end, and got one.
    pub ends_last: bool,
}

impl Act for Listed {
    fn text(&self, _: &Addition) -> String {
        format!("add to {FILE}: {}", self.line)
    }

    fn carry_out(&self, _: &Addition) -> Result<(), Failure> {
        Change::plan(vec![self.line.clone().into()])?.carry_out(false)?;
        Ok(())
    }

    fn undo(&self, addition: &Addition) -> Result<Option<String>, Failure> {
        let Some(old) = text()? else { return Ok(None) };
        let line = &self.line;
        let mut lines: Vec<&[u8]> = old.split_inclusive(|&byte| byte == b'\n').collect();
        let is_it = |found: &&[u8]| found.trim_ascii() == line.as_bytes();
        if let Some(at) = lines.iter().rposition(is_it) {
            lines.remove(at);
            let mut new = lines.concat();
            if self.ends_last && at == lines.len() {
                new.pop();
            }
            system::put(Path::new(FILE), &new, false)?;
            return Ok(Some(format!("removed from {FILE}: {line}")));
        }
        if self.is_program() {
            return Ok(None);
        }
        let path = Entry::parse(addition.entry.as_bytes()).map(|entry| entry.path);
        match devices(&old).iter().any(|device| Ok(device.entry.path) == path) {
            true => Err(changed(FILE, &format!("lists {} with other options now", shown(&addition.name)))),
            false => Ok(None),
        }
    }
}

/// The start of the line of a program.
const EXECUTABLE: &str = "executable ";

impl Listed {
    /// Returns whether it lists a program.
    pub fn is_program(&self) -> bool {
        self.line.starts_with(EXECUTABLE)
    }
}

/// Returns the lines that list a device, and the set-user-ID programs of VMware's that are on this machine. Fails if others than
/// root could change one of these.
pub fn lines(entry: &str) -> Result<Vec<String>, Finding> {
    let mut lines = Vec::new();
    for program in set_user_id_programs(DEFAULT) {
        exposure(&program).map_or(Ok(()), Err)?;
        lines.push(format!("{EXECUTABLE}{}", program.display()));
    }
    lines.push(format!("device {entry}"));
    Ok(lines)
}

/// Returns the programs on this machine that a text of the configuration file lists and that have the set-user-ID bit of root's.
fn set_user_id_programs(text: &[u8]) -> Vec<PathBuf> {
    let is_roots = |path: &PathBuf| {
        path.metadata().is_ok_and(|status| status.is_file() && status.uid() == 0 && has_bit(&status))
    };
    let listed = parse(text).flatten().filter_map(|directive| match directive {
        Directive::Executable(path) => Some(PathBuf::from(OsStr::from_bytes(path))),
        _ => None,
    });
    listed.filter(is_roots).collect()
}

/// Reads the file; none where it does not exist.
fn text() -> Result<Option<Vec<u8>>, Finding> {
    match fs::read(FILE) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Finding::io("cannot be read", &error).of(FILE)),
    }
}

/// The set-user-ID bit of the library.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SetUserId {
    /// Its files that get it.
    pub files: Vec<PathBuf>,
}

impl Act for SetUserId {
    fn text(&self, _: &Addition) -> String {
        let files: Vec<String> = self.files.iter().map(|file| shown(file).to_string()).collect();
        format!("give {} the set-user-ID bit, which VMware's set-user-ID programs need", files.join(" and "))
    }

    fn carry_out(&self, _: &Addition) -> Result<(), Failure> {
        for change in library::plan(true)? {
            if self.files.contains(&change.library.path) {
                change.change_mode()?;
                change.tell_dpkg()?;
            }
        }
        Ok(())
    }

    fn undo(&self, _: &Addition) -> Result<Option<String>, Failure> {
        if installed()?.is_empty() {
            return Ok(None);
        }
        let mut done = None;
        for change in library::plan(false)? {
            if self.files.contains(&change.library.path) && change.changes_mode() {
                change.change_mode()?;
                change.tell_dpkg()?;
                done = Some(format!("removed the set-user-ID bit from {}", shown(&change.library.path)));
            }
        }
        Ok(done)
    }
}

impl SetUserId {
    /// Returns what gives the bit to the library, where a set-user-ID program of root's on this machine needs it: one that
    /// this text of the configuration file lists.
    pub fn needed(configuration: &[u8]) -> Result<Option<SetUserId>, Finding> {
        if set_user_id_programs(configuration).is_empty() {
            return Ok(None);
        }
        let changes = library::plan(true)?.into_iter().filter(|change| change.changes_mode());
        let files: Vec<PathBuf> = changes.map(|change| change.library.path).collect();
        Ok((!files.is_empty()).then_some(SetUserId { files }))
    }
}
