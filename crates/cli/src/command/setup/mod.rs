//! `vmware-bdwrapper setup`: gives the installed library the set-user-ID bit and lists programs and devices, or takes the bit.

pub mod configuration;
pub mod library;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use disk::conf::{Directive, parse};

use crate::check::config::{self, FILE};
use crate::check::device;
use crate::check::exposure::exposure;
use crate::entries;
use crate::file::system;
use crate::host::block;
use crate::program::loader;
use crate::say::failure::{Failure, print, quoted, say, shown};
use crate::say::finding::{Code, Finding};
use configuration::{Change, directive};

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
    let libraries = library::plan(wanted.bit)?;
    let said = |done: &str, would: &str, what: &str| {
        print(format!("{} {what}\n", if wanted.dry_run { would } else { done }))
    };
    let mut text = None;
    if wanted.bit {
        let change = Change::plan(lines)?;
        change.remarks.iter().for_each(say);
        let backup = if wanted.dry_run { None } else { change.carry_out(true)? };
        if change.old.is_none() {
            said("created", "would create", FILE)?;
        }
        for line in &change.added {
            said("added", "would add", &format!("to {FILE}: {}", shown(line)))?;
        }
        if wanted.dry_run && change.old.is_some() && !change.added.is_empty() {
            print("would save the previous version beside it\n")?;
        }
        if let Some(backup) = backup {
            print(format!("saved the previous version as {}\n", shown(&backup)))?;
        }
        text = Some(change.new);
    }
    for file in &libraries {
        let (path, mode) = (shown(&file.library.path), file.mode);
        if file.changes_mode() {
            if !wanted.dry_run {
                file.change_mode()?;
            }
            let (done, would) = if wanted.bit { ("set", "would set") } else { ("cleared", "would clear") };
            said(done, would, &format!("the set-user-ID bit of {path} (mode {mode:04o})"))?;
        } else {
            print(format!(
                "{path} {} the set-user-ID bit\n",
                if wanted.bit { "has" } else { "does not have" }
            ))?;
        }
        // Only of what was done.
        if file.tells_dpkg() {
            if !wanted.dry_run {
                file.tell_dpkg()?;
            }
            said("told", "would tell", "dpkg, so that package upgrades keep the mode (dpkg-statoverride)")?;
        }
    }
    print(match text {
        Some(text) => risk() + &next(&text, wanted),
        None => WITHOUT.into(),
    })
}

/// Says what the bit lets any user do.
pub fn risk() -> String {
    format!(
        "Risk: any user can now have this library loaded into any set-user-ID program; there it does nothing unless {FILE} \
         lists that program.\n"
    )
}

const WITHOUT: &str = "Set-user-ID programs such as vmware-vmx ignore the library without the bit; 'vmware-bdwrapper setup \
                       --setuid' sets it again.\n";

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
            "Next: {FILE} lists no device: list one with 'vmware-bdwrapper setup --setuid --device /dev/sd/NAME'.\n"
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
                let finding = Finding::problem(Code::Usage, "is not the absolute path of a program").of(path);
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
            let why = format!("ends with a space or has a line break, which {FILE} cannot contain");
            Err(Finding::problem(Code::Usage, why).of(&line).hint("use a symbolic link without it"))
        });
        lines.collect::<Result<_, Finding>>().map_err(Failure::usage)
    }
}
