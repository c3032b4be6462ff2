//! The grammar of a device entry: `PATH[=OPTION[,OPTION]…]`.
//!
//! One parser serves the environment variable `VMWARE_BDWRAPPER_DEVICES` (entries separated by
//! colons) and the `device` lines of `/etc/vmware-bdwrapper.conf`.

use core::fmt;

pub use crate::printed::{Printed, is_printable};

/// The kind of disk.
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

    /// Returns the kind that a path implies: `/dev/sd?*` is SCSI, `/dev/hd?*` is IDE.
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
    /// The kind of disk.
    pub kind: Kind,
    /// `ro`: the disk is write-protected.
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
    /// `sector=`: the smallest logical block size, in bytes.
    pub sector: Option<u32>,
    /// `nexus=`: which programs are one initiator for the disk.
    pub nexus: Option<NexusOf>,
}

/// The processes of a `run` that are one I_T nexus for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NexusOf {
    /// All of them, as the processes of a host are: the default.
    Tree,
    /// Those of a process group.
    Process,
}

impl<'a> Entry<'a> {
    /// Returns an entry without options.
    pub const fn new(path: &'a [u8], kind: Kind) -> Entry<'a> {
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
            nexus: None,
        }
    }

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
        let mut draft = Draft { entry: Entry::new(path, Kind::Scsi), kind: None };
        for text in halves.next().into_iter().flat_map(|options| options.split(|&byte| byte == b',')) {
            let found = OPTIONS.iter().find_map(|option| Some((option, option.value_in(text)?)));
            let (option, value) = found.ok_or(error(match text {
                b"" => Problem::EmptyOption,
                _ => Problem::UnknownOption { option: text },
            }))?;
            match (option.set)(&mut draft, value) {
                Some(false) => {}
                Some(true) => return Err(error(Problem::Twice { option: text })),
                None => {
                    let EntryOption { name, takes, .. } = *option;
                    return Err(error(Problem::BadValue { name, takes, value }));
                }
            }
        }
        let kind = draft.kind.or(Kind::of_path(path)).ok_or(error(Problem::NoKind))?;
        Ok(Entry { kind, ..draft.entry })
    }
}

/// An entry that is being parsed.
struct Draft<'a> {
    entry: Entry<'a>,
    kind: Option<Kind>,
}

/// Sets an option and returns whether it was set before; `None` if the value is wrong.
type Set = for<'a> fn(&mut Draft<'a>, &'a [u8]) -> Option<bool>;

/// An option of an entry.
pub struct EntryOption {
    /// The name, with the equals sign that a value follows.
    pub name: &'static str,
    /// The value, as the help and the manual write it.
    pub value: &'static str,
    /// The values that it takes.
    pub takes: &'static str,
    /// The help text.
    pub help: &'static str,
    set: Set,
}

/// Every option of an entry, in the order of the manual.
pub static OPTIONS: &[EntryOption] = &[
    EntryOption::word("scsi", "Make it a SCSI disk (default for names in /dev/sd)", |draft, _| {
        set_once(&mut draft.kind, Some(Kind::Scsi))
    }),
    EntryOption::word("ide", "Make it an IDE disk (default for names in /dev/hd)", |draft, _| {
        set_once(&mut draft.kind, Some(Kind::Ide))
    }),
    EntryOption::word("sata", "Make it a SATA disk", |draft, _| set_once(&mut draft.kind, Some(Kind::Sata))),
    EntryOption::word("ro", "Make it write-protected", |draft, _| {
        Some(core::mem::replace(&mut draft.entry.read_only, true))
    }),
    EntryOption::word("force", "Accept a physical disk", |draft, _| {
        Some(core::mem::replace(&mut draft.entry.force, true))
    }),
    EntryOption {
        name: "serial=",
        value: "TEXT",
        takes: "1 to 20 printable ASCII characters without , and :",
        help: "Set the serial number: 1 to 20 characters",
        set: |draft, text| set_once(&mut draft.entry.serial, printable(text, 20)),
    },
    EntryOption {
        name: "model=",
        value: "TEXT",
        takes: "1 to 40 printable ASCII characters without , and :",
        help: "Set the model name: 1 to 40 characters",
        set: |draft, text| set_once(&mut draft.entry.model, printable(text, 40)),
    },
    EntryOption {
        name: "wwn=",
        value: "NUMBER",
        takes: "16 hexadecimal digits",
        help: "Set the world-wide name: 16 hexadecimal digits",
        set: |draft, text| set_once(&mut draft.entry.wwn, wwn(text)),
    },
    EntryOption {
        name: "geometry=",
        value: "C/H/S",
        takes: "CYLINDERS/HEADS/SECTORS of at most 65535/255/63",
        help: "Set the geometry: cylinders, heads, sectors per track",
        set: |draft, text| set_once(&mut draft.entry.geometry, geometry(text)),
    },
    EntryOption {
        name: "sector=",
        value: "512|4096",
        takes: "512 or 4096",
        help: "Set the smallest logical block size, in bytes",
        set: |draft, text| set_once(&mut draft.entry.sector, sector(text)),
    },
    EntryOption {
        name: "nexus=",
        value: "tree|process",
        takes: "tree or process",
        help: "Set which programs are one initiator: all of a run, or each process group",
        set: |draft, text| set_once(&mut draft.entry.nexus, nexus(text)),
    },
];

fn set_once<T>(place: &mut Option<T>, value: Option<T>) -> Option<bool> {
    Some(place.replace(value?).is_some())
}

impl EntryOption {
    /// An option without a value.
    const fn word(name: &'static str, help: &'static str, set: Set) -> EntryOption {
        EntryOption { name, value: "", takes: "", help, set }
    }

    /// Returns the value in an option as written, if it is this one.
    fn value_in<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let value = text.strip_prefix(self.name.as_bytes())?;
        (value.is_empty() || !self.value.is_empty()).then_some(value)
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

fn nexus(text: &[u8]) -> Option<NexusOf> {
    match text {
        b"tree" => Some(NexusOf::Tree),
        b"process" => Some(NexusOf::Process),
        _ => None,
    }
}

/// Parses a decimal number from 1 to `most`.
fn number(text: &[u8], most: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let number = text
        .iter()
        .try_fold(0u32, |sum, &digit| sum.checked_mul(10)?.checked_add(char::from(digit).to_digit(10)?))?;
    (1..=most).contains(&number).then_some(number)
}

/// Why an entry is invalid. Displayed as a sentence with the entry, the cause and what to write
/// instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryError<'a> {
    /// The whole entry.
    pub entry: &'a [u8],
    /// The cause.
    pub problem: Problem<'a>,
}

/// The cause of an [`EntryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem<'a> {
    /// The path does not begin with `/`.
    NotAbsolute,
    /// The path holds a NUL byte.
    Nul,
    /// The path is longer than the kernel accepts.
    PathTooLong,
    /// Neither the path nor an option gives the kind.
    NoKind,
    /// An option is empty.
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
        name: &'static str,
        /// What it takes.
        takes: &'static str,
        /// The value as written.
        value: &'a [u8],
    },
}

impl fmt::Display for EntryError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", Printed(self.entry), self.problem, Remedy(self.problem))
    }
}

/// Displays the cause, to follow the entry.
impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Problem::NotAbsolute => f.write_str("is not an absolute path"),
            Problem::Nul => f.write_str("holds a NUL byte"),
            Problem::PathTooLong => f.write_str("is longer than a file name can be (4095 bytes)"),
            Problem::NoKind => f.write_str("does not say which kind of disk it is"),
            Problem::EmptyOption => f.write_str("has an empty option"),
            Problem::UnknownOption { option } => write!(f, "there is no option '{}'", Printed(option)),
            Problem::Twice { option } => {
                write!(f, "option '{}' contradicts or repeats an earlier one", Printed(option))
            }
            Problem::BadValue { name, value, .. } => {
                let name = name.strip_suffix('=').unwrap_or(name);
                write!(f, "'{}' is not a valid {name}", Printed(value))
            }
        }
    }
}

/// Displays what to write instead of an entry with this problem.
pub struct Remedy<'a>(pub Problem<'a>);

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Problem::NotAbsolute => "write a path that begins with /",
            Problem::Nul | Problem::PathTooLong => "write another name",
            Problem::NoKind => "add =scsi, =ide or =sata (only /dev/sd... and /dev/hd... need none)",
            Problem::EmptyOption => "write PATH=OPTION,OPTION",
            Problem::UnknownOption { .. } => {
                f.write_str("there are ")?;
                return OPTIONS.iter().enumerate().try_for_each(|(index, option)| {
                    f.write_str(match index {
                        0 => "",
                        _ if index + 1 == OPTIONS.len() => " and ",
                        _ => ", ",
                    })?;
                    f.write_str(option.name)
                });
            }
            Problem::Twice { .. } => "give one",
            Problem::BadValue { takes, .. } => return write!(f, "it takes {takes}"),
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

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
            assert_eq!(Entry::parse(text), Ok(Entry::new(text, kind)));
        }
    }

    #[test]
    fn any_other_name_needs_a_kind() {
        for text in [&b"/dev/sd"[..], b"/dev/hd", b"/dev/vg/lv", b"/", b"/dev//sda", b"/dev/vg/lv=ro"] {
            assert_eq!(problem(text), Problem::NoKind, "{}", Printed(text));
        }
        assert_eq!(Entry::parse(b"/dev/vg/lv=ide"), Ok(Entry::new(b"/dev/vg/lv", Kind::Ide)));
        assert_eq!(Entry::parse(b"/dev/sda=sata").unwrap().kind, Kind::Sata);
    }

    #[test]
    fn every_option_is_taken() {
        let text =
            b"/x=ro,sata,force,serial=A b=c,model=M,wwn=0x300000000000000F,geometry=65535/255/63,sector=4096,nexus=process";
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
                nexus: Some(NexusOf::Process),
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
            "/dev/vg/l\\xffv: does not say which kind of disk it is; add =scsi, =ide or =sata (only /dev/sd... and /dev/hd... need none)"
        );
        let text = Entry::parse(b"/dev/sda=sector=1").unwrap_err().to_string();
        assert_eq!(text, "/dev/sda=sector=1: '1' is not a valid sector; it takes 512 or 4096");
    }

    #[test]
    fn lists_pass_over_what_is_empty() {
        let list: std::vec::Vec<_> = entries(b"::/a:/b:").collect();
        assert_eq!(list, [b"/a", b"/b"]);
    }
}
