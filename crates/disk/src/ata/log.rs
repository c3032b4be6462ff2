//! SMART data and logs (ACS-3, 7.48 and 9): pages of 512 bytes, little-endian, about a disk that counts nothing.

use super::{Task, identify};
use crate::{Host, State};

/// Logs (ACS-3, 9.1), all that there are: address, pages as READ LOG EXT gives them, pages as SMART READ LOG does.
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

/// A page in the making.
struct Page([u8; 512]);

impl Page {
    fn new(bytes: &[u8]) -> Page {
        let mut page = Page([0; 512]);
        page.set(0, bytes);
        page
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    /// With a checksum in the last byte: all bytes add up to 0.
    fn summed(mut self) -> [u8; 512] {
        let sum = self.0.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
        self.set(511, &[sum.wrapping_neg()]);
        self.0
    }
}

/// SMART READ DATA: no attributes, for nothing is counted. Self-tests and the error log are there.
pub fn smart_data(state: &State) -> [u8; 512] {
    let mut page = Page::new(&0x0010u16.to_le_bytes());
    // How the last self-test ended; 0 where there was none, too.
    page.set(363, &[last_test(state).map_or(0, |(_, status, _)| status)]);
    // Off-line data collection: EXECUTE OFF-LINE IMMEDIATE, self-tests.
    page.set(367, &[0x11]);
    // Saved before a power mode, and by itself; error log; a self-test takes a minute at most.
    page.set(368, &[0x03, 0x00, 0x01, 0, 1, 1]);
    page.summed()
}

/// SMART READ ATTRIBUTE THRESHOLDS: of no attributes.
pub fn smart_thresholds() -> [u8; 512] {
    Page::new(&0x0010u16.to_le_bytes()).summed()
}

/// Remembers the last self-test: what it was, and the logical block that it could not read.
pub fn remember(state: &State, kind: u8, bad: Option<u64>) {
    state.self_test.set(u32::from(kind) << 8 | u32::from(bad.is_some()));
    state.self_test_block.set(bad.unwrap_or(0));
}

/// The last self-test: its kind, its status (0, or 7: the read element failed), and the block that could not be read.
fn last_test(state: &State) -> Option<(u8, u8, u64)> {
    let [failed, kind, ..] = state.self_test.get(0).to_le_bytes();
    match failed {
        _ if kind == 0 => None,
        0 => Some((kind, 0x00, 0xffff_ffff_ffff)),
        _ => Some((kind, 0x70, state.self_test_block.get())),
    }
}

/// A page of a log that SMART READ LOG gives.
pub fn smart<H: Host>(task: &Task<'_, H>, address: u8, page: u16) -> Option<[u8; 512]> {
    let &(.., pages) = LOGS.iter().find(|log| log.0 == address)?;
    if page >= pages {
        return None;
    }
    Some(match address {
        DIRECTORY => directory(|log| log.2),
        SUMMARY_ERROR => Page::new(&[1]).summed(),
        _ => {
            let mut page = Page::new(&1u16.to_le_bytes());
            if let Some((kind, status, block)) = last_test(task.device.state) {
                let block = u32::try_from(block).unwrap_or(u32::MAX).to_le_bytes();
                page.set(2, &[kind, status, 0, 0, 0, block[0], block[1], block[2], block[3]]);
                page.set(508, &[1]);
            }
            page.summed()
        }
    })
}

/// A page of a log that READ LOG EXT gives.
pub fn general<H: Host>(task: &Task<'_, H>, address: u8, page: u16) -> Option<[u8; 512]> {
    let &(_, pages, _) = LOGS.iter().find(|log| log.0 == address)?;
    if page >= pages {
        return None;
    }
    let number = page as u8;
    Some(match address {
        DIRECTORY => directory(|log| log.1),
        EXTENDED_ERROR => Page::new(&[1]).summed(),
        STATISTICS => statistics(number),
        EXTENDED_SELF_TEST => {
            let mut page = Page::new(&[1]);
            if let Some((kind, status, block)) = last_test(task.device.state) {
                page.set(2, &[1, 0, kind, status, 0, 0, 0]);
                page.set(9, block.to_le_bytes().get(..6).unwrap_or_default());
            }
            page.summed()
        }
        // No queued command has failed.
        QUEUED_ERROR => Page::new(&[0x80]).summed(),
        // No counters: 0 ends them.
        PHY_EVENTS => Page::new(&[]).summed(),
        _ if number == 0 => Page::new(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0x00, 0x01]).0,
        _ => identify::bytes(&identify::sector(task.device, task.host, task.capacity)),
    })
}

/// How many pages the log of each address has.
fn directory(pages: impl Fn(&(u8, u16, u16)) -> u16) -> [u8; 512] {
    let mut page = Page::new(&1u16.to_le_bytes());
    for log in LOGS.iter().filter(|log| log.0 != DIRECTORY) {
        page.set(2 * usize::from(log.0), &pages(log).to_le_bytes());
    }
    page.0
}

/// A device statistic that the disk has, and whose value it does not know (ACS-3, 9.5.3).
const UNKNOWN: u64 = 0x80 << 56;

/// Device statistics: power-on hours and temperature, neither of them known.
fn statistics(number: u8) -> [u8; 512] {
    let mut page = Page::new(&[1, 0, number]);
    match number {
        0x00 => page.set(8, &[3, 0x00, 0x01, 0x05]),
        0x01 => page.set(16, &UNKNOWN.to_le_bytes()),
        0x05 => page.set(8, &UNKNOWN.to_le_bytes()),
        _ => page = Page::new(&[]),
    }
    page.0
}
