//! The GPT (UEFI 2.10, chapter 5).

use std::ops::Range;
use std::path::Path;

use super::mbr::{MBR, PROTECTIVE, Record};
use super::{GAP, Partition, Read, SECTOR, Table, number};
use crate::file::replace::crc32;
use crate::say::failure::quoted;

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

/// What is wrong with a copy of a GPT.
enum Wrong {
    /// There is no header, or none that is right; words say why.
    Header(&'static str),
    /// It is of a device that is larger than this one.
    Large,
    /// The header is right, and says where the other copy is, but its entries are not.
    Entries { other: u64 },
}

impl Wrong {
    /// Words that follow the copy's name.
    fn words(&self) -> String {
        match self {
            Wrong::Header(why) => format!("whose header {why}"),
            Wrong::Large => "for a larger device".into(),
            Wrong::Entries { .. } => "whose checksum is wrong".into(),
        }
    }
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
    fn gpt(self, at: u64, read: &mut impl Read) -> Result<Result<Gpt, Wrong>, String> {
        if at >= self.count {
            return Ok(Err(Wrong::Header("is missing")));
        }
        let mut block = vec![0; self.bytes() as usize];
        read(at * self.size, &mut block)?;
        let header = match Header::of(&mut block, at, self.count) {
            Ok(header) => header,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let length = header.count * header.size;
        let mut entries = vec![0; (length.div_ceil(self.bytes()) * self.bytes()) as usize];
        if header.entries + header.blocks(self) > self.count {
            return Ok(Err(Wrong::Large));
        }
        read(header.entries * self.size, &mut entries)?;
        entries.truncate(length as usize);
        let is_right = u64::from(crc32(&entries)) == header.checksum;
        Ok(if is_right { Ok(Gpt { header, entries }) } else { Err(Wrong::Entries { other: header.other }) })
    }
}

impl Header {
    /// The header in a block of a device of so many.
    fn of(block: &mut [u8], at: u64, count: u64) -> Result<Header, Wrong> {
        if !block.starts_with(b"EFI PART") {
            return Err(Wrong::Header("is missing"));
        }
        let length = number(block, 12, 4) as usize;
        if !(92..=block.len()).contains(&length) || number(block, 8, 4) != 0x1_0000 {
            return Err(Wrong::Header("is of an unknown kind"));
        }
        let checksum = number(block, 16, 4);
        block[16..20].fill(0);
        if u64::from(crc32(&block[..length])) != checksum {
            return Err(Wrong::Header("has a wrong checksum"));
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
            return Err(Wrong::Header("contradicts itself"));
        }
        if header.other >= count || header.usable.end > count || header.entries >= count {
            return Err(Wrong::Large);
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
pub fn made_for(sectors: u64, mut read: impl Read) -> Option<u64> {
    let mut first = [0; SECTOR];
    read(0, &mut first).ok()?;
    match Record::primary(&first) {
        Err(_) => return whole_primary(sectors, &mut read).map(Blocks::bytes),
        Ok(entries) if entries.iter().all(|entry| entry.kind != PROTECTIVE) => return None,
        Ok(_) => {}
    }
    let mut find = |is_enough: fn(&Result<Gpt, Wrong>) -> bool| {
        SIZES.into_iter().map(|size| Blocks::of(sectors, size)).find(|blocks| {
            [1, blocks.last()]
                .iter()
                .any(|at| blocks.gpt(*at, &mut read).is_ok_and(|found| is_enough(&found)))
        })
    };
    let whole = find(|found| found.is_ok());
    let found = whole.or_else(|| find(|found| !matches!(found, Err(Wrong::Header(_)))));
    found.map(Blocks::bytes)
}

/// The command that writes a GPT anew from the copy of it that is whole.
fn restore(device: &Path) -> String {
    format!("'sgdisk --move-second-header {}'", quoted(device))
}

/// The blocks for which the primary GPT is whole.
fn whole_primary(sectors: u64, read: &mut impl Read) -> Option<Blocks> {
    let is_whole = |blocks: &Blocks| blocks.gpt(1, read).is_ok_and(|found| found.is_ok());
    SIZES.into_iter().map(|size| Blocks::of(sectors, size)).find(is_whole)
}

/// What is said of a GPT without a protective MBR. One with entries of another meaning may be a file system's, and stays.
pub(super) fn unprotected(
    device: &Path,
    first: &[u8; SECTOR],
    sectors: u64,
    read: &mut impl Read,
) -> Option<String> {
    let blocks = whole_primary(sectors, read)?;
    if blocks.size > 1 {
        return Some(foreign(blocks.bytes()));
    }
    let primary = blocks.gpt(1, read).ok()?.ok()?;
    let has_backup = blocks.gpt(primary.header.other, read).is_ok_and(|backup| backup.is_ok());
    // sgdisk writes the MBR only where both copies are whole.
    let remedy = if has_backup {
        format!("write one by {}", restore(device))
    } else {
        "its backup is not whole either, so write both by hand in gdisk(8)".into()
    };
    let is_missing = Record::all(first).is_none();
    is_missing.then(|| format!("has a GPT without the protective MBR that says so; {remedy}"))
}

/// What to do with a GPT that was made for sectors of another size.
pub const LEAVE: &str = "leave the table as it is, because programs that repair or make one would destroy it";

/// What is said of it.
pub fn foreign(bytes: u64) -> String {
    format!(
        "has a GPT made for {bytes}-byte sectors, which a virtual machine with its {SECTOR} does not find; {LEAVE}"
    )
}

pub(super) fn gpt(device: &Path, sectors: u64, read: &mut impl Read) -> Result<Table, String> {
    let blocks = Blocks::of(sectors, 1);
    let primary = blocks.gpt(1, read)?;
    let place = match &primary {
        Ok(gpt) => gpt.header.other,
        Err(Wrong::Entries { other }) => *other,
        Err(_) => blocks.last(),
    };
    let backup = blocks.gpt(place, read)?;
    let (primary, backup) = match (primary, backup) {
        (Ok(primary), Ok(backup)) => (primary, backup),
        (Ok(_), Err(why)) => {
            return Err(format!(
                "has a backup GPT {}, and a primary one that is whole; restore the backup by {}",
                why.words(),
                restore(device)
            ));
        }
        (Err(why), Ok(_)) => {
            // A whole primary one of another size is newer than what it left of this one.
            if let Some(blocks) = whole_primary(sectors, read) {
                return Err(foreign(blocks.bytes()));
            }
            return Err(format!(
                "has a primary GPT {}, and a backup that is whole; restore the primary one by {}",
                why.words(),
                restore(device)
            ));
        }
        (Err(Wrong::Large), Err(_)) => {
            return Err("has a GPT made for a larger device; give it its size again".into());
        }
        (Err(why), Err(_)) => {
            return Err(match made_for(sectors, read) {
                Some(bytes) if bytes != SECTOR as u64 => foreign(bytes),
                _ => format!(
                    "has a primary GPT {}, and no backup that is whole; restore both from a backup of your own (sgdisk(8), \
                     --load-backup), or use the whole device",
                    why.words()
                ),
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
        return Err(
            "has two GPTs that contradict each other, and only you can tell which one is right; gdisk(8) shows both".into()
        );
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(entries.chunks_exact(primary.size as usize)) {
        if entry[..16] == [0; 16] {
            continue;
        }
        let place = self::number(entry, 32, 8)..self::number(entry, 40, 8).saturating_add(1);
        if place.start >= place.end || place.start < primary.usable.start || place.end > primary.usable.end {
            return Err(format!(
                "has a partition {number} outside of what its GPT calls usable; use the whole device"
            ));
        }
        partitions.push(Partition { number, place });
    }
    let first = partitions.iter().map(|partition| partition.place.start).min();
    let first = first.ok_or("has a GPT without partitions; make some, or use the whole device")?;
    let start = primary.usable.start.max(first.min(GAP));
    let areas = vec![0..start, backup.entries..primary.other + 1];
    let sectors = [1..2, primary.entries..primary.entries + primary.blocks(blocks), areas[1].clone()];
    let bytes = sectors.map(|sectors| sectors.start * SECTOR as u64..sectors.end * SECTOR as u64);
    Ok(Table { areas, bytes: [MBR].into_iter().chain(bytes).collect(), partitions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmdk::table::tests::{Disk, SECTORS, partition};

    #[test]
    fn checksum() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn gpts_of_other_sectors() {
        for size in SIZES {
            let disk = Disk::gpt_of(size, &[(100, 200)]);
            let bytes = size * SECTOR as u64;
            assert_eq!(disk.made_for(), Some(bytes));
            let words = format!("made for {bytes}-byte sectors");
            let last = (SECTORS - size) as usize * SECTOR;
            // The header or the entries of either, or the protective MBR.
            for places in [&[bytes as usize + 30][..], &[2 * bytes as usize + 10], &[last + 30], &[510], &[]]
            {
                let mut disk = Disk(disk.0.clone());
                places.iter().for_each(|at| disk.0[*at] ^= 1);
                assert_eq!(disk.made_for(), Some(bytes), "{size} {places:?}");
                let said = disk.read().err().unwrap_or_default();
                assert_eq!(said.contains(&words), size > 1, "{said}");
                assert_eq!(said.contains("sgdisk"), size == 1 && !places.is_empty(), "{said}");
            }
        }
        assert_eq!(Disk::new().made_for(), None);
        let mut disk = Disk::gpt_of(8, &[(100, 200)]);
        disk.record(0, 0, 7, 63, 1000);
        assert_eq!(disk.made_for(), None, "the MBR is what counts");
    }

    #[test]
    fn gpts() {
        let table = Disk::gpt(&[(2048, 4096), (5000, 6000)]).read().expect("it is right");
        assert_eq!(table.areas, [0..2048, SECTORS - 33..SECTORS]);
        assert_eq!(table.bytes, [440..512, 512..1024, 1024..34 * 512, (SECTORS - 33) * 512..SECTORS * 512]);
        assert_eq!(table.partitions, [partition(1, 2048..4096), partition(2, 5000..6000)]);
        assert!(Disk::gpt(&[]).read().expect_err("it is empty").contains("without partitions"));
        assert!(Disk::gpt(&[(33, 100)]).read().expect_err("it is wrong").contains("usable"));
        assert!(Disk::gpt(&[(100, SECTORS - 32)]).read().expect_err("it is wrong").contains("usable"));
        assert!(Disk::gpt(&[(100, 200), (150, 300)]).read().expect_err("it is wrong").contains("overlap"));
        for (at, what) in [
            (512, "primary GPT whose header is missing"),
            (512 + 20, "primary GPT whose header has a wrong checksum"),
            (512 + 60, "primary GPT whose header has a wrong checksum"),
            (1024, "primary GPT whose checksum"),
            ((SECTORS as usize - 1) * 512 + 50, "backup GPT whose header has a wrong checksum"),
            ((SECTORS as usize - 33) * 512 + 50, "backup GPT whose checksum"),
        ] {
            let mut disk = Disk::gpt(&[(2048, 4096)]);
            disk.0[at] ^= 0x40;
            let said = disk.read().expect_err("a bit is wrong");
            assert!(
                said.contains(what) && said.ends_with("'sgdisk --move-second-header /dev/x'"),
                "{at}: {said}"
            );
            // No copy is left from which the other could be made.
            for at in [512 + 60, 1024, (SECTORS as usize - 1) * 512 + 50, (SECTORS as usize - 33) * 512 + 50]
            {
                disk.0[at] ^= 0x80;
            }
            assert!(disk.read().expect_err("both are wrong").contains("no backup that is whole"));
        }
    }
}
