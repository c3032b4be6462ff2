//! A change of the configuration file: lines that are added, or removed again.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use disk::conf::{Directive, MAX_BYTES, parse};

use crate::check::config::{self, FILE, read};
use crate::entries::Device;
use crate::file::system;
use crate::say::failure::shown;
use crate::say::finding::{Code, Finding};

/// The file as it is before anybody has changed it.
pub const DEFAULT: &[u8] = include_bytes!("../../../../../data/vmware-bdwrapper.conf");

/// Returns the line of a directive.
pub fn directive(name: &str, value: &OsStr) -> OsString {
    let mut line = OsString::from(name);
    line.push(value);
    line
}

/// A change of the administrator's file.
pub struct Change {
    /// What it holds; none where there is none.
    pub old: Option<Vec<u8>>,
    /// What it is to hold.
    pub new: Vec<u8>,
    /// The lines that are new.
    pub added: Vec<OsString>,
    /// What is wrong with lines that exist.
    pub remarks: Vec<Finding>,
}

impl Change {
    /// Returns the change that adds lines, except those that the file has.
    pub fn plan(lines: Vec<OsString>) -> Result<Change, Finding> {
        let old = match read() {
            Ok(text) => Some(text),
            Err(_)
                if Path::new(FILE)
                    .symlink_metadata()
                    .is_err_and(|error| error.kind() == ErrorKind::NotFound) =>
            {
                None
            }
            Err(finding) => return Err(finding),
        };
        Change::of(old, lines)
    }

    fn of(old: Option<Vec<u8>>, lines: Vec<OsString>) -> Result<Change, Finding> {
        let mut new = old.clone().unwrap_or_else(|| DEFAULT.into());
        let (mut added, mut remarks) = (Vec::new(), Vec::new());
        remarks.extend(parse(&new).filter_map(Result::err).map(|error| config::ignored_line(&error)));
        for line in lines {
            let wanted = parse(line.as_bytes()).next();
            let is_there = parse(&new).any(|found| Some(found) == wanted);
            if is_there {
                continue;
            }
            if let Some(Ok(Directive::Device(wanted))) = wanted {
                let same = |found| matches!(found, Directive::Device(found) if found.path == wanted.path);
                if parse(&new).flatten().any(same) {
                    let why = format!("is listed in {FILE} already, with other options");
                    let finding = Finding::problem(Code::Different, why).of(OsStr::from_bytes(wanted.path));
                    return Err(finding.hint("change that line in the file"));
                }
                let listed = config::devices(&new);
                let wanted = Device { text: &line, entry: wanted };
                if let Some(other) = config::contradicted(&listed, &wanted) {
                    let why = format!(
                        "is listed in {FILE} by the line 'device {}', with other options than '{}'",
                        shown(other.text),
                        shown(&line)
                    );
                    return Err(Finding::problem(Code::Different, why)
                        .of(wanted.path())
                        .hint("give both the same options, or change that line in the file"));
                }
            }
            if new.last().is_some_and(|&byte| byte != b'\n') {
                new.push(b'\n');
            }
            new.extend_from_slice(line.as_bytes());
            new.push(b'\n');
            added.push(line);
        }
        if new.len() as u64 > MAX_BYTES {
            let why = format!("would have {} bytes, and the library takes at most {MAX_BYTES}", new.len());
            return Err(Finding::problem(Code::Malformed, why).of(FILE).hint("shorten it"));
        }
        Ok(Change { old, new, added, remarks })
    }

    /// Writes the file; returns the name by which the file before is kept, where `keep` says so and there was one.
    pub fn carry_out(&self, keep: bool) -> Result<Option<PathBuf>, Finding> {
        match &self.old {
            Some(old) if *old == self.new => Ok(None),
            _ => system::put(Path::new(FILE), &self.new, keep),
        }
    }
}
