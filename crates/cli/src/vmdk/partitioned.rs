//! A disk of chosen partitions, with a private copy of the partition table.

use std::ffi::OsStr;
use std::fs::{File, FileType};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bdwrapper_vmdk::descriptor::{Data, Descriptor, Extent};
use bdwrapper_vmdk::table::{Partition, Piece};
use rustix::process::{getegid, geteuid};

use super::device::{Present, ask_doctor, path, read};
use crate::entries::identity_of;
use crate::file::{self, Place, Rights};
use crate::say::failure::shown;
use crate::say::finding::{Code, Finding};

/// The extents of a disk of chosen partitions.
pub struct Layout {
    pieces: Vec<(Piece, bool)>,
    copy: Vec<u8>,
    /// Who may read the device.
    device: Rights,
}

impl Layout {
    /// Reads the table of a device; `chosen` says which partitions the virtual machine is to have. A boot loader that the guest
    /// has put into an older copy stays.
    pub fn new(
        device: &Present<'_>,
        old: Option<&Copies>,
        mut chosen: impl FnMut(&Partition) -> bool,
    ) -> Result<Layout, Finding> {
        let from = device.open()?;
        let rights = Rights::of(&file::proc_path(&from)).map_err(|error| {
            let finding = Finding::io("cannot be examined", &error).of(path(&device.entry));
            finding.hint(ask_doctor(&device.entry))
        })?;
        let mut copy = Vec::new();
        let table = device.table()?;
        let pieces = table.pieces(device.disk.capacity).map_err(|error| device.table_problem(&error))?;
        for piece in &pieces {
            if let Piece::Table(place) = piece {
                let mut now = vec![0; (place.end - place.start) as usize * 512];
                read(&from, place.start, &mut now).map_err(|error| device.table_problem(&error))?;
                let mut part = now.clone();
                if let Some(old) = old {
                    // Where the older copy is lost, the device's boot loader is the next best.
                    let mut older = part.clone();
                    if old.read(place.start * 512, &mut older).is_ok() {
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
        Ok(Layout { pieces: pieces.collect(), copy, device: rights })
    }

    /// The partitions that there are.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.pieces.iter().filter_map(|(piece, _)| match piece {
            Piece::Partition(partition) => Some(partition),
            _ => None,
        })
    }

    /// Writes the private copy beside a descriptor, with these rights or those of new files; its name and the lines of the
    /// extents. Where one begins as in the older descriptor, its access and what stands behind it stay.
    pub fn write(
        &self,
        descriptor: &Place,
        device: &str,
        rights: Option<Rights>,
        older: Option<&Descriptor>,
    ) -> Result<(String, Vec<Vec<u8>>), Finding> {
        let stem = descriptor.path().file_stem().and_then(OsStr::to_str).ok_or_else(|| {
            let why = "has a name that is not UTF-8, which a descriptor cannot hold";
            Finding::problem(Code::Unsupported, why).of(descriptor.path()).hint("choose another name")
        })?;
        let stem = format!("{stem}-pt");
        let rights = self.limit_rights(rights).map_err(|user| {
            let why = format!(
                "has a copy of the partition table that belongs to user {user}, who may not read {device}, and so not what a \
                 new copy would show of it"
            );
            let hint = "give the device to that user with chown(1), or the copy to yourself";
            Finding::problem(Code::PermissionDenied, why).of(descriptor.path()).hint(hint)
        })?;
        let copy = descriptor.create_numbered(&stem, "vmdk", &self.copy, rights.as_ref())?;
        let mut extents: Vec<(u64, Extent<'_>)> = Vec::new();
        let mut offset = 0;
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
                _ => Data::Zero,
            };
            match (data, extents.last_mut()) {
                (Data::Zero, Some((_, Extent { sectors: gap, data: Data::Zero, .. }))) => *gap += sectors,
                _ => extents.push((place.start, Extent::new(sectors, data))),
            }
        }
        let kind = |data: Data<'_>| match data {
            Data::Flat { name, .. } if name == device.as_bytes() => 0,
            Data::Flat { .. } => 1,
            _ => 2,
        };
        let older: Vec<_> = older.into_iter().flat_map(Descriptor::placed).collect();
        let line = |(start, extent): (u64, Extent<'_>)| {
            let is_it =
                |other: &&(u64, Extent<'_>)| other.0 == start && kind(other.1.data) == kind(extent.data);
            match older.iter().find(is_it) {
                Some((_, Extent { access, rest, .. })) => Extent { access, rest, ..extent }.line(),
                None => extent.line(),
            }
        };
        let lines = extents.into_iter().map(line).collect();
        Ok((copy, lines))
    }

    /// The rights of the private copy, which shows what stands before the partitions on the device: nobody is given more than the
    /// device gives. Otherwise the user who would own it, and may not read the device.
    fn limit_rights(&self, rights: Option<Rights>) -> Result<Option<Rights>, u32> {
        let device = &self.device;
        if device.mode & 0o004 != 0 {
            return Ok(rights);
        }
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let mut rights = rights.unwrap_or(Rights { user, group, mode: 0o600, list: None });
        let is_reader =
            [0, user].contains(&rights.user) || rights.user == device.user && device.mode & 0o400 != 0;
        if !is_reader {
            return Err(rights.user);
        }
        // Beside an access control list the mode does not say what the group may.
        let is_plain = device.list.is_none() && rights.list.is_none();
        let has_group = is_plain && rights.group == device.group && device.mode & 0o040 != 0;
        rights.mode &= if has_group { 0o770 } else { 0o700 };
        rights.list = None;
        Ok(Some(rights))
    }
}

/// The copies of partition tables beside a descriptor that it does not name: those made for it, and those of its older state.
pub fn unnamed_copies(descriptor: &Descriptor, file: &Path, older: Option<&Descriptor>) -> Vec<PathBuf> {
    let has = |descriptor: &Descriptor, path: &Path| {
        let wanted = identity_of(path);
        descriptor.extents().any(|extent| match extent.data {
            Data::Flat { name, .. } => identity_of(&super::path_of_name(file, name)) == wanted,
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
            is_copy
                && !has(descriptor, path)
                && Place::of(path).and_then(|mut place| super::read_descriptor(&mut place)).is_err()
        })
        .collect();
    names.sort();
    names
}

/// The same for people, a line each, but for those that another descriptor needs.
pub fn describe_spare_copies(descriptor: &Descriptor, file: &Path, older: Option<&Descriptor>) -> String {
    let line = |copy: PathBuf| {
        let users = descriptors_with_copy(file, &copy);
        let is_backup = |path: &PathBuf| path.extension() != Some("vmdk".as_ref());
        if users.iter().any(|path| !is_backup(path)) {
            return None;
        }
        let (file, copy) = (shown(file), shown(&copy));
        Some(match users.as_slice() {
            [] => format!("{file} does not use {copy}, nor does an older descriptor beside it; delete it.\n"),
            [one] => {
                format!("{file} no longer uses {copy}. Once you do not need {}, delete both.\n", shown(one))
            }
            [first, ..] => format!(
                "{file} no longer uses {copy}. Once you do not need {} and {} more, delete them all.\n",
                shown(first),
                users.len() - 1
            ),
        })
    };
    unnamed_copies(descriptor, file, older).into_iter().filter_map(line).collect()
}

/// The descriptors beside a file that name a copy of a partition table.
fn descriptors_with_copy(file: &Path, copy: &Path) -> Vec<PathBuf> {
    let wanted = identity_of(copy);
    let uses = |path: &PathBuf| {
        let Ok(descriptor) = Place::of(path).and_then(|mut place| super::read_descriptor(&mut place)) else {
            return false;
        };
        let names = |(_, name, ..): (u64, &Path, u64, u64)| {
            identity_of(&super::path_of_name(file, name.as_os_str().as_bytes())) == wanted
        };
        descriptor.private().any(names)
    };
    let is_named = |path: &PathBuf| {
        path.file_name().unwrap_or_default().as_bytes().windows(5).any(|part| part == b".vmdk")
    };
    let listed = file::directory(file).read_dir().into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = listed.map(|entry| entry.path()).filter(is_named).filter(uses).collect();
    found.sort();
    found
}

/// The sectors of the device in which the partitions begin that a virtual machine has.
pub fn partition_starts(descriptor: &Descriptor) -> Vec<u64> {
    let device = descriptor.device().map(|name| name.as_os_str().as_bytes());
    let of_device = |extent: Extent<'_>| match extent.data {
        Data::Flat { name, offset } if Some(name) == device => Some(offset),
        _ => None,
    };
    descriptor.extents().filter_map(of_device).collect()
}

/// The numbers of these partitions: empty if they are all that the device has, none if the table does not say.
pub fn partition_numbers(descriptor: &Descriptor, device: &Present<'_>) -> Option<Vec<u32>> {
    let (starts, table) = (partition_starts(descriptor), device.table().ok()?);
    let of_start = |start: &u64| table.partitions.iter().find(|partition| partition.place.start == *start);
    let numbers: Vec<u32> = starts
        .iter()
        .map(|start| of_start(start).map(|partition| partition.number))
        .collect::<Option<_>>()?;
    Some(if numbers.len() == table.partitions.len() { Vec::new() } else { numbers })
}

/// The files that hold the private copy of the table, opened once: what is read and who may read it belong together.
pub struct Copies {
    /// The place of each on the disk and in its file, in bytes.
    parts: Vec<(Range<u64>, u64, io::Result<File>)>,
}

impl Copies {
    /// Opens what stands beside a descriptor by the names that it gives, and nothing else: whose the descriptor is need not be who
    /// reads it here.
    pub fn open(descriptor: &Descriptor, place: &Place) -> Copies {
        let parts = descriptor.private().map(|(first, name, offset, sectors)| {
            (first * 512..(first + sectors) * 512, offset.saturating_mul(512), open(place, name))
        });
        Copies { parts: parts.collect() }
    }

    /// The owner and the mode of the private copy; if it is lost, those of the descriptor.
    pub fn rights(&self, place: &Place) -> Result<Rights, Finding> {
        let rights = |path: &Path| {
            Rights::of(path).map_err(|error| {
                let finding = Finding::io("cannot be examined", &error).of(place.path());
                finding.hint("name a file that you may read")
            })
        };
        let files = self.parts.iter().filter_map(|(_, _, file)| file.as_ref().ok());
        let mut copies = files.map(|file| rights(&file::proc_path(file)));
        let Some(first) = copies.next().transpose()? else {
            return rights(&place.beside(place.path().file_name().unwrap_or_default()));
        };
        // What only some may read of the old copy, nobody else reads in the new one.
        for other in copies {
            if other? != first {
                let why = "has a copy of the partition table in files of different owners or modes";
                let hint = "give the files the same owner and mode with chown(1) and chmod(1)";
                return Err(Finding::problem(Code::Unsupported, why).of(place.path()).hint(hint));
            }
        }
        Ok(first)
    }

    /// Reads what the private copy has of the disk from a byte on, and returns whether that is all.
    pub fn read(&self, start: u64, into: &mut [u8]) -> io::Result<bool> {
        let (mut count, end) = (0, start + into.len() as u64);
        for (own, offset, file) in &self.parts {
            let common = own.start.max(start)..own.end.min(end);
            if common.is_empty() {
                continue;
            }
            let part = &mut into[(common.start - start) as usize..(common.end - start) as usize];
            let offset = offset.saturating_add(common.start - own.start);
            let file = file.as_ref().map_err(|error| {
                error.raw_os_error().map_or(error.kind().into(), io::Error::from_raw_os_error)
            })?;
            file.read_exact_at(part, offset)?;
            count += part.len();
        }
        Ok(count == into.len())
    }
}

fn open(place: &Place, name: &Path) -> io::Result<File> {
    if name.as_os_str().as_bytes().contains(&b'/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file::open(&place.beside(name), FileType::is_file)?.ok_or(io::ErrorKind::InvalidInput.into())
}
