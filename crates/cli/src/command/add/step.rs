//! What `add` does, step by step, and how each step is undone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use supervisor::User;

use super::image::{Attach, Unit};
use super::machine::{Descriptor, InMachine};
use super::names::{Directories, Link, Owner, Rule};
use super::permission::{Configuration, Listed, SetUserId};
use super::start::Starter;
use crate::file::inode;
use crate::host::block::{Block, Kind};
use crate::host::scan::Host;
use crate::say::failure::{Failure, cause};
use crate::say::finding::{Code, Finding};

/// A device that was added: what it became, and what was done for it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// Its link, `/dev/sd/NAME` or `/dev/hd/NAME`.
    pub name: PathBuf,
    /// The device by the name that stays the same, or the image file of a loop device.
    pub device: PathBuf,
    /// The file, if it is one.
    pub file: Option<FileId>,
    /// The user it was given to.
    pub user: String,
    /// Its entry.
    pub entry: String,
    /// What was done, in this order.
    pub steps: Vec<Step>,
}

impl Addition {
    /// Returns the block device: that of this name, or the loop device of this file. The name of a file is never followed: the
    /// user may have put a link to another device there.
    pub fn block<'a>(&self, host: &'a Host) -> Option<&'a Block> {
        if self.file.is_some() { host.loop_of(&self.device) } else { host.by_path(&self.device) }
    }

    /// Returns the block device whose changes are undone: also where the file has been renamed, deleted or detached.
    pub fn block_to_undo<'a>(&self, host: &'a Host) -> Option<&'a Block> {
        let is_left = |block: &&Block| match &block.file {
            Some(now) => block.is_deleted && now.as_os_str() == deleted(&self.device),
            None => self.file.is_some() && block.kind == Kind::Loop,
        };
        let linked = || host.by_path(&self.name).filter(is_left);
        self.block(host).or_else(|| self.renamed(host)).or_else(linked)
    }

    /// Returns the loop device of the file, whatever its name is now.
    pub fn renamed<'a>(&self, host: &'a Host) -> Option<&'a Block> {
        let file = self.file.as_ref()?;
        let is_it = |now: &PathBuf| FileId::of(now).as_ref() == Some(file);
        host.blocks().iter().find(|block| block.file.as_ref().is_some_and(is_it))
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

impl Addition {
    /// Undoes something with the user's rights to a file of his, or leaves it as it is if he does not exist any more.
    pub fn undo_as_user(
        &self,
        file: &Path,
        undo: impl FnOnce() -> Result<Option<String>, Failure>,
    ) -> Result<Option<String>, Failure> {
        match look_up(&self.user)? {
            Some(user) => as_user(&user, undo),
            None if file.symlink_metadata().is_err() => Ok(None),
            None => {
                let why = format!("belonged to {}, a user who does not exist any more", self.user);
                Err(changed(file, &why))
            }
        }
    }
}

fn look_up(name: &str) -> Result<Option<User>, Finding> {
    User::named(name).map_err(|error| Finding::io("cannot be looked up", &error).of(name))
}

/// Finds a user.
pub fn find_user(name: &str) -> Result<User, Failure> {
    let unknown = Finding::problem(Code::NotFound, "is not the name of a user").of(name);
    look_up(name)?.ok_or_else(|| Failure::usage(unknown.hint("name one that exists")))
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

/// What a file is, whatever its name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Looks at a file, and follows no link.
    pub fn of(path: &Path) -> Option<FileId> {
        inode(path.symlink_metadata()).map(|(device, inode)| FileId { device, inode })
    }
}

/// Returns what the kernel calls a file that is deleted.
fn deleted(file: &Path) -> OsString {
    let mut name = file.as_os_str().to_owned();
    name.push(" (deleted)");
    name
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
    pub fn machine(&self) -> Option<&Path> {
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
pub fn changed(subject: impl AsRef<Path>, why: &str) -> Failure {
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
