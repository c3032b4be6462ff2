//! The supervisor: the trials of the library on the other engine, and what only a supervisor can do.

#[expect(dead_code, reason = "its main function is not called")]
mod ata;
mod copies;
#[expect(dead_code, reason = "its main function is not called")]
mod golden;
#[expect(dead_code, reason = "its main function is not called")]
mod preload;
#[expect(dead_code, reason = "its main function is not called")]
mod programs;
#[expect(dead_code, reason = "its main function is not called")]
mod promises;
#[expect(dead_code, reason = "its main function is not called")]
mod scale;
#[expect(dead_code, reason = "its main function is not called")]
mod scsi;
#[expect(dead_code, reason = "its main function is not called")]
mod trace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{
    Disk, Engine, Loop, Medium, Need, Outcome, Run, Scratch, Session, group, main as harness, parent,
    statically_linked, test_engine, trial, wait_for,
};

const MIB: u64 = 1 << 20;

/// Trials of the files above that are about the library itself, by the beginnings of their names, and
/// why the supervisor has nothing to do with them. Where it answers otherwise than the library, a
/// trial says so itself (`by_engine`).
const OF_THE_LIBRARY: [(&str, &str); 18] = [
    ("preload/early/", "constructors that run before the library's"),
    ("preload/others/a-second-preload-library", "interposed functions"),
    ("preload/others/request-numbers-of-the-kernel-headers", "the core's, which both have"),
    ("preload/entries/same-kind-twice", ENTRIES),
    ("preload/entries/many", ENTRIES),
    ("preload/entries/bad", ENTRIES),
    ("preload/level/default-is-silent", ENTRIES),
    ("preload/level/minus-one", ENTRIES),
    ("preload/level/errors-only", ENTRIES),
    ("preload/level/start-up", ENTRIES),
    ("preload/level/each-includes-those-below", ENTRIES),
    ("preload/level/not-a-number", ENTRIES),
    ("preload/level/one-write-per-line", ENTRIES),
    ("preload/level/100-", "the supervisor sees no open(2), dup(2) and close(2)"),
    ("promises/set-up/", "threads that ask before the library's constructor has run"),
    ("promises/process/message-beyond-limit", "the library's messages are written by the program"),
    ("promises/library/", "the library's file"),
    ("scale/the last device", "instructions of the program"),
];

const ENTRIES: &str = "entries that the library reads; the command reads the supervisor's";

/// Files of this directory whose trials do not run here, and why.
const OTHER_FILES: [(&str, &str); 23] = [
    ("add", COMMAND),
    ("choice", COMMAND),
    ("command", COMMAND),
    ("completions", COMMAND),
    ("crash", "in the virtual machine"),
    ("deps", "the tools of the tests"),
    ("devices", "in the virtual machine"),
    ("doctor", COMMAND),
    ("documents", "what the documents say"),
    ("engines", "it tests both engines itself"),
    ("failure", "what a supervisor alone lacks"),
    ("hypervisor", "it tests both engines itself"),
    ("install", "what is installed"),
    ("isolation", "the tests themselves"),
    ("jobs", "it tests both engines itself"),
    ("library", "the library's file"),
    ("link", COMMAND),
    ("packages", "what is installed"),
    ("reservations", "what a supervisor alone has"),
    ("secure", "the library in set-user-ID programs, and its file of settings"),
    ("snapshots", COMMAND),
    ("sudo", "what a supervisor of root's alone does"),
    ("vmdk", COMMAND),
];
const COMMAND: &str = "the command";

fn main() -> ExitCode {
    test_engine(Engine::Supervisor);
    let cc: &[Need] = &[Need::Tool("cc")];
    let root: &[Need] = &[Need::Tool("cc"), Need::Devices];
    let mut trials = vec![
        trial("programs/static", cc, static_program),
        trial("programs/a descriptor table for each thread", cc, || same(&["table"], "answered\nENOTTY\n")),
        trial("programs/the first thread has ended", cc, || same(&["leader"], "answered\n")),
        trial("programs/descriptors that cannot be asked", cc, || descriptors(Medium::Image)),
        trial("programs/descriptors of a device that cannot be asked", root, || descriptors(Medium::Loop)),
        trial("programs/many", cc, || same(&["many", "1000"], "0\n")),
        trial("programs/set-user-ID", root, set_user_id),
        trial("end/the exit status is the program's", &[], exit_status),
        trial("end/the program is killed", &[], killed),
        trial("end/what the program leaves is answered", cc, outlived),
        trial("end/the supervisor is killed", cc, supervisor_killed),
        trial("end/the supervisor is stopped", cc, supervisor_stopped),
        trial("end/the front is killed", &[], front_killed),
        trial("end/not started", &[], not_started),
        trial("signals/sent to the command", &[], signals),
        trial("signals/a stopped job", &[], stopped),
        trial("signals/a storm", cc, storm),
        trial("waiting/for another call", root, || blocked("serve", "status 0, byte 1\n")),
        trial("waiting/killed", root, || blocked("kill", "signal 9\nanswered\nbyte 0\n")),
        trial("waiting/another process gets the number", root, || blocked("reuse", "signal 9\nvictim 0\n")),
        trial("waiting/for memory", root, || same(&["stalled"], &"answered\n".repeat(8))),
        trial("environment", &[], environment),
        trial("files/the supervisor holds none", root, holds_no_file),
        trial("parity/every file", &[], every_file),
        trial("parity/every documented difference", &[], every_difference),
    ];
    trials.extend(group("copies", copies::trials));
    let mut shared = Vec::new();
    shared.extend(group("ata", ata::trials));
    shared.extend(group("golden", golden::trials));
    shared.extend(group("golden/i386", golden::i386_trials));
    shared.extend(group("preload", preload::trials));
    shared.extend(group("programs", programs::trials));
    shared.extend(group("promises", promises::trials));
    shared.extend(group("scale", scale::trials));
    shared.extend(group("scsi", scsi::trials));
    shared.extend(group("trace", trace::trials));
    for (name, why) in OF_THE_LIBRARY {
        let before = shared.len();
        shared.retain(|trial| !trial.name().starts_with(name));
        assert!(shared.len() < before, "{name} ({why}): there is no such trial");
    }
    trials.extend(shared);
    harness(trials)
}

/// The sources of the trials.
fn sources() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let entries = fs::read_dir(directory).expect("it holds this file");
    let sources = entries.map(|entry| entry.expect("it can be read").path()).filter_map(|path| {
        let name = path.file_stem()?.to_str()?.to_owned();
        let file = if path.is_dir() { path.join("main.rs") } else { path };
        Some((name, fs::read_to_string(file).ok()?))
    });
    sources.collect()
}

/// Each file of trials is run here, or does not apply for a reason.
fn every_file() {
    let own = include_str!("supervisor.rs");
    for (name, _) in sources() {
        let is_run = own.contains(&format!("\nmod {name};\n"));
        let is_other = OTHER_FILES.iter().any(|(other, _)| *other == name);
        assert!(is_run != is_other || name == "supervisor", "{name}: run it here, or say why not");
    }
}

/// Each row of the table of differences is one that a trial finds.
fn every_difference() {
    let text = include_str!("../../../docs/differences.md");
    let table = text.split("\n## Engines\n").nth(1).expect("it has the section");
    let table = table.split("\n## ").next().expect("it has text");
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| ")).skip(1).collect();
    assert!(!rows.is_empty(), "there is no row in {table}");
    for row in rows {
        let what = row.split(" | ").next().expect("it has a cell");
        let call = format!("by_engine(\"{what}\"");
        let is_found = sources().iter().any(|(_, source)| {
            let words: Vec<&str> = source.split_whitespace().collect();
            words.join(" ").replace("( ", "(").contains(&call)
        });
        assert!(is_found, "{what}: no trial finds it");
    }
}

/// `programs/supervised.c`, which no library reaches.
fn supervised(scratch: &Scratch) -> PathBuf {
    scratch.copy(&statically_linked("supervised"), "supervised")
}

fn image() -> Disk {
    Disk::new(Medium::Image, "scsi", MIB)
}

/// What a command of `programs/supervised.c` prints.
fn asked(disk: &Disk, words: &[&str]) -> Outcome {
    disk.run(supervised(disk.scratch())).args(words).arg(disk.path()).output()
}

fn same(words: &[&str], wanted: &str) {
    assert_eq!(asked(&image(), words).expect_out(), wanted);
}

fn static_program() {
    let (disk, other) = (image(), image());
    // Devices that are not listed are the kernel's.
    let run = disk.run(supervised(disk.scratch())).arg("idlun").arg(disk.path()).arg(other.path());
    let outcome = run.output();
    assert_eq!((outcome.expect_out().as_str(), outcome.err().as_str()), ("answered\nENOTTY\n", ""));
    // A shell, and what it starts in the background, twice removed.
    let script = "\"$0\" idlun \"$1\" & wait; (\"$0\" idlun \"$1\" &)";
    let run = disk.run("sh").args(["-c", script]).arg(supervised(disk.scratch())).arg(disk.path());
    assert_eq!(run.output().expect_out(), "answered\nanswered\n");
}

fn descriptors(medium: Medium) {
    assert_eq!(
        asked(&Disk::new(medium, "scsi", MIB), &["descriptors"]).expect_out(),
        "O_PATH EBADF\nclosed EBADF\nO_DIRECT answered\nbad address EFAULT\nconstant EFAULT\n",
    );
}

/// An ordinary user's programs can gain no rights, which is said.
fn set_user_id() {
    let disk = image();
    let program = disk.scratch().copy(&supervised(disk.scratch()), "set-user-id");
    Run::new("chmod").arg("4755").arg(&program).output().expect_out();
    let outcome = disk.run(&program).arg("idlun").arg(disk.path()).nobody().output();
    assert_eq!(outcome.expect_out(), "answered\n");
    let said = outcome.err();
    assert!(
        said.contains("run with your own rights under your supervisor") && said.lines().count() == 1,
        "{said}"
    );
    let outcome = disk.run(&program).arg("idlun").arg(disk.path()).output();
    assert_eq!((outcome.expect_out().as_str(), outcome.err().as_str()), ("answered\n", ""));
}

fn exit_status() {
    for status in [0, 1, 77, 255] {
        let disk = image();
        let outcome = disk.run("sh").args(["-c", &format!("cat; exit {status}")]).stdin("text").output();
        assert_eq!((outcome.code(), outcome.out().as_str(), outcome.err().as_str()), (status, "text", ""));
    }
}

fn killed() {
    use std::os::unix::process::ExitStatusExt;
    for signal in [1, 2, 3, 6, 9, 11, 15] {
        let disk = image();
        let outcome = disk.run("sh").args(["-c", &format!("kill -{signal} $$")]).default_signals().output();
        assert_eq!(outcome.status.signal(), Some(signal), "{}", outcome.err());
    }
}

fn exists(process: &str) -> bool {
    Path::new("/proc").join(process).exists()
}

fn kill(signal: &str, process: &str) {
    Run::new("kill").args([signal, process]).output().expect_out();
}

fn state(process: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// The program ends before another one that it has started: its status is reported at once, the other
/// is answered, and the supervisor ends behind that.
fn outlived() {
    let disk = image();
    let program = supervised(disk.scratch());
    let (request, answer) = (disk.scratch().path("request"), disk.scratch().path("answer"));
    Run::new("mkfifo").arg(&request).output().expect_out();
    let script = format!(
        "{{ exec >{} 2>&1; exec <{}; \"$0\" lines \"$1\"; }} & echo $PPID; exit 3",
        answer.display(),
        request.display()
    );
    let outcome = disk.run("sh").args(["-c", &script]).arg(program).arg(disk.path()).output();
    assert_eq!((outcome.code(), outcome.err().as_str()), (3, ""));
    let supervisor = outcome.out().trim().to_owned();
    assert!(exists(&supervisor), "the supervisor has not waited");
    fs::write(&request, "ask\n").expect("the program reads it");
    wait_for("an end of the supervisor", || (!exists(&supervisor)).then_some(()));
    assert_eq!(fs::read_to_string(&answer).expect("it was written"), "answered\n");
}

fn supervisor_killed() {
    let disk = image();
    let script = "echo $$; \"$0\" lines \"$1\"; exit 5";
    let run = disk.run("sh").args(["-c", script]).arg(supervised(disk.scratch())).arg(disk.path());
    let mut session = run.start(&disk.scratch().path("stderr"));
    let program = session.line();
    let supervisor = parent(&program);
    assert_eq!(session.ask("ask"), "answered");
    kill("-KILL", &supervisor);
    wait_for("a message", || session.err().contains("has lost its supervisor").then_some(()));
    // What asks a disk fails, and is not passed on.
    assert_eq!(session.ask("ask"), "ENOSYS");
    assert_eq!(session.end_with(), 5);
}

/// A call waits for the supervisor; SIGKILL ends the wait, and the program.
fn supervisor_stopped() {
    let disk = image();
    let script = "echo $$; exec \"$0\" lines \"$1\"";
    let run = disk.run("sh").args(["-c", script]).arg(supervised(disk.scratch())).arg(disk.path());
    let mut session = run.start(&disk.scratch().path("stderr"));
    let program = session.line();
    let supervisor = parent(&program);
    let front = parent(&supervisor);
    let ioctl_waits = || {
        let call = fs::read_to_string(format!("/proc/{program}/syscall")).ok()?;
        let ioctl = if cfg!(target_arch = "x86_64") { "16 " } else { "29 " };
        call.starts_with(ioctl).then_some(())
    };
    for _ in 0..2 {
        kill("-STOP", &supervisor);
        wait_for("a stopped supervisor", || (state(&supervisor) == Some('T')).then_some(()));
        session.send("ask");
        wait_for("a call", ioctl_waits);
        kill("-CONT", &supervisor);
        assert_eq!(session.line(), "answered");
    }
    kill("-STOP", &supervisor);
    wait_for("a stopped supervisor", || (state(&supervisor) == Some('T')).then_some(()));
    session.send("ask");
    wait_for("a call", ioctl_waits);
    kill("-KILL", &program);
    wait_for("an end of the program", || (state(&program) == Some('Z')).then_some(()));
    kill("-CONT", &supervisor);
    wait_for("an end of the command", || matches!(state(&front), None | Some('Z')).then_some(()));
}

fn front_killed() {
    let disk = image();
    let mut session = disk.run("sh").args(["-c", "echo $$; read line"]).start(&disk.scratch().path("stderr"));
    let program = session.line();
    let supervisor = parent(&program);
    let front = parent(&supervisor);
    kill("-KILL", &front);
    // As the program itself would have been.
    wait_for("an end of the program", || (!exists(&program)).then_some(()));
    wait_for("an end of the supervisor", || (!exists(&supervisor)).then_some(()));
}

fn not_started() {
    let disk = image();
    let file = disk.scratch().path("program");
    fs::write(&file, "#!/nonexistent\n").expect("the scratch directory can be written");
    Run::new("chmod").arg("755").arg(&file).output().expect_out();
    let outcome = disk.run(&file).output();
    assert_eq!(outcome.code(), 126, "{}", outcome.err());
    let outcome = disk.run("/nonexistent/program").output();
    assert_eq!(outcome.code(), 127, "{}", outcome.err());
    // A supervisor inside another one.
    let command = disk.scratch().command();
    let options = ["run", "--engine", "supervisor", "--device", &disk.entry(), "--", "true"];
    let outcome = disk.run(command).args(options).output();
    assert_eq!(outcome.code(), 126);
    assert!(outcome.err().contains("another supervisor already receives"), "{}", outcome.err());
}

fn signals() {
    for (signal, caught) in [("TERM", true), ("HUP", true), ("USR1", true), ("INT", true), ("TERM", false)] {
        let disk = image();
        let trap = if caught { format!("trap 'echo caught; exit 4' {signal};") } else { String::new() };
        let script = format!("{trap} echo $$; while :; do sleep 0.01; done");
        let run = disk.run("sh").args(["-c", &script]).default_signals();
        let mut session = run.start(&disk.scratch().path("stderr"));
        let program = session.line();
        let front = parent(&parent(&program));
        kill(&format!("-{signal}"), &front);
        if caught {
            assert_eq!(session.line(), "caught", "{signal}");
            assert_eq!(session.end_with(), 4, "{signal}");
        } else {
            wait_for("an end of the program", || (!exists(&program)).then_some(()));
        }
    }
}

/// As a shell does it with a job.
fn stopped() {
    let disk = image();
    let run = disk.run("sh").args(["-c", "echo $$; while read line; do echo $line; done"]);
    let mut session = run.job().start(&disk.scratch().path("stderr"));
    let program = session.line();
    let front = parent(&parent(&program));
    let both_are = |session: &Session, wanted: &[char]| {
        let state_of = |process: &str| {
            state(process)
                .unwrap_or_else(|| panic!("{process} of {program} and {front} has ended: {}", session.err()))
        };
        [&program, &front].iter().all(|process| wanted.contains(&state_of(process))).then_some(())
    };
    // The program alone, as an interactive one does it; then by the command.
    for (process, signal) in [(&program, "-STOP"), (&front, "-TSTP"), (&program, "-TSTP")] {
        kill(signal, process);
        wait_for("a stopped job", || both_are(&session, &['T']));
        kill("-CONT", &front);
        wait_for("a running job", || both_are(&session, &['S', 'R']));
        assert_eq!(session.ask("text"), "text");
    }
    session.end();
}

/// No request is carried out twice, whatever interrupts the program.
fn storm() {
    const RESTART: &str = "268435456";
    for flags in [RESTART, "0"] {
        let disk = image();
        let run = disk.run(supervised(disk.scratch())).args(["storm", "3000", flags]).arg(disk.path());
        let outcome = run.level(1000).output();
        let answered: usize = outcome.expect_out().trim().parse().expect("a number");
        // Without SA_RESTART a signal can interrupt a call that has not been received.
        assert!(if flags == RESTART { answered == 3000 } else { answered > 0 }, "{answered}");
        assert_eq!(outcome.err().matches("SCSI_IOCTL_GET_IDLUN").count(), answered);
    }
}

fn blocked(how: &str, wanted: &str) {
    same(&["blocked", how], wanted);
}

fn environment() {
    let disk = image();
    let run = disk.run("env").env("LD_PRELOAD", disk.scratch().library());
    let out =
        run.env("VMWARE_BDWRAPPER_DEVICES", "/nonexistent=scsi").env("OTHER", "1").output().expect_out();
    assert!(out.contains("OTHER=1"), "{out}");
    assert!(!out.contains("LD_PRELOAD") && !out.contains("BDWRAPPER"), "{out}");
}

/// A device can be detached while the supervisor runs, and what the program has closed is closed.
fn holds_no_file() {
    let scratch = Scratch::new();
    let device = Loop::attach(&scratch.image("image", MIB), &[]);
    let entry = format!("{}=scsi", device.path().display());
    let pipe = scratch.path("pipe");
    Run::new("mkfifo").arg(&pipe).output().expect_out();
    let script = "echo $PPID; \"$0\" idlun \"$1\"; exec 3<\"$2\"; cat <&3; exec 3<&-; read line";
    let run = Run::new("sh").with(&scratch.library(), entry).args(["-c", script]).arg(supervised(&scratch));
    let mut session = run.arg(device.path()).arg(&pipe).start(&scratch.path("stderr"));
    let supervisor = session.line();
    assert_eq!(session.line(), "answered");
    fs::write(&pipe, "text\n").expect("the program reads it");
    assert_eq!(session.line(), "text");
    for entry in fs::read_dir(format!("/proc/{supervisor}/fd")).expect("it runs") {
        let Ok(file) = fs::read_link(entry.expect("it can be read").path()) else { continue };
        assert!(file != device.path() && file != pipe && !file.starts_with(scratch.directory()), "{file:?}");
        let name = file.to_string_lossy();
        // The list of what is mapped in a process keeps neither the process nor a file.
        let is_list = name.starts_with("/proc/") && name.ends_with("/maps");
        let is_shared = name.contains("/vmware-bdwrapper/") && !name.starts_with("/dev/");
        let is_own = file == Path::new("/dev/null") || is_list || is_shared;
        assert!(is_own || !name.starts_with('/'), "{name}");
    }
    assert_eq!(session.end_with(), 1);
}
