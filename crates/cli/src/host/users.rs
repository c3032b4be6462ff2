//! Users and groups.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use rustix::process::{getegid, getgroups};

/// A database of the name service.
#[derive(Clone, Copy)]
pub enum Database {
    /// passwd(5)
    Users,
    /// group(5)
    Groups,
}

/// Where getent(1) is looked for. Not in `PATH`, which is the user's where root runs this command by sudo(8).
const PATH: &str = "/usr/bin:/bin:/run/current-system/sw/bin";

impl Database {
    /// Returns the entry of a name or number. getent(1) knows more of them than the file, which is read only where there is no
    /// getent.
    fn entry(self, key: &str) -> Option<String> {
        let (database, file) = match self {
            Database::Users => ("passwd", "/etc/passwd"),
            Database::Groups => ("group", "/etc/group"),
        };
        let is_it = |line: &&str| line.split(':').step_by(2).take(2).any(|field| field == key);
        match Command::new("getent")
            .env("PATH", PATH)
            .args([database, "--", key])
            .stdin(Stdio::null())
            .output()
        {
            Ok(found) => {
                let text = String::from_utf8_lossy(&found.stdout);
                text.lines().next().filter(|_| found.status.success()).map(str::to_owned)
            }
            Err(_) => String::from_utf8_lossy(&fs::read(file).ok()?).lines().find(is_it).map(str::to_owned),
        }
    }

    /// Returns whether a name exists.
    pub fn has(self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Returns the name that a number has; the number where it has none.
    pub fn name(self, id: u32) -> String {
        let entry = self.entry(&id.to_string());
        let name = entry.as_deref().and_then(|entry| entry.split(':').next());
        name.map_or_else(|| id.to_string(), str::to_owned)
    }
}

/// Returns whether the next session of a user will have a group (group(5)).
pub fn is_member(user: &str, group: u32) -> bool {
    let entry = Database::Groups.entry(&group.to_string()).unwrap_or_default();
    entry.split(':').nth(3).is_some_and(|members| members.split(',').any(|member| member == user))
}

/// Returns whether this process has a group.
pub fn has_group(group: u32) -> bool {
    getegid().as_raw() == group || getgroups().unwrap_or_default().iter().any(|own| own.as_raw() == group)
}

/// Says whose a file is; continues a sentence that begins with its name.
pub fn rights(status: &Metadata) -> String {
    format!(
        "belongs to {}:{} with mode {:04o}",
        Database::Users.name(status.uid()),
        Database::Groups.name(status.gid()),
        status.mode() & 0o7777
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!([Database::Users, Database::Groups].map(|database| database.name(0)), ["root", "root"]);
        assert_eq!(Database::Users.name(4_000_000_000), "4000000000");
        assert!(Database::Users.has("root") && !Database::Groups.has("no such group"));
        assert!(!is_member("root", 4_000_000_000));
    }
}
