//! The descriptor of a virtual disk (VMware's "Virtual Disk Format 5.0", "The Descriptor File").

use std::ffi::OsStr;
use std::fmt;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::text::Text;

/// A descriptor whose unknown lines stay as they are.
#[derive(Clone, Debug)]
pub struct Descriptor(pub Text);

/// A part of the disk; the parts follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent<'a> {
    /// `RW`, `RDONLY` or `NOACCESS`, as written.
    pub access: &'a [u8],
    /// Its length in 512-byte sectors.
    pub sectors: u64,
    /// Where its data is.
    pub data: Data<'a>,
    /// What stands behind all else, such as `partitionUUID …`.
    pub rest: &'a [u8],
}

/// Where the data of an extent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// In a device or file, from an offset in sectors.
    Flat {
        /// The name as written.
        name: &'a [u8],
        /// The offset.
        offset: u64,
    },
    /// Nowhere: it reads as zeros.
    Zero,
    /// In a way of VMware's own.
    Other,
}

impl<'a> Extent<'a> {
    /// One that the virtual machine may write.
    pub fn new(sectors: u64, data: Data<'a>) -> Extent<'a> {
        Extent { access: b"RW", sectors, data, rest: b"" }
    }

    /// As a line of a descriptor.
    pub fn line(&self) -> Vec<u8> {
        let sectors = self.sectors.to_string();
        let start = [self.access, b" ", sectors.as_bytes()].concat();
        match self.data {
            Data::Flat { name, offset } => {
                let blank = if self.rest.is_empty() { "" } else { " " };
                [&start[..], b" FLAT \"", name, format!("\" {offset}{blank}").as_bytes(), self.rest].concat()
            }
            _ => [&start[..], b" ZERO"].concat(),
        }
    }
}

/// The kinds of adapter that a descriptor knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `ide`
    Ide,
    /// Any other: `lsilogic`, `buslogic`, `legacyESX`.
    Scsi,
}

/// Why a file is not a descriptor that can be used. Displayed as words that follow the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is binary data.
    Binary,
    /// The header does not give this key.
    NoKey(&'static str),
    /// It describes a snapshot.
    Snapshot,
    /// An extent is malformed, or reaches too far.
    Extent {
        /// The number of its line, from 1.
        line: usize,
    },
    /// It has no extent.
    NoExtents,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Binary => f.write_str("is binary data and not a descriptor"),
            Error::NoKey(key) => write!(f, "is not a descriptor of a virtual disk (it gives no {key})"),
            Error::Snapshot => f.write_str("describes a snapshot and not the disk itself"),
            Error::Extent { line } => write!(f, "has an extent in line {line} that cannot be understood"),
            Error::NoExtents => {
                f.write_str("has no extent (a line such as 'RW 262144 FLAT \"/dev/sd/test\" 0')")
            }
        }
    }
}

impl std::error::Error for Error {}

impl Descriptor {
    /// Reads a descriptor.
    pub fn parse(bytes: &[u8]) -> Result<Descriptor, Error> {
        let is_binary = bytes.starts_with(b"KDMV") || bytes.starts_with(b"COWD");
        if is_binary || bytes.contains(&0) {
            return Err(Error::Binary);
        }
        let found = Descriptor(Text::new(bytes));
        if let Some(key) =
            ["version", "CID", "createType"].into_iter().find(|key| found.0.value(key).is_none())
        {
            return Err(Error::NoKey(key));
        }
        let parent = found.0.value("parentCID");
        if parent.is_some_and(|parent| !parent.eq_ignore_ascii_case(b"ffffffff")) {
            return Err(Error::Snapshot);
        }
        let mut sum = None;
        for (number, line) in found.0.lines().enumerate().filter(|(_, line)| is_extent(line)) {
            let total = extent(line).and_then(|(extent, _)| sum.unwrap_or(0u64).checked_add(extent.sectors));
            let total = total.filter(|total| *total <= i64::MAX as u64 / 512);
            sum = Some(total.ok_or(Error::Extent { line: number + 1 })?);
        }
        sum.ok_or(Error::NoExtents)?;
        Ok(found)
    }

    /// What the disk consists of.
    pub fn extents(&self) -> impl Iterator<Item = Extent<'_>> {
        self.numbered().map(|(_, extent, _)| extent)
    }

    /// The line's number, the extent, and where in the line its length stands.
    fn numbered(&self) -> impl Iterator<Item = (usize, Extent<'_>, Range<usize>)> {
        self.0.lines().enumerate().filter_map(|(number, line)| {
            let (extent, place) = extent(line)?;
            Some((number, extent, place))
        })
    }

    /// The length of the disk in sectors.
    pub fn sectors(&self) -> u64 {
        self.extents().map(|extent| extent.sectors).sum()
    }

    /// The name of the device or image that has most of the data; an absolute name outweighs others, for private copies
    /// have names without directory.
    pub fn device(&self) -> Option<&Path> {
        let flat = self.extents().filter_map(|extent| match extent.data {
            Data::Flat { name, .. } => Some((name.starts_with(b"/"), extent.sectors, name)),
            _ => None,
        });
        flat.max().map(|(_, _, name)| Path::new(OsStr::from_bytes(name)))
    }

    /// The extents that lie in other files than the device, each with its first sector on the disk.
    pub fn private(&self) -> impl Iterator<Item = (u64, &Path, u64, u64)> {
        let device = self.device();
        let mut start = 0;
        self.extents().filter_map(move |extent| {
            let at = start;
            start += extent.sectors;
            match extent.data {
                Data::Flat { name, offset } if Some(Path::new(OsStr::from_bytes(name))) != device => {
                    Some((at, Path::new(OsStr::from_bytes(name)), offset, extent.sectors))
                }
                _ => None,
            }
        })
    }

    /// The extents, each with its first sector on the disk.
    pub fn placed(&self) -> impl Iterator<Item = (u64, Extent<'_>)> {
        self.extents().scan(0, |start, extent| {
            let at = *start;
            *start += extent.sectors;
            Some((at, extent))
        })
    }

    /// The node of a partition from which the disk takes a part, as VirtualBox writes it; such a disk is not a part of one device.
    pub fn partition_node(&self) -> Option<&Path> {
        if !self.is("partitionedDevice") {
            return None;
        }
        self.placed().find_map(|(start, extent)| match extent.data {
            Data::Flat { name, offset: 0 } if start > 0 && name.starts_with(b"/") => {
                Some(Path::new(OsStr::from_bytes(name)))
            }
            _ => None,
        })
    }

    /// Whether its `createType` is this one.
    pub fn is(&self, kind: &str) -> bool {
        self.0.value("createType").is_some_and(|found| found.eq_ignore_ascii_case(kind.as_bytes()))
    }

    /// Whether VMware opens it as a physical disk.
    pub fn is_on_device(&self) -> bool {
        self.is("fullDevice") || self.is("partitionedDevice")
    }

    /// The adapter that it was made for, if it says so.
    pub fn family(&self) -> Option<Family> {
        let adapter = self.0.value("ddb.adapterType")?;
        Some(if adapter.eq_ignore_ascii_case(b"ide") { Family::Ide } else { Family::Scsi })
    }

    /// A number of the disk data base.
    pub fn number(&self, key: &str) -> Option<u64> {
        std::str::from_utf8(self.0.value(key)?).ok()?.parse().ok()
    }

    /// Gives the last extent another length.
    pub fn resize_last(&mut self, sectors: u64) {
        let last = self.numbered().last().map(|(line, _, place)| (line, place));
        if let Some((line, place)) = last {
            self.0.splice(line, place, &sectors.to_string());
        }
    }

    /// Puts other extents in the place of these.
    pub fn replace_extents(&mut self, lines: Vec<Vec<u8>>) {
        let numbers: Vec<usize> = self.numbered().map(|(line, ..)| line).collect();
        self.0.remove(&numbers);
        self.0.insert(numbers.first().copied().unwrap_or(0), lines);
    }
}

/// Whether a line begins as an extent does.
fn is_extent(line: &[u8]) -> bool {
    let word = line.trim_ascii_start().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    [&b"RW"[..], b"RDONLY", b"NOACCESS"].iter().any(|access| word.eq_ignore_ascii_case(access))
}

/// An extent, and where in the line its length stands.
fn extent(line: &[u8]) -> Option<(Extent<'_>, Range<usize>)> {
    if !is_extent(line) {
        return None;
    }
    let mut at = 0;
    let mut word = || {
        let start = at + line[at..].iter().position(|byte| !byte.is_ascii_whitespace())?;
        let end =
            line[start..].iter().position(u8::is_ascii_whitespace).map_or(line.len(), |count| start + count);
        at = end;
        Some(start..end)
    };
    let (access, place, kind) = (word()?, word()?, word()?);
    let rest = line[kind.end..].trim_ascii_start();
    let number = |text: &[u8]| -> Option<u64> {
        let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
    };
    let sectors = number(&line[place.clone()])?;
    let mut tail: &[u8] = b"";
    let data = if line[kind.clone()].eq_ignore_ascii_case(b"ZERO") {
        Data::Zero
    } else if line[kind].eq_ignore_ascii_case(b"FLAT") {
        let rest = rest.strip_prefix(b"\"")?;
        let end = rest.iter().position(|&byte| byte == b'"')?;
        let behind = rest[end + 1..].trim_ascii();
        let (offset, after) =
            behind.split_at(behind.iter().position(u8::is_ascii_whitespace).unwrap_or(behind.len()));
        tail = after.trim_ascii();
        Data::Flat { name: &rest[..end], offset: if offset.is_empty() { 0 } else { number(offset)? } }
    } else {
        Data::Other
    };
    Some((Extent { access: &line[access], sectors, data, rest: tail }, place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As VMware Server 1 wrote one.
    const FULL: &str = "# Disk DescriptorFile\nversion=1\nCID=7e245252\nparentCID=ffffffff\ncreateType=\"fullDevice\"\n\n\
        # Extent description\nRW 976773168 FLAT \"/dev/sdb\" 0\n\n# The Disk Data Base \n#DDB\n\nddb.virtualHWVersion = \"6\"\n\
        ddb.geometry.cylinders = \"60801\"\nddb.adapterType = \"buslogic\"\n";

    #[test]
    fn a_full_device() {
        let mut found = Descriptor::parse(FULL.as_bytes()).expect("it is right");
        assert!(found.is("FULLDEVICE"));
        assert_eq!(found.device(), Some(Path::new("/dev/sdb")));
        assert_eq!((found.sectors(), found.family()), (976_773_168, Some(Family::Scsi)));
        assert_eq!(found.number("DDB.geometry.cylinders"), Some(60801));
        assert_eq!(found.private().count(), 0);
        found.resize_last(5);
        assert_eq!(found.0.bytes(), FULL.replace("976773168", "5").as_bytes());
    }

    #[test]
    fn a_partitioned_device() {
        let text = FULL.replace(
            "RW 976773168 FLAT \"/dev/sdb\" 0\n",
            "RW 63 FLAT \"a b-pt.vmdk\" 0\nRDONLY 10 FLAT \"/dev/sdb\" 63\nrw\t5  zero\nRW 63 FLAT \"a b-pt.vmdk\" 63 partitionUUID x\n",
        );
        let mut found = Descriptor::parse(text.as_bytes()).expect("it is right");
        assert_eq!((found.sectors(), found.extents().count()), (141, 4));
        assert_eq!(found.device(), Some(Path::new("/dev/sdb")), "although less of the disk is in it");
        let private: Vec<_> = found.private().collect();
        assert_eq!(private, [(0, Path::new("a b-pt.vmdk"), 0, 63), (78, Path::new("a b-pt.vmdk"), 63, 63)]);
        let lines = found.extents().map(|extent| extent.line()).collect();
        found.replace_extents(lines);
        let again = Descriptor::parse(&found.0.bytes()).expect("it is right");
        assert_eq!(
            again.extents().collect::<Vec<_>>(),
            Descriptor::parse(text.as_bytes()).expect("it is right").extents().collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_is_none() {
        let wrong = |text: &str| Descriptor::parse(text.as_bytes()).expect_err("it is wrong");
        for (line, key) in
            [("version=1", "version"), ("CID=7e245252", "CID"), ("createType=\"fullDevice\"", "createType")]
        {
            assert_eq!(wrong(&FULL.replace(line, "")), Error::NoKey(key));
        }
        assert_eq!(wrong("KDMV"), Error::Binary);
        assert_eq!(wrong(&format!("{FULL}\0")), Error::Binary);
        assert_eq!(wrong(&FULL.replace("RW ", "XX ")), Error::NoExtents);
        assert_eq!(wrong(&FULL.replace("ffffffff", "7e245252")), Error::Snapshot);
        for extent in [
            "RW x FLAT \"/d\" 0",
            "RW 1 FLAT /d 0",
            "RW 1 FLAT \"/d",
            "RW 1",
            "RW",
            "RW 1 FLAT \"/d\" -1",
            "RW 18014398509481985 ZERO",
            "RW +1 ZERO",
        ] {
            assert_eq!(
                wrong(&FULL.replace("RW 976773168 FLAT \"/dev/sdb\" 0", extent)),
                Error::Extent { line: 8 },
                "{extent}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn unknown_lines_stay(lines in prop::collection::vec("[ -~]{0,30}", 0..10), sectors in 1u64..1 << 40) {
            // None that would be an extent or a key of the header.
            let unknown: String = lines.iter().map(|line| format!("#{line}\nddb.x{line}\n")).collect();
            let text = format!("{FULL}{unknown}");
            let mut found = Descriptor::parse(text.as_bytes()).expect("it is right");
            prop_assert_eq!(found.0.bytes(), text.as_bytes());
            found.resize_last(sectors);
            found.0.set("ddb.geometry.cylinders", "7");
            let expected = text.replacen("\"60801\"", "\"7\"", 1).replacen("976773168", &sectors.to_string(), 1);
            prop_assert_eq!(found.0.bytes(), expected.into_bytes());
        }

        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300), tail in "(RW [0-9]{0,22} (FLAT|ZERO|X) ?\"?[ -~]{0,9}\"? ?[0-9]?\n){0,3}") {
            let _ = Descriptor::parse(&bytes);
            if let Ok(found) = Descriptor::parse(format!("{FULL}{tail}").as_bytes()) {
                let _ = (found.sectors(), found.device(), found.private().count());
            }
        }
    }
}
