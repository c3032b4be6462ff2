//! The library inside programs of every sort: hostile addresses, signals, threads, processes, descriptors, messages.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use acceptance::{
    Disk, Loop, Medium, Name, Need, Outcome, Run, Scratch, Session, Sgio, by_engine, main as harness, trial,
};
use disk::names;
use libtest_mimic::Trial;

const MIB: u64 = 1 << 20;
const GET_IDLUN: &str = "0x5382";
const GETGEO: &str = "0x301";
const GETSIZE64: &str = "0x80081272";
const PREFIX: &str = "vmware-bdwrapper: ";

/// What `clients` answers when a device is listed as a SCSI disk, and when it is not.
const ANSWERED: &str = "0 -";

fn main() -> ExitCode {
    let mut trials = trials();
    let tools = [Need::Tool("cc"), Need::Tool("valgrind")];
    trials.push(trial("valgrind/nothing-to-complain-of", &tools, in_valgrind));
    harness(trials)
}

/// The trials, which tests/supervisor.rs runs too.
pub fn trials() -> Vec<Trial> {
    let root: &[Need] = &[Need::Devices];
    let strace: &[Need] = &[Need::Tool("strace")];
    let mut trials = vec![
        trial("early/library-first", &[], || early(false)),
        trial("early/library-last", &[], || early(true)),
        trial("fd/closed-and-bad", &[], closed_descriptors),
        trial("fd/o-path", &[], path_descriptors),
        trial("fd/dup2-over-listed", &[], dup2_over),
        trial("fd/received", &[], received),
        trial("fd/exchanged-unseen", root, exchanged_unseen),
        trial("fd/inherited-through-exec", &[], inherited),
        trial("unlisted/image-and-others", &[], unlisted),
        trial("limits/what-does-not-call-the-c-library", &[], bypassed),
        trial("others/a-second-preload-library", &[], stacked),
        trial("others/request-numbers-of-the-kernel-headers", &[], request_numbers),
        trial("size/huge-image", &[Need::Tool("truncate")], huge_image),
        trial("size/huge-loop", root, huge_loop),
        trial("name/link-chain", root, link_chain),
        trial("name/appears-later", root, name_appears_later),
        trial("name/leads-elsewhere", root, link_leads_elsewhere),
        trial("name/loop-set-up-later", root, loop_set_up_later),
        trial("name/image-appears-later", &[], image_appears_later),
        trial("name/other-name-of-the-device", root, other_name),
        trial("growth/loop", root, loop_growth),
        trial("growth/image", &[], image_growth),
        trial("entries/two-kinds", &[], two_kinds),
        trial("entries/same-kind-twice", &[], same_kind_twice),
        trial("entries/many", &[], many_entries),
        trial("entries/bad", &[], bad_entries),
        trial("entries/real-disk", root, real_disk),
        trial("level/default-is-silent", &[], silent_by_default),
        trial("level/minus-one", &[], level_minus_one),
        trial("level/errors-only", &[], errors_only),
        trial("level/start-up", &[], start_up),
        trial("level/each-includes-those-below", &[], levels_include),
        trial("level/not-a-number", &[], level_not_a_number),
        trial("level/one-write-per-line", strace, one_write_per_line),
        trial("level/1000", &[], each_request),
        trial("image/discard-and-zero", &[], discard_and_zero),
        trial("sandbox/no-process-vm", &[], without_process_vm),
        trial("sandbox/no-statx", &[], without_statx),
        trial("sandbox/no-fallocate", &[], without_fallocate),
        trial("process/first-thread-has-ended", &[], without_leader),
        trial("name/inode-of-another-file", &[], another_files_inode),
        trial("level/1000-sg-io", &[Need::Tool("sg_inq")], sg_io_line),
        trial("level/100-close-range", &[], close_ranges),
        trial("stderr/closed", &[], stderr_closed),
        trial("stderr/becomes-another-file", &[], stderr_becomes_another_file),
        trial("stderr/closed-pipe", &[], stderr_closed_pipe),
        trial("stderr/is-the-device", &[], stderr_is_the_device),
        trial("stderr/becomes-the-device", &[], stderr_becomes_the_device),
    ];
    for medium in [Medium::Image, Medium::Loop] {
        let (name, needs) = if medium == Medium::Image { ("image", &[][..]) } else { ("loop", root) };
        trials.extend([
            trial(format!("address/{name}-scsi"), needs, move || bad_addresses(medium, "scsi")),
            trial(format!("address/{name}-ide"), needs, move || bad_addresses(medium, "ide")),
            trial(format!("address/{name}-sata"), needs, move || bad_addresses(medium, "sata")),
            trial(format!("request/{name}-wide"), needs, move || wide_requests(medium)),
            trial(format!("request/{name}-errno"), needs, move || errno_untouched(medium)),
            trial(format!("process/{name}-vfork"), needs, move || vfork(medium)),
        ]);
        for level in [1, 1000] {
            trials.extend([
                trial(format!("process/{name}-signals-{level}"), needs, move || signals(medium, level)),
                trial(format!("process/{name}-threads-{level}"), needs, move || threads(medium, level)),
            ]);
        }
        for build in ["plain", "fortified"] {
            trials
                .push(trial(format!("level/100-{name}-{build}"), needs, move || descriptors(medium, build)));
        }
    }
    trials.extend([1, 100].map(cancel_trial));
    trials
}

/// A conversation with `clients`, which has the library.
fn session(disk: &Disk) -> Session {
    disk.run(disk.scratch().program("clients")).start(&disk.scratch().path("stderr"))
}

fn scsi_image() -> Disk {
    Disk::new(Medium::Image, "scsi", MIB)
}

/// Opens a file and returns its descriptor.
fn open(session: &mut Session, path: &Path) -> String {
    open_as(session, "open", path)
}

fn open_as(session: &mut Session, how: &str, path: &Path) -> String {
    let answer = session.ask(&format!("open {how} {}", path.display()));
    answer.strip_suffix(" -").unwrap_or_else(|| panic!("open {how}: {answer}")).to_owned()
}

/// The result of GET_IDLUN.
fn idlun(session: &mut Session, fd: &str) -> String {
    session.ask(&format!("value {fd} {GET_IDLUN} 0")).replace("-1 EFAULT", ANSWERED)
}

/// The size in bytes, as BLKGETSIZE64 gives it.
fn size(session: &mut Session, fd: &str) -> u64 {
    let answer = session.ask(&format!("get {fd} {GETSIZE64} 8"));
    let bytes = answer.strip_prefix("0 - ").unwrap_or_else(|| panic!("BLKGETSIZE64: {answer}"));
    u64::from_str_radix(bytes, 16).expect("clients prints hexadecimal").swap_bytes()
}

/// The lines of messages, each checked for the prefix.
fn messages(text: &str) -> Vec<&str> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last message is not a whole line: {text:?}");
    text.lines()
        .map(|line| line.strip_prefix(PREFIX).unwrap_or_else(|| panic!("no prefix: {line:?}")))
        .collect()
}

// Addresses.

/// Requests that are answered by writing to the caller's memory: number and bytes written, per kind of disk.
fn getters(medium: Medium, kind: &str) -> Vec<(&'static str, u32)> {
    let mut getters = vec![(GETGEO, 16), ("0x330", 16)];
    match kind {
        "ide" => getters.extend([
            ("0x302", 8),
            ("0x304", 8),
            ("0x308", 8),
            ("0x309", 8),
            ("0x30a", 8),
            ("0x30b", 8),
            ("0x30c", 8),
            ("0x30d", 512),
            ("0x307", 142),
            ("0x30e", 8),
            ("0x30f", 8),
            ("0x310", 8),
        ]),
        _ => getters.extend([(GET_IDLUN, 8), ("0x5386", 4), ("0x2282", 4), ("0x2203", 4), ("0x2272", 4)]),
    }
    if kind == "ide" && acceptance::is_root() {
        getters.push(("0x31a", 8)); // HDIO_GET_BUSSTATE
    }
    if kind == "sata" {
        getters.extend([("0x309", 8), ("0x30d", 512)]);
    }
    if medium == Medium::Image {
        // BLKROGET, GETSIZE, GETSIZE64, SSZGET, BSZGET, PBSZGET, IOMIN, IOOPT, ALIGNOFF, ROTATIONAL, SECTGET.
        getters.extend([("0x125e", 4), ("0x1260", 8), (GETSIZE64, 8), ("0x1268", 4), ("0x80081270", 4)]);
        getters.extend([("0x127b", 4), ("0x1278", 4), ("0x1279", 4), ("0x127a", 4), ("0x127e", 2)]);
        getters.push(("0x1267", 2));
    }
    getters
}

/// Requests that are answered after reading the caller's memory: number and bytes read.
fn setters(medium: Medium, kind: &str) -> Vec<(&'static str, u32)> {
    let mut setters = Vec::new();
    if kind != "ide" {
        // SCSI_IOCTL_PROBE_HOST, SG_SET_TIMEOUT, SG_SET_RESERVED_SIZE.
        setters.extend([("0x5385", 4), ("0x2201", 4), ("0x2275", 4)]);
    }
    if kind != "ide" && acceptance::is_root() {
        setters.push(("0x2284", 4)); // SG_SCSI_RESET
    }
    if medium == Medium::Image {
        setters.extend([("0x1277", 16), ("0x127f", 16)]); // BLKDISCARD, BLKZEROOUT
    }
    setters
}

fn bad_addresses(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, MIB);
    let mut client = session(&disk);
    let fd = open_as(&mut client, "rdwr", disk.path());
    let mut wrong = Vec::new();
    let mut check = |client: &mut Session, request: &str, place: String, expected: &str| {
        let answer = client.ask(&format!("bad {fd} {request} {place}"));
        if answer != expected {
            wrong.push(format!("{request} at {place}: {answer}"));
        }
    };
    // The last page of the address space, and one beyond it.
    let nowhere = ["0", "8", "0x7ffffffff000", "0xfffffffffffffff8"];
    let mut checked = |client: &mut Session, request: &str, place: String, expected: &str| {
        // As the kernel: a geometry without an address is EINVAL, and a host's name may be left out.
        let expected = match (request, place.as_str()) {
            (GETGEO | "0x330", "0") => "-1 EINVAL",
            ("0x5385", "0") => "1 -",
            _ => expected,
        };
        check(client, request, place, expected);
    };
    for (request, bytes) in getters(medium, kind) {
        for place in nowhere.iter().map(|place| place.to_string()).chain(["read-only".into(), "end-1".into()])
        {
            checked(&mut client, request, place, "-1 EFAULT");
        }
        checked(&mut client, request, format!("end-{}", bytes - 1), "-1 EFAULT");
        checked(&mut client, request, format!("end-{bytes}"), ANSWERED);
    }
    for (request, bytes) in setters(medium, kind) {
        for place in nowhere.iter().map(|place| place.to_string()).chain(["end-1".into()]) {
            checked(&mut client, request, place, "-1 EFAULT");
        }
        checked(&mut client, request, format!("end-{}", bytes - 1), "-1 EFAULT");
    }
    assert_eq!(wrong, [""; 0]);
}

fn wide_requests(medium: Medium) {
    let disk = Disk::new(medium, "scsi", MIB);
    let mut client = session(&disk);
    let fd = open(&mut client, disk.path());
    let size = client.ask(&format!("get {fd} {GETSIZE64} 8"));
    assert_eq!(size, "0 - 0000100000000000");
    // The kernel looks at the low 32 bits alone; an int that became a long is sign-extended.
    for request in ["0xffffffff80081272", "0x1234567880081272"] {
        assert_eq!(client.ask(&format!("get {fd} {request} 8")), size);
    }
    for request in ["0xffffffff00005382", "0x100005382"] {
        assert_eq!(
            client.ask(&format!("get {fd} {request} 8")),
            client.ask(&format!("get {fd} {GET_IDLUN} 8"))
        );
    }
    // The encoding of 32-bit programs.
    assert_eq!(client.ask(&format!("get {fd} 0x80041272 8")), size);
}

fn errno_untouched(medium: Medium) {
    for kind in ["scsi", "ide", "sata"] {
        let disk = Disk::new(medium, kind, MIB);
        let mut client = session(&disk);
        let fd = open(&mut client, disk.path());
        for (request, _) in getters(medium, kind) {
            assert_eq!(client.ask(&format!("errno {fd} {request}")), "0 4242", "{kind} {request}");
        }
        let refused = client.ask(&format!("errno {fd} 0x5399"));
        assert_eq!(refused, if kind == "sata" { "-1 25" } else { "-1 22" }, "{kind}");
    }
}

// Processes, threads, signals.

/// A preloaded object whose constructor asks the device before the library's own constructor, or after.
fn early(library_last: bool) {
    let disk = scsi_image();
    let early = acceptance::program_with("early", "early.so", &["-O2", "-shared", "-fPIC"]);
    let (early, library) = (early.display().to_string(), disk.scratch().library().display().to_string());
    let preload = if library_last { format!("{early}:{library}") } else { format!("{library}:{early}") };
    let outcome = Run::new(disk.scratch().program("clients"))
        .env("LD_PRELOAD", preload)
        .env(names::DEVICES, disk.entry())
        .env("EARLY_DEVICE", disk.path())
        .stdin("early\n")
        .output();
    assert_eq!(outcome.expect_out(), "0\n");
    assert_eq!(outcome.err(), "");
}

fn vfork(medium: Medium) {
    let disk = Disk::new(medium, "scsi", MIB);
    let mut client = session(&disk);
    let fd = open(&mut client, disk.path());
    assert_eq!(client.ask(&format!("vfork {fd}")), ANSWERED);
}

fn signals(medium: Medium, level: i32) {
    let disk = Disk::new(medium, "scsi", MIB);
    let run = disk.run(disk.scratch().program("clients")).level(level);
    let mut client = run.start(&disk.scratch().path("stderr"));
    let fd = open(&mut client, disk.path());
    assert_eq!(client.ask(&format!("signals {fd}")), "0 failed");
    messages(&client.end());
}

fn threads(medium: Medium, level: i32) {
    let disk = Disk::new(medium, "scsi", MIB);
    let run = disk.run(disk.scratch().program("clients")).level(level);
    let mut client = run.start(&disk.scratch().path("stderr"));
    let fd = open(&mut client, disk.path());
    assert_eq!(client.ask(&format!("threads {fd}")), "0 failed");
    let text = client.end();
    let requests = messages(&text).iter().filter(|line| line.contains("SCSI_IOCTL_GET_IDLUN")).count();
    assert_eq!(requests, if level == 1000 { 8 * 2000 } else { 0 });
}

fn cancel_trial(level: i32) -> Trial {
    trial(format!("process/cancel-in-open-{level}"), &[Need::Tool("mkfifo")], move || {
        let disk = scsi_image();
        let fifo = disk.scratch().path("fifo");
        assert!(Run::new("mkfifo").arg(&fifo).output().success());
        let run = disk.run(disk.scratch().program("clients")).level(level);
        let mut client = run.start(&disk.scratch().path("stderr"));
        assert_eq!(client.ask(&format!("cancel {}", fifo.display())), "cancelled");
        // The library still works afterwards.
        let fd = open(&mut client, disk.path());
        assert_eq!(idlun(&mut client, &fd), ANSWERED);
    })
}

// Descriptors.

fn closed_descriptors() {
    let disk = scsi_image();
    let mut client = session(&disk);
    let fd = open(&mut client, disk.path());
    assert_eq!(idlun(&mut client, &fd), ANSWERED);
    client.ask(&format!("close close {fd}"));
    for fd in [&fd, "-1", "1000000"] {
        assert_eq!(idlun(&mut client, fd), "-1 EBADF", "{fd}");
    }
}

fn path_descriptors() {
    let disk = scsi_image();
    let mut client = session(&disk);
    let fd = open_as(&mut client, "path", disk.path());
    for request in [GET_IDLUN, GETGEO, GETSIZE64, "0x2285", "0x5399"] {
        assert_eq!(client.ask(&format!("value {fd} {request} 0")), "-1 EBADF", "{request}");
    }
}

fn dup2_over() {
    let disk = scsi_image();
    let mut client = session(&disk);
    let listed = open(&mut client, disk.path());
    let other = open(&mut client, Path::new("/dev/null"));
    assert_eq!(idlun(&mut client, &other), "-1 ENOTTY");
    client.ask(&format!("dup2 {listed} {other}"));
    assert_eq!(idlun(&mut client, &other), ANSWERED);
    let null = open(&mut client, Path::new("/dev/null"));
    client.ask(&format!("dup2 {null} {listed}"));
    assert_eq!(idlun(&mut client, &listed), "-1 ENOTTY");
    for how in ["dup", "dup2", "dup3", "dupfd", "dupfd_cloexec", "dupfd64"] {
        let copy = client.ask(&format!("dup {how} {other}"));
        assert_eq!(idlun(&mut client, copy.trim_end_matches(" -")), ANSWERED, "{how}");
    }
}

const READ_OF_A_BLOCK: &str = "28000000000000000100";

/// What is behind a descriptor may change without a call of the C library: what was asked of it before
/// the file is looked at is not used then.
fn exchanged_unseen() {
    let scratch = Scratch::new();
    let (image, file) = (scratch.image("image", MIB), scratch.image("file", 4 * MIB));
    let device = Loop::attach(&scratch.image("behind", 2 * MIB), &[]);
    let other = Loop::attach(&scratch.image("other", 3 * MIB), &[]);
    let entries = format!("{}=scsi:{}=scsi", image.display(), device.path().display());
    let mut client = Sgio::start(|program| Run::new(program).with(&scratch.library(), entries), &scratch);
    let fd = client.open("rw", &image);
    let mut check = |flags: &str, path: &Path, blocks: Option<u64>| {
        let swapped = client.ask(&format!("swap {fd} {flags} {}", path.display()));
        assert_eq!(swapped, fd);
        for _ in 0..2 {
            let write = client.write(&fd, "2a 00 00 00 00 00 00 00 01 00", 512, 0x77);
            let (read, _) = client.read(&fd, "28 00 00 00 00 00 00 00 01 00", 512);
            let (capacity, last) = client.read(&fd, "25 00 00 00 00 00 00 00 00 00", 8);
            match blocks {
                Some(blocks) => {
                    let expected = ["good 0", "good 0", "good 0", &format!("{:08x}00000200", blocks - 1)];
                    assert_eq!([&*write, &*read, &*capacity, &*last], expected, "{}", path.display());
                }
                None => assert!(!write.starts_with("good") && !read.starts_with("good"), "{write}, {read}"),
            }
        }
    };
    let paths = [
        (image.as_path(), Some(2048)),
        (device.path(), Some(4096)),
        (file.as_path(), None),
        (image.as_path(), Some(2048)),
        (other.path(), None),
        (device.path(), Some(4096)),
        (image.as_path(), Some(2048)),
        (Path::new("/dev/null"), None),
        (device.path(), Some(4096)),
    ];
    for (path, blocks) in paths {
        check("rw", path, blocks);
    }
    for path in [&file, &other.path().to_path_buf()] {
        let mut first = [0; 512];
        File::open(path).and_then(|file| file.read_exact_at(&mut first, 0)).expect("it can be read");
        assert_eq!(first, [0; 512], "{} is not listed", path.display());
    }
    // Nothing is answered through a descriptor of O_PATH.
    for path in [image.as_path(), device.path()] {
        check("rw", path, Some(if path == image { 2048 } else { 4096 }));
        check("p", path, None);
    }
    for path in [image.as_path(), device.path()] {
        for cdb in [
            READ_OF_A_BLOCK,
            "28000000000000000000",
            "28000fffffff00000100",
            "2a000000000000000000",
            "000000000000",
            "12000000ff00",
        ] {
            let mut ask = |flags: &str, line: &str| {
                client.ask(&format!("swap {fd} {flags} {}", path.display()));
                client.ask(line)
            };
            assert_eq!(ask("rw", &format!("in {fd} {READ_OF_A_BLOCK} 512")).split(' ').next(), Some("good"));
            assert_eq!(ask("p", &format!("in {fd} {cdb} 512")), "EBADF", "{cdb} on {}", path.display());
        }
    }
}

/// Memcheck does not take how the library tests memory for a fault of the program's, and says nothing else.
fn in_valgrind() {
    let disk = scsi_image();
    let valgrind = |program: PathBuf| {
        let run =
            Run::new("valgrind").with(&disk.scratch().library(), format!("{}=scsi", disk.path().display()));
        run.args(["-q", "--undef-value-errors=no"]).arg(program)
    };
    let mut client = Sgio::start(valgrind, disk.scratch());
    let fd = client.open("rw", disk.path());
    let (inquiry, _) = client.read(&fd, "12 00 00 00 60 00", 96);
    let list = client.ask(&format!("list {fd} 2a000000000000000200 1024 77"));
    let (read, data) = client.read(&fd, READ_OF_A_BLOCK, 512);
    assert_eq!([&*inquiry, &*list, &*read, &*data], ["good 0", "good 0", "good 0", &"77".repeat(512)]);
    drop(client);
    let said = std::fs::read_to_string(disk.scratch().path("stderr")).expect("it was written");
    assert_eq!(said, "");
}

fn received() {
    let disk = scsi_image();
    let mut client = session(&disk);
    let fd = client.ask(&format!("receive {}", disk.path().display()));
    assert_eq!(idlun(&mut client, fd.trim_end_matches(" -")), ANSWERED);
}

fn inherited() {
    let disk = scsi_image();
    let mut client = session(&disk);
    let fd = open(&mut client, disk.path());
    assert_eq!(client.ask("exec"), "executed");
    assert_eq!(idlun(&mut client, &fd), ANSWERED);
}

fn unlisted() {
    let disk = scsi_image();
    let other = disk.scratch().image("other", MIB);
    let mut client = session(&disk);
    for path in [other.as_path(), Path::new("/dev/null"), disk.scratch().directory()] {
        let fd = open(&mut client, path);
        assert_eq!(idlun(&mut client, &fd), "-1 ENOTTY", "{}", path.display());
    }
    assert_eq!(client.end(), "");
}

/// Documented limits: these calls do not pass through the C library's ioctl(2). The plain one does.
fn bypassed() {
    let disk = scsi_image();
    let program = acceptance::program("bypass");
    let alone = acceptance::program_with("bypass", "bypass-static", &["-O2", "-static", "-DSTATIC"]);
    let plugin = acceptance::program_with("bypass", "bypass.so", &["-O2", "-shared", "-fPIC", "-DPLUGIN"]);
    let plugin = plugin.to_str().expect("test names are ASCII");
    for (program, arguments, expected) in [
        (&program, vec!["ioctl"], "0"),
        (&program, vec!["syscall"], "ENOTTY"),
        (&program, vec!["deepbind", plugin], "ENOTTY"),
        (&program, vec!["dlmopen", plugin], "ENOTTY"),
        (&alone, vec!["ioctl"], "ENOTTY"),
    ] {
        let outcome = disk.run(program).args(&arguments).arg(disk.path()).output();
        let expected = by_engine("programs that do not call the C library's ioctl(2)", expected, "0");
        assert_eq!(outcome.expect_out().trim_end(), expected, "{arguments:?}");
    }
}

/// What another library interposes is called behind us, or before us, as without us.
fn stacked() {
    let disk = scsi_image();
    let other = disk.scratch().image("other", MIB);
    let library = disk.scratch().library();
    let second = acceptance::program_with("stacked", "stacked.so", &["-O2", "-shared", "-fPIC"]);
    let sysv = ["-O2", "-shared", "-fPIC", "-Wl,--hash-style=sysv"];
    let old = acceptance::program_with("stacked", "stacked-sysv.so", &sysv);
    for (preload, listed) in [
        (format!("{}:{}", library.display(), second.display()), ANSWERED),
        (format!("{}:{}", library.display(), old.display()), ANSWERED),
        (format!("{}:{}", second.display(), library.display()), "77 -"),
        (second.display().to_string(), "77 -"),
    ] {
        let lines = [
            format!("open open {}", disk.path().display()),
            format!("open open {}", other.display()),
            format!("value 3 {GET_IDLUN} 0"),
            format!("value 4 {GET_IDLUN} 0"),
            "value 4 0x7d01 0".into(),
            format!("open fopen {}", other.display()),
            "close close 3".into(),
        ];
        let outcome = Run::new(disk.scratch().program("clients"))
            .env("LD_PRELOAD", &preload)
            .env(names::DEVICES, disk.entry())
            .stdin(lines.join("\n") + "\n")
            .output();
        let said = outcome.expect_out().replace("-1 EFAULT", ANSWERED);
        let wanted = format!("3 -\n4 -\n{listed}\n77 -\n77 -\nstacked fopen\n5 -\nstacked close\n0 -\n");
        assert_eq!(said, wanted, "{preload}");
    }
}

/// The table's numbers are those of the headers that this system has.
fn request_numbers() {
    let headers = [
        "linux/fs.h",
        "linux/hdreg.h",
        "linux/blktrace_api.h",
        "linux/blkpg.h",
        "linux/blkzoned.h",
        "linux/pr.h",
    ]
    .into_iter()
    .chain(["linux/loop.h", "linux/nvme_ioctl.h", "linux/cdrom.h", "linux/fd.h", "linux/mtio.h", "scsi/sg.h"])
    .chain(["scsi/scsi.h", "linux/raid/md_u.h", "linux/major.h"]);
    let mut source: String = headers
        .map(|header| format!("#if __has_include(<{header}>)\n#include <{header}>\n#endif\n"))
        .collect();
    for row in disk::request::REQUESTS {
        let (name, number) = (row.name(), row.number);
        source += &format!("#ifdef {name}\nCHECK({name} == {number:#x}) COUNT\n#endif\n");
    }
    let scratch = Scratch::new();
    let path = scratch.path("numbers.c");
    let preamble = "#define CHECK(x) _Static_assert(x, #x);\n#define COUNT _Static_assert(1, \"\");\n";
    std::fs::write(&path, format!("#include <sys/types.h>\n#include <sys/ioctl.h>\n{preamble}{source}"))
        .expect("it is our directory");
    let compiled = Run::new("cc").args(["-E"]).arg(&path).output().expect_out();
    let known = compiled.matches("_Static_assert(1, \"\")").count();
    assert!(known > 90, "the headers know {known} of the requests alone");
    let checked = Run::new("cc").args(["-fsyntax-only", "-Wall"]).arg(&path).output();
    assert!(checked.success(), "{}", checked.err());
}

const TIB: u64 = 1 << 40;

/// Sizes past what 32-bit sectors, ext4 and 62 bits hold; tmpfs takes them all.
const HUGE: [u64; 4] = [2 * TIB + 512, 16 * TIB + 4096, 1 << 62, (1 << 63) - 4096];

/// A file of tmpfs, gone at the end.
struct Sparse(PathBuf);

impl Sparse {
    fn new(name: &str, bytes: u64) -> Sparse {
        let path = format!("/dev/shm/bdwrapper-test-{}-{name}-{bytes}", std::process::id());
        let sparse = Sparse(path.into());
        let made = Run::new("truncate").arg("-s").arg(bytes.to_string()).arg(&sparse.0).output();
        assert!(made.success(), "{}", made.err());
        sparse
    }
}

impl Drop for Sparse {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Asks sizes and geometry of a huge device.
fn ask_huge(path: &Path, bytes: u64) {
    let scratch = Scratch::new();
    for kind in ["scsi", "ide", "sata"] {
        let mut client = listed_by(&scratch, &format!("{}={kind}", path.display()));
        let fd = open(&mut client, path);
        assert_eq!(size(&mut client, &fd), bytes, "{kind}");
        let sectors = (bytes / 512).swap_bytes();
        assert_eq!(client.ask(&format!("get {fd} 0x1260 8")), format!("0 - {sectors:016x}"));
        assert_eq!(client.ask(&format!("get {fd} {GETGEO} 4")), "0 - ff3fffff", "65535 cylinders at most");
        if kind != "scsi" {
            let identity = client.ask(&format!("get {fd} 0x30d 512"));
            let words = identity.strip_prefix("0 - ").expect("it succeeds");
            assert_eq!(words[4 * 60..4 * 62], *"ffffff0f", "28-bit capacity");
            let most = (bytes / 512).min((1 << 48) - 1).swap_bytes();
            assert_eq!(words[4 * 100..4 * 104], format!("{most:016x}"), "48-bit capacity");
        }
    }
}

fn huge_image() {
    for bytes in HUGE {
        let sparse = Sparse::new("image", bytes);
        ask_huge(&sparse.0, bytes);
    }
}

fn huge_loop() {
    for bytes in HUGE {
        let sparse = Sparse::new("loop", bytes);
        let device = Loop::attach(&sparse.0, &[]);
        ask_huge(device.path(), bytes);
    }
}

// Names.

fn listed_by(scratch: &Scratch, entries: &str) -> Session {
    Run::new(scratch.program("clients"))
        .with(&scratch.library(), entries)
        .start(&scratch.path(&format!("stderr-{}", entries.len())))
}

fn asks_as(client: &mut Session, path: &Path) -> String {
    let fd = open(client, path);
    let answer = idlun(client, &fd);
    client.ask(&format!("close close {fd}"));
    answer
}

fn link_chain() {
    let scratch = Scratch::new();
    let device = Loop::attach(&scratch.image("image", MIB), &[]);
    let last = Name::link("disk/by-vmware-bdwrapper-test", device.path());
    let name = Name::link("sd", last.path());
    for listed in [name.path().display().to_string(), format!("{}=scsi", last.path().display())] {
        let mut client = listed_by(&scratch, &listed);
        for path in [name.path(), last.path(), device.path()] {
            assert_eq!(asks_as(&mut client, path), ANSWERED, "{listed}: {}", path.display());
        }
    }
}

fn other_name() {
    // Listed by its own name, asked through a second device node.
    let scratch = Scratch::new();
    let device = Loop::attach(&scratch.image("image", MIB), &[]);
    let node = Name::node("hd", device.path());
    let mut client = listed_by(&scratch, &format!("{}=scsi", device.path().display()));
    assert_eq!(asks_as(&mut client, node.path()), ANSWERED);
}

fn name_appears_later() {
    let scratch = Scratch::new();
    let device = Loop::attach(&scratch.image("image", MIB), &[]);
    let name = Name::reserved("sd");
    let mut client = listed_by(&scratch, name.path().to_str().expect("test names are ASCII"));
    assert_ne!(asks_as(&mut client, device.path()), ANSWERED);
    name.point(device.path());
    assert_eq!(asks_as(&mut client, device.path()), ANSWERED);
    assert_eq!(asks_as(&mut client, name.path()), ANSWERED);
}

fn link_leads_elsewhere() {
    let scratch = Scratch::new();
    let first = Loop::attach(&scratch.image("first", MIB), &[]);
    let second = Loop::attach(&scratch.image("second", MIB), &[]);
    let name = Name::link("sd", first.path());
    let mut client = listed_by(&scratch, name.path().to_str().expect("test names are ASCII"));
    assert_eq!(asks_as(&mut client, first.path()), ANSWERED);
    assert_ne!(asks_as(&mut client, second.path()), ANSWERED);
    name.point(second.path());
    assert_eq!(asks_as(&mut client, second.path()), ANSWERED);
    assert_eq!(asks_as(&mut client, name.path()), ANSWERED);
}

fn loop_set_up_later() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    let mut name = None;
    let mut client = None;
    let device = Loop::attach_after(&image, |free| {
        let link = Name::link("sd", free);
        let mut session = listed_by(&scratch, link.path().to_str().expect("test names are ASCII"));
        let fd = open(&mut session, Path::new("/dev/null"));
        assert_eq!(idlun(&mut session, &fd), "-1 ENOTTY");
        (name, client) = (Some(link), Some(session));
    });
    let mut client = client.expect("it was started");
    let fd = open(&mut client, device.path());
    assert_eq!(idlun(&mut client, &fd), ANSWERED);
    assert_eq!(size(&mut client, &fd), MIB);
}

fn image_appears_later() {
    let scratch = Scratch::new();
    let image = scratch.path("later");
    let mut client = listed_by(&scratch, &format!("{}=scsi", image.display()));
    scratch.image("later", MIB);
    assert_eq!(asks_as(&mut client, &image), ANSWERED);
    // Another file takes the name.
    let other = scratch.image("other", 2 * MIB);
    std::fs::rename(&other, &image).expect("both are in the scratch directory");
    let fd = open(&mut client, &image);
    assert_eq!(idlun(&mut client, &fd), ANSWERED);
    assert_eq!(size(&mut client, &fd), 2 * MIB);
    // A link to a listed file is that file.
    let link = scratch.path("link");
    symlink(&image, &link).expect("the scratch directory can be written");
    assert_eq!(asks_as(&mut client, &link), ANSWERED);
}

// Growth.

fn grow(image: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(image).expect("it is ours");
    file.set_len(bytes).expect("the temporary directory can hold a sparse file of this size");
}

fn loop_growth() {
    let disk = Disk::new(Medium::Loop, "scsi", 128 * MIB);
    let mut client = session(&disk);
    let fd = open(&mut client, disk.path());
    let geometry = |client: &mut Session| client.ask(&format!("get {fd} {GETGEO} 4"));
    assert_eq!(size(&mut client, &fd), 128 * MIB);
    let before = geometry(&mut client);
    grow(disk.image(), 1024 * MIB);
    assert_eq!(size(&mut client, &fd), 128 * MIB);
    assert_eq!(geometry(&mut client), before);
    disk.loop_device().resize();
    assert_eq!(size(&mut client, &fd), 1024 * MIB);
    // 34 heads, 61 sectors, 1011 cylinders, as golden/ioctl/scsi.root.tsv has them for 1 GiB.
    assert_eq!(geometry(&mut client), "0 - 223df303");
}

fn image_growth() {
    let disk = Disk::new(Medium::Image, "scsi", 128 * MIB);
    let mut client = session(&disk);
    let fd = open(&mut client, disk.path());
    assert_eq!(size(&mut client, &fd), 128 * MIB);
    grow(disk.image(), 1024 * MIB + 100);
    assert_eq!(size(&mut client, &fd), 1024 * MIB, "a part of a block is no block");
    assert_eq!(client.ask(&format!("get {fd} {GETGEO} 4")), "0 - 223df303");
}

// Entries.

/// Asks GET_IDLUN and GET_IDENTITY of a file with these entries; their results and the messages.
fn ask_with(scratch: &Scratch, entries: &str, image: &Path, level: Option<&str>) -> (String, String) {
    let mut run = Run::new(scratch.program("clients")).with(&scratch.library(), entries);
    if let Some(level) = level {
        run = run.env(names::LOG_LEVEL, level);
    }
    let requests = format!("open open {}\nvalue 3 {GET_IDLUN} 0\nvalue 3 0x30d 0\n", image.display());
    let outcome = run.stdin(requests).output();
    let answers: Vec<String> = outcome.expect_out().lines().skip(1).map(str::to_owned).collect();
    (answers.join(", "), outcome.err())
}

/// GET_IDLUN of a SCSI disk and GET_IDENTITY of an IDE disk: the address that is asked with is a bad one.
const AS_SCSI: &str = "-1 EFAULT, -1 EINVAL";
const AS_IDE: &str = "-1 EINVAL, -1 EFAULT";

fn two_kinds() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    let name = image.display();
    for (entries, expected) in [
        (format!("{name}=scsi:{name}=ide"), AS_SCSI),
        (format!("{name}=ide:{name}=scsi"), AS_IDE),
        (format!("{name}=scsi:{}/./image=ide", scratch.directory().display()), AS_SCSI),
    ] {
        let (answers, errors) = ask_with(&scratch, &entries, &image, None);
        assert_eq!(answers, expected, "{entries}");
        let errors = messages(&errors);
        assert_eq!(errors.len(), 1, "{entries}: {errors:?}");
        assert!(
            errors[0].contains("image=") || errors[0].contains(&image.display().to_string()),
            "{errors:?}"
        );
    }
}

fn same_kind_twice() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    let (answers, errors) =
        ask_with(&scratch, &format!("{0}=scsi:{0}=scsi", image.display()), &image, Some("0"));
    assert_eq!((answers.as_str(), errors.as_str()), (AS_SCSI, ""));
}

fn many_entries() {
    let scratch = Scratch::new();
    let images: Vec<_> = (0..300).map(|number| scratch.image(&format!("image{number}"), MIB)).collect();
    let entry = |image: &PathBuf| format!("{}=scsi", image.display());
    let entries: Vec<String> = images.iter().map(entry).collect();
    let (answers, errors) = ask_with(&scratch, &entries[..256].join(":"), &images[255], None);
    assert_eq!((answers.as_str(), errors.as_str()), (AS_SCSI, ""));
    for number in [0, 255] {
        let (answers, errors) = ask_with(&scratch, &entries.join(":"), &images[number], None);
        assert_eq!(answers, AS_SCSI);
        let errors = messages(&errors);
        assert!(errors.len() == 1 && errors[0].contains("256"), "{errors:?}");
    }
    let (answers, _) = ask_with(&scratch, &entries.join(":"), &images[256], None);
    assert_eq!(answers, "-1 ENOTTY, -1 ENOTTY");
}

fn bad_entries() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    let good = format!("{}=scsi", image.display());
    let long = format!("/{}=scsi", "x".repeat(5000));
    let bad = [
        "relative=scsi",
        "/dev/no-kind",
        "/dev/sd/a=bogus",
        "/dev/sd/a=scsi,ide",
        "/dev/sd/a=geometry=0/1/1",
        "/dev/sd/a=sector=1024",
        "/dev/sd/a=serial=",
        &long,
    ];
    for entry in bad {
        for entries in [format!("{entry}:{good}"), format!("{good}:{entry}")] {
            let (answers, errors) = ask_with(&scratch, &entries, &image, Some("0"));
            assert_eq!(answers, AS_SCSI, "{entry}");
            let errors = messages(&errors);
            assert_eq!(errors.len(), 1, "{entry}: {errors:?}");
            // An overlong entry may be shortened.
            let named = &entry[..entry.len().min(40)];
            assert!(errors[0].contains(named), "{entry} is not named: {errors:?}");
        }
    }
    let (answers, errors) = ask_with(&scratch, &format!("{}:{good}", bad.join(":")), &image, Some("0"));
    assert_eq!(answers, AS_SCSI);
    assert_eq!(messages(&errors).len(), bad.len());
    for nothing in ["", ":", "::::"] {
        let (answers, errors) = ask_with(&scratch, nothing, &image, Some("0"));
        assert_eq!((answers.as_str(), errors.as_str()), ("-1 ENOTTY, -1 ENOTTY", ""), "{nothing:?}");
    }
}

fn real_disk() {
    // Nodes that no driver stands behind here would do as well: the number alone says what they are.
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    for (major, minor) in [("8", "0"), ("65", "16"), ("3", "0"), ("22", "64")] {
        let node = Name::reserved("sd");
        let made = Run::new("mknod").arg(node.path()).args(["b", major, minor]).output();
        assert!(made.success(), "{}", made.err());
        let path = node.path().display();
        let (_, errors) = ask_with(&scratch, &format!("{path}"), &image, Some("0"));
        let errors = messages(&errors);
        assert!(errors.len() == 1, "{major}:{minor}: {errors:?}");
        assert!(errors[0].contains(&path.to_string()) && errors[0].contains("force"), "{errors:?}");
        let (_, errors) = ask_with(&scratch, &format!("{path}=force"), &image, Some("0"));
        assert_eq!(errors, "", "{major}:{minor}");
    }
}

// Messages.

fn silent_by_default() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    // Neither a program that touches no listed device nor one that does.
    for command in [vec!["true"], vec!["ls", "/"], vec!["cat", image.to_str().expect("test names are ASCII")]]
    {
        let missing = scratch.path("missing");
        let entries = format!("{}=scsi:{}=ide", image.display(), missing.display());
        let outcome = Run::new(command[0]).args(&command[1..]).with(&scratch.library(), entries).output();
        assert_eq!((outcome.code(), outcome.err().as_str()), (0, ""), "{command:?}");
    }
    let (answers, errors) = ask_with(&scratch, &format!("{}=scsi", image.display()), &image, None);
    assert_eq!((answers.as_str(), errors.as_str()), (AS_SCSI, ""));
    let without_list = Run::new("true").env("LD_PRELOAD", scratch.library()).output();
    assert_eq!(without_list.err(), "");
}

fn level_minus_one() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    let entries = format!("relative=scsi:{0}=scsi:{0}=ide", image.display());
    let (answers, errors) = ask_with(&scratch, &entries, &image, Some("-1"));
    assert_eq!((answers.as_str(), errors.as_str()), (AS_SCSI, ""));
}

fn errors_only() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    let entries = format!("relative=scsi:{0}=scsi:{0}=ide", image.display());
    let (_, errors) = ask_with(&scratch, &entries, &image, Some("0"));
    assert_eq!(messages(&errors).len(), 2, "{errors}");
    let (_, with_default) = ask_with(&scratch, &entries, &image, None);
    let (_, with_one) = ask_with(&scratch, &entries, &image, Some("1"));
    assert_eq!(with_default, with_one);
}

fn start_up() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    let (answers, text) = ask_with(&scratch, &format!("{}=scsi", image.display()), &image, Some("10"));
    assert_eq!(answers, AS_SCSI);
    let lines = messages(&text);
    let about: Vec<_> = lines.iter().filter(|line| line.contains(image.to_str().expect("ASCII"))).collect();
    assert_eq!(about.len(), 1, "one line says which device is listed: {text}");
    assert!(about[0].contains("scsi"), "{text}");
}

fn levels_include() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    let entries = format!("relative=scsi:{}=scsi", image.display());
    let mut below = 0;
    for level in ["0", "1", "10", "100", "1000"] {
        let (_, text) = ask_with(&scratch, &entries, &image, Some(level));
        let lines = messages(&text).len();
        let more = lines > below || level == "1" && lines == below;
        assert!(more, "level {level} says no more than the one below it: {text}");
        below = lines;
    }
    // A level between two is the lower one of them.
    let count = |level| messages(&ask_with(&scratch, &entries, &image, Some(level)).1).len();
    assert_eq!(count("99"), count("10"));
    assert_eq!(count("2000000000"), count("1000"));
}

fn level_not_a_number() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    for level in ["", "x", "1x", "99999999999999999999", "-", " 1000"] {
        let (answers, errors) = ask_with(&scratch, &format!("{}=scsi", image.display()), &image, Some(level));
        assert_eq!(answers, AS_SCSI, "{level:?}");
        let lines = messages(&errors);
        // An empty one is as good as none.
        assert_eq!(lines.len(), usize::from(!level.is_empty()), "{level:?}: {errors}");
    }
}

fn one_write_per_line() {
    let disk = scsi_image();
    let trace = disk.scratch().path("trace");
    let entries = format!("relative=scsi:/dev/no-kind:{}", disk.entry());
    let outcome = Run::new(disk.scratch().program("clients"))
        .with(&disk.scratch().library(), entries)
        .level(1000)
        .traced(&trace, ["-e", "trace=write,writev,pwrite64,sendto", "-e", "signal=none", "-s", "4096"])
        .stdin(format!("open open {}\nvalue 3 {GET_IDLUN} 0\nclose close 3\n", disk.path().display()))
        .output();
    let text = outcome.err();
    let lines = messages(&text);
    assert!(lines.len() >= 6, "{text}");
    let trace = std::fs::read_to_string(&trace).expect("strace wrote it");
    let writes: Vec<&str> = trace.lines().filter(|line| line.contains("(2, ")).collect();
    assert_eq!(writes.len(), lines.len(), "{trace}");
    for (write, line) in writes.iter().zip(lines) {
        let quoted = line.replace('\\', "\\\\").replace('"', "\\\"");
        assert!(write.starts_with(&format!("write(2, \"{PREFIX}{quoted}\\n\", ")), "{write}\n{line}");
    }
}

/// A log line of level 1000 about the request.
fn line_about<'a>(lines: &[&'a str], request: &str) -> &'a str {
    let found: Vec<&&str> = lines.iter().filter(|line| line.contains(request)).collect();
    assert_eq!(found.len(), 1, "{request}: {lines:?}");
    found[0]
}

fn each_request() {
    let disk = Disk::new(Medium::Image, "scsi", 128 * MIB);
    let run = disk.run(disk.scratch().program("clients")).level(1000);
    let mut client = run.start(&disk.scratch().path("stderr"));
    let fd = open_as(&mut client, "rdwr", disk.path());
    for request in [
        format!("get {fd} {GET_IDLUN} 8"),
        format!("get {fd} {GETGEO} 16"),
        format!("get {fd} {GETSIZE64} 8"),
        format!("get {fd} 0x30d 8"),
        format!("get {fd} 0x5399 8"),
        format!("set {fd} 0x2201 4321"),
        format!("value {fd} 0x1261 0"),
        format!("bad {fd} 0x5386 8"),
    ] {
        client.ask(&request);
    }
    let text = client.end();
    let name = disk.path().to_str().expect("test names are ASCII");
    let lines: Vec<&str> = messages(&text).into_iter().filter(|line| line.contains("ioctl")).collect();
    for line in &lines {
        assert!(line.contains(name), "the device is not named: {line}");
        assert!(
            line.split(|c: char| !c.is_ascii_digit()).any(|number| number == fd),
            "no descriptor: {line}"
        );
    }
    assert!(line_about(&lines, "SCSI_IOCTL_GET_IDLUN").contains("answered"), "{lines:?}");
    let geometry = line_about(&lines, "HDIO_GETGEO");
    assert!(geometry.contains("cylinders 1008 heads 5 sectors 52 start 0"), "{geometry}");
    assert!(line_about(&lines, "BLKGETSIZE64").contains("134217728"), "{lines:?}");
    assert!(line_about(&lines, "HDIO_GET_IDENTITY").contains("EINVAL"), "{lines:?}");
    let unknown = line_about(&lines, "0x5399");
    assert!(unknown.contains("unknown") && unknown.contains("EINVAL"), "{unknown}");
    assert!(line_about(&lines, "SG_SET_TIMEOUT").contains("4321"), "{lines:?}");
    assert!(line_about(&lines, "SCSI_IOCTL_GET_BUS_NUMBER").contains("EFAULT"), "{lines:?}");
}

/// At level 100 each acquisition and each release of a descriptor of a listed device is one line.
fn descriptors(medium: Medium, build: &str) {
    let disk = Disk::new(medium, "scsi", MIB);
    let options: &[&str] =
        if build == "plain" { &["-O2"] } else { &["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"] };
    let program = acceptance::program_with("clients", &format!("clients-{build}"), options);
    let run = disk.run(disk.scratch().copy(&program, "clients")).level(100);
    let mut client = run.start(&disk.scratch().path("stderr"));
    let name = disk.path().display().to_string();
    let mut wrong = Vec::new();
    // What is said at start-up has been said when the program answers.
    open(&mut client, Path::new("/dev/null"));
    let mut seen = client.err().len();
    let mut check = |client: &mut Session, request: String, released: Option<&str>| {
        let answer = client.ask(&request);
        let fd = released.map(str::to_owned).unwrap_or_else(|| answer.trim_end_matches(" -").to_owned());
        let text = client.err().split_off(seen);
        seen += text.len();
        let lines: Vec<&str> = messages(&text).into_iter().filter(|line| line.contains(&name)).collect();
        let about = |line: &&str| line.split(|c: char| !c.is_ascii_digit()).any(|number| number == fd);
        if lines.len() != 1 || !lines.iter().all(about) || answer.starts_with('-') {
            wrong.push(format!("{request}: {answer}: {text:?}"));
        }
        fd
    };
    let opens =
        ["open", "open64", "openat", "openat64", "rdwr", "path", "fopen", "fopen64", "freopen", "freopen64"];
    for how in opens {
        let fd = check(&mut client, format!("open {how} {name}"), None);
        let how = if how.contains("fopen") || how.contains("freopen") { "fclose" } else { "close" };
        check(&mut client, format!("close {how} {fd}"), Some(&fd));
    }
    let fd = check(&mut client, format!("open open {name}"), None);
    for how in ["dup", "dup2", "dup3", "dupfd", "dupfd_cloexec", "dupfd64"] {
        let copy = check(&mut client, format!("dup {how} {fd}"), None);
        check(&mut client, format!("close close {copy}"), Some(&copy));
    }
    check(&mut client, format!("close close_range {fd}"), Some(&fd));
    if medium != Medium::Image {
        // These cut an image file to nothing.
        for how in ["creat", "creat64"] {
            let fd = check(&mut client, format!("open {how} {name}"), None);
            check(&mut client, format!("close close {fd}"), Some(&fd));
        }
    }
    assert_eq!(wrong, [""; 0]);
    // A descriptor of another file is nobody's business, until it gives way to the device.
    let null = open(&mut client, Path::new("/dev/null"));
    let fd = open(&mut client, disk.path());
    let before = client.err().len();
    client.ask(&format!("close close {null}"));
    assert_eq!(client.err().len(), before);
    client.ask(&format!("close close {fd}"));
}

// Sandboxes and other surroundings.

const SYS_PROCESS_VM_READV: i64 = 310;
const SYS_PROCESS_VM_WRITEV: i64 = 311;
const SYS_FALLOCATE: i64 = 285;
const SYS_STATX: i64 = 332;
const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;

fn sandbox(client: &mut Session, call: i64, errno: i32) {
    assert_eq!(client.ask(&format!("sandbox {call} {errno}")), "sandboxed");
}

fn without_process_vm() {
    for errno in [EPERM, ENOSYS] {
        let disk = scsi_image();
        let mut client = session(&disk);
        let fd = open(&mut client, disk.path());
        let wanted = client.ask(&format!("get {fd} {GETGEO} 16"));
        sandbox(&mut client, SYS_PROCESS_VM_READV, errno);
        sandbox(&mut client, SYS_PROCESS_VM_WRITEV, errno);
        assert_eq!(client.ask(&format!("get {fd} {GETGEO} 16")), wanted);
        assert_eq!(client.ask(&format!("set {fd} 0x2201 77")), ANSWERED);
        assert_eq!(client.ask(&format!("value {fd} 0x2202 0")), "77 -");
        assert_eq!(client.ask(&format!("bad {fd} {GET_IDLUN} read-only")), "-1 EFAULT");
        assert_eq!(client.ask(&format!("bad {fd} {GET_IDLUN} end-7")), "-1 EFAULT");
        assert_eq!(client.ask(&format!("bad {fd} 0x2201 end-3")), "-1 EFAULT");
        // No descriptor stays behind.
        assert_eq!(open(&mut client, Path::new("/dev/null")), "4");
    }
}

fn without_statx() {
    for errno in [EPERM, ENOSYS] {
        let disk = scsi_image();
        let mut client = session(&disk);
        sandbox(&mut client, SYS_STATX, errno);
        let later = disk.scratch().image("later", MIB);
        std::fs::rename(&later, disk.path()).expect("both are in the scratch directory");
        let fd = open(&mut client, disk.path());
        assert_eq!(idlun(&mut client, &fd), ANSWERED);
        assert_eq!(size(&mut client, &fd), MIB);
    }
}

/// The range reads as zeros, and all else stays. Whether parts of a page are given back is the file system's affair.
fn discard_and_zero() {
    for (request, gives_back) in [("0x1277", true), ("0x127f", false)] {
        let disk = scsi_image();
        std::fs::write(disk.image(), vec![b'x'; MIB as usize]).expect("it is ours");
        let before = disk.image().metadata().expect("it exists").blocks();
        let mut client = session(&disk);
        let fd = open_as(&mut client, "rdwr", disk.path());
        // A page, eight times 512 bytes.
        for at in (8192..12288).step_by(512) {
            assert_eq!(client.ask(&format!("range {fd} {request} {at}")), ANSWERED);
        }
        assert_eq!(client.ask(&format!("range {fd} {request} {MIB}")), "-1 EINVAL");
        let read_only = open(&mut client, disk.path());
        assert_eq!(client.ask(&format!("range {read_only} {request} 0")), "-1 EBADF");
        let mut wanted = vec![b'x'; MIB as usize];
        wanted[8192..12288].fill(0);
        assert!(std::fs::read(disk.image()).expect("it is ours") == wanted, "{request}");
        let after = disk.image().metadata().expect("it exists").blocks();
        assert!(
            if gives_back { after <= before } else { after == before },
            "{request}: {before} to {after} blocks"
        );
    }
}

/// On a file system that can neither punch holes nor make ranges zero.
fn without_fallocate() {
    let disk = scsi_image();
    std::fs::write(disk.image(), vec![b'x'; 8192]).expect("it is ours");
    let mut client = session(&disk);
    sandbox(&mut client, SYS_FALLOCATE, EOPNOTSUPP);
    let fd = open_as(&mut client, "rdwr", disk.path());
    let refused = by_engine("system calls that the program's own sandbox refuses", "-1 EOPNOTSUPP", ANSWERED);
    assert_eq!(client.ask(&format!("range {fd} 0x1277 512")), refused);
    assert_eq!(client.ask(&format!("range {fd} 0x127f 512")), ANSWERED);
    let wanted = [vec![b'x'; 512], vec![0; 512], vec![b'x'; 7168]].concat();
    assert_eq!(std::fs::read(disk.image()).expect("it is ours"), wanted);
    // Linux would append what is written there, so another descriptor is used.
    let appending = open_as(&mut client, "append", disk.path());
    assert_eq!(client.ask(&format!("range {appending} 0x127f 2048")), ANSWERED);
    let wanted = [&wanted[..2048], &[0; 512], &wanted[2560..]].concat();
    assert_eq!(std::fs::read(disk.image()).expect("it is ours"), wanted);
}

fn without_leader() {
    let disk = scsi_image();
    let outcome = disk
        .run(disk.scratch().program("clients"))
        .stdin(format!("open open {}\nleader 3\n", disk.path().display()))
        .output();
    assert_eq!(outcome.expect_out(), "3 -\n0 -\n");
}

fn another_files_inode() {
    let disk = scsi_image();
    let mut client = session(&disk);
    assert_eq!(asks_as(&mut client, disk.path()), ANSWERED);
    let inode = disk.image().metadata().expect("it exists").ino();
    std::fs::remove_file(disk.image()).expect("it is ours");
    // Most file systems give its number to the next file.
    let others: Vec<_> = (0..16).map(|number| disk.scratch().image(&format!("other{number}"), MIB)).collect();
    let again = others.iter().any(|path| path.metadata().expect("it exists").ino() == inode);
    for path in &others {
        assert_eq!(asks_as(&mut client, path), "-1 ENOTTY", "the number was given again: {again}");
    }
}

fn sg_io_line() {
    let disk = scsi_image();
    let run = disk.run("sg_inq").arg(disk.path()).level(1000).output();
    let text = run.err();
    let line = text.lines().find(|line| line.contains("ioctl(") && line.contains(", SG_IO, "));
    let line = line.unwrap_or_else(|| panic!("no SG_IO in {text}"));
    assert!(
        line.contains("{interface 83 from the disk 36 bytes, command of 6 bytes 120000002400}"),
        "{line}"
    );
    assert!(line.ends_with("= 0, answered"), "{line}");
}

fn close_ranges() {
    let disk = scsi_image();
    let run = disk.run(disk.scratch().program("clients")).level(100);
    let mut client = run.start(&disk.scratch().path("stderr"));
    let released = |client: &Session| client.err().matches("no longer on").count();
    let fd = open(&mut client, disk.path());
    assert_eq!(client.ask(&format!("close bad_close_range {fd}")), "-1 EINVAL");
    assert_eq!(released(&client), 0);
    open(&mut client, disk.path());
    assert_eq!(client.ask(&format!("close closefrom {fd}")), "0 -");
    assert_eq!(released(&client), 2);
}

// Standard error.

/// Asks a listed image file, opened for writing, at level 1000 with standard error as the shell command says.
fn with_stderr(redirection: &str, disk: &Disk) -> Outcome {
    disk.run("sh")
        .args(["-c", &format!("exec \"$0\" {redirection}")])
        .arg(disk.scratch().program("clients"))
        .level(1000)
        .stdin(format!(
            "open rdwr {0}\nvalue 2 {GET_IDLUN} 0\nvalue 3 {GET_IDLUN} 0\nopen rdwr {0}\n",
            disk.path().display()
        ))
        .output()
}

fn assert_blank(disk: &Disk) {
    let content = std::fs::read(disk.image()).expect("it is ours");
    assert!(content.iter().all(|&byte| byte == 0), "a message was written to the device");
    assert_eq!(content.len() as u64, MIB);
}

fn stderr_closed() {
    // The device gets descriptor 2 itself.
    let disk = scsi_image();
    let outcome = with_stderr("2>&-", &disk);
    assert_eq!(outcome.expect_out(), "2 -\n-1 EFAULT\n-1 EBADF\n3 -\n");
    assert_blank(&disk);
}

fn stderr_is_the_device() {
    let disk = scsi_image();
    for redirection in ["2<>", "2>>"] {
        let outcome = with_stderr(&format!("{redirection} {}", disk.path().display()), &disk);
        assert_eq!(outcome.expect_out(), "3 -\n-1 EFAULT\n-1 EFAULT\n4 -\n");
        assert_blank(&disk);
    }
}

fn stderr_becomes_the_device() {
    // A copy of the descriptor, and errors of entries: the line about the bad entry comes at start-up.
    let disk = scsi_image();
    let device = File::options().read(true).write(true).open(disk.path()).expect("it is ours");
    device.write_all_at(&[0], 0).expect("it is ours");
    let outcome = Run::new(disk.scratch().program("clients"))
        .with(&disk.scratch().library(), format!("relative=scsi:{}", disk.entry()))
        .level(1000)
        .stderr(device)
        .stdin(format!("value 2 {GET_IDLUN} 0\n"))
        .output();
    assert_eq!(outcome.expect_out(), "-1 EFAULT\n");
    assert_blank(&disk);
}

/// A program closes its standard error, and a file that has nothing to do with it gets the number.
fn stderr_becomes_another_file() {
    let disk = scsi_image();
    let other = disk.scratch().image("other", MIB);
    let (path, other_path) = (disk.path().display(), other.display());
    for how in ["rdwr", "append"] {
        let outcome = disk
            .run(disk.scratch().program("clients"))
            .level(1000)
            .stdin(format!(
                "close close 2\nopen {how} {other_path}\nopen open {path}\nvalue 3 {GET_IDLUN} 0\n"
            ))
            .output();
        assert_eq!(outcome.expect_out(), "0 -\n2 -\n3 -\n-1 EFAULT\n");
        let content = std::fs::read(&other).expect("it is ours");
        assert!(
            content[..MIB as usize].iter().all(|&byte| byte == 0),
            "{how}: a message was written over data"
        );
        // What appends is taken for a log.
        let has_messages = by_engine("the file that messages go to", how == "append", false);
        assert_eq!(content.len() as u64 > MIB, has_messages);
    }
}

/// The writing end of a pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().expect("true can be run");
    let mut pipe = reader.stdin.take().expect("it is a pipe");
    reader.wait().expect("our own child can be waited for");
    // A child that another test is just starting has the reading end until it executes its program.
    while pipe.write_all(b"x").is_ok() {
        std::thread::yield_now();
    }
    pipe.into()
}

fn stderr_closed_pipe() {
    let dies = Run::new("sh").args(["-c", "echo x >&2; exit 0"]).stderr(closed_pipe()).output();
    assert_eq!(dies.status.signal(), Some(13), "SIGPIPE kills a program here that does not expect it");
    let disk = scsi_image();
    for level in [1, 1000] {
        let outcome = Run::new(disk.scratch().program("clients"))
            .with(&disk.scratch().library(), format!("relative=scsi:{}", disk.entry()))
            .level(level)
            .stderr(closed_pipe())
            .stdin(format!("open open {}\nvalue 3 {GET_IDLUN} 0\n", disk.path().display()))
            .output();
        assert_eq!(outcome.expect_out(), "3 -\n-1 EFAULT\n");
    }
}
