//! Colours of what people read on a terminal.

use std::env;
use std::io::{self, IsTerminal};

pub use clap::builder::styling::Style;
use clap::builder::styling::{AnsiColor, Styles};

use crate::say::finding::Verdict;

/// Of titles.
pub const TITLE: Style = Style::new().bold();

/// Of help texts and errors; the word `error` is not printed.
pub const CLAP: Styles = Styles::styled().error(Style::new());

/// Whether a stream is to have colours: it is a terminal that can show them, and nobody has asked for none (https://no-color.org).
pub fn are_wanted(stream: &impl IsTerminal) -> bool {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    stream.is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|terminal| terminal != "dumb")
}

/// A word for the standard output.
pub fn styled(word: &str, style: Style) -> String {
    if are_wanted(&io::stdout()) { format!("{style}{word}{style:#}") } else { word.to_owned() }
}

impl Verdict {
    /// The style of what says so.
    pub const fn style(self) -> Style {
        match self {
            Verdict::Ok => AnsiColor::Green.on_default(),
            Verdict::Warning => AnsiColor::Yellow.on_default(),
            Verdict::Problem => AnsiColor::Red.on_default().bold(),
        }
    }
}
