//! What `add` does, step by step, and how each step is undone.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use supervisor::User;

use super::image::{Attach, Unit};
use super::machine::{Descriptor, InMachine};
use super::names::{Directories, Link, Owner, Rule};
use super::permission::{Configuration, Listed, SetUserId};
use super::start::Starter;
use crate::host::block::Block;
use crate::host::scan::Host;
use crate::say::failure::{Failure, cause};
use crate::say::finding::{Code, Finding};

/// A device that was added: what it became, and what was done for it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Addition {
    /// Its link, `/dev/sd/NAME` or `/dev/hd/NAME`.
    pub name: PathBuf,
    /// The device by the name that stays the same, or the image file of a loop device.
    pub device: PathBuf,
    /// The user it was given to.
    pub user: String,
    /// Its entry.
    pub entry: String,
    /// What was done, in this order.
    pub steps: Vec<Step>,
}

impl Addition {
    /// Returns the block device: that of this name, or the loop device of this file.
    pub fn block<'a>(&self, host: &'a Host) -> Option<&'a Block> {
        host.by_path(&self.device).or_else(|| host.loop_of(&self.device))
    }

    /// Returns the name of the link below `/dev`.
    pub fn link(&self) -> &str {
        self.name.to_str().and_then(|name| name.strip_prefix("/dev/")).unwrap_or_default()
    }

    /// Calls `act` with the user's rights to files.
    pub fn as_user<T>(&self, act: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        as_user(&find_user(&self.user)?, act)
    }
}

/// Finds a user.
pub fn find_user(name: &str) -> Result<User, Failure> {
    let unknown = Finding::problem(Code::NotFound, "is not the name of a user").of(name);
    let found = User::named(name).map_err(|error| Finding::io("cannot be looked up", &error).of(name))?;
    found.ok_or_else(|| Failure::usage(unknown.hint("name one that exists")))
}

/// Calls `act` with a user's rights to files, if this process is root's.
pub fn as_user<T>(user: &User, act: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    if !rustix::process::geteuid().is_root() {
        return act();
    }
    user.with_file_rights(act).unwrap_or_else(|error| {
        let why = format!("The command cannot act with the user's rights ({})", cause(&error));
        Err(Finding::problem(Code::PermissionDenied, why).into())
    })
}

/// A step.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    /// A loop device is made of the image file.
    Attach(Attach),
    /// systemd does that at each boot.
    Unit(Unit),
    /// Its directories are made.
    Directories(Directories),
    /// The link is made.
    Link(Link),
    /// The device gets its owner.
    Owner(Owner),
    /// udev does both at each boot.
    Rule(Rule),
    /// The configuration file is created.
    Configuration(Configuration),
    /// The configuration file lists the device, or a program.
    Listed(Listed),
    /// The library gets the set-user-ID bit.
    SetUserId(SetUserId),
    /// The descriptor is written.
    Descriptor(Descriptor),
    /// The virtual machine gets the disk.
    InMachine(InMachine),
    /// A menu entry or unit starts VMware with the device.
    Starter(Starter),
}

/// How a step is done and undone.
pub trait Act {
    /// Says what is done: a request without its first capital and full stop.
    fn text(&self, addition: &Addition) -> String;

    /// Does it.
    fn carry_out(&self, addition: &Addition) -> Result<(), Failure>;

    /// Undoes it, and says what was done; nothing where it is undone already. What somebody has changed meanwhile is
    /// left as it is ([`Code::Different`]).
    fn undo(&self, addition: &Addition) -> Result<Option<String>, Failure>;

    /// Fails where it cannot be undone now.
    fn check_undo(&self, _: &Addition) -> Result<(), Failure> {
        Ok(())
    }
}

impl Step {
    /// Returns whether other devices need it, too, so that it is undone with the last of them.
    pub fn is_shared(&self) -> bool {
        match self {
            Step::Directories(_) | Step::Configuration(_) | Step::SetUserId(_) => true,
            Step::Listed(listed) => listed.is_program(),
            _ => false,
        }
    }

    /// Returns the virtual machine that it is about.
    pub fn machine(&self) -> Option<&std::path::Path> {
        match self {
            Step::Descriptor(step) => Some(&step.vmx),
            Step::InMachine(step) => Some(&step.vmx),
            Step::Starter(step) => step.vmx.as_deref(),
            _ => None,
        }
    }

    /// Returns how it is done and undone.
    pub fn act(&self) -> &dyn Act {
        match self {
            Step::Attach(step) => step,
            Step::Unit(step) => step,
            Step::Directories(step) => step,
            Step::Link(step) => step,
            Step::Owner(step) => step,
            Step::Rule(step) => step,
            Step::Configuration(step) => step,
            Step::Listed(step) => step,
            Step::SetUserId(step) => step,
            Step::Descriptor(step) => step,
            Step::InMachine(step) => step,
            Step::Starter(step) => step,
        }
    }
}

/// Says that something has been changed since it was added, and is left as it is.
pub fn changed(subject: impl AsRef<std::path::Path>, why: &str) -> Failure {
    let why = format!("{why}, so it is left as it is");
    Finding::warning(Code::Different, why).of(subject).hint("change it by hand if you do not need it").into()
}

/// Returns whether a failure is only that: [`changed`].
pub fn is_change(failure: &Failure) -> bool {
    failure.findings.iter().all(|finding| finding.code == Code::Different)
}

/// Undoes steps, the last first; returns those that failed, with what to say of them. `say_done` is told of each that is undone.
pub fn undo_all(
    addition: &Addition,
    steps: &[Step],
    mut say_done: impl FnMut(String) -> Result<(), Failure>,
) -> (Vec<Step>, Vec<Finding>) {
    let (mut left, mut findings) = (Vec::new(), Vec::new());
    for step in steps.iter().rev() {
        match step.act().undo(addition) {
            Ok(Some(done)) => {
                findings.extend(say_done(done).err().into_iter().flat_map(|error| error.findings))
            }
            Ok(None) => {}
            Err(failure) => {
                if !is_change(&failure) {
                    left.insert(0, step.clone());
                }
                findings.extend(failure.findings);
            }
        }
    }
    (left, findings)
}
