//! Looks at a device and the system, and says what is to be done.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use disk::entry::{Entry, Kind};
use supervisor::User;

use super::Add;
use super::image::{Attach, Unit, not_persistent};
use super::machine::{Descriptor, InMachine};
use super::names::{Directories, Link, Owner, Rule, suggest};
use super::permission::{Configuration, Listed, SetUserId, lines};
use super::record::{RECORD, Record};
use super::start::{menu_entries, unit};
use super::step::{Addition, FileId, Step, as_user};
use crate::check::device;
use crate::command::link::rules::Rules;
use crate::command::link::{check_name, find, is_made};
use crate::command::setup::configuration::Change;
use crate::entries::Device;
use crate::file::follow_link;
use crate::host::block::{Block, Identity, Kind as BlockKind};
use crate::host::scan::Host;
use crate::host::udev::{self, Access};
use crate::say::failure::{Failure, quoted, shown};
use crate::say::finding::{Code, Finding, Verdict};
use crate::vmdk::disk as machine;

/// What is to be done, and what the user should know.
pub struct Plan {
    /// The device, with the steps that are not done yet.
    pub addition: Addition,
    /// What it is to be.
    pub kind: Kind,
    /// What it is now.
    pub what: &'static str,
    /// Warnings.
    pub remarks: Vec<Finding>,
    /// The unit that starts the virtual machine without a window.
    pub unit: Option<String>,
}

/// What is to be added.
struct Source {
    /// The name that stays the same, or the image file.
    name: PathBuf,
    /// The image file.
    file: Option<FileId>,
    /// The block device: of an image file that has no loop device yet, the one that it will be.
    block: Block,
    /// The file has no loop device yet.
    is_unattached: bool,
}

impl Source {
    /// Returns what it is, for people.
    fn what(&self) -> &'static str {
        if self.is_unattached { "image file" } else { self.block.kind.name() }
    }
}

/// Plans what is missing.
pub fn plan(add: &Add, user: &User, record: &Record) -> Result<Plan, Failure> {
    let host = Host::running()?;
    let source = source(&add.device, record, &host)?;
    let remarks = judge(&source, &host)?;
    if !source.is_unattached {
        check_alone(&source.block, &host)?;
    }
    let vmx = add.vm.as_deref().map(absolute).transpose()?;
    let guest = vmx.as_deref().map(|vmx| as_user(user, || Ok(machine::guest(vmx)?))).transpose()?;
    let is_source = |addition: &&Addition| {
        let block = addition.block_to_undo(&host);
        addition.device == source.name || block.is_some_and(|block| block.number == source.block.number)
    };
    let known = record.additions.iter().find(is_source);
    let kind_known = known.filter(|_| add.name.is_none()).and_then(Addition::kind);
    let in_hd = add.name.as_ref().is_some_and(|name| name.starts_with("/dev/hd")).then_some(Kind::Ide);
    // A name that `link` or a rule of the user's has made.
    let own = Some(&add.device).filter(|device| add.name.is_none() && udev::link_name(device).is_some());
    let in_own = own.map(|name| if name.starts_with("/dev/hd") { Kind::Ide } else { Kind::Scsi });
    let kind = add.kind.or(kind_known).or(in_hd).or(in_own).or(guest.map(|guest| guest.kind()));
    let kind = kind.unwrap_or(Kind::Scsi);
    let name = match known {
        Some(known) if add.name.is_none() && known.kind() == Some(kind) => known.name.clone(),
        _ => link_path(add.name.as_ref().or(own).map(PathBuf::as_path), &source, kind)?,
    };
    let entry = match kind {
        Kind::Sata => format!("{}=sata", name.display()),
        _ => name.display().to_string(),
    };
    let user_name = user.name().to_string_lossy().into_owned();
    let (device, file) = (source.name.clone(), source.file.clone());
    let addition = Addition { name, device, file, user: user_name, entry, steps: Vec::new() };
    if let Some(known) = known.filter(|known| !known.is_same(&addition)) {
        let why = format!("is added already, as {} for {}", shown(&known.entry), known.user);
        let hint = format!("first run 'sudo vmware-bdwrapper remove {}'", quoted(&known.name));
        return Err(Finding::problem(Code::Exists, why).of(&add.device).hint(hint).into());
    }
    if let Some(other) = record.by_name(&addition.name).filter(|other| other.device != addition.device) {
        let why = format!("is already the name of {}", shown(&other.device));
        let hint = format!(
            "choose another with --name, or run 'sudo vmware-bdwrapper remove {}'",
            quoted(&other.name)
        );
        return Err(Finding::problem(Code::Exists, why).of(&addition.name).hint(hint).into());
    }
    let mut plan = Plan { addition, kind, what: source.what(), remarks, unit: None };
    plan.names(&source, user, &host)?;
    plan.permission()?;
    if let Some(vmx) = &vmx {
        plan.machine(vmx, user, &source)?;
    }
    let is_started = |vmx: &&PathBuf| record.starters().any(|starter| starter.vmx.as_ref() == Some(vmx));
    plan.starters(vmx.as_ref().filter(|vmx| add.headless || is_started(vmx)), user, record)?;
    Ok(plan)
}

impl Addition {
    /// Returns whether the device is to be the same disk of the same user.
    fn is_same(&self, other: &Addition) -> bool {
        (&self.name, &self.user, &self.entry) == (&other.name, &other.user, &other.entry)
    }

    /// Returns the kind of disk.
    pub fn kind(&self) -> Option<Kind> {
        Entry::parse(self.entry.as_bytes()).ok().map(|entry| entry.kind)
    }
}

impl Plan {
    fn step(&mut self, step: Step) {
        self.addition.steps.push(step);
    }

    /// The loop device, the link, the owner and the rule.
    fn names(&mut self, source: &Source, user: &User, host: &Host) -> Result<(), Failure> {
        let (name, link) = (self.addition.name.clone(), self.addition.link().to_owned());
        if let Some(file) = source.block.file.as_deref().or_else(|| host.file_under(&source.block)) {
            let scans = source.block.kind == BlockKind::Partition;
            match Unit::of(file, &link, source.is_unattached, scans) {
                Some(unit) if !unit.is_made()? || source.is_unattached => self.step(Step::Unit(unit)),
                Some(_) => {}
                None => {
                    self.remarks.push(not_persistent(file, scans));
                    if source.is_unattached {
                        self.step(Step::Attach(Attach {}));
                    }
                }
            }
        }
        let is_linked = is_made(&name, &link, &source.block, host, false, false)?;
        if !is_linked {
            if let Some(directories) = Directories::missing(&name) {
                self.step(Step::Directories(directories));
            }
            self.step(Step::Link(Link {}));
        }
        // A loop device that does not exist yet will be root's.
        let status = source.block.path().metadata().ok().filter(|_| !source.is_unattached);
        let before = status.map_or(0, |status| status.uid());
        if before != user.number() {
            self.step(Step::Owner(Owner { user: user.number(), before }));
        }
        let access = Access { owner: Some(self.addition.user.clone()), group: None, mode: None };
        let rules = Rules::read()?;
        let before = rules.line(&link).map(str::to_owned);
        match udev::rule(&source.block, &link, &access) {
            Ok(line) if before.as_ref() == Some(&line) => {}
            Ok(_) if before.is_some() && !is_linked => {
                let hint = format!(
                    "choose another name with --name, or run 'sudo vmware-bdwrapper link --remove {}'",
                    quoted(&name)
                );
                let finding = Finding::problem(
                    Code::Exists,
                    "is made by a rule of 'vmware-bdwrapper link', for another device",
                );
                return Err(finding.of(&name).hint(hint).into());
            }
            Ok(line) => self.step(Step::Rule(Rule { line, before })),
            Err(finding) => {
                let cause = format!("{}, so its link and owner last until then", finding.cause);
                let hint = "after each boot, add it again";
                self.remarks.push(Finding::warning(finding.code, cause).of(&source.name).hint(hint));
            }
        }
        Ok(())
    }

    /// The configuration file, and the set-user-ID bit.
    fn permission(&mut self) -> Result<(), Failure> {
        let lines = lines(&self.addition.entry)?;
        let change = Change::plan(lines.into_iter().map(OsString::from).collect())?;
        self.remarks.extend(change.remarks);
        if change.old.is_none() {
            self.step(Step::Configuration(Configuration {}));
        }
        let mut ends_last = change.old.is_some_and(|old| old.last().is_some_and(|&byte| byte != b'\n'));
        for line in change.added {
            let line = line.to_string_lossy().into_owned();
            self.step(Step::Listed(Listed { line, ends_last: std::mem::take(&mut ends_last) }));
        }
        if let Some(bit) = SetUserId::needed(&change.new)? {
            self.step(Step::SetUserId(bit));
        }
        Ok(())
    }

    /// The descriptor, and the slot.
    fn machine(&mut self, vmx: &Path, user: &User, source: &Source) -> Result<(), Failure> {
        let file = machine::beside(vmx, self.addition.link());
        let device = if source.is_unattached { source.name.clone() } else { source.block.path() };
        let link = &self.addition.name;
        let found = as_user(user, || Ok(machine::plan(vmx, &file, &device, link, self.kind)?))?;
        let vmx = vmx.to_path_buf();
        if found.describes {
            self.step(Step::Descriptor(Descriptor { vmx: vmx.clone(), file: file.clone() }));
        }
        if let Some(slot) = found.slot {
            let (slot, controller, ends_last) = (slot.to_string(), found.controller, found.ends_last);
            self.step(Step::InMachine(InMachine { vmx, file, slot, controller, ends_last }));
        }
        Ok(())
    }

    /// The entries of the menu, and the unit that starts this virtual machine.
    fn starters(&mut self, vmx: Option<&PathBuf>, user: &User, record: &Record) -> Result<(), Failure> {
        let home = user.home().map_err(|error| {
            Finding::io("cannot be looked up", &error).of(&self.addition.user).hint("correct that first")
        })?;
        let unit = vmx.map(|vmx| unit(&home, vmx)).transpose()?;
        self.unit = unit.as_ref().map(|unit| unit.name().to_owned());
        let mut starters = menu_entries(&home);
        if !starters.is_empty() && !home.is_dir() {
            let why = "is not a directory, so no menu has an entry that starts VMware with the device";
            self.remarks
                .push(Finding::warning(Code::NotFound, why).of(&home).hint("make the user's home directory"));
            starters.clear();
        }
        for starter in starters.into_iter().chain(unit) {
            let missing = as_user(user, || Ok(starter.missing(&self.addition.entry, record)?))?;
            self.addition.steps.extend(missing.map(Step::Starter));
        }
        Ok(())
    }
}

/// Returns the name of a partition that stays the same.
fn by_part_uuid(block: &Block, host: &Host) -> Option<PathBuf> {
    let path = Path::new("/dev/disk/by-partuuid").join(part_uuid(block)?);
    host.by_path(&path).is_some_and(|found| found.number == block.number).then_some(path)
}

fn part_uuid(block: &Block) -> Option<&String> {
    block.properties.get("ID_PART_ENTRY_UUID").filter(|_| block.kind == BlockKind::Partition)
}

/// Fails if udev cannot tell a device from another one.
fn check_alone(block: &Block, host: &Host) -> Result<(), Finding> {
    let others = || host.blocks().iter().filter(|other| other.number != block.number);
    let path = block.path();
    // The device mapper's have an identity of their own.
    let own = part_uuid(block).filter(|_| block.dm_uuid.is_none());
    if let Some(other) = own.and_then(|uuid| others().find(|other| part_uuid(other) == Some(uuid))) {
        let why = format!("has the same UUID as the partition {}", shown(&other.path()));
        let hint = "give one of them another, by 'sfdisk --part-uuid' for example";
        return Err(Finding::problem(Code::Duplicate, why).of(path).hint(hint));
    }
    let Some(file) = &block.file else { return Ok(()) };
    if block.is_part_of_file {
        let why = format!("shows only a part of {}, and udev knows it by that file", shown(file));
        return Err(Finding::problem(Code::Unsupported, why)
            .of(path)
            .hint("attach the file without an offset and a limit: 'losetup --find --show FILE'"));
    }
    match others().find(|other| other.file.as_ref() == Some(file) && !other.is_part_of_file) {
        None => Ok(()),
        Some(other) => {
            let other = other.path();
            let why = format!("is a loop device of {}, too", shown(file));
            let hint = format!("run as root: 'losetup --detach {}'", quoted(&other));
            Err(Finding::problem(Code::Duplicate, why).of(other).hint(hint))
        }
    }
}

fn file_id(file: &Path) -> Result<FileId, Finding> {
    FileId::of(file).ok_or_else(|| {
        Finding::problem(Code::NotFound, "does not exist any more").of(file).hint("name a file that exists")
    })
}

/// Says why a device cannot be examined.
fn absent(device: &Path, error: &io::Error) -> Finding {
    let finding = Finding::io("cannot be examined", error).of(device);
    // As `run` takes it.
    let entry = Entry::parse(device.as_os_str().as_bytes()).ok();
    let named = entry.map(|entry| (Path::new(OsStr::from_bytes(entry.path)), entry.kind));
    finding.hint(match named.filter(|(path, _)| *path != device && path.exists()) {
        Some((path, kind)) => format!("write '{} --kind {}'", quoted(path), kind.name()),
        None => "name a block device or image file that exists".into(),
    })
}

/// Finds out what a device is.
fn source(device: &Path, record: &Record, host: &Host) -> Result<Source, Failure> {
    let status = device.metadata().map_err(|error| Failure::usage(absent(device, &error)))?;
    if !status.is_file() {
        let block = find(host, device)?.clone();
        let (name, file) = match block.identity() {
            Some(Identity::File(file)) => (file.clone(), Some(file_id(file)?)),
            _ => (by_part_uuid(&block, host).unwrap_or_else(|| block.best_name()), None),
        };
        return Ok(Source { name, file, block, is_unattached: false });
    }
    let name = device.canonicalize().map_err(|error| {
        Finding::io("cannot be examined", &error).of(device).hint("name a file that exists")
    })?;
    let file = Some(file_id(&name)?);
    // Its loop device is what was added before.
    let is_known = record.additions.iter().any(|addition| addition.device == name);
    if let Some(block) = host.loop_of(&name).filter(|_| is_known) {
        return Ok(Source { name, file, block: block.clone(), is_unattached: false });
    }
    let block = Block::of_file(&name, status.len());
    Ok(Source { name, file, block, is_unattached: true })
}

/// Returns the warnings about giving a device to a virtual machine; fails on a problem.
fn judge(source: &Source, host: &Host) -> Result<Vec<Finding>, Failure> {
    // Not the name that was given: it may lead elsewhere by now.
    let device = if source.is_unattached { source.name.clone() } else { source.block.best_name() };
    let entry = Entry::new(device.as_os_str().as_bytes(), Kind::Scsi);
    let listed = Device { text: device.as_os_str(), entry };
    let fitness = device::of_device(&listed, host);
    let found = if fitness.uses.is_empty() { fitness.others } else { fitness.uses };
    // Other programs take them.
    let sectors = device::large_sectors(&device, Some(&source.block), &entry);
    let found = found.into_iter().map(|finding| match Some(&finding) == sectors.as_ref() {
        true => Finding { verdict: Verdict::Problem, ..finding },
        false => finding,
    });
    let (problems, others): (Vec<_>, Vec<_>) = found.partition(|finding| finding.verdict == Verdict::Problem);
    if !problems.is_empty() {
        return Err(Failure { status: Failure::FAILED, findings: problems });
    }
    if source.name.to_str().is_none() {
        let finding = Finding::problem(
            Code::Unsupported,
            format!("has a name that {RECORD} cannot hold (it is not UTF-8)"),
        );
        return Err(finding.of(&source.name).hint("rename it").into());
    }
    Ok(others.into_iter().filter(|finding| finding.verdict == Verdict::Warning).collect())
}

/// Returns the link for a device.
fn link_path(wanted: Option<&Path>, source: &Source, kind: Kind) -> Result<PathBuf, Failure> {
    let place = Path::new(if kind == Kind::Ide { "/dev/hd" } else { "/dev/sd" });
    let path = match wanted {
        // An absolute name stays as it is.
        Some(name) => place.join(name),
        None => {
            let name =
                if source.block.file.is_some() { source.name.file_stem() } else { source.name.file_name() };
            place.join(suggest(name.unwrap_or_default()))
        }
    };
    check_name(&path)?;
    if !path.starts_with(place) {
        let why = format!("is not a name for a disk of kind {}", kind.name());
        let hint = format!("give a name below {}, or the kind that suits it with --kind", place.display());
        return Err(Finding::problem(Code::Usage, why).of(&path).hint(hint).into());
    }
    Ok(path)
}

/// Returns an absolute name of a virtual machine's file.
fn absolute(vmx: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(vmx).unwrap_or_else(|_| vmx.into());
    match path.to_str() {
        Some(_) => Ok(follow_link(&path)),
        None => {
            let finding = Finding::problem(
                Code::Unsupported,
                format!("has a name that {RECORD} cannot hold (it is not UTF-8)"),
            );
            Err(finding.of(vmx).hint("rename it").into())
        }
    }
}
