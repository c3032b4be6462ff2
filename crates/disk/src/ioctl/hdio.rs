//! `HDIO_…` requests: all of them on an IDE disk (the kernel's drivers/ide up to Linux 5.13:
//! ide-ioctls.c, ide-disk_ioctl.c), a few on a libata disk (drivers/ata/libata-scsi.c,
//! `ata_sas_scsi_ioctl`), only the geometry on a SCSI disk.

use super::hdio_drive;
use super::request::*;
use crate::abi::{HdBigGeometry, HdGeometry, Long};
use crate::ata::command::{Protocol, SET_FEATURES};
use crate::ata::identify::{self, MAX_MULTIPLE, OBSOLETE_IDENTITY, has_multiple, hd_driveid};
use crate::ata::{self, DataPhase, Taskfile};
use crate::device::Device;
use crate::entry::{Geometry, Kind};
use crate::errno::Errno;
use crate::geometry::geometry;
use crate::host::{Capability, Host};
use crate::settings::{Setting, Settings, WCE};
use crate::transfer::DataBuffer;

/// Returns the setting of an IDE disk that a request gets or sets, its default, and its largest
/// value.
fn setting(settings: &Settings, request: u32) -> Option<(&Setting, u32, u32)> {
    Some(match request {
        HDIO_GET_32BIT | HDIO_SET_32BIT => (&settings.io_32bit, 0, 3),
        HDIO_GET_UNMASKINTR | HDIO_SET_UNMASKINTR => (&settings.unmask_interrupts, 0, 1),
        HDIO_GET_MULTCOUNT | HDIO_SET_MULTCOUNT => (&settings.multiple, 0, MAX_MULTIPLE.into()),
        HDIO_GET_KEEPSETTINGS | HDIO_SET_KEEPSETTINGS => (&settings.keep_settings, 0, 1),
        HDIO_GET_NOWERR | HDIO_SET_NOWERR => (&settings.ignore_write_errors, 0, 1),
        HDIO_GET_DMA | HDIO_SET_DMA => (&settings.dma, 1, 1),
        HDIO_GET_NICE | HDIO_SET_NICE => (&settings.nice, 0, u32::MAX),
        HDIO_GET_ACOUSTIC | HDIO_SET_ACOUSTIC => (&settings.acoustic, 0, 254),
        // 48-bit addresses.
        HDIO_GET_ADDRESS | HDIO_SET_ADDRESS => (&settings.address, 1, 2),
        _ => return None,
    })
}

/// Returns `EACCES` if the caller lacks a privilege, as drivers/ide does.
fn require(host: &impl Host, capability: Capability) -> Result<(), Errno> {
    if host.capable(capability) { Ok(()) } else { Err(Errno::EACCES) }
}

#[inline(never)]
pub(crate) fn answer(
    device: &Device<'_>,
    host: &impl Host,
    request: u32,
    argument: u64,
) -> Result<i32, Errno> {
    let store_long = |value| host.store(argument, Long { value });
    match (request, device.entry.kind) {
        // block/ioctl.c, blkdev_getgeo
        (HDIO_GETGEO | HDIO_GETGEO_BIG, _) if argument == 0 => return Err(Errno::EINVAL),
        (HDIO_GETGEO | HDIO_GETGEO_BIG, _) => store_geometry(device, host, request, argument)?,
        (HDIO_GET_IDENTITY, Kind::Ide | Kind::Sata) => store_identity(device, host, argument, 512)?,
        (HDIO_OBSOLETE_IDENTITY, Kind::Ide) => store_identity(device, host, argument, OBSOLETE_IDENTITY)?,
        (HDIO_DRIVE_CMD | HDIO_DRIVE_TASK, Kind::Ide | Kind::Sata) | (HDIO_DRIVE_TASKFILE, Kind::Ide) => {
            require(host, Capability::RawIo)?;
            if device.entry.kind == Kind::Sata || request == HDIO_DRIVE_TASKFILE {
                require(host, Capability::Admin)?;
            }
            match request {
                HDIO_DRIVE_CMD => hdio_drive::command(device, host, argument)?,
                HDIO_DRIVE_TASK => hdio_drive::task(device, host, argument)?,
                _ => hdio_drive::taskfile(device, host, argument)?,
            }
        }
        (HDIO_GET_WCACHE, Kind::Ide) => store_long(device.settings.switches.is_on(WCE).into())?,
        (HDIO_SET_WCACHE, Kind::Ide) => {
            require(host, Capability::Admin)?;
            set_write_cache(device, host, argument)?;
        }
        (HDIO_GET_32BIT, Kind::Sata) => store_long(device.settings.io_32bit.get(1).into())?,
        (HDIO_SET_32BIT, Kind::Sata) => device.settings.io_32bit.set(u32::from(argument != 0)),
        (HDIO_DRIVE_RESET, Kind::Ide) => require(host, Capability::Admin)?,
        (HDIO_GET_BUSSTATE, Kind::Ide) => {
            require(host, Capability::Admin)?;
            // BUSSTATE_ON
            store_long(1)?;
        }
        (HDIO_SET_BUSSTATE, Kind::Ide) => {
            require(host, Capability::Admin)?;
            return Err(Errno::EOPNOTSUPP);
        }
        (HDIO_SET_PIO_MODE, Kind::Ide) => {
            require(host, Capability::Admin)?;
            if argument > 255 {
                return Err(Errno::EINVAL);
            }
        }
        (_, Kind::Ide) => get_or_set(device, host, request, argument)?,
        _ => return Err(device.refusal()),
    }
    Ok(0)
}

fn get_or_set(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Result<(), Errno> {
    let Some((setting, default, most)) = setting(device.settings, request) else {
        return Err(device.refusal());
    };
    if find(request).is_some_and(Request::changes_nothing) {
        return host.store(argument, Long { value: setting.get(default).into() });
    }
    require(host, Capability::Admin)?;
    // Only IDE_NICE_1 can be set (drivers/ide/ide-ioctls.c).
    if request == HDIO_SET_NICE && argument & !(1 << IDE_NICE_1) != 0 {
        return Err(Errno::EPERM);
    }
    match u32::try_from(argument) {
        Ok(value) if value <= most => setting.set(value),
        _ => return Err(Errno::EINVAL),
    }
    // A disk that rejects SET MULTIPLE MODE turns multiple mode off (drivers/ide/ide-disk.c,
    // set_multcount).
    if request == HDIO_SET_MULTCOUNT && !has_multiple(setting.get(0) as u8) {
        setting.set(0);
        return Err(Errno::EIO);
    }
    Ok(())
}

/// The bit of include/uapi/linux/hdreg.h.
const IDE_NICE_1: u32 = 3;

fn store_geometry(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Result<(), Errno> {
    let Geometry { cylinders, heads, sectors } = match device.entry.geometry {
        Some(fixed) => fixed,
        None => geometry(device.entry.kind, device.capacity(host)?.sectors()),
    };
    if request == HDIO_GETGEO_BIG {
        return host.store(argument, HdBigGeometry { heads, sectors, cylinders, ..HdBigGeometry::default() });
    }
    // Real drivers truncate to 16 bits, so a client sees a tiny disk.
    let cylinders = u16::try_from(cylinders).unwrap_or(u16::MAX);
    host.store(argument, HdGeometry { heads, sectors, cylinders, ..HdGeometry::default() })
}

/// Stores the first `length` bytes of `struct hd_driveid`.
#[inline(never)]
fn store_identity(device: &Device<'_>, host: &impl Host, argument: u64, length: usize) -> Result<(), Errno> {
    let mut identity = [0; 512];
    identify::sector(device, host, device.capacity(host)?, &mut identity);
    hd_driveid(&mut identity);
    host.copy_out(argument, identity.get(..length).unwrap_or_default())
}

/// Answers `HDIO_SET_WCACHE` by SET FEATURES.
fn set_write_cache(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<(), Errno> {
    let features = match argument {
        0 => 0x82,
        1 => 0x02,
        _ => return Err(Errno::EINVAL),
    };
    let input = Taskfile { command: SET_FEATURES, features, ..Taskfile::default() };
    let data_phase = DataPhase { protocol: Protocol::NonData, limit: 0, data: &mut DataBuffer::empty() };
    match ata::execute(device, host, &input, data_phase) {
        Ok(registers) if !registers.failed() => Ok(()),
        _ => Err(Errno::EIO),
    }
}
