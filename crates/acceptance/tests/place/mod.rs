//! A place where `link` and `add` change the system, and a real udev works.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use acceptance::{Loop, Outcome, Run, Scratch, Session};
use serde_json::Value;

use crate::system::command;

const MIB: u64 = 1 << 20;

/// The rules that the command writes.
pub const RULES: &str = "/etc/udev/rules.d/90-vmware-bdwrapper.rules";

/// udev.
pub const UDEVD: &str = "/lib/systemd/systemd-udevd";

/// The command, whose messages are for programs.
pub const LINK: [&str; 2] = ["--message-format=json", "link"];

/// A `/dev`, a `/run` and udev's directories that no other process sees, and a network on which no other udev speaks.
pub struct Place {
    /// What each call of the command begins with.
    words: &'static [&'static str],
    /// The command; a copy, where another user must be able to run it.
    pub command: PathBuf,
    /// The process that holds the name space.
    process: String,
    udev: RefCell<bool>,
    _session: Session,
    /// A directory of the test's own.
    pub scratch: Scratch,
}

impl Place {
    /// For `link`.
    pub fn new() -> Place {
        Place::with(&LINK, "")
    }

    /// For another command, after more mounts.
    pub fn with(words: &'static [&'static str], more: &str) -> Place {
        // Of the system's rules those that describe devices: no other program shall be started.
        const MOUNT: &str = "cd /dev; tar -cf \"$0/nodes.tar\" null zero random urandom loop-control\n\
            mkdir \"$0/rules\"\n\
            for rule in 55-dm 60-persistent-storage 60-persistent-storage-dm 63-md-raid-arrays; do\n\
                cp /lib/udev/rules.d/$rule.rules \"$0/rules\" 2>/dev/null || :\n\
            done\n\
            mkdir -p /etc/udev/rules.d /lib/udev/rules.d\n\
            for place in /etc/udev/rules.d /lib/udev/rules.d /run /dev; do mount -t tmpfs -o mode=755 place $place; done\n\
            mkdir /run/udev\n\
            cp \"$0/rules/\"* /lib/udev/rules.d 2>/dev/null || :\n\
            cd /dev; tar -xf \"$0/nodes.tar\"\n\
            echo $$\n\
            exec cat";
        let scratch = Scratch::new();
        let run = Run::new("unshare").args(["--mount", "--net", "--propagation", "private", "sh", "-ec"]);
        let run = run.arg(more.to_owned() + MOUNT).arg(scratch.directory());
        let mut session = run.start(&scratch.path("stderr"));
        let process = session.ask("");
        Place { words, command: command(), process, udev: RefCell::new(false), _session: session, scratch }
    }

    /// Runs a program there.
    pub fn enter(&self, program: impl AsRef<OsStr>) -> Run {
        let words = self.words_to_enter();
        Run::new(&words[0]).args(&words[1..]).arg(program)
    }

    /// The words before those of a program that runs there.
    pub fn words_to_enter(&self) -> Vec<String> {
        ["nsenter", "-t", &self.process, "--mount", "--net", "--"].map(str::to_owned).to_vec()
    }

    /// Runs the command.
    pub fn run<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Outcome {
        self.enter(&self.command).args(self.words).args(arguments).output()
    }

    /// What a command says that succeeds and complains of nothing.
    pub fn said<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> String {
        let outcome = self.run(arguments);
        let out = outcome.expect_out();
        assert_eq!(outcome.err(), "", "{out}");
        out
    }

    /// Runs a script, and returns its output.
    pub fn shell(&self, script: &str) -> String {
        self.enter("sh").args(["-ec", script]).output().expect_out()
    }

    /// A loop device on an image; its node is made here.
    pub fn device(&self, image: &Path) -> Loop {
        let device = Loop::attach(image, &[]);
        self.node(device.path());
        // The number may have been another device's.
        self.shell(&format!("chown 0:0 {0}; chmod 600 {0}", device.path().display()));
        device
    }

    /// A loop device on a new image.
    pub fn loop_device(&self, name: &str) -> Loop {
        self.device(&self.scratch.image(name, 16 * MIB))
    }

    /// Makes the node of a device by the number that the kernel says.
    pub fn node(&self, path: &Path) {
        let name = path.file_name().and_then(OsStr::to_str).expect("ASCII");
        self.shell(&format!(
            "IFS=: read major minor </sys/class/block/{name}/dev; [ -e {0} ] || mknod {0} b $major $minor",
            path.display()
        ));
    }

    /// What a link leads to.
    pub fn leads_to(&self, link: &str) -> PathBuf {
        self.enter("readlink").args(["-f", link]).output().expect_out().trim_end().into()
    }

    /// Whether there is a file of this name.
    pub fn exists(&self, path: &str) -> bool {
        self.enter("sh").args(["-c", "[ -e \"$0\" ] || [ -L \"$0\" ]", path]).output().success()
    }

    /// The text of the rules.
    pub fn rules(&self) -> String {
        self.shell(&format!("cat {RULES}"))
    }

    /// What `link --list` says.
    pub fn links(&self) -> Value {
        serde_json::from_str(&self.said(["--list", "--json"])).expect("it is JSON")
    }

    /// Starts udev.
    pub fn start_udev(&self) {
        self.enter(UDEVD).args(["--daemon", "--resolve-names=early"]).output().expect_out();
        self.udev.replace(true);
        self.shell("udevadm control --ping");
    }

    /// Has udev look at a device.
    pub fn trigger(&self, device: &Path) {
        self.node(device);
        self.shell(&format!("udevadm trigger --settle --action=change {}", device.display()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if *self.udev.borrow() {
            self.enter("udevadm").args(["control", "--exit"]).output();
        }
    }
}
