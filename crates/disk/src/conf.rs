//! The configuration file, [`CONFIGURATION_FILE`](crate::names::CONFIGURATION_FILE): one directive
//! a line.
//!
//! ```text
//! executable PATH            a set-user-ID program in which the library may act
//! device ENTRY               a device that the environment of such a program may choose
//! allow-user-devices yes|no  may it name others, as far as the real user may open them (no)
//! messages yes|no            may the library write to the program's stderr (no)
//! supervise USER|%GROUP      who may have set-user-ID programs answered by a supervisor
//! ```
//!
//! `#` begins a comment line.

use crate::entry::{Entry, EntryError, Printed};
use core::fmt;

/// The most bytes that the file may have.
pub const MAX_BYTES: u64 = 65536;

/// The permissions that let users other than the owner write (`S_IWGRP`, `S_IWOTH`).
pub const OTHERS_WRITE: u32 = 0o022;

/// Why a file is not trusted as the configuration file, and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// It is not a regular file.
    NotRegular,
    /// It belongs to this user, not to root.
    Owner(u32),
    /// Users other than the owner may write to it.
    WritableByOthers,
    /// It has this many bytes, more than [`MAX_BYTES`].
    TooLong(u64),
}

/// Checks that only root can have written a file, by its owner, mode (`st_mode`) and size in bytes.
pub fn check_trust(owner: u32, mode: u32, bytes: u64) -> Result<(), Distrust> {
    const S_IFMT: u32 = 0o170_000;
    const S_IFREG: u32 = 0o100_000;
    if mode & S_IFMT != S_IFREG {
        Err(Distrust::NotRegular)
    } else if owner != 0 {
        Err(Distrust::Owner(owner))
    } else if mode & OTHERS_WRITE != 0 {
        Err(Distrust::WritableByOthers)
    } else if bytes > MAX_BYTES {
        Err(Distrust::TooLong(bytes))
    } else {
        Ok(())
    }
}

/// One line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive<'a> {
    /// `executable PATH`
    Executable(&'a [u8]),
    /// `device ENTRY`
    Device(Entry<'a>),
    /// `allow-user-devices yes|no`
    AllowUserDevices(bool),
    /// `messages yes|no`
    Messages(bool),
    /// `supervise USER|%GROUP`
    Supervise(Subject<'a>),
}

/// Who may run programs under a supervisor that root has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The user of this name.
    User(&'a [u8]),
    /// Each user in the group of this name.
    Group(&'a [u8]),
}

/// A line that is not a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineError<'a> {
    /// The line's number; the first is 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault<'a>,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault<'a> {
    /// No directive begins so.
    Unknown(&'a [u8]),
    /// The directive takes `yes` or `no`, not this.
    NotYesOrNo(&'a [u8]),
    /// `executable` takes an absolute path, not this.
    NotAPath(&'a [u8]),
    /// `supervise` takes the name of a user, or `%` and that of a group, not this.
    NotASubject(&'a [u8]),
    /// The device entry is wrong.
    Entry(EntryError<'a>),
}

/// Parses the file. Each bad line is a separate error; the other lines are used.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Result<Directive<'_>, LineError<'_>>> {
    (1..).zip(text.split(|&byte| byte == b'\n')).filter_map(|(line, text)| {
        let text = text.trim_ascii();
        if text.is_empty() || text.starts_with(b"#") {
            return None;
        }
        Some(directive(text).map_err(|fault| LineError { line, fault }))
    })
}

fn directive(text: &[u8]) -> Result<Directive<'_>, Fault<'_>> {
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (name, value) = text.split_at_checked(end).unwrap_or_default();
    let value = value.trim_ascii();
    match name {
        b"executable" if value.starts_with(b"/") && !value.contains(&0) => Ok(Directive::Executable(value)),
        b"executable" => Err(Fault::NotAPath(value)),
        b"device" => Entry::parse(value).map(Directive::Device).map_err(Fault::Entry),
        b"allow-user-devices" => yes_or_no(value).map(Directive::AllowUserDevices),
        b"messages" => yes_or_no(value).map(Directive::Messages),
        b"supervise" => subject(value).map(Directive::Supervise).ok_or(Fault::NotASubject(value)),
        _ => Err(Fault::Unknown(name)),
    }
}

fn yes_or_no(value: &[u8]) -> Result<bool, Fault<'_>> {
    match value {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(Fault::NotYesOrNo(value)),
    }
}

fn subject(value: &[u8]) -> Option<Subject<'_>> {
    let (name, subject) = match value.strip_prefix(b"%") {
        Some(name) => (name, Subject::Group(name)),
        None => (value, Subject::User(value)),
    };
    // Characters that no name has (passwd(5)).
    let is_name =
        !name.is_empty() && !name.iter().any(|byte| byte.is_ascii_whitespace() || b":%,#\0".contains(byte));
    is_name.then_some(subject)
}

impl fmt::Display for LineError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.fault)
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unknown(name) => write!(
                f,
                "there is no directive '{}'; there are executable, device, allow-user-devices, messages and \
                 supervise",
                Printed(name)
            ),
            Fault::NotYesOrNo(value) => write!(f, "'{}' is neither yes nor no", Printed(value)),
            Fault::NotAPath(value) => {
                write!(f, "'{}' is not an absolute path; write a path that begins with /", Printed(value))
            }
            Fault::NotASubject(value) => {
                write!(f, "'{}' is not the name of a user, or % and that of a group", Printed(value))?;
                if value.contains(&b'#') { f.write_str("; no comment may follow a name") } else { Ok(()) }
            }
            Fault::Entry(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::entry::{Kind, Problem};
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn root_alone_can_have_written_a_trusted_file() {
        for (mode, bytes) in [(0o100_644, 0), (0o100_600, MAX_BYTES), (0o104_755, 1)] {
            assert_eq!(check_trust(0, mode, bytes), Ok(()), "{mode:o}");
        }
        for mode in [0o120_777, 0o010_600, 0o040_755, 0o060_600, 0o140_600] {
            assert_eq!(check_trust(0, mode, 1), Err(Distrust::NotRegular), "{mode:o}");
        }
        assert_eq!(check_trust(5, 0o100_644, 1), Err(Distrust::Owner(5)));
        for mode in [0o100_664, 0o100_646, 0o100_620, 0o100_602] {
            assert_eq!(check_trust(0, mode, 1), Err(Distrust::WritableByOthers), "{mode:o}");
        }
        assert_eq!(check_trust(0, 0o100_644, MAX_BYTES + 1), Err(Distrust::TooLong(MAX_BYTES + 1)));
    }

    #[test]
    fn every_directive_is_taken() {
        let text = b"# comment\n\n  executable /usr/lib/a b\r\ndevice\t/dev/sdx=ide\nallow-user-devices yes\nmessages no\nsupervise alice\nsupervise %kvm\n";
        let found: Vec<_> = parse(text).map(Result::unwrap).collect();
        assert!(matches!(found[0], Directive::Executable(b"/usr/lib/a b")));
        assert!(matches!(found[1], Directive::Device(Entry { path: b"/dev/sdx", kind: Kind::Ide, .. })));
        let subjects = [Subject::User(b"alice"), Subject::Group(b"kvm")].map(Directive::Supervise);
        assert_eq!(found[2..4], [Directive::AllowUserDevices(true), Directive::Messages(false)]);
        assert_eq!(found[4..], subjects);
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_count() {
        let text = b"messages maybe\nexecutable x\ndevice /x\nfoo\nmessages yes\n\xff\0";
        let found: Vec<_> = parse(text).collect();
        assert_eq!(found[0], Err(LineError { line: 1, fault: Fault::NotYesOrNo(b"maybe") }));
        assert_eq!(found[1], Err(LineError { line: 2, fault: Fault::NotAPath(b"x") }));
        assert!(
            matches!(found[2], Err(LineError { line: 3, fault: Fault::Entry(e) }) if e.problem == Problem::NoKind)
        );
        assert_eq!(found[3], Err(LineError { line: 4, fault: Fault::Unknown(b"foo") }));
        assert_eq!(found[4], Ok(Directive::Messages(true)));
        assert_eq!(
            found[5].unwrap_err().to_string(),
            "line 6: there is no directive '\\xff\\x00'; there are executable, device, allow-user-devices, messages and supervise"
        );
    }

    #[test]
    fn users_and_groups() {
        for value in ["", "%", "%%a", "a b", "a:b", "#0", "a,b", "a\0"] {
            let line = [b"supervise ", value.as_bytes()].concat();
            let found = parse(&line).next();
            assert_eq!(
                found,
                Some(Err(LineError { line: 1, fault: Fault::NotASubject(value.as_bytes()) })),
                "{value}"
            );
        }
    }
}
