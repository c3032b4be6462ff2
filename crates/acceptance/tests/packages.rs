//! The packages that `make packages` makes: what is in them, and their life in a root of their own.

#[expect(dead_code, reason = "the running system stays as it is")]
mod system;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock};

use acceptance::{Loop, Need, Outcome, Run, Scratch, trial};
use system::{CONF, LIBRARY, PAGES, chmod, command, make, sources};

const MIB: u64 = 1 << 20;
const BACKUP: &str = "/etc/vmware-bdwrapper.conf.bak";
const RULES: &str = "/etc/udev/rules.d/90-vmware-bdwrapper.rules";
/// A set-user-ID program, below the root.
const PROGRAM: &str = "/usr/local/bin/secure";
const DEVICE: &str = "/dev/sd/test";
/// What packages' scripts need of the system.
const NODES: [&str; 2] = ["dev/null", "dev/urandom"];
const ADVICE: &str = "    vmware-bdwrapper setup --setuid\n";

fn main() -> ExitCode {
    let built = [Need::Tool("make"), Need::Tool("dpkg-deb"), Need::Tool("rpmbuild"), Need::Tool("strip")];
    let with = |more: &[Need]| [&built, more].concat();
    let root = with(&[Need::Root, Need::Tool("cc"), Need::Tool("mmdebstrap")]);
    let devices = [&root[..], &[Need::Devices]].concat();
    acceptance::main(vec![
        trial("deb/what is in it", &built, deb_contents),
        trial("deb/lintian has nothing to say", &with(&[Need::Tool("lintian")]), lintian),
        trial("deb/from installation to purge", &devices, deb_life),
        trial("deb/a changed configuration survives an upgrade with another", &root, deb_conffile),
        trial("deb/what others have left", &root, deb_leftovers),
        trial("links in the documents", &built, document_links),
        trial("a library that no package is known to hold", &with(&[Need::Tool("cc")]), unknown_library),
        trial("the script alone", &built, script_alone),
        trial("setup/errors", &devices, setup_errors),
        trial("setup/the administrator's file", &root, setup_file),
        trial("setup/rights and backups of the file stay", &root, setup_keeps),
        trial("setup/programs that others could replace", &root, setup_programs),
        trial("setup/what dpkg was told stays", &root, setup_override),
        trial("setup/several at once", &root, setup_at_once),
        trial("rpm/what is in it", &built, rpm_contents),
        trial("rpm/from installation to removal", &root, rpm_life),
        trial("the same files give the same packages", &built, reproducible),
    ])
}

/// The packages: the .deb and the .rpm.
fn packages() -> &'static [PathBuf; 2] {
    static MADE: OnceLock<[PathBuf; 2]> = OnceLock::new();
    MADE.get_or_init(|| {
        let said = make(["packages"]).expect_out();
        let file = |end: &str| {
            let line = said.lines().find(|line| line.starts_with("made ") && line.ends_with(end));
            PathBuf::from(line.unwrap_or_else(|| panic!("no {end}: {said}"))["made ".len()..].to_owned())
        };
        [file(".deb"), file(".rpm")]
    })
}

fn deb() -> &'static Path {
    &packages()[0]
}

fn rpm() -> &'static Path {
    &packages()[1]
}

/// A directory with a minimal system of Debian, in which programs are run.
struct Root(Scratch);

impl Root {
    fn new() -> Root {
        let scratch = Scratch::new();
        let root = scratch.path("root");
        fs::create_dir(&root).expect("it is our directory");
        // A user namespace has no device nodes of its own: the machine's are mounted over files.
        let tar = Run::new("tar").arg("-xpf").arg(minimal()).arg("-C").arg(&root);
        tar.arg("--exclude=./dev/*").output().expect_out();
        for node in NODES {
            fs::write(root.join(node), "").expect("it is our directory");
        }
        Root(scratch)
    }

    /// A root in which the package is installed.
    fn installed() -> Root {
        let root = Root::new();
        root.dpkg(["--install"], deb()).expect_out();
        root
    }

    /// What an absolute name means here.
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path("root").join(name.as_ref().strip_prefix("/").expect("it is absolute"))
    }

    /// Runs a program here, as root or, with this option of chroot(8), as another user.
    fn run_as<T: AsRef<OsStr>>(&self, user: &[&str], program: impl IntoIterator<Item = T>) -> Outcome {
        self.run_behind(":", user, program)
    }

    /// The same behind a command of the machine's shell, for which `$0` is the root; what it mounts is seen by nobody else.
    fn run_behind<T: AsRef<OsStr>>(
        &self,
        command: &str,
        user: &[&str],
        program: impl IntoIterator<Item = T>,
    ) -> Outcome {
        let nodes: String = NODES.map(|node| format!("mount --bind /{node} \"$0/{node}\"; ")).concat();
        let mount = format!("set -e; mount --rbind /proc \"$0/proc\"; {nodes}{command}; exec chroot \"$@\"");
        Run::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "sh", "-c", &mount])
            .arg(self.path("/"))
            .args(user)
            .arg(self.path("/"))
            .args(program)
            .output()
    }

    fn run<T: AsRef<OsStr>>(&self, program: impl IntoIterator<Item = T>) -> Outcome {
        self.run_as(&[], program)
    }

    fn nobody<T: AsRef<OsStr>>(&self, program: impl IntoIterator<Item = T>) -> Outcome {
        self.run_as(&["--userspec=65534:65534"], program)
    }

    fn setup(&self, arguments: &[&str]) -> Outcome {
        self.run(["vmware-bdwrapper", "--message-format=json", "setup"].iter().chain(arguments))
    }

    /// Runs dpkg(1) on a package of the machine's.
    fn dpkg<const N: usize>(&self, arguments: [&str; N], package: &Path) -> Outcome {
        let copy = Path::new("/").join(package.file_name().expect("it has a name"));
        fs::copy(package, self.path(&copy)).expect("it is our directory");
        let run = ["dpkg", "--force-unsafe-io"].into_iter().chain(arguments).map(OsStr::new);
        let outcome = self.run(run.chain([copy.as_os_str()]));
        fs::remove_file(self.path(copy)).expect("it is our directory");
        outcome
    }

    fn library(&self) -> PathBuf {
        let multiarch = self.path("/usr/lib").read_dir().expect("it is a system");
        let mut files = multiarch.map(|entry| entry.expect("it can be read").path().join(LIBRARY));
        files.find(|file| file.exists()).expect("it is installed")
    }

    fn mode(&self) -> u32 {
        self.library().metadata().expect("it is installed").mode() & 0o7777
    }

    /// Every name but those of dpkg's and the loader's own records, and of what is gone after the next boot.
    fn names(&self) -> BTreeSet<String> {
        let records = ["/var/lib/dpkg", "/var/log", "/var/cache/ldconfig", "/proc", "/run", "/var/lib/rpm"];
        let found = Run::new("find").arg(self.path("/")).args(["-printf", "/%P\n"]).output().expect_out();
        let kept = found.lines().filter(|name| !records.iter().any(|record| name.starts_with(record)));
        kept.map(str::to_owned).collect()
    }

    /// A set-user-ID program, and a loop device by a name below `/dev/sd`.
    fn client(&self) -> Loop {
        let device = Loop::attach(&self.0.image("image", 128 * MIB), &[]);
        fs::create_dir(self.path("/dev/sd")).expect("it is our directory");
        Run::new("cp").arg("-a").arg(device.path()).arg(self.path("/dev")).output().expect_out();
        let name = device.path().file_name().expect("it has a name");
        symlink(Path::new("..").join(name), self.path(DEVICE)).expect("it is our directory");
        fs::copy(acceptance::program("secure"), self.path(PROGRAM)).expect("it is our directory");
        chmod(&self.path(PROGRAM), 0o4755);
        device
    }

    /// Whether the program, started by an ordinary user, gets the answer of a SCSI disk.
    fn is_answered(&self) -> bool {
        let preload = format!("LD_PRELOAD={LIBRARY}");
        let devices = format!("VMWARE_BDWRAPPER_DEVICES={DEVICE}");
        let outcome = self.nobody(["env", &preload, &devices, PROGRAM, DEVICE]);
        let out = outcome.expect_out();
        assert!(out.contains("euid=0 secure=1") && out.contains(" kind=block "), "{out}");
        out.contains(" idlun=0x7f000000")
    }

    fn conf(&self) -> String {
        fs::read_to_string(self.path(CONF)).expect("it is there")
    }
}

/// The archive of a minimal system of this machine's version of Debian, made once.
fn minimal() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let release = Run::new("sh").args(["-c", ". /etc/os-release && echo $VERSION_CODENAME"]).output();
    let release = release.expect_out().trim_end().to_owned();
    let directory = command().with_file_name("../acceptance-root");
    let archive = directory.join(format!("{release}.tar"));
    if !archive.exists() {
        fs::create_dir_all(&directory).expect("the target directory can be written");
        let unfinished = directory.join(format!("{release}.{}.tar", std::process::id()));
        let made = Run::new("mmdebstrap").args(["--quiet", "--variant=essential", &release]).arg(&unfinished);
        let made = made.output();
        assert!(made.success(), "mmdebstrap cannot fetch Debian {release}: {}", made.err());
        fs::rename(&unfinished, &archive).expect("the target directory can be written");
    }
    archive
}

fn deb_contents() {
    let out = Run::new("dpkg-deb").arg("--contents").arg(deb()).output().expect_out();
    for line in out.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(fields[1], "root/root", "{line}");
        let mode = match fields[5] {
            name if name.ends_with('/') => "drwxr-xr-x",
            "./usr/bin/vmware-bdwrapper" => "-rwxr-xr-x",
            _ => "-rw-r--r--",
        };
        assert_eq!(fields[0], mode, "{line}");
    }
    let pages = PAGES.map(|page| format!("./usr/share/man/{page}.gz"));
    for end in pages.iter().map(String::as_str).chain([
        "-linux-gnu/libvmware-bdwrapper.so.0",
        "./etc/vmware-bdwrapper.conf",
        "./usr/share/bash-completion/completions/vmware-bdwrapper",
        "./usr/share/fish/vendor_completions.d/vmware-bdwrapper.fish",
        "./usr/share/zsh/vendor-completions/_vmware-bdwrapper",
        "./usr/share/doc/vmware-bdwrapper/copyright",
    ]) {
        assert_eq!(out.lines().filter(|line| line.ends_with(end)).count(), 1, "{end}: {out}");
    }
    let depends = Run::new("dpkg-deb").arg("--field").arg(deb()).arg("Depends").output().expect_out();
    // What the dynamic loader will ask for, by another program than the script's.
    let asked = Run::new("ldd").arg("-v").arg(command()).output().expect_out();
    let own = asked.lines().skip_while(|line| !line.ends_with("/vmware-bdwrapper:")).skip(1);
    let own = own.take_while(|line| !line.ends_with(':'));
    let versions = own.filter_map(|line| line.trim().strip_prefix("libc.so.6 (GLIBC_")?.split_once(')'));
    let number = |(version, _): (&str, &str)| -> Vec<u32> {
        version.split('.').map(|part| part.parse().expect("it is a number")).collect()
    };
    let newest = versions.map(number).max().expect("it needs the C library");
    let newest: Vec<String> = newest.iter().map(u32::to_string).collect();
    assert!(depends.contains(&format!("libc6 (>= {})", newest.join("."))), "{depends}{asked}");
}

fn lintian() {
    let said = Run::new("lintian").arg("--allow-root").arg(deb()).output();
    assert_eq!((said.code(), said.out().as_str()), (0, ""), "{}", said.err());
}

fn deb_life() {
    let root = Root::new();
    fs::create_dir_all(root.path(RULES).parent().expect("it has one")).expect("it is our directory");
    let before = root.names();
    let said = root.dpkg(["--install"], deb()).expect_out();
    assert!(said.contains(ADVICE), "{said}");
    assert_eq!(root.run(["dpkg", "--verify", "vmware-bdwrapper"]).expect_out(), "");
    let _device = root.client();
    assert_eq!(root.mode(), 0o644);
    assert!(!root.is_answered(), "without the bit the loader does not take the library");
    let run = ["vmware-bdwrapper", "--message-format=json", "run", "--device", DEVICE, PROGRAM, DEVICE];
    let setup = "run as root: 'vmware-bdwrapper setup --setuid'";
    root.nobody(run).refused(126, "no-set-user-id", LIBRARY, setup);

    let wanted = ["--setuid", "--program", PROGRAM, "--device", DEVICE];
    let default = root.conf();
    let said = root.setup(&[&wanted[..], &["--dry-run"]].concat()).expect_out();
    assert!(
        said.contains("would set ") && said.contains(&format!("would add to {CONF}: device {DEVICE}\n")),
        "{said}"
    );
    assert_eq!((root.mode(), root.conf()), (0o644, default.clone()), "a dry run changes nothing");
    let said = root.setup(&wanted).expect_out();
    assert!(
        said.contains("set the set-user-ID bit of ") && said.contains("told dpkg") && said.contains("Risk: "),
        "{said}"
    );
    assert!(
        said.ends_with(&format!("Next: vmware-bdwrapper run --device {DEVICE} -- {PROGRAM}\n")),
        "{said}"
    );
    assert_eq!(root.mode(), 0o4644);
    assert_eq!(root.conf(), format!("{default}executable {PROGRAM}\ndevice {DEVICE}\n"));
    assert_eq!(fs::read_to_string(root.path(BACKUP)).expect("it is kept"), default);
    let status = root.path(CONF).metadata().expect("it is there");
    assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (0, 0, 0o644));
    assert!(root.is_answered());
    let works = root.nobody(["vmware-bdwrapper", "run", "--device", DEVICE, PROGRAM, DEVICE]);
    assert!(works.expect_out().contains(" idlun=0x7f000000"), "{}", works.out());
    let said = root.setup(&wanted).expect_out();
    assert!(!["gave", "added", "told", "created"].iter().any(|word| said.contains(word)), "{said}");
    assert_eq!(root.path(CONF).metadata().expect("it is there").ino(), status.ino(), "it was written again");

    // A newer package.
    let said = root.dpkg(["--install"], &newer(&root, |_| {})).expect_out();
    assert!(!said.contains(ADVICE), "it is said once: {said}");
    assert_eq!(root.mode(), 0o4644, "the administrator gave the bit for good");
    assert!(root.conf().ends_with(&format!("device {DEVICE}\n")));
    assert!(root.is_answered());

    let said = root.setup(&["--no-setuid"]).expect_out();
    assert!(said.contains("cleared ") && said.contains("told dpkg"), "{said}");
    assert_eq!(root.mode(), 0o644);
    assert!(!root.is_answered());
    let said = root.setup(&["--no-setuid"]).expect_out();
    assert!(!said.contains("took") && said.contains("does not have"), "{said}");
    root.setup(&["--setuid"]).expect_out();
    assert!(root.is_answered());

    root.run(["dpkg", "--remove", "vmware-bdwrapper"]).expect_out();
    fs::remove_file(root.path(PROGRAM)).expect("it is ours");
    for name in fs::read_dir(root.path("/dev")).expect("it is ours").map(|name| name.expect("it is").path()) {
        if name.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"loop")) {
            fs::remove_file(name).expect("it is ours");
        }
    }
    fs::remove_dir_all(root.path("/dev/sd")).expect("it is ours");
    // What `link --persist` writes.
    fs::write(root.path(RULES), "# A rule.\n").expect("it is our directory");
    let conf = [CONF, BACKUP, RULES].map(str::to_owned);
    assert_eq!(&root.names() - &before, BTreeSet::from(conf), "a removed package keeps its configuration");
    root.run(["dpkg", "--purge", "vmware-bdwrapper"]).expect_out();
    assert_eq!(&root.names() - &before, BTreeSet::new());
    let overrides = fs::read_to_string(root.path("/var/lib/dpkg/statoverride")).unwrap_or_default();
    assert!(!overrides.contains(LIBRARY), "{overrides}");
}

/// What `make install`, `setup` and `link` have made is removed or named.
fn deb_leftovers() {
    let root = Root::new();
    let pages = PAGES.map(|page| Path::new("/usr/share/man").join(page));
    let write = |path: &Path| {
        let path = root.path(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("it is our directory");
        fs::write(path, "").expect("it is our directory");
    };
    pages.iter().for_each(|page| write(page));
    root.dpkg(["--install"], deb()).expect_out();
    let left = |path: &Path| root.path(path).symlink_metadata().is_ok();
    assert!(!pages.iter().any(|page| left(page)), "they would be read instead of the package's");
    write(&pages[1]);
    let (lock, backup) =
        (Path::new("/run/vmware-bdwrapper.lock"), Path::new("/etc/vmware-bdwrapper.conf.bak.3"));
    write(lock);
    write(backup);
    write(Path::new(RULES));
    let rule = "SUBSYSTEM==\"block\", ENV{DEVTYPE}==\"disk\", SYMLINK+=\"sd/rule\", MODE=\"0660\"\n";
    fs::write(root.path(RULES), rule).expect("it is ours");
    fs::create_dir(root.path("/dev/sd")).expect("it is our directory");
    for name in ["rule", "other"] {
        symlink("../loop0", root.path("/dev/sd").join(name)).expect("it is our directory");
    }
    let said = root.run(["dpkg", "--purge", "vmware-bdwrapper"]).expect_out();
    for gone in [lock, backup, Path::new(RULES), Path::new("/dev/sd/rule")] {
        assert!(!left(gone), "{} stays", gone.display());
    }
    for kept in [&pages[1], Path::new("/dev/sd/other")] {
        assert!(left(kept) && said.contains(&format!("kept {}: ", kept.display())), "{said}");
    }
}

/// What the documents of a package name by a relative link is in the package.
fn document_links() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    Run::new("dpkg-deb").arg("--extract").arg(deb()).arg(&root).output().expect_out();
    let documents = root.join("usr/share/doc/vmware-bdwrapper");
    let mut found = 0;
    for directory in [documents.clone(), documents.join("docs")] {
        for entry in fs::read_dir(&directory).expect("it was extracted") {
            let file = entry.expect("it was extracted").path();
            if file.extension() != Some(OsStr::new("md")) {
                continue;
            }
            let text = fs::read_to_string(&file).expect("it was extracted");
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                found += 1;
                let target = link.split('#').next().expect("it has a part before");
                let is_there = link.contains("://") || directory.join(target).exists();
                assert!(is_there, "{} links to {link}", file.display());
            }
        }
    }
    assert!(found > 20, "{found} links");
}

/// A directory of build results with a command that needs a library of its own.
fn unknown_library() {
    let scratch = Scratch::new();
    let target = command().ancestors().nth(2).expect("it is in TARGET/release").to_path_buf();
    make(["all"]).expect_out();
    for name in ["man", "completions", "release"] {
        fs::create_dir(scratch.path(name)).expect("it is our directory");
    }
    let release = scratch.path("release");
    for name in ["man", "completions", "release/libvmware_bdwrapper.so"] {
        let copy = scratch.path(name);
        let into = copy.parent().expect("it has one");
        Run::new("cp").arg("-R").arg(target.join(name)).arg(into).output().expect_out();
    }
    fs::write(scratch.path("odd.c"), "int main(void) { return 0; }\n").expect("it is our directory");
    let script = "cc -shared -o libodd.so.9 -Wl,-soname,libodd.so.9 odd.c\n\
                  cc -o \"$0/vmware-bdwrapper\" odd.c -Wl,--no-as-needed ./libodd.so.9";
    let script = format!("cd '{}'\n{script}", scratch.directory().display());
    Run::new("sh").args(["-ec", &script]).arg(&release).output().expect_out();
    let run = Run::new(sources().join("scripts/packages")).arg("deb");
    let refused = run.env("CARGO_TARGET_DIR", scratch.directory()).output();
    assert_eq!((refused.code(), refused.out().as_str()), (1, ""), "{}", refused.err());
    assert!(
        refused.err().contains("no package of Debian is known that holds libodd.so.9."),
        "{}",
        refused.err()
    );
    assert_eq!(fs::read_dir(scratch.path("packages")).expect("the script made it").count(), 0);
}

/// As docs/packaging.md says, without a word of who answers for it.
fn script_alone() {
    packages();
    let target = command().ancestors().nth(2).expect("it is in TARGET/release").to_path_buf();
    let run = || Run::new(sources().join("scripts/packages")).arg("deb").env("CARGO_TARGET_DIR", &target);
    let said = run().output().expect_out();
    assert_eq!(said.lines().count(), 1, "{said}");
    let maintainer = || {
        let run = Run::new("dpkg-deb").arg("--field").arg(deb()).arg("Maintainer");
        run.output().expect_out()
    };
    // No address that may exist.
    assert_eq!(maintainer().trim_end(), "the vmware-bdwrapper authors <none@vmware-bdwrapper.invalid>");
}

/// The package with a higher version and what `change` does to its files.
fn newer(root: &Root, change: impl FnOnce(&Path)) -> PathBuf {
    let files = root.0.path("newer");
    Run::new("dpkg-deb").arg("--raw-extract").arg(deb()).arg(&files).output().expect_out();
    let control = files.join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("it was extracted");
    fs::write(&control, text.replace("\nVersion: ", "\nVersion: 9")).expect("it is ours");
    change(&files);
    let package = root.0.path("newer.deb");
    let made =
        Run::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&files).arg(&package).output();
    made.expect_out();
    package
}

fn deb_conffile() {
    let root = Root::installed();
    let changed = root.conf() + "messages yes\n";
    fs::write(root.path(CONF), &changed).expect("it is ours");
    let package = newer(&root, |files| {
        fs::write(files.join("etc/vmware-bdwrapper.conf"), "# Another default.\n").expect("it is ours");
    });
    root.dpkg(["--force-confdef", "--force-confold", "--install"], &package).expect_out();
    assert_eq!(root.conf(), changed);
    let new = fs::read_to_string(root.path("/etc/vmware-bdwrapper.conf.dpkg-dist"));
    assert_eq!(new.expect("dpkg left it beside"), "# Another default.\n");
}

fn setup_errors() {
    let root = Root::installed();
    let fails = |arguments: &[&str], status: i32, code: &str, words: &str| {
        let before = (root.names(), root.conf(), root.mode());
        root.setup(arguments).refused(status, code, words, "");
        assert!((root.names(), root.conf(), root.mode()) == before, "{arguments:?} changed something");
    };
    fails(&[], 2, "usage", "--setuid");
    fails(&["--setuid", "--no-setuid"], 2, "usage", "cannot be used with");
    fails(&["--no-setuid", "--device", DEVICE], 2, "usage", "cannot be used with");
    fails(&["--setuid", "--device", "relative"], 2, "bad-entry", "/relative: ");
    fails(&["--setuid", "--device", "/dev/vg/x"], 2, "bad-entry", "/dev/vg/x: ");
    fails(&["--setuid", "--device", "/dev/sd/a\nallow-user-devices yes"], 2, "usage", "has a line break");
    fails(&["--setuid", "--device", "/dev/sd/a "], 2, "usage", "ends with a space");
    fails(&["--setuid", "--program", "bin/sh"], 2, "usage", "bin/sh: ");
    // The working directory is /.
    root.setup(&["--setuid", "--program", "bin/sh"]).refused(2, "usage", "bin/sh: ", "write /bin/sh");
    fails(&["--setuid", "--program", "/nonexistent"], 2, "usage", "/nonexistent: ");
    // By its number alone; nobody opens it.
    Run::new("mknod").arg(root.path("/dev/sdz")).args(["b", "8", "400"]).output().expect_out();
    fails(&["--setuid", "--device", "/dev/sdz"], 2, "physical-disk", "/dev/sdz: ");
    let forced = root.setup(&["--setuid", "--device", "/dev/sdz=force", "--dry-run"]).expect_out();
    assert!(forced.contains("device /dev/sdz=force\n"), "{forced}");
    fs::remove_file(root.path("/dev/sdz")).expect("it is ours");
    let user = root.nobody(["vmware-bdwrapper", "setup", "--message-format=json", "--setuid"]);
    let sudo = "run 'sudo vmware-bdwrapper setup --message-format=json --setuid'";
    user.refused(1, "root-only", "", sudo);
    let dry = root.nobody(["vmware-bdwrapper", "setup", "--setuid", "--dry-run"]);
    assert!(dry.expect_out().contains("would set "), "{}", dry.out());

    chmod(&root.path(CONF), 0o666);
    fails(&["--setuid"], 1, "untrusted", "can be written by users other than root");
    chmod(&root.path(CONF), 0o644);
    let conf = root.conf();
    fs::write(root.path(CONF), format!("{conf}device {DEVICE}=ide\n{}", "#".repeat(65_000 - conf.len())))
        .expect("it is ours");
    fails(&["--setuid", "--device", DEVICE], 1, "different", "with other options");
    fails(&["--setuid", "--device", &format!("/{}=ide", "x".repeat(1000))], 1, "malformed", "at most 65536");
    // One device under another name, as another disk.
    fs::write(root.path(CONF), "device /srv/a.img=scsi\n").expect("it is ours");
    fs::write(root.path("/srv/a.img"), [0; 4096]).expect("it is ours");
    symlink("a.img", root.path("/srv/other")).expect("it is ours");
    let same = format!("/srv/other: is listed in {CONF} by the line 'device /srv/a.img=scsi'");
    fails(&["--setuid", "--device", "/srv/other=ide"], 1, "different", &same);
    fails(&["--setuid", "--device", "/srv/other=scsi,ro"], 1, "different", &same);
    let alike = root.setup(&["--setuid", "--device", "/srv/other=scsi", "--dry-run"]).expect_out();
    assert!(alike.contains("device /srv/other=scsi\n"), "{alike}");
    fs::write(root.path(CONF), "").expect("it is ours");
    fails(&["--setuid", "--device", "/srv/a.img=scsi", "--device", "/srv/other=ide"], 1, "different", &same);
    fs::remove_file(root.path(CONF)).expect("it is ours");
    symlink("/etc/passwd", root.path(CONF)).expect("it is ours");
    fails(&["--setuid"], 1, "file-type", "is not a regular file");
    fs::remove_file(root.path(CONF)).expect("it is ours");
    fs::write(root.path(CONF), "").expect("it is ours");
    chmod(&root.library(), 0o664);
    fails(&["--setuid"], 1, "untrusted", "so users other than root may have written it");

    fs::copy(command(), root.path("/tmp/command")).expect("it is our directory");
    root.run(["dpkg", "--remove", "vmware-bdwrapper"]).expect_out();
    let absent = root.run(["/tmp/command", "--message-format=json", "setup", "--setuid"]);
    absent.refused(1, "not-installed", LIBRARY, "install the package");
}

fn setup_file() {
    let root = Root::installed();
    let default = root.conf();
    let write = |text: &str| fs::write(root.path(CONF), text).expect("it is ours");
    // None at all.
    fs::remove_file(root.path(CONF)).expect("it is ours");
    let said = root.setup(&["--setuid"]).expect_out();
    assert!(said.contains(&format!("created {CONF}\n")) && said.contains("install VMware"), "{said}");
    assert_eq!(root.conf(), default);
    assert!(!root.path(BACKUP).exists());
    // A last line without an end, lines that do not count, a program that is there and no device.
    write("executable /bin/sh\nfoo");
    let said = root.setup(&["--setuid"]);
    assert!(
        said.expect_out()
            .ends_with("list one with 'vmware-bdwrapper setup --setuid --device /dev/sd/NAME'.\n"),
        "{}",
        said.out()
    );
    said.says("malformed", &format!("{CONF}, line 2: there is no directive 'foo'"), "");
    assert_eq!(root.conf(), "executable /bin/sh\nfoo");
    let entry = "/srv/disk.img=ide,serial=A B";
    let said = root.setup(&["--setuid", "--program", "/bin/sh", "--device", entry]).expect_out();
    assert_eq!(root.conf(), format!("executable /bin/sh\nfoo\ndevice {entry}\n"));
    // The options belong to it.
    assert!(
        said.ends_with(&format!("Next: vmware-bdwrapper run --device \"{entry}\" -- /bin/sh\n")),
        "{said}"
    );
    // What was listed before is not what was set up just now.
    let said = root.setup(&["--setuid", "--device", "/srv/other.img=sata"]).expect_out();
    assert!(said.ends_with("Next: vmware-bdwrapper run --device /srv/other.img=sata -- vmware\n"), "{said}");
    write("executable /bin/sh\n device \t/srv/disk.img=ide \n");
    let said = root.setup(&["--setuid"]).expect_out();
    assert!(said.ends_with("Next: vmware-bdwrapper run --device /srv/disk.img=ide -- vmware\n"), "{said}");
    write("executable /bin/sh\nallow-user-devices yes\n");
    let said = root.setup(&["--setuid"]).expect_out();
    assert!(said.ends_with("Next: vmware-bdwrapper run --device /dev/sd/NAME -- vmware\n"), "{said}");
}

fn setup_keeps() {
    let root = Root::installed();
    let backup = |number: &str| root.path(format!("{BACKUP}{number}"));
    let rights = |path: &Path| {
        let status = path.metadata().expect("it is there");
        (status.uid(), status.gid(), status.mode() & 0o7777)
    };
    let before = root.conf();
    chown(root.path(CONF), Some(0), Some(6)).expect("root can");
    chmod(&root.path(CONF), 0o640);
    fs::write(backup(""), "the administrator's\n").expect("it is ours");
    // An access control list, by which the group's bits of the mode say what one more user may, and the group nothing.
    const LIST: &str = "system.posix_acl_access";
    let entries =
        [(1u16, 6u16, u32::MAX), (2, 4, 65534), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let entry = |(tag, rights, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let acl = [vec![2, 0, 0, 0], entries.map(entry).concat()].concat();
    rustix::fs::setxattr(root.path(CONF), LIST, &acl, rustix::fs::XattrFlags::empty()).expect("root can");
    let said = root.setup(&["--setuid", "--program", "/bin/sh"]).expect_out();
    assert!(said.contains(&format!("saved the previous version as {BACKUP}.1\n")), "{said}");
    assert_eq!(rights(&root.path(CONF)), (0, 6, 0o640));
    assert_eq!(rights(&backup(".1")), (0, 6, 0o640));
    for path in [root.path(CONF), backup(".1")] {
        let mut found = [0; 256];
        let length = rustix::fs::getxattr(&path, LIST, &mut found[..]).expect("it has a list");
        assert_eq!(found[..length], acl, "{}", path.display());
    }
    assert_eq!(fs::read_to_string(backup("")).expect("it is there"), "the administrator's\n");
    assert_eq!(fs::read_to_string(backup(".1")).expect("it is there"), before);
    let before = root.conf();
    root.setup(&["--setuid", "--program", "/bin/cat"]).expect_out();
    // The last backup, which nobody has changed since, makes room for the next.
    assert_eq!(fs::read_to_string(backup(".1")).expect("it is there"), before);
    // What the library would not trust is not mended silently.
    chown(root.path(CONF), Some(1), None).expect("root can");
    let refused = root.setup(&["--setuid", "--program", "/bin/ls"]);
    refused.refused(1, "untrusted", "belongs to user 1", "chown root");
    // A new one is anybody's to read, whatever the umask.
    fs::remove_file(root.path(CONF)).expect("it is ours");
    root.run(["sh", "-c", "umask 077; vmware-bdwrapper setup --setuid"]).expect_out();
    assert_eq!(rights(&root.path(CONF)), (0, 0, 0o644));
    root.run(["dpkg", "--purge", "vmware-bdwrapper"]).expect_out();
    let left: Vec<String> = root.names().into_iter().filter(|name| name.contains("bdwrapper")).collect();
    assert_eq!(left, [""; 0], "purged");
}

fn setup_programs() {
    let root = Root::installed();
    let before = root.conf();
    let make = |name: &str| {
        let path = root.path(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("it is our directory");
        fs::copy(root.path("/bin/true"), &path).expect("it is our directory");
        chmod(&path, 0o755);
    };
    for name in [
        "/opt/good/bin/vmx",
        "/opt/open/bin/vmx",
        "/opt/users/vmx",
        "/opt/writable/vmx",
        "/opt/writable/my vmx",
        "/opt/open wide/vmx",
        "/opt/a user's/vmx",
        "/tmp/vmx",
    ] {
        make(name);
    }
    chmod(&root.path("/opt/open wide"), 0o777);
    chown(root.path("/opt/a user's"), Some(1), None).expect("root can");
    chmod(&root.path("/opt/writable/my vmx"), 0o775);
    chmod(&root.path("/opt/open"), 0o777);
    chown(root.path("/opt/users"), Some(1), None).expect("root can");
    chmod(&root.path("/opt/writable/vmx"), 0o775);
    symlink("/opt/open/bin", root.path("/opt/way")).expect("it is our directory");
    symlink("../../opt/good/bin/vmx", root.path("/opt/users/link")).expect("it is our directory");
    symlink("good/bin", root.path("/opt/short")).expect("it is our directory");
    for (program, wrong, remedy) in [
        ("/opt/open/bin/vmx", "the directory /opt/open has the mode 0777", "chmod go-w /opt/open"),
        ("/opt/way/vmx", "the directory /opt/open has the mode 0777", "chmod go-w /opt/open"),
        (
            "/opt/users/vmx",
            "the directory /opt/users belongs to user 1",
            "move the program to a directory that root alone",
        ),
        // What is at the end of a link is as good as the link.
        (
            "/opt/users/link",
            "the directory /opt/users belongs to user 1",
            "move the program to a directory that root alone",
        ),
        (
            "/opt/good/../users/vmx",
            "the directory /opt/users belongs to user 1",
            "move the program to a directory that root alone",
        ),
        ("/opt/writable/vmx", "it has the mode 0775", "chmod go-w /opt/writable/vmx"),
        ("/tmp/vmx", "the directory /tmp has the mode 1777", "move the program"),
        // Commands for a shell.
        (
            "/opt/open wide/vmx",
            "the directory /opt/open wide has the mode 0777",
            "'chmod go-w \"/opt/open wide\"'",
        ),
        ("/opt/a user's/vmx", "the directory /opt/a user's belongs to user 1", "move the program"),
        ("/opt/writable/my vmx", "it has the mode 0775", "'chmod go-w \"/opt/writable/my vmx\"'"),
    ] {
        let refused = root.setup(&["--setuid", "--program", "/bin/sh", "--program", program]);
        refused.refused(1, "untrusted", &format!("{program}: {wrong}"), remedy);
        assert!(!refused.err().contains("chown"), "a directory is its user's: {}", refused.err());
        assert_eq!((root.conf(), root.mode()), (before.clone(), 0o644), "{program}");
    }
    root.setup(&["--setuid", "--program", "/opt/short/vmx", "--program", "/opt/good/bin/vmx"]).expect_out();
    assert_eq!(
        root.conf(),
        format!("{before}executable /opt/short/vmx\nexecutable /opt/good/bin/vmx\n"),
        "the name is the administrator's choice"
    );
}

fn setup_override() {
    let root = Root::installed();
    let library = Path::new("/").join(root.library().strip_prefix(root.path("/")).expect("it stands there"));
    let library = library.to_str().expect("ASCII");
    let set = |words: &[&str]| {
        let run = ["dpkg-statoverride", "--force-statoverride-add", "--update", "--add"];
        root.run(run.iter().chain(words).chain([&library])).expect_out();
    };
    let list = || root.run(["dpkg-statoverride", "--list", library]).out();
    let line = |rights: &str| format!("{rights} {library}\n");
    let owner = || root.library().metadata().map(|status| (status.uid(), status.gid())).expect("it is there");
    set(&["root", "disk", "0750"]);
    let said = root.setup(&["--setuid"]).expect_out();
    assert!(said.contains("told dpkg"), "{said}");
    assert_eq!(list(), line("root disk 4750"));
    assert_eq!((root.mode(), owner()), (0o4750, (0, 6)));
    assert!(!root.setup(&["--setuid"]).expect_out().contains("told"), "it knows that already");
    root.dpkg(["--install"], &newer(&root, |_| {})).expect_out();
    assert_eq!((root.mode(), owner()), (0o4750, (0, 6)));
    root.setup(&["--no-setuid"]).expect_out();
    assert_eq!((list(), root.mode(), owner()), (line("root disk 750"), 0o750, (0, 6)));
    assert!(!root.setup(&["--no-setuid"]).expect_out().contains("told"), "it knows that already");
    // What the administrator gave without dpkg is the package's no more.
    root.run(["dpkg-statoverride", "--remove", library]).expect_out();
    root.setup(&["--setuid"]).expect_out();
    assert_eq!(list(), line("root disk 4750"));
    chown(root.library(), Some(0), Some(0)).expect("root can");
    chmod(&root.library(), 0o4644);
    set(&["root", "root", "4644"]);
    root.setup(&["--no-setuid"]).expect_out();
    assert_eq!((list().as_str(), root.mode()), ("", 0o644), "nothing is left to be told");
    // Rights at the next upgrade that others could use.
    for (rights, why) in
        [(["bin", "root", "0644"], "gets the user bin"), (["root", "bin", "0664"], "the mode 664")]
    {
        set(&rights);
        chown(root.library(), Some(0), Some(0)).expect("root can");
        chmod(&root.library(), 0o644);
        let before = list();
        let refused = root.setup(&["--setuid"]);
        refused.refused(1, "untrusted", why, "'dpkg-statoverride --remove ");
        assert_eq!((list(), root.mode()), (before, 0o644));
    }
    root.run(["dpkg-statoverride", "--remove", library]).expect_out();
    // Where the mode cannot be changed, dpkg is not told that it was.
    let read_only =
        format!("mount --bind \"$0{library}\" \"$0{library}\"; mount -o remount,bind,ro \"$0{library}\"");
    let setup = ["vmware-bdwrapper", "--message-format=json", "setup", "--setuid"];
    let failed = root.run_behind(&read_only, &[], setup);
    assert_eq!(failed.code(), 1);
    failed.says("io", "its mode cannot be changed (Read-only file system)", "'findmnt --target ");
    assert_eq!((list().as_str(), root.mode()), ("", 0o644));
    // Where dpkg cannot be told, that is said.
    fs::create_dir(root.path("/var/lib/dpkg/statoverride-new")).expect("it is our directory");
    let failed = root.setup(&["--setuid"]);
    assert_eq!((failed.code(), root.mode()), (1, 0o4644));
    failed.says("io", "the next package upgrade", "when dpkg works");
}

fn setup_at_once() {
    const PROGRAMS: [&str; 8] = ["cat", "cp", "ls", "mv", "rm", "sleep", "true", "false"];
    let root = Root::installed();
    let before = root.conf();
    std::thread::scope(|scope| {
        for name in PROGRAMS {
            let (root, program) = (&root, format!("/bin/{name}"));
            scope.spawn(move || root.setup(&["--setuid", "--program", &program]).expect_out());
        }
    });
    let conf = root.conf();
    let mut added: Vec<&str> = conf.strip_prefix(&before).expect("it stays").lines().collect();
    added.sort_unstable();
    let mut wanted = PROGRAMS.map(|name| format!("executable /bin/{name}"));
    wanted.sort_unstable();
    assert_eq!(added, wanted);
    let backups = root.path("/etc").read_dir().expect("it is a system").filter(|entry| {
        entry
            .as_ref()
            .is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b"vmware-bdwrapper.conf.bak"))
    });
    assert_eq!(backups.count(), 1, "each backup makes room for the next");
}

fn rpm_contents() {
    let query = |what: &[&str]| Run::new("rpm").arg("-qp").args(what).arg(rpm()).output().expect_out();
    let names = query(&["--list"]);
    let pages = PAGES.map(|page| format!("/usr/share/man/{page}.gz"));
    for name in pages.iter().map(String::as_str).chain([
        "/usr/bin/vmware-bdwrapper",
        "/usr/lib64/libvmware-bdwrapper.so.0",
        "/etc/vmware-bdwrapper.conf",
        "/usr/share/licenses/vmware-bdwrapper/LICENSE-MIT",
        "/usr/share/zsh/site-functions/_vmware-bdwrapper",
    ]) {
        assert!(names.lines().any(|line| line == name), "{name}: {names}");
    }
    let files = query(&["--dump"]);
    let owners = files.lines().all(|line| line.contains(" root root "));
    assert!(owners && !files.contains(" 0104"), "owner and bit: {files}");
    assert_eq!(query(&["--configfiles"]), "/etc/vmware-bdwrapper.conf\n");
    assert_eq!(query(&["--licensefiles"]).lines().count(), 2);
    // The same libraries as the .deb needs, and no package by name but the shell.
    let requires = query(&["--requires"]);
    for line in requires.lines() {
        let known =
            ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux", "rtld(", "rpmlib(", "/bin/sh", "config("];
        assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
    }
    let depends = Run::new("dpkg-deb").arg("--field").arg(deb()).arg("Depends").output().expect_out();
    let newest =
        depends.split("libc6 (>= ").nth(1).and_then(|rest| rest.split(')').next()).expect("it is there");
    assert!(requires.contains(&format!("libc.so.6(GLIBC_{newest})(64bit)")), "{requires}");
}

/// Debian's loader does not look into /usr/lib64, so only the package itself is tried.
fn rpm_life() {
    let root = Root::new();
    let before = root.names();
    let library = root.path("/usr/lib64").join(LIBRARY);
    let mode = || library.metadata().expect("it is installed").mode() & 0o7777;
    // Debian's rpm before 4.20 asks for a word before it installs anything.
    let asks = Run::new("rpm").args(["--force-debian", "--version"]).output().success();
    let rpm = |arguments: &[&str], package: &Path| {
        let run = Run::new("rpm").args(["--root"]).arg(root.path("/")).args(["--nodeps", "--noplugins"]);
        let run = if asks { run.arg("--force-debian") } else { run };
        run.args(arguments).arg(package).output().expect_out()
    };
    assert!(rpm(&["--install"], self::rpm()).contains(ADVICE));
    assert_eq!(mode(), 0o644);
    rpm(&["--upgrade", "--force"], self::rpm());
    assert_eq!(mode(), 0o644);
    // The mark of an upgrade that failed gives no bit that the administrator has cleared since.
    let mark = root.path("/var/lib/rpm-state/vmware-bdwrapper");
    fs::create_dir_all(mark.parent().expect("it has one")).expect("it is our directory");
    fs::write(&mark, "").expect("it is our directory");
    rpm(&["--upgrade", "--force"], self::rpm());
    assert_eq!((mode(), mark.exists()), (0o644, false));
    chmod(&library, 0o4644);
    let changed = root.conf() + "messages yes\n";
    fs::write(root.path(CONF), &changed).expect("it is ours");
    assert!(!rpm(&["--upgrade", "--force"], self::rpm()).contains(ADVICE), "it is said once");
    assert_eq!((mode(), root.conf()), (0o4644, changed));
    fs::write(root.path(BACKUP), "").expect("it is ours");
    let said = rpm(&["--erase"], Path::new("vmware-bdwrapper"));
    assert!(said.contains(&format!("kept {BACKUP}: ")), "{said}");
    fs::remove_file(root.path(BACKUP)).expect("it is ours");
    let left: Vec<String> =
        (&root.names() - &before).into_iter().filter(|name| name.contains("bdwrapper")).collect();
    assert_eq!(left, ["/etc/vmware-bdwrapper.conf.rpmsave"]);
}

fn reproducible() {
    let first = packages().each_ref().map(|package| fs::read(package).expect("it was made"));
    let again = make(["packages"]).expect_out();
    assert_eq!(again.matches("made ").count(), 2, "{again}");
    let second = packages().each_ref().map(|package| fs::read(package).expect("it was made"));
    assert!(first == second);
    let none = Run::new(sources().join("scripts/packages"))
        .arg("deb")
        .env("CARGO_TARGET_DIR", "/nonexistent")
        .env("MAINTAINER", "A <a@b.c>")
        .output();
    assert!(!none.success() && none.err().contains("run make packages"), "{}", none.err());
}
