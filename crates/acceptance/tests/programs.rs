//! Real programs on a listed device, and on one that is not listed, with the library and without.
//!
//! What they get on real disks stands in `golden/clients`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;

use acceptance::{
    Disk, Engine, Medium, Need, Outcome, Run, Scratch, Trial, assert_same, disk_trials, engine,
    main as harness, needs, pattern, program_with, trial,
};
use disk::names;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 128 * MIB;
const SECTORS: u64 = SIZE / 512;
const KINDS: [&str; 3] = ["scsi", "ide", "sata"];
const UUID: &str = "11111111-2222-3333-4444-555555555555";

fn main() -> ExitCode {
    harness(trials())
}

/// The trials, which tests/supervisor.rs runs too.
pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name: &str, tools: &[&'static str], body: fn(Medium, &'static str)| {
        trials.extend(disk_trials(name, &KINDS, tools, &[], body));
    };
    add("blockdev", &["blockdev"], blockdev);
    add("hdparm", &["hdparm"], hdparm);
    add("fdisk", &["fdisk", "sfdisk"], fdisk);
    add("sfdisk", &["sfdisk"], sfdisk);
    add("sgdisk", &["sgdisk"], sgdisk);
    add("parted", &["parted"], parted);
    add("lsblk", &["lsblk"], lsblk);
    add("ext4", &["mkfs.ext4", "e2fsck", "debugfs"], ext4);
    add("vfat", &["mkfs.vfat", "fsck.fat"], vfat);
    add("dd", &["dd"], dd);
    add("sg", &["sg_scan", "sg_inq", "sg_readcap", "sg_map"], sg);
    add("commands-stay-here", &["strace", "sg_scan", "sg_inq", "hdparm", "smartctl"], commands_stay_here);
    add("growth", &["blockdev", "fdisk"], growth);
    let traced = ["strace", "cc", "dd", "cat", "cp"];
    add("reads-and-writes", &traced, reads_and_writes);
    for (medium, name) in [(Medium::Image, "image"), (Medium::Loop, "loop")] {
        for kind in ["scsi", "sata"] {
            // The tables tell what root got.
            let tools = CLIENTS.lines().filter_map(|line| line.split(' ').nth(1)).map(Need::Tool);
            let needs: Vec<Need> = tools.chain([Need::Devices]).collect();
            trials.push(trial(format!("golden/{name}-{kind}"), &needs, move || golden(medium, kind)));
        }
        trials.extend(unlisted_trials(medium, name));
    }
    trials.push(trial("sg/two-devices", &[Need::Tool("sg_scan")], two_devices));
    trials.push(trial("geometry/option", &needs(Medium::Loop, &["fdisk", "hdparm"]), geometry_option));
    trials.push(trial("geometry/1-GiB", &needs(Medium::Loop, &["sfdisk", "hdparm"]), geometry_of_1_gib));
    trials
}

/// A program with the library, the device listed with more options.
fn with_options(disk: &Disk, options: &str, program: &str) -> Run {
    let entry = disk.entry();
    let mark = if entry.contains('=') { ',' } else { '=' };
    Run::new(program).with(&disk.scratch().library(), format!("{entry}{mark}{options}"))
}

/// A line of the output, without blanks around it.
fn has_line(outcome: &Outcome, line: &str) {
    let out = outcome.expect_out();
    assert!(out.lines().any(|found| found.trim() == line), "no line {line:?} in {out}");
}

/// All that a user sees.
fn seen(outcome: Outcome) -> (String, String, i32) {
    (outcome.out(), outcome.err(), outcome.code())
}

/// Heads and sectors a track that `HDIO_GETGEO` gives for 128 MiB.
fn heads_and_sectors(kind: &str) -> (u64, u64) {
    if kind == "scsi" { (5, 52) } else { (255, 63) }
}

/// What is on the device, read without the library.
fn content(disk: &Disk) -> Vec<u8> {
    fs::read(disk.device()).expect("the device can be read")
}

/// Makes the device as it was when it was new.
fn clear(disk: &Disk, bytes: u64) {
    write(disk.device(), &vec![0; bytes as usize]);
}

fn write(device: &Path, bytes: &[u8]) {
    use std::io::Write;
    let mut file = File::options().write(true).open(device).expect("it is ours");
    file.write_all(bytes).expect("it has room");
}

fn blockdev(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let image = medium == Medium::Image;
    let ask = |run: Run, option: &str| run.arg(option).arg(disk.path()).output();
    for (option, value) in [
        ("--getsz", "262144"),
        ("--getsize64", "134217728"),
        ("--getss", "512"),
        ("--getbsz", "4096"),
        ("--getro", "0"),
    ] {
        has_line(&ask(disk.run("blockdev"), option), value);
    }
    for (option, of_image) in
        [("--getpbsz", "4096"), ("--getiomin", "4096"), ("--getioopt", "0"), ("--getmaxsect", "2560")]
    {
        let bare = ask(Run::new("blockdev"), option);
        assert_eq!(bare.success(), !image, "{option}");
        let value = if image { of_image.to_owned() } else { bare.out() };
        has_line(&ask(disk.run("blockdev"), option), value.trim());
    }
    let ro = with_options(&disk, "ro", "blockdev");
    has_line(&ask(ro, "--getro"), "1");

    let report = |run: Run| {
        let outcome = ask(run, "--report");
        // Without the library an image gets no row, and since util-linux 2.41 a status of 1.
        assert!(outcome.success() || image && outcome.out().lines().count() == 1, "{}", outcome.err());
        let out = outcome.out();
        let row = out.lines().nth(1).map(|row| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        row.unwrap_or_default()
    };
    let row = report(disk.run("blockdev"));
    let path = disk.path().to_str().expect("test names are ASCII");
    assert_eq!([&row[..1], &row[2..]].concat(), ["rw", "512", "4096", "0", "134217728", path]);
    assert_eq!(report(with_options(&disk, "ro", "blockdev"))[0], "ro");
    let bare = report(Run::new("blockdev"));
    assert_eq!(bare, if image { Vec::new() } else { row });
    if acceptance::is_root() {
        for option in ["--flushbufs", "--rereadpt"] {
            assert_eq!(seen(ask(disk.run("blockdev"), option)), Default::default(), "{option}");
        }
    }
}

fn hdparm(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let identity = with_options(&disk, "serial=TEST-1234,model=Test Disk", "hdparm");
    let identity = identity.arg("-i").arg(disk.path()).output();
    let bare = |option: &str| Run::new("hdparm").arg(option).arg(disk.path()).output();
    assert!(!bare("-i").success());
    if kind == "scsi" {
        // hdparm ends with the errno.
        assert_eq!(identity.code(), 22, "{}", identity.err());
        assert!(identity.err().contains("HDIO_GET_IDENTITY failed: Invalid argument"), "{}", identity.err());
        assert!(!identity.out().contains("Model="), "{}", identity.out());
    } else {
        // It asks by SG_IO first, which is root's to send; what has refused it at last is then the result.
        let refused = kind == "sata" && !acceptance::is_root();
        assert_eq!(identity.code(), if refused { 25 } else { 0 }, "{}", identity.err());
        let out = identity.out();
        for part in [
            "Model=Test Disk,",
            "SerialNo=TEST-1234\n",
            "RawCHS=260/16/63,",
            "CurCHS=260/16/63, CurSects=262080, LBA=yes, LBAsects=262144\n",
        ] {
            assert!(out.contains(part), "no {part:?} in {out}");
        }
        let default = || disk.run("hdparm").arg("-i").arg(disk.path()).output().out();
        assert!(default().contains("SerialNo=BDW"), "{}", default());
        assert_eq!(default(), default());
    }

    // hdparm takes heads and sectors from HDIO_GETGEO_BIG, cylinders and size from /sys where it finds the device.
    let (heads, sectors) = heads_and_sectors(kind);
    let geometry = disk.run("hdparm").arg("-g").arg(disk.path()).output();
    if medium == Medium::Loop {
        let cylinders = SECTORS / (heads * sectors);
        let line = format!("geometry      = {cylinders}/{heads}/{sectors}, sectors = {SECTORS}, start = 0");
        has_line(&geometry, &line);
    } else {
        let out = geometry.expect_out();
        assert!(out.contains(&format!("/{heads}/{sectors}, sectors = ")), "{out}");
    }
    assert_eq!(bare("-g").code(), 25);

    let all = disk.run("hdparm").arg(disk.path()).output().expect_out();
    for (line, kinds) in [
        // It takes the identity that it did not get by SG_IO for zeros.
        (" multcount     =  0 (off)\n", if acceptance::is_root() { &KINDS[..] } else { &["ide"] }),
        (" IO_support    =  0 (default) \n", &["ide"]),
        (" using_dma     =  1 (on)\n", &["ide"]),
        (" IO_support    =  1 (32-bit)\n", &["sata"]),
        (" readonly      =  0 (off)\n", &KINDS),
    ] {
        assert_eq!(all.contains(line), kinds.contains(&kind), "{line} in {all}");
    }
    let ro = with_options(&disk, "ro", "hdparm").arg("-r").arg(disk.path()).output();
    has_line(&ro, "readonly      =  1 (on)");
}

fn fdisk(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let listing = |run: Run, options: &[&str]| run.args(options).arg("-l").arg(disk.path()).output();
    let size = format!("Disk {}: 128 MiB, 134217728 bytes, 262144 sectors", disk.path().display());
    has_line(&listing(disk.run("fdisk"), &[]), &size);

    // fdisk asks block devices alone.
    let (heads, sectors) = if medium == Medium::Loop { heads_and_sectors(kind) } else { (255, 63) };
    let units = |heads: u64, sectors: u64| {
        let cylinder = heads * sectors;
        format!("Units: cylinders of {cylinder} * 512 = {} bytes", cylinder * 512)
    };
    has_line(&listing(disk.run("fdisk"), &["-u=cylinders"]), &units(heads, sectors));
    has_line(&listing(Run::new("fdisk"), &["-u=cylinders"]), &units(255, 63));

    // Compatible with DOS, the first partition begins at the second track.
    let commands = disk.run("fdisk").args(["-c=dos", "-u=sectors"]).arg(disk.path());
    commands.stdin("o\nn\np\n1\n\n\nw\n").output().expect_out();
    let dump = Run::new("sfdisk").arg("-d").arg(disk.path()).output().expect_out();
    let dump: String = dump.split(' ').collect();
    assert!(dump.contains(&format!("1:start={sectors},size={},type=83", SECTORS - sectors)), "{dump}");
    let geometry = format!(
        "Geometry: {heads} heads, {sectors} sectors/track, {} cylinders",
        SECTORS / (heads * sectors)
    );
    has_line(&listing(disk.run("fdisk"), &["-c=dos", "-u=cylinders"]), &geometry);
}

fn sfdisk(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let show = |run: Run, option: &str| run.arg(option).arg(disk.path()).output();
    let (heads, sectors) = heads_and_sectors(kind);
    let path = disk.path().display();
    if medium == Medium::Loop {
        let cylinders = SECTORS / (heads * sectors);
        let line = format!("{path}: {cylinders} cylinders, {heads} heads, {sectors} sectors/track");
        has_line(&show(disk.run("sfdisk"), "-g"), &line);
    }
    has_line(&show(disk.run("sfdisk"), "-s"), "131072");

    let script = "label: dos\nlabel-id: 0x12345678\nstart=2048,size=4096,type=83\n\
                  start=8192,size=8192,type=c,bootable\n";
    disk.run("sfdisk").arg("-q").arg(disk.path()).stdin(script).output().expect_out();
    let dump = show(disk.run("sfdisk"), "-d").expect_out();
    assert_eq!(dump, show(Run::new("sfdisk"), "-d").expect_out());
    let words: String = dump.split(' ').collect();
    for end in [
        "label:dos",
        "label-id:0x12345678",
        "1:start=2048,size=4096,type=83",
        "2:start=8192,size=8192,type=c,bootable",
    ] {
        assert!(words.lines().any(|line| line.ends_with(end)), "no {end} in {dump}");
    }
    // What sfdisk printed can be given to it.
    clear(&disk, MIB);
    disk.run("sfdisk").arg("-q").arg(disk.path()).stdin(dump.as_str()).output().expect_out();
    assert_eq!(show(Run::new("sfdisk"), "-d").expect_out(), dump);
}

fn sgdisk(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let make = ["-o", "-U", UUID, "-n", "1:2048:10239", "-t", "1:8300", "-u", &format!("1:{UUID}")];
    disk.run("sgdisk").args(make).args(["-c", "1:data"]).arg(disk.path()).output().expect_out();
    let print = disk.run("sgdisk").arg("-p").arg(disk.path()).output().expect_out();
    assert!(print.contains(": 262144 sectors, 128.0 MiB\n"), "{print}");
    let row = ["1", "2048", "10239", "4.0", "MiB", "8300", "data"];
    assert!(print.lines().any(|line| line.split_whitespace().eq(row)), "{print}");
    let verify = disk.run("sgdisk").arg("-v").arg(disk.path()).output().expect_out();
    assert!(verify.contains("No problems found."), "{verify}");
    let partition = |run: Run| run.args(["-i", "1"]).arg(disk.path()).output().expect_out();
    assert!(partition(disk.run("sgdisk")).contains(UUID));
    assert_eq!(partition(disk.run("sgdisk")), partition(Run::new("sgdisk")));
}

fn parted(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let run = |run: Run, arguments: &[&str]| run.arg("-sm").arg(disk.path()).args(arguments).output();
    // parted asks for the geometry, but shows one of its own; it knows the model by the device number.
    let same = |arguments: &[&str]| {
        let with = run(disk.run("parted"), arguments);
        let code = with.code();
        let with = (with.out(), code);
        let without = run(Run::new("parted"), arguments);
        assert_eq!(with, (without.out(), without.code()), "{arguments:?}");
        with
    };
    let (out, code) = same(&["unit", "s", "print"]);
    // The model of a real disk would stand here.
    let what = if medium == Medium::Loop { "loopback:512:512" } else { "file:512:512" };
    assert!(code == 1 && out.contains(&format!(":262144s:{what}:unknown:")), "{out}");
    same(&["unit", "chs", "print"]);
    for label in ["msdos", "gpt"] {
        run(disk.run("parted"), &["mklabel", label]).expect_out();
        run(disk.run("parted"), &["mkpart", if label == "gpt" { "data" } else { "primary" }, "1MiB", "9MiB"])
            .expect_out();
        let (out, code) = same(&["unit", "s", "print"]);
        let partition = out.lines().any(|line| line.starts_with("1:2048s:18431s:16384s:"));
        assert!(code == 0 && partition && out.contains(&format!(":262144s:{what}:{label}:")), "{out}");
        same(&["unit", "chs", "print"]);
    }
}

fn lsblk(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    for options in [&[][..], &["-O"], &["-b", "-n", "-o", "NAME,SIZE,RO,TYPE"]] {
        let show = |run: Run| seen(run.args(options).arg(disk.path()).output());
        let with = show(with_options(&disk, "ro", "lsblk"));
        assert_eq!(with, show(Run::new("lsblk")), "{options:?}");
        assert_eq!(with.2 == 0, medium == Medium::Loop, "{options:?}: {with:?}");
    }
}

fn ext4(medium: Medium, kind: &'static str) {
    let bytes = 16 * MIB;
    let disk = Disk::new(medium, kind, bytes);
    let make = |run: Run| {
        let seed = format!("hash_seed={UUID}");
        let run = run.env("E2FSPROGS_FAKE_TIME", "1000000000").args(["-q", "-F", "-U", UUID, "-E", &seed]);
        assert_eq!(seen(run.arg(disk.path()).output()), Default::default());
        content(&disk)
    };
    let theirs = make(Run::new("mkfs.ext4"));
    clear(&disk, bytes);
    assert_same("mkfs.ext4", &make(disk.run("mkfs.ext4")), &theirs);

    let check = |run: Run| run.arg("-fn").arg(disk.path()).output().expect_out();
    assert_eq!(check(disk.run("e2fsck")), check(Run::new("e2fsck")));
    let file = disk.scratch().path("file");
    fs::write(&file, "written through the library\n").expect("the scratch directory can be written");
    let request = format!("write {} hello", file.display());
    disk.run("debugfs").args(["-w", "-R", &request]).arg(disk.path()).output().expect_out();
    for run in [Run::new("debugfs"), disk.run("debugfs")] {
        let out = run.args(["-R", "cat hello"]).arg(disk.path()).output().expect_out();
        assert_eq!(out, "written through the library\n");
    }
    check(Run::new("e2fsck"));
}

fn vfat(medium: Medium, kind: &'static str) {
    let bytes = 32 * MIB;
    let disk = Disk::new(medium, kind, bytes);
    let make = |run: Run, options: &[&str]| {
        clear(&disk, bytes);
        run.args(["--invariant", "-I"]).args(options).arg(disk.path()).output().expect_out();
        content(&disk)
    };
    let fixed = ["--mbr=no", "-g", "16/63"];
    let theirs = make(Run::new("mkfs.vfat"), &fixed);
    assert_same("mkfs.vfat", &make(disk.run("mkfs.vfat"), &fixed), &theirs);
    let check = |run: Run| run.arg("-n").arg(disk.path()).output().expect_out();
    assert_eq!(check(disk.run("fsck.fat")), check(Run::new("fsck.fat")));

    // Left to itself, mkfs.vfat records the geometry of a block device.
    let (ours, theirs) = (make(disk.run("mkfs.vfat"), &[]), make(Run::new("mkfs.vfat"), &[]));
    if medium == Medium::Image {
        assert_same("mkfs.vfat", &ours, &theirs);
    } else {
        let (heads, sectors) = if kind == "scsi" { (2, 32) } else { (255, 63) };
        assert_eq!(ours[24..28], [sectors, 0, heads, 0]);
        assert_ne!(ours[24..28], theirs[24..28]);
    }
    make(disk.run("mkfs.vfat"), &[]);
    check(Run::new("fsck.fat"));
}

fn dd(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, 4 * MIB);
    let data = disk.scratch().path("data");
    let pattern = pattern(MIB);
    fs::write(&data, &pattern).expect("the scratch directory can be written");
    let (source, target) = (format!("if={}", data.display()), format!("of={}", disk.path().display()));
    let put = ["bs=64K", "seek=3", "oflag=direct", "conv=notrunc,fsync", "status=none"];
    let put = |run: Run| {
        clear(&disk, 4 * MIB);
        assert_eq!(seen(run.args([&source, &target]).args(put).output()), Default::default());
        content(&disk)
    };
    let ours = put(disk.run("dd"));
    assert_same("dd", &ours, &put(Run::new("dd")));
    assert_same("dd", &ours[3 << 16..][..1 << 20], &pattern);

    let source = format!("if={}", disk.path().display());
    for options in [&["iflag=direct"][..], &["iflag=direct,fullblock"], &[]] {
        let get = |run: Run| {
            run.args([&source, "bs=64K", "skip=3", "count=16", "status=none"]).args(options).output()
        };
        let (with, without) = (get(disk.run("dd")), get(Run::new("dd")));
        assert_eq!((with.code(), with.err()), (0, String::new()), "{options:?}");
        assert_same("dd", &with.stdout, &pattern);
        assert_same("dd", &without.stdout, &pattern);
    }
    // What O_DIRECT does not allow is not made possible.
    let odd =
        |run: Run| seen(run.args([&source, "bs=100", "count=1", "iflag=direct", "status=none"]).output());
    assert_eq!(odd(disk.run("dd")), odd(Run::new("dd")));
}

/// What sg_scan says of the address that `SCSI_IOCTL_GET_IDLUN` gives.
fn address(disk: &Disk, run: impl Fn(&Path) -> Run, path: &Path) -> String {
    let mut client = run(&disk.scratch().program("clients")).start(&disk.scratch().path("stderr"));
    let fd = client.ask(&format!("open open {}", path.display()));
    let answer = client.ask(&format!("get {} 0x5382 8", fd.trim_end_matches(" -")));
    let bytes = answer.strip_prefix("0 - ").unwrap_or_else(|| panic!("SCSI_IOCTL_GET_IDLUN: {answer}"));
    let byte = |at: usize| u8::from_str_radix(&bytes[2 * at..][..2], 16).expect("clients prints hexadecimal");
    let [id, lun, channel, host] = [0, 1, 2, 3].map(byte);
    format!("{}: scsi{host} channel={channel} id={id} lun={lun} [em]", path.display())
}

fn sg(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let ide = kind == "ide";
    let scan = |run: Run| run.arg(disk.path()).output();
    let with = scan(disk.run("sg_scan"));
    if ide {
        // At last it sends a command, which is root's to send.
        let name = disk.path().display();
        let (out, err) = if acceptance::is_root() {
            (format!("{name}: ATA device\n"), String::new())
        } else {
            let skipped = format!("device {name} failed on scsi+ata ioctl, skip: Permission denied");
            (String::new(), skipped)
        };
        assert_eq!((with.code(), with.out()), (0, out), "{}", with.err());
        assert!(with.err().contains(&err) && err.is_empty() == with.err().is_empty(), "{}", with.err());
    } else {
        let line = address(&disk, |program| disk.run(program), disk.path()) + "\n";
        assert_eq!(seen(with), (line.clone(), String::new(), 0));
        let with_inquiry = scan(disk.run("sg_scan").arg("-i"));
        let vendor = if kind == "sata" { "ATA     " } else { "BDWRAP  " };
        let inquiry = format!("    {vendor}  BDWRAPPER DISK    1.0  [rmb=0 cmdq=1 pqual=0 pdev=0x0] \n");
        assert_eq!(seen(with_inquiry), (line + &inquiry, String::new(), 0));
    }
    assert!(scan(Run::new("sg_scan")).err().contains("failed on scsi+ata ioctl, skip: "));

    for (program, part) in
        [("sg_inq", "Product identification: BDWRAPPER DISK"), ("sg_readcap", "Last LBA=262143")]
    {
        let outcome = disk.run(program).arg(disk.path()).output();
        if ide {
            // sg3_utils ends with 50 and the errno.
            assert_eq!((outcome.out(), outcome.code()), (String::new(), 72), "{program}: {}", outcome.err());
            assert!(
                outcome.err().contains(&format!("{program} failed: Invalid argument")),
                "{}",
                outcome.err()
            );
        } else {
            assert!(outcome.expect_out().contains(part), "no {part:?} in {}", outcome.out());
        }
    }
    // They look for the machine's sg devices alone.
    for program in [&["sg_map"][..], &["sg_map", "-i"], &["sg_scan"]] {
        let (with, without) = (disk.run(program[0]), Run::new(program[0]));
        let show = |run: Run| seen(run.args(&program[1..]).output());
        assert_eq!(show(with), show(without), "{program:?}");
    }
}

fn two_devices() {
    let scratch = Disk::new(Medium::Image, "scsi", MIB);
    let (first, second) = (scratch.scratch().image("first", MIB), scratch.scratch().image("second", MIB));
    let entries = format!("{}=sata:{}=scsi", first.display(), second.display());
    let run = |program: &Path| Run::new(program).with(&scratch.scratch().library(), &entries);
    let outcome = run(Path::new("sg_scan")).args([&first, &second]).output();
    let lines = [&first, &second].map(|path| address(&scratch, run, path));
    assert_eq!(outcome.expect_out(), format!("{}\n{}\n", lines[0], lines[1]));
    let tail = |line: &str| line.split_once(": ").map(|(_, tail)| tail.to_owned());
    assert_ne!(tail(&lines[0]), tail(&lines[1]));
}

/// The kernel gets no disk request but those of the block layer.
fn commands_stay_here(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let trace = disk.scratch().path("trace");
    for program in [
        &["sg_scan", "-i"][..],
        &["sg_inq"],
        &["sg_readcap"],
        &["sg_sync"],
        &["sg_start", "--stop"],
        &["sg_unmap", "--lba=0", "--num=8", "--force"],
        &["sg_persist", "-k"],
        &["hdparm", "-I"],
        &["hdparm", "-i", "-g", "-C"],
        &["hdparm", "-F", "-W0", "-A1", "-N", "-y"],
        &["hdparm", "--yes-i-know-what-i-am-doing", "--write-sector", "9"],
        &["smartctl", "-d", if kind == "ide" { "ata" } else { "sat" }, "-x", "-t", "short"],
    ] {
        let options = ["-X", "raw", "-y", "-e", "trace=ioctl", "-e", "signal=none"];
        let run = disk.run(program[0]).level(1000).args(&program[1..]).arg(disk.path());
        let is_library = engine() == Engine::Library;
        let log = if is_library { run.traced(&trace, options).output() } else { run.output() }.err();
        assert!(COMMANDS.iter().any(|command| log.contains(command)), "{program:?} sends no command: {log}");
        if !is_library {
            // strace(1) sees what a program asks, not who answers it.
            for line in log.lines().filter(|line| line.contains("left to the kernel")) {
                assert!(line.contains(", BLK"), "{program:?}: {line}");
            }
            continue;
        }
        let text = fs::read_to_string(&trace).expect("strace wrote it");
        for (fd, request) in text.lines().filter_map(ioctl) {
            let kernels = fd.ends_with(&format!("<{}>", disk.device().display()));
            assert!(!kernels || request >> 8 & 0xff == 0x12, "{program:?}: {text}");
        }
    }
}

fn growth(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    for size in [SIZE, 3 * SIZE, 2 * SIZE] {
        File::options()
            .write(true)
            .open(disk.image())
            .and_then(|file| file.set_len(size))
            .expect("it is ours");
        if medium == Medium::Loop {
            disk.loop_device().resize();
        }
        let ask = |option: &str| disk.run("blockdev").arg(option).arg(disk.path()).output();
        has_line(&ask("--getsize64"), &size.to_string());
        has_line(&ask("--getsz"), &(size / 512).to_string());
        let listing = disk.run("fdisk").arg("-l").arg(disk.path()).output().expect_out();
        assert!(listing.contains(&format!(" {size} bytes, {} sectors\n", size / 512)), "{listing}");
    }
}

fn geometry_option() {
    for kind in KINDS {
        let disk = Disk::new(Medium::Loop, kind, SIZE);
        let run = |program: &str| with_options(&disk, "geometry=7/16/63", program);
        let units = run("fdisk").args(["-u=cylinders", "-l"]).arg(disk.path()).output();
        has_line(&units, "Units: cylinders of 1008 * 512 = 516096 bytes");
        // hdparm computes the cylinders.
        let geometry = run("hdparm").arg("-g").arg(disk.path()).output();
        has_line(&geometry, "geometry      = 260/16/63, sectors = 262144, start = 0");
    }
}

fn geometry_of_1_gib() {
    for (kind, geometry) in [("scsi", [1011, 34, 61]), ("ide", [130, 255, 63]), ("sata", [130, 255, 63])] {
        let disk = Disk::new(Medium::Loop, kind, 1024 * MIB);
        let [cylinders, heads, sectors] = geometry;
        let line = format!("geometry      = {cylinders}/{heads}/{sectors}, sectors = 2097152, start = 0");
        has_line(&disk.run("hdparm").arg("-g").arg(disk.path()).output(), &line);
        let path = disk.path().display();
        let line = format!("{path}: {cylinders} cylinders, {heads} heads, {sectors} sectors/track");
        has_line(&disk.run("sfdisk").arg("-g").arg(disk.path()).output(), &line);
    }
}

// What real disks gave.

/// Programs of `golden/clients`, in an order in which each finds the device as it did there; `DEV` is the device. The
/// word before is the media that they can be used on.
const CLIENTS: &str = "\
both blockdev --flushbufs DEV
both blockdev --getsz DEV
both blockdev --report DEV
both blockdev --rereadpt DEV
both hdparm DEV
both hdparm -f DEV
both hdparm -g DEV
both hdparm -i DEV
both hdparm -r DEV
both hdparm -z DEV
both fdisk -l DEV
both sfdisk -l DEV
both sgdisk -p DEV
both parted -s DEV unit s print
loop blkid -p DEV
loop blkdiscard DEV
loop blkdiscard -z -o 0 -l 1048576 DEV
both parted -s DEV mklabel msdos
loop parted -s DEV mkpart primary 1MiB 100%
loop partprobe DEV
both dd if=/dev/zero of=DEV bs=4096 count=4 oflag=direct conv=notrunc
both mkfs.ext4 -F -q DEV
both e2fsck -fn DEV
loop lsblk -O DEV
";

/// Requests that carry a command.
const COMMANDS: [&str; 2] = ["SG_IO", "HDIO_DRIVE_CMD"];

/// The exit status, and what each request got: an errno, or nothing.
type Client = (i32, BTreeMap<String, BTreeSet<String>>);

/// A row of a table, whose names are cut off.
fn golden_client(table: &str, command: &str) -> Client {
    let name: String = command.replace([' ', '/'], "_").chars().take(40).collect();
    let row = table.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(" rc="));
    let row = row.unwrap_or_else(|| panic!("no row {name}"));
    let columns: Vec<&str> = row.split(" | ").collect();
    let mut requests = BTreeMap::<_, BTreeSet<_>>::new();
    for word in columns[2].split_whitespace() {
        let (name, outcome) = word.split_once('!').unwrap_or((word, ""));
        // How often stands behind.
        let once = |text: &str| match text.rsplit_once('x') {
            Some((text, count)) if count.parse::<u32>().is_ok() => text.to_owned(),
            _ => text.to_owned(),
        };
        // Which command it carries, and its status, stand behind.
        let name = once(name).split('(').next().unwrap_or_default().to_owned();
        requests.entry(name).or_default().insert(once(outcome));
    }
    (columns[0].parse().expect("an exit status"), requests)
}

/// What the program got, from its messages at level 1000.
fn client(disk: &Disk, command: &str) -> Client {
    let path = disk.path().to_str().expect("test names are ASCII");
    let words: Vec<String> = command.split(' ').map(|word| word.replace("DEV", path)).collect();
    let outcome = disk.run(&words[0]).args(&words[1..]).level(1000).output();
    let mut requests = BTreeMap::<_, BTreeSet<_>>::new();
    for line in outcome.err().lines() {
        let Some((_, line)) = line.split_once(": ioctl(") else { continue };
        let name = line.split(", ").nth(1).expect("a request follows the descriptor").to_owned();
        // The supervisor does not know what the kernel has answered.
        let Some((_, result)) = line.split_once(&format!(" on {path} = ")) else {
            assert!(line.ends_with(&format!(" on {path}, left to the kernel")), "{line}");
            continue;
        };
        let error = result.strip_prefix("-1 ").and_then(|rest| rest.split(',').next()).unwrap_or_default();
        requests.entry(name).or_default().insert(error.to_owned());
    }
    (outcome.code(), requests)
}

fn golden(medium: Medium, kind: &'static str) {
    let table = if kind == "scsi" { "scsi-qemu" } else { "ata-libata" };
    let table = format!("{}/golden/clients/{table}.txt", env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(&table).unwrap_or_else(|error| panic!("{table}: {error}"));
    let disk = Disk::new(medium, kind, SIZE);
    let (mut compared, mut wrong) = (0, Vec::new());
    for line in CLIENTS.lines() {
        let (media, command) = line.split_once(' ').expect("a word stands before");
        if media == "loop" && medium == Medium::Image {
            continue;
        }
        let (status, requests) = client(&disk, command);
        let (real_status, real) = golden_client(&table, command);
        if status != real_status {
            wrong.push(format!("{command} ended with {status}, not {real_status}"));
        }
        for (name, outcomes) in &requests {
            let Some(real) = real.get(name) else { continue };
            compared += 1;
            if !outcomes.is_subset(real) {
                wrong.push(format!("{command}: {name} got {outcomes:?}, not {real:?}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    let least = if medium == Medium::Loop { 60 } else { 15 };
    assert!(compared >= least, "only {compared} requests were compared");
}

// A device that is not listed.

/// `DEV` is the device, `COPY` a new file.
const UNLISTED: [&str; 12] = [
    "blockdev --report DEV",
    "hdparm -g DEV",
    "hdparm -i DEV",
    "fdisk -l DEV",
    "sfdisk -d DEV",
    "parted -s DEV unit chs print",
    "lsblk -O DEV",
    "dd if=DEV of=/dev/null bs=64K iflag=direct status=none",
    "sg_scan -i DEV",
    "sg_inq DEV",
    "cat DEV",
    "cp DEV COPY",
];

/// On a listed device these do nothing but read and write.
const READ_AND_WRITE: [&str; 4] = [
    "dd if=DEV of=/dev/null bs=64K iflag=direct status=none",
    "dd if=/dev/zero of=DEV bs=64K count=4 oflag=direct conv=notrunc,fsync status=none",
    "cat DEV",
    "cp DEV COPY",
];

fn unlisted_trials(medium: Medium, medium_name: &str) -> Vec<Trial> {
    let one = |command: &'static str| {
        let mut words = command.split(' ');
        let program = words.next().expect("a program stands first");
        let option = words.next().filter(|word| word.starts_with('-')).unwrap_or_default();
        let name = format!("unlisted/{medium_name}/{program}{}", option.replace("--", "-"));
        trial(name, &needs(medium, &["strace", "cc", "sfdisk", program]), move || unlisted(medium, command))
    };
    UNLISTED.map(one).into()
}

fn unlisted(medium: Medium, command: &'static str) {
    let disk = Disk::new(medium, "scsi", 8 * MIB);
    let table = "label: dos\nlabel-id: 0x12345678\nstart=2048,size=4096,type=83\n";
    Run::new("sfdisk").arg("-q").arg(disk.path()).stdin(table).output().expect_out();
    let (listed, missing) = (disk.scratch().image("listed", MIB), disk.scratch().path("missing"));
    Case {
        scratch: disk.scratch(),
        device: disk.path(),
        command,
        entries: format!("{}=ide:{}=scsi", missing.display(), listed.display()),
        names: vec![&missing, &listed],
    }
    .check();
}

fn reads_and_writes(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, 4 * MIB);
    write(disk.device(), &pattern(4 * MIB));
    for command in READ_AND_WRITE {
        let (device, names) = (disk.path(), vec![disk.path()]);
        Case { scratch: disk.scratch(), device, command, entries: disk.entry(), names }.check();
    }
}

/// A program with the library and without.
struct Case<'a> {
    scratch: &'a Scratch,
    device: &'a Path,
    command: &'a str,
    entries: String,
    /// The names in the entries.
    names: Vec<&'a Path>,
}

impl Case<'_> {
    fn run(&self) -> Run {
        let (device, copy) = (self.device.display().to_string(), self.scratch.path("copy"));
        let _ = fs::remove_file(&copy);
        let copy = copy.display().to_string();
        let mut words =
            self.command.split(' ').map(|word| word.replace("DEV", &device).replace("COPY", &copy));
        let program = words.next().expect("a program stands first");
        Run::new(program).args(words).env(names::DEVICES, &self.entries)
    }

    /// The user sees the same, and the kernel is asked the same.
    fn check(&self) {
        let library = self.scratch.library();
        let nothing = program_with("secure-nothing", "secure-nothing.so", &["-shared", "-fPIC"]);
        let nothing = self.scratch.copy(&nothing, "nothing.so");
        let bare = self.run().output();
        let bare_copy = fs::read(self.scratch.path("copy")).ok();
        let assert_same_result = |run: Run| {
            let outcome = run.output();
            assert_eq!((outcome.status, outcome.err()), (bare.status, bare.err()), "{:?}", self.command);
            assert_same("the output", &outcome.stdout, &bare.stdout);
            assert!(fs::read(self.scratch.path("copy")).ok() == bare_copy, "the copy differs");
        };
        assert_same_result(self.run().env("LD_PRELOAD", &library));
        let [theirs, ours] = [&nothing, &library].map(|preloaded| {
            let file = self.scratch.path("trace");
            let options = ["-X", "raw", "-y", "-a", "1", "-s", "256", "-e", "signal=none"];
            assert_same_result(self.run().env("LD_PRELOAD", preloaded).traced(&file, options));
            let text = fs::read_to_string(&file).expect("strace wrote it");
            let lines = comparable(&text, preloaded.to_str().expect("test names are ASCII"));
            if self.command.starts_with("hdparm ") { without_raid_test(lines) } else { lines }
        });
        self.compare(&theirs, &ours);
    }

    /// What our trace has more: the listed names are looked at when the program starts, and again, after the descriptor,
    /// before each disk request.
    fn compare(&self, theirs: &[String], ours: &[String]) {
        let mut theirs = theirs.iter().peekable();
        let (mut added, mut started) = (Vec::new(), false);
        for line in ours {
            if theirs.next_if_eq(&line).is_none() {
                added.push(line.as_str());
                continue;
            }
            let lines = std::mem::take(&mut added);
            match ioctl(line) {
                Some((fd, request)) if disk::request::family(request).is_some() => {
                    self.assert_descriptor(fd, &lines, line);
                }
                _ if lines.is_empty() => {}
                _ => {
                    assert!(!started, "{:?}: added before {line}: {lines:#?}", self.command);
                    started = true;
                    self.assert_names(&lines, line);
                }
            }
        }
        assert_eq!(theirs.next(), None, "{:?} does it no more, but: {:#?}", self.command, added.first());
        assert_eq!(added, [""; 0], "{:?}: added at the end", self.command);
        assert!(started, "{:?}: the names were not looked at", self.command);
    }

    /// The lines are one look at each listed name. What is learned once of a block device stands in /sys and /proc.
    fn assert_names(&self, lines: &[&str], before: &str) {
        let is_learned = |line: &&&str| {
            line.contains("\"/sys/dev/block/") || line.contains("\"/proc/thread-self/ns/user\"")
        };
        let lines: Vec<&str> = lines.iter().filter(|line| !is_learned(line)).copied().collect();
        let looks = |(line, name): (&&str, &&Path)| {
            line.starts_with("statx(-100<") && line.contains(&format!("\"{}\"", name.display()))
        };
        let same = lines.len() == self.names.len() && lines.iter().zip(&self.names).all(looks);
        assert!(same, "{:?}: added before {before}: {lines:#?}", self.command);
    }

    /// The lines are one look at the descriptor, and where that may be a disk one at each listed name.
    fn assert_descriptor(&self, fd: &str, lines: &[&str], before: &str) {
        let (first, names) =
            lines.split_first().unwrap_or_else(|| panic!("nothing was added before {before}"));
        let looks = first.starts_with(&format!("fstat({fd}, "));
        assert!(looks, "added before {before}: {lines:#?}");
        let mode = first.split_once("_mode=0").and_then(|(_, rest)| rest.split(',').next());
        let mode = mode.and_then(|mode| u32::from_str_radix(mode, 8).ok());
        match mode.unwrap_or_else(|| panic!("no mode in {first}")) & 0o170000 {
            0o060000 | 0o100000 => self.assert_names(names, before),
            _ => assert_eq!(names, [""; 0], "before {before}"),
        }
    }
}

/// The descriptor and the number of a request, from a line of strace(1) with the options `-X raw -y`.
fn ioctl(line: &str) -> Option<(&str, u32)> {
    let (fd, rest) = line.strip_prefix("ioctl(")?.split_once(", ")?;
    let number = rest.strip_prefix("0x").unwrap_or(rest);
    let number = &number[..number.find([',', ')']).expect("a request ends")];
    Some((fd, u32::from_str_radix(number, 16).unwrap_or_else(|error| panic!("{error}: {line}"))))
}

/// The lines of a trace, without the loader's work on the preloaded library and what is never the same twice.
fn comparable(trace: &str, preloaded: &str) -> Vec<String> {
    assert!(trace.contains(preloaded), "{preloaded} was not loaded: {trace}");
    // Other devices come and go while hdparm looks for its own among them all.
    let is_search = |line: &str| line.contains("\"/sys/block") || line.contains("</sys/");
    let lines: Vec<&str> =
        trace.lines().filter(|line| !line.contains(preloaded) && !is_search(line)).collect();
    // Last, the loader protects what it has mapped.
    let mapped = lines.iter().rposition(|line| line.starts_with("mprotect(")).unwrap_or(0);
    let memory =
        |line: &str| ["mmap(", "mprotect(", "munmap(", "brk("].iter().any(|call| line.starts_with(call));
    let kept = lines.iter().enumerate().filter(|(at, line)| *at > mapped || !memory(line));
    kept.map(|(_, line)| without_chance(line)).collect()
}

/// What hdparm does, without a look at the descriptor that it takes or not by a variable that it has not set (`md_major` in
/// its geom.c, where the kernel has no md driver).
fn without_raid_test(lines: Vec<String>) -> Vec<String> {
    let is_look = |line: &String| line.starts_with("fstat(") || line.starts_with("newfstatat(3<");
    let mut lines = VecDeque::from(lines);
    let mut kept = Vec::new();
    while let Some(line) = lines.pop_front() {
        if line.starts_with("close(") && line.contains("</proc/devices>") {
            let mut found = lines.iter().take_while(|line| is_look(line)).count();
            // The last one is ours where we look at the names next.
            if lines.get(found).is_some_and(|line| line.starts_with("statx(-100<")) {
                found -= 1;
            }
            lines.drain(..found);
        }
        kept.push(line);
    }
    kept
}

/// A line without addresses, process numbers, pipes and random bytes.
fn without_chance(line: &str) -> String {
    let chance =
        ["getrandom(", "set_tid_address(", "clone", "vfork(", "wait4(", "getpid(", "readlink(\"/proc/self\""];
    if let Some(call) = chance.iter().find(|call| line.starts_with(**call)) {
        return call.to_string();
    }
    let mut line = line.to_owned();
    // sg_scan does not say which sectors (HDIO_DRIVE_CMD).
    if matches!(ioctl(&line), Some((_, 0x31f))) {
        let part = line.find('{').zip(line.find('}'));
        line.replace_range(part.map_or(0..0, |(start, end)| start..end), "");
    }
    let without_after = |text: String, mark: &str, base: u32, least: usize| {
        let mut parts = text.split(mark);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |done, part| {
            let rest = part.trim_start_matches(|digit: char| digit.is_digit(base));
            done + mark + if part.len() - rest.len() < least { part } else { rest }
        })
    };
    // Shorter hexadecimal numbers are no addresses.
    let marks = [("0x", 16, 9), ("pipe:[", 10, 1), ("socket:[", 10, 1), ("/proc/", 10, 1)];
    marks.into_iter().fold(line, |line, (mark, base, least)| without_after(line, mark, base, least))
}
