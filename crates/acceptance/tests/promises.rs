//! What goes on around an ioctl(2) on a listed device: files, locks, descriptors, signals and stacks are left alone.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, ExitCode};

use acceptance::{
    Disk, Engine, Loop, Medium, Need, Run, Scratch, Sgio, Trial, by_engine, engine as tested, kernel_trial,
    main as harness, needs, trial,
};
use disk::names;
use disk::request::{REQUESTS, family};
use disk::scsi::command::{COMMANDS, Effect, Operation};

const MIB: u64 = 1 << 20;
const KINDS: [&str; 3] = ["scsi", "ide", "sata"];

fn main() -> ExitCode {
    harness(trials())
}

/// The trials, which tests/supervisor.rs runs too.
pub fn trials() -> Vec<Trial> {
    let root: &[Need] = &[Need::Devices];
    let root_strace: &[Need] = &[Need::Devices, Need::Tool("strace")];
    let mut trials = vec![
        trial("question/overlayfs-append", root, overlay_append),
        trial("question/overlayfs-capabilities", root, overlay_capabilities),
        trial("thin/no-descriptor-no-proc", root, facts_stay),
        trial("exclusion/readers", root, readers_do_not_delay),
        trial("exclusion/timeout", root, exclusion_is_bounded),
        trial("exclusion/own-locks-and-increments", root, increments_under_own_lock),
        trial("descriptor/window", root, window),
        trial("identity/cannot-be-told", root, identity_unknown),
        trial("identity/o-path", root, path_descriptors),
        trial("set-up/threads-wait", root, threads_wait),
        trial("process/file-size-limit", &[], file_size),
        trial("process/message-beyond-limit", &[], message_beyond_limit),
        trial("rights/user-namespace", root, user_namespace),
        trial("answer/fibmap", root, fibmap),
        trial("answer/o-direct-on-4096-byte-sectors", root, direct_on_large_sectors),
        trial("library/shadow-stack", &[Need::Tool("readelf")], shadow_stack),
    ];
    for file_system in ["ext4", "tmpfs", "overlay"] {
        for kind in KINDS {
            trials.push(trial(format!("question/{file_system}-{kind}"), root_strace, move || {
                questions_on(file_system, kind)
            }));
        }
    }
    for (file_system, tool) in [("xfs", "mkfs.xfs"), ("btrfs", "mkfs.btrfs")] {
        let needs = [root_strace, &[Need::Tool(tool)]].concat();
        let body = move || KINDS.iter().for_each(|kind| questions_on(file_system, kind));
        trials.push(kernel_trial(
            &format!("question/{file_system}"),
            "/proc/filesystems",
            file_system,
            &needs,
            body,
        ));
    }
    let needs_volume = [root_strace, &[Need::Tool("lvcreate")]].concat();
    trials.push(kernel_trial(
        "question/lvm",
        "/proc/devices",
        "device-mapper",
        &needs_volume,
        questions_on_volume,
    ));
    for kind in KINDS {
        trials.push(trial(format!("question/loop-{kind}"), root_strace, move || questions_on_loop(kind)));
        trials.push(trial(format!("process/stack-{kind}"), root, move || stack(kind)));
    }
    for medium in [Medium::Image, Medium::Loop] {
        let name = if medium == Medium::Image { "image" } else { "loop" };
        for flags in ["rw", "r", "rwa"] {
            trials.push(trial(format!("locks/{name}-{flags}"), root, move || locks(medium, flags)));
        }
        let needs = needs(medium, &["cc"]);
        // ORWRITE needs CAP_SYS_RAWIO.
        let raw = [&needs[..], &[Need::Devices]].concat();
        trials.push(trial(format!("exclusion/{name}-handlers"), &raw, move || handlers(medium)));
        trials.push(trial(format!("process/{name}-small-stack"), &needs, move || small_stack(medium)));
    }
    for command in ["bounced", "same", "unmap", "compare", "or", "ata"] {
        trials.push(trial(format!("descriptor/exchanged-{command}"), root, move || exchanged(command)));
    }
    trials
}

/// A line for `sgio` for every command and request that does not write the medium, on a descriptor.
fn questions(fd: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for command in COMMANDS.iter().filter(|command| command.effect != Effect::ChangesMedium) {
        let mut cdb = command.usage.to_vec();
        // Operation code and service action; one block, or as much as there is room for; every page.
        cdb[1..].fill(0);
        cdb[1] = command.action().unwrap_or(0);
        let length = cdb.len();
        let pages: &[u8] = match cdb[0] {
            0x12 => &[0, 0x80, 0x83, 0x86, 0x89, 0xb0, 0xb1, 0xb2],
            0x1a | 0x5a | 0x4d => &[0x00, 0x01, 0x08, 0x0a, 0x0d, 0x1c, 0x2f, 0x3f],
            _ => &[0],
        };
        match length {
            6 => cdb[4] = 1,
            10 => cdb[8] = 1,
            12 => cdb[9] = 1,
            _ => cdb[13] = 1,
        }
        if matches!(command.operation, Operation::AtaPassThrough) {
            for (code, count) in [(0xec, 1), (0xe5, 0), (0xb0, 1), (0x2f, 1), (0x25, 1), (0x40, 1), (0xe7, 0)]
            {
                lines.push(match length {
                    16 => format!("in {fd} 85080e000000{count:02x}0000000000000040{code:02x}00 512"),
                    _ => format!("in {fd} a1080e00{count:02x}00000040{code:02x}0000 512"),
                });
            }
            continue;
        }
        for page in pages {
            if cdb[0] == 0x12 {
                cdb[1] = u8::from(*page != 0);
                cdb[3] = 2;
            }
            if matches!(cdb[0], 0x12 | 0x1a | 0x5a | 0x4d) {
                cdb[2] = *page;
            }
            let hex: String = cdb.iter().map(|byte| format!("{byte:02x}")).collect();
            lines.extend([format!("in {fd} {hex} 4096"), format!("none {fd} {hex}")]);
        }
    }
    // What changes a device or its settings, and on a block device the kernel's own answers.
    let changes = [
        "SET",
        "DISCARD",
        "ZEROOUT",
        "FLSBUF",
        "BLKPG",
        "RRPART",
        "ZONE",
        "TRACE",
        "RESET",
        "EJECT",
        "CLOSETRAY",
    ];
    let is_question = |name: &str| !changes.iter().any(|word| name.contains(word));
    for request in REQUESTS.iter().filter(|request| is_question(request.name())) {
        if family(request.number).is_some() {
            lines.push(format!("ioctl {fd} {:#x}", request.number));
        }
    }
    lines
}

/// Every question leaves a file as it is; the calls are watched.
fn ask_everything(scratch: &Scratch, path: &Path, entry: &str, flags: &str) {
    let trace = scratch.path("trace");
    let calls = "trace=fallocate,truncate,ftruncate,write,pwrite64,pwritev,pwritev2,open,openat,openat2";
    let options = ["-f", "-y", "-e", calls, "-e", "signal=none"];
    let program = scratch.program("sgio");
    let mut script = format!("open {flags} {}\n", path.display());
    for line in questions("3") {
        script += &line;
        script.push('\n');
    }
    let before = state(path);
    let run = Run::new(program).with(&scratch.library(), entry).stdin(script).traced(&trace, options);
    let outcome = run.output();
    assert!(outcome.out().starts_with("3\n"), "{entry}: {}{}", outcome.out(), outcome.err());
    assert!(
        outcome.out().matches("good").count() > 20,
        "{entry}: few commands were answered: {}",
        outcome.out()
    );
    assert_eq!(state(path), before, "{entry}, {flags}: a question changed the file");
    let name = path.display().to_string();
    let mut opened = 0;
    for line in fs::read_to_string(&trace).expect("strace wrote it").lines() {
        if line.contains("open") && line.contains(&format!("\"{name}\"")) {
            // The command looks at the device before it starts the program.
            let is_commands = tested() == Engine::Supervisor && line.contains("O_CLOEXEC");
            opened += u32::from(!is_commands || !line.contains("O_RDONLY"));
            continue;
        }
        let is_other = line.contains("open") && !line.contains("O_RDWR") && !line.contains("O_WRONLY");
        let is_answer = line.contains("write(") && !line.contains(&name);
        // What a supervisor has instead of the program's standard input and output, and its memory.
        let is_supervisors = line.contains("\"/dev/null\"") || line.contains("/mem>");
        // What supervisors share.
        let is_supervisors =
            is_supervisors || line.contains("/vmware-bdwrapper\"") || line.contains("/vmware-bdwrapper");
        // strace(1) does not know which call a thread was in when its process ended.
        let is_supervisors = is_supervisors || line.contains("???(");
        assert!(is_other || is_answer || is_supervisors || line.contains("+++"), "{entry}, {flags}: {line}");
    }
    assert_eq!(opened, 1, "{entry}, {flags}: the program itself opens the file once");
}

/// What is not to change.
fn state(path: &Path) -> (Vec<u8>, [i64; 6]) {
    let file = path.metadata().expect("the file exists");
    let times = [file.atime(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
    let content = if file.is_file() { fs::read(path).expect("root can read it") } else { Vec::new() };
    (content, [file.blocks() as i64, times[1], times[2], times[3], times[4], file.mode().into()])
}

/// A directory on a file system that is unmounted at the end.
struct Mount {
    scratch: Scratch,
    _device: Option<Loop>,
}

impl Mount {
    fn new(file_system: &str) -> Mount {
        let scratch = Scratch::new();
        let place = scratch.path("mount");
        fs::create_dir(&place).expect("the directory is ours");
        let mount = |arguments: &[&str]| {
            let mounted = Run::new("mount").args(arguments).arg(&place).output();
            assert!(mounted.success(), "mount {arguments:?}: {}", mounted.err());
        };
        let mut device = None;
        match file_system {
            "tmpfs" => mount(&["-t", "tmpfs", "tmpfs"]),
            "overlay" => {
                // The upper directory of an overlay cannot be on another overlay, as in a container.
                let layers = scratch.path("layers");
                fs::create_dir(&layers).expect("the directory is ours");
                let mounted = Run::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&layers).output();
                assert!(mounted.success(), "mount: {}", mounted.err());
                for name in ["lower", "upper", "work"] {
                    fs::create_dir(layers.join(name)).expect("the directory is ours");
                }
                let layers = layers.display();
                let options =
                    format!("lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work");
                mount(&["-t", "overlay", "-o", &options, "overlay"]);
            }
            _ => {
                let attached = Loop::attach(&scratch.image("file-system", 512 * MIB), &[]);
                let made = Run::new(format!("mkfs.{file_system}")).arg("-q").arg(attached.path()).output();
                assert!(made.success(), "mkfs.{file_system}: {}", made.err());
                mount(&["-t", file_system, attached.path().to_str().expect("ASCII")]);
                device = Some(attached);
            }
        }
        Mount { scratch, _device: device }
    }

    fn image(&self, name: &str) -> std::path::PathBuf {
        let path = self.scratch.path("mount").join(name);
        fs::write(&path, vec![0x5a; MIB as usize + 512]).expect("the file system is new");
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        for name in ["mount", "layers"] {
            let place = self.scratch.path(name);
            if place.exists() {
                let _ = Command::new("umount").arg(&place).output();
            }
        }
    }
}

fn questions_on(file_system: &str, kind: &str) {
    let mount = Mount::new(file_system);
    for (flags, option) in [("rw", ""), ("r", ""), ("rw", ",ro"), ("r", ",ro")] {
        let image = mount.image(&format!("image{flags}{}", option.len()));
        let entry = format!("{}={kind}{option}", image.display());
        ask_everything(&mount.scratch, &image, &entry, flags);
        let probed = Run::new(acceptance::library().with_file_name("vmware-bdwrapper"))
            .arg("probe")
            .arg(&entry)
            .output();
        assert!(probed.code() >= 0, "{}", probed.err());
    }
}

fn questions_on_loop(kind: &'static str) {
    let disk = Disk::new(Medium::Loop, kind, MIB);
    for (flags, option) in [("rw", ""), ("r", ""), ("rw", ",ro"), ("r", ",ro")] {
        let entry = format!("{}={kind}{option}", disk.device().display());
        let before = state(disk.image());
        ask_everything(disk.scratch(), disk.device(), &entry, flags);
        assert_eq!(state(disk.image()), before, "{entry}: the file behind the device has changed");
    }
}

fn questions_on_volume() {
    let scratch = Scratch::new();
    let device = Loop::attach(&scratch.image("physical", 64 * MIB), &[]);
    let group = format!("bdwrapper-test-{}", std::process::id());
    let run = |words: &[&str]| {
        let done = Run::new(words[0]).args(&words[1..]).env("DM_DISABLE_UDEV", "1").output();
        assert!(done.success(), "{words:?}: {}", done.err());
    };
    let physical = device.path().to_str().expect("ASCII");
    run(&["vgcreate", "-qq", &group, physical]);
    run(&["lvcreate", "-qq", "-y", "-an", "-Zn", "-L", "8M", "-n", "volume", &group]);
    run(&["vgchange", "-qq", "-ay", &group]);
    let volume = std::path::PathBuf::from(format!("/dev/{group}/volume"));
    for kind in KINDS {
        for (flags, option) in [("rw", ""), ("r", ",ro")] {
            let before = fs::read(device.path()).expect("root can read it");
            ask_everything(&scratch, &volume, &format!("{}={kind}{option}", volume.display()), flags);
            assert!(
                fs::read(device.path()).expect("root can") == before,
                "{kind}{option}: the volume has changed"
            );
        }
    }
    run(&["vgremove", "-qq", "-y", "-f", &group]);
}

/// A program appends to an image while another asks what the disk is: nothing is lost.
fn overlay_append() {
    let mount = Mount::new("overlay");
    let image = mount.image("log");
    fs::write(&image, vec![0xaa; MIB as usize]).expect("it is ours");
    let program = mount.scratch.program("engine");
    let appending = Command::new(program)
        .args(["append".as_ref(), image.as_os_str(), "2".as_ref()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program can be run");
    let entry = format!("{}=scsi", image.display());
    let mut sgio =
        Sgio::start(|program| Run::new(program).with(&mount.scratch.library(), &entry), &mount.scratch);
    let fd = sgio.open("rw", &image);
    for _ in 0..500 {
        sgio.read(&fd, "12 01 b2 00 40 00", 64);
        sgio.read(&fd, "9e 10 .. 20 00 00", 32);
    }
    let appended = appending.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&appended.stdout), "0\n", "appended bytes were lost");
}

/// A file's capabilities, which any write takes away, stay.
fn overlay_capabilities() {
    let mount = Mount::new("overlay");
    let image = mount.image("program");
    let value = [1u8, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let path = std::ffi::CString::new(image.to_str().expect("ASCII")).expect("no NUL");
    rustix::fs::setxattr(&path, c"security.capability", &value, rustix::fs::XattrFlags::empty())
        .expect("root can set it");
    ask_everything(&mount.scratch, &image, &format!("{}=scsi", image.display()), "rw");
    let mut found = [0; 64];
    let length = rustix::fs::getxattr(&path, c"security.capability", &mut found).expect("it is still there");
    assert_eq!(found[..length], value);
}

/// What was learned of a device stays true without descriptors and without /proc and /sys.
fn facts_stay() {
    for medium in [Medium::Image, Medium::Loop] {
        let disk = Disk::new(medium, "scsi", MIB);
        let program = acceptance::program_with("engine-facts", "engine-facts", &["-O2"]);
        let program = disk.scratch().copy(&program, "engine-facts");
        let empty = disk.scratch().path("empty");
        fs::create_dir(&empty).expect("the directory is ours");
        let run = |how: &str| disk.run(&program).arg(how).arg(disk.path()).arg(&empty).output().expect_out();
        let usual = run("usual");
        assert!(usual.contains("thin 1"), "{medium:?}: {usual}");
        assert_eq!(run("no-descriptor"), usual, "{medium:?}");
        // COMPARE AND WRITE opens a descriptor by /proc.
        let status = by_engine("COMPARE AND WRITE where /proc is not mounted", "compare 8", "compare 0");
        let without_proc = usual.replace("compare 0", status);
        assert_eq!(run("chroot"), without_proc, "{medium:?}");
    }
}

/// Every command leaves the program's locks alone, and answers as without them.
fn locks(medium: Medium, flags: &str) {
    let disk = Disk::new(medium, "scsi", MIB);
    // The answers without a lock.
    let mut sgio = Sgio::of(&disk);
    let fd = sgio.open(flags, disk.path());
    let answers: Vec<String> = lock_commands(&fd).iter().map(|line| sgio.ask(line)).collect();
    drop(sgio);
    let readable_only = flags == "r";
    for (how, kind, start, length) in [
        ("posix", "write", 0, 100),
        ("posix", "write", 0, 0),
        ("posix", "read", 0, 100),
        ("posix", "read", 0, 0),
        ("ofd", "write", 4096, 512),
        ("ofd", "write", 0, 0),
        ("ofd", "read", 0, 0),
        ("flock", "write", 0, 0),
        ("flock", "read", 0, 0),
    ] {
        if readable_only && kind == "write" && how != "flock" {
            continue;
        }
        let mut sgio = Sgio::of(&disk);
        let fd = sgio.open(flags, disk.path());
        assert_eq!(sgio.ask(&format!("lock {fd} {how} {kind} {start} {length}")), "good");
        let path = disk.path().display();
        let held = sgio.ask(&format!("held {path} {how}"));
        assert_ne!(held, "none", "{how} {kind}: the lock is not seen at all");
        for (line, answer) in lock_commands(&fd).iter().zip(&answers) {
            assert_eq!(sgio.ask(line), *answer, "{how} {kind} {start} {length}: {line}");
            assert_eq!(sgio.ask(&format!("held {path} {how}")), held, "{how} {kind}: gone after {line}");
        }
    }
}

/// A line for every SCSI command, with data where it takes some; what is written is what is there.
fn lock_commands(fd: &str) -> Vec<String> {
    let mut lines = questions(fd);
    lines.retain(|line| !line.starts_with("none"));
    lines.extend([
        format!("out {fd} 2a000000000900000100 512 00"),
        format!("out {fd} 2a080000000900000100 512 00"),
        format!("out {fd} 2e000000000900000100 512 00"),
        format!("out {fd} 41000000000900000100 512 00"),
        format!("out {fd} 89000000000000000009000000010000 1024 00"),
        format!("out {fd} 8b000000000000000009000000010000 512 00"),
        format!("give {fd} 42000000000000001800 0016001000000000{:016x}{:08x}00000000", 16, 8),
        format!("out {fd} 0a000009010000 512 00"),
        format!("none {fd} 35000000000000000000"),
    ]);
    lines
}

/// Only a program that can write the device delays COMPARE AND WRITE.
fn readers_do_not_delay() {
    for medium in [Medium::Image, Medium::Loop] {
        let disk = Disk::new(medium, "scsi", MIB);
        let mut reader = Sgio::start(Run::new, disk.scratch());
        let foreign = reader.open("r", disk.device());
        for lock in ["ofd read 4611686018427387904 1", "ofd read 0 0", "posix read 0 0"] {
            assert_eq!(reader.ask(&format!("lock {foreign} {lock}")), "good");
            assert_eq!(increments(&disk), [600; 2], "{medium:?}, {lock}");
        }
        drop(reader);
        let mut reader = Sgio::start(Run::new, disk.scratch());
        let foreign = reader.open("r", disk.device());
        assert_eq!(reader.ask(&format!("lock {foreign} flock write 0 0")), "good");
        assert_eq!(increments(&disk), [600; 2], "{medium:?}, flock");
        if medium == Medium::Loop {
            let number = disk.device().metadata().expect("it exists").rdev();
            let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
            let sysfs = format!("/sys/dev/block/{major}:{minor}/dev");
            let foreign = reader.open("r", Path::new(&sysfs));
            assert_eq!(reader.ask(&format!("lock {foreign} flock write 0 0")), "good");
            assert_eq!(increments(&disk), [600; 2], "flock of {sysfs}");
        }
    }
}

/// Three processes of two threads count to 600; the number at both ends of the block, which is 0 before.
fn increments(disk: &Disk) -> [u64; 2] {
    File::options()
        .write(true)
        .open(disk.device())
        .and_then(|file| file.write_all_at(&[0; 512], 5 * 512))
        .expect("ours");
    let running: Vec<_> = (0..3)
        .map(|_| {
            let run = disk.run(disk.scratch().program("sgio")).args(["increment", "5", "100", "2"]);
            let run = run.arg(disk.path());
            std::thread::spawn(|| run.output())
        })
        .collect();
    for thread in running {
        thread.join().expect("a program runs").expect_out();
    }
    let mut data = [0; 512];
    File::open(disk.device()).and_then(|file| file.read_exact_at(&mut data, 5 * 512)).expect("it is read");
    [0, 504].map(|at| u64::from_le_bytes(data[at..][..8].try_into().expect("8 bytes")))
}

/// A program that can write the device delays COMPARE AND WRITE, but not beyond its timeout.
fn exclusion_is_bounded() {
    for medium in [Medium::Image, Medium::Loop] {
        let disk = Disk::new(medium, "scsi", MIB);
        let mut other = Sgio::start(Run::new, disk.scratch());
        let foreign = other.open("rw", disk.device());
        assert_eq!(other.ask(&format!("lock {foreign} ofd write 4611686018427387904 1")), "good");
        let mut sgio = Sgio::of(&disk);
        let fd = sgio.open("rw", disk.path());
        sgio.ask("timeout 300");
        let compare = format!("out {fd} 89000000000000000009000000010000 1024 00");
        assert_eq!(sgio.ask(&compare), "status-08 0", "{medium:?}");
        drop(other);
        assert_eq!(sgio.ask(&compare), "good 0", "{medium:?}");
    }
}

/// A program that has locked all of its file still excludes others.
fn increments_under_own_lock() {
    for how in ["posix", "ofd"] {
        let disk = Disk::new(Medium::Image, "scsi", MIB);
        let mut sgio = Sgio::of(&disk);
        let fd = sgio.open("rw", disk.path());
        assert_eq!(sgio.ask(&format!("lock {fd} {how} write 0 0")), "good");
        for thread in 0..4 {
            let line = format!("later out {fd} 89000000000000000009000000010000 1024 00");
            assert_eq!(sgio.ask(&line), thread.to_string());
        }
        for thread in 0..4 {
            assert_eq!(sgio.ask(&format!("join {thread}")), "good 0", "{how}");
        }
        // Another process cannot get in between.
        let mut other = Sgio::of(&disk);
        let fd = other.open("rw", disk.path());
        other.ask("timeout 100");
        let compare = format!("out {fd} 89000000000000000009000000010000 1024 00");
        assert_eq!(other.ask(&compare), "status-08 0", "{how}");
    }
}

fn engine(disk: &Disk, arguments: &[&str]) -> String {
    disk.run(disk.scratch().program("engine")).args(arguments).output().expect_out()
}

fn handlers(medium: Medium) {
    let disk = Disk::new(medium, "scsi", MIB);
    let path = disk.path().to_str().expect("ASCII");
    assert_eq!(engine(&disk, &["handlers", path, "300"]), "failed 0 others 0 handled\n");
}

/// Data does not come to a file that took the descriptor's number, but for the moment between a look and the transfer that
/// follows it: where one look was for all of a command, nearly every try came to the other file.
fn exchanged(command: &str) {
    let disk = Disk::new(Medium::Loop, "sata", 8 * MIB);
    let other = disk.scratch().path("other");
    let (path, other) = (disk.path().to_str().expect("ASCII"), other.to_str().expect("ASCII"));
    let hits: u32 =
        engine(&disk, &["exchange", path, other, command, "100"]).trim_end().parse().expect("a number");
    assert!(hits <= 5, "{hits} of 100");
}

/// Between the look at a descriptor and the write there is no more than in a program that looks itself.
fn window() {
    let disk = Disk::new(Medium::Loop, "scsi", MIB);
    let other = disk.scratch().path("other");
    let (path, other) = (disk.path().to_str().expect("ASCII"), other.to_str().expect("ASCII"));
    let answer = engine(&disk, &["window", path, other, "3"]);
    let numbers: Vec<u64> = answer.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [command, plain] = numbers[..] else { panic!("{answer}") };
    // In a million: with four system calls in between they were many thousands.
    assert!(command < 20 * plain + 2000, "{answer}");
}

/// Where a sandbox refuses to say what a descriptor is, no driver is asked.
fn identity_unknown() {
    let disk = Disk::new(Medium::Loop, "scsi", MIB);
    let mut client = disk.run(disk.scratch().program("clients")).start(&disk.scratch().path("stderr"));
    let answer = client.ask(&format!("open open {}", disk.path().display()));
    let fd = answer.strip_suffix(" -").expect("it is opened");
    for call in [libc::SYS_statx, libc::SYS_newfstatat] {
        client.ask(&format!("sandbox {call} 13"));
        assert_eq!(client.ask(&format!("get {fd} 0x5382 8")).split(' ').next(), Some("0"));
    }
    client.ask(&format!("sandbox {} 13", libc::SYS_fstat));
    let refused = |library, supervisor| {
        by_engine("system calls that the program's own sandbox refuses", library, supervisor)
    };
    for (request, supervisor) in [
        ("0x5382", "-1 EFAULT"),
        ("0x2285", "-1 EFAULT"),
        ("0x5393", "-1 EINVAL"),
        ("0x31f", "-1 EINVAL"),
        ("0x4c00", "-1 EINVAL"),
    ] {
        let answer = client.ask(&format!("value {fd} {request} 0"));
        assert_eq!(answer, refused("-1 EPERM", supervisor), "{request}");
    }
}

/// A descriptor that cannot carry requests gets the kernel's answer to all of them, traced or not.
fn path_descriptors() {
    for (medium, option) in
        [(Medium::Image, ""), (Medium::Image, ",ro"), (Medium::Loop, ""), (Medium::Loop, ",ro")]
    {
        for level in [1, 1000] {
            let disk = Disk::new(medium, "sata", MIB);
            let entry = format!("{}=sata{option}", disk.path().display());
            let run = Run::new(disk.scratch().program("clients")).with(&disk.scratch().library(), entry);
            let mut client = run.level(level).start(&disk.scratch().path("stderr"));
            let answer = client.ask(&format!("open path {}", disk.path().display()));
            let fd = answer.strip_suffix(" -").expect("it is opened");
            for request in REQUESTS.iter().filter(|request| family(request.number).is_some()) {
                let answer = client.ask(&format!("get {fd} {:#x} 1", request.number));
                assert!(answer.starts_with("-1 EBADF"), "{medium:?}{option}: {}: {answer}", request.name());
            }
        }
    }
}

fn threads_wait() {
    let disk = Disk::new(Medium::Loop, "scsi", MIB);
    let early = acceptance::program_with("engine", "engine-before.so", &["-shared", "-fPIC", "-O2"]);
    let early = disk.scratch().copy(&early, "engine-before.so");
    // Set-up takes a while: many names.
    let mut entries = disk.entry();
    for number in 0..200 {
        entries += &format!(":{}/absent{number}=scsi", disk.scratch().directory().display());
    }
    let libraries = format!("{}:{}", disk.scratch().library().display(), early.display());
    for _ in 0..10 {
        let outcome = Run::new(disk.scratch().program("engine"))
            .env("LD_PRELOAD", &libraries)
            .env(names::DEVICES, &entries)
            .env(names::LOG_LEVEL, "-1")
            .env("ENGINE_BEFORE", disk.path())
            .output();
        assert!(outcome.err().contains("answered, forwarded 0\n"), "{}", outcome.err());
    }
}

fn file_size() {
    let disk = Disk::new(Medium::Image, "scsi", MIB);
    let path = disk.path().to_str().expect("ASCII");
    assert_eq!(engine(&disk, &["file-size", path]), "0/0000 7/2707 7/2707 7/2707 \n");
}

/// A message that the limit of a file's size does not let through is dropped.
fn message_beyond_limit() {
    let disk = Disk::new(Medium::Image, "scsi", MIB);
    let log = disk.scratch().path("log");
    let program = disk.scratch().program("sgio");
    let script = format!("ulimit -f 0; exec {} </dev/null 2>{}", program.display(), log.display());
    let outcome = disk.run("sh").args(["-c", &script]).level(10).output();
    assert_eq!(outcome.code(), 0, "{}", outcome.err());
    assert_eq!(fs::read_to_string(&log).expect("the shell made it"), "");
}

fn stack(kind: &'static str) {
    for medium in [Medium::Image, Medium::Loop] {
        let disk = Disk::new(medium, kind, MIB);
        let answer = engine(&disk, &["stack", disk.path().to_str().expect("ASCII")]);
        assert!(answer.lines().count() > 25, "{answer}");
        for line in answer.lines() {
            let bytes: u64 = line.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
            assert!(bytes <= 4096, "{kind}: {line}");
        }
    }
}

fn small_stack(medium: Medium) {
    let disk = Disk::new(medium, "scsi", MIB);
    assert_eq!(engine(&disk, &["small-stack", disk.path().to_str().expect("ASCII")]), "fits\n");
}

/// Root of a user namespace is nobody to a block device.
fn user_namespace() {
    let disk = Disk::new(Medium::Loop, "scsi", MIB);
    let script = format!("open r {}\nout 3 2a000000000900000100 512 ee\n", disk.path().display());
    let run = |program: &Path, words: &[&str]| {
        disk.run(words[0]).args(&words[1..]).arg(program).stdin(script.clone()).output()
    };
    let program = disk.scratch().program("sgio");
    assert_eq!(run(&program, &["env"]).out(), "3\ngood 0\n");
    assert_eq!(run(&program, &["unshare", "-r"]).out(), "3\nEPERM\n");
}

/// The kernel answers FIBMAP on a regular file before any driver sees it.
fn fibmap() {
    let mount = Mount::new("ext4");
    let image = mount.image("image");
    let entry = format!("{}=scsi", image.display());
    let ask = |run: Run| {
        let script = format!("open rw {}\nioctl 3 0x1\n", image.display());
        run.stdin(script).output().expect_out()
    };
    let program = mount.scratch.program("sgio");
    let without = ask(Run::new(&program));
    assert_eq!(without, "3\ngood\n");
    assert_eq!(ask(Run::new(&program).with(&mount.scratch.library(), &entry)), without);
}

/// A descriptor with O_DIRECT on a file system that wants 4096 bytes at once: commands on one block of 512 bytes work.
fn direct_on_large_sectors() {
    let scratch = Scratch::new();
    let device = Loop::attach(&scratch.image("file-system", 64 * MIB), &["--sector-size", "4096"]);
    let made = Run::new("mkfs.ext4").args(["-q", "-F", "-b", "4096"]).arg(device.path()).output();
    assert!(made.success(), "mkfs.ext4: {}", made.err());
    let place = scratch.path("mount");
    fs::create_dir(&place).expect("the directory is ours");
    let mounted = Run::new("mount").arg(device.path()).arg(&place).output();
    assert!(mounted.success(), "mount: {}", mounted.err());
    let mount = Mount { scratch, _device: Some(device) };
    let image = mount.image("image");
    let entry = format!("{}=scsi", image.display());
    let mut sgio =
        Sgio::start(|program| Run::new(program).with(&mount.scratch.library(), &entry), &mount.scratch);
    let fd = sgio.open("rwd", &image);
    assert_eq!(sgio.write(&fd, "2a 00 00 00 00 03 00 00 01 00", 512, 0xee), "good 0");
    assert_eq!(sgio.read(&fd, "28 00 00 00 00 03 00 00 01 00", 512), ("good 0".into(), "ee".repeat(512)));
    assert_eq!(sgio.read(&fd, "28 00 00 00 00 04 00 00 01 00", 512), ("good 0".into(), "5a".repeat(512)));
    let compare =
        format!("give {fd} 89000000000000000003000000010000 {}{}", "ee".repeat(512), "11".repeat(512));
    assert_eq!(sgio.ask(&compare), "good 0");
    assert_eq!(sgio.ask(&format!("out {fd} 8b000000000000000003000000010000 512 22")), "good 0");
    assert_eq!(sgio.read(&fd, "28 00 00 00 00 03 00 00 01 00", 512), ("good 0".into(), "33".repeat(512)));
    let content = fs::read(&image).expect("root can read it");
    assert!(content[1536..2048].iter().all(|&byte| byte == 0x33));
    assert!(content[..1536].iter().chain(&content[2048..]).all(|&byte| byte == 0x5a));
}

/// To preload the library does not switch off shadow stacks (x86-64 alone has them).
fn shadow_stack() {
    if cfg!(target_arch = "x86_64") {
        let notes = Run::new("readelf").arg("-n").arg(Scratch::new().library()).output().expect_out();
        assert!(notes.contains("SHSTK"), "{notes}");
    }
}
