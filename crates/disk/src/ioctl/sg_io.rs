//! Ways to send a disk a SCSI command: `SG_IO` and `SCSI_IOCTL_SEND_COMMAND` (the kernel's drivers/scsi/scsi_ioctl.c).

use crate::abi::{SG_DXFER_FROM_DEV, SG_DXFER_TO_DEV, SG_DXFER_TO_FROM_DEV, ScsiIoctlCommand, SgIoHdr};
use crate::device::Device;
use crate::errno::Errno;
use crate::host::{Capability, Host};
use crate::medium::{LONGEST, longest_transfer};
use crate::sat;
use crate::scsi::command::{Command, Permission, find, permission_without_row};
use crate::scsi::task::{Direction, ExecuteCommand, Outcome};
use crate::settings::D_SENSE;
use crate::transfer::Data;

/// The longest CDB that is taken.
const LONGEST_CDB: usize = 32;

/// The most elements of a list of buffers (`UIO_MAXIOV`).
const MOST_PIECES: u16 = 1024;

/// CHECK CONDITION and BUSY (SAM-5, 5.3.1).
pub(crate) const CHECK_CONDITION: u8 = 0x02;
const BUSY: u8 = 0x08;

/// `DID_NO_CONNECT` and `DID_ERROR` (include/scsi/scsi_status.h).
const NO_CONNECT: u16 = 0x01;
const ERROR: u16 = 0x07;

/// `DRIVER_SENSE`
const DRIVER_SENSE: u16 = 0x08;

/// `SG_INFO_CHECK`
const INFO_CHECK: u32 = 0x01;

/// Whether the caller may send a command.
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

/// `SG_IO`
pub(crate) fn sg_io(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<i32, Errno> {
    host.prepare(argument, host.abi().size_of::<SgIoHdr>());
    let mut hdr: SgIoHdr = host.fetch(argument)?;
    let length = u64::from(hdr.dxfer_len);
    if hdr.interface_id != SgIoHdr::INTERFACE {
        return Err(Errno::EINVAL);
    }
    if length > LONGEST && length > longest_transfer(host)? {
        return Err(Errno::EIO);
    }
    let direction = match direction(hdr.dxfer_direction) {
        Direction::None if length > 0 => return Err(Errno::EINVAL),
        direction => direction,
    };
    let mut cdb = [0; LONGEST_CDB];
    let given = cdb.get_mut(..hdr.cmd_len.into()).ok_or(Errno::EINVAL)?;
    if given.len() < 6 {
        return Err(Errno::EMSGSIZE);
    }
    host.copy_in(hdr.cmdp, given)?;
    let row = find(cdb[0], cdb[1] & 0x1f);
    if !is_allowed(host, row, cdb[0]) {
        return Err(Errno::EPERM);
    }
    let data = match hdr.iovec_count {
        _ if length == 0 => Data::new(0, 0),
        0 => Data::new(hdr.dxferp, length),
        count if count > MOST_PIECES => return Err(Errno::EINVAL),
        count => Data::list(host, hdr.dxferp, count.into(), length)?,
    };

    let start = host.milliseconds();
    let room = data.residual();
    let command = ExecuteCommand { row, cdb: shortened(cdb), direction, data, timeout: hdr.timeout };
    let (ended, used) = sat::execute(device, host, command);
    hdr.sb_len_wr = 0;
    (hdr.status, hdr.host_status) = match ended {
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
        Outcome::LengthMismatch => (0, ERROR),
        Outcome::NoConnect => (0, NO_CONNECT),
        Outcome::CallerFault(errno) => return Err(errno),
    };
    // What there was no room for in the caller's buffer, the host adapter counts as moved.
    let left = if ended == Outcome::LengthMismatch { 0 } else { room.saturating_sub(used) };
    let duration = host.milliseconds().saturating_sub(start);
    hdr.masked_status = hdr.status >> 1 & 0x1f;
    hdr.msg_status = 0;
    hdr.driver_status = if hdr.status == CHECK_CONDITION { DRIVER_SENSE } else { 0 };
    hdr.resid = i32::try_from(left).unwrap_or(i32::MAX);
    hdr.duration = u32::try_from(duration).unwrap_or(u32::MAX);
    hdr.info = if hdr.status != 0 || hdr.host_status != 0 { INFO_CHECK } else { 0 };
    host.store(argument, hdr)?;
    Ok(0)
}

/// No command of the disk is longer than 16 bytes; one of variable length is none of its own.
fn shortened(cdb: [u8; LONGEST_CDB]) -> [u8; 16] {
    cdb.first_chunk().copied().unwrap_or_default()
}

/// The longest data of `SCSI_IOCTL_SEND_COMMAND`.
const OLD_LONGEST: u32 = 4096;

/// The bytes of sense data that it gives.
pub(crate) const OLD_SENSE: usize = 16;

/// The length of the CDBs in an operation code's group (`scsi_command_size_tbl`).
pub(crate) fn command_length(code: u8) -> usize {
    match code >> 5 {
        0 => 6,
        3 | 5 => 12,
        4 => 16,
        _ => 10,
    }
}

/// `SCSI_IOCTL_SEND_COMMAND`: lengths of data to the disk and from it; then the CDB and the data. The result is the
/// status; data or sense data take the CDB's place.
#[inline(never)]
pub(crate) fn send_command(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<i32, Errno> {
    if argument == 0 {
        return Err(Errno::EINVAL);
    }
    let ScsiIoctlCommand { inlen, outlen } = host.fetch(argument)?;
    if inlen > OLD_LONGEST || outlen > OLD_LONGEST {
        return Err(Errno::EINVAL);
    }
    let at = argument.wrapping_add(size_of::<ScsiIoctlCommand>() as u64);
    let mut cdb = [0; 16];
    host.copy_in(at, cdb.get_mut(..1).unwrap_or_default())?;
    let length = command_length(cdb[0]);
    host.copy_in(at, cdb.get_mut(..length).unwrap_or_default())?;
    let row = find(cdb[0], cdb[1] & 0x1f);
    if !is_allowed(host, row, cdb[0]) {
        return Err(Errno::EPERM);
    }
    let (direction, data) = match (inlen, outlen) {
        (0, 0) => (Direction::None, Data::new(0, 0)),
        (0, outlen) => (Direction::In, Data::new(at, outlen.into())),
        (inlen, _) => (Direction::Out, Data::new(at.wrapping_add(length as u64), inlen.into())),
    };
    let (ended, used) = sat::execute(device, host, ExecuteCommand { row, cdb, direction, data, timeout: 0 });
    match ended {
        Outcome::Good => {
            if direction == Direction::In {
                // All of the buffer is the driver's, which had it zeroed.
                let mut rest = Data::new(at.wrapping_add(used), u64::from(outlen).saturating_sub(used));
                while rest.residual() > 0 {
                    rest.put(host, &[0; 512])?;
                }
            }
            Ok(0)
        }
        Outcome::CheckCondition(sense) => {
            let (bytes, count) = sense.bytes(device.settings.switches.is_on(D_SENSE));
            host.copy_out(at, bytes.get(..count.min(OLD_SENSE)).unwrap_or_default())?;
            Ok(CHECK_CONDITION.into())
        }
        Outcome::Busy => Ok(BUSY.into()),
        Outcome::LengthMismatch | Outcome::NoConnect => Err(Errno::EIO),
        Outcome::CallerFault(errno) => Err(errno),
    }
}
