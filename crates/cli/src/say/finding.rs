//! What the command tells its user: failures, warnings and what checks find, each a [`Finding`].

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::say::colour::styled;
use crate::say::failure::{cause, shown};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// It can work.
    Warning,
    /// It does not work.
    Problem,
}

impl Verdict {
    /// The word that stands before a finding.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        }
    }
}

/// Declares the codes, with the list of them that vmware-bdwrapper-messages(7) must have.
macro_rules! codes {
    ($(#[doc = $about:literal] $code:ident,)*) => {
        /// What kind of thing a finding is about, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Code {
            $(#[doc = $about] $code,)*
        }

        impl Code {
            /// Each code, with what it means.
            #[cfg(test)]
            const ALL: &[(Code, &str)] = &[$((Code::$code, $about),)*];
        }
    };
}

codes! {
    /// Nothing is wrong.
    Ok,
    /// The command line is wrong.
    Usage,
    /// A device entry is wrong.
    BadEntry,
    /// No program has this name.
    ProgramNotFound,
    /// A program cannot be executed.
    NotExecutable,
    /// A program would not find the devices; other messages say why.
    NotReady,
    /// A file, device, link, user or group does not exist.
    NotFound,
    /// A file, link or setting exists already.
    Exists,
    /// The user does not have permission.
    PermissionDenied,
    /// Only root can do this.
    RootOnly,
    /// Something uses the device or file.
    InUse,
    /// The running system is on the device.
    SystemDisk,
    /// The device is a physical disk.
    PhysicalDisk,
    /// The device is a physical volume of LVM, or a part that LVM uses for itself.
    LvmPart,
    /// The device does not keep what is written to it.
    Volatile,
    /// The device is left over from something that no longer exists.
    Stale,
    /// The device is read-only.
    ReadOnly,
    /// The device has no sectors.
    Empty,
    /// The sectors have a size that VMware does not take, or the last one is incomplete.
    SectorSize,
    /// VMware would refuse the device.
    Refused,
    /// Two entries or lines are for the same device.
    Duplicate,
    /// Two devices share their space.
    Overlap,
    /// It is neither a block device nor an image file.
    NotADevice,
    /// It is not a file, directory or link of the type that is needed.
    FileType,
    /// The content of a file is not what it should be.
    Malformed,
    /// The partition table of a device cannot be used.
    PartitionTable,
    /// Two descriptions of a device differ: an entry, a line of the configuration file, a descriptor.
    Different,
    /// This does not work with a device or value of this kind.
    Unsupported,
    /// A program loses LD_PRELOAD.
    PreloadLost,
    /// The supervisor answers a program, because the library does not.
    Supervised,
    /// The library is not installed.
    NotInstalled,
    /// The dynamic loader loads another library.
    Shadowed,
    /// The library does not have the set-user-ID bit.
    NoSetUserId,
    /// /etc/vmware-bdwrapper.conf does not list the program or device.
    NotListed,
    /// Users other than root could change the file.
    Untrusted,
    /// A security module may refuse or has refused something.
    Confined,
    /// This could not be determined.
    Unknown,
    /// Nothing was done, because `--force` is not given.
    ForceNeeded,
    /// Nothing was done, because it was not confirmed.
    Unconfirmed,
    /// Something else has to end first.
    Waiting,
    /// Something is missing from a trace or replay.
    Incomplete,
    /// A system call or another program failed.
    Io,
}

impl Code {
    /// The exit status of a command that fails for this reason.
    pub fn status(self) -> u8 {
        match self {
            Code::Usage | Code::BadEntry => 2,
            Code::NotExecutable => 126,
            Code::ProgramNotFound => 127,
            _ => 1,
        }
    }
}

/// A fact, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "Object")]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What kind of thing it is.
    pub code: Code,
    /// The file, device or program that it is about.
    pub subject: Option<PathBuf>,
    /// What is wrong with the subject, or a sentence where there is none; without a full stop.
    pub cause: String,
    /// What to do: sentences without the first capital and the last full stop.
    pub hint: Option<String>,
}

/// The same in a JSON document; bytes of the subject's name that are not UTF-8 are replaced.
#[derive(Serialize)]
struct Object {
    verdict: Verdict,
    code: Code,
    subject: Option<String>,
    text: String,
    remedy: Option<String>,
}

impl From<Finding> for Object {
    fn from(finding: Finding) -> Object {
        let text = finding.fact();
        let Finding { verdict, code, subject, cause: _, hint } = finding;
        let subject = subject.map(|subject| subject.to_string_lossy().into_owned());
        Object { verdict, code, subject, text, remedy: hint }
    }
}

impl Finding {
    fn new(verdict: Verdict, code: Code, cause: impl Into<String>) -> Finding {
        Finding { verdict, code, subject: None, cause: cause.into(), hint: None }
    }

    /// It is as it should be.
    pub fn ok(cause: impl Into<String>) -> Finding {
        Finding::new(Verdict::Ok, Code::Ok, cause)
    }

    /// The supervisor answers a program.
    pub fn supervised(cause: impl Into<String>) -> Finding {
        Finding::new(Verdict::Ok, Code::Supervised, cause)
    }

    /// It can work.
    pub fn warning(code: Code, cause: impl Into<String>) -> Finding {
        Finding::new(Verdict::Warning, code, cause)
    }

    /// It does not work.
    pub fn problem(code: Code, cause: impl Into<String>) -> Finding {
        Finding::new(Verdict::Problem, code, cause)
    }

    /// Nothing is done, because a device is not free; `what` is a sentence without its full stop.
    pub fn force_needed(what: &str) -> Finding {
        Finding::problem(Code::ForceNeeded, what).hint("to do it all the same, add --force")
    }

    /// Something failed; `what` is what a subject is, or a sentence without its full stop.
    pub fn io(what: &str, error: &io::Error) -> Finding {
        let code = match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Code::NotFound,
            ErrorKind::PermissionDenied => Code::PermissionDenied,
            ErrorKind::AlreadyExists => Code::Exists,
            _ => Code::Io,
        };
        Finding::problem(code, format!("{what} ({})", cause(error)))
    }

    /// The same as a warning, where it is a problem.
    pub fn at_most_warning(self) -> Finding {
        Finding { verdict: self.verdict.min(Verdict::Warning), ..self }
    }

    /// The same, about this file, device or program.
    pub fn of(self, subject: impl AsRef<Path>) -> Finding {
        Finding { subject: Some(subject.as_ref().into()), ..self }
    }

    /// The same, with what to do: sentences without the first capital and the last full stop.
    pub fn hint(self, hint: impl Into<String>) -> Finding {
        Finding { hint: Some(hint.into()), ..self }
    }

    /// The fact without what to do; a sentence without its full stop.
    pub fn fact(&self) -> String {
        match &self.subject {
            Some(subject) => format!("{}: {}", shown(subject), self.cause),
            None => self.cause.clone(),
        }
    }

    /// What to do, as sentences.
    pub fn advice(&self) -> Option<String> {
        let mut letters = self.hint.as_ref()?.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        Some(format!("{first}{}.", letters.as_str()))
    }

    /// The line of a report for the standard output: the verdict, and the sentences.
    pub fn line(&self) -> String {
        format!("{}: {self}\n", styled(self.verdict.name(), self.verdict.style()))
    }
}

/// `SUBJECT: what is wrong (cause).` and what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.fact())?;
        self.advice().map_or(Ok(()), |advice| write!(f, " {advice}"))
    }
}

/// Those of one verdict.
pub fn only(findings: &[Finding], verdict: Verdict) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(move |finding| finding.verdict == verdict)
}

/// Whether one is a problem.
pub fn has_problem(findings: &[Finding]) -> bool {
    only(findings, Verdict::Problem).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        let finding = Finding::problem(Code::InUse, "is mounted on /mnt").of("/dev/loop0");
        assert_eq!(finding.to_string(), "/dev/loop0: is mounted on /mnt.");
        let finding = finding.hint("run as root: 'umount /mnt'");
        assert_eq!(finding.to_string(), "/dev/loop0: is mounted on /mnt. Run as root: 'umount /mnt'.");
        let object = serde_json::to_string(&finding).expect("it can be written");
        assert_eq!(
            object,
            r#"{"verdict":"problem","code":"in-use","subject":"/dev/loop0","text":"/dev/loop0: is mounted on /mnt","remedy":"run as root: 'umount /mnt'"}"#
        );
    }

    #[test]
    fn the_manual_has_each_code() {
        let manual = include_str!("../../../../man/vmware-bdwrapper-messages.7.md");
        let (_, section) = manual.split_once("\n## Codes\n").expect("it has the section");
        let (section, _) = section.split_once("\n## ").expect("others follow");
        let listed: Vec<&str> = section.lines().filter(|line| line.starts_with("- `")).collect();
        let line = |(code, about): &(Code, &str)| {
            let name = serde_json::to_value(code).expect("it can be written");
            let name = name.as_str().expect("it is a word").to_owned();
            format!("- `{name}`: {}", about.trim().trim_end_matches('.'))
        };
        let wanted: Vec<String> = Code::ALL.iter().map(line).collect();
        assert_eq!(listed, wanted);
    }
}
