//! Records of requests, which both engines send to `vmware-bdwrapper trace`: one message each, of
//! numbers in the machine's byte order and of the caller's memory, without user data.

use zerocopy::{FromBytes, transmute};

use crate::abi::Abi;
use crate::bytes::copy;
use crate::entry::Kind;
use crate::errno::Errno;

/// The length of a random UUID as text.
pub const TOKEN: usize = 36;

/// The most data of a command that is recorded, in bytes.
pub const MOST_DATA: u64 = 4096;

/// The parts of a record that follow its header, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The path of the entry.
    Path,
    /// What the argument's address held before the request.
    Input,
    /// What it held after the request.
    Output,
    /// The CDB.
    Cdb,
    /// The sense data.
    Sense,
    /// The data of a command, as much as may be recorded: no user data.
    Data,
}

pub(super) const PARTS: usize = 6;

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
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
    /// The kind of disk.
    pub kind: Kind,
    /// How the caller lays out structures.
    pub abi: Abi,
    /// The return value of ioctl(2), or the error. `None`: not known, because the kernel answers
    /// behind a supervisor, or because the caller was killed.
    pub result: Option<Result<i32, Errno>>,
    /// Whether the kernel answered, not the engine.
    pub forwarded: bool,
    /// The duration in nanoseconds.
    pub duration: u64,
    /// The length of the data buffer in bytes.
    pub data_length: u64,
}

/// The header as it is sent.
pub type Words = [u64; 11 + PARTS];

/// The version of the format.
const VERSION: u64 = 3;

/// Flags in a word.
const FORWARDED: u64 = 1;
const I386: u64 = 2;
const UNKNOWN_RESULT: u64 = 4;

impl Header {
    /// Returns the header with the lengths of the parts that follow.
    pub fn words(&self, lengths: [u64; PARTS]) -> Words {
        let two = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let [name, name_rest]: [u64; 2] = transmute!(self.name);
        let (value, errno) = match self.result {
            Some(Ok(value)) => (value, 0),
            Some(Err(errno)) => (-1, errno.0),
            None => (0, 0),
        };
        let flag = |flag, is_set| if is_set { flag } else { 0 };
        let flags = flag(FORWARDED, self.forwarded)
            | flag(I386, self.abi == Abi::I386)
            | flag(UNKNOWN_RESULT, self.result.is_none());
        let ids = two(self.process, self.thread);
        let call = two(self.fd as u32, self.request);
        let result = two(value as u32, errno as u32);
        let kind = self.kind as u64;
        let mut words = [0; 11 + PARTS];
        copy(&mut words, 0, &[VERSION, ids, call, self.argument, result, flags, kind, self.duration]);
        copy(&mut words, 8, &[name, name_rest, self.data_length]);
        copy(&mut words, 11, &lengths);
        words
    }

    /// Parses a message without its secret; `None` if it is not a record of this version.
    pub fn parse(message: &[u8]) -> Option<(Header, Parts<'_>)> {
        let (words, mut rest) = Words::read_from_prefix(message).ok()?;
        let [version, ids, call, argument, result, flags, kind, duration, numbers @ ..] = words;
        let [name, name_rest, data_length, lengths @ ..] = numbers;
        let halves = |word: u64| ((word >> 32) as u32, word as u32);
        let ((process, thread), (fd, request), (value, errno)) = (halves(ids), halves(call), halves(result));
        let mut parts = Parts([&[]; PARTS]);
        for (part, length) in parts.0.iter_mut().zip(lengths) {
            (*part, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        }
        if version != VERSION || !rest.is_empty() || flags > FORWARDED | I386 | UNKNOWN_RESULT {
            return None;
        }
        let header = Header {
            process,
            thread,
            name: transmute!([name, name_rest]),
            fd: fd as i32,
            request,
            argument,
            kind: [Kind::Scsi, Kind::Ide, Kind::Sata].into_iter().find(|each| *each as u64 == kind)?,
            abi: if flags & I386 == 0 { Abi::Native } else { Abi::I386 },
            result: match (flags & UNKNOWN_RESULT, errno) {
                (0, 0) => Some(Ok(value as i32)),
                (0, errno) => Some(Err(Errno(errno as i32))),
                _ => None,
            },
            forwarded: flags & FORWARDED != 0,
            duration,
            data_length,
        };
        Some((header, parts))
    }
}

/// The parts of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a>([&'a [u8]; PARTS]);

impl<'a> Parts<'a> {
    /// Returns a part.
    pub fn get(&self, part: Part) -> &'a [u8] {
        self.0.get(part as usize).copied().unwrap_or_default()
    }
}
