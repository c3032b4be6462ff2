//! `vmware-bdwrapper vmdk check` and `vmdk refresh`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use disk::entry::{Entry, Printed};
use serde::Serialize;

use super::descriptor::{Data, Descriptor, Family};
use super::device::{Absence, Present, read};
use super::partitioned::{Copies, Layout, spare, starts, unnamed};
use super::{GEOMETRY, options, snapshot};
use crate::check::device;
use crate::entries::Device;
use crate::file::replace::{self, Place};
use crate::host::scan::Host;
use crate::say::failure::{Failure, cause, print, quoted, say, shown};
use crate::say::finding::Finding;

/// What is asked for by `check`.
#[derive(clap::Args)]
pub struct Check {
    /// The descriptor
    file: PathBuf,
    /// The device with its options; without it what VMWARE_BDWRAPPER_DEVICES or the descriptor says of it
    #[arg(long, value_name = "ENTRY")]
    device: Option<OsString>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What is asked for by `refresh`.
#[derive(clap::Args)]
pub struct Refresh {
    /// The descriptor
    file: PathBuf,
    /// The device with its options; without it what VMWARE_BDWRAPPER_DEVICES or the descriptor says of it
    #[arg(long, value_name = "ENTRY")]
    device: Option<OsString>,
    /// Follow a device that has become smaller: what was behind its end is lost
    #[arg(long)]
    shrink: bool,
}

/// How a descriptor differs from its device.
#[derive(Serialize)]
struct Difference {
    /// A word for programs.
    what: &'static str,
    /// A sentence for people.
    sentence: String,
    /// What to do, a sentence.
    remedy: String,
}

#[derive(Serialize)]
struct Document<'a> {
    file: String,
    device: String,
    equal: bool,
    sectors: u64,
    device_sectors: Option<u64>,
    differences: &'a [Difference],
    unnamed_copies: Vec<String>,
}

impl Check {
    /// Compares; the exit status is 1 where something differs.
    pub fn run(mut self) -> Result<ExitCode, Failure> {
        let failed = |sentence| Failure::new(Failure::FAILED, sentence);
        let mut place = Place::of(&self.file).map_err(failed)?;
        self.file = place.path().into();
        let descriptor = super::descriptor(&mut place).map_err(failed)?;
        let text = options::entry(&descriptor, &self.file, self.device)?;
        let (entry, present, mut differences) = compare(&descriptor, &place, &text).map_err(failed)?;
        let host = Host::running().unwrap_or_default();
        let uses = device::taken(&options::path(&descriptor, &self.file).map_err(failed)?, &host);
        // Nothing that leads to the use of a device that is not free.
        if let Some(first) = uses.first() {
            differences.iter_mut().for_each(|difference| difference.remedy = first.to_string());
        }
        let device = entry.printed_path();
        if self.json {
            let document = Document {
                file: shown(&self.file).to_string(),
                device: device.to_string(),
                equal: differences.is_empty(),
                sectors: descriptor.sectors(),
                device_sectors: present.as_ref().map(|present| present.disk.capacity),
                differences: &differences,
                unnamed_copies: unnamed(&descriptor, &self.file, None)
                    .iter()
                    .map(|copy| shown(copy).to_string())
                    .collect(),
            };
            print(crate::say::json::text(&document).map_err(failed)?)?;
        } else if differences.is_empty() {
            let spare = spare(&descriptor, &self.file, None);
            print(format!("{} describes {device} as it is.\n{spare}", shown(&self.file)))?;
        } else {
            let mut lines: Vec<&str> = Vec::new();
            let remedies = decisive(&differences).map(|difference| &difference.remedy);
            for line in differences.iter().map(|difference| &difference.sentence).chain(remedies) {
                if !lines.contains(&line.as_str()) {
                    lines.push(line);
                }
            }
            print(lines.join("\n") + "\n" + &spare(&descriptor, &self.file, None))?;
        }
        Ok(ExitCode::from(if differences.is_empty() { 0 } else { Failure::FAILED }))
    }
}

impl Refresh {
    /// Has the descriptor follow its device.
    pub fn run(mut self) -> Result<(), Failure> {
        let failed = |sentence| Failure::new(Failure::FAILED, sentence);
        let mut place = Place::locked(&self.file).map_err(failed)?;
        replace::is_free(&self.file).map_err(failed)?;
        self.file = place.path().into();
        let name = shown(&self.file);
        let mut descriptor = super::descriptor(&mut place).map_err(failed)?;
        snapshot::refuse(&descriptor, &place).map_err(failed)?;
        let text = options::entry(&descriptor, &self.file, self.device)?;
        let (entry, present, differences) = compare(&descriptor, &place, &text).map_err(failed)?;
        let Some(present) = present else {
            return Err(Failure {
                status: Failure::FAILED,
                sentences: differences.into_iter().map(|difference| difference.sentence).collect(),
            });
        };
        if let Some(difference) =
            differences.iter().find(|difference| ["kind", "adapter"].contains(&difference.what))
        {
            return Err(failed(format!("{} {}", difference.sentence, difference.remedy)));
        }
        if differences.is_empty() {
            return print(format!(
                "{name} describes {} as it is; nothing was changed.\n",
                entry.printed_path()
            ));
        }
        let (before, after) = (descriptor.sectors(), present.disk.capacity);
        if after < before && !self.shrink {
            return Err(failed(format!(
                "{}: has become smaller, {after} sectors instead of {before}, and what was behind its end is lost to the virtual \
                 machine; give the device its size again, or run 'vmware-bdwrapper vmdk refresh --shrink {}'.",
                entry.printed_path(),
                quoted(&self.file)
            )));
        }
        let older = descriptor.clone();
        let mut copy = None;
        if descriptor.is("partitionedDevice") {
            copy = Some(divide(&mut descriptor, &place, &present).map_err(failed)?);
        } else {
            resize(&mut descriptor, &present).map_err(|why| {
                let anew = super::anew(&older, &self.file, &text, &present);
                failed(format!("{name}: {why}; make it anew: run '{anew}'."))
            })?;
        }
        let has_bios = descriptor.number(GEOMETRY[3]).is_some();
        let numbers = super::numbers(&present.disk);
        for (key, number) in GEOMETRY.into_iter().zip(numbers).take(if has_bios { 6 } else { 3 }) {
            descriptor.0.set(key, &number.to_string());
        }
        let backup = place.replace(&descriptor.0.bytes(), true).map_err(|sentence| {
            if let Some(copy) = &copy {
                let _ = std::fs::remove_file(place.beside(copy));
            }
            failed(sentence)
        })?;
        let [cylinders, heads, sectors, ..] = numbers;
        print(format!(
            "{name} describes {} as it is now: {after} sectors (before: {before}), geometry {cylinders}/{heads}/{sectors}.\n\
             The old file is {}.\n{}",
            entry.printed_path(),
            shown(backup.as_deref().unwrap_or(&self.file)),
            spare(&descriptor, &self.file, Some(&older))
        ))?;
        let (_, _, left) = compare(&descriptor, &place, &text).map_err(failed)?;
        for Difference { sentence, remedy, .. } in left {
            say(format!("{sentence} {remedy}"));
        }
        Ok(())
    }
}

/// For `doctor`: how a descriptor differs from its device, which has to be listed where VMware opens it as a disk. Of one that is not
/// free nothing else is said, because that would lead to its use.
pub fn examine(file: &Path, listed: &[Device<'_>], host: &Host) -> Result<Vec<Finding>, Failure> {
    let failed = |sentence| Failure::new(Failure::FAILED, sentence);
    let mut place = Place::of(file).map_err(failed)?;
    let descriptor = super::descriptor(&mut place).map_err(failed)?;
    let path = options::path(&descriptor, place.path()).map_err(failed)?;
    let as_listed = listed.iter().find(|device| options::is_same(&path, device.path()));
    let text = options::entry(&descriptor, place.path(), as_listed.map(|device| device.text.into()))?;
    let uses = device::taken(&path, host);
    if !uses.is_empty() {
        return Ok(uses);
    }
    let mut findings = Vec::new();
    if as_listed.is_none() && descriptor.is_on_device() {
        findings.push(Finding::problem(
            format!("{} is for {}, which is not listed", shown(file), shown(&path)),
            format!("list it by '--device {}', or name another .vmdk", quoted(&text)),
        ));
    }
    let (entry, _, differences) = compare(&descriptor, &place, &text).map_err(failed)?;
    if differences.is_empty() {
        findings.push(Finding::ok(format!("{} describes {} as it is", shown(file), entry.printed_path())));
    }
    findings.extend(decisive(&differences).map(Difference::finding));
    Ok(findings)
}

/// Those with which the others are done: what follows from another size or kind of disk, is done with that.
fn decisive(differences: &[Difference]) -> impl Iterator<Item = &Difference> {
    let first =
        differences.iter().find(|difference| ["kind", "adapter", "shrunk"].contains(&difference.what));
    differences.iter().filter(move |difference| first.is_none_or(|first| first.what == difference.what))
}

impl Difference {
    /// VMware opens a disk that is larger than the descriptor says, or has another geometry.
    fn finding(&self) -> Finding {
        let mut letters = self.remedy.trim_end_matches('.').chars();
        let first = letters.next().into_iter().flat_map(char::to_lowercase);
        let (cause, remedy): (&str, String) =
            (self.sentence.trim_end_matches('.'), first.chain(letters).collect());
        match self.what {
            "absent" => Finding::sentence(cause),
            "grown" | "geometry" | "bios-geometry" => Finding::warning(cause, remedy),
            _ => Finding::problem(cause, remedy),
        }
    }
}

/// A device's entry, the device where it is there, and how the descriptor differs from it.
type Compared<'a> = (Entry<'a>, Option<Present<'a>>, Vec<Difference>);

/// Compares a descriptor with the device of an entry.
fn compare<'a>(descriptor: &Descriptor, place: &Place, text: &'a OsString) -> Result<Compared<'a>, String> {
    let file = place.path();
    let entry = Entry::parse(text.as_bytes()).map_err(|error| format!("{error}."))?;
    let device = entry.printed_path();
    let present = match Present::look(entry) {
        Ok(present) => present,
        Err(Absence::Useless(sentence)) => return Err(sentence),
        Err(Absence::Gone(sentence)) => {
            let remedy = "Then check again.".into();
            return Ok((entry, None, vec![Difference { what: "absent", sentence, remedy }]));
        }
    };
    let mut found = Vec::new();
    let mut differ =
        |what, sentence: String, remedy: String| found.push(Difference { what, sentence, remedy });
    let refresh = |option: &str| {
        format!("Stop the virtual machine and run 'vmware-bdwrapper vmdk refresh{option} {}'.", quoted(file))
    };
    let needs_library = descriptor.is_on_device();
    let anew = || format!("run '{}'.", super::anew(descriptor, file, text, &present));
    if !needs_library && present.is_block {
        differ(
            "kind",
            format!("{device} is a block device, and the descriptor is for an image file."),
            format!("Make the descriptor anew: {}", anew()),
        );
    }
    let is_ide = present.disk.adapter == vmware::Adapter::Ide;
    let word = descriptor.0.value(options::ADAPTER).or(descriptor.0.value("ddb.adapterType"));
    match descriptor.family() {
        Some(family) if needs_library && (family == Family::Ide) != is_ide => differ(
            "adapter",
            format!(
                "{device} answers as a disk of {}, and the descriptor is for {}.",
                present.disk.adapter,
                Printed(word.unwrap_or_default())
            ),
            format!(
                "Give the device the option {}, or make the descriptor anew: {}",
                if is_ide { "scsi" } else { "ide" },
                anew()
            ),
        ),
        _ => {}
    }
    let (sectors, now) = (descriptor.sectors(), present.disk.capacity);
    if now > sectors {
        differ("grown", format!("{device} has grown from {sectors} to {now} sectors."), refresh(""));
    } else if now < sectors {
        differ(
            "shrunk",
            format!(
                "{device} has {now} sectors, and the descriptor {sectors}: VMware refuses a disk that is too short."
            ),
            format!(
                "Give the device its size again, or lose what was behind its end. {}",
                refresh(" --shrink")
            ),
        );
    }
    let given = GEOMETRY.map(|key| descriptor.number(key));
    let numbers = super::numbers(&present.disk).map(Some);
    let shown_geometry = |numbers: &[Option<u64>]| {
        let numbers = numbers.iter().map(|number| number.map_or("?".into(), |number| number.to_string()));
        numbers.collect::<Vec<_>>().join("/")
    };
    for (what, words, range) in [("geometry", "geometry", 0..3), ("bios-geometry", "BIOS geometry", 3..6)] {
        let (given, numbers) = (&given[range.clone()], &numbers[range]);
        // A descriptor need not give the second.
        if given != numbers && (what == "geometry" || given.iter().any(Option::is_some)) {
            differ(
                what,
                format!(
                    "{device} has the {words} {}, and the descriptor {}.",
                    shown_geometry(numbers),
                    shown_geometry(given)
                ),
                refresh(""),
            );
        }
    }
    let differs = match descriptor.is("partitionedDevice") {
        true => table_difference(descriptor, place, &present)?,
        false => None,
    };
    if let Some(sentence) = differs {
        let remedy = match present.table() {
            Ok(_) => format!("VMware refuses a table that has changed. {}", refresh("")),
            Err(_) => format!("Settle that first. {}", refresh("")),
        };
        differ("partition-table", sentence, remedy);
    }
    Ok((entry, Some(present), found))
}

/// How the private copy of the partition table differs from the device's table; a sentence.
fn table_difference(
    descriptor: &Descriptor,
    place: &Place,
    device: &Present<'_>,
) -> Result<Option<String>, String> {
    let table = match device.table() {
        Ok(table) => table,
        Err(sentence) => return Ok(Some(sentence)),
    };
    let name = device.entry.printed_path();
    let from = device.open()?;
    let copies = Copies::open(descriptor, place);
    for bytes in table.bytes {
        // The device is read in whole sectors.
        let sector = bytes.start / 512;
        let mut now = vec![0; (bytes.end - sector * 512) as usize];
        read(&from, sector, &mut now).map_err(|why| format!("{name}: {why}."))?;
        let now = &now[(bytes.start - sector * 512) as usize..];
        let mut own = vec![0; now.len()];
        match copies.read(bytes.start, &mut own) {
            Ok(true) if own == now => {}
            Ok(_) => {
                return Ok(Some(format!(
                    "{name} has another partition table than the virtual machine's copy."
                )));
            }
            Err(error) => {
                return Ok(Some(format!(
                    "The virtual machine's copy of the partition table of {name} cannot be read ({}).",
                    cause(&error)
                )));
            }
        }
    }
    Ok(None)
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
            let sectors = sectors.ok_or("begins its extent of the device behind the device's end")?;
            descriptor.resize_last(sectors);
            Ok(())
        }
        _ => Err("does not end with an extent of the device, so its growth is not the disk's"),
    }
}

/// Divides the disk anew: the partitions that the virtual machine has are those that begin where they began. The name of the
/// new copy of the table.
fn divide(descriptor: &mut Descriptor, place: &Place, device: &Present<'_>) -> Result<String, String> {
    let file = place.path();
    let name = descriptor.device().and_then(Path::to_str).ok_or_else(|| {
        format!(
            "{name}: has a device whose name is no UTF-8; give the device another, and run 'vmware-bdwrapper vmdk create ENTRY -o \
             {} --partitions --partition N --force'.",
            quoted(file),
            name = shown(file)
        )
    })?;
    let mut wanted = starts(descriptor);
    let copies = Copies::open(descriptor, place);
    let layout = Layout::new(device, Some(&copies), |partition| wanted.contains(&partition.place.start))?;
    wanted.retain(|start| layout.partitions().all(|partition| partition.place.start != *start));
    if let Some(start) = wanted.first() {
        return Err(format!(
            "{}: has no partition any more that begins in sector {start}, as the virtual machine's did; choose others by \
             'vmware-bdwrapper vmdk create ENTRY -o {} --partitions --partition N --force'.",
            device.entry.printed_path(),
            quoted(file)
        ));
    }
    let (copy, lines) = layout.write(place, name, Some(copies.rights(place)?), Some(descriptor))?;
    descriptor.replace_extents(lines);
    Ok(copy)
}
