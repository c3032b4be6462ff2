//! What all I_T nexuses of a logical unit share beside its settings.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::reservation::Reservations;

/// What the I_T nexuses of a logical unit share; all bytes are zero at first. An engine keeps it, and
/// lends it to one command at a time ([`Nexuses`](crate::host::Nexuses)).
#[repr(C)]
#[derive(Clone, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Shared {
    /// The number that the last new I_T nexus got.
    last_nexus: u64,
    /// The reservations.
    pub(crate) reservations: Reservations,
}

impl Shared {
    /// Returns the number of a new I_T nexus, which no other has had.
    pub fn add_nexus(&mut self) -> u64 {
        self.last_nexus = self.last_nexus.wrapping_add(1);
        self.last_nexus
    }

    /// Returns whether an I_T nexus has had this number.
    pub(crate) fn has_had_nexus(&self, nexus: u64) -> bool {
        (1..=self.last_nexus).contains(&nexus)
    }

    /// Ends what does not outlive a reset of the logical unit.
    pub(crate) fn reset(&mut self) {
        self.reservations.reset();
    }

    /// Ends what does not outlive an I_T nexus.
    pub fn lose_nexus(&mut self, nexus: u64) {
        self.reservations.lose_nexus(nexus);
    }
}
