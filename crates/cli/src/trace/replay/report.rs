//! What is said of a replay.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;

use comfy_table::{Table, presets};
use disk::request::find;
use serde::Serialize;

use super::difference::{Field, difference};
use crate::say::failure::{Failure, print};
use crate::say::json;
use crate::trace::decode;
use crate::trace::record::Record;

/// How many differences are remembered, so that one that comes again is not shown in full.
const MOST_SHOWN: usize = 4096;

/// The longest recorded value, in characters, behind which the one of now stands in the same line.
const WIDEST: usize = 40;

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

/// What has come of it.
pub struct Tally {
    pub json: bool,
    pub requests: u64,
    pub same: u64,
    pub different: u64,
    pub left_out: BTreeMap<(String, &'static str), u64>,
    /// The line of each difference that was shown, by the hash of its text.
    pub shown: HashMap<u64, u64>,
}

impl Tally {
    pub fn leave_out(&mut self, record: &Record, why: &'static str) {
        // So that no trace can name more than there are.
        let name = match find(record.request) {
            Some(_) => decode::name(record),
            None => "unknown request".to_owned(),
        };
        *self.left_out.entry((name, why)).or_default() += 1;
    }

    pub fn compare(&mut self, line: u64, recorded: &Record, now: &Record) -> Result<(), Failure> {
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

    pub fn end(self) -> Result<ExitCode, Failure> {
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
