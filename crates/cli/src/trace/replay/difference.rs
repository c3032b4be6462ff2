//! Compares two records.

use std::mem::offset_of;
use std::ops::Range;

use disk::abi::SgIoHdr;
use disk::request::SG_IO;
use serde::Serialize;

use crate::trace::decode;
use crate::trace::record::{Record, digits};

/// How many parts of data without names are shown, and how many bytes of each.
const MOST_RUNS: usize = 8;
const MOST_BYTES: usize = 16;

/// A part of the outcome that differs.
#[derive(Debug, Hash, PartialEq, Eq, Serialize)]
pub struct Field {
    pub name: String,
    pub recorded: String,
    pub now: String,
}

/// Returns what differs between the outcomes of two records.
pub fn difference(recorded: &Record, now: &Record) -> Vec<Field> {
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
    let (text_before, text_after) = (decode::outcome(recorded), decode::outcome(now));
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
        raw.into_iter().flat_map(|(what, before, after)| differing_bytes(what, before, after)).collect();
    if fields.is_empty() { vec![field("result", text_before, text_after)] } else { fields }
}

/// Returns the differing parts of data whose fields have no names.
fn differing_bytes(what: &str, before: &[u8], after: &[u8]) -> Vec<Field> {
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
