//! A command that is carried out, and how it ends.

use super::command::{Command, DataPhase};
use super::response::Response;
use super::sense::Sense;
use crate::device::{Capacity, Device};
use crate::errno::Errno;
use crate::host::Host;
use crate::medium;
use crate::medium::io::Error;
use crate::transfer::Data;

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
pub enum Outcome {
    /// GOOD
    Good,
    /// CHECK CONDITION
    CheckCondition(Sense),
    /// BUSY: there is no memory.
    Busy,
    /// The data length does not match (`DID_ERROR`); no data was transferred.
    LengthMismatch,
    /// The backing device is gone (`DID_NO_CONNECT`).
    NoConnect,
    /// The request itself fails: the caller's memory or its descriptor is bad, or the caller is gone.
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

/// A command as it was received.
pub(crate) struct Received {
    /// The row of the CDB, if it is in the table.
    pub(crate) row: Option<&'static Command>,
    /// Its bytes behind the end of the CDB are 0.
    pub(crate) cdb: [u8; 16],
    pub(crate) direction: Direction,
    pub(crate) data: Data,
    /// The caller's timeout in milliseconds; 0: none.
    pub(crate) timeout: u32,
}

/// A command that is carried out.
pub(crate) struct Task<'a, H: Host> {
    pub(crate) device: &'a Device<'a>,
    pub(crate) host: &'a H,
    /// The row of its command.
    pub(crate) row: &'static Command,
    pub(crate) cdb: [u8; 16],
    pub(crate) direction: Direction,
    pub(crate) data: Data,
    /// The caller's timeout in milliseconds; 0: none.
    pub(crate) timeout: u32,
    /// The device's size when the command began.
    pub(crate) capacity: Capacity,
}

pub(crate) type Done = Result<(), Outcome>;

impl<H: Host> Task<'_, H> {
    pub(crate) fn is_protected(&self) -> Result<bool, Outcome> {
        Ok(medium::is_protected(self.device, self.host).map_err(Error::backing)?)
    }

    /// A byte of the CDB.
    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.cdb.get(at).copied().unwrap_or(0)
    }

    /// A big-endian number of the CDB, of 2 bytes.
    pub(crate) fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.byte(at), self.byte(at.saturating_add(1))])
    }

    /// A big-endian number of the CDB, of 4 bytes.
    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) << 16 | u32::from(self.u16(at.saturating_add(2)))
    }

    /// A big-endian number of the CDB, of 8 bytes.
    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) << 32 | u64::from(self.u32(at.saturating_add(4)))
    }

    /// The allocation length of the CDB.
    pub(crate) fn allocation_length(&self) -> u64 {
        match self.row.data {
            DataPhase::In(Some(length)) => self.row.value(length, &self.cdb),
            _ => u64::MAX,
        }
    }

    /// The parameter list length of the CDB.
    pub(crate) fn list_length(&self) -> usize {
        match self.row.data {
            DataPhase::Out(length) => self.row.value(length, &self.cdb) as usize,
            _ => 0,
        }
    }

    /// Gives the caller a response, cut at the allocation length.
    pub(crate) fn give(&mut self, response: &Response) -> Done {
        let bytes = response.bytes();
        let most = usize::try_from(self.allocation_length()).unwrap_or(usize::MAX);
        let given = bytes.get(..most).unwrap_or(bytes);
        if given.is_empty() {
            return Ok(());
        }
        self.expect(1)?;
        self.data.put(self.host, given).map_err(Outcome::CallerFault)
    }

    /// Checks that the caller has room, or data, for so many bytes of the command's data phase.
    pub(crate) fn expect(&self, bytes: u64) -> Done {
        let direction = match self.row.data {
            DataPhase::In(_) | DataPhase::BlocksIn => Direction::In,
            DataPhase::Out(_) | DataPhase::BlocksOut => Direction::Out,
            DataPhase::None | DataPhase::OfAtaCommand => Direction::None,
        };
        let way = self.direction == direction || self.direction == Direction::Both;
        if bytes == 0 || way && self.data.residual() >= bytes { Ok(()) } else { Err(Outcome::LengthMismatch) }
    }

    /// Takes the caller's parameter list, which has room in `list`.
    pub(crate) fn take<'b>(&mut self, list: &'b mut [u8]) -> Result<&'b [u8], Outcome> {
        let length = self.list_length();
        let list = list.get_mut(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        self.expect(length as u64)?;
        self.data.get(self.host, list).map_err(Outcome::CallerFault)?;
        Ok(list)
    }
}
