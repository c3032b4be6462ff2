//! The IDENTIFY DEVICE sector of an ATA disk (ACS-3, 7.12.6).

use crate::Capacity;
use crate::entry::{Entry, Kind};
use crate::geometry::identify_geometry;
use crate::identity;

/// The most sectors of one READ MULTIPLE (word 47).
pub const MAX_MULTIPLE: u8 = 16;

/// The bytes of the sector that `HDIO_OBSOLETE_IDENTITY` gives.
pub const OBSOLETE_IDENTITY: usize = 142;

/// The 256 words, strings as on the wire: each word's first character in its high byte.
///
/// `physical` is the size of a physical block in bytes.
pub fn identify(entry: &Entry<'_>, capacity: Capacity, physical: u32) -> [u16; 256] {
    let mut words = [0; 256];
    let mut set = |at: usize, values: &[u16]| {
        for (word, value) in words.iter_mut().skip(at).zip(values) {
            *word = *value;
        }
    };
    let serial_ata = entry.kind == Kind::Sata;
    let blocks = capacity.blocks;
    let short = |value: u64| [value as u16, (value >> 16) as u16];

    let geometry = identify_geometry(capacity.sectors());
    let chs = [geometry.cylinders as u16, u16::from(geometry.heads), u16::from(geometry.sectors)];
    let [cylinders, heads, per_track] = chs;
    set(0, &[0x0040, cylinders, 0xc837, heads, 0, 0, per_track]);
    set(54, &chs);
    set(57, &short(u64::from(cylinders) * u64::from(heads) * u64::from(per_track)));

    let mut firmware = [b' '; 8];
    for (to, from) in firmware.iter_mut().zip(identity::REVISION) {
        *to = *from;
    }
    set(10, &text::<10>(&identity::serial(entry)));
    set(23, &text::<4>(&firmware));
    set(27, &text::<20>(&identity::model(entry)));

    set(47, &[0x8000 | u16::from(MAX_MULTIPLE), 0x4000]);
    // Standby timers, IORDY, LBA and DMA.
    set(49, &[0x2f00, 0x4000, 0x0200]);
    // Words 54 to 58, 64 to 70 and 88 are valid.
    set(53, &[0x0007]);
    set(60, &short(blocks.min(0x0fff_ffff)));
    // Multiword DMA 0 to 2; PIO 3 and 4; 120 ns a cycle.
    set(63, &[0x0007, 0x0003, 120, 120, 120, 120]);
    if serial_ata {
        // Serial ATA up to 6 Gb/s.
        set(76, &[0x000e]);
        set(222, &[0x103f]);
    } else {
        // The device is the first of its cable, of 80 conductors, and passed its diagnostics.
        set(93, &[0x600b]);
        set(222, &[0x0003]);
    }
    // ATA/ATAPI-4 to ACS-3.
    set(80, &[0x07f0]);
    // Power management, write cache, look-ahead; FLUSH CACHE (EXT), 48-bit addresses; world-wide name: there and on.
    set(82, &[0x0068, 0x7400, 0x4100, 0x0068, 0x3400, 0x4100]);
    // Ultra DMA 0 to 5, or to 6 on Serial ATA; the highest is selected.
    set(88, &[if serial_ata { 0x407f } else { 0x203f }]);
    set(100, &[blocks as u16, (blocks >> 16) as u16, (blocks >> 32) as u16, (blocks >> 48) as u16]);

    let ratio = physical.checked_div(capacity.block).and_then(u32::checked_ilog2).unwrap_or(0);
    let mut sizes = 0x4000;
    if ratio > 0 {
        sizes |= 0x2000 | (ratio as u16 & 0xf);
        set(209, &[0x4000]);
    }
    if capacity.block > 512 {
        sizes |= 0x1000;
        set(117, &short(u64::from(capacity.block / 2)));
    }
    set(106, &[sizes]);
    let wwn = identity::wwn(entry);
    set(108, &[(wwn >> 48) as u16, (wwn >> 32) as u16, (wwn >> 16) as u16, wwn as u16]);

    // The integrity word: all bytes of the sector add up to 0.
    let sum = words.iter().flat_map(|word| word.to_le_bytes()).fold(0xa5u8, u8::wrapping_add);
    if let Some(last) = words.last_mut() {
        *last = u16::from(sum.wrapping_neg()) << 8 | 0xa5;
    }
    words
}

/// Text in words.
fn text<const N: usize>(bytes: &[u8]) -> [u16; N] {
    let mut words = [0; N];
    for (word, pair) in words.iter_mut().zip(bytes.chunks_exact(2)) {
        *word = pair.iter().fold(0, |word, &byte| word << 8 | u16::from(byte));
    }
    words
}

/// Where the strings stand, in bytes: serial number, firmware revision, model.
const STRINGS: [core::ops::Range<usize>; 3] = [20..40, 46..54, 54..94];

/// The sector as `HDIO_GET_IDENTITY` gives it: little-endian words, but strings in the order in which they are read
/// (`struct hd_driveid`; `ata_id_to_hd_driveid` in the kernel's include/linux/ata.h).
pub fn hd_driveid(words: &[u16; 256]) -> [u8; 512] {
    let mut bytes = [0; 512];
    for (byte, value) in bytes.iter_mut().zip(words.iter().flat_map(|word| word.to_le_bytes())) {
        *byte = value;
    }
    for range in STRINGS {
        for pair in bytes.get_mut(range).unwrap_or_default().chunks_exact_mut(2) {
            pair.reverse();
        }
    }
    bytes
}
