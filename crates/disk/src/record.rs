//! What the preload library tells `vmware-bdwrapper trace` of a request: one datagram each, of numbers and of the caller's
//! memory as it is. Both are of one machine, so numbers have its byte order.

use crate::entry::Kind;
use crate::host::Segment;
use crate::request::{
    Argument, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, HDIO_GET_IDENTITY,
    SCSI_IOCTL_SEND_COMMAND, SG_IO, find,
};
use crate::{Errno, Host, drive};

/// The variable of the environment that says where records go: the name of an abstract unix(7) socket of
/// datagrams, and a secret with which each of them begins; both have [`TOKEN`] bytes.
pub const VARIABLE: &str = "VMWARE_BDWRAPPER_TRACE";

/// The length of a random UUID as text.
pub const TOKEN: usize = 36;

/// The most bytes that a command moves which are recorded.
pub const MOST_DATA: u64 = 4096;

/// The longest `struct sg_io_hdr`, CDB and pieces of data that are recorded.
const SG_IO_HDR: usize = 88;
const CDB: u64 = 32;
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
    /// The data that a command moves, or as much as is recorded of it.
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
const VERSION: u64 = 1;

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
            two(self.fd.cast_unsigned(), self.request),
            self.argument,
            two(value.cast_unsigned(), errno.cast_unsigned()),
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

    /// The numbers of a datagram (without its secret), and its parts; `None` where it is none of ours.
    pub fn parse(datagram: &[u8]) -> Option<(Head, Parts<'_>)> {
        let (words, mut rest) = datagram.split_at_checked(size_of::<Words>())?;
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
            fd: fd.cast_signed(),
            request,
            argument,
            kind: [Kind::Scsi, Kind::Ide, Kind::Sata].into_iter().find(|each| *each as u64 == kind)?,
            result: if errno == 0 { Ok(value.cast_signed()) } else { Err(Errno(errno.cast_signed())) },
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
    /// What is there afterwards, the data in pieces.
    got: Segment,
    command: Segment,
    sense: Segment,
    data: [Segment; PIECES],
    data_length: u64,
}

const NOTHING: Segment = Segment { address: 0, length: 0 };

impl Memory {
    /// Finds it before the request is answered.
    pub fn of(host: &impl Host, request: u32, argument: u64) -> Memory {
        let mut memory = Memory {
            given: [0; SG_IO_HDR],
            given_length: 0,
            got: NOTHING,
            command: NOTHING,
            sense: NOTHING,
            data: [NOTHING; PIECES],
            data_length: 0,
        };
        let (given, got) = match (request, find(request).map(|request| request.argument)) {
            (SG_IO, _) => (SG_IO_HDR, SG_IO_HDR),
            (HDIO_DRIVE_CMD, _) => (4, 4),
            (HDIO_DRIVE_TASK, _) => (7, 7),
            (HDIO_DRIVE_TASKFILE, _) => (drive::REQUEST_OF_HDPARM, drive::REQUEST_OF_HDPARM),
            (SCSI_IOCTL_SEND_COMMAND, _) => (24, 0),
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
        let (at, length) = match request {
            SG_IO => return memory.of_sg_io(host),
            HDIO_DRIVE_CMD => (4, 512 * u64::from(memory.given[3])),
            HDIO_DRIVE_TASKFILE => drive::data_of_taskfile(&memory.given),
            // Data from the disk or sense data stands where the CDB stood; that to the disk is lost then.
            SCSI_IOCTL_SEND_COMMAND => (8, u64::from(u32::from_ne_bytes(memory.at(4))).max(16)),
            _ => (0, 0),
        };
        memory.add(0, Segment { address: argument.wrapping_add(at), length });
        memory
    }

    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.given.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    /// See include/scsi/sg.h.
    fn of_sg_io(mut self, host: &impl Host) -> Memory {
        let [command_length, sense_room] = self.at(8);
        let count = usize::from(u16::from_ne_bytes(self.at(10)));
        let length = u64::from(u32::from_ne_bytes(self.at(12)));
        let [data, command, sense] = [16, 24, 32].map(|at| u64::from_ne_bytes(self.at(at)));
        self.command = Segment { address: command, length: u64::from(command_length).min(CDB) };
        if sense != 0 {
            self.sense = Segment { address: sense, length: sense_room.into() };
        }
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
        self.data_length = length;
        self
    }

    /// Adds a piece of the data, as much as is recorded.
    fn add(&mut self, index: usize, piece: Segment) {
        let left = MOST_DATA.saturating_sub(self.data.iter().map(|piece| piece.length).sum());
        if let Some(place) = self.data.get_mut(index) {
            *place = Segment { length: piece.length.min(left), ..piece };
        }
        self.data_length = self.data_length.saturating_add(piece.length);
    }

    /// How many bytes the command was to move.
    pub fn data_length(&self) -> u64 {
        self.data_length
    }

    /// The segments behind secret and numbers, and how long each part is. `all`: with the memory that is not copied yet, and
    /// may turn out to be none.
    pub fn segments(&self, path: &[u8], all: bool) -> ([Segment; PARTS - 1 + PIECES], [u64; PARTS]) {
        let own =
            |bytes: &[u8]| Segment { address: bytes.as_ptr().addr() as u64, length: bytes.len() as u64 };
        let given = own(self.given.get(..self.given_length).unwrap_or_default());
        let theirs = |segment: Segment| if all { segment } else { NOTHING };
        let [got, command, sense] = [self.got, self.command, self.sense].map(theirs);
        let [a, b, c, d, e, f, g, h] = self.data.map(theirs);
        let data = [a, b, c, d, e, f, g, h].iter().map(|piece| piece.length).sum();
        let path = own(path);
        let lengths = [path.length, given.length, got.length, command.length, sense.length, data];
        ([path, given, got, command, sense, a, b, c, d, e, f, g, h], lengths)
    }
}
