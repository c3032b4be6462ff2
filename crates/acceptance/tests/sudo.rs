//! `sudo vmware-bdwrapper run --engine supervisor`: the rights of the program, of the supervisor and of
//! the user, and what the configuration file decides.

#[expect(dead_code, reason = "nothing of ours is installed")]
mod system;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{Loop, Name, Need, Outcome, Run, Scratch, statically_linked, trial};
use system::{CONF, System, chmod, remove};

const MIB: u64 = 1 << 20;
/// The user `nobody`, and one who is made here.
const NOBODY: &str = "65534";
const TESTER: &str = "64123";
const ENOSYS: i32 = 38;

fn main() -> ExitCode {
    let needs: &[Need] = &[Need::Devices, Need::Tool("cc")];
    let with = |tool| [needs, &[Need::Tool(tool)]].concat();
    acceptance::main(vec![
        trial("the program is the user's", needs, identity),
        trial("the supervisor has one capability", needs, supervisor),
        trial("the user cannot reach the supervisor", needs, attack),
        trial("set-user-ID programs keep their rights, and are answered", needs, set_user_id),
        trial("namespaces and directories give no rights", &with("unshare"), namespaces),
        trial("programs of other users are refused", &with("setpriv"), other_users),
        trial("root's keys stay root's", needs, keys),
        trial("signals to the command reach the program", needs, signals),
        trial("another process gets the number", needs, reused),
        trial("an exchanged descriptor gives no rights", needs, exchanged),
        trial("memory of the supervisor reaches no disk", needs, shortened),
        trial("a program that is executed has memory of its own", needs, executed),
        trial("root's and a user's runs share a disk", needs, shared),
        trial("a trace is the user's file", needs, traced),
        trial("the limits are the program's", needs, limits),
        trial("the file says who may", needs, who),
        trial("a file that others could have written is refused", needs, untrusted),
        trial("the devices are the file's", needs, devices),
        trial("a user may name what he may open himself", needs, user_devices),
        trial("a device that is in use is left out", &with("mkfs.ext4"), in_use),
        trial("variables that sudo does not set are refused", needs, hostile),
        trial("no option leads around it", needs, options),
        trial("requests are shown where the file says so", needs, messages),
        trial("programs are found with the user's rights", needs, found),
        trial("nothing of the user's is run as root", needs, nothing_is_run),
    ])
}

/// A listed image, and what runs on it.
struct Setting {
    _system: System,
    scratch: Scratch,
    image: PathBuf,
    program: PathBuf,
    set_user_id: PathBuf,
}

impl Setting {
    fn new() -> Setting {
        let system = System::clean();
        let scratch = Scratch::new();
        let image = scratch.image("image", MIB);
        let program = scratch.copy(&statically_linked("supervised"), "supervised");
        let set_user_id = scratch.copy(&program, "set-user-id");
        chmod(&set_user_id, 0o4755);
        let setting = Setting { _system: system, scratch, image, program, set_user_id };
        setting.conf("supervise nobody");
        setting
    }

    /// Writes the configuration: the image is listed, and these lines.
    fn conf(&self, lines: &str) {
        self.raw_conf(&format!("device {}=scsi\n{lines}\n", self.image.display()));
    }

    fn raw_conf(&self, text: &str) {
        remove(Path::new(CONF));
        fs::write(CONF, text).expect("root can write to /etc");
        chmod(Path::new(CONF), 0o644);
    }

    /// A program, as sudo starts it with these options for `nobody`.
    fn run(&self, options: &[&str], program: impl AsRef<Path>) -> Run {
        self.run_for(NOBODY, options, program)
    }

    fn run_for(&self, user: &str, options: &[&str], program: impl AsRef<Path>) -> Run {
        let run = Run::new(self.scratch.command()).args(["run", "--engine", "supervisor"]).args(options);
        run.arg("--").arg(program.as_ref()).env("SUDO_UID", user).env("SUDO_GID", NOBODY)
    }

    /// What a command of `programs/supervised.c` prints about the image.
    fn asked(&self, program: &Path, words: &[&str]) -> String {
        self.run(&[], program).args(words).arg(&self.image).output().expect_out()
    }
}

fn sh(setting: &Setting, script: &str) -> Outcome {
    let run = setting.run(&[], "sh").args(["-c", script]).arg(&setting.program);
    run.arg(&setting.set_user_id).arg(&setting.image).output()
}

fn is_refused(outcome: &Outcome, why: &str) {
    assert_eq!(outcome.code(), 126, "{}{}", outcome.out(), outcome.err());
    assert!(outcome.err().contains(why) && outcome.err().lines().count() == 1, "{}", outcome.err());
    assert_eq!(outcome.out(), "");
}

/// A field of `/proc/PID/status`.
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel writes it");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn append(file: &str, line: &str) {
    let text = fs::read_to_string(file).expect("every system has it") + line;
    fs::write(file, text).expect("root can write to /etc");
}

/// Makes a user with a group besides that of sudo.
fn make_user() {
    append("/etc/passwd", &format!("tester:x:{TESTER}:{NOBODY}::/nonexistent:/bin/sh\n"));
    append("/etc/group", "testers:x:64124:tester\n");
}

fn identity() {
    let setting = Setting::new();
    make_user();
    setting.conf("supervise tester");
    let run = setting.run_for(TESTER, &[], "cat").arg("/proc/self/status");
    let status = run.output().expect_out();
    let all = |number: &str| [number; 4].join(" ");
    assert_eq!(field(&status, "Uid:"), all(TESTER));
    assert_eq!(field(&status, "Gid:"), all(NOBODY));
    let groups = field(&status, "Groups:");
    let mut groups: Vec<&str> = groups.split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["64124", NOBODY]);
    for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&status, "NoNewPrivs:"), "0");
    let own = fs::read_to_string("/proc/self/status").expect("the kernel writes it");
    assert_eq!(field(&status, "CapBnd:"), field(&own, "CapBnd:"));
    // The environment is what sudo has made of it.
    let run = setting.run_for(TESTER, &[], "env").env("HOME", "/root").env("USER", "root");
    let out = run.output().expect_out();
    for line in ["HOME=/root", "USER=root", "SUDO_UID=64123"] {
        assert!(out.lines().any(|found| found == line), "{out}");
    }
}

fn supervisor() {
    let setting = Setting::new();
    let script = "cat /proc/$PPID/status; echo ---; \
        cat /proc/$(sed -n 's/^PPid:\t//p' /proc/$PPID/status)/status";
    let out = sh(&setting, script).expect_out();
    let (supervisor, front) = out.split_once("---\n").expect("the script writes it");
    for (status, capabilities) in [(supervisor, "0000000000080000"), (front, "0000000000000000")] {
        assert_eq!(field(status, "Name:"), "vmware-bdwrappe");
        assert_eq!(field(status, "Uid:"), "0 65534 0 65534");
        assert_eq!(field(status, "Gid:"), [NOBODY; 4].join(" "));
        assert_eq!(field(status, "CapEff:"), capabilities);
        assert_eq!(field(status, "CapPrm:"), capabilities);
        for set in ["CapInh:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(status, set), "0000000000000000", "{set}");
        }
        assert_eq!(field(status, "NoNewPrivs:"), "1");
    }
}

fn attack() {
    let setting = Setting::new();
    let script = "\"$0\" attack $PPID; \
        \"$0\" attack $(sed -n 's/^PPid:\t//p' /proc/$PPID/status); \"$0\" idlun \"$2\"";
    let out = sh(&setting, script).expect_out();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines.len(), lines.last()), (25, Some(&"answered")), "{out}");
    for line in &lines[..24] {
        assert!(line.ends_with(" EPERM") || line.ends_with(" EACCES"), "{line}");
    }
}

fn set_user_id() {
    let setting = Setting::new();
    // Through a descriptor that is open for reading an ordinary user writes nothing.
    assert_eq!(setting.asked(&setting.program, &["rights"]), "user 65534, answered, EPERM\n");
    let script = "sh -c '\"$1\" rights \"$2\" & wait' \"$0\" \"$1\" \"$2\"";
    let wanted = "user 0, answered, status 0, sense 0\n";
    assert_eq!(sh(&setting, script).expect_out(), wanted);
    assert_eq!(fs::read(&setting.image).expect("it is ours")[..512], [7; 512]);
    // A device that only root may open.
    chmod(&setting.image, 0o600);
    assert_eq!(setting.asked(&setting.set_user_id, &["rights"]), wanted);
    // It takes the right to exclude others for itself (COMPARE AND WRITE).
    fs::write(&setting.image, vec![0; MIB as usize]).expect("it is ours");
    let out = setting.asked(&setting.set_user_id, &["blocked", "serve"]);
    assert_eq!(out, "status 0, byte 1\n");
}

fn namespaces() {
    let setting = Setting::new();
    chmod(&setting.image, 0o644);
    // There a capability has effect on an image file, which has no driver. The user may still not open it.
    let out = sh(&setting, "unshare -rm \"$0\" rights \"$2\"").expect_out();
    assert!(out.starts_with("user 0, answered, ") && !out.contains("status 0,"), "{out}");
    let script = "cd \"${0%/*}\" && unshare -r chroot . /supervised rights /image";
    assert_eq!(sh(&setting, script).expect_out(), out);
    assert_eq!(fs::read(&setting.image).expect("it is ours")[0], 0);
    chmod(&setting.image, 0o666);
    // Nor is it opened for more than the descriptor: a sandbox may forbid that (Landlock).
    let out = sh(&setting, "unshare -rm \"$0\" rights \"$2\"").expect_out();
    assert_eq!(out, "user 0, answered, status 2, sense 7\n");
    assert_eq!(fs::read(&setting.image).expect("it is ours")[0], 0);
    let script = "unshare -rpf --mount-proc \"$0\" idlun \"$2\"";
    assert_eq!(sh(&setting, script).expect_out(), "answered\n");
    let script = "unshare -rm sh -c 'mount -t tmpfs tmpfs /mnt; : >/mnt/x; mount --bind \"$1\" /mnt/x; \
        \"$0\" idlun /mnt/x' \"$0\" \"$2\"";
    assert_eq!(sh(&setting, script).expect_out(), "answered\n");
    // On a block device it has none.
    let device = Loop::attach(&setting.image, &[]);
    let node = Name::node("sd", device.path());
    setting.raw_conf(&format!("supervise nobody\ndevice {}\n", node.path().display()));
    for (words, wanted) in
        [(&["unshare", "-rm"][..], "user 0, answered, EPERM\n"), (&["env"], "user 65534, answered, EPERM\n")]
    {
        let run = setting.run(&[], words[0]).args(&words[1..]).arg(&setting.program).arg("rights");
        assert_eq!(run.arg(node.path()).output().expect_out(), wanted);
    }
    let run = setting.run(&[], &setting.set_user_id).arg("rights").arg(node.path());
    assert_eq!(run.output().expect_out(), "user 0, answered, status 0, sense 0\n");
}

fn other_users() {
    let setting = Setting::new();
    let setpriv = setting.scratch.copy(Path::new("/usr/bin/setpriv"), "setpriv");
    chmod(&setpriv, 0o4755);
    let become_user = |user: &str, words: &[&str]| {
        let run = setting.run(&[], &setpriv).args([user, "--clear-groups"]).arg(&setting.program);
        run.args(words).arg(&setting.image).output().expect_out()
    };
    // Nothing is done for them, and nothing is passed on.
    assert_eq!(become_user("--reuid=64123", &["idlun"]), "EPERM\n");
    assert_eq!(become_user("--reuid=64123", &["write", "0"]), "EPERM\n");
    // What is theirs in /proc is root's as long as no program has been executed.
    let out = setting.asked(&setting.set_user_id, &["become", TESTER]);
    assert_eq!(out, "answered\nanswered\nEPERM, EPERM\nEPERM, EPERM\n");
    assert_eq!(fs::read(&setting.image).expect("it is ours")[0], 0);
    // Root, with other groups than the user's.
    assert_eq!(become_user("--reuid=0", &["blocked", "serve"]), "status 0, byte 1\n");
}

fn keys() {
    let setting = Setting::new();
    // As sudo does by pam_keyinit(8).
    let command = setting.scratch.command();
    let run = Run::new(&setting.program).arg("session").arg(&command).env("SUDO_UID", NOBODY);
    let run = run.env("SUDO_GID", NOBODY).args(["run", "--engine", "supervisor", "--"]);
    assert_eq!(run.arg(&setting.program).arg("keys").output().expect_out(), format!("{NOBODY}\n"));
}

fn signals() {
    let setting = Setting::new();
    let script = "trap 'echo caught; exit 4' TERM; \
        echo $(sed -n 's/^PPid:\t//p' /proc/$PPID/status); while :; do sleep 0.01; done";
    let run = setting.run(&[], "sh").args(["-c", script]);
    let mut session = run.start(&setting.scratch.path("stderr"));
    let front = session.line();
    Run::new("kill").args(["-TERM", &front]).output().expect_out();
    assert_eq!(session.line(), "caught");
    assert_eq!(session.end_with(), 4);
}

fn reused() {
    let setting = Setting::new();
    let out = setting.asked(&setting.set_user_id, &["blocked", "reuse"]);
    assert_eq!(out, "signal 9\nvictim 0\n");
}

/// Where descriptors cannot be copied, as before Linux 6.9 in some threads, files are opened anew.
fn exchanged() {
    let setting = Setting::new();
    let own = setting.scratch.image("own", MIB);
    let run = |program: &Path, words: &[&str]| {
        let run = setting.run(&[], program).args(words).arg(&setting.image);
        run.forbidden("pidfd_getfd", ENOSYS)
    };
    assert_eq!(run(&setting.program, &["rights"]).output().expect_out(), "user 65534, answered, EPERM\n");
    chmod(&setting.image, 0o600);
    let out = run(&setting.program, &["exchanged"]).arg(&own).output().expect_out();
    assert_eq!(out, "0\n");
    assert_eq!(fs::read(&setting.image).expect("it is ours")[0], 0);
}

/// What the supervisor has of one call is not what another one writes.
fn shortened() {
    let setting = Setting::new();
    let own = setting.scratch.image("own", MIB);
    fs::write(&setting.image, vec![0x5a; MIB as usize]).expect("it is ours");
    setting.conf(&format!("supervise nobody\ndevice {}=scsi", own.display()));
    let run = setting.run(&[], &setting.program).arg("shortened").arg(&setting.image).arg(&own);
    assert_eq!(run.output().expect_out(), "0\n");
}

fn executed() {
    let setting = Setting::new();
    let run = setting.run(&[], &setting.program).arg("shared").arg(&setting.set_user_id);
    assert_eq!(run.arg(&setting.image).output().expect_out(), "answered\nanswered\n");
}

/// A supervisor that root starts shares root's state, also if the program runs for a user: a reservation by a
/// set-user-ID program there keeps root's own programs from the disk.
fn shared() {
    const RESERVE: &str = "160000000000";
    const READY: &str = "000000000000";
    let setting = Setting::new();
    let program = setting.scratch.program("sgio");
    let set_user_id = setting.scratch.copy(&program, "sgio-set-user-id");
    chmod(&set_user_id, 0o4755);
    let stderr = setting.scratch.path("stderr");
    let open = format!("open rw {}", setting.image.display());
    let mut users = setting.run(&[], &set_user_id).start(&stderr);
    let entry = format!("{}=scsi", setting.image.display());
    let mut roots = Run::new(&program).supervised(&setting.scratch.command(), entry).start(&stderr);
    let [user, root] = [&mut users, &mut roots].map(|session| session.ask(&open));
    assert_eq!(roots.ask(&format!("none {root} {READY}")), "good 0");
    assert_eq!(users.ask(&format!("none {user} {RESERVE}")), "good 0");
    assert_eq!(roots.ask(&format!("none {root} {READY}")), "status-18 0");
    // The user's run ends, and with it what it has reserved.
    assert_eq!(users.end_with(), 0);
    acceptance::wait_for("the end of a reservation", || {
        (roots.ask(&format!("none {root} {READY}")) == "good 0").then_some(())
    });
}

fn traced() {
    let setting = Setting::new();
    setting.conf("supervise nobody\nmessages yes");
    let directory = setting.scratch.path("closed");
    fs::create_dir(&directory).expect("it is ours");
    let run = |trace: &Path| {
        let run = Run::new(setting.scratch.command()).args(["trace", "--engine", "supervisor", "-o"]);
        let run = run.arg(trace).arg("--").arg(&setting.program).arg("idlun").arg(&setting.image);
        run.env("SUDO_UID", NOBODY).env("SUDO_GID", NOBODY).output()
    };
    let trace = directory.join("trace");
    assert_ne!(run(&trace).code(), 0);
    // Nothing is begun where requests may not be shown.
    setting.conf("supervise nobody");
    let run_here = || {
        let run = Run::new(setting.scratch.command()).args(["trace", "--engine", "supervisor", "--"]);
        let run = run.arg(&setting.program).arg("idlun").arg(&setting.image);
        run.env("SUDO_UID", NOBODY).env("SUDO_GID", NOBODY).output()
    };
    is_refused(&run_here(), "does not let requests be shown");
    setting.conf("supervise nobody\nmessages yes");
    let wanted = format!("requests of {} to {}=scsi;", setting.program.display(), setting.image.display());
    assert!(run_here().err().contains(&wanted), "{}", run_here().err());
    assert!(!trace.exists());
    chmod(&directory, 0o777);
    for _ in 0..2 {
        run(&trace).expect_out();
        assert_eq!(fs::metadata(&trace).expect("it exists").uid().to_string(), NOBODY);
        assert!(fs::read_to_string(&trace).expect("it exists").contains("SCSI_IOCTL_GET_IDLUN"));
    }
    fs::write(&trace, "root's").expect("it is ours");
    chown(&trace, Some(0), None).expect("root can");
    assert_ne!(run(&trace).code(), 0);
}

fn limits() {
    let setting = Setting::new();
    let script = "ulimit -f 1; \"$0\" write 0 \"$2\"; \"$0\" write 100 \"$2\"; \"$1\" write 100 \"$2\"";
    // DATA PROTECT
    let wanted = "status 0, sense 0\nstatus 2, sense 7\nstatus 2, sense 7\n";
    assert_eq!(sh(&setting, script).expect_out(), wanted);
}

fn who() {
    let setting = Setting::new();
    make_user();
    let run = |user| setting.run_for(user, &[], "true").output();
    for (lines, nobody, tester) in [
        ("supervise nobody\nsupervise tester", true, true),
        ("supervise %testers", false, true),
        ("supervise %nogroup\nsupervise %nobody", true, true),
        ("supervise %no-such-group\nsupervise root\nsupervise 65534", false, false),
        ("allow-user-devices yes", false, false),
    ] {
        setting.conf(lines);
        for (user, name, may) in [(NOBODY, "nobody", nobody), (TESTER, "tester", tester)] {
            if may {
                run(user).expect_out();
            } else {
                is_refused(&run(user), &format!("does not let {name} start programs"));
            }
        }
    }
    // Root itself needs no line, and its programs stay root's.
    setting.raw_conf("");
    let entry = format!("{}=scsi", setting.image.display());
    let run = setting.run_for("0", &["--device", &entry], &setting.program).args(["rights"]);
    assert_eq!(run.arg(&setting.image).output().expect_out(), "user 0, answered, status 0, sense 0\n");
}

fn untrusted() {
    let setting = Setting::new();
    let run = || setting.run(&[], "true").output();
    run().expect_out();
    for mode in [0o664, 0o646, 0o666] {
        chmod(Path::new(CONF), mode);
        is_refused(&run(), "can be written by users other");
    }
    chmod(Path::new(CONF), 0o644);
    chown(CONF, Some(65534), None).expect("root can");
    is_refused(&run(), "belongs to user 65534");
    remove(Path::new(CONF));
    is_refused(&run(), "does not exist");
    // The library has nothing to do with it.
    let absent = run().err();
    assert!(!absent.contains("setup --setuid"), "{absent}");
    let remedy = "'printf \"%s\\n\" \"supervise nobody\" \"device ENTRY\" | sudo tee -a \
                  /etc/vmware-bdwrapper.conf && sudo chmod 644 /etc/vmware-bdwrapper.conf'";
    assert!(absent.contains(remedy), "{absent}");
    setting.raw_conf("");
    let lacking = run().err();
    assert!(lacking.contains("Add the line 'supervise nobody'"), "{lacking}");
    assert!(!lacking.contains("chmod"), "an existing file keeps its mode: {lacking}");
    remove(Path::new(CONF));
    symlink(&setting.image, CONF).expect("root can write to /etc");
    is_refused(&run(), "not a regular file");
}

fn devices() {
    let setting = Setting::new();
    let other = setting.scratch.image("other", MIB);
    let entry = |path: &Path| format!("{}=ide", path.display());
    // SCSI_IOCTL_GET_IDLUN: the file's kind holds.
    for option in [&[][..], &["--device", &entry(&setting.image)]] {
        let run = setting.run(option, &setting.program).arg("idlun").arg(&setting.image).arg(&other);
        let run = run.env("VMWARE_BDWRAPPER_DEVICES", entry(&other));
        let outcome = run.output();
        assert_eq!(outcome.expect_out(), "answered\nENOTTY\n");
        let is_said = outcome.err().contains("has options in /etc/vmware-bdwrapper.conf, which are used");
        assert_eq!(is_said, !option.is_empty(), "{}", outcome.err());
    }
    let same = format!("{}=scsi", setting.image.display());
    for entry in [same, setting.image.display().to_string()] {
        assert_eq!(setting.run(&["--device", &entry], "true").output().err(), "", "{entry}");
    }
    let run = setting.run(&["--device", &entry(&other)], "true");
    is_refused(&run.output(), "is not listed in /etc/vmware-bdwrapper.conf");
    // What the file forces is the file's to say.
    setting.raw_conf("supervise nobody\n");
    is_refused(&setting.run(&[], "true").output(), "lists no device");
    // Root's directory, which the user cannot look into.
    let directory = setting.scratch.path("closed");
    fs::create_dir(&directory).expect("it is ours");
    let hidden = directory.join("image");
    fs::rename(&setting.image, &hidden).expect("it is ours");
    chmod(&directory, 0o700);
    chmod(&hidden, 0o600);
    setting.raw_conf(&format!("supervise nobody\ndevice {}=scsi\nwrong\n", hidden.display()));
    let outcome = setting.run(&[], &setting.set_user_id).arg("idlun").arg(&hidden).output();
    assert_eq!(outcome.expect_out(), "answered\n");
    assert!(outcome.err().contains("line 3 is wrong") && !outcome.err().contains("'wrong'"));
    setting.raw_conf(&format!("supervise nobody\ndevice {}=scsi\nsupervise x # me\n", hidden.display()));
    let outcome = setting.run(&[], "true").output();
    assert!(outcome.err().contains("line 3 is wrong: no comment may follow a name"), "{}", outcome.err());
    // It appears while the program runs.
    remove(&hidden);
    let script = "exec 2>&1; echo ready; read line; \"$1\" idlun \"$2\"";
    let run = setting.run(&[], "sh").args(["-c", script]).arg(&setting.program);
    let mut session = run.arg(&setting.set_user_id).arg(&hidden).start(&setting.scratch.path("stderr"));
    assert_eq!(session.line(), "ready");
    fs::rename(&other, &hidden).expect("it is ours");
    assert_eq!(session.ask("go"), "answered");
    session.end_with();
}

fn user_devices() {
    let setting = Setting::new();
    setting.conf("supervise nobody\nallow-user-devices yes");
    let own = setting.scratch.image("own", MIB);
    let closed = setting.scratch.image("closed", MIB);
    chmod(&closed, 0o644);
    let run = |path: &Path, options: &str| {
        let entry = format!("{}={options}", path.display());
        setting.run(&["--device", &entry], &setting.program).arg("idlun").arg(path).output()
    };
    assert_eq!(run(&own, "scsi").expect_out(), "answered\n");
    is_refused(&run(&closed, "scsi"), "you may not open it yourself (EACCES)");
    is_refused(&run(Path::new("/etc/shadow"), "scsi,ro"), "you may not open it yourself (EACCES)");
    is_refused(&run(Path::new("/root/no such file"), "scsi"), "you may not open it yourself (EACCES)");
    is_refused(&run(Path::new("/dev/null"), "scsi"), "is not a block device or image file");
    // A device of the file is what the file says, under every name.
    let link = setting.scratch.path("link");
    symlink(&setting.image, &link).expect("it is ours");
    assert_eq!(run(&link, "ide").expect_out(), "answered\n");
    assert_eq!(run(&own, "ide").expect_out(), "EINVAL\n");
    // The path leads elsewhere later: what the user could not open then stays what it is.
    symlink(&own, setting.scratch.path("moving")).expect("it is ours");
    let moving = setting.scratch.path("moving");
    let script = "echo ready; read line; \"$1\" idlun \"$2\"";
    let entry = format!("{}=scsi", moving.display());
    let run = setting.run(&["--device", &entry], "sh").args(["-c", script]).arg(&setting.program);
    let mut session = run.arg(&setting.set_user_id).arg(&moving).start(&setting.scratch.path("stderr"));
    assert_eq!(session.line(), "ready");
    remove(&moving);
    symlink(&closed, &moving).expect("it is ours");
    assert_eq!(session.ask("go"), "ENOTTY");
    session.end_with();
}

fn in_use() {
    let setting = Setting::new();
    let device = Loop::attach(&setting.scratch.image("disk", 8 * MIB), &[]);
    Run::new("mkfs.ext4").arg("-q").arg(device.path()).output().expect_out();
    let place = setting.scratch.path("place");
    fs::create_dir(&place).expect("it is ours");
    Run::new("mount").arg(device.path()).arg(&place).output().expect_out();
    let entry = format!("{}=scsi", device.path().display());
    setting.conf(&format!("supervise nobody\ndevice {entry}"));
    let ask = |options: &[&str]| {
        let run = setting.run(options, &setting.set_user_id).arg("idlun");
        run.arg(&setting.image).arg(device.path()).output()
    };
    let outcome = ask(&[]);
    assert_eq!(outcome.expect_out().lines().next(), Some("answered"));
    assert_ne!(outcome.out(), "answered\nanswered\n");
    assert!(outcome.err().contains("mounted") && outcome.err().contains("so it is left out"));
    assert_eq!(ask(&["--force"]).expect_out(), "answered\nanswered\n");
    assert_eq!(ask(&["--device", &entry]).code(), 126);
    Run::new("umount").arg(&place).output().expect_out();
}

fn hostile() {
    let setting = Setting::new();
    let run = |user: &str| setting.run_for(user, &[], "id").output();
    for value in ["-1", "4294967295", "4294967296", "garbage", "", " ", "65534x", "0x0", "+0", "00x", "1e3"] {
        is_refused(&run(value), "SUDO_UID is not the number of a user");
        let outcome = setting.run(&[], "id").env("SUDO_GID", value).output();
        is_refused(&outcome, "SUDO_GID is not the number of a user");
    }
    is_refused(&run("64999"), "no user has the number 64999");
    let run = Run::new("env").args(["-u", "SUDO_GID"]).arg(setting.scratch.command());
    let run = run.args(["run", "--engine", "supervisor", "--", "id"]).env("SUDO_UID", NOBODY);
    is_refused(&run.output(), "SUDO_GID is not set");
    // They mean nothing to others than root.
    let entry = format!("{}=scsi", setting.image.display());
    let run = setting.run_for("garbage", &["--device", &entry], &setting.program).arg("idlun");
    assert_eq!(run.arg(&setting.image).nobody().output().expect_out(), "answered\n");
}

/// A rule for sudo permits all words behind those that choose the supervisor.
fn options() {
    let setting = Setting::new();
    for option in [&["--engine", "library"][..], &["--engine=library"], &["--engine", "supervisor"]] {
        let outcome = setting.run(option, "id").output();
        assert_eq!((outcome.code(), outcome.out().as_str()), (2, ""), "{}", outcome.err());
    }
}

fn messages() {
    let setting = Setting::new();
    let run = || {
        let run = setting.run(&["--log-level", "1000"], &setting.set_user_id);
        run.arg("idlun").arg(&setting.image).output()
    };
    let outcome = run();
    assert_eq!(outcome.expect_out(), "answered\n");
    assert!(outcome.err().contains("does not let requests be shown"), "{}", outcome.err());
    assert!(!outcome.err().contains("GET_IDLUN"), "{}", outcome.err());
    setting.conf("supervise nobody\nmessages yes");
    assert!(run().err().contains("SCSI_IOCTL_GET_IDLUN"));
}

fn found() {
    let setting = Setting::new();
    let directory = setting.scratch.path("private");
    fs::create_dir(&directory).expect("it is ours");
    let secret = directory.join("id");
    fs::write(&secret, "#!/secret/interpreter\n").expect("it is ours");
    chmod(&secret, 0o700);
    let outcome = setting.run(&[], &secret).output();
    assert_eq!(outcome.code(), 126);
    assert!(!outcome.err().contains("/secret"), "{}", outcome.err());
    let path = format!("{}:/usr/bin:/bin", directory.display());
    let run = setting.run(&[], "id").arg("-u").env("PATH", &path);
    assert_eq!(run.output().expect_out(), format!("{NOBODY}\n"));
    chmod(&directory, 0o700);
    let outcome = setting.run(&[], &secret).output();
    assert_eq!(outcome.code(), 126);
    assert!(!outcome.err().contains("/secret"), "{}", outcome.err());
    let run = setting.run(&[], "id").arg("-u").env("PATH", &path);
    assert_eq!(run.output().expect_out(), format!("{NOBODY}\n"));
}

/// The user chooses `PATH`, where sudo has no `secure_path`.
fn nothing_is_run() {
    let setting = Setting::new();
    let directory = setting.scratch.path("bin");
    fs::create_dir(&directory).expect("it is ours");
    let mark = setting.scratch.path("mark");
    for name in fs::read_dir("/usr/bin")
        .expect("it can be read")
        .chain(fs::read_dir("/usr/sbin").expect("it can be read"))
    {
        let name = name.expect("it can be read").file_name();
        let trap = format!("#!/bin/sh\n/usr/bin/id -u >>{}\n", mark.display());
        let file = directory.join(&name);
        if !file.exists() {
            fs::write(&file, trap).expect("it is ours");
            chmod(&file, 0o755);
        }
    }
    // Where the user may not write, the command explains why, and whose the file is.
    let place = setting.scratch.path("place");
    fs::write(&place, "").expect("it is ours");
    let script = "mount --bind \"$0\" \"$1\" && mount -o remount,ro,bind \"$1\"";
    Run::new("sh").args(["-c", script]).arg(&setting.image).arg(&place).output().expect_out();
    setting.raw_conf(&format!("supervise nobody\ndevice {}=scsi\n", place.display()));
    fs::write(&mark, "").expect("it is ours");
    chmod(&mark, 0o666);
    let outcome = setting.run(&[], "/usr/bin/true").env("PATH", &directory).output();
    outcome.expect_out();
    assert!(outcome.err().contains("you may not read and write it"), "{}", outcome.err());
    Run::new("umount").arg(&place).output().expect_out();
    let ids = fs::read_to_string(&mark).expect("it is ours");
    assert_eq!(ids, "");
}
