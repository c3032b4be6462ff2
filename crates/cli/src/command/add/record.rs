//! What `add` has done: the file from which `remove` knows what to undo.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use disk::conf::OTHERS_WRITE;
use serde::{Deserialize, Serialize};

use super::step::{Addition, Step};
use crate::file::system;
use crate::say::failure::Failure;
use crate::say::finding::{Code, Finding};
use crate::say::json;

/// The file.
pub const RECORD: &str = "/var/lib/vmware-bdwrapper/added.json";

/// The content of the file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The devices.
    pub additions: Vec<Addition>,
    /// What all of them need: it is undone with the last.
    pub shared: Vec<Step>,
}

impl Record {
    /// Reads it; without a file it is empty.
    pub fn read() -> Result<Record, Finding> {
        let unusable = |finding: Finding| {
            finding
                .of(RECORD)
                .hint("correct it or remove it: it says what 'vmware-bdwrapper remove' has to undo")
        };
        let path = Path::new(RECORD);
        for place in path.parent().into_iter().chain([path]) {
            let status = place.metadata().ok();
            if let Some(status) =
                status.filter(|status| status.uid() != 0 || status.mode() & OTHERS_WRITE != 0)
            {
                let why = format!(
                    "belongs to user {} and has the mode {:04o}, so others than root may have written what {RECORD} says",
                    status.uid(),
                    status.mode() & 0o7777
                );
                let hint =
                    format!("check it, and run 'chown root {0}' and 'chmod go-w {0}'", place.display());
                return Err(Finding::problem(Code::Untrusted, why).of(place).hint(hint));
            }
        }
        match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(unusable(Finding::io("cannot be read", &error))),
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                unusable(Finding::problem(Code::Malformed, format!("is not a record of additions ({error})")))
            }),
        }
    }

    /// Writes it, or removes it where nothing is left to be undone.
    pub fn write(&self) -> Result<(), Failure> {
        let path = Path::new(RECORD);
        let directory = path.parent().unwrap_or(path);
        let cannot =
            |what: &str, error| Finding::io(what, &error).of(RECORD).hint("correct that and try again");
        if *self == Record::default() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(cannot("cannot be removed", error).into())
                }
                _ => {
                    // Only where it is empty.
                    let _ = fs::remove_dir(directory);
                    Ok(())
                }
            };
        }
        let text = json::text(self)?;
        fs::create_dir_all(directory).map_err(|error| cannot("cannot be made", error))?;
        system::put(path, text.as_bytes(), false).map(drop).map_err(|finding| {
            let _ = fs::remove_dir(directory);
            finding.into()
        })
    }

    /// Returns the addition with this link.
    pub fn by_name(&self, name: &Path) -> Option<&Addition> {
        self.additions.iter().find(|addition| addition.name == name)
    }

    /// Returns the record with steps added after those that a device has. It holds each step once.
    pub fn with(&self, addition: &Addition) -> Record {
        let mut record = self.clone();
        let own = addition.steps.iter().filter(|step| !step.is_shared());
        let shared = addition.steps.iter().filter(|step| step.is_shared());
        match record.additions.iter_mut().find(|other| other.name == addition.name) {
            Some(old) => {
                let steps = std::mem::take(&mut old.steps);
                *old = Addition { steps: added(steps, own), ..addition.clone() };
            }
            None => record.additions.push(Addition { steps: added(Vec::new(), own), ..addition.clone() }),
        }
        record.shared = added(record.shared, shared);
        record
    }
}

fn added<'a>(mut steps: Vec<Step>, more: impl Iterator<Item = &'a Step>) -> Vec<Step> {
    for step in more {
        if !steps.contains(step) {
            steps.push(step.clone());
        }
    }
    steps
}
