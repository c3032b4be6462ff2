//! An ATA disk: commands of ACS-3 on the backing device, whichever way they come.

pub mod command;
pub mod identify;
mod log;
pub mod registers;

use command::{Command, MAX_RANGE_BLOCKS, Operation, Transfer};
use identify::Settings;
use log::Page;
use registers::{ABRT, ERR, FAULT, IDNF, LBA, OBSOLETE, READY, SECOND, SMART_SIGNATURE, UNC};
pub use registers::{Registers, Taskfile};

use crate::device::{Capacity, Device};
use crate::entry::Kind;
use crate::errno::Errno;
use crate::geometry::identify_geometry;
use crate::host::Host;
use crate::medium::io::{self, Compare, Error};
use crate::medium::{Range, is_durable, is_protected, is_thin, read_capacity};
use crate::settings;
use crate::transfer::Data;

/// Why a command fails.
#[derive(Clone, Copy)]
enum Failure {
    /// Bits of ERROR, and the logical block that goes with them.
    Error(u8, Option<u64>),
    /// The device cannot write, or not any more.
    Fault(Option<u64>),
    /// The command did not complete, so that there are no registers.
    Incomplete(Error),
}

const ABORTED: Failure = Failure::Error(ABRT, None);

/// There is no such address.
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

/// The data of a command: what the host offers to move, and how.
pub(crate) struct Offer<'a> {
    /// How.
    pub transfer: Transfer,
    /// At most so many bytes.
    pub room: u64,
    /// Where they are.
    pub data: &'a mut Data,
}

/// Carries out a command. An error says that it did not complete; if it failed, the registers say so.
pub(crate) fn execute<H: Host>(
    device: &Device<'_>,
    host: &H,
    input: &Taskfile,
    offer: Offer<'_>,
) -> Result<Registers, Error> {
    let mut done = Registers {
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
            // A descriptor that cannot carry requests.
            Err(Errno::EBADF) => return Err(Error::CallerFault(Errno::EBADF).into()),
            Err(_) if command.works_without_device => Capacity::new(0, 512),
            Err(errno) => return Err(Error::backing(errno).into()),
        };
        let Offer { transfer, room, data } = offer;
        let transfer = match agreed(device.entry.kind, command.transfer, transfer) {
            Some(transfer) => transfer,
            None if command.bytes(input, capacity) == 0 => command.transfer,
            None => return Err(ABORTED),
        };
        let mut nowhere = Data::new(0, 0);
        let data = if transfer == Transfer::None { &mut nowhere } else { data };
        let mut task = Task { device, host, input, command, transfer, capacity, data, done };
        if transfer != Transfer::None && room.min(task.data.residual()) < task.bytes() {
            return Err(ABORTED);
        }
        let ended = task.run();
        if let Err(Failure::Error(_, Some(block)) | Failure::Fault(Some(block))) = ended {
            task.point_at(block);
        }
        done = task.done;
        ended
    };
    match run() {
        Ok(()) => Ok(done),
        Err(Failure::Error(error, _)) => Ok(Registers { status: READY | ERR, error, ..done }),
        // ERROR is not to be looked at then; real disks have ABRT there, and drivers/ide looks at nothing else.
        Err(Failure::Fault(_)) => Ok(Registers { status: READY | ERR | FAULT, error: ABRT, ..done }),
        Err(Failure::Incomplete(error)) => Err(error),
    }
}

/// How the data of a command moves, given how the host offers to move it; nothing where the command cannot be carried out that
/// way.
///
/// drivers/ide has the disk move data by the command's own protocol alone. A disk behind libata moves it by PIO or DMA,
/// whichever the protocol says, and carries out a data-in command that has no data-in buffer without giving its data. A data-out
/// command without data is never carried out.
fn agreed(kind: Kind, own: Transfer, offered: Transfer) -> Option<Transfer> {
    match own {
        _ if own == offered || own == Transfer::None => Some(own),
        _ if kind != Kind::Sata => None,
        Transfer::PioOut | Transfer::DmaOut => offered.is_to_disk().then_some(own),
        _ if offered == Transfer::None || offered.is_to_disk() => Some(Transfer::None),
        _ => Some(own),
    }
}

/// A command that is carried out.
struct Task<'a, H: Host> {
    device: &'a Device<'a>,
    host: &'a H,
    input: &'a Taskfile,
    command: &'static Command,
    /// How its data moves; not at all where the host has no place for it.
    transfer: Transfer,
    capacity: Capacity,
    data: &'a mut Data,
    /// What the registers hold in the end.
    done: Registers,
}

type CommandResult = Result<(), Failure>;

impl<H: Host> Task<'_, H> {
    /// How many bytes the command moves.
    fn bytes(&self) -> u64 {
        self.command.bytes(self.input, self.capacity)
    }

    /// COUNT, as wide as the command has it.
    fn count(&self) -> u16 {
        self.command.count(self.input)
    }

    /// The number of logical blocks.
    fn blocks(&self) -> u64 {
        self.command.blocks(self.input)
    }

    /// The first logical block: an address of 48 bits, of 28, or cylinder, head and sector of the IDENTIFY geometry.
    fn first(&self) -> Result<u64, Failure> {
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
        let there = cylinder < geometry.cylinders.into() && high < heads && (1..=per_track).contains(&sector);
        if !there {
            return Err(NOT_FOUND);
        }
        Ok((cylinder * heads + high) * per_track + sector - 1)
    }

    /// Puts the address of a logical block into the registers, in the form that the command gave its own in.
    fn point_at(&mut self, block: u64) {
        let geometry = identify_geometry(self.capacity.blocks);
        let (heads, per_track) = (u64::from(geometry.heads), u64::from(geometry.sectors));
        let (lba, high) = if self.command.extended {
            (block, self.done.device)
        } else if self.input.device & LBA != 0 {
            (block & 0xff_ffff, (block >> 24) as u8)
        } else {
            let track = block.checked_div(per_track).unwrap_or(0);
            let sector = block.checked_rem(per_track).unwrap_or(0) + 1;
            let cylinder = track.checked_div(heads).unwrap_or(0) & 0xffff;
            (cylinder << 8 | sector, track.checked_rem(heads).unwrap_or(0) as u8)
        };
        self.done.lba = lba;
        self.done.device = self.done.device & 0xf0 | high & 0x0f;
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
            Operation::Read => self.move_blocks(false)?,
            Operation::Write(fua) => self.move_blocks(fua)?,
            Operation::Multiple(_) if settings.multiple.get(0) == 0 => return Err(ABORTED),
            Operation::Multiple(fua) => self.move_blocks(fua)?,
            Operation::Verify => io::verify(self.host, self.range(self.first()?)?, Compare::Nothing)?,
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
            // Active or idle, since there is no motor that could stand still.
            Operation::CheckPower => self.done.count = 0xff,
            // The signature of an ATA disk, and that it passed (ACS-3, 9.2 and 7.9).
            Operation::Diagnostic => {
                self.done = Registers { error: 0x01, count: 1, lba: 1, device: 0, ..self.done };
            }
            Operation::Identify => {
                self.give_page(|task, page| {
                    identify::sector(task.device, task.host, task.capacity, &mut page.0);
                    true
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
                if !Settings::has_mode(self.device.entry.kind, wanted) {
                    return Err(ABORTED);
                }
                // A PIO mode leaves the DMA mode alone.
                if Settings::is_dma(wanted) {
                    settings.transfer_mode.set(wanted.into());
                }
            }
            Operation::SmartAutosave if matches!(self.count(), 0x00 | 0xf1) => {}
            Operation::SmartAutosave => return Err(ABORTED),
            Operation::SmartStatus => {}
            Operation::SmartData => self.give_page(|task, page| {
                log::smart_data(task.device.settings, page);
                true
            })?,
            Operation::SmartThresholds => self.give_page(|_, page| {
                log::smart_thresholds(page);
                true
            })?,
            Operation::SmartOffline => self.self_test()?,
            Operation::SmartLog => {
                self.read_log(|task, address, page, out| {
                    log::smart(task.device.settings, address, page, out)
                })?;
            }
            Operation::ReadLog => self.read_log(|task, address, page, out| {
                log::general(task.device, task.host, task.capacity, address, page, out)
            })?,
        }
        Ok(())
    }

    /// Gives the host a page; the command is aborted where there is none.
    #[inline(never)]
    fn give_page(&mut self, fill: impl FnOnce(&Self, &mut Page) -> bool) -> CommandResult {
        let mut page = Page::new();
        if !fill(self, &mut page) {
            return Err(ABORTED);
        }
        Ok(self.data.put(self.host, &page.0).map_err(Error::CallerFault)?)
    }

    /// The logical blocks that the command names, of which this is the first.
    fn range(&self, first: u64) -> Result<Range, Failure> {
        Range::new(self.capacity, first, self.blocks()).ok_or(NOT_FOUND)
    }

    fn move_blocks(&mut self, fua: bool) -> CommandResult {
        let first = self.first()?;
        // A disk without blocks has no address at all.
        if self.transfer.is_to_disk() && self.capacity.blocks > 0 && self.is_protected()? {
            return Err(ABORTED);
        }
        let range = self.range(first)?;
        match self.transfer {
            Transfer::None => io::verify(self.host, range, Compare::Nothing)?,
            Transfer::PioIn | Transfer::DmaIn => io::read(self.host, range, self.data)?,
            Transfer::PioOut | Transfer::DmaOut => {
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
            self.done.lba = last.min(0xffff_ffff_ffff);
        } else {
            let last = last.min(0x0fff_ffff);
            self.done.lba = last & 0xff_ffff;
            self.done.device = self.done.device & 0xf0 | (last >> 24) as u8;
        }
    }

    /// LBA ranges of 8 bytes: address, and in the two high bytes a number of blocks (ACS-3, 7.5). All of them are looked at
    /// before any is given back.
    fn trim(&mut self) -> CommandResult {
        let whole = self.bytes();
        let is_trim = self.input.features & 0x01 != 0;
        if !is_trim || whole == 0 || self.count() > MAX_RANGE_BLOCKS || !is_thin(self.host) {
            return Err(ABORTED);
        }
        if self.is_protected()? {
            return Err(ABORTED);
        }
        let ranges = *self.data;
        for carry_out in [false, true] {
            *self.data = ranges;
            for _ in 0..whole / 8 {
                let mut entry = [0; 8];
                self.data.get(self.host, &mut entry).map_err(Error::CallerFault)?;
                let entry = u64::from_le_bytes(entry);
                let (first, blocks) = (entry & 0xffff_ffff_ffff, entry >> 48);
                if blocks == 0 {
                    continue;
                }
                let range =
                    Range::new(self.capacity, first, blocks).ok_or(Failure::Error(IDNF, Some(first)))?;
                if carry_out {
                    io::discard(self.host, range)?;
                }
            }
        }
        Ok(())
    }

    /// Reads what stands at both ends of the disk, or nothing: self-tests have nothing else to test, and end at once.
    fn self_test(&mut self) -> CommandResult {
        let kind = self.input.lba as u8;
        match kind {
            // Off-line data collection: there is none.
            0x00 => return Ok(()),
            // Abort: no test runs.
            0x7f => return Ok(()),
            // Short and extended, in the background or not.
            0x01 | 0x02 | 0x81 | 0x82 => {}
            _ => return Err(ABORTED),
        }
        let last = self.capacity.blocks.saturating_sub(1);
        let bad = [0, last].into_iter().find(|&lba| !self.can_be_read(lba));
        log::remember(self.device.settings, kind, bad);
        // A test in captive mode reports_attention the host.
        match bad {
            Some(_) if kind & 0x80 != 0 => {
                self.done.lba = 0x2c_f400 | u64::from(kind);
                self.done.status |= ERR;
                self.done.error = ABRT;
            }
            _ => {}
        }
        Ok(())
    }

    fn can_be_read(&self, lba: u64) -> bool {
        let range = Range::new(self.capacity, lba, 1);
        range.is_some_and(|range| io::verify(self.host, range, Compare::Nothing).is_ok())
    }

    /// Whether a log has a page.
    #[inline(never)]
    fn has_page(&self, fill: &impl Fn(&Self, u8, u16, &mut Page) -> bool, address: u8, number: u16) -> bool {
        fill(self, address, number, &mut Page::new())
    }

    /// Gives the host pages of a log.
    fn read_log(&mut self, fill: impl Fn(&Self, u8, u16, &mut Page) -> bool) -> CommandResult {
        let lba = self.input.lba;
        let address = lba as u8;
        // Bits 15:8 and 39:32; of SMART logs the first page is read alone (their signature stands there).
        let first = if self.command.extended { (lba >> 8 & 0xff | lba >> 24 & 0xff00) as u16 } else { 0 };
        let pages = first..first.saturating_add(self.count());
        if pages.is_empty() || pages.clone().any(|number| !self.has_page(&fill, address, number)) {
            return Err(ABORTED);
        }
        for number in pages {
            self.give_page(|task, page| fill(task, address, number, page))?;
        }
        Ok(())
    }
}
