//! `scripts/deps`, with a package manager that only says how it was called.

#[expect(dead_code, reason = "nothing of ours is installed")]
mod system;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{Need, Outcome, Run, Scratch, trial};
use system::{System, chmod, sources};

const WANTS: &str = "/etc/systemd/system/bdwrapper-test.target.wants";

fn main() -> ExitCode {
    acceptance::main(vec![
        trial("it asks", &[Need::Root, Need::Tool("script")], asks),
        trial("without a question", &[Need::Root], without_question),
        trial("services stay disabled", &[Need::Devices], services),
        trial("help", &[Need::Tool("make")], help),
    ])
}

/// A machine that lacks hdparm, and has an apt-get of the test's.
struct Machine(Scratch);

impl Machine {
    fn new() -> Machine {
        let machine = Machine(Scratch::new());
        for tool in ["sh", "env", "id", "find", "sort", "rm", "chmod", "grep", "cat", "mkdir", "ln", "ls"] {
            let run = Run::new("sh").args(["-c", "command -v \"$0\"", tool]).output().expect_out();
            let path = Path::new(run.trim_end()).canonicalize().expect("it exists");
            std::os::unix::fs::symlink(path, machine.0.path(tool)).expect("it is our directory");
        }
        machine.apt_get("");
        machine
    }

    /// What apt-get does when it installs.
    fn apt_get(&self, install: &str) {
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n*--print-uris*) echo 'Need to get 12 MB of archives.' ;;\n\
             *) echo \"$*\" >>\"{}\"\n   case \"$*\" in *' install '*) {install} ;; esac ;;\nesac\n",
            self.calls().display()
        );
        fs::write(self.0.path("apt-get"), script).expect("it is our directory");
        chmod(&self.0.path("apt-get"), 0o755);
    }

    fn calls(&self) -> PathBuf {
        self.0.path("calls")
    }

    /// How apt-get was called to change something.
    fn called(&self) -> String {
        fs::read_to_string(self.calls()).unwrap_or_default()
    }

    /// Runs the script with nothing in its path but what is here. It adds the directories of system tools, which hold no such command.
    fn run(&self, options: &[&str], command: &str, environment: &[(&str, &str)]) -> Outcome {
        let mut run = Run::new(sources().join("scripts/deps")).args(options).arg(command);
        run = run.env("PATH", self.0.directory());
        for (name, value) in environment {
            run = run.env(name, value);
        }
        run.output()
    }
}

const MISSING: &str = "vmdkinfo";

fn asks() {
    let machine = Machine::new();
    // Nobody answers.
    let refused = machine.run(&[], MISSING, &[]);
    assert_eq!((refused.code(), machine.called().as_str()), (1, ""), "{}", refused.out());
    for words in ["These are needed: vmdkinfo.", "Need to get 12 MB", "libvmdk-utils? [y/N] "] {
        assert!(refused.out().contains(words), "{words}: {}", refused.out());
    }
    assert!(refused.err().contains("Run 'scripts/deps -y', or set ASSUME_YES=1"), "{}", refused.err());
    let answered = |answer: &str| {
        let line = format!("{} {MISSING}", sources().join("scripts/deps").display());
        let script = format!("PATH={} {line}", machine.0.directory().display());
        let run = Run::new("script").args(["-qec", &script, "/dev/null"]).stdin(format!("{answer}\n"));
        run.output().code()
    };
    assert_eq!((answered("n"), machine.called().as_str()), (1, ""));
    assert_eq!((answered(""), machine.called().as_str()), (1, ""));
    assert_eq!(answered("y"), 0);
    assert!(machine.called().contains("install -y --no-install-recommends libvmdk-utils\n"));
}

fn without_question() {
    for (option, variable) in
        [(Some("-y"), None), (None, Some(("ASSUME_YES", "1"))), (None, Some(("CI", "true")))]
    {
        let machine = Machine::new();
        let installed = machine.run(option.as_slice(), MISSING, variable.as_slice());
        assert!(!installed.expect_out().contains('?'), "{}", installed.out());
        assert!(machine.called().starts_with("update -q\n"), "{}", machine.called());
        assert!(machine.called().ends_with(" libvmdk-utils\n"), "{}", machine.called());
    }
    let machine = Machine::new();
    machine.apt_get("exit 100");
    assert_eq!(machine.run(&["-y"], MISSING, &[]).code(), 100);
}

fn services() {
    let _system = System::clean();
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let _ = fs::remove_file(policy);
    fs::create_dir_all(WANTS).expect("it is a copy");
    let link = |name: &str| Path::new(WANTS).join(name);
    std::os::unix::fs::symlink("/lib/old.service", link("old.service")).expect("it is a copy");
    for status in [0, 100] {
        let machine = Machine::new();
        machine.apt_get(&format!(
            "ls /usr/sbin/policy-rc.d && ln -s /lib/new.timer {WANTS}/new.timer; exit {status}"
        ));
        let installed = machine.run(&["-y"], MISSING, &[]);
        assert_eq!(installed.code(), status);
        let out = installed.out();
        assert!(out.contains("/usr/sbin/policy-rc.d\n") && out.contains("disabled new.timer\n"), "{out}");
        assert!(!policy.exists() && !link("new.timer").is_symlink() && link("old.service").is_symlink());
    }
    // The administrator's own policy stays.
    fs::write(policy, "#!/bin/sh\n").expect("it is a copy");
    Machine::new().run(&["-y"], MISSING, &[]).expect_out();
    assert_eq!(fs::read_to_string(policy).expect("it stays"), "#!/bin/sh\n");
}

/// `make` alone builds nothing and says what it can.
fn help() {
    let run = |arguments: &[&str]| Run::new("make").arg("-C").arg(sources()).args(arguments).output();
    let said = run(&["-s", "help"]).expect_out();
    for target in ["check", "check-vm", "demo", "packages", "install"] {
        let start = format!("make {target} ");
        assert!(said.lines().any(|line| line.starts_with(&start)), "{target}: {said}");
    }
    // Without a target it builds first, as scripts expect; here that is only said.
    let default = run(&["-n"]).expect_out();
    assert!(default.contains("build --release") && default.contains("Makefile"), "{default}");
}
