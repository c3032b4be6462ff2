//! What all I_T nexuses of a logical unit share beside its settings.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::copies::Copies;
use crate::reservation::Reservations;

/// What the I_T nexuses of a logical unit share; all bytes are zero at first. An engine keeps it, and
/// lends it to one command at a time ([`Nexuses`](crate::host::Nexuses)).
#[repr(C)]
#[derive(Clone, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Shared {
    /// The number that the last new I_T nexus got.
    last_nexus: u64,
    /// The reservations.
    pub reservations: Reservations,
    /// The copies whose status can be received.
    pub(crate) copies: Copies,
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

    /// Returns an I_T nexus whose end lets others go on.
    pub fn blocking_nexus(&self) -> Option<u64> {
        self.reservations.reserved_by()
    }

    /// Ends what does not outlive an I_T nexus.
    pub fn lose_nexus(&mut self, nexus: u64) {
        self.reservations.lose_nexus(nexus);
        self.copies.lose_nexus(nexus);
    }
}
