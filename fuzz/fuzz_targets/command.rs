//! SCSI commands through `SG_IO`, one after the other, to a disk in memory.
//!
//! The first byte says what kind of disk it is; see [`disk`]. Commands follow, each as [`Record`] lays it out.
#![no_main]

use disk::scsi::command::Operation::{AtaPassThrough, OrWrite, Write, WriteAndVerify};
use disk::scsi::command::{Command, find};
use disk::{Abi, Errno, Medium};
use libfuzzer_sys::fuzz_target;
use memory_disk::host::POISON;
use memory_disk::sg_io::{DATA, FROM_DEV, LIST, NONE, SgIoHdr, TO_DEV, TO_FROM_DEV, sg_io_hdr};
use memory_disk::{Call, Cluster, Disk, Fault, MemoryHost, numbered_blocks};

/// The 512-byte blocks of the disk.
const BLOCKS: usize = 128;

/// An address where the caller has no memory.
const BAD: u64 = 8;

/// More commands than this find nothing that fewer do not.
const MOST: usize = 16;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, mut rest)) = input.split_first() else { return };
    let mut cluster = Cluster::new(disk(kind), 2);
    for number in 0..MOST {
        let Some(record) = Record::take(&mut rest) else { return };
        // The first command says whether the engine knows the nexuses, the others which of them send them.
        let disk = cluster.at(usize::from(number > 0 && record.is_other));
        // To write all of a disk of that size takes too long.
        if number == 0 && (!record.is_other || disk.host.bytes == u64::MAX) {
            disk.host.shared = None;
        }
        disk.host.abi = if record.is_i386 { Abi::I386 } else { Abi::Native };
        record.send(disk);
    }
});

fn disk(kind: u8) -> Disk {
    let bit = |bit: u8| kind >> bit & 1 != 0;
    let host = MemoryHost {
        logical: if bit(0) { 4096 } else { 512 },
        physical: 4096,
        thin: !bit(1),
        atomic: bit(1).then_some((1024, 16384)),
        picky: bit(2),
        root: !bit(3),
        writable: !bit(4),
        holes: vec![4096..8192, 12800..13000, 16384..32768],
        ..MemoryHost::with_content(numbered_blocks(BLOCKS))
    };
    let entry = match (bit(5), bit(6)) {
        (false, false) => "/x=scsi",
        (true, false) => "/x=scsi,ro",
        (false, true) => "/x=scsi,sector=4096",
        (true, true) => "/x=sata",
    };
    let host =
        if bit(7) { MemoryHost { bytes: u64::MAX, medium: Medium::BlockDevice, ..host } } else { host };
    Disk { entry, ..Disk::on(host) }
}

/// A command: 16 bytes of CDB, 8 about the header, then the data.
struct Record<'a> {
    cdb: &'a [u8],
    /// Length of the CDB; of the sense buffer; of the data, with its low byte first.
    cdb_length: u8,
    /// The highest bit of the length of the CDB.
    is_other: bool,
    sense_room: u8,
    /// The highest bit of the length of the sense buffer, which needs no more than seven.
    is_i386: bool,
    length: u16,
    /// Direction in the two lowest bits; then what is wrong with the header.
    odd: u8,
    /// Which call of the device fails, and how.
    fault: u8,
    /// How many pieces the data stands in.
    pieces: u8,
    /// How many bytes of data follow; where they end, they begin anew.
    data: &'a [u8],
}

impl<'a> Record<'a> {
    fn take(rest: &mut &'a [u8]) -> Option<Record<'a>> {
        let (head, behind) = rest.split_at_checked(24)?;
        let (cdb, header) = head.split_at(16);
        let &[cdb_length, sense_room, low, high, odd, fault, pieces, given] = header else { return None };
        let (data, behind) = behind.split_at(behind.len().min(given.into()));
        *rest = behind;
        let length = u16::from_le_bytes([low, high]);
        let (is_i386, sense_room) = (sense_room & 0x80 != 0, sense_room & 0x7f);
        let (is_other, cdb_length) = (cdb_length & 0x80 != 0, cdb_length & 0x7f);
        Some(Record { cdb, cdb_length, is_other, sense_room, is_i386, length, odd, fault, pieces, data })
    }

    fn send(&self, disk: &Disk) {
        let bit = |bit: u8| self.odd >> bit & 1 != 0;
        let direction = [NONE, TO_DEV, FROM_DEV, TO_FROM_DEV][usize::from(self.odd & 3)];
        let length = usize::from(self.length);
        let mut header = sg_io_hdr(self.cdb_length.into(), direction, length);
        header.mx_sb_len = self.sense_room;
        let mut data = vec![POISON; length];
        if !self.data.is_empty() {
            data.iter_mut().zip(self.data.iter().cycle()).for_each(|(to, from)| *to = *from);
        }
        if self.pieces == 0 {
            disk.put(DATA, &data);
        } else {
            self.list(disk, &data, &mut header);
        }
        let wrongs: [(u8, &mut u64); 3] =
            [(2, &mut header.cmdp), (3, &mut header.dxferp), (4, &mut header.sbp)];
        for (number, address) in wrongs {
            if bit(number) {
                *address = BAD;
            }
        }
        if bit(5) {
            header.sbp = 0;
        }
        if bit(6) {
            header.interface_id = i32::from(b'Q');
        }
        if bit(7) {
            header.dxfer_direction = i32::from(self.fault) - 128;
        }
        disk.host.fault.set(self.fault());
        let before = disk.host.content.borrow().clone();
        let answer = disk.try_send(self.cdb, &header);
        // What has been written before bad memory is met may stay; all else is as it was.
        let row = find(self.cdb[0], self.cdb[1] & 0x1f);
        let writes =
            |row: &Command| matches!(row.operation, Write | WriteAndVerify | OrWrite | AtaPassThrough);
        if answer.is_err() && !row.is_some_and(writes) {
            assert!(*disk.host.content.borrow() == before);
        }
        if disk.entry == "/x=scsi,ro" {
            assert!(*disk.host.content.borrow() == before, "a protected disk does not change");
        }
    }

    /// Puts the data in pieces of lengths that differ.
    fn list(&self, disk: &Disk, data: &[u8], header: &mut SgIoHdr) {
        let pieces = usize::from(self.pieces) * if self.odd & 0x80 != 0 { 5 } else { 1 };
        let mut left = data.len();
        let mut lengths = Vec::new();
        for piece in 0..pieces {
            let length = match self.data.get(piece % self.data.len().max(1)) {
                Some(&length) => usize::from(length) * 8,
                None => 512,
            };
            lengths.push(length.min(left));
            left -= length.min(left);
        }
        let mut rest = data;
        for (address, length) in disk.lay_out(&lengths) {
            let (now, later) = rest.split_at(length as usize);
            disk.put(address, now);
            rest = later;
        }
        header.iovec_count = lengths.len() as u16;
        header.dxferp = LIST;
    }

    fn fault(&self) -> Option<Fault> {
        const CALLS: [Call; 8] = [
            Call::Read,
            Call::Write,
            Call::Sync,
            Call::BounceBuffer,
            Call::Lock,
            Call::Discard,
            Call::Zero,
            Call::Extent,
        ];
        const ERRNOS: [Errno; 8] = [
            Errno::EIO,
            Errno::ENOSPC,
            Errno::EROFS,
            Errno::ENOMEM,
            Errno::ENODEV,
            Errno::EINVAL,
            Errno::EFBIG,
            Errno::EPERM,
        ];
        Fault::of_byte(self.fault, CALLS, ERRNOS)
    }
}
