//! How a descriptor differs from its device.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use bdwrapper_vmdk::descriptor::{Descriptor, Family};
use disk::entry::{Entry, Printed};
use serde::Serialize;

use super::device::{Absence, Present, read};
use super::partitioned::Copies;
use super::{GEOMETRY, options};
use crate::file::replace::Place;
use crate::say::failure::{cause, quoted};
use crate::say::finding::Finding;

/// How a descriptor differs from its device.
#[derive(Serialize)]
pub struct Difference {
    /// A word for programs.
    pub what: &'static str,
    /// A sentence for people.
    pub sentence: String,
    /// What to do, a sentence.
    pub remedy: String,
}

impl Difference {
    /// VMware opens a disk that is larger than the descriptor says, or has another geometry.
    pub fn finding(&self) -> Finding {
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

/// Those with which the others are done: what follows from another size or kind of disk, is done with that.
pub fn decisive(differences: &[Difference]) -> impl Iterator<Item = &Difference> {
    let first =
        differences.iter().find(|difference| ["kind", "adapter", "shrunk"].contains(&difference.what));
    differences.iter().filter(move |difference| first.is_none_or(|first| first.what == difference.what))
}

/// A device's entry, the device where it is there, and how the descriptor differs from it.
pub type Compared<'a> = (Entry<'a>, Option<Present<'a>>, Vec<Difference>);

/// Compares a descriptor with the device of an entry.
pub fn compare<'a>(
    descriptor: &Descriptor,
    place: &Place,
    text: &'a OsString,
) -> Result<Compared<'a>, String> {
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
        read(&from, sector, &mut now).map_err(|error| device.table_problem(&error))?;
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
