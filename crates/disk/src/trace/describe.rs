//! Requests and their arguments in words, for the messages of log level 1000.

use core::fmt;

use crate::abi::{
    Abi, HdBigGeometry, HdGeometry, Long, SG_DXFER_FROM_DEV, SG_DXFER_NONE, SG_DXFER_TO_DEV,
    SG_DXFER_TO_FROM_DEV, ScsiIdlun, SgIoHdr, Structure,
};
use crate::ata::identify::OBSOLETE_IDENTITY;
use crate::bytes::copy;
use crate::errno::Errno;
use crate::host::Host;
use crate::ioctl::request::{Argument, Request, Shape, find};
use crate::printed::Printed;

/// The most bytes of an argument that are read.
const MOST: usize = OBSOLETE_IDENTITY;

/// The most bytes of a command that are shown.
const COMMAND: usize = 32;

/// A request by name; one that is not known by its number.
#[derive(Clone, Copy, Debug)]
pub struct Named(pub u32);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match find(self.0) {
            Some(request) => f.write_str(request.name()),
            None => write!(f, "{:#x} (unknown: please report this line)", self.0),
        }
    }
}

/// What the argument of a request holds, read from the caller's memory.
#[derive(Clone, Copy, Debug)]
pub struct Decoded {
    what: Argument,
    number: u64,
    bytes: [u8; MOST],
    /// The CDB of `SG_IO`.
    command: [u8; COMMAND],
    abi: Abi,
    got: bool,
}

impl Decoded {
    /// Reads what the caller gives; call it before the request is answered.
    pub fn given(host: &impl Host, request: u32, argument: u64) -> Decoded {
        let what = find(request).map_or(Argument::None, |request: &Request| request.argument);
        let mut decoded = Decoded {
            what,
            number: argument,
            bytes: [0; MOST],
            command: [0; COMMAND],
            abi: host.abi(),
            got: false,
        };
        if let Argument::In(shape) = what {
            if !decoded.read(host, shape) {
                decoded.what = Argument::None;
            }
        }
        if decoded.what == Argument::In(Shape::SgIo) {
            let SgIoHdr { cmdp, cmd_len, .. } = decoded.structure();
            let length = decoded.command.len().min(cmd_len.into());
            let _ = host.copy_in(cmdp, decoded.command.get_mut(..length).unwrap_or_default());
        }
        decoded
    }

    /// Takes what was read already: before the request, or after one that succeeded (`got`).
    pub fn of(request: u32, argument: u64, bytes: &[u8], got: bool) -> Decoded {
        let what = find(request).map_or(Argument::None, |request| request.argument);
        let mut decoded = Decoded {
            what,
            number: argument,
            bytes: [0; MOST],
            command: [0; COMMAND],
            abi: Abi::Native,
            got,
        };
        copy(&mut decoded.bytes, 0, bytes);
        decoded
    }

    /// Reads what the caller gets; call it after a request that succeeded.
    pub fn read_out(&mut self, host: &impl Host) {
        if let Argument::Out(shape) = self.what {
            self.got = self.read(host, shape);
        }
    }

    fn read(&mut self, host: &impl Host, shape: Shape) -> bool {
        let room = self.bytes.get_mut(..shape.bytes(self.abi)).unwrap_or_default();
        host.copy_in(self.number, room).is_ok()
    }

    fn structure<T: Structure>(&self) -> T {
        self.abi.parse(&self.bytes)
    }

    fn text(&self, range: core::ops::Range<usize>) -> Printed<'_> {
        let text = self.bytes.get(range).unwrap_or_default();
        Printed(text.split(|&byte| byte == 0).next().unwrap_or_default().trim_ascii())
    }
}

impl Shape {
    /// How many bytes are read.
    pub(crate) fn bytes(self, abi: Abi) -> usize {
        match self {
            Shape::Short => 2,
            Shape::Int => 4,
            Shape::Long => abi.size_of::<Long>(),
            Shape::Long64 => 8,
            Shape::Idlun => abi.size_of::<ScsiIdlun>(),
            Shape::Range | Shape::Bytes => 16,
            Shape::Geometry => abi.size_of::<HdGeometry>(),
            Shape::BigGeometry => abi.size_of::<HdBigGeometry>(),
            Shape::Text => 20,
            Shape::Identity => OBSOLETE_IDENTITY,
            Shape::SgIo => abi.size_of::<SgIoHdr>(),
        }
    }
}

/// Cylinders, heads, sectors a track and the first sector in a `struct hd_geometry`, or in a `struct hd_big_geometry`
/// ([`Shape::BigGeometry`]).
pub fn geometry(abi: Abi, shape: Shape, bytes: &[u8]) -> [u64; 4] {
    if shape == Shape::Geometry {
        let HdGeometry { heads, sectors, cylinders, start, .. } = abi.parse(bytes);
        return [cylinders.into(), heads.into(), sectors.into(), start];
    }
    let HdBigGeometry { heads, sectors, cylinders, start, .. } = abi.parse(bytes);
    [cylinders.into(), heads.into(), sectors.into(), start]
}

/// What the caller gave.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a>(pub &'a Decoded);

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decoded = self.0;
        match decoded.what {
            Argument::Number => write!(f, "{}", decoded.number as i64),
            Argument::In(shape) => decoded.write(shape, f),
            Argument::None | Argument::Out(_) => write!(f, "{:#x}", decoded.number),
        }
    }
}

/// What the caller got, after a blank; nothing where it got nothing.
#[derive(Clone, Copy, Debug)]
pub struct Got<'a>(pub &'a Decoded);

impl fmt::Display for Got<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decoded = self.0;
        match decoded.what {
            Argument::Out(shape) if decoded.got => {
                f.write_str(" ")?;
                decoded.write(shape, f)
            }
            _ => Ok(()),
        }
    }
}

impl Decoded {
    fn write(&self, shape: Shape, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match shape {
            Shape::Short => write!(f, "{{{}}}", self.structure::<u16>()),
            Shape::Int => write!(f, "{{{}}}", self.structure::<i32>()),
            Shape::Long => write!(f, "{{{}}}", self.structure::<Long>().value),
            Shape::Long64 => write!(f, "{{{}}}", self.structure::<u64>()),
            Shape::Range => {
                let [start, length]: [u64; 2] = self.structure();
                write!(f, "{{{length} bytes from {start}}}")
            }
            Shape::Geometry | Shape::BigGeometry => {
                let [cylinders, heads, sectors, start] = geometry(self.abi, shape, &self.bytes);
                write!(f, "{{cylinders {cylinders} heads {heads} sectors {sectors} start {start}}}")
            }
            Shape::Idlun => {
                let [id, lun, channel, host] = self.structure::<ScsiIdlun>().dev_id.to_le_bytes();
                write!(f, "{{host {host} channel {channel} id {id} lun {lun}}}")
            }
            Shape::Text => write!(f, "{{{}}}", self.text(0..20)),
            Shape::Identity => {
                write!(f, "{{model {} serial {}}}", self.text(54..94), self.text(20..40))
            }
            Shape::SgIo => {
                let SgIoHdr { interface_id, dxfer_direction, dxfer_len, cmd_len, .. } = self.structure();
                let direction = match dxfer_direction {
                    SG_DXFER_NONE => "no data",
                    SG_DXFER_TO_DEV => "to the disk",
                    SG_DXFER_FROM_DEV => "from the disk",
                    SG_DXFER_TO_FROM_DEV => "both ways",
                    _ => "direction unknown",
                };
                write!(
                    f,
                    "{{interface {interface_id} {direction} {dxfer_len} bytes, command of {cmd_len} bytes "
                )?;
                let shown = usize::from(cmd_len).min(COMMAND);
                hexadecimal(self.command.get(..shown).unwrap_or_default(), f)?;
                f.write_str("}")
            }
            Shape::Bytes => {
                f.write_str("{")?;
                hexadecimal(self.bytes.first_chunk::<16>().unwrap_or(&[0; 16]), f)?;
                f.write_str("}")
            }
        }
    }
}

fn hexadecimal(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// The result of a request as people read it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome(pub Result<i32, Errno>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) => write!(f, "{value}"),
            Err(errno) => write!(f, "-1 {errno}"),
        }
    }
}
