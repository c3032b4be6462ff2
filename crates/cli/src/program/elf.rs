//! What is read from the head of an ELF file.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::elf::{DT_NEEDED, FileHeader32, FileHeader64};
use object::read::ReadCache;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

/// An executable.
#[derive(Debug)]
pub struct Elf {
    /// What it runs on.
    pub machine: Machine,
    /// The dynamic loader that starts it (`PT_INTERP`); none in a static program.
    pub interpreter: Option<PathBuf>,
    /// Whether it needs the library of AddressSanitizer (`DT_NEEDED`).
    pub has_address_sanitizer: bool,
}

/// A kind of processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// 64-bit addresses.
    pub is_64: bool,
    /// The most significant byte first.
    pub is_big_endian: bool,
    /// `e_machine`.
    pub number: u16,
}

impl Elf {
    /// Reads a file; none where it is no ELF file or cannot be read.
    pub fn read(path: &Path) -> Option<Elf> {
        let data = ReadCache::new(File::open(path).ok()?);
        match FileKind::parse(&data).ok()? {
            FileKind::Elf32 => Elf::parse::<FileHeader32<Endianness>>(&data),
            FileKind::Elf64 => Elf::parse::<FileHeader64<Endianness>>(&data),
            _ => None,
        }
    }

    /// The running command.
    pub fn own() -> Option<Elf> {
        Elf::read(Path::new("/proc/self/exe"))
    }

    fn parse<H: FileHeader<Endian = Endianness>>(data: &ReadCache<File>) -> Option<Elf> {
        let header = H::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let machine = Machine {
            is_64: header.is_type_64(),
            is_big_endian: header.is_big_endian(),
            number: header.e_machine(endian),
        };
        let segments = header.program_headers(endian, data).ok()?;
        let interpreter = segments.iter().find_map(|segment| segment.interpreter(endian, data).ok()?);
        let interpreter = interpreter.map(|name| PathBuf::from(OsStr::from_bytes(name)));
        let has_address_sanitizer = needs::<H>(header, data, b"libasan.so").unwrap_or(false);
        Some(Elf { machine, interpreter, has_address_sanitizer })
    }
}

/// Whether a program needs a library whose name begins so.
fn needs<H: FileHeader<Endian = Endianness>>(
    header: &H,
    data: &ReadCache<File>,
    start: &[u8],
) -> Option<bool> {
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let (dynamic, strings) = sections.dynamic(endian, data).ok()??;
    let strings = sections.strings(endian, data, strings).ok()?;
    let needed = dynamic.iter().filter(|entry| entry.d_tag(endian).into() == u64::from(DT_NEEDED));
    let mut names =
        needed.filter_map(|entry| strings.get(u32::try_from(entry.d_val(endian).into()).ok()?).ok());
    Some(names.any(|name| name.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_themselves() {
        let own = Elf::own().expect("Linux runs ELF files");
        assert_eq!(own.machine.is_64, cfg!(target_pointer_width = "64"));
        assert!(own.interpreter.is_none_or(|loader| loader.is_file()));
    }

    #[test]
    fn other_files() {
        assert!(Elf::read(Path::new("/etc/passwd")).is_none());
        assert!(Elf::read(Path::new("/nonexistent")).is_none());
        assert!(Elf::read(Path::new("/")).is_none());
    }
}
