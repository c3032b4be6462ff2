//! What docs/alternatives.md has instead of the library does what it says there.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use acceptance::machine::{looped, run};
use acceptance::{Run, Trial, library, pattern, trial, wait_for};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde_json::Value;

use super::MIB;

pub fn trials() -> [Trial; 1] {
    [trial("alternatives/tcm_loop", &[], tcm_loop)]
}

/// The blocks of commands for a shell in the document.
fn blocks() -> [String; 2] {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/alternatives.md");
    let text = fs::read_to_string(file).expect("it is part of the sources");
    let blocks = text.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("its end"));
    blocks.map(str::to_owned).collect::<Vec<_>>().try_into().expect("two blocks")
}

/// The disk of LIO, if there is one.
fn lio() -> Option<String> {
    let disks = fs::read_dir("/sys/block").expect("sysfs is mounted").flatten();
    let mut disks = disks.filter(|disk| {
        fs::read_to_string(disk.path().join("device/vendor")).is_ok_and(|vendor| vendor.trim() == "LIO-ORG")
    });
    disks.next().map(|disk| disk.file_name().into_string().expect("ASCII"))
}

fn tcm_loop() {
    let device = looped(64);
    let [make, undo] = blocks();
    let shell = |block: &str| Run::new("sh").args(["-euc", block]).output().expect_out();
    run("modprobe configfs");
    if fs::read_dir("/sys/kernel/config").expect("the module makes it").next().is_none() {
        run("mount -t configfs configfs /sys/kernel/config");
    }
    shell(&make.replace("/dev/VG/windows", &device));
    let name = wait_for("the disk of LIO", lio);
    let disk = format!("/dev/{name}");
    let sectors = fs::read_to_string(format!("/sys/block/{name}/size")).expect("it is a disk");
    assert_eq!(sectors.trim(), (64 * MIB / 512).to_string());
    // It is a SCSI disk without the library.
    let probe = Run::new(library().with_file_name("vmware-bdwrapper"));
    let probe = probe.args(["probe", "--json", "--device", &format!("{disk}=scsi,force")]).output();
    let answers: Value = serde_json::from_str(&probe.out()).expect("it is JSON");
    let address = &answers["devices"][0]["without"]["SCSI_IOCTL_GET_IDLUN"];
    assert!(address.get("value").is_some(), "{answers}");
    // What is written to it is on the device, which nothing else can hold.
    let data = pattern(MIB);
    let file = OpenOptions::new().write(true).open(&disk).expect("root can");
    file.write_all_at(&data, 0).and_then(|()| file.sync_all()).expect("root can");
    let copy = format!("{}.copy", device.replace("/dev/", "/dev/shm/"));
    run(&format!("dd if={device} of={copy} bs=1M count=1 iflag=direct status=none"));
    assert!(fs::read(&copy).expect("root can") == data, "{device} has other data");
    let exclusive = OFlags::EXCL.bits().try_into().expect("a flag");
    let held = OpenOptions::new().read(true).custom_flags(exclusive).open(&device);
    assert_eq!(held.expect_err("it is held").raw_os_error(), Some(Errno::BUSY.raw_os_error()));
    drop(file);
    let names = make.lines().filter(|line| line.starts_with("core=") || line.starts_with("port="));
    shell(&format!("{}\n{undo}", names.collect::<Vec<_>>().join("\n")));
    wait_for("the disk to go", || lio().is_none().then_some(()));
}
