//! The disk that `vmware-bdwrapper add` gives to a virtual machine, and `remove` takes.

use std::fs;
use std::path::Path;

use bdwrapper_vmdk::adapter::{Adapter, Guest, Slot};
use disk::entry::Kind;

use super::attach::{self, Machine};
use super::create::Create;
use super::problem::of_vmx;
use super::{lock, options, snapshot};
use crate::file::{self, Place};
use crate::say::failure::Failure;
use crate::say::finding::{Code, Finding};

/// Returns the guest of a virtual machine that is shut down.
pub fn guest(vmx: &Path) -> Result<Guest, Finding> {
    Ok(Guest::of(Machine::open(vmx)?.vmx.0.value("guestOS")))
}

/// What is done to a virtual machine.
pub struct Plan {
    /// The descriptor has to be written.
    pub describes: bool,
    /// The slot; none where the virtual machine has the disk already.
    pub slot: Option<Slot>,
    /// The lines that are added for its controller.
    pub controller: Vec<String>,
    /// The last line has no end, and gets one.
    pub ends_last: bool,
}

/// Plans a disk for a virtual machine: `device` will have the name `link`, and its descriptor is `file`.
pub fn plan(vmx: &Path, file: &Path, device: &Path, link: &Path, kind: Kind) -> Result<Plan, Finding> {
    let machine = Machine::open(vmx)?;
    let describes = match describes(file, link)? {
        Some(true) => false,
        None => true,
        Some(false) => {
            let finding =
                Finding::problem(Code::Exists, "exists already, and describes another disk").of(file);
            return Err(finding.hint("choose another name for the device with --name, or remove the file"));
        }
    };
    let adapter = Adapter::of(kind);
    let (mut slot, mut controller) = (None, Vec::new());
    if machine.slots_of(file).next().is_none() {
        // All of it.
        machine.check_other_disks(&[(device.into(), 0..u64::MAX)])?;
        let found = machine.find_slot(adapter, None)?;
        machine.vmx.check_hardware(found.bus).map_err(|error| of_vmx(error, vmx))?;
        controller = machine.vmx.controller_lines(found, adapter);
        slot = Some(found);
    }
    let ends_last = machine.vmx.0.bytes().last().is_some_and(|&byte| byte != b'\n');
    Ok(Plan { describes, slot, controller, ends_last })
}

/// Returns whether a descriptor is for a device; none where there is no such file.
pub fn describes(file: &Path, link: &Path) -> Result<Option<bool>, Finding> {
    if !file::exists(file)? {
        return Ok(None);
    }
    let mut place = Place::of(file)?;
    let is_it = super::read_descriptor(&mut place).is_ok_and(|found| {
        found.is("fullDevice") && options::path(&found, file).is_ok_and(|path| path == link)
    });
    Ok(Some(is_it))
}

/// Writes the descriptor of a device.
pub fn describe(entry: &str, file: &Path) -> Result<(), Failure> {
    Create::of(entry.into(), file.into()).write().map(drop)
}

/// Attaches the disk in a slot.
pub fn attach(file: &Path, vmx: &Path, slot: &str) -> Result<(), Finding> {
    attach::attach(file, vmx, slot.parse().ok(), false).map(drop)
}

/// Fails if VMware uses a file.
pub fn check_removable(file: &Path) -> Result<(), Finding> {
    lock::check_free(file)?;
    let Ok(mut place) = Place::of(file) else { return Ok(()) };
    match super::read_descriptor(&mut place) {
        Ok(descriptor) => snapshot::refuse(&descriptor, &place),
        Err(_) => Ok(()),
    }
}

/// Removes a descriptor.
pub fn remove(file: &Path) -> Result<(), Finding> {
    check_removable(file)?;
    fs::remove_file(file).map_err(|error| Finding::io("cannot be removed", &error).of(file))
}

/// Detaches the disk, and removes its controller if these lines made it and no other disk has it; returns whether the virtual
/// machine had the disk. `ends_last`: the line before the first of these had no end.
pub fn detach(file: &Path, vmx: &Path, controller: &[String], ends_last: bool) -> Result<bool, Finding> {
    let mut machine = Machine::open(vmx)?;
    let lines = machine.vmx.0.lines().count();
    let was_last = machine.vmx.0.pairs().last().is_some_and(|last| {
        last.line + 1 == lines
            && Slot::of_key(last.key).is_some_and(|slot| machine.slots_of(file).any(|own| own == slot))
    });
    let Some(slot) = machine.remove(file)? else { return Ok(false) };
    let name = slot.controller_name();
    let is_empty = !machine
        .vmx
        .0
        .pairs()
        .any(|pair| Slot::of_key(pair.key).is_some_and(|other| other.controller_name() == name));
    let text = &machine.vmx.0;
    let stands = |line: &String| text.lines().any(|found| found == line.as_bytes());
    if is_empty && controller.iter().all(stands) {
        let is_its = |key: &[u8]| {
            key.split(|&byte| byte == b'.')
                .next()
                .is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        };
        let own: Vec<usize> = text.pairs().filter(|pair| is_its(pair.key)).map(|pair| pair.line).collect();
        // What VMware has added for it goes with it.
        if !controller.is_empty() {
            machine.vmx.0.remove(&own);
        }
    }
    let mut bytes = machine.vmx.0.bytes();
    if ends_last && was_last {
        let end = if bytes.ends_with(b"\r\n") { 2 } else { 1 };
        bytes.truncate(bytes.len().saturating_sub(end));
    }
    machine.write_bytes(&bytes, false)?;
    Ok(true)
}

/// Returns where the descriptor of a device stands: beside the virtual machine's file.
pub fn beside(vmx: &Path, link: &str) -> std::path::PathBuf {
    let name = link.split_once('/').map_or(link, |(_, name)| name).replace('/', "-");
    file::follow_link(vmx).with_file_name(format!("{name}.vmdk"))
}
