//! Sense data (SPC-4, 4.5): why a command failed.

use crate::bytes::copy;

/// The sense-key specific information (SPC-4, 4.5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specific {
    /// A field of the CDB or of the parameter list that is wrong.
    Field {
        /// In the CDB, not in the parameter list.
        in_cdb: bool,
        /// Its first byte.
        byte: u16,
        /// Its leftmost bit in that byte.
        bit: Option<u8>,
    },
    /// How much of an operation is done, in parts of 65,536.
    Progress(u16),
}

/// Sense key, additional sense code and qualifier, and what goes with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// SPC-4, table 48.
    pub key: u8,
    /// Additional sense code and qualifier (SPC-4, annex D).
    pub asc_ascq: u16,
    /// INFORMATION: the first logical block that is concerned, or an offset. With COPY ABORTED it is
    /// COMMAND-SPECIFIC INFORMATION: the segment descriptor that could not be processed.
    pub information: Option<u64>,
    /// The sense-key specific information.
    pub specific: Option<Specific>,
    /// A descriptor of another standard (ATA Status Return: SAT-3, 12.2.2.6).
    pub descriptor: Option<[u8; 14]>,
}

/// Declares sense data by T10's names, and the list of them.
macro_rules! named {
    ($($key:literal $asc_ascq:literal $constant:ident $name:literal)*) => {
        impl Sense {
            $(#[doc = $name] pub const $constant: Sense = Sense::new($key, $asc_ascq);)*

            /// Each code that the disk uses, with its name (SPC-4, annex D).
            pub const NAMED: &[(Sense, &str)] = &[$((Sense::$constant, $name),)*];
        }
    };
}

named! {
    0x0 0x0000 NO_SENSE "NO ADDITIONAL SENSE INFORMATION"
    0x1 0x001d ATA_PASS_THROUGH_INFORMATION_AVAILABLE "ATA PASS-THROUGH INFORMATION AVAILABLE"
    0x2 0x0400 NOT_READY_CAUSE_NOT_REPORTABLE "LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE"
    0x2 0x0404 FORMAT_IN_PROGRESS "LOGICAL UNIT NOT READY, FORMAT IN PROGRESS"
    0x2 0x041b SANITIZE_IN_PROGRESS "LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS"
    0x2 0x3a00 MEDIUM_NOT_PRESENT "MEDIUM NOT PRESENT"
    0x3 0x1100 UNRECOVERED_READ_ERROR "UNRECOVERED READ ERROR"
    0x3 0x0c00 WRITE_ERROR "WRITE ERROR"
    0x3 0x3100 MEDIUM_FORMAT_CORRUPTED "MEDIUM FORMAT CORRUPTED"
    0x3 0x3101 FORMAT_COMMAND_FAILED "FORMAT COMMAND FAILED"
    0x3 0x3103 SANITIZE_COMMAND_FAILED "SANITIZE COMMAND FAILED"
    0x4 0x4400 INTERNAL_TARGET_FAILURE "INTERNAL TARGET FAILURE"
    0x5 0x1a00 PARAMETER_LIST_LENGTH_ERROR "PARAMETER LIST LENGTH ERROR"
    0x5 0x2000 INVALID_COMMAND_OPERATION_CODE "INVALID COMMAND OPERATION CODE"
    0x5 0x2002 ACCESS_DENIED_NO_ACCESS_RIGHTS "ACCESS DENIED - NO ACCESS RIGHTS"
    0x5 0x2100 LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE "LOGICAL BLOCK ADDRESS OUT OF RANGE"
    0x5 0x2400 INVALID_FIELD_IN_CDB "INVALID FIELD IN CDB"
    0x5 0x2600 INVALID_FIELD_IN_PARAMETER_LIST "INVALID FIELD IN PARAMETER LIST"
    0x5 0x2604 INVALID_RELEASE_OF_PERSISTENT_RESERVATION "INVALID RELEASE OF PERSISTENT RESERVATION"
    0x5 0x2c00 COMMAND_SEQUENCE_ERROR "COMMAND SEQUENCE ERROR"
    0x5 0x5504 INSUFFICIENT_REGISTRATION_RESOURCES "INSUFFICIENT REGISTRATION RESOURCES"
    0x6 0x2800 NOT_READY_TO_READY_CHANGE "NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED"
    0x6 0x2a01 MODE_PARAMETERS_CHANGED "MODE PARAMETERS CHANGED"
    0x6 0x2a03 RESERVATIONS_PREEMPTED "RESERVATIONS PREEMPTED"
    0x6 0x2a04 RESERVATIONS_RELEASED "RESERVATIONS RELEASED"
    0x6 0x2a05 REGISTRATIONS_PREEMPTED "REGISTRATIONS PREEMPTED"
    0x6 0x2a09 CAPACITY_DATA_HAS_CHANGED "CAPACITY DATA HAS CHANGED"
    0x5 0x2606 TOO_MANY_TARGET_DESCRIPTORS "TOO MANY TARGET DESCRIPTORS"
    0x5 0x2607 UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE "UNSUPPORTED TARGET DESCRIPTOR TYPE CODE"
    0x5 0x2608 TOO_MANY_SEGMENT_DESCRIPTORS "TOO MANY SEGMENT DESCRIPTORS"
    0x5 0x2609 UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE "UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE"
    0x5 0x260b INLINE_DATA_LENGTH_EXCEEDED "INLINE DATA LENGTH EXCEEDED"
    0x7 0x2700 WRITE_PROTECTED "WRITE PROTECTED"
    0x7 0x2707 SPACE_ALLOCATION_FAILED_WRITE_PROTECT "SPACE ALLOCATION FAILED WRITE PROTECT"
    0xa 0x0000 COPY_ABORTED "NO ADDITIONAL SENSE INFORMATION"
    0xa 0x0804 UNREACHABLE_COPY_TARGET "UNREACHABLE COPY TARGET"
    0xa 0x0d01 THIRD_PARTY_DEVICE_FAILURE "THIRD PARTY DEVICE FAILURE"
    0xa 0x0d02 COPY_TARGET_DEVICE_NOT_REACHABLE "COPY TARGET DEVICE NOT REACHABLE"
    0xa 0x0d03 INCORRECT_COPY_TARGET_DEVICE_TYPE "INCORRECT COPY TARGET DEVICE TYPE"
    0xa 0x260a UNEXPECTED_INEXACT_SEGMENT "UNEXPECTED INEXACT SEGMENT"
    0xb 0x0000 ABORTED_COMMAND "NO ADDITIONAL SENSE INFORMATION"
    0xb 0x3f0f ECHO_BUFFER_OVERWRITTEN "ECHO BUFFER OVERWRITTEN"
    0xe 0x1d00 MISCOMPARE_DURING_VERIFY_OPERATION "MISCOMPARE DURING VERIFY OPERATION"
}

impl Sense {
    const fn new(key: u8, asc_ascq: u16) -> Sense {
        Sense { key, asc_ascq, information: None, specific: None, descriptor: None }
    }

    /// INVALID FIELD IN CDB: this byte, and this bit of it.
    pub const fn invalid_field_in_cdb(byte: u16, bit: Option<u8>) -> Sense {
        Sense::INVALID_FIELD_IN_CDB.with(Specific::Field { in_cdb: true, byte, bit })
    }

    /// INVALID FIELD IN PARAMETER LIST: this byte, and this bit of it.
    pub const fn invalid_field_in_parameter_list(byte: u16, bit: Option<u8>) -> Sense {
        Sense::INVALID_FIELD_IN_PARAMETER_LIST.with(Specific::Field { in_cdb: false, byte, bit })
    }

    /// The same with sense-key specific information.
    pub const fn with(self, specific: Specific) -> Sense {
        Sense { specific: Some(specific), ..self }
    }

    /// The same about a byte of the parameter list.
    pub const fn at(self, byte: u16) -> Sense {
        self.with(Specific::Field { in_cdb: false, byte, bit: None })
    }

    /// The same about a logical block, or with an offset.
    pub const fn with_information(self, information: u64) -> Sense {
        Sense { information: Some(information), ..self }
    }

    /// The sense-key specific bytes.
    fn sense_key_specific(&self) -> [u8; 3] {
        let (flags, number) = match self.specific {
            Some(Specific::Field { in_cdb, byte, bit }) => {
                (u8::from(in_cdb) << 6 | bit.map_or(0, |bit| 0x08 | (bit & 7)), byte)
            }
            Some(Specific::Progress(progress)) => (0, progress),
            None => return [0; 3],
        };
        let [high, low] = number.to_be_bytes();
        [0x80 | flags, high, low]
    }

    /// Returns the sense data and its length: in descriptor format (SPC-4, 4.5.2) if
    /// `descriptor_format` says so or it has a descriptor of another standard, which clients read
    /// without checking the format; else in fixed format (4.5.3).
    pub fn bytes(&self, descriptor_format: bool) -> ([u8; 28], usize) {
        let mut out = [0; 28];
        let [code, qualifier] = self.asc_ascq.to_be_bytes();
        let mut put = |at: usize, bytes: &[u8]| copy(&mut out, at, bytes);
        let is_copy = self.key == Sense::COPY_ABORTED.key;
        if !descriptor_format && self.descriptor.is_none() {
            let information = self.information.and_then(|information| u32::try_from(information).ok());
            let valid = if information.is_some() && !is_copy { 0xf0 } else { 0x70 };
            put(0, &[valid, 0, self.key]);
            put(if is_copy { 8 } else { 3 }, &information.unwrap_or(0).to_be_bytes());
            put(7, &[10]);
            put(12, &[code, qualifier, 0]);
            put(15, &self.sense_key_specific());
            return (out, 18);
        }
        put(0, &[0x72, self.key, code, qualifier]);
        let mut length = 8;
        if let Some(information) = self.information {
            let (descriptor_type, valid) = if is_copy { (0x01, 0) } else { (0x00, 0x80) };
            put(length, &[descriptor_type, 0x0a, valid, 0]);
            put(length + 4, &information.to_be_bytes());
            length += 12;
        }
        if self.specific.is_some() {
            put(length, &[0x02, 0x06, 0, 0]);
            put(length + 4, &self.sense_key_specific());
            length += 8;
        }
        if let Some(descriptor) = self.descriptor {
            put(length, &descriptor);
            length += 14;
        }
        put(7, &[(length - 8) as u8]);
        (out, length)
    }
}
