//! `vmware-bdwrapper trace --replay`: makes recorded requests anew.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::mem::offset_of;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitCode, Stdio};

use comfy_table::{Table, presets};
use disk::abi::{Abi, SG_DXFER_FROM_DEV, ScsiIoctlCommand, SgIoHdr};
use disk::ioctl::hdio_drive;
use disk::request::{
    Argument, HDIO_DRIVE_CMD, HDIO_DRIVE_TASK, HDIO_DRIVE_TASKFILE, HDIO_GETGEO, Request,
    SCSI_IOCTL_SEND_COMMAND, SG_IO, find,
};
use disk::{ata, sat, scsi};
use serde::{Deserialize, Serialize};
use vmware::Input;

use super::decode;
use super::output::Begin;
use super::receiver::{self, Message, Receiver, Sender};
use super::record::{Moved, Record, digits};
use super::{Family, failed};
use crate::check::library;
use crate::entries;
use crate::say::failure::{FORMAT, Failure, Format, print, say, shown};
use crate::say::finding::{Code, Finding};
use crate::say::json;

/// The longest line of a trace: twice what the largest record needs.
const LONGEST: u64 = 256 * 1024;

/// How many differences are remembered, so that one that comes again is not shown in full.
const MOST_SHOWN: usize = 4096;

/// The longest recorded value, in characters, behind which the one of now stands in the same line.
const WIDEST: usize = 40;

/// How many parts of data without names are shown, and how many bytes of each.
const MOST_RUNS: usize = 8;
const MOST_BYTES: usize = 16;

/// A request for the process that makes it.
#[derive(Serialize, Deserialize)]
struct Order {
    /// The place of its device among the process's arguments.
    device: usize,
    request: u32,
    given: Input,
}

/// A request of which something else comes now.
#[derive(Serialize)]
struct Difference {
    /// The line of the trace.
    line: u64,
    request: String,
    /// All that came of it.
    recorded: String,
    now: String,
    /// What differs.
    fields: Vec<Field>,
}

/// A part of what came of a request that differs.
#[derive(Debug, Hash, PartialEq, Eq, Serialize)]
struct Field {
    name: String,
    recorded: String,
    now: String,
}

/// Requests that were not made.
#[derive(Serialize)]
struct LeftOut {
    request: String,
    why: &'static str,
    count: u64,
}

/// The last line of the JSON form.
#[derive(Serialize)]
struct End {
    requests: u64,
    same: u64,
    different: u64,
    left_out: Vec<LeftOut>,
}

/// Replays a trace; the exit status says whether all is as recorded.
pub fn replay(file: &Path, devices: Vec<OsString>, json: bool, write: bool) -> Result<ExitCode, Failure> {
    let line_of = |line: u64| format!("{}, line {line}", shown(file));
    if write && devices.is_empty() {
        let finding = Finding::problem(Code::Usage, "With --write no device is taken from the trace");
        return Err(finding.hint("name the device by --device ENTRY").into());
    }
    let unread = |finding: Finding| finding.of(file).hint("name a trace that can be read");
    let unreadable = |error: io::Error| unread(Finding::io("cannot be read", &error));
    // What waits for a writer, or has no end.
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unread(Finding::problem(Code::FileType, "is not a regular file")).into());
    }
    let mut lines = Lines::new(File::open(file).map_err(unreadable)?);
    let first = lines.next().map_err(unreadable)?.unwrap_or_default();
    let begin: Begin = parse(&first).map_err(|finding: Finding| finding.of(line_of(1)))?;
    let texts: Vec<OsString> = match devices.is_empty() {
        true => begin.devices.iter().map(OsString::from).collect(),
        false => devices,
    };
    let listed = entries::parse(&entries::texts(texts.clone())?)?
        .iter()
        .map(|device| device.entry.path.to_vec())
        .collect::<Vec<_>>();
    let names: Vec<String> = listed.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    let mut replay = Replay::start(&texts, write)?;
    // Nothing recorded may reach a kernel's driver: neither that of a device which the library refuses, nor any when it is not
    // loaded.
    for (device, name) in names.iter().enumerate() {
        replay.make(&Order { device, request: HDIO_GETGEO, given: Input::Memory(Vec::new()) }, name)?;
    }
    let mut result =
        Tally { json, requests: 0, same: 0, different: 0, left_out: BTreeMap::new(), shown: HashMap::new() };
    let mut is_whole = false;
    while let Some(line) = lines.next().map_err(unreadable)? {
        if line.starts_with(b"{\"summary\":") {
            is_whole = true;
            continue;
        }
        let recorded: Record = match parse(&line) {
            Ok(record) => record,
            // A trace whose writer was killed.
            Err(_) if !line.ends_with(b"\n") && (line.len() as u64) < LONGEST => {
                say(Finding::warning(Code::Incomplete, "is cut off, and was left out")
                    .of(line_of(lines.number)));
                break;
            }
            Err(finding) => return Err(finding.of(line_of(lines.number)).into()),
        };
        result.requests += 1;
        let place = match names.iter().position(|name| *name == recorded.device) {
            None if names.len() == 1 => Some(0),
            place => place,
        };
        let order = match place {
            None => Err("its device is not given"),
            Some(device) => {
                given(&recorded, write).map(|given| Order { device, request: recorded.request, given })
            }
        };
        match order {
            Err(why) => result.leave_out(&recorded, why),
            Ok(order) => {
                let now = replay.make(&order, &recorded.device)?;
                result.compare(lines.number, &recorded, &now)?;
            }
        }
    }
    if !is_whole {
        let why = "has no summary at its end, because it was cut off, so requests may be missing";
        say(Finding::warning(Code::Incomplete, why).of(file));
    }
    result.end()
}

/// No request may follow: a kernel's driver would get it.
fn unanswered(device: &str) -> Failure {
    let why = "the library does not answer for it, so no request is made there";
    let finding = Finding::problem(Code::NotReady, why).of(device);
    finding.hint("'vmware-bdwrapper probe' says why").into()
}

/// The lines of a file, however long it is.
struct Lines {
    reader: BufReader<File>,
    number: u64,
}

impl Lines {
    fn new(file: File) -> Lines {
        Lines { reader: BufReader::new(file), number: 0 }
    }

    /// The next one with its end; what is too long is cut off.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        self.number += 1;
        Ok((!line.is_empty()).then_some(line))
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Finding> {
    let malformed = |why: String| {
        let finding = Finding::problem(Code::Malformed, why);
        finding.hint("give a trace that was made by 'vmware-bdwrapper trace --json'")
    };
    if line.len() as u64 >= LONGEST {
        return Err(malformed(format!("is longer than {LONGEST} bytes")));
    }
    serde_json::from_slice(line).map_err(|error| malformed(format!("is not a record ({error})")))
}

/// What a request is given again, or why it is not made.
fn given(record: &Record, write: bool) -> Result<Input, &'static str> {
    let given = recorded(record)?;
    match write || changes_nothing(record.request, &given) {
        true => Ok(given),
        false => Err("it could change the device (--write)"),
    }
}

/// Whether the row of a request, and that of the command which it sends, say that it changes nothing.
fn changes_nothing(request: u32, given: &Input) -> bool {
    let scsi = |cdb: &[u8]| {
        let mut whole = [0; 16];
        disk::bytes::copy(&mut whole, 0, cdb);
        let command = scsi::command::find(whole[0], whole[1] & 0x1f);
        command.is_some_and(|command| sat::changes_nothing(command, &whole))
    };
    match (request, given) {
        (SG_IO, Input::Command { cdb, .. }) => scsi(cdb),
        (SCSI_IOCTL_SEND_COMMAND, Input::Memory(bytes)) => {
            bytes.get(size_of::<ScsiIoctlCommand>()..).is_some_and(scsi)
        }
        (HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE, Input::Memory(bytes)) => {
            let registers = hdio_drive::registers(Abi::Native, request, bytes);
            registers.is_some_and(|registers| ata::command::changes_nothing(&registers))
        }
        _ => find(request).is_some_and(Request::changes_nothing),
    }
}

/// What a request was given, where all of it is recorded.
fn recorded(record: &Record) -> Result<Input, &'static str> {
    const NOT_WHOLE: &str = "not all that it was given is recorded";
    if find(record.request).is_none() {
        return Err("what it does is not known");
    }
    if let Some(moved) = record.moved() {
        let hdr: SgIoHdr = record.given.structure();
        if hdr.interface_id != SgIoHdr::INTERFACE
            || record.cdb.0.is_empty()
            || record.cdb.0.len() != usize::from(hdr.cmd_len)
        {
            return Err(NOT_WHOLE);
        }
        if moved.length > vmware::LONGEST {
            return Err("it moves too much");
        }
        let from_disk = moved.direction == SG_DXFER_FROM_DEV;
        if !from_disk && record.data.0.len() < moved.length as usize {
            return Err("its data is not recorded");
        }
        let data = if from_disk { Vec::new() } else { record.data.0.clone() };
        let sense = (hdr.sbp != 0).then_some(hdr.mx_sb_len);
        let Moved { direction, length, .. } = moved;
        return Ok(Input::Command { direction, cdb: record.cdb.0.clone(), data, length, sense });
    }
    match find(record.request).map(|request| request.argument) {
        Some(Argument::Number | Argument::None) => Ok(Input::Number(record.argument)),
        _ if !vmware::is_self_contained(record.request) => Err(NOT_WHOLE),
        Some(Argument::In(_)) if record.given.0.is_empty() => Err(NOT_WHOLE),
        _ if record.request == SCSI_IOCTL_SEND_COMMAND
            && record.given.structure::<ScsiIoctlCommand>().inlen != 0 =>
        {
            Err("its data is not recorded")
        }
        _ if record.request == HDIO_DRIVE_TASKFILE && moves_to_disk(record) => {
            Err("its data is not recorded")
        }
        _ => Ok(Input::Memory(record.given.0.clone())),
    }
}

/// Whether `HDIO_DRIVE_TASKFILE` has data for the disk.
fn moves_to_disk(record: &Record) -> bool {
    record.ata_command().is_none_or(|command| command.protocol.is_to_disk())
}

/// The process that makes the requests, and what it gets.
struct Replay {
    receiver: Receiver,
    orders: BufWriter<ChildStdin>,
    buffer: Vec<u8>,
}

impl Replay {
    fn start(texts: &[OsString], write: bool) -> Result<Replay, Failure> {
        let listed = entries::parse(texts)?;
        let library = library::ordinary()?;
        let receiver = Receiver::new()?;
        let mut command = Command::new("/proc/self/exe");
        if FORMAT.get() == Some(&Format::Json) {
            command.arg("--message-format=json");
        }
        command.arg("resend").args(write.then_some("--write")).arg("--");
        command.args(listed.iter().map(entries::Device::path));
        let existing = library::removed(std::env::var_os(library::VARIABLE).as_deref());
        command.env(library::VARIABLE, library::appended(existing.as_deref(), &library));
        command.env(entries::VARIABLE, entries::list(texts));
        command.env(disk::names::TRACE, receiver.variable());
        command.stdin(Stdio::piped());
        let stopped = |error| failed("The process that makes the requests cannot be started", &error);
        let family = Family::start(&mut command, &receiver).map_err(stopped)?;
        let orders = BufWriter::new(family.input.ok_or_else(|| stopped(io::ErrorKind::BrokenPipe.into()))?);
        Ok(Replay { receiver, orders, buffer: receiver::buffer() })
    }

    /// Makes a request of the device of this name; fails where the library did not see it.
    fn make(&mut self, order: &Order, device: &str) -> Result<Box<Record>, Failure> {
        let ended = || {
            let why = "The process that makes the requests has ended";
            Finding::problem(Code::Incomplete, why).hint("see what it says above").into()
        };
        let send = |orders: &mut BufWriter<ChildStdin>| -> io::Result<()> {
            serde_json::to_writer(&mut *orders, order)?;
            orders.write_all(b"\n")?;
            orders.flush()
        };
        // Where it has ended, that comes as a message.
        let _ = send(&mut self.orders);
        let mut found = None;
        loop {
            match self.receiver.next(&mut self.buffer) {
                Message::Record(record) => found = Some(record),
                Message::Done => return found.ok_or_else(|| unanswered(device)),
                Message::End => return Err(ended()),
            }
        }
    }
}

/// Makes the requests that come on the standard input, for the process that started this one.
pub fn resend(paths: &[PathBuf], write: bool) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Finding::io("The requests do not arrive", &error).hint("start the replay again");
    let sender = Sender::of_environment().map_err(failed)?;
    let mut files = Vec::new();
    for path in paths {
        files.push(vmware::open(path, write).map_err(|error| {
            let what = if write { "cannot be opened for writing" } else { "cannot be opened for reading" };
            Finding::io(what, &error).of(path).hint("name a device that can")
        })?);
    }
    for line in io::stdin().lines() {
        let order: Order =
            serde_json::from_str(&line.map_err(failed)?).map_err(|error| failed(error.into()))?;
        if let Some(file) = files.get(order.device) {
            // What is not made is not recorded, which is what the other process sees.
            let _ = vmware::resend(file, order.request, &order.given);
        }
        sender.done().map_err(failed)?;
    }
    Ok(())
}

/// What has come of it.
struct Tally {
    json: bool,
    requests: u64,
    same: u64,
    different: u64,
    left_out: BTreeMap<(String, &'static str), u64>,
    /// The line of each difference that was shown, by the hash of its text.
    shown: HashMap<u64, u64>,
}

impl Tally {
    fn leave_out(&mut self, record: &Record, why: &'static str) {
        // So that no trace can name more than there are.
        let name = match find(record.request) {
            Some(_) => decode::name(record),
            None => "unknown request".to_owned(),
        };
        *self.left_out.entry((name, why)).or_default() += 1;
    }

    fn compare(&mut self, line: u64, recorded: &Record, now: &Record) -> Result<(), Failure> {
        let fields = difference(recorded, now);
        if fields.is_empty() {
            self.same += 1;
            return Ok(());
        }
        self.different += 1;
        let request = decode::asked(recorded);
        if self.json {
            let (recorded, now) = (decode::got(recorded), decode::got(now));
            return object(&Difference { line, request, recorded, now, fields });
        }
        let mut hasher = DefaultHasher::new();
        (&request, &fields).hash(&mut hasher);
        let key = hasher.finish();
        if let Some(first) = self.shown.get(&key) {
            return print(format!("line {line}: {request}: as in line {first}\n"));
        }
        if self.shown.len() < MOST_SHOWN {
            self.shown.insert(key, line);
        }
        let width = |part: fn(&Field) -> &String| {
            let widths = fields.iter().map(|field| part(field).chars().count());
            widths.filter(|width| *width <= WIDEST).max().unwrap_or_default()
        };
        let (names, values) = (width(|field| &field.name), width(|field| &field.recorded));
        let mut text = format!("line {line}: {request}\n");
        for Field { name, recorded, now } in &fields {
            text += &match recorded.chars().count() > WIDEST {
                false => format!("  {name:names$}  recorded {recorded:values$}  now {now}\n"),
                true => format!("  {name:names$}  recorded {recorded}\n  {:names$}  now      {now}\n", ""),
            };
        }
        print(text)
    }

    fn end(self) -> Result<ExitCode, Failure> {
        let Tally { json, requests, same, different, left_out, shown: _ } = self;
        let left_out: Vec<LeftOut> =
            left_out.into_iter().map(|((request, why), count)| LeftOut { request, why, count }).collect();
        let status =
            if different == 0 && requests > 0 { ExitCode::SUCCESS } else { ExitCode::from(Failure::FAILED) };
        if json {
            object(&End { requests, same, different, left_out })?;
            return Ok(status);
        }
        let count: u64 = left_out.iter().map(|left| left.count).sum();
        let mut text =
            format!("{requests} requests: {same} as recorded, {different} different, {count} left out.\n");
        if !left_out.is_empty() {
            let mut table = Table::new();
            table.load_preset(presets::ASCII_MARKDOWN).set_header(["Left out", "Count", "Why"]);
            for LeftOut { request, why, count } in left_out {
                table.add_row([request, count.to_string(), why.to_owned()]);
            }
            text += &format!("{table}\n");
        }
        print(text)?;
        Ok(status)
    }
}

fn object(object: &impl Serialize) -> Result<(), Failure> {
    print(json::line(object)?)
}

/// What of two records differs that should not.
fn difference(recorded: &Record, now: &Record) -> Vec<Field> {
    // Of the header: status to resid. Addresses and times differ.
    const OUTCOME: Range<usize> = offset_of!(SgIoHdr, status)..offset_of!(SgIoHdr, duration);
    let got = |record: &Record| match record.request {
        SG_IO => record.got.0.get(OUTCOME).unwrap_or_default().to_vec(),
        _ => record.written().to_vec(),
    };
    let (before, after) = (got(recorded), got(now));
    let outcome = |record: &Record| (record.result, record.errno, record.forwarded);
    // As much as both have; that one command moved more, its header says.
    let common = recorded.data.0.len().min(now.data.0.len());
    let [data_before, data_after] =
        [recorded, now].map(|record| record.data.0.get(..common).unwrap_or_default());
    let is_same = outcome(recorded) == outcome(now)
        && before == after
        && recorded.sense == now.sense
        && data_before == data_after;
    if is_same {
        return Vec::new();
    }
    let field = |name: &str, recorded: String, now: String| Field { name: name.to_owned(), recorded, now };
    let (text_before, text_after) = (decode::got(recorded), decode::got(now));
    if recorded.failed() || now.failed() {
        if text_before != text_after {
            return vec![field("result", text_before, text_after)];
        }
    } else {
        let values = decode::values(now);
        // What only one of them has follows from something that both have.
        let named = decode::values(recorded).into_iter().filter_map(|(name, before)| {
            let (_, after) = values.iter().find(|(other, _)| *other == name)?;
            (before != *after).then(|| field(name, before, after.clone()))
        });
        let named: Vec<Field> = named.collect();
        if !named.is_empty() {
            return named;
        }
    }
    let raw = [
        ("result", &before[..], &after[..]),
        ("sense data", &recorded.sense.0[..], &now.sense.0[..]),
        ("data", data_before, data_after),
    ];
    let fields: Vec<Field> =
        raw.into_iter().flat_map(|(what, before, after)| bytes(what, before, after)).collect();
    if fields.is_empty() { vec![field("result", text_before, text_after)] } else { fields }
}

/// The parts of what has no names that differ.
fn bytes(what: &str, before: &[u8], after: &[u8]) -> Vec<Field> {
    let differs = |at: &usize| before.get(*at) != after.get(*at);
    let places: Vec<usize> = (0..before.len().max(after.len())).filter(differs).collect();
    let runs: Vec<&[usize]> = places.chunk_by(|one, next| one + 1 == *next).collect();
    let part = |bytes: &[u8], run: &[usize]| {
        let end = (run[0] + run.len().min(MOST_BYTES)).min(bytes.len());
        let text = digits(bytes.get(run[0]..end).unwrap_or_default(), " ");
        match run.len() > MOST_BYTES {
            _ if text.is_empty() => "nothing".to_owned(),
            true => text + " ...",
            false => text,
        }
    };
    let field = |run: &[usize]| Field {
        name: match run {
            [only] => format!("byte {only} of the {what}"),
            _ => format!("bytes {} to {} of the {what}", run[0], run[0] + run.len() - 1),
        },
        recorded: part(before, run),
        now: part(after, run),
    };
    let mut fields: Vec<Field> = runs.iter().take(MOST_RUNS).map(|run| field(run)).collect();
    let left: usize = runs.iter().skip(MOST_RUNS).map(|run| run.len()).sum();
    if left > 0 {
        let other = |bytes: &str| format!("{left} {bytes}");
        fields.push(Field {
            name: format!("rest of the {what}"),
            recorded: other("bytes"),
            now: other("other bytes"),
        });
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::entry::Kind;
    use disk::record::{Header, Words};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rustix::net::{
        AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
    };
    use zerocopy::IntoBytes;

    /// A message as the library would send it.
    fn message(head: &Header, parts: &[Vec<u8>; 6]) -> Vec<u8> {
        let words: Words = head.words(parts.each_ref().map(|part| part.len() as u64));
        let words = words.iter().flat_map(|word| word.to_ne_bytes());
        words.chain(parts.iter().flatten().copied()).collect()
    }

    fn head(request: u32, result: Result<i32, disk::Errno>) -> Header {
        Header {
            process: 1,
            thread: 2,
            name: *b"a program's name",
            fd: 3,
            request,
            argument: u64::MAX,
            kind: Kind::Sata,
            result,
            forwarded: false,
            duration: 5,
            data_length: 6,
        }
    }

    /// Known requests, and any other.
    fn requests() -> impl Strategy<Value = u32> {
        let known = disk::request::REQUESTS.iter().map(|request| request.number).collect::<Vec<_>>();
        prop_oneof![Just(SG_IO), Just(SCSI_IOCTL_SEND_COMMAND), prop::sample::select(known), any::<u32>()]
    }

    proptest! {
        #[test]
        fn any_record_has_words_and_a_line(
            request in requests(),
            errno in prop_oneof![Just(0), Just(5), any::<i32>()],
            parts in [vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..90), vec(any::<u8>(), 0..600), vec(any::<u8>(), 0..33),
                vec(any::<u8>(), 0..256), vec(any::<u8>(), 0..600)],
            code in any::<u8>(),
            write in any::<bool>(),
        ) {
            let mut parts = parts;
            if let Some(first) = parts[3].first_mut() {
                *first = [0x12, 0x28, 0x85, 0xa1, 0x9e, code][usize::from(code) % 6];
            }
            let result = if errno == 0 { Ok(7) } else { Err(disk::Errno(errno)) };
            let head = head(request, result);
            let bytes = message(&head, &parts);
            let (parsed, found) = Header::parse(&bytes).expect("it is whole");
            prop_assert_eq!(parsed, head);
            let record = Record::new(&parsed, &found);
            let words = decode::asked(&record) + &decode::got(&record);
            prop_assert!(!words.chars().any(char::is_control), "{}", words);
            prop_assert!(record.given.0 == parts[1] && record.program == "a program's name");
            let line = serde_json::to_string(&record).expect("it can be written");
            let read: Record = parse(line.as_bytes()).expect("it can be read");
            prop_assert_eq!(&read, &record);
            prop_assert_eq!(difference(&read, &record), []);
            if let Ok(Input::Command { cdb, .. }) = given(&read, write) {
                prop_assert_eq!(cdb, read.cdb.0);
            }
            // One byte more or less is none.
            prop_assert_eq!(Header::parse(&bytes[..bytes.len() - 1]), None);
            prop_assert!(Header::parse(&[&bytes[..], &[0]].concat()).is_none());
        }

        #[test]
        fn any_message_is_a_record_or_none(bytes in vec(any::<u8>(), 0..400), at in 0usize..200, word in any::<u64>()) {
            let _ = Header::parse(&bytes);
            let mut damaged = message(&head(SG_IO, Ok(0)), &Default::default());
            let at = 8 * (at % (damaged.len() / 8));
            damaged[at..at + 8].copy_from_slice(&word.to_ne_bytes());
            if let Some((head, parts)) = Header::parse(&damaged) {
                decode::got(&Record::new(&head, &parts));
            }
        }
    }

    #[test]
    fn what_may_be_made_again() {
        let record = |request, cdb: &[u8], direction: i32, data: &[u8]| {
            let hdr = SgIoHdr {
                interface_id: SgIoHdr::INTERFACE,
                dxfer_direction: direction,
                cmd_len: cdb.len() as u8,
                dxfer_len: 8,
                ..SgIoHdr::default()
            };
            let given = hdr.as_bytes().to_vec();
            let parts = [b"/x".to_vec(), given, vec![], cdb.to_vec(), vec![], data.to_vec()];
            let bytes = message(&head(request, Ok(0)), &parts);
            let (head, parts) = Header::parse(&bytes).expect("it is whole");
            Record::new(&head, &parts)
        };
        // A CDB of 12 bytes is no shorter than it is: DATA SET MANAGEMENT and IDENTIFY DEVICE.
        let trim = record(SG_IO, &[0xa1, 12, 6, 1, 1, 0, 0, 0, 0x40, 0x06, 0, 0], -2, &[1; 8]);
        assert_eq!(decode::name(&trim), "SG_IO ATA PASS-THROUGH(12) DATA SET MANAGEMENT");
        assert!(given(&trim, false).is_err_and(|why| why.contains("--write")) && given(&trim, true).is_ok());
        let identify = record(SG_IO, &[0xa1, 8, 0x0e, 0, 1, 0, 0, 0, 0x40, 0xec, 0, 0], -3, &[]);
        assert!(given(&identify, false).is_ok());
        // The CDB that is sent says what it does, not the one beside it.
        let mut other = record(SCSI_IOCTL_SEND_COMMAND, &[0x12, 0, 0, 0, 36, 0], 0, &[]);
        other.given.0 = [&[0; 8][..], &[0x1b, 0, 0, 0, 1, 0]].concat();
        assert!(given(&other, false).is_err() && given(&other, true).is_ok());
        let mut setting = record(disk::request::SG_SET_TIMEOUT, &[], 0, &[]);
        assert!(given(&setting, false).is_err() && given(&setting, true).is_ok());
        setting.request = disk::request::SG_GET_TIMEOUT;
        assert!(given(&setting, false).is_ok());
        let inquiry = record(SG_IO, &[0x12, 0, 0, 0, 36, 0], -3, &[]);
        assert!(
            matches!(given(&inquiry, false), Ok(Input::Command { data, length: 8, .. }) if data.is_empty())
        );
        let select = record(SG_IO, &[0x15, 0x10, 0, 0, 8, 0], -2, &[1; 8]);
        assert!(given(&select, false).is_err_and(|why| why.contains("--write")));
        assert!(matches!(given(&select, true), Ok(Input::Command { data, .. }) if data == [1; 8]));
        let write = record(SG_IO, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], -2, &[]);
        assert!(given(&write, true).is_err_and(|why| why.contains("not recorded")));
        assert!(given(&record(0x5399, &[], 0, &[]), true).is_err());
        // One with an address in it.
        assert!(given(&record(disk::request::BLKPG, &[], 0, &[]), true).is_err());
        assert!(given(&record(disk::request::BLKROSET, &[], 0, &[]), false).is_err());
        assert!(given(&record(disk::request::BLKROSET, &[], 0, &[]), true).is_ok());
    }

    /// What stands where the caller has put it was not returned.
    #[test]
    fn registers_that_came_back() {
        let got = |request, errno: i32, given: &[u8], got: &[u8]| {
            let result = if errno == 0 { Ok(0) } else { Err(disk::Errno(errno)) };
            let parts = [vec![], given.to_vec(), got.to_vec(), vec![], vec![], vec![]];
            let bytes = message(&head(request, result), &parts);
            let (head, parts) = Header::parse(&bytes).expect("it is whole");
            decode::got(&Record::new(&head, &parts))
        };
        let identify = [0xec, 0, 0, 1];
        assert_eq!(got(HDIO_DRIVE_CMD, 0, &identify, &identify), "0");
        assert_eq!(got(HDIO_DRIVE_CMD, 5, &identify, &identify), "EIO");
        assert_eq!(got(HDIO_DRIVE_CMD, 0, &identify, &[0x50, 0, 1, 1]), "status 50 error 00 count 01");
        let task = [0x40, 0, 1, 2, 3, 4, 0x40];
        assert_eq!(got(HDIO_DRIVE_TASK, 5, &task, &task), "EIO");
        assert_eq!(
            got(HDIO_DRIVE_TASK, 5, &task, &[0x51, 4, 1, 2, 3, 4, 0xe0]),
            "EIO; status 51 error 04 count 01 lba 40302 device e0"
        );
    }

    #[test]
    fn nobody_else_is_heard() {
        let mut receiver = Receiver::new().expect("it can be made");
        let variable = receiver.variable();
        let (name, secret) = variable.split_at(disk::record::TOKEN);
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("it is short");
        let connected = || {
            let flags = SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
            let socket = socket.expect("it can be made");
            connect(&socket, &address).expect("somebody listens");
            socket
        };
        let send = |message: &[u8]| {
            send(connected(), message, SendFlags::NOSIGNAL).expect("somebody listens");
        };
        let record = message(&head(SG_IO, Ok(0)), &Default::default());
        // Many that say nothing yet stand in nobody's way, nor does one that has left.
        let silent: Vec<_> = (0..300).map(|_| connected()).collect();
        drop(connected());
        for message in [
            b"end",
            &record[..],
            &[name.as_bytes(), b"end"].concat(),
            &[secret.as_bytes(), b"x"].concat(),
            b"",
        ] {
            send(message);
        }
        send(&[secret.as_bytes(), &record].concat());
        receiver.ender().expect("there are descriptors").end();
        let mut buffer = receiver::buffer();
        assert!(matches!(receiver.next(&mut buffer), Message::Record(record) if record.fd == 3));
        assert!(matches!(receiver.next(&mut buffer), Message::End));
        // They are still heard.
        let message = [secret.as_bytes(), &record].concat();
        rustix::net::send(&silent[0], &message, SendFlags::NOSIGNAL).expect("somebody listens");
        assert!(matches!(receiver.next(&mut buffer), Message::Record(_)));
        drop(silent);
    }

    /// The buffer takes whatever the library can send.
    #[test]
    fn the_longest_record() {
        let path = vec![b'/'; 4096];
        let longest = disk::record::TOKEN
            + size_of::<Words>()
            + path.len()
            + size_of::<SgIoHdr>()
            + 512
            + 32
            + 255
            + disk::record::MOST_DATA as usize;
        assert!(longest <= receiver::buffer().len());
    }
}
