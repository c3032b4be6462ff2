//! `vmware-bdwrapper link`: names of devices below `/dev/sd` and `/dev/hd`.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Serialize;

use crate::check::device::{self, Options};
use crate::file::system;
use crate::host::block::{Block, Kind};
use crate::host::scan::Host;
use crate::host::udev::{self, Access, link_name};
use crate::host::users::{self, Database};
use crate::program::loader::resolve;
use crate::say::failure::{Failure, cause, print, quoted, say, shown};
use crate::say::finding::{Code, Finding, Verdict, only};
use crate::say::terminal;

/// Our rules, a line each.
const RULES: &str = "/etc/udev/rules.d/90-vmware-bdwrapper.rules";

const HEAD: &str =
    "# Written by 'vmware-bdwrapper link --persist'; 'vmware-bdwrapper link --remove NAME' removes a line.\n";

/// The directories that names stand in.
const PLACES: [&str; 2] = ["/dev/sd", "/dev/hd"];

/// What is wanted of a link.
pub struct Wanted {
    /// The rights to the device.
    pub access: Access,
    /// It shall be there after the next start of the system.
    pub persist: bool,
    /// What speaks against it does not count.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Wanted {
    fn said(&self, done: &str, would: &str, what: String) -> Result<(), Failure> {
        print(format!("{} {what}\n", if self.dry_run { would } else { done }))
    }
}

/// Makes a link.
pub fn make(device: &Path, path: &Path, wanted: &Wanted) -> Result<(), Failure> {
    let name = checked(path)?;
    wanted.access.check()?;
    let _alone = system::alone(wanted.dry_run)?;
    let host = Host::running()?;
    let block = find(&host, device)?;
    judge(block, device, &host, wanted.force)?;
    let rules = Rules::read()?;
    let is_made = current(path, name, block, &host, rules.has(name), wanted.force)?;
    if !is_made && rules.has(name) && !wanted.persist {
        let why = format!("is made to lead to another device by a rule in {RULES}");
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
            let hint = "without --persist the link is made until the next start of the system";
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
        wanted.said("wrote", "would write", format!("to {RULES}:\n{rule}"))?;
        if let Some(file) = host.file_under(block) {
            let scan = if block.kind == Kind::Partition { "--partscan " } else { "" };
            print(format!(
                "The rule does not attach the file: have 'losetup {scan}--find --show {}' run at each start of the system (a unit \
                 for systemd is in vmware-bdwrapper(1)).\n",
                quoted(file)
            ))?;
        }
    }
    Ok(())
}

/// Makes the link, unless it is there already, and gives the device its rights.
fn carry_out(path: &Path, target: Option<&Path>, block: &Block, wanted: &Wanted) -> Result<(), Failure> {
    let device = block.path();
    match target {
        None => print(format!("{} leads to {} already\n", shown(path), shown(&device)))?,
        Some(target) => {
            if !wanted.dry_run {
                put(path, target).map_err(|error| not_made(path, &error))?;
            }
            wanted.said("linked", "would link", format!("{} to {}", shown(path), shown(&device)))?;
        }
    }
    for (tool, value) in wanted.access.commands() {
        if !wanted.dry_run {
            change(tool, &value, block)?;
        }
        wanted.said("ran", "would run", format!("{tool} {value} {}", shown(&device)))?;
    }
    Ok(())
}

/// Removes a link and the rule that makes it.
pub fn remove(path: &Path, force: bool, dry_run: bool) -> Result<(), Failure> {
    let name = checked(path)?;
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
            let otherwise = ", or remove the link until then by --force";
            return Err(made_by_another(path, name, "would make it again", otherwise).into());
        }
        leads_to_device(path, &host, "remove it by --force")?;
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
        "{} still {}: 'chown root:disk {2}' and 'chmod 0660 {2}' give it back the rights that udev gives to disks\n",
        shown(&path),
        users::rights(&status),
        quoted(&path)
    ))
}

/// The name below `/dev`, or why it is none.
fn checked(path: &Path) -> Result<&str, Finding> {
    link_name(path).ok_or_else(|| {
        Finding::problem(Code::Usage, "is not a name for a link")
            .of(path)
            .hint("give /dev/sd/NAME or /dev/hd/NAME, of letters, digits and the characters #+-.@_/")
    })
}

fn find<'a>(host: &'a Host, device: &Path) -> Result<&'a Block, Failure> {
    let none = Finding::problem(Code::NotADevice, "is not a block device").of(device);
    let finding = match device.metadata() {
        Err(error) => {
            Finding::io("cannot be looked at", &error).of(device).hint("name a block device that exists")
        }
        Ok(status) if status.is_file() => {
            none.hint(format!("make one of the file: 'losetup --find --show {}'", quoted(device)))
        }
        Ok(_) => match host.by_path(device) {
            Some(block) => return Ok(block),
            None => none.hint("name one ('vmware-bdwrapper list' shows them)"),
        },
    };
    Err(Failure::usage(finding))
}

/// Says what speaks against giving a device to a virtual machine; `force`: problems do not keep it from that.
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

/// Where the link leads, as udev writes it.
fn target(name: &str, block: &Block) -> PathBuf {
    let up = "../".repeat(name.matches('/').count());
    Path::new(&up).join(&block.name)
}

/// Says that another udev rule makes a link, what it does, and what else than changing it helps.
fn made_by_another(path: &Path, name: &str, does: &str, otherwise: &str) -> Finding {
    let why = format!("is made by a udev rule that is not this command's, which {does}");
    Finding::problem(Code::Exists, why).of(path).hint(format!(
        "change that rule ('grep -rF {name} /etc/udev/rules.d /usr/lib/udev/rules.d' may find it){otherwise}"
    ))
}

/// Refuses a link that was never one to a device: it leads to something else, or nowhere and not into `/dev`.
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

/// Whether a link to the device is there already. Another one in its place is refused, unless a rule of ours makes it, its device
/// is gone, or `force`.
fn current(
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
    const HINT: &str = "choose another name, or replace the link by --force";
    let Some(other) = other else { return leads_to_device(path, host, HINT).map(|()| false) };
    let by = if by_udev.is_some() { ", by a udev rule that is not this command's" } else { "" };
    let why = format!("leads to {} already{by}", shown(&other.path()));
    Err(Finding::problem(Code::Exists, why).of(path).hint(HINT))
}

/// Makes the link, or replaces one, in one step.
fn put(path: &Path, target: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let made = tempfile::Builder::new()
        .prefix(".vmware-bdwrapper-")
        .make_in(directory, |new| symlink(target, new))?;
    made.into_temp_path().persist(path).map_err(|error| error.error)
}

fn not_made(path: &Path, error: &io::Error) -> Finding {
    Finding::io("cannot be made", error).of(path)
}

impl Access {
    /// Users and groups must exist, for udev as well; a mode is octal.
    fn check(&self) -> Result<(), Failure> {
        let names = [(Database::Users, &self.owner, "user"), (Database::Groups, &self.group, "group")];
        for (database, name, what) in names {
            let Some(name) = name else { continue };
            let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number && (name.is_empty() || name.starts_with('-') || !database.has(name)) {
                let finding =
                    Finding::problem(Code::NotFound, format!("is not the name of a {what}")).of(name);
                return Err(Failure::usage(finding.hint("name one that exists")));
            }
        }
        match &self.mode {
            Some(mode)
                if !u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o777) || mode.starts_with('+') =>
            {
                let finding = Finding::problem(Code::Usage, "is not the mode of a device").of(mode);
                Err(finding.hint("give an octal number such as 0660").into())
            }
            _ => Ok(()),
        }
    }

    /// The programs that give the device these rights, and their arguments.
    fn commands(&self) -> impl Iterator<Item = (&'static str, String)> {
        let owner = match (&self.owner, &self.group) {
            (None, None) => None,
            (owner, group) => {
                let group = group.as_ref().map(|group| format!(":{group}")).unwrap_or_default();
                Some(("chown", owner.clone().unwrap_or_default() + &group))
            }
        };
        owner.into_iter().chain(self.mode.clone().map(|mode| ("chmod", mode)))
    }
}

fn change(tool: &str, value: &str, block: &Block) -> Result<(), Finding> {
    let path = block.path();
    let done = run(tool, &["--", value, &path.to_string_lossy()]);
    let why = match done {
        Ok(done) if done.status.success() => return Ok(()),
        Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        Err(error) => cause(&error),
    };
    let finding = Finding::problem(Code::Io, format!("its rights cannot be changed ({why})")).of(&path);
    Err(finding.hint(format!("change them by hand: '{tool} {} {}'", quoted(value), quoted(&path))))
}

fn run(program: &str, arguments: &[&str]) -> io::Result<Output> {
    Command::new(program).args(arguments).stdin(Stdio::null()).output()
}

/// Has udev, where it runs, read its rules and look at the device again.
fn tell_udev(block: Option<&Block>) {
    if !Path::new("/run/udev/control").exists() {
        return;
    }
    let mut steps = vec![vec!["control".to_owned(), "--reload".into()]];
    let device = block.map(|block| format!("--name-match={}", block.path().display()));
    steps.extend(
        device.map(|device| vec!["trigger".into(), "--settle".into(), "--action=change".into(), device]),
    );
    for arguments in steps {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if !run("udevadm", &arguments).is_ok_and(|done| done.status.success()) {
            let why = format!("'udevadm {}' failed", arguments.join(" "));
            let finding = Finding::warning(Code::Io, why);
            say(finding.hint("the rule takes effect after the next start of the system"));
        }
    }
}

/// The text of our rules.
struct Rules(String);

/// Whether a rule goes on behind a line; `before`: whether one did behind the line before. udev passes over comments, even between
/// the lines of a rule.
fn continues(line: &str, before: bool) -> bool {
    if line.trim_start().starts_with('#') { before } else { line.ends_with('\\') }
}

impl Rules {
    fn read() -> Result<Rules, Finding> {
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

    /// The lines with their ends, each with the link that it makes where it is one of ours, and no part of another rule.
    fn lines(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let mut goes_on = false;
        self.0.split_inclusive('\n').map(move |line| {
            let text = line.trim_end_matches(['\n', '\r']);
            let link = udev::link_of(text).filter(|_| !goes_on);
            goes_on = continues(text, goes_on);
            (line, link)
        })
    }

    /// The links that our rules make.
    fn links(&self) -> impl Iterator<Item = &str> {
        self.lines().filter_map(|(_, link)| link)
    }

    fn has(&self, name: &str) -> bool {
        self.links().any(|link| link == name)
    }

    /// Whether our rule for a name gives the device rights.
    fn gives_rights(&self, name: &str) -> bool {
        let gives = |line: &str| [", OWNER=", ", GROUP=", ", MODE="].iter().any(|key| line.contains(key));
        self.lines().any(|(line, link)| link == Some(name) && gives(line))
    }

    /// The rules with this one for a name, and no other of ours for it.
    fn with(&self, name: &str, rule: Option<&str>) -> Rules {
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

    fn write(&self) -> Result<(), Finding> {
        let path = Path::new(RULES);
        if self.0.is_empty() || self.0 == HEAD {
            return fs::remove_file(path).map_err(|error| Finding::io("cannot be removed", &error).of(RULES));
        }
        let directory = path.parent().unwrap_or(path);
        fs::create_dir_all(directory).map_err(|error| not_made(directory, &error))?;
        system::put(path, self.0.as_bytes(), false).map(drop)
    }
}

/// What is said of a link.
#[derive(Serialize)]
struct Link {
    /// The link.
    name: String,
    /// What it holds; null where only a rule has it.
    target: Option<String>,
    /// The device that it leads to, by the kernel's name; null where there is none.
    device: Option<String>,
    /// What the device is.
    kind: Option<&'static str>,
    /// Whether one of our rules makes it.
    persistent: bool,
    /// `ok`; `stale`: it leads to no device; `missing`: its rule has found no device.
    state: &'static str,
}

#[derive(Serialize)]
struct Document {
    links: Vec<Link>,
}

/// Prints the links that are there and those that rules would make.
pub fn list(json: bool) -> Result<(), Failure> {
    let host = Host::running()?;
    let rules = Rules::read()?;
    let ruled: Vec<PathBuf> = rules.links().map(|name| Path::new("/dev").join(name)).collect();
    let mut names = Vec::new();
    for place in PLACES {
        walk(Path::new(place), &mut names);
    }
    names.extend(ruled.iter().cloned());
    names.sort();
    names.dedup();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let links = names.iter().map(|path| {
        let target = fs::read_link(path).ok();
        let block = host.by_path(path).filter(|_| target.is_some());
        Link {
            name: text(path),
            target: target.as_deref().map(text),
            device: block.map(|block| text(&block.path())),
            kind: block.map(|block| block.kind.name()),
            persistent: ruled.contains(path),
            state: match (&target, block) {
                (Some(_), Some(_)) => "ok",
                (Some(_), None) => "stale",
                (None, _) => "missing",
            },
        }
    });
    let links: Vec<Link> = links.collect();
    if json {
        return print(crate::say::json::text(&Document { links })?);
    }
    if links.is_empty() {
        return print("There are no links in /dev/sd and /dev/hd, and no rules for any.\n");
    }
    let rows: Vec<[String; 5]> = links.into_iter().map(Link::cells).collect();
    print(terminal::table(["Link", "Device", "Kind", "Persistent", "State"], &rows, 5, str::to_owned))
}

impl Link {
    fn cells(self) -> [String; 5] {
        let device = self.device.or(self.target).unwrap_or_default();
        let [name, device] = [&self.name, &device].map(|name| shown(name).to_string());
        let persistent = if self.persistent { "yes" } else { "no" };
        [name, device, self.kind.unwrap_or_default().into(), persistent.into(), self.state.into()]
    }
}

fn walk(directory: &Path, names: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() => names.push(entry.path()),
            Ok(kind) if kind.is_dir() => walk(&entry.path(), names),
            _ => {}
        }
    }
}
