//! `vmware-bdwrapper vmdk refresh`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bdwrapper_vmdk::descriptor::{Data, Descriptor};

use super::device::{Present, path};
use super::difference::{Difference, What, compare};
use super::partitioned::{Copies, Layout, describe_spare_copies, partition_starts};
use super::{GEOMETRY, lock, options, snapshot};
use crate::file::Place;
use crate::say::failure::{Failure, print, quoted, say, shown};
use crate::say::finding::{Code, Finding};

/// The arguments of `refresh`.
#[derive(clap::Args)]
pub struct Refresh {
    /// The descriptor
    file: PathBuf,
    /// Use this entry for the device (default: that in VMWARE_BDWRAPPER_DEVICES, else the descriptor's)
    #[arg(long, value_name = "ENTRY")]
    device: Option<OsString>,
    /// Accept a device that has become smaller: what was beyond its end is lost
    #[arg(long)]
    shrink: bool,
}

impl Refresh {
    /// Updates the descriptor to what its device is now.
    pub fn run(mut self) -> Result<(), Failure> {
        let mut place = Place::lock(&self.file)?;
        lock::check_free(&self.file)?;
        self.file = place.path().into();
        let name = shown(&self.file);
        let mut descriptor = super::read_descriptor(&mut place)?;
        snapshot::refuse(&descriptor, &place)?;
        let text = options::entry(&descriptor, &self.file, self.device)?;
        let (entry, present, differences) = compare(&descriptor, &place, &text)?;
        let Some(present) = present else {
            let findings = differences.into_iter().map(|difference| difference.finding).collect();
            return Err(Failure { status: Failure::FAILED, findings });
        };
        let is_other_disk = |difference: &&Difference| matches!(difference.what, What::Kind | What::Adapter);
        if let Some(difference) = differences.iter().find(is_other_disk) {
            return Err(difference.finding.clone().into());
        }
        if differences.is_empty() {
            return print(format!(
                "{name} describes {} as it is; nothing was changed.\n",
                entry.printed_path()
            ));
        }
        let (before, after) = (descriptor.sectors(), present.disk.capacity);
        if after < before && !self.shrink {
            let why = format!(
                "has become smaller, {after} sectors instead of {before}, and what was beyond its end is lost to the virtual machine"
            );
            let hint = format!(
                "give the device its former size again, or run 'vmware-bdwrapper vmdk refresh --shrink {}'",
                quoted(&self.file)
            );
            return Err(Finding::problem(Code::Different, why).of(path(&entry)).hint(hint).into());
        }
        let older = descriptor.clone();
        let mut copy = None;
        if descriptor.is("partitionedDevice") {
            copy = Some(divide(&mut descriptor, &place, &present)?);
        } else {
            resize(&mut descriptor, &present).map_err(|why| {
                let anew = super::create_command(&older, &self.file, &text, &present);
                let finding = Finding::problem(Code::Unsupported, why).of(&self.file);
                finding.hint(format!("make a new one: '{anew}'"))
            })?;
        }
        let has_bios = descriptor.number(GEOMETRY[3]).is_some();
        let numbers = super::geometry_numbers(&present.disk);
        for (key, number) in GEOMETRY.into_iter().zip(numbers).take(if has_bios { 6 } else { 3 }) {
            descriptor.0.set(key, &number.to_string());
        }
        let backup = place.replace(&descriptor.0.bytes(), true).inspect_err(|_| {
            if let Some(copy) = &copy {
                let _ = std::fs::remove_file(place.beside(copy));
            }
        })?;
        let [cylinders, heads, sectors, ..] = numbers;
        print(format!(
            "{name} describes {} as it is now: {after} sectors (before: {before}), geometry {cylinders}/{heads}/{sectors}.\n\
             The old file is {}.\n{}",
            entry.printed_path(),
            shown(backup.as_deref().unwrap_or(&self.file)),
            describe_spare_copies(&descriptor, &self.file, Some(&older))
        ))?;
        let (_, _, remaining) = compare(&descriptor, &place, &text)?;
        remaining.iter().for_each(|difference| say(&difference.finding));
        Ok(())
    }
}

/// Gives the device's extent its new length.
fn resize(descriptor: &mut Descriptor, device: &Present<'_>) -> Result<(), &'static str> {
    let mut start = 0;
    let mut last = None;
    for extent in descriptor.extents() {
        last = Some((start, extent.data));
        start += extent.sectors;
    }
    match last {
        Some((start, Data::Flat { name, offset }))
            if offset == start
                && descriptor.device().is_some_and(|device| device.as_os_str().as_bytes() == name) =>
        {
            let sectors = device.disk.capacity.checked_sub(start).filter(|sectors| *sectors > 0);
            let sectors = sectors.ok_or("begins its extent of the device beyond the device's end")?;
            descriptor.resize_last(sectors);
            Ok(())
        }
        _ => Err("does not end with an extent of the device, so the disk does not grow with it"),
    }
}

/// Divides the disk anew: the partitions that the virtual machine has are those that begin where they began. The name of the
/// new copy of the table.
fn divide(descriptor: &mut Descriptor, place: &Place, device: &Present<'_>) -> Result<String, Finding> {
    let file = place.path();
    let create = format!(
        "'vmware-bdwrapper vmdk create ENTRY -o {} --partitions --partition N --force'",
        quoted(file)
    );
    let name = descriptor.device().and_then(Path::to_str).ok_or_else(|| {
        Finding::problem(Code::Unsupported, "has a device whose name is not UTF-8")
            .of(file)
            .hint(format!("give the device another name, and run {create}"))
    })?;
    let mut wanted = partition_starts(descriptor);
    let copies = Copies::open(descriptor, place);
    let layout = Layout::new(device, Some(&copies), |partition| wanted.contains(&partition.place.start))?;
    wanted.retain(|start| layout.partitions().all(|partition| partition.place.start != *start));
    if let Some(start) = wanted.first() {
        let why =
            format!("no longer has a partition that begins at sector {start}, as the virtual machine's does");
        let hint = format!("choose other partitions: {create}");
        return Err(Finding::problem(Code::NotFound, why).of(path(&device.entry)).hint(hint));
    }
    let (copy, lines) = layout.write(place, name, Some(copies.rights(place)?), Some(descriptor))?;
    descriptor.replace_extents(lines);
    Ok(copy)
}
