//! What a listed device answers, row by row against what real disks answered.
//!
//! `golden/ioctl` was printed by `programs/ioctl-probe.c` on real disks: `scsi.*` on a SCSI disk of 1 GiB, `ide.*` on an
//! ATA disk of 256 MiB behind libata, as root and as an ordinary user. `golden/derived` holds the same rows for
//! a disk behind the kernel's old IDE driver, from its source. The directories `i386` in both hold what an i386 program gets
//! there. The devices here are of the same sizes.

use std::collections::BTreeMap;
use std::process::ExitCode;

use acceptance::{
    Disk, Engine, Medium, Need, Outcome, Run, Trial, engine, i386_program, main as harness, trial,
};

const MIB: u64 = 1 << 20;

/// Who asks, and how the device is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Root,
    NobodyReadOnly,
    NobodyReadWrite,
}

impl User {
    /// The name in the names of tables, and the mode that ioctl-probe opens the device in.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            User::Root => ("root", "w"),
            User::NobodyReadOnly => ("nobody-ro", "r"),
            User::NobodyReadWrite => ("nobody-rw", "w"),
        }
    }
}

/// Which program asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Native,
    I386,
}

/// One device that is asked by one user.
#[derive(Clone, Copy, Debug)]
struct Case {
    program: Program,
    kind: &'static str,
    medium: Medium,
    user: User,
}

fn main() -> ExitCode {
    harness(trials())
}

/// The trials, which tests/supervisor.rs runs too.
pub fn trials() -> Vec<Trial> {
    let mut trials = trials_of(Program::Native);
    trials.push(trial("documented", &[], documented));
    trials
}

/// The trials of an i386 program, which no library reaches.
#[allow(dead_code, reason = "tests/supervisor.rs runs them")]
pub fn i386_trials() -> Vec<Trial> {
    if cfg!(not(target_arch = "x86_64")) {
        return Vec::new();
    }
    let mut trials = trials_of(Program::I386);
    trials.push(trial("large", &[], large));
    trials
}

fn trials_of(program: Program) -> Vec<Trial> {
    let mut trials = Vec::new();
    for kind in ["scsi", "sata", "ide"] {
        for medium in [Medium::Image, Medium::Node] {
            for user in [User::Root, User::NobodyReadOnly, User::NobodyReadWrite] {
                let case = Case { program, kind, medium, user };
                let medium = if medium == Medium::Image { "image" } else { "loop" };
                // Only root can become nobody.
                trials.push(trial(
                    format!("{kind}/{medium}/{}", user.names().0),
                    &[Need::Devices],
                    move || check(case),
                ));
            }
        }
    }
    for medium in [Medium::Image, Medium::Node] {
        let name = if medium == Medium::Image { "image" } else { "loop" };
        let unlisted = move || unlisted(program, medium);
        trials.push(trial(format!("unlisted/{name}"), &[Need::Devices], unlisted));
    }
    trials
}

/// Rows by name: return value, errno and output, separated by tabs.
type Table = BTreeMap<String, String>;

fn table(text: &str) -> Table {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| {
        let (name, rest) = line.split_once('\t').unwrap_or_else(|| panic!("not a row: {line}"));
        (name.to_owned(), rest.to_owned())
    })
    .collect()
}

fn golden(case: Case) -> Table {
    let (directory, disk) = match case.kind {
        "scsi" => ("ioctl", "scsi"),
        "sata" => ("ioctl", "ide"),
        _ => ("derived", "ide"),
    };
    let directory = match std::env::var("GOLDEN") {
        // Tables that were recorded elsewhere, on real disks.
        Ok(directory) if case.kind != "ide" => directory,
        _ => format!("{}/golden/{directory}", env!("CARGO_MANIFEST_DIR")),
    };
    let subdirectory = if case.program == Program::I386 { "i386/" } else { "" };
    let name = format!("{directory}/{subdirectory}{disk}.{}.tsv", case.user.names().0);
    let mut table = table(&std::fs::read_to_string(&name).unwrap_or_else(|error| panic!("{name}: {error}")));
    // SG_IO rows are compared field by field, where the disk has that request.
    table.retain(|row, _| row != "open" && (case.kind != "ide" || !row.starts_with("SG_IO")));
    table
}

fn probe(run: impl Fn(&std::path::Path) -> Run, disk: &Disk, program: Program, user: User) -> Outcome {
    let program = match program {
        Program::Native => disk.scratch().program("ioctl-probe"),
        Program::I386 => disk.scratch().copy(&i386_program("ioctl-probe"), "ioctl-probe-i386"),
    };
    let run = run(&program).arg(disk.path()).arg(user.names().1);
    if user == User::Root { run.output() } else { run.nobody().output() }
}

/// What is right where it is not what the real disk said.
enum Ours {
    /// Exactly this row.
    Row(&'static str),
    /// The errno by which this kind refuses what it does not do, and this output.
    Refused(&'static str),
    /// A row that this function finds right.
    If(fn(&str) -> bool),
}

struct Difference {
    row: &'static str,
    kinds: &'static [&'static str],
    media: &'static [Medium],
    users: &'static [User],
    ours: Ours,
    /// "as above": the one before says it.
    why: &'static str,
}

const ALL: &[&str] = &["scsi", "sata", "ide"];
const SCSI: &[&str] = &["scsi"];
const SATA: &[&str] = &["sata"];
const IDE: &[&str] = &["ide"];
const WITH_SCSI: &[&str] = &["scsi", "sata"];
const WITH_ATA: &[&str] = &["sata", "ide"];
/// The kinds that refuse by EINVAL.
const WITHOUT_ENOTTY: &[&str] = &["scsi", "ide"];
const ANY: &[Medium] = &[Medium::Image, Medium::Node];
const IMAGE: &[Medium] = &[Medium::Image];
const LOOP: &[Medium] = &[Medium::Node];
const EVERYBODY: &[User] = &[User::Root, User::NobodyReadOnly, User::NobodyReadWrite];
const ROOT: &[User] = &[User::Root];
const READERS: &[User] = &[User::NobodyReadOnly];
const WRITERS: &[User] = &[User::Root, User::NobodyReadWrite];

/// Every difference from the tables there is. One that is none any more fails the test.
///
/// Block-layer rows (`BLK…`) of a loop device are not compared with the tables but with what the kernel says of the
/// same device without the library, for they are the kernel's own.
const DIFFERENCES: &[Difference] = &[
    // Who the disk is.
    Difference {
        row: "SCSI_IOCTL_GET_IDLUN",
        kinds: WITH_SCSI,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::Row("0\t-\t0000007f7f000000"),
        why: "no other host has the number 127",
    },
    Difference {
        row: "SCSI_IOCTL_GET_BUS_NUMBER",
        kinds: WITH_SCSI,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::Row("0\t-\t7f000000"),
        why: "as above",
    },
    Difference {
        row: "SCSI_IOCTL_PROBE_HOST(64)",
        kinds: WITH_SCSI,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::If(|said| {
            said.strip_prefix("1\t-\t").is_some_and(|name| hex(name).starts_with(b"vmware-bdwrapper\0"))
        }),
        why: "the adapter is the wrapper",
    },
    Difference {
        row: "SCSI_IOCTL_GET_PCI",
        kinds: WITH_SCSI,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::If(|said| hex(output(said)) == b"vmware-bdwrapper\xee\xee\xee\xee"),
        why: "it is on no bus",
    },
    Difference {
        row: "HDIO_GET_IDENTITY",
        kinds: WITH_ATA,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::If(|said| is_identity(output(said), 512)),
        why: "another model, serial number and other features",
    },
    Difference {
        row: "HDIO_OBSOLETE_IDENTITY",
        kinds: IDE,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::If(|said| is_identity(output(said), 142)),
        why: "as above",
    },
    // What real disks have not, or not any more.
    Difference {
        row: "HDIO_GETGEO_BIG(0x330)",
        kinds: SCSI,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::Row("0\t-\t223d0000f30300000000000000000000"),
        why: "removed from Linux in 2003; clients of that age ask for it",
    },
    Difference {
        row: "HDIO_GETGEO_BIG(0x330)",
        kinds: WITH_ATA,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::Row("0\t-\tff3f0000200000000000000000000000"),
        why: "as above",
    },
    Difference {
        row: "IOC_PR_REGISTER",
        kinds: WITH_SCSI,
        media: ANY,
        users: ROOT,
        ours: Ours::Row("-1\tEOPNOTSUPP\t"),
        why: "no reservations; Linux 6.1 let the disk's CHECK CONDITION through as a result",
    },
    Difference {
        row: "IOC_PR_REGISTER(un)",
        kinds: WITH_SCSI,
        media: ANY,
        users: ROOT,
        ours: Ours::Row("-1\tEOPNOTSUPP\t"),
        why: "as above",
    },
    Difference {
        row: "IOC_PR_CLEAR",
        kinds: WITH_SCSI,
        media: ANY,
        users: ROOT,
        ours: Ours::Row("-1\tEOPNOTSUPP\t"),
        why: "as above",
    },
    Difference {
        row: "CDROMEJECT",
        kinds: SATA,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::Refused(""),
        why: "Linux 6.1 let the disk's CHECK CONDITION through as a result",
    },
    // Commands of the disk's own language.
    Difference {
        row: "SCSI_IOCTL_SEND_COMMAND(INQUIRY)",
        kinds: WITH_SCSI,
        media: LOOP,
        users: EVERYBODY,
        ours: Ours::If(|said| {
            let inquiry = hex(output(said));
            inquiry.len() == 36 && inquiry[..3] == [0, 0, 6] && inquiry[16..32] == *b"BDWRAPPER DISK  "
        }),
        why: "another vendor and product",
    },
    Difference {
        row: "SG_GET_SCSI_ID",
        kinds: WITH_SCSI,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::Row("0\t-\t7f00000000000000000000000000000000000000200020000000000000000000"),
        why: "only the /dev/sg node of a real disk answers it, and a listed device has none beside it (QEMU asks)",
    },
    Difference {
        row: "CDROM_SEND_PACKET",
        kinds: WITH_SCSI,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::Refused(""),
        why: "a disk is not a CD drive",
    },
    Difference {
        row: "HDIO_DRIVE_CMD(IDENTIFY)",
        kinds: SATA,
        media: ANY,
        users: ROOT,
        ours: Ours::If(|said| {
            output(said).strip_prefix("ec000001").is_some_and(|words| is_identity(&swapped(words), 512))
        }),
        why: "another model, serial number and other features",
    },
    Difference {
        row: "HDIO_DRIVE_CMD(IDENTIFY)",
        kinds: IDE,
        media: ANY,
        users: ROOT,
        ours: Ours::If(|said| {
            output(said).strip_prefix("50000001").is_some_and(|words| is_identity(&swapped(words), 512))
        }),
        why: "as above",
    },
    Difference {
        row: "HDIO_DRIVE_CMD(SMART READ)",
        kinds: SATA,
        media: ANY,
        users: ROOT,
        ours: Ours::If(|said| output(said).strip_prefix("b001d001").is_some_and(is_smart_data)),
        why: "no attributes: nothing is counted",
    },
    Difference {
        row: "HDIO_DRIVE_CMD(SMART READ)",
        kinds: IDE,
        media: ANY,
        users: ROOT,
        ours: Ours::If(|said| output(said).strip_prefix("50000101").is_some_and(is_smart_data)),
        why: "as above",
    },
    // Terminals' requests, and on a file all that no disk driver knows, go to the kernel: the answer is its own.
    Difference {
        row: "TCGETS(0x5401)",
        kinds: WITHOUT_ENOTTY,
        media: IMAGE,
        users: EVERYBODY,
        ours: Ours::Row("-1\tENOTTY\t"),
        why: "a terminal's request: the file system's answer",
    },
    Difference {
        row: "unknown(0xdeadbeef)",
        kinds: WITHOUT_ENOTTY,
        media: IMAGE,
        users: EVERYBODY,
        ours: Ours::Row("-1\tENOTTY\t"),
        why: "the file system could know it",
    },
    Difference {
        row: "TCGETS(0x5401)",
        kinds: SATA,
        media: LOOP,
        users: EVERYBODY,
        ours: Ours::Row("-1\tEINVAL\t"),
        why: "a terminal's request: the loop driver's answer",
    },
    // Image files.
    Difference {
        row: "SCSI_IOCTL_SEND_COMMAND(INQUIRY)",
        kinds: ALL,
        media: IMAGE,
        users: EVERYBODY,
        ours: Ours::If(|said| said.starts_with("0\t-\t") || said.starts_with("-1\tE")),
        why: "the number is FIBMAP's, which the kernel answers on any regular file",
    },
    Difference {
        row: "BLKPBSZGET",
        kinds: ALL,
        media: IMAGE,
        users: EVERYBODY,
        ours: Ours::Row("0\t-\t00100000"),
        why: "a file lives in pages of 4096 bytes",
    },
    Difference {
        row: "BLKIOMIN",
        kinds: ALL,
        media: IMAGE,
        users: EVERYBODY,
        ours: Ours::Row("0\t-\t00100000"),
        why: "as above",
    },
    Difference {
        row: "BLKGETDISKSEQ",
        kinds: ALL,
        media: IMAGE,
        users: EVERYBODY,
        ours: Ours::Refused(""),
        why: "a file has no such number; as on Linux before 5.15",
    },
];

/// What differs for i386 programs, instead of what [`DIFFERENCES`] has for the same row and medium.
const I386_DIFFERENCES: &[Difference] = &[
    Difference {
        row: "HDIO_GETGEO_BIG(0x330)",
        kinds: SCSI,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::Row("0\t-\t223d0000f303000000000000eeeeeeee"),
        why: "removed from Linux in 2003; clients of that age ask for it",
    },
    Difference {
        row: "HDIO_GETGEO_BIG(0x330)",
        kinds: WITH_ATA,
        media: ANY,
        users: EVERYBODY,
        ours: Ours::Row("0\t-\tff3f00002000000000000000eeeeeeee"),
        why: "as above",
    },
    Difference {
        row: "TCGETS(0x5401)",
        kinds: WITHOUT_ENOTTY,
        media: LOOP,
        users: EVERYBODY,
        ours: Ours::Row("-1\tENOTTY\t"),
        why: "a terminal's request: the loop driver's answer",
    },
];

/// What differs under a supervisor, instead of what [`DIFFERENCES`] has for the same row.
const SUPERVISOR_DIFFERENCES: &[Difference] = &[
    Difference {
        row: "IOC_PR_REGISTER",
        kinds: SCSI,
        media: ANY,
        users: ROOT,
        ours: Ours::Row("0\t-\t"),
        why: "the supervisor has reservations, that disk has none",
    },
    Difference {
        row: "IOC_PR_REGISTER(un)",
        kinds: SCSI,
        media: ANY,
        users: ROOT,
        ours: Ours::Row("0\t-\t"),
        why: "as above",
    },
    Difference {
        row: "IOC_PR_CLEAR",
        kinds: SCSI,
        media: ANY,
        users: ROOT,
        // RESERVATION CONFLICT: the key that was registered is no more.
        ours: Ours::Row("24\t-\t"),
        why: "as above",
    },
    Difference {
        row: "IOC_PR_REGISTER",
        kinds: SATA,
        media: ANY,
        users: ROOT,
        ours: Ours::Row("-1\tEOPNOTSUPP\t"),
        why: "no reservations; Linux 6.1 let the disk's CHECK CONDITION through as a result",
    },
    Difference {
        row: "IOC_PR_REGISTER(un)",
        kinds: SATA,
        media: ANY,
        users: ROOT,
        ours: Ours::Row("-1\tEOPNOTSUPP\t"),
        why: "as above",
    },
    Difference {
        row: "IOC_PR_CLEAR",
        kinds: SATA,
        media: ANY,
        users: ROOT,
        ours: Ours::Row("-1\tEOPNOTSUPP\t"),
        why: "as above",
    },
];

/// The difference that applies to a row; there is none or one.
fn difference(case: Case, row: &str) -> Option<&'static Difference> {
    let is_row = |difference: &&Difference| difference.row == row && difference.media.contains(&case.medium);
    let has = |list: &'static [Difference]| list.iter().any(|difference| is_row(&difference));
    let list = match case.program {
        _ if engine() == Engine::Supervisor && has(SUPERVISOR_DIFFERENCES) => SUPERVISOR_DIFFERENCES,
        Program::I386 if has(I386_DIFFERENCES) => I386_DIFFERENCES,
        _ => DIFFERENCES,
    };
    let mut applying = list
        .iter()
        .filter(is_row)
        .filter(|difference| difference.kinds.contains(&case.kind) && difference.users.contains(&case.user));
    let first = applying.next();
    assert!(applying.next().is_none(), "{row} has two differences that apply");
    first
}

/// Commands that the real disk does not have and ours does, or the other way round, or that end otherwise.
const OTHER_COMMANDS: &[(&str, &[&str], &[User], &str)] = &[
    ("SG_IO:LOG SENSE 0", WITH_SCSI, EVERYBODY, "listed devices have it"),
    (
        "SG_IO:REPORT SUPPORTED OPCODES",
        WITH_SCSI,
        EVERYBODY,
        "listed devices have it; libata gives an empty list",
    ),
    ("SG_IO:REPORT SUPPORTED TMF", WITH_SCSI, EVERYBODY, "listed devices have it"),
    ("SG_IO:SYNC CACHE16", SCSI, ROOT, "listed devices have it"),
    ("SG_IO:GET LBA STATUS", WITH_SCSI, EVERYBODY, "listed devices have it for every device"),
    ("SG_IO:READ DEFECT10", WITH_SCSI, EVERYBODY, "listed devices have it"),
    (
        "SG_IO:MODE SENSE10 3f saved",
        WITH_SCSI,
        EVERYBODY,
        "the saved values are the defaults, as with LIO; sdparm fails without them",
    ),
    ("SG_IO:SEND DIAG self", SCSI, ROOT, "listed devices have it"),
    ("SG_IO:RESERVE6", SCSI, ROOT, "refused rather than ignored: there are no reservations"),
    ("SG_IO:RELEASE6", SCSI, ROOT, "refused rather than ignored: there are no reservations"),
    (
        "SG_IO:INQUIRY alloc>len",
        SCSI,
        EVERYBODY,
        "a response that is longer than the buffer is truncated, as by libata",
    ),
    (
        "SG_IO:UNMAP",
        WITH_SCSI,
        READERS,
        "the kernel takes it for a CD's command and lets readers send it; here only writers may",
    ),
    ("SG_IO:UNMAP", SATA, WRITERS, "listed devices have it"),
    ("SG_IO:WRITE SAME16 unmap", SATA, WRITERS, "listed devices have it; that disk has no TRIM"),
    ("SG_IO:PREVENT ALLOW", SATA, WRITERS, "listed devices have it"),
    ("SG_IO:READ12 lba0 x1", SATA, EVERYBODY, "listed devices have it"),
    ("SG_IO:INQUIRY evpd0 page1", SATA, EVERYBODY, "libata does not look at the page code"),
    ("SG_IO:INQUIRY bad page", SATA, EVERYBODY, SHORTER),
    ("SG_IO:MODE SENSE6 bad", SATA, EVERYBODY, SHORTER),
    ("SG_IO:REQUEST SENSE", SATA, EVERYBODY, "libata ends it with CHECK CONDITION; SPC-4, 6.39: as data"),
    ("SG_IO:REQUEST SENSE desc", SATA, EVERYBODY, "as above"),
    ("SG_IO:READ10 lba ffffffff", SATA, EVERYBODY, "LOGICAL BLOCK ADDRESS OUT OF RANGE, as in SAT-3"),
    ("SG_IO:READ16 lba big", SATA, EVERYBODY, "as above"),
    ("SG_IO:READ10 short buffer", SATA, EVERYBODY, "an overrun, as on the SCSI disk"),
    ("SG_IO:REPORT LUNS", SATA, EVERYBODY, "the residual count is exact"),
    (
        "SG_IO:ATA PT16 bad cmd",
        SATA,
        ROOT,
        "the registers are returned in their descriptor, which clients read without checking the format",
    ),
];

const SHORTER: &str = "libata 6.1 reports more than the 18 bytes that it returns";

/// Commands whose data is no identity, capability or setting of the disk: it must be the same.
const SAME_DATA: [&str; 11] = [
    "SG_IO:READ CAPACITY10",
    "SG_IO:REPORT LUNS",
    "SG_IO:READ6 lba0 x1",
    "SG_IO:READ10 lba0 x1",
    "SG_IO:READ10 short buffer",
    "SG_IO:READ16 lba0 x1",
    "SG_IO:READ12 lba0 x1",
    "SG_IO:TUR",
    "SG_IO no sense buffer",
    "SG_IO sense buffer 4",
    "SG_IO flag DIRECT_IO",
];

/// What differs of [`OTHER_COMMANDS`] for a SCSI disk that is root's under a supervisor; without a reason: they are the same there.
const SUPERVISOR_COMMANDS: &[(&str, &[User], &str)] = &[
    ("SG_IO:PR IN caps", ROOT, "the supervisor has reservations, that disk has none"),
    ("SG_IO:PR IN read keys", ROOT, "the supervisor has reservations, that disk has none"),
    ("SG_IO:READ BUFFER desc", EVERYBODY, "the supervisor has an echo buffer"),
    ("SG_IO:RESERVE6", ROOT, ""),
    ("SG_IO:RELEASE6", ROOT, ""),
];

/// Compares what came of a command with what a real disk (QEMU's, behind virtio-scsi or libata) says, but for
/// - what the disk is and can (data of INQUIRY, MODE SENSE and the like),
/// - the residual count: exact here, while that adapter says 0 where less came than there was room for,
/// - the field pointer of INVALID FIELD IN CDB, which that disk does not give.
fn compare_command(case: Case, row: &str, real: &str, said: &str) -> Result<(), String> {
    let refused = |text: &str| text.starts_with("-1");
    let is_other = |&(other, kinds, users, _): &(&str, &[&str], &[User], _)| {
        other == row && kinds.contains(&case.kind) && users.contains(&case.user)
    };
    let is_shared = engine() == Engine::Supervisor && case.kind == "scsi";
    let is_row = |(other, users, _): &&(&str, &[User], &str)| *other == row && users.contains(&case.user);
    let is_other = match SUPERVISOR_COMMANDS.iter().find(is_row).filter(|_| is_shared) {
        Some((.., why)) => !why.is_empty(),
        None => OTHER_COMMANDS.iter().any(is_other),
    };
    if is_other {
        return if real == said { Err("the difference is no longer one".into()) } else { Ok(()) };
    }
    if SAME_DATA.contains(&row) || refused(real) || refused(said) {
        return if real == said { Ok(()) } else { Err("not the same".into()) };
    }
    let field = |text: &str, name: &str| {
        let start = text.find(&format!("{name}="))? + name.len() + 1;
        text[start..].split([' ', '\t']).next().map(str::to_owned)
    };
    for name in ["status", "masked", "msg", "host", "driver", "sb_len_wr", "info"] {
        if field(real, name) != field(said, name) {
            return Err(format!("{name} is another"));
        }
    }
    // Up to the field pointer.
    let sense = |text: &str| field(text, "sense").map(|sense| sense.get(..30).unwrap_or(&sense).to_owned());
    if sense(real) != sense(said) {
        return Err("sense data is another".into());
    }
    Ok(())
}

/// What a row says that the request wrote.
fn output(said: &str) -> &str {
    said.strip_prefix("0\t-\t").unwrap_or_default()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| Some(digit.to_digit(16)? as u8)).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Whether this is the identity of an ATA disk of 256 MiB (ACS-3, 7.12.6), strings in reading order.
fn is_identity(text: &str, length: usize) -> bool {
    let bytes = hex(text);
    let word = |at: usize| u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]);
    bytes.len() == length
        && [word(1), word(3), word(6)] == [520, 16, 63]
        && bytes[20..40].starts_with(b"BDW")
        && bytes[54..94].starts_with(b"BDWRAPPER DISK   ")
        && [word(60), word(61)] == [0, 8]
        && (length < 512
            || [word(100), word(101), word(102)] == [0, 8, 0]
                && bytes[510] == 0xa5
                && bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte)) == 0)
}

/// The sector of IDENTIFY DEVICE, its strings in reading order.
fn swapped(text: &str) -> String {
    let mut bytes = hex(text);
    for range in [20..40, 46..54, 54..94] {
        bytes[range].chunks_exact_mut(2).for_each(<[u8]>::reverse);
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this is the data of SMART READ DATA, with no attributes.
fn is_smart_data(text: &str) -> bool {
    let bytes = hex(text);
    bytes.len() == 512
        && bytes[2..362].iter().all(|&byte| byte == 0)
        && bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte)) == 0
}

fn check(case: Case) {
    let bytes = if case.kind == "scsi" { 1024 * MIB } else { 256 * MIB };
    let disk = Disk::new(case.medium, case.kind, bytes);
    let outcome = probe(|path| disk.run(path), &disk, case.program, case.user);
    assert_eq!(outcome.err(), "");
    let ours = table(&outcome.expect_out());
    let kernels = table(&probe(|path| Run::new(path), &disk, case.program, case.user).expect_out());
    let golden = golden(case);
    let refusal = if case.kind == "sata" { "-1\tENOTTY\t" } else { "-1\tEINVAL\t" };
    let mut wrong = Vec::new();
    for (row, real) in &golden {
        let said = &ours[row];
        // What the block layer does not know is refused as the disk's driver would: BLKELVGET is in no kernel any more, and
        // an i386 program has other numbers.
        let is_unknown = row.starts_with("BLKELVGET") || row.ends_with("(64-bit)");
        if case.medium != Medium::Image && row.starts_with("BLK") && !is_unknown {
            let of_the_size = row.starts_with("BLKGETSIZE");
            if *said != kernels[row] || (of_the_size && said != real) {
                wrong.push(format!("{row}: {said} where the kernel says {}", kernels[row]));
            }
            continue;
        }
        if row.starts_with("SG_IO") {
            match compare_command(case, row, real, said) {
                Ok(()) => continue,
                Err(why) => wrong.push(format!("{row}: {why}\n  {said}\n  a real disk says {real}")),
            }
            continue;
        }
        let right = match difference(case, row) {
            None if said == real => continue,
            None => format!("a real disk says {real}"),
            // Another real disk may have what the recorded one had not.
            Some(_) if said == real && std::env::var_os("GOLDEN").is_some() => continue,
            Some(_) if said == real => "a real disk says so too: the difference is no longer one".to_owned(),
            Some(difference) => match difference.ours {
                Ours::Row(right) if said == right => continue,
                Ours::Row(right) => format!("{right} was expected"),
                Ours::Refused(output) if *said == format!("{refusal}{output}") => continue,
                Ours::Refused(output) => format!("{refusal}{output} was expected"),
                Ours::If(right) if right(said) => continue,
                Ours::If(_) => format!("not right; a real disk says {real}"),
            },
        };
        wrong.push(format!("{row}: {said}; {right}"));
    }
    for difference in DIFFERENCES.iter().chain(I386_DIFFERENCES).chain(SUPERVISOR_DIFFERENCES) {
        assert!(golden.contains_key(difference.row), "no table has the row {}", difference.row);
    }
    if case.kind == "ide" {
        for (row, said) in ours.iter().filter(|(row, _)| row.starts_with("SG_IO")) {
            if !said.starts_with(refusal) {
                wrong.push(format!("{row}: {said} where the IDE driver refuses"));
            }
        }
    }
    assert!(wrong.is_empty(), "{case:?}: {} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// docs/differences.md names every difference, and why.
fn documented() {
    let commands = OTHER_COMMANDS.iter().map(|&(row, kinds, users, why)| (row, kinds, "both", users, why));
    let own = documented_differences(DIFFERENCES).chain(commands).collect();
    let more = SUPERVISOR_COMMANDS.iter().filter(|(.., why)| !why.is_empty());
    let more = more.map(|&(row, users, why)| (row, SCSI, "both", users, why));
    let supervisor = documented_differences(SUPERVISOR_DIFFERENCES).chain(more).collect();
    let i386 = documented_differences(I386_DIFFERENCES).collect();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/differences.md");
    let text = std::fs::read_to_string(file).expect("it is part of the sources");
    for table in [own, supervisor, i386].map(documented_table) {
        assert!(text.contains(&table), "docs/differences.md is to have this table:\n{table}");
    }
}

/// A row of docs/differences.md: of the tables, kinds, media, users, and why.
type Documented = (&'static str, &'static [&'static str], &'static str, &'static [User], &'static str);

fn documented_differences(list: &'static [Difference]) -> impl Iterator<Item = Documented> {
    list.iter().map(|Difference { row, kinds, media, users, why, .. }| {
        let on = match *media {
            [_] if media[0] == Medium::Image => "image files",
            [_] => "block devices",
            _ => "both",
        };
        (*row, *kinds, on, *users, *why)
    })
}

fn documented_table(rows: Vec<Documented>) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (row, kinds, on, users, why) in rows {
        let who = match users {
            [User::Root] => "root",
            [User::NobodyReadOnly] => "readers",
            [User::Root, User::NobodyReadWrite] => "writers",
            [User::NobodyReadOnly, _] => "ordinary users",
            _ => "all",
        };
        let place = format!("{} | {on} | {who}", kinds.join(", "));
        let why = match lines.last() {
            Some((_, last)) if why == "as above" => last.split(" | ").last().expect("it has one").to_owned(),
            _ => why.to_owned(),
        };
        let cells = format!("{place} | {why}");
        match lines.last_mut() {
            Some((rows, last)) if *last == cells => *rows += &format!(", `{row}`"),
            _ => lines.push((format!("`{row}`"), cells)),
        }
    }
    lines.iter().map(|(rows, cells)| format!("| {rows} | {cells} |\n")).collect()
}

/// A device that is not listed answers byte for byte as without the library.
fn unlisted(program: Program, medium: Medium) {
    for user in [User::Root, User::NobodyReadOnly, User::NobodyReadWrite] {
        let disk = Disk::new(medium, "scsi", 256 * MIB);
        let other = disk.scratch().image("other", MIB);
        let entries = format!("{}=scsi", other.display());
        let without = probe(|path| Run::new(path), &disk, program, user).expect_out();
        let with =
            probe(|path| Run::new(path).with(&disk.scratch().library(), &entries), &disk, program, user);
        assert_eq!(with.err(), "");
        assert_eq!(with.expect_out(), without, "{user:?}");
    }
}

/// Sizes that a `long` of an i386 program cannot hold.
fn large() {
    for (sectors, wanted) in [((1 << 32) - 1, "0\t-\tffffffffeeeeeeee"), (1 << 32, "-1\tEFBIG\t")] {
        let disk = Disk::new(Medium::Image, "scsi", 512 * sectors);
        let ours = table(&probe(|path| disk.run(path), &disk, Program::I386, User::Root).expect_out());
        assert_eq!(ours["BLKGETSIZE"], wanted);
        let bytes: String = (512 * sectors).to_le_bytes().map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(ours["BLKGETSIZE64"], format!("0\t-\t{bytes}"));
    }
}
