//! Which of the caller's memory a record has: what goes with a request, without what is on the disk.

use super::record::{Head, MOST_DATA, PARTS};
use crate::abi::{Abi, IdeTaskRequest, ScsiIoctlCommand, SgIoHdr};
use crate::ata::command::Command;
use crate::ata::{self, Taskfile};
use crate::bytes::copy;
use crate::errno::Errno;
use crate::host::{Host, Segment};
use crate::ioctl::request::{
    Argument, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, HDIO_GET_IDENTITY,
    SCSI_IOCTL_SEND_COMMAND, SG_IO, find,
};
use crate::ioctl::{hdio_drive, sg_io};
use crate::sat;
use crate::scsi::command::{self, DataPhase};
use crate::scsi::task::Direction;

/// The longest argument, CDB and list of data that are recorded.
const MOST_GIVEN: usize = size_of::<SgIoHdr>();
/// Where the CDB of `SCSI_IOCTL_SEND_COMMAND` stands.
const OLD_CDB: usize = size_of::<ScsiIoctlCommand>();

const CDB: usize = 32;
const PIECES: usize = 8;

/// The caller's memory that goes with a request.
pub struct Memory {
    /// What it gave; a request can write over it.
    given: [u8; MOST_GIVEN],
    given_length: usize,
    cdb: [u8; CDB],
    cdb_length: usize,
    /// What is there afterwards, the data in pieces.
    got: Segment,
    sense: Segment,
    data: [Segment; PIECES],
    /// The most of it that is recorded.
    most: u64,
    data_length: u64,
}

/// Which data of a command a trace may have.
enum Shown {
    Nothing,
    /// What came from the disk.
    FromDisk,
    /// So many bytes that went there.
    ToDisk(u64),
}

const NOTHING: Segment = Segment { address: 0, length: 0 };

impl Memory {
    /// Finds it before the request is answered.
    pub fn of(host: &impl Host, request: u32, argument: u64) -> Memory {
        let mut memory = Memory {
            given: [0; MOST_GIVEN],
            given_length: 0,
            cdb: [0; CDB],
            cdb_length: 0,
            got: NOTHING,
            sense: NOTHING,
            data: [NOTHING; PIECES],
            most: MOST_DATA,
            data_length: 0,
        };
        let abi = host.abi();
        let (given, got) = match (request, find(request).map(|request| request.argument)) {
            (SG_IO, _) => (abi.size_of::<SgIoHdr>(), abi.size_of::<SgIoHdr>()),
            (HDIO_DRIVE_CMD, _) => (4, 4),
            (HDIO_DRIVE_TASK, _) => (7, 7),
            (HDIO_DRIVE_TASKFILE, _) => (abi.size_of::<IdeTaskRequest>(), abi.size_of::<IdeTaskRequest>()),
            (SCSI_IOCTL_SEND_COMMAND, _) => (OLD_CDB + 16, 0),
            (HDIO_GET_IDENTITY, _) => (0, 512),
            (_, Some(Argument::In(shape))) => (shape.bytes(abi), 0),
            (_, Some(Argument::Out(shape))) => (0, shape.bytes(abi)),
            _ => (0, 0),
        };
        let room = memory.given.get_mut(..given).unwrap_or_default();
        if argument == 0 || host.copy_in(argument, room).is_err() {
            return memory;
        }
        memory.given_length = given;
        memory.got = Segment { address: argument, length: got as u64 };
        let (at, out_size, in_size) = match request {
            SG_IO => return memory.of_sg_io(host),
            SCSI_IOCTL_SEND_COMMAND => return memory.of_send_command(argument),
            HDIO_DRIVE_CMD => (4, 0, 512 * u64::from(memory.given[3])),
            HDIO_DRIVE_TASKFILE => {
                let (_, length) = hdio_drive::task_request(abi, &memory.given);
                let whole = memory.given.get_mut(..length).unwrap_or_default();
                if host.copy_in(argument, whole).is_ok() {
                    memory.given_length = length;
                    memory.got.length = length as u64;
                }
                let (task_request, _) = hdio_drive::task_request(abi, &memory.given);
                let (out_size, in_size) = hdio_drive::data_lengths(&task_request);
                (length as u64, out_size.into(), in_size.into())
            }
            _ => return memory,
        };
        memory.data_length = out_size + in_size;
        let registers = hdio_drive::registers(abi, request, &memory.given).unwrap_or_default();
        if let Some(command) = shown_of_ata(&registers) {
            let is_to_disk = command.protocol.is_to_disk();
            let (at, room) = if is_to_disk { (at, out_size) } else { (at + out_size, in_size) };
            let length = room.min(command.page_bytes(&registers));
            memory.add(0, Segment { address: argument.wrapping_add(at), length });
        }
        memory
    }

    fn of_sg_io(mut self, host: &impl Host) -> Memory {
        let hdr: SgIoHdr = host.abi().parse(&self.given);
        let cdb_length = usize::from(hdr.cmd_len).min(CDB);
        if host.copy_in(hdr.cmdp, self.cdb.get_mut(..cdb_length).unwrap_or_default()).is_ok() {
            self.cdb_length = cdb_length;
        }
        if hdr.sbp != 0 {
            self.sense = Segment { address: hdr.sbp, length: hdr.mx_sb_len.into() };
        }
        self.data_length = hdr.dxfer_len.into();
        let direction = sg_io::direction(hdr.dxfer_direction);
        let from_disk = matches!(direction, Direction::In | Direction::Both);
        self.most = match self.shown() {
            Shown::FromDisk if from_disk => MOST_DATA,
            Shown::ToDisk(list) => MOST_DATA.min(list),
            _ => return self,
        };
        if hdr.iovec_count == 0 {
            self.add(0, Segment { address: hdr.dxferp, length: hdr.dxfer_len.into() });
        }
        let size = host.abi().size_of::<Segment>();
        for index in 0..usize::from(hdr.iovec_count).min(PIECES) {
            let Ok(piece) = host.fetch(hdr.dxferp.wrapping_add((size * index) as u64)) else { break };
            self.add(index, piece);
        }
        self
    }

    /// The CDB stands behind two lengths. Where it stood, there are then sense data or data from the disk.
    fn of_send_command(mut self, argument: u64) -> Memory {
        let ScsiIoctlCommand { inlen, outlen } = Abi::Native.parse(&self.given);
        self.cdb_length = sg_io::cdb_length(self.given[OLD_CDB]);
        self.given_length = OLD_CDB + self.cdb_length;
        let given = self.given.get(OLD_CDB..self.given_length).unwrap_or_default();
        copy(&mut self.cdb, 0, given);
        let at = argument.wrapping_add(OLD_CDB as u64);
        self.sense = Segment { address: at, length: sg_io::SEND_COMMAND_SENSE as u64 };
        self.data_length = inlen.max(outlen).into();
        // Data to the disk, which stand behind the CDB, may be gone by then.
        if inlen == 0 && matches!(self.shown(), Shown::FromDisk) {
            self.add(0, Segment { address: at, length: outlen.into() });
        }
        self
    }

    /// Which data of its SCSI command a trace may have: what the command's row allows.
    fn shown(&self) -> Shown {
        let cdb = self.cdb.first_chunk().copied().unwrap_or([0; 16]);
        let [code, action, ..] = cdb;
        let command = command::find(code, action & 0x1f).filter(|_| self.cdb_length > 0);
        let Some(command) = command.filter(|command| command.recorded) else { return Shown::Nothing };
        match command.data {
            DataPhase::In(_) => Shown::FromDisk,
            DataPhase::Out(length) => Shown::ToDisk(command.value(length, &cdb)),
            DataPhase::OfAtaCommand => {
                let (registers, _) = sat::registers(&cdb);
                match shown_of_ata(&registers) {
                    Some(command) if command.protocol.is_to_disk() => {
                        Shown::ToDisk(command.page_bytes(&registers))
                    }
                    Some(_) => Shown::FromDisk,
                    None => Shown::Nothing,
                }
            }
            DataPhase::None | DataPhase::BlocksIn | DataPhase::BlocksOut => Shown::Nothing,
        }
    }

    /// Adds a piece of the data, as much as is recorded.
    fn add(&mut self, index: usize, piece: Segment) {
        let left = self.most.saturating_sub(self.data.iter().map(|piece| piece.length).sum());
        if let Some(place) = self.data.get_mut(index) {
            *place = Segment { length: piece.length.min(left), ..piece };
        }
    }

    /// How many bytes the command was to move.
    pub fn data_length(&self) -> u64 {
        self.data_length
    }

    /// Leaves nothing but what belongs to the answer, when the request has been made: what stood in a buffer before is not in a
    /// trace.
    pub fn settle(&mut self, host: &impl Host, head: &Head) {
        let mut moved = u64::MAX;
        match (head.request, head.result) {
            (HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE, Err(Errno::EIO)) => moved = 0,
            (_, Err(_)) => (self.got, self.sense, moved) = (NOTHING, NOTHING, 0),
            (SG_IO, Ok(_)) => {
                let hdr: Option<SgIoHdr> = host.fetch(head.argument).ok();
                self.sense.length = self.sense.length.min(hdr.map_or(0, |hdr| hdr.sb_len_wr.into()));
                // Of what there was no room for, nothing may have been moved.
                moved = match hdr {
                    Some(SgIoHdr { host_status: 0, resid, .. }) => {
                        self.data_length.saturating_sub(u64::try_from(resid).unwrap_or(u64::MAX))
                    }
                    _ => 0,
                };
            }
            (SCSI_IOCTL_SEND_COMMAND, Ok(status)) if status == sg_io::CHECK_CONDITION.into() => {
                // In the descriptor format it says how long it is (SPC-4, 4.5.2).
                let mut sense = [0; 8];
                let got = host.copy_in(self.sense.address, &mut sense).is_ok();
                self.sense.length = match sense[0] & 0x7f {
                    0x72 | 0x73 => self.sense.length.min(8 + u64::from(sense[7])),
                    _ if got => self.sense.length,
                    _ => 0,
                };
                moved = 0;
            }
            (SCSI_IOCTL_SEND_COMMAND, Ok(_)) => self.sense = NOTHING,
            _ => {}
        }
        for piece in &mut self.data {
            piece.length = piece.length.min(moved);
            moved -= piece.length;
        }
    }

    /// The segments behind secret and numbers, and how long each part is. `all`: with the memory that is not copied yet, and
    /// may turn out to be none.
    pub fn segments(&self, path: &[u8], all: bool) -> ([Segment; PARTS - 1 + PIECES], [u64; PARTS]) {
        let own =
            |bytes: &[u8]| Segment { address: bytes.as_ptr().addr() as u64, length: bytes.len() as u64 };
        let [given, command] = [(&self.given[..], self.given_length), (&self.cdb[..], self.cdb_length)]
            .map(|(bytes, length)| own(bytes.get(..length).unwrap_or_default()));
        let theirs = |segment: Segment| if all { segment } else { NOTHING };
        let [got, sense] = [self.got, self.sense].map(theirs);
        let [a, b, c, d, e, f, g, h] = self.data.map(theirs);
        let data = [a, b, c, d, e, f, g, h].iter().map(|piece| piece.length).sum();
        let path = own(path);
        let lengths = [path.length, given.length, got.length, command.length, sense.length, data];
        ([path, given, got, command, sense, a, b, c, d, e, f, g, h], lengths)
    }
}

/// The row of an ATA command whose data a trace may have.
fn shown_of_ata(registers: &Taskfile) -> Option<&'static Command> {
    let found = ata::command::find(registers.command, registers.features.to_le_bytes()[0]);
    found.filter(|command| command.recorded)
}
