//! The documents agree with the command, with each other and with what is printed.

mod system;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::ExitCode;

use acceptance::{Loop, Name, Need, Run, Scratch, documents, split_blocks, trial};
use system::{LIBRARY, System, chmod, command, make, sources};

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let starts = [Need::Devices, Need::Tool("cc"), Need::Tool("make")];
    let demo = [Need::Devices, Need::Tool("script"), Need::Tool("hdparm")];
    acceptance::main(vec![
        trial("links", &[], links),
        trial("commands", &[], commands),
        trial("the README is short", &[], short),
        trial("the project's address", &[], address),
        trial("adapters", &[], adapters),
        trial("starting", &starts, starting),
        trial("the table of platforms", &[], platforms),
        trial("measured ratios", &[], ratios),
        trial("the picture of the demonstration", &demo, picture),
    ])
}

/// A part of the sources.
fn source(name: &str) -> String {
    fs::read_to_string(sources().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names by which headings of a document can be linked to, made as on the pages of a forge.
fn anchors(text: &str) -> BTreeSet<String> {
    let (_, prose) = split_blocks(text);
    let headings = prose.iter().flat_map(|part| part.lines()).filter(|line| line.starts_with('#'));
    let letters = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().chars();
        let kept = kept.filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.flat_map(char::to_lowercase).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    headings.map(letters).collect()
}

/// Each relative link leads to a file of the sources and, in a document, to one of its headings.
fn links() {
    let mut found = 0;
    for (name, text) in documents() {
        let (_, prose) = split_blocks(&text);
        for link in prose.join("").split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            found += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = match file {
                "" => sources().join(&name),
                file => sources().join(&name).with_file_name(file),
            };
            assert!(path.exists(), "{}: {link}", name.display());
            let target =
                if heading.is_empty() { String::new() } else { fs::read_to_string(&path).expect("a text") };
            assert!(heading.is_empty() || anchors(&target).contains(heading), "{}: {link}", name.display());
        }
    }
    assert!(found > 100, "{found} links");
}

/// The words of a text that stands for a command line, and of those in it that follow this command's name.
fn calls(text: &str) -> Vec<Vec<&str>> {
    let mut calls = Vec::new();
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_command = |word: &&str| *word == "vmware-bdwrapper" || word.ends_with("/vmware-bdwrapper");
        let Some(at) = words.iter().position(is_command) else { continue };
        let words = words[at + 1..].iter().copied();
        calls.push(words.take_while(|word| !["|", "--", "&&", ";", "\\"].contains(word)).collect());
    }
    calls
}

/// Each command line of this command that a document has is one that its help explains.
fn commands() {
    let help = |words: &[&str]| Run::new(command()).args(words).arg("--help").output();
    let tasks = help(&[]).expect_out();
    let (mut found, mut wrong) = (0, Vec::new());
    // What is no more keeps its name there.
    for (name, text) in documents().iter().filter(|(name, _)| name != Path::new("CHANGELOG.md")) {
        let (blocks, prose) = split_blocks(text);
        let spans = prose.iter().flat_map(|part| part.split('`').skip(1).step_by(2));
        let texts = blocks.iter().map(|block| block.replace("\\\n", " "));
        let texts: Vec<String> = texts.chain(spans.map(|span| span.replace('\n', " "))).collect();
        for call in texts.iter().flat_map(|text| calls(text)) {
            let [task, rest @ ..] = &call[..] else { continue };
            if !task.starts_with(|letter: char| letter.is_ascii_lowercase()) {
                continue;
            }
            found += 1;
            if !tasks.contains(&format!("\n  {task} ")) {
                wrong.push(format!("{}: {call:?}", name.display()));
                continue;
            }
            let part = rest.first().filter(|part| *task == "vmdk" && !part.starts_with('-'));
            let known = help(&[task].into_iter().chain(part).copied().collect::<Vec<_>>()).expect_out();
            let known: Vec<&str> =
                known.split(|letter: char| !letter.is_ascii_alphabetic() && letter != '-').collect();
            // What is behind the program is the program's.
            let runs = ["run", "trace"].contains(task);
            let is_value = |at: usize| at > 0 && rest[at - 1].starts_with('-');
            let is_program = |at: usize| runs && !rest[at].starts_with('-') && !is_value(at);
            let own = (0..rest.len()).take_while(|&at| !is_program(at)).map(|at| rest[at]);
            let options = own.filter(|word| word.len() > 1 && word.starts_with('-')).map(|word| {
                let word = word.split('=').next().unwrap_or_default();
                word.trim_end_matches(|letter: char| !letter.is_ascii_alphabetic())
            });
            wrong.extend(
                options
                    .filter(|option| !known.contains(option))
                    .map(|option| format!("{}: {option} in {call:?}", name.display())),
            );
        }
    }
    assert!(found > 100, "{found} command lines");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A new reader gets to its end.
fn short() {
    assert!(source("README.md").lines().count() <= 150);
}

/// One place has the project's address, from which the packages take it.
fn address() {
    let manifest = source("Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("repository = \"https://"));
    let address = line.expect("it is there").trim_end_matches('"');
    assert_eq!(manifest.matches(address).count(), 1);
    for (name, text) in documents() {
        assert!(!text.contains(address), "{}", name.display());
    }
}

/// docs/disks.md has the table of guests, kinds and adapters that the manual has, and that with the program's.
fn adapters() {
    let manual: String = documents().into_iter().map(|(_, text)| text).collect();
    let (_, table) = manual.split_once("guest                 kind   adapter\n").expect("the manual has it");
    let rows = table.lines().take_while(|line| !line.starts_with("```")).map(|row| {
        let cells = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    });
    let table = format!("| guest | kind | adapter |\n|---|---|---|\n{}\n", rows.collect::<String>());
    assert!(source("docs/disks.md").contains(&table), "docs/disks.md is to have this table:\n{table}");
}

/// What docs/starting.md starts by systemd and in scripts sees its disk: here a set-user-ID program behind what
/// stands for VMware's launchers.
fn starting() {
    let system = System::clean();
    make(["install"]).expect_out();
    let scratch = Scratch::new();
    let image = scratch.image("disk.img", 128 * MIB);
    let device = Loop::attach(&image, &[]);
    let name = Name::link("sd", device.path());
    chown(device.path(), Some(65534), None).expect("root can");
    let path = name.path().to_str().expect("ASCII");
    Run::new("vmware-bdwrapper").args(["setup", "--setuid", "--device", path]).output().expect_out();
    let vmx = scratch.program("secure");
    chmod(&vmx, 0o4755);
    fs::create_dir_all("/usr/lib/vmware/bin").expect("root can");
    symlink(&vmx, "/usr/lib/vmware/bin/vmware-vmx").expect("root can");
    for launcher in ["/usr/bin/vmware", "/usr/bin/vmrun"] {
        let script = format!("#!/bin/sh\necho \"$@\"\nexec /usr/lib/vmware/bin/vmware-vmx {path}\n");
        fs::write(launcher, script).expect("root can");
        chmod(Path::new(launcher), 0o755);
    }
    let home = scratch.directory().to_str().expect("ASCII");
    let document = source("docs/starting.md").replace("/dev/sd/windows", path);
    let (blocks, _) = split_blocks(&document);
    let block = |with: &str| {
        blocks.iter().find(|block| block.contains(with)).unwrap_or_else(|| panic!("no block has {with}"))
    };
    let run = |line: &str| {
        // As the session, systemd or cron starts it: nothing of a shell's environment is there.
        let run =
            Run::new("env").args(["-i", "PATH=/usr/bin:/bin", &format!("HOME={home}"), "sh", "-c", line]);
        run.nobody().output().expect_out()
    };
    let sees_the_disk = |line: &str, arguments: &str| {
        let said = run(line);
        assert!(said.starts_with(&format!("{arguments}\n")), "{line}: {said}");
        assert!(said.contains("secure=1") && said.contains("bytes=134217728"), "{line}: {said}");
        assert!(!said.contains("idlun=E"), "{line}: {said}");
    };
    // By systemd.
    let unit = block("ExecStart=");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)).expect("it has one");
        line.replace("/home/me", home)
    };
    let machine = format!("{home}/vmware/Windows/Windows.vmx");
    sees_the_disk(&value("ExecStart="), &format!("-T ws start {machine} nogui"));
    assert!(value("ExecStop=").ends_with(&format!("-T ws stop \"{machine}\" soft")));
    // From scripts.
    sees_the_disk(block("-- vmrun"), &format!("-T ws start {machine} nogui"));
    sees_the_disk(block("-- vmware\n"), "");
    sees_the_disk(block(&format!("LD_PRELOAD={LIBRARY} ")), "");
    drop(system);
}

/// A row that scripts/platforms prints has the columns of docs/platforms.md, and replaces that of the same system.
fn platforms() {
    let scratch = Scratch::new();
    for part in ["scripts/platforms", "docs/platforms.md", "target/release/vmware-bdwrapper"] {
        let copy = scratch.path(part);
        fs::create_dir_all(copy.parent().expect("it has one")).expect("it is our directory");
        let part = if part.starts_with("target") { command() } else { sources().join(part) };
        fs::copy(part, copy).expect("it is our directory");
    }
    let run = |words: &[&str]| {
        let run = Run::new(scratch.path("scripts/platforms")).args(words).env("CARGO_TARGET_DIR", "target");
        run.output().expect_out()
    };
    let row = run(&[]);
    let table =
        |text: &str| text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect::<Vec<_>>();
    let document = || fs::read_to_string(scratch.path("docs/platforms.md")).expect("a text");
    let [head, ..] = &table(&document())[..] else { panic!("there is no table") };
    assert_eq!(row.matches('|').count(), head.matches('|').count(), "{row}");
    for kernel in [" old ", " new "] {
        let mut cells: Vec<&str> = row.trim_end().split('|').collect();
        cells[1] = " A system ";
        cells[2] = kernel;
        fs::write(scratch.path("target/platform-0"), cells.join("|") + "\n").expect("it is our directory");
        run(&["document"]);
    }
    let rows = table(&document());
    let rows: Vec<&String> = rows.iter().filter(|row| row.starts_with("| A system |")).collect();
    assert!(matches!(&rows[..], [row] if row.contains("| new |")), "{rows:?}");
}

/// The ratios in docs/performance.md and docs/alternatives.md are those that were measured.
fn ratios() {
    let measured = source("docs/measured/bench-vm.txt");
    let ratios = |series: &str| -> Vec<(&str, &str)> {
        let rows = measured.lines().filter_map(|line| line.split_once(&format!(": {series} ")));
        rows.map(|(what, numbers)| (what, numbers.split_whitespace().next().unwrap_or_default())).collect()
    };
    let series = ["the library", "the supervisor", "LIO iblock on it", "tgt on it, iSCSI over loopback"];
    let [library, supervisor, lio, tgt] = series.map(ratios);
    assert_eq!(library.len(), 16);
    let performance = source("docs/performance.md");
    for (((library, supervisor), lio), tgt) in library.iter().zip(&supervisor).zip(&lio).zip(&tgt) {
        let what = library.0.replace("1024 KiB", "1 MiB").replace("lvm", "LVM");
        let row = format!("| {what} | {} | {} | {} | {} |\n", library.1, supervisor.1, lio.1, tgt.1);
        assert!(performance.contains(&row), "docs/performance.md is to have: {row}");
    }
    let alternatives = source("docs/alternatives.md").split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, rows) in [("library", library), ("LIO", lio), ("tgt", tgt)] {
        let [least, most] = [rows.iter().map(|row| row.1).min(), rows.iter().map(|row| row.1).max()]
            .map(Option::unwrap_or_default);
        let range = format!("{least} to {most}");
        assert!(alternatives.contains(&range), "docs/alternatives.md is to say of {name}: {range}");
    }
}

/// docs/images/demo.svg is what scripts/demo-picture draws, with whichever loop device was free.
fn picture() {
    let scratch = Scratch::new();
    let new = scratch.path("demo.svg");
    let target = command().ancestors().nth(2).expect("it is in TARGET/release").to_path_buf();
    let draw = Run::new(sources().join("scripts/demo-picture")).arg(&new).env("CARGO_TARGET_DIR", target);
    draw.output().expect_out();
    // Where a line ends depends on the number.
    let printed = |picture: &str| {
        let texts = picture.split('>').skip(1).filter_map(|rest| rest.split('<').next());
        let text: String = texts.flat_map(str::split_whitespace).collect();
        let mut parts = text.split("/dev/loop");
        let first = parts.next().unwrap_or_default().to_owned();
        let is_digit = |letter: char| letter.is_ascii_digit();
        parts.fold(first, |all, part| all + "/dev/loopN" + part.trim_start_matches(is_digit))
    };
    let new = fs::read_to_string(new).expect("it was drawn");
    assert_eq!(
        printed(&new),
        printed(&source("docs/images/demo.svg")),
        "run scripts/demo-picture as root, and look at docs/images/demo.svg"
    );
}
