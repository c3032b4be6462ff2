//! What a device is now, as VMware sees it with the library.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use bdwrapper_vmdk::table::{self, Table};
use disk::Capacity;
use disk::entry::{Entry, Kind};
use disk::geometry::{geometry, identify_geometry};
use rustix::fs::OFlags;
use vmware::{Conclusion, Disk, Errno, Facts, Geometry, Identity, ScsiAddress};

use super::problem::{LEAVE, of_table};
use crate::check::device;
use crate::file;
use crate::host::block::is_real_path;
use crate::host::scan::Host;
use crate::say::failure::{cause, quoted};
use crate::say::finding::{Code, Finding, Verdict};

/// A device and what VMware concludes from its answers.
pub struct Present<'a> {
    /// Its entry.
    pub entry: Entry<'a>,
    /// It as it was looked at.
    looked: File,
    /// Whether it is a block device and no image file.
    pub is_block: bool,
    /// Its length.
    bytes: u64,
    /// Bytes a logical block.
    pub block: u32,
    /// What VMware makes of it.
    pub disk: Disk,
}

/// Why there is no device.
pub enum Absence {
    /// The name leads to nothing, or to something that is not a device.
    Gone(Finding),
    /// There is a device, but it cannot be used.
    Useless(Finding),
}

impl From<Absence> for Finding {
    fn from(absence: Absence) -> Finding {
        match absence {
            Absence::Gone(finding) | Absence::Useless(finding) => finding,
        }
    }
}

/// The path of an entry.
pub fn path<'a>(entry: &Entry<'a>) -> &'a Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(entry.path))
}

impl<'a> Present<'a> {
    /// Looks at a device.
    pub fn look(entry: Entry<'a>) -> Result<Present<'a>, Absence> {
        Present::look_at(entry).map_err(|absence| match absence {
            // Nothing that leads to the use of a device that is not free.
            Absence::Useless(finding) => Absence::Useless(device::first_use(path(&entry)).unwrap_or(finding)),
            gone => gone,
        })
    }

    fn look_at(entry: Entry<'a>) -> Result<Present<'a>, Absence> {
        let path = path(&entry);
        // What is looked at is what is asked and read, whatever has the name then.
        let looked = file::look(path, OFlags::empty());
        let looked = looked.and_then(|looked| Ok((looked.metadata()?, looked)));
        let (status, looked) = looked.map_err(|error| {
            let finding = Finding::io("cannot be examined", &error).of(path);
            Absence::Gone(finding.hint("attach the device, or correct the name"))
        })?;
        let is_block = status.file_type().is_block_device();
        if !is_block && !status.is_file() {
            let finding = Finding::problem(Code::NotADevice, "is neither a block device nor an image file");
            return Err(Absence::Gone(finding.of(path).hint("name one that is")));
        }
        if !entry.force && is_real_path(path) {
            let finding = Finding::problem(Code::PhysicalDisk, "is a physical disk, which needs no wrapper");
            return Err(Absence::Useless(
                finding.of(path).hint("to use it all the same, add the option force"),
            ));
        }
        let useless = |what: &str, errno: Errno| {
            let finding = Finding::io(what, &io::Error::from_raw_os_error(errno.0)).of(path);
            Absence::Useless(finding.hint(ask_doctor(&entry)))
        };
        let asked =
            Facts::ask(&file::proc_path(&looked)).map_err(|errno| useless("cannot be opened", errno))?;
        let (bytes, backing) = match is_block {
            false => (status.len(), 512),
            true => (
                asked.bytes.map_err(|errno| useless("does not say how large it is", errno))?,
                asked.sector_size.ok().and_then(|size| u32::try_from(size).ok()).unwrap_or(512),
            ),
        };
        if !is_block && bytes < 512 {
            return Err(Absence::Useless(device::too_small(path, bytes)));
        }
        let block = backing.max(entry.sector.unwrap_or(512));
        match Conclusion::from(&library_answers(&entry, Capacity::new(bytes, block))) {
            Conclusion::Accepted(disk) => Ok(Present { entry, looked, is_block, bytes, block, disk }),
            Conclusion::Refused(reason) => {
                let finding = Finding::problem(Code::Refused, format!("VMware would refuse it ({reason})"));
                Err(Absence::Useless(finding.of(path).hint("use a larger device")))
            }
        }
    }

    /// Says why the device is not free, or else what of it is not on the disk and what VMware does not take well.
    ///
    /// What holds an image file is looked for only where VMware opens it without `run`, which would say that.
    pub fn findings(&self, is_flat: bool) -> Vec<Finding> {
        let path = path(&self.entry);
        let is_scanned = self.is_block || is_flat;
        let host = if is_scanned { Host::running().unwrap_or_default() } else { Host::default() };
        let uses = device::taken(path, &host);
        if !uses.is_empty() {
            return uses;
        }
        let mut findings = Vec::from_iter(device::large_sectors(path, host.by_path(path), &self.entry));
        findings.extend(device::cut(path, self.bytes, self.block));
        if let Some(bytes) = self.gpt_sector_size().ok().flatten().filter(|&bytes| bytes != 512) {
            let why = table::Error::GptSectorSize { bytes };
            findings.push(Finding { verdict: Verdict::Warning, ..of_table(&why, path) });
        }
        findings
    }

    /// Opens it for reading.
    pub fn open(&self) -> Result<File, Finding> {
        File::open(file::proc_path(&self.looked)).map_err(|error| {
            let finding = Finding::io("cannot be opened", &error).of(path(&self.entry));
            finding.hint(ask_doctor(&self.entry))
        })
    }

    /// Its partition table.
    pub fn table(&self) -> Result<Table, Finding> {
        if self.block == 512 {
            let file = self.open()?;
            return Table::read(self.disk.capacity, |sector, into| read(&file, sector, into))
                .map_err(|error| self.table_problem(&error));
        }
        let block = self.block;
        let (why, hint) = match self.gpt_sector_size()? {
            Some(512) => (
                format!("has a GPT made for 512-byte sectors, and sectors of {block} bytes"),
                match self.entry.sector {
                    Some(_) => format!("{LEAVE}. Omit the option sector"),
                    None => format!(
                        "{LEAVE}. Give the device sectors of 512 bytes (a loop device: 'losetup --sector-size 512 {}')",
                        quoted(path(&self.entry))
                    ),
                },
            ),
            _ => (
                format!("has blocks of {block} bytes, which its partition table uses and the guest does not"),
                "use the whole device".into(),
            ),
        };
        Err(Finding::problem(Code::SectorSize, why).of(path(&self.entry)).hint(hint))
    }

    /// Says why its partition table cannot be used.
    pub fn table_problem(&self, error: &table::Error) -> Finding {
        of_table(error, path(&self.entry))
    }

    /// The size of the sectors that its GPT was made for, in bytes.
    fn gpt_sector_size(&self) -> Result<Option<u64>, Finding> {
        let file = self.open()?;
        Ok(table::gpt_sector_size(self.disk.capacity, |sector, into| read(&file, sector, into)))
    }
}

/// What to do about a device that cannot be read.
pub fn ask_doctor(entry: &Entry<'_>) -> String {
    let word = quoted(path(entry));
    format!("'vmware-bdwrapper doctor --device {word}={}' prints the remedy", entry.kind.name())
}

/// Reads a part of a device, from a sector.
pub fn read(device: &File, sector: u64, into: &mut [u8]) -> Result<(), table::Error> {
    device
        .read_exact_at(into, sector.saturating_mul(512))
        .map_err(|error| table::Error::Read { sector, cause: cause(&error) })
}

/// What the library answers for an entry.
fn library_answers(entry: &Entry<'_>, capacity: Capacity) -> Facts {
    let sectors = capacity.sectors();
    let fixed = entry.geometry.unwrap_or_else(|| geometry(entry.kind, sectors));
    let own = identify_geometry(capacity.blocks);
    let identity = Identity {
        model: String::new(),
        serial: String::new(),
        firmware: String::new(),
        cylinders: own.cylinders as u16,
        heads: own.heads.into(),
        sectors: own.sectors.into(),
        capacity: sectors,
    };
    let cylinders = u16::try_from(fixed.cylinders).unwrap_or(u16::MAX);
    Facts {
        bytes: Ok(capacity.bytes()),
        sectors: Ok(sectors),
        sector_size: Ok(capacity.block_size as i32),
        read_only: Ok(entry.read_only.into()),
        geometry: Ok(Geometry { cylinders, heads: fixed.heads, sectors: fixed.sectors, start: 0 }),
        identity: if entry.kind == Kind::Scsi { Err(Errno::EINVAL) } else { Ok(identity) },
        address: match entry.kind {
            Kind::Ide => Err(Errno::EINVAL),
            Kind::Scsi | Kind::Sata => {
                Ok(ScsiAddress { host: disk::identity::HOST, channel: 0, id: 0, lun: 0 })
            }
        },
        bus: Err(Errno::EINVAL),
    }
}
