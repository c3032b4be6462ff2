//! Which engine answers a program: the library if it works, else the supervisor where that works.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use serde::Serialize;
use supervisor::{Failure, Refused, loses_privileges};

use crate::check::config::{self, FILE};
use crate::check::{library, permit, script};
use crate::entries::Device;
use crate::program::find::{self, Obstacle};
use crate::program::secure;
use crate::say::failure::{cause, quoted, shown};
use crate::say::finding::{Code, Finding, has_problem};

/// What answers the requests of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The preload library.
    Library,
    /// The supervisor.
    Supervisor,
}

/// The engine that answers a program.
pub enum Choice {
    /// The library or, where it does not get into the program after all, nothing: other checks say why.
    Library,
    /// The supervisor; the finding says why.
    Supervisor(Finding),
    /// Nothing; the finding says why, and what to do.
    Neither(Finding),
}

/// Why the library does not answer a program.
struct Reason {
    /// The rest of a sentence that begins with the program's name or a pronoun.
    why: String,
    /// Whether it is so, and not only likely.
    is_certain: bool,
}

/// Chooses the engine for a program that exists.
pub fn choose(file: &Path, listed: &[Device<'_>]) -> Choice {
    let is_secure = is_secure(file);
    let Some(Reason { why, is_certain }) = reason(file, is_secure, listed) else {
        return Choice::Library;
    };
    let finding = |why: String| Finding::problem(Code::Unsupported, why).of(file);
    if matches!(find::obstacle(file), Some(Obstacle::Unanswered(_))) {
        return Choice::Neither(finding(why).hint("name a program that is built for this system"));
    }
    // The supervisor of an ordinary user cannot look at such a program.
    let is_hidden = loses_privileges() && find::is_unreadable(file);
    let (loses_rights, unavailable) = (loses_rights(file) || is_hidden, unavailable());
    if !loses_rights && unavailable.is_none() {
        let why = format!("is answered by the supervisor, because it {why}");
        return Choice::Supervisor(Finding::supervised(why).of(file));
    }
    if !is_certain {
        return Choice::Library;
    }
    Choice::Neither(match unavailable {
        Some(failure) => {
            let why = format!("{why}, and no supervisor can be started ({})", text(failure));
            // Every program sees a disk of the kernel's.
            const KERNEL: &str = "use a disk of the kernel instead, by tcm_loop (docs/alternatives.md)";
            finding(why).hint(format!("{}, or {KERNEL}", remedy(failure)))
        }
        None => finding(format!("{why}, and under your supervisor it would not have its rights"))
            .hint(as_root(file, listed)),
    })
}

/// Says how a supervisor of root's answers a program: as it is, or with which lines of the configuration file.
pub fn as_root(file: &Path, listed: &[Device<'_>]) -> String {
    let lines = permit::missing(listed).unwrap_or_default();
    with_lines(&lines, &format!("run '{}'", root_command(file, listed)))
}

/// Says what to do once these lines are in the configuration file, if any are missing.
fn with_lines(lines: &[String], what: &str) -> String {
    if lines.is_empty() { what.into() } else { format!("{}, and {what}", config::adding(lines)) }
}

/// Returns the command with which a supervisor of root's answers a program.
pub fn root_command(file: &Path, listed: &[Device<'_>]) -> String {
    let entries: String = listed.iter().map(|device| format!("--device {} ", quoted(device.text))).collect();
    format!("sudo vmware-bdwrapper run --engine supervisor {entries}-- {}", quoted(file))
}

/// Returns what to do for a set-user-ID program that lacks something of the library's.
pub fn for_rights(file: &Path, listed: &[Device<'_>]) -> String {
    match unavailable() {
        None => format!("correct what follows, or {}", as_root(file, listed)),
        Some(_) => "see libvmware-bdwrapper(7)".into(),
    }
}

/// Says whether a supervisor of root's answers a program that no other engine answers, or what that needs.
pub fn instead(file: &Path, listed: &[Device<'_>]) -> Option<Finding> {
    if unavailable().is_some() || !loses_privileges() {
        return None;
    }
    let run = format!("run '{}'", root_command(file, listed));
    let finding = match permit::missing(listed) {
        Ok(lines) if lines.is_empty() => {
            Finding::supervised("is answered, with its rights, by a supervisor that root starts").hint(run)
        }
        Ok(lines) => {
            let why = format!(
                "would be answered, with its rights, by a supervisor that root starts, but {FILE} lacks the {}",
                config::lines(&lines)
            );
            Finding::warning(Code::NotListed, why).hint(with_lines(&lines, &run))
        }
        Err(unread) => {
            let why = format!(
                "may be answered, with its rights, by a supervisor that root starts; whether it is cannot be determined ({})",
                unread.fact()
            );
            let hint = unread.hint.map(|hint| format!("{hint}, and {run}"));
            Finding::warning(unread.code, why).hint(hint.unwrap_or(run))
        }
    };
    Some(finding.of(file))
}

/// Says that a program cannot be read, by which its engine is chosen.
pub fn unreadable(file: &Path, listed: &[Device<'_>]) -> Option<Finding> {
    find::is_unreadable(file).then(|| {
        let finding = Finding::warning(Code::Unknown, "cannot be read, so what it needs is unknown").of(file);
        finding.hint(format!("if it is not answered, {}", as_root(file, listed)))
    })
}

/// Says why a preloaded library cannot reach a program or what a script plainly executes, or may not.
pub fn beyond_library(file: &Path, listed: &[Device<'_>]) -> Option<Finding> {
    let of_script = || {
        let Reason { why, .. } = script_reason(file)?;
        let finding = Finding::warning(Code::PreloadLost, why).of(file);
        Some(finding.hint("check with 'vmware-bdwrapper trace' whether the library answers it"))
    };
    let finding = find::unreachable(file).or_else(of_script)?;
    if unavailable().is_some()
        || matches!(find::obstacle(file), Some(Obstacle::Sanitizer | Obstacle::Unanswered(_)))
    {
        return Some(finding);
    }
    Some(if loses_rights(file) {
        finding.hint(as_root(file, listed))
    } else {
        finding.hint("use the supervisor: 'vmware-bdwrapper run' without --engine library")
    })
}

/// Returns how a program, or what it starts, is answered with the rights of its owner.
pub fn keeping_rights(file: &Path, listed: &[Device<'_>]) -> String {
    match find::obstacle(file) {
        Some(Obstacle::Unreachable(_) | Obstacle::Unanswered(_)) => as_root(file, listed),
        _ => format!("use --engine library, or {}", as_root(file, listed)),
    }
}

/// Returns why the library does not answer a program.
fn reason(file: &Path, is_secure: bool, listed: &[Device<'_>]) -> Option<Reason> {
    let certain = |why: String| Some(Reason { why, is_certain: true });
    let likely = |why: String| Some(Reason { why, is_certain: false });
    match find::obstacle(file) {
        Some(obstacle @ (Obstacle::Unreachable(_) | Obstacle::Unanswered(_))) => {
            return certain(obstacle.why());
        }
        Some(obstacle) => return likely(obstacle.why()),
        None => {}
    }
    if script::starter(file, is_secure).is_some() {
        return likely(script::STARTS.into());
    }
    if is_secure {
        let status = file.metadata().ok()?;
        let lacks = has_problem(&[library::trusted(), config::examine(file, &status, listed)].concat());
        let why = "is a set-user-ID program, into which the library is not loaded as it is set up";
        return if lacks { likely(why.into()) } else { None };
    }
    if let Some(reason) = script_reason(file) {
        return Some(reason);
    }
    no_library().and_then(|missing| likely(format!("has no library to load ({})", missing.fact())))
}

/// Returns why the library does not answer a script, or what it plainly executes.
fn script_reason(file: &Path) -> Option<Reason> {
    let likely = |why: String| Some(Reason { why, is_certain: false });
    let unreachable =
        |file: &Path| find::obstacle(file).filter(|obstacle| matches!(obstacle, Obstacle::Unreachable(_)));
    if let Some(name) = find::interpreter(file) {
        if let Some(obstacle) = unreachable(&name) {
            let why = format!("is a script for {}, which {}", shown(&name), obstacle.why());
            return Some(Reason { why, is_certain: true });
        }
    }
    let script = script::read(file)?;
    if let Some(loss) = script.loss {
        return likely(loss);
    }
    let (target, obstacle) =
        script.target.iter().chain(&script.children).find_map(|file| Some((file, unreachable(file)?)))?;
    likely(format!("executes {}, which {}", shown(target), obstacle.why()))
}

/// Returns why there is no library for any program; where that cannot be told, the supervisor is no better.
pub fn no_library() -> Option<Finding> {
    let is_missing =
        |finding: &Finding| matches!(finding.code, Code::NotInstalled | Code::Unsupported | Code::Unknown);
    library::ordinary().err().filter(is_missing)
}

/// Says why the supervisor answers although nothing hinders the library.
pub fn without_library(missing: &Finding) -> Finding {
    Finding::supervised(format!(
        "The supervisor answers, because there is no library to load ({})",
        missing.fact()
    ))
}

/// Whether a program or what it starts is known to need rights of its own, which the kernel does not give it
/// under the supervisor of an ordinary user.
pub fn loses_rights(file: &Path) -> bool {
    let starts_secure = || {
        script::is_vmwares(file)
            || script::read(file).is_some_and(|script| {
                script.has_starter || script.target.iter().chain(&script.children).any(|file| is_secure(file))
            })
    };
    loses_privileges() && (is_secure(file) || starts_secure())
}

fn is_secure(file: &Path) -> bool {
    file.metadata().and_then(|status| secure::is_secure(file, &status)).unwrap_or(false)
}

/// Returns why no supervisor can be started here.
pub fn unavailable() -> Option<&'static Failure> {
    static TRIED: OnceLock<Option<Failure>> = OnceLock::new();
    TRIED.get_or_init(|| supervisor::available().err()).as_ref()
}

/// Says whether a supervisor can be started here, and what for.
pub fn seccomp() -> Finding {
    let fact = match unavailable() {
        None => {
            "permits a supervisor, which answers programs that cannot load the library (static and 32-bit ones, for example)"
                .into()
        }
        Some(failure) => format!(
            "permits no supervisor here ({}); only programs that cannot load the library need one",
            text(failure)
        ),
    };
    Finding::ok(fact).of("seccomp")
}

/// Says why a supervisor was not started, and what to do.
pub fn not_started(failure: &Failure) -> Finding {
    let why = format!("The supervisor cannot be started ({})", text(failure));
    Finding::problem(Code::NotExecutable, why).hint(remedy(failure))
}

/// Says of a program that the supervisor of an ordinary user may not look at that its requests are refused.
pub fn refused(Refused { thread, name }: Refused, file: &Path, listed: &[Device<'_>]) -> Finding {
    let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default());
    let why = format!(
        "Requests to disks are refused in {}[{thread}], and in others that the supervisor may not look at, \
         because you may not read their files, for example",
        name.escape_debug()
    );
    Finding::warning(Code::PermissionDenied, why).hint(as_root(file, listed))
}

/// Returns why a supervisor cannot be started, without the number of the error.
fn text(failure: &Failure) -> String {
    cause(&io::Error::other(failure.to_string()))
}

/// Returns what to do where a supervisor cannot be started.
fn remedy(failure: &Failure) -> &'static str {
    match failure {
        Failure::OldKernel => "start it on Linux 5.19 or newer, outside sandboxes",
        Failure::Supervised => "start it outside the other supervisor",
        Failure::Forbidden(_) => "start it outside the container or sandbox that forbids that",
        Failure::NoProc => "run as root: 'mount -t proc proc /proc'",
        Failure::Unreadable(_) => {
            "run as root: 'sysctl kernel.yama.ptrace_scope=1', or start it outside the sandbox that forbids that"
        }
        Failure::System(_) | Failure::NotExecuted(_) => "correct that, and start it again",
    }
}
