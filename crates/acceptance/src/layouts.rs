//! Random partition tables, to be numbered by the command, by partx(8) and by the kernel alike.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::build::library;
use crate::fixture::Scratch;
use crate::run::Run;

/// The seeds of the layouts that are compared.
pub const SEEDS: std::ops::Range<u64> = 0..200;

/// The sectors of the disk that is divided.
pub const SECTORS: u64 = 1 << 17;

/// Numbers that follow from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn of(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| _ = random.below(2));
        random
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A partition: its number, first sector and length in sectors.
pub type Partition = (u32, u64, u64);

/// A disk divided at random.
pub struct Layout {
    seed: u64,
    random: Random,
    sectors: Vec<(u64, [u8; 512])>,
    /// For sgdisk(8), where it is a GPT.
    gpt: Vec<String>,
    /// Whether nothing about it is wrong, so that it cannot be refused.
    is_right: bool,
}

impl Layout {
    /// The one of a seed: every fourth is a GPT.
    pub fn of(seed: u64) -> Layout {
        let random = Random::of(seed);
        let mut layout = Layout { seed, random, sectors: Vec::new(), gpt: Vec::new(), is_right: true };
        if seed % 4 == 3 {
            layout.divide_by_gpt();
        } else {
            layout.divide_by_mbr();
        }
        layout
    }

    fn divide_by_gpt(&mut self) {
        let mut start = 2048;
        let mut numbers: Vec<u64> = (1..=128).collect();
        for _ in 0..=self.random.below(6) {
            let number = numbers.remove(self.random.below(numbers.len() as u64) as usize);
            let end = start + self.random.below(8000);
            self.gpt.push(format!("--new={number}:{start}:{end}"));
            start = end + 1 + self.random.below(2000);
        }
    }

    /// Writes an entry into the table of a sector.
    fn entry(&mut self, at: u64, index: usize, kind: u8, start: u64, sectors: u64) {
        let found = self.sectors.iter().position(|(sector, _)| *sector == at);
        let place = found.unwrap_or_else(|| {
            let mut empty = [0; 512];
            empty[510..].copy_from_slice(&[0x55, 0xaa]);
            self.sectors.push((at, empty));
            self.sectors.len() - 1
        });
        let entry = &mut self.sectors[place].1[446 + 16 * index..][..16];
        entry[4] = kind;
        entry[8..12].copy_from_slice(&(start as u32).to_le_bytes());
        entry[12..].copy_from_slice(&(sectors as u32).to_le_bytes());
    }

    /// A type of a partition; the kernel asks for none, not even for 00.
    fn kind(&mut self) -> u8 {
        [0x00, 0x07, 0x0c, 0x83, 0x8e, 0x17][self.random.below(6) as usize]
    }

    fn divide_by_mbr(&mut self) {
        let mut start = 1 + self.random.below(3000);
        let mut slots = vec![0, 1, 2, 3];
        let mut has_data = false;
        for _ in 0..=self.random.below(4) {
            let slot = slots.remove(self.random.below(slots.len() as u64) as usize);
            let sectors = 1 + self.random.below(28_000);
            if sectors > 9000 && !self.random.one_in(4) {
                let kind = [0x05, 0x0f, 0x85][self.random.below(3) as usize];
                self.entry(0, slot, kind, start, sectors);
                has_data |= self.divide_extended(start, sectors);
            } else {
                let kind = self.kind();
                self.entry(0, slot, kind, start, sectors);
                has_data = true;
            }
            start += sectors + self.random.below(1000);
        }
        self.is_right &= has_data;
        if self.random.one_in(10) && !slots.is_empty() {
            // One that overlaps others, or reaches over the end.
            let (start, sectors) = (self.random.below(SECTORS), 1 + self.random.below(SECTORS));
            let kind = self.kind();
            self.entry(0, slots[0], kind, start, sectors);
            self.is_right = false;
        }
    }

    /// A chain of tables in an extended partition; whether there is a logical one.
    fn divide_extended(&mut self, first: u64, length: u64) -> bool {
        let mut at = first;
        let mut has_data = false;
        let mut tables = Vec::new();
        let count = self.random.below(8);
        for _ in 0..count {
            let rest = first + length - at;
            if rest < 2000 {
                break;
            }
            tables.push(at);
            // What the slots of the data leave is the link's.
            let mut slots = vec![0, 1, 2, 3];
            let mut end = at + 1;
            let data = [0, 1, 1, 1, 1, 1, 2, 3][self.random.below(8) as usize];
            for _ in 0..data {
                let slot = if data == 1 && !self.random.one_in(4) {
                    0
                } else {
                    self.random.below(slots.len() as u64) as usize
                };
                let slot = slots.remove(slot);
                let start = end + self.random.below(60);
                let sectors = 1 + self.random.below(300);
                let kind = self.kind();
                self.entry(at, slot, kind, start - at, sectors);
                has_data = true;
                end = start + sectors;
            }
            if data == 0 {
                self.entry(at, 3, 0, 0, 0);
            }
            let next = end + self.random.below(200);
            let is_last = self.random.one_in(6);
            if is_last || first + length - next < 2000 {
                if self.random.one_in(4) {
                    // A link to where there is no table.
                    self.entry(at, slots[0], 5, next - first, 100);
                }
                break;
            }
            let slot =
                slots[if self.random.one_in(3) { self.random.below(slots.len() as u64) as usize } else { 0 }];
            self.entry(at, slot, 5, next - first, first + length - next);
            at = next;
        }
        if let (Some(last), true) = (tables.last(), self.random.one_in(8)) {
            // A loop: to an earlier table, or of the last one to itself.
            let back = tables[self.random.below(tables.len() as u64) as usize];
            self.entry(*last, 3, 5, back - first, 1000);
            self.is_right = false;
        }
        has_data
    }

    /// Puts the table on an image of this many sectors, all else of which is as it was.
    pub fn write(&self, image: &Path) {
        let disk = OpenOptions::new().write(true).truncate(true).open(image).expect("it is ours");
        disk.set_len(SECTORS * 512).expect("it is sparse");
        for (at, bytes) in &self.sectors {
            disk.write_all_at(bytes, at * 512).expect("it is ours");
        }
        if !self.gpt.is_empty() {
            Run::new("sgdisk").arg("--set-alignment=1").args(&self.gpt).arg(image).output().expect_out();
        }
    }

    /// Compares what the command makes of the disk with the partitions that another one finds there.
    pub fn judge(&self, scratch: &Scratch, image: &Path, found: &[Partition]) {
        let entry = format!("{}=scsi", image.display());
        let file = scratch.path("layout.vmdk");
        let create = |number: Option<u32>| {
            let _ = std::fs::remove_file(&file);
            let _ = std::fs::remove_file(scratch.path("layout-pt.vmdk"));
            let chosen = number.map(|number| format!("--partition={number}"));
            let run = Run::new(library().with_file_name("vmware-bdwrapper"))
                .args(["--message-format", "json", "vmdk", "create", "--partitions", &entry])
                .args(chosen);
            run.arg("-o").arg(&file).output()
        };
        let seed = self.seed;
        let whole = create(None);
        if !whole.success() {
            assert!(!self.is_right, "seed {seed}: {}", whole.err());
            return;
        }
        let read = || std::fs::read_to_string(&file).expect("it was made");
        let text = read();
        let none = create(Some(1000)).messages().swap_remove(0);
        assert_eq!((none.code, none.subject), ("not-found".to_owned(), Some(image.display().to_string())));
        let numbers = none.remedy.split(|letter: char| !letter.is_ascii_digit());
        let numbers: Vec<u32> = numbers.filter_map(|number| number.parse().ok()).collect();
        let expected: Vec<u32> = found.iter().map(|partition| partition.0).collect();
        assert_eq!(numbers, expected, "seed {seed}");
        let is_all = |chosen: &[Partition], text: &str| {
            let name = image.display();
            let line = |(_, start, sectors): &Partition| format!("RW {sectors} FLAT \"{name}\" {start}\n");
            chosen.iter().all(|partition| text.contains(&line(partition)))
                && text.matches(&name.to_string()).count() == chosen.len()
        };
        assert!(is_all(found, &text), "seed {seed}: {found:?}, and not {text}");
        let one = found[seed as usize % found.len()];
        create(Some(one.0)).expect_out();
        let text = read();
        assert!(is_all(&[one], &text), "seed {seed}: {one:?}, and not {text}");
    }

    /// Whether an entry of this number is an extended partition, which holds no data.
    pub fn is_extended(&self, number: u32) -> bool {
        let table = self.sectors.iter().find(|(at, _)| *at == 0);
        let kind = |(_, sector): &(u64, [u8; 512])| sector[446 + 16 * (number as usize - 1) + 4];
        (1..5).contains(&number) && table.is_some_and(|table| [0x05, 0x0f, 0x85].contains(&kind(table)))
    }
}
