//! The devices that the command line or the environment names.

mod text;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use disk::entry::{Entry, entries};
use disk::names;
use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::host::udev::link_name;
use crate::program::loader;
use crate::say::failure::{Failure, cause, quoted, shown};
use crate::say::finding::{Code, Finding};

pub use text::{absolute, explain, help};

/// The variable that lists the devices for the library.
pub const VARIABLE: &str = names::DEVICES;

/// An entry as written, and what it says.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    /// The entry as written.
    pub text: &'a OsStr,
    /// The parsed entry.
    pub entry: Entry<'a>,
}

impl<'a> Device<'a> {
    /// Returns the path of the device.
    pub fn path(&self) -> &'a Path {
        Path::new(OsStr::from_bytes(self.entry.path))
    }

    /// Returns why the user may not use the device.
    pub fn refused(&self) -> Option<Errno> {
        let wanted = if self.entry.read_only { Access::READ_OK } else { Access::READ_OK | Access::WRITE_OK };
        access(self.path(), wanted).err()
    }
}

/// Returns the entries of the command line or, if it has none, those of the environment.
pub fn texts(options: Vec<OsString>) -> Vec<OsString> {
    if !options.is_empty() {
        return options;
    }
    let list = std::env::var_os(VARIABLE).unwrap_or_default();
    entries(list.as_bytes()).map(|entry| OsString::from_vec(entry.into())).collect()
}

/// Returns the entries of the command line or the environment; fails if there are none.
pub fn require_texts(options: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let texts = texts(options);
    if texts.is_empty() {
        let hint = "name one with --device ENTRY (for example --device /dev/sd/test), or set";
        let finding = Finding::problem(Code::Usage, "No device is given");
        return Err(finding.hint(format!("{hint} {VARIABLE}")).into());
    }
    Ok(texts)
}

/// Parses each entry; returns what is wrong with the others.
pub fn parse_each(texts: &[OsString]) -> (Vec<Device<'_>>, Vec<Finding>) {
    let (mut devices, mut findings) = (Vec::new(), Vec::new());
    for text in texts {
        match device(text) {
            Ok(device) => devices.push(device),
            Err(finding) => findings.push(finding),
        }
    }
    (devices, findings)
}

/// Parses the entries; fails if one is wrong.
pub fn parse(texts: &[OsString]) -> Result<Vec<Device<'_>>, Failure> {
    let (devices, findings) = parse_each(texts);
    if findings.is_empty() { Ok(devices) } else { Err(Failure { status: Failure::USAGE, findings }) }
}

fn device(text: &OsStr) -> Result<Device<'_>, Finding> {
    if let Some(finding) = text::has_colon(text) {
        return Err(finding);
    }
    let entry = Entry::parse(text.as_bytes()).map_err(|error| explain(&error))?;
    let device = Device { text, entry };
    match look(device.path()) {
        Ok(kind) if !kind.is_block_device() && !kind.is_file() => {
            let finding = Finding::problem(Code::NotADevice, "is neither a block device nor an image file");
            Err(finding.of(device.path()).hint("name one that is"))
        }
        _ => Ok(device),
    }
}

/// Returns the type of a file.
fn look(path: &Path) -> io::Result<std::fs::FileType> {
    Ok(path.metadata()?.file_type())
}

/// Says why a device does not exist or cannot be examined; it may appear later.
pub fn explain_absence(device: &Device<'_>) -> Option<Finding> {
    let error = look(device.path()).err()?;
    if error.kind() == io::ErrorKind::PermissionDenied {
        let (why, hint) = match barrier(device.path()) {
            Some(directory) => (
                format!(": you may not search {}", shown(&directory)),
                format!("run as root: 'chmod a+x {}', or name it by another path", quoted(&directory)),
            ),
            None => (String::new(), "name one that you may examine".into()),
        };
        let why = format!("cannot be examined ({}{why})", cause(&error));
        return Some(Finding::problem(Code::PermissionDenied, why).of(device.path()).hint(hint));
    }
    let word = quoted(device.path());
    let make = match link_name(device.path()) {
        Some(_) => format!("make the link: 'sudo vmware-bdwrapper link DEVICE --as {word}'"),
        None if device.path().starts_with("/dev") => {
            "attach the device ('vmware-bdwrapper list' shows those that exist)".into()
        }
        None if device.path().parent().is_some_and(Path::is_dir) => {
            format!("make an image file with that name: 'truncate --size 8G {word}'")
        }
        None => "make its directory first".into(),
    };
    let finding = match error.kind() {
        io::ErrorKind::NotFound => Finding::problem(Code::NotFound, "does not exist"),
        _ => Finding::io("cannot be examined", &error),
    };
    let hint = format!("correct its name, or {make}. It is used as soon as it exists");
    Some(finding.of(device.path()).hint(hint))
}

/// Returns the directory on the way to a file that the user may not search.
fn barrier(path: &Path) -> Option<PathBuf> {
    let root = Path::new("/");
    let mut found = None;
    loader::walk(root, path, |directory| {
        let directory = root.join(directory);
        if found.is_none() && access(&directory, Access::EXEC_OK) == Err(Errno::ACCESS) {
            found = Some(directory);
        }
    });
    found
}

/// Says for each device whether its entry is ignored because an earlier one makes it another kind of disk.
pub fn clashes<'a>(devices: &'a [Device<'_>]) -> impl Iterator<Item = Option<Finding>> + 'a {
    devices.iter().map(|device| {
        let own = identity(device)?;
        let first = devices.iter().find(|other| identity(other) == Some(own))?;
        let (kind, other) = (device.entry.kind.name(), first.entry.kind.name());
        (kind != other).then(|| {
            let why = format!(
                "its entry as {kind} is ignored, because an earlier one is for the same device ({}={other})",
                first.entry.printed_path()
            );
            Finding::problem(Code::Duplicate, why).of(device.path()).hint("remove one of them")
        })
    })
}

/// Returns what the library recognises a device by: its number, or the inode of a file.
pub fn identity(device: &Device<'_>) -> Option<(u64, Option<u64>)> {
    identity_of(device.path())
}

/// Returns what the library recognises the device at a path by.
pub fn identity_of(path: &Path) -> Option<(u64, Option<u64>)> {
    let status = path.metadata().ok()?;
    let is_block = status.file_type().is_block_device();
    Some(if is_block { (status.rdev(), None) } else { (status.dev(), Some(status.ino())) })
}

/// Returns the value of [`VARIABLE`] for these entries.
pub fn list(texts: &[OsString]) -> OsString {
    texts.join(OsStr::new(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(texts: &[&str]) -> Vec<String> {
        let texts: Vec<OsString> = texts.iter().map(OsString::from).collect();
        parse(&texts)
            .err()
            .map(|failure| failure.findings.iter().map(Finding::to_string).collect())
            .unwrap_or_default()
    }

    #[test]
    fn every_wrong_entry_is_named() {
        assert_eq!(sentences(&["/dev/sd/x", "/dev/hd/y=serial=1", "/nonexistent=sata"]), [""; 0]);
        let said = sentences(&["disk.img=ide", "/dev/sd/x", "/nonexistent", "/dev/sd/a:b", "/=scsi"]);
        assert_eq!(said.len(), 4, "{said:?}");
        assert!(said[0].starts_with("disk.img=ide: is not an absolute path"), "{said:?}");
        assert!(said[1].starts_with("/nonexistent: does not say which kind"), "{said:?}");
        assert!(said[2].starts_with("/dev/sd/a:b: has a colon"), "{said:?}");
        assert!(said[3].starts_with("/: is neither a block device"), "{said:?}");
    }

    #[test]
    fn one_device_as_two_kinds() {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "").expect("it is ours");
        std::os::unix::fs::symlink(&file, &link).expect("it is ours");
        let texts = [(&file, "scsi"), (&link, "scsi"), (&link, "ide"), (&directory.path().join("x"), "ide")];
        let texts = texts.map(|(path, kind)| OsString::from(format!("{}={kind}", path.display())));
        let devices = parse(&texts).expect("they are right");
        let said: Vec<_> = clashes(&devices).collect();
        assert!(
            said[2]
                .as_ref()
                .is_some_and(|said| said.code == Code::Duplicate && said.cause.contains("as ide is ignored")),
            "{said:?}"
        );
        assert_eq!(said.iter().flatten().count(), 1, "{said:?}");
    }

    #[test]
    fn the_list_has_colons() {
        assert_eq!(list(&["/a=ide".into(), "/b=scsi".into()]), "/a=ide:/b=scsi");
    }
}
