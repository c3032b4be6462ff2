//! Finds the row of a command, checks the CDB and calls what carries the command out.

use super::command::{Operation, supported};
use super::sense::Sense;
use super::task::{Direction, Done, Outcome, Task};
use crate::device::{Capacity, Device};
use crate::errno::Errno;
use crate::host::Host;
use crate::medium::io::Error;
use crate::medium::read_capacity;
use crate::transfer::Data;

/// Carries out a command; the result is its outcome and how many bytes were moved. Bytes behind the CDB's end are 0; the timeout
/// is in milliseconds, 0 for none. `translate` carries out commands of another standard, whose CDB has been checked.
pub(crate) fn execute<H: Host>(
    device: &Device<'_>,
    host: &H,
    cdb: [u8; 16],
    direction: Direction,
    data: Data,
    timeout: u32,
    translate: impl FnOnce(&mut Task<'_, H>, Operation) -> Option<Done>,
) -> (Outcome, u64) {
    let (capacity, tells) = match read_capacity(device, host, MOVES_BLOCKS.contains(&cdb[0])) {
        Ok(capacity) => (capacity, true),
        // A descriptor that cannot carry requests.
        Err(Errno::EBADF) => return (Outcome::CallerFault(Errno::EBADF), 0),
        // Who the disk is can be said whatever has become of it.
        Err(_) if WITHOUT_DEVICE.contains(&cdb[0]) => (Capacity::new(0, 512), false),
        Err(errno) => return (Error::backing(errno).into(), 0),
    };
    let mut task = Task { device, host, cdb, direction, data, timeout, capacity };
    match task.run(tells, translate) {
        Ok(()) => (Outcome::Good, task.data.used()),
        Err(ended) => (ended, task.data.used()),
    }
}

/// INQUIRY, REQUEST SENSE and REPORT LUNS; and ATA PASS-THROUGH, whose commands look after the size themselves.
const WITHOUT_DEVICE: [u8; 5] = [0x12, 0x03, 0xa0, 0x85, 0xa1];

/// READ and WRITE.
const MOVES_BLOCKS: [u8; 8] = [0x08, 0x0a, 0x28, 0x2a, 0x88, 0x8a, 0xa8, 0xaa];

impl<H: Host> Task<'_, H> {
    /// Carries the command out; `tells`: it reports that the capacity has changed.
    fn run(&mut self, tells: bool, translate: impl FnOnce(&mut Self, Operation) -> Option<Done>) -> Done {
        let row = supported(self.device, self.host, self.byte(0), self.byte(1) & 0x1f)?;
        let operation = row.operation;
        let tells = tells && !matches!(operation, Operation::Inquiry | Operation::ReportLuns);
        // A unit attention is reported once; INQUIRY and REPORT LUNS neither report nor clear it (SAM-5, 5.14). That there are no
        // blocks is not reported so: the disk is not ready as long as that lasts.
        let before = if tells {
            self.device.nexus.update_capacity(self.capacity.blocks, self.capacity.block)
        } else {
            None
        };
        if let Some(before) = before.filter(|_| self.capacity.blocks > 0) {
            let sense =
                if before == 0 { Sense::NOT_READY_TO_READY_CHANGE } else { Sense::CAPACITY_DATA_HAS_CHANGED };
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
            return Err(Sense::MEDIUM_NOT_PRESENT.into());
        }
        if let Some(done) = translate(self, operation) {
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
