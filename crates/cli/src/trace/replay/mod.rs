//! `vmware-bdwrapper trace --replay`: makes recorded requests anew.

pub mod difference;
pub mod input;
pub mod lines;
pub mod process;
mod report;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use disk::request::HDIO_GETGEO;

use super::output::{Begin, Lacks};
use super::record::Record;
use crate::check::device;
use crate::entries::{self, Device};
use crate::say::failure::{Failure, say, shown};
use crate::say::finding::{Code, Finding};
use input::{Input, input};
use lines::{LONGEST, Lines, parse};
use process::{Order, Replay};
use report::Tally;

/// Replays a trace; the exit status says whether all is as recorded. With `write` a device that something uses is refused unless
/// `force`.
pub fn replay(
    file: &Path,
    devices: Vec<OsString>,
    json: bool,
    write: bool,
    force: bool,
) -> Result<ExitCode, Failure> {
    let line_of = |line: u64| format!("{}, line {line}", shown(file));
    if write && devices.is_empty() {
        let finding = Finding::problem(Code::Usage, "With --write, the devices in the trace are not used");
        return Err(finding.hint("name the device with --device ENTRY").into());
    }
    let unread = |finding: Finding| finding.of(file).hint("name a trace that can be read");
    let unreadable = |error: io::Error| unread(Finding::io("cannot be read", &error));
    // What waits for a writer, or has no end.
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unread(Finding::problem(Code::FileType, "is not a regular file")).into());
    }
    let mut lines = Lines::new(File::open(file).map_err(unreadable)?);
    let first = lines.next().map_err(unreadable)?.unwrap_or_default();
    let begin: Begin = parse(&first).map_err(|finding: Finding| finding.of(line_of(1)))?;
    let texts: Vec<OsString> = match devices.is_empty() {
        true => begin.devices.iter().map(OsString::from).collect(),
        false => devices,
    };
    let texts = entries::require_texts(texts)?;
    let listed = entries::parse(&texts)?;
    if write {
        device::judge(&listed, &[], force).map_err(|uses| Failure {
            status: Failure::FAILED,
            findings: [uses, vec![Finding::force_needed("Nothing was sent")]].concat(),
        })?;
    }
    let name = |device: &Device<'_>| String::from_utf8_lossy(device.entry.path).into_owned();
    let names: Vec<String> = listed.iter().map(name).collect();
    let mut replay = Replay::start(&texts, write)?;
    // Nothing recorded may reach a kernel's driver: neither that of a device which the library refuses, nor any when it is not
    // loaded.
    for (device, name) in names.iter().enumerate() {
        replay.make(&Order { device, request: HDIO_GETGEO, input: Input::Memory(Vec::new()) }, name)?;
    }
    let mut result = Tally::new(json);
    let mut is_whole = false;
    while let Some(line) = lines.next().map_err(unreadable)? {
        if line.starts_with(b"{\"summary\":") {
            is_whole = true;
            let lacks: Lacks = parse(&line).unwrap_or_default();
            for why in lacks.incomplete {
                let why = why.trim_end_matches('.');
                say(Finding::warning(Code::Incomplete, format!("says that requests may be missing ({why})"))
                    .of(file));
            }
            continue;
        }
        let recorded: Record = match parse(&line) {
            Ok(record) => record,
            // A trace whose writer was killed.
            Err(_) if !line.ends_with(b"\n") && (line.len() as u64) < LONGEST => {
                say(Finding::warning(Code::Incomplete, "is cut off, and was left out")
                    .of(line_of(lines.number)));
                break;
            }
            Err(finding) => return Err(finding.of(line_of(lines.number)).into()),
        };
        let place = match names.iter().position(|name| *name == recorded.device) {
            None if names.len() == 1 => Some(0),
            place => place,
        };
        // The requests of 32-bit programs are made as a 64-bit program makes them.
        let Some(recorded) = recorded.as_native() else {
            result.leave_out(&recorded, "a 64-bit program cannot make it");
            continue;
        };
        let order = match place {
            None => Err("its device is not listed"),
            Some(device) => {
                input(&recorded, write).map(|input| Order { device, request: recorded.request, input })
            }
        };
        match order {
            Err(why) => result.leave_out(&recorded, why),
            Ok(order) => {
                let now = replay.make(&order, &recorded.device)?;
                result.compare(lines.number, &recorded, &now)?;
            }
        }
    }
    if !is_whole {
        let why = "has no summary at its end, because it was cut off, so requests may be missing";
        say(Finding::warning(Code::Incomplete, why).of(file));
    }
    result.end()
}
