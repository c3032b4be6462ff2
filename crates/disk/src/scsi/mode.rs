//! Mode pages (SPC-4, 7.5; SBC-3, 6.5). The disk saves nothing.

use super::sense::Sense;
use crate::entry::Kind;
use crate::settings::{D_SENSE, DEFAULTS, DRA, SWP, Switches, WCE};

/// PC of MODE SENSE: which values are returned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PageControl {
    /// Current values.
    Current,
    /// Changeable values: a mask of the bits that can be changed.
    Changeable,
    /// Default values, which are also the saved ones.
    Default,
}

impl PageControl {
    /// Returns the value of the field.
    pub fn from_field(control: u8) -> PageControl {
        match control & 3 {
            0 => PageControl::Current,
            1 => PageControl::Changeable,
            _ => PageControl::Default,
        }
    }
}

/// A mode page.
struct Page {
    code: u8,
    subpage: u8,
    /// The bytes that follow the page length; those missing here are 0.
    fixed: &'static [u8],
    /// The page length.
    length: usize,
    /// The changeable bits: byte of the page, bit, and switch.
    switches: &'static [(usize, u8, u32)],
}

/// Read-Write Error Recovery, byte 2.
const AWRE: u8 = 0x80;
const ARRE: u8 = 0x40;
/// Control, bytes 2 and 3: log parameters are not saved; commands may be reordered.
const GLTSD: u8 = 0x02;
const UNRESTRICTED_REORDERING: u8 = 0x10;
/// Protocol-Specific Port: PROTOCOL IDENTIFIER.
const SAS: u8 = 0x06;
/// Informational Exceptions Control, byte 2: nothing is reported.
const DEXCPT: u8 = 0x08;

/// The pages, in the order in which MODE SENSE returns them.
static PAGES: &[Page] = &[
    // Read-write error recovery.
    Page { code: 0x01, subpage: 0, fixed: &[AWRE | ARRE], length: 10, switches: &[] },
    // Disconnect-reconnect.
    Page { code: 0x02, subpage: 0, fixed: &[], length: 14, switches: &[] },
    // Caching.
    Page { code: 0x08, subpage: 0, fixed: &[], length: 18, switches: &[(2, 0x04, WCE), (12, 0x20, DRA)] },
    // Control; the busy timeout is unlimited.
    Page {
        code: 0x0a,
        subpage: 0,
        fixed: &[GLTSD, UNRESTRICTED_REORDERING, 0, 0, 0, 0, 0xff, 0xff],
        length: 10,
        switches: &[(2, 0x04, D_SENSE), (4, 0x08, SWP)],
    },
    // Control extension.
    Page { code: 0x0a, subpage: 1, fixed: &[], length: 28, switches: &[] },
    // Protocol-specific port: SAS, which an ATA disk does not have.
    Page { code: SAS_PORT, subpage: 0, fixed: &[SAS], length: 6, switches: &[] },
    // Informational exceptions control.
    Page { code: 0x1c, subpage: 0, fixed: &[DEXCPT], length: 10, switches: &[] },
];

const SAS_PORT: u8 = 0x19;

/// Returns the pages of a kind of disk.
fn pages(kind: Kind) -> impl Iterator<Item = &'static Page> {
    PAGES.iter().filter(move |page| kind == Kind::Scsi || page.code != SAS_PORT)
}

impl Page {
    /// Returns the length of the header: 4 bytes with a subpage code, 2 without.
    fn header(&self) -> usize {
        if self.subpage == 0 { 2 } else { 4 }
    }

    /// Returns a byte of the page.
    fn byte(&self, at: usize, switches: u32, values: PageControl) -> u8 {
        let header = self.header();
        match at {
            0 => self.code | if self.subpage == 0 { 0 } else { 0x40 },
            1 if self.subpage == 0 => self.length as u8,
            1 => self.subpage,
            2 if self.subpage != 0 => (self.length >> 8) as u8,
            3 if self.subpage != 0 => self.length as u8,
            _ => {
                let bits = self.switches.iter().filter(|(byte, ..)| *byte == at);
                let (mask, on) = bits.fold((0, 0), |(mask, on), &(_, bit, switch)| {
                    (mask | bit, if switches & switch != 0 { on | bit } else { on })
                });
                let fixed = self.fixed.get(at.wrapping_sub(header)).copied().unwrap_or(0);
                if values == PageControl::Changeable { mask } else { fixed & !mask | on }
            }
        }
    }
}

/// Passes the bytes of the requested pages to `put`; an error if there is no such page.
pub fn sense(
    kind: Kind,
    switches: &Switches,
    code: u8,
    subpage: u8,
    values: PageControl,
    mut put: impl FnMut(u8),
) -> Result<(), Sense> {
    if code == 0x3f && !matches!(subpage, 0x00 | 0xff) {
        return Err(Sense::invalid_field_in_cdb(3, Some(7)));
    }
    let switches = if values == PageControl::Default { DEFAULTS } else { switches.get() };
    let mut is_found = false;
    for page in pages(kind) {
        let is_requested =
            (code == 0x3f || code == page.code) && (subpage == 0xff || subpage == page.subpage);
        if is_requested {
            is_found = true;
            (0..page.header() + page.length).for_each(|place| put(page.byte(place, switches, values)));
        }
    }
    if is_found {
        return Ok(());
    }
    let has_code = pages(kind).any(|page| page.code == code) || code == 0x3f;
    Err(if has_code {
        Sense::invalid_field_in_cdb(3, Some(7))
    } else {
        Sense::invalid_field_in_cdb(2, Some(5))
    })
}

/// Sets the switches in a MODE SELECT parameter list, whose first page is at `start`; changes
/// nothing on an error.
pub fn select(kind: Kind, switches: &Switches, list: &[u8], start: usize) -> Result<(), Sense> {
    let before = switches.get();
    let (mut which, mut on) = (0, 0);
    let mut at = start;
    while let Some(rest) = list.get(at..).filter(|rest| !rest.is_empty()) {
        let byte = |place: usize| rest.get(place).copied().ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR);
        let invalid_field =
            |place: usize, bit| Sense::invalid_field_in_parameter_list(at.saturating_add(place) as u16, bit);
        let first = byte(0)?;
        let subpage = if first & 0x40 != 0 { byte(1)? } else { 0 };
        let page = pages(kind)
            .find(|page| page.code == first & 0x3f && page.subpage == subpage)
            .ok_or(invalid_field(0, Some(5)))?;
        // PS is reserved here.
        if first & 0x80 != 0 {
            return Err(invalid_field(0, Some(7)));
        }
        let whole = page.header() + page.length;
        for place in 1..whole {
            let value = byte(place)?;
            let mask = if place < page.header() { 0 } else { page.byte(place, 0, PageControl::Changeable) };
            let current = page.byte(place, before, PageControl::Current);
            let wrong = (value ^ current) & !mask;
            if wrong != 0 {
                return Err(invalid_field(place, Some(7 - wrong.leading_zeros() as u8)));
            }
            for &(_, bit, switch) in page.switches.iter().filter(|(byte, ..)| *byte == place) {
                which |= switch;
                on = if value & bit != 0 { on | switch } else { on & !switch };
            }
        }
        at = at.saturating_add(whole);
    }
    switches.change(which, on);
    Ok(())
}
