//! SCSI status and sense data.

use disk::abi::SgIoHdr;
use disk::request::SG_IO;
use disk::scsi::sense::Sense;

use crate::trace::record::{Bytes, CHECK_CONDITION, Record};

/// Describes the status of a SCSI command, and its sense data.
pub fn scsi_status(record: &Record) -> String {
    let status = match record.request {
        SG_IO => record.got.structure::<SgIoHdr>().status,
        _ => u8::try_from(record.result).unwrap_or(u8::MAX),
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

/// Names of the additional sense codes that the disk uses.
const CODES: [(Sense, &str); 14] = [
    (Sense::NO_SENSE, "NO ADDITIONAL SENSE INFORMATION"),
    (Sense::ATA_PASS_THROUGH_INFORMATION_AVAILABLE, "ATA PASS-THROUGH INFORMATION AVAILABLE"),
    (Sense::UNRECOVERED_READ_ERROR, "UNRECOVERED READ ERROR"),
    (Sense::WRITE_ERROR, "WRITE ERROR"),
    (Sense::INTERNAL_TARGET_FAILURE, "INTERNAL TARGET FAILURE"),
    (Sense::PARAMETER_LIST_LENGTH_ERROR, "PARAMETER LIST LENGTH ERROR"),
    (Sense::INVALID_COMMAND_OPERATION_CODE, "INVALID COMMAND OPERATION CODE"),
    (Sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE, "LOGICAL BLOCK ADDRESS OUT OF RANGE"),
    (Sense::INVALID_FIELD_IN_CDB, "INVALID FIELD IN CDB"),
    (Sense::INVALID_FIELD_IN_PARAMETER_LIST, "INVALID FIELD IN PARAMETER LIST"),
    (Sense::CAPACITY_DATA_HAS_CHANGED, "CAPACITY DATA HAS CHANGED"),
    (Sense::WRITE_PROTECTED, "WRITE PROTECTED"),
    (Sense::SPACE_ALLOCATION_FAILED_WRITE_PROTECT, "SPACE ALLOCATION FAILED WRITE PROTECT"),
    (Sense::MISCOMPARE_DURING_VERIFY_OPERATION, "MISCOMPARE DURING VERIFY OPERATION"),
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
    if let Some((_, name)) = CODES.iter().find(|(sense, _)| sense.asc_ascq == number) {
        text += &format!(" {name}");
    }
    // Sense key specific (SPC-4, 4.5.2.4.2).
    let [flags, high, low] = field;
    if key == 5 && flags & 0x80 != 0 {
        text += &format!(" (byte {}", u16::from_be_bytes([high, low]));
        if flags & 0x08 != 0 {
            text += &format!(" bit {}", flags & 7);
        }
        text += ")";
    }
    text
}
