//! Requests and their arguments in words, for the messages of log level 1000.

use core::fmt;

use crate::ata::identify::OBSOLETE_IDENTITY;
use crate::bytes::{copy, part};
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
    got: bool,
}

impl Decoded {
    /// Reads what the caller gives; call it before the request is answered.
    pub fn given(host: &impl Host, request: u32, argument: u64) -> Decoded {
        let what = find(request).map_or(Argument::None, |request: &Request| request.argument);
        let mut decoded = Decoded { what, number: argument, bytes: [0; MOST], got: false };
        if let Argument::In(shape) = what {
            if !decoded.read(host, shape) {
                decoded.what = Argument::None;
            }
        }
        if decoded.what == Argument::In(Shape::SgIo) {
            let command = u64::from_ne_bytes(decoded.at(24));
            let [_, _, _, _, _, _, _, _, command_length] = decoded.at(0);
            let room = decoded.bytes.get_mut(SG_IO_HDR..SG_IO_HDR + COMMAND).unwrap_or_default();
            let length = room.len().min(command_length.into());
            let _ = host.copy_in(command, room.get_mut(..length).unwrap_or_default());
        }
        decoded
    }

    /// Takes what was read already: before the request, or after one that succeeded (`got`).
    pub fn of(request: u32, argument: u64, bytes: &[u8], got: bool) -> Decoded {
        let what = find(request).map_or(Argument::None, |request| request.argument);
        let mut decoded = Decoded { what, number: argument, bytes: [0; MOST], got };
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
        let room = self.bytes.get_mut(..shape.bytes()).unwrap_or_default();
        host.copy_in(self.number, room).is_ok()
    }

    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        part(&self.bytes, offset)
    }

    fn text(&self, range: core::ops::Range<usize>) -> Printed<'_> {
        let text = self.bytes.get(range).unwrap_or_default();
        Printed(text.split(|&byte| byte == 0).next().unwrap_or_default().trim_ascii())
    }
}

/// `struct sg_io_hdr` up to the addresses of data, command and sense data (include/scsi/sg.h, version 3).
const SG_IO_HDR: usize = 40;

impl Shape {
    /// How many bytes are read.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Shape::Short => 2,
            Shape::Int => 4,
            Shape::Long | Shape::Idlun => 8,
            Shape::Range | Shape::Geometry | Shape::BigGeometry | Shape::Bytes => 16,
            Shape::Text => 20,
            Shape::Identity => OBSOLETE_IDENTITY,
            Shape::SgIo => SG_IO_HDR,
        }
    }
}

/// Cylinders, heads, sectors a track and the first sector in a `struct hd_geometry`, or in a `struct hd_big_geometry`
/// ([`Shape::BigGeometry`]; include/uapi/linux/hdreg.h).
pub fn geometry(shape: Shape, bytes: &[u8]) -> [u64; 4] {
    let [heads, sectors] = part(bytes, 0).map(|byte: u8| byte.into());
    let cylinders = match shape {
        Shape::Geometry => u16::from_ne_bytes(part(bytes, 2)).into(),
        _ => u32::from_ne_bytes(part(bytes, 4)).into(),
    };
    [cylinders, heads, sectors, u64::from_ne_bytes(part(bytes, 8))]
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
            Shape::Short => write!(f, "{{{}}}", u16::from_ne_bytes(self.at(0))),
            Shape::Int => write!(f, "{{{}}}", i32::from_ne_bytes(self.at(0))),
            Shape::Long => write!(f, "{{{}}}", u64::from_ne_bytes(self.at(0))),
            Shape::Range => {
                let [start, length] = [0, 8].map(|at| u64::from_ne_bytes(self.at(at)));
                write!(f, "{{{length} bytes from {start}}}")
            }
            Shape::Geometry | Shape::BigGeometry => {
                let [cylinders, heads, sectors, start] = geometry(shape, &self.bytes);
                write!(f, "{{cylinders {cylinders} heads {heads} sectors {sectors} start {start}}}")
            }
            Shape::Idlun => {
                let [id, lun, channel, host] = u32::from_ne_bytes(self.at(0)).to_le_bytes();
                write!(f, "{{host {host} channel {channel} id {id} lun {lun}}}")
            }
            Shape::Text => write!(f, "{{{}}}", self.text(0..20)),
            Shape::Identity => {
                write!(f, "{{model {} serial {}}}", self.text(54..94), self.text(20..40))
            }
            Shape::SgIo => {
                let [interface, direction] = [0, 4].map(|at| i32::from_ne_bytes(self.at(at)));
                let [command_length] = self.at(8);
                let length = u32::from_ne_bytes(self.at(12));
                let direction = match direction {
                    -1 => "no data",
                    -2 => "to the disk",
                    -3 => "from the disk",
                    -4 => "both ways",
                    _ => "direction unknown",
                };
                write!(
                    f,
                    "{{interface {interface} {direction} {length} bytes, command of {command_length} bytes "
                )?;
                let shown = usize::from(command_length).min(COMMAND);
                hexadecimal(self.bytes.get(SG_IO_HDR..SG_IO_HDR + shown).unwrap_or_default(), f)?;
                f.write_str("}")
            }
            Shape::Bytes => {
                f.write_str("{")?;
                hexadecimal(&self.at::<16>(0), f)?;
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
