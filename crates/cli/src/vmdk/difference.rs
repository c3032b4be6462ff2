//! How a descriptor differs from its device.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bdwrapper_vmdk::descriptor::{Descriptor, Family};
use disk::entry::{Entry, Printed};
use serde::Serialize;

use super::device::{Absence, Present, path, read};
use super::partitioned::Copies;
use super::{GEOMETRY, options};
use crate::entries::explain;
use crate::file::Place;
use crate::say::failure::quoted;
use crate::say::finding::{Code, Finding, Verdict};

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// There is no device.
    Absent,
    /// The device is a block device, and the descriptor is for an image file.
    Kind,
    /// The device answers as a disk of another kind than the descriptor is for.
    Adapter,
    /// The device is longer than the descriptor says.
    Grown,
    /// The device is shorter than the descriptor says.
    Shrunk,
    /// The geometry.
    Geometry,
    /// The geometry for the BIOS.
    BiosGeometry,
    /// The partition table.
    PartitionTable,
}

impl What {
    /// Whether the other differences follow from it and are gone with it.
    pub fn is_decisive(self) -> bool {
        matches!(self, What::Kind | What::Adapter | What::Shrunk)
    }

    /// Says how bad it is: VMware opens a disk that is larger than the descriptor says, or has another geometry.
    fn verdict(self) -> Verdict {
        match self {
            What::Grown | What::Geometry | What::BiosGeometry => Verdict::Warning,
            _ => Verdict::Problem,
        }
    }
}

/// How a descriptor differs from its device.
pub struct Difference {
    /// What differs.
    pub what: What,
    /// How, and what to do.
    pub finding: Finding,
}

impl Difference {
    fn new(what: What, finding: Finding) -> Difference {
        Difference { what, finding: Finding { verdict: what.verdict(), ..finding } }
    }
}

/// The differences to act on: what follows from another size or kind of disk is gone with it.
pub fn decisive(differences: &[Difference]) -> impl Iterator<Item = &Difference> {
    let first = differences.iter().find(|difference| difference.what.is_decisive());
    differences.iter().filter(move |difference| first.is_none_or(|first| first.what == difference.what))
}

/// A device's entry, the device where it is there, and how the descriptor differs from it.
pub type Compared<'a> = (Entry<'a>, Option<Present<'a>>, Vec<Difference>);

/// Compares a descriptor with the device of an entry.
pub fn compare<'a>(
    descriptor: &Descriptor,
    place: &Place,
    text: &'a OsString,
) -> Result<Compared<'a>, Finding> {
    let file = place.path();
    let entry = Entry::parse(text.as_bytes()).map_err(|error| Finding {
        // Here it comes from the descriptor, or was checked before.
        code: Code::Malformed,
        ..explain(&error)
    })?;
    let present = match Present::look(entry) {
        Ok(present) => present,
        Err(Absence::Useless(finding)) => return Err(finding),
        Err(Absence::Gone(finding)) => {
            return Ok((entry, None, vec![Difference::new(What::Absent, finding)]));
        }
    };
    let mut found = Vec::new();
    let mut differ = |what, cause: String, hint: String| {
        let finding = Finding::problem(Code::Different, cause).of(path(&entry)).hint(hint);
        found.push(Difference::new(what, finding));
    };
    let refresh = |option: &str| refresh(option, file);
    let needs_library = descriptor.is_on_device();
    let anew = || format!("'{}'", super::create_command(descriptor, file, text, &present));
    if !needs_library && present.is_block {
        differ(
            What::Kind,
            "is a block device, and the descriptor is for an image file".into(),
            format!("make a new descriptor: {}", anew()),
        );
    }
    let is_ide = present.disk.adapter == vmware::Adapter::Ide;
    let word = descriptor.0.value(options::ADAPTER).or(descriptor.0.value("ddb.adapterType"));
    match descriptor.family() {
        Some(family) if needs_library && (family == Family::Ide) != is_ide => differ(
            What::Adapter,
            format!(
                "answers as a disk of {}, and the descriptor is for {}",
                present.disk.adapter,
                Printed(word.unwrap_or_default())
            ),
            format!(
                "give the device the option {}, or make a new descriptor: {}",
                if is_ide { "scsi" } else { "ide" },
                anew()
            ),
        ),
        _ => {}
    }
    let (sectors, now) = (descriptor.sectors(), present.disk.capacity);
    if now > sectors {
        differ(What::Grown, format!("has grown from {sectors} to {now} sectors"), refresh(""));
    } else if now < sectors {
        differ(
            What::Shrunk,
            format!(
                "has {now} sectors, and the descriptor {sectors}, but VMware refuses a disk that is too short"
            ),
            format!(
                "give the device its former size again, or lose what was beyond its end: {}",
                refresh(" --shrink")
            ),
        );
    }
    let given = GEOMETRY.map(|key| descriptor.number(key));
    let numbers = super::geometry_numbers(&present.disk).map(Some);
    let shown_geometry = |numbers: &[Option<u64>]| {
        let numbers = numbers.iter().map(|number| number.map_or("?".into(), |number| number.to_string()));
        numbers.collect::<Vec<_>>().join("/")
    };
    for (what, words, range) in
        [(What::Geometry, "geometry", 0..3), (What::BiosGeometry, "BIOS geometry", 3..6)]
    {
        let (given, numbers) = (&given[range.clone()], &numbers[range]);
        // A descriptor need not give the second.
        if given != numbers && (what == What::Geometry || given.iter().any(Option::is_some)) {
            let (given, numbers) = (shown_geometry(given), shown_geometry(numbers));
            differ(what, format!("has the {words} {numbers}, and the descriptor {given}"), refresh(""));
        }
    }
    if descriptor.is("partitionedDevice") {
        let finding = table_difference(descriptor, place, &present)?;
        found.extend(finding.map(|finding| Difference::new(What::PartitionTable, finding)));
    }
    Ok((entry, Some(present), found))
}

/// Asks to have a descriptor follow its device.
fn refresh(option: &str, file: &Path) -> String {
    format!("stop the virtual machine and run 'vmware-bdwrapper vmdk refresh{option} {}'", quoted(file))
}

/// How the private copy of the partition table differs from the device's table.
fn table_difference(
    descriptor: &Descriptor,
    place: &Place,
    device: &Present<'_>,
) -> Result<Option<Finding>, Finding> {
    let refresh = refresh("", place.path());
    let table = match device.table() {
        Ok(table) => table,
        Err(finding) => {
            let first = finding.hint.clone().unwrap_or_default();
            return Ok(Some(finding.hint(format!("{first}. Then {refresh}"))));
        }
    };
    let from = device.open()?;
    let copies = Copies::open(descriptor, place);
    for bytes in table.bytes {
        // The device is read in whole sectors.
        let sector = bytes.start / 512;
        let mut now = vec![0; (bytes.end - sector * 512) as usize];
        read(&from, sector, &mut now).map_err(|error| device.table_problem(&error))?;
        let now = &now[(bytes.start - sector * 512) as usize..];
        let mut own = vec![0; now.len()];
        let finding = match copies.read(bytes.start, &mut own) {
            Ok(true) if own == now => continue,
            Ok(_) => Finding::problem(
                Code::Different,
                "has another partition table than the virtual machine's copy, and VMware refuses a table that has changed",
            ),
            Err(error) => {
                Finding::io("the virtual machine's copy of its partition table cannot be read", &error)
            }
        };
        return Ok(Some(finding.of(path(&device.entry)).hint(refresh)));
    }
    Ok(None)
}
