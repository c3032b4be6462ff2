//! Reads, writes, verifies, flushes and discards logical blocks, and says why that failed.

use super::{Range, is_protected};
use crate::bytes::copy;
use crate::device::Device;
use crate::errno::Errno;
use crate::host::{Host, Segment, UpdateError};
use crate::transfer::{DataBuffer, MAX_SEGMENTS};

/// The most bytes that go through a bounce buffer at once.
const PIECE: u64 = 256 * 1024;

/// Why logical blocks could not be read, written, verified, flushed or discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The logical block at this address cannot be read.
    Read(u64),
    /// The logical block at this address cannot be written.
    Write(u64),
    /// The cache cannot be written to the medium; which block is to blame is not known.
    Flush,
    /// The logical block at this address differs from what the caller expects.
    Miscompare(u64),
    /// There is no space left.
    NoSpace,
    /// The medium is write-protected.
    WriteProtected,
    /// The descriptor may not read. The medium is not to blame, and may be sound.
    AccessDenied,
    /// The backing device failed where no logical block is concerned.
    Internal,
    /// There is no memory.
    NoMemory,
    /// The backing device is gone.
    Gone,
    /// The request itself fails: the caller's memory or its descriptor is bad, or the caller is gone.
    CallerFault(Errno),
}

impl Error {
    /// Returns what an error of the backing device means where no logical block is concerned.
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

    /// Returns what an error in reading a part of the range means. Reading the blocks one by one finds the one that cannot be
    /// read.
    fn reading_part<H: Host>(host: &H, range: Range, offset: u64, length: u64, errno: Errno) -> Error {
        let block = u64::from(range.block);
        let first = range.block_of(offset);
        let blocks = range.block_of(length);
        match Error::reading(errno, first) {
            Error::Read(_) if blocks > 1 => {}
            error => return error,
        }
        let Ok(mut buffer) = host.scratch(block as usize) else { return Error::NoMemory };
        let buffer = buffer.as_mut().get_mut(..block as usize).unwrap_or_default();
        let bad = (first..first.saturating_add(blocks))
            .find(|bad| host.read(bad.saturating_mul(block), buffer).is_err());
        Error::Read(bad.unwrap_or(first))
    }
}

/// Reads the range into the caller's memory.
pub(crate) fn read<H: Host>(host: &H, range: Range, data: &mut DataBuffer) -> Result<(), Error> {
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
    range: Range,
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
            host.write(offset, buffer, durable).map_err(|errno| Error::writing(errno, range.block_of(offset)))
        },
        Error::writing,
    )
}

/// Moves the blocks straight between the device and the caller or, where the device does not take the caller's memory
/// (`O_DIRECT`, and an address or length that is not aligned), through a bounce buffer.
fn transfer<H: Host>(
    host: &H,
    range: Range,
    data: &mut DataBuffer,
    direct: impl Fn(u64, &[Segment]) -> Result<Option<u64>, Errno>,
    bounce: impl Fn(&mut DataBuffer, u64, &mut [u8]) -> Result<(), Error>,
    failed: impl Fn(Errno, u64) -> Error,
) -> Result<(), Error> {
    let mut left = range.bytes();
    let mut offset = range.offset();
    let mut segments = [Segment::default(); MAX_SEGMENTS];
    while left > 0 {
        let count = data.next_segments(host, left, &mut segments).map_err(Error::CallerFault)?;
        let moved = match direct(offset, segments.get(..count).unwrap_or_default()) {
            Err(Errno::EINTR) => 0,
            Ok(None) => {
                let length = left.min(PIECE);
                let mut buffer = host.scratch(length as usize).map_err(Error::backing)?;
                bounce(data, offset, buffer.as_mut().get_mut(..length as usize).unwrap_or_default())?;
                length
            }
            Ok(Some(moved @ 1..)) => {
                data.advance(host, moved).map_err(Error::CallerFault)?;
                moved
            }
            // The device has become shorter.
            Ok(Some(0)) => return Err(failed(Errno::EIO, range.block_of(offset))),
            Err(errno) => return Err(failed(errno, range.block_of(offset))),
        };
        offset = offset.saturating_add(moved);
        left = left.saturating_sub(moved);
    }
    Ok(())
}

/// What the medium is compared with.
pub(crate) enum Compare<'a> {
    /// Nothing: it can be read.
    Nothing,
    /// The caller's data.
    Data(&'a mut DataBuffer),
    /// One block of the caller's data, again and again.
    OneBlock(&'a mut DataBuffer),
}

/// Reads the range and compares it.
pub(crate) fn verify<H: Host>(host: &H, range: Range, mut compare: Compare<'_>) -> Result<(), Error> {
    let whole = range.bytes();
    let most = whole.min(PIECE);
    let memory = |length: u64| host.scratch(length as usize).map_err(Error::backing);
    let (mut medium, mut expected) = (memory(most)?, memory(most)?);
    if let Compare::OneBlock(data) = &mut compare {
        let expected = expected.as_mut().get_mut(..most as usize).unwrap_or_default();
        let (block, rest) = expected.split_at_mut_checked(range.block as usize).unwrap_or_default();
        data.copy_in(host, block).map_err(Error::CallerFault)?;
        repeat(block, rest);
    }
    let mut done = 0u64;
    while done < whole {
        let length = (whole - done).min(most);
        let offset = range.offset().saturating_add(done);
        let [medium, expected] = [medium.as_mut(), expected.as_mut()]
            .map(|memory| memory.get_mut(..length as usize).unwrap_or_default());
        host.read(offset, medium).map_err(|errno| Error::reading_part(host, range, offset, length, errno))?;
        let expected = match &mut compare {
            Compare::Nothing => &mut [],
            Compare::Data(data) => {
                data.copy_in(host, expected).map_err(Error::CallerFault)?;
                expected
            }
            Compare::OneBlock(_) => expected,
        };
        if let Some(place) = medium.iter().zip(expected.iter()).position(|(on, from)| on != from) {
            return Err(Error::Miscompare(range.block_of(offset.saturating_add(place as u64))));
        }
        done = done.saturating_add(length);
    }
    Ok(())
}

/// Writes one block to every block of the range.
pub(crate) fn write_same<H: Host>(host: &H, range: Range, block: &[u8]) -> Result<(), Error> {
    let whole = range.bytes();
    let most = whole.min(PIECE);
    let mut buffer = host.scratch(most as usize).map_err(Error::backing)?;
    let buffer = buffer.as_mut();
    repeat(block, buffer);
    let mut done = 0u64;
    while done < whole {
        let length = (whole - done).min(most);
        let offset = range.offset().saturating_add(done);
        host.write(offset, buffer.get(..length as usize).unwrap_or_default(), false)
            .map_err(|errno| Error::writing(errno, range.block_of(offset)))?;
        done = done.saturating_add(length);
    }
    Ok(())
}

/// Fills a buffer with a block, again and again.
fn repeat(block: &[u8], buffer: &mut [u8]) {
    for part in buffer.chunks_mut(block.len().max(1)) {
        copy(part, 0, block);
    }
}

/// Writes the caller's data to the range: all of it or nothing, even if the power fails meanwhile.
pub(crate) fn write_atomic<H: Host>(
    host: &H,
    range: Range,
    data: &mut DataBuffer,
    durable: bool,
) -> Result<(), Error> {
    let length = range.bytes() as usize;
    let mut buffer = host.scratch(length).map_err(Error::backing)?;
    let buffer = buffer.as_mut().get_mut(..length).unwrap_or_default();
    data.copy_in(host, buffer).map_err(Error::CallerFault)?;
    host.write_atomic(range.offset(), buffer, durable).map_err(|errno| Error::writing(errno, range.first))
}

/// Changes the range as one step: see [`Backing::update`](crate::host::Backing::update).
pub(crate) fn update<H: Host>(
    host: &H,
    range: Range,
    medium: &mut [u8],
    durable: bool,
    timeout_ms: u32,
    change: impl FnMut(&mut [u8]) -> bool,
) -> Result<(), Error> {
    host.update(range.offset(), medium, durable, timeout_ms, change).map_err(|error| match error {
        UpdateError::Exclude(errno) => Error::backing(errno),
        UpdateError::Read(errno) => Error::reading_part(host, range, range.offset(), range.bytes(), errno),
        UpdateError::Write(errno) => Error::writing(errno, range.first),
    })
}

/// Gives back the space of the range, which reads as zeros afterwards.
pub(crate) fn discard(host: &impl Host, range: Range) -> Result<(), Error> {
    host.discard(range.offset(), range.bytes()).map_err(|errno| Error::writing(errno, range.first))
}

/// Makes the range read as zeros and keeps its space.
pub(crate) fn zero(host: &impl Host, range: Range) -> Result<(), Error> {
    host.zero(range.offset(), range.bytes()).map_err(|errno| Error::writing(errno, range.first))
}

/// Writes the backing device's cache to its medium.
pub(crate) fn sync(host: &impl Host) -> Result<(), Error> {
    host.sync().map_err(|errno| match Error::writing(errno, 0) {
        Error::Write(_) => Error::Flush,
        error => error,
    })
}

/// Writes the cache to the medium; a write-protected medium has none to write.
pub(crate) fn flush(device: &Device<'_>, host: &impl Host) -> Result<(), Error> {
    if is_protected(device, host).map_err(Error::backing)? { Ok(()) } else { sync(host) }
}
