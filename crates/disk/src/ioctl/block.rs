//! Requests of the block layer (the kernel's block/ioctl.c).
//!
//! On a block device the kernel's answers are right, but for what the entry's `ro` and `sector=` change and a
//! size that is no whole number of blocks. On an image file they are ours, with the same meaning.

use super::request::*;
use crate::abi::{Abi, BlkpgIoctlArg, Long};
use crate::device::Device;
use crate::errno::Errno;
use crate::host::{Capability, Host, Medium};

/// Bytes a page: the largest block of the page cache.
const PAGE: u32 = 4096;

/// What the kernel says of a fresh disk: how far it reads ahead, in 512-byte sectors.
const READ_AHEAD: u64 = 256;

#[inline(never)]
pub(crate) fn answer(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Answer {
    match request {
        BLKGETSIZE64 | BLKGETSIZE64_32 | BLKGETSIZE | BLKSSZGET | BLKPBSZGET | BLKBSZGET | BLKIOMIN
        | BLKROGET => property(device, host, request, argument).into(),
        BLKDISCARD | BLKZEROOUT => match host.medium() {
            Medium::BlockDevice if !device.entry.read_only => Answer::Forward,
            _ => change(device, host, request, argument).into(),
        },
        BLKSECDISCARD | BLKRESETZONE | BLKOPENZONE | BLKCLOSEZONE | BLKFINISHZONE | BLKROSET
            if device.entry.read_only =>
        {
            Answer::Error(protected(host))
        }
        _ if find(request).is_none() => Answer::Error(device.refusal()),
        _ => match host.medium() {
            Medium::BlockDevice => Answer::Forward,
            Medium::ImageFile => image(device, host, request, argument).into(),
        },
    }
}

/// What depends on the size and the entry.
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
        BLKBSZGET => int(at_least_a_block(host.soft_block()?)?)?,
        BLKROGET => int(device.is_read_only(host)?.into())?,
        _ => host.store(argument, device.capacity(host)?.bytes())?,
    }
    Ok(0)
}

/// Why nothing can be written to a protected device.
fn protected(host: &impl Host) -> Errno {
    if host.writable() { Errno::EPERM } else { Errno::EBADF }
}

/// `BLKDISCARD` and `BLKZEROOUT`: a range of bytes, in whole logical blocks.
fn change(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Result<i32, Errno> {
    if !host.writable() || device.entry.read_only {
        return Err(protected(host));
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

/// The rest, on an image file.
fn image(device: &Device<'_>, host: &impl Host, request: u32, argument: u64) -> Result<i32, Errno> {
    let int = |value: u32| host.store(argument, value);
    let short = |value: u16| host.store(argument, value);
    let admin = || if host.capable(Capability::Admin) { Ok(()) } else { Err(Errno::EACCES) };
    match request {
        BLKIOOPT | BLKALIGNOFF | BLKDISCARDZEROES | BLKGETZONESZ | BLKGETNRZONES => int(0)?,
        // As the kernel has it where nothing is known of the medium.
        BLKROTATIONAL => short(1)?,
        BLKSECTGET => short(host.max_sectors()?)?,
        BLKRAGET | BLKFRAGET => host.store(argument, Long { value: READ_AHEAD })?,
        BLKFLSBUF => {
            admin()?;
            host.flush()?;
        }
        // A file has no partitions that the kernel knows of, and what is read ahead is the file system's affair.
        BLKRRPART | BLKRASET | BLKFRASET => admin()?,
        // Nor is the size of a page cache's blocks: what the kernel would refuse is refused (blkdev_bszset, set_blocksize).
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
        // Nobody has set a trace up.
        BLKTRACESTART | BLKTRACESTOP | BLKTRACETEARDOWN => return Err(Errno::EINVAL),
        // Nor can a file be divided.
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

/// Persistent reservations: the disk has none (block/ioctl.c: `blkdev_pr_allowed`, then the driver's operations).
pub(crate) fn reservation(device: &Device<'_>, host: &impl Host, request: u32) -> Errno {
    match request {
        IOC_PR_REGISTER | IOC_PR_RESERVE | IOC_PR_RELEASE | IOC_PR_PREEMPT | IOC_PR_PREEMPT_ABORT
        | IOC_PR_CLEAR => {
            if host.capable(Capability::Admin) {
                Errno::EOPNOTSUPP
            } else {
                Errno::EPERM
            }
        }
        _ => device.refusal(),
    }
}
