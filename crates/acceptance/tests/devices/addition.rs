//! `add` and `remove` on devices of the kernel's drivers, with a real udev.

use std::fs;
use std::path::{Path, PathBuf};

use acceptance::machine::{looped, run};
use acceptance::{Outcome, Run, Trial, assert_same_lines, program, trial};
use disk::names;

use super::{DEVICES, Udev, array, crypt, install, made, volume};

pub fn trials() -> [Trial; 4] {
    CASES.map(|case| trial(format!("add/{}", case.driver), &[], move || add(&case)))
}

/// A device, and what it is to become.
struct Case {
    driver: &'static str,
    make: fn() -> PathBuf,
    /// Has it go, and come back as at the next boot.
    renew: fn(&Path),
    /// Has it go.
    end: fn(),
    /// What the rule of udev recognises it by, if there is anything.
    key: Option<&'static str>,
    kind: &'static str,
    link: &'static str,
    slot: &'static str,
}

const CASES: [Case; 4] = [
    Case {
        driver: "lvm",
        make: || {
            run("modprobe dm-mod");
            run(&format!("vgcreate -qq added {}", looped(128)));
            volume("added", "windows", "-L 64M")
        },
        renew: |_| {
            run("lvchange -qq -an added/windows");
            run("lvchange -qq -ay added/windows");
        },
        end: || drop(run("vgremove -qq -y -f added")),
        key: Some("ENV{DM_UUID}==\"LVM-"),
        kind: "scsi",
        link: "/dev/sd/guest",
        slot: "scsi0:0",
    },
    Case {
        driver: "md",
        make: || array("md/added", "1", 2),
        renew: |path| {
            run(&format!("mdadm -q --stop {}", path.display()));
            run(&format!("mdadm -q --assemble {} --name=added", path.display()));
        },
        end: || drop(run("mdadm -q --stop /dev/md/added")),
        key: Some("ENV{MD_UUID}==\""),
        kind: "ide",
        link: "/dev/hd/guest",
        slot: "ide0:0",
    },
    Case {
        driver: "dm-crypt",
        make: || {
            let under = looped(64);
            fs::write("/dev/shm/under", &under).expect("there is memory");
            crypt(&under, "added")
        },
        renew: |_| {
            let under = fs::read_to_string("/dev/shm/under").expect("it was written");
            run("cryptsetup close added");
            run(&format!("cryptsetup open --key-file /dev/shm/key {under} added"));
        },
        end: || drop(run("cryptsetup close added")),
        key: Some("ENV{DM_UUID}==\"CRYPT-LUKS1-"),
        kind: "sata",
        link: "/dev/sd/guest",
        slot: "sata0:0",
    },
    Case {
        driver: "nbd",
        make: || made(DEVICES.iter().find(|device| device.name == "nbd").expect("it is in the table")),
        renew: |path| {
            run(&format!("nbd-client -d {}", path.display()));
            run(&format!("nbd-client 127.0.0.1 -N x {}", path.display()));
            // The node outlives the connection, but not the system.
            run("rm -r /dev/sd");
            run(&format!("chown root {}", path.display()));
        },
        end: || (),
        key: None,
        kind: "scsi",
        link: "/dev/sd/guest",
        slot: "scsi0:0",
    },
];

const PROGRAM: &str = "/usr/lib/vmware/bin/vmware-vmx";
const MACHINE: &str = "/home/machine";
const RULES: &str = "/etc/udev/rules.d/90-vmware-bdwrapper.rules";

/// The whole way: added, used by a set-user-ID program of the user's, there again after the next start, removed without a trace.
fn add(case: &Case) {
    let _udev = Udev::start();
    let device = (case.make)();
    let device = device.to_str().expect("ASCII");
    let settle = || drop(run(&format!("udevadm trigger --settle --action=change {device}")));
    settle();
    // The library has no bit yet, and nothing lists a device.
    if !Path::new("/usr/bin/vmware-bdwrapper").exists() {
        install();
    }
    let library = run("vmware-bdwrapper libdir").trim_end().to_owned() + "/" + names::LIBRARY;
    let shell = |script: &str| Run::new("sh").args(["-ec", script]).output().expect_out();
    let vmx = format!("{MACHINE}/guest.vmx");
    shell(&format!(
        "chmod 644 {library}; rm -rf {MACHINE} {conf}; mkdir -p {MACHINE} {bin}; install -m 4755 {secure} {PROGRAM}; \
         printf '%s\\n' 'config.version = \"8\"' 'virtualHW.version = \"16\"' 'guestOS = \"ubuntu-64\"' >{vmx}; \
         chown -R nobody:nogroup {MACHINE}",
        conf = names::CONFIGURATION_FILE,
        bin = Path::new(PROGRAM).parent().expect("it has one").display(),
        secure = program("secure").display(),
    ));
    // Of the files' contents only those that have changed since the machine was started: /etc is far away.
    let tree = || {
        shell(&format!(
            "for name in /etc /dev {MACHINE} {library} /var/lib/vmware-bdwrapper; do [ -e $name ] || continue; \
             find $name -xdev -printf '%p %y %m %U:%G %l\\n' -type f -printf '%p %s\\n' -newer /run/control/start -exec sha256sum {{}} \\;; done"
        ))
    };
    let before = tree();

    let command = |words: &[&str]| Run::new("vmware-bdwrapper").arg("--message-format=json").args(words);
    let words = ["--to", "nobody", "--kind", case.kind, "--name", "guest", "--vm", &vmx, "--yes"];
    let add = |more: &[&str]| command(&[&["add", device], &words[..], more].concat()).output();
    let warned = |outcome: &Outcome| match case.key {
        Some(_) => assert_eq!(outcome.err(), ""),
        None => {
            outcome.says("unsupported", "has nothing by which udev could recognise it", "after each boot")
        }
    };
    let dry = add(&["--dry-run"]);
    let plan = dry.expect_out();
    warned(&dry);
    assert_same_lines(&tree(), &before);

    let added = add(&[]);
    let out = added.expect_out();
    warned(&added);
    assert!(out.starts_with(&plan), "{out}\nis not what was said before:\n{plan}");
    let usable = |what: &str| {
        let node = Path::new(device).canonicalize().unwrap_or_else(|error| panic!("{device}: {error}"));
        assert_eq!(Path::new(case.link).canonicalize().ok().as_ref(), Some(&node), "{what}");
        assert_eq!(run(&format!("stat -L -c %U {}", case.link)), "nobody\n", "{what}");
    };
    usable("after add");
    let entry = if case.kind == "sata" { format!("{}=sata", case.link) } else { case.link.to_owned() };
    let lines = fs::read_to_string(names::CONFIGURATION_FILE).expect("it is made");
    assert!(lines.contains(&format!("\ndevice {entry}\n")), "{lines}");
    let rules = fs::read_to_string(RULES).unwrap_or_default();
    let link = format!("SYMLINK+=\"{}\", OWNER=\"nobody\"", &case.link[5..]);
    match case.key {
        Some(key) => assert!(rules.contains(key) && rules.contains(&link), "{rules}"),
        None => assert_eq!(rules, ""),
    }
    let descriptor = fs::read_to_string(format!("{MACHINE}/guest.vmdk")).expect("it is made");
    assert!(descriptor.contains(&format!("\"{}\"", case.link)), "{descriptor}");
    let slots = fs::read_to_string(&vmx).expect("it is ours");
    assert!(slots.contains(&format!("{}.fileName = \"guest.vmdk\"\n", case.slot)), "{slots}");
    assert_eq!(
        shell(&format!("stat -c '%n %U' {MACHINE}/*")),
        format!("{MACHINE}/guest.vmdk nobody\n{vmx} nobody\n")
    );
    assert_eq!(run(&format!("stat -c %a {library}")), "4644\n");

    let probed = Run::new("vmware-bdwrapper").args(["probe", "--device", &entry]).nobody().output();
    assert!(probed.expect_out().contains("VMware would accept it as a physical"), "{}", probed.out());
    let used = || {
        let used = Run::new("vmware-bdwrapper")
            .args(["run", "--device", &entry, "--", PROGRAM, case.link])
            .nobody()
            .output();
        let said = used.expect_out();
        let answer = if case.kind == "ide" { " identity=BDWRAPPER" } else { " idlun=0" };
        assert!(
            said.starts_with("uid=65534 euid=0 secure=1 ") && said.contains(answer),
            "{said}{}",
            used.err()
        );
    };
    used();

    (case.renew)(Path::new(device));
    run("udevadm settle");
    if case.key.is_none() {
        add(&[]).expect_out();
    }
    usable("after the next start");
    used();

    let removed = command(&["remove", "guest", "--yes"]).output();
    removed.expect_out();
    assert_eq!(removed.err(), "");
    // Nor does udev make the link again.
    settle();
    assert_same_lines(&tree(), &before);
    (case.end)();
}
