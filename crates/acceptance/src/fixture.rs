//! Files, devices and names that are gone after the test, however it ends.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use disk::names;
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::engine::{COMMAND, Engine, engine};
use crate::isolation::{Privilege, privilege};
use crate::run::{Run, wait_for};

/// A temporary directory that every user can read, with a copy of the library in it.
pub struct Scratch(TempDir);

impl Scratch {
    /// Makes the directory.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Scratch {
        let wanted = std::env::temp_dir();
        // Every user must get there, and neither colon, comma, equals sign nor blank is to be quoted in a device's entry.
        let is_open = |directory: &Path| {
            directory.metadata().is_ok_and(|directory| directory.permissions().mode() & 0o001 != 0)
        };
        let is_plain = wanted.to_str().is_some_and(|name| !name.contains([':', ',', '=', ' ']));
        let fits = wanted.is_absolute() && is_plain && wanted.ancestors().all(is_open);
        Scratch::below(if fits { &wanted } else { Path::new("/tmp") })
    }

    /// Makes it below another directory.
    pub fn below(parent: &Path) -> Scratch {
        let directory = tempfile::Builder::new().prefix("vmware-bdwrapper-test-").tempdir_in(parent);
        let directory = directory.expect("a temporary directory can be made");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is ours");
        Scratch(directory)
    }

    /// The directory's name.
    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    /// The name of a file in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A sparse image file that every user can read and write.
    pub fn image(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        let file = File::create_new(&path).expect("an image file can be made");
        file.set_len(bytes).expect("the temporary directory can hold a sparse file of this size");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("it is ours");
        path
    }

    /// A copy of a file where every user can execute it.
    pub fn copy(&self, file: &Path, name: &str) -> PathBuf {
        let path = self.path(name);
        if !path.exists() {
            // Not by this process: a child of another test could inherit the descriptor, and a program that is open
            // for writing cannot be executed.
            let copied = Run::new("cp").arg(file).arg(&path).output();
            assert!(copied.success(), "{} cannot be copied: {}", file.display(), copied.err());
            fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
        }
        path
    }

    /// The command under its installed name.
    pub fn command(&self) -> PathBuf {
        self.copy(&crate::build::built_command(), COMMAND)
    }

    /// The library under its installed name; beside it stands the command, where the supervisor is tested.
    pub fn library(&self) -> PathBuf {
        if engine() == Engine::Supervisor {
            self.command();
        }
        self.copy(&crate::build::library(), names::LIBRARY)
    }

    /// A program of `programs/`, compiled.
    pub fn program(&self, name: &str) -> PathBuf {
        self.copy(&crate::build::program(name), name)
    }
}

/// A loop device. The kernel detaches it when this process closes it, however the process ends.
pub struct Loop {
    path: PathBuf,
    _open: File,
}

/// Waits until no loop device has a file whose name holds this path. Another process that looks at all devices keeps one a little longer.
pub fn wait_for_detached(path: &Path) {
    let path = path.to_str().expect("the name is UTF-8");
    wait_for("the end of the loop device", || {
        let devices = Run::new("losetup").arg("--all").output().expect_out();
        (!devices.contains(path)).then_some(())
    });
}

/// A file of the kernel's that is locked while a free loop device is looked for and taken, by other runs of the tests, too.
const FREE: &str = "/sys/class/misc/loop-control/dev";

impl Loop {
    /// Attaches an image; `options` are those of losetup(8).
    pub fn attach(image: &Path, options: &[&str]) -> Loop {
        Loop::attach_with(image, options, |_| {})
    }

    /// Does something with the name of a free loop device before the image is attached to it.
    pub fn attach_after(image: &Path, before: impl FnOnce(&Path)) -> Loop {
        Loop::attach_with(image, &[], before)
    }

    fn attach_with(image: &Path, options: &[&str], before: impl FnOnce(&Path)) -> Loop {
        assert!(privilege() == Privilege::Machine, "a trial with loop devices has Need::Devices");
        let lock = File::open(FREE).expect("the kernel has loop devices");
        flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");
        let mut before = Some(before);
        loop {
            let free = Run::new("losetup").arg("--find").output();
            assert!(free.success(), "losetup finds no free device: {}", free.err());
            let path = PathBuf::from(free.out().trim_end());
            make_node(&path);
            if let Some(before) = before.take() {
                before(&path);
            }
            // What the kernel finds in the image's table of partitions goes with the image.
            let run = Run::new("losetup").args(options).arg("--partscan").arg(&path).arg(image);
            let attached = run.output();
            if attached.success() {
                return Loop::adopt(path);
            }
            // Another process has been faster.
            assert!(attached.err().contains("busy"), "losetup cannot attach an image: {}", attached.err());
        }
    }

    /// Takes over a device that somebody else attached.
    pub fn adopt(path: PathBuf) -> Loop {
        let open = File::open(&path).expect("root can open a loop device");
        // It is in use, so this only asks the kernel to detach it after the last use.
        Run::new("losetup").arg("--detach").arg(&path).output().expect_out();
        let device = Loop { path, _open: open };
        device.make_writable();
        device
    }

    /// Clears what blockdev(8) sets with --setro: it outlives the image, and would be the next one's.
    fn make_writable(&self) {
        Run::new("blockdev").arg("--setrw").arg(&self.path).output();
    }

    /// The device node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node of a partition.
    pub fn partition(&self, number: u32) -> PathBuf {
        let path = PathBuf::from(format!("{}p{number}", self.path.display()));
        // Not every kernel reads the table by itself.
        if !sysfs(&path).exists() {
            Run::new("partx").arg("--update").arg(&self.path).output().expect_out();
        }
        make_node(&path);
        path
    }

    /// Tells the kernel of a partition that no table has: its number, first sector and length in sectors of 512 bytes. By partx(8), which
    /// takes it from a table that stands there no longer than that: not every distribution has addpart(8).
    pub fn add_partition(&self, number: u8, start: u64, length: u64) {
        use std::os::unix::fs::FileExt;
        let device = File::options().read(true).write(true).open(&self.path).expect("root can");
        let mut sector = [0; 512];
        device.read_exact_at(&mut sector, 0).expect("it has one");
        let table = format!("label: dos\n{number} : start={start}, size={length}, type=83\n");
        let options = ["--quiet", "--wipe=never", "--no-reread", "--no-tell-kernel"];
        Run::new("sfdisk").args(options).arg(&self.path).stdin(table).output().expect_out();
        let number = number.to_string();
        Run::new("partx").args(["--add", "--nr", &number]).arg(&self.path).output().expect_out();
        device.write_all_at(&sector, 0).expect("root can");
    }

    /// Tells the device that its image has another size now.
    pub fn resize(&self) {
        let resized = Run::new("losetup").arg("--set-capacity").arg(&self.path).output();
        assert!(resized.success(), "losetup cannot resize {}: {}", self.path.display(), resized.err());
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.make_writable();
    }
}

/// What the kernel says of a block device with this node.
fn sysfs(node: &Path) -> PathBuf {
    Path::new("/sys/class/block").join(node.file_name().expect("it has a name"))
}

/// Makes the node of a block device anew: nobody else does in this process's `/dev`.
fn make_node(node: &Path) {
    let number = fs::read_to_string(sysfs(node).join("dev")).expect("the kernel has the device");
    let (major, minor) = number.trim().split_once(':').expect("it is a device's number");
    let _ = fs::remove_file(node);
    Run::new("mknod").args(["-m", "660"]).arg(node).args(["b", major, minor]).output().expect_out();
}

/// A name below `/dev` (`/dev/sd/…`, `/dev/hd/…`), removed at the end.
pub struct Name(PathBuf);

/// Directories below `/dev` that this process made, and how many names stand or will stand in them.
static MADE: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

impl Name {
    /// A name that no other test uses, made by `make`.
    fn new(directory: &str, make: impl FnOnce(&Path)) -> Name {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let directory = Path::new("/dev").join(directory);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("bdwrapper-test-{}-{count}", std::process::id()));
        let mut made = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut missing: Vec<&Path> = directory.ancestors().take_while(|path| !path.exists()).collect();
        while let Some(directory) = missing.pop() {
            fs::create_dir(directory)
                .unwrap_or_else(|error| panic!("{} cannot be made: {error}", directory.display()));
            made.insert(directory.to_path_buf(), 0);
        }
        let name = Name(path);
        for directory in name.0.ancestors() {
            if let Some(names) = made.get_mut(directory) {
                *names += 1;
            }
        }
        drop(made);
        make(&name.0);
        name
    }

    /// A symbolic link in a directory below `/dev`; the target need not exist.
    pub fn link(directory: &str, target: &Path) -> Name {
        Name::new(directory, |path| std::os::unix::fs::symlink(target, path).expect("/dev can be written"))
    }

    /// A second device node of a block device, which every user can read and write.
    pub fn node(directory: &str, device: &Path) -> Name {
        let number = device.metadata().expect("the device exists").rdev();
        // Numbers as in makedev(3).
        let major = (number >> 8 & 0xfff) | (number >> 32 & 0xffff_f000);
        let minor = (number & 0xff) | (number >> 12 & 0xffff_ff00);
        Name::new(directory, |path| {
            let made = Run::new("mknod")
                .args(["-m", "666"])
                .arg(path)
                .args(["b", &major.to_string(), &minor.to_string()])
                .output();
            assert!(made.success(), "mknod: {}", made.err());
        })
    }

    /// A name for which nothing exists yet.
    pub fn reserved(directory: &str) -> Name {
        Name::new(directory, |_| {})
    }

    /// Makes the link, or makes it lead elsewhere.
    pub fn point(&self, target: &Path) {
        let _ = fs::remove_file(&self.0);
        std::os::unix::fs::symlink(target, &self.0).expect("/dev can be written");
    }

    /// The name.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut made = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let _ = fs::remove_file(&self.0);
        for directory in self.0.ancestors() {
            let Some(names) = made.get_mut(directory) else { continue };
            *names -= 1;
            if *names == 0 {
                made.remove(directory);
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

/// What a disk of a test is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// An image file.
    Image,
    /// A loop device that is listed by a symbolic link.
    Loop,
    /// A loop device that is listed by a device node of its own, which every user can read and write.
    Node,
}

/// A device that can be listed, in the way its medium asks for.
pub struct Disk {
    // Dropped in this order.
    name: Option<Name>,
    device: Option<Loop>,
    image: PathBuf,
    scratch: Scratch,
    kind: &'static str,
}

impl Disk {
    /// Makes one of a kind (`scsi`, `ide`, `sata`) and size.
    pub fn new(medium: Medium, kind: &'static str, bytes: u64) -> Disk {
        let scratch = Scratch::new();
        let image = scratch.image("image", bytes);
        let device = (medium != Medium::Image).then(|| Loop::attach(&image, &[]));
        let directory = if kind == "ide" { "hd" } else { "sd" };
        let name = device.as_ref().map(|device| match medium {
            Medium::Node => Name::node(directory, device.path()),
            _ => Name::link(directory, device.path()),
        });
        Disk { name, device, image, scratch, kind }
    }

    /// The temporary directory.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The name by which it is listed.
    pub fn path(&self) -> &Path {
        self.name.as_ref().map_or(&self.image, Name::path)
    }

    /// The name that the kernel knows it by: the loop device, or the image file.
    pub fn device(&self) -> &Path {
        self.device.as_ref().map_or(&self.image, Loop::path)
    }

    /// The image file.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The loop device, where there is one.
    pub fn loop_device(&self) -> &Loop {
        self.device.as_ref().expect("an image file is no loop device")
    }

    /// Its entry in `VMWARE_BDWRAPPER_DEVICES`; a name below `/dev/sd` or `/dev/hd` says by itself what it is.
    pub fn entry(&self) -> String {
        let path = self.path().to_str().expect("test names are ASCII");
        match (&self.name, self.kind) {
            (Some(_), "scsi" | "ide") => path.to_owned(),
            (_, kind) => format!("{path}={kind}"),
        }
    }

    /// A program with the library, this device listed.
    pub fn run(&self, program: impl AsRef<OsStr>) -> Run {
        self.run_on(engine(), program)
    }

    /// A program with another engine.
    pub fn run_on(&self, engine: Engine, program: impl AsRef<OsStr>) -> Run {
        self.scratch.command();
        Run::new(program).with_engine(engine, &self.scratch.library(), self.entry())
    }
}
