//! `vmware-bdwrapper doctor`, `list`, and what `run` refuses: each cause brought about, and what the command says of it.

mod system;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{
    Disk, Finding, Loop, Medium, Name, Need, Outcome, Run, Scratch, main as harness, program_with, trial,
};
use disk::names;
use serde_json::{Value, json};
use system::{CONF, LIBRARY, System, chmod, command, make, remove};

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let root: &[Need] = &[Need::Root];
    let devices: &[Need] = &[Need::Devices];
    let compiler: &[Need] = &[Need::Tool("cc")];
    let installs: &[Need] = &[Need::Root, Need::Tool("cc"), Need::Tool("make")];
    // In a user namespace the directory / belongs to nobody, which is a warning.
    let machine_installs: &[Need] = &[Need::Devices, Need::Tool("cc"), Need::Tool("make")];
    let with = |tools: &[&'static str]| -> Vec<Need> {
        tools.iter().map(|tool| Need::Tool(tool)).chain([Need::Root]).collect()
    };
    let on_devices = |tools: &[&'static str]| [&with(tools)[..], devices].concat();
    harness(vec![
        trial("doctor/ready", &[], ready),
        trial("doctor/json", &[], json_document),
        trial("doctor/problems first and alone", &[], quiet),
        trial("doctor/entries", &[], entries),
        trial("doctor/what is not checked", root, incomplete),
        trial("doctor/devices listed together", &on_devices(&["sfdisk"]), together),
        trial("doctor/a descriptor", &[Need::Tool("sgdisk")], descriptor),
        trial("doctor/hostile files", &[], hostile),
        trial("doctor/programs", compiler, programs),
        trial("doctor/launchers", compiler, launchers),
        trial(
            "doctor/a device in use",
            &on_devices(&["mkfs.ext4", "mkswap", "unshare", "pvcreate", "wipefs"]),
            in_use,
        ),
        trial("doctor/a device that is unfit", &on_devices(&["blockdev"]), unfit),
        trial("doctor/a user without rights", root, rights),
        trial("doctor/what is opened with root's rights", machine_installs, opened_by_root),
        trial("doctor/a group of the next session", &with(&["unshare", "setpriv"]), next_session),
        trial("doctor/without /sys or /proc", &on_devices(&["unshare"]), without_sys_or_proc),
        trial(
            "doctor/a disk that the system runs from",
            &on_devices(&["mkfs.ext4", "unshare", "sfdisk", "partx"]),
            of_system,
        ),
        trial(
            "doctor, run, link and setup/a device that is not free",
            &[installs, &on_devices(&["unshare", "setpriv", "mkfs.ext4"])].concat(),
            not_free,
        ),
        trial("doctor/relative names", machine_installs, relative),
        trial("doctor/what is to be done first", installs, order),
        trial("doctor/a set-user-ID bit without effect", &with(&["unshare", "setpriv"]), idle_bit),
        trial("doctor/the installed library", installs, installed_library),
        trial("doctor/the library of set-user-ID programs", installs, trusted_library),
        trial("doctor/sudo and its kin", installs, starters),
        trial("doctor/VMware's launcher", &[installs, devices].concat(), vmwares_launcher),
        trial("doctor/the administrator's file", &[installs, devices].concat(), configuration),
        trial("doctor/security modules", &with(&["unshare", "setpriv"]), kernel),
        trial("run/a device in use", &on_devices(&["mkfs.ext4", "unshare", "setpriv"]), run_in_use),
        trial(
            "list/loop devices",
            &on_devices(&["mkfs.ext4", "mkswap", "unshare", "sfdisk", "wipefs"]),
            list,
        ),
        trial("list/names of all kinds", devices, list_names),
        trial("list/partitions that are not there", &on_devices(&["sfdisk", "partx"]), list_partitions),
        trial("list/the table", &on_devices(&["script", "stty"]), list_table),
        trial("list/a file that is deleted", devices, list_deleted),
        trial("wrapping/on a terminal alone", &with(&["script", "stty"]), wrapping),
        trial("colours/on a terminal alone", &with(&["script"]), colours),
        trial("probe/what is not accepted", &[], not_accepted),
        trial("probe and run/as doctor judges", &on_devices(&["mkfs.ext4", "unshare"]), alike),
    ])
}

fn doctor() -> Run {
    Run::new(command()).args(["doctor", "--json"])
}

/// In a sandbox in which no supervisor can be started, so that all is the library's.
fn of_library(run: Run) -> Run {
    const EPERM: i32 = 1;
    run.forbidden("seccomp", EPERM)
}

/// Asks about a program that needs nothing of the administrator.
fn about(entry: impl AsRef<OsStr>) -> Outcome {
    doctor().arg("--device").arg(entry).arg("true").output()
}

/// The findings of a verdict.
fn only(outcome: &Outcome, verdict: &str) -> Vec<Finding> {
    outcome.findings().into_iter().filter(|finding| finding.verdict == verdict).collect()
}

/// The last line of the report.
fn conclusion(outcome: &Outcome) -> String {
    outcome.document()["conclusion"].as_str().expect("a text").to_owned()
}

/// Asserts that these are the problems by code and words of the fact, in this order, that the first advises this, and that the last
/// line says what is to be done first.
fn problems(outcome: &Outcome, wanted: &[(&str, &str)], first: &str) {
    let (found, out) = (only(outcome, "problem"), outcome.out());
    assert_eq!((found.len(), outcome.code()), (wanted.len(), 1), "{out}{}", outcome.err());
    for (found, (code, words)) in found.iter().zip(wanted) {
        assert!(found.is(code, words), "{code}: {words}: {found:?}");
    }
    let remedy = &found[0].remedy;
    assert!(!remedy.is_empty() && remedy.contains(first), "{first}: {found:?}");
    let last = conclusion(outcome);
    assert!(last.starts_with("Not ready") && last.ends_with(&format!("Do this first: {remedy}.")), "{last}");
    assert_eq!(outcome.err(), "");
}

/// Asserts that there is this one warning and no problem.
fn warning(outcome: &Outcome, code: &str, words: &str) {
    is_ready(outcome);
    warns(outcome, code, words);
}

fn warns(outcome: &Outcome, code: &str, words: &str) {
    let found = only(outcome, "warning");
    assert!(found.len() == 1 && found[0].is(code, words), "{code}: {words}: {found:?}");
}

/// Whether there is a finding of this verdict with these words.
fn has(outcome: &Outcome, verdict: &str, words: &str) -> bool {
    only(outcome, verdict).iter().any(|finding| finding.text.contains(words))
}

fn is_ready(outcome: &Outcome) {
    let out = outcome.expect_out();
    assert!(
        conclusion(outcome).starts_with("Ready: ") && outcome.document()["ready"] == json!(true),
        "{out}"
    );
    assert!(only(outcome, "problem").is_empty(), "{out}");
}

fn image(scratch: &Scratch, name: &str) -> (PathBuf, String) {
    let path = scratch.image(name, 128 * MIB);
    let entry = format!("{}=scsi", path.display());
    (path, entry)
}

fn ready() {
    let scratch = Scratch::new();
    let (path, entry) = image(&scratch, "image");
    let outcome = about(&entry);
    is_ready(&outcome);
    assert!(only(&outcome, "warning").is_empty(), "{}", outcome.out());
    for words in [
        "true: runs with your rights",
        "is loaded into programs that run with your rights",
        &format!("{}: is free, and yours to use as a SCSI disk", path.display()),
    ] {
        assert!(has(&outcome, "ok", words), "{words}: {}", outcome.out());
    }
    // What it says to run can be run.
    let start = |outcome: &Outcome| {
        let out = conclusion(outcome);
        let (_, start) = out.rsplit_once("Start it: vmware-bdwrapper ").expect("it says how to start it");
        let run = Run::new("bash").arg("-c").arg(format!("{} {start}", command().display())).output();
        assert_eq!((run.code(), run.err().as_str()), (0, ""), "{start}");
    };
    for (kind, name) in [("ide", "an IDE"), ("sata", "a SATA")] {
        let said = about(entry.replace("=scsi", &format!("={kind}")));
        assert!(has(&said, "ok", &format!("yours to use as {name} disk")), "{}", said.out());
    }
    start(&outcome);
    let last = conclusion(&outcome);
    let subject = format!("Ready: {entry} for /");
    assert!(last.starts_with(&subject) && last.contains("/true. Start it: "), "{last}");
    let (_, odd) = image(&scratch, "it's $(a) \"name\"!");
    start(&about(&odd));
    let environment = doctor().arg("true").env(names::DEVICES, &entry).output();
    assert_eq!(environment.out(), outcome.out());
}

fn json_document() {
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    let document = |arguments: &[&str], code| -> Value {
        let outcome = doctor().args(arguments).output();
        assert_eq!(outcome.code(), code, "{}", outcome.err());
        outcome.document()
    };
    let good = document(&["--device", &entry, "true"], 0);
    assert_eq!(good["ready"], json!(true));
    assert!(good["conclusion"].as_str().is_some_and(|text| text.starts_with("Ready: ")), "{good}");
    let checks = good["checks"].as_array().expect("a list");
    for check in ["library", "program", "device", "confinement"] {
        assert!(checks.iter().any(|found| found["check"] == json!(check)), "{check}: {good}");
    }
    assert_eq!(checks[0]["remedy"], Value::Null);
    let bad = document(&["--device", "/nonexistent=scsi", "true"], 1);
    assert_eq!(bad["ready"], json!(false));
    let problem = bad["checks"]
        .as_array()
        .and_then(|checks| checks.iter().find(|found| found["verdict"] == json!("problem")));
    let problem = problem.expect("it does not exist");
    assert_eq!(problem["check"], json!("device"));
    assert_eq!((&problem["code"], &problem["subject"]), (&json!("not-found"), &json!("/nonexistent")));
    let remedy = problem["remedy"].as_str().expect("there is one");
    let last = bad["conclusion"].as_str().expect("a text");
    assert!(last.starts_with("Not ready: /nonexistent=scsi for /"), "{last}");
    assert!(last.ends_with(&format!("/true. Do this first: {remedy}.")), "{last}");
}

/// The worst stands first, whichever check found it; `--quiet` leaves the rest out.
fn quiet() {
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    let arguments = ["--device", &format!("{entry},sector=4096"), "--device", "/nonexistent=scsi", "true"];
    let verdicts = |outcome: &Outcome| -> Vec<String> {
        let out = outcome.out();
        out.lines().filter_map(|line| Some(line.split_once(": ")?.0.to_owned())).collect()
    };
    let doctor = || Run::new(command()).arg("doctor");
    let all = doctor().args(arguments).output();
    let found = verdicts(&all);
    assert_eq!(found[..3], ["problem", "warning", "ok"], "{}", all.out());
    assert!(found[3..found.len() - 1].iter().all(|verdict| verdict == "ok"), "{}", all.out());
    let quiet = doctor().arg("--quiet").args(arguments).output();
    assert_eq!((quiet.code(), verdicts(&quiet)), (1, vec!["problem".to_owned()]), "{}", quiet.out());
    let good = doctor().args(["--quiet", "--device", &entry, "true"]).output();
    assert_eq!((good.code(), good.out()), (0, String::new()));
    assert_eq!(doctor().args(["--quiet", "--json", "true"]).output().code(), 2);
}

fn entries() {
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    problems(
        &about("=scsi"),
        &[("bad-entry", "=scsi: is not an absolute path")],
        "write a path that begins with /",
    );
    problems(&about("/dev/vg0/x"), &[("bad-entry", "/dev/vg0/x: ")], "add =scsi, =ide or =sata");
    problems(&about("/dev=scsi"), &[("not-a-device", "/dev: ")], "name one that is");
    problems(&about("/a:/b=scsi"), &[("bad-entry", "has a colon")], "write one --device for each device");
    problems(
        &about("/nonexistent=scsi"),
        &[("not-found", "/nonexistent: ")],
        "correct its name, or make an image file with that name: 'truncate --size 8G /nonexistent'",
    );
    problems(&about("/nonexistent/x=scsi"), &[("not-found", "/nonexistent/x: ")], "make its directory first");
    let empty = scratch.image("empty", 0);
    problems(&about(format!("{}=ide", empty.display())), &[("empty", "empty: ")], "'truncate --size 8G ");
    // What has some bytes is not an image file, and would be spoilt.
    let text = about(format!("{}=ide", scratch.image("text", 100).display()));
    problems(&text, &[("empty", "text: is smaller than a sector")], "name an image file");
    assert!(!text.out().contains("truncate"), "{}", text.out());
    warning(&about(format!("{entry},sector=4096")), "sector-size", "is listed with sectors of 4096 bytes");
    // One bad entry hides nothing of the others.
    let several =
        doctor().args(["--device", "~/x", "--device", &entry, "--device", "/=scsi", "true"]).output();
    problems(&several, &[("bad-entry", "~/x: begins with ~"), ("not-a-device", "/: ")], "write $HOME");
    problems(
        &about("/dev/bdwrapper-test-x=ide"),
        &[("not-found", "/dev/bdwrapper-test-x: ")],
        "or attach the device",
    );
    assert!(has(&several, "ok", "is free"), "{}", several.out());
    let usage = doctor().arg("--devise").output();
    assert_eq!(usage.code(), 2);
}

/// What was not checked is not ready.
fn incomplete() {
    let _system = System::clean();
    let unlisted = doctor().arg("true").output();
    warns(&unlisted, "usage", "No device is given");
    let last = "/true, but no device was checked. Give both: vmware-bdwrapper doctor --device ENTRY PROGRAM";
    unlisted.expect_out();
    assert!(conclusion(&unlisted).ends_with(last), "{}", unlisted.out());
    // Without /etc/vmware-bdwrapper.conf there are no programs.
    let none = doctor().output();
    problems(&none, &[("not-found", "/etc/vmware-bdwrapper.conf: ")], "setup --setuid");
    assert_eq!(unlisted.document()["ready"], json!(false));
}

fn together() {
    let disk = Disk::new(Medium::Loop, "scsi", 128 * MIB);
    let (node, link) = (disk.device().display().to_string(), disk.entry());
    let both =
        |first: &str, second: &str| doctor().args(["--device", first, "--device", second, "true"]).output();
    warning(
        &both(&link, &format!("{node}=scsi")),
        "duplicate",
        &format!("{node}: is the same device as {link}"),
    );
    let kinds = both(&link, &format!("{node}=ide"));
    problems(
        &kinds,
        &[(
            "duplicate",
            &format!(
                "{node}: its entry as ide is ignored, because an earlier one is for the same device ({link}=scsi)"
            ),
        )],
        "remove one of them",
    );
    Run::new("sfdisk").arg("-q").arg(disk.device()).stdin("size=16M\n").output().expect_out();
    let part = disk.loop_device().partition(1).display().to_string();
    let overlap = both(&link, &format!("{part}=scsi"));
    problems(
        &overlap,
        &[("overlap", &format!("{part}: shares its space with {link}"))],
        "remove one of the two entries",
    );
}

/// What a descriptor has before its extents.
const HEAD: &str = "version=1\nCID=fffffffe\ncreateType=\"fullDevice\"\n";

fn descriptor() {
    let scratch = Scratch::new();
    let (path, entry) = image(&scratch, "an image");
    let (_, other) = image(&scratch, "other");
    let file = scratch.path("disk.vmdk");
    let create = |entry: &str, options: &[&str]| {
        let run =
            Run::new(command()).args(["vmdk", "create", entry, "--force", "-o"]).arg(&file).args(options);
        run.output().expect_out();
    };
    let compare = |entry: &str| doctor().args(["--device", entry, "--vmdk"]).arg(&file).arg("true").output();
    let fits = |entry: &str| {
        let found = compare(entry);
        is_ready(&found);
        assert!(only(&found, "warning").is_empty(), "{}", found.out());
        assert!(found.out().contains("disk.vmdk"), "{}", found.out());
    };
    let resize = |bytes: u64| File::options().write(true).open(&path).and_then(|file| file.set_len(bytes));
    create(&entry, &[]);
    fits(&entry);
    // The kind that VMware would find there is another.
    problems(
        &compare(&entry.replace("=scsi", "=ide")),
        &[("different", "answers as a disk of IDE, and the descriptor is for lsilogic")],
        "option scsi",
    );
    let listed = format!("add --device \"{}=scsi\"", path.display());
    problems(&compare(&other), &[("not-listed", "disk.vmdk: ")], &listed);
    resize(64 * MIB).expect("it is ours");
    problems(
        &compare(&entry),
        &[("different", "has 131072 sectors, and the descriptor 262144")],
        "give the device its former size again",
    );
    resize(256 * MIB).expect("it is ours");
    let grown = compare(&entry);
    is_ready(&grown);
    let found = only(&grown, "warning");
    assert!(found[0].is("different", "has grown from 262144 to 524288 sectors"), "{found:?}");
    let refresh =
        format!("stop the virtual machine and run 'vmware-bdwrapper vmdk refresh {}'", file.display());
    assert_eq!(found[0].remedy, refresh);
    // Only a part of the device, up to its end.
    Run::new("sgdisk").args(["--new=1:2048:+8M", "--new=2:40960:+8M"]).arg(&path).output().expect_out();
    create(&entry, &["--partitions", "--partition=1"]);
    fits(&entry);
    Run::new("sgdisk").arg("--change-name=1:x").arg(&path).output().expect_out();
    problems(&compare(&entry), &[("different", "has another partition table")], "vmdk refresh ");
    // An ordinary disk needs no library, and its image stands beside it.
    create(&entry, &["--flat"]);
    for entry in [&entry, &other] {
        fits(entry);
    }
    let written = |text: &str| {
        fs::write(&file, text).expect("it is our directory");
        compare(&entry)
    };
    let gone = written(&format!("{HEAD}RW 1 FLAT \"/nonexistent\" 0\n"));
    problems(&gone, &[("not-listed", "disk.vmdk: "), ("not-found", "/nonexistent: ")], "add --device");
    for text in ["", "RW 1 FLAT \"/x\" 0", "KDMV\x01\0\0"] {
        problems(&written(text), &[("malformed", "disk.vmdk: ")], "name ");
    }
    let large = written(&format!("{HEAD}RW 99999999999999999999 FLAT \"/x\" 0\n"));
    problems(&large, &[("malformed", "line 4")], "correct it");
    let none = written(&format!("{HEAD}RW 1 ZERO\n"));
    problems(&none, &[("unsupported", "has no extent on a device or image")], "name one that");
    remove(&file);
    let missing = doctor().args(["--device", &entry, "--vmdk"]).arg(&file).arg("true").output();
    problems(
        &missing,
        &[("not-found", "disk.vmdk: cannot be read (No such file or directory)")],
        "name a file",
    );
}

fn hostile() {
    let scratch = Scratch::new();
    let name = OsString::from_vec(b"a\nb\xff\x1b[2J".to_vec());
    let path = scratch.directory().join(name);
    fs::write(&path, vec![0; 1 << 20]).expect("it is our directory");
    let mut entry = path.clone().into_os_string();
    entry.push("=scsi");
    let outcome = about(&entry);
    is_ready(&outcome);
    assert!(has(&outcome, "ok", r"a\x0ab\xff\x1b[2J: is free"), "{}", outcome.out());
    let subject = Some(path.to_string_lossy().into_owned());
    assert!(only(&outcome, "ok").iter().any(|finding| finding.subject == subject), "{}", outcome.out());
    // The same names as a program and as a descriptor; files without an end.
    let odd = doctor().arg("--vmdk").arg(&path).arg("--device").arg(&entry).arg(&path).output();
    problems(&odd, &[("malformed", ": "), ("not-executable", ": ")], "name the small text file");
    let endless = doctor().args(["--vmdk", "/dev/zero", "--device"]).arg(&entry).arg("true").output();
    problems(&endless, &[("file-type", "/dev/zero: ")], "name one");
    let pipe = scratch.path("pipe");
    Run::new("mkfifo").arg(&pipe).output().expect_out();
    let piped = doctor().arg("--vmdk").arg(&pipe).arg("--device").arg(&entry).arg("true").output();
    problems(&piped, &[("file-type", "pipe: ")], "name one");
    let script = scratch.path("script");
    fs::write(&script, [b"#!/bin/sh\n".as_slice(), &[0xff; 3 << 20]].concat()).expect("it is our directory");
    chmod(&script, 0o755);
    is_ready(&doctor().arg("--device").arg(&entry).arg(&script).output());
    let long = format!("/{}=scsi", "x".repeat(5000));
    problems(&about(long), &[("bad-entry", "is longer than a file name can be")], "");
}

/// Asks in a name space that lacks a file system of the kernel's.
fn without(place: &str, arguments: &[&str]) -> Outcome {
    let script = "umount -l \"$1\" && shift && exec \"$@\"";
    let run = Run::new("unshare").args(["-m", "sh", "-c", script, "sh", place]).arg(command());
    run.args(arguments).output()
}

/// What cannot be seen is not free.
fn without_sys_or_proc() {
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    let device = ["--device", &entry];
    const MOUNT_SYS: &str = "run as root: 'mount -t sysfs sysfs /sys'";
    const MOUNT_PROC: &str = "run as root: 'mount -t proc proc /proc'";
    let doctor = without("/sys", &[&["doctor", "--json"], &device[..], &["true"]].concat());
    warning(&doctor, "unknown", "/sys/dev/block: ");
    assert_eq!(only(&doctor, "warning")[0].remedy, MOUNT_SYS);
    assert!(!doctor.out().contains("is free"), "{}", doctor.out());
    let run =
        without("/sys", &[&["--message-format=json", "run"], &device[..], &["echo", "started"]].concat());
    assert_eq!(run.expect_out(), "started\n");
    run.says("unknown", "/sys/dev/block: ", MOUNT_SYS);
    for (place, remedy) in [("/sys", MOUNT_SYS), ("/proc", MOUNT_PROC)] {
        for options in [&["list"][..], &["list", "--json"], &["link", "--list"]] {
            let refused = without(place, &[&["--message-format=json"], options].concat());
            refused.refused(1, "unknown", &format!("{place}/"), remedy);
        }
    }
    let doctor = without("/proc", &[&["doctor", "--json"], &device[..], &["true"]].concat());
    assert_eq!(doctor.code(), 1);
    assert!(conclusion(&doctor).ends_with(&format!("Do this first: {MOUNT_PROC}.")), "{}", doctor.out());
    let run =
        without("/proc", &[&["--message-format=json", "run"], &device[..], &["echo", "started"]].concat());
    run.refused(126, "not-found", "/proc/self/exe: ", MOUNT_PROC);
    let libdir = without("/proc", &["--message-format=json", "libdir"]);
    libdir.refused(1, "not-found", "/proc/self/exe: ", MOUNT_PROC);
    for said in [doctor.out(), run.err(), libdir.err()] {
        assert!(!said.contains("--loader"), "{said}");
    }
}

/// A user who is in the group that has the device, but logged in before joining it.
fn next_session() {
    let scratch = Scratch::new();
    let (path, entry) = image(&scratch, "image");
    chown(&path, None, Some(1)).expect("root can");
    chmod(&path, 0o660);
    let command = for_users(&scratch);
    let asked_in = |path: &str, members: &str, groups: &[&str]| {
        let script = "sed \"s/^daemon:.*/daemon:x:1:$1/\" /etc/group >group && mount --bind group /etc/group && \
                      cd / && shift && exec setpriv --reuid 65534 --regid 65534 \"$@\"";
        let script = format!("cd {} && {script}", scratch.directory().display());
        let run = Run::new("unshare").args(["-m", "sh", "-c", &script, "sh", members]).args(groups);
        let path = format!("PATH={path}");
        run.args(["env", &path])
            .arg(&command)
            .args(["doctor", "--json", "--device", &entry, "/bin/true"])
            .output()
    };
    let asked = |members: &str, groups: &[&str]| asked_in("/usr/bin:/bin", members, groups);
    let outside = ["--clear-groups"];
    problems(
        &asked("", &outside),
        &[("permission-denied", "root:daemon with mode 0660")],
        "'usermod -aG daemon nobody'",
    );
    let member = asked("bin,nobody", &outside);
    problems(&member, &[("permission-denied", "root:daemon with mode 0660")], "log in again");
    let last = member.out();
    assert!(last.contains("'newgrp daemon'") && !last.contains("usermod"), "{last}");
    problems(
        &asked("nobody2", &outside),
        &[("permission-denied", "root:daemon with mode 0660")],
        "'usermod -aG daemon nobody'",
    );
    is_ready(&asked("nobody", &["--groups=1"]));
    // Without getent(1) the files say the same.
    assert_eq!(asked_in("/nowhere", "bin,nobody", &outside).out(), member.out());
}

/// A device number, as the kernel writes it.
fn number(device: &Path) -> String {
    let number = fs::metadata(device).expect("it is there").rdev();
    format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number))
}

/// A program that finds the device of this number mounted on a place.
fn mounted_on(scratch: &Scratch, number: &str, place: &str) -> Run {
    let script = format!(
        "echo '1 1 {number} / {place} rw - ext4 x rw' >{0}/mounts; mount --bind {0}/mounts /proc/$$/mountinfo; exec \"$@\"",
        scratch.directory().display()
    );
    Run::new("unshare").args(["-m", "sh", "-c", &script, "sh"])
}

/// Nobody unmounts that.
fn of_system() {
    let scratch = Scratch::new();
    let (path, _) = image(&scratch, "image");
    let device = Loop::attach(&path, &[]);
    device.add_partition(3, 2048, 32768);
    let partition = device.partition(3);
    let upper = Loop::attach(&partition, &[]);
    let entry = format!("{}=scsi", device.path().display());
    let mounted = |number: &str, place: &str| {
        let run = mounted_on(&scratch, number, place).arg(command());
        let outcome = run.args(["doctor", "--json", "--device", &entry, "true"]).output();
        problems(&outcome, &[("system-disk", &format!("is mounted on {place})"))], "use another device");
        assert!(!outcome.out().contains("umount"), "{}", outcome.out());
    };
    for place in ["/", "/usr", "/boot/efi"] {
        mounted(&number(device.path()), place);
    }
    // A partition of it, and what is made of that.
    mounted(&number(&partition), "/");
    mounted(&number(upper.path()), "/");
}

/// A device that is not free: nothing leads to its use, whichever command is asked.
fn not_free() {
    let setting = Setting::new();
    make(["install"]).expect_out();
    setting.conf("");
    let before = fs::read(CONF).expect("it was written");
    let listed = setting.scratch.image("listed", MIB);
    let device = Loop::attach(&setting.scratch.path("image"), &[]);
    file_system(device.path());
    // A name that an ordinary user may not open.
    let node = Name::node("sd", device.path());
    chmod(node.path(), 0o600);
    let name = node.path().display().to_string();
    let entry = format!("{name}=scsi");
    let descriptor = setting.scratch.path("disk.vmdk");
    Run::new(command()).args(["vmdk", "create", &entry, "-o"]).arg(&descriptor).output().expect_out();
    let judged = |start: &dyn Fn() -> Run, code: &str, cause: &str| {
        let exposes = |text: &str| {
            [" setup ", " link ", "chown", "usermod", "option force"].iter().any(|word| text.contains(word))
        };
        let user = || start().args(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        let task =
            |run: Run, words: &[&str]| run.arg(&setting.command).args(words).args(["--device", &entry]);
        let doctor = task(user(), &["doctor", "--json"]).arg(&setting.program).output();
        problems(&doctor, &[(code, cause)], "");
        assert!(doctor.findings()[0].is(code, cause) && !exposes(&doctor.out()), "{}", doctor.out());
        let run = task(user(), &["--message-format=json", "run"]).arg(&setting.program).output();
        run.refused(126, code, cause, "");
        assert!(!exposes(&run.err()), "{}", run.err());
        let probe = task(user(), &["probe"]).output();
        let probed = probe.out() + &probe.err();
        assert!(probe.code() == 1 && probed.contains(cause) && !probed.contains("sudo"), "{probed}");
        // A descriptor that is for the device, and would lead to its use.
        let described = start().arg(&setting.command).args(["doctor", "--json", "--vmdk"]).arg(&descriptor);
        let described = described.arg(format!("--device={}=scsi", listed.display())).arg("true").output();
        problems(&described, &[(code, cause)], "");
        let check = start().arg(&setting.command).args(["vmdk", "check", "--device", &format!("{name}=ide")]);
        let check = check.arg(&descriptor).output();
        assert!(check.code() == 1 && check.out().contains(cause), "{}{}", check.out(), check.err());
        for out in [described.out(), check.out()] {
            let leads =
                ["--device", "vmdk create", "vmdk refresh", "option"].iter().any(|word| out.contains(word));
            assert!(!leads && !exposes(&out), "{out}");
        }
        let link = ["--message-format=json", "link", &name, "--as", "/dev/sd/bdwrapper-test-in-use"];
        let link = start().arg(&setting.command).args(link).output();
        let setup = task(start(), &["--message-format=json", "setup", "--setuid"]).output();
        for refused in [link, setup] {
            refused.refused(1, code, cause, "");
            refused.says("force-needed", "Nothing was done", "--force");
            assert!(!refused.err().contains("list another device"), "{}", refused.err());
        }
        assert!(!Path::new("/dev/sd/bdwrapper-test-in-use").exists());
        assert_eq!(fs::read(CONF).expect("it was written"), before, "setup changed it");
        let options = ["--message-format=json", "setup", "--setuid", "--force", "--dry-run"];
        let forced = task(start(), &options).output();
        let line = format!("would add to {CONF}: device {entry}\n");
        assert!(forced.expect_out().contains(&line), "{}", forced.err());
        forced.says(code, cause, "");
    };
    judged(&|| mounted_on(&setting.scratch, &number(device.path()), "/"), "system-disk", "belongs to");
    judged(&|| mounted_on(&setting.scratch, &number(device.path()), "/srv"), "in-use", "is mounted on /srv");
    let create = mounted_on(&setting.scratch, &number(device.path()), "/srv")
        .args(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&setting.command)
        .args(["--message-format=json", "vmdk", "create", &entry, "-o", "/dev/shm/bdwrapper-test.vmdk"])
        .output();
    create.refused(1, "in-use", "is mounted on /srv", "'umount /srv'");
    assert!(!create.err().contains("doctor"), "{}", create.err());
    let upper = Loop::attach(device.path(), &["--read-only"]);
    judged(&|| Run::new("env"), "in-use", &format!("is held by {}", upper.path().display()));
    // What is made of it is not to be listed instead while something uses that.
    let held = mounted_on(&setting.scratch, &number(upper.path()), "/srv").arg(command());
    let held = held.args(["doctor", "--json", "--device", &entry, "true"]).output();
    problems(&held, &[("in-use", "is held by")], "'umount /srv', and ask again");
    drop(upper);
    // Something that cannot be seen, such as a mount in another name space.
    chmod(node.path(), 0o666);
    fs::write(setting.scratch.path("none"), "").expect("it is our directory");
    let place = setting.scratch.path("place");
    fs::create_dir(&place).expect("it is our directory");
    let script = format!(
        "mount {} {} && mount --bind {} /proc/$$/mountinfo && exec \"$@\"",
        device.path().display(),
        place.display(),
        setting.scratch.path("none").display()
    );
    judged(
        &|| Run::new("unshare").args(["-m", "sh", "-c", &script, "sh"]),
        "in-use",
        "is used by something that cannot be seen from here",
    );
}

/// Names count from the current directory.
fn relative() {
    let setting = Setting::new();
    make(["install"]).expect_out();
    setting.conf("allow-user-devices yes");
    let asked = |directory: &Path, program: &str| {
        let run = Run::new("sh").args(["-c", "cd \"$0\" && exec \"$@\""]).arg(directory);
        let run = run.arg(&setting.command).args(["doctor", "--json", "--device", "image=scsi", program]);
        run.nobody().output()
    };
    for program in ["./secure", "../secure"] {
        let directory = setting.scratch.path(if program == "./secure" { "." } else { "below" });
        fs::create_dir_all(&directory).expect("it is our directory");
        symlink(setting.scratch.path("image"), setting.scratch.path("below/image")).ok();
        let outcome = asked(&directory, program);
        is_ready(&outcome);
        assert!(only(&outcome, "warning").is_empty(), "{}", outcome.out());
    }
    chmod(setting.scratch.directory(), 0o775);
    let replaceable = asked(setting.scratch.directory(), "./secure");
    warning(&replaceable, "untrusted", "so users other than root could put another program");
}

/// What is advised first can be done first.
fn order() {
    let setting = Setting::new();
    let asked = || setting.asked(&setting.entry);
    let first = |outcome: &Outcome, words: &str| {
        let last = conclusion(outcome);
        let remedy = last.split_once("Do this first: ").map(|(_, remedy)| remedy);
        assert!(remedy.is_some_and(|remedy| remedy.starts_with(words)), "{words}: {last}");
    };
    let install = "install the package, or run as root: 'make install'";
    // Nothing is installed, and `setup` would refuse.
    first(&asked(), install);
    // What is wrong with the question comes before that.
    let question =
        |words: &[&str]| Run::new(&setting.command).args(["doctor", "--json"]).args(words).nobody().output();
    let program = setting.program.display().to_string();
    first(
        &question(&["--device", &setting.entry, "--vmdk", "/nonexistent", &program]),
        "name a file that you",
    );
    first(&question(&["--device", "/a", &program]), "add =scsi, =ide or =sata");
    first(&question(&["--device", &setting.entry, "no-such-program"]), "correct the name of the program");
    first(&question(&[]), install);
    for advised in [asked(), Run::new(&setting.command).args(["doctor", "--json"]).output()] {
        let findings = advised.findings();
        let behind = findings.iter().map(|finding| &finding.remedy);
        let behind: Vec<_> = behind.filter(|remedy| remedy.contains("'vmware-bdwrapper setup ")).collect();
        assert!(!behind.is_empty(), "{}", advised.out());
        for remedy in behind {
            assert!(remedy.contains(&format!("{install}, and then 'vmware-bdwrapper setup")), "{remedy}");
        }
    }
    make(["install"]).expect_out();
    // `setup` refuses a file that others could have written, a library that they could have written, and a program.
    chmod(&setting.system.library(), 0o664);
    setting.conf("");
    first(&asked(), "install the library again");
    chmod(&setting.system.library(), 0o644);
    chmod(Path::new(CONF), 0o666);
    first(&asked(), &format!("run as root: 'chmod go-w {CONF}', and then 'vmware-bdwrapper setup"));
    chmod(Path::new(CONF), 0o644);
    chmod(&setting.system.library(), 0o4644);
    fs::write(CONF, "allow-user-devices yes\n").expect("root can");
    chown(setting.scratch.directory(), Some(65534), None).expect("root can");
    first(&asked(), "move the program to a directory that root alone can write to");
    assert!(!asked().out().contains("chown"), "a directory is its user's: {}", asked().out());
    let refused = ["--message-format=json", "setup", "--setuid", "--program"];
    let refused = Run::new("vmware-bdwrapper").args(refused).arg(&setting.program).output();
    refused.refused(1, "untrusted", "", "move the program");
    assert!(!refused.err().contains("chown"), "{}", refused.err());
}

/// Why a bit gives nothing.
fn idle_bit() {
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    let command = for_users(&scratch);
    let asked = |mount: &str, run: &[&str], owner: u32| {
        let script = format!(
            "cd {} && mkdir -p place && mount -t tmpfs {mount} x place && cp /bin/true place/vmx && \
             chown {owner} place/vmx && chmod 4755 place/vmx && exec \"$@\"",
            scratch.directory().display()
        );
        let user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let run = Run::new("unshare").args(["-m", "sh", "-c", &script, "sh"]).args(user).args(run);
        let outcome = run.arg(&command).args(["doctor", "--json", "--device", &entry, "place/vmx"]).output();
        is_ready(&outcome);
        outcome
    };
    let mounted = asked("-o nosuid", &[], 0);
    warns(
        &mounted,
        "unsupported",
        "place/vmx: has the set-user-ID bit, and its file system is mounted with nosuid",
    );
    assert!(!mounted.out().contains("ask again"), "{}", mounted.out());
    let confined = asked("", &["--no-new-privs"], 0);
    warns(
        &confined,
        "unsupported",
        "place/vmx: has the set-user-ID bit, and this process may not gain new rights",
    );
    warns(&asked("", &[], 65534), "unsupported", "which gives you no rights that you do not have");
}

fn programs() {
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    let of = |program: &Path| of_library(doctor()).args(["--device", &entry]).arg(program).output();
    problems(
        &of(Path::new("no-such-program")),
        &[("program-not-found", "no-such-program: ")],
        "correct the name of the program",
    );
    // A program of the administrator's, which an ordinary user's path may lack.
    let hidden =
        Run::new(command()).args(["doctor", "--json", "losetup"]).env("PATH", "/nonexistent").output();
    problems(&hidden, &[("program-not-found", "losetup: is not in any directory of PATH")], "sbin/losetup");
    let text = scratch.path("text");
    fs::write(&text, "no program\n").expect("it is our directory");
    problems(
        &of(&text),
        &[("not-executable", "text: cannot be executed (Permission denied)")],
        "name a program that can",
    );
    let of_static = program_with("bypass", "bypass-static", &["-O2", "-static", "-DSTATIC"]);
    problems(
        &of(&of_static),
        &[("unsupported", "is statically linked and loads no library")],
        "outside the container or sandbox",
    );
    let musl = ["-O2", "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"];
    let musl = of(&program_with("bypass", "bypass-musl", &musl));
    warns(&musl, "unsupported", "runs on the C library musl, with which the library is not tested");
    assert!(!musl.out().contains("without the library"), "{}", musl.out());
    let sanitized = program_with("bypass", "bypass-asan", &["-O2", "-fsanitize=address"]);
    warns(&of(&sanitized), "unsupported", "is built with AddressSanitizer");
    let first = Run::new("gcc").arg("-print-file-name=libasan.so").output().expect_out();
    let ordered = of_library(doctor())
        .args(["--device", &entry])
        .arg(&sanitized)
        .env("LD_PRELOAD", first.trim())
        .output();
    assert!(!ordered.out().contains("AddressSanitizer"), "{}", ordered.out());
    // The head of a 32-bit file (elf(5)): class 1, machine 3 (Intel 80386), and nothing behind it.
    let mut head = [0; 52];
    head[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    (head[16], head[18], head[20], head[40]) = (2, 3, 1, 52);
    let small = scratch.path("small");
    fs::write(&small, head).expect("it is our directory");
    chmod(&small, 0o755);
    problems(
        &of(&small),
        &[("unsupported", "is a 32-bit program and the library a 64-bit one")],
        "outside the container or sandbox",
    );
}

/// Asks about a script.
fn of_script(scratch: &Scratch, entry: &str, text: &str) -> Outcome {
    let script = scratch.path("launcher");
    fs::write(&script, text).expect("it is our directory");
    chmod(&script, 0o755);
    doctor().args(["--device", entry]).arg(&script).output()
}

fn launchers() {
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    let script = scratch.path("launcher");
    let of = |text: &str| {
        fs::write(&script, format!("#!/bin/sh\n{text}\n")).expect("it is our directory");
        chmod(&script, 0o755);
        of_library(doctor()).args(["--device", &entry]).arg(&script).output()
    };
    let kept = of("# LD_PRELOAD=x\nLD_PRELOAD=x.so:$LD_PRELOAD exec true");
    is_ready(&kept);
    assert!(has(&kept, "ok", "launcher: is a script, and keeps LD_PRELOAD"), "{}", kept.out());
    problems(
        &of("export LD_PRELOAD=x.so"),
        &[("preload-lost", "launcher: replaces LD_PRELOAD in line 2")],
        "keeps the value of LD_PRELOAD",
    );
    problems(
        &of("\nunset LD_PRELOAD"),
        &[("preload-lost", "launcher: removes LD_PRELOAD in line 3")],
        "keeps the value of LD_PRELOAD",
    );
    problems(
        &of("exec env -i true"),
        &[("preload-lost", "launcher: empties the environment in line 2")],
        "keeps the value of LD_PRELOAD",
    );
    problems(
        &of("sudo true"),
        &[("preload-lost", "starts a program by sudo, which removes LD_PRELOAD")],
        "as that user",
    );
    // Where there is nothing to lose.
    for harmless in [
        "if [ -z \"$LD_PRELOAD\" ]; then export LD_PRELOAD=x.so; fi",
        "if test -z \"${LD_PRELOAD:-}\"\nthen\n  LD_PRELOAD=x.so\n  export LD_PRELOAD\nfi",
        "[ -z \"$LD_PRELOAD\" ] && LD_PRELOAD=x.so",
        "[[ -z $LD_PRELOAD ]] && export LD_PRELOAD=x.so",
        "if [ -z \"$LD_PRELOAD\" ]\nthen\nLD_PRELOAD=x.so; fi",
    ] {
        is_ready(&of(harmless));
    }
    for (harmful, number) in [
        ("if [ -z \"$LD_PRELOAD\" ]; then\n:\nelse\nLD_PRELOAD=x.so\nfi", 5),
        ("if [ -z \"$LD_PRELOAD\" ]; then\n:\nfi\nLD_PRELOAD=x.so", 5),
        ("[ -z \"$LD_PRELOAD\" ] && true\nLD_PRELOAD=x.so", 3),
        ("if [ -z \"$DISPLAY\" ]; then export LD_PRELOAD=x.so; fi", 2),
        ("[ -z \"$LD_PRELOAD\" ] || LD_PRELOAD=x.so", 2),
        ("[ ! -z \"$LD_PRELOAD\" ] && LD_PRELOAD=x.so", 2),
        ("if [ -z \"$LD_PRELOAD\" ]; then :; else LD_PRELOAD=x.so; fi", 2),
    ] {
        problems(
            &of(harmful),
            &[("preload-lost", &format!("replaces LD_PRELOAD in line {number}"))],
            "keeps the value of LD_PRELOAD",
        );
    }
    // What cannot start at all.
    for (first, interpreter) in
        [("#!/no/such/shell -e", "/no/such/shell"), ("#! /bin/sh\r", "/bin/sh\\x0d"), ("#!", "")]
    {
        let cause = match interpreter {
            "" => "names no interpreter".into(),
            name => format!("is a script for {name}, which cannot be executed (No such file or directory)"),
        };
        problems(
            &of_script(&scratch, &entry, &format!("{first}\ntrue\n")),
            &[("not-executable", &cause)],
            "first line",
        );
    }
    is_ready(&of_script(&scratch, &entry, "#! /usr/bin/env sh\ntrue\n"));
    let target = program_with("bypass", "bypass-static", &["-O2", "-static", "-DSTATIC"]);
    let followed = of(&format!("exec \"{}\" \"$@\"", target.display()));
    problems(
        &followed,
        &[("unsupported", "bypass-static: is statically linked")],
        "outside the container or sandbox",
    );
}

/// A loop device that is swapped on.
struct Swap<'a>(&'a Loop);

impl<'a> Swap<'a> {
    fn on(device: &'a Loop) -> Swap<'a> {
        Run::new("mkswap").arg("-q").arg(device.path()).output();
        Run::new("swapon").arg(device.path()).output().expect_out();
        Swap(device)
    }
}

impl Drop for Swap<'_> {
    fn drop(&mut self) {
        Run::new("swapoff").arg(self.0.path()).output();
    }
}

/// A program that finds a device mounted in a name space of its own.
fn mounted(device: &Path, place: &Path, program: &Path) -> Run {
    let script = "mount \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    Run::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(device).arg(place).arg(program)
}

fn file_system(device: &Path) {
    Run::new("mkfs.ext4").args(["-q", "-F"]).arg(device).output().expect_out();
}

fn in_use() {
    let scratch = Scratch::new();
    let (path, image_entry) = image(&scratch, "image");
    let device = Loop::attach(&path, &[]);
    let name = device.path().display().to_string();
    let entry = format!("{name}=scsi");
    is_ready(&about(&entry));
    let attached = format!("{}: is held by {name}", path.display());
    problems(&about(&image_entry), &[("in-use", &attached)], &format!("list {name} instead"));
    {
        let _swap = Swap::on(&device);
        problems(
            &about(&entry),
            &[("in-use", &format!("{name}: is swapped on"))],
            &format!("'swapoff {name}'"),
        );
        paste(&about(&entry), "problem");
        is_ready(&about(&entry));
    }
    {
        let upper = Loop::attach(device.path(), &[]);
        let holder = format!("{name}: is held by {}", upper.path().display());
        problems(&about(&entry), &[("in-use", &holder)], &format!("list {} instead", upper.path().display()));
    }
    file_system(device.path());
    let place = scratch.path("a place");
    fs::create_dir(&place).expect("it is our directory");
    let here = mounted(device.path(), &place, &command())
        .args(["doctor", "--json", "--device", &entry, "true"])
        .output();
    let unmount = format!("'umount \"{}\"'", place.display());
    problems(&here, &[("in-use", &format!("{name}: is mounted on {}", place.display()))], &unmount);
    {
        let script = "read ask; mount \"$1\" \"$2\" && echo mounted; read end";
        let elsewhere = Run::new("unshare").args(["-m", "sh", "-c", script, "sh", &name]).arg(&place);
        let mut elsewhere = elsewhere.start(&scratch.path("stderr"));
        assert_eq!(elsewhere.ask("mount"), "mounted");
        problems(
            &about(&entry),
            &[("in-use", "is used by something that cannot be seen from here")],
            &format!("'fuser -v {name}'"),
        );
    }
    Run::new("wipefs").args(["-qa", &name]).output().expect_out();
    Run::new("pvcreate").args(["-qq", "-ff", "-y", &name]).output().expect_out();
    warning(&about(&entry), "lvm-part", &format!("{name}: is a physical volume"));
}

/// Runs the commands of the first remedy, as a user who pastes them.
fn paste(outcome: &Outcome, verdict: &str) {
    let line = only(outcome, verdict).into_iter().next().expect("there is one").remedy;
    // What stands between apostrophes; those within words stand between other letters.
    let parts: Vec<&str> = line.split(", or ").next().unwrap_or(&line).split(" '").skip(1).collect();
    let commands: Vec<&str> = parts.iter().filter_map(|part| Some(part.rsplit_once('\'')?.0)).collect();
    assert!(!commands.is_empty(), "{line}");
    for command in commands {
        Run::new("sh").args(["-c", command]).output().expect_out();
    }
}

fn unfit() {
    let scratch = Scratch::new();
    let (path, _) = image(&scratch, "image");
    {
        let device = Loop::attach(&path, &["--sector-size", "4096"]);
        let entry = format!("{}=scsi", device.path().display());
        let large = about(&entry);
        warning(&large, "sector-size", "has sectors of 4096 bytes, but VMware accepts only sectors of 512");
        paste(&large, "warning");
        is_ready(&about(&entry));
        assert!(only(&about(&entry), "warning").is_empty());
    }
    let device = Loop::attach(&path, &[]);
    let name = device.path().display().to_string();
    Run::new("blockdev").args(["--setro", &name]).output().expect_out();
    let read_only = about(format!("{name}=scsi"));
    problems(&read_only, &[("read-only", &format!("{name}: "))], &format!("blockdev --setrw {name}"));
    is_ready(&about(format!("{name}=scsi,ro")));
    paste(&read_only, "problem");
    is_ready(&about(format!("{name}=scsi")));
    fs::write(&path, "").expect("it is our directory");
    device.resize();
    let empty = about(format!("{name}=scsi"));
    problems(&empty, &[("empty", &format!("{name}: "))], "give it a size");
    paste(&empty, "problem");
    is_ready(&about(format!("{name}=scsi")));
    // The first disk of the SCSI driver, which need not exist.
    let node = Name::reserved("sd");
    Run::new("mknod").arg(node.path()).args(["-m", "666", "b", "8", "0"]).output().expect_out();
    let real = about(node.path());
    problems(&real, &[("physical-disk", "")], "add the option force");
    is_ready(&about(format!("{}=force", node.path().display())));
}

/// The command where an ordinary user can execute it, with the library that was built with it.
fn for_users(scratch: &Scratch) -> PathBuf {
    scratch.copy(&acceptance::library(), "libvmware_bdwrapper.so");
    scratch.copy(&command(), "vmware-bdwrapper")
}

fn rights() {
    let scratch = Scratch::new();
    let command = for_users(&scratch);
    let (path, entry) = image(&scratch, "image");
    let asked = |entry: &str| {
        Run::new(&command).args(["doctor", "--json", "--device", entry, "true"]).nobody().output()
    };
    is_ready(&asked(&entry));
    chmod(&path, 0o644);
    let closed = asked(&entry);
    let cause = format!(
        "{}: you may not read and write it (Permission denied; it belongs to root:root",
        path.display()
    );
    problems(&closed, &[("permission-denied", &cause)], &format!("'chown nobody {}'", path.display()));
    paste(&closed, "problem");
    is_ready(&asked(&entry));
    chown(&path, Some(0), None).expect("root can");
    is_ready(&asked(&format!("{entry},ro")));
    chmod(&path, 0o600);
    problems(&asked(&format!("{entry},ro")), &[("permission-denied", "you may not read it")], "chown nobody");
    chmod(&path, 0o660);
    chown(&path, None, Some(1)).expect("root can");
    problems(
        &asked(&entry),
        &[("permission-denied", "root:daemon with mode 0660")],
        "'usermod -aG daemon nobody'",
    );
    // Debian's group `disk`, which has the disks that the system runs from, too.
    chown(&path, None, Some(6)).expect("root can");
    let closed = asked(&entry);
    problems(&closed, &[("permission-denied", "root:disk with mode 0660")], "'chown nobody ");
    assert!(!closed.out().contains("usermod"), "{}", closed.out());
    // The way to it, also behind a link.
    let closed = scratch.path("a closed place");
    fs::create_dir(&closed).expect("it is our directory");
    fs::rename(&path, closed.join("image")).expect("it is our directory");
    chmod(&closed, 0o700);
    symlink(closed.join("image"), &path).expect("it is our directory");
    let hidden = asked(&entry);
    let cause = format!(
        "{}: cannot be examined (Permission denied: you may not search {})",
        path.display(),
        closed.display()
    );
    problems(
        &hidden,
        &[("permission-denied", &cause)],
        &format!("run as root: 'chmod a+x \"{}\"'", closed.display()),
    );
    assert!(!hidden.out().contains("correct its name"), "{}", hidden.out());
    chmod(&closed.join("image"), 0o666);
    paste(&hidden, "problem");
    is_ready(&asked(&entry));
}

/// Who opens a device is the program.
fn opened_by_root() {
    let setting = Setting::new();
    make(["install"]).expect_out();
    setting.conf(&format!("device {}", setting.entry));
    let path = setting.scratch.path("image");
    chmod(&path, 0o600);
    let closed = format!("{}: you may not read and write it", path.display());
    let is_closed = |outcome: &Outcome| {
        let found = only(outcome, "problem");
        assert!(found.iter().any(|finding| finding.is("permission-denied", &closed)), "{found:?}");
    };
    let asked = setting.asked(&setting.entry);
    warning(&asked, "permission-denied", &closed);
    let may = "the set-user-ID programs for which /etc/vmware-bdwrapper.conf lists it may";
    warning(&asked, "permission-denied", may);
    // A program of the user's, and one of another user's.
    let user = Run::new(&setting.command)
        .args(["doctor", "--json", "--device", &setting.entry, "true"])
        .nobody()
        .output();
    is_closed(&user);
    chown(&setting.program, Some(1), None).expect("root can");
    chmod(&setting.program, 0o4755);
    is_closed(&setting.asked(&setting.entry));
}

fn installed_library() {
    let system = System::clean();
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    // Away from the library that was built with it.
    let command = scratch.copy(&command(), "vmware-bdwrapper");
    let asked = || of_library(Run::new(&command)).args(["doctor", "--json", "--device", &entry, "true"]);
    let place = Path::new("/usr/local/lib");
    problems(&asked().output(), &[("not-installed", LIBRARY)], "make install");
    {
        let _stray = Stray::new(place.join(LIBRARY));
        Run::new("ldconfig").output().expect_out();
        let stray = asked().output();
        problems(&stray, &[("not-installed", LIBRARY)], "make install");
        let untrusted = "/usr/local/lib/libvmware-bdwrapper.so.0: is in a directory that the dynamic loader does not trust";
        assert!(has(&stray, "warning", untrusted), "{}", stray.out());
    }
    make(["install"]).expect_out();
    is_ready(&asked().output());
    let other = scratch.library();
    let shadowed = asked().env("LD_LIBRARY_PATH", scratch.directory()).output();
    problems(&shadowed, &[("shadowed", &format!("{}: ", other.display()))], "ldconfig");
    fs::write(system.library(), "no library").expect("root can");
    problems(
        &asked().output(),
        &[("unsupported", "is not a library for programs of this system")],
        "that was built for it",
    );
}

/// A copy of the library, removed at the end.
struct Stray(PathBuf);

impl Stray {
    fn new(path: PathBuf) -> Stray {
        assert!(!path.exists(), "{} is not a test's", path.display());
        fs::copy(acceptance::library(), &path).expect("root can");
        Stray(path)
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// A set-user-ID program that an ordinary user asks about.
struct Setting {
    // Dropped before the system is restored.
    scratch: Scratch,
    command: PathBuf,
    program: PathBuf,
    entry: String,
    system: System,
}

impl Setting {
    fn new() -> Setting {
        let system = System::clean();
        // Where root alone can put another program in its place.
        let scratch = Scratch::below(Path::new("/usr/local/lib"));
        let program = scratch.program("secure");
        chmod(&program, 0o4755);
        let (_, entry) = image(&scratch, "image");
        let command = scratch.copy(&command(), "vmware-bdwrapper");
        Setting { scratch, command, program, entry, system }
    }

    fn asked(&self, entry: &str) -> Outcome {
        Run::new(&self.command)
            .args(["doctor", "--json", "--device", entry])
            .arg(&self.program)
            .nobody()
            .output()
    }

    fn conf(&self, lines: &str) {
        fs::write(CONF, format!("executable {}\n{lines}\n", self.program.display())).expect("root can");
        chmod(Path::new(CONF), 0o644);
    }
}

fn trusted_library() {
    let setting = Setting::new();
    let library = setting.system.library();
    setting.conf("allow-user-devices yes");
    let asked = || setting.asked(&setting.entry);
    problems(&asked(), &[("not-installed", LIBRARY)], "make install");
    make(["install"]).expect_out();
    setting.conf("allow-user-devices yes");
    let good = asked();
    is_ready(&good);
    for words in [
        "secure: runs with rights that you do not have (set-user-ID)",
        "is in a directory that the dynamic loader trusts, and has the set-user-ID bit",
        "/etc/vmware-bdwrapper.conf: is safe and lists",
        "/etc/vmware-bdwrapper.conf lets users choose",
    ] {
        assert!(has(&good, "ok", words), "{words}: {}", good.out());
    }
    chmod(&library, 0o644);
    problems(&asked(), &[("no-set-user-id", LIBRARY)], "setup --setuid'");
    // Root's programs load it.
    for mode in [0o4646, 0o4664] {
        chmod(&library, mode);
        problems(
            &asked(),
            &[("untrusted", "can be written by users other than root")],
            "install the library again",
        );
    }
    for owner in [1, 65534] {
        chown(&library, Some(owner), None).expect("root can");
        chmod(&library, 0o4644);
        let cause = format!("belongs to user {owner}, who can change what it does");
        problems(&asked(), &[("untrusted", &cause)], "install the library again");
        let run =
            Run::new(&setting.command).args(["--message-format=json", "run", "--device", &setting.entry]);
        run.arg(&setting.program).nobody().output().refused(126, "untrusted", &cause, "");
    }
    chown(&library, Some(0), None).expect("root can");
    chmod(&library, 0o4600);
    let unread = "is not readable by you (Permission denied)";
    problems(&asked(), &[("permission-denied", unread)], "run as root: 'chmod a+r /");
    let ordinary = Run::new(&setting.command).args(["doctor", "--json", "--device", &setting.entry, "true"]);
    let ordinary = ordinary.nobody().output();
    problems(&ordinary, &[("permission-denied", unread)], "run as root: 'chmod a+r /");
    paste(&ordinary, "problem");
    is_ready(&asked());
    remove(&library);
    fs::write(&library, "no library").expect("root can");
    chmod(&library, 0o4644);
    problems(
        &asked(),
        &[("unsupported", "is not a library for programs of this system")],
        "that was built for it",
    );
    // Root gets no secure mode.
    make(["install"]).expect_out();
    let root = Run::new(&setting.command)
        .args(["doctor", "--json", "--device", &setting.entry])
        .arg(&setting.program)
        .output();
    warning(&root, "unsupported", "has the set-user-ID bit, which gives you no rights");
}

/// What drops the environment on the way to the program.
fn starters() {
    let setting = Setting::new();
    let sudo = setting.scratch.copy(&setting.program, "sudo");
    chmod(&sudo, 0o4755);
    let words = "sudo: starts programs without LD_PRELOAD, so the library is lost";
    let remedy = "put it first, as in 'sudo vmware-bdwrapper run --device ENTRY -- PROGRAM'";
    let task = |task: &str| {
        let format = if task == "doctor" { "--json" } else { "--message-format=json" };
        Run::new(for_users(&setting.scratch)).args([task, format, "--device", &setting.entry]).arg(&sudo)
    };
    problems(&task("doctor").nobody().output(), &[("preload-lost", words)], remedy);
    for kind in ["run", "trace"] {
        let refused = task(kind).arg("true").nobody().output();
        refused.refused(126, "preload-lost", words, remedy);
    }
    // What these take is another command line.
    let su = setting.scratch.copy(&setting.program, "su");
    chmod(&su, 0o4755);
    let asked =
        Run::new(for_users(&setting.scratch)).args(["doctor", "--json", "--device", &setting.entry]).arg(&su);
    problems(
        &asked.nobody().output(),
        &[("preload-lost", "su: starts programs without LD_PRELOAD")],
        "put it first, as in 'su -c \"vmware-bdwrapper run --device ENTRY -- PROGRAM\"'",
    );
    // Root's does not run in secure mode, and cleans the environment itself.
    let roots = of_library(task("run")).arg(setting.scratch.path("image")).output();
    assert_eq!(roots.code(), 0);
    roots.says("preload-lost", words, remedy);
}

/// It runs with the user's rights, and starts a program that has root's.
fn vmwares_launcher() {
    let setting = Setting::new();
    make(["install"]).expect_out();
    let launcher = setting.scratch.path("launcher");
    fs::write(&launcher, "#!/bin/sh\n# Starts VMware.\nexec true\n").expect("root can");
    chmod(&launcher, 0o755);
    let asked_of = |entry: &str| {
        let run = Run::new(&setting.command).args(["doctor", "--json", "--device", entry]);
        run.arg(&launcher).nobody().output()
    };
    let asked = || asked_of(&setting.entry);
    let engines = |outcome: &Outcome| {
        let programs = outcome.document()["programs"].as_array().expect("a list").clone();
        programs.iter().map(|program| program["engine"].clone()).collect::<Vec<_>>()
    };
    remove(Path::new(CONF));
    problems(&asked(), &[("not-found", CONF)], "setup --setuid");
    setting.conf("");
    let path = setting.scratch.path("image").display().to_string();
    let unlisted = asked();
    let setup = format!("run as root: 'vmware-bdwrapper setup --setuid --device {}', or set", setting.entry);
    problems(&unlisted, &[("not-listed", &path)], &setup);
    assert_eq!(engines(&unlisted).last(), Some(&json!(null)));
    setting.conf(&format!("device {}", setting.entry));
    let ready = asked();
    is_ready(&ready);
    assert!(conclusion(&ready).ends_with(&format!("-- {}", launcher.display())), "{}", conclusion(&ready));
    assert_eq!(engines(&ready).last(), Some(&json!("library")));
    assert!(has(&ready, "ok", &format!("{}: is started by VMware", setting.program.display())));
    chmod(&setting.system.library(), 0o644);
    problems(&asked(), &[("no-set-user-id", LIBRARY)], "setup --setuid");
    chmod(&setting.system.library(), 0o4644);
    // What does not exist is named first.
    let wanted =
        [("not-found", "/dev/sd/nonexistent: does not exist"), ("not-listed", "/dev/sd/nonexistent")];
    problems(&asked_of("/dev/sd/nonexistent"), &wanted, "correct its name");
    // `add` does all that is missing for a block device, unless the entry has more than it can give.
    let device = Loop::attach(&setting.scratch.path("image"), &[]);
    let node = device.path().display().to_string();
    chmod(device.path(), 0o666);
    let add = format!("run as root: 'vmware-bdwrapper add {node} --to nobody");
    for (kind, option) in [("scsi", ""), ("ide", " --kind ide"), ("sata", " --kind sata")] {
        let only = format!("or only 'vmware-bdwrapper setup --setuid --device {node}={kind}'");
        let remedy = format!("{add}{option}', which does all that VMware needs, under a new name, {only}");
        problems(&asked_of(&format!("{node}={kind}")), &[("not-listed", &node)], &remedy);
    }
    let more = asked_of(&format!("{node}=scsi,serial=1"));
    problems(&more, &[("not-listed", &node)], "run as root: 'vmware-bdwrapper setup");
    let name = Name::reserved("hd");
    symlink(device.path(), name.path()).expect("root can");
    let named =
        format!("add {} --to nobody', which does all that VMware needs, or only", name.path().display());
    problems(&asked_of(&name.path().display().to_string()), &[("not-listed", "")], &named);
}

fn configuration() {
    let setting = Setting::new();
    make(["install"]).expect_out();
    let conf = Path::new(CONF);
    let path = setting.scratch.path("image").display().to_string();
    let asked = || setting.asked(&setting.entry);
    remove(conf);
    problems(&asked(), &[("not-found", CONF)], "setup --setuid");
    setting.conf(&format!("device {}", setting.entry));
    is_ready(&asked());
    assert!(only(&asked(), "warning").is_empty(), "{}", asked().out());
    chmod(setting.scratch.directory(), 0o775);
    warning(&asked(), "untrusted", "so users other than root could put another program in its place");
    chmod(setting.scratch.directory(), 0o755);
    // Without a program, those that the file lists.
    let listed = Run::new(&setting.command).args(["doctor", "--json", "--device", &setting.entry]);
    let listed = listed.nobody().output();
    assert_eq!(listed.findings(), asked().findings());
    let of_one = conclusion(&asked());
    assert_eq!(conclusion(&listed), of_one.split_once(". Start it:").expect("it is ready").0);
    let unsafe_file = |code: &str, cause: &str, remedy: &str| {
        problems(&asked(), &[(code, &format!("{CONF}: {cause}, so it is ignored"))], remedy);
    };
    chmod(conf, 0o664);
    unsafe_file("untrusted", "can be written by users other than root", "chmod go-w");
    chmod(conf, 0o644);
    chown(conf, Some(1), None).expect("root can");
    unsafe_file("untrusted", "belongs to user 1", "chown root");
    chown(conf, Some(0), None).expect("root can");
    setting.conf(&"#".repeat(1 << 24));
    let long = fs::metadata(conf).expect("it was written").len();
    unsafe_file("malformed", &format!("has {long} bytes, more than 65536"), "shorten it");
    remove(conf);
    symlink("/dev/zero", conf).expect("root can");
    unsafe_file("file-type", "is not a regular file", "'rm /etc/vmware-bdwrapper.conf'");
    remove(conf);
    setting.conf("allow-user-devices yes");
    chmod(conf, 0o600);
    let unread = asked();
    warns(&unread, "unknown", "/etc/vmware-bdwrapper.conf: you may not read it (Permission denied)");
    unread.expect_out();
    let last = conclusion(&unread);
    assert!(last.starts_with("Nothing is wrong so far: ") && last.contains("is unknown"), "{last}");
    assert_eq!(unread.document()["ready"], json!(false));
    fs::write(conf, "executable /nonexistent\n").expect("root can");
    chmod(conf, 0o644);
    problems(
        &asked(),
        &[("not-listed", &setting.program.display().to_string()), ("not-listed", &path)],
        &format!("'vmware-bdwrapper setup --setuid --program {}'", setting.program.display()),
    );
    paste(&asked(), "problem");
    problems(&asked(), &[("not-listed", &path)], "setup --setuid --device ");
    paste(&asked(), "problem");
    is_ready(&asked());
    setting.conf("");
    fs::write(conf, "executable /nonexistent\n").expect("root can");
    let none = Run::new(&setting.command).args(["doctor", "--json"]).nobody().output();
    let found = only(&none, "warning");
    assert!(found.iter().any(|finding| finding.is("not-found", CONF)), "{found:?}");
    setting.conf("");
    problems(
        &asked(),
        &[("not-listed", &format!("{path}: "))],
        &format!("'vmware-bdwrapper setup --setuid --device {}'", setting.entry),
    );
    setting.conf(&format!("device {path}=ide"));
    problems(&asked(), &[("different", "as ide, and not as scsi")], "write the entry as the file has it");
    setting.conf(&format!("device {}=scsi,serial=1", path));
    warning(&asked(), "different", "options that are used instead of those of");
    // One device under another name is not listed as another disk.
    let other = setting.scratch.path("other");
    symlink(&path, &other).expect("root can");
    let lists = format!("{}: is listed in {CONF} by the line 'device {path}=scsi,serial=1'", other.display());
    for kind in ["scsi", "ide"] {
        let contradicting = setting.asked(&format!("{}={kind}", other.display()));
        problems(&contradicting, &[("different", &lists)], &format!("('--device {path}=scsi,serial=1')"));
        assert!(!contradicting.out().contains(" setup "), "{}", contradicting.out());
    }
    setting.conf(&format!("device {path}=scsi,serial=1\nallow-user-devices yes"));
    warning(&setting.asked(&format!("{}=scsi", other.display())), "different", &lists);
    problems(
        &setting.asked(&format!("{}=ide", other.display())),
        &[("different", &lists)],
        "write the entry as the file has it",
    );
    setting.conf("allow-user-devices yes\nallow\n\u{1b}[2J\u{ff}");
    let wrong = asked();
    is_ready(&wrong);
    let said = only(&wrong, "warning");
    assert!(said.len() == 2 && said[0].is("malformed", "line 3: there is no directive 'allow'"), "{said:?}");
    assert!(!wrong.out().contains('\x1b'));
    setting.conf("allow-user-devices yes");
    chmod(Path::new(&path), 0o600);
    problems(
        &asked(),
        &[("permission-denied", "is not listed"), ("permission-denied", "you may not read and write it")],
        "or give yourself permission",
    );
    let node = Name::reserved("sd");
    Run::new("mknod").arg(node.path()).args(["-m", "666", "b", "8", "0"]).output().expect_out();
    let forced = setting.asked(&format!("{}=force", node.path().display()));
    problems(&forced, &[("physical-disk", "")], "with the option force");
}

/// Asks in a name space of its own, after a script has put files over the system's.
fn changed(scratch: &Scratch, script: &str) -> Outcome {
    changed_for(&command(), scratch, script)
}

/// The same with another copy of the command.
fn changed_for(command: &Path, scratch: &Scratch, script: &str) -> Outcome {
    let script = format!("set -e; cd \"$0\"; {script}; exec \"$@\"");
    let entry = format!("{}=scsi", scratch.path("image").display());
    let run = Run::new("unshare").args(["-m", "sh", "-c", &script]).arg(scratch.directory()).arg(command);
    run.args(["doctor", "--json", "--device", &entry, "/bin/cat"]).output()
}

fn kernel() {
    let scratch = Scratch::new();
    image(&scratch, "image");
    let cat = fs::canonicalize("/bin/cat").expect("every system has it");
    let selinux = |enforce: &str, context: &str| {
        format!(
            "mount -t tmpfs x /sys/fs; mkdir /sys/fs/selinux; echo -n {enforce} > /sys/fs/selinux/enforce; \
             echo -n {context} > context; mount --bind context /proc/$$/attr/current"
        )
    };
    warning(
        &changed(&scratch, &selinux("1", "staff_u:staff_r:staff_t:s0")),
        "confined",
        "SELinux: enforces its policy on you (staff_u:",
    );
    let said = |script: &str, words: &str| {
        let outcome = changed(&scratch, script);
        is_ready(&outcome);
        assert!(has(&outcome, "ok", words), "{words}: {}", outcome.out());
    };
    said(&selinux("1", "unconfined_u:unconfined_r:unconfined_t:s0"), "does not confine you");
    said(&selinux("0", "x"), "SELinux: enforces nothing");
    let apparmor = |profile: &str| {
        format!(
            "mount -t tmpfs x /sys/module; mkdir -p /sys/module/apparmor/parameters; \
             echo Y > /sys/module/apparmor/parameters/enabled; mount -t tmpfs x /sys/kernel/security; \
             mkdir /sys/kernel/security/apparmor; echo '{profile}' > /sys/kernel/security/apparmor/profiles"
        )
    };
    let confined = format!("{}: is confined by AppArmor", cat.display());
    warning(&changed(&scratch, &apparmor(&format!("{} (enforce)", cat.display()))), "confined", &confined);
    said(&apparmor("/usr/bin/other (enforce)"), "AppArmor: has no profile for");
    said(&apparmor(&format!("{} (complain)", cat.display())), "AppArmor: has no profile for");
    // An ordinary user sees neither AppArmor's profiles nor, on many systems, the kernel's log.
    let file = cat.display().to_string().trim_start_matches('/').replace('/', ".");
    let script = format!(
        "{}; chmod 600 /sys/kernel/security/apparmor/profiles; cp /etc/passwd .; mount -t tmpfs x /etc; cp passwd /etc; \
         mkdir /etc/apparmor.d; touch log /etc/apparmor.d/{file}; chmod 600 log; mount --bind log /dev/kmsg; \
         set -- setpriv --reuid 65534 --clear-groups \"$@\"",
        apparmor("")
    );
    let ordinary = changed_for(&for_users(&scratch), &scratch, &script);
    warning(&ordinary, "confined", &confined);
    assert!(!ordinary.out().contains("kmsg"), "it says nothing: {}", ordinary.out());
    let log = |line: &str| format!("printf '%s\\n' '{line}' > log; mount --bind log /dev/kmsg");
    let refused =
        "6,1,1,-;audit: apparmor=\"DENIED\" operation=\"open\" profile=\"x\" name=\"/x\" comm=\"cat\"";
    warning(
        &changed(&scratch, &log(refused)),
        "confined",
        "/dev/kmsg: records that a security module refused something ('6,1,1,-;audit: apparmor=\"DENIED\"",
    );
    let avc = "avc:  denied  { read } for pid=1 comm=\"x\" name=\"image\" dev=\"sda\"";
    warning(&changed(&scratch, &log(avc)), "confined", "/dev/kmsg: ");
    said(&log("audit: apparmor=\"DENIED\" comm=\"other\" name=\"/y\""), "/dev/kmsg: records no refusal");
}

fn run_in_use() {
    let scratch = Scratch::new();
    let (path, image_entry) = image(&scratch, "image");
    let device = Loop::attach(&path, &[]);
    file_system(device.path());
    let entry = format!("{}=scsi", device.path().display());
    let place = scratch.path("place");
    fs::create_dir(&place).expect("it is our directory");
    let started = |arguments: &[&str]| {
        let run = mounted(device.path(), &place, &command()).args([
            "--message-format=json",
            "run",
            "--device",
            &entry,
        ]);
        run.args(arguments).args(["echo", "started"]).output()
    };
    let refused = started(&[]);
    let why = format!("{}: is mounted on {}", device.path().display(), place.display());
    let unmount = format!("run as root: 'umount {}'", place.display());
    refused.refused(126, "in-use", &why, &unmount);
    refused.says("force-needed", "", "--force");
    let forced = started(&["--force"]);
    assert_eq!(forced.expect_out(), "started\n");
    forced.says("in-use", &why, &unmount);
    // Without /sys the kernel still says that a device is not free.
    let blind = |options: &str, who: &str, command: &Path, entry: &str| {
        let script =
            format!("mount \"$1\" \"$2\" && mount -t tmpfs {options} x /sys && shift 2 && exec {who} \"$@\"");
        let run = Run::new("unshare").args(["-m", "sh", "-c", &script, "sh"]).arg(device.path()).arg(&place);
        run.arg(command).args(["--message-format=json", "run", "--device", entry, "echo", "started"]).output()
    };
    let unseen = blind("", "", &command(), &entry);
    unseen.refused(126, "in-use", "is used by something that cannot be seen from here", "");
    let closed =
        blind("-o mode=0", "setpriv --reuid 65534 --clear-groups", &for_users(&scratch), &image_entry);
    assert_eq!(closed.expect_out(), "started\n");
    closed.says("unknown", "/sys/dev/block: ", "");
    let held = Run::new(command()).args(["run", "--device", &image_entry, "echo", "started"]).output();
    assert_eq!((held.code(), held.out().as_str()), (126, ""));
    let free = Run::new(command()).args(["run", "--device", &entry, "echo", "started"]).output();
    assert_eq!((free.expect_out().as_str(), free.err().as_str()), ("started\n", ""));
}

/// What `doctor` finds of a device, `probe` and `run` say as well.
fn alike() {
    let scratch = Scratch::new();
    let (path, image_entry) = image(&scratch, "image");
    let same = |entry: &str, starts: bool| {
        let doctor = about(entry);
        let asked = |words: &[&str], program: &[&str]| {
            Run::new(command()).args(words).args(["--device", entry]).args(program).output()
        };
        let probe = asked(&["probe", "--json"], &[]);
        let run = asked(&["--message-format=json", "run"], &["echo", "started"]);
        let found: Vec<Finding> =
            doctor.findings().into_iter().filter(|finding| finding.verdict != "ok").collect();
        assert_eq!(probe.document()["devices"].as_array().map(Vec::len), Some(1));
        assert_eq!(probe.findings(), found, "{}", probe.out());
        for finding in &found {
            assert!(run.messages().contains(finding), "{}", run.err());
        }
        assert_eq!(probe.code(), doctor.code());
        assert_eq!(run.out() == "started\n", starts, "{}", run.err());
    };
    same(&format!("{image_entry},sector=4096"), true);
    {
        let device = Loop::attach(&path, &["--sector-size", "4096"]);
        same(&format!("{}=scsi", device.path().display()), true);
        same(&image_entry, false);
    }
    let device = Loop::attach(&path, &["--read-only"]);
    let entry = format!("{}=ide", device.path().display());
    same(&entry, true);
    drop(device);
    let device = Loop::attach(&path, &[]);
    let entry = format!("{}=ide", device.path().display());
    {
        let _swap = Swap::on(&device);
        same(&entry, false);
    }
    file_system(device.path());
    let place = scratch.path("place");
    fs::create_dir(&place).expect("it is our directory");
    let asked = |words: &[&str], program: Option<&str>| {
        let run = mounted(device.path(), &place, &command()).args(words).args(["--device", &entry]);
        run.args(program).output()
    };
    let (doctor, probe) = (asked(&["doctor", "--json"], Some("true")), asked(&["probe", "--json"], None));
    for outcome in [&doctor, &probe] {
        let found = only(outcome, "problem");
        assert_eq!((outcome.code(), found.len()), (1, 1), "{}", outcome.out());
        assert!(found[0].is("in-use", "is mounted on"), "{found:?}");
    }
    let text = asked(&["probe"], None);
    assert!(text.code() == 1 && !text.out().contains("would accept"), "{}", text.out());
    assert_eq!(probe.document()["devices"][0]["vmware"]["accepted"], json!(true));
}

/// What VMware does not take is not said to be accepted.
fn not_accepted() {
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    let probe = |entry: &str| Run::new(command()).args(["probe", "--device", entry]).output().out();
    assert!(probe(&entry).contains("VMware would accept it"), "{}", probe(&entry));
    // Without a sector there is no geometry.
    let empty = probe(&format!("{}=ide", scratch.image("empty", 0).display()));
    let identity = empty.lines().find(|line| line.contains("HDIO_GET_IDENTITY")).unwrap_or_default();
    assert!(identity.contains("no sectors") && !identity.contains("1/16/63"), "{empty}");
    let large = probe(&format!("{entry},sector=4096"));
    assert!(large.contains("VMware accepts only sectors of 512"), "{large}");
    assert!(!large.contains("would accept") && large.contains("physical SCSI disk does, but:"), "{large}");
}

/// What the document says of a device.
fn row(outcome: &Outcome, device: &Path) -> Value {
    let document: Value = serde_json::from_str(&outcome.expect_out()).expect("it is JSON");
    let devices = document["devices"].as_array().expect("a list");
    let found = devices.iter().find(|row| row["device"] == json!(device.to_str()));
    found.unwrap_or_else(|| panic!("{} is not listed: {document}", device.display())).clone()
}

fn list() {
    let scratch = Scratch::new();
    let (path, _) = image(&scratch, "image");
    let device = Loop::attach(&path, &[]);
    let link = Name::link("sd", device.path());
    let asked = || row(&Run::new(command()).args(["list", "--json"]).output(), device.path());
    let free = asked();
    assert_eq!(free["kind"], json!("loop"));
    assert_eq!((&free["bytes"], &free["sector_bytes"]), (&json!(128 * MIB), &json!(512)));
    assert_eq!((&free["file"], &free["identity"]), (&json!(path.to_str()), &json!({"file": path.to_str()})));
    assert_eq!(free["names"], json!([]), "no rule makes {}", link.path().display());
    assert_eq!((&free["fit"], &free["uses"], &free["reasons"]), (&json!(true), &json!([]), &json!([])));
    let table = Run::new(command()).arg("list").output().expect_out();
    let line = table.lines().find(|line| line.contains(&format!("| {} ", device.path().display())));
    let cells: Vec<&str> = line.expect("it is listed").split('|').map(str::trim).collect();
    assert_eq!(cells[2..4], ["128 MiB", "loop"]);
    assert_eq!(cells[4..6], ["yes", &format!("file {}", path.display())]);
    {
        let _swap = Swap::on(&device);
        let swapped = asked();
        assert_eq!((&swapped["fit"], &swapped["uses"]), (&json!(false), &json!(["is swapped on"])));
        let finding = &swapped["findings"][0];
        assert_eq!((&finding["code"], &finding["subject"]), (&json!("in-use"), &swapped["device"]));
    }
    {
        let upper = Loop::attach(device.path(), &[]);
        let held = asked();
        assert_eq!(
            (&held["fit"], &held["uses"]),
            (&json!(false), &json!([format!("is held by {}", upper.path().display())]))
        );
    }
    file_system(device.path());
    let place = scratch.path("place");
    fs::create_dir(&place).expect("it is our directory");
    let in_name_space = mounted(device.path(), &place, &command()).args(["list", "--json"]).output();
    let used = row(&in_name_space, device.path());
    // The first mount point, and how many more.
    let script = "mkdir -p \"$2\" && mount \"$0\" \"$1\" && mount \"$0\" \"$2\" && exec \"$3\" list";
    let second = scratch.path("second");
    let twice = Run::new("unshare").args(["-m", "sh", "-c", script]).arg(device.path());
    let twice = twice.args([&place, &second]).arg(command()).output().expect_out();
    let cell = format!("| no: it is mounted on {} (and 1 more) ", place.display());
    assert!(twice.contains(&cell) && !twice.contains(&second.display().to_string()), "{twice}");
    assert_eq!(used["uses"], json!([format!("is mounted on {}", place.display())]));
    assert_eq!(used["reasons"], used["uses"]);
    Run::new("wipefs").arg("-qa").arg(device.path()).output().expect_out();
    Run::new("sfdisk").arg("-q").arg(device.path()).stdin("size=16M\n").output().expect_out();
    let part = device.partition(1);
    let part = row(&Run::new(command()).args(["list", "--json"]).output(), &part);
    assert_eq!(
        (&part["kind"], &part["bytes"], &part["fit"]),
        (&json!("partition"), &json!(16 * MIB), &json!(true))
    );
}

/// Partitions that the kernel has and that are not there.
fn list_partitions() {
    let scratch = Scratch::new();
    let (path, _) = image(&scratch, "image");
    let device = Loop::attach(&path, &[]);
    // From sector 2048 to 34816.
    device.add_partition(3, 2048, 32768);
    let node = PathBuf::from(format!("{}p3", device.path().display()));
    // Another trial may have had a partition of this number.
    remove(&node);
    let asked = || row(&Run::new(command()).args(["list", "--json"]).output(), &node);
    assert_eq!(asked()["reasons"], json!(["does not exist, although the kernel has the device"]));
    assert_eq!(device.partition(3), node);
    assert_eq!((&asked()["fit"], &asked()["reasons"]), (&json!(true), &json!([])));
    let entry = format!("{}=scsi", node.display());
    is_ready(&about(&entry));
    // As after `losetup --detach`, which leaves it there, too.
    fs::write(&path, vec![0; 4 << 20]).expect("it is our directory");
    device.resize();
    let cause = format!("is a left-over partition beyond the end of {}", device.path().display());
    assert!(asked()["reasons"][0].as_str().is_some_and(|reason| reason.starts_with(&cause)), "{}", asked());
    assert_eq!(asked()["fit"], json!(false));
    let doctor = about(&entry);
    problems(&doctor, &[("stale", &cause)], "'partx --delete --nr 3 ");
    paste(&doctor, "problem");
    let listed = Run::new(command()).args(["list", "--json", "--all"]).output().expect_out();
    assert!(!listed.contains(&format!("\"{}\"", node.display())), "{listed}");
}

/// On a terminal the table is as wide as that; devices that stand for nothing are there on demand.
fn list_table() {
    let scratch = Scratch::new();
    let name = "a-name-of-an-image-file-that-is-longer-than-any-terminal-should-have-to-show-in-one-line";
    let path = scratch.image(name, MIB);
    let device = Loop::attach(&path, &["--read-only"]);
    let list = |columns: u32, options: &str| {
        let script = format!("stty cols {columns} && {} list {options}", command().display());
        Run::new("script").args(["-qec", &script, "/dev/null"]).output().expect_out().replace("\r\n", "\n")
    };
    // Too narrow for a table: a line for each fact.
    let narrow = list(40, "");
    let facts = format!(
        "{}\n  size: 1 MiB\n  kind: loop\n  usable: no: it is read-only\n  persistent name: file\n  ",
        device.path().display()
    );
    assert!(narrow.contains(&facts) && !narrow.contains('|'), "{narrow}");
    // A path that is too long loses its middle: its beginning and its end stay together, in one line.
    for columns in [40, 80, 120, 240] {
        let out = list(columns, "--all");
        let widths: Vec<usize> = out.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width <= columns as usize), "{columns}: {out}");
        assert_eq!(
            out.contains(&format!("| {} ", device.path().display())),
            columns > 40,
            "{columns}: {out}"
        );
        assert_eq!(out.contains(path.to_str().expect("ASCII")), columns == 240, "{columns}: {out}");
        let ends = |word: &str| {
            let (start, end) = word.split_once("...")?;
            Some(path.to_str()?.starts_with(start) && name.ends_with(end))
        };
        let is_shortened = out.split_whitespace().any(|word| ends(word) == Some(true));
        assert_eq!(is_shortened, columns < 240, "{columns}: {out}");
    }
    let piped = |options: &[&str]| Run::new(command()).arg("list").args(options).output().expect_out();
    let line = piped(&[]).lines().find(|line| line.contains(name)).map(str::to_owned);
    assert!(line.is_some_and(|line| line.contains("| no: it is read-only ")), "{}", piped(&[]));
    let unused = |free: &Path| {
        for (options, is_shown) in [(&[][..], false), (&["--all"], true)] {
            let cell = format!("| {} ", free.display());
            assert_eq!(piped(options).contains(&cell), is_shown, "{}", piped(options));
            let json = [options, &["--json"]].concat();
            assert_eq!(piped(&json).contains(&format!("\"{}\"", free.display())), is_shown);
        }
    };
    // Nobody takes it meanwhile.
    Loop::attach_after(&scratch.image("other", MIB), unused);
}

/// A deleted file is not a persistent name.
fn list_deleted() {
    let scratch = Scratch::new();
    let path = scratch.image("image", MIB);
    let device = Loop::attach(&path, &[]);
    fs::remove_file(&path).expect("it is our directory");
    let found = row(&Run::new(command()).args(["list", "--json"]).output(), device.path());
    assert_eq!((&found["identity"], &found["names"]), (&Value::Null, &json!([])));
    assert_eq!(
        found["reasons"],
        json!(["is attached to a deleted file, whose data is lost when the device is detached"])
    );
    let table = Run::new(command()).arg("list").output().expect_out();
    let line = table.lines().find(|line| line.contains(&format!("| {} ", device.path().display())));
    let last = line.and_then(|line| line.trim_end_matches('|').rsplit('|').next()).map(str::trim);
    assert_eq!(last, Some(""), "{table}");
    warning(&about(format!("{}=scsi", device.path().display())), "volatile", "is attached to a deleted file");
}

/// Sentences are broken at blanks, commands that can be pasted and tables' cells nowhere else.
fn wrapping() {
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    let shown = |columns: u32, task: &str| {
        let script = format!("stty cols {columns} && {} {task}", command().display());
        Run::new("script")
            .args(["-qec", &script, "/dev/null"])
            .env("TERM", "dumb")
            .output()
            .out()
            .replace("\r\n", "\n")
    };
    let absent = "doctor --device /nonexistent-image=scsi true";
    for task in [absent, "--help", "run --help", "setup --help", "link --help", "vmdk create --help"] {
        for columns in [60, 80] {
            let out = shown(columns, task);
            let is_whole = |line: &str| {
                line.trim_start().starts_with("vmware-bdwrapper ")
                    || line.contains("sudo ")
                    || line.contains('\'')
                    // A path that is longer than a line.
                    || line.split_whitespace().count() == 1
            };
            for line in out.lines().filter(|line| !is_whole(line)) {
                assert!(line.chars().count() <= columns as usize, "{task}: {line}");
            }
            let piped =
                Run::new("sh").args(["-c", &format!("{} {task}", command().display())]).output().out();
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            // The path of the library may be longer than a line, and is shortened then.
            let is_same = |(shown, whole): (&String, &String)| match shown.split_once("...") {
                Some((start, end)) => whole.starts_with(start) && whole.ends_with(end),
                None => shown == whole,
            };
            let (out, piped) = (words(&out), words(&piped));
            assert_eq!(out.len(), piped.len(), "{task}: {out:?}, {piped:?}");
            assert!(out.iter().zip(&piped).all(is_same), "{task}: {out:?}, {piped:?}");
        }
    }
    // A path is shortened, and a command that has it stays as it is.
    let long = "/nonexistent-image-with-a-name-that-is-longer-than-a-line-of-this-terminal";
    let out = shown(60, &format!("doctor --device {long}=scsi true"));
    assert!(
        out.contains("problem:\n  ...") && out.contains(&format!("'truncate --size 8G {long}'")),
        "{out}"
    );
    let wide = |line: &&str| line.chars().count() > 60 && !line.contains('\'');
    assert_eq!(out.lines().find(wide), None, "{out}");
    let out = shown(60, absent);
    assert!(out.contains("'truncate --size 8G /nonexistent-image'"), "{out}");
    let ready = shown(60, &format!("doctor --device {entry} true"));
    assert!(ready.contains(&format!("vmware-bdwrapper run --device {entry} -- true\n")), "{ready}");
    // Without room for a table each row is a line for each answer.
    let probe = shown(40, &format!("probe --device {entry}"));
    assert!(probe.contains("BLKGETSIZE64\n  without: ENOTTY\n  with: 134217728\n"), "{probe}");
    let wide = shown(200, &format!("probe --device {entry}"));
    assert_eq!(wide, Run::new(command()).args(["probe", "--device", &entry]).output().expect_out());
    let probe = shown(60, &format!("probe --device {entry}"));
    assert!(
        probe.lines().filter(|line| line.starts_with('|')).all(|line| line.chars().count() <= 60),
        "{probe}"
    );
}

/// Verdicts and titles have colours where people look at them.
fn colours() {
    let scratch = Scratch::new();
    let (_, entry) = image(&scratch, "image");
    let shown = |environment: &str, task: &str| {
        let script = format!("{environment} {} {task}", command().display());
        Run::new("script").args(["-qec", &script, "/dev/null"]).output().out()
    };
    let doctor = format!("doctor --device {entry} true");
    let probe = format!("probe --device {entry}");
    for task in [doctor.as_str(), &probe, "list", "--help", "doctor --help", "doctor --bogus"] {
        assert!(shown("TERM=xterm", task).contains("\x1b["), "{task}");
        for plain in ["TERM=xterm NO_COLOR=1", "TERM=dumb"] {
            assert!(!shown(plain, task).contains('\x1b'), "{plain}: {task}");
        }
        let piped = Run::new("sh").args(["-c", &format!("{} {task}", command().display())]);
        let piped = piped.env("TERM", "xterm").output();
        assert!(!piped.out().contains('\x1b') && !piped.err().contains('\x1b'), "{task}");
    }
    let coloured = shown("TERM=xterm", &doctor);
    assert!(coloured.contains("ok\x1b[0m: ") && coloured.contains("Ready\x1b[0m: "), "{coloured:?}");
    let twice =
        shown("TERM=xterm", &format!("probe --device {entry} --device {}", entry.replace("=scsi", "=ide")));
    assert!(twice.contains("VMware would accept it\x1b[0m as"), "{twice:?}");
    assert!(twice.contains("It would not be accepted\x1b[0m: "), "{twice:?}");
    let json = shown("TERM=xterm", &format!("doctor --json --device {entry} true"));
    assert!(!json.contains('\x1b'), "{json}");
}

fn list_names() {
    let scratch = Scratch::new();
    let odd = scratch.directory().join(OsString::from_vec(b"a\n|b\x1b \xff".to_vec()));
    fs::rename(scratch.image("image", MIB), &odd).expect("it is our directory");
    let device = Loop::attach(&odd, &["--read-only"]);
    let found = row(&Run::new(command()).args(["list", "--json"]).output(), device.path());
    assert_eq!(found["file"], json!(odd.to_string_lossy()));
    assert_eq!((&found["fit"], &found["reasons"]), (&json!(false), &json!(["is read-only"])));
    let table = Run::new(command()).arg("list").output().expect_out();
    assert!(table.contains(r"a\x0a|b\x1b \xff"), "{table}");
    assert!(!table.contains('\x1b'));
    let nobody = Run::new(for_users(&scratch)).arg("list").nobody().output();
    assert!(nobody.expect_out().contains(&device.path().display().to_string()));
    let usage = Run::new(command()).args(["list", "x"]).output();
    assert_eq!(usage.code(), 2);
}
