//! Devices that grow under clients that stay open.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use acceptance::machine::{memory_image, run};
use acceptance::{Run, Scratch, Sgio, Trial, pattern, trial};

use crate::{MIB, array, bytes_of, crypt, entry, group, listed, volume};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("growth/loop", &[], of_loop),
        trial("growth/lvm", &[], of_lvm),
        trial("growth/md", &[], of_md),
        trial("growth/dm-crypt", &[], of_crypt),
    ]
}

const READY: &str = "00 00 00 00 00 00";

/// Two processes stay open, each with two descriptors: one unit attention a process, then the new capacity; the data stays.
fn growth(path: &Path, grow: impl FnOnce()) {
    let scratch = Scratch::new();
    let before = pattern(MIB);
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.write_all_at(&before, 0))
        .expect("it is ours");
    let small = bytes_of(path) / 512;
    let mut clients = ["scsi", "sata"].map(|kind| {
        let list = |program| Run::new(program).with(&scratch.library(), entry(path, kind));
        let mut sgio = Sgio::start(list, &scratch);
        let descriptors = ["rw", "rwd"].map(|flags| sgio.open(flags, path));
        (sgio, descriptors)
    });
    for (sgio, descriptors) in &mut clients {
        assert_eq!(blocks(sgio, &descriptors[0]), small);
    }
    grow();
    let large = bytes_of(path) / 512;
    assert!(large > small, "{small} {large}");
    for (byte, (sgio, [one, two])) in (0x77..).zip(&mut clients) {
        assert_eq!(sgio.none(one, READY), "6/2a/09 0");
        for fd in [&*one, &*two] {
            assert_eq!(sgio.none(fd, READY), "good 0");
            assert_eq!(blocks(sgio, fd), large);
            let at = |code: u8, block| format!("{code:02x} 00 {block:016x} 00 00 00 08 00 00");
            assert_eq!(sgio.write(fd, &at(0x8a, large - 8), 4096, byte), "good 0", "the new end");
            let read = sgio.read(fd, &at(0x88, large - 8), 4096);
            assert_eq!(read, ("good 0".into(), format!("{byte:02x}").repeat(4096)));
            assert_eq!(sgio.write(fd, &at(0x8a, large), 4096, byte), "5/21/00 4096", "behind it");
        }
    }
    let native = listed(&scratch, path, "ide", "hdparm -N DEV").expect_out();
    assert!(native.contains(&format!("{large}/{large}")), "{native}");
    let mut after = vec![0; MIB as usize];
    File::open(path).and_then(|file| file.read_exact_at(&mut after, 0)).expect("it is ours");
    assert!(before == after, "what was there");
}

/// What READ CAPACITY(16) says.
pub fn blocks(sgio: &mut Sgio, fd: &str) -> u64 {
    let answer = sgio.read(fd, "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", 32);
    assert_eq!(answer.0, "good 0");
    u64::from_str_radix(&answer.1[..16], 16).expect("hexadecimal") + 1
}

/// Has the image of a loop device grow, and the device with it.
fn extend(image: &str, device: &str, mib: u64) {
    File::options()
        .write(true)
        .open(image)
        .and_then(|file| file.set_len(mib * MIB))
        .expect("there is memory");
    run(&format!("losetup --set-capacity {device}"));
}

fn of_loop() {
    let image = memory_image(32);
    let device = run(&format!("losetup --find --show {image}"));
    let device = device.trim();
    growth(Path::new(device), || extend(&image, device, 48));
}

fn of_lvm() {
    let path = volume(group(), "growing", "-L 32M");
    growth(&path, || drop(run("lvextend -qq -L 48M loops/growing")));
}

fn of_md() {
    let path = array("md7", "1", 2);
    run("mdadm -q --grow /dev/md7 --size=65536");
    growth(&path, || drop(run("mdadm -q --grow /dev/md7 --size=max --assume-clean")));
}

fn of_crypt() {
    let image = memory_image(32);
    let device = run(&format!("losetup --find --show {image}"));
    let device = device.trim();
    growth(&crypt(device, "growing-secret"), || {
        extend(&image, device, 48);
        run("cryptsetup resize --key-file /dev/shm/key growing-secret");
    });
}
