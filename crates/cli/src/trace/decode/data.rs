//! What a request or command returns.

use disk::abi::ScsiIdlun;
use disk::entry::Printed;
use disk::request::{Argument, Shape};
use disk::scsi::command::Operation as O;
use disk::trace::{Output, geometry};

use crate::trace::record::Record;

/// A name and its value.
pub type Value = (&'static str, String);

/// Returns what a request wrote at its address, by name.
pub fn argument(record: &Record) -> Vec<Value> {
    let Some(Argument::Out(shape)) = record.row().map(|request| request.argument) else {
        return Vec::new();
    };
    let got = &record.got;
    match shape {
        Shape::Geometry | Shape::BigGeometry => {
            let names = ["cylinders", "heads", "sectors", "start"];
            names
                .into_iter()
                .zip(geometry(record.abi, shape, &got.0).map(|number| number.to_string()))
                .collect()
        }
        Shape::Idlun => {
            let names = ["id", "lun", "channel", "host"];
            let bytes = record.after::<ScsiIdlun>().dev_id.to_le_bytes();
            names.into_iter().zip(bytes.map(|byte| byte.to_string())).collect()
        }
        Shape::Identity => identity(&got.0),
        _ => vec![("value", at_address(record).trim_matches(['{', '}']).to_owned())],
    }
}

/// Returns what a request wrote at its address, as the messages of the library show it.
pub fn at_address(record: &Record) -> String {
    Output(&record.decoded()).to_string().trim_start().to_owned()
}

/// Returns fields of IDENTIFY DEVICE data (ACS-3) whose strings have the order of their characters.
fn identity(bytes: &[u8]) -> Vec<Value> {
    let text = |start: usize, end: usize| {
        let text = bytes.get(start..end).unwrap_or_default();
        Printed(text.split(|&byte| byte == 0).next().unwrap_or_default()).to_string().trim().to_owned()
    };
    let number = |word: usize, words: usize| {
        let bytes = bytes.get(2 * word..2 * (word + words)).unwrap_or_default();
        bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)).to_string()
    };
    vec![
        ("model", text(54, 94)),
        ("serial", text(20, 40)),
        ("firmware", text(46, 54)),
        ("cylinders", number(1, 1)),
        ("heads", number(3, 1)),
        ("sectors a track", number(6, 1)),
        ("sectors by 28-bit commands", number(60, 2)),
        ("sectors by 48-bit commands", number(100, 4)),
        ("words a sector", number(117, 2)),
    ]
}

/// Returns the best-known fields of the data of a command.
pub fn data(record: &Record) -> String {
    match &data_values(record)[..] {
        [("model", model), ("serial", serial), ..] => format!(": model {model} serial {serial}"),
        [("vendor", vendor), ("product", product), ("revision", revision), ..] => {
            format!(": {vendor} {product} {revision}")
        }
        [("last LBA", last), ("bytes a block", block), ..] => {
            format!(": last LBA {last}, {block} bytes a block")
        }
        _ => String::new(),
    }
}

/// Returns the fields of the data of a command, by name.
pub fn data_values(record: &Record) -> Vec<Value> {
    let data = &record.data;
    let text = |start: usize, end: usize| {
        let bytes = data.0.get(start..end).unwrap_or_default();
        Printed(bytes).to_string().trim().to_owned()
    };
    let capacity = |last: u64, block: usize| {
        let block = u32::from_be_bytes(data.at(block));
        vec![("last LBA", last.to_string()), ("bytes a block", block.to_string())]
    };
    let identify = record.ata_command().map(|command| command.operation);
    match record.command().map(|command| command.operation) {
        _ if identify == Some(disk::ata::command::Operation::Identify) && data.0.len() >= 94 => {
            // The characters of a word are swapped (ACS-3, 3.4.9); numbers are not.
            let mut bytes = data.0.clone();
            for place in [20..40, 46..54, 54..94] {
                bytes.get_mut(place).unwrap_or_default().chunks_exact_mut(2).for_each(<[u8]>::reverse);
            }
            identity(&bytes)
        }
        Some(O::Inquiry) if record.cdb.at::<2>(0)[1] & 1 == 0 && data.0.len() >= 36 => {
            vec![("vendor", text(8, 16)), ("product", text(16, 32)), ("revision", text(32, 36))]
        }
        // Unit Serial Number and Block Limits (SPC-4, 7.8.15; SBC-3, 6.5.3).
        Some(O::Inquiry) if record.cdb.at::<3>(0)[2] == 0x80 => {
            vec![("serial", text(4, 4 + usize::from(u16::from_be_bytes(data.at(2)))))]
        }
        Some(O::Inquiry) if record.cdb.at::<3>(0)[2] == 0xb0 && data.0.len() >= 64 => {
            let word = |at: usize| u32::from_be_bytes(data.at(at)).to_string();
            vec![
                ("blocks of the optimal granularity", u16::from_be_bytes(data.at(6)).to_string()),
                ("blocks a command at most", word(8)),
                ("blocks a command at best", word(12)),
                ("blocks to unmap at most", word(20)),
                ("blocks of the unmap granularity", word(28)),
            ]
        }
        Some(O::GetLbaStatus) if data.0.len() >= 24 => vec![
            ("blocks of the same state", u32::from_be_bytes(data.at(16)).to_string()),
            ("state", (data.at::<1>(20)[0] & 0x0f).to_string()),
        ],
        Some(O::ReadCapacity10) if data.0.len() >= 8 => capacity(u32::from_be_bytes(data.at(0)).into(), 4),
        Some(O::ReadCapacity16) if data.0.len() >= 12 => {
            let mut values = capacity(u64::from_be_bytes(data.at(0)), 8);
            let [exponent] = data.at(13);
            values.push(("blocks a physical block", (1 << (exponent & 0x0f)).to_string()));
            let aligned = u16::from_be_bytes(data.at(14));
            values.push(("lowest aligned LBA", (aligned & 0x3fff).to_string()));
            values.push(("unmapping", if aligned & 0x8000 == 0 { "no" } else { "yes" }.to_owned()));
            values
        }
        _ => Vec::new(),
    }
}
