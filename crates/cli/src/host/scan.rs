//! The block devices of a host, as sysfs, `/proc`, the links below `/dev` and udev's database describe them. No device is
//! opened.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use engine::sys::DeviceNumber;

use super::block::{Block, Identity, Kind, is_real, parse_number};
use super::uses::MOUNTS;
use crate::program::loader::resolve;
use crate::say::failure::{Failure, cause, say};
use crate::say::finding::{Code, Finding};

/// The unit of `size` in sysfs, in bytes, whatever the device's sectors are.
const SIZE_UNIT: u64 = 512;

/// Where the numbers of all block devices stand.
const NUMBERS: &str = "/sys/dev/block";

/// The block devices of a host, as they were when it was looked at. By default none is known.
#[derive(Default)]
pub struct Host {
    pub(super) root: PathBuf,
    pub(super) blocks: Vec<Block>,
}

/// Why the block devices cannot be examined.
pub struct Unknown {
    /// What cannot be read.
    file: &'static str,
    error: io::Error,
}

impl Unknown {
    /// What is to be mounted.
    fn remedy(&self) -> &'static str {
        match self.file.starts_with("/proc") {
            true => "run as root: 'mount -t proc proc /proc'",
            false => "run as root: 'mount -t sysfs sysfs /sys'",
        }
    }

    /// For devices that the user names: the kernel can still be asked whether something has one for itself.
    pub fn finding(&self) -> Finding {
        let why = format!(
            "cannot be read ({}), so what uses a device, or whether it is a physical disk, is unknown",
            cause(&self.error)
        );
        Finding::warning(Code::Unknown, why).of(self.file).hint(self.remedy())
    }
}

/// For what needs them all.
impl From<Unknown> for Failure {
    fn from(unknown: Unknown) -> Failure {
        let why = format!("cannot be read ({}), so the block devices are unknown", cause(&unknown.error));
        Finding::problem(Code::Unknown, why).of(unknown.file).hint(unknown.remedy()).into()
    }
}

impl Host {
    /// The running system.
    pub fn running() -> Result<Host, Unknown> {
        Host::below(Path::new("/"))
    }

    /// The same; where it cannot be examined, that is said and no device is known.
    pub fn known() -> Host {
        Host::running().unwrap_or_else(|unknown| {
            say(unknown.finding());
            Host::default()
        })
    }

    /// The system whose `/sys`, `/proc`, `/dev` and `/run/udev` stand below a directory.
    pub fn below(root: &Path) -> Result<Host, Unknown> {
        let mut host = Host { root: root.to_path_buf(), blocks: Vec::new() };
        let unknown = |file| move |error| Unknown { file, error };
        let numbers = unknown(NUMBERS);
        for entry in fs::read_dir(host.file(NUMBERS)).map_err(numbers)? {
            let entry = entry.map_err(numbers)?;
            let Some(number) = parse_number(entry.file_name().as_bytes()) else { continue };
            host.blocks.extend(host.block(number));
        }
        host.blocks.sort_by_key(|block| block.number);
        host.find_links();
        let mounts = fs::read(host.file(MOUNTS)).map_err(unknown(MOUNTS))?;
        host.find_uses(&mounts);
        Ok(host)
    }

    /// Whether it was looked at.
    pub fn is_known(&self) -> bool {
        !self.root.as_os_str().is_empty()
    }

    /// Where a file of the system's stands.
    pub(super) fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        let name = name.as_ref();
        self.root.join(name.strip_prefix("/").unwrap_or(name))
    }

    /// All of them, in the order of their numbers.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The one with this number.
    pub fn by_number(&self, number: DeviceNumber) -> Option<&Block> {
        self.blocks.iter().find(|block| block.number == number)
    }

    /// The one that a name leads to, whether by a node or, where that does not exist (in a container), by the kernel's name.
    pub fn by_path(&self, path: &Path) -> Option<&Block> {
        let resolved = resolve(&self.root, path)?;
        match self.root.join(&resolved).metadata() {
            Ok(status) if status.file_type().is_block_device() => {
                self.by_number(DeviceNumber::of(status.rdev()))
            }
            Ok(_) => None,
            Err(_) => {
                let name = resolved.strip_prefix("dev").ok()?;
                self.blocks.iter().find(|block| Path::new(&block.name) == name)
            }
        }
    }

    /// The file of a loop device, also where the device is a partition of that.
    pub fn file_under(&self, block: &Block) -> Option<&Path> {
        let is_it = |other: &&Block| other.number == block.number || other.overlaps(block);
        self.blocks.iter().filter(is_it).find_map(|other| other.file.as_deref())
    }

    /// Whether a loop device's file, as the kernel names it, is deleted; one may be called so.
    fn is_deleted(&self, file: &Path) -> bool {
        file.as_os_str().as_bytes().ends_with(b" (deleted)") && !self.file(file).exists()
    }

    fn block(&self, number: DeviceNumber) -> Option<Block> {
        let link = Path::new("/sys/dev/block").join(number.to_string());
        let directory = resolve(&self.root, &link)?;
        let read = |name: &str| attribute(&self.root.join(&directory).join(name));
        let text = |name: &str| read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let kernel_name = directory.file_name()?.as_bytes();
        let partition = read("partition");
        let is_partition = partition.is_some();
        let number_in = |directory: &Path, name: &str| {
            let text = attribute(&self.root.join(directory).join(name))?;
            std::str::from_utf8(&text).ok()?.parse::<u64>().ok()
        };
        let size = number_in(&directory, "size").unwrap_or(0);
        let dm_uuid = text("dm/uuid").filter(|uuid| !uuid.is_empty());
        let is_ata = read("device/vendor").is_some_and(|vendor| vendor.trim_ascii() == b"ATA");
        let whole = if is_partition { directory.parent()? } else { &directory };
        let properties = self.properties(number);
        let md_uuid =
            text("md/uuid").map(|uuid| with_colons(&uuid)).or_else(|| properties.get("MD_UUID").cloned());
        let file = read("loop/backing_file").map(|name| PathBuf::from(OsString::from_vec(name)));
        let is_deleted = file.as_ref().is_some_and(|file| self.is_deleted(file));
        let identity = match (&dm_uuid, md_uuid.filter(|_| !is_partition), &file) {
            (Some(uuid), ..) => Some(Identity::Dm(uuid.clone())),
            (_, Some(uuid), _) => Some(Identity::Md(uuid)),
            (.., Some(file)) if !is_deleted => Some(Identity::File(file.clone())),
            _ => None,
        };
        let left_over = partition.and_then(|number| {
            let end = number_in(&directory, "start")?.saturating_add(size);
            let disk = Path::new("/dev").join(node_name(whole.file_name()?.as_bytes()));
            let number = std::str::from_utf8(&number).ok()?.parse().ok()?;
            (end > number_in(whole, "size")?).then_some((disk, number))
        });
        Some(Block {
            number,
            name: node_name(kernel_name),
            kind: if is_partition {
                Kind::Partition
            } else {
                Kind::of(kernel_name, dm_uuid.as_deref().map(str::as_bytes), is_ata)
            },
            bytes: size.saturating_mul(SIZE_UNIT),
            sector: attribute(&self.root.join(whole).join("queue/logical_block_size"))
                .and_then(|size| std::str::from_utf8(&size).ok()?.parse().ok())
                .unwrap_or(512),
            read_only: read("ro").is_some_and(|flag| flag == b"1"),
            is_real: is_real(number, directory.as_os_str().as_bytes()),
            dm_name: read("dm/name").map(OsString::from_vec),
            dm_uuid,
            file,
            is_part_of_file: ["loop/offset", "loop/sizelimit"]
                .iter()
                .any(|name| number_in(&directory, name).is_some_and(|bytes| bytes > 0)),
            is_deleted,
            left_over,
            links: Vec::new(),
            uses: Vec::new(),
            system: None,
            properties,
            identity,
            directory,
        })
    }
}

/// The name of a node below `/dev`: the kernel has ! in sysfs where it has a slash.
fn node_name(kernel_name: &[u8]) -> OsString {
    OsString::from_vec(kernel_name.iter().map(|&byte| if byte == b'!' { b'/' } else { byte }).collect())
}

/// The names in a directory; none where there is no such directory.
pub(super) fn entry_names(directory: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

/// An attribute of sysfs without the newline that ends it; a file name in it can have others.
fn attribute(file: &Path) -> Option<Vec<u8>> {
    let mut text = fs::read(file).ok()?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Some(text)
}

/// An array's UUID as mdadm(8) writes it, from the one with hyphens that sysfs has.
fn with_colons(uuid: &str) -> String {
    let digits: Vec<char> = uuid.chars().filter(|digit| *digit != '-').collect();
    digits.chunks(8).map(String::from_iter).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A recorded system, and what the kernel's documents say of ZFS, Ceph and btrfs.
    const RECORDED: &str = include_str!("../../testdata/host.txt");
    const OTHERS: &str = "\
link sys/dev/block/230:0 ../../devices/virtual/block/zd0
file sys/devices/virtual/block/zd0/size 2048\\n
link dev/zvol/tank/guests/windows ../../../zd0
link sys/dev/block/252:16 ../../devices/rbd/0/block/rbd1
file sys/devices/rbd/0/block/rbd1/size 2048\\n
link dev/rbd/pool/image ../../rbd1
link sys/fs/btrfs/941ba93f-8456-4ba1-927b-78168d61e87f/devices/loop7 ../../../../devices/virtual/block/loop7
link sys/dev/block/104:0 ../../devices/pci0000:00/0000:00:0a.0/block/cciss!c0d0
file sys/devices/pci0000:00/0000:00:0a.0/block/cciss!c0d0/size 99999999999999999999\\n
file sys/devices/virtual/block/loop5/loop5p1/start 2048\\n
link sys/dev/block/259:9 ../../devices/virtual/block/loop5/loop5p9
file sys/devices/virtual/block/loop5/loop5p9/size 8192\\n
file sys/devices/virtual/block/loop5/loop5p9/partition 9\\n
file sys/devices/virtual/block/loop5/loop5p9/start 253953\\n
link dev/sd/by-hand ../loop4
link dev/sd/by-rule ../loop4
link dev/hd/lin ../dm-0
file run/udev/data/b7:4 S:sd/by-rule
file run/udev/data/b253:0 S:hd/lin\\nE:DM_VG_NAME=vg0\\nE:DM_LV_NAME=lin
";

    /// That system, below a directory that is gone with the first of these.
    pub fn recorded() -> (TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        for line in RECORDED.lines().chain(OTHERS.lines()).filter(|line| !line.starts_with('#')) {
            let mut parts = line.splitn(3, ' ');
            let mut part = || parts.next().expect("three parts");
            let (what, name, value) = (part(), root.path().join(part()), part());
            fs::create_dir_all(name.parent().expect("it is below the root")).expect("it is ours");
            match what {
                "link" => symlink(value, name).expect("it is ours"),
                _ => fs::write(name, value.replace("\\n", "\n").replace("\\\\", "\\")).expect("it is ours"),
            }
        }
        let host = Host::below(root.path()).ok().expect("it can be read");
        (root, host)
    }

    /// A device of it.
    pub fn at<'a>(host: &'a Host, name: &str) -> &'a Block {
        host.by_path(Path::new(name)).unwrap_or_else(|| panic!("{name} is recorded"))
    }

    #[test]
    fn sizes_and_sectors() {
        let (_root, host) = recorded();
        let facts = |name| {
            let block = at(&host, name);
            (block.bytes, block.sector, block.read_only)
        };
        assert_eq!(facts("/dev/loop5p1"), (16 << 20, 512, false));
        assert_eq!(facts("/dev/loop6"), (128 << 20, 4096, true));
        assert_eq!(facts("/dev/nbd1"), (0, 512, false));
        assert!(at(&host, "/dev/nbd1").is_unused() && !at(&host, "/dev/nbd0").is_unused());
        assert_eq!(at(&host, "/dev/loop5p1").left_over, None);
        assert_eq!(at(&host, "/dev/loop5p9").left_over, Some(("/dev/loop5".into(), 9)), "a sector too long");
        assert_eq!(facts("/dev/cciss/c0d0"), (0, 512, false), "a size that is no number");
    }

    #[test]
    fn the_running_system() {
        let host = Host::running().ok().expect("it can be read");
        for block in host.blocks() {
            assert_eq!(host.by_number(block.number).map(|block| &block.name), Some(&block.name));
        }
    }
}
