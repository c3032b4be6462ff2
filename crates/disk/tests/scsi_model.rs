//! Random sequences of SCSI commands against a model of the disk in memory.

use disk::Medium;
use disk::scsi::sense::Sense;
use memory_disk::sense::*;
use memory_disk::sg_io::*;
use memory_disk::{Disk, MemoryHost};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const BLOCKS: u64 = 200;

/// The least and the most bytes that are written as a whole.
const ATOMIC: (u32, u32) = (1024, 8192);

/// A command that reads or writes blocks.
#[derive(Clone, Debug)]
struct Step {
    command: Command,
    /// Its first block and how many there are: most often they exist.
    first: u64,
    blocks: u64,
    /// What the data is made of.
    seed: u8,
    /// Data of one byte alone, as often enough of zeros.
    plain: bool,
    /// What is compared is what the disk holds.
    matching: bool,
    /// DPO, FUA and the like: bits that change nothing of what is read afterwards.
    flags: u8,
    /// The lengths of the pieces that the data stands in; the last one is as long as it takes. Empty: there is no list.
    pieces: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Read(u8),
    Write(u8),
    WriteAndVerify(u8),
    Verify(u8),
    VerifySame(u8),
    CompareAndWrite,
    OrWrite,
    WriteAtomic,
    WriteSame(u8),
    WriteSameUnmap(u8),
    WriteSameNoData,
    Unmap,
    /// PRE-FETCH, SYNCHRONIZE CACHE.
    Nothing(u8),
}

use Command::*;

fn command() -> impl Strategy<Value = Command> {
    let of = |codes: &'static [u8]| prop::sample::select(codes);
    prop_oneof![
        4 => of(&[0x08, 0x28, 0xa8, 0x88]).prop_map(Read),
        4 => of(&[0x0a, 0x2a, 0xaa, 0x8a]).prop_map(Write),
        1 => of(&[0x2e, 0xae, 0x8e]).prop_map(WriteAndVerify),
        1 => of(&[0x2f, 0xaf, 0x8f]).prop_map(Verify),
        1 => of(&[0x2f, 0xaf, 0x8f]).prop_map(VerifySame),
        2 => Just(CompareAndWrite),
        2 => Just(OrWrite),
        2 => Just(WriteAtomic),
        2 => of(&[0x41, 0x93]).prop_map(WriteSame),
        1 => of(&[0x41, 0x93]).prop_map(WriteSameUnmap),
        1 => Just(WriteSameNoData),
        2 => Just(Unmap),
        1 => of(&[0x34, 0x90, 0x35, 0x91]).prop_map(Nothing),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let first = prop_oneof![8 => 0..BLOCKS, 1 => BLOCKS - 2..BLOCKS + 3, 1 => Just((1 << 32) - 1)];
    let blocks = prop_oneof![8 => 0..9u64, 1 => 9..100u64, 1 => Just(BLOCKS)];
    let length = prop_oneof![Just(0), 1..40usize, Just(512), Just(4096), 1..5000usize];
    let pieces = prop_oneof![Just(vec![]), prop::collection::vec(length, 0..70)];
    let flags = prop::sample::select(&[0, 0x08, 0x10, 0x18][..]);
    (command(), first, blocks, any::<u8>(), any::<bool>(), any::<bool>(), flags, pieces).prop_map(
        |(command, first, blocks, seed, plain, matching, flags, pieces)| {
            let seed = if plain && seed < 100 { 0 } else { seed };
            Step { command, first, blocks, seed, plain, matching, flags, pieces }
        },
    )
}

/// What kind of device stands behind the disk.
#[derive(Clone, Copy, Debug)]
struct Backing {
    block: u64,
    medium: Medium,
    thin: bool,
    atomic: bool,
    picky: bool,
    write_cache: bool,
}

fn backing() -> impl Strategy<Value = Backing> {
    let medium = prop::sample::select(&[Medium::ImageFile, Medium::BlockDevice][..]);
    let block = prop::sample::select(&[512, 4096][..]);
    (block, medium, any::<[bool; 4]>()).prop_map(|(block, medium, [thin, atomic, picky, write_cache])| {
        Backing { block, medium, thin, atomic, picky, write_cache }
    })
}

/// A disk and what it should hold.
struct Pair {
    disk: Disk,
    model: Vec<u8>,
    backing: Backing,
}

/// What a command is to end with: data from the disk, or sense data.
type Outcome = Result<Vec<u8>, Sense>;

impl Pair {
    fn new(backing: Backing) -> Pair {
        let model: Vec<u8> =
            (0..BLOCKS * backing.block).map(|at| (at / backing.block * 31 + at % 7) as u8).collect();
        let host = MemoryHost {
            medium: backing.medium,
            logical: backing.block as u32,
            physical: 4096,
            thin: backing.thin,
            atomic: backing.atomic.then_some(ATOMIC),
            picky: backing.picky,
            ..MemoryHost::with_content(model.clone())
        };
        let disk = Disk::on(host);
        if !backing.write_cache {
            disk.disable_write_cache();
        }
        Pair { disk, model, backing }
    }

    fn data(&self, step: &Step, blocks: u64) -> Vec<u8> {
        let byte = |at: u64| if step.plain { step.seed } else { (at * 13 + at / 97) as u8 ^ step.seed };
        (0..blocks * self.backing.block).map(byte).collect()
    }

    /// Carries out a step on both.
    fn run(&mut self, step: &Step) {
        let (cdb, data, room) = self.request(step);
        let expected = self.expect(step, &data);
        let direction = if room > 0 { FROM_DEV } else { TO_DEV };
        let reply = self.send(&cdb, direction, &step.pieces, &data, room);
        match expected {
            Ok(from_disk) => {
                assert_eq!(reply.resid, 0, "{step:?}");
                assert!(reply.clone().good() == from_disk, "{step:?}");
            }
            Err(sense) => {
                assert_eq!(reply.check(), sense, "{step:?}");
            }
        }
        let content = self.disk.host.content.borrow();
        if *content != self.model {
            let place = content.iter().zip(&self.model).position(|(on, model)| on != model);
            panic!("block {} differs: {step:?}", place.expect("one differs") as u64 / self.backing.block);
        }
    }

    /// The first block and the number of blocks that a step has, for some commands cannot say all of it.
    fn range(&self, step: &Step) -> (u64, u64) {
        match step.command {
            Read(0x08) | Write(0x0a) => {
                (step.first & 0x1f_ffff, if step.blocks == 0 { 256 } else { step.blocks })
            }
            WriteSame(_) | WriteSameUnmap(_) | WriteSameNoData if step.blocks == 0 => {
                (step.first, BLOCKS.saturating_sub(step.first))
            }
            _ => (step.first, step.blocks),
        }
    }

    /// The CDB, the data to the disk, and how many bytes come from it.
    fn request(&self, step: &Step) -> (Vec<u8>, Vec<u8>, usize) {
        let (first, blocks) = self.range(step);
        let inside = first < BLOCKS && first + blocks <= BLOCKS;
        let cdb = |code, flags| blocks_cdb(code, flags, step.first, step.blocks);
        let flags = |code| if code < 0x20 { 0 } else { step.flags };
        let now = |blocks| {
            if inside && step.matching {
                let start = (first * self.backing.block) as usize;
                self.model[start..start + (blocks * self.backing.block) as usize].to_vec()
            } else {
                self.data(step, blocks)
            }
        };
        let nothing = Vec::new;
        match step.command {
            Read(code) => (cdb(code, flags(code)), nothing(), (blocks * self.backing.block) as usize),
            Write(code) => (cdb(code, flags(code)), self.data(step, blocks), 0),
            WriteAndVerify(code) => {
                (cdb(code, step.flags & 0x10 | step.seed & 0x02), self.data(step, blocks), 0)
            }
            Verify(code) => (cdb(code, 0x02), now(blocks), 0),
            VerifySame(code) => (cdb(code, 0x06), now(blocks.min(1)), 0),
            CompareAndWrite => (cdb(0x89, step.flags), [now(blocks), self.data(step, blocks)].concat(), 0),
            OrWrite => (cdb(0x8b, step.flags), self.data(step, blocks), 0),
            WriteAtomic => (cdb(0x9c, step.flags), self.data(step, blocks), 0),
            WriteSame(code) => (cdb(code, 0), self.data(step, 1), 0),
            WriteSameUnmap(code) => (cdb(code, 0x08), self.data(step, 1), 0),
            WriteSameNoData => (cdb(0x93, 0x01 | step.flags & 0x08), nothing(), 0),
            Unmap => {
                let half = (first, (blocks / 2) as u32);
                let (cdb, list) = unmap(&[half, (first + blocks / 2, (blocks - blocks / 2) as u32), half]);
                (cdb, list, 0)
            }
            Nothing(code) => (cdb(code, step.flags >> 3 & 0x02), nothing(), 0),
        }
    }

    /// What a step is to come back with; the model changes as the disk is to change.
    fn expect(&mut self, step: &Step, data: &[u8]) -> Outcome {
        let size = self.backing.block as usize;
        let (first, blocks) = self.range(step);
        let thick = !self.backing.thin;
        match step.command {
            Unmap if thick => return Err(INVALID_COMMAND_OPERATION_CODE),
            WriteAtomic if !self.backing.atomic => return Err(INVALID_COMMAND_OPERATION_CODE),
            WriteSameUnmap(_) if thick => return Err(cdb_field(1, 3)),
            WriteSameNoData if thick && step.flags & 0x08 != 0 => return Err(cdb_field(1, 3)),
            _ => {}
        }
        if first > BLOCKS || first + blocks > BLOCKS {
            return Err(LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE);
        }
        if step.command == WriteAtomic && blocks > 0 {
            let bytes = blocks * self.backing.block;
            if !blocks.is_power_of_two() || bytes < ATOMIC.0.into() || bytes > ATOMIC.1.into() {
                return Err(cdb_field(12, 7));
            }
            if first % blocks != 0 {
                return Err(cdb_field(2, 7));
            }
        }
        let range = first as usize * size..(first + blocks) as usize * size;
        let on = &mut self.model[range];
        let differs = |with: &[u8], on: &[u8]| with.iter().zip(on).position(|(with, on)| with != on);
        let miscompare = |information| MISCOMPARE_DURING_VERIFY_OPERATION.with_information(information);
        let block_of = |place: usize| first + (place / size) as u64;
        match step.command {
            Read(_) => return Ok(on.to_vec()),
            Write(_) | WriteAndVerify(_) | WriteAtomic => on.copy_from_slice(data),
            Verify(_) => {
                if let Some(place) = differs(data, on) {
                    return Err(miscompare(block_of(place)));
                }
            }
            VerifySame(_) => {
                if let Some(place) = differs(&data.repeat(blocks as usize), on) {
                    return Err(miscompare(block_of(place)));
                }
            }
            CompareAndWrite => {
                let (compared, written) = data.split_at(data.len() / 2);
                if let Some(place) = differs(compared, on) {
                    return Err(miscompare(place as u64));
                }
                on.copy_from_slice(written);
            }
            OrWrite => on.iter_mut().zip(data).for_each(|(on, from)| *on |= from),
            WriteSame(_) | WriteSameUnmap(_) => {
                on.chunks_mut(size).for_each(|block| block.copy_from_slice(data));
            }
            WriteSameNoData | Unmap => on.fill(0),
            Nothing(_) => {}
        }
        Ok(Vec::new())
    }

    /// Sends a command, its data in pieces of these lengths.
    fn send(&self, cdb: &[u8], direction: i32, pieces: &[usize], data: &[u8], room: usize) -> Reply {
        let whole = room.max(data.len());
        if pieces.is_empty() || whole == 0 {
            return if room > 0 { self.disk.read(cdb, room) } else { self.disk.write(cdb, data) };
        }
        let mut left = whole;
        let mut lengths = Vec::new();
        for &length in pieces {
            lengths.push(length.min(left));
            left -= length.min(left);
        }
        lengths.push(left);
        self.disk.list(cdb, direction, &lengths, data)
    }

    /// Reads all blocks as a client does.
    fn read_all(&self) -> Vec<u8> {
        let read = |first| self.disk.read(&blocks_cdb(0x88, 0, first, 40), 40 * self.backing.block as usize);
        (0..BLOCKS).step_by(40).flat_map(|first| read(first).good()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_disk_holds_what_the_model_holds(
        backing in backing(),
        steps in prop::collection::vec(step(), 20..60),
    ) {
        let mut pair = Pair::new(backing);
        steps.iter().for_each(|step| pair.run(step));
        prop_assert!(pair.read_all() == pair.model);
    }
}
