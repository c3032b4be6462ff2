//! The report of a replay.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;

use disk::request::find;
use serde::Serialize;

use super::difference::{Field, difference};
use crate::say::failure::{Failure, print};
use crate::say::{json, terminal};
use crate::trace::decode;
use crate::trace::record::Record;

/// The most differences that are remembered, so that one that comes again is not shown in full.
const MOST_SHOWN: usize = 4096;

/// The longest recorded value, in characters, behind which the one of now stands in the same line.
const WIDEST: usize = 40;

/// A request whose outcome differs.
#[derive(Serialize)]
struct Difference {
    /// The line of the trace.
    line: u64,
    request: String,
    /// The outcomes.
    recorded: String,
    now: String,
    /// The parts that differ.
    fields: Vec<Field>,
}

/// Requests that were not made.
#[derive(Serialize)]
struct LeftOut {
    request: String,
    why: &'static str,
    count: u64,
}

/// The counts of a replay, which are the last line of its JSON form.
#[derive(Default, Serialize)]
pub struct Tally {
    #[serde(skip)]
    json: bool,
    requests: u64,
    same: u64,
    different: u64,
    left_out: Vec<LeftOut>,
    /// The line of each difference that was shown, by the hash of its text.
    #[serde(skip)]
    shown: HashMap<u64, u64>,
}

impl Tally {
    /// Returns the counts of a replay that has not begun.
    pub fn new(json: bool) -> Tally {
        Tally { json, ..Tally::default() }
    }

    /// Counts a request that is not made.
    pub fn leave_out(&mut self, record: &Record, why: &'static str) {
        // So that no trace can name more than there are.
        let request = match find(record.request) {
            Some(_) => decode::name(record),
            None => "unknown request".to_owned(),
        };
        self.requests += 1;
        match self.left_out.iter_mut().find(|other| other.request == request && other.why == why) {
            Some(other) => other.count += 1,
            None => self.left_out.push(LeftOut { request, why, count: 1 }),
        }
    }

    /// Counts a request that was made, and prints what differs.
    pub fn compare(&mut self, line: u64, recorded: &Record, now: &Record) -> Result<(), Failure> {
        self.requests += 1;
        let fields = difference(recorded, now);
        if fields.is_empty() {
            self.same += 1;
            return Ok(());
        }
        self.different += 1;
        let request = decode::request(recorded);
        if self.json {
            let (recorded, now) = (decode::outcome(recorded), decode::outcome(now));
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

    /// Prints the counts; returns the exit status.
    pub fn end(mut self) -> Result<ExitCode, Failure> {
        self.left_out.sort_by(|one, other| (&one.request, one.why).cmp(&(&other.request, other.why)));
        let Tally { json, requests, same, different, ref left_out, .. } = self;
        let status = if different == 0 && requests > 0 { 0 } else { Failure::FAILED };
        if json {
            object(&self)?;
            return Ok(status.into());
        }
        let count: u64 = left_out.iter().map(|left| left.count).sum();
        let mut text = format!(
            "{requests} {}: {same} as recorded, {different} different, {count} left out.\n",
            if requests == 1 { "request" } else { "requests" }
        );
        if !left_out.is_empty() {
            let row = |left: &LeftOut| [left.request.clone(), left.count.to_string(), left.why.to_owned()];
            text += &format!("{}\n", terminal::grid(["Left out", "Count", "Why"], left_out.iter().map(row)));
        }
        print(text)?;
        Ok(status.into())
    }
}

fn object(object: &impl Serialize) -> Result<(), Failure> {
    print(json::line(object)?)
}
