//! The commands, one row each (ACS-3, clause 7). Dispatch, the protocol that the host must offer, the length of the data, and
//! what a trace names, records and sends again all come from the rows.

use super::registers::Taskfile;
use crate::device::Capacity;
use Operation::*;
use Transfer::{DmaIn, DmaOut, PioIn, PioOut};

/// The most 512-byte blocks of LBA ranges that one DATA SET MANAGEMENT takes.
pub const MAX_RANGE_BLOCKS: u16 = 8;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Nothing but to end with an error (NOP).
    Nop,
    /// Reads sectors.
    Read,
    /// Writes sectors; `true`: to the medium, not to a cache.
    Write(bool),
    /// Reads sectors and gives none of them.
    Verify,
    /// Reads or writes sectors if multiple mode was set; else ends with an error.
    Multiple(bool),
    /// Says how many sectors one interrupt of [`Multiple`] stands for.
    SetMultiple,
    /// DATA SET MANAGEMENT
    Trim,
    /// Writes the cache to the medium.
    Flush,
    /// IDLE, and what the disk need not do because it has no motor.
    Idle,
    /// Other power modes, before which the cache is written.
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
    /// SET FEATURES: what the disk does by itself, since it knows no reset.
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

/// How data moves (ACS-3, 7.1.2: the command's protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Not at all.
    None,
    /// From the disk, by programmed input.
    PioIn,
    /// To the disk, by programmed output.
    PioOut,
    /// From the disk, by DMA.
    DmaIn,
    /// To the disk, by DMA.
    DmaOut,
}

impl Transfer {
    /// Whether the host gives the data.
    pub fn is_to_disk(self) -> bool {
        matches!(self, PioOut | DmaOut)
    }
}

/// What the data of a command is, if it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Sectors of the disk.
    Sectors,
    /// As many pages of 512 bytes as COUNT says.
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
    /// The FEATURES register, where it says which command this is.
    pub subcommand: Option<u8>,
    /// The protocol.
    pub transfer: Transfer,
    /// What its data is.
    pub content: Content,
    /// Whether addresses have 48 bits and counts 16; else 28 and 8.
    pub extended: bool,
    /// Whether it changes neither the medium nor a setting nor the state of the disk.
    pub changes_nothing: bool,
    /// Whether a trace may record its data, which could not be a password. Sectors are never recorded.
    pub recorded: bool,
    /// Whether the command can say what it says whatever has become of the backing device.
    pub works_without_device: bool,
    /// What it does.
    pub operation: Operation,
}

impl Command {
    /// The same command, which changes nothing.
    const fn reads(self) -> Command {
        Command { changes_nothing: true, ..self }
    }

    /// The same command, which changes nothing and returns at most a page, which may be recorded.
    const fn asks(self) -> Command {
        Command { content: Content::Page, recorded: true, ..self.reads() }
    }

    /// The same command, whose data are pages that may be recorded.
    const fn pages(self) -> Command {
        Command { content: Content::Pages, recorded: true, ..self }
    }

    const fn works_without_device(self) -> Command {
        Command { works_without_device: true, ..self }
    }

    /// Whether the data are sectors of the disk.
    pub fn moves_sectors(&self) -> bool {
        self.transfer != Transfer::None && self.content == Content::Sectors
    }

    /// COUNT, as wide as the command has it.
    pub fn count(&self, registers: &Taskfile) -> u16 {
        if self.extended { registers.count } else { registers.count & 0xff }
    }

    /// The number of logical blocks: COUNT, of which 0 is the largest.
    pub(super) fn blocks(&self, registers: &Taskfile) -> u64 {
        match self.count(registers) {
            0 if self.extended => 65536,
            0 => 256,
            count => count.into(),
        }
    }

    /// How many bytes it moves.
    pub(super) fn bytes(&self, registers: &Taskfile, capacity: Capacity) -> u64 {
        if self.moves_sectors() {
            return self.blocks(registers).saturating_mul(capacity.block.into());
        }
        self.other_bytes(registers)
    }

    /// How many bytes it moves that are no sectors of the disk.
    pub fn other_bytes(&self, registers: &Taskfile) -> u64 {
        match self.content {
            _ if self.transfer == Transfer::None => 0,
            Content::Sectors => 0,
            Content::Pages => 512 * u64::from(self.count(registers)),
            Content::Page => 512,
        }
    }
}

/// The row of a command; the FEATURES register reports_attention those of SMART and SET FEATURES apart.
pub fn find(code: u8, features: u8) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.code == code && command.subcommand.is_none_or(|own| own == features))
}

/// Whether a command changes neither the medium nor a setting nor the state of the disk. An unknown one may change anything.
pub fn changes_nothing(registers: &Taskfile) -> bool {
    let [features, _] = registers.features.to_le_bytes();
    find(registers.command, features).is_some_and(|command| command.changes_nothing)
}

/// A row that allows nothing but to carry the command out: whatever else it may be, it has to say.
const fn short(name: &'static str, code: u8, transfer: Transfer, operation: Operation) -> Command {
    Command {
        name,
        code,
        subcommand: None,
        transfer,
        content: Content::Sectors,
        extended: false,
        changes_nothing: false,
        recorded: false,
        works_without_device: false,
        operation,
    }
}

const fn long(name: &'static str, code: u8, transfer: Transfer, operation: Operation) -> Command {
    Command { extended: true, ..short(name, code, transfer, operation) }
}

/// The COMMAND register of all SMART commands.
pub const SMART: u8 = 0xb0;

const fn smart(name: &'static str, features: u8, transfer: Transfer, operation: Operation) -> Command {
    Command { subcommand: Some(features), ..short(name, SMART, transfer, operation) }
}

/// The COMMAND register of SET FEATURES.
pub const SET_FEATURES: u8 = 0xef;

const fn feature(name: &'static str, features: u8, operation: Operation) -> Command {
    Command { subcommand: Some(features), ..short(name, SET_FEATURES, Transfer::None, operation) }
}

/// Every command of the disk, by its code. Those without retry, and READ NATIVE MAX ADDRESS, are of earlier standards.
pub static COMMANDS: &[Command] = &[
    short("NOP", 0x00, Transfer::None, Nop).reads(),
    long("DATA SET MANAGEMENT", 0x06, DmaOut, Trim).pages(),
    short("READ SECTOR(S)", 0x20, PioIn, Read).reads(),
    short("READ SECTOR(S) without retry", 0x21, PioIn, Read).reads(),
    long("READ SECTOR(S) EXT", 0x24, PioIn, Read).reads(),
    long("READ DMA EXT", 0x25, DmaIn, Read).reads(),
    long("READ NATIVE MAX ADDRESS EXT", 0x27, Transfer::None, NativeMax).asks(),
    long("READ MULTIPLE EXT", 0x29, PioIn, Multiple(false)).reads(),
    long("READ LOG EXT", 0x2f, PioIn, ReadLog).reads().pages(),
    short("WRITE SECTOR(S)", 0x30, PioOut, Write(false)),
    short("WRITE SECTOR(S) without retry", 0x31, PioOut, Write(false)),
    long("WRITE SECTOR(S) EXT", 0x34, PioOut, Write(false)),
    long("WRITE DMA EXT", 0x35, DmaOut, Write(false)),
    long("WRITE MULTIPLE EXT", 0x39, PioOut, Multiple(false)),
    long("WRITE DMA FUA EXT", 0x3d, DmaOut, Write(true)),
    short("READ VERIFY SECTOR(S)", 0x40, Transfer::None, Verify).reads(),
    short("READ VERIFY SECTOR(S) without retry", 0x41, Transfer::None, Verify).reads(),
    long("READ VERIFY SECTOR(S) EXT", 0x42, Transfer::None, Verify).reads(),
    long("READ LOG DMA EXT", 0x47, DmaIn, ReadLog).reads().pages(),
    short("EXECUTE DEVICE DIAGNOSTIC", 0x90, Transfer::None, Diagnostic),
    smart("SMART READ DATA", 0xd0, PioIn, SmartData).asks(),
    smart("SMART READ ATTRIBUTE THRESHOLDS", 0xd1, PioIn, SmartThresholds).asks(),
    smart("SMART ENABLE/DISABLE ATTRIBUTE AUTOSAVE", 0xd2, Transfer::None, SmartAutosave),
    smart("SMART EXECUTE OFF-LINE IMMEDIATE", 0xd4, Transfer::None, SmartOffline),
    smart("SMART READ LOG", 0xd5, PioIn, SmartLog).reads().pages(),
    smart("SMART ENABLE OPERATIONS", 0xd8, Transfer::None, Smart(true)),
    smart("SMART DISABLE OPERATIONS", 0xd9, Transfer::None, Smart(false)),
    smart("SMART RETURN STATUS", 0xda, Transfer::None, SmartStatus).asks(),
    short("READ MULTIPLE", 0xc4, PioIn, Multiple(false)).reads(),
    short("WRITE MULTIPLE", 0xc5, PioOut, Multiple(false)),
    short("SET MULTIPLE MODE", 0xc6, Transfer::None, SetMultiple),
    short("READ DMA", 0xc8, DmaIn, Read).reads(),
    short("READ DMA without retry", 0xc9, DmaIn, Read).reads(),
    short("WRITE DMA", 0xca, DmaOut, Write(false)),
    short("WRITE DMA without retry", 0xcb, DmaOut, Write(false)),
    long("WRITE MULTIPLE FUA EXT", 0xce, PioOut, Multiple(true)),
    short("STANDBY IMMEDIATE", 0xe0, Transfer::None, Standby),
    short("IDLE IMMEDIATE", 0xe1, Transfer::None, Idle),
    short("STANDBY", 0xe2, Transfer::None, Standby),
    short("IDLE", 0xe3, Transfer::None, Idle),
    short("CHECK POWER MODE", 0xe5, Transfer::None, CheckPower).asks(),
    short("SLEEP", 0xe6, Transfer::None, Standby),
    short("FLUSH CACHE", 0xe7, Transfer::None, Flush),
    long("FLUSH CACHE EXT", 0xea, Transfer::None, Flush),
    short("IDENTIFY DEVICE", 0xec, PioIn, Identify).asks().works_without_device(),
    feature("SET FEATURES, enable write cache", 0x02, WriteCache(true)),
    feature("SET FEATURES, set transfer mode", 0x03, TransferMode),
    feature("SET FEATURES, enable APM", 0x05, PowerManagement(true)),
    feature("SET FEATURES, disable read look-ahead", 0x55, LookAhead(false)),
    feature("SET FEATURES, disable reverting to power-on defaults", 0x66, Defaults),
    feature("SET FEATURES, disable write cache", 0x82, WriteCache(false)),
    feature("SET FEATURES, disable APM", 0x85, PowerManagement(false)),
    feature("SET FEATURES, enable read look-ahead", 0xaa, LookAhead(true)),
    feature("SET FEATURES, enable reverting to power-on defaults", 0xcc, Defaults),
    short("READ NATIVE MAX ADDRESS", 0xf8, Transfer::None, NativeMax).asks(),
];
