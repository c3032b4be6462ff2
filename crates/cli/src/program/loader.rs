//! The dynamic loader, and the directories that it trusts by itself.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::program::elf::Elf;
use crate::say::failure::{cause, shown};
use crate::say::finding::{Code, Finding};

/// The file of this command.
const OWN: &str = "/proc/self/exe";

/// A dynamic loader of the GNU C library.
pub struct Loader(PathBuf);

/// Why a loader cannot be asked.
pub struct Unknown(Finding);

impl Unknown {
    fn new(why: impl Into<String>, loader: &Path) -> Unknown {
        Unknown(Finding::problem(Code::Unknown, why).of(loader))
    }

    /// Without `/proc` the command does not find its own file.
    fn own(error: &io::Error) -> Unknown {
        let finding = Finding::io("cannot be read", error).of(OWN);
        Unknown(finding.hint("run as root: 'mount -t proc proc /proc'"))
    }

    /// With what to do where another loader is needed.
    pub fn finding(self, other: &str) -> Finding {
        match self.0.hint {
            Some(_) => self.0,
            None => self.0.hint(other),
        }
    }
}

impl Loader {
    /// This file.
    pub fn given(file: PathBuf) -> Loader {
        Loader(file)
    }

    /// The one that runs this command.
    pub fn of_system() -> Result<Loader, Unknown> {
        File::open(OWN).map_err(|error| Unknown::own(&error))?;
        let interpreter = Elf::own().and_then(|elf| elf.interpreter);
        interpreter
            .map(Loader)
            .ok_or_else(|| Unknown::new("is not run by a dynamic loader that could be asked", Path::new(OWN)))
    }

    /// The one by the same name in the system below a directory.
    pub fn below(root: &Path) -> Result<Loader, Unknown> {
        let Loader(name) = Loader::of_system()?;
        match resolve(root, &name) {
            Some(file) if root.join(&file).is_file() => Ok(Loader(root.join(file))),
            _ => Err(Unknown::new(format!("has no dynamic loader {}", shown(&name)), root)),
        }
    }

    /// The directories in which it looks for libraries even in set-user-ID programs, in its order; at least one.
    pub fn trusted(&self) -> Result<Vec<PathBuf>, Unknown> {
        let mut found = modern(&self.run(Command::new(&self.0).arg("--help"))?.stdout);
        if found.is_empty() && self.is_elf_loader() {
            found = self.search()?;
        }
        if found.is_empty() {
            let why =
                "does not say where it looks for libraries, as a dynamic loader of the GNU C library does";
            return Err(Unknown::new(why, &self.0));
        }
        Ok(found)
    }

    /// Whether it can be a real one: a program that needs a loader of its own would have that one answer.
    fn is_elf_loader(&self) -> bool {
        Elf::read(&self.0).is_some_and(|elf| elf.interpreter.is_none())
    }

    /// Has it search for a library that does not exist: before version 2.33 it had no such help.
    fn search(&self) -> Result<Vec<PathBuf>, Unknown> {
        // Any program of its architecture will do.
        let program = std::env::current_exe().map_err(|error| Unknown::own(&error))?;
        let mut command = Command::new(&self.0);
        command.args(["--inhibit-cache", "--list"]).arg(program);
        command.env("LD_DEBUG", "libs").env("LD_PRELOAD", "libvmware-bdwrapper-nonexistent.so");
        Ok(old(&self.run(&mut command)?.stderr))
    }

    fn run(&self, command: &mut Command) -> Result<Output, Unknown> {
        let set: Vec<OsString> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        for (name, _) in std::env::vars_os() {
            // What changes how it loads would change its answer.
            if name.as_bytes().starts_with(b"LD_") && !set.contains(&name) {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).output().map_err(|error| {
            Unknown::new(format!("cannot be run as a dynamic loader ({})", cause(&error)), &self.0)
        })
    }
}

const MARK: &[u8] = b"(system search path)";

/// What `ld.so --help` lists from version 2.33 on.
fn modern(help: &[u8]) -> Vec<PathBuf> {
    lines(help).filter_map(|line| directory(line.strip_suffix(MARK)?.trim_ascii_end())).collect()
}

/// The first search that `LD_DEBUG=libs` shows, without the subdirectories for kinds of processors: for each
/// directory it tries these, then the directory itself.
fn old(debug: &[u8]) -> Vec<PathBuf> {
    const PATH: &[u8] = b"search path=";
    let searched = lines(debug).find_map(|line| {
        let start = line.windows(PATH.len()).position(|found| found == PATH)?;
        line[start + PATH.len()..].strip_suffix(MARK)
    });
    let mut found: Vec<PathBuf> = Vec::new();
    for name in searched.unwrap_or_default().trim_ascii_end().rsplit(|&byte| byte == b':') {
        let Some(directory) = directory(name) else { continue };
        if !found.last().is_some_and(|last| directory.starts_with(last)) {
            found.push(directory);
        }
    }
    found.reverse();
    found
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii)
}

/// An absolute name, without slashes at its end.
fn directory(name: &[u8]) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(name));
    path.is_absolute().then(|| path.components().collect())
}

/// A name that counts from the current directory, as an absolute one.
pub fn absolute(name: &Path) -> PathBuf {
    std::path::absolute(name).unwrap_or(name.into())
}

/// Where a name leads in the system below a directory, relative to that: links stay within, as after chroot(2). In the running
/// system a relative name counts from the current directory. None where links lead round in circles.
pub fn resolve(root: &Path, name: &Path) -> Option<PathBuf> {
    walk(root, name, |_| ())
}

/// The same; `visit` gets each directory in which a part of the name is looked up.
pub fn walk(root: &Path, name: &Path, mut visit: impl FnMut(&Path)) -> Option<PathBuf> {
    /// As the kernel's `MAXSYMLINKS`.
    const MOST_LINKS: u32 = 40;
    let parts = |path: &Path| -> Vec<OsString> {
        let normal =
            path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
        normal.map(|part| part.as_os_str().to_owned()).collect()
    };
    let name = if root == Path::new("/") { absolute(name) } else { name.into() };
    let mut left = VecDeque::from(parts(&name));
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        visit(&at);
        let next = at.join(part);
        let Ok(target) = root.join(&next).read_link() else {
            at = next;
            continue;
        };
        links += 1;
        if links > MOST_LINKS {
            return None;
        }
        if target.is_absolute() {
            at = PathBuf::new();
        }
        for part in parts(&target).into_iter().rev() {
            left.push_front(part);
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn the_help_of_a_modern_loader() {
        let help = b"Usage: ld.so [OPTION]...\n\nShared library search path:\n  /opt/lib (LD_LIBRARY_PATH)\n  \
            (libraries located via /etc/ld.so.cache)\n  /lib64 (system search path)\n  /usr/lib64/ (system search path)\n\n\
            Subdirectories of glibc-hwcaps directories, in priority order:\n  x86-64-v3 (supported, searched)\n";
        assert_eq!(modern(help), paths(&["/lib64", "/usr/lib64"]));
        assert_eq!(modern(b"--help: error while loading shared libraries\n"), paths(&[]));
    }

    #[test]
    fn the_search_of_an_old_loader() {
        let fedora = b"       123:\tfind library=libx.so [0]; searching\n       123:\t search path=\
            /lib64/tls/haswell/x86_64:/lib64/tls:/lib64/haswell:/lib64:/usr/lib64/tls:/usr/lib64/x86_64:/usr/lib64\t\t\
            (system search path)\n       123:\t  trying file=/lib64/tls/libx.so\n       123:\t search path=/other\t\t\
            (system search path)\n";
        assert_eq!(old(fedora), paths(&["/lib64", "/usr/lib64"]));
        let debian = b"1:\t search path=/lib/x86_64-linux-gnu/tls:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu/glibc-hwcaps/\
            x86-64-v2:/usr/lib/x86_64-linux-gnu:/lib/tls:/lib:/usr/lib/tls:/usr/lib\t\t(system search path)";
        assert_eq!(
            old(debian),
            paths(&["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"])
        );
        assert_eq!(old(b"1:\t search path=/x\t\t(LD_LIBRARY_PATH)\n"), paths(&[]));
    }

    #[test]
    fn the_system_has_one() {
        let loader = Loader::of_system().ok().expect("the tests are dynamic");
        let found = loader.trusted().ok().expect("it is glibc's");
        assert!(found.iter().any(|directory| directory.is_dir()), "{found:?}");
        assert!(loader.is_elf_loader());
        assert_eq!(loader.search().ok().expect("it can be run"), found);
        assert!(Loader::given("/proc/self/exe".into()).trusted().is_err(), "the tests are no loader");
    }

    #[test]
    fn links_stay_below_the_root() {
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        let root = root.path();
        fs::create_dir_all(root.join("usr/lib")).expect("it is ours");
        let links = [
            ("lib64", "/usr/lib64"),
            ("usr/lib64", "lib"),
            ("out", "../../../usr/lib"),
            ("circle", "circle"),
        ];
        for (link, target) in links {
            symlink(target, root.join(link)).expect("it is ours");
        }
        let resolved = |name: &str| resolve(root, Path::new(name));
        for name in ["/lib64/x", "/usr/lib64/./x", "/out/x", "/../usr/lib/nothing/../x"] {
            assert_eq!(resolved(name), Some("usr/lib/x".into()), "{name}");
        }
        assert_eq!(resolved("/circle/x"), None);
    }
}
