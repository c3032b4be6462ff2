//! What all I_T nexuses of a logical unit share beside its settings.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::bytes::copy;
use crate::copies::Copies;
use crate::operation::Operation;
use crate::reservation::Reservations;

/// The size of the echo buffer (SPC-4, 6.18.7).
pub(crate) const ECHO_BUFFER: usize = 256;

/// What the I_T nexuses of a logical unit share; all bytes are zero at first. An engine keeps it, and
/// lends it to one command at a time ([`Nexuses`](crate::host::Nexuses)).
#[repr(C)]
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Shared {
    /// The number that the last new I_T nexus got.
    last_nexus: u64,
    /// The reservations.
    pub reservations: Reservations,
    /// The copies whose status can be received.
    pub(crate) copies: Copies,
    /// The last sanitize or format operation.
    pub(crate) operation: Operation,
    /// The number of the I_T nexus that wrote the echo buffer.
    echo_nexus: u64,
    echo_length: u64,
    echo_buffer: [u8; ECHO_BUFFER],
}

impl Default for Shared {
    fn default() -> Shared {
        Shared::new_zeroed()
    }
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
        self.reservations.reserved_by().or(self.operation.nexus())
    }

    /// Ends what does not outlive a reset of the logical unit.
    pub(crate) fn reset(&mut self) {
        self.reservations.reset();
    }

    /// Ends what does not outlive an I_T nexus.
    pub fn lose_nexus(&mut self, nexus: u64) {
        self.reservations.lose_nexus(nexus);
        self.copies.lose_nexus(nexus);
        self.operation.fail(nexus);
    }

    /// Returns the echo buffer's data if this nexus wrote it.
    pub(crate) fn echo_buffer(&self, nexus: u64) -> Option<&[u8]> {
        let data = self.echo_buffer.get(..self.echo_length as usize)?;
        (self.echo_nexus == nexus).then_some(data)
    }

    /// Writes the echo buffer.
    pub(crate) fn set_echo_buffer(&mut self, nexus: u64, data: &[u8]) {
        copy(&mut self.echo_buffer, 0, data);
        self.echo_nexus = nexus;
        self.echo_length = data.len() as u64;
    }
}
