//! Whether devices are fit to be listed.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::getuid;

use crate::block::{self, Block, Host, Kind, Number, Use};
use crate::devices::{self, Device};
use crate::failure::{cause, shown};
use crate::finding::Finding;

/// The sector size of the disks that VMware takes, in bytes.
const SECTOR: u32 = 512;

/// What may be done with a device that is listed.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// It is only read.
    pub read_only: bool,
    /// It is used even where it is a physical disk.
    pub force: bool,
}

/// What can be said of a block device without opening it, by the name that the user gave it.
pub fn of_block(block: &Block, name: &Path, options: Options) -> Vec<Finding> {
    let shown = shown(name);
    let mut findings: Vec<Finding> = block.uses.iter().map(|one| used(name, one)).collect();
    if block.is_physical_volume() {
        findings.push(physical_volume(name));
    }
    if block.bytes < u64::from(SECTOR) {
        findings.push(empty(name));
    }
    if block.is_internal() {
        findings.push(Finding::problem(
            format!("{shown} is a part that LVM uses for itself"),
            "list the logical volume that it is a part of",
        ));
    }
    if matches!(block.kind, Kind::Cd | Kind::Floppy | Kind::Ram | Kind::Zram) {
        findings.push(Finding::warning(
            format!(
                "{shown} is a device of kind {}, which keeps nothing or can be taken out",
                block.kind.name()
            ),
            "list a device that keeps what is written to it",
        ));
    }
    if block.is_real && !options.force {
        findings.push(real(name));
    }
    if block.read_only && !options.read_only {
        findings.push(Finding::problem(
            format!("{shown} can only be read"),
            format!("have root run 'blockdev --setrw {shown}', or add the option ro"),
        ));
    }
    if block.sector > SECTOR {
        findings.push(Finding::warning(
            format!("{shown} has sectors of {} bytes, and VMware takes disks with sectors of {SECTOR}", block.sector),
            format!("list a device whose sectors have {SECTOR} bytes; a loop device has them by losetup --sector-size {SECTOR}"),
        ));
    }
    findings
}

/// Why a device is not free. Where the user may read it, the kernel is asked as well.
pub fn taken(device: &Device<'_>, host: &Host) -> Vec<Finding> {
    let path = device.path();
    let Ok(status) = path.metadata() else { return Vec::new() };
    if !status.file_type().is_block_device() {
        return host.uses_of_file(path).iter().map(|one| used(path, one)).collect();
    }
    let known =
        host.by_number(Number::of(status.rdev())).map(|block| block.uses.as_slice()).unwrap_or_default();
    if !known.is_empty() {
        return known.iter().map(|one| used(path, one)).collect();
    }
    if !is_claimed(path) {
        return Vec::new();
    }
    vec![Finding::problem(
        format!(
            "{} is used by something that cannot be seen from here, such as a mount in a container",
            shown(path)
        ),
        "find out what uses it ('lsblk', 'fuser', on the host), and end that",
    )]
}

/// Whether something has a device for itself, as mounts, swapping and holders have it (open(2), `O_EXCL`).
fn is_claimed(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // Another who asks the same has it for a moment.
    (0..5).all(|attempt| {
        sleep(Duration::from_millis(10 * attempt));
        matches!(open(path, flags, Mode::empty()), Err(Errno::BUSY))
    })
}

/// All that can be said of a listed device.
pub fn of_device(device: &Device<'_>, host: &Host) -> Vec<Finding> {
    let path = device.path();
    let status = match (devices::absent(device), path.metadata()) {
        (Some(absent), _) => return vec![absent],
        (None, Err(_)) => return Vec::new(),
        (None, Ok(status)) => status,
    };
    let options = Options { read_only: device.entry.read_only, force: device.entry.force };
    let mut findings = taken(device, host);
    if status.is_file() {
        if status.len() < u64::from(SECTOR) {
            findings.push(empty(path));
        }
    } else if let Some(block) = host.by_number(Number::of(status.rdev())) {
        let mut others = of_block(block, path, options);
        if !block.is_physical_volume() && has_label(path) {
            others.push(physical_volume(path));
        }
        findings.extend(others.into_iter().filter(|finding| !findings.contains(finding)).collect::<Vec<_>>());
    } else if block::is_real_path(path) && !options.force {
        findings.push(real(path));
    }
    if device.entry.sector.is_some_and(|sector| sector > SECTOR) {
        findings.push(Finding::warning(
            format!(
                "{} is to have sectors of 4096 bytes, and VMware takes disks with sectors of {SECTOR}",
                shown(path)
            ),
            "leave the option sector= out",
        ));
    }
    findings.extend(closed(device, status.uid(), status.gid(), status.mode()));
    if findings.is_empty() {
        let kind = device.entry.kind.name();
        findings.push(Finding::ok(format!("{} is free, and yours to use as a {kind} disk", shown(path))));
    }
    findings
}

/// Devices that are listed twice, or as a whole and in part.
pub fn together(listed: &[Device<'_>], host: &Host) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        devices::clashes(listed).flatten().map(|sentence| Finding::sentence(&sentence)).collect();
    for (at, device) in listed.iter().enumerate() {
        let (name, own) = (shown(device.path()), devices::identity(device));
        for other in &listed[..at] {
            let (first, theirs) = (shown(other.path()), devices::identity(other));
            let is_same = own.is_some() && own == theirs;
            if is_same && device.entry.kind == other.entry.kind {
                findings.push(Finding::warning(
                    format!("{name} is the same device as {first}, which counts"),
                    "remove one of the two entries",
                ));
            }
            let parts = (host.by_path(device.path()), host.by_path(other.path()));
            if let (Some(block), Some(whole)) = parts
                && block.overlaps(whole)
            {
                findings.push(Finding::problem(
                    format!(
                        "{name} shares its space with {first}, so that each destroys what is on the other"
                    ),
                    "remove one of the two entries",
                ));
            }
        }
    }
    findings
}

fn used(name: &Path, one: &Use) -> Finding {
    Finding::problem(format!("{} {one}", shown(name)), one.remedy())
}

/// Inactive, or else its volumes hold it: it may be a guest's.
fn physical_volume(name: &Path) -> Finding {
    Finding::warning(
        format!("{} is a physical volume of LVM", shown(name)),
        "list a logical volume instead, unless it is the guest that has it so",
    )
}

fn real(name: &Path) -> Finding {
    Finding::problem(block::real(name), "let VMware have it without the library, or add the option force")
}

fn empty(name: &Path) -> Finding {
    Finding::problem(
        format!("{} has no sector", shown(name)),
        "give it a size (losetup, truncate), or attach what it stands for",
    )
}

/// Why the user may not use a device himself: the part of VMware that runs as the user opens it as well.
fn closed(device: &Device<'_>, owner: u32, group: u32, mode: u32) -> Option<Finding> {
    let error = device.refused()?;
    let verb = if device.entry.read_only { "read" } else { "read and write" };
    let name = shown(device.path());
    let user = name_of("/etc/passwd", getuid().as_raw());
    let group_name = name_of("/etc/group", group);
    let why = format!(
        "You may not {verb} {name} ({}; it belongs to {}:{group_name} with mode {:04o})",
        cause(&error.into()),
        name_of("/etc/passwd", owner),
        mode & 0o7777
    );
    let mut remedy = format!(
        "have root run 'chown {user} {name}', which a udev rule can do at each start (OWNER=\"{user}\")"
    );
    if mode & 0o060 == 0o060 && group != 0 {
        remedy += &format!(
            ", or join the group by 'usermod -aG {group_name} {user}', which gives you all its devices"
        );
    }
    Some(Finding::problem(why, remedy))
}

/// The name that a file such as /etc/passwd has for a number; the number where it has none.
fn name_of(file: &str, id: u32) -> String {
    let number = id.to_string();
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    found.unwrap_or(number)
}

/// Whether LVM's label is on a device that the user may read (lib/format_text/layout.h and lib/label/label.h of LVM2: in one of
/// the first four sectors).
fn has_label(path: &Path) -> bool {
    let mut start = [0; 4 * SECTOR as usize];
    let Ok(mut file) = File::open(path) else { return false };
    if file.read_exact(&mut start).is_err() {
        return false;
    }
    start
        .chunks(SECTOR as usize)
        .any(|sector| sector.starts_with(b"LABELONE") && sector[24..32] == *b"LVM2 001")
}
