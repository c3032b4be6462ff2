//! Partition tables: MBR with logical partitions, and GPT (UEFI 2.10, chapter 5), of 512-byte sectors.

mod error;
mod gpt;
mod mbr;

use std::ops::Range;

use gpt::{explain_missing_mbr, gpt};
use mbr::{PROTECTIVE, Record, mbr};

pub use error::{Damage, Error};
pub use gpt::gpt_sector_size;

/// What a disk's table says.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Where the table itself lies, in sectors: what belongs to no partition but says where they are or starts the system.
    pub areas: Vec<Range<u64>>,
    /// The bytes of the disk that make up the table: the areas without boot loaders and unused space.
    pub bytes: Vec<Range<u64>>,
    /// The partitions, as the kernel numbers them.
    pub partitions: Vec<Partition>,
}

/// A partition that can hold data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number: 1 to 4 and from 5 the logical ones, or its place in the GPT.
    pub number: u32,
    /// Its sectors.
    pub place: Range<u64>,
}

/// A part of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A part of the table.
    Table(Range<u64>),
    /// A partition.
    Partition(Partition),
    /// What belongs to nobody.
    Gap(Range<u64>),
}

/// Bytes a sector.
const SECTOR: usize = 512;

/// The most that is taken for a table's before a partition: a boot loader has its place there.
const GAP: u64 = 2048;

/// Reads a sector of the disk.
pub trait Read: FnMut(u64, &mut [u8]) -> Result<(), Error> {}
impl<T: FnMut(u64, &mut [u8]) -> Result<(), Error>> Read for T {}

impl Table {
    /// Reads and checks the table of a device with this number of sectors.
    pub fn read(sectors: u64, mut read: impl Read) -> Result<Table, Error> {
        let mut first = [0; SECTOR];
        read(0, &mut first)?;
        let entries = match Record::primary(&first) {
            Ok(entries) => entries,
            Err(why) => return Err(explain_missing_mbr(&first, sectors, &mut read).unwrap_or(why)),
        };
        let table = if entries.iter().all(|entry| entry.kind != PROTECTIVE) {
            mbr(sectors, &entries, &mut read)?
        } else if entries.iter().any(|entry| ![0, PROTECTIVE].contains(&entry.kind) && entry.sectors > 0) {
            return Err(Error::Hybrid);
        } else if entries.iter().all(|entry| entry.kind != PROTECTIVE || entry.start != 1) {
            return Err(Error::ProtectiveStart);
        } else {
            gpt(sectors, &mut read)?
        };
        table.pieces(sectors)?;
        Ok(table)
    }

    /// Ends the areas of tables where something else begins.
    fn part_areas(&mut self) {
        let partitions = self.partitions.iter().map(|partition| partition.place.start);
        let starts: Vec<u64> = self.areas.iter().map(|area| area.start).chain(partitions).collect();
        for area in &mut self.areas {
            let next = starts.iter().copied().filter(|start| *start > area.start).min();
            area.end = area.end.min(next.unwrap_or(area.end));
        }
    }

    /// The whole disk in order.
    pub fn pieces(&self, sectors: u64) -> Result<Vec<Piece>, Error> {
        let mut pieces: Vec<Piece> = self.areas.iter().cloned().map(Piece::Table).collect();
        pieces.extend(self.partitions.iter().cloned().map(Piece::Partition));
        pieces.sort_by_key(|piece| piece.place().start);
        let (mut whole, mut at) = (Vec::new(), 0);
        for piece in pieces {
            let place = piece.place();
            if place.start < at {
                return Err(Error::Overlap { sector: place.start });
            }
            if place.start > at {
                whole.push(Piece::Gap(at..place.start));
            }
            at = place.end;
            whole.push(piece);
        }
        if at > sectors {
            return Err(Error::TooLong { partition: None, end: at, sectors });
        }
        if at < sectors {
            whole.push(Piece::Gap(at..sectors));
        }
        Ok(whole)
    }
}

impl Piece {
    /// Its sectors.
    pub fn place(&self) -> Range<u64> {
        match self {
            Piece::Table(place) | Piece::Gap(place) => place.clone(),
            Piece::Partition(partition) => partition.place.clone(),
        }
    }
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..][..length].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::crc32;
    use proptest::prelude::*;

    pub const SECTORS: u64 = 8192;

    /// A disk in memory.
    pub struct Disk(pub Vec<u8>);

    impl Disk {
        pub fn new() -> Disk {
            Disk(vec![0; SECTORS as usize * SECTOR])
        }

        pub fn record(&mut self, at: u64, index: usize, kind: u8, start: u32, sectors: u32) {
            let sector = &mut self.0[at as usize * SECTOR..][..SECTOR];
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
            let entry = &mut sector[446 + 16 * index..][..16];
            entry[4] = kind;
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..].copy_from_slice(&sectors.to_le_bytes());
        }

        pub fn put(&mut self, at: usize, bytes: &[u8]) {
            self.0[at..][..bytes.len()].copy_from_slice(bytes);
        }

        /// A primary and a backup GPT, as UEFI 2.10, 5.3 has them, for blocks of some sectors.
        pub fn gpt_of(size: u64, partitions: &[(u64, u64)]) -> Disk {
            let mut disk = Disk::new();
            let (block, count) = (size as usize * SECTOR, SECTORS / size);
            let blocks = (128 * 128 / block).max(1) as u64;
            disk.record(0, 0, PROTECTIVE, 1, count as u32 - 1);
            let mut entries = vec![0; 128 * 128];
            for (index, (start, end)) in partitions.iter().enumerate() {
                entries[128 * index] = 1;
                entries[128 * index + 32..][..8].copy_from_slice(&start.to_le_bytes());
                entries[128 * index + 40..][..8].copy_from_slice(&(end - 1).to_le_bytes());
            }
            for (own, other, at) in [(1, count - 1, 2), (count - 1, 1, count - 1 - blocks)] {
                disk.put(at as usize * block, &entries);
                let mut header = [0; 92];
                header[..8].copy_from_slice(b"EFI PART");
                header[10] = 1;
                header[12] = 92;
                for (place, number) in
                    [(24, own), (32, other), (40, 2 + blocks), (48, count - 2 - blocks), (72, at)]
                {
                    header[place..][..8].copy_from_slice(&u64::to_le_bytes(number));
                }
                header[80] = 128;
                header[84] = 128;
                header[88..].copy_from_slice(&crc32(&entries).to_le_bytes());
                let crc = crc32(&header);
                header[16..20].copy_from_slice(&crc.to_le_bytes());
                disk.put(own as usize * block, &header);
            }
            disk
        }

        pub fn gpt(partitions: &[(u64, u64)]) -> Disk {
            Disk::gpt_of(1, partitions)
        }

        pub fn sectors(&self, at: u64, into: &mut [u8]) -> Result<(), Error> {
            let from = self.0.get(at as usize * SECTOR..).and_then(|rest| rest.get(..into.len()));
            let error = || Error::Read { sector: at, cause: "it ends too early".into() };
            into.copy_from_slice(from.ok_or_else(error)?);
            Ok(())
        }

        pub fn read(&self) -> Result<Table, Error> {
            Table::read(SECTORS, |at, into| self.sectors(at, into))
        }

        pub fn gpt_sector_size(&self) -> Option<u64> {
            gpt_sector_size(SECTORS, |at, into| self.sectors(at, into))
        }
    }

    pub fn partition(number: u32, place: Range<u64>) -> Partition {
        Partition { number, place }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_disk_can_be_read(seed in prop::collection::vec((0u64..4, 440usize..512, any::<u8>()), 0..60), is_gpt: bool) {
            let mut disk = if is_gpt { Disk::gpt(&[(2048, 4096)]) } else { Disk::new() };
            disk.put(510, &[0x55, 0xaa]);
            for (sector, at, byte) in seed {
                disk.0[sector as usize * SECTOR + at] = byte;
            }
            if let Ok(table) = disk.read() {
                let pieces = table.pieces(SECTORS).expect("it was judged");
                let mut at = 0;
                for piece in pieces {
                    prop_assert_eq!(piece.place().start, at);
                    prop_assert!(piece.place().end > at);
                    at = piece.place().end;
                }
                prop_assert_eq!(at, SECTORS);
            }
        }
    }
}
