//! `vmware-bdwrapper doctor`: what stands in the way.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::check::Check;
use crate::check::config::{self, FILE, Launched};
use crate::check::device::{self, Fitness};
use crate::check::engine::{self, Choice, Engine};
use crate::check::{confinement, library, script};
use crate::command::probe;
use crate::entries::{self, Device};
use crate::host::scan::Host;
use crate::program::loader::absolute;
use crate::program::{find, secure};
use crate::say::colour::styled;
use crate::say::failure::{Failure, print, quoted, shown};
use crate::say::finding::{Code, Finding, Verdict, has_problem};
use crate::say::{json, terminal};
use crate::vmdk;

/// What was found, each under the name of its check, and in which programs.
#[derive(Default)]
struct Findings {
    list: Vec<(Check, Finding)>,
    programs: Vec<PathBuf>,
    /// What answers each of them; none where nothing does.
    engines: Vec<Option<Engine>>,
    /// What the user may not read, and a program depends on: the rest of the last line.
    unknown: Option<String>,
    /// The command that starts the program where the usual one does not.
    start: Option<String>,
}

impl Findings {
    fn add(&mut self, check: Check, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            // A program and the one that it starts can need the same.
            if !self.list.iter().any(|(_, known)| *known == finding) {
                self.list.push((check, finding));
            }
        }
    }

    /// Says that the user may not read the configuration file.
    fn miss_configuration(&mut self) {
        self.unknown = Some(format!("what {FILE} says is unknown. Ask the administrator"));
    }

    fn first(&self) -> Option<&Finding> {
        self.list.iter().map(|(_, finding)| finding).find(|finding| finding.verdict == Verdict::Problem)
    }
}

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All findings, and what follows from them.
    All,
    /// The problems among them.
    Problems,
    /// All, as a document.
    Json,
}

/// Looks at everything and prints what it finds.
pub fn doctor(
    options: Vec<OsString>,
    program: Option<&OsStr>,
    vmdk: Option<&Path>,
    form: Form,
) -> Result<ExitCode, Failure> {
    let texts = entries::texts(options);
    let (listed, wrong) = entries::parse_each(&texts);
    let mut findings = Findings::default();
    let host = Host::running().unwrap_or_else(|unknown| {
        findings.add(Check::Device, [unknown.finding()]);
        Host::default()
    });
    // Nothing else is said of a device that is not free, because that would lead to its use.
    let fitness: Vec<Fitness> = listed.iter().map(|device| device::of_device(device, &host)).collect();
    let mut free = listed.clone();
    let mut is_free = fitness.iter().map(|fitness| fitness.uses.is_empty());
    free.retain(|_| is_free.next() == Some(true));
    for fitness in &fitness {
        findings.add(Check::Device, fitness.uses.clone());
    }
    // What is wrong with the question comes before what the answer would need.
    findings.add(Check::Device, wrong);
    findings.add(Check::Device, listed.iter().filter_map(entries::explain_absence));
    let described = vmdk.map(|file| vmdk::examine(file, &listed, &host)).transpose();
    let described = described.unwrap_or_else(|failure| {
        findings.add(Check::Vmdk, failure.findings);
        None
    });
    let examined = programs(&mut findings, program, &free);
    if texts.is_empty() {
        findings.add(
            Check::Device,
            [Finding::warning(Code::Usage, "No device is given")
                .hint(format!("name one with --device ENTRY, or set {}", entries::VARIABLE))],
        );
    }
    let fitness = fitness.into_iter().zip(&listed).zip(device::together(&listed, &host));
    for ((fitness, device), together) in fitness {
        findings.add(Check::Device, fitness.for_programs(&findings.programs, device).all());
        findings.add(Check::Device, together);
    }
    findings.add(Check::Vmdk, described.into_iter().flatten());
    findings.add(Check::Engine, [engine::seccomp()]);
    let confinement = confinement::confinement(&findings.programs, &listed);
    findings.add(Check::Confinement, confinement);
    // The worst first, otherwise in the order of the checks.
    findings.list.sort_by_key(|(_, finding)| Reverse(finding.verdict));
    let conclusion = conclude(&findings, &texts, &examined, program);
    say(&findings, &conclusion, form)
}

/// The last line: a word that says how it stands, and the rest of the sentence.
struct Conclusion {
    /// Ok: the programs find the devices; there are both, and no problem.
    verdict: Verdict,
    rest: String,
}

impl Conclusion {
    fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Ok => "Ready",
            Verdict::Warning => "Nothing is wrong so far",
            Verdict::Problem => "Not ready",
        }
    }
}

fn conclude(
    findings: &Findings,
    devices: &[OsString],
    programs: &[PathBuf],
    program: Option<&OsStr>,
) -> Conclusion {
    let list = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>().join(", ");
    let of_devices = list(&mut devices.iter().map(|text| shown(text).to_string()));
    let of_programs = match program.filter(|_| programs.is_empty()) {
        Some(name) => shown(name).to_string(),
        None => list(&mut programs.iter().map(|file| shown(file).to_string())),
    };
    let subject = match (of_devices.as_str(), of_programs.as_str()) {
        ("", "") => String::new(),
        ("", one) | (one, "") => format!(": {one}"),
        _ => format!(": {of_devices} for {of_programs}"),
    };
    if let Some(problem) = findings.first() {
        let rest = match &problem.hint {
            Some(hint) => format!("{subject}. Do this first: {hint}."),
            None => format!("{subject}. Correct this first: {problem}"),
        };
        return Conclusion { verdict: Verdict::Problem, rest };
    }
    if let Some(unknown) = &findings.unknown {
        let rest = format!("{subject}, but {unknown}");
        return Conclusion { verdict: Verdict::Warning, rest };
    }
    let missing = match (devices.is_empty(), programs.is_empty()) {
        (false, false) => {
            let entries: String = devices.iter().map(|text| format!("--device {} ", quoted(text))).collect();
            let usual = |name| format!("vmware-bdwrapper run {entries}-- {}", quoted(name));
            let start = findings.start.clone().or_else(|| program.map(usual));
            let start = start.map(|start| format!(". Start it: {start}")).unwrap_or_default();
            return Conclusion { verdict: Verdict::Ok, rest: subject + &start };
        }
        (false, true) => "program",
        (true, false) => "device",
        (true, true) => "device and no program",
    };
    let rest = format!(
        "{subject}, but no {missing} was checked. Give both: vmware-bdwrapper doctor --device ENTRY PROGRAM"
    );
    Conclusion { verdict: Verdict::Warning, rest }
}

/// Prints the findings and what follows from them.
fn say(findings: &Findings, conclusion: &Conclusion, form: Form) -> Result<ExitCode, Failure> {
    let Conclusion { verdict, rest } = conclusion;
    let word = conclusion.word();
    if form == Form::Json {
        let checks = findings.list.iter().map(|(check, finding)| Checked { check: *check, finding });
        let text = format!("{word}{rest}");
        let programs = findings.programs.iter().zip(&findings.engines);
        let document = Document {
            ready: *verdict == Verdict::Ok,
            conclusion: &text,
            programs: programs
                .map(|(file, engine)| Examined { program: file.to_string_lossy(), engine: *engine })
                .collect(),
            checks: checks.collect(),
        };
        print(json::text(&document)?)?;
    } else {
        let is_shown = |finding: &&Finding| form == Form::All || finding.verdict == Verdict::Problem;
        let shown = findings.list.iter().map(|(_, finding)| finding).filter(is_shown);
        let mut text: String = shown.map(Finding::line).collect();
        if form == Form::All {
            text += &format!("{}{rest}\n", styled(word, verdict.style()));
        }
        print(terminal::wrapped(&text))?;
    }
    Ok(if findings.first().is_none() { ExitCode::SUCCESS } else { ExitCode::from(Failure::FAILED) })
}

/// Looks at the program or, where none is given, at those that the administrator has listed, and at what they need; which
/// they are.
fn programs(findings: &mut Findings, program: Option<&OsStr>, listed: &[Device<'_>]) -> Vec<PathBuf> {
    let files = match program {
        Some(name) => find::find(name).map(|file| vec![absolute(&file)]).map_err(|finding| vec![finding]),
        None => config::programs().map_err(|finding| vec![finding]),
    };
    let files = files.unwrap_or_else(|problems| {
        // What to do about a missing file can need the library.
        if program.is_none() {
            findings.add(Check::Library, ordinary());
        }
        findings.add(Check::Program, problems);
        Vec::new()
    });
    for file in &files {
        examine(findings, file, listed, None);
    }
    if files.iter().any(|file| program.is_some() && script::is_vmwares(file)) {
        launched(findings, listed);
    }
    if !findings.list.iter().any(|(check, _)| *check == Check::Program) {
        let none = Finding::warning(Code::NotFound, "lists no program that exists").of(FILE);
        findings.add(Check::Program, [none.hint("name the program after the options")]);
    }
    if !findings.list.iter().any(|(check, _)| *check == Check::Library) {
        findings.add(Check::Library, ordinary());
    }
    files
}

/// Looks at a program, and at the one that it becomes, where it is a script; that one has what answers the `script`.
fn examine(findings: &mut Findings, file: &Path, listed: &[Device<'_>], script: Option<&Choice>) {
    findings.programs.push(file.canonicalize().unwrap_or(file.into()));
    findings.engines.push(None);
    let place = findings.engines.len() - 1;
    let seen = file.metadata().and_then(|status| Ok((secure::is_secure(file, &status)?, status)));
    let (is_secure, status) = match seen {
        Ok(seen) => seen,
        Err(error) => {
            let problem = Finding::io("cannot be examined", &error).of(file);
            return findings.add(Check::Program, [problem.hint("name a program that can be examined")]);
        }
    };
    let choice = match script {
        Some(Choice::Supervisor(_)) => None,
        _ => Some(engine::choose(file, listed)),
    };
    let is_supervised = matches!(choice, None | Some(Choice::Supervisor(_)));
    if let Some(problem) = script::starter(file, is_secure).filter(|_| !is_supervised) {
        return findings.add(Check::Program, [problem]);
    }
    let mut found = Vec::new();
    let unstartable = find::unstartable(file);
    let can_start = unstartable.is_none();
    let obstacle = unstartable.or_else(|| match &choice {
        Some(Choice::Library) => find::unreachable(file),
        Some(Choice::Neither(problem)) => Some(problem.clone()),
        _ => None,
    });
    let program = obstacle.unwrap_or_else(|| {
        if is_secure {
            Finding::ok("runs with rights that you do not have (set-user-ID)").of(file)
        } else if secure::has_bit(&status) {
            secure::idle(file, &status)
        } else {
            Finding::ok("runs with your rights").of(file)
        }
    });
    found.push((Check::Program, vec![program]));
    let mut is_unread = false;
    if is_supervised || matches!(choice, Some(Choice::Neither(_))) {
        // Other programs need it.
        found.push((Check::Library, ordinary().into_iter().map(Finding::at_most_warning).collect()));
    } else if is_secure {
        found.push((Check::Library, library::trusted()));
        is_unread = config::is_unread();
        found.push((Check::Configuration, config::examine(file, &status, listed)));
    } else {
        found.push((Check::Library, ordinary()));
    }
    let launcher = script::read(file).filter(|_| !is_supervised);
    if let Some(launcher) = launcher {
        let kept = Finding::ok("is a script, and keeps LD_PRELOAD").of(file);
        let said = if launcher.findings.is_empty() { vec![kept] } else { launcher.findings };
        found.push((Check::Program, said));
    }
    let unreadable = engine::unreadable(file, listed).filter(|_| !is_supervised && !is_secure);
    let is_lost = found.iter().any(|(_, found)| has_problem(found));
    let instead = match &choice {
        _ if script.is_some() || !can_start => None,
        Some(Choice::Library) if is_secure && is_lost => engine::instead(file, listed),
        // What is said of the program has the missing lines.
        _ if unreadable.is_some() || matches!(choice, Some(Choice::Neither(_))) => {
            engine::instead(file, listed).filter(|instead| instead.code != Code::NotListed)
        }
        _ => None,
    };
    let is_roots = instead.as_ref().is_some_and(|instead| instead.verdict == Verdict::Ok);
    if is_roots {
        // What is missing for the other engines is no obstacle.
        for (_, found) in &mut found {
            *found = std::mem::take(found).into_iter().map(Finding::at_most_warning).collect();
        }
        findings.start = Some(engine::root_command(file, listed));
    } else if is_unread {
        findings.miss_configuration();
    } else if unreadable.is_some() {
        findings.unknown = Some(format!("what {} needs is unknown", shown(file)));
    }
    findings.engines[place] = match &choice {
        _ if is_roots => Some(Engine::Supervisor),
        _ if is_lost || unreadable.is_some() => None,
        Some(Choice::Library) => Some(Engine::Library),
        _ => Some(Engine::Supervisor),
    };
    let answer = match &choice {
        _ if instead.is_some() => instead,
        Some(Choice::Library) if !is_lost && unreadable.is_none() => {
            Some(Finding::ok("is answered by the library").of(file))
        }
        Some(Choice::Supervisor(why)) => Some(why.clone()),
        _ => None,
    };
    found.push((Check::Engine, unreadable.into_iter().filter(|_| !is_roots).chain(answer).collect()));
    for (check, found) in found {
        findings.add(check, found);
    }
    if let (Some(choice), None, Some(launcher)) = (&choice, script, script::read(file)) {
        launcher.target.iter().for_each(|target| examine(findings, target, listed, Some(choice)));
    }
}

/// Looks at the set-user-ID programs that VMware's launcher starts.
fn launched(findings: &mut Findings, listed: &[Device<'_>]) {
    let launched = match config::launched(listed) {
        Ok(launched) => launched,
        Err(finding) => {
            if config::is_unread() {
                findings.miss_configuration();
            }
            return findings.add(Check::Configuration, [finding]);
        }
    };
    for Launched { program, library, configuration } in launched {
        let is_answered = !has_problem(&library) && !has_problem(&configuration);
        findings.engines.push(is_answered.then_some(Engine::Library));
        let started = Finding::ok("is started by VMware, with rights that you do not have (set-user-ID)");
        findings.add(Check::Program, [started.of(&program)]);
        findings.add(Check::Library, library);
        findings.add(Check::Configuration, configuration);
        findings.programs.push(program);
    }
}

/// The library for programs without limits.
fn ordinary() -> Vec<Finding> {
    let name = match library::ordinary() {
        Ok(name) => name,
        Err(problem) => {
            let mut findings = vec![problem];
            // The loader may find it elsewhere; set-user-ID programs do not.
            if let Ok(Some(found)) = probe::loaded(OsStr::new(library::NAME)) {
                let why = "is in a directory that the dynamic loader does not trust, so set-user-ID programs do not load it";
                let finding = Finding::warning(Code::NotInstalled, why).of(found);
                findings.push(finding.hint("remove it, and run as root: 'make install'"));
            }
            return findings;
        }
    };
    let mut findings = Vec::new();
    let file = if name == library::NAME {
        match library::installed() {
            Ok(files) => files.into_iter().next(),
            Err(problem) => return vec![problem],
        }
    } else {
        Some(PathBuf::from(&name))
    };
    let Some(file) = file else { return findings };
    findings.extend(library::file_findings(&file, false));
    if has_problem(&findings) {
        return findings;
    }
    match probe::loaded(&name) {
        Ok(None) => {
            let why = "exists, but programs do not load it";
            findings.push(
                Finding::problem(Code::Unknown, why)
                    .of(&file)
                    .hint(format!("see why: 'LD_DEBUG=files LD_PRELOAD={} true'", library::NAME)),
            );
        }
        Ok(Some(loaded)) if name == library::NAME => match library::shadowed(Path::new(&loaded)) {
            Ok(None) => {}
            Ok(Some(problem)) | Err(problem) => findings.push(problem),
        },
        Ok(Some(_)) => {}
        Err(problem) => findings.push(problem),
    }
    if !has_problem(&findings) {
        findings.insert(0, Finding::ok("is loaded into programs that run with your rights").of(&file));
    }
    findings
}

#[derive(Serialize)]
struct Document<'a> {
    ready: bool,
    /// The last line.
    conclusion: &'a str,
    programs: Vec<Examined<'a>>,
    checks: Vec<Checked<'a>>,
}

#[derive(Serialize)]
struct Examined<'a> {
    /// Its name; bytes that are not UTF-8 are replaced.
    program: Cow<'a, str>,
    /// What answers it; null where nothing does.
    engine: Option<Engine>,
}

#[derive(Serialize)]
struct Checked<'a> {
    check: Check,
    #[serde(flatten)]
    finding: &'a Finding,
}
