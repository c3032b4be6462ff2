//! ioctl(2) as programs call it: through the C library's function, so that a preloaded library can answer.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

use disk::Errno;

/// The requests that are asked. Each writes at most [`Reply::SIZE`] bytes and reads none.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Request {
    /// `BLKROGET` (linux/fs.h): an `int`.
    ReadOnly = 0x125e,
    /// `BLKGETSIZE` (linux/fs.h): an `unsigned long`, in 512-byte sectors.
    Sectors = 0x1260,
    /// `BLKSSZGET` (linux/fs.h): an `int`, in bytes.
    SectorSize = 0x1268,
    /// `BLKGETSIZE64` (linux/fs.h): 64 bits, in bytes.
    Bytes = 0x8008_1272,
    /// `HDIO_GETGEO` (linux/hdreg.h): a `struct hd_geometry`.
    Geometry = 0x0301,
    /// `HDIO_GET_IDENTITY` (linux/hdreg.h): the 512 bytes of IDENTIFY DEVICE.
    Identity = 0x030d,
    /// `SCSI_IOCTL_GET_IDLUN` (scsi/scsi_ioctl.h): two 32-bit numbers.
    IdLun = 0x5382,
    /// `SCSI_IOCTL_GET_BUS_NUMBER` (scsi/scsi.h): an `int`.
    BusNumber = 0x5386,
}

/// What a request wrote; zeros behind it.
#[repr(C, align(8))]
pub struct Reply([u8; Reply::SIZE]);

impl Reply {
    /// As much as the longest reply, `HDIO_GET_IDENTITY`'s.
    const SIZE: usize = 512;

    /// The bytes from a constant offset.
    pub fn bytes<const OFFSET: usize, const LENGTH: usize>(&self) -> [u8; LENGTH] {
        const { assert!(OFFSET + LENGTH <= Reply::SIZE) };
        std::array::from_fn(|index| self.0[OFFSET + index])
    }

    /// A 16-bit word of IDENTIFY DEVICE.
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

/// Asks a block device or regular file.
pub fn ask(file: &File, request: Request) -> Result<Reply, Errno> {
    let mut reply = Reply([0; Reply::SIZE]);
    // SAFETY: the descriptor is open, and each of the requests writes at most as many bytes as the reply has, which is
    // aligned for all that they write.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as libc::Ioctl, &raw mut reply) };
    if result == -1 {
        return Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or_default()));
    }
    Ok(reply)
}
