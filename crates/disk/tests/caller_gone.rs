//! A caller that goes away during its request: the request ends at once, and nothing is answered.

use std::cell::RefCell;

use disk::request::{
    BLKDISCARD, BLKGETSIZE64, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_GET_IDENTITY, HDIO_GETGEO,
    IOC_PR_REGISTER, SCSI_IOCTL_GET_IDLUN, SCSI_IOCTL_SEND_COMMAND, SG_IO, SG_SET_TIMEOUT,
};
use disk::{Answer, Errno, Medium, Nexus};
use memory_disk::sg_io::{
    CDB, DATA, FROM_DEV, HEADER, LIST, NONE, SENSE, SgIoHdr, TO_DEV, blocks_cdb, sg_io_hdr,
};
use memory_disk::{Call, Disk, Fault, numbered_blocks};
use zerocopy::IntoBytes;

const READ_CAPACITY_16: [u8; 16] = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];

/// The disk, whose engine knows all I_T nexuses.
fn shared(disk: &mut Disk) -> &Disk {
    disk.host.shared = Some(RefCell::default());
    disk.nexus = Nexus::new(1);
    disk
}

/// The name of a case, the entry of its disk, and the request that is sent to it.
type Case = (&'static str, &'static str, fn(&mut Disk) -> Answer);

fn send(disk: &Disk, cdb: &[u8], header: &SgIoHdr) -> Answer {
    disk.put(CDB, cdb);
    disk.put(SENSE, &[0; 64]);
    disk.put(HEADER, header.as_bytes());
    disk.ask(SG_IO, HEADER)
}

fn read(disk: &Disk, cdb: &[u8], room: usize) -> Answer {
    disk.put(DATA, &vec![0; room]);
    send(disk, cdb, &sg_io_hdr(cdb.len(), FROM_DEV, room))
}

fn write(disk: &Disk, cdb: &[u8], data: &[u8]) -> Answer {
    disk.put(DATA, data);
    send(disk, cdb, &sg_io_hdr(cdb.len(), TO_DEV, data.len()))
}

fn hdio(disk: &Disk, request: u32, bytes: &[u8]) -> Answer {
    disk.put(DATA, bytes);
    disk.ask(request, DATA)
}

const CASES: [Case; 30] = [
    ("READ(10)", "/x=scsi", |disk| read(disk, &blocks_cdb(0x28, 0, 2, 4), 2048)),
    ("READ(10) through a bounce buffer", "/x=scsi", |disk| {
        disk.host.failure.set(Some(Errno::EINVAL));
        read(disk, &blocks_cdb(0x28, 0, 2, 4), 2048)
    }),
    ("READ(10) to a list", "/x=scsi", |disk| {
        let places = disk.lay_out(&[512, 512, 1024]);
        let header =
            SgIoHdr { iovec_count: places.len() as u16, dxferp: LIST, ..sg_io_hdr(10, FROM_DEV, 2048) };
        send(disk, &blocks_cdb(0x28, 0, 2, 4), &header)
    }),
    ("READ(10) that fails", "/x=scsi", |disk| {
        disk.host.fault.set(Some(Fault::new(Call::Read, Errno::EIO)));
        read(disk, &blocks_cdb(0x28, 0, 2, 4), 2048)
    }),
    ("WRITE(10)", "/x=scsi", |disk| write(disk, &blocks_cdb(0x2a, 0, 2, 2), &[1; 1024])),
    ("WRITE(10) through a bounce buffer", "/x=scsi", |disk| {
        disk.host.failure.set(Some(Errno::EINVAL));
        write(disk, &blocks_cdb(0x2a, 0, 2, 2), &[1; 1024])
    }),
    ("WRITE SAME(10)", "/x=scsi", |disk| write(disk, &blocks_cdb(0x41, 0, 2, 2), &[1; 512])),
    ("VERIFY(10)", "/x=scsi", |disk| write(disk, &blocks_cdb(0x2f, 2, 2, 2), &numbered_blocks(4)[1024..])),
    ("ORWRITE(16)", "/x=scsi", |disk| write(disk, &blocks_cdb(0x8b, 0, 2, 2), &[1; 1024])),
    ("UNMAP", "/x=scsi", |disk| {
        let list = [&[0, 22, 0, 16, 0, 0, 0, 0][..], &[0; 8], &[0, 0, 0, 1, 0, 0, 0, 0]].concat();
        write(disk, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list)
    }),
    ("MODE SELECT(6)", "/x=scsi", |disk| write(disk, &[0x15, 0x10, 0, 0, 4, 0], &[0; 4])),
    ("INQUIRY", "/x=scsi", |disk| read(disk, &[0x12, 0, 0, 0, 96, 0], 96)),
    ("READ CAPACITY(16)", "/x=scsi", |disk| read(disk, &READ_CAPACITY_16, 32)),
    ("an unknown command", "/x=scsi", |disk| send(disk, &[0xc0; 10], &sg_io_hdr(10, NONE, 0))),
    ("IDENTIFY DEVICE by ATA PASS-THROUGH(16)", "/x=sata", |disk| {
        read(disk, &[0x85, 8, 0x0e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xec, 0], 512)
    }),
    ("PERSISTENT RESERVE OUT, REGISTER", "/x=scsi", |disk| {
        write(shared(disk), &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &[[0; 8], [1; 8], [0; 8]].concat())
    }),
    ("PERSISTENT RESERVE IN, READ FULL STATUS", "/x=scsi", |disk| {
        read(shared(disk), &[0x5e, 3, 0, 0, 0, 0, 0, 2, 0, 0], 512)
    }),
    ("IOC_PR_REGISTER", "/x=scsi", |disk| {
        hdio(shared(disk), IOC_PR_REGISTER, &[[0; 8], [1; 8], [0; 8]].concat())
    }),
    ("WRITE BUFFER", "/x=scsi", |disk| write(shared(disk), &[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0], &[1; 4])),
    ("SANITIZE, OVERWRITE", "/x=scsi", |disk| {
        write(shared(disk), &[0x48, 1, 0, 0, 0, 0, 0, 0, 6, 0], &[1, 0, 0, 2, 3, 4])
    }),
    ("FORMAT UNIT", "/x=scsi", |disk| {
        let list = [&[0, 0x88, 0, 0, 0, 1, 0, 2][..], &[3, 4]].concat();
        write(shared(disk), &[0x04, 0x10, 0, 0, 0, 0], &list)
    }),
    ("SANITIZE, BLOCK ERASE", "/x=scsi", |disk| {
        send(shared(disk), &[0x48, 2, 0, 0, 0, 0, 0, 0, 0, 0], &sg_io_hdr(10, NONE, 0))
    }),
    ("SCSI_IOCTL_SEND_COMMAND", "/x=scsi", |disk| {
        let bytes =
            [&0u32.to_ne_bytes()[..], &96u32.to_ne_bytes(), &[0x12, 0, 0, 0, 36, 0], &[0; 96]].concat();
        // On an image file this is FIBMAP.
        disk.host.medium = Medium::BlockDevice;
        hdio(disk, SCSI_IOCTL_SEND_COMMAND, &bytes)
    }),
    ("HDIO_DRIVE_CMD", "/x=ide", |disk| {
        hdio(disk, HDIO_DRIVE_CMD, &[&[0xec, 0, 0, 1][..], &[0; 512]].concat())
    }),
    ("HDIO_DRIVE_TASK", "/x=ide", |disk| hdio(disk, HDIO_DRIVE_TASK, &[0xe5, 0, 0, 0, 0, 0, 0])),
    ("HDIO_GET_IDENTITY", "/x=ide", |disk| hdio(disk, HDIO_GET_IDENTITY, &[0; 512])),
    ("HDIO_GETGEO", "/x=scsi", |disk| hdio(disk, HDIO_GETGEO, &[0; 16])),
    ("SCSI_IOCTL_GET_IDLUN", "/x=scsi", |disk| hdio(disk, SCSI_IOCTL_GET_IDLUN, &[0; 8])),
    ("SG_SET_TIMEOUT", "/x=scsi", |disk| hdio(disk, SG_SET_TIMEOUT, &1000u32.to_ne_bytes())),
    ("BLKDISCARD and BLKGETSIZE64", "/x=scsi", |disk| {
        let range = [512u64.to_ne_bytes(), 512u64.to_ne_bytes()].concat();
        match hdio(disk, BLKDISCARD, &range) {
            Answer::Value(_) => hdio(disk, BLKGETSIZE64, &[0; 8]),
            answer => answer,
        }
    }),
];

fn disk(entry: &'static str) -> Disk {
    Disk { entry, ..Disk::new(numbered_blocks(64)) }
}

#[test]
fn a_request_ends_when_its_caller_is_gone() {
    for (name, entry, ask) in CASES {
        let mut stays = disk(entry);
        stays.host.copies_left.set(Some(u32::MAX));
        let answer = ask(&mut stays);
        assert!(matches!(answer, Answer::Value(0)), "{name}: {answer:?}");
        let copies = u32::MAX - stays.host.copies_left.get().expect("it was set");
        assert!(copies > 0, "{name} copies something");
        for before in 0..copies {
            let mut goes = disk(entry);
            goes.host.copies_left.set(Some(before));
            assert_eq!(ask(&mut goes), Answer::CallerGone, "{name}, after {before} of {copies} copies");
            assert_eq!(goes.host.copies_too_late.get(), 1, "{name}, after {before} of {copies} copies");
        }
    }
}

/// What the caller did not give is not written.
#[test]
fn nothing_is_written_for_a_caller_that_is_gone() {
    for (name, entry, ask) in CASES {
        let mut goes = disk(entry);
        goes.host.copies_left.set(Some(0));
        ask(&mut goes);
        assert_eq!(*goes.host.content.borrow(), numbered_blocks(64), "{name}");
    }
}
