//! The library: which file, and by which name the dynamic loader is told of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::conf::OTHERS_WRITE;
use disk::names;
use rustix::fs::{Access, access};
use rustix::process::getuid;

use crate::check::config;
use crate::program::elf::Elf;
use crate::program::loader::Loader;
use crate::program::secure;
use crate::say::failure::{cause, quoted, shown};
use crate::say::finding::{Code, Finding, Verdict};

/// The dynamic loader's variable.
pub const VARIABLE: &str = "LD_PRELOAD";

/// The library's installed name, the only one by which set-user-ID programs take it.
pub const NAME: &str = names::LIBRARY;

/// Its name in the directory that cargo builds into.
const BUILT: &str = "libvmware_bdwrapper.so";

/// The name to preload in a program without limits: the file beside this command, where it was built and not installed,
/// else the installed library.
pub fn ordinary() -> Result<OsString, Finding> {
    let built = std::env::current_exe().ok().map(|command| command.with_file_name(BUILT));
    match built.filter(|file| file.is_file()) {
        Some(file) if file.as_os_str().as_bytes().iter().any(|byte| b" :".contains(byte)) => {
            let why = format!("has a space or colon in its name, which {VARIABLE} cannot hold");
            let finding = Finding::problem(Code::Unsupported, why).of(&file);
            Err(finding.hint("run as root: 'make install', or build in another directory"))
        }
        Some(file) => Ok(file.into()),
        None if installed()?.is_empty() => Err(uninstalled()),
        None => Ok(NAME.into()),
    }
}

/// The installed library in each of the directories that the loader trusts, in the loader's order.
pub fn installed() -> Result<Vec<PathBuf>, Finding> {
    let trusted = Loader::of_system().and_then(|loader| loader.trusted());
    let trusted = trusted
        .map_err(|unknown| unknown.finding("use a vmware-bdwrapper that was built for this system"))?;
    Ok(trusted.into_iter().map(|directory| directory.join(NAME)).filter(|file| file.is_file()).collect())
}

/// What a set-user-ID program needs of the library: a name in a trusted directory, with the set-user-ID bit.
pub fn trusted() -> Vec<Finding> {
    let files = match installed() {
        Ok(files) => files,
        Err(finding) => return vec![finding],
    };
    // The loader passes over files without the bit.
    let is_set = |file: &&PathBuf| file.metadata().is_ok_and(|status| secure::has_bit(&status));
    match (files.iter().find(is_set), files.first()) {
        (Some(file), _) => {
            let fact = "is in a directory that the dynamic loader trusts, and has the set-user-ID bit";
            let mut findings = vec![Finding::ok(fact).of(file)];
            findings.extend(file_findings(file, true));
            findings
        }
        (None, Some(first)) => {
            let why = "lacks the set-user-ID bit, so the dynamic loader ignores it for set-user-ID programs";
            vec![Finding::problem(Code::NoSetUserId, why).of(first).hint(config::by_setup(""))]
        }
        (None, None) => vec![uninstalled()],
    }
}

/// Says that the library is not installed.
pub fn uninstalled() -> Finding {
    Finding::problem(Code::NotInstalled, "is not installed in a directory that the dynamic loader trusts")
        .of(NAME)
        .hint("install the package, or run as root: 'make install'")
}

/// Why `setup` would not give the installed library the set-user-ID bit.
pub fn unready() -> Option<Finding> {
    let Some(file) = installed().ok()?.into_iter().next() else { return Some(uninstalled()) };
    file_findings(&file, true).into_iter().find(|finding| finding.verdict == Verdict::Problem)
}

/// Whether a file is a library for this system's programs, and who can change it; `is_secure`: a set-user-ID program, which would
/// lend him its rights, is to load it.
pub fn file_findings(file: &Path, is_secure: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = access(file, Access::READ_OK) {
        let why =
            format!("is not readable by you ({}), so your programs do not load it", cause(&error.into()));
        let hint = format!("run as root: 'chmod a+r {}'", quoted(file));
        return vec![Finding::problem(Code::PermissionDenied, why).of(file).hint(hint)];
    }
    match (Elf::read(file).map(|elf| elf.machine), Elf::own().map(|elf| elf.machine)) {
        (Some(machine), Some(own)) if machine == own => {}
        _ => findings.push(
            Finding::problem(Code::Unsupported, "is not a library for programs of this system")
                .of(file)
                .hint("run as root: 'make install' with a library that was built for it"),
        ),
    }
    let Ok(status) = file.metadata() else { return findings };
    if is_secure {
        let who = match status.uid() {
            0 if status.mode() & OTHERS_WRITE == 0 => return findings,
            0 => {
                "can be written by users other than root, who can change what it does in set-user-ID programs"
                    .into()
            }
            user => format!("belongs to user {user}, who can change what it does in set-user-ID programs"),
        };
        let remedy = "install the library again: the package, or, as root, 'make install'";
        findings.push(Finding::problem(Code::Untrusted, who).of(file).hint(remedy));
        return findings;
    }
    if status.uid() != 0 && status.uid() != getuid().as_raw() {
        let why = format!("belongs to user {}, who can change what it does in your programs", status.uid());
        let hint = format!("run as root: 'chown root {}' and 'make install'", quoted(file));
        findings.push(Finding::warning(Code::Untrusted, why).of(file).hint(hint));
    }
    if status.mode() & OTHERS_WRITE != 0 {
        let why =
            "can be written by users other than its owner, who can change what it does in your programs";
        let hint = format!("run as its owner: 'chmod go-w {}'", quoted(file));
        findings.push(Finding::warning(Code::Untrusted, why).of(file).hint(hint));
    }
    findings
}

/// The library's file that this process has loaded.
pub fn loaded() -> Option<String> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let mut files = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let ours = |file: &&str| Path::new(file).ends_with(NAME) || Path::new(file).ends_with(BUILT);
    files.find(ours).map(str::to_owned)
}

/// Says what is wrong where a process has loaded another file than the installed library, which the loader found first.
pub fn shadowed(loaded: &Path) -> Result<Option<Finding>, Finding> {
    let files = installed()?;
    let Some(first) = files.first() else { return Ok(None) };
    let ours = |file: &PathBuf| file.canonicalize().is_ok_and(|file| file == loaded);
    Ok((!files.iter().any(ours)).then(|| {
        let why = format!(
            "is loaded by programs without the set-user-ID bit instead of the installed library {}",
            shown(first)
        );
        Finding::problem(Code::Shadowed, why).of(loaded).hint(format!(
            "run as root: 'rm {}' and 'ldconfig', or remove its directory from LD_LIBRARY_PATH",
            quoted(loaded)
        ))
    }))
}

/// The variable's value with the library behind what is there already.
pub fn appended(existing: Option<&OsStr>, library: &OsStr) -> OsString {
    let existing = existing.unwrap_or_default();
    if names(existing).any(|name| name == library.as_bytes()) {
        return existing.to_owned();
    }
    let mut value = existing.to_owned();
    if !value.is_empty() {
        value.push(":");
    }
    value.push(library);
    value
}

/// Has a command load this file of ours and no other.
pub fn preload(command: &mut Command, library: &OsStr) {
    let existing = removed(std::env::var_os(VARIABLE).as_deref());
    command.env(VARIABLE, appended(existing.as_deref(), library));
}

/// The variable's value without any file of ours; none where nothing is left.
pub fn removed(existing: Option<&OsStr>) -> Option<OsString> {
    let ours = |name: &&[u8]| {
        let file = Path::new(OsStr::from_bytes(name)).file_name();
        file.is_some_and(|file| file == NAME || file == BUILT)
    };
    let left: Vec<&[u8]> = names(existing?).filter(|name| !ours(name)).collect();
    (!left.is_empty()).then(|| OsString::from_vec(left.join(&b':')))
}

/// The names in the variable's value; see ld.so(8).
fn names(value: &OsStr) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| b" :".contains(byte)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(existing: Option<&str>, library: &str) -> OsString {
        appended(existing.map(OsStr::new), OsStr::new(library))
    }

    fn remove(existing: &str) -> Option<OsString> {
        removed(Some(OsStr::new(existing)))
    }

    #[test]
    fn what_is_preloaded_already_stays() {
        assert_eq!(append(None, "/b/x.so"), "/b/x.so");
        assert_eq!(append(Some(""), NAME), NAME);
        assert_eq!(append(Some("a.so b.so"), NAME), "a.so b.so:libvmware-bdwrapper.so.0");
        assert_eq!(append(Some("/b/x.so:a.so"), "/b/x.so"), "/b/x.so:a.so");
        assert_eq!(append(Some("a.so /b/x.so"), "/b/x.so"), "a.so /b/x.so");
        assert_eq!(append(Some("/b/x.so.1"), "/b/x.so"), "/b/x.so.1:/b/x.so");
    }

    #[test]
    fn our_files_are_removed_and_no_others() {
        assert_eq!(removed(None), None);
        assert_eq!(remove(NAME), None);
        assert_eq!(remove("a.so /x/libvmware_bdwrapper.so:b.so"), Some("a.so:b.so".into()));
        assert_eq!(
            remove("/x/libvmware-bdwrapper.so.0/a.so"),
            Some("/x/libvmware-bdwrapper.so.0/a.so".into())
        );
    }
}
