//! EXTENDED COPY(LID1), and the commands that report about it (SPC-4, 5.16, 6.4, 6.26 and 6.27): the disk is
//! the copy manager for the listed devices.

use super::command::{Operation, has_reservations};
use super::inquiry::{
    BLOCKS, BLOCKS_WITH_OFFSETS, COPY_DESCRIPTORS, IDENTIFICATION, MAX_COPIES, MAX_COPY_DESCRIPTORS,
    MAX_CSCDS, MAX_SEGMENT_BYTES, MAX_SEGMENTS, SEGMENT_GRANULARITY,
};
use super::response::Response;
use super::sanitize::check_medium;
use super::sense::{Sense, Specific};
use super::task::{CommandResult, Outcome, Task, unreachable};
use crate::bytes::part;
use crate::copies::Copied;
use crate::device::{Capacity, Device};
use crate::host::Host;
use crate::identity;
use crate::medium::io::{self, Error};
use crate::medium::{BlockRange, is_durable, is_protected, read_capacity};
use crate::reservation::Tolerates;
use crate::shared::Shared;

/// The length of the header of the parameter list, and of an identification descriptor.
const HEADER: usize = 16;
const CSCD: usize = 32;

/// The lengths of segment descriptors without their first four bytes.
const BLOCKS_LENGTH: u16 = 24;
const BLOCKS_WITH_OFFSETS_LENGTH: u16 = 28;

/// LIST ID USAGE: the status is held; reserved; there is no list identifier.
const HOLD: u8 = 0;
const RESERVED: u8 = 1;
const DISABLE: u8 = 3;

/// Segment descriptors, byte 1: DC, and CAT, which says nothing where all segments are exact.
const DC: u8 = 0x02;
const CAT: u8 = 0x01;

/// CODE SET; ASSOCIATION and DESIGNATOR TYPE: a NAA designator of the logical unit.
const BINARY: u8 = 0x01;
const NAA: u8 = 0x03;

/// A parameter list whose lengths and types have been checked.
struct List<'a> {
    identifier: u8,
    usage: u8,
    cscds: &'a [u8],
    segments: &'a [u8],
}

/// A descriptor of a copy source or copy destination (CSCD).
struct Cscd<'a> {
    bytes: &'a [u8],
    /// Where it is in the parameter list.
    at: u16,
}

/// A segment descriptor.
struct Segment {
    /// Where it is in the parameter list.
    at: u16,
    source: u16,
    destination: u16,
    source_lba: u64,
    destination_lba: u64,
    length: Length,
    offsets: [u16; 2],
}

/// How much a segment descriptor copies.
enum Length {
    SourceBlocks(u16),
    DestinationBlocks(u16),
    Bytes(u32),
}

impl<'a> List<'a> {
    fn parse(list: &'a [u8]) -> Result<List<'a>, Sense> {
        if list.len() < HEADER {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        let [identifier, flags] = part(list, 0);
        let usage = flags >> 3 & 3;
        let cscds = usize::from(u16::from_be_bytes(part(list, 2)));
        let segments = u32::from_be_bytes(part(list, 8));
        let inline = u32::from_be_bytes(part(list, 12));
        if segments.saturating_add(cscds as u32) > MAX_COPY_DESCRIPTORS {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        if usage == RESERVED {
            return Err(Sense::invalid_field_in_parameter_list(1, Some(4)));
        }
        if usage == DISABLE && identifier != 0 {
            return Err(Sense::invalid_field_in_parameter_list(0, Some(7)));
        }
        if cscds % CSCD != 0 {
            return Err(Sense::invalid_field_in_parameter_list(2, Some(7)));
        }
        if inline > 0 {
            return Err(Sense::INLINE_DATA_LENGTH_EXCEEDED);
        }
        if cscds / CSCD > MAX_CSCDS.into() {
            return Err(Sense::TOO_MANY_TARGET_DESCRIPTORS);
        }
        let descriptors = list.get(HEADER..).unwrap_or_default();
        let (cscds, rest) = descriptors.split_at_checked(cscds).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        let segments = rest.get(..segments as usize).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        let list = List { identifier, usage, cscds, segments };
        list.check()?;
        Ok(list)
    }

    /// Checks all descriptors as far as that can be done before the first is processed.
    fn check(&self) -> Result<(), Sense> {
        for number in 0..MAX_CSCDS {
            let Some(Cscd { bytes, at }) = self.cscd(number) else { break };
            if bytes.first() != Some(&IDENTIFICATION) {
                return Err(Sense::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE.at(at));
            }
        }
        for (number, segment) in self.segments().enumerate() {
            if number >= MAX_SEGMENTS.into() {
                return Err(Sense::TOO_MANY_SEGMENT_DESCRIPTORS);
            }
            segment?;
        }
        Ok(())
    }

    /// Returns the CSCD descriptor with an ID.
    fn cscd(&self, id: u16) -> Option<Cscd<'a>> {
        let start = usize::from(id).checked_mul(CSCD)?;
        let bytes = self.cscds.get(start..start.checked_add(CSCD)?)?;
        Some(Cscd { bytes, at: (HEADER + start) as u16 })
    }

    fn segments(&self) -> impl Iterator<Item = Result<Segment, Sense>> + use<'a> {
        let mut rest = self.segments;
        let mut at = HEADER + self.cscds.len();
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let length = usize::from(u16::from_be_bytes(part(rest, 2))).saturating_add(4);
            let segment = match rest.split_at_checked(length) {
                Some((bytes, others)) => {
                    rest = others;
                    Segment::parse(bytes, at as u16)
                }
                None => {
                    let cut = core::mem::take(&mut rest);
                    // What is cut off is not looked at, but for its type.
                    Segment::length_of(cut, at as u16).and(Err(Sense::PARAMETER_LIST_LENGTH_ERROR))
                }
            };
            at = at.saturating_add(length);
            Some(segment)
        })
    }
}

impl Segment {
    /// Returns the length of a segment descriptor, by its type.
    fn length_of(bytes: &[u8], at: u16) -> Result<u16, Sense> {
        match bytes.first() {
            Some(&BLOCKS) => Ok(BLOCKS_LENGTH),
            Some(&BLOCKS_WITH_OFFSETS) => Ok(BLOCKS_WITH_OFFSETS_LENGTH),
            _ => Err(Sense::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE.at(at)),
        }
    }

    fn parse(bytes: &[u8], at: u16) -> Result<Segment, Sense> {
        let half = |place: usize| u16::from_be_bytes(part(bytes, place));
        let length = Segment::length_of(bytes, at)?;
        if half(2) != length {
            return Err(Sense::invalid_field_in_parameter_list(at.saturating_add(2), Some(7)));
        }
        let [kind, flags] = part(bytes, 0);
        let has_offsets = kind == BLOCKS_WITH_OFFSETS;
        if flags & !(if has_offsets { CAT } else { DC | CAT }) != 0 {
            return Err(Sense::invalid_field_in_parameter_list(at.saturating_add(1), None));
        }
        let length = match (has_offsets, flags & DC) {
            (true, _) => Length::Bytes(u32::from_be_bytes(part(bytes, 8))),
            (false, 0) => Length::SourceBlocks(half(10)),
            (false, _) => Length::DestinationBlocks(half(10)),
        };
        Ok(Segment {
            at,
            source: half(4),
            destination: half(6),
            source_lba: u64::from_be_bytes(part(bytes, 12)),
            destination_lba: u64::from_be_bytes(part(bytes, 20)),
            length,
            // Zeros, if it has none.
            offsets: [half(28), half(30)],
        })
    }

    /// Returns how many bytes are copied between disks with logical blocks of these sizes: whole blocks of
    /// both.
    fn bytes(&self, source_block: u32, destination_block: u32) -> Result<u64, Sense> {
        let (bytes, field) = match self.length {
            Length::SourceBlocks(blocks) => (u64::from(blocks) * u64::from(source_block), 10),
            Length::DestinationBlocks(blocks) => (u64::from(blocks) * u64::from(destination_block), 10),
            Length::Bytes(bytes) => (bytes.into(), 8),
        };
        if bytes > MAX_SEGMENT_BYTES.into() {
            return Err(self.wrong(field));
        }
        let is_exact = |block: u32| bytes & u64::from(block).wrapping_sub(1) == 0;
        if self.offsets != [0; 2] || !is_exact(source_block) || !is_exact(destination_block) {
            return Err(Sense::UNEXPECTED_INEXACT_SEGMENT);
        }
        Ok(bytes)
    }

    /// Returns COPY ABORTED because of a field of the descriptor.
    fn wrong(&self, field: u16) -> Sense {
        Sense::COPY_ABORTED.at(self.at.saturating_add(field))
    }

    /// Returns the blocks of a disk that begin at an LBA, which is in a field of the descriptor.
    fn range(&self, capacity: Capacity, lba: u64, bytes: u64, field: u16) -> Result<BlockRange, Sense> {
        let blocks = bytes.checked_div(capacity.block_size.into()).unwrap_or(0);
        BlockRange::new(capacity, lba, blocks).ok_or(self.wrong(field))
    }
}

impl Cscd<'_> {
    /// Returns the designator; others than those of the disk designate nothing.
    fn designator(&self) -> Option<u64> {
        let [code_set, designator_type, _, length] = part(self.bytes, 4);
        let is_ours = (code_set & 0x0f, designator_type & 0x3f, length) == (BINARY, NAA, 8);
        is_ours.then(|| u64::from_be_bytes(part(self.bytes, 8)))
    }

    /// Returns the capacity of the disk that it designates, unless it cannot be used as it is described. The
    /// relative initiator port and, of SPC-3, the LU ID TYPE and NUL do not matter.
    fn capacity<H: Host>(
        &self,
        device: &Device<'_>,
        host: &H,
        tolerates: Tolerates,
    ) -> Result<Capacity, Outcome> {
        let [_, device_type] = part(self.bytes, 0);
        if device_type & 0x1f != 0 {
            return Err(Sense::INCORRECT_COPY_TARGET_DEVICE_TYPE.at(self.at.saturating_add(1)).into());
        }
        let nexus = device.nexus.number;
        if has_reservations(device, host) {
            let check = |shared: &Shared| -> CommandResult {
                shared.reservations.check_no_conflict(nexus, tolerates)?;
                check_medium(&shared.operation)
            };
            host.look(check).map_err(unreachable)??;
        }
        let capacity = read_capacity(device, host, false).map_err(Error::backing)?;
        let [_, high, middle, low] = part(self.bytes, 28);
        if u32::from_be_bytes([0, high, middle, low]) != capacity.block_size {
            return Err(Sense::COPY_ABORTED.at(self.at.saturating_add(29)).into());
        }
        Ok(capacity)
    }
}

/// Returns the outcome of a copy whose segment descriptor with this number could not be processed. The additional
/// sense code is that of the disk that is to blame.
fn aborted(outcome: Outcome, number: usize) -> Outcome {
    let sense = match outcome {
        Outcome::CheckCondition(sense) => sense,
        Outcome::ReservationConflict => Sense::THIRD_PARTY_DEVICE_FAILURE,
        Outcome::NoConnect => Sense::COPY_TARGET_DEVICE_NOT_REACHABLE,
        _ => return outcome,
    };
    let key = Sense::COPY_ABORTED.key;
    let specific = sense.specific.filter(|specific| matches!(specific, Specific::Field { .. }));
    Sense { key, information: Some(number as u64), specific, ..sense }.into()
}

impl<H: Host> Task<'_, H> {
    #[inline(never)]
    pub(super) fn copy_command(&mut self) -> CommandResult {
        match self.row.operation {
            Operation::ExtendedCopy => self.extended_copy(),
            Operation::ReceiveCopyStatus => self.receive_copy_status(),
            _ => self.receive_copy_parameters(),
        }
    }

    fn extended_copy(&mut self) -> CommandResult {
        if self.parameter_list_length() == 0 {
            return Ok(());
        }
        let mut list = [0; HEADER + MAX_COPY_DESCRIPTORS as usize];
        let list = List::parse(self.receive_parameter_list(&mut list)?)?;
        let (nexus, identifier) = (self.device.nexus.number, list.identifier);
        if list.usage != DISABLE {
            let discard = self.host.change(|shared| shared.copies.discard(nexus, identifier));
            discard.map_err(unreachable)?;
        }
        let mut copied = Copied { nexus, list: identifier.into(), segments: 0, bytes: 0 };
        for (number, segment) in list.segments().enumerate() {
            copied.bytes = self.copy_segment(&list, &segment?).map_err(|outcome| aborted(outcome, number))?;
            copied.segments = copied.segments.saturating_add(1);
        }
        if list.usage == HOLD {
            self.host.change(|shared| shared.copies.hold(copied)).map_err(unreachable)?;
        }
        Ok(())
    }

    /// Processes a segment descriptor, and returns how many bytes were written.
    fn copy_segment(&self, list: &List<'_>, segment: &Segment) -> Result<u64, Outcome> {
        let find = |id: u16, field: u16| {
            list.cscd(id).ok_or(Sense::UNREACHABLE_COPY_TARGET.at(segment.at.saturating_add(field)))
        };
        let (source, destination) = (find(segment.source, 4)?, find(segment.destination, 6)?);
        self.with_disk(&source, false, |from_device, from_host| {
            let from = source.capacity(from_device, from_host, Tolerates::WriteExclusive)?;
            self.with_disk(&destination, true, |to_device, to_host| {
                let to = destination.capacity(to_device, to_host, Tolerates::Nothing)?;
                if is_protected(to_device, to_host).map_err(Error::backing)? {
                    return Err(Sense::WRITE_PROTECTED.into());
                }
                let bytes = segment.bytes(from.block_size, to.block_size)?;
                let from = segment.range(from, segment.source_lba, bytes, 12)?;
                let to = segment.range(to, segment.destination_lba, bytes, 20)?;
                if bytes > 0 {
                    io::copy_blocks(from_host, from, to_host, to)?;
                    if is_durable(to_device, false) {
                        io::sync(to_host)?;
                    }
                }
                Ok(bytes)
            })
        })
    }

    /// Calls `act` with the disk that a CSCD descriptor designates, this one or another.
    fn with_disk<R>(
        &self,
        cscd: &Cscd<'_>,
        writing: bool,
        act: impl FnOnce(&Device<'_>, &H) -> Result<R, Outcome>,
    ) -> Result<R, Outcome> {
        let unreachable = Sense::COPY_TARGET_DEVICE_NOT_REACHABLE.at(cscd.at.saturating_add(4));
        let designator = cscd.designator().ok_or(unreachable)?;
        if identity::designator(self.device.entry) == Some(designator) {
            return act(self.device, self.host);
        }
        self.host.with_peer(designator, writing, act).map_err(|errno| match Error::backing(errno) {
            error @ (Error::NoMemory | Error::CallerFault(_)) => Outcome::from(error),
            _ => unreachable.into(),
        })?
    }

    /// Handles RECEIVE COPY STATUS: of a copy that ended with GOOD and whose list identifier no later one of
    /// this I_T nexus has had.
    fn receive_copy_status(&mut self) -> CommandResult {
        let (nexus, identifier) = (self.device.nexus.number, self.byte(2));
        let copied = self.host.look(|shared| shared.copies.find(nexus, identifier)).map_err(unreachable)?;
        let Copied { segments, bytes, .. } = copied.ok_or(Sense::invalid_field_in_cdb(2, Some(7)))?;
        let mut out = Response::new();
        const COMPLETED: u8 = 1;
        out.put(&[0, 0, 0, 8, COMPLETED]);
        out.put(&(segments as u16).to_be_bytes());
        // In bytes.
        out.put(&[0]);
        out.put(&(bytes as u32).to_be_bytes());
        self.send_data_in(&out)
    }

    fn receive_copy_parameters(&mut self) -> CommandResult {
        let mut out = Response::new();
        // SNLID: a copy need not have a list identifier.
        out.put(&[0, 0, 0, 0, 1, 0, 0, 0]);
        [MAX_CSCDS, MAX_SEGMENTS].iter().for_each(|most| out.put(&most.to_be_bytes()));
        // No inline data, no held data, no stream devices.
        let limits = [MAX_COPY_DESCRIPTORS, MAX_SEGMENT_BYTES, 0, 0, 0];
        limits.iter().for_each(|limit| out.put(&limit.to_be_bytes()));
        out.put(&[0, 0]);
        out.put(&u16::from(MAX_COPIES).to_be_bytes());
        out.put(&[MAX_COPIES, SEGMENT_GRANULARITY, 0, 0, 0, 0, 0, COPY_DESCRIPTORS.len() as u8]);
        out.put(&COPY_DESCRIPTORS);
        out.set_length::<4>(0);
        self.send_data_in(&out)
    }
}
