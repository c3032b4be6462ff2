//! A record in words.

use std::fmt;

use disk::Errno;
use disk::abi::{
    Abi, IdeTaskRequest, SG_DXFER_FROM_DEV, SG_DXFER_TO_DEV, SG_DXFER_TO_FROM_DEV, ScsiIdlun, SgIoHdr,
};
use disk::entry::Printed;
use disk::request::{
    Argument, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, SCSI_IOCTL_SEND_COMMAND, SG_IO, Shape,
    find,
};
use disk::sat;
use disk::scsi::command::Operation as O;
use disk::scsi::sense::Sense;
use disk::trace::{DecodedArgument, Input, Output, geometry};

use super::absent;
use super::record::{Bytes, CHECK_CONDITION, Record, digits};

/// What marks a line that should be reported.
const UNKNOWN: &str = "(unknown: please report this line)";

/// The request by name, with the command that it sends.
pub fn name(record: &Record) -> String {
    let mut name = match find(record.request) {
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

/// The request and what the caller gave.
pub fn asked(record: &Record) -> String {
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
            if record.given.structure::<SgIoHdr>().interface_id != SgIoHdr::INTERFACE
                && !record.given.0.is_empty() =>
        {
            text += &format!(" of interface {}", record.given.structure::<SgIoHdr>().interface_id);
        }
        HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE => text += &registers_in(record),
        request => match find(request).map(|request| request.argument) {
            Some(Argument::Number | Argument::In(_)) => {
                let decoded = DecodedArgument::from_record(request, record.argument, &record.given.0, false);
                if matches!(find(request), Some(row) if row.argument == Argument::Number)
                    || !record.given.0.is_empty()
                {
                    text += &format!(" {}", Input(&decoded));
                }
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

/// What came of it.
pub fn got(record: &Record) -> String {
    let registers = registers_out(record);
    let of_registers = registers.as_ref().map(|registers| format!("; {registers}")).unwrap_or_default();
    if record.failed() {
        return format!("{}{of_registers}", Errno(record.errno));
    }
    match record.request {
        SG_IO => {
            let SgIoHdr { status, host_status, .. } = record.got.structure();
            let mut text = scsi_status(status, &record.sense);
            if host_status != 0 {
                let name = if host_status == 1 { " (no connection)" } else { "" };
                text += &format!(", host status {host_status}{name}");
            }
            if let Some(moved) = record.moved().filter(|moved| moved.length > 0) {
                text += &format!(", {} bytes", i64::from(moved.length) - i64::from(moved.left));
            }
            text + &of_registers + &data(record)
        }
        SCSI_IOCTL_SEND_COMMAND => {
            scsi_status(u8::try_from(record.result).unwrap_or(u8::MAX), &record.sense) + &data(record)
        }
        HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE => {
            registers.map_or_else(|| record.result.to_string(), |registers| registers.to_string())
                + &data(record)
        }
        request => {
            let decoded = DecodedArgument::from_record(
                request,
                record.argument,
                &record.got.0,
                !record.got.0.is_empty(),
            );
            let got = Output(&decoded).to_string();
            match (record.result, got.trim_start()) {
                (value, "") => value.to_string(),
                (0, got) => got.trim_matches(['{', '}']).to_owned(),
                (value, got) => format!("{value} {got}"),
            }
        }
    }
}

/// A name and what stands under it.
pub type Value = (&'static str, String);

/// What came of a request that did not fail, by name.
pub fn values(record: &Record) -> Vec<Value> {
    let by = if record.forwarded { "the kernel" } else { "the library" };
    let mut values = vec![("answered by", by.to_owned())];
    match record.request {
        SG_IO => {
            let SgIoHdr { status, host_status, driver_status, .. } = record.got.structure();
            values.push(("status", scsi_status(status, &record.sense)));
            values.push(("host status", host_status.to_string()));
            values.push(("driver status", driver_status.to_string()));
            if let Some(moved) = record.moved() {
                values.push(("bytes moved", (i64::from(moved.length) - i64::from(moved.left)).to_string()));
            }
        }
        SCSI_IOCTL_SEND_COMMAND => {
            let status = u8::try_from(record.result).unwrap_or(u8::MAX);
            values.push(("status", scsi_status(status, &record.sense)));
        }
        request => {
            values.push(("result", record.result.to_string()));
            values.extend(argument(request, record));
        }
    }
    values.extend(registers_out(record).map(|registers| ("registers", registers.to_string())));
    values.extend(data_values(record));
    values
}

/// What the argument of a request holds afterwards.
fn argument(request: u32, record: &Record) -> Vec<Value> {
    let Some(Argument::Out(shape)) = find(request).map(|request| request.argument) else { return Vec::new() };
    let got = &record.got;
    match shape {
        Shape::Geometry | Shape::BigGeometry => {
            let names = ["cylinders", "heads", "sectors", "start"];
            names
                .into_iter()
                .zip(geometry(Abi::Native, shape, &got.0).map(|number| number.to_string()))
                .collect()
        }
        Shape::Idlun => {
            let names = ["id", "lun", "channel", "host"];
            let bytes = got.structure::<ScsiIdlun>().dev_id.to_le_bytes();
            names.into_iter().zip(bytes.map(|byte| byte.to_string())).collect()
        }
        Shape::Identity => identity(&got.0),
        _ => {
            let decoded = DecodedArgument::from_record(request, record.argument, &got.0, !got.0.is_empty());
            let text = Output(&decoded).to_string();
            vec![("value", text.trim_start().trim_matches(['{', '}']).to_owned())]
        }
    }
}

/// What a disk says of itself (ACS-3, IDENTIFY DEVICE), where it is that long. Texts are in the order in which they are read.
fn identity(bytes: &[u8]) -> Vec<Value> {
    let text = |start: usize, end: usize| {
        let text = bytes.get(start..end).unwrap_or_default();
        Printed(text.split(|&byte| byte == 0).next().unwrap_or_default()).to_string().trim().to_owned()
    };
    let number = |word: usize, words: usize| {
        let bytes = bytes.get(2 * word..2 * (word + words)).unwrap_or_default();
        bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)).to_string()
    };
    vec![
        ("model", text(54, 94)),
        ("serial", text(20, 40)),
        ("firmware", text(46, 54)),
        ("cylinders", number(1, 1)),
        ("heads", number(3, 1)),
        ("sectors a track", number(6, 1)),
        ("sectors by 28-bit commands", number(60, 2)),
        ("sectors by 48-bit commands", number(100, 4)),
        ("words a sector", number(117, 2)),
    ]
}

/// The fields of a CDB that people look for.
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

/// An ATA command's registers.
fn registers_in(record: &Record) -> String {
    let Some(taskfile) = record.taskfile() else { return String::new() };
    let disk::ata::Taskfile { command, features, count, lba, device } = taskfile;
    format!(
        " (command {command:02x} features {features:02x} count {count:02x} lba {lba:x} device {device:02x})"
    )
}

/// What the registers held when it had ended, as far as the request returns them.
struct Ended {
    status: u8,
    error: u8,
    count: u16,
    /// LBA and DEVICE.
    place: Option<(u64, u8)>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ended { status, error, count, place } = self;
        write!(f, "status {status:02x} error {error:02x} count {count:02x}")?;
        place.map_or(Ok(()), |(lba, device)| write!(f, " lba {lba:x} device {device:02x}"))
    }
}

fn registers_out(record: &Record) -> Option<Ended> {
    let wide = |low: u8, high: u8| u16::from_le_bytes([low, high]);
    let lba = |low, mid, high, d, e, f| u64::from_le_bytes([low, mid, high, d, e, f, 0, 0]);
    match (record.request, record.written()) {
        (HDIO_DRIVE_CMD, &[status, error, count, ..]) => {
            Some(Ended { status, error, count: count.into(), place: None })
        }
        (HDIO_DRIVE_TASK, &[status, error, count, low, mid, high, device]) => {
            let place = Some((lba(low, mid, high, 0, 0, 0), device));
            Some(Ended { status, error, count: count.into(), place })
        }
        (HDIO_DRIVE_TASKFILE, written @ [_, ..]) => {
            let IdeTaskRequest { io_ports, hob_ports, .. } = Abi::Native.parse(written);
            let [_, error, count, low, mid, high, device, status] = io_ports;
            let [_, _, count_high, d, e, f, ..] = hob_ports;
            let place = Some((lba(low, mid, high, d, e, f), device));
            Some(Ended { status, error, count: wide(count, count_high), place })
        }
        _ => sat::returned_registers(&record.sense.0).map(|registers| {
            let disk::ata::Registers { status, error, count, lba, device } = registers;
            Ended { status, error, count, place: Some((lba, device)) }
        }),
    }
}

/// A SCSI status, and what the sense data says.
fn scsi_status(status: u8, sense: &Bytes) -> String {
    match status {
        0 => "GOOD".to_owned(),
        CHECK_CONDITION => format!("CHECK CONDITION, {}", reason(sense)),
        0x08 => "BUSY".to_owned(),
        _ => format!("status {status:02x}h"),
    }
}

/// Names of sense keys (SPC-4, table 48).
const KEYS: [&str; 16] = [
    "NO SENSE",
    "RECOVERED ERROR",
    "NOT READY",
    "MEDIUM ERROR",
    "HARDWARE ERROR",
    "ILLEGAL REQUEST",
    "UNIT ATTENTION",
    "DATA PROTECT",
    "BLANK CHECK",
    "VENDOR SPECIFIC",
    "COPY ABORTED",
    "ABORTED COMMAND",
    "sense key 0ch",
    "VOLUME OVERFLOW",
    "MISCOMPARE",
    "COMPLETED",
];

/// Names of the additional sense codes that the disk uses.
const CODES: [(Sense, &str); 14] = [
    (Sense::NO_SENSE, "NO ADDITIONAL SENSE INFORMATION"),
    (Sense::ATA_PASS_THROUGH_INFORMATION_AVAILABLE, "ATA PASS-THROUGH INFORMATION AVAILABLE"),
    (Sense::UNRECOVERED_READ_ERROR, "UNRECOVERED READ ERROR"),
    (Sense::WRITE_ERROR, "WRITE ERROR"),
    (Sense::INTERNAL_TARGET_FAILURE, "INTERNAL TARGET FAILURE"),
    (Sense::PARAMETER_LIST_LENGTH_ERROR, "PARAMETER LIST LENGTH ERROR"),
    (Sense::INVALID_COMMAND_OPERATION_CODE, "INVALID COMMAND OPERATION CODE"),
    (Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE, "LOGICAL BLOCK ADDRESS OUT OF RANGE"),
    (Sense::INVALID_FIELD_IN_CDB, "INVALID FIELD IN CDB"),
    (Sense::INVALID_FIELD_IN_PARAMETER_LIST, "INVALID FIELD IN PARAMETER LIST"),
    (Sense::CAPACITY_DATA_HAS_CHANGED, "CAPACITY DATA HAS CHANGED"),
    (Sense::WRITE_PROTECTED, "WRITE PROTECTED"),
    (Sense::SPACE_ALLOCATION_FAILED_WRITE_PROTECT, "SPACE ALLOCATION FAILED WRITE PROTECT"),
    (Sense::MISCOMPARE_DURING_VERIFY_OPERATION, "MISCOMPARE DURING VERIFY OPERATION"),
];

fn reason(bytes: &Bytes) -> String {
    let (key, code, field) = match bytes.at::<18>(0) {
        [0x70 | 0x71 | 0xf0 | 0xf1, _, key, _, _, _, _, _, _, _, _, _, code, qualifier, _, a, b, c] => {
            (key, [code, qualifier], [a, b, c])
        }
        [0x72 | 0x73, key, code, qualifier, _, _, _, _, 2, 6, _, _, a, b, c, ..] => {
            (key, [code, qualifier], [a, b, c])
        }
        [0x72 | 0x73, key, code, qualifier, ..] => (key, [code, qualifier], [0; 3]),
        _ => return "no sense data".to_owned(),
    };
    let key = key & 0x0f;
    let [code, qualifier] = code;
    let number = u16::from_be_bytes([code, qualifier]);
    let mut text = format!("{} {key:x}/{code:02x}/{qualifier:02x}", KEYS[usize::from(key)]);
    if let Some((_, name)) = CODES.iter().find(|(sense, _)| sense.asc_ascq == number) {
        text += &format!(" {name}");
    }
    // Sense key specific (SPC-4, 4.5.2.4.2).
    let [flags, high, low] = field;
    if key == 5 && flags & 0x80 != 0 {
        text += &format!(" (byte {}", u16::from_be_bytes([high, low]));
        if flags & 0x08 != 0 {
            text += &format!(" bit {}", flags & 7);
        }
        text += ")";
    }
    text
}

/// What the data of a command says, where that is what people look for.
fn data(record: &Record) -> String {
    match &data_values(record)[..] {
        [("model", model), ("serial", serial), ..] => format!(": model {model} serial {serial}"),
        [("vendor", vendor), ("product", product), ("revision", revision), ..] => {
            format!(": {vendor} {product} {revision}")
        }
        [("last LBA", last), ("bytes a block", block), ..] => {
            format!(": last LBA {last}, {block} bytes a block")
        }
        _ => String::new(),
    }
}

fn data_values(record: &Record) -> Vec<Value> {
    let data = &record.data;
    let text = |start: usize, end: usize| {
        let bytes = data.0.get(start..end).unwrap_or_default();
        Printed(bytes).to_string().trim().to_owned()
    };
    let capacity = |last: u64, block: usize| {
        let block = u32::from_be_bytes(data.at(block));
        vec![("last LBA", last.to_string()), ("bytes a block", block.to_string())]
    };
    let identify = record.ata_command().map(|command| command.operation);
    match record.command().map(|command| command.operation) {
        _ if identify == Some(disk::ata::command::Operation::Identify) && data.0.len() >= 94 => {
            // The characters of a word are swapped (ACS-3, 3.4.9); numbers are not.
            let mut bytes = data.0.clone();
            for place in [20..40, 46..54, 54..94] {
                bytes.get_mut(place).unwrap_or_default().chunks_exact_mut(2).for_each(<[u8]>::reverse);
            }
            identity(&bytes)
        }
        Some(O::Inquiry) if record.cdb.at::<2>(0)[1] & 1 == 0 && data.0.len() >= 36 => {
            vec![("vendor", text(8, 16)), ("product", text(16, 32)), ("revision", text(32, 36))]
        }
        // Unit Serial Number and Block Limits (SPC-4, 7.8.15; SBC-3, 6.5.3).
        Some(O::Inquiry) if record.cdb.at::<3>(0)[2] == 0x80 => {
            vec![("serial", text(4, 4 + usize::from(u16::from_be_bytes(data.at(2)))))]
        }
        Some(O::Inquiry) if record.cdb.at::<3>(0)[2] == 0xb0 && data.0.len() >= 64 => {
            let word = |at: usize| u32::from_be_bytes(data.at(at)).to_string();
            vec![
                ("blocks of the optimal granularity", u16::from_be_bytes(data.at(6)).to_string()),
                ("blocks a command at most", word(8)),
                ("blocks a command at best", word(12)),
                ("blocks to unmap at most", word(20)),
                ("blocks of the unmap granularity", word(28)),
            ]
        }
        Some(O::GetLbaStatus) if data.0.len() >= 24 => vec![
            ("blocks of the same state", u32::from_be_bytes(data.at(16)).to_string()),
            ("state", (data.at::<1>(20)[0] & 0x0f).to_string()),
        ],
        Some(O::ReadCapacity10) if data.0.len() >= 8 => capacity(u32::from_be_bytes(data.at(0)).into(), 4),
        Some(O::ReadCapacity16) if data.0.len() >= 12 => {
            let mut values = capacity(u64::from_be_bytes(data.at(0)), 8);
            let [exponent] = data.at(13);
            values.push(("blocks a physical block", (1 << (exponent & 0x0f)).to_string()));
            let aligned = u16::from_be_bytes(data.at(14));
            values.push(("lowest aligned LBA", (aligned & 0x3fff).to_string()));
            values.push(("unmapping", if aligned & 0x8000 == 0 { "no" } else { "yes" }.to_owned()));
            values
        }
        _ => Vec::new(),
    }
}
