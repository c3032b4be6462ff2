//! Where the trace goes, and in which form.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::decode;
use super::record::Record;
use crate::entries::Device;
use crate::file::{Place, inode, proc_path};
use crate::host::scan::Host;
use crate::say::failure::{Failure, cause, say, shown};
use crate::say::finding::{Code, Finding};
use crate::say::{json, terminal};

/// What stands in the table's place where there is nothing to be counted.
pub const NOTHING: &str = "# No requests: the program sent none to the devices.\n";
/// The same where the library sends the requests.
pub const NOTHING_SENT: &str = "\
# No requests: the program sent none to the devices, or the library is not in it ('vmware-bdwrapper doctor' says why), or
# it cannot send them (a set-user-ID program, another network namespace; see vmware-bdwrapper-trace(1)).
";

/// The first line of the JSON form.
#[derive(Serialize, Deserialize)]
pub struct Begin {
    /// The version of the command.
    #[serde(rename = "vmware-bdwrapper")]
    pub version: String,
    /// The program; without its arguments, one of which could be a password.
    pub program: String,
    /// The device entries.
    pub devices: Vec<String>,
    /// The release of the kernel.
    pub linux: String,
}

/// A request's line of the JSON form.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    record: &'a Record,
    name: String,
    unknown: bool,
    asked: String,
    outcome: String,
}

/// A row of the table.
#[derive(Default, Serialize)]
struct Row {
    request: String,
    count: u64,
    answered: u64,
    forwarded: u64,
    unknown: u64,
    nanoseconds: u64,
}

/// The last line of the JSON form.
#[derive(Serialize)]
struct End<'a> {
    summary: Vec<&'a Row>,
    #[serde(flatten)]
    lacks: Lacks,
}

/// Why requests may be missing, a sentence each.
#[derive(Default, Serialize, Deserialize)]
pub struct Lacks {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<String>,
}

/// The trace in the making.
pub struct Output {
    out: Box<dyn Write + Send>,
    to_file: bool,
    json: bool,
    nothing: &'static str,
    rows: BTreeMap<String, Row>,
    /// False after a failure, or when a reader has left.
    open: bool,
    /// Whether the user has been told of a failure.
    failed: bool,
}

impl Output {
    /// The standard error, or a file of the user `owner`, which is made anew: what is written can never reach a device.
    /// `nothing` stands in the table's place where there is no request.
    pub fn new(
        file: Option<&Path>,
        owner: u32,
        json: bool,
        nothing: &'static str,
        devices: &[Device<'_>],
    ) -> Result<Output, Failure> {
        let out: Box<dyn Write + Send> = match file {
            None => Box::new(io::stderr()),
            Some(path) => Box::new(create(path, owner, devices)?),
        };
        let to_file = file.is_some();
        Ok(Output { out, to_file, json, nothing, rows: BTreeMap::new(), open: true, failed: false })
    }

    /// Says what is traced.
    pub fn begin(&mut self, program: &OsStr, devices: &[OsString]) {
        let begin = Begin {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            program: program.to_string_lossy().into_owned(),
            devices: devices.iter().map(|text| text.to_string_lossy().into_owned()).collect(),
            linux: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        };
        if self.json {
            return self.object(&begin);
        }
        let Begin { version, linux, .. } = &begin;
        let devices: Vec<String> = devices.iter().map(|text| shown(text).to_string()).collect();
        self.line(&format!(
            "# vmware-bdwrapper {version} on Linux {linux}: requests of {} to {}; what it reads and writes is not traced.\n",
            shown(program),
            devices.join(" ")
        ));
    }

    /// Writes a request.
    pub fn add(&mut self, record: &Record) {
        let name = decode::name(record);
        let unknown = record.is_unknown();
        let row = self.rows.entry(name.clone()).or_default();
        row.count += 1;
        *(if record.forwarded { &mut row.forwarded } else { &mut row.answered }) += 1;
        row.unknown += u64::from(unknown);
        row.nanoseconds = row.nanoseconds.saturating_add(record.nanoseconds);
        let (asked, outcome) = (decode::request(record), decode::outcome(record));
        if self.json {
            return self.object(&Line { record, name, unknown, asked, outcome });
        }
        let thread = if record.tid == record.pid { String::new() } else { format!("/{}", record.tid) };
        self.line(&format!(
            "{}[{}{thread}] {} fd {}: {asked} -> {outcome}; {} in {}\n",
            shown(&record.program),
            record.pid,
            shown(&record.device),
            record.fd,
            if record.forwarded { "forwarded" } else { "answered" },
            time(record.nanoseconds)
        ));
    }

    /// Writes the table and why requests may be missing, which is said too; false where something could not be written.
    pub fn end(mut self, incomplete: &[Finding]) -> bool {
        let mut rows = std::mem::take(&mut self.rows);
        for (name, row) in &mut rows {
            row.request.clone_from(name);
        }
        let rows: Vec<&Row> = rows.values().collect();
        if self.json {
            let lacks = Lacks {
                incomplete: incomplete.iter().map(|finding| format!("{}.", finding.fact())).collect(),
            };
            self.object(&End { summary: rows, lacks });
        } else {
            let text = if rows.is_empty() { self.nothing.to_owned() } else { table(&rows) };
            self.line(&text);
            if self.to_file {
                incomplete.iter().for_each(|finding| self.line(&format!("# {}.\n", finding.fact())));
                if io::stderr().is_terminal() {
                    let _ = io::stderr().write_all(text.as_bytes());
                }
            }
        }
        incomplete.iter().for_each(say);
        !self.failed
    }

    fn object(&mut self, object: &impl Serialize) {
        match json::line(object) {
            Ok(text) => self.line(&text),
            Err(finding) => self.fail(&finding.cause),
        }
    }

    /// At once: what has been written is complete whenever this process is killed.
    fn line(&mut self, text: &str) {
        if !self.open {
            return;
        }
        match self.out.write_all(text.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.open = false,
            Err(error) => self.fail(&cause(&error)),
            Ok(()) => {}
        }
    }

    fn fail(&mut self, cause: &str) {
        (self.open, self.failed) = (false, true);
        let why =
            format!("The trace cannot be written any further ({cause}), and ends here; the program goes on");
        say(Finding::problem(Code::Io, why).hint("write the trace elsewhere"));
    }
}

/// Makes the file, or makes it again. What is looked at is what is replaced, whoever may write its directory.
fn create(path: &Path, owner: u32, devices: &[Device<'_>]) -> Result<fs::File, Failure> {
    const ANOTHER: &str = "name another file";
    let usage = |finding: Finding, hint: &str| Err(Failure::usage(finding.of(path).hint(hint)));
    let no_file = || {
        let why = "is not a regular file, so the trace is not written there";
        usage(Finding::problem(Code::FileType, why), "name a file, or omit -o")
    };
    if path.file_name().is_none() {
        return no_file();
    }
    let place = Place::without_following(path)?;
    let old = place.found();
    match &old {
        Err(error) => {
            return usage(Finding::io("cannot be examined", error), ANOTHER);
        }
        Ok(Some((_, found))) if found.is_symlink() => {
            let why = "is a symbolic link, which somebody else may have made";
            return usage(Finding::problem(Code::Untrusted, why), "name the file itself");
        }
        Ok(Some((_, found))) if !found.is_file() => {
            return no_file();
        }
        Ok(Some((file, found))) => {
            let own = inode(file.metadata());
            if devices.iter().any(|device| inode(device.path().metadata()) == own) {
                let why = "is a listed device, which the trace would overwrite";
                return usage(Finding::problem(Code::InUse, why), ANOTHER);
            }
            if found.uid() != owner {
                let why = format!("belongs to user {}, who could read and change the trace", found.uid());
                return usage(Finding::problem(Code::Untrusted, why), ANOTHER);
            }
            // What uses it keeps the old file only as long as it has it open.
            let uses =
                Host::running().map_or_else(|_| Vec::new(), |host| host.uses_of_file(&proc_path(file)));
            if let Some(one) = uses.first() {
                let why = format!("{one}, which would lose what is on it");
                return usage(Finding::problem(Code::InUse, why), ANOTHER);
            }
        }
        Ok(None) if devices.iter().any(|device| device.path() == path) => {
            return usage(Finding::problem(Code::InUse, "is a listed device"), ANOTHER);
        }
        Ok(None) => {}
    }
    // Whoever could read the old file, and nobody else, can read the new one.
    Ok(place.renew(old.ok().flatten().map(|(file, _)| file).as_ref())?)
}

/// Nanoseconds for people.
fn time(nanoseconds: u64) -> String {
    format!("{}.{} us", nanoseconds / 1000, nanoseconds / 100 % 10)
}

fn table(rows: &[&Row]) -> String {
    let cells = |row: &&Row| {
        let [count, answered, forwarded, unknown] =
            [row.count, row.answered, row.forwarded, row.unknown].map(|number| number.to_string());
        [row.request.clone(), count, answered, forwarded, unknown, time(row.nanoseconds)]
    };
    let titles = ["Request", "Count", "Answered", "Forwarded", "Unknown", "Time"];
    format!("{}\n", terminal::grid(titles, rows.iter().map(cells)))
}
