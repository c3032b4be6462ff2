//! The files of the installed library, and their set-user-ID bit.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::conf::OTHERS_WRITE;

use crate::check::library;
use crate::host::tool::run;
use crate::program::secure::SET_USER_ID;
use crate::say::failure::quoted;
use crate::say::finding::{Code, Finding};

/// A file of the installed library.
pub struct Library {
    /// Its path, without symbolic links.
    pub path: PathBuf,
    file: File,
    group: u32,
    mode: u32,
}

/// A mode with the set-user-ID bit or without it.
fn with_bit(mode: u32, bit: bool) -> u32 {
    mode & !SET_USER_ID | if bit { SET_USER_ID } else { 0 }
}

/// What is to be done so that a file of the installed library has the set-user-ID bit or does not.
pub struct BitChange {
    /// The file.
    pub library: Library,
    /// The mode that it is to have.
    pub mode: u32,
    /// What dpkg-statoverride(1) is told.
    arguments: Option<Vec<String>>,
}

/// Returns what is to be done so that the files of the installed library have the bit or do not.
pub fn plan(bit: bool) -> Result<Vec<BitChange>, Finding> {
    let of_file = |library: Library| {
        let arguments = plan_override(&library, bit)?;
        Ok(BitChange { mode: with_bit(library.mode, bit), arguments, library })
    };
    libraries()?.into_iter().map(of_file).collect()
}

impl BitChange {
    /// Returns whether the file's mode is to be changed.
    pub fn changes_mode(&self) -> bool {
        self.mode != self.library.mode
    }

    /// Returns whether dpkg is to be told.
    pub fn tells_dpkg(&self) -> bool {
        self.arguments.is_some()
    }

    /// Changes the file's mode.
    pub fn change_mode(&self) -> Result<(), Finding> {
        let Library { path, file, .. } = &self.library;
        file.set_permissions(Permissions::from_mode(self.mode)).map_err(|error| {
            let finding = Finding::io("its mode cannot be changed", &error).of(path);
            finding.hint(format!("see how it is mounted: 'findmnt --target {}'", quoted(path)))
        })
    }

    /// Tells dpkg of the mode.
    pub fn tell_dpkg(&self) -> Result<(), Finding> {
        self.arguments.as_ref().map_or(Ok(()), |arguments| tell_dpkg(arguments, &self.library.path))
    }
}

/// The installed library, once where several names lead to it. Only one that nobody but root can have written will do.
fn libraries() -> Result<Vec<Library>, Finding> {
    let found = library::installed()?;
    if found.is_empty() {
        return Err(library::uninstalled());
    }
    let files: BTreeSet<PathBuf> =
        found.into_iter().map(|file| file.canonicalize().unwrap_or(file)).collect();
    let look = |path: PathBuf| {
        let file = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        let (status, file) = file.map_err(|error| {
            Finding::io("cannot be examined", &error).of(&path).hint("correct that first")
        })?;
        if status.uid() != 0 || status.mode() & OTHERS_WRITE != 0 {
            let why = format!(
                "belongs to user {} and has the mode {:04o}, so users other than root may have written it",
                status.uid(),
                status.mode() & 0o7777
            );
            return Err(Finding::problem(Code::Untrusted, why).of(&path).hint("install the library again"));
        }
        Ok(Library { path, file, group: status.gid(), mode: status.mode() & 0o7777 })
    };
    files.into_iter().map(look).collect()
}

/// Returns the arguments of dpkg-statoverride(1), before the file's name, that tell dpkg of the bit where a package of its own owns
/// the library, to which it would give other rights at the next upgrade; none where there is nothing to be told. Of the rights that
/// dpkg has been told already the bit alone changes.
fn plan_override(library: &Library, bit: bool) -> Result<Option<Vec<String>>, Finding> {
    if run("dpkg-query", ["--search".as_ref(), library.path.as_os_str()]).is_err() {
        return Ok(None);
    }
    let told = Command::new("dpkg-statoverride").arg("--list").arg(&library.path).output();
    let told = told.map_err(|error| {
        Finding::io("cannot be run", &error).of("dpkg-statoverride").hint("install dpkg completely")
    })?;
    let told = String::from_utf8_lossy(&told.stdout);
    let mut words = told.split(' ');
    let told = match (words.next(), words.next(), words.next().map(|mode| u32::from_str_radix(mode, 8))) {
        (Some(user), Some(group), Some(Ok(mode))) => Some((user, group, mode)),
        _ => None,
    };
    let own = match library.group {
        0 => "root".into(),
        group => format!("#{group}"),
    };
    let (user, group, before) = told.unwrap_or(("root", &own, library.mode));
    if bit && (user != "root" || before & OTHERS_WRITE != 0) {
        let why = format!(
            "gets the user {user} and the mode {before:o} from dpkg at the next upgrade (dpkg-statoverride), so users other than root \
                 could write it"
        );
        let finding = Finding::problem(Code::Untrusted, why).of(&library.path);
        let word = quoted(&library.path);
        return Err(finding.hint(format!("run as root: 'dpkg-statoverride --remove {word}'")));
    }
    let mode = with_bit(before, bit);
    let arguments = match told {
        None if !bit => return Ok(None),
        Some(_) if mode == before => return Ok(None),
        // The package's own rights.
        Some(_) if (user, group, mode) == ("root", "root", 0o644) => vec!["--remove"],
        Some(_) => vec!["--force-statoverride-add", "--add", user, group],
        None => vec!["--add", user, group],
    };
    let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    if arguments.len() > 1 {
        arguments.push(format!("{mode:o}"));
    }
    Ok(Some(arguments))
}

/// Tells dpkg of the rights of a file.
fn tell_dpkg(arguments: &[String], file: &Path) -> Result<(), Finding> {
    let arguments = arguments.iter().map(OsStr::new).chain([file.as_os_str()]);
    let Err(why) = run("dpkg-statoverride", [OsStr::new("--quiet")].into_iter().chain(arguments)) else {
        return Ok(());
    };
    let why = format!(
        "is as it should be now, but dpkg cannot be told ({why}), so the next package upgrade undoes this"
    );
    Err(Finding::problem(Code::Io, why).of(file).hint("run this again when dpkg works"))
}
