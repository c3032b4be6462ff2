//! What of the caller's memory a trace gets: nothing of what is on the disk, and nothing that stood in a buffer before.

use disk::abi::{HdioTaskfile, IdeTaskRequest, RegFlags, ScsiIoctlCommand};
use disk::entry::Kind;
use disk::record::{Header, MOST_DATA};
use disk::request::{HDIO_DRIVE_CMD, HDIO_DRIVE_TASKFILE, SCSI_IOCTL_SEND_COMMAND, SG_IO};
use disk::trace::capture::Capture;
use disk::{Answer, Caller, Medium, Nexus, Settings};
use memory_disk::ata::{Ata, Way};
use memory_disk::host::{BASE, FAR, MemoryHost};
use memory_disk::sg_io::{CDB, DATA, FROM_DEV, TO_DEV, sg_io_hdr};
use zerocopy::IntoBytes;

/// What is in the caller's memory before, and on the disk.
const SECRET: u8 = 0x5a;

/// What a trace has of a request.
struct Traced {
    given: usize,
    got: Vec<u8>,
    cdb: usize,
    sense: Vec<u8>,
    data: Vec<u8>,
    /// How many bytes there were to be moved.
    length: u64,
    answer: Answer,
}

/// The settings of a disk, and the nexus that requests come through.
type Unit = (Settings, Nexus);

fn traced(host: &MemoryHost, unit: &Unit, entry: &str, request: u32) -> Traced {
    let mut memory = Capture::before(host, request, BASE);
    let answer = host.ask_through(&unit.1, entry, &unit.0, request, BASE);
    let head = Header {
        process: 1,
        thread: 1,
        name: [0; 16],
        fd: 3,
        request,
        argument: BASE,
        kind: Kind::Scsi,
        abi: disk::Abi::Native,
        result: match answer {
            Answer::Value(value) => Some(Ok(value)),
            Answer::Error(errno) => Some(Err(errno)),
            Answer::Forward | Answer::CallerGone => panic!("it is answered"),
        },
        forwarded: false,
        duration: 0,
        data_length: memory.data_length(),
    };
    memory.cut_to_answer(host, &head);
    let (segments, lengths) = memory.segments(b"/dev/x", true);
    // Path, what was given and the CDB stand in `memory`; the rest is the caller's.
    let theirs = |range: &[_]| -> Vec<u8> {
        let mut bytes = Vec::new();
        for segment in range {
            let disk::host::Segment { address, length } = *segment;
            let mut piece = vec![0; length as usize];
            if length > 0 {
                host.copy_in(address, &mut piece).expect("it is there");
            }
            bytes.extend(piece);
        }
        bytes
    };
    let [path, given, got, cdb, sense, data] = lengths;
    assert_eq!(path, 6);
    let traced = Traced {
        given: given as usize,
        got: theirs(&segments[2..3]),
        cdb: cdb as usize,
        sense: theirs(&segments[4..5]),
        data: theirs(&segments[5..]),
        length: memory.data_length(),
        answer,
    };
    assert_eq!(
        (traced.got.len(), traced.sense.len(), traced.data.len()),
        (got as usize, sense as usize, data as usize)
    );
    traced
}

/// A disk full of secrets.
fn disk() -> MemoryHost {
    MemoryHost::with_content(vec![SECRET; 1 << 20])
}

/// `SG_IO` with a CDB and a buffer of this length, full of secrets, or of what is given.
fn sg_io(
    host: &MemoryHost,
    unit: &Unit,
    entry: &str,
    cdb: &[u8],
    direction: i32,
    length: usize,
    given: &[u8],
) -> Traced {
    host.store(BASE, sg_io_hdr(cdb.len(), direction, length)).expect("it is there");
    let at = |address: u64| (address - FAR) as usize;
    let mut far = vec![SECRET; at(DATA) + length];
    far[at(CDB)..][..cdb.len()].copy_from_slice(cdb);
    far[at(DATA)..][..given.len()].copy_from_slice(given);
    *host.far.borrow_mut() = far;
    traced(host, unit, entry, SG_IO)
}

fn pass_through(command: u8, features: u8, transfer: u8, length: u8) -> Vec<u8> {
    // T_DIR where data comes from the disk; T_LENGTH says COUNT, in blocks.
    let from_disk = if matches!(transfer, 4 | 6 | 10) { 0x08 } else { 0 };
    let command = Ata { features: features.into(), count: length.into(), ..Ata::new(command) };
    command.pass_through(Way::Sixteen, transfer, from_disk | 0x06)
}

#[test]
fn what_a_command_moved() {
    let (host, unit) = (disk(), Unit::default());
    let ask = |entry: &str, cdb: &[u8], direction, length, given: &[u8]| {
        sg_io(&host, &unit, entry, cdb, direction, length, given)
    };
    // As much as came, whatever room there was.
    let inquiry = ask("/x=scsi", &[0x12, 0, 0, 0, 36, 0], FROM_DEV, 512, &[]);
    assert_eq!((inquiry.given, inquiry.got.len(), inquiry.cdb, inquiry.length), (88, 88, 6, 512));
    assert_eq!((inquiry.data.len(), inquiry.sense.len()), (36, 0));
    let identify = ask("/x=sata", &pass_through(0xec, 0, 4, 1), FROM_DEV, 2048, &[]);
    assert_eq!(identify.data.len(), 512);
    assert_eq!(
        ask("/x=sata", &[0xa1, 8, 0x0e, 0, 1, 0, 0, 0, 0, 0xec, 0, 0], FROM_DEV, 512, &[]).data.len(),
        512
    );
    // A parameter list, and no more than that.
    let list = [&[0, 22, 0, 16, 0, 0, 0, 0][..], &[0; 16]].concat();
    let unmap = ask("/x=scsi", &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], TO_DEV, 4096, &list);
    assert_eq!((unmap.answer, unmap.data), (Answer::Value(0), list));
    // Whoever lies about the direction gets nothing.
    assert_eq!(ask("/x=scsi", &[0x12, 0, 0, 0, 36, 0], TO_DEV, 512, &[]).data, []);
    // Nor is there anything where the command fails.
    let refused = ask("/x=scsi", &[0x12, 0xff, 0, 0, 36, 0], FROM_DEV, 512, &[]);
    assert_eq!((refused.data.len(), refused.sense.len(), refused.sense[0]), (0, 18, 0x70));
    assert_eq!(ask("/x=scsi", &[0x12, 0, 0, 0, 36], FROM_DEV, 512, &[]).got, []);
    // No more than is recorded.
    let modes = ask("/x=scsi", &[0x5a, 0, 0x3f, 0xff, 0, 0, 0, 0x20, 0, 0], FROM_DEV, 8192, &[]);
    assert!(modes.data.len() as u64 <= MOST_DATA && modes.length == 8192);
}

#[test]
fn nothing_of_what_is_on_the_disk() {
    let (host, unit) = (disk(), Unit::default());
    for (cdb, direction) in [
        (vec![0x08, 0, 0, 0, 1, 0], FROM_DEV),
        (vec![0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], FROM_DEV),
        (vec![0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], TO_DEV),
        (vec![0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0], TO_DEV),
        (vec![0x2f, 2, 0, 0, 0, 0, 0, 0, 1, 0], TO_DEV),
        // READ DMA, WRITE DMA EXT, WRITE MULTIPLE.
        (pass_through(0xc8, 0, 6, 1), FROM_DEV),
        (pass_through(0x35, 0, 6, 1), TO_DEV),
        (pass_through(0xc5, 0, 5, 1), TO_DEV),
        (vec![0xa1, 8, 0x0e, 0, 1, 0, 0, 0, 0, 0x20, 0, 0], FROM_DEV),
        // SECURITY UNLOCK, SECURITY PROTOCOL OUT, and what nobody knows.
        (pass_through(0xf2, 0, 5, 1), TO_DEV),
        (vec![0xb5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0], TO_DEV),
        (vec![0xc1, 0, 0, 0, 0, 0, 0, 0, 2, 0], TO_DEV),
        (vec![], FROM_DEV),
    ] {
        let found = sg_io(&host, &unit, "/x=sata", &cdb, direction, 512, &[]);
        assert_eq!((found.data.len(), found.length, found.cdb), (0, 512, cdb.len()), "{cdb:02x?}");
        assert!(!found.sense.contains(&SECRET), "{cdb:02x?}");
    }
}

#[test]
fn send_command() {
    // The number is FIBMAP's on an image file.
    let (host, unit) = (MemoryHost { medium: Medium::BlockDevice, ..disk() }, Unit::default());
    let send = |to_disk: u32, from_disk: u32, cdb: &[u8]| {
        let lengths = ScsiIoctlCommand { inlen: to_disk, outlen: from_disk };
        host.put(&[lengths.as_bytes(), cdb, &[SECRET; 600]].concat());
        traced(&host, &unit, "/x=scsi", SCSI_IOCTL_SEND_COMMAND)
    };
    // The driver's buffer is the caller's afterwards, and was zeroed before.
    let inquiry = send(0, 512, &[0x12, 0, 0, 0, 36, 0]);
    assert_eq!((inquiry.given, inquiry.cdb, inquiry.data.len()), (14, 6, 512));
    assert!(inquiry.data[36..].iter().all(|&byte| byte == 0), "{:02x?}", inquiry.data);
    let bad = send(0, 512, &[0x12, 0xff, 0, 0, 36, 0]);
    assert_eq!((bad.answer, bad.data.len(), bad.sense.len()), (Answer::Value(2), 0, 16));
    assert_eq!(send(0, 512, &[0x08, 0, 0, 0, 1, 0]).data, []);
    let write = send(512, 0, &[0x0a, 0, 0, 0, 1, 0]);
    assert_eq!(
        (write.answer, write.given, write.data.len(), write.sense.len()),
        (Answer::Value(0), 14, 0, 0)
    );
    // Sense data in the descriptor format is shorter than its place, where data to the disk stood.
    let select = [&[0, 0, 0, 0, 0x0a, 0x0a, 0x06, 0x10, 0, 0, 0, 0, 0xff, 0xff][..], &[0; 2]].concat();
    let turned = sg_io(&host, &unit, "/x=scsi", &[0x15, 0x10, 0, 0, 16, 0], TO_DEV, 16, &select);
    assert_eq!((turned.answer, turned.data), (Answer::Value(0), select));
    let failed = send(512, 0, &[0x0a, 0x1f, 0xff, 0xff, 1, 0]);
    assert_eq!((failed.answer, failed.sense.first()), (Answer::Value(2), Some(&0x72)));
    assert!(!failed.sense.contains(&SECRET), "{:02x?}", failed.sense);
}

#[test]
fn drive_requests() {
    let (host, unit) = (disk(), Unit::default());
    let drive = |kind: &str, request, bytes: &[u8]| {
        // More than the longest data.
        host.memory.borrow_mut().fill(SECRET);
        host.put(bytes);
        traced(&host, &unit, kind, request)
    };
    for kind in ["/x=sata", "/x=ide"] {
        // Room for more than comes.
        let identify = drive(kind, HDIO_DRIVE_CMD, &[0xec, 0, 0, 4]);
        assert_eq!(
            (identify.answer, identify.given, identify.data.len()),
            (Answer::Value(0), 4, 512),
            "{kind}"
        );
        assert_eq!(drive(kind, HDIO_DRIVE_CMD, &[0x20, 1, 0, 1]).data, [], "{kind}");
        assert_eq!(drive(kind, HDIO_DRIVE_CMD, &[0xe5, 0, 0, 4]).data, [], "{kind}");
        assert_eq!(drive(kind, HDIO_DRIVE_CMD, &[0xb0, 0, 0xd0, 1]).data.len(), 512, "{kind}");
    }
    // What follows the request in the kernel's layout follows it in hdparm's.
    let taskfile = |hdparms: bool, command: u8, out_size: u64, in_size: u64| {
        // COUNT, DEVICE, COMMAND.
        let io_ports = [0, 0, 1, 0, 0, 0, 0xe0, command];
        let (data_phase, req_cmd) = if in_size > 0 { (1, 2) } else { (4, 4) };
        let request =
            IdeTaskRequest { io_ports, data_phase, req_cmd, out_size, in_size, ..Default::default() };
        let theirs = HdioTaskfile {
            lob: io_ports,
            iflags: RegFlags { lob_all: 0xfe, hob_all: 0 },
            dphase: data_phase,
            cmd_req: req_cmd,
            obytes: out_size,
            ibytes: in_size,
            ..Default::default()
        };
        let bytes = if hdparms { theirs.as_bytes() } else { request.as_bytes() };
        drive("/x=ide", HDIO_DRIVE_TASKFILE, bytes)
    };
    let write = taskfile(false, 0x30, 512, 0);
    assert_eq!((write.answer, write.given, write.data.len()), (Answer::Value(0), 48, 0));
    assert!(write.got.len() == 48 && !write.got.contains(&SECRET), "{:02x?}", write.got);
    let unlock = taskfile(false, 0xf2, 512, 0);
    assert!(unlock.data.is_empty() && !unlock.got.contains(&SECRET), "{:02x?}", unlock.got);
    let identify = taskfile(false, 0xec, 512, 1024);
    assert_eq!((identify.answer, identify.data.len()), (Answer::Value(0), 512));
    assert!(!identify.data.iter().all(|&byte| byte == SECRET));
    assert_eq!(taskfile(true, 0xec, 0, 512).given, 56);
}
