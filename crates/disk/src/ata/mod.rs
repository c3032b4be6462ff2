//! An ATA disk: commands of ACS-3 on the backing device, whichever way they come.

pub mod command;
pub mod identify;
mod log;
pub mod registers;

use command::{Command, MAX_RANGE_BLOCKS, Operation, Protocol};
use identify::Features;
use log::Page;
use registers::{ABRT, ERR, FAULT, IDNF, LBA, OBSOLETE, READY, SECOND, SMART_SIGNATURE, UNC};
pub use registers::{Registers, Taskfile};

use crate::device::{Capacity, Device};
use crate::entry::Kind;
use crate::errno::Errno;
use crate::geometry::identify_geometry;
use crate::host::Host;
use crate::medium::io::{self, Compare, Error};
use crate::medium::{BlockRange, is_durable, is_protected, is_thin, read_capacity};
use crate::settings;
use crate::transfer::DataBuffer;

/// Why a command fails.
#[derive(Clone, Copy)]
enum Failure {
    /// Bits of ERROR, and the logical block that goes with them.
    Error(u8, Option<u64>),
    /// A device fault (DF), and the logical block that goes with it.
    Fault(Option<u64>),
    /// The command did not complete, so there are no registers.
    Incomplete(Error),
}

const ABORTED: Failure = Failure::Error(ABRT, None);

/// An LBA that does not exist.
const NOT_FOUND: Failure = Failure::Error(IDNF, None);

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Read(lba) => Failure::Error(UNC, Some(lba)),
            Error::Write(lba) => Failure::Fault(Some(lba)),
            Error::Flush | Error::NoSpace | Error::Internal => Failure::Fault(None),
            Error::WriteProtected | Error::AccessDenied | Error::Miscompare(_) => ABORTED,
            Error::NoMemory | Error::Gone | Error::CallerFault(_) => Failure::Incomplete(error),
        }
    }
}

/// The data phase that the host offers for a command.
pub(crate) struct DataPhase<'a> {
    /// The protocol.
    pub protocol: Protocol,
    /// The most bytes to transfer.
    pub limit: u64,
    /// The buffer.
    pub data: &'a mut DataBuffer,
}

/// Carries out a command. `Err`: it did not complete. A command that fails returns `Ok` with ERR or
/// DF set in STATUS.
pub(crate) fn execute<H: Host>(
    device: &Device<'_>,
    host: &H,
    input: &Taskfile,
    data_phase: DataPhase<'_>,
) -> Result<Registers, Error> {
    let mut output = Registers {
        status: READY,
        error: 0,
        count: input.count,
        lba: input.lba,
        device: input.device & !SECOND | OBSOLETE,
    };
    let run = || {
        let command = command::find(input.command, input.features as u8).ok_or(ABORTED)?;
        let capacity = match read_capacity(device, host, command.moves_sectors()) {
            Ok(capacity) => capacity,
            // The descriptor cannot carry requests (O_PATH).
            Err(Errno::EBADF) => return Err(Error::CallerFault(Errno::EBADF).into()),
            Err(_) if command.works_without_device => Capacity::new(0, 512),
            Err(errno) => return Err(Error::backing(errno).into()),
        };
        let DataPhase { protocol, limit, data } = data_phase;
        let protocol = match effective_protocol(device.entry.kind, command.protocol, protocol) {
            Some(protocol) => protocol,
            None if command.bytes(input, capacity) == 0 => command.protocol,
            None => return Err(ABORTED),
        };
        let mut empty = DataBuffer::empty();
        let data = if protocol == Protocol::NonData { &mut empty } else { data };
        let mut task = Task { device, host, input, command, protocol, capacity, data, output };
        if protocol != Protocol::NonData && limit.min(task.data.residual()) < task.bytes() {
            return Err(ABORTED);
        }
        let result = task.run();
        if let Err(Failure::Error(_, Some(lba)) | Failure::Fault(Some(lba))) = result {
            task.report_lba(lba);
        }
        output = task.output;
        result
    };
    match run() {
        Ok(()) => Ok(output),
        Err(Failure::Error(error, _)) => Ok(Registers { status: READY | ERR, error, ..output }),
        // ERROR is not valid with DF, but real disks set ABRT, and drivers/ide looks at ERROR
        // alone.
        Err(Failure::Fault(_)) => Ok(Registers { status: READY | ERR | FAULT, error: ABRT, ..output }),
        Err(Failure::Incomplete(error)) => Err(error),
    }
}

/// Returns the protocol by which a command runs if the host sends it with another one; `None` if it
/// cannot run.
///
/// drivers/ide takes only the command's own protocol. A disk behind libata transfers by PIO or DMA,
/// whichever the host offers, and runs a data-in command that has no data-in buffer without
/// transferring its data. A data-out command without data never runs.
fn effective_protocol(kind: Kind, own: Protocol, offered: Protocol) -> Option<Protocol> {
    match own {
        _ if own == offered || own == Protocol::NonData => Some(own),
        _ if kind != Kind::Sata => None,
        Protocol::PioOut | Protocol::DmaOut => offered.is_to_disk().then_some(own),
        _ if offered == Protocol::NonData || offered.is_to_disk() => Some(Protocol::NonData),
        _ => Some(own),
    }
}

/// A command while it is carried out.
struct Task<'a, H: Host> {
    device: &'a Device<'a>,
    host: &'a H,
    input: &'a Taskfile,
    command: &'static Command,
    /// The effective protocol; `NonData` for a data-in command without a buffer.
    protocol: Protocol,
    capacity: Capacity,
    data: &'a mut DataBuffer,
    /// The registers that the command returns.
    output: Registers,
}

/// What a handler returns.
type CommandResult = Result<(), Failure>;

impl<H: Host> Task<'_, H> {
    /// Returns how many bytes the command transfers.
    fn bytes(&self) -> u64 {
        self.command.bytes(self.input, self.capacity)
    }

    /// Returns COUNT, of 8 or 16 bits.
    fn count(&self) -> u16 {
        self.command.count(self.input)
    }

    /// Returns the number of logical blocks.
    fn blocks(&self) -> u64 {
        self.command.blocks(self.input)
    }

    /// Returns the LBA: 48 bits, 28 bits, or cylinder, head and sector of the IDENTIFY geometry.
    fn lba(&self) -> Result<u64, Failure> {
        let Taskfile { lba, device, .. } = *self.input;
        let high = u64::from(device & 0x0f);
        if self.command.extended {
            return Ok(lba & 0xffff_ffff_ffff);
        }
        if device & LBA != 0 {
            return Ok(high << 24 | lba & 0xff_ffff);
        }
        let geometry = identify_geometry(self.capacity.blocks);
        let (cylinder, sector) = (lba >> 8 & 0xffff, lba & 0xff);
        let (heads, per_track) = (u64::from(geometry.heads), u64::from(geometry.sectors));
        let exists =
            cylinder < geometry.cylinders.into() && high < heads && (1..=per_track).contains(&sector);
        if !exists {
            return Err(NOT_FOUND);
        }
        Ok((cylinder * heads + high) * per_track + sector - 1)
    }

    /// Returns an LBA in the registers, in the form of the command's own.
    fn report_lba(&mut self, lba: u64) {
        let geometry = identify_geometry(self.capacity.blocks);
        let (heads, per_track) = (u64::from(geometry.heads), u64::from(geometry.sectors));
        let (lba, high) = if self.command.extended {
            (lba, self.output.device)
        } else if self.input.device & LBA != 0 {
            (lba & 0xff_ffff, (lba >> 24) as u8)
        } else {
            let track = lba.checked_div(per_track).unwrap_or(0);
            let sector = lba.checked_rem(per_track).unwrap_or(0) + 1;
            let cylinder = track.checked_div(heads).unwrap_or(0) & 0xffff;
            (cylinder << 8 | sector, track.checked_rem(heads).unwrap_or(0) as u8)
        };
        self.output.lba = lba;
        self.output.device = self.output.device & 0xf0 | high & 0x0f;
    }

    fn run(&mut self) -> CommandResult {
        let smart_is_on = self.device.settings.switches.is_on(settings::SMART);
        if self.command.code == command::SMART {
            let signed = self.input.lba >> 8 & 0xffff == SMART_SIGNATURE;
            if !signed || !(smart_is_on || self.command.operation == Operation::Smart(true)) {
                return Err(ABORTED);
            }
        }
        let settings = self.device.settings;
        match self.command.operation {
            Operation::Nop => return Err(ABORTED),
            Operation::Multiple(_) if settings.multiple.get(0) == 0 => return Err(ABORTED),
            Operation::Read => self.transfer_blocks(false)?,
            Operation::Write(fua) | Operation::Multiple(fua) => self.transfer_blocks(fua)?,
            Operation::Verify => io::verify(self.host, self.range(self.lba()?)?, Compare::Nothing)?,
            Operation::SetMultiple => {
                let count = self.count() as u8;
                if !identify::has_multiple(count) {
                    return Err(ABORTED);
                }
                settings.multiple.set(count.into());
            }
            Operation::Trim => self.trim()?,
            Operation::Flush | Operation::Standby => self.flush()?,
            Operation::Idle | Operation::Defaults => {}
            // Active or idle: the disk has no motor.
            Operation::CheckPower => self.output.count = 0xff,
            // The signature of an ATA disk and a passed test (ACS-3, 9.2 and 7.9).
            Operation::Diagnostic => {
                self.output = Registers { error: 0x01, count: 1, lba: 1, device: 0, ..self.output };
            }
            Operation::Identify => {
                self.send_page(|task, page| {
                    identify::sector(task.device, task.host, task.capacity, &mut page.0);
                })?;
            }
            Operation::NativeMax => self.native_max(),
            Operation::WriteCache(on) => {
                if !on {
                    self.flush()?;
                }
                settings.switches.turn(settings::WCE, on);
            }
            Operation::LookAhead(on) => settings.switches.turn(settings::DRA, !on),
            Operation::Smart(on) => settings.switches.turn(settings::SMART, on),
            Operation::PowerManagement(false) => settings.power_management.set(0),
            Operation::PowerManagement(true) => match self.count() {
                level @ 0x01..=0xfe => settings.power_management.set(level.into()),
                _ => return Err(ABORTED),
            },
            Operation::TransferMode => {
                let wanted = self.count() as u8;
                if !Features::has_mode(self.device.entry.kind, wanted) {
                    return Err(ABORTED);
                }
                // A PIO mode does not change the DMA mode.
                if Features::is_dma(wanted) {
                    settings.transfer_mode.set(wanted.into());
                }
            }
            Operation::SmartAutosave if !matches!(self.count(), 0x00 | 0xf1) => return Err(ABORTED),
            Operation::SmartAutosave | Operation::SmartStatus => {}
            Operation::SmartData => {
                self.send_page(|task, page| log::smart_data(task.device.settings, page))?
            }
            Operation::SmartThresholds => self.send_page(|_, page| log::smart_thresholds(page))?,
            Operation::SmartOffline => self.self_test()?,
            Operation::SmartLog => {
                self.read_log(|task, address, page, out| {
                    log::smart_log(task.device.settings, address, page, out)
                })?;
            }
            Operation::ReadLog => self.read_log(|task, address, page, out| {
                log::general_purpose_log(task.device, task.host, task.capacity, address, page, out)
            })?,
        }
        Ok(())
    }

    /// Sends a page that `fill` fills.
    #[inline(never)]
    fn send_page(&mut self, fill: impl FnOnce(&Self, &mut Page)) -> CommandResult {
        let mut page = Page::new();
        fill(self, &mut page);
        Ok(self.data.copy_out(self.host, &page.0).map_err(Error::CallerFault)?)
    }

    /// Returns the range from this LBA on.
    fn range(&self, lba: u64) -> Result<BlockRange, Failure> {
        BlockRange::new(self.capacity, lba, self.blocks()).ok_or(NOT_FOUND)
    }

    fn transfer_blocks(&mut self, fua: bool) -> CommandResult {
        let lba = self.lba()?;
        // A disk without blocks reports IDNF instead.
        if self.protocol.is_to_disk() && self.capacity.blocks > 0 && self.is_protected()? {
            return Err(ABORTED);
        }
        let range = self.range(lba)?;
        match self.protocol {
            Protocol::NonData => io::verify(self.host, range, Compare::Nothing)?,
            Protocol::PioIn | Protocol::DmaIn => io::read(self.host, range, self.data)?,
            Protocol::PioOut | Protocol::DmaOut => {
                io::write(self.host, range, self.data, is_durable(self.device, fua))?;
            }
        }
        Ok(())
    }

    fn is_protected(&self) -> Result<bool, Error> {
        is_protected(self.device, self.host).map_err(Error::backing)
    }

    fn flush(&mut self) -> CommandResult {
        if self.capacity.blocks == 0 {
            return Ok(());
        }
        Ok(io::flush(self.device, self.host)?)
    }

    fn native_max(&mut self) {
        let last = self.capacity.blocks.saturating_sub(1);
        if self.command.extended {
            self.output.lba = last.min(0xffff_ffff_ffff);
        } else {
            let last = last.min(0x0fff_ffff);
            self.output.lba = last & 0xff_ffff;
            self.output.device = self.output.device & 0xf0 | (last >> 24) as u8;
        }
    }

    /// Handles DATA SET MANAGEMENT, whose data are LBA ranges of 8 bytes: an LBA, and in the two
    /// high bytes a number of blocks (ACS-3, 7.5). Checks all of them before it discards any.
    fn trim(&mut self) -> CommandResult {
        let whole = self.bytes();
        let is_trim = self.input.features & 0x01 != 0;
        let is_valid = is_trim && whole > 0 && self.count() <= MAX_RANGE_BLOCKS && is_thin(self.host);
        if !is_valid || self.is_protected()? {
            return Err(ABORTED);
        }
        let ranges = *self.data;
        for is_checked in [false, true] {
            *self.data = ranges;
            for _ in 0..whole / 8 {
                let mut entry = [0; 8];
                self.data.copy_in(self.host, &mut entry).map_err(Error::CallerFault)?;
                let entry = u64::from_le_bytes(entry);
                let (first, blocks) = (entry & 0xffff_ffff_ffff, entry >> 48);
                if blocks == 0 {
                    continue;
                }
                let range =
                    BlockRange::new(self.capacity, first, blocks).ok_or(Failure::Error(IDNF, Some(first)))?;
                if is_checked {
                    io::discard(self.host, range)?;
                }
            }
        }
        Ok(())
    }

    /// Handles SMART EXECUTE OFF-LINE IMMEDIATE. A self-test reads both ends of the disk and ends
    /// at once.
    fn self_test(&mut self) -> CommandResult {
        let kind = self.input.lba as u8;
        match kind {
            // Off-line data collection, which has nothing to collect; abort, when no test runs.
            0x00 | 0x7f => return Ok(()),
            // Short and extended, in the background or not.
            0x01 | 0x02 | 0x81 | 0x82 => {}
            _ => return Err(ABORTED),
        }
        let last = self.capacity.blocks.saturating_sub(1);
        let bad = [0, last].into_iter().find(|&lba| !self.can_be_read(lba));
        log::record_self_test(self.device.settings, kind, bad);
        // A test in captive mode reports its failure.
        match bad {
            Some(_) if kind & 0x80 != 0 => {
                self.output.lba = 0x2c_f400 | u64::from(kind);
                self.output.status |= ERR;
                self.output.error = ABRT;
            }
            _ => {}
        }
        Ok(())
    }

    fn can_be_read(&self, lba: u64) -> bool {
        let range = BlockRange::new(self.capacity, lba, 1);
        range.is_some_and(|range| io::verify(self.host, range, Compare::Nothing).is_ok())
    }

    /// Returns whether a log has a page.
    #[inline(never)]
    fn has_page(&self, fill: &impl Fn(&Self, u8, u16, &mut Page) -> bool, address: u8, number: u16) -> bool {
        fill(self, address, number, &mut Page::new())
    }

    /// Sends pages of a log.
    fn read_log(&mut self, fill: impl Fn(&Self, u8, u16, &mut Page) -> bool) -> CommandResult {
        let lba = self.input.lba;
        let address = lba as u8;
        // Bits 15:8 and 39:32; of SMART logs the first page is read alone (their signature stands
        // there).
        let first = if self.command.extended { (lba >> 8 & 0xff | lba >> 24 & 0xff00) as u16 } else { 0 };
        let pages = first..first.saturating_add(self.count());
        if pages.is_empty() || pages.clone().any(|number| !self.has_page(&fill, address, number)) {
            return Err(ABORTED);
        }
        for number in pages {
            self.send_page(|task, page| {
                fill(task, address, number, page);
            })?;
        }
        Ok(())
    }
}
