//! SCSI status and sense data.

use disk::abi::SgIoHdr;
use disk::ioctl::CHECK_CONDITION;
use disk::request::SG_IO;
use disk::scsi::sense::Sense;

use crate::trace::record::{Bytes, Record};

/// Describes the status of a SCSI command, and its sense data.
pub fn scsi_status(record: &Record) -> String {
    let status = match record.request {
        SG_IO => record.after::<SgIoHdr>().status,
        _ => record.result.and_then(|status| u8::try_from(status).ok()).unwrap_or(u8::MAX),
    };
    match status {
        0 => "GOOD".to_owned(),
        CHECK_CONDITION => format!("CHECK CONDITION, {}", reason(&record.sense)),
        0x08 => "BUSY".to_owned(),
        _ => format!("status {status:02x}h"),
    }
}

/// Names of sense keys (SPC-4, table 48).
const KEYS: [&str; 16] = [
    "NO SENSE",
    "RECOVERED ERROR",
    "NOT READY",
    "MEDIUM ERROR",
    "HARDWARE ERROR",
    "ILLEGAL REQUEST",
    "UNIT ATTENTION",
    "DATA PROTECT",
    "BLANK CHECK",
    "VENDOR SPECIFIC",
    "COPY ABORTED",
    "ABORTED COMMAND",
    "sense key 0ch",
    "VOLUME OVERFLOW",
    "MISCOMPARE",
    "COMPLETED",
];

fn reason(bytes: &Bytes) -> String {
    let (key, code, field) = match bytes.at::<18>(0) {
        [0x70 | 0x71 | 0xf0 | 0xf1, _, key, _, _, _, _, _, _, _, _, _, code, qualifier, _, a, b, c] => {
            (key, [code, qualifier], [a, b, c])
        }
        [0x72 | 0x73, key, code, qualifier, _, _, _, _, 2, 6, _, _, a, b, c, ..] => {
            (key, [code, qualifier], [a, b, c])
        }
        [0x72 | 0x73, key, code, qualifier, ..] => (key, [code, qualifier], [0; 3]),
        _ => return "no sense data".to_owned(),
    };
    let key = key & 0x0f;
    let [code, qualifier] = code;
    let number = u16::from_be_bytes([code, qualifier]);
    let mut text = format!("{} {key:x}/{code:02x}/{qualifier:02x}", KEYS[usize::from(key)]);
    if let Some((_, name)) = Sense::NAMED.iter().find(|(sense, _)| sense.asc_ascq == number) {
        text += &format!(" {name}");
    }
    // Sense key specific (SPC-4, 4.5.2.4.2).
    let [flags, high, low] = field;
    if matches!(key, 0x5 | 0xa) && flags & 0x80 != 0 {
        text += &format!(" (byte {}", u16::from_be_bytes([high, low]));
        if flags & 0x08 != 0 {
            text += &format!(" bit {}", flags & 7);
        }
        text += ")";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_disk_has_a_name() {
        for (sense, name) in Sense::NAMED {
            let [code, qualifier] = sense.asc_ascq.to_be_bytes();
            let text = reason(&Bytes(vec![0x72, sense.key, code, qualifier, 0, 0, 0, 0]));
            assert!(text.contains(name) && !text.contains("unknown"), "{text}");
        }
        assert!(reason(&Bytes(vec![0x72, 2, 0x3a, 0, 0, 0, 0, 0])).contains("MEDIUM NOT PRESENT"));
    }
}
