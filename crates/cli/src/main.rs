//! `vmware-bdwrapper`: runs programs with the listed devices, and shows what they will see.
#![forbid(unsafe_code)]

mod check;
mod command;
mod entries;
mod file;
mod host;
#[cfg(test)]
mod manual;
mod program;
mod say;
mod trace;
mod vmdk;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
use say::failure::{FORMAT, Failure, Format, print, say, write};
use say::finding::{Code, Finding};

/// Let block devices and image files pass for physical disks, so that VMware accepts them.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100, styles = say::colour::CLAP)]
#[command(override_usage = "vmware-bdwrapper [--message-format text|json] COMMAND [ARGUMENT]...")]
struct CommandLine {
    /// Write messages to the standard error as text (default) or as JSON, one object per line
    #[arg(long, global = true, value_name = "text|json", value_enum, default_value_t = Format::Text)]
    #[arg(hide_default_value = true, hide_possible_values = true, display_order = 900)]
    message_format: Format,
    #[command(subcommand)]
    task: Task,
}

const EXAMPLES: &str = "\
Examples:
  Would VMware accept a logical volume as an IDE disk?
    vmware-bdwrapper probe --device /dev/vg0/windows=ide
  Start VMware Player with two devices:
    vmware-bdwrapper run --device /dev/sd/data --device /dev/vg0/windows=ide -- vmplayer

See vmware-bdwrapper(1) for more, and libvmware-bdwrapper(7) for how devices are written.";

#[derive(Subcommand)]
enum Task {
    /// Run a program with the listed devices
    #[command(
        override_usage = "vmware-bdwrapper run [--device ENTRY]... [--engine ENGINE] [--log-level N] [--force] [--] PROGRAM [ARGUMENT]..."
    )]
    #[command(
        after_help = "Example:\n  vmware-bdwrapper run --device $PWD/disk.img=ide -- /sbin/hdparm -i disk.img"
    )]
    Run {
        /// List this device: PATH[=OPTION,...] (default: the devices in VMWARE_BDWRAPPER_DEVICES)
        #[arg(long = "device", value_name = "ENTRY")]
        devices: Vec<OsString>,
        /// Choose the engine: library, supervisor, or auto (default): the library if it works, else the supervisor
        #[arg(long, value_enum, default_value_t = command::run::EngineOption::Auto, hide_possible_values = true)]
        #[arg(hide_default_value = true)]
        engine: command::run::EngineOption,
        /// Set how much is printed: -1 nothing, 0 errors, 1 warnings (default), 10 entries, 100 descriptors, 1000 requests
        #[arg(long, value_name = "N", allow_hyphen_values = true, hide_possible_values = true)]
        #[arg(value_parser = ["-1", "0", "1", "10", "100", "1000"])]
        log_level: Option<String>,
        /// Start the program even if a device is in use
        #[arg(long)]
        force: bool,
        /// The program to start, and its arguments
        #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
        command: Vec<OsString>,
    },
    /// Give a device or image file to a user as a disk for VMware, in one step
    #[command(
        override_usage = "vmware-bdwrapper add DEVICE --to USER [--kind scsi|ide|sata] [--name NAME] [--vm FILE.vmx [--headless]] [--yes] [--dry-run]",
        after_help = "Example:\n  sudo vmware-bdwrapper add /dev/vg0/windows --to $USER --vm ~/vmware/Windows/Windows.vmx"
    )]
    Add(command::add::Add),
    /// Undo what `add` did for a device
    #[command(
        override_usage = "vmware-bdwrapper remove NAME|DEVICE [--vm FILE.vmx] [--yes] [--dry-run]",
        after_help = "Example:\n  sudo vmware-bdwrapper remove windows"
    )]
    Remove(command::add::Remove),
    /// Show what VMware would find, without and with an engine
    #[command(override_usage = "vmware-bdwrapper probe [--device ENTRY]... [--engine ENGINE] [--json]")]
    #[command(after_help = "Example:\n  vmware-bdwrapper probe --device /dev/sd/test")]
    Probe {
        /// List this device: PATH[=OPTION,...] (default: the devices in VMWARE_BDWRAPPER_DEVICES)
        #[arg(long = "device", value_name = "ENTRY")]
        devices: Vec<OsString>,
        /// Choose the engine: library, supervisor, or auto (default): the library if it is installed, else the supervisor
        #[arg(long, value_enum, default_value_t = command::run::EngineOption::Auto, hide_possible_values = true)]
        #[arg(hide_default_value = true)]
        engine: command::run::EngineOption,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print the requests that a program makes on the listed devices, or replay them
    #[command(
        override_usage = "vmware-bdwrapper trace [--device ENTRY]... [--engine ENGINE] [--json] [--output FILE] [--force] [--] PROGRAM [ARGUMENT]...\n       \
                          vmware-bdwrapper trace --replay FILE [--device ENTRY]... [--json] [--write [--force]]"
    )]
    #[command(after_help = trace::HELP)]
    Trace(trace::Options),
    /// Check a program and its devices, and explain how to fix what is wrong
    #[command(
        override_usage = "vmware-bdwrapper doctor [--device ENTRY]... [--vmdk FILE] [--json | --quiet] [PROGRAM]"
    )]
    #[command(after_help = "Example:\n  vmware-bdwrapper doctor --device /dev/sd/test vmware")]
    Doctor {
        /// List this device: PATH[=OPTION,...] (default: the devices in VMWARE_BDWRAPPER_DEVICES)
        #[arg(long = "device", value_name = "ENTRY")]
        devices: Vec<OsString>,
        /// Compare this descriptor with its device, too
        #[arg(long, value_name = "FILE")]
        vmdk: Option<PathBuf>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
        /// Print only problems
        #[arg(long, conflicts_with = "json")]
        quiet: bool,
        /// The program to check (default: those in /etc/vmware-bdwrapper.conf)
        program: Option<OsString>,
    },
    /// List the block devices of this system, and whether VMware can use them
    #[command(override_usage = "vmware-bdwrapper list [--all] [--json]")]
    #[command(after_help = "Example:\n  vmware-bdwrapper list")]
    List {
        /// List unused devices, too: loop devices without a file, nbd devices without a server
        #[arg(long)]
        all: bool,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print the directory in which set-user-ID programs find libraries
    #[command(override_usage = "vmware-bdwrapper libdir [--loader FILE] [--root DIRECTORY]")]
    #[command(after_help = "Example:\n  vmware-bdwrapper libdir --loader /lib64/ld-linux-x86-64.so.2")]
    Libdir {
        /// Ask this dynamic loader instead of the system's
        #[arg(long, value_name = "FILE")]
        loader: Option<PathBuf>,
        /// Ask the loader of the system below this directory
        #[arg(long, value_name = "DIRECTORY")]
        root: Option<PathBuf>,
    },
    /// Write and update descriptors of virtual disks, and attach them to virtual machines
    #[command(subcommand)]
    #[command(
        after_help = "Examples:\n  vmware-bdwrapper vmdk create /dev/vg0/windows=scsi -o windows.vmdk\n  vmware-bdwrapper vmdk attach \
                      windows.vmdk Windows.vmx\n  vmware-bdwrapper vmdk check windows.vmdk      # what has changed\n  \
                      vmware-bdwrapper vmdk refresh windows.vmdk    # after growth, with the virtual machine shut down"
    )]
    Vmdk(vmdk::Vmdk),
    /// Set or clear the library's set-user-ID bit; list programs and devices
    #[command(
        override_usage = "vmware-bdwrapper setup --setuid [--program FILE]... [--device ENTRY]... [--force] [--dry-run]\n       \
                          vmware-bdwrapper setup --no-setuid [--dry-run]"
    )]
    #[command(after_help = "Example:\n  sudo vmware-bdwrapper setup --setuid --device /dev/sd/test")]
    Setup {
        /// Set the bit, so that set-user-ID programs in /etc/vmware-bdwrapper.conf can use the library
        #[arg(long, required_unless_present = "no_setuid")]
        setuid: bool,
        /// Clear the bit, so that no set-user-ID program can use the library
        #[arg(long, conflicts_with = "setuid")]
        no_setuid: bool,
        /// Add this program to /etc/vmware-bdwrapper.conf
        #[arg(long = "program", value_name = "FILE", conflicts_with = "no_setuid")]
        programs: Vec<PathBuf>,
        /// Add this device to /etc/vmware-bdwrapper.conf: PATH[=OPTION,...]
        #[arg(long = "device", value_name = "ENTRY", conflicts_with = "no_setuid")]
        devices: Vec<OsString>,
        /// Add a device even if it is in use
        #[arg(long, conflicts_with = "no_setuid")]
        force: bool,
        /// Only print what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Make, remove or list names of devices below /dev/sd and /dev/hd
    #[command(
        override_usage = "vmware-bdwrapper link DEVICE --as NAME [--owner USER] [--group GROUP] [--mode MODE] [--persist] [--force] [--dry-run]\n       \
                          vmware-bdwrapper link --remove NAME [--force] [--dry-run]\n       \
                          vmware-bdwrapper link --list [--json]"
    )]
    #[command(
        after_help = "Example:\n  sudo vmware-bdwrapper link /dev/vg0/windows --as /dev/sd/windows --owner $USER --persist"
    )]
    #[command(group = clap::ArgGroup::new("action").required(true).args(["device", "remove", "list"]))]
    Link {
        /// The device to which the link leads
        #[arg(value_name = "DEVICE", requires = "name")]
        device: Option<PathBuf>,
        /// Make this link, below /dev/sd or /dev/hd
        #[arg(long = "as", value_name = "NAME", requires = "device", conflicts_with_all = ["remove", "list"])]
        name: Option<PathBuf>,
        /// Make this user the owner of the device
        #[arg(long, value_name = "USER", requires = "device", conflicts_with_all = ["remove", "list"])]
        owner: Option<String>,
        /// Set the group of the device
        #[arg(long, requires = "device", conflicts_with_all = ["remove", "list"])]
        group: Option<String>,
        /// Set the mode of the device: octal, such as 0660
        #[arg(long, requires = "device", conflicts_with_all = ["remove", "list"])]
        mode: Option<String>,
        /// Write a udev rule that makes the link at each boot
        #[arg(long, requires = "device", conflicts_with_all = ["remove", "list"])]
        persist: bool,
        /// Accept a refused device; replace or remove a link that this command did not make
        #[arg(long, conflicts_with = "list")]
        force: bool,
        /// Remove this link and its udev rule
        #[arg(long, value_name = "NAME")]
        remove: Option<PathBuf>,
        /// Print the links, their targets, and whether a rule makes them
        #[arg(long)]
        list: bool,
        /// Print one JSON document
        #[arg(long, requires = "list", conflicts_with_all = ["device", "remove"])]
        json: bool,
        /// Only print what would be done
        #[arg(long, conflicts_with = "list")]
        dry_run: bool,
    },
    /// Print the completion script for a shell
    #[command(override_usage = "vmware-bdwrapper completions SHELL")]
    #[command(
        after_help = "Example:\n  vmware-bdwrapper completions bash > ~/.local/share/bash-completion/completions/vmware-bdwrapper"
    )]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL", value_parser = ["bash", "fish", "zsh"])]
        shell: String,
    },
    /// Ask devices in this environment: a part of `probe`
    #[command(hide = true)]
    Ask {
        /// A device that a supervisor is to answer
        #[arg(long = "device", value_name = "ENTRY")]
        devices: Vec<OsString>,
        paths: Vec<PathBuf>,
    },
    /// Make requests in this environment: a part of `trace --replay`
    #[command(hide = true)]
    Resend {
        #[arg(long)]
        write: bool,
        paths: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let line = command_line().try_get_matches().and_then(|found| CommandLine::from_arg_matches(&found));
    let line = match line {
        Ok(line) => line,
        Err(error) => return not_parsed(&error),
    };
    let _ = FORMAT.set(line.message_format);
    let done = match line.task {
        Task::Run { devices, engine, log_level, force, command } => {
            command::run::start(engine, devices, log_level.as_deref(), force, &command)
                .map(|never| match never {})
        }
        Task::Probe { devices, engine, json } => command::probe::probe(devices, engine, json),
        Task::Trace(options) => trace::trace(options),
        Task::Resend { write, paths } => trace::resend(&paths, write).map(|()| ExitCode::SUCCESS),
        Task::Doctor { devices, vmdk, json, quiet, program } => {
            let form = match (json, quiet) {
                (true, _) => command::doctor::Form::Json,
                (_, true) => command::doctor::Form::Problems,
                _ => command::doctor::Form::All,
            };
            command::doctor::doctor(devices, program.as_deref(), vmdk.as_deref(), form)
        }
        Task::List { all, json } => command::list::list(json, all),
        Task::Libdir { loader, root } => command::libdir::libdir(loader, root).map(|()| ExitCode::SUCCESS),
        Task::Vmdk(task) => vmdk::vmdk(task),
        Task::Add(add) => command::add::add(&add).map(|()| ExitCode::SUCCESS),
        Task::Remove(remove) => command::add::remove(&remove).map(|()| ExitCode::SUCCESS),
        Task::Setup { setuid, no_setuid: _, programs, devices, force, dry_run } => {
            command::setup::setup(&command::setup::Wanted { bit: setuid, programs, devices, force, dry_run })
                .map(|()| ExitCode::SUCCESS)
        }
        Task::Link { device, name, owner, group, mode, persist, force, remove, list: _, json, dry_run } => {
            let access = host::udev::Access { owner, group, mode };
            match (device, name, remove) {
                (Some(device), Some(name), _) => command::link::make(
                    &device,
                    &name,
                    &command::link::Wanted { access, persist, force, dry_run },
                ),
                (_, _, Some(name)) => command::link::remove(&name, force, dry_run),
                _ => command::link::list(json),
            }
            .map(|()| ExitCode::SUCCESS)
        }
        Task::Completions { shell } => {
            command::completions::completions(&command_line(), &shell).map(|()| ExitCode::SUCCESS)
        }
        Task::Ask { devices, paths } if devices.is_empty() => {
            command::probe::ask(&paths).map(|()| ExitCode::SUCCESS)
        }
        Task::Ask { devices, paths } => {
            command::probe::ask_supervised(devices, &paths).map(|never| match never {})
        }
    };
    done.unwrap_or_else(Failure::report)
}

/// The command line.
fn command_line() -> clap::Command {
    with_entries(CommandLine::command())
}

/// A command that, like each of its own, takes all device entries alike: with relative names, by `-d` as by `--device`, and with
/// their options in the help.
fn with_entries(command: clap::Command) -> clap::Command {
    let command = command.mut_subcommands(with_entries);
    let is_entry = |arg: &Arg| {
        arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == "ENTRY"))
    };
    if !command.get_arguments().any(is_entry) {
        return command;
    }
    let example = command.get_after_help().map(|help| format!("\n\n{help}")).unwrap_or_default();
    let command = command.after_help(entries::help() + &example);
    command.mut_args(|arg| {
        if !is_entry(&arg) {
            return arg;
        }
        let short = if arg.get_long() == Some("device") { Some('d') } else { None };
        arg.value_parser(OsStringValueParser::new().map(entries::absolute)).short(short)
    })
}

/// Prints the help or the version, or says what is wrong with the command line.
fn not_parsed(error: &clap::Error) -> ExitCode {
    let text = error.render();
    let is_coloured = if error.use_stderr() {
        say::colour::are_wanted(&io::stderr())
    } else {
        say::colour::are_wanted(&io::stdout())
    };
    let text = if is_coloured { text.ansi().to_string() } else { text.to_string() };
    if !error.use_stderr() {
        return print(say::terminal::wrapped(&text)).map_or_else(Failure::report, |()| ExitCode::SUCCESS);
    }
    let is_json = is_asked_for_json();
    let _ = FORMAT.set(if is_json { Format::Json } else { Format::Text });
    let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    match (error.kind(), is_json) {
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, false) => {
            write(&format!("vmware-bdwrapper: No command is given: write one of these.\n\n{message}\n"));
        }
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand, _) => {
            let finding = Finding::problem(Code::Usage, "No command is given");
            say(finding.hint("'vmware-bdwrapper --help' lists the commands"));
        }
        (_, false) => write(&format!("vmware-bdwrapper: {message}\n")),
        (_, true) => say(Finding::problem(Code::Usage, message)),
    }
    ExitCode::from(Failure::USAGE)
}

/// Whether a command line that cannot be parsed has the option `--message-format json`.
fn is_asked_for_json() -> bool {
    let words: Vec<OsString> = std::env::args_os().skip(1).take_while(|word| word != "--").collect();
    words.iter().any(|word| word == "--message-format=json")
        || words.windows(2).any(|pair| pair[0] == "--message-format" && pair[1] == "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command_line().debug_assert();
    }

    #[test]
    fn a_program_keeps_its_arguments() {
        let line = ["vmware-bdwrapper", "run", "--log-level", "-1", "program", "--device", "x", "--", "-y"];
        let Ok(CommandLine { task: Task::Run { devices, log_level, command, .. }, .. }) =
            CommandLine::try_parse_from(line)
        else {
            panic!("it is right");
        };
        assert_eq!((devices.len(), log_level.as_deref()), (0, Some("-1")));
        assert_eq!(command, ["program", "--device", "x", "--", "-y"]);
        let wrong = [
            ["run", "--log-level", "2", "x"],
            ["run", "--devise", "/x", "x"],
            ["run", "--log-level", "01", "x"],
        ];
        for line in wrong {
            assert!(CommandLine::try_parse_from(["vmware-bdwrapper"].into_iter().chain(line)).is_err());
        }
    }
}
