//! EXTENDED COPY between listed devices, by the programs that send it, and what it may reach.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use acceptance::{Loop, Need, Outcome, Run, Scratch, trial};
use libtest_mimic::Trial;

const MIB: u64 = 1 << 20;
const BLOCK: usize = 512;

/// The world-wide names of two disks.
const NAMES: [u64; 2] = [0x5001_4380_0000_0001, 0x5001_4380_0000_0002];

pub fn trials() -> Vec<Trial> {
    let raw = Need::Tool("sg_raw");
    vec![
        trial("sg_xcopy", &[Need::Devices, Need::Tool("sg_xcopy")], sg_xcopy),
        trial("ddpt", &[Need::Devices, Need::Tool("ddpt")], ddpt),
        trial("image files", &[Need::Root, raw], image_files),
        trial("only what the caller may open", &[Need::Root, raw, Need::Tool("setpriv")], rights),
        trial("only by its name there", &[Need::Root, raw, Need::Tool("unshare")], names),
    ]
}

/// Two images, the first of whose blocks hold their numbers.
struct Pair {
    scratch: Scratch,
    images: [PathBuf; 2],
}

impl Pair {
    fn new() -> Pair {
        let scratch = Scratch::new();
        let images = ["first", "second"].map(|name| scratch.image(name, MIB));
        let blocks: Vec<u8> = (0..MIB as usize / BLOCK).flat_map(|block| [block as u8; BLOCK]).collect();
        fs::write(&images[0], blocks).expect("the image can be written");
        Pair { scratch, images }
    }

    /// A program with two devices listed: the images, or what they are attached to.
    fn run(&self, program: &str, devices: [&Path; 2]) -> Run {
        let entry = |(path, name): (&Path, u64)| format!("{}=scsi,wwn={name:#x}", path.display());
        let entries = devices.into_iter().zip(NAMES).map(entry).collect::<Vec<_>>().join(":");
        Run::new(program).with(&self.scratch.library(), entries)
    }

    /// Sends EXTENDED COPY of a block to a disk by sg_raw(8), which `before` starts.
    fn copy(&self, before: &[&str], to: usize, indexes: [u8; 2], from: u8, at: u8) -> Outcome {
        let list = self.scratch.path("list");
        fs::write(&list, parameter_list(indexes, from, at)).expect("it can be written");
        fs::set_permissions(&list, Permissions::from_mode(0o644)).expect("it is ours");
        let cdb = "83 00 00 00 00 00 00 00 00 00 00 00 00 6c 00 00".split(' ');
        let command = before.iter().copied().chain(["sg_raw", "-s", "108", "-i"]);
        let command: Vec<_> = command.collect();
        let run = self.run(command[0], [&self.images[0], &self.images[1]]).args(&command[1..]);
        run.arg(&list).arg(&self.images[to]).args(cdb).output()
    }

    /// A byte of a block of an image.
    fn byte(&self, image: usize, block: u64) -> u8 {
        byte(&self.images[image], block)
    }
}

/// A byte of a block of a device or file.
fn byte(path: &Path, block: u64) -> u8 {
    let mut byte = [0];
    let file = fs::File::open(path).expect("it exists");
    file.read_exact_at(&mut byte, block * BLOCK as u64).expect("it is long enough");
    byte[0]
}

/// The parameter list of EXTENDED COPY: two identification descriptors, and a segment descriptor of one block.
fn parameter_list([source, destination]: [u8; 2], from: u8, to: u8) -> Vec<u8> {
    let mut list = vec![7, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
    for name in NAMES {
        list.extend([0xe4, 0, 0, 0, 1, 3, 0, 8]);
        list.extend(name.to_be_bytes());
        list.extend([0; 12]);
        list.extend((BLOCK as u32).to_be_bytes());
    }
    list.extend([2, 0, 0, 24, 0, source, 0, destination, 0, 0, 0, 1]);
    list.extend([u64::from(from), u64::from(to)].iter().flat_map(|lba| lba.to_be_bytes()));
    list
}

/// What sg_raw prints of the sense data.
fn is_aborted(outcome: &Outcome, why: &str) {
    let text = outcome.err() + &outcome.out();
    let text = text.to_lowercase();
    assert!(text.contains("copy aborted") && text.contains(why), "{text}");
}

const UNREACHABLE: &str = "copy target device not reachable";

/// The name of a block device in /dev/block, which udev makes, and sg_xcopy opens.
struct Numbered(Option<PathBuf>);

impl Numbered {
    fn new(device: &Path) -> Numbered {
        let number = device.metadata().expect("the device exists").rdev();
        let path = PathBuf::from(format!("/dev/block/{}:{}", libc::major(number), libc::minor(number)));
        if path.exists() {
            return Numbered(None);
        }
        fs::create_dir_all("/dev/block").expect("root can make it");
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink(device, &path).expect("root can make it");
        Numbered(Some(path))
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
            let _ = fs::remove_dir("/dev/block");
        }
    }
}

fn sg_xcopy() {
    let pair = Pair::new();
    let devices = [0, 1].map(|at| Loop::attach(&pair.images[at], &[]));
    let [first, second] = devices.each_ref().map(Loop::path);
    let _names = [first, second].map(Numbered::new);
    let copy = |from: &Path, to: &Path, options: &str| {
        let run = pair.run("sg_xcopy", [first, second]);
        let (from, to) = (format!("if={}", from.display()), format!("of={}", to.display()));
        run.args([from, to]).args(options.split(' ')).output()
    };
    copy(first, second, "count=2000 skip=40 seek=8").expect_out();
    copy(second, second, "count=100 skip=8 seek=4 --on_src").expect_out();
    copy(second, first, "count=1 skip=4 seek=2047 bpt=1").expect_out();
    let outcome = copy(first, second, "count=2 skip=0 seek=2047 bpt=2");
    assert!(outcome.err().to_lowercase().contains("copy aborted"), "{}", outcome.err());
    assert_eq!([4, 103, 104, 2007].map(|block| byte(second, block)), [40, 139, 136, 2039u64 as u8]);
    assert_eq!(byte(first, 2047), 40);
}

fn ddpt() {
    let pair = Pair::new();
    let devices = [0, 1].map(|at| Loop::attach(&pair.images[at], &[]));
    let [first, second] = devices.each_ref().map(Loop::path);
    for (flags, out, skip) in [("pt,xcopy", "pt", 3), ("pt", "pt,xcopy", 5)] {
        let run = pair.run("ddpt", [first, second]);
        let run = run.arg(format!("if={}", first.display())).arg(format!("of={}", second.display()));
        let run = run.arg(format!("iflag={flags}")).arg(format!("oflag={out}"));
        run.args(["bs=512", "count=1000", "seek=9"]).arg(format!("skip={skip}")).output().expect_out();
        assert_eq!([8, 9, 1008].map(|block| byte(second, block)), [0, skip, (skip as u64 + 999) as u8]);
    }
}

/// From either disk to either, whichever of them is the copy manager; then the status.
fn image_files() {
    let pair = Pair::new();
    for to in [0, 1] {
        let at = 10 + to as u8;
        pair.copy(&[], to, [0, 1], 5, at).expect_out();
        assert_eq!(pair.byte(1, at.into()), 5);
        pair.copy(&[], to, [1, 0], at, 20 + at).expect_out();
        assert_eq!(pair.byte(0, 20 + u64::from(at)), 5);
        pair.copy(&[], to, [1, 1], at, 40).expect_out();
        assert_eq!(pair.byte(1, 40), 5);
    }
    let list = pair.scratch.path("list");
    let script = "sg_raw -s 108 -i $1 $0 83 00 00 00 00 00 00 00 00 00 00 00 00 6c 00 00; \
        sg_raw -r 12 -o - $0 84 00 07 00 00 00 00 00 00 00 00 00 00 0c 00 00";
    let run = pair.run("sh", [&pair.images[0], &pair.images[1]]).args(["-c", script]);
    let outcome = run.arg(&pair.images[0]).arg(&list).output();
    assert_eq!(outcome.expect_out().as_bytes(), [0, 0, 0, 8, 1, 0, 1, 0, 0, 0, 2, 0], "{}", outcome.err());
}

const NOBODY: [&str; 8] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=+sys_rawio",
    "--ambient-caps=+sys_rawio",
    "--bounding-set=-all,+sys_rawio",
    "--",
];

/// Another user may send the command, but copies only what that user can read to where that user can write.
fn rights() {
    let pair = Pair::new();
    let mode = |at: usize, mode: u32| {
        fs::set_permissions(&pair.images[at], Permissions::from_mode(mode)).expect("it is ours");
    };
    mode(0, 0o666);
    for (bits, reads, writes) in [(0o600, false, false), (0o644, true, false), (0o666, true, true)] {
        mode(1, bits);
        for (indexes, can) in [([1, 0], reads), ([0, 1], writes)] {
            let (to, at) = (usize::from(indexes[1]), 100);
            let before = pair.byte(to, at.into());
            let outcome = pair.copy(&NOBODY, 0, indexes, 3 + bits as u8, at);
            if can {
                outcome.expect_out();
            } else {
                is_aborted(&outcome, UNREACHABLE);
                assert_eq!(pair.byte(to, at.into()), before);
            }
        }
    }
    assert_eq!(pair.byte(1, 100), 3 + 0o666u32 as u8);
    // Without the privilege, not at all.
    let outcome =
        pair.copy(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"], 0, [0, 1], 3, 9);
    assert!(outcome.err().contains("Operation not permitted"), "{}", outcome.err());
    assert_eq!(pair.byte(1, 9), 0);
}

/// A program that sees another file by the name of the disk, or has its privileges in a namespace of its own, does not
/// reach the disk.
fn names() {
    let pair = Pair::new();
    let other = pair.scratch.image("other", MIB);
    let (second, other) =
        (pair.images[1].to_str().expect("it is ASCII"), other.to_str().expect("it is ASCII"));
    let script = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
    let outcome = pair.copy(&["unshare", "--mount", "sh", "-c", script, other, second], 0, [0, 1], 3, 9);
    is_aborted(&outcome, UNREACHABLE);
    let outcome = pair.copy(&["unshare", "--mount"], 0, [0, 1], 3, 8);
    outcome.expect_out();
    let outcome = pair.copy(&["unshare", "--user", "--map-root-user"], 0, [0, 1], 3, 9);
    is_aborted(&outcome, UNREACHABLE);
    assert_eq!([8, 9].map(|block| pair.byte(1, block)), [3, 0]);
}
