//! What a program in secure mode needs before the library can act in it.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use disk::conf::{Directive, parse};
use disk::entry::Printed;
use disk::real::{BLOCK_EXT_MAJOR, is_disk_link, is_disk_number};
use rustix::fs::{Access, access, major, minor};
use rustix::io::Errno;

use crate::devices::Device;
use crate::failure::{cause, shown};
use crate::library::{self, NAME};
use crate::program;

/// The administrator's file.
pub const FILE: &str = "/etc/vmware-bdwrapper.conf";

/// The most bytes that it may have.
pub const MOST: u64 = 65536;

/// What stands in the way of a program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why the library would do nothing, or not all; sentences.
    pub obstacles: Vec<String>,
    /// What the user should know; sentences.
    pub remarks: Vec<String>,
}

/// Looks at a program that would run in secure mode with these devices.
pub fn examine(file: &Path, status: &Metadata, devices: &[Device<'_>]) -> Findings {
    let mut findings = Findings::default();
    findings.obstacles.extend(library_obstacle());
    match read() {
        Ok(text) => {
            let is_program = |path: &Path| {
                path.metadata().is_ok_and(|found| (found.dev(), found.ino()) == (status.dev(), status.ino()))
            };
            findings.compare(&text, file, devices, is_program, may_open, is_real);
        }
        Err(Problem::Unsafe(why)) => findings.obstacles.push(format!("{FILE} {why}.")),
        Err(Problem::Unreadable(why)) => findings.remarks.push(format!(
            "You may not read {FILE} ({why}), so whether it lists {} and the devices is unknown: ask the administrator.",
            shown(file)
        )),
    }
    if !findings.obstacles.is_empty() {
        findings.obstacles.insert(
            0,
            format!(
                "{} would not find the devices, because it runs with rights that you do not have (a set-user-ID program, \
                 see libvmware-bdwrapper(7)):",
                shown(file)
            ),
        );
    }
    if let Some(remark) = program::unreachable(file) {
        findings.remarks.push(remark);
    }
    findings
}

/// Why the loader would not take the library.
fn library_obstacle() -> Option<String> {
    const SET_USER_ID: u32 = 0o4000;
    let files = match library::installed() {
        Ok(files) => files,
        Err(sentence) => return Some(sentence),
    };
    let Some(first) = files.first() else {
        return Some(format!(
            "The library {NAME} is not installed in a directory that the dynamic loader trusts: have root run 'make \
             install'."
        ));
    };
    // The loader passes over files without the bit.
    if files.iter().any(|file| file.metadata().is_ok_and(|file| file.mode() & SET_USER_ID != 0)) {
        return None;
    }
    Some(format!(
        "{0} lacks the set-user-ID bit, so the dynamic loader ignores it: have root run 'vmware-bdwrapper setup --setuid'.",
        shown(first)
    ))
}

/// Why the file cannot be looked into; words that follow its name.
pub enum Problem {
    /// The library ignores it.
    Unsafe(String),
    /// The user may not read it; the program may.
    Unreadable(String),
}

/// The text of the administrator's file, where it counts.
pub fn read() -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| Problem::Unreadable(cause(&error));
    let status = Path::new(FILE).symlink_metadata().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Problem::Unsafe(
            "does not exist: have root run 'vmware-bdwrapper setup --setuid', or write it (vmware-bdwrapper.conf(5))".into(),
        ),
        _ => unreadable(error),
    })?;
    if let Some(fault) = fault(status.is_file(), status.uid(), status.mode(), status.len()) {
        return Err(Problem::Unsafe(fault));
    }
    let mut text = Vec::new();
    let mut file = File::open(FILE).map_err(unreadable)?.take(MOST);
    file.read_to_end(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// Why the library ignores a file.
fn fault(is_regular: bool, owner: u32, mode: u32, bytes: u64) -> Option<String> {
    let why = if !is_regular {
        "is no regular file, so it does not count: have root replace it by one".into()
    } else if owner != 0 {
        format!("belongs to user {owner}, so it does not count: have root run 'chown root {FILE}'")
    } else if mode & 0o022 != 0 {
        format!("can be written by others than root, so it does not count: have root run 'chmod go-w {FILE}'")
    } else if bytes > MOST {
        format!("has {bytes} bytes, more than {MOST}, so it does not count: have root shorten it")
    } else {
        return None;
    };
    Some(why)
}

/// Whether the user may open a device himself; one that does not exist yet is not judged.
fn may_open(device: &Device<'_>) -> bool {
    let wanted = if device.entry.read_only { Access::READ_OK } else { Access::READ_OK | Access::WRITE_OK };
    matches!(access(device.path(), wanted), Ok(()) | Err(Errno::NOENT))
}

/// Whether a device is a physical disk; one that does not exist yet is not judged.
fn is_real(device: &Device<'_>) -> bool {
    let Ok(status) = device.path().metadata() else { return false };
    let (major, minor) = (major(status.rdev()), minor(status.rdev()));
    if !status.file_type().is_block_device() {
        return false;
    }
    if major != BLOCK_EXT_MAJOR {
        return is_disk_number(major, minor);
    }
    let link = Path::new("/sys/dev/block").join(format!("{major}:{minor}")).read_link();
    link.is_ok_and(|link| is_disk_link(link.as_os_str().as_bytes()))
}

impl Findings {
    /// Compares the text of the file with what is wanted.
    fn compare(
        &mut self,
        text: &[u8],
        file: &Path,
        devices: &[Device<'_>],
        is_program: impl Fn(&Path) -> bool,
        may_open: impl Fn(&Device<'_>) -> bool,
        is_real: impl Fn(&Device<'_>) -> bool,
    ) {
        let (mut is_listed, mut user_devices, mut listed) = (false, false, Vec::new());
        for line in parse(text) {
            match line {
                Ok(Directive::Executable(path)) => {
                    is_listed |= is_program(Path::new(OsStr::from_bytes(path)))
                }
                Ok(Directive::AllowUserDevices(yes)) => user_devices = yes,
                Ok(Directive::Device(entry)) => listed.push(entry),
                Ok(Directive::Messages(_)) => {}
                Err(error) => self.remarks.push(format!("{FILE}, {error}. The line does not count.")),
            }
        }
        if !is_listed {
            let file = file.canonicalize().unwrap_or(file.into());
            self.obstacles.push(format!(
                "{FILE} does not list the program: have root add the line 'executable {}'.",
                shown(&file)
            ));
        }
        for device in devices {
            let (name, text) = (device.entry.printed_path(), Printed(device.text.as_bytes()));
            let held = listed.iter().find(|entry| entry.path == device.entry.path);
            match held {
                Some(entry) if *entry == device.entry => {}
                Some(entry) => self.remarks.push(format!(
                    "{FILE} lists {name} as {}, and its options hold instead of those of {text}.",
                    entry.kind.name()
                )),
                None if !user_devices => self.obstacles.push(format!(
                    "{FILE} does not list {name}: have root add the line 'device {text}', or 'allow-user-devices yes'."
                )),
                None if !may_open(device) => self.obstacles.push(format!(
                    "{FILE} does not list {name}, and you may not open it yourself: have root add the line 'device {text}', \
                     or give you the right."
                )),
                None => {}
            }
            // What the environment forces does not count; a line that is yet to be added can say so.
            let force = held.map_or(!user_devices && device.entry.force, |entry| entry.force);
            if !force && is_real(device) {
                self.obstacles.push(format!(
                    "{name} is a physical disk, which needs no wrapper: to use it all the same, have root list it in {FILE} \
                     with the option force."
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices;
    use std::ffi::OsString;

    fn compare(text: &str, may_open: bool) -> Findings {
        examined(["/dev/sd/a", "/dev/vg/b=ide,serial=1"], text, may_open, false)
    }

    fn examined<const N: usize>(texts: [&str; N], text: &str, may_open: bool, is_real: bool) -> Findings {
        let texts = texts.map(OsString::from);
        let devices = devices::parse(&texts).expect("they are right");
        let mut findings = Findings::default();
        let is_program = |path: &Path| path == Path::new("/usr/bin/vmx");
        findings.compare(
            text.as_bytes(),
            Path::new("/opt/vmx"),
            &devices,
            is_program,
            |_| may_open,
            |_| is_real,
        );
        findings
    }

    #[test]
    fn a_complete_file_has_no_obstacles() {
        let listed =
            "executable /x\nexecutable /usr/bin/vmx\ndevice /dev/sd/a\ndevice /dev/vg/b=ide,serial=1\n";
        assert_eq!(compare(listed, false), Findings::default());
        assert_eq!(compare("executable /usr/bin/vmx\nallow-user-devices yes", true), Findings::default());
    }

    #[test]
    fn all_that_is_missing_is_named() {
        let found = compare("device /dev/sd/a\nfoo\n", true);
        assert_eq!(found.obstacles.len(), 2, "{found:?}");
        assert!(found.obstacles[0].contains("'executable /opt/vmx'"), "{found:?}");
        assert!(
            found.obstacles[1].contains("'device /dev/vg/b=ide,serial=1', or 'allow-user-devices yes'"),
            "{found:?}"
        );
        assert!(found.remarks[0].contains("line 2: there is no directive 'foo'"), "{found:?}");
        let found = compare("executable /usr/bin/vmx\ndevice /dev/vg/b=ide\nallow-user-devices yes\n", false);
        assert_eq!(found.obstacles.len(), 1, "{found:?}");
        assert!(found.obstacles[0].contains("/dev/sd/a, and you may not open it yourself"), "{found:?}");
        let found = compare("allow-user-devices yes\nallow-user-devices no", true);
        assert_eq!(found.obstacles.len(), 3, "the last line holds: {found:?}");
    }

    #[test]
    fn other_options_are_remarked() {
        let found = compare("executable /usr/bin/vmx\ndevice /dev/sd/a=scsi\ndevice /dev/vg/b=scsi\n", true);
        assert_eq!((found.obstacles.len(), found.remarks.len()), (0, 1), "{found:?}");
        assert!(found.remarks[0].contains("lists /dev/vg/b as scsi"), "{found:?}");
    }

    #[test]
    fn the_administrator_alone_forces_a_physical_disk() {
        let real = |text: &str, lines: &str| {
            let found = examined([text], &format!("executable /usr/bin/vmx\n{lines}"), true, true).obstacles;
            assert!(
                found.iter().all(|why| why.contains("is a physical disk") || why.contains("does not list"))
            );
            found.len()
        };
        assert_eq!(real("/dev/sd/a", "device /dev/sd/a=force"), 0);
        assert_eq!(real("/dev/sd/a=force", "device /dev/sd/a"), 1);
        assert_eq!(real("/dev/sd/a=force", "allow-user-devices yes"), 1);
        assert_eq!(real("/dev/sd/a=force", ""), 1, "the line that is to be added has the option");
        assert_eq!(real("/dev/sd/a", ""), 2);
    }

    #[test]
    fn a_file_that_others_could_have_written() {
        assert_eq!(fault(true, 0, 0o100_644, MOST), None);
        let faults = [
            (fault(false, 0, 0o120_777, 1), "no regular file"),
            (fault(true, 5, 0o100_644, 1), "user 5"),
            (fault(true, 0, 0o100_664, 1), "go-w"),
            (fault(true, 0, 0o100_646, 1), "go-w"),
            (fault(true, 0, 0o100_644, MOST + 1), "65537 bytes"),
        ];
        for (found, why) in faults {
            assert!(found.as_ref().is_some_and(|found| found.contains(why)), "{found:?}");
        }
    }
}
