//! Why a partition table cannot be used.

use std::fmt;

/// Why a partition table cannot be used. Displayed as words that follow the device's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The device cannot be read.
    Read {
        /// The first sector of what was to be read.
        sector: u64,
        /// What the system says.
        cause: String,
    },
    /// Sector 0 does not have the mark of a table.
    NoMark,
    /// Sector 0 has the mark, but its entries are not those of a table.
    NotATable,
    /// The table has no partition.
    NoPartitions,
    /// Both the MBR and the GPT have partitions.
    Hybrid,
    /// The protective MBR does not begin in sector 1, where the kernel expects it.
    ProtectiveStart,
    /// Parts of the table or partitions overlap.
    Overlap {
        /// The sector in which the second one begins.
        sector: u64,
    },
    /// A part or partition ends beyond the end of the device.
    TooLong {
        /// The partition, if an entry of the MBR says so.
        partition: Option<u32>,
        /// Its end.
        end: u64,
        /// The sectors of the device.
        sectors: u64,
    },
    /// A partition begins in sector 0.
    PartitionAtTable(u32),
    /// A partition overlaps another one in the MBR.
    PartitionOverlap(u32),
    /// A partition lies outside of what the GPT calls usable.
    PartitionNotUsable(u32),
    /// A table of logical partitions contradicts the one that leads to it.
    Logical {
        /// The sector of the table.
        sector: u64,
    },
    /// The chain of logical partitions leads back to itself.
    EndlessChain,
    /// There is a primary GPT, but sector 0 does not have the mark of a table.
    NoProtectiveMbr {
        /// Whether the backup GPT is whole as well.
        has_backup: bool,
    },
    /// The GPT was made for sectors of another size.
    GptSectorSize {
        /// That size in bytes.
        bytes: u64,
    },
    /// The primary GPT is damaged and its backup is whole.
    PrimaryGpt(Damage),
    /// The backup GPT is damaged and the primary one is whole.
    BackupGpt(Damage),
    /// Both GPTs are damaged; the primary one in this way.
    BothGpts(Damage),
    /// The GPT was made for a larger device.
    LargerDevice,
    /// The primary and the backup GPT contradict each other.
    GptContradiction,
}

/// What is wrong with a copy of a GPT. Displayed as words that follow the copy's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It has no header.
    NoHeader,
    /// Its header has an unknown revision or length.
    UnknownHeader,
    /// The checksum of its header is wrong.
    HeaderChecksum,
    /// Its header contradicts itself.
    HeaderContradiction,
    /// It is of a device that is larger than this one.
    LargerDevice,
    /// The checksum of its entries is wrong.
    EntriesChecksum {
        /// The block in which the header says that the other copy's is.
        other: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read { sector, cause } => write!(f, "cannot be read at sector {sector} ({cause})"),
            Error::NoMark => f.write_str("has no partition table in sector 0 (the mark 55 AA is missing)"),
            Error::NotATable => {
                f.write_str("has something in sector 0 that is not a partition table (perhaps a file system)")
            }
            Error::NoPartitions => f.write_str("has a partition table without partitions"),
            Error::Hybrid => f.write_str("has a hybrid of MBR and GPT, which cannot be divided safely"),
            Error::ProtectiveStart => f.write_str(
                "has a protective MBR that does not begin in sector 1, so the kernel ignores its GPT",
            ),
            Error::Overlap { sector } => {
                write!(f, "has a partition table whose parts overlap at sector {sector}")
            }
            Error::TooLong { partition: Some(number), end, sectors } => {
                write!(f, "has a partition {number} that reaches to sector {end} of {sectors}")
            }
            Error::TooLong { partition: None, end, sectors } => {
                write!(f, "has a partition table that reaches to sector {end} of {sectors}")
            }
            Error::PartitionAtTable(number) => write!(
                f,
                "has a partition {number} that begins in sector 0, where the table itself is (as on images of CDs)"
            ),
            Error::PartitionOverlap(number) => write!(f, "has a partition {number} that overlaps another"),
            Error::PartitionNotUsable(number) => {
                write!(f, "has a partition {number} outside of what its GPT calls usable")
            }
            Error::Logical { sector } => {
                write!(f, "has a table of logical partitions in sector {sector} that contradicts itself")
            }
            Error::EndlessChain => f.write_str("has a chain of logical partitions without end"),
            Error::NoProtectiveMbr { has_backup } => {
                f.write_str("has a GPT without the protective MBR that announces it")?;
                if *has_backup { Ok(()) } else { f.write_str(", and no backup that is whole") }
            }
            Error::GptSectorSize { bytes } => write!(
                f,
                "has a GPT made for {bytes}-byte sectors, which a virtual machine with its 512 does not find"
            ),
            Error::PrimaryGpt(damage) => {
                write!(f, "has a primary GPT {damage}, and a backup that is whole")
            }
            Error::BackupGpt(damage) => {
                write!(f, "has a backup GPT {damage}, and a primary one that is whole")
            }
            Error::BothGpts(damage) => {
                write!(f, "has a primary GPT {damage}, and no backup that is whole")
            }
            Error::LargerDevice => f.write_str("has a GPT made for a larger device"),
            Error::GptContradiction => f.write_str("has two GPTs that contradict each other"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::NoHeader => "whose header is missing",
            Damage::UnknownHeader => "whose header is of an unknown kind",
            Damage::HeaderChecksum => "whose header has a wrong checksum",
            Damage::HeaderContradiction => "whose header contradicts itself",
            Damage::LargerDevice => "for a larger device",
            Damage::EntriesChecksum { .. } => "whose checksum is wrong",
        })
    }
}

impl std::error::Error for Error {}
