//! Commands on logical blocks (SBC-3, clause 5).

use super::inquiry::{MAX_COMPARE_AND_WRITE, MAX_UNMAP_BLOCKS, MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME};
use super::response::Response;
use super::sense::Sense;
use super::task::{Done, Outcome, Task, failed, lost, unsettled};
use crate::errno::Errno;
use crate::host::{Extent, Host, Segment, UpdateError};
use crate::medium::{LONGEST, Range, atomic_blocks, is_thin, longest_transfer};
use crate::settings::WCE;
use crate::transfer::AT_ONCE;

/// The most bytes that are worked on at once where data cannot go straight between device and caller.
const PIECE: u64 = 256 * 1024;

impl<H: Host> Task<'_, H> {
    /// The LBA that the CDB names.
    fn lba(&self) -> u64 {
        self.row.lba(&self.cdb).unwrap_or(0)
    }

    /// The blocks that the CDB names, which must exist.
    pub(super) fn range(&self) -> Result<Range, Outcome> {
        self.within(self.lba(), self.row.blocks(&self.cdb).unwrap_or(0))
    }

    /// The blocks that the CDB names, where all of their data goes between device and caller: no more than one command moves
    /// (MAXIMUM TRANSFER LENGTH of the block limits), and no more than the caller has room, or data, for.
    fn moved(&self) -> Result<Range, Outcome> {
        let range = self.range()?;
        if range.bytes() > LONGEST && range.bytes() > longest_transfer(self.host).map_err(lost)? {
            return Err(self.too_many());
        }
        self.expect(range.bytes())?;
        Ok(range)
    }

    /// INVALID FIELD IN CDB that names the transfer length.
    fn too_many(&self) -> Outcome {
        Sense::cdb(self.row.transfer_length.map_or(0, |field| field.at.into()), Some(7)).into()
    }

    fn within(&self, first: u64, blocks: u64) -> Result<Range, Outcome> {
        let capacity = self.capacity;
        match first.checked_add(blocks) {
            Some(end) if end <= capacity.blocks => Ok(Range { first, blocks, capacity }),
            _ => Err(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE.into()),
        }
    }

    /// There is nothing to be moved, but the block must exist.
    pub(super) fn seek(&self) -> Done {
        self.within(self.lba(), 1).map(drop)
    }

    /// FUA of the CDB: the data must be on the medium, not in a cache.
    fn fua(&self) -> bool {
        self.byte(0) >= 0x20 && self.byte(1) & 0x08 != 0
    }

    /// Whether what is written must be on the medium when the command ends.
    fn is_durable(&self, fua: bool) -> bool {
        fua || !self.device.state.switches.is_on(WCE)
    }

    fn check_writable(&self) -> Done {
        if self.is_protected()? { Err(Sense::WRITE_PROTECTED.into()) } else { Ok(()) }
    }

    pub(super) fn read(&mut self) -> Done {
        let range = self.moved()?;
        if self.fua() && range.blocks > 0 {
            self.host.sync().map_err(unsettled)?;
        }
        self.move_blocks(
            range,
            false,
            |task, offset, pieces| task.host.read_at(offset, pieces),
            Task::read_copy,
        )
    }

    pub(super) fn write(&mut self) -> Done {
        self.check_writable()?;
        let range = self.moved()?;
        self.put(range, self.is_durable(self.fua()))
    }

    /// WRITE ATOMIC: all of the blocks are written, or none. Linux can do that for powers of two that start at a multiple of
    /// their own, which is less than the block limits can say.
    pub(super) fn write_atomic(&mut self) -> Done {
        self.check_writable()?;
        let range = self.range()?;
        if range.blocks == 0 {
            return Ok(());
        }
        let (least, most) =
            atomic_blocks(self.device, self.host).ok_or(Sense::INVALID_COMMAND_OPERATION_CODE)?;
        if !range.blocks.is_power_of_two() || range.blocks < least.into() || range.blocks > most.into() {
            return Err(self.too_many());
        }
        if range.first & range.blocks.wrapping_sub(1) != 0 {
            return Err(Sense::cdb(2, Some(7)).into());
        }
        self.expect(range.bytes())?;
        let length = range.bytes() as usize;
        let mut scratch = self.host.scratch(length).map_err(lost)?;
        let data = scratch.as_mut().get_mut(..length).unwrap_or_default();
        self.data.get(self.host, data).map_err(Outcome::CallerFault)?;
        let written = self.host.write_atomic(range.offset(), data, self.is_durable(self.fua()));
        written.map_err(|errno| failed(errno, range.first, true))
    }

    /// Writes the caller's data to the range.
    fn put(&mut self, range: Range, durable: bool) -> Done {
        self.move_blocks(
            range,
            true,
            |task, offset, pieces| task.host.write_at(offset, pieces, durable),
            |task, offset, scratch, length| task.write_copy(offset, scratch, length, durable),
        )
    }

    /// Moves the blocks straight between device and caller, or, where the device does not take the caller's memory
    /// (`O_DIRECT`, and an address or length that is not aligned), through memory of ours.
    fn move_blocks(
        &mut self,
        range: Range,
        writing: bool,
        straight: impl Fn(&Self, u64, &[Segment]) -> Result<u64, Errno>,
        copy: impl Fn(&mut Self, u64, &mut [u8], usize) -> Result<u64, Errno>,
    ) -> Done {
        let mut left = range.bytes();
        let mut offset = range.offset();
        let mut pieces = [Segment::default(); AT_ONCE];
        while left > 0 {
            let count = self.data.next(self.host, left, &mut pieces).map_err(Outcome::CallerFault)?;
            let moved = match straight(self, offset, pieces.get(..count).unwrap_or_default()) {
                Err(Errno::EINTR) => 0,
                Err(Errno::EINVAL) => {
                    let length = left.min(PIECE);
                    let mut scratch = self.host.scratch(length as usize).map_err(lost)?;
                    let moved = copy(self, offset, scratch.as_mut(), length as usize);
                    moved.map_err(|errno| self.fault(errno, range, offset, length, writing))?
                }
                Ok(moved) if moved > 0 => {
                    self.data.advance(self.host, moved).map_err(Outcome::CallerFault)?;
                    moved
                }
                // The device has become shorter.
                Ok(_) => return Err(failed(Errno::EIO, range.block_of(offset), writing)),
                Err(errno) => return Err(failed(errno, range.block_of(offset), writing)),
            };
            offset = offset.saturating_add(moved);
            left = left.saturating_sub(moved);
        }
        Ok(())
    }

    /// What an error in a part of the range means. Which block cannot be read is found by reading them one by one.
    fn fault(&self, errno: Errno, range: Range, offset: u64, length: u64, writing: bool) -> Outcome {
        let block = u64::from(range.capacity.block);
        let first = range.block_of(offset);
        let blocks = length.checked_div(block).unwrap_or(0);
        if writing || blocks < 2 || !matches!(failed(errno, 0, false), Outcome::CheckCondition(_)) {
            return failed(errno, first, writing);
        }
        let Ok(mut scratch) = self.host.scratch(block as usize) else { return Outcome::Busy };
        let scratch = scratch.as_mut().get_mut(..block as usize).unwrap_or_default();
        let bad = (first..first.saturating_add(blocks))
            .find(|bad| self.host.read(bad.saturating_mul(block), scratch).is_err());
        failed(errno, bad.unwrap_or(first), writing)
    }

    fn read_copy(&mut self, offset: u64, scratch: &mut [u8], length: usize) -> Result<u64, Errno> {
        let part = scratch.get_mut(..length).unwrap_or_default();
        self.host.read(offset, part)?;
        self.data.put(self.host, part)?;
        Ok(length as u64)
    }

    fn write_copy(
        &mut self,
        offset: u64,
        scratch: &mut [u8],
        length: usize,
        durable: bool,
    ) -> Result<u64, Errno> {
        let part = scratch.get_mut(..length).unwrap_or_default();
        self.data.get(self.host, part)?;
        self.host.write(offset, part, durable)?;
        Ok(length as u64)
    }

    /// Works on the range piece by piece: what is on the medium, and room for as much of the caller's data.
    fn each_piece(
        &mut self,
        range: Range,
        mut work: impl FnMut(&mut Self, u64, &mut [u8], &mut [u8]) -> Done,
    ) -> Done {
        let whole = range.bytes();
        let most = whole.min(PIECE);
        let memory = |length: u64| self.host.scratch(length as usize).map_err(lost);
        let (mut medium, mut other) = (memory(most)?, memory(most)?);
        let mut done = 0u64;
        while done < whole {
            let length = (whole - done).min(most) as usize;
            let offset = range.offset().saturating_add(done);
            let medium = medium.as_mut().get_mut(..length).unwrap_or_default();
            let other = other.as_mut().get_mut(..length).unwrap_or_default();
            let read = self.host.read(offset, medium);
            read.map_err(|errno| self.fault(errno, range, offset, length as u64, false))?;
            work(self, offset, medium, other)?;
            done = done.saturating_add(length as u64);
        }
        Ok(())
    }

    pub(super) fn write_and_verify(&mut self) -> Done {
        let compare = self.byte(1) >> 1 & 3;
        if compare > 1 {
            return Err(Sense::cdb(1, Some(2)).into());
        }
        self.check_writable()?;
        let range = self.moved()?;
        let from = self.data;
        self.put(range, true)?;
        let after = core::mem::replace(&mut self.data, from);
        let verified = self.verify_against(range, compare);
        self.data = after;
        verified
    }

    pub(super) fn verify(&mut self) -> Done {
        let compare = self.byte(1) >> 1 & 3;
        if compare == 2 {
            return Err(Sense::cdb(1, Some(2)).into());
        }
        let range = self.range()?;
        let out = match compare {
            0 => 0,
            1 => range.bytes(),
            _ => range.bytes().min(range.capacity.block.into()),
        };
        self.expect(out)?;
        self.verify_against(range, compare)
    }

    /// Reads the medium; compares it with the caller's data (1), or with one block of it again and again (3).
    fn verify_against(&mut self, range: Range, compare: u8) -> Done {
        let block = range.capacity.block as usize;
        let mut same = self.host.scratch(if compare == 3 { block } else { 0 }).map_err(lost)?;
        if compare == 3 && range.blocks > 0 {
            self.data.get(self.host, same.as_mut()).map_err(Outcome::CallerFault)?;
        }
        self.each_piece(range, |task, offset, medium, other| {
            match compare {
                0 => return Ok(()),
                1 => {
                    task.data.get(task.host, other).map_err(Outcome::CallerFault)?;
                }
                _ => other.chunks_mut(block.max(1)).for_each(|part| {
                    part.iter_mut().zip(same.as_mut().iter()).for_each(|(to, from)| *to = *from);
                }),
            }
            match medium.iter().zip(other.iter()).position(|(on, from)| on != from) {
                None => Ok(()),
                Some(place) => {
                    let block = range.block_of(offset.saturating_add(place as u64));
                    Err(Sense::MISCOMPARE_DURING_VERIFY_OPERATION.at(block).into())
                }
            }
        })
    }

    pub(super) fn synchronize_cache(&mut self) -> Done {
        self.range()?;
        // There is nothing to write where nothing can be written.
        if self.is_protected()? { Ok(()) } else { self.host.sync().map_err(unsettled) }
    }

    pub(super) fn write_same(&mut self) -> Done {
        let (unmap, anchor) = (self.byte(1) & 0x08 != 0, self.byte(1) & 0x10 != 0);
        // NDOB, which WRITE SAME(16) alone has: there is no data, the blocks become zeros.
        let no_data = self.byte(1) & 0x01 != 0;
        let thin = is_thin(self.host);
        if anchor {
            return Err(Sense::cdb(1, Some(4)).into());
        }
        if unmap && !thin {
            return Err(Sense::cdb(1, Some(3)).into());
        }
        self.check_writable()?;
        let mut range = self.range()?;
        if range.blocks == 0 {
            // To the end.
            range.blocks = range.capacity.blocks.saturating_sub(range.first);
        }
        if range.blocks > MAX_WRITE_SAME {
            return Err(self.too_many());
        }
        let block = range.capacity.block as usize;
        if !no_data {
            self.expect(1)?;
            // A pattern of any other length is none.
            if self.data.residual() != block as u64 {
                return Err(Sense::INVALID_FIELD_IN_CDB.into());
            }
        }
        let fault = |errno| failed(errno, range.first, true);
        let mut pattern = self.host.scratch(block).map_err(lost)?;
        let pattern = pattern.as_mut();
        if !no_data {
            self.data
                .get(self.host, pattern.get_mut(..block).unwrap_or_default())
                .map_err(Outcome::CallerFault)?;
        }
        let (offset, bytes) = (range.offset(), range.bytes());
        if bytes == 0 {
            return Ok(());
        }
        // What is unmapped reads as zeros afterwards (LBPRZ), so that any other pattern is written (SBC-3, 4.7.3.4.4 b).
        if pattern.iter().all(|&byte| byte == 0) {
            let made = if unmap { self.host.discard(offset, bytes) } else { self.host.zero(offset, bytes) };
            made.map_err(fault)?;
            return self.settle();
        }
        let length = bytes.min(PIECE) as usize;
        let mut scratch = self.host.scratch(length).map_err(lost)?;
        let scratch = scratch.as_mut();
        for part in scratch.chunks_mut(block.max(1)) {
            part.iter_mut().zip(pattern.iter()).for_each(|(to, from)| *to = *from);
        }
        let mut done = 0u64;
        while done < bytes {
            let length = (bytes - done).min(length as u64) as usize;
            let at = offset.saturating_add(done);
            let part = scratch.get(..length).unwrap_or_default();
            self.host.write(at, part, false).map_err(|errno| failed(errno, range.block_of(at), true))?;
            done = done.saturating_add(length as u64);
        }
        self.settle()
    }

    /// Without a write cache, what was written is on the medium when the command ends.
    fn settle(&self) -> Done {
        if self.is_durable(false) { self.host.sync().map_err(unsettled) } else { Ok(()) }
    }

    pub(super) fn unmap(&mut self) -> Done {
        if self.byte(1) & 0x01 != 0 {
            return Err(Sense::cdb(1, Some(0)).into());
        }
        let length = self.list_length();
        if length == 0 {
            return Ok(());
        }
        if length < 8 {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR.into());
        }
        self.check_writable()?;
        self.expect(length as u64)?;
        let mut header = [0; 8];
        self.data.get(self.host, &mut header).map_err(Outcome::CallerFault)?;
        let descriptors = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let count = descriptors.min(length - 8) / 16;
        if count as u64 > u64::from(MAX_UNMAP_DESCRIPTORS) {
            return Err(Sense::list(2, Some(7)).into());
        }
        let descriptors = self.data;
        // All of them are looked at before any is carried out.
        let mut blocks = 0u64;
        for place in 0..count {
            let range = self.next_descriptor()?;
            blocks = blocks.saturating_add(range.blocks);
            if blocks > MAX_UNMAP_BLOCKS.into() {
                return Err(Sense::list((8 + 16 * place + 8) as u16, Some(7)).into());
            }
        }
        let after = core::mem::replace(&mut self.data, descriptors);
        let unmapped = (0..count).try_for_each(|_| {
            let range = self.next_descriptor()?;
            if range.blocks == 0 {
                return Ok(());
            }
            let discarded = self.host.discard(range.offset(), range.bytes());
            discarded.map_err(|errno| failed(errno, range.first, true))
        });
        self.data = after;
        self.data.advance(self.host, self.data.residual()).map_err(Outcome::CallerFault)?;
        unmapped
    }

    fn next_descriptor(&mut self) -> Result<Range, Outcome> {
        let mut bytes = [0; 16];
        self.data.get(self.host, &mut bytes).map_err(Outcome::CallerFault)?;
        let first = bytes.first_chunk().map_or(0, |part| u64::from_be_bytes(*part));
        let blocks =
            bytes.get(8..).and_then(|rest| rest.first_chunk()).map_or(0, |part| u32::from_be_bytes(*part));
        self.within(first, blocks.into())
    }

    /// COMPARE AND WRITE: the caller's first blocks are compared, its last ones written; nobody else does the like
    /// meanwhile.
    pub(super) fn compare_and_write(&mut self) -> Done {
        self.check_writable()?;
        let range = self.range()?;
        if range.blocks > MAX_COMPARE_AND_WRITE.into() {
            return Err(self.too_many());
        }
        if range.blocks == 0 {
            return Ok(());
        }
        let length = range.bytes() as usize;
        self.expect(range.bytes().saturating_mul(2))?;
        let memory = || self.host.scratch(length).map_err(lost);
        let (mut expected, mut written, mut medium) = (memory()?, memory()?, memory()?);
        let parts = [&mut expected, &mut written];
        for part in parts {
            let part = part.as_mut().get_mut(..length).unwrap_or_default();
            self.data.get(self.host, part).map_err(Outcome::CallerFault)?;
        }
        let medium = medium.as_mut().get_mut(..length).unwrap_or_default();
        let (expected, written) = (expected.as_mut(), written.as_mut());
        let mut miscompare = None;
        self.update(range, medium, |medium| {
            miscompare = medium.iter().zip(expected.iter()).position(|(on, from)| on != from);
            medium.iter_mut().zip(written.iter()).for_each(|(on, from)| *on = *from);
            miscompare.is_none()
        })?;
        match miscompare {
            Some(place) => Err(Sense::MISCOMPARE_DURING_VERIFY_OPERATION.at(place as u64).into()),
            None => Ok(()),
        }
    }

    pub(super) fn or_write(&mut self) -> Done {
        self.check_writable()?;
        let range = self.moved()?;
        let length = range.bytes() as usize;
        if length == 0 {
            return Ok(());
        }
        let memory = || self.host.scratch(length).map_err(lost);
        let (mut data, mut medium) = (memory()?, memory()?);
        let data = data.as_mut().get_mut(..length).unwrap_or_default();
        self.data.get(self.host, data).map_err(Outcome::CallerFault)?;
        let medium = medium.as_mut().get_mut(..length).unwrap_or_default();
        self.update(range, medium, |medium| {
            medium.iter_mut().zip(data.iter()).for_each(|(on, from)| *on |= from);
            true
        })
    }

    /// Changes the range as one step: no other COMPARE AND WRITE or ORWRITE comes in between.
    fn update(&self, range: Range, medium: &mut [u8], change: impl FnMut(&mut [u8]) -> bool) -> Done {
        let (durable, patience) = (self.is_durable(self.fua()), self.patience());
        let updated = self.host.update(range.offset(), medium, durable, patience, change);
        updated.map_err(|error| match error {
            UpdateError::Exclude(errno) => lost(errno),
            UpdateError::Read(errno) => self.fault(errno, range, range.offset(), range.bytes(), false),
            UpdateError::Write(errno) => failed(errno, range.first, true),
        })
    }

    /// How long the command waits for others that exclude it, in milliseconds: its own timeout, and no longer than a
    /// command should take.
    fn patience(&self) -> u32 {
        const MOST: u32 = 30_000;
        if self.timeout == 0 { MOST } else { self.timeout.min(MOST) }
    }

    /// As many extents as the caller has room for, at most 16.
    pub(super) fn get_lba_status(&mut self) -> Done {
        let first = self.lba();
        let capacity = self.capacity;
        if first >= capacity.blocks {
            return Err(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE.into());
        }
        let room = (self.allocation_length().saturating_sub(8) / 16).clamp(1, 16);
        let mut out = Response::new();
        out.put(&[0; 8]);
        let mut at = first;
        let block = u64::from(capacity.block);
        for _ in 0..room {
            let offset = at.saturating_mul(block);
            let Extent { is_mapped, length } = self.host.extent(offset).map_err(lost)?;
            let left = capacity.blocks.saturating_sub(at).min(u32::MAX.into());
            // A part of a block that is mapped makes it mapped.
            let whole = length.checked_div(block).unwrap_or(0);
            let part = is_mapped && length.saturating_sub(whole.saturating_mul(block)) > 0;
            let (mapped, blocks) = match whole.saturating_add(part.into()) {
                0 => (true, 1),
                blocks => (is_mapped, blocks.min(left)),
            };
            out.put(&at.to_be_bytes());
            out.put(&u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes());
            // Provisioning status: mapped or deallocated.
            out.put(&[if mapped { 0 } else { 1 }, 0, 0, 0]);
            at = at.saturating_add(blocks);
            if at >= capacity.blocks {
                break;
            }
        }
        let length = out.len().saturating_sub(4) as u32;
        out.set(0, &length.to_be_bytes());
        self.give(&out)
    }
}
