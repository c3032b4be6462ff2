//! The JSON documents: that of `vmware-bdwrapper probe --json`, and how all are written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use disk::entry::is_printable;
use serde::Serialize;
use vmware::{Chs, Conclusion, Facts};

use crate::say::finding::{Code, Finding};

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
    pub findings: &'a [Finding],
}

/// What VMware would make of a device.
#[derive(Default, Serialize)]
pub struct Vmware {
    accepted: bool,
    /// `SCSI` or `IDE`; this and the next three are null where it is refused.
    adapter: Option<String>,
    capacity_sectors: Option<u64>,
    physical: Option<Chs>,
    bios: Option<Chs>,
    /// Why it is refused.
    reason: Option<String>,
}

/// Returns the text of a document that is a list under a name.
pub fn list(name: &str, objects: &[impl Serialize]) -> Result<String, Finding> {
    text(&BTreeMap::from([(name, objects)]))
}

/// The text of any document.
pub fn text(document: &impl Serialize) -> Result<String, Finding> {
    finished(serde_json::to_string_pretty(document))
}

/// The text of a document in one line.
pub fn line(document: &impl Serialize) -> Result<String, Finding> {
    finished(serde_json::to_string(document))
}

/// Ends the text of a document, and escapes in its strings what a terminal would act upon.
fn finished(text: serde_json::Result<String>) -> Result<String, Finding> {
    let text = text
        .map_err(|error| Finding::problem(Code::Io, format!("The JSON document cannot be made ({error})")))?;
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            // Those of the layout: in strings there are no others.
            '\n' => escaped.push(character),
            _ if is_printable(character) => escaped.push(character),
            _ => escaped += &format!("\\u{:04x}", u32::from(character)),
        }
    }
    Ok(escaped + "\n")
}

impl From<Result<Conclusion, &Finding>> for Vmware {
    fn from(conclusion: Result<Conclusion, &Finding>) -> Vmware {
        let reason = match conclusion {
            Ok(Conclusion::Accepted(disk)) => {
                return Vmware {
                    accepted: true,
                    adapter: Some(disk.adapter.to_string()),
                    capacity_sectors: Some(disk.capacity),
                    physical: Some(disk.physical),
                    bios: Some(disk.bios),
                    reason: None,
                };
            }
            Ok(Conclusion::Refused(reason)) => reason,
            Err(finding) => finding.to_string(),
        };
        Vmware { reason: Some(reason), ..Vmware::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_upon() {
        let value = [
            "a\tb\u{1b}[2J",
            "\u{7f}\u{85}\u{9b}31m\u{61c}",
            "\u{202e}txt\u{2066}\u{200f}",
            "\u{e4}\u{2028}",
        ];
        for (text, newlines) in [(text(&value), 6), (line(&value), 1)] {
            let text = text.expect("it can be written");
            let others = text.chars().filter(|&character| character != '\n');
            assert!(others.clone().all(is_printable), "{text}");
            assert_eq!(text.len() - others.map(char::len_utf8).sum::<usize>(), newlines, "{text}");
            let read: Vec<String> = serde_json::from_str(&text).expect("it can be read");
            assert_eq!(read, value);
        }
    }
}
