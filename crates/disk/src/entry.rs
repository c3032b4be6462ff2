//! The grammar of a device entry: `PATH[=OPTION[,OPTION]…]`.
//!
//! One parser serves the environment variable `VMWARE_BDWRAPPER_DEVICES` (entries separated by
//! colons) and the `device` lines of `/etc/vmware-bdwrapper.conf`.

use core::fmt;

pub use crate::printed::{Printed, can_be_shown};

/// Which kind of disk a device is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A SCSI disk behind the kernel's `sd` driver.
    Scsi,
    /// An IDE disk behind the kernel's `drivers/ide` (removed in Linux 5.14).
    Ide,
    /// An ATA disk behind libata: SCSI commands, SAT and the HDIO subset.
    Sata,
}

impl Kind {
    /// The option that chooses this kind.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Scsi => "scsi",
            Kind::Ide => "ide",
            Kind::Sata => "sata",
        }
    }

    /// The kind that a name has by itself: `/dev/sd?*` is SCSI, `/dev/hd?*` is IDE.
    fn of_path(path: &[u8]) -> Option<Kind> {
        match path.strip_prefix(b"/dev/")? {
            [b's', b'd', _, ..] => Some(Kind::Scsi),
            [b'h', b'd', _, ..] => Some(Kind::Ide),
            _ => None,
        }
    }
}

/// A disk geometry as `HDIO_GETGEO` reports it; each number is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders. `HDIO_GETGEO` has 16 bits for them, `HDIO_GETGEO_BIG` 32.
    pub cylinders: u32,
    /// Heads, 1 to 255.
    pub heads: u8,
    /// Sectors a track, 1 to 63.
    pub sectors: u8,
}

/// One device entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The absolute name of a block device or image file, usually a symbolic link.
    pub path: &'a [u8],
    /// Which kind of disk it is to be.
    pub kind: Kind,
    /// `ro`: say that the disk is write-protected, refuse what would write.
    pub read_only: bool,
    /// `force`: accept a real SCSI, IDE or NVMe disk.
    pub force: bool,
    /// `serial=`: 1 to 20 characters instead of the serial number made from the path.
    pub serial: Option<&'a [u8]>,
    /// `model=`: 1 to 40 characters; a SCSI disk shows the first 16.
    pub model: Option<&'a [u8]>,
    /// `wwn=`: the 64-bit world-wide name instead of the one made from the path.
    pub wwn: Option<u64>,
    /// `geometry=C/H/S` instead of the one computed from the size.
    pub geometry: Option<Geometry>,
    /// `sector=`: the least logical block size, in bytes.
    pub sector: Option<u32>,
}

impl<'a> Entry<'a> {
    /// Parses one entry.
    pub fn parse(text: &'a [u8]) -> Result<Entry<'a>, EntryError<'a>> {
        let error = |problem| EntryError { entry: text, problem };
        let mut halves = text.splitn(2, |&byte| byte == b'=');
        let path = halves.next().unwrap_or_default();
        if path.first() != Some(&b'/') {
            return Err(error(Problem::NotAbsolute));
        }
        if path.contains(&0) {
            return Err(error(Problem::Nul));
        }
        if path.len() >= PATH_MAX {
            return Err(error(Problem::PathTooLong));
        }
        let mut kind = None;
        let mut entry = Entry {
            path,
            kind: Kind::Scsi,
            read_only: false,
            force: false,
            serial: None,
            model: None,
            wwn: None,
            geometry: None,
            sector: None,
        };
        if let Some(options) = halves.next() {
            for option in options.split(|&byte| byte == b',') {
                let (name, value) = match option.iter().position(|&byte| byte == b'=') {
                    Some(at) => {
                        let (name, rest) = option.split_at_checked(at).unwrap_or_default();
                        (name, rest.get(1..))
                    }
                    None => (option, None),
                };
                let bad = || error(Problem::BadValue { name, value: value.unwrap_or_default() });
                let twice = match (name, value) {
                    (b"scsi", None) => kind.replace(Kind::Scsi).is_some(),
                    (b"ide", None) => kind.replace(Kind::Ide).is_some(),
                    (b"sata", None) => kind.replace(Kind::Sata).is_some(),
                    (b"ro", None) => core::mem::replace(&mut entry.read_only, true),
                    (b"force", None) => core::mem::replace(&mut entry.force, true),
                    (b"serial", Some(text)) => {
                        entry.serial.replace(printable(text, 20).ok_or_else(bad)?).is_some()
                    }
                    (b"model", Some(text)) => {
                        entry.model.replace(printable(text, 40).ok_or_else(bad)?).is_some()
                    }
                    (b"wwn", Some(text)) => entry.wwn.replace(wwn(text).ok_or_else(bad)?).is_some(),
                    (b"geometry", Some(text)) => {
                        entry.geometry.replace(geometry(text).ok_or_else(bad)?).is_some()
                    }
                    (b"sector", Some(text)) => entry.sector.replace(sector(text).ok_or_else(bad)?).is_some(),
                    (b"", None) => return Err(error(Problem::EmptyOption)),
                    _ => return Err(error(Problem::UnknownOption { option })),
                };
                if twice {
                    return Err(error(Problem::Twice { option }));
                }
            }
        }
        entry.kind = kind.or(Kind::of_path(path)).ok_or(error(Problem::NoKind))?;
        Ok(entry)
    }
}

impl<'a> Entry<'a> {
    /// The path for people.
    pub fn printed_path(&self) -> Printed<'a> {
        Printed(self.path)
    }
}

/// Splits the value of `VMWARE_BDWRAPPER_DEVICES` into entries; empty ones are passed over.
pub fn entries(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b':').filter(|entry| !entry.is_empty())
}

/// The longest path of an entry plus one, as the kernel's `PATH_MAX`.
const PATH_MAX: usize = 4096;

fn printable(text: &[u8], longest: usize) -> Option<&[u8]> {
    let fits = !text.is_empty() && text.len() <= longest;
    (fits && text.iter().all(|byte| (b' '..=b'~').contains(byte))).then_some(text)
}

fn wwn(text: &[u8]) -> Option<u64> {
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    if digits.len() != 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &digit| Some(sum << 4 | u64::from(char::from(digit).to_digit(16)?)))
}

fn geometry(text: &[u8]) -> Option<Geometry> {
    let mut numbers = text.split(|&byte| byte == b'/');
    let mut next = |most| numbers.next().and_then(|text| number(text, most));
    let found =
        Geometry { cylinders: next(u32::from(u16::MAX))?, heads: next(255)? as u8, sectors: next(63)? as u8 };
    numbers.next().is_none().then_some(found)
}

fn sector(text: &[u8]) -> Option<u32> {
    match text {
        b"512" => Some(512),
        b"4096" => Some(4096),
        _ => None,
    }
}

/// A decimal number from 1 to `most`.
fn number(text: &[u8], most: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let number = text
        .iter()
        .try_fold(0u32, |sum, &digit| sum.checked_mul(10)?.checked_add(char::from(digit).to_digit(10)?))?;
    (1..=most).contains(&number).then_some(number)
}

/// Why an entry was not accepted. Displayed as a sentence that names the entry, the cause and
/// what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryError<'a> {
    /// The whole entry.
    pub entry: &'a [u8],
    /// What is wrong with it.
    pub problem: Problem<'a>,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem<'a> {
    /// The path does not begin with `/`.
    NotAbsolute,
    /// The path holds a NUL byte.
    Nul,
    /// The path is longer than the kernel accepts.
    PathTooLong,
    /// The name says nothing about the kind of disk and no option does.
    NoKind,
    /// Nothing stands after `=` or between two commas.
    EmptyOption,
    /// No option has this name.
    UnknownOption {
        /// The option as written.
        option: &'a [u8],
    },
    /// The option, or another kind of disk, was given before.
    Twice {
        /// The second one, as written.
        option: &'a [u8],
    },
    /// The option does not take this value.
    BadValue {
        /// The option's name.
        name: &'a [u8],
        /// The value as written.
        value: &'a [u8],
    },
}

impl fmt::Display for EntryError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", Printed(self.entry), self.problem, Remedy(self.problem))
    }
}

/// What is wrong, in words that follow the entry.
impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Problem::NotAbsolute => f.write_str("is not an absolute name"),
            Problem::Nul => f.write_str("holds a NUL byte"),
            Problem::PathTooLong => f.write_str("is longer than a file name can be (4095 bytes)"),
            Problem::NoKind => f.write_str("does not say which kind of disk it is to be"),
            Problem::EmptyOption => f.write_str("has an empty option"),
            Problem::UnknownOption { option } => write!(f, "there is no option '{}'", Printed(option)),
            Problem::Twice { option } => {
                write!(f, "option '{}' contradicts or repeats an earlier one", Printed(option))
            }
            Problem::BadValue { name, value } => {
                write!(f, "'{}' is no {}", Printed(value), Printed(name))
            }
        }
    }
}

/// What to write instead of an entry with this problem.
pub struct Remedy<'a>(pub Problem<'a>);

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.0, Problem::BadValue { .. }) {
            f.write_str("it takes ")?;
        }
        f.write_str(match self.0 {
            Problem::NotAbsolute => "write a name that begins with /",
            Problem::Nul | Problem::PathTooLong => "write another name",
            Problem::NoKind => "add =scsi, =ide or =sata (only /dev/sd... and /dev/hd... need none)",
            Problem::EmptyOption => "write PATH=OPTION,OPTION",
            Problem::UnknownOption { .. } => {
                "there are scsi, ide, sata, ro, force, serial=, model=, wwn=, geometry= and sector="
            }
            Problem::Twice { .. } => "give one",
            Problem::BadValue { name, .. } => match name {
                b"serial" => "1 to 20 printable ASCII characters without , and :",
                b"model" => "1 to 40 printable ASCII characters without , and :",
                b"wwn" => "16 hexadecimal digits",
                b"geometry" => "CYLINDERS/HEADS/SECTORS of at most 65535/255/63",
                _ => "512 or 4096",
            },
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    fn plain(path: &[u8], kind: Kind) -> Entry<'_> {
        Entry {
            path,
            kind,
            read_only: false,
            force: false,
            serial: None,
            model: None,
            wwn: None,
            geometry: None,
            sector: None,
        }
    }

    fn problem(text: &[u8]) -> Problem<'_> {
        Entry::parse(text).unwrap_err().problem
    }

    #[test]
    fn names_of_the_first_wrapper_need_no_option() {
        for (text, kind) in [
            (&b"/dev/sd/my-raid5-volume-for-data"[..], Kind::Scsi),
            (b"/dev/sdx", Kind::Scsi),
            (b"/dev/hdx", Kind::Ide),
            (b"/dev/hd/a/b", Kind::Ide),
            (b"/dev/sd\xff", Kind::Scsi),
        ] {
            assert_eq!(Entry::parse(text), Ok(plain(text, kind)));
        }
    }

    #[test]
    fn any_other_name_needs_a_kind() {
        for text in [&b"/dev/sd"[..], b"/dev/hd", b"/dev/vg/lv", b"/", b"/dev//sda", b"/dev/vg/lv=ro"] {
            assert_eq!(problem(text), Problem::NoKind, "{}", Printed(text));
        }
        assert_eq!(Entry::parse(b"/dev/vg/lv=ide"), Ok(plain(b"/dev/vg/lv", Kind::Ide)));
        assert_eq!(Entry::parse(b"/dev/sda=sata").unwrap().kind, Kind::Sata);
    }

    #[test]
    fn every_option_is_taken() {
        let text =
            b"/x=ro,sata,force,serial=A b=c,model=M,wwn=0x300000000000000F,geometry=65535/255/63,sector=4096";
        assert_eq!(
            Entry::parse(text),
            Ok(Entry {
                path: b"/x",
                kind: Kind::Sata,
                read_only: true,
                force: true,
                serial: Some(b"A b=c"),
                model: Some(b"M"),
                wwn: Some(0x3000_0000_0000_000f),
                geometry: Some(Geometry { cylinders: 65535, heads: 255, sectors: 63 }),
                sector: Some(4096),
            })
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(problem(b""), Problem::NotAbsolute);
        assert_eq!(problem(b"dev/sda"), Problem::NotAbsolute);
        assert_eq!(problem(b"=scsi"), Problem::NotAbsolute);
        assert_eq!(problem(b"/dev/s\0"), Problem::Nul);
        assert_eq!(problem(b"/dev/sda="), Problem::EmptyOption);
        assert_eq!(problem(b"/dev/sda=ro,"), Problem::EmptyOption);
        assert_eq!(problem(b"/dev/sda=rw"), Problem::UnknownOption { option: b"rw" });
        assert_eq!(problem(b"/dev/sda=ro=1"), Problem::UnknownOption { option: b"ro=1" });
        assert_eq!(problem(b"/dev/sda=serial"), Problem::UnknownOption { option: b"serial" });
        assert_eq!(problem(b"/dev/sda=ide,scsi"), Problem::Twice { option: b"scsi" });
        assert_eq!(problem(b"/dev/sda=ro,ro"), Problem::Twice { option: b"ro" });
        for value in ["geometry=", "geometry=1/2", "geometry=1/2/3/4", "geometry=0/1/1", "geometry=65536/1/1"]
            .into_iter()
            .chain(["geometry=1/256/1", "geometry=1/1/64", "geometry=-1/1/1", "geometry=99999999999/1/1"])
            .chain(["sector=0", "sector=1024", "serial=", "serial=123456789012345678901", "serial=\x7f"])
            .chain(["wwn=1", "wwn=300000000000000g", "model=\u{e9}"])
        {
            let text = std::format!("/dev/sda={value}");
            assert!(matches!(problem(text.as_bytes()), Problem::BadValue { .. }), "{value}");
        }
        let long = [&b"/"[..], &[b'x'; 4095]].concat();
        assert_eq!(problem(&long), Problem::PathTooLong);
    }

    #[test]
    fn errors_are_sentences() {
        let text = Entry::parse(b"/dev/vg/l\xffv").unwrap_err().to_string();
        assert_eq!(
            text,
            "/dev/vg/l\\xffv: does not say which kind of disk it is to be; add =scsi, =ide or =sata (only /dev/sd... and /dev/hd... need none)"
        );
        let text = Entry::parse(b"/dev/sda=sector=1").unwrap_err().to_string();
        assert_eq!(text, "/dev/sda=sector=1: '1' is no sector; it takes 512 or 4096");
    }

    #[test]
    fn lists_pass_over_what_is_empty() {
        let list: std::vec::Vec<_> = entries(b"::/a:/b:").collect();
        assert_eq!(list, [b"/a", b"/b"]);
    }
}
