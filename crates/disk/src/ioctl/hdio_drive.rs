//! `HDIO_DRIVE_CMD`, `HDIO_DRIVE_TASK` and `HDIO_DRIVE_TASKFILE`: ATA commands as the kernel's drivers/ide took them up to
//! Linux 5.13 (ide-ioctls.c, ide-taskfile.c), and the first two as libata does (drivers/ata/libata-scsi.c, `ata_cmd_ioctl`
//! and `ata_task_ioctl`).

use super::request::{HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE};
use crate::abi::{Abi, HdioTaskfile, IdeTaskRequest};
use crate::ata::command::{SET_FEATURES, SMART, Transfer};
use crate::ata::registers::SMART_SIGNATURE;
use crate::ata::{self, Offer, Registers, Taskfile};
use crate::device::Device;
use crate::entry::Kind;
use crate::errno::Errno;
use crate::host::Host;
use crate::medium::io::Error;
use crate::transfer::Data;

/// What the requests say of a command that did not complete.
fn incomplete(error: Error) -> Errno {
    match error {
        Error::CallerFault(errno) => errno,
        _ => Errno::EIO,
    }
}

/// Whether the requests succeed. drivers/ide takes whatever stands in ERROR for an error, so that EXECUTE DEVICE DIAGNOSTIC
/// fails (`ide_finish_cmd`).
fn result(device: &Device<'_>, registers: &Registers) -> Result<(), Errno> {
    let odd = device.entry.kind == Kind::Ide && registers.error != 0;
    if registers.failed() || odd { Err(Errno::EIO) } else { Ok(()) }
}

/// `HDIO_DRIVE_CMD`: four bytes and the data. The bytes are COMMAND, COUNT, FEATURES and how many times 512 bytes of data
/// there is room for; with SMART, the second is the low byte of LBA and the fourth is COUNT too. STATUS, ERROR and COUNT
/// take their place; not so where a libata disk gives data or an error.
#[inline(never)]
pub(crate) fn command(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<(), Errno> {
    let ide = device.entry.kind == Kind::Ide;
    if argument == 0 {
        return if ide { Ok(()) } else { Err(Errno::EINVAL) };
    }
    let mut given = [0; 4];
    host.copy_in(argument, &mut given)?;
    let [command, second, features, sectors] = given;
    let input = of_command(given);
    let room = 512 * u64::from(sectors);
    let at = argument.wrapping_add(4);
    let mut data = Data::new(at, room);
    let transfer = if sectors > 0 { Transfer::PioIn } else { Transfer::None };
    let registers =
        ata::execute(device, host, &input, Offer { transfer, room, data: &mut data }).map_err(incomplete)?;
    let Registers { status, error, count, .. } = registers;
    // The driver asks the host adapter first.
    if ide
        && registers.failed()
        && command == SET_FEATURES
        && features == SET_TRANSFER_MODE
        && second >= FIRST_DMA
    {
        return Err(Errno::EINVAL);
    }
    if ide || sectors == 0 && !registers.failed() {
        host.copy_out(argument, &[status, error, count as u8, sectors])?;
    }
    if ide {
        // All of the buffer is the driver's.
        while data.residual() > 0 {
            data.put(host, &[0; 64])?;
        }
    }
    result(device, &registers)
}

/// SET FEATURES, and the first DMA mode there has been (`SETFEATURES_XFER` and `XFER_SW_DMA_0`, include/linux/ata.h).
const SET_TRANSFER_MODE: u8 = 0x03;
const FIRST_DMA: u8 = 0x10;

/// `HDIO_DRIVE_TASK`: a command without data, as seven bytes: COMMAND, FEATURES, COUNT, three of LBA and DEVICE. STATUS, ERROR
/// and the others take their place; not so where a libata disk gives an error.
#[inline(never)]
pub(crate) fn task(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<(), Errno> {
    let ide = device.entry.kind == Kind::Ide;
    if argument == 0 && !ide {
        return Err(Errno::EINVAL);
    }
    let mut given = [0; 7];
    host.copy_in(argument, &mut given)?;
    let input = of_task(given);
    let offer = Offer { transfer: Transfer::None, room: 0, data: &mut Data::new(0, 0) };
    let registers = ata::execute(device, host, &input, offer).map_err(incomplete)?;
    if ide || !registers.failed() {
        let Registers { status, error, count, lba, device: select } = registers;
        let [low, mid, high, ..] = lba.to_le_bytes();
        host.copy_out(argument, &[status, error, count as u8, low, mid, high, select])?;
    }
    result(device, &registers)
}

/// What stands in the place of `data_phase` in an [`HdioTaskfile`]: flags of the registers that are to come back, STATUS (bit 7)
/// and others. The driver finds no data phase in that, and refuses; here it is understood.
const PHASE_OF_HDPARM: core::ops::RangeInclusive<i32> = 0x81..=0xff;

/// The most bytes either way.
const MOST: u32 = 65536;

/// Flags of registers: COUNT, LBA low, mid and high, FEATURES; eight bits higher those of their high bytes.
const FEATURES_FLAG: u16 = 1 << 1;
const LBA_LOW_FLAG: u16 = 1 << 2;
const COUNT_FLAG: u16 = 1 << 3;
const LBA_MID_FLAG: u16 = 1 << 4;
const LBA_HIGH_FLAG: u16 = 1 << 5;

/// What the driver says of registers that come back when the caller says nothing (`IDE_TASKFILE_STD_IN_FLAGS` and
/// `IDE_HOB_STD_IN_FLAGS`).
const IN_FLAGS: u16 = 0x3cfe;

/// Data phases: `TASKFILE_…`
const NO_DATA: i32 = 0x0000;
const IN: i32 = 0x0001;
const MULTI_IN: i32 = 0x0002;
const OUT: i32 = 0x0004;
const MULTI_OUT: i32 = 0x0008;
const IN_DMA: i32 = 0x0020;
const OUT_DMA: i32 = 0x0040;
const IN_DMAQ: i32 = 0x0080;
const OUT_DMAQ: i32 = 0x0100;

/// Kinds of requests: `IDE_DRIVE_TASK_…`
const TASK_NO_DATA: i32 = 0;
const TASK_RAW_WRITE: i32 = 4;

/// Whether a request is an [`HdioTaskfile`].
fn is_hdparms(request: &IdeTaskRequest) -> bool {
    PHASE_OF_HDPARM.contains(&request.data_phase)
}

/// The request that bytes hold, and its length.
pub(crate) fn task_request(abi: Abi, bytes: &[u8]) -> (IdeTaskRequest, usize) {
    let request = abi.parse(bytes);
    if is_hdparms(&request) {
        (abi.parse::<HdioTaskfile>(bytes).into(), abi.size_of::<HdioTaskfile>())
    } else {
        (request, abi.size_of::<IdeTaskRequest>())
    }
}

/// How many bytes go to the disk and how many come from it; the driver looks at 32 bits of them.
pub(crate) fn data_lengths(request: &IdeTaskRequest) -> (u32, u32) {
    (request.out_size as u32, request.in_size as u32)
}

/// The registers that what stands at a request's address gives; none for other requests.
pub fn registers(abi: Abi, request: u32, given: &[u8]) -> Option<Taskfile> {
    match request {
        HDIO_DRIVE_CMD => given.first_chunk().copied().map(of_command),
        HDIO_DRIVE_TASK => given.first_chunk().copied().map(of_task),
        HDIO_DRIVE_TASKFILE if given.len() >= abi.size_of::<IdeTaskRequest>() => {
            Some(of_taskfile(&task_request(abi, given).0))
        }
        _ => None,
    }
}

fn of_command([command, second, features, sectors]: [u8; 4]) -> Taskfile {
    let (count, lba) = match command {
        SMART => (sectors, SMART_SIGNATURE << 8 | u64::from(second)),
        _ => (second, 0),
    };
    Taskfile { command, features: features.into(), count: count.into(), lba, device: 0 }
}

fn of_task([command, features, count, low, mid, high, device]: [u8; 7]) -> Taskfile {
    let lba = u32::from_le_bytes([low, mid, high, 0]).into();
    Taskfile { command, features: features.into(), count: count.into(), lba, device }
}

fn of_taskfile(request: &IdeTaskRequest) -> Taskfile {
    let out_flags = request.out_flags.all;
    let [_, features, count, low, mid, high, select, command] = request.io_ports;
    let [_, features_high, count_high, d, e, f, ..] = request.hob_ports;
    // Without flags all registers count.
    let when = |flag, value| if out_flags == 0 || out_flags & flag != 0 { value } else { 0 };
    Taskfile {
        command,
        features: u16::from_le_bytes([
            when(FEATURES_FLAG, features),
            when(FEATURES_FLAG << 8, features_high),
        ]),
        count: u16::from_le_bytes([when(COUNT_FLAG, count), when(COUNT_FLAG << 8, count_high)]),
        lba: u64::from_le_bytes([
            when(LBA_LOW_FLAG, low),
            when(LBA_MID_FLAG, mid),
            when(LBA_HIGH_FLAG, high),
            when(LBA_LOW_FLAG << 8, d),
            when(LBA_MID_FLAG << 8, e),
            when(LBA_HIGH_FLAG << 8, f),
            0,
            0,
        ]),
        device: select,
    }
}

/// `HDIO_DRIVE_TASKFILE`
#[inline(never)]
pub(crate) fn taskfile(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<(), Errno> {
    let mut request: IdeTaskRequest = host.fetch(argument)?;
    let mut length = host.abi().size_of::<IdeTaskRequest>();
    let mut hdparms = None;
    if is_hdparms(&request) {
        let taskfile: HdioTaskfile = host.fetch(argument)?;
        length = host.abi().size_of::<HdioTaskfile>();
        request = taskfile.into();
        hdparms = Some(taskfile);
    }
    let (out_size, in_size) = data_lengths(&request);
    if out_size > MOST || in_size > MOST {
        return Err(Errno::EINVAL);
    }
    let out_at = argument.wrapping_add(length as u64);
    let in_at = out_at.wrapping_add(out_size.into());
    // The driver copies all of it before it looks at anything else.
    let mut all = Data::new(out_at, u64::from(out_size).saturating_add(in_size.into()));
    let mut piece = [0; 512];
    while all.residual() > 0 {
        all.get(host, &mut piece)?;
    }
    let input = of_taskfile(&request);
    let (transfer, at, size) = match request.data_phase {
        MULTI_IN | MULTI_OUT if device.settings.multiple.get(0) == 0 => return Err(Errno::EPERM),
        NO_DATA => (Transfer::None, 0, 0),
        IN | MULTI_IN => (Transfer::PioIn, in_at, in_size),
        OUT | MULTI_OUT => (Transfer::PioOut, out_at, out_size),
        IN_DMA | IN_DMAQ if request.req_cmd == TASK_RAW_WRITE => (Transfer::DmaOut, in_at, in_size),
        IN_DMA | IN_DMAQ => (Transfer::DmaIn, in_at, in_size),
        OUT_DMA | OUT_DMAQ => (Transfer::DmaOut, out_at, out_size),
        _ => return Err(Errno::EFAULT),
    };
    let room = match request.req_cmd {
        TASK_NO_DATA => 0,
        // Neither data nor a number of sectors.
        _ if size < 512 && input.count == 0 => return Err(Errno::EFAULT),
        // Sectors, and nowhere to put them (`blk_rq_map_kern`).
        _ if size == 0 => return Err(Errno::EINVAL),
        _ => u64::from(size),
    };
    let mut data = Data::new(at, room);
    let registers =
        ata::execute(device, host, &input, Offer { transfer, room, data: &mut data }).map_err(incomplete)?;
    let Registers { status, error, count, lba, device: select } = registers;
    let [count_low, count_high] = count.to_le_bytes();
    let [low, mid, high, d, e, f, ..] = lba.to_le_bytes();
    let IdeTaskRequest { io_ports, hob_ports, .. } = request;
    request.io_ports = [io_ports[0], error, count_low, low, mid, high, select, status];
    // ERROR is read with either half (`IDE_VALID_IN_HOB`).
    request.hob_ports = [hob_ports[0], error, count_high, d, e, f, hob_ports[6], hob_ports[7]];
    match hdparms {
        Some(taskfile) => {
            let (lob, hob) = (request.io_ports, request.hob_ports);
            host.store(argument, HdioTaskfile { lob, hob, ..taskfile })?;
        }
        None => {
            if request.out_flags.all != 0 && request.in_flags.all == 0 {
                request.in_flags.all = IN_FLAGS;
            }
            host.store(argument, request)?;
        }
    }
    result(device, &registers)
}
