//! The disk of a virtual machine: its descriptor, and its slot.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::step::{Act, Addition, changed};
use crate::file;
use crate::say::failure::{Failure, shown};
use crate::vmdk::disk;

/// The descriptor.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// The virtual machine's file.
    pub vmx: PathBuf,
    /// The descriptor's file.
    pub file: PathBuf,
}

impl Act for Descriptor {
    fn text(&self, addition: &Addition) -> String {
        format!("describe {} in {}", shown(&addition.name), shown(&self.file))
    }

    fn carry_out(&self, addition: &Addition) -> Result<(), Failure> {
        addition.as_user(|| disk::describe(&addition.entry, &self.file))
    }

    fn undo(&self, addition: &Addition) -> Result<Option<String>, Failure> {
        addition.undo_as_user(&self.file, || match disk::describes(&self.file, &addition.name)? {
            None => Ok(None),
            Some(false) => Err(changed(&self.file, &format!("does not describe {}", shown(&addition.name)))),
            Some(true) => {
                disk::remove(&self.file)?;
                Ok(Some(format!("removed {}", shown(&self.file))))
            }
        })
    }

    fn check_undo(&self, addition: &Addition) -> Result<(), Failure> {
        addition.undo_as_user(&self.file, || Ok(disk::check_removable(&self.file).map(|()| None)?)).map(drop)
    }
}

/// The disk in a virtual machine.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InMachine {
    /// The virtual machine's file.
    pub vmx: PathBuf,
    /// The descriptor's file.
    pub file: PathBuf,
    /// The slot.
    pub slot: String,
    /// The lines that are added for its controller.
    pub controller: Vec<String>,
    /// The line before had no end, and got one.
    pub ends_last: bool,
}

impl InMachine {
    /// Returns whether another disk of the virtual machine has the same controller.
    pub fn shares_controller(&self, other: &InMachine) -> bool {
        let controller = |step: &InMachine| step.slot.split(':').next().map(str::to_owned);
        self.vmx == other.vmx && controller(self) == controller(other)
    }
}

impl Act for InMachine {
    fn text(&self, _: &Addition) -> String {
        format!("attach {} to {} as {}", shown(&self.file), shown(&self.vmx), self.slot)
    }

    fn carry_out(&self, addition: &Addition) -> Result<(), Failure> {
        addition.as_user(|| Ok(disk::attach(&self.file, &self.vmx, &self.slot)?))
    }

    fn undo(&self, addition: &Addition) -> Result<Option<String>, Failure> {
        addition.undo_as_user(&self.vmx, || {
            if !file::exists(&self.vmx)? {
                return Ok(None);
            }
            let detached = disk::detach(&self.file, &self.vmx, &self.controller, self.ends_last)?;
            Ok(detached.then(|| format!("detached {} from {}", shown(&self.file), shown(&self.vmx))))
        })
    }

    fn check_undo(&self, addition: &Addition) -> Result<(), Failure> {
        addition.undo_as_user(&self.vmx, || Ok(disk::check_removable(&self.vmx).map(|()| None)?)).map(drop)
    }
}
