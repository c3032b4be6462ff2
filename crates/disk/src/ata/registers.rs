//! The registers of an ATA disk (ACS-3, 7.1 and 9).

/// The input registers of a command (ACS-3, 7.1.3). Commands with a 28-bit LBA use the low byte of
/// `features` and `count`, the low three bytes of `lba` and the low four bits of `device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taskfile {
    /// COMMAND
    pub command: u8,
    /// FEATURES
    pub features: u16,
    /// COUNT
    pub count: u16,
    /// LBA, of 48 bits.
    pub lba: u64,
    /// DEVICE
    pub device: u8,
}

/// The output registers of a command (ACS-3, 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// STATUS
    pub status: u8,
    /// ERROR
    pub error: u8,
    /// COUNT
    pub count: u16,
    /// LBA, of 48 bits.
    pub lba: u64,
    /// DEVICE
    pub device: u8,
}

/// STATUS: DRDY, and the obsolete bit DSC.
pub(crate) const READY: u8 = 0x50;
/// STATUS: DF, device fault.
pub(crate) const FAULT: u8 = 0x20;
/// STATUS: the command failed; ERROR has the cause.
pub(crate) const ERR: u8 = 0x01;

/// ERROR: unsupported command or field.
pub(crate) const ABRT: u8 = 0x04;
/// ERROR: the LBA does not exist.
pub(crate) const IDNF: u8 = 0x10;
/// ERROR: the data is uncorrectable.
pub(crate) const UNC: u8 = 0x40;

/// DEVICE: the address is a logical block address.
pub const LBA: u8 = 0x40;
/// DEVICE: obsolete bits that are always 1.
pub(crate) const OBSOLETE: u8 = 0xa0;
/// DEVICE: DEV, addresses device 1, which does not exist.
pub(crate) const SECOND: u8 = 0x10;

/// LBA of every SMART command, from bit 8 on (ACS-3, 7.48).
pub const SMART_SIGNATURE: u64 = 0xc24f;

impl Registers {
    /// Returns whether the command failed.
    pub fn failed(&self) -> bool {
        self.status & (ERR | FAULT) != 0
    }
}
