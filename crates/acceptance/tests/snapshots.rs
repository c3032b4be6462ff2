//! What the command prints, word by word: `snapshots/*.snap`.
//!
//! After a change that is meant, `INSTA_UPDATE=always cargo test -p acceptance --test snapshots` writes them anew; the
//! difference is for the commit.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{Loop, Need, Run, Scratch, main as harness, trial};
use serde_json::Value;

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let devices: &[Need] = &[Need::Devices];
    harness(vec![
        trial("help", &[], help),
        trial("errors", &[], errors),
        trial("probe", &[], probe),
        trial("doctor", &[], doctor),
        trial("vmdk", &[], vmdk),
        trial("trace", &[Need::Tool("cc")], trace),
        trial("list", devices, list),
        trial("link", devices, link),
    ])
}

/// The command, which is built beside the library.
fn command() -> PathBuf {
    acceptance::library().with_file_name("vmware-bdwrapper")
}

/// Compares with `snapshots/NAME.snap`.
fn compare(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// What is another at each run, and the word that stands for it.
struct Redactions(Vec<(String, &'static str)>);

impl Redactions {
    fn of(scratch: &Scratch) -> Redactions {
        Redactions(vec![
            (scratch.directory().display().to_string(), "DIR"),
            (acceptance::library().display().to_string(), "LIBRARY"),
        ])
    }

    fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    fn undo(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (from, to)| text.replace(to, from))
    }

    /// A call as a user sees it: the words, both outputs, and an exit status that is not 0.
    fn call(&self, words: &str) -> String {
        let arguments = words.split_ascii_whitespace().map(|word| self.undo(word));
        let outcome = Run::new(command()).args(arguments).output();
        let (out, err) = (self.apply(&outcome.out()), self.apply(&outcome.err()));
        let status = match outcome.code() {
            0 => String::new(),
            status => format!("[exit status {status}]\n"),
        };
        format!("$ vmware-bdwrapper {words}\n{out}{err}{status}")
    }

    fn calls(&self, lines: &[&str]) -> String {
        lines.iter().map(|words| self.call(words)).collect::<Vec<_>>().join("\n")
    }
}

/// Replaces the values under these names.
fn redact(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(object) => {
            object.iter_mut().for_each(|(name, value)| match names.contains(&name.as_str()) {
                true => *value = format!("[{name}]").into(),
                false => redact(value, names),
            })
        }
        Value::Array(values) => values.iter_mut().for_each(|value| redact(value, names)),
        _ => {}
    }
}

/// The commands in a help text.
fn tasks(help: &str) -> Vec<&str> {
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split_ascii_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

fn help() {
    let of = |words: &[&str]| Run::new(command()).args(words).arg("--help").output().expect_out();
    let all = of(&[]);
    compare("help", &all);
    for task in tasks(&all) {
        let text = of(&[task]);
        compare(&format!("help-{task}"), &text);
        for part in tasks(&text) {
            compare(&format!("help-{task}-{part}"), &of(&[task, part]));
        }
    }
}

fn errors() {
    let scratch = Scratch::new();
    fs::write(scratch.path("text"), "no program\n").expect("it is our directory");
    scratch.image("image", MIB);
    let text = Redactions::of(&scratch).calls(&[
        "",
        "rum",
        "run true",
        "run --device =scsi true",
        "run --device DIR/image true",
        "run --device DIR/image=scsi no-such-program",
        "run --device DIR/image=scsi DIR/text",
        "run --device DIR/absent=scsi true",
        "probe --device DIR/image=scsi,bogus=1",
        "probe --device DIR/absent=ide",
        "probe --bogus",
        "trace --device DIR/image=scsi",
        "trace --replay DIR/absent",
        "trace --replay DIR/text",
        "vmdk check DIR/absent",
        "vmdk check DIR/text",
        "vmdk create DIR/image=scsi -o DIR/text",
        "vmdk attach DIR/text DIR/absent.vmx",
        "link",
        "link DIR/image --as /dev/sd/x --dry-run",
        "link DIR/absent --as /dev/sd/x --dry-run",
        "link DIR/image --as /dev/x --dry-run",
        "setup",
        "libdir --loader DIR/absent",
        "completions tcsh",
    ]);
    compare("errors", &text);
}

fn probe() {
    let scratch = Scratch::new();
    scratch.image("image", 128 * MIB);
    let text = Redactions::of(&scratch).calls(&[
        "probe --device DIR/image=scsi",
        "probe --device DIR/image=ide,serial=WD-1,model=DISK",
        "probe --device DIR/image=scsi,sector=4096",
        "probe --json --device DIR/image=sata,serial=WD-1",
    ]);
    compare("probe", &text);
}

fn doctor() {
    let scratch = Scratch::new();
    scratch.image("image", 128 * MIB);
    scratch.image("empty", 100);
    scratch.copy(Path::new("/bin/true"), "program");
    fs::write(scratch.path("launcher"), "#!/bin/sh\nunset LD_PRELOAD\nexec vmx\n")
        .expect("it is our directory");
    fs::set_permissions(scratch.path("launcher"), Permissions::from_mode(0o755)).expect("it is ours");
    let text = Redactions::of(&scratch).calls(&[
        "doctor --device DIR/image=scsi DIR/program",
        "doctor --device DIR/absent=scsi DIR/program",
        "doctor --device DIR/empty=ide DIR/launcher",
        "doctor --device DIR/image=scsi --device DIR/image=ide,sector=4096 DIR/absent",
        "doctor DIR/program",
    ]);
    // Of the kernel that the test runs on.
    let of_kernel = ["seccomp", "SELinux", "AppArmor", "/dev/kmsg", "/var/log/audit/audit.log"];
    let is_of_kernel = |line: &&str| {
        line.split_once(": ").is_some_and(|(_, text)| of_kernel.iter().any(|start| text.starts_with(start)))
    };
    let lines: Vec<&str> = text.lines().filter(|line| !is_of_kernel(line)).collect();
    compare("doctor", &lines.join("\n"));
}

fn vmdk() {
    let scratch = Scratch::new();
    scratch.image("image", 128 * MIB);
    let redactions = Redactions::of(&scratch);
    let mut text = redactions.calls(&[
        "vmdk create DIR/image=scsi -o DIR/scsi.vmdk",
        "vmdk create DIR/image=ide --flat -o DIR/ide.vmdk",
        "vmdk check DIR/scsi.vmdk",
    ]);
    for name in ["scsi.vmdk", "ide.vmdk"] {
        let written = fs::read_to_string(scratch.path(name)).expect("it was made");
        text += &format!("\n$ cat DIR/{name}\n");
        for line in redactions.apply(&written).lines() {
            let (name, _) = line.split_once('=').unwrap_or((line, ""));
            let is_unique = ["CID", "ddb.uuid", "ddb.longContentID"].contains(&name.trim());
            text += &if is_unique { format!("{name}=[unique]\n") } else { format!("{line}\n") };
        }
    }
    scratch.image("larger", 256 * MIB);
    fs::rename(scratch.path("larger"), scratch.path("image")).expect("it is our directory");
    text += "\n";
    text += &redactions.calls(&[
        "vmdk check DIR/scsi.vmdk",
        "vmdk check --json DIR/scsi.vmdk",
        "vmdk refresh DIR/scsi.vmdk",
        "vmdk check DIR/scsi.vmdk",
    ]);
    compare("vmdk", &text);
}

fn trace() {
    let scratch = Scratch::new();
    let image = scratch.image("image", 128 * MIB);
    scratch.image("other", 64 * MIB);
    let redactions = Redactions::of(&scratch);
    let entry = format!("{}=scsi", image.display());
    let lines =
        "in 3 25000000000000000000 8\nin 3 120000002400 36\nnone 3 000000000000\nin 3 1201ff00ff00 255\n";
    let run = Run::new(command())
        .args(["trace", "--json", "--device", &entry, "-o"])
        .arg(scratch.path("trace.json"));
    let run = run.arg(scratch.program("sgio")).stdin(format!("open rw {}\n{lines}", image.display()));
    run.output().expect_out();
    let recorded = fs::read_to_string(scratch.path("trace.json")).expect("it was made");
    let mut text = String::new();
    for line in redactions.apply(&recorded).lines() {
        let mut object: Value = serde_json::from_str(line).expect("it is JSON");
        // Numbers of processes, addresses, times.
        let names = ["vmware-bdwrapper", "linux", "pid", "tid", "argument", "given", "got", "nanoseconds"];
        redact(&mut object, &names);
        text += &format!("{object:#}\n");
    }
    compare("trace-json", &text);
    let replayed = redactions.calls(&[
        "trace --replay DIR/trace.json",
        "trace --replay DIR/trace.json --device DIR/other=scsi,sector=4096",
        "trace --replay DIR/trace.json --device DIR/other=ide",
        "trace --replay DIR/trace.json --device DIR/other=scsi --json",
    ]);
    compare("trace-replay", &replayed);
}

/// What is said of one device; others are the machine's.
fn list() {
    let scratch = Scratch::new();
    let device = Loop::attach(&scratch.image("image", 128 * MIB), &["--read-only"]);
    let out = Run::new(command()).args(["list", "--json"]).output().expect_out();
    let document: Value = serde_json::from_str(&out).expect("it is JSON");
    let devices = document["devices"].as_array().expect("a list");
    let path = device.path().to_str().expect("it is ASCII");
    let mut row = devices.iter().find(|row| row["device"] == path).expect("it is there").clone();
    redact(&mut row, &["number"]);
    let mut redactions = Redactions::of(&scratch);
    redactions.0.push((path.to_owned(), "LOOP"));
    compare("list-json", &redactions.apply(&format!("{row:#}")));
}

fn link() {
    let scratch = Scratch::new();
    let device = Loop::attach(&scratch.image("image", 128 * MIB), &[]);
    let mut redactions = Redactions::of(&scratch);
    redactions.0.push((device.path().display().to_string(), "LOOP"));
    let text = redactions.calls(&[
        "link LOOP --as /dev/sd/test --dry-run",
        "link LOOP --as /dev/hd/a/b --owner root --group disk --mode 0660 --persist --dry-run",
        "link --remove /dev/sd/no-such-link --dry-run",
    ]);
    compare("link", &text);
}
