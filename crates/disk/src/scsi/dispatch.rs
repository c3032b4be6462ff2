//! Finds the row of a command, checks the CDB and calls the command's handler.

use super::command::{Command, Needs, Operation, has_reservations, supported};
use super::sense::Sense;
use super::task::{CommandResult, ExecuteCommand, Outcome, Task};
use crate::device::{Capacity, Device};
use crate::errno::Errno;
use crate::host::Host;
use crate::medium::io::Error;
use crate::medium::{cached_capacity, read_capacity};

/// Carries out a command and returns its outcome and how many bytes were transferred. `translate`
/// carries out commands of another standard, whose CDB has been checked.
pub(crate) fn execute<H: Host>(
    device: &Device<'_>,
    host: &H,
    command: ExecuteCommand,
    translate: impl FnOnce(&mut Task<'_, H>) -> Option<CommandResult>,
) -> (Outcome, u64) {
    let row = command.row;
    let (capacity, is_known) = match read_capacity(device, host, row.is_some_and(Command::is_frequent)) {
        Ok(capacity) => (capacity, true),
        // The descriptor cannot carry requests (O_PATH).
        Err(Errno::EBADF) => return (Outcome::CallerFault(Errno::EBADF), 0),
        Err(_) if row.is_some_and(|row| row.needs == Needs::Nothing) => (Capacity::new(0, 512), false),
        Err(errno) => return (Error::backing(errno).into(), 0),
    };
    let row = match supported(device, host, row, command.cdb[0]) {
        Ok(row) => row,
        Err(sense) => return (sense.into(), 0),
    };
    let mut task = Task::new(device, host, row, command, capacity);
    let result = task.run(is_known, translate);
    task.outcome(result)
}

/// Carries out READ or WRITE, as [`execute`], if one direct transfer is enough. Else, or if there
/// is anything to report first, `None`: then at most a part of the data has been transferred, and
/// [`execute`] can carry the command out from the start.
// Not inlined: other commands do not need its stack.
#[inline(never)]
pub(crate) fn read_or_write<H: Host>(
    device: &Device<'_>,
    host: &H,
    command: ExecuteCommand,
) -> Option<(Outcome, u64)> {
    // A reservation or an operation of another nexus would have to be looked at.
    let row = command.row.filter(|row| row.is_frequent() && !has_reservations(device, host))?;
    let capacity = cached_capacity(device, host, host.bytes().ok()?)?;
    let mut task = Task::new(device, host, row, command, capacity);
    if !device.nexus.is_current(capacity.blocks, capacity.block_size) || task.check_cdb().is_err() {
        return None;
    }
    match task.transfer_directly() {
        Ok(false) => None,
        result => Some(task.outcome(result.map(drop))),
    }
}

impl<H: Host> Task<'_, H> {
    /// Returns the pending unit attention, which is reported once. A disk that has no blocks any
    /// more is not ready instead.
    #[inline]
    fn unit_attention(&self) -> Option<Sense> {
        let Capacity { blocks, block_size } = self.capacity;
        let before = self.device.nexus.update_capacity(blocks, block_size).filter(|_| blocks > 0)?;
        Some(if before == 0 { Sense::NOT_READY_TO_READY_CHANGE } else { Sense::CAPACITY_DATA_HAS_CHANGED })
    }

    /// Checks that the CDB has no reserved bits, and that there is a medium if the command needs one.
    #[inline]
    fn check_cdb(&self) -> CommandResult {
        let wrong = self.row.reserved_bits(&self.cdb);
        if wrong != 0 {
            let before = wrong.leading_zeros();
            return Err(Sense::invalid_field_in_cdb((before / 8) as u16, Some(7 - (before % 8) as u8)).into());
        }
        if self.capacity.blocks == 0 && self.row.needs == Needs::Medium {
            return Err(Sense::MEDIUM_NOT_PRESENT.into());
        }
        Ok(())
    }

    /// Carries the command out. `is_known`: the capacity is known, so that a unit attention can be
    /// reported.
    fn run(
        &mut self,
        is_known: bool,
        translate: impl FnOnce(&mut Self) -> Option<CommandResult>,
    ) -> CommandResult {
        let Command { operation, reports_unit_attention, .. } = *self.row;
        let attention = if is_known && reports_unit_attention { self.unit_attention() } else { None };
        let ready = match attention {
            Some(sense) => Err(sense.into()),
            None if has_reservations(self.device, self.host) => self.check_shared(),
            None => Ok(()),
        };
        match ready {
            Err(Outcome::CheckCondition(sense)) if operation == Operation::RequestSense => {
                return self.request_sense(sense);
            }
            ready => ready?,
        }
        self.check_cdb()?;
        if let Some(done) = translate(self) {
            return done;
        }
        match operation {
            Operation::Ready | Operation::PreventAllow | Operation::Reposition => Ok(()),
            Operation::RequestSense => self.request_sense(Sense::NO_SENSE),
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
            Operation::AtaPassThrough => Err(Sense::INVALID_COMMAND_OPERATION_CODE.into()),
            Operation::Reserve
            | Operation::Release
            | Operation::PersistentReserveIn
            | Operation::PersistentReserveOut
            | Operation::ExtendedCopy
            | Operation::ReceiveCopyStatus
            | Operation::ReceiveCopyParameters
            | Operation::ReadBuffer
            | Operation::WriteBuffer
            | Operation::Sanitize
            | Operation::FormatUnit => self.shared_command(),
        }
    }

    /// Carries out a command that exists only where the engine knows all I_T nexuses.
    fn shared_command(&mut self) -> CommandResult {
        if !has_reservations(self.device, self.host) {
            return Err(Sense::INVALID_COMMAND_OPERATION_CODE.into());
        }
        match self.row.operation {
            Operation::ExtendedCopy | Operation::ReceiveCopyStatus | Operation::ReceiveCopyParameters => {
                self.copy_command()
            }
            Operation::ReadBuffer => self.read_buffer(),
            Operation::WriteBuffer => self.write_buffer(),
            Operation::Sanitize => self.sanitize(),
            Operation::FormatUnit => self.format_unit(),
            _ => self.reservation_command(),
        }
    }
}
