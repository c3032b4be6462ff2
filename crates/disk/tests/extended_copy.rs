//! EXTENDED COPY(LID1) and the commands that report about it, byte for byte.

use disk::scsi::sense::{Sense, Specific};
use disk::{Errno, Medium, Nexus, Shared};
use memory_disk::sense::*;
use memory_disk::sg_io::*;
use memory_disk::{Call, Disk, Fault, MemoryHost, numbered_blocks};

/// World-wide names of disks.
const FIRST: u64 = 0x5001_4380_0000_0001;
const SECOND: u64 = 0x5001_4380_0000_0002;
const ENTRIES: [&str; 2] = ["/x=scsi,wwn=0x5001438000000001", "/y=scsi,wwn=0x5001438000000002"];

/// A disk with this content that has reservations, and commands about several clients or the whole disk.
fn shared(entry: &'static str, content: Vec<u8>) -> Disk {
    let mut shared = Shared::default();
    let number = shared.add_nexus();
    let mut disk = Disk { entry, nexus: Nexus::new(number), ..Disk::new(content) };
    disk.host.shared = Some(shared.into());
    disk
}

/// A disk of 64 numbered blocks, whose peer has 32 blocks of zeros.
fn pair() -> Disk {
    let mut disk = shared(ENTRIES[0], numbered_blocks(64));
    let mut peer = shared(ENTRIES[1], vec![0; 32 * 512]);
    peer.host.identity = 2;
    disk.host.peers.push(peer);
    disk
}

/// An identification descriptor with the NAA designator of a disk.
fn cscd(wwn: u64, block: u32) -> Vec<u8> {
    let mut bytes = vec![0xe4, 0, 0, 0, 0x01, 0x03, 0, 8];
    bytes.extend(wwn.to_be_bytes());
    bytes.resize(28, 0);
    bytes.extend(block.to_be_bytes());
    bytes
}

/// A segment descriptor: from block device to block device.
fn blocks(flags: u8, [source, destination]: [u16; 2], count: u16, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = vec![0x02, flags, 0, 24];
    bytes.extend([source, destination].iter().flat_map(|index| index.to_be_bytes()));
    bytes.extend([0, 0]);
    bytes.extend(count.to_be_bytes());
    bytes.extend([from, to].iter().flat_map(|lba| lba.to_be_bytes()));
    bytes
}

/// A segment descriptor: the same with offsets.
fn with_offsets(
    [source, destination]: [u16; 2],
    count: u32,
    from: u64,
    to: u64,
    offsets: [u16; 2],
) -> Vec<u8> {
    let mut bytes = vec![0x0a, 0, 0, 28];
    bytes.extend([source, destination].iter().flat_map(|index| index.to_be_bytes()));
    bytes.extend(count.to_be_bytes());
    bytes.extend([from, to].iter().flat_map(|lba| lba.to_be_bytes()));
    bytes.extend(offsets.iter().flat_map(|offset| offset.to_be_bytes()));
    bytes
}

/// A parameter list; `usage` is LIST ID USAGE.
fn list(identifier: u8, usage: u8, cscds: &[Vec<u8>], segments: &[Vec<u8>]) -> Vec<u8> {
    let (cscds, segments) = (cscds.concat(), segments.concat());
    let mut bytes = vec![identifier, usage << 3];
    bytes.extend((cscds.len() as u16).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend((segments.len() as u32).to_be_bytes());
    bytes.extend([0; 4]);
    [bytes, cscds, segments].concat()
}

const DISCARD: u8 = 2;

fn extended_copy(length: usize) -> Vec<u8> {
    [&[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &(length as u32).to_be_bytes(), &[0, 0]].concat()
}

#[track_caller]
fn send(disk: &Disk, list: &[u8]) -> Reply {
    disk.write(&extended_copy(list.len()), list)
}

/// Copies by these segment descriptors between the disk, whose index is 0, and its peer.
#[track_caller]
fn copy(disk: &Disk, segments: &[Vec<u8>]) -> Reply {
    send(disk, &list(1, DISCARD, &[cscd(FIRST, 512), cscd(SECOND, 512)], segments))
}

fn receive(action: u8, identifier: u8) -> [u8; 16] {
    [0x84, action, identifier, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
}

/// COPY ABORTED: the additional sense code, and the byte of the parameter list.
fn aborted(asc_ascq: u16, segment: u16, byte: impl Into<Option<u16>>) -> Sense {
    let specific = byte.into().map(|byte| Specific::Field { in_cdb: false, byte, bit: None });
    Sense { asc_ascq, information: Some(segment.into()), specific, ..COPY_ABORTED }
}

/// ILLEGAL REQUEST with this additional sense code.
fn illegal(asc_ascq: u16, byte: impl Into<Option<u16>>) -> Sense {
    let specific = byte.into().map(|byte| Specific::Field { in_cdb: false, byte, bit: None });
    Sense { asc_ascq, specific, ..INVALID_FIELD_IN_PARAMETER_LIST }
}

/// The numbers of some blocks of a disk.
fn numbers(disk: &Disk, blocks: std::ops::Range<usize>) -> Vec<u8> {
    let content = disk.host.content.borrow();
    blocks.map(|block| content[512 * block]).collect()
}

/// Where the descriptors of a list with two CSCD descriptors begin.
const SECOND_CSCD: u16 = 16 + 32;
const SEGMENT: u16 = 16 + 64;

#[test]
fn from_one_disk_to_another_and_back() {
    let disk = pair();
    copy(&disk, &[blocks(0, [0, 1], 3, 10, 5)]).good();
    let peer = &disk.host.peers[0];
    assert_eq!(numbers(peer, 4..9), [0, 10, 11, 12, 0]);
    assert_eq!(*peer.host.opened.borrow(), [true]);
    copy(&disk, &[blocks(0, [1, 0], 2, 6, 62), blocks(0, [1, 1], 1, 5, 31)]).good();
    assert_eq!(numbers(&disk, 61..64), [61, 11, 12]);
    assert_eq!(numbers(peer, 30..32), [0, 10]);
    // A source is opened for reading.
    assert_eq!(*peer.host.opened.borrow(), [true, false, false, true]);
}

#[test]
fn within_one_disk() {
    for (from, to) in [(0, 8), (8, 0), (0, 1), (1, 0), (4, 4)] {
        let disk = pair();
        copy(&disk, &[blocks(0, [0, 0], 20, from, to)]).good();
        let (from, to) = (from as usize, to as usize);
        assert_eq!(numbers(&disk, to..to + 20), (from as u8..from as u8 + 20).collect::<Vec<_>>());
        assert!(disk.host.peers[0].host.opened.borrow().is_empty());
    }
}

/// More than a bounce buffer, in both directions.
#[test]
fn parts_that_overlap() {
    let content: Vec<u8> = (0..2048u32).flat_map(|block| block.to_be_bytes().repeat(128)).collect();
    for (from, to) in [(0, 100), (100, 0), (3, 513), (513, 3)] {
        let disk = shared(ENTRIES[0], content.clone());
        copy(&disk, &[blocks(0, [0, 0], 1500, from as u64, to as u64)]).good();
        let mut expected = content.clone();
        expected.copy_within(512 * from..512 * (from + 1500), 512 * to);
        assert!(*disk.host.content.borrow() == expected, "{from} to {to}");
    }
}

#[test]
fn segments_with_offsets() {
    let disk = pair();
    copy(&disk, &[with_offsets([0, 1], 1024, 7, 3, [0, 0])]).good();
    assert_eq!(numbers(&disk.host.peers[0], 2..6), [0, 7, 8, 0]);
    for (count, offsets) in [(512, [1, 0]), (512, [0, 511]), (513, [0, 0]), (1, [0, 0])] {
        let reply = copy(&disk, &[with_offsets([0, 1], count, 7, 3, offsets)]);
        assert_eq!(reply.check(), aborted(0x260a, 0, None));
    }
}

#[test]
fn nothing_to_copy() {
    let disk = pair();
    disk.none(&extended_copy(0)).good();
    for segments in [vec![], vec![blocks(0, [0, 1], 0, 64, 32)], vec![with_offsets([0, 1], 0, 0, 0, [0; 2])]]
    {
        copy(&disk, &segments).good();
    }
    assert_eq!(disk.host.peers[0].host.changed.get(), None);
    // The range is looked at all the same.
    let reply = copy(&disk, &[blocks(0, [0, 1], 0, 65, 0)]);
    assert_eq!(reply.check(), aborted(0, 0, SEGMENT + 12));
}

/// DC: the number of blocks is that of the destination.
#[test]
fn blocks_of_different_sizes() {
    let mut disk = shared(ENTRIES[0], numbered_blocks(64));
    let mut peer = shared("/y=scsi,wwn=0x5001438000000002,sector=4096", vec![0; 8 * 4096]);
    peer.host.identity = 2;
    disk.host.peers.push(peer);
    let cscds = [cscd(FIRST, 512), cscd(SECOND, 4096)];
    let copy = |segment| send(&disk, &list(1, DISCARD, &cscds, &[segment]));
    let peer = &disk.host.peers[0];
    copy(blocks(0, [0, 1], 8, 8, 1)).good();
    assert_eq!(numbers(peer, 7..17), [0, 8, 9, 10, 11, 12, 13, 14, 15, 0]);
    copy(blocks(2, [0, 1], 1, 0, 7)).good();
    assert_eq!(numbers(peer, 56..64), [0, 1, 2, 3, 4, 5, 6, 7]);
    copy(blocks(0, [1, 0], 1, 7, 56)).good();
    assert_eq!(numbers(&disk, 55..64), [55, 0, 1, 2, 3, 4, 5, 6, 7]);
    for (flags, indexes, count) in [(0, [0, 1], 7), (2, [1, 0], 1), (2, [1, 0], 12)] {
        assert_eq!(copy(blocks(flags, indexes, count, 0, 0)).check(), aborted(0x260a, 0, None));
    }
    // The disk block length is the disk's.
    for (at, wrong) in
        [(0, [cscd(FIRST, 4096), cscd(SECOND, 4096)]), (1, [cscd(FIRST, 512), cscd(SECOND, 512)])]
    {
        let reply = send(&disk, &list(1, DISCARD, &wrong, &[blocks(0, [0, 1], 8, 0, 0)]));
        assert_eq!(reply.check(), aborted(0, 0, 16 + 32 * at + 29));
    }
}

#[test]
fn beyond_the_end() {
    let disk = pair();
    for (segment, field) in [
        (blocks(0, [0, 1], 2, 63, 0), 12),
        (blocks(0, [0, 1], 2, 0, 31), 20),
        (blocks(0, [0, 1], 1, u64::MAX, 0), 12),
        (with_offsets([0, 1], 1024, 0, 31, [0; 2]), 20),
    ] {
        let (first, second) = (blocks(0, [0, 1], 1, 9, 9), segment.clone());
        assert_eq!(copy(&disk, &[segment]).check(), aborted(0, 0, SEGMENT + field));
        // The segments before it have been processed.
        assert_eq!(copy(&disk, &[first, second]).check(), aborted(0, 1, SEGMENT + 28 + field));
        assert_eq!(numbers(&disk.host.peers[0], 8..11), [0, 9, 0]);
    }
    let mut large = shared(ENTRIES[0], Vec::new());
    large.host =
        MemoryHost { shared: large.host.shared.take(), ..MemoryHost::new(Medium::ImageFile, 1 << 40) };
    let large = Disk { entry: ENTRIES[0], nexus: Nexus::new(1), ..Disk::on(large.host) };
    let reply = copy(&large, &[with_offsets([0, 0], (256 << 20) + 512, 0, 1 << 30, [0; 2])]);
    assert_eq!(reply.check(), aborted(0, 0, SEGMENT + 8));
}

#[test]
fn disks_that_cannot_be_reached() {
    let mut disk = pair();
    // No such descriptor.
    for (indexes, field) in [([2, 0], 4), ([0, 2], 6), ([0xffff, 0], 4)] {
        assert_eq!(copy(&disk, &[blocks(0, indexes, 1, 0, 0)]).check(), aborted(0x0804, 0, SEGMENT + field));
    }
    // No such disk: another name, association, designator type, code set, length.
    let mut others = vec![cscd(SECOND + 1, 512)];
    for (at, byte) in [(5, 0x13), (5, 0x02), (4, 0x02), (7, 4)] {
        let mut other = cscd(SECOND, 512);
        other[at] = byte;
        others.push(other);
    }
    for other in others {
        let cscds = [cscd(FIRST, 512), other];
        for indexes in [[0, 1], [1, 0]] {
            let reply = send(&disk, &list(1, DISCARD, &cscds, &[blocks(0, indexes, 1, 0, 0)]));
            assert_eq!(reply.check(), aborted(0x0d02, 0, SECOND_CSCD + 4));
        }
    }
    // Not a direct access block device.
    let mut tape = cscd(SECOND, 512);
    tape[1] = 0x01;
    let reply = send(&disk, &list(1, DISCARD, &[cscd(FIRST, 512), tape], &[blocks(0, [0, 1], 1, 0, 0)]));
    assert_eq!(reply.check(), aborted(0x0d03, 0, SECOND_CSCD + 1));
    // LU ID TYPE and NUL of SPC-3 do not matter.
    let mut old = cscd(SECOND, 512);
    old[1] = 0xe0;
    send(&disk, &list(1, DISCARD, &[cscd(FIRST, 512), old], &[blocks(0, [0, 1], 1, 0, 0)])).good();
    // The caller may read the other disk, but not write it.
    disk.host.peers[0].host.not_writable = Some(Errno::EACCES);
    assert_eq!(copy(&disk, &[blocks(0, [0, 1], 1, 0, 0)]).check(), aborted(0x0d02, 0, SECOND_CSCD + 4));
    copy(&disk, &[blocks(0, [1, 0], 1, 0, 0)]).good();
    disk.host.peers[0].host.not_writable = Some(Errno::ENOMEM);
    assert_eq!(copy(&disk, &[blocks(0, [0, 1], 1, 0, 0)]).status, BUSY);
    // An IDE disk has no designator.
    disk.host.peers[0].host.not_writable = None;
    disk.host.peers[0].entry = "/y=ide,wwn=0x5001438000000002";
    assert_eq!(copy(&disk, &[blocks(0, [0, 1], 1, 0, 0)]).check(), aborted(0x0d02, 0, SECOND_CSCD + 4));
    disk.host.peers[0].entry = "/y=sata,wwn=0x5001438000000002";
    copy(&disk, &[blocks(0, [0, 1], 1, 0, 0)]).good();
}

#[test]
fn disks_that_fail() {
    let mut disk = pair();
    let out = [blocks(0, [0, 1], 4, 0, 0)];
    for (call, errno, asc_ascq) in [
        (Call::Write, Errno::EIO, 0x0c00),
        (Call::Write, Errno::ENOSPC, 0x2707),
        (Call::Limit, Errno::ENODEV, 0x0d02),
    ] {
        disk.host.peers[0].host.fault.set(Some(Fault::new(call, errno)));
        assert_eq!(copy(&disk, &out).check(), aborted(asc_ascq, 0, None), "{errno:?}");
    }
    disk.host.peers[0].host.fault.set(None);
    disk.host.fault.set(Some(Fault::new(Call::Read, Errno::EIO)));
    assert_eq!(copy(&disk, &out).check(), aborted(0x1100, 0, None));
    disk.host.fault.set(Some(Fault::new(Call::BounceBuffer, Errno::ENOMEM)));
    assert_eq!(copy(&disk, &out).status, BUSY);
    disk.host.fault.set(None);
    disk.host.peers[0].host.changed.set(None);
    for entry in [ENTRIES[1], "/y=scsi,ro,wwn=0x5001438000000002"] {
        disk.host.peers[0].entry = entry;
        disk.host.peers[0].host.read_only = entry == ENTRIES[1];
        assert_eq!(copy(&disk, &out).check(), aborted(0x2700, 0, None));
        assert_eq!(disk.host.peers[0].host.changed.get(), None);
        copy(&disk, &[blocks(0, [1, 0], 4, 0, 0)]).good();
    }
}

/// Without its write cache, the destination has the data on its medium.
#[test]
fn write_cache() {
    let disk = pair();
    let peer = &disk.host.peers[0];
    copy(&disk, &[blocks(0, [0, 1], 4, 0, 0)]).good();
    assert_eq!(peer.host.synced.get(), 0);
    // Not that of the copy manager.
    let page = [0, 0, 0, 0, 0x08, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    disk.write(&[0x15, 0x10, 0, 0, 24, 0], &page).good();
    copy(&disk, &[blocks(0, [0, 1], 4, 0, 0)]).good();
    assert_eq!(peer.host.synced.get(), 0);
    copy(&disk, &[blocks(0, [1, 0], 4, 0, 0)]).good();
    assert_eq!(disk.host.synced.get(), 1);
}

/// PERSISTENT RESERVE OUT with a service action, type, key and service action key.
fn reserve(disk: &Disk, action: u8, kind: u8, key: u64, new: u64) {
    let mut list = [key.to_be_bytes(), new.to_be_bytes(), [0; 8]].concat();
    list.resize(24, 0);
    disk.write(&[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list).good();
}

#[test]
fn reservations_of_others() {
    const CONFLICT: u8 = 0x18;
    for (kind, readable) in [(1, true), (3, false)] {
        let mut disk = pair();
        // Another nexus of the other disk holds a reservation.
        let peer = &mut disk.host.peers[0];
        reserve(peer, 0, 0, 0, 7);
        reserve(peer, 1, kind, 7, 0);
        let other = peer.host.shared.as_ref().expect("it has one").borrow_mut().add_nexus();
        let holder = std::mem::replace(&mut peer.nexus, Nexus::new(other));
        let out = [blocks(0, [0, 1], 1, 0, 0)];
        let back = [blocks(0, [1, 0], 1, 0, 0)];
        assert_eq!(copy(&disk, &out).check(), aborted(0x0d01, 0, None));
        let reply = copy(&disk, &back);
        if readable {
            reply.good();
        } else {
            assert_eq!(reply.check(), aborted(0x0d01, 0, None));
        }
        disk.host.peers[0].nexus = holder;
        copy(&disk, &out).good();
        // One of the copy manager's disk conflicts with the command.
        reserve(&disk, 0, 0, 0, 7);
        reserve(&disk, 1, kind, 7, 0);
        copy(&disk, &out).good();
        disk.nexus = Nexus::new(disk.host.shared.as_ref().expect("it has one").borrow_mut().add_nexus());
        assert_eq!(copy(&disk, &out).status, CONFLICT);
        for action in [0, 3] {
            assert_eq!(disk.read(&receive(action, 0), 256).status, CONFLICT);
        }
    }
}

#[test]
fn parameter_lists_that_are_wrong() {
    let disk = pair();
    let (cscds, segment) = ([cscd(FIRST, 512), cscd(SECOND, 512)], blocks(0, [0, 1], 1, 0, 0));
    let right = list(1, DISCARD, &cscds, std::slice::from_ref(&segment));
    let change = |at: usize, bytes: &[u8]| {
        let mut list = right.clone();
        list[at..at + bytes.len()].copy_from_slice(bytes);
        send(&disk, &list).check()
    };
    send(&disk, &right).good();
    disk.host.peers[0].host.changed.set(None);
    for cut in [1, 27, 28, 29, 60, 92, 100, 107] {
        assert_eq!(send(&disk, &right[..right.len() - cut]).check(), PARAMETER_LIST_LENGTH_ERROR, "{cut}");
    }
    let at = |byte: usize, bit: u8| list_field(byte as u16, bit);
    assert_eq!(change(1, &[1 << 3]), at(1, 4));
    assert_eq!(change(1, &[3 << 3]), at(0, 7));
    assert_eq!(change(2, &[0, 63]), at(2, 7));
    assert_eq!(change(12, &[0, 0, 0, 1]), illegal(0x260b, None));
    for (at, code) in [(16, 0xe0), (48, 0x00), (48, 0xff)] {
        assert_eq!(change(at, &[code]), illegal(0x2607, at as u16));
    }
    for code in [0x00, 0x03, 0x0d, 0xe4] {
        assert_eq!(change(80, &[code]), illegal(0x2609, 80));
    }
    assert_eq!(change(80, &[2, 0, 0, 20]), at(82, 7));
    assert_eq!(change(80, &[2, 0, 0, 25]), PARAMETER_LIST_LENGTH_ERROR);
    assert_eq!(change(81, &[4]), list_field(81, None));
    // A longer descriptor that is not known is not known.
    let short =
        list(1, DISCARD, &cscds, &[vec![3, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]);
    assert_eq!(send(&disk, &short).check(), illegal(0x2609, 80));
    // Nothing was copied, not even by the descriptors before.
    let mut second = segment.clone();
    second[0] = 0x55;
    let both = list(1, DISCARD, &cscds, &[segment.clone(), second]);
    assert_eq!(send(&disk, &both).check(), illegal(0x2609, 80 + 28));
    assert_eq!(disk.host.peers[0].host.changed.get(), None);
    // The caller's data has another direction, or fewer bytes.
    assert_eq!(disk.read(&extended_copy(right.len()), right.len()).host_status, ERROR);
    assert_eq!(disk.write(&extended_copy(right.len()), &right[1..]).host_status, ERROR);
}

#[test]
fn limits_are_those_that_are_reported() {
    let disk = pair();
    let reply = disk.read(&receive(3, 0), 256).good();
    let mut expected = vec![0, 0, 0, 43, 1, 0, 0, 0, 0, 16, 0, 16, 0, 0, 4, 0, 0x10, 0, 0, 0];
    expected.resize(32, 0);
    expected.extend([0, 0, 0, 255, 255, 9, 0, 0, 0, 0, 0, 3, 0x02, 0x0a, 0xe4]);
    assert_eq!(reply, expected);
    let (one, segment) = (cscd(FIRST, 512), blocks(0, [0, 0], 1, 0, 0));
    let copy = |cscds: usize, segments: usize| {
        send(&disk, &list(1, DISCARD, &vec![one.clone(); cscds], &vec![segment.clone(); segments]))
    };
    copy(16, 16).good();
    assert_eq!(copy(17, 1).check(), illegal(0x2606, None));
    assert_eq!(copy(1, 17).check(), illegal(0x2608, None));
    // Together.
    assert_eq!(copy(17, 18).check(), PARAMETER_LIST_LENGTH_ERROR);
    assert_eq!(copy(40, 30).check(), PARAMETER_LIST_LENGTH_ERROR);
}

#[test]
fn status_of_a_copy() {
    let mut disk = pair();
    let status = |disk: &Disk, identifier: u8| disk.read(&receive(0, identifier), 256);
    let copy = |disk: &Disk, identifier: u8, usage: u8, segments: &[Vec<u8>]| {
        send(disk, &list(identifier, usage, &[cscd(FIRST, 512), cscd(SECOND, 512)], segments))
    };
    let (one, two) = (blocks(0, [0, 1], 1, 0, 0), blocks(0, [0, 1], 3, 0, 0));
    assert_eq!(status(&disk, 1).check(), cdb_field(2, 7));
    copy(&disk, 1, 0, &[one.clone(), two]).good();
    copy(&disk, 2, DISCARD, std::slice::from_ref(&one)).good();
    copy(&disk, 0, 3, std::slice::from_ref(&one)).good();
    let completed = [0, 0, 0, 8, 1, 0, 2, 0, 0, 0, 6, 0];
    assert_eq!(status(&disk, 1).good(), completed);
    assert_eq!(status(&disk, 1).good(), completed);
    assert_eq!(disk.read(&receive(0, 1), 5).good(), completed[..5]);
    for identifier in [0, 2] {
        assert_eq!(status(&disk, identifier).check(), cdb_field(2, 7));
    }
    // Of the same nexus alone.
    let other = disk.host.shared.as_ref().expect("it has one").borrow_mut().add_nexus();
    let first = std::mem::replace(&mut disk.nexus, Nexus::new(other));
    assert_eq!(status(&disk, 1).check(), cdb_field(2, 7));
    copy(&disk, 1, 0, std::slice::from_ref(&one)).good();
    disk.host.shared.as_ref().expect("it has one").borrow_mut().lose_nexus(other);
    assert_eq!(status(&disk, 1).check(), cdb_field(2, 7));
    disk.nexus = first;
    assert_eq!(status(&disk, 1).good(), completed);
    // A copy with the same identifier that fails has none; a list that is wrong is not one.
    copy(&disk, 1, 1, std::slice::from_ref(&one)).check();
    assert_eq!(status(&disk, 1).good(), completed);
    assert_eq!(copy(&disk, 1, 0, &[blocks(0, [0, 1], 1, 64, 0)]).check(), aborted(0, 0, SEGMENT + 12));
    assert_eq!(status(&disk, 1).check(), cdb_field(2, 7));
    // The oldest is discarded.
    for identifier in 1..=17 {
        copy(&disk, identifier, 0, std::slice::from_ref(&one)).good();
    }
    assert_eq!(status(&disk, 1).check(), cdb_field(2, 7));
    assert_eq!(status(&disk, 2).good(), [0, 0, 0, 8, 1, 0, 1, 0, 0, 0, 2, 0]);
}

/// RECEIVE COPY DATA and RECEIVE COPY FAILURE DETAILS, LID4 and tokens: the copy manager keeps nothing for them.
#[test]
fn what_the_copy_manager_does_not_have() {
    let disk = pair();
    for action in [1, 2, 4, 5, 6, 7, 8, 0x1f] {
        assert_eq!(disk.read(&receive(action, 0), 256).check(), cdb_field(1, 4), "{action}");
    }
    for action in [1, 0x10, 0x11, 0x1c] {
        let mut cdb = extended_copy(16);
        cdb[1] = action;
        assert_eq!(disk.write(&cdb, &[0; 16]).check(), cdb_field(1, 4), "{action}");
    }
    let alone = Disk::new(numbered_blocks(8));
    let mut sata = pair();
    sata.entry = "/x=sata";
    for disk in [alone, sata] {
        assert_eq!(copy(&disk, &[]).check(), INVALID_COMMAND_OPERATION_CODE);
        for action in [0, 3] {
            assert_eq!(disk.read(&receive(action, 0), 256).check(), INVALID_COMMAND_OPERATION_CODE);
        }
        assert_eq!(disk.read(&[0x12, 1, 0x8f, 1, 0, 0], 256).check(), cdb_field(2, 7));
        assert_eq!(disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good()[5] & 0x08, 0);
    }
}

#[test]
fn inquiry() {
    let disk = pair();
    assert_eq!(disk.read(&[0x12, 0, 0, 0, 96, 0], 96).good()[5], 0x28);
    let pages = disk.read(&[0x12, 1, 0, 0, 255, 0], 255).good();
    assert_eq!(pages, [0, 0, 0, 8, 0x00, 0x80, 0x83, 0x86, 0x8f, 0xb0, 0xb1, 0xb2]);
    let mut expected = vec![0, 0x8f, 0, 120];
    let mut put = |length: usize, bytes: &[u8]| {
        let end = expected.len() + 4 + length;
        expected.extend(bytes);
        expected.resize(end, 0);
    };
    put(8, &[0, 0x01, 0, 8, 7, 0x83, 1, 0, 0x84, 2, 0, 3]);
    put(28, &[0, 0x04, 0, 28, 0, 0, 0, 0, 0, 16, 0, 16, 0, 0, 4, 0]);
    put(4, &[0, 0x08, 0, 4, 3, 0x02, 0x0a, 0xe4]);
    put(32, &[0x80, 0x01, 0, 32, 0, 0, 0, 255, 0, 0, 0, 255, 0x10, 0, 0, 0, 9, 0]);
    put(28, &[0xc0, 0x01, 0, 28]);
    assert_eq!(disk.read(&[0x12, 1, 0x8f, 1, 0, 0], 256).good(), expected);
    // The commands are those of the table.
    let codes = disk.read(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0], 2048).good();
    let copies = codes[4..].chunks(8).filter(|row| [0x83, 0x84].contains(&row[0]));
    assert_eq!(copies.map(|row| (row[0], row[3])).collect::<Vec<_>>(), [(0x83, 0), (0x84, 0), (0x84, 3)]);
}

/// Sense data in descriptor format say the same.
#[test]
fn descriptor_format() {
    let disk = pair();
    let page = [0, 0, 0, 0, 0x0a, 10, 0x06, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    disk.write(&[0x15, 0x10, 0, 0, 16, 0], &page).good();
    let reply = copy(&disk, &[blocks(0, [0, 1], 1, 0, 0), blocks(0, [0, 1], 1, 64, 0)]);
    let expected = [
        &[0x72, 0x0a, 0, 0, 0, 0, 0, 20][..],
        &[0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0x02, 0x06, 0, 0, 0x80, 0, 120, 0],
    ];
    assert_eq!(reply.sense, expected.concat());
    assert_eq!(reply.check(), aborted(0, 1, SEGMENT + 28 + 12));
}

/// Whatever a byte of the list is, the command ends, and says why; only the two disks can be changed.
#[test]
fn lists_with_any_byte() {
    let segments = [blocks(0, [0, 1], 2, 3, 4), with_offsets([1, 0], 512, 4, 60, [0; 2])];
    let right = list(1, 0, &[cscd(FIRST, 512), cscd(SECOND, 512)], &segments);
    for at in 0..right.len() {
        for byte in [0, 1, 2, 3, 0x0a, 0x20, 0x7f, 0x80, 0xe4, 0xff] {
            let disk = pair();
            let mut list = right.clone();
            list[at] = byte;
            let reply = send(&disk, &list);
            if reply.status != 0 {
                let key = reply.check().key;
                assert!(
                    [INVALID_FIELD_IN_CDB.key, COPY_ABORTED.key].contains(&key),
                    "{at} {byte:02x} {key:x}"
                );
            }
            let numbers = numbers(&disk, 0..64);
            let changed = (0..64).filter(|&block| usize::from(numbers[block]) != block).count();
            assert!(changed <= 3, "{at} {byte:02x} {numbers:?}");
        }
    }
}

/// What another client does to the whole of the other disk is not disturbed, nor is its failure forgotten.
#[test]
fn an_operation_of_the_other_disk() {
    let mut disk = pair();
    let peer = &mut disk.host.peers[0];
    peer.host.fault.set(Some(Fault::new(Call::Write, Errno::EIO)));
    assert_eq!(peer.write(&[0x04, 0x10, 0, 0, 0, 0], &[0, 0x88, 0, 0, 0, 1, 0, 1, 7]).check().key, 3);
    peer.host.fault.set(None);
    for (source, destination) in [(0, 1), (1, 0)] {
        let before = numbers(&disk, 0..64);
        let reply = copy(&disk, &[blocks(0, [source, destination], 1, 3, 4)]);
        assert_eq!(reply.check(), aborted(MEDIUM_FORMAT_CORRUPTED.asc_ascq, 0, None));
        assert_eq!(numbers(&disk, 0..64), before);
    }
}
