//! Names of block devices: the links below `/dev`, how good each is, and what udev's database says of a device.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use engine::sys::DeviceNumber;

use super::block::Identity;
use super::scan::Host;

impl Host {
    /// A device in udev's database (systemd: src/libsystemd/sd-device/device-private.c).
    fn udev_data(&self, number: DeviceNumber) -> String {
        let data = fs::read(self.root.join(format!("run/udev/data/b{number}"))).unwrap_or_default();
        String::from_utf8_lossy(&data).into_owned()
    }

    /// The `E:` lines of it.
    pub(super) fn properties(&self, number: DeviceNumber) -> BTreeMap<String, String> {
        let data = self.udev_data(number);
        let pairs = data.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Whether a rule of udev's makes a link: the `S:` lines.
    pub fn is_udevs(&self, number: DeviceNumber, link: &Path) -> bool {
        let data = self.udev_data(number);
        data.lines()
            .filter_map(|line| line.strip_prefix("S:"))
            .any(|name| link == Path::new("/dev").join(name))
    }

    /// Finds the links below `/dev` that lead to devices.
    pub(super) fn find_links(&mut self) {
        let mut links = Vec::new();
        self.walk(Path::new("/dev"), 0, &mut links);
        links.sort_by_key(|link| (rank(link), link.clone()));
        for link in links {
            let Some(number) = self.by_path(&link).map(|block| block.number) else { continue };
            // Others are gone after the next boot.
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
}

/// Directories whose links name a device and not its place.
const NAMING: [&str; 3] = ["/dev/disk/by-id", "/dev/zvol", "/dev/rbd"];

/// Whether a name says by itself which kind of disk it is; users make these by `link`.
fn is_kind_name(link: &Path) -> bool {
    ["/dev/sd", "/dev/hd"].iter().any(|place| link.starts_with(place))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::scan::tests::{at, recorded};

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
}
