//! The entry that a descriptor is for: what its own lines do not say stands in two lines of the disk data base.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bdwrapper_vmdk::adapter::Adapter;
use bdwrapper_vmdk::descriptor::{Descriptor, Family};
use disk::entry::{Entry, Kind};

use crate::say::failure::{Failure, quoted, shown};
use crate::say::finding::{Code, Finding};
use crate::{entries, file};

/// The options of the entry.
pub const KEY: &str = "ddb.bdwrapper.options";

/// The adapter, where `ddb.adapterType` has no word for it.
pub const ADAPTER: &str = "ddb.bdwrapper.adapter";

/// The options that a descriptor has to remember: those that decide on size and geometry, unless they follow from what it says
/// anyway. One of an ordinary virtual disk always has them: they tell it from VMware's own.
pub fn options_to_remember(entry: &Entry<'_>, adapter: Adapter, is_flat: bool) -> Option<String> {
    let family = if adapter.in_descriptor(entry.kind) == "ide" { Kind::Ide } else { Kind::Scsi };
    let by_itself = Entry::parse(entry.path).map_or(family, |entry| entry.kind);
    let plain = Entry { force: false, geometry: None, sector: None, ..*entry } == *entry;
    if plain && by_itself == entry.kind && !is_flat {
        return None;
    }
    let mut options = entry.kind.name().to_owned();
    if entry.force {
        options += ",force";
    }
    if let Some(chs) = entry.geometry {
        options += &format!(",geometry={}/{}/{}", chs.cylinders, chs.heads, chs.sectors);
    }
    if let Some(bytes) = entry.sector {
        options += &format!(",sector={bytes}");
    }
    Some(options)
}

/// The adapter that a descriptor was made for.
pub fn adapter(descriptor: &Descriptor) -> Adapter {
    let word = |key| Adapter::named(descriptor.0.value(key)?);
    let by_family = match descriptor.family() {
        Some(Family::Ide) => Adapter::Ide,
        _ => Adapter::Lsilogic,
    };
    word(ADAPTER).or(word("ddb.adapterType")).unwrap_or(by_family)
}

/// The path of the device or image that a descriptor is for.
pub fn path(descriptor: &Descriptor, file: &Path) -> Result<PathBuf, Finding> {
    if let Some(node) = descriptor.partition_node() {
        let why = format!(
            "is made of nodes of partitions, such as {} (as by 'VBoxManage createrawvmdk -relative'), and not of the disk that \
             they are on",
            shown(node)
        );
        let hint = "describe the disk: 'vmware-bdwrapper vmdk create DISK -o NEW --partition N'";
        return Err(Finding::problem(Code::Unsupported, why).of(file).hint(hint));
    }
    let name = descriptor.device().ok_or_else(|| {
        let finding = Finding::problem(Code::Unsupported, "has no extent on a device or image");
        finding.of(file).hint("name one that 'vmware-bdwrapper vmdk create' wrote")
    })?;
    match name.is_absolute() {
        true => Ok(name.to_path_buf()),
        false => std::path::absolute(file::directory(file).join(name)).map_err(|_| {
            Finding::problem(Code::Malformed, "has an image without a name").of(file).hint("correct it")
        }),
    }
}

/// Whether two names are of the same device, as they are to the library.
pub fn is_same(path: &Path, other: &Path) -> bool {
    let number = entries::identity_of(path);
    other == path || (number.is_some() && entries::identity_of(other) == number)
}

/// The text of the entry that a descriptor is for: as given, as the environment has it, as the descriptor remembers it, or as
/// its name says.
pub fn entry(descriptor: &Descriptor, file: &Path, given: Option<OsString>) -> Result<OsString, Failure> {
    let path = path(descriptor, file)?;
    let is_device = |other: &Path| is_same(&path, other);
    if let Some(given) = given {
        let parsed = entries::parse(std::slice::from_ref(&given))?;
        if !is_device(parsed[0].path()) {
            let why = format!("is for {}, not for {}", shown(&path), shown(parsed[0].path()));
            let hint = format!("give --device {} with its options", quoted(&path));
            return Err(Finding::problem(Code::Usage, why).of(file).hint(hint).into());
        }
        return Ok(given);
    }
    let list = std::env::var_os(entries::VARIABLE).unwrap_or_default();
    for text in disk::entry::entries(list.as_bytes()) {
        if Entry::parse(text).is_ok_and(|entry| is_device(Path::new(OsStr::from_bytes(entry.path)))) {
            return Ok(OsStr::from_bytes(text).into());
        }
    }
    let with = |options: &[u8]| {
        let mut text = path.clone().into_os_string();
        text.push("=");
        text.push(OsStr::from_bytes(options));
        text
    };
    Ok(match descriptor.0.value(KEY) {
        Some(options) => with(options),
        None if Entry::parse(path.as_os_str().as_bytes()).is_ok() => path.into(),
        None if descriptor.family() == Some(Family::Ide) => with(b"ide"),
        None => with(b"scsi"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::entry::OPTIONS;

    /// An option decides on size and geometry, and is remembered, or it does not.
    #[test]
    fn each_option_is_remembered_or_not() {
        for option in OPTIONS {
            let value = match option.value {
                "NUMBER" => "0123456789abcdef",
                "C/H/S" => "1/2/3",
                value => value.split('|').next().unwrap_or_default(),
            };
            let text = format!("/dev/sd/x={}{value}", option.name);
            let entry = Entry::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
            let options = options_to_remember(&entry, Adapter::Lsilogic, false).unwrap_or_default();
            match option.name {
                "force" | "geometry=" | "sector=" => {
                    assert_eq!(options, format!("scsi,{}{value}", option.name));
                }
                "ide" | "sata" => assert_eq!(options, option.name),
                "scsi" | "ro" | "serial=" | "model=" | "wwn=" | "nexus=" => assert_eq!(options, "", "{text}"),
                name => panic!("{name}: say here whether a descriptor has to remember it"),
            }
        }
    }
}
