//! A disk in memory, for tests and fuzz targets.
//!
//! [`MemoryHost`] is an engine whose caller and backing device are in memory, and whose calls can be made to fail. A
//! [`Disk`] is a listed device on such a host: it sends SCSI commands through `SG_IO` ([`sg_io`]) and ATA commands by every
//! request that carries them ([`ata`]), and checks what holds for each of them.
#![forbid(unsafe_code)]

pub mod ata;
pub mod cluster;
pub mod host;
pub mod sense;
pub mod sg_io;

pub use cluster::Cluster;
pub use host::{Call, ERRNOS, Fault, MemoryHost};
pub use sg_io::Disk;

/// Returns this many 512-byte blocks, each filled with the lowest byte of its number.
pub fn numbered_blocks(blocks: usize) -> Vec<u8> {
    (0..blocks).flat_map(|block| [block as u8; 512]).collect()
}
