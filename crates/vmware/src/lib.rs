//! The client's side: what a program that looks for a physical disk asks a device, and what VMware
//! concludes from it.
#![deny(unsafe_code)]

mod conclusion;
mod facts;
mod ioctl;
mod wire;

pub use conclusion::{Adapter, Chs, Conclusion, Disk};
pub use disk::Errno;
pub use facts::{Asked, Facts, Geometry, Identity, ScsiAddress, open};
pub use ioctl::{Input, LONGEST, is_self_contained, resend};
