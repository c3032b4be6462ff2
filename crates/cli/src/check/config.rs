//! What a program in secure mode needs before the library can act in it.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use disk::conf::{Directive, Distrust, LineError, MAX_BYTES, Subject, check_trust, parse};
use disk::entry::{Entry, Kind, Printed};
pub use disk::names::CONFIGURATION_FILE as FILE;
use rustix::io::Errno;
use rustix::process::getuid;

use crate::check::exposure::exposure;
use crate::check::library;
use crate::entries::{self, Device};
use crate::file::read_start;
use crate::host::block;
use crate::host::udev;
use crate::host::users::Database;
use crate::program::secure;
use crate::say::failure::{cause, quoted, shown};
use crate::say::finding::{Code, Finding, Verdict};

/// Looks at what a program that runs in secure mode with these devices needs of the administrator.
pub fn examine(file: &Path, status: &Metadata, devices: &[Device<'_>]) -> Vec<Finding> {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|found| (found.dev(), found.ino()) == (status.dev(), status.ino()))
    };
    match read() {
        Ok(text) => compare(&text, file, exposure(file), devices, is_program, may_open, block::is_real_path),
        Err(unread) => vec![unread],
    }
}

/// The programs that the file lists and that are there.
pub fn programs() -> Result<Vec<PathBuf>, Finding> {
    let text = read()?;
    let listed = parse(&text).filter_map(|line| match line {
        Ok(Directive::Executable(path)) => Some(PathBuf::from(OsStr::from_bytes(path))),
        _ => None,
    });
    Ok(listed.filter(|path| path.is_file()).collect())
}

/// A program that the file lists and that runs in secure mode: VMware's launcher starts it sooner or later.
pub struct Launched {
    /// Its file.
    pub program: PathBuf,
    /// What is found of the library that it needs.
    pub library: Vec<Finding>,
    /// What is found of the file.
    pub configuration: Vec<Finding>,
}

/// Looks at what the programs need that VMware's launcher starts, with these devices.
pub fn launched(devices: &[Device<'_>]) -> Result<Vec<Launched>, Finding> {
    let examined = programs()?.into_iter().filter_map(|program| {
        let status = program.metadata().ok()?;
        secure::is_secure(&program, &status).ok().filter(|&is_secure| is_secure)?;
        let configuration = examine(&program, &status, devices);
        Some(Launched { program, library: library::trusted(), configuration })
    });
    Ok(examined.collect())
}

/// The devices that the text of the file lists.
pub fn devices(text: &[u8]) -> Vec<Device<'_>> {
    let of_line = |line| {
        let Some(Ok(Directive::Device(entry))) = parse(line).next() else { return None };
        let text = line.trim_ascii().strip_prefix(b"device")?.trim_ascii();
        Some(Device { text: OsStr::from_bytes(text), entry })
    };
    text.split(|&byte| byte == b'\n').filter_map(of_line).collect()
}

/// Which of these is the same device under another name and with other options.
pub fn contradicted<'a, 'b>(listed: &'a [Device<'b>], device: &Device<'_>) -> Option<&'a Device<'b>> {
    let (path, number) = (device.entry.path, entries::identity(device)?);
    listed.iter().find(|other| {
        other.entry.path != path
            && Entry { path, ..other.entry } != device.entry
            && entries::identity(other) == Some(number)
    })
}

/// Whether all these programs open a device with root's rights: they have the set-user-ID bit, and the file lists it.
pub fn is_opened_by_root(programs: &[PathBuf], device: &Device<'_>) -> bool {
    let is_roots = |file: &PathBuf| {
        file.metadata().is_ok_and(|status| {
            status.uid() == 0 && secure::has_bit(&status) && secure::is_secure(file, &status).unwrap_or(false)
        })
    };
    let is_listed = |text: Vec<u8>| devices(&text).iter().any(|one| one.entry.path == device.entry.path);
    !programs.is_empty() && programs.iter().all(is_roots) && read().is_ok_and(is_listed)
}

/// The text; where the library ignores the file, or the user may not read it, that.
pub fn read() -> Result<Vec<u8>, Finding> {
    let unreadable = |error: io::Error| {
        let why = format!(
            "you may not read it ({}), so whether it lists the program and the devices is unknown",
            cause(&error)
        );
        Finding::warning(Code::Unknown, why).of(FILE).hint("ask the administrator")
    };
    let status = Path::new(FILE).symlink_metadata().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Finding::problem(Code::NotFound, "does not exist")
            .of(FILE)
            .hint(by_setup("") + ", or write it (vmware-bdwrapper.conf(5))"),
        _ => unreadable(error),
    })?;
    if let Some(fault) = fault_of(&status) {
        return Err(fault);
    }
    read_start(Path::new(FILE), MAX_BYTES).map_err(unreadable)
}

/// Whether there is a file that could count, and that the user may not read.
pub fn is_unread() -> bool {
    read().is_err_and(|finding| finding.verdict == Verdict::Warning)
}

/// What `setup` is to do, with these options: a request without its first capital and full stop. It begins with what `setup` would
/// refuse to work without.
pub fn by_setup(options: &str) -> String {
    as_root(&format!("'vmware-bdwrapper setup --setuid{options}'"))
}

/// What root is to run, behind what the command would refuse to work without.
fn as_root(command: &str) -> String {
    let fault = || fault_of(&Path::new(FILE).symlink_metadata().ok()?);
    match library::unready().or_else(fault).and_then(|finding| finding.hint) {
        Some(first) => format!("{first}, and then {command}"),
        None => format!("run as root: {command}"),
    }
}

/// What lists a device, as a request without its first capital and full stop.
fn listing(device: &Device<'_>) -> String {
    let setup = format!("'vmware-bdwrapper setup --setuid --device {}'", quoted(device.text));
    as_root(&match by_add(device) {
        Some(add) => format!("{add}, or only {setup}"),
        None => setup,
    })
}

/// The command that does all that VMware needs for a block device, and what else it does; none for options that it
/// cannot give.
fn by_add(device: &Device<'_>) -> Option<String> {
    let (path, kind) = (device.path(), device.entry.kind);
    let is_plain = Entry::new(device.entry.path, kind) == device.entry;
    if !is_plain || !path.metadata().is_ok_and(|status| status.file_type().is_block_device()) {
        return None;
    }
    let has_name = udev::link_name(path).is_some();
    let option = match kind {
        Kind::Scsi => "",
        Kind::Ide if has_name => "",
        Kind::Ide => " --kind ide",
        Kind::Sata => " --kind sata",
    };
    let user = Database::Users.name(getuid().as_raw());
    let does =
        if has_name { "does all that VMware needs" } else { "does all that VMware needs, under a new name" };
    Some(format!("'vmware-bdwrapper add {} --to {}{option}', which {does}", quoted(path), quoted(&user)))
}

/// Returns the line that lists a device.
pub fn line_of(entry: &OsStr) -> String {
    format!("device {}", entry.to_string_lossy())
}

/// Names lines of the file: the rest of a sentence.
pub fn lines(lines: &[String]) -> String {
    let quoted: Vec<String> = lines.iter().map(|line| format!("'{line}'")).collect();
    format!("{} {}", if lines.len() == 1 { "line" } else { "lines" }, quoted.join(" and "))
}

/// Says how to add lines to the file, or make it; without the first capital and the full stop.
pub fn adding(lines: &[String]) -> String {
    let words: Vec<String> = lines.iter().map(|line| quoted(line).to_string()).collect();
    // An existing file keeps its mode.
    let readable = match Path::new(FILE).symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => format!(" && sudo chmod 644 {FILE}"),
        _ => String::new(),
    };
    format!(
        "add the {}: 'printf \"%s\\n\" {} | sudo tee -a {FILE}{readable}'",
        self::lines(lines),
        words.join(" ")
    )
}

fn fault_of(status: &Metadata) -> Option<Finding> {
    fault(status.uid(), status.mode(), status.len())
}

/// Why the library ignores a file.
fn fault(owner: u32, mode: u32, bytes: u64) -> Option<Finding> {
    let (code, why, remedy) = match check_trust(owner, mode, bytes).err()? {
        Distrust::NotRegular => {
            let remedy = format!("run as root: 'rm {FILE}' and 'vmware-bdwrapper setup --setuid'");
            (Code::FileType, "is not a regular file".into(), remedy)
        }
        Distrust::Owner(owner) => {
            (Code::Untrusted, format!("belongs to user {owner}"), format!("run as root: 'chown root {FILE}'"))
        }
        Distrust::WritableByOthers => {
            let remedy = format!("run as root: 'chmod go-w {FILE}'");
            (Code::Untrusted, "can be written by users other than root".into(), remedy)
        }
        Distrust::TooLong(bytes) => {
            let why = format!("has {bytes} bytes, more than {MAX_BYTES}");
            (Code::Malformed, why, "shorten it as root".into())
        }
    };
    Some(Finding::problem(code, format!("{why}, so it is ignored")).of(FILE).hint(remedy))
}

/// Whether the user may open a device himself; one that does not exist yet is not judged.
fn may_open(device: &Device<'_>) -> bool {
    matches!(device.refused(), None | Some(Errno::NOENT))
}

/// Says that the library ignores a line of the file.
pub fn ignored_line(error: &LineError<'_>) -> Finding {
    let subject = format!("{FILE}, line {}", error.line);
    let why = format!("{}, so the line is ignored", error.fault);
    Finding::warning(Code::Malformed, why).of(subject).hint("correct the line as root")
}

/// Says that a `supervise` line names nobody.
fn unknown(subject: &Subject<'_>) -> Option<Finding> {
    let (database, what, name) = match *subject {
        Subject::User(name) => (Database::Users, "user", name),
        Subject::Group(name) => (Database::Groups, "group", name),
    };
    let name = OsStr::from_bytes(name);
    if name.to_str().is_some_and(|name| database.has(name)) {
        return None;
    }
    let why = format!("names the {what} {}, which does not exist, in a line 'supervise'", quoted(name));
    Some(Finding::warning(Code::NotFound, why).of(FILE).hint("correct the line as root"))
}

/// Compares the text of the file with what is wanted.
fn compare(
    text: &[u8],
    file: &Path,
    exposure: Option<Finding>,
    devices: &[Device<'_>],
    is_program: impl Fn(&Path) -> bool,
    may_open: impl Fn(&Device<'_>) -> bool,
    is_real: impl Fn(&Path) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut is_listed, mut user_devices, listed) = (false, false, self::devices(text));
    for line in parse(text) {
        match line {
            Ok(Directive::Executable(path)) => is_listed |= is_program(Path::new(OsStr::from_bytes(path))),
            Ok(Directive::AllowUserDevices(yes)) => user_devices = yes,
            Ok(Directive::Supervise(subject)) => findings.extend(unknown(&subject)),
            Ok(Directive::Device(_) | Directive::Messages(_)) => {}
            Err(error) => findings.push(ignored_line(&error)),
        }
    }
    let file = file.canonicalize().unwrap_or(file.into());
    match exposure {
        // `setup` would not list it.
        Some(Finding { cause, hint: Some(remedy), .. }) if !is_listed => {
            let why = format!("is not listed in {FILE}, and {cause}");
            let hint = format!("{remedy}, and then run 'vmware-bdwrapper setup --setuid --program FILE'");
            findings.push(Finding::problem(Code::Untrusted, why).of(&file).hint(hint));
        }
        exposure => {
            findings.extend(exposure);
            findings.push(if is_listed {
                Finding::ok(format!("is safe and lists {}", shown(&file))).of(FILE)
            } else {
                let hint = by_setup(&format!(" --program {}", quoted(&file)));
                Finding::problem(Code::NotListed, format!("is not listed in {FILE}")).of(&file).hint(hint)
            });
        }
    }
    for device in devices {
        let text = Printed(device.text.as_bytes());
        let problem = |code, why: String| Finding::problem(code, why).of(device.path());
        let warning = |code, why: String| Finding::warning(code, why).of(device.path());
        let held = listed.iter().map(|one| one.entry).find(|entry| entry.path == device.entry.path);
        let unlisted = format!("is not listed in {FILE}");
        // What the environment forces does not count; a line that is yet to be added can say so.
        let force = held.map_or(!user_devices && device.entry.force, |entry| entry.force);
        if !force && is_real(device.path()) {
            let hint = format!("to use it all the same, list it in {FILE} with the option force");
            findings.push(block::real(device.path()).hint(hint));
            continue;
        }
        if let Some(other) = contradicted(&listed, device).filter(|_| held.is_none()) {
            let cause = format!(
                "is listed in {FILE} by the line 'device {}', with other options than {text}",
                shown(other.text)
            );
            let remedy = format!(
                "write the entry as the file has it ('--device {}'), or change that line as root",
                quoted(other.text)
            );
            // What the line says holds under the other name, too.
            findings.push(
                match user_devices && other.entry.kind == device.entry.kind {
                    true => warning(Code::Different, cause),
                    false => problem(Code::Different, cause),
                }
                .hint(remedy),
            );
            continue;
        }
        findings.push(match held {
            Some(entry) if entry == device.entry => Finding::ok(format!("is listed in {FILE}")).of(device.path()),
            // Programs without the set-user-ID bit would see another disk.
            Some(entry) if entry.kind != device.entry.kind => {
                let why = format!(
                    "is listed in {FILE} as {}, and not as {}, so VMware's programs would not agree on which disk it is",
                    entry.kind.name(),
                    device.entry.kind.name()
                );
                problem(Code::Different, why)
                    .hint("write the entry as the file has it, or correct the line as root")
            }
            Some(_) => {
                let why = format!("is listed in {FILE} with options that are used instead of those of {text}");
                warning(Code::Different, why).hint("write the entry as the file has it")
            }
            None if !user_devices => problem(Code::NotListed, unlisted)
                .hint(format!("{}, or set allow-user-devices to yes in {FILE}", listing(device))),
            None if !may_open(device) => {
                problem(Code::PermissionDenied, format!("{unlisted}, and you may not open it yourself"))
                    .hint(format!("{}, or give yourself permission", listing(device)))
            }
            None => Finding::ok(format!("may be used, because {FILE} lets users choose devices"))
                .of(device.path()),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries;
    use crate::say::finding::only;
    use std::ffi::OsString;

    fn compare(text: &str, may_open: bool) -> Vec<Finding> {
        examined(["/dev/sd/a", "/dev/vg/b=ide,serial=1"], text, may_open, false)
    }

    fn examined<const N: usize>(texts: [&str; N], text: &str, may_open: bool, is_real: bool) -> Vec<Finding> {
        let texts = texts.map(OsString::from);
        let devices = entries::parse(&texts).expect("they are right");
        let is_program = |path: &Path| path == Path::new("/usr/bin/vmx");
        let program = Path::new("/opt/vmx");
        let found =
            super::compare(text.as_bytes(), program, None, &devices, is_program, |_| may_open, |_| is_real);
        found.into_iter().filter(|finding| finding.verdict != Verdict::Ok).collect()
    }

    /// What is said of a file or device.
    fn of<'a>(findings: &'a [Finding], subject: &str) -> (Verdict, Code, &'a str) {
        let mut found =
            findings.iter().filter(|finding| finding.subject.as_deref() == Some(Path::new(subject)));
        let (Some(finding), None) = (found.next(), found.next()) else { panic!("{subject}: {findings:?}") };
        (finding.verdict, finding.code, finding.hint.as_deref().unwrap_or_default())
    }

    #[test]
    fn a_complete_file_has_no_obstacles() {
        let listed =
            "executable /x\nexecutable /usr/bin/vmx\ndevice /dev/sd/a\ndevice /dev/vg/b=ide,serial=1\n";
        for found in
            [compare(listed, false), compare("executable /usr/bin/vmx\nallow-user-devices yes", true)]
        {
            assert_eq!(found, []);
        }
    }

    #[test]
    fn all_that_is_missing_is_named() {
        let found = compare("device /dev/sd/a\nfoo\n", true);
        assert_eq!(found.len(), 3, "{found:?}");
        let (verdict, code, hint) = of(&found, "/opt/vmx");
        assert_eq!((verdict, code), (Verdict::Problem, Code::NotListed));
        assert!(hint.contains("--program /opt/vmx'"), "{found:?}");
        let (verdict, code, hint) = of(&found, "/dev/vg/b");
        assert_eq!((verdict, code), (Verdict::Problem, Code::NotListed));
        assert!(
            hint.contains("--device /dev/vg/b=ide,serial=1', or set allow-user-devices to yes"),
            "{found:?}"
        );
        let (verdict, code, _) = of(&found, &format!("{FILE}, line 2"));
        assert_eq!((verdict, code), (Verdict::Warning, Code::Malformed));
        assert!(found[0].cause.contains("there is no directive 'foo'"), "{found:?}");
        let found = compare("executable /usr/bin/vmx\ndevice /dev/vg/b=ide\nallow-user-devices yes\n", false);
        let (verdict, code, _) = of(&found, "/dev/sd/a");
        assert_eq!((verdict, code), (Verdict::Problem, Code::PermissionDenied));
        assert_eq!(only(&found, Verdict::Problem).count(), 1, "{found:?}");
        let found = compare("allow-user-devices yes\nallow-user-devices no", true);
        assert_eq!(only(&found, Verdict::Problem).count(), 3, "the last line holds: {found:?}");
    }

    #[test]
    fn other_options_are_remarked() {
        let found = compare("executable /usr/bin/vmx\ndevice /dev/sd/a=ro\ndevice /dev/vg/b=scsi\n", true);
        assert_eq!(found.len(), 2, "{found:?}");
        let (verdict, code, _) = of(&found, "/dev/sd/a");
        assert_eq!((verdict, code), (Verdict::Warning, Code::Different));
        let (verdict, code, _) = of(&found, "/dev/vg/b");
        assert_eq!((verdict, code), (Verdict::Problem, Code::Different));
        assert!(found[1].cause.contains("as scsi, and not as ide"), "{found:?}");
    }

    #[test]
    fn users_who_do_not_exist() {
        let lines = "executable /usr/bin/vmx\nallow-user-devices yes\nsupervise root\nsupervise %root\n";
        assert_eq!(compare(lines, true), []);
        let found = compare(&format!("{lines}supervise no-such-user\nsupervise %no-such-group"), true);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].cause.contains("the user no-such-user"), "{found:?}");
        assert!(found[1].cause.contains("the group no-such-group"), "{found:?}");
    }

    #[test]
    fn the_administrator_alone_forces_a_physical_disk() {
        let real = |text: &str, lines: &str| {
            let found = examined([text], &format!("executable /usr/bin/vmx\n{lines}"), true, true);
            let problems: Vec<Code> = only(&found, Verdict::Problem).map(|finding| finding.code).collect();
            assert!(problems.iter().all(|code| [Code::PhysicalDisk, Code::NotListed].contains(code)));
            problems.len()
        };
        assert_eq!(real("/dev/sd/a", "device /dev/sd/a=force"), 0);
        assert_eq!(real("/dev/sd/a=force", "device /dev/sd/a"), 1);
        assert_eq!(real("/dev/sd/a=force", "allow-user-devices yes"), 1);
        assert_eq!(real("/dev/sd/a=force", ""), 1, "the line that is to be added has the option");
        assert_eq!(real("/dev/sd/a", ""), 1, "setup would refuse to list it");
    }

    #[test]
    fn a_file_that_others_could_have_written() {
        assert_eq!(fault(0, 0o100_644, MAX_BYTES), None);
        let faults = [
            (fault(0, 0o120_777, 1), "not a regular file"),
            (fault(5, 0o100_644, 1), "user 5"),
            (fault(0, 0o100_664, 1), "go-w"),
            (fault(0, 0o100_646, 1), "go-w"),
            (fault(0, 0o100_644, MAX_BYTES + 1), "65537 bytes"),
        ];
        for (found, why) in faults {
            assert!(found.as_ref().is_some_and(|found| found.to_string().contains(why)), "{found:?}");
        }
    }
}
