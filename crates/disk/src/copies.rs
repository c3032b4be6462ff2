//! The EXTENDED COPY commands whose status is held for RECEIVE COPY STATUS (SPC-4, 6.4.3 and 6.27).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most statuses that are held, of all I_T nexuses.
const MOST: usize = 16;

/// A copy that has ended without an error; all zeros: a free place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Copied {
    /// The number of the I_T nexus.
    pub nexus: u64,
    /// The LIST IDENTIFIER.
    pub list: u32,
    /// How many segment descriptors were processed.
    pub segments: u32,
    /// How many bytes the last of them wrote.
    pub bytes: u64,
}

impl Copied {
    fn is(&self, nexus: u64, list: u8) -> bool {
        (self.nexus, self.list) == (nexus, list.into())
    }
}

/// The copies, the newest first; all bytes are zero at first.
#[repr(C)]
#[derive(Clone, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Copies([Copied; MOST]);

impl Copies {
    /// Holds the status of a copy; that of the oldest is discarded.
    pub fn hold(&mut self, copied: Copied) {
        self.0.rotate_right(1);
        if let Some(newest) = self.0.first_mut() {
            *newest = copied;
        }
    }

    /// Returns the status of the copy with a LIST IDENTIFIER.
    pub fn find(&self, nexus: u64, list: u8) -> Option<Copied> {
        self.0.iter().copied().find(|copied| nexus != 0 && copied.is(nexus, list))
    }

    /// Discards the status of the copy with a LIST IDENTIFIER.
    pub fn discard(&mut self, nexus: u64, list: u8) {
        self.discard_all(|copied| copied.is(nexus, list));
    }

    /// Discards what belongs to an I_T nexus.
    pub fn lose_nexus(&mut self, nexus: u64) {
        self.discard_all(|copied| copied.nexus == nexus);
    }

    fn discard_all(&mut self, is_discarded: impl Fn(&Copied) -> bool) {
        self.0.iter_mut().filter(|copied| is_discarded(copied)).for_each(|place| *place = Copied::default());
    }
}
