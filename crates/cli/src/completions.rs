//! `vmware-bdwrapper completions`: what a shell needs to complete this command's words.

use clap::Command;
use clap_complete::{Shell, generate};

use crate::failure::{Failure, print};

/// Prints the text for a shell.
pub fn completions(command: &Command, shell: &str) -> Result<(), Failure> {
    const NAME: &str = env!("CARGO_PKG_NAME");
    let shell: Shell = shell.parse().map_err(|why: String| Failure::new(Failure::USAGE, why))?;
    // What the help does not show is nothing to be completed.
    let tasks = command.get_subcommands().filter(|task| !task.is_hide_set()).cloned();
    let mut shown = Command::new(NAME).version(env!("CARGO_PKG_VERSION")).subcommands(tasks);
    let mut text = Vec::new();
    generate(shell, &mut shown, NAME, &mut text);
    print(text)
}
