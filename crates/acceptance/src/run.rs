//! Programs that run with an engine or without.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use disk::names;

use crate::engine::{COMMAND, Engine, engine};

/// Where programs are looked for; system tools stand in the `sbin` directories.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The options of env(1) that give a program the signals' default actions: who starts the tests may have it ignore some.
pub(crate) const DEFAULT_SIGNALS: [&str; 2] = ["--default-signal=INT,QUIT,HUP", "--"];

/// The user and group `nobody`.
const NOBODY: u32 = 65534;

/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until there is an answer, and fails the test where none comes for as long as no program may take.
pub fn wait_for<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: none within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the parent of a process that runs.
pub fn parent(process: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))
        .unwrap_or_else(|error| panic!("{process}: {error}"));
    status.lines().find_map(|line| line.strip_prefix("PPid:\t")).expect("each has one").to_owned()
}

/// A program to be run, in an environment that depends on nothing but what is set here.
pub struct Run {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    trace: Option<(PathBuf, Vec<OsString>)>,
    /// What runs it, with its options: `vmware-bdwrapper run --engine supervisor`, or what forbids that.
    runner: Vec<OsString>,
    nobody: bool,
    default_signals: bool,
    job: bool,
    stdin: Vec<u8>,
    stderr: Option<Stdio>,
}

impl Run {
    /// A program by name or path.
    pub fn new(program: impl AsRef<OsStr>) -> Run {
        Run {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            trace: None,
            runner: Vec::new(),
            nobody: false,
            default_signals: false,
            job: false,
            stdin: Vec::new(),
            stderr: None,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Run {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<T: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = T>) -> Run {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Run {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Lists devices, and has the engine answer that is tested: the library or, beside it, the supervisor.
    pub fn with(self, library: &Path, devices: impl AsRef<OsStr>) -> Run {
        self.with_engine(engine(), library, devices)
    }

    /// The same with another engine.
    pub fn with_engine(self, engine: Engine, library: &Path, devices: impl AsRef<OsStr>) -> Run {
        match engine {
            Engine::Library => self.env("LD_PRELOAD", library).env(names::DEVICES, devices),
            Engine::Supervisor => self.supervised(&library.with_file_name(COMMAND), devices),
        }
    }

    /// Runs it under a supervisor, and lists devices.
    pub fn supervised(mut self, command: &Path, devices: impl AsRef<OsStr>) -> Run {
        let options = ["run", "--engine", "supervisor", "--force"].map(OsString::from);
        self.runner = [command.into()].into_iter().chain(options).collect();
        for entry in devices.as_ref().as_bytes().split(|byte| *byte == b':').filter(|entry| !entry.is_empty())
        {
            self.runner.extend(["--device".into(), OsStr::from_bytes(entry).to_owned()]);
        }
        self.runner.push("--".into());
        self
    }

    /// Has another program start all that.
    pub fn behind<T: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = T>) -> Run {
        self.runner.splice(0..0, words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Has a system call fail in it with this errno, by `programs/forbid.c`, as it does in some sandboxes.
    pub fn forbidden(mut self, call: &str, errno: i32) -> Run {
        self.runner = vec![crate::build::program("forbid").into(), call.into(), errno.to_string().into()];
        self
    }

    /// Sets the log level.
    pub fn level(self, level: i32) -> Run {
        self.env(names::LOG_LEVEL, level.to_string())
    }

    /// Runs it as the user `nobody`.
    pub fn nobody(mut self) -> Run {
        self.nobody = true;
        self
    }

    /// Has it ignore no signal that this process ignores, as one does that a shell without job control started in the background,
    /// or nohup(1).
    pub fn default_signals(mut self) -> Run {
        self.default_signals = true;
        self
    }

    /// Runs it as a shell runs a job: in a process group of its own, which can be stopped by all signals that stop.
    pub fn job(mut self) -> Run {
        self.job = true;
        self
    }

    /// What it reads from its standard input.
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Run {
        self.stdin = text.into();
        self
    }

    /// Where its standard error goes; it is captured otherwise.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Run {
        self.stderr = Some(stderr.into());
        self
    }

    /// Has strace(1) write the program's calls to a file; `options` are strace's.
    pub fn traced<T: AsRef<OsStr>>(mut self, file: &Path, options: impl IntoIterator<Item = T>) -> Run {
        let options = options.into_iter().map(|option| option.as_ref().to_owned()).collect();
        self.trace = Some((file.to_path_buf(), options));
        self
    }

    fn command(&self) -> Command {
        let words: Vec<&OsStr> = self.runner.iter().map(OsString::as_os_str).collect();
        let words: Vec<&OsStr> = [&words[..], &[&self.program]].concat();
        let started = |program: &OsStr| match self.default_signals {
            true => {
                let mut command = Command::new("env");
                command.args(DEFAULT_SIGNALS).arg(program);
                command
            }
            false => Command::new(program),
        };
        let mut command = match &self.trace {
            None => {
                let mut command = started(words[0]);
                command.args(&words[1..]);
                command
            }
            Some((file, options)) => {
                // The library is for the traced program, not for strace.
                let mut command = started(OsStr::new("strace"));
                command.arg("-o").arg(file).args(options);
                for (name, value) in &self.environment {
                    let mut setting = name.clone();
                    setting.push("=");
                    setting.push(value);
                    command.arg("-E").arg(setting);
                }
                command.arg("--").args(&words);
                command
            }
        };
        command.args(&self.arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C").env("TZ", "UTC");
        if self.trace.is_none() {
            command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        }
        if self.job {
            command.process_group(0);
        }
        if self.nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn spawn(&mut self, command: &mut Command) -> Child {
        let stderr = self.stderr.take().unwrap_or_else(Stdio::piped);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn();
        child.unwrap_or_else(|error| panic!("{} cannot be run: {error}", Path::new(&self.program).display()))
    }

    /// Runs it to its end.
    pub fn output(mut self) -> Outcome {
        let mut command = self.command();
        let mut child = self.spawn(&mut command);
        let watchdog = Watchdog::new(child.id());
        let mut stdin = child.stdin.take().expect("it is a pipe");
        let input = std::mem::take(&mut self.stdin);
        // A program may end without reading all of its input.
        let feed = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("our own child can be waited for");
        feed.join().expect("it cannot panic");
        watchdog.end(&self.program);
        Outcome { status: output.status, stdout: output.stdout, stderr: output.stderr }
    }

    /// Starts it for a conversation: a line in, a line out. Its standard error is kept in a file.
    pub fn start(mut self, stderr: &Path) -> Session {
        self.stderr = Some(File::create(stderr).expect("the scratch directory can be written").into());
        let mut command = self.command();
        let mut child = self.spawn(&mut command);
        Session {
            watchdog: Some(Watchdog::new(child.id())),
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("it is a pipe")),
            stderr: stderr.to_path_buf(),
            program: self.program,
            child,
        }
    }
}

/// How a program ended.
pub struct Outcome {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Whether it ended with status 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Its exit status; a program killed by a signal fails the test.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| {
            panic!("it was killed by signal {:?}; stderr: {}", self.status.signal(), self.err())
        })
    }

    /// Its standard output.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard error.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Its standard output, provided that it ended well.
    pub fn expect_out(&self) -> String {
        assert_eq!(self.code(), 0, "stdout: {}\nstderr: {}", self.out(), self.err());
        self.out()
    }
}

/// A running program that answers each line of its input by a line of output; killed at the end if it still runs.
pub struct Session {
    program: OsString,
    child: Child,
    watchdog: Option<Watchdog>,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: PathBuf,
}

impl Session {
    /// Sends a line and returns the answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.answer(line)
    }

    /// Sends a line.
    pub fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is open until the end");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("{line}: {error}"));
    }

    /// The next line that it writes by itself.
    pub fn line(&mut self) -> String {
        self.answer("a line")
    }

    fn answer(&mut self, line: &str) -> String {
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).expect("a pipe can be read");
        assert!(answer.ends_with('\n'), "{line}: the program has ended; stderr: {}", self.err());
        answer.trim_end().to_owned()
    }

    /// What it wrote to its standard error so far.
    pub fn err(&self) -> String {
        let text = std::fs::read(&self.stderr).expect("the scratch directory can be read");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Closes its input, waits for its end and returns its exit status.
    pub fn end_with(mut self) -> i32 {
        drop(self.stdin.take());
        let status = self.child.wait().expect("our own child can be waited for");
        self.watchdog.take().expect("it is taken here alone").end(&self.program);
        status.code().unwrap_or_else(|| panic!("{status}; stderr: {}", self.err()))
    }

    /// Closes its input, waits for its end and returns all it wrote to its standard error.
    pub fn end(mut self) -> String {
        drop(self.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("a pipe can be read");
        let status = self.child.wait().expect("our own child can be waited for");
        self.watchdog.take().expect("it is taken here alone").end(&self.program);
        assert!(status.success() && rest.is_empty(), "{status}; stdout: {rest}; stderr: {}", self.err());
        self.err()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            drop(watchdog);
        }
    }
}

/// Kills a program that hangs.
struct Watchdog {
    ended: Sender<()>,
    thread: JoinHandle<bool>,
}

impl Watchdog {
    fn new(process: u32) -> Watchdog {
        let (ended, wait) = channel();
        let thread = std::thread::spawn(move || {
            let hangs = wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
            if hangs {
                let _ = Command::new("kill").args(["-KILL", &process.to_string()]).status();
            }
            hangs
        });
        Watchdog { ended, thread }
    }

    fn end(self, program: &OsStr) {
        drop(self.ended);
        let hung = self.thread.join().expect("it cannot panic");
        assert!(!hung, "{} did not end within {PATIENCE:?}", Path::new(program).display());
    }
}
