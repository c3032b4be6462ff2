//! The ATA commands, one row each (ACS-3, clause 7). Dispatch, the protocol that the host must
//! offer, the length of the data, and what a trace names, records and sends again all come from the
//! rows.

use super::registers::Taskfile;
use crate::device::Capacity;
use Operation::*;
use Protocol::{DmaIn, DmaOut, NonData, PioIn, PioOut};

/// The most 512-byte blocks of LBA ranges that one DATA SET MANAGEMENT takes.
pub const MAX_RANGE_BLOCKS: u16 = 8;

/// The handler of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// NOP, which always fails.
    Nop,
    /// Reads sectors.
    Read,
    /// Writes sectors; `true`: with forced unit access (FUA).
    Write(bool),
    /// Reads sectors and transfers none of them.
    Verify,
    /// Reads or writes sectors; fails if multiple mode is off. `true`: with FUA.
    Multiple(bool),
    /// SET MULTIPLE MODE: sectors per DRQ data block of [`Multiple`].
    SetMultiple,
    /// DATA SET MANAGEMENT
    Trim,
    /// Writes the cache to the medium.
    Flush,
    /// IDLE, which needs nothing done on a disk without a motor.
    Idle,
    /// STANDBY and SLEEP, which flush the cache.
    Standby,
    /// CHECK POWER MODE
    CheckPower,
    /// EXECUTE DEVICE DIAGNOSTIC
    Diagnostic,
    /// IDENTIFY DEVICE
    Identify,
    /// READ NATIVE MAX ADDRESS
    NativeMax,
    /// READ LOG
    ReadLog,
    /// SET FEATURES: the write cache.
    WriteCache(bool),
    /// SET FEATURES: read look-ahead.
    LookAhead(bool),
    /// SET FEATURES: advanced power management.
    PowerManagement(bool),
    /// SET FEATURES: the transfer mode.
    TransferMode,
    /// SET FEATURES: power-on defaults after a reset, which the disk does not have.
    Defaults,
    /// SMART READ DATA
    SmartData,
    /// SMART READ THRESHOLDS
    SmartThresholds,
    /// SMART ENABLE/DISABLE ATTRIBUTE AUTOSAVE
    SmartAutosave,
    /// SMART EXECUTE OFF-LINE IMMEDIATE
    SmartOffline,
    /// SMART READ LOG
    SmartLog,
    /// SMART ENABLE and DISABLE OPERATIONS
    Smart(bool),
    /// SMART RETURN STATUS
    SmartStatus,
}

/// The protocol of a command (ACS-3, 7.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Non-Data
    NonData,
    /// PIO Data-In: from the disk.
    PioIn,
    /// PIO Data-Out: to the disk.
    PioOut,
    /// DMA from the disk.
    DmaIn,
    /// DMA to the disk.
    DmaOut,
}

impl Protocol {
    /// Returns whether data goes to the disk.
    pub fn is_to_disk(self) -> bool {
        matches!(self, PioOut | DmaOut)
    }
}

/// The data of a command that has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Sectors of the disk.
    Sectors,
    /// Pages of 512 bytes, as many as COUNT.
    Pages,
    /// 512 bytes.
    Page,
}

/// A row of the table.
#[derive(Debug)]
pub struct Command {
    /// The name in the standard.
    pub name: &'static str,
    /// The COMMAND register.
    pub code: u8,
    /// The FEATURES register of a SMART or SET FEATURES command.
    pub subcommand: Option<u8>,
    /// The protocol.
    pub protocol: Protocol,
    /// Its data.
    pub content: Content,
    /// Whether LBA has 48 bits and COUNT 16; else 28 and 8.
    pub extended: bool,
    /// Whether it changes neither the medium nor a setting nor the state of the disk.
    pub changes_nothing: bool,
    /// Whether a trace may record its data, which cannot hold a password. Sectors are never
    /// recorded.
    pub recorded: bool,
    /// Whether the command works when the backing device is gone.
    pub works_without_device: bool,
    /// Its handler.
    pub operation: Operation,
}

impl Command {
    /// Returns the row of a command that changes nothing.
    const fn reads(self) -> Command {
        Command { changes_nothing: true, ..self }
    }

    /// Returns the row of a command that changes nothing and returns at most one page, which may be
    /// recorded.
    const fn reads_page(self) -> Command {
        Command { content: Content::Page, recorded: true, ..self.reads() }
    }

    /// Returns the row of a command whose data are pages that may be recorded.
    const fn pages(self) -> Command {
        Command { content: Content::Pages, recorded: true, ..self }
    }

    const fn works_without_device(self) -> Command {
        Command { works_without_device: true, ..self }
    }

    /// Returns whether the data are sectors of the disk.
    pub fn moves_sectors(&self) -> bool {
        self.protocol != NonData && self.content == Content::Sectors
    }

    /// Returns COUNT, of 8 or 16 bits.
    pub fn count(&self, registers: &Taskfile) -> u16 {
        if self.extended { registers.count } else { registers.count & 0xff }
    }

    /// Returns the number of logical blocks: COUNT, of which 0 is the largest.
    pub(super) fn blocks(&self, registers: &Taskfile) -> u64 {
        match self.count(registers) {
            0 if self.extended => 65536,
            0 => 256,
            count => count.into(),
        }
    }

    /// Returns how many bytes it transfers.
    pub(super) fn bytes(&self, registers: &Taskfile, capacity: Capacity) -> u64 {
        if self.moves_sectors() {
            return self.blocks(registers).saturating_mul(capacity.block_size.into());
        }
        self.page_bytes(registers)
    }

    /// Returns how many bytes of pages it transfers.
    pub fn page_bytes(&self, registers: &Taskfile) -> u64 {
        match self.content {
            _ if self.protocol == NonData => 0,
            Content::Sectors => 0,
            Content::Pages => 512 * u64::from(self.count(registers)),
            Content::Page => 512,
        }
    }
}

/// Returns the row of a command; the FEATURES register selects those of SMART and SET FEATURES.
pub fn find(code: u8, features: u8) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.code == code && command.subcommand.is_none_or(|own| own == features))
}

/// Returns whether a command changes neither the medium nor a setting nor the state of the disk. An
/// unknown one may change anything.
pub fn changes_nothing(registers: &Taskfile) -> bool {
    let [features, _] = registers.features.to_le_bytes();
    find(registers.command, features).is_some_and(|command| command.changes_nothing)
}

/// Returns the row of a command with a 28-bit LBA. It is closed by default: it changes the medium,
/// and a trace records nothing.
const fn short(name: &'static str, code: u8, protocol: Protocol, operation: Operation) -> Command {
    Command {
        name,
        code,
        subcommand: None,
        protocol,
        content: Content::Sectors,
        extended: false,
        changes_nothing: false,
        recorded: false,
        works_without_device: false,
        operation,
    }
}

const fn long(name: &'static str, code: u8, protocol: Protocol, operation: Operation) -> Command {
    Command { extended: true, ..short(name, code, protocol, operation) }
}

/// The COMMAND register of all SMART commands.
pub const SMART: u8 = 0xb0;

const fn smart(name: &'static str, features: u8, protocol: Protocol, operation: Operation) -> Command {
    Command { subcommand: Some(features), ..short(name, SMART, protocol, operation) }
}

/// The COMMAND register of SET FEATURES.
pub const SET_FEATURES: u8 = 0xef;

const fn feature(name: &'static str, features: u8, operation: Operation) -> Command {
    Command { subcommand: Some(features), ..short(name, SET_FEATURES, NonData, operation) }
}

/// The commands, by the COMMAND register. Those without retry and READ NATIVE MAX ADDRESS are of
/// earlier standards.
pub static COMMANDS: &[Command] = &[
    short("NOP", 0x00, NonData, Nop).reads(),
    long("DATA SET MANAGEMENT", 0x06, DmaOut, Trim).pages(),
    short("READ SECTOR(S)", 0x20, PioIn, Read).reads(),
    short("READ SECTOR(S) without retry", 0x21, PioIn, Read).reads(),
    long("READ SECTOR(S) EXT", 0x24, PioIn, Read).reads(),
    long("READ DMA EXT", 0x25, DmaIn, Read).reads(),
    long("READ NATIVE MAX ADDRESS EXT", 0x27, NonData, NativeMax).reads_page(),
    long("READ MULTIPLE EXT", 0x29, PioIn, Multiple(false)).reads(),
    long("READ LOG EXT", 0x2f, PioIn, ReadLog).reads().pages(),
    short("WRITE SECTOR(S)", 0x30, PioOut, Write(false)),
    short("WRITE SECTOR(S) without retry", 0x31, PioOut, Write(false)),
    long("WRITE SECTOR(S) EXT", 0x34, PioOut, Write(false)),
    long("WRITE DMA EXT", 0x35, DmaOut, Write(false)),
    long("WRITE MULTIPLE EXT", 0x39, PioOut, Multiple(false)),
    long("WRITE DMA FUA EXT", 0x3d, DmaOut, Write(true)),
    short("READ VERIFY SECTOR(S)", 0x40, NonData, Verify).reads(),
    short("READ VERIFY SECTOR(S) without retry", 0x41, NonData, Verify).reads(),
    long("READ VERIFY SECTOR(S) EXT", 0x42, NonData, Verify).reads(),
    long("READ LOG DMA EXT", 0x47, DmaIn, ReadLog).reads().pages(),
    short("EXECUTE DEVICE DIAGNOSTIC", 0x90, NonData, Diagnostic),
    smart("SMART READ DATA", 0xd0, PioIn, SmartData).reads_page(),
    smart("SMART READ ATTRIBUTE THRESHOLDS", 0xd1, PioIn, SmartThresholds).reads_page(),
    smart("SMART ENABLE/DISABLE ATTRIBUTE AUTOSAVE", 0xd2, NonData, SmartAutosave),
    smart("SMART EXECUTE OFF-LINE IMMEDIATE", 0xd4, NonData, SmartOffline),
    smart("SMART READ LOG", 0xd5, PioIn, SmartLog).reads().pages(),
    smart("SMART ENABLE OPERATIONS", 0xd8, NonData, Smart(true)),
    smart("SMART DISABLE OPERATIONS", 0xd9, NonData, Smart(false)),
    smart("SMART RETURN STATUS", 0xda, NonData, SmartStatus).reads_page(),
    short("READ MULTIPLE", 0xc4, PioIn, Multiple(false)).reads(),
    short("WRITE MULTIPLE", 0xc5, PioOut, Multiple(false)),
    short("SET MULTIPLE MODE", 0xc6, NonData, SetMultiple),
    short("READ DMA", 0xc8, DmaIn, Read).reads(),
    short("READ DMA without retry", 0xc9, DmaIn, Read).reads(),
    short("WRITE DMA", 0xca, DmaOut, Write(false)),
    short("WRITE DMA without retry", 0xcb, DmaOut, Write(false)),
    long("WRITE MULTIPLE FUA EXT", 0xce, PioOut, Multiple(true)),
    short("STANDBY IMMEDIATE", 0xe0, NonData, Standby),
    short("IDLE IMMEDIATE", 0xe1, NonData, Idle),
    short("STANDBY", 0xe2, NonData, Standby),
    short("IDLE", 0xe3, NonData, Idle),
    short("CHECK POWER MODE", 0xe5, NonData, CheckPower).reads_page(),
    short("SLEEP", 0xe6, NonData, Standby),
    short("FLUSH CACHE", 0xe7, NonData, Flush),
    long("FLUSH CACHE EXT", 0xea, NonData, Flush),
    short("IDENTIFY DEVICE", 0xec, PioIn, Identify).reads_page().works_without_device(),
    feature("SET FEATURES, enable write cache", 0x02, WriteCache(true)),
    feature("SET FEATURES, set transfer mode", 0x03, TransferMode),
    feature("SET FEATURES, enable APM", 0x05, PowerManagement(true)),
    feature("SET FEATURES, disable read look-ahead", 0x55, LookAhead(false)),
    feature("SET FEATURES, disable reverting to power-on defaults", 0x66, Defaults),
    feature("SET FEATURES, disable write cache", 0x82, WriteCache(false)),
    feature("SET FEATURES, disable APM", 0x85, PowerManagement(false)),
    feature("SET FEATURES, enable read look-ahead", 0xaa, LookAhead(true)),
    feature("SET FEATURES, enable reverting to power-on defaults", 0xcc, Defaults),
    short("READ NATIVE MAX ADDRESS", 0xf8, NonData, NativeMax).reads_page(),
];
