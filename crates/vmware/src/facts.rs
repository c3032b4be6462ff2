//! The decisive requests and their answers.

use std::fmt::{self, Display};
use std::fs::OpenOptions;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use disk::Errno;
use disk::abi::{HdGeometry, Long, ScsiIdlun};
use disk::request::{
    BLKGETSIZE, BLKGETSIZE64, BLKROGET, BLKSSZGET, HDIO_GET_IDENTITY, HDIO_GETGEO, SCSI_IOCTL_GET_BUS_NUMBER,
    SCSI_IOCTL_GET_IDLUN,
};
use engine::ioctl::Device;
use serde::{Deserialize, Serialize};

use crate::reply::Reply;

/// What a device answers to each decisive request. VMware's requests are known from the preload
/// library of a sister project and from vmware.log; the others tell more of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The size in bytes.
    #[serde(rename = "BLKGETSIZE64", with = "crate::wire")]
    pub bytes: Result<u64, Errno>,
    /// The size in 512-byte sectors.
    #[serde(rename = "BLKGETSIZE", with = "crate::wire")]
    pub sectors: Result<u64, Errno>,
    /// The logical block size in bytes.
    #[serde(rename = "BLKSSZGET", with = "crate::wire")]
    pub sector_size: Result<i32, Errno>,
    /// Not 0: the device is write-protected.
    #[serde(rename = "BLKROGET", with = "crate::wire")]
    pub read_only: Result<i32, Errno>,
    /// The geometry for the BIOS.
    #[serde(rename = "HDIO_GETGEO", with = "crate::wire")]
    pub geometry: Result<Geometry, Errno>,
    /// The identity of an IDE disk.
    #[serde(rename = "HDIO_GET_IDENTITY", with = "crate::wire")]
    pub identity: Result<Identity, Errno>,
    /// The address of a SCSI disk.
    #[serde(rename = "SCSI_IOCTL_GET_IDLUN", with = "crate::wire")]
    pub address: Result<ScsiAddress, Errno>,
    /// The number of a SCSI disk's host.
    #[serde(rename = "SCSI_IOCTL_GET_BUS_NUMBER", with = "crate::wire")]
    pub bus: Result<i32, Errno>,
}

/// What came of [`Facts::ask`], as one process tells another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked(#[serde(with = "crate::wire")] pub Result<Facts, Errno>);

/// `struct hd_geometry` (linux/hdreg.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Cylinders, modulo 65536.
    pub cylinders: u16,
    /// Heads.
    pub heads: u8,
    /// Sectors a track.
    pub sectors: u8,
    /// Where a partition starts on its disk, in 512-byte sectors.
    pub start: u64,
}

/// What is read from the data of IDENTIFY DEVICE (ATA8-ACS, 7.16).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The model.
    pub model: String,
    /// The serial number.
    pub serial: String,
    /// The firmware's revision.
    pub firmware: String,
    /// Logical cylinders (word 1).
    pub cylinders: u16,
    /// Logical heads (word 3).
    pub heads: u16,
    /// Logical sectors a track (word 6).
    pub sectors: u16,
    /// The size in logical sectors: with 48 bits where the disk has them, else with 28.
    pub capacity: u64,
}

/// `SCSI_IOCTL_GET_IDLUN`'s first number (`struct scsi_idlun`, drivers/scsi/scsi_ioctl.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScsiAddress {
    /// The host adapter, modulo 256.
    pub host: u8,
    /// Its channel.
    pub channel: u8,
    /// The target.
    pub id: u8,
    /// The logical unit.
    pub lun: u8,
}

impl Facts {
    /// Opens a block device or image file for reading and asks it; an error is open(2)'s, and
    /// `ENOTBLK` for anything else.
    pub fn ask(path: &Path) -> Result<Facts, Errno> {
        open(path, false).map(|device| Facts::of(&device))
    }

    fn of(device: &Device) -> Facts {
        let ask = |request| Reply::ask(device, request);
        let number = |reply: Reply| reply.structure::<i32>();
        Facts {
            bytes: ask(BLKGETSIZE64).map(|reply| reply.structure()),
            sectors: ask(BLKGETSIZE).map(|reply| reply.structure::<Long>().value),
            sector_size: ask(BLKSSZGET).map(number),
            read_only: ask(BLKROGET).map(number),
            geometry: ask(HDIO_GETGEO).map(|reply| Geometry::new(&reply)),
            identity: ask(HDIO_GET_IDENTITY).map(|reply| Identity::new(&reply)),
            address: ask(SCSI_IOCTL_GET_IDLUN).map(|reply| ScsiAddress::new(&reply)),
            bus: ask(SCSI_IOCTL_GET_BUS_NUMBER).map(number),
        }
    }

    /// Each request's name and what it got, for people.
    pub fn rows(&self) -> [(&'static str, String); 8] {
        [
            ("BLKGETSIZE64", text(&self.bytes)),
            ("BLKGETSIZE", text(&self.sectors)),
            ("BLKSSZGET", text(&self.sector_size)),
            ("BLKROGET", text(&self.read_only)),
            ("HDIO_GETGEO", text(&self.geometry)),
            ("HDIO_GET_IDENTITY", text(&self.identity)),
            ("SCSI_IOCTL_GET_IDLUN", text(&self.address)),
            ("SCSI_IOCTL_GET_BUS_NUMBER", text(&self.bus)),
        ]
    }
}

/// Opens a block device or image file for reading, and for writing too; `ENOTBLK` for anything else.
pub fn open(path: &Path, write: bool) -> Result<Device, Errno> {
    // O_NONBLOCK: opening a FIFO must not wait.
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    let open = |flags| {
        let opened = OpenOptions::new().read(true).write(write).custom_flags(flags).open(path);
        opened.map_err(|error| error.raw_os_error().map_or(Errno::EINVAL, Errno))
    };
    // Whoever asks leaves no time stamp. That is for the owner alone to choose.
    let file = match open(flags | libc::O_NOATIME) {
        Err(Errno::EPERM) => open(flags)?,
        opened => opened?,
    };
    Device::own(file.into_raw_fd())
}

fn text<T: Display>(answer: &Result<T, Errno>) -> String {
    match answer {
        Ok(value) => value.to_string(),
        Err(errno) => errno.to_string(),
    }
}

impl Geometry {
    fn new(reply: &Reply) -> Geometry {
        let HdGeometry { heads, sectors, cylinders, start, .. } = reply.structure();
        Geometry { cylinders, heads, sectors, start }
    }
}

impl Identity {
    fn new(reply: &Reply) -> Identity {
        let double = |low: u16, high: u16| u64::from(low) | u64::from(high) << 16;
        // Word 83: bits 15 and 14 are 01 where it holds anything, bit 10 says that words 100 to 103
        // do.
        let capacity = if reply.word::<83>() & 0xc400 == 0x4400 {
            double(reply.word::<100>(), reply.word::<101>())
                | double(reply.word::<102>(), reply.word::<103>()) << 32
        } else {
            double(reply.word::<60>(), reply.word::<61>())
        };
        Identity {
            model: string(&reply.bytes::<54, 40>()),
            serial: string(&reply.bytes::<20, 20>()),
            firmware: string(&reply.bytes::<46, 8>()),
            cylinders: reply.word::<1>(),
            heads: reply.word::<3>(),
            sectors: reply.word::<6>(),
            capacity,
        }
    }
}

/// A string of IDENTIFY DEVICE, which the kernel has put into order and ended with zeros where it
/// was padded.
fn string(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = bytes[..end].trim_ascii();
    text.iter().map(|&byte| if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '?' }).collect()
}

impl ScsiAddress {
    fn new(reply: &Reply) -> ScsiAddress {
        let [id, lun, channel, host] = reply.structure::<ScsiIdlun>().dev_id.to_le_bytes();
        ScsiAddress { host, channel, id, lun }
    }
}

impl Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}, start {}", self.cylinders, self.heads, self.sectors, self.start)
    }
}

impl Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { model, serial, firmware, cylinders, heads, sectors, capacity } = self;
        write!(f, "{model}, {serial}, {firmware}, ")?;
        match capacity {
            // What such a disk says of its geometry means nothing.
            0 => f.write_str("no sectors"),
            _ => write!(f, "{cylinders}/{heads}/{sectors}, {capacity} sectors"),
        }
    }
}

impl Display for ScsiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {} channel {} id {} lun {}", self.host, self.channel, self.id, self.lun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_where_the_kernel_puts_them() {
        assert_eq!(
            ScsiAddress::new(&Reply::new(&0x0403_0201u32.to_ne_bytes())),
            ScsiAddress { host: 4, channel: 3, id: 1, lun: 2 }
        );
        let mut geometry = vec![5, 52];
        geometry.extend(1008u16.to_ne_bytes());
        geometry.resize(size_of::<libc::c_ulong>(), 0);
        geometry.extend((63 as libc::c_ulong).to_ne_bytes());
        assert_eq!(Geometry::new(&Reply::new(&geometry)).to_string(), "1008/5/52, start 63");
    }

    fn identify(set: &[(usize, u16)], strings: &[(usize, &[u8])]) -> Identity {
        let mut data = [0; 512];
        for &(word, value) in set {
            data[2 * word..][..2].copy_from_slice(&value.to_ne_bytes());
        }
        for &(offset, text) in strings {
            data[offset..][..text.len()].copy_from_slice(text);
        }
        Identity::new(&Reply::new(&data))
    }

    #[test]
    fn an_identity_is_read() {
        let geometry = [(1, 16383), (3, 16), (6, 63), (60, 0xffff), (61, 0x0fff)];
        let strings: [(usize, &[u8]); 3] = [(20, b"  WD-1234"), (46, b"1.0     "), (54, b"A disk\0dirt")];
        let small = identify(&geometry, &strings);
        assert_eq!(small.to_string(), "A disk, WD-1234, 1.0, 16383/16/63, 268435455 sectors");
        let large = [(83, 0x4400), (100, 1), (101, 2), (102, 3), (103, 4)];
        assert_eq!(identify(&[&geometry[..], &large].concat(), &[]).capacity, 0x0004_0003_0002_0001);
    }

    #[test]
    fn a_string_shows_no_control_characters() {
        assert_eq!(string(b"a\x1b[2J\xff  "), "a?[2J?");
    }
}
