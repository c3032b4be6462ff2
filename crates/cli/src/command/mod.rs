//! The subcommands, apart from `trace` and `vmdk`.

pub mod add;
pub mod completions;
pub mod doctor;
pub mod libdir;
pub mod link;
pub mod list;
pub mod probe;
pub mod run;
pub mod setup;
pub mod sudo;
pub mod supervise;

use std::process::Command;

use crate::say::failure::{FORMAT, Format};

/// This command anew, for a part of what it does, with messages in the same format.
pub fn itself(part: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    let format = (FORMAT.get() == Some(&Format::Json)).then_some("--message-format=json");
    command.args(format).arg(part);
    command
}
