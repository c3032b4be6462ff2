//! What the kernel says of a block device once and for all: whether and how it gives back space.

use core::fmt::Write;

use disk::Errno;
use disk::host::Provisioning;

use crate::rights;
use crate::sys::{File, Name, Status, decimal};

/// What was learned of a block device, in one word. 0: nothing, which is a device that keeps its space.
#[derive(Clone, Copy, Default)]
pub struct Facts(pub u64);

/// Space is given back, and reads as zeros; the low 32 bits are the bytes that are given back at once.
const THIN: u64 = 1 << 32;

impl Facts {
    /// What is learned of a block device; of a file there is nothing to be learned.
    pub fn of(status: &Status, learn: impl FnOnce((u32, u32)) -> Facts) -> Facts {
        if status.kind() != libc::S_IFBLK {
            return Facts::default();
        }
        rights::learn();
        learn(status.number)
    }

    /// Asks for the limits of a device's queue (Documentation/ABI/stable/sysfs-block).
    pub fn learn(number: (u32, u32)) -> Facts {
        let limit = |attribute| queue(number, attribute);
        match (limit("discard_max_bytes"), || limit("write_zeroes_max_bytes")) {
            (Ok(1..), zeroes) if matches!(zeroes(), Ok(1..)) => {
                let granularity = limit("discard_granularity").unwrap_or(0);
                Facts(THIN | granularity.min(u32::MAX.into()))
            }
            _ => Facts(0),
        }
    }

    /// As the core has it.
    pub fn provisioning(self) -> Provisioning {
        Provisioning { is_thin: self.0 & THIN != 0, granularity: self.0 as u32, alignment: 0 }
    }
}

/// A number of a block device's queue; a partition has its disk's.
fn queue((major, minor): (u32, u32), attribute: &str) -> Result<u64, Errno> {
    let read = |up: &str| {
        let mut name = Name::new();
        let _ = write!(name, "/sys/dev/block/{major}:{minor}/{up}queue/{attribute}");
        let mut text = [0; 24];
        let length = File::open(name.as_c_str()?, libc::O_RDONLY | libc::O_CLOEXEC)?.read(&mut text)?;
        let digits = text.get(..length).unwrap_or_default().trim_ascii();
        decimal(digits).ok_or(Errno::EINVAL)
    };
    read("").or_else(|_| read("../"))
}
