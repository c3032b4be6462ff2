//! The sizes in a virtual disk's descriptor (`.vmdk`) against those of the devices.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::block::Host;
use crate::devices::{self, Device};
use crate::failure::{cause, quoted, shown};
use crate::file::Place;
use crate::finding::Finding;
use crate::vmdk::{self, Data};

/// An extent's unit, in bytes.
const SECTOR: u64 = 512;

/// Compares each extent of a descriptor with the listed device that it names.
pub fn examine(file: &Path, listed: &[Device<'_>], host: &Host) -> Vec<Finding> {
    let descriptor = match Place::of(file).and_then(|mut place| vmdk::descriptor(&mut place)) {
        Ok(descriptor) => descriptor,
        Err(sentence) => return vec![Finding::sentence(&sentence)],
    };
    // Private copies of partition tables have names without directory.
    let extents = descriptor.extents().filter_map(|extent| match extent.data {
        Data::Flat { name, offset } if name.starts_with(b"/") => {
            Some((PathBuf::from(OsStr::from_bytes(name)), offset.saturating_add(extent.sectors)))
        }
        _ => None,
    });
    // The extents of one device lie in it one after the other.
    let mut ends: Vec<(PathBuf, u64)> = Vec::new();
    for (path, end) in extents {
        match ends.iter_mut().find(|(other, _)| *other == path) {
            Some((_, last)) => *last = end.max(*last),
            None => ends.push((path, end)),
        }
    }
    if ends.is_empty() {
        return vec![Finding::problem(
            format!("{} is for no device: no extent of it has an absolute name", shown(file)),
            "name the descriptor of a disk on a device",
        )];
    }
    ends.iter().flat_map(|(path, end)| compare(file, path, *end, listed, host)).collect()
}

fn compare(file: &Path, path: &Path, end: u64, listed: &[Device<'_>], host: &Host) -> Vec<Finding> {
    let (name, device) = (shown(file), shown(path));
    let mut findings = Vec::new();
    let number = devices::identity_of(path);
    if !listed
        .iter()
        .any(|device| device.path() == path || (number.is_some() && devices::identity(device) == number))
    {
        findings.push(Finding::problem(
            format!("{name} is for {device}, which is not listed"),
            format!("list it by '--device {}', or name another .vmdk", quoted(path)),
        ));
    }
    let bytes = match host.by_path(path) {
        Some(block) => block.bytes,
        None => match path.metadata() {
            Ok(status) => status.len(),
            Err(error) => {
                let why = format!("{name} is for {device}, which cannot be looked at ({})", cause(&error));
                findings.push(Finding::problem(why, "make it, or make the virtual disk anew"));
                return findings;
            }
        },
    };
    let sectors = bytes / SECTOR;
    findings.push(if end > sectors {
        Finding::problem(
            format!(
                "{name} says that {device} has {end} sectors, and it has {sectors}, so VMware refuses it"
            ),
            format!(
                "give {device} its size again, or run 'vmware-bdwrapper vmdk refresh --shrink {}'",
                quoted(file)
            ),
        )
    } else if end < sectors {
        Finding::warning(
            format!("{name} uses {end} sectors of {device}, which has {sectors}"),
            format!("run 'vmware-bdwrapper vmdk refresh {}'", quoted(file)),
        )
    } else {
        Finding::ok(format!("{name} has the size of {device}"))
    });
    findings
}
