//! `vmware-bdwrapper trace`: shows what a program asks of its disks.

mod absent;
mod decode;
mod output;
mod receiver;
mod record;
mod replay;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::{ChildStdin, ExitCode};
use std::sync::OnceLock;
use std::thread;

use clap::Args;
use disk::record::{Header, Parts};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, geteuid, getpid, kill_process, set_child_subreaper, wait,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use supervisor::{Ended, Missing, Records, Shown};

use crate::check::engine::Engine;
use crate::command::run::{EngineOption, Prepared, not_started, prepare};
use crate::command::supervise;
use crate::entries;
use crate::program::signals::not_ignored;
use crate::say::failure::{Failure, say};
use crate::say::finding::{Code, Finding};
use output::Output;
use receiver::{Message, Receiver};
use record::Record;

pub use replay::process::resend;

/// What `trace --help` says at its end.
pub const HELP: &str = "\
What the program reads and writes is not in the trace.

Examples:
  What does hdparm, which must be root, ask a SATA disk?
    vmware-bdwrapper trace --device $PWD/disk.img=sata -- unshare --map-root-user /sbin/hdparm -I disk.img
  Does another disk give the same answers? The exit status is 0 if it does, 1 if it does not.
    vmware-bdwrapper trace --json -o trace.json --device /dev/sd/test -- vmware
    vmware-bdwrapper trace --replay trace.json --device /dev/sd/other";

/// The command line of `trace`.
#[derive(Args)]
pub struct Options {
    /// List this device: PATH[=OPTION,...] (default: those in VMWARE_BDWRAPPER_DEVICES or in the replayed trace)
    #[arg(long = "device", value_name = "ENTRY")]
    devices: Vec<OsString>,
    /// Choose the engine: library, supervisor, or auto (default): the library if it works, else the supervisor
    #[arg(long, value_enum, default_value_t = EngineOption::Auto, hide_possible_values = true)]
    #[arg(hide_default_value = true, conflicts_with = "replay")]
    engine: EngineOption,
    /// Write one JSON object per line, for --replay; with --replay, print an object for each difference
    #[arg(long)]
    json: bool,
    /// Write the trace to this file instead of the standard error
    #[arg(short, long, value_name = "FILE", conflicts_with = "replay")]
    output: Option<PathBuf>,
    /// Send the requests of a trace made with --json again, and print what differs
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Also replay requests that could change the device or its settings
    #[arg(long, requires = "replay", conflicts_with = "command")]
    write: bool,
    /// Start the program, or replay with --write, even if a device is in use
    #[arg(long)]
    force: bool,
    /// The program to start, and its arguments
    #[arg(value_name = "PROGRAM", required_unless_present = "replay", conflicts_with = "replay")]
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Starts the program and shows its requests, or replays those of a trace.
pub fn trace(options: Options) -> Result<ExitCode, Failure> {
    match &options.replay {
        Some(file) => replay::replay(file, options.devices, options.json, options.write, options.force),
        None => match options.engine.choose(&options.devices, &options.command)? {
            (Engine::Library, _) => watch(options),
            (Engine::Supervisor, why) => watch_supervised(options, why),
        },
    }
}

/// Starts the program with the library and shows the requests that it sends.
fn watch(Options { devices, json, output, force, command, .. }: Options) -> Result<ExitCode, Failure> {
    let texts = entries::require_texts(devices)?;
    let listed = entries::parse(&texts)?;
    let Prepared { file, mut command, is_secure } = prepare(&texts, &command, force)?;
    if is_secure {
        let why = "is a set-user-ID program, whose requests are not in the trace, but on its standard error if \
                   /etc/vmware-bdwrapper.conf says 'messages yes'";
        let finding = Finding::warning(Code::Incomplete, why).of(&file);
        say(finding.hint("run the command as root to have them in the trace"));
    }
    let mut receiver = Receiver::new()?;
    let owner = geteuid().as_raw();
    let mut output = Output::new(output.as_deref(), owner, json, output::NOTHING_SENT, &listed)?;
    output.begin(command.get_program(), &texts);
    command.env(disk::names::TRACE, receiver.variable());
    // For set-user-ID programs that it starts.
    command.env(disk::names::LOG_LEVEL, "1000");
    let family = Family::start(&mut command, &receiver).map_err(|error| not_started(&file, &error))?;
    let mut buffer = receiver::buffer();
    loop {
        match receiver.next(&mut buffer) {
            Message::Record(record) => output.add(&record),
            Message::Done => {}
            Message::End => break,
        }
    }
    let lost = receiver.has_lost().then(|| {
        let why = "Requests are missing in the trace, because this process could open no more files";
        Finding::warning(Code::Incomplete, why).hint("start again with a higher 'ulimit -n'")
    });
    let written = output.end(lost.as_slice());
    Ok(conclude(family.status.get().map_or(Failure::FAILED, |status| exit_status(*status)), written))
}

/// Starts the program under a supervisor and shows the requests that it answers.
fn watch_supervised(
    Options { devices, json, output, force, command, .. }: Options,
    why: Option<Finding>,
) -> Result<ExitCode, Failure> {
    let prepared = supervise::prepare(devices, force, &command, why.is_none())?;
    why.iter().for_each(say);
    prepared.require_shown()?;
    let mut output = prepared.with_file_rights(|owner| {
        Output::new(output.as_deref(), owner, json, output::NOTHING, &prepared.listed)
    })?;
    output.begin(prepared.command.get_program(), &prepared.texts());
    let mut record = |head: &Header, parts: &Parts<'_>| output.add(&Record::new(head, parts));
    let waits = || {
        if io::stderr().is_terminal() {
            say_waiting();
        }
    };
    let shown = Shown { record: &mut record, waits: &waits };
    // What the trace lacks is said at its end.
    let (ended, missing) = prepared.run(Records::Shown(shown), false)?;
    let written = output.end(&incomplete(missing));
    let status = match ended {
        Ended::Exited(status) => status & 0xff,
        Ended::Killed(signal) => 128 + signal,
    };
    Ok(conclude(u8::try_from(status).unwrap_or(Failure::FAILED), written))
}

/// Where the trace could not be written, success would be a lie.
fn conclude(status: u8, written: bool) -> ExitCode {
    match status {
        0 if !written => ExitCode::from(Failure::FAILED),
        status => ExitCode::from(status),
    }
}

fn say_waiting() {
    let why = "The program has ended, but others that it started run, and are traced";
    say(Finding::warning(Code::Waiting, why).hint("Ctrl-C ends the trace"));
}

/// Why requests may be missing in the trace of a supervisor.
fn incomplete(Missing { unread, unseen, all_later }: Missing) -> Vec<Finding> {
    let calls = |count| if count == 1 { "1 call".to_owned() } else { format!("{count} calls") };
    let finding = |why: String, hint| Finding::warning(Code::Incomplete, why).hint(hint);
    let killed = || finding("The trace ends where the supervisor was killed".to_owned(), "start again");
    let unread_calls = || {
        let why = format!("The trace lacks {}, because it was not written fast enough", calls(unread));
        finding(why, "write the trace to a file by -o FILE")
    };
    let unseen_calls = || {
        let why =
            format!("The trace may lack {} of programs that the supervisor could not look at", calls(unseen));
        finding(why, "run the command as root to have them in the trace")
    };
    let findings = [all_later.then(killed), (unread > 0).then(unread_calls), (unseen > 0).then(unseen_calls)];
    findings.into_iter().flatten().collect()
}

/// A program and the programs that it starts.
struct Family {
    /// How the program ended.
    status: &'static OnceLock<WaitStatus>,
    /// Its standard input, where that is a pipe.
    input: Option<ChildStdin>,
}

impl Family {
    /// Starts the program. [`Message::End`] comes behind the last record of the last of them; when the program has ended, a
    /// signal does not let it wait for the others.
    fn start(command: &mut std::process::Command, receiver: &Receiver) -> io::Result<Family> {
        static STATUS: OnceLock<WaitStatus> = OnceLock::new();
        // Those whose parents end become children of this process.
        let _ = set_child_subreaper(Some(getpid()));
        // Before the program is there, so that none of them can end this process first.
        let mut signals = Signals::new(not_ignored([SIGINT, SIGQUIT, SIGTERM, SIGHUP])?)?;
        let mut child = command.spawn()?;
        let (program, input) = (Pid::from_child(&child), child.stdin.take());
        let end = receiver.ender()?;
        let on_signal = receiver.ender()?;
        thread::spawn(move || {
            for signal in signals.forever() {
                if STATUS.get().is_some() {
                    on_signal.end();
                } else if let (SIGTERM | SIGHUP, Some(signal)) = (signal, Signal::from_named_raw(signal)) {
                    // The terminal sends the others to the program itself.
                    let _ = kill_process(program, signal);
                }
            }
        });
        thread::spawn(move || {
            loop {
                match wait(WaitOptions::empty()) {
                    Ok(Some((pid, status))) if pid == program => {
                        let _ = STATUS.set(status);
                        if io::stderr().is_terminal() && matches!(wait(WaitOptions::NOHANG), Ok(None)) {
                            say_waiting();
                        }
                    }
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(_) => break,
                }
            }
            end.end();
        });
        Ok(Family { status: &STATUS, input })
    }
}

/// As a shell says it.
fn exit_status(status: WaitStatus) -> u8 {
    let status = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
    status.and_then(|status| u8::try_from(status).ok()).unwrap_or(Failure::FAILED)
}

/// Why something of the trace's own does not work.
fn failed(what: &str, error: &io::Error) -> Failure {
    Finding::io(what, error).hint("the program is not started").into()
}
