//! A command while it is carried out, and its outcome.

use super::command::{Command, DataPhase};
use super::response::Response;
use super::sense::Sense;
use crate::device::{Capacity, Device};
use crate::errno::Errno;
use crate::host::Host;
use crate::medium;
use crate::medium::io::Error;
use crate::transfer::DataBuffer;

/// The direction of the caller's data buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// No data.
    None,
    /// To the disk.
    Out,
    /// From the disk.
    In,
    /// Both: the command decides.
    Both,
}

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// GOOD
    Good,
    /// CHECK CONDITION
    CheckCondition(Sense),
    /// BUSY: there is no memory.
    Busy,
    /// RESERVATION CONFLICT
    ReservationConflict,
    /// The data length does not match (`DID_ERROR`); no data was transferred.
    LengthMismatch,
    /// The backing device is gone (`DID_NO_CONNECT`).
    NoConnect,
    /// The request itself fails: the caller's memory or its descriptor is bad, or the caller is
    /// gone.
    CallerFault(Errno),
}

impl From<Sense> for Outcome {
    fn from(sense: Sense) -> Outcome {
        Outcome::CheckCondition(sense)
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Outcome {
        match error {
            Error::Read(lba) => Sense::UNRECOVERED_READ_ERROR.with_information(lba).into(),
            Error::Write(lba) => Sense::WRITE_ERROR.with_information(lba).into(),
            Error::Flush => Sense::WRITE_ERROR.into(),
            Error::Miscompare(lba) => Sense::MISCOMPARE_DURING_VERIFY_OPERATION.with_information(lba).into(),
            Error::NoSpace => Sense::SPACE_ALLOCATION_FAILED_WRITE_PROTECT.into(),
            Error::WriteProtected => Sense::WRITE_PROTECTED.into(),
            Error::AccessDenied => Sense::ACCESS_DENIED_NO_ACCESS_RIGHTS.into(),
            Error::Internal => Sense::INTERNAL_TARGET_FAILURE.into(),
            Error::NoMemory => Outcome::Busy,
            Error::Gone => Outcome::NoConnect,
            Error::CallerFault(errno) => Outcome::CallerFault(errno),
        }
    }
}

/// Returns what follows if what the nexuses share cannot be reached: nothing is granted.
pub(crate) fn unreachable(_: Errno) -> Outcome {
    Sense::NOT_READY_CAUSE_NOT_REPORTABLE.into()
}

/// Waits for the end of the other commands that have begun; BUSY when the timeout has passed (0: none).
pub(super) fn wait_for_others(host: &impl Host, timeout_ms: u32) -> CommandResult {
    host.wait_for_others(timeout_ms).map_err(|errno| match errno {
        Errno::CALLER_GONE => Outcome::CallerFault(errno),
        _ => Outcome::Busy,
    })
}

/// The arguments of a command (SAM-5, 5.1, the Execute Command procedure call).
pub(crate) struct ExecuteCommand {
    /// The row of the CDB, if it is in the table.
    pub(crate) row: Option<&'static Command>,
    /// The CDB; bytes after its end are 0.
    pub(crate) cdb: [u8; 16],
    pub(crate) direction: Direction,
    pub(crate) data: DataBuffer,
    /// The caller's timeout in milliseconds; 0: none.
    pub(crate) timeout: u32,
}

/// A command while it is carried out.
pub(crate) struct Task<'a, H: Host> {
    pub(crate) device: &'a Device<'a>,
    pub(crate) host: &'a H,
    /// The row of its command.
    pub(crate) row: &'static Command,
    pub(crate) cdb: [u8; 16],
    pub(crate) direction: Direction,
    pub(crate) data: DataBuffer,
    /// The caller's timeout in milliseconds; 0: none.
    pub(crate) timeout: u32,
    /// The capacity when the command began.
    pub(crate) capacity: Capacity,
}

/// What a handler returns.
pub(crate) type CommandResult = Result<(), Outcome>;

impl<'a, H: Host> Task<'a, H> {
    /// Begins a command.
    #[inline]
    pub(super) fn new(
        device: &'a Device<'a>,
        host: &'a H,
        row: &'static Command,
        command: ExecuteCommand,
        capacity: Capacity,
    ) -> Task<'a, H> {
        let ExecuteCommand { cdb, direction, data, timeout, .. } = command;
        Task { device, host, row, cdb, direction, data, timeout, capacity }
    }

    /// Returns the outcome of the command, and how many bytes were transferred.
    #[inline]
    pub(super) fn outcome(&self, result: CommandResult) -> (Outcome, u64) {
        (result.err().unwrap_or(Outcome::Good), self.data.transferred())
    }
}

impl<H: Host> Task<'_, H> {
    pub(crate) fn is_protected(&self) -> Result<bool, Outcome> {
        Ok(medium::is_protected(self.device, self.host).map_err(Error::backing)?)
    }

    /// Returns a byte of the CDB.
    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.cdb.get(at).copied().unwrap_or(0)
    }

    /// Returns two bytes of the CDB, big-endian.
    pub(crate) fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.byte(at), self.byte(at.saturating_add(1))])
    }

    /// Returns four bytes of the CDB, big-endian.
    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) << 16 | u32::from(self.u16(at.saturating_add(2)))
    }

    /// Returns eight bytes of the CDB, big-endian.
    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) << 32 | u64::from(self.u32(at.saturating_add(4)))
    }

    /// Returns the allocation length; no limit for a CDB without one.
    pub(crate) fn allocation_length(&self) -> u64 {
        match self.row.data {
            DataPhase::In(Some(length)) => self.row.value(length, &self.cdb),
            _ => u64::MAX,
        }
    }

    /// Returns the parameter list length; 0 for a CDB without one.
    pub(crate) fn parameter_list_length(&self) -> usize {
        match self.row.data {
            DataPhase::Out(Some(length)) => self.row.value(length, &self.cdb) as usize,
            _ => 0,
        }
    }

    /// Sends parameter data to the caller, cut at the allocation length.
    pub(crate) fn send_data_in(&mut self, response: &Response) -> CommandResult {
        let mut left = usize::try_from(self.allocation_length()).unwrap_or(usize::MAX);
        self.send_part(response.bytes(), &mut left)
    }

    /// Sends parameter data that follow others, cut at what is `left` of the allocation length.
    pub(crate) fn send_part(&mut self, bytes: &[u8], left: &mut usize) -> CommandResult {
        let sent = bytes.get(..*left).unwrap_or(bytes);
        *left = left.saturating_sub(sent.len());
        let is_full = self.data.transferred() > 0 && self.data.residual() == 0;
        if sent.is_empty() || is_full {
            return Ok(());
        }
        self.check_data_length(1)?;
        self.data.copy_out(self.host, sent).map_err(Outcome::CallerFault)
    }

    /// Checks that the caller's buffer has the direction of the command's data phase, and at least
    /// this many bytes.
    pub(crate) fn check_data_length(&self, bytes: u64) -> CommandResult {
        let direction = match self.row.data {
            DataPhase::In(_) | DataPhase::BlocksIn => Direction::In,
            DataPhase::Out(_) | DataPhase::BlocksOut => Direction::Out,
            DataPhase::None | DataPhase::OfAtaCommand => Direction::None,
        };
        let matches = self.direction == direction || self.direction == Direction::Both;
        if bytes == 0 || matches && self.data.residual() >= bytes {
            Ok(())
        } else {
            Err(Outcome::LengthMismatch)
        }
    }

    /// Receives the parameter list; `PARAMETER_LIST_LENGTH_ERROR` if it is longer than `list`.
    pub(crate) fn receive_parameter_list<'b>(&mut self, list: &'b mut [u8]) -> Result<&'b [u8], Outcome> {
        let length = self.parameter_list_length();
        let list = list.get_mut(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        self.check_data_length(length as u64)?;
        self.data.copy_in(self.host, list).map_err(Outcome::CallerFault)?;
        Ok(list)
    }
}
