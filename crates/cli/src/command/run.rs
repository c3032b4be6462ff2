//! `vmware-bdwrapper run`: becomes a program with the library.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::names;

use crate::check::config::{self, Launched};
use crate::check::engine::{self, Choice, Engine};
use crate::check::{device, library, script};
use crate::command::supervise::supervise;
use crate::entries::{self, Device};
use crate::program::{find, secure};
use crate::say::failure::{Failure, cause, say, shown, spare_standard_error};
use crate::say::finding::{Code, Finding, Verdict, only};

/// The value of `--engine`: what is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineOption {
    /// The library where it works, else the supervisor
    Auto,
    /// The preload library
    Library,
    /// The supervisor
    Supervisor,
}

/// Runs a program with an engine; `command` is its name and its arguments.
pub fn start(
    engine: EngineOption,
    options: Vec<OsString>,
    log_level: Option<&str>,
    force: bool,
    command: &[OsString],
) -> Result<Infallible, Failure> {
    match engine.choose(&options, command)? {
        (Engine::Library, _) => run(options, log_level, force, command),
        (Engine::Supervisor, why) => supervise(options, log_level, force, command, why),
    }
}

impl EngineOption {
    /// Returns the engine for a command, and where `auto` has chosen the supervisor, why.
    pub fn choose(
        self,
        options: &[OsString],
        command: &[OsString],
    ) -> Result<(Engine, Option<Finding>), Failure> {
        match self {
            EngineOption::Library => return Ok((Engine::Library, None)),
            EngineOption::Supervisor => return Ok((Engine::Supervisor, None)),
            EngineOption::Auto => {}
        }
        let texts = entries::require_texts(options.to_vec())?;
        let listed = entries::parse(&texts)?;
        let (file, ..) = find_program(command)?;
        match engine::choose(&file, &listed) {
            Choice::Library => Ok((Engine::Library, None)),
            Choice::Supervisor(why) => Ok((Engine::Supervisor, Some(why))),
            Choice::Neither(finding) => {
                Err(Failure { status: Failure::NOT_EXECUTED, findings: vec![finding] })
            }
        }
    }
}

/// Becomes the program. `command` is its name and its arguments.
///
/// A device that something uses is refused unless `force`. Whoever begins to use it afterwards is not kept from it: the
/// program that is started does not have it for itself alone, either.
fn run(
    options: Vec<OsString>,
    log_level: Option<&str>,
    force: bool,
    command: &[OsString],
) -> Result<Infallible, Failure> {
    let texts = entries::require_texts(options)?;
    let Prepared { file, mut command, .. } = prepare(&texts, command, force)?;
    if let Some(level) = log_level {
        command.env(names::LOG_LEVEL, level);
    }
    Err(not_started(&file, &command.exec()))
}

/// A program that is ready to be started with the library.
pub struct Prepared {
    /// Its file.
    pub file: PathBuf,
    /// With its arguments and environment.
    pub command: Command,
    /// Whether it runs in secure mode.
    pub is_secure: bool,
}

/// Finds a program, and says what the user should know. A device that something uses is refused unless `force`.
pub fn prepare(texts: &[OsString], command: &[OsString], force: bool) -> Result<Prepared, Failure> {
    let listed = entries::parse(texts)?;
    let (file, mut command) = program(&listed, command, force)?;
    let (library, is_secure) = library_for(&file, &listed)?;
    let preload = std::env::var_os(library::VARIABLE);
    command.env(library::VARIABLE, library::appended(preload.as_deref(), &library));
    command.env(entries::VARIABLE, entries::list(texts));
    Ok(Prepared { file, command, is_secure })
}

/// Finds a program: its file, and the program with its arguments. A device that something uses is refused
/// unless `force`.
pub fn program(
    listed: &[Device<'_>],
    command: &[OsString],
    force: bool,
) -> Result<(PathBuf, Command), Failure> {
    let (file, name, arguments) = find_program(command)?;
    let standard_error = entries::identity_of(Path::new("/proc/self/fd/2"));
    if standard_error.is_some() && listed.iter().any(|device| entries::identity(device) == standard_error) {
        spare_standard_error();
    }
    device::judge(listed, std::slice::from_ref(&file), force).map_err(|uses| Failure {
        status: Failure::NOT_EXECUTED,
        findings: [uses, vec![Finding::force_needed("The program is not started")]].concat(),
    })?;
    let mut command = Command::new(&file);
    command.arg0(name).args(arguments);
    Ok((file, command))
}

/// Finds the file of a command, beside its name and its arguments.
fn find_program(command: &[OsString]) -> Result<(PathBuf, &OsString, &[OsString]), Failure> {
    let (name, arguments) = command.split_first().ok_or_else(|| {
        Finding::problem(Code::Usage, "No program is given").hint("name one after the options")
    })?;
    Ok((find::find(name)?, name, arguments))
}

/// Why a program was not started.
pub fn not_started(file: &Path, error: &std::io::Error) -> Failure {
    let cause = match error.kind() {
        std::io::ErrorKind::NotFound => "its interpreter or dynamic loader does not exist".into(),
        _ => cause(error),
    };
    find::not_executed(file, &cause).into()
}

/// Says what stands in the way of the set-user-ID programs that VMware's launcher starts sooner or later: those that the
/// administrator has listed.
fn warn_of_others(file: &Path, listed: &[Device<'_>]) {
    let launched = match config::launched(listed) {
        Ok(launched) => launched,
        Err(finding) => return say(finding),
    };
    // Most often they all lack the same.
    let mut lacking: Vec<(Vec<String>, Vec<Finding>)> = Vec::new();
    for Launched { program, library, configuration } in launched {
        let findings = [library, configuration].concat();
        let problems: Vec<Finding> = only(&findings, Verdict::Problem).cloned().collect();
        let name = shown(&program).to_string();
        match lacking.iter_mut().find(|(_, known)| *known == problems) {
            _ if problems.is_empty() => {}
            Some((names, _)) => names.push(name),
            None => lacking.push((vec![name], problems)),
        }
    }
    for (names, problems) in lacking {
        let why = format!("starts, but {} would not find the devices", names.join(" and "));
        say(Finding::warning(Code::NotReady, why).of(file));
        problems.iter().for_each(say);
    }
}

/// The name by which the program takes the library, and whether it runs in secure mode; says what the user should know.
fn library_for(file: &Path, listed: &[Device<'_>]) -> Result<(OsString, bool), Failure> {
    let cannot = |error: std::io::Error| find::not_executed(file, &cause(&error));
    let status = file.metadata().map_err(cannot)?;
    find::unstartable(file).iter().for_each(say);
    let is_secure = secure::is_secure(file, &status).map_err(cannot)?;
    if is_secure {
        // Nothing that root can set up changes that.
        if let Choice::Neither(finding) = engine::choose(file, listed) {
            return Err(Failure { status: Failure::NOT_EXECUTED, findings: vec![finding] });
        }
    }
    engine::beyond_library(file, listed).iter().for_each(say);
    engine::unreadable(file, listed).iter().filter(|_| !is_secure).for_each(say);
    if let Some(finding) = script::starter(file, is_secure) {
        if is_secure {
            return Err(Failure { status: Failure::NOT_EXECUTED, findings: vec![finding] });
        }
        say(finding);
    }
    if !is_secure {
        let library = library::ordinary()
            .map_err(|finding| Failure { status: Failure::NOT_EXECUTED, findings: vec![finding] })?;
        if script::is_vmwares(file) {
            warn_of_others(file, listed);
        }
        return Ok((library, false));
    }
    let findings = [library::trusted(), config::examine(file, &status, listed)].concat();
    for remark in only(&findings, Verdict::Warning) {
        say(remark);
    }
    let obstacles: Vec<Finding> = only(&findings, Verdict::Problem).cloned().collect();
    if obstacles.is_empty() {
        return Ok((library::NAME.into(), true));
    }
    let why = "would not find the devices, because it runs with rights that you do not have (a set-user-ID program)";
    let heading = Finding::problem(Code::NotReady, why).of(file).hint(engine::for_rights(file, listed));
    Err(Failure { status: Failure::NOT_EXECUTED, findings: [vec![heading], obstacles].concat() })
}
