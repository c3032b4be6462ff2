//! The messages of the command.

use std::fmt::Display;

use serde_json::Value;

/// A message of the command, as `--message-format json` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `problem` or `warning`.
    pub verdict: String,
    /// What kind of thing it is about.
    pub code: String,
    /// The file, device or program that it is about; empty if there is none.
    pub subject: String,
    /// What is wrong, with the subject.
    pub text: String,
    /// What to do; empty if there is nothing.
    pub hint: String,
}

impl Finding {
    /// Reads a message.
    pub fn read(line: &str) -> Finding {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        Finding::from(&object)
    }

    /// Asserts that the text or the hint has a name, number or command.
    #[track_caller]
    pub fn names(self, what: impl Display) -> Finding {
        let what = what.to_string();
        assert!(self.text.contains(&what) || self.hint.contains(&what), "{what}: {self:?}");
        self
    }

    /// The commands that the hint has between apostrophes.
    pub fn commands(&self) -> Vec<String> {
        commands_of(&self.hint)
    }
}

/// Reads the JSON object of a message, or of a check of `doctor --json`.
impl From<&Value> for Finding {
    fn from(object: &Value) -> Finding {
        let field = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        let [verdict, code, subject, text, hint] =
            ["verdict", "code", "subject", "text", "remedy"].map(field);
        Finding { verdict, code, subject, text, hint }
    }
}

/// The commands that a hint has between apostrophes.
pub fn commands_of(hint: &str) -> Vec<String> {
    let words = hint.split('\'').skip(1).step_by(2);
    words.filter(|words| words.contains(' ')).map(str::to_owned).collect()
}
