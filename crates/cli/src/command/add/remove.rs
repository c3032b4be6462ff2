//! `vmware-bdwrapper remove`: undoes what `add` has done.

use std::path::{Path, PathBuf};

use super::record::{RECORD, Record};
use super::step::{Addition, Step, is_change, undo_all};
use super::{confirm, watch};
use crate::file::{follow_link, system};
use crate::host::scan::Host;
use crate::say::failure::{Failure, print, quoted, say, shown};
use crate::say::finding::{Code, Finding, Verdict, has_problem};

/// The arguments of `remove`.
#[derive(clap::Args)]
pub struct Remove {
    /// The name it was added with, or the device
    #[arg(value_name = "NAME|DEVICE")]
    name: PathBuf,
    /// Remove the disk from this virtual machine only
    #[arg(long, value_name = "FILE.vmx")]
    vm: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Undoes what `add` has done for a device. What somebody has changed meanwhile is named, and left as it is.
pub fn remove(remove: &Remove) -> Result<(), Failure> {
    let _alone = system::alone(remove.dry_run)?;
    let record = Record::read()?;
    let addition = find(&remove.name, &record)?.clone();
    let (own, kept) = remove.divide(&addition)?;
    let others = record.additions.iter().any(|other| other.name != addition.name);
    let shared = if others || !kept.is_empty() { Vec::new() } else { record.shared.clone() };
    let check = || {
        own.iter().chain(&shared).try_for_each(|step| match step.act().check_undo(&addition) {
            Err(failure) if !is_change(&failure) => Err(failure),
            _ => Ok(()),
        })
    };
    check()?;
    print(format!("What 'vmware-bdwrapper add' did for {}, to be undone:\n", shown(&addition.name)))?;
    for step in shared.iter().chain(&own) {
        print(format!("- {}\n", step.act().text(&addition)))?;
    }
    if remove.dry_run {
        return Ok(());
    }
    confirm(remove.yes)?;
    // The answer can have taken long.
    check()?;
    // What has begun is brought to its end.
    let _interruption = watch()?;
    let done = |what: String| print(what + "\n");
    let (mut left, mut findings) = undo_all(&addition, &own, done);
    let (left_shared, more) = undo_all(&addition, &shared, done);
    findings.extend(more);
    left.splice(0..0, kept);
    record.after(&addition, left, shared.is_empty(), left_shared).write()?;
    match has_problem(&findings) {
        true => {
            let hint = format!(
                "when that is corrected, run 'sudo vmware-bdwrapper remove {}' again",
                quoted(&addition.name)
            );
            findings.push(Finding::problem(Code::Incomplete, "Not all of it could be undone").hint(hint));
            Err(Failure { status: Failure::FAILED, findings })
        }
        false => {
            findings.iter().filter(|finding| finding.verdict != Verdict::Ok).for_each(say);
            Ok(())
        }
    }
}

impl Remove {
    /// Divides the steps into those that are undone, and those that another virtual machine needs.
    fn divide(&self, addition: &Addition) -> Result<(Vec<Step>, Vec<Step>), Failure> {
        let all = addition.steps.clone();
        let Some(vm) = &self.vm else { return Ok((all, Vec::new())) };
        let vm = follow_link(&std::path::absolute(vm).unwrap_or_else(|_| vm.clone()));
        let is_its = |step: &Step| step.machine() == Some(&vm);
        if !all.iter().any(is_its) {
            let why = format!("did not get {} from 'vmware-bdwrapper add'", shown(&addition.name));
            let finding = Finding::problem(Code::NotFound, why).of(&vm);
            return Err(finding.hint("name the virtual machine it was added to, or omit --vm").into());
        }
        match all.iter().any(|step| step.machine().is_some() && !is_its(step)) {
            true => Ok(all.into_iter().partition(is_its)),
            false => Ok((all, Vec::new())),
        }
    }
}

impl Record {
    /// Returns the record after a removal: with these steps of the device still to be undone.
    fn after(&self, addition: &Addition, steps: Vec<Step>, keeps_shared: bool, shared: Vec<Step>) -> Record {
        let mut record = self.clone();
        record.additions.retain(|other| other.name != addition.name);
        let undone = addition.steps.iter().filter(|step| !steps.contains(step));
        undone.for_each(|step| record.hand_over(step));
        if !keeps_shared {
            record.shared = shared;
        }
        // What they share is undone with it.
        if !steps.is_empty() || (record.additions.is_empty() && !record.shared.is_empty()) {
            record.additions.push(Addition { steps, ..addition.clone() });
        }
        record
    }
}

impl Record {
    /// Lets the next disk on a controller, if there is one, remove it later.
    fn hand_over(&mut self, undone: &Step) {
        let Step::InMachine(undone) = undone else { return };
        let mut steps = self.additions.iter_mut().flat_map(|addition| &mut addition.steps);
        let next = steps.find_map(|step| match step {
            Step::InMachine(step) if step.shares_controller(undone) => Some(step),
            _ => None,
        });
        if let Some(next) = next {
            next.controller.extend(undone.controller.iter().cloned());
        }
    }
}

/// Finds what a name or a device was added as.
fn find<'a>(name: &Path, record: &'a Record) -> Result<&'a Addition, Failure> {
    let host = Host::running().unwrap_or_default();
    let file = name.canonicalize().ok();
    let number = host.by_path(name).map(|block| block.number);
    let is_it = |addition: &&Addition| {
        let is_name = ["/dev/sd", "/dev/hd"].iter().any(|place| Path::new(place).join(name) == addition.name);
        let block = addition.block_to_undo(&host).map(|block| block.number);
        is_name
            || addition.device == name
            || file.as_ref() == Some(&addition.device)
            || (number.is_some() && block == number)
    };
    // A link can have been changed to lead to another of them.
    if let Some(found) = record.by_name(name) {
        return Ok(found);
    }
    let mut all = record.additions.iter().filter(is_it);
    let found = all.next();
    if let (Some(found), Some(other)) = (found, all.next()) {
        let why = format!("is a name of {} and {}", shown(&found.name), shown(&other.name));
        return Err(Failure::usage(Finding::problem(Code::Usage, why).of(name).hint("name one of them")));
    }
    found.ok_or_else(|| {
        let names: Vec<String> =
            record.additions.iter().map(|addition| shown(&addition.name).to_string()).collect();
        let hint = match names.as_slice() {
            [] if name.starts_with("/dev/sd") || name.starts_with("/dev/hd") => {
                format!(
                    "a link that 'link' made is removed by 'vmware-bdwrapper link --remove {}'",
                    quoted(name)
                )
            }
            [] => format!("nothing was added, according to {RECORD}"),
            names => format!("these were: {}", names.join(", ")),
        };
        Failure::from(
            Finding::problem(Code::NotFound, "was not added by 'vmware-bdwrapper add'").of(name).hint(hint),
        )
    })
}
