//! What the disk answers to each SCSI command, byte for byte, and what the caller of `SG_IO` sees of it.

use std::cell::RefCell;
use std::mem::swap;

use disk::request::{SCSI_IOCTL_SEND_COMMAND, SG_IO};
use disk::scsi::command::{COMMANDS, Disks};
use disk::scsi::sense::Sense;
use disk::{Answer, Caller, Errno, Medium, Nexus};
use memory_disk::host::{FAR, POISON};
use memory_disk::sense::*;
use memory_disk::sg_io::*;
use memory_disk::{Disk, MemoryHost, numbered_blocks};

/// The commands that read and write blocks and have no other data.
const READS: [u8; 4] = [0x08, 0x28, 0xa8, 0x88];
const WRITES: [u8; 4] = [0x0a, 0x2a, 0xaa, 0x8a];

/// A disk of so many 512-byte blocks, each filled with its number.
fn numbered(blocks: usize) -> Disk {
    Disk::new(numbered_blocks(blocks))
}

/// The same, on an engine that knows all I_T nexuses.
fn shared(blocks: usize) -> Disk {
    let mut disk = numbered(blocks);
    disk.host.shared = Some(RefCell::default());
    disk
}

/// A disk of this many bytes that holds nothing.
fn sized(bytes: u64) -> Disk {
    Disk::on(MemoryHost::new(Medium::ImageFile, bytes))
}

#[track_caller]
fn assert_check(reply: &Reply, expected: Sense) {
    assert_eq!(reply.check(), expected);
}

/// A block of the disk as it is.
fn block(disk: &Disk, number: usize) -> Vec<u8> {
    disk.host.content.borrow()[512 * number..][..512].to_vec()
}

#[test]
fn standard_inquiry() {
    let disk = Disk { entry: "/x=scsi,model=A model that is long", ..numbered(8) };
    let mut expected = vec![0x00, 0x00, 0x06, 0x12, 91, 0x20, 0x00, 0x02];
    expected.extend(b"BDWRAP  A model that is 1.0 ");
    expected.resize(58, 0);
    expected.extend([0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0]);
    expected.resize(96, 0);
    assert_eq!(disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good(), expected);
    assert_eq!(disk.read(&[0x12, 0, 0, 1, 0xff, 0], 511).good(), expected);
    // A page code without EVPD.
    for page in [1, 0x80] {
        assert_eq!(disk.read(&[0x12, 0, page, 0, 96, 0], 96).check(), cdb_field(2, 7));
    }
}

fn vital(disk: &Disk, page: u8) -> Vec<u8> {
    let reply = disk.read(&[0x12, 1, page, 0, 0xff, 0], 255).good();
    let [kind, code, high, low, ..] = reply[..] else { panic!("{reply:02x?}") };
    assert_eq!((kind, code), (0, page));
    assert_eq!(usize::from(u16::from_be_bytes([high, low])) + 4, reply.len());
    reply[4..].to_vec()
}

#[test]
fn vital_product_data() {
    let mut disk = Disk { entry: "/x=scsi,serial=ABC,model=Model,wwn=0x5001438000000001", ..numbered(8) };
    assert_eq!(vital(&disk, 0x00), [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
    assert_eq!(vital(&disk, 0x80), *b"ABC                 ");
    let identification = [
        &[0x01, 0x03, 0, 8, 0x50, 0x01, 0x43, 0x80, 0, 0, 0, 1][..],
        &[0x02, 0x01, 0, 44],
        b"BDWRAP  Model           ABC                 ",
        &[0x61, 0x94, 0, 4, 0, 0, 0, 1, 0x61, 0x95, 0, 4, 0, 0, 0, 1],
    ];
    assert_eq!(vital(&disk, 0x83), identification.concat());
    let mut extended = vec![0, 0x07, 0x01];
    extended.resize(60, 0);
    assert_eq!(vital(&disk, 0x86), extended);
    assert_eq!(vital(&disk, 0xb1), [0; 60]);
    assert_eq!(vital(&disk, 0xb2), [0, 0xe4, 2, 0]);
    for page in (0..=0xff).filter(|page| ![0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2].contains(page)) {
        assert_eq!(disk.read(&[0x12, 1, page, 0, 0xff, 0], 255).check(), cdb_field(2, 7), "{page:02x}");
    }
    disk.host.thin = false;
    assert_eq!(vital(&disk, 0xb2), [0, 0, 0, 0]);
}

/// The fields of the block limits page, in their order.
#[derive(Debug, PartialEq, Eq)]
struct Limits {
    compare_and_write: u8,
    granularity: u16,
    transfer: u32,
    unmap_blocks: u32,
    unmap_descriptors: u32,
    unmap_granularity: u32,
    unmap_alignment: u32,
    write_same: u64,
    /// Longest, alignment, granularity; longest with a boundary, longest boundary.
    atomic: [u32; 5],
}

impl Limits {
    fn of(disk: &Disk) -> Limits {
        let page = vital(disk, 0xb0);
        assert_eq!(page.len(), 60);
        assert_eq!(page[0], 0, "WSNZ");
        // By their places in the page as SBC-3 counts them, with the header.
        let number = |at: usize| u32::from_be_bytes(page[at - 4..at].try_into().expect("four bytes"));
        assert_eq!((number(12), number(16)), (0, 0), "optimal transfer, prefetch");
        Limits {
            compare_and_write: page[1],
            granularity: u16::from_be_bytes([page[2], page[3]]),
            transfer: number(8),
            unmap_blocks: number(20),
            unmap_descriptors: number(24),
            unmap_granularity: number(28),
            unmap_alignment: number(32),
            write_same: u64::from(number(36)) << 32 | u64::from(number(40)),
            atomic: [44, 48, 52, 56, 60].map(number),
        }
    }
}

#[test]
fn block_limits() {
    let mut disk = numbered(8);
    disk.host.physical = 4096;
    let limits = Limits {
        compare_and_write: 255,
        granularity: 8,
        transfer: 8192,
        unmap_blocks: 1 << 20,
        unmap_descriptors: 256,
        unmap_granularity: 8,
        unmap_alignment: 0x8000_0000,
        write_same: 65535,
        atomic: [16, 2, 2, 0, 0],
    };
    assert_eq!(Limits::of(&disk), limits);
    disk.entry = "/x=scsi,sector=4096";
    let limits = Limits { granularity: 1, transfer: 1024, unmap_granularity: 1, ..limits };
    assert_eq!(Limits::of(&disk), Limits { atomic: [2, 1, 1, 0, 0], ..limits });
    disk.host.thin = false;
    let thick =
        Limits { unmap_blocks: 0, unmap_descriptors: 0, unmap_granularity: 0, unmap_alignment: 0, ..limits };
    assert_eq!(Limits::of(&disk), Limits { atomic: [2, 1, 1, 0, 0], ..thick });
    // No longer than a transfer; none that is shorter than a block.
    for (unit, atomic) in [
        ((4096, 1 << 31), [1024, 1, 1, 0, 0]),
        ((8192, 8192), [2, 2, 2, 0, 0]),
        ((512, 2048), [0; 5]),
        ((8 << 20, 16 << 20), [0; 5]),
    ] {
        disk.host.atomic = Some(unit);
        assert_eq!(Limits::of(&disk), Limits { atomic, ..thick }, "{unit:?}");
    }
}

const READ_CAPACITY_10: [u8; 10] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// READ CAPACITY (16), and GET LBA STATUS and its like: an address and an allocation length.
fn service_action_in(action: u8, block: u64, length: u32) -> Vec<u8> {
    [&[0x9e, action][..], &block.to_be_bytes(), &length.to_be_bytes(), &[0, 0]].concat()
}

fn capacity_16(disk: &Disk) -> Vec<u8> {
    disk.read(&service_action_in(0x10, 0, 32), 32).good()
}

#[test]
fn read_capacity() {
    const TIB: u64 = 1 << 40;
    for (entry, bytes, logical, physical, last_10, last_16, block, exponent) in [
        ("/x=scsi", 1 << 20, 512, 512, 2047, 2047, 512, 0),
        ("/x=scsi", (1 << 20) + 511, 512, 4096, 2047, 2047, 512, 3),
        ("/x=scsi", 1 << 20, 4096, 4096, 255, 255, 4096, 0),
        ("/x=scsi,sector=4096", (1 << 20) + 4095, 512, 4096, 255, 255, 4096, 0),
        ("/x=scsi,sector=4096", 1 << 20, 512, 16384, 255, 255, 4096, 2),
        ("/x=scsi", 2 * TIB - 512, 512, 512, 0xffff_fffe, 0xffff_fffe, 512, 0),
        ("/x=scsi", 2 * TIB, 512, 512, 0xffff_ffff, 0xffff_ffff, 512, 0),
        ("/x=scsi", 2 * TIB + 512, 512, 512, 0xffff_ffff, 0x1_0000_0000, 512, 0),
        ("/x=scsi", 8 << 60, 512, 512, 0xffff_ffff, (8 << 51) - 1, 512, 0),
    ] {
        let mut disk = Disk { entry, ..sized(bytes) };
        (disk.host.logical, disk.host.physical) = (logical, physical);
        let ten = [u32::to_be_bytes(last_10), u32::to_be_bytes(block)].concat();
        assert_eq!(disk.read(&READ_CAPACITY_10, 8).good(), ten, "{entry} {bytes}");
        for thin in [true, false] {
            disk.host.thin = thin;
            let mut sixteen = [&u64::to_be_bytes(last_16)[..], &block.to_be_bytes()].concat();
            sixteen.extend([0, exponent, if thin { 0xc0 } else { 0 }]);
            sixteen.resize(32, 0);
            assert_eq!(capacity_16(&disk), sixteen, "{entry} {bytes}");
        }
    }
}

#[test]
fn read_capacity_with_an_address() {
    let disk = numbered(8);
    let mut ten = READ_CAPACITY_10;
    ten[5] = 1;
    assert_eq!(disk.read(&ten, 8).check(), cdb_field(2, 7));
    assert_eq!(disk.read(&service_action_in(0x10, 1, 32), 32).check(), cdb_field(2, 7));
    // PMI: what the last block before a delay is does not depend on the address.
    ten[8] = 1;
    assert_eq!(disk.read(&ten, 8).good(), [0, 0, 0, 7, 0, 0, 2, 0]);
}

/// A mode page of a fresh disk.
struct Page {
    code: u8,
    subpage: u8,
    fresh: Vec<u8>,
    /// What can be changed.
    changeable: Vec<u8>,
}

/// All of them, in the order of MODE SENSE.
fn mode_pages() -> Vec<Page> {
    let page = |code: u8, subpage: u8, length: usize, set: &[(usize, u8)], changeable: &[(usize, u8)]| {
        let fill = |set: &[(usize, u8)]| {
            let mut page = vec![0; length];
            let header = [code, length as u8 - 2];
            let long = [code | 0x40, subpage, 0, length as u8 - 4];
            let header = if subpage == 0 { &header[..] } else { &long[..] };
            page[..header.len()].copy_from_slice(header);
            set.iter().for_each(|&(at, byte)| page[at] = byte);
            page
        };
        Page { code, subpage, fresh: fill(set), changeable: fill(changeable) }
    };
    vec![
        page(0x01, 0, 12, &[(2, 0xc0)], &[]),
        page(0x02, 0, 16, &[], &[]),
        page(0x08, 0, 20, &[(2, 0x04)], &[(2, 0x04), (12, 0x20)]),
        page(0x0a, 0, 12, &[(2, 0x02), (3, 0x10), (8, 0xff), (9, 0xff)], &[(2, 0x04), (4, 0x08)]),
        page(0x0a, 1, 32, &[], &[]),
        page(0x19, 0, 8, &[(2, 0x06)], &[]),
        page(0x1c, 0, 12, &[(2, 0x08)], &[]),
    ]
}

const CURRENT: u8 = 0;
const CHANGEABLE: u8 = 1;
const DEFAULT: u8 = 2;
const SAVED: u8 = 3;

/// MODE SENSE (6) without block descriptors.
fn mode_sense_6(control: u8, code: u8, subpage: u8) -> [u8; 6] {
    [0x1a, 0x08, control << 6 | code, subpage, 255, 0]
}

/// MODE SENSE (10); `flags` are LLBAA and DBD.
fn mode_sense_10(flags: u8, control: u8, code: u8, subpage: u8) -> [u8; 10] {
    [0x5a, flags, control << 6 | code, subpage, 0, 0, 0, 2, 0, 0]
}

/// One page as it is now.
fn mode_page(disk: &Disk, code: u8) -> Vec<u8> {
    disk.read(&mode_sense_6(CURRENT, code, 0), 255).good()[4..].to_vec()
}

#[test]
fn mode_sense_pages() {
    let disk = numbered(8);
    let pages = mode_pages();
    for control in [CURRENT, CHANGEABLE, DEFAULT, SAVED] {
        let join = |wanted: &dyn Fn(&Page) -> bool| {
            let value = |page: &Page| {
                if control == CHANGEABLE { page.changeable.clone() } else { page.fresh.clone() }
            };
            pages.iter().filter(|page| wanted(page)).flat_map(value).collect::<Vec<_>>()
        };
        let mut cases: Vec<_> = pages
            .iter()
            .map(|Page { code, subpage, .. }| {
                (*code, *subpage, join(&|page| page.code == *code && page.subpage == *subpage))
            })
            .collect();
        cases.push((0x3f, 0x00, join(&|page| page.subpage == 0)));
        cases.push((0x3f, 0xff, join(&|_| true)));
        cases.push((0x0a, 0xff, join(&|page| page.code == 0x0a)));
        for (code, subpage, expected) in cases {
            let six = [&[3 + expected.len() as u8, 0, 0x10, 0][..], &expected].concat();
            assert_eq!(disk.read(&mode_sense_6(control, code, subpage), 255).good(), six);
            let ten = [&[0, 6 + expected.len() as u8, 0, 0x10, 0, 0, 0, 0][..], &expected].concat();
            assert_eq!(disk.read(&mode_sense_10(0x08, control, code, subpage), 512).good(), ten);
        }
    }
}

#[test]
fn mode_sense_refuses() {
    let disk = numbered(8);
    for (code, subpage, field) in [
        (0x00, 0x00, cdb_field(2, 5)),
        (0x03, 0x00, cdb_field(2, 5)),
        (0x3e, 0xff, cdb_field(2, 5)),
        (0x08, 0x01, cdb_field(3, 7)),
        (0x0a, 0x02, cdb_field(3, 7)),
    ] {
        assert_eq!(disk.read(&mode_sense_6(CURRENT, code, subpage), 255).check(), field);
        assert_eq!(disk.read(&mode_sense_10(0, CURRENT, code, subpage), 255).check(), field);
    }
}

/// SPC-4, 6.11.1: of all pages, only subpage 0 or all subpages can be had.
#[test]
fn mode_sense_of_all_pages_takes_no_other_subpage() {
    let disk = numbered(8);
    for subpage in [0x01, 0x02, 0xfe] {
        assert_eq!(disk.read(&mode_sense_6(CURRENT, 0x3f, subpage), 255).check(), cdb_field(3, 7));
    }
}

#[test]
fn block_descriptors() {
    for (entry, bytes, short, long) in [
        ("/x=scsi", 1 << 20, [0, 0, 8, 0, 0, 0, 2, 0], [0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0]),
        (
            "/x=scsi,sector=4096",
            1 << 45,
            [0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0],
            [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0],
        ),
    ] {
        let disk = Disk { entry, ..sized(bytes) };
        let page = &mode_pages()[2].fresh;
        let six = disk.read(&[0x1a, 0, 0x08, 0, 255, 0], 255).good();
        assert_eq!(six, [&[3 + 8 + 20, 0, 0x10, 8][..], &short, page].concat());
        let ten = disk.read(&mode_sense_10(0, CURRENT, 0x08, 0), 512).good();
        assert_eq!(ten, [&[0, 6 + 8 + 20, 0, 0x10, 0, 0, 0, 8][..], &short, page].concat());
        let ten = disk.read(&mode_sense_10(0x10, CURRENT, 0x08, 0), 512).good();
        assert_eq!(ten, [&[0, 6 + 16 + 20, 0, 0x10, 1, 0, 0, 16][..], &long, page].concat());
        let ten = disk.read(&mode_sense_10(0x18, CURRENT, 0x08, 0), 512).good();
        assert_eq!(ten, [&[0, 6 + 20, 0, 0x10, 0, 0, 0, 0][..], page].concat());
    }
}

/// MODE SELECT (6) of a list without block descriptors.
fn select_6(disk: &Disk, pages: &[u8]) -> Reply {
    let list = [&[0; 4][..], pages].concat();
    disk.write(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list)
}

fn select_10(disk: &Disk, list: &[u8]) -> Reply {
    disk.write(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], list)
}

/// Changes one bit of a page.
fn switch(disk: &Disk, code: u8, at: usize, bit: u8, on: bool) {
    let mut page = mode_page(disk, code);
    page[at] = if on { page[at] | bit } else { page[at] & !bit };
    select_6(disk, &page).good();
    assert_eq!(mode_page(disk, code), page, "what was set is there");
}

const WCE: (u8, usize, u8) = (0x08, 2, 0x04);
const D_SENSE: (u8, usize, u8) = (0x0a, 2, 0x04);
const SWP: (u8, usize, u8) = (0x0a, 4, 0x08);

#[test]
fn mode_select_round_trips() {
    let disk = numbered(8);
    for (code, at, bit) in [WCE, SWP, D_SENSE] {
        let fresh = mode_page(&disk, code);
        for on in [true, false, true, false] {
            switch(&disk, code, at, bit, on);
            for control in [DEFAULT, SAVED] {
                let other = disk.read(&mode_sense_6(control, code, 0), 255).good();
                assert_eq!(other[4..], fresh, "{control} stays");
            }
        }
        select_6(&disk, &fresh).good();
    }
    // Several pages, and MODE SELECT (10) with short and long block descriptors.
    let pages: Vec<u8> = mode_pages().into_iter().flat_map(|page| page.fresh).collect();
    let short = [0, 0, 0, 8, 0, 0, 2, 0];
    let long = [0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 2, 0];
    let header = |long, descriptor| vec![0, 0, 0, 0, long, 0, 0, descriptor];
    select_10(&disk, &[&header(0, 0)[..], &pages].concat()).good();
    select_10(&disk, &[&header(0, 8)[..], &short, &pages].concat()).good();
    select_10(&disk, &[&header(1, 16)[..], &long, &pages].concat()).good();
    // Each byte of the block length counts: 3 of a short descriptor, 4 of a long one (SBC-3, 6.4.2).
    for (flag, descriptor, places) in [(0, &short[..], 5..8), (1, &long[..], 12..16)] {
        for place in places {
            let mut other = descriptor.to_vec();
            other[place] ^= 1;
            let list = [&header(flag, other.len() as u8)[..], &other, &pages].concat();
            assert_eq!(select_10(&disk, &list).check(), list_field(8, None), "{place}");
        }
    }
    select_10(&disk, &header(0, 0)).good();
    assert_eq!(disk.write(&[0x15, 0x10, 0, 0, 0, 0], &[]).good(), []);
    assert_eq!(disk.write(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 0, 0], &[]).good(), []);
}

/// SAT-3, 10.1: the caching page and IDENTIFY DEVICE say the same; a SAS port an ATA disk has none.
#[test]
fn mode_pages_of_an_ata_disk() {
    let disk = Disk { entry: "/x=sata", ..numbered(8) };
    assert_eq!(disk.read(&mode_sense_6(CURRENT, 0x19, 0), 255).check(), cdb_field(2, 5));
    let all = disk.read(&mode_sense_6(CURRENT, 0x3f, 0xff), 255).good();
    let pages = mode_pages().into_iter().filter(|page| page.code != 0x19).flat_map(|page| page.fresh);
    assert_eq!(all[4..], pages.collect::<Vec<_>>());
    let enabled = || {
        let identify = [0x85, 0x08, 0x0e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 0xec, 0];
        disk.read(&identify, 512).good()[2 * 85] & 0x60
    };
    assert_eq!(enabled(), 0x60, "look-ahead and write cache");
    for (byte, bit, left) in [(2, 0x04, 0x40), (12, 0x20, 0x20)] {
        let mut page = mode_page(&disk, 0x08);
        page[byte] ^= bit;
        select_6(&disk, &page).good();
        assert_eq!(enabled(), left);
        page[byte] ^= bit;
        select_6(&disk, &page).good();
    }
}

#[test]
fn mode_select_refuses_what_cannot_be_changed() {
    let disk = numbered(8);
    for Page { code, subpage, fresh, changeable } in mode_pages() {
        for place in 2..fresh.len() {
            for bit in (0..8).filter(|bit| changeable[place] & 1 << bit == 0) {
                let mut page = fresh.clone();
                page[place] ^= 1 << bit;
                // A page in the middle of the list, so that the place is not by chance the page's own.
                let list = [&mode_pages()[0].fresh[..], &page].concat();
                let reply = select_6(&disk, &list);
                // Of a page with subpages, bytes 2 and 3 are its length.
                if subpage == 0 || place > 3 {
                    let at = 4 + 12 + place as u16;
                    assert_eq!(reply.check(), list_field(at, bit), "{code:02x}/{subpage:02x}");
                } else {
                    assert_eq!((reply.check().key, reply.status), (5, CHECK_CONDITION));
                }
            }
        }
    }
    // Nothing of a list is done if not all of it can be.
    let mut caching = mode_page(&disk, 0x08);
    caching[2] ^= 0x04;
    let mut control = mode_page(&disk, 0x0a);
    control[3] ^= 0x80;
    let reply = select_6(&disk, &[caching, control].concat());
    assert_eq!(reply.check(), list_field(4 + 20 + 3, 7));
    assert_eq!(mode_page(&disk, 0x08), mode_pages()[2].fresh);
}

#[test]
fn mode_select_refuses_bad_lists() {
    let disk = numbered(8);
    let control = mode_page(&disk, 0x0a);
    // PF=0; SP=1.
    assert_eq!(disk.write(&[0x15, 0x00, 0, 0, 16, 0], &[0; 16]).check(), cdb_field(1, 4));
    assert_eq!(disk.write(&[0x15, 0x11, 0, 0, 16, 0], &[0; 16]).check(), cdb_field(1, 0));
    // Lists that end within the header, the descriptor or a page.
    let list = [&[0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 2, 0][..], &control].concat();
    for length in 1..list.len() {
        let reply = disk.write(&[0x15, 0x10, 0, 0, length as u8, 0], &list[..length]);
        if length == 12 {
            reply.good();
        } else {
            assert_check(&reply, PARAMETER_LIST_LENGTH_ERROR);
        }
    }
    // No such page; PS; another length.
    assert_eq!(select_6(&disk, &[0x03, 2, 0, 0]).check(), list_field(4, 5));
    for (place, value, bit) in [(0, 0x8a, 7), (1, 0x0b, 0)] {
        let mut page = control.clone();
        page[place] = value;
        page.push(0);
        assert_eq!(select_6(&disk, &page).check(), list_field(4 + place as u16, bit));
    }
    // Another block length.
    let reply = disk.write(&[0x15, 0x10, 0, 0, 12, 0], &[0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0x10, 0]);
    assert_eq!(
        (reply.check().key, reply.check().asc_ascq),
        (INVALID_FIELD_IN_PARAMETER_LIST.key, INVALID_FIELD_IN_PARAMETER_LIST.asc_ascq)
    );
    assert_eq!(disk.host.changed.get(), None);
}

#[test]
fn sense_data_has_the_format_that_is_asked_for() {
    let disk = numbered(8);
    let bad = blocks_cdb(0x88, 0, u64::MAX, 1);
    let fixed = disk.read(&bad, 512).sense;
    assert_eq!(fixed, [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0]);
    let fixed = disk.read(&[0x12, 0, 0x55, 0, 96, 0], 96).sense;
    assert_eq!(fixed, [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 2]);
    switch(&disk, D_SENSE.0, D_SENSE.1, D_SENSE.2, true);
    assert_eq!(disk.read(&bad, 512).sense, [0x72, 5, 0x21, 0, 0, 0, 0, 0]);
    let descriptor = disk.read(&[0x12, 0, 0x55, 0, 96, 0], 96).sense;
    assert_eq!(descriptor, [0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xcf, 0, 2, 0]);
    let miscompare = disk.write(&blocks_cdb(0x89, 0, 0, 1), &[7; 1024]).sense;
    assert_eq!(miscompare, [0x72, 0xe, 0x1d, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    switch(&disk, D_SENSE.0, D_SENSE.1, D_SENSE.2, false);
    let miscompare = disk.write(&blocks_cdb(0x89, 0, 0, 1), &[7; 1024]).sense;
    assert_eq!(miscompare, [0xf0, 0, 0xe, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0]);
}

#[test]
fn request_sense() {
    let disk = numbered(8);
    let fixed = [0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(disk.read(&[0x03, 0, 0, 0, 252, 0], 252).good(), fixed);
    assert_eq!(disk.read(&[0x03, 1, 0, 0, 252, 0], 252).good(), [0x72, 0, 0, 0, 0, 0, 0, 0]);
    // The bit asks, not D_SENSE.
    switch(&disk, D_SENSE.0, D_SENSE.1, D_SENSE.2, true);
    assert_eq!(disk.read(&[0x03, 0, 0, 0, 252, 0], 252).good(), fixed);
}

fn log_sense(page: u8, subpage: u8, pointer: u8) -> [u8; 10] {
    [0x4d, 0, 0x40 | page, subpage, 0, 0, pointer, 0, 252, 0]
}

#[test]
fn log_pages() {
    let disk = numbered(8);
    for (page, expected) in [
        (0x00, &[0x00, 0, 0, 3, 0x00, 0x0d, 0x2f][..]),
        // DS: the parameters are not saved.
        (0x0d, &[0x8d, 0, 0, 12, 0, 0, 0x03, 2, 0, 0xff, 0, 1, 0x03, 2, 0, 0xff]),
        (0x2f, &[0xaf, 0, 0, 7, 0, 0, 0x03, 3, 0, 0, 0xff]),
    ] {
        let mut cdb = log_sense(page, 0, 0);
        assert_eq!(disk.read(&cdb, 252).good(), expected);
        // SP, which saves what DS lets be saved (SPC-4, 6.6): openSeaChest_SMART sends it.
        cdb[1] = 0x01;
        assert_eq!(disk.read(&cdb, 252).good(), expected);
    }
    let sent = [0x4d, 0x01, 0x6f, 0, 0, 0, 0, 0, 0x0c, 0];
    assert_eq!(disk.read(&sent, 12).good(), [0xaf, 0, 0, 7, 0, 0, 0x03, 3, 0, 0, 0xff]);
    for page in (0..0x3f).filter(|page| ![0x00, 0x0d, 0x2f].contains(page)) {
        assert_eq!(disk.read(&log_sense(page, 0, 0), 252).check(), cdb_field(2, 5), "{page:02x}");
    }
    // PPC: no list of the parameters that have changed.
    assert_eq!(disk.read(&[0x4d, 2, 0x40, 0, 0, 0, 0, 0, 252, 0], 252).check(), cdb_field(1, 1));
}

#[test]
fn log_subpages_and_parameters_that_there_are_not() {
    let disk = numbered(8);
    for (page, subpage) in [(0x00, 1), (0x0d, 1), (0x2f, 0x42), (0x2f, 0xfe)] {
        assert_eq!(disk.read(&log_sense(page, subpage, 0), 252).check(), cdb_field(3, 7), "{page:02x}");
    }
    // SPC-4, 6.7: a parameter pointer behind the last parameter.
    for (page, pointer) in [(0x0d, 2), (0x2f, 1)] {
        assert_eq!(disk.read(&log_sense(page, 0, pointer), 252).check(), cdb_field(5, 7), "{page:02x}");
    }
}

#[test]
fn report_luns() {
    let disk = numbered(8);
    let one = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // Well-known logical units there are none.
    for (select, expected) in [(0, &one[..]), (1, &[0; 8]), (2, &one)] {
        let cdb = [0xa0, 0, select, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(disk.read(&cdb, 256).good(), expected);
    }
    for select in [3, 0x10, 0xff] {
        let cdb = [0xa0, 0, select, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(disk.read(&cdb, 256).check(), cdb_field(2, 7));
    }
}

/// REPORT TARGET PORT GROUPS.
fn report_groups(format: u8, length: u8) -> [u8; 12] {
    [0xa3, format << 5 | 0x0a, 0, 0, 0, 0, 0, 0, 0, length, 0, 0]
}

/// SET TARGET PORT GROUPS.
fn set_groups(disk: &Disk, list: &[u8]) -> Reply {
    disk.write(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0, 0], list)
}

#[test]
fn report_target_port_groups() {
    let disk = numbered(8);
    let group = [0x00, 0x01, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
    let plain = [&[0, 0, 0, 12][..], &group].concat();
    assert_eq!(disk.read(&report_groups(0, 255), 255).good(), plain);
    let extended = [&[0, 0, 0, 16, 0x10, 0, 0, 0][..], &group].concat();
    assert_eq!(disk.read(&report_groups(1, 255), 255).good(), extended);
    for format in 2..8 {
        assert_eq!(disk.read(&report_groups(format, 255), 255).check(), cdb_field(1, 7));
    }
}

#[test]
fn set_target_port_groups() {
    let disk = numbered(8);
    set_groups(&disk, &[]).good();
    // What is reserved is not looked at.
    for list in [[0, 0, 0, 0, 0, 0, 0, 1], [9, 9, 9, 9, 0xf0, 9, 0, 1]] {
        set_groups(&disk, &list).good();
    }
    // Any other state, group or number of groups.
    for state in 1..16 {
        assert_eq!(set_groups(&disk, &[0, 0, 0, 0, state, 0, 0, 1]).check(), list_field(4, 3));
    }
    for group in [[0, 0], [0, 2], [1, 0], [1, 1]] {
        let list = [0, 0, 0, 0, 0, 0, group[0], group[1]];
        assert_eq!(set_groups(&disk, &list).check(), list_field(6, 7));
    }
    for length in (1..20).filter(|length| *length != 8) {
        assert_eq!(set_groups(&disk, &vec![0; length]).check(), cdb_field(6, 7), "{length}");
    }
    assert_eq!(disk.read(&report_groups(0, 255), 255).good()[4], 0x00);
}

/// libata has none.
#[test]
fn a_sata_disk_has_no_target_port_groups() {
    let disk = Disk { entry: "/x=sata", ..numbered(8) };
    assert_eq!(disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good()[5], 0x00);
    assert!(!vital(&disk, 0x83).ends_with(&[0x61, 0x95, 0, 4, 0, 0, 0, 1]));
    assert_eq!(disk.read(&report_groups(0, 255), 255).check(), cdb_field(1, 4));
    assert_check(&set_groups(&disk, &[0, 0, 0, 0, 0, 0, 0, 1]), INVALID_COMMAND_OPERATION_CODE);
    for (code, options) in [(0xa3, [2, 3]), (0xa4, [1, 2]), (0xa4, [3, 3])] {
        for options in options {
            let reply = disk.read(&report_codes(options, code, 0x0a, 512), 512);
            assert_eq!(reply.good(), [0, 1, 0, 0], "{code:02x} {options}");
        }
    }
    assert!(all_codes(&disk, true).iter().all(|row| row.1 != 0x0a));
}

#[test]
fn seek() {
    let disk = numbered(16);
    let seek = |block: u32| disk.none(&[&[0x2b, 0][..], &block.to_be_bytes(), &[0; 4]].concat());
    for block in [0, 15] {
        seek(block).good();
    }
    for block in [16, u32::MAX] {
        assert_check(&seek(block), LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
    }
}

/// As libata does: nothing, whatever the address. QEMU's SCSI disk, LIO and scsi_debug have neither.
#[test]
fn commands_that_a_sata_disk_alone_has() {
    let sata = Disk { entry: "/x=sata", ..numbered(16) };
    for cdb in [[0x01, 0, 0, 0, 0, 0], [0x0b, 0, 0, 0, 0, 0], [0x0b, 0x1f, 0xff, 0xff, 0, 0]] {
        assert_eq!(sata.none(&cdb).good(), [], "{cdb:02x?}");
        assert_check(&numbered(16).none(&cdb), INVALID_COMMAND_OPERATION_CODE);
    }
    assert_eq!(sata.none(&[0x01, 0, 0, 0, 0, 1]).check(), cdb_field(5, 0));
    assert_eq!(sata.none(&[0x0b, 0x20, 0, 0, 0, 0]).check(), cdb_field(1, 5));
    let (usage, expected) = (report_codes(1, 0x0b, 0, 512), [0, 3, 0, 6, 0x0b, 0x1f, 0xff, 0xff, 0, 0]);
    assert_eq!(sata.read(&usage, 512).good(), expected);
    assert_eq!(numbered(16).read(&usage, 512).good(), [0, 1, 0, 0]);
}

#[test]
fn report_task_management_functions() {
    let disk = numbered(8);
    assert_eq!(disk.read(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256).good(), [0x08, 0, 0, 0]);
    let mut extended = vec![0x08, 0, 0, 12];
    extended.resize(16, 0);
    assert_eq!(disk.read(&[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256).good(), extended);
}

/// The CDB usage data that SPC-4 and SBC-3 lead to: the operation code and its service action, then which bits there are.
const USAGE: &[(u8, u8, &[u8])] = &[
    (0x00, 0, &[0, 0, 0, 0, 0]),
    (0x03, 0, &[0x01, 0, 0, 0xff, 0]),
    (0x04, 0, &[0x3f, 0, 0, 0, 0]),
    (0x08, 0, &[0x1f, 0xff, 0xff, 0xff, 0]),
    (0x0a, 0, &[0x1f, 0xff, 0xff, 0xff, 0]),
    (0x12, 0, &[0x01, 0xff, 0xff, 0xff, 0]),
    (0x15, 0, &[0x10, 0, 0, 0xff, 0]),
    (0x16, 0, &[0, 0, 0, 0, 0]),
    (0x17, 0, &[0, 0, 0, 0, 0]),
    (0x1a, 0, &[0x08, 0xff, 0xff, 0xff, 0]),
    (0x1b, 0, &[0x01, 0, 0x0f, 0xf7, 0]),
    (0x1d, 0, &[0xf7, 0, 0xff, 0xff, 0]),
    (0x1e, 0, &[0, 0, 0, 0x03, 0]),
    (0x25, 0, &[0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0]),
    (0x28, 0, &TEN_READ),
    (0x2a, 0, &[0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    (0x2b, 0, &[0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
    (0x2e, 0, &[0x16, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    (0x2f, 0, &[0x16, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    (0x34, 0, &[0x02, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    (0x35, 0, &[0x02, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    (0x37, 0, &[0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0]),
    (0x3b, 0, &[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x3c, 0, &[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x41, 0, &[0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    (0x42, 0, &[0x01, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0]),
    (0x48, 0x01, &[0xa1, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    (0x48, 0x02, &[0xa2, 0, 0, 0, 0, 0, 0, 0, 0]),
    (0x48, 0x1f, &[0xbf, 0, 0, 0, 0, 0, 0, 0, 0]),
    (0x4d, 0, &[0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x55, 0, &[0x10, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    (0x56, 0, &[0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (0x57, 0, &[0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (0x5a, 0, &[0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0]),
    (0x5e, 0, &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    (0x5e, 1, &[1, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    (0x5e, 2, &[2, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    (0x5e, 3, &[3, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    (0x5f, 0, &[0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x5f, 1, &[1, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x5f, 2, &[2, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x5f, 3, &[3, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x5f, 4, &[4, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x5f, 5, &[5, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x5f, 6, &[6, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x5f, 7, &[7, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    (0x83, 0, &[0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    (0x84, 0, &[0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    (0x84, 3, &[0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    (0x88, 0, &sixteen(0x1c)),
    (0x89, 0, &[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x1f, 0]),
    (0x8a, 0, &sixteen(0x18)),
    (0x8b, 0, &sixteen(0x18)),
    (0x8e, 0, &sixteen(0x16)),
    (0x8f, 0, &sixteen(0x16)),
    (0x90, 0, &sixteen(0x02)),
    (0x91, 0, &sixteen(0x02)),
    (0x93, 0, &sixteen(0x19)),
    (0x9c, 0, &[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0x1f, 0]),
    (0x9e, 0x10, &[0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0]),
    (0x9e, 0x12, &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    (0xa0, 0, &[0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    (0xa3, 0x0a, &[0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    (0xa3, 0x0c, &[0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    (0xa3, 0x0d, &[0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    (0xa4, 0x0a, &[0x0a, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    (0xa8, 0, &twelve(0x1c)),
    (0xaa, 0, &twelve(0x18)),
    (0xae, 0, &twelve(0x16)),
    (0xaf, 0, &twelve(0x16)),
    (0xb7, 0, &[0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
];

/// Whether the commands of an operation code have service actions.
fn has_actions(code: u8) -> bool {
    matches!(code, 0x48 | 0x5e | 0x5f | 0x83 | 0x84 | 0x9e | 0xa3 | 0xa4)
}

const TEN_READ: [u8; 9] = [0x1c, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0];

const fn sixteen(flags: u8) -> [u8; 15] {
    let mut usage = [0xff; 15];
    usage[0] = flags;
    usage[13] = 0x1f;
    usage[14] = 0;
    usage
}

const fn twelve(flags: u8) -> [u8; 11] {
    let mut usage = [0xff; 11];
    usage[0] = flags;
    usage[9] = 0x1f;
    usage[10] = 0;
    usage
}

/// REPORT SUPPORTED OPERATION CODES.
fn report_codes(options: u8, code: u8, action: u16, length: u32) -> Vec<u8> {
    let mut cdb = vec![0xa3, 0x0c, options, code];
    cdb.extend(action.to_be_bytes());
    cdb.extend(length.to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

/// Codes and service actions of the list of all commands, each with whether it says that there are service actions and how
/// long its CDB is.
fn all_codes(disk: &Disk, timeouts: bool) -> Vec<(u8, u16, bool, u16)> {
    let reply = disk.read(&report_codes(if timeouts { 0x80 } else { 0 }, 0, 0, 65535), 65535).good();
    let (header, list) = reply.split_at(4);
    assert_eq!(u32::from_be_bytes(header.try_into().expect("four bytes")) as usize, list.len());
    let each = if timeouts { 20 } else { 8 };
    assert_eq!(list.len() % each, 0);
    let row = |row: &[u8]| {
        assert_eq!((row[1], row[4]), (0, 0));
        assert_eq!(row[5] & !1, if timeouts { 2 } else { 0 }, "CTDP");
        if timeouts {
            assert_eq!(row[8..], [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        let half = |at: usize| u16::from_be_bytes([row[at], row[at + 1]]);
        (row[0], half(2), row[5] & 1 != 0, half(6))
    };
    list.chunks(each).map(row).collect()
}

/// ATA PASS-THROUGH, REZERO UNIT and SEEK(6), which a SCSI disk does not have.
const ATA: [u8; 4] = [0x85, 0xa1, 0x01, 0x0b];

#[test]
fn all_supported_operation_codes() {
    let mut disk = shared(8);
    let of_shared =
        COMMANDS.iter().filter(|row| matches!(row.disks, Disks::Shared | Disks::SharedThin)).count();
    for timeouts in [false, true] {
        let all = all_codes(&disk, timeouts);
        assert!(all.is_sorted(), "by operation code and service action");
        for &(code, action, usage) in USAGE {
            let row = (code, action.into(), has_actions(code), usage.len() as u16 + 1);
            assert!(all.contains(&row), "{row:02x?}");
        }
        assert_eq!(all.len(), USAGE.len(), "the usage data of each command stands above");
        assert!(all.iter().all(|row| !ATA.contains(&row.0)));
        disk.entry = "/x=sata";
        let of_sata = COMMANDS.len() - of_shared - 2;
        assert_eq!(all_codes(&disk, timeouts).len(), of_sata, "no reservations, no target port groups");
        disk.entry = "/x=scsi";
    }
    disk.host.shared = None;
    let all = all_codes(&disk, true);
    assert_eq!(all.len(), COMMANDS.len() - ATA.len() - of_shared);
    disk.host.thin = false;
    let all = all_codes(&disk, true);
    assert_eq!(all.len(), COMMANDS.len() - ATA.len() - of_shared - 1);
    assert!(all.iter().all(|row| row.0 != 0x42), "a thick disk has no UNMAP");
}

#[test]
fn every_command_is_in_the_documentation() {
    let words: Vec<&str> = include_str!("../../../docs/scsi.md").split_whitespace().collect();
    let text = words.join(" ");
    for row in COMMANDS {
        let name = row.name.split('(').next().expect("it has a name");
        // A service action stands after the command.
        for part in name.split(", ") {
            assert!(text.contains(part), "docs/scsi.md does not say what {name} does");
        }
    }
}

#[test]
fn one_supported_operation_code() {
    let disk = numbered(8);
    let timeouts = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let shared = shared(8);
    for &(code, action, usage) in USAGE {
        let disk = &shared;
        let expected = [&[0, 0x03, 0, usage.len() as u8 + 1, code][..], usage].concat();
        let (right, wrong) = if has_actions(code) { (2, 1) } else { (1, 2) };
        for options in [right, 3] {
            let reply = disk.read(&report_codes(options, code, action.into(), 512), 512).good();
            assert_eq!(reply, expected, "{code:02x}");
            let reply = disk.read(&report_codes(0x80 | options, code, action.into(), 512), 512).good();
            let mut with = [&expected[..], &timeouts].concat();
            with[1] |= 0x80;
            assert_eq!(reply, with, "{code:02x}");
        }
        let reply = disk.read(&report_codes(wrong, code, action.into(), 512), 512);
        assert_eq!(reply.check(), cdb_field(2, 2), "{code:02x}");
    }
    let none = [0, 1, 0, 0];
    for (options, code, action) in [
        (1, 0x04, 0),
        (2, 0x04, 0),
        (3, 0x04, 0),
        (3, 0xc0, 7),
        (2, 0x9e, 0x11),
        (3, 0xa3, 0x0e),
        (3, 0x28, 1),
        (2, 0x9e, 0x110),
    ] {
        for timeouts in [0, 0x80] {
            let reply = disk.read(&report_codes(timeouts | options, code, action, 512), 512).good();
            assert_eq!(reply, none, "{options} {code:02x} {action:x}");
        }
    }
    for options in 4..8 {
        assert_eq!(disk.read(&report_codes(options, 0x28, 0, 512), 512).check(), cdb_field(2, 2));
    }
}

/// SPC-4, 6.35.1: option 001b ignores the service action.
#[test]
fn a_service_action_does_not_matter_where_there_is_none() {
    let disk = numbered(8);
    for action in [1, 5, 0xffff] {
        let reply = disk.read(&report_codes(1, 0x28, action, 512), 512).good();
        assert_eq!(reply, [&[0, 3, 0, 10, 0x28][..], &TEN_READ].concat());
    }
}

#[test]
fn thick_disks_say_so_everywhere() {
    let mut disk = numbered(64);
    disk.host.thin = false;
    let (cdb, list) = unmap(&[(0, 1)]);
    assert_check(&disk.write(&cdb, &list), INVALID_COMMAND_OPERATION_CODE);
    for timeouts in [0, 0x80] {
        assert_eq!(disk.read(&report_codes(1 | timeouts, 0x42, 0, 512), 512).good(), [0, 1, 0, 0]);
    }
    for code in [0x41, 0x93] {
        assert_eq!(disk.write(&blocks_cdb(code, 0x08, 0, 1), &[0; 512]).check(), cdb_field(1, 3));
        disk.write(&blocks_cdb(code, 0, 0, 1), &[0; 512]).good();
        assert_eq!(disk.host.changed.get(), Some(("zero", 0, 512)));
    }
}

#[test]
fn every_reserved_bit_is_refused() {
    let disk = shared(8);
    for &(code, action, usage) in USAGE {
        let mut cdb = vec![code];
        cdb.resize(usage.len() + 1, 0);
        cdb[1] = action;
        for (place, &mask) in (1..).zip(usage) {
            // A wrong service action is another command.
            let looked_at = if place == 1 && has_actions(code) { mask | 0x1f } else { mask };
            for bit in (0..8).filter(|bit| looked_at & 1 << bit == 0) {
                let mut cdb = cdb.clone();
                cdb[place] |= 1 << bit;
                let reply = disk.read(&cdb, 512);
                assert_eq!(reply.check(), cdb_field(place as u16, bit), "{cdb:02x?}");
                // The first one counts.
                let last = cdb.len() - 1;
                cdb[last] |= 0x04;
                let reply = disk.read(&cdb, 512);
                let bit = if place == last { bit.max(2) } else { bit };
                assert_eq!(reply.check(), cdb_field(place as u16, bit), "{cdb:02x?}");
            }
        }
    }
    assert_eq!(disk.host.changed.get(), None);
}

#[test]
fn unknown_commands() {
    let disk = numbered(8);
    for code in 0..=0xff {
        let known = COMMANDS.iter().any(|row| row.operation_code() == code);
        if !known {
            for length in [6, 10, 12, 16, 32] {
                let mut cdb = vec![0xff; length];
                cdb[0] = code;
                assert_check(&disk.none(&cdb), INVALID_COMMAND_OPERATION_CODE);
            }
        }
    }
    for (code, length) in [(0x9e, 16), (0xa3, 12), (0xa4, 12)] {
        for action in 0..0x20 {
            let known = COMMANDS.iter().any(|row| row.is(code, action));
            if !known {
                let mut cdb = vec![0; length];
                (cdb[0], cdb[1]) = (code, action);
                assert_eq!(disk.none(&cdb).check(), cdb_field(1, 4), "{cdb:02x?}");
            }
        }
    }
}

/// Every command that gives as much as is allocated: its CDB, where the allocation length stands and how wide it is.
fn data_in_commands() -> Vec<(Vec<u8>, usize, usize)> {
    let mut commands = vec![
        (vec![0x03, 0, 0, 0, 0, 0], 4, 1),
        (vec![0x03, 1, 0, 0, 0, 0], 4, 1),
        (vec![0x12, 0, 0, 0, 0, 0], 3, 2),
        (vec![0x1a, 0, 0x3f, 0xff, 0, 0], 4, 1),
        (mode_sense_10(0x10, CURRENT, 0x3f, 0xff).to_vec(), 7, 2),
        (log_sense(0x0d, 0, 0).to_vec(), 7, 2),
        (service_action_in(0x10, 0, 0), 10, 4),
        (service_action_in(0x12, 0, 0), 10, 4),
        (vec![0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6, 4),
        (report_groups(0, 0).to_vec(), 6, 4),
        (report_groups(1, 0).to_vec(), 6, 4),
        (report_codes(0, 0, 0, 0), 6, 4),
        (report_codes(0x80, 0, 0, 0), 6, 4),
        (report_codes(0x83, 0x9e, 0x10, 0), 6, 4),
        (vec![0x37, 0, 0x18, 0, 0, 0, 0, 0, 0, 0], 7, 2),
        (vec![0xb7, 0x1d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6, 4),
    ];
    for page in [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2] {
        commands.push((vec![0x12, 1, page, 0, 0, 0], 3, 2));
    }
    commands
}

#[test]
fn allocation_lengths_cut_and_resid_says_what_is_left() {
    let disk = numbered(8);
    for (mut cdb, at, width) in data_in_commands() {
        let mut allocate = |length: u32| {
            cdb[at..at + width].copy_from_slice(&length.to_be_bytes()[4 - width..]);
            cdb.clone()
        };
        let most = if width == 1 { 0xff } else { 0xffff };
        let whole = disk.read(&allocate(most), most as usize).good();
        for length in 0..(whole.len() as u32 + 3).min(most) {
            let cdb = allocate(length);
            let given = (length as usize).min(whole.len());
            for room in [given, length as usize, 1024] {
                let reply = disk.read(&cdb, room);
                assert_eq!(reply.resid as usize, room - given, "{cdb:02x?} {room}");
                assert_eq!(reply.good(), whole[..given], "{cdb:02x?} {room}");
            }
        }
        // Less room than was allocated: what there is room for comes.
        let room = whole.len() / 2;
        let reply = disk.read(&allocate(most), room);
        assert_eq!((reply.resid, reply.good()), (0, whole[..room].to_vec()));
        // Without an allocation, no direction is wrong.
        disk.none(&allocate(0)).good();
    }
}

#[test]
fn defects_there_are_none() {
    let disk = numbered(8);
    for format in 0..0x20 {
        assert_eq!(disk.read(&[0x37, 0, format, 0, 0, 0, 0, 0, 255, 0], 255).good(), [0, format, 0, 0]);
        let twelve = disk.read(&[0xb7, format, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], 255).good();
        assert_eq!(twelve, [0, format, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn commands_that_do_nothing() {
    let disk = numbered(8);
    for cdb in [
        &[0x00, 0, 0, 0, 0, 0][..],
        &[0x1e, 0, 0, 0, 0, 0],
        &[0x1e, 0, 0, 0, 3, 0],
        &[0x1d, 0x04, 0, 0, 0, 0],
        &[0x1d, 0x20, 0, 0, 0, 0],
        &[0x1d, 0x40, 0, 0, 0, 0],
        &[0x1d, 0x80, 0, 0, 0, 0],
        &[0x1d, 0xa0, 0, 0, 0, 0],
        &[0x1d, 0xc0, 0, 0, 0, 0],
        &[0x1b, 0, 0, 0, 1, 0],
        &[0x1b, 1, 0, 0, 1, 0],
        &[0x1b, 0, 0, 0, 4, 0],
    ] {
        assert_eq!(disk.none(cdb).good(), [], "{cdb:02x?}");
    }
    assert_eq!((disk.host.synced.get(), disk.host.changed.get()), (0, None));
    // A stop writes the cache, but not with NO_FLUSH.
    disk.none(&[0x1b, 0, 0, 0, 0, 0]).good();
    assert_eq!(disk.host.synced.get(), 1);
    // The disk cannot be ejected and has no power conditions; there are no other self-tests and no diagnostic pages.
    assert_eq!(disk.none(&[0x1b, 0, 0, 0, 2, 0]).check(), cdb_field(4, 1));
    assert_eq!(disk.none(&[0x1b, 0, 0, 0, 3, 0]).check(), cdb_field(4, 1));
    for condition in 1..16 {
        assert_eq!(disk.none(&[0x1b, 0, 0, 0, condition << 4, 0]).check(), cdb_field(4, 7));
    }
    assert_eq!(disk.write(&[0x1d, 0x10, 0, 0, 8, 0], &[0; 8]).check(), cdb_field(3, 7));
    for test in [3, 7] {
        assert_eq!(disk.none(&[0x1d, test << 5, 0, 0, 0, 0]).check(), cdb_field(1, 7), "{test}");
    }
}

#[test]
fn reads_and_writes_at_the_edges() {
    let disk = numbered(300);
    let data = vec![0xa5; 2 * 512];
    for (read, write) in READS.into_iter().zip(WRITES) {
        for first in [0, 1, 298] {
            let before = disk.host.content.borrow().clone();
            let reply = disk.read(&blocks_cdb(read, 0, first, 2), 1024);
            assert_eq!(reply.good(), before[512 * first as usize..][..1024]);
            let reply = disk.write(&blocks_cdb(write, 0, first, 2), &data);
            assert_eq!((reply.resid, reply.good()), (0, vec![]));
            let mut expected = before.clone();
            expected[512 * first as usize..][..1024].copy_from_slice(&data);
            assert!(*disk.host.content.borrow() == expected);
            *disk.host.content.borrow_mut() = before;
        }
        for (first, blocks) in [(299, 2), (300, 1), (301, 1), (0, 301), (0x1f_ffff, 1)] {
            if blocks > 255 && read == 0x08 {
                continue;
            }
            assert_check(
                &disk.read(&blocks_cdb(read, 0, first, blocks), 1024),
                LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE,
            );
            assert_check(
                &disk.write(&blocks_cdb(write, 0, first, blocks), &data),
                LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE,
            );
        }
    }
    assert!(*disk.host.content.borrow() == *numbered(300).host.content.borrow());
}

/// Every command with an address of 8 bytes and a number of blocks.
const LONG: [u8; 9] = [0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91, 0x93];

#[test]
fn addresses_do_not_overflow() {
    let disk = numbered(16);
    let mut small = sized(u64::MAX);
    small.entry = "/x=scsi,sector=4096";
    for code in LONG {
        for first in [17, 1 << 32, 1 << 54, 1 << 55, 1 << 56, 1 << 63, u64::MAX - 1, u64::MAX] {
            for blocks in [0, 1, 2, 255] {
                let cdb = blocks_cdb(code, 0, first, blocks);
                let reply = disk.write(&cdb, &[0; 512]);
                assert_check(&reply, LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
                if first >= 1 << 55 {
                    assert_check(&small.write(&cdb, &[0; 512]), LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
                }
            }
        }
        let cdb = blocks_cdb(code, 0, u64::MAX - 0xff, 0x100);
        assert_check(&disk.write(&cdb, &[0; 512]), LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
    }
    for first in [16, 17, u64::MAX] {
        let reply = disk.read(&service_action_in(0x12, first, 24), 24);
        assert_check(&reply, LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
    }
    for code in [0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x41, 0xa8, 0xaa, 0xae, 0xaf] {
        for (first, blocks) in [(17, 0), (16, 1), (u32::MAX.into(), 0), (u32::MAX.into(), 1), (1 << 31, 0)] {
            assert_check(
                &disk.write(&blocks_cdb(code, 0, first, blocks), &[0; 512]),
                LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE,
            );
        }
    }
}

#[test]
fn no_blocks_are_no_error() {
    let disk = numbered(16);
    for first in [0, 15, 16] {
        for code in
            [0x28, 0x2a, 0x2e, 0x2f, 0x34, 0xa8, 0xaa, 0xae, 0xaf, 0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90]
        {
            assert_eq!(disk.none(&blocks_cdb(code, 0, first, 0)).good(), [], "{code:02x}");
        }
        for code in [0x2e, 0x2f, 0xae, 0xaf, 0x8e, 0x8f] {
            disk.none(&blocks_cdb(code, 0x02, first, 0)).good();
        }
    }
    assert!(*disk.host.content.borrow() == *numbered(16).host.content.borrow());
    // But to a command of 6 bytes, 0 is 256.
    let disk = numbered(300);
    assert_eq!(disk.read(&blocks_cdb(0x08, 0, 44, 0), 256 * 512).good().len(), 256 * 512);
    assert_check(&disk.read(&blocks_cdb(0x08, 0, 45, 0), 256 * 512), LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
    disk.write(&blocks_cdb(0x0a, 0, 44, 0), &[9; 256 * 512]).good();
    assert_eq!((block(&disk, 43), block(&disk, 44)), (vec![43; 512], vec![9; 512]));
}

#[test]
fn wrong_amounts_of_data() {
    let disk = numbered(16);
    let outs = [0x2a, 0xaa, 0x8a, 0x8b, 0x2e, 0xae, 0x8e];
    let bad = |reply: Reply| {
        assert_eq!((reply.status, reply.host_status, reply.resid), (0, ERROR, 0));
    };
    for code in outs {
        for length in [0, 1, 511, 512, 1023] {
            bad(disk.write(&blocks_cdb(code, 0, 3, 2), &vec![7; length]));
        }
        bad(disk.read(&blocks_cdb(code, 0, 3, 2), 1024));
        bad(disk.none(&blocks_cdb(code, 0, 3, 2)));
        assert_eq!(disk.host.changed.get(), None, "{code:02x}");
        let reply = disk.write(&blocks_cdb(code, 0, 3, 2), &[3; 1024 + 100]);
        assert_eq!(reply.resid, 100, "{code:02x}");
        reply.good();
        disk.host.changed.set(None);
    }
    for code in [0x28, 0xa8, 0x88] {
        for length in [0, 1, 511, 512, 1023] {
            bad(disk.read(&blocks_cdb(code, 0, 3, 2), length));
        }
        bad(disk.write(&blocks_cdb(code, 0, 3, 2), &[0; 1024]));
        bad(disk.none(&blocks_cdb(code, 0, 3, 2)));
        assert_eq!(disk.read(&blocks_cdb(code, 0, 3, 2), 1024 + 100).resid, 100);
    }
    for length in [0, 512, 1023] {
        bad(disk.write(&blocks_cdb(0x89, 0, 3, 1), &vec![3; length]));
    }
    for (code, flags) in [(0x2f, 0x02), (0xaf, 0x02), (0x8f, 0x02)] {
        bad(disk.write(&blocks_cdb(code, flags, 3, 2), &[3; 512]));
    }
    for length in [0, 8, 23] {
        bad(disk.write(&unmap_cdb(24), &vec![0; length]));
    }
    bad(disk.write(&[0x15, 0x10, 0, 0, 16, 0], &[0; 15]));
    bad(disk.write(&[0x12, 0, 0, 0, 96, 0], &[0; 96]));
}

const VERIFIES: [u8; 3] = [0x2f, 0xaf, 0x8f];

#[test]
fn verify() {
    let disk = numbered(16);
    let three: Vec<u8> = (4..7).flat_map(|block| [block; 512]).collect();
    for code in VERIFIES {
        // Nothing is compared, and there is no data.
        disk.none(&blocks_cdb(code, 0, 4, 3)).good();
        let reply = disk.write(&blocks_cdb(code, 0x02, 4, 3), &three);
        assert_eq!((reply.resid, reply.good()), (0, vec![]));
        for place in [0, 511, 512, 1535] {
            let mut other = three.clone();
            other[place] ^= 1;
            let found = disk.write(&blocks_cdb(code, 0x02, 4, 3), &other).check();
            assert_eq!(found, MISCOMPARE_DURING_VERIFY_OPERATION.with_information(4 + place as u64 / 512));
        }
        assert_eq!(disk.write(&blocks_cdb(code, 0x04, 4, 3), &three).check(), cdb_field(1, 2));
        // One block is compared with each.
        let reply = disk.write(&blocks_cdb(code, 0x06, 4, 1), &three[..512]);
        assert_eq!((reply.resid, reply.good()), (0, vec![]));
        let found = disk.write(&blocks_cdb(code, 0x06, 4, 2), &three[..512]).check();
        assert_eq!(found, MISCOMPARE_DURING_VERIFY_OPERATION.with_information(5));
        disk.none(&blocks_cdb(code, 0x06, 4, 0)).good();
        // DPO
        disk.none(&blocks_cdb(code, 0x10, 4, 3)).good();
    }
    assert_eq!(disk.host.changed.get(), None);
    disk.host.content.borrow_mut()[512 * 8..512 * 12].fill(0x33);
    for code in VERIFIES {
        disk.write(&blocks_cdb(code, 0x06, 8, 4), &[0x33; 512]).good();
    }
}

#[test]
fn verify_of_much() {
    let disk = numbered(1200);
    let all = disk.host.content.borrow().clone();
    disk.write(&blocks_cdb(0x2f, 0x02, 0, 1200), &all).good();
    let mut other = all.clone();
    other[512 * 1199 + 511] ^= 0x80;
    let found = disk.write(&blocks_cdb(0x2f, 0x02, 0, 1200), &other).check();
    assert_eq!(found, MISCOMPARE_DURING_VERIFY_OPERATION.with_information(1199));
    disk.none(&blocks_cdb(0x2f, 0, 0, 1200)).good();
}

#[test]
fn write_and_verify() {
    for code in [0x2e, 0xae, 0x8e] {
        for flags in [0x00, 0x02, 0x10, 0x12] {
            let disk = numbered(16);
            let reply = disk.write(&blocks_cdb(code, flags, 4, 2), &[0x77; 1024]);
            assert_eq!((reply.resid, reply.good()), (0, vec![]));
            assert_eq!(disk.host.changed.get(), Some(("durable write", 2048, 1024)));
            assert_eq!(
                (block(&disk, 3), block(&disk, 5), block(&disk, 6)),
                (vec![3; 512], vec![0x77; 512], vec![6; 512])
            );
        }
        let disk = numbered(16);
        for flags in [0x04, 0x06] {
            assert_eq!(disk.write(&blocks_cdb(code, flags, 4, 2), &[0; 1024]).check(), cdb_field(1, 2));
        }
        assert_eq!(disk.host.changed.get(), None);
    }
}

#[test]
fn compare_and_write() {
    let disk = numbered(600);
    for blocks in [1, 2, 255] {
        let old = disk.host.content.borrow()[512 * 100..][..512 * blocks].to_vec();
        let new = vec![blocks as u8 ^ 0x5a; 512 * blocks];
        let cdb = blocks_cdb(0x89, 0, 100, blocks as u64);
        for place in [0, 511, 512 * blocks - 1] {
            let mut other = old.clone();
            other[place] ^= 0x40;
            let found = disk.write(&cdb, &[&other[..], &new].concat()).check();
            assert_eq!(found, MISCOMPARE_DURING_VERIFY_OPERATION.with_information(place as u64));
            assert_eq!(disk.host.changed.get(), None);
        }
        let reply = disk.write(&cdb, &[&old[..], &new].concat());
        assert_eq!((reply.resid, reply.good()), (0, vec![]));
        assert!(disk.host.content.borrow()[512 * 100..][..512 * blocks] == new);
        assert_eq!(block(&disk, 99), vec![99; 512]);
        assert_eq!(block(&disk, 100 + blocks), vec![(100 + blocks) as u8; 512]);
        disk.host.changed.set(None);
    }
}

#[test]
fn or_write() {
    let disk = numbered(600);
    let reply = disk.write(&blocks_cdb(0x8b, 0, 2, 2), &[0x50; 1024]);
    assert_eq!((reply.resid, reply.good()), (0, vec![]));
    assert_eq!((block(&disk, 1), block(&disk, 2)), (vec![1; 512], vec![0x52; 512]));
    assert_eq!((block(&disk, 3), block(&disk, 4)), (vec![0x53; 512], vec![4; 512]));
    // More than is worked on at once.
    let disk = numbered(1200);
    disk.write(&blocks_cdb(0x8b, 0, 0, 1200), &[0x80; 1200 * 512]).good();
    for number in 0..1200 {
        assert_eq!(block(&disk, number), [number as u8 | 0x80; 512]);
    }
}

const UNMAP: u8 = 0x08;
const ANCHOR: u8 = 0x10;
const NDOB: u8 = 0x01;

#[test]
fn write_atomic() {
    let disk = numbered(64);
    let data: Vec<u8> = (0..16 * 512).map(|at| (at / 7) as u8).collect();
    for (first, blocks) in [(0, 2), (2, 2), (62, 2), (4, 4), (60, 4), (8, 8), (16, 16), (48, 16)] {
        let part = &data[..512 * blocks];
        let reply = disk.write(&blocks_cdb(0x9c, 0, first, blocks as u64), part);
        assert_eq!((reply.resid, reply.good().len()), (0, 0));
        assert!(disk.host.content.borrow()[512 * first as usize..].starts_with(part), "{blocks} at {first}");
        let change = ("atomic write", 512 * first, part.len() as u64);
        assert_eq!(disk.host.changed.take(), Some(change));
    }
    // In pieces in the caller's memory.
    let cdb = blocks_cdb(0x9c, 0, 4, 4);
    disk.list(&cdb, TO_DEV, &[1, 700, 0, 1347], &data[..2048]).good();
    assert_eq!(disk.host.changed.take(), Some(("atomic write", 2048, 2048)));
    assert_eq!(disk.host.content.borrow()[2048..4096], data[..2048]);
    // None at all.
    for first in [0, 1, 63, 64] {
        disk.none(&blocks_cdb(0x9c, 0, first, 0)).good();
    }
    // Lengths that it does not have; addresses that do not go with the length.
    for blocks in [1, 3, 5, 6, 7, 9, 12, 15, 17, 24, 32, 48] {
        let reply = disk.write(&blocks_cdb(0x9c, 0, 0, blocks), &vec![0; 512 * blocks as usize]);
        assert_eq!(reply.check(), cdb_field(12, 7), "{blocks}");
    }
    for (first, blocks) in [(1, 2), (61, 2), (2, 4), (4, 8), (8, 16), (24, 16)] {
        let reply = disk.write(&blocks_cdb(0x9c, 0, first, blocks), &vec![0; 512 * blocks as usize]);
        assert_eq!(reply.check(), cdb_field(2, 7), "{blocks} at {first}");
    }
    // That the blocks exist comes first, whatever their number.
    for (first, blocks) in [(63, 2), (64, 1), (61, 5), (65, 0), (1 << 63, 3), (u64::MAX, 1), (u64::MAX, 0)] {
        let reply = disk.write(&blocks_cdb(0x9c, 0, first, blocks), &vec![0; 512 * blocks as usize]);
        assert_check(&reply, LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
    }
    // ATOMIC BOUNDARY, for there are no boundaries.
    let mut cdb = blocks_cdb(0x9c, 0, 0, 2);
    cdb[11] = 2;
    assert_eq!(disk.write(&cdb, &[0; 1024]).check(), cdb_field(11, 1));
    // Too little data.
    let reply = disk.write(&blocks_cdb(0x9c, 0, 0, 2), &[0; 1023]);
    assert_eq!((reply.status, reply.host_status), (0, ERROR));
    assert_eq!(disk.host.changed.get(), None);
}

#[test]
fn write_atomic_is_on_the_medium_when_it_must_be() {
    const FUA: u8 = 0x08;
    const DPO: u8 = 0x10;
    let cases = [(true, DPO, false), (true, DPO | FUA, true), (false, 0, true), (false, FUA, true)];
    for (wce, flags, durable) in cases {
        let disk = numbered(16);
        switch(&disk, WCE.0, WCE.1, WCE.2, wce);
        disk.write(&blocks_cdb(0x9c, flags, 2, 2), &[0x11; 1024]).good();
        let what = if durable { "durable atomic write" } else { "atomic write" };
        assert_eq!(disk.host.changed.get(), Some((what, 1024, 1024)));
    }
}

/// The backing device does not say that it can.
#[test]
fn disks_without_atomic_writes_say_so_everywhere() {
    // All of them are shorter than a block, too.
    for (atomic, entry) in [(None, "/x=scsi"), (Some((512, 2048)), "/x=scsi,sector=4096")] {
        let mut disk = Disk { entry, ..numbered(64) };
        disk.host.atomic = atomic;
        for (first, blocks) in [(0, 2), (0, 0), (u64::MAX, 2)] {
            let reply = disk.write(&blocks_cdb(0x9c, 0, first, blocks), &vec![0; 512 * blocks as usize]);
            assert_check(&reply, INVALID_COMMAND_OPERATION_CODE);
        }
        for options in [1, 3, 0x81, 0x83] {
            assert_eq!(disk.read(&report_codes(options, 0x9c, 0, 512), 512).good(), [0, 1, 0, 0]);
        }
        assert!(all_codes(&disk, false).iter().all(|row| row.0 != 0x9c));
        assert_eq!(Limits::of(&disk).atomic, [0; 5]);
        assert_eq!(disk.host.changed.get(), None);
    }
}

#[test]
fn write_same() {
    for code in [0x41, 0x93] {
        for (flags, pattern, change, content) in [
            (0, [0x66; 512], ("write", 512 * 4, 512 * 3), 0x66),
            (0, [0; 512], ("zero", 512 * 4, 512 * 3), 0),
            (UNMAP, [0; 512], ("discard", 512 * 4, 512 * 3), 0),
            // SBC-3, 4.7.3.4.4 b): what reads as something else than zeros afterwards is written.
            (UNMAP, [0xff; 512], ("write", 512 * 4, 512 * 3), 0xff),
        ] {
            let disk = numbered(16);
            let reply = disk.write(&blocks_cdb(code, flags, 4, 3), &pattern);
            assert_eq!((reply.resid, reply.good()), (0, vec![]));
            assert_eq!(disk.host.changed.get(), Some(change));
            assert_eq!((block(&disk, 3), block(&disk, 7)), (vec![3; 512], vec![7; 512]));
            assert_eq!((block(&disk, 4), block(&disk, 6)), (vec![content; 512], vec![content; 512]));
        }
        let disk = numbered(16);
        // To the end.
        disk.write(&blocks_cdb(code, 0, 14, 0), &[0x44; 512]).good();
        assert_eq!((block(&disk, 13), block(&disk, 15)), (vec![13; 512], vec![0x44; 512]));
        disk.write(&blocks_cdb(code, UNMAP, 13, 0), &[0; 512]).good();
        assert_eq!((block(&disk, 12), block(&disk, 15)), (vec![12; 512], vec![0; 512]));
        // Nothing is left behind the end.
        disk.write(&blocks_cdb(code, 0, 16, 0), &[0x44; 512]).good();
        for flags in [ANCHOR, ANCHOR | UNMAP] {
            assert_eq!(disk.write(&blocks_cdb(code, flags, 0, 1), &[0; 512]).check(), cdb_field(1, 4));
        }
        // A pattern that is no block.
        for length in [1, 256, 511, 513, 1024] {
            let reply = disk.write(&blocks_cdb(code, UNMAP, 0, 1), &vec![0; length]);
            assert_eq!((reply.check().key, block(&disk, 0)), (5, vec![0; 512]));
        }
    }
}

#[test]
fn write_same_without_data() {
    for flags in [NDOB, NDOB | UNMAP] {
        let disk = numbered(16);
        disk.none(&blocks_cdb(0x93, flags, 4, 3)).good();
        assert_eq!(
            (block(&disk, 3), block(&disk, 4), block(&disk, 7)),
            (vec![3; 512], vec![0; 512], vec![7; 512])
        );
    }
    let disk = numbered(16);
    assert_eq!(disk.none(&blocks_cdb(0x41, NDOB, 4, 3)).check(), cdb_field(1, 0));
}

#[test]
fn write_same_knows_its_limit() {
    let disk = Disk::new(vec![1; 512 * 65537]);
    for (code, field) in [(0x41, 7), (0x93, 10)] {
        for first in [0, 1] {
            let reply = disk.write(&blocks_cdb(code, 0, first, 0), &[5; 512]);
            assert_eq!(reply.check(), cdb_field(field, 7));
        }
        disk.write(&blocks_cdb(code, 0, 2, 0), &[code; 512]).good();
        assert_eq!((block(&disk, 1), block(&disk, 65536)), (vec![1; 512], vec![code; 512]));
        disk.write(&blocks_cdb(code, UNMAP, 2, 65535), &[0; 512]).good();
        assert_eq!(block(&disk, 65536), vec![0; 512]);
    }
    assert_eq!(disk.write(&blocks_cdb(0x93, 0, 0, 65536), &[5; 512]).check(), cdb_field(10, 7));
    assert_eq!(disk.none(&blocks_cdb(0x93, NDOB | UNMAP, 0, 65536)).check(), cdb_field(10, 7));
    assert_check(&disk.write(&blocks_cdb(0x93, 0, 2, 65536), &[5; 512]), LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
}

#[test]
fn unmap_of_several_ranges() {
    let disk = numbered(32);
    let (cdb, list) = unmap(&[(2, 3), (9, 0), (31, 1), (3, 4), (32, 0)]);
    let reply = disk.write(&cdb, &list);
    assert_eq!((reply.resid, reply.good()), (0, vec![]));
    for number in 0..32 {
        let gone = (2..7).contains(&number) || number == 31;
        assert_eq!(block(&disk, number), [if gone { 0 } else { number as u8 }; 512]);
    }
    // As many as there may be.
    let ranges: Vec<_> = (0..256).map(|range| (range % 32, 1)).collect();
    let (cdb, list) = unmap(&ranges);
    disk.write(&cdb, &list).good();
    assert!(disk.host.content.borrow().iter().all(|&byte| byte == 0));
}

#[test]
fn unmap_of_nothing() {
    let disk = numbered(32);
    for (cdb, list) in [unmap(&[]), unmap(&[(0, 0)]), unmap(&[(32, 0)]), (unmap_cdb(0), vec![])] {
        disk.write(&cdb, &list).good();
    }
    // A descriptor that is not all there is passed over (SBC-3, 5.28.2).
    let (_, mut list) = unmap(&[(5, 1)]);
    list[3] = 15;
    disk.write(&unmap_cdb(24), &list).good();
    // Only what the list says of itself counts.
    list[3] = 0;
    disk.write(&unmap_cdb(24), &list).good();
    // And only what the command says of it, whatever stands behind it.
    let (_, list) = unmap(&[(5, 0), (6, 1)]);
    disk.write(&unmap_cdb(24), &list).good();
    assert_eq!(disk.host.changed.get(), None);
}

#[test]
fn unmap_refuses() {
    let disk = numbered(32);
    for length in 1..8 {
        assert_check(&disk.write(&unmap_cdb(length), &vec![0; length.into()]), PARAMETER_LIST_LENGTH_ERROR);
    }
    // ANCHOR
    let (mut cdb, list) = unmap(&[(5, 1)]);
    cdb[1] = 1;
    assert_eq!(disk.write(&cdb, &list).check(), cdb_field(1, 0));
    for range in [(32, 1), (31, 2), (33, 0), (u64::MAX, 1), (u64::MAX - 1, 1), (1 << 63, 1), (0, u32::MAX)] {
        // Nothing of the list is done.
        let (cdb, list) = unmap(&[(5, 1), range]);
        assert_check(&disk.write(&cdb, &list), LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
    }
    let (cdb, list) = unmap(&[(0, 0); 257]);
    assert_eq!(disk.write(&cdb, &list).check(), list_field(2, 7));
    assert_eq!(disk.host.changed.get(), None);

    let disk = sized(1 << 40);
    let (cdb, list) = unmap(&[(0, 1 << 20)]);
    disk.write(&cdb, &list).good();
    disk.host.changed.set(None);
    let (cdb, list) = unmap(&[(0, 1 << 19), (0, 1 << 19), (7, 1)]);
    assert_eq!(disk.write(&cdb, &list).check(), list_field(8 + 32 + 8, 7));
    assert_eq!(disk.host.changed.get(), None);
}

fn lba_status(disk: &Disk, first: u64, length: u32) -> Vec<(u64, u32, u8)> {
    let reply = disk.read(&service_action_in(0x12, first, length), length as usize).good();
    let (header, list) = reply.split_at(8);
    assert_eq!(header, [&(list.len() as u32 + 4).to_be_bytes()[..], &[0; 4]].concat());
    list.chunks(16)
        .map(|part| {
            assert_eq!(part[13..], [0; 3]);
            let number = |part: &[u8]| part.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
            (number(&part[..8]), number(&part[8..12]) as u32, part[12])
        })
        .collect()
}

#[test]
fn get_lba_status() {
    let mut disk = numbered(64);
    assert_eq!(lba_status(&disk, 0, 24), [(0, 64, 0)]);
    assert_eq!(lba_status(&disk, 63, 24), [(63, 1, 0)]);
    // 4 KiB and 16 KiB without space; and what does not begin and end with a block.
    disk.host.holes = vec![4096..8192, 12800..13000, 16384..32768];
    let all = [(0, 8, 0), (8, 8, 1), (16, 9, 0), (25, 1, 0), (26, 6, 0), (32, 32, 1)];
    let merged = |list: &[(u64, u32, u8)]| {
        let mut out: Vec<(u64, u32, u8)> = Vec::new();
        for &(first, blocks, status) in list {
            match out.last_mut() {
                Some(last) if last.2 == status => last.1 += blocks,
                _ => out.push((first, blocks, status)),
            }
        }
        out
    };
    assert_eq!(merged(&lba_status(&disk, 0, 4096)), merged(&all));
    assert_eq!(lba_status(&disk, 0, 24), [(0, 8, 0)]);
    assert_eq!(lba_status(&disk, 0, 40), [(0, 8, 0), (8, 8, 1)]);
    assert_eq!(lba_status(&disk, 10, 24), [(10, 6, 1)]);
    assert_eq!(lba_status(&disk, 33, 24), [(33, 31, 1)]);
    let large = sized(1 << 45);
    assert_eq!(lba_status(&large, 5, 24), [(5, u32::MAX, 0)]);
}

#[test]
fn pre_fetch_and_synchronize_cache() {
    let disk = numbered(16);
    for code in [0x34, 0x90] {
        for flags in [0, 0x02] {
            disk.none(&blocks_cdb(code, flags, 3, 2)).good();
        }
    }
    assert_eq!(disk.host.synced.get(), 0);
    let mut times = 0;
    for code in [0x35, 0x91] {
        for (flags, first, blocks) in [(0, 0, 0), (0x02, 0, 0), (0, 3, 2), (0, 16, 0)] {
            disk.none(&blocks_cdb(code, flags, first, blocks)).good();
            times += 1;
            assert_eq!(disk.host.synced.get(), times);
        }
    }
}

#[test]
fn what_must_be_on_the_medium_is() {
    let fua = 0x08;
    for (wce, flags, what) in [
        (true, 0, "write"),
        (true, fua, "durable write"),
        (false, 0, "durable write"),
        (false, fua, "durable write"),
    ] {
        for picky in [false, true] {
            let mut disk = numbered(16);
            disk.host.picky = picky;
            switch(&disk, WCE.0, WCE.1, WCE.2, wce);
            for code in [0x2a, 0xaa, 0x8a, 0x8b] {
                // What is picky does not take this list.
                disk.list(&blocks_cdb(code, flags, 1, 1), TO_DEV, &[11, 501], &[0x11; 512]).good();
                assert_eq!(disk.host.changed.get(), Some((what, 512, 512)), "{code:02x}");
            }
            disk.write(&blocks_cdb(0x89, flags, 1, 1), &[0x11; 1024]).good();
            assert_eq!(disk.host.changed.get(), Some((what, 512, 512)));
            assert_eq!(disk.host.synced.get(), 0);
            // What writes many blocks writes the cache afterwards.
            for (code, flags, pattern) in [(0x41, 0, 3), (0x41, 0, 0), (0x93, UNMAP, 0)] {
                disk.host.synced.set(0);
                disk.write(&blocks_cdb(code, flags, 1, 2), &[pattern; 512]).good();
                assert_eq!(disk.host.synced.get(), u32::from(!wce));
            }
        }
    }
    // A command of 6 bytes has no FUA: its byte 1 is part of the address.
    let disk = numbered(0x1000);
    disk.write(&blocks_cdb(0x0a, 0, 0x800, 1), &[1; 512]).good();
    assert_eq!(disk.host.changed.get(), Some(("write", 0x800 * 512, 512)));
    // A read with FUA is of the medium.
    for (flags, times) in [(0, 0), (fua, 1)] {
        disk.read(&blocks_cdb(0x28, flags, 0, 1), 512).good();
        assert_eq!(disk.host.synced.get(), times);
    }
}

/// Every command that changes the disk.
fn writing() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut commands = Vec::new();
    for code in [0x0a, 0x2a, 0xaa, 0x8a, 0x8b, 0x2e, 0xae, 0x8e, 0x41, 0x93] {
        commands.push((blocks_cdb(code, 0, 3, 1), vec![7; 512]));
    }
    for code in [0x41, 0x93] {
        commands.push((blocks_cdb(code, UNMAP, 3, 1), vec![0; 512]));
        // libiscsi asks without the data.
        commands.push((blocks_cdb(code, UNMAP, 3, 1), vec![]));
    }
    commands.push((blocks_cdb(0x93, NDOB, 3, 1), vec![]));
    commands.push((blocks_cdb(0x89, 0, 3, 1), [[3; 512], [7; 512]].concat()));
    commands.push((blocks_cdb(0x9c, 0, 2, 2), vec![7; 1024]));
    commands.push(unmap(&[(3, 1)]));
    commands
}

#[test]
fn write_protection() {
    let by_switch = numbered(16);
    switch(&by_switch, SWP.0, SWP.1, SWP.2, true);
    let by_entry = Disk { entry: "/x=scsi,ro", ..numbered(16) };
    let mut by_device = numbered(16);
    by_device.host.read_only = true;
    for disk in [&by_switch, &by_entry, &by_device] {
        for (cdb, data) in writing() {
            assert_check(&disk.write(&cdb, &data), WRITE_PROTECTED);
        }
        assert_eq!(disk.host.changed.get(), None);
        assert_eq!(disk.read(&blocks_cdb(0x28, 0, 3, 1), 512).good(), [3; 512]);
        disk.write(&blocks_cdb(0x2f, 0x02, 3, 1), &[3; 512]).good();
        for code in [0x35, 0x91] {
            disk.none(&blocks_cdb(code, 0, 0, 0)).good();
        }
        disk.none(&[0x1b, 0, 0, 0, 0, 0]).good();
        assert_eq!(disk.host.synced.get(), 0, "there is nothing to be written");
        assert_eq!(disk.read(&mode_sense_6(CURRENT, 0x0a, 0), 255).good()[2], 0x90);
        assert_eq!(disk.read(&mode_sense_10(0, CURRENT, 0x0a, 0), 255).good()[3], 0x90);
    }
    switch(&by_switch, SWP.0, SWP.1, SWP.2, false);
    by_switch.write(&blocks_cdb(0x2a, 0, 3, 1), &[7; 512]).good();
}

#[test]
fn growth_is_said_once() {
    let mut disk = numbered(16);
    disk.none(&[0; 6]).good();
    let grow = |disk: &mut Disk| disk.host.bytes += 512;
    for cdb in [&blocks_cdb(0x28, 0, 0, 1)[..], &READ_CAPACITY_10, &[0; 6], &service_action_in(0x10, 0, 32)] {
        grow(&mut disk);
        // Neither says it nor takes it away.
        disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good();
        disk.read(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], 16).good();
        assert_check(&disk.none(&[0xc0; 10]), INVALID_COMMAND_OPERATION_CODE);
        assert_check(&disk.read(cdb, 512), CAPACITY_DATA_HAS_CHANGED);
        disk.read(cdb, 512).good();
    }
    // REQUEST SENSE brings it.
    grow(&mut disk);
    let brought = disk.read(&[0x03, 0, 0, 0, 252, 0], 252).good();
    assert_eq!(parse_sense(&brought), CAPACITY_DATA_HAS_CHANGED);
    disk.none(&[0; 6]).good();
    grow(&mut disk);
    let brought = disk.read(&[0x03, 1, 0, 0, 252, 0], 252).good();
    assert_eq!(brought, [0x72, 6, 0x2a, 9, 0, 0, 0, 0]);
    disk.none(&[0; 6]).good();
    // A change before the first command that says it is none.
    let mut fresh = numbered(16);
    fresh.read(&[0x12, 0, 0, 0, 96, 0], 96).good();
    grow(&mut fresh);
    fresh.none(&[0; 6]).good();
}

/// A unit attention is established for every I_T nexus, and cleared for the one that it was reported to (SAM-5, 5.14);
/// settings are those of the logical unit.
#[test]
fn each_nexus_has_its_own_unit_attention() {
    let mut disk = numbered(16);
    let mut other = Nexus::default();
    disk.none(&[0; 6]).good();
    swap(&mut disk.nexus, &mut other);
    disk.none(&[0; 6]).good();
    disk.disable_write_cache();
    disk.host.bytes += 512;
    for _ in 0..2 {
        swap(&mut disk.nexus, &mut other);
        assert_check(&disk.none(&[0; 6]), CAPACITY_DATA_HAS_CHANGED);
        disk.none(&[0; 6]).good();
        let caching = disk.read(&[0x1a, 0x08, 0x08, 0, 255, 0], 255).good();
        assert_eq!(caching[6] & 0x04, 0, "the write cache is off for both");
    }
}

/// READ CAPACITY, byte for byte, and the first byte of block 3.
#[track_caller]
fn seen(disk: &Disk) -> (u32, u8) {
    let capacity = disk.read(&READ_CAPACITY_10, 8).good();
    let length = u32::from_be_bytes([capacity[4], capacity[5], capacity[6], capacity[7]]);
    (length, disk.read(&blocks_cdb(0x28, 0, 3, 1), length as usize).good()[0])
}

/// One entry can have several devices behind it, and a device can be given other blocks: each is asked, even where all are
/// of the same size.
#[test]
fn blocks_of_another_length() {
    let mut disk = numbered(64);
    assert_eq!(seen(&disk), (512, 3));
    for (logical, identity, expected) in [(4096, 2, (4096, 24)), (512, 1, (512, 3)), (4096, 1, (4096, 24))] {
        (disk.host.logical, disk.host.identity) = (logical, identity);
        assert_check(&disk.none(&[0; 6]), CAPACITY_DATA_HAS_CHANGED);
        assert_eq!(seen(&disk), expected);
        disk.none(&[0; 6]).good();
    }
    // The first command that one hears of the other device reads no block of the wrong length.
    (disk.host.logical, disk.host.identity) = (512, 3);
    assert_check(&disk.read(&blocks_cdb(0x28, 0, 3, 1), 512), CAPACITY_DATA_HAS_CHANGED);
    assert_eq!(disk.read(&blocks_cdb(0x28, 0, 3, 1), 512).good(), [3; 512]);
    // INQUIRY tells of nothing, and takes nothing away.
    disk.host.logical = 4096;
    disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good();
    assert_check(&disk.read(&blocks_cdb(0x28, 0, 3, 1), 4096), CAPACITY_DATA_HAS_CHANGED);
    // Another device that is alike is no change.
    disk.host.identity = 4;
    assert_eq!(seen(&disk), (4096, 24));
}

/// No blocks, or less than one: NOT READY, MEDIUM NOT PRESENT, for what needs some.
#[test]
fn a_device_without_blocks() {
    for (entry, bytes) in [("/x=scsi", 0), ("/x=sata", 511), ("/x=scsi,sector=4096", 4095)] {
        let mut disk = Disk { entry, ..sized(bytes) };
        let needs: [&[u8]; 14] = [
            &[0; 6],
            &READ_CAPACITY_10,
            &service_action_in(0x10, 0, 32),
            &service_action_in(0x12, 0, 32),
            &blocks_cdb(0x08, 0, 0, 1),
            &blocks_cdb(0x28, 0, 0, 0),
            &blocks_cdb(0x88, 0, u64::MAX, 1),
            &blocks_cdb(0x2a, 0, 0, 1),
            &blocks_cdb(0x2f, 0, 0, 0),
            &blocks_cdb(0x35, 0, 0, 0),
            &blocks_cdb(0x41, 0, 0, 1),
            &blocks_cdb(0x89, 0, 0, 0),
            &[0x2b, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &unmap_cdb(0),
        ];
        for cdb in needs {
            assert_check(&disk.read(cdb, 4096), MEDIUM_NOT_PRESENT);
        }
        // What is wrong with a command by itself is said first.
        assert_check(&disk.none(&[0xc0; 10]), INVALID_COMMAND_OPERATION_CODE);
        assert_eq!(disk.none(&[0, 0, 0, 0, 0, 1]).check(), cdb_field(5, 0));
        assert_eq!(disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good()[0], 0);
        disk.read(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], 16).good();
        assert_eq!(disk.read(&[0x03, 0, 0, 0, 18, 0], 18).good()[2], 0);
        assert_eq!(disk.read(&[0x1a, 0, 0x0a, 0, 12, 0], 12).good()[3..8], [8, 0, 0, 0, 0]);
        for cdb in [&log_sense(0, 0, 0)[..], &report_codes(0, 0, 0, 512)] {
            disk.read(cdb, 512).good();
        }
        disk.none(&[0x1b, 0, 0, 0, 1, 0]).good();
        // Blocks: as from a disk that has been given a medium.
        let length = if entry.ends_with("4096") { 4096 } else { 512 };
        for cdb in [&READ_CAPACITY_10[..], &blocks_cdb(0x28, 0, 0, 1), &[0; 6]] {
            disk.host.bytes = 8 * length;
            disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good();
            assert_check(&disk.read(cdb, 4096), NOT_READY_TO_READY_CHANGE);
            disk.none(&[0; 6]).good();
            disk.host.bytes = 0;
            // None any more.
            assert_check(&disk.none(&[0; 6]), MEDIUM_NOT_PRESENT);
            assert_check(&disk.none(&[0; 6]), MEDIUM_NOT_PRESENT);
        }
        disk.host.bytes = 8 * length;
        let brought = disk.read(&[0x03, 0, 0, 0, 252, 0], 252).good();
        assert_eq!(parse_sense(&brought), NOT_READY_TO_READY_CHANGE);
        disk.none(&[0; 6]).good();
        assert_eq!(disk.host.changed.get(), None);
    }
}

/// What changes the capacity is the number of blocks.
#[test]
fn growth_of_less_than_a_block_is_none() {
    let mut disk = numbered(16);
    disk.none(&[0; 6]).good();
    disk.host.bytes += 511;
    disk.none(&[0; 6]).good();
    disk.host.bytes += 1;
    assert_check(&disk.none(&[0; 6]), CAPACITY_DATA_HAS_CHANGED);
}

#[test]
fn the_order_of_checks() {
    let disk = numbered(16);
    let bad = 8;
    let right = sg_io_hdr(6, FROM_DEV, 96);
    let refused = |header: SgIoHdr, errno| {
        let reply = disk.try_send(&[0x12, 0, 0, 0, 96, 0], &header);
        assert_eq!(reply, Err(errno), "{header:?}");
    };
    // Each is wrong in all that is looked at later, too.
    let no_cdb = SgIoHdr { cmdp: bad, dxferp: bad, sbp: bad, iovec_count: 1025, ..right };
    refused(no_cdb, Errno::EFAULT);
    let short = SgIoHdr { cmd_len: 5, ..no_cdb };
    refused(short, Errno::EMSGSIZE);
    let long = SgIoHdr { cmd_len: 33, ..short };
    refused(long, Errno::EINVAL);
    let nowhere = SgIoHdr { dxfer_direction: 0, ..long };
    refused(nowhere, Errno::EINVAL);
    let much = SgIoHdr { dxfer_len: (4 << 20) + 1, ..nowhere };
    refused(much, Errno::EIO);
    refused(SgIoHdr { interface_id: i32::from(b'Q'), ..much }, Errno::EINVAL);

    for direction in [-5, 0, 1, i32::MIN, NONE] {
        refused(SgIoHdr { dxfer_direction: direction, ..right }, Errno::EINVAL);
    }
    refused(SgIoHdr { cmd_len: 0, ..right }, Errno::EMSGSIZE);
    refused(SgIoHdr { cmd_len: 255, ..right }, Errno::EINVAL);
    refused(SgIoHdr { iovec_count: 1025, dxferp: LIST, ..right }, Errno::EINVAL);
    refused(SgIoHdr { dxferp: bad, ..right }, Errno::EFAULT);
    refused(SgIoHdr { dxferp: 0, ..right }, Errno::EFAULT);
    refused(SgIoHdr { dxferp: bad, iovec_count: 2, ..right }, Errno::EFAULT);
    // The header itself.
    for address in [0, 8, FAR - 1] {
        let answer = disk.ask(SG_IO, address);
        assert_eq!(answer, Answer::Error(Errno::EFAULT));
    }
    // Sense data that cannot be written.
    let reply = disk.try_send(&[0xc0, 0, 0, 0, 0, 0], &SgIoHdr { sbp: bad, ..sg_io_hdr(6, NONE, 0) });
    assert_eq!(reply, Err(Errno::EFAULT));
    disk.send(&[0; 6], &SgIoHdr { sbp: bad, ..sg_io_hdr(6, NONE, 0) }).good();
}

#[test]
fn permission_comes_after_the_cdb_and_before_the_data() {
    let mut disk = numbered(16);
    (disk.host.root, disk.host.writable) = (false, false);
    let write = blocks_cdb(0x2a, 0, 0, 1);
    for header in [
        SgIoHdr { dxferp: 8, iovec_count: 1025, ..sg_io_hdr(10, TO_DEV, 512) },
        SgIoHdr { dxferp: 8, iovec_count: 2, ..sg_io_hdr(10, TO_DEV, 512) },
    ] {
        assert_eq!(disk.try_send(&write, &header), Err(Errno::EPERM));
        assert_eq!(disk.try_send(&write, &SgIoHdr { cmdp: 8, ..header }), Err(Errno::EFAULT));
    }
}

#[test]
fn every_direction_that_there_is() {
    let disk = numbered(16);
    for direction in [0, NONE, TO_DEV, FROM_DEV, TO_FROM_DEV, 1, 12345] {
        disk.send(&[0; 6], &sg_io_hdr(6, direction, 0)).good();
    }
    let inquiry = [0x12, 0, 0, 0, 36, 0];
    let expected = disk.read(&inquiry, 36).good();
    assert_eq!(disk.send(&inquiry, &sg_io_hdr(6, TO_FROM_DEV, 36)).good(), expected);
    disk.send(&[0; 6], &sg_io_hdr(6, FROM_DEV, 512)).good();
    assert_eq!(disk.send(&[0; 6], &sg_io_hdr(6, FROM_DEV, 512)).resid, 512);
}

#[test]
fn the_longest_transfer() {
    let disk = numbered(16);
    let longest = 4 << 20;
    disk.put(DATA, &vec![0; longest]);
    assert_eq!(disk.send(&[0; 6], &sg_io_hdr(6, FROM_DEV, longest)).resid as usize, longest);
    let header = sg_io_hdr(6, FROM_DEV, longest + 1);
    assert_eq!(disk.try_send(&[0; 6], &header), Err(Errno::EIO));
}

/// Of more blocks than the block limits allow, the CDB is wrong, whatever the buffer is.
#[test]
fn more_than_the_longest_transfer() {
    let disk = numbered(16384);
    for (code, place) in [(0x28, 7), (0xa8, 6), (0x88, 10), (0x2a, 7), (0xaa, 6), (0x8a, 10), (0x8b, 10)] {
        let direction = if code & 0x0f == 0x08 { FROM_DEV } else { TO_DEV };
        let longest = disk.send(&blocks_cdb(code, 0, 0, 8192), &sg_io_hdr(16, direction, 512));
        assert_eq!((longest.status, longest.host_status), (0, 7), "{code:02x}");
        let reply = disk.send(&blocks_cdb(code, 0, 0, 8193), &sg_io_hdr(16, direction, 512));
        assert_eq!(reply.check(), cdb_field(place, 7), "{code:02x}");
    }
}

#[test]
fn cdbs_of_every_length() {
    let disk = numbered(16);
    for length in 6..=32 {
        let mut cdb = vec![0; length];
        (cdb[0], cdb[4]) = (0x12, 36);
        assert_eq!(disk.read(&cdb, 36).good().len(), 36, "{length}");
        // What stands behind the end of a command is none of it.
        cdb[6..].fill(0xff);
        assert_eq!(disk.read(&cdb, 36).good().len(), 36, "{length}");
    }
}

#[test]
fn sense_buffers_of_every_size() {
    let disk = numbered(16);
    for descriptor in [false, true] {
        switch(&disk, D_SENSE.0, D_SENSE.1, D_SENSE.2, descriptor);
        let cdb = [0x12, 0, 1, 0, 96, 0];
        let whole = disk.read(&cdb, 96).sense;
        for sense_room in 0..=255 {
            let reply = disk.send(&cdb, &SgIoHdr { mx_sb_len: sense_room, ..sg_io_hdr(6, FROM_DEV, 96) });
            assert_eq!(reply.status, CHECK_CONDITION);
            assert_eq!(reply.sense, whole[..whole.len().min(sense_room.into())]);
            assert_eq!(reply.resid, 96);
        }
        let reply = disk.send(&cdb, &SgIoHdr { sbp: 0, ..sg_io_hdr(6, FROM_DEV, 96) });
        assert_eq!((reply.status, reply.sense), (CHECK_CONDITION, vec![]));
    }
}

#[test]
fn lists_of_pieces() {
    let disk = numbered(16);
    let three: Vec<u8> = (2..5).flat_map(|block| [block; 512]).collect();
    let many = vec![1; 1024];
    let shapes: [&[usize]; 8] = [
        &[1536],
        &[512, 512, 512],
        &[1, 511, 1000, 24],
        &[0, 1536, 0],
        &[100, 0, 0, 0, 436, 1000, 0],
        &[3; 512],
        &[24, 48, 96, 192, 384, 768, 24],
        &many,
    ];
    for picky in [false, true] {
        let mut disk = numbered(16);
        disk.host.picky = picky;
        for shape in shapes {
            let sum: usize = shape.iter().sum();
            let blocks = sum / 512;
            let reply = disk.list(&blocks_cdb(0x28, 0, 2, blocks as u64), FROM_DEV, shape, &[]);
            assert_eq!((reply.resid, reply.good()), (0, three[..512 * blocks].to_vec()), "{shape:?}");
            let fill = vec![sum as u8 ^ 0x5a; 512 * blocks];
            let reply = disk.list(&blocks_cdb(0x2a, 0, 8, blocks as u64), TO_DEV, shape, &fill);
            assert_eq!((reply.resid, reply.good()), (0, vec![]), "{shape:?}");
            assert!(disk.host.content.borrow()[512 * 8..][..fill.len()] == fill);
            disk.list(&blocks_cdb(0x2f, 2, 8, blocks as u64), TO_DEV, shape, &fill).good();
            disk.list(&blocks_cdb(0x8b, 0, 8, blocks as u64), TO_DEV, shape, &fill).good();
            // The same to a command whose answer is put together.
            let inquiry = disk.list(&[0x12, 0, 0, 0, 96, 0], FROM_DEV, shape, &[]).good();
            assert_eq!(inquiry, disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good());
        }
    }
    assert_eq!(disk.host.changed.get(), None);
}

#[test]
fn lists_with_many_empty_pieces() {
    for empty in [31, 32, 33, 64, 100, 1000] {
        for place in [0, 1] {
            for picky in [false, true] {
                let mut disk = numbered(16);
                disk.host.picky = picky;
                let mut shape = vec![0; empty];
                shape.insert(0, 512 * place);
                shape.push(1024 - 512 * place);
                let reply = disk.list(&blocks_cdb(0x28, 0, 2, 2), FROM_DEV, &shape, &[]);
                assert_eq!((reply.resid, reply.good()), (0, [[2; 512], [3; 512]].concat()));
                disk.list(&blocks_cdb(0x2a, 0, 2, 2), TO_DEV, &shape, &[0x99; 1024]).good();
                assert_eq!((block(&disk, 2), block(&disk, 3)), (vec![0x99; 512], vec![0x99; 512]));
                disk.list(&blocks_cdb(0x8b, 0, 2, 2), TO_DEV, &shape, &[0x99; 1024]).good();
                let inquiry = disk.list(&[0x12, 0, 0, 0, 96, 0], FROM_DEV, &shape, &[]).good();
                assert_eq!(inquiry.len(), 96);
            }
        }
    }
}

#[test]
fn the_shorter_of_list_and_length_counts() {
    let disk = numbered(16);
    disk.lay_out(&[512, 512]);
    let header = |length: usize| SgIoHdr { iovec_count: 2, dxferp: LIST, ..sg_io_hdr(10, FROM_DEV, length) };
    let read = |blocks| blocks_cdb(0x28, 0, 2, blocks);
    // A shorter length.
    assert_eq!(disk.send(&read(1), &header(512)).good(), [2; 512]);
    assert_eq!(disk.send(&read(1), &header(600)).resid, 88);
    assert_eq!(disk.send(&read(2), &header(600)).host_status, ERROR);
    // A shorter list.
    let reply = disk.send(&read(1), &header(4096));
    assert_eq!((reply.resid, reply.good()), (512, vec![2; 512]));
    assert_eq!(disk.send(&read(3), &header(4096)).host_status, ERROR);
}

/// What a bounce buffer holds at first can be another caller's.
#[test]
fn a_list_that_becomes_shorter() {
    for (cdb, whole) in [
        (blocks_cdb(0x2a, 0, 0, 2), 1024),
        (blocks_cdb(0x8b, 0, 0, 2), 1024),
        (blocks_cdb(0x89, 0, 0, 1), 1024),
        (blocks_cdb(0x93, 0, 0, 2), 512),
    ] {
        let mut disk = Disk::new(vec![0; 8192]);
        disk.host.picky = true;
        for (address, length) in disk.lay_out(&[100, whole - 100]) {
            disk.put(address, &vec![0; length as usize]);
        }
        disk.put(CDB, &cdb);
        let header = SgIoHdr { iovec_count: 2, dxferp: LIST, ..sg_io_hdr(16, TO_DEV, whole) };
        disk.host.store(HEADER, header).expect("it is there");
        disk.host.erased.set(Some(LIST + 16));
        assert_eq!(disk.ask(SG_IO, HEADER), Answer::Value(0));
        assert_eq!(*disk.host.content.borrow(), vec![0; 8192], "{:#x}", cdb[0]);
    }
}

/// The kernel's import_iovec and bio_map_user_iov.
#[test]
fn lists_that_the_kernel_refuses() {
    let disk = numbered(16);
    let read = blocks_cdb(0x28, 0, 2, 1);
    let header = SgIoHdr { iovec_count: 2, dxferp: LIST, ..sg_io_hdr(10, FROM_DEV, 512) };
    disk.put(LIST, &[DATA, 1 << 63, DATA, 512].map(u64::to_ne_bytes).concat());
    assert_eq!(disk.try_send(&read, &SgIoHdr { dxfer_len: 512, ..header }), Err(Errno::EINVAL));
    disk.put(LIST, &[DATA, 0, DATA, 0].map(u64::to_ne_bytes).concat());
    assert_eq!(disk.try_send(&read, &header), Err(Errno::EINVAL));
    // Without a length, the list is not looked at.
    for pieces in [1, 2000] {
        let header = SgIoHdr { iovec_count: pieces, dxferp: 8, ..sg_io_hdr(6, FROM_DEV, 0) };
        assert_eq!(disk.try_send(&[0; 6], &header).map(|reply| reply.status), Ok(0));
    }
}

#[test]
fn a_piece_that_is_bad_memory() {
    let disk = numbered(16);
    let header = SgIoHdr { iovec_count: 2, dxferp: LIST, ..sg_io_hdr(10, FROM_DEV, 1024) };
    disk.put(LIST, &[DATA, 512, 8, 512].map(u64::to_ne_bytes).concat());
    assert_eq!(disk.try_send(&blocks_cdb(0x28, 0, 2, 2), &header), Err(Errno::EFAULT));
    let header = SgIoHdr { dxfer_direction: TO_DEV, ..header };
    assert_eq!(disk.try_send(&blocks_cdb(0x2a, 0, 2, 2), &header), Err(Errno::EFAULT));
}

/// Who may send an operation code: the kernel's scsi_cmd_allowed, drivers/scsi/scsi_ioctl.c of Linux 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    Anyone,
    Writer,
    Root,
}

fn allowed(code: u8) -> Allowed {
    match code {
        0x00
        | 0x03
        | 0x08
        | 0x12
        | 0x1a
        | 0x1b
        | 0x1c
        | 0x23
        | 0x25
        | 0x28
        | 0x2b
        | 0x2f
        | 0x37
        | 0x3c
        | 0x3e
        | 0x43..=0x47
        | 0x4a
        | 0x4b
        | 0x4d
        | 0x4e
        | 0x51
        | 0x52
        | 0x5a
        | 0x5c
        | 0x88
        | 0x8f
        | 0x95
        | 0x9e
        | 0xa0
        | 0xa3
        | 0xa4
        | 0xa8
        | 0xac
        | 0xad
        | 0xb9
        | 0xba
        | 0xbc
        | 0xbe => Allowed::Anyone,
        // The kernel lets anyone send 42h and 48h, which are READ SUB-CHANNEL and PLAY AUDIO TRACK INDEX of a CD: a disk takes
        // them for UNMAP and SANITIZE.
        0x42 | 0x48 => Allowed::Writer,
        0x04 | 0x0a | 0x0d | 0x15 | 0x19 | 0x1e | 0x2a | 0x2e | 0x35 | 0x3f | 0x41 | 0x4c | 0x53 | 0x54
        | 0x55 | 0x58 | 0x5b | 0x5d | 0x8a | 0x93 | 0x94 | 0xa1 | 0xa2 | 0xa6 | 0xa7 | 0xaa | 0xae | 0xb6
        | 0xbb | 0xbf | 0xea => Allowed::Writer,
        _ => Allowed::Root,
    }
}

#[test]
fn who_may_send_what() {
    let mut wrong = Vec::new();
    for code in 0..=0xff {
        for action in [0x00, 0x0a, 0x0c, 0x0d, 0x10, 0x12, 0x1f] {
            let may = |root, writable| {
                let mut disk = numbered(16);
                (disk.host.root, disk.host.writable) = (root, writable);
                let mut cdb = [0; 16];
                (cdb[0], cdb[1]) = (code, action);
                match disk.try_send(&cdb, &sg_io_hdr(16, NONE, 0)) {
                    Ok(_) => true,
                    Err(Errno::EPERM) => false,
                    Err(errno) => panic!("{code:02x}: {errno}"),
                }
            };
            let found = [may(true, false), may(true, true), may(false, true), may(false, false)];
            let expected = match allowed(code) {
                Allowed::Anyone => [true, true, true, true],
                Allowed::Writer => [true, true, true, false],
                Allowed::Root => [true, true, false, false],
            };
            if found != expected {
                wrong.push(format!("{code:02x}/{action:02x}: {:?}, found {found:?}", allowed(code)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn other_kinds_of_disks() {
    let disk = Disk { entry: "/x=ide", ..numbered(16) };
    assert_eq!(disk.try_send(&[0; 6], &sg_io_hdr(6, NONE, 0)), Err(Errno::EINVAL));
    let disk = Disk { entry: "/x=sata", ..numbered(16) };
    assert_eq!(disk.read(&[0x12, 0, 0, 0, 36, 0], 36).good()[8..16], *b"ATA     ");
}

/// `SCSI_IOCTL_SEND_COMMAND`: what stands behind the two lengths afterwards, too.
fn send_command(disk: &Disk, to_disk: u32, from_disk: u32, cdb: &[u8], data: &[u8]) -> (Answer, Vec<u8>) {
    disk.put(FAR, &[POISON; 8192]);
    disk.put(FAR, &[&to_disk.to_ne_bytes()[..], &from_disk.to_ne_bytes(), cdb, data].concat());
    let answer = disk.ask(SCSI_IOCTL_SEND_COMMAND, FAR);
    (answer, disk.got(FAR + 8, 4200))
}

#[test]
fn the_old_way_to_send_a_command() {
    const GOOD: Answer = Answer::Value(0);
    let mut disk = numbered(16);
    // The number is FIBMAP's on an image file.
    disk.host.medium = Medium::BlockDevice;
    let inquiry = [0x12, 0, 0, 0, 36, 0];
    let expected = disk.read(&inquiry, 36).good();
    let (answer, bytes) = send_command(&disk, 0, 36, &inquiry, &[]);
    assert_eq!((answer, &bytes[..36], bytes[36]), (GOOD, &expected[..], POISON));
    assert_eq!(send_command(&disk, 0, 0, &[0; 6], &[]).0, GOOD);
    for code in READS {
        let (answer, bytes) = send_command(&disk, 0, 512, &blocks_cdb(code, 0, 5, 1), &[]);
        assert_eq!((answer, &bytes[..512]), (GOOD, &[5; 512][..]));
    }
    for code in WRITES {
        assert_eq!(send_command(&disk, 512, 0, &blocks_cdb(code, 0, 6, 1), &[code; 512]).0, GOOD);
        assert_eq!(block(&disk, 6), [code; 512]);
    }
    // Sense data takes the place of the CDB, at most 16 bytes of it.
    let (answer, bytes) = send_command(&disk, 0, 512, &blocks_cdb(0x28, 0, 16, 1), &[]);
    assert_eq!(answer, Answer::Value(CHECK_CONDITION.into()));
    assert_eq!(bytes[..16], [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x21, 0, 0, 0]);
    assert_eq!(bytes[16], POISON);

    for (to_disk, from_disk) in [(4097, 0), (0, 4097)] {
        assert_eq!(send_command(&disk, to_disk, from_disk, &inquiry, &[]).0, Answer::Error(Errno::EINVAL));
    }
    for (address, errno) in [(0, Errno::EINVAL), (8, Errno::EFAULT)] {
        let answer = disk.ask(SCSI_IOCTL_SEND_COMMAND, address);
        assert_eq!(answer, Answer::Error(errno));
    }
    disk.host.root = false;
    assert_eq!(send_command(&disk, 0, 0, &blocks_cdb(0x91, 0, 0, 0), &[]).0, Answer::Error(Errno::EPERM));
    disk.host.writable = false;
    assert_eq!(send_command(&disk, 0, 0, &blocks_cdb(0x35, 0, 0, 0), &[]).0, Answer::Error(Errno::EPERM));
    assert_eq!(send_command(&disk, 0, 36, &inquiry, &[]).0, GOOD);
}

/// MODE SELECT of one thread leaves alone what another one's says.
#[test]
fn mode_select_by_threads() {
    use disk::entry::Kind;
    use disk::scsi::mode::select;
    use disk::settings::{D_SENSE, DRA, Switches};
    let switches = Switches::default();
    // The caching page, with DRA, and the control page, with D_SENSE: their other bytes are those of MODE SENSE.
    let turned = |code: u8, place: usize, bit: u8, switch: u32| {
        let mut page = Vec::new();
        let values = disk::scsi::mode::PageControl::Default;
        disk::scsi::mode::sense(Kind::Scsi, &switches, code, 0, values, |byte| page.push(byte))
            .expect("it exists");
        for round in 0..20_000 {
            let on = round % 2 == 0;
            page[place] = if on { page[place] | bit } else { page[place] & !bit };
            select(Kind::Scsi, &switches, &page, 0).expect("it can be changed");
            assert_eq!(switches.is_on(switch), on, "round {round} of page {code:02x}h");
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(|| turned(0x08, 12, 0x20, DRA));
        threads.spawn(|| turned(0x0a, 2, 0x04, D_SENSE));
    });
}
