//! Trials that say what they need.

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::fixture::Medium;
use crate::isolation::{self, Privilege, privilege};

/// What a trial cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The machine's superuser: for loop devices, device nodes and CAP_SYS_RAWIO.
    Devices,
    /// The superuser: for other users' files and processes, and for mounts. That of a user namespace will do.
    Root,
    /// A program of the search path.
    Tool(&'static str),
    /// A package of Python's that scripts/deps has put into `TARGET/python`.
    Python(&'static str),
}

impl Need {
    /// What is missing, and how to have it.
    fn missing(self) -> Option<String> {
        match self {
            Need::Devices => (privilege() < Privilege::Machine).then(|| "needs root".to_owned()),
            Need::Root => (privilege() < Privilege::Namespace && !isolation::has_namespaces())
                .then(|| "needs root, or user namespaces with subordinate IDs (newuidmap)".to_owned()),
            Need::Tool(name) => {
                (!crate::run::PATH.split(':').any(|directory| Path::new(directory).join(name).is_file()))
                    .then(|| format!("needs {name}"))
            }
            Need::Python(name) => {
                let code = format!("import {name}");
                let found = Command::new(crate::build::python()).args(["-c", &code]).output();
                (!found.is_ok_and(|output| output.status.success()))
                    .then(|| format!("needs {name} in target/python: run scripts/deps"))
            }
        }
    }
}

/// Whether this process runs as the superuser.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// What a trial with a disk on a medium cannot do without: on all but image files, devices as well as the tools.
pub fn needs(medium: Medium, tools: &[&'static str]) -> Vec<Need> {
    let root = (medium != Medium::Image).then_some(Need::Devices);
    root.into_iter().chain(tools.iter().copied().map(Need::Tool)).collect()
}

thread_local! {
    static GROUP: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes trials whose names begin with a group's: `GROUP/NAME`.
pub fn group(name: &str, make: impl FnOnce() -> Vec<Trial>) -> Vec<Trial> {
    let outer = GROUP.replace(format!("{name}/"));
    let trials = make();
    GROUP.set(outer);
    trials
}

/// The name of a trial with that of its group.
fn in_group(name: impl AsRef<str>) -> String {
    GROUP.with_borrow(|group| format!("{group}{}", name.as_ref()))
}

/// A trial that is ignored where a need is not met, and fails there when `CI=true`. As an ordinary user, one that needs root runs in a
/// user namespace.
pub fn trial(name: impl Into<String>, needs: &[Need], body: impl FnOnce() + Send + 'static) -> Trial {
    let name = in_group(name.into());
    let mut missing: Vec<String> = Vec::new();
    for text in needs.iter().filter_map(|need| need.missing()) {
        // Several needs can be met by the same.
        if !missing.contains(&text) {
            missing.push(text);
        }
    }
    if missing.is_empty() && needs.contains(&Need::Root) && privilege() == Privilege::User {
        return Trial::test(name.clone(), move || {
            isolation::in_namespace(&name);
            Ok(())
        });
    }
    if missing.is_empty() {
        return Trial::test(name, || {
            body();
            Ok(())
        });
    }
    let missing = missing.join(", ");
    if std::env::var_os("CI").is_some_and(|value| value == "true") {
        let message = format!("it {missing}; nothing may be left out when CI=true");
        return Trial::test(name, || Err(Failed::from(message)));
    }
    Trial::test(name, || Ok(())).with_kind(missing).with_ignored_flag(true)
}

/// Trials of a disk of each of these kinds, on an image file and on a loop device: `NAME/MEDIUM-KIND`.
pub fn disk_trials(
    name: &str,
    kinds: &[&'static str],
    tools: &[&'static str],
    more: &[Need],
    body: fn(Medium, &'static str),
) -> Vec<Trial> {
    let media = [(Medium::Image, "image"), (Medium::Loop, "loop")];
    let each = media.iter().flat_map(|&medium| kinds.iter().map(move |&kind| (medium, kind)));
    each.map(|((medium, medium_name), kind)| {
        let needs = [&needs(medium, tools)[..], more].concat();
        trial(format!("{name}/{medium_name}-{kind}"), &needs, move || body(medium, kind))
    })
    .collect()
}

/// A trial that is skipped if the kernel lacks something that a file such as `/proc/filesystems`
/// lists: no tool can add it to a machine.
pub fn kernel_trial(
    name: &str,
    list: &str,
    what: &str,
    needs: &[Need],
    body: impl FnOnce() + Send + 'static,
) -> Trial {
    let list = std::fs::read_to_string(list).expect("the kernel makes it");
    if list.split_whitespace().any(|word| word == what) {
        return trial(name, needs, body);
    }
    Trial::test(in_group(name), || Ok(()))
        .with_kind(format!("needs a kernel with {what}"))
        .with_ignored_flag(true)
}

/// Runs the trials that the command line asks for.
pub fn main(trials: Vec<Trial>) -> ExitCode {
    isolation::enter();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
