//! Devices of every kind, in a virtual machine: LVM, md, dm-crypt, multipath, nbd, zram, real SCSI, IDE and virtio disks.
//!
//! Started as any test, this program starts itself in the machine of `scripts/machine`, where its trials run; those of the supervisor
//! in another one. The machine is gone afterwards, and with it all that they made.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use acceptance::machine::{KEPT, disk, is_machine, looped, machine, run, without_udev};
use acceptance::{
    Engine, Outcome, Run, Scratch, Sgio, Trial, engine, i386_program, library, main as harness, program,
    trial, wait_for,
};
use disk::names;

mod addition;
mod alternatives;
mod clients;
mod faults;
mod growth;
mod partitions;
mod reservations;

const MIB: u64 = 1 << 20;

/// The disks that the machine has: for LVM on it, of the sizes of the golden tables, and for the command lines of `clients`.
const DISKS: &str = "scsi:512M scsi:1G ide:256M virtio:192M scsi:64M sata:64M";

fn main() -> ExitCode {
    if !is_machine() {
        return machines();
    }
    let trials = match engine() {
        Engine::Library => library_trials(),
        Engine::Supervisor => acceptance::group("supervisor", supervisor_trials),
    };
    harness(trials)
}

/// Runs the trials in a machine for each engine.
fn machines() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let named = arguments.iter().position(|argument| argument.to_string_lossy().starts_with("supervisor/"));
    let is_skipped = |at: usize| at > 0 && arguments[at - 1] == "--skip";
    let engines = match named {
        None => &[Engine::Library, Engine::Supervisor][..],
        Some(at) if is_skipped(at) => &[Engine::Library],
        Some(_) => &[Engine::Supervisor],
    };
    let failed = engines.iter().filter(|&&engine| {
        let status = machine(DISKS, engine).arg("--test-threads=1").args(&arguments).status();
        !status.expect("the script can be run").success()
    });
    if failed.count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn library_trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for device in DEVICES {
        trials.extend(device_trials(device, &["scsi", "ide", "sata"]));
    }
    for name in ["lvm-linear", "md-raid1", "dm-crypt"] {
        trials.push(trial(format!("conformance/{name}"), &[], move || conformance(name)));
    }
    trials.extend(leak_trials());
    trials.extend(growth::trials());
    trials.extend(faults::trials());
    trials.push(trial("partitions/numbers are the kernel's", &[], partitions::numbers));
    trials.extend(clients::trials());
    trials.extend(alternatives::trials());
    trials.extend(GOLDEN.map(golden));
    trials.push(trial("set-user-ID", &[], set_user_id));
    for name in ["guide/A logical volume/Root", "guide/A logical volume/User", "refresh/on FAT"] {
        trials.push(sibling_trial("vmdk", name, "dm-mod vfat nls_cp437 nls_ascii"));
    }
    for name in ["question/xfs", "question/btrfs", "question/lvm"] {
        trials.push(sibling_trial("promises", name, "dm-mod xfs btrfs overlay"));
    }
    // udev would have its hands on the devices of the others.
    trials.extend(addition::trials());
    trials.push(trial("links persist", &[], links_persist));
    trials
}

/// Trials whose result depends on the engine: what reaches the device, what it says of itself, how it fails, and what kernels do
/// that are older than the machine's. A device of each driver is enough.
fn supervisor_trials() -> Vec<Trial> {
    let mut trials = Vec::from(leak_trials());
    let drivers = ["lvm-thin", "lvm-on-scsi", "md-raid5", "dm-crypt", "multipath", "nbd", "virtio-blk"];
    for device in DEVICES.iter().filter(|device| drivers.contains(&device.name)) {
        // It answers what a SCSI disk and what an IDE disk answers.
        trials.extend(device_trials(device, &["sata"]));
    }
    trials.push(trial("conformance/lvm-linear", &[], || conformance("lvm-linear")));
    trials.extend(growth::trials());
    trials.extend(faults::trials());
    trials.extend(reservations::trials());
    // Numbers of processes come round sooner.
    fs::write("/proc/sys/kernel/pid_max", "4096").expect("root can");
    for name in SUPERVISOR_TRIALS {
        trials.push(sibling_trial("supervisor", name, "loop"));
    }
    trials
}

/// Trials of tests/supervisor.rs that no library has.
const SUPERVISOR_TRIALS: [&str; 20] = [
    "programs/static",
    "programs/a descriptor table for each thread",
    "programs/the first thread has ended",
    "programs/descriptors of a device that cannot be asked",
    "programs/many",
    "programs/set-user-ID",
    "end/the exit status is the program's",
    "end/the program is killed",
    "end/what the program leaves is answered",
    "end/the supervisor is killed",
    "end/the front is killed",
    "end/not started",
    "signals/sent to the command",
    "signals/a stopped job",
    "signals/a storm",
    "waiting/for another call",
    "waiting/killed",
    "waiting/another process gets the number",
    "environment",
    "files/the supervisor holds none",
];

fn device_trials(device: &'static Device, kinds: &[&'static str]) -> Vec<Trial> {
    let kinds =
        kinds.iter().map(|&kind| trial(format!("{}/{kind}", device.name), &[], move || agree(device, kind)));
    let routes = trial(format!("{}/routes", device.name), &[], move || routes(device));
    kinds.chain([routes]).collect()
}

fn leak_trials() -> [Trial; 3] {
    LEAKING.map(|above| trial(format!("leak/{}-on-scsi_debug", above.name), &[], move || leak(&above)))
}

/// A trial of another test program, with modules of the kernel that it needs.
fn sibling_trial(program: &'static str, name: &'static str, modules: &'static str) -> Trial {
    trial(format!("{program}/{name}"), &[], move || {
        run(&format!("modprobe -a {modules}"));
        without_udev();
        let outcome = Run::new(sibling(program))
            .env("CI", "true")
            .env("VIRTUAL_MACHINE", "1")
            .args(["--exact", name])
            .output();
        assert!(
            outcome.success() && outcome.out().contains("1 passed"),
            "{}{}",
            outcome.out(),
            outcome.err()
        );
    })
}

/// A kind of device, and how it is made.
struct Device {
    name: &'static str,
    make: fn() -> PathBuf,
}

/// A volume group on two loop devices, made at its first use.
fn group() -> &'static str {
    if !Path::new("/dev/shm/group").exists() {
        run("modprobe dm-mod");
        without_udev();
        run(&format!("vgcreate -qq loops {} {}", looped(256), looped(256)));
        File::create("/dev/shm/group").expect("it can be made");
    }
    "loops"
}

/// A logical volume.
fn volume(group: &str, name: &str, options: &str) -> PathBuf {
    run(&format!("lvcreate -qq -y -Wn -Zn -n {name} {options} {group}"));
    PathBuf::from(format!("/dev/{group}/{name}"))
}

fn array(name: &str, level: &str, members: usize) -> PathBuf {
    let members: Vec<String> = (0..members).map(|_| looped(96)).collect();
    let path = format!("/dev/{name}");
    run("modprobe -a md-mod raid0 raid1 raid456");
    let members = members.join(" ");
    let count = members.split(' ').count();
    let clean = if level == "0" { "" } else { " --assume-clean" };
    run(&format!("mdadm -q --create {path} --run --level={level}{clean} --raid-devices={count} {members}"));
    PathBuf::from(path)
}

fn mapped(name: &str, table: &str) -> PathBuf {
    run("modprobe dm-mod");
    let made = Run::new("dmsetup").args(["create", name]).stdin(table.to_owned() + "\n").output();
    assert!(made.success(), "{table}: {}", made.err());
    run("dmsetup mknodes");
    PathBuf::from(format!("/dev/mapper/{name}"))
}

/// Gives a device-mapper device another table.
fn reload(name: &str, table: &str) {
    let loaded = Run::new("dmsetup").args(["reload", name]).stdin(table.to_owned() + "\n").output();
    assert!(loaded.success(), "{table}: {}", loaded.err());
    run(&format!("dmsetup resume {name}"));
}

/// An encrypted volume; the key stands in /dev/shm/key.
fn crypt(under: &str, name: &str) -> PathBuf {
    run("modprobe dm-crypt");
    fs::write("/dev/shm/key", "secret").expect("it can be written");
    let options = "-q --type luks1 --pbkdf-force-iterations 1000 --key-file /dev/shm/key";
    run(&format!("cryptsetup luksFormat {options} {under}"));
    run(&format!("cryptsetup open --key-file /dev/shm/key {under} {name}"));
    PathBuf::from(format!("/dev/mapper/{name}"))
}

const DEVICES: &[Device] = &[
    Device { name: "loop", make: || looped(64).into() },
    Device { name: "lvm-linear", make: || volume(group(), "linear", "-L 64M") },
    Device { name: "lvm-striped", make: || volume(group(), "striped", "-i 2 -L 64M") },
    Device {
        name: "lvm-thin",
        make: || {
            run("modprobe dm-thin-pool");
            run(&format!("lvcreate -qq -y -T -L 64M {}/pool", group()));
            run(&format!("lvcreate -qq -y -Wn -V 128M -T {}/pool -n thin", group()));
            PathBuf::from("/dev/loops/thin")
        },
    },
    Device {
        name: "lvm-snapshot",
        make: || {
            run("modprobe dm-snapshot");
            volume(group(), "origin", "-L 32M");
            run(&format!("lvcreate -qq -y -s -n frozen -L 16M {}/origin", group()));
            PathBuf::from("/dev/loops/frozen")
        },
    },
    Device {
        name: "lvm-on-scsi",
        make: || {
            run(&format!("vgcreate -qq disks {}", disk("SCSI-0")));
            volume("disks", "volume", "-L 128M")
        },
    },
    Device { name: "md-raid0", make: || array("md0", "0", 2) },
    Device { name: "md-raid1", make: || array("md1", "1", 2) },
    Device { name: "md-raid5", make: || array("md5", "5", 3) },
    Device { name: "dm-crypt", make: || crypt(&looped(64), "secret") },
    Device { name: "multipath", make: || over_one_path("paths", &disk("SCSI-1")) },
    Device {
        name: "nbd",
        make: || {
            run("modprobe nbd");
            File::create("/dev/shm/nbd").and_then(|file| file.set_len(64 * MIB)).expect("there is memory");
            fs::write(
                "/dev/shm/nbd.conf",
                "[generic]\nuser=root\ngroup=root\n[x]\nexportname=/dev/shm/nbd\n",
            )
            .expect("it can be written");
            run("nbd-server -C /dev/shm/nbd.conf");
            run("nbd-client 127.0.0.1 -N x /dev/nbd0");
            PathBuf::from("/dev/nbd0")
        },
    },
    Device {
        name: "zram",
        make: || {
            run("modprobe zram");
            fs::write("/sys/block/zram0/disksize", "64M").expect("it can be set");
            PathBuf::from("/dev/zram0")
        },
    },
    Device { name: "virtio-blk", make: || disk("VIRTIO-3").into() },
    Device {
        name: "partition",
        make: || {
            let whole = looped(96);
            let table = Run::new("sfdisk").args(["-q", &whole]).stdin("2048,131072\n").output();
            assert!(table.success(), "{}", table.err());
            run(&format!("losetup --detach {whole}"));
            let image = "/dev/shm/partitioned";
            File::create(image).and_then(|file| file.set_len(96 * MIB)).expect("there is memory");
            let table = Run::new("sfdisk").args(["-q", image]).stdin("2048,131072\n").output();
            assert!(table.success(), "{}", table.err());
            let whole = run(&format!("losetup --partscan --find --show {image}"));
            PathBuf::from(format!("{}p1", whole.trim()))
        },
    },
];

/// The device, made at its first use: the trials of the machine run one after the other.
fn made(device: &Device) -> PathBuf {
    let mark = PathBuf::from(format!("/dev/shm/made-{}", device.name));
    if let Ok(path) = fs::read_to_string(&mark) {
        return path.into();
    }
    let path = (device.make)();
    fs::write(&mark, path.to_str().expect("names are ASCII")).expect("it can be written");
    path
}

fn entry(path: &Path, kind: &str) -> String {
    format!("{}={kind}", path.display())
}

/// How large it is.
fn bytes_of(path: &Path) -> u64 {
    run(&format!("blockdev --getsize64 {}", path.display())).trim().parse().expect("a number")
}

/// Bytes a logical block.
fn logical_block(path: &Path) -> u64 {
    run(&format!("blockdev --getss {}", path.display())).trim().parse().expect("a number")
}

/// A program with the library, the device listed, `DEV` in its words.
fn listed(scratch: &Scratch, path: &Path, kind: &str, text: &str) -> Outcome {
    let words = text.replace("DEV", path.to_str().expect("names are ASCII"));
    let mut words = words.split(' ');
    let run = Run::new(words.next().expect("a program stands first"));
    run.with(&scratch.library(), entry(path, kind)).args(words).output()
}

/// All that asks agrees about what the device is.
fn agree(device: &Device, kind: &'static str) {
    let (path, scratch) = (made(device), Scratch::new());
    let bytes = bytes_of(&path);
    let (sectors, block) = (bytes / 512, logical_block(&path));
    let blocks = bytes / block;
    let probe = Run::new(library().with_file_name("vmware-bdwrapper"))
        .args(["probe", "--device", &entry(&path, kind)])
        .output();
    let adapter = if kind == "scsi" { "SCSI" } else { "IDE" };
    let (out, code) = (probe.out(), probe.code());
    assert_eq!(code, 0, "{out}{}", probe.err());
    // A SATA disk answers as a SCSI disk too, and VMware takes it for that.
    let accepted = ["SCSI", adapter].map(|adapter| {
        // VMware takes disks with sectors of 512 bytes.
        let verb = if block == 512 { "accept it as" } else { "answers as" };
        format!("{verb} a physical {adapter} disk")
    });
    assert!(accepted.iter().any(|line| out.contains(line)), "{out}");
    assert!(out.contains(&format!("Cap={sectors} ")), "{out}");
    let mut wrong = Vec::new();
    let mut check = |text: &str, part: &str| {
        let outcome = listed(&scratch, &path, kind, text);
        if !outcome.success() || !outcome.out().contains(part) {
            wrong.push(format!(
                "{text}: {}, no {part:?}: {}{}",
                outcome.code(),
                outcome.out(),
                outcome.err()
            ));
        }
    };
    check("blockdev --getsize64 DEV", &bytes.to_string());
    check("fdisk -l DEV", &format!(" {bytes} bytes, {blocks} sectors"));
    check("hdparm -g DEV", "geometry");
    // sg3_utils takes what has the major number of partitions of loop devices for NVMe.
    if kind != "ide" && device.name != "partition" {
        check("sg_readcap DEV", &format!("Last LBA={} ", blocks - 1));
        check("sg_inq DEV", "BDWRAPPER DISK");
        check("sg_turs --low DEV", "");
        check("sg_vpd -p bl DEV", "Block limits");
    }
    match kind {
        "scsi" => check("smartctl -d scsi -H DEV", "SMART Health Status: OK"),
        "sata" => check("smartctl -d sat -H DEV", "PASSED"),
        _ => check("smartctl -d ata -H DEV", "PASSED"),
    }
    if kind != "scsi" {
        check("hdparm -I DEV", &format!("LBA48  user addressable sectors:{blocks:>12}"));
        check("hdparm -N DEV", &format!(" max sectors   = {blocks}/{blocks}"));
    }
    // A partition of a partition the kernel does not take.
    if device.name != "partition" {
        check("parted -s DEV mklabel gpt", "");
        check("parted -s DEV unit s print", &format!("{blocks}s"));
    }
    assert_eq!(wrong, [""; 0]);
}

/// What is written by one route is read by all others.
fn routes(device: &Device) {
    let (path, scratch) = (made(device), Scratch::new());
    let bytes = bytes_of(&path);
    let block = logical_block(&path);
    let (count, last) = (4096 / block, bytes / block - 4096 / block);
    let client = |kind: &str| {
        Sgio::start(|program| Run::new(program).with(&scratch.library(), entry(&path, kind)), &scratch)
    };
    for (kind, flags) in [("scsi", "rw"), ("scsi", "rwd"), ("sata", "rw"), ("sata", "rwd")] {
        let mut sgio = client(kind);
        let fd = sgio.open(flags, &path);
        for (at, byte) in [(8, 0x31), (last, 0x32), (last, 0x33)] {
            let cdb = |code: &str| format!("{code} 00 {at:016x} {count:08x} 00 00");
            assert_eq!(sgio.write(&fd, &cdb("8a"), 4096, byte), "good 0", "{kind} {flags}");
            assert_eq!(sgio.none(&fd, "35 00 00 00 00 00 00 00 00 00"), "good 0");
            let expected = format!("{byte:02x}").repeat(4096);
            assert_eq!(sgio.read(&fd, &cdb("88"), 4096), ("good 0".into(), expected.clone()));
            assert_eq!(sgio.ask(&format!("read {fd} {} 4096", at * block)), expected, "pread");
            assert!(direct(&path, at * block) == [byte; 4096], "what the kernel reads from the device");
            let written = format!("write {fd} {} 4096 {:02x}", at * block, byte + 0x10);
            assert_eq!(sgio.ask(&written), "4096");
            let expected = format!("{:02x}", byte + 0x10).repeat(4096);
            assert_eq!(sgio.read(&fd, &cdb("88"), 4096), ("good 0".into(), expected));
        }
    }
    for kind in ["ide", "sata"] {
        if block != 512 || device.name.starts_with("md-") {
            // hdparm moves 512 bytes, whatever the disk says of its sectors, and touches no array.
            continue;
        }
        let (words, bytes) = ("5a5a ".repeat(256), [0x5a; 512]);
        let device = File::options().write(true).open(&path);
        device.and_then(|file| file.write_all_at(&bytes, 4096)).expect("it is ours");
        let read = listed(&scratch, &path, kind, "hdparm --read-sector 8 DEV").expect_out();
        assert!(read.replace('\n', " ").contains(words.trim()), "{read}");
        let write = "hdparm --yes-i-know-what-i-am-doing --write-sector 8 DEV";
        listed(&scratch, &path, kind, write).expect_out();
        assert!(direct(&path, 4096)[..512] == [0; 512], "what hdparm wrote");
    }
}

/// 4096 bytes at an offset, read from the device itself.
fn direct(path: &Path, skip: u64) -> Vec<u8> {
    let (copy, from) = ("/dev/shm/direct", path.display());
    run(&format!("dd if={from} of={copy} bs=4096 count=1 skip={skip} iflag=skip_bytes,direct status=none"));
    fs::read(copy).expect("dd wrote it")
}

/// libiscsi's tests find nothing wrong.
fn conformance(name: &str) {
    let device = DEVICES.iter().find(|device| device.name == name).expect("it is in the table");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/conformance");
    let engine = match engine() {
        Engine::Library => "library",
        Engine::Supervisor => "supervisor",
    };
    let mut tests = Command::new(script);
    tests.args(["--engine", engine]).arg(entry(&made(device), "scsi"));
    let tests = tests.output().expect("the script can be run");
    let out = String::from_utf8_lossy(&tests.stdout).into_owned();
    assert!(tests.status.success(), "{out}{}", String::from_utf8_lossy(&tests.stderr));
    let counts = out.lines().find(|line| line.starts_with("1  ")).expect("a line of the table").to_owned();
    println!("{counts}");
}

/// What stands on a SCSI disk of the kernel's own.
struct Above {
    name: &'static str,
    /// How many commands of clients reach the disk without the library, at the least.
    least: usize,
    make: fn(&str) -> PathBuf,
}

const LEAKING: [Above; 3] = [
    Above {
        name: "lvm",
        least: 30,
        make: |debug| {
            run("modprobe dm-mod");
            without_udev();
            run(&format!("vgcreate -qq debug {debug}"));
            volume("debug", "volume", "-L 32M")
        },
    },
    Above {
        name: "partition",
        least: 30,
        make: |debug| {
            let table = Run::new("sfdisk").args(["-q", debug]).stdin("2048,65536\n").output();
            assert!(table.success(), "{}", table.err());
            PathBuf::from(format!("{debug}1"))
        },
    },
    // One of the commands stops the disk, so that the path fails.
    Above { name: "multipath", least: 5, make: |debug| over_one_path("debug-path", debug) },
];

/// dm-multipath with one path to a disk.
fn over_one_path(name: &str, disk: &str) -> PathBuf {
    run("modprobe -a dm-multipath dm-round-robin");
    let sectors = run(&format!("blockdev --getsz {disk}"));
    let number = fs::read_to_string(format!("/sys/block/{}/dev", &disk[5..])).expect("it has one");
    let paths = format!("round-robin 0 1 1 {} 1", number.trim());
    mapped(name, &format!("0 {} multipath 0 0 1 1 {paths}", sectors.trim()))
}

/// A new disk of scsi_debug.
fn debug_disk() -> String {
    let disks = || -> BTreeSet<String> {
        let names = fs::read_dir("/sys/block").expect("sysfs is mounted").flatten();
        let debug = names.filter(|name| {
            let model = fs::read_to_string(name.path().join("device/model")).unwrap_or_default();
            model.trim() == "scsi_debug"
        });
        debug.map(|name| format!("/dev/{}", name.file_name().to_string_lossy())).collect()
    };
    run("modprobe scsi_debug dev_size_mb=64 add_host=0");
    let before = disks();
    fs::write("/sys/bus/pseudo/drivers/scsi_debug/add_host", "1").expect("it can add a host");
    wait_for("scsi_debug's disk", || disks().difference(&before).next().cloned())
}

/// On a device on a SCSI disk no command reaches the disk underneath, while without the library they do.
fn leak(above: &Above) {
    let debug = debug_disk();
    let path = (above.make)(&debug);
    let address = fs::read_dir(format!("/sys/block/{}/device/scsi_device", &debug[5..])).expect("it has one");
    let address = address.flatten().next().expect("it has one").file_name().to_string_lossy().into_owned();
    let scratch = Scratch::new();
    let mut probes = vec![scratch.program("ioctl-probe")];
    if engine() == Engine::Supervisor {
        probes.push(scratch.copy(&i386_program("ioctl-probe"), "ioctl-probe-i386"));
    }
    let sent = |probe: &Path, kind: Option<&str>| {
        run("sync");
        // What the SCSI layer sends, in the kernel's log (drivers/scsi/scsi_logging.h: MLQUEUE, level 2).
        run("dmesg --clear");
        fs::write("/proc/sys/dev/scsi/logging_level", "1024").expect("it can be logged");
        let run_probe = Run::new(probe).arg(&path).arg("w");
        let run_probe = match kind {
            Some(kind) => run_probe.with(&scratch.library(), entry(&path, kind)),
            None => run_probe,
        };
        run_probe.output().expect_out();
        fs::write("/proc/sys/dev/scsi/logging_level", "0").expect("it can be stopped");
        let log = run("dmesg");
        // "sd 2:0:0:0: [sda] tag#5 CDB: Inquiry 12 00 00 00 24 00"
        let own = log.lines().filter(|line| line.contains(&format!(" {address}: ")));
        let cdbs = own.filter_map(|line| line.split_once(" CDB: "));
        let is_byte = |word: &&str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
        let codes = cdbs.filter_map(|(_, cdb)| cdb.split(' ').rev().take_while(is_byte).last());
        codes.map(str::to_owned).collect::<Vec<String>>()
    };
    // What the block layer sends by itself, for the probe writes, discards and makes zeros: READ and WRITE, WRITE SAME, UNMAP,
    // SYNCHRONIZE CACHE.
    const OWN: [&str; 10] = ["08", "28", "88", "2a", "8a", "41", "93", "42", "35", "91"];
    let foreign = |commands: &[String]| {
        commands.iter().filter(|command| !OWN.contains(&command.as_str())).cloned().collect::<Vec<_>>()
    };
    let mut lengths = Vec::new();
    for (probe, kind) in probes.iter().flat_map(|probe| ["scsi", "ide", "sata"].map(|kind| (probe, kind))) {
        let with = sent(probe, Some(kind));
        assert_eq!(foreign(&with), [""; 0]);
        assert!(with.len() <= 8, "{with:?}");
        lengths.push(with.len());
    }
    let without = sent(&probes[0], None);
    assert!(foreign(&without).len() > above.least, "{without:?}");
    println!("commands that reached the disk: {} without the engine, {lengths:?} with it", without.len());
}

/// Another test program, which `cargo test --no-run` has built; no crate of the workspace may have its name.
fn sibling(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("/proc/self/exe names it");
    let directory = own.parent().expect("it is in a directory");
    let start = format!("{name}-");
    let built = fs::read_dir(directory).expect("it can be read").flatten().filter(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        name.starts_with(&start) && !name.contains('.')
    });
    let newest = built.max_by_key(|file| file.metadata().and_then(|file| file.modified()).ok());
    newest.unwrap_or_else(|| panic!("there is no test program {name}")).path()
}

/// The answers of the machine's real disks, recorded at their first use. `GOLDEN=DIRECTORY` keeps them there.
fn recorded() -> &'static Path {
    let directory = Path::new(KEPT);
    if directory.exists() {
        return directory;
    }
    fs::create_dir_all(directory.join("i386")).expect("it can be made");
    let scratch = Scratch::new();
    let native = scratch.program("ioctl-probe");
    let i386 = scratch.copy(&i386_program("ioctl-probe"), "ioctl-probe-i386");
    for (program, subdirectory) in [(&native, ""), (&i386, "i386")] {
        for (serial, name) in [("SCSI-1", "scsi"), ("IDE-2", "ide")] {
            let path = disk(serial);
            // The tables are those of an empty disk.
            run(&format!("dd if=/dev/zero of={path} bs=1M count=2 status=none conv=fsync"));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("root can");
            for (user, mode) in [("root", "w"), ("nobody-ro", "r"), ("nobody-rw", "w")] {
                let run = Run::new(program).arg(&path).arg(mode);
                let run = if user == "root" { run } else { run.nobody() };
                let table = run.output().expect_out();
                let file = directory.join(subdirectory).join(format!("{name}.{user}.tsv"));
                fs::write(file, table).expect("it can be written");
            }
        }
    }
    directory
}

/// The answers of listed devices in the same machine, on either engine: no differences from them but those that `golden.rs` lists.
fn golden([name, program, filter, other]: [&'static str; 4]) -> Trial {
    trial(format!("golden/real-disks/{name}"), &[], move || {
        let skipped = [other, "ide/", "unlisted", "image", "large", "programs"];
        let run = Run::new(sibling(program)).env("GOLDEN", recorded()).args(["--test-threads=1", filter]);
        let outcome = run.args(skipped.iter().flat_map(|name| ["--skip", name])).output();
        assert!(outcome.success(), "{}{}", outcome.out(), outcome.err());
        println!("{}", outcome.out());
    })
}

/// Names, with the test program, which of its trials, and which of these not.
const GOLDEN: [[&str; 4]; 3] = [
    ["library", "golden", "", "i386"],
    ["supervisor", "supervisor", "golden/", "i386"],
    ["i386", "supervisor", "golden/i386/", "none"],
];

/// Installs what was built.
fn install() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = library().ancestors().nth(2).expect("TARGET").display().to_string();
    let make = Run::new("make").arg("-C").arg(&sources).args(["install", "-s"]);
    make.arg(format!("CARGO_TARGET_DIR={target}")).output().expect_out();
}

/// The whole arrangement: installed for this machine, the administrator's file, a set-user-ID program of an ordinary user.
fn set_user_id() {
    install();
    let client = Path::new("/usr/local/bin/secure-client");
    run(&format!("install -m 4755 {} {}", program("secure").display(), client.display()));
    for device in DEVICES.iter().filter(|device| ["lvm-linear", "md-raid1"].contains(&device.name)) {
        let path = made(device);
        let conf = format!("executable {}\ndevice {}=scsi\n", client.display(), path.display());
        fs::write(names::CONFIGURATION_FILE, conf).expect("root can");
        let ask = |preload: &str| {
            let run = Run::new(client).arg(&path).env("LD_PRELOAD", preload);
            run.env(names::DEVICES, entry(&path, "scsi")).nobody().output()
        };
        let (with, without) = (ask(names::LIBRARY).out(), ask("").out());
        for out in [&with, &without] {
            assert!(
                out.starts_with("uid=65534 euid=0 secure=1 ") && out.contains(" kind=block bytes="),
                "{out}"
            );
        }
        assert!(with.contains(" identity=EINVAL idlun=0"), "{with}");
        assert!(without.contains(" idlun=E"), "{without}");
    }
}

/// udev as it runs on a real system; ended and forgotten with the value.
struct Udev;

impl Udev {
    fn start() -> Udev {
        run("/lib/systemd/systemd-udevd --daemon");
        run("udevadm control --ping");
        // LVM works with it.
        let _ = fs::remove_file("/etc/lvm/lvmlocal.conf");
        Udev
    }
}

impl Drop for Udev {
    fn drop(&mut self) {
        Run::new("udevadm").args(["control", "--exit"]).output();
        let _ = fs::remove_dir_all("/run/udev");
        without_udev();
    }
}

/// The rules of `link --persist` make the links of a logical volume and an array anew: when udev looks again, and when the devices
/// come under other numbers in a system whose udev knows nothing yet.
fn links_persist() {
    run("modprobe -a dm-mod md-mod raid1");
    let udev = Udev::start();
    run(&format!("vgcreate -qq kept {}", looped(128)));
    let volume = volume("kept", "windows", "-L 64M");
    let array = array("md/kept", "1", 2);
    run("udevadm settle");
    let link = |words: &[&str]| {
        Run::new(library().with_file_name("vmware-bdwrapper")).arg("link").args(words).output().expect_out()
    };
    let made = |link: &str, device: &Path| {
        let node = device.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", device.display()));
        assert_eq!(Path::new(link).canonicalize().ok().as_ref(), Some(&node), "{link}");
        assert_eq!(run(&format!("stat -L -c %U:%G:%a {link}")), "nobody:disk:640\n");
    };
    let links = [("/dev/sd/windows", &volume), ("/dev/hd/kept", &array)];
    let forget = || {
        for (link, device) in links {
            fs::remove_file(link).expect("it was made");
            run(&format!("chown root:root {}", device.display()));
            run(&format!("chmod 600 {}", device.display()));
        }
    };
    for ((name, device), key) in links.iter().zip(["ENV{DM_UUID}==\"LVM-", "ENV{MD_UUID}==\""]) {
        let device = device.to_str().expect("names are ASCII");
        let rights = ["--owner", "nobody", "--group", "disk", "--mode", "0640", "--persist"];
        let said = link(&[&[device, "--as", name], &rights[..]].concat());
        assert!(said.contains(key), "{said}");
        made(name, Path::new(device));
    }

    for action in ["change", "add"] {
        forget();
        run(&format!("udevadm trigger --settle --subsystem-match=block --action={action}"));
        links.iter().for_each(|(link, device)| made(link, device));
    }

    run("lvchange -qq -an kept/windows");
    run(&format!("mdadm -q --stop {}", array.display()));
    run("udevadm settle");
    assert!(links.iter().all(|(link, _)| !Path::new(link).exists()), "the devices are gone");
    drop(udev);
    let _udev = Udev::start();
    // By its own rules udev assembles the array, and another volume takes the number of this one.
    run("udevadm trigger --settle --action=add");
    run("lvcreate -qq -y -Wn -Zn -n other -L 4M kept");
    run("lvchange -qq -ay kept/windows");
    run("udevadm settle");
    links.iter().for_each(|(link, device)| made(link, device));

    for (name, _) in links {
        link(&["--remove", name]);
        run("udevadm trigger --settle --subsystem-match=block");
        assert!(Path::new(name).symlink_metadata().is_err(), "{name} came back");
    }
    run("lvremove -qq -y kept");
    run(&format!("mdadm -q --stop {}", array.display()));
}
