//! The commands, one row each (SPC-4, SBC-3 and SAT-3). Dispatch, the checks of the CDB, REPORT SUPPORTED OPERATION
//! CODES, the permission filter and the names in traces all come from the rows.

use super::sense::Sense;
use super::task::Outcome;
use crate::device::Device;
use crate::entry::Kind;
use crate::host::Host;
use crate::medium::{atomic_blocks, is_thin};
use Operation::*;
use Permission::{Anyone, RawIo, Writer};

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// TEST UNIT READY
    Ready,
    /// REQUEST SENSE
    RequestSense,
    /// INQUIRY
    Inquiry,
    /// MODE SENSE
    ModeSense,
    /// MODE SELECT
    ModeSelect,
    /// LOG SENSE
    LogSense,
    /// START STOP UNIT
    StartStop,
    /// SEND DIAGNOSTIC
    SendDiagnostic,
    /// PREVENT ALLOW MEDIUM REMOVAL
    PreventAllow,
    /// READ CAPACITY (10)
    ReadCapacity10,
    /// READ CAPACITY (16)
    ReadCapacity16,
    /// READ
    Read,
    /// WRITE
    Write,
    /// WRITE ATOMIC
    WriteAtomic,
    /// WRITE AND VERIFY
    WriteAndVerify,
    /// VERIFY
    Verify,
    /// SEEK
    Seek,
    /// REZERO UNIT, and SEEK of SCSI-2: nothing
    Reposition,
    /// PRE-FETCH
    PreFetch,
    /// SYNCHRONIZE CACHE
    SynchronizeCache,
    /// READ DEFECT DATA
    ReadDefectData,
    /// WRITE SAME
    WriteSame,
    /// UNMAP
    Unmap,
    /// COMPARE AND WRITE
    CompareAndWrite,
    /// ORWRITE
    OrWrite,
    /// GET LBA STATUS
    GetLbaStatus,
    /// REPORT LUNS
    ReportLuns,
    /// REPORT TARGET PORT GROUPS
    ReportTargetPortGroups,
    /// SET TARGET PORT GROUPS
    SetTargetPortGroups,
    /// REPORT SUPPORTED OPERATION CODES
    ReportOperationCodes,
    /// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
    ReportTaskManagement,
    /// ATA PASS-THROUGH (SAT-3, 12.2)
    AtaPassThrough,
}

impl Operation {
    /// Whether the command is refused while there are no blocks.
    pub(super) fn needs_medium(self) -> bool {
        !matches!(
            self,
            RequestSense
                | Inquiry
                | ModeSense
                | ModeSelect
                | LogSense
                | StartStop
                | SendDiagnostic
                | PreventAllow
                | ReportLuns
                | ReportTargetPortGroups
                | SetTargetPortGroups
                | ReportOperationCodes
                | ReportTaskManagement
                | AtaPassThrough
        )
    }
}

/// Who may send a command (the kernel's `scsi_cmd_allowed`, drivers/scsi/scsi_ioctl.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Whoever has the device open.
    Anyone,
    /// Whoever has it open for writing.
    Writer,
    /// `CAP_SYS_RAWIO`
    RawIo,
}

/// What a command does to the disk. A row that does not say it changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It can change the medium, a setting or the state of the disk.
    Changes,
    /// It changes nothing.
    Reads,
    /// It changes nothing where these bits of a byte of the CDB are 0.
    ReadsUnless {
        /// The byte.
        byte: u8,
        /// Its bits.
        bits: u8,
    },
    /// That of the ATA command in the CDB.
    OfAtaCommand,
}

/// The data of a command that a trace may record: neither logical blocks nor what could be a password. A row that does not say it
/// allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// None.
    Nothing,
    /// The data-in buffer.
    DataIn,
    /// The parameter list.
    ParameterList {
        /// The byte of the CDB where its length begins.
        at: u8,
        /// How many bytes that has.
        bytes: u8,
    },
    /// That of the ATA command in the CDB.
    OfAtaCommand,
}

/// A row of the table.
#[derive(Debug)]
pub struct Command {
    /// The name in the standard.
    pub name: &'static str,
    /// What it does.
    pub operation: Operation,
    /// Who may send it.
    pub permission: Permission,
    /// Whether byte 1 holds a service action.
    pub service_action: bool,
    /// What it does to the disk.
    pub effect: Effect,
    /// Which of its data a trace may record.
    pub recorded: Recorded,
    /// The CDB usage data (SPC-4, 6.35.3): operation code, then a mask of the bits that are looked at. Bits outside must be
    /// 0.
    pub usage: &'static [u8],
}

impl Command {
    /// The operation code.
    pub fn operation_code(&self) -> u8 {
        self.usage.first().copied().unwrap_or(0)
    }

    /// The service action, where there is one.
    pub fn action(&self) -> Option<u8> {
        self.service_action.then(|| self.usage.get(1).copied().unwrap_or(0) & 0x1f)
    }

    /// The bits of a CDB that need not be 0, its first byte uppermost: those that have been compared already, those that
    /// are looked at, and those behind its end.
    pub fn used_bits(&self) -> u128 {
        let mut used = [0xff; 16];
        for (used, usage) in used.iter_mut().zip(self.usage).skip(1) {
            *used = *usage;
        }
        if self.service_action {
            used[1] |= 0x1f;
        }
        u128::from_be_bytes(used)
    }

    /// Whether this CDB of the command changes neither the medium nor a setting nor the state of the disk.
    pub fn changes_nothing(&self, cdb: &[u8; 16]) -> bool {
        match self.effect {
            // Of an ATA command it is not known here.
            Effect::Changes | Effect::OfAtaCommand => false,
            Effect::Reads => true,
            Effect::ReadsUnless { byte, bits } => {
                cdb.get(usize::from(byte)).is_some_and(|byte| byte & bits == 0)
            }
        }
    }

    /// The same command, which changes nothing.
    const fn reads(self) -> Command {
        Command { effect: Effect::Reads, ..self }
    }

    /// The same command, which changes nothing and returns no logical blocks.
    const fn asks(self) -> Command {
        Command { effect: Effect::Reads, recorded: Recorded::DataIn, ..self }
    }

    /// The same command, which saves something where these bits of a byte of its CDB are not 0.
    const fn unless(self, byte: u8, bits: u8) -> Command {
        Command { effect: Effect::ReadsUnless { byte, bits }, ..self }
    }

    /// The same command, for which the row of an ATA command speaks.
    const fn passes_through(self) -> Command {
        Command { effect: Effect::OfAtaCommand, recorded: Recorded::OfAtaCommand, ..self }
    }

    /// The same command, whose parameter list may be recorded.
    const fn list(self, at: u8, bytes: u8) -> Command {
        Command { recorded: Recorded::ParameterList { at, bytes }, ..self }
    }

    /// Whether a CDB is one of this command.
    pub fn is(&self, operation_code: u8, action: u8) -> bool {
        self.operation_code() == operation_code && self.action().is_none_or(|own| own == action)
    }
}

/// Where in the table the first row of each operation code is; behind the end where there is none.
static FIRST: [u8; 256] = {
    let mut first = [COMMANDS.len() as u8; 256];
    let mut at = COMMANDS.len();
    while at > 0 {
        at -= 1;
        first[COMMANDS[at].usage[0] as usize] = at as u8;
    }
    first
};

/// The row of a CDB.
pub fn find(operation_code: u8, action: u8) -> Option<&'static Command> {
    let first = FIRST[usize::from(operation_code)];
    COMMANDS.iter().skip(first.into()).find(|command| command.is(operation_code, action))
}

/// The row of a CDB, where the disk has it.
pub(super) fn supported(
    device: &Device<'_>,
    host: &impl Host,
    operation_code: u8,
    action: u8,
) -> Result<&'static Command, Outcome> {
    match find(operation_code, action) {
        Some(command) if has(device, host, command.operation) => Ok(command),
        // The service action is wrong where there are others.
        _ if rows(device, host, operation_code).any(|row| row.service_action) => {
            Err(Sense::cdb(1, Some(4)).into())
        }
        _ => Err(Sense::INVALID_COMMAND_OPERATION_CODE.into()),
    }
}

/// The rows of an operation code that the disk has.
pub(super) fn rows(
    device: &Device<'_>,
    host: &impl Host,
    operation_code: u8,
) -> impl Iterator<Item = &'static Command> {
    let all = COMMANDS.iter().filter(move |row| row.operation_code() == operation_code);
    all.filter(move |row| has(device, host, row.operation))
}

/// Whether the disk has a command that not every disk has.
pub(super) fn has(device: &Device<'_>, host: &impl Host, operation: Operation) -> bool {
    match operation {
        Unmap => is_thin(host),
        AtaPassThrough | Reposition => device.entry.kind == Kind::Sata,
        WriteAtomic => atomic_blocks(device, host).is_some(),
        // libata has no target ports.
        ReportTargetPortGroups | SetTargetPortGroups => device.entry.kind == Kind::Scsi,
        _ => true,
    }
}

/// Who may send a command that the disk does not have: what the kernel lets pass, a real disk refuses by itself.
pub fn permission_without_row(operation_code: u8) -> Permission {
    match operation_code {
        0x1c
        | 0x23
        | 0x3c
        | 0x3e
        | 0x42..=0x48
        | 0x4a
        | 0x4b
        | 0x4e
        | 0x51
        | 0x52
        | 0x5c
        | 0x95
        | 0x9e
        | 0xa3
        | 0xa4
        | 0xac
        | 0xad
        | 0xb9
        | 0xba
        | 0xbc
        | 0xbe => Anyone,
        0x04 | 0x0d | 0x19 | 0x3f | 0x4c | 0x53 | 0x54 | 0x58 | 0x5b | 0x5d | 0x94 | 0xa1 | 0xa2 | 0xa6
        | 0xa7 | 0xb6 | 0xbb | 0xbf | 0xea => Writer,
        _ => RawIo,
    }
}

const fn row(
    name: &'static str,
    operation: Operation,
    permission: Permission,
    usage: &'static [u8],
) -> Command {
    Command {
        name,
        operation,
        permission,
        service_action: false,
        effect: Effect::Changes,
        recorded: Recorded::Nothing,
        usage,
    }
}

const fn action(
    name: &'static str,
    operation: Operation,
    permission: Permission,
    usage: &'static [u8],
) -> Command {
    Command { service_action: true, ..row(name, operation, permission, usage) }
}

/// Every command of the disk, by operation code.
pub static COMMANDS: &[Command] = &[
    row("TEST UNIT READY", Ready, Anyone, &[0x00, 0, 0, 0, 0, 0]).asks(),
    // SCSI-2. libata has it, and SEEK(6).
    row("REZERO UNIT", Reposition, RawIo, &[0x01, 0, 0, 0, 0, 0]).asks(),
    row("REQUEST SENSE", RequestSense, Anyone, &[0x03, 0x01, 0, 0, 0xff, 0]).asks(),
    row("READ(6)", Read, Anyone, &[0x08, 0x1f, 0xff, 0xff, 0xff, 0]).reads(),
    row("WRITE(6)", Write, Writer, &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0]),
    row("SEEK(6)", Reposition, RawIo, &[0x0b, 0x1f, 0xff, 0xff, 0, 0]).asks(),
    row("INQUIRY", Inquiry, Anyone, &[0x12, 0x01, 0xff, 0xff, 0xff, 0]).asks(),
    row("MODE SELECT(6)", ModeSelect, Writer, &[0x15, 0x10, 0, 0, 0xff, 0]).list(4, 1),
    row("MODE SENSE(6)", ModeSense, Anyone, &[0x1a, 0x08, 0xff, 0xff, 0xff, 0]).asks(),
    row("START STOP UNIT", StartStop, Anyone, &[0x1b, 0x01, 0, 0x0f, 0xf7, 0]),
    row("SEND DIAGNOSTIC", SendDiagnostic, RawIo, &[0x1d, 0xf7, 0, 0xff, 0xff, 0]).list(3, 2),
    row("PREVENT ALLOW MEDIUM REMOVAL", PreventAllow, Writer, &[0x1e, 0, 0, 0, 0x03, 0]),
    row("READ CAPACITY(10)", ReadCapacity10, Anyone, &[0x25, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0])
        .asks(),
    row("READ(10)", Read, Anyone, &[0x28, 0x1c, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]).reads(),
    row("WRITE(10)", Write, Writer, &[0x2a, 0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    // SBC-2 made it obsolete; there are programs that send it.
    row("SEEK(10)", Seek, Anyone, &[0x2b, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).reads(),
    row(
        "WRITE AND VERIFY(10)",
        WriteAndVerify,
        Writer,
        &[0x2e, 0x16, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0],
    ),
    row("VERIFY(10)", Verify, Anyone, &[0x2f, 0x16, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]).reads(),
    row("PRE-FETCH(10)", PreFetch, RawIo, &[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]).reads(),
    row(
        "SYNCHRONIZE CACHE(10)",
        SynchronizeCache,
        Writer,
        &[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0],
    ),
    row("READ DEFECT DATA(10)", ReadDefectData, Anyone, &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0]).asks(),
    row("WRITE SAME(10)", WriteSame, Writer, &[0x41, 0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]),
    // The kernel lets anyone send it, for READ SUB-CHANNEL of a CD has the same code.
    row("UNMAP", Unmap, Writer, &[0x42, 0x01, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0]).list(7, 2),
    // SP saves the parameters.
    row("LOG SENSE", LogSense, Anyone, &[0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0])
        .asks()
        .unless(1, 0x01),
    row("MODE SELECT(10)", ModeSelect, Writer, &[0x55, 0x10, 0, 0, 0, 0, 0, 0xff, 0xff, 0]).list(7, 2),
    row("MODE SENSE(10)", ModeSense, Anyone, &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0]).asks(),
    row(
        "ATA PASS-THROUGH(16)",
        AtaPassThrough,
        RawIo,
        &[0x85, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0],
    )
    .passes_through(),
    row("READ(16)", Read, Anyone, &sixteen(0x88, 0x1c)).reads(),
    row(
        "COMPARE AND WRITE",
        CompareAndWrite,
        RawIo,
        &[0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x1f, 0],
    ),
    row("WRITE(16)", Write, Writer, &sixteen(0x8a, 0x18)),
    row("ORWRITE(16)", OrWrite, RawIo, &sixteen(0x8b, 0x18)),
    row("WRITE AND VERIFY(16)", WriteAndVerify, RawIo, &sixteen(0x8e, 0x16)),
    row("VERIFY(16)", Verify, Anyone, &sixteen(0x8f, 0x16)).reads(),
    row("PRE-FETCH(16)", PreFetch, RawIo, &sixteen(0x90, 0x02)).reads(),
    row("SYNCHRONIZE CACHE(16)", SynchronizeCache, RawIo, &sixteen(0x91, 0x02)),
    row("WRITE SAME(16)", WriteSame, Writer, &sixteen(0x93, 0x19)),
    // SBC-4, 5.48. The bits of ATOMIC BOUNDARY are reserved, for the disk has none.
    row(
        "WRITE ATOMIC(16)",
        WriteAtomic,
        RawIo,
        &[0x9c, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0x1f, 0],
    ),
    action(
        "READ CAPACITY(16)",
        ReadCapacity16,
        Anyone,
        &[0x9e, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0],
    )
    .asks(),
    action(
        "GET LBA STATUS",
        GetLbaStatus,
        Anyone,
        &[0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    )
    .asks(),
    row("REPORT LUNS", ReportLuns, Anyone, &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]).asks(),
    // The kernel lets writers send it, for BLANK of a CD has the same code.
    row(
        "ATA PASS-THROUGH(12)",
        AtaPassThrough,
        Writer,
        &[0xa1, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    )
    .passes_through(),
    action(
        "REPORT TARGET PORT GROUPS",
        ReportTargetPortGroups,
        Anyone,
        &[0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
    )
    .asks(),
    action(
        "REPORT SUPPORTED OPERATION CODES",
        ReportOperationCodes,
        Anyone,
        &[0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    )
    .asks(),
    action(
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        ReportTaskManagement,
        Anyone,
        &[0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
    )
    .asks(),
    action(
        "SET TARGET PORT GROUPS",
        SetTargetPortGroups,
        Anyone,
        &[0xa4, 0x0a, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
    )
    .list(6, 4),
    row("READ(12)", Read, Anyone, &twelve(0xa8, 0x1c)).reads(),
    row("WRITE(12)", Write, Writer, &twelve(0xaa, 0x18)),
    row("WRITE AND VERIFY(12)", WriteAndVerify, Writer, &twelve(0xae, 0x16)),
    row("VERIFY(12)", Verify, RawIo, &twelve(0xaf, 0x16)).reads(),
    row(
        "READ DEFECT DATA(12)",
        ReadDefectData,
        RawIo,
        &[0xb7, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
    )
    .asks(),
];

/// A logical block address of 8 bytes and a length of 4.
const fn sixteen(operation_code: u8, flags: u8) -> [u8; 16] {
    let f = 0xff;
    [operation_code, flags, f, f, f, f, f, f, f, f, f, f, f, f, 0x1f, 0]
}

/// A logical block address of 4 bytes and a length of 4.
const fn twelve(operation_code: u8, flags: u8) -> [u8; 12] {
    let f = 0xff;
    [operation_code, flags, f, f, f, f, f, f, f, f, 0x1f, 0]
}
