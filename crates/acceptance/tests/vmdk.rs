//! Descriptors of virtual disks, judged by libvmdk, QEMU, sfdisk and sgdisk.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use acceptance::clients::left_out;
use acceptance::layouts::{Layout, SEEDS};
use acceptance::{
    Disk, Finding, Loop, Medium, Name, Need, Outcome, Run, Scratch, assert_same, commands, kernel_trial,
    main as harness, needs, pattern, trial, wait_for,
};
use disk::names;
use serde_json::Value;

const MIB: u64 = 1 << 20;

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/growing-a-disk.md");

const VMX: &str = ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nvirtualHW.version = \"19\"\nscsi0.present = \"TRUE\"\n\
    scsi0.virtualDev = \"lsilogic\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"system.vmdk\"\n# a comment\nguestOS = \"other\"\n";

fn main() -> ExitCode {
    let root: &[Need] = &[Need::Root];
    let devices: &[Need] = &[Need::Devices];
    let vmdkinfo = Need::Tool("vmdkinfo");
    let (qemu_img, strace) = (Need::Tool("qemu-img"), Need::Tool("strace"));
    let mut trials = vec![
        trial("create/options", &[], create_options),
        trial("create/what is refused", &[], create_refused),
        trial("create/a physical disk", devices, physical),
        trial("create/force", &[Need::Tool("sgdisk")], create_force),
        trial("create/force replaces only its own kinds", &[qemu_img], create_force_kinds),
        trial(
            "create/all or nothing",
            &[Need::Root, Need::Tool("unshare"), Need::Tool("sgdisk")],
            all_or_nothing,
        ),
        trial("create/flat", &[vmdkinfo, qemu_img], flat),
        trial("create/read by dissect", &[Need::Tool("sfdisk"), Need::Python("dissect.hypervisor")], dissect),
        trial("create/names", &[vmdkinfo], names),
        trial("partitions/mbr", &[Need::Devices, vmdkinfo, Need::Tool("sfdisk")], mbr),
        trial("partitions/gpt", &[Need::Devices, vmdkinfo, Need::Tool("sfdisk"), Need::Tool("sgdisk")], gpt),
        trial("partitions/broken tables", &[Need::Tool("sgdisk")], broken_tables),
        trial(
            "partitions/what is said to do spares the table",
            &[Need::Devices, Need::Tool("sgdisk"), Need::Tool("partx")],
            advice,
        ),
        trial(
            "partitions/numbers are those of partx",
            &[Need::Tool("partx"), Need::Tool("sgdisk")],
            numbers_of_partx,
        ),
        trial(
            "partitions/a table for smaller sectors",
            &[Need::Devices, Need::Tool("sgdisk")],
            smaller_sectors,
        ),
        trial("partitions/what stands behind an extent stays", &[Need::Tool("sgdisk")], extents_keep),
        trial("partitions/nodes of partitions", &[Need::Tool("sgdisk")], partition_nodes),
        trial("partitions/growth", &[Need::Tool("sgdisk"), Need::Tool("sfdisk")], partition_growth),
        trial("partitions/owner and mode", &[Need::Root, Need::Tool("sgdisk")], copy_owner_and_mode),
        trial("partitions/who may not read the device", &[Need::Root, Need::Tool("sgdisk")], copy_limits),
        trial("partitions/copies that are not needed", &[Need::Tool("sgdisk")], spare_copies),
        trial("partitions/a copy is nothing but a file beside", &[Need::Tool("sgdisk")], copy_beside),
        trial("growth", &[Need::Devices, vmdkinfo], growth),
        trial("check/what differs", &[], differences),
        trial("check/what it says to do works", &[Need::Tool("sgdisk")], remedies),
        trial("check/another name of the device", devices, other_name),
        trial("refresh/what is not its own stays", &[], refresh_keeps),
        trial("refresh/shrinking", &[], shrinking),
        trial("attach/and detach", &[], attach_detach),
        trial("attach/adapters", &[], attach_adapters),
        trial("attach/guests", &[], attach_guests),
        trial("attach/owner and mode", root, owner_and_mode),
        trial("attach/lists of the directory", &[Need::Root, Need::Tool("sgdisk")], directory_lists),
        trial("attach/what is refused", &[], attach_refused),
        trial("attach/snapshots", &[], snapshots),
        trial("attach/one device twice", &[Need::Devices, Need::Tool("sgdisk")], twice),
        trial("create/large sectors", devices, large_sectors),
        trial("attach/symbolic links", &[], links),
        trial("attach/links to descriptors", &[Need::Tool("sgdisk")], descriptor_links),
        trial("attach/several at once", &[], several_at_once),
        trial("attach/who comes second waits", &[], waits),
        trial("hostile/files", &[strace], hostile_files),
        trial("hostile/only files are opened", &[strace, Need::Tool("sgdisk")], opened_by_nobody),
        trial("hostile/directories that are exchanged", &[strace], exchanged),
        trial("hostile/virtual machines", &[], hostile_machines),
        trial("hostile/an unwritable directory", root, unwritable),
        trial("hostile/a full disk", &[Need::Root, Need::Tool("unshare")], full_disk),
        trial("hostile/killed", &[strace], killed),
        trial("guide/is complete", &[], guide_is_complete),
    ];
    for medium in [Medium::Image, Medium::Loop] {
        for kind in ["scsi", "ide", "sata"] {
            let needs = needs(medium, &["vmdkinfo", "qemu-img"]);
            trials.push(trial(format!("create/{medium:?} as {kind}"), &needs, move || create(medium, kind)));
        }
    }
    for reader in [Reader::Root, Reader::User] {
        let needs = |sections: &[Section]| -> Vec<Need> {
            let all = [Need::Devices, Need::Tool("setpriv")];
            all.into_iter().chain(sections.iter().flat_map(Section::needs)).collect()
        };
        for section in &GUIDE_SECTIONS {
            let (name, needs) =
                (format!("guide/{}/{reader:?}", section.title), needs(std::slice::from_ref(section)));
            let body = move || {
                let walk = Walk::new(reader);
                (section.run)(&walk);
                walk.is_undone();
            };
            trials.push(match section.title {
                VOLUME => kernel_trial(&name, "/proc/devices", "device-mapper", &needs, body),
                _ => trial(name, &needs, body),
            });
        }
        let name = format!("guide/in order/{reader:?}");
        trials.push(trial(name, &needs(&GUIDE_SECTIONS), move || guide_in_order(reader)));
    }
    let fat = &[Need::Devices, Need::Tool("unshare"), Need::Tool("mkfs.vfat")];
    trials.push(kernel_trial("refresh/on FAT", "/proc/filesystems", "vfat", fat, on_fat));
    harness(trials)
}

/// The command.
fn command() -> PathBuf {
    acceptance::library().with_file_name("vmware-bdwrapper")
}

fn vmdk(task: &str) -> Run {
    vmdk_of(&command(), task)
}

/// A copy of the command, for users who cannot reach the command itself.
fn vmdk_of(command: &Path, task: &str) -> Run {
    Run::new(command).args(["--message-format", "json", "vmdk", task])
}

fn check(file: &Path) -> Outcome {
    vmdk("check").arg(file).output()
}

fn refresh(file: &Path) -> Outcome {
    vmdk("refresh").arg(file).output()
}

fn attach(file: &Path, vmx: &Path) -> Outcome {
    vmdk("attach").arg(file).arg(vmx).output()
}

fn detach(file: &Path, vmx: &Path) -> Outcome {
    vmdk("detach").arg(file).arg(vmx).output()
}

fn create_at(entry: &str, file: &Path) -> Run {
    vmdk("create").arg(entry).arg("-o").arg(file)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An image file described as a disk: the entry, the descriptor.
fn described(scratch: &Scratch, kind: &str) -> (String, PathBuf) {
    let entry = format!("{}={kind}", scratch.image("disk.img", 128 * MIB).display());
    let file = scratch.path("test.vmdk");
    create_at(&entry, &file).output().expect_out();
    (entry, file)
}

/// Refused with one message, which has this code and is about this file or device, and nothing on the standard output.
#[track_caller]
fn refused(outcome: &Outcome, status: i32, code: &str, subject: impl AsRef<Path>) -> Finding {
    let (out, findings) = (outcome.out(), outcome.messages());
    assert_eq!((outcome.code(), out.as_str(), findings.len()), (status, "", 1), "{findings:?}");
    let finding = findings.into_iter().next().expect("it is one");
    let subject = subject.as_ref().display().to_string();
    assert_eq!((finding.verdict.as_str(), finding.code.as_str()), ("problem", code), "{finding:?}");
    assert_eq!(finding.subject.as_deref().unwrap_or_default(), subject, "{finding:?}");
    finding
}

/// The command line is wrong; the message names this.
#[track_caller]
fn misused(outcome: &Outcome, words: &str) {
    refused(outcome, 2, "usage", "").names(words);
}

/// How a descriptor differs from its device: what differs, how, and what to do.
fn differences_of(run: Run) -> Vec<[String; 3]> {
    let outcome = run.arg("--json").output();
    let document = outcome.document();
    let list = document["differences"].as_array().expect("a list");
    assert_eq!((document["equal"] == true, outcome.code()), (list.is_empty(), i32::from(!list.is_empty())));
    let field = |row: &Value, key: &str| row[key].as_str().expect("text").to_owned();
    list.iter().map(|row| ["what", "sentence", "remedy"].map(|key| field(row, key))).collect()
}

/// Asserts that this alone differs, and that the message names this.
#[track_caller]
fn differs(run: Run, what: &str, words: &str) {
    let found = differences_of(run);
    let is_it = |row: &&[String; 3]| row[0] == what;
    assert!(found.iter().find(is_it).is_some_and(|row| row[1].contains(words)), "{found:?}");
}

/// What libvmdk says of a file: the value behind each label.
fn vmdkinfo(file: &Path) -> Vec<(String, String)> {
    let outcome = Run::new("vmdkinfo").arg(file).output();
    let ended = outcome.err().contains("unable to retrieve extent") && left_out("vmdkinfo");
    let out = if ended { outcome.out() } else { outcome.expect_out() };
    let fields = out.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(label, value)| (label.trim().to_owned(), value.trim().to_owned())).collect()
}

/// The values of one label.
fn values<'a>(info: &'a [(String, String)], label: &str) -> Vec<&'a str> {
    info.iter().filter(|(found, _)| found == label).map(|(_, value)| value.as_str()).collect()
}

/// The size that libvmdk says.
fn media_size(info: &[(String, String)]) -> u64 {
    let size = values(info, "Media size")[0];
    let digits =
        size.split(['(', ' ']).find(|word| word.len() > 5 && word.bytes().all(|byte| byte.is_ascii_digit()));
    digits.unwrap_or(size.split(' ').next().expect("a number")).parse().expect("a number of bytes")
}

/// Another independent reader, of investigators.
fn dissect() {
    /// A line each: size in sectors, each extent, each key of the data base; then the first bytes, where the disk can be opened.
    const SCRIPT: &str = "\
import pathlib, sys
from dissect.hypervisor.disk.vmdk import VMDK, DiskDescriptor
file = pathlib.Path(sys.argv[1])
found = DiskDescriptor.parse(file.read_text())
print(found.attr['createType'], found.sectors)
for extent in found.extents: print(extent.access_mode, extent.sectors, extent.type, extent.filename, extent.start_sector)
print(found.ddb['ddb.adapterType'], found.ddb['ddb.uuid'])
if len(sys.argv) > 2: print(VMDK(file).size, VMDK(file).read(1024).hex())
";
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 128 * MIB);
    let divided = Run::new("sfdisk").arg("-q").arg(&image).stdin("1MiB,16MiB,83\n,,7\n").output();
    divided.expect_out();
    let file = scratch.path("test.vmdk");
    let read = |options: &[&str], more: &[&str]| {
        let run = create_at(&format!("{}=ide", image.display()), &file).arg("--force").args(options);
        run.output().expect_out();
        let run = Run::new(acceptance::python()).args(["-c", SCRIPT]).arg(&file).args(more);
        let out = run.output().expect_out();
        let (facts, rest) = out.split_once("\nide ").expect("the data base");
        let uuid = value(&file, "ddb.uuid").expect("it has one");
        let rest = rest.strip_prefix(&uuid).expect("the identity").trim().to_owned();
        (facts.to_owned(), rest)
    };
    let name = image.display();
    assert_eq!(read(&[], &[]), (format!("fullDevice 262144\nRW 262144 FLAT {name} 0"), String::new()));
    // As an ordinary image it can be read, too.
    let (facts, rest) = read(&["--flat"], &["open"]);
    assert_eq!(facts, "monolithicFlat 262144\nRW 262144 FLAT disk.img 0");
    let start = fs::read(&image).expect("it is ours");
    let digits: String = start[..1024].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(rest, format!("{} {digits}", 128 * MIB));
    let (facts, _) = read(&["--partitions", "--partition", "1"], &[]);
    let copy = facts.lines().nth(1).and_then(|line| line.split(' ').nth(3)).expect("the copy of the table");
    let expected = [
        "partitionedDevice 262144".to_owned(),
        format!("RW 2048 FLAT {copy} 0"),
        format!("RW 32768 FLAT {name} 2048"),
    ];
    assert!(facts.starts_with(&expected.join("\n")), "{facts}");
    assert_eq!(scratch.path(copy).metadata().expect("it stands beside it").len() % 512, 0);
}

fn grow(image: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(image).expect("it is ours");
    file.set_len(bytes).expect("the temporary directory can hold a sparse file of this size");
}

/// The value of a key of a descriptor.
fn value(file: &Path, key: &str) -> Option<String> {
    let text = text(file);
    let line = text.lines().find(|line| line.split(['=', ' ']).next() == Some(key))?;
    Some(line.split_once('=').expect("it has a value").1.trim().trim_matches('"').to_owned())
}

fn create(medium: Medium, kind: &'static str) {
    let disk = Disk::new(medium, kind, 128 * MIB);
    let data = pattern(MIB);
    OpenOptions::new()
        .write(true)
        .open(disk.device())
        .and_then(|file| file.write_all_at(&data, 0))
        .expect("it is ours");
    let file = disk.scratch().path("test.vmdk");
    create_at(&disk.entry(), &file).output().expect_out();
    let name = disk.path().display().to_string();
    // What the library makes a program see, by way of the library.
    let probed =
        Run::new(command()).args(["probe", "--json", "--device", &disk.entry()]).output().expect_out();
    let probed: Value = serde_json::from_str(&probed).expect("it is JSON");
    let vmware = &probed["devices"][0]["vmware"];
    let number = |geometry: &str, key: &str| vmware[geometry][key].to_string();
    let expected = [
        "# Disk DescriptorFile".to_owned(),
        "version=1".into(),
        format!("CID={}", value(&file, "CID").expect("it has one")),
        "parentCID=ffffffff".into(),
        "createType=\"fullDevice\"".into(),
        String::new(),
        "# Extent description".into(),
        format!("RW {} FLAT \"{name}\" 0", vmware["capacity_sectors"]),
        String::new(),
        "# The Disk Data Base ".into(),
        "#DDB".into(),
        String::new(),
        "ddb.virtualHWVersion = \"4\"".into(),
        format!("ddb.geometry.cylinders = \"{}\"", number("physical", "cylinders")),
        format!("ddb.geometry.heads = \"{}\"", number("physical", "heads")),
        format!("ddb.geometry.sectors = \"{}\"", number("physical", "sectors")),
        format!("ddb.geometry.biosCylinders = \"{}\"", number("bios", "cylinders")),
        format!("ddb.geometry.biosHeads = \"{}\"", number("bios", "heads")),
        format!("ddb.geometry.biosSectors = \"{}\"", number("bios", "sectors")),
        format!("ddb.uuid = \"{}\"", value(&file, "ddb.uuid").expect("it has one")),
        format!("ddb.adapterType = \"{}\"", if vmware["adapter"] == "IDE" { "ide" } else { "lsilogic" }),
    ];
    let written = text(&file);
    let lines: Vec<&str> = written.lines().filter(|line| !line.starts_with("ddb.bdwrapper.")).collect();
    assert_eq!(lines, expected);
    assert_eq!(
        written.contains("ddb.bdwrapper."),
        kind == "sata",
        "what VMware does not know is written where it must be"
    );
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (content, uuid) = (value(&file, "CID").expect("one"), value(&file, "ddb.uuid").expect("one"));
    assert!(content.len() == 8 && is_hex(&content), "{content}");
    assert!(
        uuid.len() == 47 && uuid.starts_with("60 00 C2 9") && is_hex(&uuid.replace([' ', '-'], "")),
        "{uuid}"
    );
    let info = vmdkinfo(&file);
    assert_eq!(values(&info, "Disk type"), ["Device"]);
    assert_eq!(media_size(&info), 128 * MIB);
    assert_eq!(values(&info, "Filename"), [name.as_str()]);
    check(&file).expect_out();
    // QEMU refuses the type of the disk before it looks at anything else, and takes the same extents in another type.
    let qemu = Run::new("qemu-img").arg("info").arg(&file).output();
    assert!(qemu.err().contains("Unsupported image type 'fullDevice'"), "{}", qemu.err());
    let copy = disk.scratch().path("copy.vmdk");
    fs::write(&copy, written.replace("fullDevice", "monolithicFlat")).expect("it is our directory");
    let raw = disk.scratch().path("raw");
    Run::new("qemu-img").args(["convert", "-O", "raw"]).args([&copy, &raw]).output().expect_out();
    let read = fs::read(&raw).expect("QEMU wrote it");
    assert_eq!(read.len() as u64, 128 * MIB);
    assert_same("QEMU's copy", &read[..MIB as usize], &data);
    // Every disk has an identity of its own.
    let other = disk.scratch().path("other.vmdk");
    create_at(&disk.entry(), &other).output().expect_out();
    assert_ne!(value(&file, "CID"), value(&other, "CID"));
    assert_ne!(value(&file, "ddb.uuid"), value(&other, "ddb.uuid"));
}

fn create_options() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 500_107_862_016 + 512);
    let image = image.to_str().expect("ASCII");
    let of = |options: &str, adapter: &str| {
        let file = scratch.path("test.vmdk");
        let _ = fs::remove_file(&file);
        let adapter = (!adapter.is_empty()).then(|| format!("--adapter={adapter}"));
        let outcome = create_at(&format!("{image}={options}"), &file).args(adapter).output();
        outcome.expect_out();
        check(&file).expect_out();
        let extent = text(&file).lines().find(|line| line.starts_with("RW ")).expect("it has one").to_owned();
        let number = |key: &str| value(&file, &format!("ddb.geometry.{key}")).expect("it has one");
        let geometry = [("cylinders", "heads", "sectors"), ("biosCylinders", "biosHeads", "biosSectors")];
        let geometry = geometry.map(|(c, h, s)| format!("{}/{}/{}", number(c), number(h), number(s)));
        let sectors = extent.split(' ').nth(1).expect("its length").to_owned();
        (sectors, geometry, value(&file, "ddb.adapterType").expect("it has one"), outcome.messages())
    };
    let (sectors, geometry, adapter, err) = of("scsi", "");
    // As VMware wrote it for a disk of this size.
    assert_eq!((sectors.as_str(), geometry), ("976773169", ["60801/255/63".into(), "60801/255/63".into()]));
    assert_eq!((adapter.as_str(), err), ("lsilogic", vec![]));
    let (_, geometry, adapter, _) = of("ide", "");
    assert_eq!((geometry, adapter.as_str()), (["16383/16/63".into(), "1024/255/63".into()], "ide"));
    let (_, geometry, _, _) = of("scsi,geometry=4870/200/50", "");
    assert_eq!(geometry[0], "4870/200/50");
    let (_, geometry, _, _) = of("ide,geometry=4870/200/50", "");
    assert_eq!(geometry, ["16383/16/63", "1024/200/50"]);
    let (sectors, _, _, err) = of("scsi,sector=4096", "");
    assert_eq!(sectors, "976773168");
    let codes: Vec<&str> = err.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["sector-size", "sector-size"], "{err:?}");
    err[0].names("4096").names("512");
    err[1].names("512").names("500107862528");
    // A part of a sector is none.
    grow(Path::new(image), 500_107_862_016 + 1000);
    let (sectors, _, _, err) = of("ide", "");
    assert_eq!((sectors.as_str(), err.len(), err[0].code.as_str()), ("976773169", 1, "sector-size"));
    err[0].names("488").names("500107863016");
    let probed = Run::new(command()).args(["probe", "--json", "--device", &format!("{image}=ide")]).output();
    assert_eq!(probed.code(), 0, "{}", probed.err());
    assert!(probed.findings().iter().any(|finding| finding.is("sector-size", "500107863016")));
    grow(Path::new(image), 500_107_862_016 + 512);
    for (options, adapter, word, fits) in [
        ("scsi", "buslogic", "buslogic", true),
        ("scsi", "pvscsi", "lsilogic", true),
        ("scsi", "nvme", "lsilogic", true),
        ("ide", "sata", "ide", true),
    ] {
        let (_, _, found, err) = of(options, adapter);
        assert_eq!((found.as_str(), err.is_empty()), (word, fits), "{options} {adapter}: {err:?}");
    }
    // What `check` would refuse at once.
    let file = scratch.path("other.vmdk");
    for (kind, adapter, answers, fitting) in [
        ("scsi", "ide", "SCSI", "ide"),
        ("sata", "ide", "SCSI", "ide"),
        ("ide", "lsilogic", "IDE", "scsi"),
        ("ide", "buslogic", "IDE", "scsi"),
        ("ide", "pvscsi", "IDE", "scsi"),
    ] {
        let misfit = create_at(&format!("{image}={kind}"), &file).args(["--adapter", adapter]).output();
        let said = refused(&misfit, 2, "usage", image);
        said.names(answers).names(adapter).names("--adapter").names(format!("the option {fitting}"));
        assert!(!file.exists());
    }
}

fn create_refused() {
    let scratch = Scratch::new();
    let (entry, file) = described(&scratch, "scsi");
    let before = text(&file);
    refused(&create_at(&entry, &file).output(), 1, "exists", &file).names("--force");
    assert_eq!(text(&file), before);
    let new = scratch.path("new.vmdk");
    let path = scratch.path("disk.img");
    let path = path.to_str().expect("ASCII");
    for (arguments, status, code, subject, words) in [
        (vec!["=scsi"], 2, "bad-entry", "=scsi", "begins with /"),
        (vec!["/dev=scsi"], 2, "not-a-device", "/dev", ""),
        (vec!["/nonexistent=scsi"], 1, "not-found", "/nonexistent", "attach the device"),
        (vec!["/nonexistent"], 2, "bad-entry", "/nonexistent", "=scsi, =ide or =sata"),
        (vec![entry.as_str(), "--partition", "1"], 1, "partition-table", path, "55 AA"),
        (vec![&entry, "--flat", "--partition", "1"], 2, "usage", "", "--flat"),
        (vec![&entry, "--adapter", "esdi"], 2, "usage", "", "esdi"),
        (vec![&entry, "--flat", "--partitions"], 2, "usage", "", "--flat"),
        (vec![&entry, "--partitions"], 1, "partition-table", path, "55 AA"),
    ] {
        let outcome = vmdk("create").arg("-o").arg(&new).args(&arguments).output();
        refused(&outcome, status, code, subject).names(words);
        assert!(!new.exists(), "{arguments:?}");
    }
    for bytes in [0, 511] {
        let empty = scratch.image(&format!("empty-{bytes}"), bytes).display().to_string();
        let said = refused(&create_at(&format!("{empty}=scsi"), &new).output(), 1, "empty", &empty);
        // What has some bytes is not an image file, and would be spoilt.
        let remedy = [format!("truncate --size 8G {empty}")];
        assert_eq!(said.commands(), if bytes == 0 { &remedy[..] } else { &[] });
    }
    let nowhere = scratch.path("no/such.vmdk");
    refused(&create_at(&entry, &nowhere).output(), 1, "not-found", &nowhere);
    for (name, has) in [
        ("a\"b", "a quote"),
        ("a\tb", "a control character"),
        ("a\nb", "a control character"),
        ("a\x1bb", "a control character"),
    ] {
        let image = scratch.image(name, MIB);
        let said = create_at(&format!("{}=scsi", image.display()), &new).output();
        refused(&said, 1, "unsupported", &image).names(has).names("symbolic link");
    }
    let bytes = scratch.directory().join(OsStr::from_bytes(b"\xff"));
    fs::copy(scratch.image("plain", MIB), &bytes).expect("it is our directory");
    let mut odd = bytes.into_os_string();
    odd.push("=scsi");
    let said = vmdk("create").arg(odd).arg("-o").arg(&new).output();
    refused(&said, 1, "unsupported", scratch.path("\u{fffd}")).names("UTF-8");
    // Neither the disk nor anything that is no descriptor is ever replaced.
    let image = scratch.path("disk.img");
    let link = scratch.path("link.vmdk");
    symlink(&image, &link).expect("it is our directory");
    for target in [&image, &link] {
        for options in [&[][..], &["--force"]] {
            refused(&create_at(&entry, target).args(options).output(), 1, "file-type", target);
        }
    }
    let nowhere = scratch.path("nowhere.vmdk");
    symlink("/nonexistent", &nowhere).expect("it is our directory");
    refused(&create_at("/nonexistent=scsi", &nowhere).arg("--force").output(), 1, "not-found", &nowhere);
    let letter = scratch.path("letter");
    fs::write(&letter, "Dear all,\n").expect("it is our directory");
    refused(&create_at(&entry, &letter).arg("--force").output(), 1, "malformed", &letter).names("version");
    assert_eq!(text(&letter), "Dear all,\n");
    let fifo = scratch.path("fifo");
    Run::new("mkfifo").arg(&fifo).output().expect_out();
    refused(&create_at(&entry, &fifo).arg("--force").output(), 1, "file-type", &fifo);
    for run in [create_at(&entry, scratch.directory()), create_at(&entry, scratch.directory()).arg("--force")]
    {
        refused(&run.output(), 1, "file-type", scratch.directory()).names("name a file in it");
    }
}

fn physical() {
    let scratch = Scratch::new();
    let node = Name::reserved("sd");
    Run::new("mknod").arg(node.path()).args(["-m", "666", "b", "8", "0"]).output().expect_out();
    let entry = node.path().display().to_string();
    refused(&create_at(&entry, &scratch.path("test.vmdk")).output(), 1, "physical-disk", &entry);
    // It may not exist at all; then that is what is said.
    let forced = create_at(&format!("{entry}=force"), &scratch.path("test.vmdk")).output();
    let said = forced.messages();
    assert!(said.iter().all(|finding| finding.code != "physical-disk"), "{said:?}");
}

fn create_force() {
    let scratch = Scratch::new();
    let (entry, file) = described(&scratch, "scsi");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("it is ours");
    let before = value(&file, "CID");
    create_at(&entry, &file).arg("--force").output().expect_out();
    assert_ne!(value(&file, "CID"), before);
    assert_eq!(file.metadata().expect("it exists").mode() & 0o7777, 0o640);
    assert_eq!(value(&scratch.path("test.vmdk.bak"), "CID"), before);
    // The private copies stay, whoever names them.
    let image = scratch.path("disk.img");
    Run::new("sgdisk").args(["--new=2:0:+8M", "--new=1:0:+8M"]).arg(&image).output().expect_out();
    create_at(&entry, &file).args(["--force", "--partitions"]).output().expect_out();
    let (other, divided) = (scratch.path("other.vmdk"), text(&file));
    fs::copy(&file, &other).expect("it is our directory");
    let copy = scratch.path("test-pt.vmdk");
    let bytes = fs::read(&copy).expect("it was made");
    create_at(&entry, &file).args(["--force", "--partitions", "--partition=2"]).output().expect_out();
    assert!(text(&file).contains("\"test-pt-1.vmdk\""), "{}", text(&file));
    assert_eq!(text(&scratch.path("test.vmdk.bak")), divided, "it is the only one");
    create_at(&entry, &file).arg("--force").output().expect_out();
    let none = create_at(&entry, &file).args(["--force", "--partition=3"]).output();
    refused(&none, 1, "not-found", &image).names("partition 3").names("choose from 1, 2");
    let word = create_at(&entry, &scratch.path("x.vmdk")).args(["--partitions", "--partition=x"]).output();
    misused(&word, "lsblk");
    assert_eq!(fs::read(&copy).expect("it stays"), bytes);
    check(&other).expect_out();
    check(&scratch.path("test.vmdk.bak")).expect_out();
    let before = list(scratch.directory());
    fs::create_dir(scratch.path("test.vmdk.lck")).expect("it is our directory");
    refused(&create_at(&entry, &file).arg("--force").output(), 1, "in-use", &file).names("test.vmdk.lck");
    fs::remove_dir(scratch.path("test.vmdk.lck")).expect("it is ours");
    assert_eq!(list(scratch.directory()), before);
}

fn create_force_kinds() {
    let scratch = Scratch::new();
    let (entry, file) = described(&scratch, "scsi");
    let right = text(&file);
    let is_left = |file: &Path, code: &str, words: &str| {
        let (before, names) = (fs::read(file).expect("it is ours"), list(scratch.directory()));
        refused(&create_at(&entry, file).arg("--force").output(), 1, code, file).names(words);
        assert_eq!(
            (fs::read(file).expect("it is ours"), list(scratch.directory())),
            (before, names),
            "{words}"
        );
    };
    for kind in [
        "monolithicFlat",
        "monolithicSparse",
        "twoGbMaxExtentFlat",
        "twoGbMaxExtentSparse",
        "streamOptimized",
        "vmfs",
        "vmfsSparse",
        "vmfsRawDeviceMap",
        "custom",
        "",
    ] {
        fs::write(&file, right.replace("fullDevice", kind)).expect("it is ours");
        is_left(&file, "unsupported", &format!("({kind})"));
    }
    // As QEMU makes them, VMware's own looking the same.
    for format in ["monolithicFlat", "monolithicSparse", "twoGbMaxExtentFlat"] {
        let own = scratch.path(&format!("{format}.vmdk"));
        let option = format!("subformat={format}");
        Run::new("qemu-img")
            .args(["create", "-f", "vmdk", "-o", &option])
            .arg(&own)
            .arg("16M")
            .output()
            .expect_out();
        match format {
            "monolithicSparse" => is_left(&own, "malformed", "binary"),
            _ => is_left(&own, "unsupported", format),
        }
    }
    for kind in ["fullDevice", "FULLDEVICE", "partitionedDevice"] {
        fs::write(&file, right.replace("fullDevice", kind)).expect("it is ours");
        create_at(&entry, &file).arg("--force").output().expect_out();
    }
    for _ in 0..2 {
        create_at(&entry, &file).args(["--flat", "--force"]).output().expect_out();
        assert_eq!(value(&file, "createType").as_deref(), Some("monolithicFlat"));
    }
    create_at(&entry, &file).arg("--force").output().expect_out();
    assert_eq!(value(&file, "createType").as_deref(), Some("fullDevice"));
}

/// With partitions there are two files: where the second cannot be written, the first does not stay.
fn all_or_nothing() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 64 * MIB);
    Run::new("sgdisk").arg("--new=1:0:+8M").arg(&image).output().expect_out();
    let small = scratch.path("small");
    fs::create_dir(&small).expect("it is our directory");
    // The copy has 2048 sectors and the 33 of the second table, 261 pages of memory, and the descriptor needs one more.
    let script = |pages: u32, prepare: &str, arguments: &str| {
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs '{small}' && cd '{small}' && {prepare}
             '{command}' --message-format json vmdk create '{image}=scsi' -o test.vmdk --partitions {arguments} >&2; echo $?; ls -A",
            size = pages * 4096,
            small = small.display(),
            command = command().display(),
            image = image.display(),
        );
        let outcome = Run::new("unshare").args(["--mount", "sh", "-c", &script]).output();
        assert_eq!(outcome.code(), 0, "{}", outcome.err());
        outcome
    };
    let is_full = |outcome: &Outcome| {
        let messages = outcome.messages();
        let about = messages.iter().map(|message| (message.code.as_str(), message.subject.as_deref()));
        assert_eq!(Vec::from_iter(about), [("io", Some("test.vmdk"))], "{messages:?}");
        messages[0].names("No space left on device");
    };
    let outcome = script(261, "", "");
    assert_eq!(outcome.out(), "1\n", "{}", outcome.err());
    is_full(&outcome);
    let outcome = script(262, "", "");
    assert_eq!(outcome.out(), "0\ntest-pt.vmdk\ntest.vmdk\n", "{}", outcome.err());
    // Replacing one, and a foreign file by the first name.
    let whole = format!(
        "'{}' vmdk create '{}=scsi' -o test.vmdk && echo x > test-pt.vmdk;",
        command().display(),
        image.display()
    );
    let outcome = script(263, &whole, "--force");
    assert!(outcome.out().ends_with("\n1\ntest-pt.vmdk\ntest.vmdk\n"), "{}{}", outcome.out(), outcome.err());
    is_full(&outcome);
    let outcome = script(264, &whole, "--force");
    assert!(
        outcome.out().ends_with("\n0\ntest-pt-1.vmdk\ntest-pt.vmdk\ntest.vmdk\ntest.vmdk.bak\n"),
        "{}{}",
        outcome.out(),
        outcome.err()
    );
    // Where the user cannot write, and where the descriptor stands already.
    let before = list(scratch.directory());
    let copies = Scratch::new();
    let copy = copies.copy(&command(), "vmware-bdwrapper");
    let file = scratch.path("test.vmdk");
    let entry = format!("{}=scsi", image.display());
    let create = vmdk_of(&copy, "create").args([&entry, "--partitions", "-o"]).arg(&file);
    refused(&create.nobody().output(), 1, "permission-denied", scratch.path("test-pt.vmdk"));
    assert_eq!(list(scratch.directory()), before);
    fs::write(&file, "").expect("it is our directory");
    refused(&create_at(&entry, &file).arg("--partitions").output(), 1, "exists", &file);
    assert_eq!(list(scratch.directory()).len(), before.len() + 1);
}

fn flat() {
    let scratch = Scratch::new();
    let image = scratch.image("a disk.img", 64 * MIB);
    let data = pattern(64 * MIB);
    fs::write(&image, &data).expect("it is ours");
    let entry = format!("{}=scsi", image.display());
    let file = scratch.path("test.vmdk");
    create_at(&entry, &file).arg("--flat").output().expect_out();
    assert!(text(&file).contains("RW 131072 FLAT \"a disk.img\" 0\n"), "{}", text(&file));
    assert_eq!(values(&vmdkinfo(&file), "Disk type"), ["Monolithic flat"]);
    let raw = scratch.path("raw");
    Run::new("qemu-img").args(["convert", "-O", "raw"]).args([&file, &raw]).output().expect_out();
    assert_same("QEMU's copy", &fs::read(&raw).expect("QEMU wrote it"), &data);
    check(&file).expect_out();
    grow(&image, 65 * MIB);
    differs(vmdk("check").arg(&file), "grown", "from 131072 to 133120 sectors");
    refresh(&file).expect_out();
    check(&file).expect_out();
    let info = Run::new("qemu-img").args(["info", "--output=json"]).arg(&file).output().expect_out();
    let info: Value = serde_json::from_str(&info).expect("it is JSON");
    assert_eq!(info["virtual-size"], 65 * MIB);
    // No library, so no kind of disk; the adapter says the geometry.
    let geometry = |options: &str, adapter: Option<&str>| {
        let plain = scratch.path("plain.vmdk");
        let _ = fs::remove_file(&plain);
        let run = create_at(&format!("{}{options}", image.display()), &plain).arg("--flat").args(adapter);
        run.output().expect_out();
        check(&plain).expect_out();
        ["cylinders", "biosCylinders"]
            .map(|key| value(&plain, &format!("ddb.geometry.{key}")).expect("it has one"))
    };
    let [scsi, ide] = ["=scsi", "=ide"].map(|kind| geometry(kind, None));
    assert_ne!(scsi, ide);
    for (options, adapter, expected) in [
        ("", None, &scsi),
        ("=serial=x", None, &scsi),
        ("", Some("--adapter=nvme"), &scsi),
        ("", Some("--adapter=ide"), &ide),
    ] {
        assert_eq!(&geometry(options, adapter), expected, "{options} {adapter:?}");
    }
    let entry_of = format!("{}=scis", image.display());
    let said = create_at(&entry_of, &scratch.path("x.vmdk")).arg("--flat").output();
    refused(&said, 2, "bad-entry", &entry_of).names("'scis'");
    // Elsewhere the name has its directory.
    fs::create_dir(scratch.path("vm")).expect("it is our directory");
    let elsewhere = scratch.path("vm/test.vmdk");
    create_at(&entry, &elsewhere).arg("--flat").output().expect_out();
    assert!(text(&elsewhere).contains(&format!("FLAT \"{}\" 0\n", image.display())));
    check(&elsewhere).expect_out();
    let vmx = scratch.path("a.vmx");
    fs::write(&vmx, VMX).expect("it is our directory");
    attach(&file, &vmx).expect_out();
    assert!(
        text(&vmx).ends_with("scsi0:1.present = \"TRUE\"\nscsi0:1.fileName = \"test.vmdk\"\n"),
        "{}",
        text(&vmx)
    );
}

fn names() {
    let scratch = Scratch::new();
    let image = scratch.image("Größe, $x 'y'.img", MIB);
    let link = scratch.path("link=1");
    symlink(&image, &link).expect("it is our directory");
    let entry = format!("{}=scsi", link.display());
    refused(&create_at(&entry, &scratch.path("x.vmdk")).output(), 2, "bad-entry", &entry)
        .names("symbolic link");
    let file = scratch.path("Größe.vmdk");
    create_at(&format!("{}=scsi", image.display()), &file).output().expect_out();
    assert!(text(&file).contains("version=1\nencoding=\"UTF-8\"\n"), "{}", text(&file));
    assert_eq!(values(&vmdkinfo(&file), "Filename"), [image.to_str().expect("UTF-8")]);
    check(&file).expect_out();
    let vmx = scratch.path("a.vmx");
    fs::write(&vmx, VMX).expect("it is our directory");
    attach(&file, &vmx).expect_out();
    assert!(text(&vmx).contains("scsi0:1.fileName = \"Größe.vmdk\"\n"));
    detach(&file, &vmx).expect_out();
    assert_eq!(text(&vmx), VMX);
    fs::write(&vmx, VMX.replace("UTF-8", "windows-1252")).expect("it is ours");
    refused(&attach(&file, &vmx), 1, "unsupported", &file).names("ASCII");
}

/// The whole disk that a descriptor describes, read by its extents.
fn assembled(file: &Path) -> Vec<u8> {
    let mut disk = Vec::new();
    for line in text(file).lines().filter(|line| line.starts_with("RW ")) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let bytes = words[1].parse::<usize>().expect("a number") * 512;
        let mut part = vec![0; bytes];
        if words[2] == "FLAT" {
            let (name, offset) =
                words[3].trim_start_matches('"').rsplit_once("\" ").expect("a name and an offset");
            let path = file.parent().expect("a directory").join(name);
            let from = fs::File::open(&path).expect("it can be read");
            from.read_exact_at(&mut part, offset.parse::<u64>().expect("a number") * 512)
                .expect("it is long enough");
        }
        disk.extend(part);
    }
    disk
}

/// The partitions that sfdisk finds: number, start and length each.
fn partitions(disk: &Path) -> Vec<(u64, u64, u64)> {
    let json = Run::new("sfdisk").arg("--json").arg(disk).output().expect_out();
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    let list = json["partitiontable"]["partitions"].as_array().expect("a list").clone();
    let number = |node: &Value| {
        let node = node.as_str().expect("a name");
        let digits = node.rfind(|character: char| !character.is_ascii_digit()).map_or(0, |at| at + 1);
        node[digits..].parse().expect("it ends with a number")
    };
    let sectors = |value: &Value| value.as_u64().expect("a number");
    list.iter().map(|part| (number(&part["node"]), sectors(&part["start"]), sectors(&part["size"]))).collect()
}

/// Divides a loop device and judges the descriptors that are made of its partitions.
fn divided(script: &str) {
    let disk = Disk::new(Medium::Loop, "scsi", 128 * MIB);
    let image = disk.image();
    fs::write(image, pattern(128 * MIB)).expect("it is ours");
    let device = disk.device();
    Run::new("sfdisk")
        .args(["--quiet", "--wipe=always", "--no-reread"])
        .arg(device)
        .stdin(script)
        .output()
        .expect_out();
    let all = partitions(device);
    let is_extended = |part: &(u64, u64, u64)| {
        let inside = |other: &&(u64, u64, u64)| {
            part.0 < 5 && other.0 > 4 && (part.1..part.1 + part.2).contains(&other.1)
        };
        all.iter().any(|other| inside(&other))
    };
    let data: Vec<_> = all.iter().filter(|part| !is_extended(part)).copied().collect();
    let original = fs::read(device).expect("root can");
    let bytes = |part: &(u64, u64, u64)| part.1 as usize * 512..(part.1 + part.2) as usize * 512;
    for chosen in data.iter().map(|part| vec![*part]).chain([data.clone()]) {
        let file = disk.scratch().path(&format!("{}.vmdk", chosen[0].0 + 100 * chosen.len() as u64));
        let numbers = if chosen.len() == data.len() && data.len() > 1 { &[][..] } else { &chosen[..] };
        let numbers = numbers.iter().map(|part| format!("--partition={}", part.0));
        create_at(&disk.entry(), &file).arg("--partitions").args(numbers).output().expect_out();
        let info = vmdkinfo(&file);
        assert_eq!(values(&info, "Disk type"), ["Device paritioned"], "libvmdk spells it so");
        assert_eq!(media_size(&info), 128 * MIB);
        let extents = text(&file).lines().filter(|line| line.starts_with("RW ")).count();
        assert_eq!(values(&info, "Number of extents"), [extents.to_string()]);
        check(&file).expect_out();
        let whole = assembled(&file);
        assert_eq!(whole.len(), original.len());
        for part in &data {
            if chosen.contains(part) {
                assert_same("a chosen partition", &whole[bytes(part)], &original[bytes(part)]);
            } else {
                assert!(whole[bytes(part)].iter().all(|byte| *byte == 0), "{part:?} shows");
            }
        }
        // The gap behind the MBR, where a boot loader stands.
        assert_same("the beginning", &whole[..2048 * 512], &original[..2048 * 512]);
        let raw = disk.scratch().path("whole.img");
        fs::write(&raw, &whole).expect("it is our directory");
        assert_eq!(partitions(&raw), all, "sfdisk finds the same table");
        if script.contains("gpt") {
            let verified = Run::new("sgdisk").arg("--verify").arg(&raw).output().expect_out();
            assert!(verified.contains("No problems found"), "{verified}");
        }
    }
    let none = create_at(&disk.entry(), &disk.scratch().path("x.vmdk"))
        .args(["--partitions", "--partition=99"])
        .output();
    refused(&none, 1, "not-found", disk.path()).names("partition 99");
    // The guest puts a boot loader into its copy, and on the device a byte of the table changes.
    let file = disk.scratch().path("again.vmdk");
    create_at(&disk.entry(), &file).arg("--partitions").output().expect_out();
    let write = |path: &Path, at| {
        OpenOptions::new().write(true).open(path).and_then(|disk| disk.write_all_at(b"guest", at))
    };
    for at in [100, 2040 * 512] {
        write(&disk.scratch().path("again-pt.vmdk"), at).expect("it is our directory");
    }
    check(&file).expect_out();
    write(device, 440).expect("root can");
    differs(vmdk("check").arg(&file), "partition-table", "another partition table");
    refresh(&file).expect_out();
    check(&file).expect_out();
    let whole = assembled(&file);
    assert!([100, 440, 2040 * 512].iter().all(|at| whole[*at..].starts_with(b"guest")));
    let old = assembled(&disk.scratch().path("again.vmdk.bak"));
    assert_eq!(old[440..445], original[440..445], "the old descriptor still has its copy");
    fs::remove_file(disk.scratch().path("again-pt-1.vmdk")).expect("refresh wrote it");
    differs(vmdk("check").arg(&file), "partition-table", "(No such file or directory)");
    refresh(&file).expect_out();
    check(&file).expect_out();
}

fn mbr() {
    divided(
        "label: dos\nstart=2048, size=20000, type=7\nstart=30000, size=200000, type=5\nstart=32048, size=30000\nstart=70000, size=9000\n",
    );
    divided("label: dos\nstart=4096, size=20000\nstart=63000, size=5000, type=ef\n");
}

fn gpt() {
    divided("label: gpt\nstart=2048, size=20000\nstart=40000, size=50000\nstart=100000, size=2048\n");
}

fn broken_tables() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 16 * MIB);
    let entry = format!("{}=scsi", image.display());
    let file = scratch.path("test.vmdk");
    let attempt = |words: &str| {
        refused(&create_at(&entry, &file).arg("--partitions").output(), 1, "partition-table", &image)
            .names(words);
        let left: Vec<_> = fs::read_dir(scratch.directory())
            .expect("ours")
            .map(|entry| entry.expect("ours").file_name())
            .collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains("vmdk")), "{left:?}");
    };
    let divide = |arguments: &[&str]| {
        Run::new("sgdisk").arg("--zap-all").arg(&image).output().expect_out();
        Run::new("sgdisk").args(arguments).arg(&image).output().expect_out();
    };
    attempt("55 AA");
    divide(&["--new=1:0:+4M", "--new=2:0:0"]);
    let right = fs::read(&image).expect("it is ours");
    let last = right.len() - 512;
    for (at, words) in [
        (512 + 40, "primary GPT whose header has a wrong checksum"),
        (1024 + 40, "primary GPT whose checksum is wrong"),
        (last + 40, "backup GPT whose header has a wrong checksum"),
        (last - 32 * 512 + 40, "backup GPT whose checksum is wrong"),
        (510, "has a GPT without the protective MBR"),
        (446, "perhaps a file system"),
        (446 + 8, "has a protective MBR that does not begin in sector 1"),
    ] {
        let mut wrong = right.clone();
        wrong[at] ^= 0x11;
        fs::write(&image, wrong).expect("it is ours");
        attempt(words);
    }
    fs::write(&image, &right).expect("it is ours");
    grow(&image, 8 * MIB);
    attempt("give the device its former size again");
    grow(&image, 16 * MIB);
    divide(&["--new=1:0:+4M", "--hybrid=1"]);
    attempt("hybrid");
    let device = create_at(&format!("{entry},sector=4096"), &file).arg("--partitions").output();
    refused(&device, 1, "sector-size", &image).names("4096").names("leave the table");
    Run::new("sgdisk").arg("--zap-all").arg(&image).output().expect_out();
    let device = create_at(&format!("{entry},sector=4096"), &file).arg("--partitions").output();
    refused(&device, 1, "sector-size", &image).names("4096").names("use the whole device");
}

/// The partitions that the kernel's tools find, by number: first sector, sectors, type.
fn by_partx(disk: &Path) -> String {
    Run::new("partx").args(["--raw", "-o", "NR,START,SECTORS"]).arg(disk).output().expect_out()
}

/// Of random tables, the partitions have the numbers that partx(8) gives them.
fn numbers_of_partx() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", MIB);
    println!("seeds {SEEDS:?}");
    for seed in SEEDS {
        let layout = Layout::of(seed);
        layout.write(&image);
        let found = by_partx(&image);
        let numbers = found.lines().skip(1).map(|line| {
            let mut words = line.split(' ').map(|word| word.parse::<u64>().expect("a number"));
            let mut next = || words.next().expect("three columns");
            (next() as u32, next(), next())
        });
        let numbers: Vec<_> = numbers.filter(|(number, ..)| !layout.is_extended(*number)).collect();
        layout.judge(&scratch, &image, &numbers);
    }
}

/// Runs every command that a hint has between apostrophes; how many there were.
fn obeyed(hint: &str) -> usize {
    let commands = commands(hint);
    for line in &commands {
        let line = line.replace("vmware-bdwrapper ", &format!("'{}' ", command().display()));
        Run::new("sh").args(["-c", &line]).output();
    }
    commands.len()
}

/// Whatever is said of a damaged table: where it is done, the table is as it was before the damage, or no worse.
fn advice() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 8 * MIB);
    let (entry, file) = (format!("{}=scsi", image.display()), scratch.path("test.vmdk"));
    let last = 8 * MIB as usize;
    for bytes in [512, 4096] {
        // A loop device tells the tools of the size of its sectors.
        let attached = || {
            let size = bytes.to_string();
            Loop::attach(&image, &["--sector-size", &size])
        };
        fs::write(&image, pattern(8 * MIB)).expect("it is ours");
        let device = attached();
        let sgdisk = |arguments: &[&str]| {
            Run::new("sgdisk").args(arguments).arg(device.path()).output().expect_out();
        };
        sgdisk(&["--zap-all"]);
        sgdisk(&["--new=1:1M:+1M", "--new=3:4M:+1M"]);
        drop(device);
        let right = fs::read(&image).expect("it is ours");
        let table = by_partx(attached().path());
        assert_eq!(table.lines().count(), 3, "{table}");
        let places = [510, 446, bytes + 40, 2 * bytes + 40, last - bytes + 40, last - 16384 - bytes + 40];
        // Each alone, and each pair.
        for (one, other) in places
            .iter()
            .flat_map(|one| places.iter().map(move |other| (*one, *other)))
            .filter(|(one, other)| one <= other)
        {
            let mut wrong = right.clone();
            wrong[one] ^= 0x11;
            if other != one {
                wrong[other] ^= 0x11;
            }
            fs::write(&image, &wrong).expect("it is ours");
            let _ = fs::remove_file(&file);
            create_at(&entry, &file).output().expect_out();
            // One that has partitions, for `check`.
            fs::write(&file, text(&file).replace("fullDevice", "partitionedDevice")).expect("it is ours");
            let failed = create_at(&entry, &scratch.path("new.vmdk")).arg("--partitions").output();
            assert_eq!(failed.code(), 1, "{one} {other}");
            let failed = failed.messages();
            let found = differences_of(vmdk("check").arg(&file));
            let said = format!("{failed:?} {found:?}");
            let hints = failed.into_iter().map(|finding| finding.remedy);
            let hints = Vec::from_iter(hints.chain(found.into_iter().map(|[_, _, remedy]| remedy)));
            let repairs = hints.iter().filter(|hint| hint.contains("sgdisk --move-second-header")).count();
            let count: usize = hints.iter().map(|hint| obeyed(hint)).sum();
            let now = fs::read(&image).expect("it is ours");
            if repairs > 0 {
                assert_eq!(bytes, 512, "{said}");
                assert_eq!(by_partx(&image), table, "{one} {other}: {said}");
                let verified = Run::new("sgdisk").arg("--verify").arg(&image).output().expect_out();
                assert!(verified.contains("No problems found"), "{verified}");
            } else {
                assert!(now == wrong, "{one} {other}: after {count} commands the disk is another: {said}");
            }
            assert_eq!(
                repairs > 0,
                bytes == 512 && is_restored(&places, one, other),
                "{one} {other}: {said}"
            );
            if bytes == 4096 {
                assert!(
                    said.contains("made for 4096-byte sectors") || is_lost(&places, one, other),
                    "{said}"
                );
            }
        }
    }
}

/// Whether a copy of the GPT is left from which all is made again. `places` are two in the MBR, header and entries of the primary
/// GPT, header and entries of the backup.
fn is_restored(places: &[usize; 6], one: usize, other: usize) -> bool {
    let is = |range: std::ops::Range<usize>| places[range].iter().any(|at| [one, other].contains(at));
    // Without the protective MBR sgdisk repairs nothing.
    if is(0..1) { !is(2..6) } else { !(is(1..2) || is(2..4) && is(4..6)) }
}

/// Whether nothing is left that says what it was made for.
fn is_lost(places: &[usize; 6], one: usize, other: usize) -> bool {
    let is = |index: usize| [one, other].contains(&places[index]);
    (is(0) || is(1)) && (is(2) || is(3)) || is(2) && is(4)
}

/// A GPT for sectors of 512 bytes on a device of 4096.
fn smaller_sectors() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 64 * MIB);
    Run::new("sgdisk").args(["--new=1:0:+8M", "--new=2:0:+8M"]).arg(&image).output().expect_out();
    let before = fs::read(&image).expect("it is ours");
    let device = Loop::attach(&image, &["--sector-size", "4096"]);
    let entry = format!("{}=scsi", device.path().display());
    let file = scratch.path("test.vmdk");
    let run = || create_at(&entry, &file).arg("--partitions");
    let failed = run().output();
    let failed = refused(&failed, 1, "sector-size", device.path());
    failed.names("512-byte").names("leave the table");
    let option =
        create_at(&format!("{}=scsi,sector=4096", image.display()), &file).arg("--partitions").output();
    refused(&option, 1, "sector-size", &image).names("Omit the option sector");
    assert_eq!(obeyed(&failed.remedy), 1);
    assert!(fs::read(&image).expect("it is ours") == before);
    run().output().expect_out();
}

fn partition_growth() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 64 * MIB);
    let sgdisk = |arguments: &[&str]| Run::new("sgdisk").args(arguments).arg(&image).output().expect_out();
    sgdisk(&["--new=1:2048:+8M", "--new=2:40960:+8M"]);
    let file = scratch.path("test.vmdk");
    let entry = format!("{}=scsi", image.display());
    create_at(&entry, &file).args(["--partitions", "--partition=2"]).output().expect_out();
    grow(&image, 128 * MIB);
    sgdisk(&["--move-second-header", "--delete=2", "--new=2:40960:+64M"]);
    assert_eq!(check(&file).code(), 1);
    refresh(&file).expect_out();
    assert!(
        text(&file).contains("RW 131072 FLAT \"") && text(&file).contains("\" 40960\n"),
        "{}",
        text(&file)
    );
    let raw = scratch.path("whole.img");
    fs::write(&raw, assembled(&file)).expect("it is our directory");
    assert_eq!(partitions(&raw), partitions(&image));
    assert_eq!(text(&file).lines().filter(|line| line.contains("ZERO")).count(), 2, "{}", text(&file));
    // The partition is gone.
    sgdisk(&["--delete=2", "--new=2:43008:+8M"]);
    let before = text(&file);
    refused(&refresh(&file), 1, "not-found", &image).names("sector 40960");
    assert_eq!(text(&file), before);
}

/// What stands behind an extent, and who may write it, stays.
fn extents_keep() {
    let scratch = Scratch::new();
    let (_, file) = described_partition(&scratch);
    let lines: Vec<String> = text(&file)
        .lines()
        .map(|line| match line {
            _ if line.ends_with("disk.img\" 40960") => format!("RDONLY{}  partitionUUID a b", &line[2..]),
            _ if line.ends_with("pt.vmdk\" 0") => format!("{line} partitionUUID {{x}}"),
            _ => line.to_owned(),
        })
        .collect();
    fs::write(&file, lines.join("\n") + "\n").expect("it is ours");
    change_table(&scratch, "a");
    refresh(&file).expect_out();
    let text = text(&file);
    for kept in
        ["RDONLY 16384 FLAT \"", "disk.img\" 40960 partitionUUID a b\n", "pt-1.vmdk\" 0 partitionUUID {x}\n"]
    {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    assert_eq!(text.matches("partitionUUID").count(), 2, "{text}");
    check(&file).expect_out();
}

/// As VirtualBox writes it with -relative: the parts are devices of their own.
fn partition_nodes() {
    let scratch = Scratch::new();
    let (_, file) = described_partition(&scratch);
    let node = scratch.image("sda2", 8 * MIB);
    let name = scratch.path("disk.img").display().to_string();
    let nodes = text(&file).replace(&format!("\"{name}\" 40960"), &format!("\"{}\" 0", node.display()));
    fs::write(&file, &nodes).expect("it is ours");
    for outcome in [check(&file), refresh(&file)] {
        refused(&outcome, 1, "unsupported", &file).names(node.display());
    }
    let doctor = Run::new(command()).args(["doctor", "--json", "--vmdk"]).arg(&file).output().findings();
    let said = doctor.iter().find(|finding| finding.subject.as_deref() == file.to_str());
    let said = said.unwrap_or_else(|| panic!("{doctor:?}"));
    assert_eq!((said.verdict.as_str(), said.code.as_str()), ("problem", "unsupported"), "{said:?}");
    said.names(node.display());
    assert_eq!(text(&file), nodes);
}

/// An image with two partitions in a GPT, the second described: the entry, the descriptor.
fn described_partition(scratch: &Scratch) -> (String, PathBuf) {
    let image = scratch.image("disk.img", 64 * MIB);
    Run::new("sgdisk").args(["--new=1:2048:+8M", "--new=2:40960:+8M"]).arg(&image).output().expect_out();
    let (entry, file) = (format!("{}=scsi", image.display()), scratch.path("test.vmdk"));
    create_at(&entry, &file).args(["--partitions", "--partition=2"]).output().expect_out();
    (entry, file)
}

/// Changes the table on the image, so that the copies of it are old.
fn change_table(scratch: &Scratch, name: &str) {
    Run::new("sgdisk")
        .arg(format!("--change-name=1:{name}"))
        .arg(scratch.path("disk.img"))
        .output()
        .expect_out();
}

/// The user, the group and the mode of a file.
fn rights(path: &Path) -> (u32, u32, u32) {
    let status = path.metadata().expect("it exists");
    (status.uid(), status.gid(), status.mode() & 0o7777)
}

fn give(path: &Path, user: u32, group: u32, mode: u32) {
    chown(path, Some(user), Some(group)).expect("root can");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("root can");
}

fn copy_owner_and_mode() {
    let scratch = Scratch::new();
    let (entry, file) = described_partition(&scratch);
    let rights = |name: &str| rights(&scratch.path(name));
    let give = |name: &str, user, group, mode| give(&scratch.path(name), user, group, mode);
    assert_eq!(rights("test-pt.vmdk").0, 0);
    give("test.vmdk", 65534, 65534, 0o600);
    give("test-pt.vmdk", 65534, 1234, 0o640);
    change_table(&scratch, "a");
    refresh(&file).expect_out();
    assert_eq!(
        (rights("test.vmdk"), rights("test-pt-1.vmdk")),
        ((65534, 65534, 0o600), (65534, 1234, 0o640))
    );
    // Its owner can use it.
    let copies = Scratch::new();
    let copy = copies.copy(&command(), "vmware-bdwrapper");
    vmdk_of(&copy, "check").arg(&file).nobody().output().expect_out();
    // Where the copy is lost, those of the descriptor count; a program it never becomes.
    fs::remove_file(scratch.path("test-pt-1.vmdk")).expect("it is ours");
    refresh(&file).expect_out();
    assert_eq!(rights("test-pt-1.vmdk"), (65534, 65534, 0o600));
    give("test-pt-1.vmdk", 65534, 65534, 0o6711);
    create_at(&entry, &file).args(["--force", "--partitions"]).output().expect_out();
    assert_eq!(rights("test-pt-2.vmdk"), (65534, 65534, 0o711));
    create_at(&entry, &file).arg("--force").output().expect_out();
    create_at(&entry, &file).args(["--force", "--partitions"]).output().expect_out();
    assert_eq!(rights("test-pt-3.vmdk"), (65534, 65534, 0o600));
    vmdk_of(&copy, "check").arg(&file).nobody().output().expect_out();
    // What another may not read is not put into a copy that he may, whatever names lead to it.
    let copy_name = scratch.path("test-pt-3.vmdk");
    let secret = [&b"secret"[..], &fs::read(&copy_name).expect("it is ours")[6..]].concat();
    let hidden = scratch.path("hidden");
    fs::write(&hidden, &secret).expect("it is our directory");
    give("hidden", 0, 0, 0o600);
    let right = text(&file);
    fs::hard_link(&hidden, scratch.path("hard.vmdk")).expect("it is our directory");
    fs::write(&file, right.replace("test-pt-3.vmdk", "hard.vmdk")).expect("it is ours");
    change_table(&scratch, "hard");
    refresh(&file).expect_out();
    assert!(fs::read(scratch.path("test-pt-4.vmdk")).expect("it was made").starts_with(b"secret"));
    assert_eq!(rights("test-pt-4.vmdk"), (0, 0, 0o600));
    let two = "RW 1 FLAT \"hard.vmdk\" 0\nRW 2047 FLAT \"test-pt-3.vmdk\" 1\n";
    fs::write(&file, right.replace("RW 2048 FLAT \"test-pt-3.vmdk\" 0\n", two)).expect("it is ours");
    assert!(text(&file).contains(two), "{right}");
    change_table(&scratch, "two");
    let before = list(scratch.directory());
    for outcome in [refresh(&file), create_at(&entry, &file).args(["--force", "--partitions"]).output()] {
        refused(&outcome, 1, "unsupported", &file).names("chown(1) and chmod(1)");
    }
    assert_eq!(list(scratch.directory()), before);
    fs::write(&file, right).expect("it is ours");
    // Who cannot give it away does not have it under his own name.
    fs::set_permissions(scratch.directory(), Permissions::from_mode(0o777)).expect("it is ours");
    give("test-pt-3.vmdk", 0, 0, 0o644);
    change_table(&scratch, "b");
    let before = list(scratch.directory());
    let nobody = vmdk_of(&copy, "refresh").arg(&file).nobody().output();
    refused(&nobody, 1, "permission-denied", scratch.path("test-pt.vmdk")).names("present owner");
    assert_eq!(list(scratch.directory()), before);
}

/// The private copy shows what stands before the partitions, so it is for nobody who may not read the device.
fn copy_limits() {
    let scratch = Scratch::new();
    let (entry, file) = described_partition(&scratch);
    let image = scratch.path("disk.img");
    let rights = |name: &str| rights(&scratch.path(name));
    let give = |name: &str, user, group, mode| give(&scratch.path(name), user, group, mode);
    assert_eq!(rights("test-pt.vmdk"), (0, 0, 0o644), "as the image is");
    fs::set_permissions(&image, Permissions::from_mode(0o640)).expect("it is ours");
    let other = scratch.path("other.vmdk");
    create_at(&entry, &other).arg("--partitions").output().expect_out();
    assert_eq!((rights("other.vmdk").2, rights("other-pt.vmdk")), (0o644, (0, 0, 0o600)));
    change_table(&scratch, "a");
    refresh(&file).expect_out();
    assert_eq!(rights("test-pt-1.vmdk"), (0, 0, 0o640), "the group that may read the device");
    give("test-pt-1.vmdk", 0, 1234, 0o664);
    change_table(&scratch, "b");
    refresh(&file).expect_out();
    assert_eq!(rights("test-pt-2.vmdk"), (0, 1234, 0o600));
    give("test-pt-2.vmdk", 65534, 65534, 0o644);
    change_table(&scratch, "c");
    let before = list(scratch.directory());
    for outcome in [refresh(&file), create_at(&entry, &file).args(["--force", "--partitions"]).output()] {
        refused(&outcome, 1, "permission-denied", &file).names("user 65534");
    }
    assert_eq!(list(scratch.directory()), before);
    chown(&image, Some(65534), None).expect("root can");
    refresh(&file).expect_out();
    assert_eq!(rights("test-pt-3.vmdk"), (65534, 65534, 0o600));
}

/// What a directory gives to new files it does not give to those that replace others.
fn directory_lists() {
    let scratch = Scratch::new();
    let (_, file) = described_partition(&scratch);
    let (vmx, log) = (scratch.path("a.vmx"), scratch.path("trace"));
    fs::write(&vmx, VMX).expect("it is our directory");
    fs::write(&log, "").expect("it is our directory");
    let old = scratch.path("test-pt.vmdk");
    for path in [&file, &vmx, &log, &old] {
        fs::set_permissions(path, Permissions::from_mode(0o640)).expect("it is ours");
    }
    // acl(5): the user nobody may read and write, as far as the mask says.
    let entries =
        [(1u16, 6u16, u32::MAX), (2, 6, 65534), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)];
    let entry = |(tag, rights, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let acl = [vec![2, 0, 0, 0], entries.map(entry).concat()].concat();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(scratch.directory(), "system.posix_acl_default", &acl, flags).expect("root can");
    let has_list = |path: &Path| {
        let found = rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0; 256][..]);
        assert_eq!(path.metadata().expect("it exists").mode() & 0o777, 0o640, "{}", path.display());
        found.is_ok()
    };
    change_table(&scratch, "a");
    refresh(&file).expect_out();
    attach(&file, &vmx).expect_out();
    let traced = Run::new(command())
        .args(["trace", "--device"])
        .arg(format!("{}=scsi", scratch.path("disk.img").display()));
    assert_eq!(traced.arg("-o").arg(&log).args(["--", "true"]).output().code(), 0);
    assert!(text(&log).contains("vmware-bdwrapper"), "{}", text(&log));
    for path in [&file, &vmx, &log, &scratch.path("test-pt-1.vmdk")] {
        assert!(!has_list(path), "{} is for more than the one that it replaces", path.display());
    }
    // One of the file's own stays; its mask is what the group's bits of the mode say.
    let own = [(1u16, 6u16, u32::MAX), (2, 4, 65534), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let own = [vec![2, 0, 0, 0], own.map(entry).concat()].concat();
    for path in [&file, &vmx, &scratch.path("test-pt-1.vmdk")] {
        rustix::fs::setxattr(path, "system.posix_acl_access", &own, flags).expect("root can");
    }
    detach(&file, &vmx).expect_out();
    change_table(&scratch, "b");
    refresh(&file).expect_out();
    for path in [&file, &vmx, &scratch.path("test-pt-2.vmdk")] {
        assert!(has_list(path), "{}", path.display());
    }
}

fn spare_copies() {
    let scratch = Scratch::new();
    let (entry, file) = described_partition(&scratch);
    assert!(!check(&file).expect_out().contains("delete"));
    let name = file.display();
    // The copies that can go, and which other file each needs to go with.
    let spare = |out: &str| -> Vec<(String, String)> {
        let lines = out.lines().filter(|line| line.contains("delete"));
        let last = |text: &str| text.rsplit('/').next().expect("a name").to_owned();
        lines
            .map(|line| {
                if let Some(rest) = line.strip_prefix(&format!("{name} no longer uses ")) {
                    let (copy, rest) = rest.split_once(". Once you do not need ").expect("two names");
                    return (last(copy), last(rest.strip_suffix(", delete both.").expect("its end")));
                }
                let rest = line.strip_prefix(&format!("{name} does not use ")).expect("the file");
                let (copy, rest) = rest.split_once(',').expect("the name");
                assert_eq!(rest, " nor does an older descriptor beside it; delete it.");
                (last(copy), String::new())
            })
            .collect()
    };
    let with = |copies: &[(&str, &str)]| -> Vec<(String, String)> {
        copies.iter().map(|(copy, older)| ((*copy).to_owned(), (*older).to_owned())).collect()
    };
    change_table(&scratch, "a");
    assert_eq!(spare(&refresh(&file).expect_out()), with(&[("test-pt.vmdk", "test.vmdk.bak")]));
    change_table(&scratch, "b");
    assert_eq!(spare(&check(&file).out()), with(&[("test-pt.vmdk", "test.vmdk.bak")]));
    let left = with(&[("test-pt-1.vmdk", "test.vmdk.bak"), ("test-pt.vmdk", "")]);
    assert_eq!(spare(&refresh(&file).expect_out()), left);
    // Neither a descriptor of such a name, nor the disk itself, nor names of others.
    fs::copy(&file, scratch.path("test-pt-7.vmdk")).expect("it is our directory");
    for name in ["test-pt-x.vmdk", "test-pt-1.vmdk.bak", "tests-pt-1.vmdk", "test-pt-.vmdk"] {
        fs::write(scratch.path(name), [1; 512]).expect("it is our directory");
    }
    symlink("disk.img", scratch.path("test-pt-8.vmdk")).expect("it is our directory");
    let out = check(&file).expect_out();
    assert_eq!(spare(&out), left);
    let json: Value = serde_json::from_str(&vmdk("check").arg("--json").arg(&file).output().expect_out())
        .expect("it is JSON");
    let names = ["test-pt-1.vmdk", "test-pt.vmdk"].map(|name| scratch.path(name).display().to_string());
    assert_eq!(json["unnamed_copies"], serde_json::json!(names));
    // A copy of another name, as other programs give it.
    fs::rename(scratch.path("test-pt-2.vmdk"), scratch.path("raw.mbr")).expect("it is ours");
    fs::write(&file, text(&file).replace("test-pt-2.vmdk", "raw.mbr")).expect("it is ours");
    let out = create_at(&entry, &file).arg("--force").output().expect_out();
    assert_eq!(
        spare(&out),
        with(&[("raw.mbr", "test.vmdk.bak"), ("test-pt-1.vmdk", ""), ("test-pt.vmdk", "")])
    );
    for name in ["test-pt-1.vmdk", "test-pt.vmdk", "raw.mbr"] {
        fs::remove_file(scratch.path(name)).expect("it stays");
    }
    let disk = scratch.image("test-pt.vmdk", MIB);
    create_at(&format!("{}=scsi", disk.display()), &file).arg("--force").output().expect_out();
    assert!(!check(&file).expect_out().contains("delete"));
}

fn copy_beside() {
    let scratch = Scratch::new();
    let (_, file) = described_partition(&scratch);
    let right = text(&file);
    let secret = b"nobody else may read this";
    let content = fs::read(scratch.path("test-pt.vmdk")).expect("it was made");
    // The same table, and a secret where the guest's boot loader would stand.
    let secrets = scratch.path("secrets");
    fs::create_dir(&secrets).expect("it is our directory");
    let elsewhere = secrets.join("test-pt.vmdk");
    fs::write(&elsewhere, [secret, &content[secret.len()..]].concat()).expect("it is our directory");
    let link = scratch.path("link.vmdk");
    symlink(&elsewhere, &link).expect("it is our directory");
    Run::new("mkfifo").arg(scratch.path("fifo.vmdk")).output().expect_out();
    let absolute = elsewhere.display().to_string();
    for name in [
        absolute.as_str(),
        "secrets/test-pt.vmdk",
        "./secrets/../secrets/test-pt.vmdk",
        "link.vmdk",
        "fifo.vmdk",
        "..",
        "",
    ] {
        fs::write(&file, right.replace("\"test-pt.vmdk\"", &format!("\"{name}\""))).expect("it is ours");
        let found = check(&file);
        assert_eq!(found.code(), 1, "{name}: {}", found.err());
        let refreshed = refresh(&file);
        for entry in fs::read_dir(scratch.directory()).expect("ours").map(|entry| entry.expect("ours")) {
            let is_file = entry.file_type().expect("it exists").is_file();
            let path = entry.path();
            assert!(
                !is_file || !fs::read(&path).expect("it is ours").starts_with(secret),
                "{name}: {} has it",
                path.display()
            );
        }
        // What is in the way is as good as lost.
        if refreshed.code() == 0 {
            check(&file).expect_out();
        }
    }
}

fn growth() {
    let disk = Disk::new(Medium::Loop, "scsi", 128 * MIB);
    let data = pattern(128 * MIB);
    fs::write(disk.image(), &data).expect("it is ours");
    let file = disk.scratch().path("test.vmdk");
    create_at(&disk.entry(), &file).output().expect_out();
    let content = value(&file, "CID");
    check(&file).expect_out();
    grow(disk.image(), 256 * MIB);
    check(&file).expect_out();
    disk.loop_device().resize();
    differs(vmdk("check").arg(&file), "grown", "from 262144 to 524288 sectors");
    differs(vmdk("check").arg(&file), "geometry", "1022/9/57, and the descriptor 1008/5/52");
    let name = disk.path().display();
    let refreshed = refresh(&file).expect_out();
    assert!(refreshed.contains("524288 sectors (before: 262144)"), "{refreshed}");
    assert_eq!(check(&file).expect_out(), format!("{} describes {name} as it is.\n", file.display()));
    assert_eq!(value(&file, "CID"), content);
    assert_eq!(media_size(&vmdkinfo(&file)), 256 * MIB);
    assert_eq!(media_size(&vmdkinfo(&disk.scratch().path("test.vmdk.bak"))), 128 * MIB);
    let after = fs::read(disk.device()).expect("root can");
    assert_same("the data", &after[..data.len()], &data);
    assert!(refresh(&file).expect_out().contains("nothing was changed"));
    assert!(!disk.scratch().path("test.vmdk.bak.1").exists());
    // Made for an image file, which it no longer is.
    fs::write(&file, text(&file).replace("fullDevice", "monolithicFlat")).expect("it is ours");
    differs(vmdk("check").arg(&file), "kind", "");
}

fn differences() {
    let scratch = Scratch::new();
    let (entry, file) = described(&scratch, "scsi");
    let what = |run: Run| {
        let outcome = run.arg(&file).arg("--json").output();
        let document = outcome.document();
        let list = document["differences"].as_array().expect("a list");
        let what: Vec<String> =
            list.iter().map(|entry| entry["what"].as_str().expect("a word").to_owned()).collect();
        assert!(list.iter().all(|entry| {
            ["sentence", "remedy"].iter().all(|key| entry[key].as_str().expect("text").ends_with('.'))
        }));
        assert_eq!(document["equal"], what.is_empty());
        assert_eq!(outcome.code() == 0, what.is_empty());
        assert_eq!(document["sectors"], 262_144);
        (what, document["device_sectors"].clone())
    };
    assert_eq!(what(vmdk("check")), (vec![], 262_144.into()));
    let image = scratch.path("disk.img");
    grow(&image, 64 * MIB);
    assert_eq!(
        what(vmdk("check")),
        (vec!["shrunk".into(), "geometry".into(), "bios-geometry".into()], 131_072.into())
    );
    grow(&image, 128 * MIB);
    let ide = entry.replace("=scsi", "=ide");
    assert_eq!(what(vmdk("check").args(["--device", &ide])).0, ["adapter", "geometry", "bios-geometry"]);
    let environment = format!("/x=scsi:{ide}");
    assert_eq!(
        what(vmdk("check").env(names::DEVICES, environment)).0,
        ["adapter", "geometry", "bios-geometry"]
    );
    refused(&vmdk("check").args(["--device", "/x=scsi"]).arg(&file).output(), 2, "usage", &file).names("/x");
    fs::remove_file(&image).expect("it is ours");
    assert_eq!(what(vmdk("check")), (vec!["absent".into()], Value::Null));
    fs::create_dir(&image).expect("it is our directory");
    assert_eq!(what(vmdk("check")).0, ["absent"]);
    refused(&refresh(&file), 1, "not-a-device", &image);
}

/// Commands in sentences can be pasted into a shell, and what they make fits.
fn remedies() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("a $b")).expect("it is our directory");
    let image = scratch.image("a $b/disk.img", 64 * MIB);
    Run::new("sgdisk").args(["--new=1:2048:+8M", "--new=2:40960:+8M"]).arg(&image).output().expect_out();
    let file = scratch.path("a $b/test.vmdk");
    let entry = |options: &str| format!("{}={options}", image.display());
    // Runs the last command of a hint.
    let obey = |hint: &str| {
        let line = commands(hint).pop().unwrap_or_else(|| panic!("{hint}"));
        let words = line.strip_prefix("vmware-bdwrapper ").unwrap_or_else(|| panic!("{hint}")).to_owned();
        let line = format!("'{}' {words}", command().display());
        Run::new("sh").args(["-c", &line]).output().expect_out();
        words
    };
    let with = |entry: &str| vmdk("check").arg("--device").arg(entry).arg(&file);
    // All differences are done with what is said of the first.
    let first = || differences_of(vmdk("check").arg(&file)).swap_remove(0);
    let create = |options: &[&str]| {
        create_at(&entry("scsi"), &file).arg("--force").args(options).output().expect_out();
    };
    let ide = entry("ide,geometry=4870/200/50");
    for (options, repeated) in [
        (&["--partitions", "--partition=2"][..], &["--partitions --partition 2 --force"][..]),
        (&["--partitions", "--adapter=nvme"], &["--adapter nvme --partitions --force"]),
        (&["--adapter=pvscsi"], &["test.vmdk\" --force"]),
    ] {
        create(options);
        let found = differences_of(with(&ide));
        let adapter =
            options.iter().find_map(|option| option.strip_prefix("--adapter=")).unwrap_or("lsilogic");
        let [what, sentence, remedy] = &found[0];
        assert_eq!(what, "adapter");
        assert!(sentence.contains("IDE") && sentence.contains(adapter), "{sentence}");
        let before = text(&file);
        let line = obey(remedy);
        assert!(repeated.iter().all(|words| line.contains(words)), "{line}");
        with(&ide).output().expect_out();
        let extents = |text: &str| text.lines().filter(|line| line.starts_with("RW ")).count();
        assert_eq!(extents(&text(&file)), extents(&before));
    }
    // Growth, and a partition table that is damaged: refresh alone cannot help.
    create(&["--partitions", "--partition=2"]);
    let right = fs::read(&image).expect("it is ours");
    let mut wrong = right.clone();
    wrong[512 + 40] ^= 0x11;
    fs::write(&image, wrong).expect("it is ours");
    let [what, sentence, remedy] = first();
    assert_eq!(what, "partition-table");
    assert!(sentence.contains("primary GPT"), "{sentence}");
    assert_eq!(obeyed(&remedy), 2, "{remedy}");
    check(&file).expect_out();
    create(&[]);
    grow(&image, 65 * MIB);
    obey(&first()[2]);
    check(&file).expect_out();
    grow(&image, 64 * MIB);
    obey(&refused(&refresh(&file), 1, "different", &image).remedy);
    check(&file).expect_out();
    let vmx = scratch.path("a $b/a.vmx");
    fs::write(&vmx, VMX).expect("it is our directory");
    attach(&file, &vmx).expect_out();
    obey(&refused(&attach(&file, &vmx), 1, "exists", &vmx).remedy);
    assert_eq!(text(&vmx), VMX);
}

fn other_name() {
    let disk = Disk::new(Medium::Loop, "scsi", 128 * MIB);
    let file = disk.scratch().path("test.vmdk");
    create_at(&disk.entry(), &file).output().expect_out();
    let device = disk.device().display().to_string();
    let run = |entry: &str| vmdk("check").args(["--device", entry]).arg(&file);
    let same = |entry: &str| run(entry).output();
    let out = same(&format!("{device}=scsi")).expect_out();
    assert_eq!(out, format!("{} describes {device} as it is.\n", file.display()));
    differs(run(&format!("{device}=ide")), "adapter", "IDE");
    // The environment's entry counts by whatever name, as it does to the library.
    let environment = format!("/dev/sd/none:{device}=ide");
    differs(vmdk("check").env(names::DEVICES, environment).arg(&file), "adapter", "IDE");
    let other = disk.scratch().image("other", MIB);
    refused(&same(&format!("{}=scsi", other.display())), 2, "usage", &file).names(other.display());
    refused(&same("/nonexistent=scsi"), 2, "usage", &file).names("/nonexistent");
    grow(disk.image(), 256 * MIB);
    disk.loop_device().resize();
    vmdk("refresh").args(["--device", &format!("{device}=scsi")]).arg(&file).output().expect_out();
    assert!(
        text(&file).contains(&format!("RW 524288 FLAT \"{}\" 0", disk.path().display())),
        "{}",
        text(&file)
    );
    check(&file).expect_out();
    // A name that leads nowhere is not the same as another that does.
    fs::write(&file, text(&file).replace(disk.path().to_str().expect("ASCII"), "/dev/sd/nowhere"))
        .expect("it is ours");
    refused(&same("/nonexistent=scsi"), 2, "usage", &file).names("/nonexistent");
}

fn refresh_keeps() {
    let scratch = Scratch::new();
    let (_, file) = described(&scratch, "scsi");
    // As somebody else writes it: other blanks, other line ends, a comment, an unknown key, no BIOS geometry.
    let lines: Vec<String> =
        text(&file).lines().filter(|line| !line.contains("bios")).map(|line| format!("{line}\r\n")).collect();
    let odd =
        lines.concat().replace("cylinders = ", "cylinders=").replace("RW 262144 FLAT", "rw  262144\tFLAT")
            + "# mine\r\nddb.mine = \"262144\"\r\nnonsense";
    fs::write(&file, &odd).expect("it is ours");
    fs::set_permissions(&file, Permissions::from_mode(0o604)).expect("it is ours");
    grow(&scratch.path("disk.img"), 256 * MIB);
    refresh(&file).expect_out();
    let expected = odd
        .replacen("262144", "524288", 1)
        .replace("\"1008\"", "\"1022\"")
        .replace("heads = \"5\"", "heads = \"9\"")
        .replace("sectors = \"52\"", "sectors = \"57\"");
    assert_eq!(text(&file), expected);
    assert_eq!(file.metadata().expect("it exists").mode() & 0o7777, 0o604);
    assert_eq!(text(&scratch.path("test.vmdk.bak")), odd);
    // One backup is enough, but what the user has changed or put there stays.
    let mut size = 256;
    let mut again = |backup: &str| {
        size += 1;
        grow(&scratch.path("disk.img"), size * MIB);
        let before = text(&file);
        let said = refresh(&file).expect_out();
        assert!(said.contains(&format!("The old file is {}.\n", scratch.path(backup).display())), "{said}");
        assert_eq!(text(&scratch.path(backup)), before);
    };
    again("test.vmdk.bak");
    again("test.vmdk.bak");
    let changed = text(&scratch.path("test.vmdk.bak")) + "# mine\n";
    fs::write(scratch.path("test.vmdk.bak"), &changed).expect("it is ours");
    again("test.vmdk.bak.1");
    again("test.vmdk.bak.1");
    fs::remove_file(scratch.path("test.vmdk.bak.1")).expect("it is ours");
    fs::create_dir(scratch.path("test.vmdk.bak.1")).expect("it is our directory");
    again("test.vmdk.bak.2");
    fs::copy(&file, scratch.path("copy")).expect("it is our directory");
    fs::rename(scratch.path("copy"), scratch.path("test.vmdk.bak.2")).expect("it is ours");
    again("test.vmdk.bak.3");
    again("test.vmdk.bak.3");
    assert_eq!(text(&scratch.path("test.vmdk.bak")), changed);
    // In use.
    grow(&scratch.path("disk.img"), 512 * MIB);
    let (lock, now) = (scratch.path("test.vmdk.lck"), text(&file));
    fs::write(&lock, "").expect("it is our directory");
    refused(&refresh(&file), 1, "in-use", &file).names(lock.display());
    fs::remove_file(&lock).expect("it is ours");
    fs::create_dir(&lock).expect("it is our directory");
    fs::write(lock.join("M12345.lck"), "").expect("it is ours");
    refused(&refresh(&file), 1, "in-use", &file).names(lock.display());
    fs::remove_dir_all(&lock).expect("it is ours");
    symlink("/nonexistent", &lock).expect("it is our directory");
    refused(&refresh(&file), 1, "in-use", &file).names(lock.display());
    fs::remove_file(&lock).expect("it is ours");
    assert_eq!(text(&file), now);
    // Extents that are not the device's end.
    fs::write(&file, expected.replace("# Extent", "RW 63 FLAT \"x.mbr\" 0\r\n# Extent")).expect("it is ours");
    fs::write(scratch.path("x.mbr"), [0; 63 * 512]).expect("it is our directory");
    refused(&refresh(&file), 1, "unsupported", &file).names("vmdk create");
}

fn shrinking() {
    let scratch = Scratch::new();
    let (_, file) = described(&scratch, "ide");
    grow(&scratch.path("disk.img"), 64 * MIB);
    let before = text(&file);
    let said = refused(&refresh(&file), 1, "different", scratch.path("disk.img"));
    assert_eq!(said.commands(), [format!("vmware-bdwrapper vmdk refresh --shrink {}", file.display())]);
    assert_eq!(text(&file), before);
    vmdk("refresh").arg("--shrink").arg(&file).output().expect_out();
    assert!(text(&file).contains("RW 131072 FLAT"));
}

fn attach_detach() {
    let scratch = Scratch::new();
    let (_, file) = described(&scratch, "scsi");
    let vmx = scratch.path("a.vmx");
    for original in [
        VMX.to_owned(),
        VMX.replace('\n', "\r\n"),
        format!("\u{feff}{VMX}"),
        format!("{VMX}\0\u{1}broken \"\n"),
        // Other programs give keys twice; of the encoding, which may be any, no byte changes.
        format!("{VMX}{VMX}").replacen("scsi0:0", "scsi0:2", 2),
        VMX.replace("UTF-8", "x-unknown").replace("a comment", "a|20\u{e4}"),
    ] {
        fs::write(&vmx, &original).expect("it is our directory");
        attach(&file, &vmx).expect_out();
        let end = if original.contains("\r\n") { "\r\n" } else { "\n" };
        let added = [
            "scsi0:1.present = \"TRUE\"",
            "scsi0:1.fileName = \"test.vmdk\"",
            "scsi0:1.deviceType = \"rawDisk\"",
            "",
        ];
        assert_eq!(text(&vmx), original.clone() + &added.join(end));
        refused(&attach(&file, &vmx), 1, "exists", &vmx).names("scsi0:1");
        // VMware adds lines of its own, and cares for no case.
        let used = text(&vmx).replace("scsi0:1.present", "SCSI0:1.Present") + "scsi0:1.redo = \"\"" + end;
        fs::write(&vmx, used).expect("it is ours");
        detach(&file, &vmx).expect_out();
        assert_eq!(text(&vmx), original);
        refused(&detach(&file, &vmx), 1, "not-found", &vmx).names(file.display());
    }
    let backups = list(scratch.directory()).iter().filter(|name| name.contains(".bak")).count();
    assert_eq!(backups, 1, "{:?}", list(scratch.directory()));
    // Without an end of the last line, and with bytes that are no UTF-8.
    let bytes = [VMX.as_bytes(), b"annotation = \"\xff\xe4\""].concat();
    fs::write(&vmx, &bytes).expect("it is our directory");
    attach(&file, &vmx).expect_out();
    assert!(fs::read(&vmx).expect("it is ours").starts_with(&[&bytes[..], b"\nscsi0:1.present"].concat()));
    detach(&file, &vmx).expect_out();
    assert_eq!(fs::read(&vmx).expect("it is ours"), [&bytes[..], b"\n"].concat());
    // A line twice: both go.
    fs::write(&vmx, format!("{VMX}scsi0:1.fileName = test.vmdk\nscsi0:1.fileName = \"test.vmdk\"\n"))
        .expect("it is ours");
    detach(&file, &vmx).expect_out();
    assert_eq!(text(&vmx), VMX);
    // A descriptor that is gone.
    attach(&file, &vmx).expect_out();
    fs::rename(&file, scratch.path("moved.vmdk")).expect("it is ours");
    detach(&file, &vmx).expect_out();
    assert_eq!(text(&vmx), VMX);
    // Another directory, another way of writing the name.
    fs::create_dir(scratch.path("vm")).expect("it is our directory");
    let elsewhere = scratch.path("vm/b.vmx");
    fs::write(&elsewhere, VMX).expect("it is our directory");
    let moved = scratch.path("vm/../moved.vmdk");
    attach(&moved, &elsewhere).expect_out();
    let name = scratch.path("moved.vmdk").canonicalize().expect("it exists");
    assert!(
        text(&elsewhere).contains(&format!("fileName = \"{}\"\n", name.display())),
        "{}",
        text(&elsewhere)
    );
    let from_there = vmdk("detach").args(["moved.vmdk"]).arg(&elsewhere);
    refused(&from_there.output(), 1, "not-found", &elsewhere).names("moved.vmdk");
    detach(&scratch.path("moved.vmdk"), &elsewhere).expect_out();
    assert_eq!(text(&elsewhere), VMX);
}

fn attach_adapters() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 16 * MIB);
    let vmx = scratch.path("a.vmx");
    for (kind, adapter, slot, added) in [
        ("scsi", "", "", "scsi0:1"),
        ("scsi", "buslogic", "", "scsi1.present scsi1.virtualDev scsi1:0"),
        ("scsi", "pvscsi", "", "scsi1.present scsi1.virtualDev scsi1:0"),
        ("ide", "", "", "ide0:0"),
        ("sata", "", "", "sata0.present sata0:0"),
        ("scsi", "nvme", "", "nvme0.present nvme0:0"),
        ("scsi", "", "sata1:29", "sata1.present sata1:29"),
        ("ide", "", "ide1:1", "ide1:1"),
        ("scsi", "", "SCSI0:15", "scsi0:15"),
    ] {
        let file = scratch.path("test.vmdk");
        let _ = fs::remove_file(&file);
        fs::write(&vmx, VMX).expect("it is our directory");
        let adapter = (!adapter.is_empty()).then(|| format!("--adapter={adapter}"));
        create_at(&format!("{}={kind}", image.display()), &file).args(adapter.clone()).output().expect_out();
        let slot = (!slot.is_empty()).then(|| format!("--slot={slot}"));
        vmdk("attach").args([&file, &vmx]).args(slot).output().expect_out();
        let text = text(&vmx);
        let keys: Vec<&str> =
            text[VMX.len()..].lines().map(|line| line.split(" = ").next().expect("a key")).collect();
        let place = added.split(' ').next_back().expect("a place");
        let mut expected: Vec<String> =
            added.split(' ').filter(|word| word.contains('.')).map(str::to_owned).collect();
        expected.extend([".present", ".fileName", ".deviceType"].map(|end| format!("{place}{end}")));
        assert_eq!(keys, expected);
        if let Some(adapter) = adapter.filter(|_| added.contains("virtualDev")) {
            assert!(
                text.contains(&format!("scsi1.virtualDev = \"{}\"", &adapter["--adapter=".len()..])),
                "{text}"
            );
        }
        detach(&file, &vmx).expect_out();
    }
}

/// A controller that is added is one for which the guest has a driver; one that is there is used as it is.
fn attach_guests() {
    let scratch = Scratch::new();
    let (_, file) = described(&scratch, "scsi");
    let vmx = scratch.path("a.vmx");
    for (guest, slot, added) in [
        ("windows9-64", "scsi1:0", "scsi1.virtualDev = \"lsisas1068\"\n"),
        ("winVista", "scsi1:0", "scsi1.virtualDev = \"lsisas1068\"\n"),
        ("winXPPro", "scsi1:0", "scsi1.virtualDev = \"lsilogic\"\n"),
        ("ubuntu-64", "scsi1:0", "scsi1.virtualDev = \"lsilogic\"\n"),
        ("windows9-64", "scsi0:1", ""),
    ] {
        let machine = VMX.replace("\"other\"", &format!("\"{guest}\""));
        fs::write(&vmx, &machine).expect("it is our directory");
        vmdk("attach").args([&file, &vmx]).args(["--slot", slot]).output().expect_out();
        let text = text(&vmx);
        let lines: String = text[machine.len()..]
            .lines()
            .filter(|line| line.contains("virtualDev"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(lines, added, "{guest}");
    }
}

fn owner_and_mode() {
    let scratch = Scratch::new();
    let (_, file) = described(&scratch, "scsi");
    let vmx = scratch.path("a.vmx");
    fs::write(&vmx, VMX).expect("it is our directory");
    fs::set_permissions(&vmx, Permissions::from_mode(0o751)).expect("it is ours");
    chown(&vmx, Some(1234), Some(4321)).expect("root can");
    attach(&file, &vmx).expect_out();
    let status = vmx.metadata().expect("it exists");
    assert_eq!((status.mode() & 0o7777, status.uid(), status.gid()), (0o751, 1234, 4321));
    // Who may write it but cannot give it its owner does not change it.
    let before = text(&vmx);
    fs::set_permissions(scratch.directory(), Permissions::from_mode(0o777)).expect("it is ours");
    fs::set_permissions(&vmx, Permissions::from_mode(0o666)).expect("it is ours");
    let copy = scratch.copy(&command(), "vmware-bdwrapper");
    let nobody = vmdk_of(&copy, "detach").args([&file, &vmx]).nobody().output();
    refused(&nobody, 1, "permission-denied", &vmx).names("present owner");
    assert_eq!(text(&vmx), before);
}

fn attach_refused() {
    let scratch = Scratch::new();
    let (_, file) = described(&scratch, "scsi");
    let vmx = scratch.path("a.vmx");
    let with = |lines: &str| fs::write(&vmx, format!("{VMX}{lines}")).expect("it is our directory");
    for lock in ["a.vmx.lck", "test.vmdk.lck"] {
        with("");
        for is_directory in [true, false] {
            let path = scratch.path(lock);
            if is_directory { fs::create_dir(&path) } else { fs::write(&path, "") }
                .expect("it is our directory");
            let locked = scratch.path(lock.trim_end_matches(".lck"));
            for outcome in [attach(&file, &vmx), detach(&file, &vmx)] {
                refused(&outcome, 1, "in-use", &locked).names(path.display());
            }
            if is_directory { fs::remove_dir(&path) } else { fs::remove_file(&path) }.expect("it is ours");
        }
    }
    // Controllers that old virtual hardware has not got.
    for (version, slot, needed) in [("9", "sata0:0", 10), ("12", "nvme0:0", 13)] {
        fs::write(&vmx, VMX.replace("\"19\"", &format!("\"{version}\""))).expect("it is ours");
        let old = vmdk("attach").args([&file, &vmx]).args(["--slot", slot]).output();
        let said = refused(&old, 1, "unsupported", &vmx);
        said.names(format!("hardware {version}")).names(format!("{} needs {needed}", &slot[..4]));
        fs::write(&vmx, VMX.replace("\"19\"", &format!("\"{needed}\""))).expect("it is ours");
        vmdk("attach").args([&file, &vmx]).args(["--slot", slot]).output().expect_out();
    }
    with("");
    let at = |slot: &str| vmdk("attach").args([&file, &vmx]).args(["--slot", slot]).output();
    refused(&at("scsi0:0"), 1, "in-use", &vmx).names("scsi0:0");
    misused(&at("scsi0:7"), "scsi3:15 without unit 7");
    misused(&at("ide2:0"), "ide0:0 to ide1:1");
    with("sata0.present = \"FALSE\"\nide0:0.present = \"FALSE\"\n");
    refused(&at("sata0:0"), 1, "unsupported", &vmx).names("another controller");
    refused(&at("ide0:0"), 1, "in-use", &vmx).names("ide0:0");
    with("");
    refused(&at("ide1:0"), 1, "unsupported", &file).names("lsilogic").names("ide1:0").names("scsi0:0");
    with("checkpoint.vmState = \"a.vmss\"\n");
    refused(&attach(&file, &vmx), 1, "in-use", &vmx).names("resume");
    with("encryption.data = \"x\"\n");
    refused(&attach(&file, &vmx), 1, "unsupported", &vmx).names("in VMware");
    fs::write(&vmx, "guestOS = \"other\"\n").expect("it is ours");
    refused(&attach(&file, &vmx), 1, "malformed", &vmx).names("config.version");
    refused(&attach(&vmx, &vmx), 1, "malformed", &vmx).names("no version");
    let none = scratch.path("no.vmx");
    refused(&attach(&file, &none), 1, "not-found", &none);
    misused(&vmdk("attach").arg(&file).output(), "VMX");
    let alone = Run::new(command()).arg("vmdk").output();
    assert_eq!((alone.code(), alone.out().as_str()), (2, ""), "{}", alone.err());
    assert!(alone.err().contains("Commands:\n  create "), "{}", alone.err());
}

/// What a snapshot is based on stays as it is.
fn snapshots() {
    let scratch = Scratch::new();
    let (entry, file) = described(&scratch, "scsi");
    let vmx = scratch.path("a.vmx");
    fs::write(&vmx, VMX).expect("it is our directory");
    grow(&scratch.path("disk.img"), 256 * MIB);
    let content = value(&file, "CID").expect("it has one");
    let head = |hint: &str, parent: &str| {
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID={parent}\ncreateType=\"twoGbMaxExtentSparse\"\n{hint}"
        )
    };
    let snapshot = scratch.path("test-000001.vmdk");
    let absolute = format!("parentFileNameHint=\"{}\"\n", file.display());
    // VMware's sparse extents have their descriptor behind the first sector.
    let mut sparse = b"KDMV".to_vec();
    sparse.resize(512, 0);
    sparse[28] = 1;
    sparse.extend(head("parentFileNameHint=\"test.vmdk\"\n", &content).into_bytes());
    sparse.resize(4096, 0);
    for text_of in [
        head("parentFileNameHint=\"test.vmdk\"\n", "01234567").into_bytes(),
        head(&absolute, &content).into_bytes(),
        head("", &content.to_uppercase()).into_bytes(),
        sparse,
    ] {
        fs::write(&snapshot, text_of).expect("it is our directory");
        let before = list(scratch.directory());
        for outcome in [refresh(&file), attach(&file, &vmx), create_at(&entry, &file).arg("--force").output()]
        {
            refused(&outcome, 1, "in-use", &file).names("test-000001.vmdk").names("remove the snapshot");
        }
        assert_eq!(list(scratch.directory()), before);
    }
    // Those of others.
    for text_of in
        [head("parentFileNameHint=\"other.vmdk\"\n", &content), head("", "01234567"), head("", "ffffffff")]
    {
        fs::write(&snapshot, text_of).expect("it is ours");
        attach(&file, &vmx).expect_out();
        detach(&file, &vmx).expect_out();
    }
    refresh(&file).expect_out();
}

/// Two disks on one device would destroy what is on it.
fn twice() {
    let scratch = Scratch::new();
    let (entry, file) = described_partition(&scratch);
    let (vmx, other) = (scratch.path("a.vmx"), scratch.path("other.vmdk"));
    fs::write(&vmx, VMX).expect("it is our directory");
    let device = Loop::attach(&scratch.path("disk.img"), &[]);
    let name = Name::link("sd", device.path());
    let is_held = format!("is held by {}", device.path().display());
    attach(&file, &vmx).expect_out();
    // VMware opens it without `run`, which would refuse it.
    let (flat, second) = (scratch.path("flat.vmdk"), scratch.path("second.vmx"));
    fs::write(&second, VMX).expect("it is our directory");
    for held in [create_at(&entry, &flat).arg("--flat").output(), attach(&flat, &second)] {
        held.expect_out();
        held.says("in-use", &is_held, "losetup --detach");
    }
    let again = |entry: &str, options: &[&str]| {
        create_at(entry, &other).arg("--force").args(options).output().expect_out();
        attach(&other, &vmx)
    };
    refused(&again(&entry, &[]), 1, "duplicate", &vmx).names(scratch.path("disk.img").display());
    let said = refused(&again(&entry, &["--partitions"]), 1, "duplicate", &vmx);
    said.names("scsi0:1");
    assert_eq!(
        said.commands(),
        [format!("vmware-bdwrapper vmdk detach {} {}", file.display(), vmx.display())]
    );
    // Another partition of it is another thing.
    again(&entry, &["--partitions", "--partition=1"]).expect_out();
    for file in [&file, &other] {
        detach(file, &vmx).expect_out();
    }
    // One device by two names.
    create_at(&name.path().display().to_string(), &file).arg("--force").output().expect_out();
    attach(&file, &vmx).expect_out();
    refused(&again(&format!("{}=scsi", device.path().display()), &[]), 1, "duplicate", &vmx)
        .names(name.path().display());
}

fn large_sectors() {
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 16 * MIB);
    let device = Loop::attach(&image, &["--sector-size", "4096"]);
    let created =
        create_at(&format!("{}=scsi", device.path().display()), &scratch.path("test.vmdk")).output();
    created.expect_out();
    let name = device.path().display().to_string();
    let said = created.messages();
    let [finding] = said.as_slice() else { panic!("{said:?}") };
    let about = [Some(&*finding.verdict), Some(&*finding.code), finding.subject.as_deref()];
    assert_eq!(about, [Some("warning"), Some("sector-size"), Some(&*name)], "{finding:?}");
    assert_eq!(finding.names("4096").commands(), [format!("losetup --sector-size 512 {name}")]);
}

fn links() {
    let scratch = Scratch::new();
    let (_, file) = described(&scratch, "scsi");
    fs::create_dir(scratch.path("real")).expect("it is our directory");
    let (real, link) = (scratch.path("real/a.vmx"), scratch.path("a.vmx"));
    fs::write(&real, VMX).expect("it is our directory");
    symlink(&real, &link).expect("it is our directory");
    attach(&file, &link).expect_out();
    assert!(link.symlink_metadata().expect("it exists").is_symlink());
    assert!(text(&real).contains("scsi0:1"));
    assert_eq!(text(&scratch.path("real/a.vmx.bak")), VMX);
    detach(&file, &link).expect_out();
    // The lock of the file itself counts.
    fs::create_dir(scratch.path("real/a.vmx.lck")).expect("it is our directory");
    refused(&attach(&file, &link), 1, "in-use", &link).names("real/a.vmx.lck");
    // One that leads nowhere, and one to where nothing can be written.
    let nowhere = scratch.path("nowhere.vmx");
    symlink("/nonexistent/a.vmx", &nowhere).expect("it is our directory");
    refused(&attach(&file, &nowhere), 1, "not-found", &nowhere);
    let version = scratch.path("version.vmx");
    symlink("/proc/version", &version).expect("it is our directory");
    refused(&attach(&file, &version), 1, "malformed", &version).names("config.version");
}

/// What a descriptor names stands beside it, not beside a link to it.
fn descriptor_links() {
    let scratch = Scratch::new();
    let real = Scratch::new();
    let (entry, file) = described_partition(&real);
    let (link, vmx) = (scratch.path("link.vmdk"), scratch.path("a.vmx"));
    symlink(&file, &link).expect("it is our directory");
    fs::write(&vmx, VMX).expect("it is our directory");
    let names = list(scratch.directory());
    let is_link = || link.symlink_metadata().is_ok_and(|status| status.is_symlink());
    check(&link).expect_out();
    attach(&link, &vmx).expect_out();
    assert!(text(&vmx).contains(&format!("scsi0:1.fileName = \"{}\"\n", file.display())), "{}", text(&vmx));
    for name in [&link, &file] {
        refused(&attach(name, &vmx), 1, "exists", &vmx).names("scsi0:1");
    }
    detach(&link, &vmx).expect_out();
    assert_eq!(text(&vmx), VMX);
    // A machine that has it by the link.
    fs::write(&vmx, format!("{VMX}scsi0:3.fileName = \"link.vmdk\"\n")).expect("it is ours");
    refused(&attach(&file, &vmx), 1, "exists", &vmx).names("scsi0:3");
    detach(&file, &vmx).expect_out();
    assert_eq!(text(&vmx), VMX);
    change_table(&real, "a");
    differs(vmdk("check").arg(&link), "partition-table", "another partition table");
    let before = text(&file);
    refresh(&link).expect_out();
    assert!(text(&file).contains("test-pt-1.vmdk"), "{}", text(&file));
    assert_eq!(text(&real.path("test.vmdk.bak")), before);
    check(&link).expect_out();
    let before = text(&file);
    create_at(&entry, &link).args(["--force", "--partitions"]).output().expect_out();
    assert!(text(&file).contains("test-pt-2.vmdk"), "{}", text(&file));
    assert_eq!(text(&real.path("test.vmdk.bak")), before);
    assert!(is_link());
    // The lock of the file itself counts, and what a link that leads nowhere names is not made.
    fs::create_dir(real.path("test.vmdk.lck")).expect("it is our directory");
    let lock = real.path("test.vmdk.lck");
    for outcome in [
        refresh(&link),
        attach(&link, &vmx),
        detach(&link, &vmx),
        create_at(&entry, &link).arg("--force").output(),
    ] {
        refused(&outcome, 1, "in-use", &link).names(lock.display());
    }
    fs::remove_dir(real.path("test.vmdk.lck")).expect("it is ours");
    fs::rename(&file, real.path("moved.vmdk")).expect("it is ours");
    refused(&create_at(&entry, &link).output(), 1, "exists", &link);
    refused(&create_at(&entry, &link).arg("--force").output(), 1, "not-found", &link);
    assert!(is_link() && !file.exists());
    let mut left = list(scratch.directory());
    left.retain(|name| !name.starts_with("a.vmx.bak"));
    assert_eq!(left, names, "everything is made beside the file itself");
}

/// However many add their disks at the same time, all are in the file at the end.
fn several_at_once() {
    let scratch = Scratch::new();
    let vmx = scratch.path("a.vmx");
    fs::write(&vmx, VMX).expect("it is our directory");
    let files: Vec<PathBuf> = (0..8).map(|number| scratch.path(&format!("{number}.vmdk"))).collect();
    for (number, file) in files.iter().enumerate() {
        let image = scratch.image(&format!("{number}.img"), MIB);
        create_at(&format!("{}=scsi", image.display()), file).output().expect_out();
    }
    let all = |task: fn(&Path, &Path) -> Outcome| {
        std::thread::scope(|scope| {
            for file in &files {
                scope.spawn(|| task(file, &vmx).expect_out());
            }
        });
    };
    for _ in 0..4 {
        all(attach);
        let written = text(&vmx);
        for number in 0..8 {
            assert_eq!(written.matches(&format!("\"{number}.vmdk\"")).count(), 1, "{written}");
        }
        let places: Vec<&str> =
            written.lines().filter_map(|line| line.split_once(".fileName")).map(|(place, _)| place).collect();
        assert!(
            places.iter().all(|place| places.iter().filter(|other| *other == place).count() == 1),
            "{written}"
        );
        all(detach);
        assert_eq!(text(&vmx), VMX);
    }
}

fn waits() {
    let scratch = Scratch::new();
    let (entry, file) = described(&scratch, "scsi");
    let vmx = scratch.path("a.vmx");
    fs::write(&vmx, VMX).expect("it is our directory");
    for run in [
        vmdk("attach").args([&file, &vmx]),
        vmdk("detach").args([&file, &vmx]),
        vmdk("refresh").arg(&file),
        create_at(&entry, &file).arg("--force"),
    ] {
        grow(&scratch.path("disk.img"), 256 * MIB);
        let before = (text(&file), text(&vmx));
        let held = fs::File::open(scratch.directory()).expect("it is ours");
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("nobody else has it");
        let said = scratch.path("said");
        let stderr = fs::File::create(&said).expect("it is our directory");
        std::thread::scope(|scope| {
            let is_told = || text(&said).contains("\"code\":\"waiting\"");
            let second = scope.spawn(|| run.stderr(stderr).output());
            wait_for("a word of the lock", || (is_told() || second.is_finished()).then_some(()));
            assert_eq!((text(&file), text(&vmx)), before, "nothing is changed meanwhile");
            assert!(!second.is_finished(), "{}", text(&said));
            drop(held);
            second.join().expect("it cannot panic").expect_out();
        });
        assert_ne!((text(&file), text(&vmx)), before);
    }
}

/// Whoever owns a directory on the way to the files exchanges it for a symbolic link between any two calls: what was read in one
/// directory is never written into another.
fn exchanged() {
    let scratch = Scratch::new();
    let (entry, file) = described(&scratch, "scsi");
    let descriptor = text(&file);
    grow(&scratch.path("disk.img"), 256 * MIB);
    let (way, mine, link) = (scratch.path("way"), scratch.path("mine"), scratch.path("link"));
    fs::create_dir(&mine).expect("it is our directory");
    let exchange = || {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        renameat_with(CWD, &way, CWD, &link, RenameFlags::EXCHANGE).expect("it is our directory");
    };
    let (vmdk_name, vmx_name) = (way.join("test.vmdk"), way.join("a.vmx"));
    let tasks: [(&str, Vec<&OsStr>); 3] = [
        ("attach", vec![vmdk_name.as_ref(), vmx_name.as_ref()]),
        ("refresh", vec![vmdk_name.as_ref()]),
        ("create", vec![entry.as_ref(), "--force".as_ref(), "-o".as_ref(), vmdk_name.as_ref()]),
    ];
    let mut stops = 0;
    for (task, arguments) in tasks {
        for call in ["statx", "openat", "readlink", "getxattr", "fsync", "linkat", "renameat"] {
            for time in 1.. {
                let _ = (fs::remove_file(&link), fs::remove_dir_all(&way));
                fs::create_dir(&way).expect("it is our directory");
                symlink(&mine, &link).expect("it is our directory");
                for name in list(&mine) {
                    fs::remove_file(mine.join(name)).expect("it is ours");
                }
                // The second is of a kind that is never replaced.
                for (directory, kind, whose) in
                    [(&way, "fullDevice", "# theirs\n"), (&mine, "vmfs", "# mine\n")]
                {
                    let content = descriptor.replace("fullDevice", kind) + whose;
                    fs::write(directory.join("test.vmdk"), content).expect("it is ours");
                    fs::write(directory.join("a.vmx"), VMX.to_owned() + whose).expect("it is ours");
                }
                let trace = scratch.path("trace");
                let _ = fs::remove_file(&trace);
                let inject = format!("inject={call}:signal=STOP:when={time}");
                let run = vmdk(task).args(&arguments).traced(&trace, ["-f", "-e", &inject]);
                let stopped = || {
                    let lines = fs::read_to_string(&trace).unwrap_or_default();
                    let line = lines.lines().find(|line| line.contains("stopped by SIGSTOP"))?;
                    line.split(' ').next().map(str::to_owned)
                };
                let is_stopped = std::thread::scope(|scope| {
                    let running = scope.spawn(|| run.output());
                    let process = wait_for("a stop or the end", || match stopped() {
                        None => running.is_finished().then_some(None),
                        process => Some(process),
                    });
                    if let Some(process) = &process {
                        exchange();
                        Run::new("kill").args(["-CONT", process]).output().expect_out();
                    }
                    running.join().expect("it cannot panic");
                    process.is_some()
                });
                if !is_stopped {
                    break;
                }
                exchange();
                stops += 1;
                assert!(time < 200, "{call} does not end");
                for name in list(&mine) {
                    let found = text(&mine.join(&name));
                    assert!(found.contains("# mine"), "{task}, {call} {time}: {name}: {found}");
                }
            }
        }
    }
    assert!(stops > 60, "{stops}");
}

/// A virtual machine's file that gives one place two disks is left for people to put right.
fn hostile_machines() {
    let scratch = Scratch::new();
    let (_, file) = described(&scratch, "scsi");
    let vmx = scratch.path("a.vmx");
    for lines in [
        "scsi0:1.fileName = \"test.vmdk\"\nscsi0:1.fileName = \"mine.vmdk\"\n",
        "SCSI0:1.FILENAME = mine.vmdk\r\nscsi0:1.fileName = \"test.vmdk\"",
    ] {
        let original = format!("{VMX}{lines}");
        fs::write(&vmx, &original).expect("it is our directory");
        refused(&detach(&file, &vmx), 1, "malformed", &vmx).names("scsi0:1").names("mine.vmdk");
        refused(&attach(&file, &vmx), 1, "exists", &vmx).names("scsi0:1");
        assert_eq!(text(&vmx), original);
    }
    // Of a key that contradicts itself the cautious one counts.
    for lines in [
        "scsi0.present = \"FALSE\"\n",
        "checkpoint.vmState = \"\"\ncheckpoint.vmState = \"a.vmss\"\n",
        "encryption.data = \"x\"\nencryption.data = \"y\"\n",
    ] {
        let original = format!("{VMX}{lines}");
        fs::write(&vmx, &original).expect("it is our directory");
        let outcome = vmdk("attach").args([&file, &vmx]).args(["--slot", "scsi0:1"]).output();
        assert_eq!((outcome.code(), text(&vmx)), (1, original), "{lines}");
    }
    // A byte of another encoding in the name of another disk is none of this one's.
    let bytes = [VMX.as_bytes(), b".encoding = \"GBK\"\nscsi0:2.fileName = \"\xb4\xc5.vmdk\"\n"].concat();
    fs::write(&vmx, &bytes).expect("it is our directory");
    attach(&file, &vmx).expect_out();
    detach(&file, &vmx).expect_out();
    assert_eq!(fs::read(&vmx).expect("it is ours"), bytes);
}

/// What is not a regular file is looked at and never opened, whatever names it.
fn opened_by_nobody() {
    let scratch = Scratch::new();
    let (_, file) = described_partition(&scratch);
    let right = text(&file);
    let vmx = scratch.path("a.vmx");
    let (fifo, trace) = (scratch.path("fifo.vmdk"), scratch.path("trace"));
    Run::new("mkfifo").arg(&fifo).output().expect_out();
    let link = scratch.path("link.vmdk");
    symlink(&fifo, &link).expect("it is our directory");
    let with = |name: &str| format!("{VMX}scsi0:3.fileName = \"{name}\"\n");
    let device = "/dev/full";
    for (descriptor, machine) in [
        (right.clone(), with("fifo.vmdk")),
        (right.clone(), with("link.vmdk")),
        (right.clone(), with(device)),
        (right.replace("test-pt.vmdk", "fifo.vmdk"), VMX.to_owned()),
        (right.replace("test-pt.vmdk", "link.vmdk"), VMX.to_owned()),
        (right.replace(&scratch.path("disk.img").display().to_string(), device), VMX.to_owned()),
        (
            right.replace(&scratch.path("disk.img").display().to_string(), fifo.to_str().expect("ASCII")),
            VMX.to_owned(),
        ),
    ] {
        fs::write(&file, &descriptor).expect("it is ours");
        fs::write(&vmx, machine).expect("it is ours");
        let (a, b) = (file.as_path(), vmx.as_path());
        let tasks = [
            ("attach", vec![a, b]),
            ("check", vec![a]),
            ("refresh", vec![a]),
            ("check", vec![&fifo]),
            ("attach", vec![a, Path::new(device)]),
        ];
        for (task, arguments) in tasks {
            vmdk(task)
                .args(arguments)
                .traced(&trace, ["-f", "-y", "-e", "trace=open,openat,openat2"])
                .output();
            let trace = text(&trace);
            let opened = trace.lines().filter(|line| !line.contains("O_PATH"));
            let wrong: Vec<&str> =
                opened.filter(|line| line.contains("fifo.vmdk>") || line.contains("/dev/full")).collect();
            assert!(wrong.is_empty(), "{task}: {wrong:?}");
            assert!(trace.contains("O_PATH"), "{trace}");
        }
    }
}

fn hostile_files() {
    let scratch = Scratch::new();
    let (entry, file) = described(&scratch, "scsi");
    let right = text(&file);
    let vmx = scratch.path("a.vmx");
    fs::write(&vmx, VMX).expect("it is our directory");
    let huge = scratch.image("huge", 1 << 30);
    let trace = scratch.path("trace");
    let refusal = |file: &Path| {
        for run in [
            vmdk("check").arg(file),
            vmdk("refresh").arg(file),
            vmdk("attach").arg(file).arg(&vmx),
            vmdk("attach").arg(scratch.path("test.vmdk")).arg(file),
            vmdk("detach").arg(scratch.path("test.vmdk")).arg(file),
        ] {
            let outcome = run.output();
            assert_eq!(
                (outcome.code(), outcome.out().as_str()),
                (1, ""),
                "{}: {}",
                file.display(),
                outcome.err()
            );
            assert!(outcome.err().contains(&file.display().to_string()), "{}", outcome.err());
        }
    };
    refusal(&huge);
    refused(&create_at(&entry, &huge).arg("--force").output(), 1, "malformed", &huge).names("1048576");
    let traced = vmdk("check").arg(&huge).traced(&trace, ["-y", "-e", "trace=read,pread64,readv"]).output();
    assert_eq!(traced.code(), 1);
    assert!(!text(&trace).contains("/huge"), "nothing of it is read: {}", text(&trace));
    let fifo = scratch.path("fifo");
    Run::new("mkfifo").arg(&fifo).output().expect_out();
    for path in [&fifo, Path::new("/dev/zero"), scratch.directory(), &fifo.join("a.vmx")] {
        refusal(path);
    }
    for bytes in
        [&b""[..], &[0; 1000], b"\xff\xfe\x00", b"KDMV\x01", b"RW RW RW", &[b'='; 70_000], &[b'\n'; 70_000]]
    {
        let path = scratch.path("hostile");
        fs::write(&path, bytes).expect("it is our directory");
        refusal(&path);
    }
    let path = scratch.path("hostile.vmdk");
    for (from, to) in [
        ("RW 262144", "RW 99999999999999999999"),
        ("RW 262144", "RW 18446744073709551615"),
        ("RW 262144", "RW 18446744073709551615 ZERO\nRW 1"),
        ("RW 262144", "RW -1"),
        ("\" 0\n", "\" 99999999999999999999\n"),
        ("FLAT \"", "FLAT "),
        ("parentCID=ffffffff", "parentCID=01234567"),
        ("/disk.img", "/disk.img\0"),
    ] {
        assert!(right.contains(from));
        fs::write(&path, right.replacen(from, to, 1)).expect("it is our directory");
        for outcome in [check(&path), refresh(&path)] {
            refused(&outcome, 1, "malformed", &path);
        }
    }
    // Names and options that nothing could have written.
    for (from, to) in [
        ("FLAT \"", "FLAT \"\u{1b}[2J"),
        ("/disk.img", "/disk.img=scsi=ide,x"),
        ("\" 0", "\" 18446744073709551615"),
    ] {
        fs::write(&path, right.replacen(from, to, 1)).expect("it is our directory");
        let outcome = check(&path);
        assert!(!outcome.out().contains('\x1b') && !outcome.err().contains('\x1b'));
        outcome.code();
        refresh(&path).code();
    }
    // Line ends of another system, none at the end, an encoding that nobody knows.
    let odd = right.replace('\n', "\r\n").replace("version=1\r\n", "version=1\r\nencoding=\"x-\u{e4}\"\r\n");
    let odd = odd.trim_end();
    fs::write(&path, odd).expect("it is our directory");
    check(&path).expect_out();
    create_at(&entry, &path).arg("--force").output().expect_out();
    assert_eq!(text(&scratch.path("hostile.vmdk.bak")), odd);
    fs::write(&path, [right.as_bytes(), b"# \xff\xfe\n"].concat()).expect("it is our directory");
    check(&path).expect_out();
    grow(&scratch.path("disk.img"), 130 * MIB);
    refresh(&path).expect_out();
    assert!(fs::read(&path).expect("it exists").ends_with(b"# \xff\xfe\n"));
}

fn unwritable() {
    let scratch = Scratch::new();
    let (entry, file) = described(&scratch, "scsi");
    let vmx = scratch.path("a.vmx");
    fs::write(&vmx, VMX).expect("it is our directory");
    grow(&scratch.path("disk.img"), 256 * MIB);
    let (before, listed) = (text(&file), list(scratch.directory()));
    let copies = Scratch::new();
    let copy = copies.copy(&command(), "vmware-bdwrapper");
    let run = |task: &str| vmdk_of(&copy, task).nobody();
    let denied = |run: Run, subject: &Path| refused(&run.output(), 1, "permission-denied", subject);
    denied(run("refresh").arg(&file), &file).names("cannot be written");
    denied(run("attach").args([&file, &vmx]), &vmx).names("cannot be written");
    let new = scratch.path("new.vmdk");
    denied(run("create").arg(&entry).arg("-o").arg(&new), &new);
    fs::set_permissions(&vmx, Permissions::from_mode(0o600)).expect("it is ours");
    denied(run("attach").args([&file, &vmx]), &vmx).names("cannot be read");
    assert_eq!((text(&file), text(&vmx), list(scratch.directory())), (before, VMX.to_owned(), listed));
}

/// The names in a directory.
fn list(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is ours");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("it is ours").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn full_disk() {
    let scratch = Scratch::new();
    let (_, file) = described(&scratch, "scsi");
    grow(&scratch.path("disk.img"), 256 * MIB);
    let small = scratch.path("small");
    fs::create_dir(&small).expect("it is our directory");
    // The mount is gone with the last process of its name space.
    let script = format!(
        "mount -t tmpfs -o size=32k tmpfs '{small}'; cd '{small}'; cp '{file}' test.vmdk; cp test.vmdk old
         printf 'config.version = \"8\"\\n' > a.vmx; cp a.vmx old.vmx
         dd if=/dev/zero of=fill bs=512 2>/dev/null
         '{command}' vmdk refresh test.vmdk; echo $?
         '{command}' vmdk attach test.vmdk a.vmx; echo $?
         '{command}' vmdk create '{image}=scsi' -o new.vmdk; echo $?
         cmp test.vmdk old && cmp a.vmx old.vmx && ls -A
         rm fill; '{command}' vmdk refresh test.vmdk >/dev/null; echo $?",
        small = small.display(),
        file = file.display(),
        command = command().display(),
        image = scratch.path("disk.img").display(),
    );
    let outcome = Run::new("unshare").args(["--mount", "sh", "-c", &script]).output();
    assert_eq!(outcome.out(), "1\n1\n1\na.vmx\nfill\nold\nold.vmx\ntest.vmdk\n0\n", "{}", outcome.err());
    assert_eq!(outcome.err().matches("No space left on device").count(), 3, "{}", outcome.err());
}

/// A file system without hard links: the backup is a copy.
fn on_fat() {
    let scratch = Scratch::new();
    let (_, file) = described(&scratch, "scsi");
    let fat = scratch.image("fat", 4 * MIB);
    Run::new("mkfs.vfat").arg(&fat).output().expect_out();
    grow(&scratch.path("disk.img"), 256 * MIB);
    fs::create_dir(scratch.path("small")).expect("it is our directory");
    let script = format!(
        "mount -t vfat -o loop '{fat}' '{small}' && cd '{small}' && cp '{file}' test.vmdk && cp '{file}' test.vmdk.bak &&
         '{command}' vmdk refresh test.vmdk && cmp '{file}' test.vmdk.bak.1 && '{command}' vmdk check test.vmdk && ls",
        fat = fat.display(),
        small = scratch.path("small").display(),
        file = file.display(),
        command = command().display(),
    );
    let out = Run::new("unshare").args(["--mount", "sh", "-c", &script]).output().expect_out();
    assert!(out.ends_with("as it is.\ntest.vmdk\ntest.vmdk.bak\ntest.vmdk.bak.1\n"), "{out}");
}

/// Whatever call a process dies in, the file is the old or the new one, whole.
fn killed() {
    let scratch = Scratch::new();
    let (entry, file) = described(&scratch, "scsi");
    let vmx = scratch.path("a.vmx");
    let old = text(&file);
    let image = scratch.path("disk.img");
    grow(&image, 256 * MIB);
    let calls =
        ["openat", "write", "fchmod", "fsync", "link", "linkat", "rename", "renameat", "renameat2", "close"];
    let mut deaths = 0;
    for (task, arguments) in [
        ("refresh", vec![file.clone()]),
        ("attach", vec![file.clone(), vmx.clone()]),
        ("create", vec![PathBuf::from(&entry), "--output".into(), scratch.path("new.vmdk")]),
    ] {
        let mut outcomes = [0, 0];
        for call in calls {
            for time in 1.. {
                fs::write(&file, &old).expect("it is ours");
                fs::write(&vmx, VMX).expect("it is ours");
                let _ = fs::remove_file(scratch.path("new.vmdk"));
                let inject = format!("inject={call}:signal=KILL:when={time}");
                let outcome =
                    vmdk(task).args(&arguments).traced(&scratch.path("trace"), ["-e", &inject]).output();
                let is_new = match task {
                    "refresh" => {
                        let now = text(&file);
                        let is_new = now != old;
                        assert!(!is_new || now == refreshed(&old), "{call} {time}: {now}");
                        is_new
                    }
                    "attach" => {
                        let now = text(&vmx);
                        let is_new = now != VMX;
                        assert!(
                            !is_new || now.ends_with("scsi0:1.deviceType = \"rawDisk\"\n"),
                            "{call} {time}: {now}"
                        );
                        is_new
                    }
                    _ => {
                        let new = scratch.path("new.vmdk");
                        let is_new = new.exists();
                        assert!(
                            !is_new || text(&new).ends_with("ddb.adapterType = \"lsilogic\"\n"),
                            "{call} {time}"
                        );
                        is_new
                    }
                };
                outcomes[usize::from(is_new)] += 1;
                for name in list(scratch.directory()) {
                    let path = scratch.path(&name);
                    if name.starts_with(".vmware-bdwrapper-") || name.contains(".bak") {
                        fs::remove_file(path).expect("it is ours");
                    }
                }
                if outcome.status.code().is_some_and(|code| code == 0) {
                    break;
                }
                deaths += 1;
                assert!(time < 200, "{call} does not end");
            }
        }
        assert!(outcomes.iter().all(|count| *count > 0), "{task}: both happened: {outcomes:?}");
    }
    assert!(deaths > 30, "{deaths}");
}

/// What `refresh` makes of a disk that has grown from 128 to 256 MiB.
fn refreshed(old: &str) -> String {
    old.replacen("262144", "524288", 1)
        .replace("ylinders = \"1008\"", "ylinders = \"1022\"")
        .replace("eads = \"5\"", "eads = \"9\"")
        .replace("ectors = \"52\"", "ectors = \"57\"")
}

/// A section of the guide with commands.
struct Section {
    title: &'static str,
    tool: Option<&'static str>,
    run: fn(&Walk),
}

impl Section {
    const fn new(title: &'static str, tool: Option<&'static str>, run: fn(&Walk)) -> Section {
        Section { title, tool, run }
    }

    fn needs(&self) -> impl Iterator<Item = Need> {
        self.tool.map(Need::Tool).into_iter()
    }
}

const VOLUME: &str = "A logical volume";

static GUIDE_SECTIONS: [Section; 4] = [
    Section::new("A loop device", None, guide_loop),
    Section::new(VOLUME, Some("lvextend"), guide_volume),
    Section::new("A disk with a GPT, chosen partitions", Some("sgdisk"), guide_partitions),
    Section::new("Growing without a restart", Some("sg_turs"), guide_online),
];

/// The blocks of commands in a section of the guide.
fn guide<const COUNT: usize>(section: &str) -> [String; COUNT] {
    let guide = text(Path::new(GUIDE));
    let part = guide.split("\n## ").find(|part| part.lines().next() == Some(section));
    let part = part.unwrap_or_else(|| panic!("the guide has no section {section}"));
    let blocks = part.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("its end"));
    let blocks: Vec<String> = blocks.map(str::to_owned).collect();
    blocks.try_into().unwrap_or_else(|blocks| panic!("{section}: {blocks:?}"))
}

/// Who runs the commands of the guide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Root,
    /// `nobody`, where a command does not begin with `sudo`.
    User,
}

/// A directory with a virtual machine, in which commands of the guide run.
struct Walk {
    reader: Reader,
    scratch: Scratch,
    /// What stands for the guide's names.
    names: [(&'static str, Name); 2],
    volume_group: String,
    /// What the commands have attached.
    devices: Mutex<Vec<Loop>>,
}

/// Has LVM make the nodes of volumes by itself: udev makes them in another `/dev`.
const WITHOUT_UDEV: &str = "DM_DISABLE_UDEV";

impl Walk {
    fn new(reader: Reader) -> Walk {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("release")).expect("it is our directory");
        scratch.copy(&command(), "release/vmware-bdwrapper");
        scratch.copy(&acceptance::library(), "release/libvmware_bdwrapper.so");
        fs::write(scratch.path("Windows.vmx"), VMX).expect("it is our directory");
        if reader == Reader::User {
            for path in [scratch.directory(), &scratch.path("Windows.vmx")] {
                chown(path, Some(65534), Some(65534)).expect("root can");
            }
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let volume_group = format!("bdwrapper{}x{count}", std::process::id());
        let names = ["/dev/sd/test", "/dev/sd/parts"].map(|name| (name, Name::reserved("sd")));
        Walk { reader, scratch, names, volume_group, devices: Mutex::default() }
    }

    /// Runs a block; a line that fails says so on the standard output.
    fn run(&self, block: &str) -> String {
        let (user, as_user) = match self.reader {
            Reader::Root => ("root", ""),
            Reader::User => ("nobody", "setpriv --reuid=65534 --regid=65534 --clear-groups"),
        };
        let mut lines: String = block.lines().map(|line| format!("{line} || echo \"status $?\"\n")).collect();
        for (name, reserved) in &self.names {
            lines = lines.replace(name, reserved.path().to_str().expect("ASCII"));
        }
        let lines = lines.replace("VG", &self.volume_group).replace("vmware-bdwrapper ", "vmware_bdwrapper ");
        // Root needs no sudo, and the command is not installed.
        let script = format!(
            "sudo() {{ command \"$@\"; }}\ntruncate() {{ {as_user} env truncate \"$@\"; }}\n\
             vmware_bdwrapper() {{ {as_user} ./release/vmware-bdwrapper \"$@\"; }}\n\
             cd '{}'\nif [ -e loop ]; then loop=$(cat loop); fi\n{lines}\
             if [ -n \"${{loop-}}\" ]; then echo \"$loop\" > loop; fi\n",
            self.scratch.directory().display(),
        );
        let outcome = Run::new("sh").args(["-c", &script]).env("USER", user).env(WITHOUT_UDEV, "1").output();
        if let Ok(device) = fs::read_to_string(self.scratch.path("loop")) {
            let mut devices = self.devices.lock().expect("nothing has panicked");
            if devices.last().is_none_or(|last| last.path() != Path::new(device.trim_end())) {
                devices.push(Loop::adopt(device.trim_end().into()));
            }
        }
        format!("{}{}", outcome.expect_out(), outcome.err())
    }

    /// Runs a block of which no line fails.
    fn succeed(&self, block: &str) {
        let said = self.run(block);
        assert!(!said.contains("status"), "{said}");
    }

    /// The commands have taken back what they gave.
    fn is_undone(&self) {
        for (_, name) in &self.names {
            assert!(name.path().symlink_metadata().is_err(), "{}", name.path().display());
        }
        for device in self.devices.lock().expect("nothing has panicked").iter() {
            let owner = fs::metadata(device.path()).expect("it exists").uid();
            assert_eq!(owner, 0, "the next file that is attached there would be the user's");
        }
    }
}

fn guide_loop(walk: &Walk) {
    let [make, grow, follow, undo] = guide("A loop device");
    walk.succeed(&make);
    let vmx = walk.scratch.path("Windows.vmx");
    let before = text(&vmx);
    assert!(before.contains("scsi0:1.fileName = \"test.vmdk\""));
    let disk = walk.names[0].1.path();
    let data = pattern(128 * MIB);
    let written = OpenOptions::new().write(true).open(disk).and_then(|disk| disk.write_all_at(&data, 0));
    written.expect("root can");
    walk.succeed(&grow);
    let said = walk.run(&follow);
    assert_eq!(said.matches("status").count(), 1, "the first check alone: {said}");
    assert!(said.contains("has grown from 262144 to 524288 sectors") && said.contains("status 1"), "{said}");
    assert!(said.contains("as it is.\n"), "{said}");
    assert!(walk.scratch.path("test.vmdk.bak").exists());
    assert_same("the data", &fs::read(disk).expect("root can")[..data.len()], &data);
    walk.succeed(&undo);
    assert_eq!(text(&vmx), VMX);
}

fn guide_volume(walk: &Walk) {
    let image = walk.scratch.image("pv", 256 * MIB);
    let device = Loop::attach(&image, &[]);
    struct Group<'a>(&'a str);
    impl Drop for Group<'_> {
        fn drop(&mut self) {
            Run::new("vgremove").args(["--force", "--yes", self.0]).env(WITHOUT_UDEV, "1").output();
        }
    }
    let create = Run::new("vgcreate").arg(&walk.volume_group).arg(device.path());
    create.env(WITHOUT_UDEV, "1").output().expect_out();
    let _group = Group(&walk.volume_group);
    let blocks: [_; 2] = guide(VOLUME);
    for block in blocks {
        walk.succeed(&block);
    }
    let file = walk.scratch.path("windows.vmdk");
    assert!(text(&file).contains(&format!("RW 196608 FLAT \"/dev/{}/windows\" 0\n", walk.volume_group)));
    check(&file).expect_out();
}

fn guide_partitions(walk: &Walk) {
    let [make, grow, undo] = guide("A disk with a GPT, chosen partitions");
    walk.succeed(&make);
    walk.succeed(&grow);
    let file = walk.scratch.path("parts.vmdk");
    check(&file).expect_out();
    assert_eq!(assembled(&file).len() as u64, 256 * MIB);
    walk.succeed(&undo);
}

fn guide_online(walk: &Walk) {
    let [ask, grow] = guide("Growing without a restart");
    // The library's messages say when the program has asked for the first time.
    let log = walk.scratch.path("log");
    let ask = ask.replace("vmware-bdwrapper ", "VMWARE_BDWRAPPER_LOG_LEVEL=1000 vmware-bdwrapper ");
    let asking = format!("exec 2> log\n{ask}");
    let said = std::thread::scope(|scope| {
        let client = scope.spawn(|| walk.run(&asking));
        wait_for("the first question", || {
            let has_asked = fs::read_to_string(&log).is_ok_and(|log| log.contains("SG_IO"));
            (has_asked || client.is_finished()).then_some(())
        });
        walk.succeed(&grow);
        client.join().expect("it cannot panic") + &text(&log)
    });
    assert_eq!(said.matches("apacity data has changed").count(), 1, "{said}");
}

/// The whole guide, from top to bottom.
fn guide_in_order(reader: Reader) {
    let walk = Walk::new(reader);
    let has_volumes = text(Path::new("/proc/devices")).contains("device-mapper");
    for section in &GUIDE_SECTIONS {
        if section.title != VOLUME || has_volumes {
            (section.run)(&walk);
        }
    }
    walk.is_undone();
}

/// Every command of the guide is in a section that a test above runs.
fn guide_is_complete() {
    let text = text(Path::new(GUIDE));
    for part in text.split("\n## ").skip(1) {
        let title = part.lines().next().unwrap_or_default();
        let runs = GUIDE_SECTIONS.iter().any(|section| section.title == title);
        assert_eq!(part.contains("```"), runs, "{title}");
    }
    assert_eq!(text.matches("losetup --find").count(), text.matches("losetup --detach").count());
}
