//! Commands on logical blocks (SBC-3, clause 5).

use super::command::Operation;
use super::inquiry::{MAX_COMPARE_AND_WRITE, MAX_UNMAP_BLOCKS, MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME};
use super::response::Response;
use super::sense::Sense;
use super::task::{CommandResult, Outcome, Task};
use crate::bytes::{copy, part};
use crate::host::{Extent, Host};
use crate::medium::io::{self, Compare, Error};
use crate::medium::{BlockRange, LONGEST_TRANSFER, atomic_blocks, is_durable, is_thin, longest_transfer};

impl<H: Host> Task<'_, H> {
    /// Returns the LBA of the CDB; 0 for a CDB without one.
    fn lba(&self) -> u64 {
        self.row.lba(&self.cdb).unwrap_or(0)
    }

    /// Returns the range of the CDB; an error if a block does not exist.
    pub(super) fn range(&self) -> Result<BlockRange, Outcome> {
        self.range_at(self.lba(), self.row.blocks(&self.cdb).unwrap_or(0))
    }

    /// Returns the range of a CDB whose blocks are transferred: at most MAXIMUM TRANSFER LENGTH of
    /// the block limits, and no more than the caller's buffer.
    fn transfer_range(&self) -> Result<BlockRange, Outcome> {
        let range = self.range()?;
        if range.bytes() > LONGEST_TRANSFER
            && range.bytes() > longest_transfer(self.host).map_err(Error::backing)?
        {
            return Err(self.invalid_transfer_length());
        }
        self.check_data_length(range.bytes())?;
        Ok(range)
    }

    /// Returns INVALID FIELD IN CDB with the field pointer of the transfer length.
    fn invalid_transfer_length(&self) -> Outcome {
        Sense::invalid_field_in_cdb(self.row.transfer_length.map_or(0, |field| field.at.into()), Some(7))
            .into()
    }

    fn range_at(&self, lba: u64, blocks: u64) -> Result<BlockRange, Outcome> {
        Ok(BlockRange::new(self.capacity, lba, blocks).ok_or(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)?)
    }

    /// Handles SEEK: the block must exist.
    pub(super) fn seek(&self) -> CommandResult {
        self.range_at(self.lba(), 1).map(drop)
    }

    /// Returns FUA, which CDBs of 6 bytes do not have.
    fn fua(&self) -> bool {
        self.byte(0) >= 0x20 && self.byte(1) & 0x08 != 0
    }

    pub(super) fn check_writable(&self) -> CommandResult {
        if self.is_protected()? { Err(Sense::WRITE_PROTECTED.into()) } else { Ok(()) }
    }

    /// Handles READ and WRITE whose data one system call transfers from or to one segment; false if
    /// that is not possible, if not all was transferred, or if an error must be reported first.
    #[inline]
    pub(super) fn transfer_directly(&mut self) -> Result<bool, Outcome> {
        let writes = self.row.operation == Operation::Write;
        if writes && self.check_writable().is_err() {
            return Ok(false);
        }
        let Ok(range) = self.transfer_range() else { return Ok(false) };
        let fua = self.fua();
        let can = range.blocks > 0 && (writes || !fua);
        let Some(segment) = self.data.sole_segment(range.bytes()).filter(|_| can) else {
            return Ok(false);
        };
        let moved = if writes {
            io::write_directly(self.host, range, segment, is_durable(self.device, fua))
        } else {
            io::read_directly(self.host, range, segment)
        }?;
        if moved == Some(range.bytes()) {
            self.data.advance(self.host, range.bytes()).map_err(Outcome::CallerFault)?;
        }
        Ok(moved == Some(range.bytes()))
    }

    pub(super) fn read(&mut self) -> CommandResult {
        let range = self.transfer_range()?;
        if self.fua() && range.blocks > 0 {
            io::sync(self.host)?;
        }
        Ok(io::read(self.host, range, &mut self.data)?)
    }

    pub(super) fn write(&mut self) -> CommandResult {
        self.check_writable()?;
        let range = self.transfer_range()?;
        let durable = is_durable(self.device, self.fua());
        Ok(io::write(self.host, range, &mut self.data, durable)?)
    }

    /// Handles WRITE ATOMIC. Linux wants a power of two of blocks at a multiple of their number,
    /// which the block limits cannot express.
    pub(super) fn write_atomic(&mut self) -> CommandResult {
        self.check_writable()?;
        let range = self.range()?;
        if range.blocks == 0 {
            return Ok(());
        }
        let (least, most) =
            atomic_blocks(self.device, self.host).ok_or(Sense::INVALID_COMMAND_OPERATION_CODE)?;
        if !range.blocks.is_power_of_two() || range.blocks < least.into() || range.blocks > most.into() {
            return Err(self.invalid_transfer_length());
        }
        if range.lba & range.blocks.wrapping_sub(1) != 0 {
            return Err(Sense::invalid_field_in_cdb(2, Some(7)).into());
        }
        self.check_data_length(range.bytes())?;
        let durable = is_durable(self.device, self.fua());
        Ok(io::write_atomic(self.host, range, &mut self.data, durable)?)
    }

    pub(super) fn write_and_verify(&mut self) -> CommandResult {
        let compare = self.byte(1) >> 1 & 3;
        if compare > 1 {
            return Err(Sense::invalid_field_in_cdb(1, Some(2)).into());
        }
        self.check_writable()?;
        let range = self.transfer_range()?;
        let mut written = self.data;
        io::write(self.host, range, &mut self.data, true)?;
        let compare = if compare == 0 { Compare::Nothing } else { Compare::Data(&mut written) };
        Ok(io::verify(self.host, range, compare)?)
    }

    pub(super) fn verify(&mut self) -> CommandResult {
        let compare = self.byte(1) >> 1 & 3;
        if compare == 2 {
            return Err(Sense::invalid_field_in_cdb(1, Some(2)).into());
        }
        let range = self.range()?;
        let out = match compare {
            0 => 0,
            1 => range.bytes(),
            _ => range.bytes().min(range.block_size.into()),
        };
        self.check_data_length(out)?;
        let compare = match compare {
            0 => Compare::Nothing,
            1 => Compare::Data(&mut self.data),
            _ => Compare::OneBlock(&mut self.data),
        };
        Ok(io::verify(self.host, range, compare)?)
    }

    pub(super) fn synchronize_cache(&mut self) -> CommandResult {
        self.range()?;
        Ok(io::flush(self.device, self.host)?)
    }

    pub(super) fn write_same(&mut self) -> CommandResult {
        let (unmap, anchor) = (self.byte(1) & 0x08 != 0, self.byte(1) & 0x10 != 0);
        // NDOB, which only WRITE SAME(16) has: there is no data, and the blocks become zeros.
        let no_data = self.byte(1) & 0x01 != 0;
        let thin = is_thin(self.host);
        if anchor {
            return Err(Sense::invalid_field_in_cdb(1, Some(4)).into());
        }
        if unmap && !thin {
            return Err(Sense::invalid_field_in_cdb(1, Some(3)).into());
        }
        self.check_writable()?;
        let mut range = self.range()?;
        if range.blocks == 0 {
            // To the end.
            range.blocks = self.capacity.blocks.saturating_sub(range.lba);
        }
        if range.blocks > MAX_WRITE_SAME {
            return Err(self.invalid_transfer_length());
        }
        let block = range.block_size as usize;
        if !no_data {
            self.check_data_length(1)?;
            // The pattern is one block.
            if self.data.residual() != block as u64 {
                return Err(Sense::INVALID_FIELD_IN_CDB.into());
            }
        }
        let mut pattern = self.host.bounce_buffer(block).map_err(Error::backing)?;
        let pattern = pattern.as_mut().get_mut(..block).unwrap_or_default();
        if no_data {
            pattern.fill(0);
        } else {
            self.data.copy_in(self.host, pattern).map_err(Outcome::CallerFault)?;
        }
        if range.blocks == 0 {
            return Ok(());
        }
        // Unmapped blocks read as zeros (LBPRZ), so any other pattern is written (SBC-3, 4.7.3.4.4
        // b).
        match (pattern.iter().all(|&byte| byte == 0), unmap) {
            (true, true) => io::discard(self.host, range)?,
            (true, false) => io::zero(self.host, range)?,
            (false, _) => io::write_same(self.host, range, pattern)?,
        }
        if is_durable(self.device, false) {
            io::sync(self.host)?;
        }
        Ok(())
    }

    pub(super) fn unmap(&mut self) -> CommandResult {
        if self.byte(1) & 0x01 != 0 {
            return Err(Sense::invalid_field_in_cdb(1, Some(0)).into());
        }
        let length = self.parameter_list_length();
        if length == 0 {
            return Ok(());
        }
        if length < 8 {
            return Err(Sense::PARAMETER_LIST_LENGTH_ERROR.into());
        }
        self.check_writable()?;
        self.check_data_length(length as u64)?;
        let mut header = [0; 8];
        self.data.copy_in(self.host, &mut header).map_err(Outcome::CallerFault)?;
        let descriptors = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let count = descriptors.min(length - 8) / 16;
        if count as u64 > u64::from(MAX_UNMAP_DESCRIPTORS) {
            return Err(Sense::invalid_field_in_parameter_list(2, Some(7)).into());
        }
        let descriptors = self.data;
        // All are checked before any is carried out.
        let mut blocks = 0u64;
        for place in 0..count {
            let range = self.next_descriptor()?;
            blocks = blocks.saturating_add(range.blocks);
            if blocks > MAX_UNMAP_BLOCKS.into() {
                return Err(
                    Sense::invalid_field_in_parameter_list((8 + 16 * place + 8) as u16, Some(7)).into()
                );
            }
        }
        let after = core::mem::replace(&mut self.data, descriptors);
        let unmapped = (0..count).try_for_each(|_| {
            let range = self.next_descriptor()?;
            if range.blocks == 0 {
                return Ok(());
            }
            Ok(io::discard(self.host, range)?)
        });
        self.data = after;
        self.data.advance(self.host, self.data.residual()).map_err(Outcome::CallerFault)?;
        unmapped
    }

    fn next_descriptor(&mut self) -> Result<BlockRange, Outcome> {
        let mut bytes = [0; 16];
        self.data.copy_in(self.host, &mut bytes).map_err(Outcome::CallerFault)?;
        let (first, blocks) = (u64::from_be_bytes(part(&bytes, 0)), u32::from_be_bytes(part(&bytes, 8)));
        self.range_at(first, blocks.into())
    }

    /// Handles COMPARE AND WRITE: compares the first half of the data, then writes the second,
    /// atomically with respect to other COMPARE AND WRITE and ORWRITE commands.
    pub(super) fn compare_and_write(&mut self) -> CommandResult {
        self.check_writable()?;
        let range = self.range()?;
        if range.blocks > MAX_COMPARE_AND_WRITE.into() {
            return Err(self.invalid_transfer_length());
        }
        if range.blocks == 0 {
            return Ok(());
        }
        let length = range.bytes() as usize;
        self.check_data_length(range.bytes().saturating_mul(2))?;
        let buffer = || self.host.bounce_buffer(length).map_err(Error::backing);
        let (mut expected, mut written, mut medium) = (buffer()?, buffer()?, buffer()?);
        let parts = [&mut expected, &mut written];
        for part in parts {
            let part = part.as_mut().get_mut(..length).unwrap_or_default();
            self.data.copy_in(self.host, part).map_err(Outcome::CallerFault)?;
        }
        let medium = medium.as_mut().get_mut(..length).unwrap_or_default();
        let (expected, written) = (expected.as_mut(), written.as_mut());
        let mut miscompare = None;
        self.update(range, medium, |medium| {
            miscompare = medium.iter().zip(expected.iter()).position(|(on, from)| on != from);
            copy(medium, 0, written);
            miscompare.is_none()
        })?;
        match miscompare {
            Some(place) => {
                Err(Sense::MISCOMPARE_DURING_VERIFY_OPERATION.with_information(place as u64).into())
            }
            None => Ok(()),
        }
    }

    pub(super) fn or_write(&mut self) -> CommandResult {
        self.check_writable()?;
        let range = self.transfer_range()?;
        let length = range.bytes() as usize;
        if length == 0 {
            return Ok(());
        }
        let buffer = || self.host.bounce_buffer(length).map_err(Error::backing);
        let (mut data, mut medium) = (buffer()?, buffer()?);
        let data = data.as_mut().get_mut(..length).unwrap_or_default();
        self.data.copy_in(self.host, data).map_err(Outcome::CallerFault)?;
        let medium = medium.as_mut().get_mut(..length).unwrap_or_default();
        self.update(range, medium, |medium| {
            medium.iter_mut().zip(data.iter()).for_each(|(on, from)| *on |= from);
            true
        })
    }

    /// Updates the range atomically with respect to other COMPARE AND WRITE and ORWRITE commands.
    fn update(
        &self,
        range: BlockRange,
        medium: &mut [u8],
        change: impl FnMut(&mut [u8]) -> bool,
    ) -> CommandResult {
        let durable = is_durable(self.device, self.fua());
        Ok(io::update(self.host, range, medium, durable, self.timeout_ms(), change)?)
    }

    /// Returns how long the command waits for others that exclude it, in milliseconds: its timeout,
    /// at most 30 seconds.
    fn timeout_ms(&self) -> u32 {
        const MOST: u32 = 30_000;
        if self.timeout == 0 { MOST } else { self.timeout.min(MOST) }
    }

    /// Handles GET LBA STATUS: as many extents as the allocation length allows, at most 16.
    pub(super) fn get_lba_status(&mut self) -> CommandResult {
        let first = self.lba();
        let capacity = self.capacity;
        if first >= capacity.blocks {
            return Err(Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE.into());
        }
        let most = (self.allocation_length().saturating_sub(8) / 16).clamp(1, 16);
        let mut out = Response::new();
        out.put(&[0; 8]);
        let mut at = first;
        let block = u64::from(capacity.block_size);
        for _ in 0..most {
            let offset = at.saturating_mul(block);
            let Extent { is_mapped, length } = self.host.extent(offset).map_err(Error::backing)?;
            let left = capacity.blocks.saturating_sub(at).min(u32::MAX.into());
            // A block is mapped if a part of it is.
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
        out.set_length::<4>(0);
        self.send_data_in(&out)
    }
}
