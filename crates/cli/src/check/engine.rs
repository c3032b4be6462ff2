//! Which engine answers a program: the library where it works, else the supervisor where that works.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use serde::Serialize;
use supervisor::{Failure, Refused, loses_privileges};

use crate::check::{config, library, script};
use crate::entries::Device;
use crate::program::find::{self, Obstacle};
use crate::program::secure;
use crate::say::failure::{cause, shown};
use crate::say::finding::{Code, Finding, Verdict, has_problem};

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
    let (loses_rights, unavailable) = (loses_rights(file), unavailable());
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
            finding(why).hint(remedy(failure))
        }
        None => finding(format!("{why}, and under your supervisor it would not have its rights"))
            .hint(format!("run {AS_ROOT}")),
    })
}

/// How a program keeps the rights of its set-user-ID bit under a supervisor.
const AS_ROOT: &str = "'sudo vmware-bdwrapper run --engine supervisor --device ENTRY -- PROGRAM'";

/// Returns what to do for a set-user-ID program that lacks something of the library's.
pub fn for_rights() -> String {
    match unavailable() {
        None => format!("correct what follows, or run it under a supervisor of root's: {AS_ROOT}"),
        Some(_) => "see libvmware-bdwrapper(7)".into(),
    }
}

/// Says what else answers a set-user-ID program that lacks something of the library's.
pub fn instead(file: &Path) -> Option<Finding> {
    let why = "is answered, with its rights, by a supervisor of root's all the same";
    let finding = || Finding::warning(Code::NotReady, why).of(file).hint(format!("run {AS_ROOT}"));
    unavailable().is_none().then(finding)
}

/// Says why a preloaded library cannot reach a program, or may not.
pub fn beyond_library(file: &Path) -> Option<Finding> {
    let finding = find::unreachable(file)?;
    let is_answered = finding.verdict == Verdict::Problem && unavailable().is_none();
    Some(if is_answered {
        finding.hint("have the supervisor answer it: 'vmware-bdwrapper run' without --engine library")
    } else {
        finding
    })
}

/// Returns how a program, or what it starts, is answered with the rights of its owner.
pub fn keeping_rights(file: &Path) -> String {
    match find::obstacle(file) {
        Some(Obstacle::Unreachable(_) | Obstacle::Unanswered(_)) => format!("run {AS_ROOT}"),
        _ => format!("use --engine library, or run {AS_ROOT}"),
    }
}

/// Returns why the library does not answer a program.
fn reason(file: &Path, is_secure: bool, listed: &[Device<'_>]) -> Option<Reason> {
    let certain = |why: String| Some(Reason { why, is_certain: true });
    let likely = |why: String| Some(Reason { why, is_certain: false });
    let is_unreachable = |obstacle: &Obstacle| matches!(obstacle, Obstacle::Unreachable(_));
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
    if let Some(name) = find::interpreter(file) {
        if let Some(obstacle) = find::obstacle(&name).filter(is_unreachable) {
            return certain(format!("is a script for {}, which {}", shown(&name), obstacle.why()));
        }
    }
    if let Some(script) = script::read(file) {
        if let Some(loss) = script.loss {
            return likely(loss);
        }
        let beyond = script.target.and_then(|target| Some((find::obstacle(&target)?, target)));
        if let Some((obstacle, target)) = beyond.filter(|(obstacle, _)| is_unreachable(obstacle)) {
            return likely(format!("executes {}, which {}", shown(&target), obstacle.why()));
        }
    }
    no_library().and_then(|missing| likely(format!("has no library to load ({})", missing.fact())))
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
                script.has_starter || script.target.is_some_and(|file| is_secure(&file))
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
            "lets a supervisor answer programs that no library reaches (static and 32-bit ones, for example)"
                .into()
        }
        Some(failure) => format!(
            "lets no supervisor answer programs here ({}); only programs that no library reaches need one",
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
pub fn refused(Refused { thread, name }: Refused) -> Finding {
    let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default());
    let why = format!(
        "Requests to disks are refused in {}[{thread}], and in others that the supervisor may not look at, \
         because you may not read their files, for example",
        name.escape_debug()
    );
    Finding::warning(Code::PermissionDenied, why).hint(format!("run {AS_ROOT}"))
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
