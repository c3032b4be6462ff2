//! Random partition tables, numbered by the kernel.

use std::fs;
use std::path::Path;

use acceptance::layouts::{Layout, Partition, SEEDS};
use acceptance::{Loop, Scratch};

/// Of random tables, the partitions have the numbers that the kernel gives them.
pub fn numbers() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 1 << 20);
    println!("seeds {SEEDS:?}");
    for seed in SEEDS {
        let layout = Layout::of(seed);
        layout.write(&image);
        let device = Loop::attach(&image, &["--partscan"]);
        let mut found = by_kernel(device.path());
        found.retain(|(number, ..)| !layout.is_extended(*number));
        layout.judge(&scratch, &image, &found);
    }
}

/// The partitions that the kernel has found on a device.
fn by_kernel(device: &Path) -> Vec<Partition> {
    let name = device.file_name().expect("it has a name");
    let listed = fs::read_dir(Path::new("/sys/block").join(name)).expect("sysfs is mounted");
    let fact = |directory: &Path, fact: &str| {
        let text = fs::read_to_string(directory.join(fact)).expect("every partition has it");
        text.trim().parse::<u64>().expect("a number")
    };
    let directories = listed.map(|entry| entry.expect("it can be read").path());
    let partitions = directories.filter(|directory| directory.join("partition").exists());
    let mut partitions: Vec<Partition> = partitions
        .map(|directory| {
            (fact(&directory, "partition") as u32, fact(&directory, "start"), fact(&directory, "size"))
        })
        .collect();
    partitions.sort();
    partitions
}
