//! `vmware-bdwrapper list`: the block devices of this host, and which of them are fit to be listed.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::check::device::{self, Fitness, Options};
use crate::host::block::{Block, Identity};
use crate::host::scan::Host;
use crate::say::colour::styled;
use crate::say::failure::{Failure, print, shown};
use crate::say::finding::{Finding, Verdict};
use crate::say::{json, terminal};

/// Prints them; those that stand for nothing only where `all` says so.
pub fn list(json: bool, all: bool) -> Result<ExitCode, Failure> {
    let host = Host::running()?;
    let blocks = host.blocks().iter().filter(|block| all || !block.is_unused());
    let blocks =
        blocks.map(|block| (block, device::of_block(block, &block.path(), Options::default(), &host)));
    if json {
        let devices: Vec<Row> = blocks.map(|(block, fitness)| Row::new(block, fitness)).collect();
        print(json::list("devices", &devices)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<[String; 5]> = blocks.map(|(block, fitness)| cells(block, fitness)).collect();
    print(terminal::table(TITLES, &rows, 3, fitness_styled))?;
    Ok(ExitCode::SUCCESS)
}

const TITLES: [&str; 5] = ["Device", "Size", "Kind", "Usable", "Persistent name"];

/// What is said of a device under each title.
fn cells(block: &Block, fitness: Fitness) -> [String; 5] {
    let link = block.links.first().map(|link| shown(link).to_string());
    let file = block.file.as_ref().filter(|_| !block.is_deleted).map(|file| format!("file {}", shown(file)));
    let name = link.into_iter().chain(file).collect::<Vec<_>>().join(", ");
    let uses = fitness.uses.len();
    let findings = fitness.all();
    let reasons: Vec<&str> = findings.iter().map(|finding| finding.cause.as_str()).collect();
    let reasons = match (uses, reasons.as_slice()) {
        (2.., [first, more @ ..]) => format!("{first} (and {} more)", more.len()),
        _ => reasons.join("; "),
    };
    let fit = match worst(&findings) {
        Verdict::Ok => word(Verdict::Ok).into(),
        verdict => format!("{} it {reasons}", word(verdict)),
    };
    [shown(&block.path()).to_string(), size(block.bytes), block.kind.name().into(), fit, name]
}

/// What begins the cell that says whether a device is fit.
const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "yes",
        Verdict::Warning => "yes, but",
        Verdict::Problem => "no:",
    }
}

/// A cell, of which that word is coloured.
fn fitness_styled(cell: &str) -> String {
    let verdicts = [Verdict::Warning, Verdict::Ok, Verdict::Problem];
    let found = verdicts.iter().find_map(|&verdict| Some((verdict, cell.strip_prefix(word(verdict))?)));
    found.map_or_else(|| cell.to_owned(), |(verdict, rest)| styled(word(verdict), verdict.style()) + rest)
}

fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
}

/// A size for people, in the units that `losetup` and LVM have.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (bytes.max(1).ilog2() / 10) as usize;
    let unit = UNITS.get(power).unwrap_or(&"EiB");
    // One decimal, cut off.
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        tenth => format!("{}.{tenth} {unit}", tenths / 10),
    }
}

/// A device in the document; bytes of names that are no UTF-8 are replaced.
#[derive(Serialize)]
struct Row {
    /// Its node.
    device: String,
    /// `MAJOR:MINOR`.
    number: String,
    kind: &'static str,
    bytes: u64,
    sector_bytes: u32,
    read_only: bool,
    /// Names that stay after the next boot, the best first.
    names: Vec<String>,
    /// The device mapper's name of it.
    dm_name: Option<String>,
    /// A loop device's file.
    file: Option<String>,
    identity: Option<Named>,
    /// What uses it; each continues a sentence that begins with the device's name.
    uses: Vec<String>,
    fit: bool,
    /// Why not, or what else to know.
    reasons: Vec<String>,
    /// The same, with what to do.
    findings: Vec<Finding>,
}

/// What makes a device the same one after the next boot.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    DmUuid(String),
    MdUuid(String),
    Link(String),
    File(String),
}

impl Row {
    fn new(block: &Block, fitness: Fitness) -> Row {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let findings = fitness.all();
        Row {
            device: text(&block.path()),
            number: block.number.to_string(),
            kind: block.kind.name(),
            bytes: block.bytes,
            sector_bytes: block.sector,
            read_only: block.read_only,
            names: block.links.iter().map(|link| text(link)).collect(),
            dm_name: block.dm_name.as_ref().map(|name| name.to_string_lossy().into_owned()),
            file: block.file.as_deref().map(text),
            identity: block.identity().map(|identity| match identity {
                Identity::Dm(uuid) => Named::DmUuid(uuid.clone()),
                Identity::Md(uuid) => Named::MdUuid(uuid.clone()),
                Identity::Link(link) => Named::Link(text(link)),
                Identity::File(file) => Named::File(text(file)),
            }),
            uses: block.uses.iter().map(ToString::to_string).collect(),
            fit: worst(&findings) < Verdict::Problem,
            reasons: findings.iter().map(|finding| finding.cause.clone()).collect(),
            findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (128 << 20, "128 MiB"),
            ((1 << 40) - 1, "1023.9 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
