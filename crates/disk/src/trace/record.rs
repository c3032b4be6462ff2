//! Records of requests, which the preload library sends to `vmware-bdwrapper trace`: one message
//! each, of numbers in the machine's byte order and of the caller's memory, without user data.

use zerocopy::{FromBytes, transmute};

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
    /// The return value of ioctl(2), or the error.
    pub result: Result<i32, Errno>,
    /// Whether the kernel answered, not the library.
    pub forwarded: bool,
    /// The duration in nanoseconds.
    pub duration: u64,
    /// The length of the data buffer in bytes.
    pub data_length: u64,
}

/// The header as it is sent.
pub type Words = [u64; 11 + PARTS];

/// The version of the format.
const VERSION: u64 = 2;

impl Header {
    /// Returns the header with the lengths of the parts that follow.
    pub fn words(&self, lengths: [u64; PARTS]) -> Words {
        let two = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let [name, name_rest]: [u64; 2] = transmute!(self.name);
        let (value, errno) = match self.result {
            Ok(value) => (value, 0),
            Err(errno) => (-1, errno.0),
        };
        let ids = two(self.process, self.thread);
        let call = two(self.fd as u32, self.request);
        let result = two(value as u32, errno as u32);
        let (forwarded, kind) = (u64::from(self.forwarded), self.kind as u64);
        let mut words = [0; 11 + PARTS];
        copy(&mut words, 0, &[VERSION, ids, call, self.argument, result, forwarded, kind, self.duration]);
        copy(&mut words, 8, &[name, name_rest, self.data_length]);
        copy(&mut words, 11, &lengths);
        words
    }

    /// Parses a message without its secret; `None` if it is not a record of this version.
    pub fn parse(message: &[u8]) -> Option<(Header, Parts<'_>)> {
        let (words, mut rest) = Words::read_from_prefix(message).ok()?;
        let [version, ids, call, argument, result, forwarded, kind, duration, numbers @ ..] = words;
        let [name, name_rest, data_length, lengths @ ..] = numbers;
        let halves = |word: u64| ((word >> 32) as u32, word as u32);
        let ((process, thread), (fd, request), (value, errno)) = (halves(ids), halves(call), halves(result));
        let mut parts = Parts([&[]; PARTS]);
        for (part, length) in parts.0.iter_mut().zip(lengths) {
            (*part, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        }
        if version != VERSION || !rest.is_empty() || forwarded > 1 {
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
            result: if errno == 0 { Ok(value as i32) } else { Err(Errno(errno as i32)) },
            forwarded: forwarded == 1,
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
