//! Reads a trace line by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use serde::Deserialize;

use crate::say::finding::{Code, Finding};

/// The longest line of a trace: twice what the largest record needs.
pub const LONGEST: u64 = 256 * 1024;

/// The lines of a file of any length.
pub struct Lines {
    reader: BufReader<File>,
    pub number: u64,
}

impl Lines {
    pub fn new(file: File) -> Lines {
        Lines { reader: BufReader::new(file), number: 0 }
    }

    /// Returns the next line with its line end, cut off at [`LONGEST`].
    pub fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        self.number += 1;
        Ok((!line.is_empty()).then_some(line))
    }
}

pub fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Finding> {
    let malformed = |why: String| {
        let finding = Finding::problem(Code::Malformed, why);
        finding.hint("give a trace that was made by 'vmware-bdwrapper trace --json'")
    };
    if line.len() as u64 >= LONGEST {
        return Err(malformed(format!("is longer than {LONGEST} bytes")));
    }
    serde_json::from_slice(line).map_err(|error| malformed(format!("is not a record ({error})")))
}
