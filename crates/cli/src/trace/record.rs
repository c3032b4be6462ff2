//! A request as the trace keeps it: what the engine sent, and a line of the JSON form.

use std::fmt::Write;

use super::absent;
use disk::abi::{Abi, HdBigGeometry, HdGeometry, HdioTaskfile, IdeTaskRequest, Long, SgIoHdr, Structure};
use disk::ioctl::hdio_drive;
use disk::record::{Header, Part, Parts};
use disk::request::{
    Argument, BLKBSZGET, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, Request,
    SCSI_IOCTL_SEND_COMMAND, SG_GET_SCSI_ID, SG_IO, Shape, find, meant,
};
use disk::scsi::command::{self, Command, Operation as Scsi};
use disk::trace::DecodedArgument;
use disk::{ata, sat};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A request and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name of the thread that made it.
    pub program: String,
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The descriptor.
    pub fd: i32,
    /// The path of the device's entry; bytes that are no UTF-8 are replaced.
    pub device: String,
    /// The kind of disk: `scsi`, `ide` or `sata`.
    pub kind: String,
    /// The request's number.
    pub request: u32,
    /// ioctl(2)'s third argument, a number or an address.
    pub argument: u64,
    /// How the program lays out structures: as 64-bit programs do where an old trace does not say it.
    #[serde(default = "native", with = "AbiName")]
    pub abi: Abi,
    /// What ioctl(2) returned; -1 where it failed. None: not known, because the kernel answered behind a supervisor, or because
    /// the program was killed meanwhile.
    pub result: Option<i32>,
    /// Why it failed; 0 where it did not.
    pub errno: i32,
    /// Whether the kernel answered, not the engine.
    pub forwarded: bool,
    /// How long it took.
    pub nanoseconds: u64,
    /// What the argument's address held before.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub given: Bytes,
    /// What it held afterwards.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub got: Bytes,
    /// The CDB of a SCSI command.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub cdb: Bytes,
    /// Its sense data.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub sense: Bytes,
    /// The data of a command, as much as is recorded; never what is on the disk.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    /// How many bytes of data the command was to move.
    #[serde(default)]
    pub data_length: u64,
}

/// The names of layouts in JSON.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Abi", rename_all = "lowercase")]
enum AbiName {
    Native,
    I386,
}

fn native() -> Abi {
    Abi::Native
}

/// Bytes, in JSON as hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Some of them at an offset; a zero for each that does not exist.
    pub fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        std::array::from_fn(|index| self.0.get(offset + index).copied().unwrap_or(0))
    }
}

/// Hexadecimal digits of bytes, with this between each two of them.
pub fn digits(bytes: &[u8], between: &str) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{byte:02x}", if index == 0 { "" } else { between });
    }
    text
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&digits(&self.0, ""))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte = |pair: &[u8]| {
            let [high, low] = *pair else { return None };
            let digit = |digit| char::from(digit).to_digit(16);
            u8::try_from(digit(high)? << 4 | digit(low)?).ok()
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Bytes).ok_or_else(|| serde::de::Error::custom("bytes are pairs of hexadecimal digits"))
    }
}

/// What `SG_IO` moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// `dxfer_direction`
    pub direction: i32,
    /// Bytes that were offered.
    pub length: u32,
    /// Bytes that were moved.
    pub done: u64,
}

impl Record {
    /// What the engine sent.
    pub fn new(head: &Header, parts: &Parts<'_>) -> Record {
        let part = |part| Bytes(parts.get(part).to_vec());
        let name = head.name.split(|&byte| byte == 0).next().unwrap_or_default();
        let (result, errno) = match head.result {
            Some(Ok(value)) => (Some(value), 0),
            Some(Err(errno)) => (Some(-1), errno.0),
            None => (None, 0),
        };
        Record {
            program: String::from_utf8_lossy(name).into_owned(),
            pid: head.process,
            tid: head.thread,
            fd: head.fd,
            device: String::from_utf8_lossy(parts.get(Part::Path)).into_owned(),
            kind: head.kind.name().to_owned(),
            request: head.request,
            argument: head.argument,
            abi: head.abi,
            result,
            errno,
            forwarded: head.forwarded,
            nanoseconds: head.duration,
            given: part(Part::Input),
            got: part(Part::Output),
            cdb: part(Part::Cdb),
            sense: part(Part::Sense),
            data: part(Part::Data),
            data_length: head.data_length,
        }
    }

    /// Whether ioctl(2) failed.
    pub fn failed(&self) -> bool {
        self.errno != 0
    }

    /// The row of the request that is meant.
    pub fn row(&self) -> Option<&'static Request> {
        meant(self.abi, self.request).and_then(find)
    }

    /// The structure that its address held before, with zeros for what is missing.
    pub fn before<T: Structure>(&self) -> T {
        self.abi.parse(&self.given.0)
    }

    /// The structure that its address held afterwards.
    pub fn after<T: Structure>(&self) -> T {
        self.abi.parse(&self.got.0)
    }

    /// What a 64-bit program would have recorded of the same request; none where it cannot make it.
    pub fn as_native(&self) -> Option<Record> {
        if self.abi == Abi::Native {
            return Some(self.clone());
        }
        let convert: fn(&Bytes) -> Bytes = match (self.request, self.row()?.argument) {
            // Of a 32-bit program it asks for the logical block size (block/ioctl.c, compat_blkdev_ioctl).
            _ if self.row()?.number == BLKBSZGET => return None,
            (SG_IO, _) => converted::<SgIoHdr>,
            (HDIO_DRIVE_TASKFILE, _) => converted_taskfile,
            (_, Argument::In(shape) | Argument::Out(shape)) => match shape {
                Shape::Long => converted::<Long>,
                Shape::Geometry => converted::<HdGeometry>,
                Shape::BigGeometry => converted::<HdBigGeometry>,
                Shape::Bytes if !is_alike(self.request) => return None,
                _ => Bytes::clone,
            },
            _ => Bytes::clone,
        };
        let request = self.row()?.number;
        let (given, got) = (convert(&self.given), convert(&self.got));
        Some(Record { abi: Abi::Native, request, given, got, ..self.clone() })
    }

    /// Its argument as the messages of the library show it.
    pub fn decoded(&self) -> DecodedArgument {
        let parts = [&self.given.0[..], &self.got.0, &self.cdb.0];
        DecodedArgument::from_record(self.abi, self.request, self.argument, parts)
    }

    /// What `SG_IO` moved.
    pub fn moved(&self) -> Option<Moved> {
        let SgIoHdr { dxfer_direction, dxfer_len, .. } = self.before();
        let done = self.after::<SgIoHdr>().transferred(dxfer_len.into());
        (self.request == SG_IO).then_some(Moved { direction: dxfer_direction, length: dxfer_len, done })
    }

    /// The row of its SCSI command.
    pub fn command(&self) -> Option<&'static Command> {
        let [code, action] = self.cdb.at(0);
        (!self.cdb.0.is_empty()).then(|| command::find(code, action & 0x1f)).flatten()
    }

    /// The registers of its ATA command.
    pub fn taskfile(&self) -> Option<ata::Taskfile> {
        match self.request {
            HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE => {
                hdio_drive::registers(self.abi, self.request, &self.given.0)
            }
            _ if self.command().is_some_and(|command| command.operation == Scsi::AtaPassThrough) => {
                Some(sat::registers(&self.cdb.at(0)).0)
            }
            _ => None,
        }
    }

    /// What the request wrote where its argument leads. The requests that send an ATA command by its registers may write nothing
    /// there, even if they have data: what the caller gave stands there still.
    pub fn written(&self) -> &[u8] {
        match self.request {
            HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE
                if self.given.0.starts_with(&self.got.0) =>
            {
                &[]
            }
            _ => &self.got.0,
        }
    }

    /// The row of its ATA command.
    pub fn ata_command(&self) -> Option<&'static ata::command::Command> {
        let taskfile = self.taskfile()?;
        ata::command::find(taskfile.command, taskfile.features.to_le_bytes()[0])
    }

    /// Whether something in it is unknown to this project.
    pub fn is_unknown(&self) -> bool {
        let [code] = self.cdb.at(0);
        let scsi = !self.cdb.0.is_empty() && self.command().is_none() && absent::scsi(code).is_none();
        let ata = self.ata_command().is_none();
        let ata = ata && self.taskfile().is_some_and(|taskfile| absent::ata(taskfile.command).is_none());
        self.row().is_none() || scsi || ata
    }
}

/// Whether both kinds of programs give a request whose argument has no shape the same bytes.
fn is_alike(request: u32) -> bool {
    matches!(request, HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | SCSI_IOCTL_SEND_COMMAND | SG_GET_SCSI_ID)
}

fn converted_taskfile(bytes: &Bytes) -> Bytes {
    let (_, length) = hdio_drive::task_request(Abi::I386, &bytes.0);
    match length == Abi::I386.size_of::<IdeTaskRequest>() {
        true => converted::<IdeTaskRequest>(bytes),
        false => converted::<HdioTaskfile>(bytes),
    }
}

/// A structure of an i386 program as 64-bit programs have it; nothing where there was nothing.
fn converted<T: Structure>(bytes: &Bytes) -> Bytes {
    match bytes.0.len() {
        0 => Bytes::default(),
        _ => Bytes(Abi::I386.parse::<T>(&bytes.0).as_bytes().to_vec()),
    }
}
