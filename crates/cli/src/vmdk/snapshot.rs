//! Snapshots: disks that hold what has changed since on another one, which must stay as it was then.

use std::ffi::OsStr;
use std::fs::FileType;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bdwrapper_vmdk::Text;
use bdwrapper_vmdk::descriptor::Descriptor;

use crate::entries::identity_of;
use crate::file::{self, Place};
use crate::say::failure::shown;
use crate::say::finding::{Code, Finding};

/// As much of a file as is read to find a descriptor, in bytes.
const START: u64 = 1 << 16;

/// Refuses a disk that has a snapshot; VMware puts both into one directory.
pub fn refuse(descriptor: &Descriptor, place: &Place) -> Result<(), Finding> {
    let own = identity_of(place.path());
    let is_snapshot = |name: &Path| {
        let text = text(&place.beside(name)).unwrap_or(Text::new(b""));
        let parent = text.value("parentCID").filter(|parent| !parent.eq_ignore_ascii_case(b"ffffffff"));
        parent.is_some_and(|parent| match text.value("parentFileNameHint") {
            Some(hint) => own.is_some() && identity_of(&place.beside(OsStr::from_bytes(hint))) == own,
            None => descriptor.0.value("CID").is_some_and(|own| own.eq_ignore_ascii_case(parent)),
        })
    };
    let listed = place.beside(".").read_dir().into_iter().flatten().flatten();
    let mut names = listed.map(|entry| PathBuf::from(entry.file_name()));
    let found = names.find(|name| name.extension() == Some("vmdk".as_ref()) && is_snapshot(name));
    found.map_or(Ok(()), |name| {
        let why = format!(
            "has a snapshot, {}, which needs it unchanged",
            shown(&place.path().with_file_name(name))
        );
        let hint = "remove the snapshot in VMware first";
        Err(Finding::problem(Code::InUse, why).of(place.path()).hint(hint))
    })
}

/// The descriptor of a disk: the file itself or, where the data stands in it as well, a part of its beginning (VMware's "Virtual
/// Disk Format 5.0", "Hosted Sparse Extents").
fn text(path: &Path) -> io::Result<Text> {
    let mut bytes = Vec::new();
    if let Some(file) = file::open(path, FileType::is_file)? {
        file.take(START).read_to_end(&mut bytes)?;
    }
    let place = bytes.get(28..36).filter(|_| bytes.starts_with(b"KDMV"));
    let place = place.and_then(|sector| sector.try_into().ok()).map_or(0, u64::from_le_bytes);
    let start = usize::try_from(place.saturating_mul(512)).unwrap_or(usize::MAX);
    Ok(Text::new(bytes.get(start..).unwrap_or_default()))
}
