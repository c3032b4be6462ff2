//! Structures that callers and the kernel exchange, with the names of the kernel's headers.
//!
//! The types have the layout of 64-bit programs; [`i386`] has that of i386 programs, which a 64-bit
//! kernel converts (`CONFIG_COMPAT`). [`Caller::fetch`](crate::Caller::fetch) and
//! [`Caller::store`](crate::Caller::store) convert as the caller needs.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::bytes::copy;

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
    copy(value.as_mut_bytes(), 0, bytes);
    value
}

/// Defines structures by their fields, with the size in each layout. A field of another type in the
/// layout of i386 programs has both: there, a `long` and an address have 32 bits, and 64 bits are
/// aligned to four bytes, so there is no padding. Conversion is C's: a value is sign-extended or
/// truncated.
macro_rules! structures {
    ($($(#[$doc:meta])+ $name:ident: $size:literal $(/ $i386_size:literal)? {
        $($(#[$field_doc:meta])* $field:ident: $type:ty $(as $i386:ty)?,)+
    })+) => {
        $(structure! { $(#[$doc])+ $name: $size { $($(#[$field_doc])* $field: $type,)+ } })+

        /// The same structures in the layout of i386 programs.
        pub mod i386 {
            use super::*;

            $(i386_structure! { $(#[$doc])+ $name $($i386_size)? { $($field: $type $(as $i386)?,)+ } })+
        }
    };
}

macro_rules! structure {
    ($(#[$doc:meta])+ $name:ident: $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[allow(missing_docs, reason = "named as in the kernel's headers")]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)+ }

        const _: () = assert!(size_of::<$name>() == $size);
    };
}

macro_rules! i386_structure {
    // Both lay it out alike.
    ($(#[$doc:meta])+ $name:ident { $($fields:tt)+ }) => {
        impl Structure for super::$name {
            type I386 = super::$name;
        }
    };
    ($(#[$doc:meta])+ $name:ident $size:literal { $($field:ident: $type:ty $(as $i386:ty)?,)+ }) => {
        structure! { $(#[$doc])+ $name: $size { $($field: either!($($i386,)? $type),)+ } }

        impl From<$name> for super::$name {
            fn from(from: $name) -> Self {
                super::$name { $($field: from.$field.convert(),)+ }
            }
        }

        impl From<super::$name> for $name {
            fn from(from: super::$name) -> Self {
                $name { $($field: from.$field.convert(),)+ }
            }
        }

        impl Structure for super::$name {
            type I386 = $name;
        }
    };
}

/// The first of two types.
macro_rules! either {
    ($first:ty $(, $second:ty)?) => {
        $first
    };
}

/// Conversion between the types of a field.
trait Convert<T> {
    fn convert(self) -> T;
}

impl<T> Convert<T> for T {
    fn convert(self) -> T {
        self
    }
}

macro_rules! conversions {
    ($($from:ty as $to:ty),+) => {
        $(impl Convert<$to> for $from {
            fn convert(self) -> $to {
                self as $to
            }
        })+
    };
}

conversions! { u64 as u32, u32 as u64, u64 as i32, i32 as u64 }

/// Padding, which i386 programs do not have.
type NoPadding = [u8; 0];

impl Convert<NoPadding> for u32 {
    fn convert(self) -> NoPadding {
        []
    }
}

impl Convert<u32> for NoPadding {
    fn convert(self) -> u32 {
        0
    }
}

structures! {
    /// `struct sg_io_hdr` and `struct compat_sg_io_hdr` (include/scsi/sg.h).
    SgIoHdr: 88 / 64 {
        interface_id: i32,
        dxfer_direction: i32,
        cmd_len: u8,
        mx_sb_len: u8,
        iovec_count: u16,
        dxfer_len: u32,
        dxferp: u64 as u32,
        cmdp: u64 as u32,
        sbp: u64 as u32,
        timeout: u32,
        flags: u32,
        pack_id: i32,
        _pad: u32 as NoPadding,
        usr_ptr: u64 as u32,
        status: u8,
        masked_status: u8,
        msg_status: u8,
        sb_len_wr: u8,
        host_status: u16,
        driver_status: u16,
        resid: i32,
        duration: u32,
        info: u32,
        _end: u32 as NoPadding,
    }

    /// `struct pr_reservation` (include/uapi/linux/pr.h).
    PrReservation: 16 {
        key: u64,
        r#type: u32,
        flags: u32,
    }

    /// `struct pr_registration`.
    PrRegistration: 24 {
        old_key: u64,
        new_key: u64,
        flags: u32,
        _pad: u32,
    }

    /// `struct pr_preempt`.
    PrPreempt: 24 {
        old_key: u64,
        new_key: u64,
        r#type: u32,
        flags: u32,
    }

    /// `struct pr_clear`.
    PrClear: 16 {
        key: u64,
        flags: u32,
        _pad: u32,
    }

    /// `struct pr_read_keys`.
    PrReadKeys: 16 {
        generation: u32,
        num_keys: u32,
        keys_ptr: u64,
    }

    /// `struct pr_read_reservation`.
    PrReadReservation: 16 {
        key: u64,
        generation: u32,
        r#type: u32,
    }

    /// A segment of the caller's memory, laid out as `struct iovec` (include/uapi/linux/uio.h) and
    /// as `struct compat_iovec`, whose length the kernel takes for a `compat_ssize_t`.
    Segment: 16 / 8 {
        /// Its address, `iov_base`.
        address: u64 as u32,
        /// Its length in bytes, `iov_len`.
        length: u64 as i32,
    }

    /// `struct sg_scsi_id` (include/scsi/sg.h).
    SgScsiId: 32 {
        host_no: i32,
        channel: i32,
        scsi_id: i32,
        lun: i32,
        scsi_type: i32,
        h_cmd_per_lun: i16,
        d_queue_depth: i16,
        unused: [i32; 2],
    }

    /// `struct scsi_idlun` (drivers/scsi/scsi_ioctl.c).
    ScsiIdlun: 8 {
        /// Target, logical unit, channel and host, eight bits each, the target's lowest.
        dev_id: u32,
        host_unique_id: u32,
    }

    /// `struct scsi_ioctl_command` (include/scsi/scsi_ioctl.h); the CDB and the data follow it.
    ScsiIoctlCommand: 8 {
        /// Bytes to the disk.
        inlen: u32,
        /// Bytes from the disk.
        outlen: u32,
    }

    /// `struct hd_geometry` (include/uapi/linux/hdreg.h) and `struct compat_hd_geometry`
    /// (block/ioctl.c).
    HdGeometry: 16 / 8 {
        heads: u8,
        sectors: u8,
        cylinders: u16,
        _pad: u32 as NoPadding,
        start: u64 as u32,
    }

    /// `struct hd_big_geometry` (include/linux/hdreg.h of Linux 2.4).
    HdBigGeometry: 16 / 12 {
        heads: u8,
        sectors: u8,
        _pad: u16,
        cylinders: u32,
        start: u64 as u32,
    }

    /// `struct ide_task_request_s` (include/uapi/linux/hdreg.h); the data to the disk and then the
    /// data from it follow.
    IdeTaskRequest: 48 / 40 {
        io_ports: [u8; 8],
        hob_ports: [u8; 8],
        out_flags: IdeRegValid,
        in_flags: IdeRegValid,
        data_phase: i32,
        req_cmd: i32,
        out_size: u64 as u32,
        in_size: u64 as u32,
    }

    /// `struct hdio_taskfile` of hdparm(8) (sgio.h), which it sends where the kernel takes an
    /// [`IdeTaskRequest`].
    HdioTaskfile: 56 / 48 {
        lob: [u8; 8],
        hob: [u8; 8],
        oflags: RegFlags,
        iflags: RegFlags,
        dphase: i32,
        cmd_req: i32,
        obytes: u64 as u32,
        ibytes: u64 as u32,
    }

    /// `struct blkpg_ioctl_arg` (include/uapi/linux/blkpg.h).
    BlkpgIoctlArg: 24 / 16 {
        op: i32,
        flags: i32,
        datalen: i32,
        _pad: u32 as NoPadding,
        data: u64 as u32,
    }

    /// An `unsigned long`.
    Long: 8 / 4 {
        value: u64 as u32,
    }
}

structure! {
    /// `ide_reg_valid_t` (include/uapi/linux/hdreg.h): 16 flags in a bit-field of 32 bits.
    IdeRegValid: 4 {
        all: u16,
        _pad: u16,
    }
}

structure! {
    /// `union reg_flags` of hdparm(8) (sgio.h): a bit-field of 32 bits for each byte of flags.
    RegFlags: 8 {
        lob_all: u32,
        hob_all: u32,
    }
}

/// Types that both lay out alike.
macro_rules! alike {
    ($($type:ty),+) => {
        $(impl Structure for $type {
            type I386 = $type;
        })+
    };
}

alike!(u16, u32, i32, u64, [u64; 2]);

impl Segment {
    /// Returns memory that the kernel reads.
    pub fn of<T>(items: &[T]) -> Segment {
        Segment { address: items.as_ptr().expose_provenance() as u64, length: size_of_val(items) as u64 }
    }

    /// Returns memory that the kernel writes.
    pub fn of_mut(bytes: &mut [u8]) -> Segment {
        Segment { address: bytes.as_mut_ptr().expose_provenance() as u64, length: bytes.len() as u64 }
    }
}

impl SgIoHdr {
    /// Returns how many bytes of a data buffer of this length were transferred. After a length
    /// mismatch the residual is 0, though nothing was transferred.
    pub fn transferred(&self, length: u64) -> u64 {
        match self.host_status {
            0 => length.saturating_sub(u64::try_from(self.resid).unwrap_or(u64::MAX)),
            _ => 0,
        }
    }

    /// `interface_id` of version 3.
    pub const INTERFACE: i32 = b'S' as i32;
}

/// `dxfer_direction` (include/scsi/sg.h).
pub const SG_DXFER_NONE: i32 = -1;
/// See [`SG_DXFER_NONE`].
pub const SG_DXFER_TO_DEV: i32 = -2;
/// See [`SG_DXFER_NONE`].
pub const SG_DXFER_FROM_DEV: i32 = -3;
/// See [`SG_DXFER_NONE`].
pub const SG_DXFER_TO_FROM_DEV: i32 = -4;

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
