//! What an ATA disk does with each command, register by register and byte for byte, whichever way it comes.

use std::sync::LazyLock;

use std::mem::offset_of;

use disk::abi::{HdioTaskfile, IdeTaskRequest};
use disk::ata::Registers;
use disk::ata::command::{COMMANDS, Protocol};
use disk::request::*;
use disk::{Answer, Caller, Errno, Medium};
use memory_disk::ata::*;
use memory_disk::host::{FAR, POISON};
use memory_disk::sense::*;
use memory_disk::sg_io::*;
use memory_disk::{Call, Disk, Fault, MemoryHost};
use proptest::prelude::*;

use Protocol::{DmaIn, DmaOut, PioIn, PioOut};

const BLOCKS: u64 = 24;

/// The most blocks that a test's disk holds.
const MOST: u64 = 2048;

/// What is on the disks: no two of 256 blocks in a row are the same.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..MOST).flat_map(|block| (0..512u64).map(move |at| (block * 7 + at / 64) as u8)).collect()
});

/// The content of a disk of so many 512-byte blocks.
fn content(blocks: u64) -> Vec<u8> {
    CONTENT[..512 * blocks as usize].to_vec()
}

/// A fresh disk of this kind.
fn disk(entry: &'static str) -> Disk {
    Disk { entry, ..Disk::new(content(BLOCKS)) }
}

/// A disk of this size that holds nothing.
fn sized(entry: &'static str, bytes: u64) -> Disk {
    Disk { entry, ..Disk::on(MemoryHost::new(Medium::ImageFile, bytes)) }
}

/// A block of the disk as it is.
fn block_of(disk: &Disk, number: usize) -> Vec<u8> {
    disk.host.content.borrow()[512 * number..][..512].to_vec()
}

fn part(first: u64, blocks: u64) -> Vec<u8> {
    CONTENT[512 * first as usize..][..512 * blocks as usize].to_vec()
}

/// Every way of every kind of disk.
fn each_way() -> impl Iterator<Item = (&'static str, Way)> {
    WAYS.iter().flat_map(|&(kind, ways)| ways.iter().map(move |&way| (kind, way)))
}

fn smart(features: u16, low: u8, count: u16) -> Ata {
    Ata { features, count, lba: SMART_SIGNATURE | u64::from(low), ..Ata::new(0xb0) }
}

fn smart_log(address: u8, pages: u16) -> Ata {
    let room = 512 * usize::from(pages);
    Ata { room, protocol: PioIn, ..smart(0xd5, address, pages) }
}

fn identify() -> Ata {
    Ata::gives(0xec, PioIn, 512)
}

/// READ LOG EXT: pages from one on.
fn read_log(address: u8, first: u16, pages: u16) -> Ata {
    let [low, high] = first.to_le_bytes();
    let lba = u64::from_le_bytes([address, low, 0, 0, high, 0, 0, 0]);
    Ata { lba, count: pages, ..Ata::gives(0x2f, PioIn, 512 * usize::from(pages)).wide() }
}

/// The words of an IDENTIFY DEVICE sector.
fn words(sector: &[u8]) -> Vec<u16> {
    sector.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// The IDENTIFY DEVICE sector as the disk gives it now.
#[track_caller]
fn identified(disk: &Disk) -> Vec<u16> {
    let way = if disk.entry.starts_with("/x=ide") { Way::Cmd } else { Way::Sixteen };
    let got = disk.ata(way, &identify());
    got.holds(identify().leaves(DONE));
    assert_eq!(sum(&got.data), 0);
    words(&got.data)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Reads with a command, and checks that all ended well.
#[track_caller]
fn read(disk: &Disk, command: &Ata) -> Vec<u8> {
    let way = if disk.entry.starts_with("/x=ide") { Way::Taskfile } else { Way::Sixteen };
    let got = disk.ata(way, command);
    got.holds(command.leaves(DONE));
    got.data
}

/// Every command that there is: its code, its subcommand, how it moves data, whether its registers are wide. Written down
/// from ACS-3, not from the disk.
const TABLE: &[(u8, Option<u8>, Protocol, bool)] = &[
    (0x00, None, Protocol::NonData, false),
    (0x06, None, DmaOut, true),
    (0x20, None, PioIn, false),
    (0x21, None, PioIn, false),
    (0x24, None, PioIn, true),
    (0x25, None, DmaIn, true),
    (0x27, None, Protocol::NonData, true),
    (0x29, None, PioIn, true),
    (0x2f, None, PioIn, true),
    (0x30, None, PioOut, false),
    (0x31, None, PioOut, false),
    (0x34, None, PioOut, true),
    (0x35, None, DmaOut, true),
    (0x39, None, PioOut, true),
    (0x3d, None, DmaOut, true),
    (0x40, None, Protocol::NonData, false),
    (0x41, None, Protocol::NonData, false),
    (0x42, None, Protocol::NonData, true),
    (0x47, None, DmaIn, true),
    (0x90, None, Protocol::NonData, false),
    (0xb0, Some(0xd0), PioIn, false),
    (0xb0, Some(0xd1), PioIn, false),
    (0xb0, Some(0xd2), Protocol::NonData, false),
    (0xb0, Some(0xd4), Protocol::NonData, false),
    (0xb0, Some(0xd5), PioIn, false),
    (0xb0, Some(0xd8), Protocol::NonData, false),
    (0xb0, Some(0xd9), Protocol::NonData, false),
    (0xb0, Some(0xda), Protocol::NonData, false),
    (0xc4, None, PioIn, false),
    (0xc5, None, PioOut, false),
    (0xc6, None, Protocol::NonData, false),
    (0xc8, None, DmaIn, false),
    (0xc9, None, DmaIn, false),
    (0xca, None, DmaOut, false),
    (0xcb, None, DmaOut, false),
    (0xce, None, PioOut, true),
    (0xe0, None, Protocol::NonData, false),
    (0xe1, None, Protocol::NonData, false),
    (0xe2, None, Protocol::NonData, false),
    (0xe3, None, Protocol::NonData, false),
    (0xe5, None, Protocol::NonData, false),
    (0xe6, None, Protocol::NonData, false),
    (0xe7, None, Protocol::NonData, false),
    (0xea, None, Protocol::NonData, true),
    (0xec, None, PioIn, false),
    (0xef, Some(0x02), Protocol::NonData, false),
    (0xef, Some(0x03), Protocol::NonData, false),
    (0xef, Some(0x05), Protocol::NonData, false),
    (0xef, Some(0x55), Protocol::NonData, false),
    (0xef, Some(0x66), Protocol::NonData, false),
    (0xef, Some(0x82), Protocol::NonData, false),
    (0xef, Some(0x85), Protocol::NonData, false),
    (0xef, Some(0xaa), Protocol::NonData, false),
    (0xef, Some(0xcc), Protocol::NonData, false),
    (0xf8, None, Protocol::NonData, false),
];

const READS: [u8; 9] = [0x20, 0x21, 0x24, 0x25, 0x29, 0xc4, 0xc8, 0xc9, 0x42];
const WRITES: [u8; 11] = [0x30, 0x31, 0x34, 0x35, 0x39, 0x3d, 0xc5, 0xca, 0xcb, 0xce, 0x06];
const MULTIPLE: [u8; 5] = [0x29, 0x39, 0xc4, 0xc5, 0xce];

/// The command of a row with all that it needs to succeed.
fn right(&(code, subcommand, protocol, extended): &(u8, Option<u8>, Protocol, bool)) -> Ata {
    let plain = Ata { features: subcommand.unwrap_or(0).into(), protocol, extended, ..Ata::new(code) };
    match (code, subcommand) {
        (0x06, _) => trim(&[(2, 3), (9, 1)]),
        (0x2f | 0x47, _) => Ata { room: 512, count: 1, ..plain },
        (0x40..=0x42, _) => plain.on(3, 2),
        (0xb0, Some(0xd0 | 0xd1 | 0xd5)) => Ata { room: 512, count: 1, lba: SMART_SIGNATURE, ..plain },
        (0xb0, Some(0xd4)) => Ata { lba: SMART_SIGNATURE | 1, ..plain },
        (0xb0, _) => Ata { lba: SMART_SIGNATURE, ..plain },
        (0xc6, _) => Ata { count: 8, ..plain },
        (0xec, _) => Ata { room: 512, ..plain },
        (0xef, Some(0x03)) => Ata { count: 0x44, ..plain },
        (0xef, Some(0x05)) => Ata { count: 0x80, ..plain },
        _ if protocol == PioIn || protocol == DmaIn => Ata { room: 1024, ..plain.on(3, 2) },
        _ if protocol == PioOut || protocol == DmaOut => Ata { data: vec![0x99; 1024], ..plain.on(3, 2) },
        _ => plain,
    }
}

/// A disk on which READ MULTIPLE and its like are allowed.
fn multiple(entry: &'static str) -> Disk {
    let disk = disk(entry);
    let way = disk_way(&disk);
    disk.ata(way, &set_multiple_mode(8)).holds(set_multiple_mode(8).leaves(DONE));
    disk
}

fn disk_way(disk: &Disk) -> Way {
    if disk.entry.starts_with("/x=ide") { Way::Taskfile } else { Way::Sixteen }
}

#[test]
fn the_table_is_the_standards() {
    let rows: Vec<_> = COMMANDS
        .iter()
        .map(|command| (command.code, command.subcommand, command.protocol, command.extended))
        .collect();
    let mut sorted = rows.clone();
    sorted.sort_by_key(|row| (row.0, row.1));
    let mut expected = TABLE.to_vec();
    expected.sort_by_key(|row| (row.0, row.1));
    assert_eq!(sorted, expected);
    sorted.dedup_by_key(|row| (row.0, row.1));
    assert_eq!(sorted.len(), rows.len());
}

#[test]
fn every_command_by_every_way_that_carries_it() {
    let mut sent = 0;
    for row in TABLE {
        let command = right(row);
        for (kind, way) in each_way().filter(|&(_, way)| command.goes(way)) {
            let disk = multiple(kind);
            let got = disk.ata(way, &command);
            sent += 1;
            let expected = match row.0 {
                0x00 => command.leaves(ABORTED),
                0x27 | 0xf8 => {
                    let device = if row.0 == 0xf8 { 0xa0 } else { command.leaves(DONE).device };
                    Registers { lba: BLOCKS - 1, device, ..command.leaves(DONE) }
                }
                // The signature, and that it passed; which drivers/ide takes for an error.
                0x90 => {
                    if kind == "/x=ide" {
                        assert_eq!(got.result, Err(Errno::EIO), "{way:?}");
                    }
                    let expected = Registers { status: 0x50, error: 1, count: 1, lba: 1, device: 0 };
                    if let Some((registers, seen)) = got.registers {
                        assert_eq!(registers, Registers { lba: 1 & seen.lba, ..expected });
                    }
                    continue;
                }
                0xe5 => Registers { count: 0xff, ..command.leaves(DONE) },
                _ => command.leaves(DONE),
            };
            got.holds(expected);
            let mut after = content(BLOCKS);
            match row.0 {
                0x06 => {
                    after[512 * 2..512 * 5].fill(0);
                    after[512 * 9..512 * 10].fill(0);
                }
                code if WRITES.contains(&code) => after[512 * 3..512 * 5].fill(0x99),
                code if READS.contains(&code) && command.room > 0 => {
                    assert!(got.data == part(3, 2), "{way:?} {code:02x}");
                }
                _ => {}
            }
            assert!(*disk.host.content.borrow() == after, "{way:?} {command:x?}");
        }
    }
    assert_eq!(sent, 263);
}

/// Every protocol but the command's own, with as much room or data as the command moves.
fn by_other_protocols(own: &Ata) -> impl Iterator<Item = Ata> {
    const ALL: [Protocol; 5] = [Protocol::NonData, PioIn, PioOut, DmaIn, DmaOut];
    let length = own.room.max(own.data.len());
    ALL.into_iter().filter(|&protocol| protocol != own.protocol).map(move |protocol| {
        let (room, data) = match protocol {
            Protocol::NonData => (0, vec![]),
            PioIn | DmaIn => (length, vec![]),
            PioOut | DmaOut if own.room == 0 => (0, own.data.clone()),
            PioOut | DmaOut => (0, vec![0x99; length]),
        };
        Ata { protocol, room, data, ..own.clone() }
    })
}

/// drivers/ide has the disk move data by the command's own protocol alone.
#[test]
fn an_ide_disk_aborts_a_data_command_by_another_protocol() {
    for row in TABLE.iter().filter(|row| row.2 != Protocol::NonData) {
        by_other_protocols(&right(row)).for_each(|other| refused("/x=ide", Way::Taskfile, &other));
    }
}

/// libata does not compare PROTOCOL with the command, so that the disk moves data by PIO or DMA, whichever it is; the command
/// itself says which way. A data-in command without a data-in buffer gives nothing; a data-out command without data writes
/// nothing.
#[test]
fn a_sata_disk_carries_out_a_data_command_by_another_protocol() {
    for row in TABLE.iter().filter(|row| row.2 != Protocol::NonData) {
        let own = right(row);
        for way in [Way::Twelve, Way::Sixteen] {
            for other in by_other_protocols(&own).filter(|other| other.goes(way)) {
                let takes = matches!(own.protocol, PioOut | DmaOut);
                if takes && !matches!(other.protocol, PioOut | DmaOut) {
                    refused("/x=sata", way, &other);
                    continue;
                }
                let disk = multiple("/x=sata");
                let got = disk.ata(way, &other);
                got.holds(own.leaves(DONE));
                let (as_it_is, is_in) = (multiple("/x=sata"), matches!(other.protocol, PioIn | DmaIn));
                let expected = if is_in || takes { as_it_is.ata(way, &own).data } else { vec![] };
                assert!(got.data == expected, "{other:x?}");
                assert!(*disk.host.content.borrow() == *as_it_is.host.content.borrow(), "{other:x?}");
                let resid = got.reply.map(|reply| reply.resid);
                assert_eq!(
                    resid,
                    Some(if is_in || takes { 0 } else { other.data.len() as i32 }),
                    "{other:x?}"
                );
            }
        }
    }
}

/// A command moves all of its data or is aborted.
#[test]
fn too_little_room_or_data_is_aborted() {
    for row in TABLE.iter().filter(|row| row.2 != Protocol::NonData) {
        for (kind, way) in WHOLE {
            let mut short = right(row);
            short.room = short.room.saturating_sub(512);
            short.data.truncate(short.data.len().saturating_sub(512));
            // One block less; nothing at all is another phase by HDIO_DRIVE_TASKFILE.
            if short.room + short.data.len() > 0 {
                refused(kind, way, &short);
            }
        }
    }
}

/// Sends a command that the disk is to abort without having done anything.
#[track_caller]
fn refused(kind: &'static str, way: Way, command: &Ata) {
    let disk = multiple(kind);
    let got = disk.ata(way, command);
    got.holds(command.leaves(ABORTED));
    assert!(got.data.iter().all(|&byte| byte == POISON), "{command:x?}");
    assert!(*disk.host.content.borrow() == content(BLOCKS), "{command:x?}");
    assert_eq!((disk.host.changed.get(), disk.host.synced.get()), (None, 0));
    if let Some(reply) = got.reply {
        assert_eq!(
            (reply.check().key, reply.check().asc_ascq),
            (ABORTED_COMMAND.key, ABORTED_COMMAND.asc_ascq)
        );
    }
}

#[test]
fn what_has_no_row_is_aborted() {
    let has_row = |code: u8, features: u8| {
        TABLE.iter().any(|row| row.0 == code && row.1.is_none_or(|own| own == features))
    };
    for code in 0..=0xff {
        let features: Vec<u8> = match code {
            0xb0 | 0xef => (0..=0xff).collect(),
            _ => vec![0, 0x01, 0xd0],
        };
        for features in features.into_iter().filter(|&features| !has_row(code, features)) {
            let lba = if code == 0xb0 { SMART_SIGNATURE } else { 0 };
            let command = Ata { features: features.into(), lba, ..Ata::new(code) };
            for (kind, way) in each_way() {
                let count = if way == Way::Cmd { 0 } else { 1 };
                let command = Ata { count, ..command.clone() };
                let got = disk(kind).ata(way, &command);
                // The driver asks the host adapter for DMA modes, not this.
                got.holds(command.leaves(ABORTED));
                if got.registers.is_none() {
                    assert_eq!(got.result, Err(Errno::EIO));
                }
            }
            for (kind, way) in WHOLE {
                for protocol in [PioIn, DmaIn] {
                    refused(kind, way, &Ata { protocol, room: 512, count: 1, ..command.clone() });
                }
                for protocol in [PioOut, DmaOut] {
                    refused(kind, way, &Ata { protocol, data: vec![0; 512], count: 1, ..command.clone() });
                }
            }
        }
    }
}

#[test]
fn who_takes_no_ata_commands_by_sg_io() {
    for way in [Way::Twelve, Way::Sixteen] {
        let cdb = identify().cdb(way);
        let scsi = disk("/x=scsi");
        assert_eq!(scsi.read(&cdb, 512).check(), INVALID_COMMAND_OPERATION_CODE);
        let ide = disk("/x=ide");
        let header = sg_io_hdr(cdb.len(), FROM_DEV, 512);
        ide.put(CDB, &cdb);
        ide.host.store(HEADER, header).expect("it is there");
        let answer = ide.ask(SG_IO, HEADER);
        assert_eq!(answer, Answer::Error(Errno::EINVAL));
        assert_eq!(ide.host.fetch(HEADER), Ok(header));
    }
    for (kind, request, errno) in [
        ("/x=scsi", HDIO_DRIVE_CMD, Errno::EINVAL),
        ("/x=scsi", HDIO_DRIVE_TASK, Errno::EINVAL),
        ("/x=scsi", HDIO_DRIVE_TASKFILE, Errno::EINVAL),
        ("/x=sata", HDIO_DRIVE_TASKFILE, Errno::ENOTTY),
    ] {
        let bytes = identify().taskfile();
        assert_eq!(disk(kind).hdio(request, &bytes), (Err(errno), bytes), "{kind}");
    }
}

// Data.

/// A disk of so many blocks on which every block can be read and written, and only the first ones hold anything.
fn large(entry: &'static str, blocks: u64) -> Disk {
    let disk = sized(entry, blocks.saturating_mul(512));
    Disk { host: MemoryHost { sparse: true, ..disk.host }, ..disk }
}

const BLOCK: usize = 512;

#[test]
fn addresses_up_to_the_last() {
    const MOST_28: u64 = 0x0fff_ffff;
    const MOST_48: u64 = (1 << 48) - 1;
    let (short, long) = (0x30, 0x34);
    for (code, blocks, first, count, found) in [
        (short, 1, 0, 1, true),
        (short, 1, 0, 2, false),
        (short, 1, 1, 1, false),
        (short, MOST_28, MOST_28 - 1, 1, true),
        (short, MOST_28, MOST_28, 1, false),
        (short, MOST_28 + 1, MOST_28, 1, true),
        (short, MOST_28 + 1, MOST_28, 2, false),
        (short, 1 << 40, MOST_28, 1, true),
        (short, 1 << 40, 0x0123_4567, 3, true),
        (long, MOST_28, MOST_28, 1, false),
        (long, MOST_28 + 2, MOST_28, 2, true),
        (long, MOST_28 + 2, MOST_28 + 1, 1, true),
        (long, MOST_28 + 2, MOST_28 + 1, 2, false),
        (long, MOST_48, MOST_48 - 1, 1, true),
        (long, MOST_48, MOST_48, 1, false),
        (long, MOST_48 + 1, MOST_48, 1, true),
        (long, MOST_48 + 1, MOST_48, 2, false),
        (long, 1 << 55, 0x1234_5678_9abc, 3, true),
    ] {
        for (kind, way) in WHOLE {
            let disk = large(kind, blocks);
            let data = vec![1; BLOCK * usize::from(count)];
            let command = Ata { extended: code == long, ..Ata::takes(code, PioOut, data) }.on(first, count);
            let got = disk.ata(way, &command);
            got.holds(command.leaves(if found { DONE } else { NOT_FOUND }));
            let wanted = found.then_some(("write", 512 * first, 512 * u64::from(count)));
            assert_eq!(disk.host.changed.get(), wanted, "{code:02x} {blocks:#x} {first:#x}");
        }
    }
}

/// A COUNT of 0 is the largest: 256, or 65536 with 16 bits.
#[test]
fn a_count_of_zero() {
    for (code, extended, blocks) in [(0x40, false, 256), (0x42, true, 65536)] {
        for (kind, way) in each_way() {
            let command = Ata { extended, ..Ata::new(code) }.on(0, 0);
            if !command.goes(way) || way == Way::Cmd {
                continue;
            }
            let disk = large(kind, blocks);
            disk.ata(way, &command).holds(command.leaves(DONE));
            // Not one less: the last of them is looked at.
            let errno = Errno::EIO;
            disk.host.fault.set(Some(Fault { call: Call::Read, errno, at: Some(512 * (blocks - 1)) }));
            disk.ata(way, &command).holds(on_block(&command, UNREADABLE, blocks - 1));
            large(kind, blocks - 1).ata(way, &command).holds(command.leaves(NOT_FOUND));
        }
    }
    let disk = Disk { entry: "/x=sata", ..Disk::new(content(300)) };
    for code in [0x20, 0xc8] {
        let protocol = if code == 0x20 { PioIn } else { DmaIn };
        let command = Ata::gives(code, protocol, 256 * BLOCK).on(5, 0);
        assert!(disk.ata(Way::Twelve, &command).data == part(5, 256));
    }
    let command = Ata::takes(0xca, DmaOut, vec![7; 256 * BLOCK]).on(44, 0);
    disk.ata(Way::Sixteen, &command).holds(command.leaves(DONE));
    assert!(disk.host.content.borrow()[44 * BLOCK..].iter().all(|&byte| byte == 7));
    assert!(disk.host.content.borrow()[..44 * BLOCK] == CONTENT[..44 * BLOCK]);
}

/// Registers that name a block, in the form of the command's own address.
fn on_block(command: &Ata, ended: (u8, u8), block: u64) -> Registers {
    let registers = command.leaves(ended);
    if command.extended {
        return Registers { lba: block, ..registers };
    }
    let device = registers.device & 0xf0;
    if command.device & LBA != 0 {
        return Registers { lba: block & 0xff_ffff, device: device | (block >> 24) as u8, ..registers };
    }
    let (sector, head, cylinder) = (block % 63 + 1, block / 63 % 16, block / 63 / 16);
    Registers { lba: cylinder << 8 | sector, device: device | head as u8, ..registers }
}

/// A command on an address by cylinder, head and sector.
fn by_chs(command: Ata, cylinder: u16, head: u8, sector: u8, count: u16) -> Ata {
    let lba = u64::from(cylinder) << 8 | u64::from(sector);
    Ata { lba, device: head, count, ..command }
}

#[test]
fn addresses_by_cylinder_head_and_sector() {
    // Two cylinders of 16 heads and 63 sectors, and some blocks more.
    for (kind, way) in WHOLE {
        let disk = Disk { entry: kind, ..Disk::new(content(MOST)) };
        for (cylinder, head, sector, block) in [
            (0, 0, 1, 0),
            (0, 0, 63, 62),
            (0, 1, 1, 63),
            (0, 15, 63, 1007),
            (1, 0, 1, 1008),
            (1, 15, 63, 2015),
            (1, 7, 5, 1008 + 7 * 63 + 4),
        ] {
            let command = by_chs(Ata::gives(0x20, PioIn, BLOCK), cylinder, head, sector, 1);
            assert!(read(&disk, &command) == part(block, 1), "{cylinder}/{head}/{sector}");
        }
        for (cylinder, head, sector) in [(0, 0, 0), (0, 0, 64), (0, 0, 255), (2, 0, 1), (0xffff, 15, 63)] {
            let command = by_chs(Ata::gives(0x20, PioIn, BLOCK), cylinder, head, sector, 1);
            let got = disk.ata(way, &command);
            got.holds(command.leaves(NOT_FOUND));
            assert!(got.data.iter().all(|&byte| byte == POISON));
        }
        // Logical blocks of 4096 bytes: one cylinder, and some blocks more.
        let large = match kind {
            "/x=ide" => "/x=ide,sector=4096",
            _ => "/x=sata,sector=4096",
        };
        let large = Disk { entry: large, ..Disk::new(vec![7; 4096 * 1100]) };
        let words = identified(&large);
        assert_eq!((words[1], words[54], &words[57..59]), (1, 1, &[1008, 0][..]));
        for (cylinder, ended) in [(0, DONE), (1, NOT_FOUND)] {
            let command = by_chs(Ata::gives(0x20, PioIn, 4096), cylinder, 0, 1, 1);
            large.ata(way, &command).holds(command.leaves(ended));
        }
        // What begins in a cylinder that there is may go on behind the last.
        let command = by_chs(Ata::gives(0x20, PioIn, 33 * BLOCK), 1, 15, 63, 33);
        assert!(read(&disk, &command) == part(2015, 33));
        let command = by_chs(Ata::gives(0x20, PioIn, 34 * BLOCK), 1, 15, 63, 34);
        disk.ata(way, &command).holds(command.leaves(NOT_FOUND));
    }
}

/// The block that cannot be had, in the form of the address that the command gave.
#[test]
fn the_address_of_an_error() {
    const BORDER: u64 = 0x100_0000;
    for (kind, way) in WHOLE {
        for picky in [false, true] {
            for (call, ended) in [(Call::Read, UNREADABLE), (Call::Write, FAULT)] {
                for (extended, first, bad) in [
                    (false, BORDER - 1, BORDER),
                    (false, 0x0765_4321, 0x0765_4322),
                    (true, 0x1234_5678_9abc, 0x1234_5678_9abd),
                    (true, BORDER - 1, BORDER),
                ] {
                    // What is copied, since it stands 48 bytes behind an aligned address, is written whole or not at all:
                    // its first block is to blame.
                    let copied = picky && way == Way::Taskfile;
                    let blamed = if copied && call == Call::Write { first } else { bad };
                    let disk = large(kind, 1 << 50);
                    let disk = Disk { host: MemoryHost { picky, ..disk.host }, ..disk };
                    disk.host.fault.set(Some(Fault { call, errno: Errno::EIO, at: Some(512 * bad) }));
                    let command = match call {
                        Call::Read => Ata::gives(0x24, PioIn, 2 * BLOCK),
                        _ => Ata::takes(0x34, PioOut, vec![1; 2 * BLOCK]),
                    };
                    let code = command.command - if extended { 0 } else { 4 };
                    let command = Ata { command: code, extended, ..command }.on(first, 2);
                    disk.ata(way, &command).holds(on_block(&command, ended, blamed));
                }
            }
        }
        let disk = Disk { entry: kind, ..Disk::new(content(MOST)) };
        for (cylinder, head, sector, bad) in [(0, 0, 60, 64), (1, 14, 63, 1008 + 15 * 63), (0, 15, 63, 1008)]
        {
            disk.host.fault.set(Some(Fault { call: Call::Read, errno: Errno::EIO, at: Some(512 * bad) }));
            let command = by_chs(Ata::gives(0x20, PioIn, 8 * BLOCK), cylinder, head, sector, 8);
            let got = disk.ata(way, &command);
            got.holds(on_block(&command, UNREADABLE, bad));
            let first = (u64::from(cylinder) * 16 + u64::from(head)) * 63 + u64::from(sector) - 1;
            let before = (bad - first) as usize * BLOCK;
            assert!(got.data[..before] == CONTENT[first as usize * BLOCK..][..before]);
            assert!(got.data[before..].iter().all(|&byte| byte == POISON), "nothing behind the bad block");
        }
    }
}

#[test]
fn what_must_be_on_the_medium() {
    for row in TABLE.iter().filter(|row| WRITES.contains(&row.0) && row.0 != 0x06) {
        let command = right(row);
        for (kind, way) in WHOLE {
            let disk = multiple(kind);
            disk.ata(way, &command).holds(command.leaves(DONE));
            let durable = matches!(row.0, 0x3d | 0xce);
            let what = if durable { "durable write" } else { "write" };
            assert_eq!(disk.host.changed.get(), Some((what, 3 * 512, 1024)), "{:02x}", row.0);
            // Without a write cache, everything.
            disk.ata(way, &set_features(0x82, 0)).holds(set_features(0x82, 0).leaves(DONE));
            assert_eq!(disk.host.synced.get(), 1, "the cache is written before it is turned off");
            disk.ata(way, &command).holds(command.leaves(DONE));
            assert_eq!(disk.host.changed.get(), Some(("durable write", 3 * 512, 1024)), "{:02x}", row.0);
        }
    }
    for code in [0xe7, 0xea, 0xe0, 0xe2, 0xe6] {
        for (kind, way) in WHOLE {
            let disk = disk(kind);
            let command = Ata { extended: code == 0xea, ..Ata::new(code) };
            disk.ata(way, &command).holds(command.leaves(DONE));
            assert_eq!(disk.host.synced.get(), 1, "{code:02x}");
        }
    }
    for code in [0xe1, 0xe3, 0xe5] {
        let disk = disk("/x=ide");
        disk.ata(Way::Task, &Ata::new(code));
        assert_eq!(disk.host.synced.get(), 0, "{code:02x}");
    }
}

#[test]
fn multiple_mode_must_be_set() {
    for row in TABLE.iter().filter(|row| MULTIPLE.contains(&row.0)) {
        let command = right(row);
        for (kind, way) in WHOLE {
            let disk = disk(kind);
            disk.ata(way, &command).holds(command.leaves(ABORTED));
            assert_eq!(disk.host.changed.get(), None);
            for (count, ended) in (0..=0xff).map(|count: u16| match count {
                0 | 1 | 2 | 4 | 8 | 16 => (count, DONE),
                _ => (count, ABORTED),
            }) {
                let set = Ata { count, ..Ata::new(0xc6) };
                disk.ata(way, &set).holds(set.leaves(ended));
                let now = if count >= 16 {
                    16
                } else {
                    [0, 1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8][usize::from(count)]
                };
                assert_eq!(identified(&disk)[59], 0x0100 | now, "a count that is refused changes nothing");
            }
            disk.ata(way, &command).holds(command.leaves(DONE));
            let none = Ata::new(0xc6);
            disk.ata(way, &none).holds(none.leaves(DONE));
            disk.ata(way, &command).holds(command.leaves(ABORTED));
        }
    }
}

#[test]
fn logical_blocks_of_4096_bytes() {
    for (kind, way) in [("/x=ide,sector=4096", Way::Taskfile), ("/x=sata,sector=4096", Way::Sixteen)] {
        let disk = Disk { entry: kind, ..Disk::new(content(64)) };
        let command = Ata::gives(0x25, DmaIn, 8192).wide().on(3, 2);
        assert!(read(&disk, &command) == part(24, 16));
        for room in [512, 1024, 7680] {
            let command = Ata { room, ..command.clone() };
            disk.ata(way, &command).holds(command.leaves(ABORTED));
        }
        let command = Ata::takes(0x30, PioOut, vec![9; 4096]).on(7, 1);
        disk.ata(way, &command).holds(command.leaves(DONE));
        assert_eq!(disk.host.changed.get(), Some(("write", 7 * 4096, 4096)));
        let command = Ata { lba: 8, ..command };
        disk.ata(way, &command).holds(command.leaves(NOT_FOUND));
        // Logs, IDENTIFY DEVICE and ranges are still 512 bytes.
        let words = identified(&disk);
        assert_eq!((words[60], words[106], words[117]), (8, 0x5000, 2048));
        let command = trim(&[(2, 3)]);
        disk.ata(way, &command).holds(command.leaves(DONE));
        assert_eq!(disk.host.changed.get(), Some(("discard", 2 * 4096, 3 * 4096)));
    }
}

/// No blocks, or less than one: no address exists, while the disk still says who it is.
#[test]
fn a_device_without_blocks() {
    for (entry, way) in [("/x=ide", Way::Taskfile), ("/x=sata", Way::Sixteen)] {
        for bytes in [0, 511] {
            let disk = sized(entry, bytes);
            let words = identified(&disk);
            assert_eq!((words[60], words[61], words[100]), (0, 0, 0));
            let read = Ata::gives(0x20, PioIn, 512).on(0, 1);
            disk.ata(way, &read).holds(read.leaves(NOT_FOUND));
            let write = Ata::takes(0x35, DmaOut, vec![1; 512]).wide().on(0, 1);
            disk.ata(way, &write).holds(write.leaves(NOT_FOUND));
            let verify = Ata::new(0x40).on(0, 1);
            disk.ata(way, &verify).holds(verify.leaves(NOT_FOUND));
            for code in [0xe7, 0xe0] {
                disk.ata(way, &Ata::new(code)).holds(Ata::new(code).leaves(DONE));
            }
            assert_eq!(disk.host.changed.get(), None);
        }
    }
}

#[test]
fn a_protected_disk_aborts_writes() {
    for (kind, way) in [("/x=ide,ro", Way::Taskfile), ("/x=sata,ro", Way::Sixteen)] {
        for row in TABLE {
            let command = right(row);
            let disk = disk(kind);
            let set = set_multiple_mode(8);
            disk.ata(way, &set).holds(set.leaves(DONE));
            let got = disk.ata(way, &command);
            if WRITES.contains(&row.0) {
                got.holds(command.leaves(ABORTED));
            } else if row.0 == 0xe7 {
                got.holds(command.leaves(DONE));
            }
            assert_eq!((disk.host.changed.get(), disk.host.synced.get()), (None, 0), "{:02x}", row.0);
            assert!(*disk.host.content.borrow() == content(BLOCKS));
        }
    }
    // The device itself, or the descriptor.
    for (read_only, writable) in [(true, true), (false, true)] {
        let mut disk = disk("/x=sata");
        (disk.host.read_only, disk.host.writable) = (read_only, writable);
        let command = right(&(0xca, None, DmaOut, false));
        disk.ata(Way::Sixteen, &command).holds(command.leaves(if read_only { ABORTED } else { DONE }));
    }
}

#[test]
fn a_device_that_takes_aligned_memory_alone() {
    for row in TABLE.iter().filter(|row| READS.contains(&row.0) || WRITES.contains(&row.0)) {
        let command = right(row);
        for (kind, way) in WHOLE {
            let mut disk = multiple(kind);
            disk.host.picky = true;
            let got = disk.ata(way, &command);
            got.holds(command.leaves(DONE));
            if command.room > 0 {
                assert!(got.data == part(3, 2));
            } else if !command.data.is_empty() && row.0 != 0x06 {
                assert!(disk.host.content.borrow()[3 * BLOCK..5 * BLOCK] == command.data);
            }
        }
    }
}

// ATA PASS-THROUGH.

/// Byte 2 of the CDB.
const CK_COND: u8 = 0x20;
const T_TYPE: u8 = 0x10;
const FROM_DISK: u8 = 0x08;
const BLOCKS_UNIT: u8 = 0x04;
const BY_FEATURES: u8 = 1;
const BY_COUNT: u8 = 2;

/// Bytes 1 and 2, and the rest from a command.
fn cdb(protocol: u8, flags: u8, command: &Ata) -> Vec<u8> {
    command.pass_through(Way::Sixteen, protocol, flags)
}

#[test]
fn protocols_of_pass_through() {
    let sata = disk("/x=sata");
    for protocol in 0..16 {
        let whole = Ata { count: 1, ..identify() };
        let read = sata.read(&cdb(protocol, FROM_DISK | BLOCKS_UNIT | BY_COUNT, &whole), 512);
        let check_power = sata.none(&cdb(protocol, 0, &Ata::new(0xe5)));
        match protocol {
            // PIO and DMA: the direction is that of the buffer, as libata has it.
            4 | 5 | 6 | 10 | 11 => {
                assert_eq!(words(&read.good())[0], 0x0040, "{protocol}");
                assert_eq!(check_power.check(), ABORTED_COMMAND, "{protocol}");
            }
            // Without data.
            3 => {
                assert_eq!((read.status, read.resid), (0, 512));
                assert!(read.data.is_empty());
                assert_eq!((check_power.status, check_power.resid), (0, 0));
            }
            _ => {
                assert_eq!(read.check(), cdb_field(1, 4), "{protocol}");
                assert_eq!(check_power.check(), cdb_field(1, 4), "{protocol}");
            }
        }
    }
    // DMA by its direction, and by the two numbers that Ultra DMA has.
    for (protocol, flags) in [(6, FROM_DISK), (10, FROM_DISK)] {
        let command = Ata::gives(0xc8, DmaIn, 1024).on(3, 2);
        let reply = sata.read(&cdb(protocol, flags | BLOCKS_UNIT | BY_COUNT, &command), 1024);
        assert!(reply.good() == part(3, 2));
    }
    for protocol in [6, 11] {
        let command = Ata::takes(0xca, DmaOut, vec![protocol; 512]).on(3, 1);
        sata.write(&cdb(protocol, BLOCKS_UNIT | BY_COUNT, &command), &command.data).good();
        assert_eq!(sata.host.content.borrow()[3 * BLOCK], protocol);
    }
}

#[test]
fn the_length_of_pass_through() {
    let sata = disk("/x=sata");
    let send = |flags, features, count, room| {
        let command = Ata { features, count, ..identify() }.wide();
        sata.read(&cdb(4, FROM_DISK | flags, &command), room)
    };
    for (flags, features, count, room, resid) in [
        (BLOCKS_UNIT | BY_COUNT, 0, 1, 512, 0),
        (BLOCKS_UNIT | BY_COUNT, 0, 1, 1024, 512),
        (BLOCKS_UNIT | BY_COUNT, 0, 2, 1024, 512),
        (BLOCKS_UNIT | BY_COUNT, 0, 0, 512, 0),
        (BLOCKS_UNIT | T_TYPE | BY_COUNT, 0, 1, 512, 0),
        (BLOCKS_UNIT | BY_FEATURES, 1, 0, 512, 0),
        (BLOCKS_UNIT | BY_FEATURES, 0, 0, 600, 88),
        (BY_COUNT, 0, 512, 512, 0),
        (BY_FEATURES, 0x300, 0, 512, 0),
        (3, 0, 0, 512, 0),
        (3 | BLOCKS_UNIT, 7, 9, 513, 1),
        // OFF_LINE is nothing to a disk that can always answer.
        (0xc0 | BLOCKS_UNIT | BY_COUNT, 0, 1, 512, 0),
    ] {
        let reply = send(flags, features, count, room);
        assert_eq!(reply.resid, resid, "{flags:02x} {features} {count} {room}");
        assert_eq!(reply.good().len(), 512);
    }
    for (flags, features, count, room) in [
        (BY_COUNT, 0, 1, 512),
        (BY_COUNT, 0, 511, 512),
        (BY_FEATURES, 511, 512, 512),
        (BLOCKS_UNIT | BY_COUNT, 0, 1, 511),
        (BLOCKS_UNIT | BY_COUNT, 0, 0, 511),
    ] {
        let reply = send(flags, features, count, room);
        assert_eq!(
            (reply.check().key, reply.resid),
            (ABORTED_COMMAND.key, room as i32),
            "{flags:02x} {features} {count} {room}"
        );
    }
    // In 12 bytes, and in 16 without EXTEND, there are 8 bits of either.
    let reply = sata.read(&[0xa1, 8, 0x0e, 0, 1, 0, 0, 0, 0, 0xec, 0, 0], 512);
    assert_eq!(reply.good().len(), 512);
    let mut sixteen = cdb(4, FROM_DISK | BY_COUNT, &Ata { count: 512, ..identify() }.wide());
    sixteen[1] &= !1;
    sixteen[6] = 1;
    assert_eq!(sata.read(&sixteen, 512).check().key, ABORTED_COMMAND.key);
    // Logical blocks that are larger.
    let sata = Disk { entry: "/x=sata,sector=4096", ..Disk::new(content(64)) };
    let command = Ata { count: 1, ..Ata::gives(0x25, DmaIn, 4096).wide().on(2, 1) };
    let reply = sata.read(&cdb(6, FROM_DISK | T_TYPE | BLOCKS_UNIT | BY_COUNT, &command), 4096);
    assert!(reply.good() == part(16, 8));
    assert_eq!(
        sata.read(&cdb(6, FROM_DISK | BLOCKS_UNIT | BY_COUNT, &command), 4096).check().key,
        ABORTED_COMMAND.key
    );
}

#[test]
fn directions_of_pass_through() {
    let sata = disk("/x=sata");
    let command = Ata { count: 1, ..identify() };
    // T_LENGTH 0 with data.
    assert_eq!(sata.read(&cdb(4, FROM_DISK, &command), 512).check(), cdb_field(2, 1));
    // T_DIR, and the direction of the protocol, say nothing: that of the buffer counts.
    for protocol in [4, 5, 6, 10, 11] {
        for flags in [0, FROM_DISK] {
            let read = sata.read(&cdb(protocol, flags | BLOCKS_UNIT | BY_COUNT, &command), 512);
            assert_eq!(read.good().len(), 512, "{protocol} {flags:02x}");
            let byte = protocol << 4 | flags;
            let write = Ata::takes(0x30, PioOut, vec![byte; 512]).on(3, 1);
            let towards = cdb(protocol, flags | BLOCKS_UNIT | BY_COUNT, &write);
            sata.write(&towards, &write.data).good();
            assert!(block_of(&sata, 3) == [byte; 512], "{protocol} {flags:02x}");
        }
    }
    sata.write(&Ata::takes(0x30, PioOut, part(3, 1)).on(3, 1).cdb(Way::Sixteen), &part(3, 1));
    // No data by the CDB, some by the header (as libata).
    assert_eq!(sata.read(&cdb(3, 0, &Ata::new(0xe5)), 512).check(), cdb_field(2, 1));
    // Data from the disk, none of which can go into a buffer of data to the disk.
    let right = cdb(4, FROM_DISK | BLOCKS_UNIT | BY_COUNT, &command);
    let reply = sata.write(&right, &[0x55; 512]);
    assert_eq!((reply.status, reply.host_status, reply.resid), (0, 0, 512));
    assert_eq!(sata.got(DATA, 512), [0x55; 512]);
    // Both ways is what T_DIR says.
    let reply = sata.send(&right, &sg_io_hdr(16, TO_FROM_DEV, 512));
    assert_eq!((reply.status, reply.host_status, reply.resid), (0, 0, 0));
    assert!(*sata.host.content.borrow() == content(BLOCKS));
    // No buffer: libata does not send such a command, so that no registers come back.
    for direction in [NONE, FROM_DEV, TO_DEV] {
        for protocol in [4, 5, 6, 10, 11] {
            for flags in [0, FROM_DISK | BLOCKS_UNIT | BY_COUNT] {
                let reply = sata.send(&cdb(protocol, flags, &command), &sg_io_hdr(16, direction, 0));
                assert_eq!(reply.check(), ABORTED_COMMAND);
            }
        }
    }
    // READ SECTOR(S) of a block that does not exist fails without data, too.
    let beyond = Ata { command: 0x20, ..Ata::new(0).on(BLOCKS, 1) };
    assert_eq!(
        registers(&sata.none(&cdb(3, 0x20, &beyond)).check()),
        Some((beyond.leaves(NOT_FOUND), false))
    );
}

#[test]
fn multiple_count_of_pass_through() {
    let sata = multiple("/x=sata");
    for count in 1..8u8 {
        for row in TABLE {
            let command = right(row);
            let mut cdb = command.cdb(Way::Sixteen);
            cdb[1] |= count << 5;
            let reply = match (&command.data[..], command.room) {
                ([], 0) => sata.none(&cdb),
                ([], room) => sata.read(&cdb, room),
                (data, _) => sata.write(&cdb, data),
            };
            if MULTIPLE.contains(&row.0) {
                assert_eq!(registers(&reply.check()).map(|(registers, _)| registers.status), Some(0x50));
            } else {
                assert_eq!(reply.check(), cdb_field(1, 7), "{:02x}", row.0);
            }
        }
    }
}

#[test]
fn the_sense_data_of_pass_through() {
    let sata = disk("/x=sata");
    let modes = [0x1a, 0x08, 0x0a, 0, 255, 0];
    for d_sense in [false, true] {
        let mut list = vec![0; 4];
        list.extend(sata.read(&modes, 255).good().split_off(4));
        list[6] = list[6] & !0x04 | if d_sense { 0x04 } else { 0 };
        sata.write(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list).good();

        // CHECK POWER MODE and SMART RETURN STATUS as a libata disk answers them (golden/ioctl/ide.root.tsv).
        let reply = sata.none(&[0x85, 6, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0xe5, 0]);
        let mut expected =
            [0x72, 1, 0, 0x1d, 0, 0, 0, 0x0e, 9, 0x0c, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0xe0, 0x50];
        assert_eq!((reply.status, reply.host_status, &reply.sense[..]), (2, 0, &expected[..]));
        let status = [0x85, 6, 0x20, 0, 0xda, 0, 0, 0, 0, 0, 0x4f, 0, 0xc2, 0x40, 0xb0, 0];
        expected[13] = 0;
        (expected[17], expected[19]) = (0x4f, 0xc2);
        assert_eq!(sata.none(&status).sense, expected);
        let twelve = [0xa1, 6, 0x20, 0xda, 0, 0, 0x4f, 0xc2, 0x40, 0xb0, 0, 0];
        assert_eq!(sata.none(&twelve).sense, expected);

        // High bytes where EXTEND says that there are any, with all bits of DEVICE but that of the second disk.
        let all = [0x85, 7, 0x20, 0x11, 0x00, 0x12, 0x34, 0x16, 0x15, 0x18, 0x17, 0x1a, 0x19, 0x5f, 0xea, 0];
        let expected = [
            &[0x72, 1, 0, 0x1d, 0, 0, 0, 0x0e, 9, 0x0c, 1, 0, 0x12, 0x34, 0x16, 0x15, 0x18, 0x17][..],
            &[0x1a, 0x19, 0xef, 0x50],
        ];
        assert_eq!(sata.none(&all).sense, expected.concat());
        let mut short = all;
        short[1] = 6;
        let expected = [
            &[0x72, 1, 0, 0x1d, 0, 0, 0, 0x0e, 9, 0x0c, 0, 0, 0, 0x34, 0, 0x15, 0, 0x17][..],
            &[0, 0x19, 0xef, 0x50],
        ];
        assert_eq!(sata.none(&short).sense, expected.concat());

        // A command that fails says why without CK_COND too.
        for check in [0, CK_COND] {
            let unknown = [0x85, 6, check, 0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 0xff, 0];
            let expected =
                [[0x72, 0xb, 0, 0, 0, 0, 0, 0x0e, 9, 0x0c, 0], [0x04, 0, 1, 0, 2, 0, 3, 0, 4, 0xa0, 0x51]];
            assert_eq!(sata.none(&unknown).sense, expected.concat());
        }
        let beyond = Ata::gives(0x24, PioIn, 512).wide().on(BLOCKS, 1);
        let reply = sata.read(&beyond.cdb(Way::Sixteen), 512);
        let expected = [
            [0x72, 5, 0x21, 0, 0, 0, 0, 0x0e, 9, 0x0c, 1],
            [0x10, 0, 1, 0, BLOCKS as u8, 0, 0, 0, 0, 0xe0, 0x51],
        ];
        assert_eq!(reply.sense, expected.concat());
        for (call, expected) in [
            (
                Call::Read,
                [0x72, 3, 0x11, 0, 0, 0, 0, 0x0e, 9, 0x0c, 0, 0x40, 0, 1, 0, 3, 0, 0, 0, 0, 0xe0, 0x51],
            ),
            (
                Call::Write,
                [0x72, 4, 0x44, 0, 0, 0, 0, 0x0e, 9, 0x0c, 0, 0x04, 0, 1, 0, 3, 0, 0, 0, 0, 0xe0, 0x71],
            ),
        ] {
            sata.host.fault.set(Some(Fault { call, errno: Errno::EIO, at: None }));
            let reply = match call {
                Call::Read => sata.read(&Ata::gives(0x20, PioIn, 512).on(3, 1).cdb(Way::Twelve), 512),
                _ => sata.write(&Ata::takes(0x30, PioOut, vec![1; 512]).on(3, 1).cdb(Way::Twelve), &[1; 512]),
            };
            sata.host.fault.set(None);
            assert_eq!(reply.sense, expected);
        }
        // Without CK_COND a command that is done says nothing.
        let reply = sata.none(&[0x85, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe5, 0]);
        assert_eq!((reply.status, reply.sense.len()), (0, 0));
    }
}

#[test]
fn little_room_for_sense_data() {
    let sata = disk("/x=sata");
    let cdb = [0x85, 6, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe5, 0];
    let whole = sata.none(&cdb).sense;
    for room in [0, 1, 8, 21, 22, 23, 255] {
        let reply = sata.send(&cdb, &SgIoHdr { mx_sb_len: room, ..sg_io_hdr(16, NONE, 0) });
        assert_eq!((reply.status, &reply.sense[..]), (2, &whole[..whole.len().min(room.into())]));
    }
    let reply = sata.send(&cdb, &SgIoHdr { sbp: 0, ..sg_io_hdr(16, NONE, 0) });
    assert_eq!((reply.status, reply.sense.len()), (2, 0));
    assert_eq!(sata.try_send(&cdb, &SgIoHdr { sbp: 8, ..sg_io_hdr(16, NONE, 0) }), Err(Errno::EFAULT));
}

#[test]
fn who_may_pass_commands_through() {
    for (root, writable, twelve, sixteen) in
        [(true, false, true, true), (false, true, true, false), (false, false, false, false)]
    {
        let mut sata = disk("/x=sata");
        (sata.host.root, sata.host.writable) = (root, writable);
        for (way, allowed) in [(Way::Twelve, twelve), (Way::Sixteen, sixteen)] {
            let cdb = Ata::new(0xe5).cdb(way);
            let result = sata.try_send(&cdb, &sg_io_hdr(cdb.len(), NONE, 0));
            assert_eq!(result.map(drop), if allowed { Ok(()) } else { Err(Errno::EPERM) });
        }
    }
}

// HDIO_….

/// An address where the caller has no memory.
const BAD: u64 = 8;

#[test]
fn addresses_of_requests() {
    for (kind, request, null) in [
        ("/x=ide", HDIO_DRIVE_CMD, Answer::Value(0)),
        ("/x=ide", HDIO_DRIVE_TASK, Answer::Error(Errno::EFAULT)),
        ("/x=ide", HDIO_DRIVE_TASKFILE, Answer::Error(Errno::EFAULT)),
        ("/x=sata", HDIO_DRIVE_CMD, Answer::Error(Errno::EINVAL)),
        ("/x=sata", HDIO_DRIVE_TASK, Answer::Error(Errno::EINVAL)),
    ] {
        let disk = disk(kind);
        let ask = |argument| disk.host.ask_through(&disk.nexus, kind, &disk.settings, request, argument);
        assert_eq!(ask(0), null, "{kind} {request:x}");
        assert_eq!(ask(BAD), Answer::Error(Errno::EFAULT));
        // One byte too few.
        let length = match request {
            HDIO_DRIVE_CMD => 4,
            HDIO_DRIVE_TASK => 7,
            _ => 48,
        };
        let end = FAR + disk.host.far.borrow().len() as u64;
        disk.put(end - length, &vec![0; length as usize]);
        assert_eq!(ask(end - length + 1), Answer::Error(Errno::EFAULT));
        // NOP has all that it needs, and is aborted.
        assert_eq!(ask(end - length), Answer::Error(Errno::EIO));
    }
}

/// A request whose data ends where the caller's memory does, one byte too early.
#[test]
fn data_that_the_caller_has_no_memory_for() {
    let reads = [identify(), Ata::gives(0x20, PioIn, 1024).on(3, 2), smart_log(0x06, 1)];
    let writes = [Ata::takes(0x30, PioOut, vec![9; 1024]).on(3, 2), trim(&[(3, 1)])];
    for (kind, way) in WHOLE {
        for command in reads.iter().chain(&writes) {
            let disk = disk(kind);
            let length = command.room.max(command.data.len()) as u64;
            let end = FAR + disk.host.far.borrow().len() as u64;
            let answer = if way == Way::Taskfile {
                let bytes = command.taskfile();
                disk.put(end - bytes.len() as u64, &bytes);
                disk.host.far.borrow_mut().pop();
                disk.host.ask_through(
                    &disk.nexus,
                    kind,
                    &disk.settings,
                    HDIO_DRIVE_TASKFILE,
                    end - bytes.len() as u64,
                )
            } else {
                disk.put(end - length, if command.room > 0 { &[] } else { &command.data });
                disk.host.far.borrow_mut().pop();
                let direction = if command.room > 0 { FROM_DEV } else { TO_DEV };
                let header = SgIoHdr { dxferp: end - length, ..sg_io_hdr(16, direction, length as usize) };
                disk.put(CDB, &command.cdb(way));
                disk.host.store(HEADER, header).expect("it is there");
                disk.host.ask_through(&disk.nexus, kind, &disk.settings, SG_IO, HEADER)
            };
            assert_eq!(answer, Answer::Error(Errno::EFAULT), "{command:x?}");
            // The driver copies data to write before it begins.
            if way == Way::Taskfile {
                assert!(*disk.host.content.borrow() == content(BLOCKS));
                assert_eq!(disk.host.changed.get(), None);
            }
        }
    }
    for kind in ["/x=ide", "/x=sata"] {
        let disk = disk(kind);
        let end = FAR + disk.host.far.borrow().len() as u64;
        disk.put(end - 515, &[0xec, 0, 0, 1]);
        let answer = disk.host.ask_through(&disk.nexus, kind, &disk.settings, HDIO_DRIVE_CMD, end - 515);
        assert_eq!(answer, Answer::Error(Errno::EFAULT));
    }
    // What no phase needs is copied too.
    let ide = disk("/x=ide");
    let mut bytes = Ata::new(0xe5).taskfile();
    bytes[40..48].copy_from_slice(&1u64.to_ne_bytes());
    let end = FAR + ide.host.far.borrow().len() as u64;
    ide.put(end - 48, &bytes);
    let ask =
        |ide: &Disk, at| ide.host.ask_through(&ide.nexus, "/x=ide", &ide.settings, HDIO_DRIVE_TASKFILE, at);
    assert_eq!(ask(&ide, end - 48), Answer::Error(Errno::EFAULT));
    ide.put(end, &[0]);
    assert_eq!(ask(&ide, end - 48), Answer::Value(0));
}

#[test]
fn privileges() {
    use disk::Capability::{Admin, RawIo};
    for (kind, request, admin, raw) in [
        ("/x=ide", HDIO_DRIVE_CMD, false, true),
        ("/x=ide", HDIO_DRIVE_TASK, false, true),
        ("/x=ide", HDIO_DRIVE_TASKFILE, true, true),
        ("/x=sata", HDIO_DRIVE_CMD, true, true),
        ("/x=sata", HDIO_DRIVE_TASK, true, true),
    ] {
        for (lacks, needed) in [(Admin, admin), (RawIo, raw)] {
            let mut disk = disk(kind);
            disk.host.lacks = Some(lacks);
            let bytes = match request {
                HDIO_DRIVE_CMD => vec![0xe5, 0, 0, 0],
                HDIO_DRIVE_TASK => vec![0xe5, 0, 0, 0, 0, 0, 0],
                _ => Ata::new(0xe5).taskfile(),
            };
            let (result, got) = disk.hdio(request, &bytes);
            assert_eq!(
                result,
                if needed { Err(Errno::EACCES) } else { Ok(()) },
                "{kind} {request:x} {lacks:?}"
            );
            assert_eq!(got == bytes, needed);
        }
    }
}

#[test]
fn drive_cmd() {
    // As a libata disk answers (golden/ioctl/ide.root.tsv), and drivers/ide would.
    for (given, ide, sata) in [
        ([0xe5, 0, 0, 0], (Ok(()), [0x50, 0, 0xff, 0]), (Ok(()), [0x50, 0, 0xff, 0])),
        ([0xe7, 0, 0, 0], (Ok(()), [0x50, 0, 0, 0]), (Ok(()), [0x50, 0, 0, 0])),
        ([0xff, 0, 0, 0], (Err(Errno::EIO), [0x51, 4, 0, 0]), (Err(Errno::EIO), [0xff, 0, 0, 0])),
        ([0xa1, 0, 0, 0], (Err(Errno::EIO), [0x51, 4, 0, 0]), (Err(Errno::EIO), [0xa1, 0, 0, 0])),
        // The second byte is COUNT.
        ([0xc6, 8, 0, 0], (Ok(()), [0x50, 0, 8, 0]), (Ok(()), [0x50, 0, 8, 0])),
        ([0xc6, 3, 0, 0], (Err(Errno::EIO), [0x51, 4, 3, 0]), (Err(Errno::EIO), [0xc6, 3, 0, 0])),
        // The third is FEATURES.
        ([0xef, 0x80, 5, 0], (Ok(()), [0x50, 0, 0x80, 0]), (Ok(()), [0x50, 0, 0x80, 0])),
        // With SMART the second is the low byte of LBA, the fourth COUNT; so an off-line routine of COUNT 0.
        ([0xb0, 0, 0xd4, 0], (Ok(()), [0x50, 0, 0, 0]), (Ok(()), [0x50, 0, 0, 0])),
        ([0xb0, 5, 0xd4, 0], (Err(Errno::EIO), [0x51, 4, 0, 0]), (Err(Errno::EIO), [0xb0, 5, 0xd4, 0])),
        // READ VERIFY SECTOR(S): by cylinder, head and sector, of which no sector is 0.
        ([0x40, 1, 0, 0], (Err(Errno::EIO), [0x51, 0x10, 1, 0]), (Err(Errno::EIO), [0x40, 1, 0, 0])),
    ] {
        let (result, got) = disk("/x=ide").hdio(HDIO_DRIVE_CMD, &given);
        assert_eq!((result, &got[..]), (ide.0, &ide.1[..]), "{given:02x?}");
        let (result, got) = disk("/x=sata").hdio(HDIO_DRIVE_CMD, &given);
        assert_eq!((result, &got[..]), (sata.0, &sata.1[..]), "{given:02x?}");
    }
}

/// All of the buffer is the driver's on an IDE disk; on a libata disk no more than what the disk gives is written.
#[test]
fn data_of_drive_cmd() {
    let room = 3 * 512;
    let sector = |kind| disk(kind).ata(WHOLE[usize::from(kind == "/x=sata")].1, &identify()).data;
    for (given, fills) in [
        ([0xec, 0, 0, 3], true),
        ([0xec, 1, 0, 3], true),
        // Without data, and what the disk does not have.
        ([0xe5, 0, 0, 3], false),
        ([0xff, 1, 0, 3], false),
        ([0xc8, 1, 0, 3], false),
    ] {
        for kind in ["/x=ide", "/x=sata"] {
            let mut bytes = given.to_vec();
            bytes.resize(4 + room, POISON);
            let (result, got) = disk(kind).hdio(HDIO_DRIVE_CMD, &bytes);
            let fails = matches!(given[0], 0xff | 0xc8);
            assert_eq!(result, if fails { Err(Errno::EIO) } else { Ok(()) });
            let mut expected = if fills { sector(kind) } else { vec![] };
            if kind == "/x=ide" {
                expected.resize(room, 0);
                let ended = if fails { [0x51, 4] } else { [0x50, 0] };
                let count = if given[0] == 0xe5 { 0xff } else { given[1] };
                assert_eq!(got[..4], [ended[0], ended[1], count, 3]);
            } else {
                expected.resize(room, POISON);
                assert_eq!(got[..4], given);
            }
            assert!(got[4..] == expected, "{kind} {given:02x?}");
        }
    }
    // As many sectors as there are numbers.
    for kind in ["/x=ide", "/x=sata"] {
        let mut bytes = vec![0xec, 0, 0, 255];
        bytes.resize(4 + 255 * 512, POISON);
        let (result, got) = disk(kind).hdio(HDIO_DRIVE_CMD, &bytes);
        assert_eq!(result, Ok(()));
        assert!(got[4..516] == sector(kind));
    }
}

/// DMA modes that the disk does not have, the IDE driver refuses by itself.
#[test]
fn transfer_modes() {
    for (kind, most) in [("/x=ide", 0x45), ("/x=sata", 0x46)] {
        for mode in 0..=0xff {
            let has = matches!(mode, 0 | 1 | 0x08..=0x0c | 0x20..=0x22) || (0x40..=most).contains(&mode);
            let disk = disk(kind);
            let bytes = [0xef, mode, 3, 0];
            let (result, got) = disk.hdio(HDIO_DRIVE_CMD, &bytes);
            match (has, kind) {
                (true, _) => {
                    assert_eq!((result, &got[..]), (Ok(()), &[0x50, 0, mode, 0][..]), "{kind} {mode:02x}");
                }
                (false, "/x=ide") if mode >= 0x10 => {
                    assert_eq!((result, &got[..]), (Err(Errno::EINVAL), &bytes[..]), "{mode:02x}");
                }
                (false, "/x=ide") => {
                    assert_eq!((result, &got[..]), (Err(Errno::EIO), &[0x51, 4, mode, 0][..]), "{mode:02x}");
                }
                _ => assert_eq!((result, &got[..]), (Err(Errno::EIO), &bytes[..]), "{mode:02x}"),
            }
            let words = identified(&disk);
            let selected = |base: u8| if has && mode & 0xf8 == base { 0x100 << (mode & 7) } else { 0 };
            let fresh = 0x100 << (most & 7);
            let ultra = if has && mode >= 0x20 { selected(0x40) } else { fresh };
            assert_eq!(
                (words[63] & 0xff00, words[88] & 0xff00),
                (selected(0x20), ultra),
                "{kind} {mode:02x}"
            );
        }
        // A PIO mode does not change the DMA mode.
        let disk = disk(kind);
        for mode in [0x21, 0x0c, 0x00] {
            disk.ata(Way::Cmd, &set_features(3, mode)).holds(set_features(3, mode).leaves(DONE));
            let words = identified(&disk);
            assert_eq!((words[63], words[88] >> 8), (0x0207, 0));
        }
    }
}

#[test]
fn drive_task() {
    for kind in ["/x=ide", "/x=sata"] {
        let disk = disk(kind);
        for (given, expected) in [
            // As a libata disk answers (golden/ioctl/ide.root.tsv).
            ([0xb0, 0xda, 0, 0, 0x4f, 0xc2, 0], [0x50, 0, 0, 0, 0x4f, 0xc2, 0xa0]),
            ([0xe5, 0, 0, 1, 2, 3, 0], [0x50, 0, 0xff, 1, 2, 3, 0xa0]),
            ([0xe7, 9, 8, 7, 6, 5, 0xff], [0x50, 0, 8, 7, 6, 5, 0xef]),
            ([0xf8, 0, 0, 0, 0, 0, 0x40], [0x50, 0, 0, BLOCKS as u8 - 1, 0, 0, 0xe0]),
            ([0x40, 0, 2, 3, 0, 0, 0x40], [0x50, 0, 2, 3, 0, 0, 0xe0]),
        ] {
            let (result, got) = disk.hdio(HDIO_DRIVE_TASK, &given);
            assert_eq!((result, &got[..]), (Ok(()), &expected[..]), "{kind} {given:02x?}");
        }
        // Data, which there is no place for: a libata disk gives none.
        let (result, got) = disk.hdio(HDIO_DRIVE_TASK, &[0xec, 0, 1, 0, 0, 0, 0]);
        let (ended, errno) = if kind == "/x=ide" { (0x51, Err(Errno::EIO)) } else { (0x50, Ok(())) };
        assert_eq!((result, &got[..]), (errno, &[ended, 4 * (ended & 1), 1, 0, 0, 0, 0xa0][..]), "{kind}");
        // An error; a command that has no data to write.
        for (given, ended) in [
            ([0xff, 1, 2, 3, 4, 5, 6], [0x51, 4, 2, 3, 4, 5, 0xa6]),
            ([0x30, 0, 1, 3, 0, 0, 0x40], [0x51, 4, 1, 3, 0, 0, 0xe0]),
            ([0x40, 0, 1, BLOCKS as u8, 0, 0, 0x40], [0x51, 0x10, 1, BLOCKS as u8, 0, 0, 0xe0]),
        ] {
            let (result, got) = disk.hdio(HDIO_DRIVE_TASK, &given);
            let expected = if kind == "/x=ide" { ended } else { given };
            assert_eq!((result, &got[..]), (Err(Errno::EIO), &expected[..]), "{kind} {given:02x?}");
        }
    }
}

const OUT_FLAGS: usize = offset_of!(IdeTaskRequest, out_flags);
const IN_FLAGS: usize = offset_of!(IdeTaskRequest, in_flags);
const PHASE: usize = offset_of!(IdeTaskRequest, data_phase);
const KIND: usize = offset_of!(IdeTaskRequest, req_cmd);
const OUT_SIZE: usize = offset_of!(IdeTaskRequest, out_size);
const IN_SIZE: usize = offset_of!(IdeTaskRequest, in_size);

fn set(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes[at..at + part.len()].copy_from_slice(part);
}

/// WRITE SECTOR(S) EXT of one block, with all registers in use.
fn flagged(flags: u16) -> Vec<u8> {
    let command = Ata { features: 0x0102, ..Ata::takes(0x34, PioOut, vec![9; 512]) };
    let command = Ata { device: 0x4f, count: 0x0001, lba: 0x0605_0403_0201, ..command.wide() };
    let mut bytes = command.taskfile();
    set(&mut bytes, OUT_FLAGS, &flags.to_ne_bytes());
    bytes
}

#[test]
fn flags_of_a_taskfile() {
    const ALL: u16 = 0xfefe;
    let first = |flags| {
        let disk = large("/x=ide", 1 << 55);
        let bytes = flagged(flags);
        let (result, got) = disk.hdio(HDIO_DRIVE_TASKFILE, &bytes);
        // What the driver says of registers that come back, where the caller says something only of those that go.
        let in_flags = if flags == 0 { [0; 4] } else { [0xfe, 0x3c, 0, 0] };
        assert_eq!(got[IN_FLAGS..IN_FLAGS + 4], in_flags, "{flags:04x}");
        assert_eq!(got[OUT_FLAGS..IN_FLAGS], bytes[OUT_FLAGS..IN_FLAGS]);
        (result, disk.host.changed.get().map(|(_, offset, length)| (offset / 512, length / 512)))
    };
    let whole = Some((0x0605_0403_0201, 1));
    assert_eq!(first(0), (Ok(()), whole));
    assert_eq!(first(ALL), (Ok(()), whole));
    // The flags of DATA, of DEVICE and COMMAND, which always count, and of FEATURES, which this command does not look at.
    for flag in [0, 1, 6, 7, 8, 9, 14, 15] {
        assert_eq!(first(ALL & !(1 << flag)), (Ok(()), whole), "{flag}");
    }
    for (flag, without) in [
        (2, 0x0605_0403_0200),
        (4, 0x0605_0403_0001),
        (5, 0x0605_0400_0201),
        (10, 0x0605_0003_0201),
        (12, 0x0600_0403_0201),
        (13, 0x0005_0403_0201),
    ] {
        assert_eq!(first(ALL & !(1 << flag)), (Ok(()), Some((without, 1))), "{flag}");
    }
    // Without COUNT there are 65536 blocks, which there is no data for.
    assert_eq!(first(ALL & !(1 << 3)), (Err(Errno::EIO), None));
    // Without its high byte it is one, with it 257.
    for (flags, ended, changed) in [
        (ALL, Err(Errno::EIO), None),
        (ALL & !(1 << 11), Ok(()), Some(("write", 512 * 0x0605_0403_0201, 512))),
    ] {
        let disk = large("/x=ide", 1 << 55);
        let mut bytes = flagged(flags);
        bytes[10] = 1;
        assert_eq!(disk.hdio(HDIO_DRIVE_TASKFILE, &bytes).0, ended);
        assert_eq!(disk.host.changed.get(), changed);
    }
    // What the caller says of registers that come back, stays.
    let mut bytes = flagged(ALL);
    set(&mut bytes, IN_FLAGS, &0x0080u16.to_ne_bytes());
    let (_, got) = large("/x=ide", 1 << 55).hdio(HDIO_DRIVE_TASKFILE, &bytes);
    assert_eq!(got[IN_FLAGS..IN_FLAGS + 4], bytes[IN_FLAGS..IN_FLAGS + 4]);
    // FEATURES where it matters.
    for (flags, ended) in [(0x02, DONE), (0x08, ABORTED)] {
        let command = set_features(0x02, 0);
        let mut bytes = command.taskfile();
        set(&mut bytes, OUT_FLAGS, &u16::to_ne_bytes(flags));
        let (_, got) = disk("/x=ide").hdio(HDIO_DRIVE_TASKFILE, &bytes);
        assert_eq!((got[7], got[1]), ended);
    }
}

#[test]
fn phases_of_a_taskfile() {
    let ask = |disk: &Disk, command: &Ata, phase: i32, kind: i32| {
        let mut bytes = command.taskfile();
        set(&mut bytes, PHASE, &phase.to_ne_bytes());
        set(&mut bytes, KIND, &kind.to_ne_bytes());
        let (result, got) = disk.hdio(HDIO_DRIVE_TASKFILE, &bytes);
        (result, got[7], got[48..].to_vec())
    };
    let read = Ata::gives(0x20, PioIn, 512).on(3, 1);
    let dma_read = Ata { command: 0xc8, ..read.clone() };
    let multi_read = Ata { command: 0xc4, ..read.clone() };
    let write = Ata::takes(0x30, PioOut, vec![9; 512]).on(3, 1);
    let dma_write = Ata { command: 0xca, ..write.clone() };
    let multi_write = Ata { command: 0xc5, ..write.clone() };
    // Phases: IN 1, MULTI_IN 2, OUT 4, MULTI_OUT 8, IN_DMA 20h, OUT_DMA 40h, IN_DMAQ 80h, OUT_DMAQ 100h.
    for (command, phases) in [
        (&read, [1, 2]),
        (&multi_read, [1, 2]),
        (&dma_read, [0x20, 0x80]),
        (&write, [4, 8]),
        (&multi_write, [4, 8]),
        (&dma_write, [0x40, 0x100]),
    ] {
        for phase in [0, 1, 2, 4, 8, 0x20, 0x40, 0x80, 0x100] {
            let disk = multiple("/x=ide");
            let kind = if phase == 0 { 0 } else { 2 };
            let (result, status, data) = ask(&disk, command, phase, kind);
            if phases.contains(&phase) {
                assert_eq!((result, status), (Ok(()), 0x50), "{:02x} {phase:x}", command.command);
                let written = command.room == 0;
                assert_eq!(disk.host.changed.get(), written.then_some(("write", 3 * 512, 512)));
                assert!(written || data == part(3, 1));
            } else {
                // Data of the other direction, of which there is none, is no place for sectors.
                let reads = matches!(phase, 1 | 2 | 0x20 | 0x80);
                let none = phase != 0 && (command.room > 0) != reads;
                let errno = if none { Errno::EINVAL } else { Errno::EIO };
                assert_eq!(result, Err(errno), "{:02x} {phase:x}", command.command);
                assert_eq!(disk.host.changed.get(), None);
            }
        }
    }
    // Without multiple mode its phases are refused, whatever the command.
    for (command, phase) in [(&read, 2), (&write, 8), (&Ata::new(0xe5), 2)] {
        let disk = disk("/x=ide");
        let (result, code, _) = ask(&disk, command, phase, 2);
        assert_eq!((result, code), (Err(Errno::EPERM), command.command));
    }
    // There are no other phases, also where what follows is one in the layout of hdparm(8).
    for phase in [3, 5, 6, 0x10, 0x21, 0x60, 0x180, 0x200, 0x182, i32::MIN, -1] {
        let (result, code, _) = ask(&disk("/x=ide"), &Ata { room: 512, ..Ata::new(0xe5) }, phase, 0);
        assert_eq!((result, code), (Err(Errno::EFAULT), 0xe5), "{phase:#x}");
    }
    // IDE_DRIVE_TASK_RAW_WRITE turns the phase of DMA from the disk round, and the data stands where it would come.
    let disk = disk("/x=ide");
    let mut bytes = Ata { room: 512, ..dma_write.clone() }.taskfile();
    set(&mut bytes, PHASE, &0x20i32.to_ne_bytes());
    set(&mut bytes, KIND, &4i32.to_ne_bytes());
    set(&mut bytes, 48 + 512, &[7; 512]);
    assert_eq!(disk.hdio(HDIO_DRIVE_TASKFILE, &bytes).0, Ok(()));
    assert!(disk.host.content.borrow()[3 * BLOCK..4 * BLOCK] == [7; 512]);
    // IDE_DRIVE_TASK_NO_DATA has none, whatever the phase.
    let (result, status, data) = ask(&disk, &dma_read, 0x20, 0);
    assert_eq!((result, status, &data[..]), (Err(Errno::EIO), 0x51, &[POISON; 512][..]));
    let (result, status, _) = ask(&disk, &Ata::new(0xe5), 1, 0);
    assert_eq!((result, status), (Ok(()), 0x50));
    // Other kinds need sectors, and memory for them.
    for kind in [1, 2, 3, 4] {
        for phase in [0, 1, 4, 0x20, 0x40] {
            let (result, code, _) = ask(&disk, &Ata::new(0xe5), phase, kind);
            assert_eq!((result, code), (Err(Errno::EFAULT), 0xe5), "{kind} {phase:x}");
            for count in [1, 0x100] {
                let (result, code, _) = ask(&disk, &Ata { count, ..Ata::new(0xe5) }, phase, kind);
                assert_eq!((result, code), (Err(Errno::EINVAL), 0xe5), "{kind} {phase:x}");
            }
        }
    }
}

#[test]
fn sizes_of_a_taskfile() {
    let disk = Disk { entry: "/x=ide", ..Disk::new(content(200)) };
    let whole = Ata::gives(0x24, PioIn, 65536).wide().on(3, 128);
    assert!(read(&disk, &whole) == part(3, 128));
    let whole = Ata::takes(0x34, PioOut, content(128)).wide().on(3, 128);
    disk.ata(Way::Taskfile, &whole).holds(whole.leaves(DONE));
    for at in [OUT_SIZE, IN_SIZE] {
        for size in [65537u64, 0xffff_ffff, 0x1_0001_0001] {
            let mut bytes = Ata::new(0xe5).taskfile();
            set(&mut bytes, at, &size.to_ne_bytes());
            assert_eq!(disk.hdio(HDIO_DRIVE_TASKFILE, &bytes), (Err(Errno::EINVAL), bytes));
        }
        // The driver looks at 32 bits.
        let mut bytes = Ata::new(0xe5).taskfile();
        set(&mut bytes, at, &(1u64 << 32).to_ne_bytes());
        assert_eq!(disk.hdio(HDIO_DRIVE_TASKFILE, &bytes).0, Ok(()));
    }
    // Less than a sector.
    let mut bytes = Ata::gives(0x20, PioIn, 511).on(3, 1).taskfile();
    let (result, got) = disk.hdio(HDIO_DRIVE_TASKFILE, &bytes);
    assert_eq!((result, got[7], &got[48..]), (Err(Errno::EIO), 0x51, &[POISON; 511][..]));
    bytes[2] = 0;
    assert_eq!(disk.hdio(HDIO_DRIVE_TASKFILE, &bytes), (Err(Errno::EFAULT), bytes));
    // Data of both directions: that of the phase counts, and stands in its place.
    let both = Ata { room: 512, ..Ata::takes(0x20, PioIn, vec![5; 512]) }.on(3, 1);
    let got = disk.ata(Way::Taskfile, &both);
    assert!(got.data == content(1));
}

/// `struct hdio_taskfile` of hdparm's sgio.h: 32 bits for eight flags.
#[test]
fn the_layout_of_hdparm() {
    let layout = |command: &Ata, out: [u32; 2], back: [u32; 2]| {
        let kernels = command.taskfile();
        let mut bytes = kernels[..16].to_vec();
        bytes.extend([out, back].concat().iter().flat_map(|flags| flags.to_ne_bytes()));
        bytes.extend(&kernels[24..]);
        assert_eq!(bytes.len(), kernels.len() + 8);
        bytes
    };
    // COMMAND, DEVICE, LBA and COUNT go, STATUS and ERROR come.
    let (out, back) = ([0xfc, 0], [0x82, 0]);
    let disk = disk("/x=ide");
    let bytes = layout(&Ata::gives(0x20, PioIn, 512).on(3, 1), out, back);
    let (result, got) = disk.hdio(HDIO_DRIVE_TASKFILE, &bytes);
    assert_eq!(result, Ok(()));
    assert_eq!(got[..16], [0, 0, 1, 3, 0, 0, 0xe0, 0x50, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(got[16..56], bytes[16..56], "flags stay");
    assert!(got[56..] == part(3, 1));
    let bytes = layout(&Ata::takes(0x34, PioOut, vec![8; 512]).wide().on(4, 1), [0xfc, 0x3c], [0x82, 0x3c]);
    assert_eq!(disk.hdio(HDIO_DRIVE_TASKFILE, &bytes).0, Ok(()));
    assert!(disk.host.content.borrow()[4 * BLOCK..5 * BLOCK] == [8; 512]);
    // High bytes that no flag names do not count.
    let command = Ata { lba: 0x0100_0000_0002, ..Ata::takes(0x34, PioOut, vec![6; 512]).wide().on(0, 1) };
    assert_eq!(disk.hdio(HDIO_DRIVE_TASKFILE, &layout(&command, out, back)).0, Ok(()));
    assert!(disk.host.content.borrow()[2 * BLOCK..3 * BLOCK] == [6; 512]);
    // READ NATIVE MAX ADDRESS EXT as it asks for it.
    let bytes = layout(&Ata { device: LBA, ..Ata::new(0x27) }, [0xc0, 0], [0xb4, 0x34]);
    let (result, got) = disk.hdio(HDIO_DRIVE_TASKFILE, &bytes);
    assert_eq!((result, got[3], got[7]), (Ok(()), BLOCKS as u8 - 1, 0x50));
    // An error, data that is too long, a phase that is none, too little memory.
    let (result, got) = disk.hdio(HDIO_DRIVE_TASKFILE, &layout(&Ata::new(0xff), out, back));
    assert_eq!((result, got[1], got[7], got[9]), (Err(Errno::EIO), 4, 0x51, 4));
    for (at, value, errno) in [
        (offset_of!(HdioTaskfile, obytes), 65537u64, Errno::EINVAL),
        (offset_of!(HdioTaskfile, ibytes), 65537, Errno::EINVAL),
        (offset_of!(HdioTaskfile, dphase), 3, Errno::EFAULT),
    ] {
        let mut bytes = layout(&Ata::new(0xe5), out, back);
        set(&mut bytes, at, &value.to_ne_bytes());
        assert_eq!(disk.hdio(HDIO_DRIVE_TASKFILE, &bytes), (Err(errno), bytes));
    }
    let end = FAR + disk.host.far.borrow().len() as u64;
    disk.put(end - 55, &layout(&Ata::new(0xe5), out, back)[..55]);
    let answer = disk.ask(HDIO_DRIVE_TASKFILE, end - 55);
    assert_eq!(answer, Answer::Error(Errno::EFAULT));
}

// IDENTIFY DEVICE, and what changes it.

/// The words of the features: there (82 to 84), and on (85 to 87).
fn features(words: &[u16]) -> [u16; 6] {
    words[82..88].try_into().expect("six words")
}

#[test]
fn settings_in_the_sector() {
    const WRITE_CACHE: u16 = 1 << 5;
    const LOOK_AHEAD: u16 = 1 << 6;
    const SMART: u16 = 1 << 0;
    const APM: u16 = 1 << 3;
    for (kind, way) in each_way().filter(|&(_, way)| way != Way::Cmd) {
        let disk = disk(kind);
        let send = |command: &Ata, ended| disk.ata(way, command).holds(command.leaves(ended));
        let fresh = features(&identified(&disk));
        assert_eq!(fresh, [0x4069, 0x7408, 0x4163, 0x4069, 0xb400, 0x4163]);
        let on = || {
            let words = identified(&disk);
            assert_eq!(features(&words)[..3], fresh[..3], "what there is does not change");
            assert_eq!((words[85] & !0x61, words[86] & !APM, words[87]), (0x4008, 0xb400, 0x4163));
            (words[85] & 0x61, words[86] & APM, words[91])
        };
        let all = WRITE_CACHE | LOOK_AHEAD | SMART;
        for (off, back, bit) in [(0x82, 0x02, WRITE_CACHE), (0x55, 0xaa, LOOK_AHEAD)] {
            send(&set_features(off, 0), DONE);
            assert_eq!(on(), (all & !bit, 0, 0));
            send(&set_features(back, 0), DONE);
            assert_eq!(on(), (all, 0, 0));
        }
        send(&smart(0xd9, 0, 0), DONE);
        assert_eq!(on(), (all & !SMART, 0, 0));
        send(&smart(0xd8, 0, 0), DONE);
        assert_eq!(on(), (all, 0, 0));
        for level in [0x01, 0x7f, 0x80, 0xfe] {
            send(&set_features(0x05, level), DONE);
            assert_eq!(on(), (all, APM, level));
            for wrong in [0x00, 0xff] {
                send(&set_features(0x05, wrong), ABORTED);
                assert_eq!(on(), (all, APM, level));
            }
        }
        send(&set_features(0x85, 0), DONE);
        for nothing in [0x66, 0xcc] {
            send(&set_features(nothing, 0), DONE);
            assert_eq!(on(), (all, 0, 0));
        }
        // Settings are the device's, not another's.
        send(&set_features(0x82, 0), DONE);
        assert_eq!(features(&identified(&self::disk(kind))), fresh);
    }
}

/// What the driver's own requests set, and what MODE SELECT does, is the same.
#[test]
fn settings_by_other_requests() {
    let ide = disk("/x=ide");
    let ask =
        |request, argument| ide.host.ask_through(&ide.nexus, "/x=ide", &ide.settings, request, argument);
    for (argument, bit) in [(0, 0), (1, 0x20)] {
        assert_eq!(ask(HDIO_SET_WCACHE, argument), Answer::Value(0));
        assert_eq!(identified(&ide)[85] & 0x20, bit);
        ide.ata(Way::Task, &set_features(if bit == 0 { 0x02 } else { 0x82 }, 0));
        assert_eq!(ask(HDIO_GET_WCACHE, DATA), Answer::Value(0));
        assert_eq!(ide.got(DATA, 8), u64::from(bit == 0).to_ne_bytes());
    }
    for count in 0..=20 {
        let answer = match count {
            0 | 1 | 2 | 4 | 8 | 16 => Answer::Value(0),
            // The disk refuses it, and is in multiple mode no longer (set_multcount, set_multmode_intr).
            3..16 => Answer::Error(Errno::EIO),
            _ => Answer::Error(Errno::EINVAL),
        };
        assert_eq!(ask(HDIO_SET_MULTCOUNT, 8), Answer::Value(0));
        assert_eq!(ask(HDIO_SET_MULTCOUNT, count), answer, "{count}");
        let now = match count {
            0 | 1 | 2 | 4 | 8 | 16 => count as u16,
            3..16 => 0,
            _ => 8,
        };
        assert_eq!(identified(&ide)[59], 0x0100 | now);
        assert_eq!(ask(HDIO_GET_MULTCOUNT, DATA), Answer::Value(0));
        assert_eq!(ide.got(DATA, 8), u64::from(now).to_ne_bytes());
    }
    ide.ata(Way::Cmd, &Ata { count: 4, ..Ata::new(0xc6) });
    assert_eq!(ask(HDIO_GET_MULTCOUNT, DATA), Answer::Value(0));
    assert_eq!(ide.got(DATA, 8), 4u64.to_ne_bytes());

    let sata = disk("/x=sata");
    let page = |sata: &Disk| sata.read(&[0x1a, 0x08, 0x08, 0, 255, 0], 255).good();
    for (features, wce) in [(0x82, 0), (0x02, 0x04)] {
        sata.ata(Way::Sixteen, &set_features(features, 0)).holds(set_features(features, 0).leaves(DONE));
        assert_eq!(page(&sata)[6] & 0x04, wce);
    }
    let mut list = vec![0; 4];
    list.extend(page(&sata).split_off(4));
    list[6] &= !0x04;
    sata.write(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list).good();
    assert_eq!(identified(&sata)[85] & 0x20, 0);
}

/// The same sector by every way: HDIO_GET_IDENTITY turns its strings round, VPD page 89h has it behind 60 bytes.
#[test]
fn the_sector_by_every_way() {
    for kind in ["/x=ide,serial=S123,model=A model", "/x=sata,serial=S123,model=A model"] {
        let disk = disk(kind);
        let sector: Vec<u8> = identified(&disk).iter().flat_map(|word| word.to_le_bytes()).collect();
        let swapped = |range: std::ops::Range<usize>| {
            sector[range].chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect::<Vec<u8>>()
        };
        assert_eq!(swapped(20..40), *b"S123                ");
        assert_eq!(swapped(46..54), *b"1.0     ");
        assert_eq!(swapped(54..94), *b"A model                                 ");
        let mut expected = sector.clone();
        for range in [20..40, 46..54, 54..94] {
            expected.splice(range.clone(), swapped(range));
        }
        let (result, got) = disk.hdio(HDIO_GET_IDENTITY, &[0; 512]);
        assert_eq!(result, Ok(()));
        assert!(got == expected);
        let page = if kind.contains("sata") { Way::Sixteen } else { Way::Taskfile };
        let copy = disk.ata(page, &read_log(0x30, 1, 1));
        assert!(copy.data == sector, "log 30h has a copy");
    }
    let sata = disk("/x=sata,serial=S123,model=A model");
    let page = sata.read(&[0x12, 1, 0x89, 0x02, 0x3c, 0], 572).good();
    let mut head = vec![0x00, 0x89, 0x02, 0x38, 0, 0, 0, 0];
    head.extend(b"BDWRAP  SAT             1.0 ");
    // The register FIS after a reset: STATUS 50h, ERROR 01h, LBA 000001h, COUNT 01h.
    head.extend([0x34, 0, 0x50, 0x01, 0x01, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0]);
    head.extend([0xec, 0, 0, 0]);
    assert_eq!(page[..60], head);
    assert_eq!(words(&page[60..]), identified(&sata));
    let page = sata.read(&[0x12, 1, 0x83, 0, 0xff, 0], 255).good();
    let model = b"A model                                 ";
    let serial = b"S123                ";
    let expected = [
        &[0x00, 0x83, 0, 108, 0x02, 0x00, 0, 20][..],
        serial,
        &[0x02, 0x01, 0, 68],
        b"ATA     ",
        model,
        serial,
        &[0x01, 0x03, 0, 8],
        &page[104..],
    ];
    assert_eq!(page, expected.concat());
    let wwn: Vec<u8> = identified(&sata)[108..112].iter().flat_map(|word| word.to_be_bytes()).collect();
    assert_eq!(page[104..], wwn);
    let pages = sata.read(&[0x12, 1, 0, 0, 0xff, 0], 255).good();
    assert_eq!(pages, [0, 0, 0, 8, 0x00, 0x80, 0x83, 0x86, 0x89, 0xb0, 0xb1, 0xb2]);
}

#[test]
fn the_last_address() {
    const BORDER: u64 = 1 << 28;
    for (blocks, last_28) in [
        (1, 0),
        (1 << 24, 0xff_ffff),
        ((1 << 24) + 1, 0x100_0000),
        (BORDER - 1, BORDER - 2),
        (BORDER, BORDER - 1),
        (BORDER + 1, BORDER - 1),
        (1 << 48, BORDER - 1),
        (1 << 54, BORDER - 1),
    ] {
        for (kind, way) in each_way() {
            let disk = large(kind, blocks);
            let short = Ata { device: LBA, ..Ata::new(0xf8) };
            if short.goes(way) {
                disk.ata(way, &short).holds(on_block(&short, DONE, last_28));
            }
            let long = Ata { device: LBA, ..Ata::new(0x27) }.wide();
            if long.goes(way) {
                disk.ata(way, &long).holds(on_block(&long, DONE, (blocks - 1).min((1 << 48) - 1)));
            }
        }
    }
}

/// Words that are no settings, nor about the size; from the standard.
#[test]
fn fixed_words() {
    for (kind, [w76, w77, w88, w93, w222]) in
        [("/x=ide", [0, 0, 0x203f, 0x600b, 0x0003]), ("/x=sata", [0x040e, 0x0006, 0x407f, 0, 0x103f])]
    {
        let mut disk = disk(kind);
        let words = identified(&disk);
        let expected = [
            (0, 0x0040),
            (47, 0x8010),
            (49, 0x2f00),
            (50, 0x4000),
            (53, 0x0007),
            (63, 0x0007),
            (64, 0x0003),
            (65, 120),
            (66, 120),
            (67, 120),
            (68, 120),
            (69, 0x4020),
            (76, w76),
            (77, w77),
            (80, 0x07f0),
            (88, w88),
            (93, w93),
            (105, 8),
            (119, 0x4008),
            (120, 0x4008),
            (169, 0x0001),
            (222, w222),
        ];
        for (word, value) in expected {
            assert_eq!(words[word], value, "{kind} word {word}");
        }
        disk.host.thin = false;
        let words = identified(&disk);
        assert_eq!((words[69], words[105], words[169]), (0, 0, 0));
    }
}

// SMART and logs.

/// A page of 512 bytes that holds these parts, and a checksum.
fn page(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut page = vec![0; 512];
    for (at, part) in parts {
        page[*at..at + part.len()].copy_from_slice(part);
    }
    page[511] = sum(&page).wrapping_neg();
    page
}

/// The same without a checksum.
fn plain_page(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut page = page(parts);
    page[511] = 0;
    page
}

#[test]
fn smart_pages() {
    for (kind, ways) in WAYS {
        for &way in ways.iter().filter(|&&way| way != Way::Task) {
            let disk = disk(kind);
            let get = |command: &Ata| {
                let got = disk.ata(way, command);
                got.holds(command.leaves(DONE));
                got.data
            };
            let read = |features| Ata { room: 512, protocol: PioIn, count: 1, ..smart(features, 0, 1) };
            let data: &[(usize, &[u8])] =
                &[(0, &[0x10, 0]), (367, &[0x11]), (368, &[0x03, 0]), (370, &[0x01]), (372, &[1, 1])];
            assert!(get(&read(0xd0)) == page(data));
            assert!(get(&read(0xd1)) == page(&[(0, &[0x10, 0])]));
            // The directory: pages of each log, by its address.
            assert!(get(&smart_log(0x00, 1)) == plain_page(&[(0, &[1, 0]), (2, &[1, 0]), (12, &[1, 0])]));
            assert!(get(&smart_log(0x01, 1)) == page(&[(0, &[1])]));
            assert!(get(&smart_log(0x06, 1)) == page(&[(0, &[1, 0])]));
            for log in (0..=0xff).filter(|log| ![0x00, 0x01, 0x06].contains(log)) {
                let command = smart_log(log, 1);
                disk.ata(way, &command).holds(command.leaves(ABORTED));
            }
            for log in [0x00, 0x01, 0x06] {
                let command = smart_log(log, 2);
                disk.ata(way, &command).holds(command.leaves(ABORTED));
            }
        }
        let way = ways[ways.len() - 1];
        let none = Ata { count: 0, ..smart_log(0x00, 1) };
        disk(kind).ata(way, &none).holds(none.leaves(ABORTED));
    }
}

#[test]
fn log_pages() {
    let counts: &[(u8, u16)] = &[(3, 1), (4, 8), (7, 1), (0x10, 1), (0x11, 1), (0x30, 2)];
    for (kind, way) in WHOLE {
        for code in [0x2f, 0x47] {
            let disk = disk(kind);
            let log = |address, first, pages| {
                let protocol = if code == 0x47 { DmaIn } else { PioIn };
                Ata { command: code, protocol, ..read_log(address, first, pages) }
            };
            let get = |address, first, pages| read(&disk, &log(address, first, pages));
            let mut directory = vec![0; 512];
            directory[0] = 1;
            counts.iter().for_each(|&(log, pages)| directory[2 * usize::from(log)] = pages as u8);
            assert!(get(0x00, 0, 1) == directory);
            assert!(get(0x03, 0, 1) == page(&[(0, &[1])]));
            assert!(get(0x07, 0, 1) == page(&[(0, &[1])]));
            assert!(get(0x10, 0, 1) == page(&[(0, &[0x80])]));
            assert!(get(0x11, 0, 1) == page(&[]));
            let unknown = &0x8000_0000_0000_0000u64.to_le_bytes();
            let statistics = [
                plain_page(&[(0, &[1, 0, 0]), (8, &[3, 0, 1, 5])]),
                plain_page(&[(0, &[1, 0, 1]), (16, unknown)]),
                vec![0; 512],
                vec![0; 512],
                vec![0; 512],
                plain_page(&[(0, &[1, 0, 5]), (8, unknown)]),
                vec![0; 512],
                vec![0; 512],
            ];
            for (number, expected) in (0..).zip(&statistics) {
                assert!(get(0x04, number, 1) == *expected, "{number}");
            }
            assert!(get(0x04, 0, 8) == statistics.concat());
            assert!(get(0x04, 5, 2) == statistics[5..7].concat());
            let identity: Vec<u8> = identified(&disk).iter().flat_map(|word| word.to_le_bytes()).collect();
            let list = plain_page(&[(0, &[1, 0]), (8, &[2, 0, 1])]);
            assert!(get(0x30, 0, 2) == [list, identity].concat());

            let abort = |address, first, pages: u16| {
                let command = log(address, first, pages);
                let got = disk.ata(way, &command);
                got.holds(command.leaves(ABORTED));
                assert!(got.data.iter().all(|&byte| byte == POISON));
            };
            for address in (1..=0xff).filter(|address| counts.iter().all(|(log, _)| log != address)) {
                abort(address, 0, 1);
            }
            for &(address, pages) in counts.iter().chain(&[(0, 1)]) {
                abort(address, pages, 1);
                abort(address, 0, pages + 1);
                abort(address, pages - 1, 2);
                abort(address, 0x100, 1);
                abort(address, 0xffff, 1);
            }
            let none = Ata { count: 0, ..log(0x04, 0, 1) };
            disk.ata(way, &none).holds(none.leaves(ABORTED));
        }
    }
}

#[test]
fn smart_must_be_on_and_signed() {
    for row in TABLE.iter().filter(|row| row.0 == 0xb0) {
        let command = right(row);
        for (kind, way) in WHOLE {
            let disk = disk(kind);
            // Every bit of the signature counts; nothing else of LBA does.
            for bit in 8..24 {
                let wrong = Ata { lba: command.lba ^ 1 << bit, ..command.clone() };
                disk.ata(way, &wrong).holds(wrong.leaves(ABORTED));
            }
            assert_eq!(identified(&disk)[85] & 1, 1);
            disk.ata(way, &smart(0xd9, 0, 0)).holds(smart(0xd9, 0, 0).leaves(DONE));
            // Off, even SMART DISABLE OPERATIONS is no command (ACS-3, 7.48.3).
            let ended = if row.1 == Some(0xd8) { DONE } else { ABORTED };
            disk.ata(way, &command).holds(command.leaves(ended));
            disk.ata(way, &smart(0xd8, 0, 0)).holds(smart(0xd8, 0, 0).leaves(DONE));
            disk.ata(way, &command).holds(command.leaves(DONE));
        }
    }
    for (kind, way) in WHOLE {
        for count in 0..=0xff {
            let command = smart(0xd2, 0, count);
            let ended = if matches!(count, 0x00 | 0xf1) { DONE } else { ABORTED };
            disk(kind).ata(way, &command).holds(command.leaves(ended));
        }
    }
}

#[test]
fn self_tests() {
    for (kind, way) in WHOLE {
        for (kind_of_test, bad) in [0x01u8, 0x02, 0x81, 0x82]
            .into_iter()
            .flat_map(|test| [None, Some(0), Some(BLOCKS - 1)].map(|bad| (test, bad)))
        {
            let disk = disk(kind);
            let errno = Errno::EIO;
            if let Some(bad) = bad {
                disk.host.fault.set(Some(Fault { call: Call::Read, errno, at: Some(512 * bad) }));
            }
            let command = smart(0xd4, kind_of_test, 0);
            let expected = match bad {
                // In captive mode the host is told.
                Some(_) if kind_of_test & 0x80 != 0 => {
                    Registers { lba: 0x2c_f400 | u64::from(kind_of_test), ..command.leaves(ABORTED) }
                }
                _ => command.leaves(DONE),
            };
            disk.ata(way, &command).holds(expected);
            disk.host.fault.set(None);
            let status = if bad.is_some() { 0x70 } else { 0x00 };
            let address = bad.map_or([0xff; 6], |bad| [bad as u8, 0, 0, 0, 0, 0]);
            let entry = [&[kind_of_test, status, 0, 0, 0][..], &address].concat();
            let log = page(&[(0, &[1, 0]), (2, &entry[..9]), (508, &[1])]);
            assert!(read(&disk, &smart_log(0x06, 1)) == log, "{kind_of_test:02x} {bad:?}");
            let log = page(&[(0, &[1]), (2, &[1, 0]), (4, &entry)]);
            assert!(read(&disk, &read_log(0x07, 0, 1)) == log, "{kind_of_test:02x} {bad:?}");
            let data = Ata { room: 512, protocol: PioIn, ..smart(0xd0, 0, 1) };
            assert_eq!(read(&disk, &data)[363], status, "the status of the last self-test");
            // The next one takes its place.
            disk.ata(way, &smart(0xd4, 0x01, 0)).holds(smart(0xd4, 0x01, 0).leaves(DONE));
            let entry = [&[0x01, 0, 0, 0, 0][..], &[0xff; 4]].concat();
            let log = page(&[(0, &[1, 0]), (2, &entry), (508, &[1])]);
            assert!(read(&disk, &smart_log(0x06, 1)) == log);
        }
        for routine in 0..=0xff {
            let known = matches!(routine, 0x00 | 0x01 | 0x02 | 0x7f | 0x81 | 0x82);
            let command = smart(0xd4, routine, 0);
            let disk = disk(kind);
            disk.ata(way, &command).holds(command.leaves(if known { DONE } else { ABORTED }));
            let tested = matches!(routine, 0x01 | 0x02 | 0x81 | 0x82);
            let log = read(&disk, &smart_log(0x06, 1));
            assert_eq!((log[2], log[508]), if tested { (routine, 1) } else { (0, 0) });
        }
    }
    // An address that has more than 32 bits.
    let disk = large("/x=sata", 1 << 40);
    let bad = (1 << 40) - 1;
    disk.host.fault.set(Some(Fault { call: Call::Read, errno: Errno::EIO, at: Some(512 * bad) }));
    disk.ata(Way::Sixteen, &smart(0xd4, 0x02, 0)).holds(smart(0xd4, 0x02, 0).leaves(DONE));
    assert_eq!(read(&disk, &smart_log(0x06, 1))[7..11], [0xff; 4]);
    assert_eq!(read(&disk, &read_log(0x07, 0, 1))[9..15], [0xff, 0xff, 0xff, 0xff, 0xff, 0]);
}

// DATA SET MANAGEMENT.

#[test]
fn ranges_that_are_given_back() {
    for (kind, way) in WHOLE {
        let disk = disk(kind);
        // Entries of no blocks mean nothing, wherever they point; ranges may overlap.
        let all = trim(&[(0, 0), (3, 2), (BLOCKS + 9, 0), ((1 << 48) - 1, 0), (4, 3), (BLOCKS - 1, 1)]);
        disk.ata(way, &all).holds(all.leaves(DONE));
        let mut expected = content(BLOCKS);
        expected[3 * BLOCK..7 * BLOCK].fill(0);
        expected[(BLOCKS as usize - 1) * BLOCK..].fill(0);
        assert!(*disk.host.content.borrow() == expected);
        // Nothing at all is right too.
        let none = trim(&[(0, 0)]);
        disk.ata(way, &none).holds(none.leaves(DONE));
        // Eight blocks of 64 ranges: the most that word 105 says.
        let most: Vec<(u64, u16)> = (0..512).map(|number| (number % BLOCKS, 1)).collect();
        let most = trim(&most);
        assert_eq!(most.count, 8);
        disk.ata(way, &most).holds(most.leaves(DONE));
        assert!(disk.host.content.borrow().iter().all(|&byte| byte == 0));
    }
    let disk = large("/x=sata", 1 << 40);
    let long = trim(&[(0x12_3456_789a, 0xffff)]);
    disk.ata(Way::Sixteen, &long).holds(long.leaves(DONE));
    assert_eq!(disk.host.changed.get(), Some(("discard", 512 * 0x12_3456_789a, 512 * 0xffff)));
}

#[test]
fn ranges_that_are_refused() {
    for (kind, way) in WHOLE {
        // All are looked at before any is given back; registers name the one that is wrong.
        for wrong in [(BLOCKS, 1), (BLOCKS - 1, 2), (0, BLOCKS as u16 + 1), ((1 << 48) - 1, 0xffff)] {
            let disk = disk(kind);
            let command = trim(&[(3, 2), (1, 1), wrong]);
            disk.ata(way, &command).holds(Registers { lba: wrong.0, ..command.leaves(NOT_FOUND) });
            assert_eq!(disk.host.changed.get(), None, "{wrong:?}");
        }
        let good = trim(&[(3, 2)]);
        let abort = |disk: &Disk, command: &Ata| {
            disk.ata(way, command).holds(command.leaves(ABORTED));
            assert_eq!(disk.host.changed.get(), None);
        };
        let thick = disk(kind);
        abort(&Disk { host: MemoryHost { thin: false, ..thick.host }, ..thick }, &good);
        abort(&disk(if kind == "/x=ide" { "/x=ide,ro" } else { "/x=sata,ro" }), &good);
        // A protected disk gives back nothing even where there is nothing to give.
        abort(&disk(if kind == "/x=ide" { "/x=ide,ro" } else { "/x=sata,ro" }), &trim(&[(0, 0)]));
        let disk = disk(kind);
        for features in [0x0000, 0x0002, 0x00fe, 0x0100] {
            abort(&disk, &Ata { features, ..good.clone() });
        }
        abort(&disk, &Ata { count: 0, ..good.clone() });
        abort(&disk, &Ata { count: 2, ..good.clone() });
        let nine: Vec<(u64, u16)> = vec![(0, 1); 513];
        abort(&disk, &trim(&nine));
        disk.ata(way, &good).holds(good.leaves(DONE));
    }
}

// Whatever is sent.

/// A command: one that is known, or any; its registers near what is there, or any.
fn commands() -> impl Strategy<Value = Ata> {
    let known = prop::sample::select(TABLE.to_vec()).prop_map(|row| right(&row)).boxed();
    let any_one = (any::<u8>(), any::<u16>())
        .prop_map(|(command, features)| Ata { features, ..Ata::new(command) })
        .boxed();
    let blocks = prop_oneof![
        Just(None),
        (0..2 * BLOCKS, 0..40u16, any::<bool>()).prop_map(Some),
        (any::<u64>(), any::<u16>(), any::<bool>()).prop_map(|(first, count, lba)| Some((
            first & 0xffff_ffff_ffff,
            count,
            lba
        ))),
    ];
    let transfers =
        prop::option::of(prop::sample::select(vec![Protocol::NonData, PioIn, PioOut, DmaIn, DmaOut]));
    let length =
        prop_oneof![Just(None), (0..6000usize).prop_map(Some), (0..40usize).prop_map(|n| Some(n * 512))];
    (prop_oneof![4 => known, 1 => any_one], blocks, transfers, length, any::<bool>(), any::<u8>()).prop_map(
        |(own, blocks, protocol, length, extended, fill)| {
            let mut command = own.clone();
            if let Some((first, count, lba)) = blocks {
                command = Ata { extended: own.extended || extended, ..command }.on(first, count);
                command.device &= if lba { 0xff } else { !LBA };
            }
            command.protocol = protocol.unwrap_or(own.protocol);
            let length = length.unwrap_or(own.room.max(own.data.len()));
            match command.protocol {
                Protocol::NonData => (command.room, command.data) = (0, vec![]),
                PioIn | DmaIn => (command.room, command.data) = (length, vec![]),
                PioOut | DmaOut => {
                    let data = if length == own.data.len() { own.data } else { vec![fill; length] };
                    (command.room, command.data) = (0, data);
                }
            }
            command
        },
    )
}

const ENTRIES: [(&str, &[Way]); 4] =
    [WAYS[0], WAYS[1], ("/x=ide,ro,sector=4096", WAYS[0].1), ("/x=sata,ro", WAYS[1].1)];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No command does harm: the fixtures look whether anything but the caller's buffer changes, the disk whether blocks
    /// do that the command does not name.
    #[test]
    fn no_command_does_harm(
        sent in prop::collection::vec(commands(), 1..8),
        (entry, ways) in prop::sample::select(ENTRIES.to_vec()),
        thin: bool,
        picky: bool,
        call in prop::option::weighted(0.2, prop::sample::select(vec![Call::Read, Call::Write, Call::Sync, Call::Discard])),
    ) {
        let disk = disk(entry);
        let disk = Disk { host: MemoryHost { thin, picky, ..disk.host }, ..disk };
        let fault = call.map(|call| Fault { call, errno: Errno::EIO, at: Some(512 * 9) });
        disk.host.fault.set(fault);
        for command in sent {
            for &way in ways.iter().filter(|&&way| command.goes(way)) {
                let before = disk.host.content.borrow().clone();
                let got = disk.ata(way, &command);
                let after = disk.host.content.borrow();
                let writes = WRITES.contains(&command.command) && !command.data.is_empty();
                if !writes || entry.contains("ro") {
                    prop_assert!(*after == before, "{:?} {:x?}", way, command);
                } else if got.registers.is_some_and(|(registers, _)| registers.status == 0x50)
                    && command.command != 0x06
                {
                    let changed = before.iter().zip(after.iter()).filter(|(old, new)| old != new).count();
                    prop_assert!(changed <= command.data.len());
                }
                // drivers/ide refuses transfer modes of DMA that the host adapter lacks, and gives no registers back.
                if let Some((registers, _)) = got.registers.filter(|_| got.result != Err(Errno::EINVAL)) {
                    prop_assert!(matches!(registers.status, 0x50 | 0x51 | 0x71));
                    let errors = [0x00, 0x01, 0x04, 0x10, 0x40];
                    prop_assert!(errors.contains(&registers.error));
                }
            }
        }
    }

    /// Any bytes at all where a request's argument is: what the fixtures see of the caller's memory outside of it stays.
    #[test]
    fn no_request_does_harm(
        bytes in prop::collection::vec(any::<u8>(), 48..700),
        phase in prop::sample::select(vec![0u32, 1, 2, 4, 8, 0x20, 0x40, 0x80, 0x82, 0xff, 0x100]),
        kind in 0u32..6,
        sizes in (0u64..600, 0u64..600),
        entry in prop::sample::select(vec!["/x=ide,ro", "/x=sata,ro"]),
        hdparms: bool,
    ) {
        let disk = disk(entry);
        let mut bytes = bytes;
        let at = if hdparms { offset_of!(HdioTaskfile, dphase) } else { PHASE };
        bytes.resize(bytes.len().max(size_of::<HdioTaskfile>()), 0);
        if hdparms {
            set(&mut bytes, offset_of!(HdioTaskfile, iflags), &0x82u32.to_ne_bytes());
        }
        set(&mut bytes, at, &phase.to_ne_bytes());
        set(&mut bytes, at + 4, &kind.to_ne_bytes());
        set(&mut bytes, at + 8, &[sizes.0, sizes.1].map(u64::to_ne_bytes).concat());
        for request in [HDIO_DRIVE_TASKFILE, HDIO_DRIVE_TASK, HDIO_DRIVE_CMD] {
            if request == HDIO_DRIVE_CMD {
                bytes[3] = ((bytes.len() - 4) / 512) as u8;
            }
            // 64 bytes follow, which a larger structure may reach into.
            let given = if request == HDIO_DRIVE_TASKFILE { [&bytes[..], &[0; 1300]].concat() } else { bytes.clone() };
            if let (Err(errno), _) = disk.hdio(request, &given) {
                let known = [Errno::EIO, Errno::EFAULT, Errno::EINVAL, Errno::EPERM, Errno::ENOTTY];
                prop_assert!(known.contains(&errno), "{}", errno);
            }
            prop_assert!(*disk.host.content.borrow() == content(BLOCKS));
            prop_assert_eq!(disk.host.changed.get(), None);
        }
    }

    /// What IDENTIFY DEVICE says of any size agrees with itself and with READ NATIVE MAX ADDRESS.
    #[test]
    fn sizes_in_the_sector(
        blocks in prop_oneof![
            1..2000u64,
            (1u32..55).prop_flat_map(|bits| ((1u64 << bits) - 2).max(1)..(1 << bits) + 2),
            1..1u64 << 55,
        ],
        logical in prop::sample::select(vec![512u64, 4096]),
        ratio in 0u32..4,
        (kind, way) in prop::sample::select(WHOLE.to_vec()),
    ) {
        let blocks = blocks.min(u64::MAX / logical);
        let mut disk = sized(kind, blocks * logical);
        (disk.host.logical, disk.host.physical) = (logical as u32, (logical << ratio) as u32);
        let words = identified(&disk);
        let number = |at: usize, count: usize| {
            (0..count).map(|word| u64::from(words[at + word]) << (16 * word)).sum::<u64>()
        };
        prop_assert_eq!(number(100, 4), blocks.min((1 << 48) - 1));
        prop_assert_eq!(number(60, 2), blocks.min(0x0fff_ffff));
        let cylinders = (blocks / 1008).clamp(1, 16383);
        prop_assert_eq!([words[1], words[3], words[6]], [cylinders as u16, 16, 63]);
        prop_assert_eq!([words[54], words[55], words[56]], [cylinders as u16, 16, 63]);
        prop_assert_eq!(number(57, 2), cylinders * 1008);
        let larger = if logical == 4096 { 0x1000 } else { 0 };
        let several = if ratio > 0 { 0x2000 | ratio as u16 } else { 0 };
        prop_assert_eq!(words[106], 0x4000 | larger | several);
        prop_assert_eq!(number(117, 2), if logical == 4096 { 2048 } else { 0 });
        prop_assert_eq!(words[209], if ratio > 0 { 0x4000 } else { 0 });
        let native = Ata { device: LBA, ..Ata::new(0x27) }.wide();
        disk.ata(way, &native).holds(on_block(&native, DONE, (blocks - 1).min((1 << 48) - 1)));
    }
}
