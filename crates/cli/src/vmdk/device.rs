//! What a device is now, as VMware sees it with the library.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use client::{Conclusion, Disk, Errno, Facts, Geometry, Identity, ScsiAddress};
use disk::Capacity;
use disk::entry::{Entry, Kind};
use disk::geometry::{geometry, identify_geometry};

use super::table::Table;
use crate::block::{Host, is_real_path};
use crate::failure::{cause, shown};
use crate::finding::Finding;
use crate::fitness;

/// A device and what VMware concludes from its answers.
pub struct Present<'a> {
    /// Its entry.
    pub entry: Entry<'a>,
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
    /// Nothing stands there, or nothing that is a device; a sentence.
    Gone(String),
    /// It is there, but of no use; a sentence.
    Useless(String),
}

impl Absence {
    /// The sentence.
    pub fn sentence(self) -> String {
        match self {
            Absence::Gone(sentence) | Absence::Useless(sentence) => sentence,
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
        let path = path(&entry);
        let name = entry.printed_path();
        let status = path.metadata().map_err(|error| {
            Absence::Gone(format!(
                "{name}: cannot be looked at ({}); attach the device, or correct the name.",
                cause(&error)
            ))
        })?;
        let is_block = status.file_type().is_block_device();
        if !is_block && !status.is_file() {
            return Err(Absence::Gone(format!(
                "{name}: is neither a block device nor an image file; name one that is."
            )));
        }
        if !entry.force && is_real_path(path) {
            return Err(Absence::Useless(format!(
                "{name}: is a physical disk, which needs no wrapper; to use it all the same, add the option force."
            )));
        }
        let useless = |what: &str, errno: Errno| {
            let error = io::Error::from_raw_os_error(errno.0);
            Absence::Useless(format!("{name}: {what} ({}); make it one that you may read.", cause(&error)))
        };
        let asked = Facts::ask(path).map_err(|errno| useless("cannot be opened", errno))?;
        let (bytes, backing) = match is_block {
            false => (status.len(), 512),
            true => (
                asked.bytes.map_err(|errno| useless("does not say how large it is", errno))?,
                asked.sector_size.ok().and_then(|size| u32::try_from(size).ok()).unwrap_or(512),
            ),
        };
        let block = backing.max(entry.sector.unwrap_or(512));
        match Conclusion::from(&answers(&entry, Capacity::new(bytes, block))) {
            Conclusion::Accepted(disk) => Ok(Present { entry, is_block, bytes, block, disk }),
            Conclusion::Refused(reason) => Err(Absence::Useless(format!(
                "{name}: VMware would refuse it ({reason}); use a larger device."
            ))),
        }
    }

    /// What of it is not on the disk, and what VMware does not take well.
    pub fn unfit(&self) -> Vec<Finding> {
        let path = path(&self.entry);
        let host = if self.is_block { Host::running().unwrap_or_default() } else { Host::default() };
        let mut findings = Vec::from_iter(fitness::large_sectors(path, host.by_path(path), &self.entry));
        let rest = self.bytes - self.disk.capacity * 512;
        if rest > 0 {
            findings.push(Finding::warning(
                format!(
                    "The last {rest} of the {} bytes of {} are no whole sector, and not on the disk",
                    self.bytes,
                    shown(path)
                ),
                "give it a whole number of sectors",
            ));
        }
        findings
    }

    /// Opens it for reading.
    pub fn open(&self) -> Result<File, String> {
        let name = path(&self.entry);
        File::open(name).map_err(|error| {
            format!("{}: cannot be opened ({}); it must be readable.", shown(name), cause(&error))
        })
    }

    /// Its partition table.
    pub fn table(&self) -> Result<Table, String> {
        let name = self.entry.printed_path();
        if self.block != 512 {
            return Err(format!(
                "{name}: has blocks of {} bytes, which its partition table counts in and the guest does not; use the whole device.",
                self.block
            ));
        }
        let file = self.open()?;
        Table::read(self.disk.capacity, |sector, into| read(&file, sector, into))
            .map_err(|why| format!("{name}: {why}."))
    }
}

/// Reads a part of a device, from a sector; words that follow its name say why that is impossible.
pub fn read(device: &File, sector: u64, into: &mut [u8]) -> Result<(), String> {
    device
        .read_exact_at(into, sector.saturating_mul(512))
        .map_err(|error| format!("cannot be read at sector {sector} ({}); repair it", cause(&error)))
}

/// What the library answers for an entry.
fn answers(entry: &Entry<'_>, capacity: Capacity) -> Facts {
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
        sector_size: Ok(capacity.block as i32),
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
