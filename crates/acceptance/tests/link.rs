//! `vmware-bdwrapper link`, with a real udev in a name space of its own.

mod place;
#[expect(dead_code, reason = "the running system stays as it is")]
mod system;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{Loop, Need, Run, Scratch, trial, wait_for_detached};
use place::{LINK, Place, RULES, UDEVD};
use serde_json::{Value, json};
use system::command;

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let root = [Need::Devices];
    let udev = [Need::Devices, Need::Tool("udevadm"), Need::Tool(UDEVD)];
    let parts = [&udev[..], &[Need::Tool("sfdisk"), Need::Tool("partx")]].concat();
    acceptance::main(vec![
        trial("a link is made, listed and removed", &root, life),
        trial("links in directories", &root, directories),
        trial("the rights to the device", &root, rights),
        trial("a dry run", &root, dry_run),
        trial("what is there already", &root, replaced),
        trial("what is removed", &root, removed),
        trial("several at once", &root, at_once),
        trial(
            "a narrow terminal",
            &[&root[..], &[Need::Tool("script"), Need::Tool("stty")]].concat(),
            narrow,
        ),
        trial("a device that is in use", &[Need::Devices, Need::Tool("mkfs.ext4")], in_use),
        trial("rules of other lines stay", &root, rules),
        trial("a rule that cannot be written", &root, not_written),
        trial("rights that stay behind", &root, rights_stay),
        trial("a file that is deleted", &root, deleted),
        trial("without /sys", &root, without_sys),
        trial("stale and missing links", &root, stale),
        trial("errors", &[], errors),
        trial("an ordinary user", &[Need::Root], ordinary_user),
        trial("udev knows a file again, whatever its name", &udev, files),
        trial("udev knows a partition again", &parts, partition),
        trial("udev removes its link", &udev, udev_removes),
        trial("a link of another rule's", &udev, foreign),
        trial("what no rule can hold", &udev, unheld),
        trial("a file is attached at each boot as the manual says", &udev, attached),
    ])
}

fn arguments<'a>(device: &'a Loop, name: &'a str) -> Vec<&'a OsStr> {
    vec![device.path().as_os_str(), OsStr::new("--as"), OsStr::new(name)]
}

fn with<'a>(device: &'a Loop, name: &'a str, more: &[&'a str]) -> Vec<&'a OsStr> {
    let mut all = arguments(device, name);
    all.extend(more.iter().map(|argument| OsStr::new(*argument)));
    all
}

fn life() {
    let place = Place::new();
    let device = place.loop_device("image");
    assert_eq!(place.said(["--list"]), "There are no links in /dev/sd and /dev/hd, and no rules for any.\n");
    let said = place.said(arguments(&device, "/dev/sd/test"));
    assert_eq!(said, format!("linked /dev/sd/test to {}\n", device.path().display()));
    assert_eq!(place.leads_to("/dev/sd/test"), device.path());
    assert!(!place.exists(RULES), "it need not persist");
    let again = place.said(arguments(&device, "/dev/sd/test"));
    assert_eq!(again, format!("/dev/sd/test leads to {} already\n", device.path().display()));
    let name = device.path().to_str().expect("ASCII");
    let target = format!("../{}", name.trim_start_matches("/dev/"));
    let link = json!({"name": "/dev/sd/test", "target": target, "device": name, "kind": "loop", "persistent": false, "state": "ok"});
    assert_eq!(place.links(), json!({"links": [link]}));
    let table = place.said(["--list"]);
    assert!(table.contains("| /dev/sd/test |") && table.contains("| no         | ok    |"), "{table}");
    // The name works as one of the library's.
    let probe = place.enter(command()).args(["probe", "--device", "/dev/sd/test"]).output().expect_out();
    assert!(probe.contains("VMware would accept it as a physical SCSI disk."), "{probe}");
    assert_eq!(place.said(["--remove", "/dev/sd/test"]), "removed /dev/sd/test\n");
    assert!(!place.exists("/dev/sd"), "the empty directory goes with it");
    let none = place.run(["--remove", "/dev/sd/test"]);
    none.refused(1, "not-found", "/dev/sd/test: ", "link --list");
}

fn directories() {
    let place = Place::new();
    let device = place.loop_device("image");
    place.said(arguments(&device, "/dev/hd/my/raid/a"));
    place.said(arguments(&device, "/dev/hd/my/b"));
    assert_eq!(place.leads_to("/dev/hd/my/raid/a"), device.path());
    place.said(["--remove", "/dev/hd/my/raid/a"]);
    assert!(place.exists("/dev/hd/my/b") && !place.exists("/dev/hd/my/raid"));
    // What is a link itself could lead anywhere.
    place.shell("ln -s /etc /dev/hd/out");
    let refused = place.run(arguments(&device, "/dev/hd/out/x"));
    refused.refused(1, "file-type", "/dev/hd/out: is not a directory", "choose another name");
}

fn rights() {
    let place = Place::new();
    let device = place.loop_device("image");
    let stat = || place.enter("stat").args(["-c", "%U %G %a"]).arg(device.path()).output().expect_out();
    let before = stat();
    place.said(arguments(&device, "/dev/sd/test"));
    assert_eq!(stat(), before);
    place.said(with(&device, "/dev/sd/test", &["--owner", "nobody", "--group", "disk", "--mode", "0640"]));
    assert_eq!(stat(), "nobody disk 640\n");
    place.said(with(&device, "/dev/sd/test", &["--owner", "0", "--mode", "600"]));
    assert_eq!(stat(), "root disk 600\n");
    for (arguments, code, words, hint) in [
        (["--owner", "no such user"], "not-found", "no such user: is not the name of a user", "name one"),
        (["--owner", ""], "not-found", ": is not the name of a user", "name one"),
        (["--owner", "-x"], "usage", "'-x'", ""),
        (["--group", "nobody:disk"], "not-found", "nobody:disk: is not the name of a group", "name one"),
        (["--mode", "rw"], "usage", "rw: is not a valid mode", "give an octal number"),
        (["--mode", "4755"], "usage", "4755: ", "give an octal number"),
        (["--mode", "+6"], "usage", "+6: ", "give an octal number"),
    ] {
        place.run(with(&device, "/dev/sd/other", &arguments)).refused(2, code, words, hint);
    }
    assert!(!place.exists("/dev/sd/other"));
}

fn dry_run() {
    let place = Place::new();
    let device = place.loop_device("image");
    let wanted = ["--owner", "nobody", "--group", "disk", "--mode", "0660", "--persist", "--dry-run"];
    let said = place.said(with(&device, "/dev/sd/test", &wanted));
    let (name, image) = (device.path().display(), place.scratch.path("image"));
    let snapshot = format!(
        "would link /dev/sd/test to {name}\n\
         would run chown nobody:disk {name}\n\
         would run chmod 0660 {name}\n\
         would write to {RULES}:\n\
         SUBSYSTEM==\"block\", ENV{{DEVTYPE}}==\"disk\", ATTR{{loop/backing_file}}==\"{}\", SYMLINK+=\"sd/test\", OWNER=\"nobody\", \
         GROUP=\"disk\", MODE=\"0660\"\n\
         The rule does not attach the file: have 'losetup --find --show {0}' run at each boot (a unit for systemd is in \
         vmware-bdwrapper-link(1)).\n",
        image.display()
    );
    assert_eq!(said, snapshot);
    assert!(!place.exists("/dev/sd") && !place.exists(RULES));
    place.said(with(&device, "/dev/sd/test", &["--persist"]));
    let said = place.said(["--remove", "/dev/sd/test", "--dry-run"]);
    assert_eq!(
        said,
        format!("would remove the rule for /dev/sd/test in {RULES}\nwould remove /dev/sd/test\n")
    );
    assert!(place.exists("/dev/sd/test") && place.exists(RULES));
}

fn replaced() {
    let place = Place::new();
    let (first, second) = (place.loop_device("first"), place.loop_device("second"));
    let force = |name| place.run(with(&second, name, &["--force"]));
    // A link to another device.
    place.said(arguments(&first, "/dev/sd/test"));
    let refused = place.run(arguments(&second, "/dev/sd/test"));
    let why = format!("/dev/sd/test: leads to {} already", first.path().display());
    refused.refused(1, "exists", &why, "--force");
    assert_eq!(place.leads_to("/dev/sd/test"), first.path());
    force("/dev/sd/test").expect_out();
    assert_eq!(place.leads_to("/dev/sd/test"), second.path());
    // A link of the administrator's to the same device.
    place.shell(&format!("ln -s {} /dev/sd/same", second.path().display()));
    for more in [&[][..], &["--force"], &["--persist"]] {
        let said = place.said(with(&second, "/dev/sd/same", more));
        let already = format!("/dev/sd/same leads to {} already\n", second.path().display());
        assert!(said.starts_with(&already), "{said}");
        assert_eq!(place.shell("readlink /dev/sd/same").trim(), second.path().to_str().expect("ASCII"));
    }
    place.said(["--remove", "/dev/sd/same"]);
    // One that is ours, and one that leads nowhere.
    place.said(with(&first, "/dev/sd/ours", &["--persist"]));
    let refused = force("/dev/sd/ours");
    let remove = "'vmware-bdwrapper link --remove /dev/sd/ours'";
    refused.refused(1, "exists", "/dev/sd/ours: is linked to another device by a rule", remove);
    refused.says("exists", "/dev/sd/ours: ", "--persist");
    place.said(with(&second, "/dev/sd/ours", &["--persist"]));
    assert_eq!(place.leads_to("/dev/sd/ours"), second.path());
    assert_eq!(place.rules().matches("SYMLINK").count(), 1, "the old rule is gone");
    place.shell("ln -s nowhere /dev/sd/stale; ln -s /srv/no-such-file /dev/sd/elsewhere");
    place.said(arguments(&second, "/dev/sd/stale"));
    let refused = place.run(arguments(&second, "/dev/sd/elsewhere"));
    refused.refused(1, "not-a-device", "/dev/sd/elsewhere: leads to /srv/no-such-file", "--force");
    // One to something else, and what is no link.
    place.shell("ln -s /etc/passwd /dev/sd/file; echo kept >/dev/sd/data; mkdir /dev/sd/directory");
    let refused = place.run(arguments(&second, "/dev/sd/file"));
    refused.refused(1, "not-a-device", "/dev/sd/file: leads to /etc/passwd", "--force");
    force("/dev/sd/file").expect_out();
    for name in ["/dev/sd/data", "/dev/sd/directory"] {
        let subject = format!("{name}: ");
        force(name).refused(1, "exists", &subject, "remove it by hand");
        place.run(["--remove", name]).refused(1, "file-type", &subject, "remove it by hand");
    }
    assert_eq!(place.shell("cat /dev/sd/data"), "kept\n");
}

fn removed() {
    let place = Place::new();
    let device = place.loop_device("image");
    place.shell(&format!(
        "mkdir /dev/sd; ln -s {} /dev/sd/by-hand; ln -s nowhere /dev/sd/stale; ln -s /etc/passwd /dev/sd/file; \
         ln -s /srv/no-such-file /dev/sd/elsewhere; ln -s /dev /dev/sd/directory; ln -s null /dev/sd/null",
        device.path().display()
    ));
    for name in ["/dev/sd/file", "/dev/sd/elsewhere", "/dev/sd/directory"] {
        for more in [&[][..], &["--dry-run"]] {
            let refused = place.run([&["--remove", name], more].concat());
            refused.refused(1, "not-a-device", &format!("{name}: leads to "), "--force");
            assert!(place.exists(name));
        }
        place.said(["--remove", name, "--force"]);
        assert!(!place.exists(name));
    }
    for name in ["/dev/sd/by-hand", "/dev/sd/stale"] {
        place.said(["--remove", name]);
        assert!(!place.exists(name));
    }
    assert_eq!(place.shell("ls -A /dev/sd"), "null\n");
    // Nothing stays of one that fails, and nothing of those that are done.
    let refused = place.run(["--remove", "/dev/sd/no-such-link"]);
    refused.refused(1, "not-found", "/dev/sd/no-such-link: ", "link --list");
    assert_eq!(place.run(["/dev/null", "--as", "/dev/sd/test"]).code(), 2);
    assert!(!place.exists("/run/vmware-bdwrapper.lock"));
}

/// On a terminal without room for the table each link has a line for each fact.
fn narrow() {
    let place = Place::new();
    let device = place.loop_device("image");
    place.said(arguments(&device, "/dev/sd/a-link-with-a-long-name"));
    place.shell("mkdir /dev/pts; mount -t devpts -o ptmxmode=666 devpts /dev/pts; ln -s pts/ptmx /dev/ptmx");
    let listed = |columns: u32| {
        let script = format!("stty cols {columns}; {} link --list", command().display());
        let run = place.enter("script").args(["-qec", &script, "/dev/null"]);
        run.output().expect_out().replace("\r\n", "\n")
    };
    let facts = format!(
        "/dev/sd/a-link-with-a-long-name\n  device: {}\n  kind: loop\n  persistent: no\n  state: ok\n",
        device.path().display()
    );
    assert_eq!(listed(50), facts);
    assert!(listed(100).starts_with("| Link "), "{}", listed(100));
}

/// None of the rules is lost.
fn at_once() {
    let place = Place::new();
    let device = place.loop_device("image");
    let link = format!("{} link", command().display());
    place.shell(&format!(
        "for i in 1 2 3 4 5 6 7 8; do {link} {} --as /dev/sd/$i --persist & done; wait",
        device.path().display()
    ));
    let made = |text: &str| (1..=8).filter(|at| text.contains(&format!("SYMLINK+=\"sd/{at}\"\n"))).count();
    assert_eq!(made(&place.rules()), 8, "{}", place.rules());
    assert_eq!(place.shell("ls /dev/sd").lines().count(), 8);
    place.shell(&format!("for i in 1 2 3 4 5 6 7; do {link} --remove /dev/sd/$i & done; wait"));
    assert_eq!((made(&place.rules()), place.rules().lines().count()), (1, 2), "{}", place.rules());
}

fn in_use() {
    let place = Place::new();
    let device = place.loop_device("image");
    Run::new("mkfs.ext4").arg("-q").arg(device.path()).output().expect_out();
    let mount = place.scratch.path("mount");
    std::fs::create_dir(&mount).expect("it is our directory");
    place.shell(&format!("mount {} {}", device.path().display(), mount.display()));
    let refused = place.run(arguments(&device, "/dev/sd/test"));
    let why = format!("{}: is mounted on {}", device.path().display(), mount.display());
    refused.refused(1, "in-use", &why, "run as root: 'umount ");
    refused.says("force-needed", "", "--force");
    assert!(!place.exists("/dev/sd"));
    let forced = place.run(with(&device, "/dev/sd/test", &["--force"]));
    forced.expect_out();
    forced.says("in-use", &why, "run as root: 'umount ");
    place.shell(&format!("umount {}", mount.display()));
}

fn rules() {
    let place = Place::new();
    let device = place.loop_device("image");
    // Lines that only resemble ours, and one of ours in the middle of a rule.
    const OURS: &str =
        "SUBSYSTEM==\"block\", ENV{DEVTYPE}==\"disk\", ENV{DM_UUID}==\"a\", SYMLINK+=\"sd/test\"";
    let written = [
        "# By hand.",
        "KERNEL==\"x\", SYMLINK+=\"sd/test2\"",
        "KERNEL==\"x\", SYMLINK+=\"sd/test\"",
        "  KERNEL==\"y\", SYMLINK+=\"sd/test sd/other\"",
        &format!("#{OURS}"),
        "",
        "SUBSYSTEM==\"block\", ENV{DEVTYPE}==\"disk\", KERNEL==\"z\", SYMLINK+=\"sd/test\"",
        &format!("{OURS}, RUN+=\"/bin/true\""),
        &format!("{OURS}, SYMLINK+=\"sd/more\""),
        "ACTION==\"add\", \\",
        "# udev passes over this. \\",
        OURS,
        "SUBSYSTEM==\"block\", \\",
        "  KERNEL==\"q\", \\",
    ]
    .join("\n");
    let write = |end: &str| place.shell(&format!("printf '%s{end}' '{written}' >{RULES}"));
    write("");
    place.shell(&format!("chown nobody:disk {RULES}; chmod 640 {RULES}"));
    for name in ["/dev/sd/test", "/dev/sd/test2"] {
        let none = place.run(["--remove", name]);
        none.refused(1, "not-found", &format!("{name}: "), "");
    }
    place.said(with(&device, "/dev/sd/test", &["--persist", "--mode", "0640"]));
    let text = place.rules();
    let (before, added) = text.split_at(written.len());
    assert_eq!(before, written);
    // An empty line ends what the last line goes on in.
    assert!(added.starts_with("\n\nSUBSYSTEM==") && added.ends_with("\", MODE=\"0640\"\n"), "{added}");
    assert_eq!(place.shell(&format!("stat -c '%U %G %a' {RULES}")), "nobody disk 640\n");
    // It takes the place of the one before.
    place.said(with(&device, "/dev/sd/test", &["--persist"]));
    assert_eq!(place.rules(), text.replace(", MODE=\"0640\"", ""));
    place.said(["--remove", "/dev/sd/test"]);
    assert_eq!(place.rules(), format!("{written}\n\n"));
    write("\\n# End.\\n");
    place.said(with(&device, "/dev/sd/test", &["--persist"]));
    place.said(["--remove", "/dev/sd/test"]);
    assert_eq!(place.rules(), format!("{written}\n# End.\n\n"));
    // A file of ours alone goes with its last rule.
    place.shell(&format!("rm {RULES}"));
    place.said(with(&device, "/dev/sd/test", &["--persist"]));
    place.said(["--remove", "/dev/sd/test"]);
    assert!(!place.exists(RULES));
    // How administrators switch a file of rules off.
    place.shell(&format!("ln -s /dev/null {RULES}"));
    let off = place.run(with(&device, "/dev/sd/test", &["--persist"]));
    off.refused(1, "file-type", RULES, "remove it");
    assert_eq!(place.shell("stat -c %F /dev/null"), "character special file\n");
    assert!(!place.exists("/dev/sd"));
    place.shell(&format!("rm {RULES}; printf '\\377\\n' >{RULES}"));
    let broken = place.run(["--list"]);
    broken.refused(1, "malformed", &format!("{RULES}: is not UTF-8"), "remove it");
}

/// Either all is done, or nothing.
fn not_written() {
    let place = Place::new();
    let device = place.loop_device("image");
    let stat = || place.enter("stat").args(["-c", "%U"]).arg(device.path()).output().expect_out();
    let persist = |owner| place.run(with(&device, "/dev/sd/test", &["--owner", owner, "--persist"]));
    place.shell("mount -o remount,ro /etc/udev/rules.d");
    let refused = persist("nobody");
    refused.refused(1, "io", &format!("{RULES}: cannot be written (Read-only file system)"), "");
    refused.says("io", "Nothing was done", "without --persist");
    assert!(!place.exists("/dev/sd"));
    assert_eq!(stat(), "root\n");
    // The other way round.
    place.shell("mount -o remount,rw /etc/udev/rules.d; mkdir /dev/sd; mount -t tmpfs -o ro x /dev/sd");
    let refused = persist("nobody");
    refused.refused(1, "io", "/dev/sd/test: cannot be made (Read-only file system)", "");
    assert!(!place.exists(RULES));
    assert_eq!(stat(), "root\n");
    // A rule that was there stays.
    place.shell("mount -o remount,rw /dev/sd");
    persist("nobody").expect_out();
    let before = place.rules();
    place.shell("rm /dev/sd/test; mount -o remount,ro /dev/sd");
    assert_eq!(persist("root").code(), 1);
    assert_eq!(place.rules(), before);
}

/// The rights to a device do not go with its link.
fn rights_stay() {
    let place = Place::new();
    let device = place.loop_device("image");
    let name = device.path().display();
    let give_back = format!("'chown root:disk {name}' and 'chmod 0660 {name}'");
    for (given, is) in [
        (&["--owner", "nobody"][..], "belongs to nobody:root with mode 0600"),
        (&["--owner", "nobody", "--persist"], "belongs to nobody:root with mode 0600"),
        (&["--group", "disk", "--mode", "0664", "--persist"], "belongs to root:disk with mode 0664"),
    ] {
        place.shell(&format!("chown root:root {name}; chmod 600 {name}"));
        place.said(with(&device, "/dev/sd/test", given));
        let would = place.said(["--remove", "/dev/sd/test", "--dry-run"]);
        let said = place.said(["--remove", "/dev/sd/test"]);
        for said in [would, said] {
            assert!(
                said.contains(&format!("{name} still {is}")) && said.contains(&give_back),
                "{is}: {said}"
            );
        }
    }
    place.shell(&format!("chown root:disk {name}; chmod 0660 {name}"));
    place.said(arguments(&device, "/dev/sd/test"));
    assert_eq!(place.said(["--remove", "/dev/sd/test"]), "removed /dev/sd/test\n");
}

/// What no next boot attaches again.
fn deleted() {
    let place = Place::new();
    let device = place.loop_device("image");
    std::fs::remove_file(place.scratch.path("image")).expect("it is our directory");
    let refused = place.run(with(&device, "/dev/sd/test", &["--persist"]));
    refused.refused(1, "unsupported", &device.path().display().to_string(), "omit --persist");
    // A file may be called so.
    let named = place.loop_device("image (deleted)");
    place.said(with(&named, "/dev/sd/named", &["--persist"]));
}

fn without_sys() {
    let place = Place::new();
    let device = place.loop_device("image");
    place.shell("umount -l /sys");
    for refused in [place.run(arguments(&device, "/dev/sd/test")), place.run(["--list"])] {
        refused.refused(1, "unknown", "/sys/dev/block: ", "run as root: 'mount -t sysfs sysfs /sys'");
    }
}

fn stale() {
    let place = Place::new();
    let device = place.loop_device("image");
    place.said(with(&device, "/dev/sd/kept", &["--persist"]));
    place.shell("rm /dev/sd/kept; ln -s nowhere /dev/sd/stale");
    let links = place.links();
    let of = |name: &str| {
        let links = links["links"].as_array().expect("it is a list");
        let link = links.iter().find(|link| link["name"] == json!(name)).expect("it is listed");
        (link["persistent"].clone(), link["state"].clone(), link["device"].clone())
    };
    assert_eq!(of("/dev/sd/kept"), (json!(true), json!("missing"), Value::Null));
    assert_eq!(of("/dev/sd/stale"), (json!(false), json!("stale"), Value::Null));
    place.said(["--remove", "/dev/sd/kept"]);
    place.said(["--remove", "/dev/sd/stale"]);
    assert_eq!(place.links(), json!({"links": []}));
}

fn errors() {
    let run = |arguments: &[&str]| Run::new(command()).args(LINK).args(arguments).output();
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    let image = image.to_str().expect("ASCII");
    for (arguments, words) in [
        (&[][..], "required"),
        (&["/dev/null"], "--as"),
        (&["--as", "/dev/sd/x"], "required"),
        (&["/dev/null", "--as", "/dev/sd/x", "--list"], "cannot be used with"),
        (&["--list", "--persist"], "cannot be used with"),
        (&["--list", "--as", "/dev/sd/x"], "cannot be used with"),
        (&["--remove", "/dev/sd/x", "--as", "/dev/sd/y", "--dry-run"], "cannot be used with"),
        (&["--remove", "/dev/sd/x", "--owner", "root", "--dry-run"], "cannot be used with"),
        (&["--remove", "/dev/sd/x", "--group", "root", "--dry-run"], "cannot be used with"),
        (&["--remove", "/dev/sd/x", "--mode", "0660", "--dry-run"], "cannot be used with"),
        (&["--remove", "/dev/sd/x", "--persist", "--dry-run"], "cannot be used with"),
        (&["--json", "--remove", "/dev/sd/x"], "cannot be used with"),
        (&["/dev/null", "--as", "/dev/sdx", "--dry-run"], "/dev/sdx: is not a name for a link"),
        (&["/dev/null", "--as", "/dev/sd/a b", "--dry-run"], "is not a name for a link"),
        (&["/dev/null", "--as", "/dev/sd/../null", "--dry-run"], "is not a name for a link"),
        (&["--remove", "/etc/passwd", "--dry-run"], "/etc/passwd: is not a name for a link"),
    ] {
        run(arguments).refused(2, "usage", words, "");
    }
    for (device, code, hint) in [
        ("/dev/null", "not-a-device", "vmware-bdwrapper list"),
        ("/nonexistent", "not-found", "name a block device that exists"),
        (image, "not-a-device", "make one from the file: 'losetup --find --show /"),
    ] {
        let refused = run(&[device, "--as", "/dev/sd/x", "--dry-run"]);
        refused.refused(2, code, &format!("{device}: "), hint);
    }
}

fn ordinary_user() {
    let scratch = Scratch::new();
    let command = scratch.copy(&command(), "vmware-bdwrapper");
    for arguments in [&["/dev/null", "--as", "/dev/sd/x"][..], &["--remove", "/dev/sd/x"]] {
        let refused = Run::new(&command).args(LINK).args(arguments).nobody().output();
        // It can be pasted.
        let command = format!("run 'sudo vmware-bdwrapper {} {}'", LINK.join(" "), arguments.join(" "));
        refused.refused(1, "root-only", "", &command);
    }
    Run::new(&command).args(["link", "--list"]).nobody().output().expect_out();
}

/// Whatever a file is called, its device gets the link, wherever it is attached, and no other does.
fn files() {
    let names: [&[u8]; 12] = [
        b"plain",
        b"a b, c",
        b"qu\"ote', SYMLINK+=\"sd/evil",
        b"back\\slash\\",
        b"in\\side",
        b"glob*?[x]\\",
        b"$kernel %k $$",
        b"line\nbreak\ttab",
        b"\xc3\xa4 \xff",
        b"#comment ",
        b"ei*her\\or",
        b"end\n\n",
    ];
    let place = Place::new();
    let image = |name: &[u8]| {
        let path = place.scratch.directory().join(OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is our directory");
        std::fs::File::create(&path).and_then(|file| file.set_len(MIB)).expect("it is our directory");
        path
    };
    let images: Vec<PathBuf> = names.iter().map(|name| image(name)).collect();
    // What patterns that are not quoted would match, and any character in the place of an odd one.
    let others = [&b"globaaax"[..], b"glob*?x\\", b"plainer", b"a b", b"line", b"back\\slash"];
    let others: Vec<PathBuf> = others.iter().map(|name| image(name)).collect();
    let link = |at: usize| format!("/dev/sd/{at}");
    for (at, image) in images.iter().enumerate() {
        let device = place.device(image);
        place.said(with(&device, &link(at), &["--persist", "--owner", "nobody", "--mode", "0640"]));
        place.shell(&format!("rm {}", link(at)));
    }
    assert_eq!(place.rules().lines().count(), 1 + images.len(), "a line each:\n{}", place.rules());
    if Run::new("udevadm")
        .arg("--version")
        .output()
        .expect_out()
        .trim()
        .parse::<u32>()
        .is_ok_and(|version| version >= 254)
    {
        place.shell(&format!("udevadm verify {RULES}"));
    }
    place.start_udev();
    // The other way round, so that each is on another device than before.
    let others: Vec<Loop> = others.iter().map(|image| place.device(image)).collect();
    let mut devices: Vec<Loop> = images.iter().rev().map(|image| place.device(image)).collect();
    devices.reverse();
    for device in devices.iter().chain(&others) {
        place.trigger(device.path());
    }
    for (at, device) in devices.iter().enumerate() {
        assert_eq!(place.leads_to(&link(at)), device.path(), "{:?}\n{}", images[at], place.rules());
        let stat = place.enter("stat").args(["-c", "%U %a"]).arg(device.path()).output().expect_out();
        assert_eq!(stat, "nobody 640\n", "{:?}", images[at]);
    }
    let made = place.shell("ls /dev/sd");
    let wanted: BTreeSet<String> = (0..images.len()).map(|at| at.to_string()).collect();
    assert_eq!(made.lines().map(str::to_owned).collect::<BTreeSet<_>>(), wanted);
    for device in &others {
        let stat = place.enter("stat").args(["-c", "%U"]).arg(device.path()).output().expect_out();
        assert_eq!(stat, "root\n");
    }
    // udev itself has no complaint.
    let name = devices[0].path().file_name().map(OsString::from).expect("it has a name");
    let test = place
        .enter("udevadm")
        .args(["test", "--action=change"])
        .arg(Path::new("/sys/class/block").join(name))
        .output();
    let ours: Vec<String> =
        test.err().lines().filter(|line| line.contains("90-vmware")).map(str::to_owned).collect();
    assert!(ours.iter().any(|line| line.contains("LINK 'sd/0'")), "{ours:?}");
    assert!(!ours.iter().any(|line| line.contains("nvalid") || line.contains("ignoring")), "{ours:?}");
}

fn partition() {
    let place = Place::new();
    let image = place.scratch.image("image", 16 * MIB);
    Run::new("sfdisk").arg("-q").arg(&image).stdin("label: gpt\n- 4M\n- 4M\n").output().expect_out();
    let part = |device: &Loop, number: u32| PathBuf::from(format!("{}p{number}", device.path().display()));
    let attach = || {
        let device = place.device(&image);
        for number in [1, 2] {
            device.partition(number);
            place.trigger(&part(&device, number));
        }
        device
    };
    place.start_udev();
    let device = attach();
    let second = part(&device, 2);
    let said = place.said([
        second.as_os_str(),
        OsStr::new("--as"),
        OsStr::new("/dev/hd/part"),
        OsStr::new("--persist"),
    ]);
    assert!(said.contains("ENV{DEVTYPE}==\"partition\", ENV{ID_PART_ENTRY_UUID}==\""), "{said}");
    assert_eq!(place.leads_to("/dev/hd/part"), second);
    drop(device);
    place.shell("rm -f /dev/hd/part");
    let other = place.loop_device("other");
    let device = attach();
    assert_eq!(place.leads_to("/dev/hd/part"), part(&device, 2));
    drop(other);
}

fn udev_removes() {
    let place = Place::new();
    place.start_udev();
    let device = place.loop_device("image");
    place.said(with(&device, "/dev/sd/test", &["--persist"]));
    let links = |device: &Loop| {
        place.enter("udevadm").args(["info", "--query=symlink"]).arg(device.path()).output().expect_out()
    };
    assert!(
        links(&device).split_whitespace().any(|link| link == "sd/test"),
        "udev has been told: {}",
        links(&device)
    );
    place.said(["--remove", "/dev/sd/test"]);
    assert!(!place.exists("/dev/sd/test"));
    assert!(!links(&device).contains("sd/test"), "{}", links(&device));
    place.trigger(device.path());
    assert!(!place.exists("/dev/sd/test"), "it comes back");
}

/// A link that udev makes by a rule of the administrator's.
fn foreign() {
    let place = Place::new();
    let device = place.loop_device("image");
    let rule = format!("KERNEL==\"{}\", SYMLINK+=\"sd/foreign\"", kernel_name(&device));
    place.shell(&format!("echo '{rule}' >/etc/udev/rules.d/80-local.rules"));
    place.start_udev();
    place.trigger(device.path());
    let refused = place.run(["--remove", "/dev/sd/foreign"]);
    for hint in ["'grep -rF sd/foreign ", "--force"] {
        refused.refused(1, "exists", "/dev/sd/foreign: is made by another udev rule", hint);
    }
    assert_eq!(place.leads_to("/dev/sd/foreign"), device.path());
    assert_eq!(place.said(["--remove", "/dev/sd/foreign", "--force"]), "removed /dev/sd/foreign\n");
    place.trigger(device.path());
    let other = place.loop_device("other");
    let refused = place.run(arguments(&other, "/dev/sd/foreign"));
    refused.refused(1, "exists", "/dev/sd/foreign: leads to ", "--force");
    refused.says("exists", "by another udev rule", "");
    let forced = place.run(with(&other, "/dev/sd/foreign", &["--force"]));
    forced.expect_out();
    forced.says("exists", "/dev/sd/foreign: is made by another udev rule", "change that rule");
    assert_eq!(place.leads_to("/dev/sd/foreign"), other.path());
}

fn kernel_name(device: &Loop) -> String {
    device.path().file_name().and_then(OsStr::to_str).expect("ASCII").to_owned()
}

fn unheld() {
    let place = Place::new();
    let device = place.loop_device("either|or");
    let refused = place.run(with(&device, "/dev/sd/test", &["--persist"]));
    refused.refused(
        1,
        "unsupported",
        "either|or, and a udev rule cannot contain the vertical bar",
        "--persist",
    );
    assert!(!place.exists("/dev/sd") && !place.exists(RULES));
    place.said(arguments(&device, "/dev/sd/test"));
    // What only a newer udev can read.
    let quoted = place.loop_device("qu\"ote");
    let plain = place.loop_device("back\\slash");
    let old = place.scratch.path("old");
    std::fs::create_dir(&old).expect("it is our directory");
    std::fs::write(old.join("udevadm"), "#!/bin/sh\necho 3.2.14\n").expect("it is our directory");
    system::chmod(&old.join("udevadm"), 0o755);
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", old.display());
    let run = |device: &Loop, name: &str| {
        let all = with(device, name, &["--persist"]);
        place.enter(command()).args(LINK).args(all).env("PATH", &path).output()
    };
    let refused = run(&quoted, "/dev/sd/quoted");
    let why = "needs udev 247 or newer in a rule, and this udev is 3.2.14";
    refused.refused(1, "unsupported", why, "--persist");
    assert!(!place.exists("/dev/sd/quoted") && !place.exists(RULES));
    run(&plain, "/dev/sd/plain").expect_out();
    place.said(with(&quoted, "/dev/sd/quoted", &["--persist"]));
}

/// The unit of the manual attaches the file, whose device then gets the link, and detaches it.
fn attached() {
    let place = Place::new();
    place.start_udev();
    let image = place.scratch.image("image", 16 * MIB);
    let device = place.device(&image);
    let said = place.said(with(&device, "/dev/sd/test", &["--persist"]));
    let losetup = format!("losetup --find --show {}", image.display());
    assert!(said.contains(&losetup) && said.contains("at each boot"), "{said}");
    let blank = place.loop_device("my disk.img");
    let said = place.said(with(&blank, "/dev/sd/blank", &["--persist"]));
    let losetup = format!("losetup --find --show \"{}\"", place.scratch.path("my disk.img").display());
    assert!(said.contains(&losetup), "{said}");
    drop(blank);
    drop(device);
    place.shell("udevadm settle; rm -f /dev/sd/test");

    let manual = std::fs::read_to_string(system::sources().join("man/vmware-bdwrapper-link.1.md"));
    let manual = manual.expect("it is there");
    let unit = manual.split("```\n").find(|text| text.starts_with("[Unit]\n")).expect("it has one");
    let unit = unit.replace("/srv/windows.img", image.to_str().expect("ASCII"));
    let unit = unit.replace("/dev/sd/windows", "/dev/sd/test");
    let file = place.scratch.path("disk.service");
    std::fs::write(&file, &unit).expect("it is our directory");
    if Path::new("/usr/bin/systemd-analyze").exists() {
        let verified = Run::new("systemd-analyze").arg("verify").arg(&file).output();
        assert_eq!((verified.code(), verified.err().as_str()), (0, ""));
    }
    let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).expect("it has this line");
    let attached = || {
        let found =
            Run::new("losetup").args(["--noheadings", "--output", "NAME", "--associated"]).arg(&image);
        found.output().expect_out().trim().to_owned()
    };
    // Outside, for the name space has few nodes.
    Run::new("sh").args(["-ec", line("ExecStart=")]).output().expect_out();
    let node = PathBuf::from(attached());
    let device = Loop::adopt(node.clone());
    place.trigger(&node);
    let leads = place.leads_to("/dev/sd/test");
    let stopped = place.enter("sh").args(["-ec", line("ExecStop=")]).output();
    drop(device);
    wait_for_detached(&image);
    assert_eq!((leads, stopped.err().as_str()), (node, ""));
}
