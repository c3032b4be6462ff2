//! The data buffer of a command in the caller's memory: one segment, or a scatter-gather list.

use crate::errno::Errno;
use crate::host::{Host, Segment};

/// The most segments that are handed to the host at once.
pub const MAX_SEGMENTS: usize = 32;

/// A data-in or data-out buffer in the caller's memory, and how much of it has been transferred.
#[derive(Clone, Copy, Debug)]
pub struct DataBuffer {
    /// The address of the data or, if `count` is not 0, of an array of `struct iovec`.
    address: u64,
    /// The elements of the array; 0 if there is none.
    count: u32,
    /// The length in bytes.
    length: u64,
    /// The bytes that have been transferred.
    transferred: u64,
    /// The next element of the array, and how many of its bytes have been transferred.
    element: u32,
    offset: u64,
}

impl DataBuffer {
    /// Returns the buffer of a command without data.
    pub fn empty() -> DataBuffer {
        DataBuffer::new(0, 0)
    }

    /// Returns a buffer of one segment.
    pub fn new(address: u64, length: u64) -> DataBuffer {
        DataBuffer { address, count: 0, length, transferred: 0, element: 0, offset: 0 }
    }

    /// Returns a scatter-gather list, cut at `length`; `EINVAL` if the list is empty or a segment
    /// too long.
    pub fn scatter_gather(
        host: &impl Host,
        address: u64,
        count: u32,
        length: u64,
    ) -> Result<DataBuffer, Errno> {
        let list = DataBuffer { count, ..DataBuffer::new(address, 0) };
        let mut sum = 0u64;
        for element in 0..count {
            let length = list.element(host, element)?.length;
            // As import_iovec and bio_map_user_iov in the kernel.
            if i64::try_from(length).is_err() {
                return Err(Errno::EINVAL);
            }
            sum = sum.saturating_add(length);
        }
        if sum == 0 { Err(Errno::EINVAL) } else { Ok(DataBuffer { length: sum.min(length), ..list }) }
    }

    fn element(&self, host: &impl Host, element: u32) -> Result<Segment, Errno> {
        let size = host.abi().size_of::<Segment>() as u64;
        host.fetch(self.address.wrapping_add(size * u64::from(element)))
    }

    /// Returns how many bytes have not been transferred.
    pub fn residual(&self) -> u64 {
        self.length.saturating_sub(self.transferred)
    }

    /// Returns how many bytes have been transferred.
    pub fn transferred(&self) -> u64 {
        self.transferred
    }

    /// Returns the next segment, of at most `most` bytes, of a buffer that has only one; `None` for a
    /// scatter-gather list.
    #[inline]
    pub fn sole_segment(&self, most: u64) -> Option<Segment> {
        (self.count == 0).then(|| Segment {
            address: self.address.wrapping_add(self.transferred),
            length: most.min(self.residual()),
        })
    }

    /// Fills `segments` with the next ones of a scatter-gather list, none of them empty, up to `most` bytes,
    /// and returns how many there are. Does not advance.
    pub fn list_segments(
        &self,
        host: &impl Host,
        most: u64,
        segments: &mut [Segment],
    ) -> Result<usize, Errno> {
        let mut left = most.min(self.residual());
        let (mut element, mut offset) = (self.element, self.offset);
        let mut filled = 0;
        while left > 0 {
            let Some(segment) = segments.get_mut(filled) else { break };
            let whole = self.element(host, element)?;
            let length = whole.length.saturating_sub(offset).min(left);
            if length > 0 {
                *segment = Segment { address: whole.address.wrapping_add(offset), length };
                filled += 1;
            }
            left = left.saturating_sub(length);
            element = element.wrapping_add(1);
            offset = 0;
            // The list may have become shorter in the caller's memory.
            if element >= self.count {
                break;
            }
        }
        Ok(filled)
    }

    /// Advances by this many bytes.
    pub fn advance(&mut self, host: &impl Host, bytes: u64) -> Result<(), Errno> {
        let mut left = bytes.min(self.residual());
        self.transferred = self.transferred.saturating_add(left);
        while left > 0 && self.count > 0 {
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

    /// Copies bytes to the caller, as many as fit, and advances.
    pub fn copy_out(&mut self, host: &impl Host, bytes: &[u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        while let Some((address, length)) = self.next_segment(host, rest.len())? {
            let (now, later) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            host.copy_out(address, now)?;
            self.advance(host, now.len() as u64)?;
            rest = later;
        }
        Ok(())
    }

    /// Copies bytes from the caller, as many as there are, and advances. The rest becomes zeros: a bounce
    /// buffer can hold what an engine has moved for another caller.
    pub fn copy_in(&mut self, host: &impl Host, bytes: &mut [u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        while let Some((address, length)) = self.next_segment(host, rest.len())? {
            let (now, later) = rest.split_at_mut_checked(length).unwrap_or_default();
            host.copy_in(address, now)?;
            self.advance(host, length as u64)?;
            rest = later;
        }
        rest.fill(0);
        Ok(())
    }

    /// Copies zeros to the rest of the buffer.
    pub fn fill_with_zeros(&mut self, host: &impl Host) -> Result<(), Errno> {
        let zeros = [0; 512];
        while let Some((address, length)) = self.next_segment(host, zeros.len())? {
            host.copy_out(address, zeros.get(..length).unwrap_or(&zeros))?;
            self.advance(host, length as u64)?;
        }
        Ok(())
    }

    /// Returns the next segment, of at most `most` bytes.
    fn next_segment(&self, host: &impl Host, most: usize) -> Result<Option<(u64, usize)>, Errno> {
        let Segment { address, length } = match self.sole_segment(most as u64) {
            Some(sole) => sole,
            None => {
                let mut segment = [Segment::default()];
                self.list_segments(host, most as u64, &mut segment)?;
                let [next] = segment;
                next
            }
        };
        Ok((length > 0).then(|| (address, usize::try_from(length).unwrap_or(most))))
    }
}
