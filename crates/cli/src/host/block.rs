//! The model of a block device.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use disk::physical_disk::{BLOCK_EXT_MAJOR, is_physical_disk_link, is_physical_disk_number};
use engine::listed::is_physical_disk;
use engine::sys::DeviceNumber;

use super::uses::{System, Use};
use crate::say::finding::{Code, Finding};

/// Parses `MAJOR:MINOR`.
pub(super) fn parse_number(text: &[u8]) -> Option<DeviceNumber> {
    let (major, minor) = std::str::from_utf8(text).ok()?.split_once(':')?;
    Some(DeviceNumber::new(major.parse().ok()?, minor.parse().ok()?))
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

    /// From the kernel's name of a device that is not a partition, the device mapper's UUID, and whether libata drives it.
    pub(super) fn of(name: &[u8], dm_uuid: Option<&[u8]>, is_ata: bool) -> Kind {
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

/// What makes a device the same one after the next boot.
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

/// A block device.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its number.
    pub number: DeviceNumber,
    /// The kernel's name of it, as it is in `/dev`.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
    /// Its size.
    pub bytes: u64,
    /// Its logical sector size, in bytes.
    pub sector: u32,
    /// Whether it is read-only.
    pub read_only: bool,
    /// A real SCSI, IDE or NVMe disk, which the library takes only with the option `force`.
    pub is_real: bool,
    /// The device mapper's name of it.
    pub dm_name: Option<OsString>,
    /// The device mapper's UUID of it.
    pub dm_uuid: Option<String>,
    /// A loop device's file.
    pub file: Option<PathBuf>,
    /// A part of that file: from an offset, or up to a limit.
    pub is_part_of_file: bool,
    /// That file no longer has a name, so the kernel adds ` (deleted)` to the one that it had.
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
    pub(super) identity: Option<Identity>,
    /// Its directory, as `/sys/dev/block/MAJOR:MINOR` leads to it, relative to the root.
    pub(super) directory: PathBuf,
}

impl Block {
    /// Returns the loop device that a file, whose name has no symbolic link, will be; its number is not known yet.
    pub fn of_file(file: &Path, bytes: u64) -> Block {
        Block {
            number: DeviceNumber::new(0, 0),
            name: "loopN".into(),
            kind: Kind::Loop,
            bytes,
            sector: 512,
            read_only: false,
            is_real: false,
            dm_name: None,
            dm_uuid: None,
            file: Some(file.into()),
            is_part_of_file: false,
            is_deleted: false,
            left_over: None,
            links: Vec::new(),
            uses: Vec::new(),
            system: None,
            properties: BTreeMap::new(),
            identity: Some(Identity::File(file.into())),
            directory: PathBuf::new(),
        }
    }

    /// Its node.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// The name that people know it by: the best that stays the same, or its node.
    pub fn best_name(&self) -> PathBuf {
        self.links.first().cloned().unwrap_or_else(|| self.path())
    }

    /// What makes it the same device after the next boot; none where nothing does.
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

    /// Whether it is an internal volume of LVM: the data of a thin pool, a half of a mirror.
    pub fn is_internal(&self) -> bool {
        // LVM's UUID has two of 32 characters; what follows them tells the part (lib/activate/dev_manager.c of LVM2).
        const WHOLE: usize = "LVM-".len() + 2 * 32;
        self.kind == Kind::Lvm && self.dm_uuid.as_ref().is_some_and(|uuid| uuid.len() > WHOLE)
    }
}

/// Whether a device is a real SCSI, IDE or NVMe disk; `link` is where `/sys/dev/block/MAJOR:MINOR` leads.
pub(super) fn is_real(number: DeviceNumber, link: &[u8]) -> bool {
    if number.major() == BLOCK_EXT_MAJOR {
        is_physical_disk_link(link)
    } else {
        is_physical_disk_number(number.major(), number.minor())
    }
}

/// Whether a name leads to a real SCSI, IDE or NVMe disk; one that does not exist yet is not judged.
pub fn is_real_path(path: &Path) -> bool {
    let Ok(status) = path.metadata() else { return false };
    status.file_type().is_block_device() && is_physical_disk(DeviceNumber::of(status.rdev()))
}

/// Says that a device is a real disk, without what to do.
pub fn real(name: &Path) -> Finding {
    Finding::problem(Code::PhysicalDisk, "is a physical disk, which needs no wrapper").of(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::scan::tests::{at, recorded};

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
}
