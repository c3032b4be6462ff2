//! Requests of the block layer (the kernel's block/ioctl.c).
//!
//! On a block device the kernel answers, except where the entry's `ro` and `sector=` or a size that
//! is not a whole number of blocks matter. On an image file the library answers, with the same
//! meaning.

use super::request::*;
use crate::abi::{Abi, BlkpgIoctlArg, Long};
use crate::device::Device;
use crate::errno::Errno;
use crate::host::{Capability, Host, Medium};
use crate::scsi::reservation::refusal_to_write;

/// The largest block size of the page cache: a page.
const PAGE: u32 = 4096;

/// The default read-ahead of the kernel, in 512-byte sectors.
const READ_AHEAD: u64 = 256;

#[inline(never)]
pub(crate) fn answer(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Answer {
    let writes = matches!(request, BLKDISCARD | BLKSECDISCARD | BLKZEROOUT);
    // Whoever may not write is refused for that, before the disk is asked.
    if writes && host.writable() && !device.entry.read_only {
        if let Some(errno) = refusal_to_write(device, host) {
            return Answer::Error(errno);
        }
    }
    match request {
        BLKGETSIZE64 | BLKGETSIZE64_32 | BLKGETSIZE | BLKSSZGET | BLKPBSZGET | BLKBSZGET | BLKIOMIN
        | BLKROGET => property(device, host, request, argument).into(),
        BLKDISCARD | BLKZEROOUT => match host.medium() {
            Medium::BlockDevice if !device.entry.read_only => Answer::Forward,
            _ => discard_or_zero(device, host, request, argument).into(),
        },
        BLKSECDISCARD | BLKRESETZONE | BLKOPENZONE | BLKCLOSEZONE | BLKFINISHZONE | BLKROSET
            if device.entry.read_only =>
        {
            Answer::Error(write_protected(host))
        }
        _ if find(request).is_none() => Answer::Error(device.refusal()),
        _ => match host.medium() {
            Medium::BlockDevice => Answer::Forward,
            Medium::ImageFile => answer_on_image(device, host, request, argument).into(),
        },
    }
}

/// Answers requests that depend on the capacity and the entry.
fn property(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Result<i32, Errno> {
    let int = |value: u32| host.store(argument, value);
    let at_least_a_block = |bytes: u32| Ok(device.logical_block(host)?.max(bytes));
    match request {
        BLKGETSIZE => {
            let value = device.capacity(host)?.sectors();
            if host.abi() == Abi::I386 && u32::try_from(value).is_err() {
                return Err(Errno::EFBIG);
            }
            host.store(argument, Long { value })?;
        }
        BLKSSZGET => int(device.logical_block(host)?)?,
        BLKPBSZGET => int(device.physical_block(host)?)?,
        BLKIOMIN => int(at_least_a_block(host.minimum_io()?)?)?,
        // The kernel's compat_blkdev_ioctl, since Linux 5.8.
        BLKBSZGET if host.abi() == Abi::I386 => int(device.logical_block(host)?)?,
        BLKBSZGET => int(at_least_a_block(host.soft_block()?)?)?,
        BLKROGET => int(device.is_read_only(host)?.into())?,
        _ => host.store(argument, device.capacity(host)?.bytes())?,
    }
    Ok(0)
}

/// Returns the errno of a write to a protected device.
fn write_protected(host: &impl Host) -> Errno {
    if host.writable() { Errno::EPERM } else { Errno::EBADF }
}

/// Answers `BLKDISCARD` and `BLKZEROOUT`, whose range is in bytes.
fn discard_or_zero(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Result<i32, Errno> {
    if !host.writable() || device.entry.read_only {
        return Err(write_protected(host));
    }
    let [start, length]: [u64; 2] = host.fetch(argument)?;
    let capacity = device.capacity(host)?;
    let unaligned = (start | length) & u64::from(capacity.block_size.wrapping_sub(1)) != 0;
    let end = start.checked_add(length).ok_or(Errno::EINVAL)?;
    if unaligned || end > capacity.bytes() || length == 0 {
        return Err(Errno::EINVAL);
    }
    match request {
        BLKDISCARD => host.discard(start, length)?,
        _ => host.zero(start, length)?,
    }
    Ok(0)
}

/// Answers the other requests on an image file.
fn answer_on_image(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Result<i32, Errno> {
    let int = |value: u32| host.store(argument, value);
    let short = |value: u16| host.store(argument, value);
    let admin = || if host.capable(Capability::Admin) { Ok(()) } else { Err(Errno::EACCES) };
    match request {
        BLKIOOPT | BLKALIGNOFF | BLKDISCARDZEROES | BLKGETZONESZ | BLKGETNRZONES => int(0)?,
        // The kernel's default.
        BLKROTATIONAL => short(1)?,
        BLKSECTGET => short(host.max_sectors()?)?,
        BLKRAGET | BLKFRAGET if argument == 0 => return Err(Errno::EINVAL),
        BLKRAGET | BLKFRAGET => host.store(argument, Long { value: READ_AHEAD })?,
        BLKFLSBUF => {
            admin()?;
            host.flush()?;
        }
        // The kernel knows no partitions of a file, and the file system reads ahead.
        BLKRRPART | BLKRASET | BLKFRASET => admin()?,
        // The file system chooses the block size; what the kernel rejects is rejected
        // (blkdev_bszset, set_blocksize).
        BLKBSZSET => {
            admin()?;
            if argument == 0 {
                return Err(Errno::EINVAL);
            }
            let size: u32 = host.fetch(argument)?;
            let least = device.logical_block(host)?.max(512);
            if !size.is_power_of_two() || !(least..=PAGE).contains(&size) {
                return Err(Errno::EINVAL);
            }
        }
        // No trace is set up.
        BLKTRACESTART | BLKTRACESTOP | BLKTRACETEARDOWN => return Err(Errno::EINVAL),
        // A file cannot be partitioned.
        BLKPG => {
            admin()?;
            let BlkpgIoctlArg { data, .. } = host.fetch(argument)?;
            // The start and the length of a `struct blkpg_partition`.
            host.fetch::<[u64; 2]>(data)?;
            return Err(Errno::EINVAL);
        }
        BLKSECDISCARD if host.writable() => return Err(Errno::EOPNOTSUPP),
        BLKSECDISCARD => return Err(Errno::EBADF),
        _ => return Err(device.refusal()),
    }
    Ok(0)
}
