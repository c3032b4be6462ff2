//! A hypervisor: QEMU gives a listed loop device to a Linux guest as a SCSI disk, with either engine.
//!
//! `scripts/guest` makes QEMU and the guest, `scripts/guest-init` is what the guest does; `make check-slow` runs them and these trials.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

use acceptance::{Engine, Loop, Need, Run, Scratch, library, main as harness, trial};
use rustix::fs::{SeekFrom, seek};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 128 * MIB;
const SERIAL: &str = "GUEST-1";
const MODEL: &str = "A LOOP DEVICE";
const NEEDS: [Need; 5] = [
    Need::Devices,
    Need::Tool("sfdisk"),
    Need::Tool("e2fsck"),
    Need::Tool("debugfs"),
    Need::Tool("sha256sum"),
];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for device in ["scsi-block", "scsi-generic"] {
        let name = format!("{device}/refused-without-the-library");
        trials.push(trial(name, &NEEDS, move || refused_without_the_library(device)));
        for (engine, by) in [(Engine::Library, ""), (Engine::Supervisor, "-supervisor")] {
            for (cache, block) in [("writeback", 512), ("writeback", 4096), ("none", 512), ("none", 4096)] {
                let name = format!("{device}/cache-{cache}-blocks-of-{block}{by}");
                trials.push(trial(name, &NEEDS, move || guest(engine, device, cache, block)));
            }
        }
    }
    harness(trials)
}

/// A loop device; `--sector-size` is the size of its logical blocks.
struct Disk {
    // Dropped in this order.
    device: Loop,
    image: PathBuf,
    scratch: Scratch,
    block: u64,
}

impl Disk {
    fn new(block: u64) -> Disk {
        let scratch = Scratch::new();
        let image = scratch.image("image", SIZE);
        let device = Loop::attach(&image, &["--sector-size", &block.to_string()]);
        Disk { device, image, scratch, block }
    }

    /// QEMU with this disk, without the library.
    fn qemu(&self, device: &str, cache: &str) -> Run {
        let path = library().ancestors().nth(2).expect("it is in TARGET/release").join("guest/qemu");
        assert!(path.exists(), "{} does not exist: run scripts/guest first", path.display());
        let file = self.device.path().display();
        Run::new(path)
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 serial={SERIAL}")])
            .args(["-drive", &format!("if=none,id=disk,format=raw,cache={cache},file={file}")])
            .args(["-device", "virtio-scsi-pci", "-device", &format!("{device},drive=disk")])
    }

    /// A part of it, as programs name it that take an offset.
    fn part(&self, offset: u64) -> String {
        format!("{}?offset={offset}", self.device.path().display())
    }

    /// The contents of an area.
    fn read(&self, offset: u64, bytes: u64) -> Vec<u8> {
        let mut data = vec![0xee; bytes.try_into().expect("an area fits into memory")];
        let file = File::open(self.device.path()).expect("root can read it");
        file.read_exact_at(&mut data, offset).expect("the area is inside");
        data
    }
}

/// What the guest wrote to its console.
struct Console(String);

impl Console {
    /// What it said of something, in its order.
    fn said(&self, what: &str) -> Vec<&str> {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix("GUEST: "));
        lines.filter_map(|line| Some(line.strip_prefix(what)?.strip_prefix(' ')?.trim())).collect()
    }

    /// What it said of something once.
    fn told(&self, what: &str) -> &str {
        match self.said(what)[..] {
            [said] => said,
            _ => panic!("there is not one {what} in {}", self.0),
        }
    }
}

/// What sha256sum says.
fn sum(data: Vec<u8>) -> String {
    Run::new("sha256sum").stdin(data).output().expect_out().trim().to_owned()
}

fn refused_without_the_library(device: &str) {
    let disk = Disk::new(512);
    let refused = disk.qemu(device, "writeback").output();
    assert_eq!(refused.code(), 1, "{}", refused.out());
    assert!(refused.err().contains("cannot get SG_IO version number"), "{}", refused.err());
}

fn guest(engine: Engine, device: &str, cache: &str, block: u64) {
    let disk = Disk::new(block);
    let entry = format!("{}=scsi,serial={SERIAL},model={MODEL}", disk.device.path().display());
    disk.scratch.command();
    let ended = disk.qemu(device, cache).with_engine(engine, &disk.scratch.library(), entry).output();
    let console = Console(ended.expect_out());
    let all = format!("{}\n{}", console.0, ended.err());
    assert!(
        console.0.lines().any(|line| line.trim() == "GUEST: end"),
        "the guest did not reach its end: {all}"
    );
    assert!(!all.contains("error"), "{all}");

    // The guest found the disk.
    let told = |what, expected: &str| assert_eq!(console.told(what), expected, "{what} in {all}");
    told("model", MODEL);
    told("wwid", &format!("t10.BDWRAP  {MODEL:<16}{SERIAL}"));
    told("size", &(SIZE / 512).to_string());
    told("ro", "0");
    told("logical_block_size", &block.to_string());
    told("write_cache", "write back");
    told("provisioning", "unmap");

    // Partitions.
    let table = Run::new("sfdisk").arg("--dump").arg(disk.device.path()).output().expect_out();
    let partitions: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split_once(" : "))
        .map(|(_, partition)| partition.trim())
        .collect();
    assert_eq!(partitions, console.said("partition"), "{table}");
    let starts: Vec<u64> = partitions.iter().map(|partition| start(partition) * disk.block).collect();
    assert_eq!(starts.len(), 2, "{table}");

    // A file in a file system.
    let part = disk.part(starts[0]);
    Run::new("e2fsck").args(["-f", "-n", &part]).output().expect_out();
    let file = Run::new("debugfs").args(["-R", "cat /file", &part]).output();
    file.expect_out();
    let written = console.told("written");
    assert_eq!(console.told("read"), written, "{all}");
    assert_eq!(sum(file.stdout), written, "{all}");

    // Four areas that the guest filled; then it discarded the second and wrote zeros to the third.
    let areas: Vec<Vec<u8>> = (0..4).map(|area| disk.read(starts[1] + area * MIB, MIB)).collect();
    let is_zero: Vec<bool> = areas.iter().map(|area| area.iter().all(|byte| *byte == 0)).collect();
    assert_eq!(is_zero, [false, true, true, false]);
    let sums: Vec<String> =
        areas.into_iter().enumerate().map(|(area, data)| format!("{area} {}", sum(data))).collect();
    let said = console.said("area");
    assert_eq!(said.len(), 8, "{all}");
    assert_eq!(sums, said[4..], "{all}");
    for area in 0..4 {
        assert_eq!(said[area] == said[area + 4], !is_zero[area], "area {area} in {all}");
    }
    // What was discarded takes no room.
    let image = File::open(&disk.image).expect("the image is ours");
    let discarded = starts[1] + MIB;
    let data = seek(&image, SeekFrom::Data(discarded)).expect("there is data behind it");
    assert!(data >= discarded + MIB, "the image has data at {data}, discarded was from {discarded}");
}

/// The first logical block of a partition, from a line of `sfdisk --dump`.
fn start(partition: &str) -> u64 {
    let start = partition.strip_prefix("start=").and_then(|rest| rest.split(',').next());
    start.and_then(|start| start.trim().parse().ok()).unwrap_or_else(|| panic!("no start in {partition}"))
}
