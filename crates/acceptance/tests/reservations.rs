//! What the clients of a disk share under supervisors: reservations, unit attentions, mode parameters.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use acceptance::clients::{self, LIST};
use acceptance::{
    Disk, Engine, Medium, Need, Run, Sgio, disk_trials, main as harness, parent, trial, wait_for,
};

const MIB: u64 = 1 << 20;

const READY: &str = "00 00 00 00 00 00";
const READ: &str = "28 00 00 00 00 00 00 00 01 00";
const WRITE: &str = "2a 00 00 00 00 00 00 00 01 00";
const RESERVE: &str = "16 00 00 00 00 00";
const RELEASE: &str = "17 00 00 00 00 00";
const CONFLICT: &str = "status-18";

/// Types of persistent reservations.
const EXCLUSIVE_ACCESS: u8 = 3;
const WRITE_EXCLUSIVE_REGISTRANTS_ONLY: u8 = 5;

/// Where root's supervisors keep what they share.
const STATES: &str = "/run/vmware-bdwrapper";

fn main() -> ExitCode {
    let root = &[Need::Root];
    let mut trials = disk_trials("sg_persist", &["scsi"], &["sg_persist"], root, sg_persist);
    trials.extend(disk_trials("the clients' list", &["scsi"], &["sg_persist"], root, list));
    trials.extend(disk_trials("two runs", &["scsi"], &[], root, two_runs));
    trials.extend(disk_trials("a run is killed", &["scsi"], &[], root, killed));
    trials.extend(disk_trials("PREEMPT AND ABORT waits", &["scsi"], &[], root, abort_waits));
    trials.extend(disk_trials("IOC_PR", &["scsi", "sata", "ide"], &[], root, requests));
    trials.extend(disk_trials("mode parameters and capacity", &["scsi"], &[], &[], changes));
    trials.push(trial("process groups", &[Need::Root, Need::Tool("sg_persist")], process_groups));
    trials.push(trial("discarding", &[Need::Root, Need::Devices, Need::Tool("blkdiscard")], discarding));
    trials.push(trial("a state of another layout", root, another_layout));
    trials.push(trial("a state without room", root, no_room));
    trials.push(trial("a state that is removed", root, removed));
    trials.push(trial("an ordinary user's runs", &[], ordinary_user));
    harness(trials)
}

/// A client in a run of its own, with the device open.
struct Client {
    sgio: Sgio,
    fd: String,
    supervisor: String,
}

impl Client {
    fn of(disk: &Disk) -> Client {
        Client::by(disk, |run| run)
    }

    fn by(disk: &Disk, how: impl Fn(Run) -> Run) -> Client {
        let run = |program| {
            how(disk.run_on(Engine::Supervisor, "sh").args(["-c", "echo $$; exec \"$0\""]).arg(program))
        };
        let mut sgio = Sgio::start(run, disk.scratch());
        let supervisor = parent(&sgio.line());
        let fd = sgio.open("rw", disk.path());
        Client { sgio, fd, supervisor }
    }

    fn none(&mut self, cdb: &str) -> String {
        let answer = self.sgio.none(&self.fd, cdb);
        answer.split(' ').next().expect("it has a word").to_owned()
    }

    fn ready(&mut self) -> String {
        self.none(READY)
    }

    fn read(&mut self) -> String {
        let answer = self.sgio.read(&self.fd, READ, 512).0;
        answer.split(' ').next().expect("it has a word").to_owned()
    }

    fn write(&mut self) -> String {
        let answer = self.sgio.write(&self.fd, WRITE, 512, 0x5a);
        answer.split(' ').next().expect("it has a word").to_owned()
    }

    /// PERSISTENT RESERVE OUT.
    fn reserve_out(&mut self, action: u8, kind: u8, key: u64, new: u64) -> String {
        let line = format!("give {} {}", self.fd, out(action, kind, key, new));
        let answer = self.sgio.ask(&line);
        answer.split(' ').next().expect("it has a word").to_owned()
    }

    fn register(&mut self, key: u64) {
        assert_eq!(self.reserve_out(0, 0, 0, key), "good");
    }

    /// READ KEYS: the generation, and the keys.
    fn keys(&mut self) -> (u32, Vec<u64>) {
        let (answer, data) = self.sgio.read(&self.fd, "5e 00 00 00 00 00 00 01 00 00", 256);
        assert!(answer.starts_with("good"), "{answer}");
        let number = |at: usize, digits: usize| {
            u64::from_str_radix(&data[at..][..digits], 16).expect("it is hexadecimal")
        };
        let length = number(8, 8) as usize;
        let keys = (0..length / 8).map(|place| number(16 + 16 * place, 16)).collect();
        (number(0, 8) as u32, keys)
    }

    fn pass(&mut self, request: u32, data: &str) -> String {
        self.sgio.ask(&format!("pass {} {request} {data}", self.fd))
    }

    /// Ends the supervisor at once, and with it what it answers.
    fn kill(self) {
        Run::new("kill").args(["-KILL", &self.supervisor]).output().expect_out();
        wait_for("the supervisor's end", || {
            (!Path::new("/proc").join(&self.supervisor).exists()).then_some(())
        });
    }

    /// Ends the run, and waits for its supervisor.
    fn end(self) {
        let Client { sgio, supervisor, .. } = self;
        drop(sgio);
        wait_for("the supervisor's end", || (!Path::new("/proc").join(&supervisor).exists()).then_some(()));
    }
}

/// The CDB and the parameter list of PERSISTENT RESERVE OUT, as `programs/sgio.c` takes them.
fn out(action: u8, kind: u8, key: u64, new: u64) -> String {
    format!("5f{action:02x}{kind:02x}0000000000{:02x}00 {key:016x}{new:016x}{:016x}", 24, 0)
}

fn image() -> Disk {
    Disk::new(Medium::Image, "scsi", MIB)
}

/// The processes of a run are one initiator.
fn sg_persist(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, MIB);
    let script = "set -e
        p() { sg_persist --no-inquiry \"$@\" \"$0\"; }
        p --out --register --param-sark=abc123
        p -k; p -c; p -r
        p --out --reserve --param-rk=abc123 --prout-type=5
        p -s
        p --out --release --param-rk=abc123 --prout-type=5
        p --out --register --param-rk=abc123";
    let said =
        disk.run_on(Engine::Supervisor, "sh").args(["-c", script]).arg(disk.path()).output().expect_out();
    for part in [
        "0xabc123",
        "Write Exclusive, registrants only",
        "SAS address",
        "Persist Through Power Loss Capable(PTPL_C): 0",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// The rows of `sg_persist` in the clients' list end as on the real disk, one after the other in one run.
fn list(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, MIB);
    let rows: Vec<&str> = LIST.lines().filter(|row| row.starts_with("sg_persist ")).collect();
    assert_eq!(rows.len(), 8);
    let script: String =
        rows.iter().map(|row| row.replace("DEV", "\"$0\"") + " >/dev/null; echo $?\n").collect();
    let said = disk.run_on(Engine::Supervisor, "sh").args(["-c", &script]).arg(disk.path()).output();
    let real = clients::recorded("scsi-lio");
    let real: String = rows.iter().map(|row| format!("{}\n", real[&clients::name(row)])).collect();
    assert_eq!(said.out(), real, "{}", said.err());
}

/// Two runs are two initiators.
fn two_runs(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, MIB);
    let (mut one, mut two) = (Client::of(&disk), Client::of(&disk));
    one.register(1);
    assert_eq!(one.reserve_out(1, EXCLUSIVE_ACCESS, 1, 0), "good");
    assert_eq!((one.write().as_str(), two.write().as_str()), ("good", CONFLICT));
    assert_eq!((one.read().as_str(), two.read().as_str()), ("good", CONFLICT));
    // Who the holder is can be asked by everybody; what it may do, not.
    assert_eq!((two.ready().as_str(), two.keys()), ("good", (1, vec![1])));
    assert_eq!(two.reserve_out(1, EXCLUSIVE_ACCESS, 1, 0), CONFLICT);
    assert_eq!(two.reserve_out(4, EXCLUSIVE_ACCESS, 2, 1), CONFLICT);
    two.register(2);
    assert_eq!(two.reserve_out(4, WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 2, 1), "good");
    // The victim is told once.
    assert_eq!((one.write().as_str(), one.write().as_str()), ("6/2a/05", CONFLICT));
    assert_eq!((one.read().as_str(), two.write().as_str()), ("good", "good"));
    one.register(3);
    assert_eq!(one.write(), "good");
    assert_eq!(two.reserve_out(2, WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 2, 0), "good");
    assert_eq!((one.ready().as_str(), one.ready().as_str()), ("6/2a/04", "good"));
    assert_eq!(one.reserve_out(3, 0, 3, 0), "good");
    assert_eq!((two.ready().as_str(), two.ready().as_str()), ("6/2a/03", "good"));
    // What the older commands reserve.
    assert_eq!((one.none(RESERVE).as_str(), two.none(RESERVE).as_str()), ("good", CONFLICT));
    assert_eq!(
        (two.ready().as_str(), two.none(RELEASE).as_str(), two.ready().as_str()),
        (CONFLICT, "good", CONFLICT)
    );
    assert_eq!((one.none(RELEASE).as_str(), two.ready().as_str()), ("good", "good"));
    // The last one's end is the disk's loss of power.
    one.register(4);
    one.end();
    assert_eq!(two.keys().1, [4]);
    two.end();
    assert_eq!(Client::of(&disk).keys(), (0, vec![]));
}

/// A supervisor that is killed grants nobody anything; what is persistent stays, for others to preempt.
fn killed(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, MIB);
    let (mut one, mut two) = (Client::of(&disk), Client::of(&disk));
    assert_eq!((one.none(RESERVE).as_str(), two.ready().as_str()), ("good", CONFLICT));
    one.kill();
    assert_eq!(two.ready(), "good");
    let mut three = Client::of(&disk);
    three.register(3);
    assert_eq!(three.reserve_out(1, EXCLUSIVE_ACCESS, 3, 0), "good");
    three.kill();
    assert_eq!(two.write(), CONFLICT);
    two.register(2);
    assert_eq!((two.keys().1.as_slice(), two.write().as_str()), (&[3, 2][..], CONFLICT));
    assert_eq!(two.reserve_out(5, EXCLUSIVE_ACCESS, 2, 3), "good");
    assert_eq!((two.keys().1.as_slice(), two.write().as_str()), (&[2][..], "good"));
}

/// What a victim has begun is complete when PREEMPT AND ABORT ends.
fn abort_waits(medium: Medium, kind: &'static str) {
    const COMPARE: &str = "89000000000000000009000000010000 1024 00";
    let disk = Disk::new(medium, kind, MIB);
    let (mut one, mut two) = (Client::of(&disk), Client::of(&disk));
    one.register(1);
    two.register(2);
    let mut holder = Sgio::start(Run::new, disk.scratch());
    let fd = holder.open("rw", disk.device());
    assert_eq!(holder.ask(&format!("lock {fd} ofd write 0x4000000000000000 1")), "good");
    let waits = one.sgio.ask(&format!("later out {} {COMPARE}", one.fd));
    wait_for("a command that has begun", || has_begun(&state_of(&disk)).then_some(()));
    assert_eq!(one.sgio.ask(&format!("done {waits}")), "no");
    let preempts = two.sgio.ask(&format!("later give {} {}", two.fd, out(5, EXCLUSIVE_ACCESS, 2, 1)));
    wait_for("the preemption", || (two.keys().1 == [2]).then_some(()));
    assert_eq!(two.sgio.ask(&format!("done {preempts}")), "no");
    drop(holder);
    assert_eq!(one.sgio.ask(&format!("join {waits}")), "good 0");
    assert_eq!(two.sgio.ask(&format!("join {preempts}")), "good 0");
}

/// The kernel's requests are about the same reservations.
fn requests(medium: Medium, kind: &'static str) {
    const REGISTER: u32 = 0x4018_70c8;
    const RESERVE: u32 = 0x4010_70c9;
    const PREEMPT: u32 = 0x4018_70cb;
    const CLEAR: u32 = 0x4010_70cd;
    let disk = Disk::new(medium, kind, MIB);
    let (mut one, mut two) = (Client::of(&disk), Client::of(&disk));
    let [first, second, none] =
        [0x11u64, 0x22, 0].map(|key| key.to_ne_bytes().map(|byte| format!("{byte:02x}")).concat());
    let register = |key: &str| format!("{none}{key}{none}");
    if kind != "scsi" {
        assert_eq!(one.pass(REGISTER, &register(&first)), "EOPNOTSUPP");
        return;
    }
    assert_eq!(
        (one.pass(REGISTER, &register(&first)), two.pass(REGISTER, &register(&second))),
        ("0".into(), "0".into())
    );
    // PR_EXCLUSIVE_ACCESS
    let exclusive = |key: &str| format!("{key}0200000000000000");
    assert_eq!(one.pass(RESERVE, &exclusive(&first)), "0");
    // The status RESERVATION CONFLICT, as sd returns it.
    assert_eq!(two.pass(RESERVE, &exclusive(&second)), "24");
    assert_eq!((two.write().as_str(), two.keys()), (CONFLICT, (2, vec![0x11, 0x22])));
    assert_eq!(two.pass(PREEMPT, &format!("{second}{}", exclusive(&first))), "0");
    assert_eq!(two.pass(CLEAR, &format!("{second}{none}")), "0");
    assert_eq!((one.ready().as_str(), one.keys().1.as_slice()), ("6/2a/05", &[][..]));
}

/// Mode parameters and the capacity are the same for all; a change is told to each once.
fn changes(medium: Medium, kind: &'static str) {
    if medium == Medium::Loop && !acceptance::is_root() {
        return;
    }
    let disk = Disk::new(medium, kind, MIB);
    let private = disk.scratch().path("runtime");
    fs::create_dir(&private).expect("the directory is ours");
    let client = || Client::by(&disk, |run| run.env("XDG_RUNTIME_DIR", &private));
    let (mut one, mut two) = (client(), client());
    assert_eq!((one.ready().as_str(), two.ready().as_str()), ("good", "good"));
    // The control page with D_SENSE.
    let select = format!("give {} 151000001000 000000000a0a061000000000ffff0000", one.fd);
    assert_eq!(one.sgio.ask(&select), "good 0");
    assert_eq!(
        (one.ready().as_str(), two.ready().as_str(), two.ready().as_str()),
        ("good", "descriptor:6/2a/01", "good")
    );
    // Sense data have the new format for both.
    for client in [&mut one, &mut two] {
        assert_eq!(client.none("2b 00 ff ff ff ff 00 00 00 00"), "descriptor:5/21/00");
    }
    let mut three = client();
    assert_eq!(three.ready(), "good");
    let file = OpenOptions::new().write(true).open(disk.image()).expect("the image is ours");
    file.set_len(2 * MIB).expect("there is room");
    if medium == Medium::Loop {
        disk.loop_device().resize();
    }
    for client in [&mut one, &mut two, &mut three] {
        assert_eq!((client.ready().as_str(), client.ready().as_str()), ("descriptor:6/2a/09", "good"));
    }
}

/// With `nexus=process` each process group is an initiator.
fn process_groups() {
    let disk = image();
    // Each job has a group of its own.
    let script = "set -m
        p() { sg_persist --no-inquiry \"$@\" \"$0\"; }
        p --out --register --param-sark=a; p --out --register --param-sark=b
        (p --out --register --param-sark=c; p --out --reserve --param-rk=c --prout-type=3; sg_raw \"$0\" 00 00 00 00 00 00) || exit 1
        p -k
        sg_raw -r 512 \"$0\" 28 00 00 00 00 00 00 00 01 00; echo read $?
        (p --out --register --param-sark=d; p --out --preempt --param-rk=d --param-sark=c --prout-type=3; sg_raw -r 512 \"$0\" 28 00 00 00 00 00 00 00 01 00; echo read $?)";
    let entry = format!("{},nexus=process", disk.entry());
    let run =
        Run::new("bash").supervised(&disk.scratch().command(), entry).args(["-c", script]).arg(disk.path());
    let said = run.output().out();
    let keys: Vec<&str> = said.lines().map(str::trim).filter(|line| line.starts_with("0x")).collect();
    assert_eq!(keys, ["0xa", "0xb", "0xc"], "{said}");
    // RESERVATION CONFLICT, then what preempted it.
    let reads: Vec<&str> = said.lines().filter(|line| line.starts_with("read ")).collect();
    assert_eq!(reads, ["read 24", "read 0"], "{said}");
}

/// The kernel's own requests that write keep to reservations, too.
fn discarding() {
    let disk = Disk::new(Medium::Loop, "scsi", MIB);
    let (mut one, mut two) = (Client::of(&disk), Client::of(&disk));
    const BLKDISCARD: u32 = 0x1277;
    const BLKZEROOUT: u32 = 0x127f;
    let range =
        [0u64, 4096].map(|number| number.to_ne_bytes().map(|byte| format!("{byte:02x}")).concat()).concat();
    one.register(1);
    assert_eq!((one.pass(BLKZEROOUT, &range), two.pass(BLKZEROOUT, &range)), ("0".into(), "0".into()));
    assert_eq!(one.reserve_out(1, WRITE_EXCLUSIVE_REGISTRANTS_ONLY, 1, 0), "good");
    for request in [BLKDISCARD, BLKZEROOUT] {
        assert_eq!((one.pass(request, &range), two.pass(request, &range)), ("0".into(), "EBADE".into()));
    }
    assert_eq!(two.read(), "good");
}

/// Where what another version shares cannot be read, nothing is granted.
fn another_layout() {
    let disk = image();
    let mut one = Client::of(&disk);
    assert_eq!(one.ready(), "good");
    let state = state_of(&disk);
    let file = OpenOptions::new().write(true).open(&state).expect("root may open it");
    file.write_all_at(&[0xff; 8], 0).expect("root may write it");
    let mut two = Client::of(&disk);
    assert_eq!((two.ready().as_str(), two.write().as_str()), ("2/04/00", "2/04/00"));
    two.end();
    one.end();
    assert!(!state.exists(), "it is left");
}

/// Where there is no room for what they share, nothing is granted.
fn no_room() {
    let disk = image();
    // A /run of one page.
    let script = "mount -t tmpfs -o size=4k none /run && exec \"$@\"";
    let mut client = Client::by(&disk, |run| run.behind(["unshare", "-m", "sh", "-c", script, "sh"]));
    assert_eq!((client.ready().as_str(), client.write().as_str()), ("2/04/00", "2/04/00"));
}

/// A run that starts later cannot find a file that has been removed, so its users get NOT READY.
fn removed() {
    let disk = image();
    let mut one = Client::of(&disk);
    assert_eq!(one.ready(), "good");
    fs::remove_file(state_of(&disk)).expect("root may remove it");
    let mut two = Client::of(&disk);
    assert_eq!((two.ready().as_str(), one.ready().as_str()), ("good", "2/04/00"));
    one.end();
    assert!(state_of(&disk).exists());
}

/// Returns whether a supervisor carries out a command: it has locked a byte, for reading (proc_locks(5)).
fn has_begun(state: &Path) -> bool {
    let inode = fs::metadata(state).expect("it is used").ino();
    let locks = fs::read_to_string("/proc/locks").expect("the kernel makes it");
    let ends = [1, 2].map(|byte| format!(":{inode} {byte} {byte}"));
    locks.lines().any(|lock| lock.contains(" READ ") && ends.iter().any(|end| lock.ends_with(end)))
}

/// The file that the supervisors of a disk share.
fn state_of(disk: &Disk) -> PathBuf {
    let status = fs::metadata(disk.device()).expect("it is there");
    let part = match disk.device() == disk.image() {
        true => {
            // Another file can have had its inode.
            let birth = status.created().ok().and_then(|birth| birth.duration_since(UNIX_EPOCH).ok());
            format!("-{:x}-{:x}", status.ino(), birth.map_or(0, |birth| birth.as_nanos()))
        }
        false => format!("{:x}-0-0", status.rdev()),
    };
    let files = fs::read_dir(STATES).expect("root's supervisors have it");
    let mut files = files.map(|file| file.expect("it can be read").path());
    files.find(|file| file.to_string_lossy().contains(&part)).expect("the device is shared")
}

/// Ordinary users share what their session's directory holds, and nothing without one.
fn ordinary_user() {
    let disk = image();
    let private = disk.scratch().path("runtime");
    fs::create_dir(&private).expect("the directory is ours");
    let states = private.join("vmware-bdwrapper");
    if acceptance::is_root() {
        // Root's are in one place, whatever the environment says.
        let mut one = Client::by(&disk, |run| run.env("XDG_RUNTIME_DIR", &private));
        assert_eq!(one.ready(), "good");
        assert!(!states.exists());
        return;
    }
    let mut one = Client::by(&disk, |run| run.env("XDG_RUNTIME_DIR", &private));
    assert_eq!((one.ready().as_str(), one.none(RESERVE).as_str()), ("good", "EPERM"));
    assert_eq!(fs::read_dir(&states).expect("it is made").count(), 1);
    one.end();
    assert_eq!(fs::read_dir(&states).expect("it stays").count(), 0);
}
