//! How users write device entries: names that count from the current directory, the options, and what is meant by a wrong one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use disk::entry::{EntryError, EntryOption, OPTIONS, Problem, Remedy};

use super::VARIABLE;
use crate::program::loader;
use crate::say::finding::{Code, Finding};

/// The options for the help.
pub fn help() -> String {
    let line =
        |option: &EntryOption| format!("\n  {:<19} {}", option.name.to_owned() + option.value, option.help);
    format!("Options of an entry, PATH=OPTION[,OPTION]...:{}", OPTIONS.iter().map(line).collect::<String>())
}

/// An entry of the command line with an absolute name.
pub fn absolute(entry: OsString) -> OsString {
    let bytes = entry.as_bytes();
    // What cannot be a name in the current directory stays as it is, and is explained.
    if bytes.is_empty() || b"/~=".contains(&bytes[0]) {
        return entry;
    }
    let (name, options) = bytes.split_at(first_equals(bytes));
    let name = loader::absolute(Path::new(OsStr::from_bytes(name)));
    OsString::from_vec([name.as_os_str().as_bytes(), options].concat())
}

/// Where the name ends.
fn first_equals(entry: &[u8]) -> usize {
    entry.iter().position(|&byte| byte == b'=').unwrap_or(entry.len())
}

/// Says what is wrong with an entry.
pub fn explain(error: &EntryError<'_>) -> Finding {
    let entry = OsStr::from_bytes(error.entry);
    if entry.is_empty() {
        let finding = Finding::problem(Code::BadEntry, "A device entry is empty");
        return finding.hint("write PATH=OPTION, such as /dev/sd/test or disk.img=scsi");
    }
    let (why, hint) = match error.problem {
        Problem::NotAbsolute if error.entry.starts_with(b"~") => (
            "begins with ~, which a shell replaces with the home directory only at the beginning of a word"
                .into(),
            "write $HOME instead, or an absolute path".into(),
        ),
        Problem::UnknownOption { .. } | Problem::EmptyOption | Problem::BadValue { .. }
            if has_equals(error.entry) =>
        {
            (
                "names a file with an equals sign, which separates a name from its options".into(),
                "name it through a symbolic link without one".into(),
            )
        }
        Problem::UnknownOption { option } => {
            let hint = match meant(&String::from_utf8_lossy(option)) {
                Some(name) => format!("write {name} if you mean that"),
                None => Remedy(error.problem).to_string(),
            };
            (error.problem.to_string(), hint)
        }
        problem => (problem.to_string(), Remedy(problem).to_string()),
    };
    Finding::problem(Code::BadEntry, why).of(entry).hint(hint)
}

/// Says of an entry with a colon what that does.
pub fn has_colon(entry: &OsStr) -> Option<Finding> {
    entry.as_bytes().contains(&b':').then(|| {
        let why = format!("has a colon, which separates devices in {VARIABLE}");
        Finding::problem(Code::BadEntry, why).of(entry).hint(
            "write one --device for each device; if its name has a colon, make a symbolic link without one",
        )
    })
}

/// Whether there is a file or a directory whose name goes on behind the first equals sign of an entry.
fn has_equals(entry: &[u8]) -> bool {
    let ends = (first_equals(entry) + 1..=entry.len())
        .filter(|&end| matches!(entry.get(end), None | Some(b'=' | b'/')));
    ends.map(|end| Path::new(OsStr::from_bytes(&entry[..end]))).any(|name| name.symlink_metadata().is_ok())
}

/// The option that is meant by a wrong one: in capitals, or with a slip of the pen.
fn meant(option: &str) -> Option<&'static str> {
    let has_value = option.contains('=');
    let word = option.split('=').next().unwrap_or_default().to_lowercase();
    let slips = |name: &str| strsim::damerau_levenshtein(&word, name.trim_end_matches('='));
    let names = OPTIONS.iter().map(|option| option.name);
    // A short word has too many neighbours.
    let allowed = usize::from(word.len() > 2);
    names
        .filter(|name| name.ends_with('=') == has_value || slips(name) == 0)
        .map(|name| (slips(name), name))
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::entry::Entry;

    fn said(entry: &str) -> String {
        let error = Entry::parse(entry.as_bytes()).expect_err("it is wrong");
        explain(&error).to_string()
    }

    #[test]
    fn names_count_from_the_current_directory() {
        let here = std::env::current_dir().expect("there is one");
        for (entry, wanted) in [
            ("disk.img=scsi", "disk.img=scsi"),
            ("./a/disk.img=ide,serial=1", "a/disk.img=ide,serial=1"),
            ("disk.img", "disk.img"),
        ] {
            assert_eq!(absolute(entry.into()), here.join(wanted).into_os_string());
        }
        for entry in ["", "=scsi", "/x=scsi", "~/x=scsi"] {
            assert_eq!(absolute(entry.into()), entry);
        }
    }

    #[test]
    fn what_is_meant() {
        for (option, name) in [
            ("SCSI", Some("scsi")),
            ("scs", Some("scsi")),
            ("Sata", Some("sata")),
            ("RO", Some("ro")),
            ("forse", Some("force")),
            ("Serial=1", Some("serial=")),
            ("serial", Some("serial=")),
            ("rw", None),
            ("bogus", None),
            ("", None),
        ] {
            assert_eq!(meant(option), name, "{option}");
        }
        assert_eq!(said("/x=SCSI"), "/x=SCSI: there is no option 'SCSI'. Write scsi if you mean that.");
        assert!(said("~/x=scsi").contains("begins with ~"));
        assert!(said("=scsi").contains("is not an absolute path"));
        assert!(said("").starts_with("A device entry is empty. "));
    }

    #[test]
    fn names_with_an_equals_sign() {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        std::fs::create_dir(directory.path().join("a=b")).expect("it is ours");
        std::fs::write(directory.path().join("a=b/c=d"), "").expect("it is ours");
        for name in ["a=b/c=d=scsi", "a=b/c=d", "a=b/later=scsi"] {
            let entry = format!("{}/{name}", directory.path().display());
            assert!(said(&entry).contains("equals sign"), "{}", said(&entry));
        }
        let other = format!("{}/later=d=scsi", directory.path().display());
        assert!(said(&other).contains("there is no option 'd=scsi'"), "{}", said(&other));
    }
}
