//! `vmware-bdwrapper setup`: gives the installed library the set-user-ID bit and lists programs and devices, or takes the bit.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::conf::{Directive, parse};

use crate::check::config;
use crate::check::config::{FILE, MOST, OTHERS_WRITE, exposed, read};
use crate::check::device;
use crate::check::library;
use crate::entries;
use crate::entries::Device;
use crate::file::system;
use crate::host::block;
use crate::say::failure::{Failure, cause, note, print, quoted, say, shown};
use crate::say::finding::Finding;

/// The file as it is before anybody has changed it.
const DEFAULT: &[u8] = include_bytes!("../../../../data/vmware-bdwrapper.conf");

const SET_USER_ID: u32 = 0o4000;

/// What is wanted.
pub struct Wanted {
    /// The library is to have the set-user-ID bit.
    pub bit: bool,
    /// Programs to be listed.
    pub programs: Vec<PathBuf>,
    /// Entries of devices to be listed.
    pub devices: Vec<OsString>,
    /// List devices that something uses, too.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Does it. Everything is looked at before anything is changed.
pub fn setup(wanted: &Wanted) -> Result<(), Failure> {
    let _alone = system::alone(wanted.dry_run)?;
    let failed = |sentence| Failure::new(Failure::FAILED, sentence);
    let lines = wanted.lines()?;
    for program in &wanted.programs {
        if let Some(Finding { cause, hint: remedy, .. }) = exposed(program) {
            return Err(failed(format!("{cause}: {}.", remedy.unwrap_or_default())));
        }
    }
    let libraries = libraries().map_err(failed)?;
    let overrides = libraries.iter().map(|file| Override::plan(file, wanted.bit));
    let overrides = overrides.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let said = |done: &str, would: &str, what: &str| {
        print(format!("{} {what}\n", if wanted.dry_run { would } else { done }))
    };
    let mut text = None;
    if wanted.bit {
        let change = Change::plan(lines).map_err(failed)?;
        for remark in &change.remarks {
            note(remark);
        }
        let backup = if wanted.dry_run { None } else { change.carry_out()? };
        if change.old.is_none() {
            said("created", "would create", FILE)?;
        }
        for line in &change.added {
            said("added", "would add", &format!("to {FILE}: {}", shown(line)))?;
        }
        if wanted.dry_run && change.old.is_some() && !change.added.is_empty() {
            print("would keep the file before beside it\n")?;
        }
        if let Some(backup) = backup {
            print(format!("kept the file before as {}\n", shown(&backup)))?;
        }
        text = Some(change.new);
    }
    for (file, told) in libraries.iter().zip(overrides) {
        let mode = with_bit(file.mode, wanted.bit);
        if mode == file.mode {
            print(format!(
                "{} {} the set-user-ID bit\n",
                shown(&file.path),
                if wanted.bit { "has" } else { "does not have" }
            ))?;
        } else {
            if !wanted.dry_run {
                file.change(mode).map_err(failed)?;
            }
            let (done, would) =
                if wanted.bit { ("gave", "would give") } else { ("took from", "would take from") };
            said(done, would, &format!("{} the set-user-ID bit (mode {mode:04o})", shown(&file.path)))?;
        }
        // Only of what was done.
        if let Some(told) = told {
            if !wanted.dry_run {
                told.carry_out(&file.path).map_err(failed)?;
            }
            said(
                "told",
                "would tell",
                "dpkg, so that upgrades of the package keep that (dpkg-statoverride)",
            )?;
        }
    }
    print(match text {
        Some(text) => format!(
            "Risk: any user can now have this library loaded into any set-user-ID program; there it does nothing unless \
             {FILE} lists that program.\n{}",
            next(&text, wanted)
        ),
        None => WITHOUT.into(),
    })
}

const WITHOUT: &str = "Set-user-ID programs such as vmware-vmx ignore the library without the bit; 'vmware-bdwrapper setup \
                       --setuid' gives it again.\n";

/// What is still to be done, given the text of the file and what was set up just now.
fn next(text: &[u8], wanted: &Wanted) -> String {
    let program = wanted.programs.first().map_or_else(|| "vmware".into(), quoted);
    let (mut has_program, mut user_devices) = (false, false);
    for directive in parse(text).flatten() {
        match directive {
            Directive::Executable(path) => has_program |= Path::new(OsStr::from_bytes(path)).is_file(),
            Directive::AllowUserDevices(yes) => user_devices = yes,
            Directive::Device(_) | Directive::Messages(_) => {}
        }
    }
    let device = config::devices(text).first().map(|device| device.text);
    if !has_program {
        format!(
            "Next: none of the programs that {FILE} lists is on this machine: install VMware, or list another program by \
             'vmware-bdwrapper setup --setuid --program FILE'.\n"
        )
    } else if let Some(device) = wanted.devices.first().map(OsString::as_os_str).or(device) {
        format!("Next: vmware-bdwrapper run --device {} -- {program}\n", quoted(device))
    } else if user_devices {
        format!("Next: vmware-bdwrapper run --device /dev/sd/NAME -- {program}\n")
    } else {
        format!(
            "Next: {FILE} lists no device: list one by 'vmware-bdwrapper setup --setuid --device /dev/sd/NAME'.\n"
        )
    }
}

impl Wanted {
    /// The lines that the file shall have.
    fn lines(&self) -> Result<Vec<OsString>, Failure> {
        let listed = entries::parse(&self.devices)?;
        let otherwise = "Nothing was done: add --force to list such a device all the same.";
        device::judge(&listed, &[], self.force).map_err(|uses| Failure {
            status: Failure::FAILED,
            findings: [uses, vec![Finding::sentence(otherwise)]].concat(),
        })?;
        for device in &listed {
            if !device.entry.force && block::is_real_path(device.path()) {
                return Err(Failure::new(
                    Failure::USAGE,
                    format!(
                        "{}: is a physical disk, which needs no wrapper: give it the option force where that is what you want.",
                        device.entry.printed_path()
                    ),
                ));
            }
        }
        let programs = self.programs.iter().map(|path| {
            if !path.is_absolute() || !path.is_file() {
                return Err(format!("{}: is no program: give the absolute name of one.", shown(path)));
            }
            Ok(directive("executable ", path.as_os_str()))
        });
        let devices = self.devices.iter().map(|entry| Ok(directive("device ", entry)));
        let lines = programs.chain(devices).map(|line| {
            let line = line?;
            let text = line.as_bytes();
            if text.trim_ascii_end() == text && !text.contains(&b'\n') {
                return Ok(line);
            }
            Err(format!(
                "{}: ends with a blank or has a line break, which {FILE} cannot hold: use a symbolic link without.",
                shown(&line)
            ))
        });
        lines.collect::<Result<_, _>>().map_err(|sentence| Failure::new(Failure::USAGE, sentence))
    }
}

fn directive(name: &str, value: &OsStr) -> OsString {
    let mut line = OsString::from(name);
    line.push(value);
    line
}

/// A change of the administrator's file.
struct Change {
    /// What it holds; none where there is none.
    old: Option<Vec<u8>>,
    new: Vec<u8>,
    /// The lines that are new.
    added: Vec<OsString>,
    /// What is wrong with lines that are there; sentences.
    remarks: Vec<String>,
}

impl Change {
    fn plan(lines: Vec<OsString>) -> Result<Change, String> {
        let old = match read() {
            Ok(text) => Some(text),
            Err(_)
                if Path::new(FILE)
                    .symlink_metadata()
                    .is_err_and(|error| error.kind() == ErrorKind::NotFound) =>
            {
                None
            }
            Err(finding) => return Err(finding.to_string()),
        };
        Change::of(old, lines)
    }

    fn of(old: Option<Vec<u8>>, lines: Vec<OsString>) -> Result<Change, String> {
        let mut new = old.clone().unwrap_or_else(|| DEFAULT.into());
        let (mut added, mut remarks) = (Vec::new(), Vec::new());
        remarks.extend(
            parse(&new)
                .filter_map(Result::err)
                .map(|error| format!("{FILE}, {error}. The line does not count.")),
        );
        for line in lines {
            let wanted = parse(line.as_bytes()).next();
            let is_there = parse(&new).any(|found| Some(found) == wanted);
            if is_there {
                continue;
            }
            if let Some(Ok(Directive::Device(wanted))) = wanted {
                let same = |found| matches!(found, Directive::Device(found) if found.path == wanted.path);
                if parse(&new).flatten().any(same) {
                    return Err(format!(
                        "{FILE} lists {} already, with other options: change that line in the file.",
                        wanted.printed_path()
                    ));
                }
                let listed = config::devices(&new);
                let wanted = Device { text: &line, entry: wanted };
                if let Some(other) = config::contradicted(&listed, &wanted) {
                    return Err(format!(
                        "{FILE} has the line 'device {}', which is the same device as that of '{}', with other options: give both \
                         the same, or change that line in the file.",
                        shown(other.text),
                        shown(&line)
                    ));
                }
            }
            if new.last().is_some_and(|&byte| byte != b'\n') {
                new.push(b'\n');
            }
            new.extend_from_slice(line.as_bytes());
            new.push(b'\n');
            added.push(line);
        }
        if new.len() as u64 > MOST {
            return Err(format!(
                "{FILE} would have {} bytes, and the library takes at most {MOST}: shorten it.",
                new.len()
            ));
        }
        Ok(Change { old, new, added, remarks })
    }

    /// The name by which the file before is kept, where there was one.
    fn carry_out(&self) -> Result<Option<PathBuf>, Finding> {
        match &self.old {
            Some(old) if *old == self.new => Ok(None),
            _ => system::put(Path::new(FILE), &self.new, true),
        }
    }
}

/// A file of the installed library.
struct Library {
    path: PathBuf,
    file: File,
    group: u32,
    mode: u32,
}

/// A mode with the set-user-ID bit or without it.
fn with_bit(mode: u32, bit: bool) -> u32 {
    mode & !SET_USER_ID | if bit { SET_USER_ID } else { 0 }
}

impl Library {
    fn change(&self, mode: u32) -> Result<(), String> {
        self.file.set_permissions(Permissions::from_mode(mode)).map_err(|error| {
            format!(
                "The mode of {} cannot be changed ({}): is its file system mounted read-only?",
                shown(&self.path),
                cause(&error)
            )
        })
    }
}

/// The installed library, once where several names lead to it. Only one that nobody but root can have written will do.
fn libraries() -> Result<Vec<Library>, String> {
    let found = library::installed()?;
    if found.is_empty() {
        return Err(format!(
            "The library {} is not installed in a directory that the dynamic loader trusts: install the package, or run \
             'make install'.",
            library::NAME
        ));
    }
    let files: BTreeSet<PathBuf> =
        found.into_iter().map(|file| file.canonicalize().unwrap_or(file)).collect();
    let look = |path: PathBuf| {
        let file = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        let (status, file) = file.map_err(|error| {
            format!("{} cannot be looked at ({}): mend that first.", shown(&path), cause(&error))
        })?;
        if status.uid() != 0 || status.mode() & OTHERS_WRITE != 0 {
            return Err(format!(
                "{0} belongs to user {1} and has the mode {2:04o}, so others than root may have written it: install the \
                 library anew.",
                shown(&path),
                status.uid(),
                status.mode() & 0o7777
            ));
        }
        Ok(Library { path, file, group: status.gid(), mode: status.mode() & 0o7777 })
    };
    files.into_iter().map(look).collect()
}

/// What dpkg is to be told where a package of its own owns the library, to which it would give other rights at the next upgrade.
struct Override {
    /// Arguments of dpkg-statoverride(1), before the file's name.
    arguments: Vec<String>,
}

impl Override {
    /// None where there is nothing to be told. Of the rights that dpkg has been told already the bit alone changes.
    fn plan(library: &Library, bit: bool) -> Result<Option<Override>, String> {
        let file = shown(&library.path);
        let owner = Command::new("dpkg-query").arg("--search").arg(&library.path).output();
        if !owner.is_ok_and(|owner| owner.status.success()) {
            return Ok(None);
        }
        let told = Command::new("dpkg-statoverride").arg("--list").arg(&library.path).output();
        let told = told.map_err(|error| {
            format!("dpkg-statoverride cannot be run ({}): install dpkg completely.", cause(&error))
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
            return Err(format!(
                "dpkg gives {file} to user {user} and the mode {before:o} at the next upgrade, as dpkg-statoverride told it, so others \
                 than root could write it: run 'dpkg-statoverride --remove {}'.",
                quoted(&library.path)
            ));
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
        Ok(Some(Override { arguments }))
    }

    fn carry_out(&self, file: &Path) -> Result<(), String> {
        let done = Command::new("dpkg-statoverride").arg("--quiet").args(&self.arguments).arg(file).output();
        let why = match done {
            Ok(done) if done.status.success() => return Ok(()),
            Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
            Err(error) => cause(&error),
        };
        Err(format!(
            "{} is as it should be now, but dpkg cannot be told of it ({why}), so the next upgrade of the package undoes that: run this \
             again when dpkg works.",
            shown(file)
        ))
    }
}
