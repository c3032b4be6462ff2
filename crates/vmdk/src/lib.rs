//! The formats of virtual disks and virtual machines: descriptors (.vmdk), virtual machines' files (.vmx), the adapters in both, and
//! the partition tables of which a virtual disk on partitions has a copy.
//!
//! Nothing here opens a file. Errors say what is wrong; what to do about it is the command's to say.

#![forbid(unsafe_code)]

pub mod adapter;
pub mod descriptor;
pub mod table;
mod text;
pub mod vmx;

pub use text::{Pair, Text};

/// Computes the CRC of UEFI (and of Ethernet).
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8)
            .fold(crc ^ u32::from(byte), |crc: u32, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}
