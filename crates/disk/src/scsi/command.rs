//! The SCSI commands, one row each (SPC-4, SBC-3 and SAT-3). Dispatch, the checks of the CDB,
//! REPORT SUPPORTED OPERATION CODES, the permission filter, and what a trace names, records and
//! sends again all come from the rows.

use super::sense::Sense;
use crate::device::Device;
use crate::entry::Kind;
use crate::host::Host;
use crate::medium::{atomic_blocks, is_thin};
use crate::reservation::Tolerates;
use Operation::*;
use Permission::{Anyone, RawIo, Writer};
use Tolerates::{Everything, Persistent};

/// The handler of a command. A static table cannot hold the functions, which are generic over the
/// host; dispatch matches every value.
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
    /// RESERVE of SPC-2
    Reserve,
    /// RELEASE of SPC-2
    Release,
    /// PERSISTENT RESERVE IN
    PersistentReserveIn,
    /// PERSISTENT RESERVE OUT
    PersistentReserveOut,
    /// EXTENDED COPY(LID1)
    ExtendedCopy,
    /// RECEIVE COPY STATUS(LID1)
    ReceiveCopyStatus,
    /// RECEIVE COPY OPERATING PARAMETERS
    ReceiveCopyParameters,
    /// READ BUFFER
    ReadBuffer,
    /// WRITE BUFFER
    WriteBuffer,
    /// SANITIZE
    Sanitize,
    /// FORMAT UNIT
    FormatUnit,
}

/// The permission that a command needs (`scsi_cmd_allowed` in the kernel's
/// drivers/scsi/scsi_ioctl.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The descriptor is open.
    Anyone,
    /// The descriptor is open for writing.
    Writer,
    /// `CAP_SYS_RAWIO`
    RawIo,
}

/// The field of a CDB that begins at a byte, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its first byte.
    pub at: u8,
    /// How many bytes it has.
    pub bytes: u8,
}

/// The data phase of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPhase {
    /// No data.
    None,
    /// Parameter data from the disk, cut at the allocation length if the CDB has one.
    In(Option<Field>),
    /// A parameter list; of this length if the CDB has one.
    Out(Option<Field>),
    /// Logical blocks from the disk.
    BlocksIn,
    /// Logical blocks to the disk.
    BlocksOut,
    /// That of the ATA command in the CDB.
    OfAtaCommand,
}

/// What a command does to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It can change anything. This is the default.
    ChangesMedium,
    /// It can change a setting or the state of the disk, but no logical block.
    ChangesState,
    /// It changes nothing.
    Reads,
    /// It changes nothing if these bits of a byte of the CDB are 0, else the state of the disk.
    ReadsUnless {
        /// The byte.
        byte: u8,
        /// Its bits.
        bits: u8,
    },
    /// That of the ATA command in the CDB.
    OfAtaCommand,
}

/// What a command needs to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Logical blocks, else MEDIUM NOT PRESENT.
    Medium,
    /// A backing device whose size is known.
    Device,
    /// Nothing: the command works when the backing device is gone.
    Nothing,
}

/// The disks that have a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    /// All of them.
    All,
    /// Disks of kind `scsi`.
    Scsi,
    /// Disks of kind `sata`.
    Sata,
    /// Thin-provisioned disks.
    Thin,
    /// Disks that can write several logical blocks atomically.
    Atomic,
    /// Disks of kind `scsi` whose engine knows all I_T nexuses.
    Shared,
    /// Those of them that are thin-provisioned.
    SharedThin,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// The name in the standard.
    pub name: &'static str,
    /// Its handler.
    pub operation: Operation,
    /// The permission that it needs.
    pub permission: Permission,
    /// The CDB usage data (SPC-4, 6.35.3): operation code, then the bits that are used. Other bits
    /// must be 0.
    pub usage: &'static [u8],
    /// The bits of a CDB that may be set, its first byte uppermost: operation code and service
    /// action, those of the usage data, and those after its end.
    used_bits: u128,
    /// Whether byte 1 holds a service action.
    pub service_action: bool,
    /// Its data phase.
    pub data: DataPhase,
    /// The LBA.
    pub lba: Option<Field>,
    /// The transfer length, in logical blocks.
    pub transfer_length: Option<Field>,
    /// What it does to the disk.
    pub effect: Effect,
    /// Whether a trace may record its data, which cannot hold a password. Logical blocks are never
    /// recorded.
    pub recorded: bool,
    /// What it needs.
    pub needs: Needs,
    /// Whether it reports a pending unit attention (SAM-5, 5.14).
    pub reports_unit_attention: bool,
    /// The reservations of other I_T nexuses under which it is carried out.
    pub tolerates: Tolerates,
    /// The disks that have it.
    pub disks: Disks,
}

impl Command {
    /// Returns the operation code.
    pub fn operation_code(&self) -> u8 {
        self.usage.first().copied().unwrap_or(0)
    }

    /// Returns the service action, if it has one.
    pub fn action(&self) -> Option<u8> {
        self.service_action.then(|| self.usage.get(1).copied().unwrap_or(0) & 0x1f)
    }

    /// Returns the reserved bits that are set in a CDB, its first byte uppermost.
    pub(super) fn reserved_bits(&self, cdb: &[u8; 16]) -> u128 {
        u128::from_be_bytes(*cdb) & !self.used_bits
    }

    /// Returns the value of a field of a CDB, without reserved bits.
    pub fn value(&self, field: Field, cdb: &[u8; 16]) -> u64 {
        let Field { at, bytes } = field;
        let behind = 16 - u32::from(at) - u32::from(bytes);
        let value = (u128::from_be_bytes(*cdb) & self.used_bits) >> (8 * behind);
        value as u64 & u64::MAX >> (64 - 8 * u32::from(bytes))
    }

    /// Returns the LBA of a CDB.
    pub fn lba(&self, cdb: &[u8; 16]) -> Option<u64> {
        self.lba.map(|field| self.value(field, cdb))
    }

    /// Returns the transfer length of a CDB, in logical blocks.
    pub fn blocks(&self, cdb: &[u8; 16]) -> Option<u64> {
        let blocks = self.transfer_length.map(|field| self.value(field, cdb))?;
        // 0 stands for 256 in READ(6) and WRITE(6).
        Some(if blocks == 0 && self.usage.len() == 6 { 256 } else { blocks })
    }

    /// Returns whether only disks have it whose engine knows all I_T nexuses.
    const fn is_shared(&self) -> bool {
        matches!(self.disks, Disks::Shared | Disks::SharedThin)
    }

    /// Returns whether the command is so frequent that it uses the cached block size.
    #[inline]
    pub(crate) const fn is_frequent(&self) -> bool {
        matches!(self.operation, Read | Write)
    }

    /// Returns whether a CDB changes neither the medium nor a setting nor the state of the disk.
    pub fn changes_nothing(&self, cdb: &[u8; 16]) -> bool {
        match self.effect {
            Effect::ChangesMedium | Effect::ChangesState | Effect::OfAtaCommand => false,
            Effect::Reads => true,
            Effect::ReadsUnless { byte, bits } => {
                cdb.get(usize::from(byte)).is_some_and(|byte| byte & bits == 0)
            }
        }
    }

    /// Returns the reservations of other I_T nexuses under which a CDB is carried out.
    pub(super) fn tolerated(&self, cdb: &[u8; 16]) -> Tolerates {
        match (self.operation, cdb[4]) {
            // START without a power condition, and PREVENT 0 (SBC-3, table 13).
            (StartStop, start) if start & 0xf1 == 0x01 => Persistent,
            (PreventAllow, prevent) if prevent & 0x03 == 0 => Everything,
            _ => self.tolerates,
        }
    }

    /// Returns whether this is the row of an operation code and service action.
    pub fn is(&self, operation_code: u8, action: u8) -> bool {
        self.operation_code() == operation_code && self.action().is_none_or(|own| own == action)
    }
}

/// The builders of rows: each returns the row with one more property.
impl Command {
    /// Returns a field of the CDB. A byte outside the usage data is a compile-time error.
    const fn field(&self, at: u8, bytes: u8) -> Field {
        let end = at as usize + bytes as usize;
        assert!(0 < bytes && bytes <= 8 && end <= self.usage.len(), "the field is outside the CDB");
        let mut byte = at as usize;
        while byte < end {
            assert!(self.usage[byte] != 0, "the field is outside the usage data");
            byte += 1;
        }
        Field { at, bytes }
    }

    /// It changes nothing.
    const fn reads(self) -> Command {
        Command { effect: Effect::Reads, tolerates: Tolerates::WriteExclusive, ..self }
    }

    /// It is carried out under these reservations of others.
    const fn tolerates(self, tolerates: Tolerates) -> Command {
        Command { tolerates, ..self }
    }

    /// It changes no logical block.
    const fn changes_state(self) -> Command {
        Command { effect: Effect::ChangesState, ..self }
    }

    /// It changes nothing, and returns parameter data that may be recorded; its allocation length
    /// is here.
    const fn data_in(self, at: u8, bytes: u8) -> Command {
        let length = self.field(at, bytes);
        Command { data: DataPhase::In(Some(length)), recorded: true, ..self.reads() }
    }

    /// It changes nothing, and returns parameter data that may be recorded; the CDB has no
    /// allocation length.
    const fn data_in_fixed(self) -> Command {
        Command { data: DataPhase::In(None), recorded: true, ..self.reads() }
    }

    /// It receives a parameter list that may be recorded; its length is here.
    const fn data_out(self, at: u8, bytes: u8) -> Command {
        Command { data: DataPhase::Out(Some(self.field(at, bytes))), recorded: true, ..self }
    }

    /// It receives a parameter list whose header says how long it is.
    const fn data_out_by_header(self) -> Command {
        Command { data: DataPhase::Out(None), ..self }
    }

    /// A trace does not record its data, which is the caller's.
    const fn not_recorded(self) -> Command {
        Command { recorded: false, ..self }
    }

    /// It changes the state of the disk if these bits of the CDB are not 0.
    const fn reads_unless(self, byte: u8, bits: u8) -> Command {
        Command { effect: Effect::ReadsUnless { byte, bits }, ..self }
    }

    /// It names a logical block.
    const fn lba_at(self, at: u8, bytes: u8) -> Command {
        Command { lba: Some(self.field(at, bytes)), ..self }
    }

    /// It names logical blocks.
    const fn range(self, [lba, length]: [Field; 2]) -> Command {
        let transfer_length = Some(self.field(length.at, length.bytes));
        Command { transfer_length, ..self.lba_at(lba.at, lba.bytes) }
    }

    /// It returns logical blocks, and changes nothing.
    const fn blocks_in(self, range: [Field; 2]) -> Command {
        Command { data: DataPhase::BlocksIn, ..self.range(range).reads() }
    }

    /// It receives logical blocks.
    const fn blocks_out(self, range: [Field; 2]) -> Command {
        Command { data: DataPhase::BlocksOut, ..self.range(range) }
    }

    /// It has the properties of the ATA command in its CDB, which checks the capacity itself.
    const fn passes_through(self) -> Command {
        Command {
            data: DataPhase::OfAtaCommand,
            effect: Effect::OfAtaCommand,
            recorded: true,
            needs: Needs::Nothing,
            disks: Disks::Sata,
            ..self
        }
    }

    const fn needs(self, needs: Needs) -> Command {
        Command { needs, ..self }
    }

    const fn only_on(self, disks: Disks) -> Command {
        Command { disks, ..self }
    }

    /// It neither reports nor clears a unit attention.
    const fn skips_unit_attention(self) -> Command {
        Command { reports_unit_attention: false, ..self }
    }
}

/// A table of commands.
struct Table {
    rows: &'static [Command],
    /// The index of the first row of each operation code; the length of the table if there is none.
    first: [u8; 256],
}

impl Table {
    const fn new(rows: &'static [Command]) -> Table {
        let mut first = [rows.len() as u8; 256];
        let mut at = rows.len();
        while at > 0 {
            at -= 1;
            first[rows[at].usage[0] as usize] = at as u8;
        }
        Table { rows, first }
    }

    fn find(&self, operation_code: u8, action: u8) -> Option<&'static Command> {
        let first = self.first.get(usize::from(operation_code)).copied().unwrap_or_default();
        self.rows.iter().skip(first.into()).find(|command| command.is(operation_code, action))
    }
}

/// All commands.
static ALL: Table = Table::new(COMMANDS);

/// Those of an engine that knows one process: the preload library does not hold the others.
static ALONE: Table = Table::new(&WITHOUT_SHARED);

static WITHOUT_SHARED: [Command; count_without_shared()] = {
    let mut rows = [ROWS[0]; count_without_shared()];
    let (mut from, mut to) = (0, 0);
    while from < ROWS.len() {
        if !ROWS[from].is_shared() {
            rows[to] = ROWS[from];
            to += 1;
        }
        from += 1;
    }
    rows
};

const fn count_without_shared() -> usize {
    let (mut at, mut count) = (0, 0);
    while at < ROWS.len() {
        count += !ROWS[at].is_shared() as usize;
        at += 1;
    }
    count
}

/// Returns the table of a host's disks.
#[inline]
fn table(host: &impl Host) -> &'static Table {
    if host.are_known() { &ALL } else { &ALONE }
}

/// Returns the commands that a host's disks can have.
pub(super) fn commands(host: &impl Host) -> &'static [Command] {
    table(host).rows
}

/// Whether the rows of an operation code are frequent: READ and WRITE.
static FREQUENT: [bool; 256] = {
    let mut frequent = [false; 256];
    let mut at = 0;
    while at < ROWS.len() {
        frequent[ROWS[at].usage[0] as usize] |= ROWS[at].is_frequent();
        at += 1;
    }
    frequent
};

/// Returns whether an operation code is one of READ or WRITE.
#[inline]
pub fn is_read_or_write(operation_code: u8) -> bool {
    FREQUENT[usize::from(operation_code)]
}

/// Returns the row of a CDB.
pub fn find(operation_code: u8, action: u8) -> Option<&'static Command> {
    ALL.find(operation_code, action)
}

/// Returns the row of a CDB, if a host's disks can have the command.
#[inline]
pub(crate) fn find_for(host: &impl Host, operation_code: u8, action: u8) -> Option<&'static Command> {
    table(host).find(operation_code, action)
}

/// Returns the row of a CDB if the disk has it. `row`: the result of [`find_for`].
pub(super) fn supported(
    device: &Device<'_>,
    host: &impl Host,
    row: Option<&'static Command>,
    operation_code: u8,
) -> Result<&'static Command, Sense> {
    match row {
        Some(row) if has(device, host, row) => Ok(row),
        // Another service action of the operation code exists.
        _ if rows(device, host, operation_code).any(|row| row.service_action) => {
            Err(Sense::invalid_field_in_cdb(1, Some(4)))
        }
        _ => Err(Sense::INVALID_COMMAND_OPERATION_CODE),
    }
}

/// Returns the rows of an operation code that the disk has.
pub(super) fn rows(
    device: &Device<'_>,
    host: &impl Host,
    operation_code: u8,
) -> impl Iterator<Item = &'static Command> {
    let all = commands(host).iter().filter(move |row| row.operation_code() == operation_code);
    all.filter(move |row| has(device, host, row))
}

/// Returns whether the disk has a command.
pub(super) fn has(device: &Device<'_>, host: &impl Host, row: &Command) -> bool {
    match row.disks {
        Disks::All => true,
        Disks::Scsi => device.entry.kind == Kind::Scsi,
        Disks::Sata => device.entry.kind == Kind::Sata,
        Disks::Thin => is_thin(host),
        Disks::Atomic => atomic_blocks(device, host).is_some(),
        Disks::Shared => has_reservations(device, host),
        Disks::SharedThin => has_reservations(device, host) && is_thin(host),
    }
}

/// Returns whether the I_T nexuses of a disk have reservations, which libata's disks do not.
#[inline]
pub(crate) fn has_reservations(device: &Device<'_>, host: &impl Host) -> bool {
    host.are_known() && device.entry.kind == Kind::Scsi
}

/// Returns the permission for an operation code without a row, as in the kernel's filter, but for other
/// service actions of SANITIZE: see its rows. The disk rejects what passes it.
pub fn permission_without_row(operation_code: u8) -> Permission {
    match operation_code {
        0x1c | 0x23 | 0x3c | 0x3e | 0x42 | 0x43 | 0x44 | 0x45 | 0x46 | 0x47 | 0x4a | 0x4b | 0x4e | 0x51
        | 0x52 | 0x5c | 0x95 | 0x9e | 0xa3 | 0xa4 | 0xac | 0xad | 0xb9 | 0xba | 0xbc | 0xbe => Anyone,
        0x04 | 0x0d | 0x19 | 0x3f | 0x48 | 0x4c | 0x53 | 0x54 | 0x58 | 0x5b | 0x5d | 0x94 | 0xa1 | 0xa2
        | 0xa6 | 0xa7 | 0xb6 | 0xbb | 0xbf | 0xea => Writer,
        _ => RawIo,
    }
}

/// Returns a row that is closed by default: it changes the medium, needs one, and a trace records
/// nothing.
const fn row(
    name: &'static str,
    operation: Operation,
    permission: Permission,
    usage: &'static [u8],
) -> Command {
    let mut used = [0xff; 16];
    let mut at = 1;
    while at < usage.len() {
        used[at] = usage[at];
        at += 1;
    }
    Command {
        name,
        operation,
        permission,
        usage,
        used_bits: u128::from_be_bytes(used),
        service_action: false,
        data: DataPhase::None,
        lba: None,
        transfer_length: None,
        effect: Effect::ChangesMedium,
        recorded: false,
        needs: Needs::Medium,
        reports_unit_attention: true,
        tolerates: Tolerates::Nothing,
        disks: Disks::All,
    }
}

const fn action(
    name: &'static str,
    operation: Operation,
    permission: Permission,
    usage: &'static [u8],
) -> Command {
    let row = row(name, operation, permission, usage);
    Command { service_action: true, used_bits: row.used_bits | 0x1f << 112, ..row }
}

const fn reserve_in(name: &'static str, usage: &'static [u8]) -> Command {
    action(name, PersistentReserveIn, RawIo, usage)
        .data_in(7, 2)
        .needs(Needs::Nothing)
        .tolerates(Persistent)
        .only_on(Disks::Shared)
}

const fn reserve_out(name: &'static str, usage: &'static [u8]) -> Command {
    action(name, PersistentReserveOut, RawIo, usage)
        .data_out(5, 4)
        .changes_state()
        .needs(Needs::Nothing)
        .tolerates(Persistent)
        .only_on(Disks::Shared)
}

/// LBA and transfer length of CDBs of each length (SBC-3, clause 5).
const SIX: [Field; 2] = [Field { at: 1, bytes: 3 }, Field { at: 4, bytes: 1 }];
const TEN: [Field; 2] = [Field { at: 2, bytes: 4 }, Field { at: 7, bytes: 2 }];
const TWELVE: [Field; 2] = [Field { at: 2, bytes: 4 }, Field { at: 6, bytes: 4 }];
const SIXTEEN: [Field; 2] = [Field { at: 2, bytes: 8 }, Field { at: 10, bytes: 4 }];
const COMPARE: [Field; 2] = [Field { at: 2, bytes: 8 }, Field { at: 13, bytes: 1 }];
const ATOMIC: [Field; 2] = [Field { at: 2, bytes: 8 }, Field { at: 12, bytes: 2 }];

/// A byte of the usage data all of whose bits are used.
const F: u8 = 0xff;

/// The commands, by operation code.
pub static COMMANDS: &[Command] = ROWS;

const ROWS: &[Command] = &[
    row("TEST UNIT READY", Ready, Anyone, &[0x00, 0, 0, 0, 0, 0]).reads().tolerates(Persistent),
    // SCSI-2. libata has it, and SEEK(6).
    row("REZERO UNIT", Reposition, RawIo, &[0x01, 0, 0, 0, 0, 0]).reads().only_on(Disks::Sata),
    row("REQUEST SENSE", RequestSense, Anyone, &[0x03, 0x01, 0, 0, F, 0])
        .data_in(4, 1)
        .needs(Needs::Nothing)
        .tolerates(Everything),
    row("FORMAT UNIT", FormatUnit, Writer, &[0x04, 0x3f, 0, 0, 0, 0])
        .data_out_by_header()
        .only_on(Disks::Shared),
    row("READ(6)", Read, Anyone, &[0x08, 0x1f, F, F, F, 0]).blocks_in(SIX),
    row("WRITE(6)", Write, Writer, &[0x0a, 0x1f, F, F, F, 0]).blocks_out(SIX),
    row("SEEK(6)", Reposition, RawIo, &[0x0b, 0x1f, F, F, 0, 0]).reads().only_on(Disks::Sata),
    row("INQUIRY", Inquiry, Anyone, &[0x12, 0x01, F, F, F, 0])
        .data_in(3, 2)
        .needs(Needs::Nothing)
        .skips_unit_attention()
        .tolerates(Everything),
    row("MODE SELECT(6)", ModeSelect, Writer, &[0x15, 0x10, 0, 0, F, 0])
        .data_out(4, 1)
        .changes_state()
        .needs(Needs::Device),
    // SPC-2; its extents and third parties are obsolete.
    row("RESERVE(6)", Reserve, RawIo, &[0x16, 0, 0, 0, 0, 0])
        .changes_state()
        .needs(Needs::Nothing)
        .only_on(Disks::Shared),
    row("RELEASE(6)", Release, RawIo, &[0x17, 0, 0, 0, 0, 0])
        .changes_state()
        .needs(Needs::Nothing)
        .tolerates(Everything)
        .only_on(Disks::Shared),
    row("MODE SENSE(6)", ModeSense, Anyone, &[0x1a, 0x08, F, F, F, 0]).data_in(4, 1).needs(Needs::Device),
    row("START STOP UNIT", StartStop, Anyone, &[0x1b, 0x01, 0, 0x0f, 0xf7, 0])
        .changes_state()
        .needs(Needs::Device),
    row("SEND DIAGNOSTIC", SendDiagnostic, RawIo, &[0x1d, 0xf7, 0, F, F, 0])
        .data_out(3, 2)
        .changes_state()
        .needs(Needs::Device),
    row("PREVENT ALLOW MEDIUM REMOVAL", PreventAllow, Writer, &[0x1e, 0, 0, 0, 0x03, 0])
        .changes_state()
        .needs(Needs::Device),
    row("READ CAPACITY(10)", ReadCapacity10, Anyone, &[0x25, 0, F, F, F, F, 0, 0, 0x01, 0])
        .data_in_fixed()
        .tolerates(Persistent),
    row("READ(10)", Read, Anyone, &ten(0x28, 0x1c)).blocks_in(TEN),
    row("WRITE(10)", Write, Writer, &ten(0x2a, 0x18)).blocks_out(TEN),
    // Obsolete since SBC-2; some programs send it.
    row("SEEK(10)", Seek, Anyone, &[0x2b, 0, F, F, F, F, 0, 0, 0, 0]).lba_at(2, 4).reads(),
    row("WRITE AND VERIFY(10)", WriteAndVerify, Writer, &ten(0x2e, 0x16)).blocks_out(TEN),
    row("VERIFY(10)", Verify, Anyone, &ten(0x2f, 0x16)).blocks_out(TEN).reads(),
    row("PRE-FETCH(10)", PreFetch, RawIo, &ten(0x34, 0x02)).range(TEN).reads(),
    row("SYNCHRONIZE CACHE(10)", SynchronizeCache, Writer, &ten(0x35, 0x02)).range(TEN).changes_state(),
    row("READ DEFECT DATA(10)", ReadDefectData, Anyone, &[0x37, 0, 0x1f, 0, 0, 0, 0, F, F, 0]).data_in(7, 2),
    row("WRITE BUFFER", WriteBuffer, RawIo, &[0x3b, 0x1f, F, F, F, F, F, F, F, 0])
        .data_out(6, 3)
        .not_recorded()
        .changes_state()
        .needs(Needs::Device)
        .only_on(Disks::Shared),
    row("READ BUFFER", ReadBuffer, Anyone, &[0x3c, 0x1f, F, F, F, F, F, F, F, 0])
        .data_in(6, 3)
        .not_recorded()
        .needs(Needs::Device)
        .only_on(Disks::Shared),
    row("WRITE SAME(10)", WriteSame, Writer, &ten(0x41, 0x18)).blocks_out(TEN),
    // The kernel's filter takes it for READ SUB-CHANNEL of a CD, which anyone may send.
    row("UNMAP", Unmap, Writer, &[0x42, 0x01, 0, 0, 0, 0, 0x1f, F, F, 0]).data_out(7, 2).only_on(Disks::Thin),
    // The kernel's filter takes it for PLAY AUDIO TRACK INDEX of a CD, which anyone may send.
    action("SANITIZE, OVERWRITE", Sanitize, Writer, &[0x48, 0xa1, 0, 0, 0, 0, 0, F, F, 0])
        .data_out(7, 2)
        .only_on(Disks::Shared),
    action("SANITIZE, BLOCK ERASE", Sanitize, Writer, &[0x48, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0])
        .only_on(Disks::SharedThin),
    action("SANITIZE, EXIT FAILURE MODE", Sanitize, Writer, &[0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0])
        .changes_state()
        .needs(Needs::Device)
        .only_on(Disks::Shared),
    // SP saves the parameters.
    row("LOG SENSE", LogSense, Anyone, &[0x4d, 0x01, F, F, 0, F, F, F, F, 0])
        .data_in(7, 2)
        .reads_unless(1, 0x01)
        .needs(Needs::Device)
        .tolerates(Everything),
    row("MODE SELECT(10)", ModeSelect, Writer, &[0x55, 0x10, 0, 0, 0, 0, 0, F, F, 0])
        .data_out(7, 2)
        .changes_state()
        .needs(Needs::Device),
    row("RESERVE(10)", Reserve, RawIo, &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .changes_state()
        .needs(Needs::Nothing)
        .only_on(Disks::Shared),
    row("RELEASE(10)", Release, RawIo, &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .changes_state()
        .needs(Needs::Nothing)
        .tolerates(Everything)
        .only_on(Disks::Shared),
    row("MODE SENSE(10)", ModeSense, Anyone, &[0x5a, 0x18, F, F, 0, 0, 0, F, F, 0])
        .data_in(7, 2)
        .needs(Needs::Device),
    reserve_in("PERSISTENT RESERVE IN, READ KEYS", &[0x5e, 0x00, 0, 0, 0, 0, 0, F, F, 0]),
    reserve_in("PERSISTENT RESERVE IN, READ RESERVATION", &[0x5e, 0x01, 0, 0, 0, 0, 0, F, F, 0]),
    reserve_in("PERSISTENT RESERVE IN, REPORT CAPABILITIES", &[0x5e, 0x02, 0, 0, 0, 0, 0, F, F, 0]),
    reserve_in("PERSISTENT RESERVE IN, READ FULL STATUS", &[0x5e, 0x03, 0, 0, 0, 0, 0, F, F, 0]),
    reserve_out("PERSISTENT RESERVE OUT, REGISTER", &[0x5f, 0x00, F, 0, 0, F, F, F, F, 0]),
    reserve_out("PERSISTENT RESERVE OUT, RESERVE", &[0x5f, 0x01, F, 0, 0, F, F, F, F, 0]),
    reserve_out("PERSISTENT RESERVE OUT, RELEASE", &[0x5f, 0x02, F, 0, 0, F, F, F, F, 0]),
    reserve_out("PERSISTENT RESERVE OUT, CLEAR", &[0x5f, 0x03, F, 0, 0, F, F, F, F, 0]),
    reserve_out("PERSISTENT RESERVE OUT, PREEMPT", &[0x5f, 0x04, F, 0, 0, F, F, F, F, 0]),
    reserve_out("PERSISTENT RESERVE OUT, PREEMPT AND ABORT", &[0x5f, 0x05, F, 0, 0, F, F, F, F, 0]),
    reserve_out(
        "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY",
        &[0x5f, 0x06, F, 0, 0, F, F, F, F, 0],
    ),
    reserve_out("PERSISTENT RESERVE OUT, REGISTER AND MOVE", &[0x5f, 0x07, F, 0, 0, F, F, F, F, 0]),
    action(
        "EXTENDED COPY(LID1)",
        ExtendedCopy,
        RawIo,
        &[0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0],
    )
    .data_out(10, 4)
    .needs(Needs::Nothing)
    .only_on(Disks::Shared),
    action(
        "RECEIVE COPY STATUS(LID1)",
        ReceiveCopyStatus,
        RawIo,
        &[0x84, 0x00, F, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0],
    )
    .data_in(10, 4)
    .needs(Needs::Nothing)
    .tolerates(Tolerates::Nothing)
    .only_on(Disks::Shared),
    action(
        "RECEIVE COPY OPERATING PARAMETERS",
        ReceiveCopyParameters,
        RawIo,
        &[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0],
    )
    .data_in(10, 4)
    .needs(Needs::Nothing)
    .tolerates(Tolerates::Nothing)
    .only_on(Disks::Shared),
    row("ATA PASS-THROUGH(16)", AtaPassThrough, RawIo, &[0x85, F, F, F, F, F, F, F, F, F, F, F, F, F, F, 0])
        .passes_through(),
    row("READ(16)", Read, Anyone, &sixteen(0x88, 0x1c)).blocks_in(SIXTEEN),
    row(
        "COMPARE AND WRITE",
        CompareAndWrite,
        RawIo,
        &[0x89, 0x18, F, F, F, F, F, F, F, F, 0, 0, 0, F, 0x1f, 0],
    )
    .blocks_out(COMPARE),
    row("WRITE(16)", Write, Writer, &sixteen(0x8a, 0x18)).blocks_out(SIXTEEN),
    row("ORWRITE(16)", OrWrite, RawIo, &sixteen(0x8b, 0x18)).blocks_out(SIXTEEN),
    row("WRITE AND VERIFY(16)", WriteAndVerify, RawIo, &sixteen(0x8e, 0x16)).blocks_out(SIXTEEN),
    row("VERIFY(16)", Verify, Anyone, &sixteen(0x8f, 0x16)).blocks_out(SIXTEEN).reads(),
    row("PRE-FETCH(16)", PreFetch, RawIo, &sixteen(0x90, 0x02)).range(SIXTEEN).reads(),
    row("SYNCHRONIZE CACHE(16)", SynchronizeCache, RawIo, &sixteen(0x91, 0x02))
        .range(SIXTEEN)
        .changes_state(),
    row("WRITE SAME(16)", WriteSame, Writer, &sixteen(0x93, 0x19)).blocks_out(SIXTEEN),
    // SBC-4, 5.48. The bits of ATOMIC BOUNDARY are reserved, because the disk has none.
    row("WRITE ATOMIC(16)", WriteAtomic, RawIo, &[0x9c, 0x18, F, F, F, F, F, F, F, F, 0, 0, F, F, 0x1f, 0])
        .blocks_out(ATOMIC)
        .only_on(Disks::Atomic),
    action(
        "READ CAPACITY(16)",
        ReadCapacity16,
        Anyone,
        &[0x9e, 0x10, F, F, F, F, F, F, F, F, F, F, F, F, 0x01, 0],
    )
    .data_in(10, 4)
    .tolerates(Persistent),
    action("GET LBA STATUS", GetLbaStatus, Anyone, &[0x9e, 0x12, F, F, F, F, F, F, F, F, F, F, F, F, 0, 0])
        .lba_at(2, 8)
        .data_in(10, 4),
    row("REPORT LUNS", ReportLuns, Anyone, &[0xa0, 0, F, 0, 0, 0, F, F, F, F, 0, 0])
        .data_in(6, 4)
        .needs(Needs::Nothing)
        .skips_unit_attention()
        .tolerates(Everything),
    // The kernel's filter takes it for BLANK of a CD.
    row("ATA PASS-THROUGH(12)", AtaPassThrough, Writer, &[0xa1, 0xfe, F, F, F, F, F, F, F, F, 0, 0])
        .passes_through(),
    // libata has no target ports.
    action(
        "REPORT TARGET PORT GROUPS",
        ReportTargetPortGroups,
        Anyone,
        &[0xa3, 0xea, 0, 0, 0, 0, F, F, F, F, 0, 0],
    )
    .data_in(6, 4)
    .needs(Needs::Device)
    .tolerates(Persistent)
    .only_on(Disks::Scsi),
    action(
        "REPORT SUPPORTED OPERATION CODES",
        ReportOperationCodes,
        Anyone,
        &[0xa3, 0x0c, 0x87, F, F, F, F, F, F, F, 0, 0],
    )
    .data_in(6, 4)
    .needs(Needs::Device),
    action(
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        ReportTaskManagement,
        Anyone,
        &[0xa3, 0x0d, 0x80, 0, 0, 0, F, F, F, F, 0, 0],
    )
    .data_in(6, 4)
    .needs(Needs::Device),
    action(
        "SET TARGET PORT GROUPS",
        SetTargetPortGroups,
        Anyone,
        &[0xa4, 0x0a, 0, 0, 0, 0, F, F, F, F, 0, 0],
    )
    .data_out(6, 4)
    .changes_state()
    .needs(Needs::Device)
    .only_on(Disks::Scsi),
    row("READ(12)", Read, Anyone, &twelve(0xa8, 0x1c)).blocks_in(TWELVE),
    row("WRITE(12)", Write, Writer, &twelve(0xaa, 0x18)).blocks_out(TWELVE),
    row("WRITE AND VERIFY(12)", WriteAndVerify, Writer, &twelve(0xae, 0x16)).blocks_out(TWELVE),
    row("VERIFY(12)", Verify, RawIo, &twelve(0xaf, 0x16)).blocks_out(TWELVE).reads(),
    row("READ DEFECT DATA(12)", ReadDefectData, RawIo, &[0xb7, 0x1f, 0, 0, 0, 0, F, F, F, F, 0, 0])
        .data_in(6, 4),
];

/// Returns the usage data of a CDB with an LBA of 4 bytes and a transfer length of 2.
const fn ten(operation_code: u8, flags: u8) -> [u8; 10] {
    [operation_code, flags, F, F, F, F, 0x1f, F, F, 0]
}

/// Returns the usage data of a CDB with an LBA of 8 bytes and a transfer length of 4.
const fn sixteen(operation_code: u8, flags: u8) -> [u8; 16] {
    [operation_code, flags, F, F, F, F, F, F, F, F, F, F, F, F, 0x1f, 0]
}

/// Returns the usage data of a CDB with an LBA of 4 bytes and a transfer length of 4.
const fn twelve(operation_code: u8, flags: u8) -> [u8; 12] {
    [operation_code, flags, F, F, F, F, F, F, F, F, 0x1f, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_says_nothing_allows_nothing() {
        let row = row("VENDOR SPECIFIC", Ready, RawIo, &[0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(!row.recorded && !row.changes_nothing(&[0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert!(row.needs == Needs::Medium && row.reports_unit_attention);
    }
}
