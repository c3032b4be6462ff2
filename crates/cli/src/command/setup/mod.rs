//! `vmware-bdwrapper setup`: gives the installed library the set-user-ID bit and lists programs and devices, or takes the bit.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::conf::{Directive, MAX_BYTES, OTHERS_WRITE, parse};

use crate::check::config::{self, FILE, read};
use crate::check::exposure::exposure;
use crate::check::{device, library};
use crate::entries::{self, Device};
use crate::file::system;
use crate::host::block;
use crate::host::tool::run;
use crate::program::loader;
use crate::program::secure::SET_USER_ID;
use crate::say::failure::{Failure, print, quoted, say, shown};
use crate::say::finding::{Code, Finding};

/// The file as it is before anybody has changed it.
const DEFAULT: &[u8] = include_bytes!("../../../../data/vmware-bdwrapper.conf");

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
    let lines = wanted.lines()?;
    for program in &wanted.programs {
        if let Some(finding) = exposure(program) {
            return Err(finding.into());
        }
    }
    let libraries = libraries()?;
    let overrides = libraries.iter().map(|file| plan_override(file, wanted.bit));
    let overrides = overrides.collect::<Result<Vec<_>, _>>()?;
    let said = |done: &str, would: &str, what: &str| {
        print(format!("{} {what}\n", if wanted.dry_run { would } else { done }))
    };
    let mut text = None;
    if wanted.bit {
        let change = Change::plan(lines)?;
        change.remarks.iter().for_each(say);
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
    for (file, arguments) in libraries.iter().zip(overrides) {
        let mode = with_bit(file.mode, wanted.bit);
        if mode == file.mode {
            print(format!(
                "{} {} the set-user-ID bit\n",
                shown(&file.path),
                if wanted.bit { "has" } else { "does not have" }
            ))?;
        } else {
            if !wanted.dry_run {
                file.change(mode)?;
            }
            let (done, would) =
                if wanted.bit { ("gave", "would give") } else { ("took from", "would take from") };
            said(done, would, &format!("{} the set-user-ID bit (mode {mode:04o})", shown(&file.path)))?;
        }
        // Only of what was done.
        if let Some(arguments) = arguments {
            if !wanted.dry_run {
                tell_dpkg(&arguments, &file.path)?;
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
            Directive::Device(_) | Directive::Messages(_) | Directive::Supervise(_) => {}
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
        device::judge(&listed, &[], self.force).map_err(|uses| Failure {
            status: Failure::FAILED,
            findings: [uses, vec![Finding::force_needed("Nothing was done")]].concat(),
        })?;
        for device in &listed {
            if !device.entry.force && block::is_real_path(device.path()) {
                let hint = "to list it all the same, give it the option force";
                return Err(Failure::usage(block::real(device.path()).hint(hint)));
            }
        }
        let programs = self.programs.iter().map(|path| {
            if !path.is_absolute() || !path.is_file() {
                let finding = Finding::problem(Code::Usage, "is not the absolute name of a program").of(path);
                let meant = loader::absolute(path);
                return Err(match meant.is_file() {
                    true => finding.hint(format!("write {}", quoted(&meant))),
                    false => finding.hint("give one"),
                });
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
            let why = format!("ends with a blank or has a line break, which {FILE} cannot hold");
            Err(Finding::problem(Code::Usage, why).of(&line).hint("use a symbolic link without"))
        });
        lines.collect::<Result<_, Finding>>().map_err(Failure::usage)
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
    /// What is wrong with lines that exist.
    remarks: Vec<Finding>,
}

impl Change {
    fn plan(lines: Vec<OsString>) -> Result<Change, Finding> {
        let old = match read() {
            Ok(text) => Some(text),
            Err(_)
                if Path::new(FILE)
                    .symlink_metadata()
                    .is_err_and(|error| error.kind() == ErrorKind::NotFound) =>
            {
                None
            }
            Err(finding) => return Err(finding),
        };
        Change::of(old, lines)
    }

    fn of(old: Option<Vec<u8>>, lines: Vec<OsString>) -> Result<Change, Finding> {
        let mut new = old.clone().unwrap_or_else(|| DEFAULT.into());
        let (mut added, mut remarks) = (Vec::new(), Vec::new());
        remarks.extend(parse(&new).filter_map(Result::err).map(|error| config::ignored_line(&error)));
        for line in lines {
            let wanted = parse(line.as_bytes()).next();
            let is_there = parse(&new).any(|found| Some(found) == wanted);
            if is_there {
                continue;
            }
            if let Some(Ok(Directive::Device(wanted))) = wanted {
                let same = |found| matches!(found, Directive::Device(found) if found.path == wanted.path);
                if parse(&new).flatten().any(same) {
                    let why = format!("is listed in {FILE} already, with other options");
                    let finding = Finding::problem(Code::Different, why).of(OsStr::from_bytes(wanted.path));
                    return Err(finding.hint("change that line in the file"));
                }
                let listed = config::devices(&new);
                let wanted = Device { text: &line, entry: wanted };
                if let Some(other) = config::contradicted(&listed, &wanted) {
                    let why = format!(
                        "is listed in {FILE} by the line 'device {}', with other options than '{}'",
                        shown(other.text),
                        shown(&line)
                    );
                    return Err(Finding::problem(Code::Different, why)
                        .of(wanted.path())
                        .hint("give both the same, or change that line in the file"));
                }
            }
            if new.last().is_some_and(|&byte| byte != b'\n') {
                new.push(b'\n');
            }
            new.extend_from_slice(line.as_bytes());
            new.push(b'\n');
            added.push(line);
        }
        if new.len() as u64 > MAX_BYTES {
            let why = format!("would have {} bytes, and the library takes at most {MAX_BYTES}", new.len());
            return Err(Finding::problem(Code::Malformed, why).of(FILE).hint("shorten it"));
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
    fn change(&self, mode: u32) -> Result<(), Finding> {
        self.file.set_permissions(Permissions::from_mode(mode)).map_err(|error| {
            let finding = Finding::io("its mode cannot be changed", &error).of(&self.path);
            finding.hint(format!("see how it is mounted: 'findmnt --target {}'", quoted(&self.path)))
        })
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
            Finding::io("cannot be looked at", &error).of(&path).hint("correct that first")
        })?;
        if status.uid() != 0 || status.mode() & OTHERS_WRITE != 0 {
            let why = format!(
                "belongs to user {} and has the mode {:04o}, so others than root may have written it",
                status.uid(),
                status.mode() & 0o7777
            );
            return Err(Finding::problem(Code::Untrusted, why).of(&path).hint("install the library anew"));
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
            "gets the user {user} and the mode {before:o} from dpkg at the next upgrade (dpkg-statoverride), so others than root \
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
        "is as it should be now, but dpkg cannot be told of it ({why}), so the next upgrade of the package undoes that"
    );
    Err(Finding::problem(Code::Io, why).of(file).hint("run this again when dpkg works"))
}
