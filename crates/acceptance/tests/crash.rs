//! A virtual machine that is killed while clients write: what a command acknowledged as on the medium is there afterwards.
//!
//! The kill takes the memory of the machine's kernel with it, and leaves what that had written to its disks, as a loss of power does
//! to disks without a cache of their own. Clients write numbered blocks (`sgio number`) and say on the console which are
//! acknowledged; the machine's next start looks which there are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Command, ExitCode, Stdio};

use acceptance::machine::{disk, is_machine, machine, run, script, without_udev};
use acceptance::{Engine, Scratch, engine, main as harness, trial};
use disk::names;

/// How often the machine is killed.
const ROUNDS: u64 = 5;

/// How many numbers a device gets in a round; 4096 bytes each.
const NUMBERS: u64 = 2000;

/// Disks of the machine, with their sizes in MiB: below a logical volume, an array, an encrypted volume, a file, and bare.
const DISKS: [(&str, u64); 6] =
    [("scsi", 64), ("ide", 64), ("virtio", 64), ("scsi", 64), ("virtio", 96), ("scsi", 64)];

/// Devices, the kinds of disk that they are to be, and how two clients have their numbers written: as sgio.c says. The first promise
/// nothing.
const DEVICES: [(&str, &str, [&str; 2]); 5] = [
    (BARE, "scsi,force", ["cached", "cached"]),
    ("/dev/disks/volume", "scsi", ["fua", "sync"]),
    ("/dev/md0", "sata", ["ata-fua", "ata-flush"]),
    ("/dev/mapper/secret", "sata", ["sync", "verify"]),
    ("/mnt/files/image", "scsi", ["fua", "sync"]),
];

/// The place of the disk that promises nothing.
const BARE: &str = "/dev/bare";

fn main() -> ExitCode {
    if is_machine() {
        return inside();
    }
    harness(vec![
        trial("crash/kill", &[], kill),
        trial("machine/a limit ends one that hangs", &[], hang),
        trial("machine/a kernel that panics ends", &[], panics),
    ])
}

/// A machine that does not end by itself.
fn hang() {
    let ended = script().args(["sleep", "10000"]).env("LIMIT", "3").output().expect("the script can be run");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(125), "{said}");
    assert!(said.contains("machine: ended after 3 seconds (LIMIT).\n"), "{said}");
}

/// The limit would be said.
fn panics() {
    let panic = "cat /proc/cmdline; echo c >/proc/sysrq-trigger; sleep 10000";
    let ended = script().args(["sh", "-c", panic]).output().expect("the script can be run");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(125) && !said.contains("LIMIT"), "{:?}: {said}", ended.status);
    let console = String::from_utf8_lossy(&ended.stdout);
    assert!(console.contains("softlockup_panic=1"), "{console}");
}

/// In the machine: makes the devices, or finds them again; says which numbers are there, and writes others.
fn inside() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let round: u64 = arguments[1].parse().expect("the round's number");
    devices(round == 0);
    for (device, _, _) in DEVICES {
        let file = File::open(device).expect("it is there");
        let mut place = [0; 4096];
        let there = (0..(ROUNDS + 1) * NUMBERS).filter(|number| {
            file.read_exact_at(&mut place, number * 4096).is_ok()
                && place[..] == number.to_ne_bytes().repeat(512)
        });
        let there: Vec<String> = there.map(|number| number.to_string()).collect();
        println!("there {device} {}", there.join(" "));
    }
    println!("ready");
    if round == ROUNDS {
        return ExitCode::SUCCESS;
    }
    // The last to close a device writes its cache.
    let _held = File::open(BARE).expect("it is there");
    let scratch = Scratch::new();
    let program = scratch.program("sgio");
    let writers = DEVICES.map(|(device, kind, ways)| {
        let entry = format!("{device}={kind}");
        let mut command = match engine() {
            Engine::Library => {
                let mut command = Command::new(&program);
                command.env("LD_PRELOAD", scratch.library()).env(names::DEVICES, entry);
                command
            }
            Engine::Supervisor => {
                let mut command = Command::new(scratch.command());
                command.args(["run", "--engine", "supervisor", "--force", "--device", &entry, "--"]);
                command.arg(&program);
                command
            }
        };
        command.args(["number", &(round * NUMBERS + 1).to_string(), &(NUMBERS - 1).to_string()]);
        command.args([ways[0], device, ways[1], device]).stdout(Stdio::piped());
        let mut writer = command.spawn().expect("it can be run");
        let lines = BufReader::new(writer.stdout.take().expect("it is a pipe"));
        std::thread::spawn(move || {
            for line in lines.lines() {
                println!("{device} {}", line.expect("it can be read"));
            }
            writer.wait().expect("it is our child")
        })
    });
    for writer in writers {
        assert!(writer.join().expect("it copies lines").success());
    }
    ExitCode::SUCCESS
}

/// Makes the devices, or finds them again.
fn devices(new: bool) {
    run("modprobe -a dm-mod dm-crypt md-mod raid1 ext4");
    without_udev();
    // What the kernel writes back by itself would blur what is lost.
    fs::write("/proc/sys/vm/dirty_writeback_centisecs", "0").expect("root can");
    let disk = |number: usize| {
        let kind = match DISKS[number].0 {
            "scsi" => "SCSI",
            "ide" => "IDE",
            _ => "VIRTIO",
        };
        disk(&format!("{kind}-{number}"))
    };
    let (ide, virtio, under, files) = (disk(1), disk(2), disk(3), disk(4));
    let key = "/run/control/key";
    let md = format!("/dev/md0 --run {ide} {virtio}");
    fs::write(key, "secret").expect("it can be written");
    if new {
        run(&format!("vgcreate -qq disks {}", disk(0)));
        run("lvcreate -qq -y -Wn -Zn -n volume -L 48M disks");
        run(&format!("mdadm -q --create {md} --level=1 --metadata=1.0 --assume-clean --raid-devices=2"));
        let options = "-q --type luks1 --pbkdf-force-iterations 1000";
        run(&format!("cryptsetup luksFormat {options} --key-file {key} {under}"));
        run(&format!("mkfs.ext4 -q {files}"));
    } else {
        run("vgchange -qq -ay disks");
        run(&format!("mdadm -q --assemble {md}"));
    }
    run(&format!("cryptsetup open --key-file {key} {under} secret"));
    run("mkdir -p /mnt/files");
    run(&format!("mount {files} /mnt/files"));
    if new {
        let image = File::create("/mnt/files/image").expect("it is a new file system");
        image.set_len(48 << 20).expect("it is sparse");
        image.sync_all().expect("there is a disk below");
    }
    std::os::unix::fs::symlink(disk(5), BARE).expect("root can");
}

/// Numbers of devices.
type Numbers = BTreeSet<(String, u64)>;

/// Kills the machine again and again, each time after another number of acknowledgements.
fn kill() {
    let scratch = Scratch::new();
    let disks: Vec<String> = DISKS
        .iter()
        .enumerate()
        .map(|(number, (kind, mib))| {
            format!("{kind}:{}", scratch.image(&format!("disk{number}"), mib << 20).display())
        })
        .collect();
    let disks = disks.join(" ");
    let mut acknowledged = Numbers::new();
    let mut chance = 0x9e37_79b9_u64;
    for round in 0..=ROUNDS {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let stop = 50 + chance % 500;
        let said = start(&scratch, &disks, round, stop);
        let (last, bare): (Numbers, Numbers) =
            std::mem::take(&mut acknowledged).into_iter().partition(|(device, _)| device != BARE);
        let missing: Vec<_> = last.iter().filter(|number| !said.there.contains(number)).collect();
        assert!(missing.is_empty(), "round {round}, lost: {missing:?}");
        let missing = bare.iter().filter(|number| !said.there.contains(number)).count();
        assert!(
            bare.is_empty() || missing > 0,
            "round {round}: the kill loses nothing, so that it shows nothing"
        );
        println!(
            "start {round}: all {} acknowledged are there; {missing} of {} that were only cached are lost",
            last.len(),
            bare.len()
        );
        // They stay there in later rounds, too.
        acknowledged = last;
        acknowledged.extend(said.acknowledged);
    }
}

/// What a machine said before it was killed.
struct Said {
    there: Numbers,
    acknowledged: Numbers,
}

/// Starts the machine, and kills it after so many acknowledgements; the last ends by itself.
fn start(scratch: &Scratch, disks: &str, round: u64, stop: u64) -> Said {
    let pid = scratch.path("pid");
    // Each engine in turn.
    let engine = if round % 2 == 0 { Engine::Library } else { Engine::Supervisor };
    let mut command = machine(disks, engine);
    command.arg(round.to_string()).env("PIDFILE", &pid).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the script can be run");
    let mut console = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let mut said = Said { there: Numbers::new(), acknowledged: Numbers::new() };
    // The kill waits for each device to have been written.
    let (mut is_ready, mut promised, mut silent) = (false, 0, DEVICES.map(|(device, ..)| device).to_vec());
    let (mut other, mut line) = (String::new(), String::new());
    // The kill may cut the last line off.
    while console.read_line(&mut line).expect("the console is text") > 0 && line.ends_with('\n') {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        match words[..] {
            ["there", device, ref numbers @ ..] => {
                let numbers = numbers.iter().filter_map(|number| number.parse().ok());
                said.there.extend(numbers.map(|number| (device.to_owned(), number)));
            }
            ["ready"] => is_ready = true,
            [device, "acknowledged", number] => {
                let number = number.parse().expect("a number");
                said.acknowledged.insert((device.to_owned(), number));
                let was_due = promised >= stop && silent.is_empty();
                promised += u64::from(device != BARE);
                silent.retain(|other| *other != device);
                if !was_due && promised >= stop && silent.is_empty() {
                    let process = fs::read_to_string(&pid).expect("QEMU wrote it");
                    run(&format!("kill -KILL {}", process.trim()));
                }
            }
            _ => other += &line,
        }
        line.clear();
    }
    let code = child.wait().expect("it is our child").code();
    let expected = if round == ROUNDS { 0 } else { 125 };
    assert!(is_ready && code == Some(expected), "round {round}: status {code:?}: {other}");
    assert!(!other.contains("failed"), "{other}");
    said
}
