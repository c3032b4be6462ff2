//! Programs that send ATA commands, on listed devices: through SG_IO to a `sata` disk, through `HDIO_DRIVE_…` to an `ide`
//! disk.
//!
//! What they get on a real disk behind libata stands in `golden/clients/ata-libata.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::ExitCode;

use acceptance::{
    Disk, Medium, Need, Run, Scratch, Trial, assert_same, clients, command, disk_trials, main as harness,
    needs, trial,
};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 * MIB;
const SECTORS: u64 = SIZE / 512;
const ATA_ID: &str = "/lib/udev/ata_id";

fn main() -> ExitCode {
    harness(trials())
}

/// The trials, which tests/supervisor.rs runs too.
pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    // Only root may send ATA commands.
    let mut add = |name: &str, tools: &[&'static str], body: fn(Medium, &'static str)| {
        trials.extend(disk_trials(name, &["sata", "ide"], tools, &[Need::Root], body));
    };
    add("hdparm", &["hdparm"], hdparm);
    add("hdparm-identity", &["hdparm"], hdparm_identity);
    add("sectors", &["hdparm"], sectors);
    add("write-protected", &["hdparm"], write_protected);
    add("smartctl", &["smartctl"], smartctl);
    add("ata_id", &[ATA_ID], ata_id);
    add("user", &["hdparm", ATA_ID], user);
    for (medium, name) in [(Medium::Image, "image"), (Medium::Loop, "loop")] {
        let tools = ["sg_sat_identify", "sg_vpd", "sdparm"];
        let needs: Vec<Need> = needs(medium, &tools).into_iter().chain([Need::Root]).collect();
        trials.push(trial(format!("sat/{name}"), &needs, move || sat(medium)));
        trials.push(trial(
            format!("trim/{name}"),
            &[&needs[..], &[Need::Tool("hdparm")]].concat(),
            move || trim(medium),
        ));
    }
    let needs = [clients::needs(clients::LIST), vec![Need::Tool("nvme")]].concat();
    trials.push(trial("list/libata", &needs, list));
    trials.push(trial("timings", &[Need::Tool("hdparm"), Need::Devices], || {
        check(&Disk::new(Medium::Loop, "ide", SIZE), &[("hdparm -tT DEV", 0, "Timing buffered disk reads")]);
    }));
    trials.push(trial("sector/4096", &[Need::Tool("hdparm"), Need::Root], big_sectors));
    trials
}

/// Invocations, the exit status, and a part of what is said; hdparm ends with the errno.
fn check(disk: &Disk, invocations: &[(&str, i32, &str)]) {
    let mut wrong = Vec::new();
    for (text, status, part) in invocations {
        let outcome = command(disk, text).output();
        let said = outcome.out() + &outcome.err();
        if outcome.code() != *status || !clients::says(&said, part) {
            wrong.push(format!("{text}: {}, not {status} {part:?}: {said}", outcome.code()));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

const HDPARM: &[(&str, i32, &str)] = &[
    ("hdparm -A DEV", 0, " look-ahead    =  1 (on)"),
    ("hdparm -A0 DEV", 0, " look-ahead    =  0 (off)"),
    ("hdparm -B DEV", 0, " APM_level\t= off"),
    ("hdparm -B128 DEV", 0, " APM_level\t= 128"),
    ("hdparm -B255 DEV", 0, " APM_level\t= off"),
    ("hdparm -C DEV", 0, "drive state is:  active/idle"),
    ("hdparm -F DEV", 0, ""),
    ("hdparm -M DEV", 0, " acoustic      = not supported"),
    ("hdparm -N DEV", 0, " max sectors   = 131072/131072, HPA is disabled"),
    ("hdparm -S 120 DEV", 0, " setting standby to 120 (10 minutes)"),
    ("hdparm -W DEV", 0, " write-caching =  1 (on)"),
    ("hdparm -W0 DEV", 0, " write-caching =  0 (off)"),
    ("hdparm -W1 DEV", 0, " write-caching =  1 (on)"),
    ("hdparm -y DEV", 0, "issuing standby command"),
    ("hdparm -Y DEV", 0, "issuing sleep command"),
    ("hdparm --idle-immediate DEV", 0, "issuing idle_immediate command"),
    ("hdparm -f DEV", 0, ""),
    // Nothing but hdparm's own question whether it may.
    ("hdparm --fwdownload /etc/passwd DEV", 1, ""),
    // What the disk does not have.
    ("hdparm --security-freeze DEV", 5, "Input/output error"),
    ("hdparm --user-master u --security-set-pass X DEV", 5, "Input/output error"),
    ("hdparm --sanitize-status DEV", 22, "SANITIZE feature set is not supported"),
    ("hdparm -H DEV", 5, "Input/output error"),
    ("hdparm -s1 --yes-i-know-what-i-am-doing DEV", 5, "Input/output error"),
];

fn hdparm(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    check(&disk, HDPARM);
    let all: &[_] = match kind {
        "ide" => &[
            ("hdparm -m16 DEV", 0, " multcount     = 16 (on)"),
            ("hdparm -d0 DEV", 0, " using_dma     =  0 (off)"),
            ("hdparm -X udma4 DEV", 0, "setting xfermode to 68 (UltraDMA mode4)"),
            ("hdparm -X udma6 DEV", 22, "Invalid argument"),
            (
                "hdparm DEV",
                0,
                " multcount     =  0 (off)\n IO_support    =  0 (default) \n unmaskirq     =  0 (off)",
            ),
        ],
        _ => &[
            ("hdparm --yes-i-know-what-i-am-doing -m16 DEV", 0, " multcount     = 16 (on)"),
            ("hdparm -X udma6 DEV", 0, "setting xfermode to 70 (UltraDMA mode6)"),
            (
                "hdparm DEV",
                0,
                " multcount     =  0 (off)\n IO_support    =  1 (32-bit)\n readonly      =  0 (off)",
            ),
        ],
    };
    check(&disk, all);
    // A firmware of whole sectors is sent, and refused.
    let firmware = disk.scratch().image("firmware", 4096);
    let update = format!(
        "hdparm --yes-i-know-what-i-am-doing --please-destroy-my-drive --fwdownload {} DEV",
        firmware.display()
    );
    let refused = command(&disk, &update).output();
    assert!(!refused.success(), "{}", refused.out());
}

fn hdparm_identity(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let out = command(&disk, "hdparm -I DEV").output();
    assert_eq!(out.err(), "");
    let out = out.expect_out();
    for part in [
        "Model Number:       BDWRAPPER DISK",
        "Serial Number:      BDW",
        "\tLikely used: 10\n",
        "LBA    user addressable sectors:      131072",
        "LBA48  user addressable sectors:      131072",
        "Logical  Sector size:                   512 bytes",
        "R/W multiple sector transfer: Max = 16\tCurrent = 0",
        "   *\tSMART feature set",
        "   *\tWrite cache",
        "   *\tLook-ahead",
        "    \tAdvanced Power Management feature set",
        "   *\t48-bit Address feature set",
        "   *\tMandatory FLUSH_CACHE",
        "   *\tFLUSH_CACHE_EXT",
        "   *\tSMART error logging",
        "   *\tSMART self-test",
        "   *\tGeneral Purpose Logging feature set",
        "   *\tWRITE_{DMA|MULTIPLE}_FUA_EXT",
        "   *\t64-bit World wide name",
        "   *\t{READ,WRITE}_DMA_EXT_GPL commands",
        "Checksum: correct",
        if kind == "sata" { "*udma6" } else { "*udma5" },
        if kind == "sata" { "SATA Rev 3.0" } else { "Parallel, ATA8-APT" },
    ] {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
    // The image's file system punches holes; what a loop device can follows from its image.
    assert!(out.contains("   *\tData Set Management TRIM supported (limit 8 blocks)"), "{out}");
    assert!(out.contains("   *\tDeterministic read ZEROs after TRIM"), "{out}");
    // The same sector, in words.
    let words = command(&disk, "hdparm --Istdout DEV").output().expect_out();
    let words = words.lines().skip_while(|line| !line.starts_with("0040 ")).collect::<Vec<_>>().join(" ");
    let bytes: Vec<u8> = words
        .split(' ')
        .flat_map(|word| u16::from_str_radix(word, 16).expect("a word").to_le_bytes())
        .collect();
    assert_eq!(bytes.len(), 512);
    assert_eq!(bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)), 0, "the checksum");
    if kind == "sata" {
        let said = Run::new("hdparm").arg("--Istdin").stdin(words).output().expect_out();
        assert!(said.contains("BDWRAPPER DISK") && said.contains("Checksum: correct"), "{said}");
    }
}

fn read_sector(disk: &Disk, sector: u64) -> Vec<u8> {
    let out = command(disk, &format!("hdparm --read-sector {sector} DEV")).output().expect_out();
    let words = out.lines().skip_while(|line| !line.starts_with("reading sector"));
    words
        .skip(1)
        .flat_map(|line| line.split(' '))
        .flat_map(|word| u16::from_str_radix(word, 16).expect("a word").to_be_bytes())
        .collect()
}

fn fill(disk: &Disk, byte: u8, sector: u64, sectors: u64) {
    let device = File::options().write(true).open(disk.device()).expect("it is ours");
    device.write_all_at(&vec![byte; 512 * sectors as usize], 512 * sector).expect("it has room");
}

fn sector_on(disk: &Disk, sector: u64) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    let device = File::open(disk.device()).expect("it is ours");
    device.read_exact_at(&mut bytes, 512 * sector).expect("it is there");
    bytes
}

const WRITE: &str = "hdparm --yes-i-know-what-i-am-doing --write-sector";

fn sectors(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    for sector in [0, 5, SECTORS - 1] {
        fill(&disk, 0x5a, sector, 1);
        assert_same("what hdparm reads", &read_sector(&disk, sector), &[0x5a; 512]);
        let written = command(&disk, &format!("{WRITE} {sector} DEV")).output();
        assert!(written.expect_out().contains("succeeded"), "{}", written.err());
        assert_same("what hdparm wrote", &sector_on(&disk, sector), &[0; 512]);
    }
    fill(&disk, 0x5a, SECTORS - 2, 2);
    let behind = [
        (format!("hdparm --read-sector {SECTORS} DEV"), 5),
        (format!("{WRITE} {SECTORS} DEV"), 5),
        (format!("hdparm --read-sector {} DEV", 1u64 << 40), 5),
    ];
    for (text, status) in &behind {
        check(&disk, &[(text, *status, "Input/output error")]);
    }
    assert_same("the sector before", &sector_on(&disk, SECTORS - 1), &[0x5a; 512]);
}

fn write_protected(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    fill(&disk, 0x5a, 7, 1);
    let mark = if disk.entry().contains('=') { ',' } else { '=' };
    let run = |text: &str| {
        let mut words = text.split(' ');
        let program = words.next().expect("a program stands first");
        let run = Run::new(program).with(&disk.scratch().library(), format!("{}{mark}ro", disk.entry()));
        run.args(words).arg(disk.path()).output()
    };
    assert_eq!(run(&format!("{WRITE} 7")).code(), 5);
    assert!(!run("hdparm --please-destroy-my-drive --trim-sector-ranges 7:1").success());
    assert_same("the sector", &sector_on(&disk, 7), &[0x5a; 512]);
    for text in ["hdparm --read-sector 7", "hdparm -F", "hdparm -W0", "hdparm -y"] {
        assert!(run(text).success(), "{text}");
    }
}

fn trim(medium: Medium) {
    let disk = Disk::new(medium, "sata", SIZE);
    fill(&disk, 0x5a, 0, 64);
    let trimmed =
        command(&disk, "hdparm --please-destroy-my-drive --trim-sector-ranges 8:8 32:16 DEV").output();
    assert!(trimmed.expect_out().contains("succeeded"), "{}", trimmed.err());
    for sector in 0..64 {
        let gone = (8..16).contains(&sector) || (32..48).contains(&sector);
        assert_same("a sector", &sector_on(&disk, sector), &[if gone { 0 } else { 0x5a }; 512]);
    }
    let behind = format!("hdparm --please-destroy-my-drive --trim-sector-ranges 0:8 {SECTORS}:1 DEV");
    check(&disk, &[(&behind, 5, "Input/output error")]);
    assert_same("the first sector", &sector_on(&disk, 0), &[0x5a; 512]);
}

fn smartctl(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let sata = kind == "sata";
    let run = |options: &str| {
        let kind = if sata { "sat" } else { "ata" };
        command(&disk, &format!("smartctl -d {kind} {options} DEV")).output()
    };
    let parts: &[(&str, &str)] = &[
        ("-i", "Device Model:     BDWRAPPER DISK"),
        ("-i", "User Capacity:    67,108,864 bytes"),
        ("-i", "Sector Size"),
        ("-i", "ATA Version is:   ACS-3"),
        ("-i", "TRIM Command:     Available, deterministic, zeroed"),
        ("-i", "SMART support is: Enabled"),
        ("-H", "SMART overall-health self-assessment test result: PASSED"),
        ("-A", "START OF READ SMART DATA SECTION"),
        ("-c", "Self-test supported."),
        ("-c", "SMART execute Offline immediate."),
        ("-a", "No Errors Logged"),
        ("-a", "No self-tests have been logged."),
        ("-l error", "No Errors Logged"),
        ("-l selftest", "No self-tests have been logged."),
        ("-l directory,s", "0x06           SL  R/O      1  SMART self-test log"),
        ("-l smartlog,0x06", "SMART Log 0x06 [SMART self-test log], Page 0-0 (of 1)"),
        ("-g all", "Write cache is:   Enabled"),
        ("-t short", "Testing has begun."),
        ("-t long", "Testing has begun."),
        ("-t short -C", "Testing has begun."),
        ("-t offline", "Testing has begun."),
        ("-X", "Self-testing aborted!"),
        ("-s on", "SMART Enabled."),
        ("-s off", "SMART Disabled."),
        ("-S on", "SMART Attribute Autosave Enabled."),
        ("-n standby -i", "Device Model"),
    ];
    // What smartctl sends by SG_IO alone.
    let by_sg_io: &[(&str, &str)] = &[
        ("-s standby,now", "Device placed in STANDBY mode"),
        ("-s apm,off", "APM disabled"),
        ("-s apm,128", "APM set to level 128"),
        ("-s lookahead,off", "Read look-ahead disabled"),
        ("-s wcache,off", "Write cache disabled"),
        ("-x", "0x01  0x010  4               -  ---  Power-on Hours"),
        ("-x", "0x05  0x008  1               -  ---  Current Temperature"),
        ("-x", "SMART Extended Comprehensive Error Log Version: 1 (1 sectors)\nNo Errors Logged"),
        ("-l xselftest", "No self-tests have been logged."),
        ("-l directory", "0x30       GPL     R/O      2  IDENTIFY DEVICE data log"),
        ("-l devstat", "Power-on Hours"),
        ("-l sataphy", "SATA Phy Event Counters (GP Log 0x11)"),
        ("-l gplog,0x30,1", "IDENTIFY DEVICE data log"),
        ("-i", "SATA Version is:  SATA 3.0, 6.0 Gb/s (current: 6.0 Gb/s)"),
    ];
    let all = parts.iter().chain(if sata { by_sg_io } else { &[] });
    let mut wrong = Vec::new();
    for (options, part) in all {
        let outcome = run(options);
        let said = outcome.out() + &outcome.err();
        let mind = ["Warning", "warning", "failed", "FAILED", "Error SMART", "mandatory", "Invalid"];
        let minded = mind.iter().find(|word| said.contains(**word));
        if outcome.code() != 0 || !said.contains(part) || minded.is_some() {
            wrong.push(format!("{options}: {}, no {part:?} or {minded:?}: {said}", outcome.code()));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

fn ata_id(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let out = command(&disk, &format!("{ATA_ID} --export DEV")).output().expect_out();
    let values: BTreeMap<&str, &str> = out.lines().filter_map(|line| line.split_once('=')).collect();
    let serial = values.get("ID_SERIAL_SHORT").copied().unwrap_or_default();
    assert!(serial.starts_with("BDW") && serial.len() == 19, "{out}");
    let serial = format!("BDWRAPPER_DISK_{serial}");
    for (name, value) in [
        ("ID_ATA", "1"),
        ("ID_TYPE", "disk"),
        ("ID_BUS", "ata"),
        ("ID_MODEL", "BDWRAPPER_DISK"),
        ("ID_REVISION", "1.0"),
        ("ID_SERIAL", &serial),
        ("ID_ATA_WRITE_CACHE", "1"),
        ("ID_ATA_WRITE_CACHE_ENABLED", "1"),
        ("ID_ATA_FEATURE_SET_SMART", "1"),
        ("ID_ATA_FEATURE_SET_SMART_ENABLED", "1"),
        ("ID_ATA_FEATURE_SET_APM", "1"),
        ("ID_ATA_FEATURE_SET_APM_ENABLED", "0"),
    ] {
        assert_eq!(values.get(name), Some(&value), "{name} in {out}");
    }
    assert_eq!(values.contains_key("ID_ATA_SATA"), kind == "sata", "{out}");
    assert_eq!(command(&disk, &format!("{ATA_ID} --export DEV")).output().expect_out(), out, "it is stable");
    // It takes no name for one that was assigned locally.
    assert_eq!(values.get("ID_WWN"), None, "{out}");
    if kind == "ide" {
        return;
    }
    let entry = format!("{},wwn=5000c50012345678", disk.entry());
    let run = Run::new(ATA_ID).with(&disk.scratch().library(), entry).arg("--export").arg(disk.path());
    let out = run.output().expect_out();
    assert!(out.contains("ID_WWN=0x5000c50012345678\n"), "{out}");
}

/// An ordinary user has the identity that `HDIO_GET_IDENTITY` gives, and may send no command.
fn user(medium: Medium, kind: &'static str) {
    let disk = Disk::new(if medium == Medium::Loop { Medium::Node } else { medium }, kind, SIZE);
    let nobody = |text: &str| command(&disk, text).nobody().output();
    // hdparm ends with the errno: EACCES of the IDE driver, EPERM of SG_IO. It says nothing where it gets no identity.
    let errno = if kind == "ide" { 13 } else { 1 };
    for (text, status) in [
        ("hdparm -I DEV", 0),
        ("hdparm -C DEV", errno),
        ("hdparm -F DEV", errno),
        ("hdparm --read-sector 1 DEV", errno),
    ] {
        let refused = nobody(text);
        let said = refused.out() + &refused.err();
        assert!(
            refused.code() == status && !said.contains("BDWRAPPER"),
            "{text}: {}: {said}",
            refused.code()
        );
    }
    let out = nobody("hdparm -i DEV").out();
    assert!(out.contains("Model=BDWRAPPER DISK"), "{out}");
}

fn sat(medium: Medium) {
    let disk = Disk::new(medium, "sata", SIZE);
    check(
        &disk,
        &[
            ("sg_sat_identify DEV", 0, " 08     0000 0000 4244 57"),
            ("sg_sat_identify --len=12 DEV", 0, " 08     0000 0000 4244 57"),
            ("sg_sat_identify --ck_cond DEV", 0, " 08     0000 0000 4244 57"),
            ("sg_sat_identify --packet DEV", 11, "Aborted command"),
            ("sg_sat_identify --ident DEV", 0, "0x3"),
            (
                "sg_sat_read_gplog DEV",
                0,
                " 00     0001 0000 0000 0001 0008 0000 0000 0001|log address 04h: 8\n",
            ),
            ("sg_sat_read_gplog --log=0x30 --page=1 DEV", 0, " 00     0040 "),
            ("sg_sat_read_gplog --log=0x30 --page=1 --dma DEV", 0, " 00     0040 "),
            ("sg_sat_read_gplog --log=0x30 --page=2 DEV", 11, "Aborted command"),
            ("sg_sat_read_gplog --log=0x0c DEV", 11, "Aborted command"),
            ("sg_sat_phy_event DEV", 0, "SATA phy event counters:"),
            ("sg_sat_set_features --feature=0x2 DEV", 0, ""),
            ("sg_sat_set_features --feature=0x4 DEV", 11, ""),
            ("sg_vpd -p ai DEV", 0, "model: BDWRAPPER DISK"),
            ("sg_vpd -p di DEV", 0, "vendor id: ATA     \n      vendor specific: BDWRAPPER DISK"),
            ("sg_vpd -p sv DEV", 0, "ATA information"),
            ("sg_opcodes --opcode=0x85 DEV", 0, "Command is supported [conforming to SCSI standard]"),
            ("sdparm --clear=WCE DEV", 0, ""),
            ("sdparm -i DEV", 0, "ATA"),
        ],
    );
}

fn big_sectors() {
    let scratch = Scratch::new();
    let image = scratch.image("image", SIZE);
    for kind in ["sata", "ide"] {
        let run = |text: &str| {
            let entry = format!("{}={kind},sector=4096", image.display());
            Run::new("hdparm").with(&scratch.library(), entry).args(text.split(' ')).arg(&image).output()
        };
        let out = run("-I").expect_out();
        for part in ["Logical  Sector size:                  4096 bytes", "addressable sectors:       16384"]
        {
            assert!(out.contains(part), "no {part:?} in {out}");
        }
        assert!(run("-N").expect_out().contains(" max sectors   = 16384/16384"), "{}", run("-N").out());
    }
}

/// Invocations that `golden/clients/ata-libata.txt` has beside those of the list. Of the programs that ask no device the machine
/// may lack some.
const MORE: &str = "\
hdparm -F DEV
hdparm -y DEV
hdparm -Y DEV
hdparm -t DEV
hdparm -R DEV
hdparm -Q DEV
lsscsi -i
lsscsi -s
nvme id-ctrl DEV
pvs -a
sg_format --format --quick DEV
sg_sanitize --overwrite --zero --quick DEV
";

/// What ends otherwise than on the real disk: the status here, and why.
const OTHERS: &[(&str, i32, &str)] = &[
    ("hdparm --security-freeze DEV", 5, REGISTERS),
    ("hdparm --user-master u --security-disable X DEV", 5, REGISTERS),
    ("hdparm --user-master u --security-set-pass X DEV", 5, REGISTERS),
    ("hdparm -H DEV", 5, REGISTERS),
    ("hdparm -Q DEV", 2, "it looks for the queue depth in /sys, which a loop device does not have"),
    (XCOPY, 99, "it looks for the device in /dev/block, which udev makes"),
    ("smartctl -x DEV", 0, "the disk has the logs that it asks for"),
    ("sg_sat_phy_event DEV", 0, "the disk has the log"),
    ("sg_sat_read_gplog DEV", 0, "the disk has the log"),
    ("sg_compare_and_write --lba=0 --num=1 --in=/dev/zero DEV", 0, SCSI),
    ("sg_get_lba_status DEV", 0, SCSI),
    ("sg_logs -a DEV", 0, SCSI),
    ("sdparm --get=WCE DEV", 0, "libata has no saved values, not even those of a fresh disk"),
    ("sg_opcodes -t DEV", 0, SCSI),
    ("sg_prevent -a DEV", 0, SCSI),
    ("sg_unmap --lba=0 --num=8 DEV --force", 0, SCSI),
    ("sg_write_same --16 --unmap --lba=0 --num=8 --xferlen=512 DEV", 0, SCSI),
    ("sg_write_same --lba=0 --num=8 --xferlen=512 --in=/dev/zero DEV", 0, SCSI),
    ("sg_rep_zones DEV", 9, "INVALID COMMAND OPERATION CODE: there are no zones"),
];

const XCOPY: &str = "sg_xcopy if=DEV of=DEV bs=512 count=1 seek=8";
const REGISTERS: &str =
    "libata 6.1 gives the registers of a failed command in a format that hdparm does not read";
const SCSI: &str = "libata does not translate the command";

fn list() {
    let rows = clients::recorded("ata-libata");
    let invocations = || clients::LIST.lines().chain(MORE.lines());
    let names: BTreeSet<String> = invocations().map(clients::name).collect();
    assert_eq!(names.iter().collect::<Vec<_>>(), rows.keys().collect::<Vec<_>>());
    // A node, for smartctl follows links and takes what it finds by its name.
    let disk = Disk::new(Medium::Node, "sata", 2 * SIZE);
    let number = disk.device().metadata().expect("it is there").rdev();
    let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    let has_udev = Path::new("/dev/block").join(number).exists();
    let mut wrong = Vec::new();
    for text in invocations() {
        // env(1) ends with 127 where there is no such program.
        let outcome = command(&disk, &format!("env {text}")).output();
        let real = rows[&clients::name(text)];
        // The machine of the table had no such program.
        if real == 127 {
            continue;
        }
        // The machine may lack what one needs that does not ask the device.
        if !text.contains("DEV") {
            let without = Run::new("env").args(text.split(' ')).output();
            assert_eq!(outcome.code(), without.code(), "{text}");
            continue;
        }
        let other = OTHERS.iter().find(|(other, ..)| *other == text && !(has_udev && text == XCOPY));
        let wanted = other.map_or(real, |&(_, status, _)| {
            assert_ne!(status, real, "{text} is no exception");
            status
        });
        if clients::status(text, outcome.code()) != wanted {
            let said = outcome.out() + &outcome.err();
            let said = said.lines().last().unwrap_or_default();
            wrong.push(format!("{text}: {}, not {wanted}: {said}", outcome.code()));
        }
    }
    assert_eq!(wrong, [""; 0]);
}
