//! The user for whom root runs a program, and what is left of root's rights then.
//!
//! The program gets the user's identity and, because no `PR_SET_NO_NEW_PRIVS` is needed, set-user-ID
//! programs in the tree keep their rights. The front and the supervisor have, from before the program
//! is executed:
//!
//! - the real and the saved user 0, so that the user can neither kill nor trace them;
//! - the effective user and the user of files (setfsuid(2)) of the program, and its groups: what they
//!   open is what the user could open, and they send signals to what the user could;
//! - of root's capabilities the supervisor alone has one, `CAP_SYS_PTRACE`, for the descriptors and
//!   the memory of set-user-ID programs.
//!
//! The files of /proc that belong to a set-user-ID program are root's, as far as permissions go. A
//! thread that opens one has the user of files 0 for that moment ([`User::as_root`]); it needs no
//! capability to return to its saved user. It cannot become a third user: threads of other users are
//! not answered (see [`Target::is_reachable`](crate::target::Target::is_reachable)), and the few
//! commands that open the device anew are for callers who are the user, or root.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString, c_char, c_int, c_long};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr;

use disk::Errno;
use disk::conf::Subject;
use disk::entry::Entry;
use engine::listed::{self, Key, Problem};
use engine::sys;
use rustix::fs::{Mode, OFlags};
use rustix::process::{
    DumpableBehavior, Gid, Uid, getegid, geteuid, getgroups, getuid, set_dumpable_behavior,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::target::result;

/// The variables in which sudo(8) names the user who called it.
const USER: &str = "SUDO_UID";
const GROUP: &str = "SUDO_GID";

/// A user whom root runs a program for.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    name: CString,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// Why it is not known for whom root runs the program.
#[derive(Debug)]
pub enum Unknown {
    /// A variable of sudo is not a number of a user or group.
    Variable(&'static str, Option<OsString>),
    /// No user has this number.
    Nobody(u32),
    /// The database of users cannot be read.
    Database(io::Error),
    /// This process is a set-user-ID program.
    SetUserId,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Variable(name, None) => write!(f, "{name} is not set, but {USER} is"),
            Unknown::Variable(name, Some(value)) => {
                write!(
                    f,
                    "{name} is not the number of a user or group: '{}'",
                    value.to_string_lossy().escape_debug()
                )
            }
            Unknown::Nobody(uid) => write!(f, "no user has the number {uid} ({USER})"),
            Unknown::Database(error) => write!(f, "the user that {USER} names cannot be looked up: {error}"),
            Unknown::SetUserId => f.write_str("vmware-bdwrapper must not have the set-user-ID bit"),
        }
    }
}

impl User {
    /// Returns the user who called sudo; `None` where this process is not root's, or where root
    /// itself has started it.
    pub fn of_sudo() -> Result<Option<User>, Unknown> {
        if getuid() != geteuid() {
            return Err(Unknown::SetUserId);
        }
        let Some(user) = std::env::var_os(USER).filter(|_| getuid().is_root()) else { return Ok(None) };
        let uid = number(USER, Some(user))?;
        if uid == 0 {
            return Ok(None);
        }
        User::look_up(uid, number(GROUP, std::env::var_os(GROUP))?).map(Some)
    }

    /// Returns the user of the calling process.
    pub fn calling() -> Result<User, Unknown> {
        User::look_up(getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    /// Returns the user of a name or number, if there is one.
    pub fn named(name: &str) -> io::Result<Option<User>> {
        let ids = |entry: &libc::passwd| (entry.pw_uid, entry.pw_gid);
        let text = CString::new(name)?;
        let by_name = |entry, room, length, found| {
            // SAFETY: all of these addresses are of what the function fills, or of the room that it is given; the name is a string.
            unsafe { libc::getpwnam_r(text.as_ptr(), entry, room, length, found) }
        };
        let mut found = entry_of(by_name, ids)?;
        if let (None, Ok(uid)) = (found, name.parse()) {
            let by_number = |entry, room, length, found| {
                // SAFETY: as above.
                unsafe { libc::getpwuid_r(uid, entry, room, length, found) }
            };
            found = entry_of(by_number, ids)?;
        }
        let Some((uid, gid)) = found else { return Ok(None) };
        User::look_up(uid, gid).map(Some).map_err(|unknown| io::Error::other(unknown.to_string()))
    }

    /// Looks up the name and the groups of a user.
    fn look_up(uid: u32, gid: u32) -> Result<User, Unknown> {
        let name = name_of(uid).map_err(Unknown::Database)?.ok_or(Unknown::Nobody(uid))?;
        let groups = groups_of(&name, gid).into_iter().map(Gid::from_raw).collect();
        Ok(User { name, uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), groups })
    }

    /// Returns the user's number.
    pub fn number(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Returns the number of the user's own group.
    pub fn group(&self) -> u32 {
        self.gid.as_raw()
    }

    /// Returns the user's name.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// Returns the user's home directory.
    pub fn home(&self) -> io::Result<PathBuf> {
        let find = |entry, room, length, found| {
            // SAFETY: all of these addresses are of what the function fills, or of the room that it is given.
            unsafe { libc::getpwuid_r(self.uid.as_raw(), entry, room, length, found) }
        };
        // SAFETY: the directory of an entry is a string.
        let home = entry_of(find, |entry: &libc::passwd| unsafe { CStr::from_ptr(entry.pw_dir) }.to_owned())?;
        Ok(OsString::from_vec(home.unwrap_or_default().into_bytes()).into())
    }

    /// Returns whether a line of the configuration file is about this user.
    pub fn is(&self, subject: &Subject<'_>) -> bool {
        match *subject {
            Subject::User(name) => self.name.to_bytes() == name,
            Subject::Group(name) => {
                let group = CString::new(name).ok().and_then(|name| group_of(&name));
                group.is_some_and(|group| self.gid == group || self.groups.contains(&group))
            }
        }
    }

    /// Gives the calling process, which has one thread, the user's identity and nothing else.
    pub(crate) fn take_identity(&self) -> io::Result<()> {
        set_thread_groups(&self.groups)?;
        set_thread_res_gid(self.gid, self.gid, self.gid)?;
        set_thread_res_uid(self.uid, self.uid, self.uid)?;
        // As long as no program has been executed, its memory is root's.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        self.leave_keyring();
        Ok(())
    }

    /// Leaves the session keyring if it is another user's: sudo can have made one that leads to root's
    /// keys (pam_keyinit(8)), and whoever has a keyring may read them. Where keyctl(2) is not allowed, it
    /// is not allowed to the program.
    fn leave_keyring(&self) {
        const SESSION: c_int = -3;
        const USER: c_int = -4;
        let mut text = [0u8; 512];
        // "TYPE;USER;GROUP;PERMISSIONS;DESCRIPTION"
        // SAFETY: the kernel writes at most as many bytes as there are.
        let found = unsafe {
            libc::syscall(libc::SYS_keyctl, libc::KEYCTL_DESCRIBE, SESSION, text.as_mut_ptr(), text.len())
        };
        let owner = text.split(|byte| *byte == b';').nth(1).filter(|_| found >= 0);
        if owner == Some(self.uid.as_raw().to_string().as_bytes()) {
            return;
        }
        // SAFETY: a null pointer asks for a keyring without a name; the rest are numbers.
        unsafe {
            libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<c_char>());
            libc::syscall(libc::SYS_keyctl, libc::KEYCTL_LINK, USER, SESSION);
        }
    }

    /// Takes from the calling process, which has one thread, root's rights but these capabilities:
    /// see the module.
    pub(crate) fn confine(&self, kept: CapabilitySet) -> io::Result<()> {
        for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
            match remove_capability_from_bounding_set(capability) {
                // The kernel does not have so many.
                Err(rustix::io::Errno::INVAL) => break,
                removed => removed?,
            }
        }
        clear_ambient_capability_set()?;
        // No change of a user and no program gives any back.
        let locked = CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        let set = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE;
        set_capabilities_secure_bits(set | locked)?;
        set_thread_groups(&self.groups)?;
        set_thread_res_gid(self.gid, self.gid, self.gid)?;
        set_thread_res_uid(Uid::ROOT, self.uid, Uid::ROOT)?;
        let inheritable = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
        set_no_new_privs(true)?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        Ok(())
    }

    /// Calls `act` with the user's rights to files, in a process with root's.
    pub fn with_file_rights<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        struct Own {
            groups: Vec<Gid>,
            gid: Gid,
        }
        impl Drop for Own {
            fn drop(&mut self) {
                let _ = set_file_user(0);
                let _ = set_file_group(self.gid.as_raw());
                let _ = set_thread_groups(&self.groups);
            }
        }
        let error = |Errno(errno)| io::Error::from_raw_os_error(errno);
        let _own = Own { groups: getgroups()?, gid: getegid() };
        set_thread_groups(&self.groups)?;
        set_file_group(self.gid.as_raw()).map_err(error)?;
        set_file_user(self.uid.as_raw()).map_err(error)?;
        Ok(act())
    }

    /// Calls `act` with the user of files 0, in a thread that [`confine`](User::confine) has confined.
    pub(crate) fn as_root<T>(&self, act: impl FnOnce() -> T) -> T {
        struct Own(Uid);
        impl Drop for Own {
            fn drop(&mut self) {
                let _ = set_file_user(self.0.as_raw());
            }
        }
        let _own = Own(self.uid);
        // Where it fails, `act` has the user's rights.
        let _ = set_file_user(0);
        act()
    }

    /// Looks at what an entry's path leads to, provided that the user may open that.
    pub fn look_up_device(&self, entry: &Entry<'_>) -> Result<Openable, Problem> {
        let found = self.with_file_rights(|| openable(entry));
        let (status, birth) = found.unwrap_or(Err(Errno::EPERM)).map_err(|errno| match errno {
            Errno::ENOENT => Problem::Missing(errno),
            _ => Problem::NotPermitted(errno),
        })?;
        Ok(Openable { key: listed::node_key(&status, birth, entry)?, status, birth })
    }
}

/// A device that a user may open.
pub struct Openable {
    /// This node of a block device, since the user may be unable to open others.
    pub key: Key,
    status: sys::Status,
    birth: u64,
}

impl Openable {
    /// Returns whether the path of another entry leads to the same device.
    pub fn is_of(&self, other: &Entry<'_>) -> bool {
        let path = CString::new(other.path).unwrap_or_default();
        listed::look_up(&path, other).is_ok_and(|key| key.is_of(&self.status, || self.birth))
    }
}

/// Looks at the file that an entry's path leads to, provided that the calling thread may open it.
fn openable(entry: &Entry<'_>) -> Result<(sys::Status, u64), Errno> {
    let node = rustix::fs::open(entry.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let node = node.map_err(|errno| Errno(errno.raw_os_error()))?;
    let fd = node.as_raw_fd();
    let mode = if entry.read_only { libc::R_OK } else { libc::R_OK | libc::W_OK };
    // Not faccessat(2), which asks for the real user: that is root.
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a string.
    result(unsafe { libc::syscall(libc::SYS_faccessat2, fd, c"".as_ptr(), mode, flags) })?;
    Ok((sys::fstat(fd)?, sys::birth(fd)))
}

/// Gives the calling thread a user of files (setfsuid(2)).
pub fn set_file_user(user: u32) -> Result<(), Errno> {
    set_file_id(libc::SYS_setfsuid, user)
}

/// Gives the calling thread a group of files (setfsgid(2)).
pub fn set_file_group(group: u32) -> Result<(), Errno> {
    set_file_id(libc::SYS_setfsgid, group)
}

fn set_file_id(call: c_long, wanted: u32) -> Result<(), Errno> {
    // It returns the number before, whether it has changed it or not.
    // SAFETY: these calls take a number.
    let now = unsafe {
        libc::syscall(call, wanted);
        libc::syscall(call, u32::MAX)
    };
    if now as u32 == wanted { Ok(()) } else { Err(Errno::EPERM) }
}

/// Parses the value of a variable: decimal digits, and not the number that stands for none.
fn number(name: &'static str, value: Option<OsString>) -> Result<u32, Unknown> {
    let digits = value.as_ref().and_then(|value| value.to_str());
    let digits = digits.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok()).filter(|number| *number != u32::MAX);
    number.ok_or(Unknown::Variable(name, value))
}

/// The most bytes of an entry of the database of users or groups.
const LONGEST_ENTRY: usize = 1 << 24;

/// Looks up an entry of the database of users or groups by a function of the C library that is given
/// room for its texts; calls `read` with what it finds.
fn entry_of<T, R>(
    mut find: impl FnMut(*mut T, *mut c_char, usize, *mut *mut T) -> c_int,
    read: impl FnOnce(&T) -> R,
) -> io::Result<Option<R>> {
    let mut room = vec![0; 4096];
    loop {
        let (mut entry, mut found) = (MaybeUninit::uninit(), ptr::null_mut());
        match find(entry.as_mut_ptr(), room.as_mut_ptr(), room.len(), &raw mut found) {
            // SAFETY: what is found is null, or the address of the entry, which has been filled.
            0 => return Ok(unsafe { found.as_ref() }.map(read)),
            libc::ERANGE if room.len() < LONGEST_ENTRY => room.resize(room.len() * 4, 0),
            libc::EINTR => {}
            // What no entry is reported as, too: getpwnam_r(3).
            libc::ENOENT | libc::ESRCH => return Ok(None),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn name_of(uid: u32) -> io::Result<Option<CString>> {
    // SAFETY: all of these addresses are of what the function fills, or of the room that it is given.
    let find = |entry, room, length, found| unsafe { libc::getpwuid_r(uid, entry, room, length, found) };
    // SAFETY: the name of an entry is a string.
    entry_of(find, |entry: &libc::passwd| unsafe { CStr::from_ptr(entry.pw_name) }.to_owned())
}

fn group_of(name: &CStr) -> Option<Gid> {
    let find = |entry, room, length, found| {
        // SAFETY: as above; the name is a string.
        unsafe { libc::getgrnam_r(name.as_ptr(), entry, room, length, found) }
    };
    entry_of(find, |entry: &libc::group| Gid::from_raw(entry.gr_gid)).ok().flatten()
}

/// Returns the groups of a user, as initgroups(3) sets them: one of them is given.
fn groups_of(name: &CStr, gid: u32) -> Vec<u32> {
    let mut groups = vec![gid; 64];
    loop {
        let mut count = groups.len() as c_int;
        // SAFETY: the name is a string, and the C library fills as many groups as there is room for.
        let all = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        // Where there is not room enough, it says how much is.
        let needed = usize::try_from(count).unwrap_or(0);
        if all >= 0 || needed <= groups.len() {
            groups.truncate(needed);
            return groups;
        }
        groups.resize(needed, gid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_sudo() {
        let parse = |text: &str| number(USER, Some(text.into())).ok();
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("4294967294"), Some(4_294_967_294));
        for wrong in
            ["", " ", "-1", "+1", "4294967295", "4294967296", "1x", " 1", "1\n", "0x1", "1.", "\u{661}"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert!(number(GROUP, None).is_err());
    }

    #[test]
    fn users_of_the_database() {
        assert_eq!(name_of(0).expect("it can be read").as_deref(), Some(c"root"));
        assert_eq!(name_of(4_000_000_000).expect("it can be read"), None);
        assert_eq!(group_of(c"root"), Some(Gid::ROOT));
        assert_eq!(group_of(c"no such group"), None);
        assert!(groups_of(c"root", 77).contains(&77));
        let root = User::look_up(0, 0).expect("every system has it");
        for name in ["root", "0"] {
            assert_eq!(User::named(name).expect("it can be read").as_ref(), Some(&root), "{name}");
        }
        for name in ["no such user", "", "-1", "4000000000"] {
            assert_eq!(User::named(name).expect("it can be read"), None, "{name}");
        }
        assert!(root.is(&Subject::User(b"root")) && root.is(&Subject::Group(b"root")));
        assert!(!root.is(&Subject::User(b"roo")) && !root.is(&Subject::Group(b"no such group")));
    }
}
