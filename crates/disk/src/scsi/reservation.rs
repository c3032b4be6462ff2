//! Reservation commands (SPC-4, 6.15 and 6.16; SPC-2, 7.20 and 7.27), and what reservations and
//! changed mode parameters mean to other commands.

use super::command::{Operation, has_reservations};
use super::inquiry::PORT;
use super::response::Response;
use super::sanitize::check_not_in_progress;
use super::sense::Sense;
use super::task::{CommandResult, Outcome, Task, unreachable, wait_for_others};
use crate::bytes::part;
use crate::device::Device;
use crate::errno::Errno;
use crate::host::Host;
use crate::reservation::{Attention, MOST, Refusal, Registration, Reservations, Tolerates, Type};
use crate::shared::Shared;

/// Service actions of PERSISTENT RESERVE IN.
const READ_KEYS: u8 = 0x00;
const READ_RESERVATION: u8 = 0x01;
const REPORT_CAPABILITIES: u8 = 0x02;

/// Service actions of PERSISTENT RESERVE OUT.
const REGISTER: u8 = 0x00;
const RESERVE: u8 = 0x01;
const RELEASE: u8 = 0x02;
const CLEAR: u8 = 0x03;
const PREEMPT: u8 = 0x04;
const PREEMPT_AND_ABORT: u8 = 0x05;
const REGISTER_AND_IGNORE: u8 = 0x06;

/// PERSISTENT RESERVE OUT, byte 20 of the parameter list.
const SPEC_I_PT: u8 = 0x08;
const APTPL: u8 = 0x01;
/// REGISTER AND MOVE, byte 17: UNREG, and APTPL as above.
const UNREG: u8 = 0x02;

/// REPORT CAPABILITIES: SIP_C and ATP_C, TMV, and the types of [`Type`].
const CAPABILITIES: [u8; 8] = [0, 8, 0x08 | 0x04, 0x80, 0xea, 0x01, 0, 0];

/// The length of a parameter list without TransportIDs.
const LIST: usize = 24;

/// A TransportID of a SAS initiator port (SPC-4, 7.6.4.6).
const TRANSPORT_ID: usize = 24;
const SAS: u8 = 0x06;

/// The SAS address of an I_T nexus is its number, locally assigned (NAA 3h).
const LOCALLY_ASSIGNED: u64 = 3 << 60;

fn transport_id(nexus: u64) -> [u8; TRANSPORT_ID] {
    let mut id = [0; TRANSPORT_ID];
    id[0] = SAS;
    crate::bytes::copy(&mut id, 4, &(LOCALLY_ASSIGNED | nexus).to_be_bytes());
    id
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Outcome {
        match refusal {
            Refusal::Conflict => Outcome::ReservationConflict,
            Refusal::InvalidKey => Sense::invalid_field_in_parameter_list(8, None).into(),
            Refusal::InvalidTransportId => Sense::invalid_field_in_parameter_list(24, None).into(),
            Refusal::InvalidInitiatorPorts => Sense::invalid_field_in_parameter_list(20, Some(3)).into(),
            Refusal::InvalidType => Sense::invalid_field_in_cdb(2, None).into(),
            Refusal::NothingToMove => Sense::invalid_field_in_cdb(1, Some(4)).into(),
            Refusal::InvalidRelease => Sense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION.into(),
            Refusal::NoResources => Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into(),
        }
    }
}

/// What PERSISTENT RESERVE OUT and the kernel's `IOC_PR_…` request.
pub(crate) enum Change {
    Register { key: Option<u64>, new: u64 },
    Reserve { key: u64, wanted: Option<Type> },
    Release { key: u64, named: Option<Type> },
    Clear { key: u64 },
    Preempt { key: u64, victims: u64, wanted: Option<Type>, abort: bool },
}

/// Changes the reservations for an I_T nexus. `timeout_ms`: how long PREEMPT AND ABORT waits for the commands
/// that others have begun; 0: as long as it takes.
pub(crate) fn change(
    host: &impl Host,
    nexus: u64,
    others: Option<&[u64]>,
    change: &Change,
    timeout_ms: u32,
) -> Result<(), Outcome> {
    let done = host.change(|Shared { reservations, operation, .. }| {
        check_not_in_progress(operation)?;
        let done = match *change {
            Change::Register { key, new } => reservations.register(nexus, key, new, others),
            Change::Reserve { key, wanted } => reservations.reserve(nexus, key, wanted),
            Change::Release { key, named } => reservations.release(nexus, key, named),
            Change::Clear { key } => reservations.clear(nexus, key),
            Change::Preempt { key, victims, wanted, .. } => reservations.preempt(nexus, key, victims, wanted),
        };
        done.map_err(Outcome::from)
    });
    done.map_err(unreachable)??;
    match change {
        // Commands cannot be aborted, but what they did is complete when this one ends.
        Change::Preempt { abort: true, .. } => wait_for_others(host, timeout_ms),
        _ => Ok(()),
    }
}

/// Returns why the block layer's requests cannot write: a reservation of another I_T nexus conflicts, an
/// operation is in progress or has failed, or that cannot be told.
pub(crate) fn refusal_to_write(device: &Device<'_>, host: &impl Host) -> Option<Errno> {
    if !has_reservations(device, host) {
        return None;
    }
    let nexus = device.nexus.number;
    let refusal = host.look(|shared| match shared.reservations.conflicts(nexus, Tolerates::Nothing) {
        true => Some(Errno::EBADE),
        false => shared.operation.current().map(|_| Errno::EIO),
    });
    refusal.unwrap_or(Some(Errno::EIO))
}

impl<H: Host> Task<'_, H> {
    fn look<R>(&self, look: impl FnOnce(&Reservations) -> R) -> Result<R, Outcome> {
        self.host.look(|shared| look(&shared.reservations)).map_err(unreachable)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Reservations) -> R) -> Result<R, Outcome> {
        self.host.change(|shared| change(&mut shared.reservations)).map_err(unreachable)
    }

    /// Fails if another I_T nexus has caused a unit attention, has reserved the logical unit, or has it
    /// sanitized or formatted.
    #[inline(never)]
    pub(super) fn check_shared(&self) -> CommandResult {
        let attention = if self.row.reports_unit_attention { self.shared_attention()? } else { None };
        if let Some(sense) = attention {
            return Err(sense.into());
        }
        self.check_reservations()?;
        self.check_operation()
    }

    /// Returns the unit attention, reported once, that another I_T nexus has caused.
    fn shared_attention(&self) -> Result<Option<Sense>, Outcome> {
        let nexus = self.device.nexus;
        if nexus.update_mode_changes(self.device.settings.mode_changes()) {
            return Ok(Some(Sense::MODE_PARAMETERS_CHANGED));
        }
        if self.look(|reservations| reservations.attention(nexus.number))?.is_none() {
            return Ok(None);
        }
        // Another command of the nexus may have reported it meanwhile.
        let attention = self.change(|reservations| reservations.take_attention(nexus.number))?;
        Ok(attention.map(|attention| match attention {
            Attention::ReservationsPreempted => Sense::RESERVATIONS_PREEMPTED,
            Attention::ReservationsReleased => Sense::RESERVATIONS_RELEASED,
            Attention::RegistrationsPreempted => Sense::REGISTRATIONS_PREEMPTED,
        }))
    }

    /// Fails if the command conflicts with a reservation of another I_T nexus.
    fn check_reservations(&self) -> CommandResult {
        let (nexus, tolerates) = (self.device.nexus.number, self.row.tolerated(&self.cdb));
        if tolerates == Tolerates::Everything {
            return Ok(());
        }
        Ok(self.look(|reservations| reservations.check_no_conflict(nexus, tolerates))??)
    }

    #[inline(never)]
    pub(super) fn reservation_command(&mut self) -> CommandResult {
        let nexus = self.device.nexus.number;
        match self.row.operation {
            Operation::Reserve => {
                let done = self.host.change(|Shared { reservations, operation, .. }| {
                    // It may have begun since this command looked.
                    check_not_in_progress(operation)?;
                    Ok(reservations.reserve_unit(nexus)?)
                });
                done.map_err(unreachable)?
            }
            Operation::Release => Ok(self.change(|reservations| reservations.release_unit(nexus))??),
            Operation::PersistentReserveIn => self.persistent_reserve_in(),
            _ => self.persistent_reserve_out(),
        }
    }

    fn persistent_reserve_in(&mut self) -> CommandResult {
        self.look(Reservations::check_not_reserved)??;
        let mut out = Response::new();
        match self.byte(1) & 0x1f {
            READ_KEYS => self.look(|reservations| {
                out.put(&reservations.generation().to_be_bytes());
                out.put(&[0; 4]);
                reservations.registrations().for_each(|one| out.put(&one.key.to_be_bytes()));
                out.set_length::<4>(4);
            })?,
            READ_RESERVATION => self.look(|reservations| {
                out.put(&reservations.generation().to_be_bytes());
                out.put(&[0; 4]);
                if let Some((held, key)) = reservations.reservation() {
                    out.put(&key.to_be_bytes());
                    out.put(&[0, 0, 0, 0, 0, held as u8, 0, 0]);
                }
                out.set_length::<4>(4);
            })?,
            REPORT_CAPABILITIES => out.put(&CAPABILITIES),
            _ => return self.read_full_status(),
        }
        self.send_data_in(&out)
    }

    /// READ FULL STATUS, whose parameter data can be longer than a [`Response`].
    fn read_full_status(&mut self) -> CommandResult {
        let mut all = [None; MOST];
        let (generation, held) = self.look(|reservations| {
            all.iter_mut().zip(reservations.registrations()).for_each(|(to, from)| *to = Some(from));
            (reservations.generation(), reservations.reservation().map(|(held, _)| held as u8))
        })?;
        const DESCRIPTOR: usize = 24 + TRANSPORT_ID;
        let length = (all.iter().flatten().count() * DESCRIPTOR) as u32;
        let mut left = usize::try_from(self.allocation_length()).unwrap_or(usize::MAX);
        self.send_part(&generation.to_be_bytes(), &mut left)?;
        self.send_part(&length.to_be_bytes(), &mut left)?;
        for Registration { nexus, key, is_holder } in all.into_iter().flatten() {
            let scope_and_type = held.filter(|_| is_holder).unwrap_or(0);
            self.send_part(&key.to_be_bytes(), &mut left)?;
            let [high, low] = PORT;
            let status = [0, 0, 0, 0, u8::from(is_holder), scope_and_type, 0, 0, 0, 0, high, low];
            self.send_part(&status, &mut left)?;
            self.send_part(&(TRANSPORT_ID as u32).to_be_bytes(), &mut left)?;
            self.send_part(&transport_id(nexus), &mut left)?;
        }
        Ok(())
    }

    /// Receives and checks the parameter list, and carries the service action out.
    fn persistent_reserve_out(&mut self) -> CommandResult {
        let nexus = self.device.nexus.number;
        let action = self.byte(1) & 0x1f;
        let mut list = [0; LIST + 4 + MOST * TRANSPORT_ID];
        let list = self.receive_parameter_list(&mut list)?;
        if list.len() < LIST {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR.into());
        }
        let key = u64::from_be_bytes(part(list, 0));
        let new = u64::from_be_bytes(part(list, 8));
        let byte = |at: usize| list.get(at).copied().unwrap_or(0);
        if !matches!(action, REGISTER..=REGISTER_AND_IGNORE) {
            let list = Move {
                key,
                new,
                flags: byte(17),
                port: part(list, 18),
                ids: list.get(20..).unwrap_or_default(),
            };
            return self.register_and_move(nexus, &list);
        }
        let registers = matches!(action, REGISTER | REGISTER_AND_IGNORE);
        let flags = byte(20);
        // Nothing outlives a loss of power.
        if registers && flags & APTPL != 0 {
            return Err(Sense::invalid_field_in_parameter_list(20, Some(0)).into());
        }
        let mut ids = [0; MOST];
        let mut others = None;
        if flags & SPEC_I_PT != 0 {
            if action != REGISTER {
                return Err(Refusal::InvalidInitiatorPorts.into());
            }
            let count = self.transport_ids(list.get(LIST..).unwrap_or_default(), LIST, &mut ids)?;
            others = ids.get(..count);
        } else if list.len() != LIST {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR.into());
        }
        // The only scope is 0.
        let wanted = Type::from_code(self.byte(2));
        let request = match action {
            REGISTER => Change::Register { key: Some(key), new },
            REGISTER_AND_IGNORE => Change::Register { key: None, new },
            RESERVE => Change::Reserve { key, wanted },
            RELEASE => Change::Release { key, named: wanted },
            CLEAR => Change::Clear { key },
            PREEMPT | PREEMPT_AND_ABORT => {
                Change::Preempt { key, victims: new, wanted, abort: action == PREEMPT_AND_ABORT }
            }
            _ => return Err(Sense::invalid_field_in_cdb(1, Some(4)).into()),
        };
        change(self.host, nexus, others, &request, self.timeout)
    }

    fn register_and_move(&mut self, nexus: u64, list: &Move<'_>) -> CommandResult {
        if list.flags & APTPL != 0 {
            return Err(Sense::invalid_field_in_parameter_list(17, Some(0)).into());
        }
        if list.port != PORT {
            return Err(Sense::invalid_field_in_parameter_list(18, None).into());
        }
        let mut to = [0; MOST];
        if self.transport_ids(list.ids, 20, &mut to)? != 1 {
            return Err(Sense::invalid_field_in_parameter_list(20, None).into());
        }
        let unregister = list.flags & UNREG != 0;
        let [to, ..] = to;
        let moved = self.host.change(|Shared { reservations, operation, .. }| {
            check_not_in_progress(operation)?;
            Ok(reservations.register_and_move(nexus, list.key, list.new, unregister, to)?)
        });
        moved.map_err(unreachable)?
    }

    /// Reads the length and the TransportIDs that are at `start` of a parameter list, and returns how many
    /// I_T nexuses they name.
    fn transport_ids(&self, list: &[u8], start: usize, nexuses: &mut [u64; MOST]) -> Result<usize, Outcome> {
        let length = u32::from_be_bytes(part(list, 0)) as usize;
        let ids = list.get(4..).and_then(|ids| ids.get(..length));
        let ids = ids.ok_or(Sense::invalid_field_in_parameter_list(start as u16, None))?;
        let mut count = 0;
        for (place, id) in ids.chunks(TRANSPORT_ID).enumerate() {
            let address = u64::from_be_bytes(part(id, 4));
            let nexus = address & !LOCALLY_ASSIGNED;
            let is_right = id == transport_id(nexus)
                && self.host.look(|shared| shared.has_had_nexus(nexus)).map_err(unreachable)?;
            let to = nexuses.get_mut(count).filter(|_| is_right);
            let wrong = start + 4 + place * TRANSPORT_ID;
            *to.ok_or(Outcome::from(Sense::invalid_field_in_parameter_list(wrong as u16, None)))? = nexus;
            count += 1;
        }
        Ok(count)
    }
}

/// The parameter list of REGISTER AND MOVE (SPC-4, table 214).
struct Move<'a> {
    key: u64,
    new: u64,
    flags: u8,
    /// RELATIVE TARGET PORT IDENTIFIER
    port: [u8; 2],
    /// The length of the TransportID, and it.
    ids: &'a [u8],
}
