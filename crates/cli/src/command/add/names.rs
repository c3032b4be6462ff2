//! The link, the owner of the device, and the udev rule that makes both last.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::step::{Act, Addition, changed};
use crate::command::link::rights::change;
use crate::command::link::rules::{RULES, Rules, tell_udev};
use crate::command::link::{not_made, put, target};
use crate::host::block::Block;
use crate::host::scan::Host;
use crate::host::users::Database;
use crate::say::failure::{Failure, shown};
use crate::say::finding::{Code, Finding};

/// The device by its present node; for text, where there is none yet, the word for one.
fn node(addition: &Addition) -> PathBuf {
    let host = Host::running().unwrap_or_default();
    addition.block(&host).map_or_else(|| "its loop device".into(), Block::path)
}

/// Calls `act` with the block device.
fn with_block<T>(addition: &Addition, act: impl FnOnce(&Block) -> Result<T, Failure>) -> Result<T, Failure> {
    let host = Host::running()?;
    let absent = || Finding::problem(Code::NotADevice, "is not a block device").of(&addition.device);
    act(addition.block(&host).ok_or_else(absent)?)
}

/// The directories of the link.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Directories {
    /// Those that are missing, the innermost first.
    pub paths: Vec<PathBuf>,
}

impl Directories {
    /// Returns those that are missing, if any is.
    pub fn missing(link: &Path) -> Option<Directories> {
        let parents = link.ancestors().skip(1).take_while(|directory| *directory != Path::new("/dev"));
        let missing = parents.filter(|directory| !directory.exists());
        let paths: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
        (!paths.is_empty()).then_some(Directories { paths })
    }
}

impl Act for Directories {
    fn text(&self, _: &Addition) -> String {
        format!("make the directory {}", shown(self.paths.first().map_or(Path::new("/dev"), |path| path)))
    }

    fn carry_out(&self, _: &Addition) -> Result<(), Failure> {
        let made = self
            .paths
            .iter()
            .take(1)
            .try_for_each(|path| fs::create_dir_all(path).map_err(|error| not_made(path, &error)));
        Ok(made?)
    }

    fn undo(&self, _: &Addition) -> Result<Option<String>, Failure> {
        // Those that are empty.
        for directory in &self.paths {
            let _ = fs::remove_dir(directory);
        }
        Ok(None)
    }
}

/// The link.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Link {}

impl Act for Link {
    fn text(&self, addition: &Addition) -> String {
        format!("link {} to {}", shown(&addition.name), shown(&node(addition)))
    }

    fn carry_out(&self, addition: &Addition) -> Result<(), Failure> {
        with_block(addition, |block| {
            put(&addition.name, &target(addition.link(), block))
                .map_err(|error| not_made(&addition.name, &error).into())
        })
    }

    fn undo(&self, addition: &Addition) -> Result<Option<String>, Failure> {
        let path = &addition.name;
        let Ok(status) = path.symlink_metadata() else { return Ok(None) };
        if !status.is_symlink() {
            return Err(changed(path, "is no longer a symbolic link"));
        }
        let host = Host::running()?;
        let (own, found) = (addition.block_to_undo(&host), host.by_path(path));
        if let Some(found) = found.filter(|found| own.is_none_or(|own| own.number != found.number)) {
            return Err(changed(path, &format!("leads to {} now", shown(&found.path()))));
        }
        if found.is_none() && path.exists() {
            return Err(changed(path, "leads to something else now"));
        }
        fs::remove_file(path).map_err(|error| Finding::io("cannot be removed", &error).of(path))?;
        Ok(Some(format!("removed {}", shown(path))))
    }
}

/// The owner of the device.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The number of the user it is given to.
    pub user: u32,
    /// The number of the user it belonged to.
    pub before: u32,
}

impl Act for Owner {
    fn text(&self, addition: &Addition) -> String {
        let text = format!("make {} the owner of {}", addition.user, shown(&node(addition)));
        match self.before {
            0 => text,
            before => format!("{text} instead of {}", Database::Users.name(before)),
        }
    }

    fn carry_out(&self, addition: &Addition) -> Result<(), Failure> {
        with_block(addition, |block| Ok(change("chown", &self.user.to_string(), block)?))
    }

    fn undo(&self, addition: &Addition) -> Result<Option<String>, Failure> {
        let host = Host::running()?;
        let Some(block) = addition.block_to_undo(&host) else { return Ok(None) };
        let (path, before) = (block.path(), self.before);
        match path.metadata().map(|status| status.uid()) {
            Ok(now) if now == self.user => {
                change("chown", &before.to_string(), block)?;
                Ok(Some(format!("gave {} back to {}", shown(&path), Database::Users.name(before))))
            }
            Ok(now) if now != before => {
                Err(changed(&path, &format!("belongs to {} now", Database::Users.name(now))))
            }
            _ => Ok(None),
        }
    }
}

/// The rule for udev.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The rule.
    pub line: String,
    /// The rule for the link that it replaces.
    pub before: Option<String>,
}

impl Act for Rule {
    fn text(&self, _: &Addition) -> String {
        let text = format!(
            "have udev make the link and set the owner at each boot, by a rule in {RULES}:\n  {}",
            self.line
        );
        match &self.before {
            None => text,
            Some(before) => format!("{text}\n  instead of\n  {before}"),
        }
    }

    fn carry_out(&self, addition: &Addition) -> Result<(), Failure> {
        write(addition, Some(&self.line))
    }

    fn undo(&self, addition: &Addition) -> Result<Option<String>, Failure> {
        let rules = Rules::read()?;
        let name = addition.link();
        match rules.line(name) {
            Some(line) if line == self.line => {
                write(addition, self.before.as_deref())?;
                Ok(Some(format!("removed the rule for {} from {RULES}", shown(&addition.name))))
            }
            None if self.before.is_none() && !rules.mentions(name) => Ok(None),
            now if now.is_some() && now == self.before.as_deref() => Ok(None),
            _ => Err(changed(RULES, &format!("has another rule for {name} now"))),
        }
    }
}

/// Writes the rule for the link, or removes it, and tells udev.
fn write(addition: &Addition, line: Option<&str>) -> Result<(), Failure> {
    Rules::read()?.with(addition.link(), line).write()?;
    let host = Host::running().unwrap_or_default();
    tell_udev(addition.block(&host));
    Ok(())
}

/// Returns the name of a link for a device or file, of the characters that udev takes in it.
pub fn suggest(path: &OsStr) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "#+-.@_".contains(letter);
    let name: String =
        path.to_string_lossy().chars().map(|letter| if fits(letter) { letter } else { '-' }).collect();
    match name.trim_matches(['-', '.']) {
        "" => "disk".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_devices() {
        for (device, name) in
            [("windows", "windows"), ("my disk, old", "my-disk--old"), ("..", "disk"), ("\u{e4}", "disk")]
        {
            assert_eq!(suggest(OsStr::new(device)), name);
        }
    }
}
