//! SCSI commands through `SG_IO` and `SCSI_IOCTL_SEND_COMMAND` (the kernel's
//! drivers/scsi/scsi_ioctl.c).

use super::request::Answer;
use crate::abi::{SG_DXFER_FROM_DEV, SG_DXFER_TO_DEV, SG_DXFER_TO_FROM_DEV, ScsiIoctlCommand, SgIoHdr};
use crate::device::Device;
use crate::entry::Kind;
use crate::errno::Errno;
use crate::host::{Capability, Host};
use crate::medium::{LONGEST_TRANSFER, longest_transfer};
use crate::sat;
pub use crate::scsi::command::is_read_or_write;
use crate::scsi::command::{Command, Permission, find_for, permission_without_row};
use crate::scsi::dispatch;
use crate::scsi::task::{Direction, ExecuteCommand, Outcome};
use crate::settings::D_SENSE;
use crate::transfer::DataBuffer;

/// The longest CDB that the kernel accepts (`MAX_COMMAND_SIZE`).
pub(crate) const MAX_CDB: usize = 32;

/// The most elements of a scatter-gather list.
const UIO_MAXIOV: u16 = 1024;

/// CHECK CONDITION, BUSY and RESERVATION CONFLICT (SAM-5, 5.3.1).
pub const CHECK_CONDITION: u8 = 0x02;
const BUSY: u8 = 0x08;
pub(super) const RESERVATION_CONFLICT: u8 = 0x18;

/// Host and driver status (include/scsi/scsi_status.h).
const DID_NO_CONNECT: u16 = 0x01;
const DID_ERROR: u16 = 0x07;
const DRIVER_SENSE: u16 = 0x08;

/// `info` (include/scsi/sg.h).
const SG_INFO_CHECK: u32 = 0x01;

/// Returns whether the caller may send a command.
fn is_allowed(host: &impl Host, row: Option<&Command>, operation_code: u8) -> bool {
    let permission = row.map_or_else(|| permission_without_row(operation_code), |row| row.permission);
    match permission {
        Permission::Anyone => true,
        Permission::Writer => host.writable() || host.capable(Capability::RawIo),
        Permission::RawIo => host.capable(Capability::RawIo),
    }
}

/// Returns the direction of a `dxfer_direction`.
pub(crate) fn direction(dxfer_direction: i32) -> Direction {
    match dxfer_direction {
        SG_DXFER_TO_DEV => Direction::Out,
        SG_DXFER_FROM_DEV => Direction::In,
        SG_DXFER_TO_FROM_DEV => Direction::Both,
        _ => Direction::None,
    }
}

/// Answers `SG_IO` with READ or WRITE, if one direct transfer is enough and the device is what the
/// host assumes; else `None`: then at most a part of the data has been transferred, and the command
/// can be carried out from the start.
#[inline]
pub fn read_or_write(device: &Device<'_>, host: &impl Host, argument: u64) -> Option<Answer> {
    if device.entry.kind == Kind::Ide {
        return None;
    }
    let mut is_done = false;
    let answer = sg_io(device, host, argument, |command| {
        let done = dispatch::read_or_write(device, host, command);
        is_done = done.is_some();
        // Ends here, before anything is written.
        done.unwrap_or((Outcome::CallerFault(Errno::ENODEV), 0))
    });
    is_done.then(|| answer.into())
}

/// Answers `SG_IO`; `execute` carries the command out.
#[inline]
pub(crate) fn sg_io(
    device: &Device<'_>,
    host: &impl Host,
    argument: u64,
    execute: impl FnOnce(ExecuteCommand) -> (Outcome, u64),
) -> Result<i32, Errno> {
    host.prepare(argument, host.abi().size_of::<SgIoHdr>());
    let mut hdr: SgIoHdr = host.fetch(argument)?;
    let length = u64::from(hdr.dxfer_len);
    if hdr.interface_id != SgIoHdr::INTERFACE {
        return Err(Errno::EINVAL);
    }
    if length > LONGEST_TRANSFER && length > longest_transfer(host)? {
        return Err(Errno::EIO);
    }
    let direction = match direction(hdr.dxfer_direction) {
        Direction::None if length > 0 => return Err(Errno::EINVAL),
        direction => direction,
    };
    let mut cdb = [0; MAX_CDB];
    let buffer = cdb.get_mut(..hdr.cmd_len.into()).ok_or(Errno::EINVAL)?;
    if buffer.len() < 6 {
        return Err(Errno::EMSGSIZE);
    }
    host.copy_in(hdr.cmdp, buffer)?;
    let row = find_for(host, cdb[0], cdb[1] & 0x1f);
    if !is_allowed(host, row, cdb[0]) {
        return Err(Errno::EPERM);
    }
    let data = match hdr.iovec_count {
        _ if length == 0 => DataBuffer::empty(),
        0 => DataBuffer::new(hdr.dxferp, length),
        count if count > UIO_MAXIOV => return Err(Errno::EINVAL),
        count => DataBuffer::scatter_gather(host, hdr.dxferp, count.into(), length)?,
    };

    let start = host.milliseconds();
    let length = data.residual();
    // The disk has no CDB longer than 16 bytes.
    let cdb = cdb.first_chunk().copied().unwrap_or_default();
    let command = ExecuteCommand { row, cdb, direction, data, timeout: hdr.timeout };
    let (outcome, transferred) = execute(command);
    hdr.sb_len_wr = 0;
    (hdr.status, hdr.host_status) = match outcome {
        Outcome::Good => (0, 0),
        Outcome::CheckCondition(sense) => {
            let (bytes, count) = sense.bytes(device.settings.switches.is_on(D_SENSE));
            let count = count.min(hdr.mx_sb_len.into());
            if hdr.sbp != 0 && count > 0 {
                host.copy_out(hdr.sbp, bytes.get(..count).unwrap_or_default())?;
                hdr.sb_len_wr = count as u8;
            }
            (CHECK_CONDITION, 0)
        }
        Outcome::Busy => (BUSY, 0),
        Outcome::ReservationConflict => (RESERVATION_CONFLICT, 0),
        Outcome::LengthMismatch => (0, DID_ERROR),
        Outcome::NoConnect => (0, DID_NO_CONNECT),
        Outcome::CallerFault(errno) => return Err(errno),
    };
    // After a length mismatch the host adapter reports a residual of 0.
    let residual = if outcome == Outcome::LengthMismatch { 0 } else { length.saturating_sub(transferred) };
    let duration = host.milliseconds().saturating_sub(start);
    hdr.masked_status = hdr.status >> 1 & 0x1f;
    hdr.msg_status = 0;
    hdr.driver_status = if hdr.status == CHECK_CONDITION { DRIVER_SENSE } else { 0 };
    hdr.resid = i32::try_from(residual).unwrap_or(i32::MAX);
    hdr.duration = u32::try_from(duration).unwrap_or(u32::MAX);
    hdr.info = if hdr.status != 0 || hdr.host_status != 0 { SG_INFO_CHECK } else { 0 };
    host.store(argument, hdr)?;
    Ok(0)
}

/// The most data of `SCSI_IOCTL_SEND_COMMAND` in either direction, and its sense data, in bytes.
const SEND_COMMAND_MAX_DATA: u32 = 4096;
pub(crate) const SEND_COMMAND_SENSE: usize = 16;

/// Returns the length of the CDBs in an operation code's group (`scsi_command_size_tbl`).
pub(crate) fn cdb_length(code: u8) -> usize {
    match code >> 5 {
        0 => 6,
        3 | 5 => 12,
        4 => 16,
        _ => 10,
    }
}

/// Answers `SCSI_IOCTL_SEND_COMMAND` and returns the SCSI status. The CDB and the data-out buffer
/// follow the [`ScsiIoctlCommand`]; data-in or sense data are written over the CDB.
#[inline(never)]
pub(crate) fn send_command(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<i32, Errno> {
    if argument == 0 {
        return Err(Errno::EINVAL);
    }
    let ScsiIoctlCommand { inlen, outlen } = host.fetch(argument)?;
    if inlen > SEND_COMMAND_MAX_DATA || outlen > SEND_COMMAND_MAX_DATA {
        return Err(Errno::EINVAL);
    }
    let at = argument.wrapping_add(size_of::<ScsiIoctlCommand>() as u64);
    let mut cdb = [0; 16];
    host.copy_in(at, cdb.get_mut(..1).unwrap_or_default())?;
    let length = cdb_length(cdb[0]);
    host.copy_in(at, cdb.get_mut(..length).unwrap_or_default())?;
    let row = find_for(host, cdb[0], cdb[1] & 0x1f);
    if !is_allowed(host, row, cdb[0]) {
        return Err(Errno::EPERM);
    }
    let (direction, data) = match (inlen, outlen) {
        (0, 0) => (Direction::None, DataBuffer::empty()),
        (0, outlen) => (Direction::In, DataBuffer::new(at, outlen.into())),
        (inlen, _) => (Direction::Out, DataBuffer::new(at.wrapping_add(length as u64), inlen.into())),
    };
    let command = ExecuteCommand { row, cdb, direction, data, timeout: 0 };
    let (outcome, transferred) = sat::execute(device, host, command);
    match outcome {
        Outcome::Good => {
            if direction == Direction::In {
                // The driver copies all of its own zeroed buffer.
                let rest = u64::from(outlen).saturating_sub(transferred);
                DataBuffer::new(at.wrapping_add(transferred), rest).fill_with_zeros(host)?;
            }
            Ok(0)
        }
        Outcome::CheckCondition(sense) => {
            let (bytes, count) = sense.bytes(device.settings.switches.is_on(D_SENSE));
            host.copy_out(at, bytes.get(..count.min(SEND_COMMAND_SENSE)).unwrap_or_default())?;
            Ok(CHECK_CONDITION.into())
        }
        Outcome::Busy => Ok(BUSY.into()),
        Outcome::ReservationConflict => Ok(RESERVATION_CONFLICT.into()),
        Outcome::LengthMismatch | Outcome::NoConnect => Err(Errno::EIO),
        Outcome::CallerFault(errno) => Err(errno),
    }
}
