//! SANITIZE and FORMAT UNIT: what they do to the medium, and what other commands answer meanwhile and after a failure.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use disk::request::{BLKDISCARD, IOC_PR_REGISTER, SG_IO};
use disk::scsi::sense::{Sense, Specific};
use disk::{Answer, Caller, Errno, Medium, Nexus, Settings};
use memory_disk::host::{BASE, Call};
use memory_disk::sense::*;
use memory_disk::sg_io::*;
use memory_disk::{Cluster, Disk, Fault, MemoryHost, numbered_blocks};

const BLOCKS: usize = 64;

const BLOCK_ERASE: [u8; 10] = [0x48, 0x22, 0, 0, 0, 0, 0, 0, 0, 0];
const EXIT_FAILURE_MODE: [u8; 10] = [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0];
const FORMAT: [u8; 6] = [0x04, 0, 0, 0, 0, 0];
const TEST_UNIT_READY: [u8; 6] = [0; 6];
/// AUSE
const UNRESTRICTED: u8 = 0x20;

fn cluster() -> Cluster {
    Cluster::new(Disk::new(numbered_blocks(BLOCKS)), 3)
}

fn content(disk: &Disk) -> Vec<u8> {
    disk.host.content.borrow().clone()
}

fn overwrite_cdb(flags: u8, length: usize) -> Vec<u8> {
    let [high, low] = (length as u16).to_be_bytes();
    vec![0x48, flags | 0x01, 0, 0, 0, 0, 0, high, low, 0]
}

fn overwrite_list(how: u8, pattern: &[u8]) -> Vec<u8> {
    let [high, low] = (pattern.len() as u16).to_be_bytes();
    [&[how, 0, high, low], pattern].concat()
}

fn overwrite(disk: &Disk, flags: u8, how: u8, pattern: &[u8]) -> Reply {
    let list = overwrite_list(how, pattern);
    disk.write(&overwrite_cdb(flags, list.len()), &list)
}

/// FORMAT UNIT with a parameter list.
fn format(disk: &Disk, flags: u8, list: &[u8]) -> Reply {
    disk.write(&[0x04, 0x10 | flags, 0, 0, 0, 0], list)
}

/// A block that is filled with a pattern.
fn filled(pattern: &[u8], block: usize) -> Vec<u8> {
    pattern.iter().copied().cycle().take(block).collect()
}

#[test]
fn overwrite_fills_all_blocks() {
    for length in [1, 4, 5, 256, 511, 512] {
        let pattern: Vec<u8> = (0..length).map(|at| at as u8 ^ 0xa5).collect();
        let mut cluster = cluster();
        // IMMED changes nothing: all is done when the status is returned.
        for flags in [0, 0x80] {
            let synced = cluster.at(0).host.synced.get();
            overwrite(cluster.at(0), flags, 1, &pattern).good();
            assert_eq!(
                content(cluster.at(0)),
                filled(&pattern, 512).repeat(BLOCKS),
                "each block begins with it"
            );
            assert_eq!(cluster.at(0).host.synced.get(), synced + 1);
            assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).status, 0);
        }
        assert_eq!(cluster.at(0).host.waits.get(), 2, "for commands that had begun");
    }
    let mut cluster = cluster();
    cluster.at(0).host.logical = 4096;
    overwrite(cluster.at(0), 0, 1, &[7; 4096]).good();
    assert!(content(cluster.at(0)).iter().all(|&byte| byte == 7));
    // Zeros are written, not deallocated.
    overwrite(cluster.at(0), 0, 1, &[0]).good();
    assert!(matches!(cluster.at(0).host.changed.get(), Some(("write", ..))));
}

/// INVERT: the last pass writes the pattern, the one before what is inverse.
#[test]
fn passes() {
    for (how, expected) in [
        (0x01, &[0x35][..]),
        (0x03, &[0x35, 0x35, 0x35]),
        (0x81, &[0x35]),
        (0x82, &[0xca, 0x35]),
        (0x83, &[0x35, 0xca, 0x35]),
        (0x9f, &[0x35, 0xca].repeat(16)[..31]),
    ] {
        let mut cluster = cluster();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let saw = seen.clone();
        cluster.at(0).host.after_change = Some(Box::new(move |host| {
            assert_eq!(
                host.synced.get() as usize,
                saw.borrow().len(),
                "the cache is written after each pass"
            );
            saw.borrow_mut().push(host.content.borrow()[512 * BLOCKS - 1]);
        }));
        overwrite(cluster.at(0), 0, how, &[0x35]).good();
        assert_eq!(*seen.borrow(), expected, "{how:x}");
    }
}

#[test]
fn wrong_overwrites_change_nothing() {
    let mut cluster = cluster();
    let disk = cluster.at(0);
    for length in [0, 1, 4, 517, 4096] {
        assert_eq!(
            disk.write(&overwrite_cdb(0, length), &vec![1; length]).check(),
            cdb_field(7, 7),
            "{length}"
        );
    }
    assert_eq!(disk.write(&overwrite_cdb(0, 516), &[1; 515]).host_status, ERROR);
    assert_eq!(overwrite(disk, 0, 0x00, &[1]).check(), list_field(0, 4));
    for test in [0x20, 0x40, 0x60] {
        assert_eq!(overwrite(disk, 0, 0x01 | test, &[1]).check(), list_field(0, 6));
    }
    let wrong = |list: &[u8], field| {
        assert_eq!(disk.write(&overwrite_cdb(0, list.len()), list).check(), field, "{list:x?}")
    };
    wrong(&[1, 1, 0, 1, 9], list_field(1, 7));
    wrong(&[1, 0, 0, 0, 9], list_field(2, 7));
    wrong(&[1, 0, 0, 2, 9], list_field(2, 7));
    wrong(&[1, 0, 2, 1, 9], list_field(2, 7));
    for action in [0x00, 0x03, 0x04, 0x1e] {
        assert_eq!(disk.none(&[0x48, action, 0, 0, 0, 0, 0, 0, 0, 0]).check(), cdb_field(1, 4), "{action:x}");
    }
    assert_eq!(content(disk), numbered_blocks(BLOCKS));
    assert_eq!(disk.none(&TEST_UNIT_READY).status, 0);
}

#[test]
fn block_erase_deallocates_all_blocks() {
    let mut cluster = cluster();
    let disk = cluster.at(0);
    disk.none(&BLOCK_ERASE).good();
    assert_eq!(disk.host.changed.get(), Some(("discard", 0, 512 * BLOCKS as u64)));
    assert_eq!(content(disk), vec![0; 512 * BLOCKS]);
    assert_eq!(disk.host.synced.get(), 1);
    // There is no parameter list.
    let mut with_list = BLOCK_ERASE;
    with_list[8] = 8;
    assert_eq!(disk.write(&with_list, &[0; 8]).check(), cdb_field(8, 3));
    // WABEREQ: blocks can be read afterwards.
    let page = [0x12, 1, 0xb1, 0, 64, 0];
    assert_eq!(disk.read(&page, 64).good()[4..8], [0, 0, 0, 0x40]);
    disk.host.thin = false;
    assert_eq!(disk.none(&BLOCK_ERASE).check(), cdb_field(1, 4), "a thick disk does not have it");
    assert_eq!(disk.read(&page, 64).good()[4..8], [0; 4]);
}

#[test]
fn who_may_sanitize_and_format() {
    let mut cluster = cluster();
    let list = overwrite_list(1, &[9]);
    let cdb = overwrite_cdb(0, list.len());
    let refused = |disk: &Disk, expected: Sense| {
        assert_eq!(disk.write(&cdb, &list).check(), expected);
        assert_eq!(disk.none(&BLOCK_ERASE).check(), expected);
        assert_eq!(disk.none(&FORMAT).check(), expected);
        assert_eq!(content(disk), numbered_blocks(BLOCKS));
    };
    cluster.at(0).host.read_only = true;
    refused(cluster.at(0), WRITE_PROTECTED);
    cluster.at(0).host.read_only = false;
    // Those that only read may not.
    let disk = cluster.at(0);
    (disk.host.root, disk.host.writable) = (false, false);
    for cdb in [&BLOCK_ERASE[..], &EXIT_FAILURE_MODE, &FORMAT] {
        assert_eq!(disk.try_send(cdb, &sg_io_hdr(cdb.len(), NONE, 0)), Err(Errno::EPERM));
    }
    disk.host.writable = true;
    disk.none(&EXIT_FAILURE_MODE).good();
    disk.host.root = true;
    // A reservation of another, which comes first.
    cluster.at(1).none(&[0x16, 0, 0, 0, 0, 0]).good();
    cluster.at(0).host.read_only = true;
    cluster.at(0).write(&cdb, &list).conflict();
    cluster.at(0).none(&BLOCK_ERASE).conflict();
    cluster.at(0).none(&FORMAT).conflict();
    cluster.at(0).none(&EXIT_FAILURE_MODE).conflict();
    // An engine that does not know all nexuses has neither.
    refused(&Disk::new(numbered_blocks(BLOCKS)), INVALID_COMMAND_OPERATION_CODE);
}

#[test]
fn format_unit_fills_all_blocks_with_zeros() {
    for thin in [false, true] {
        for list in
            [None, Some((0, &[0, 0, 0, 0][..])), Some((0x20, &[0; 8])), Some((0x08, &[0, 0x82, 0, 0]))]
        {
            let mut cluster = cluster();
            let disk = cluster.at(0);
            disk.host.thin = thin;
            match list {
                None => disk.none(&FORMAT).good(),
                Some((flags, list)) => format(disk, flags, list).good(),
            };
            let how = if thin { "discard" } else { "zero" };
            assert_eq!(disk.host.changed.get(), Some((how, 0, 512 * BLOCKS as u64)));
            assert_eq!(content(disk), vec![0; 512 * BLOCKS]);
            assert_eq!((disk.host.synced.get(), disk.host.waits.get()), (1, 1));
            assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).status, 0);
        }
    }
}

#[test]
fn format_unit_with_an_initialization_pattern() {
    let mut cluster = cluster();
    let disk = cluster.at(0);
    for length in [1, 3, 512] {
        let pattern: Vec<u8> = (0..length).map(|at| at as u8 ^ 0x3c).collect();
        let [high, low] = (length as u16).to_be_bytes();
        let descriptor = [&[0, 1, high, low], &pattern[..]].concat();
        // FOV, DPRY, DCRT, STPF and IP; IMMED; the long header.
        for (flags, header) in [(0, vec![0, 0x88, 0, 0]), (0x28, vec![0, 0xfa, 0, 0, 0, 0, 0, 0])] {
            disk.none(&FORMAT).good();
            format(disk, flags, &[&header, &descriptor[..]].concat()).good();
            assert_eq!(content(disk), filled(&pattern, 512).repeat(BLOCKS));
        }
    }
    // The default pattern.
    format(disk, 0, &[0, 0x88, 0, 0, 0, 0, 0, 0]).good();
    assert_eq!(content(disk), vec![0; 512 * BLOCKS]);
}

#[test]
fn wrong_formats_change_nothing() {
    let mut cluster = cluster();
    let disk = cluster.at(0);
    // Protection, defect list formats, and a complete list that is not there.
    for (byte, bit) in [(0x40, 6), (0x80, 7), (0xc0, 7), (0x01, 2), (0x07, 2), (0x08, 3)] {
        assert_eq!(disk.none(&[0x04, byte, 0, 0, 0, 0]).check(), cdb_field(1, bit), "{byte:x}");
    }
    for (flags, list, at, bit) in [
        (0, vec![1, 0, 0, 0], 0, 0),
        (0, vec![0xff, 0, 0, 0], 0, 7),
        // DPRY, DCRT, STPF and IP without FOV; the obsolete bit; the vendor's.
        (0, vec![0, 0x40, 0, 0], 1, 6),
        (0, vec![0, 0x20, 0, 0], 1, 5),
        (0, vec![0, 0x10, 0, 0], 1, 4),
        (0, vec![0, 0x08, 0, 0], 1, 3),
        (0, vec![0, 0x84, 0, 0], 1, 2),
        (0, vec![0, 0x81, 0, 0], 1, 0),
        // Defects.
        (0, vec![0, 0, 0, 4, 0, 0, 0, 1], 2, 7),
        (0x20, vec![0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1], 4, 7),
        (0x20, vec![0, 0, 1, 0, 0, 0, 0, 0], 2, 7),
        // P_I_INFORMATION and PROTECTION INTERVAL EXPONENT.
        (0x20, vec![0, 0, 0, 0x10, 0, 0, 0, 0], 3, 7),
        // SI; types and lengths of the pattern.
        (0, vec![0, 0x88, 0, 0, 0x20, 1, 0, 1, 9], 4, 5),
        (0, vec![0, 0x88, 0, 0, 0, 2, 0, 1, 9], 5, 7),
        (0, vec![0, 0x88, 0, 0, 0, 0, 0, 1, 9], 6, 7),
        (0, vec![0, 0x88, 0, 0, 0, 1, 0, 0], 6, 7),
        (0x20, vec![0, 0x88, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1], 10, 7),
    ] {
        assert_eq!(format(disk, flags, &list).check(), list_field(at, bit), "{list:x?}");
    }
    // The buffer ends before the list.
    for list in [&[][..], &[0, 0, 0], &[0, 0x88, 0, 0, 0, 1], &[0, 0x88, 0, 0, 0, 1, 0, 2, 9]] {
        assert_eq!(format(disk, 0, list).host_status, ERROR, "{list:x?}");
    }
    assert_eq!(format(disk, 0x20, &[0; 7]).host_status, ERROR);
    assert_eq!(content(disk), numbered_blocks(BLOCKS));
}

/// Sends a command without the disk that is busy with another.
fn ask(host: &MemoryHost, nexus: &Nexus, cdb: &[u8]) -> (u8, Option<Sense>, Vec<u8>) {
    let address = |offset: usize| BASE + offset as u64;
    host.memory.borrow_mut()[0x100..][..cdb.len()].copy_from_slice(cdb);
    let header = SgIoHdr {
        cmdp: address(0x100),
        sbp: address(0x200),
        dxferp: address(0x400),
        ..sg_io_hdr(cdb.len(), FROM_DEV, 512)
    };
    host.store(BASE, header).expect("it is there");
    let answer = host.ask_through(nexus, "/x=scsi", &Settings::default(), SG_IO, BASE);
    assert_eq!(answer, Answer::Value(0));
    let got: SgIoHdr = host.fetch(BASE).expect("it is there");
    let bytes = |offset: usize, length: usize| host.memory.borrow()[offset..][..length].to_vec();
    let sense = (got.sb_len_wr > 0).then(|| parse_sense(&bytes(0x200, got.sb_len_wr.into())));
    (got.status, sense, bytes(0x400, 512 - got.resid as usize))
}

/// Does something after the first change of a disk of two pieces.
fn in_between(cluster: &mut Cluster, act: impl Fn(&MemoryHost) + 'static) {
    let disk = cluster.at(0);
    *disk.host.content.borrow_mut() = vec![0x11; 8 << 20];
    disk.host.bytes = 8 << 20;
    let is_first = Cell::new(true);
    // The write of one piece takes several calls.
    disk.host.after_change = Some(Box::new(move |host| {
        let (_, offset, length) = host.changed.get().expect("there was a change");
        if offset + length > 4 << 20 && is_first.take() {
            act(host);
        }
    }));
    // The new capacity is told.
    (0..3).for_each(|nexus| drop(cluster.at(nexus).none(&TEST_UNIT_READY)));
}

type Operate = fn(&Disk) -> Reply;

/// Each operation that takes two pieces, what its failure is, and what others get meanwhile and after a failure.
const OPERATIONS: [(Operate, Sense, Sense, Sense); 2] = [
    (
        |disk| overwrite(disk, UNRESTRICTED, 1, &[0x77]),
        SANITIZE_COMMAND_FAILED,
        SANITIZE_IN_PROGRESS,
        SANITIZE_COMMAND_FAILED,
    ),
    (
        |disk| format(disk, 0, &[0, 0x88, 0, 0, 0, 1, 0, 1, 0x77]),
        FORMAT_COMMAND_FAILED,
        FORMAT_IN_PROGRESS,
        MEDIUM_FORMAT_CORRUPTED,
    ),
];

/// Commands that read or write blocks, or say whether that can be done.
fn commands_of_the_medium() -> Vec<Vec<u8>> {
    vec![
        TEST_UNIT_READY.to_vec(),
        vec![0x1b, 0, 0, 0, 1, 0],
        blocks_cdb(0x28, 0, 0, 1),
        blocks_cdb(0x88, 0, 0, 1),
        blocks_cdb(0x2f, 0, 0, 1),
        blocks_cdb(0x35, 0, 0, 1),
        vec![0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0],
    ]
}

/// What reports about the disk and not its data.
fn reports() -> Vec<Vec<u8>> {
    vec![
        vec![0x1a, 0, 0x3f, 0, 252, 0],
        blocks_cdb(0x25, 0, 0, 0),
        vec![0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0],
        vec![0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0],
        vec![0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0],
    ]
}

fn always() -> Vec<Vec<u8>> {
    vec![vec![0x12, 0, 0, 0, 96, 0], vec![0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]]
}

#[test]
fn others_are_told_that_it_is_in_progress() {
    for (operate, _, in_progress, _) in OPERATIONS {
        let mut cluster = cluster();
        let asked = Rc::new(Cell::new(0));
        let count = asked.clone();
        in_between(&mut cluster, move |host| {
            let nexus = Nexus::new(2);
            let half = in_progress.with(Specific::Progress(32768));
            let mut commands = [commands_of_the_medium(), reports()].concat();
            commands.extend([BLOCK_ERASE.to_vec(), EXIT_FAILURE_MODE.to_vec(), FORMAT.to_vec()]);
            for cdb in commands {
                let (status, sense, _) = ask(host, &nexus, &cdb);
                let sense = sense.expect("it is refused");
                assert_eq!((status, sense), (2, half), "{cdb:x?}");
                count.set(count.get() + 1);
            }
            for cdb in always() {
                assert_eq!(ask(host, &nexus, &cdb).0, 0, "{cdb:x?}");
            }
            // REQUEST SENSE says it in both formats.
            for descriptor in [0, 1] {
                let (status, _, data) = ask(host, &nexus, &[0x03, descriptor, 0, 0, 252, 0]);
                let sense = parse_sense(&data);
                assert_eq!((status, sense), (0, half));
            }
            let answer = host.ask_through(&nexus, "/x=scsi", &Settings::default(), BLKDISCARD, DATA);
            assert_eq!(answer, Answer::Error(Errno::EIO));
        });
        operate(cluster.at(0)).good();
        assert_eq!(asked.get(), 15);
        cluster.at(0).host.after_change = None;
        assert!(content(cluster.at(0)).iter().all(|&byte| byte == 0x77));
        assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).status, 0);
    }
}

#[test]
fn a_failure_lasts_until_it_is_repeated() {
    for (operate, failed, _, corrupt) in OPERATIONS {
        let mut cluster = cluster();
        // The second piece.
        in_between(&mut cluster, |_| {});
        let disk = cluster.at(0);
        let bad = Fault { at: Some((4 << 20) + 512), ..Fault::new(Call::Write, Errno::EIO) };
        disk.host.fault.set(Some(bad));
        assert_eq!(operate(disk).check(), failed);
        for nexus in [0, 1] {
            let disk = cluster.at(nexus);
            for cdb in commands_of_the_medium() {
                assert_eq!(disk.read(&cdb, 512).check(), corrupt, "{cdb:x?}");
            }
            for cdb in [reports(), always()].concat() {
                disk.read(&cdb, 512).good();
            }
            assert_eq!(parse_sense(&disk.read(&[0x03, 0, 0, 0, 252, 0], 252).good()), corrupt);
            assert_eq!(disk.ask(BLKDISCARD, DATA), Answer::Error(Errno::EIO));
        }
        assert_eq!(operate(cluster.at(1)).check(), failed);
        // What cannot begin leaves it as it is.
        cluster.at(0).host.fault.set(Some(Fault::new(Call::BounceBuffer, Errno::ENOMEM)));
        assert_eq!(operate(cluster.at(1)).status, BUSY);
        cluster.at(0).host.fault.set(None);
        cluster.at(0).host.wait_fails.set(Some(Errno::ETIMEDOUT));
        assert_eq!(operate(cluster.at(1)).status, BUSY);
        assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).check(), corrupt);
        cluster.at(0).host.wait_fails.set(None);
        operate(cluster.at(1)).good();
        assert_eq!(cluster.at(0).none(&TEST_UNIT_READY).status, 0);
    }
}

/// The I_T nexus is lost while its operation is carried out.
#[test]
fn a_lost_nexus_makes_it_fail() {
    for (operate, failed, _, corrupt) in OPERATIONS {
        let mut cluster = cluster();
        in_between(&mut cluster, |host| {
            let shared = host.shared.as_ref().expect("the engine knows the nexuses");
            shared.borrow_mut().lose_nexus(3);
            shared.borrow_mut().lose_nexus(1);
        });
        assert_eq!(operate(cluster.at(0)).check(), failed);
        assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).check(), corrupt);
        // One that has ended long before does not.
        cluster.at(0).host.after_change = None;
        operate(cluster.at(1)).good();
        cluster.change(|shared| shared.lose_nexus(2));
        assert_eq!(cluster.at(0).none(&TEST_UNIT_READY).status, 0);
    }
}

#[test]
fn exit_failure_mode() {
    let mut cluster = cluster();
    let fail = |disk: &Disk, flags: u8| {
        disk.host.fault.set(Some(Fault { at: Some(512), ..Fault::new(Call::Write, Errno::EIO) }));
        let reply = overwrite(disk, flags, 1, &[0x77]);
        disk.host.fault.set(None);
        reply
    };
    // There is nothing to exit.
    cluster.at(0).none(&EXIT_FAILURE_MODE).good();
    assert_eq!(fail(cluster.at(0), UNRESTRICTED).check(), SANITIZE_COMMAND_FAILED);
    assert_eq!(cluster.at(1).none(&FORMAT).check(), SANITIZE_COMMAND_FAILED);
    cluster.at(1).none(&EXIT_FAILURE_MODE).good();
    assert_eq!(cluster.at(0).none(&TEST_UNIT_READY).status, 0);
    // Without AUSE only a sanitize operation without it that succeeds ends the failure.
    assert_eq!(fail(cluster.at(0), 0).check(), SANITIZE_COMMAND_FAILED);
    assert_eq!(cluster.at(1).none(&EXIT_FAILURE_MODE).check(), cdb_field(1, 4));
    assert_eq!(overwrite(cluster.at(1), UNRESTRICTED, 1, &[1]).check(), cdb_field(1, 5));
    assert_eq!(cluster.at(1).none(&BLOCK_ERASE).check(), cdb_field(1, 5));
    assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).check(), SANITIZE_COMMAND_FAILED);
    overwrite(cluster.at(1), 0, 1, &[1]).good();
    assert_eq!(cluster.at(0).none(&TEST_UNIT_READY).status, 0);
    // It does not end the failure of a format operation, but a sanitize operation does.
    cluster.at(0).host.thin = false;
    cluster.at(0).host.fault.set(Some(Fault::new(Call::Sync, Errno::EIO)));
    assert_eq!(cluster.at(0).none(&FORMAT).check(), FORMAT_COMMAND_FAILED);
    cluster.at(0).host.fault.set(None);
    cluster.at(1).none(&EXIT_FAILURE_MODE).good();
    assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).check(), MEDIUM_FORMAT_CORRUPTED);
    overwrite(cluster.at(1), UNRESTRICTED, 1, &[1]).good();
    assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).status, 0);
}

/// What fails before anything is written is no failed operation.
#[test]
fn an_operation_that_cannot_begin() {
    for (errno, sense) in [(Errno::EROFS, Some(WRITE_PROTECTED)), (Errno::ENOMEM, None)] {
        for (operate, ..) in OPERATIONS {
            let mut cluster = cluster();
            cluster.at(0).host.fault.set(Some(Fault::new(Call::Write, errno)));
            let reply = operate(cluster.at(0));
            match sense {
                Some(sense) => assert_eq!(reply.check(), sense),
                None => assert_eq!(reply.status, BUSY),
            }
            assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).status, 0);
        }
    }
    let mut cluster = cluster();
    cluster.at(0).host.wait_fails.set(Some(Errno::CALLER_GONE));
    let disk = cluster.at(0);
    disk.put(CDB, &FORMAT);
    disk.host.store(HEADER, sg_io_hdr(6, NONE, 0)).expect("it is there");
    assert_eq!(disk.ask(SG_IO, HEADER), Answer::CallerGone);
    assert_eq!(content(cluster.at(0)), numbered_blocks(BLOCKS));
    assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).status, 0);
}

#[test]
fn a_medium_without_blocks() {
    let mut cluster = Cluster::new(Disk::on(MemoryHost::new(Medium::ImageFile, 0)), 1);
    let disk = cluster.at(0);
    assert_eq!(disk.none(&FORMAT).check(), MEDIUM_NOT_PRESENT);
    assert_eq!(disk.none(&BLOCK_ERASE).check(), MEDIUM_NOT_PRESENT);
    assert_eq!(overwrite(disk, 0, 1, &[1]).check(), MEDIUM_NOT_PRESENT);
}

/// A nexus that has been preempted since the command looked at reservations does not begin: those who have
/// preempted it wait for it no longer than it waits for others.
#[test]
fn a_reservation_made_before_it_begins() {
    for (operate, ..) in OPERATIONS {
        let mut cluster = cluster();
        cluster.at(0).host.before_change_of_shared = Some(Box::new(|shared| {
            shared.reservations.register(2, None, 2, None).expect("there is room");
            let exclusive = disk::reservation::Type::ExclusiveAccess;
            shared.reservations.reserve(2, 2, Some(exclusive)).expect("nobody else has");
        }));
        let reply = operate(cluster.at(0));
        cluster.at(0).host.before_change_of_shared = None;
        assert_eq!(reply.status, RESERVATION_CONFLICT);
        assert_eq!(cluster.at(0).host.waits.get(), 0);
        assert_eq!(content(cluster.at(0)), numbered_blocks(BLOCKS));
        assert_eq!(cluster.at(1).none(&TEST_UNIT_READY).status, 0);
    }
}

/// Nor can anybody make one meanwhile.
#[test]
fn no_reservation_while_it_is_in_progress() {
    for (operate, ..) in OPERATIONS {
        let mut cluster = cluster();
        in_between(&mut cluster, |host| {
            // REGISTER, with any key.
            let registration = [[0; 8], [0x77; 8], [1, 0, 0, 0, 0, 0, 0, 0]].concat();
            host.memory.borrow_mut()[..24].copy_from_slice(&registration);
            let ask = |nexus: &Nexus| {
                host.ask_through(nexus, "/x=scsi", &Settings::default(), IOC_PR_REGISTER, BASE)
            };
            assert_eq!(ask(&Nexus::new(2)), Answer::Value(2));
        });
        operate(cluster.at(0)).good();
        cluster.change(|shared| assert_eq!(shared.reservations.registrations().count(), 0));
    }
}

/// Nor with RESERVE, which looked whether one is in progress before that began; nor does another begin.
#[test]
fn no_reserve_after_it_has_begun() {
    for (operate, _, in_progress, _) in OPERATIONS {
        let mut cluster = cluster();
        let begun = Rc::new(RefCell::new(None));
        let to = Rc::clone(&begun);
        in_between(&mut cluster, move |host| *to.borrow_mut() = host.shared.clone());
        operate(cluster.at(0)).good();
        let begun = begun.take().expect("it takes two pieces").into_inner();
        let host = &mut cluster.at(1).host;
        host.after_change = None;
        host.before_change_of_shared = Some(Box::new(move |shared| *shared = begun.clone()));
        let sense = cluster.at(1).none(&[0x16, 0, 0, 0, 0, 0]).check();
        assert_eq!(sense, in_progress.with(Specific::Progress(32768)));
        assert_eq!(operate(cluster.at(1)).check(), sense);
        cluster.at(1).host.before_change_of_shared = None;
        cluster.change(|shared| assert_eq!(shared.reservations.reserved_by(), None));
    }
}
