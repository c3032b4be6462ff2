//! Programs that send SCSI commands, on listed devices.
//!
//! What they get on real targets stands in `golden/clients`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::clients::LIST;
use acceptance::{
    Disk, Engine, Loop, Medium, Name, Need, Outcome, Run, Scratch, Sgio, Trial, assert_same, by_engine,
    clients, command, disk_trials, engine, hex, is_root, main as harness, needs, parent, pattern, trial,
    wait_for,
};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 * MIB;
const KINDS: [&str; 2] = ["scsi", "sata"];
const SCSI_ID: &str = "/lib/udev/scsi_id";

fn main() -> ExitCode {
    harness(trials())
}

/// The trials, which tests/supervisor.rs runs too.
pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name: &str, tools: &[&'static str], body: fn(Medium, &'static str)| {
        trials.extend(disk_trials(name, &KINDS, tools, &[], body));
    };
    add("sg3_utils", &["sg_inq"], sg3_utils);
    add("sdparm", &["sdparm"], sdparm);
    add("switches", &["cc"], switches);
    add("smartctl", &["smartctl"], smartctl);
    add("scsi_id", &[SCSI_ID], scsi_id);
    add("routes", &["cc", "dd"], routes);
    add("growth", &["cc", "sg_turs"], growth);
    add("hostile", &["cc"], hostile);
    add("size/odd", &["cc"], odd_size);
    for kind in KINDS {
        let mut add = |name: &str, tools: &[&'static str], body: fn(&'static str)| {
            let name = format!("{name}-{kind}");
            trials.push(trial(name, &needs(Medium::Loop, tools), move || body(kind)));
        };
        add("sg_dd/loop", &["sg_dd", "sgp_dd", "sgm_dd", "sg_read"], sg_dd);
        add("ddpt/loop", &["ddpt"], ddpt);
        add("fio/loop", &["fio"], fio);
        // COMPARE AND WRITE and WRITE ATOMIC are the superuser's to send.
        add("increments/image", &["cc"], |kind| increments(Medium::Image, kind));
        add("increments/loop", &["cc"], |kind| increments(Medium::Loop, kind));
        add("increments/two-nodes", &["cc"], increments_by_two_nodes);
        add("increments/image-beside-fork", &["cc"], |kind| increments_beside_fork(Medium::Image, kind));
        add("increments/loop-beside-fork", &["cc"], |kind| increments_beside_fork(Medium::Loop, kind));
        add("killed/image", &["cc"], |kind| killed(Medium::Image, kind));
        add("killed/loop", &["cc"], |kind| killed(Medium::Loop, kind));
        add("atomic/image", &["cc"], |kind| write_atomic(Medium::Image, kind));
        add("atomic/loop", &["cc"], |kind| write_atomic(Medium::Loop, kind));
        add("size/4096-loop", &["cc", "sg_readcap"], big_blocks_loop);
        add("user/image", &["cc"], |kind| user(Medium::Image, kind));
        add("user/loop", &["cc"], |kind| user(Medium::Node, kind));
        add("superuser/image", &["cc"], |kind| superuser(Medium::Image, kind));
        add("superuser/loop", &["cc"], |kind| superuser(Medium::Loop, kind));
    }
    trials.push(trial("append", &[Need::Tool("cc")], append));
    trials.push(trial("size/4096-image", &[Need::Tool("cc")], big_blocks_image));
    for (name, size) in [("3-TiB", 3 << 40), ("4-EiB", 1 << 62)] {
        trials.push(trial(format!("size/{name}-image"), &needs(Medium::Image, &["cc"]), move || {
            let image = Sparse::new(size);
            far_end(&image, &image.path(), size);
        }));
        trials.push(trial(format!("size/{name}-loop"), &needs(Medium::Loop, &["cc"]), move || {
            let image = Sparse::new(size);
            let device = Loop::attach(&image.path(), &[]);
            far_end(&image, device.path(), size);
        }));
    }
    trials.push(trial("list/lio", &clients::needs(LIST), list));
    trials
}

fn read_at(path: &Path, offset: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    File::open(path).and_then(|file| file.read_exact_at(&mut data, offset)).expect("it can be read there");
    data
}

const READY: &str = "00 00 00 00 00 00";

/// One byte again and again, as hexadecimal digits.
fn repeated(byte: u8, bytes: usize) -> String {
    format!("{byte:02x}").repeat(bytes)
}

// sg3_utils and their kin.

/// Programs, their exit status and a part of what they say. 9 is a command that the disk does not have, 5 another that is
/// refused.
const SG3_UTILS: &[(&str, i32, &str)] = &[
    ("sg_inq DEV", 0, "Peripheral device type: disk"),
    ("sg_inq -p 0x83 DEV", 0, "NAA 3, Locally assigned|01 03 00 08"),
    ("sg_raw -r 96 DEV 12 01 99 00 60 00", 5, ""),
    ("sg_inq -d DEV", 0, "[SPC-4]"),
    ("sg_vpd DEV", 0, "Block limits"),
    ("sg_vpd -p sn DEV", 0, "Unit serial number: BDW|Product serial number: BDW"),
    ("sg_vpd -p di DEV", 0, "Addressed logical unit:"),
    ("sg_vpd -p ei DEV", 0, "SIMPSUP=1"),
    (
        "sg_vpd -p bl DEV",
        0,
        "Maximum compare and write length: 255 blocks|Maximum compare and write length: 0xff",
    ),
    ("sg_vpd -p bdc DEV", 0, "Block device characteristics"),
    ("sg_vpd -p lbpv DEV", 0, "Logical block provisioning"),
    ("sg_vpd -a DEV", 0, "Block limits"),
    ("sg_turs --low DEV", 0, ""),
    ("sg_turs --low -n 20 DEV", 0, ""),
    ("sg_requests DEV", 0, ""),
    ("sg_requests -d DEV", 0, ""),
    ("sg_readcap DEV", 0, "Last LBA=131071"),
    ("sg_readcap -16 DEV", 0, "Last LBA=131071"),
    ("sg_luns DEV", 0, "0000000000000000"),
    ("sg_luns -s 1 DEV", 0, ""),
    ("sg_modes -a DEV", 0, "Caching"),
    ("sg_modes -6 -p 8 DEV", 0, "Caching"),
    ("sg_modes -c 1 -p 8 DEV", 0, "changeable"),
    ("sg_modes -L -p 0xa DEV", 0, "longlba=1"),
    ("sg_wr_mode -p 8 DEV", 0, ""),
    ("sg_wr_mode -p 0xa -c 0a,0a,06,10,0,0,0,0,ff,ff,0,0 DEV", 0, ""),
    ("sg_raw -s 8 -i /dev/zero DEV 15 10 00 00 08 00", 5, ""),
    ("sg_logs DEV", 0, "Temperature"),
    ("sg_logs -a DEV", 0, "Informational Exceptions|Informational exceptions"),
    ("sg_logs -p 0x3e DEV", 5, ""),
    ("sg_opcodes DEV", 0, "Compare and write"),
    ("sg_opcodes -R DEV", 0, ""),
    ("sg_opcodes -o 0x28 DEV", 0, "28 1c ff ff ff ff 1f ff ff 00"),
    ("sg_opcodes -o 0x9e -s 0x10 DEV", 0, "Command is supported"),
    ("sg_opcodes -o 0x5f DEV", 0, "Command is NOT supported"),
    ("sg_opcodes -t DEV", 0, "Task Management Functions"),
    ("sg_verify -l 0 -c 131072 DEV", 0, ""),
    ("sg_verify -S -l 8 -c 8 DEV", 0, ""),
    ("sg_verify -l 131072 -c 8 DEV", OUT_OF_RANGE, ""),
    ("sg_sync DEV", 0, ""),
    ("sg_sync -S -i DEV", 0, ""),
    ("sg_get_lba_status DEV", 0, "LBA: 0x0000000000000000|LBA: 0x0 "),
    ("sg_start --stop DEV", 0, ""),
    ("sg_start --start DEV", 0, ""),
    ("sg_prevent -p 1 DEV", 0, ""),
    ("sg_prevent -a DEV", 0, ""),
    ("sg_seek -l 131071 DEV", 0, ""),
    ("sg_seek -l 131072 DEV", OUT_OF_RANGE, ""),
    ("sg_senddiag -t DEV", 0, "GOOD"),
    ("sg_senddiag -s 7 DEV", 5, ""),
    ("sg_raw -r 96 DEV 12 00 00 00 60 00", 0, ""),
    // Not of this disk, so that nobody is misled.
    ("sg_persist -k DEV", 9, ""),
    ("sg_format -F -Q DEV", 9, ""),
    ("sg_sanitize -O -z -Q DEV", 9, ""),
    ("sg_write_buffer --mode=data --in=/etc/passwd -l 16 DEV", 9, ""),
    ("sg_read_buffer DEV", 9, ""),
    ("sg_reassign -a 1 DEV", 9, ""),
];

/// The same of a SCSI disk under the supervisor, which has these.
const SHARED: [(&str, i32, &str); 6] = [
    // There are service actions.
    ("sg_opcodes -o 0x5f DEV", 5, ""),
    ("sg_persist -k DEV", 0, "NO registered reservation keys"),
    ("sg_format -F -Q DEV", 0, "FORMAT UNIT Complete"),
    ("sg_sanitize -O -z -Q DEV", 0, ""),
    // Other modes than those of the echo buffer.
    ("sg_write_buffer --mode=data --in=/etc/passwd -l 16 DEV", 5, ""),
    ("sg_read_buffer DEV", 5, ""),
];

const OUT_OF_RANGE: i32 = 22;

/// Whether reservations and their like are missing.
fn has_no_reservations() -> bool {
    by_engine("reservations, and commands about several clients or the whole disk", true, false)
}

/// Target port groups, which a SATA disk has not.
const GROUPS: [(&str, &str); 5] = [
    ("sg_rtpg -d DEV", "access state : 0x00 (active/optimized)"),
    ("sg_rtpg -e -d DEV", "Implicit transition time: 0"),
    ("sg_stpg DEV", "Device is at port Group 0x01, relative port 0x01"),
    ("sg_opcodes -o 0xa4 -s 0x0a DEV", "Command is supported"),
    ("sg_vpd -p di DEV", "Target port group: 0x1"),
];

/// Those that write. The device holds the byte 5a before, and what it holds after in the first 8 blocks stands here.
const SG3_WRITERS: [(&str, i32, u8); 14] = [
    ("sg_unmap --lba=0 --num=8 --force DEV", 0, 0x00),
    ("sg_write_same --lba=0 --num=8 --xferlen=512 --in=ONES DEV", 0, 0x11),
    ("sg_write_same --16 --lba=0 --num=8 --xferlen=512 --in=ONES DEV", 0, 0x11),
    ("sg_write_same --16 --unmap --lba=0 --num=8 --xferlen=512 --in=/dev/zero DEV", 0, 0x00),
    ("sg_write_same --10 --unmap --lba=0 --num=8 --xferlen=512 --in=/dev/zero DEV", 0, 0x00),
    ("sg_write_same --16 --ndob --lba=0 --num=8 DEV", 0, 0x00),
    ("sg_write_same --16 --lba=131072 --num=8 --xferlen=512 --in=ONES DEV", OUT_OF_RANGE, 0x5a),
    // 14 is a miscompare.
    ("sg_compare_and_write --lba=0 --num=8 --xferlen=8192 --in=SWAP DEV", 0, 0x11),
    ("sg_compare_and_write --lba=0 --num=8 --xferlen=8192 --in=/dev/zero DEV", 14, 0x5a),
    ("sg_write_verify --lba=0 --num=8 --ilen=4096 --in=ONES DEV", 0, 0x11),
    ("sg_write_verify --16 --bytchk=1 --lba=0 --num=8 --ilen=4096 --in=ONES DEV", 0, 0x11),
    ("sg_write_x --or --16 --lba=0 --num=8 --in=ONES DEV", 0, 0x5b),
    ("sg_raw -s 4096 -i ONES DEV 2a 08 00 00 00 00 00 00 08 00", 0, 0x11),
    ("sg_raw -s 4096 -i ONES DEV 0a 00 00 00 08 00", 0, 0x11),
];

fn sg3_utils(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let mut wrong = Vec::new();
    let mut check = |text: &str, status: i32, part: &str| {
        if clients::left_out(text) {
            return false;
        }
        let outcome = command(&disk, text).output();
        let said = outcome.out() + &outcome.err();
        // Some commands are the superuser's to send; the trials of users say which.
        let refused = !is_root() && said.contains("Operation not permitted");
        if !refused && (clients::status(text, outcome.code()) != status || !clients::says(&said, part)) {
            wrong.push(format!("{text}: {}, not {status} {part:?}: {said}", outcome.code()));
        }
        !refused
    };
    let is_shared = kind == "scsi" && !has_no_reservations();
    for row in SG3_UTILS {
        let (text, status, part) =
            SHARED.iter().find(|(text, ..)| is_shared && *text == row.0).unwrap_or(row);
        check(text, *status, part);
    }
    let pass_through = "sg_raw -r 512 DEV 85 08 0e 00 00 00 01 00 00 00 00 00 00 00 ec 00";
    check(pass_through, if kind == "sata" { 0 } else { 9 }, "");
    check("sg_inq DEV", 0, if kind == "sata" { "ATA     " } else { "BDWRAP  " });
    let groups = if kind == "scsi" { &GROUPS[..] } else { &[("sg_stpg DEV", "no target port group")] };
    for (text, part) in groups {
        check(text, if kind == "scsi" { 0 } else { 5 }, part);
    }
    let (ones, swap) = (disk.scratch().path("ones"), disk.scratch().path("swap"));
    fs::write(&ones, [0x11; 4096]).expect("the scratch directory can be written");
    fs::write(&swap, [[0x5a; 4096], [0x11; 4096]].concat()).expect("the scratch directory can be written");
    for (text, status, byte) in SG3_WRITERS {
        let device = File::options().write(true).open(disk.device()).expect("it is ours");
        device.write_all_at(&[0x5a; 8192], 0).expect("it has room");
        let text = text.replace("ONES", &ones.display().to_string());
        let text = text.replace("SWAP", &swap.display().to_string());
        let byte = if check(&text, status, "") { byte } else { 0x5a };
        assert_same(&text, &read_at(disk.device(), 0, 8192), &[[byte; 4096], [0x5a; 4096]].concat());
    }
    assert_eq!(wrong, [""; 0]);
}

fn sg_dd(kind: &'static str) {
    let disk = Disk::new(Medium::Loop, kind, SIZE);
    let (data, copy) = (disk.scratch().path("data"), disk.scratch().path("copy"));
    let contents = pattern(3 * MIB);
    fs::write(&data, &contents).expect("the scratch directory can be written");
    for (number, (options, least)) in [
        ("sg_dd bs=512 blk_sgio=1 bpt=33", 186),
        ("sg_dd bs=512 blk_sgio=1 cdbsz=16 oflag=fua iflag=dpo", 48),
        ("sg_dd bs=512 blk_sgio=1 cdbsz=12", 48),
        // By commands these use the nodes of the sg driver alone.
        ("sgp_dd bs=512 thr=4", 0),
        ("sgm_dd bs=512", 0),
    ]
    .into_iter()
    .enumerate()
    {
        if clients::left_out(options) {
            continue;
        }
        let place = 1000 * (number + 1);
        let run = |from: &Path, to: &Path, place: &str| {
            let paths = [format!("if={}", from.display()), format!("of={}", to.display())];
            let command = command(&disk, options).args(paths).args([place, "count=6144"]);
            let log = command.level(1000).output();
            assert_eq!(log.code(), 0, "{options}: {}", log.err());
            let commands = log.err().matches(", SG_IO, ").count();
            assert!(commands >= least, "{options} sent only {commands} commands");
        };
        run(&data, disk.path(), &format!("seek={place}"));
        let written = read_at(disk.device(), 512 * place as u64, contents.len());
        assert_same(options, &written, &contents);
        let _ = fs::remove_file(&copy);
        // sgm_dd and sgp_dd open what they write without asking for it to be made.
        File::create(&copy).expect("the scratch directory can be written");
        run(disk.path(), &copy, &format!("skip={place}"));
        assert_same(options, &fs::read(&copy).expect("it was written"), &contents);
    }
    command(&disk, "sg_read if=DEV bs=512 count=128 blk_sgio=1 bpt=16").output().expect_out();
}

fn sdparm(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let run = |options: &str| command(&disk, &format!("sdparm {options} DEV")).output();
    for (field, default) in [("WCE", 1), ("SWP", 0), ("D_SENSE", 0)] {
        let (set, clear) = (run(&format!("--set={field}")), run(&format!("--clear={field}")));
        assert_eq!((set.code(), clear.code()), (0, 0), "{field}: {}{}", set.err(), clear.err());
        let get = run(&format!("--get={field}")).expect_out();
        let words: Vec<&str> = get.split_whitespace().collect();
        let expected = format!("{field} {default} [cha: y, def: {default}, sav: {default}]");
        assert!(words.join(" ").contains(&expected), "no {expected:?} in {get}");
    }
    // What cannot be changed.
    assert_ne!(run("--set=RCD").code(), 0);
    for (options, part) in [
        ("--command=ready", ""),
        ("--command=capacity", "blocks: 131072"),
        ("--command=sync", ""),
        ("--command=stop", ""),
        ("--command=start", ""),
        ("-i", "designator type: NAA"),
        ("--inquiry --page=bl", "Maximum compare and write length"),
        ("--inquiry --page=sn", "BDW"),
    ] {
        let outcome = run(options);
        assert!(outcome.expect_out().contains(part), "{options}: no {part:?} in {}", outcome.out());
    }
    let all = run("-a").out();
    for page in ["Read write error recovery", "Caching", "Control mode page", "Informational exceptions"] {
        assert!(all.contains(page), "no {page:?} in {all}");
    }
}

/// What MODE SELECT changes lasts as long as the process.
fn switches(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let runtime = disk.scratch().path("runtime");
    fs::create_dir(&runtime).expect("the scratch directory can be written");
    let start = || Sgio::start(|program| disk.run(program).env("XDG_RUNTIME_DIR", &runtime), disk.scratch());
    let mut client = start();
    let fd = client.open("rw", disk.path());
    let select = |client: &mut Sgio, page: &str| {
        let list = format!("00000000{page}");
        let cdb = format!("15100000{:02x}00", list.len() / 2);
        assert_eq!(client.ask(&format!("give {fd} {cdb} {list}")), "good 0", "{page}");
    };
    let write = |client: &mut Sgio, byte: u8| {
        let answer = client.write(&fd, "2a 00 00 00 00 00 00 00 08 00", 4096, byte);
        (answer, read_at(disk.device(), 0, 4096))
    };
    let control = |descriptor: u8, protect: u8| {
        format!("0a0a{:02x}10{:02x}000000ffff0000", 0x02 | descriptor << 2, protect << 3)
    };
    let caching = |cache: u8| format!("0812{:02x}00{}", cache << 2, "0".repeat(32));
    let sense = |client: &mut Sgio, cdb: &str| client.read(&fd, cdb, 64).1;

    select(&mut client, &control(0, 1));
    assert_eq!(write(&mut client, 1), ("7/27/00 4096".to_owned(), vec![0; 4096]));
    assert_eq!(sense(&mut client, "1a 08 0a 00 40 00")[4..6], *"90", "WP and DPOFUA");
    select(&mut client, &control(1, 1));
    assert_eq!(write(&mut client, 1), ("descriptor:7/27/00 4096".to_owned(), vec![0; 4096]));
    assert_eq!(client.none(&fd, "28 00 ff ff ff ff 00 00 01 00"), "descriptor:5/21/00 0");
    select(&mut client, &control(0, 0));
    for cache in [0, 1] {
        select(&mut client, &caching(cache));
        let page = sense(&mut client, "1a 08 08 00 40 00");
        assert_eq!(page[12..14], format!("{:02x}", cache << 2), "{page}");
        assert_eq!(write(&mut client, 2 + cache), ("good 0".to_owned(), vec![2 + cache; 4096]));
    }
    select(&mut client, &control(0, 1));
    let mut other = start();
    let fd = other.open("rw", disk.path());
    let expected = by_engine("settings of a disk, such as mode parameters", "good 0", "7/27/00 4096");
    assert_eq!(other.write(&fd, "2a 00 00 00 00 00 00 00 08 00", 4096, 4), expected);
}

fn smartctl(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let run = |options: &str| command(&disk, &format!("smartctl -d scsi {options} DEV")).output();
    let all = run("-a");
    if kind == "scsi" {
        assert!(all.out().contains("Vendor:               BDWRAP\n"), "{}", all.out());
    }
    // Bit 2: the disk has no log of self-tests.
    assert!([0, 4].contains(&all.code()), "{}: {}", all.code(), all.out());
    for part in [
        "User Capacity:        67,108,864 bytes",
        "Logical block size:   512 bytes",
        "Device type:          disk",
        "Serial number:        BDW",
        "SMART Health Status: OK",
    ] {
        assert!(all.out().contains(part), "no {part:?} in {}", all.out());
    }
    // READ DEFECT DATA(12) is the superuser's to send.
    assert_eq!(all.out().contains("Elements in grown defect list: 0"), is_root(), "{}", all.out());
    for (options, part) in [
        ("-i", "Device type:          disk"),
        ("-H", "SMART Health Status: OK"),
        ("-g all", "Writeback Cache is:   Enabled"),
    ] {
        assert!(run(options).expect_out().contains(part), "{options}: {}", run(options).out());
    }
}

fn scsi_id(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let other = disk.scratch().image("other", SIZE);
    let ask = |page: &str| {
        let run = disk.run(SCSI_ID).args(["--whitelisted", &format!("--page={page}"), "--device"]);
        run.arg(disk.path()).output().expect_out()
    };
    let ask_other = |page: &str| {
        let entry = format!("{}={kind}", other.display());
        let run = Run::new(SCSI_ID).with(&disk.scratch().library(), entry).arg("--whitelisted");
        run.args([&format!("--page={page}"), "--device"]).arg(&other).output().expect_out()
    };
    for page in ["0x83", "0x80"] {
        let id = ask(page);
        assert!(id.trim().len() >= 17 && id.lines().count() == 1, "{id:?}");
        assert_eq!(id, ask(page), "{page}");
        assert_ne!(id, ask_other(page), "{page}");
        assert_eq!(ask_other(page), ask_other(page), "{page}");
    }
    let export = disk.run(SCSI_ID).args(["--export", "--whitelisted", "--device"]).arg(disk.path()).output();
    let export = export.expect_out();
    let (id, serial) = (ask("0x83"), ask("0x80"));
    let values: BTreeMap<&str, &str> = export.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(values.get("ID_TYPE"), Some(&"disk"), "{export}");
    assert_eq!(values.get("ID_SERIAL"), Some(&id.trim_end()), "{export}");
    let number = values.get("ID_SCSI_SERIAL").map(|number| number.trim_end());
    assert!(number.is_some_and(|number| serial.trim_end().ends_with(number)), "{export}{serial}");
}

fn ddpt(kind: &'static str) {
    // An image file it reads and writes.
    let disk = Disk::new(Medium::Loop, kind, SIZE);
    let (data, copy) = (disk.scratch().path("data"), disk.scratch().path("copy"));
    let contents = pattern(2 * MIB);
    fs::write(&data, &contents).expect("the scratch directory can be written");
    let run = |from: &Path, to: &Path, options: &str| {
        let paths = [format!("if={}", from.display()), format!("of={}", to.display())];
        let log = command(&disk, &format!("ddpt bs=512 {options}")).args(paths).level(1000).output();
        assert_eq!(log.code(), 0, "{options}: {}", log.err());
        log.err().matches(", SG_IO, ").count()
    };
    for (flags, place) in [("pt", 100), ("pt,fua", 5000), ("pt,direct", 10000)] {
        let sent = run(&data, disk.path(), &format!("oflag={flags} seek={place}"));
        assert!(sent > 16, "{flags}: only {sent} commands");
        assert_same(flags, &read_at(disk.device(), 512 * place, contents.len()), &contents);
        let _ = fs::remove_file(&copy);
        let options = format!("iflag={} skip={place} count=4096", flags.replace(",fua", ",dpo"));
        let sent = run(disk.path(), &copy, &options);
        assert!(sent > 16, "{flags}: only {sent} commands");
        assert_same(flags, &fs::read(&copy).expect("it was written"), &contents);
    }
    // From the disk to itself.
    run(disk.path(), disk.path(), "iflag=pt oflag=pt skip=100 seek=30000 count=4096");
    assert_same("itself", &read_at(disk.device(), 512 * 30000, contents.len()), &contents);
}

fn fio(kind: &'static str) {
    for (medium, nobody) in [(Medium::Loop, false), (Medium::Node, true)] {
        let disk = Disk::new(medium, kind, SIZE);
        for options in [
            &["--rw=randwrite", "--bs=4k", "--numjobs=3"][..],
            &["--rw=randrw", "--bsrange=512-64k", "--bs_unaligned=0", "--numjobs=2", "--thread"],
            &["--rw=write", "--bs=1m", "--numjobs=1", "--direct=1"],
        ] {
            let file = format!("--filename={}", disk.path().display());
            let run = disk.run("fio").args(["--name=verify", "--ioengine=sg", &file, "--verify=crc32c"]);
            let run = run.args(["--size=4m", "--offset_increment=8m", "--verify_fatal=1"]).args(options);
            // Files that it keeps its state in.
            let run = run.arg("--verify_state_save=0").level(1);
            let outcome = if nobody { run.nobody() } else { run }.output();
            let errors = outcome.err();
            assert!(outcome.code() == 0 && !errors.contains("verify: bad"), "{options:?}: {errors}");
        }
    }
}

// Users.

/// Commands, and what an ordinary user gets by a descriptor that is open for reading, and by one that is open for
/// writing too (the kernel's `scsi_cmd_allowed`). The superuser may send them all.
const FILTER: [(&str, &str, bool, bool); 27] = [
    ("TEST UNIT READY", "00 00 00 00 00 00", true, true),
    ("REQUEST SENSE", "03 00 00 00 00 00", true, true),
    ("INQUIRY", "12 00 00 00 00 00", true, true),
    ("MODE SENSE(6)", "1a 08 3f 00 00 00", true, true),
    ("READ CAPACITY(10)", "25 00 00 00 00 00 00 00 00 00", true, true),
    ("READ(10)", "28 00 00 00 00 00 00 00 00 00", true, true),
    ("SEEK(10)", "2b 00 00 00 00 00 00 00 00 00", true, true),
    ("READ(12)", "a8 00 00 00 00 00 00 00 00 00 00 00", true, true),
    ("READ(16)", "88 ..", true, true),
    ("VERIFY(10)", "2f 00 00 00 00 00 00 00 08 00", true, true),
    ("LOG SENSE", "4d 00 40 00 00 00 00 00 00 00", true, true),
    ("READ CAPACITY(16)", "9e 10 ..", true, true),
    ("REPORT LUNS", "a0 00 00 00 00 00 00 00 00 00 00 00", true, true),
    ("WRITE(6)", "0a 00 00 00 01 00", false, true),
    ("WRITE(10)", "2a 00 00 00 00 00 00 00 00 00", false, true),
    ("WRITE(12)", "aa 00 00 00 00 00 00 00 00 00 00 00", false, true),
    ("WRITE(16)", "8a ..", false, true),
    ("WRITE AND VERIFY(10)", "2e 00 00 00 00 00 00 00 00 00", false, true),
    ("MODE SELECT(6)", "15 10 00 00 00 00", false, true),
    ("SYNCHRONIZE CACHE(10)", "35 00 00 00 00 00 00 00 00 00", false, true),
    ("UNMAP", "42 00 00 00 00 00 00 00 00 00", false, true),
    ("COMPARE AND WRITE", "89 ..", false, false),
    ("ORWRITE(16)", "8b ..", false, false),
    ("SYNCHRONIZE CACHE(16)", "91 ..", false, false),
    ("VERIFY(12)", "af 00 00 00 00 00 00 00 00 00 00 00", false, false),
    ("PRE-FETCH(16)", "90 ..", false, false),
    ("SEND DIAGNOSTIC", "1d 04 00 00 00 00", false, false),
];

/// What somebody gets for each of the commands.
fn filter(client: &mut Sgio, fd: &str) -> Vec<(&'static str, bool)> {
    let ask = |(name, cdb, ..): (&'static str, &str, bool, bool)| {
        let answer = match name {
            // These move data whatever the CDB says.
            "WRITE(6)" => client.write(fd, cdb, 512, 0),
            "READ CAPACITY(10)" => client.read(fd, cdb, 8).0,
            _ => client.none(fd, cdb),
        };
        assert!(["EPERM", "good 0"].contains(&answer.as_str()), "{name}: {answer}");
        (name, answer != "EPERM")
    };
    FILTER.into_iter().map(ask).collect()
}

fn user(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let mut client = Sgio::start(|program| disk.run(program).nobody(), disk.scratch());
    let (reader, writer) = (client.open("r", disk.path()), client.open("rw", disk.path()));
    assert_eq!(filter(&mut client, &reader), FILTER.map(|(name, _, reader, _)| (name, reader)));
    assert_eq!(filter(&mut client, &writer), FILTER.map(|(name, _, _, writer)| (name, writer)));

    let write = "2a 00 00 00 00 07 00 00 08 00";
    assert_eq!(client.write(&reader, write, 4096, 0x33), "EPERM");
    assert_eq!(read_at(disk.device(), 7 * 512, 4096), [0; 4096]);
    assert_eq!(client.write(&writer, write, 4096, 0x33), "good 0");
    assert_eq!(read_at(disk.device(), 7 * 512, 4096), [0x33; 4096]);
    let read = client.read(&reader, "28 00 00 00 00 07 00 00 08 00", 4096);
    assert_eq!(read, ("good 0".to_owned(), repeated(0x33, 4096)));

    // Programs say it in their own ways.
    for (text, status) in [
        ("sg_inq DEV", 0),
        ("sg_readcap DEV", 0),
        ("sg_turs --low DEV", 0),
        ("sg_vpd -a DEV", 0),
        ("sg_modes -a DEV", 0),
        ("sg_raw -s 512 -i /dev/zero DEV 2a 00 00 00 00 00 00 00 01 00", 0),
        ("sg_sync DEV", 0),
        ("sg_write_same --16 --lba=0 --num=8 --xferlen=512 --in=/dev/zero DEV", 0),
    ] {
        let outcome = command(&disk, text).nobody().output();
        assert_eq!(outcome.code(), status, "{text}: {}", outcome.err());
    }
    let refused = command(&disk, "sg_compare_and_write --lba=0 --num=1 --in=/dev/zero DEV").nobody().output();
    assert_ne!(refused.code(), 0, "{}", refused.out());
}

fn superuser(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let mut client = Sgio::of(&disk);
    for flags in ["r", "rd", "rw", "rwd"] {
        let fd = client.open(flags, disk.path());
        assert!(filter(&mut client, &fd).iter().all(|(_, allowed)| *allowed), "{flags}");
        // Through a descriptor that write(2) refuses, too.
        let write = "2a 00 00 00 00 07 00 00 08 00";
        assert_eq!(client.write(&fd, write, 4096, 0x33), "good 0", "{flags}");
        assert_eq!(read_at(disk.device(), 7 * 512, 4096), [0x33; 4096], "{flags}");
        assert_eq!(client.write(&fd, "93 .. 07 00 00 00 08 00 00", 512, 0x44), "good 0", "{flags}");
        assert_eq!(client.write(&fd, "42 00 00 00 00 00 00 00 08 00", 8, 0), "good 0", "{flags}");
        assert_eq!(read_at(disk.device(), 7 * 512, 4096), [0x44; 4096], "{flags}");
        let swap = "89 .. 07 00 00 00 01 00 00";
        assert_eq!(client.write(&fd, swap, 1024, 0x44), "good 0", "{flags}");
        assert_eq!(client.write(&fd, swap, 1024, 0x45), "e/1d/00 0", "{flags}");
    }
}

// The same bytes by whatever way.

fn routes(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let mut client = Sgio::of(&disk);
    let dd = |options: &[&str]| {
        let outcome = Run::new("dd").args(options).args(["bs=4096", "count=1", "status=none"]).output();
        assert_eq!(outcome.code(), 0, "{options:?}: {}", outcome.err());
        outcome.stdout
    };
    let path = disk.device().display();
    let (source, target) = (format!("if={path}"), format!("of={path}"));
    let mut byte = 0;
    let cached = client.open("rw", disk.path());
    let direct = client.open("rwd", disk.path());
    for (sender, other) in [(&cached, &direct), (&direct, &cached)] {
        for verb in ["out", "list"] {
            byte += 1;
            // By a command, at block 24.
            let cdb = "2a000000001800000800";
            let answer = client.ask(&format!("{verb} {sender} {cdb} 4096 {byte:02x}"));
            assert_eq!(answer, "good 0", "{verb}");
            for fd in [sender, other] {
                assert_eq!(client.ask(&format!("read {fd} 12288 4096")), repeated(byte, 4096), "{verb}");
            }
            for flag in ["iflag=direct", "iflag=fullblock"] {
                assert_eq!(dd(&[&source, flag, "skip=3"]), [byte; 4096], "{verb} {flag}");
            }
        }
        // By other ways, at block 32.
        for (write, name) in [(Some(sender), "pwrite"), (None, "dd")] {
            byte += 1;
            match write {
                Some(fd) => {
                    let answer = client.ask(&format!("write {fd} 16384 4096 {byte:02x}"));
                    assert_eq!(answer, "4096");
                }
                None => {
                    let data = disk.scratch().path("data");
                    fs::write(&data, [byte; 4096]).expect("the scratch directory can be written");
                    let data = format!("if={}", data.display());
                    dd(&[&data, &target, "oflag=direct", "conv=notrunc", "seek=4"]);
                }
            }
            for fd in [sender, other] {
                let read = client.read(fd, "28 00 00 00 00 20 00 00 08 00", 4096);
                assert_eq!(read, ("good 0".to_owned(), repeated(byte, 4096)), "{name}");
                let read = client.read(fd, "88 .. 20 00 00 00 08 00 00", 4096);
                assert_eq!(read, ("good 0".to_owned(), repeated(byte, 4096)), "{name}");
            }
        }
        // By a command without data.
        byte += 1;
        let same = client.write(sender, "93 .. 20 00 00 00 08 00 00", 512, byte);
        assert_eq!(same, "good 0");
        assert_eq!(dd(&[&source, "iflag=direct", "skip=4"]), [byte; 4096]);
    }
}

/// WRITE ATOMIC, which the disk has where the kernel says that the backing device can: most machines have none that can.
fn write_atomic(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let mut client = Sgio::of(&disk);
    for flags in ["r", "rw", "rwd"] {
        let fd = client.open(flags, disk.path());
        let (_, limits) = client.read(&fd, "12 01 b0 00 40 00", 64);
        let number = |at: usize| u64::from_str_radix(&limits[2 * at..][..8], 16).expect("hexadecimal digits");
        let (most, least) = (number(44), number(52));
        let cdb = |blocks: u64| format!("9c 00 {most:016x} 00 00 {blocks:04x} 00 00");
        if most == 0 {
            assert_eq!(client.write(&fd, &cdb(1), 512, 0x5a), "5/20/00 512");
            continue;
        }
        for (blocks, byte) in [(least, 0x5b), (most, 0x5c)] {
            let bytes = 512 * blocks;
            assert_eq!(client.write(&fd, &cdb(blocks), bytes, byte), "good 0", "{flags} {blocks}");
            let holds = read_at(disk.device(), 512 * most, bytes as usize);
            assert_same(flags, &holds, &vec![byte; bytes as usize]);
            let (answer, data) = client.read(&fd, &format!("88 00 {most:016x} {blocks:08x} 00 00"), bytes);
            assert_eq!((answer.as_str(), data), ("good 0", repeated(byte, bytes as usize)));
        }
        let refused = client.write(&fd, &cdb(most + 1), 0, 0);
        assert!(refused.starts_with("5/24/00 "), "{refused}");
    }
}

/// Linux appends whatever is written by a descriptor that was opened so, wherever it is to go.
fn append() {
    for kind in KINDS {
        let disk = Disk::new(Medium::Image, kind, MIB);
        let mut client = Sgio::of(&disk);
        for flags in ["rwa", "rwad"] {
            let fd = client.open(flags, disk.path());
            assert_eq!(client.write(&fd, "2a 00 00 00 00 08 00 00 08 00", 4096, 0x21), "good 0");
            assert_eq!(read_at(disk.image(), 4096, 4096), [0x21; 4096], "{flags}");
            assert_eq!(client.write(&fd, "93 .. 08 00 00 00 08 00 00", 512, 0x22), "good 0");
            assert_eq!(read_at(disk.image(), 4096, 4096), [0x22; 4096], "{flags}");
            if is_root() {
                assert_eq!(client.write(&fd, "89 .. 08 00 00 00 01 00 00", 1024, 0x22), "good 0");
                assert_eq!(client.write(&fd, "8b .. 08 00 00 00 08 00 00", 4096, 0x01), "good 0");
                assert_eq!(read_at(disk.image(), 4096, 4096), [0x23; 4096], "{flags}");
            }
            assert_eq!(disk.image().metadata().expect("it exists").len(), MIB, "{flags}");
        }
    }
}

fn growth(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, SIZE);
    let resize = |bytes: u64| {
        let image = File::options().write(true).open(disk.image());
        image.and_then(|file| file.set_len(bytes)).expect("it is ours");
        if medium == Medium::Loop {
            disk.loop_device().resize();
        }
    };
    let mut client = Sgio::of(&disk);
    let (one, two) = (client.open("rw", disk.path()), client.open("r", disk.path()));
    let last = |client: &mut Sgio, fd: &str| {
        let (answer, data) = client.read(fd, "25 00 00 00 00 00 00 00 00 00", 8);
        assert_eq!(answer, "good 0");
        u64::from_str_radix(&data[..8], 16).expect("hexadecimal digits")
    };
    assert_eq!(client.none(&one, READY), "good 0", "nothing at power-on");
    for (bytes, teller) in [(2 * SIZE, READY), (3 * SIZE, "28 00 00 00 00 00 00 00 00 00"), (SIZE, READY)] {
        resize(bytes);
        // INQUIRY does not tell, and does not forget.
        let (inquiry, _) = client.read(&one, "12 00 00 00 24 00", 36);
        assert_eq!(inquiry, "good 0");
        assert_eq!(client.none(&two, teller), "6/2a/09 0", "{bytes}");
        for fd in [&one, &two] {
            assert_eq!(client.none(fd, READY), "good 0", "{bytes}");
        }
        assert_eq!(last(&mut client, &one), bytes / 512 - 1);
        let end = format!("2a 00 {:08x} 00 00 01 00", bytes / 512 - 1);
        assert_eq!(client.write(&one, &end, 512, 0x77), "good 0", "{bytes}");
        let behind = format!("2a 00 {:08x} 00 00 01 00", bytes / 512);
        assert_eq!(client.write(&one, &behind, 512, 0x77), "5/21/00 512", "{bytes}");
        let turs = command(&disk, "sg_turs --low DEV").output();
        assert_eq!(turs.code(), 0, "a fresh program: {}", turs.err());
    }
    // REQUEST SENSE tells it as data.
    resize(2 * SIZE);
    let (answer, sense) = client.read(&one, "03 00 00 00 12 00", 18);
    assert_eq!((answer.as_str(), &sense[4..6], &sense[24..28]), ("good 0", "06", "2a09"));
    assert_eq!(client.none(&one, READY), "good 0");
}

// Several at once.

/// Runs the incrementers; the result is what the number is afterwards, at both ends of the block.
fn increment(disk: &Disk, processes: usize, options: &[&str], paths: &[&Path]) -> [u64; 2] {
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let start = |_| {
            let program = disk.scratch().program("sgio");
            let run = disk.run(program).arg("increment").args(options).args(paths);
            scope.spawn(|| run.output())
        };
        let running: Vec<_> = (0..processes).map(start).collect();
        running.into_iter().map(|thread| thread.join().expect("a program runs")).collect()
    });
    for outcome in outcomes {
        outcome.expect_out();
    }
    let data = read_at(disk.device(), 5 * 512, 512);
    [0, 504].map(|at| u64::from_le_bytes(data[at..][..8].try_into().expect("8 bytes")))
}

fn increments(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, MIB);
    assert_eq!(increment(&disk, 3, &["5", "300", "3"], &[disk.path()]), [2700; 2]);
    // Paths are other names for it.
    assert_eq!(increment(&disk, 2, &["5", "300", "2"], &[disk.path(), disk.device()]), [3900; 2]);
}

fn increments_beside_fork(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, MIB);
    assert_eq!(increment(&disk, 2, &["5", "500", "2", "forks"], &[disk.path()]), [2000; 2]);
}

fn increments_by_two_nodes(kind: &'static str) {
    let disk = Disk::new(Medium::Loop, kind, MIB);
    let node = Name::node("bdwrapper-test", disk.device());
    let paths = [disk.path(), node.path()];
    assert_eq!(increment(&disk, 2, &["5", "500", "2"], &paths), [2000; 2]);
}

/// A client that is killed in the middle of COMPARE AND WRITE, or its supervisor, leaves a whole block
/// and no lock.
fn killed(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, MIB);
    let numbers = || {
        let data = read_at(disk.device(), 5 * 512, 512);
        [0, 504].map(|at| u64::from_le_bytes(data[at..][..8].try_into().expect("8 bytes")))
    };
    let program = disk.scratch().program("sgio");
    for round in 0..6 {
        let before = numbers()[0];
        let run = disk.run("sh").args(["-c", "echo $$; exec \"$0\" \"$@\""]).arg(&program);
        let run = run.args(["increment", "5", "1000000", "3"]).arg(disk.path());
        let mut session = run.start(&disk.scratch().path("stderr"));
        let client = session.line();
        wait_for("increments", || (numbers()[0] > before + 11 * round).then_some(()));
        let victim = match (engine(), round % 2) {
            (Engine::Supervisor, 1) => parent(&client),
            _ => client,
        };
        Run::new("kill").args(["-KILL", &victim]).output().expect_out();
        // Whatever is left of it.
        drop(session);
        let before = numbers()[0];
        let [after, end] = increment(&disk, 1, &["5", "50", "2"], &[disk.path()]);
        // Each of its threads may have had one more on the way.
        assert!(after == end && (100..=103).contains(&(after - before)), "{before} to {after} and {end}");
    }
}

fn hostile(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, MIB);
    for seed in ["1", "2"] {
        let program = disk.scratch().program("sgio");
        let outcome = disk.run(program).args(["hostile", seed]).arg(disk.path()).output();
        assert_eq!(outcome.code(), 0, "seed {seed}: {}", outcome.out());
    }
}

// Sizes.

/// A sparse image where files may be large.
struct Sparse {
    directory: tempfile::TempDir,
    scratch: Scratch,
}

impl Sparse {
    fn new(bytes: u64) -> Sparse {
        let directory = tempfile::tempdir_in("/dev/shm").expect("there is memory");
        let sparse = Sparse { directory, scratch: Scratch::new() };
        let file = File::create_new(sparse.path()).expect("it is a new directory");
        file.set_len(bytes).expect("tmpfs has large files");
        sparse
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("image")
    }
}

fn far_end(image: &Sparse, path: &Path, bytes: u64) {
    let blocks = bytes / 512;
    let entry = format!("{}=scsi", path.display());
    let mut client =
        Sgio::start(|program| Run::new(program).with(&image.scratch.library(), entry), &image.scratch);
    let fd = client.open("rw", path);
    let short = client.read(&fd, "25 00 00 00 00 00 00 00 00 00", 8);
    assert_eq!(short, ("good 0".to_owned(), "ffffffff00000200".to_owned()));
    let (answer, long) = client.read(&fd, "9e 10 .. 20 00 00", 32);
    assert_eq!((answer.as_str(), &long[..24]), ("good 0", &*format!("{:016x}00000200", blocks - 1)));
    let at = |code: &str, block: u64| format!("{code} 00 {block:016x} 00 00 00 08 00 00");
    for (block, byte) in [(blocks - 8, 0x61), (1 << 32, 0x62), ((1 << 32) - 4, 0x63), (blocks / 2, 0x64)] {
        assert_eq!(client.write(&fd, &at("8a", block), 4096, byte), "good 0", "{block}");
        assert_eq!(read_at(path, block * 512, 4096), [byte; 4096], "{block}");
        let read = client.read(&fd, &at("88", block), 4096);
        assert_eq!(read, ("good 0".to_owned(), repeated(byte, 4096)), "{block}");
        assert_eq!(client.none(&fd, &at("8f", block)), "good 0", "{block}");
        if is_root() {
            let swap = format!("89 00 {block:016x} 00 00 00 01 00 00");
            assert_eq!(client.write(&fd, &swap, 1024, byte), "good 0", "{block}");
        }
        assert_eq!(client.write(&fd, &at("93", block), 512, 0x65), "good 0", "{block}");
        assert_eq!(read_at(path, block * 512, 4096), [0x65; 4096], "{block}");
    }
    for block in [blocks - 7, blocks, u64::MAX - 8, u64::MAX] {
        for code in ["88", "8a", "8f", "93"] {
            let answer = client.write(&fd, &at(code, block), 0, 0);
            assert!(answer.starts_with("5/21/00 "), "{code} at {block}: {answer}");
        }
    }
    if is_root() {
        assert_eq!(client.none(&fd, &at("91", blocks - 8)), "good 0");
        assert_eq!(client.none(&fd, &at("91", blocks - 7)), "5/21/00 0");
    }
}

/// What a disk of 4096-byte blocks answers.
fn big_blocks(client: &mut Sgio, path: &Path, device: &Path) {
    let blocks = SIZE / 4096;
    for flags in ["rw", "rwd"] {
        let fd = client.open(flags, path);
        let capacity = client.read(&fd, "25 00 00 00 00 00 00 00 00 00", 8);
        assert_eq!(capacity, ("good 0".to_owned(), format!("{:08x}00001000", blocks - 1)));
        for (block, byte) in [(0, 0x71), (blocks - 1, 0x72)] {
            let at = |code: &str| format!("{code} 00 {block:08x} 00 00 01 00");
            assert_eq!(client.write(&fd, &at("2a"), 4096, byte), "good 0", "{flags}");
            assert_eq!(read_at(device, block * 4096, 4096), [byte; 4096], "{flags}");
            let read = client.read(&fd, &at("28"), 4096);
            assert_eq!(read, ("good 0".to_owned(), repeated(byte, 4096)), "{flags}");
            let list = client.ask(&format!("list {fd} {} 4096 {byte:02x}", hex(&at("2a"))));
            assert_eq!(list, "good 0", "{flags}");
            if is_root() {
                let swap = format!("89 00 {block:016x} 00 00 00 01 00 00");
                assert_eq!(client.write(&fd, &swap, 8192, byte), "good 0", "{flags}");
            }
            assert_eq!(client.write(&fd, &at("41"), 4096, 0x73), "good 0", "{flags}");
            assert_eq!(read_at(device, block * 4096, 4096), [0x73; 4096], "{flags}");
        }
        let behind = format!("2a 00 {blocks:08x} 00 00 01 00");
        assert_eq!(client.write(&fd, &behind, 4096, 1), "5/21/00 4096", "{flags}");
    }
}

fn big_blocks_image() {
    let disk = Disk::new(Medium::Image, "scsi", SIZE);
    let entry = format!("{},sector=4096", disk.entry());
    let library = disk.scratch().library();
    let mut client = Sgio::start(|program| Run::new(program).with(&library, &entry), disk.scratch());
    big_blocks(&mut client, disk.path(), disk.path());
}

fn big_blocks_loop(kind: &'static str) {
    let scratch = Scratch::new();
    let device = Loop::attach(&scratch.image("image", SIZE), &["--sector-size", "4096"]);
    let name = Name::link("sd", device.path());
    let entry = format!("{}={kind}", name.path().display());
    let run = |program: &Path| Run::new(program).with(&scratch.library(), &entry);
    let readcap = run(Path::new("sg_readcap")).args(["-16".as_ref(), name.path()]).output().expect_out();
    assert!(readcap.contains("Logical block length=4096 bytes"), "{readcap}");
    let mut client = Sgio::start(|program| run(&program), &scratch);
    big_blocks(&mut client, name.path(), device.path());
}

fn odd_size(medium: Medium, kind: &'static str) {
    let bytes = MIB + 700;
    let disk = Disk::new(medium, kind, bytes);
    let mut client = Sgio::of(&disk);
    for flags in ["rw", "rwd"] {
        let fd = client.open(flags, disk.path());
        let capacity = client.read(&fd, "25 00 00 00 00 00 00 00 00 00", 8);
        assert_eq!(capacity, ("good 0".to_owned(), format!("{:08x}00000200", 2048)), "{flags}");
        assert_eq!(client.write(&fd, "2a 00 00 00 08 00 00 00 01 00", 512, 0x81), "good 0", "{flags}");
        let read = client.read(&fd, "28 00 00 00 08 00 00 00 01 00", 512);
        assert_eq!(read, ("good 0".to_owned(), repeated(0x81, 512)), "{flags}");
        for code in ["28", "2a", "2f", "41"] {
            let answer = client.write(&fd, &format!("{code} 00 00 00 08 01 00 00 01 00"), 0, 0);
            assert!(answer.starts_with("5/21/00 "), "{flags}, {code}: {answer}");
        }
        // To the end.
        assert_eq!(client.write(&fd, "41 00 00 00 08 00 00 00 00 00", 512, 0x82), "good 0", "{flags}");
        assert_eq!(disk.image().metadata().expect("it exists").len(), bytes, "{flags}");
        assert_eq!(read_at(disk.image(), MIB + 512, 188), [0; 188], "{flags}");
    }
}

// What real targets gave.

/// How many ended with 0 on LIO, the kernel's own target.
const LIO: usize = 87;

/// What ends with 0 on LIO and not here, and why.
const EXCEPTIONS: [(&str, &str); 8] = [
    ("sg_persist --out --register --param-sark=abc DEV", PERSIST),
    ("sg_persist --out --register --param-rk=abc --param-sark=0 DEV", PERSIST),
    ("sg_persist --out --reserve --param-rk=abc --prout-type=1 DEV", PERSIST),
    ("sg_persist --out --release --param-rk=abc --prout-type=1 DEV", PERSIST),
    ("sg_persist -c DEV", PERSIST),
    ("sg_persist -k DEV", PERSIST),
    ("sg_persist -r DEV", PERSIST),
    ("sg_persist -s DEV", PERSIST),
];
const PERSIST: &str = "there are no reservations in this release, so that nobody is misled";

fn list() {
    let rows = clients::recorded("scsi-lio");
    let names: BTreeSet<String> = LIST.lines().map(clients::name).collect();
    assert_eq!(names.iter().collect::<Vec<_>>(), rows.keys().collect::<Vec<_>>());
    assert_eq!(rows.values().filter(|status| **status == 0).count(), LIO);

    // A node, for smartctl follows links and takes what it finds by its name.
    let disk = Disk::new(Medium::Node, "scsi", 2 * SIZE);
    let said = disk.scratch().path("said");
    // One run, whose programs are one initiator.
    let mut shell = disk.run("sh").start(&disk.scratch().path("stderr"));
    let (mut succeeded, mut missing, mut wrong) = (0, 0, Vec::new());
    for text in LIST.lines() {
        let command = text.replace("DEV", disk.path().to_str().expect("test names are ASCII"));
        let status = shell.ask(&format!("{command} >{} 2>&1 </dev/null; echo $?", said.display()));
        let success = status == "0";
        succeeded += usize::from(success);
        // The machine may lack what one needs that does not ask the device.
        if !success && !text.contains("DEV") && !Run::new("env").args(text.split(' ')).output().success() {
            missing += usize::from(rows[&clients::name(text)] == 0);
            continue;
        }
        let excepted = has_no_reservations() && EXCEPTIONS.iter().any(|(except, _)| *except == text);
        if rows[&clients::name(text)] == 0 && success == excepted {
            let said = fs::read_to_string(&said).expect("the shell has made it");
            wrong.push(format!("{text}: {status}: {said}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(succeeded + missing >= LIO, "only {succeeded} ended well");
}
