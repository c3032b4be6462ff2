//! Both engines beside each other: what they answer, and one device that clients of both change.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

use acceptance::{Disk, Engine, Medium, Need, Outcome, Run, Sgio, main as harness, needs, trial};
use disk::request::{Family, REQUESTS, family};
use disk::scsi::command::{COMMANDS, Command, Disks, Operation};

const MIB: u64 = 1 << 20;
const ENGINES: [Engine; 2] = [Engine::Library, Engine::Supervisor];

/// Who sends commands, and how.
struct Client {
    name: &'static str,
    is_root: bool,
    /// How `sgio` opens the device.
    flags: &'static str,
    /// The entry's options.
    options: &'static str,
    /// Whether it can write.
    writes: bool,
}

const CLIENTS: [Client; 5] = [
    Client { name: "root", is_root: true, flags: "rw", options: "", writes: true },
    // The right to send any command (CAP_SYS_RAWIO) is that to write, too.
    Client { name: "root reads", is_root: true, flags: "r", options: "", writes: true },
    Client { name: "write-protected", is_root: true, flags: "rw", options: ",ro", writes: false },
    Client { name: "nobody", is_root: false, flags: "rw", options: "", writes: true },
    Client { name: "nobody reads", is_root: false, flags: "r", options: "", writes: false },
];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for (medium, name) in [(Medium::Image, "image"), (Medium::Loop, "loop")] {
        for kind in ["scsi", "ide", "sata"] {
            for client in CLIENTS.iter().filter(|client| medium == Medium::Image || client.is_root) {
                // Only root can become nobody.
                let root = [&needs(medium, &["cc"])[..], &[Need::Devices]].concat();
                let name = format!("random commands/{name}-{kind}/{}", client.name);
                trials.push(trial(name, &root, move || random_commands(medium, kind, client)));
            }
        }
        // COMPARE AND WRITE is the superuser's to send.
        let root = [&needs(medium, &["cc"])[..], &[Need::Devices]].concat();
        trials.push(trial(format!("increments/{name}"), &root, move || increments(medium)));
        for how in ["posix", "ofd"] {
            let body = move || own_locks(medium, how);
            trials.push(trial(format!("own locks/{name}-{how}"), &root, body));
        }
    }
    harness(trials)
}

/// A generator that repeats itself in each run (xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn byte(&mut self) -> u8 {
        match self.below(8) {
            0..5 => 0,
            5..7 => self.below(9) as u8,
            _ => self.next() as u8,
        }
    }

    /// A command, most often one that there is. What only one engine has is left out, and what says which there
    /// are.
    fn cdb(&mut self) -> Vec<u8> {
        loop {
            let cdb = self.any_cdb();
            let is_of_one = |row: &Command| {
                matches!(row.disks, Disks::Shared | Disks::SharedThin)
                    || matches!(row.operation, Operation::Inquiry | Operation::ReportOperationCodes)
            };
            if !COMMANDS.iter().any(|row| row.operation_code() == cdb[0] && is_of_one(row)) {
                return cdb;
            }
        }
    }

    fn any_cdb(&mut self) -> Vec<u8> {
        let usage = COMMANDS[self.below(COMMANDS.len())].usage;
        let mut cdb: Vec<u8> = usage.iter().map(|bits| self.byte() & bits).collect();
        cdb[0] = usage[0];
        if usage.len() > 10 || usage[0] == 0x7f {
            // The service action, where there is one.
            cdb[1] |= usage[1] & 0x1f * u8::from(self.below(4) > 0);
        }
        if self.one_in(16) {
            let place = self.below(cdb.len());
            cdb[place] = self.next() as u8;
        }
        cdb
    }

    /// A line for `sgio`.
    fn line(&mut self, fd: &str) -> String {
        if self.one_in(8) {
            let row = &REQUESTS[self.below(REQUESTS.len())];
            // What the block layer answers is the kernel's affair on a device, and changes it; reservations are
            // the supervisor's alone.
            let is_left_out = |family| matches!(family, Family::BlockLayer | Family::Reservation);
            if family(row.number).is_some_and(|family| !is_left_out(family)) {
                return format!("ioctl {fd} {:#x}", row.number);
            }
        }
        let cdb: String = self.cdb().iter().map(|byte| format!("{byte:02x}")).collect();
        let usual = [0, 8, 24, 96, 512, 1024, 4096, 8192, 65536];
        let length = if self.one_in(4) { self.below(9000) } else { usual[self.below(usual.len())] };
        match self.below(8) {
            0 => format!("none {fd} {cdb}"),
            1..4 => format!("in {fd} {cdb} {length}"),
            4 => format!("list {fd} {cdb} {length} {:02x}", self.byte()),
            5 => {
                let data: String = (0..length.min(512)).map(|_| format!("{:02x}", self.byte())).collect();
                format!("give {fd} {cdb} {data}")
            }
            _ => format!("out {fd} {cdb} {length} {:02x}", self.byte()),
        }
    }
}

/// A random sequence of commands and requests has the same answers from both, and leaves the same on
/// the device.
fn random_commands(medium: Medium, kind: &'static str, client: &Client) {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let lines: Vec<String> = (0..8000).map(|_| chance.line("3")).collect();
    let [library, supervisor] = ENGINES.map(|engine| {
        let disk = Disk::new(medium, kind, MIB);
        disk.scratch().command();
        let run = Run::new(disk.scratch().program("sgio"));
        // The serial number would be made of the file's inode or the device's number.
        let entry = format!("{}={kind},serial=1{}", disk.path().display(), client.options);
        let run = run.with_engine(engine, &disk.scratch().library(), entry);
        let run = if client.is_root { run } else { run.nobody() };
        let script = format!("open {} {}\n{}\n", client.flags, disk.path().display(), lines.join("\n"));
        let said = run.stdin(script).output().expect_out();
        (said, std::fs::read(disk.device()).expect("it is ours"))
    });
    let answers = |said: &(String, Vec<u8>)| said.0.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (answers, by_supervisor) = (answers(&library), answers(&supervisor));
    assert_eq!((answers.len(), by_supervisor.len()), (lines.len(), lines.len()));
    for ((answer, by_supervisor), line) in answers.iter().zip(&by_supervisor).zip(&lines) {
        assert_eq!(answer, by_supervisor, "{line}");
    }
    // An IDE disk has no commands, only requests.
    let is_ide = kind == "ide";
    let good = answers.iter().filter(|answer| answer.starts_with("good")).count();
    assert!(good > if is_ide { 30 } else { 200 }, "few commands were carried out: {good}");
    let is_written = library.1.iter().any(|byte| *byte != 0);
    assert_eq!(is_written, client.writes && !is_ide);
    assert!(library.1 == supervisor.1, "the devices differ");
}

/// Processes of either engine, two of them of one tree, add to one number by COMPARE AND WRITE.
fn increments(medium: Medium) {
    let disk = Disk::new(medium, "scsi", MIB);
    let program = disk.scratch().program("sgio");
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let start = |engine| {
            let script = "\"$0\" \"$@\" & \"$0\" \"$@\"; status=$?; wait $! && exit $status";
            let run = disk.run_on(engine, "sh").args(["-c", script]).arg(&program);
            let run = run.args(["increment", "5", "100", "2"]).arg(disk.path());
            scope.spawn(|| run.output())
        };
        let running = [ENGINES, ENGINES].concat().into_iter().map(start).collect::<Vec<_>>();
        running.into_iter().map(|thread| thread.join().expect("a program runs")).collect()
    });
    for outcome in outcomes {
        outcome.expect_out();
    }
    let mut data = [0; 512];
    File::open(disk.device()).and_then(|file| file.read_exact_at(&mut data, 5 * 512)).expect("it is ours");
    let numbers = [0, 504].map(|at| u64::from_le_bytes(data[at..][..8].try_into().expect("8 bytes")));
    assert_eq!(numbers, [4 * 2 * 2 * 100; 2]);
}

/// A client that has locked its file itself excludes those of the other engine, and of its own.
fn own_locks(medium: Medium, how: &str) {
    const COMPARE: &str = "89000000000000000009000000010000 1024 00";
    for first in ENGINES {
        let disk = Disk::new(medium, "scsi", MIB);
        let client = |engine| Sgio::start(|program| disk.run_on(engine, program), disk.scratch());
        let mut owner = client(first);
        let own = owner.open("rw", disk.path());
        assert_eq!(owner.ask(&format!("lock {own} {how} write 0 0")), "good");
        assert_eq!(owner.ask(&format!("out {own} {COMPARE}")), "good 0", "{first:?}");
        let mut others: Vec<_> = ENGINES.into_iter().map(client).collect();
        for (other, engine) in others.iter_mut().zip(ENGINES) {
            let fd = other.open("rw", disk.path());
            other.ask("timeout 100");
            assert_eq!(other.ask(&format!("out {fd} {COMPARE}")), "status-08 0", "{first:?}, {engine:?}");
        }
        assert_eq!(owner.ask(&format!("out {own} {COMPARE}")), "good 0", "{first:?}");
        drop(owner);
        for (other, engine) in others.iter_mut().zip(ENGINES) {
            other.ask("timeout 10000");
            assert_eq!(other.ask(&format!("out 3 {COMPARE}")), "good 0", "{first:?}, {engine:?}");
        }
    }
}
