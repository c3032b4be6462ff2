//! An image file as a loop device, now and at each boot.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::step::{Act, Addition, changed, is_change};
use crate::command::link::not_made;
use crate::file::system;
use crate::host::scan::Host;
use crate::host::tool::run;
use crate::say::failure::{Failure, quoted, shown};
use crate::say::finding::{Code, Finding};

/// Where units of the administrator's stand.
const UNITS: &str = "/etc/systemd/system";

/// The loop device of a file, until the next boot.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {}

impl Act for Attach {
    fn text(&self, addition: &Addition) -> String {
        format!("make a loop device from {}", shown(&addition.device))
    }

    fn carry_out(&self, addition: &Addition) -> Result<(), Failure> {
        let file = &addition.device;
        // A device of its own, whatever the name leads to by now.
        let options = ["--find", "--show"].map(OsStr::new);
        let node = run("losetup", options.into_iter().chain([file.as_os_str()]))
            .map_err(|why| failed("losetup", &why).of(file))?;
        check_attached(file).inspect_err(|_| {
            let _ = run("losetup", ["--detach", node.trim_end()]);
        })
    }

    fn undo(&self, addition: &Addition) -> Result<Option<String>, Failure> {
        detach(addition)
    }
}

/// Fails unless a file has a loop device now: its name could have come to lead to another file, which has got one.
fn check_attached(file: &Path) -> Result<(), Failure> {
    if Host::running()?.loop_of(file).is_some() {
        return Ok(());
    }
    let why = "has been replaced by another program meanwhile";
    Err(Finding::problem(Code::InUse, why).of(file).hint("try again").into())
}

/// Detaches the loop device of a file.
fn detach(addition: &Addition) -> Result<Option<String>, Failure> {
    let host = Host::running()?;
    let file = &addition.device;
    let Some(block) = addition.block(&host) else {
        let renamed = addition.renamed(&host);
        let is_for = |name: &PathBuf| format!("is the loop device of {} now", shown(name));
        return match renamed.and_then(|block| block.file.as_ref().map(|name| (block.path(), is_for(name)))) {
            Some((path, why)) => Err(changed(path, &why)),
            None => Ok(None),
        };
    };
    let path = block.path();
    run("losetup", ["--detach".as_ref(), path.as_os_str()])
        .map_err(|why| failed("losetup", &why).of(&path))?;
    Ok(Some(format!("detached {} from {}", shown(file), shown(&path))))
}

fn failed(tool: &str, why: &str) -> Finding {
    Finding::problem(Code::Io, format!("'{tool}' failed ({why})"))
}

/// The unit that makes a loop device from a file at each boot.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// The unit's file.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
    /// The image file.
    pub file: PathBuf,
    /// Whether it is started now: the file has no loop device yet.
    pub starts: bool,
}

impl Unit {
    /// Returns the unit for a file, `scans`: with its partitions; none where the system does not run systemd, or for a name that
    /// a unit cannot hold.
    pub fn of(file: &Path, link: &str, starts: bool, scans: bool) -> Option<Unit> {
        if !Path::new("/run/systemd/system").is_dir() {
            return None;
        }
        let word = file.to_str().filter(|word| !word.contains(char::is_control))?;
        let losetup = ["/usr/sbin/losetup", "/sbin/losetup", "/usr/bin/losetup", "/bin/losetup"];
        let losetup = losetup.into_iter().find(|path| Path::new(path).exists())?;
        let argument = escaped(&word.replace('$', "$$"));
        // By the kernel's name of the file: what has the name by then may be another file.
        let detach = format!(
            "for file in /sys/block/loop*/loop/backing_file; do \
             [ \\\"$$(cat $$file 2>/dev/null)\\\" = \\\"$$0\\\" ] || continue; \
             node=$${{file%%/loop/*}}; {losetup} --detach /dev/$${{node##*/}}; done"
        );
        let text = format!(
            "# Written by 'vmware-bdwrapper add'; 'vmware-bdwrapper remove {name}' removes it.\n[Unit]\n\
             Description={description} as a block device\nRequiresMountsFor={mounts}\n\n[Service]\nType=oneshot\n\
             RemainAfterExit=yes\nExecStart={losetup} {options} --show {argument}\n\
             ExecStop=/bin/sh -c \"{detach}\" {argument}\n\n[Install]\nWantedBy=multi-user.target\n",
            options = options(scans),
            name = Path::new("/dev").join(link).display(),
            description = word.replace('%', "%%"),
            mounts = escaped(word),
        );
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "_.".contains(letter);
        let name = link.replace(|letter| !fits(letter), "-");
        let path = Path::new(UNITS).join(format!("vmware-bdwrapper-{name}.service"));
        Some(Unit { path, text, file: file.into(), starts })
    }

    fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Returns whether the file exists with this content; fails if it exists with another.
    pub fn is_made(&self) -> Result<bool, Finding> {
        match fs::read(&self.path) {
            Ok(text) if text == self.text.as_bytes() => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => {
                Err(Finding::io("cannot be read", &error).of(&self.path).hint("correct that first"))
            }
            Ok(_) => Err(Finding::problem(Code::Exists, "exists already, with other content")
                .of(&self.path)
                .hint("choose another name for the device with --name, or remove the file")),
        }
    }
}

/// Returns a word between quotation marks, as systemd.service(5) reads it.
pub fn escaped(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

impl Act for Unit {
    fn text(&self, _: &Addition) -> String {
        let file = shown(&self.file);
        let now = if self.starts { ", and now," } else { "" };
        format!("have systemd make a loop device from {file} at each boot{now} by {}", shown(&self.path))
    }

    fn carry_out(&self, _: &Addition) -> Result<(), Failure> {
        if !self.is_made()? {
            fs::create_dir_all(UNITS).map_err(|error| not_made(Path::new(UNITS), &error))?;
            system::put(&self.path, self.text.as_bytes(), false)?;
        }
        let enable = if self.starts { &["enable", "--now"][..] } else { &["enable"] };
        for arguments in [&["daemon-reload"][..], &[enable, &[self.name()]].concat()] {
            systemctl(arguments).map_err(|finding| finding.of(&self.path))?;
        }
        if self.starts { check_attached(&self.file) } else { Ok(()) }
    }

    fn undo(&self, addition: &Addition) -> Result<Option<String>, Failure> {
        if !self.path.exists() {
            return Ok(None);
        }
        if !self.is_made().unwrap_or(false) {
            return Err(changed(&self.path, "has been changed"));
        }
        let disable = if self.starts { &["disable", "--now"][..] } else { &["disable"] };
        let disabled = systemctl(&[disable, &[self.name()]].concat());
        let detached = if self.starts { detach(addition) } else { Ok(None) };
        let detached = match detached {
            Err(failure) if !is_change(&failure) => return Err(failure),
            detached => detached,
        };
        fs::remove_file(&self.path)
            .map_err(|error| Finding::io("cannot be removed", &error).of(&self.path))?;
        let reloaded = systemctl(&["daemon-reload"]);
        disabled.and(reloaded).map_err(|finding| finding.of(&self.path))?;
        detached.map(|_| Some(format!("removed {}", shown(&self.path))))
    }
}

fn systemctl(arguments: &[&str]) -> Result<(), Finding> {
    run("systemctl", arguments).map(drop).map_err(|why| {
        let command = format!("systemctl {}", arguments.join(" "));
        failed(&command, &why).hint(format!("run as root: '{command}'"))
    })
}

/// Says that nothing makes the loop device of a file at the next boot.
pub fn not_persistent(file: &Path, scans: bool) -> Finding {
    let why = "has no loop device after the next boot: systemd does not run here, or cannot hold the name";
    let command = format!("losetup {} --show {}", options(scans), quoted(file));
    let hint = format!("have '{command}' run then, by /etc/rc.local for example");
    Finding::warning(Code::Unsupported, why).of(file).hint(hint)
}

/// Returns the options of losetup(8) that make a loop device from a file, or find the one that it has.
fn options(scans: bool) -> &'static str {
    if scans { "--partscan --find --nooverlap" } else { "--find --nooverlap" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_systemd() {
        assert_eq!(escaped(r#"/a "b" 50%\"#), r#""/a \"b\" 50%%\\""#);
    }
}
