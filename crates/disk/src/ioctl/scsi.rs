//! `SCSI_IOCTL_…`, `SG_…` and the few `CDROM…` requests that a disk behind the SCSI mid-layer
//! answers (the kernel's drivers/scsi/scsi_ioctl.c). An IDE disk refuses them all.

use super::request::*;
use super::sg_io;
use crate::abi::{ScsiIdlun, SgScsiId};
use crate::bytes::copy;
use crate::device::Device;
use crate::entry::Kind;
use crate::errno::Errno;
use crate::host::{Capability, Host};
use crate::identity;
use crate::sat;
use crate::scsi::command::has_reservations;
use crate::shared::Shared;

/// The version of the sg interface of the kernel's disks: 3.5.39 (`sg_version_num`).
const SG_VERSION: i32 = 30527;

pub(crate) fn answer(
    device: &Device<'_>,
    host: &impl Host,
    request: u32,
    argument: u64,
) -> Result<i32, Errno> {
    if device.entry.kind == Kind::Ide {
        return Err(device.refusal());
    }
    let int_out = |value: i32| host.store(argument, value);
    let int_in = || host.fetch::<i32>(argument);
    match request {
        SCSI_IOCTL_GET_IDLUN => host.store(argument, idlun(device))?,
        SCSI_IOCTL_GET_BUS_NUMBER => int_out(identity::HOST.into())?,
        SCSI_IOCTL_PROBE_HOST if argument == 0 => return Ok(1),
        SCSI_IOCTL_PROBE_HOST => {
            let length = usize::try_from(int_in()? as u32).unwrap_or(usize::MAX);
            let mut name = [0; identity::ADAPTER.len() + 1];
            copy(&mut name, 0, identity::ADAPTER);
            host.copy_out(argument, name.get(..length).unwrap_or(&name))?;
            return Ok(1);
        }
        SCSI_IOCTL_GET_PCI => host.copy_out(argument, identity::ADAPTER)?,
        // The disk has no motor, and its medium cannot be removed.
        SCSI_IOCTL_START_UNIT | SCSI_IOCTL_STOP_UNIT | SCSI_IOCTL_DOORLOCK | SCSI_IOCTL_DOORUNLOCK => {}
        CDROMEJECT | CDROMCLOSETRAY if device.entry.kind == Kind::Scsi => {}
        SG_GET_VERSION_NUM => int_out(SG_VERSION)?,
        SG_EMULATED_HOST => int_out(1)?,
        SG_GET_TIMEOUT => return Ok(i32::try_from(device.settings.timeout.get(0)).unwrap_or(i32::MAX)),
        SG_SET_TIMEOUT => device.settings.timeout.set(u32::try_from(int_in()?).unwrap_or(0)),
        SG_GET_RESERVED_SIZE => {
            let most = longest_transfer(host)?;
            int_out(i32::try_from(device.settings.reserved_size.get(most).min(most)).unwrap_or(i32::MAX))?;
        }
        SG_SET_RESERVED_SIZE => {
            let size = u32::try_from(int_in()?).map_err(|_| Errno::EINVAL)?;
            device.settings.reserved_size.set(size.min(longest_transfer(host)?));
        }
        // Only the /dev/sg node of a real disk answers, which a listed device does not have.
        SG_GET_SCSI_ID => host.store(argument, scsi_id(device))?,
        SG_SCSI_RESET => reset(device, host, int_in)?,
        SG_IO => {
            return sg_io::sg_io(device, host, argument, |command| sat::execute(device, host, command));
        }
        SCSI_IOCTL_SEND_COMMAND => return sg_io::send_command(device, host, argument),
        _ => return Err(device.refusal()),
    }
    Ok(0)
}

fn idlun(device: &Device<'_>) -> ScsiIdlun {
    let [id, lun, channel] = [device.index, 0, 0];
    ScsiIdlun {
        dev_id: u32::from_le_bytes([id, lun, channel, identity::HOST]),
        host_unique_id: identity::HOST.into(),
    }
}

fn scsi_id(device: &Device<'_>) -> SgScsiId {
    SgScsiId {
        host_no: identity::HOST.into(),
        scsi_id: device.index.into(),
        h_cmd_per_lun: 32,
        d_queue_depth: 32,
        ..SgScsiId::default()
    }
}

/// Returns the longest transfer of the backing device, in bytes.
fn longest_transfer(host: &impl Host) -> Result<u32, Errno> {
    Ok(u32::from(host.max_sectors()?) * 512)
}

/// Answers `SG_SCSI_RESET` (drivers/scsi/scsi_error.c, `scsi_ioctl_reset`): a reset that the
/// adapter has succeeds and does nothing but end the reservation of RESERVE. libata has only a reset of
/// the host.
fn reset(device: &Device<'_>, host: &impl Host, scope: impl Fn() -> Result<i32, Errno>) -> Result<(), Errno> {
    const DO_NOT_ESCALATE: i32 = 0x100;
    const NOTHING: i32 = 0;
    const HOST: i32 = 3;
    const TARGET: i32 = 4;
    if !host.capable(Capability::Admin) || !host.capable(Capability::RawIo) {
        return Err(Errno::EACCES);
    }
    let scope = scope()?;
    let is_known = matches!(scope & !DO_NOT_ESCALATE, NOTHING..=TARGET);
    let has_reset = device.entry.kind == Kind::Scsi || matches!(scope & !DO_NOT_ESCALATE, NOTHING | HOST);
    if !is_known || !has_reset && scope & DO_NOT_ESCALATE != 0 {
        return Err(Errno::EIO);
    }
    if scope & !DO_NOT_ESCALATE != NOTHING && has_reservations(device, host) {
        host.change(Shared::reset)?;
    }
    Ok(())
}
