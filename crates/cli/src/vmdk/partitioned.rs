//! A disk of chosen partitions, with a private copy of the partition table.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::descriptor::{Data, Descriptor, Extent};
use super::device::Present;
use super::table::{Partition, Piece};
use crate::devices::identity_of;
use crate::failure::{cause, shown};
use crate::file::{self, Rights};

/// The extents of a disk of chosen partitions.
pub struct Layout {
    pieces: Vec<(Piece, bool)>,
    copy: Vec<u8>,
}

impl Layout {
    /// Reads the table of a device; `chosen` says which partitions the virtual machine is to have. A boot loader that the guest
    /// has put into an older copy stays.
    pub fn new(
        device: &Present<'_>,
        old: Option<(&Descriptor, &Path)>,
        mut chosen: impl FnMut(&Partition) -> bool,
    ) -> Result<Layout, String> {
        let name = device.entry.printed_path();
        let mut read = device.reader()?;
        let mut copy = Vec::new();
        let table = device.table()?;
        let pieces = table.pieces(device.disk.capacity).map_err(|why| format!("{name}: {why}."))?;
        for piece in &pieces {
            if let Piece::Table(place) = piece {
                let mut now = vec![0; (place.end - place.start) as usize * 512];
                read(place.start, &mut now).map_err(|why| format!("{name}: {why}."))?;
                let mut part = now.clone();
                if let Some((descriptor, file)) = old {
                    // Where the older copy is lost, the device's boot loader is the next best.
                    let mut older = part.clone();
                    if private(descriptor, file, place.start * 512, &mut older).is_ok() {
                        part = older;
                    }
                }
                let start = place.start * 512;
                for bytes in
                    table.bytes.iter().filter(|bytes| (start..place.end * 512).contains(&bytes.start))
                {
                    let bytes = (bytes.start - start) as usize..(bytes.end - start) as usize;
                    part[bytes.clone()].copy_from_slice(&now[bytes]);
                }
                copy.extend(part);
            }
        }
        let pieces = pieces.into_iter().map(|piece| {
            let is_chosen = matches!(&piece, Piece::Partition(partition) if chosen(partition));
            (piece, is_chosen)
        });
        Ok(Layout { pieces: pieces.collect(), copy })
    }

    /// The partitions that there are.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.pieces.iter().filter_map(|(piece, _)| match piece {
            Piece::Partition(partition) => Some(partition),
            _ => None,
        })
    }

    /// Writes the private copy beside a descriptor, with these rights or those of new files; its name and the lines of the
    /// extents.
    pub fn write(
        &self,
        descriptor: &Path,
        device: &str,
        rights: Option<Rights>,
    ) -> Result<(String, Vec<String>), String> {
        let stem = descriptor.file_stem().and_then(OsStr::to_str).ok_or_else(|| {
            format!(
                "{}: has a name that is no UTF-8, which a descriptor cannot hold; choose another.",
                shown(descriptor)
            )
        })?;
        let stem = format!("{stem}-pt");
        let copy = file::create_numbered(file::directory(descriptor), &stem, "vmdk", &self.copy, rights)?;
        let mut lines: Vec<String> = Vec::new();
        let (mut offset, mut gap) = (0, 0);
        for (piece, is_chosen) in &self.pieces {
            let place = piece.place();
            let sectors = place.end - place.start;
            let data = match piece {
                Piece::Table(_) => {
                    offset += sectors;
                    Data::Flat { name: copy.as_bytes(), offset: offset - sectors }
                }
                Piece::Partition(_) if *is_chosen => {
                    Data::Flat { name: device.as_bytes(), offset: place.start }
                }
                _ => {
                    gap += sectors;
                    continue;
                }
            };
            if gap > 0 {
                lines.push(Extent { sectors: std::mem::take(&mut gap), data: Data::Zero }.line());
            }
            lines.push(Extent { sectors, data }.line());
        }
        if gap > 0 {
            lines.push(Extent { sectors: gap, data: Data::Zero }.line());
        }
        Ok((copy, lines))
    }
}

/// Whose the private copy is and who may read it; where it is lost, the descriptor.
pub fn rights(descriptor: &Descriptor, file: &Path) -> Result<Rights, String> {
    let copies = descriptor.private().filter_map(|(_, name, ..)| open(file, name).ok()?.metadata().ok());
    let mut copies = copies.map(|status| file::rights(&status));
    let Some(first) = copies.next() else {
        let status = file.metadata().map_err(|error| {
            format!(
                "{}: cannot be looked at ({}); name a file that you may read.",
                shown(file),
                cause(&error)
            )
        })?;
        return Ok(file::rights(&status));
    };
    // What only some may read of the old copy, nobody else reads in the new one.
    if copies.any(|other| other != first) {
        return Err(format!(
            "{}: has a copy of the partition table in files of different owners or modes; give them the same by chown(1) and \
             chmod(1).",
            shown(file)
        ));
    }
    Ok(first)
}

/// The copies of partition tables beside a descriptor that it does not name: those made for it, and those of its older state.
pub fn unnamed(descriptor: &Descriptor, file: &Path, older: Option<&Descriptor>) -> Vec<PathBuf> {
    let has = |descriptor: &Descriptor, path: &Path| {
        let wanted = identity_of(path);
        descriptor.extents().any(|extent| match extent.data {
            Data::Flat { name, .. } => {
                identity_of(&file::directory(file).join(OsStr::from_bytes(name))) == wanted
            }
            _ => false,
        })
    };
    let stem = file.file_stem().unwrap_or_default().as_bytes();
    let is_made = |name: &[u8]| {
        let number =
            name.strip_prefix(stem).and_then(|rest| rest.strip_prefix(b"-pt")?.strip_suffix(b".vmdk"));
        number.is_some_and(|number| match number {
            [b'-', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
            rest => rest.is_empty(),
        })
    };
    let listed = file::directory(file).read_dir().into_iter().flatten().flatten();
    let mut names: Vec<PathBuf> = listed
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default();
            // The disk begins with its table.
            let was_copy = |older: &Descriptor| {
                older.private().any(|(start, private, ..)| start == 0 && private.as_os_str() == name)
            };
            let is_copy = is_made(name.as_bytes()) || older.is_some_and(was_copy);
            is_copy && !has(descriptor, path) && super::descriptor(path).is_err()
        })
        .collect();
    names.sort();
    names
}

/// The same for people, a line each.
pub fn spare(descriptor: &Descriptor, file: &Path, older: Option<&Descriptor>) -> String {
    let line = |copy: PathBuf| {
        format!(
            "{} is a copy of a partition table that {} does not name; where no other descriptor that you need does, such as an \
             older one (.bak), remove it.\n",
            shown(&copy),
            shown(file)
        )
    };
    unnamed(descriptor, file, older).into_iter().map(line).collect()
}

/// Opens what stands beside a descriptor by a name that it gives, and nothing else: whose the descriptor is need not be who
/// reads it here. Opening a FIFO must not wait.
fn open(file: &Path, name: &Path) -> io::Result<File> {
    if name.as_os_str().as_bytes().contains(&b'/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(file::directory(file).join(name))?;
    if opened.metadata()?.is_file() { Ok(opened) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Reads what the private copy has of the disk from a byte on; whether that is all.
pub fn private(descriptor: &Descriptor, file: &Path, start: u64, into: &mut [u8]) -> io::Result<bool> {
    let (mut count, end) = (0, start + into.len() as u64);
    for (first, name, offset, sectors) in descriptor.private() {
        let own = first * 512..(first + sectors) * 512;
        let common = own.start.max(start)..own.end.min(end);
        if common.is_empty() {
            continue;
        }
        let part = &mut into[(common.start - start) as usize..(common.end - start) as usize];
        let offset = offset.saturating_mul(512).saturating_add(common.start - own.start);
        open(file, name)?.read_exact_at(part, offset)?;
        count += part.len();
    }
    Ok(count == into.len())
}
