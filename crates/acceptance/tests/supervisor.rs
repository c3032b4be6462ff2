//! The supervisor: the trials of the library on the other engine, and what only a supervisor can do.

#[expect(dead_code, reason = "its main function is not called")]
mod ata;
#[expect(dead_code, reason = "its main function is not called")]
mod golden;
#[expect(dead_code, reason = "its main function is not called")]
mod programs;
#[expect(dead_code, reason = "its main function is not called")]
mod scsi;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{
    Disk, Engine, Loop, Medium, Need, Outcome, Run, Scratch, Session, group, main as harness, program_with,
    test_engine, trial, wait_for,
};

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    test_engine(Engine::Supervisor);
    let cc: &[Need] = &[Need::Tool("cc")];
    let root: &[Need] = &[Need::Tool("cc"), Need::Devices];
    let mut trials = vec![
        trial("programs/static", cc, static_program),
        trial("programs/i386", cc, i386),
        trial("programs/a descriptor table for each thread", cc, || same("table", "answered\nENOTTY\n")),
        trial("programs/the first thread has ended", cc, || same("leader", "answered\n")),
        trial("programs/descriptors that cannot be asked", cc, descriptors),
        trial("programs/many", cc, many),
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
        trial("waiting/killed", root, || blocked("kill", "signal 9\nanswered\n")),
        trial("waiting/another process gets the number", root, || blocked("reuse", "signal 9\nvictim 0\n")),
        trial("environment", &[], environment),
        trial("files/the supervisor holds none", root, holds_no_file),
    ];
    trials.extend(group("ata", ata::trials));
    trials.extend(group("golden", golden::trials));
    trials.extend(group("programs", programs::trials));
    trials.extend(group("scsi", scsi::trials));
    harness(trials)
}

/// `programs/supervised.c`, which no library reaches.
fn supervised(scratch: &Scratch) -> PathBuf {
    scratch.copy(&program_with("supervised", "supervised", &["-O2", "-static"]), "supervised")
}

fn image() -> Disk {
    Disk::new(Medium::Image, "scsi", MIB)
}

/// What a command of `programs/supervised.c` prints.
fn asked(disk: &Disk, words: &[&str]) -> Outcome {
    disk.run(supervised(disk.scratch())).args(words).arg(disk.path()).output()
}

fn same(command: &str, wanted: &str) {
    assert_eq!(asked(&image(), &[command]).expect_out(), wanted);
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

fn i386() {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let disk = Disk::new(Medium::Image, "scsi", 64 * MIB);
    let options = ["-m32", "-O1", "-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector"];
    let options = [&options[..], &["-fno-pic", "-no-pie"]].concat();
    let program = disk.scratch().copy(&program_with("i386", "i386", &options), "i386");
    assert_eq!(
        disk.run(program).arg(disk.path()).output().expect_out(),
        "SCSI_IOCTL_GET_IDLUN 0 00 00 00 7f 7f 00 00 00 ee ee ee ee\n\
         HDIO_GETGEO 0 03 2b f8 03 00 00 00 00 ee ee ee ee\n\
         BLKGETSIZE 0 00 00 02 00 ee ee ee ee\n\
         BLKGETSIZE64 0 00 00 00 04 00 00 00 00 ee ee ee ee\n\
         BLKGETSIZE64 of 64 bits -22 ee ee ee ee\n\
         BLKBSZGET 0 00 10 00 00 ee ee ee ee\n\
         BLKSSZGET 0 00 02 00 00 ee ee ee ee\n\
         SG_IO 0 00 00 06 12 5b 20 00 02 resid 0 status 0 ee 00 00 00\n"
    );
}

fn descriptors() {
    same(
        "descriptors",
        "O_PATH EBADF\nclosed EBADF\nO_DIRECT answered\nbad address EFAULT\nconstant EFAULT\n",
    );
}

fn many() {
    same_of(&["many", "1000"], "0\n");
}

fn same_of(words: &[&str], wanted: &str) {
    assert_eq!(asked(&image(), words).expect_out(), wanted);
}

/// An ordinary user's programs can gain no rights, which is said.
fn set_user_id() {
    let disk = image();
    let program = disk.scratch().copy(&supervised(disk.scratch()), "set-user-id");
    Run::new("chmod").arg("4755").arg(&program).output().expect_out();
    let outcome = disk.run(&program).arg("idlun").arg(disk.path()).nobody().output();
    assert_eq!(outcome.expect_out(), "answered\n");
    let said = outcome.err();
    assert!(said.contains("runs with your own rights") && said.lines().count() == 1, "{said}");
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

/// The parent of a process.
fn parent(process: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:\t").map(str::to_owned))
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
    let supervisor = parent(&program).expect("the program runs");
    assert_eq!(session.ask("ask"), "answered");
    kill("-KILL", &supervisor);
    wait_for("a message", || session.err().contains("has lost its supervisor").then_some(()));
    // What asks a disk fails, and is not passed on.
    assert_eq!(session.ask("ask"), "ENOSYS");
    assert_eq!(session.end_with(), 5);
}

/// A call waits for the supervisor, and only SIGKILL ends that.
fn supervisor_stopped() {
    let disk = image();
    let script = "echo $$; exec \"$0\" lines \"$1\"";
    let run = disk.run("sh").args(["-c", script]).arg(supervised(disk.scratch())).arg(disk.path());
    let mut session = run.start(&disk.scratch().path("stderr"));
    let program = session.line();
    let supervisor = parent(&program).expect("the program runs");
    let front = parent(&supervisor).expect("the supervisor runs");
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
    let supervisor = parent(&program).expect("the program runs");
    let front = parent(&supervisor).expect("the supervisor runs");
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
        let front = parent(&program).and_then(|supervisor| parent(&supervisor)).expect("they run");
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
    let front = parent(&program).and_then(|supervisor| parent(&supervisor)).expect("they run");
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
        assert!(flags == "0" || answered == 3000, "{answered}");
        assert_eq!(outcome.err().matches("SCSI_IOCTL_GET_IDLUN").count(), answered);
    }
}

fn blocked(how: &str, wanted: &str) {
    same_of(&["blocked", how], wanted);
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
        assert!(file == Path::new("/dev/null") || !name.starts_with('/'), "{name}");
    }
    assert_eq!(session.end_with(), 1);
}
