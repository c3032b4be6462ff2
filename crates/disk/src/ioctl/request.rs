//! The requests of ioctl(2) that block devices know, one row each: number, name and argument.
//!
//! Numbers and arguments are those of the kernel's
//! include/uapi/linux/{fs,blkpg,blktrace_api,blkzoned,hdreg,cdrom, pr,nvme_ioctl,loop,fd}.h and
//! include/scsi/{scsi_ioctl,sg}.h.

use crate::abi::Abi;
use crate::errno::Errno;

/// The answer to a request on a listed device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel answers: forward the request.
    Forward,
    /// The request succeeded; the value is what `ioctl(2)` returns.
    Value(i32),
    /// The request failed.
    Error(Errno),
    /// The caller is gone: no process waits for the answer.
    CallerGone,
}

impl From<Result<i32, Errno>> for Answer {
    fn from(result: Result<i32, Errno>) -> Answer {
        match result {
            Ok(value) => Answer::Value(value),
            Err(Errno::CALLER_GONE) => Answer::CallerGone,
            Err(errno) => Answer::Error(errno),
        }
    }
}

/// `FIBMAP` of a regular file (include/uapi/linux/fs.h), the same number as
/// [`SCSI_IOCTL_SEND_COMMAND`].
pub const FIBMAP: u32 = 0x0001;

/// The layer of the kernel that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The block layer: `BLK…`.
    BlockLayer,
    /// ATA and IDE drivers: `HDIO_…`.
    Hdio,
    /// SCSI drivers: `SCSI_IOCTL_…`, `SG_…`, `CDROM…`.
    Scsi,
    /// Persistent reservations and self-encryption, which the block layer hands to the driver:
    /// `IOC_PR_…`, `IOC_OPAL_…`.
    Reservation,
    /// Drivers of other devices: NVMe, loop, md, nbd, host adapters.
    Driver,
    /// Unknown. The driver of the disk underneath may know it, so a block device refuses it; a file
    /// system may know it, too.
    Unknown,
}

/// Returns the family of a request by its second byte
/// (Documentation/userspace-api/ioctl/ioctl-number.rst); `None` if no disk driver answers it.
#[inline]
pub fn family(request: u32) -> Option<Family> {
    let [_, second, _, _] = request.to_le_bytes();
    // FIGETBSZ, which is SCSI_IOCTL_TEST_UNIT_READY too, is answered before any driver sees it
    // (fs/ioctl.c).
    if request == FIGETBSZ { None } else { FAMILIES[usize::from(second)] }
}

/// Returns the family of the requests with a second byte.
const fn family_of(second: u8) -> Option<Family> {
    match second {
        // Not for block devices, and too frequent to check the descriptor: file systems,
        0x15 | b'X' | b'f' | 0x94 => None,
        // terminals and all files, sockets,
        b'T' | 0x89 => None,
        // VMware's modules vmmon and vmci (aacraid's 0x853 is among them, which only reads),
        0x07 | 0x08 => None,
        // perf, sound, frame buffers and NVIDIA, video, binder, graphics, KVM, vhost.
        b'$' | b'A' | b'F' | b'V' | b'b' | b'd' | 0xae | 0xaf => None,
        0x00 | 0x22 | 0x53 => Some(Family::Scsi),
        0x03 => Some(Family::Hdio),
        0x12 => Some(Family::BlockLayer),
        b'p' => Some(Family::Reservation),
        // Floppy, md, aacraid, esas2r, cciss and its heirs, DASD, loop, MPT and megaraid, NVMe,
        // tape, nbd, MMC, device-mapper.
        0x01 | 0x02 | 0x09 | 0x20 | b'E' | b'B' | b'D' | b'L' | b'M' | b'N' | b'm' | 0xab | 0xb3 | 0xfd => {
            Some(Family::Driver)
        }
        _ => Some(Family::Unknown),
    }
}

/// Returns whether a disk driver could answer the request; the kernel uses only its low 32 bits.
#[inline]
pub fn is_disk_request(request: u32) -> bool {
    let [_, second, _, _] = request.to_le_bytes();
    FAMILIES[usize::from(second)].is_some()
}

/// [`family_of`] each byte, a table because every ioctl(2) of a program looks it up.
static FAMILIES: [Option<Family>; 256] = {
    let mut families = [None; 256];
    let mut byte = 0;
    while byte < families.len() {
        families[byte] = family_of(byte as u8);
        byte += 1;
    }
    families
};

/// The third argument of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// None, or unknown.
    None,
    /// A number.
    Number,
    /// The address of the input.
    In(Shape),
    /// The address of the output.
    Out(Shape),
}

/// The structure at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// 16 bits.
    Short,
    /// 32 bits.
    Int,
    /// A `long`.
    Long,
    /// 64 bits.
    Long64,
    /// Two numbers of 64 bits: first byte and length.
    Range,
    /// `struct hd_geometry`
    Geometry,
    /// `struct hd_big_geometry`
    BigGeometry,
    /// `struct hd_driveid`
    Identity,
    /// `struct scsi_idlun`
    Idlun,
    /// Text of at most 20 bytes.
    Text,
    /// `struct sg_io_hdr`: the direction, the length and the command are shown.
    SgIo,
    /// Anything else: the first 16 bytes are shown.
    Bytes,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The number.
    pub number: u32,
    /// Its third argument.
    pub argument: Argument,
    /// Start and length of its name in [`NAMES`]: a reference would take three times its size in
    /// relocations.
    name: (u16, u8),
}

impl Request {
    /// Returns the name of its `#define`.
    pub fn name(&self) -> &'static str {
        let (start, length) = (usize::from(self.name.0), usize::from(self.name.1));
        NAMES.get(start..start + length).unwrap_or_default()
    }

    /// Returns whether the request changes neither the disk nor a setting; `false` for one that
    /// sends a command, which has a row of its own.
    pub fn changes_nothing(&self) -> bool {
        matches!(self.argument, Argument::Out(_))
            || matches!(self.number, SG_GET_TIMEOUT | CDROM_GET_CAPABILITY | CDROM_DRIVE_STATUS)
    }
}

/// Returns the request that a caller means: a number holds the size of a structure, which may not be the same for i386
/// programs (the kernel's compat_blkdev_ioctl). `None` for one that has no meaning there.
pub fn meant(abi: Abi, request: u32) -> Option<u32> {
    const I386: [(u32, u32); 4] = [
        (0x8004_1270, BLKBSZGET),
        (0x4004_1271, BLKBSZSET),
        (BLKGETSIZE64_32, BLKGETSIZE64),
        (0xc040_1273, BLKTRACESETUP),
    ];
    if abi == Abi::Native {
        return Some(request);
    }
    let row = I386.iter().find(|(i386, native)| request == *i386 || request == *native);
    row.map_or(Some(request), |(i386, native)| (request == *i386).then_some(*native))
}

/// Returns the row of a request.
pub fn find(number: u32) -> Option<&'static Request> {
    REQUESTS.iter().find(|request| request.number == number)
}

macro_rules! requests {
    ($($name:ident = $number:literal $(=> $direction:ident $(($shape:ident))?)?;)*) => {
        $(#[doc = concat!("`", stringify!($name), "`")]
        pub const $name: u32 = $number;)*

        /// The names, concatenated.
        static NAMES: &str = concat!($(stringify!($name)),*);

        /// Every request that is known by name.
        pub static REQUESTS: &[Request] = {
            let mut rows = [$(Request {
                number: $number,
                argument: requests!(@ $($direction $(($shape))?)?),
                name: (0, stringify!($name).len() as u8),
            },)*];
            let mut row = 1;
            while row < rows.len() {
                let (start, length) = rows[row - 1].name;
                rows[row].name.0 = start + length as u16;
                row += 1;
            }
            &{ rows }
        };
    };
    (@) => { Argument::None };
    (@ $direction:ident) => { Argument::$direction };
    (@ $direction:ident ($shape:ident)) => { Argument::$direction(Shape::$shape) };
}

requests! {
    FIGETBSZ = 0x0002 => Out(Int);

    SCSI_IOCTL_SEND_COMMAND = 0x0001 => In(Bytes);
    SCSI_IOCTL_BENCHMARK_COMMAND = 0x0003;
    SCSI_IOCTL_SYNC = 0x0004;
    SCSI_IOCTL_START_UNIT = 0x0005;
    SCSI_IOCTL_STOP_UNIT = 0x0006;
    SCSI_IOCTL_DOORLOCK = 0x5380;
    SCSI_IOCTL_DOORUNLOCK = 0x5381;
    SCSI_IOCTL_GET_IDLUN = 0x5382 => Out(Idlun);
    SCSI_IOCTL_PROBE_HOST = 0x5385 => Out(Text);
    SCSI_IOCTL_GET_BUS_NUMBER = 0x5386 => Out(Int);
    SCSI_IOCTL_GET_PCI = 0x5387 => Out(Text);

    CDROMEJECT = 0x5309;
    CDROMCLOSETRAY = 0x5319;
    CDROM_DRIVE_STATUS = 0x5326 => Number;
    CDROM_GET_CAPABILITY = 0x5331;
    CDROM_LOCKDOOR = 0x5329 => Number;
    CDROM_LAST_WRITTEN = 0x5395 => Out(Long);
    CDROMMULTISESSION = 0x5310 => In(Bytes);
    CDROM_SEND_PACKET = 0x5393 => In(Bytes);

    SG_SET_TIMEOUT = 0x2201 => In(Int);
    SG_GET_TIMEOUT = 0x2202;
    SG_EMULATED_HOST = 0x2203 => Out(Int);
    SG_SET_TRANSFORM = 0x2204 => Number;
    SG_GET_TRANSFORM = 0x2205 => Out(Int);
    SG_GET_COMMAND_Q = 0x2270 => Out(Int);
    SG_SET_COMMAND_Q = 0x2271 => In(Int);
    SG_GET_RESERVED_SIZE = 0x2272 => Out(Int);
    SG_SET_RESERVED_SIZE = 0x2275 => In(Int);
    SG_GET_SCSI_ID = 0x2276 => Out(Bytes);
    SG_SET_FORCE_LOW_DMA = 0x2279 => In(Int);
    SG_GET_LOW_DMA = 0x227a => Out(Int);
    SG_SET_FORCE_PACK_ID = 0x227b => In(Int);
    SG_GET_PACK_ID = 0x227c => Out(Int);
    SG_GET_NUM_WAITING = 0x227d => Out(Int);
    SG_SET_DEBUG = 0x227e => In(Int);
    SG_GET_SG_TABLESIZE = 0x227f => Out(Int);
    SG_GET_VERSION_NUM = 0x2282 => Out(Int);
    SG_NEXT_CMD_LEN = 0x2283 => In(Int);
    SG_SCSI_RESET = 0x2284 => In(Int);
    SG_IO = 0x2285 => In(SgIo);
    SG_GET_REQUEST_TABLE = 0x2286 => Out(Bytes);
    SG_SET_KEEP_ORPHAN = 0x2287 => In(Int);
    SG_GET_KEEP_ORPHAN = 0x2288 => Out(Int);
    SG_GET_ACCESS_COUNT = 0x2289 => Out(Int);

    HDIO_GETGEO = 0x0301 => Out(Geometry);
    HDIO_GET_UNMASKINTR = 0x0302 => Out(Long);
    HDIO_GET_MULTCOUNT = 0x0304 => Out(Long);
    HDIO_GET_QDMA = 0x0305 => Out(Long);
    HDIO_SET_XFER = 0x0306;
    HDIO_OBSOLETE_IDENTITY = 0x0307 => Out(Identity);
    HDIO_GET_KEEPSETTINGS = 0x0308 => Out(Long);
    HDIO_GET_32BIT = 0x0309 => Out(Long);
    HDIO_GET_NOWERR = 0x030a => Out(Long);
    HDIO_GET_DMA = 0x030b => Out(Long);
    HDIO_GET_NICE = 0x030c => Out(Long);
    HDIO_GET_IDENTITY = 0x030d => Out(Identity);
    HDIO_GET_WCACHE = 0x030e => Out(Long);
    HDIO_GET_ACOUSTIC = 0x030f => Out(Long);
    HDIO_GET_ADDRESS = 0x0310 => Out(Long);
    HDIO_GET_BUSSTATE = 0x031a => Out(Long);
    HDIO_TRISTATE_HWIF = 0x031b;
    HDIO_DRIVE_RESET = 0x031c;
    HDIO_DRIVE_TASKFILE = 0x031d => In(Bytes);
    HDIO_DRIVE_TASK = 0x031e => In(Bytes);
    HDIO_DRIVE_CMD = 0x031f => In(Bytes);
    HDIO_SET_MULTCOUNT = 0x0321 => Number;
    HDIO_SET_UNMASKINTR = 0x0322 => Number;
    HDIO_SET_KEEPSETTINGS = 0x0323 => Number;
    HDIO_SET_32BIT = 0x0324 => Number;
    HDIO_SET_NOWERR = 0x0325 => Number;
    HDIO_SET_DMA = 0x0326 => Number;
    HDIO_SET_PIO_MODE = 0x0327 => Number;
    HDIO_SCAN_HWIF = 0x0328 => In(Bytes);
    HDIO_SET_NICE = 0x0329 => Number;
    HDIO_UNREGISTER_HWIF = 0x032a => Number;
    HDIO_SET_WCACHE = 0x032b => Number;
    HDIO_SET_ACOUSTIC = 0x032c => Number;
    HDIO_SET_BUSSTATE = 0x032d => Number;
    HDIO_SET_QDMA = 0x032e => Number;
    HDIO_SET_ADDRESS = 0x032f => Number;
    HDIO_GETGEO_BIG = 0x0330 => Out(BigGeometry);

    BLKROSET = 0x125d => In(Int);
    BLKROGET = 0x125e => Out(Int);
    BLKRRPART = 0x125f;
    BLKGETSIZE = 0x1260 => Out(Long);
    BLKFLSBUF = 0x1261;
    BLKRASET = 0x1262 => Number;
    BLKRAGET = 0x1263 => Out(Long);
    BLKFRASET = 0x1264 => Number;
    BLKFRAGET = 0x1265 => Out(Long);
    BLKSECTSET = 0x1266 => In(Short);
    BLKSECTGET = 0x1267 => Out(Short);
    BLKSSZGET = 0x1268 => Out(Int);
    BLKPG = 0x1269 => In(Bytes);
    BLKBSZGET = 0x8008_1270 => Out(Int);
    BLKBSZSET = 0x4008_1271 => In(Int);
    BLKGETSIZE64 = 0x8008_1272 => Out(Long64);
    BLKGETSIZE64_32 = 0x8004_1272 => Out(Long64);
    BLKTRACESETUP = 0xc048_1273 => In(Bytes);
    BLKTRACESTART = 0x1274;
    BLKTRACESTOP = 0x1275;
    BLKTRACETEARDOWN = 0x1276;
    BLKDISCARD = 0x1277 => In(Range);
    BLKIOMIN = 0x1278 => Out(Int);
    BLKIOOPT = 0x1279 => Out(Int);
    BLKALIGNOFF = 0x127a => Out(Int);
    BLKPBSZGET = 0x127b => Out(Int);
    BLKDISCARDZEROES = 0x127c => Out(Int);
    BLKSECDISCARD = 0x127d => In(Range);
    BLKROTATIONAL = 0x127e => Out(Short);
    BLKZEROOUT = 0x127f => In(Range);
    BLKGETDISKSEQ = 0x8008_1280 => Out(Long64);
    BLKREPORTZONE = 0xc010_1282 => In(Bytes);
    BLKRESETZONE = 0x4010_1283 => In(Range);
    BLKGETZONESZ = 0x8004_1284 => Out(Int);
    BLKGETNRZONES = 0x8004_1285 => Out(Int);
    BLKOPENZONE = 0x4010_1286 => In(Range);
    BLKCLOSEZONE = 0x4010_1287 => In(Range);
    BLKFINISHZONE = 0x4010_1288 => In(Range);

    IOC_PR_REGISTER = 0x4018_70c8 => In(Bytes);
    IOC_PR_RESERVE = 0x4010_70c9 => In(Bytes);
    IOC_PR_RELEASE = 0x4010_70ca => In(Bytes);
    IOC_PR_PREEMPT = 0x4018_70cb => In(Bytes);
    IOC_PR_PREEMPT_ABORT = 0x4018_70cc => In(Bytes);
    IOC_PR_CLEAR = 0x4010_70cd => In(Bytes);
    IOC_PR_READ_KEYS = 0xc010_70ce => In(Bytes);
    IOC_PR_READ_RESERVATION = 0x8010_70cf => Out(Bytes);

    LOOP_SET_FD = 0x4c00 => Number;
    LOOP_CLR_FD = 0x4c01;
    LOOP_GET_STATUS64 = 0x4c05 => Out(Bytes);
    LOOP_SET_CAPACITY = 0x4c07;
    LOOP_SET_DIRECT_IO = 0x4c08 => Number;
    LOOP_SET_BLOCK_SIZE = 0x4c09 => Number;
    NVME_IOCTL_ID = 0x4e40;
    NVME_IOCTL_ADMIN_CMD = 0xc048_4e41 => In(Bytes);
    NVME_IOCTL_SUBMIT_IO = 0x4030_4e42 => In(Bytes);
    NVME_IOCTL_IO_CMD = 0xc048_4e43 => In(Bytes);
    NVME_IOCTL_RESET = 0x4e44;
    NVME_IOCTL_SUBSYS_RESET = 0x4e45;
    NVME_IOCTL_RESCAN = 0x4e46;
    NVME_IOCTL_ADMIN64_CMD = 0xc050_4e47 => In(Bytes);
    NVME_IOCTL_IO64_CMD = 0xc050_4e48 => In(Bytes);
    RAID_VERSION = 0x800c_0910 => Out(Bytes);
    GET_ARRAY_INFO = 0x8048_0911 => Out(Bytes);
    FDGETPRM = 0x8020_0204 => Out(Bytes);
    FDGETFDCSTAT = 0x8028_0215 => Out(Bytes);
    MTIOCGET = 0x8030_6d02 => Out(Bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_i386_programs() {
        for (request, wanted) in [
            (0x8004_1272, Some(BLKGETSIZE64)),
            (BLKGETSIZE64, None),
            (0xc040_1273, Some(BLKTRACESETUP)),
            (BLKBSZSET, None),
            (SG_IO, Some(SG_IO)),
        ] {
            assert_eq!(meant(Abi::I386, request), wanted, "{request:#x}");
        }
        assert_eq!(meant(Abi::Native, BLKGETSIZE64), Some(BLKGETSIZE64));
    }
}
