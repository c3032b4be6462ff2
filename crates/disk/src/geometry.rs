//! The geometry that a disk reports: a fixed function of its size, the same in every version.

use crate::entry::{Geometry, Kind};

/// Returns the geometry of `HDIO_GETGEO` for a capacity in 512-byte sectors.
///
/// SCSI disks follow the kernel's rule for disks without a partition table
/// (drivers/scsi/scsicam.c), ATA disks that of drivers/ata/libata-scsi.c (`ata_std_bios_param`) and
/// drivers/ide. No number is ever 0, and cylinders are not limited to the 16 bits that
/// `HDIO_GETGEO` has for them.
pub fn geometry(kind: Kind, sectors: u64) -> Geometry {
    let (heads, per_track) = match kind {
        Kind::Ide | Kind::Sata => (255, 63),
        Kind::Scsi => scsi(sectors),
    };
    let cylinders = sectors.checked_div(u64::from(heads) * u64::from(per_track)).unwrap_or(0);
    Geometry { cylinders: u32::try_from(cylinders).unwrap_or(u32::MAX).max(1), heads, sectors: per_track }
}

/// Returns heads and sectors per track: the fewest that need at most 1024 cylinders, with at most
/// 62 sectors per track; if 255 heads are too few for that, 64/32 up to 64 GiB and 255/63 above.
fn scsi(sectors: u64) -> (u8, u8) {
    let heads = sectors.div_ceil(1024 * 62).max(1);
    // The quotient of rounded-up quotients is the rounded-up quotient.
    let per_track = sectors.div_ceil(1024).div_ceil(heads).max(1);
    match (u8::try_from(heads), u8::try_from(per_track)) {
        (Ok(heads), Ok(per_track)) => (heads, per_track),
        _ if sectors >> 11 > 65534 => (255, 63),
        _ => (64, 32),
    }
}

/// Returns the geometry of the IDENTIFY DEVICE sector (words 1, 3 and 6, obsolete since
/// ATA/ATAPI-6): 16 heads, 63 sectors per track, at most 16383 cylinders. A sector is a logical
/// block here.
pub fn identify_geometry(blocks: u64) -> Geometry {
    let cylinders = (blocks / (16 * 63)).clamp(1, 16383);
    Geometry { cylinders: cylinders as u32, heads: 16, sectors: 63 }
}
