//! The GPT (UEFI 2.10, chapter 5).

use std::ops::Range;

use super::mbr::{MBR, PROTECTIVE, Record};
use super::{Damage, Error, GAP, Partition, Read, SECTOR, Table, number};
use crate::crc32;

/// A copy of a GPT that is right in itself.
struct Gpt {
    header: Header,
    entries: Vec<u8>,
}

/// A header of a GPT.
#[derive(Clone, PartialEq, Eq)]
struct Header {
    other: u64,
    usable: Range<u64>,
    disk: [u8; 16],
    entries: u64,
    count: u64,
    size: u64,
    checksum: u64,
}

/// A copy of a GPT as it is on the device.
enum Copy {
    Whole(Gpt),
    Damaged(Damage),
}

/// The most bytes that the entries may have.
const ENTRIES: u64 = 1 << 20;

/// A device as one of blocks of another size.
#[derive(Clone, Copy)]
struct Blocks {
    /// Sectors a block.
    size: u64,
    /// Blocks that it has.
    count: u64,
}

impl Blocks {
    fn of(sectors: u64, size: u64) -> Blocks {
        Blocks { size, count: sectors / size }
    }

    fn last(self) -> u64 {
        self.count.saturating_sub(1)
    }

    fn bytes(self) -> u64 {
        self.size * SECTOR as u64
    }

    /// Reads the copy of a GPT whose header stands in a block.
    fn gpt(self, at: u64, read: &mut impl Read) -> Result<Copy, Error> {
        if at >= self.count {
            return Ok(Copy::Damaged(Damage::NoHeader));
        }
        let mut block = vec![0; self.bytes() as usize];
        read(at * self.size, &mut block)?;
        let header = match Header::of(&mut block, at, self.count) {
            Ok(header) => header,
            Err(damage) => return Ok(Copy::Damaged(damage)),
        };
        let length = header.count * header.size;
        let mut entries = vec![0; (length.div_ceil(self.bytes()) * self.bytes()) as usize];
        if header.entries + header.blocks(self) > self.count {
            return Ok(Copy::Damaged(Damage::LargerDevice));
        }
        read(header.entries * self.size, &mut entries)?;
        entries.truncate(length as usize);
        let is_right = u64::from(crc32(&entries)) == header.checksum;
        Ok(match is_right {
            true => Copy::Whole(Gpt { header, entries }),
            false => Copy::Damaged(Damage::EntriesChecksum { other: header.other }),
        })
    }
}

impl Header {
    /// The header in a block of a device of so many.
    fn of(block: &mut [u8], at: u64, count: u64) -> Result<Header, Damage> {
        if !block.starts_with(b"EFI PART") {
            return Err(Damage::NoHeader);
        }
        let length = number(block, 12, 4) as usize;
        if !(92..=block.len()).contains(&length) || number(block, 8, 4) != 0x1_0000 {
            return Err(Damage::UnknownHeader);
        }
        let checksum = number(block, 16, 4);
        block[16..20].fill(0);
        if u64::from(crc32(&block[..length])) != checksum {
            return Err(Damage::HeaderChecksum);
        }
        let header = Header {
            other: number(block, 32, 8),
            usable: number(block, 40, 8)..number(block, 48, 8).saturating_add(1),
            disk: std::array::from_fn(|index| block[56 + index]),
            entries: number(block, 72, 8),
            count: number(block, 80, 4),
            size: number(block, 84, 4),
            checksum: number(block, 88, 4),
        };
        let bytes = header.count.saturating_mul(header.size);
        let is_right = number(block, 24, 8) == at
            && header.usable.start < header.usable.end
            && header.size >= 128
            && header.size.is_power_of_two()
            && (1..=ENTRIES).contains(&bytes);
        if !is_right {
            return Err(Damage::HeaderContradiction);
        }
        if header.other >= count || header.usable.end > count || header.entries >= count {
            return Err(Damage::LargerDevice);
        }
        Ok(header)
    }

    /// The blocks that the entries take.
    fn blocks(&self, device: Blocks) -> u64 {
        (self.count * self.size).div_ceil(device.bytes())
    }
}

/// The sizes of sectors that a GPT is looked for with, in sectors of 512 bytes.
const SIZES: [u64; 4] = [1, 2, 4, 8];

/// The size of the sectors that the GPT of a device was made for, in bytes; none where there is no GPT. A copy that is whole
/// outweighs a mere header.
pub fn gpt_sector_size(sectors: u64, mut read: impl Read) -> Option<u64> {
    let mut first = [0; SECTOR];
    read(0, &mut first).ok()?;
    match Record::primary(&first) {
        Err(_) => return whole_primary(sectors, &mut read).map(Blocks::bytes),
        Ok(entries) if entries.iter().all(|entry| entry.kind != PROTECTIVE) => return None,
        Ok(_) => {}
    }
    let mut find = |is_enough: fn(&Copy) -> bool| {
        SIZES.into_iter().map(|size| Blocks::of(sectors, size)).find(|blocks| {
            [1, blocks.last()].iter().any(|at| blocks.gpt(*at, &mut read).is_ok_and(|copy| is_enough(&copy)))
        })
    };
    let has_header = |copy: &Copy| match copy {
        Copy::Whole(_) | Copy::Damaged(Damage::LargerDevice | Damage::EntriesChecksum { .. }) => true,
        Copy::Damaged(_) => false,
    };
    find(|copy| matches!(copy, Copy::Whole(_))).or_else(|| find(has_header)).map(Blocks::bytes)
}

/// The blocks for which the primary GPT is whole.
fn whole_primary(sectors: u64, read: &mut impl Read) -> Option<Blocks> {
    let is_whole = |blocks: &Blocks| blocks.gpt(1, read).is_ok_and(|copy| matches!(copy, Copy::Whole(_)));
    SIZES.into_iter().map(|size| Blocks::of(sectors, size)).find(is_whole)
}

/// Why a GPT without a protective MBR cannot be used. One with entries of another meaning may be a file system's, and stays.
pub(super) fn explain_missing_mbr(first: &[u8; SECTOR], sectors: u64, read: &mut impl Read) -> Option<Error> {
    let blocks = whole_primary(sectors, read)?;
    if blocks.size > 1 {
        return Some(Error::GptSectorSize { bytes: blocks.bytes() });
    }
    let Copy::Whole(primary) = blocks.gpt(1, read).ok()? else { return None };
    let backup = blocks.gpt(primary.header.other, read);
    let has_backup = backup.is_ok_and(|backup| matches!(backup, Copy::Whole(_)));
    Record::all(first).is_none().then_some(Error::NoProtectiveMbr { has_backup })
}

pub(super) fn gpt(sectors: u64, read: &mut impl Read) -> Result<Table, Error> {
    let blocks = Blocks::of(sectors, 1);
    let primary = blocks.gpt(1, read)?;
    let place = match &primary {
        Copy::Whole(gpt) => gpt.header.other,
        Copy::Damaged(Damage::EntriesChecksum { other }) => *other,
        Copy::Damaged(_) => blocks.last(),
    };
    let backup = blocks.gpt(place, read)?;
    let (primary, backup) = match (primary, backup) {
        (Copy::Whole(primary), Copy::Whole(backup)) => (primary, backup),
        (Copy::Whole(_), Copy::Damaged(damage)) => return Err(Error::BackupGpt(damage)),
        (Copy::Damaged(damage), Copy::Whole(_)) => {
            // A whole primary one of another size is newer than what it left of this one.
            return Err(match whole_primary(sectors, read) {
                Some(blocks) => Error::GptSectorSize { bytes: blocks.bytes() },
                None => Error::PrimaryGpt(damage),
            });
        }
        (Copy::Damaged(Damage::LargerDevice), Copy::Damaged(_)) => return Err(Error::LargerDevice),
        (Copy::Damaged(damage), Copy::Damaged(_)) => {
            return Err(match gpt_sector_size(sectors, read) {
                Some(bytes) if bytes != SECTOR as u64 => Error::GptSectorSize { bytes },
                _ => Error::BothGpts(damage),
            });
        }
    };
    let (entries, is_same_table) = (&primary.entries, primary.entries == backup.entries);
    let (primary, backup) = (primary.header, backup.header);
    let same = Header { other: primary.other, entries: primary.entries, ..backup.clone() } == primary;
    let lies_around = primary.entries >= 2
        && primary.entries + primary.blocks(blocks) <= primary.usable.start
        && backup.entries >= primary.usable.end
        && backup.entries + primary.blocks(blocks) <= primary.other;
    if !same || !is_same_table || backup.other != 1 || !lies_around {
        return Err(Error::GptContradiction);
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(entries.chunks_exact(primary.size as usize)) {
        if entry[..16] == [0; 16] {
            continue;
        }
        let place = self::number(entry, 32, 8)..self::number(entry, 40, 8).saturating_add(1);
        if place.start >= place.end || place.start < primary.usable.start || place.end > primary.usable.end {
            return Err(Error::PartitionNotUsable(number));
        }
        partitions.push(Partition { number, place });
    }
    let first = partitions.iter().map(|partition| partition.place.start).min();
    let first = first.ok_or(Error::NoPartitions)?;
    let start = primary.usable.start.max(first.min(GAP));
    let areas = vec![0..start, backup.entries..primary.other + 1];
    let sectors = [1..2, primary.entries..primary.entries + primary.blocks(blocks), areas[1].clone()];
    let bytes = sectors.map(|sectors| sectors.start * SECTOR as u64..sectors.end * SECTOR as u64);
    Ok(Table { areas, bytes: [MBR].into_iter().chain(bytes).collect(), partitions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::{Disk, SECTORS, partition};

    #[test]
    fn checksum() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn gpts_of_other_sectors() {
        for size in SIZES {
            let disk = Disk::gpt_of(size, &[(100, 200)]);
            let bytes = size * SECTOR as u64;
            assert_eq!(disk.gpt_sector_size(), Some(bytes));
            let last = (SECTORS - size) as usize * SECTOR;
            // The header or the entries of either, or the protective MBR.
            for places in [&[bytes as usize + 30][..], &[2 * bytes as usize + 10], &[last + 30], &[510], &[]]
            {
                let mut disk = Disk(disk.0.clone());
                places.iter().for_each(|at| disk.0[*at] ^= 1);
                assert_eq!(disk.gpt_sector_size(), Some(bytes), "{size} {places:?}");
                let error = disk.read().err();
                let is_foreign = error == Some(Error::GptSectorSize { bytes });
                assert_eq!(is_foreign, size > 1, "{error:?}");
                let can_restore = matches!(
                    error,
                    Some(
                        Error::PrimaryGpt(_)
                            | Error::BackupGpt(_)
                            | Error::NoProtectiveMbr { has_backup: true }
                    )
                );
                assert_eq!(can_restore, size == 1 && !places.is_empty(), "{error:?}");
            }
        }
        assert_eq!(Disk::new().gpt_sector_size(), None);
        let mut disk = Disk::gpt_of(8, &[(100, 200)]);
        disk.record(0, 0, 7, 63, 1000);
        assert_eq!(disk.gpt_sector_size(), None, "the MBR is what counts");
    }

    #[test]
    fn gpts() {
        let table = Disk::gpt(&[(2048, 4096), (5000, 6000)]).read().expect("it is right");
        assert_eq!(table.areas, [0..2048, SECTORS - 33..SECTORS]);
        assert_eq!(table.bytes, [440..512, 512..1024, 1024..34 * 512, (SECTORS - 33) * 512..SECTORS * 512]);
        assert_eq!(table.partitions, [partition(1, 2048..4096), partition(2, 5000..6000)]);
        assert_eq!(Disk::gpt(&[]).read(), Err(Error::NoPartitions));
        assert_eq!(Disk::gpt(&[(33, 100)]).read(), Err(Error::PartitionNotUsable(1)));
        assert_eq!(Disk::gpt(&[(100, SECTORS - 32)]).read(), Err(Error::PartitionNotUsable(1)));
        assert_eq!(Disk::gpt(&[(100, 200), (150, 300)]).read(), Err(Error::Overlap { sector: 150 }));
        let entries = Damage::EntriesChecksum { other: SECTORS - 1 };
        for (at, error) in [
            (512, Error::PrimaryGpt(Damage::NoHeader)),
            (512 + 20, Error::PrimaryGpt(Damage::HeaderChecksum)),
            (512 + 60, Error::PrimaryGpt(Damage::HeaderChecksum)),
            (1024, Error::PrimaryGpt(entries)),
            ((SECTORS as usize - 1) * 512 + 50, Error::BackupGpt(Damage::HeaderChecksum)),
            ((SECTORS as usize - 33) * 512 + 50, Error::BackupGpt(Damage::EntriesChecksum { other: 1 })),
        ] {
            let mut disk = Disk::gpt(&[(2048, 4096)]);
            disk.0[at] ^= 0x40;
            assert_eq!(disk.read(), Err(error), "{at}");
            // No copy is left from which the other could be made.
            for at in [512 + 60, 1024, (SECTORS as usize - 1) * 512 + 50, (SECTORS as usize - 33) * 512 + 50]
            {
                disk.0[at] ^= 0x80;
            }
            assert!(matches!(disk.read(), Err(Error::BothGpts(_))), "{at}");
        }
    }
}
