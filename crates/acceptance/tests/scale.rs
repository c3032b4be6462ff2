//! As many devices as can be listed, and what they cost.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

use acceptance::{Engine, Need, Run, Scratch, Trial, engine, main as harness, trial};

/// The most devices that can be listed.
const MOST: usize = 256;

fn main() -> ExitCode {
    harness(trials())
}

/// The trials, which tests/supervisor.rs runs too.
pub fn trials() -> Vec<Trial> {
    vec![
        trial("many devices, descriptors, threads and requests", &[], many),
        trial("the last device costs what the first does", &[Need::Tool("valgrind")], constant),
    ]
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

/// How many instructions a program executes for so many requests on a path.
fn instructions(scratch: &Scratch, list: &str, path: &PathBuf, requests: u32) -> u64 {
    let file = scratch.path("callgrind");
    let run = Run::new("valgrind").with(&scratch.library(), list);
    let run = run.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", file.display()));
    // SCSI_IOCTL_GET_IDLUN, which nobody but the library answers here.
    let run =
        run.arg(scratch.program("bench")).arg("ioctl").arg(path).args(["0x5382", &requests.to_string()]);
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
        let [once, twice] = [1000, 2000].map(|requests| instructions(&scratch, list, path, requests));
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
