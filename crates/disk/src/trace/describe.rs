//! Requests and their arguments as text, for the messages of log level 1000.

use core::fmt;
use core::mem::offset_of;

use crate::abi::{
    Abi, HdBigGeometry, HdGeometry, Long, SG_DXFER_FROM_DEV, SG_DXFER_NONE, SG_DXFER_TO_DEV,
    SG_DXFER_TO_FROM_DEV, ScsiIdlun, SgIoHdr, Structure, i386,
};
use crate::ata::identify::OBSOLETE_IDENTITY;
use crate::bytes::copy;
use crate::errno::Errno;
use crate::host::Host;
use crate::ioctl::request::{Argument, Shape, find, meant};
use crate::ioctl::sg_io::MAX_CDB;
use crate::printed::Printed;

/// The most bytes of an argument that are read.
const MAX_ARGUMENT: usize = OBSOLETE_IDENTITY;

/// Displays the name of a request, or the number of an unknown one.
#[derive(Clone, Copy, Debug)]
pub struct RequestName(pub u32);

impl fmt::Display for RequestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match find(self.0) {
            Some(request) => f.write_str(request.name()),
            None => write!(f, "{:#x} (unknown: please report this line)", self.0),
        }
    }
}

/// The argument of a request and what it points to, read from the caller's memory.
#[derive(Clone, Copy, Debug)]
pub struct DecodedArgument {
    argument: Argument,
    /// The argument itself, a number or an address.
    value: u64,
    /// The structure at the address.
    bytes: [u8; MAX_ARGUMENT],
    /// The CDB of `SG_IO`, if it could be read.
    cdb: [u8; MAX_CDB],
    cdb_length: usize,
    abi: Abi,
    /// Whether `bytes` is what the request returned.
    has_output: bool,
}

impl DecodedArgument {
    fn new(request: u32, value: u64, abi: Abi) -> DecodedArgument {
        DecodedArgument {
            argument: meant(abi, request).and_then(find).map_or(Argument::None, |request| request.argument),
            value,
            bytes: [0; MAX_ARGUMENT],
            cdb: [0; MAX_CDB],
            cdb_length: 0,
            abi,
            has_output: false,
        }
    }

    /// Reads the input of a request, before it is answered.
    pub fn read_input(host: &impl Host, request: u32, argument: u64) -> DecodedArgument {
        let mut decoded = DecodedArgument::new(request, argument, host.abi());
        if let Argument::In(shape) = decoded.argument {
            if !decoded.read(host, shape) {
                decoded.argument = Argument::None;
            }
        }
        if decoded.argument == Argument::In(Shape::SgIo) {
            let SgIoHdr { cmdp, cmd_len, .. } = decoded.structure();
            let length = MAX_CDB.min(cmd_len.into());
            let cdb = decoded.cdb.get_mut(..length).unwrap_or_default();
            if host.copy_in(cmdp, cdb).is_ok() {
                decoded.cdb_length = length;
            }
        }
        decoded
    }

    /// Returns the argument of a recorded request, with what its address held before and after the
    /// request. Nothing was there before if it could not be read.
    pub fn from_record(
        abi: Abi,
        request: u32,
        argument: u64,
        [before, after, cdb]: [&[u8]; 3],
    ) -> DecodedArgument {
        let mut decoded = DecodedArgument::new(request, argument, abi);
        decoded.has_output = !after.is_empty();
        match decoded.argument {
            Argument::In(_) if before.is_empty() => decoded.argument = Argument::None,
            Argument::In(_) => copy(&mut decoded.bytes, 0, before),
            _ => copy(&mut decoded.bytes, 0, after),
        }
        copy(&mut decoded.cdb, 0, cdb);
        decoded.cdb_length = cdb.len().min(MAX_CDB);
        decoded
    }

    /// Reads the output of a request that succeeded.
    pub fn read_output(&mut self, host: &impl Host) {
        if let Argument::Out(shape) = self.argument {
            self.has_output = self.read(host, shape);
        }
    }

    fn read(&mut self, host: &impl Host, shape: Shape) -> bool {
        let bytes = self.bytes.get_mut(..shape.bytes(self.abi)).unwrap_or_default();
        host.copy_in(self.value, bytes).is_ok()
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
    /// Returns how many bytes are read.
    pub fn bytes(self, abi: Abi) -> usize {
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
            // What follows the CDB's address is not shown.
            Shape::SgIo => match abi {
                Abi::Native => offset_of!(SgIoHdr, sbp),
                Abi::I386 => offset_of!(i386::SgIoHdr, sbp),
            },
        }
    }
}

/// Returns cylinders, heads, sectors per track and the first sector of a `struct hd_geometry` or,
/// for [`Shape::BigGeometry`], a `struct hd_big_geometry`.
pub fn geometry(abi: Abi, shape: Shape, bytes: &[u8]) -> [u64; 4] {
    if shape == Shape::Geometry {
        let HdGeometry { heads, sectors, cylinders, start, .. } = abi.parse(bytes);
        return [cylinders.into(), heads.into(), sectors.into(), start];
    }
    let HdBigGeometry { heads, sectors, cylinders, start, .. } = abi.parse(bytes);
    [cylinders.into(), heads.into(), sectors.into(), start]
}

/// Displays the input of a request.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a DecodedArgument);

impl fmt::Display for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decoded = self.0;
        match decoded.argument {
            Argument::Number => write!(f, "{}", decoded.value as i64),
            Argument::In(shape) => decoded.write(shape, f),
            Argument::None | Argument::Out(_) => write!(f, "{:#x}", decoded.value),
        }
    }
}

/// Displays the output of a request after a blank, if it has any.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a>(pub &'a DecodedArgument);

impl fmt::Display for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decoded = self.0;
        match decoded.argument {
            Argument::Out(shape) if decoded.has_output => {
                f.write_str(" ")?;
                decoded.write(shape, f)
            }
            _ => Ok(()),
        }
    }
}

impl DecodedArgument {
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
                write!(f, "{{interface {interface_id} {direction} {dxfer_len} bytes, ")?;
                write!(f, "command of {cmd_len} bytes")?;
                let cdb = self.cdb.get(..self.cdb_length).unwrap_or_default();
                f.write_str(if cdb.is_empty() { "" } else { " " })?;
                hexadecimal(cdb, f)?;
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

/// Displays the return value of ioctl(2), and the error.
#[derive(Clone, Copy, Debug)]
pub struct ReturnValue(pub Result<i32, Errno>);

impl fmt::Display for ReturnValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) => write!(f, "{value}"),
            Err(errno) => write!(f, "-1 {errno}"),
        }
    }
}
