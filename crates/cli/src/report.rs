//! The JSON documents: that of `vmware-bdwrapper probe --json`, and how all are written.

use std::borrow::Cow;

use client::{Adapter, Chs, Conclusion, Facts};
use serde::Serialize;

use crate::finding::{self, Verdict};

/// What is said of one device.
#[derive(Serialize)]
pub struct Report<'a> {
    /// Its name; bytes that are no UTF-8 are replaced.
    pub device: Cow<'a, str>,
    /// The kind of disk that it is to be: `scsi`, `ide` or `sata`.
    pub kind: &'static str,
    /// What it answers without the library, each under the request's name; null where it cannot be opened.
    pub without: Option<&'a Facts>,
    /// The same with the library.
    pub with: Option<&'a Facts>,
    /// What VMware would make of it.
    pub vmware: Vmware,
    /// What else stands in the way of VMware.
    pub findings: Vec<Finding<'a>>,
}

/// What a check finds.
#[derive(Serialize)]
pub struct Finding<'a> {
    verdict: Verdict,
    /// The fact: a sentence without its full stop.
    text: &'a str,
    /// What to do; null where there is nothing.
    remedy: Option<&'a str>,
}

impl<'a> From<&'a finding::Finding> for Finding<'a> {
    fn from(found: &'a finding::Finding) -> Finding<'a> {
        Finding { verdict: found.verdict, text: &found.cause, remedy: found.remedy.as_deref() }
    }
}

/// What VMware would make of a device.
#[derive(Serialize)]
pub struct Vmware {
    accepted: bool,
    /// `SCSI` or `IDE`; this and the next three are null where it is refused.
    adapter: Option<&'static str>,
    capacity_sectors: Option<u64>,
    physical: Option<Geometry>,
    bios: Option<Geometry>,
    /// Why it is refused.
    reason: Option<String>,
}

#[derive(Serialize)]
struct Geometry {
    cylinders: u16,
    heads: u16,
    sectors: u16,
}

#[derive(Serialize)]
struct Document<'a> {
    devices: Vec<Report<'a>>,
}

/// The text of the document.
pub fn document(devices: Vec<Report<'_>>) -> Result<String, String> {
    text(&Document { devices })
}

/// The text of any document.
pub fn text(document: &impl Serialize) -> Result<String, String> {
    let text = serde_json::to_string_pretty(document);
    text.map(|text| text + "\n").map_err(|error| format!("The document cannot be made: {error}."))
}

impl From<Result<Conclusion, &str>> for Vmware {
    fn from(conclusion: Result<Conclusion, &str>) -> Vmware {
        let reason = match conclusion {
            Ok(Conclusion::Accepted(disk)) => {
                return Vmware {
                    accepted: true,
                    adapter: Some(match disk.adapter {
                        Adapter::Scsi => "SCSI",
                        Adapter::Ide => "IDE",
                    }),
                    capacity_sectors: Some(disk.capacity),
                    physical: Some(disk.physical.into()),
                    bios: Some(disk.bios.into()),
                    reason: None,
                };
            }
            Ok(Conclusion::Refused(reason)) => reason,
            Err(sentence) => sentence.to_owned(),
        };
        Vmware {
            accepted: false,
            adapter: None,
            capacity_sectors: None,
            physical: None,
            bios: None,
            reason: Some(reason),
        }
    }
}

impl From<Chs> for Geometry {
    fn from(Chs { cylinders, heads, sectors }: Chs) -> Geometry {
        Geometry { cylinders, heads, sectors }
    }
}
