//! Whether the kernel would start a program in secure mode (`AT_SECURE`; see getauxval(3)).
//!
//! The rule is that of Linux's `bprm_fill_uid` (fs/exec.c) and `cap_bprm_creds_from_file` (security/commoncap.c).

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, getxattr, statvfs};
use rustix::process::{getegid, geteuid, getgid, getuid};

use crate::program::find::is_script;
use crate::say::failure::quoted;
use crate::say::finding::{Code, Finding};

/// The bit of a file's mode.
pub const SET_USER_ID: u32 = 0o4000;

/// The process that is to become the program.
#[derive(Clone, Copy)]
struct Process {
    user: u32,
    effective_user: u32,
    group: u32,
    effective_group: u32,
    no_new_privileges: bool,
}

/// What a program's file gives to whoever executes it.
#[derive(Clone, Copy, Default)]
struct Grants {
    /// The file's user, where it has the set-user-ID bit.
    user: Option<u32>,
    /// The file's group, where it has the set-group-ID bit.
    group: Option<u32>,
    /// Capabilities.
    capabilities: bool,
}

/// Whether the program would run in secure mode.
pub fn is_secure(file: &Path, status: &Metadata) -> io::Result<bool> {
    let process = Process {
        user: getuid().as_raw(),
        effective_user: geteuid().as_raw(),
        group: getgid().as_raw(),
        effective_group: getegid().as_raw(),
        no_new_privileges: rustix::thread::no_new_privs()?,
    };
    // A script is read by a program that has its own bits.
    let nothing = is_script(file) || statvfs(file)?.f_flag.contains(StatVfsMountFlags::NOSUID);
    Ok(process.becomes_secure(if nothing { Grants::default() } else { Grants::of(file, status) }))
}

/// Why the set-user-ID bit of a program that does not run in secure mode gives the user nothing.
pub fn idle(file: &Path, status: &Metadata) -> Finding {
    let (why, hint) = if is_script(file) {
        let hint = format!("remove the bit, which misleads: 'chmod u-s {}'", quoted(file));
        ("has the set-user-ID bit, which gives scripts no rights", hint)
    } else if status.uid() == geteuid().as_raw() {
        (
            "has the set-user-ID bit, which gives you no rights that you do not have",
            "check again as the user who starts it, for whom other rules apply".into(),
        )
    } else if rustix::thread::no_new_privs().unwrap_or(false) {
        (
            "has the set-user-ID bit, and this process may not gain new rights (no_new_privs)",
            "start it outside the container or sandbox that forbids it".into(),
        )
    } else {
        (
            "has the set-user-ID bit, and its file system is mounted with nosuid, so it runs with your rights only",
            format!(
                "mount the file system without nosuid as root ('findmnt --target {}' shows it)",
                quoted(file)
            ),
        )
    };
    Finding::warning(Code::Unsupported, why).of(file).hint(hint)
}

/// Whether a program's file has the set-user-ID bit.
pub fn has_bit(status: &Metadata) -> bool {
    status.mode() & SET_USER_ID != 0
}

impl Grants {
    fn of(file: &Path, status: &Metadata) -> Grants {
        const SET_GROUP_ID: u32 = 0o2010;
        let has = |bits| status.mode() & bits == bits;
        let mut data = [0; 64];
        let length = getxattr(file, "security.capability", &mut data[..]).unwrap_or(0);
        Grants {
            user: has(SET_USER_ID).then_some(status.uid()),
            group: has(SET_GROUP_ID).then_some(status.gid()),
            capabilities: are_effective(&data[..length]),
        }
    }
}

/// Whether a file's `struct vfs_cap_data` (linux/capability.h) gives a capability: little-endian 32-bit words, of which
/// the first has the effective bit and each second one from there permitted capabilities.
fn are_effective(data: &[u8]) -> bool {
    let word = |index: usize| data.get(4 * index..4 * index + 4).unwrap_or_default();
    word(0).first().is_some_and(|flags| flags & 1 != 0)
        || [1, 3].into_iter().any(|at| word(at).iter().any(|&byte| byte != 0))
}

impl Process {
    fn becomes_secure(self, grants: Grants) -> bool {
        let (user, group) = if self.no_new_privileges { (None, None) } else { (grants.user, grants.group) };
        user.unwrap_or(self.effective_user) != self.user
            || group.unwrap_or(self.effective_group) != self.group
            || (grants.capabilities && self.user != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(user: u32) -> Process {
        Process { user, effective_user: user, group: user, effective_group: user, no_new_privileges: false }
    }

    const NOTHING: Grants = Grants { user: None, group: None, capabilities: false };
    const SET_USER: Grants = Grants { user: Some(0), ..NOTHING };
    const CAPABILITIES: Grants = Grants { capabilities: true, ..NOTHING };

    #[test]
    fn as_the_kernel_decides() {
        let (user, root) = (process(1000), process(0));
        assert!(!user.becomes_secure(NOTHING));
        assert!(user.becomes_secure(SET_USER));
        assert!(user.becomes_secure(Grants { group: Some(8), ..NOTHING }));
        assert!(user.becomes_secure(CAPABILITIES));
        assert!(!root.becomes_secure(SET_USER));
        assert!(!root.becomes_secure(CAPABILITIES));
        assert!(root.becomes_secure(Grants { user: Some(1000), ..NOTHING }));
        assert!(!user.becomes_secure(Grants { user: Some(1000), group: Some(1000), ..NOTHING }));
        assert!(Process { effective_user: 0, ..user }.becomes_secure(NOTHING));
        assert!(!Process { no_new_privileges: true, ..user }.becomes_secure(SET_USER));
    }

    #[test]
    fn capabilities_of_a_file() {
        let data = |words: [u32; 5]| words.map(u32::to_le_bytes).concat();
        assert!(!are_effective(&[]));
        assert!(!are_effective(&data([0x0200_0000, 0, 0, 0, 0])));
        assert!(!are_effective(&data([0x0200_0000, 0, 1, 0, 1])), "inheritable alone");
        assert!(are_effective(&data([0x0200_0000, 0x2000, 0, 0, 0])));
        assert!(are_effective(&data([0x0200_0000, 0, 0, 1, 0])));
        assert!(are_effective(&data([0x0200_0001, 0, 0, 0, 0])));
    }
}
