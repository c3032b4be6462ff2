//! `vmware-bdwrapper vmdk check`, and the same for `doctor`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::difference::{Difference, compare, decisive};
use super::options;
use super::partitioned::{spare, unnamed};
use crate::check::device;
use crate::entries::Device;
use crate::file::replace::Place;
use crate::host::scan::Host;
use crate::say::failure::{Failure, print, quoted, shown};
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
