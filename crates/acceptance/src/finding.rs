//! What the command says, as programs read it: messages of `--message-format json` and findings in JSON documents.

use std::fmt::Display;

use serde_json::Value;

use crate::run::Outcome;

/// A message of the command, or what one of its checks has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `ok`, `warning` or `problem`.
    pub verdict: String,
    /// What kind of thing it is.
    pub code: String,
    /// The file, device or program that it is about.
    pub subject: Option<String>,
    /// The fact.
    pub text: String,
    /// What to do; empty where there is nothing.
    pub remedy: String,
}

impl Finding {
    fn of(value: &Value) -> Finding {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let needed = |name| text(name).unwrap_or_else(|| panic!("no {name}: {value}"));
        Finding {
            verdict: needed("verdict"),
            code: needed("code"),
            subject: text("subject"),
            text: needed("text"),
            remedy: text("remedy").unwrap_or_default(),
        }
    }

    /// Asserts that the text or what to do has a name, number or command.
    #[track_caller]
    pub fn names(&self, what: impl Display) -> &Finding {
        let what = what.to_string();
        assert!(self.text.contains(&what) || self.remedy.contains(&what), "{what}: {self:?}");
        self
    }

    /// The commands that stand between apostrophes in what to do.
    pub fn commands(&self) -> Vec<String> {
        commands(&self.remedy)
    }

    /// Whether it has this code, and these words in its fact.
    pub fn is(&self, code: &str, words: &str) -> bool {
        self.code == code && self.text.contains(words)
    }
}

/// The commands that stand between apostrophes in what to do.
pub fn commands(remedy: &str) -> Vec<String> {
    let words = remedy.split('\'').skip(1).step_by(2);
    words.filter(|words| words.contains(' ')).map(str::to_owned).collect()
}

impl Outcome {
    /// The JSON document on the standard output.
    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.out(), self.err()))
    }

    /// What `doctor --json`, or `probe --json` of one device, has found.
    pub fn findings(&self) -> Vec<Finding> {
        let document = self.document();
        let found = document["checks"].as_array().or(document["devices"][0]["findings"].as_array());
        found.expect("a list").iter().map(Finding::of).collect()
    }

    /// The command's messages of `--message-format json`; the library and the program write other lines.
    pub fn messages(&self) -> Vec<Finding> {
        let err = self.err();
        let objects = err.lines().filter(|line| line.starts_with("{\"verdict\":"));
        objects.map(|line| Finding::of(&serde_json::from_str(line).expect("it is JSON"))).collect()
    }

    /// Asserts that one of the messages has this code, these words in its fact, and these in what it advises.
    pub fn says(&self, code: &str, words: &str, remedy: &str) {
        let messages = self.messages();
        let is_it = |message: &Finding| message.is(code, words) && message.remedy.contains(remedy);
        assert!(messages.iter().any(is_it), "{code}: {words}: {remedy}: {messages:#?}{}", self.err());
    }

    /// Asserts that it ended with this status, printed nothing, and says this.
    pub fn refused(&self, status: i32, code: &str, words: &str, remedy: &str) {
        assert_eq!((self.code(), self.out().as_str()), (status, ""), "{}", self.err());
        self.says(code, words, remedy);
    }
}
