//! A disk of chosen partitions, with a private copy of the partition table.

use std::ffi::OsStr;
use std::path::Path;

use super::descriptor::{Data, Extent};
use super::device::Present;
use super::file;
use super::table::{Partition, Piece};
use crate::failure::shown;

/// The extents of a disk of chosen partitions.
pub struct Layout {
    pieces: Vec<(Piece, bool)>,
    copy: Vec<u8>,
}

impl Layout {
    /// Reads the table of a device; `chosen` says which partitions the virtual machine is to have.
    pub fn new(device: &Present<'_>, mut chosen: impl FnMut(&Partition) -> bool) -> Result<Layout, String> {
        let name = device.entry.printed_path();
        let mut read = device.reader()?;
        let mut copy = Vec::new();
        let pieces = device.table()?.pieces(device.disk.capacity).map_err(|why| format!("{name}: {why}."))?;
        for piece in &pieces {
            if let Piece::Table(place) = piece {
                let mut part = vec![0; (place.end - place.start) as usize * 512];
                read(place.start, &mut part).map_err(|why| format!("{name}: {why}."))?;
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
