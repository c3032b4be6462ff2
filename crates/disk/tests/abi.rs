//! Structures in the layouts of 64-bit and of i386 programs.

use std::fs;
use std::mem::offset_of;
use std::process::Command;

use disk::abi::*;
use disk::host::Segment;
use disk::request::*;
use disk::trace::capture::Capture;
use disk::trace::{DecodedArgument, Input};
use disk::{Answer, Caller, Errno, Medium};
use memory_disk::host::{BASE, FAR, POISON};
use memory_disk::sg_io::{DATA, FROM_DEV, LIST, TO_DEV, sg_io_hdr};
use memory_disk::{Disk, MemoryHost, numbered_blocks};
use proptest::prelude::*;
use zerocopy::IntoBytes;

const ABIS: [Abi; 2] = [Abi::Native, Abi::I386];

/// Writes down what a C compiler has to find true of a structure, by its name in C, and of its fields, in a layout.
macro_rules! layout {
    ($out:ident, $c:literal, $type:ty $(, $field:ident $(= $other:literal)?)+) => {
        $out += &format!("_Static_assert(sizeof({}) == {}, {0:?});\n", $c, size_of::<$type>());
        $($out += &format!(
            "_Static_assert(offsetof({}, {name}) == {}, {name:?});\n",
            $c,
            offset_of!($type, $field),
            name = [$($other,)? stringify!($field)][0],
        );)+
    };
}

/// Writes down what has to be true of all structures of a module.
macro_rules! layouts {
    ($out:ident, $($layout:ident)::+) => {{
        use $($layout)::+ as layout;
        layout!($out, "struct sg_io_hdr", layout::SgIoHdr, interface_id, dxfer_direction, cmd_len, mx_sb_len,
            iovec_count, dxfer_len, dxferp, cmdp, sbp, timeout, flags, pack_id, usr_ptr, status, masked_status, msg_status,
            sb_len_wr, host_status, driver_status, resid, duration, info);
        layout!($out, "struct iovec", layout::Segment, address = "iov_base", length = "iov_len");
        layout!($out, "struct hd_geometry", layout::HdGeometry, heads, sectors, cylinders, start);
        layout!($out, "struct hd_big_geometry", layout::HdBigGeometry, heads, sectors, cylinders, start);
        layout!($out, "struct ide_task_request_s", layout::IdeTaskRequest, io_ports, hob_ports, out_flags, in_flags,
            data_phase, req_cmd, out_size, in_size);
        layout!($out, "struct hdio_taskfile", layout::HdioTaskfile, lob, hob, oflags, iflags, dphase, cmd_req, obytes,
            ibytes);
        layout!($out, "struct blkpg_ioctl_arg", layout::BlkpgIoctlArg, op, flags, datalen, data);
        layout!($out, "struct word", layout::Long, value);
    }};
}

/// The headers, and what they do not define (any more).
const HEADERS: &str = "
#include <stddef.h>
#include <linux/blkpg.h>
#include <linux/hdreg.h>
#include <linux/uio.h>
#include <scsi/sg.h>
struct hd_big_geometry { unsigned char heads, sectors; unsigned int cylinders; unsigned long start; };
struct scsi_idlun { __u32 dev_id, host_unique_id; };
struct scsi_ioctl_command { unsigned int inlen, outlen; unsigned char data[]; };
struct reg_flags { unsigned lob_all : 8, : 0, hob_all : 8; };
struct hdio_taskfile {
    unsigned char lob[8], hob[8];
    struct reg_flags oflags, iflags;
    int dphase, cmd_req;
    unsigned long obytes, ibytes;
};
struct word { unsigned long value; };
";

/// Has a C compiler check assertions.
fn compile(options: &[&str], assertions: &str) {
    let directory = tempfile::tempdir().expect("there is room");
    // The C library's headers for i386 need not be installed: they have the same structures.
    fs::create_dir(directory.path().join("gnu")).expect("it is ours");
    fs::write(directory.path().join("gnu/stubs-32.h"), "").expect("it is ours");
    let source = directory.path().join("layouts.c");
    fs::write(&source, format!("{HEADERS}{assertions}")).expect("it is ours");
    let mut compiler = Command::new("cc");
    compiler.args(options).args(["-fsyntax-only", "-idirafter", "/usr/include/x86_64-linux-gnu", "-I"]);
    let output = compiler.arg(directory.path()).arg(&source).output().expect("cc links every Rust program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn layouts_are_those_of_c() {
    let mut alike = String::new();
    layout!(alike, "struct scsi_idlun", ScsiIdlun, dev_id, host_unique_id);
    layout!(alike, "struct scsi_ioctl_command", ScsiIoctlCommand, inlen, outlen);
    layout!(
        alike,
        "struct sg_scsi_id",
        SgScsiId,
        host_no,
        channel,
        scsi_id,
        lun,
        scsi_type,
        h_cmd_per_lun,
        d_queue_depth,
        unused
    );
    for (name, value) in [
        ("SG_DXFER_NONE", SG_DXFER_NONE),
        ("SG_DXFER_TO_DEV", SG_DXFER_TO_DEV),
        ("SG_DXFER_FROM_DEV", SG_DXFER_FROM_DEV),
        ("SG_DXFER_TO_FROM_DEV", SG_DXFER_TO_FROM_DEV),
    ] {
        alike += &format!("_Static_assert({name} == {value}, {name:?});\n");
    }
    let mut native = alike.clone();
    layouts!(native, disk::abi);
    compile(&[], &native);
    if cfg!(target_arch = "x86_64") {
        let mut i386 = alike;
        layouts!(i386, disk::abi::i386);
        compile(&["-m32"], &i386);
    }
}

/// Whether nothing of an i386 program's structure is lost by conversion to the native one and back.
fn survives<T: Structure>(bytes: &[u8]) -> bool {
    let native: T = Abi::I386.parse(bytes);
    let back = T::I386::from(native);
    back.as_bytes() == &bytes[..size_of::<T::I386>()]
}

proptest! {
    #[test]
    fn conversion_loses_nothing(bytes in prop::collection::vec(any::<u8>(), 88)) {
        prop_assert!(survives::<SgIoHdr>(&bytes));
        prop_assert!(survives::<Segment>(&bytes));
        prop_assert!(survives::<HdGeometry>(&bytes));
        prop_assert!(survives::<HdBigGeometry>(&bytes));
        prop_assert!(survives::<IdeTaskRequest>(&bytes));
        prop_assert!(survives::<HdioTaskfile>(&bytes));
        prop_assert!(survives::<BlkpgIoctlArg>(&bytes));
        prop_assert!(survives::<Long>(&bytes));
        prop_assert!(survives::<SgScsiId>(&bytes));
    }
}

/// A disk and a caller of each kind.
fn disks(entry: &'static str) -> [Disk; 2] {
    ABIS.map(|abi| {
        let host = MemoryHost { abi, ..MemoryHost::with_content(numbered_blocks(16)) };
        Disk { entry, ..Disk::on(host) }
    })
}

/// Every command ends alike, whether its data is in one piece or in several.
#[test]
fn commands_of_both() {
    let read = [0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0];
    let write = [0x2a, 0, 0, 0, 0, 3, 0, 0, 2, 0];
    let expected = numbered_blocks(16)[3 * 512..5 * 512].to_vec();
    for disk in disks("/x=scsi") {
        assert_eq!(disk.read(&read, 1024).good(), expected);
        assert_eq!(disk.list(&read, FROM_DEV, &[512, 0, 100, 412], &[]).good(), expected);
        disk.list(&write, TO_DEV, &[1000, 24], &[7; 1024]).good();
        assert!(disk.host.content.borrow()[3 * 512..5 * 512] == [7; 1024]);
        // Sense data and the residual.
        let failed = disk.read(&[0x28, 0, 0, 0, 1, 0, 0, 0, 1, 0], 512);
        assert_eq!((failed.status, failed.resid, failed.check().asc_ascq), (2, 512, 0x2100));
        // An element that is too long for the kernel.
        disk.lay_out(&[512, 512]);
        let size = disk.host.abi().size_of::<Segment>() as u64;
        let header = sgl(10, 1024);
        disk.host.store(LIST + size, Segment { address: DATA, length: 1 << 63 }).expect("it is there");
        if disk.host.abi == Abi::I386 {
            disk.put(LIST + size, i386::Segment { address: DATA as u32, length: i32::MIN }.as_bytes());
        }
        assert_eq!(disk.try_send(&read, &header), Err(Errno::EINVAL));
    }
}

fn sgl(cdb_length: usize, length: usize) -> SgIoHdr {
    SgIoHdr { iovec_count: 2, dxferp: LIST, ..sg_io_hdr(cdb_length, FROM_DEV, length) }
}

#[test]
fn a_header_of_64_bytes_is_enough() {
    let [_, disk] = disks("/x=scsi");
    disk.host.far.borrow_mut().resize((DATA - FAR) as usize + 96, POISON);
    disk.put(FAR + 0x100, &[0x12, 0, 0, 0, 96, 0]);
    // It ends where the caller's memory does.
    let end = FAR + disk.host.far.borrow().len() as u64;
    let header = SgIoHdr { dxferp: DATA - 128, ..sg_io_hdr(6, FROM_DEV, 96) };
    disk.host.store(end - 64, header).expect("it is there");
    assert_eq!(disk.ask(SG_IO, end - 64), Answer::Value(0));
    let SgIoHdr { status, resid, .. } = disk.host.fetch(end - 64).expect("it is there");
    assert_eq!((status, resid), (0, 0));
}

/// The fields that the kernel does not use come back as they are.
#[test]
fn a_header_keeps_all_bits() {
    let [disk, _] = disks("/x=scsi");
    let cdb = [0x12, 0, 0, 0, 96, 0];
    disk.read(&cdb, 96).good();
    let before =
        SgIoHdr { usr_ptr: 0xfedc_ba98_7654_3210, pack_id: i32::MIN, ..sg_io_hdr(cdb.len(), FROM_DEV, 96) };
    disk.host.store(FAR, before).expect("it is there");
    assert_eq!(disk.ask(SG_IO, FAR), Answer::Value(0));
    let after: SgIoHdr = disk.host.fetch(FAR).expect("it is there");
    assert_eq!((after.usr_ptr, after.pack_id, after._pad), (before.usr_ptr, before.pack_id, before._pad));
}

/// Nothing behind the four bytes of a `long` changes, nor behind the eight of a geometry.
#[test]
fn answers_to_i386_programs() {
    let host = |bytes| MemoryHost { abi: Abi::I386, ..MemoryHost::new(Medium::ImageFile, bytes) };
    let poison =
        |host: &MemoryHost, from: usize| host.memory.borrow()[from..].iter().all(|&byte| byte == POISON);
    let disk = host(1 << 40);
    for (request, value) in
        [(BLKGETSIZE, 1 << 31), (BLKRAGET, 256), (HDIO_GET_DMA, 1), (HDIO_GET_WCACHE, 1), (HDIO_GET_32BIT, 0)]
    {
        assert_eq!(disk.ask("/x=ide", request), Answer::Value(0), "{request:#x}");
        assert_eq!(u32::from_ne_bytes(disk.got()), value, "{request:#x}");
        assert!(poison(&disk, 4), "{request:#x}");
    }
    assert_eq!(disk.ask("/x=ide", BLKGETSIZE64_32), Answer::Value(0));
    assert_eq!(u64::from_ne_bytes(disk.got()), 1 << 40);
    // compat_blkdev_ioctl
    assert_eq!(host(1 << 42).ask("/x=ide", BLKGETSIZE), Answer::Error(Errno::EFBIG));
    for (entry, request, length) in [
        ("/x=ide,geometry=4870/240/62", HDIO_GETGEO, 8),
        ("/x=ide,geometry=4870/240/62", HDIO_GETGEO_BIG, 12),
    ] {
        let disk = host(1 << 40);
        assert_eq!(disk.ask(entry, request), Answer::Value(0));
        assert!(poison(&disk, length), "{request:#x}");
    }
    // The address of the partition has 32 bits.
    let disk = host(1 << 20);
    disk.put(
        i386::BlkpgIoctlArg { op: 1, flags: 0, datalen: 152, _pad: [], data: BASE as u32 + 64 }.as_bytes(),
    );
    assert_eq!(disk.ask("/x=scsi", BLKPG), Answer::Error(Errno::EINVAL));
    disk.put(i386::BlkpgIoctlArg { op: 1, flags: 0, datalen: 152, _pad: [], data: 8 }.as_bytes());
    assert_eq!(disk.ask("/x=scsi", BLKPG), Answer::Error(Errno::EFAULT));
}

/// READ SECTOR(S) of block 3 by `HDIO_DRIVE_TASKFILE`, in the kernel's layout and in hdparm's: the data follows.
#[test]
fn taskfiles_of_both() {
    for disk in disks("/x=ide") {
        let io_ports = [0, 0, 1, 3, 0, 0, 0xe0, 0x20];
        let (data_phase, req_cmd, in_size) = (1, 2, 512);
        let request = IdeTaskRequest { io_ports, data_phase, req_cmd, in_size, ..Default::default() };
        let iflags = RegFlags { lob_all: 0x82, hob_all: 0 };
        let (lob, dphase, cmd_req, ibytes) = (io_ports, data_phase, req_cmd, in_size);
        let theirs = HdioTaskfile { lob, iflags, dphase, cmd_req, ibytes, ..Default::default() };
        for hdparms in [false, true] {
            let abi = disk.host.abi;
            let length = match hdparms {
                true => abi.size_of::<HdioTaskfile>(),
                false => abi.size_of::<IdeTaskRequest>(),
            };
            disk.put(DATA, &[POISON; 1024]);
            match hdparms {
                true => disk.host.store(DATA, theirs),
                false => disk.host.store(DATA, request),
            }
            .expect("it is there");
            let answer = disk.ask(HDIO_DRIVE_TASKFILE, DATA);
            assert_eq!(answer, Answer::Value(0));
            let IdeTaskRequest { io_ports, .. } = disk.host.fetch(DATA).expect("it is there");
            assert_eq!(io_ports[7], 0x50);
            assert!(disk.got(DATA + length as u64, 512) == numbered_blocks(16)[3 * 512..4 * 512]);
            assert_eq!(disk.got(DATA + length as u64 + 512, 1), [POISON]);
        }
    }
}

/// What log level 1000 shows and what a trace has.
#[test]
fn traces_of_both() {
    for disk in disks("/x=scsi") {
        let cdb = [0x12, 0, 0, 0, 96, 0];
        disk.read(&cdb, 96).good();
        let given = DecodedArgument::read_input(&disk.host, SG_IO, FAR);
        let text = Input(&given).to_string();
        assert_eq!(text, "{interface 83 from the disk 96 bytes, command of 6 bytes 120000006000}");
        let memory = Capture::before(&disk.host, SG_IO, FAR);
        let (segments, [_, given, got, cdb, sense, data]) = memory.segments(b"/x", true);
        let length = disk.host.abi().size_of::<SgIoHdr>() as u64;
        assert_eq!((given, got, cdb, sense, data), (length, length, 6, 64, 96));
        assert_eq!(segments[5], Segment { address: DATA, length: 96 });
    }
}

/// A message needs no more of a header than it shows, and shows no CDB that could not be read.
#[test]
fn headers_that_end_early() {
    for disk in disks("/x=scsi") {
        let cdb = [0x12, 0, 0, 0, 96, 0];
        disk.read(&cdb, 96).good();
        let shown = match disk.host.abi {
            Abi::Native => offset_of!(SgIoHdr, sbp),
            Abi::I386 => offset_of!(i386::SgIoHdr, sbp),
        };
        let end = FAR + disk.host.far.borrow().len() as u64;
        let header = disk.got(FAR, shown);
        disk.put(end - shown as u64, &header);
        let text = |address| Input(&DecodedArgument::read_input(&disk.host, SG_IO, address)).to_string();
        assert_eq!(
            text(end - shown as u64),
            "{interface 83 from the disk 96 bytes, command of 6 bytes 120000006000}"
        );
        disk.host.store(FAR, SgIoHdr { cmdp: 8, ..sg_io_hdr(6, FROM_DEV, 96) }).expect("it is there");
        assert_eq!(text(FAR), "{interface 83 from the disk 96 bytes, command of 6 bytes}");
        let parts = [&disk.got(FAR, shown)[..], &[], &[]];
        let recorded = DecodedArgument::from_record(disk.host.abi, SG_IO, FAR, parts);
        assert_eq!(Input(&recorded).to_string(), text(FAR));
    }
}
