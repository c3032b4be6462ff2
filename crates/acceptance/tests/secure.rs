//! The library in set-user-ID programs that an ordinary user runs.

mod system;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{Loop, Name, Need, Outcome, Run, Scratch, program_with, trial};
use disk::names;
use system::{CONF, LIBRARY, System, chmod, make, remove};

const DEVICES: &str = names::DEVICES;
const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let needs = [Need::Root, Need::Tool("cc"), Need::Tool("make")];
    let devices = [&needs[..], &[Need::Devices]].concat();
    // The system's own programs are root's of the machine.
    let programs = [&devices[..], &[Need::Tool("strace")]].concat();
    let traced = [Need::Root, Need::Tool("cc"), Need::Tool("make"), Need::Tool("strace")];
    acceptance::main(vec![
        trial("a set-user-ID program finds its disks", &devices, finds_its_disks),
        trial("children have the library as the loader lets them", &needs, children),
        trial("the loader takes the library by its set-user-ID bit", &needs, modes),
        trial("the loader takes the library from trusted directories alone", &needs, directories),
        trial("the loader ignores a name with a slash", &needs, slash),
        trial("a program that root starts has no limits", &needs, root),
        trial("an unlisted program is left alone", &needs, unlisted),
        trial("a program is listed by device and inode", &needs, other_names),
        trial("a configuration that others could have written is ignored", &needs, unsafe_conf),
        trial("a configuration counts line by line", &needs, garbage_lines),
        trial("a configuration has at most 64 KiB", &needs, conf_size),
        trial("a hostile environment is harmless", &needs, hostile),
        trial("the environment chooses among the file's devices", &needs, choice),
        trial("the file's options hold", &needs, options),
        trial("a user may name what he may open himself", &devices, user_devices),
        trial(
            "what is the user's is decided once, and for him who started the program",
            &needs,
            user_changes,
        ),
        trial("groups that the program takes are not the user's", &needs, groups),
        trial("a link that is exchanged shows no file of another's", &needs, exchanged_link),
        trial("what the file lists is what the file says, under every name", &needs, every_name),
        trial("a user cannot force a real disk", &devices, force),
        trial("messages go nowhere but where they went at first", &needs, stderr_replaced),
        trial("messages are the administrator's to allow", &needs, messages),
        trial("other set-user-ID programs behave byte for byte as without", &programs, other_programs),
        trial("nothing that the environment names is opened", &traced, opens_nothing),
    ])
}

/// An installed library and a set-user-ID program.
struct Setting {
    system: System,
    scratch: Scratch,
    program: PathBuf,
}

impl Setting {
    fn new() -> Setting {
        let system = System::clean();
        make(["install"]).expect_out();
        let scratch = Scratch::new();
        let mount = rustix::fs::statvfs(scratch.directory()).expect("it exists");
        assert!(
            !mount.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID),
            "{} is mounted nosuid: set TMPDIR to a directory that is not",
            scratch.directory().display()
        );
        let program = scratch.program("secure");
        chmod(&program, 0o4755);
        Setting { system, scratch, program }
    }

    /// Writes the configuration: the program is listed, and these lines.
    fn conf(&self, lines: &str) {
        self.raw_conf(format!("executable {}\n{lines}\n", self.program.display()));
    }

    /// Writes the configuration.
    fn raw_conf(&self, text: impl AsRef<[u8]>) {
        remove(Path::new(CONF));
        fs::write(CONF, text).expect("root can write to /etc");
        chmod(Path::new(CONF), 0o644);
    }

    /// The program, run by an ordinary user with the library, about these paths.
    fn run(&self, devices: impl AsRef<OsStr>, paths: &[&Path]) -> Run {
        Run::new(&self.program).args(paths).nobody().env("LD_PRELOAD", LIBRARY).env(DEVICES, devices)
    }

    /// The same without the library.
    fn bare(&self, devices: impl AsRef<OsStr>, paths: &[&Path]) -> Outcome {
        Run::new(&self.program).args(paths).nobody().env(DEVICES, devices).output()
    }

    /// An image and its entry as a SCSI disk.
    fn image(&self, name: &str) -> (PathBuf, String) {
        let image = self.scratch.image(name, 128 * MIB);
        let entry = format!("{}=scsi", image.display());
        (image, entry)
    }

    /// The library must make no difference for this image.
    fn inert(&self, why: &str, entry: &str, image: &Path) {
        let with = self.run(entry, &[image]).level(1000).output();
        let without = self.bare(entry, &[image]);
        assert_eq!((with.out(), with.err()), (without.out(), without.err()), "{why}");
        assert_eq!(with.code(), 0, "{why}");
        assert_eq!(seen(&with, image), Seen::Bare, "{why}");
    }

    /// The library must answer for this image, and say nothing.
    fn answers(&self, why: &str, entry: &str, image: &Path) {
        let with = self.run(entry, &[image]).output();
        assert_eq!(seen(&with, image), Seen::Scsi, "{why}");
        assert_eq!(with.err(), "", "{why}");
    }
}

/// What a device looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Scsi,
    Ide,
    Bare,
}

/// The program's line about a path.
fn line(outcome: &Outcome, path: &Path) -> String {
    let out = outcome.expect_out();
    let start = format!("{} ", path.display());
    let line = out.lines().find(|line| line.starts_with(&start));
    line.unwrap_or_else(|| panic!("no line for {} in {out}", path.display())).to_owned()
}

/// One of the program's answers.
fn answer<'a>(line: &'a str, name: &str) -> &'a str {
    let start = format!(" {name}=");
    let (_, rest) = line.split_once(&start).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.split_once(" idlun=")
        .map_or(rest, |(value, _)| value)
        .split(" identity=")
        .next()
        .expect("it has one")
}

fn seen(outcome: &Outcome, path: &Path) -> Seen {
    let line = line(outcome, path);
    assert!(outcome.out().starts_with("uid=65534 euid=0 secure=1 ") || outcome.out().starts_with("uid=0 "));
    let fails = |name| ["EINVAL", "ENOTTY"].contains(&answer(&line, name));
    match (fails("idlun"), fails("identity")) {
        (false, true) => Seen::Scsi,
        (true, false) => Seen::Ide,
        (true, true) => Seen::Bare,
        (false, false) => panic!("neither SCSI nor IDE: {line}"),
    }
}

fn finds_its_disks() {
    let setting = Setting::new();
    let (image, _) = setting.image("image");
    let device = Loop::attach(&image, &[]);
    let (scsi, ide) = (Name::link("sd", device.path()), Name::reserved("hd"));
    let other = setting.scratch.image("other", 64 * MIB);
    let second = Loop::attach(&other, &[]);
    ide.point(second.path());
    let paths = [scsi.path(), ide.path(), device.path()];
    setting.conf(&format!("device {}\ndevice {}", scsi.path().display(), ide.path().display()));
    let devices = format!("{}:{}", ide.path().display(), scsi.path().display());
    let found = setting.run(&devices, &paths).output();
    assert_eq!(found.err(), "");
    assert!(
        found.out().contains("secure=1 LD_PRELOAD=unset VMWARE_BDWRAPPER_DEVICES=set"),
        "{}",
        found.out()
    );
    for (path, kind, size) in [
        (paths[0], Seen::Scsi, 128 * MIB),
        (paths[1], Seen::Ide, 64 * MIB),
        (paths[2], Seen::Scsi, 128 * MIB),
    ] {
        assert_eq!(seen(&found, path), kind);
        let line = line(&found, path);
        assert!(line.contains(&format!(" kind=block bytes={size} ")), "{line}");
        assert!(line.contains("@0 "), "the geometry of {line}");
    }
    let without = setting.bare(&devices, &paths);
    assert!(paths.iter().all(|path| seen(&without, path) == Seen::Bare));
}

fn children() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    setting.conf("allow-user-devices yes");
    for (command, kind) in [("fork", Seen::Scsi), ("exec", Seen::Bare), ("preload", Seen::Scsi)] {
        let paths = [Path::new("-c"), Path::new(command), &image];
        let child = setting.run(&entry, &paths).output();
        assert_eq!(seen(&child, &image), kind, "{command}");
        assert_eq!(child.err(), "", "{command}");
    }
}

/// What the loader says when it does not take the library.
fn refused(outcome: &Outcome) -> bool {
    let err = outcome.err();
    err.lines().count() == 1 && err.contains(LIBRARY) && err.contains("cannot be preloaded")
}

/// A file that the user could open only in a group that he is not in.
fn groups() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    setting.conf("allow-user-devices yes");
    chown(&image, Some(0), Some(6)).expect("root can");
    chmod(&image, 0o660);
    let paths = [Path::new("-c"), Path::new("groups"), &image];
    assert_eq!(seen(&setting.run(&entry, &paths).output(), &image), Seen::Bare);
    // One of the user's own is not found any more either, when the program has changed the groups.
    chown(&image, Some(65534), None).expect("root can");
    assert_eq!(seen(&setting.run(&entry, &[&image]).output(), &image), Seen::Scsi);
}

/// A link that leads to a file of the user's and to one of root's in turn, while programs look where it leads.
fn exchanged_link() {
    let setting = Setting::new();
    let (own, _) = setting.image("own");
    let (secret, _) = setting.image("secret");
    chown(&own, Some(65534), None).expect("root can");
    chmod(&secret, 0o600);
    setting.conf("allow-user-devices yes\nmessages yes");
    let link = setting.scratch.path("link");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let inode = fs::metadata(&secret).expect("it is ours").ino().to_string();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let other = setting.scratch.path("other-link");
            for target in [&own, &secret].iter().cycle() {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                symlink(target, &other).expect("the directory is ours");
                fs::rename(&other, &link).expect("the directory is ours");
            }
        });
        // Many names give many looks in each run.
        let entries: Vec<String> =
            (0..100).map(|number| format!("{}=scsi,serial={number}", link.display())).collect();
        for _ in 0..20 {
            let outcome = setting.run(entries.join(":"), &[&secret]).level(10).output();
            assert_eq!(seen(&outcome, &secret), Seen::Bare, "{}", outcome.err());
            assert!(!outcome.err().contains(&inode), "{}", outcome.err());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// A device of the configuration file, which the user names in other ways.
fn every_name() {
    let setting = Setting::new();
    let (image, _) = setting.image("image");
    setting.conf(&format!("device {}=ide\nallow-user-devices yes", image.display()));
    let (link, hard_link) = (setting.scratch.path("link"), setting.scratch.path("hard-link"));
    symlink(&image, &link).expect("the directory is ours");
    fs::hard_link(&image, &hard_link).expect("the directory is ours");
    let name = image.display();
    for other in
        [format!("/{name}"), format!("/.{name}"), link.display().to_string(), hard_link.display().to_string()]
    {
        let outcome = setting.run(format!("{other}=scsi"), &[Path::new(&other)]).output();
        assert_eq!(seen(&outcome, Path::new(&other)), Seen::Ide, "{other}");
    }
}

fn modes() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    setting.conf("allow-user-devices yes");
    let library = setting.system.library();
    let without = setting.bare(&entry, &[&image]);
    for (owner, mode, loaded) in
        [(0, 0o4644, true), (65534, 0o4644, true), (0, 0o4755, true), (0, 0o644, false), (0, 0o2644, false)]
    {
        chown(&library, Some(owner), Some(owner)).expect("root can");
        chmod(&library, mode);
        let with = setting.run(&entry, &[&image]).output();
        if loaded {
            assert_eq!(seen(&with, &image), Seen::Scsi, "mode {mode:o} of user {owner}");
            assert_eq!(with.err(), "");
        } else {
            assert_eq!(with.expect_out(), without.out(), "mode {mode:o}");
            assert!(refused(&with), "mode {mode:o}: {}", with.err());
        }
    }
    make(["uninstall"]).expect_out();
    make(["install", "SETUID=no"]).expect_out();
    assert!(refused(&setting.run(&entry, &[&image]).output()));
}

fn directories() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    setting.conf("allow-user-devices yes");
    let without = setting.bare(&entry, &[&image]);
    let installed = setting.system.library();
    let ldd = Run::new("ldd").arg("/bin/true").output().expect_out();
    let loader = ldd.split_whitespace().find(|word| word.starts_with('/') && word.contains("/ld"));
    let help = Run::new(loader.expect("ldd names it")).arg("--help").output().expect_out();
    let trusted: Vec<PathBuf> = help
        .lines()
        .filter_map(|line| line.trim().strip_suffix(" (system search path)"))
        .filter_map(|directory| Path::new(directory).canonicalize().ok())
        .collect();
    let canonical = |path: &Path| path.canonicalize().expect("it exists");
    assert!(trusted.contains(&canonical(installed.parent().expect("it is a path"))), "{trusted:?}");

    let here = setting.scratch.path("library");
    fs::rename(&installed, &here).or_else(|_| fs::copy(&installed, &here).map(drop)).expect("root can");
    remove(&installed);
    for directory in ["/usr/lib64", "/usr/local/lib"].map(Path::new) {
        if !directory.is_dir() || trusted.contains(&canonical(directory)) {
            continue;
        }
        let elsewhere = directory.join(LIBRARY);
        remove(&elsewhere);
        fs::copy(&here, &elsewhere).expect("root can");
        chmod(&elsewhere, 0o4644);
        Run::new("ldconfig").output().expect_out();
        let with = setting.run(&entry, &[&image]).output();
        assert_eq!(with.expect_out(), without.out(), "{}", directory.display());
        assert!(refused(&with), "{}: {}", directory.display(), with.err());
        remove(&elsewhere);
    }
    for directory in trusted.iter().filter(|directory| Path::new("/usr/lib") == *directory) {
        let elsewhere = directory.join(LIBRARY);
        remove(&elsewhere);
        fs::copy(&here, &elsewhere).expect("root can");
        chmod(&elsewhere, 0o4644);
        setting.answers("/usr/lib", &entry, &image);
    }
}

fn slash() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    setting.conf("allow-user-devices yes");
    setting.answers("the bare name", &entry, &image);
    let with = setting.run(&entry, &[&image]).env("LD_PRELOAD", setting.system.library()).output();
    let without = setting.bare(&entry, &[&image]);
    assert_eq!((with.expect_out(), with.err()), (without.out(), String::new()));
}

fn root() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    remove(Path::new(CONF));
    let run = Run::new(&setting.program).arg(&image).with(&setting.scratch.library(), entry).output();
    assert_eq!(seen(&run, &image), Seen::Scsi);
    assert_eq!(run.err(), "");
    assert!(run.out().starts_with("uid=0 euid=0 secure=0 "), "{}", run.out());
}

fn unlisted() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    let copy = setting.scratch.copy(&setting.program, "copy");
    let rest = format!("device {entry}\nallow-user-devices yes\nmessages yes\n");
    for lines in [
        String::new(),
        "executable /nonexistent\n".into(),
        "executable /\n".into(),
        format!("executable {}\n", copy.display()),
        format!("#executable {}\n", setting.program.display()),
    ] {
        setting.raw_conf(lines.clone() + &rest);
        setting.inert(&lines, &entry, &image);
    }
    setting.conf(&rest);
    assert_eq!(seen(&setting.run(&entry, &[&image]).output(), &image), Seen::Scsi);
}

fn other_names() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    let (link, hard) = (setting.scratch.path("link"), setting.scratch.path("hard"));
    symlink(&setting.program, &link).expect("it is our directory");
    fs::hard_link(&setting.program, &hard).expect("it is our directory");
    for listed in [&setting.program, &link, &hard] {
        setting.raw_conf(format!("executable {}\ndevice {entry}\n", listed.display()));
        for started in [&setting.program, &link, &hard] {
            let run = Run::new(started).arg(&image).nobody().env("LD_PRELOAD", LIBRARY).env(DEVICES, &entry);
            assert_eq!(
                seen(&run.output(), &image),
                Seen::Scsi,
                "{} started as {}",
                listed.display(),
                started.display()
            );
        }
    }
}

fn unsafe_conf() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    let good = format!("executable {}\ndevice {entry}\nmessages yes\n", setting.program.display());
    let conf = Path::new(CONF);
    let check = |why: &str, spoil: &dyn Fn()| {
        setting.raw_conf(&good);
        spoil();
        setting.inert(why, &entry, &image);
        remove(conf);
    };
    check("missing", &|| remove(conf));
    check("another owner", &|| chown(conf, Some(65534), None).expect("root can"));
    check("writable by the group", &|| chmod(conf, 0o664));
    check("writable by others", &|| chmod(conf, 0o646));
    check("a symbolic link", &|| {
        let real = setting.scratch.path("real.conf");
        fs::copy(conf, &real).expect("it is our directory");
        remove(conf);
        symlink(&real, conf).expect("root can write to /etc");
    });
    check("a directory", &|| {
        remove(conf);
        fs::create_dir(conf).expect("root can write to /etc");
    });
    check("a FIFO", &|| {
        remove(conf);
        Run::new("mkfifo").args(["-m", "644"]).arg(conf).output().expect_out();
    });
    check("empty", &|| setting.raw_conf(""));
    check("10 MB", &|| setting.raw_conf(good.clone() + &"# nothing\n".repeat(1_000_000)));
    check("binary garbage", &|| {
        let garbage: Vec<u8> =
            (0..20_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        setting.raw_conf(garbage);
    });
    check("zeros", &|| setting.raw_conf([0; 4096]));
    setting.raw_conf(&good);
    chown(conf, Some(0), Some(65534)).expect("root can");
    chmod(conf, 0o600);
    assert_eq!(
        seen(&setting.run(&entry, &[&image]).output(), &image),
        Seen::Scsi,
        "a file that only root reads is safe"
    );
}

fn garbage_lines() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    let mut text = b"\xff\xfe\0\x01\nexecutable\ndevice\ndevice =\nmessages perhaps\n\x1b[2J\n".to_vec();
    text.extend(format!("executable {}\r\n\tdevice   {entry} \n", setting.program.display()).bytes());
    text.extend(b"executable /x\0y\nallow-user-devices");
    setting.raw_conf(text);
    setting.answers("the good lines", &entry, &image);
}

fn conf_size() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    let good = format!("executable {}\ndevice {entry}\n", setting.program.display());
    let padded = |bytes: usize| good.clone() + &"#".repeat(bytes - good.len());
    setting.raw_conf(padded(65536));
    setting.answers("65536 bytes", &entry, &image);
    setting.raw_conf(padded(65537));
    setting.inert("65537 bytes", &entry, &image);
}

fn hostile() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    // The kernel takes at most 128 KiB a variable.
    let most = 131_072 - DEVICES.len() - 2;
    let many = |entries: usize| (0..entries).map(|at| format!("/dev/sd/{at}:")).collect::<String>();
    let cases: [(&str, OsString, bool); 14] = [
        ("nothing", "".into(), false),
        ("no colon", entry.clone().into(), true),
        ("a huge path", format!("/{}", "x".repeat(most - 1)).into(), false),
        (
            "a huge path and the device",
            format!("{entry}:/{}", "x".repeat(most - entry.len() - 2)).into(),
            true,
        ),
        ("a huge option", format!("{entry}:/x={}", "y".repeat(most - entry.len() - 4)).into(), true),
        ("colons", ":".repeat(most).into(), false),
        ("the device and colons", (entry.clone() + &":".repeat(most - entry.len())).into(), true),
        ("colons and the device", (":".repeat(most - entry.len()) + &entry).into(), true),
        ("commas", format!("{entry}:{entry}{}", ",".repeat(100_000)).into(), true),
        ("equals signs", format!("{entry}:/{}", "=".repeat(100_000)).into(), true),
        (
            "no UTF-8",
            OsString::from_vec([b"\xff\xfe:/\x80=scsi:".as_slice(), entry.as_bytes()].concat()),
            true,
        ),
        ("control characters", format!("\x1b[2J:/\n=scsi:{entry}").into(), true),
        ("10,000 entries", (format!("{entry}:") + &many(10_000)).into(), true),
        ("10,000 good entries", (format!("{entry}:") + &"/:/=scsi:".repeat(10_000)).into(), true),
    ];
    for messages in ["no", "yes"] {
        setting.conf(&format!("allow-user-devices yes\nmessages {messages}"));
        for (why, devices, answered) in &cases {
            for level in ["1", "1000", "-1", "", "x", "99999999999999999999", "-99999999999999999999"] {
                let run = setting.run(devices, &[&image]).env(names::LOG_LEVEL, level).output();
                let wanted = if *answered { Seen::Scsi } else { Seen::Bare };
                assert_eq!(seen(&run, &image), wanted, "{why}, messages {messages}, level {level}");
                let err = run.err();
                if messages == "no" || level == "-1" {
                    assert_eq!(err, "", "{why}, messages {messages}, level {level}");
                }
                for line in err.lines() {
                    assert!(line.starts_with("vmware-bdwrapper: "), "{why}: {line}");
                    assert!(!line.contains(char::is_control), "{why}: {line:?}");
                }
            }
        }
    }
    let missing = Run::new(&setting.program).arg(&image).nobody().env("LD_PRELOAD", LIBRARY).output();
    assert_eq!(seen(&missing, &image), Seen::Bare);
    assert_eq!(missing.err(), "");
    let huge = setting.run(&entry, &[&image]).env(names::LOG_LEVEL, "1".repeat(100_000)).output();
    assert_eq!(seen(&huge, &image), Seen::Scsi);
}

fn choice() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    let (other, _) = setting.image("other");
    let link = setting.scratch.path("link");
    symlink(&image, &link).expect("it is our directory");
    setting.conf(&format!("device {entry}\ndevice {}=ide", other.display()));
    let chosen = |devices: &str| {
        let run = setting.run(devices, &[&image, &other]).output();
        assert_eq!(run.err(), "");
        [seen(&run, &image), seen(&run, &other)]
    };
    assert_eq!(chosen(""), [Seen::Bare, Seen::Bare]);
    assert_eq!(chosen(&image.display().to_string()), [Seen::Scsi, Seen::Bare]);
    assert_eq!(chosen(&other.display().to_string()), [Seen::Bare, Seen::Ide]);
    assert_eq!(chosen(&format!("{}:{}", image.display(), other.display())), [Seen::Scsi, Seen::Ide]);
    // The same device by a name that the file does not have.
    assert_eq!(chosen(&format!("{}=scsi", link.display())), [Seen::Bare, Seen::Bare]);
}

fn options() {
    let setting = Setting::new();
    let (image, _) = setting.image("image");
    let path = image.display();
    setting.conf(&format!("device {path}=ide,serial=FILE,model=THE FILE,geometry=7/8/9"));
    for devices in [
        format!("{path}"),
        format!("{path}=ide"),
        format!("{path}=scsi"),
        format!("{path}=sata,serial=USER,model=THE USER,geometry=1/2/3"),
    ] {
        let run = setting.run(&devices, &[&image]).output();
        let line = line(&run, &image);
        assert_eq!(answer(&line, "identity"), "THE FILE/FILE", "{devices}");
        assert!(line.contains(" geometry=7/8/9@0 "), "{devices}: {line}");
        assert_eq!(answer(&line, "idlun"), "EINVAL", "{devices}");
    }
}

fn user_devices() {
    let setting = Setting::new();
    let closed = setting.scratch.path("closed");
    fs::create_dir(&closed).expect("it is our directory");
    let (open, _) = setting.image("open");
    let (readable, _) = setting.image("readable");
    let (secret, _) = setting.image("secret");
    let (writable, _) = setting.image("writable");
    let (behind, _) = setting.image("closed/behind");
    chmod(&closed, 0o700);
    chmod(&readable, 0o644);
    chmod(&secret, 0o600);
    chmod(&writable, 0o622);
    let device = Loop::attach(&open, &[]);
    let node = Name::node("sd", device.path());
    let link = Name::link("sd", device.path());
    let images = [&open, &readable, &secret, &writable, &behind].map(PathBuf::as_path);
    let [open, readable, secret, writable, behind] = images;
    // The same device by the node that is the user's, and by the one that is not.
    let paths = [open, readable, secret, writable, behind, node.path(), device.path()];
    let listed = |block: &Path, option: &str| {
        let mut devices = String::new();
        for path in images {
            devices += &format!("{}=scsi{option}:", path.display());
        }
        devices + &format!("{}=scsi{option}", block.display())
    };
    let found = |devices: String| {
        let run = setting.run(devices, &paths).output();
        assert_eq!(run.err(), "");
        paths.map(|path| seen(&run, path) == Seen::Scsi)
    };
    setting.conf("allow-user-devices yes");
    assert_eq!(found(listed(node.path(), "")), [true, false, false, false, false, true, false]);
    assert_eq!(found(listed(node.path(), ",ro")), [true, true, false, false, false, true, false]);
    assert_eq!(found(listed(link.path(), "")), [true, false, false, false, false, false, false]);
    assert_eq!(found(listed(link.path(), ",ro")), [true, true, false, false, false, false, false]);
    for conf in ["", "allow-user-devices no"] {
        setting.conf(conf);
        assert_eq!(found(listed(node.path(), "")), [false; 7], "{conf}");
    }
}

/// A program that has the device open must not reach a disk underneath because its user has lost a right; and one that
/// has made root its real user must not take for the user's what is root's.
fn user_changes() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    setting.conf("allow-user-devices yes");
    let seen_as = |command: &str| -> Vec<Seen> {
        let run = setting.run(&entry, &[Path::new("-c"), Path::new(command), &image]).output();
        let out = run.expect_out();
        let start = format!("{} ", image.display());
        let lines = out.lines().filter(|line| line.starts_with(&start));
        lines.map(|line| if line.contains(" idlun=0x") { Seen::Scsi } else { Seen::Bare }).collect()
    };
    assert_eq!(seen_as("root"), [Seen::Bare]);
    assert_eq!(seen_as("fork"), [Seen::Scsi]);
    assert_eq!(seen_as("close"), [Seen::Scsi, Seen::Scsi]);
    assert_eq!(seen_as("fork"), [Seen::Bare]);
}

/// The program closes its standard error, and a file of root's gets the number.
fn stderr_replaced() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    let secret = setting.scratch.image("secret", 4096);
    chmod(&secret, 0o600);
    setting.conf("allow-user-devices yes\nmessages yes");
    let paths = [Path::new("-c"), Path::new("stderr"), &secret, &image];
    let run = setting.run(&entry, &paths).level(1000).output();
    assert_eq!(seen(&run, &image), Seen::Scsi);
    assert!(fs::read(&secret).expect("root can").iter().all(|&byte| byte == 0));
}

fn force() {
    let setting = Setting::new();
    let node = setting.scratch.path("sdz");
    // The first disk of the SCSI driver, which need not exist.
    Run::new("mknod").args(["-m", "666"]).arg(&node).args(["b", "8", "0"]).output().expect_out();
    let said = |entry: String| setting.run(entry, &[]).output().err();
    let (plain, forced) = (format!("{}=scsi", node.display()), format!("{}=scsi,force", node.display()));
    setting.conf("allow-user-devices yes\nmessages yes");
    for entry in [&plain, &forced] {
        let err = said(entry.clone());
        assert!(err.contains(&node.display().to_string()) && err.lines().count() == 1, "{entry}: {err}");
    }
    setting.conf(&format!("messages yes\ndevice {forced}"));
    assert_eq!(said(plain), "", "the administrator can force it");
}

fn messages() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    let devices = format!("wrong:{entry}");
    for lines in ["", "messages no"] {
        setting.conf(&format!("allow-user-devices yes\n{lines}"));
        for level in [-1, 0, 1, 10, 100, 1000] {
            let run = setting.run(&devices, &[&image]).level(level).output();
            assert_eq!(
                (seen(&run, &image), run.err()),
                (Seen::Scsi, String::new()),
                "{lines}, level {level}"
            );
        }
    }
    setting.conf("allow-user-devices yes\nmessages yes");
    let mut before = 0;
    for level in [-1, 0, 10, 100, 1000] {
        let run = setting.run(&devices, &[&image]).level(level).output();
        assert_eq!(seen(&run, &image), Seen::Scsi, "level {level}");
        let err = run.err();
        assert!(err.lines().all(|line| line.starts_with("vmware-bdwrapper: ")), "{err}");
        assert_eq!(err.contains("wrong: is not an absolute path"), level >= 0, "{err}");
        assert!(level == -1 || err.len() > before, "level {level} says nothing more: {err}");
        before = err.len();
    }
    assert!(before > 0);
}

/// What strace(1) saw of a program that the user nobody runs, without what differs each time.
fn trace(setting: &Setting, program: &[&str], preload: bool, devices: &str) -> Vec<String> {
    trace_with(&[], setting, program, preload, devices)
}

fn trace_with(
    more: &[&str],
    setting: &Setting,
    program: &[&str],
    preload: bool,
    devices: &str,
) -> Vec<String> {
    let file = setting.scratch.path("trace");
    let options = ["-u", "nobody", "-y", "-s", "256", "-e", "signal=none", "-e", "trace=%file,%desc"];
    let mut run = Run::new(program[0])
        .args(&program[1..])
        .traced(&file, [&options, more].concat())
        .env(DEVICES, devices);
    if preload {
        run = run.env("LD_PRELOAD", LIBRARY);
    }
    run.output();
    let text = fs::read_to_string(&file).expect("strace wrote it");
    assert!(text.contains("execve("), "{text}");
    // Where a program was mapped and which process it is differs each time.
    let apart = ["mmap(", "execve(", "readlink(\"/proc/self\","];
    // The task that the library starts has lines of its own.
    let lines = text.lines().map(|line| match line.split_once(' ') {
        Some((task, rest)) if task.bytes().all(|byte| byte.is_ascii_digit()) => rest.trim_start(),
        _ => line,
    });
    let kept = lines.filter(|line| !apart.iter().any(|start| line.starts_with(start)));
    let marks = [("0x", 16), ("pipe:[", 10), ("/proc/", 10)];
    kept.map(|line| {
        marks.iter().fold(line.to_owned(), |line, (mark, base)| without_after(&line, mark, *base))
    })
    .collect()
}

/// The text without the numbers that follow a mark: addresses, pipes, processes.
fn without_after(text: &str, mark: &str, base: u32) -> String {
    let mut parts = text.split(mark);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| {
        done + mark + part.trim_start_matches(|character: char| character.is_digit(base))
    })
}

fn other_programs() {
    let setting = Setting::new();
    let (_, entry) = setting.image("image");
    setting.conf(&format!("device {entry}\nallow-user-devices yes\nmessages yes"));
    let nothing = program_with("secure-nothing", "secure-nothing.so", &["-shared", "-fPIC"]);
    let library = setting.system.library();
    let ours = setting.scratch.copy(&library, "ours");
    let mut compared = 0;
    for program in [&["su", "--version"][..], &["mount", "--help"], &["mount"], &["umount", "/nonexistent"]] {
        let run = || Run::new(program[0]).args(&program[1..]).nobody().env(DEVICES, &entry).level(1000);
        let (with, without) = (run().env("LD_PRELOAD", LIBRARY).output(), run().output());
        assert_eq!((with.out(), with.err()), (without.out(), without.err()), "{program:?}");
        assert_eq!((with.stdout, with.stderr, with.status), (without.stdout, without.stderr, without.status));

        // The loader's own doing is what it does with a library that does nothing.
        let install = |file: &Path| {
            remove(&library);
            fs::copy(file, &library).expect("root can");
            chmod(&library, 0o4644);
        };
        let apart = |lines: Vec<String>| -> Vec<String> {
            lines.into_iter().filter(|line| !line.contains(LIBRARY)).collect()
        };
        install(&nothing);
        let loaders = apart(trace(&setting, program, true, &entry));
        install(&ours);
        let traced = trace(&setting, program, true, &entry);
        assert!(traced.iter().any(|line| line.contains(LIBRARY)), "{program:?} did not load the library");
        let mut loaders = loaders.into_iter().peekable();
        for line in apart(traced) {
            if loaders.next_if_eq(&line).is_some() {
                continue;
            }
            let looks = [CONF, "\"/proc/self/exe\"", &setting.program.display().to_string()];
            assert!(looks.iter().any(|name| line.contains(name)), "{program:?}: {line}");
            compared += 1;
        }
        assert_eq!(loaders.collect::<Vec<_>>(), Vec::<String>::new(), "{program:?} does less");
    }
    assert!(compared > 0, "the library did not even look at its configuration");
}

fn opens_nothing() {
    let setting = Setting::new();
    let (image, entry) = setting.image("image");
    let devices =
        format!("{entry}:{0}/absent=ide:{0}=scsi:/etc/shadow=scsi", setting.scratch.directory().display());
    setting.conf("allow-user-devices yes");
    let program = setting.program.display().to_string();
    let lines = trace_with(&["-f"], &setting, &[&program], true, &devices);
    assert!(lines.iter().any(|line| line.contains(&image.display().to_string())), "the device is looked at");
    // What is only looked at is not opened (open(2), O_PATH).
    let opens =
        |line: &&String| (line.starts_with("open") || line.starts_with("creat")) && !line.contains("O_PATH");
    for line in lines.iter().filter(opens) {
        assert!(!line.contains("/etc/shadow"), "{line}");
        assert!(!line.contains(&setting.scratch.directory().display().to_string()), "{line}");
    }
}
