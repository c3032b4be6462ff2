//! Facts of the built library file.

use std::collections::BTreeSet;
use std::process::ExitCode;

use acceptance::{Need, Run, Scratch, main as harness, trial};
use object::elf::{
    DF_1_NOW, DF_BIND_NOW, DT_FLAGS, DT_FLAGS_1, DT_NEEDED, DT_SONAME, DT_TEXTREL, FileHeader64, PF_W, PF_X,
    PT_GNU_RELRO, PT_GNU_STACK, PT_LOAD, PT_TLS, SHN_UNDEF,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionTable, Sym};
use object::{Endianness, SectionIndex};

type Elf = FileHeader64<Endianness>;

/// The functions that are interposed: ioctl, and those that acquire or release a descriptor.
const INTERPOSED: [&str; 24] = [
    "__open64_2",
    "__open_2",
    "__openat64_2",
    "__openat_2",
    "close",
    "close_range",
    "closefrom",
    "creat",
    "creat64",
    "dup",
    "dup2",
    "dup3",
    "fclose",
    "fcntl",
    "fcntl64",
    "fopen",
    "fopen64",
    "freopen",
    "freopen64",
    "ioctl",
    "open",
    "open64",
    "openat",
    "openat64",
];

/// What a library that may be called from anywhere must not call.
const FORBIDDEN: [&str; 9] =
    ["malloc", "calloc", "realloc", "free", "dlsym", "dlopen", "getenv", "__tls_get_addr", "_Unwind_Resume"];

/// The C library of the oldest enterprise distributions still in use (RHEL 7).
const OLDEST_GLIBC: (u32, u32) = (2, 17);

const LARGEST: u64 = 192 * 1024;

fn main() -> ExitCode {
    harness(vec![
        trial("soname", &[], || assert_eq!(strings(DT_SONAME), ["libvmware-bdwrapper.so.0"])),
        trial("needs-libc-alone", &[], || assert_eq!(strings(DT_NEEDED), ["libc.so.6"])),
        trial("no-thread-local-storage", &[], || assert!(segments(PT_TLS).is_empty())),
        trial("no-executable-stack", &[], no_executable_stack),
        trial("no-writable-code", &[], no_writable_code),
        trial("bound-at-start-and-read-only-then", &[], bound_at_start),
        trial("exports-what-it-interposes", &[], || {
            let expected = BTreeSet::from(INTERPOSED.map(str::to_owned));
            assert_eq!(symbols(true), expected);
        }),
        trial("no-allocation-and-no-lookup", &[], || {
            let imported = symbols(false);
            let found: Vec<_> = FORBIDDEN.iter().filter(|name| imported.contains(**name)).collect();
            assert!(found.is_empty(), "{found:?}");
        }),
        trial("no-panic-path", &[], no_panic_path),
        trial("glibc-2.17-is-enough", &[], oldest_glibc),
        trial("size", &[Need::Tool("strip")], size),
    ])
}

fn file() -> Vec<u8> {
    std::fs::read(acceptance::library()).expect("the library can be read")
}

fn header(data: &[u8]) -> (&Elf, Endianness) {
    let header = Elf::parse(data).expect("it is an ELF file");
    (header, header.endian().expect("its header says its byte order"))
}

/// The values of a tag of the dynamic section.
fn tags(wanted: u32) -> Vec<u64> {
    let data = file();
    let (header, endian) = header(&data);
    let sections = header.sections(endian, &*data).expect("it has sections");
    let (dynamic, _) = sections.dynamic(endian, &*data).expect("it is well-formed").expect("it is dynamic");
    let wanted = dynamic.iter().filter(|entry| entry.tag32(endian) == Some(wanted));
    wanted.map(|entry| entry.d_val(endian)).collect()
}

/// The values of a tag of the dynamic section that stand for strings.
fn strings(wanted: u32) -> Vec<String> {
    let data = file();
    let (header, endian) = header(&data);
    let sections = header.sections(endian, &*data).expect("it has sections");
    let (dynamic, link) =
        sections.dynamic(endian, &*data).expect("it is well-formed").expect("it is dynamic");
    let strings = sections.strings(endian, &*data, link).expect("it has dynamic strings");
    let wanted = dynamic.iter().filter(|entry| entry.tag32(endian) == Some(wanted));
    let text = |entry: &<Elf as FileHeader>::Dyn| {
        let bytes = strings.get(entry.d_val(endian).try_into().expect("an offset")).expect("a string");
        String::from_utf8(bytes.to_owned()).expect("names are ASCII")
    };
    wanted.map(text).collect()
}

/// The flags of the segments of a type.
fn segments(wanted: u32) -> Vec<u32> {
    let data = file();
    let (header, endian) = header(&data);
    let segments = header.program_headers(endian, &*data).expect("it has segments");
    let wanted = segments.iter().filter(|segment| segment.p_type(endian) == wanted);
    wanted.map(|segment| segment.p_flags(endian)).collect()
}

/// The dynamic symbols that are defined, or undefined, without their versions.
fn symbols(defined: bool) -> BTreeSet<String> {
    let data = file();
    let (header, endian) = header(&data);
    let sections = header.sections(endian, &*data).expect("it has sections");
    let table = sections.symbols(endian, &*data, object::elf::SHT_DYNSYM).expect("it has dynamic symbols");
    let of_interest = table
        .iter()
        .filter(|symbol| symbol.st_name(endian) != 0 && (symbol.st_shndx(endian) != SHN_UNDEF) == defined);
    let name = |symbol: &<Elf as FileHeader>::Sym| {
        let bytes = symbol.name(endian, table.strings()).expect("a string");
        String::from_utf8(bytes.to_owned()).expect("names are ASCII")
    };
    of_interest.map(name).collect()
}

fn no_executable_stack() {
    let stack = segments(PT_GNU_STACK);
    assert!(stack.len() == 1 && stack[0] & PF_X == 0, "{stack:?}");
}

fn no_writable_code() {
    let loaded = segments(PT_LOAD);
    assert!(loaded.iter().all(|flags| flags & (PF_W | PF_X) != PF_W | PF_X), "{loaded:?}");
    assert_eq!(tags(DT_TEXTREL), [0; 0]);
}

fn bound_at_start() {
    assert_eq!(segments(PT_GNU_RELRO).len(), 1);
    let now = tags(DT_FLAGS).iter().any(|flags| flags & u64::from(DF_BIND_NOW) != 0)
        || tags(DT_FLAGS_1).iter().any(|flags| flags & u64::from(DF_1_NOW) != 0);
    assert!(now);
}

/// The release build links only if nothing refers to this symbol (crates/preload/src/panic.rs).
fn no_panic_path() {
    let name = b"vmware_bdwrapper_release_build_can_panic";
    let data = file();
    assert!(!data.windows(name.len()).any(|window| window == name));
    let core = b"core::panicking";
    assert!(!data.windows(core.len()).any(|window| window == core));
}

fn oldest_glibc() {
    let data = file();
    let (header, endian) = header(&data);
    let sections = header.sections(endian, &*data).expect("it has sections");
    let versions = versions(&sections, endian, &data);
    assert!(!versions.is_empty());
    for version in versions {
        let number =
            version.strip_prefix("GLIBC_").unwrap_or_else(|| panic!("{version} is not the C library's"));
        let mut parts = number.split('.').map(|part| part.parse::<u32>().expect("a number"));
        let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        assert!(number <= OLDEST_GLIBC, "it needs {version}");
    }
}

/// The symbol versions that the library needs of others.
fn versions(sections: &SectionTable<'_, Elf>, endian: Endianness, data: &[u8]) -> BTreeSet<String> {
    let (mut needs, link): (_, SectionIndex) =
        sections.gnu_verneed(endian, data).expect("it is well-formed").expect("it needs symbol versions");
    let strings = sections.strings(endian, data, link).expect("it has dynamic strings");
    let mut versions = BTreeSet::new();
    while let Some((_, mut library)) = needs.next().expect("it is well-formed") {
        while let Some(version) = library.next().expect("it is well-formed") {
            let name = version.name(endian, strings).expect("a string");
            versions.insert(String::from_utf8(name.to_owned()).expect("names are ASCII"));
        }
    }
    versions
}

fn size() {
    let scratch = Scratch::new();
    let stripped = scratch.path("stripped");
    let strip = Run::new("strip").arg("-o").arg(&stripped).arg(scratch.library()).output();
    assert!(strip.success(), "{}", strip.err());
    let bytes = stripped.metadata().expect("strip wrote it").len();
    assert!(bytes <= LARGEST, "{bytes} bytes");
}
