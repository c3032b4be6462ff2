//! Partition tables: MBR with logical partitions, and GPT (UEFI 2.10, chapter 5), of 512-byte sectors.

use std::ops::Range;
use std::path::Path;

use crate::file::replace::crc32;
use crate::say::failure::quoted;

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

/// The kernel numbers partitions up to 255.
const LIMIT: u32 = 256;

/// The kernel follows so many links of a chain of logical partitions without finding one.
const IDLE: u32 = 100;

/// Reads a sector of the disk.
pub trait Read: FnMut(u64, &mut [u8]) -> Result<(), String> {}
impl<T: FnMut(u64, &mut [u8]) -> Result<(), String>> Read for T {}

impl Table {
    /// Reads and judges the table of a device of a length in sectors; words that follow the device's name say what is wrong.
    pub fn read(device: &Path, sectors: u64, mut read: impl Read) -> Result<Table, String> {
        let mut first = [0; SECTOR];
        read(0, &mut first)?;
        let entries = match Record::primary(&first) {
            Ok(entries) => entries,
            Err(why) => return Err(unprotected(device, &first, sectors, &mut read).unwrap_or(why)),
        };
        let table = if entries.iter().all(|entry| entry.kind != PROTECTIVE) {
            mbr(sectors, &entries, &mut read)?
        } else if entries.iter().any(|entry| ![0, PROTECTIVE].contains(&entry.kind) && entry.sectors > 0) {
            return Err(
                "has a hybrid of MBR and GPT, which cannot be divided safely; use the whole device".into()
            );
        } else if entries.iter().all(|entry| entry.kind != PROTECTIVE || entry.start != 1) {
            return Err(
                "has a protective MBR that does not begin in sector 1, so that the kernel ignores its GPT; use the whole device"
                    .into(),
            );
        } else {
            gpt(device, sectors, &mut read)?
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
    pub fn pieces(&self, sectors: u64) -> Result<Vec<Piece>, String> {
        let mut pieces: Vec<Piece> = self.areas.iter().cloned().map(Piece::Table).collect();
        pieces.extend(self.partitions.iter().cloned().map(Piece::Partition));
        pieces.sort_by_key(|piece| piece.place().start);
        let (mut whole, mut at) = (Vec::new(), 0);
        for piece in pieces {
            let place = piece.place();
            if place.start < at {
                return Err(format!(
                    "has a partition table whose parts overlap at sector {}; use the whole device",
                    place.start
                ));
            }
            if place.start > at {
                whole.push(Piece::Gap(at..place.start));
            }
            at = place.end;
            whole.push(piece);
        }
        if at > sectors {
            return Err(format!(
                "has a partition table that reaches to sector {at} of {sectors}; give the device its size again"
            ));
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

/// An entry of an MBR.
struct Record {
    kind: u8,
    start: u64,
    sectors: u64,
}

/// The bytes of an MBR that are its table: the disk's signature, the entries, the mark.
const MBR: Range<u64> = 440..SECTOR as u64;

/// The type of the entry that stands before a GPT.
const PROTECTIVE: u8 = 0xee;

impl Record {
    /// The four entries of the disk's first sector.
    fn primary(sector: &[u8; SECTOR]) -> Result<[Record; 4], String> {
        let entries = Record::all(sector).ok_or(
            "has no partition table in sector 0 (the mark 55 AA is missing); use the whole device, or divide it first where it is \
             empty",
        )?;
        if (0..4).any(|index| sector[446 + 16 * index] & 0x7f != 0) {
            return Err(
                "has in sector 0 what is no partition table, perhaps a file system; use the whole device"
                    .into(),
            );
        }
        Ok(entries)
    }

    /// The four entries of a sector that has the mark of a table.
    fn all(sector: &[u8; SECTOR]) -> Option<[Record; 4]> {
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

/// A little-endian number.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..][..length].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn mbr(sectors: u64, entries: &[Record; 4], read: &mut impl Read) -> Result<Table, String> {
    let used = || (1..).zip(entries).filter(|(_, entry)| entry.sectors > 0);
    for (number, entry) in used() {
        let place = entry.place(0);
        if place.start == 0 {
            return Err(format!(
                "has a partition {number} that begins where the table itself stands, as on images of CDs; use the whole device"
            ));
        }
        if place.end > sectors {
            return Err(format!(
                "has a partition {number} that reaches to sector {} of {sectors}; give the device its size again",
                place.end
            ));
        }
        if used().any(|(other, entry)| other != number && overlap(&entry.place(0), &place)) {
            return Err(format!("has a partition {number} that overlaps another; use the whole device"));
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
        return Err("has a partition table without partitions; make some, or use the whole device".into());
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
) -> Result<(), String> {
    let mut at = extended.clone();
    let mut seen = Vec::new();
    let mut idle = 0;
    while idle < IDLE && numbers.start < numbers.end {
        let wrong = || {
            format!(
                "has a table of logical partitions in sector {} that contradicts itself; use the whole device",
                at.start
            )
        };
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
                return Err("has a chain of logical partitions without end; use the whole device".into());
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
                return Err(wrong());
            }
            table.partitions.push(Partition { number, place });
        }
        let Some(link) = entries.iter().flatten().find(|entry| entry.is_extended()) else { break };
        let next = link.place(extended.start);
        if next.start >= extended.end {
            return Err(wrong());
        }
        at = next;
    }
    Ok(())
}

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
fn unprotected(device: &Path, first: &[u8; SECTOR], sectors: u64, read: &mut impl Read) -> Option<String> {
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

fn gpt(device: &Path, sectors: u64, read: &mut impl Read) -> Result<Table, String> {
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
    use proptest::prelude::*;

    const SECTORS: u64 = 8192;

    /// A disk in memory.
    struct Disk(Vec<u8>);

    impl Disk {
        fn new() -> Disk {
            Disk(vec![0; SECTORS as usize * SECTOR])
        }

        fn record(&mut self, at: u64, index: usize, kind: u8, start: u32, sectors: u32) {
            let sector = &mut self.0[at as usize * SECTOR..][..SECTOR];
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
            let entry = &mut sector[446 + 16 * index..][..16];
            entry[4] = kind;
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..].copy_from_slice(&sectors.to_le_bytes());
        }

        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.0[at..][..bytes.len()].copy_from_slice(bytes);
        }

        /// A primary and a backup GPT, as UEFI 2.10, 5.3 has them, for blocks of some sectors.
        fn gpt_of(size: u64, partitions: &[(u64, u64)]) -> Disk {
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

        fn gpt(partitions: &[(u64, u64)]) -> Disk {
            Disk::gpt_of(1, partitions)
        }

        fn sectors(&self, at: u64, into: &mut [u8]) -> Result<(), String> {
            let from = self.0.get(at as usize * SECTOR..).and_then(|rest| rest.get(..into.len()));
            into.copy_from_slice(from.ok_or("ends too early")?);
            Ok(())
        }

        fn read(&self) -> Result<Table, String> {
            Table::read(Path::new("/dev/x"), SECTORS, |at, into| self.sectors(at, into))
        }

        fn made_for(&self) -> Option<u64> {
            made_for(SECTORS, |at, into| self.sectors(at, into))
        }
    }

    fn partition(number: u32, place: Range<u64>) -> Partition {
        Partition { number, place }
    }

    #[test]
    fn checksum() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

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
        assert!(broken(|disk| disk.record(3000, 1, 5, 0, 1000)).contains("without end"));
        assert!(broken(|disk| disk.record(3000, 1, 5, 2000, 1000)).contains("without end"));
        assert!(broken(|disk| disk.record(3000, 1, 5, 7000, 1)).contains("contradicts"));
        assert!(broken(|disk| disk.record(3000, 0, 0x83, 63, 7000)).contains("contradicts"));
        assert!(broken(|disk| disk.record(3000, 0, 0x83, 0, 100)).contains("contradicts"));
        assert!(broken(|disk| disk.record(3000, 2, 0x83, 63, 7)).contains("overlap"));
        assert!(broken(|disk| disk.record(1000, 0, 0x83, 63, 2000)).contains("overlap"));
        assert!(broken(|disk| disk.record(0, 1, 0x83, 900, 200)).contains("overlaps"));
        assert!(broken(|disk| disk.record(0, 1, 7, 8000, 193)).contains("8193"));
        assert!(broken(|disk| disk.record(0, 1, 7, 0, 10)).contains("partition 2"));
        assert!(broken(|disk| disk.record(0, 1, 0xee, 1, 10)).contains("hybrid"));
        assert!(broken(|disk| disk.put(510, &[0])).contains("has no partition table"));
        assert!(broken(|disk| disk.put(446, &[0x29])).contains("file system"));
        assert!(broken(|disk| disk.put(446, &[0; 64])).contains("without partitions"));
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
