//! SANITIZE (SBC-3, 5.27) and FORMAT UNIT (SBC-3, 5.3). Both end when all is done, also with IMMED.

use super::command::Operation as Handler;
use super::sense::{Sense, Specific};
use super::task::{CommandResult, Outcome, Task, unreachable, wait_for_others};
use crate::bytes::part;
use crate::host::Host;
use crate::medium::io::{self, Error};
use crate::medium::{BlockRange, is_thin};
use crate::operation::{Kind, Operation, State};
use crate::reservation::Tolerates;
use crate::shared::Shared;

/// Service actions of SANITIZE.
const OVERWRITE: u8 = 0x01;
const BLOCK_ERASE: u8 = 0x02;

/// SANITIZE, byte 1.
const AUSE: u8 = 0x20;

/// FORMAT UNIT, byte 1.
const LONGLIST: u8 = 0x20;
const FMTDATA: u8 = 0x10;
const CMPLST: u8 = 0x08;

/// The header of FORMAT UNIT's parameter list, byte 1: FOV, those bits that it makes valid, and those
/// that mean nothing to the disk.
const FOV: u8 = 0x80;
const DPRY_DCRT_STPF_IP: u8 = 0x78;
const IP: u8 = 0x08;
const RESERVED: u8 = 0x05;

/// How many bytes are written, or deallocated, before the progress is counted.
const WRITTEN: u64 = 4 << 20;
const DEALLOCATED: u64 = 1 << 30;

impl<H: Host> Task<'_, H> {
    /// Fails while an operation is in progress or after it has failed, unless the command is carried out
    /// nevertheless.
    pub(super) fn check_operation(&self) -> CommandResult {
        if matches!(self.row.operation, Handler::Inquiry | Handler::ReportLuns) {
            return Ok(());
        }
        let Some((kind, state)) = self.host.look(|shared| shared.operation.current()).map_err(unreachable)?
        else {
            return Ok(());
        };
        // After a failure, what tells nothing of the medium's data, and what ends the failure.
        let after_failure = match self.row.operation {
            Handler::ModeSense
            | Handler::LogSense
            | Handler::ReadCapacity10
            | Handler::ReadCapacity16
            | Handler::ReportOperationCodes
            | Handler::ReportTaskManagement
            | Handler::ReportTargetPortGroups
            | Handler::PersistentReserveIn
            | Handler::PersistentReserveOut
            | Handler::Reserve
            | Handler::Release
            | Handler::Sanitize => true,
            Handler::FormatUnit => kind == Kind::Format,
            _ => false,
        };
        if after_failure && state == State::Failed { Ok(()) } else { Err(refusal(kind, state).into()) }
    }

    pub(super) fn sanitize(&mut self) -> CommandResult {
        let kind = Kind::Sanitize { is_restricted: self.byte(1) & AUSE == 0 };
        let before = self.host.look(|shared| shared.operation.current()).map_err(unreachable)?;
        let is_locked = matches!(before, Some((Kind::Sanitize { is_restricted: true }, State::Failed)));
        match self.byte(1) & 0x1f {
            OVERWRITE | BLOCK_ERASE => {}
            _ if is_locked => return Err(Sense::invalid_field_in_cdb(1, Some(4)).into()),
            // EXIT FAILURE MODE
            _ => {
                return self.host.change(|shared| shared.operation.exit_failure_mode()).map_err(unreachable);
            }
        }
        self.check_writable()?;
        if is_locked && kind != (Kind::Sanitize { is_restricted: true }) {
            return Err(Sense::invalid_field_in_cdb(1, Some(5)).into());
        }
        if self.byte(1) & 0x1f == OVERWRITE {
            return self.overwrite(kind);
        }
        self.operate(kind, 1, DEALLOCATED, |host, range, _| io::discard(host, range))
    }

    fn overwrite(&mut self, kind: Kind) -> CommandResult {
        let block = self.capacity.block_size as usize;
        let length = self.parameter_list_length();
        if length <= 4 || length - 4 > block {
            return Err(Sense::invalid_field_in_cdb(7, Some(7)).into());
        }
        self.check_data_length(length as u64)?;
        let mut header = [0; 4];
        self.receive(&mut header)?;
        let [flags, reserved, ..] = header;
        let (invert, test, passes) = (flags & 0x80 != 0, flags & 0x60, u32::from(flags & 0x1f));
        if test != 0 {
            return Err(Sense::invalid_field_in_parameter_list(0, Some(6)).into());
        }
        if passes == 0 {
            return Err(Sense::invalid_field_in_parameter_list(0, Some(4)).into());
        }
        if reserved != 0 {
            return Err(Sense::invalid_field_in_parameter_list(1, Some(7)).into());
        }
        let pattern_length = usize::from(u16::from_be_bytes(part(&header, 2)));
        if pattern_length == 0 || pattern_length > length - 4 {
            return Err(Sense::invalid_field_in_parameter_list(2, Some(7)).into());
        }
        let mut pattern = self.pattern(pattern_length)?;
        let pattern = pattern.as_mut().get_mut(..block).unwrap_or_default();
        let mut inverted = self.host.bounce_buffer(block).map_err(Error::backing)?;
        let inverted = inverted.as_mut().get_mut(..block).unwrap_or_default();
        inverted.iter_mut().zip(pattern.iter()).for_each(|(to, from)| *to = !from);
        // The last pass writes the pattern itself.
        let (pattern, inverted) = (&*pattern, &*inverted);
        self.operate(kind, passes, WRITTEN, |host, range, pass| {
            let is_inverted = invert && (passes - pass) % 2 == 1;
            io::write_same(host, range, if is_inverted { inverted } else { pattern })
        })
    }

    /// Handles FORMAT UNIT: the geometry stays, there are no defects and no protection information. All
    /// blocks are filled with the initialization pattern, by default zeros.
    pub(super) fn format_unit(&mut self) -> CommandResult {
        let flags = self.byte(1);
        if flags & 0x07 != 0 {
            return Err(Sense::invalid_field_in_cdb(1, Some(2)).into());
        }
        if flags & (FMTDATA | CMPLST) == CMPLST {
            return Err(Sense::invalid_field_in_cdb(1, Some(3)).into());
        }
        self.check_writable()?;
        if flags & FMTDATA == 0 {
            return self.format(None);
        }
        let mut header = [0; 8];
        let length = if flags & LONGLIST != 0 { 8 } else { 4 };
        self.check_data_length(length)?;
        self.receive(header.get_mut(..length as usize).unwrap_or_default())?;
        let [protection, options, ..] = header;
        let wrong = |byte: u16, bit| Err(Sense::invalid_field_in_parameter_list(byte, bit).into());
        if protection != 0 {
            return wrong(0, Some(protection.ilog2() as u8));
        }
        let refused = if options & FOV != 0 { RESERVED } else { RESERVED | DPRY_DCRT_STPF_IP };
        if let Some(bit) = (options & refused).checked_ilog2() {
            return wrong(1, Some(bit as u8));
        }
        // Of the long header: reserved, P_I_INFORMATION and PROTECTION INTERVAL EXPONENT. DEFECT LIST
        // LENGTH is at the end of both.
        let [_, _, a, b, defects @ ..] = header;
        let is_long = length == 8;
        if is_long && a != 0 {
            return wrong(2, Some(7));
        }
        if is_long && b != 0 {
            return wrong(3, Some(7));
        }
        if if is_long { defects != [0; 4] } else { [a, b] != [0; 2] } {
            return wrong(if is_long { 4 } else { 2 }, Some(7));
        }
        if options & IP == 0 {
            return self.format(None);
        }
        let at = length as u16;
        let mut descriptor = [0; 4];
        self.check_data_length(4)?;
        self.receive(&mut descriptor)?;
        let [security, pattern_type, ..] = descriptor;
        let pattern_length = u16::from_be_bytes(part(&descriptor, 2));
        if security != 0 {
            return wrong(at, Some(security.ilog2() as u8));
        }
        match (pattern_type, pattern_length) {
            (0, 0) => self.format(None),
            (1, 1..) if u32::from(pattern_length) <= self.capacity.block_size => {
                self.check_data_length(pattern_length.into())?;
                let mut pattern = self.pattern(pattern_length.into())?;
                let block = self.capacity.block_size as usize;
                self.format(Some(pattern.as_mut().get(..block).unwrap_or_default()))
            }
            (0 | 1, _) => wrong(at + 2, Some(7)),
            _ => wrong(at + 1, Some(7)),
        }
    }

    fn format(&mut self, pattern: Option<&[u8]>) -> CommandResult {
        let thin = is_thin(self.host);
        let piece = if pattern.is_none() && thin { DEALLOCATED } else { WRITTEN };
        self.operate(Kind::Format, 1, piece, |host, range, _| match pattern {
            Some(block) => io::write_same(host, range, block),
            None if thin => io::discard(host, range),
            None => io::zero(host, range),
        })
    }

    fn receive(&mut self, bytes: &mut [u8]) -> CommandResult {
        self.data.copy_in(self.host, bytes).map_err(Outcome::CallerFault)
    }

    /// Receives an initialization pattern, and returns a block that is filled with it.
    fn pattern(&mut self, length: usize) -> Result<H::BounceBuffer, Outcome> {
        let block = self.capacity.block_size as usize;
        let mut buffer = self.host.bounce_buffer(block).map_err(Error::backing)?;
        let (first, rest) = buffer
            .as_mut()
            .get_mut(..block)
            .and_then(|block| block.split_at_mut_checked(length))
            .ok_or(Sense::INTERNAL_TARGET_FAILURE)?;
        self.receive(first)?;
        io::repeat(first, rest);
        Ok(buffer)
    }

    /// Carries an operation out on all blocks, in so many passes and in pieces of so many bytes, and
    /// writes the cache to the medium after each pass. Meanwhile other commands find it in progress.
    fn operate(
        &mut self,
        kind: Kind,
        passes: u32,
        piece: u64,
        work: impl Fn(&H, BlockRange, u32) -> Result<(), Error>,
    ) -> CommandResult {
        let (host, nexus) = (self.host, self.device.nexus.number);
        // Others do not wait for this command any more once it waits for theirs: from then on no reservation
        // can change, and until now one can have.
        let before = host.change(|Shared { reservations, operation, .. }| -> Result<_, Outcome> {
            check_not_in_progress(operation)?;
            reservations.check_no_conflict(nexus, Tolerates::Nothing)?;
            Ok(operation.begin(nexus, kind))
        });
        let before = before.map_err(unreachable)??;
        let cancel = |outcome: Outcome| {
            host.change(|shared| shared.operation.end(nexus, before)).map_err(unreachable)?;
            Err(outcome)
        };
        // What others have begun might write behind it.
        if let Err(outcome) = wait_for_others(host, self.timeout) {
            return cancel(outcome);
        }
        let blocks = self.capacity.blocks;
        let block_size = self.capacity.block_size;
        let most = piece.checked_div(block_size.into()).unwrap_or(0).max(1);
        let total = blocks.saturating_mul(passes.into());
        // The product below fits.
        let shift = (u64::BITS - total.leading_zeros()).saturating_sub(48);
        let mut done = 0u64;
        for pass in 1..=passes {
            let mut lba = 0;
            while lba < blocks {
                let range = BlockRange { lba, blocks: (blocks - lba).min(most), block_size };
                match work(host, range, pass) {
                    Ok(()) => {}
                    // Nothing has been changed.
                    Err(error) if done == 0 && !matches!(error, Error::Write(_) | Error::NoSpace) => {
                        return cancel(error.into());
                    }
                    Err(_) => return self.fail(kind),
                }
                lba = lba.saturating_add(range.blocks);
                done = done.saturating_add(range.blocks);
                let progress =
                    u16::try_from(((done >> shift) << 16).checked_div(total >> shift).unwrap_or(0))
                        .unwrap_or(u16::MAX);
                let goes_on = host.change(|shared| shared.operation.advance(nexus, progress));
                // The nexus has been lost.
                if goes_on != Ok(true) {
                    return self.fail(kind);
                }
            }
            if io::sync(host).is_err() {
                return self.fail(kind);
            }
        }
        host.change(|shared| shared.operation.end(nexus, Operation::default())).map_err(unreachable)
    }

    fn fail(&self, kind: Kind) -> CommandResult {
        let nexus = self.device.nexus.number;
        self.host.change(|shared| shared.operation.fail(nexus)).map_err(unreachable)?;
        Err(match kind {
            Kind::Sanitize { .. } => Sense::SANITIZE_COMMAND_FAILED,
            Kind::Format => Sense::FORMAT_COMMAND_FAILED,
        }
        .into())
    }
}

/// Fails while an operation is in progress.
pub(super) fn check_not_in_progress(operation: &Operation) -> CommandResult {
    match operation.current() {
        Some((kind, state @ State::InProgress(_))) => Err(refusal(kind, state).into()),
        _ => Ok(()),
    }
}

/// Fails while an operation is in progress or after it has failed.
pub(super) fn check_medium(operation: &Operation) -> CommandResult {
    operation.current().map_or(Ok(()), |(kind, state)| Err(refusal(kind, state).into()))
}

fn refusal(kind: Kind, state: State) -> Sense {
    match state {
        State::Failed => failed(kind),
        State::InProgress(progress) => in_progress(kind, progress),
    }
}

/// Returns what commands end with after an operation has failed.
fn failed(kind: Kind) -> Sense {
    match kind {
        Kind::Sanitize { .. } => Sense::SANITIZE_COMMAND_FAILED,
        Kind::Format => Sense::MEDIUM_FORMAT_CORRUPTED,
    }
}

/// Returns what commands end with while an operation is in progress.
fn in_progress(kind: Kind, progress: u16) -> Sense {
    let sense = match kind {
        Kind::Sanitize { .. } => Sense::SANITIZE_IN_PROGRESS,
        Kind::Format => Sense::FORMAT_IN_PROGRESS,
    };
    sense.with(Specific::Progress(progress))
}
