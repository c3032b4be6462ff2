//! A sanitize operation (SBC-3, 4.11) or format operation (SBC-3, 4.30) of a logical unit.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sanitize operation. `is_restricted`: after a failure, only another one that succeeds ends it
    /// (AUSE is 0).
    Sanitize {
        /// It is in the restricted completion mode.
        is_restricted: bool,
    },
    /// A format operation.
    Format,
}

/// The state of the last operation, while it matters to other commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is in progress; how much of it is done, in parts of 65,536.
    InProgress(u16),
    /// It has failed.
    Failed,
}

/// The last operation; all bytes are zero at first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Operation {
    /// The number of the I_T nexus that requested it.
    nexus: u64,
    /// [`Kind`] as a code; 0: there is none, or it has succeeded.
    kind: u32,
    /// How much of it is done, or [`FAILED`].
    progress: u32,
}

const SANITIZE: u32 = 1;
const RESTRICTED_SANITIZE: u32 = 2;
const FORMAT: u32 = 3;
const FAILED: u32 = u32::MAX;

impl Operation {
    /// Returns the operation that is in progress or has failed.
    pub fn current(&self) -> Option<(Kind, State)> {
        let kind = match self.kind {
            SANITIZE => Kind::Sanitize { is_restricted: false },
            RESTRICTED_SANITIZE => Kind::Sanitize { is_restricted: true },
            FORMAT => Kind::Format,
            _ => return None,
        };
        Some((kind, u16::try_from(self.progress).map_or(State::Failed, State::InProgress)))
    }

    /// Returns the nexus that requested it, while it is in progress.
    pub fn nexus(&self) -> Option<u64> {
        self.is_in_progress().then_some(self.nexus)
    }

    /// Begins one, and returns the one before, which is not in progress.
    pub fn begin(&mut self, nexus: u64, kind: Kind) -> Operation {
        let kind = match kind {
            Kind::Sanitize { is_restricted: false } => SANITIZE,
            Kind::Sanitize { is_restricted: true } => RESTRICTED_SANITIZE,
            Kind::Format => FORMAT,
        };
        core::mem::replace(self, Operation { nexus, kind, progress: 0 })
    }

    /// Returns whether the operation that a nexus requested is in progress, and sets how much is done.
    pub fn advance(&mut self, nexus: u64, progress: u16) -> bool {
        let is_own = self.is_in_progress() && self.nexus == nexus;
        if is_own {
            self.progress = progress.into();
        }
        is_own
    }

    /// Makes the operation that a nexus requested fail, if it is in progress.
    pub fn fail(&mut self, nexus: u64) {
        if self.is_in_progress() && self.nexus == nexus {
            self.progress = FAILED;
        }
    }

    /// Ends the operation that a nexus requested, if it is in progress; the last one is `last` from then on.
    pub fn end(&mut self, nexus: u64, last: Operation) {
        if self.is_in_progress() && self.nexus == nexus {
            *self = last;
        }
    }

    /// Ends what a failed sanitize operation means to other commands.
    pub fn exit_failure_mode(&mut self) {
        if matches!(self.current(), Some((Kind::Sanitize { .. }, State::Failed))) {
            *self = Operation::default();
        }
    }

    fn is_in_progress(&self) -> bool {
        matches!(self.current(), Some((_, State::InProgress(_))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nexus_that_was_lost_does_not_end_what_another_has_begun() {
        let mut operation = Operation::default();
        operation.begin(1, Kind::Format);
        operation.fail(1);
        operation.begin(2, Kind::Format);
        operation.end(1, Operation::default());
        assert_eq!(operation.current(), Some((Kind::Format, State::InProgress(0))));
        operation.end(2, Operation::default());
        assert_eq!(operation.current(), None);
    }
}
