//! `vmware-bdwrapper link`: names of devices below `/dev/sd` and `/dev/hd`.

mod list;
pub(super) mod rights;
pub(super) mod rules;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::check::device::{self, Options};
use crate::file::system;
use crate::host::block::{Block, Kind};
use crate::host::scan::Host;
use crate::host::udev::{self, Access, link_name};
use crate::host::users;
use crate::program::loader::resolve;
use crate::say::failure::{Failure, print, quoted, say, shown};
use crate::say::finding::{Code, Finding, Verdict, only};
use rights::change;
use rules::{RULES, Rules, tell_udev};

pub use list::list;

/// How a link is to be made.
pub struct Wanted {
    /// The rights to the device.
    pub access: Access,
    /// A rule is to make it at each boot.
    pub persist: bool,
    /// Problems are only reported.
    pub force: bool,
    /// Nothing is changed; what would be done is printed.
    pub dry_run: bool,
}

impl Wanted {
    fn report(&self, done: &str, would: &str, what: String) -> Result<(), Failure> {
        print(format!("{} {what}\n", if self.dry_run { would } else { done }))
    }
}

/// Makes a link.
pub fn make(device: &Path, path: &Path, wanted: &Wanted) -> Result<(), Failure> {
    let name = check_name(path)?;
    wanted.access.check()?;
    let _alone = system::alone(wanted.dry_run)?;
    let host = Host::running()?;
    let block = find(&host, device)?;
    judge(block, device, &host, wanted.force)?;
    let rules = Rules::read()?;
    let is_made = is_made(path, name, block, &host, rules.has(name), wanted.force)?;
    if !is_made && rules.has(name) && !wanted.persist {
        let why = format!("is linked to another device by a rule in {RULES}");
        let hint = format!(
            "add --persist to replace the rule, or remove it first: 'vmware-bdwrapper link --remove {}'",
            quoted(path)
        );
        return Err(Finding::problem(Code::Exists, why).of(path).hint(hint).into());
    }
    let rule = match wanted.persist {
        true => Some(udev::rule(block, name, &wanted.access).map_err(|finding| finding.of(device))?),
        false => None,
    };
    if let Some(rule) = rule.as_ref().filter(|_| !wanted.dry_run) {
        rules.with(name, Some(rule)).write().map_err(|finding| {
            let hint = "without --persist, the link lasts until the next boot";
            let nothing = Finding::problem(finding.code, "Nothing was done").hint(hint);
            Failure { status: Failure::FAILED, findings: vec![finding, nothing] }
        })?;
    }
    let target = (!is_made).then(|| target(name, block));
    if let Err(mut failure) = carry_out(path, target.as_deref(), block, wanted) {
        // Nothing persists of what could not be done.
        if rule.is_some() && !wanted.dry_run {
            failure.findings.extend(rules.write().err());
        }
        return Err(failure);
    }
    if let Some(rule) = rule {
        if !wanted.dry_run {
            tell_udev(Some(block));
        }
        wanted.report("wrote", "would write", format!("to {RULES}:\n{rule}"))?;
        if let Some(file) = host.file_under(block) {
            let scan = if block.kind == Kind::Partition { "--partscan " } else { "" };
            print(format!(
                "The rule does not attach the file: have 'losetup {scan}--find --show {}' run at each boot (a unit \
                 for systemd is in vmware-bdwrapper-link(1)).\n",
                quoted(file)
            ))?;
        }
    }
    Ok(())
}

/// Makes the link, unless it exists already, and gives the device its rights.
fn carry_out(path: &Path, target: Option<&Path>, block: &Block, wanted: &Wanted) -> Result<(), Failure> {
    let device = block.path();
    match target {
        None => print(format!("{} leads to {} already\n", shown(path), shown(&device)))?,
        Some(target) => {
            if !wanted.dry_run {
                put(path, target).map_err(|error| not_made(path, &error))?;
            }
            wanted.report("linked", "would link", format!("{} to {}", shown(path), shown(&device)))?;
        }
    }
    for (tool, value) in wanted.access.commands() {
        if !wanted.dry_run {
            change(tool, &value, block)?;
        }
        wanted.report("ran", "would run", format!("{tool} {value} {}", shown(&device)))?;
    }
    Ok(())
}

/// Removes a link and the rule that makes it.
pub fn remove(path: &Path, force: bool, dry_run: bool) -> Result<(), Failure> {
    let name = check_name(path)?;
    let _alone = system::alone(dry_run)?;
    let rules = Rules::read()?;
    let link = path.symlink_metadata();
    let (is_link, has_rule) = (link.as_ref().is_ok_and(|link| link.is_symlink()), rules.has(name));
    if link.is_ok() && !is_link {
        let finding =
            Finding::problem(Code::FileType, "is not a symbolic link, so this command did not make it");
        return Err(finding.of(path).hint("remove it by hand").into());
    }
    if !is_link && !has_rule {
        let why = format!("does not exist, and no rule in {RULES} makes it");
        let hint = "'vmware-bdwrapper link --list' shows those that exist";
        return Err(Finding::problem(Code::NotFound, why).of(path).hint(hint).into());
    }
    let host = Host::running().unwrap_or_default();
    let block = host.by_path(path);
    if is_link && !has_rule && !force {
        if block.is_some_and(|block| host.is_udevs(block.number, path)) {
            let otherwise = ", or remove the link until then with --force";
            return Err(made_by_another(path, name, "would make it again", otherwise).into());
        }
        leads_to_device(path, &host, "remove it with --force")?;
    }
    let done = if dry_run { "would remove" } else { "removed" };
    if has_rule {
        if !dry_run {
            rules.with(name, None).write()?;
            tell_udev(block);
        }
        print(format!("{done} the rule for {} in {RULES}\n", shown(path)))?;
    }
    if is_link {
        if !dry_run {
            // Perhaps udev was faster.
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Finding::io("cannot be removed", &error).of(path).into());
                }
                _ => {}
            }
            // Directories go while they are empty.
            for directory in path.ancestors().skip(1).take_while(|directory| *directory != Path::new("/dev"))
            {
                if fs::remove_dir(directory).is_err() {
                    break;
                }
            }
        }
        print(format!("{done} {}\n", shown(path)))?;
    }
    if let Some(block) = block {
        say_rights(block, rules.gives_rights(name))?;
    }
    Ok(())
}

/// Says that a device keeps its rights: those of a rule, or another owner than root, which no device has by itself.
fn say_rights(block: &Block, given: bool) -> Result<(), Failure> {
    let path = block.path();
    let Some(status) = path.metadata().ok().filter(|status| given || status.uid() != 0) else {
        return Ok(());
    };
    print(format!(
        "{} still {}: 'chown root:disk {2}' and 'chmod 0660 {2}' restore the rights that udev gives to disks\n",
        shown(&path),
        users::rights(&status),
        quoted(&path)
    ))
}

/// Returns the name of a link below `/dev`.
pub(super) fn check_name(path: &Path) -> Result<&str, Finding> {
    link_name(path).ok_or_else(|| {
        Finding::problem(Code::Usage, "is not a name for a link")
            .of(path)
            .hint("give /dev/sd/NAME or /dev/hd/NAME, with letters, digits and the characters #+-.@_/ only")
    })
}

/// Finds a block device by a name that the user gave.
pub(super) fn find<'a>(host: &'a Host, device: &Path) -> Result<&'a Block, Failure> {
    let none = Finding::problem(Code::NotADevice, "is not a block device").of(device);
    let finding = match device.metadata() {
        Err(error) => {
            Finding::io("cannot be examined", &error).of(device).hint("name a block device that exists")
        }
        Ok(status) if status.is_file() => {
            none.hint(format!("make one from the file: 'losetup --find --show {}'", quoted(device)))
        }
        Ok(_) => match host.by_path(device) {
            Some(block) => return Ok(block),
            None => none.hint("name one ('vmware-bdwrapper list' shows them)"),
        },
    };
    Err(Failure::usage(finding))
}

/// Reports what is wrong with giving a device to a virtual machine; fails on a problem unless `force`.
fn judge(block: &Block, device: &Path, host: &Host, force: bool) -> Result<(), Failure> {
    let findings = device::of_node(block, device, Options { read_only: true, force }, host).all();
    for finding in findings.iter().filter(|finding| force || finding.verdict == Verdict::Warning) {
        say(finding);
    }
    if force {
        return Ok(());
    }
    let mut findings: Vec<Finding> = only(&findings, Verdict::Problem).cloned().collect();
    if findings.is_empty() {
        return Ok(());
    }
    findings.push(Finding::force_needed("Nothing was done"));
    Err(Failure { status: Failure::FAILED, findings })
}

/// Returns the text of the link, as udev writes it.
pub(super) fn target(name: &str, block: &Block) -> PathBuf {
    let up = "../".repeat(name.matches('/').count());
    Path::new(&up).join(&block.name)
}

/// Says that another udev rule makes a link, and what that rule does; `otherwise`: what helps besides changing it.
fn made_by_another(path: &Path, name: &str, does: &str, otherwise: &str) -> Finding {
    let why = format!("is made by another udev rule, which {does}");
    Finding::problem(Code::Exists, why).of(path).hint(format!(
        "change that rule ('grep -rF {name} /etc/udev/rules.d /usr/lib/udev/rules.d' may find it){otherwise}"
    ))
}

/// Fails if a link never led to a device: it leads to something else, or nowhere and not into `/dev`.
fn leads_to_device(path: &Path, host: &Host, hint: &str) -> Result<(), Finding> {
    let is_gone =
        || !path.exists() && resolve(Path::new("/"), path).is_some_and(|place| place.starts_with("dev"));
    if host.by_path(path).is_some() || is_gone() {
        return Ok(());
    }
    let target = fs::read_link(path).unwrap_or_default();
    let why = format!("leads to {}, which is not a block device", shown(&target));
    Err(Finding::problem(Code::NotADevice, why).of(path).hint(hint))
}

/// Returns whether the link to the device exists already. Fails if another one has its name, unless a rule of this command makes that,
/// its device does not exist any more, or `force`.
pub(super) fn is_made(
    path: &Path,
    name: &str,
    block: &Block,
    host: &Host,
    has_rule: bool,
    force: bool,
) -> Result<bool, Finding> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    for directory in parent.ancestors().take_while(|directory| *directory != Path::new("/dev")) {
        if directory.symlink_metadata().is_ok_and(|status| !status.is_dir()) {
            let why = format!("is not a directory, so {} cannot be made", shown(path));
            let finding = Finding::problem(Code::FileType, why).of(directory);
            return Err(finding.hint("remove it, or choose another name"));
        }
    }
    let Ok(status) = path.symlink_metadata() else { return Ok(false) };
    if !status.is_symlink() {
        let finding = Finding::problem(Code::Exists, "exists already and is not a symbolic link").of(path);
        return Err(finding.hint("remove it by hand, or choose another name"));
    }
    let other = host.by_path(path);
    if other.is_some_and(|other| other.number == block.number) {
        return Ok(true);
    }
    let by_udev = other.filter(|other| !has_rule && host.is_udevs(other.number, path));
    if by_udev.is_some() && force {
        let other = made_by_another(path, name, "may replace the new link at any time", "");
        say(Finding { verdict: Verdict::Warning, ..other });
    }
    if has_rule || force {
        return Ok(false);
    }
    const HINT: &str = "choose another name, or replace the link with --force";
    let Some(other) = other else { return leads_to_device(path, host, HINT).map(|()| false) };
    let by = if by_udev.is_some() { ", by another udev rule" } else { "" };
    let why = format!("leads to {} already{by}", shown(&other.path()));
    Err(Finding::problem(Code::Exists, why).of(path).hint(HINT))
}

/// Makes the link, or replaces one, in one step.
pub(super) fn put(path: &Path, target: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let made = tempfile::Builder::new()
        .prefix(".vmware-bdwrapper-")
        .make_in(directory, |new| symlink(target, new))?;
    made.into_temp_path().persist(path).map_err(|error| error.error)
}

/// Says that a link, directory or file cannot be made.
pub(super) fn not_made(path: &Path, error: &io::Error) -> Finding {
    Finding::io("cannot be made", error).of(path)
}
