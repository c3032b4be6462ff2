//! `vmware-bdwrapper setup`: gives the installed library the set-user-ID bit and lists programs and devices, or takes the bit.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use disk::conf::{Directive, parse};

use crate::administrator::{FILE, MOST, read};
use crate::failure::{Failure, cause, print, say, shown};
use crate::{block, devices, library, root};

/// The file as it is before anybody has changed it.
const DEFAULT: &[u8] = include_bytes!("../../../data/vmware-bdwrapper.conf");

/// The file before the last change. A name that dpkg removes along with the file (dpkg's `REMOVECONFFEXTS`).
const BACKUP: &str = "/etc/vmware-bdwrapper.conf.bak";

const SET_USER_ID: u32 = 0o4000;

/// What is wanted.
pub struct Wanted {
    /// The library is to have the set-user-ID bit.
    pub bit: bool,
    /// Programs to be listed.
    pub programs: Vec<PathBuf>,
    /// Entries of devices to be listed.
    pub devices: Vec<OsString>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Does it. Everything is looked at before anything is changed.
pub fn setup(wanted: &Wanted) -> Result<(), Failure> {
    if !wanted.dry_run {
        root::required(if wanted.bit { "setup --setuid" } else { "setup --no-setuid" })?;
    }
    let failed = |sentence| Failure::new(Failure::FAILED, sentence);
    let lines = wanted.lines()?;
    let libraries = libraries().map_err(failed)?;
    let said = |done: &str, would: &str, what: &str| {
        print(format!("{} {what}\n", if wanted.dry_run { would } else { done }))
    };
    let mut text = None;
    if wanted.bit {
        let change = Change::plan(lines).map_err(failed)?;
        for remark in &change.remarks {
            say(remark);
        }
        if !wanted.dry_run {
            change.carry_out().map_err(failed)?;
        }
        if change.old.is_none() {
            said("created", "would create", FILE)?;
        }
        for line in &change.added {
            said("added", "would add", &format!("to {FILE}: {}", shown(line)))?;
        }
        if change.old.is_some() && !change.added.is_empty() {
            said("kept", "would keep", &format!("the file before as {BACKUP}"))?;
        }
        text = Some(change.new);
    }
    for file in &libraries {
        let mode = file.mode & !SET_USER_ID | if wanted.bit { SET_USER_ID } else { 0 };
        let is_told = match Dpkg::of(&file.path) {
            Some(dpkg) => dpkg.keep(mode, wanted).map_err(failed)?,
            None => false,
        };
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
        if is_told {
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
            next(&text)
        ),
        None => WITHOUT.into(),
    })
}

const WITHOUT: &str = "Set-user-ID programs such as vmware-vmx ignore the library without the bit; 'vmware-bdwrapper setup \
                       --setuid' gives it again.\n";

/// What is still to be done, given the text of the file.
fn next(text: &[u8]) -> String {
    let (mut device, mut has_program, mut user_devices) = (None, false, false);
    for directive in parse(text).flatten() {
        match directive {
            Directive::Executable(path) => has_program |= Path::new(OsStr::from_bytes(path)).is_file(),
            Directive::Device(entry) => device = device.or(Some(entry)),
            Directive::AllowUserDevices(yes) => user_devices = yes,
            Directive::Messages(_) => {}
        }
    }
    if !has_program {
        format!(
            "Next: none of the programs that {FILE} lists is on this machine: install VMware, or list another program by \
             'vmware-bdwrapper setup --setuid --program FILE'.\n"
        )
    } else if let Some(device) = device {
        format!("Next: vmware-bdwrapper run --device {} -- vmware\n", device.printed_path())
    } else if user_devices {
        "Next: vmware-bdwrapper run --device /dev/sd/NAME -- vmware\n".into()
    } else {
        format!(
            "Next: {FILE} lists no device: list one by 'vmware-bdwrapper setup --setuid --device /dev/sd/NAME'.\n"
        )
    }
}

impl Wanted {
    /// The lines that the file shall have.
    fn lines(&self) -> Result<Vec<OsString>, Failure> {
        let listed = devices::parse(&self.devices)?;
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
        listed.iter().filter_map(devices::absent).for_each(say);
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
            if let Some(Ok(Directive::Device(wanted))) = wanted
                && !is_there
                && parse(&new)
                    .flatten()
                    .any(|found| matches!(found, Directive::Device(found) if found.path == wanted.path))
            {
                return Err(format!(
                    "{FILE} lists {} already, with other options: change that line in the file.",
                    wanted.printed_path()
                ));
            }
            if !is_there {
                if new.last().is_some_and(|&byte| byte != b'\n') {
                    new.push(b'\n');
                }
                new.extend_from_slice(line.as_bytes());
                new.push(b'\n');
                added.push(line);
            }
        }
        if new.len() as u64 > MOST {
            return Err(format!(
                "{FILE} would have {} bytes, and the library takes at most {MOST}: shorten it.",
                new.len()
            ));
        }
        Ok(Change { old, new, added, remarks })
    }

    fn carry_out(&self) -> Result<(), String> {
        match &self.old {
            Some(old) if *old == self.new => return Ok(()),
            Some(old) => root::put(Path::new(BACKUP), old)?,
            None => {}
        }
        root::put(Path::new(FILE), &self.new)
    }
}

/// A file of the installed library.
struct Library {
    path: PathBuf,
    file: File,
    mode: u32,
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
        if status.uid() != 0 || status.mode() & 0o022 != 0 {
            return Err(format!(
                "{0} belongs to user {1} and has the mode {2:04o}, so others than root may have written it: install the \
                 library anew.",
                shown(&path),
                status.uid(),
                status.mode() & 0o7777
            ));
        }
        Ok(Library { path, file, mode: status.mode() & 0o7777 })
    };
    files.into_iter().map(look).collect()
}

/// The package manager dpkg, where a package of its own owns the file: it would give the file another mode at the next upgrade.
struct Dpkg<'a>(&'a Path);

impl Dpkg<'_> {
    fn of(file: &Path) -> Option<Dpkg<'_>> {
        let owner = Command::new("dpkg-query").arg("--search").arg(file).output();
        owner.is_ok_and(|owner| owner.status.success()).then_some(Dpkg(file))
    }

    fn statoverride(&self, arguments: &[&str]) -> Result<Output, String> {
        let output = Command::new("dpkg-statoverride").args(arguments).arg(self.0).output();
        output.map_err(|error| {
            format!("dpkg-statoverride cannot be run ({}): install dpkg completely.", cause(&error))
        })
    }

    /// Has dpkg keep the mode, where it is not the package's own; whether that is a change.
    fn keep(&self, mode: u32, wanted: &Wanted) -> Result<bool, String> {
        let line = self.statoverride(&["--list"])?.stdout;
        let is_kept = line.starts_with(format!("root root {mode:o} ").as_bytes());
        if if wanted.bit { is_kept } else { line.is_empty() } {
            return Ok(false);
        }
        let mut steps = Vec::new();
        let mode = format!("{mode:o}");
        if !line.is_empty() {
            steps.push(vec!["--quiet", "--remove"]);
        }
        if wanted.bit {
            steps.push(vec!["--quiet", "--add", "root", "root", &mode]);
        }
        for arguments in steps.iter().filter(|_| !wanted.dry_run) {
            let output = self.statoverride(arguments)?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(format!("dpkg-statoverride failed for {}: {}", shown(self.0), said.trim()));
            }
        }
        Ok(true)
    }
}
