//! What a recorded request read, and whether it may be made again.

use disk::abi::{Abi, SG_DXFER_FROM_DEV, ScsiIoctlCommand, SgIoHdr};
use disk::ioctl::hdio_drive;
use disk::request::{
    Argument, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, Request, SCSI_IOCTL_SEND_COMMAND, SG_IO,
    find,
};
use disk::{ata, sat, scsi};
use engine::ioctl;
use serde::{Deserialize, Serialize};

use crate::trace::record::{Moved, Record};

/// What a request reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The argument itself.
    Number(u64),
    /// The bytes at the address that the argument is.
    Memory(Vec<u8>),
    /// A SCSI command for `SG_IO`.
    Command {
        /// `dxfer_direction`
        direction: i32,
        cdb: Vec<u8>,
        /// The data to the disk; where it is shorter than `length`, zeros follow it.
        data: Vec<u8>,
        /// How many bytes the command is to move.
        length: u32,
        /// The length of the buffer for sense data; `None`: no address is given.
        sense: Option<u8>,
    },
}

/// The most bytes that a command sent anew moves; the library takes no less.
const MOST_MOVED: u32 = 4 << 20;

/// Returns what a request is given again, or why it is not made.
pub fn input(record: &Record, write: bool) -> Result<Input, &'static str> {
    let input = recorded_input(record)?;
    match write || changes_nothing(record.request, &input) {
        true => Ok(input),
        false => Err("it could change the device (--write)"),
    }
}

/// Returns whether the row of a request, and that of the command that it sends, say that it changes nothing.
fn changes_nothing(request: u32, input: &Input) -> bool {
    let scsi = |cdb: &[u8]| {
        let mut whole = [0; 16];
        disk::bytes::copy(&mut whole, 0, cdb);
        let command = scsi::command::find(whole[0], whole[1] & 0x1f);
        command.is_some_and(|command| sat::changes_nothing(command, &whole))
    };
    match (request, input) {
        (SG_IO, Input::Command { cdb, .. }) => scsi(cdb),
        (SCSI_IOCTL_SEND_COMMAND, Input::Memory(bytes)) => {
            bytes.get(size_of::<ScsiIoctlCommand>()..).is_some_and(scsi)
        }
        (HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE, Input::Memory(bytes)) => {
            let registers = hdio_drive::registers(Abi::Native, request, bytes);
            registers.is_some_and(|registers| ata::command::changes_nothing(&registers))
        }
        _ => find(request).is_some_and(Request::changes_nothing),
    }
}

/// Returns what a request was given, if all of it is recorded.
fn recorded_input(record: &Record) -> Result<Input, &'static str> {
    const NOT_WHOLE: &str = "its input is not completely recorded";
    if find(record.request).is_none() {
        return Err("what it does is not known");
    }
    if record.result.is_none() {
        return Err("its outcome is not recorded");
    }
    if let Some(moved) = record.moved() {
        let hdr: SgIoHdr = record.before();
        if hdr.interface_id != SgIoHdr::INTERFACE
            || record.cdb.0.is_empty()
            || record.cdb.0.len() != usize::from(hdr.cmd_len)
        {
            return Err(NOT_WHOLE);
        }
        if moved.length > MOST_MOVED {
            return Err("it transfers too much data");
        }
        let from_disk = moved.direction == SG_DXFER_FROM_DEV;
        if !from_disk && record.data.0.len() < moved.length as usize {
            return Err("its data is not recorded");
        }
        let data = if from_disk { Vec::new() } else { record.data.0.clone() };
        let sense = (hdr.sbp != 0).then_some(hdr.mx_sb_len);
        let Moved { direction, length, .. } = moved;
        return Ok(Input::Command { direction, cdb: record.cdb.0.clone(), data, length, sense });
    }
    match find(record.request).map(|request| request.argument) {
        Some(Argument::Number | Argument::None) => Ok(Input::Number(record.argument)),
        _ if ioctl::room(record.request).is_none() => Err(NOT_WHOLE),
        Some(Argument::In(_)) if record.given.0.is_empty() => Err(NOT_WHOLE),
        _ if record.request == SCSI_IOCTL_SEND_COMMAND && record.before::<ScsiIoctlCommand>().inlen != 0 => {
            Err("its data is not recorded")
        }
        _ if record.request == HDIO_DRIVE_TASKFILE && moves_to_disk(record) => {
            Err("its data is not recorded")
        }
        _ => Ok(Input::Memory(record.given.0.clone())),
    }
}

/// Returns whether `HDIO_DRIVE_TASKFILE` has data-out.
fn moves_to_disk(record: &Record) -> bool {
    record.ata_command().is_none_or(|command| command.protocol.is_to_disk())
}
