//! What the preload library tells `vmware-bdwrapper trace` of a request: one message each, of numbers and of the caller's
//! memory as it is, without what is on the disk. Both are of one machine, so numbers have its byte order.

use crate::ata::command::Command;
use crate::ata::{self, Taskfile};
use crate::entry::Kind;
use crate::host::{Segment, part};
use crate::request::{
    Argument, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, HDIO_GET_IDENTITY,
    SCSI_IOCTL_SEND_COMMAND, SG_IO, find,
};
use crate::scsi::command::{self, Recorded};
use crate::scsi::{Direction, sat};
use crate::{Errno, Host, drive, sg};

/// The length of a random UUID as text.
pub const TOKEN: usize = 36;

/// The most bytes that a command moves which are recorded.
pub const MOST_DATA: u64 = 4096;

/// The longest `struct sg_io_hdr`, CDB and pieces of data that are recorded.
const SG_IO_HDR: usize = 88;
const CDB: usize = 32;
const PIECES: usize = 8;

/// What stands behind the numbers of a record, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The path of the entry.
    Path,
    /// What the argument's address held before.
    Given,
    /// What it held afterwards.
    Got,
    /// The CDB.
    Command,
    /// The buffer for sense data.
    Sense,
    /// The data that a command moves, or as much as is recorded of it: nothing of what is on the disk.
    Data,
}

const PARTS: usize = 6;

/// The numbers of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The process.
    pub process: u32,
    /// Its thread.
    pub thread: u32,
    /// The thread's name (`PR_GET_NAME`).
    pub name: [u8; 16],
    /// The descriptor.
    pub fd: i32,
    /// The request.
    pub request: u32,
    /// ioctl(2)'s third argument.
    pub argument: u64,
    /// The kind of disk that the entry says.
    pub kind: Kind,
    /// What came of it.
    pub result: Result<i32, Errno>,
    /// Whether the kernel answered, not the library.
    pub forwarded: bool,
    /// How long it took, in nanoseconds.
    pub duration: u64,
    /// How many bytes the command was to move.
    pub data_length: u64,
}

/// A record's numbers as they are sent.
pub type Words = [u64; 11 + PARTS];

/// Changes with every change of the format.
const VERSION: u64 = 2;

impl Head {
    /// The numbers, with the lengths of the parts that follow.
    pub fn words(&self, lengths: [u64; PARTS]) -> Words {
        let two = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let [name, name_rest] = [0, 8].map(|at| {
            let half = self.name.get(at..).and_then(|rest| rest.first_chunk());
            u64::from_ne_bytes(half.copied().unwrap_or_default())
        });
        let (value, errno) = match self.result {
            Ok(value) => (value, 0),
            Err(errno) => (-1, errno.0),
        };
        let [path, given, got, command, sense, data] = lengths;
        [
            VERSION,
            two(self.process, self.thread),
            two(self.fd as u32, self.request),
            self.argument,
            two(value as u32, errno as u32),
            u64::from(self.forwarded),
            self.kind as u64,
            self.duration,
            name,
            name_rest,
            self.data_length,
            path,
            given,
            got,
            command,
            sense,
            data,
        ]
    }

    /// The numbers of a message (without its secret), and its parts; `None` where it is none of ours.
    pub fn parse(message: &[u8]) -> Option<(Head, Parts<'_>)> {
        let (words, mut rest) = message.split_at_checked(size_of::<Words>())?;
        let mut numbers = [0; 11 + PARTS];
        for (number, bytes) in numbers.iter_mut().zip(words.chunks_exact(8)) {
            *number = u64::from_ne_bytes(bytes.first_chunk().copied()?);
        }
        let [
            version,
            ids,
            call,
            argument,
            result,
            forwarded,
            kind,
            duration,
            name,
            name_rest,
            length,
            lengths @ ..,
        ] = numbers;
        let halves = |word: u64| ((word >> 32) as u32, word as u32);
        let ((process, thread), (fd, request), (value, errno)) = (halves(ids), halves(call), halves(result));
        let mut parts = Parts([&[]; PARTS]);
        for (part, length) in parts.0.iter_mut().zip(lengths) {
            (*part, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        }
        if version != VERSION || !rest.is_empty() || forwarded > 1 {
            return None;
        }
        let mut text = [0; 16];
        for (to, from) in text.iter_mut().zip(name.to_ne_bytes().into_iter().chain(name_rest.to_ne_bytes())) {
            *to = from;
        }
        let head = Head {
            process,
            thread,
            name: text,
            fd: fd as i32,
            request,
            argument,
            kind: [Kind::Scsi, Kind::Ide, Kind::Sata].into_iter().find(|each| *each as u64 == kind)?,
            result: if errno == 0 { Ok(value as i32) } else { Err(Errno(errno as i32)) },
            forwarded: forwarded == 1,
            duration,
            data_length: length,
        };
        Some((head, parts))
    }
}

/// What stands behind the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a>([&'a [u8]; PARTS]);

impl<'a> Parts<'a> {
    /// One of them.
    pub fn get(&self, part: Part) -> &'a [u8] {
        self.0.get(part as usize).copied().unwrap_or_default()
    }
}

/// The caller's memory that goes with a request.
pub struct Memory {
    /// What it gave; a request can write over it.
    given: [u8; SG_IO_HDR],
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
            given: [0; SG_IO_HDR],
            given_length: 0,
            cdb: [0; CDB],
            cdb_length: 0,
            got: NOTHING,
            sense: NOTHING,
            data: [NOTHING; PIECES],
            most: MOST_DATA,
            data_length: 0,
        };
        let (given, got) = match (request, find(request).map(|request| request.argument)) {
            (SG_IO, _) => (SG_IO_HDR, SG_IO_HDR),
            (HDIO_DRIVE_CMD, _) => (4, 4),
            (HDIO_DRIVE_TASK, _) => (7, 7),
            (HDIO_DRIVE_TASKFILE, _) => (drive::REQUEST, drive::REQUEST),
            (SCSI_IOCTL_SEND_COMMAND, _) => (8 + 16, 0),
            (HDIO_GET_IDENTITY, _) => (0, 512),
            (_, Some(Argument::In(shape))) => (shape.bytes(), 0),
            (_, Some(Argument::Out(shape))) => (0, shape.bytes()),
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
                let (length, out_size, in_size) = drive::lengths_of_taskfile(&memory.given);
                let whole = memory.given.get_mut(..length).unwrap_or_default();
                if host.copy_in(argument, whole).is_ok() {
                    memory.given_length = length;
                    memory.got.length = length as u64;
                }
                (length as u64, out_size, in_size)
            }
            _ => return memory,
        };
        memory.data_length = out_size + in_size;
        let registers = drive::registers(request, &memory.given).unwrap_or_default();
        if let Some(command) = shown_of_ata(&registers) {
            let is_to_disk = command.transfer.is_to_disk();
            let (at, room) = if is_to_disk { (at, out_size) } else { (at + out_size, in_size) };
            let length = room.min(command.other_bytes(&registers));
            memory.add(0, Segment { address: argument.wrapping_add(at), length });
        }
        memory
    }

    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        part(&self.given, offset)
    }

    /// See include/scsi/sg.h.
    fn of_sg_io(mut self, host: &impl Host) -> Memory {
        let [command_length, sense_room] = self.at(8);
        let count = usize::from(u16::from_ne_bytes(self.at(10)));
        let length = u64::from(u32::from_ne_bytes(self.at(12)));
        let [data, command, sense] = [16, 24, 32].map(|at| u64::from_ne_bytes(self.at(at)));
        let cdb_length = usize::from(command_length).min(CDB);
        if host.copy_in(command, self.cdb.get_mut(..cdb_length).unwrap_or_default()).is_ok() {
            self.cdb_length = cdb_length;
        }
        if sense != 0 {
            self.sense = Segment { address: sense, length: sense_room.into() };
        }
        self.data_length = length;
        let direction = sg::of_number(i32::from_ne_bytes(self.at(4)));
        let from_disk = matches!(direction, Direction::In | Direction::Both);
        self.most = match self.shown() {
            Shown::FromDisk if from_disk => MOST_DATA,
            Shown::ToDisk(list) => MOST_DATA.min(list),
            _ => return self,
        };
        if count == 0 {
            self.add(0, Segment { address: data, length });
        }
        for index in 0..count.min(PIECES) {
            let mut piece = [0; 16];
            if host.copy_in(data.wrapping_add(16 * index as u64), &mut piece).is_err() {
                break;
            }
            let [address, length] = [piece.first_chunk(), piece.last_chunk()]
                .map(|half| half.map_or(0, |half| u64::from_ne_bytes(*half)));
            self.add(index, Segment { address, length });
        }
        self
    }

    /// The CDB stands behind two lengths. Where it stood, there are then sense data or data from the disk.
    fn of_send_command(mut self, argument: u64) -> Memory {
        let [code] = self.at(8);
        self.cdb_length = sg::command_length(code);
        self.given_length = 8 + self.cdb_length;
        let given = self.given.get(8..self.given_length).unwrap_or_default();
        for (to, from) in self.cdb.iter_mut().zip(given) {
            *to = *from;
        }
        let [to_disk, from_disk] = [0, 4].map(|at| u64::from(u32::from_ne_bytes(self.at(at))));
        let at = argument.wrapping_add(8);
        self.sense = Segment { address: at, length: sg::OLD_SENSE as u64 };
        self.data_length = to_disk.max(from_disk);
        // Data to the disk, which stand behind the CDB, may be gone by then.
        if to_disk == 0 && matches!(self.shown(), Shown::FromDisk) {
            self.add(0, Segment { address: at, length: from_disk });
        }
        self
    }

    /// Which data of its SCSI command a trace may have: what the command's row allows.
    fn shown(&self) -> Shown {
        let cdb = self.cdb.first_chunk().copied().unwrap_or([0; 16]);
        let [code, action, ..] = cdb;
        let command = command::find(code, action & 0x1f).filter(|_| self.cdb_length > 0);
        match command.map(|command| command.recorded) {
            Some(Recorded::DataIn) => Shown::FromDisk,
            Some(Recorded::ParameterList { at, bytes }) => {
                let length = cdb.iter().skip(at.into()).take(bytes.into());
                Shown::ToDisk(length.fold(0, |length, &byte| length << 8 | u64::from(byte)))
            }
            Some(Recorded::OfAtaCommand) => {
                let (registers, _) = sat::registers(&cdb);
                match shown_of_ata(&registers) {
                    Some(command) if command.transfer.is_to_disk() => {
                        Shown::ToDisk(command.other_bytes(&registers))
                    }
                    Some(_) => Shown::FromDisk,
                    None => Shown::Nothing,
                }
            }
            Some(Recorded::Nothing) | None => Shown::Nothing,
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
                let mut header = [0; SG_IO_HDR];
                let got = host.copy_in(head.argument, &mut header).is_ok();
                let [host_status, resid] = [68, 72].map(|at| part(&header, at)).map(i32::from_ne_bytes);
                self.sense.length = if got { self.sense.length.min(header[67].into()) } else { 0 };
                // Of what there was no room for, nothing may have been moved.
                moved = match host_status as u16 {
                    0 if got => self.data_length.saturating_sub(u64::try_from(resid).unwrap_or(u64::MAX)),
                    _ => 0,
                };
            }
            (SCSI_IOCTL_SEND_COMMAND, Ok(status)) if status == sg::CHECK_CONDITION.into() => {
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
