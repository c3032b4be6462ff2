//! Reads and replaces small files as a whole.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::open::{directory, follow_link, inode, open, proc_path};
use super::rights::{Rights, temporary};
use crate::say::failure::{say, shown};
use crate::say::finding::{Code, Finding};

/// The most bytes that a descriptor or a `.vmx` file may have.
pub const MOST: u64 = 1 << 20;

/// The name of a file in a directory that is held open: moving a directory on the way to it cannot make one file be read and
/// another replaced.
pub struct Place {
    path: PathBuf,
    pub directory: File,
    pub name: OsString,
    lock: Option<File>,
    read: Option<File>,
}

impl Place {
    /// Returns the place of a file that need not exist, or of the file that a symbolic link leads to.
    pub fn of(path: &Path) -> Result<Place, Finding> {
        Place::without_following(&follow_link(path))
    }

    /// Returns the place of this very name, even if it is a symbolic link.
    pub fn without_following(path: &Path) -> Result<Place, Finding> {
        let name = path.file_name().ok_or_else(|| no_file(path))?.to_owned();
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::PATH | OFlags::DIRECTORY).bits() as i32)
            .open(directory(path))
            .map_err(|error| {
                Finding::io("cannot be reached", &error)
                    .of(path)
                    .hint("name a file in a directory that exists and that you may search")
            })?;
        let place = Place { path: path.into(), directory, name, lock: None, read: None };
        let is_it = inode(proc_path(&place.directory).metadata()) == inode(place.directory.metadata());
        if is_it {
            Ok(place)
        } else {
            Err(Finding::problem(Code::Io, "is not mounted")
                .of("/proc")
                .hint("run as root: 'mount -t proc proc /proc'"))
        }
    }

    /// Returns the place of a file with its directory locked until it is dropped; warns if that takes waiting. The lock is on the
    /// directory because the file itself is replaced, so read the file after locking.
    pub fn lock(path: &Path) -> Result<Place, Finding> {
        let mut place = Place::of(path)?;
        let cannot = |error: io::Error| {
            let finding = Finding::io("cannot be locked", &error).of(path);
            finding.hint("name a file in a directory that you may read")
        };
        let lock = File::open(proc_path(&place.directory)).map_err(cannot)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                let why =
                    format!("waits for another program that has locked {}", shown(directory(&place.path)));
                say(Finding::warning(Code::Waiting, why).of(path).hint("'lslocks' shows that program"));
                rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
            }
            done => done,
        }
        .map_err(|error| cannot(error.into()))?;
        place.lock = Some(lock);
        Ok(place)
    }

    /// Returns the name of the file for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a path to another file in the same directory.
    pub fn beside(&self, name: impl AsRef<Path>) -> PathBuf {
        proc_path(&self.directory).join(name)
    }

    /// Looks at what has the name now, without following a symbolic link or opening what would notice it.
    pub fn found(&self) -> io::Result<Option<(File, Metadata)>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        match OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(self.beside(&self.name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found.and_then(|file| file.metadata().map(|status| Some((file, status)))),
        }
    }

    /// Reads a small regular file, which is the one that `replace` replaces.
    pub fn read(&mut self) -> Result<Vec<u8>, Finding> {
        let (mut bytes, file) = (Vec::new(), self.open()?);
        let cannot = |error: io::Error| unreadable(&self.path, &error);
        let length = file.metadata().map_err(cannot)?.len();
        if length <= MOST {
            (&file).take(MOST + 1).read_to_end(&mut bytes).map_err(cannot)?;
        }
        if length > MOST || bytes.len() as u64 > MOST {
            let why = format!(
                "has {} bytes, more than the {MOST} that a descriptor or .vmx file can have",
                length.max(bytes.len() as u64)
            );
            return Err(Finding::problem(Code::Malformed, why)
                .of(&self.path)
                .hint("name the small text file"));
        }
        self.read = Some(file);
        Ok(bytes)
    }

    fn open(&self) -> Result<File, Finding> {
        let path = self.beside(&self.name);
        match open(&path, FileType::is_file) {
            Ok(Some(file)) => Ok(file),
            Ok(None) if path.is_symlink() => {
                let finding = Finding::problem(Code::NotFound, "is a symbolic link that leads nowhere");
                Err(finding.of(&self.path).hint(READABLE))
            }
            Ok(None) => Err(no_file(&self.path)),
            Err(error) => Err(unreadable(&self.path, &error)),
        }
    }

    /// Creates a file, all of it or nothing.
    pub fn create(&self, bytes: &[u8]) -> Result<(), Finding> {
        match self.put(&self.name, bytes, None) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(already_exists(&self.path)),
            Err(error) => Err(not_written(&self.path, &error)),
        }
    }

    /// Creates a file with these rights, all of it or nothing.
    pub fn create_with(&self, bytes: &[u8], rights: &Rights) -> Result<(), Finding> {
        self.put(&self.name, bytes, Some(rights)).map_err(|error| not_written(&self.path, &error))?;
        self.sync()
    }

    /// Creates an empty file in place of `old`, which [`Place::found`] returned, with its rights; programs that have the old file
    /// open keep it.
    pub fn renew(&self, old: Option<&File>) -> Result<File, Finding> {
        let cannot =
            |error: io::Error| Finding::io("cannot be made", &error).of(&self.path).hint("name another file");
        let target = self.beside(&self.name);
        let Some(old) = old else {
            let file = temporary(&target, b"", None).map_err(cannot)?;
            return file.persist_noclobber(&target).map_err(|error| cannot(error.error));
        };
        let rights = Rights::of(&proc_path(old)).map_err(cannot)?;
        let file = temporary(&target, b"", Some(&rights)).map_err(cannot)?;
        self.check_unchanged(old)?;
        file.persist(&target).map_err(|error| cannot(error.error))
    }

    /// Fails if another file has the name by now.
    fn check_unchanged(&self, old: &File) -> Result<(), Finding> {
        let now = inode(self.beside(&self.name).symlink_metadata());
        if now.is_some() && now == inode(old.metadata()) {
            return Ok(());
        }
        let why = "has been replaced by another program meanwhile, so nothing was changed";
        Err(Finding::problem(Code::InUse, why).of(&self.path).hint("try again"))
    }

    /// Creates a file in the same directory under the first free name of `STEM.EXTENSION`, `STEM-1.EXTENSION` and so on, with these
    /// rights or those of new files; returns the name.
    pub fn create_numbered(
        &self,
        stem: &str,
        extension: &str,
        bytes: &[u8],
        rights: Option<&Rights>,
    ) -> Result<String, Finding> {
        let mut number = 0;
        loop {
            let name = match number {
                0 => format!("{stem}.{extension}"),
                _ => format!("{stem}-{number}.{extension}"),
            };
            match self.put(name.as_ref(), bytes, rights) {
                Ok(()) => return self.sync().map(|()| name),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(not_written(&self.path.with_file_name(name), &error)),
            }
        }
    }

    pub fn put(&self, name: &OsStr, bytes: &[u8], rights: Option<&Rights>) -> io::Result<()> {
        let path = self.beside(name);
        temporary(&path, bytes, rights)?.persist_noclobber(path).map(drop).map_err(|error| error.error)
    }

    /// Replaces the file, all of it or nothing, preserving its owner, mode and access control list. With `keep` the old file stays
    /// under another name, which is returned.
    pub fn replace(&self, bytes: &[u8], keep: bool) -> Result<Option<PathBuf>, Finding> {
        let cannot = |error: io::Error| not_written(&self.path, &error);
        let old = match &self.read {
            Some(file) => file.try_clone().map_err(cannot)?,
            None => self.open()?,
        };
        let rights = Rights::of(&proc_path(&old)).map_err(cannot)?;
        let target = self.beside(&self.name);
        let file = temporary(&target, bytes, Some(&rights)).map_err(cannot)?;
        self.check_unchanged(&old)?;
        let backup = if keep { Some(self.backup(&old, &rights).map_err(cannot)?) } else { None };
        if let Err(error) = file.persist(&target) {
            if let Some(backup) = &backup {
                let _ = fs::remove_file(self.beside(backup));
            }
            return Err(cannot(error.error));
        }
        self.sync()?;
        Ok(backup.map(|name| self.path.with_file_name(name)))
    }

    /// Writes the names in the directory to the disk, too.
    fn sync(&self) -> Result<(), Finding> {
        File::open(proc_path(&self.directory)).and_then(|file| file.sync_all()).map_err(|error| {
            Finding::io("may not be on the disk yet", &error).of(&self.path).hint("run 'sync'")
        })
    }
}

fn no_file(path: &Path) -> Finding {
    Finding::problem(Code::FileType, "is not a regular file").of(path).hint("name one")
}

const READABLE: &str = "name a file that you may read";

fn unreadable(path: &Path, error: &io::Error) -> Finding {
    Finding::io("cannot be read", error).of(path).hint(READABLE)
}

/// Says that a file is not replaced because it exists.
pub fn already_exists(path: &Path) -> Finding {
    let hint = "choose another name, or add --force to replace it";
    Finding::problem(Code::Exists, "exists already").of(path).hint(hint)
}

fn not_written(path: &Path, error: &io::Error) -> Finding {
    Finding::io("cannot be written", error).of(path).hint(
        "nothing was changed. The directory must be writable and have room, and you must have the right to give a file to the \
         present owner and group",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// Whoever owns the directory can move it, and put something else under its name, between any two steps.
    #[test]
    fn what_was_looked_at_is_what_is_replaced() {
        let root = tempfile::tempdir().expect("it can be made");
        let [theirs, away, ours] = ["theirs", "away", "ours"].map(|name| root.path().join(name));
        for directory in [&theirs, &ours] {
            fs::create_dir(directory).expect("it is ours");
        }
        fs::write(theirs.join("old"), "old").expect("it is ours");
        let places =
            ["new", "old"].map(|name| Place::without_following(&theirs.join(name)).expect("it exists"));
        let found = places.each_ref().map(|place| place.found().expect("it can be looked at"));
        fs::rename(&theirs, &away).expect("it is ours");
        symlink(&ours, &theirs).expect("it is ours");
        for (place, found) in places.iter().zip(&found) {
            let old = found.as_ref().map(|(file, _)| file);
            place
                .renew(old)
                .and_then(|mut file| {
                    file.write_all(b"trace").map_err(|error| unreadable(Path::new("trace"), &error))
                })
                .expect("it can be made");
        }
        assert_eq!(fs::read_dir(&ours).expect("it is ours").count(), 0);
        for name in ["new", "old"] {
            assert_eq!(fs::read(away.join(name)).expect("it is ours"), b"trace");
        }
        // Another file has the name by now, or any has.
        for (place, found) in places.iter().zip(&found) {
            let old = found.as_ref().map(|(file, _)| file);
            place.renew(old).expect_err("it is not the one that was looked at");
        }
        symlink(ours.join("x"), away.join("link")).expect("it is ours");
        let place = Place::without_following(&away.join("link")).expect("it exists");
        let (_, status) = place.found().expect("it can be looked at").expect("it exists");
        assert!(status.is_symlink());
        let place = Place::of(&away.join("absent")).expect("it can be");
        let rights = Rights { mode: 0o640, ..Rights::of(&away.join("new")).expect("it exists") };
        place.create_with(b"text", &rights).expect("it can be made");
        assert_eq!(away.join("absent").metadata().expect("it exists").mode() & 0o777, 0o640);
        place.create_with(b"text", &rights).expect_err("it exists");
    }
}
