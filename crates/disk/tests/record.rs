//! What of the caller's memory a trace gets.

mod common;

use common::{BASE, Fake};
use disk::entry::Kind;
use disk::host::{Host, Medium};
use disk::record::{Head, MOST_DATA, Memory};
use disk::request::{HDIO_DRIVE_CMD, HDIO_DRIVE_TASKFILE, SCSI_IOCTL_SEND_COMMAND, SG_IO};

/// Where the parts of a command stand.
const CDB: u64 = common::FAR;
const DATA: u64 = common::FAR + 0x1000;

/// Path, what was given, what was got, CDB, sense data and data of a request with this result.
fn parts(host: &Fake, request: u32, result: i32) -> [Vec<u8>; 6] {
    let memory = Memory::of(host, request, BASE);
    let head = Head {
        process: 1,
        thread: 1,
        name: [0; 16],
        fd: 3,
        request,
        argument: BASE,
        kind: Kind::Scsi,
        result: Ok(result),
        forwarded: false,
        duration: 0,
        data_length: memory.data_length(),
    };
    let (segments, lengths) = memory.segments(b"/dev/x", &head, true);
    let mut pieces = segments.iter().skip(3).map(|segment| {
        let mut bytes = vec![0; segment.length as usize];
        // What is the caller's; the rest stands in `memory`.
        if segment.length > 0 && host.copy_in(segment.address, &mut bytes).is_err() {
            bytes.fill(0xee);
        }
        bytes
    });
    let [command, sense] = [pieces.next(), pieces.next()].map(Option::unwrap_or_default);
    let data: Vec<u8> = pieces.flatten().collect();
    let parts =
        [vec![0; 6], vec![0; lengths[1] as usize], vec![0; lengths[2] as usize], command, sense, data];
    assert_eq!(parts.each_ref().map(|part| part.len() as u64), lengths);
    parts
}

/// `SG_IO` with a CDB and 512 bytes of data.
fn sg_io(cdb: &[u8]) -> Fake {
    let host = Fake::new(Medium::ImageFile, 1 << 20);
    let mut header = [0; 88];
    header[0] = b'S';
    header[8..10].copy_from_slice(&[cdb.len() as u8, 0]);
    header[12..16].copy_from_slice(&512u32.to_ne_bytes());
    header[16..24].copy_from_slice(&DATA.to_ne_bytes());
    header[24..32].copy_from_slice(&CDB.to_ne_bytes());
    host.put(&header);
    *host.far.borrow_mut() = vec![0x5a; 0x3000];
    host.far.borrow_mut()[..cdb.len()].copy_from_slice(cdb);
    host
}

#[test]
fn nothing_of_what_is_on_the_disk() {
    let pass_through = |command: u8, features: u8| {
        let mut cdb = [0; 16];
        cdb[0] = 0x85;
        cdb[4] = features;
        cdb[14] = command;
        cdb.to_vec()
    };
    let shown = [
        vec![0x12, 0, 0, 0, 36, 0],
        vec![0x15, 0x10, 0, 0, 8, 0],
        pass_through(0xec, 0),
        pass_through(0xb0, 0xd0),
        vec![0xa1, 0, 0, 0, 0, 0, 0, 0, 0, 0xec, 0, 0],
    ];
    let hidden = [
        vec![0x08, 0, 0, 0, 1, 0],
        vec![0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        vec![0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        vec![0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        // READ DMA, WRITE DMA EXT, WRITE MULTIPLE.
        pass_through(0xc8, 0),
        pass_through(0x35, 0),
        pass_through(0xc5, 0),
        vec![0xa1, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0],
        // SECURITY UNLOCK, SECURITY PROTOCOL OUT, and what nobody knows.
        pass_through(0xf2, 0),
        vec![0xb5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0],
        vec![0xc1, 0, 0, 0, 0, 0, 0, 0, 2, 0],
        vec![],
    ];
    for (cdbs, length) in [(&shown[..], 512), (&hidden[..], 0)] {
        for cdb in cdbs {
            let host = sg_io(cdb);
            let [_, given, got, command, _, data] = parts(&host, SG_IO, 0);
            assert_eq!((given.len(), got.len(), command.len()), (88, 88, cdb.len()));
            assert_eq!(data, vec![0x5a; length], "{cdb:02x?}");
            assert_eq!(Memory::of(&host, SG_IO, BASE).data_length(), 512, "{cdb:02x?}");
        }
    }
}

#[test]
fn nor_in_the_old_ways() {
    let send = |cdb: &[u8], result| {
        let host = Fake::new(Medium::ImageFile, 1 << 20);
        host.put(&[&[0; 4], &512u32.to_ne_bytes()[..], cdb, &[0x5a; 600]].concat());
        parts(&host, SCSI_IOCTL_SEND_COMMAND, result).map(|part| part.len())
    };
    // Sense data stands where the data does, so only the result says which of both it is.
    assert_eq!(send(&[0x12, 0, 0, 0, 36, 0], 0), [6, 14, 0, 6, 0, 512]);
    assert_eq!(send(&[0x12, 0, 0, 0, 36, 0], 2), [6, 14, 0, 6, 16, 0]);
    assert_eq!(send(&[0x08, 0, 0, 0, 1, 0], 0), [6, 14, 0, 6, 0, 0]);
    assert_eq!(send(&[0x08, 0, 0, 0, 1, 0], 2), [6, 14, 0, 6, 16, 0]);
    assert_eq!(send(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], 0), [6, 18, 0, 10, 0, 0]);

    let drive = |request, bytes: &[u8]| {
        let host = Fake::new(Medium::ImageFile, 1 << 20);
        host.put(bytes);
        let [.., data] = parts(&host, request, 0);
        data.len()
    };
    assert_eq!(drive(HDIO_DRIVE_CMD, &[0xec, 0, 0, 1]), 512);
    assert_eq!(drive(HDIO_DRIVE_CMD, &[0x20, 1, 0, 1]), 0);
    assert_eq!(drive(HDIO_DRIVE_CMD, &[0xb0, 0, 0xd0, 1]), 512);
    let taskfile = |command: u8| {
        let mut request = [0; 56];
        request[7] = command;
        // `in_size` (include/uapi/linux/hdreg.h).
        request[40..44].copy_from_slice(&512u32.to_ne_bytes());
        drive(HDIO_DRIVE_TASKFILE, &request)
    };
    assert_eq!((taskfile(0xec), taskfile(0x24), taskfile(0xf1)), (512, 0, 0));
}

#[test]
fn no_more_than_is_recorded() {
    let host = sg_io(&[0x12, 0, 0, 0, 36, 0]);
    let mut header: [u8; 88] = host.got();
    header[12..16].copy_from_slice(&8192u32.to_ne_bytes());
    host.put(&header);
    let [.., data] = parts(&host, SG_IO, 0);
    assert_eq!(data.len() as u64, MOST_DATA);
}
