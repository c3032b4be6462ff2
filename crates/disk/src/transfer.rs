//! The caller's buffer of a command: one piece of memory, or a list of pieces.

use crate::errno::Errno;
use crate::host::{Host, Segment};

/// The most pieces that are handed to the host at once.
pub const AT_ONCE: usize = 32;

/// Where the data is in the caller's memory, and how far it has been used.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// The address of the data or, with a `count`, of an array of `struct iovec`.
    address: u64,
    /// How many elements the array has; 0 where there is none.
    count: u32,
    /// How many bytes there are.
    length: u64,
    /// How many have been used.
    used: u64,
    /// The element of the array that is used now, and how much of it has been.
    element: u32,
    offset: u64,
}

impl Data {
    /// One piece.
    pub fn new(address: u64, length: u64) -> Data {
        Data { address, count: 0, length, used: 0, element: 0, offset: 0 }
    }

    /// A list; the shorter of list and `length` counts. `EINVAL` for one that holds nothing, or more than there can be.
    pub fn list(host: &impl Host, address: u64, count: u32, length: u64) -> Result<Data, Errno> {
        let mut data = Data { address, count, length: u64::MAX, used: 0, element: 0, offset: 0 };
        let mut sum = 0u64;
        for element in 0..count {
            let piece = data.element(host, element)?.length;
            // As import_iovec and bio_map_user_iov in the kernel.
            if i64::try_from(piece).is_err() {
                return Err(Errno::EINVAL);
            }
            sum = sum.saturating_add(piece);
        }
        if sum == 0 {
            return Err(Errno::EINVAL);
        }
        data.length = sum.min(length);
        Ok(data)
    }

    fn element(&self, host: &impl Host, element: u32) -> Result<Segment, Errno> {
        if self.count == 0 {
            return Ok(Segment { address: self.address, length: self.length });
        }
        let mut bytes = [0; 16];
        let at = self.address.wrapping_add(16 * u64::from(element));
        host.copy_in(at, &mut bytes)?;
        let [address, length] = [0, 8].map(|at| {
            let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
            u64::from_ne_bytes(part.copied().unwrap_or_default())
        });
        Ok(Segment { address, length })
    }

    /// Bytes that are left.
    pub fn residual(&self) -> u64 {
        self.length.saturating_sub(self.used)
    }

    /// Bytes that have been used.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The next pieces, none of them empty, up to `most` bytes; the result is how many there are. They stay unused.
    pub fn next(&self, host: &impl Host, most: u64, pieces: &mut [Segment]) -> Result<usize, Errno> {
        let mut left = most.min(self.residual());
        let (mut element, mut offset) = (self.element, self.offset);
        let mut found = 0;
        while left > 0 {
            let Some(piece) = pieces.get_mut(found) else { break };
            let whole = self.element(host, element)?;
            let length = whole.length.saturating_sub(offset).min(left);
            if length > 0 {
                *piece = Segment { address: whole.address.wrapping_add(offset), length };
                found += 1;
            }
            left = left.saturating_sub(length);
            element = element.wrapping_add(1);
            offset = 0;
            // The list may have become shorter in the caller's memory.
            if element >= self.count.max(1) {
                break;
            }
        }
        Ok(found)
    }

    /// Uses up bytes.
    pub fn advance(&mut self, host: &impl Host, bytes: u64) -> Result<(), Errno> {
        let mut left = bytes.min(self.residual());
        self.used = self.used.saturating_add(left);
        if self.count == 0 {
            self.offset = self.used;
            return Ok(());
        }
        while left > 0 {
            let rest = self.element(host, self.element)?.length.saturating_sub(self.offset);
            if left < rest {
                self.offset = self.offset.saturating_add(left);
                break;
            }
            left = left.saturating_sub(rest);
            self.element = self.element.wrapping_add(1);
            self.offset = 0;
            if self.element >= self.count {
                break;
            }
        }
        Ok(())
    }

    /// Copies bytes to the next place; as many as there is room for.
    pub fn put(&mut self, host: &impl Host, bytes: &[u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        while let Some((address, length)) = self.piece(host, rest.len())? {
            let (now, later) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            host.copy_out(address, now)?;
            self.advance(host, now.len() as u64)?;
            rest = later;
        }
        Ok(())
    }

    /// Copies bytes from the next place; as many as there are.
    pub fn get(&mut self, host: &impl Host, bytes: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0usize;
        while let Some((address, length)) = self.piece(host, bytes.len().saturating_sub(done))? {
            let part = bytes.get_mut(done..).and_then(|rest| rest.get_mut(..length)).unwrap_or_default();
            host.copy_in(address, part)?;
            self.advance(host, length as u64)?;
            done = done.saturating_add(length);
        }
        Ok(())
    }

    /// The next piece, of at most `most` bytes.
    fn piece(&self, host: &impl Host, most: usize) -> Result<Option<(u64, usize)>, Errno> {
        let mut piece = [Segment::default()];
        let count = self.next(host, most as u64, &mut piece)?;
        let [Segment { address, length }] = piece;
        Ok((count > 0).then(|| (address, usize::try_from(length).unwrap_or(most))))
    }
}
