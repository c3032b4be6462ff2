//! Records of requests, which the preload library sends to `vmware-bdwrapper trace`: one message each, of numbers in
//! the machine's byte order and of the caller's memory, without user data.

use crate::bytes::{copy, part};
use crate::entry::Kind;
use crate::errno::Errno;

/// The length of a random UUID as text.
pub const TOKEN: usize = 36;

/// The most bytes that a command moves which are recorded.
pub const MOST_DATA: u64 = 4096;

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

pub(super) const PARTS: usize = 6;

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
        let [name, name_rest] = [0, 8].map(|at| u64::from_ne_bytes(part(&self.name, at)));
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
        copy(&mut text, 0, &name.to_ne_bytes());
        copy(&mut text, 8, &name_rest.to_ne_bytes());
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
