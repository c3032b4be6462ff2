//! Where a test program runs: as root with mounts and a `/dev` of its own, so that nothing stays behind when it is killed.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::umask;

use crate::machine::is_machine;
use crate::run::{PATH, Run};

/// Says in the environment which superuser a test program has become; without it, the program becomes one anew.
pub const PRIVILEGE: &str = "BDWRAPPER_TEST_PRIVILEGE";

/// What a test program may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Privilege {
    /// What an ordinary user may do.
    User,
    /// What the superuser of a user namespace may do.
    Namespace,
    /// What the machine's superuser may do, with loop devices and device nodes.
    Machine,
}

impl Privilege {
    fn name(self) -> &'static str {
        match self {
            Privilege::User => "user",
            Privilege::Namespace => "namespace",
            Privilege::Machine => "machine",
        }
    }
}

/// Makes a `/dev` of the program's own: device nodes and links are copied, and what is mounted there (`pts`, `shm`) is shared. There are
/// nodes for more loop devices than the kernel has yet, for losetup(8) to use.
const OWN_DEV: &str = r#"set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
cd /dev
for name in * .[!.]*; do
    if mountpoint -q "$name" && [ -d "$name" ]; then
        mkdir "/mnt/$name"
        mount --rbind "$name" "/mnt/$name"
    elif [ -e "$name" ] || [ -L "$name" ]; then
        cp -a "$name" /mnt
    fi
done
cd "$OLDPWD"
parts=$(cat /sys/module/loop/parameters/max_part 2>/dev/null || echo 0) step=1 number=0
while [ $step -le "$parts" ]; do step=$((step * 2)); done
while [ $number -lt 64 ]; do
    [ -e /mnt/loop$number ] || mknod -m 660 /mnt/loop$number b 7 $((number * step))
    number=$((number + 1))
done
mount --move /mnt /dev
exec "$@""#;

/// Makes a `/run` of the program's own, for that of the machine's superuser cannot be written in a user namespace.
const OWN_RUN: &str = r#"mount -t tmpfs -o mode=755 tmpfs /run && exec "$@""#;

/// What this program may do: as root of the machine only when it is isolated.
pub(crate) fn privilege() -> Privilege {
    if is_machine() {
        return Privilege::Machine;
    }
    let set = std::env::var_os(PRIVILEGE);
    let is_set = |privilege: &Privilege| set.as_deref() == Some(OsStr::new(privilege.name()));
    [Privilege::Machine, Privilege::Namespace].into_iter().find(is_set).unwrap_or(Privilege::User)
}

/// The options of unshare(1) that give a program mounts of its own, and an ordinary user the superuser's rights there.
fn options(privilege: Privilege) -> &'static [&'static str] {
    match privilege {
        Privilege::Namespace => {
            &["--user", "--map-root-user", "--map-auto", "--mount", "--propagation", "private", "--"]
        }
        _ => &["--mount", "--propagation", "private", "--"],
    }
}

/// Whether an ordinary user can be the superuser of a user namespace in which other users exist, too.
pub(crate) fn has_namespaces() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        Run::new("unshare").args(options(Privilege::Namespace)).arg("true").output().success()
    })
}

/// This test program with the superuser's rights.
fn again(privilege: Privilege) -> Command {
    let own = std::env::current_exe().expect("/proc/self/exe names this test program");
    let mut command = Command::new("unshare");
    command.args(options(privilege));
    command.args(["sh", "-c", if privilege == Privilege::Machine { OWN_DEV } else { OWN_RUN }, "sh"]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.arg(own).env("PATH", format!("{PATH}:{path}")).env(PRIVILEGE, privilege.name());
    command
}

/// Runs one trial of this program in a user namespace; it must pass there.
pub(crate) fn in_namespace(trial: &str) {
    let output = again(Privilege::Namespace).args(["--exact", trial]).output();
    let output = output.expect("unshare(1) has been run before");
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    // scripts/test counts no line of its report.
    let report: String = out.lines().chain(err.lines()).map(|line| format!("| {line}\n")).collect();
    assert!(output.status.success() && out.contains(" 1 passed"), "in a user namespace:\n{report}");
}

/// Makes this program independent of how it was started, and starts it again in mounts of its own where it is root's.
pub(crate) fn enter() {
    umask(Mode::WGRP | Mode::WOTH);
    let can_mount = || Run::new("unshare").args(options(Privilege::Machine)).arg("true").output().success();
    if crate::is_root() && privilege() == Privilege::User && can_mount() {
        let error = again(Privilege::Machine).args(std::env::args_os().skip(1)).exec();
        panic!("unshare(1) cannot be run: {error}");
    }
}
