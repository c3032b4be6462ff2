//! What uses block devices: mounts, swap areas, holders, btrfs file systems; and what the running system has on them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use engine::sys::DeviceNumber;

use super::block::{Block, Kind, parse_number};
use super::scan::{Host, entry_names};
use crate::file::inode;
use crate::say::failure::{quoted, shown};

/// The mounts that this process sees (proc_pid_mountinfo(5)).
pub(super) const MOUNTS: &str = "/proc/self/mountinfo";

/// Why a device is not free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A file system on it is mounted there.
    Mounted(PathBuf),
    /// It is swapped on.
    Swap,
    /// A device that is made of it, or has it as a part; and what that is.
    Held(PathBuf, Kind),
    /// A file system of several devices has it; its UUID.
    Btrfs(String),
    /// The same of a partition on it, or of the disk that it is a partition of.
    Of(PathBuf, Box<Use>),
}

/// Continues a sentence that begins with the device's name.
impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted(place) => write!(f, "is mounted on {}", shown(place)),
            Use::Swap => f.write_str("is swapped on"),
            Use::Held(holder, _) => write!(f, "is held by {}", shown(holder)),
            Use::Btrfs(uuid) => write!(f, "belongs to the mounted btrfs {uuid}"),
            Use::Of(other, its) => write!(f, "shares its space with {}, which {its}", shown(other)),
        }
    }
}

/// Where the running system is mounted, and what starts it; the most telling first.
const SYSTEM: [&str; 6] = ["/", "/usr", "/var", "/boot", "/boot/efi", "/efi"];

/// Where a mount point stands in [`SYSTEM`]; behind all of them where it is not one of them.
fn system_rank(place: &Path) -> usize {
    SYSTEM.iter().position(|own| place == Path::new(own)).unwrap_or(SYSTEM.len())
}

/// What the running system has on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// The device that is mounted: the device itself, a partition of it, or what is made of them.
    pub mounted: PathBuf,
    /// Its mount point.
    pub place: PathBuf,
}

impl Use {
    /// The device that holds another.
    pub fn holder(&self) -> Option<&Path> {
        match self {
            Use::Held(holder, _) => Some(holder),
            Use::Of(_, its) => its.holder(),
            _ => None,
        }
    }

    /// What makes the device of this name free, or which to list instead; a request without its first capital and full stop.
    pub fn remedy(&self, name: &Path) -> String {
        match self {
            Use::Mounted(place) => format!("run as root: 'umount {}'", quoted(place)),
            Use::Swap => format!("run as root: 'swapoff {}'", quoted(name)),
            Use::Held(holder, kind) => {
                let apart = match kind {
                    Kind::Lvm => "lvchange -an",
                    Kind::Crypt => "cryptsetup close",
                    Kind::Multipath => "multipath -f",
                    Kind::Md => "mdadm --stop",
                    Kind::Loop => "losetup --detach",
                    Kind::Mapper | Kind::Partition => "dmsetup remove",
                    _ => return format!("list {0} instead, or take {0} apart", shown(holder)),
                };
                format!("list {} instead, or run as root: '{apart} {}'", shown(holder), quoted(holder))
            }
            Use::Btrfs(uuid) => format!("run as root: 'umount --all-targets UUID={uuid}'"),
            Use::Of(other, its) => its.remedy(other),
        }
    }
}

impl Host {
    /// Returns the loop device of a whole file by the kernel's name of it. What has that name now may be something else, which
    /// whoever owns the directory has put there.
    pub fn loop_of(&self, file: &Path) -> Option<&Block> {
        self.blocks.iter().find(|block| block.file.as_deref() == Some(file) && !block.is_part_of_file)
    }

    /// What uses an image file: loop devices, swapping.
    pub fn uses_of_file(&self, path: &Path) -> Vec<Use> {
        let Some(own) = inode(path.metadata()) else { return Vec::new() };
        let is_it = |other: &Path| inode(self.file(other).metadata()) == Some(own);
        let loops = self.blocks.iter().filter(|block| block.file.as_deref().is_some_and(is_it));
        let held = loops.map(|block| Use::Held(block.path(), block.kind));
        held.chain(self.swaps().iter().any(|file| is_it(file)).then_some(Use::Swap)).collect()
    }

    /// Finds what uses them, given the text of [`MOUNTS`].
    pub(super) fn find_uses(&mut self, text: &[u8]) {
        let mut own: Vec<(DeviceNumber, Use)> = Vec::new();
        let mut mounts: Vec<_> = mounts(text).collect();
        mounts.sort_by_key(|(_, _, place)| system_rank(place));
        for (number, source, place) in mounts {
            // The number of a btrfs is none of a device.
            let block =
                self.by_number(number).or_else(|| self.by_path(&source).filter(|_| number.major() == 0));
            own.extend(block.map(|block| (block.number, Use::Mounted(place))));
        }
        for file in self.swaps() {
            own.extend(self.by_path(&file).map(|block| (block.number, Use::Swap)));
        }
        for (name, uuid) in self.btrfs() {
            let block = self.blocks.iter().find(|block| block.name == name);
            own.extend(block.map(|block| (block.number, Use::Btrfs(uuid))));
        }
        for block in &self.blocks {
            let holders = self.holders(block);
            own.extend(
                holders.iter().map(|holder| (block.number, Use::Held(holder.best_name(), holder.kind))),
            );
        }
        for block in &self.blocks {
            // A loop device can have a device for its file.
            let backing = block.file.as_ref().and_then(|file| self.by_path(file));
            own.extend(backing.map(|backing| (backing.number, Use::Held(block.path(), block.kind))));
        }
        let uses = |block: &Block| -> Vec<Use> {
            let mut found: Vec<Use> = Vec::new();
            let mut add = |one: Use| {
                if !found.contains(&one) {
                    found.push(one)
                }
            };
            for (number, one) in &own {
                if *number == block.number {
                    add(one.clone());
                }
            }
            for (number, one) in &own {
                let Some(other) = self.by_number(*number) else { continue };
                if block.overlaps(other) {
                    add(Use::Of(other.path(), Box::new(one.clone())));
                }
            }
            found
        };
        let all: Vec<Vec<Use>> = self.blocks.iter().map(uses).collect();
        let systems = self.systems(&own);
        for (block, uses) in self.blocks.iter_mut().zip(all) {
            block.uses = uses;
            block.system = systems.get(&block.number).cloned();
        }
    }

    /// What the running system has on each device that it runs from, given what uses each device itself.
    fn systems(&self, own: &[(DeviceNumber, Use)]) -> BTreeMap<DeviceNumber, System> {
        let mut found = BTreeMap::new();
        let mut left = Vec::new();
        for (number, one) in own {
            let (Use::Mounted(place), Some(block)) = (one, self.by_number(*number)) else { continue };
            if system_rank(place) == SYSTEM.len() {
                continue;
            }
            let system = System { mounted: block.best_name(), place: place.clone() };
            left.push((block, system.clone()));
            // The other devices of its file system, and partitions that lie within it.
            let is_btrfs = |other: &Block| {
                let of = |number| {
                    own.iter().filter(move |(of, one)| *of == number && matches!(one, Use::Btrfs(_)))
                };
                of(block.number).any(|(_, one)| of(other.number).any(|(_, other)| one == other))
            };
            let is_within = |other: &Block| other.directory.parent() == Some(block.directory.as_path());
            let more = self.blocks.iter().filter(|other| is_btrfs(other) || is_within(other));
            left.extend(more.map(|other| (other, system.clone())));
        }
        left.reverse();
        while let Some((block, system)) = left.pop() {
            if found.contains_key(&block.number) {
                continue;
            }
            left.extend(self.under(block).map(|other| (other, system.clone())));
            found.insert(block.number, system);
        }
        found
    }

    /// What a device is made of, or a part of.
    fn under<'a>(&'a self, block: &'a Block) -> impl Iterator<Item = &'a Block> {
        let backing = block.file.as_ref().and_then(|file| self.by_path(file)).map(|backing| backing.number);
        let node = block.directory.file_name();
        self.blocks.iter().filter(move |other| {
            let holders = entry_names(&self.root.join(&other.directory).join("holders"));
            Some(other.number) == backing
                || block.directory.parent() == Some(other.directory.as_path())
                || holders.iter().any(|holder| Some(holder.as_os_str()) == node)
        })
    }

    /// The devices that hold one; instead of a part that LVM uses for itself, what is made of that.
    fn holders(&self, block: &Block) -> Vec<&Block> {
        let names = entry_names(&self.root.join(&block.directory).join("holders"));
        let find =
            |name: OsString| self.blocks.iter().find(|other| other.directory.file_name() == Some(&name));
        let outer = |holder| match self.holders(holder) {
            outer if holder.is_internal() && !outer.is_empty() => outer,
            _ => vec![holder],
        };
        names.into_iter().filter_map(find).flat_map(outer).collect()
    }

    /// The devices and files that are swapped on (proc_swaps(5)); a kernel without swapping has no such file.
    fn swaps(&self) -> Vec<PathBuf> {
        let text = fs::read(self.root.join("proc/swaps")).unwrap_or_default();
        let lines = text.split(|&byte| byte == b'\n').skip(1);
        let names = lines.filter_map(|line| line.split(u8::is_ascii_whitespace).next());
        names.filter(|name| !name.is_empty()).map(unescape).collect()
    }

    /// Each device of a mounted btrfs, by the kernel's name, and the file system's UUID.
    fn btrfs(&self) -> Vec<(OsString, String)> {
        let place = self.root.join("sys/fs/btrfs");
        let members = |uuid: OsString| {
            let devices = entry_names(&place.join(&uuid).join("devices"));
            devices.into_iter().map(move |name| (name, uuid.to_string_lossy().into_owned()))
        };
        entry_names(&place).into_iter().flat_map(members).collect()
    }
}

/// Number, source and place of each mount in the text of [`MOUNTS`].
fn mounts(text: &[u8]) -> impl Iterator<Item = (DeviceNumber, PathBuf, PathBuf)> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let number = parse_number(fields.nth(2)?)?;
        let place = unescape(fields.nth(1)?);
        let source = fields.skip_while(|field| *field != b"-").nth(2)?;
        Some((number, unescape(source), place))
    })
}

/// A name in which the kernel wrote some characters as `\NNN`, octal (`mangle_path` of fs/seq_file.c).
fn unescape(name: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::scan::tests::{at, recorded};

    #[test]
    fn what_uses_them() {
        let (_root, host) = recorded();
        let uses = |name| -> Vec<String> { at(&host, name).uses.iter().map(Use::to_string).collect() };
        let free: [&str; 0] = [];
        for name in
            ["/dev/vg0/lin", "/dev/vg0/thin", "/dev/md/guests", "/dev/nbd0", "/dev/sda", "/dev/mapper/mpatha"]
        {
            assert_eq!(uses(name), free, "{name}");
        }
        assert_eq!(uses("/dev/mapper/secret"), ["is mounted on /mnt/my data"]);
        assert_eq!(Use::Mounted("/mnt".into()).remedy(Path::new("x")), "run as root: 'umount /mnt'");
        assert_eq!(uses("/dev/vg0/swap"), ["is swapped on"]);
        assert_eq!(uses("/dev/sdc"), ["is held by /dev/mapper/mpatha"]);
        assert_eq!(uses("/dev/loop1"), ["is held by /dev/md/guests"]);
        assert_eq!(uses("/dev/loop7"), ["belongs to the mounted btrfs 941ba93f-8456-4ba1-927b-78168d61e87f"]);
        assert_eq!(uses("/dev/loop5p1"), ["is mounted on /mnt/p"]);
        assert_eq!(uses("/dev/loop5"), ["shares its space with /dev/loop5p1, which is mounted on /mnt/p"]);
        let volumes =
            ["/dev/vg0/swap", "/dev/mapper/vg0-pool", "/dev/vg0/thin", "/dev/vg0/lin", "/dev/vg0/snap"];
        assert_eq!(uses("/dev/loop0"), volumes.map(|volume| format!("is held by {volume}")));
        assert!(
            at(&host, "/dev/loop0").uses[0].remedy(Path::new("x")).contains("'lvchange -an /dev/vg0/swap'")
        );
        assert!(uses("/dev/mapper/vg0-pool-tpool").contains(&"is held by /dev/vg0/thin".into()));
    }

    #[test]
    fn what_the_system_runs_from() {
        let (_root, mut host) = recorded();
        let mounted = |host: &mut Host, name: &str, place: &str| {
            let number = at(host, name).number;
            host.find_uses(format!("1 1 {number} / {place} rw - ext4 x rw\n").as_bytes());
        };
        let on = |host: &Host, name: &str| at(host, name).system.clone().map(|system| system.mounted);
        assert!(host.blocks.iter().all(|block| block.system.is_none()));
        // The volume, its physical volume, and no other volume of the group.
        mounted(&mut host, "/dev/vg0/thin", "/");
        let root = Some(PathBuf::from("/dev/vg0/thin"));
        for name in
            ["/dev/vg0/thin", "/dev/mapper/vg0-pool-tpool", "/dev/mapper/vg0-pool_tdata", "/dev/loop0"]
        {
            assert_eq!(on(&host, name), root, "{name}");
        }
        for name in ["/dev/vg0/lin", "/dev/md/guests", "/dev/sda", "/dev/loop5"] {
            assert_eq!(on(&host, name), None, "{name}");
        }
        // A partition and its disk, and not the partition beside it.
        mounted(&mut host, "/dev/loop5p1", "/boot");
        assert_eq!(on(&host, "/dev/loop5"), Some("/dev/loop5p1".into()));
        assert_eq!(on(&host, "/dev/loop5p9"), None);
        mounted(&mut host, "/dev/md/guests", "/usr");
        assert_eq!(on(&host, "/dev/loop1"), Some("/dev/md/guests".into()));
        mounted(&mut host, "/dev/mapper/mpatha", "/home");
        assert!(host.blocks.iter().all(|block| block.system.is_none()), "that can be unmounted");
    }

    #[test]
    fn names_that_the_kernel_wrote() {
        assert_eq!(unescape(br"/mnt/my\040data\012x\134y"), Path::new("/mnt/my data\nx\\y"));
        assert_eq!(unescape(br"/a\"), Path::new(r"/a\"));
        assert_eq!(unescape(br"/a\777\9"), Path::new(r"/a\777\9"));
    }
}
