//! The sizes in a virtual disk's descriptor (`.vmdk`) against those of the devices.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::block::Host;
use crate::devices::{self, Device};
use crate::failure::{cause, shown};
use crate::finding::Finding;

/// A descriptor is a short text; a virtual disk that holds its data has the same suffix.
const MOST: u64 = 65536;

/// An extent's unit, in bytes.
const SECTOR: u64 = 512;

/// Compares each extent of a descriptor with the listed device that it names.
pub fn examine(file: &Path, listed: &[Device<'_>], host: &Host) -> Vec<Finding> {
    let name = shown(file);
    let mut text = Vec::new();
    let read = file.metadata().and_then(|status| match status.is_file() {
        true => File::open(file)?.take(MOST).read_to_end(&mut text),
        // Opening a pipe could wait for ever.
        false => Ok(0),
    });
    if let Err(error) = read {
        let cause = format!("{name} cannot be read ({})", cause(&error));
        return vec![Finding::problem(cause, "name a descriptor that can")];
    }
    let extents: Vec<Extent> = text.split(|&byte| byte == b'\n').filter_map(extent).collect();
    if extents.is_empty() {
        return vec![Finding::problem(
            format!(
                "{name} is no descriptor of a physical disk: no line of it is an extent such as 'RW 262144 FLAT \"/dev/sd/test\" 0'"
            ),
            "name the .vmdk that VMware made for the device",
        )];
    }
    // The extents of one device lie in it one after the other.
    let mut ends: Vec<(PathBuf, u64)> = Vec::new();
    for extent in extents {
        let end = extent.start.saturating_add(extent.sectors);
        match ends.iter_mut().find(|(path, _)| *path == extent.path) {
            Some((_, last)) => *last = end.max(*last),
            None => ends.push((extent.path, end)),
        }
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
            "list it, or name another .vmdk",
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
            "make the device as large as it was, or make the virtual disk anew",
        )
    } else if end < sectors {
        Finding::warning(
            format!("{name} uses {end} sectors of {device}, which has {sectors}"),
            "make the virtual disk anew where the device has grown",
        )
    } else {
        Finding::ok(format!("{name} has the size of {device}"))
    });
    findings
}

#[derive(Debug, PartialEq, Eq)]
struct Extent {
    path: PathBuf,
    sectors: u64,
    /// Where it begins in the device, in sectors.
    start: u64,
}

/// A line such as `RW 262144 FLAT "/dev/sd/test" 0`.
fn extent(line: &[u8]) -> Option<Extent> {
    let mut quoted = line.splitn(3, |&byte| byte == b'"');
    let (head, path, tail) = (quoted.next()?, quoted.next()?, quoted.next()?);
    let mut words = std::str::from_utf8(head).ok()?.split_ascii_whitespace();
    let access = words.next()?;
    let sectors = words.next()?.parse().ok()?;
    if !matches!(access, "RW" | "RDONLY") || words.next()? != "FLAT" || !path.starts_with(b"/") {
        return None;
    }
    let start = std::str::from_utf8(tail).ok()?.trim();
    let start = if start.is_empty() { 0 } else { start.parse().ok()? };
    Some(Extent { path: PathBuf::from(OsStr::from_bytes(path)), sectors, start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents() {
        let found = extent(b"RW 262144 FLAT \"/dev/sd/a b\" 63\r").expect("it is one");
        assert_eq!(found, Extent { path: "/dev/sd/a b".into(), sectors: 262_144, start: 63 });
        assert_eq!(extent(b"RW 1 FLAT \"/x\"").map(|found| found.start), Some(0));
        for line in [
            &b"RW 262144 SPARSE \"disk-s001.vmdk\""[..],
            b"RW 262144 FLAT \"disk-flat.vmdk\" 0",
            b"RW -1 FLAT \"/x\" 0",
            b"RW 99999999999999999999 FLAT \"/x\" 0",
            b"NOACCESS 1 FLAT \"/x\" 0",
            b"RW 1 FLAT \"/x",
            b"createType=\"fullDevice\"",
            b"\xff\0\"\"\"",
            b"",
        ] {
            assert_eq!(extent(line), None, "{line:?}");
        }
    }
}
