//! SMART data and logs (ACS-3, 7.48 and 9): pages of 512 bytes, little-endian, of a disk that
//! counts nothing.

use super::identify;
use crate::bytes::copy;
use crate::device::{Capacity, Device};
use crate::host::Host;
use crate::settings::Settings;

/// The logs (ACS-3, 9.1): address, pages of READ LOG EXT, pages of SMART READ LOG.
const LOGS: [(u8, u16, u16); 9] = [
    (DIRECTORY, 1, 1),
    (SUMMARY_ERROR, 0, 1),
    (EXTENDED_ERROR, 1, 0),
    (STATISTICS, 8, 0),
    (SELF_TEST, 0, 1),
    (EXTENDED_SELF_TEST, 1, 0),
    (QUEUED_ERROR, 1, 0),
    (PHY_EVENTS, 1, 0),
    (IDENTIFY_DATA, 2, 0),
];

const DIRECTORY: u8 = 0x00;
const SUMMARY_ERROR: u8 = 0x01;
const EXTENDED_ERROR: u8 = 0x03;
const STATISTICS: u8 = 0x04;
const SELF_TEST: u8 = 0x06;
const EXTENDED_SELF_TEST: u8 = 0x07;
const QUEUED_ERROR: u8 = 0x10;
const PHY_EVENTS: u8 = 0x11;
const IDENTIFY_DATA: u8 = 0x30;

/// Builds a page of 512 bytes.
pub struct Page(pub [u8; 512]);

impl Page {
    /// Returns a page of zeros.
    pub fn new() -> Page {
        Page([0; 512])
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        copy(&mut self.0, at, bytes);
    }

    /// Sets the checksum, the last byte: all bytes add up to 0.
    fn set_checksum(&mut self) {
        let sum = self.0.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
        self.set(511, &[sum.wrapping_neg()]);
    }
}

/// Fills SMART READ DATA: no attributes; self-tests and the error log are supported.
pub fn smart_data(settings: &Settings, out: &mut Page) {
    smart_thresholds(out);
    // The status of the last self-test; 0 also before any.
    out.set(363, &[last_self_test(settings).map_or(0, |(_, status, _)| status)]);
    // Off-line data collection: EXECUTE OFF-LINE IMMEDIATE, self-tests.
    out.set(367, &[0x11]);
    // SMART capability: attributes are saved; error log; a self-test takes a minute.
    out.set(368, &[0x03, 0x00, 0x01, 0, 1, 1]);
    out.set(511, &[0]);
    out.set_checksum();
}

/// Fills SMART READ ATTRIBUTE THRESHOLDS, of no attributes.
pub fn smart_thresholds(out: &mut Page) {
    out.set(0, &0x0010u16.to_le_bytes());
    out.set_checksum();
}

/// Records the last self-test: its subcommand and the LBA that it could not read.
pub fn record_self_test(settings: &Settings, kind: u8, bad: Option<u64>) {
    settings.self_test.set(u32::from(kind) << 8 | u32::from(bad.is_some()));
    settings.self_test_block.set(bad.unwrap_or(0));
}

/// Returns the last self-test: its subcommand, its status (0, or 7: the read element failed), and
/// the failing LBA.
fn last_self_test(settings: &Settings) -> Option<(u8, u8, u64)> {
    let [failed, kind, ..] = settings.self_test.get(0).to_le_bytes();
    match failed {
        _ if kind == 0 => None,
        0 => Some((kind, 0x00, 0xffff_ffff_ffff)),
        _ => Some((kind, 0x70, settings.self_test_block.get())),
    }
}

/// Fills a page of SMART READ LOG; returns false if it does not exist.
pub fn smart_log(settings: &Settings, address: u8, page: u16, out: &mut Page) -> bool {
    let Some(&(.., pages)) = LOGS.iter().find(|log| log.0 == address) else { return false };
    if page >= pages {
        return false;
    }
    match address {
        DIRECTORY => directory(|log| log.2, out),
        SUMMARY_ERROR => {
            out.set(0, &[1]);
            out.set_checksum();
        }
        _ => {
            out.set(0, &1u16.to_le_bytes());
            if let Some((kind, status, block)) = last_self_test(settings) {
                let block = u32::try_from(block).unwrap_or(u32::MAX).to_le_bytes();
                out.set(2, &[kind, status, 0, 0, 0, block[0], block[1], block[2], block[3]]);
                out.set(508, &[1]);
            }
            out.set_checksum();
        }
    }
    true
}

/// Fills a page of READ LOG EXT; returns false if it does not exist.
pub fn general_purpose_log(
    device: &Device<'_>,
    host: &impl Host,
    capacity: Capacity,
    address: u8,
    page: u16,
    out: &mut Page,
) -> bool {
    let Some(&(_, pages, _)) = LOGS.iter().find(|log| log.0 == address) else { return false };
    if page >= pages {
        return false;
    }
    let number = page as u8;
    match address {
        DIRECTORY => directory(|log| log.1, out),
        STATISTICS => statistics(number, out),
        EXTENDED_ERROR => {
            out.set(0, &[1]);
            out.set_checksum();
        }
        EXTENDED_SELF_TEST => {
            out.set(0, &[1]);
            if let Some((kind, status, block)) = last_self_test(device.settings) {
                out.set(2, &[1, 0, kind, status, 0, 0, 0]);
                out.set(9, block.to_le_bytes().get(..6).unwrap_or_default());
            }
            out.set_checksum();
        }
        // No queued command has failed.
        QUEUED_ERROR => {
            out.set(0, &[0x80]);
            out.set_checksum();
        }
        // No counters: 0 ends them.
        PHY_EVENTS => {}
        _ if number == 0 => out.set(0, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0x00, 0x01]),
        _ => identify::sector(device, host, capacity, &mut out.0),
    }
    true
}

/// Fills the directory: the number of pages of each log.
fn directory(pages: impl Fn(&(u8, u16, u16)) -> u16, out: &mut Page) {
    out.set(0, &1u16.to_le_bytes());
    for log in LOGS.iter().filter(|log| log.0 != DIRECTORY) {
        out.set(2 * usize::from(log.0), &pages(log).to_le_bytes());
    }
}

/// A device statistic that is supported and whose value is not valid (ACS-3, 9.5.3).
const UNKNOWN: u64 = 0x80 << 56;

/// Fills a page of device statistics: power-on hours and temperature, neither of them valid.
fn statistics(number: u8, out: &mut Page) {
    let (at, bytes): (usize, &[u8]) = match number {
        0x00 => (8, &[3, 0x00, 0x01, 0x05]),
        0x01 => (16, &UNKNOWN.to_le_bytes()),
        0x05 => (8, &UNKNOWN.to_le_bytes()),
        _ => return,
    };
    out.set(0, &[1, 0, number]);
    out.set(at, bytes);
}
