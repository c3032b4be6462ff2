//! `IOC_PR_…`: persistent reservations (the kernel's block/ioctl.c and, for SCSI disks,
//! drivers/scsi/sd.c).

use super::request::*;
use super::sg_io::RESERVATION_CONFLICT;
use crate::abi::{PrClear, PrPreempt, PrReadKeys, PrReadReservation, PrRegistration, PrReservation};
use crate::device::Device;
use crate::errno::Errno;
use crate::host::{Capability, Host};
use crate::reservation::{MOST, Refusal, Reservations, Type};
use crate::scsi::command::has_reservations;
use crate::scsi::reservation::{Change, change};
use crate::scsi::task::{Outcome, unreachable};
use zerocopy::IntoBytes;

/// `PR_FL_IGNORE_KEY` (include/uapi/linux/pr.h), the only flag.
const IGNORE_KEY: u32 = 1;

/// `PR_KEYS_MAX` (block/ioctl.c).
const MOST_KEYS: u32 = 1 << 16;

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
            | IOC_PR_READ_KEYS
            | IOC_PR_READ_RESERVATION
    ) {
        return Err(device.refusal());
    }
    if !host.capable(Capability::Admin) {
        return Err(Errno::EPERM);
    }
    if !has_reservations(device, host) {
        return Err(Errno::EOPNOTSUPP);
    }
    let done = match request {
        IOC_PR_READ_KEYS => read_keys(host, argument),
        IOC_PR_READ_RESERVATION => read_reservation(host, argument),
        _ => change(host, device.nexus.number, None, &wanted(host, request, argument)?, 0),
    };
    match done {
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

/// Reads what a request asks for.
fn wanted(host: &impl Host, request: u32, argument: u64) -> Result<Change, Errno> {
    Ok(match request {
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
    })
}

fn read_keys(host: &impl Host, argument: u64) -> Result<(), Outcome> {
    let PrReadKeys { num_keys, keys_ptr, .. } = host.fetch(argument).map_err(Outcome::CallerFault)?;
    if num_keys > MOST_KEYS {
        return Err(Outcome::CallerFault(Errno::EINVAL));
    }
    let mut keys = [0u64; MOST];
    let (generation, count) = look(host, |reservations| {
        let places = keys.iter_mut().zip(reservations.registrations());
        (reservations.generation(), places.map(|(key, one)| *key = one.key).count())
    })?;
    let copied = keys.get(..count.min(num_keys as usize)).unwrap_or_default();
    let list = PrReadKeys { generation, num_keys: count as u32, keys_ptr };
    host.copy_out(keys_ptr, copied.as_bytes()).map_err(Outcome::CallerFault)?;
    host.store(argument, list).map_err(Outcome::CallerFault)
}

fn read_reservation(host: &impl Host, argument: u64) -> Result<(), Outcome> {
    let held = look(host, |reservations| {
        let held = reservations.reservation();
        let (r#type, key) = held.map_or((0, 0), |(held, key)| (type_number(held), key));
        PrReadReservation { key, generation: reservations.generation(), r#type }
    })?;
    host.store(argument, held).map_err(Outcome::CallerFault)
}

/// Looks at the reservations as PERSISTENT RESERVE IN does.
fn look<R>(host: &impl Host, look: impl FnOnce(&Reservations) -> R) -> Result<R, Outcome> {
    let seen = host.look(|shared| {
        shared.reservations.check_not_reserved()?;
        Ok(look(&shared.reservations))
    });
    seen.map_err(unreachable)?.map_err(|refusal: Refusal| refusal.into())
}

fn check_flags(flags: u32, known: u32) -> Result<(), Errno> {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// Returns the `enum pr_type` of a type.
fn type_number(held: Type) -> u32 {
    (1..).zip(Type::ALL).find(|(_, known)| *known == held).map_or(0, |(number, _)| number)
}

/// Returns the type of an `enum pr_type`. The disk refuses none where it needs one.
fn reservation_type(number: u32) -> Option<Type> {
    let place = number.checked_sub(1)?;
    Type::ALL.get(place as usize).copied()
}
