//! The tests themselves: what they leave behind, and that they do not depend on how they are started.

mod system;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::Mutex;

use acceptance::{Disk, Loop, Medium, Name, Need, PRIVILEGE, Run, Scratch, trial, wait_for_detached};
use system::{CONF, LIBRARY, System, chmod, make, trusted};

/// Has the trial [`hold`] wait for the end of its standard input.
const HOLDING: &str = "BDWRAPPER_TEST_HOLDING";
const HOLD: &str = "what a run makes";
const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let needs = [Need::Devices, Need::Tool("make"), Need::Tool("strip"), Need::Tool("partx")];
    // What one sees of the system another must not change.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let trial = |name, body: fn()| {
        trial(name, &needs, move || {
            let _guard = ONE_AT_A_TIME.lock();
            body();
        })
    };
    acceptance::main(vec![
        trial(HOLD, hold),
        trial("nothing is left after a run", || leaves_nothing(Held::end)),
        trial("nothing is left after a killed run", || leaves_nothing(Held::kill)),
        trial("two runs at once", two_runs),
        trial("started in another environment", other_environment),
    ])
}

/// Something of everything that trials make outside of their temporary directories.
fn hold() {
    let _system = System::clean();
    make(["install"]).expect_out();
    assert!(Path::new(CONF).is_file() && trusted().join(LIBRARY).is_file());
    fs::write("/etc/ld.so.cache", "").expect("it is a copy");
    let disk = Disk::new(Medium::Node, "scsi", 16 * MIB);
    disk.loop_device().add_partition(1, 2048, 2048);
    assert!(disk.loop_device().partition(1).exists());
    let link = Name::link("hd", disk.device());
    chmod(disk.device(), 0o606);
    let other = Loop::attach(disk.image(), &["--read-only"]);
    assert!(link.path().exists() && other.path() != disk.device());
    // Whoever starts the tests, other users reach what they make.
    let read = Run::new("cat").arg(disk.scratch().library()).nobody().output();
    assert!(read.success(), "{}", read.err());
    assert_eq!(fs::metadata(disk.scratch().directory()).expect("it exists").mode() & 0o777, 0o755);
    fs::write(disk.scratch().path("file"), "").expect("it is our directory");
    assert_eq!(fs::metadata(disk.scratch().path("file")).expect("it exists").mode() & 0o777, 0o644);
    if std::env::var_os(HOLDING).is_some() {
        println!("\nholding");
        std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe can be read");
    }
}

/// A run of this program in which [`hold`] waits.
struct Held {
    child: Child,
    stdin: Option<ChildStdin>,
    images: Scratch,
}

impl Held {
    fn start() -> Held {
        let images = Scratch::new();
        let mut command = again(&[]);
        command.env(HOLDING, "1").env("TMPDIR", images.directory());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("this program can be run");
        let mut lines = BufReader::new(child.stdout.as_mut().expect("it is a pipe")).lines();
        let is_holding = lines.any(|line| line.is_ok_and(|line| line == "holding"));
        assert!(is_holding, "the run has failed");
        let stdin = child.stdin.take();
        let held = Held { child, stdin, images };
        assert_eq!(held.devices().len(), 2);
        held
    }

    /// Its loop devices.
    fn devices(&self) -> Vec<String> {
        let devices = Run::new("losetup").arg("--all").output().expect_out();
        let directory = self.images.directory().to_str().expect("ASCII");
        devices.lines().filter(|line| line.contains(directory)).map(str::to_owned).collect()
    }

    fn end(mut self) -> Vec<String> {
        let devices = self.devices();
        drop(self.stdin.take());
        let status = self.child.wait().expect("our own child can be waited for");
        assert!(status.success(), "{status}");
        wait_for_detached(self.images.directory());
        assert_eq!(fs::read_dir(self.images.directory()).expect("it exists").count(), 0);
        devices
    }

    fn kill(mut self) -> Vec<String> {
        let devices = self.devices();
        self.child.kill().and_then(|()| self.child.wait()).expect("it is our own child");
        wait_for_detached(self.images.directory());
        devices
    }
}

/// The held trial in a run of its own, isolated anew and behind this command.
fn again(before: &[&str]) -> Command {
    let own = std::env::current_exe().expect("/proc/self/exe names it");
    let words = before.iter().map(OsStr::new).chain([own.as_os_str()]);
    let words: Vec<&OsStr> = words.chain(["--exact", HOLD].map(OsStr::new)).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_remove(PRIVILEGE);
    command
}

/// The names in a directory and, so many levels down, in its directories; with what changes when a file is exchanged or written.
fn names(directory: &Path, depth: u32) -> BTreeSet<(PathBuf, u64, u32, Option<i64>)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("root can read it") {
        let path = entry.expect("root can read it").path();
        let Ok(status) = path.symlink_metadata() else { continue };
        let written = status.is_file().then(|| status.mtime());
        found.insert((path.clone(), status.ino(), status.mode(), written));
        // Terminals and shared memory are others' as well.
        if status.is_dir() && depth > 0 && status.dev() == directory.metadata().expect("it exists").dev() {
            found.extend(names(&path, depth - 1));
        }
    }
    found
}

fn leaves_nothing(end: fn(Held) -> Vec<String>) {
    let places = [("/etc", 0), ("/usr/bin", 0), ("/usr/share/man", 1), ("/dev", 2)];
    let library = trusted();
    let look = || -> BTreeSet<_> {
        places
            .iter()
            .flat_map(|(place, depth)| names(Path::new(place), *depth))
            .chain(names(&library, 0))
            .collect()
    };
    let before = look();
    let is_as_before = |when: &str| {
        let now = look();
        let changed: Vec<_> = now.symmetric_difference(&before).collect();
        assert!(changed.is_empty(), "{when}: {changed:?}");
    };
    let held = Held::start();
    is_as_before("during a run");
    let devices = end(held);
    is_as_before("after a run");
    // Nor partitions that only the kernel knows.
    for device in devices {
        let name = device.split([':', '/']).nth(2).expect("/dev/NAME stands first").to_owned();
        assert!(!Path::new("/sys/class/block").join(format!("{name}p1")).exists(), "{name}");
    }
}

fn two_runs() {
    let (first, second) = (Held::start(), Held::start());
    first.end();
    second.end();
}

fn other_environment() {
    let scratch = Scratch::new();
    let closed = scratch.path("closed");
    fs::create_dir(&closed).expect("it is our directory");
    chmod(&closed, 0o700);
    let odd = scratch.path("a b:c=d,e");
    fs::create_dir(&odd).expect("it is our directory");
    chmod(&odd, 0o755);
    let closed = format!("TMPDIR={}", closed.display());
    let odd = format!("TMPDIR={}", odd.display());
    for before in [
        &["env", "PATH=/usr/bin:/bin"][..],
        &["env", "LC_ALL=de_DE.UTF-8", "LANG=tr_TR.UTF-8", "TZ=Pacific/Apia"],
        &["env", &closed],
        &["env", &odd],
        &["env", "TMPDIR=relative"],
        &["sh", "-c", "umask 077; exec \"$@\"", "sh"],
        &["sh", "-c", "umask 0; exec \"$@\"", "sh"],
    ] {
        let output = again(before).output().expect("it can be run");
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && out.contains("1 passed"),
            "{before:?}: {out}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
