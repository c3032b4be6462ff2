//! The documents of the project, as tests read them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The documents, with their paths below the root of the sources.
pub fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it is in crates/acceptance");
    let folders = ["", "docs", "man"].map(|name| fs::read_dir(root.join(name)).expect("it is there"));
    let files = folders.into_iter().flatten().map(|file| file.expect("it can be read").path());
    let documents = files.filter(|file| file.extension() == Some(OsStr::new("md")));
    let named = |file: PathBuf| {
        let text = fs::read_to_string(&file).expect("it is a text");
        (file.strip_prefix(root).expect("it is below").to_path_buf(), text)
    };
    documents.map(named).collect()
}

/// The blocks of a text that are set as they stand, and what is between them.
pub fn split_blocks(text: &str) -> (Vec<&str>, Vec<&str>) {
    let parts: Vec<&str> = text.split("```").collect();
    (parts.iter().skip(1).step_by(2).copied().collect(), parts.iter().step_by(2).copied().collect())
}
