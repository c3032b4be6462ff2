//! Whether devices are fit to be listed.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use disk::entry::Entry;
use engine::sys::DeviceNumber;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::getuid;

use crate::check::config::{self, FILE};
use crate::entries::{self, Device};
use crate::file::read_start;
use crate::host::block::{self, Block, Kind};
use crate::host::scan::Host;
use crate::host::udev::{self, Access};
use crate::host::users::{self, Database};
use crate::host::uses::{System, Use};
use crate::say::failure::{cause, quoted, say, shown};
use crate::say::finding::{Code, Finding, Verdict};

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

/// What is found of a listed device.
pub struct Fitness {
    /// Why it is not free.
    pub uses: Vec<Finding>,
    /// Why the user may not open it himself.
    closed: Option<Finding>,
    /// All else.
    pub others: Vec<Finding>,
}

impl Fitness {
    /// What to say: of a device that is not free nothing else, because that would lead to its use.
    pub fn all(self) -> Vec<Finding> {
        if self.uses.is_empty() { self.others.into_iter().chain(self.closed).collect() } else { self.uses }
    }

    /// Returns the fitness for these programs: a device that they open with root's rights need not be open to the user.
    pub fn for_programs(mut self, programs: &[PathBuf], device: &Device<'_>) -> Fitness {
        if let Some(Finding { cause, hint: Some(remedy), .. }) = &self.closed {
            if config::is_opened_by_root(programs, device) {
                let cause = format!("{cause}, but the set-user-ID programs for which {FILE} lists it may");
                let hint = format!("if a program that runs with your rights must use it, too, {remedy}");
                let finding = Finding::warning(Code::PermissionDenied, cause).of(device.path());
                self.closed = Some(finding.hint(hint));
            }
        }
        self
    }
}

/// What can be said of a block device without opening it, by the name that the user gave it.
pub fn of_block(block: &Block, name: &Path, options: Options, host: &Host) -> Fitness {
    Fitness { uses: uses(block, name, host), closed: None, others: unfit(block, name, options) }
}

/// The same; the kernel is asked as well whether something has the device for itself.
pub fn of_node(block: &Block, name: &Path, options: Options, host: &Host) -> Fitness {
    let mut fitness = of_block(block, name, options, host);
    if fitness.uses.is_empty() {
        fitness.uses.extend(claimed(name));
    }
    fitness
}

/// Why a block device is not free.
fn uses(block: &Block, name: &Path, host: &Host) -> Vec<Finding> {
    match &block.system {
        Some(system) => vec![of_system(block, system, name)],
        None => block.uses.iter().map(|one| used(name, one, host)).collect(),
    }
}

/// Says that the system runs from a device.
fn of_system(block: &Block, system: &System, name: &Path) -> Finding {
    let mounted = match system.mounted == block.best_name() {
        true => "it".into(),
        false => shown(&system.mounted).to_string(),
    };
    let why = format!("belongs to the running system ({mounted} is mounted on {})", shown(&system.place));
    Finding::problem(Code::SystemDisk, why).of(name).hint(OTHER)
}

/// What is to be done where a device cannot be made free.
const OTHER: &str = "use another device ('vmware-bdwrapper list' shows which are free)";

/// What can be said of a block device that is free.
fn unfit(block: &Block, name: &Path, options: Options) -> Vec<Finding> {
    let word = quoted(name);
    let problem = |code, why: &str| Finding::problem(code, why).of(name);
    let warning = |code, why: &str| Finding::warning(code, why).of(name);
    let mut findings = Vec::new();
    if block.is_physical_volume() {
        findings.push(physical_volume(name));
    }
    if let Some((disk, number)) = &block.left_over {
        let why = format!("is a left-over partition beyond the end of {}", shown(disk));
        let hint = format!("run as root: 'partx --delete --nr {number} {}'", quoted(disk));
        findings.push(problem(Code::Stale, &why).hint(hint));
    } else if !name.exists() {
        let (major, minor) = (block.number.major(), block.number.minor());
        let finding = problem(Code::NotFound, "does not exist, although the kernel has the device");
        findings.push(finding.hint(format!("run as root: 'mknod {word} b {major} {minor}'")));
    }
    if block.is_deleted {
        findings.push(
            warning(
                Code::Volatile,
                "is attached to a deleted file, whose data is lost when the device is detached",
            )
            .hint("attach a file that has a name: 'losetup --find --show FILE'"),
        );
    }
    if block.bytes < u64::from(SECTOR) {
        let remedy = match &block.file {
            Some(file) => format!(
                "give it a size; run as root: 'truncate --size 8G {}', then 'losetup --set-capacity {word}'",
                quoted(file)
            ),
            None => "attach a file or server to it ('losetup', 'nbd-client')".into(),
        };
        findings.push(empty(name, remedy));
    }
    if block.is_internal() {
        findings.push(problem(Code::LvmPart, "is an internal volume of LVM").hint(
            "use the logical volume that it is a part of ('lvs --all --options +devices' shows which)",
        ));
    }
    if matches!(block.kind, Kind::Cd | Kind::Floppy | Kind::Ram | Kind::Zram) {
        let why = format!(
            "is a device of kind {}, whose data is not permanent or whose medium can be removed",
            block.kind.name()
        );
        findings.push(
            warning(Code::Volatile, &why)
                .hint("use a device that keeps what is written to it ('vmware-bdwrapper list' shows some)"),
        );
    }
    if block.is_real && !options.force {
        findings.push(real(name));
    }
    if block.read_only && !options.read_only {
        // losetup(8) can have attached it so, which the kernel keeps until it is detached.
        let again = match block.kind {
            Kind::Loop => " (or attach its file again, without --read-only)",
            _ => "",
        };
        let hint =
            format!("run as root: 'blockdev --setrw {word}'{again}, or add the option ro to its entry");
        findings.push(problem(Code::ReadOnly, "is read-only").hint(hint));
    }
    findings.extend(of_large_sectors(block, name));
    findings
}

/// Sectors that are larger than those of the disks that VMware takes.
fn of_large_sectors(block: &Block, name: &Path) -> Option<Finding> {
    let remedy = match block.kind {
        Kind::Loop => format!("run as root: 'losetup --sector-size {SECTOR} {}'", quoted(name)),
        _ => format!("use a device whose sectors have {SECTOR} bytes"),
    };
    let why = format!("has sectors of {} bytes, but VMware accepts only sectors of {SECTOR}", block.sector);
    (block.sector > SECTOR).then(|| Finding::warning(Code::SectorSize, why).of(name).hint(remedy))
}

/// The same of the device of an entry, which can ask for them, too.
pub fn large_sectors(path: &Path, block: Option<&Block>, entry: &Entry<'_>) -> Option<Finding> {
    let asked = entry.sector.is_some_and(|sector| sector > SECTOR).then(|| {
        let why =
            format!("is listed with sectors of 4096 bytes, but VMware accepts only sectors of {SECTOR}");
        let finding = Finding::warning(Code::SectorSize, why).of(path);
        finding.hint("omit the option sector= from its entry")
    });
    asked.or_else(|| of_large_sectors(block?, path))
}

/// Why a device is not free. Where the user may read it, the kernel is asked as well.
pub fn taken(path: &Path, host: &Host) -> Vec<Finding> {
    let Ok(status) = path.metadata() else { return Vec::new() };
    if !status.file_type().is_block_device() {
        return host.uses_of_file(path).iter().map(|one| used(path, one, host)).collect();
    }
    let block = host.by_number(DeviceNumber::of(status.rdev()));
    let known = block.map(|block| uses(block, path, host)).unwrap_or_default();
    if known.is_empty() { claimed(path).into_iter().collect() } else { known }
}

/// Says what uses a device, if anything does.
pub fn first_use(path: &Path) -> Option<Finding> {
    taken(path, &Host::running().unwrap_or_default()).into_iter().next()
}

/// Says that the kernel has given a device to something that is not known.
fn claimed(path: &Path) -> Option<Finding> {
    is_claimed(path).then(|| {
        let why = "is used by something that cannot be seen from here, such as a mount in a container";
        Finding::problem(Code::InUse, why).of(path).hint(format!(
            "run as root of the host: 'lsblk {0}' and 'fuser -v {0}', and stop what they show",
            quoted(path)
        ))
    })
}

/// Whether something has a device for itself, as mounts, swapping and holders have it (open(2), `O_EXCL`).
fn is_claimed(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // Another process that makes the same check holds it for a moment.
    (0..5).all(|attempt| {
        sleep(Duration::from_millis(10 * attempt));
        matches!(open(path, flags, Mode::empty()), Err(Errno::BUSY))
    })
}

/// All that can be said of a listed device.
pub fn of_device(device: &Device<'_>, host: &Host) -> Fitness {
    let path = device.path();
    let only = |others| Fitness { uses: Vec::new(), closed: None, others };
    let status = match (entries::explain_absence(device), path.metadata()) {
        (Some(absent), _) => return only(vec![absent]),
        (None, Err(_)) => return only(Vec::new()),
        (None, Ok(status)) => status,
    };
    let options = Options { read_only: device.entry.read_only, force: device.entry.force };
    let uses = taken(path, host);
    let block = host.by_number(DeviceNumber::of(status.rdev())).filter(|_| !status.is_file());
    let mut others = Vec::new();
    if status.is_file() {
        if status.len() < u64::from(SECTOR) {
            others.push(too_small(path, status.len()));
        } else {
            others.extend(cut(path, status.len(), device.entry.sector.unwrap_or(SECTOR)));
        }
    } else if let Some(block) = block {
        others = unfit(block, path, options);
        if !block.is_physical_volume() && has_label(path) {
            others.push(physical_volume(path));
        }
    } else if block::is_real_path(path) && !options.force {
        others.push(real(path));
    }
    others.extend(large_sectors(path, None, &device.entry));
    let closed = closed(device, &status, block);
    if uses.is_empty() && closed.is_none() && others.is_empty() {
        let kind = match device.entry.kind {
            disk::entry::Kind::Scsi => "a SCSI",
            disk::entry::Kind::Ide => "an IDE",
            disk::entry::Kind::Sata => "a SATA",
        };
        let free = if host.is_known() { "free, and " } else { "" };
        others.push(Finding::ok(format!("is {free}yours to use as {kind} disk")).of(path));
    }
    Fitness { uses, closed, others }
}

/// What of a device is no whole block, and so not on the disk.
pub fn cut(path: &Path, bytes: u64, block: u32) -> Option<Finding> {
    let rest = bytes % u64::from(block);
    let why =
        format!("the last {rest} of its {bytes} bytes are not a whole sector, and not part of the disk");
    let finding = || Finding::warning(Code::SectorSize, why).of(path);
    (rest > 0).then(|| finding().hint("give it a whole number of sectors"))
}

/// Reports problems of listed devices that these programs open. If one is in use and `force` is not given, the result is all the
/// uses, and nothing else is reported.
pub fn judge(listed: &[Device<'_>], programs: &[PathBuf], force: bool) -> Result<(), Vec<Finding>> {
    if listed.is_empty() {
        return Ok(());
    }
    let host = Host::known();
    let of_device = |device| of_device(device, &host).for_programs(programs, device);
    let found: Vec<Fitness> = listed.iter().map(of_device).collect();
    let uses = found.iter().flat_map(|fitness| &fitness.uses);
    if !force && uses.clone().next().is_some() {
        return Err(uses.cloned().collect());
    }
    let others = found.iter().zip(together(listed, &host)).flat_map(|(fitness, together)| {
        fitness.others.iter().chain(&fitness.closed).cloned().chain(together).collect::<Vec<_>>()
    });
    let others: Vec<Finding> = others.collect();
    uses.chain(&others).filter(|finding| finding.verdict != Verdict::Ok).for_each(say);
    Ok(())
}

/// Returns for each device its conflicts with earlier ones: the same device, or one that shares its space.
pub fn together(listed: &[Device<'_>], host: &Host) -> Vec<Vec<Finding>> {
    const REMOVE: &str = "remove one of the two entries";
    let with_earlier = |(at, (device, clash)): (usize, (&Device<'_>, Option<Finding>))| {
        let mut findings = Vec::from_iter(clash);
        let own = entries::identity(device);
        for other in &listed[..at] {
            let (first, theirs) = (shown(other.path()), entries::identity(other));
            let is_same = own.is_some() && own == theirs;
            if is_same && device.entry.kind == other.entry.kind {
                let why = format!("is the same device as {first}, whose entry is used");
                findings.push(Finding::warning(Code::Duplicate, why).of(device.path()).hint(REMOVE));
            }
            let parts = (host.by_path(device.path()), host.by_path(other.path()));
            if matches!(parts, (Some(block), Some(whole)) if block.overlaps(whole)) {
                let why =
                    format!("shares its space with {first}, so writing to one destroys data on the other");
                findings.push(Finding::problem(Code::Overlap, why).of(device.path()).hint(REMOVE));
            }
        }
        findings
    };
    listed.iter().zip(entries::clashes(listed)).enumerate().map(with_earlier).collect()
}

fn used(name: &Path, one: &Use, host: &Host) -> Finding {
    Finding::problem(Code::InUse, one.to_string()).of(name).hint(freeing(name, one, host))
}

/// What makes a device free. A holder that something uses is made free first.
fn freeing(name: &Path, one: &Use, host: &Host) -> String {
    let holder = one.holder().and_then(|holder| host.by_path(holder));
    match holder.map(|holder| (holder, holder.uses.first())) {
        Some((holder, _)) if holder.system.is_some() => OTHER.into(),
        Some((holder, Some(its))) => format!("{}, and ask again", freeing(&holder.best_name(), its, host)),
        _ => one.remedy(name),
    }
}

/// Inactive, or else its volumes hold it: it may be a guest's.
fn physical_volume(name: &Path) -> Finding {
    Finding::warning(Code::LvmPart, "is a physical volume of LVM")
        .of(name)
        .hint("use a logical volume instead ('lvs' shows them), unless the guest made it one")
}

fn real(name: &Path) -> Finding {
    block::real(name).hint("use it in VMware without the library, or add the option force to its entry")
}

/// Says that an image file has no sector. What has some bytes is not an image file: to lengthen it would spoil it.
pub fn too_small(path: &Path, bytes: u64) -> Finding {
    if bytes == 0 {
        return empty(path, format!("give it a size: 'truncate --size 8G {}'", quoted(path)));
    }
    Finding::problem(Code::Empty, "is smaller than a sector").of(path).hint("name an image file")
}

fn empty(name: &Path, remedy: String) -> Finding {
    Finding::problem(Code::Empty, "has no sector").of(name).hint(remedy)
}

/// Why the user may not use a device himself: the part of VMware that runs as the user opens it as well.
fn closed(device: &Device<'_>, status: &fs::Metadata, block: Option<&Block>) -> Option<Finding> {
    let error = device.refused()?;
    let verb = if device.entry.read_only { "read" } else { "read and write" };
    let word = quoted(device.path());
    let user = Database::Users.name(getuid().as_raw());
    let group = Database::Groups.name(status.gid());
    let why = format!("you may not {verb} it ({}; it {})", cause(&error.into()), users::rights(status));
    let finding = Finding::problem(Code::PermissionDenied, why).of(device.path());
    let by_group = if device.entry.read_only { 0o040 } else { 0o060 };
    if status.mode() & by_group == by_group
        && !users::has_group(status.gid())
        && users::is_member(&user, status.gid())
    {
        let remedy = format!(
            "log in again, or run 'newgrp {}': you are in that group, but logged in before you joined it",
            quoted(&group)
        );
        return Some(finding.hint(remedy));
    }
    let access = Access { owner: Some(user.clone()), group: None, mode: None };
    let (user, group) = (quoted(&user), quoted(&group));
    let mut remedy = format!("run as root: 'chown {user} {word}'");
    // Only where `link` would do it.
    if block.is_some_and(|block| !block.is_real && udev::rule(block, "sd/NAME", &access).is_ok()) {
        let place = if device.entry.kind == disk::entry::Kind::Ide { "hd" } else { "sd" };
        let name = match udev::link_name(device.path()) {
            Some(name) if device.path().is_symlink() => format!("/dev/{name}"),
            _ => format!("/dev/{place}/NAME"),
        };
        remedy += &format!(
            ", or, for each boot, 'vmware-bdwrapper link {word} --as {name} --owner {user} --persist'"
        );
    }
    // The group `disk` has the disks that the system runs from, too.
    if status.mode() & 0o060 == 0o060 && status.gid() != 0 && group != "disk" {
        remedy += &format!(
            ", or join the group with 'usermod -aG {group} {user}', which gives you all its devices"
        );
    }
    Some(finding.hint(remedy))
}

/// Whether LVM's label is on a device that the user may read (lib/format_text/layout.h and lib/label/label.h of LVM2: in one of
/// the first four sectors).
fn has_label(path: &Path) -> bool {
    let start = read_start(path, 4 * u64::from(SECTOR)).unwrap_or_default();
    let mut sectors = start.chunks_exact(SECTOR as usize);
    sectors.any(|sector| sector.starts_with(b"LABELONE") && sector[24..32] == *b"LVM2 001")
}
