//! `IOC_PR_…`: persistent reservations (the kernel's block/ioctl.c and, for SCSI disks,
//! drivers/scsi/sd.c).

use super::request::*;
use super::sg_io::RESERVATION_CONFLICT;
use crate::abi::{PrClear, PrPreempt, PrRegistration, PrReservation};
use crate::device::Device;
use crate::errno::Errno;
use crate::host::{Capability, Host};
use crate::reservation::Type;
use crate::scsi::command::has_reservations;
use crate::scsi::reservation::{Change, change};
use crate::scsi::task::Outcome;

/// `PR_FL_IGNORE_KEY` (include/uapi/linux/pr.h), the only flag.
const IGNORE_KEY: u32 = 1;

/// `PR_STS_IOERR`: the disk refuses the request, or cannot carry it out.
const IO_ERROR: u8 = 0x02;

/// Answers a request. Where a reservation of another I_T nexus conflicts with it, the result is the status
/// RESERVATION CONFLICT, as sd returns it (`sd_scsi_to_pr_err`).
pub(crate) fn answer(
    device: &Device<'_>,
    host: &impl Host,
    request: u32,
    argument: u64,
) -> Result<i32, Errno> {
    if !matches!(
        request,
        IOC_PR_REGISTER
            | IOC_PR_RESERVE
            | IOC_PR_RELEASE
            | IOC_PR_PREEMPT
            | IOC_PR_PREEMPT_ABORT
            | IOC_PR_CLEAR
    ) {
        return Err(device.refusal());
    }
    if !host.capable(Capability::Admin) {
        return Err(Errno::EPERM);
    }
    if !has_reservations(device, host) {
        return Err(Errno::EOPNOTSUPP);
    }
    let wanted = match request {
        IOC_PR_REGISTER => {
            let PrRegistration { old_key, new_key, flags, .. } = host.fetch(argument)?;
            check_flags(flags, IGNORE_KEY)?;
            let key = Some(old_key).filter(|_| flags & IGNORE_KEY == 0);
            Change::Register { key, new: new_key }
        }
        IOC_PR_RESERVE => {
            let PrReservation { key, r#type, flags } = host.fetch(argument)?;
            check_flags(flags, 0)?;
            Change::Reserve { key, wanted: reservation_type(r#type) }
        }
        IOC_PR_RELEASE => {
            let PrReservation { key, r#type, flags } = host.fetch(argument)?;
            check_flags(flags, 0)?;
            Change::Release { key, named: reservation_type(r#type) }
        }
        IOC_PR_CLEAR => {
            let PrClear { key, flags, .. } = host.fetch(argument)?;
            check_flags(flags, 0)?;
            Change::Clear { key }
        }
        _ => {
            let PrPreempt { old_key, new_key, r#type, flags } = host.fetch(argument)?;
            check_flags(flags, 0)?;
            let abort = request == IOC_PR_PREEMPT_ABORT;
            Change::Preempt { key: old_key, victims: new_key, wanted: reservation_type(r#type), abort }
        }
    };
    match change(host, device.nexus.number, None, &wanted, 0) {
        Ok(()) => Ok(0),
        Err(Outcome::ReservationConflict) => Ok(RESERVATION_CONFLICT.into()),
        // INVALID FIELD IN CDB, INVALID FIELD IN PARAMETER LIST, and qualifiers of these.
        Err(Outcome::CheckCondition(sense)) if matches!(sense.asc_ascq >> 8, 0x24 | 0x26) => {
            Err(Errno::EINVAL)
        }
        Err(Outcome::CallerFault(errno)) => Err(errno),
        Err(_) => Ok(IO_ERROR.into()),
    }
}

fn check_flags(flags: u32, known: u32) -> Result<(), Errno> {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// Returns the type of an `enum pr_type`. The disk refuses none where it needs one.
fn reservation_type(number: u32) -> Option<Type> {
    match number {
        1 => Some(Type::WriteExclusive),
        2 => Some(Type::ExclusiveAccess),
        3 => Some(Type::WriteExclusiveRegistrantsOnly),
        4 => Some(Type::ExclusiveAccessRegistrantsOnly),
        5 => Some(Type::WriteExclusiveAllRegistrants),
        6 => Some(Type::ExclusiveAccessAllRegistrants),
        _ => None,
    }
}
