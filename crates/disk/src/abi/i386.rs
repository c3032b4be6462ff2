//! The layout of i386 programs: a `long` and an address have 32 bits, and 64 bits are aligned to four bytes.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{IdeRegValid, RegFlags, ScsiIdlun, ScsiIoctlCommand, SgScsiId, Structure};

/// Defines structures by their length and fields, which the native ones of the same name have too, and converts between
/// the two as C does: what is longer is extended with its sign or cut off.
macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident, $size:literal { $($field:ident: $type:ty,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[allow(missing_docs)]
        pub struct $name { $(pub $field: $type,)+ }

        const _: () = assert!(size_of::<$name>() == $size);

        impl From<$name> for super::$name {
            fn from(from: $name) -> Self {
                let mut to = Self::new_zeroed();
                $(to.$field = from.$field as _;)+
                to
            }
        }

        impl From<super::$name> for $name {
            fn from(from: super::$name) -> Self {
                $name { $($field: from.$field as _,)+ }
            }
        }

        impl Structure for super::$name {
            type I386 = $name;
        }
    )+};
}

structures! {
    /// `struct compat_sg_io_hdr` (include/scsi/sg.h).
    SgIoHdr, 64 {
        interface_id: i32,
        dxfer_direction: i32,
        cmd_len: u8,
        mx_sb_len: u8,
        iovec_count: u16,
        dxfer_len: u32,
        dxferp: u32,
        cmdp: u32,
        sbp: u32,
        timeout: u32,
        flags: u32,
        pack_id: i32,
        usr_ptr: u32,
        status: u8,
        masked_status: u8,
        msg_status: u8,
        sb_len_wr: u8,
        host_status: u16,
        driver_status: u16,
        resid: i32,
        duration: u32,
        info: u32,
    }

    /// `struct compat_iovec` (include/linux/compat.h), whose length the kernel takes for a `compat_ssize_t`.
    Segment, 8 {
        address: u32,
        length: i32,
    }

    /// `struct compat_hd_geometry` (block/ioctl.c).
    HdGeometry, 8 {
        heads: u8,
        sectors: u8,
        cylinders: u16,
        start: u32,
    }

    /// `struct hd_big_geometry`
    HdBigGeometry, 12 {
        heads: u8,
        sectors: u8,
        _pad: u16,
        cylinders: u32,
        start: u32,
    }

    /// `struct ide_task_request_s`
    IdeTaskRequest, 40 {
        io_ports: [u8; 8],
        hob_ports: [u8; 8],
        out_flags: IdeRegValid,
        in_flags: IdeRegValid,
        data_phase: i32,
        req_cmd: i32,
        out_size: u32,
        in_size: u32,
    }

    /// `struct hdio_taskfile` of hdparm(8)
    HdioTaskfile, 48 {
        lob: [u8; 8],
        hob: [u8; 8],
        oflags: RegFlags,
        iflags: RegFlags,
        dphase: i32,
        cmd_req: i32,
        obytes: u32,
        ibytes: u32,
    }

    /// `struct compat_blkpg_ioctl_arg` (block/ioctl.c).
    BlkpgIoctlArg, 16 {
        op: i32,
        flags: i32,
        datalen: i32,
        data: u32,
    }

    /// An `unsigned long`.
    Long, 4 {
        value: u32,
    }
}

/// Structures that both lay out alike.
macro_rules! alike {
    ($($type:ty),+) => {$(
        impl Structure for $type {
            type I386 = $type;
        }
    )+};
}

alike!(u16, u32, i32, u64, [u64; 2], ScsiIdlun, ScsiIoctlCommand, SgScsiId);
