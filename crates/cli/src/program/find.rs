//! The program to be run: where it is, and whether a preloaded library can reach it.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::elf::EM_386;
use rustix::fs::{Access, AtFlags, CWD, access, accessat};
use rustix::io::Errno;

use crate::file::read_start;
use crate::program::elf::Elf;
use crate::program::secure;
use crate::say::failure::{cause, shown};
use crate::say::finding::{Code, Finding};

/// Where programs are looked for without `PATH`, as execvp(3) does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Looks for a program as execvp(3) does. The result has a slash.
pub fn find(name: &OsStr) -> Result<PathBuf, Finding> {
    if name.as_bytes().contains(&b'/') {
        return executable(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH").unwrap_or(DEFAULT_PATH.into());
    let mut denied = None;
    for directory in std::env::split_paths(&path).filter(|_| !name.is_empty()) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        let file = directory.join(name);
        // What is no file, or stands where the user may not look, is passed over.
        if !file.is_file() {
            continue;
        }
        match executable(file) {
            Ok(file) => return Ok(file),
            Err(failure) => denied = denied.or(Some(failure)),
        }
    }
    Err(denied.unwrap_or_else(|| {
        // An ordinary user's path may lack these.
        let mut others =
            ["/usr/local/sbin", "/usr/sbin", "/sbin"].iter().map(|place| Path::new(place).join(name));
        let hint = match others.find(|file| !name.is_empty() && executable(file.clone()).is_ok()) {
            Some(file) => format!("give its path: {}", shown(&file)),
            None => "correct the name of the program, or give its path".into(),
        };
        Finding::problem(Code::ProgramNotFound, "is not in any directory of PATH").of(name).hint(hint)
    }))
}

/// A file that may be executed.
fn executable(file: PathBuf) -> Result<PathBuf, Finding> {
    match file.metadata() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let finding = Finding::problem(Code::ProgramNotFound, "does not exist").of(&file);
            Err(finding.hint("correct the path of the program"))
        }
        Err(error) => Err(not_executed(&file, &cause(&error))),
        Ok(status) if !status.is_file() => Err(not_executed(&file, "it is not a regular file")),
        // As execve(2) decides, by the effective user.
        Ok(_) => match accessat(CWD, &file, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => Ok(file),
            Err(error) => Err(not_executed(&file, &cause(&error.into()))),
        },
    }
}

/// Says that a program cannot be executed.
pub fn not_executed(file: &Path, cause: &str) -> Finding {
    let finding = Finding::problem(Code::NotExecutable, format!("cannot be executed ({cause})"));
    finding.of(file).hint("name a program that can be executed")
}

/// Whether a program may be executed by the user, but not read.
pub fn is_unreadable(file: &Path) -> bool {
    accessat(CWD, file, Access::READ_OK, AtFlags::EACCESS) == Err(Errno::ACCESS)
}

/// Whether a file is a script, which its interpreter runs without any set-user-ID bit of its own.
pub fn is_script(file: &Path) -> bool {
    read_start(file, 2).is_ok_and(|start| start == b"#!")
}

/// Returns the interpreter that a script names.
pub fn interpreter(file: &Path) -> Option<PathBuf> {
    /// How much of a script the kernel looks at, in bytes (`BINPRM_BUF_SIZE`).
    const MOST: u64 = 256;
    let start = read_start(file, MOST).ok()?;
    let line = start.split(|&byte| byte == b'\n').next()?.strip_prefix(b"#!")?;
    let blank = |byte: &u8| b" \t".contains(byte);
    let name = line.split(blank).find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

/// Says why the kernel cannot start a program that may be executed; a file that cannot be read is not judged.
pub fn unstartable(file: &Path) -> Option<Finding> {
    if !is_script(file) {
        return None;
    }
    let why = match interpreter(file) {
        None => "is a script that names no interpreter".into(),
        Some(name) => {
            let error = access(&name, Access::EXEC_OK).err()?;
            format!("is a script for {}, which cannot be executed ({})", shown(&name), cause(&error.into()))
        }
    };
    let finding = Finding::problem(Code::NotExecutable, why).of(file);
    Some(finding.hint("install that, or correct the script's first line"))
}

/// Says why a preloaded library cannot reach a program, or may not; a file that cannot be read is not judged.
pub fn unreachable(file: &Path) -> Option<Finding> {
    let obstacle = obstacle(file)?;
    let why = obstacle.why();
    let finding = |verdict: fn(Code, String) -> Finding, why| verdict(Code::Unsupported, why).of(file);
    Some(match obstacle {
        Obstacle::Sanitizer => {
            let why = format!("{why}, which refuses a library that is loaded before its own library");
            finding(Finding::warning, why).hint(
                "put that first: 'LD_PRELOAD=$(gcc -print-file-name=libasan.so) vmware-bdwrapper run ...'",
            )
        }
        Obstacle::OtherLibrary(_) => {
            let why = format!("{why}, with which the library is not tested");
            finding(Finding::warning, why)
                .hint("check with 'vmware-bdwrapper trace' whether the library answers it")
        }
        Obstacle::Unreachable(_) | Obstacle::Unanswered(_) => {
            let why = format!("{why}, so it will find the devices as they are without the library");
            finding(Finding::problem, why).hint("name a program of this system that is linked dynamically")
        }
    })
}

/// Returns what stands between a program and a preloaded library; nothing for a file that cannot be read.
pub fn obstacle(file: &Path) -> Option<Obstacle> {
    let program = Elf::read(file)?;
    let own = Elf::own()?;
    let is_secure = || file.metadata().and_then(|status| secure::is_secure(file, &status)).unwrap_or(false);
    match between(&program, &own) {
        None => (program.has_address_sanitizer && !preloads("asan")).then_some(Obstacle::Sanitizer),
        // Its loader takes no preloaded library in secure mode, under whatever name.
        Some(Obstacle::OtherLibrary(loader)) if is_musl(&loader) && is_secure() => {
            Some(Obstacle::Unreachable(
                "runs on the C library musl, which loads no library into a set-user-ID program",
            ))
        }
        other => other,
    }
}

/// Whether `LD_PRELOAD` names a library with this in its name.
fn preloads(part: &str) -> bool {
    std::env::var_os("LD_PRELOAD").is_some_and(|list| list.to_string_lossy().contains(part))
}

/// What stands between a program and a preloaded library.
#[derive(Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// AddressSanitizer wants to be the first library.
    Sanitizer,
    /// The program has this dynamic loader, which is not the GNU C library's.
    OtherLibrary(PathBuf),
    /// The library is not loaded: the rest of a sentence that begins with the program's name.
    Unreachable(&'static str),
    /// The same, and the supervisor leaves the program's requests to the kernel, too.
    Unanswered(&'static str),
}

impl Obstacle {
    /// Returns the rest of a sentence that begins with the program's name.
    pub fn why(&self) -> String {
        match self {
            Obstacle::Sanitizer => "is built with AddressSanitizer".into(),
            Obstacle::OtherLibrary(loader) if is_musl(loader) => "runs on the C library musl".into(),
            Obstacle::OtherLibrary(loader) => {
                format!("has the dynamic loader {}, which is not that of the GNU C library", shown(loader))
            }
            Obstacle::Unreachable(why) | Obstacle::Unanswered(why) => (*why).into(),
        }
    }
}

fn is_musl(loader: &Path) -> bool {
    loader.file_name().is_some_and(|name| name.as_bytes().starts_with(b"ld-musl"))
}

/// Whether a dynamic loader has a name of the GNU C library's.
fn is_gnu(loader: &Path) -> bool {
    let starts =
        |name: &OsStr| [&b"ld-linux"[..], b"ld-2."].iter().any(|start| name.as_bytes().starts_with(start));
    loader.file_name().is_some_and(starts)
}

fn between(program: &Elf, own: &Elf) -> Option<Obstacle> {
    if program.machine != own.machine {
        let is_i386 = cfg!(target_arch = "x86_64") && program.machine.number == EM_386;
        return Some(match (program.machine.is_64, own.machine.is_64) {
            (false, true) if is_i386 => {
                Obstacle::Unreachable("is a 32-bit program and the library a 64-bit one")
            }
            (false, true) => Obstacle::Unanswered("is a 32-bit program of an ABI that is not answered"),
            _ => Obstacle::Unreachable("is a program of another architecture than the library"),
        });
    }
    match &program.interpreter {
        None => Some(Obstacle::Unreachable("is statically linked and loads no library")),
        Some(loader) if is_gnu(loader) || own.interpreter.as_ref() == Some(loader) => None,
        Some(loader) => Some(Obstacle::OtherLibrary(loader.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::elf::Machine;

    fn status(name: &str) -> u8 {
        find(OsStr::new(name)).expect_err("it is no program").code.status()
    }

    #[test]
    fn as_a_shell_finds_it() {
        assert!(find(OsStr::new("sh")).expect("every system has one").ends_with("sh"));
        assert_eq!(find(OsStr::new("/bin/sh")).expect("every system has one"), Path::new("/bin/sh"));
        for name in ["", "no-such-program", "/no-such-program", "/etc/passwd/x"] {
            assert_eq!(status(name), 127, "{name}");
        }
        for name in ["/etc/passwd", "/etc"] {
            assert_eq!(status(name), 126, "{name}");
        }
    }

    #[test]
    fn what_no_library_reaches() {
        let own = Elf::own().expect("Linux runs ELF files");
        let with = |machine, loader: Option<&str>| {
            let interpreter = loader.map(PathBuf::from);
            between(&Elf { machine, interpreter, has_address_sanitizer: false }, &own)
        };
        assert_eq!(with(own.machine, Some("/lib64/ld-linux-x86-64.so.2")), None);
        let alone = with(own.machine, None);
        assert!(matches!(alone, Some(Obstacle::Unreachable(why)) if why.contains("statically")));
        for (loader, words) in [("/lib/ld-musl-x86_64.so.1", "musl"), ("/system/bin/linker64", "linker64")] {
            let other = with(own.machine, Some(loader)).expect("it is not the GNU C library's");
            assert!(matches!(other, Obstacle::OtherLibrary(_)) && other.why().contains(words), "{other:?}");
        }
        let small =
            |number| with(Machine { is_64: false, number, ..own.machine }, Some("/lib/ld-linux.so.2"));
        let is_x86 = cfg!(target_arch = "x86_64");
        assert_eq!(matches!(small(EM_386), Some(Obstacle::Unreachable(_))), is_x86);
        // x32, or ARM of 32 bits.
        assert!(matches!(small(own.machine.number), Some(Obstacle::Unanswered(_))));
        let other = Machine { number: own.machine.number + 1, ..own.machine };
        assert!(matches!(with(other, None), Some(Obstacle::Unreachable(_))));
    }

    #[test]
    fn scripts() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(file.path(), "#!/bin/sh\n").expect("it is ours");
        assert!(is_script(file.path()));
        assert!(!is_script(Path::new("/proc/self/exe")) && !is_script(Path::new("/nonexistent")));
        assert_eq!(unreachable(file.path()), None);
    }
}
