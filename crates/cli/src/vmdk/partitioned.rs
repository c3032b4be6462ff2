//! A disk of chosen partitions, with a private copy of the partition table.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::descriptor::{Data, Descriptor, Extent};
use super::device::Present;
use super::table::{Partition, Piece};
use crate::failure::shown;
use crate::file;

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

    /// Writes the private copy beside a descriptor; its name and the lines of the extents.
    pub fn write(&self, descriptor: &Path, device: &str) -> Result<(String, Vec<String>), String> {
        let stem = descriptor.file_stem().and_then(OsStr::to_str).ok_or_else(|| {
            format!(
                "{}: has a name that is no UTF-8, which a descriptor cannot hold; choose another.",
                shown(descriptor)
            )
        })?;
        let copy =
            file::create_numbered(file::directory(descriptor), &format!("{stem}-pt"), "vmdk", &self.copy)?;
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

/// Reads what the private copy has of the disk from a byte on; whether that is all.
pub fn private(descriptor: &Descriptor, file: &Path, start: u64, into: &mut [u8]) -> io::Result<bool> {
    let (mut count, end) = (0, start + into.len() as u64);
    for (first, name, offset, sectors) in descriptor.private() {
        let own = first * 512..(first + sectors) * 512;
        let common = own.start.max(start)..own.end.min(end);
        if common.is_empty() {
            continue;
        }
        // Nothing but what stands beside the descriptor, whose owner need not be who reads it here; opening a FIFO must not wait.
        if name.as_os_str().as_bytes().contains(&b'/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
            .open(file::directory(file).join(name))?;
        if !opened.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let part = &mut into[(common.start - start) as usize..(common.end - start) as usize];
        let offset = offset.saturating_mul(512).saturating_add(common.start - own.start);
        opened.read_exact_at(part, offset)?;
        count += part.len();
    }
    Ok(count == into.len())
}
