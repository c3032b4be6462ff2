//! `vmware-bdwrapper vmdk attach` and `vmdk detach`.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bdwrapper_vmdk::adapter::{Bus, Slot};
use bdwrapper_vmdk::descriptor::{Data, Descriptor, Extent};
use bdwrapper_vmdk::vmx::{self, Vmx, escape};

use super::problem::vmx_hint;
use super::{options, snapshot};
use crate::file::replace::{self, Place};
use crate::say::failure::{Failure, print, quoted, shown};

/// What is asked for by `attach`.
#[derive(clap::Args)]
pub struct Attach {
    /// The descriptor
    file: PathBuf,
    /// The virtual machine's .vmx file
    vmx: PathBuf,
    /// The place of the disk; without it the next free one of the adapter
    #[arg(long, value_name = "SLOT")]
    slot: Option<Slot>,
}

/// What is asked for by `detach`.
#[derive(clap::Args)]
pub struct Detach {
    /// The descriptor
    file: PathBuf,
    /// The virtual machine's .vmx file
    vmx: PathBuf,
}

impl Attach {
    /// Adds the disk to the virtual machine.
    pub fn run(self) -> Result<(), Failure> {
        self.attach().map_err(|sentence| Failure::new(Failure::FAILED, sentence))?
    }

    fn attach(self) -> Result<Result<(), Failure>, String> {
        let mut place = Place::of(&self.file)?;
        let descriptor = super::descriptor(&mut place)?;
        let mut machine = Machine::open(&self.vmx)?;
        replace::is_free(&self.file)?;
        if let Some(slot) = machine.slots_of(&self.file).next() {
            return Err(format!(
                "{}: has {} already, as {slot}; to move it, take it away first by 'vmware-bdwrapper vmdk detach {} {}'.",
                shown(&self.vmx),
                shown(&self.file),
                quoted(&self.file),
                quoted(&self.vmx)
            ));
        }
        snapshot::refuse(&descriptor, &place)?;
        machine
            .shares_no_device(&descriptor, &place)
            .map_err(|why| format!("{}: {why}", shown(&self.vmx)))?;
        let adapter = options::adapter(&descriptor);
        let slot = match self.slot {
            Some(slot) => machine.vmx.check_slot(slot).map(|()| slot),
            None => machine.vmx.find_free_slot(adapter),
        };
        let slot = slot.map_err(|error| vmx_problem(&self.vmx, error))?;
        // The other controllers all have descriptors for SCSI.
        if (slot.bus == Bus::Ide) != (adapter.bus() == Bus::Ide) {
            return Err(format!(
                "{}: is a disk for {}, and {slot} is none of its slots; name one such as {}0:0.",
                shown(&self.file),
                adapter.name(),
                adapter.bus().name(),
            ));
        }
        machine.vmx.check_hardware(slot.bus).map_err(|error| vmx_problem(&self.vmx, error))?;
        let mut lines = machine.vmx.controller_lines(slot, adapter);
        // What the descriptor names stands beside it, and not beside a link to it.
        let name = machine.name_of(&replace::followed(&self.file))?;
        lines.push(format!("{slot}.present = \"TRUE\""));
        lines.push(format!("{slot}.fileName = \"{name}\""));
        if descriptor.is_on_device() {
            lines.push(format!("{slot}.deviceType = \"rawDisk\""));
        }
        machine.vmx.0.append(lines);
        let backup = machine.write()?;
        Ok(print(format!("{} has {} as {slot} now.\n{backup}", shown(&self.vmx), shown(&self.file))))
    }
}

impl Detach {
    /// Takes the disk away from the virtual machine.
    pub fn run(self) -> Result<(), Failure> {
        self.detach().map_err(|sentence| Failure::new(Failure::FAILED, sentence))?
    }

    fn detach(self) -> Result<Result<(), Failure>, String> {
        let mut machine = Machine::open(&self.vmx)?;
        replace::is_free(&self.file)?;
        let slots: Vec<Slot> = machine.slots_of(&self.file).collect();
        let Some(first) = slots.first() else {
            return Err(format!(
                "{}: does not have {}; name a disk of it.",
                shown(&self.vmx),
                shown(&self.file)
            ));
        };
        let of_slots = machine
            .vmx
            .0
            .pairs()
            .filter(|pair| Slot::of_key(pair.key).is_some_and(|slot| slots.contains(&slot)));
        let lines: Vec<usize> = of_slots.map(|pair| pair.line).collect();
        if let Some(other) =
            machine.vmx.disks().find(|(slot, name)| slots.contains(slot) && !machine.is(name, &self.file))
        {
            return Err(format!(
                "{}: gives {} two disks, {} and {}; take the wrong line away in a text editor.",
                shown(&self.vmx),
                other.0,
                shown(&self.file),
                shown(OsStr::from_bytes(&other.1))
            ));
        }
        machine.vmx.0.remove(&lines);
        let backup = machine.write()?;
        Ok(print(format!(
            "{} no longer has {}, which was {first}.\n{backup}",
            shown(&self.vmx),
            shown(&self.file)
        )))
    }
}

/// A virtual machine's file.
struct Machine {
    /// Locked: nobody else writes what was read here.
    place: Place,
    vmx: Vmx,
}

impl Machine {
    /// Reads a file of a virtual machine that is shut down.
    fn open(path: &Path) -> Result<Machine, String> {
        let mut place = Place::locked(path)?;
        let vmx = Vmx::parse(&place.read()?).map_err(|error| vmx_problem(path, error))?;
        replace::is_free(path)?;
        Ok(Machine { place, vmx })
    }

    /// Writes the file; a sentence says where the old one is.
    fn write(&self) -> Result<String, String> {
        let backup = self.place.replace(&self.vmx.0.bytes(), true)?;
        Ok(format!("The old file is {}.\n", shown(backup.as_deref().unwrap_or(self.place.path()))))
    }

    /// Whether a name in this file is a disk's.
    fn is(&self, name: &[u8], disk: &Path) -> bool {
        let path = super::named(self.place.path(), name);
        absolute(&replace::followed(&path)) == absolute(&replace::followed(disk))
    }

    /// Where a disk is attached.
    fn slots_of(&self, disk: &Path) -> impl Iterator<Item = Slot> {
        self.vmx.disks().filter(|(_, name)| self.is(name, disk)).map(|(slot, _)| slot)
    }

    /// Why a disk cannot be added: another one has a part of the same device.
    fn shares_no_device(&self, descriptor: &Descriptor, place: &Place) -> Result<(), String> {
        let own = places(descriptor, place);
        for (slot, name) in self.vmx.disks() {
            let path = super::named(self.place.path(), &name);
            let Ok(mut other) = Place::of(&path) else { continue };
            let Ok(descriptor) = super::descriptor(&mut other) else { continue };
            let shared = places(&descriptor, &other).into_iter().find(|(device, theirs)| {
                own.iter().any(|(path, own)| {
                    options::is_same(path, device) && own.start < theirs.end && theirs.start < own.end
                })
            });
            if let Some((device, _)) = shared {
                return Err(format!(
                    "has {} already, by {} as {slot}, and two disks on one device destroy what is on it; take that away first by \
                     'vmware-bdwrapper vmdk detach {} {}'.",
                    shown(&device),
                    shown(&path),
                    quoted(&path),
                    quoted(self.place.path())
                ));
            }
        }
        Ok(())
    }

    /// The name of a disk in this file.
    fn name_of(&self, disk: &Path) -> Result<String, String> {
        let name =
            super::beside(disk, self.place.path()).map(PathBuf::from).unwrap_or_else(|| absolute(disk));
        let is_utf8 =
            self.vmx.0.value(".encoding").is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"UTF-8"));
        match name.to_str() {
            Some(text) if is_utf8 || text.is_ascii() => Ok(escape(text)),
            _ => Err(format!(
                "{}: has a name that {} cannot hold in its encoding; rename it to one of ASCII characters.",
                shown(disk),
                shown(self.place.path())
            )),
        }
    }
}

fn vmx_problem(file: &Path, error: vmx::Error) -> String {
    format!("{}: {error}; {}.", shown(file), vmx_hint(&error))
}

/// The parts of devices and files, in sectors, that a disk consists of.
fn places(descriptor: &Descriptor, place: &Place) -> Vec<(PathBuf, Range<u64>)> {
    let of_extent = |extent: Extent<'_>| match extent.data {
        Data::Flat { name, offset } => {
            let path = super::named(place.path(), name);
            Some((path, offset..offset.saturating_add(extent.sectors)))
        }
        _ => None,
    };
    descriptor.extents().filter_map(of_extent).collect()
}

/// The name of a file that may be gone, without symbolic links on the way to its directory.
fn absolute(path: &Path) -> PathBuf {
    let directory = replace::directory(path);
    let directory =
        directory.canonicalize().or_else(|_| std::path::absolute(directory)).unwrap_or(directory.into());
    path.file_name().map_or(directory.clone(), |name| directory.join(name))
}
