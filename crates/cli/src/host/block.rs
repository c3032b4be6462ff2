//! The block devices of a host, as sysfs, `/proc`, the links below `/dev` and udev's database describe them. No device is
//! opened.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use disk::physical_disk::{BLOCK_EXT_MAJOR, is_disk_link, is_disk_number};

use crate::program::loader::resolve;
use crate::say::failure::{Failure, cause, quoted, say, shown};
use crate::say::finding::{Code, Finding};

/// The unit of `size` in sysfs, in bytes, whatever the device's sectors are.
const SIZE_UNIT: u64 = 512;

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// The driver's.
    pub major: u32,
    /// The device's.
    pub minor: u32,
}

impl Number {
    /// The one in an `st_rdev`.
    pub fn of(rdev: u64) -> Number {
        Number { major: rustix::fs::major(rdev), minor: rustix::fs::minor(rdev) }
    }

    fn parse(text: &[u8]) -> Option<Number> {
        let (major, minor) = std::str::from_utf8(text).ok()?.split_once(':')?;
        Some(Number { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A logical volume of LVM.
    Lvm,
    /// An encrypted volume of dm-crypt.
    Crypt,
    /// A disk that several paths lead to.
    Multipath,
    /// Another device of the device mapper.
    Mapper,
    /// An array of the md driver.
    Md,
    /// A file as a device.
    Loop,
    /// A volume of ZFS.
    Zvol,
    /// A network block device.
    Nbd,
    /// An image of Ceph's.
    Rbd,
    /// Compressed memory.
    Zram,
    /// Memory.
    Ram,
    /// A disk with a cache before it.
    Bcache,
    /// A device that another host mirrors.
    Drbd,
    /// A disk of the SCSI driver.
    Scsi,
    /// A disk behind libata, or of the old IDE driver.
    Ata,
    /// An NVMe namespace.
    Nvme,
    /// A paravirtual disk of a virtual machine.
    Virtio,
    /// A memory card.
    Mmc,
    /// A CD drive.
    Cd,
    /// A floppy drive.
    Floppy,
    /// A part of a disk.
    Partition,
    /// Anything else.
    Other,
}

impl Kind {
    /// Its name in tables and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Lvm => "lvm",
            Kind::Crypt => "crypt",
            Kind::Multipath => "multipath",
            Kind::Mapper => "dm",
            Kind::Md => "md",
            Kind::Loop => "loop",
            Kind::Zvol => "zvol",
            Kind::Nbd => "nbd",
            Kind::Rbd => "rbd",
            Kind::Zram => "zram",
            Kind::Ram => "ram",
            Kind::Bcache => "bcache",
            Kind::Drbd => "drbd",
            Kind::Scsi => "scsi",
            Kind::Ata => "ata",
            Kind::Nvme => "nvme",
            Kind::Virtio => "virtio",
            Kind::Mmc => "mmc",
            Kind::Cd => "cd",
            Kind::Floppy => "floppy",
            Kind::Partition => "partition",
            Kind::Other => "other",
        }
    }

    /// From the kernel's name of a device that is no partition, the device mapper's UUID, and whether libata drives it.
    fn of(name: &[u8], dm_uuid: Option<&[u8]>, is_ata: bool) -> Kind {
        // As blk_register names them: a word, then letters or a number.
        const NAMES: [(&[u8], Kind); 19] = [
            (b"md", Kind::Md),
            (b"loop", Kind::Loop),
            (b"zd", Kind::Zvol),
            (b"nbd", Kind::Nbd),
            (b"rbd", Kind::Rbd),
            (b"zram", Kind::Zram),
            (b"ram", Kind::Ram),
            (b"bcache", Kind::Bcache),
            (b"drbd", Kind::Drbd),
            (b"sd", Kind::Scsi),
            (b"hd", Kind::Ata),
            (b"nvme", Kind::Nvme),
            (b"vd", Kind::Virtio),
            (b"xvd", Kind::Virtio),
            (b"mmcblk", Kind::Mmc),
            (b"sr", Kind::Cd),
            (b"fd", Kind::Floppy),
            (b"pmem", Kind::Ram),
            (b"dm-", Kind::Mapper),
        ];
        let found = NAMES.iter().find(|(word, kind)| {
            let rest = name.strip_prefix(*word);
            let lettered = matches!(kind, Kind::Scsi | Kind::Ata | Kind::Virtio);
            let follows = |byte: &u8| {
                if lettered { byte.is_ascii_lowercase() } else { byte.is_ascii_digit() || *byte == b'_' }
            };
            rest.and_then(<[u8]>::first).is_some_and(follows)
        });
        match found.map(|(_, kind)| *kind) {
            Some(Kind::Mapper) => {
                // The word before the first hyphen is the owner's (libdevmapper.h, dm_task_set_uuid).
                match dm_uuid.unwrap_or_default().split(|&byte| byte == b'-').next().unwrap_or_default() {
                    b"LVM" => Kind::Lvm,
                    b"CRYPT" => Kind::Crypt,
                    b"mpath" => Kind::Multipath,
                    part if part.starts_with(b"part") => Kind::Partition,
                    _ => Kind::Mapper,
                }
            }
            Some(Kind::Scsi) if is_ata => Kind::Ata,
            Some(kind) => kind,
            None => Kind::Other,
        }
    }
}

/// What makes a device the same one after the next start of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The device mapper's UUID (`DM_UUID` for udev).
    Dm(String),
    /// An array's UUID as mdadm(8) writes it, with colons (`MD_UUID` for udev).
    Md(String),
    /// A link below `/dev` that names the device and not the place where it is: one in `/dev/disk/by-id`, or a zvol's or an
    /// rbd's.
    Link(PathBuf),
    /// A loop device's file.
    File(PathBuf),
}

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

/// A block device.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its number.
    pub number: Number,
    /// The kernel's name of it, as it is in `/dev`.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
    /// Its size.
    pub bytes: u64,
    /// Its logical sector size, in bytes.
    pub sector: u32,
    /// Whether it can only be read.
    pub read_only: bool,
    /// A real SCSI, IDE or NVMe disk, which the library takes only with the option `force`.
    pub is_real: bool,
    /// The device mapper's name of it.
    pub dm_name: Option<OsString>,
    /// The device mapper's UUID of it.
    pub dm_uuid: Option<String>,
    /// A loop device's file.
    pub file: Option<PathBuf>,
    /// That file has no name any more; the kernel adds ` (deleted)` to the one that it had.
    pub is_deleted: bool,
    /// A partition's disk and number, where the disk has become too small for it: what the kernel keeps of a loop device
    /// that was detached, for example.
    pub left_over: Option<(PathBuf, u32)>,
    /// Names below `/dev` that stay the same, the best first: `/dev/VG/LV`, `/dev/mapper`, `/dev/disk/by-id` and so on;
    /// `/dev/disk/by-path` only where there is no other, and one in `/dev/sd` or `/dev/hd` where udev makes it.
    pub links: Vec<PathBuf>,
    /// Why it is not free.
    pub uses: Vec<Use>,
    /// What the running system has on it.
    pub system: Option<System>,
    /// What udev's database says of it (udevadm info; `E:` lines).
    pub properties: BTreeMap<String, String>,
    identity: Option<Identity>,
    /// Its directory, as `/sys/dev/block/MAJOR:MINOR` leads to it, relative to the root.
    directory: PathBuf,
}

impl Block {
    /// Its node.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// The name that people know it by: the best that stays the same, or its node.
    pub fn best_name(&self) -> PathBuf {
        self.links.first().cloned().unwrap_or_else(|| self.path())
    }

    /// What makes it the same device after the next start of the system; none where nothing does.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Whether udev has found LVM's label on it.
    pub fn is_physical_volume(&self) -> bool {
        self.properties.get("ID_FS_TYPE").is_some_and(|kind| kind == "LVM2_member")
    }

    /// Whether it stands for nothing, as a loop device without a file and an nbd device without a server do.
    pub fn is_unused(&self) -> bool {
        self.bytes == 0 && self.file.is_none() && self.uses.is_empty()
    }

    /// Whether one of two is a partition of the other.
    pub fn overlaps(&self, other: &Block) -> bool {
        let (ours, theirs) = (self.directory.as_path(), other.directory.as_path());
        Some(ours) == theirs.parent() || ours.parent() == Some(theirs)
    }

    /// Whether it is a part that LVM uses for itself: the data of a thin pool, a half of a mirror.
    pub fn is_internal(&self) -> bool {
        // LVM's UUID has two of 32 characters; what follows them tells the part (lib/activate/dev_manager.c of LVM2).
        const WHOLE: usize = "LVM-".len() + 2 * 32;
        self.kind == Kind::Lvm && self.dm_uuid.as_ref().is_some_and(|uuid| uuid.len() > WHOLE)
    }
}

/// Where the numbers of all block devices stand.
const NUMBERS: &str = "/sys/dev/block";

/// The mounts that this process sees (proc_pid_mountinfo(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

/// The block devices of a host, as they were when it was looked at. By default none is known.
#[derive(Default)]
pub struct Host {
    root: PathBuf,
    blocks: Vec<Block>,
}

/// Why the block devices cannot be looked at.
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

    /// The same; where it cannot be looked at, that is said and no device is known.
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
            let Some(number) = Number::parse(entry.file_name().as_bytes()) else { continue };
            host.blocks.extend(host.block(number));
        }
        host.blocks.sort_by_key(|block| block.number);
        host.name();
        let mounts = fs::read(host.file(MOUNTS)).map_err(unknown(MOUNTS))?;
        host.find_uses(&mounts);
        Ok(host)
    }

    /// Whether it was looked at.
    pub fn is_known(&self) -> bool {
        !self.root.as_os_str().is_empty()
    }

    /// Where a file of the system's stands.
    fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        let name = name.as_ref();
        self.root.join(name.strip_prefix("/").unwrap_or(name))
    }

    /// All of them, in the order of their numbers.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The one with this number.
    pub fn by_number(&self, number: Number) -> Option<&Block> {
        self.blocks.iter().find(|block| block.number == number)
    }

    /// The one that a name leads to, whether by a node or, where that does not exist (in a container), by the kernel's name.
    pub fn by_path(&self, path: &Path) -> Option<&Block> {
        let resolved = resolve(&self.root, path)?;
        match self.root.join(&resolved).metadata() {
            Ok(status) if status.file_type().is_block_device() => self.by_number(Number::of(status.rdev())),
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

    /// What uses an image file: loop devices, swapping.
    pub fn uses_of_file(&self, path: &Path) -> Vec<Use> {
        let inode = |path: &Path| path.metadata().ok().map(|status| (status.dev(), status.ino()));
        let Some(own) = inode(path) else { return Vec::new() };
        let is_it = |other: &Path| inode(&self.file(other)) == Some(own);
        let loops = self.blocks.iter().filter(|block| block.file.as_deref().is_some_and(is_it));
        let held = loops.map(|block| Use::Held(block.path(), block.kind));
        held.chain(self.swaps().iter().any(|file| is_it(file)).then_some(Use::Swap)).collect()
    }

    /// Whether a loop device's file, as the kernel names it, is deleted; one may be called so.
    fn is_deleted(&self, file: &Path) -> bool {
        file.as_os_str().as_bytes().ends_with(b" (deleted)") && !self.file(file).exists()
    }

    fn block(&self, number: Number) -> Option<Block> {
        let link = Path::new("/sys/dev/block").join(number.to_string());
        let directory = resolve(&self.root, &link)?;
        let read = |name: &str| attribute(&self.root.join(&directory).join(name));
        let text = |name: &str| read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let kernel_name = directory.file_name()?.as_bytes();
        let partition = read("partition");
        let is_partition = partition.is_some();
        let sectors = |directory: &Path, name: &str| {
            let text = attribute(&self.root.join(directory).join(name))?;
            std::str::from_utf8(&text).ok()?.parse::<u64>().ok()
        };
        let size = sectors(&directory, "size").unwrap_or(0);
        let dm_uuid = text("dm/uuid").filter(|uuid| !uuid.is_empty());
        let is_ata = read("device/vendor").is_some_and(|vendor| vendor.trim_ascii() == b"ATA");
        let whole = if is_partition { directory.parent()? } else { &directory };
        let properties = self.properties(number);
        let md_uuid =
            text("md/uuid").map(|uuid| colons(&uuid)).or_else(|| properties.get("MD_UUID").cloned());
        let file = read("loop/backing_file").map(|name| PathBuf::from(OsString::from_vec(name)));
        let is_deleted = file.as_ref().is_some_and(|file| self.is_deleted(file));
        let identity = match (&dm_uuid, md_uuid.filter(|_| !is_partition), &file) {
            (Some(uuid), ..) => Some(Identity::Dm(uuid.clone())),
            (_, Some(uuid), _) => Some(Identity::Md(uuid)),
            (.., Some(file)) if !is_deleted => Some(Identity::File(file.clone())),
            _ => None,
        };
        let left_over = partition.and_then(|number| {
            let end = sectors(&directory, "start")?.saturating_add(size);
            let disk = Path::new("/dev").join(node_name(whole.file_name()?.as_bytes()));
            let number = std::str::from_utf8(&number).ok()?.parse().ok()?;
            (end > sectors(whole, "size")?).then_some((disk, number))
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

    /// A device in udev's database (systemd: src/libsystemd/sd-device/device-private.c).
    fn udev(&self, number: Number) -> String {
        let data = fs::read(self.root.join(format!("run/udev/data/b{number}"))).unwrap_or_default();
        String::from_utf8_lossy(&data).into_owned()
    }

    /// The `E:` lines of it.
    fn properties(&self, number: Number) -> BTreeMap<String, String> {
        let data = self.udev(number);
        let pairs = data.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Whether a rule of udev's makes a link: the `S:` lines.
    pub fn is_udevs(&self, number: Number, link: &Path) -> bool {
        let data = self.udev(number);
        data.lines()
            .filter_map(|line| line.strip_prefix("S:"))
            .any(|name| link == Path::new("/dev").join(name))
    }

    /// Finds the links below `/dev` that lead to devices.
    fn name(&mut self) {
        let mut links = Vec::new();
        self.walk(Path::new("/dev"), 0, &mut links);
        links.sort_by_key(|link| (rank(link), link.clone()));
        for link in links {
            let Some(number) = self.by_path(&link).map(|block| block.number) else { continue };
            // Others are gone after the next start of the system.
            if is_kind_name(&link) && !self.is_udevs(number, &link) {
                continue;
            }
            let Some(block) = self.blocks.iter_mut().find(|block| block.number == number) else { continue };
            if rank(&link) < LAST_RESORT || (rank(&link) == LAST_RESORT && block.links.is_empty()) {
                block.links.push(link);
            }
        }
        for block in &mut self.blocks {
            if block.identity.is_none() {
                let link = block.links.iter().find(|link| NAMING.iter().any(|place| link.starts_with(place)));
                block.identity = link.cloned().map(Identity::Link);
            }
        }
    }

    fn walk(&self, directory: &Path, depth: u32, links: &mut Vec<PathBuf>) {
        /// As deep as `/dev/zvol/POOL/DATASET/…` is in practice.
        const DEEPEST: u32 = 8;
        /// What holds no names of devices that stay.
        const PASSED_OVER: [&str; 7] = ["block", "bus", "char", "fd", "pts", "shm", "mqueue"];
        let place = self.file(directory);
        let Ok(entries) = fs::read_dir(place) else { return };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = directory.join(entry.file_name());
            if kind.is_symlink() {
                links.push(path);
            } else if kind.is_dir() && depth < DEEPEST {
                let passed_over = depth == 0 && PASSED_OVER.iter().any(|name| entry.file_name() == *name);
                if !passed_over {
                    self.walk(&path, depth + 1, links);
                }
            }
        }
    }

    /// Finds what uses them, given the text of [`MOUNTS`].
    fn find_uses(&mut self, text: &[u8]) {
        let mut own: Vec<(Number, Use)> = Vec::new();
        let mut mounts: Vec<_> = mounts(text).collect();
        mounts.sort_by_key(|(_, _, place)| system_rank(place));
        for (number, source, place) in mounts {
            // The number of a btrfs is none of a device.
            let block =
                self.by_number(number).or_else(|| self.by_path(&source).filter(|_| number.major == 0));
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
    fn systems(&self, own: &[(Number, Use)]) -> BTreeMap<Number, System> {
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
            let holders = names(&self.root.join(&other.directory).join("holders"));
            Some(other.number) == backing
                || block.directory.parent() == Some(other.directory.as_path())
                || holders.iter().any(|holder| Some(holder.as_os_str()) == node)
        })
    }

    /// The devices that hold one; instead of a part that LVM uses for itself, what is made of that.
    fn holders(&self, block: &Block) -> Vec<&Block> {
        let names = names(&self.root.join(&block.directory).join("holders"));
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
        names.filter(|name| !name.is_empty()).map(unescaped).collect()
    }

    /// Each device of a mounted btrfs, by the kernel's name, and the file system's UUID.
    fn btrfs(&self) -> Vec<(OsString, String)> {
        let place = self.root.join("sys/fs/btrfs");
        let members = |uuid: OsString| {
            let devices = names(&place.join(&uuid).join("devices"));
            devices.into_iter().map(move |name| (name, uuid.to_string_lossy().into_owned()))
        };
        names(&place).into_iter().flat_map(members).collect()
    }
}

/// Number, source and place of each mount in the text of [`MOUNTS`].
fn mounts(text: &[u8]) -> impl Iterator<Item = (Number, PathBuf, PathBuf)> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let number = Number::parse(fields.nth(2)?)?;
        let place = unescaped(fields.nth(1)?);
        let source = fields.skip_while(|field| *field != b"-").nth(2)?;
        Some((number, unescaped(source), place))
    })
}

/// Whether a device is a real SCSI, IDE or NVMe disk; `link` is where `/sys/dev/block/MAJOR:MINOR` leads.
fn is_real(number: Number, link: &[u8]) -> bool {
    if number.major == BLOCK_EXT_MAJOR {
        is_disk_link(link)
    } else {
        is_disk_number(number.major, number.minor)
    }
}

/// Whether a name leads to a real SCSI, IDE or NVMe disk; one that does not exist yet is not judged.
pub fn is_real_path(path: &Path) -> bool {
    let Ok(status) = path.metadata() else { return false };
    let number = Number::of(status.rdev());
    let link = Path::new("/sys/dev/block").join(number.to_string()).read_link().unwrap_or_default();
    status.file_type().is_block_device() && is_real(number, link.as_os_str().as_bytes())
}

/// Says that a device is a real disk, without what to do.
pub fn real(name: &Path) -> Finding {
    Finding::problem(Code::PhysicalDisk, "is a physical disk, which needs no wrapper").of(name)
}

/// Directories whose links name a device and not its place.
const NAMING: [&str; 3] = ["/dev/disk/by-id", "/dev/zvol", "/dev/rbd"];

/// Whether a name says by itself which kind of disk it is to be; users make these by `link`.
fn is_kind_name(link: &Path) -> bool {
    ["/dev/sd", "/dev/hd"].iter().any(|place| link.starts_with(place))
}

/// The name of a node below `/dev`: the kernel has ! in sysfs where it has a slash.
fn node_name(kernel_name: &[u8]) -> OsString {
    OsString::from_vec(kernel_name.iter().map(|&byte| if byte == b'!' { b'/' } else { byte }).collect())
}

const LAST_RESORT: u8 = 4;
const NEVER: u8 = 5;

/// How good a name is, 0 being best.
fn rank(link: &Path) -> u8 {
    match link.strip_prefix("/dev/disk") {
        // The name of what is on it.
        Ok(name) if name.as_os_str().as_bytes().starts_with(b"by-id/lvm-pv-uuid-") => NEVER,
        // Several names of one device, those of a world-wide number last.
        Ok(name) if name.starts_with("by-id") => {
            let numbered = ["wwn-", "nvme-eui.", "nvme-uuid.", "dm-uuid-", "md-uuid-"];
            let file = name.file_name().unwrap_or_default().as_bytes();
            if numbered.iter().any(|start| file.starts_with(start.as_bytes())) { 3 } else { 2 }
        }
        Ok(name) if name.starts_with("by-path") => LAST_RESORT,
        Ok(_) => NEVER,
        Err(_) if link.starts_with("/dev/mapper") => 1,
        // Not a name that the device's own tools know.
        Err(_) if is_kind_name(link) => 2,
        Err(_) => 0,
    }
}

/// The names in a directory; none where there is no such directory.
fn names(directory: &Path) -> Vec<OsString> {
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

/// A name in which the kernel wrote some characters as `\NNN`, octal (`mangle_path` of fs/seq_file.c).
fn unescaped(name: &[u8]) -> PathBuf {
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

/// An array's UUID as mdadm(8) writes it, from the one with hyphens that sysfs has.
fn colons(uuid: &str) -> String {
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
    fn every_kind_is_told() {
        let (_root, host) = recorded();
        for (name, kind, is_real) in [
            ("/dev/vg0/lin", Kind::Lvm, false),
            ("/dev/mapper/vg0-thin", Kind::Lvm, false),
            ("/dev/mapper/secret", Kind::Crypt, false),
            ("/dev/mapper/mpatha", Kind::Multipath, false),
            ("/dev/md/guests", Kind::Md, false),
            ("/dev/loop0", Kind::Loop, false),
            ("/dev/loop5p1", Kind::Partition, false),
            ("/dev/zvol/tank/guests/windows", Kind::Zvol, false),
            ("/dev/rbd/pool/image", Kind::Rbd, false),
            ("/dev/nbd0", Kind::Nbd, false),
            ("/dev/zram0", Kind::Zram, false),
            ("/dev/vda", Kind::Virtio, false),
            ("/dev/sda", Kind::Scsi, true),
            ("/dev/sdb", Kind::Ata, true),
            ("/dev/nvme0n1", Kind::Nvme, true),
            ("/dev/nvme0n1p2", Kind::Partition, false),
            ("/dev/cciss/c0d0", Kind::Other, false),
        ] {
            let block = at(&host, name);
            assert_eq!((block.kind, block.is_real), (kind, is_real), "{name}");
        }
        assert!(host.by_path(Path::new("/dev/nothing")).is_none());
        assert!(host.by_path(Path::new("/proc/swaps")).is_none());
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
    fn names_that_stay() {
        let (_root, host) = recorded();
        let best = |name| at(&host, name).best_name();
        assert_eq!(best("/dev/dm-0"), Path::new("/dev/vg0/lin"));
        assert_eq!(best("/dev/dm-10"), Path::new("/dev/mapper/secret"));
        assert_eq!(best("/dev/md127"), Path::new("/dev/md/guests"));
        assert_eq!(best("/dev/sda"), Path::new("/dev/disk/by-id/scsi-35001438000000000"));
        assert_eq!(best("/dev/loop0"), Path::new("/dev/loop0"), "the other name is that of its content");
        assert_eq!(
            at(&host, "/dev/loop4").links,
            [Path::new("/dev/sd/by-rule")],
            "udev does not make the other"
        );
        assert!(at(&host, "/dev/sda").links.iter().all(|link| !link.starts_with("/dev/disk/by-path")));
    }

    #[test]
    fn what_they_are() {
        let (_root, host) = recorded();
        let identity = |name| at(&host, name).identity().cloned();
        let lin = "LVM-roeq56xq0P3pEvZYXnoBDMN7J2oPDEpBFZ5reJYh6zjWOps9pF5DIVCaVTkNCyRW";
        assert_eq!(identity("/dev/vg0/lin"), Some(Identity::Dm(lin.into())));
        assert_eq!(identity("/dev/md127"), Some(Identity::Md("8a23617f:03a1976c:b0f5855a:8009bd1b".into())));
        assert_eq!(identity("/dev/loop1"), Some(Identity::File("/run/recimg/1".into())));
        assert_eq!(
            identity("/dev/sdb"),
            Some(Identity::Link("/dev/disk/by-id/ata-QEMU_HARDDISK_QIDE1".into()))
        );
        assert_eq!(identity("/dev/zd0"), Some(Identity::Link("/dev/zvol/tank/guests/windows".into())));
        assert_eq!(identity("/dev/nbd0"), None);
        assert!(at(&host, "/dev/mapper/vg0-pool_tdata").is_internal());
        assert!(!at(&host, "/dev/vg0/lin").is_internal());
        assert!(
            at(&host, "/dev/loop0").is_physical_volume() && !at(&host, "/dev/loop1").is_physical_volume()
        );
    }

    #[test]
    fn the_running_system() {
        let host = Host::running().ok().expect("it can be read");
        for block in host.blocks() {
            assert_eq!(host.by_number(block.number).map(|block| &block.name), Some(&block.name));
        }
    }

    #[test]
    fn names_that_the_kernel_wrote() {
        assert_eq!(unescaped(br"/mnt/my\040data\012x\134y"), Path::new("/mnt/my data\nx\\y"));
        assert_eq!(unescaped(br"/a\"), Path::new(r"/a\"));
        assert_eq!(unescaped(br"/a\777\9"), Path::new(r"/a\777\9"));
    }
}
