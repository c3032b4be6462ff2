//! A SCSI disk: a direct access block device (SPC-4, SBC-3) on the backing device.

mod block;
pub mod command;
pub mod data;
mod inquiry;
pub mod mode;
mod report;
mod response;
pub mod sat;
pub mod sense;

use command::{Command, Operation};
use data::Data;
use response::Response;
use sense::Sense;

use crate::entry::Kind;
use crate::{Capacity, Device, Errno, Host, Limit};

/// Which way the caller lets data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// No data.
    None,
    /// To the disk.
    Out,
    /// From the disk.
    In,
    /// Either way.
    Both,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// GOOD
    Good,
    /// CHECK CONDITION
    Check(Sense),
    /// BUSY: there was no memory.
    Busy,
    /// The host adapter saw another amount of data than there is room for (`DID_ERROR`); nothing was moved.
    Overrun,
    /// The device is gone (`DID_NO_CONNECT`).
    Gone,
    /// The caller's memory is bad: the request itself fails.
    Failed(Errno),
}

impl From<Sense> for Ended {
    fn from(sense: Sense) -> Ended {
        Ended::Check(sense)
    }
}

/// A command that is carried out.
pub(crate) struct Task<'a, H: Host> {
    device: &'a Device<'a>,
    host: &'a H,
    cdb: [u8; 16],
    direction: Direction,
    data: Data,
    /// The caller's timeout in milliseconds; 0: none.
    timeout: u32,
    /// The device's size when the command began.
    capacity: Capacity,
}

pub(crate) type Done = Result<(), Ended>;

/// Carries out a command; the result says how it ended and how many bytes were moved. Bytes behind the CDB's end are 0;
/// the timeout is in milliseconds, 0 for none.
pub(crate) fn execute<H: Host>(
    device: &Device<'_>,
    host: &H,
    cdb: [u8; 16],
    direction: Direction,
    data: Data,
    timeout: u32,
) -> (Ended, u64) {
    let (capacity, tells) = match size(device, host, MOVES_BLOCKS.contains(&cdb[0])) {
        Ok(capacity) => (capacity, true),
        // A descriptor that cannot carry requests.
        Err(Errno::EBADF) => return (Ended::Failed(Errno::EBADF), 0),
        // Who the disk is can be said whatever has become of it.
        Err(_) if WITHOUT_DEVICE.contains(&cdb[0]) => (Capacity::new(0, 512), false),
        Err(errno) => return (lost(errno), 0),
    };
    let mut task = Task { device, host, cdb, direction, data, timeout, capacity };
    match task.run(tells) {
        Ok(()) => (Ended::Good, task.data.used()),
        Err(ended) => (ended, task.data.used()),
    }
}

/// Carries out a command for one of another set that does the same, and tells nobody that the device has another size.
pub(crate) fn translated<H: Host>(
    device: &Device<'_>,
    host: &H,
    capacity: Capacity,
    cdb: [u8; 16],
    direction: Direction,
    data: &mut Data,
) -> Done {
    let mut task = Task { device, host, cdb, direction, data: *data, timeout: 0, capacity };
    let done = task.run(false);
    *data = task.data;
    done
}

/// INQUIRY, REQUEST SENSE and REPORT LUNS; and ATA PASS-THROUGH, whose commands look after the size themselves.
const WITHOUT_DEVICE: [u8; 5] = [0x12, 0x03, 0xa0, 0x85, 0xa1];

/// READ and WRITE.
const MOVES_BLOCKS: [u8; 8] = [0x08, 0x0a, 0x28, 0x2a, 0x88, 0x8a, 0xa8, 0xaa];

/// The device's size at this moment. Commands that move blocks, which are frequent, use the size of a logical block that the
/// last other command found, as long as the device and its size in bytes are the same.
pub(crate) fn size(device: &Device<'_>, host: &impl Host, moves_blocks: bool) -> Result<Capacity, Errno> {
    let (identity, bytes) = (host.identity(), host.limit(Limit::Bytes)?);
    let known = device.state.block_of(identity, bytes);
    if let Some(block) = known.filter(|_| moves_blocks) {
        return Ok(Capacity::new(bytes, block));
    }
    let block = device.logical_block(host)?;
    if known != Some(block) {
        device.state.remember_block(identity, bytes, block);
    }
    Ok(Capacity::new(bytes, block))
}

/// The row of a CDB, where the disk has it.
fn row(
    device: &Device<'_>,
    host: &impl Host,
    operation_code: u8,
    action: u8,
) -> Result<&'static Command, Ended> {
    match command::find(operation_code, action) {
        Some(command) if has(device, host, command.operation) => Ok(command),
        // The service action is wrong where there are others.
        _ if rows(device, host, operation_code).any(|row| row.service_action) => {
            Err(Sense::cdb(1, Some(4)).into())
        }
        _ => Err(Sense::OPERATION_CODE.into()),
    }
}

/// The rows of an operation code that the disk has.
fn rows(device: &Device<'_>, host: &impl Host, operation_code: u8) -> impl Iterator<Item = &'static Command> {
    let all = command::COMMANDS.iter().filter(move |row| row.operation_code() == operation_code);
    all.filter(move |row| has(device, host, row.operation))
}

/// Whether the disk has a command that not every disk has.
fn has(device: &Device<'_>, host: &impl Host, operation: Operation) -> bool {
    match operation {
        Operation::Unmap => is_thin(host),
        Operation::AtaPassThrough | Operation::Reposition => device.entry.kind == Kind::Sata,
        Operation::WriteAtomic => inquiry::atomic_blocks(device, host).is_some(),
        // libata has no target ports.
        Operation::ReportTargetPortGroups | Operation::SetTargetPortGroups => device.entry.kind == Kind::Scsi,
        _ => true,
    }
}

pub(crate) fn is_thin(host: &impl Host) -> bool {
    host.provisioning().is_ok_and(|provisioning| provisioning.is_thin)
}

/// What an error of the backing device means, at a logical block.
pub(crate) fn failed(errno: Errno, block: u64, writing: bool) -> Ended {
    match errno {
        Errno::ENOSPC | Errno::EDQUOT => Sense::NO_SPACE.into(),
        // The program's limit of a file's size (RLIMIT_FSIZE).
        Errno::EFBIG if writing => Sense::NO_SPACE.into(),
        Errno::EROFS | Errno::EPERM | Errno::EACCES | Errno::EBADF if writing => Sense::PROTECTED.into(),
        Errno::ENOMEM | Errno::EAGAIN | Errno::ENFILE | Errno::EMFILE => Ended::Busy,
        Errno::ENODEV | Errno::ENXIO => Ended::Gone,
        Errno::EFAULT => Ended::Failed(Errno::EFAULT),
        // The medium is not to blame, and may be sound.
        Errno::EPERM | Errno::EACCES | Errno::EBADF => Sense::NO_ACCESS.into(),
        _ if writing => Sense::WRITE_ERROR.at(block).into(),
        _ => Sense::READ_ERROR.at(block).into(),
    }
}

/// What an error means where no block is concerned.
pub(crate) fn lost(errno: Errno) -> Ended {
    match failed(errno, 0, false) {
        Ended::Check(_) => Sense::INTERNAL.into(),
        ended => ended,
    }
}

/// Whether nothing may be written.
pub(crate) fn is_protected(device: &Device<'_>, host: &impl Host) -> Result<bool, Ended> {
    Ok(device.state.switches.is_on(mode::SWP) || device.read_only(host).map_err(lost)?)
}

/// What an error means when a cache is written to the medium: nobody knows of which block.
fn unsettled(errno: Errno) -> Ended {
    match failed(errno, 0, true) {
        Ended::Check(sense) => Sense { information: None, ..sense }.into(),
        ended => ended,
    }
}

impl<H: Host> Task<'_, H> {
    /// Carries the command out; `tells`: it reports that the capacity has changed.
    fn run(&mut self, tells: bool) -> Done {
        let row = row(self.device, self.host, self.byte(0), self.byte(1) & 0x1f)?;
        let operation = row.operation;
        let tells = tells && !matches!(operation, Operation::Inquiry | Operation::ReportLuns);
        // A unit attention is reported once; INQUIRY and REPORT LUNS neither report nor clear it (SAM-5, 5.14). That there are no
        // blocks is not reported so: the disk is not ready as long as that lasts.
        let before = if tells { self.device.state.changed(self.capacity) } else { None };
        if let Some(before) = before.filter(|_| self.capacity.blocks > 0) {
            let sense = if before == 0 { Sense::BECAME_READY } else { Sense::CAPACITY_CHANGED };
            return match operation {
                Operation::RequestSense => self.request_sense(sense),
                _ => Err(sense.into()),
            };
        }
        let wrong = u128::from_be_bytes(self.cdb) & !row.used_bits();
        if wrong != 0 {
            let before = wrong.leading_zeros();
            return Err(Sense::cdb((before / 8) as u16, Some(7 - (before % 8) as u8)).into());
        }
        if self.capacity.blocks == 0 && operation.needs_medium() {
            return Err(Sense::NO_MEDIUM.into());
        }
        match operation {
            Operation::Ready | Operation::PreventAllow | Operation::Reposition => Ok(()),
            Operation::RequestSense => self.request_sense(Sense::NONE),
            Operation::Inquiry => self.inquiry(),
            Operation::ModeSense => self.mode_sense(),
            Operation::ModeSelect => self.mode_select(),
            Operation::LogSense => self.log_sense(),
            Operation::StartStop => self.start_stop(),
            Operation::SendDiagnostic => self.send_diagnostic(),
            Operation::ReadCapacity10 => self.read_capacity_10(),
            Operation::ReadCapacity16 => self.read_capacity_16(),
            Operation::Read => self.read(),
            Operation::Write => self.write(),
            Operation::WriteAtomic => self.write_atomic(),
            Operation::WriteAndVerify => self.write_and_verify(),
            Operation::Verify => self.verify(),
            Operation::Seek => self.seek(),
            Operation::PreFetch => self.range().map(drop),
            Operation::SynchronizeCache => self.synchronize_cache(),
            Operation::ReadDefectData => self.read_defect_data(),
            Operation::WriteSame => self.write_same(),
            Operation::Unmap => self.unmap(),
            Operation::CompareAndWrite => self.compare_and_write(),
            Operation::OrWrite => self.or_write(),
            Operation::GetLbaStatus => self.get_lba_status(),
            Operation::ReportLuns => self.report_luns(),
            Operation::ReportTargetPortGroups => self.report_target_port_groups(),
            Operation::SetTargetPortGroups => self.set_target_port_groups(),
            Operation::ReportOperationCodes => self.report_operation_codes(),
            Operation::ReportTaskManagement => self.report_task_management(),
            Operation::AtaPassThrough => self.ata_pass_through(),
        }
    }

    fn is_protected(&self) -> Result<bool, Ended> {
        is_protected(self.device, self.host)
    }

    /// A byte of the CDB.
    fn byte(&self, at: usize) -> u8 {
        self.cdb.get(at).copied().unwrap_or(0)
    }

    /// A big-endian number of the CDB, of 2 bytes.
    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.byte(at), self.byte(at.saturating_add(1))])
    }

    /// A big-endian number of the CDB, of 4 bytes.
    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) << 16 | u32::from(self.u16(at.saturating_add(2)))
    }

    /// A big-endian number of the CDB, of 8 bytes.
    fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) << 32 | u64::from(self.u32(at.saturating_add(4)))
    }

    /// Gives the caller a response, cut at the allocation length of the CDB.
    fn give(&mut self, response: &Response, allocation_length: u32) -> Done {
        let bytes = response.bytes();
        let most = usize::try_from(allocation_length).unwrap_or(usize::MAX);
        let given = bytes.get(..most).unwrap_or(bytes);
        if given.is_empty() {
            return Ok(());
        }
        self.expect(Direction::In, 1)?;
        self.data.put(self.host, given).map_err(Ended::Failed)
    }

    /// Checks that the caller has room, or data, for so many bytes.
    fn expect(&self, direction: Direction, bytes: u64) -> Done {
        let way = self.direction == direction || self.direction == Direction::Both;
        if bytes == 0 || way && self.data.left() >= bytes { Ok(()) } else { Err(Ended::Overrun) }
    }

    /// Takes the caller's parameter list.
    fn take<'b>(&mut self, list: &'b mut [u8], length: usize) -> Result<&'b [u8], Ended> {
        let list = list.get_mut(..length).ok_or(Sense::LIST_LENGTH)?;
        self.expect(Direction::Out, length as u64)?;
        self.data.get(self.host, list).map_err(Ended::Failed)?;
        Ok(list)
    }
}
