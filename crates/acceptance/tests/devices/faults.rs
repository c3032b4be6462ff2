//! Devices that fail under a client: the right sense data or error, no crash, no hang, and good data stays.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acceptance::machine::{looped, memory_image, run};
use acceptance::{Engine, Run, Scratch, Sgio, Trial, engine, trial};

use crate::growth::blocks;
use crate::{MIB, array, entry, group, listed, mapped, reload, volume};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("faults/error", &[], bad_blocks),
        trial("faults/flakey", &[], flakey),
        trial("faults/intervals", &[], intervals),
        trial("faults/delay", &[], delay),
        trial("faults/suspended", &[], suspended),
        trial("faults/read-only", &[], read_only),
        trial("faults/thin-pool-full", &[], thin_pool_full),
        trial("faults/degraded", &[], degraded),
        trial("faults/failed-array", &[], failed_array),
        trial("faults/device-removed", &[], removed),
        trial("faults/server-killed", &[], server_killed),
        trial("faults/server-among-clients", &[], server_among_clients),
        trial("faults/loop-file-truncated", &[], loop_truncated),
        trial("faults/image-truncated", &[], image_truncated),
        trial("faults/image-truncated-again-and-again", &[], image_truncated_again),
        trial("faults/log-of-writes", &[], log_of_writes),
    ]
}

/// A client of one kind of disk.
fn client(scratch: &Scratch, path: &Path, kind: &str) -> Sgio {
    Sgio::start(|program| Run::new(program).with(&scratch.library(), entry(path, kind)), scratch)
}

/// WRITE(10) with FUA of eight blocks.
fn write_fua(block: u64) -> String {
    format!("2a 08 {block:08x} 00 00 08 00")
}

/// READ(10) of eight blocks.
fn read(block: u64) -> String {
    format!("28 00 {block:08x} 00 00 08 00")
}

/// What READ of eight blocks gives that hold this byte.
fn holds(byte: u8) -> (String, String) {
    ("good 0".into(), format!("{byte:02x}").repeat(4096))
}

const SYNCHRONIZE: &str = "35 00 00 00 00 00 00 00 00 00";
const READY: &str = "00 00 00 00 00 00";
const INQUIRY: &str = "12 00 00 00 24 00";
const UNREADABLE: &str = "3/11/00";
const UNWRITABLE: &str = "3/0c/00";

/// A device with a bad area: the first bad block is named, good data stays.
fn bad_blocks() {
    let under = looped(16);
    let table = format!("0 1000 linear {under} 0\n1000 24 error\n1024 31744 linear {under} 1024");
    let path = mapped("bad", &table);
    let scratch = Scratch::new();
    let mut sgio = client(&scratch, &path, "scsi");
    for flags in ["rw", "rwd"] {
        let fd = sgio.open(flags, &path);
        assert_eq!(sgio.read(&fd, "28 00 00 00 03 e0 00 00 08 00", 4096).0, "good 0", "before it");
        let read = sgio.ask(&format!("in {fd} 2800000003e000001000 8192"));
        assert!(read.starts_with("3/11/00 "), "{flags}: {read}");
        let write = sgio.write(&fd, "2a 08 00 00 03 e8 00 00 08 00", 4096, 1);
        assert!(write.starts_with("3/0c/00 "), "{flags}: {write}");
        let verify = sgio.none(&fd, "2f 00 00 00 03 e0 00 00 20 00");
        assert!(verify.starts_with("3/11/00 "), "{flags}: {verify}");
        assert_eq!(sgio.read(&fd, "28 00 00 00 04 00 00 00 08 00", 4096).0, "good 0", "behind it");
    }
    for kind in ["ide", "sata"] {
        assert_eq!(listed(&scratch, &path, kind, "hdparm --read-sector 1003 DEV").code(), 5, "{kind}");
        assert!(listed(&scratch, &path, kind, "hdparm --read-sector 999 DEV").success(), "{kind}");
    }
    // The self-test reads both ends, which are good.
    let test = listed(&scratch, &path, "sata", "smartctl -d sat -t short DEV");
    assert!(test.success(), "{}", test.out());
}

fn read_only() {
    let path = volume(group(), "protected", "-L 16M");
    run("lvchange -qq -pr loops/protected");
    let scratch = Scratch::new();
    let mut sgio = client(&scratch, &path, "scsi");
    let fd = sgio.open("r", &path);
    assert!(sgio.write(&fd, "2a 00 00 00 00 00 00 00 01 00", 512, 1).starts_with("7/27/00 "));
    assert_eq!(sgio.read(&fd, "28 00 00 00 00 00 00 00 01 00", 512).0, "good 0");
    let modes = sgio.read(&fd, "1a 00 3f 00 ff 00", 255).1;
    assert_eq!(&modes[4..6], "90", "write-protected: {modes}");
    let written = listed(&scratch, &path, "ide", "hdparm --yes-i-know-what-i-am-doing --write-sector 0 DEV");
    assert_eq!(written.code(), 5, "{}", written.out());
}

/// A pool without space: SPACE ALLOCATION FAILED where the kernel says so, and what was written stays.
fn thin_pool_full() {
    run("modprobe dm-thin-pool");
    run(&format!("lvcreate -qq -y -T -L 16M {}/small", group()));
    run(&format!("lvcreate -qq -y -Wn -V 64M -T {}/small -n full", group()));
    let path = PathBuf::from("/dev/loops/full");
    run("lvchange -qq --errorwhenfull y loops/small");
    let scratch = Scratch::new();
    let mut sgio = client(&scratch, &path, "scsi");
    let fd = sgio.open("rwd", &path);
    let at = |code: &str, mib: u64| format!("{code} 00 {:016x} 00 00 08 00 00 00", mib * 2048);
    let full = (0..64).find(|&mib| sgio.write(&fd, &at("8a", mib), MIB, mib as u8 + 1) != "good 0");
    let full = full.expect("the pool is smaller than the volume");
    assert!((8..=20).contains(&full), "{full}");
    let refused = sgio.write(&fd, &at("8a", 40), MIB, 1);
    assert!(refused.starts_with("7/27/07 "), "{refused}");
    for mib in 0..full {
        let expected = format!("{:02x}", mib + 1).repeat(MIB as usize);
        assert!(sgio.read(&fd, &at("88", mib), MIB) == ("good 0".into(), expected), "MiB {mib}");
    }
}

/// An array that loses a member in use goes on.
fn degraded() {
    let path = array("md8", "1", 2);
    let scratch = Scratch::new();
    let mut sgio = client(&scratch, &path, "scsi");
    let fd = sgio.open("rw", &path);
    let write = "2a 08 00 00 00 00 00 00 08 00";
    assert_eq!(sgio.write(&fd, write, 4096, 0x41), "good 0");
    let detail = run("mdadm --detail /dev/md8");
    let member = detail.lines().last().and_then(|line| line.split_whitespace().last()).expect("a member");
    run(&format!("mdadm -q /dev/md8 --fail {member}"));
    assert_eq!(sgio.read(&fd, "28 00 00 00 00 00 00 00 08 00", 4096), ("good 0".into(), "41".repeat(4096)));
    assert_eq!(sgio.write(&fd, write, 4096, 0x42), "good 0");
    assert_eq!(sgio.none(&fd, "00 00 00 00 00 00"), "good 0");
}

/// A disk that is unplugged while it is open: errors, no crash and no hang.
fn removed() {
    run("modprobe zram");
    run("modprobe nbd");
    File::create("/dev/shm/gone").and_then(|file| file.set_len(16 * MIB)).expect("there is memory");
    fs::write(
        "/dev/shm/gone.conf",
        "[generic]\nuser=root\ngroup=root\nport=10810\n[x]\nexportname=/dev/shm/gone\n",
    )
    .expect("it can be written");
    run("nbd-server -C /dev/shm/gone.conf -p /dev/shm/gone.pid");
    run("nbd-client 127.0.0.1 10810 -N x /dev/nbd1");
    let path = Path::new("/dev/nbd1");
    let scratch = Scratch::new();
    let mut sgio =
        Sgio::start(|program| Run::new(program).with(&scratch.library(), entry(path, "scsi")), &scratch);
    let fd = sgio.open("rwd", path);
    assert_eq!(sgio.write(&fd, "2a 08 00 00 00 00 00 00 08 00", 4096, 1), "good 0");
    run("nbd-client -d /dev/nbd1");
    for cdb in ["28 00 00 00 00 00 00 00 08 00", "2a 00 00 00 00 00 00 00 08 00"] {
        let answer =
            if cdb.starts_with("28") { sgio.read(&fd, cdb, 4096).0 } else { sgio.write(&fd, cdb, 4096, 1) };
        assert!(!answer.starts_with("good"), "{cdb}: {answer}");
    }
    let inquiry = sgio.read(&fd, "12 00 00 00 24 00", 36).0;
    assert_eq!(inquiry, "good 0", "who it is can be said all the same");
}

/// A device that fails for a while: what was good stays, and when it is good again all goes on.
fn flakey() {
    run("modprobe dm-flakey");
    let under = looped(16);
    let good = format!("0 32768 linear {under} 0");
    // Down all the time.
    let down = |how: &str| format!("0 32768 flakey {under} 0 0 1 {how}");
    let path = mapped("flaky", &good);
    let scratch = Scratch::new();
    for kind in ["scsi", "sata"] {
        let mut sgio = client(&scratch, &path, kind);
        let [buffered, direct] = ["rw", "rwd"].map(|flags| sgio.open(flags, &path));
        for (block, byte) in [(0, 0x11), (64, 0x12), (128, 0x13)] {
            assert_eq!(sgio.write(&direct, &write_fua(block), 4096, byte), "good 0");
        }
        // It does nothing.
        reload("flaky", &down("0"));
        run(&format!("blockdev --flushbufs {}", path.display()));
        for fd in [&buffered, &direct] {
            let (answer, _) = sgio.read(fd, &read(64), 4096);
            assert!(answer.starts_with(UNREADABLE), "{answer}");
            let answer = sgio.write(fd, &write_fua(0), 4096, 0x21);
            assert!(answer.starts_with(UNWRITABLE), "{answer}");
            assert_eq!(sgio.none(fd, READY), "good 0", "it is there");
        }
        let answer = sgio.none(&direct, "2f 00 00 00 00 80 00 00 08 00");
        assert!(answer.starts_with(UNREADABLE), "VERIFY: {answer}");
        let pieces = sgio.ask(&format!("list {direct} 2a080000008000000800 4096 21"));
        assert!(pieces.starts_with(UNWRITABLE), "{pieces}");
        assert_eq!(sgio.ask(&format!("write {direct} 0 4096 21")), "EIO", "pwrite(2)");
        // The cache takes it, and cannot get rid of it.
        assert_eq!(sgio.write(&buffered, "2a 00 00 00 01 00 00 00 08 00", 4096, 0x22), "good 0");
        assert!(sgio.none(&buffered, SYNCHRONIZE).starts_with(UNWRITABLE));
        for (how, kind) in [("hdparm --read-sector 512 DEV", "ide"), ("hdparm --read-sector 512 DEV", "sata")]
        {
            assert_eq!(listed(&scratch, &path, kind, how).code(), 5, "{kind}");
        }
        // It reads, and refuses to write.
        reload("flaky", &down("1 error_writes"));
        assert_eq!(sgio.read(&direct, &read(64), 4096), holds(0x12));
        let answer = sgio.write(&direct, &write_fua(64), 4096, 0x23);
        assert!(answer.starts_with(UNWRITABLE), "{answer}");
        assert_eq!(sgio.read(&direct, &read(64), 4096), holds(0x12));
        // It lies: what it says to have written is not there. WRITE AND VERIFY finds it out.
        reload("flaky", &down("1 drop_writes"));
        // Linux tells each descriptor once that the cache lost something.
        assert!(sgio.none(&direct, SYNCHRONIZE).starts_with(UNWRITABLE));
        assert_eq!(sgio.write(&direct, &write_fua(64), 4096, 0x24), "good 0");
        assert_eq!(sgio.read(&direct, &read(64), 4096), holds(0x12));
        let answer = sgio.write(&direct, "2e 02 00 00 00 40 00 00 08 00", 4096, 0x24);
        assert!(answer.starts_with("e/1d/00 "), "{answer}");
        reload("flaky", &good);
        for (block, byte) in [(0, 0x11), (64, 0x12), (128, 0x13)] {
            assert_eq!(sgio.read(&direct, &read(block), 4096), holds(byte), "{block}");
        }
        for fd in [&buffered, &direct] {
            assert_eq!(sgio.write(fd, &write_fua(64), 4096, 0x25), "good 0");
            assert_eq!(sgio.none(fd, SYNCHRONIZE), "good 0");
            assert_eq!(sgio.read(fd, &read(64), 4096), holds(0x25));
        }
        for kind in ["ide", "sata"] {
            listed(&scratch, &path, kind, "hdparm --read-sector 512 DEV").expect_out();
        }
    }
}

/// A device that comes and goes by itself: each block holds the last that was acknowledged, or what failed after that.
fn intervals() {
    run("modprobe dm-flakey");
    let under = looped(16);
    let path = mapped("intervals", &format!("0 32768 flakey {under} 0 1 1"));
    let scratch = Scratch::new();
    let mut sgio = client(&scratch, &path, "scsi");
    let fd = sgio.open("rwd", &path);
    let mut may_hold = vec![vec![0u8]; 64];
    let (mut was_good, mut changes) = (true, 0);
    for number in 0u64.. {
        let (block, byte) = (number % 64, (number / 64 % 255 + 1) as u8);
        let answer = sgio.write(&fd, &write_fua(8 * block), 4096, byte);
        let is_good = answer == "good 0";
        assert!(is_good || answer.starts_with(UNWRITABLE), "{answer}");
        if is_good {
            may_hold[block as usize].clear();
        }
        may_hold[block as usize].push(byte);
        changes += u32::from(is_good != was_good);
        was_good = is_good;
        if changes == 6 {
            break;
        }
    }
    reload("intervals", &format!("0 32768 linear {under} 0"));
    for (block, may_hold) in (0u64..).zip(may_hold) {
        let said = sgio.read(&fd, &read(8 * block), 4096);
        assert!(may_hold.iter().any(|&byte| said == holds(byte)), "block {block}: {}", &said.1[..4]);
    }
}

/// A slow device gives the right answers, whatever the caller's patience.
fn delay() {
    run("modprobe dm-delay");
    let under = looped(16);
    let path = mapped("slow", &format!("0 32768 delay {under} 0 40 {under} 0 80"));
    let scratch = Scratch::new();
    for (kind, byte) in [("scsi", 0x31), ("sata", 0x41)] {
        let mut sgio = client(&scratch, &path, kind);
        for patience in ["10000", "1", "0", "4294967295"] {
            assert_eq!(sgio.ask(&format!("timeout {patience}")), patience);
            for (fd, byte) in ["rw", "rwd"].map(|flags| sgio.open(flags, &path)).iter().zip(byte..) {
                assert_eq!(sgio.write(fd, &write_fua(0), 4096, byte), "good 0", "{patience}");
                assert_eq!(sgio.none(fd, SYNCHRONIZE), "good 0", "{patience}");
                assert_eq!(sgio.read(fd, &read(0), 4096), holds(byte), "{patience}");
                assert_eq!(sgio.none(fd, "2f 00 00 00 00 00 00 00 80 00"), "good 0", "{patience}");
            }
        }
    }
    for kind in ["ide", "sata"] {
        listed(&scratch, &path, kind, "hdparm --yes-i-know-what-i-am-doing --write-sector 8 DEV")
            .expect_out();
        listed(&scratch, &path, kind, "hdparm -F DEV").expect_out();
        listed(&scratch, &path, kind, "hdparm --read-sector 8 DEV").expect_out();
    }
}

/// While commands wait for a device that does nothing, other threads, descriptors and devices go on; then they end well.
fn suspended() {
    let (under, other) = (looped(16), PathBuf::from(looped(16)));
    let path = mapped("stalled", &format!("0 32768 linear {under} 0"));
    let scratch = Scratch::new();
    let entries = format!("{}:{}", entry(&path, "scsi"), entry(&other, "sata"));
    let mut sgio = Sgio::start(|program| Run::new(program).with(&scratch.library(), &entries), &scratch);
    let [buffered, direct] = ["rw", "rwd"].map(|flags| sgio.open(flags, &path));
    let free = sgio.open("rwd", &other);
    assert_eq!(sgio.write(&direct, &write_fua(8), 4096, 0), "good 0");
    let swap = format!("{}{}", "00".repeat(512), "51".repeat(512));
    run("dmsetup suspend stalled");
    let mut waiting = Vec::new();
    for line in [
        format!("out {direct} 2a080000000000000800 4096 50"),
        format!("give {direct} 89000000000000000008000000010000 {swap}"),
        format!("in {direct} 28000000001000000800 4096"),
        format!("write {direct} 12288 4096 52"),
    ] {
        waiting.push(sgio.ask(&format!("later {line}")));
    }
    for fd in [&buffered, &direct] {
        for _ in 0..5 {
            assert_eq!(sgio.none(fd, READY), "good 0");
            assert_eq!(sgio.read(fd, INQUIRY, 36).0, "good 0");
            assert_eq!(blocks(&mut sgio, fd), 32768);
        }
    }
    for byte in 1..6 {
        assert_eq!(sgio.write(&free, &write_fua(0), 4096, byte), "good 0");
        assert_eq!(sgio.read(&free, &read(0), 4096), holds(byte));
        let swap = format!("{:02x}", byte).repeat(512) + &format!("{:02x}", byte + 1).repeat(512);
        let swapped = sgio.ask(&format!("give {free} 89000000000000000000000000010000 {swap}"));
        assert_eq!(swapped, "good 0", "COMPARE AND WRITE of another device");
    }
    for number in &waiting {
        assert_eq!(sgio.ask(&format!("done {number}")), "no");
    }
    run("dmsetup resume stalled");
    let answers: Vec<String> = waiting.iter().map(|number| sgio.ask(&format!("join {number}"))).collect();
    let zeros = format!("good 0 {}", "00".repeat(4096));
    assert_eq!(answers, ["good 0", "good 0", &zeros, "4096"]);
    assert_eq!(sgio.read(&direct, &read(0), 4096), holds(0x50));
    assert_eq!(sgio.read(&direct, &read(24), 4096), holds(0x52));
    let swapped = sgio.read(&direct, "28 00 00 00 00 08 00 00 01 00", 512);
    assert_eq!(swapped, ("good 0".into(), "51".repeat(512)));
}

/// An array that has lost more members than it can: no block can be read any more, none is made up.
fn failed_array() {
    let path = array("md9", "5", 3);
    let scratch = Scratch::new();
    let mut sgio = client(&scratch, &path, "scsi");
    let fd = sgio.open("rwd", &path);
    assert_eq!(sgio.write(&fd, &write_fua(0), 4096, 0x41), "good 0");
    let detail = run("mdadm --detail /dev/md9");
    let members = detail.lines().filter_map(|line| line.split_whitespace().last());
    let members: Vec<&str> = members.filter(|word| word.starts_with("/dev/loop")).collect();
    for member in &members[..2] {
        // The array refuses to lose the last that it cannot do without, but for a fault of the member.
        let _ = Run::new("mdadm").args(["-q", "/dev/md9", "--fail", member]).output();
    }
    let state = run("mdadm --detail /dev/md9");
    assert!(state.contains("FAILED"), "{state}");
    // Each stripe lacks one block at least, and it is not always the same member's.
    let reads: Vec<String> = (0..64).map(|stripe| sgio.read(&fd, &read(stripe * 1024), 4096).0).collect();
    assert!(reads.iter().any(|read| read.starts_with(UNREADABLE)), "{reads:?}");
    assert!(reads.iter().all(|read| read == "good 0" || read.starts_with(UNREADABLE)), "{reads:?}");
    let write = sgio.write(&fd, &write_fua(0), 4096, 0x42);
    assert!(write.starts_with(UNWRITABLE), "{write}");
    assert_eq!(sgio.none(&fd, READY), "good 0");
}

/// Starts an nbd server for an image, and gives it to a device. The server's process number stands in a file.
fn served(image: &str, port: u16, device: &str) -> PathBuf {
    run("modprobe nbd");
    let [conf, pid] = ["conf", "pid"].map(|end| format!("/dev/shm/nbd-{port}.{end}"));
    let text = format!(
        "[generic]\nuser=root\ngroup=root\nport={port}\n[x]\nexportname={image}\nflush=true\nfua=true\n"
    );
    fs::write(&conf, text).expect("it can be written");
    let _ = fs::remove_file(&pid);
    run(&format!("nbd-server -C {conf} -p {pid}"));
    // By ioctl(2), so that the kernel itself ends what waits when the server is gone: see docs/devices.md.
    run(&format!("nbd-client -nonetlink 127.0.0.1 {port} -N x {device}"));
    pid.into()
}

/// A number's 4096 bytes, as `sgio number` writes them.
fn numbered(number: u64) -> Vec<u8> {
    number.to_ne_bytes().repeat(512)
}

/// A server that is killed while six threads write: each is told, and what was acknowledged is in the image.
fn server_killed() {
    let image = memory_image(64);
    let device = "/dev/nbd3";
    let path = Path::new(device);
    let scratch = Scratch::new();
    let mut first = 0;
    for (kind, ways) in [
        ("scsi", ["fua", "sync", "verify", "fua", "sync", "pwrite"]),
        ("sata", ["ata-fua", "ata-flush", "fua", "sync", "pwrite", "pwrite"]),
    ] {
        let pid = served(&image, 10830, device);
        let mut watcher = client(&scratch, path, kind);
        let fd = watcher.open("rwd", path);
        assert_eq!(watcher.none(&fd, READY), "good 0");
        let writers = ways.iter().flat_map(|&way| [way, device]);
        let mut numbers = Run::new(scratch.program("sgio"))
            .with(&scratch.library(), entry(path, kind))
            .args(["number", &first.to_string(), "8000"])
            .args(writers)
            .start(&scratch.path("stderr-of-writers"));
        let (mut acknowledged, mut failed) = (Vec::new(), Vec::new());
        loop {
            let line = numbers.line();
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["acknowledged", number] => {
                    acknowledged.push(number.parse::<u64>().expect("a number"));
                    if acknowledged.len() == 300 {
                        let server = fs::read_to_string(&pid).expect("the server wrote it");
                        let server = server.trim().to_owned();
                        // It has a child that serves the connection.
                        for process in children(&server).iter().chain([&server]) {
                            run(&format!("kill -KILL {process}"));
                        }
                    }
                }
                ["failed", number, answer, ..] => failed.push((number.to_owned(), answer.to_owned())),
                ["end"] => break,
                _ => panic!("{line}"),
            }
        }
        numbers.end();
        assert_eq!(failed.len(), ways.len(), "every thread was told: {failed:?}");
        for (number, answer) in &failed {
            let way = ways[(number.parse::<usize>().expect("a number") - first) % ways.len()];
            let right: &[&str] = match way {
                "pwrite" => &["EIO"],
                // A device fault.
                "ata-fua" | "ata-flush" => &["descriptor:4/44/00"],
                "verify" => &["3/0c/00", "3/11/00"],
                _ => &["3/0c/00"],
            };
            assert!(right.contains(&answer.as_str()), "{way}: {answer}");
        }
        let file = File::open(&image).expect("it is ours");
        let mut place = [0; 4096];
        for number in &acknowledged {
            file.read_exact_at(&mut place, number * 4096).expect("it is long enough");
            assert!(place[..] == numbered(*number), "{number} is lost");
        }
        let (answer, _) = watcher.read(&fd, &read(0), 4096);
        assert!(answer.starts_with(UNREADABLE), "{answer}");
        let answer = watcher.write(&fd, &write_fua(0), 4096, 1);
        assert!(answer.starts_with(UNWRITABLE), "{answer}");
        assert_eq!(watcher.read(&fd, INQUIRY, 36).0, "good 0");
        drop(watcher);
        run(&format!("nbd-client -nonetlink -d {device}"));
        println!("{kind}: {} acknowledged, {failed:?}", acknowledged.len());
        // Connected again.
        served(&image, 10830, device);
        let mut again = client(&scratch, path, kind);
        let fd = again.open("rwd", path);
        let number = acknowledged[299];
        let held: String = numbered(number).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(again.read(&fd, &read(8 * number), 4096), ("good 0".into(), held));
        assert_eq!(again.write(&fd, &write_fua(8 * number), 4096, 0x61), "good 0");
        assert_eq!(again.read(&fd, &read(8 * number), 4096), holds(0x61));
        drop(again);
        run(&format!("nbd-client -nonetlink -d {device}"));
        let servers = fs::read_to_string(&pid).expect("the server wrote it");
        run(&format!("kill {}", servers.trim()));
        first += 8000;
    }
}

/// The server of a device and its clients are started by one program, so that the same engine answers all of them.
fn server_among_clients() {
    let image = memory_image(64);
    let file = File::options().write(true).open(&image).expect("it is there");
    file.write_all_at(&[0x42; 4096], 0).expect("there is memory");
    run("modprobe nbd");
    let [device, port] = ["/dev/nbd5", "10832"];
    let scratch = Scratch::new();
    let [conf, pid] = ["conf", "pid"].map(|name| scratch.path(name));
    let text = format!("[generic]\nuser=root\ngroup=root\nport={port}\n[x]\nexportname={image}\n");
    fs::write(&conf, text).expect("it can be written");
    let script = "nbd-server -C \"$2\" -p \"$3\"; echo ready; read line
        for block in 0 1 2 3 4 5 6 7 8 9 a b c d e f; do
            \"$0\" command \"$1\" 28000000000${block}00000800 20 &
        done
        wait; echo end; read line; exit 0";
    let clients = Run::new("sh").with(&scratch.library(), entry(Path::new(device), "scsi"));
    let clients = clients.args(["-c", script]).arg(scratch.program("bench")).arg(device).arg(&conf).arg(&pid);
    let mut session = clients.start(&scratch.path("stderr"));
    assert_eq!(session.line(), "ready");
    run(&format!("nbd-client -nonetlink 127.0.0.1 {port} -N x {device}"));
    let mut answers = vec![session.ask("go")];
    answers.extend((0..16).map(|_| session.line()));
    assert_eq!(answers.pop().as_deref(), Some("end"), "{answers:?}");
    assert_eq!(answers, ["answered"; 16]);
    run(&format!("nbd-client -nonetlink -d {device}"));
    run(&format!("kill {}", fs::read_to_string(&pid).expect("the server wrote it").trim()));
    session.end();
}

/// The processes that one has started.
fn children(process: &str) -> Vec<String> {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    list.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn truncate(image: &str, bytes: u64) {
    File::options().write(true).open(image).and_then(|file| file.set_len(bytes)).expect("it is ours");
}

/// The file of a loop device loses its end: what is there can be read, the rest cannot, and the client lives, for nothing of
/// it is in the client's memory. Without direct I/O it is the loop driver that makes up zeros.
fn loop_truncated() {
    run("modprobe ext4");
    run("mkdir /mnt/files");
    let files = looped(64);
    run(&format!("mkfs.ext4 -q {files}"));
    run(&format!("mount {files} /mnt/files"));
    for direct_io in ["on", "off"] {
        truncated_below(direct_io == "on");
    }
}

fn truncated_below(fails: bool) {
    let image = "/mnt/files/image";
    File::create(image).expect("it is ours");
    truncate(image, 16 * MIB);
    let direct_io = if fails { "on" } else { "off" };
    let device = run(&format!("losetup --direct-io={direct_io} --find --show {image}"));
    let path = PathBuf::from(device.trim());
    let scratch = Scratch::new();
    for kind in ["scsi", "sata"] {
        truncate(image, 16 * MIB);
        let mut sgio = client(&scratch, &path, kind);
        let [buffered, direct] = ["rw", "rwd"].map(|flags| sgio.open(flags, &path));
        assert_eq!(sgio.write(&direct, &write_fua(0), 4096, 0x71), "good 0");
        assert_eq!(sgio.write(&direct, &write_fua(16384), 4096, 0x72), "good 0");
        truncate(image, 4 * MIB);
        run(&format!("blockdev --flushbufs {}", path.display()));
        for fd in [&buffered, &direct] {
            assert_eq!(blocks(&mut sgio, fd), 32768, "the device does not know");
            assert_eq!(sgio.read(fd, &read(0), 4096), holds(0x71));
            let answers = [
                sgio.read(fd, &read(16384), 4096).0,
                sgio.none(fd, "2f 00 00 00 40 00 00 00 08 00"),
                sgio.read(fd, "28 00 00 00 1f f8 00 00 10 00", 8192).0,
            ];
            let right = if fails { UNREADABLE } else { "good 0" };
            assert!(answers.iter().all(|answer| answer.starts_with(right)), "{direct_io}: {answers:?}");
            if !fails {
                assert_eq!(sgio.read(fd, &read(16384), 4096), holds(0));
            }
        }
        for kind in ["ide", "sata"] {
            let read = listed(&scratch, &path, kind, "hdparm --read-sector 16384 DEV").code();
            assert_eq!(read, if fails { 5 } else { 0 }, "{kind}");
            listed(&scratch, &path, kind, "hdparm --read-sector 0 DEV").expect_out();
        }
        let maps = sgio.open("r", Path::new("/proc/self/maps"));
        let maps = sgio.ask(&format!("read {maps} 0 65536"));
        let maps = maps.as_bytes().chunks(2).map(|digits| {
            u8::from_str_radix(std::str::from_utf8(digits).expect("ASCII"), 16).expect("hexadecimal") as char
        });
        let maps: String = maps.collect();
        assert_eq!(maps.contains("libvmware-bdwrapper"), engine() == Engine::Library, "{maps}");
        assert!(!maps.contains(image) && !maps.contains(device.trim()), "{maps}");
        // Writing gives the file its end back.
        assert_eq!(sgio.write(&direct, &write_fua(16384), 4096, 0x73), "good 0");
        assert_eq!(sgio.read(&direct, &read(16384), 4096), holds(0x73));
        // And when the device knows, so does the client.
        truncate(image, 4 * MIB);
        run(&format!("losetup --set-capacity {}", path.display()));
        assert_eq!(sgio.none(&direct, READY), "6/2a/09 0");
        assert_eq!(sgio.read(&direct, &read(16384), 4096).0, "5/21/00");
        assert_eq!(sgio.read(&direct, &read(0), 4096), holds(0x71));
        assert_eq!(blocks(&mut sgio, &direct), 8192);
        truncate(image, 16 * MIB);
        run(&format!("losetup --set-capacity {}", path.display()));
    }
    run(&format!("losetup --detach {}", path.display()));
}

/// A listed image file loses its end: the disk is smaller, and says so once.
fn image_truncated() {
    let image = memory_image(16);
    let path = Path::new(&image);
    let scratch = Scratch::new();
    for kind in ["scsi", "sata"] {
        truncate(&image, 16 * MIB);
        let mut sgio = client(&scratch, path, kind);
        let fd = sgio.open("rw", path);
        assert_eq!(sgio.write(&fd, &write_fua(0), 4096, 0x81), "good 0");
        assert_eq!(sgio.write(&fd, &write_fua(16384), 4096, 0x82), "good 0");
        // 100 bytes are no block.
        truncate(&image, 4 * MIB + 100);
        assert_eq!(sgio.none(&fd, READY), "6/2a/09 0");
        assert_eq!(sgio.none(&fd, READY), "good 0");
        assert_eq!(blocks(&mut sgio, &fd), 8192);
        assert_eq!(sgio.read(&fd, &read(16384), 4096).0, "5/21/00");
        assert_eq!(sgio.read(&fd, &read(8188), 4096).0, "5/21/00", "across the end");
        assert_eq!(sgio.write(&fd, &write_fua(8192), 4096, 0x83), "5/21/00 4096");
        assert_eq!(fs::metadata(path).expect("it is ours").len(), 4 * MIB + 100, "nothing makes it longer");
        assert_eq!(sgio.read(&fd, &read(0), 4096), holds(0x81));
        for kind in ["ide", "sata"] {
            assert_eq!(listed(&scratch, path, kind, "hdparm --read-sector 8192 DEV").code(), 5, "{kind}");
            let native = listed(&scratch, path, kind, "hdparm -N DEV").expect_out();
            assert!(native.contains("8192/8192"), "{native}");
        }
        truncate(&image, 0);
        assert_eq!(sgio.none(&fd, READY), "2/3a/00 0");
        assert_eq!(sgio.read(&fd, &read(0), 4096).0, "2/3a/00", "of nothing");
    }
}

/// The same while commands are on their way: a read gives what was written, zeros of a file that is longer again, or sense data.
fn image_truncated_again() {
    let image = memory_image(4);
    let path = Path::new(&image);
    let file = File::options().write(true).open(path).expect("it is ours");
    let scratch = Scratch::new();
    let mut sgio = client(&scratch, path, "scsi");
    let fd = sgio.open("rw", path);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                file.set_len(MIB).expect("it can be shorter");
                file.write_all_at(&[0x91; 2 * MIB as usize], 2 * MIB).expect("there is memory");
                // Some reads are to find it long.
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let _over = Over(&is_over);
        let mut seen = [0; 4];
        while seen.iter().sum::<u32>() < 300 || seen[..3].contains(&0) {
            // 256 KiB from 2 MiB on.
            let (answer, data) = sgio.read(&fd, "28 00 00 00 10 00 00 02 00 00", MIB / 4);
            let kind = match answer.split_once(' ').map_or(answer.as_str(), |(word, _)| word) {
                "good" => {
                    let mut pairs = data.as_bytes().chunks(2);
                    assert!(pairs.all(|pair| pair == b"00" || pair == b"91"), "something else was read");
                    0
                }
                "6/2a/09" => 1,
                "5/21/00" => 2,
                "3/11/00" => 3,
                _ => panic!("{answer}"),
            };
            seen[kind] += 1;
        }
        let [read, changed, out_of_range, unreadable] = seen;
        println!(
            "{read} read, {changed} unit attentions, {out_of_range} out of range, {unreadable} unreadable"
        );
    });
}

/// Tells a thread that it is over, also where the trial fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the kernel's record of a device's writes and flushes (dm-log-writes) holds before a mark.
///
/// A write stands there when it is on the medium for certain: at once with FUA, otherwise when the next flush has ended.
fn log_of_writes() {
    run("modprobe dm-log-writes");
    let (under, log) = (looped(16), looped(64));
    let path = mapped("logged", &format!("0 32768 log-writes {under} {log}"));
    let scratch = Scratch::new();
    // What was written, and whether it is to last: the first fills the eight blocks from 8 on with 1, the second those from 16 on with 2.
    let mut written = Vec::new();
    let mut write = |sgio: &mut Sgio, fd: &str, cdb: &str, settle: &str, lasts: bool| {
        let number = written.len() as u8 + 1;
        written.push((format!("{cdb}; {settle}"), lasts));
        let block = u64::from(number) * 8;
        let cdb = cdb.replace("BLOCK", &format!("{block:08x}"));
        let cdb = cdb.replace("ATA", &format!("{:02x} 00 {:02x} 00 00", block as u8, block >> 8));
        assert_eq!(sgio.write(fd, &cdb, 4096, number), "good 0", "{cdb}");
        if !settle.is_empty() {
            assert_eq!(sgio.none(fd, settle), "good 0", "{settle}");
        }
        run(&format!("dmsetup message logged 0 mark {number}"));
    };
    for (kind, flags) in [("scsi", "rw"), ("scsi", "rwd"), ("sata", "rw"), ("sata", "rwd")] {
        let mut sgio = client(&scratch, &path, kind);
        let fd = sgio.open(flags, &path);
        let ways: &[(&str, &str, bool)] = &[
            ("2a 08 BLOCK 00 00 08 00", "", true),
            ("2a 00 BLOCK 00 00 08 00", SYNCHRONIZE, true),
            ("2a 00 BLOCK 00 00 08 00", "91 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00", true),
            ("2e 00 BLOCK 00 00 08 00", "", true),
            ("2a 00 BLOCK 00 00 08 00", "1b 00 00 00 00 00", true),
            ("85 0d 06 00 00 00 08 00 ATA 40 3d 00", "", true),
            ("85 0d 06 00 00 00 08 00 ATA 40 35 00", "85 07 00 00 00 00 00 00 00 00 00 00 00 40 ea 00", true),
            ("85 0d 06 00 00 00 08 00 ATA 40 35 00", "", false),
            ("2a 00 BLOCK 00 00 08 00", "", false),
        ];
        for &(cdb, settle, lasts) in ways.iter().filter(|way| kind == "sata" || !way.0.contains("ATA")) {
            write(&mut sgio, &fd, cdb, settle, lasts);
        }
        // The caching page, without WCE.
        let (_, page) = sgio.read(&fd, "1a 08 08 00 18 00", 24);
        assert_eq!(&page[12..14], "04", "{page}");
        let list = format!("00000000{}00{}", &page[8..12], &page[14..]);
        assert_eq!(sgio.ask(&format!("give {fd} 151000001800 {list}")), "good 0");
        write(&mut sgio, &fd, "2a 00 BLOCK 00 00 08 00", "", true);
    }
    run("dmsetup remove logged");
    let log = fs::read(&log).expect("it is ours");
    let word = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().expect("8 bytes")) as usize;
    // drivers/md/dm-log-writes.c: `struct log_write_super`, then a `struct log_write_entry` and its data, again and again.
    const MAGIC: usize = 0x6a_7366_7773_6872;
    const DISCARD: usize = 4;
    const MARK: usize = 8;
    assert_eq!(word(0), MAGIC);
    let (mut at, mut there, mut marks) = (512, std::collections::BTreeSet::new(), 0);
    for _ in 0..word(16) {
        let [sector, sectors, flags, length] = [0, 8, 16, 24].map(|field| word(at + field));
        if flags & MARK != 0 {
            let mark = String::from_utf8_lossy(&log[at + 32..at + 32 + length]);
            // The last mark is the kernel's own.
            if let Ok(number) = mark.parse::<usize>() {
                let (way, lasts) = &written[number - 1];
                assert_eq!(there.contains(&number), *lasts, "{way}");
                marks += 1;
            }
        }
        at += 512;
        if flags & DISCARD == 0 {
            for (block, data) in (sector..).zip(log[at..at + 512 * sectors].chunks(512)) {
                if data.iter().all(|&byte| usize::from(byte) == block / 8) {
                    there.insert(block / 8);
                }
            }
            at += 512 * sectors;
        }
    }
    assert_eq!(marks, written.len());
}
