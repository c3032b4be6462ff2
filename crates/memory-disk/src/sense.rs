//! Sense keys with additional sense codes, by T10's names (SPC-4, table 48 and annex D), and a parser of sense data.
//!
//! The numbers are written down from the standard, not taken from the core that is tested.

use disk::ata::Registers;
use disk::scsi::sense::{Sense, Specific};

/// ABORTED COMMAND, NO ADDITIONAL SENSE INFORMATION
pub const ABORTED_COMMAND: Sense = sense(0xb, 0x0000);
/// ILLEGAL REQUEST, ACCESS DENIED - NO ACCESS RIGHTS
pub const ACCESS_DENIED_NO_ACCESS_RIGHTS: Sense = sense(0x5, 0x2002);
/// ILLEGAL REQUEST, COMMAND SEQUENCE ERROR
pub const COMMAND_SEQUENCE_ERROR: Sense = sense(0x5, 0x2c00);
/// ABORTED COMMAND, ECHO BUFFER OVERWRITTEN
pub const ECHO_BUFFER_OVERWRITTEN: Sense = sense(0xb, 0x3f0f);
/// MEDIUM ERROR, FORMAT COMMAND FAILED
pub const FORMAT_COMMAND_FAILED: Sense = sense(0x3, 0x3101);
/// NOT READY, LOGICAL UNIT NOT READY, FORMAT IN PROGRESS
pub const FORMAT_IN_PROGRESS: Sense = sense(0x2, 0x0404);
/// UNIT ATTENTION, CAPACITY DATA HAS CHANGED
pub const CAPACITY_DATA_HAS_CHANGED: Sense = sense(0x6, 0x2a09);
/// HARDWARE ERROR, INTERNAL TARGET FAILURE
pub const INTERNAL_TARGET_FAILURE: Sense = sense(0x4, 0x4400);
/// COPY ABORTED, NO ADDITIONAL SENSE INFORMATION
pub const COPY_ABORTED: Sense = sense(0xa, 0x0000);
/// ILLEGAL REQUEST, INSUFFICIENT REGISTRATION RESOURCES
pub const INSUFFICIENT_REGISTRATION_RESOURCES: Sense = sense(0x5, 0x5504);
/// ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE
pub const INVALID_COMMAND_OPERATION_CODE: Sense = sense(0x5, 0x2000);
/// ILLEGAL REQUEST, INVALID FIELD IN CDB
pub const INVALID_FIELD_IN_CDB: Sense = sense(0x5, 0x2400);
/// ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST
pub const INVALID_FIELD_IN_PARAMETER_LIST: Sense = sense(0x5, 0x2600);
/// ILLEGAL REQUEST, INVALID RELEASE OF PERSISTENT RESERVATION
pub const INVALID_RELEASE_OF_PERSISTENT_RESERVATION: Sense = sense(0x5, 0x2604);
/// ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE
pub const LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE: Sense = sense(0x5, 0x2100);
/// MEDIUM ERROR, MEDIUM FORMAT CORRUPTED
pub const MEDIUM_FORMAT_CORRUPTED: Sense = sense(0x3, 0x3100);
/// NOT READY, MEDIUM NOT PRESENT
pub const MEDIUM_NOT_PRESENT: Sense = sense(0x2, 0x3a00);
/// UNIT ATTENTION, MODE PARAMETERS CHANGED
pub const MODE_PARAMETERS_CHANGED: Sense = sense(0x6, 0x2a01);
/// MISCOMPARE, MISCOMPARE DURING VERIFY OPERATION
pub const MISCOMPARE_DURING_VERIFY_OPERATION: Sense = sense(0xe, 0x1d00);
/// NOT READY, LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE
pub const NOT_READY_CAUSE_NOT_REPORTABLE: Sense = sense(0x2, 0x0400);
/// UNIT ATTENTION, NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED
pub const NOT_READY_TO_READY_CHANGE: Sense = sense(0x6, 0x2800);
/// ILLEGAL REQUEST, PARAMETER LIST LENGTH ERROR
pub const PARAMETER_LIST_LENGTH_ERROR: Sense = sense(0x5, 0x1a00);
/// UNIT ATTENTION, REGISTRATIONS PREEMPTED
pub const REGISTRATIONS_PREEMPTED: Sense = sense(0x6, 0x2a05);
/// UNIT ATTENTION, RESERVATIONS PREEMPTED
pub const RESERVATIONS_PREEMPTED: Sense = sense(0x6, 0x2a03);
/// UNIT ATTENTION, RESERVATIONS RELEASED
pub const RESERVATIONS_RELEASED: Sense = sense(0x6, 0x2a04);
/// MEDIUM ERROR, SANITIZE COMMAND FAILED
pub const SANITIZE_COMMAND_FAILED: Sense = sense(0x3, 0x3103);
/// NOT READY, LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS
pub const SANITIZE_IN_PROGRESS: Sense = sense(0x2, 0x041b);
/// DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT
pub const SPACE_ALLOCATION_FAILED_WRITE_PROTECT: Sense = sense(0x7, 0x2707);
/// MEDIUM ERROR, UNRECOVERED READ ERROR
pub const UNRECOVERED_READ_ERROR: Sense = sense(0x3, 0x1100);
/// MEDIUM ERROR, WRITE ERROR
pub const WRITE_ERROR: Sense = sense(0x3, 0x0c00);
/// DATA PROTECT, WRITE PROTECTED
pub const WRITE_PROTECTED: Sense = sense(0x7, 0x2700);

const fn sense(key: u8, asc_ascq: u16) -> Sense {
    Sense { key, asc_ascq, information: None, specific: None, descriptor: None }
}

/// INVALID FIELD IN CDB at a byte, with or without a bit.
pub fn cdb_field(byte: u16, bit: impl Into<Option<u8>>) -> Sense {
    INVALID_FIELD_IN_CDB.with(Specific::Field { in_cdb: true, byte, bit: bit.into() })
}

/// INVALID FIELD IN PARAMETER LIST at a byte, with or without a bit.
pub fn list_field(byte: u16, bit: impl Into<Option<u8>>) -> Sense {
    INVALID_FIELD_IN_PARAMETER_LIST.with(Specific::Field { in_cdb: false, byte, bit: bit.into() })
}

/// Parses sense data of either format (SPC-4, 4.5.2 and 4.5.3).
///
/// # Panics
///
/// If a length, a reserved byte or a descriptor is wrong.
#[track_caller]
pub fn parse_sense(bytes: &[u8]) -> Sense {
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    // Of NOT READY a progress indication, else a field pointer.
    let specific = |key: u8, bytes: &[u8]| {
        let number = number(&bytes[1..3]) as u16;
        match (key, bytes[0]) {
            (_, 0..0x80) => None,
            (2, flags) => {
                assert_eq!(flags, 0x80);
                Some(Specific::Progress(number))
            }
            (_, flags) => {
                let bit = (flags & 0x08 != 0).then_some(flags & 7);
                Some(Specific::Field { in_cdb: flags & 0x40 != 0, byte: number, bit })
            }
        }
    };
    let asc_ascq = |bytes: &[u8]| number(&bytes[..2]) as u16;
    match bytes[0] {
        0x70 | 0xf0 => {
            assert_eq!(bytes.len(), 18, "{bytes:02x?}");
            assert_eq!((bytes[1], bytes[7], &bytes[8..10], bytes[14]), (0, 10, &[0; 2][..], 0));
            let segment = number(&bytes[10..12]);
            let is_copy = bytes[2] == COPY_ABORTED.key;
            assert!(is_copy || segment == 0, "{bytes:02x?}");
            let valid = bytes[0] & 0x80 != 0;
            let information = number(&bytes[3..7]);
            assert!(valid || information == 0, "{bytes:02x?}");
            Sense {
                key: bytes[2],
                asc_ascq: asc_ascq(&bytes[12..]),
                information: if is_copy { Some(segment) } else { valid.then_some(information) },
                specific: specific(bytes[2], &bytes[15..18]),
                descriptor: None,
            }
        }
        0x72 => {
            assert_eq!(bytes.len(), 8 + usize::from(bytes[7]), "{bytes:02x?}");
            let mut got = sense(bytes[1], asc_ascq(&bytes[2..]));
            let mut rest = &bytes[8..];
            while let [kind, length, ..] = *rest {
                let (this, next) = rest.split_at(2 + usize::from(length));
                match (kind, length) {
                    (0, 10) => got.information = Some(number(&this[4..])),
                    (1, 10) => got.information = Some(number(&this[2..])),
                    (2, 6) => got.specific = specific(got.key, &this[4..]),
                    (9, 12) => got.descriptor = this.try_into().ok(),
                    _ => panic!("no such descriptor: {this:02x?}"),
                }
                rest = next;
            }
            got
        }
        _ => panic!("no sense data: {bytes:02x?}"),
    }
}

/// Returns the registers of an ATA Status Return descriptor (SAT-3, 12.2.2.6), and whether they have their high bytes.
pub fn registers(sense: &Sense) -> Option<(Registers, bool)> {
    let [_, _, extended, error, count_high, count, d, a, e, b, f, c, device, status] = sense.descriptor?;
    let registers = Registers {
        status,
        error,
        count: u16::from_be_bytes([count_high, count]),
        lba: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        device,
    };
    Some((registers, extended & 1 != 0))
}
