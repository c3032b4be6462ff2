//! What the supervisor does when it lacks something, and among programs that trace, confine or supervise others.

use std::path::PathBuf;
use std::process::ExitCode;

use acceptance::{
    Disk, Engine, Medium, Need, Outcome, Run, Scratch, main as harness, parent, program_with,
    statically_linked, test_engine, trial,
};

fn main() -> ExitCode {
    test_engine(Engine::Supervisor);
    let with = |tool| vec![Need::Tool("cc"), Need::Tool(tool)];
    let as_user = [Need::Tool("cc"), Need::Tool("setpriv"), Need::Devices];
    harness(vec![
        trial("lacks/descriptors", &with("prlimit"), few_descriptors),
        trial("lacks/memory", &with("prlimit"), little_memory),
        trial("lacks/processes", &as_user, few_processes),
        trial("lacks/proc", &with("unshare"), no_proc),
        trial("lacks/dev", &with("unshare"), no_dev),
        trial("lacks/rights", &as_user, unreadable),
        trial("inherits/ignored ends of children", &with("bash"), children_ignored),
        trial("inherits/a timer", &with("perl"), timer),
        trial("signals/one without a name", &with("bash"), real_time),
        trial("tools/bubblewrap", &with("bwrap"), || {
            let words = ["bwrap", "--bind", "/", "/", "--dev-bind", "/dev", "/dev"];
            answered(&[&words[..], &["--unshare-pid", "--unshare-user"]].concat());
        }),
        trial("tools/gdb", &with("gdb"), gdb),
        trial("tools/strace", &with("strace"), || answered(&["strace", "-f", "-o", "/dev/null"])),
        trial("tools/strace of the command", &with("strace"), traced),
        trial("tools/unshare", &with("unshare"), || {
            answered(&["unshare", "--map-root-user"]);
            answered(&["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]);
        }),
        trial("tools/another supervisor", &with("setpriv"), another_supervisor),
        trial("tools/the library", &with("cc"), the_library),
    ])
}

fn image() -> Disk {
    Disk::new(Medium::Image, "scsi", 1 << 20)
}

/// `programs/supervised.c`, which no library reaches.
fn supervised(scratch: &Scratch) -> PathBuf {
    scratch.copy(&statically_linked("supervised"), "supervised")
}

/// The words that run a program under a supervisor.
fn run(disk: &Disk) -> Vec<String> {
    let command = disk.scratch().command().display().to_string();
    let options = ["run", "--engine", "supervisor", "--force", "--device"].map(str::to_owned);
    [&[command][..], &options, &[disk.entry(), "--".to_owned()]].concat()
}

/// What is printed by words that run a program under a supervisor, with other words before them.
fn asked(disk: &Disk, before: &[&str], words: &[&str]) -> Outcome {
    let program = supervised(disk.scratch()).display().to_string();
    let before: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
    let all = [&before[..], &run(disk), &[program]].concat();
    Run::new(&all[0]).args(&all[1..]).args(words).arg(disk.path()).output()
}

/// Checks that a program is answered that such a tool starts inside the tree.
fn answered(tool: &[&str]) {
    let disk = image();
    let run = disk.run(tool[0]).args(&tool[1..]).arg(supervised(disk.scratch())).arg("idlun");
    assert_eq!(run.arg(disk.path()).output().expect_out(), "answered\n", "{tool:?}");
}

/// With whatever it is given, it answers, or says what is missing; it does not hang, and leaves no request to a
/// driver that would take a disk's.
fn few_descriptors() {
    let disk = image();
    let mut answers = 0;
    for limit in 3..24 {
        let outcome = asked(&disk, &["prlimit", &format!("--nofile={limit}")], &["idlun"]);
        match outcome.status.code() {
            Some(0) if outcome.out() == "answered\n" => answers += 1,
            Some(0) => assert!(["EMFILE\n", "EPERM\n"].contains(&outcome.out().as_str()), "{limit}"),
            // The dynamic loader has no words for it.
            _ => assert!(
                ["Too many open files", "Error 24"].iter().any(|why| outcome.err().contains(why)),
                "{limit}: {}",
                outcome.err()
            ),
        }
    }
    assert!(answers > 8, "{answers}");
    // Of all the processes that have ended since it keeps nothing that it could not do without; and it may have as
    // many as the hard limit says.
    let script = "for i in $(seq 300); do \"$0\" idlun \"$1\"; done | sort | uniq -c";
    for limit in ["40", "12:40"] {
        let words = [&["prlimit", &format!("--nofile={limit}")].map(str::to_owned)[..], &run(&disk)].concat();
        let shell = Run::new(&words[0]).args(&words[1..]).args(["sh", "-c", script]);
        let outcome = shell.arg(supervised(disk.scratch())).arg(disk.path()).output();
        assert_eq!(outcome.expect_out().trim(), "300 answered", "{limit}");
    }
}

fn little_memory() {
    let disk = image();
    let mut answers = 0;
    for mib in [4, 8, 12, 16, 24, 32, 64, 100] {
        let outcome = asked(&disk, &["prlimit", &format!("--as={}", mib << 20)], &["idlun"]);
        // Without the memory to start at all, it is the system that says so.
        answers += u32::from(outcome.out() == "answered\n");
        assert!(outcome.success() == (outcome.out() == "answered\n"), "{mib} MiB: {}", outcome.err());
    }
    assert!(answers >= 4, "{answers}");
}

/// Threads are processes to the limit. Each user has no other ones.
fn few_processes() {
    let disk = image();
    Run::new("chmod").args(["0666"]).arg(disk.path()).output().expect_out();
    let mut answers = 0;
    for limit in 0..10 {
        let user = format!("--reuid={}", 41230 + limit);
        let limits = ["--clear-groups", "--regid=41230", "prlimit", &format!("--nproc={limit}")];
        let outcome = asked(&disk, &[&["setpriv", &user][..], &limits].concat(), &["idlun"]);
        match outcome.status.code() {
            Some(0) => {
                assert_eq!(outcome.out(), "answered\n", "{limit}: {}", outcome.err());
                answers += 1;
            }
            _ => assert!(outcome.err().contains("temporarily unavailable"), "{limit}: {}", outcome.err()),
        }
    }
    assert!(answers >= 4, "{answers}");
}

/// Where /proc does not show the processes that it is to answer, it does not start.
fn no_proc() {
    let disk = image();
    let hidden = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /proc && exec \"$@\"", "sh"];
    let another = ["unshare", "--map-root-user", "--mount", "--pid", "--fork"];
    for before in [&hidden[..], &another, &another[..4]] {
        let outcome = asked(&disk, before, &["idlun"]);
        assert_eq!((outcome.code(), outcome.out().as_str()), (126, ""), "{before:?}: {}", outcome.err());
        for words in ["no /proc of this PID namespace", "'mount -t proc proc /proc'"] {
            assert!(outcome.err().contains(words), "{before:?}: {}", outcome.err());
        }
    }
}

fn no_dev() {
    let disk = image();
    let hidden = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /dev && exec \"$@\"", "sh"];
    let outcome = asked(&disk, &hidden, &["idlun"]);
    assert_eq!((outcome.code(), outcome.out().as_str()), (126, ""), "{}", outcome.err());
    assert!(outcome.err().contains("(/dev/null cannot be opened: No such file"), "{}", outcome.err());
}

/// It is said once that a program is refused whose file the user may execute, but not read.
fn unreadable() {
    let disk = image();
    Run::new("chmod").args(["0666"]).arg(disk.path()).output().expect_out();
    let program = supervised(disk.scratch());
    Run::new("chmod").args(["0711"]).arg(&program).output().expect_out();
    let asked = |level: &str| {
        let run = Run::new(disk.scratch().command()).args(["--message-format=json", "run"]);
        let run = run.args(["--engine", "supervisor", "--log-level", level, "--device"]).arg(disk.entry());
        let run = run.args(["--", "sh", "-c", "\"$0\" idlun \"$1\"; \"$0\" idlun \"$1\"; :"]);
        let outcome = run.arg(&program).arg(disk.path()).nobody().output();
        assert_eq!(outcome.expect_out(), "EPERM\nEPERM\n");
        outcome
    };
    assert_eq!(asked("0").err(), "");
    let said = asked("1");
    said.says(
        "permission-denied",
        "Requests to disks are refused in supervised[",
        "sudo vmware-bdwrapper run --engine supervisor --device ",
    );
    assert_eq!(said.messages().len(), 1, "{}", said.err());
}

fn children_ignored() {
    let disk = image();
    let words = run(&disk).join(" ");
    // The program inherits it: its children are not waited for either.
    let with = |program: &str| {
        Run::new("bash").args(["-c", &format!("trap '' CHLD; exec {words} {program}")]).output()
    };
    let outcome = with("sh -c 'exit 3'");
    assert_eq!((outcome.code(), outcome.err().as_str()), (3, ""));
    let ignored = with("grep SigIgn /proc/self/status").expect_out();
    let ignored =
        u64::from_str_radix(ignored.trim_start_matches("SigIgn:").trim(), 16).expect("a set of signals");
    assert_eq!(ignored >> (17 - 1) & 1, 1, "{ignored:x}");
}

/// A time limit that is set before the command is executed is the program's.
fn timer() {
    let disk = image();
    let perl = Run::new("perl").args(["-e", "alarm 1; exec @ARGV"]).args(run(&disk));
    let outcome =
        perl.args(["sh", "-c", "trap 'echo rang; exit 6' ALRM; while :; do sleep 0.01; done"]).output();
    assert_eq!((outcome.code(), outcome.out().as_str()), (6, "rang\n"), "{}", outcome.err());
}

fn real_time() {
    let disk = image();
    let script = "trap 'echo caught; exit 4' RTMIN+3; echo $PPID; while :; do sleep 0.01; done";
    let mut session = disk.run("bash").args(["-c", script]).start(&disk.scratch().path("stderr"));
    let supervisor = session.line();
    let front = parent(&supervisor);
    Run::new("bash").args(["-c", &format!("kill -RTMIN+3 {front}")]).output().expect_out();
    assert_eq!(session.line(), "caught");
    assert_eq!(session.end_with(), 4);
}

fn gdb() {
    let disk = image();
    let run = disk.run("gdb").args(["-nx", "-batch", "-ex", "run", "--args"]).arg(supervised(disk.scratch()));
    let outcome = run.arg("idlun").arg(disk.path()).output();
    assert!(outcome.out().contains("\nanswered\n"), "{}{}", outcome.out(), outcome.err());
}

fn traced() {
    let disk = image();
    let outcome = asked(&disk, &["strace", "-f", "-o", "/dev/null"], &["idlun"]);
    assert_eq!(outcome.expect_out(), "answered\n");
}

fn another_supervisor() {
    let disk = image();
    let inner = run(&disk);
    let users: &[&[&str]] = &[&[], &["setpriv", "--no-new-privs"]];
    for user in users {
        let words = [&user.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()[..], &inner].concat();
        let outcome = disk.run(&words[0]).args(&words[1..]).arg("true").output();
        assert_eq!(outcome.code(), 126, "{}", outcome.err());
        assert!(outcome.err().contains("another supervisor already receives"), "{}", outcome.err());
    }
}

/// The other engine inside the tree: the program is answered once.
fn the_library() {
    let disk = image();
    disk.scratch().copy(&acceptance::library(), "libvmware_bdwrapper.so");
    let program = program_with("supervised", "supervised-dynamic", &["-O2"]);
    let program = disk.scratch().copy(&program, "supervised-dynamic");
    let run = disk.run(disk.scratch().command()).args(["run", "--engine", "library", "--force", "--device"]);
    let outcome = run.arg(disk.entry()).arg("--").arg(program).arg("idlun").arg(disk.path()).output();
    assert_eq!(outcome.expect_out(), "answered\n");
}
