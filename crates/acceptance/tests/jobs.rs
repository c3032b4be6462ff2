//! Job control: on a terminal, both engines are to the shell and to the user what the program alone would be.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use acceptance::{Disk, Engine, Medium, Need, Terminal, main as harness, program_with, test_engine, trial};

const PROMPT: &str = "% ";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";
const CTRL_BACKSLASH: &str = "\x1c";

/// Waits for the end of a job that is stopped, of which the shell says at first that it is stopped.
const WAIT: &str = "while wait %1 2>/dev/null; status=$?; [ $status = 148 ]; do :; done; (exit $status)";

/// Waits until all jobs are stopped.
const NONE_RUNS: &str = "while jobs -r | grep -q .; do :; done";

const ENGINES: [&str; 2] = ["library", "supervisor"];

fn main() -> ExitCode {
    test_engine(Engine::Supervisor);
    let needs: &[Need] = &[Need::Tool("cc"), Need::Tool("bash"), Need::Tool("setsid")];
    harness(vec![
        trial("shell/keys", needs, || alike(keys)),
        trial("shell/stopped and continued", needs, || alike(stopped)),
        trial("shell/a background job reads the terminal", needs, || alike(background)),
        trial("shell/killed while it is stopped", needs, || alike(killed)),
        trial("shell/the size of the terminal", needs, || alike(size)),
        trial("shell/a pipeline", needs, || alike(pipeline)),
        trial("shell/a shell with jobs of its own", needs, || alike(nested)),
        trial("alone/a key that stops is for a shell", needs, || alone(no_shell)),
        trial("alone/the terminal hangs up", needs, || alone(hung_up)),
    ])
}

/// A disk, and a program that the library reaches.
struct Setup {
    disk: Disk,
    program: PathBuf,
}

impl Setup {
    fn new() -> Setup {
        let disk = Disk::new(Medium::Image, "scsi", 1 << 20);
        let program =
            disk.scratch().copy(&program_with("supervised", "supervised-dynamic", &["-O2"]), "supervised");
        disk.scratch().copy(&acceptance::library(), "libvmware_bdwrapper.so");
        Setup { disk, program }
    }

    /// The words that run a program by an engine.
    fn run(&self, engine: &str) -> Vec<String> {
        let command = self.disk.scratch().command().display().to_string();
        let entry = self.disk.entry();
        [&command, "run", "--engine", engine, "--force", "--device", &entry, "--"].map(str::to_owned).to_vec()
    }
}

/// An interactive shell, with `$RUN`, and with `$ASK`, which answers each line by asking the disk.
struct Shell {
    terminal: Terminal,
}

impl Shell {
    fn start(setup: &Setup, engine: &str) -> Shell {
        let run = setup.run(engine).join(" ");
        let ask = format!("{} lines {}", setup.program.display(), setup.disk.path().display());
        let words = ["bash", "--norc", "--noprofile", "--noediting", "-i"];
        let up = setup.disk.scratch().path("up").display().to_string();
        let variables =
            [("UP", up), ("RUN", run), ("ASK", ask), ("PS1", PROMPT.to_owned()), ("HISTFILE", String::new())];
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, OsStr::new(value))).collect();
        let terminal = Terminal::start(&words, &variables);
        let mut shell = Shell { terminal };
        shell.prompt();
        // So it says by which signal a job is stopped.
        shell.ask("set -o posix; ulimit -c 0");
        shell
    }

    /// Types a command.
    fn begin(&mut self, command: &str) {
        self.terminal.press(&format!("{command}\n"));
        self.terminal.wait(&format!("{command}\n"));
    }

    /// Waits until the shell takes another command.
    fn prompt(&mut self) -> String {
        let shown = self.terminal.wait_with("a prompt", |text| text.ends_with(PROMPT).then_some(text.len()));
        shown.trim_end_matches(PROMPT).to_owned()
    }

    /// Waits until a command has ended or is stopped, and returns what is shown up to there, and its status.
    fn status(&mut self) -> String {
        let shown = self.prompt();
        self.begin("echo \"<$?>\"");
        shown + &self.prompt()
    }

    fn ask(&mut self, command: &str) -> String {
        self.begin(command);
        self.status()
    }

    /// Has `$ASK` ask the disk.
    fn is_answered(&mut self) -> String {
        self.terminal.press("ask\n");
        self.terminal.wait("answered\n")
    }

    fn press(&mut self, key: &str) {
        self.terminal.press(key);
    }
}

/// What a trial shows, line by line without what differs from run to run.
type Shown = Vec<String>;

/// Checks that a trial shows the same with both engines, and what it is to show.
fn alike(trial: fn(&mut Shell) -> (Shown, &'static str)) {
    let setup = Setup::new();
    for engine in ENGINES {
        let (shown, wanted) = trial(&mut Shell::start(&setup, engine));
        // Blanks and line ends, which a key echoes or not.
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(words(&shown.join(" ")), words(wanted), "{engine}");
    }
}

fn keys(shell: &mut Shell) -> (Shown, &'static str) {
    let mut shown = Vec::new();
    for key in [CTRL_C, CTRL_BACKSLASH, CTRL_D] {
        shell.begin("$RUN $ASK");
        shell.is_answered();
        shell.press(key);
        shown.push(shell.status());
    }
    shell.begin("$RUN sh -c 'trap \"echo caught; exit 4\" INT; echo ready; while :; do sleep 0.01; done'");
    shell.terminal.wait("ready\n");
    shell.press(CTRL_C);
    shown.push(shell.status());
    (shown, "^C <130> ^\\Quit <131> <0> ^Ccaught <4>")
}

fn stopped(shell: &mut Shell) -> (Shown, &'static str) {
    let mut shown = Vec::new();
    shell.begin("$RUN $ASK");
    for _ in 0..3 {
        shell.is_answered();
        shell.press(CTRL_Z);
        shown.push(shell.status());
        shown.push(shell.ask("jobs"));
        shell.begin("fg");
    }
    shell.is_answered();
    shell.press(CTRL_Z);
    shown.push(shell.status());
    // A signal that no process can put off, and one of somebody else.
    shell.ask(&format!("kill %1; {WAIT}"));
    // Before it is executed, it is the shell itself, which ignores one of them.
    shell.begin("$RUN sh -c '>$UP; exec sleep 1000' &");
    shell.prompt();
    shell.ask("until [ -e $UP ]; do :; done; rm $UP");
    for signal in ["STOP", "TSTP"] {
        shell.ask(&format!("kill -{signal} %1; {NONE_RUNS}"));
        shown.push(shell.ask("jobs"));
        shell.ask("bg");
    }
    shown.push(shell.ask("kill %1; wait %1"));
    let key = "^Z [1]+ Stopped(SIGTSTP) $RUN $ASK <148> [1]+ Stopped(SIGTSTP) $RUN $ASK <0> ".repeat(3);
    let wanted = format!(
        "{key}^Z [1]+ Stopped(SIGTSTP) $RUN $ASK <148> [1]+ Stopped(SIGSTOP) $RUN sh -c '>$UP; exec sleep 1000' <0> \
         [1]+ Stopped(SIGTSTP) $RUN sh -c '>$UP; exec sleep 1000' <0> [1]+ Terminated $RUN sh -c '>$UP; exec sleep 1000' <143>"
    );
    (shown, wanted.leak())
}

fn background(shell: &mut Shell) -> (Shown, &'static str) {
    let mut shown = Vec::new();
    shell.ask("$RUN $ASK &");
    shell.ask(NONE_RUNS);
    shown.push(shell.ask("jobs"));
    shell.begin("fg");
    shell.is_answered();
    shell.press(CTRL_D);
    shown.push(shell.status());
    (shown, "[1]+ Stopped(SIGTTIN) $RUN $ASK <0> <0>")
}

fn killed(shell: &mut Shell) -> (Shown, &'static str) {
    let mut shown = Vec::new();
    shell.begin("$RUN sh -c 'echo \"($$)\"; read line'");
    shell.terminal.wait("(");
    let number = shell.terminal.wait(")");
    shell.press(CTRL_Z);
    shell.status();
    let kill = format!("kill -KILL {}", number.trim_end_matches(')'));
    let status = shell.ask(&format!("{kill}; {WAIT}"));
    // It may say before that the job has been killed.
    shown.extend(status.split_whitespace().next_back().map(str::to_owned));
    (shown, "<137>")
}

fn size(shell: &mut Shell) -> (Shown, &'static str) {
    let mut shown = Vec::new();
    shell.terminal.resize(33, 77);
    shown.push(shell.ask("$RUN stty size"));
    shell.begin("$RUN bash -c 'trap \"stty size; exit 5\" WINCH; echo ready; while :; do sleep 0.01; done'");
    shell.terminal.wait("ready\n");
    shell.terminal.resize(44, 88);
    shown.push(shell.status());
    (shown, "33 77 <0> 44 88 <5>")
}

fn pipeline(shell: &mut Shell) -> (Shown, &'static str) {
    let shown = vec![
        shell.ask("echo text | $RUN $ASK | cat"),
        shell.ask("$RUN sh -c 'kill -PIPE $$' | cat; echo ${PIPESTATUS[0]}"),
    ];
    (shown, "answered <0> 141 <0>")
}

fn nested(shell: &mut Shell) -> (Shown, &'static str) {
    let mut shown = Vec::new();
    shell.begin("$RUN bash --norc --noprofile --noediting --posix -i");
    shell.prompt();
    shell.begin("$ASK");
    shell.is_answered();
    shell.press(CTRL_Z);
    shown.push(shell.status());
    shown.push(shell.ask("jobs"));
    shell.begin("fg");
    shell.is_answered();
    shell.press(CTRL_C);
    shown.push(shell.status());
    shown.push(shell.ask("suspend"));
    shell.begin("fg");
    shell.terminal.wait("-i\n");
    shell.prompt();
    shown.push(shell.ask("echo again"));
    shown.push(shell.ask("exit 7"));
    let stops =
        "^Z [1]+ Stopped(SIGTSTP) $ASK <148> [1]+ Stopped(SIGTSTP) $ASK <0> ^C <130> [1]+ Stopped(SIGSTOP)";
    let shell = "$RUN bash --norc --noprofile --noediting --posix -i";
    (shown, format!("{stops} {shell} <147> again <0> exit <7>").leak())
}

/// Runs a program that is the first of its session.
fn alone(trial: fn(&Setup, Terminal)) {
    let setup = Setup::new();
    for engine in ENGINES {
        let script = "trap 'echo hung up >\"$0\"; exit' HUP; echo ready; while :; do sleep 0.01; done";
        let output = setup.disk.scratch().path("output").display().to_string();
        let words = [&setup.run(engine)[..], &["bash", "-c", script, &output].map(str::to_owned)].concat();
        let mut terminal = Terminal::start(&words, &[]);
        terminal.wait("ready\n");
        trial(&setup, terminal);
    }
}

/// Nobody would continue it.
fn no_shell(_: &Setup, mut terminal: Terminal) {
    terminal.press(CTRL_Z);
    terminal.press(CTRL_C);
    assert_eq!(terminal.end(), None);
}

fn hung_up(setup: &Setup, terminal: Terminal) {
    let output = setup.disk.scratch().path("output");
    terminal.hang_up();
    assert_eq!(fs::read_to_string(&output).ok().as_deref(), Some("hung up\n"));
    fs::remove_file(&output).expect("the program has written it");
}
