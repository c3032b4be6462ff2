//! The identity of a disk: fixed functions of its entry, the same in every version and after every
//! restart.

use crate::bytes::copy;
use crate::entry::{Entry, Kind};

/// The default model; at most 16 characters, all of which a SCSI disk shows.
const MODEL: &[u8] = b"BDWRAPPER DISK";

/// The firmware revision of an ATA disk and the product revision of a SCSI disk.
pub const REVISION: &[u8; 4] = b"1.0 ";

/// The name of the host adapter.
pub const ADAPTER: &[u8] = b"vmware-bdwrapper";

/// The host number of that adapter: one that the kernel does not reach on real machines, and that
/// fits the eight bits of `SCSI_IOCTL_GET_IDLUN`.
pub const HOST: u8 = 127;

/// Pads text with blanks.
fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut out = [b' '; N];
    copy(&mut out, 0, text);
    out
}

/// Returns the serial number: `serial=`, or `BDW` and 16 hexadecimal digits made from the path.
pub fn serial(entry: &Entry<'_>) -> [u8; 20] {
    match entry.serial {
        Some(text) => padded(text),
        None => {
            let digest = digest(entry.path);
            let mut text: [u8; 20] = padded(b"BDW");
            for (at, digit) in text.iter_mut().skip(3).take(16).enumerate() {
                let nibble = (digest >> (60 - 4 * at)) & 0xf;
                *digit = match nibble {
                    0..10 => b'0' + nibble as u8,
                    _ => b'A' + (nibble as u8 - 10),
                };
            }
            text
        }
    }
}

/// Returns the model: `model=`, or the default.
pub fn model(entry: &Entry<'_>) -> [u8; 40] {
    padded(entry.model.unwrap_or(MODEL))
}

/// Returns the world-wide name: `wwn=`, or a locally assigned one (NAA 3h, SPC-4 7.8.6.6) made from
/// the path.
pub fn wwn(entry: &Entry<'_>) -> u64 {
    entry.wwn.unwrap_or(0x3 << 60 | digest(entry.path) >> 4)
}

/// Returns what designates the disk for other disks: its world-wide name, which an IDE disk does not report.
pub fn designator(entry: &Entry<'_>) -> Option<u64> {
    (entry.kind != Kind::Ide).then(|| wwn(entry))
}

/// Hashes a path: 64-bit FNV-1a, then mixed so that similar paths differ in all bits.
fn digest(path: &[u8]) -> u64 {
    let mut digest = path.iter().fold(0xcbf2_9ce4_8422_2325, |digest: u64, &byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        digest = (digest ^ digest >> 33).wrapping_mul(factor);
    }
    digest ^ digest >> 33
}
