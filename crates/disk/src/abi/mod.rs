//! Structures that callers and the kernel exchange, with the names of the kernel's headers.
//!
//! The types have the layout of 64-bit programs; [`i386`] has that of i386 programs, which a 64-bit kernel converts
//! (`CONFIG_COMPAT`). [`Host::fetch`](crate::Host::fetch) and [`Host::store`](crate::Host::store) convert as the caller needs.

pub mod i386;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How a program lays out structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// As 64-bit programs do.
    Native,
    /// As i386 programs do.
    I386,
}

/// A structure in the layout of 64-bit programs.
pub trait Structure: FromBytes + IntoBytes + Immutable + Sized {
    /// The same in the layout of i386 programs.
    type I386: FromBytes + IntoBytes + Immutable + From<Self> + Into<Self>;
}

impl Abi {
    /// Returns the length of a structure in bytes.
    pub const fn size_of<T: Structure>(self) -> usize {
        match self {
            Abi::Native => size_of::<T>(),
            Abi::I386 => size_of::<T::I386>(),
        }
    }

    /// Returns the structure at the start of `bytes`, with zeros for what is missing.
    pub fn parse<T: Structure>(self, bytes: &[u8]) -> T {
        match self {
            Abi::Native => prefix(bytes),
            Abi::I386 => prefix::<T::I386>(bytes).into(),
        }
    }
}

fn prefix<T: FromBytes + IntoBytes>(bytes: &[u8]) -> T {
    let mut value = T::new_zeroed();
    value.as_mut_bytes().iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    value
}

/// `struct sg_io_hdr` (include/scsi/sg.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SgIoHdr {
    pub interface_id: i32,
    pub dxfer_direction: i32,
    pub cmd_len: u8,
    pub mx_sb_len: u8,
    pub iovec_count: u16,
    pub dxfer_len: u32,
    pub dxferp: u64,
    pub cmdp: u64,
    pub sbp: u64,
    pub timeout: u32,
    pub flags: u32,
    pub pack_id: i32,
    pub _pad: u32,
    pub usr_ptr: u64,
    pub status: u8,
    pub masked_status: u8,
    pub msg_status: u8,
    pub sb_len_wr: u8,
    pub host_status: u16,
    pub driver_status: u16,
    pub resid: i32,
    pub duration: u32,
    pub info: u32,
    pub _end: u32,
}
const _: () = assert!(size_of::<SgIoHdr>() == 88);

impl SgIoHdr {
    /// `interface_id` of version 3.
    pub const INTERFACE: i32 = b'S' as i32;
}

/// `SG_DXFER_NONE`
pub const SG_DXFER_NONE: i32 = -1;
/// `SG_DXFER_TO_DEV`
pub const SG_DXFER_TO_DEV: i32 = -2;
/// `SG_DXFER_FROM_DEV`
pub const SG_DXFER_FROM_DEV: i32 = -3;
/// `SG_DXFER_TO_FROM_DEV`
pub const SG_DXFER_TO_FROM_DEV: i32 = -4;

/// A part of the caller's memory, laid out as `struct iovec` (include/uapi/linux/uio.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// Its address, `iov_base`.
    pub address: u64,
    /// Its length in bytes, `iov_len`.
    pub length: u64,
}
const _: () = assert!(size_of::<Segment>() == 16);

/// `struct sg_scsi_id` (include/scsi/sg.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SgScsiId {
    pub host_no: i32,
    pub channel: i32,
    pub scsi_id: i32,
    pub lun: i32,
    pub scsi_type: i32,
    pub h_cmd_per_lun: i16,
    pub d_queue_depth: i16,
    pub unused: [i32; 2],
}
const _: () = assert!(size_of::<SgScsiId>() == 32);

/// `struct scsi_idlun` (drivers/scsi/scsi_ioctl.c).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ScsiIdlun {
    /// Target, logical unit, channel and host, eight bits each, the target's lowest.
    pub dev_id: u32,
    /// A number of the host adapter.
    pub host_unique_id: u32,
}
const _: () = assert!(size_of::<ScsiIdlun>() == 8);

/// `struct scsi_ioctl_command` (include/scsi/scsi_ioctl.h); the CDB and the data follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ScsiIoctlCommand {
    /// Bytes to the disk.
    pub inlen: u32,
    /// Bytes from the disk.
    pub outlen: u32,
}
const _: () = assert!(size_of::<ScsiIoctlCommand>() == 8);

/// `struct hd_geometry` (include/uapi/linux/hdreg.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct HdGeometry {
    pub heads: u8,
    pub sectors: u8,
    pub cylinders: u16,
    pub _pad: u32,
    pub start: u64,
}
const _: () = assert!(size_of::<HdGeometry>() == 16);

/// `struct hd_big_geometry` (include/linux/hdreg.h of Linux 2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct HdBigGeometry {
    pub heads: u8,
    pub sectors: u8,
    pub _pad: u16,
    pub cylinders: u32,
    pub start: u64,
}
const _: () = assert!(size_of::<HdBigGeometry>() == 16);

/// `ide_reg_valid_t` (include/uapi/linux/hdreg.h): 16 flags in a bit-field of 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct IdeRegValid {
    pub all: u16,
    pub _pad: u16,
}

/// `struct ide_task_request_s` (include/uapi/linux/hdreg.h); the data to the disk and then the data from it follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct IdeTaskRequest {
    pub io_ports: [u8; 8],
    pub hob_ports: [u8; 8],
    pub out_flags: IdeRegValid,
    pub in_flags: IdeRegValid,
    pub data_phase: i32,
    pub req_cmd: i32,
    pub out_size: u64,
    pub in_size: u64,
}
const _: () = assert!(size_of::<IdeTaskRequest>() == 48);

/// `union reg_flags` of hdparm(8) (sgio.h): a bit-field of 32 bits for each byte of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RegFlags {
    pub lob_all: u32,
    pub hob_all: u32,
}

/// `struct hdio_taskfile` of hdparm(8) (sgio.h), which it sends where the kernel takes an [`IdeTaskRequest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct HdioTaskfile {
    pub lob: [u8; 8],
    pub hob: [u8; 8],
    pub oflags: RegFlags,
    pub iflags: RegFlags,
    pub dphase: i32,
    pub cmd_req: i32,
    pub obytes: u64,
    pub ibytes: u64,
}
const _: () = assert!(size_of::<HdioTaskfile>() == 56);

impl From<RegFlags> for IdeRegValid {
    fn from(flags: RegFlags) -> IdeRegValid {
        IdeRegValid { all: u16::from_le_bytes([flags.lob_all as u8, flags.hob_all as u8]), _pad: 0 }
    }
}

impl From<HdioTaskfile> for IdeTaskRequest {
    fn from(taskfile: HdioTaskfile) -> IdeTaskRequest {
        IdeTaskRequest {
            io_ports: taskfile.lob,
            hob_ports: taskfile.hob,
            out_flags: taskfile.oflags.into(),
            in_flags: taskfile.iflags.into(),
            data_phase: taskfile.dphase,
            req_cmd: taskfile.cmd_req,
            out_size: taskfile.obytes,
            in_size: taskfile.ibytes,
        }
    }
}

/// `struct blkpg_ioctl_arg` (include/uapi/linux/blkpg.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct BlkpgIoctlArg {
    pub op: i32,
    pub flags: i32,
    pub datalen: i32,
    pub _pad: u32,
    pub data: u64,
}
const _: () = assert!(size_of::<BlkpgIoctlArg>() == 24);

/// An `unsigned long`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Long {
    /// The number.
    pub value: u64,
}
