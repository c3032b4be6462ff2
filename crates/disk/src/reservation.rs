//! Reservations of a logical unit: persistent ones (SPC-4, 5.13) and those of RESERVE and RELEASE
//! (SPC-2, 5.5). They last as long as the engine keeps their state; none outlives a loss of power.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most I_T nexuses that can be registered, or have a unit attention to report, at once.
pub const MOST: usize = 64;

/// The type of a persistent reservation (SPC-4, table 68).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Write Exclusive
    WriteExclusive = 0x1,
    /// Exclusive Access
    ExclusiveAccess = 0x3,
    /// Write Exclusive - Registrants Only
    WriteExclusiveRegistrantsOnly = 0x5,
    /// Exclusive Access - Registrants Only
    ExclusiveAccessRegistrantsOnly = 0x6,
    /// Write Exclusive - All Registrants
    WriteExclusiveAllRegistrants = 0x7,
    /// Exclusive Access - All Registrants
    ExclusiveAccessAllRegistrants = 0x8,
}

impl Type {
    /// All types, in the order of their codes and of the kernel's `enum pr_type`.
    pub const ALL: [Type; 6] = [
        Type::WriteExclusive,
        Type::ExclusiveAccess,
        Type::WriteExclusiveRegistrantsOnly,
        Type::ExclusiveAccessRegistrantsOnly,
        Type::WriteExclusiveAllRegistrants,
        Type::ExclusiveAccessAllRegistrants,
    ];

    /// Returns the type with this code.
    pub fn from_code(code: u8) -> Option<Type> {
        Type::ALL.into_iter().find(|known| *known as u8 == code)
    }

    /// Returns whether other I_T nexuses may read.
    fn is_write_exclusive(self) -> bool {
        use Type::*;
        matches!(self, WriteExclusive | WriteExclusiveRegistrantsOnly | WriteExclusiveAllRegistrants)
    }

    /// Returns whether every registered I_T nexus holds the reservation.
    fn is_of_all_registrants(self) -> bool {
        matches!(self, Type::WriteExclusiveAllRegistrants | Type::ExclusiveAccessAllRegistrants)
    }

    /// Returns whether registered I_T nexuses may do what the holder may.
    fn lets_registrants(self) -> bool {
        !matches!(self, Type::WriteExclusive | Type::ExclusiveAccess)
    }
}

/// The reservations of other I_T nexuses under which a command is carried out (SPC-4, table 65, and
/// SBC-3, table 13, for persistent ones; SPC-2, table 9, for those of RESERVE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerates {
    /// None.
    Nothing,
    /// Those that let others read.
    WriteExclusive,
    /// All persistent ones.
    Persistent,
    /// All.
    Everything,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// RESERVATION CONFLICT
    Conflict,
    /// The SERVICE ACTION RESERVATION KEY is wrong.
    InvalidKey,
    /// The TransportID is wrong.
    InvalidTransportId,
    /// SPEC_I_PT is set where no other I_T nexus can be registered.
    InvalidInitiatorPorts,
    /// SCOPE or TYPE is wrong.
    InvalidType,
    /// There is no reservation to move.
    NothingToMove,
    /// INVALID RELEASE OF PERSISTENT RESERVATION
    InvalidRelease,
    /// INSUFFICIENT REGISTRATION RESOURCES
    NoResources,
}

/// A unit attention that a change of reservations establishes (SPC-4, 5.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// RESERVATIONS PREEMPTED
    ReservationsPreempted = 1,
    /// RESERVATIONS RELEASED
    ReservationsReleased = 2,
    /// REGISTRATIONS PREEMPTED
    RegistrationsPreempted = 4,
}

/// An I_T nexus that is registered, or has a unit attention to report; all zeros: a free place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Place {
    /// The number of the I_T nexus.
    nexus: u64,
    /// Its reservation key; 0: it is not registered.
    key: u64,
    /// The pending unit attentions, as bits of [`Attention`].
    attentions: u64,
}

/// A registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The number of the I_T nexus.
    pub nexus: u64,
    /// Its reservation key.
    pub key: u64,
    /// Whether it holds the persistent reservation.
    pub is_holder: bool,
}

/// The reservations of a logical unit; all bytes are zero at first.
#[repr(C)]
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Reservations {
    /// PRGENERATION
    generation: u32,
    /// The code of the type of the persistent reservation; 0: there is none.
    code: u32,
    /// The number of the I_T nexus that holds it, unless all registrants do.
    holder: u64,
    /// The number of the I_T nexus that RESERVE was granted to; 0: none.
    reserved_by: u64,
    places: [Place; MOST],
}

impl Default for Reservations {
    fn default() -> Reservations {
        Reservations { generation: 0, code: 0, holder: 0, reserved_by: 0, places: [Place::default(); MOST] }
    }
}

impl Reservations {
    /// Returns PRGENERATION.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the registrations.
    pub fn registrations(&self) -> impl Iterator<Item = Registration> {
        let registered = self.places.iter().filter(|place| place.key != 0);
        registered.map(|&Place { nexus, key, .. }| Registration {
            nexus,
            key,
            is_holder: self.is_holder(nexus),
        })
    }

    /// Returns the type of the persistent reservation, and the key of the I_T nexus that holds it; 0 if all
    /// registrants do.
    pub fn reservation(&self) -> Option<(Type, u64)> {
        let held = self.held()?;
        Some((held, if held.is_of_all_registrants() { 0 } else { self.key(self.holder) }))
    }

    fn held(&self) -> Option<Type> {
        Type::from_code(u8::try_from(self.code).ok()?)
    }

    /// Returns the key of an I_T nexus; 0 if it is not registered.
    fn key(&self, nexus: u64) -> u64 {
        self.places.iter().find(|place| place.nexus == nexus).map_or(0, |place| place.key)
    }

    /// Returns whether an I_T nexus holds the persistent reservation.
    fn is_holder(&self, nexus: u64) -> bool {
        match self.held() {
            Some(held) if held.is_of_all_registrants() => self.key(nexus) != 0,
            Some(_) => self.holder == nexus,
            None => false,
        }
    }

    /// Refuses a command of an I_T nexus that conflicts with a reservation of another.
    pub fn check_no_conflict(&self, nexus: u64, tolerates: Tolerates) -> Result<(), Refusal> {
        if self.conflicts(nexus, tolerates) { Err(Refusal::Conflict) } else { Ok(()) }
    }

    /// Returns whether a command of an I_T nexus conflicts with a reservation of another.
    pub fn conflicts(&self, nexus: u64, tolerates: Tolerates) -> bool {
        if self.reserved_by != 0 && self.reserved_by != nexus {
            return tolerates != Tolerates::Everything;
        }
        match self.held() {
            Some(_) if self.is_holder(nexus) => false,
            Some(held) if held.lets_registrants() && self.key(nexus) != 0 => false,
            Some(held) if held.is_write_exclusive() => tolerates == Tolerates::Nothing,
            Some(_) => matches!(tolerates, Tolerates::Nothing | Tolerates::WriteExclusive),
            None => false,
        }
    }

    /// Returns the unit attention that an I_T nexus has to report first.
    pub fn attention(&self, nexus: u64) -> Option<Attention> {
        use Attention::*;
        let pending = self.places.iter().find(|place| place.nexus == nexus)?.attentions;
        [ReservationsPreempted, ReservationsReleased, RegistrationsPreempted]
            .into_iter()
            .find(|attention| pending & *attention as u64 != 0)
    }

    /// Returns the unit attention that an I_T nexus has to report first, and clears it.
    pub fn take_attention(&mut self, nexus: u64) -> Option<Attention> {
        let attention = self.attention(nexus)?;
        self.each(|place| {
            if place.nexus == nexus {
                place.attentions &= !(attention as u64);
            }
        });
        Some(attention)
    }

    /// Changes all places in use, and frees those that hold nothing any more.
    fn each(&mut self, mut change: impl FnMut(&mut Place)) {
        for place in self.places.iter_mut().filter(|place| place.nexus != 0) {
            change(place);
            if place.key == 0 && place.attentions == 0 {
                *place = Place::default();
            }
        }
    }

    /// Establishes a unit attention for all registered I_T nexuses but one.
    fn establish_for_others(&mut self, nexus: u64, attention: Attention) {
        self.each(|place| {
            if place.nexus != nexus && place.key != 0 {
                place.attentions |= attention as u64;
            }
        });
    }

    fn set_key(&mut self, nexus: u64, key: u64) -> Result<(), Refusal> {
        let find =
            |wanted: fn(&Place, u64) -> bool| self.places.iter().position(|place| wanted(place, nexus));
        // If all places are in use, one that only has a unit attention to report loses it: a registration is
        // more important.
        let at = find(|place, nexus| place.nexus == nexus)
            .or_else(|| find(|place, _| place.nexus == 0))
            .or_else(|| find(|place, _| place.key == 0));
        let place = at.and_then(|at| self.places.get_mut(at)).ok_or(Refusal::NoResources)?;
        if place.nexus != nexus {
            *place = Place { nexus, ..Place::default() };
        }
        place.key = key;
        Ok(())
    }

    fn unregister(&mut self, nexus: u64) {
        let was_holder = self.is_holder(nexus);
        self.each(|place| {
            if place.nexus == nexus {
                place.key = 0;
            }
        });
        let Some(held) = self.held().filter(|_| was_holder) else { return };
        let is_last = self.registrations().next().is_none();
        if !held.is_of_all_registrants() || is_last {
            self.release_reservation();
            if held.lets_registrants() {
                self.establish_for_others(nexus, Attention::ReservationsReleased);
            }
        }
    }

    fn release_reservation(&mut self) {
        self.code = 0;
        self.holder = 0;
    }

    fn count(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Refuses a persistent reservation request while RESERVE holds the logical unit (SPC-2, 5.5.1).
    pub fn check_not_reserved(&self) -> Result<(), Refusal> {
        if self.reserved_by == 0 { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// Refuses what only a registered I_T nexus may do, with its own key.
    fn check_key(&self, nexus: u64, key: u64) -> Result<(), Refusal> {
        self.check_not_reserved()?;
        let registered = self.key(nexus);
        if registered != 0 && registered == key { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// Carries out REGISTER, or with no key REGISTER AND IGNORE EXISTING KEY (SPC-4, 5.13.7): `new`
    /// becomes the key of this I_T nexus and, with SPEC_I_PT, of the `others` that are not registered;
    /// 0 unregisters it.
    pub fn register(
        &mut self,
        nexus: u64,
        key: Option<u64>,
        new: u64,
        others: Option<&[u64]>,
    ) -> Result<(), Refusal> {
        self.check_not_reserved()?;
        let registered = self.key(nexus);
        if key.is_some_and(|key| key != registered) {
            return Err(Refusal::Conflict);
        }
        if others.is_some() && (registered != 0 || new == 0) {
            return Err(Refusal::InvalidInitiatorPorts);
        }
        let others = others.unwrap_or_default();
        if new == 0 && registered == 0 {
            return Ok(());
        }
        if new == 0 {
            self.unregister(nexus);
        } else {
            let wanted = others.iter().chain([&nexus]).filter(|&&nexus| self.key(nexus) == 0).count();
            if wanted > self.places.iter().filter(|place| place.key == 0).count() {
                return Err(Refusal::NoResources);
            }
            self.set_key(nexus, new)?;
            for &other in others {
                if self.key(other) == 0 {
                    self.set_key(other, new)?;
                }
            }
        }
        self.count();
        Ok(())
    }

    /// Carries out RESERVE of PERSISTENT RESERVE OUT (SPC-4, 5.13.9); `wanted`: the type in the CDB.
    pub fn reserve(&mut self, nexus: u64, key: u64, wanted: Option<Type>) -> Result<(), Refusal> {
        self.check_key(nexus, key)?;
        let wanted = wanted.ok_or(Refusal::InvalidType)?;
        match self.held() {
            None => {
                self.code = wanted as u32;
                self.holder = nexus;
                Ok(())
            }
            Some(held) if held == wanted && self.is_holder(nexus) => Ok(()),
            Some(_) => Err(Refusal::Conflict),
        }
    }

    /// Carries out RELEASE of PERSISTENT RESERVE OUT (SPC-4, 5.13.11.2); `named`: the type in the CDB.
    pub fn release(&mut self, nexus: u64, key: u64, named: Option<Type>) -> Result<(), Refusal> {
        self.check_key(nexus, key)?;
        let Some(held) = self.held().filter(|_| self.is_holder(nexus)) else { return Ok(()) };
        if named != Some(held) {
            return Err(Refusal::InvalidRelease);
        }
        self.release_reservation();
        if held.lets_registrants() {
            self.establish_for_others(nexus, Attention::ReservationsReleased);
        }
        Ok(())
    }

    /// Carries out CLEAR (SPC-4, 5.13.11.5).
    pub fn clear(&mut self, nexus: u64, key: u64) -> Result<(), Refusal> {
        self.check_key(nexus, key)?;
        self.establish_for_others(nexus, Attention::ReservationsPreempted);
        self.release_reservation();
        self.each(|place| place.key = 0);
        self.count();
        Ok(())
    }

    /// Carries out PREEMPT and PREEMPT AND ABORT (SPC-4, 5.13.11.3 and .4): `victims` is the key of those
    /// that are unregistered, 0: all others. The type in the CDB, `wanted`, is used only if the reservation
    /// is preempted too.
    pub fn preempt(
        &mut self,
        nexus: u64,
        key: u64,
        victims: u64,
        wanted: Option<Type>,
    ) -> Result<(), Refusal> {
        self.check_key(nexus, key)?;
        let held = self.held();
        let of_all = held.is_some_and(Type::is_of_all_registrants);
        if victims == 0 && !of_all {
            return Err(Refusal::InvalidKey);
        }
        let takes_over = match held {
            Some(_) if of_all => victims == 0,
            Some(_) => self.key(self.holder) == victims,
            None => false,
        };
        if victims != 0 && self.places.iter().all(|place| place.key != victims) {
            return Err(Refusal::Conflict);
        }
        let taken = if takes_over { Some(wanted.ok_or(Refusal::InvalidType)?) } else { None };
        self.each(|place| {
            let is_victim = place.key != 0 && (victims == 0 || place.key == victims);
            if is_victim && place.nexus != nexus {
                place.key = 0;
                place.attentions |= Attention::RegistrationsPreempted as u64;
            } else if is_victim && taken.is_none() {
                place.key = 0;
            }
        });
        if let Some(wanted) = taken {
            self.code = wanted as u32;
            self.holder = nexus;
            if held != taken {
                self.establish_for_others(nexus, Attention::ReservationsReleased);
            }
        } else if of_all && self.registrations().next().is_none() {
            self.release_reservation();
        }
        self.count();
        Ok(())
    }

    /// Carries out REGISTER AND MOVE (SPC-4, 5.13.8): the reservation goes to the I_T nexus `to`, which is
    /// registered with the key `new`.
    pub fn register_and_move(
        &mut self,
        nexus: u64,
        key: u64,
        new: u64,
        unregister: bool,
        to: u64,
    ) -> Result<(), Refusal> {
        self.check_key(nexus, key)?;
        match self.held() {
            None => return Err(Refusal::NothingToMove),
            Some(held) if held.is_of_all_registrants() || !self.is_holder(nexus) => {
                return Err(Refusal::Conflict);
            }
            Some(_) => {}
        }
        if new == 0 {
            return Err(Refusal::InvalidKey);
        }
        if to == nexus {
            return Err(Refusal::InvalidTransportId);
        }
        self.set_key(to, new)?;
        self.holder = to;
        if unregister {
            self.unregister(nexus);
        }
        self.count();
        Ok(())
    }

    /// Returns the I_T nexus that RESERVE was granted to.
    pub fn reserved_by(&self) -> Option<u64> {
        Some(self.reserved_by).filter(|nexus| *nexus != 0)
    }

    /// Carries out RESERVE (6) and (10), which a registered I_T nexus rules out (SPC-4, 5.13.3).
    pub fn reserve_unit(&mut self, nexus: u64) -> Result<(), Refusal> {
        let is_reserved = self.reserved_by != 0 && self.reserved_by != nexus;
        if is_reserved || self.registrations().next().is_some() {
            return Err(Refusal::Conflict);
        }
        self.reserved_by = nexus;
        Ok(())
    }

    /// Carries out RELEASE (6) and (10); that of another I_T nexus than the holder changes nothing.
    pub fn release_unit(&mut self, nexus: u64) -> Result<(), Refusal> {
        if self.registrations().next().is_some() {
            return Err(Refusal::Conflict);
        }
        self.end_reservation_of(nexus);
        Ok(())
    }

    /// Ends what does not outlive an I_T nexus (SPC-4, 5.13.5): the reservation of RESERVE, and unit
    /// attentions. What is persistent stays.
    pub fn lose_nexus(&mut self, nexus: u64) {
        self.end_reservation_of(nexus);
        self.each(|place| {
            if place.nexus == nexus {
                place.attentions = 0;
            }
        });
    }

    fn end_reservation_of(&mut self, nexus: u64) {
        if self.reserved_by == nexus {
            self.reserved_by = 0;
        }
    }

    /// Ends what does not outlive a reset of the logical unit (SPC-2, 5.5.1).
    pub fn reset(&mut self) {
        self.reserved_by = 0;
    }
}
