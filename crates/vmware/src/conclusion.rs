//! What VMware makes of the answers.

use std::fmt;

use serde::Serialize;

use crate::{Facts, Geometry};

/// Whether VMware would take the device, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// It is a physical disk.
    Accepted(Disk),
    /// It is none; why, as a sentence without its first capital and full stop.
    Refused(String),
}

/// The "facts" that vmware.log shows of a physical disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The size in 512-byte sectors.
    pub capacity: u64,
    /// The disk's own geometry.
    pub physical: Chs,
    /// The geometry that the BIOS would show.
    pub bios: Chs,
    /// What a virtual disk on it must be attached to.
    pub adapter: Adapter,
}

/// Cylinders, heads and sectors a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Chs {
    /// Cylinders.
    pub cylinders: u16,
    /// Heads.
    pub heads: u16,
    /// Sectors a track.
    pub sectors: u16,
}

/// The kind of adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// A SCSI adapter.
    Scsi,
    /// An IDE adapter.
    Ide,
}

/// The most cylinders that a BIOS has.
const BIOS_CYLINDERS: u16 = 1024;

impl Conclusion {
    /// Draws it. The rule is inferred from what VMware Workstation 4 to 6 asks and logs: a device
    /// that has a SCSI address is a SCSI disk, any other that has an identity is an IDE disk.
    pub fn from(facts: &Facts) -> Conclusion {
        match disk(facts) {
            Ok(disk) => Conclusion::Accepted(disk),
            Err(reason) => Conclusion::Refused(reason),
        }
    }
}

fn disk(facts: &Facts) -> Result<Disk, String> {
    let geometry = || match facts.geometry {
        Ok(geometry) => proper(Chs::from(geometry), "HDIO_GETGEO"),
        Err(errno) => Err(format!("its geometry is unknown: HDIO_GETGEO fails with {errno}")),
    };
    let (physical, bios, adapter) = match (&facts.address, &facts.identity) {
        (Ok(_), _) => {
            let geometry = geometry()?;
            (geometry, geometry, Adapter::Scsi)
        }
        (Err(_), Ok(identity)) => {
            let (cylinders, heads, sectors) = (identity.cylinders, identity.heads, identity.sectors);
            let physical = proper(Chs { cylinders, heads, sectors }, "HDIO_GET_IDENTITY")?;
            let bios = geometry()?;
            (physical, Chs { cylinders: bios.cylinders.min(BIOS_CYLINDERS), ..bios }, Adapter::Ide)
        }
        (Err(scsi), Err(ide)) => {
            return Err(format!(
                "not a valid physical disk device: neither SCSI_IOCTL_GET_IDLUN ({scsi}) nor HDIO_GET_IDENTITY ({ide}) \
                 succeeds, so it is neither a SCSI nor an IDE disk"
            ));
        }
    };
    Ok(Disk { capacity: capacity(facts)?, physical, bios, adapter })
}

fn capacity(facts: &Facts) -> Result<u64, String> {
    let sectors = facts.bytes.map(|bytes| bytes / 512).or(facts.sectors);
    match sectors {
        Ok(0) => Err("its size is less than a sector".into()),
        Ok(sectors) => Ok(sectors),
        Err(errno) => {
            Err(format!("its size is unknown: BLKGETSIZE64 and BLKGETSIZE fail, the latter with {errno}"))
        }
    }
}

fn proper(chs: Chs, request: &str) -> Result<Chs, String> {
    if chs.cylinders == 0 || chs.heads == 0 || chs.sectors == 0 {
        return Err(format!("its geometry is unknown: {request} says {chs}"));
    }
    Ok(chs)
}

impl From<Geometry> for Chs {
    fn from(geometry: Geometry) -> Chs {
        Chs { cylinders: geometry.cylinders, heads: geometry.heads.into(), sectors: geometry.sectors.into() }
    }
}

impl fmt::Display for Chs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cylinders, self.heads, self.sectors)
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Adapter::Scsi => "SCSI",
            Adapter::Ide => "IDE",
        })
    }
}

impl fmt::Display for Disk {
    /// As in vmware.log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Disk { capacity, physical, bios, adapter } = self;
        write!(f, "Cap={capacity} Phys C/H/S={physical} BIOS C/H/S={bios} Adap={adapter}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Errno, Identity, ScsiAddress};

    /// What a device answers that knows nothing of disks.
    fn bare(sectors: u64) -> Facts {
        Facts {
            bytes: Ok(512 * sectors),
            sectors: Ok(sectors),
            sector_size: Ok(512),
            read_only: Ok(0),
            geometry: Err(Errno::ENOTTY),
            identity: Err(Errno::EINVAL),
            address: Err(Errno::EINVAL),
            bus: Err(Errno::EINVAL),
        }
    }

    fn scsi() -> Facts {
        let geometry = Geometry { cylinders: 4870, heads: 255, sectors: 63, start: 0 };
        let address = ScsiAddress { host: 0, channel: 0, id: 0, lun: 0 };
        Facts { geometry: Ok(geometry), address: Ok(address), ..bare(78_242_976) }
    }

    fn identity() -> Identity {
        Identity {
            model: String::new(),
            serial: String::new(),
            firmware: String::new(),
            cylinders: 16383,
            heads: 16,
            sectors: 63,
            capacity: 240_121_728,
        }
    }

    fn ide() -> Facts {
        let geometry = Geometry { cylinders: 14946, heads: 255, sectors: 63, start: 0 };
        Facts { geometry: Ok(geometry), identity: Ok(identity()), ..bare(240_121_728) }
    }

    fn accepted(facts: &Facts) -> String {
        match Conclusion::from(facts) {
            Conclusion::Accepted(disk) => disk.to_string(),
            Conclusion::Refused(reason) => panic!("{reason}"),
        }
    }

    fn refused(facts: &Facts) -> String {
        match Conclusion::from(facts) {
            Conclusion::Accepted(disk) => panic!("{disk}"),
            Conclusion::Refused(reason) => reason,
        }
    }

    #[test]
    fn disks_of_vmware_log() {
        let log = "Cap=78242976 Phys C/H/S=4870/255/63 BIOS C/H/S=4870/255/63 Adap=SCSI";
        assert_eq!(accepted(&scsi()), log);
        let log = "Cap=240121728 Phys C/H/S=16383/16/63 BIOS C/H/S=1024/255/63 Adap=IDE";
        assert_eq!(accepted(&ide()), log);
    }

    #[test]
    fn an_address_outweighs_an_identity() {
        let sata = Facts { identity: Ok(identity()), ..scsi() };
        assert_eq!(accepted(&sata), accepted(&scsi()));
    }

    #[test]
    fn a_size_of_either_request_will_do() {
        let old = Facts { bytes: Err(Errno::ENOTTY), ..scsi() };
        assert_eq!(accepted(&old), accepted(&scsi()));
        let large = Facts { sectors: Err(Errno::EFBIG), ..scsi() };
        assert_eq!(accepted(&large), accepted(&scsi()));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            refused(&bare(1)),
            "not a valid physical disk device: neither SCSI_IOCTL_GET_IDLUN (EINVAL) nor HDIO_GET_IDENTITY (EINVAL) \
             succeeds, so it is neither a SCSI nor an IDE disk"
        );
        let none = Err(Errno::ENOTTY);
        assert!(
            refused(&Facts { geometry: Err(Errno::ENOTTY), ..scsi() })
                .contains("HDIO_GETGEO fails with ENOTTY")
        );
        assert!(refused(&Facts { bytes: none, sectors: none, ..scsi() }).contains("size is unknown"));
        assert!(refused(&Facts { bytes: Ok(511), ..scsi() }).contains("less than a sector"));
        let nothing = Geometry { cylinders: 0, heads: 0, sectors: 0, start: 0 };
        assert!(refused(&Facts { geometry: Ok(nothing), ..scsi() }).contains("HDIO_GETGEO says 0/0/0"));
        let unformatted = Identity { heads: 0, ..identity() };
        assert!(
            refused(&Facts { identity: Ok(unformatted), ..ide() })
                .contains("HDIO_GET_IDENTITY says 16383/0/63")
        );
    }
}
