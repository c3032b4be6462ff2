//! SCSI/ATA Translation (SAT-3), what a disk behind libata adds to a SCSI disk: ATA PASS-THROUGH,
//! an ATA command in a CDB (12.2), and the ATA Information VPD page with the IDENTIFY DEVICE sector
//! (10.3.6).

use crate::ata::command::Protocol;
use crate::ata::registers::{FAULT, IDNF, UNC};
use crate::ata::{self, DataPhase, Registers, Taskfile, identify};
use crate::device::Device;
use crate::entry::Kind;
use crate::host::Host;
use crate::identity;
use crate::medium::io::Error;
use crate::scsi::command::{Command, Effect, Operation};
use crate::scsi::dispatch;
use crate::scsi::inquiry::ATA_INFORMATION;
use crate::scsi::response::Response;
use crate::scsi::sense::Sense;
use crate::scsi::task::{CommandResult, Direction, ExecuteCommand, Outcome, Task};

/// Returns the registers in the CDB of an ATA PASS-THROUGH, and EXTEND: whether the LBA has 48
/// bits, for which ATA PASS-THROUGH (12) has no room.
pub fn registers(cdb: &[u8; 16]) -> (Taskfile, bool) {
    match *cdb {
        [0x85, protocol, _, fh, f, ch, c, lh, l, mh, m, hh, h, device, command, _] => {
            let extended = protocol & 0x01 != 0;
            let high = |byte| if extended { byte } else { 0 };
            let taskfile = Taskfile {
                command,
                features: u16::from_be_bytes([high(fh), f]),
                count: u16::from_be_bytes([high(ch), c]),
                lba: u64::from_be_bytes([0, 0, high(hh), high(mh), high(lh), h, m, l]),
                device,
            };
            (taskfile, extended)
        }
        [_, _, _, features, count, l, m, h, device, command, ..] => {
            let lba = u32::from_be_bytes([0, h, m, l]).into();
            (Taskfile { command, features: features.into(), count: count.into(), lba, device }, false)
        }
    }
}

/// Carries out a SCSI command; the result is its outcome and how many bytes were transferred. It
/// carries out itself what a translator adds to the commands of a SCSI disk.
pub(crate) fn execute<H: Host>(device: &Device<'_>, host: &H, command: ExecuteCommand) -> (Outcome, u64) {
    dispatch::execute(device, host, command, |task| match task.row.operation {
        Operation::AtaPassThrough => Some(pass_through(task)),
        Operation::Inquiry if asks_ata_information(task) => Some(ata_information(task)),
        _ => None,
    })
}

/// Returns whether a CDB changes neither the medium nor a setting nor the state of the disk.
pub fn changes_nothing(command: &Command, cdb: &[u8; 16]) -> bool {
    match command.effect {
        Effect::OfAtaCommand => ata::command::changes_nothing(&registers(cdb).0),
        _ => command.changes_nothing(cdb),
    }
}

/// Handles ATA PASS-THROUGH.
fn pass_through<H: Host>(task: &mut Task<'_, H>) -> CommandResult {
    let (byte1, flags) = (task.byte(1), task.byte(2));
    let (input, extended) = registers(&task.cdb);
    let (check, from_disk, length) = (flags & 0x20 != 0, flags & 0x08 != 0, flags & 0x03);
    // The protocols of libata: non-data, PIO and DMA. As with libata, the direction is that of the
    // buffer, whatever the protocol and T_DIR are, and the disk checks whether the command has it.
    let protocol = byte1 >> 1 & 0x0f;
    let is_dma = match protocol {
        3..=5 => false,
        6 | 10 | 11 => true,
        _ => return Err(Sense::invalid_field_in_cdb(1, Some(4)).into()),
    };
    let multiple = ata::command::find(input.command, 0)
        .is_some_and(|command| matches!(command.operation, ata::command::Operation::Multiple(_)));
    if byte1 & 0xe0 != 0 && !multiple {
        return Err(Sense::invalid_field_in_cdb(1, Some(7)).into());
    }
    let direction = match task.direction {
        _ if task.data.residual() == 0 => Direction::None,
        Direction::Both if from_disk => Direction::In,
        Direction::Both => Direction::Out,
        direction => direction,
    };
    if length == 0 && direction != Direction::None {
        return Err(Sense::invalid_field_in_cdb(2, Some(1)).into());
    }
    let protocol = match (protocol, direction, is_dma) {
        (3, ..) => Protocol::NonData,
        // libata does not send a command of these protocols without data.
        (_, Direction::None, _) => return Err(Sense::ABORTED_COMMAND.into()),
        (_, Direction::Out, false) => Protocol::PioOut,
        (_, Direction::Out, true) => Protocol::DmaOut,
        (_, _, false) => Protocol::PioIn,
        (_, _, true) => Protocol::DmaIn,
    };
    // T_LENGTH selects the field of the length, BYT_BLOK and T_TYPE its unit.
    let number = match length {
        1 => input.features,
        2 => input.count,
        _ => 0,
    };
    let unit = match (flags & 0x04 != 0, flags & 0x10 != 0) {
        (false, _) => 1,
        (true, false) => 512,
        (true, true) => u64::from(task.capacity.block_size),
    };
    // 0 means no limit.
    let limit = if number == 0 { u64::MAX } else { unit.saturating_mul(number.into()) };
    let data_phase = DataPhase { protocol, limit, data: &mut task.data };
    let registers = ata::execute(task.device, task.host, &input, data_phase)?;
    if !registers.failed() && !check {
        return Ok(());
    }
    // SAT-3, 11.7.
    let sense = match registers.error {
        _ if !registers.failed() => Sense::ATA_PASS_THROUGH_INFORMATION_AVAILABLE,
        _ if registers.status & FAULT != 0 => Sense::INTERNAL_TARGET_FAILURE,
        UNC => Sense::UNRECOVERED_READ_ERROR,
        IDNF => Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE,
        _ => Sense::ABORTED_COMMAND,
    };
    Err(Sense { descriptor: Some(status_return(&registers, extended)), ..sense }.into())
}

/// Returns an ATA Status Return descriptor (SAT-3, 12.2.2.6). `extended`: the command has 48-bit
/// addresses.
fn status_return(registers: &Registers, extended: bool) -> [u8; 14] {
    let Registers { status, error, count, lba, device } = *registers;
    let [count_low, count_high] = count.to_le_bytes();
    let [a, b, c, d, e, f, ..] = lba.to_le_bytes();
    let mut descriptor = [0x09, 12, extended.into(), error, 0, count_low, 0, a, 0, b, 0, c, device, status];
    if extended {
        [descriptor[4], descriptor[6], descriptor[8], descriptor[10]] = [count_high, d, e, f];
    }
    descriptor
}

/// Returns the registers in sense data whose first descriptor is an ATA Status Return.
pub fn returned_registers(sense: &[u8]) -> Option<Registers> {
    match *sense {
        [0x72, _, _, _, _, _, _, _, 9, 12, _, error, ch, c, d, a, e, b, f, h, device, status, ..] => {
            let lba = u64::from_le_bytes([a, b, h, d, e, f, 0, 0]);
            Some(Registers { status, error, count: u16::from_be_bytes([ch, c]), lba, device })
        }
        _ => None,
    }
}

/// Returns whether this is INQUIRY for the ATA Information page of an ATA disk.
fn asks_ata_information<H: Host>(task: &Task<'_, H>) -> bool {
    let is_ata = task.device.entry.kind == Kind::Sata;
    is_ata && task.byte(1) & 0x01 != 0 && task.byte(2) == ATA_INFORMATION
}

/// Handles INQUIRY for the ATA Information page: the SATL's identity, the device signature, and the
/// IDENTIFY DEVICE command with its data.
#[inline(never)]
fn ata_information<H: Host>(task: &mut Task<'_, H>) -> CommandResult {
    let mut out = Response::new();
    out.put(&[0x00, ATA_INFORMATION, 0x02, 0x38, 0, 0, 0, 0]);
    out.put(b"BDWRAP  ");
    out.put(b"SAT             ");
    out.put(identity::REVISION);
    // A register FIS: STATUS, ERROR, LBA, DEVICE and COUNT; port 0.
    out.put(&[0x34, 0, 0x50, 0x01, 0x01, 0, 0, 0, 0, 0, 0, 0, 0x01]);
    out.fill(56);
    // IDENTIFY DEVICE
    out.put(&[0xec, 0, 0, 0]);
    let capacity = task.device.capacity(task.host).map_err(Error::backing)?;
    if let Some(identity) = out.append() {
        identify::sector(task.device, task.host, capacity, identity);
    }
    task.send_data_in(&out)
}
