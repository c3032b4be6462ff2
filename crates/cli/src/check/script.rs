//! Scripts that start a program: whether `LD_PRELOAD` survives them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::check::library::VARIABLE;
use crate::file::read_start;
use crate::program::find;
use crate::say::finding::{Code, Finding};

/// How much of a script is read, in bytes.
const MOST: u64 = 1 << 20;

/// Programs that start others as another user, without the variable.
const STARTERS: [&str; 5] = ["sudo", "doas", "pkexec", "su", "runuser"];

/// How such a program loses the variable: the rest of a sentence that begins with its name.
pub const STARTS: &str = "starts programs without LD_PRELOAD";

/// Says of such a program, where it loses the variable (in secure mode they all do), what to do.
pub fn starter(file: &Path, is_secure: bool) -> Option<Finding> {
    let name = file.file_name()?.to_str().filter(|name| STARTERS.contains(name))?;
    if !is_secure && ["su", "runuser"].contains(&name) {
        return None;
    }
    let run = "vmware-bdwrapper run --device ENTRY -- PROGRAM";
    let first = match name {
        "su" | "runuser" => format!("{name} -c \"{run}\""),
        _ => format!("{name} {run}"),
    };
    let why = format!("{STARTS}, so the library is lost");
    let finding = Finding::problem(Code::PreloadLost, why).of(file);
    Some(finding.hint(format!("put it first, as in '{first}'")))
}

/// What a script does on the way to the program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Launcher {
    /// Where it loses the variable.
    pub findings: Vec<Finding>,
    /// The first of these losses: the rest of a sentence that begins with the script's name.
    pub loss: Option<String>,
    /// Whether one of them is a program that starts others as another user.
    pub has_starter: bool,
    /// The program that it becomes, where that is written out.
    pub target: Option<PathBuf>,
    /// The programs that lines begin with, by an absolute path.
    pub children: Vec<PathBuf>,
}

/// Whether a file is a script of a shell that is about VMware.
pub fn is_vmwares(file: &Path) -> bool {
    text(file).is_some_and(|text| names_vmware(&text))
}

/// Whether a text has VMware's name otherwise than as part of this project's, in which a directory can have it.
fn names_vmware(text: &[u8]) -> bool {
    const NAME: usize = "vmware".len();
    let is_ours = |rest: &[u8]| {
        rest.get(1..10).is_some_and(|word| word.eq_ignore_ascii_case(b"bdwrapper"))
            && matches!(rest.first(), Some(b'-' | b'_'))
    };
    text.windows(NAME)
        .enumerate()
        .any(|(at, word)| word.eq_ignore_ascii_case(b"vmware") && !is_ours(&text[at + NAME..]))
}

/// Reads a script of a shell; none where the file is no such thing.
pub fn read(file: &Path) -> Option<Launcher> {
    text(file).map(|text| parse(file, &text))
}

/// The text of a script of a shell.
fn text(file: &Path) -> Option<Vec<u8>> {
    if !find::is_script(file) {
        return None;
    }
    let text = read_start(file, MOST).ok()?;
    let interpreter = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let is_shell =
        interpreter.split(|byte| b" /!".contains(byte)).any(|word| word.trim_ascii().ends_with(b"sh"));
    is_shell.then_some(text)
}

fn parse(file: &Path, text: &[u8]) -> Launcher {
    let mut launcher = Launcher::default();
    let mut is_empty = false;
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        let words = words(line);
        let has = |word: &str| words.contains(&word);
        let asks = asks_whether_empty(&words);
        is_empty &= !has("else") && !has("elif");
        if let Some((does, remedy)) = loss(line, is_empty || asks && !has("else")) {
            let does = format!("{does} in line {number}");
            let why = format!("{does}, so the library is lost");
            launcher.findings.push(Finding::problem(Code::PreloadLost, why).of(file).hint(remedy));
            launcher.has_starter |= remedy == AS_USER;
            launcher.loss.get_or_insert(does);
        }
        is_empty |= asks && (has("if") || has("elif")) && !has("else");
        is_empty &= !has("fi");
        if launcher.target.is_none() {
            launcher.target = target(line);
        }
        launcher.children.extend(program(line));
    }
    launcher
}

/// The words of a shell's line.
fn words(line: &str) -> Vec<&str> {
    line.split(|letter: char| letter.is_ascii_whitespace() || letter == ';')
        .filter(|word| !word.is_empty())
        .collect()
}

/// Whether a line does something only where the variable is empty: `[ -z "$LD_PRELOAD" ]`.
fn asks_whether_empty(words: &[&str]) -> bool {
    let is_variable = |word: &str| {
        let name = word.trim_start_matches(['"', '$', '{']);
        word.contains('$')
            && name.strip_prefix(VARIABLE).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    words.windows(2).any(|pair| pair[0] == "-z" && is_variable(pair[1]))
        && !words.iter().any(|word| ["!", "||"].contains(word))
}

const KEEP: &str =
    "start the program that the script starts, or change the line so that it keeps the value of LD_PRELOAD";
const AS_USER: &str = "run 'vmware-bdwrapper run' with the program as that user instead";

/// How a line of a shell's loses the variable, and what to do; `is_empty`: there is nothing to lose by setting it.
fn loss(line: &str, is_empty: bool) -> Option<(String, &'static str)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    for (at, _) in line.match_indices("LD_PRELOAD=") {
        let continues = line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let value = &line[at + "LD_PRELOAD=".len()..];
        if !is_empty && !continues && !value.contains("$LD_PRELOAD") && !value.contains("${LD_PRELOAD") {
            return Some((format!("replaces {VARIABLE}"), KEEP));
        }
    }
    let removed = words
        .iter()
        .any(|word| word.trim_end_matches(';') == "LD_PRELOAD" || word.ends_with("unset=LD_PRELOAD"));
    if removed && (has("unset") || has("env")) || line.contains("-uLD_PRELOAD") {
        return Some((format!("removes {VARIABLE}"), KEEP));
    }
    const EMPTYING: [[&str; 2]; 4] =
        [["env", "-i"], ["env", "-"], ["env", "--ignore-environment"], ["exec", "-c"]];
    if words.windows(2).any(|pair| EMPTYING.iter().any(|both| both == pair)) {
        return Some(("empties the environment".into(), KEEP));
    }
    let starts = |word: &&&str| STARTERS.iter().any(|name| word.rsplit('/').next() == Some(name));
    let command = words.iter().find(|word| **word != "exec" && !word.contains('='));
    command.filter(starts).map(|word| {
        let name = word.rsplit('/').next().unwrap_or(word);
        (format!("starts a program by {name}, which removes {VARIABLE}"), AS_USER)
    })
}

/// The program in `exec /PATH …`.
fn target(line: &str) -> Option<PathBuf> {
    program(line.strip_prefix("exec ")?.trim_start())
}

/// The program in `/PATH …`.
fn program(command: &str) -> Option<PathBuf> {
    let name = match command.strip_prefix(['"', '\'']) {
        Some(quoted) => quoted.split(['"', '\'']).next()?,
        None => {
            command.split(|letter: char| letter.is_ascii_whitespace() || ";&|<>".contains(letter)).next()?
        }
    };
    let path = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
    (path.is_absolute() && path.is_file()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Option<String> {
        loss(line, false).map(|(does, _)| does)
    }

    #[test]
    fn the_name_of_vmware() {
        for text in
            ["exec /usr/lib/vmware/bin/launcher.sh", "VMWARE_DIR=x", "vmware-bdwrapper vmware", "vmware-b"]
        {
            assert!(names_vmware(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "/home/u/vmware-bdwrapper/x",
            "VMWARE_BDWRAPPER_DEVICES=x",
            "libvmware_bdwrapper.so",
            "vmwar",
        ] {
            assert!(!names_vmware(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn lines_that_lose_the_variable() {
        for (line, does) in [
            ("LD_PRELOAD=/opt/x.so exec vmx", "replaces LD_PRELOAD"),
            ("export LD_PRELOAD=", "replaces LD_PRELOAD"),
            ("unset FOO LD_PRELOAD; x", "removes LD_PRELOAD"),
            ("exec env -u LD_PRELOAD vmx", "removes LD_PRELOAD"),
            ("exec env --unset=LD_PRELOAD vmx", "removes LD_PRELOAD"),
            ("env -i PATH=/bin vmx", "empties the environment"),
            ("exec -c vmx", "empties the environment"),
            ("exec /usr/bin/sudo vmx", "starts a program by sudo, which removes LD_PRELOAD"),
            ("X=1 pkexec vmx", "starts a program by pkexec, which removes LD_PRELOAD"),
        ] {
            assert_eq!(said(line).as_deref(), Some(does), "{line}");
        }
    }

    #[test]
    fn lines_that_keep_it() {
        for line in [
            "LD_PRELOAD=/opt/x.so:$LD_PRELOAD exec vmx",
            "export LD_PRELOAD=\"${LD_PRELOAD:+$LD_PRELOAD:}x.so\"",
            "OLD_LD_PRELOAD=x",
            "echo use sudo",
            "exec vmx \"$@\"",
            "env X=1 tar -cf -",
            "exec sh -c vmx",
            "unset LD_LIBRARY_PATH",
            "",
        ] {
            assert_eq!(said(line), None, "{line}");
        }
    }

    #[test]
    fn programs_that_start_others() {
        let found = |file: &str, is_secure| starter(Path::new(file), is_secure).is_some();
        assert!(found("/usr/bin/sudo", true) && found("/usr/bin/sudo", false) && found("/bin/su", true));
        assert!(!found("/bin/su", false) && !found("/usr/bin/sudo.sh", true) && !found("/", true));
    }

    #[test]
    fn the_program_behind() {
        assert_eq!(target("exec \"/bin/sh\" \"$@\""), Some("/bin/sh".into()));
        assert_eq!(target("exec /bin/sh -c x"), Some("/bin/sh".into()));
        for line in ["exec \"$X\"", "exec sh", "exec", "exec /nonexistent", "/bin/sh"] {
            assert_eq!(target(line), None, "{line}");
        }
        for line in ["/bin/sh", "/bin/sh -c x", "'/bin/sh' x", "/bin/sh; x", "/bin/sh|x"] {
            assert_eq!(program(line), Some("/bin/sh".into()), "{line}");
        }
        for line in ["/bin/sh) x", "sh", "/nonexistent", "\"$X\"/bin/sh", "x /bin/sh", ""] {
            assert_eq!(program(line), None, "{line}");
        }
    }

    #[test]
    fn comments_and_other_files() {
        let found = parse(Path::new("/x"), b"#!/bin/sh\n# LD_PRELOAD=x\n\xff\0\nLD_PRELOAD=x y\n");
        assert_eq!(found.findings.len(), 1);
        assert!(found.findings[0].cause.contains("line 4"), "{found:?}");
        assert_eq!(read(Path::new("/proc/self/exe")), None);
    }
}
