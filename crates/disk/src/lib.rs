//! The answers of a physical disk to ioctl(2): a pure function of the request, the device and the
//! caller's memory.
//!
//! An engine catches the call, finds the [`Device`] and calls [`answer`] with a [`Host`] that lends
//! the caller's memory and the backing device. A request that a disk driver would carry out is
//! never forwarded to the kernel: on a logical volume it would reach the whole disk underneath.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
pub mod ata;
pub mod bytes;
pub mod conf;
pub mod copies;
pub mod device;
pub mod entry;
pub mod errno;
pub mod geometry;
pub mod host;
pub mod identity;
pub mod ioctl;
mod medium;
pub mod names;
pub mod nexus;
mod operation;
pub mod physical_disk;
pub mod printed;
pub mod reservation;
pub mod sat;
pub mod scsi;
pub mod settings;
pub mod shared;
pub mod trace;
mod transfer;

pub use abi::Abi;
pub use device::{Capacity, Device};
pub use errno::Errno;
pub use host::{Backing, Caller, Capability, Host, Medium, Nexuses, Peers};
pub use ioctl::{Answer, answer, request, sg_io};
pub use nexus::Nexus;
pub use settings::Settings;
pub use shared::Shared;
pub use trace::record;
