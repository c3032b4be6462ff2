//! The discard limits of a block device, which do not change.

use disk::Errno;
use disk::host::Provisioning;

use crate::sys::{DeviceNumber, File, PathBuffer, decimal};

/// The discard limits of a block device in one word; 0 for a device without discard.
#[derive(Clone, Copy, Default)]
pub struct DiscardLimits(pub u64);

/// Discarded blocks read as zeros; the low 32 bits are the granularity in bytes.
const THIN: u64 = 1 << 32;

impl DiscardLimits {
    /// Reads the limits of a device's queue (Documentation/ABI/stable/sysfs-block).
    pub fn read(number: DeviceNumber) -> DiscardLimits {
        let limit = |attribute| queue(number, attribute);
        match (limit("discard_max_bytes"), || limit("write_zeroes_max_bytes")) {
            (Ok(1..), zeroes) if matches!(zeroes(), Ok(1..)) => {
                let granularity = limit("discard_granularity").unwrap_or(0);
                DiscardLimits(THIN | granularity.min(u32::MAX.into()))
            }
            _ => DiscardLimits(0),
        }
    }

    /// Returns the provisioning.
    pub fn provisioning(self) -> Provisioning {
        Provisioning { is_thin: self.0 & THIN != 0, granularity: self.0 as u32, alignment: 0 }
    }
}

/// Returns an attribute of a block device's queue; a partition has its disk's.
fn queue(number: DeviceNumber, attribute: &str) -> Result<u64, Errno> {
    let read = |up: &str| {
        let path = PathBuffer::format(format_args!("/sys/dev/block/{number}/{up}queue/{attribute}"))?;
        let mut text = [0; 24];
        let file = File::open(path.as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC)?;
        let length = file.read(&mut text)?;
        let digits = text.get(..length).unwrap_or_default().trim_ascii();
        decimal(digits).ok_or(Errno::EINVAL)
    };
    read("").or_else(|_| read("../"))
}
