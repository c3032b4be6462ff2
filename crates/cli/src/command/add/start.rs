//! What starts VMware with the devices: entries of the desktop's menu, and units of the user's systemd.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::image::escaped;
use super::record::Record;
use super::step::{Act, Addition, Step, changed};
use crate::command::link::not_made;
use crate::file::{Place, directory, exists};
use crate::program::find::find;
use crate::say::failure::{Failure, shown};
use crate::say::finding::{Code, Finding};

/// The first line of each file.
const MARK: &str = "# Written by 'vmware-bdwrapper add'; 'vmware-bdwrapper remove' removes it.\n";

/// The option of `run`, up to the entry.
const OPTION: &str = " --device \"";

/// A file that calls `vmware-bdwrapper run` with each device of the user.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Starter {
    /// The file.
    pub path: PathBuf,
    /// The virtual machine that a unit starts; none for an entry of the menu.
    pub vmx: Option<PathBuf>,
    /// Its text without devices.
    pub text: String,
    /// The outermost directory that is made for it.
    pub made: Option<PathBuf>,
}

/// Returns the entries of a user's menu that stand beside those of VMware's.
pub fn menu_entries(home: &Path) -> Vec<Starter> {
    let places = ["/usr/share/applications", "/usr/local/share/applications"];
    let programs = ["workstation", "player"];
    let found = programs.iter().filter_map(|program| {
        let files = places.iter().map(|place| format!("{place}/vmware-{program}.desktop"));
        let text = files.filter_map(|file| fs::read_to_string(file).ok()).next()?;
        let path = home.join(format!(".local/share/applications/vmware-bdwrapper-{program}.desktop"));
        Some(Starter { path, vmx: None, text: menu_text(&text, &own_command()), made: None })
    });
    found.collect()
}

/// Returns an entry of the menu that calls this command, made from one that calls VMware.
fn menu_text(entry: &str, command: &str) -> String {
    let mut text = MARK.to_owned();
    let mut groups = 0;
    for line in entry.lines() {
        groups += u32::from(line.starts_with('['));
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let is_name = groups == 1 && (key == "Name" || key.starts_with("Name["));
        text += &match key.trim_end() {
            "Exec" => format!("Exec={command} run -- {}\n", value.trim_start()),
            // The desktop would call VMware by D-Bus instead.
            "DBusActivatable" => continue,
            _ if is_name => format!("{line} with block devices\n"),
            _ => format!("{line}\n"),
        };
    }
    text
}

/// Returns the unit of a user that starts a virtual machine without a window.
pub fn unit(home: &Path, vmx: &Path) -> Result<Starter, Failure> {
    let file = vmx.to_str().filter(|file| !file.contains(char::is_control)).ok_or_else(|| {
        let why = "has a name that a systemd unit cannot have";
        Finding::problem(Code::Unsupported, why).of(vmx).hint("rename it, or omit --headless")
    })?;
    let vmrun = find("vmrun".as_ref()).map_err(|finding| {
        let hint = "install VMware Workstation, which it is a part of, or omit --headless";
        Failure { status: Failure::FAILED, findings: vec![finding.hint(hint)] }
    })?;
    let (vmrun, word) = (vmrun.display(), escaped(&file.replace('$', "$$")));
    let stem = vmx.file_stem().unwrap_or_default().to_string_lossy();
    let text = format!(
        "{MARK}[Unit]\nDescription=Virtual machine {description}\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart={command} run -- {vmrun} -T ws start {word} nogui\nExecStop={vmrun} -T ws stop {word} soft\n\
         TimeoutStopSec=5min\n\n[Install]\nWantedBy=default.target\n",
        description = stem.replace('%', "%%"),
        command = own_command(),
    );
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    let name = format!("vmware-bdwrapper-{}.service", stem.replace(|letter| !fits(letter), "-"));
    let path = home.join(".config/systemd/user").join(name);
    Ok(Starter { path, vmx: Some(vmx.into()), text, made: None })
}

/// Returns how a file calls this command: by its path, unless quotation marks would be needed.
fn own_command() -> String {
    let is_plain =
        |path: &String| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.+".contains(&byte));
    let path = std::env::current_exe().map(|path| path.to_string_lossy().into_owned());
    path.ok().filter(is_plain).unwrap_or_else(|| "vmware-bdwrapper".to_owned())
}

fn option(entry: &str) -> String {
    format!("{OPTION}{entry}\"")
}

/// Returns a file's text with one more device.
fn with_entry(text: &str, entry: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        match line.starts_with("Exec=") || line.starts_with("ExecStart=") {
            true => line.replacen(" run ", &format!(" run{} ", option(entry)), 1),
            false => line.to_owned(),
        }
    });
    lines.collect()
}

/// Returns a file's text without devices.
fn without_entries(text: &str) -> String {
    let mut parts = text.split(OPTION);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('"').map_or(part, |(_, rest)| rest))
}

impl Starter {
    /// Returns what is to be done for a device; nothing where the file has it. Is called with the user's rights.
    pub fn missing(mut self, entry: &str, record: &Record) -> Result<Option<Starter>, Finding> {
        if !exists(&self.path)? {
            let missing = self.path.ancestors().skip(1).take_while(|directory| !directory.exists());
            self.made = missing.last().map(Path::to_path_buf);
            return Ok(Some(self));
        }
        let text = String::from_utf8_lossy(&Place::of(&self.path)?.read()?).into_owned();
        let known = record.starters().find(|starter| starter.path == self.path);
        if !text.starts_with(MARK) || known.is_some_and(|known| known.vmx != self.vmx) {
            let finding = Finding::problem(Code::Exists, "exists already, for something else").of(&self.path);
            return Err(finding.hint("rename it, or remove it if you do not need it"));
        }
        if text.contains(&option(entry)) {
            return Ok(None);
        }
        self.made = known.and_then(|known| known.made.clone());
        Ok(Some(Starter { text: without_entries(&text), ..self }))
    }

    /// Returns the name of the file.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Removes the directories that were made for it, if they are empty.
    fn remove_directories(&self) {
        let Some(made) = &self.made else { return };
        for directory in self.path.ancestors().skip(1).take_while(|directory| directory.starts_with(made)) {
            let _ = fs::remove_dir(directory);
        }
    }

    /// Removes the file, and the link by which systemd starts it.
    fn remove(&self) -> Result<(), Finding> {
        let wants = directory(&self.path).join("default.target.wants");
        let link = wants.join(self.name());
        if link.is_symlink() {
            fs::remove_file(&link).map_err(|error| Finding::io("cannot be removed", &error).of(&link))?;
            // Only where it is empty.
            let _ = fs::remove_dir(&wants);
        }
        fs::remove_file(&self.path)
            .map_err(|error| Finding::io("cannot be removed", &error).of(&self.path))?;
        self.remove_directories();
        Ok(())
    }
}

impl Record {
    /// Returns the files that start VMware.
    pub fn starters(&self) -> impl Iterator<Item = &Starter> {
        let steps = self.additions.iter().flat_map(|addition| &addition.steps);
        steps.filter_map(|step| if let Step::Starter(starter) = step { Some(starter) } else { None })
    }
}

impl Act for Starter {
    fn text(&self, addition: &Addition) -> String {
        let (user, path) = (&addition.user, shown(&self.path));
        match self.vmx {
            None => format!("start VMware with it from the menu of {user}: {path}"),
            Some(_) => {
                format!("start the virtual machine with it without a window, if {user} enables that: {path}")
            }
        }
    }

    fn carry_out(&self, addition: &Addition) -> Result<(), Failure> {
        addition.as_user(|| {
            let parent = directory(&self.path);
            fs::create_dir_all(parent).map_err(|error| not_made(parent, &error))?;
            let mut place = Place::of(&self.path)?;
            if !exists(&self.path)? {
                return Ok(place.create(with_entry(&self.text, &addition.entry).as_bytes())?);
            }
            let text = String::from_utf8_lossy(&place.read()?).into_owned();
            place.replace(with_entry(&text, &addition.entry).as_bytes(), false)?;
            Ok(())
        })
    }

    fn undo(&self, addition: &Addition) -> Result<Option<String>, Failure> {
        addition.undo_as_user(&self.path, || {
            if !exists(&self.path)? {
                self.remove_directories();
                return Ok(None);
            }
            let mut place = Place::of(&self.path)?;
            let text = String::from_utf8_lossy(&place.read()?).into_owned();
            let rest = text.replace(&option(&addition.entry), "");
            if rest == self.text {
                self.remove()?;
                return Ok(Some(format!("removed {}", shown(&self.path))));
            }
            if rest == text {
                return Ok(None);
            }
            if !rest.contains(OPTION) {
                return Err(changed(&self.path, "has been changed"));
            }
            place.replace(rest.as_bytes(), false)?;
            Ok(Some(format!("removed {} from {}", shown(&addition.name), shown(&self.path))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_menu_entry() {
        let vmware = "[Desktop Entry]\nName=VMware\nName[de]=VMware\nExec=/usr/bin/vmware %U\nDBusActivatable=true\n\n\
                      [Desktop Action new]\nName=New\nExec=vmware -n\n";
        let text = menu_text(vmware, "/usr/bin/vmware-bdwrapper");
        let wanted = |devices: &str| {
            format!(
                "{MARK}[Desktop Entry]\nName=VMware with block devices\nName[de]=VMware with block devices\n\
                 Exec=/usr/bin/vmware-bdwrapper run{devices} -- /usr/bin/vmware %U\n\n[Desktop Action new]\nName=New\n\
                 Exec=/usr/bin/vmware-bdwrapper run{devices} -- vmware -n\n"
            )
        };
        assert_eq!(text, wanted(""));
        let one = with_entry(&text, "/dev/sd/a");
        assert_eq!(one, wanted(" --device \"/dev/sd/a\""));
        let two = with_entry(&one, "/dev/sd/b=sata");
        assert_eq!(two, wanted(" --device \"/dev/sd/b=sata\" --device \"/dev/sd/a\""));
        assert_eq!(two.replace(&option("/dev/sd/b=sata"), ""), one);
        assert_eq!(without_entries(&two), text);
    }
}
