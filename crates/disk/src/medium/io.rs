//! Reads, writes, verifies, flushes and discards logical blocks.

use core::slice;

use super::{BlockRange, is_protected};
use crate::bytes::copy;
use crate::device::Device;
use crate::errno::Errno;
use crate::host::{Host, Segment, UpdateError};
use crate::transfer::{DataBuffer, MAX_SEGMENTS};

/// The size of a bounce buffer in bytes.
const BOUNCE_BUFFER: u64 = 256 * 1024;

/// Why logical blocks could not be read, written, verified, flushed or discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The logical block at this address cannot be read.
    Read(u64),
    /// The logical block at this address cannot be written.
    Write(u64),
    /// The cache cannot be written to the medium; the failing LBA is not known.
    Flush,
    /// The logical block at this address differs from what the caller expects.
    Miscompare(u64),
    /// No space is left.
    NoSpace,
    /// The medium is write-protected.
    WriteProtected,
    /// The descriptor is not open for reading; the medium may be sound.
    AccessDenied,
    /// The backing device failed; no logical block is concerned.
    Internal,
    /// There is no memory.
    NoMemory,
    /// The backing device is gone.
    Gone,
    /// The request itself fails: the caller's memory or its descriptor is bad, or the caller is
    /// gone.
    CallerFault(Errno),
}

impl Error {
    /// Returns the error of a backing device that failed where no logical block is concerned.
    pub(crate) fn backing(errno: Errno) -> Error {
        match errno {
            Errno::ENOMEM | Errno::EAGAIN | Errno::ENFILE | Errno::EMFILE => Error::NoMemory,
            Errno::ENODEV | Errno::ENXIO => Error::Gone,
            Errno::EFAULT | Errno::CALLER_GONE => Error::CallerFault(errno),
            _ => Error::Internal,
        }
    }

    fn reading(errno: Errno, lba: u64) -> Error {
        match (Error::backing(errno), errno) {
            (Error::Internal, Errno::ENOSPC | Errno::EDQUOT) => Error::NoSpace,
            (Error::Internal, Errno::EPERM | Errno::EACCES | Errno::EBADF) => Error::AccessDenied,
            (Error::Internal, _) => Error::Read(lba),
            (error, _) => error,
        }
    }

    fn writing(errno: Errno, lba: u64) -> Error {
        match (Error::backing(errno), errno) {
            // EFBIG: the program's limit of a file's size (RLIMIT_FSIZE).
            (Error::Internal, Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => Error::NoSpace,
            (Error::Internal, Errno::EROFS | Errno::EPERM | Errno::EACCES | Errno::EBADF) => {
                Error::WriteProtected
            }
            (Error::Internal, _) => Error::Write(lba),
            (error, _) => error,
        }
    }

    /// Returns the error of a read of part of the range, and finds the failing LBA by reading block
    /// by block.
    fn reading_part<H: Host>(host: &H, range: BlockRange, offset: u64, length: u64, errno: Errno) -> Error {
        let block = u64::from(range.block_size);
        let first = range.lba_at(offset);
        let blocks = length.checked_div(block).unwrap_or(0);
        match Error::reading(errno, first) {
            Error::Read(_) if blocks > 1 => {}
            error => return error,
        }
        let Ok(mut buffer) = host.bounce_buffer(block as usize) else { return Error::NoMemory };
        let buffer = buffer.as_mut().get_mut(..block as usize).unwrap_or_default();
        let bad = (first..first.saturating_add(blocks))
            .find(|bad| host.read(bad.saturating_mul(block), buffer).is_err());
        Error::Read(bad.unwrap_or(first))
    }
}

/// Reads the range into one segment of the caller's memory with one system call, and returns how
/// many bytes; `None` if that cannot be done.
#[inline]
pub(crate) fn read_directly(
    host: &impl Host,
    range: BlockRange,
    into: Segment,
) -> Result<Option<u64>, Error> {
    one_transfer(host.read_directly(range.offset(), into)).map_err(|errno| Error::reading(errno, range.lba))
}

/// Writes as [`read_directly`] reads.
#[inline]
pub(crate) fn write_directly(
    host: &impl Host,
    range: BlockRange,
    from: Segment,
    durable: bool,
) -> Result<Option<u64>, Error> {
    one_transfer(host.write_directly(range.offset(), from, durable))
        .map_err(|errno| Error::writing(errno, range.lba))
}

/// Returns the outcome of the only system call of a command.
fn one_transfer(moved: Result<Option<u64>, Errno>) -> Result<Option<u64>, Errno> {
    match moved {
        Err(Errno::EINTR) => Ok(None),
        // The device has become shorter.
        Ok(Some(0)) => Err(Errno::EIO),
        moved => moved,
    }
}

/// Reads the range into the caller's memory.
pub(crate) fn read<H: Host>(host: &H, range: BlockRange, data: &mut DataBuffer) -> Result<(), Error> {
    transfer(
        host,
        range,
        data,
        |offset, segments| host.read_at(offset, segments),
        |data, offset, buffer| {
            let length = buffer.len() as u64;
            host.read(offset, buffer)
                .map_err(|errno| Error::reading_part(host, range, offset, length, errno))?;
            data.copy_out(host, buffer).map_err(Error::CallerFault)
        },
        Error::reading,
    )
}

/// Writes the caller's memory to the range. `durable`: the data is on the medium afterwards.
pub(crate) fn write<H: Host>(
    host: &H,
    range: BlockRange,
    data: &mut DataBuffer,
    durable: bool,
) -> Result<(), Error> {
    transfer(
        host,
        range,
        data,
        |offset, segments| host.write_at(offset, segments, durable),
        |data, offset, buffer| {
            data.copy_in(host, buffer).map_err(Error::CallerFault)?;
            host.write(offset, buffer, durable).map_err(|errno| Error::writing(errno, range.lba_at(offset)))
        },
        Error::writing,
    )
}

/// Transfers blocks directly between the backing device and the caller, or through a bounce buffer
/// if the device does not take the caller's memory (`O_DIRECT` and an address or length that is not
/// aligned).
fn transfer<H: Host>(
    host: &H,
    range: BlockRange,
    data: &mut DataBuffer,
    direct: impl Fn(u64, &[Segment]) -> Result<Option<u64>, Errno>,
    bounce: impl Fn(&mut DataBuffer, u64, &mut [u8]) -> Result<(), Error>,
    to_error: impl Fn(Errno, u64) -> Error,
) -> Result<(), Error> {
    let mut left = range.bytes();
    let mut offset = range.offset();
    while left > 0 {
        // The list is not made where there is none.
        let (sole, mut list);
        let segments = match data.sole_segment(left) {
            Some(segment) => {
                sole = segment;
                slice::from_ref(&sole)
            }
            None => {
                list = [Segment::default(); MAX_SEGMENTS];
                let count = data.list_segments(host, left, &mut list).map_err(Error::CallerFault)?;
                list.get(..count).unwrap_or_default()
            }
        };
        let moved = match direct(offset, segments) {
            Err(Errno::EINTR) => 0,
            Ok(None) => {
                let length = left.min(BOUNCE_BUFFER);
                let mut buffer = host.bounce_buffer(length as usize).map_err(Error::backing)?;
                bounce(data, offset, buffer.as_mut().get_mut(..length as usize).unwrap_or_default())?;
                length
            }
            Ok(Some(moved @ 1..)) => {
                data.advance(host, moved).map_err(Error::CallerFault)?;
                moved
            }
            // The device has become shorter.
            Ok(Some(0)) => return Err(to_error(Errno::EIO, range.lba_at(offset))),
            Err(errno) => return Err(to_error(errno, range.lba_at(offset))),
        };
        offset = offset.saturating_add(moved);
        left = left.saturating_sub(moved);
    }
    Ok(())
}

/// The data that the medium is compared with.
pub(crate) enum Compare<'a> {
    /// None: the blocks are only read.
    Nothing,
    /// The caller's data.
    Data(&'a mut DataBuffer),
    /// One block of the caller's data, for every block.
    OneBlock(&'a mut DataBuffer),
}

/// Reads the range and compares it.
pub(crate) fn verify<H: Host>(host: &H, range: BlockRange, mut compare: Compare<'_>) -> Result<(), Error> {
    let whole = range.bytes();
    let most = whole.min(BOUNCE_BUFFER);
    let buffer = || host.bounce_buffer(most as usize).map_err(Error::backing);
    let (mut medium, mut expected) = (buffer()?, buffer()?);
    if let Compare::OneBlock(data) = &mut compare {
        let expected = expected.as_mut().get_mut(..most as usize).unwrap_or_default();
        let (block, rest) = expected.split_at_mut_checked(range.block_size as usize).unwrap_or_default();
        data.copy_in(host, block).map_err(Error::CallerFault)?;
        repeat(block, rest);
    }
    let mut done = 0u64;
    while done < whole {
        let length = (whole - done).min(most);
        let offset = range.offset().saturating_add(done);
        let [medium, expected] = [medium.as_mut(), expected.as_mut()]
            .map(|buffer| buffer.get_mut(..length as usize).unwrap_or_default());
        host.read(offset, medium).map_err(|errno| Error::reading_part(host, range, offset, length, errno))?;
        let expected = match &mut compare {
            Compare::Nothing => &mut [],
            Compare::Data(data) => {
                data.copy_in(host, expected).map_err(Error::CallerFault)?;
                expected
            }
            Compare::OneBlock(_) => expected,
        };
        if let Some(at) = medium.iter().zip(expected.iter()).position(|(read, data)| read != data) {
            return Err(Error::Miscompare(range.lba_at(offset.saturating_add(at as u64))));
        }
        done = done.saturating_add(length);
    }
    Ok(())
}

/// Writes one block to every block of the range.
pub(crate) fn write_same<H: Host>(host: &H, range: BlockRange, block: &[u8]) -> Result<(), Error> {
    let whole = range.bytes();
    let most = whole.min(BOUNCE_BUFFER);
    let mut buffer = host.bounce_buffer(most as usize).map_err(Error::backing)?;
    let buffer = buffer.as_mut();
    repeat(block, buffer);
    let mut done = 0u64;
    while done < whole {
        let length = (whole - done).min(most);
        let offset = range.offset().saturating_add(done);
        host.write(offset, buffer.get(..length as usize).unwrap_or_default(), false)
            .map_err(|errno| Error::writing(errno, range.lba_at(offset)))?;
        done = done.saturating_add(length);
    }
    Ok(())
}

/// Copies a range to one of the same length on another device or the same one, where they may overlap.
pub(crate) fn copy_blocks<H: Host>(
    source: &H,
    from: BlockRange,
    destination: &H,
    to: BlockRange,
) -> Result<(), Error> {
    let whole = from.bytes();
    let most = whole.min(BOUNCE_BUFFER);
    let mut buffer = source.bounce_buffer(most as usize).map_err(Error::backing)?;
    let from_the_end = source.identity() == destination.identity() && from.offset() < to.offset();
    let mut done = 0u64;
    while done < whole {
        let length = (whole - done).min(most);
        let at = if from_the_end { whole - done - length } else { done };
        let [read_at, write_at] = [from, to].map(|range| range.offset().saturating_add(at));
        let part = buffer.as_mut().get_mut(..length as usize).unwrap_or_default();
        source
            .read(read_at, part)
            .map_err(|errno| Error::reading_part(source, from, read_at, length, errno))?;
        destination
            .write(write_at, part, false)
            .map_err(|errno| Error::writing(errno, to.lba_at(write_at)))?;
        done = done.saturating_add(length);
    }
    Ok(())
}

/// Fills a buffer with copies of a block.
pub(crate) fn repeat(block: &[u8], buffer: &mut [u8]) {
    for part in buffer.chunks_mut(block.len().max(1)) {
        copy(part, 0, block);
    }
}

/// Writes the caller's data to the range, all of it or nothing, even if the power fails.
pub(crate) fn write_atomic<H: Host>(
    host: &H,
    range: BlockRange,
    data: &mut DataBuffer,
    durable: bool,
) -> Result<(), Error> {
    let length = range.bytes() as usize;
    let mut buffer = host.bounce_buffer(length).map_err(Error::backing)?;
    let buffer = buffer.as_mut().get_mut(..length).unwrap_or_default();
    data.copy_in(host, buffer).map_err(Error::CallerFault)?;
    host.write_atomic(range.offset(), buffer, durable).map_err(|errno| Error::writing(errno, range.lba))
}

/// Reads, changes and writes the range as one step: see
/// [`Backing::update`](crate::host::Backing::update).
pub(crate) fn update<H: Host>(
    host: &H,
    range: BlockRange,
    medium: &mut [u8],
    durable: bool,
    timeout_ms: u32,
    change: impl FnMut(&mut [u8]) -> bool,
) -> Result<(), Error> {
    host.update(range.offset(), medium, durable, timeout_ms, change).map_err(|error| match error {
        UpdateError::Exclude(errno) => Error::backing(errno),
        UpdateError::Read(errno) => Error::reading_part(host, range, range.offset(), range.bytes(), errno),
        UpdateError::Write(errno) => Error::writing(errno, range.lba),
    })
}

/// Deallocates the range, which reads as zeros afterwards.
pub(crate) fn discard(host: &impl Host, range: BlockRange) -> Result<(), Error> {
    host.discard(range.offset(), range.bytes()).map_err(|errno| Error::writing(errno, range.lba))
}

/// Makes the range read as zeros and keeps it allocated.
pub(crate) fn zero(host: &impl Host, range: BlockRange) -> Result<(), Error> {
    host.zero(range.offset(), range.bytes()).map_err(|errno| Error::writing(errno, range.lba))
}

/// Writes the backing device's cache to its medium.
pub(crate) fn sync(host: &impl Host) -> Result<(), Error> {
    host.sync().map_err(|errno| match Error::writing(errno, 0) {
        Error::Write(_) => Error::Flush,
        error => error,
    })
}

/// Writes the cache to the medium, unless that is write-protected.
pub(crate) fn flush(device: &Device<'_>, host: &impl Host) -> Result<(), Error> {
    if is_protected(device, host).map_err(Error::backing)? { Ok(()) } else { sync(host) }
}
