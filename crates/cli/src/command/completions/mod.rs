//! `vmware-bdwrapper completions`: what a shell needs to complete this command's words.

use clap::{Arg, Command, ValueHint};
use clap_complete::{Shell, generate};
use disk::entry::OPTIONS;

use crate::command::add::RECORD;
use crate::say::failure::{Failure, print};
use crate::say::finding::{Code, Finding};

/// What clap does not know of each shell: the options of device entries, what was added, and in bash programs and users.
const BASH: &str = include_str!("bash");
const FISH: &str = include_str!("fish");
const ZSH: &str = include_str!("zsh");

/// Prints the text for a shell.
pub fn completions(command: &Command, shell: &str) -> Result<(), Failure> {
    const NAME: &str = env!("CARGO_PKG_NAME");
    let shell: Shell = shell.parse().map_err(|why: String| Finding::problem(Code::Usage, why))?;
    // What the help does not show is nothing to be completed.
    let tasks = command.get_subcommands().filter(|task| !task.is_hide_set()).cloned();
    let shown = Command::new(NAME).version(env!("CARGO_PKG_VERSION")).subcommands(tasks);
    let mut shown = hinted(shown.args(command.get_arguments().filter(|arg| arg.is_global_set()).cloned()));
    let mut text = Vec::new();
    generate(shell, &mut shown, NAME, &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    print(match shell {
        Shell::Bash => text + &with_names(BASH),
        Shell::Fish => text + &with_names(FISH) + &fish(&shown),
        _ => zsh(&text),
    })
}

fn with_names(text: &str) -> String {
    let names: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
    // serde_json writes a member on each line; the links that `add` makes need no escapes.
    let added = format!(r#"sed -n 's|^ *"name": "/dev/[hs]d/\(.*\)",$|\1|p' {RECORD} 2>/dev/null"#);
    text.replace("@NAMES@", &names.join(" ")).replace("@ADDED@", &added)
}

/// Whether an argument's value has this name in the help.
fn is(arg: &Arg, name: &str) -> bool {
    arg.get_value_names().is_some_and(|names| names.iter().any(|found| found.as_str() == name))
}

/// A command that, like each of its own, says which arguments are programs and users.
fn hinted(command: Command) -> Command {
    command.mut_subcommands(hinted).mut_args(|arg| match () {
        () if is(&arg, "PROGRAM") && arg.is_trailing_var_arg_set() => {
            arg.value_hint(ValueHint::CommandWithArguments)
        }
        () if is(&arg, "PROGRAM") => arg.value_hint(ValueHint::CommandName),
        // No file as such; what it is stands in the texts of the shells.
        () if is(&arg, "ENTRY") => arg.value_hint(ValueHint::Other),
        () if is(&arg, "USER") => arg.value_hint(ValueHint::Username),
        () => arg,
    })
}

fn zsh(text: &str) -> String {
    const LOADED: &str = "autoload -U is-at-least\n";
    let text = text.replace(LOADED, &(LOADED.to_owned() + &with_names(ZSH)));
    let text = text.replace(":GROUP:_default", ":GROUP:_groups");
    // The action of an entry, which is empty, stands at the end of its line.
    let action = |line: &str| match line {
        _ if line.contains(":ENTRY:'") || line.starts_with("':entry -- ") => {
            line.replace(":' \\", ":_vmware-bdwrapper_entry' \\")
        }
        _ if line.starts_with("':name -- ") => line.replace(":_files' \\", ":_vmware-bdwrapper_added' \\"),
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(action).collect()
}

/// The lines for arguments of which clap says nothing to this shell.
fn fish(command: &Command) -> String {
    let mut text = String::new();
    for task in command.get_subcommands() {
        let condition = format!("__fish_vmware_bdwrapper_using_subcommand {}", task.get_name());
        let mut add = |condition: &str, arg: &Arg| {
            let start = format!("complete -c vmware-bdwrapper -n \"{condition}\"");
            text += &match () {
                () if is(arg, "ENTRY") && arg.get_long().is_some() => {
                    format!("{start} -s d -l device -r -f -a \"(__fish_vmware_bdwrapper_entry)\"\n")
                }
                () if is(arg, "ENTRY") => format!("{start} -f -a \"(__fish_vmware_bdwrapper_entry)\"\n"),
                () if is(arg, "PROGRAM") => format!("{start} -a \"(__fish_complete_command)\"\n"),
                () if is(arg, "NAME|DEVICE") => format!("{start} -a \"(__fish_vmware_bdwrapper_added)\"\n"),
                () if is(arg, "GROUP") => format!("{start} -l group -r -f -a \"(__fish_complete_groups)\"\n"),
                () => return,
            };
        };
        task.get_arguments().for_each(|arg| add(&condition, arg));
        for part in task.get_subcommands() {
            let condition = format!("{condition}; and __fish_seen_subcommand_from {}", part.get_name());
            part.get_arguments().for_each(|arg| add(&condition, arg));
        }
    }
    text
}
