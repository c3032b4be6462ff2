//! The command `trace`, as users run it.

#[path = "system/mod.rs"]
mod system;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{
    Disk, Engine, Medium, Need, Outcome, Run, Scratch, Session, by_engine, engine, group, main as harness,
    needs, parent, pattern, program_with, trial, wait_for,
};
use disk::abi::{
    IdeTaskRequest, SG_DXFER_FROM_DEV, SG_DXFER_NONE, SG_DXFER_TO_DEV, ScsiIoctlCommand, SgIoHdr,
};
use disk::names;
use libtest_mimic::Trial;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind, listen, recv,
    socket_with,
};
use rustix::process::Uid;
use rustix::thread::set_thread_uid;
use serde_json::{Value, json};
use system::{CONF, System, chmod, command, make};
use zerocopy::IntoBytes;

const MIB: u64 = 1 << 20;
const GET_IDLUN: &str = "0x5382";

fn main() -> ExitCode {
    let mut trials = trials();
    trials.extend([
        trial("a program that fills its standard error", &[Need::Tool("sg_turs")], full_stderr),
        trial("a program that may not have a socket", &[], no_socket),
        trial("a receiver of another user", &[Need::Devices, Need::Tool("unshare")], impostor),
        trial("a file where the standard error was", &[], data_behind_stderr),
        trial("few descriptors", &[Need::Tool("prlimit")], few_descriptors),
        trial("a set-user-ID program", &[Need::Root, Need::Tool("make")], set_user_id),
        trial("signals", &[Need::Tool("sg_turs")], signals),
        trial("output", &[], output),
        trial("output/under a loop device", &needs(Medium::Loop, &[]), output_under_a_loop_device),
        trial("a full disk/on a terminal", &[Need::Tool("script")], full_disk_on_a_terminal),
        trial("replay/another kind", &[], replay_other_kind),
        trial("replay/what changes the device", &[], replay_writes),
        trial("replay/what changes a device in use", &needs(Medium::Loop, &[]), replay_in_use),
        trial("replay/what changes nothing", &[], replay_changes_nothing),
        trial("replay/no library", &[], replay_without_library),
        trial("replay/hostile", &[], replay_hostile),
        trial("usage", &[], usage),
    ]);
    trials.extend(group("supervisor", supervised_trials));
    harness(trials)
}

/// The trials of both engines.
pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, medium) in [("image", Medium::Image), ("loop", Medium::Loop)] {
        let tools = ["hdparm", "sg_readcap", "blockdev"];
        trials.push(trial(format!("words/{name}"), &needs(medium, &tools), move || words(medium)));
        let tools = ["hdparm", "sg_inq", "sg_readcap", "smartctl", "fdisk", "blockdev", "sdparm", "sg_vpd"];
        let needs = [&needs(medium, &tools)[..], &[Need::Root]].concat();
        trials.push(trial(format!("programs/{name}"), &needs, move || programs(medium)));
    }
    trials.extend([
        trial("unknown", &[], unknown),
        trial("json", &[], json),
        trial("what is on the disk stays there", &[], no_content),
        trial("pieces and bad addresses", &[], pieces),
        trial("threads", &[], threads),
        trial("children", &[], children),
        trial("a program that closes what it does not know", &[], closes_all),
        trial("a program without a standard error", &[], no_stderr),
        trial("exit status", &[], exit_status),
        trial("a full disk", &[], full_disk),
        trial("replay/the same", &[Need::Devices, Need::Tool("hdparm"), Need::Tool("sg_inq")], replay_same),
        trial("replay/another size", &[], replay_other_size),
        trial("replay/what differs", &[], replay_fields),
    ]);
    trials
}

/// What a supervisor alone can trace, and how its trace ends.
fn supervised_trials() -> Vec<Trial> {
    let cc = Need::Tool("cc");
    let tools = [Need::Devices, Need::Tool("hdparm"), Need::Tool("sg_inq"), Need::Tool("blockdev")];
    vec![
        trial("as the library", &tools, as_the_library),
        trial("messages as the library's", &[], messages_as_the_librarys),
        trial("what the kernel answers", &needs(Medium::Loop, &["blockdev"]), kernels_answers),
        trial("nothing is in the program", &[], nothing_in_the_program),
        trial("a static program", &[cc], static_program),
        trial("a program that is killed", &[cc, Need::Devices], killed_meanwhile),
        trial("an i386 program", &[cc], i386_program),
        trial("a set-user-ID program", &[cc, Need::Devices, Need::Tool("setpriv")], set_user_id_as_root),
        trial("programs that cannot be examined", &[cc, Need::Devices], not_to_be_read),
        trial("signals", &[Need::Tool("sg_turs")], signals_to_the_front),
        trial("the supervisor is killed", &[cc], supervisor_killed),
        trial("the front is killed", &[cc], front_killed),
        trial("a reader that leaves", &[cc], reader_leaves),
        trial("a reader that does not read", &[cc], reader_sleeps),
    ]
}

fn trace(disk: &Disk) -> Run {
    trace_by(engine(), disk)
}

fn trace_by(engine: Engine, disk: &Disk) -> Run {
    let engine = match engine {
        Engine::Library => "library",
        Engine::Supervisor => "supervisor",
    };
    Run::new(command()).args(TRACE).args(["--engine", engine, "--device", &disk.entry()])
}

/// The command, whose messages are for programs.
const TRACE: [&str; 2] = ["--message-format=json", "trace"];

fn image(kind: &'static str) -> Disk {
    Disk::new(Medium::Image, kind, 128 * MIB)
}

/// The requests in a trace, without what differs each time: `PROGRAM FD: REQUEST -> OUTCOME; WHO`.
fn requests(text: &str, disk: &Disk) -> Vec<String> {
    let path = disk.path().to_str().expect("test names are ASCII");
    let separator = format!("] {path} fd ");
    let lines = text.lines().filter_map(|line| line.split_once(&separator));
    lines
        .map(|(program, rest)| {
            let (program, ids) = program.split_once('[').expect("a process");
            assert!(ids.split('/').all(|id| id.parse::<u32>().is_ok()), "{ids}");
            let (rest, time) = rest.rsplit_once(" in ").expect("a time");
            let number = time.strip_suffix(" us").and_then(|time| time.parse::<f64>().ok());
            assert!(number.is_some(), "{time}");
            let rest = match rest.split_once(" serial ") {
                Some((before, after)) => {
                    let (serial, who) = after.split_once(';').expect("who answered");
                    assert!(serial.starts_with("BDW") && serial.len() == 19, "{serial}");
                    format!("{before} serial S;{who}")
                }
                None => rest.to_owned(),
            };
            format!("{program} {rest}")
        })
        .collect()
}

/// The table at the end: the numbers by request.
fn table(text: &str) -> BTreeMap<String, [u64; 4]> {
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Request "));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let number = |at: usize| cells[at].parse().expect("a number");
        (cells[1].to_owned(), [2, 3, 4, 5].map(number))
    })
    .collect()
}

fn words(medium: Medium) {
    let forwarded = if medium == Medium::Image { "answered" } else { "forwarded" };
    let size: &[(&str, &[&str])] = &[
        ("blockdev --getsize64 DEV", &["blockdev 3: BLKGETSIZE64 -> 134217728; answered"]),
        ("blockdev --getss DEV", &["blockdev 3: BLKSSZGET -> 512; answered"]),
        ("blockdev --getra DEV", &["blockdev 3: BLKRAGET -> N; WHO"]),
    ];
    let scsi: &[(&str, &[&str])] = &[
        (
            "sg_readcap DEV",
            &[
                "sg_readcap 3: SG_IO READ CAPACITY(10) [25 00 00 00 00 00 00 00 00 00], 8 bytes from the disk -> GOOD, 8 bytes: \
               last LBA 262143, 512 bytes a block; answered",
            ],
        ),
        (
            "hdparm -g DEV",
            &["hdparm 3: HDIO_GETGEO_BIG -> cylinders 1008 heads 5 sectors 52 start 0; answered"],
        ),
    ];
    let ide: &[(&str, &[&str])] = &[
        (
            "hdparm -i DEV",
            &[
                "hdparm 3: HDIO_GET_MULTCOUNT -> 0; answered",
                "hdparm 3: HDIO_GET_IDENTITY -> model BDWRAPPER DISK serial S; answered",
            ],
        ),
        (
            "hdparm -C DEV",
            &[
                "hdparm 3: HDIO_DRIVE_CMD CHECK POWER MODE (command e5 features 00 count 00 lba 0 device 00) -> status 50 error 00 \
               count ff; answered",
            ],
        ),
    ];
    let sata: &[(&str, &[&str])] = &[(
        "hdparm -C DEV",
        &[
            "hdparm 3: SG_IO ATA PASS-THROUGH(16) CHECK POWER MODE [85 06 20 00 00 00 00 00 00 00 00 00 00 40 e5 00] (command e5 \
           features 00 count 00 lba 0 device 40) -> CHECK CONDITION, RECOVERED ERROR 1/00/1d ATA PASS-THROUGH INFORMATION AVAILABLE; \
           status 50 error 00 count ff lba 0 device e0; answered",
        ],
    )];
    for (kind, table) in [("scsi", size), ("scsi", scsi), ("ide", ide), ("sata", sata)] {
        let disk = Disk::new(medium, kind, 128 * MIB);
        for (words, expected) in table {
            // Commands that ask the ATA disk are root's to send.
            if words.contains("-C") && !acceptance::is_root() {
                continue;
            }
            let line = words.replace("DEV", disk.path().to_str().expect("ASCII"));
            let found = requests(&trace(&disk).arg("--").args(line.split(' ')).output().err(), &disk);
            for expected in *expected {
                let is_it = |line: &&String| match expected.split_once(" N; WHO") {
                    Some((start, _)) => line.starts_with(start) && line.ends_with(&format!("; {forwarded}")),
                    None => line == expected,
                };
                assert!(found.iter().any(|line| is_it(&line)), "{kind} {words}: {found:#?}");
            }
        }
    }
}

/// What real programs ask is decoded to the last line.
fn programs(medium: Medium) {
    let lists: [(&str, &[&str]); 3] = [
        (
            "scsi",
            &[
                "sg_inq DEV",
                "sg_readcap -16 DEV",
                "sg_vpd -p bl DEV",
                "sdparm -a DEV",
                "smartctl -d scsi -a DEV",
                "hdparm -I DEV",
                "hdparm -g DEV",
                "fdisk -l DEV",
                "blockdev --report DEV",
            ],
        ),
        ("ide", &["hdparm -i DEV", "hdparm -I DEV", "hdparm -W DEV", "hdparm -g DEV", "fdisk -l DEV"]),
        (
            "sata",
            &[
                "sg_inq DEV",
                "smartctl -d sat -a DEV",
                "hdparm -I DEV",
                "hdparm --read-sector 0 DEV",
                "hdparm -B DEV",
            ],
        ),
    ];
    for (kind, list) in lists {
        let disk = Disk::new(medium, kind, 128 * MIB);
        for words in list {
            let line = words.replace("DEV", disk.path().to_str().expect("ASCII"));
            let file = disk.scratch().path("trace");
            let outcome = trace(&disk).arg("-o").arg(&file).arg("--").args(line.split(' ')).output();
            let without = Run::new(command())
                .args(["run", "--device", &disk.entry(), "--"])
                .args(line.split(' '))
                .output();
            assert_eq!(outcome.code(), without.code(), "{words}: {}", outcome.err());
            let text = fs::read_to_string(&file).expect("it is the trace");
            let found = requests(&text, &disk);
            // fdisk asks an image file nothing.
            assert!(
                !found.is_empty() || medium == Medium::Image && words.starts_with("fdisk"),
                "{kind} {words}: {text}"
            );
            for line in &found {
                assert!(line.contains(" -> ") && !line.contains("unknown"), "{kind} {words}: {line}");
            }
            assert_eq!(text.lines().filter(|line| line.contains("] ")).count(), found.len(), "{text}");
            let counted: u64 = table(&text).values().map(|[count, ..]| count).sum();
            assert_eq!(counted, found.len() as u64, "{text}");
        }
    }
}

/// A trace of `clients` or `sgio` that does these lines, the first of which opens the disk as descriptor 3.
fn session(disk: &Disk, program: &str, lines: &str) -> Outcome {
    let outcome = trace(disk)
        .arg(disk.scratch().program(program))
        .stdin(lines.replace("DEV", disk.path().to_str().expect("ASCII")))
        .output();
    outcome.expect_out();
    outcome
}

fn unknown() {
    let disk = image("scsi");
    let lines = format!("open open DEV\nget 3 0x5399 8\nget 3 {GET_IDLUN} 8\n");
    let err = session(&disk, "clients", &lines).err();
    let found = requests(&err, &disk);
    assert_eq!(found.len(), 2, "{err}");
    assert!(found[0].starts_with("clients 3: 0x5399 (unknown: please report this line) 0x"), "{err}");
    assert!(found[0].ends_with(" -> EINVAL; answered"), "{err}");
    assert_eq!(found[1], "clients 3: SCSI_IOCTL_GET_IDLUN -> host 127 channel 0 id 0 lun 0; answered");
    let expected = BTreeMap::from([
        ("0x5399".to_owned(), [1, 1, 0, 1]),
        ("SCSI_IOCTL_GET_IDLUN".to_owned(), [1, 1, 0, 0]),
    ]);
    assert_eq!(table(&err), expected);
    let err =
        session(&disk, "sgio", "open r DEV\nin 3 12ff00000000 36\nin 3 28000000001000000100 512\n").err();
    let found = requests(&err, &disk);
    assert_eq!(
        found,
        [
            "sgio 3: SG_IO INQUIRY [12 ff 00 00 00 00] page 00h, 36 bytes from the disk -> CHECK CONDITION, ILLEGAL REQUEST 5/24/00 \
             INVALID FIELD IN CDB (byte 1 bit 7), 0 bytes; answered",
            "sgio 3: SG_IO READ(10) [28 00 00 00 00 10 00 00 01 00] LBA 16, 1 blocks, 512 bytes from the disk -> GOOD, 512 bytes; \
             answered",
        ]
    );
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("it is the trace");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect()
}

fn json() {
    let disk = image("ide");
    let file = disk.scratch().path("trace.json");
    let program = disk.scratch().program("clients");
    let run = trace(&disk).args(["--json", "-o"]).arg(&file).arg(&program);
    let text = format!(
        "open open {}\nget 3 0x30d 512\nvalue 3 0x326 1\nset 3 0x2201 7\nbad 3 0x301 0x10\n",
        disk.path().display()
    );
    run.stdin(text).output().expect_out();
    let lines = lines(&file);
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert_eq!(lines[0]["devices"], Value::from(vec![disk.entry()]));
    assert_eq!(lines[0]["program"], program.to_str().expect("ASCII"));
    let [identity, dma, timeout, bad] = [1, 2, 3, 4].map(|at| &lines[at]);
    for line in [identity, dma, timeout, bad] {
        assert_eq!(
            (&line["program"], &line["fd"], &line["kind"]),
            (&"clients".into(), &3.into(), &"ide".into())
        );
        assert_eq!(line["device"], disk.path().to_str().expect("ASCII"));
        assert!(line["pid"].as_u64() == line["tid"].as_u64() && line["pid"].as_u64() > Some(0), "{line}");
        assert!(line["nanoseconds"].is_u64(), "{line}");
    }
    assert_eq!((&identity["name"], &identity["request"]), (&"HDIO_GET_IDENTITY".into(), &0x30d.into()));
    let got = identity["got"].as_str().expect("what it got");
    assert!(got.len() == 1024 && got.contains(&hexadecimal(b"BDWRAPPER DISK")), "{got}");
    assert_eq!((&dma["argument"], &dma["given"]), (&1.into(), &Value::Null));
    assert_eq!(
        (&timeout["given"], &timeout["errno"], &timeout["outcome"]),
        (&"07000000".into(), &22.into(), &"EINVAL".into())
    );
    assert_eq!(
        (&bad["result"], &bad["errno"], &bad["outcome"]),
        (&(-1).into(), &14.into(), &"EFAULT".into())
    );
    let counts = lines[5]["summary"].as_array().expect("a table").iter().map(|row| row["count"].as_u64());
    assert_eq!(counts.collect::<Option<Vec<_>>>(), Some(vec![1; 4]));
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reports are public.
fn no_content() {
    let disk = image("scsi");
    fs::write(disk.image(), [0x5a; 65536]).expect("it is ours");
    let file = disk.scratch().path("trace.json");
    let text = format!(
        "open rw {}\nin 3 28000000000000000800 4096\nout 3 2a000000000000000100 512 a5\nin 3 a30c0000000000001000 4096\n",
        disk.path().display()
    );
    let run = trace(&disk).args(["--json", "-o"]).arg(&file).arg(disk.scratch().program("sgio"));
    let out = run.stdin(text).output().expect_out();
    assert!(out.contains("5a5a5a5a"), "{out}");
    assert_eq!(fs::read(disk.image()).expect("it is ours")[..512], [0xa5; 512]);
    let text = fs::read_to_string(&file).expect("it is the trace");
    assert!(!text.contains("5a5a5a5a") && !text.contains("a5a5a5a5"), "{text}");
    let lines = lines(&file);
    assert_eq!((&lines[1]["data_length"], &lines[1]["data"]), (&4096.into(), &Value::Null));
}

fn pieces() {
    let disk = image("scsi");
    // MODE SELECT(6) with its list in pieces of odd lengths; then a header where no memory is.
    let lines = "open rw DEV\nlist 3 151000001800 24 0\n";
    let file = disk.scratch().path("trace.json");
    let run = trace(&disk).args(["--json", "-o"]).arg(&file).arg(disk.scratch().program("sgio"));
    run.stdin(lines.replace("DEV", disk.path().to_str().expect("ASCII"))).output().expect_out();
    let lines = self::lines(&file);
    assert_eq!(
        (&lines[1]["data_length"], &lines[1]["data"]),
        (&24.into(), &"00".repeat(24).into()),
        "{}",
        lines[1]
    );
    let bad =
        "open open DEV\nbad 3 0x2285 0x10\nbad 3 0x31f end-2\nbad 3 0x301 end-8\nbad 3 0x301 read-only\n";
    let found = requests(&session(&disk, "clients", bad).err(), &disk);
    assert_eq!(
        found,
        [
            "clients 3: SG_IO -> EFAULT; answered",
            "clients 3: HDIO_DRIVE_CMD -> EINVAL; answered",
            "clients 3: HDIO_GETGEO -> EFAULT; answered",
            "clients 3: HDIO_GETGEO -> EFAULT; answered",
        ]
    );
    // Random headers and addresses do no harm, and all of them arrive.
    let outcome =
        trace(&disk).arg("-o").arg(disk.scratch().path("hostile")).arg(disk.scratch().program("sgio"));
    outcome.args(["hostile", "1"]).arg(disk.path()).output().expect_out();
    let text = fs::read_to_string(disk.scratch().path("hostile")).expect("it is the trace");
    let counted: u64 = table(&text).values().map(|[count, ..]| count).sum();
    assert_eq!(counted, requests(&text, &disk).len() as u64);
}

fn threads() {
    let disk = image("scsi");
    let file = disk.scratch().path("trace");
    let run = trace(&disk).arg("-o").arg(&file).arg(disk.scratch().program("clients"));
    let out = run.stdin(format!("open open {}\nthreads 3\n", disk.path().display())).output().expect_out();
    assert_eq!(out, "3 -\n0 failed\n");
    let text = fs::read_to_string(&file).expect("it is the trace");
    let found = requests(&text, &disk);
    assert_eq!(found.len(), 8 * 2000 * 2);
    let asked = |line: &str| found.iter().filter(|found| *found == line).count();
    assert_eq!(asked("clients 3: SCSI_IOCTL_GET_IDLUN -> host 127 channel 0 id 0 lun 0; answered"), 8 * 2000);
    assert_eq!(
        asked("clients 3: HDIO_GETGEO -> cylinders 1008 heads 5 sectors 52 start 0; answered"),
        8 * 2000
    );
    // A heading, the lines, three lines of table and the heading's rule.
    assert_eq!(text.lines().count(), 1 + found.len() + 4);
    // Handlers on a small stack, in the midst of other requests: a matter of the library alone.
    if engine() == Engine::Supervisor {
        return;
    }
    let outcome = session(&disk, "clients", "open open DEV\nsignals 3\n");
    assert_eq!(outcome.out(), "3 -\n0 failed\n");
    assert!(requests(&outcome.err(), &disk).len() >= 2000);
}

fn children() {
    let disk = image("scsi");
    let lines = format!("open open DEV\nvfork 3\nexec\nget 3 {GET_IDLUN} 8\nleader 3\n");
    let outcome = session(&disk, "clients", &lines);
    assert_eq!(requests(&outcome.err(), &disk).len(), 3, "{}", outcome.err());
    // Those that outlive the program count too, and not those alone that it waits for.
    let run = trace(&disk).args([
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3; do \"$0\" <\"$1\"; done) & done; exit 5",
    ]);
    let text = disk.scratch().path("lines");
    fs::write(&text, format!("open open {}\nget 3 {GET_IDLUN} 8\n", disk.path().display()))
        .expect("it is ours");
    let outcome = run.arg(disk.scratch().program("clients")).arg(&text).output();
    assert_eq!(outcome.code(), 5);
    assert_eq!(requests(&outcome.err(), &disk).len(), 24, "{}", outcome.err());
}

fn assert_blank(disk: &Disk) {
    assert_eq!(
        disk.image().metadata().expect("it is there").blocks(),
        0,
        "something was written to the device"
    );
}

fn closes_all() {
    let disk = image("scsi");
    let lines = format!(
        "close closefrom 3\n{}get 3 {GET_IDLUN} 8\nget 9 {GET_IDLUN} 8\n",
        "open rdwr DEV\n".repeat(12)
    );
    let outcome = session(&disk, "clients", &lines);
    assert_eq!(requests(&outcome.err(), &disk).len(), 2, "{}", outcome.err());
    // No descriptor was used up meanwhile.
    let lines = format!("open rdwr DEV\nget 3 {GET_IDLUN} 8\nopen rdwr DEV\n");
    let out = session(&disk, "clients", &lines).out();
    assert!(out.starts_with("3 -\n") && out.ends_with("\n4 -\n"), "{out}");
    assert_blank(&disk);
}

fn no_stderr() {
    let disk = image("scsi");
    for redirection in ["2>&-", "2<>DEV", "2>>DEV"] {
        let path = disk.path().to_str().expect("ASCII");
        let file = disk.scratch().path("trace");
        let run = trace(&disk).arg("-o").arg(&file);
        let script = format!("exec \"$0\" {}", redirection.replace("DEV", path));
        let run = run.args(["sh", "-c", &script]).arg(disk.scratch().program("clients"));
        run.stdin(format!("open rdwr {path}\nget 2 {GET_IDLUN} 8\nget 3 {GET_IDLUN} 8\n")).output();
        let text = fs::read_to_string(&file).expect("it is the trace");
        let found = requests(&text, &disk);
        assert!(
            !found.is_empty() && found.iter().all(|line| line.ends_with("; answered")),
            "{redirection}: {text}"
        );
        assert_blank(&disk);
    }
}

fn full_stderr() {
    let disk = image("scsi");
    let script = "head -c 3000000 /dev/zero | tr '\\0' x >&2; sg_turs --low \"$0\"; head -c 3000000 /dev/zero | tr '\\0' x >&2";
    let outcome = trace(&disk).args(["sh", "-c", script]).arg(disk.path()).output();
    assert_eq!(outcome.code(), 0);
    assert!(outcome.err().len() > 6_000_000);
    assert!(outcome.err().contains("SG_IO TEST UNIT READY [00 00 00 00 00 00] -> GOOD"));
}

/// Where no record can be sent, the lines of log level 1000 take their place.
fn no_socket() {
    let disk = image("scsi");
    let lines = format!("open open DEV\nget 3 {GET_IDLUN} 8\nsandbox 41 1\nget 3 {GET_IDLUN} 8\n");
    let outcome = session(&disk, "clients", &lines);
    assert_eq!(requests(&outcome.err(), &disk).len(), 1, "{}", outcome.err());
    let said = outcome.err().lines().filter(|line| line.starts_with("vmware-bdwrapper: pid ")).count();
    assert_eq!(said, 1, "{}", outcome.err());
    // Or nobody listens any more; it has gone when the program has another parent.
    const SCRIPT: &str =
        "kill -KILL $PPID; while grep -q \"^PPid:.$PPID\\$\" /proc/$$/status; do :; done; exec \"$0\"";
    let run = trace(&disk).args(["sh", "-c", SCRIPT]).arg(disk.scratch().program("clients"));
    let outcome = run.stdin(format!("open open {}\nget 3 {GET_IDLUN} 8\n", disk.path().display())).output();
    assert_eq!(outcome.out().lines().count(), 2, "{}", outcome.out());
    assert!(
        outcome.err().contains("SCSI_IOCTL_GET_IDLUN") && outcome.err().contains(", answered\n"),
        "{}",
        outcome.err()
    );
}

/// The name of a trace's socket is anybody's once the trace has ended.
fn impostor() {
    let disk = image("scsi");
    // Each has another name: a child of another test may hold the socket of the one before for a moment.
    let names = Cell::new(0);
    let heard = |user: Uid, nobody: bool, namespace: bool| {
        names.set(names.get() + 1);
        let name = format!("{:032}{:04}", std::process::id(), names.get());
        // The credentials that a sender sees are those of the thread at its listen(2).
        let listener = std::thread::spawn(move || {
            set_thread_uid(user).expect("this is root");
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
            let socket = socket.expect("it can be made");
            let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("it is short");
            bind(&socket, &address).expect("the name is free");
            listen(&socket, 16).expect("it is bound");
            (socket, name)
        });
        let (listener, name) = listener.join().expect("it listens");
        let clients = disk.scratch().program("clients");
        let run = match namespace {
            // Nobody has a number there, so all look the same.
            true => disk.run("unshare").arg("--user").arg(clients),
            false => disk.run(clients),
        };
        let run = run.env(names::TRACE, name + &"s".repeat(36));
        let run = if nobody { run.nobody() } else { run };
        let outcome =
            run.stdin(format!("open open {}\nget 3 {GET_IDLUN} 8\n", disk.path().display())).output();
        assert!(outcome.expect_out().contains("\n0 "), "{}", outcome.out());
        let mut message = [0; 4096];
        let connection = accept(&listener).expect("the program has connected");
        let (_, length) = recv(&connection, &mut message, RecvFlags::empty()).expect("it has ended");
        let said = outcome.err().contains("ioctl(3, SCSI_IOCTL_GET_IDLUN,");
        assert_eq!(length == 0, said, "what is not sent is said: {}", outcome.err());
        length > 0
    };
    let nobody = Uid::from_raw(65534);
    chmod(disk.image(), 0o666);
    assert!(heard(Uid::ROOT, false, false));
    assert!(!heard(nobody, false, false));
    assert!(heard(nobody, true, false));
    assert!(heard(Uid::ROOT, true, false));
    assert!(!heard(Uid::from_raw(1), true, false));
    assert!(!heard(Uid::from_raw(1), false, true));
    assert!(!heard(Uid::ROOT, false, true));
}

/// The lines that take the place of records never come into a file that has the number of the standard error by now.
fn data_behind_stderr() {
    let disk = image("scsi");
    let file = disk.scratch().path("data");
    for closed in ["", "2>&-"] {
        fs::write(&file, "HEADTAIL").expect("it is ours");
        let script = format!("exec \"$0\" {closed}");
        let run = disk.run("sh").args(["-c", &script]).arg(disk.scratch().program("clients"));
        let run = run.env(names::TRACE, "n".repeat(72));
        let lines =
            format!("close close 2\nopen rdwr {}\nopen open DEV\nget 3 {GET_IDLUN} 8\n", file.display());
        let lines = lines.replace("DEV", disk.path().to_str().expect("ASCII"));
        let out = run.stdin(lines).output().expect_out();
        assert!(out.contains("\n2 -\n3 -\n0 -"), "{out}");
        assert_eq!(fs::read_to_string(&file).expect("it is there"), "HEADTAIL");
    }
}

/// A trace that can open no file any more says so, and ends.
fn few_descriptors() {
    let disk = image("scsi");
    // It has begun to wait for requests.
    let script = "until grep -q ^State:.S /proc/$PPID/status; do :; done; prlimit --pid $PPID --nofile=4:4; exec \"$0\"";
    let run = trace(&disk).args(["sh", "-c", script]).arg(disk.scratch().program("clients"));
    let outcome = run.stdin(format!("open open {}\nget 3 {GET_IDLUN} 8\n", disk.path().display())).output();
    assert!(outcome.expect_out().contains("\n0 -"), "{}", outcome.out());
    outcome.says("incomplete", "could open no more files", "'ulimit -n'");
}

/// What the environment names counts for nothing there.
fn set_user_id() {
    let _system = System::clean();
    make(["install"]).expect_out();
    let scratch = Scratch::new();
    let program = scratch.program("secure");
    chmod(&program, 0o4755);
    let image = scratch.image("image", 128 * MIB);
    let entry = format!("{}=scsi", image.display());
    for messages in ["no", "yes"] {
        let conf = format!("executable {}\nallow-user-devices yes\nmessages {messages}\n", program.display());
        fs::write(CONF, conf).expect("root can");
        let run = Run::new("vmware-bdwrapper").args(TRACE).args(["--json", "--device", &entry]);
        let outcome = run.arg(&program).arg(&image).nobody().output();
        assert!(outcome.expect_out().contains("secure=1"), "{}", outcome.out());
        let err = outcome.err();
        outcome.says("incomplete", &format!("{}: is a set-user-ID program", program.display()), "as root");
        assert!(err.contains("{\"summary\":[]}"), "{err}");
        assert_eq!(err.contains("SCSI_IOCTL_GET_IDLUN"), messages == "yes", "{err}");
    }
    // Root has no secure mode.
    let run =
        Run::new("vmware-bdwrapper").args(["trace", "--device", &entry]).arg(&program).arg(&image).output();
    assert!(run.err().contains(" SCSI_IOCTL_GET_IDLUN -> host 127"), "{}", run.err());
}

fn exit_status() {
    let disk = image("scsi");
    for status in [0, 1, 7, 255] {
        let outcome = trace(&disk).args(["--", "sh", "-c", &format!("exit {status}")]).output();
        assert_eq!(outcome.code(), status, "{}", outcome.err());
    }
    // As a shell says it; what was asked before is there.
    let lines = disk.scratch().path("lines");
    fs::write(&lines, format!("open open {}\nget 3 {GET_IDLUN} 8\n", disk.path().display()))
        .expect("it is ours");
    let run = trace(&disk).args(["sh", "-c", "\"$0\" <\"$1\"; kill -KILL $$"]);
    let outcome = run.arg(disk.scratch().program("clients")).arg(&lines).output();
    assert_eq!(outcome.code(), 137);
    assert_eq!(requests(&outcome.err(), &disk).len(), 1);
    assert_eq!(table(&outcome.err()).len(), 1, "{}", outcome.err());
    for (program, status) in [("no-such-program", 127), ("/", 126)] {
        assert_eq!(trace(&disk).arg(program).output().code(), status);
    }
}

fn signals() {
    let disk = image("scsi");
    let trace = |disk: &Disk| trace(disk).default_signals();
    // The terminal sends them to the program as well, which decides.
    let script = "kill -INT $PPID; kill -QUIT $PPID; sg_turs --low \"$0\"; exit 4";
    let outcome = trace(&disk).args(["sh", "-c", script]).arg(disk.path()).output();
    assert_eq!(outcome.code(), 4);
    assert_eq!(requests(&outcome.err(), &disk).len(), 1, "{}", outcome.err());
    // One that asks to end is passed on.
    let script = "trap 'sg_turs --low \"$0\"; exit 6' TERM; kill -TERM $PPID; while :; do sleep 0.01; done";
    let outcome = trace(&disk).args(["sh", "-c", script]).arg(disk.path()).output();
    assert_eq!(outcome.code(), 6);
    assert_eq!(requests(&outcome.err(), &disk).len(), 1, "{}", outcome.err());
    // When the program has ended, it does not wait for others any longer; these end when it has ended.
    let script = "(while kill -INT $PPID; do :; done) </dev/null >/dev/null 2>&1 & exit 3";
    let outcome = trace(&disk).args(["sh", "-c", script]).output();
    assert_eq!(outcome.code(), 3);
    assert!(outcome.err().contains("# No requests: "), "{}", outcome.err());
}

fn output() {
    let disk = image("scsi");
    let to = |file: &Path| trace(&disk).arg("-o").arg(file).args(["--", "sh", "-c", "echo x >&2"]).output();
    let file = disk.scratch().path("trace");
    let named = disk.scratch().path("named");
    std::os::unix::fs::symlink(&file, &named).expect("it is ours");
    fs::write(&file, "old\n".repeat(1000)).expect("it is ours");
    let inode = file.metadata().expect("it exists").ino();
    let other = File::open(&file).expect("it is ours");
    let outcome = to(&file);
    assert_eq!((outcome.code(), outcome.err().as_str()), (0, "x\n"));
    let text = fs::read_to_string(&file).expect("it is the trace");
    assert!(text.starts_with("# vmware-bdwrapper ") && !text.contains("old"), "{text}");
    // Whose it is and who may read it stays.
    chmod(&file, 0o640);
    let group =
        Some(if rustix::process::geteuid().is_root() { 65534 } else { rustix::process::getegid().as_raw() });
    std::os::unix::fs::chown(&file, None, group).expect("it is ours");
    assert_eq!(to(&file).code(), 0);
    let status = file.metadata().expect("it exists");
    assert_eq!((status.mode() & 0o777, Some(status.gid())), (0o640, group));
    // Who has the old file open keeps it.
    assert_ne!(file.metadata().expect("it exists").ino(), inode);
    assert_eq!(other.metadata().expect("it is open").len(), 4000);
    let link = disk.scratch().path("link");
    std::os::unix::fs::symlink(disk.path(), &link).expect("it is ours");
    for (file, code, words) in [
        (disk.path(), "in-use", "is a listed device"),
        (&link, "untrusted", "is a symbolic link"),
        (&named, "untrusted", "is a symbolic link"),
        (Path::new("/dev/null"), "file-type", "is not a regular file"),
        (Path::new("/"), "file-type", "is not a regular file"),
    ] {
        let outcome = to(file);
        outcome.refused(2, code, &format!("{}: {words}", file.display()), "name ");
        assert!(!outcome.err().contains("x\n"), "{}", outcome.err());
    }
    assert_blank(&disk);
    // A device that is not there yet.
    let absent = disk.scratch().path("absent");
    let run = Run::new(command()).args(["trace", "-o"]).arg(&absent).arg("--device");
    let outcome = run.arg(format!("{}=scsi", absent.display())).arg("true").output();
    assert!(outcome.code() == 2 && !absent.exists(), "{}", outcome.err());
    assert_eq!(to(Path::new("/no/such/directory/trace")).code(), 1);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(1), None).expect("root can");
        let words = "belongs to user 1, who could read and change the trace";
        to(&file).refused(2, "untrusted", words, "name another file");
    }
}

/// A loop device keeps a file that has lost its name, as long as it is attached.
fn output_under_a_loop_device() {
    let disk = Disk::new(Medium::Loop, "scsi", MIB);
    let inode = || disk.image().metadata().expect("it exists").ino();
    let before = inode();
    let image = image("scsi");
    let outcome = trace(&image).arg("-o").arg(disk.image()).arg("true").output();
    let words = format!(
        "{}: is held by {}, which would lose what is on it",
        disk.image().display(),
        disk.device().display()
    );
    outcome.refused(2, "in-use", &words, "name another file");
    assert_eq!(inode(), before);
}

/// The program goes on, and success is not claimed.
fn full_disk() {
    let disk = image("scsi");
    let done = disk.scratch().path("done");
    for (script, status) in [("touch \"$0\"", 1), ("exit 9", 9)] {
        let full = File::options().write(true).open("/dev/full").expect("every system has it");
        let outcome = trace(&disk).args(["sh", "-c", script]).arg(&done).stderr(full).output();
        assert_eq!(outcome.code(), status);
    }
    assert!(done.exists());
}

/// What can be said nowhere else is said on the terminal.
fn full_disk_on_a_terminal() {
    let disk = image("scsi");
    let words = |output: &str| {
        let line = format!(
            "{} trace --device {} {output} -- sh -c 'exit 0' 2>/dev/full",
            command().display(),
            disk.entry()
        );
        let outcome = Run::new("script").args(["-q", "-e", "-c", &line, "/dev/null"]).output();
        assert_eq!(outcome.code(), 1, "{}", outcome.out());
        outcome.out()
    };
    assert!(
        words("")
            .contains("vmware-bdwrapper: The trace cannot be written any further (No space left on device)"),
        "{}",
        words("")
    );
    assert!(words("-o /no/such/directory/trace").contains("vmware-bdwrapper: /no/such/directory/trace: "));
}

fn replay(file: &Path) -> Run {
    Run::new(command()).args(TRACE).arg("--replay").arg(file)
}

fn replay_same() {
    for kind in ["scsi", "ide", "sata"] {
        for medium in [Medium::Image, Medium::Loop] {
            let disk = Disk::new(medium, kind, 128 * MIB);
            let file = disk.scratch().path("trace.json");
            let script = "for i in '-i' '-I' '-g' '-C' '-W' '-B'; do hdparm $i \"$0\"; done; sg_inq \"$0\"; sg_vpd -p bl \"$0\"; \
                          sg_modes -a \"$0\"; sg_logs -a \"$0\"; sg_opcodes \"$0\"; sg_readcap -16 \"$0\"; fdisk -l \"$0\"; \
                          sg_get_lba_status \"$0\"; blockdev --report \"$0\"; exit 0";
            let run = trace(&disk).args(["--json", "-o"]).arg(&file).args(["sh", "-c", script]);
            run.arg(disk.path()).output().expect_out();
            let outcome = replay(&file).output();
            let out = outcome.out();
            // A replay is answered by the library.
            let differs = by_engine(
                "reservations, and commands about several clients or the whole disk",
                false,
                kind == "scsi",
            );
            assert_eq!(outcome.code(), i32::from(differs), "{out}");
            assert_eq!(out.contains(" 0 different, "), !differs, "{out}");
            let different: Vec<&str> = out.lines().filter(|line| line.starts_with("line ")).collect();
            let is_known =
                |line: &&str| ["INQUIRY", "OPERATION CODES"].iter().any(|name| line.contains(name));
            assert!(different.iter().all(is_known) && !out.contains(" 0 as recorded"), "{out}");
            assert_eq!(outcome.err(), "");
            let json = replay(&file).arg("--json").output().out();
            let end: Value =
                serde_json::from_str(json.lines().last().expect("a summary")).expect("it is JSON");
            let count = |name: &str| end[name].as_u64().expect("a number");
            let left_out: u64 = end["left_out"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|row| row["count"].as_u64().expect("a number"))
                .sum();
            assert_eq!(count("same") + count("different") + left_out, count("requests"));
            assert_eq!(count("requests"), lines(&file).len() as u64 - 2);
        }
    }
}

/// A trace with decisive requests and a few commands, by the programs of this project.
fn recorded(disk: &Disk) -> PathBuf {
    let file = disk.scratch().path("trace.json");
    let path = disk.path().display();
    let program = disk.scratch().program("sgio");
    fs::write(
        disk.scratch().path("lines"),
        format!("open rw {path}\nin 3 25000000000000000000 8\nin 3 120000000400 4\nout 3 2a000000000000000100 512 9a\nnone 3 1b0000000100\n"),
    )
    .expect("it is ours");
    let run = trace(disk).args(["--json", "-o"]).arg(&file);
    let script = "\"$0\"; exec \"$1\" <\"$2\"";
    let run = run.args(["sh", "-c", script]).arg(disk.scratch().program("clients")).arg(program);
    let run = run.arg(disk.scratch().path("lines"));
    run.stdin(format!(
        "open rdwr {path}\nget 3 {GET_IDLUN} 8\nget 3 0x301 16\nget 3 0x5399 8\nset 3 0x125d 0\n"
    ))
    .output()
    .expect_out();
    file
}

fn replay_other_size() {
    let disk = image("scsi");
    let file = recorded(&disk);
    let other = Disk::new(Medium::Image, "scsi", 64 * MIB);
    let outcome = replay(&file).args(["--device", &other.entry()]).output();
    assert_eq!(outcome.code(), 1, "{}", outcome.err());
    let expected = "\
line 3: HDIO_GETGEO
  cylinders  recorded 1008  now 1016
  heads      recorded 5     now 3
  sectors    recorded 52    now 43
line 6: SG_IO READ CAPACITY(10) [25 00 00 00 00 00 00 00 00 00], 8 bytes from the disk
  last LBA  recorded 262143  now 131071
8 requests: 2 as recorded, 2 different, 4 left out.
| Left out              | Count | Why                                  |
|-----------------------|-------|--------------------------------------|
| BLKROSET              | 1     | it could change the device (--write) |
| SG_IO START STOP UNIT | 1     | it could change the device (--write) |
| SG_IO WRITE(10)       | 1     | its data is not recorded             |
| unknown request       | 1     | what it does is not known            |
";
    assert_eq!(outcome.out(), expected);
    let json = replay(&file).args(["--json", "--device", &other.entry()]).output();
    assert_eq!(json.code(), 1);
    let objects: Vec<Value> =
        json.out().lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert_eq!((objects.len(), &objects[0]["line"], &objects[2]["different"]), (3, &3.into(), &2.into()));
    let fields = json!([{"name": "last LBA", "recorded": "262143", "now": "131071"}]);
    assert_eq!((&objects[1]["fields"], &objects[1]["line"]), (&fields, &6.into()));
    assert_blank(&other);
}

fn replay_other_kind() {
    let disk = image("scsi");
    let file = recorded(&disk);
    let other = image("ide");
    let out = replay(&file).args(["--device", &other.entry()]).output().out();
    let idlun =
        "line 2: SCSI_IOCTL_GET_IDLUN\n  result  recorded host 127 channel 0 id 0 lun 0  now EINVAL\n";
    assert!(out.contains(idlun), "{out}");
    // Two devices of which neither is the recorded one.
    let third = image("sata");
    let out =
        replay(&file).args(["--device", &other.entry(), "--device", &third.entry()]).output().expect_out();
    assert!(out.contains("8 requests: 0 as recorded, 0 different, 8 left out."), "{out}");
    assert!(out.contains("its device is not listed"), "{out}");
    // One that is not there.
    let absent = format!("{}=scsi", disk.scratch().path("absent").display());
    let outcome = replay(&file).args(["--device", &absent]).output();
    assert_eq!(outcome.code(), 1);
    outcome.says("not-found", "absent: cannot be opened for reading", "name a device that can be opened");
}

/// Fields by name, data without names by its bytes, and the same difference but once.
fn replay_fields() {
    let disk = image("scsi");
    let file = disk.scratch().path("trace.json");
    let lines = "in 3 9e100000000000000000000000200000 32\nin 3 12018000ff00 255\nin 3 12018600ff00 255\nin 3 12018000ff00 255\n\
                 in 3 5a003f00000000100000 4096\nin 3 25000000000000000000 8\nin 3 1201b000ff00 255\nin 3 850806000000000000000000000000ec00 512\n";
    let run = trace(&disk).args(["--json", "-o"]).arg(&file).arg(disk.scratch().program("sgio"));
    run.stdin(format!("open rw {}\n{lines}", disk.path().display())).output().expect_out();
    let out =
        replay(&file).args(["--device", &format!("{},serial=X,sector=4096", disk.entry())]).output().out();
    for words in [
        "  bytes a block            recorded 512     now 4096\n",
        "  blocks a physical block  recorded 8       now 1\n",
        "page 80h, 255 bytes from the disk: as in line 3\n",
        "now X\n",
        " of the data  recorded ",
        "  blocks of the optimal granularity  recorded 8     now 1\n",
        "8 requests: 2 as recorded, 6 different, 0 left out.\n",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let out = replay(&file).args(["--device", &format!("{}=ide", disk.path().display())]).output().out();
    let long =
        "  result  recorded GOOD, 32 bytes: last LBA 262143, 512 bytes a block\n          now      EINVAL\n";
    assert!(out.contains(long), "{out}");
}

/// Where the library does not answer, a kernel's driver would.
fn replay_without_library() {
    let disk = image("scsi");
    let file = recorded(&disk);
    let copy = disk.scratch().path("vmware-bdwrapper");
    fs::copy(command(), &copy).expect("it is a file");
    fs::write(disk.scratch().path("libvmware_bdwrapper.so"), "no library").expect("it is ours");
    let run = Run::new(&copy).args(TRACE).arg("--replay").arg(&file);
    let outcome = run.args(["--write", "--device", &disk.entry()]).output();
    outcome.refused(1, "not-ready", "the library does not answer for it", "vmware-bdwrapper probe");
}

fn replay_writes() {
    let disk = image("scsi");
    let file = recorded(&disk);
    fs::write(disk.image(), vec![0x33; MIB as usize]).expect("it is ours");
    replay(&file).output();
    let outcome = replay(&file).arg("--write").output();
    assert_eq!(outcome.code(), 2, "a trace does not say which device is to be changed: {}", outcome.out());
    let outcome = replay(&file).args(["--write", "--device", &disk.entry()]).output();
    assert!(
        outcome.out().contains("SG_IO WRITE(10)") && outcome.out().contains("its data is not recorded"),
        "{}",
        outcome.out()
    );
    assert!(outcome.out().contains(" 2 left out"), "{}", outcome.out());
    assert!(fs::read(disk.image()).expect("it is ours").iter().all(|&byte| byte == 0x33));
    // What is recorded whole is done: UNMAP of the first 8 blocks.
    let list = "0016001000000000000000000000000000000008000000000000";
    let list = &list[..48];
    let run = trace(&disk).args(["--json", "-o"]).arg(&file).arg(disk.scratch().program("sgio"));
    let text = format!("open rw {}\ngive 3 42000000000000001800 {list}\n", disk.path().display());
    run.stdin(text).output().expect_out();
    fs::write(disk.image(), vec![0x33; MIB as usize]).expect("it is ours");
    let out = replay(&file).args(["--write", "--device", &disk.entry()]).output().expect_out();
    assert!(out.contains("1 request: 1 as recorded"), "{out}");
    let content = fs::read(disk.image()).expect("it is ours");
    assert!(
        content[..4096].iter().all(|&byte| byte == 0) && content[4096..].iter().all(|&byte| byte == 0x33)
    );
}

/// A loop device holds the image: only `--force` lets requests that write through.
fn replay_in_use() {
    let recorded_on = image("scsi");
    let file = recorded(&recorded_on);
    let disk = Disk::new(Medium::Loop, "scsi", MIB);
    let held = format!("--device={}=scsi", disk.image().display());
    let refused = replay(&file).args(["--write", &held]).output();
    refused.refused(1, "in-use", "is held by", "");
    refused.says("force-needed", "Nothing was sent", "--force");
    assert_eq!(refused.out(), "");
    let forced = replay(&file).args(["--write", "--force", &held]).output();
    forced.says("in-use", "is held by", "");
    assert!(forced.out().contains(" requests: "), "{}", forced.out());
    assert!(!replay(&file).arg(&held).output().err().contains("in-use"));
}

/// Whatever is recorded: without `--write`, the device keeps each byte, time stamp and setting.
fn replay_changes_nothing() {
    for kind in ["scsi", "ide", "sata"] {
        let disk = Disk::new(Medium::Image, kind, MIB);
        let path = disk.path().display();
        let content = pattern(MIB);
        fs::write(disk.image(), &content).expect("it is ours");
        // What shows the settings, of a process that has changed none.
        let questions = disk.scratch().path("questions.json");
        let gets = (0x302..=0x310).map(|request| format!("get 3 {request:#x} 512\n"));
        let gets: String = gets.chain(["get 3 0x2202 8\nget 3 0x2272 8\nget 3 0x125e 8\n".into()]).collect();
        let [asked, commands] = ["asked", "commands"].map(|name| disk.scratch().path(name));
        fs::write(&asked, format!("open open {path}\n{gets}")).expect("it is ours");
        let lines = "in 3 5a003f00000000100000 4096\nin 3 850806000000000000000000000000ec00 512\n\
                     in 3 85080e00d0000100004f00c200b000 512\nin 3 850806003000010000000000000040ec00 512\n";
        fs::write(&commands, format!("open r {path}\n{lines}")).expect("it is ours");
        let run = trace(&disk).args(["--json", "-o"]).arg(&questions);
        let script = "\"$0\" <\"$2\"; \"$1\" <\"$3\"";
        let run = run.args(["sh", "-c", script]).arg(disk.scratch().program("clients"));
        let run = run.arg(disk.scratch().program("sgio")).args([&asked, &commands]);
        run.output().expect_out();
        let questions = fs::read_to_string(&questions).expect("it is the trace");
        let mut questions = questions.lines();
        let begin = questions.next().expect("a trace begins so");
        let questions: Vec<&str> = questions.collect();
        let status = || {
            let status = disk.image().metadata().expect("it exists");
            let times = [status.atime(), status.mtime(), status.ctime()];
            (times, [status.atime_nsec(), status.mtime_nsec(), status.ctime_nsec()], status.blocks())
        };
        let file = disk.scratch().path("random.json");
        let mut runner = TestRunner::new(Config {
            cases: 6,
            max_shrink_iters: 64,
            failure_persistence: None,
            ..Config::default()
        });
        let result = runner.run(&prop::collection::vec(random_record(&disk), 400), |records| {
            let lines: Vec<String> = records.iter().map(Value::to_string).collect();
            fs::write(&file, format!("{begin}\n{}\n{}\n", lines.join("\n"), questions.join("\n")))
                .expect("it is ours");
            // So long ago that the kernel would note the next access (`relatime`).
            let times = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH);
            File::open(disk.image()).and_then(|image| image.set_times(times)).expect("it is ours");
            let before = status();
            let outcome = replay(&file).arg("--json").output();
            prop_assert_eq!(status(), before);
            let out = outcome.out();
            prop_assert!(outcome.err().is_empty() && [0, 1].contains(&outcome.code()), "{}", outcome.err());
            prop_assert!(fs::read(disk.image()).expect("it is ours") == content, "the data: {out}");
            let first = 2 + records.len() as u64;
            for line in out.lines() {
                let object: Value = serde_json::from_str(line).expect("it is JSON");
                prop_assert!(object["line"].as_u64().is_none_or(|number| number < first), "{}", object);
            }
            Ok(())
        });
        match result {
            Err(TestError::Fail(reason, records)) => {
                panic!("{kind}: {reason}: {} requests, first {:#?}", records.len(), records.first())
            }
            result => result.expect("the runner works"),
        }
    }
}

/// A request as a trace could have it: more often than not one that a disk carries out.
fn random_record(disk: &Disk) -> impl Strategy<Value = Value> + use<> {
    use disk::request::{
        HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, REQUESTS, SCSI_IOCTL_SEND_COMMAND, SG_IO,
        family,
    };
    let device = disk.path().to_str().expect("ASCII").to_owned();
    let requests = REQUESTS.iter().map(|request| request.number);
    let requests: Vec<u32> = requests.filter(|request| family(*request).is_some()).collect();
    let request = prop_oneof![
        4 => Just(SG_IO),
        1 => Just(SCSI_IOCTL_SEND_COMMAND),
        2 => select(vec![HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE]),
        2 => select(requests),
    ];
    let bytes = prop::collection::vec(any::<u8>(), 64);
    let ranges = prop::collection::vec((0..2000u64, 1..64u64), 64);
    let ata = select(disk::ata::command::COMMANDS.iter().collect::<Vec<_>>());
    let scsi = select(disk::scsi::command::COMMANDS.iter().collect::<Vec<_>>());
    (request, scsi, ata, bytes, ranges, any::<[bool; 3]>()).prop_map(
        move |(request, scsi, ata, bytes, ranges, [is_ata, is_12, is_small])| {
            let cdb = if is_ata { pass_through(ata, &bytes, is_12) } else { cdb(scsi, &bytes, is_small) };
            let is_to_disk = if is_ata { ata.protocol.is_to_disk() } else { bytes[63] & 1 == 0 };
            let data: Vec<u8> =
                ranges.iter().flat_map(|(first, blocks)| (blocks << 48 | first).to_le_bytes()).collect();
            let given;
            let data = match request {
                SG_IO => {
                    let length = if is_ata && ata.protocol == disk::ata::command::Protocol::NonData {
                        0
                    } else {
                        512u32
                    };
                    let dxfer_direction = match (length, is_to_disk) {
                        (0, _) => SG_DXFER_NONE,
                        (_, true) => SG_DXFER_TO_DEV,
                        (_, false) => SG_DXFER_FROM_DEV,
                    };
                    let hdr = SgIoHdr {
                        interface_id: SgIoHdr::INTERFACE,
                        dxfer_direction,
                        cmd_len: cdb.len() as u8,
                        mx_sb_len: 64,
                        dxfer_len: length,
                        sbp: 1,
                        ..SgIoHdr::default()
                    };
                    given = hdr.as_bytes().to_vec();
                    data
                }
                SCSI_IOCTL_SEND_COMMAND => {
                    given = [ScsiIoctlCommand { inlen: 0, outlen: 512 }.as_bytes(), &cdb].concat();
                    Vec::new()
                }
                _ => {
                    given = registers(request, ata, &bytes);
                    Vec::new()
                }
            };
            let is_command = matches!(request, SG_IO | SCSI_IOCTL_SEND_COMMAND);
            json!({
                "program": "random", "pid": 1, "tid": 1, "fd": 3, "device": device, "kind": "scsi",
                "request": request, "argument": bytes[0] & 31, "result": 0, "errno": 0, "forwarded": false,
                "nanoseconds": 1, "given": hexadecimal(&given), "data": hexadecimal(&data),
                "cdb": if is_command { hexadecimal(&cdb) } else { String::new() }, "data_length": data.len(),
            })
        },
    )
}

/// A CDB of a SCSI command whose reserved bits are 0; a small one names blocks that exist.
fn cdb(command: &disk::scsi::command::Command, bytes: &[u8], is_small: bool) -> Vec<u8> {
    let mut cdb: Vec<u8> = command.usage.iter().zip(bytes).map(|(usage, byte)| usage & byte).collect();
    let end = cdb.len() - 1;
    if is_small {
        cdb[2..end].iter_mut().for_each(|byte| *byte = 0);
        cdb[end - 1] = command.usage[end - 1] & 1;
    }
    cdb[0] = command.operation_code();
    cdb[1] = command.action().unwrap_or(cdb[1]);
    cdb
}

/// The low byte of FEATURES and the bytes of LBA with which the disk takes an ATA command.
fn low_registers(command: &disk::ata::command::Command, bytes: &[u8]) -> [u8; 4] {
    let features = command.subcommand.unwrap_or(1);
    if command.code == disk::ata::command::SMART {
        [features, bytes[1], 0x4f, 0xc2]
    } else {
        [features, bytes[1], 1, 0]
    }
}

/// ATA PASS-THROUGH of a command, with one block of data where it has any.
fn pass_through(command: &disk::ata::command::Command, bytes: &[u8], is_12: bool) -> Vec<u8> {
    use disk::ata::command::Protocol as T;
    let (protocol, flags) = match command.protocol {
        T::NonData => (3, 0),
        T::PioIn => (4, 0x0e),
        T::PioOut => (5, 0x06),
        T::DmaIn => (6, 0x0e),
        T::DmaOut => (6, 0x06),
    };
    let [features, low, mid, high] = low_registers(command, bytes);
    match is_12 {
        true => vec![0xa1, protocol << 1, flags, features, 1, low, mid, high, 0x40, command.code, 0, 0],
        false => {
            let how = protocol << 1 | u8::from(command.extended);
            vec![0x85, how, flags, 0, features, 0, 1, 0, low, 0, mid, 0, high, 0x40, command.code, 0]
        }
    }
}

/// What is given to a request that sends an ATA command by its registers; to any other request, anything.
fn registers(request: u32, command: &disk::ata::command::Command, bytes: &[u8]) -> Vec<u8> {
    use disk::ata::command::Protocol as T;
    use disk::request::{HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE};
    let [features, low, mid, high] = low_registers(command, bytes);
    match request {
        HDIO_DRIVE_CMD => vec![command.code, 1, features, u8::from(command.protocol != T::NonData)],
        HDIO_DRIVE_TASK => vec![command.code, features, 1, low, mid, high, 0x40],
        HDIO_DRIVE_TASKFILE => {
            let (data_phase, req_cmd, size) = match command.protocol {
                T::NonData => (0, 0, 0),
                T::PioIn => (1, 1, 512),
                T::PioOut => (4, 2, 512),
                T::DmaIn => (0x20, 1, 512),
                T::DmaOut => (0x40, 4, 512),
            };
            let (out_size, in_size) = if command.protocol.is_to_disk() { (size, 0) } else { (0, size) };
            let io_ports = [0, features, 1, low, mid, high, 0x40, command.code];
            let request =
                IdeTaskRequest { io_ports, data_phase, req_cmd, out_size, in_size, ..Default::default() };
            request.as_bytes().to_vec()
        }
        _ => bytes[..usize::from(bytes[2] & 31)].to_vec(),
    }
}

fn replay_hostile() {
    let disk = image("scsi");
    let good = fs::read_to_string(recorded(&disk)).expect("it is the trace");
    let lines: Vec<&str> = good.lines().collect();
    let file = disk.scratch().path("hostile");
    let fails = |text: &str, words: &str| {
        fs::write(&file, text).expect("it is ours");
        let outcome = replay(&file).output();
        assert_eq!(outcome.code(), 1, "{words}: {}", outcome.out());
        outcome.says("malformed", words, "'vmware-bdwrapper trace --json'");
        assert_eq!(outcome.err().lines().count(), 1, "{words}: {}", outcome.err());
    };
    let begin = lines[0];
    fails("", "line 1: is not a record");
    fails("x", "line 1: is not a record");
    fails("\0\n", "line 1: is not a record");
    fails(&"x".repeat(1 << 20), "line 1: is longer than");
    fails(&format!("{begin}\n{{}}\n"), "line 2: is not a record");
    fails(&format!("{begin}\n{}\n", &lines[1][..40]), "line 2: is not a record");
    fails(&format!("{begin}\n{}\n", "[".repeat(100_000)), "line 2: is not a record");
    fails(
        &format!("{begin}\n{}\n", lines[1].replace("21378", "99999999999999999999")),
        "line 2: is not a record",
    );
    fails(
        &format!("{begin}\n{}\n", lines[2].replace("\"got\":\"", "\"got\":\"x")),
        "line 3: is not a record".replace('3', "2").as_str(),
    );
    let wrong = begin.replace("=scsi", "=nothing");
    fs::write(&file, format!("{wrong}\n{}\n", lines[1])).expect("it is ours");
    assert_eq!(replay(&file).output().code(), 2);
    // Cut off where its writer was killed.
    fs::write(&file, &good[..good.len() / 2]).expect("it is ours");
    let outcome = replay(&file).output();
    assert!(outcome.expect_out().contains(" 0 different"), "{}", outcome.out());
    outcome.says("incomplete", "is cut off", "");
    // Numbers that say more than there is: lengths, CDBs, directions.
    let command = lines.iter().find(|line| line.contains("INQUIRY")).expect("it was sent");
    let record: Value = serde_json::from_str(command).expect("it is JSON");
    let given = record["given"].as_str().expect("the header");
    for (from, to) in [
        (24, "ffffffff"),
        (24, "00000001"),
        (16, "ff"),
        (16, "00"),
        (20, "ffff"),
        (8, "fcffffff"),
        (8, "00000000"),
    ] {
        let given = format!("{}{to}{}", &given[..from], &given[from + to.len()..]);
        for cdb in ["", "12", "120000002400", &"00".repeat(40_000), &"28".repeat(32)] {
            let mut record = record.clone();
            record["given"] = given.clone().into();
            record["cdb"] = cdb.into();
            fs::write(&file, format!("{begin}\n{record}\n")).expect("it is ours");
            let outcome = replay(&file).output();
            assert!(
                [0, 1].contains(&outcome.code()) && outcome.out().contains("1 request: "),
                "{to} {cdb}: {}",
                outcome.err()
            );
        }
    }
    for request in [0x31f, 0x31d, 0x31e, 0x5393, 0x1269, 1, 0xc0484e41_u32] {
        for given in ["", "00", &"ff".repeat(56), &"ff".repeat(100_000)] {
            let mut record = record.clone();
            record["request"] = request.into();
            record["given"] = given.into();
            fs::write(&file, format!("{begin}\n{record}\n")).expect("it is ours");
            let outcome = replay(&file).args(["--write", "--device", &disk.entry()]).output();
            assert!(
                [0, 1].contains(&outcome.code()) && outcome.out().contains("1 request: "),
                "{request:x}: {}",
                outcome.err()
            );
        }
    }
    // What has no end, and what waits for a writer.
    let pipe = disk.scratch().path("pipe");
    Run::new("mkfifo").arg(&pipe).output().expect_out();
    for file in [pipe.as_path(), Path::new("/dev/zero"), Path::new("/")] {
        let outcome = replay(file).output();
        outcome.refused(1, "file-type", &format!("{}: ", file.display()), "name a trace");
    }
    // 1 GiB, of one line and of many.
    let mut large = File::create(&file).expect("it is ours");
    large.set_len(1 << 30).expect("it is sparse");
    assert_eq!(replay(&file).output().code(), 1);
    large.write_all(format!("{begin}\n{}\n", lines[1]).as_bytes()).expect("it is ours");
    let outcome = replay(&file).output();
    assert_eq!(outcome.code(), 1);
    outcome.says("malformed", "line 3: is longer than", "");
    assert_blank_but_for_the_recording(&disk);
}

/// [`recorded`] writes one block.
fn assert_blank_but_for_the_recording(disk: &Disk) {
    let content = fs::read(disk.image()).expect("it is ours");
    assert!(content[..512].iter().all(|&byte| byte == 0x9a) && content[512..].iter().all(|&byte| byte == 0));
}

fn usage() {
    let run = || Run::new(command()).args(TRACE);
    for (arguments, code, words) in [
        (vec![], "usage", "PROGRAM"),
        (vec!["true"], "usage", "No device is given"),
        (vec!["--device", "=scsi", "true"], "bad-entry", "=scsi: is not an absolute path"),
        (vec!["--replay", "x", "true"], "usage", "cannot be used with"),
        (vec!["--write", "true"], "usage", "--write"),
        (vec!["--replay", "x", "-o", "y"], "usage", "cannot be used with"),
        (vec!["--replay", "x", "--engine", "supervisor"], "usage", "cannot be used with"),
    ] {
        run().args(&arguments).output().refused(2, code, words, "");
    }
    assert_eq!(run().args(["--replay", "/no/such/file"]).output().code(), 1);
    let help = run().arg("--help").output().expect_out();
    assert!(
        help.contains("Examples:") && help.contains("What the program reads and writes is not in the trace"),
        "{help}"
    );
    // The library's own messages say what they said.
    let disk = image("scsi");
    let outcome = session(&disk, "clients", "open open DEV\n");
    assert!(outcome.messages().is_empty(), "{}", outcome.err());
    assert!(!outcome.err().lines().any(|line| line.starts_with("vmware-bdwrapper: ")), "{}", outcome.err());
}

/// What a record has in common whichever engine made it: not its process, its time and its addresses.
fn common(file: &Path) -> Vec<Value> {
    let lines = lines(file);
    let records = lines[1..lines.len() - 1].iter().cloned();
    let cut = |mut record: Value| {
        let object = record.as_object_mut().expect("a record");
        for name in ["pid", "tid", "nanoseconds"] {
            object.remove(name).expect("each has it");
        }
        if object["name"].as_str().is_some_and(|name| name.starts_with("SG_IO")) {
            for name in ["given", "got"] {
                // The duration in milliseconds, and the addresses of the data, the CDB and the sense data.
                let Some(Value::String(header)) = object.get_mut(name) else { continue };
                for part in [offset_of!(SgIoHdr, duration)..offset_of!(SgIoHdr, info), 16..40] {
                    header.replace_range(2 * part.start..2 * part.end, "");
                }
            }
        }
        if object["argument"].as_u64().is_some_and(|address| address > 1 << 32) {
            object.remove("argument");
        }
        record
    };
    records.map(cut).collect()
}

/// Whichever engine answers: a trace has the same requests, answers and bytes.
fn as_the_library() {
    for kind in ["scsi", "ide", "sata"] {
        for medium in [Medium::Image, Medium::Loop] {
            let disk = Disk::new(medium, kind, 128 * MIB);
            let script = "for i in -i -I -g -C -W -B; do hdparm $i \"$0\"; done; sg_inq \"$0\"; sg_vpd -p bl \"$0\"; \
                          sg_modes -a \"$0\"; sg_opcodes \"$0\"; sg_readcap -16 \"$0\"; sg_turs \"$0\"; fdisk -l \"$0\"; \
                          sg_get_lba_status \"$0\"; blockdev --report \"$0\"; \
                          blockdev --getalignoff --getdiskseq --getiomin --getioopt --getmaxsect --getfra \"$0\"; exit 0";
            let recorded = |engine, name: &str| {
                let file = disk.scratch().path(name);
                let run =
                    trace_by(engine, &disk).args(["--json", "-o"]).arg(&file).args(["sh", "-c", script]);
                run.arg(disk.path()).output().expect_out();
                let mut records = common(&file);
                // What a SCSI disk can do under a supervisor alone.
                let is_other = ["SG_IO INQUIRY", "SG_IO REPORT SUPPORTED OPERATION CODES"];
                records.retain(|record| {
                    let asked = record["asked"].as_str().unwrap_or_default();
                    kind != "scsi" || !is_other.iter().any(|start| asked.starts_with(start))
                });
                records
            };
            let library = recorded(Engine::Library, "library.json");
            let supervisor = recorded(Engine::Supervisor, "supervisor.json");
            assert!(library.len() > 10, "{library:#?}");
            for (one, other) in library.iter().zip(&supervisor) {
                assert_eq!(one, other, "{kind}");
            }
            assert_eq!(library.len(), supervisor.len(), "{kind}");
        }
    }
}

/// The lines of log level 1000 are the same, but for processes.
fn messages_as_the_librarys() {
    let disk = image("ide");
    let path = disk.path().to_str().expect("ASCII");
    let asked = format!(
        "open open {path}\nget 3 0x30d 512\nvalue 3 0x326 1\nset 3 0x2201 7\nbad 3 0x301 0x10\nget 3 0x301 16\nget 3 0x5399 8\n"
    );
    let said = |engine: &str| {
        let run = Run::new(command()).args(["run", "--engine", engine, "--log-level", "1000", "--device"]);
        let outcome = run.arg(disk.entry()).arg(disk.scratch().program("clients")).stdin(&*asked).output();
        let err = outcome.err();
        // An address that the program chose is another each time.
        let lines = err.lines().filter_map(|line| line.split_once(": ioctl(3, "));
        lines.map(|(_, rest)| rest.replace(|digit: char| digit.is_ascii_hexdigit(), "")).collect::<Vec<_>>()
    };
    let library = said("library");
    assert_eq!((library.len(), &library), (6, &said("supervisor")));
}

/// What the kernel answers to requests that change nothing is known; the others are not.
fn kernels_answers() {
    let disk = Disk::new(Medium::Loop, "scsi", MIB);
    let device = disk.path().display();
    let script = format!(
        "blockdev --getra {device}; blockdev --flushbufs {device}; blockdev --getfra {device}; blockdev --getalignoff {device}"
    );
    let outcome = trace_by(Engine::Supervisor, &disk).args(["sh", "-c", &script]).output();
    let numbers = outcome.expect_out();
    let found = requests(&outcome.err(), &disk);
    let [ahead, of_files, offset] = [0, 1, 2].map(|line| numbers.lines().nth(line).expect("a number"));
    for wanted in [
        format!("blockdev 3: BLKRAGET -> {ahead}; forwarded"),
        "blockdev 3: BLKFLSBUF -> not known; forwarded".to_owned(),
        format!("blockdev 3: BLKFRAGET -> {of_files}; forwarded"),
        format!("blockdev 3: BLKALIGNOFF -> {offset}; forwarded"),
    ] {
        assert!(found.contains(&wanted), "{wanted}: {found:#?}");
    }
    // A trace of them is replayed as far as it is known.
    let file = disk.scratch().path("trace.json");
    let run = trace_by(Engine::Supervisor, &disk).args(["--json", "-o"]).arg(&file);
    run.args(["sh", "-c", &script]).output().expect_out();
    let out = replay(&file).output().expect_out();
    assert!(out.contains(" 0 different, 1 left out") && out.contains("its outcome is not recorded"), "{out}");
}

/// `programs/supervised.c`, which no library reaches.
fn supervised(scratch: &Scratch) -> PathBuf {
    scratch.copy(&program_with("supervised", "supervised", &["-O2", "-static"]), "supervised")
}

fn static_program() {
    let disk = image("scsi");
    let script = "\"$0\" idlun \"$1\"; \"$0\" many 100 \"$1\"";
    let run = trace_by(Engine::Supervisor, &disk).args(["sh", "-c", script]).arg(supervised(disk.scratch()));
    let outcome = run.arg(disk.path()).output();
    assert_eq!(outcome.expect_out(), "answered\n0\n");
    let line = "supervised 3: SCSI_IOCTL_GET_IDLUN -> host 127 channel 0 id 0 lun 0; answered";
    assert_eq!(requests(&outcome.err(), &disk), vec![line; 101]);
    assert!(outcome.messages().is_empty(), "{}", outcome.err());
}

/// Neither a variable nor a descriptor.
fn nothing_in_the_program() {
    let disk = image("scsi");
    let script = ["-c", "env; ls /proc/self/fd"];
    let run = trace_by(Engine::Supervisor, &disk).arg("sh").args(script);
    let out = run.env("LD_PRELOAD", disk.scratch().library()).env(names::TRACE, "x").output().expect_out();
    assert_eq!(out, Run::new("sh").args(script).output().expect_out());
}

/// A request that is carried out while its program is killed.
fn killed_meanwhile() {
    let disk = image("scsi");
    let file = disk.scratch().path("trace");
    // The request ends when the program has ended.
    let script = "\"$0\" blocked kill \"$1\"; until grep -q 'COMPARE AND WRITE' \"$2\"; do sleep 0.01; done";
    let run = trace_by(Engine::Supervisor, &disk).arg("-o").arg(&file).args(["sh", "-c", script]);
    let run = run.arg(supervised(disk.scratch())).arg(disk.path()).arg(&file);
    assert_eq!(run.output().expect_out(), "signal 9\nanswered\nbyte 0\n");
    let found = requests(&fs::read_to_string(&file).expect("it is the trace"), &disk);
    let is_it = |line: &String| {
        line.contains("SG_IO COMPARE AND WRITE ") && line.contains(" -> not known: it was killed meanwhile; ")
    };
    assert!(found.iter().any(is_it), "{found:#?}");
}

/// Its structures and numbers are those of a 32-bit program, and a replay is that of a 64-bit one.
fn i386_program() {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let disk = image("scsi");
    let program = disk.scratch().copy(&acceptance::i386_program("requests"), "i386");
    let file = disk.scratch().path("trace.json");
    let run = trace_by(Engine::Supervisor, &disk).arg(&program).arg(disk.path()).output();
    let found = requests(&run.err(), &disk);
    let [unknown, found] = [true, false].map(|is_unknown| {
        found.iter().filter(|line| line.contains("unknown") == is_unknown).cloned().collect::<Vec<_>>()
    });
    assert_eq!(
        found,
        [
            "i386 3: SCSI_IOCTL_GET_IDLUN -> host 127 channel 0 id 0 lun 0; answered",
            "i386 3: HDIO_GETGEO -> cylinders 1008 heads 5 sectors 52 start 0; answered",
            "i386 3: BLKGETSIZE -> 262144; answered",
            "i386 3: BLKGETSIZE64 -> 134217728; answered",
            "i386 3: BLKBSZGET -> 512; answered",
            "i386 3: BLKSSZGET -> 512; answered",
            "i386 3: SG_IO INQUIRY [12 00 00 00 24 00], 36 bytes from the disk -> GOOD, 36 bytes: BDWRAP BDWRAPPER DISK 1.0; answered",
        ]
    );
    // The number that a 64-bit program has for it.
    assert!(unknown.len() == 1 && unknown[0].contains("0x80081272"), "{unknown:?}");
    let run = trace_by(Engine::Supervisor, &disk).args(["--json", "-o"]).arg(&file);
    run.arg(&program).arg(disk.path()).output().expect_out();
    assert!(lines(&file)[1..9].iter().all(|line| line["abi"] == "i386"));
    // The replay is the library's, whose INQUIRY says that there is no EXTENDED COPY.
    let out = replay(&file).output().out();
    assert!(out.contains("8 requests: 5 as recorded, 1 different, 2 left out."), "{out}");
    assert!(out.contains("a 64-bit program cannot make it"), "{out}");
    // Nor does it answer another size as the recorded one.
    let other = Disk::new(Medium::Image, "scsi", 64 * MIB);
    let out = replay(&file).args(["--device", &other.entry()]).output().out();
    assert!(out.contains("  cylinders  recorded 1008  now 1016\n") && out.contains(" 4 different"), "{out}");
}

/// A program with the rights of its owner, started by another user below root's trace.
fn set_user_id_as_root() {
    let disk = image("scsi");
    let program = disk.scratch().copy(&disk.scratch().program("secure"), "set-user-id");
    chmod(&program, 0o4755);
    let run = trace_by(Engine::Supervisor, &disk).args(["setpriv", "--reuid=65534", "--regid=65534"]);
    let outcome = run.arg("--clear-groups").arg(&program).arg(disk.path()).output();
    assert!(outcome.expect_out().contains("uid=65534 euid=0 secure=1"), "{}", outcome.out());
    let found = requests(&outcome.err(), &disk);
    let line = "set-user-id 3: SCSI_IOCTL_GET_IDLUN -> host 127 channel 0 id 0 lun 0; answered";
    assert!(found.iter().any(|found| found == line), "{found:#?}");
    assert!(outcome.messages().is_empty(), "{}", outcome.err());
}

/// What a supervisor without rights cannot look at is not in the trace, which says so.
fn not_to_be_read() {
    let disk = image("scsi");
    chmod(disk.image(), 0o666);
    let program = supervised(disk.scratch());
    let closed = disk.scratch().copy(&program, "closed");
    chmod(&closed, 0o711);
    let script = "\"$0\" idlun \"$2\"; \"$1\" idlun \"$2\"; \"$1\" idlun \"$2\"";
    let run = trace_by(Engine::Supervisor, &disk).args(["sh", "-c", script]).arg(&program).arg(&closed);
    let outcome = run.arg(disk.path()).nobody().output();
    assert_eq!(outcome.expect_out(), "answered\nEPERM\nEPERM\n");
    assert_eq!(requests(&outcome.err(), &disk).len(), 1, "{}", outcome.err());
    outcome.says(
        "incomplete",
        "may lack 2 calls of programs that the supervisor could not look at",
        "as root",
    );
    // Whoever replays the trace is told.
    let directory = disk.scratch().path("nobody's");
    fs::create_dir(&directory).expect("it is ours");
    chmod(&directory, 0o777);
    let file = directory.join("trace.json");
    let run = trace_by(Engine::Supervisor, &disk).args(["--json", "-o"]).arg(&file);
    run.arg(&closed).arg("idlun").arg(disk.path()).nobody().output();
    let said = lines(&file).pop().expect("a last line")["incomplete"].to_string();
    assert!(said.contains("may lack 1 call of programs"), "{said}");
    replay(&file).output().says("incomplete", "may lack 1 call", "");
}

fn kill(signal: &str, process: &str) {
    Run::new("kill").args([signal, process]).output().expect_out();
}

fn signals_to_the_front() {
    let disk = image("scsi");
    let front = "front=$(sed -n 's/^PPid:.//p' /proc/$PPID/status)";
    let script = format!(
        "trap 'sg_turs --low \"$0\"; exit 6' TERM; {front}; kill -TERM $front; while :; do sleep 0.01; done"
    );
    let trace = || trace_by(Engine::Supervisor, &disk).default_signals();
    let outcome = trace().args(["sh", "-c", &script]).arg(disk.path()).output();
    assert_eq!(outcome.code(), 6);
    assert_eq!(requests(&outcome.err(), &disk).len(), 1, "{}", outcome.err());
    // When the program has ended, it does not wait for others any longer; these end when it has ended.
    let script = format!("{front}; (while kill -INT $front; do :; done) </dev/null >/dev/null 2>&1 & exit 3");
    let outcome = trace().args(["sh", "-c", &script]).output();
    assert!([3, 130].contains(&outcome.code()), "{}", outcome.err());
    assert!(outcome.err().contains("# No requests: "), "{}", outcome.err());
}

/// A conversation with `supervised lines`; returns its supervisor.
fn conversation(disk: &Disk, file: &Path) -> (Session, String) {
    let run = trace_by(Engine::Supervisor, disk).arg("-o").arg(file);
    let run = run.args(["sh", "-c", "echo $PPID; \"$0\" lines \"$1\"; exit 5"]);
    let run = run.arg(supervised(disk.scratch())).arg(disk.path());
    let mut session = run.start(&disk.scratch().path("stderr"));
    let supervisor = session.line();
    (session, supervisor)
}

fn supervisor_killed() {
    let disk = image("scsi");
    let file = disk.scratch().path("trace");
    let (mut session, supervisor) = conversation(&disk, &file);
    assert_eq!(session.ask("ask"), "answered");
    kill("-KILL", &supervisor);
    wait_for("a message", || session.err().contains("has lost its supervisor").then_some(()));
    assert_eq!(session.ask("ask"), "ENOSYS");
    let stderr = disk.scratch().path("stderr");
    assert_eq!(session.end_with(), 5);
    let said = fs::read_to_string(stderr).expect("it is there");
    assert!(
        said.contains("\"incomplete\"") && said.contains("ends where the supervisor was killed"),
        "{said}"
    );
    let text = fs::read_to_string(&file).expect("it is the trace");
    assert_eq!((requests(&text, &disk).len(), table(&text).len()), (1, 1), "{text}");
    assert!(text.ends_with("# The trace ends where the supervisor was killed.\n"), "{text}");
}

fn front_killed() {
    let disk = image("scsi");
    let file = disk.scratch().path("trace");
    let (mut session, supervisor) = conversation(&disk, &file);
    assert_eq!(session.ask("ask"), "answered");
    wait_for("a record", || {
        let text = fs::read_to_string(&file).expect("it is the trace");
        (requests(&text, &disk).len() == 1).then_some(())
    });
    kill("-KILL", &parent(&supervisor));
    // What the program has started goes on until it has no more input.
    drop(session);
    let process = Path::new("/proc").join(&supervisor);
    wait_for("an end of the supervisor", || (!process.exists()).then_some(()));
    let text = fs::read_to_string(&file).expect("it is the trace");
    assert!(text.ends_with('\n') && requests(&text, &disk).len() == 1, "{text}");
}

fn reader_leaves() {
    let disk = image("scsi");
    let status = disk.scratch().path("status");
    let script = "{ \"$0\" trace --engine supervisor --device \"$1\" -- \"$2\" many 300 \"$3\" 2>&1 >\"$4\"; echo $? >>\"$4\"; } | head -n 1";
    let run = Run::new("sh").args(["-c", script]).arg(command()).arg(disk.entry());
    let out = run.arg(supervised(disk.scratch())).arg(disk.path()).arg(&status).output().expect_out();
    assert!(out.starts_with("# vmware-bdwrapper ") && out.lines().count() == 1, "{out}");
    assert_eq!(fs::read_to_string(&status).expect("it is there"), "0\n0\n");
}

/// The program is not kept waiting for ever, and what is missing is said.
fn reader_sleeps() {
    let disk = image("scsi");
    let done = disk.scratch().path("done");
    let (mut reader, writer) = UnixStream::pair().expect("it can be made");
    let ended = done.clone();
    let reader = std::thread::spawn(move || {
        wait_for("an end of the program", || ended.exists().then_some(()));
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("it can be read");
        text
    });
    let run =
        trace_by(Engine::Supervisor, &disk).args(["sh", "-c", "\"$0\" storm 20000 0 \"$1\"; touch \"$2\""]);
    let run = run.arg(supervised(disk.scratch())).arg(disk.path()).arg(&done);
    let outcome = run.stderr(OwnedFd::from(writer)).output();
    let answered: usize = outcome.expect_out().trim().parse().expect("a number");
    let text = reader.join().expect("it has read");
    let missing = text.split("The trace lacks ").nth(1).and_then(|text| text.split(' ').next());
    let missing: usize = missing.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(requests(&text, &disk).len() + missing, answered);
}
