//! Owner, mode and access control list of a file.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, getxattr};
use rustix::io::Errno;
use tempfile::{Builder, NamedTempFile};

use super::open::directory;

/// The owner, mode and access control list (acl(5)) of a file; without the list the mode would mean something else.
#[derive(Clone, PartialEq, Eq)]
pub struct Rights {
    pub user: u32,
    pub group: u32,
    pub mode: u32,
    pub list: Option<Vec<u8>>,
}

/// The extended attribute that holds the list.
const LIST: &str = "system.posix_acl_access";

impl Rights {
    /// Returns the rights of a file, without set-user-ID and set-group-ID bits: no file that is written here is a program.
    pub fn of(path: &Path) -> io::Result<Rights> {
        let status = path.metadata()?;
        // The most that Linux has (XATTR_SIZE_MAX).
        let mut list = vec![0; 1 << 16];
        let list = match getxattr(path, LIST, &mut list[..]) {
            Ok(length) => Some(list[..length].to_vec()),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Rights { user: status.uid(), group: status.gid(), mode: status.mode() & 0o777, list })
    }
}

/// Writes a temporary file beside the one that it is to become, with these rights or those of new files.
pub fn temporary(path: &Path, bytes: &[u8], rights: Option<&Rights>) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    // Nobody else's until the rights are set.
    let mode = if rights.is_some() { 0o600 } else { 0o666 };
    builder.prefix(".vmware-bdwrapper-").permissions(Permissions::from_mode(mode));
    let mut named = builder.tempfile_in(directory(path))?;
    named.write_all(bytes)?;
    let file = named.as_file();
    if let Some(Rights { user, group, mode, list }) = rights {
        // The one that new files have from their directory.
        match fremovexattr(file, LIST) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (*user, *group) {
            fchown(file, Some(*user), Some(*group))?;
        }
        // Whatever the umask took away.
        file.set_permissions(Permissions::from_mode(*mode))?;
        if let Some(list) = list {
            fsetxattr(file, LIST, list, XattrFlags::empty())?;
        }
    }
    file.sync_all()?;
    Ok(named)
}
