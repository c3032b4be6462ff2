//! The virtual machine of `scripts/machine`, from outside and from inside.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::build::{built_command, i386_program, library, program, statically_linked};
use crate::engine::{self, Engine};
use crate::run::Run;

/// Whether this process runs in the machine.
pub fn is_machine() -> bool {
    std::env::var_os("VIRTUAL_MACHINE").is_some()
}

/// This test program, to be run in the machine with these disks, on an engine.
pub fn machine(disks: &str, engine: Engine) -> Command {
    // What the machine could only compile slowly.
    library();
    built_command();
    for name in ["sgio", "ioctl-probe", "clients", "secure", "bench"] {
        program(name);
    }
    i386_program("ioctl-probe");
    statically_linked("supervised");
    let own = std::env::current_exe().expect("/proc/self/exe names it");
    let mut command = script();
    if engine == Engine::Supervisor {
        command.arg("env").arg(format!("{}=supervisor", engine::VARIABLE));
    }
    command.arg(own).env("DISKS", disks);
    if let Some(directory) = std::env::var_os("GOLDEN") {
        command.env("KEEP", directory);
    }
    command
}

/// The directory in the machine whose files outlive it, where `GOLDEN` says where to.
pub const KEPT: &str = "/run/control/kept";

/// `scripts/machine`, which runs a command in the machine.
pub fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/machine"))
}

/// Runs a command of the system that must succeed; words are divided by blanks.
pub fn run(text: &str) -> String {
    let mut words = text.split(' ');
    let outcome = Run::new(words.next().expect("a program stands first")).args(words).output();
    assert!(outcome.success(), "{text}: {}{}", outcome.out(), outcome.err());
    outcome.out()
}

/// A new, empty image file in memory, of so many MiB.
pub fn memory_image(mib: u64) -> String {
    let image = format!("/dev/shm/{}", run("mktemp -u XXXXXXXX").trim());
    File::create(&image)
        .and_then(|file| file.set_len(mib << 20))
        .expect("there is memory for an empty image");
    image
}

/// A new loop device, of so many MiB.
pub fn looped(mib: u64) -> String {
    run(&format!("losetup --find --show {}", memory_image(mib))).trim().to_owned()
}

/// Has LVM make the nodes by itself: there is no udev.
pub fn without_udev() {
    let local = "activation { udev_sync = 0 udev_rules = 0 }\ndevices { obtain_device_list_from_udev = 0 }\n";
    fs::write("/etc/lvm/lvmlocal.conf", local).expect("root can");
}

/// A disk of the machine, by its serial number or its vendor.
pub fn disk(serial: &str) -> String {
    for name in fs::read_dir("/sys/block").expect("sysfs is mounted") {
        let name =
            name.expect("it can be read").file_name().into_string().expect("the kernel's names are ASCII");
        let path = format!("/dev/{name}");
        let said = fs::read_to_string(format!("/sys/block/{name}/serial")).unwrap_or_default();
        let number = fs::read(format!("/sys/block/{name}/device/vpd_pg80")).unwrap_or_default();
        let number = number.get(4..).map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        if said.trim() == serial || number.is_some_and(|number| number == serial) {
            return path;
        }
    }
    panic!("the machine has no disk {serial}");
}
