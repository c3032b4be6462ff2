//! The command, as users run it.

mod system;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock};

use acceptance::{
    Disk, Finding, Loop, Medium, Name, Need, Outcome, Run, Scratch, documents, is_root, main as harness,
    trial, wait_for_detached,
};
use disk::entry::OPTIONS;
use disk::names;
use serde_json::{Value, json};
use system::{CONF, LIBRARY, System, chmod, command, make, remove, sources};

const MIB: u64 = 1 << 20;
const LEVEL: &str = names::LOG_LEVEL;

fn main() -> ExitCode {
    let root: &[Need] = &[Need::Root];
    let devices: &[Need] = &[Need::Devices];
    let installs: &[Need] = &[Need::Root, Need::Tool("cc"), Need::Tool("make")];
    let sudo = [Need::Devices, Need::Tool("setpriv")];
    let clients = ["hdparm", "sg_readcap", "sg_inq", "sg_opcodes"].map(Need::Tool);
    let namespaces = [Need::Root, Need::Tool("unshare"), Need::Tool("hdparm"), Need::Tool("smartctl")];
    let mut trials = vec![
        trial("run/the exit status is the program's", &[], exit_status),
        trial("run/the environment", &[], environment),
        trial("run/a program sees the disk", &[Need::Tool("hdparm")], sees_the_disk),
        trial("run/errors", &[], run_errors),
        trial("entries/relative names", &[], relative),
        trial("entries/options in the help", &[], entry_help),
        trial("run/a set-user-ID program", &[installs, devices].concat(), set_user_id),
        trial("probe/image", &[], || probe(Medium::Image)),
        trial("probe/loop", devices, || probe(Medium::Loop)),
        trial("probe/several devices", &[], several),
        trial("probe/one device as two kinds", &[], two_kinds),
        trial("probe/another library than the installed one", installs, shadowed),
        trial("probe/what is refused", devices, refused),
        trial("probe/json", &[], json_document),
        trial("json/what a terminal would act upon", &[], json_on_a_terminal),
        trial("usage", &[], usage),
        trial("usage/the options of an entry in the manual", &[], entry_manual),
        trial("installed", installs, installed),
        trial("documents/a loop device and back", devices, || loop_device(true)),
        trial("documents/a loop device and back, with sudo", &sudo, || loop_device(false)),
        trial("documents/image files", &clients, || image_files(false)),
        trial("documents/image files in a user namespace", &namespaces, || image_files(true)),
        trial("documents/what can be pasted", &[], pasted),
        trial("documents/plots", &[], plots),
        trial("manual/from nothing to VMware", &[installs, devices].concat(), || manual_loop(true)),
        trial("manual/from nothing to VMware, with sudo", &[installs, &sudo].concat(), || manual_loop(false)),
        trial("demo", &[], || drop(demo(false))),
        trial("demo/as an ordinary user", root, || assert!(demo(true).contains("is an ordinary file"))),
    ];
    for shell in ["dash", "bash"] {
        let bench = [Need::Tool(shell), Need::Tool("cc"), Need::Tool("valgrind"), Need::Tool("strace")];
        trials.extend([
            trial(format!("demo/its reader leaves, {shell}"), &bench[..1], || reader_leaves("demo", shell)),
            trial(format!("bench/its reader leaves, {shell}"), &bench, || reader_leaves("bench", shell)),
        ]);
    }
    harness(trials)
}

/// What changes a terminal or the direction of writing is escaped in every document, as in every text.
fn json_on_a_terminal() {
    let scratch = Scratch::new();
    let name = "a\u{9b}2J\u{202e}b\u{85}\u{2066}\u{61c}c";
    let entry = format!("{}=scsi", scratch.image(name, MIB).display());
    let trace = scratch.path("trace.json");
    let clients = scratch.program("clients");
    let get = format!("open open {}\nget 3 0x5382 8\n", scratch.path(name).display());
    let record = run().args(["trace", "--json", "-o"]).arg(&trace).args(["--device", &entry]).arg(clients);
    record.stdin(get).output().expect_out();
    let other = format!("{}=ide", scratch.path(name).display());
    let documents = [
        fs::read_to_string(&trace).expect("it is the trace"),
        run().args(["probe", "--json", "--device", &entry]).output().out(),
        run().args(["doctor", "--json", "--device", &entry]).output().out(),
        run().args(["trace", "--json", "--device", &other, "--replay"]).arg(&trace).output().out(),
    ];
    for (index, document) in documents.iter().enumerate() {
        let act = |letter: char| !disk::entry::is_printable(letter) && letter != '\n';
        assert!(!document.is_empty() && !document.contains(act), "{index}: {document:?}");
    }
    let record: Value =
        serde_json::from_str(documents[0].lines().nth(1).expect("it was asked")).expect("it is JSON");
    assert_eq!(record["device"], scratch.path(name).to_str().expect("it is UTF-8"));
}

/// The command, whose messages are for programs.
fn run() -> Run {
    Run::new(command()).arg("--message-format=json")
}

fn run_with(disk: &Disk) -> Run {
    run().args(["run", "--device", &disk.entry()])
}

fn scsi_image() -> Disk {
    Disk::new(Medium::Image, "scsi", 128 * MIB)
}

/// The messages, where nothing else is on the standard error.
fn messages(outcome: &Outcome) -> Vec<Finding> {
    let messages = outcome.messages();
    assert_eq!(messages.len(), outcome.err().lines().count(), "{}", outcome.err());
    messages
}

fn exit_status() {
    let disk = scsi_image();
    for status in [0, 1, 7, 255] {
        let outcome = run_with(&disk).args(["--", "sh", "-c", &format!("exit {status}")]).output();
        assert_eq!((outcome.code(), outcome.err().as_str()), (status, ""));
    }
    let killed = run_with(&disk).args(["sh", "-c", "kill -9 $$"]).output();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(9));
}

fn environment() {
    let disk = scsi_image();
    let library = acceptance::library().display().to_string();
    let shown = |run: Run| {
        run.args(["sh", "-c", "echo \"$LD_PRELOAD|$VMWARE_BDWRAPPER_DEVICES|$VMWARE_BDWRAPPER_LOG_LEVEL\""])
    };
    let entry = disk.entry();
    let said = |run: Run| shown(run).output().expect_out();
    assert_eq!(said(run_with(&disk)), format!("{library}|{entry}|\n"));
    // What is preloaded already stays in front; nothing is preloaded twice.
    let nothing = acceptance::program_with("secure-nothing", "nothing.so", &["-shared", "-fPIC"]);
    let first = nothing.display().to_string();
    assert_eq!(said(run_with(&disk).env("LD_PRELOAD", &first)), format!("{first}:{library}|{entry}|\n"));
    let both = format!("{first}:{library}");
    assert_eq!(said(run_with(&disk).env("LD_PRELOAD", &both)), format!("{both}|{entry}|\n"));
    // Several devices; those of the command line instead of the environment's.
    let other = format!("{}=ide", disk.scratch().image("other", MIB).display());
    let run_both = run_with(&disk).args(["--device", &other]).env(names::DEVICES, "/ignored=scsi");
    assert_eq!(said(run_both), format!("{library}|{entry}:{other}|\n"));
    let from_environment = run().arg("run").env(names::DEVICES, &entry).env(LEVEL, "0");
    assert_eq!(said(from_environment), format!("{library}|{entry}|0\n"));
    assert_eq!(
        said(run_with(&disk).args(["--log-level", "-1"]).env(LEVEL, "1000")),
        format!("{library}|{entry}|-1\n")
    );
}

fn sees_the_disk() {
    for kind in ["scsi", "ide", "sata"] {
        let disk = Disk::new(Medium::Image, kind, 128 * MIB);
        let seen = run_with(&disk).args(["--", "hdparm", "-i"]).arg(disk.path()).output();
        assert_eq!(seen.out().contains("Model=BDWRAPPER DISK"), kind != "scsi", "{kind}: {}", seen.out());
    }
}

fn run_errors() {
    let disk = scsi_image();
    let absent = disk.scratch().path("absent");
    let text = disk.scratch().path("text");
    fs::write(&text, "no program\n").expect("it is our directory");
    let equals = disk.scratch().image("a=b.img", MIB);
    let equals = format!("{}=scsi", equals.display());
    let (absent, text) = (absent.to_str().expect("ASCII"), text.to_str().expect("ASCII"));
    for (arguments, status, code, words, remedy) in [
        (vec!["run", "true"], 2, "usage", "No device is given", "--device ENTRY"),
        (vec!["run", "--device", "=scsi", "true"], 2, "bad-entry", "=scsi: is not an absolute path", "/"),
        (vec!["run", "--device=~/disk.img=scsi", "true"], 2, "bad-entry", "begins with ~", "$HOME"),
        (vec!["run", "-d", "/dev/sd/x=SCSI", "true"], 2, "bad-entry", "no option 'SCSI'", "write scsi if"),
        (vec!["run", "-d", "/dev/sd/x=scs", "true"], 2, "bad-entry", "no option 'scs'", "write scsi if"),
        (vec!["run", "-d", &equals, "true"], 2, "bad-entry", "names a file with an equals sign", "link"),
        (vec!["run", "--device", "/dev/vg0/x", "true"], 2, "bad-entry", "/dev/vg0/x: ", "add =scsi"),
        (
            vec!["run", "--device", "/a:/b=scsi", "true"],
            2,
            "bad-entry",
            "has a colon",
            "write one --device for each device",
        ),
        (vec!["run", "--device", "/dev=scsi", "true"], 2, "not-a-device", "/dev: ", "name one that is"),
        (vec!["run", "--device", "/dev/sd/x", "--log-level", "5", "true"], 2, "usage", "5", ""),
        (vec!["run", "--device", "/dev/sd/x"], 2, "usage", "PROGRAM", ""),
        (
            vec!["run", "-d", "/dev/sd/x", "no-such-program"],
            127,
            "program-not-found",
            "no-such-program: ",
            "",
        ),
        (vec!["run", "--device", "/dev/sd/x", absent], 127, "program-not-found", absent, "correct the path"),
        (vec!["run", "--device", "/dev/sd/x", text], 126, "not-executable", text, "name a program"),
        (vec!["run", "--device", "/dev/sd/x", "/"], 126, "not-executable", "/: ", "name a program"),
    ] {
        let outcome = run().args(&arguments).output();
        outcome.refused(status, code, words, remedy);
        // The same as text.
        let text = Run::new(command()).args(&arguments).output();
        assert_eq!((text.code(), text.out().as_str()), (status, ""), "{arguments:?}");
        assert!(text.err().starts_with("vmware-bdwrapper: ") && text.err().contains(words), "{}", text.err());
    }
    // Directories, and files that the user cannot reach, are passed over; a file that the user may not execute is not.
    let [closed, directory, file] = ["closed", "directory", "file"].map(|name| disk.scratch().path(name));
    for place in [&closed, &directory, &file] {
        fs::create_dir(place).expect("it is our directory");
    }
    fs::create_dir(directory.join("no-such-program")).expect("it is our directory");
    fs::write(file.join("no-such-program"), "").expect("it is our directory");
    fs::write(closed.join("true"), "").expect("it is our directory");
    chmod(&closed, 0);
    let search = |places: &[&Path], program: &str| {
        let path = std::env::join_paths(places.iter().copied().chain([Path::new("/usr/bin")]))
            .expect("they have no colon");
        let run = run().args(["run", "--device", "/dev/sd/x", program]).env("PATH", &path);
        // Root may search every directory.
        if is_root() { run.nobody() } else { run }.output().code()
    };
    assert_eq!(search(&[&closed, &directory], "no-such-program"), 127);
    assert_eq!(search(&[&closed, &directory, &file], "no-such-program"), 126);
    assert_eq!(search(&[&closed, &file], "true"), 0);
    // A device that is not there yet is no error.
    let later = run().args(["run", "--device", &format!("{absent}=scsi"), "true"]).output();
    assert_eq!(later.code(), 0);
    later.says("not-found", absent, "It is used as soon as it exists");
}

/// A name that counts from the current directory, wherever an entry is taken on the command line; in the environment it does not.
fn relative() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 128 * MIB);
    let entry = format!("{}=scsi", image.display());
    let at = |words: &str| {
        let command = format!("{} --message-format=json", command().display());
        let script = format!("cd {} && {command} {words}", scratch.directory().display());
        Run::new("sh").args(["-c", &script])
    };
    for option in
        ["--device disk.img=scsi", "--device=./disk.img=scsi", "-d disk.img=scsi", "-ddisk.img=scsi"]
    {
        let listed = at(&format!("run {option} sh -c 'echo $VMWARE_BDWRAPPER_DEVICES'")).output();
        assert_eq!((listed.expect_out(), listed.err()), (format!("{entry}\n"), String::new()), "{option}");
    }
    for (words, wanted) in [
        ("probe -d disk.img=scsi", format!("{} as scsi:", image.display())),
        ("doctor -d disk.img=scsi true", format!("{}: is free", image.display())),
        ("vmdk create disk.img=scsi -o x.vmdk", "x.vmdk".into()),
        ("vmdk check x.vmdk -d disk.img=scsi", String::new()),
    ] {
        let outcome = at(words).output();
        assert!(outcome.expect_out().contains(&wanted), "{words}: {}", outcome.out());
    }
    let traced = at("trace -d disk.img=scsi true").output();
    assert!(traced.code() == 0 && traced.err().contains(&entry), "{}", traced.err());
    let environment = at("run true").env(names::DEVICES, "disk.img=scsi").output();
    environment.refused(2, "bad-entry", "disk.img=scsi: is not an absolute path", "");
}

/// Wherever entries are taken, the help has their options.
fn entry_help() {
    for task in ["run", "probe", "trace", "doctor", "setup", "vmdk create", "vmdk check", "vmdk refresh"] {
        let help = run().args(task.split(' ')).arg("--help").output().expect_out();
        for option in OPTIONS {
            let option = format!("{}{}", option.name, option.value);
            assert!(help.contains(&format!("\n  {option} ")), "{task}: {option}: {help}");
        }
    }
    let help = run().args(["list", "--help"]).output().expect_out();
    assert!(!help.contains("serial="), "{help}");
    let page = fs::read_to_string(sources().join("man/libvmware-bdwrapper.7.md")).expect("it is there");
    let help = run().args(["run", "--help"]).output().expect_out();
    let (_, options) = help.split_once("\nOptions of an entry").expect("it has them");
    let options = options.split("\n\n").next().expect("there is a first part").lines().skip(1);
    let in_manual = |line: &str| {
        let word = line.split_whitespace().next().expect("a line has words");
        let name = word.find('=').map_or(word, |at| &word[..=at]);
        assert!(page.contains(&format!("\n- `{name}`")), "libvmware-bdwrapper(7) does not explain {name}");
    };
    assert_eq!(options.map(in_manual).count(), OPTIONS.len());
}

fn set_user_id() {
    let system = System::clean();
    // Where root alone can put another program in its place.
    let scratch = Scratch::below(Path::new("/usr/local/lib"));
    let program = scratch.program("secure");
    chmod(&program, 0o4755);
    let image = scratch.image("image", 128 * MIB);
    let entry = format!("{}=scsi", image.display());
    // The command where an ordinary user can execute it, away from the library that was built with it.
    let command = scratch.copy(&command(), "vmware-bdwrapper");
    let run = || Run::new(&command).args(["--message-format=json", "run", "--device", &entry]);
    let start = || run().arg(&program).arg(&image).nobody().output();
    let refused = |missing: &[(&str, &str, &str)]| {
        let outcome = start();
        outcome.refused(126, "not-ready", &program.display().to_string(), "");
        for (code, words, remedy) in missing {
            outcome.says(code, words, remedy);
        }
        assert_eq!(messages(&outcome).len(), missing.len() + 1, "{}", outcome.err());
    };
    refused(&[("not-installed", LIBRARY, "make install"), ("not-found", CONF, "setup --setuid")]);
    // A launcher of VMware's does not start, and that is all that is said.
    let launcher = scratch.path("launcher");
    fs::write(&launcher, "#!/bin/sh\n# Starts VMware.\nexec true\n")
        .expect("the scratch directory can be written");
    chmod(&launcher, 0o755);
    let launch = || run().arg(&launcher).nobody().output();
    let other = scratch.copy(&program, "other");
    chmod(&other, 0o4755);
    let both = format!("executable {}\nexecutable {}\n", program.display(), other.display());
    fs::write(CONF, &both).expect("root can");
    let missing = launch();
    missing.refused(126, "not-installed", LIBRARY, "make install");
    assert_eq!(messages(&missing).len(), 1, "{}", missing.err());
    remove(Path::new(CONF));
    make(["install"]).expect_out();
    let (named, named_image) = (program.display().to_string(), format!("{}: ", image.display()));
    refused(&[("not-listed", &named, "--program"), ("not-listed", &named_image, "--device")]);
    // What several programs lack is said once.
    fs::write(CONF, both).expect("root can");
    let said = launch();
    let heading =
        format!("starts, but {} and {} would not find the devices", program.display(), other.display());
    assert_eq!((said.code(), messages(&said).len()), (0, 2), "{}", said.err());
    said.says("not-ready", &heading, "");
    fs::write(CONF, format!("executable {}\n", program.display())).expect("root can");
    let list = format!("'vmware-bdwrapper setup --setuid --device {entry}'");
    refused(&[("not-listed", &named_image, &list)]);
    // VMware's launcher has no such rights, and what it starts has: that is said.
    let said = launch();
    assert_eq!(said.code(), 0, "{}", said.err());
    said.says("not-ready", &format!("starts, but {} would not find the devices", program.display()), "");
    said.says("not-listed", &named_image, &list);
    fs::write(CONF, format!("executable {}\nallow-user-devices yes\n", program.display())).expect("root can");
    chmod(Path::new(CONF), 0o666);
    refused(&[("untrusted", CONF, "chmod go-w")]);
    chmod(Path::new(CONF), 0o644);
    chmod(&system.library(), 0o644);
    refused(&[("no-set-user-id", LIBRARY, "setup --setuid")]);
    chmod(&system.library(), 0o4644);
    let node = Name::reserved("sd");
    Run::new("mknod").arg(node.path()).args(["-m", "666", "b", "8", "0"]).output().expect_out();
    let forced = format!("{}=force", node.path().display());
    let real = Run::new(&command).args(["--message-format=json", "run", "--device", &forced]);
    real.arg(&program).nobody().output().refused(
        126,
        "physical-disk",
        &node.path().display().to_string(),
        "",
    );
    assert_eq!(launch().err(), "");
    let works = start();
    assert_eq!((works.code(), works.err().as_str()), (0, ""));
    assert!(works.out().contains("secure=1") && works.out().contains(" idlun=0x7f000000"), "{}", works.out());
    remove(Path::new(CONF));
    // Root has no secure mode, so nothing is asked.
    let root = Run::new(&command).args(["run", "--device", &entry]).arg(&program).arg(&image).output();
    assert!(
        root.expect_out().contains("secure=0") && root.out().contains(" idlun=0x7f000000"),
        "{}",
        root.out()
    );
}

fn probe_of(disk: &Disk) -> Run {
    run().args(["probe", "--device", &disk.entry()])
}

fn probe(medium: Medium) {
    for (kind, adapter, facts) in [
        ("scsi", "SCSI", "Cap=262144 Phys C/H/S=1008/5/52 BIOS C/H/S=1008/5/52 Adap=SCSI"),
        ("ide", "IDE", "Cap=262144 Phys C/H/S=260/16/63 BIOS C/H/S=16/255/63 Adap=IDE"),
        ("sata", "SCSI", "Cap=262144 Phys C/H/S=16/255/63 BIOS C/H/S=16/255/63 Adap=SCSI"),
    ] {
        let disk = Disk::new(medium, kind, 128 * MIB);
        let outcome = probe_of(&disk).output();
        let out = outcome.expect_out();
        assert_eq!(outcome.err(), "");
        let name = disk.path().display();
        assert!(out.contains(&format!("VMware: Facts for {name}: {facts}\n")), "{out}");
        assert!(out.contains(&format!("VMware would accept it as a physical {adapter} disk.\n")), "{out}");
        let row = out.lines().find(|line| line.contains("SCSI_IOCTL_GET_IDLUN")).expect("it is decisive");
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[2], if medium == Medium::Image { "ENOTTY" } else { "EINVAL" }, "without");
        let with = if kind == "ide" { "EINVAL" } else { "host 127 channel 0 id 0 lun 0" };
        assert_eq!(cells[3], with);
    }
}

fn several() {
    let (scsi, ide) = (scsi_image(), Disk::new(Medium::Image, "ide", 64 * MIB));
    let outcome = probe_of(&scsi).args(["--device", &ide.entry()]).output();
    let out = outcome.expect_out();
    assert!(out.contains("Cap=262144") && out.contains("Adap=SCSI"), "{out}");
    assert!(out.contains("Cap=131072") && out.contains("Adap=IDE"), "{out}");
    let from_environment = run().arg("probe").env(names::DEVICES, scsi.entry()).output();
    assert!(from_environment.expect_out().contains("Adap=SCSI"));
}

fn two_kinds() {
    let disk = scsi_image();
    let link = disk.scratch().path("link");
    symlink(disk.path(), &link).expect("it is our directory");
    let second = format!("{}=ide", link.display());
    let outcome = probe_of(&disk).args(["--device", &second]).output();
    assert_eq!(outcome.code(), 1);
    assert_eq!(outcome.out().matches("VMware would accept").count(), 1, "{}", outcome.out());
    let why = format!("{}: its entry as ide is ignored", link.display());
    assert!(outcome.out().contains(&why), "{}", outcome.out());
    let json = probe_of(&disk).args(["--json", "--device", &second]).output();
    let document: Value = serde_json::from_str(&json.out()).expect("it is JSON");
    let vmware = &document["devices"][1]["vmware"];
    assert_eq!(vmware["accepted"], json!(false));
    assert!(vmware["reason"].as_str().is_some_and(|reason| reason.starts_with(&why)), "{vmware}");
}

fn shadowed() {
    let _system = System::clean();
    make(["install"]).expect_out();
    let disk = scsi_image();
    let nothing = acceptance::program_with("secure-nothing", "nothing.so", &["-shared", "-fPIC"]);
    let other = disk.scratch().copy(&nothing, LIBRARY);
    let probe =
        Run::new("vmware-bdwrapper").args(["--message-format=json", "probe", "--device", &disk.entry()]);
    let outcome = probe.env("LD_LIBRARY_PATH", disk.scratch().directory()).output();
    assert_eq!(outcome.code(), 1);
    let said = messages(&outcome);
    assert!(said.len() == 1 && said[0].is("shadowed", &format!("{}: ", other.display())), "{said:?}");
}

fn refused() {
    let scratch = Scratch::new();
    let empty = scratch.image("empty", 100);
    let outcome = run().args(["probe", "--device", &format!("{}=scsi", empty.display())]).output();
    assert_eq!(outcome.code(), 1);
    assert!(
        outcome.out().contains("VMware would refuse it: its size is less than a sector."),
        "{}",
        outcome.out()
    );
    let absent = scratch.path("absent");
    let outcome = run().args(["probe", "--device", &format!("{}=scsi", absent.display())]).output();
    assert_eq!(outcome.code(), 1);
    let hint = format!(
        "correct its name, or make an image file with that name: 'truncate --size 8G {}'",
        absent.display()
    );
    outcome.says("not-found", &absent.display().to_string(), &hint);
    // The library's own words reach the user: a physical disk, by its number alone.
    let node = Name::reserved("sd");
    Run::new("mknod").arg(node.path()).args(["b", "8", "0"]).output().expect_out();
    let outcome = run().args(["probe", "--device"]).arg(node.path()).output();
    assert_eq!(outcome.code(), 1);
    assert!(outcome.err().contains("is a physical disk, which needs no wrapper"), "{}", outcome.err());
    // A user who may not read it.
    let secret = scratch.image("secret", MIB);
    chmod(&secret, 0o600);
    let command = scratch.copy(&command(), "vmware-bdwrapper");
    scratch.copy(&acceptance::library(), "libvmware_bdwrapper.so");
    let entry = format!("{}=ide", secret.display());
    let outcome =
        Run::new(command).args(["--message-format=json", "probe", "--device", &entry]).nobody().output();
    assert_eq!(outcome.code(), 1);
    outcome.says(
        "permission-denied",
        "secret: cannot be opened for reading",
        "'sudo vmware-bdwrapper probe --device ",
    );
}

fn json_document() {
    let disk = Disk::new(Medium::Image, "ide", 128 * MIB);
    let entry = disk.entry() + ",serial=WD-1,model=A DISK";
    let outcome = run().args(["probe", "--json", "--device", &entry]).output();
    let document: Value = serde_json::from_str(&outcome.expect_out()).expect("it is JSON");
    let device = &document["devices"][0];
    assert_eq!(device["device"], json!(disk.path().to_str()));
    assert_eq!(device["kind"], json!("ide"));
    assert_eq!(device["without"]["HDIO_GETGEO"], json!({"errno": 25, "name": "ENOTTY"}));
    assert_eq!(
        device["with"]["HDIO_GETGEO"],
        json!({"value": {"cylinders": 16, "heads": 255, "sectors": 63, "start": 0}})
    );
    assert_eq!(device["with"]["SCSI_IOCTL_GET_IDLUN"], json!({"errno": 22, "name": "EINVAL"}));
    let identity = &device["with"]["HDIO_GET_IDENTITY"]["value"];
    assert_eq!((&identity["model"], &identity["serial"]), (&json!("A DISK"), &json!("WD-1")));
    let wanted = json!({
        "accepted": true,
        "adapter": "IDE",
        "capacity_sectors": 262_144,
        "physical": {"cylinders": 260, "heads": 16, "sectors": 63},
        "bios": {"cylinders": 16, "heads": 255, "sectors": 63},
        "reason": null,
    });
    assert_eq!(device["vmware"], wanted);
}

fn usage() {
    let version = run().arg("--version").output().expect_out();
    assert_eq!(version.trim_end(), format!("vmware-bdwrapper {}", env!("CARGO_PKG_VERSION")));
    let help = run().arg("--help").output().expect_out();
    for word in ["run", "probe", "libdir", "Examples:"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    for task in ["run", "probe", "libdir"] {
        assert!(run().args([task, "--help"]).output().expect_out().contains("Example:"), "{task}");
    }
    for arguments in [&[][..], &["vmdk"], &["rum"], &["probe", "--bogus"], &["libdir", "x"]] {
        let outcome = Run::new(command()).args(arguments).output();
        assert_eq!((outcome.code(), outcome.out().as_str()), (2, ""), "{arguments:?}");
        assert!(outcome.err().starts_with("vmware-bdwrapper: "), "{}", outcome.err());
        for format in [&["--message-format=json"][..], &["--message-format", "json"]] {
            let outcome = Run::new(command()).args(format).args(arguments).output();
            outcome.refused(2, "usage", "", "");
            assert_eq!(messages(&outcome).len(), 1);
            // Parts of other commands are not for users.
            assert!(!outcome.err().contains("resend"), "{}", outcome.err());
        }
    }
    // Without a command the help follows.
    for task in [&[][..], &["vmdk"]] {
        let run = || Run::new(command()).args(task);
        let help = run().arg("--help").output().expect_out();
        assert!(run().output().err().contains(help.trim_end()), "{task:?}");
    }
    // A reader that leaves early is no error.
    let pipe = Run::new("sh").args(["-c", "\"$0\" --help | true"]).arg(command()).output();
    assert_eq!((pipe.code(), pipe.err().as_str()), (0, ""));
}

/// libvmware-bdwrapper(7) explains each option of an entry, in the order of the help, and nothing else.
fn entry_manual() {
    let page = fs::read_to_string(sources().join("man/libvmware-bdwrapper.7.md")).expect("it is there");
    let section = page.split("\n## ").find(|section| section.starts_with("Device entries\n"));
    let lines = section.expect("it has one").lines().filter_map(|line| line.strip_prefix("- `"));
    let explained: Vec<&str> = lines.filter_map(|line| line.split('`').next()).collect();
    let names: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
    assert_eq!(explained, names);
}

/// As after `make install`: the bare name is found, and nothing else is needed.
fn installed() {
    let _system = System::clean();
    make(["install"]).expect_out();
    let disk = Disk::new(Medium::Image, "ide", 128 * MIB);
    let probe = Run::new("vmware-bdwrapper").args(["probe", "--device", &disk.entry()]).nobody().output();
    assert!(probe.expect_out().contains("Adap=IDE"), "{}", probe.err());
    let shown =
        Run::new("vmware-bdwrapper").args(["run", "--device", &disk.entry(), "sh", "-c", "echo $LD_PRELOAD"]);
    assert_eq!(shown.output().expect_out().trim_end(), LIBRARY);
    // The line that scripts of the first wrapper have.
    let link = disk.scratch().path("link");
    symlink(disk.path(), &link).expect("it is our directory");
    let old = Run::new(disk.scratch().program("secure"))
        .arg(&link)
        .nobody()
        .env("LD_PRELOAD", LIBRARY)
        .env(names::DEVICES, format!("{}=ide", link.display()))
        .output();
    assert!(old.expect_out().contains("identity=BDWRAPPER DISK/BDW"), "{}", old.out());
}

/// The blocks of commands in a section of a document.
fn blocks(document: &str, section: &str) -> Vec<String> {
    let text = fs::read_to_string(sources().join(document)).expect("it is part of the sources");
    let part = text.split("\n## ").find(|part| part.lines().next() == Some(section));
    let part = part.unwrap_or_else(|| panic!("{document} has no section {section}"));
    part.split("```\n").skip(1).step_by(2).map(str::to_owned).collect()
}

/// A directory in which commands of a document run, as root or as a user with sudo.
struct Reader {
    scratch: Scratch,
    /// What stands for `/dev/sd/test`.
    name: Name,
    is_root: bool,
    device: OnceLock<Loop>,
}

impl Reader {
    fn new(is_root: bool) -> Reader {
        let scratch = Scratch::new();
        for directory in ["release", "bin"] {
            fs::create_dir(scratch.path(directory)).expect("it is our directory");
        }
        scratch.copy(&command(), "release/vmware-bdwrapper");
        scratch.copy(&acceptance::library(), "release/libvmware_bdwrapper.so");
        if !is_root {
            chown(scratch.directory(), Some(65534), Some(65534)).expect("root can");
        }
        Reader { scratch, name: Name::reserved("sd"), is_root, device: OnceLock::new() }
    }

    /// Runs a block; what it prints.
    fn run(&self, block: &str) -> String {
        let name = self.name.path().to_str().expect("ASCII");
        let (user, as_user) = match self.is_root {
            true => ("root", ""),
            false => ("nobody", "setpriv --reuid=65534 --regid=65534 --clear-groups"),
        };
        // What sudo(8) would do; and the command is not installed.
        let script = format!(
            "set -e\ncd '{}'\nPATH=$PWD/bin:$PATH\n\
             sudo() {{ if [ \"$1\" = vmware-bdwrapper ]; then shift; ./release/vmware-bdwrapper \"$@\"; else command \"$@\"; fi; }}\n\
             dd() {{ {as_user} env dd \"$@\"; }}\nvmware() {{ {as_user} bin/vmware; }}\n\
             vmware_bdwrapper() {{ {as_user} ./release/vmware-bdwrapper \"$@\"; }}\n\
             if [ -e loop ]; then loop=$(cat loop); fi\n{}echo \"$loop\" >loop\n",
            self.scratch.directory().display(),
            block
                .replace("/dev/sd/test", name)
                .replace("vmware-bdwrapper ", "vmware_bdwrapper ")
                .replace("sudo vmware_bdwrapper ", "sudo vmware-bdwrapper ")
        );
        let said = Run::new("sh").args(["-c", &script]).env("USER", user).output().expect_out();
        let loop_file = fs::read_to_string(self.scratch.path("loop")).expect("it was written");
        self.device.get_or_init(|| Loop::adopt(loop_file.trim_end().into()));
        said
    }

    fn owner(&self) -> u32 {
        fs::metadata(self.device.get().expect("it is attached").path()).expect("it exists").uid()
    }

    /// Runs the block that takes back what the others gave to the user.
    fn undo(&self, block: &str) {
        assert_eq!(self.owner(), if self.is_root { 0 } else { 65534 });
        self.run(block);
        assert_eq!(self.owner(), 0, "the next file that is attached there would be the user's");
        assert!(self.name.path().symlink_metadata().is_err());
        assert!(block.contains("losetup --detach"), "{block}");
    }
}

/// A loop device as a disk and back, as docs/disks.md has it, with what it prints.
fn loop_device(is_root: bool) {
    let reader = Reader::new(is_root);
    let blocks = blocks("docs/disks.md", "A loop device");
    let said = reader.run(&blocks[0]);
    let name = reader.name.path().to_str().expect("ASCII");
    assert!(said.contains(&blocks[1].replace("/dev/sd/test", name)), "{said}");
    assert!(said.contains("VMware would accept it as a physical SCSI disk."), "{said}");
    reader.undo(blocks.last().expect("there are some"));
}

/// From nothing to VMware, as libvmware-bdwrapper(7) has it; its set-user-ID program is one that asks the same.
fn manual_loop(is_root: bool) {
    let _system = System::clean();
    make(["install"]).expect_out();
    let reader = Reader::new(is_root);
    let vmx = reader.scratch.program("secure");
    chmod(&vmx, 0o4755);
    let vmware = Path::new("/usr/lib/vmware/bin");
    fs::create_dir_all(vmware).expect("root can");
    symlink(&vmx, vmware.join("vmware-vmx")).expect("root can");
    let script = format!("#!/bin/sh\nexec /usr/lib/vmware/bin/vmware-vmx {}\n", reader.name.path().display());
    fs::write(reader.scratch.path("bin/vmware"), script).expect("it is our directory");
    chmod(&reader.scratch.path("bin/vmware"), 0o755);
    let [make, undo, _] =
        blocks("man/libvmware-bdwrapper.7.md", "Examples").try_into().expect("three blocks");
    let said = reader.run(&make);
    assert!(said.contains(if is_root { "secure=0" } else { "secure=1" }), "{said}");
    assert!(said.contains("bytes=134217728") && !said.contains("idlun=E"), "{said}");
    reader.undo(&undo);
}

/// Runs what documents do with an image file: the lines that make a user namespace, or the others.
fn image_files(in_namespace: bool) {
    let documents = [
        ("README.md", [3, 0]),
        ("docs/programs.md", [7, 2]),
        ("man/vmware-bdwrapper.1.md", [2, 0]),
        ("man/vmware-bdwrapper-run.1.md", [2, 0]),
        ("man/vmware-bdwrapper-trace.1.md", [0, 1]),
    ];
    for (document, count) in documents {
        let scratch = Scratch::new();
        for name in ["toy.img", "disk.img"] {
            scratch.image(name, 128 * MIB);
        }
        symlink("/bin/true", scratch.path("the-tests")).expect("it is our directory");
        let text = fs::read_to_string(sources().join(document)).expect("it is part of the sources");
        let text = text.replace("\\\n", "");
        let lines = text.split("```\n").skip(1).step_by(2).flat_map(str::lines).filter(|line| {
            let is_on_image = line.contains(" toy.img") || line.contains(" disk.img");
            let is_on_loop = ["dd ", "loop="].iter().any(|start| line.starts_with(start));
            is_on_image && !is_on_loop && line.contains("unshare") == in_namespace
        });
        let lines: Vec<&str> = lines.collect();
        assert_eq!(lines.len(), count[usize::from(in_namespace)], "{document}: {lines:?}");
        for line in lines {
            let line = line.replace("vmware-bdwrapper ", &format!("{} ", command().display()));
            let script = format!("cd '{}' && {line}", scratch.directory().display());
            Run::new("sh").args(["-c", &script]).output().expect_out();
        }
    }
}

/// The plots in docs/images are those that scripts/plot draws from docs/measured.
fn plots() {
    let scratch = Scratch::new();
    let measured = ["bench.txt", "bench-vm.txt"].map(|name| sources().join("docs/measured").join(name));
    let script = Run::new(sources().join("scripts/plot")).args(measured).arg(scratch.path("."));
    script.output().expect_out();
    for name in ["ratio-by-size.svg", "other-requests.svg"] {
        let [drawn, shown] = [scratch.path(name), sources().join("docs/images").join(name)]
            .map(|path| fs::read_to_string(path).expect("it is there"));
        assert_eq!(drawn, shown, "{name} is not what scripts/plot draws");
    }
}

/// Nothing that is pasted as it stands destroys a disk, or has root work in a directory that anybody can make.
fn pasted() {
    for (_, text) in documents() {
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.contains(&"mdadm") && words.contains(&"--create") {
                let disks = words.iter().skip_while(|word| !word.starts_with("--raid-devices")).skip(1);
                assert!(
                    disks.clone().count() > 0 && disks.clone().all(|disk| disk.starts_with("/dev/DISK")),
                    "{line}"
                );
            }
            if words.contains(&"lvcreate") {
                assert_eq!(words.last(), Some(&"VG"), "{line}");
            }
            for place in ["/tmp/", "/var/tmp/"] {
                assert!(!line.contains(place) || line.contains("mktemp"), "{line}");
            }
        }
    }
}

/// The demonstration as root has names below `/dev` that are the same each time.
static DEMO: Mutex<()> = Mutex::new(());

/// Nothing of a script stays where nobody reads to its end.
fn reader_leaves(script: &str, shell: &str) {
    let _guard = DEMO.lock();
    let scratch = Scratch::new();
    let directory = scratch.path("tmp");
    fs::create_dir(&directory).expect("it is our directory");
    let script = sources().join("scripts").join(script);
    let target = command().ancestors().nth(2).expect("it is in TARGET/release").to_path_buf();
    let outcome = Run::new("sh")
        .args(["-c", "\"$0\" \"$1\" | head -n 1", shell])
        .arg(script)
        .env("TMPDIR", &directory)
        .env("CARGO_TARGET_DIR", target)
        .output();
    assert_eq!(outcome.expect_out().lines().count(), 1, "{}", outcome.err());
    assert_eq!(fs::read_dir(&directory).expect("it is our directory").count(), 0);
    wait_for_detached(&directory);
    assert!(
        !Path::new("/dev/sd/bdwrapper-demo").is_symlink()
            && !Path::new("/dev/hd/bdwrapper-demo").is_symlink()
    );
}

/// `make demo` after the build, as root or as an ordinary user; what it says.
fn demo(ordinary_user: bool) -> String {
    let _guard = DEMO.lock();
    let scratch = Scratch::new();
    // Where every user can read it.
    for directory in ["scripts", "release"] {
        fs::create_dir(scratch.path(directory)).expect("it is our directory");
    }
    scratch.copy(&sources().join("scripts/demo"), "scripts/demo");
    scratch.copy(&command(), "release/vmware-bdwrapper");
    scratch.copy(&acceptance::library(), "release/libvmware_bdwrapper.so");
    let demo = Run::new(scratch.path("scripts/demo")).env("CARGO_TARGET_DIR", scratch.directory());
    let demo = if ordinary_user { demo.nobody() } else { demo };
    let out = demo.output().expect_out();
    for words in ["Adap=SCSI", "Adap=IDE", "Model=BDWRAPPER DISK", "134217728", " gone again"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let gone = "The image, the device and the links are gone again.";
    assert_eq!(out.contains(gone), out.contains("is an ordinary loop device"), "{out}");
    assert_eq!(out.contains("hdparm -g"), out.contains("is an ordinary loop device"), "{out}");
    assert!(!Path::new("/dev/sd/bdwrapper-demo").exists() && !Path::new("/dev/hd/bdwrapper-demo").exists());
    // What it shows can be pasted elsewhere, by the same user.
    let commands: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    let elsewhere = scratch.path("elsewhere");
    fs::create_dir(&elsewhere).expect("it is our directory");
    chmod(&elsewhere, 0o777);
    let undo = "rm -f /dev/[sh]d/bdwrapper-demo; losetup --detach $loop";
    let script = format!(
        "cd {} && trap '[ $? = 0 ] || {{ {undo}; }}' EXIT && set -e\n{}\n",
        elsewhere.display(),
        commands.join("\n")
    );
    let pasted = Run::new("sh").args(["-c", &script]);
    let pasted = if ordinary_user { pasted.nobody() } else { pasted };
    let again = pasted.output().expect_out();
    assert!(again.contains("Adap=SCSI") && again.contains("Model=BDWRAPPER DISK"), "{again}");
    assert_eq!(fs::read_dir(&elsewhere).expect("it is our directory").count(), 0, "{script}");
    out
}
