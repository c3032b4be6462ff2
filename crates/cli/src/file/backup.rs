//! Backups of files that are replaced.

use std::ffi::OsString;
use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use rustix::io::Errno;
use tempfile::Builder;

use bdwrapper_vmdk::crc32;

use super::open::{open, proc_path};
use super::replace::{MOST, Place};
use super::rights::Rights;

impl Place {
    /// Gives the file a second name: `FILE.bak`, if that is free or an unchanged backup of this command, or else `FILE.bak.1` and so
    /// on.
    pub fn backup(&self, old: &File, rights: &Rights) -> io::Result<OsString> {
        // Where there are no extended attributes, each backup stays.
        let _ = fsetxattr(old, BACKUP, summary(old)?.as_bytes(), XattrFlags::empty());
        let mut number = 0;
        loop {
            let mut name = self.name.clone();
            name.push(".bak");
            if number > 0 {
                name.push(format!(".{number}"));
            }
            let path = self.beside(&name);
            let done = match fs::hard_link(self.beside(&self.name), &path) {
                // File systems without hard links, such as FAT.
                Err(error)
                    if matches!(
                        Errno::from_io_error(&error),
                        Some(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP)
                    ) =>
                {
                    self.put(&name, &fs::read(proc_path(old))?, Some(rights))
                }
                done => done,
            };
            match done {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                Err(_) if is_unchanged_backup(&path) => {
                    let linked = Builder::new()
                        .prefix(".vmware-bdwrapper-")
                        .make_in(proc_path(&self.directory), |temporary| {
                            fs::hard_link(self.beside(&self.name), temporary)
                        })?;
                    return linked.persist(path).map(|_| name).map_err(|error| error.error);
                }
                Err(_) => number += 1,
            }
        }
    }
}

/// The extended attribute of a backup: length and checksum of the file when it was made.
const BACKUP: &str = "user.vmware-bdwrapper.backup";

/// Returns the length and checksum of a file.
fn summary(file: &File) -> io::Result<String> {
    let bytes = fs::read(proc_path(file))?;
    Ok(format!("{} {:08x}", bytes.len(), crc32(&bytes)))
}

/// Returns whether a file is a backup that has not changed since it was made.
fn is_unchanged_backup(path: &Path) -> bool {
    let Ok(Some(file)) = open(path, FileType::is_file) else { return false };
    let mut mark = [0; 64];
    let length = fgetxattr(&file, BACKUP, &mut mark[..]).unwrap_or_default();
    file.metadata().is_ok_and(|status| status.len() <= MOST)
        && summary(&file).is_ok_and(|summary| length > 0 && summary.as_bytes() == &mark[..length])
}
