//! The udev rules that make links, a line each.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::not_made;
use crate::file::system;
use crate::host::block::Block;
use crate::host::tool::run;
use crate::host::udev;
use crate::say::failure::say;
use crate::say::finding::{Code, Finding};

/// The file of the rules.
pub const RULES: &str = "/etc/udev/rules.d/90-vmware-bdwrapper.rules";

const HEAD: &str =
    "# Written by 'vmware-bdwrapper link --persist'; 'vmware-bdwrapper link --remove NAME' removes a line.\n";

/// The text of the file.
pub struct Rules(String);

/// Returns whether a rule continues after a line; `before`: whether one continued in that line. udev skips comments, even between the
/// lines of a rule.
fn continues(line: &str, before: bool) -> bool {
    if line.trim_start().starts_with('#') { before } else { line.ends_with('\\') }
}

impl Rules {
    pub fn read() -> Result<Rules, Finding> {
        let of_rules = |finding: Finding| finding.of(RULES).hint("correct it, or remove it");
        match fs::metadata(RULES) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Rules(String::new())),
            Ok(status) if !status.is_file() => {
                return Err(of_rules(Finding::problem(Code::FileType, "is not a regular file")));
            }
            _ => {}
        }
        let text = fs::read(RULES).map_err(|error| of_rules(Finding::io("cannot be read", &error)))?;
        let malformed = |_| of_rules(Finding::problem(Code::Malformed, "is not UTF-8"));
        String::from_utf8(text).map(Rules).map_err(malformed)
    }

    /// Returns the lines with their line ends, each with the link that it makes if it is a rule of this command and no part of another.
    fn lines(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let mut goes_on = false;
        self.0.split_inclusive('\n').map(move |line| {
            let text = line.trim_end_matches(['\n', '\r']);
            let link = udev::link_of(text).filter(|_| !goes_on);
            goes_on = continues(text, goes_on);
            (line, link)
        })
    }

    /// Returns the links that the rules of this command make.
    pub fn links(&self) -> impl Iterator<Item = &str> {
        self.lines().filter_map(|(_, link)| link)
    }

    pub fn has(&self, name: &str) -> bool {
        self.links().any(|link| link == name)
    }

    /// Returns the rule for a name.
    pub fn line(&self, name: &str) -> Option<&str> {
        let found = self.lines().find(|(_, link)| *link == Some(name));
        found.map(|(line, _)| line.trim_end_matches(['\n', '\r']))
    }

    /// Returns whether a line mentions a link, whoever wrote it.
    pub fn mentions(&self, name: &str) -> bool {
        self.0.contains(&format!("\"{name}\""))
    }

    /// Returns whether the rule for a name gives the device rights.
    pub fn gives_rights(&self, name: &str) -> bool {
        let gives = |line: &str| [", OWNER=", ", GROUP=", ", MODE="].iter().any(|key| line.contains(key));
        self.lines().any(|(line, link)| link == Some(name) && gives(line))
    }

    /// Returns the rules with this one for a name, and no other of this command for it.
    pub fn with(&self, name: &str, rule: Option<&str>) -> Rules {
        let lines = self.lines().filter(|(_, link)| *link != Some(name));
        let mut text: String = lines.map(|(line, _)| line).collect();
        if self.0.is_empty() {
            text += HEAD;
        }
        if let Some(rule) = rule {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            // An empty line ends a rule that would go on in this one.
            if text.lines().fold(false, |goes_on, line| continues(line, goes_on)) {
                text.push('\n');
            }
            text = text + rule + "\n";
        }
        Rules(text)
    }

    pub fn write(&self) -> Result<(), Finding> {
        let path = Path::new(RULES);
        if self.0.is_empty() || self.0 == HEAD {
            return fs::remove_file(path).map_err(|error| Finding::io("cannot be removed", &error).of(RULES));
        }
        let directory = path.parent().unwrap_or(path);
        fs::create_dir_all(directory).map_err(|error| not_made(directory, &error))?;
        system::put(path, self.0.as_bytes(), false).map(drop)
    }
}

/// Makes udev, if it runs, read its rules and process the device again.
pub fn tell_udev(block: Option<&Block>) {
    if !Path::new("/run/udev/control").exists() {
        return;
    }
    let reload = vec!["control".to_owned(), "--reload".into()];
    let trigger = block.map(|block| {
        let device = format!("--name-match={}", block.path().display());
        vec!["trigger".into(), "--settle".into(), "--action=change".into(), device]
    });
    for arguments in [reload].into_iter().chain(trigger) {
        if run("udevadm", &arguments).is_err() {
            let why = format!("'udevadm {}' failed", arguments.join(" "));
            let finding = Finding::warning(Code::Io, why);
            say(finding.hint("the rule takes effect after the next boot"));
        }
    }
}
