//! Ways to send a disk a SCSI command: `SG_IO` and `SCSI_IOCTL_SEND_COMMAND` (the kernel's drivers/scsi/scsi_ioctl.c).

use crate::bytes::part;
use crate::device::Device;
use crate::errno::Errno;
use crate::host::{Capability, Host};
use crate::medium::{LONGEST, longest_transfer};
use crate::sat;
use crate::scsi::command::{self, Permission};
use crate::scsi::task::{Direction, Outcome};
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
fn is_allowed(host: &impl Host, cdb: &[u8]) -> bool {
    let [code, action] = [0, 1].map(|at| cdb.get(at).copied().unwrap_or(0));
    let permission = match command::find(code, action & 0x1f) {
        Some(command) => command.permission,
        None => command::permission_without_row(code),
    };
    match permission {
        Permission::Anyone => true,
        Permission::Writer => host.writable() || host.capable(Capability::RawIo),
        Permission::RawIo => host.capable(Capability::RawIo),
    }
}

/// `struct sg_io_hdr`, version 3 (include/scsi/sg.h), on 64-bit systems.
struct Header([u8; Header::SIZE]);

impl Header {
    const SIZE: usize = 88;

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        part(&self.0, at)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
}

/// The direction of a `dxfer_direction`: `SG_DXFER_TO_DEV`, `SG_DXFER_FROM_DEV`, `SG_DXFER_TO_FROM_DEV`; none of any other.
pub(crate) fn of_number(direction: i32) -> Direction {
    match direction {
        -2 => Direction::Out,
        -3 => Direction::In,
        -4 => Direction::Both,
        _ => Direction::None,
    }
}

/// `SG_IO`
pub(crate) fn sg_io(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<i32, Errno> {
    let mut header = Header([0; Header::SIZE]);
    host.prepare(argument, Header::SIZE);
    host.copy_in(argument, &mut header.0)?;
    let [interface, direction] = [0, 4].map(|at| i32::from_ne_bytes(header.get(at)));
    let [command_length, sense_room] = header.get(8);
    let pieces = u16::from_ne_bytes(header.get(10));
    let length = u64::from(u32::from_ne_bytes(header.get(12)));
    let timeout = u32::from_ne_bytes(header.get(40));
    let [data, command, sense_at] = [16, 24, 32].map(|at| u64::from_ne_bytes(header.get(at)));

    if interface != i32::from(b'S') {
        return Err(Errno::EINVAL);
    }
    if length > LONGEST && length > longest_transfer(host)? {
        return Err(Errno::EIO);
    }
    let direction = match of_number(direction) {
        Direction::None if length > 0 => return Err(Errno::EINVAL),
        direction => direction,
    };
    let mut cdb = [0; LONGEST_CDB];
    let given = cdb.get_mut(..command_length.into()).ok_or(Errno::EINVAL)?;
    if given.len() < 6 {
        return Err(Errno::EMSGSIZE);
    }
    host.copy_in(command, given)?;
    if !is_allowed(host, &cdb) {
        return Err(Errno::EPERM);
    }
    let data = match pieces {
        _ if length == 0 => Data::new(0, 0),
        0 => Data::new(data, length),
        pieces if pieces > MOST_PIECES => return Err(Errno::EINVAL),
        count => Data::list(host, data, count.into(), length)?,
    };

    let start = host.milliseconds();
    let room = data.residual();
    let (ended, used) = sat::execute(device, host, shortened(cdb), direction, data, timeout);
    let mut sense_length = 0u8;
    let (status, host_status) = match ended {
        Outcome::Good => (0, 0),
        Outcome::CheckCondition(sense) => {
            let (bytes, count) = sense.bytes(device.settings.switches.is_on(D_SENSE));
            let count = count.min(sense_room.into());
            if sense_at != 0 && count > 0 {
                host.copy_out(sense_at, bytes.get(..count).unwrap_or_default())?;
                sense_length = count as u8;
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
    // status, masked_status, msg_status, sb_len_wr
    header.put(64, &[status, status >> 1 & 0x1f, 0, sense_length]);
    header.put(68, &host_status.to_ne_bytes());
    let driver_status = if status == CHECK_CONDITION { DRIVER_SENSE } else { 0 };
    header.put(70, &driver_status.to_ne_bytes());
    header.put(72, &i32::try_from(left).unwrap_or(i32::MAX).to_ne_bytes());
    header.put(76, &u32::try_from(duration).unwrap_or(u32::MAX).to_ne_bytes());
    let checked = status != 0 || host_status != 0;
    header.put(80, &(if checked { INFO_CHECK } else { 0 }).to_ne_bytes());
    host.copy_out(argument, &header.0)?;
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
    let mut lengths = [0; 8];
    host.copy_in(argument, &mut lengths)?;
    let [to_disk, from_disk] = [0, 4].map(|at| {
        let bytes = lengths.get(at..).and_then(|rest| rest.first_chunk());
        u32::from_ne_bytes(bytes.copied().unwrap_or_default())
    });
    if to_disk > OLD_LONGEST || from_disk > OLD_LONGEST {
        return Err(Errno::EINVAL);
    }
    let at = argument.wrapping_add(8);
    let mut cdb = [0; 16];
    host.copy_in(at, cdb.get_mut(..1).unwrap_or_default())?;
    let length = command_length(cdb[0]);
    host.copy_in(at, cdb.get_mut(..length).unwrap_or_default())?;
    if !is_allowed(host, &cdb) {
        return Err(Errno::EPERM);
    }
    let (direction, data) = match (to_disk, from_disk) {
        (0, 0) => (Direction::None, Data::new(0, 0)),
        (0, from_disk) => (Direction::In, Data::new(at, from_disk.into())),
        (to_disk, _) => (Direction::Out, Data::new(at.wrapping_add(length as u64), to_disk.into())),
    };
    let (ended, used) = sat::execute(device, host, cdb, direction, data, 0);
    match ended {
        Outcome::Good => {
            if direction == Direction::In {
                // All of the buffer is the driver's, which had it zeroed.
                let mut rest = Data::new(at.wrapping_add(used), u64::from(from_disk).saturating_sub(used));
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
