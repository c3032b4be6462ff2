//! `vmware-bdwrapper probe`: what VMware would find.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};
use supervisor::{Policy, Records, Registry};
use vmware::{Asked, Conclusion, Errno, Facts};

use crate::check::engine::{self, Engine};
use crate::check::{device, library};
use crate::command::itself;
use crate::command::run::EngineOption;
use crate::command::sudo;
use crate::entries::{self, Device};
use crate::host::scan::Host;
use crate::say::colour::styled;
use crate::say::failure::{Failure, print, quoted, say};
use crate::say::finding::{Code, Finding, Verdict, has_problem};
use crate::say::json::{self, Report};
use crate::say::terminal;

/// Prints the answers of each device, and what VMware would conclude from them.
pub fn probe(options: Vec<OsString>, option: EngineOption, json: bool) -> Result<ExitCode, Failure> {
    let texts = entries::require_texts(options)?;
    let listed = entries::parse(&texts)?;
    let library = match (option, engine::unavailable()) {
        (EngineOption::Supervisor, Some(failure)) => return Err(engine::not_started(failure).into()),
        (EngineOption::Supervisor, None) => None,
        (EngineOption::Library, _) => Some(library::ordinary()?),
        (EngineOption::Auto, unavailable) => match engine::no_library() {
            Some(missing) if unavailable.is_none() => {
                say(engine::without_library(&missing));
                None
            }
            _ => Some(library::ordinary()?),
        },
    };
    let engine = if library.is_some() { Engine::Library } else { Engine::Supervisor };
    let mut without = question(&listed);
    match library::removed(std::env::var_os(library::VARIABLE).as_deref()) {
        Some(value) => without.env(library::VARIABLE, value),
        None => without.env_remove(library::VARIABLE),
    };
    without.env_remove(entries::VARIABLE);
    let mut with = question(&listed);
    match &library {
        Some(library) => {
            library::preload(&mut with, library);
            with.env(entries::VARIABLE, entries::list(&texts));
        }
        None => {
            with = itself("ask");
            with.args(texts.iter().flat_map(|text| [OsStr::new("--device"), text]));
            asks(&mut with, listed.iter().map(Device::path));
        }
    }
    let without = answers(&mut without, listed.len())?;
    let with = answers(&mut with, listed.len())?;
    let host = Host::known();
    let answers = without.devices.into_iter().zip(with.devices);
    let devices = listed.iter().zip(entries::clashes(&listed)).zip(device::together(&listed, &host));
    let probed: Vec<Probed> = devices
        .zip(answers)
        .map(|(((device, clash), together), answers)| {
            Probed::new(device, engine, clash, together, answers, &host)
        })
        .collect();
    if json {
        let devices: Vec<Report> = probed.iter().map(Probed::report).collect();
        print(json::text(&Document { engine, devices })?)?;
    } else {
        let texts: Vec<String> = probed.iter().map(Probed::text).collect();
        print(texts.join("\n"))?;
    }
    probed.iter().filter_map(|probed| probed.facts.as_ref().err()).for_each(say);
    if let Some(loaded) = with.library.filter(|_| library.is_some_and(|name| name == library::NAME)) {
        library::shadowed(Path::new(&loaded))?.iter().for_each(say);
    }
    Ok(ExitCode::from(if probed.iter().all(Probed::is_good) { 0 } else { Failure::FAILED }))
}

/// The file that a process loads when it is told of the library by this name.
pub fn loaded(name: &OsStr) -> Result<Option<String>, Finding> {
    let mut question = question(&[]);
    library::preload(&mut question, name);
    question.stderr(Stdio::null());
    Ok(answers(&mut question, 0)?.library)
}

/// Prints, for the process that started this one, what each device answers in this environment.
pub fn ask(paths: &[PathBuf]) -> Result<(), Failure> {
    let devices = paths.iter().map(|path| Asked(Facts::ask(path))).collect();
    let answers = Answers { devices, library: library::loaded() };
    print(json::line(&answers)?)
}

/// Has a supervisor answer a process that asks, as [`ask`] does.
pub fn ask_supervised(texts: Vec<OsString>, paths: &[PathBuf]) -> Result<Infallible, Failure> {
    // The supervisor needs them as long as it runs.
    let texts: &'static [OsString] = texts.leak();
    let listed: Vec<_> = entries::parse(texts)?.iter().map(|device| device.entry).collect();
    let devices = Registry::new(&listed, None);
    let mut command = itself("ask");
    asks(&mut command, paths);
    let policy = Policy::current(false).map_err(|unknown| sudo::unknown(&unknown))?;
    match supervisor::run(&mut command, devices, policy, Records::Ignored, |_| ()) {
        Ok((ended, _)) => ended.end(),
        Err(failure) => Err(engine::not_started(&failure).into()),
    }
}

/// The JSON document.
#[derive(Serialize)]
struct Document<'a> {
    /// What has answered.
    engine: Engine,
    devices: Vec<Report<'a>>,
}

/// What the process that asks the devices says.
#[derive(Deserialize, Serialize)]
struct Answers {
    /// What each device answers.
    devices: Vec<Asked>,
    /// The installed library's file in this process.
    library: Option<String>,
}

/// A device and what it answered.
struct Probed<'a> {
    device: &'a Device<'a>,
    /// What has answered.
    engine: Engine,
    /// Why the entry is ignored, although the device answers.
    clash: Option<Finding>,
    /// Without and with the engine, for which all the devices were listed, or why it cannot be opened.
    facts: Result<(Facts, Facts), Finding>,
    /// What else stands in the way.
    findings: Vec<Finding>,
}

impl<'a> Probed<'a> {
    fn new(
        device: &'a Device<'a>,
        engine: Engine,
        clash: Option<Finding>,
        together: Vec<Finding>,
        answers: (Asked, Asked),
        host: &Host,
    ) -> Probed<'a> {
        let facts = match answers {
            (Asked(Ok(without)), Asked(Ok(with))) => Ok((without, with)),
            (Asked(Err(errno)), _) | (_, Asked(Err(errno))) => {
                let uses = device::taken(device.path(), host);
                Err(uses.into_iter().next().unwrap_or_else(|| not_opened(device, errno)))
            }
        };
        // If the device cannot be opened or the entry is ignored, nothing else is said.
        let findings = match (&facts, &clash) {
            (Ok(_), None) => [device::of_device(device, host).all(), together].concat(),
            _ => Vec::new(),
        };
        let findings = findings.into_iter().filter(|finding| finding.verdict != Verdict::Ok).collect();
        Probed { device, engine, clash, facts, findings }
    }

    fn conclusion(&self) -> Result<Conclusion, &Finding> {
        let (_, with) = self.facts.as_ref()?;
        self.clash.as_ref().map_or_else(|| Ok(Conclusion::from(with)), Err)
    }

    /// Whether VMware would take it, and nothing else stands in the way.
    fn is_good(&self) -> bool {
        matches!(self.conclusion(), Ok(Conclusion::Accepted(_))) && !has_problem(&self.findings)
    }

    /// For people.
    fn text(&self) -> String {
        let entry = &self.device.entry;
        let (name, kind) = (entry.printed_path(), entry.kind.name());
        let by = if self.engine == Engine::Supervisor { ", by the supervisor" } else { "" };
        let mut text = format!("{name} as {kind}{by}:\n");
        if let Ok((without, with)) = &self.facts {
            let rows = without.rows().into_iter().zip(with.rows());
            let rows = rows.map(|((request, without), (_, with))| [request.to_owned(), without, with]);
            let rows: Vec<[String; 3]> = rows.collect();
            text += &terminal::table(["Request", "without", "with"], &rows, 1, str::to_owned);
        }
        let worst = self.findings.iter().map(|finding| finding.verdict).max();
        let said = |words: &str, verdict: Verdict, rest: &str| styled(words, verdict.style()) + rest;
        let conclusion = match self.conclusion() {
            Ok(Conclusion::Accepted(disk)) => {
                let adapter = disk.adapter;
                text += &format!("VMware: Facts for {name}: {disk}\n");
                match worst {
                    None => said(
                        "VMware would accept it",
                        Verdict::Ok,
                        &format!(" as a physical {adapter} disk."),
                    ),
                    Some(worst) => {
                        said("It answers", worst, &format!(" as a physical {adapter} disk does, but:"))
                    }
                }
            }
            Ok(Conclusion::Refused(reason)) => {
                said("VMware would refuse it", Verdict::Problem, &format!(": {reason}."))
            }
            Err(_) if self.facts.is_err() => said("It cannot be opened", Verdict::Problem, "."),
            Err(clash) => said("It would not be accepted", Verdict::Problem, &format!(": {clash}")),
        };
        let findings = self.findings.iter().map(Finding::line).collect::<String>();
        text + &terminal::wrapped(&format!("{conclusion}\n{findings}"))
    }

    /// For programs.
    fn report(&self) -> Report<'_> {
        let (without, with) = match &self.facts {
            Ok((without, with)) => (Some(without), Some(with)),
            Err(_) => (None, None),
        };
        Report {
            device: String::from_utf8_lossy(self.device.entry.path),
            kind: self.device.entry.kind.name(),
            without,
            with,
            vmware: self.conclusion().into(),
            findings: &self.findings,
        }
    }
}

/// This command, which is to ask the devices.
fn question(listed: &[Device<'_>]) -> Command {
    let mut command = itself("ask");
    asks(&mut command, listed.iter().map(Device::path));
    command
}

/// Has it ask these.
fn asks(command: &mut Command, paths: impl IntoIterator<Item = impl AsRef<OsStr>>) {
    // What the library says is for the user.
    command.arg("--").args(paths).stdin(Stdio::null()).stderr(Stdio::inherit());
}

fn answers(question: &mut Command, count: usize) -> Result<Answers, Finding> {
    let output = question.output().map_err(|error| {
        Finding::io("cannot start itself, so the devices cannot be asked", &error).of(env!("CARGO_PKG_NAME"))
    })?;
    match serde_json::from_slice::<Answers>(&output.stdout) {
        Ok(answers) if answers.devices.len() == count => Ok(answers),
        _ => {
            let why =
                format!("started itself to ask the devices, and that gave no answers ({})", output.status);
            Err(Finding::problem(Code::Io, why).of(env!("CARGO_PKG_NAME")))
        }
    }
}

fn not_opened(device: &Device<'_>, errno: Errno) -> Finding {
    if let Some(absent) = entries::explain_absence(device) {
        return absent;
    }
    let error = io::Error::from_raw_os_error(errno.0);
    let advice = match errno {
        Errno::EACCES => format!("run 'sudo vmware-bdwrapper probe --device {}'", quoted(device.text)),
        Errno::EPERM => "probe it outside the container or sandbox that forbids it".into(),
        _ => "name a block device or image file that can be opened".into(),
    };
    Finding::io("cannot be opened for reading", &error).of(device.path()).hint(advice)
}
