//! Which engine answers a program, and what is said of it.

mod system;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use acceptance::{
    Disk, Medium, Need, Outcome, Run, Scratch, built_command, i386_program, main as harness, program_with,
    trial,
};
use disk::names;
use serde_json::{Value, json};
use system::{CONF, LIBRARY, System, chmod, command, make};

const MIB: u64 = 1 << 20;
const EPERM: i32 = 1;
const EINVAL: i32 = 22;
const ENOTTY: &str = "25\n";
const ENOSYS: i32 = 38;

fn main() -> ExitCode {
    let cc: &[Need] = &[Need::Tool("cc")];
    let musl: &[Need] = &[Need::Tool("musl-gcc"), Need::Tool("cc")];
    let unshare: &[Need] = &[Need::Tool("unshare"), Need::Tool("cc")];
    let installs: &[Need] = &[Need::Devices, Need::Tool("cc"), Need::Tool("make")];
    harness(vec![
        trial("auto/a dynamic program", cc, dynamic),
        trial("auto/a static program", cc, || supervised(&statically(), "it is statically linked")),
        trial("auto/a 32-bit program", cc, i386),
        trial("auto/an ABI that no engine answers", &[], unanswered),
        trial("auto/another C library", musl, || supervised(&on_musl(), "it runs on the C library musl")),
        trial("auto/AddressSanitizer", cc, sanitizer),
        trial("auto/scripts", cc, scripts),
        trial("auto/how much is said", cc, levels),
        trial("auto/no library", cc, no_library),
        trial("auto/under another supervisor", cc, nested),
        trial("auto/seccomp is forbidden", musl, forbidden),
        trial("auto/no /proc of the PID namespace", unshare, no_proc),
        trial("auto/errors", cc, errors),
        trial("auto/set-user-ID programs", installs, set_user_id),
        trial("auto/programs that start others", installs, starters),
        trial("auto/a program that cannot be read", &[Need::Devices, Need::Tool("cc")], unreadable),
        trial("library/a static program", cc, library_alone),
        trial("library/another C library", musl, library_and_musl),
        trial("supervisor/the environment", cc, environment),
        trial("doctor/the engine of each program", musl, doctor),
        trial("probe/by the supervisor", &[], || probe(Medium::Image)),
        trial("probe/by the supervisor, a block device", &[Need::Devices], || probe(Medium::Loop)),
    ])
}

fn image() -> Disk {
    Disk::new(Medium::Image, "scsi", 128 * MIB)
}

/// `programs/address.c`, compiled so.
fn address(name: &str, options: &[&str]) -> PathBuf {
    program_with("address", name, &[&["-O2"], options].concat())
}

fn dynamically() -> PathBuf {
    address("address", &[])
}

fn statically() -> PathBuf {
    address("address-static", &["-static"])
}

fn on_musl() -> PathBuf {
    static COMPILED: Mutex<()> = Mutex::new(());
    let _guard = COMPILED.lock();
    let output = statically().with_file_name("address-musl");
    if !output.exists() {
        let source = system::sources().join("crates/acceptance/programs/address.c");
        Run::new("musl-gcc").args(["-O2", "-o"]).arg(&output).arg(source).output().expect_out();
    }
    output
}

/// The command, whose messages are for programs.
fn run(disk: &Disk) -> Run {
    Run::new(command()).args(["--message-format=json", "run", "--device", &disk.entry()])
}

/// In which no supervisor can be started.
fn sandboxed(run: Run, errno: i32) -> Run {
    run.forbidden("seccomp", errno)
}

/// Asserts that a program is answered, and that nothing else is said than that the supervisor does it.
fn is_supervised(outcome: &Outcome, why: &str) {
    assert_eq!(outcome.expect_out(), "0\n", "{}", outcome.err());
    let messages = outcome.messages();
    assert_eq!((messages.len(), outcome.err().lines().count()), (1, 1), "{}", outcome.err());
    let said = &messages[0];
    assert!(
        said.verdict == "ok" && said.is("supervised", "is answered by the supervisor, because "),
        "{said:?}"
    );
    said.names(why);
}

fn supervised(program: &Path, why: &str) {
    let disk = image();
    let program = disk.scratch().copy(program, "program");
    is_supervised(&run(&disk).arg(&program).arg(disk.path()).output(), why);
    // As an ordinary user, and as text.
    if acceptance::is_root() {
        let command = disk.scratch().command();
        let run = Run::new(command).args(["run", "--device", &disk.entry()]).arg(&program).arg(disk.path());
        let outcome = run.nobody().output();
        assert_eq!(outcome.expect_out(), "0\n");
        let line =
            format!("vmware-bdwrapper: {}: is answered by the supervisor, because {why}", program.display());
        assert!(outcome.err().starts_with(&line) && outcome.err().lines().count() == 1, "{}", outcome.err());
    }
}

/// Nothing is said, and there is no other process.
fn dynamic() {
    let disk = image();
    let library = acceptance::library();
    for engine in [&[][..], &["--engine", "auto"], &["--engine=library"]] {
        let outcome = run(&disk).args(engine).arg(dynamically()).arg(disk.path()).output();
        assert_eq!((outcome.expect_out().as_str(), outcome.err().as_str()), ("0\n", ""));
        let shown = run(&disk).args(engine).args(["sh", "-c", "echo $LD_PRELOAD"]).output();
        assert_eq!(shown.expect_out(), format!("{}\n", library.display()));
    }
    let outcome = run(&disk).arg("--engine=supervisor").arg(dynamically()).arg(disk.path()).output();
    assert_eq!((outcome.expect_out().as_str(), outcome.err().as_str()), ("0\n", ""));
}

fn i386() {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    supervised(&i386_program("address"), "it is a 32-bit program");
}

fn sanitizer() {
    let program = address("address-asan", &["-fsanitize=address"]);
    supervised(&program, "it is built with AddressSanitizer");
    let disk = image();
    let first = Run::new("cc").arg("-print-file-name=libasan.so").output().expect_out();
    let first = run(&disk).env("LD_PRELOAD", first.trim()).arg(&program).arg(disk.path()).output();
    assert_eq!((first.expect_out().as_str(), first.err().as_str()), ("0\n", ""));
}

fn script(disk: &Disk, text: &str) -> PathBuf {
    let path = disk.scratch().path("script");
    fs::write(&path, text).expect("the scratch directory can be written");
    chmod(&path, 0o755);
    path
}

/// What decides is the interpreter, what the script does with LD_PRELOAD, and what it executes.
fn scripts() {
    let disk = image();
    let (dynamic, alone) = (dynamically(), statically());
    let asked = |text: &str| run(&disk).arg(script(&disk, text)).arg(disk.path()).output();
    let plain = asked(&format!("#!/bin/sh\n{} \"$1\"\n", dynamic.display()));
    assert_eq!((plain.expect_out().as_str(), plain.err().as_str()), ("0\n", ""));
    let lost = format!("#!/bin/sh\nunset LD_PRELOAD\n{} \"$1\"\n", dynamic.display());
    is_supervised(&asked(&lost), "it removes LD_PRELOAD in line 2");
    let target = asked(&format!("#!/bin/sh\nexec {} \"$1\"\n", alone.display()));
    is_supervised(&target, &format!("it executes {}, which is statically linked", alone.display()));
    let child = asked(&format!("#!/bin/sh\n{} \"$1\"\n:\n", alone.display()));
    is_supervised(&child, &format!("it executes {}, which is statically linked", alone.display()));
    // The library alone is warned of, too.
    for (text, why) in
        [(format!("exec {}", alone.display()), "executes"), ("unset LD_PRELOAD".into(), "removes LD_PRELOAD")]
    {
        let program = script(&disk, &format!("#!/bin/sh\n{text}\n"));
        let warned = run(&disk).arg("--engine=library").arg(program).arg(disk.path()).output();
        warned.says("preload-lost", why, "'vmware-bdwrapper run' without --engine library");
    }
    // It asks the script itself.
    let interpreter = run(&disk).arg(script(&disk, &format!("#!{}\n", alone.display()))).output();
    assert_eq!(interpreter.expect_out(), ENOTTY);
    interpreter.says("supervised", &format!("it is a script for {}, which is static", alone.display()), "");
    // What a script starts in other ways is not looked for.
    let unseen = asked(&format!("#!/bin/sh\nif {} \"$1\"; then :; fi\n", alone.display()));
    assert_eq!((unseen.expect_out().as_str(), unseen.err().as_str()), (ENOTTY, ""));
}

/// What is not wrong is said as often as warnings are.
fn levels() {
    let disk = image();
    let asked = |run: Run| run.arg(statically()).arg(disk.path()).output();
    for level in ["0", "-1"] {
        for run in [run(&disk).args(["--log-level", level]), run(&disk).env(names::LOG_LEVEL, level)] {
            let outcome = asked(run);
            assert_eq!((outcome.expect_out().as_str(), outcome.err().as_str()), ("0\n", ""), "{level}");
        }
    }
    is_supervised(&asked(run(&disk).args(["--log-level", "10"])), "statically");
}

/// The command alone, away from the library that was built with it.
fn no_library() {
    let disk = image();
    let command = disk.scratch().copy(&built_command(), "vmware-bdwrapper");
    if Run::new(&command)
        .args(["run", "--engine=library", "--device", &disk.entry(), "true"])
        .output()
        .success()
    {
        // It is installed here.
        return;
    }
    let asked = |engine: &str| {
        let run =
            Run::new(&command).args(["--message-format=json", "run", engine, "--device", &disk.entry()]);
        run.arg(dynamically()).arg(disk.path())
    };
    is_supervised(&asked("--engine=auto").output(), "it has no library to load");
    asked("--engine=library").output().refused(126, "not-installed", LIBRARY, "make install");
    sandboxed(asked("--engine=auto"), EPERM).output().refused(126, "not-installed", LIBRARY, "make install");
    let doctor = Run::new(&command).args(["doctor", "--json", "--device", &disk.entry(), "true"]).output();
    doctor.expect_out();
    let found = doctor.findings();
    let missing = found.iter().find(|finding| finding.code == "not-installed").expect("it is not installed");
    assert_eq!(missing.verdict, "warning");
    assert_eq!(engines(&doctor), ["supervisor"]);
    let probe =
        Run::new(&command).args(["--message-format=json", "probe", "--json", "--device", &disk.entry()]);
    let probe = probe.output();
    assert_eq!(probe.document()["engine"], json!("supervisor"), "{}", probe.err());
    probe.says("supervised", "The supervisor answers, because there is no library to load", "");
}

/// The kernel has one supervisor for a process.
fn nested() {
    let disk = image();
    let inner = |engine: &str, program: &Path| {
        let run = run(&disk).args(["--engine=supervisor", "--"]).arg(command()).arg("--message-format=json");
        run.args(["run", engine, "--device", &disk.entry()]).arg(program).arg(disk.path()).output()
    };
    let (words, remedy) = ("another supervisor already receives", "outside the other supervisor");
    inner("--engine=auto", &statically()).refused(126, "unsupported", words, remedy);
    inner("--engine=supervisor", &dynamically()).refused(126, "not-executable", words, remedy);
    assert_eq!(inner("--engine=auto", &dynamically()).expect_out(), "0\n");
}

/// Where no supervisor can be started, what the library reaches is as ever; what it may reach is tried.
fn forbidden() {
    let disk = image();
    let asked = |errno, engine: &str, program: &Path| {
        sandboxed(run(&disk).arg(engine).arg(program).arg(disk.path()), errno).output()
    };
    for (errno, words, remedy) in [
        (
            EPERM,
            "seccomp(2) is not allowed here: Operation not permitted",
            "outside the container or sandbox",
        ),
        (EINVAL, "Linux 5.19 has them", "Linux 5.19 or newer"),
        (ENOSYS, "Linux 5.19 has them", "Linux 5.19 or newer"),
    ] {
        let alone = asked(errno, "--engine=auto", &statically());
        alone.refused(126, "unsupported", words, remedy);
        let why = "is statically linked and loads no library, and no supervisor";
        alone.says("unsupported", why, "or use a disk of the kernel instead, by tcm_loop");
        let doctor = Run::new(command()).args(["doctor", "--device", &disk.entry()]).arg(statically());
        let out = sandboxed(doctor, errno).output().out();
        assert!(out.contains("by tcm_loop (docs/alternatives.md)"), "{out}");
        assert_eq!(alone.messages().len(), 1, "{}", alone.err());
        let given = asked(errno, "--engine=supervisor", &dynamically());
        given.refused(126, "not-executable", words, remedy);
        let dynamic = asked(errno, "--engine=auto", &dynamically());
        assert_eq!((dynamic.expect_out().as_str(), dynamic.err().as_str()), ("0\n", ""));
    }
    // As a security module (Yama) forbids it.
    let unread = run(&disk).arg(statically()).arg(disk.path()).forbidden("process_vm_readv", EPERM).output();
    let words = "the memory of other processes cannot be read: Operation not permitted";
    unread.refused(126, "unsupported", words, "kernel.yama.ptrace_scope=1");
    let musl = asked(EPERM, "--engine=auto", &on_musl());
    musl.expect_out();
    musl.says("unsupported", "runs on the C library musl, with which the library is not tested", "trace");
    let text = format!("#!/bin/sh\nunset LD_PRELOAD\n{} \"$1\"\n", dynamically().display());
    assert_eq!(asked(EPERM, "--engine=auto", &script(&disk, &text)).expect_out(), ENOTTY);
    let probe = Run::new(command()).args(["--message-format=json", "probe", "--engine=supervisor"]);
    let probe = sandboxed(probe.args(["--device", &disk.entry()]), EPERM).output();
    probe.refused(126, "not-executable", "The supervisor cannot be started", "outside the container");
}

/// What the library reaches is answered all the same.
fn no_proc() {
    let disk = image();
    let asked = |words: &[&str], program: &Path| {
        let run = Run::new("unshare").args(["--map-root-user", "--mount", "--pid", "--fork"]).arg(command());
        run.arg("--message-format=json").args(words).args(["--device", &disk.entry()]).arg(program)
    };
    let (words, remedy) = ("no /proc of this PID namespace", "'mount -t proc proc /proc'");
    let alone = asked(&["run"], &statically()).arg(disk.path()).output();
    alone.refused(126, "unsupported", words, remedy);
    assert_eq!(alone.messages().len(), 1, "{}", alone.err());
    let given = asked(&["run", "--engine=supervisor"], &dynamically()).arg(disk.path()).output();
    given.refused(126, "not-executable", words, remedy);
    let dynamic = asked(&["run"], &dynamically()).arg(disk.path()).output();
    assert_eq!((dynamic.expect_out().as_str(), dynamic.err().as_str()), ("0\n", ""));
    let doctor = asked(&["doctor", "--json"], &statically()).output();
    assert_eq!((doctor.code(), engines(&doctor)), (1, vec![String::new()]), "{}", doctor.out());
}

/// The head of an x32 program (elf(5)): class 1, and the machine of this command.
fn unanswered() {
    let disk = image();
    let own = fs::read(command()).expect("it can be read");
    let mut head = vec![0; 52];
    head[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    head[16..20].copy_from_slice(&own[16..20]);
    (head[20], head[40]) = (1, 52);
    let program = disk.scratch().path("program");
    fs::write(&program, head).expect("the scratch directory can be written");
    chmod(&program, 0o755);
    let refused = run(&disk).arg(&program).output();
    refused.refused(126, "unsupported", "is a 32-bit program of an ABI that is not answered", "built for");
}

/// What is wrong with the command line is the same whatever answers.
fn errors() {
    let disk = image();
    let text = disk.scratch().path("text");
    fs::write(&text, "no program\n").expect("the scratch directory can be written");
    for engine in ["auto", "library", "supervisor"] {
        let asked = |device: &str, program: &Path| {
            let run = Run::new(command()).args(["--message-format=json", "run", "--engine", engine]);
            run.args(["--device", device]).arg(program).output()
        };
        asked("=scsi", &statically()).refused(2, "bad-entry", "is not an absolute path", "");
        let absent = asked(&disk.entry(), Path::new("no-such-program"));
        absent.refused(127, "program-not-found", "no-such-program", "");
        asked(&disk.entry(), &text).refused(126, "not-executable", "Permission denied", "");
        let script = script(&disk, "#!/no/such/shell\n");
        asked(&disk.entry(), &script).refused(126, "not-executable", "/no/such/shell", "");
    }
    Run::new(command())
        .args(["--message-format=json", "run", "--engine=other", "-d", &disk.entry(), "true"])
        .output()
        .refused(2, "usage", "other", "");
}

/// Their rights are lost under the supervisor of an ordinary user, so that the library is asked for first.
fn set_user_id() {
    let system = System::clean();
    let scratch = Scratch::below(Path::new("/usr/local/lib"));
    let (dynamic, alone) = (scratch.copy(&dynamically(), "dynamic"), scratch.copy(&statically(), "alone"));
    chmod(&dynamic, 0o4755);
    chmod(&alone, 0o4755);
    let image = scratch.image("image", 128 * MIB);
    let entry = format!("{}=scsi", image.display());
    let command = scratch.copy(&built_command(), "vmware-bdwrapper");
    let run = |options: &[&str], program: &Path| {
        let run = Run::new(&command).args(["--message-format=json", "run", "--device", &entry]);
        run.args(options).arg(program).arg(&image)
    };
    let asked = |options: &[&str], program: &Path| run(options, program).nobody().output();
    let by_root = |program: &Path| {
        format!("sudo vmware-bdwrapper run --engine supervisor --device {entry} -- {}", program.display())
    };
    let no_rights = "under your supervisor it would not have its rights";
    let refused = asked(&[], &alone);
    refused.refused(126, "unsupported", "is statically linked and loads no library", &by_root(&alone));
    refused.says("unsupported", no_rights, "supervise nobody");
    // What root could set up does not help.
    let refused = asked(&["--engine=library"], &alone);
    refused.refused(126, "unsupported", "is statically linked and loads no library", &by_root(&alone));
    refused.says("unsupported", no_rights, "");
    assert!(refused.messages().len() == 1 && !refused.err().contains("setup"), "{}", refused.err());
    let missing = asked(&[], &dynamic);
    missing.refused(126, "not-ready", "would not find the devices", &by_root(&dynamic));
    missing.says("not-installed", LIBRARY, "make install");
    // Where the user says so, they run, and what is lost is said.
    for (program, remedy) in [(&alone, &*by_root(&alone)), (&dynamic, "use --engine library")] {
        let forced = asked(&["--engine=supervisor"], program);
        assert_eq!(forced.expect_out(), "0\n");
        forced.says("permission-denied", "run with your own rights under your supervisor", remedy);
        assert_eq!(forced.messages().len(), 1, "{}", forced.err());
    }
    // As what a script starts, as far as that is known.
    let launcher = scratch.path("launcher");
    for text in
        ["#!/bin/sh\n# Starts VMware.\nexit\n".into(), format!("#!/bin/sh\nexec {}\n", dynamic.display())]
    {
        fs::write(&launcher, text).expect("the scratch directory can be written");
        chmod(&launcher, 0o755);
        let forced = asked(&["--engine=supervisor"], &launcher);
        forced.says(
            "permission-denied",
            "run with your own rights under your supervisor",
            "--engine library",
        );
    }
    let judged = |program: &Path| {
        let run = Run::new(&command).args(["doctor", "--json", "--device", &entry]).arg(program);
        run.nobody().output()
    };
    let found = judged(&alone);
    assert_eq!(engines(&found), [""]);
    let problem = |outcome: &Outcome| outcome.findings().into_iter().find(|found| found.verdict == "problem");
    assert!(
        problem(&found)
            .is_some_and(|found| found.text.contains(no_rights) && found.remedy.contains(&by_root(&alone)))
    );
    assert!(!found.out().contains("setup --setuid"), "{}", found.out());
    let found = judged(&dynamic);
    assert_eq!(engines(&found), [""]);
    let instead = |outcome: &Outcome| {
        outcome.findings().iter().any(|finding| finding.remedy.contains(&by_root(&dynamic)))
    };
    assert!(instead(&found), "{}", found.out());
    by_roots_supervisor(&image, &judged, &[&alone, &dynamic]);
    make(["install"]).expect_out();
    fs::write(CONF, format!("executable {}\ndevice {entry}\n", dynamic.display())).expect("root can");
    let works = asked(&[], &dynamic);
    assert_eq!((works.expect_out().as_str(), works.err().as_str()), ("0\n", ""));
    let found = judged(&dynamic);
    assert!(engines(&found) == ["library"] && !instead(&found), "{}", found.out());
    // Root's own programs have no other rights.
    is_supervised(&run(&[], &alone).output(), "statically linked");
    drop(system);
}

/// doctor knows what the file permits the user by sudo, as far as the user may read it.
fn by_roots_supervisor(image: &Path, judged: &impl Fn(&Path) -> Outcome, programs: &[&Path]) {
    let conf = |text: &str| {
        fs::write(CONF, text).expect("root can write to /etc");
        chmod(Path::new(CONF), 0o644);
    };
    let device = format!("device {}=scsi", image.display());
    for program in programs {
        let engines_of = |outcome: &Outcome| (outcome.document()["ready"] == json!(true), engines(outcome));
        for lines in ["supervise nobody", "supervise %nogroup"] {
            conf(&format!("{lines}\n{device}\n"));
            let ready = judged(program);
            assert_eq!(engines_of(&ready), (true, vec!["supervisor".to_owned()]), "{}", ready.out());
            let conclusion = ready.document()["conclusion"].to_string();
            assert!(conclusion.contains("Start it: sudo vmware-bdwrapper run --engine supervisor "));
        }
        for (lines, missing) in [
            ("supervise nobody\n".to_owned(), &*device),
            (format!("{device}\nsupervise root\n"), "supervise nobody"),
        ] {
            conf(&lines);
            let lacking = judged(program);
            assert_eq!(engines_of(&lacking), (false, vec![String::new()]), "{}", lacking.out());
            let said = lacking.findings().iter().any(|finding| {
                finding.remedy.contains(&format!("add the line '{missing}'"))
                    && finding.remedy.contains(" | sudo tee -a /etc/vmware-bdwrapper.conf")
            });
            assert!(said, "{}", lacking.out());
        }
        chmod(Path::new(CONF), 0o600);
        let unread = judged(program);
        assert_eq!(engines_of(&unread), (false, vec![String::new()]), "{}", unread.out());
        let said = unread.findings().iter().any(|finding| {
            finding.text.contains("supervisor that root starts; whether it is cannot be determined")
                && finding.text.contains("you may not read it")
        });
        assert!(said, "{}", unread.out());
    }
    fs::remove_file(CONF).expect("it is there");
}

/// A program that its user may execute and not read.
fn unreadable() {
    let system = System::clean();
    let disk = image();
    let command = disk.scratch().command();
    let program = disk.scratch().copy(&statically(), "program");
    chmod(&program, 0o711);
    // Without a library nothing answers it.
    let absent = Run::new(&command).args(["--message-format=json", "run", "--device", &disk.entry()]);
    absent.arg(&program).nobody().output().refused(126, "not-installed", LIBRARY, "make install");
    fs::copy(acceptance::library(), command.with_file_name("libvmware_bdwrapper.so")).expect("it is ours");
    let run = |words: &[&str]| {
        let run = Run::new(&command).arg("--message-format=json").args(words);
        run.args(["--device", &disk.entry()]).arg(&program).arg(disk.path()).nobody().output()
    };
    let remedy = "sudo vmware-bdwrapper run --engine supervisor --device";
    let guessed = run(&["run"]);
    assert_eq!(guessed.expect_out(), ENOTTY);
    guessed.says("unknown", "cannot be read, so what it needs is unknown", remedy);
    let supervised = run(&["run", "--engine=supervisor"]);
    assert_eq!(supervised.expect_out(), "1\n");
    supervised.says("permission-denied", "cannot be read, so your supervisor cannot answer it", remedy);
    let doctor = || {
        let run = Run::new(&command).args(["doctor", "--json", "--device", &disk.entry()]);
        run.arg(&program).nobody().output()
    };
    let found = doctor();
    assert_eq!((found.document()["ready"].clone(), engines(&found)), (json!(false), vec![String::new()]));
    let said = found.findings().iter().any(|finding| {
        finding.text.contains("cannot be read, so what it needs is unknown")
            && finding.remedy.contains(remedy)
    });
    assert!(said, "{}", found.out());
    fs::write(CONF, format!("supervise nobody\ndevice {}\n", disk.entry())).expect("root can");
    chmod(Path::new(CONF), 0o644);
    let found = doctor();
    assert_eq!(
        (found.document()["ready"].clone(), engines(&found)),
        (json!(true), vec!["supervisor".to_owned()])
    );
    drop(system);
}

/// Root's sudo cleans the environment, and stays in the tree.
fn starters() {
    let disk = image();
    let program =
        script(&disk, &format!("#!/bin/sh\nunset LD_PRELOAD\nexec {} \"$1\"\n", dynamically().display()));
    let sudo = disk.scratch().copy(&program, "sudo");
    let outcome = run(&disk).arg(&sudo).arg(disk.path()).output();
    is_supervised(&outcome, "it starts programs without LD_PRELOAD");
}

/// It is started all the same, and what would answer it is said.
fn library_alone() {
    let disk = image();
    let asked = run(&disk).arg("--engine=library").arg(statically()).arg(disk.path());
    let outcome = asked.output();
    assert_eq!(outcome.expect_out(), ENOTTY);
    outcome.says("unsupported", "is statically linked", "'vmware-bdwrapper run' without --engine library");
    let asked = run(&disk).arg("--engine=library").arg(statically()).arg(disk.path());
    sandboxed(asked, EPERM).output().says("unsupported", "is statically linked", "is linked dynamically");
}

/// The library may answer it.
fn library_and_musl() {
    let disk = image();
    let outcome = run(&disk).arg("--engine=library").arg(on_musl()).arg(disk.path()).output();
    outcome.says("unsupported", "runs on the C library musl", "without --engine library");
}

/// The library is left out by whatever name, and nothing else is.
fn environment() {
    let disk = image();
    let nothing = program_with("secure-nothing", "nothing.so", &["-shared", "-fPIC"]);
    let other = nothing.display().to_string();
    let built = acceptance::library().display().to_string();
    let shown = |preload: &str| {
        let run = run(&disk).arg("--engine=supervisor").args([
            "sh",
            "-c",
            "echo \"$LD_PRELOAD|$OTHER|$VMWARE_BDWRAPPER_DEVICES$VMWARE_BDWRAPPER_LOG_LEVEL\"",
        ]);
        let run = run.env("LD_PRELOAD", preload).env("OTHER", "1").env(names::LOG_LEVEL, "0");
        run.env(names::DEVICES, "/ignored=scsi").output().out()
    };
    for ours in [
        LIBRARY,
        &built,
        &disk.scratch().library().display().to_string(),
        "/usr/$LIB/libvmware-bdwrapper.so.0",
    ] {
        assert_eq!(shown(ours), "|1|\n", "{ours}");
        assert_eq!(shown(&format!("{other}:{ours}")), format!("{other}|1|\n"), "{ours}");
        assert_eq!(shown(&format!("{ours} {other}")), format!("{other}|1|\n"), "{ours}");
    }
}

/// The engines of the programs that doctor has examined; empty where nothing answers one.
fn engines(outcome: &Outcome) -> Vec<String> {
    let document = outcome.document();
    let programs = document["programs"].as_array().expect("a list");
    programs.iter().map(|program| program["engine"].as_str().unwrap_or_default().to_owned()).collect()
}

fn doctor() {
    let disk = image();
    let asked = |program: &Path| {
        Run::new(command()).args(["doctor", "--json", "--device", &disk.entry()]).arg(program)
    };
    let said = |outcome: &Outcome, words: &str| {
        let found = outcome.document()["checks"].clone();
        let found =
            found.as_array().expect("a list").iter().filter(|found| found["check"] == json!("engine"));
        found.filter(|found| found["text"].as_str().is_some_and(|text| text.contains(words))).count()
    };
    let sandbox = "permits a supervisor, which answers programs that cannot load the library";
    for (program, engine, words) in [
        (dynamically(), "library", "is answered by the library"),
        (statically(), "supervisor", "is answered by the supervisor, because it is statically linked"),
        (on_musl(), "supervisor", "is answered by the supervisor, because it runs on the C library musl"),
    ] {
        let outcome = asked(&program).output();
        outcome.expect_out();
        assert_eq!(outcome.document()["ready"], json!(true), "{}", outcome.out());
        assert_eq!(
            (engines(&outcome), said(&outcome, words)),
            (vec![engine.to_owned()], 1),
            "{}",
            outcome.out()
        );
        assert_eq!(said(&outcome, sandbox), 1, "{}", outcome.out());
        // What it says to run answers.
        let conclusion = outcome.document()["conclusion"].as_str().expect("a text").to_owned();
        let (_, start) =
            conclusion.rsplit_once("Start it: vmware-bdwrapper ").expect("it says how to start it");
        let start = format!("{} {start} {}", command().display(), disk.path().display());
        assert_eq!(Run::new("bash").args(["-c", &start]).output().expect_out(), "0\n");
    }
    // What a script starts is answered by the script's engine.
    for (text, wanted) in [
        (format!("#!/bin/sh\nexec {}\n", statically().display()), ["supervisor", "supervisor"]),
        (
            format!("#!/bin/sh\nunset LD_PRELOAD\nexec {}\n", dynamically().display()),
            ["supervisor", "supervisor"],
        ),
        (format!("#!/bin/sh\nexec {}\n", dynamically().display()), ["library", "library"]),
    ] {
        let outcome = asked(&script(&disk, &text)).output();
        outcome.expect_out();
        assert_eq!(engines(&outcome), wanted, "{}", outcome.out());
    }
    let outcome = sandboxed(asked(&statically()), EPERM).output();
    assert_eq!((outcome.code(), engines(&outcome)), (1, vec![String::new()]), "{}", outcome.out());
    assert_eq!(said(&outcome, "permits no supervisor here (seccomp(2) is not allowed here"), 1);
    let outcome = sandboxed(asked(&dynamically()), EPERM).output();
    assert_eq!((outcome.code(), engines(&outcome)), (0, vec!["library".to_owned()]), "{}", outcome.out());
}

/// The same report, whatever answers.
fn probe(medium: Medium) {
    for kind in ["scsi", "ide", "sata"] {
        let disk = Disk::new(medium, kind, 128 * MIB);
        let asked = |options: &[&str]| {
            let outcome =
                Run::new(command()).args(["probe", "--device", &disk.entry()]).args(options).output();
            assert_eq!((outcome.code(), outcome.err().as_str()), (0, ""), "{kind}");
            outcome
        };
        let (auto, library) = (asked(&[]), asked(&["--engine=library"]));
        assert_eq!(auto.out(), library.out());
        let supervisor = asked(&["--engine=supervisor"]);
        assert_eq!(supervisor.out().replacen(", by the supervisor:", ":", 1), library.out());
        let documents = ["library", "supervisor"].map(|engine| {
            let mut document = asked(&["--json", "--engine", engine]).document();
            assert_eq!(document["engine"].take(), json!(engine));
            document
        });
        assert!(documents[0] == documents[1] && documents[0]["devices"] != Value::Null);
    }
}
