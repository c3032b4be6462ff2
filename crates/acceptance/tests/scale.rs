//! As many devices as can be listed, and what they and a command cost.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

use acceptance::{Disk, Engine, Medium, Need, Run, Scratch, Trial, engine, main as harness, needs, trial};

/// The most devices that can be listed.
const MOST: usize = 256;

fn main() -> ExitCode {
    let mut trials = trials();
    for (name, medium) in [("image", Medium::Image), ("loop", Medium::Loop)] {
        let strace = needs(medium, &["cc", "strace"]);
        trials.push(trial(format!("the system calls of a command: {name}"), &strace, move || calls(medium)));
        let valgrind = needs(medium, &["cc", "valgrind"]);
        trials.push(trial(format!("the instructions of a command: {name}"), &valgrind, move || cost(medium)));
    }
    harness(trials)
}

/// The trials, which tests/supervisor.rs runs too.
pub fn trials() -> Vec<Trial> {
    vec![
        trial("many devices, descriptors, threads and requests", &[], many),
        trial("the last device costs what the first does", &[Need::Tool("valgrind")], constant),
    ]
}

const INQUIRY: &str = "12000000ff00";
const READ_10: &str = "28000000000000000800";
const WRITE_10: &str = "2a000000000000000800";

/// The system calls of each command but the first, which tells what the descriptor is open on. READ and
/// WRITE test memory, ask what they need to know and look at the file; nothing comes between that and the
/// transfer. Other commands look at the file first.
fn calls(medium: Medium) {
    let disk = Disk::new(medium, "scsi", 1 << 20);
    let expected: [(&str, &[&str]); 3] = match medium {
        Medium::Image => [
            (READ_10, &["sendfile", "statx", "preadv"]),
            (WRITE_10, &["sendfile", "fcntl", "fstatfs", "prlimit64", "statx", "pwritev2"]),
            (INQUIRY, &["sendfile", "statx", "fcntl", "sendfile"]),
        ],
        _ => [
            (READ_10, &["sendfile", "ioctl", "fstat", "preadv"]),
            (WRITE_10, &["sendfile", "fcntl", "ioctl", "ioctl", "fstat", "pwritev2"]),
            (INQUIRY, &["sendfile", "fstat", "ioctl", "ioctl", "sendfile"]),
        ],
    };
    for (cdb, expected) in expected {
        let trace = disk.scratch().path("trace");
        let run = disk.run(disk.scratch().program("bench")).args(["command"]).arg(disk.path());
        let outcome = run.args([cdb, "4"]).traced(&trace, ["-e", "trace=!read,write"]).output();
        assert_eq!(outcome.expect_out(), "answered\n", "{cdb}");
        let text = std::fs::read_to_string(&trace).expect("strace wrote it");
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name).collect();
        let commands: Vec<_> =
            names.windows(3 * expected.len()).filter(|part| **part == expected.repeat(3)).collect();
        assert_eq!(commands.len(), 1, "{cdb}: {text}");
    }
}

/// The most instructions of a command, with those of the C library and of the program.
fn cost(medium: Medium) {
    let disk = Disk::new(medium, "scsi", 1 << 20);
    let entry = format!("{}=scsi", disk.path().display());
    for (cdb, most) in [(READ_10, 1300), (WRITE_10, 1500), (INQUIRY, 2050)] {
        let [once, twice] = [1000, 2000].map(|times| {
            instructions(disk.scratch(), &entry, &["command", &disk.path().display().to_string(), cdb], times)
        });
        let each = (twice - once) / 1000;
        assert!(each <= most, "{cdb}: {each} instructions");
    }
}

/// Image files of 1 MiB, 2 MiB and so on, whose first bytes are their number; and the list of them.
fn images(scratch: &Scratch, count: usize) -> (Vec<PathBuf>, String) {
    let mut list = String::new();
    let images = (0..count).map(|number| {
        let path = scratch.image(&number.to_string(), (number as u64 + 1) << 20);
        let file = File::options().write(true).open(&path).expect("it is ours");
        file.write_all_at(&(number as u16).to_be_bytes(), 0).expect("it is ours");
        write!(list, ":{}=scsi", path.display()).expect("a string takes all");
        path
    });
    let images = images.collect();
    (images, list.split_off(1))
}

/// 64 threads on 4096 descriptors on 256 devices make ten million requests, under a supervisor some
/// hundred thousand: they take ten times as long there.
fn many() {
    let scratch = Scratch::new();
    let (images, list) = images(&scratch, MOST);
    let run = Run::new(scratch.program("scale")).with(&scratch.library(), list);
    let requests = if engine() == Engine::Library { "156250" } else { "6000" };
    let out = run.args(["64", "4096", requests]).args(images).output().expect_out();
    let numbers: Vec<i64> = out.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [resident, mapped] = numbers[..] else { panic!("{out}") };
    // Threads that end and begin take and leave pages of their stacks; a byte a request would be nine thousand.
    assert!(resident < 1024 && mapped <= 0, "the process has grown: {out}");
}

/// How many instructions `bench` executes in a mode, for so many requests.
fn instructions(scratch: &Scratch, list: &str, mode: &[&str], requests: u32) -> u64 {
    let file = scratch.path("callgrind");
    let run = Run::new("valgrind").with(&scratch.library(), list);
    let run = run.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", file.display()));
    let run = run.arg(scratch.program("bench")).args(mode).arg(requests.to_string());
    assert_eq!(run.output().expect_out(), "answered\n");
    let text = std::fs::read_to_string(file).expect("callgrind has written it");
    let summary = text.lines().find_map(|line| line.strip_prefix("summary: ")).expect("it is in each");
    summary.trim().parse().expect("a number")
}

fn constant() {
    let scratch = Scratch::new();
    let (images, list) = images(&scratch, MOST);
    let each = |list: &str, path: &PathBuf| {
        // The start is in both.
        // Only the library answers SCSI_IOCTL_GET_IDLUN on an image file.
        let path = path.display().to_string();
        let [once, twice] =
            [1000, 2000].map(|requests| instructions(&scratch, list, &["ioctl", &path, "0x5382"], requests));
        (twice - once) / 1000
    };
    let alone = each(&format!("{}=scsi", images[0].display()), &images[0]);
    for path in [&images[0], &images[MOST / 2], &images[MOST - 1]] {
        let among = each(&list, path);
        // A hash table has some keys a few places behind their first one.
        assert!(
            among <= alone + 100,
            "{}: {among} instructions a request, {alone} where it is alone",
            path.display()
        );
    }
}
