//! The IDENTIFY DEVICE sector of an ATA disk (ACS-3, 7.12.6).

use super::command::MAX_RANGE_BLOCKS;
use crate::bytes::copy;
use crate::device::{Capacity, Device};
use crate::entry::{Entry, Kind};
use crate::geometry::identify_geometry;
use crate::host::Host;
use crate::identity;
use crate::medium::is_thin;
use crate::settings::{DRA, SMART, WCE};

/// The most sectors per DRQ data block of READ MULTIPLE (word 47).
pub const MAX_MULTIPLE: u8 = 16;

/// Returns whether SET MULTIPLE MODE accepts a number of sectors; 0 turns multiple mode off.
pub fn has_multiple(sectors: u8) -> bool {
    sectors == 0 || sectors <= MAX_MULTIPLE && sectors.is_power_of_two()
}

/// The bytes of the sector that `HDIO_OBSOLETE_IDENTITY` returns.
pub const OBSOLETE_IDENTITY: usize = 142;

/// The most sectors that words 100 to 103 can hold.
const MAX_SECTORS: u64 = 0xffff_ffff_ffff;

/// The features in the sector and their state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Bytes per physical block.
    pub physical: u32,
    /// DATA SET MANAGEMENT deallocates blocks, which then read as zeros.
    pub thin: bool,
    /// The write cache is on.
    pub write_cache: bool,
    /// Read look-ahead is on.
    pub look_ahead: bool,
    /// SMART is on.
    pub smart: bool,
    /// The level of advanced power management; 0: off.
    pub power_management: u8,
    /// Sectors per DRQ data block of READ MULTIPLE; 0: multiple mode is off.
    pub multiple: u8,
    /// The DMA mode, as SET FEATURES codes it (ACS-3, 7.45.8).
    pub transfer_mode: u8,
}

impl Features {
    /// Returns those after power-on.
    pub fn fresh(kind: Kind, physical: u32) -> Features {
        Features {
            physical,
            thin: false,
            write_cache: true,
            look_ahead: true,
            smart: true,
            power_management: 0,
            multiple: 0,
            transfer_mode: ULTRA_DMA | highest_ultra_dma(kind),
        }
    }

    /// Returns the current ones.
    fn current(device: &Device<'_>, host: &impl Host) -> Features {
        let settings = device.settings;
        let fresh = Features::fresh(device.entry.kind, device.physical_block(host).unwrap_or(0));
        Features {
            thin: is_thin(host),
            write_cache: settings.switches.is_on(WCE),
            look_ahead: !settings.switches.is_on(DRA),
            smart: settings.switches.is_on(SMART),
            power_management: settings.power_management.get(0) as u8,
            multiple: settings.multiple.get(0) as u8,
            transfer_mode: settings.transfer_mode.get(fresh.transfer_mode.into()) as u8,
            ..fresh
        }
    }

    /// Returns whether a disk has a transfer mode: PIO by default, PIO 0 to 4, multiword DMA 0 to
    /// 2, Ultra DMA.
    pub fn has_mode(kind: Kind, transfer_mode: u8) -> bool {
        let number = transfer_mode & 0x07;
        match transfer_mode & 0xf8 {
            0x00 => number <= 1,
            0x08 => number <= 4,
            MULTIWORD_DMA => number <= 2,
            ULTRA_DMA => number <= highest_ultra_dma(kind),
            _ => false,
        }
    }

    /// Returns whether a transfer mode is a DMA mode.
    pub fn is_dma(transfer_mode: u8) -> bool {
        transfer_mode >= MULTIWORD_DMA
    }

    /// Returns the bit of the selected mode in the word of these DMA modes.
    fn selected(&self, modes: u8) -> u16 {
        if self.transfer_mode & 0xf8 == modes { 0x100 << (self.transfer_mode & 0x07) } else { 0 }
    }
}

/// Transfer modes, without the number of the mode.
const MULTIWORD_DMA: u8 = 0x20;
const ULTRA_DMA: u8 = 0x40;

/// Returns the highest Ultra DMA mode: 5, or 6 on Serial ATA.
fn highest_ultra_dma(kind: Kind) -> u8 {
    if kind == Kind::Sata { 6 } else { 5 }
}

/// Fills the sector of a disk as it is now.
#[inline(never)]
pub(crate) fn sector(device: &Device<'_>, host: &impl Host, capacity: Capacity, out: &mut [u8; 512]) {
    let mut words = [0; 256];
    set_words(device.entry, capacity, &Features::current(device, host), &mut words);
    fill(&words, out);
}

/// Returns the bits of a feature that is on.
fn when(on: bool, bits: u16) -> u16 {
    if on { bits } else { 0 }
}

/// Returns the 256 words; the first character of a string is in the high byte of its word.
pub fn identify(entry: &Entry<'_>, capacity: Capacity, features: &Features) -> [u16; 256] {
    let mut words = [0; 256];
    set_words(entry, capacity, features, &mut words);
    words
}

/// Sets the words, which are 0.
fn set_words(entry: &Entry<'_>, capacity: Capacity, features: &Features, words: &mut [u16; 256]) {
    let mut set = |at: usize, values: &[u16]| copy(words, at, values);
    let serial_ata = entry.kind == Kind::Sata;
    let blocks = capacity.blocks.min(MAX_SECTORS);
    let short = |value: u64| [value as u16, (value >> 16) as u16];

    let geometry = identify_geometry(capacity.blocks);
    let chs = [geometry.cylinders as u16, u16::from(geometry.heads), u16::from(geometry.sectors)];
    let [cylinders, heads, per_track] = chs;
    set(0, &[0x0040, cylinders, 0xc837, heads, 0, 0, per_track]);
    set(54, &chs);
    set(57, &short(u64::from(cylinders) * u64::from(heads) * u64::from(per_track)));

    let mut firmware = [b' '; 8];
    copy(&mut firmware, 0, identity::REVISION);
    set(10, &text::<10>(&identity::serial(entry)));
    set(23, &text::<4>(&firmware));
    set(27, &text::<20>(&identity::model(entry)));

    set(47, &[0x8000 | u16::from(MAX_MULTIPLE), 0x4000]);
    // Standby timers, IORDY, LBA and DMA.
    set(49, &[0x2f00, 0x4000, 0x0200]);
    // Words 54 to 58, 64 to 70 and 88 are valid.
    set(53, &[0x0007]);
    set(59, &[0x0100 | u16::from(features.multiple)]);
    set(60, &short(blocks.min(0x0fff_ffff)));
    // Multiword DMA 0 to 2; PIO 3 and 4; 120 ns a cycle.
    set(63, &[0x0007 | features.selected(MULTIWORD_DMA), 0x0003, 120, 120, 120, 120]);
    // Deterministic data, all zeros, after TRIM.
    set(69, &[when(features.thin, 0x4020)]);
    if serial_ata {
        // Serial ATA up to 6 Gb/s, the negotiated speed; Phy event counters.
        set(76, &[0x040e, 0x0006]);
        set(222, &[0x103f]);
    } else {
        // The device is the first of its cable, of 80 conductors, and passed its diagnostics.
        set(93, &[0x600b]);
        set(222, &[0x0003]);
    }
    // ATA/ATAPI-4 to ACS-3.
    set(80, &[0x07f0]);
    // NOP, look-ahead, write cache, power management, SMART; FLUSH CACHE (EXT), 48-bit addresses,
    // advanced power management; world-wide name, FUA, READ LOG EXT, SMART's self-tests and error
    // log: supported, and enabled.
    let on =
        when(features.smart, 0x0001) | when(features.write_cache, 0x0020) | when(features.look_ahead, 0x0040);
    let managed = when(features.power_management > 0, 0x0008);
    set(82, &[0x4069, 0x7408, 0x4163, 0x4008 | on, 0xb400 | managed, 0x4163]);
    set(91, &[features.power_management.into()]);
    // READ LOG DMA EXT: supported, and enabled.
    set(119, &[0x4008, 0x4008]);
    // Ultra DMA.
    set(88, &[((0x2 << highest_ultra_dma(entry.kind)) - 1) | features.selected(ULTRA_DMA)]);
    if features.thin {
        set(105, &[MAX_RANGE_BLOCKS]);
        set(169, &[0x0001]);
    }
    set(100, &[blocks as u16, (blocks >> 16) as u16, (blocks >> 32) as u16, (blocks >> 48) as u16]);

    let ratio = features.physical.checked_div(capacity.block_size).and_then(u32::checked_ilog2).unwrap_or(0);
    let mut sizes = 0x4000;
    if ratio > 0 {
        sizes |= 0x2000 | (ratio as u16 & 0xf);
        set(209, &[0x4000]);
    }
    if capacity.block_size > 512 {
        sizes |= 0x1000;
        set(117, &short(u64::from(capacity.block_size / 2)));
    }
    set(106, &[sizes]);
    let wwn = identity::wwn(entry);
    set(108, &[(wwn >> 48) as u16, (wwn >> 32) as u16, (wwn >> 16) as u16, wwn as u16]);

    // The integrity word: all bytes of the sector add up to 0.
    let sum = words.iter().flat_map(|word| word.to_le_bytes()).fold(0xa5u8, u8::wrapping_add);
    if let Some(last) = words.last_mut() {
        *last = u16::from(sum.wrapping_neg()) << 8 | 0xa5;
    }
}

/// Returns text as words.
fn text<const N: usize>(bytes: &[u8]) -> [u16; N] {
    let mut words = [0; N];
    for (word, pair) in words.iter_mut().zip(bytes.chunks_exact(2)) {
        *word = pair.iter().fold(0, |word, &byte| word << 8 | u16::from(byte));
    }
    words
}

/// Writes the words in little-endian order.
pub fn fill(words: &[u16; 256], out: &mut [u8; 512]) {
    for (bytes, word) in out.chunks_exact_mut(2).zip(words) {
        copy(bytes, 0, &word.to_le_bytes());
    }
}

/// The bytes of the strings: serial number, firmware revision, model.
const STRINGS: [core::ops::Range<usize>; 3] = [20..40, 46..54, 54..94];

/// Converts the sector to `struct hd_driveid`, in which the characters of strings are in reading
/// order (`HDIO_GET_IDENTITY`; `ata_id_to_hd_driveid` in the kernel's include/linux/ata.h).
pub fn hd_driveid(sector: &mut [u8; 512]) {
    for range in STRINGS {
        for pair in sector.get_mut(range).unwrap_or_default().chunks_exact_mut(2) {
            pair.reverse();
        }
    }
}
