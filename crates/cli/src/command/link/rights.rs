//! The rights to a device.

use super::run;
use crate::host::block::Block;
use crate::host::udev::Access;
use crate::host::users::Database;
use crate::say::failure::{Failure, cause, quoted};
use crate::say::finding::{Code, Finding};

impl Access {
    /// Users and groups must exist, for udev as well; a mode is octal.
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
                let finding = Finding::problem(Code::Usage, "is not the mode of a device").of(mode);
                Err(finding.hint("give an octal number such as 0660").into())
            }
            _ => Ok(()),
        }
    }

    /// The programs that give the device these rights, and their arguments.
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

pub fn change(tool: &str, value: &str, block: &Block) -> Result<(), Finding> {
    let path = block.path();
    let done = run(tool, &["--", value, &path.to_string_lossy()]);
    let why = match done {
        Ok(done) if done.status.success() => return Ok(()),
        Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        Err(error) => cause(&error),
    };
    let finding = Finding::problem(Code::Io, format!("its rights cannot be changed ({why})")).of(&path);
    Err(finding.hint(format!("change them by hand: '{tool} {} {}'", quoted(value), quoted(&path))))
}
