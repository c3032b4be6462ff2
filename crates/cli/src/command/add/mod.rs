//! `vmware-bdwrapper add` and `remove`: all that gives a device to a user as a disk of VMware's, and takes it back.

mod check;
mod image;
mod machine;
mod names;
mod permission;
mod plan;
mod record;
mod remove;
mod start;
mod step;

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use disk::entry::Kind;

use crate::command::setup;
use crate::file::system;
use crate::program::find::find;
use crate::program::signals::Interruption;
use crate::say::failure::{Failure, print, quoted, say, shown, write};
use crate::say::finding::{Code, Finding};
use plan::Plan;
use record::Record;
use step::{Addition, Step, find_user, undo_all};

pub use record::RECORD;
pub use remove::{Remove, remove};

/// The arguments of `add`.
#[derive(clap::Args)]
pub struct Add {
    /// The block device, or an image file
    device: PathBuf,
    /// Make this user the owner of the device
    #[arg(long = "to", value_name = "USER")]
    user: String,
    /// Make it a disk of this kind: scsi, ide or sata (default: what suits the guest of --vm, else scsi)
    #[arg(long, value_name = "KIND", value_parser = kind(), hide_possible_values = true)]
    kind: Option<Kind>,
    /// Make this link below /dev/sd or /dev/hd (default: the device's name)
    #[arg(long, value_name = "NAME")]
    name: Option<PathBuf>,
    /// Add the disk to this virtual machine
    #[arg(long, value_name = "FILE.vmx")]
    vm: Option<PathBuf>,
    /// Write a systemd user unit that starts the virtual machine without a window
    #[arg(long, requires = "vm")]
    headless: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

/// The parser of a kind.
fn kind() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(["scsi", "ide", "sata"]).map(|name| match name.as_str() {
        "ide" => Kind::Ide,
        "sata" => Kind::Sata,
        _ => Kind::Scsi,
    })
}

/// Adds a device: shows what is to be done, asks, does it, and checks it. What fails half-way is undone.
pub fn add(add: &Add) -> Result<(), Failure> {
    let user = find_user(&add.user)?;
    let _alone = system::alone(add.dry_run).map_err(|failure| add.without_root(failure))?;
    let record = Record::read()?;
    let plan = plan::plan(add, &user, &record)?;
    plan.remarks.iter().for_each(say);
    let addition = &plan.addition;
    if addition.steps.is_empty() {
        print(format!("{} is added already, and nothing is missing.\n", shown(&addition.name)))?;
        return print(next(&plan, add.vm.as_deref()));
    }
    print(plan.text())?;
    if add.dry_run {
        return Ok(());
    }
    confirm(add.yes)?;
    // The answer can have taken long.
    if plan::plan(add, &user, &record)?.addition != *addition {
        let finding = Finding::problem(Code::InUse, "has changed since the question, so nothing was done");
        return Err(finding.of(&addition.device).hint("try again").into());
    }
    let interruption = watch()?;
    record.with(addition).write()?;
    carry_out(addition, &interruption).map_err(|(count, failure)| {
        let done = Addition { steps: addition.steps[..count].to_vec(), ..addition.clone() };
        roll_back(&done, &record, failure)
    })?;
    print(format!("VMware would accept {}, used by {}.\n", shown(&addition.name), addition.user))?;
    print(next(&plan, add.vm.as_deref()))
}

/// Does the steps, and checks what has come of them. Of a failure, says how many are to be undone.
fn carry_out(addition: &Addition, interruption: &Interruption) -> Result<(), (usize, Failure)> {
    let check = || match interruption.has_come() {
        true => Err(Failure::from(Finding::problem(Code::Io, "Interrupted by a signal"))),
        false => Ok(()),
    };
    for (at, step) in addition.steps.iter().enumerate() {
        check().map_err(|failure| (at, failure))?;
        // What may be done in part is undone with the others.
        step.act().carry_out(addition).map_err(|failure| (at + 1, failure))?;
    }
    check::as_user(addition).and_then(|()| check()).map_err(|failure| (addition.steps.len(), failure))
}

/// From here on, a signal does not end this process between two steps.
fn watch() -> Result<Interruption, Failure> {
    Interruption::watch().map_err(|error| {
        Finding::io("Signals cannot be watched, so nothing was done", &error)
            .hint("correct that first")
            .into()
    })
}

/// Undoes what was done, and says so with why.
fn roll_back(addition: &Addition, record: &Record, mut failure: Failure) -> Failure {
    let (left, findings) = undo_all(addition, &addition.steps, |_| Ok(()));
    failure.findings.extend(findings);
    let left = Addition { steps: left, ..addition.clone() };
    let is_clean = left.steps.is_empty();
    let kept = if is_clean { record.clone() } else { record.with(&left) };
    failure.findings.extend(kept.write().err().into_iter().flat_map(|failure| failure.findings));
    let code = failure.findings.first().map_or(Code::Io, |finding| finding.code);
    failure.findings.push(match is_clean {
        true => Finding::problem(code, "Nothing was added: the earlier steps were undone"),
        false => {
            let hint =
                format!("when that is corrected, run 'sudo vmware-bdwrapper remove {}'", quoted(&left.name));
            Finding::problem(code, "Not all of the earlier steps could be undone").hint(hint)
        }
    });
    failure
}

impl Add {
    /// Says what an ordinary user can do with an image file.
    fn without_root(&self, mut failure: Failure) -> Failure {
        if self.device.is_file() {
            for finding in failure.findings.iter_mut().filter(|finding| finding.code == Code::RootOnly) {
                let kind = self.kind.unwrap_or(Kind::Scsi).name();
                let entry = format!("{}={kind}", self.device.display());
                let hint = finding.hint.take().unwrap_or_default();
                let run = format!("'vmware-bdwrapper run --device {} -- PROGRAM'", quoted(&entry));
                finding.hint = Some(format!(
                    "{hint}. An image file needs none of this for programs without the set-user-ID bit: {run}"
                ));
            }
        }
        failure
    }
}

impl Plan {
    /// The plan, for people.
    fn text(&self) -> String {
        let Addition { name, device, user, steps, .. } = &self.addition;
        let kind = match self.kind {
            Kind::Scsi => "the SCSI disk",
            Kind::Ide => "the IDE disk",
            Kind::Sata => "the SATA disk",
        };
        let mut text =
            format!("{} ({}) becomes {kind} {}, used by {user}:\n", shown(device), self.what, shown(name));
        for step in steps {
            text += &format!("- {}\n", step.act().text(&self.addition));
        }
        if steps.iter().any(|step| matches!(step, Step::SetUserId(_))) {
            text += &setup::risk();
        }
        text
    }
}

/// Asks whether that is to be done; fails if it is not.
fn confirm(yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let nothing = Finding::problem(Code::Unconfirmed, "Nothing was done, because it was not confirmed");
    if !io::stdin().is_terminal() {
        return Err(nothing.hint("to do it without a question, add --yes").into());
    }
    // Where the standard output is a file, the question is not for it.
    write("Do this? [y/N] ");
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(nothing.into()),
    }
}

/// Says how the virtual machine is started.
fn next(plan: &Plan, vm: Option<&Path>) -> String {
    let addition = &plan.addition;
    let program =
        ["vmware", "vmplayer"].into_iter().find(|name| find(name.as_ref()).is_ok()).unwrap_or("vmware");
    let run = format!("vmware-bdwrapper run --device {} -- {program}", quoted(&addition.entry));
    let user = &addition.user;
    let unit = plan.unit.as_ref().map(|unit| {
        format!(
            "Without a window, as {user}: systemctl --user enable --now {unit}\n\
             To start it with the system, not with the first login: sudo loginctl enable-linger {user}\n"
        )
    });
    let unit = unit.unwrap_or_default();
    match vm {
        Some(vm) => {
            let vm = std::path::absolute(vm).unwrap_or_else(|_| vm.into());
            format!("Next, as {user}: {run} {}\n{unit}", quoted(&vm))
        }
        None => format!(
            "Next, as {user}: {run}\nThere, add a hard disk to the virtual machine, choose \"Use a physical disk\", and {}.\n",
            shown(&addition.name)
        ),
    }
}
