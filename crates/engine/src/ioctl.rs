//! ioctl(2) as programs call it: through the C library's function, so that a preloaded library can
//! answer.

use core::ffi::{c_int, c_ulong, c_void};

use disk::Errno;
use disk::abi::SgIoHdr;
use disk::request::{
    Argument, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, SCSI_IOCTL_SEND_COMMAND, SG_IO, Shape,
    find,
};

use crate::errno;
use crate::sys::File;

/// A block device or image file that is open until it is dropped.
pub struct Device(File);

/// What an argument points to, aligned for all that a request reads or writes.
#[repr(C, align(8))]
pub struct Buffer<const SIZE: usize>(pub [u8; SIZE]);

/// A SCSI command for `SG_IO`.
pub struct Command<'a> {
    /// `dxfer_direction`
    pub direction: i32,
    /// The CDB.
    pub cdb: &'a [u8],
    /// The data-in or data-out buffer.
    pub data: &'a mut [u8],
    /// The buffer for sense data; `None`: no address is given.
    pub sense: Option<&'a mut [u8]>,
}

/// The length in bytes of the longest reply of a request that only returns data,
/// `HDIO_GET_IDENTITY`.
pub const REPLY: usize = 512;

/// More bytes than any request except `SG_IO` reads or writes at its address: `HDIO_DRIVE_TASKFILE`
/// moves 65536 bytes each way.
pub const MOST: usize = 256 * 1024;

/// Returns how many bytes at its address a request may read and write; `None` if it takes no address,
/// or may touch other memory too.
pub fn room(request: u32) -> Option<usize> {
    match find(request)?.argument {
        Argument::None | Argument::Number | Argument::In(Shape::SgIo) => None,
        Argument::In(Shape::Bytes) | Argument::Out(Shape::Bytes) => matches!(
            request,
            HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE | SCSI_IOCTL_SEND_COMMAND
        )
        .then_some(MOST),
        // The driver chooses the length of the text.
        Argument::In(_) | Argument::Out(Shape::Text) => Some(MOST),
        Argument::Out(_) => Some(REPLY),
    }
}

impl Device {
    /// Takes over a descriptor; `ENOTBLK` where it is not one of a block device or regular file.
    pub fn own(fd: c_int) -> Result<Device, Errno> {
        let file = File::from_fd(fd);
        match file.status()?.file_type() {
            libc::S_IFBLK | libc::S_IFREG => Ok(Device(file)),
            _ => Err(Errno::ENOTBLK),
        }
    }

    /// Makes a request whose argument is a number or is ignored; `EINVAL` for any other.
    pub fn pass(&self, request: u32, number: u64) -> Result<c_int, Errno> {
        let argument = match find(request).map(|request| request.argument) {
            Some(Argument::Number) => number as c_ulong,
            Some(Argument::None) => 0,
            _ => return Err(Errno::EINVAL),
        };
        // SAFETY: the request takes no address (its row), and of a block device or regular file it is.
        result(unsafe { libc::ioctl(self.0.fd(), request as libc::Ioctl, argument) })
    }

    /// Makes a request whose argument is an address; `EINVAL` where the buffer has less than its
    /// [`room`].
    pub fn lend<const SIZE: usize>(&self, request: u32, buffer: &mut Buffer<SIZE>) -> Result<c_int, Errno> {
        if room(request).is_none_or(|room| room > SIZE) {
            return Err(Errno::EINVAL);
        }
        let argument: *mut c_void = buffer.0.as_mut_ptr().cast();
        // SAFETY: of a block device or regular file, the request touches no more bytes there than the
        // buffer has, which is borrowed mutably and aligned, and none elsewhere (`room`).
        result(unsafe { libc::ioctl(self.0.fd(), request as libc::Ioctl, argument) })
    }

    /// Makes `SG_IO`; `EINVAL` if a length does not fit into its header.
    pub fn send(&self, command: Command<'_>) -> Result<c_int, Errno> {
        let Command { direction, cdb, data, sense } = command;
        let (sense, room) =
            sense.map_or((0, 0), |sense| (sense.as_mut_ptr().expose_provenance() as u64, sense.len()));
        let mut hdr = SgIoHdr {
            interface_id: SgIoHdr::INTERFACE,
            dxfer_direction: direction,
            cmd_len: u8::try_from(cdb.len()).map_err(|_| Errno::EINVAL)?,
            mx_sb_len: u8::try_from(room).map_err(|_| Errno::EINVAL)?,
            dxfer_len: u32::try_from(data.len()).map_err(|_| Errno::EINVAL)?,
            dxferp: data.as_mut_ptr().expose_provenance() as u64,
            cmdp: cdb.as_ptr().expose_provenance() as u64,
            sbp: sense,
            // Milliseconds.
            timeout: 60_000,
            ..SgIoHdr::default()
        };
        let argument: *mut SgIoHdr = &raw mut hdr;
        // SAFETY: the header is its own, and its addresses and lengths are those of what is borrowed:
        // the CDB is read, the other two are borrowed mutably.
        result(unsafe { libc::ioctl(self.0.fd(), SG_IO as libc::Ioctl, argument) })
    }
}

fn result(value: c_int) -> Result<c_int, Errno> {
    if value == -1 { Err(Errno(errno::get())) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::request::{BLKGETSIZE64, BLKPG, BLKRASET};

    fn own(path: &core::ffi::CStr) -> Result<Device, Errno> {
        let file = core::mem::ManuallyDrop::new(File::open(path, libc::O_RDONLY | libc::O_CLOEXEC)?);
        Device::own(file.fd())
    }

    #[test]
    fn a_request_that_could_touch_other_memory_is_not_made() {
        assert!(matches!(own(c"/dev/null"), Err(Errno::ENOTBLK)));
        let file = own(c"/proc/self/exe").expect("it is a regular file");
        let mut buffer = Buffer([0; REPLY]);
        for request in [SG_IO, BLKPG, BLKRASET, HDIO_DRIVE_CMD, 0x5399] {
            assert_eq!(file.lend(request, &mut buffer), Err(Errno::EINVAL), "{request:#x}");
        }
        for request in [SG_IO, BLKPG, BLKGETSIZE64, 0x5399] {
            assert_eq!(file.pass(request, 0), Err(Errno::EINVAL), "{request:#x}");
        }
        // The kernel has no such requests for a regular file.
        assert_eq!(file.lend(BLKGETSIZE64, &mut buffer), Err(Errno::ENOTTY));
        assert_eq!(file.pass(BLKRASET, 0), Err(Errno::ENOTTY));
    }
}
