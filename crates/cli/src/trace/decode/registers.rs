//! The registers of ATA commands.

use std::fmt;

use disk::abi::IdeTaskRequest;
use disk::request::{HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE};
use disk::{ata, sat};

use crate::trace::record::Record;

/// Describes the registers of an ATA command.
pub fn registers_in(record: &Record) -> String {
    let Some(taskfile) = record.taskfile() else { return String::new() };
    let ata::Taskfile { command, features, count, lba, device } = taskfile;
    format!(
        " (command {command:02x} features {features:02x} count {count:02x} lba {lba:x} device {device:02x})"
    )
}

/// The registers after a command, as far as the request returns them.
pub struct Registers {
    status: u8,
    error: u8,
    count: u16,
    /// LBA and DEVICE.
    place: Option<(u64, u8)>,
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Registers { status, error, count, place } = self;
        write!(f, "status {status:02x} error {error:02x} count {count:02x}")?;
        place.map_or(Ok(()), |(lba, device)| write!(f, " lba {lba:x} device {device:02x}"))
    }
}

/// Returns the registers after an ATA command.
pub fn registers_out(record: &Record) -> Option<Registers> {
    let wide = |low: u8, high: u8| u16::from_le_bytes([low, high]);
    let lba = |low, mid, high, d, e, f| u64::from_le_bytes([low, mid, high, d, e, f, 0, 0]);
    match (record.request, record.written()) {
        (HDIO_DRIVE_CMD, &[status, error, count, ..]) => {
            Some(Registers { status, error, count: count.into(), place: None })
        }
        (HDIO_DRIVE_TASK, &[status, error, count, low, mid, high, device]) => {
            let place = Some((lba(low, mid, high, 0, 0, 0), device));
            Some(Registers { status, error, count: count.into(), place })
        }
        (HDIO_DRIVE_TASKFILE, written @ [_, ..]) => {
            let IdeTaskRequest { io_ports, hob_ports, .. } = record.abi.parse(written);
            let [_, error, count, low, mid, high, device, status] = io_ports;
            let [_, _, count_high, d, e, f, ..] = hob_ports;
            let place = Some((lba(low, mid, high, d, e, f), device));
            Some(Registers { status, error, count: wide(count, count_high), place })
        }
        _ => sat::returned_registers(&record.sense.0).map(|registers| {
            let ata::Registers { status, error, count, lba, device } = registers;
            Registers { status, error, count, place: Some((lba, device)) }
        }),
    }
}
