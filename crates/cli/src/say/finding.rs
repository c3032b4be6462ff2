//! What a check finds.

use std::fmt;

use serde::Serialize;

use crate::say::colour::styled;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It can work so.
    Warning,
    /// It does not work so.
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

/// A fact, and what to do about it. Displayed as one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// The fact: a sentence without its full stop.
    pub cause: String,
    /// What to do: a request without its first capital and full stop.
    pub remedy: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(cause: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Ok, cause: cause.into(), remedy: None }
    }

    /// It can work so.
    pub fn warning(cause: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Warning, cause: cause.into(), remedy: Some(remedy.into()) }
    }

    /// It does not work so.
    pub fn problem(cause: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Problem, cause: cause.into(), remedy: Some(remedy.into()) }
    }

    /// A problem that is said in one sentence, with what to do behind a semicolon where it says that.
    pub fn sentence(sentence: &str) -> Finding {
        let sentence = sentence.trim_end_matches('.');
        let (cause, remedy) =
            sentence.rsplit_once("; ").map_or((sentence, None), |(cause, remedy)| (cause, Some(remedy)));
        Finding { verdict: Verdict::Problem, cause: cause.to_owned(), remedy: remedy.map(str::to_owned) }
    }
}

impl Finding {
    /// The line of a report for the standard output: the verdict, and the sentence.
    pub fn line(&self) -> String {
        format!("{}: {self}\n", styled(self.verdict.name(), self.verdict.style()))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remedy {
            Some(remedy) => write!(f, "{}: {remedy}.", self.cause),
            None => write!(f, "{}.", self.cause),
        }
    }
}

/// Those of one verdict.
pub fn only(findings: &[Finding], verdict: Verdict) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(move |finding| finding.verdict == verdict)
}
