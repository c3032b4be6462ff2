//! The MBR and its chain of logical partitions.

use std::ops::Range;

use super::{Error, GAP, Partition, Read, SECTOR, Table, number};

/// The kernel numbers partitions up to 255.
const LIMIT: u32 = 256;

/// The kernel follows so many links of a chain of logical partitions without finding one.
const IDLE: u32 = 100;

/// An entry of an MBR.
pub(super) struct Record {
    pub(super) kind: u8,
    pub(super) start: u64,
    pub(super) sectors: u64,
}

/// The bytes of an MBR that are its table: the disk's signature, the entries, the mark.
pub(super) const MBR: Range<u64> = 440..SECTOR as u64;

/// The type of the entry that stands before a GPT.
pub(super) const PROTECTIVE: u8 = 0xee;

impl Record {
    /// The four entries of the disk's first sector.
    pub(super) fn primary(sector: &[u8; SECTOR]) -> Result<[Record; 4], Error> {
        let entries = Record::all(sector).ok_or(Error::NoMark)?;
        if (0..4).any(|index| sector[446 + 16 * index] & 0x7f != 0) {
            return Err(Error::NotATable);
        }
        Ok(entries)
    }

    /// The four entries of a sector that has the mark of a table.
    pub(super) fn all(sector: &[u8; SECTOR]) -> Option<[Record; 4]> {
        let entries = [0, 1, 2, 3].map(|index| &sector[446 + 16 * index..][..16]);
        (sector[510..] == [0x55, 0xaa]).then(|| {
            entries.map(|entry| Record {
                kind: entry[4],
                start: number(entry, 8, 4),
                sectors: number(entry, 12, 4),
            })
        })
    }

    fn is_extended(&self) -> bool {
        self.sectors > 0 && matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    /// Whether it is a partition to the kernel, which does not ask for its type.
    fn is_data(&self) -> bool {
        self.sectors > 0 && !self.is_extended()
    }

    /// Its sectors, counted from one of the disk.
    fn place(&self, from: u64) -> Range<u64> {
        from + self.start..from + self.start + self.sectors
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

pub(super) fn mbr(sectors: u64, entries: &[Record; 4], read: &mut impl Read) -> Result<Table, Error> {
    let used = || (1..).zip(entries).filter(|(_, entry)| entry.sectors > 0);
    for (number, entry) in used() {
        let place = entry.place(0);
        if place.start == 0 {
            return Err(Error::PartitionAtTable(number));
        }
        if place.end > sectors {
            return Err(Error::TooLong { partition: Some(number), end: place.end, sectors });
        }
        if used().any(|(other, entry)| other != number && overlap(&entry.place(0), &place)) {
            return Err(Error::PartitionOverlap(number));
        }
    }
    let first = used().map(|(_, entry)| entry.start).min().unwrap_or(GAP);
    let mut table = Table { areas: Vec::new(), bytes: vec![MBR], partitions: Vec::new() };
    table.areas.push(0..first.min(GAP));
    for (number, entry) in used().filter(|(_, entry)| entry.is_data()) {
        table.partitions.push(Partition { number, place: entry.place(0) });
    }
    let mut logical = 5..LIMIT;
    for (_, entry) in used().filter(|(_, entry)| entry.is_extended()) {
        chain(&entry.place(0), &mut logical, &mut table, read)?;
    }
    if table.partitions.is_empty() {
        return Err(Error::NoPartitions);
    }
    table.part_areas();
    Ok(table)
}

/// Follows the chain of logical partitions as the kernel does (block/partitions/msdos.c): a table can have none or up to four, the
/// link is the first extended entry wherever it stands, and the chain ends where there is no table.
fn chain(
    extended: &Range<u64>,
    numbers: &mut Range<u32>,
    table: &mut Table,
    read: &mut impl Read,
) -> Result<(), Error> {
    let mut at = extended.clone();
    let mut seen = Vec::new();
    let mut idle = 0;
    while idle < IDLE && numbers.start < numbers.end {
        let contradiction = || Error::Logical { sector: at.start };
        let mut sector = [0; SECTOR];
        read(at.start, &mut sector)?;
        let entries = Record::all(&sector);
        let is_garbage = |index, entry: &Record| {
            index >= 2
                && (entry.start + entry.sectors > at.end - at.start
                    || entry.place(at.start).end > extended.end)
        };
        let data: Vec<Range<u64>> = entries
            .iter()
            .flatten()
            .enumerate()
            .filter(|(index, entry)| entry.is_data() && !is_garbage(*index, entry))
            .map(|(_, entry)| entry.place(at.start))
            .collect();
        if seen.contains(&at.start) {
            if !data.is_empty() {
                return Err(Error::EndlessChain);
            }
        } else {
            seen.push(at.start);
            let start = at.start * SECTOR as u64;
            table.bytes.push(start + MBR.start + 6..start + MBR.end);
            let end = data.iter().map(|place| place.start.min(at.start + GAP)).min();
            table.areas.push(at.start..end.unwrap_or(at.start + 1));
        }
        idle = if data.is_empty() { idle + 1 } else { 0 };
        for (number, place) in numbers.by_ref().take(data.len()).zip(data) {
            if place.start == at.start || place.end > extended.end {
                return Err(contradiction());
            }
            table.partitions.push(Partition { number, place });
        }
        let Some(link) = entries.iter().flatten().find(|entry| entry.is_extended()) else { break };
        let next = link.place(extended.start);
        if next.start >= extended.end {
            return Err(contradiction());
        }
        at = next;
    }
    Ok(())
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Piece;
    use crate::table::tests::{Disk, SECTORS, partition};

    #[test]
    fn logical_partitions() {
        let mut disk = Disk::new();
        disk.record(0, 0, 7, 63, 937);
        disk.record(0, 2, 5, 1000, 7000);
        disk.record(1000, 0, 0x83, 63, 1937);
        disk.record(1000, 1, 5, 2000, 4000);
        disk.record(3000, 0, 0x83, 63, 937);
        let table = disk.read().expect("it is right");
        assert_eq!(table.areas, [0..63, 1000..1063, 3000..3063]);
        assert_eq!(table.bytes, [440..512, 1000 * 512 + 446..1001 * 512, 3000 * 512 + 446..3001 * 512]);
        assert_eq!(
            table.partitions,
            [partition(1, 63..1000), partition(5, 1063..3000), partition(6, 3063..4000)]
        );
        let pieces = table.pieces(SECTORS).expect("it is right");
        assert_eq!(pieces.last(), Some(&Piece::Gap(4000..SECTORS)));
        assert_eq!(pieces.iter().map(|piece| piece.place().end - piece.place().start).sum::<u64>(), SECTORS);
    }

    #[test]
    fn broken_chains() {
        let broken = |change: fn(&mut Disk)| {
            let mut disk = Disk::new();
            disk.record(0, 0, 5, 1000, 7000);
            disk.record(1000, 0, 0x83, 63, 1000);
            disk.record(1000, 1, 5, 2000, 1000);
            disk.record(3000, 0, 0x83, 63, 900);
            change(&mut disk);
            disk.read().expect_err("it is broken")
        };
        assert_eq!(broken(|disk| disk.record(3000, 1, 5, 0, 1000)), Error::EndlessChain);
        assert_eq!(broken(|disk| disk.record(3000, 1, 5, 2000, 1000)), Error::EndlessChain);
        assert_eq!(broken(|disk| disk.record(3000, 1, 5, 7000, 1)), Error::Logical { sector: 3000 });
        assert_eq!(broken(|disk| disk.record(3000, 0, 0x83, 63, 7000)), Error::Logical { sector: 3000 });
        assert_eq!(broken(|disk| disk.record(3000, 0, 0x83, 0, 100)), Error::Logical { sector: 3000 });
        assert_eq!(broken(|disk| disk.record(3000, 2, 0x83, 63, 7)), Error::Overlap { sector: 3063 });
        assert_eq!(broken(|disk| disk.record(1000, 0, 0x83, 63, 2000)), Error::Overlap { sector: 3000 });
        assert_eq!(broken(|disk| disk.record(0, 1, 0x83, 900, 200)), Error::PartitionOverlap(1));
        assert_eq!(
            broken(|disk| disk.record(0, 1, 7, 8000, 193)),
            Error::TooLong { partition: Some(2), end: 8193, sectors: SECTORS }
        );
        assert_eq!(broken(|disk| disk.record(0, 1, 7, 0, 10)), Error::PartitionAtTable(2));
        assert_eq!(broken(|disk| disk.record(0, 1, 0xee, 1, 10)), Error::Hybrid);
        assert_eq!(broken(|disk| disk.put(510, &[0])), Error::NoMark);
        assert_eq!(broken(|disk| disk.put(446, &[0x29])), Error::NotATable);
        assert_eq!(broken(|disk| disk.put(446, &[0; 64])), Error::NoPartitions);
    }

    /// The numbers and first sectors of the partitions of a chain from sector 1000 on.
    fn numbered(change: fn(&mut Disk)) -> Vec<(u32, u64)> {
        let mut disk = Disk::new();
        disk.record(0, 2, 5, 1000, 7000);
        disk.record(1000, 0, 0x83, 63, 100);
        disk.record(1000, 1, 5, 2000, 1000);
        disk.record(3000, 0, 0x83, 63, 900);
        disk.record(3000, 1, 5, 4000, 1000);
        disk.record(5000, 0, 0x83, 63, 900);
        change(&mut disk);
        let table = disk.read().expect("the kernel takes it");
        table.partitions.iter().map(|partition| (partition.number, partition.place.start)).collect()
    }

    #[test]
    fn numbers_are_the_kernel_s() {
        assert_eq!(numbered(|_| {}), [(5, 1063), (6, 3063), (7, 5063)]);
        assert_eq!(numbered(|disk| disk.record(1000, 0, 0, 0, 0)), [(5, 3063), (6, 5063)], "an empty one");
        assert_eq!(numbered(|disk| disk.record(1000, 0, 0, 63, 100))[0], (5, 1063), "of type 00");
        assert_eq!(numbered(|disk| disk.record(0, 0, 0, 63, 100))[0], (1, 63), "of type 00");
        assert_eq!(
            numbered(|disk| {
                disk.record(3000, 0, 5, 4000, 1000);
                disk.record(3000, 1, 0, 0, 0);
            }),
            [(5, 1063), (6, 5063)],
            "the link stands first"
        );
        assert_eq!(
            numbered(|disk| disk.record(1000, 3, 0x83, 1000, 900)),
            [(5, 1063), (6, 2000), (7, 3063), (8, 5063)],
            "two in one table"
        );
        assert_eq!(numbered(|disk| disk.record(1000, 3, 0x83, 1000, 7000)).len(), 3, "garbage");
        assert_eq!(numbered(|disk| disk.put(3000 * SECTOR + 510, &[0])), [(5, 1063)], "no mark, no table");
        assert_eq!(
            numbered(|disk| {
                disk.record(5000, 0, 0, 0, 0);
                disk.record(5000, 1, 5, 4000, 1000);
            }),
            [(5, 1063), (6, 3063)],
            "an empty table that leads to itself"
        );
        assert_eq!(
            numbered(|disk| {
                disk.record(0, 0, 0x85, 100, 800);
                disk.record(100, 0, 7, 1, 10);
            }),
            [(5, 101), (6, 1063), (7, 3063), (8, 5063)],
            "two extended partitions"
        );
    }
}
