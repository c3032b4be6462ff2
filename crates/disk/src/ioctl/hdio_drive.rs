//! `HDIO_DRIVE_CMD`, `HDIO_DRIVE_TASK` and `HDIO_DRIVE_TASKFILE`: ATA commands as the kernel's
//! drivers/ide took them up to Linux 5.13 (ide-ioctls.c, ide-taskfile.c), and the first two as
//! libata does (drivers/ata/libata-scsi.c, `ata_cmd_ioctl` and `ata_task_ioctl`).

use super::request::{HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE};
use crate::abi::{Abi, HdioTaskfile, IdeTaskRequest};
use crate::ata::command::{Protocol, SET_FEATURES, SMART};
use crate::ata::registers::SMART_SIGNATURE;
use crate::ata::{self, DataPhase, Registers, Taskfile};
use crate::device::Device;
use crate::entry::Kind;
use crate::errno::Errno;
use crate::host::Host;
use crate::medium::io::Error;
use crate::transfer::DataBuffer;

/// Returns the errno of a command that did not complete.
fn errno_of(error: Error) -> Errno {
    match error {
        Error::CallerFault(errno) => errno,
        _ => Errno::EIO,
    }
}

/// Returns `EIO` for a command that failed. drivers/ide also takes any bit of ERROR for a failure,
/// so that EXECUTE DEVICE DIAGNOSTIC fails (`ide_finish_cmd`).
fn check_registers(device: &Device<'_>, registers: &Registers) -> Result<(), Errno> {
    let has_error = device.entry.kind == Kind::Ide && registers.error != 0;
    if registers.failed() || has_error { Err(Errno::EIO) } else { Ok(()) }
}

/// Answers `HDIO_DRIVE_CMD`. Its argument is COMMAND, COUNT, FEATURES and the length of the data-in
/// buffer in 512-byte sectors, then that buffer; with SMART, the second byte is the low byte of LBA
/// and the fourth also COUNT. STATUS, ERROR and COUNT are written over the first three, on a libata
/// disk only after a command without data that did not fail.
#[inline(never)]
pub(crate) fn command(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<(), Errno> {
    let ide = device.entry.kind == Kind::Ide;
    if argument == 0 {
        return if ide { Ok(()) } else { Err(Errno::EINVAL) };
    }
    let mut bytes = [0; 4];
    host.copy_in(argument, &mut bytes)?;
    let [command, count_in, features, sectors] = bytes;
    let input = taskfile_of_cmd(bytes);
    let limit = 512 * u64::from(sectors);
    let mut data = DataBuffer::new(argument.wrapping_add(4), limit);
    let protocol = if sectors > 0 { Protocol::PioIn } else { Protocol::NonData };
    let registers = ata::execute(device, host, &input, DataPhase { protocol, limit, data: &mut data })
        .map_err(errno_of)?;
    let Registers { status, error, count, .. } = registers;
    // The driver asks the host adapter first.
    if ide
        && registers.failed()
        && command == SET_FEATURES
        && features == SET_TRANSFER_MODE
        && count_in >= FIRST_DMA
    {
        return Err(Errno::EINVAL);
    }
    if ide || sectors == 0 && !registers.failed() {
        host.copy_out(argument, &[status, error, count as u8, sectors])?;
    }
    if ide {
        // The driver copies all of its own zeroed buffer.
        data.fill_with_zeros(host)?;
    }
    check_registers(device, &registers)
}

/// A subcommand of SET FEATURES, and the first DMA mode (`SETFEATURES_XFER` and `XFER_SW_DMA_0`,
/// include/linux/ata.h).
const SET_TRANSFER_MODE: u8 = 0x03;
const FIRST_DMA: u8 = 0x10;

/// Answers `HDIO_DRIVE_TASK`. Its argument is a command without data: COMMAND, FEATURES, COUNT,
/// three bytes of LBA, and DEVICE. STATUS, ERROR and the others are written over them, on a libata
/// disk only after a command that did not fail.
#[inline(never)]
pub(crate) fn task(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<(), Errno> {
    let ide = device.entry.kind == Kind::Ide;
    if argument == 0 && !ide {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; 7];
    host.copy_in(argument, &mut bytes)?;
    let input = taskfile_of_task(bytes);
    let data_phase = DataPhase { protocol: Protocol::NonData, limit: 0, data: &mut DataBuffer::empty() };
    let registers = ata::execute(device, host, &input, data_phase).map_err(errno_of)?;
    if ide || !registers.failed() {
        let Registers { status, error, count, lba, device: select } = registers;
        let [low, mid, high, ..] = lba.to_le_bytes();
        host.copy_out(argument, &[status, error, count as u8, low, mid, high, select])?;
    }
    check_registers(device, &registers)
}

/// The values of `data_phase` by which an [`HdioTaskfile`] is recognised: there it has the flags of
/// the registers to return, STATUS (bit 7) and others. The driver refuses that, because it is not a
/// data phase; the disk accepts it.
const HDPARM_PHASES: core::ops::RangeInclusive<i32> = 0x81..=0xff;

/// The most data in either direction, in bytes.
const MAX_DATA: u32 = 65536;

/// Flags of registers: COUNT, LBA low, mid and high, FEATURES; eight bits higher those of their
/// high bytes.
const FEATURES_FLAG: u16 = 1 << 1;
const LBA_LOW_FLAG: u16 = 1 << 2;
const COUNT_FLAG: u16 = 1 << 3;
const LBA_MID_FLAG: u16 = 1 << 4;
const LBA_HIGH_FLAG: u16 = 1 << 5;

/// The flags that the driver returns if the caller sets none (`IDE_TASKFILE_STD_IN_FLAGS` and
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

/// Returns whether the caller's structure is an [`HdioTaskfile`].
fn is_hdparm_taskfile(request: &IdeTaskRequest) -> bool {
    HDPARM_PHASES.contains(&request.data_phase)
}

/// Returns the request at the start of `bytes` and its length.
pub fn task_request(abi: Abi, bytes: &[u8]) -> (IdeTaskRequest, usize) {
    let request = abi.parse(bytes);
    if is_hdparm_taskfile(&request) {
        (abi.parse::<HdioTaskfile>(bytes).into(), abi.size_of::<HdioTaskfile>())
    } else {
        (request, abi.size_of::<IdeTaskRequest>())
    }
}

/// Returns the lengths of the data-out and data-in buffers, of which the driver uses 32 bits.
pub(crate) fn data_lengths(request: &IdeTaskRequest) -> (u32, u32) {
    (request.out_size as u32, request.in_size as u32)
}

/// Returns the registers in a request's argument; none for other requests.
pub fn registers(abi: Abi, request: u32, argument: &[u8]) -> Option<Taskfile> {
    match request {
        HDIO_DRIVE_CMD => argument.first_chunk().copied().map(taskfile_of_cmd),
        HDIO_DRIVE_TASK => argument.first_chunk().copied().map(taskfile_of_task),
        HDIO_DRIVE_TASKFILE if argument.len() >= abi.size_of::<IdeTaskRequest>() => {
            Some(taskfile_of_request(&task_request(abi, argument).0))
        }
        _ => None,
    }
}

fn taskfile_of_cmd([command, count, features, sectors]: [u8; 4]) -> Taskfile {
    let (count, lba) = match command {
        SMART => (sectors, SMART_SIGNATURE << 8 | u64::from(count)),
        _ => (count, 0),
    };
    Taskfile { command, features: features.into(), count: count.into(), lba, device: 0 }
}

fn taskfile_of_task([command, features, count, low, mid, high, device]: [u8; 7]) -> Taskfile {
    let lba = u32::from_le_bytes([low, mid, high, 0]).into();
    Taskfile { command, features: features.into(), count: count.into(), lba, device }
}

fn taskfile_of_request(request: &IdeTaskRequest) -> Taskfile {
    let out_flags = request.out_flags.all;
    let [_, features, count, low, mid, high, select, command] = request.io_ports;
    let [_, features_high, count_high, d, e, f, ..] = request.hob_ports;
    // Without flags all registers are set.
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

/// Answers `HDIO_DRIVE_TASKFILE`.
#[inline(never)]
pub(crate) fn taskfile(device: &Device<'_>, host: &impl Host, argument: u64) -> Result<(), Errno> {
    let mut request: IdeTaskRequest = host.fetch(argument)?;
    let mut length = host.abi().size_of::<IdeTaskRequest>();
    let mut hdparm_taskfile = None;
    if is_hdparm_taskfile(&request) {
        let taskfile: HdioTaskfile = host.fetch(argument)?;
        length = host.abi().size_of::<HdioTaskfile>();
        request = taskfile.into();
        hdparm_taskfile = Some(taskfile);
    }
    let (out_size, in_size) = data_lengths(&request);
    if out_size > MAX_DATA || in_size > MAX_DATA {
        return Err(Errno::EINVAL);
    }
    let out_at = argument.wrapping_add(length as u64);
    let in_at = out_at.wrapping_add(out_size.into());
    // The driver copies all of it before it looks at anything else.
    let mut all = DataBuffer::new(out_at, u64::from(out_size).saturating_add(in_size.into()));
    let mut sector = [0; 512];
    while all.residual() > 0 {
        all.copy_in(host, &mut sector)?;
    }
    let input = taskfile_of_request(&request);
    let (protocol, at, size) = match request.data_phase {
        MULTI_IN | MULTI_OUT if device.settings.multiple.get(0) == 0 => return Err(Errno::EPERM),
        NO_DATA => (Protocol::NonData, 0, 0),
        IN | MULTI_IN => (Protocol::PioIn, in_at, in_size),
        OUT | MULTI_OUT => (Protocol::PioOut, out_at, out_size),
        IN_DMA | IN_DMAQ if request.req_cmd == TASK_RAW_WRITE => (Protocol::DmaOut, in_at, in_size),
        IN_DMA | IN_DMAQ => (Protocol::DmaIn, in_at, in_size),
        OUT_DMA | OUT_DMAQ => (Protocol::DmaOut, out_at, out_size),
        _ => return Err(Errno::EFAULT),
    };
    let limit = match request.req_cmd {
        TASK_NO_DATA => 0,
        // Neither data nor a number of sectors.
        _ if size < 512 && input.count == 0 => return Err(Errno::EFAULT),
        // Sectors without a buffer (`blk_rq_map_kern`).
        _ if size == 0 => return Err(Errno::EINVAL),
        _ => u64::from(size),
    };
    let mut data = DataBuffer::new(at, limit);
    let registers = ata::execute(device, host, &input, DataPhase { protocol, limit, data: &mut data })
        .map_err(errno_of)?;
    let Registers { status, error, count, lba, device: select } = registers;
    let [count_low, count_high] = count.to_le_bytes();
    let [low, mid, high, d, e, f, ..] = lba.to_le_bytes();
    let IdeTaskRequest { io_ports, hob_ports, .. } = request;
    request.io_ports = [io_ports[0], error, count_low, low, mid, high, select, status];
    // ERROR is read with either half (`IDE_VALID_IN_HOB`).
    request.hob_ports = [hob_ports[0], error, count_high, d, e, f, hob_ports[6], hob_ports[7]];
    match hdparm_taskfile {
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
    check_registers(device, &registers)
}
