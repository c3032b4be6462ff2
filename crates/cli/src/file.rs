//! Small files that are read and replaced as a whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tempfile::{Builder, NamedTempFile};

use crate::failure::{cause, say, shown};

/// The most bytes that a descriptor or a `.vmx` file may have.
const MOST: u64 = 1 << 20;

/// Reads a small regular file; a sentence says why it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| {
        format!("{}: cannot be read ({}); name a file that you may read.", shown(path), cause(&error))
    };
    // Opening a FIFO must not wait.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(cannot)?;
    let status = file.metadata().map_err(cannot)?;
    if !status.is_file() {
        return Err(format!("{}: is no regular file; name one.", shown(path)));
    }
    let mut bytes = Vec::new();
    if status.len() <= MOST {
        file.take(MOST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    }
    if status.len() > MOST || bytes.len() as u64 > MOST {
        return Err(format!(
            "{}: has {} bytes, more than the {MOST} that a descriptor or .vmx file can have; name the small text file.",
            shown(path),
            status.len().max(bytes.len() as u64)
        ));
    }
    Ok(bytes)
}

/// The file itself where a symbolic link leads to it: what stands beside it, does not stand beside the link.
pub fn followed(path: &Path) -> PathBuf {
    match path.is_symlink() {
        true => path.canonicalize().unwrap_or(path.into()),
        false => path.into(),
    }
}

/// The directory that a file stands in.
pub fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Keeps others that ask for it from changing a file, until it is dropped.
pub struct Lock {
    _directory: File,
}

/// Waits until nobody else has the lock, and says so. It is the directory's, because the file itself is replaced: what the file
/// holds has to be read under it.
pub fn lock(path: &Path) -> Result<Lock, String> {
    let file = followed(path);
    let name = directory(&file);
    let cannot = |error: io::Error| {
        format!(
            "{}: cannot be locked ({}); its directory must be one that you may read.",
            shown(path),
            cause(&error)
        )
    };
    // Opening a FIFO must not wait.
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits() as i32)
        .open(name)
        .map_err(cannot)?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            say(format!(
                "{}: waits for another program that has locked {}; lslocks(8) shows it.",
                shown(path),
                shown(name)
            ));
            rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockExclusive))
        }
        done => done,
    }
    .map_err(|error| cannot(error.into()))?;
    Ok(Lock { _directory: directory })
}

/// Makes a file that does not exist yet, all of it or nothing.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), String> {
    match put(path, bytes, None) {
        Ok(()) => sync(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => Err(not_written(path, &error)),
    }
}

/// Makes a file under the first name that is free, `STEM.EXTENSION`, `STEM-1.EXTENSION` and so on, with these rights or those of
/// new files; the name.
pub fn create_numbered(
    directory: &Path,
    stem: &str,
    extension: &str,
    bytes: &[u8],
    rights: Option<Rights>,
) -> Result<String, String> {
    let mut number = 0;
    loop {
        let name = match number {
            0 => format!("{stem}.{extension}"),
            _ => format!("{stem}-{number}.{extension}"),
        };
        let path = directory.join(&name);
        match put(&path, bytes, rights) {
            Ok(()) => return sync(&path).map(|()| name),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(not_written(&path, &error)),
        }
    }
}

/// What is said of a file that is not to be replaced.
pub fn exists(path: &Path) -> String {
    format!("{}: exists already; choose another name, or add --force to replace it.", shown(path))
}

fn put(path: &Path, bytes: &[u8], rights: Option<Rights>) -> io::Result<()> {
    temporary(path, bytes, rights)?.persist_noclobber(path).map(drop).map_err(|error| error.error)
}

/// Replaces a file, all of it or nothing; mode and owner stay. Where `keep` says so the old file stays under another name, which
/// is returned.
pub fn replace(path: &Path, bytes: &[u8], keep: bool) -> Result<Option<PathBuf>, String> {
    let cannot = |error: io::Error| not_written(path, &error);
    // A symbolic link stays.
    let target = path.canonicalize().map_err(cannot)?;
    let status = target.metadata().map_err(cannot)?;
    let file = temporary(&target, bytes, Some(rights(&status))).map_err(cannot)?;
    let backup = if keep { Some(backup(&target).map_err(cannot)?) } else { None };
    if let Err(error) = file.persist(&target) {
        if let Some(backup) = &backup {
            let _ = fs::remove_file(backup);
        }
        return Err(cannot(error.error));
    }
    sync(&target)?;
    Ok(backup)
}

/// Gives the file a second name, `FILE.bak` or, where that is taken, `FILE.bak.1` and so on.
fn backup(target: &Path) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let mut name = target.as_os_str().to_owned();
        name.push(".bak");
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let name = PathBuf::from(name);
        match fs::hard_link(target, &name) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            // File systems without hard links, such as FAT.
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP)
                ) =>
            {
                let status = target.metadata()?;
                let copy = temporary(&name, &fs::read(target)?, Some(rights(&status)))?;
                return copy.persist_noclobber(&name).map(|_| name).map_err(|error| error.error);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whose a file is, and its mode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    pub user: u32,
    pub group: u32,
    pub mode: u32,
}

/// Those of a file; nothing that is written here is a program to be executed as somebody else.
pub fn rights(status: &fs::Metadata) -> Rights {
    Rights { user: status.uid(), group: status.gid(), mode: status.mode() & 0o777 }
}

/// A finished file beside the one that it is to become, with these rights or those of new files.
pub fn temporary(path: &Path, bytes: &[u8], rights: Option<Rights>) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    // Nobody else's until the rights are set.
    let mode = if rights.is_some() { 0o600 } else { 0o666 };
    builder.prefix(".vmware-bdwrapper-").permissions(Permissions::from_mode(mode));
    let mut file = builder.tempfile_in(directory(path))?;
    file.write_all(bytes)?;
    if let Some(Rights { user, group, mode }) = rights {
        let own = file.as_file().metadata()?;
        if (own.uid(), own.gid()) != (user, group) {
            fchown(file.as_file(), Some(user), Some(group))?;
        }
        // Whatever the umask took away.
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

/// Has the name of a file on the disk, too.
fn sync(path: &Path) -> Result<(), String> {
    let directory = directory(path);
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| {
        format!("{}: may not be on the disk yet ({}); run sync(1).", shown(path), cause(&error))
    })
}

fn not_written(path: &Path, error: &io::Error) -> String {
    format!(
        "{}: cannot be written ({}); nothing was changed. Its directory must be writable and have room, and the file's owner must \
         be yours to give.",
        shown(path),
        cause(error)
    )
}

/// Refuses a file that VMware uses: it stands beside its lock, a directory or file `NAME.lck`.
pub fn is_free(path: &Path) -> Result<(), String> {
    let lock = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".lck");
        PathBuf::from(name)
    };
    let locks = [Some(lock(path)), path.canonicalize().ok().as_deref().map(lock)];
    match locks.into_iter().flatten().find(|lock| lock.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(lock) => Err(format!(
            "{}: is in use, for {} exists; shut the virtual machine down and close it in VMware. Where no VMware runs, remove \
             the lock.",
            shown(path),
            shown(&lock)
        )),
    }
}
