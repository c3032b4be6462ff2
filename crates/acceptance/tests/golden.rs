//! What a listed device answers, row by row against what real disks answered.
//!
//! `golden/ioctl` was printed by `programs/ioctl-probe.c` on real disks: `scsi.*` on a SCSI disk of 1 GiB, `ide.*` on an
//! ATA disk of 256 MiB behind libata, as root and as an ordinary user. `golden/derived` holds the same rows for
//! a disk behind the kernel's old IDE driver, from its source. The devices here are of the same sizes.

use std::collections::BTreeMap;
use std::process::ExitCode;

use acceptance::{Disk, Medium, Need, Outcome, Run, main as harness, trial};

const MIB: u64 = 1 << 20;

/// Who asks, and how the device is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Root,
    NobodyReadOnly,
    NobodyReadWrite,
}

impl User {
    /// The name in the names of tables, and the mode that ioctl-probe opens the device in.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            User::Root => ("root", "w"),
            User::NobodyReadOnly => ("nobody-ro", "r"),
            User::NobodyReadWrite => ("nobody-rw", "w"),
        }
    }
}

/// One device that is asked by one user.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: &'static str,
    medium: Medium,
    user: User,
}

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for kind in ["scsi", "sata", "ide"] {
        for medium in [Medium::Image, Medium::Node] {
            for user in [User::Root, User::NobodyReadOnly, User::NobodyReadWrite] {
                let case = Case { kind, medium, user };
                let medium = if medium == Medium::Image { "image" } else { "loop" };
                // Only root can become nobody.
                trials.push(trial(format!("{kind}/{medium}/{}", user.names().0), &[Need::Root], move || {
                    check(case)
                }));
            }
        }
    }
    for medium in [Medium::Image, Medium::Node] {
        let name = if medium == Medium::Image { "image" } else { "loop" };
        trials.push(trial(format!("unlisted/{name}"), &[Need::Root], move || unlisted(medium)));
    }
    harness(trials)
}

/// Rows by name: return value, errno and output, separated by tabs.
type Table = BTreeMap<String, String>;

fn table(text: &str) -> Table {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| {
        let (name, rest) = line.split_once('\t').unwrap_or_else(|| panic!("not a row: {line}"));
        (name.to_owned(), rest.to_owned())
    })
    .collect()
}

fn golden(case: Case) -> Table {
    let (directory, disk) = match case.kind {
        "scsi" => ("ioctl", "scsi"),
        "sata" => ("ioctl", "ide"),
        _ => ("derived", "ide"),
    };
    let name =
        format!("{}/golden/{directory}/{disk}.{}.tsv", env!("CARGO_MANIFEST_DIR"), case.user.names().0);
    let mut table = table(&std::fs::read_to_string(&name).unwrap_or_else(|error| panic!("{name}: {error}")));
    table.retain(|row, _| row != "open" && !row.starts_with("SG_IO"));
    table
}

fn probe(run: impl Fn(&std::path::Path) -> Run, disk: &Disk, user: User) -> Outcome {
    let run = run(&disk.scratch().program("ioctl-probe")).arg(disk.path()).arg(user.names().1);
    if user == User::Root { run.output() } else { run.nobody().output() }
}

/// What is right where it is not what the real disk said.
enum Ours {
    /// Exactly this row.
    Row(&'static str),
    /// The errno by which this kind refuses what it does not do, and this output.
    Refused(&'static str),
    /// A row that this function finds right.
    If(fn(&str) -> bool),
}

struct Difference {
    row: &'static str,
    kinds: &'static [&'static str],
    media: &'static [Medium],
    users: &'static [User],
    ours: Ours,
    #[expect(dead_code, reason = "it is for the reader")]
    why: &'static str,
}

const ALL: &[&str] = &["scsi", "sata", "ide"];
const SCSI: &[&str] = &["scsi"];
const SATA: &[&str] = &["sata"];
const IDE: &[&str] = &["ide"];
const WITH_SCSI: &[&str] = &["scsi", "sata"];
const WITH_ATA: &[&str] = &["sata", "ide"];
const ANY: &[Medium] = &[Medium::Image, Medium::Node];
const IMAGE: &[Medium] = &[Medium::Image];
const LOOP: &[Medium] = &[Medium::Node];
const EVERYBODY: &[User] = &[User::Root, User::NobodyReadOnly, User::NobodyReadWrite];
const ROOT: &[User] = &[User::Root];
const NOBODY: &[User] = &[User::NobodyReadOnly, User::NobodyReadWrite];

/// Every difference from the tables there is. One that is none any more fails the test.
///
/// Block-layer rows (`BLK…`) of a loop device are not compared with the tables but with what the kernel says of the
/// same device without the library, for they are the kernel's own.
const DIFFERENCES: &[Difference] = &[Difference {
    row: "HDIO_GETGEO_BIG(0x330)",
    kinds: SCSI,
    media: ANY,
    users: EVERYBODY,
    ours: Ours::Row("0\t-\t223d0000f30300000000000000000000"),
    why: "removed from Linux in 2003; clients of that age ask for it",
}];

fn check(case: Case) {
    let bytes = if case.kind == "scsi" { 1024 * MIB } else { 256 * MIB };
    let disk = Disk::new(case.medium, case.kind, bytes);
    let outcome = probe(|program| disk.run(program), &disk, case.user);
    assert_eq!(outcome.err(), "");
    let ours = table(&outcome.expect_out());
    let kernels = table(&probe(Run::new, &disk, case.user).expect_out());
    let golden = golden(case);
    let refusal = if case.kind == "sata" { "-1\tENOTTY\t" } else { "-1\tEINVAL\t" };
    let mut wrong = Vec::new();
    for (row, real) in &golden {
        let said = &ours[row];
        if case.medium != Medium::Image && row.starts_with("BLK") {
            let of_the_size = row.starts_with("BLKGETSIZE");
            if *said != kernels[row] || (of_the_size && said != real) {
                wrong.push(format!("{row}: {said} where the kernel says {}", kernels[row]));
            }
            continue;
        }
        let mut differences = DIFFERENCES.iter().filter(|difference| {
            difference.row == row
                && difference.kinds.contains(&case.kind)
                && difference.media.contains(&case.medium)
                && difference.users.contains(&case.user)
        });
        let right = match differences.next() {
            None if said == real => continue,
            None => format!("a real disk says {real}"),
            Some(_) if said == real => "a real disk says so too: the difference is no longer one".to_owned(),
            Some(difference) => match difference.ours {
                Ours::Row(right) if said == right => continue,
                Ours::Row(right) => format!("{right} was expected"),
                Ours::Refused(output) if *said == format!("{refusal}{output}") => continue,
                Ours::Refused(output) => format!("{refusal}{output} was expected"),
                Ours::If(right) if right(said) => continue,
                Ours::If(_) => format!("not right; a real disk says {real}"),
            },
        };
        wrong.push(format!("{row}: {said}; {right}"));
        assert!(differences.next().is_none(), "{row} has two differences that apply");
    }
    for difference in DIFFERENCES {
        assert!(golden.contains_key(difference.row), "no table has the row {}", difference.row);
    }
    for (row, said) in ours.iter().filter(|(row, _)| row.starts_with("SG_IO")) {
        if !said.starts_with(refusal) {
            wrong.push(format!("{row}: {said} where this release refuses"));
        }
    }
    assert!(wrong.is_empty(), "{case:?}: {} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// A device that is not listed answers byte for byte as without the library.
fn unlisted(medium: Medium) {
    for user in [User::Root, User::NobodyReadOnly, User::NobodyReadWrite] {
        let disk = Disk::new(medium, "scsi", 256 * MIB);
        let other = disk.scratch().image("other", MIB);
        let entries = format!("{}=scsi", other.display());
        let without = probe(Run::new, &disk, user).expect_out();
        let with = probe(|program| Run::new(program).with(&disk.scratch().library(), &entries), &disk, user);
        assert_eq!(with.err(), "");
        assert_eq!(with.expect_out(), without, "{user:?}");
    }
}
