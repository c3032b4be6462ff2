//! Describes records in words.

mod data;
mod registers;
mod sense;

use disk::Errno;
use disk::abi::{SG_DXFER_FROM_DEV, SG_DXFER_TO_DEV, SG_DXFER_TO_FROM_DEV, SgIoHdr};
use disk::request::{
    Argument, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, SCSI_IOCTL_SEND_COMMAND, SG_IO,
};
use disk::scsi::command::Operation as O;
use disk::trace::Input;

use super::absent;
use super::record::{Record, digits};
use data::{Value, argument, at_address, data, data_values};
use registers::{registers_in, registers_out};
use sense::scsi_status;

/// The mark of a line that should be reported.
const UNKNOWN: &str = "(unknown: please report this line)";

/// Returns the name of a request, and of the command that it sends.
pub fn name(record: &Record) -> String {
    let mut name = match record.row() {
        Some(request) => request.name().to_owned(),
        None => format!("{:#x}", record.request),
    };
    if let [code, ..] = record.cdb.0[..] {
        name += &match record.command().map(|command| command.name).or(absent::scsi(code)) {
            Some(name) => format!(" {name}"),
            None => format!(" command {code:02x}h"),
        };
    }
    if let Some(taskfile) = record.taskfile() {
        let known = record.ata_command().map(|command| command.name);
        name += &match known.or(absent::ata(taskfile.command)) {
            Some(name) => format!(" {name}"),
            None => format!(" command {:02x}h", taskfile.command),
        };
    }
    name
}

/// Describes a request and what the caller gave.
pub fn request(record: &Record) -> String {
    let mut text = name(record);
    if record.is_unknown() {
        text = format!("{text} {UNKNOWN}");
    }
    match record.request {
        SG_IO | SCSI_IOCTL_SEND_COMMAND if !record.cdb.0.is_empty() => {
            text += &format!(" [{}]{}", digits(&record.cdb.0, " "), fields(record));
            text += &registers_in(record);
        }
        SG_IO
            if record.before::<SgIoHdr>().interface_id != SgIoHdr::INTERFACE
                && !record.given.0.is_empty() =>
        {
            text += &format!(" of interface {}", record.before::<SgIoHdr>().interface_id);
        }
        HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE => text += &registers_in(record),
        _ => match record.row().map(|request| request.argument) {
            Some(Argument::In(_)) if record.given.0.is_empty() => {}
            Some(Argument::Number | Argument::In(_)) => {
                text += &format!(" {}", Input(&record.decoded()));
            }
            None => text += &format!(" {:#x}", record.argument),
            _ => {}
        },
    }
    if let Some(moved) = record.moved().filter(|moved| moved.length > 0) {
        let way = match moved.direction {
            SG_DXFER_TO_DEV => "to the disk",
            SG_DXFER_FROM_DEV => "from the disk",
            SG_DXFER_TO_FROM_DEV => "both ways",
            _ => "in no direction",
        };
        text += &format!(", {} bytes {way}", moved.length);
    } else if record.request == HDIO_DRIVE_CMD && record.data_length > 0 {
        text += &format!(", {} bytes from the disk", record.data_length);
    }
    text
}

/// Describes the outcome of a request.
pub fn outcome(record: &Record) -> String {
    let registers = registers_out(record);
    let of_registers = registers.as_ref().map(|registers| format!("; {registers}")).unwrap_or_default();
    if record.failed() {
        return format!("{}{of_registers}", Errno(record.errno));
    }
    let Some(result) = record.result else {
        return if record.forwarded { "not known" } else { "not known: it was killed meanwhile" }.to_owned();
    };
    match record.request {
        SG_IO => {
            let SgIoHdr { host_status, .. } = record.after();
            let mut text = scsi_status(record);
            if host_status != 0 {
                let name = if host_status == 1 { " (no connection)" } else { "" };
                text += &format!(", host status {host_status}{name}");
            }
            if let Some(moved) = record.moved().filter(|moved| moved.length > 0) {
                text += &format!(", {} bytes", moved.done);
            }
            text + &of_registers + &data(record)
        }
        SCSI_IOCTL_SEND_COMMAND => scsi_status(record) + &data(record),
        HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE => {
            registers.map_or_else(|| result.to_string(), |registers| registers.to_string()) + &data(record)
        }
        _ => match (result, at_address(record).as_str()) {
            (value, "") => value.to_string(),
            (0, got) => got.trim_matches(['{', '}']).to_owned(),
            (value, got) => format!("{value} {got}"),
        },
    }
}

/// Returns the outcome of a request that did not fail, by name.
pub fn values(record: &Record) -> Vec<Value> {
    let by = if record.forwarded { "the kernel" } else { "the library" };
    let mut values = vec![("answered by", by.to_owned())];
    match record.request {
        SG_IO => {
            let SgIoHdr { host_status, driver_status, .. } = record.after();
            values.push(("status", scsi_status(record)));
            values.push(("host status", host_status.to_string()));
            values.push(("driver status", driver_status.to_string()));
            if let Some(moved) = record.moved() {
                values.push(("bytes moved", moved.done.to_string()));
            }
        }
        SCSI_IOCTL_SEND_COMMAND => values.push(("status", scsi_status(record))),
        _ => {
            values.push(("result", record.result.unwrap_or(0).to_string()));
            values.extend(argument(record));
        }
    }
    values.extend(registers_out(record).map(|registers| ("registers", registers.to_string())));
    values.extend(data_values(record));
    values
}

/// Describes the best-known fields of a CDB.
fn fields(record: &Record) -> String {
    let Some(command) = record.command() else { return String::new() };
    let cdb = &record.cdb;
    let page = |byte: usize| cdb.at::<1>(byte)[0];
    let pages = match command.operation {
        O::Inquiry if page(1) & 1 != 0 => format!(" page {:02x}h", page(2)),
        O::ModeSense | O::LogSense => format!(" page {:02x}h", page(2) & 0x3f),
        _ => String::new(),
    };
    let lba = command.lba(&cdb.at(0)).map(|lba| format!(" LBA {lba}"));
    let blocks = command.blocks(&cdb.at(0)).map(|blocks| format!(", {blocks} blocks"));
    pages + &lba.unwrap_or_default() + &blocks.unwrap_or_default()
}
