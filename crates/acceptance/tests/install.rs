//! `make install` and `make uninstall`, into roots of several distributions and into the running system.

mod system;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acceptance::{Need, Run, Scratch, trial};
use system::{COMPLETIONS, CONF, LIBRARY, PAGES, System, chmod, completions, make, sources, trusted};

fn main() -> ExitCode {
    let make = [Need::Tool("make")];
    let root = [Need::Root, Need::Tool("make"), Need::Tool("strip")];
    let mut trials: Vec<_> = [DEBIAN, FEDORA, SUSE, ARCH]
        .into_iter()
        .map(|system| trial(format!("into a root of {}", system.name), &make, move || distribution(system)))
        .collect();
    trials.extend([
        trial("where the variables say", &make, variables),
        trial("without the set-user-ID bit", &make, without_bit),
        trial("a configuration that is there stays", &make, configuration),
        trial("a library in use is replaced in one step", &make, in_use),
        trial("errors say what to do", &make, errors),
        trial("names that a variable or rule cannot hold are refused", &make, divided_names),
        trial("what takes the symbols out", &make, symbols),
        trial("an interruption leaves nothing temporary", &make, interrupted),
        trial("all is removed without a reader", &make, without_reader),
        trial("what the command has made is named", &make, leftovers),
        trial("an old cargo is refused before it does anything", &make, old_cargo),
        trial("an ordinary user is sent to root", &root, ordinary_user),
        trial("into the running system and out again", &root, running_system),
        trial("a directory that the loader does not trust is refused", &root, untrusted),
        trial("another library that ordinary programs find first is named", &root, shadowed),
        trial("the manual pages are clean", &[Need::Tool("make"), Need::Tool("mandoc")], manual),
    ]);
    acceptance::main(trials)
}

/// A distribution's directories and what its dynamic loader says of itself.
#[derive(Clone, Copy)]
struct Distribution {
    name: &'static str,
    loader: &'static str,
    /// Symbolic links of the merged `/usr`.
    links: &'static [(&'static str, &'static str)],
    /// The last lines of `ld.so --help`.
    help: &'static str,
    libdir: &'static str,
}

const DEBIAN: Distribution = Distribution {
    name: "Debian",
    loader: "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    links: &[
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("usr/lib64/ld-linux-x86-64.so.2", LOADER_OF_DEBIAN),
    ],
    help: "  (libraries located via /etc/ld.so.cache)
  /lib/x86_64-linux-gnu (system search path)
  /usr/lib/x86_64-linux-gnu (system search path)
  /lib (system search path)
  /usr/lib (system search path)",
    libdir: "usr/lib/x86_64-linux-gnu",
};
const LOADER_OF_DEBIAN: &str = "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

const FEDORA: Distribution = Distribution {
    name: "Fedora",
    loader: "usr/lib64/ld-linux-x86-64.so.2",
    links: &[("lib", "usr/lib"), ("lib64", "usr/lib64")],
    help: "  (libraries located via /etc/ld.so.cache)
  /lib64 (system search path)
  /usr/lib64 (system search path)",
    libdir: "usr/lib64",
};

const SUSE: Distribution = Distribution {
    name: "SUSE with a separate /lib64",
    loader: "lib64/ld-linux-x86-64.so.2",
    links: &[],
    help: FEDORA.help,
    libdir: "usr/lib64",
};

const ARCH: Distribution = Distribution {
    name: "Arch",
    loader: "usr/lib/ld-linux-x86-64.so.2",
    links: &[("lib", "usr/lib"), ("lib64", "usr/lib"), ("usr/lib64", "lib")],
    help: "  (libraries located via /etc/ld.so.cache)
  /usr/lib (system search path)",
    libdir: "usr/lib",
};

/// A file that was installed: its mode, and owner and group where root installed it.
type Installed = (u32, Option<(u32, u32)>);

/// The regular files below a directory.
fn files(root: &Path) -> BTreeMap<String, Installed> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            let status = path.symlink_metadata().expect("it exists");
            if status.is_dir() {
                directories.push(path);
            } else if status.is_file() {
                let name = path.strip_prefix(root).expect("it is below").display().to_string();
                let owner = acceptance::is_root().then_some((status.uid(), status.gid()));
                found.insert(name, (status.mode() & 0o7777, owner));
            }
        }
    }
    found
}

/// What an installation consists of.
fn wanted(library: &str, mode: u32) -> BTreeMap<String, Installed> {
    let owner = acceptance::is_root().then_some((0, 0));
    let pages = PAGES.map(|page| (format!("usr/share/man/{page}"), (0o644, owner)));
    let mut wanted = BTreeMap::from(pages);
    wanted.extend(COMPLETIONS.map(|file| (format!("usr/share/{file}"), (0o644, owner))));
    wanted.insert(format!("{library}/{LIBRARY}"), (mode, owner));
    wanted.insert("usr/bin/vmware-bdwrapper".into(), (0o755, owner));
    wanted.insert("etc/vmware-bdwrapper.conf".into(), (0o644, owner));
    wanted
}

fn destdir(root: &Path) -> String {
    format!("DESTDIR={}", root.display())
}

fn distribution(system: Distribution) {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let loader = root.join(system.loader);
    fs::create_dir_all(root.join(system.libdir)).expect("it is our directory");
    fs::create_dir_all(loader.parent().expect("it has one")).expect("it is our directory");
    for (link, target) in system.links {
        let link = root.join(link);
        fs::create_dir_all(link.parent().expect("it has one")).expect("it is our directory");
        symlink(target, link).expect("it is our directory");
    }
    let script = format!("#!/bin/sh\ncat <<EOF\nShared library search path:\n{}\nEOF\n", system.help);
    fs::write(&loader, script).expect("it is our directory");
    chmod(&loader, 0o755);
    let before = files(&root);

    let said = make(["install", &destdir(&root)]).expect_out();
    let mut found = files(&root);
    found.retain(|name, _| !before.contains_key(name));
    assert_eq!(found, wanted(system.libdir, 0o4644));
    for name in found.keys() {
        assert!(
            said.lines().any(|line| line.starts_with("installed ") && line.contains(name)),
            "{name}: {said}"
        );
    }
    assert_eq!(said.matches("Risk: ").count(), 1, "{said}");

    let said = make(["uninstall", &destdir(&root)]).expect_out();
    assert_eq!(files(&root), before);
    assert_eq!(said.lines().filter(|line| line.starts_with("removed ")).count(), found.len(), "{said}");
}

fn variables() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let arguments = [
        "PREFIX=/opt/x",
        "LIBDIR=/srv/lib",
        "MANDIR=/opt/man",
        "BINDIR=/opt/tools",
        "ZSHDIR=/opt/zsh",
        &destdir(&root),
    ];
    make(["install"].iter().chain(&arguments)).expect_out();
    let names: Vec<String> = files(&root).into_keys().collect();
    let pages = PAGES.map(|page| format!("opt/man/{page}"));
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            &["etc/vmware-bdwrapper.conf"],
            &pages[..],
            &[
                "opt/tools/vmware-bdwrapper",
                "opt/x/share/bash-completion/completions/vmware-bdwrapper",
                "opt/x/share/fish/vendor_completions.d/vmware-bdwrapper.fish",
                "opt/zsh/_vmware-bdwrapper",
                "srv/lib/libvmware-bdwrapper.so.0",
            ],
        ]
        .concat()
    );
    make(["uninstall"].iter().chain(&arguments)).expect_out();
    assert_eq!(files(&root), BTreeMap::new());
    let other = scratch.path("other");
    make(["install", "PREFIX=/opt/x", "LIBDIR=/srv/lib", &destdir(&other)]).expect_out();
    assert!(other.join("opt/x/bin/vmware-bdwrapper").is_file());
    assert!(other.join("opt/x/share/man/man1/vmware-bdwrapper.1").is_file());
    assert!(other.join("etc/vmware-bdwrapper.conf").is_file());
}

fn without_bit() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let arguments = ["LIBDIR=/usr/lib", &destdir(&root)];
    make(["install"].iter().chain(&arguments)).expect_out();
    assert_eq!(files(&root), wanted("usr/lib", 0o4644));
    let said = make(["install", "SETUID=no"].iter().chain(&arguments)).expect_out();
    assert_eq!(files(&root), wanted("usr/lib", 0o644));
    assert!(!said.contains("Risk: "), "{said}");
}

fn configuration() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let conf = root.join("etc/vmware-bdwrapper.conf");
    let arguments = ["LIBDIR=/usr/lib", &destdir(&root)];
    let install = || make(["install"].iter().chain(&arguments)).expect_out();
    let uninstall = || make(["uninstall"].iter().chain(&arguments)).expect_out();
    install();
    let default = fs::read(sources().join("data/vmware-bdwrapper.conf")).expect("it is part of the sources");
    assert_eq!(fs::read(&conf).expect("it is installed"), default);
    fs::write(&conf, "messages yes\n").expect("it is our directory");
    assert!(install().contains(&format!("kept {}", conf.display())));
    assert_eq!(fs::read(&conf).expect("it stays"), b"messages yes\n");
    assert!(uninstall().contains(&format!("kept {}", conf.display())));
    assert_eq!(files(&root).into_keys().collect::<Vec<_>>(), ["etc/vmware-bdwrapper.conf"]);
    // A link that leads nowhere is the administrator's too.
    fs::remove_file(&conf).and_then(|()| symlink("elsewhere", &conf)).expect("it is our directory");
    install();
    assert!(conf.is_symlink() && !conf.exists());
}

fn in_use() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let library = root.join("usr/lib").join(LIBRARY);
    let arguments = ["install", "LIBDIR=/usr/lib", &destdir(&root)];
    make(arguments).expect_out();
    let old = fs::File::open(&library).expect("it is installed");
    let before = old.metadata().expect("it is open");
    make(arguments).expect_out();
    let after = old.metadata().expect("it is open");
    assert_eq!(
        (after.size(), after.mtime_nsec()),
        (before.size(), before.mtime_nsec()),
        "the old file changed"
    );
    assert_ne!(
        library.metadata().expect("it is installed").ino(),
        after.ino(),
        "the old file was written to"
    );
    assert_eq!(files(&root), wanted("usr/lib", 0o4644), "nothing temporary stays");
}

fn leftovers() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let arguments = ["LIBDIR=/usr/lib", &destdir(&root)];
    make(["install"].iter().chain(&arguments)).expect_out();
    let write = |name: &str| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("it is our directory");
        fs::write(&path, "").expect("it is our directory");
        path
    };
    let lock = write("run/vmware-bdwrapper.lock");
    let mut kept = vec![
        write("etc/vmware-bdwrapper.conf.bak"),
        write("etc/vmware-bdwrapper.conf.bak.1"),
        write("etc/udev/rules.d/90-vmware-bdwrapper.rules"),
        write("etc/systemd/system/vmware-bdwrapper-sd-test.service"),
        write("var/lib/vmware-bdwrapper/added.json"),
    ];
    fs::create_dir_all(root.join("dev/sd")).expect("it is our directory");
    let link = root.join("dev/sd/test");
    symlink("../loop0", &link).expect("it is our directory");
    kept.push(link);
    let said = make(["uninstall"].iter().chain(&arguments)).expect_out();
    assert!(!lock.exists());
    assert!(said.contains("install again and run 'vmware-bdwrapper remove NAME'"), "{said}");
    for file in &kept {
        assert!(said.contains(&format!("kept {}: ", file.display())), "{}: {said}", file.display());
        assert!(file.symlink_metadata().is_ok());
    }
}

/// Runs the script as `make` does, in a directory of build results and as a user.
fn script(task: &str, target: &Path, destdir: &str, nobody: bool) -> (i32, String) {
    let run = Run::new(sources().join("scripts/install"))
        .arg(task)
        .env("CARGO_TARGET_DIR", target)
        .env("DESTDIR", destdir)
        .env("BINDIR", "/nonexistent");
    let outcome = if nobody { run.nobody() } else { run }.output();
    (outcome.code(), outcome.err())
}

fn errors() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    for task in ["install", "uninstall"] {
        let (code, err) = script(task, scratch.directory(), &root.display().to_string(), false);
        assert_ne!(code, 0);
        assert!(err.contains("run make all first") && err.contains("or give CARGO_TARGET_DIR="), "{err}");
    }
    for name in ["PREFIX", "BINDIR", "MANDIR", "LIBDIR", "ZSHDIR"] {
        let relative = make(["install", &format!("{name}=usr/lib"), &destdir(&root)]);
        let why = format!("{name}=usr/lib is not absolute");
        assert!(!relative.success() && relative.err().contains(&why), "{}", relative.err());
    }
    let half = make(["install", "SETUID=maybe", "LIBDIR=/usr/lib", &destdir(&root)]);
    assert!(!half.success() && half.err().contains("SETUID=maybe is neither yes nor no"), "{}", half.err());
    assert!(!root.exists(), "nothing was installed");
}

fn divided_names() {
    let scratch = Scratch::new();
    for name in ["a b", "a:b"] {
        let directory = scratch.path(name);
        fs::create_dir(&directory).expect("it is our directory");
        scratch.copy(&sources().join("Makefile"), &format!("{name}/Makefile"));
        for task in ["demo", "check"] {
            let refused = Run::new("make").arg("-C").arg(&directory).arg(task).output();
            assert_eq!(refused.code(), 2);
            let why = format!("{} has a blank or colon in its name", directory.display());
            assert!(refused.err().contains(&why), "{}", refused.err());
        }
        let target = make(["install", &format!("CARGO_TARGET_DIR={}", directory.display())]);
        assert_eq!(target.code(), 2);
        assert!(target.err().contains("has a blank or colon in its name"), "{}", target.err());
    }
}

fn symbols() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let library = root.join("usr/lib").join(LIBRARY);
    let install = |strip| make(["install", "LIBDIR=/usr/lib", strip, &destdir(&root)]);
    let none = install("STRIP=/nonexistent");
    assert!(!none.success() && none.err().contains("there is no program /nonexistent"), "{}", none.err());
    assert!(!root.exists(), "nothing was installed");
    install("STRIP=").expect_out();
    let read = |path: &Path| fs::read(path).expect("it can be read");
    assert!(read(&library) == read(&acceptance::library()), "the library was changed");
    install("STRIP=strip").expect_out();
    assert!(read(&library).len() < read(&acceptance::library()).len(), "the library has its symbols");
}

fn interrupted() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    let strip = scratch.path("strip");
    fs::write(&strip, "#!/bin/sh\nkill -TERM $PPID\n").expect("it is our directory");
    chmod(&strip, 0o755);
    let strip = format!("STRIP={}", strip.display());
    assert!(!make(["install", "LIBDIR=/usr/lib", &strip, &destdir(&root)]).success());
    assert_eq!(files(&root), BTreeMap::new());
}

fn without_reader() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    for how in ["(sleep 0.1; exec \"$0\" $1) | :", "\"$0\" $1 >&-"] {
        let run = |task| {
            let run = Run::new("sh").args(["-c", how]).arg(sources().join("scripts/install")).arg(task);
            let target = acceptance::library().ancestors().nth(2).expect("TARGET/release").to_path_buf();
            let run = run.env("CARGO_TARGET_DIR", target).env("LIBDIR", "/usr/lib");
            run.env("DESTDIR", &root).output().expect_out();
        };
        make(["all"]).expect_out();
        run("install");
        assert_eq!(files(&root), wanted("usr/lib", 0o4644), "{how}");
        run("uninstall");
        assert_eq!(files(&root), BTreeMap::new(), "{how}");
    }
}

fn old_cargo() {
    let scratch = Scratch::new();
    let (cargo, log) = (scratch.path("cargo"), scratch.path("log"));
    let script =
        format!("#!/bin/sh\necho \"$*\" >>'{}'\necho 'cargo 1.84.1 (66221abde 2024-11-19)'\n", log.display());
    fs::write(&cargo, script).expect("it is our directory");
    chmod(&cargo, 0o755);
    for (cargo, problem) in
        [(cargo, "version 1.84.1 is too old"), (scratch.path("none"), "there is no such command")]
    {
        let said = make(["build", &format!("CARGO={}", cargo.display())]);
        assert!(!said.success());
        for part in [problem, "; Rust 1.85 or newer is needed. ", "https://rustup.rs", "apt install cargo"] {
            assert!(said.err().contains(part), "no {part:?} in {}", said.err());
        }
    }
    assert_eq!(fs::read_to_string(&log).expect("it was asked"), "--version\n");
}

fn ordinary_user() {
    // Where every user can read it.
    let scratch = Scratch::new();
    let copy = scratch.path("scripts");
    fs::create_dir(&copy).expect("it is our directory");
    scratch.copy(&sources().join("scripts/install"), "scripts/install");
    let run = Run::new(copy.join("install")).arg("install").nobody().output();
    assert_ne!(run.code(), 0);
    assert!(run.err().contains("run sudo make install, or give DESTDIR"), "{}", run.err());
}

fn running_system() {
    let _system = System::clean();
    let library = trusted().join(LIBRARY);
    let names = || -> Vec<PathBuf> {
        let pages = PAGES.map(|page| Path::new("/usr/share/man").join(page));
        [library.clone(), "/usr/bin/vmware-bdwrapper".into(), CONF.into()]
            .into_iter()
            .chain(pages)
            .chain(completions())
            .collect()
    };
    let said = make(["install"]).expect_out();
    for name in names() {
        let status = name.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", name.display()));
        assert_eq!((status.uid(), status.gid(), status.is_file()), (0, 0, true), "{}", name.display());
    }
    assert_eq!(library.metadata().expect("it is installed").mode() & 0o7777, 0o4644);
    assert!(said.contains("checked: the loader finds"), "{said}");
    let version = Run::new("vmware-bdwrapper").arg("libdir").env("LD_PRELOAD", LIBRARY).nobody().output();
    assert_eq!(
        (version.expect_out().trim_end(), version.err()),
        (trusted().to_str().expect("ASCII"), String::new())
    );
    make(["uninstall"]).expect_out();
    for name in names() {
        assert!(name.symlink_metadata().is_err(), "{} stays", name.display());
    }
    // Once more, with nothing there.
    make(["uninstall"]).expect_out();
}

fn untrusted() {
    let _system = System::clean();
    let scratch = Scratch::new();
    let libdir = format!("LIBDIR={}", scratch.directory().display());
    let refused = make(["install", &libdir]);
    assert!(!refused.success());
    assert!(refused.err().contains("does not look into"), "{}", refused.err());
    let library = scratch.path(LIBRARY);
    let names = [library.as_path(), Path::new("/usr/bin/vmware-bdwrapper"), Path::new(CONF)];
    assert!(names.iter().all(|name| !name.exists()), "what was installed stays");
    // What was there before is not removed with it, but how to do that is said.
    fs::write(&library, "").expect("it is our directory");
    let refused = make(["install", &libdir]);
    assert!(!refused.success() && names.iter().all(|name| name.exists()));
    let said = refused.err();
    let (_, uninstall) =
        said.split_once("removes it: sudo ").unwrap_or_else(|| panic!("no way back: {said}"));
    let uninstall = uninstall.lines().next().expect("it has a line");
    Run::new("sh").args(["-c", &format!("cd \"$0\" && {uninstall}")]).arg(sources()).output().expect_out();
    assert!(names.iter().all(|name| !name.exists()), "{uninstall}");
}

fn shadowed() {
    let _system = System::clean();
    let scratch = Scratch::new();
    let other = scratch.library();
    Run::new("ldconfig").arg(scratch.directory()).output().expect_out();
    let refused = make(["install"]);
    let why = format!("ordinary programs find {} before", other.display());
    assert!(!refused.success() && refused.err().contains(&why), "{}", refused.err());
    assert!(!Path::new(CONF).exists(), "what was installed stays");
    fs::remove_file(&other).expect("it is ours");
    Run::new("ldconfig").output().expect_out();
    make(["install"]).expect_out();
}

fn manual() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    make(["install", "LIBDIR=/usr/lib", &destdir(&root)]).expect_out();
    for page in PAGES {
        let page = root.join("usr/share/man").join(page);
        let lint = Run::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page).output();
        // The pages have a version, no date.
        let said: Vec<String> =
            lint.out().lines().filter(|line| !line.contains("missing date")).map(str::to_owned).collect();
        assert_eq!(said, Vec::<String>::new());
        let text = Run::new("mandoc").args(["-T", "utf8"]).arg(&page).output().expect_out();
        // Bold and underlined letters are struck twice.
        let mut plain = String::new();
        for letter in text.chars() {
            match letter {
                '\u{8}' => drop(plain.pop()),
                _ => plain.push(letter),
            }
        }
        assert!(plain.contains("\nDESCRIPTION\n"), "{}", page.display());
        let wide: Vec<&str> = plain.lines().filter(|line| line.chars().count() > 80).collect();
        assert_eq!(wide, Vec::<&str>::new(), "{}: wider than a terminal", page.display());
    }
}
