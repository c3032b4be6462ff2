//! `vmware-bdwrapper add` and `remove`, on a system that may be changed.

#[expect(dead_code, reason = "not all that link needs")]
mod place;
#[expect(dead_code, reason = "the running system stays as it is")]
mod system;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{
    Loop, Need, Outcome, Run, Scratch, Terminal, assert_same_lines as assert_same, kernel_trial, library,
    trial, wait_for, wait_for_detached,
};
use place::{Place, RULES, UDEVD};
use system::{CONF, LIBRARY, command, trusted};

const MIB: u64 = 1 << 20;
const RECORD: &str = "/var/lib/vmware-bdwrapper/added.json";
const VMX: &str = "/usr/lib/vmware/bin/vmware-vmx";

fn main() -> ExitCode {
    let root = [Need::Devices, Need::Tool("setpriv")];
    let udev = [&root[..], &[Need::Tool("udevadm"), Need::Tool(UDEVD)]].concat();
    let starts = [&root[..], &[Need::Tool("cc")]].concat();
    let file_system = [&root[..], &[Need::Tool("mkfs.ext4")]].concat();
    let parts = [&udev[..], &[Need::Tool("sfdisk"), Need::Tool("partx")]].concat();
    let volume = [&root[..], &[Need::Tool("lvcreate")]].concat();
    acceptance::main(vec![
        trial("a device is added, checked and removed", &root, life),
        trial("a dry run changes nothing", &root, dry_run),
        trial("udev does the same at the next boot", &udev, with_udev),
        trial("kinds and names", &root, kinds),
        trial("a virtual machine gets the disk its guest has a driver for", &root, machines),
        trial("two virtual machines", &root, two_machines),
        trial("a virtual machine that is in use", &root, machine_in_use),
        trial("VMware's menu entry, and a virtual machine without a window", &starts, starters),
        trial("an image file", &root, image),
        trial("an image file with systemd", &root, with_systemd),
        trial("a loop device with systemd", &root, loop_with_systemd),
        trial("devices of other drivers", &root, other_drivers),
        trial("a partition", &parts, partition),
        trial("a set-user-ID program needs the bit", &root, set_user_id),
        trial("what fails half-way is undone", &root, undone),
        trial("what was interrupted can be removed", &root, interrupted),
        trial("what was changed by hand stays", &root, changed),
        trial("what is there already is used, and stays", &root, used),
        trial("a device that is not free", &file_system, not_free),
        trial("a device that udev cannot recognise", &root, unrecognised),
        trial("a question", &root, question),
        trial("errors", &root, errors),
        trial("an ordinary user", &[Need::Root], ordinary_user),
        trial("a name of the user's that leads elsewhere meanwhile", &root, replaced),
        trial("a loop device that is not the only one of its file", &root, loop_devices_of_one_file),
        trial("two partitions of one UUID", &parts, partitions_of_one_uuid),
        trial("the umask does not matter", &root, umasks),
        trial("what stands in the place of a menu entry", &root, no_menu_entry),
        trial("a user who is gone", &root, user_gone),
        trial("one name and one user", &root, one_name),
        trial("what cannot be reached is not forgotten", &root, unreachable),
        trial("an image file that is moved, deleted or detached", &root, moved),
        trial("what changes during the question", &root, changed_meanwhile),
        trial("a record that others may have written", &root, records),
        trial("a signal that ends programs", &root, signals),
        kernel_trial("a logical volume", "/proc/misc", "device-mapper", &volume, logical_volume),
    ])
}

/// A system with the command and the library, which user `nobody` can run.
struct Desk(Place);

impl Desk {
    fn new() -> Desk {
        const OVERLAYS: &str = "mkdir \"$0/over\"; mount -t tmpfs -o mode=755 tmpfs \"$0/over\"\n\
            for name in etc usr var; do\n\
                mkdir \"$0/over/$name\" \"$0/over/$name.work\"\n\
                layers=lowerdir=/$name,upperdir=$0/over/$name,workdir=$0/over/$name.work\n\
                mount -t overlay -o $layers overlay /$name\n\
            done\n";
        let mut place = Place::with(&["--message-format=json"], OVERLAYS);
        place.command = place.scratch.copy(&command(), "vmware-bdwrapper");
        place.scratch.copy(&library(), "libvmware_bdwrapper.so");
        let desk = Desk(place);
        let installed = desk.library();
        desk.shell(&format!(
            "rm -rf {CONF}* /var/lib/vmware-bdwrapper /usr/lib/vmware {installed}; mkdir -p /var/lib; \
             for number in $(seq 0 63); do [ -e /dev/loop$number ] || mknod -m 660 /dev/loop$number b 7 $number; done; \
             install -m 644 {} {installed}",
            library().display()
        ));
        desk
    }

    /// The installed library.
    fn library(&self) -> String {
        trusted().join(LIBRARY).display().to_string()
    }

    fn shell(&self, script: &str) -> String {
        self.0.shell(script)
    }

    fn device(&self) -> Loop {
        self.0.loop_device("windows.img")
    }

    /// A directory of the user's with the file of a virtual machine.
    fn machine(&self, name: &str, text: &str) -> PathBuf {
        let directory = self.0.scratch.path(name);
        std::fs::create_dir(&directory).expect("it is our directory");
        let file = directory.join(format!("{name}.vmx"));
        std::fs::write(&file, text).expect("it is our directory");
        self.shell(&format!("chown -R nobody:nogroup {}", directory.display()));
        file
    }

    /// All that `add` may change: names, owners, modes, targets and contents.
    fn tree(&self) -> String {
        self.shell(&format!(
            "names='/etc /dev {} {} /usr/lib/vmware'; [ ! -e /var/lib/vmware-bdwrapper ] || names=\"$names /var/lib/vmware-bdwrapper\"; \
             for name in $names; do [ -e $name ] || continue; \
             find $name ! -path '*/over/*' ! -path '*/stand-ins*' ! -name '*.img' ! -path '*/rules/*' ! -name stderr -printf '%p %y %m %U:%G %l\\n' | sort; \
             find $name -type f ! -path '*/over/*' ! -path '*/stand-ins*' ! -name '*.img' ! -path /dev/null ! -name stderr -exec sha256sum {{}} + | sort; done",
            self.0.scratch.directory().display(),
            self.library()
        ))
    }

    fn run<T: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = T>) -> Outcome {
        self.0.run(words)
    }

    /// Adds a device, which succeeds.
    #[track_caller]
    fn add(&self, device: &Path, more: &[&str]) -> Outcome {
        let outcome = self.try_to_add(device, more);
        outcome.expect_out();
        outcome
    }

    fn try_to_add(&self, device: &Path, more: &[&str]) -> Outcome {
        let words = ["add", "--to", "nobody", "--yes"].into_iter().chain(more.iter().copied());
        self.run(words.map(OsStr::new).chain([device.as_os_str()]))
    }

    /// Removes a device, which succeeds without a complaint.
    #[track_caller]
    fn remove(&self, name: &str) -> String {
        let outcome = self.run(["remove", "--yes", name]);
        let out = outcome.expect_out();
        assert_eq!(outcome.err(), "", "{out}");
        out
    }

    /// Runs the command on a terminal up to its question; returns what it said.
    fn ask(&self, words: &[&str]) -> (Terminal, String) {
        let words = [text(&self.0.command)].into_iter().chain(words.iter().copied()).map(str::to_owned);
        let all: Vec<String> = self.0.words_to_enter().into_iter().chain(words).collect();
        let mut terminal = Terminal::start(&all, &[]);
        let said = terminal.wait("Do this? [y/N] ");
        (terminal, said)
    }

    /// Puts a program before the system's.
    fn stand_in(&self, name: &str, script: &str) -> String {
        let directory = self.0.scratch.path("stand-ins");
        std::fs::create_dir_all(&directory).expect("it is our directory");
        std::fs::write(directory.join(name), format!("#!/bin/sh\n{script}")).expect("it is our directory");
        system::chmod(&directory.join(name), 0o755);
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", directory.display())
    }

    fn run_with<T: AsRef<OsStr>>(&self, path: &str, words: impl IntoIterator<Item = T>) -> Outcome {
        let run = self.0.enter(&self.0.command).arg("--message-format=json").args(words);
        // A signal may be ignored where the tests were started.
        run.env("PATH", path).default_signals().output()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("ASCII")
}

fn life() {
    let desk = Desk::new();
    let device = desk.device();
    let node = text(device.path());
    let before = desk.tree();
    let added = desk.add(device.path(), &[]);
    let image = desk.0.scratch.path("windows.img");
    let rule = format!(
        "SUBSYSTEM==\"block\", ENV{{DEVTYPE}}==\"disk\", ATTR{{loop/backing_file}}==\"{}\", SYMLINK+=\"sd/windows\", OWNER=\"nobody\"",
        image.display()
    );
    let wanted = format!(
        "{} (loop) becomes the SCSI disk /dev/sd/windows, used by nobody:\n\
         - make the directory /dev/sd\n\
         - link /dev/sd/windows to {node}\n\
         - make nobody the owner of {node}\n\
         - have udev make the link and set the owner at each boot, by a rule in {RULES}:\n  {rule}\n\
         - create {CONF}\n\
         - add to {CONF}: device /dev/sd/windows\n\
         VMware would accept /dev/sd/windows, used by nobody.\n\
         Next, as nobody: vmware-bdwrapper run --device /dev/sd/windows -- vmware\n\
         There, add a hard disk to the virtual machine, choose \"Use a physical disk\", and /dev/sd/windows.\n",
        image.display()
    );
    assert_eq!(added.out(), wanted);
    added.says("unsupported", "has no loop device after the next boot", "losetup --find --nooverlap --show");
    assert_eq!(desk.0.leads_to("/dev/sd/windows"), device.path());
    assert_eq!(desk.shell("stat -Lc %U /dev/sd/windows"), "nobody\n");
    assert_eq!(desk.0.rules().lines().last(), Some(rule.as_str()));
    assert!(desk.shell(&format!("cat {CONF}")).ends_with("\ndevice /dev/sd/windows\n"));
    // Twice.
    let tree = desk.tree();
    let again = desk.add(device.path(), &[]).out();
    assert!(
        again.starts_with("/dev/sd/windows is added already, and nothing is missing.\nNext, as nobody: "),
        "{again}"
    );
    assert_same(&desk.tree(), &tree);
    // An ordinary user's shell knows it.
    let script =
        format!("eval \"$({} completions bash)\"; _vmware-bdwrapper_added", desk.0.command.display());
    let names =
        desk.0.enter("setpriv").args(["--reuid=nobody", "--clear-groups", "bash", "--norc", "-c", &script]);
    assert_eq!(names.output().expect_out(), "windows\n");
    // By each of its names.
    for name in ["windows", "/dev/sd/windows", node, text(&image)] {
        let said = desk.run(["remove", "--dry-run", name]).expect_out();
        assert!(
            said.starts_with("What 'vmware-bdwrapper add' did for /dev/sd/windows, to be undone:\n- "),
            "{said}"
        );
    }
    assert_same(&desk.tree(), &tree);
    let said = desk.remove("windows");
    for line in [
        format!("removed from {CONF}: device /dev/sd/windows\n"),
        format!("removed the rule for /dev/sd/windows from {RULES}\n"),
        format!("gave {node} back to root\n"),
        "removed /dev/sd/windows\n".into(),
        format!("removed {CONF}\n"),
    ] {
        assert!(said.contains(&line), "{line}: {said}");
    }
    assert_same(&desk.tree(), &before);
    desk.run(["remove", "windows", "--yes"]).refused(
        1,
        "not-found",
        "windows: was not added",
        "nothing was added",
    );
}

fn dry_run() {
    let desk = Desk::new();
    let device = desk.device();
    let vmx = desk.machine("vm", "config.version = \"8\"\nguestOS = \"ubuntu-64\"\n");
    let before = desk.tree();
    let said = desk.add(device.path(), &["--dry-run", "--vm", text(&vmx)]).out();
    let file = vmx.with_file_name("windows.vmdk");
    let end = format!(
        "- describe /dev/sd/windows in {0}\n- attach {0} to {1} as scsi0:0\n",
        file.display(),
        vmx.display()
    );
    assert!(said.ends_with(&end), "{said}");
    assert_same(&desk.tree(), &before);
    let image = desk.0.scratch.image("other.img", MIB);
    let said = desk.add(&image, &["--dry-run", "--kind", "ide"]).out();
    let start = format!(
        "{0} (image file) becomes the IDE disk /dev/hd/other, used by nobody:\n- make a loop device from {0}\n- make the directory /dev/hd\n- link /dev/hd/other to its loop device\n",
        image.display()
    );
    assert!(said.starts_with(&start), "{said}");
    assert_same(&desk.tree(), &before);
}

fn with_udev() {
    let desk = Desk::new();
    desk.0.start_udev();
    let device = desk.device();
    desk.0.trigger(device.path());
    // This udev hears of the devices of other trials, too.
    let tree = || {
        let tree = desk.tree();
        let is_own = |line: &&str| {
            !["/dev/block", "/dev/disk", "/dev/loop"].iter().any(|start| line.starts_with(start))
        };
        tree.lines().filter(is_own).map(|line| format!("{line}\n")).collect::<String>()
    };
    let before = tree();
    desk.add(device.path(), &[]);
    // As after the next boot.
    desk.shell(&format!("rm -r /dev/sd; chown 0 {}", device.path().display()));
    desk.0.trigger(device.path());
    assert_eq!(desk.0.leads_to("/dev/sd/windows"), device.path());
    assert_eq!(desk.shell("stat -Lc %U /dev/sd/windows"), "nobody\n");
    desk.remove("windows");
    desk.0.trigger(device.path());
    assert_eq!(desk.shell(&format!("stat -c %U {}", device.path().display())), "root\n");
    assert_same(&tree(), &before);
}

fn kinds() {
    let desk = Desk::new();
    let device = desk.device();
    let before = desk.tree();
    for (more, name, entry) in [
        (&["--kind", "ide"][..], "/dev/hd/windows", "/dev/hd/windows"),
        (&["--kind", "sata"], "/dev/sd/windows", "/dev/sd/windows=sata"),
        (&["--name", "a/b"], "/dev/sd/a/b", "/dev/sd/a/b"),
        (&["--name", "/dev/hd/x"], "/dev/hd/x", "/dev/hd/x"),
        (&["--name", "/dev/sd/x", "--kind", "sata"], "/dev/sd/x", "/dev/sd/x=sata"),
    ] {
        let said = desk.add(device.path(), more).out();
        assert!(said.contains(&format!(" run --device {entry} -- ")), "{said}");
        assert_eq!(desk.0.leads_to(name), device.path());
        // Again, it is what it was.
        let again = desk.add(device.path(), &[]).out();
        assert!(again.starts_with(&format!("{name} is added already")), "{again}");
        desk.remove(text(device.path()));
        assert_same(&desk.tree(), &before);
    }
    let refused = desk.try_to_add(device.path(), &["--name", "/dev/hd/x", "--kind", "scsi"]);
    refused.refused(
        2,
        "usage",
        "/dev/hd/x: is not a name for a disk of kind scsi",
        "give a name below /dev/sd",
    );
    desk.try_to_add(device.path(), &["--name", "a b"]).refused(2, "usage", "is not a name for a link", "");
    // A name that is taken.
    desk.add(device.path(), &["--name", "x"]);
    let other = desk.0.loop_device("other.img");
    let refused = desk.try_to_add(other.path(), &["--name", "x"]);
    refused.refused(1, "exists", "/dev/sd/x: is already the name of ", "remove /dev/sd/x");
    // As another disk, or another user's, what was given before would be taken away by the removal of either.
    let tree = desk.tree();
    for more in [&["--name", "y"][..], &["--kind", "ide"], &["--kind", "sata"], &["--to", "daemon"]] {
        let words = ["add", "--yes", "--dry-run", text(device.path())];
        let user = if more[0] == "--to" { &[][..] } else { &["--to", "nobody"] };
        let words = words.iter().chain(user).chain(more);
        let why = format!("{}: is added already, as /dev/sd/x for nobody", device.path().display());
        desk.run(words).refused(1, "exists", &why, "remove /dev/sd/x");
    }
    assert_same(&desk.tree(), &tree);
    desk.remove("x");
    // A link that exists is used.
    for (name, kind) in [("/dev/hd/mine", "the IDE disk"), ("/dev/sd/mine", "the SCSI disk")] {
        desk.shell(&format!("mkdir {1}; ln -s {0} {1}/mine", device.path().display(), &name[..7]));
        let before = desk.tree();
        let said = desk.add(Path::new(name), &[]).out();
        assert!(said.contains(&format!("{kind} {name}, ")) && !said.contains("- link"), "{said}");
        desk.remove(name);
        assert_same(&desk.tree(), &before);
    }
}

const HEAD: &str = ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nvirtualHW.version = \"16\"\n";

fn machines() {
    let desk = Desk::new();
    let device = desk.device();
    for (number, (guest, end, more, name, slot, controller)) in [
        ("ubuntu-64", "\n", &[][..], "/dev/sd/windows", "scsi0:0", "scsi0.virtualDev = \"lsilogic\""),
        ("windows9-64", "\n", &[], "/dev/sd/windows", "scsi0:0", "scsi0.virtualDev = \"lsisas1068\""),
        ("winXPPro", "\n", &[], "/dev/hd/windows", "ide0:0", ""),
        ("winXPPro", "\n", &["--kind", "sata"], "/dev/sd/windows", "sata0:0", "sata0.present = \"TRUE\""),
        ("ubuntu-64", "", &[], "/dev/sd/windows", "scsi0:0", "scsi0.virtualDev = \"lsilogic\""),
        (
            "windows9-64",
            "\r\nscsi0.present = \"TRUE\"\r\nscsi0.virtualDev = \"lsisas1068\"\r\nscsi0:0.fileName = \"own.vmdk\"",
            &[],
            "/dev/sd/windows",
            "scsi0:1",
            "",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let vmx = desk.machine(&format!("vm{number}"), &format!("{HEAD}guestOS = \"{guest}\"{end}"));
        let before = desk.tree();
        let said = desk.add(device.path(), &[more, &["--vm", text(&vmx)]].concat()).out();
        assert!(said.ends_with(&format!(" -- vmware {}\n", vmx.display())), "{said}");
        let (file, written) = (vmx.with_file_name("windows.vmdk"), std::fs::read_to_string(&vmx).expect("it is ours"));
        assert!(written.contains(&format!("{slot}.fileName = \"windows.vmdk\"")), "{guest}: {written}");
        assert!(written.contains(controller), "{guest}: {written}");
        assert!(std::fs::read_to_string(&file).expect("it is made").contains(&format!("\"{name}\"")));
        // They are the user's, and nothing is beside them.
        let owners = desk.shell(&format!("cd {}; stat -c '%n %U' *", vmx.parent().expect("it has one").display()));
        assert_eq!(owners, format!("vm{number}.vmx nobody\nwindows.vmdk nobody\n"));
        let check = desk.0.enter(&desk.0.command).args(["vmdk", "check"]).arg(&file).output();
        assert_eq!(check.code(), 0, "{}{}", check.out(), check.err());
        let again = desk.add(device.path(), &["--vm", text(&vmx)]).out();
        assert!(again.contains("is added already"), "{again}");
        desk.remove("windows");
        assert_same(&desk.tree(), &before);
    }
}

fn two_machines() {
    let desk = Desk::new();
    let device = desk.device();
    let machine = |name: &str| desk.machine(name, &format!("{HEAD}guestOS = \"ubuntu-64\"\n"));
    let [one, two, none] = ["one", "two", "none"].map(machine);
    let before = desk.tree();
    desk.add(device.path(), &["--vm", text(&one)]);
    let with_one = desk.tree();
    let said = desk.add(device.path(), &["--vm", text(&two)]).out();
    assert_eq!(said.lines().filter(|line| line.starts_with("- ")).count(), 2, "{said}");
    let refused = desk.run(["remove", "windows", "--yes", "--vm", text(&none)]);
    refused.refused(1, "not-found", "none.vmx: did not get /dev/sd/windows", "omit --vm");
    desk.run(["remove", "windows", "--yes", "--vm", text(&two)]).expect_out();
    assert_same(&desk.tree(), &with_one);
    desk.run(["remove", "windows", "--yes", "--vm", text(&one)]).expect_out();
    assert_same(&desk.tree(), &before);
}

fn machine_in_use() {
    let desk = Desk::new();
    let device = desk.device();
    let vmx = desk.machine("vm", HEAD);
    let lock = format!("{}.lck", vmx.display());
    let before = desk.tree();
    desk.shell(&format!("mkdir {lock}"));
    desk.try_to_add(device.path(), &["--vm", text(&vmx)]).refused(
        1,
        "in-use",
        "vm.vmx: is in use",
        "shut the",
    );
    desk.shell(&format!("rmdir {lock}"));
    assert_same(&desk.tree(), &before);
    desk.add(device.path(), &["--vm", text(&vmx)]);
    let added = desk.tree();
    desk.shell(&format!("mkdir {lock}"));
    desk.run(["remove", "windows", "--yes"]).refused(1, "in-use", "vm.vmx: is in use", "shut the");
    desk.shell(&format!("rmdir {lock}"));
    assert_same(&desk.tree(), &added);
    // The user's, whom root does not serve where he has no right himself.
    desk.remove("windows");
    desk.shell(&format!(
        "chown 0 {0} {1}; chmod 600 {1}",
        vmx.parent().expect("it has one").display(),
        vmx.display()
    ));
    let refused = desk.try_to_add(device.path(), &["--vm", text(&vmx)]);
    refused.refused(1, "permission-denied", "vm.vmx: cannot be read", "");
    let gone = vmx.with_file_name("gone.vmx");
    let refused = desk.try_to_add(device.path(), &["--vm", text(&gone)]);
    refused.refused(1, "not-found", "gone.vmx: ", "");
}

fn image() {
    let desk = Desk::new();
    let image = desk.0.scratch.image("my windows.img", 16 * MIB);
    let before = desk.tree();
    let said = desk.add(&image, &[]);
    assert!(
        said.out().contains(&format!("- make a loop device from {}\n", image.display())),
        "{}",
        said.out()
    );
    said.says("unsupported", "my windows.img: has no loop device after the next boot", "losetup --find");
    let node = desk.0.leads_to("/dev/sd/my-windows");
    let device = Loop::adopt(node.clone());
    assert_eq!(desk.shell("stat -Lc %U /dev/sd/my-windows"), "nobody\n");
    let again = desk.add(&image, &[]).out();
    assert!(again.starts_with("/dev/sd/my-windows is added already"), "{again}");
    let said = desk.remove(text(&image));
    assert!(said.contains(&format!("detached {} from {}", image.display(), node.display())), "{said}");
    drop(device);
    wait_for_detached(&image);
    assert_same(&desk.tree(), &before);
}

/// As systemctl(1) would do it.
const SYSTEMCTL: &str = "unit=/etc/systemd/system/$(eval echo \\${$#}) wants=/etc/systemd/system/multi-user.target.wants\n\
    run() { sh -ec \"$(sed -n \"s/^$1=//p\" $unit | sed 's/\\$\\$/\\\\$/g; s/%%/%/g')\"; }\n\
    echo \"$*\" >>/run/systemctl\n\
    case $* in\n\
    'enable --now '*) run ExecStart && ln -s $unit $wants ;;\n\
    'enable '*) ln -s $unit $wants ;;\n\
    'disable --now '*) rm $wants/${unit##*/}; run ExecStop ;;\n\
    'disable '*) rm $wants/${unit##*/} ;;\n\
    daemon-reload) ;;\n\
    *) exit 1 ;;\n\
    esac\n";

fn with_systemd() {
    let desk = Desk::new();
    let path = desk.stand_in("systemctl", SYSTEMCTL);
    desk.shell("mkdir -p /run/systemd/system /etc/systemd/system/multi-user.target.wants");
    let image = desk.0.scratch.image("my \"100%\" $HOME.img", 16 * MIB);
    let before = desk.tree();
    let words = ["add", "--to", "nobody", "--yes", "--name", "windows", text(&image)];
    let added = desk.run_with(&path, words);
    added.expect_out();
    assert_eq!(added.err(), "");
    let unit = "/etc/systemd/system/vmware-bdwrapper-sd-windows.service";
    assert!(added.out().contains(&format!("at each boot, and now, by {unit}\n")), "{}", added.out());
    let device = Loop::adopt(desk.0.leads_to("/dev/sd/windows"));
    if Path::new("/usr/bin/systemd-analyze").exists() {
        let verified = desk.0.enter("systemd-analyze").args(["verify", unit]).output();
        assert_eq!(
            (verified.code(), verified.err().as_str()),
            (0, ""),
            "{}",
            desk.shell(&format!("cat {unit}"))
        );
    }
    let again = desk.run_with(&path, words).expect_out();
    assert!(again.starts_with("/dev/sd/windows is added already"), "{again}");
    let removed = desk.run_with(&path, ["remove", "windows", "--yes"]);
    removed.expect_out();
    assert_eq!(removed.err(), "");
    drop(device);
    wait_for_detached(&image);
    assert_same(&desk.tree(), &before);
    // What systemd refuses is undone.
    let path = desk.stand_in("systemctl", "[ $1 != enable ] || { echo no >&2; exit 1; }");
    let refused = desk.run_with(&path, words);
    assert_eq!(refused.code(), 1);
    refused.says("io", "'systemctl enable --now vmware-bdwrapper-sd-windows.service' failed (no)", "");
    refused.says("io", "Nothing was added: the earlier steps were undone", "");
    assert_same(&desk.tree(), &before);
    // A unit of somebody else's.
    desk.shell(&format!("echo '[Unit]' >{unit}"));
    let before = desk.tree();
    let refused = desk.run_with(&path, words);
    refused.refused(1, "exists", "vmware-bdwrapper-sd-windows.service: exists already", "--name");
    assert_same(&desk.tree(), &before);
}

fn loop_with_systemd() {
    let desk = Desk::new();
    let path = desk.stand_in("systemctl", SYSTEMCTL);
    desk.shell("mkdir -p /run/systemd/system /etc/systemd/system/multi-user.target.wants");
    let device = desk.device();
    let before = desk.tree();
    let added = desk.run_with(&path, ["add", "--to", "nobody", "--yes", text(device.path())]);
    added.expect_out();
    assert_eq!(added.err(), "");
    desk.run_with(&path, ["remove", "windows", "--yes"]).expect_out();
    // The device is attached now, and stays so.
    assert_same(&desk.tree(), &before);
    assert_eq!(
        desk.shell("cat /run/systemctl"),
        "daemon-reload\nenable vmware-bdwrapper-sd-windows.service\ndisable vmware-bdwrapper-sd-windows.service\ndaemon-reload\n"
    );
    assert!(desk.shell("losetup --all").contains("windows.img"));
}

/// What the menu and systemd start sees its disks: here a set-user-ID program behind what stands for VMware's launchers.
fn starters() {
    let mut desk = Desk::new();
    let (device, other) = (desk.device(), desk.0.loop_device("other.img"));
    let vmx = desk.machine("my%vm", &format!("{HEAD}guestOS = \"ubuntu-64\"\n"));
    let home = desk.0.scratch.path("home");
    let secure = desk.0.scratch.program("secure");
    desk.shell(&format!(
        "install -m 755 {command} /usr/bin/vmware-bdwrapper; mkdir -p {bin} /usr/share/applications; \
         install -m 4755 {secure} {VMX}; install -d -o nobody {home}; \
         sed -i 's|^nobody:.*|nobody:x:65534:65534::{home}:/bin/sh|' /etc/passwd; \
         for name in vmware vmrun; do printf '%s\n' '#!/bin/sh' 'echo \"$@\"' 'exec {VMX} /dev/sd/windows /dev/sd/other' \
         >/usr/bin/$name; chmod 755 /usr/bin/$name; done; rm -f /usr/share/applications/vmware-*.desktop; \
         printf '%s\n' '[Desktop Entry]' Type=Application 'Name=VMware Workstation' 'Exec=/usr/bin/vmware %U' DBusActivatable=true \
         >/usr/share/applications/vmware-workstation.desktop",
        command = command().display(),
        bin = Path::new(VMX).parent().expect("it has one").display(),
        secure = secure.display(),
        home = home.display(),
    ));
    desk.0.command = "/usr/bin/vmware-bdwrapper".into();
    let before = desk.tree();
    let entry = home.join(".local/share/applications/vmware-bdwrapper-workstation.desktop");
    let unit = home.join(".config/systemd/user/vmware-bdwrapper-my-vm.service");
    let value = |file: &Path, key: &str| {
        let text = desk.shell(&format!("cat {}", file.display()));
        let line =
            text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key}: {text}"));
        line.replace("%%", "%").replace("%U", "a.vmx")
    };
    // As the session or systemd starts it: nothing of a shell's environment is there.
    let start = |line: &str| {
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "env", "-i", "PATH=/usr/bin:/bin"];
        desk.0.enter("setpriv").args(user).args(["sh", "-c", line]).output().expect_out()
    };
    let disks = |said: &str| said.matches("bytes=16777216 ").count() - said.matches(" idlun=E").count();

    let said = desk.add(device.path(), &[]).out();
    assert!(said.contains(&format!("from the menu of nobody: {}\n", entry.display())), "{said}");
    assert_eq!(desk.shell(&format!("stat -c '%U %a' {}", entry.display())), "nobody 644\n");
    assert_eq!(value(&entry, "Name="), "VMware Workstation with block devices");
    assert!(!desk.shell(&format!("cat {}", entry.display())).contains("DBus"));
    let started = start(&value(&entry, "Exec="));
    assert!(started.starts_with("a.vmx\n") && started.contains("secure=1"), "{started}");
    assert_eq!(disks(&started), 1, "{started}");

    desk.add(other.path(), &[]);
    assert_eq!(disks(&start(&value(&entry, "Exec="))), 2);

    let said = desk.add(device.path(), &["--vm", text(&vmx), "--headless"]).out();
    for line in [
        &format!("without a window, if nobody enables that: {}\n", unit.display()),
        "systemctl --user enable --now vmware-bdwrapper-my-vm.service\n",
        "sudo loginctl enable-linger nobody\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let started = start(&value(&unit, "ExecStart="));
    assert!(started.starts_with(&format!("-T ws start {} nogui\n", vmx.display())), "{started}");
    assert_eq!(disks(&started), 1, "{started}");
    assert!(start(&value(&unit, "ExecStop=")).starts_with(&format!("-T ws stop {} soft\n", vmx.display())));
    if Path::new("/usr/bin/systemd-analyze").exists() {
        let verified = desk.0.enter("systemd-analyze").arg("verify").arg(&unit).output();
        assert_eq!((verified.code(), verified.err().as_str()), (0, ""));
    }
    // The second disk of a virtual machine that a unit starts.
    desk.add(other.path(), &["--vm", text(&vmx)]);
    assert_eq!(disks(&start(&value(&unit, "ExecStart="))), 2);
    let again = desk.add(other.path(), &["--vm", text(&vmx)]).out();
    assert!(again.starts_with("/dev/sd/other is added already"), "{again}");

    desk.remove("windows");
    assert_eq!(disks(&start(&value(&entry, "Exec="))), 1);
    assert_eq!(disks(&start(&value(&unit, "ExecStart="))), 1);
    // As systemctl(1) enables it.
    let wants = unit.with_file_name("default.target.wants");
    desk.shell(&format!(
        "install -d -o nobody {0}; ln -s ../$(basename {1}) {0}",
        wants.display(),
        unit.display()
    ));
    desk.remove("other");
    assert_same(&desk.tree(), &before);

    // What was changed by hand stays.
    desk.add(device.path(), &[]);
    desk.shell(&format!("echo Comment=mine >>{}", entry.display()));
    let removed = desk.run(["remove", "windows", "--yes"]);
    removed.expect_out();
    removed.says("different", &format!("{}: has been changed", entry.display()), "");
    // And is not taken for a file of this command's without its first line.
    desk.shell(&format!("sed -i 1d {}", entry.display()));
    let refused = desk.try_to_add(device.path(), &[]);
    refused.refused(1, "exists", &format!("{}: exists already", entry.display()), "rename it");
    desk.shell(&format!("rm -r {}/.local", home.display()));
    desk.try_to_add(device.path(), &["--headless"]).refused(2, "usage", "--vm", "");
    // Root does not write where the user may not.
    desk.shell(&format!("ln -s /etc {}/.local", home.display()));
    let before = desk.tree();
    let refused = desk.try_to_add(device.path(), &[]);
    assert_eq!(refused.code(), 1);
    refused.says("permission-denied", "/.local/share/applications: cannot be made (Permission denied)", "");
    refused.says("permission-denied", "Nothing was added: the earlier steps were undone", "");
    assert_same(&desk.tree(), &before);
    desk.shell(&format!("rm {}/.local", home.display()));
    // Without VMware's command, and without a home directory.
    desk.shell("rm /usr/bin/vmrun");
    let refused = desk.try_to_add(device.path(), &["--vm", text(&vmx), "--headless"]);
    refused.refused(1, "program-not-found", "vmrun: is not in any directory of PATH", "omit --headless");
    desk.shell(&format!("rmdir {}", home.display()));
    desk.add(device.path(), &[]).says("not-found", &format!("{}: is not a directory", home.display()), "");
}

/// A set-user-ID program where VMware's is.
fn install_vmx(desk: &Desk) {
    desk.shell(&format!(
        "mkdir -p {}; install -m 4755 /bin/true {VMX}",
        Path::new(VMX).parent().expect("it has one").display()
    ));
}

fn set_user_id() {
    let desk = Desk::new();
    install_vmx(&desk);
    let (library, device, other) = (desk.library(), desk.device(), desk.0.loop_device("other.img"));
    let mode = || desk.shell(&format!("stat -c %a {library}"));
    let before = desk.tree();
    let said = desk.add(device.path(), &[]).out();
    assert!(
        said.contains(&format!(
            "- give {} the set-user-ID bit",
            Path::new(&library).canonicalize().map_or(library.clone(), |path| path.display().to_string())
        )),
        "{said}"
    );
    assert!(said.contains("Risk: any user can now"), "{said}");
    assert_eq!(mode(), "4644\n");
    let said = desk.add(other.path(), &[]).out();
    assert!(!said.contains("set-user-ID"), "{said}");
    desk.remove("windows");
    assert_eq!(mode(), "4644\n", "the other one needs it");
    desk.remove("other");
    assert_same(&desk.tree(), &before);
    // Where it was set, it stays.
    desk.shell(&format!("chmod 4644 {library}; echo messages no >{CONF}"));
    let said = desk.add(device.path(), &[]).out();
    assert!(said.contains(&format!("- add to {CONF}: executable {VMX}\n")), "{said}");
    desk.remove("windows");
    assert_eq!((mode().as_str(), desk.shell(&format!("cat {CONF}")).as_str()), ("4644\n", "messages no\n"));
    desk.shell(&format!("chmod 777 {VMX}"));
    desk.add(device.path(), &["--dry-run"]);
    desk.shell(&format!("chmod 4777 {VMX}"));
    desk.try_to_add(device.path(), &[]).refused(
        1,
        "untrusted",
        &format!("{VMX}: it has the mode"),
        "chmod go-w",
    );
    desk.shell(&format!("chmod 4755 {VMX}; rm {library}"));
    desk.try_to_add(device.path(), &[]).refused(1, "not-installed", LIBRARY, "make install");
}

fn undone() {
    let desk = Desk::new();
    install_vmx(&desk);
    let device = desk.device();
    let vmx = desk.machine("vm", HEAD);
    let words = ["add", "--to", "nobody", "--yes", "--vm", text(&vmx), text(device.path())];
    let directory = vmx.parent().expect("it has one").display().to_string();
    let library = desk.library();
    let read_only = |name: &str| {
        (format!("mount --bind {name} {name}; mount -o remount,bind,ro {name}"), format!("umount {name}"))
    };
    let fixed = |name: &str| (format!("mount --bind {name} {name}"), format!("umount {name}"));
    desk.shell(&format!("echo messages no >{CONF}; mkdir -p /dev/sd"));
    let full = (
        format!(
            "mkdir /run/full; mount -t tmpfs -o size=8k tmpfs /run/full; cp -p {0} /run/full; chown nobody /run/full; umount -l {directory} 2>/dev/null || :; mount --bind /run/full {directory}; dd if=/dev/zero of={directory}/full bs=4k 2>/dev/null || :",
            vmx.display()
        ),
        format!("umount {directory}; umount /run/full; rmdir /run/full"),
    );
    for (what, code, subject, (prepare, restore)) in [
        ("the link", "io", "/dev/sd/windows", read_only("/dev/sd")),
        ("the rules", "io", RULES, read_only("/etc/udev/rules.d")),
        ("the configuration file", "io", CONF, fixed(CONF)),
        ("the bit", "io", LIBRARY, read_only(&library)),
        (
            "the descriptor",
            "permission-denied",
            "windows.vmdk",
            (format!("chmod 555 {directory}"), format!("chmod 755 {directory}")),
        ),
        ("no room", "io", "windows.vmdk", full),
        ("the virtual machine", "io", "vm.vmx", fixed(text(&vmx))),
    ] {
        let original = desk.tree();
        desk.shell(&prepare);
        let before = desk.tree();
        let failed = desk.run(words);
        assert_eq!(failed.code(), 1, "{what}: {}{}", failed.out(), failed.err());
        failed.says(code, subject, "");
        failed.says(code, "Nothing was added: the earlier steps were undone", "");
        assert_same(&desk.tree(), &before);
        desk.shell(&restore);
        assert_same(&desk.tree(), &original);
    }
    let before = desk.tree();
    for (tool, script, words_said) in [
        ("chown", "echo no >&2; exit 1", "its rights cannot be changed (no)"),
        ("setpriv", "echo no >&2; exit 1", "could not be checked as nobody (no)"),
        (
            "setpriv",
            "echo '{\"devices\": [{\"vmware\": {\"accepted\": false, \"reason\": \"x\"}, \"findings\": []}]}'",
            "VMware would refuse it (x)",
        ),
    ] {
        let path = desk.stand_in(tool, script);
        let failed = desk.run_with(&path, words);
        std::fs::remove_dir_all(desk.0.scratch.path("stand-ins")).expect("it is our directory");
        assert_eq!(failed.code(), 1, "{tool}");
        let said = failed.messages();
        assert!(said.iter().any(|finding| finding.text.contains(words_said)), "{tool}: {}", failed.err());
        assert!(
            said.iter().any(|finding| finding.text.starts_with("Nothing was added")),
            "{tool}: {}",
            failed.err()
        );
        assert_same(&desk.tree(), &before);
    }
    // What cannot be undone is said, and can be undone later.
    let path = desk.stand_in("chown", "[ $2 = 0 ] || exec /bin/chown \"$@\"; echo no >&2; exit 1");
    desk.stand_in("setpriv", "exit 1");
    let failed = desk.run_with(&path, words);
    std::fs::remove_dir_all(desk.0.scratch.path("stand-ins")).expect("it is our directory");
    failed.says("io", "Not all of the earlier steps could be undone", "remove /dev/sd/windows");
    desk.remove("windows");
    assert_same(&desk.tree(), &before);
}

/// Killed in a step, or in the check behind them all.
fn interrupted() {
    let desk = Desk::new();
    let device = desk.device();
    let vmx = desk.machine("vm", HEAD);
    let words = ["add", "--to", "nobody", "--yes", "--vm", text(&vmx), text(device.path())];
    let before = desk.tree();
    for tool in ["chown", "setpriv"] {
        let path = desk.stand_in(tool, "kill -KILL $PPID");
        let killed = desk.run_with(&path, words);
        std::fs::remove_dir_all(desk.0.scratch.path("stand-ins")).expect("it is our directory");
        assert!(killed.status.code().is_none(), "{}", killed.err());
        assert!(desk.0.exists("/dev/sd/windows"));
        desk.remove("windows");
        desk.shell("rm -f /run/vmware-bdwrapper.lock");
        assert_same(&desk.tree(), &before);
    }
}

/// sysfs and `/dev` say that the loop device is one of another driver's.
fn other_drivers() {
    for (node, attributes, link, rule) in [
        (
            "dm-0",
            "mkdir dm; echo LVM-x >dm/uuid; echo vg0-windows >dm/name",
            "/dev/vg0/windows",
            "ENV{DM_UUID}==\"LVM-x\"",
        ),
        (
            "dm-1",
            "mkdir dm; echo CRYPT-LUKS2-x-windows >dm/uuid; echo windows >dm/name",
            "/dev/mapper/windows",
            "ENV{DM_UUID}==\"CRYPT-LUKS2-x-windows\"",
        ),
        (
            "md127",
            "mkdir md; echo 8a23617f-03a1-976c-b0f5-855a8009bd1b >md/uuid",
            "/dev/md/windows",
            "ENV{MD_UUID}==\"8a23617f:03a1976c:b0f5855a:8009bd1b\"",
        ),
        ("nbd0", ":", "/dev/nbd0", ""),
    ] {
        let desk = Desk::new();
        let device = desk.device();
        desk.shell(&format!(
            "number=$(cat /sys/class/block/{0}/dev); mount -t tmpfs none /sys/dev/block; mkdir -p /run/sysfs/{node}/queue; \
             cd /run/sysfs/{node}; echo $((16 << 11)) >size; echo 512 >queue/logical_block_size; {attributes}; \
             ln -s /run/sysfs/{node} /sys/dev/block/$number; mknod /dev/{node} b ${{number%:*}} ${{number#*:}}; \
             [ {link} = /dev/{node} ] || {{ mkdir -p $(dirname {link}); ln -s ../{node} {link}; }}",
            kernel_name(&device)
        ));
        let before = desk.tree();
        let added = desk.add(Path::new(link), &[]);
        let name = if node == "nbd0" { "nbd0" } else { "windows" };
        assert!(added.out().starts_with(&format!("{link} (")), "{}", added.out());
        assert!(added.out().contains(&format!("- link /dev/sd/{name} to /dev/{node}\n")), "{}", added.out());
        match rule {
            "" => {
                added.says("unsupported", "has nothing by which udev could recognise it", "after each boot")
            }
            rule => assert!(
                added.out().contains(rule) && added.err().is_empty(),
                "{}{}",
                added.out(),
                added.err()
            ),
        }
        assert_eq!(desk.shell(&format!("stat -c %U /dev/{node}")), "nobody\n");
        desk.remove(link);
        assert_same(&desk.tree(), &before);
    }
}

fn kernel_name(device: &Loop) -> &str {
    device.path().file_name().and_then(OsStr::to_str).expect("ASCII")
}

fn partition() {
    let desk = Desk::new();
    desk.0.start_udev();
    let image = desk.0.scratch.image("disk.img", 16 * MIB);
    Run::new("sfdisk").arg("-q").arg(&image).stdin("label: gpt\n- 4M\n").output().expect_out();
    let attach = || {
        let device = desk.0.device(&image);
        let node = device.partition(1);
        desk.0.trigger(&node);
        (device, node)
    };
    let (device, node) = attach();
    let said = desk.add(&node, &["--name", "part"]);
    assert!(
        said.out().contains("/dev/disk/by-partuuid/") && said.out().contains("ID_PART_ENTRY_UUID"),
        "{}",
        said.out()
    );
    said.says("unsupported", "disk.img: has no loop device after the next boot", "losetup --partscan --find");
    // Another number after the next boot.
    drop(device);
    desk.shell(&format!("udevadm settle; rm -rf /dev/sd; chown 0 {}", node.display()));
    let other = desk.0.loop_device("other.img");
    let (device, node) = attach();
    assert_eq!(desk.0.leads_to("/dev/sd/part"), node);
    let said = desk.remove("part");
    assert!(said.contains(&format!("gave {} back to root", node.display())), "{said}");
    assert!(!desk.0.exists(RECORD) && !desk.0.exists(RULES) && !desk.0.exists("/dev/sd/part"));
    drop((device, other));
}

fn changed() {
    let desk = Desk::new();
    let (device, other) = (desk.device(), desk.0.loop_device("other.img"));
    let vmx = desk.machine("vm", HEAD);
    let file = vmx.with_file_name("windows.vmdk");
    desk.add(device.path(), &["--vm", text(&vmx)]);
    desk.shell(&format!(
        "ln -sf {} /dev/sd/windows; chown daemon {}; sed -i 's|^device .*|&=scsi,serial=1|' {CONF}; \
         sed -i 's|, OWNER=.*|, RUN+=\"/bin/true\"|' {RULES}; sed -i 's|/dev/sd/windows|/dev/sd/mine|' {}",
        other.path().display(),
        device.path().display(),
        file.display()
    ));
    let before = desk.tree();
    let removed = desk.run(["remove", "windows", "--yes"]);
    let said = removed.expect_out();
    removed.says("different", "/dev/sd/windows: leads to ", "by hand");
    removed.says("different", "belongs to daemon now, so it is left as it is", "");
    removed.says("different", &format!("{CONF}: lists /dev/sd/windows with other options now"), "");
    removed.says("different", &format!("{RULES}: has another rule for sd/windows now"), "");
    removed.says("different", "windows.vmdk: does not describe /dev/sd/windows", "");
    assert!(removed.messages().iter().all(|finding| finding.verdict == "warning"), "{}", removed.err());
    assert!(said.contains("detached "), "{said}");
    let after = desk.tree();
    for name in [RULES, CONF, "/dev/sd/windows", text(device.path()), text(&file)] {
        let lines = |tree: &str| {
            tree.lines().filter(|line| line.contains(name)).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&after), lines(&before), "{name}");
    }
    assert_eq!(std::fs::read_to_string(&vmx).expect("it is ours"), HEAD);
    assert!(!desk.0.exists(RECORD));
    // What is gone already needs nothing.
    desk.shell(&format!("rm -r /dev/sd {CONF} {RULES}"));
    let before = desk.tree();
    desk.add(other.path(), &[]);
    desk.shell(&format!("rm -r /dev/sd {CONF} {RULES}"));
    desk.remove("other");
    assert_same(&desk.tree(), &before);
}

fn used() {
    let desk = Desk::new();
    let device = desk.device();
    let node = device.path().display();
    // What `link` and `setup` have made before.
    let link = ["link", text(device.path()), "--as", "/dev/sd/windows", "--persist"];
    desk.run(link).expect_out();
    desk.shell(&format!("printf 'messages no\\ndevice /dev/sd/windows' >{CONF}"));
    let before = desk.tree();
    let said = desk.add(device.path(), &[]).out();
    assert!(!said.contains("- link") && !said.contains("- add to"), "{said}");
    assert!(said.contains("\n  instead of\n  SUBSYSTEM"), "{said}");
    assert!(said.contains(&format!("- make nobody the owner of {node}\n")), "{said}");
    desk.remove("windows");
    assert_same(&desk.tree(), &before);
    // Another user's device.
    desk.shell(&format!("chown daemon {node}"));
    let before_daemon = desk.tree();
    let said = desk.add(device.path(), &[]).out();
    assert!(said.contains(&format!("- make nobody the owner of {node} instead of daemon\n")), "{said}");
    desk.remove("windows");
    assert_same(&desk.tree(), &before_daemon);
    // A line without an end, before and behind ours.
    desk.shell(&format!("printf 'messages no' >{CONF}; printf '# mine' >>{RULES}"));
    let before = desk.shell(&format!("cat {CONF}"));
    desk.add(device.path(), &[]);
    desk.remove("windows");
    assert_eq!(desk.shell(&format!("cat {CONF}")), before);
    // A link of the same name to another device.
    let other = desk.0.loop_device("other.img");
    let refused = desk.try_to_add(other.path(), &["--name", "windows"]);
    refused.refused(1, "exists", "/dev/sd/windows: leads to ", "choose another name");
    desk.shell("rm /dev/sd/windows");
    let refused = desk.try_to_add(other.path(), &["--name", "windows"]);
    refused.refused(1, "exists", "/dev/sd/windows: is made by a rule of", "link --remove /dev/sd/windows");
}

fn not_free() {
    let desk = Desk::new();
    let device = desk.device();
    Run::new("mkfs.ext4").arg("-q").arg(device.path()).output().expect_out();
    let image = desk.0.scratch.path("windows.img");
    let before = desk.tree();
    for (place, code) in [("/mnt", "in-use"), ("/boot", "system-disk")] {
        desk.shell(&format!("mkdir -p {place}; mount {} {place}", device.path().display()));
        // That first, whatever else is wrong.
        let refused = desk.try_to_add(device.path(), &["--vm", "/nonexistent"]);
        refused.refused(1, code, &format!("{}: ", device.path().display()), "");
        assert!(!refused.err().contains("--force"), "{}", refused.err());
        desk.shell(&format!("umount {place}"));
    }
    // Its file, too.
    desk.try_to_add(&image, &[]).refused(1, "in-use", "windows.img: is held by ", "list /dev/loop");
    // VMware would not take it.
    let large = Loop::attach(&desk.0.scratch.image("large.img", MIB), &["--sector-size", "4096"]);
    desk.0.node(large.path());
    desk.try_to_add(large.path(), &[]).refused(
        1,
        "sector-size",
        "has sectors of 4096 bytes",
        "losetup --sector-size 512",
    );
    drop(large);
    std::fs::remove_file(desk.0.scratch.path("large.img")).expect("it is our directory");
    let empty = desk.0.scratch.image("empty", 0);
    desk.try_to_add(&empty, &[]).refused(1, "empty", "empty: has no sector", "truncate");
    std::fs::remove_file(&empty).expect("it is our directory");
    assert_same(&desk.tree(), &before);
}

fn unrecognised() {
    let desk = Desk::new();
    let device = desk.0.loop_device("either|or");
    let before = desk.tree();
    let added = desk.add(device.path(), &["--name", "x"]);
    added.says("unsupported", "either|or: is recognised by ", "after each boot, add it again");
    assert!(!added.out().contains("udev"), "{}", added.out());
    let node = text(device.path());
    // The next boot.
    desk.shell(&format!("rm -r /dev/sd; chown 0 {node}"));
    let again = desk.add(device.path(), &[]).out();
    assert_eq!(again.lines().filter(|line| line.starts_with("- ")).count(), 3, "{again}");
    desk.remove("x");
    assert_same(&desk.tree(), &before);
}

fn question() {
    let desk = Desk::new();
    let device = desk.device();
    let before = desk.tree();
    let words = ["add", text(device.path()), "--to", "nobody"];
    let refused = desk.run(words);
    assert_eq!(refused.code(), 1);
    refused.says("unconfirmed", "Nothing was done, because it was not confirmed", "add --yes");
    let ask = |words: &[&str], answer: &str| {
        let (mut terminal, said) = desk.ask(words);
        terminal.press(&format!("{answer}\n"));
        (said, terminal.end())
    };
    for answer in ["n", "", "yess"] {
        let (said, status) = ask(&words, answer);
        assert!(said.contains("- link /dev/sd/windows"), "{said}");
        assert_eq!(status, Some(1));
        assert_same(&desk.tree(), &before);
    }
    assert_eq!(ask(&words, "Yes").1, Some(0));
    assert!(desk.0.exists("/dev/sd/windows"));
    let refused = desk.run(["remove", "windows"]);
    assert_eq!(refused.code(), 1);
    refused.says("unconfirmed", "Nothing was done", "add --yes");
    assert_eq!(ask(&["remove", "windows"], "y").1, Some(0));
    assert_same(&desk.tree(), &before);
}

fn errors() {
    let desk = Desk::new();
    let device = desk.device();
    let before = desk.tree();
    for (words, code, said) in [
        (&["add", "/dev/loop0"][..], "usage", "--to"),
        (&["add", "--to", "nobody"], "usage", "DEVICE"),
        (&["add", "/dev/loop0", "--to", "nobody", "--kind", "nvme"], "usage", "nvme"),
        (
            &["add", "/dev/loop0", "--to", "no such user"],
            "not-found",
            "no such user: is not the name of a user",
        ),
        (&["add", "/dev/null", "--to", "nobody"], "not-a-device", "/dev/null: is not a block device"),
        (&["add", "/nonexistent", "--to", "nobody"], "not-found", "/nonexistent: "),
        (&["remove"], "usage", "NAME|DEVICE"),
    ] {
        desk.run(words).refused(2, code, said, "");
    }
    let missing = desk.try_to_add(Path::new("/nonexistent"), &[]);
    missing.refused(2, "not-found", "/nonexistent: ", "name a block device or image file that exists");
    let entry = format!("{}=ide", device.path().display());
    let hint = format!("write '{} --kind ide'", device.path().display());
    desk.try_to_add(Path::new(&entry), &[]).refused(2, "not-found", &entry, &hint);
    desk.shell(&format!("echo messages no >{CONF}; chmod 666 {CONF}"));
    desk.try_to_add(device.path(), &[]).refused(
        1,
        "untrusted",
        &format!("{CONF}: can be written"),
        "chmod go-w",
    );
    desk.shell(&format!("rm {CONF}; mkdir -p /var/lib/vmware-bdwrapper; echo '{{' >{RECORD}"));
    desk.try_to_add(device.path(), &[]).refused(1, "malformed", RECORD, "remove it");
    desk.shell(
        "rm -r /var/lib/vmware-bdwrapper; mount --bind /var/lib /var/lib; mount -o remount,bind,ro /var/lib",
    );
    let failed = desk.try_to_add(device.path(), &[]);
    assert_eq!(failed.code(), 1);
    failed.says("io", &format!("{RECORD}: cannot be made (Read-only file system)"), "");
    desk.shell("umount /var/lib");
    desk.run(["remove", "--yes", "/dev/sd/x"]).refused(
        1,
        "not-found",
        "/dev/sd/x: ",
        "link --remove /dev/sd/x",
    );
    assert_same(&desk.tree(), &before);
}

fn ordinary_user() {
    let scratch = Scratch::new();
    let command = scratch.copy(&command(), "vmware-bdwrapper");
    let image = scratch.image("my.img", MIB);
    let run = |words: &[&str]| Run::new(&command).arg("--message-format=json").args(words).nobody().output();
    let words = ["add", "/dev/null", "--to", "nobody", "--yes"];
    let sudo = "run 'sudo vmware-bdwrapper --message-format=json add /dev/null --to nobody --yes'";
    run(&words).refused(1, "root-only", "", sudo);
    let refused = run(&["add", text(&image), "--to", "nobody", "--kind", "ide"]);
    let hint = format!("'vmware-bdwrapper run --device {}=ide -- PROGRAM'", image.display());
    refused.refused(1, "root-only", "", &hint);
    run(&["remove", "x"]).refused(
        1,
        "root-only",
        "",
        "run 'sudo vmware-bdwrapper --message-format=json remove x'",
    );
}

fn logical_volume() {
    let desk = Desk::new();
    let disk = Loop::attach(&desk.0.scratch.image("physical", 64 * MIB), &[]);
    let group = format!("bdwrapper-test-{}", std::process::id());
    let run = |words: &[&str]| {
        Run::new(words[0]).args(&words[1..]).env("DM_DISABLE_UDEV", "1").output().expect_out()
    };
    run(&["vgcreate", "-qq", &group, text(disk.path())]);
    run(&["lvcreate", "-qq", "-y", "-Wn", "-Zn", "-L", "16M", "-n", "windows", &group]);
    let volume = format!("/dev/{group}/windows");
    let node = run(&["readlink", "-f", &volume]);
    let number = run(&["lsblk", "-ndo", "MAJ:MIN", &volume]);
    let (major, minor) = number.trim().split_once(':').expect("a number");
    desk.shell(&format!(
        "mkdir -p /dev/{group}; mknod {0} b {major} {minor}; ln -s {0} {volume}",
        node.trim()
    ));
    let before = desk.tree();
    let said = desk.add(Path::new(&volume), &[]).out();
    let removed = desk.run(["remove", "--yes", &volume]);
    run(&["vgremove", "-qq", "-y", "-f", &group]);
    assert!(said.contains("ENV{DM_UUID}==\"LVM-") && said.contains("/dev/sd/windows"), "{said}");
    removed.expect_out();
    assert_same(&desk.tree(), &before);
}

/// The user can exchange his files while root is asked, and afterwards.
fn replaced() {
    let desk = Desk::new();
    let (device, other) = (desk.device(), desk.0.loop_device("other.img"));
    let image = desk.0.scratch.image("mine.img", MIB);
    let node = text(other.path());
    let attached = || {
        let all = desk.shell("losetup --list --noheadings --output NAME,BACK-FILE");
        let names = [node, text(desk.0.scratch.directory()), "/etc/passwd"];
        let own = |line: &&str| names.iter().any(|name| line.contains(name));
        all.lines().filter(own).map(|line| format!("{line}\n")).collect::<String>()
    };
    for target in [node, text(&desk.0.scratch.path("other.img")), "/etc/passwd"] {
        let before = (desk.tree(), attached());
        let path = desk.stand_in(
            "losetup",
            &format!(
                "case $* in *mine.img) rm {image} && ln -s {target} {image};; esac\n\
                 PATH=/usr/sbin:/usr/bin:/sbin:/bin exec losetup \"$@\"",
                image = image.display()
            ),
        );
        let failed = desk.run_with(&path, ["add", "--to", "nobody", "--yes", text(&image)]);
        std::fs::remove_dir_all(desk.0.scratch.path("stand-ins")).expect("it is our directory");
        assert_eq!(failed.code(), 1, "{target}: {}", failed.out());
        failed.says("in-use", "mine.img: has been replaced by another program meanwhile", "try again");
        failed.says("in-use", "Nothing was added: the earlier steps were undone", "");
        wait_for("the end of the loop device", || (attached() == before.1).then_some(()));
        std::fs::remove_file(&image).expect("it is our directory");
        desk.0.scratch.image("mine.img", MIB);
        assert_same(&desk.tree(), &before.0);
    }
    // Its unit, too, detaches no other file's.
    let path = desk.stand_in("systemctl", SYSTEMCTL);
    desk.shell("mkdir -p /run/systemd/system /etc/systemd/system/multi-user.target.wants");
    let before = (desk.tree(), attached());
    desk.run_with(&path, ["add", "--to", "nobody", "--yes", text(&image)]).expect_out();
    let adopted = Loop::adopt(desk.0.leads_to("/dev/sd/mine"));
    desk.shell(&format!(
        "chown nobody {node}; cd {}; mv mine.img away; ln -s other.img mine.img",
        desk.0.scratch.directory().display()
    ));
    desk.run_with(&path, ["remove", "mine", "--yes"]);
    assert!(attached().contains(&format!("{node} ")), "{}", attached());
    assert_eq!(desk.shell(&format!("stat -c %U {node}")), "nobody\n");
    drop(adopted);
    desk.shell(&format!("chown root {node}; cd {}; mv away mine.img", desk.0.scratch.directory().display()));
    drop((device, before));
}

fn loop_devices_of_one_file() {
    let desk = Desk::new();
    let device = desk.device();
    let image = desk.0.scratch.path("windows.img");
    let part = Loop::attach(&image, &["--offset", "1048576"]);
    desk.0.node(part.path());
    let before = desk.tree();
    let refused = desk.try_to_add(part.path(), &[]);
    refused.refused(
        1,
        "unsupported",
        &format!("{}: shows only a part of {}", part.path().display(), image.display()),
        "attach the file without an offset",
    );
    assert_same(&desk.tree(), &before);
    // The other one is found among them.
    desk.add(device.path(), &[]);
    assert_eq!(desk.0.leads_to("/dev/sd/windows"), device.path());
    assert_eq!(desk.shell(&format!("stat -c %U {}", part.path().display())), "root\n");
    desk.remove("windows");
    assert_same(&desk.tree(), &before);
    let twin = Loop::attach(&image, &[]);
    desk.0.node(twin.path());
    for (one, other) in [(&device, &twin), (&twin, &device)] {
        desk.try_to_add(one.path(), &[]).refused(
            1,
            "duplicate",
            &format!("{}: is a loop device of {}, too", other.path().display(), image.display()),
            &format!("losetup --detach {}", other.path().display()),
        );
    }
}

fn partitions_of_one_uuid() {
    let desk = Desk::new();
    desk.0.start_udev();
    let image = desk.0.scratch.image("disk.img", 16 * MIB);
    Run::new("sfdisk").arg("-q").arg(&image).stdin("label: gpt\n- 4M\n").output().expect_out();
    let copy = desk.0.scratch.path("copy.img");
    std::fs::copy(&image, &copy).expect("it is our directory");
    let devices = [&image, &copy].map(|image| desk.0.device(image));
    let nodes = devices.each_ref().map(|device| device.partition(1));
    nodes.iter().for_each(|node| desk.0.trigger(node));
    for (node, other) in [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])] {
        desk.try_to_add(node, &["--name", "part"]).refused(
            1,
            "duplicate",
            &format!("{}: has the same UUID as the partition {}", node.display(), other.display()),
            "sfdisk --part-uuid",
        );
        assert_eq!(desk.shell(&format!("stat -c %U {}", node.display())), "root\n");
    }
}

/// A home directory of the user's, and VMware's entry of the menu.
fn with_home(desk: &Desk) -> PathBuf {
    let home = desk.0.scratch.path("home");
    desk.shell(&format!(
        "install -d -o nobody -g nogroup {home}; mkdir -p /usr/share/applications; \
         sed -i 's|^nobody:.*|nobody:x:65534:65534::{home}:/bin/sh|' /etc/passwd; rm -f /usr/share/applications/vmware-*.desktop; \
         printf '%s\n' '[Desktop Entry]' Name=VMware Exec=vmware >/usr/share/applications/vmware-player.desktop",
        home = home.display()
    ));
    home
}

/// Where the menu entry stands.
const ENTRY: &str = ".local/share/applications/vmware-bdwrapper-player.desktop";

fn umasks() {
    let desk = Desk::new();
    let device = desk.device();
    with_home(&desk);
    let vmx = desk.machine("vm", HEAD);
    let before = desk.tree();
    let added = |umask: &str| {
        let script = format!("umask {umask}; exec \"$@\"");
        let words = [
            "-c",
            &script,
            "sh",
            text(&desk.0.command),
            "add",
            "--to",
            "nobody",
            "--yes",
            "--vm",
            text(&vmx),
        ];
        desk.0.enter("sh").args(words).arg(device.path()).output().expect_out();
        let tree = desk.tree();
        let modes = tree.lines().filter(|line| line.starts_with('/'));
        let modes: String = modes.map(|line| line.to_owned() + "\n").collect();
        desk.remove("windows");
        assert_same(&desk.tree(), &before);
        modes
    };
    let usual = added("022");
    assert!(usual.contains(&format!("{ENTRY} f 644 65534:65534")), "{usual}");
    for umask in ["000", "077"] {
        assert_same(&added(umask), &usual);
    }
}

fn no_menu_entry() {
    let desk = Desk::new();
    let device = desk.device();
    let home = with_home(&desk);
    let entry = home.join(ENTRY);
    let directory = entry.parent().expect("it has one").display();
    for (make, code, why) in [
        ("mkfifo", "file-type", "is not a regular file"),
        ("mkdir", "file-type", "is not a regular file"),
        ("ln -s /dev/zero", "file-type", "is not a regular file"),
        ("ln -s /nonexistent", "not-found", "is a symbolic link that leads nowhere"),
        ("truncate -s 2M", "malformed", "has 2097152 bytes"),
        ("cp /bin/true", "exists", "exists already, for something else"),
    ] {
        desk.shell(&format!(
            "install -d -o nobody {directory}; {make} {0}; chown -h nobody {0}",
            entry.display()
        ));
        let before = desk.tree();
        // A command that waits for a writer, or reads without end, is the fault.
        let words = ["-c", "ulimit -v 4000000; exec timeout -k 1 30 \"$@\"", "sh", text(&desk.0.command)];
        let words = words.iter().chain(&["--message-format=json", "add", "--to", "nobody", "--yes"]);
        let refused = desk.0.enter("sh").args(words).arg(device.path()).output();
        refused.refused(1, code, why, "");
        assert_same(&desk.tree(), &before);
        desk.shell(&format!("rm -r {}/.local", home.display()));
    }
}

fn user_gone() {
    let desk = Desk::new();
    let device = desk.device();
    let home = with_home(&desk);
    let vmx = desk.machine("vm", HEAD);
    let directory = vmx.parent().expect("it has one").display();
    let add = || {
        let home = home.display();
        desk.shell(&format!(
            "echo 'guest:x:54321:54321::{home}:/bin/sh' >>/etc/passwd; chown -R 54321:54321 {home} {directory}"
        ));
        let words = ["add", "--to", "guest", "--yes", "--vm", text(&vmx), text(device.path())];
        desk.run(words).expect_out();
        desk.shell("sed -i /^guest:/d /etc/passwd");
    };
    add();
    let removed = desk.run(["remove", "windows", "--yes"]);
    removed.expect_out();
    for file in [vmx.clone(), vmx.with_file_name("windows.vmdk"), home.join(ENTRY)] {
        let why = format!("{}: belonged to guest, a user who does not exist any more", file.display());
        removed.says("different", &why, "by hand");
        assert!(desk.0.exists(text(&file)));
    }
    for file in [RECORD, "/dev/sd/windows", RULES, CONF] {
        assert!(!desk.0.exists(file), "{file}");
    }
    assert_eq!(desk.shell(&format!("stat -c %U {}", device.path().display())), "root\n");
    // With his files there is nothing to be said.
    desk.shell(&format!("rm -r {}/.local {directory}/windows.vmdk", home.display()));
    std::fs::write(&vmx, HEAD).expect("it is ours");
    add();
    desk.shell(&format!("rm -r {directory} {}", home.display()));
    desk.remove("windows");
}

fn one_name() {
    let desk = Desk::new();
    let (device, other) = (desk.device(), desk.0.loop_device("other.img"));
    let start = desk.tree();
    desk.add(device.path(), &["--name", "x"]);
    let before = desk.tree();
    for more in [&["--name", "y"][..], &["--kind", "ide"], &["--to", "daemon"]] {
        let to = if more[0] == "--to" { &[][..] } else { &["--to", "nobody"] };
        let words = [&["add", "--yes", text(device.path())], to, more].concat();
        let refused = desk.run(words);
        refused.refused(1, "exists", "is added already, as /dev/sd/x for nobody", "remove /dev/sd/x");
        assert_same(&desk.tree(), &before);
    }
    // What two have as a part of their names.
    desk.add(other.path(), &["--name", "x", "--kind", "ide"]);
    let before = desk.tree();
    let refused = desk.run(["remove", "--yes", "x"]);
    refused.refused(2, "usage", "x: is a name of /dev/sd/x and /dev/hd/x", "name one");
    assert_same(&desk.tree(), &before);
    desk.remove("/dev/hd/x");
    desk.remove("x");
    assert_same(&desk.tree(), &start);
}

fn unreachable() {
    let desk = Desk::new();
    let device = desk.device();
    let home = with_home(&desk);
    let vmx = desk.machine("vm", HEAD);
    let before = desk.tree();
    desk.add(device.path(), &["--vm", text(&vmx)]);
    let directories = format!("{} {}/.local", vmx.parent().expect("it has one").display(), home.display());
    desk.shell(&format!("chown root {directories}; chmod 700 {directories}"));
    let failed = desk.run(["remove", "windows", "--yes"]);
    assert_eq!(failed.code(), 1, "{}", failed.out());
    for file in ["vm.vmx", "windows.vmdk", ENTRY] {
        failed.says("permission-denied", &format!("{file}: "), "");
    }
    desk.shell(&format!("chown nobody {directories}; chmod 755 {directories}"));
    desk.remove("windows");
    assert_same(&desk.tree(), &before);
}

fn moved() {
    let desk = Desk::new();
    let image = desk.0.scratch.image("windows.img", MIB);
    let (name, before) = (text(&image), desk.tree());
    for (what, script, warning) in [
        ("moved", "mv $image $image.away", "is the loop device of "),
        ("deleted", "rm $image", ""),
        ("detached", "losetup --detach $node", ""),
    ] {
        desk.add(&image, &[]);
        let node = desk.0.leads_to("/dev/sd/windows");
        let device = Loop::adopt(node.clone());
        desk.shell(&format!("image={name} node={}; {script}", node.display()));
        // Its node is the next file's that is attached.
        let removed = desk.run(["remove", "windows", "--yes"]);
        removed.expect_out();
        match warning {
            "" => assert_eq!(removed.err(), "", "{what}"),
            warning => removed.says("different", warning, "by hand"),
        }
        drop(device);
        desk.shell(&format!("[ ! -e {name}.away ] || mv {name}.away {name}; [ -e {name} ] || truncate -s 1M {name}; chmod 666 {name}"));
        assert_eq!(desk.shell(&format!("stat -c %U {}", node.display())), "root\n", "{what}");
        assert_same(&desk.tree(), &before);
    }
}

fn changed_meanwhile() {
    let desk = Desk::new();
    let device = desk.device();
    let vmx = desk.machine("vm", HEAD);
    let image = desk.0.scratch.image("mine.img", MIB);
    let lock = format!("{}.lck", vmx.display());
    let same = |words: &[&str], meanwhile: &str, why: &str, restore: &str| {
        let before = desk.tree();
        let (mut terminal, _) = desk.ask(words);
        desk.shell(meanwhile);
        terminal.press("y\n");
        terminal.wait(why);
        assert_eq!(terminal.end(), Some(1));
        desk.shell(restore);
        assert_same(&desk.tree(), &before);
    };
    let (lock_it, unlock_it) = (format!("mkdir {lock}"), format!("rmdir {lock}"));
    let add = ["add", "--to", "nobody", text(device.path()), "--vm", text(&vmx)];
    same(&add, &lock_it, "vm.vmx: is in use", &unlock_it);
    let other = format!("cp {0} {0}.new; mv {0}.new {0}; chmod 666 {0}", image.display());
    same(&["add", "--to", "nobody", text(&image)], &other, "mine.img: has changed since the question", ":");
    let added = desk.try_to_add(device.path(), &["--vm", text(&vmx)]);
    added.expect_out();
    same(&["remove", "windows"], &lock_it, "vm.vmx: is in use", &unlock_it);
}

fn records() {
    let desk = Desk::new();
    let device = desk.device();
    let start = desk.tree();
    desk.add(device.path(), &[]);
    let before = desk.tree();
    let directory = Path::new(RECORD).parent().expect("it has one").display().to_string();
    for name in [RECORD, &directory] {
        for (change, restore) in
            [("chmod g+w", "chmod g-w"), ("chmod o+w", "chmod o-w"), ("chown 1", "chown 0")]
        {
            desk.shell(&format!("{change} {name}"));
            for words in [
                &["remove", "windows", "--yes"][..],
                &["add", "--to", "nobody", "--yes", text(device.path())],
            ] {
                desk.run(words).refused(1, "untrusted", &format!("{name}: belongs to user "), "chmod go-w");
            }
            desk.shell(&format!("{restore} {name}"));
            assert_same(&desk.tree(), &before);
        }
    }
    // Of another version, and half of one.
    for change in [
        "s/\"user\":/\"more\": 1, &/",
        "s/\"line\":/\"more\": 1, &/",
        "s/\"step\": \"link\"/\"step\": \"chain\"/",
        "$d",
    ] {
        desk.shell(&format!("cp -p {RECORD} /run/record; sed -i '{change}' {RECORD}"));
        let changed = desk.tree();
        assert_ne!(changed, before, "{change}");
        desk.run(["remove", "windows", "--yes"]).refused(
            1,
            "malformed",
            "is not a record of additions",
            "correct it",
        );
        assert_same(&desk.tree(), &changed);
        desk.shell(&format!("cp -p /run/record {RECORD}"));
    }
    desk.remove("windows");
    assert_same(&desk.tree(), &start);
}

fn signals() {
    let desk = Desk::new();
    let device = desk.device();
    let vmx = desk.machine("vm", HEAD);
    let add = ["add", "--to", "nobody", "--yes", "--vm", text(&vmx), text(device.path())];
    let run = |tool: &str, signal: &str, words: &[&str]| {
        // Once: the second signal would end the command.
        let script =
            format!("rm $0; kill -{signal} $PPID; PATH=/usr/sbin:/usr/bin:/sbin:/bin exec {tool} \"$@\"");
        let outcome = desk.run_with(&desk.stand_in(tool, &script), words);
        std::fs::remove_dir_all(desk.0.scratch.path("stand-ins")).expect("it is our directory");
        outcome
    };
    let before = desk.tree();
    for signal in ["INT", "TERM", "HUP"] {
        for tool in ["chown", "setpriv"] {
            let failed = run(tool, signal, &add);
            assert_eq!(failed.status.code(), Some(1), "{signal} {tool}: {}", failed.err());
            failed.says("io", "Interrupted by a signal", "");
            failed.says("io", "Nothing was added: the earlier steps were undone", "");
            assert_same(&desk.tree(), &before);
        }
        desk.run(add).expect_out();
        run("chown", signal, &["remove", "windows", "--yes"]).expect_out();
        assert_same(&desk.tree(), &before);
    }
    // Where it is ignored, it stays so.
    let path =
        desk.stand_in("chown", "kill -HUP $PPID; PATH=/usr/sbin:/usr/bin:/sbin:/bin exec chown \"$@\"");
    let words = ["-c", "trap '' HUP; exec \"$@\"", "sh", text(&desk.0.command)];
    desk.0.enter("sh").args(words).args(add).env("PATH", &path).default_signals().output().expect_out();
    desk.remove("windows");
    assert_same(&desk.tree(), &before);
}
