//! What the supervisor may do and may not do, by whose rights it has.

use rustix::thread::{CapabilitySet, capabilities};

use crate::user::{Unknown, User};

/// How the supervisor works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether the tree can gain no rights by executing set-user-ID programs (`PR_SET_NO_NEW_PRIVS`):
    /// the kernel takes a filter from an ordinary user only so.
    pub no_new_privileges: bool,
    /// Whether the supervisor could reach the memory of processes of other users. The number of a
    /// process that is killed during its call can be given to another, into which nothing may be
    /// written.
    pub reaches_others: bool,
    /// The user for whom root runs the program, by sudo(8).
    pub user: Option<&'static User>,
}

impl Policy {
    /// Returns that of the calling process.
    pub fn current() -> Result<Policy, Unknown> {
        // It is needed as long as the supervisor runs.
        let user = User::of_sudo()?.map(|user| &*Box::leak(Box::new(user)));
        let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        Ok(Policy {
            no_new_privileges: !effective.contains(CapabilitySet::SYS_ADMIN),
            reaches_others: effective.contains(CapabilitySet::SYS_PTRACE),
            user,
        })
    }
}
