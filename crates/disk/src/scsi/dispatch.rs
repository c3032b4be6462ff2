//! Finds the row of a command, checks the CDB and calls the command's handler.

use super::command::{Command, Needs, Operation, supported};
use super::sense::Sense;
use super::task::{CommandResult, ExecuteCommand, Outcome, Task};
use crate::device::{Capacity, Device};
use crate::errno::Errno;
use crate::host::Host;
use crate::medium::io::Error;
use crate::medium::read_capacity;

/// Carries out a command and returns its outcome and how many bytes were transferred. `translate`
/// carries out commands of another standard, whose CDB has been checked.
pub(crate) fn execute<H: Host>(
    device: &Device<'_>,
    host: &H,
    command: ExecuteCommand,
    translate: impl FnOnce(&mut Task<'_, H>) -> Option<CommandResult>,
) -> (Outcome, u64) {
    let ExecuteCommand { row, cdb, direction, data, timeout } = command;
    let (capacity, is_known) = match read_capacity(device, host, row.is_some_and(Command::is_frequent)) {
        Ok(capacity) => (capacity, true),
        // The descriptor cannot carry requests (O_PATH).
        Err(Errno::EBADF) => return (Outcome::CallerFault(Errno::EBADF), 0),
        Err(_) if row.is_some_and(|row| row.needs == Needs::Nothing) => (Capacity::new(0, 512), false),
        Err(errno) => return (Error::backing(errno).into(), 0),
    };
    let row = match supported(device, host, row, cdb[0]) {
        Ok(row) => row,
        Err(sense) => return (sense.into(), 0),
    };
    let mut task = Task { device, host, row, cdb, direction, data, timeout, capacity };
    match task.run(is_known, translate) {
        Ok(()) => (Outcome::Good, task.data.transferred()),
        Err(outcome) => (outcome, task.data.transferred()),
    }
}

impl<H: Host> Task<'_, H> {
    /// Carries the command out. `is_known`: the capacity is known, so that a unit attention can be
    /// reported.
    fn run(
        &mut self,
        is_known: bool,
        translate: impl FnOnce(&mut Self) -> Option<CommandResult>,
    ) -> CommandResult {
        let Command { operation, needs, reports_unit_attention, .. } = *self.row;
        let Capacity { blocks, block_size } = self.capacity;
        // A unit attention is reported once. A disk that has no blocks any more is not ready
        // instead.
        let before = match is_known && reports_unit_attention {
            true => self.device.nexus.update_capacity(blocks, block_size),
            false => None,
        };
        if let Some(before) = before.filter(|_| self.capacity.blocks > 0) {
            let sense =
                if before == 0 { Sense::NOT_READY_TO_READY_CHANGE } else { Sense::CAPACITY_DATA_HAS_CHANGED };
            return match operation {
                Operation::RequestSense => self.request_sense(sense),
                _ => Err(sense.into()),
            };
        }
        let wrong = self.row.reserved_bits(&self.cdb);
        if wrong != 0 {
            let before = wrong.leading_zeros();
            return Err(Sense::invalid_field_in_cdb((before / 8) as u16, Some(7 - (before % 8) as u8)).into());
        }
        if self.capacity.blocks == 0 && needs == Needs::Medium {
            return Err(Sense::MEDIUM_NOT_PRESENT.into());
        }
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
        }
    }
}
