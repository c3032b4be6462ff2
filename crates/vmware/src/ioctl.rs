//! ioctl(2) as programs call it: through the C library's function, so that a preloaded library can
//! answer.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

use disk::abi::{Abi, SgIoHdr, Structure};
use disk::{Errno, request};
use serde::{Deserialize, Serialize};

/// The requests of [`ask`]. Each writes at most [`Reply::SIZE`] bytes and reads none.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Request {
    /// An `int`.
    ReadOnly = request::BLKROGET,
    /// An `unsigned long`, in 512-byte sectors.
    Sectors = request::BLKGETSIZE,
    /// An `int`, in bytes.
    SectorSize = request::BLKSSZGET,
    /// 64 bits, in bytes.
    Bytes = request::BLKGETSIZE64,
    /// A [`HdGeometry`](disk::abi::HdGeometry).
    Geometry = request::HDIO_GETGEO,
    /// The 512 bytes of IDENTIFY DEVICE.
    Identity = request::HDIO_GET_IDENTITY,
    /// A [`ScsiIdlun`](disk::abi::ScsiIdlun).
    IdLun = request::SCSI_IOCTL_GET_IDLUN,
    /// An `int`.
    BusNumber = request::SCSI_IOCTL_GET_BUS_NUMBER,
}

/// The output of a request, followed by zeros.
#[repr(C, align(8))]
pub struct Reply([u8; Reply::SIZE]);

impl Reply {
    /// The length of the longest reply, that of `HDIO_GET_IDENTITY`.
    const SIZE: usize = 512;

    /// Returns the reply as a structure.
    pub fn structure<T: Structure>(&self) -> T {
        const { assert!(size_of::<T>() <= Reply::SIZE) };
        Abi::Native.parse(&self.0)
    }

    /// Returns the bytes at a constant offset.
    pub fn bytes<const OFFSET: usize, const LENGTH: usize>(&self) -> [u8; LENGTH] {
        const { assert!(OFFSET + LENGTH <= Reply::SIZE) };
        std::array::from_fn(|index| self.0[OFFSET + index])
    }

    /// Returns a word of IDENTIFY DEVICE.
    pub fn word<const NUMBER: usize>(&self) -> u16 {
        const { assert!(2 * NUMBER + 1 < Reply::SIZE) };
        u16::from_ne_bytes([self.0[2 * NUMBER], self.0[2 * NUMBER + 1]])
    }

    #[cfg(test)]
    pub fn new(bytes: &[u8]) -> Reply {
        let mut reply = Reply([0; Reply::SIZE]);
        reply.0[..bytes.len()].copy_from_slice(bytes);
        reply
    }
}

/// Makes a request on a block device or regular file.
pub fn ask(file: &File, request: Request) -> Result<Reply, Errno> {
    let mut reply = Reply([0; Reply::SIZE]);
    // SAFETY: the descriptor is open, and each of the requests writes at most as many bytes as the
    // reply has, which is aligned for all that they write.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as libc::Ioctl, &raw mut reply) };
    if result == -1 {
        return Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or_default()));
    }
    Ok(reply)
}

/// The input of a request that is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The argument itself.
    Number(u64),
    /// The memory at the address that the argument is.
    Memory(Vec<u8>),
    /// A SCSI command for `SG_IO`.
    Command {
        /// `dxfer_direction`
        direction: i32,
        /// The CDB.
        cdb: Vec<u8>,
        /// The data to the disk.
        data: Vec<u8>,
        /// The length of the data buffer, at most [`LONGEST`]; shorter data is followed by zeros.
        length: u32,
        /// The length of the sense buffer; `None`: no buffer.
        sense: Option<u8>,
    },
}

/// The longest data buffer of a repeated command, in bytes; the library accepts at least that.
pub const LONGEST: u32 = 4 << 20;

/// More bytes than a request other than `SG_IO` reads or writes at its address:
/// `HDIO_DRIVE_TASKFILE` transfers 65536 bytes in each direction.
const MEMORY: usize = 256 * 1024;

/// Returns whether a request is known to use no other memory than that at its address.
pub fn is_self_contained(request: u32) -> bool {
    use disk::request::{
        Argument, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, SCSI_IOCTL_SEND_COMMAND, Shape, find,
    };
    match find(request).map(|request| request.argument) {
        None | Some(Argument::In(Shape::SgIo)) => false,
        Some(Argument::In(Shape::Bytes) | Argument::Out(Shape::Bytes)) => matches!(
            request,
            HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE | SCSI_IOCTL_SEND_COMMAND
        ),
        Some(_) => true,
    }
}

/// Repeats a request, whose result the library records. `EINVAL`: it was not made, because it could
/// use other memory.
pub fn resend(file: &File, request: u32, input: &Input) -> Result<(), Errno> {
    let send = |argument: u64| {
        // SAFETY: the descriptor is open. A request with a number takes no address; the memory at
        // an address is as long as the request can need.
        let _ = unsafe { libc::ioctl(file.as_raw_fd(), request as libc::Ioctl, argument) };
    };
    use disk::request::{Argument, SG_IO, find};
    match (input, find(request).map(|request| request.argument)) {
        (Input::Number(number), Some(Argument::Number)) => send(*number),
        (Input::Number(_), Some(Argument::None)) => send(0),
        (Input::Memory(bytes), Some(Argument::In(_) | Argument::Out(_)))
            if is_self_contained(request) && bytes.len() <= MEMORY =>
        {
            let mut memory = vec![[0u8; 8]; MEMORY / 8];
            memory.as_flattened_mut()[..bytes.len()].copy_from_slice(bytes);
            send(memory.as_mut_ptr().expose_provenance() as u64);
        }
        (Input::Command { direction, cdb, data, length, sense }, _)
            if request == SG_IO && *length <= LONGEST =>
        {
            let (mut data, mut room) = (data.clone(), [0u8; 256]);
            data.resize(*length as usize, 0);
            let mut hdr = SgIoHdr {
                interface_id: SgIoHdr::INTERFACE,
                dxfer_direction: *direction,
                cmd_len: u8::try_from(cdb.len()).map_err(|_| Errno::EINVAL)?,
                mx_sb_len: sense.unwrap_or(0),
                dxfer_len: *length,
                dxferp: data.as_mut_ptr().expose_provenance() as u64,
                cmdp: cdb.as_ptr().expose_provenance() as u64,
                sbp: sense.map_or(0, |_| room.as_mut_ptr().expose_provenance() as u64),
                // Milliseconds.
                timeout: 60_000,
                ..SgIoHdr::default()
            };
            send((&raw mut hdr).expose_provenance() as u64);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}
