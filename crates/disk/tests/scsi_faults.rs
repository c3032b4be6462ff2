//! What the caller of a SCSI command learns of an error of the device behind the disk.

use disk::Errno;
use disk::scsi::sense::Sense;
use memory_disk::sense::*;
use memory_disk::sg_io::*;
use memory_disk::{Call, Disk, ERRNOS, Fault, numbered_blocks};

/// How many blocks a disk has, and a large one.
const BLOCKS: usize = 16;
const MANY: usize = 1200;
const FIRST: u64 = 7;

const UNMAP: u8 = 0x08;
const FUA: u8 = 0x08;

/// A command on two blocks, and what is to be known of it.
struct Case {
    name: &'static str,
    cdb: Vec<u8>,
    /// The first block.
    first: u64,
    /// To the disk.
    data: Vec<u8>,
    /// From the disk.
    room: usize,
    /// What it does with the device, in this order.
    calls: &'static [Call],
    write_cache: bool,
}

impl Case {
    fn new(name: &'static str, cdb: Vec<u8>, calls: &'static [Call]) -> Case {
        Case { name, cdb, first: FIRST, data: Vec::new(), room: 0, calls, write_cache: true }
    }

    fn with(self, data: Vec<u8>) -> Case {
        Case { data, ..self }
    }

    fn without_write_cache(self) -> Case {
        Case { write_cache: false, ..self }
    }

    fn send(&self, disk: &Disk) -> Result<Reply, Errno> {
        disk.put(DATA, &self.data);
        let (direction, length) =
            if self.room > 0 { (FROM_DEV, self.room) } else { (TO_DEV, self.data.len()) };
        disk.try_send(&self.cdb, &sg_io_hdr(self.cdb.len(), direction, length))
    }
}

fn disk(write_cache: bool) -> Disk {
    let disk = Disk::new(numbered_blocks(BLOCKS));
    if !write_cache {
        disk.disable_write_cache();
    }
    disk
}

/// What the two blocks hold, and what is to be written.
fn old() -> Vec<u8> {
    numbered_blocks(BLOCKS)[512 * FIRST as usize..][..1024].to_vec()
}

fn new() -> Vec<u8> {
    vec![0x99; 1024]
}

fn cases() -> Vec<Case> {
    let cdb = |code, flags| blocks_cdb(code, flags, FIRST, 2);
    let mut cases = Vec::new();
    for code in [0x08, 0x28, 0xa8, 0x88] {
        cases.push(Case { room: 1024, ..Case::new("READ", cdb(code, 0), &[Call::Read]) });
    }
    cases.push(Case { room: 1024, ..Case::new("READ, FUA", cdb(0x28, FUA), &[Call::Sync, Call::Read]) });
    for code in [0x0a, 0x2a, 0xaa, 0x8a] {
        cases.push(Case::new("WRITE", cdb(code, 0), &[Call::Write]).with(new()));
    }
    for code in [0x2e, 0xae, 0x8e] {
        for flags in [0, 0x02] {
            let calls = &[Call::Write, Call::Read];
            cases.push(Case::new("WRITE AND VERIFY", cdb(code, flags), calls).with(new()));
        }
    }
    for code in [0x2f, 0xaf, 0x8f] {
        cases.push(Case::new("VERIFY", cdb(code, 0), &[Call::Read]));
        cases.push(Case::new("VERIFY, BYTCHK 1", cdb(code, 0x02), &[Call::Read]).with(old()));
        let one = blocks_cdb(code, 0x06, FIRST, 1);
        cases.push(Case::new("VERIFY, BYTCHK 3", one, &[Call::Read]).with(old()[..512].to_vec()));
    }
    let both = [old(), new()].concat();
    let calls = &[Call::BounceBuffer, Call::Lock, Call::Read, Call::Write];
    cases.push(Case::new("COMPARE AND WRITE", cdb(0x89, 0), calls).with(both));
    // Two blocks that begin with an even one.
    let atomic = blocks_cdb(0x9c, 0, FIRST - 1, 2);
    let calls = &[Call::BounceBuffer, Call::Write];
    cases.push(Case { first: FIRST - 1, ..Case::new("WRITE ATOMIC", atomic, calls) }.with(new()));
    let calls = &[Call::Lock, Call::Read, Call::Write];
    cases.push(Case::new("ORWRITE", cdb(0x8b, 0), calls).with(new()));
    for code in [0x41, 0x93] {
        let same = |name, flags, calls, byte| Case::new(name, cdb(code, flags), calls).with(vec![byte; 512]);
        cases.push(same("WRITE SAME", 0, &[Call::BounceBuffer, Call::Write], 9));
        cases.push(same("WRITE SAME, zeros", 0, &[Call::Zero], 0));
        cases.push(same("WRITE SAME, UNMAP", UNMAP, &[Call::Discard], 0));
        cases.push(same("WRITE SAME", 0, &[Call::Write, Call::Sync], 9).without_write_cache());
        cases.push(same("WRITE SAME, zeros", 0, &[Call::Zero, Call::Sync], 0).without_write_cache());
        cases.push(same("WRITE SAME, UNMAP", UNMAP, &[Call::Discard, Call::Sync], 0).without_write_cache());
    }
    for code in [0x35, 0x91] {
        cases.push(Case::new("SYNCHRONIZE CACHE", cdb(code, 0), &[Call::Sync]));
    }
    let (cdb, list) = unmap(&[(FIRST, 2)]);
    cases.push(Case::new("UNMAP", cdb, &[Call::Discard]).with(list));
    cases.push(Case::new("START STOP UNIT", vec![0x1b, 0, 0, 0, 0, 0], &[Call::Sync]));
    let status = [&[0x9e, 0x12][..], &FIRST.to_be_bytes(), &[0, 0, 0, 24, 0, 0]].concat();
    cases.push(Case { room: 24, ..Case::new("GET LBA STATUS", status, &[Call::Extent]) });
    for page in [0xb0, 0xb2] {
        let page = vec![0x12, 1, page, 0, 64, 0];
        cases.push(Case { room: 64, ..Case::new("INQUIRY", page, &[Call::Provisioning]) });
    }
    let sizes = [
        (vec![0x00, 0, 0, 0, 0, 0], 0),
        (vec![0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8),
        ([&[0x9e, 0x10][..], &[0; 8], &[0, 0, 0, 32, 0, 0]].concat(), 32),
        (blocks_cdb(0x28, 0, FIRST, 2), 1024),
    ];
    for (cdb, room) in sizes {
        cases.push(Case { room, ..Case::new("the size", cdb, &[Call::Limit]) });
    }
    cases
}

/// How a command is to end when a call fails.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Check(Sense),
    Status(u8),
    HostStatus(u16),
    /// The request itself fails.
    Errno(Errno),
}

impl Ending {
    fn of(result: &Result<Reply, Errno>) -> Ending {
        let reply = match result {
            Ok(reply) => reply,
            Err(errno) => return Ending::Errno(*errno),
        };
        match (reply.status, reply.host_status) {
            (CHECK_CONDITION, 0) => Ending::Check(reply.check()),
            (status, 0) => Ending::Status(status),
            (0, status) => Ending::HostStatus(status),
            _ => panic!("{reply:?}"),
        }
    }

    fn expected(call: Call, errno: Errno, first: u64) -> Ending {
        let of = Ending::Check;
        let at_block = |sense: Sense| Ending::Check(sense.with_information(first));
        let writing = matches!(call, Call::Write | Call::Zero | Call::Discard | Call::Sync);
        match errno {
            Errno::ENOMEM => Ending::Status(BUSY),
            Errno::ENODEV | Errno::ENXIO => Ending::HostStatus(NO_CONNECT),
            // A descriptor that cannot carry requests.
            Errno::EBADF if call == Call::Limit => Ending::Errno(errno),
            Errno::ENOSPC | Errno::EDQUOT if writing || call == Call::Read => {
                of(SPACE_ALLOCATION_FAILED_WRITE_PROTECT)
            }
            Errno::EFBIG if writing => of(SPACE_ALLOCATION_FAILED_WRITE_PROTECT),
            Errno::EROFS | Errno::EPERM | Errno::EACCES | Errno::EBADF if writing => of(WRITE_PROTECTED),
            // The caller may not read the device; the medium is not to blame.
            Errno::EPERM | Errno::EACCES | Errno::EBADF if call == Call::Read => {
                of(ACCESS_DENIED_NO_ACCESS_RIGHTS)
            }
            _ => match call {
                Call::Read => at_block(UNRECOVERED_READ_ERROR),
                Call::Write | Call::Zero | Call::Discard => at_block(WRITE_ERROR),
                // Nobody knows which block it is.
                Call::Sync => of(WRITE_ERROR),
                // It is not the medium's fault.
                Call::Lock | Call::Extent | Call::Provisioning | Call::BounceBuffer | Call::Limit => {
                    of(INTERNAL_TARGET_FAILURE)
                }
            },
        }
    }
}

#[test]
fn every_error_of_every_call_of_every_command() {
    let mut wrong = Vec::new();
    for case in cases() {
        case.send(&disk(case.write_cache)).expect("it is right").good();
        for (place, &call) in case.calls.iter().enumerate() {
            for errno in ERRNOS {
                // Of memory alone there is another cause.
                if call == Call::BounceBuffer && errno != Errno::ENOMEM {
                    continue;
                }
                // Whether the file system lets the disk be locked depends on the rights to the file.
                if call == Call::Lock && matches!(errno, Errno::EROFS | Errno::EPERM | Errno::EACCES) {
                    continue;
                }
                let disk = disk(case.write_cache);
                disk.host.fault.set(Some(Fault::new(call, errno)));
                let result = case.send(&disk);
                let (found, expected) = (Ending::of(&result), Ending::expected(call, errno, case.first));
                if found != expected {
                    let (name, code) = (case.name, case.cdb[0]);
                    wrong.push(format!(
                        "{name} ({code:02x}): {call:?} {errno}: {found:02x?}, not {expected:02x?}"
                    ));
                }
                let data = result.map_or(vec![], |reply| reply.data);
                assert_eq!(data, [], "nothing came from the disk");
                if place == 0 || !case.calls[..place].iter().any(|call| is_change(*call)) {
                    assert!(
                        *disk.host.content.borrow() == numbered_blocks(BLOCKS),
                        "nothing was written: {}",
                        case.name
                    );
                }
                // The next command finds all in order.
                disk.host.fault.set(None);
                assert_eq!(disk.none(&[0; 6]).good(), []);
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

fn is_change(call: Call) -> bool {
    matches!(call, Call::Write | Call::Zero | Call::Discard)
}

/// INQUIRY, REQUEST SENSE and REPORT LUNS work without a size, but not through a descriptor that carries no requests.
#[test]
fn a_disk_without_a_size_still_says_who_it_is() {
    let inquiry = [0x12, 0, 0, 0, 96, 0];
    let luns = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
    for (cdb, room) in [(&inquiry[..], 96), (&[0x03, 0, 0, 0, 18, 0], 18), (&luns, 16)] {
        let disk = disk(true);
        let before = disk.read(cdb, room).good();
        for errno in ERRNOS {
            disk.host.fault.set(Some(Fault::new(Call::Limit, errno)));
            let result = disk.try_send(cdb, &sg_io_hdr(cdb.len(), FROM_DEV, room));
            match errno {
                Errno::EBADF => assert_eq!(result, Err(errno)),
                _ => assert_eq!(result.expect("it is right").good(), before),
            }
        }
    }
}

/// A signal is no error of the medium: what moves the caller's data is asked again.
#[test]
fn interrupted_calls_are_repeated() {
    for case in cases().iter().filter(|case| ["READ", "WRITE"].contains(&case.name)) {
        let disk = disk(true);
        disk.host.failure.set(Some(Errno::EINTR));
        let reply = case.send(&disk).expect("it is right");
        assert_eq!((reply.resid, reply.clone().good().len()), (0, case.room), "{:02x?}", case.cdb);
        let holds = disk.host.content.borrow()[512 * FIRST as usize..][..1024].to_vec();
        assert_eq!(holds, if case.room > 0 { old() } else { new() });
    }
}

/// A device that does not take the caller's memory is asked again with other memory.
#[test]
fn memory_that_the_device_does_not_take_is_no_error() {
    for case in cases().iter().filter(|case| ["READ", "WRITE"].contains(&case.name)) {
        let disk = disk(true);
        disk.host.failure.set(Some(Errno::EINVAL));
        case.send(&disk).expect("it is right").good();
        let holds = disk.host.content.borrow()[512 * FIRST as usize..][..1024].to_vec();
        assert_eq!(holds, if case.room > 0 { old() } else { new() });
    }
}

const BAD: usize = 777;

/// One bad block in the middle of a long command.
fn bad_block(call: Call, picky: bool) -> Disk {
    let mut disk = Disk::new(numbered_blocks(MANY));
    disk.host.picky = picky;
    disk.host.fault.set(Some(Fault { call, errno: Errno::EIO, at: Some(512 * BAD as u64) }));
    disk
}

#[test]
fn the_first_bad_block_of_a_read() {
    for pieces in [&[1000 * 512][..], &[100_000, 1, 411_999], &[300; 1700]] {
        for picky in [false, true] {
            let disk = bad_block(Call::Read, picky);
            let pieces = &pieces[..pieces.len().min(1000)];
            let room: usize = pieces.iter().sum();
            let blocks = (room / 512) as u64;
            let reply = disk.list(&blocks_cdb(0x28, 0, 0, blocks), FROM_DEV, pieces, &[]);
            if blocks <= BAD as u64 {
                assert_eq!(reply.status, 0);
                continue;
            }
            assert_eq!(reply.check(), UNRECOVERED_READ_ERROR.with_information(BAD as u64), "{picky}");
            // What came before it may have been moved, no more.
            let moved = reply.data.len();
            assert!(moved <= 512 * BAD, "{moved}");
            assert!(reply.data == numbered_blocks(MANY)[..moved]);
            assert_eq!(reply.resid as usize, room - moved);
        }
    }
}

#[test]
fn the_first_bad_block_of_what_reads_without_giving() {
    let all = numbered_blocks(MANY);
    let commands = [
        (blocks_cdb(0x2f, 0, 100, 1000), vec![]),
        (blocks_cdb(0x8f, 0x02, 0, MANY as u64), all.clone()),
        (blocks_cdb(0xaf, 0x02, 770, 8), all[770 * 512..778 * 512].to_vec()),
        (blocks_cdb(0x8b, 0, 0, MANY as u64), vec![0; all.len()]),
        (blocks_cdb(0x2e, 0x02, 0, MANY as u64), all.clone()),
        (blocks_cdb(0x89, 0, 770, 8), all[770 * 512..778 * 512].repeat(2)),
    ];
    for (cdb, data) in commands {
        let reply = bad_block(Call::Read, false).write(&cdb, &data);
        assert_eq!(reply.check(), UNRECOVERED_READ_ERROR.with_information(BAD as u64), "{cdb:02x?}");
    }
}

#[test]
fn the_first_bad_block_of_a_write() {
    let data = vec![0x5a; 512 * 1000];
    for code in [0x2a, 0x8a, 0x2e] {
        let disk = bad_block(Call::Write, false);
        let reply = disk.write(&blocks_cdb(code, 0, 0, 1000), &data);
        assert_eq!(reply.check(), WRITE_ERROR.with_information(BAD as u64), "{code:02x}");
        let holds = disk.host.content.borrow();
        assert!(
            holds[512 * (BAD + 1)..] == numbered_blocks(MANY)[512 * (BAD + 1)..],
            "nothing behind it is written"
        );
    }
}

/// A bad block outside of the command is none of its business.
#[test]
fn a_bad_block_elsewhere_is_not_met() {
    for call in [Call::Read, Call::Write] {
        let disk = bad_block(call, false);
        for first in [0, BAD + 1] {
            let length = if first == 0 { BAD } else { 100 };
            let range = 512 * first..512 * (first + length);
            let cdb = |code| blocks_cdb(code, 0, first as u64, length as u64);
            assert!(disk.read(&cdb(0x28), range.len()).good() == numbered_blocks(MANY)[range.clone()]);
            disk.write(&cdb(0x2a), &numbered_blocks(MANY)[range]).good();
        }
    }
}
