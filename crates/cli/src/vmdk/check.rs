//! `vmware-bdwrapper vmdk check`, and the same for `doctor`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::difference::{Difference, What, compare, decisive};
use super::options;
use super::partitioned::{describe_spare_copies, unnamed_copies};
use crate::check::device;
use crate::entries::Device;
use crate::file::Place;
use crate::host::scan::Host;
use crate::say::failure::{Failure, print, quoted, shown};
use crate::say::finding::{Code, Finding};
use crate::say::json;

/// The arguments of `check`.
#[derive(clap::Args)]
pub struct Check {
    /// The descriptor
    file: PathBuf,
    /// Use this entry for the device (default: that in VMWARE_BDWRAPPER_DEVICES, else the descriptor's)
    #[arg(long, value_name = "ENTRY")]
    device: Option<OsString>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    file: String,
    device: String,
    equal: bool,
    sectors: u64,
    device_sectors: Option<u64>,
    differences: Vec<Row>,
    unnamed_copies: Vec<String>,
}

/// A difference in the JSON document.
#[derive(Serialize)]
struct Row {
    what: What,
    /// What differs, for people.
    sentence: String,
    /// What to do.
    remedy: String,
}

impl Check {
    /// Compares the descriptor with its device; the exit status is 1 if something differs.
    pub fn run(mut self) -> Result<ExitCode, Failure> {
        let mut place = Place::of(&self.file)?;
        self.file = place.path().into();
        let descriptor = super::read_descriptor(&mut place)?;
        let text = options::entry(&descriptor, &self.file, self.device)?;
        let (entry, present, differences) = compare(&descriptor, &place, &text)?;
        let host = Host::running().unwrap_or_default();
        let uses = device::taken(&options::path(&descriptor, &self.file)?, &host);
        // Nothing that leads to the use of a device that is not free.
        let remedy = |difference: &Difference| match uses.first() {
            Some(first) => first.to_string(),
            None => difference.finding.advice().unwrap_or_default(),
        };
        let sentence = |difference: &Difference| difference.finding.fact() + ".";
        let (device, is_equal) = (entry.printed_path(), differences.is_empty());
        if self.json {
            let row = |difference: &Difference| Row {
                what: difference.what,
                sentence: sentence(difference),
                remedy: remedy(difference),
            };
            let copies = unnamed_copies(&descriptor, &self.file, None);
            let document = Document {
                file: shown(&self.file).to_string(),
                device: device.to_string(),
                equal: is_equal,
                sectors: descriptor.sectors(),
                device_sectors: present.as_ref().map(|present| present.disk.capacity),
                differences: differences.iter().map(row).collect(),
                unnamed_copies: copies.iter().map(|copy| shown(copy).to_string()).collect(),
            };
            print(json::text(&document)?)?;
        } else {
            let spare = describe_spare_copies(&descriptor, &self.file, None);
            if is_equal {
                print(format!("{} describes {device} as it is.\n{spare}", shown(&self.file)))?;
            } else {
                let mut lines: Vec<String> = Vec::new();
                for line in differences.iter().map(sentence).chain(decisive(&differences).map(remedy)) {
                    if !lines.contains(&line) {
                        lines.push(line);
                    }
                }
                print(lines.join("\n") + "\n" + &spare)?;
            }
        }
        Ok(ExitCode::from(if is_equal { 0 } else { Failure::FAILED }))
    }
}

/// For `doctor`: how a descriptor differs from its device, which has to be listed where VMware opens it as a disk. Of one that is not
/// free nothing else is said, because that would lead to its use.
pub fn examine(file: &Path, listed: &[Device<'_>], host: &Host) -> Result<Vec<Finding>, Failure> {
    let mut place = Place::of(file)?;
    let descriptor = super::read_descriptor(&mut place)?;
    let path = options::path(&descriptor, place.path())?;
    let as_listed = listed.iter().find(|device| options::is_same(&path, device.path()));
    let text = options::entry(&descriptor, place.path(), as_listed.map(|device| device.text.into()))?;
    let uses = device::taken(&path, host);
    if !uses.is_empty() {
        return Ok(uses);
    }
    let mut findings = Vec::new();
    if as_listed.is_none() && descriptor.is_on_device() {
        let why = format!("is for {}, which is not listed", shown(&path));
        let hint = format!("add --device {}, or name another .vmdk", quoted(&text));
        findings.push(Finding::problem(Code::NotListed, why).of(file).hint(hint));
    }
    let (entry, _, differences) = compare(&descriptor, &place, &text)?;
    if differences.is_empty() {
        findings.push(Finding::ok(format!("{} describes {} as it is", shown(file), entry.printed_path())));
    }
    findings.extend(decisive(&differences).map(|difference| difference.finding.clone()));
    Ok(findings)
}
