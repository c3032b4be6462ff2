//! The rights to a device.

use std::ffi::OsStr;

use crate::host::block::Block;
use crate::host::tool::run;
use crate::host::udev::Access;
use crate::host::users::Database;
use crate::say::failure::{Failure, quoted};
use crate::say::finding::{Code, Finding};

impl Access {
    /// Fails unless user and group exist, which udev needs as well, and the mode is octal.
    pub fn check(&self) -> Result<(), Failure> {
        let names = [(Database::Users, &self.owner, "user"), (Database::Groups, &self.group, "group")];
        for (database, name, what) in names {
            let Some(name) = name else { continue };
            let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number && (name.is_empty() || name.starts_with('-') || !database.has(name)) {
                let finding =
                    Finding::problem(Code::NotFound, format!("is not the name of a {what}")).of(name);
                return Err(Failure::usage(finding.hint("name one that exists")));
            }
        }
        match &self.mode {
            Some(mode)
                if !u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o777) || mode.starts_with('+') =>
            {
                let finding = Finding::problem(Code::Usage, "is not a valid mode").of(mode);
                Err(finding.hint("give an octal number such as 0660").into())
            }
            _ => Ok(()),
        }
    }

    /// Returns the programs that give the device these rights, each with its argument.
    pub fn commands(&self) -> impl Iterator<Item = (&'static str, String)> {
        let owner = match (&self.owner, &self.group) {
            (None, None) => None,
            (owner, group) => {
                let group = group.as_ref().map(|group| format!(":{group}")).unwrap_or_default();
                Some(("chown", owner.clone().unwrap_or_default() + &group))
            }
        };
        owner.into_iter().chain(self.mode.clone().map(|mode| ("chmod", mode)))
    }
}

/// Gives a device one of these rights.
pub fn change(tool: &str, value: &str, block: &Block) -> Result<(), Finding> {
    let path = block.path();
    let arguments = [OsStr::new("--"), value.as_ref(), path.as_os_str()];
    let Err(why) = run(tool, arguments) else { return Ok(()) };
    let finding = Finding::problem(Code::Io, format!("its rights cannot be changed ({why})")).of(&path);
    Err(finding.hint(format!("change them by hand: '{tool} {} {}'", quoted(value), quoted(&path))))
}
