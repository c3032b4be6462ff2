//! Partition tables: MBR with logical partitions, and GPT (UEFI 2.10, chapter 5), of 512-byte sectors.

use std::ops::Range;

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

/// More logical partitions are a broken chain.
const LOGICAL: usize = 128;

/// Reads a sector of the disk.
pub trait Read: FnMut(u64, &mut [u8]) -> Result<(), String> {}
impl<T: FnMut(u64, &mut [u8]) -> Result<(), String>> Read for T {}

impl Table {
    /// Reads and judges the table of a disk of a length in sectors; words that follow the device's name say what is wrong.
    pub fn read(sectors: u64, mut read: impl Read) -> Result<Table, String> {
        let mut first = [0; SECTOR];
        read(0, &mut first)?;
        let entries = Record::all(&first, "partition table", 0)?;
        let table = match entries.iter().filter(|entry| entry.kind == PROTECTIVE).count() {
            0 => mbr(sectors, &entries, &mut read)?,
            1 if entries.iter().all(|entry| entry.kind == PROTECTIVE || entry.is_empty()) => {
                gpt(sectors, &mut read)?
            }
            _ => {
                return Err(
                    "has a hybrid of MBR and GPT, which cannot be divided safely; use the whole device"
                        .into(),
                );
            }
        };
        table.pieces(sectors)?;
        Ok(table)
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
                    "has a partition table whose parts overlap at sector {}; repair it",
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
            return Err(format!("has a partition table that reaches to sector {at} of {sectors}; repair it"));
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
    /// The four entries.
    fn all(sector: &[u8; SECTOR], name: &str, at: u64) -> Result<[Record; 4], String> {
        if sector[510..] != [0x55, 0xaa] {
            return Err(format!(
                "has no {name} in sector {at} (the mark 55 AA is missing); make one, or use the whole device"
            ));
        }
        let entries = [0, 1, 2, 3].map(|index| &sector[446 + 16 * index..][..16]);
        if entries.iter().any(|entry| entry[0] & 0x7f != 0) {
            return Err(format!(
                "has in sector {at} what is no partition table, perhaps a file system; use the whole device"
            ));
        }
        Ok(entries.map(|entry| Record {
            kind: entry[4],
            start: number(entry, 8, 4),
            sectors: number(entry, 12, 4),
        }))
    }

    fn is_empty(&self) -> bool {
        self.kind == 0 || self.sectors == 0
    }

    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..][..length].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn mbr(sectors: u64, entries: &[Record; 4], read: &mut impl Read) -> Result<Table, String> {
    let mut partitions = Vec::new();
    let mut extended: Option<Range<u64>> = None;
    let mut places: Vec<Range<u64>> = Vec::new();
    for (number, entry) in (1..).zip(entries).filter(|(_, entry)| !entry.is_empty()) {
        let place = entry.start..entry.start + entry.sectors;
        if place.start == 0 || place.end > sectors {
            return Err(format!(
                "has a partition {number} of the sectors {place:?}, while it has {sectors}; repair the table"
            ));
        }
        if places.iter().any(|other| other.start < place.end && place.start < other.end) {
            return Err(format!("has a partition {number} that overlaps another; repair the table"));
        }
        places.push(place.clone());
        if !entry.is_extended() {
            partitions.push(Partition { number, place });
        } else if extended.replace(place).is_some() {
            return Err("has two extended partitions; repair the table".into());
        }
    }
    let first = places.iter().map(|place| place.start).min();
    let first =
        first.ok_or("has a partition table without partitions; make some, or use the whole device")?;
    let mut table = Table { areas: Vec::new(), bytes: Vec::new(), partitions };
    table.areas.push(0..first.min(GAP));
    table.bytes.push(MBR);
    if let Some(extended) = extended {
        logical(&extended, &mut table, read)?;
    }
    Ok(table)
}

/// Follows the chain of logical partitions.
fn logical(extended: &Range<u64>, table: &mut Table, read: &mut impl Read) -> Result<(), String> {
    let mut at = extended.start;
    let mut seen = Vec::new();
    for number in 5.. {
        if seen.contains(&at) || seen.len() == LOGICAL {
            return Err("has a chain of logical partitions without end; repair the table".into());
        }
        seen.push(at);
        let mut sector = [0; SECTOR];
        read(at, &mut sector)?;
        let [partition, next, third, fourth] = Record::all(&sector, "table of logical partitions", at)?;
        let wrong =
            || format!("has a table of logical partitions in sector {at} that contradicts itself; repair it");
        if !third.is_empty() || !fourth.is_empty() || (!partition.is_empty() && partition.is_extended()) {
            return Err(wrong());
        }
        let sector = at * SECTOR as u64;
        table.bytes.push(sector + 446..sector + SECTOR as u64);
        if partition.is_empty() {
            table.areas.push(at..at + 1);
        } else {
            let start = at + partition.start;
            let place = start..start + partition.sectors;
            if partition.start == 0 || place.end > extended.end {
                return Err(wrong());
            }
            table.areas.push(at..start.min(at + GAP));
            table.partitions.push(Partition { number, place });
        }
        if next.is_empty() {
            return Ok(());
        }
        if !next.is_extended() || extended.start + next.start >= extended.end {
            return Err(wrong());
        }
        at = extended.start + next.start;
    }
    Ok(())
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

/// The most bytes that the entries may have.
const ENTRIES: u64 = 1 << 20;

impl Header {
    fn read(at: u64, name: &str, sectors: u64, read: &mut impl Read) -> Result<Header, String> {
        let mut sector = [0; SECTOR];
        read(at, &mut sector)?;
        let wrong = |what: &str| {
            format!(
                "has a {name} GPT header in sector {at} {what}; repair it, for example by 'sgdisk --move-second-header'"
            )
        };
        if !sector.starts_with(b"EFI PART") {
            return Err(wrong("without its mark EFI PART"));
        }
        let length = number(&sector, 12, 4) as usize;
        if !(92..=SECTOR).contains(&length) || number(&sector, 8, 4) != 0x1_0000 {
            return Err(wrong("of a kind that is unknown"));
        }
        let checksum = number(&sector, 16, 4);
        sector[16..20].fill(0);
        if u64::from(crc32(&sector[..length])) != checksum {
            return Err(wrong("whose checksum is wrong"));
        }
        let header = Header {
            other: number(&sector, 32, 8),
            usable: number(&sector, 40, 8)..number(&sector, 48, 8).saturating_add(1),
            disk: std::array::from_fn(|index| sector[56 + index]),
            entries: number(&sector, 72, 8),
            count: number(&sector, 80, 4),
            size: number(&sector, 84, 4),
            checksum: number(&sector, 88, 4),
        };
        let bytes = header.count.saturating_mul(header.size);
        let is_right = number(&sector, 24, 8) == at
            && header.other < sectors
            && header.usable.start < header.usable.end
            && header.usable.end <= sectors
            && header.size >= 128
            && header.size.is_power_of_two()
            && (1..=ENTRIES).contains(&bytes)
            && header.entries < sectors
            && header.entries + header.length() <= sectors;
        if is_right { Ok(header) } else { Err(wrong("that contradicts itself or the size of the device")) }
    }

    /// The sectors of the entries.
    fn length(&self) -> u64 {
        (self.count * self.size).div_ceil(SECTOR as u64)
    }

    fn table(&self, name: &str, read: &mut impl Read) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; self.length() as usize * SECTOR];
        read(self.entries, &mut bytes)?;
        bytes.truncate((self.count * self.size) as usize);
        if u64::from(crc32(&bytes)) != self.checksum {
            return Err(format!(
                "has a {name} GPT whose checksum is wrong; repair it, for example by 'sgdisk --move-second-header'"
            ));
        }
        Ok(bytes)
    }
}

fn gpt(sectors: u64, read: &mut impl Read) -> Result<Table, String> {
    let primary = Header::read(1, "primary", sectors, read)?;
    let backup = Header::read(primary.other, "backup", sectors, read)?;
    let contradiction = "has two GPTs that contradict each other; repair them, for example by 'gdisk'";
    let same = Header { other: primary.other, entries: primary.entries, ..backup.clone() } == primary;
    let lies_around = primary.entries >= 2
        && primary.entries + primary.length() <= primary.usable.start
        && backup.entries >= primary.usable.end
        && backup.entries + primary.length() <= primary.other;
    if !same || backup.other != 1 || !lies_around {
        return Err(contradiction.into());
    }
    let entries = primary.table("primary", read)?;
    if backup.table("backup", read)? != entries {
        return Err(contradiction.into());
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(entries.chunks_exact(primary.size as usize)) {
        if entry[..16] == [0; 16] {
            continue;
        }
        let place = self::number(entry, 32, 8)..self::number(entry, 40, 8).saturating_add(1);
        if place.start >= place.end || place.start < primary.usable.start || place.end > primary.usable.end {
            return Err(format!("has a partition {number} outside of what its GPT calls usable; repair it"));
        }
        partitions.push(Partition { number, place });
    }
    let first = partitions.iter().map(|partition| partition.place.start).min();
    let first = first.ok_or("has a GPT without partitions; make some, or use the whole device")?;
    let start = primary.usable.start.max(first.min(GAP));
    let areas = vec![0..start, backup.entries..primary.other + 1];
    let sectors = [1..2, primary.entries..primary.entries + primary.length(), areas[1].clone()];
    let bytes = sectors.map(|sectors| sectors.start * SECTOR as u64..sectors.end * SECTOR as u64);
    Ok(Table { areas, bytes: [MBR].into_iter().chain(bytes).collect(), partitions })
}

/// The CRC of UEFI (and of Ethernet).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8)
            .fold(crc ^ u32::from(byte), |crc: u32, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
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

        /// A primary and a backup GPT, as UEFI 2.10, 5.3 has them.
        fn gpt(partitions: &[(u64, u64)]) -> Disk {
            let mut disk = Disk::new();
            disk.record(0, 0, PROTECTIVE, 1, SECTORS as u32 - 1);
            let mut entries = vec![0; 128 * 128];
            for (index, (start, end)) in partitions.iter().enumerate() {
                entries[128 * index] = 1;
                entries[128 * index + 32..][..8].copy_from_slice(&start.to_le_bytes());
                entries[128 * index + 40..][..8].copy_from_slice(&(end - 1).to_le_bytes());
            }
            for (own, other, at) in [(1, SECTORS - 1, 2), (SECTORS - 1, 1, SECTORS - 33)] {
                disk.put(at as usize * SECTOR, &entries);
                let mut header = [0; 92];
                header[..8].copy_from_slice(b"EFI PART");
                header[10] = 1;
                header[12] = 92;
                for (place, number) in [(24, own), (32, other), (40, 34), (48, SECTORS - 34), (72, at)] {
                    header[place..][..8].copy_from_slice(&u64::to_le_bytes(number));
                }
                header[80] = 128;
                header[84] = 128;
                header[88..].copy_from_slice(&crc32(&entries).to_le_bytes());
                let crc = crc32(&header);
                header[16..20].copy_from_slice(&crc.to_le_bytes());
                disk.put(own as usize * SECTOR, &header);
            }
            disk
        }

        fn read(&self) -> Result<Table, String> {
            Table::read(SECTORS, |at, into| {
                let from = self.0.get(at as usize * SECTOR..).and_then(|rest| rest.get(..into.len()));
                into.copy_from_slice(from.ok_or("ends too early")?);
                Ok(())
            })
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
        assert!(broken(|disk| disk.record(3000, 2, 0x83, 63, 7)).contains("contradicts"));
        assert!(broken(|disk| disk.record(3000, 0, 5, 63, 7)).contains("contradicts"));
        assert!(broken(|disk| disk.record(1000, 0, 0x83, 63, 2000)).contains("overlap"));
        assert!(broken(|disk| disk.record(0, 1, 0x83, 900, 200)).contains("overlaps"));
        assert!(broken(|disk| disk.record(0, 1, 5, 10, 20)).contains("two extended"));
        assert!(broken(|disk| disk.record(0, 1, 7, 8000, 193)).contains("8193"));
        assert!(broken(|disk| disk.record(0, 1, 7, 0, 10)).contains("partition 2"));
        assert!(broken(|disk| disk.record(0, 1, 0xee, 1, 10)).contains("hybrid"));
        assert!(broken(|disk| disk.put(510, &[0])).contains("has no partition table"));
        assert!(broken(|disk| disk.put(446, &[0x29])).contains("file system"));
        assert!(broken(|disk| disk.put(3000 * SECTOR + 510, &[0])).contains("sector 3000"));
        assert!(broken(|disk| disk.put(446, &[0; 64])).contains("without partitions"));
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
            (512, "mark"),
            (512 + 20, "primary GPT header"),
            (512 + 60, "primary GPT header"),
            (1024, "primary GPT whose checksum"),
            ((SECTORS as usize - 1) * 512 + 50, "backup GPT header"),
            ((SECTORS as usize - 33) * 512 + 50, "backup GPT whose checksum"),
        ] {
            let mut disk = Disk::gpt(&[(2048, 4096)]);
            disk.0[at] ^= 0x40;
            let said = disk.read().expect_err("a bit is wrong");
            assert!(said.contains(what) || said.contains("kind"), "{at}: {said}");
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
