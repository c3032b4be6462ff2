//! The registers of an ATA disk (ACS-3, 7.1 and 9).

/// What a host writes to the registers of a disk (ACS-3, 7.1.3). Commands with 28-bit addresses look at the low byte of
/// `features` and `count`, the low three of `lba` and the low four bits of `device`.
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

/// What the registers hold when a command has ended (ACS-3, 9).
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

/// STATUS: device ready, and its obsolete bit that says that a seek has ended.
pub(crate) const READY: u8 = 0x50;
/// STATUS: device fault.
pub(crate) const FAULT: u8 = 0x20;
/// STATUS: ERROR says why the command failed.
pub(crate) const ERR: u8 = 0x01;

/// ERROR: the command, or what it asks for, is none of the disk's.
pub(crate) const ABRT: u8 = 0x04;
/// ERROR: there is no such address.
pub(crate) const IDNF: u8 = 0x10;
/// ERROR: the data cannot be read.
pub(crate) const UNC: u8 = 0x40;

/// DEVICE: the address is a logical block address.
pub const LBA: u8 = 0x40;
/// DEVICE: bits that have been 1 since the first ATA disks.
pub(crate) const OBSOLETE: u8 = 0xa0;
/// DEVICE: the command is the second disk's of a cable, which there is none of.
pub(crate) const SECOND: u8 = 0x10;

/// LBA of every SMART command, from bit 8 on (ACS-3, 7.48).
pub const SMART_SIGNATURE: u64 = 0xc24f;

impl Registers {
    /// Whether the command failed.
    pub fn failed(&self) -> bool {
        self.status & (ERR | FAULT) != 0
    }
}
