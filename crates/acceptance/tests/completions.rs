//! `vmware-bdwrapper completions`, in the shells themselves.

#[expect(dead_code, reason = "the running system stays as it is")]
mod system;

use std::fs;
use std::process::ExitCode;

use acceptance::{Need, Run, Scratch, is_root, trial};
use system::command;

/// What a shell completes a line to.
type Words = fn(&str) -> Vec<String>;

fn main() -> ExitCode {
    let shells: [(&str, Words); 3] = [("bash", bash), ("fish", fish), ("zsh", zsh)];
    let mut trials: Vec<_> = shells
        .into_iter()
        .map(|(shell, words)| trial(shell, &[Need::Tool(shell)], move || completes(words)))
        .collect();
    for (shell, words) in shells {
        let of_values = move || values(words);
        trials.push(trial(format!("{shell}/entries, programs and users"), &[Need::Tool(shell)], of_values));
    }
    // clap's text for fish has no values of arguments without a name.
    for (shell, words) in [shells[0], shells[2]] {
        let values = move || assert!(words("vmware-bdwrapper completions ").contains(&"fish".to_owned()));
        trials.push(trial(format!("{shell}/values of an argument"), &[Need::Tool(shell)], values));
    }
    for (shell, words) in shells {
        let blanks = move || blanks(words);
        trials.push(trial(format!("{shell}/names with blanks"), &[Need::Tool(shell)], blanks));
    }
    for (shell, words) in shells {
        let needs = [Need::Root, Need::Tool(shell)];
        trials.push(trial(format!("{shell}/names of what was added"), &needs, move || added(words)));
    }
    trials.push(trial("zsh/the function of a directory", &[Need::Tool("zsh")], zsh_directory));
    trials.push(trial("help and errors", &[], errors));
    acceptance::main(trials)
}

/// The text for a shell, as a file of some name in a directory.
fn file(shell: &str, name: &str) -> (Scratch, String) {
    let scratch = Scratch::new();
    let path = scratch.path(name);
    let outcome = Run::new(command()).args(["completions", shell]).output();
    outcome.expect_out();
    assert_eq!(outcome.err(), "");
    fs::write(&path, outcome.stdout).expect("it is our directory");
    let path = path.to_str().expect("ASCII").to_owned();
    (scratch, path)
}

fn completes(words: Words) {
    for (line, wanted) in [
        ("vmware-bdwrapper pro", "probe"),
        ("vmware-bdwrapper ", "run"),
        ("vmware-bdwrapper ", "setup"),
        ("vmware-bdwrapper setup --no", "--no-setuid"),
        ("vmware-bdwrapper add --kind ", "sata"),
        ("vmware-bdwrapper remove --", "--dry-run"),
        ("vmware-bdwrapper probe --", "--device"),
        ("vmware-bdwrapper run --log-level ", "100"),
        ("vmware-bdwrapper probe --message-format ", "json"),
        ("vmware-bdwrapper run --engine ", "auto"),
        ("vmware-bdwrapper run --engine supervisor --message-format ", "json"),
        ("vmware-bdwrapper run --message-format json --engine supervisor unsha", "unshare"),
        ("vmware-bdwrapper probe --engine ", "supervisor"),
    ] {
        let found = words(line);
        assert!(found.iter().any(|word| word == wanted), "{line}: {found:?}");
        assert!(!found.iter().any(|word| word == "ask"), "what is hidden stays so: {found:?}");
    }
    for line in ["vmdk attach ", "vmdk attach x.vmdk ", "vmdk check ", "link ", "add ", "remove "] {
        let found = words(&format!("vmware-bdwrapper {line}"));
        assert!(!found.iter().any(|word| word.starts_with(['<', '['])), "{line}: {found:?}");
    }
}

/// The options of a device entry, programs, users and groups.
fn values(words: Words) {
    let scratch = Scratch::new();
    scratch.image("disk.img", 512);
    let image = scratch.path("disk.img").display().to_string();
    let directory = scratch.directory().display().to_string();
    for start in ["probe --device ", "run --device=", "setup --setuid -d ", "doctor --device ", "trace -d "] {
        let found = words(&format!("vmware-bdwrapper {start}{image}="));
        for option in ["scsi", "ide", "sata", "ro", "serial="] {
            // Some shells complete the word, others what stands behind the last equals sign.
            let is_it = |word: &String| word == option || word.ends_with(&format!("disk.img={option}"));
            assert!(found.iter().any(is_it), "{start}: {option}: {found:?}");
        }
        let others = |word: &String| word == "-" || word.ends_with('/') || word.ends_with("Cargo.toml");
        assert!(!found.iter().any(others), "{start}: {found:?}");
    }
    let more = words(&format!("vmware-bdwrapper probe --device {image}=scsi,r"));
    assert!(more.iter().any(|word| word == "ro" || word.ends_with("scsi,ro")), "{more:?}");
    let files = words(&format!("vmware-bdwrapper probe --device {directory}/di"));
    assert!(files.iter().any(|word| word.ends_with("disk.img")), "{directory}: {files:?}");
    for line in ["run --device /dev/sd/x -- unsha", "run -d /dev/sd/x unsha", "trace unsha", "doctor unsha"] {
        let found = words(&format!("vmware-bdwrapper {line}"));
        assert!(found.iter().any(|word| word == "unshare"), "{line}: {found:?}");
    }
    for (line, name) in [
        ("link /dev/sda --as /dev/sd/x --owner nobo", "nobody"),
        ("link /dev/sda --as /dev/sd/x --group daem", "daemon"),
        ("add /dev/sda --to nobo", "nobody"),
    ] {
        let found = words(&format!("vmware-bdwrapper {line}"));
        assert!(found.iter().any(|word| word == name), "{line}: {found:?}");
    }
}

/// The options of an entry whose name has a blank, in each way to quote it.
fn blanks(words: Words) {
    let scratch = Scratch::new();
    scratch.image("my disk.img", 512);
    let image = scratch.path("my disk.img").display().to_string();
    let escaped = image.replace(' ', "\\ ");
    for start in ["probe --device ", "run -d ", "vmdk create "] {
        for name in [format!("'{image}"), format!("\"{image}"), escaped.clone()] {
            let found = words(&format!("vmware-bdwrapper {start}{name}=s"));
            for option in ["scsi", "sata"] {
                let is_it = |word: &String| word == option || word.ends_with(&format!("disk.img={option}"));
                assert!(found.iter().any(is_it), "{start}{name}: {option}: {found:?}");
            }
        }
    }
    // What follows such a name is still a program.
    let program = words(&format!("vmware-bdwrapper run --device '{image}=scsi' -- unsha"));
    assert!(program.iter().any(|word| word == "unshare"), "{program:?}");
}

fn added(words: Words) {
    for line in ["remove ", "remove win", "remove --yes win"] {
        let found = words(&format!("vmware-bdwrapper {line}"));
        assert!(found.iter().any(|word| word == "windows"), "{line}: {found:?}");
    }
    let found = words("vmware-bdwrapper remove a/");
    assert!(found.iter().any(|word| word.ends_with("b")), "{found:?}");
    assert!(!words("vmware-bdwrapper add ").contains(&"windows".to_owned()));
}

/// A shell; root's is on a system to which devices were added.
fn shell(name: &str) -> Run {
    const ADDED: &str = "mount -t tmpfs tmpfs /var/lib\n\
        mkdir /var/lib/vmware-bdwrapper\n\
        printf '%s\\n' '{' '  \"additions\": [' '    {' '      \"name\": \"/dev/sd/windows\",' '    },' \
            '    {' '      \"name\": \"/dev/hd/a/b\",' >/var/lib/vmware-bdwrapper/added.json\n\
        exec \"$0\" \"$@\"";
    match is_root() {
        true => Run::new("unshare").args(["--mount", "sh", "-ec", ADDED, name]),
        false => Run::new(name),
    }
}

/// As readline calls the function: the command, the word at the cursor and the one before it. It takes words apart at equals signs,
/// but not behind a quotation mark that is open.
fn bash(line: &str) -> Vec<String> {
    let (_scratch, file) = file("bash", "completions");
    let is_open = |mark: &char| line.matches(*mark).count() % 2 == 1;
    let (start, open) = match ['\'', '"'].iter().find(|mark| is_open(mark)) {
        Some(mark) => line.rsplit_once(*mark).expect("it is there"),
        None => (line, ""),
    };
    let mut words: Vec<String> = start.replace('=', " = ").split(' ').map(str::to_owned).collect();
    *words.last_mut().expect("the command") += open;
    let script = "source \"$0\"\n\
                  COMP_LINE=$1 COMP_POINT=${#1}; shift\n\
                  COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1))\n\
                  function=$(complete -p vmware-bdwrapper | sed 's/.* -F \\([^ ]*\\) .*/\\1/')\n\
                  $function \"$1\" \"${@: -1}\" \"${@: -2:1}\"\n\
                  printf '%s\\n' \"${COMPREPLY[@]}\"";
    let run = shell("bash").args(["--norc", "-c", script]).arg(file).arg(line).args(words);
    run.output().expect_out().lines().map(str::to_owned).collect()
}

fn fish(line: &str) -> Vec<String> {
    let (scratch, file) = file("fish", "completions");
    let line = line.replace('\\', "\\\\").replace('\'', "\\'");
    let script = format!("source {file}; complete -C '{line}'");
    let out = shell("fish").args(["-N", "-c", &script]).env("HOME", scratch.directory()).output();
    // What it is follows behind a tab.
    out.expect_out().lines().filter_map(|line| line.split('\t').next().map(str::to_owned)).collect()
}

/// The line editor of a shell on a terminal of its own is given TAB, and says what its completions add.
fn zsh(line: &str) -> Vec<String> {
    const INNER: &str = "autoload -Uz compinit; compinit -D -u\n\
        compadd() {\n\
            if [[ -n ${(M)argv[1,(i)(-|--)]:#-*[OAD]*} ]]; then builtin compadd \"$@\"; return; fi\n\
            local -a found; builtin compadd -A found \"$@\"\n\
            print -rl -- '' found:$^found\n\
        }\n\
        tab() { zle complete-word; print -r -- END }\n\
        zle -N tab; bindkey '^I' tab\n\
        zle-line-init() { print -r -- EDITS }\n\
        zle -N zle-line-init\n";
    const OUTER: &str = "zmodload zsh/zpty\n\
        zpty z 'TERM=dumb zsh -f -i'\n\
        zpty -w z \"source $1; source $2\"\n\
        zpty -r z out '*EDITS*'\n\
        zpty -w -n z $3$'\\t'\n\
        zpty -r z out '*END*'\n\
        print -r -- $out\n";
    let (scratch, file) = file("zsh", "completions");
    let inner = scratch.path("inner");
    fs::write(&inner, INNER).expect("it is our directory");
    let run = shell("zsh").args(["-f", "-c", OUTER, "zsh"]).arg(inner).args([file.as_str(), line]);
    let out = run.env("HOME", scratch.directory()).output().expect_out();
    out.lines().filter_map(|line| line.trim().strip_prefix("found:").map(str::to_owned)).collect()
}

/// As a package installs it: found by its name.
fn zsh_directory() {
    let (scratch, _) = file("zsh", "_vmware-bdwrapper");
    let script = "fpath=($1 $fpath); autoload -Uz compinit; compinit -D -u; print $_comps[vmware-bdwrapper]; whence -w _vmware-bdwrapper";
    let run = Run::new("zsh").args(["-f", "-c", script, "zsh"]).arg(scratch.directory());
    let out = run.env("HOME", scratch.directory()).output().expect_out();
    assert_eq!(out, "_vmware-bdwrapper\n_vmware-bdwrapper: function\n");
}

fn errors() {
    let tasks = [
        "run",
        "probe",
        "trace",
        "doctor",
        "list",
        "libdir",
        "vmdk",
        "add",
        "remove",
        "setup",
        "link",
        "completions",
    ];
    let parts = ["create", "check", "refresh", "attach", "detach"].map(|part| vec!["vmdk", part]);
    for task in tasks.map(|task| vec![task]).into_iter().chain(parts) {
        let help = Run::new(command()).args(&task).arg("--help").output().expect_out();
        let is_command = |line: &&str| {
            let text = line.trim_start();
            text.len() + 2 <= line.len()
                && (text.starts_with("vmware-bdwrapper ") || text.starts_with("sudo "))
        };
        let (_, examples) = help.rsplit_once("\nExample").expect("it has one");
        let wanted = if examples.lines().filter(is_command).count() > 1 { "s:\n" } else { ":\n" };
        assert!(examples.starts_with(wanted), "{task:?}: {help}");
    }
    for arguments in [&["completions"][..], &["completions", "powershell"]] {
        let outcome = Run::new(command()).args(arguments).output();
        assert_eq!((outcome.code(), outcome.out().as_str()), (2, ""), "{arguments:?}");
        assert!(outcome.err().starts_with("vmware-bdwrapper: "), "{}", outcome.err());
    }
}
