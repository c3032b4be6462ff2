//! `vmware-bdwrapper vmdk attach` and `vmdk detach`.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bdwrapper_vmdk::adapter::{Adapter, Bus, Slot};
use bdwrapper_vmdk::descriptor::{Data, Descriptor, Extent};
use bdwrapper_vmdk::vmx::{Vmx, escape};

use super::problem::of_vmx;
use super::{lock, options, snapshot};
use crate::check::device;
use crate::file::{self, Place};
use crate::say::failure::{Failure, print, quoted, say, shown};
use crate::say::finding::{Code, Finding};

/// The arguments of `attach`.
#[derive(clap::Args)]
pub struct Attach {
    /// The descriptor
    file: PathBuf,
    /// The virtual machine's .vmx file
    vmx: PathBuf,
    /// Attach the disk at this slot (default: the first free one of its adapter)
    #[arg(long, value_name = "SLOT")]
    slot: Option<Slot>,
}

/// The arguments of `detach`.
#[derive(clap::Args)]
pub struct Detach {
    /// The descriptor
    file: PathBuf,
    /// The virtual machine's .vmx file
    vmx: PathBuf,
}

/// A disk that was added to a virtual machine.
pub struct Attached {
    /// Its slot.
    pub slot: Slot,
    /// What a user of an ordinary virtual disk has to know.
    findings: Vec<Finding>,
    /// The old file.
    backup: Option<PathBuf>,
}

impl Attach {
    /// Adds the disk to the virtual machine, and says so.
    pub fn run(self) -> Result<(), Failure> {
        let attached = attach(&self.file, &self.vmx, self.slot, true)?;
        attached.findings.iter().for_each(say);
        let (vmx, file, slot) = (shown(&self.vmx), shown(&self.file), attached.slot);
        let backup = old_file(attached.backup.as_deref().unwrap_or(&self.vmx));
        print(format!("{vmx} has {file} as {slot} now.\n{backup}"))
    }
}

/// Adds a disk to a virtual machine. With `keep` the old file stays under another name.
pub fn attach(file: &Path, vmx: &Path, wanted: Option<Slot>, keep: bool) -> Result<Attached, Finding> {
    let mut place = Place::of(file)?;
    let descriptor = super::read_descriptor(&mut place)?;
    let mut machine = Machine::open(vmx)?;
    lock::check_free(file)?;
    if let Some(slot) = machine.slots_of(file).next() {
        let why = format!("has {} already, as {slot}", shown(file));
        let hint = format!("to move it, {}", detach(file, vmx));
        return Err(Finding::problem(Code::Exists, why).of(vmx).hint(hint));
    }
    snapshot::refuse(&descriptor, &place)?;
    machine.check_other_disks(&places(&descriptor, &place))?;
    let adapter = options::adapter(&descriptor);
    let slot = machine.find_slot(adapter, wanted)?;
    // The other controllers all have descriptors for SCSI.
    if (slot.bus == Bus::Ide) != (adapter.bus() == Bus::Ide) {
        let why = format!("is a disk for {}, which has no slot {slot}", adapter.name());
        let hint = format!("name a slot such as {}0:0", adapter.bus().name());
        return Err(Finding::problem(Code::Unsupported, why).of(file).hint(hint));
    }
    machine.vmx.check_hardware(slot.bus).map_err(|error| of_vmx(error, vmx))?;
    let mut lines = machine.vmx.controller_lines(slot, adapter);
    // What the descriptor names stands beside it, and not beside a link to it.
    let name = machine.name_of(&file::follow_link(file))?;
    lines.push(format!("{slot}.present = \"TRUE\""));
    lines.push(format!("{slot}.fileName = \"{name}\""));
    if descriptor.is_on_device() {
        lines.push(format!("{slot}.deviceType = \"rawDisk\""));
    }
    machine.vmx.0.append(lines);
    let backup = machine.write(keep)?;
    // Of a disk on a device `run` says that.
    let path = match descriptor.is_on_device() {
        true => None,
        false => options::path(&descriptor, place.path()).ok(),
    };
    let findings = path.and_then(|path| device::first_use(&path)).into_iter().collect();
    Ok(Attached { slot, findings, backup })
}

/// Says where the old file is.
fn old_file(backup: &Path) -> String {
    format!("The old file is {}.\n", shown(backup))
}

impl Detach {
    /// Removes the disk from the virtual machine.
    pub fn run(self) -> Result<(), Failure> {
        let mut machine = Machine::open(&self.vmx)?;
        let Some(first) = machine.remove(&self.file)? else {
            let why = format!("does not have {}", shown(&self.file));
            return Err(Finding::problem(Code::NotFound, why)
                .of(&self.vmx)
                .hint("name a disk of this virtual machine")
                .into());
        };
        let backup = machine.write(true)?;
        let (vmx, file) = (shown(&self.vmx), shown(&self.file));
        let backup = old_file(backup.as_deref().unwrap_or(&self.vmx));
        print(format!("{vmx} no longer has {file}, which was {first}.\n{backup}"))
    }
}

/// A virtual machine's file.
pub struct Machine {
    /// Locked: nobody else writes what was read here.
    place: Place,
    /// Its text.
    pub vmx: Vmx,
}

impl Machine {
    /// Reads a file of a virtual machine that is shut down.
    pub fn open(path: &Path) -> Result<Machine, Finding> {
        let mut place = Place::lock(path)?;
        let vmx = Vmx::parse(&place.read()?).map_err(|error| of_vmx(error, path))?;
        lock::check_free(path)?;
        Ok(Machine { place, vmx })
    }

    /// Writes the file. With `keep` the old one stays under another name, which is returned.
    pub fn write(&self, keep: bool) -> Result<Option<PathBuf>, Finding> {
        self.write_bytes(&self.vmx.0.bytes(), keep)
    }

    /// Writes other bytes.
    pub fn write_bytes(&self, bytes: &[u8], keep: bool) -> Result<Option<PathBuf>, Finding> {
        self.place.replace(bytes, keep)
    }

    /// Returns the slot for a disk of an adapter: the wanted one, or the next that is free.
    pub fn find_slot(&self, adapter: Adapter, wanted: Option<Slot>) -> Result<Slot, Finding> {
        let slot = match wanted {
            Some(slot) => self.vmx.check_slot(slot).map(|()| slot),
            None => self.vmx.find_free_slot(adapter),
        };
        slot.map_err(|error| of_vmx(error, self.place.path()))
    }

    /// Removes the lines of a disk that no program uses; returns its slot, or the first of several.
    pub fn remove(&mut self, file: &Path) -> Result<Option<Slot>, Finding> {
        lock::check_free(file)?;
        let slots: Vec<Slot> = self.slots_of(file).collect();
        let Some(first) = slots.first() else { return Ok(None) };
        let of_slots = self
            .vmx
            .0
            .pairs()
            .filter(|pair| Slot::of_key(pair.key).is_some_and(|slot| slots.contains(&slot)));
        let lines: Vec<usize> = of_slots.map(|pair| pair.line).collect();
        if let Some(other) =
            self.vmx.disks().find(|(slot, name)| slots.contains(slot) && !self.is(name, file))
        {
            let (slot, name) = (other.0, shown(OsStr::from_bytes(&other.1)).to_string());
            let why = format!("gives {slot} two disks, {} and {name}", shown(file));
            return Err(Finding::problem(Code::Malformed, why)
                .of(self.place.path())
                .hint("remove the wrong line in a text editor"));
        }
        self.vmx.0.remove(&lines);
        Ok(Some(*first))
    }

    /// Whether a name in this file is a disk's.
    fn is(&self, name: &[u8], disk: &Path) -> bool {
        let path = super::path_of_name(self.place.path(), name);
        absolute(&file::follow_link(&path)) == absolute(&file::follow_link(disk))
    }

    /// Where a disk is attached.
    pub fn slots_of(&self, disk: &Path) -> impl Iterator<Item = Slot> {
        self.vmx.disks().filter(|(_, name)| self.is(name, disk)).map(|(slot, _)| slot)
    }

    /// Checks that no other disk has a part of the same devices.
    pub fn check_other_disks(&self, own: &[(PathBuf, Range<u64>)]) -> Result<(), Finding> {
        for (slot, name) in self.vmx.disks() {
            let path = super::path_of_name(self.place.path(), &name);
            let Ok(mut other) = Place::of(&path) else { continue };
            let Ok(descriptor) = super::read_descriptor(&mut other) else { continue };
            let shared = places(&descriptor, &other).into_iter().find(|(device, theirs)| {
                own.iter().any(|(path, own)| {
                    options::is_same(path, device) && own.start < theirs.end && theirs.start < own.end
                })
            });
            if let Some((device, _)) = shared {
                let why = format!(
                    "has {} already, with {} as {slot}, and two disks on one device destroy its data",
                    shown(&device),
                    shown(&path)
                );
                let hint = detach(&path, self.place.path());
                return Err(Finding::problem(Code::Duplicate, why).of(self.place.path()).hint(hint));
            }
        }
        Ok(())
    }

    /// The name of a disk in this file.
    fn name_of(&self, disk: &Path) -> Result<String, Finding> {
        let name =
            super::name_beside(disk, self.place.path()).map(PathBuf::from).unwrap_or_else(|| absolute(disk));
        let is_utf8 =
            self.vmx.0.value(".encoding").is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"UTF-8"));
        match name.to_str() {
            Some(text) if is_utf8 || text.is_ascii() => Ok(escape(text)),
            _ => {
                let why = format!("has a name that {} cannot hold in its encoding", shown(self.place.path()));
                let hint = "rename it, with ASCII characters only";
                Err(Finding::problem(Code::Unsupported, why).of(disk).hint(hint))
            }
        }
    }
}

/// Asks to detach a disk.
fn detach(file: &Path, vmx: &Path) -> String {
    format!("detach it first: 'vmware-bdwrapper vmdk detach {} {}'", quoted(file), quoted(vmx))
}

/// The parts of devices and files, in sectors, that a disk consists of.
fn places(descriptor: &Descriptor, place: &Place) -> Vec<(PathBuf, Range<u64>)> {
    let of_extent = |extent: Extent<'_>| match extent.data {
        Data::Flat { name, offset } => {
            let path = super::path_of_name(place.path(), name);
            Some((path, offset..offset.saturating_add(extent.sectors)))
        }
        _ => None,
    };
    descriptor.extents().filter_map(of_extent).collect()
}

/// The name of a file that may be gone, without symbolic links on the way to its directory.
fn absolute(path: &Path) -> PathBuf {
    let directory = file::directory(path);
    let directory =
        directory.canonicalize().or_else(|_| std::path::absolute(directory)).unwrap_or(directory.into());
    path.file_name().map_or(directory.clone(), |name| directory.join(name))
}
