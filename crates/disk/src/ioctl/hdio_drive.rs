//! `HDIO_DRIVE_CMD`, `HDIO_DRIVE_TASK` and `HDIO_DRIVE_TASKFILE`: ATA commands as the kernel's drivers/ide took them up to
//! Linux 5.13 (ide-ioctls.c, ide-taskfile.c), and the first two as libata does (drivers/ata/libata-scsi.c, `ata_cmd_ioctl`
//! and `ata_task_ioctl`).

use super::request::{HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE};
use crate::ata::command::{SET_FEATURES, SMART, Transfer};
use crate::ata::registers::SMART_SIGNATURE;
use crate::ata::{self, Offer, Registers, Taskfile};
use crate::bytes::part;
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

/// `ide_task_request_t` (include/uapi/linux/hdreg.h) on 64-bit systems: eight registers, eight with their high bytes, two sets
/// of flags in 16 bits of 32, the data phase, the kind of request; then how many bytes go to the disk and how many come
/// from it. They stand behind it in this order.
pub(crate) const REQUEST: usize = 48;

/// hdparm(8) has 32 bits for each byte of flags. The driver finds no data phase in that, and refuses; here it is understood.
pub(crate) const REQUEST_OF_HDPARM: usize = 56;

/// What the driver finds for a data phase there: flags of the registers that are to come back, STATUS (bit 7) and others.
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

/// Whether a request is laid out as the kernel has it, and not as hdparm.
fn is_kernels(request: &[u8]) -> bool {
    !PHASE_OF_HDPARM.contains(&i32::from_ne_bytes(part(request, 24)))
}

/// How long a request is, and how much data to the disk and then from it stands behind it.
pub(crate) fn lengths_of_taskfile(request: &[u8]) -> (usize, u64, u64) {
    let (length, sizes) = if is_kernels(request) { (REQUEST, 32) } else { (REQUEST_OF_HDPARM, 40) };
    let [out_size, in_size] =
        [sizes, sizes + 8].map(|at| u64::from(u64::from_ne_bytes(part(request, at)) as u32));
    (length, out_size, in_size)
}

/// Flags of registers, at a place of a request.
fn flags(request: &[u8], at: usize) -> u16 {
    let half = |at| u16::from_ne_bytes(part(request, at));
    if is_kernels(request) { half(at) } else { half(at) & 0xff | half(at + 4) << 8 }
}

/// The registers that what stands at a request's address gives; none for other requests.
pub fn registers(request: u32, given: &[u8]) -> Option<Taskfile> {
    match request {
        HDIO_DRIVE_CMD => given.first_chunk().copied().map(of_command),
        HDIO_DRIVE_TASK => given.first_chunk().copied().map(of_task),
        HDIO_DRIVE_TASKFILE if given.len() >= REQUEST => Some(of_taskfile(given)),
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

fn of_taskfile(request: &[u8]) -> Taskfile {
    let out_flags = flags(request, 16);
    let [_, features, count, low, mid, high, select, command] = part(request, 0);
    let [_, features_high, count_high, d, e, f] = part(request, 8);
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
    let mut room = [0; REQUEST_OF_HDPARM];
    let request = room.get_mut(..REQUEST).unwrap_or_default();
    host.copy_in(argument, request)?;
    let is_kernels = is_kernels(request);
    let request = if is_kernels { request } else { &mut room };
    if !is_kernels {
        host.copy_in(argument, request)?;
    }
    let [in_flags_at, phase_at] = if is_kernels { [20, 24] } else { [24, 32] };
    let int = |at| i32::from_ne_bytes(part(request, at));
    // The driver looks at 32 bits of them.
    let size = |at| u64::from_ne_bytes(part(request, at)) as u32;
    let [out_flags, in_flags] = [16, in_flags_at].map(|at| flags(request, at));
    let (phase, kind) = (int(phase_at), int(phase_at + 4));
    let (out_size, in_size) = (size(phase_at + 8), size(phase_at + 16));
    if out_size > MOST || in_size > MOST {
        return Err(Errno::EINVAL);
    }
    let out_at = argument.wrapping_add(request.len() as u64);
    let in_at = out_at.wrapping_add(out_size.into());
    // The driver copies all of it before it looks at anything else.
    let mut all = Data::new(out_at, u64::from(out_size).saturating_add(in_size.into()));
    let mut piece = [0; 512];
    while all.residual() > 0 {
        all.get(host, &mut piece)?;
    }
    let input = of_taskfile(request);
    let (transfer, at, size) = match phase {
        MULTI_IN | MULTI_OUT if device.settings.multiple.get(0) == 0 => return Err(Errno::EPERM),
        NO_DATA => (Transfer::None, 0, 0),
        IN | MULTI_IN => (Transfer::PioIn, in_at, in_size),
        OUT | MULTI_OUT => (Transfer::PioOut, out_at, out_size),
        IN_DMA | IN_DMAQ if kind == TASK_RAW_WRITE => (Transfer::DmaOut, in_at, in_size),
        IN_DMA | IN_DMAQ => (Transfer::DmaIn, in_at, in_size),
        OUT_DMA | OUT_DMAQ => (Transfer::DmaOut, out_at, out_size),
        _ => return Err(Errno::EFAULT),
    };
    let room = match kind {
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
    let mut put = |at: usize, bytes: &[u8]| {
        request.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(1, &[error, count_low, low, mid, high, select, status]);
    // ERROR is read with either half (`IDE_VALID_IN_HOB`).
    put(9, &[error, count_high, d, e, f]);
    if is_kernels && out_flags != 0 && in_flags == 0 {
        put(20, &IN_FLAGS.to_ne_bytes());
    }
    host.copy_out(argument, request)?;
    result(device, &registers)
}
