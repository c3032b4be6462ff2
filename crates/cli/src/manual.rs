//! The manual pages have what the command line has.
//!
//! Usages, options and the list of commands are written into man/*.md from the definition of the command line, each behind a
//! marker such as `<!-- options: vmdk create -->`. `make manual` writes them; without it the test fails where a page is out of
//! date. The paragraphs of an option after the first are written by hand and kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};

/// The width of the pages' lines.
const WIDTH: usize = 100;

/// A command that has options of its own, with its words behind `vmware-bdwrapper`, such as `vmdk create`.
struct Leaf {
    name: String,
    command: Command,
}

/// Returns the commands below this one that users can call.
fn leaves(command: &Command, name: &str) -> Vec<Leaf> {
    let parts = command.get_subcommands().filter(|part| !part.is_hide_set() && part.get_name() != "help");
    let parts = parts.flat_map(|part| leaves(part, format!("{name} {}", part.get_name()).trim_start()));
    let mut parts: Vec<Leaf> = parts.collect();
    if parts.is_empty() {
        parts.push(Leaf { name: name.to_owned(), command: command.clone() });
    }
    parts
}

/// Returns the command with this name, and the empty name's, which is the whole.
fn find(root: &Command, name: &str) -> Command {
    let mut command = root;
    for word in name.split_ascii_whitespace() {
        command = command.find_subcommand(word).unwrap_or_else(|| panic!("no command is called {name}"));
    }
    command.clone()
}

impl Leaf {
    /// The arguments in the order of the help; only the whole has those that every command takes.
    fn arguments(&self) -> Vec<&Arg> {
        let is_common = |arg: &&Arg| ["help", "version", "message_format"].contains(&arg.get_id().as_str());
        let all = || self.command.get_arguments().filter(|arg| is_common(arg) == self.name.is_empty());
        all().filter(|arg| arg.is_positional()).chain(all().filter(|arg| !arg.is_positional())).collect()
    }

    fn long_options(&self) -> BTreeSet<&str> {
        self.arguments().into_iter().filter_map(Arg::get_long).collect()
    }

    /// Returns the usages, one per line.
    fn usages(&self) -> Vec<String> {
        let usage = self.command.clone().render_usage().to_string();
        usage.trim_start_matches("Usage: ").lines().map(|line| line.trim().to_owned()).collect()
    }
}

/// Marks up a usage, or an argument as a usage has it: literal words are code, the names of values are emphasised.
fn marked_syntax(text: &str) -> String {
    let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let mut marked = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_alike = |letter: char| is_of_word(letter) == is_of_word(first) || letter == '.';
        let end = rest.find(|letter| !is_alike(letter)).unwrap_or(rest.len());
        let (word, others) = rest.split_at(end);
        marked += &match first {
            'A'..='Z' => format!("*{word}*"),
            _ if is_of_word(first) => format!("`{word}`"),
            _ => word.to_owned(),
        };
        rest = others;
    }
    marked
}

/// Marks up a usage; the words that call the command are one.
fn marked_usage(usage: &str, name: &str) -> String {
    let start = format!("vmware-bdwrapper {name}").trim_end().to_owned();
    let rest = usage.strip_prefix(&start).unwrap_or_else(|| panic!("{usage} does not begin with {start}"));
    format!("`{start}`{}", marked_syntax(rest))
}

/// Marks up what is literal in a help text.
fn marked_help(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let (bare, rest) = word.split_at(word.trim_end_matches([',', ';', ':', ')']).len());
        let is_name = bare.starts_with(['/', '-', '.']) && bare.len() > 1;
        if is_name || bare.contains(['_', '=']) { format!("`{bare}`{rest}") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns an argument as the manual has it: "`-o`, `--output` *FILE*".
fn term(arg: &Arg) -> String {
    let names =
        [arg.get_short().map(|short| format!("-{short}")), arg.get_long().map(|long| format!("--{long}"))];
    let names = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let values = arg.get_value_names().filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    let values = values.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(" ");
    marked_syntax(format!("{names} {values}").trim())
}

/// Returns what the help has about an argument, with the values that can be written.
fn about(arg: &Arg) -> String {
    let help = marked_help(&arg.get_help().map(ToString::to_string).unwrap_or_default());
    let values = arg.get_possible_values();
    let values: Vec<String> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
    match values.split_last() {
        Some((last, others)) if arg.get_action().takes_values() && !arg.is_hide_possible_values_set() => {
            format!("{help}: {} or {last}", others.join(", "))
        }
        _ => help,
    }
}

/// Returns an item of a list, in lines.
fn item(term: &str, text: &str) -> String {
    let mut lines = vec![format!("- {term}:")];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => *line += &format!(" {word}"),
            _ => lines.push(format!("  {word}")),
        }
    }
    lines.join("\n")
}

/// Returns the options of a command as a list, with the paragraphs that are written by hand in the list that the page has.
fn options(leaf: &Leaf, present: &str) -> String {
    let items = present.split("\n- ").skip(1).filter_map(|item| item.split_once("\n\n"));
    let items = items.map(|(first, by_hand)| {
        let term = first.split(':').next().unwrap_or_default();
        (term.to_owned(), by_hand.trim_end().to_owned())
    });
    let mut by_hand: BTreeMap<String, String> = items.filter(|(_, text)| !text.is_empty()).collect();
    let mut list = String::new();
    for arg in leaf.arguments() {
        let term = term(arg);
        list += &format!("{}.\n", item(&term, &about(arg)));
        if let Some(text) = by_hand.remove(&term) {
            list += &format!("\n{text}\n\n");
        }
    }
    assert!(by_hand.is_empty(), "{} has no such option, which the manual explains: {by_hand:?}", leaf.name);
    list
}

/// Returns the list of commands, each with its page.
fn commands(root: &Command, pages: &[(PathBuf, String)]) -> String {
    let mut text = String::new();
    for command in
        root.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        let name = command.get_name();
        let about = command.get_about().unwrap_or_else(|| panic!("{name} has no help")).to_string();
        let marker = format!("\n<!-- synopsis: {name} -->\n");
        let page =
            pages.iter().find(|(_, page)| page.contains(&marker)).and_then(|(path, _)| path.file_name());
        let page = page.and_then(|name| name.to_str()?.strip_suffix(".1.md"));
        let see = match page {
            Some(page) if page != "vmware-bdwrapper" => format!(". See **{page}**(1)"),
            _ => ". See below".to_owned(),
        };
        text += &format!("{}.\n", item(&format!("`{name}`"), &(marked_help(&about) + &see)));
    }
    text
}

/// Returns the page with everything that comes from the command line.
fn updated(page: &str, root: &Command, pages: &[(PathBuf, String)]) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let mut text = String::new();
    let mut at = 0;
    while at < lines.len() {
        text += &format!("{}\n", lines[at]);
        at += 1;
        let marker = lines[at - 1].strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->"));
        let Some(marker) = marker else { continue };
        let (what, name) = marker.split_once(':').unwrap_or((marker, ""));
        let name = name.trim();
        let part = || Leaf { name: name.to_owned(), command: find(root, name) };
        let is_in_list = |line: &&str| line.is_empty() || line.starts_with("- ") || line.starts_with("  ");
        let list: Vec<&str> = lines[at..].iter().copied().take_while(is_in_list).collect();
        let list_end = at + list.len();
        match what {
            "options" => {
                text += options(&part(), &format!("\n{}", list.join("\n"))).trim_end();
                at = list_end;
            }
            "commands" => {
                text += commands(root, pages).trim_end();
                at = list_end;
            }
            "synopsis" => {
                at += lines[at..].iter().take_while(|line| !line.starts_with(['#', '<'])).count();
                let parts = if name.is_empty() { vec![part()] } else { leaves(&find(root, name), name) };
                let usages = parts.iter().flat_map(|leaf| {
                    leaf.usages()
                        .into_iter()
                        .map(|usage| marked_usage(&usage, &leaf.name))
                        .collect::<Vec<_>>()
                });
                text += &usages.collect::<Vec<_>>().join("\n\n");
            }
            _ => panic!("{marker}: there are options, synopsis and commands"),
        }
        text += if at < lines.len() { "\n\n" } else { "\n" };
    }
    text
}

/// The name and what the page is about, as the command line has it.
fn name_line(root: &Command, page: &Path) -> Option<String> {
    let file = page.file_name()?.to_str()?;
    let name = file.strip_prefix("vmware-bdwrapper-")?.strip_suffix(".1.md")?;
    let about = find(root, name).get_about()?.to_string();
    let (first, rest) = about.split_at(1);
    Some(format!("vmware-bdwrapper-{name} - {}{rest}\n", first.to_lowercase()))
}

fn root() -> Command {
    let mut root = crate::command_line();
    root.build();
    root
}

/// The pages with their text, in the order of their names.
fn pages() -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man");
    let files = fs::read_dir(directory).expect("it is part of the sources");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("it can be read").path()).collect();
    files.sort();
    let text = |file: PathBuf| {
        let text = fs::read_to_string(&file).expect("it is a text");
        (file, text)
    };
    files.into_iter().map(text).collect()
}

#[test]
fn pages_are_up_to_date() {
    let (root, pages) = (root(), pages());
    for (path, page) in &pages {
        let wanted = updated(page, &root, &pages);
        if std::env::var_os("BDWRAPPER_WRITE_MANUAL").is_some() {
            fs::write(path, &wanted).expect("the sources can be written");
        } else {
            assert!(*page == wanted, "{} is out of date: run make manual", path.display());
        }
        if let Some(line) = name_line(&root, path) {
            assert!(
                page.contains(&format!("\n## Name\n\n{line}")),
                "{}: the name is not: {line}",
                path.display()
            );
        }
    }
}

#[test]
fn the_manual_has_each_command_once() {
    let pages: String = pages().into_iter().map(|(_, text)| text).collect();
    for leaf in leaves(&root(), "") {
        let marker = format!("\n<!-- options: {} -->\n", leaf.name);
        assert_eq!(pages.matches(&marker).count(), 1, "{marker}");
        let group = leaf.name.split(' ').next().unwrap_or_default();
        let marker = format!("\n<!-- synopsis: {group} -->\n");
        assert_eq!(pages.matches(&marker).count(), 1, "{marker}");
    }
}

#[test]
fn usages_have_each_option() {
    for leaf in leaves(&root(), "") {
        let usages = leaf.usages().join("\n");
        let words = usages.split(|letter: char| !letter.is_ascii_lowercase() && letter != '-');
        let named = words.filter_map(|word| word.strip_prefix("--")).filter(|word| !word.is_empty());
        assert_eq!(named.collect::<BTreeSet<_>>(), leaf.long_options(), "{}: {usages}", leaf.name);
    }
}

/// A page that another names exists, with the section that it names.
#[test]
fn pages_that_are_named_exist() {
    let pages = pages();
    for (path, page) in &pages {
        let words = page.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        for text in words.split("**").collect::<Vec<_>>().windows(2).skip(1).step_by(2) {
            let Some(section) = text[1].strip_prefix('(').and_then(|rest| rest.chars().next()) else {
                continue;
            };
            if !text[0].contains("vmware-bdwrapper") {
                continue;
            }
            let file = format!("{}.{section}.md", text[0]);
            let named = pages.iter().find(|(path, _)| path.ends_with(&file));
            let (_, named) = named.unwrap_or_else(|| panic!("{}: there is no {file}", path.display()));
            if let Some((title, _)) = text[1][3..].strip_prefix(", \"").and_then(|rest| rest.split_once('"'))
            {
                assert!(named.contains(&format!("\n## {title}\n")), "{}: {file}: {title}", path.display());
            }
        }
    }
}

/// What the pages say to call can be called, and an option that they name exists.
#[test]
fn calls_in_the_manual_are_valid() {
    let root = root();
    let all: Vec<Leaf> =
        leaves(&root, "").into_iter().chain([Leaf { name: String::new(), command: root.clone() }]).collect();
    let exists = |option: &str| all.iter().any(|leaf| leaf.long_options().contains(option));
    let mut calls = 0;
    for (path, page) in pages() {
        let mut is_code = false;
        for line in page.replace("\\\n", " ").lines() {
            if line.starts_with("```") {
                is_code = !is_code;
            } else if is_code {
                let Some((_, call)) = line.split_once("vmware-bdwrapper ") else { continue };
                let call = call.split([';', '|', '>', '#']).next().unwrap_or_default();
                let words = call.split_ascii_whitespace().filter(|word| *word != "2");
                let words = ["vmware-bdwrapper"].into_iter().chain(words);
                let parsed = root.clone().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{}: {line}: {}", path.display(), parsed.unwrap_err());
                calls += 1;
            }
        }
        let prose = page.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
        for code in prose.split('`').skip(1).step_by(2) {
            let words: Vec<&str> = code.split_ascii_whitespace().collect();
            let words = words.strip_prefix(&["vmware-bdwrapper"]).unwrap_or(&words);
            let called = |leaf: &&Leaf| !leaf.name.is_empty() && words.join(" ").starts_with(&leaf.name);
            let leaf = all.iter().find(called);
            let is_ours = leaf.is_some() || code.starts_with("--");
            for word in words.iter().take_while(|word| is_ours && **word != "--") {
                let name = word.strip_prefix("--").map(|word| word.split('=').next().unwrap_or_default());
                let Some(name) = name else { continue };
                let is_known = leaf.map_or_else(|| exists(name), |leaf| leaf.long_options().contains(name));
                assert!(is_known, "{}: `{code}` has an option that does not exist", path.display());
            }
        }
    }
    assert!(calls > 10, "{calls}");
}
