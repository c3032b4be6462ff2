//! The grammar of device entries and of the administrator's file, and what becomes of an entry that is right.
#![no_main]

use disk::ata::identify::{Features, identify};
use disk::entry::{Entry, Kind, OPTIONS, entries};
use disk::geometry::identify_geometry;
use disk::{Capacity, conf, identity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for text in entries(input) {
        one(text);
    }
    one(input);
    for option in OPTIONS {
        one(&[b"/x=ide,", option.name.as_bytes(), input].concat());
    }
    let lines = input.split(|&byte| byte == b'\n').count();
    for directive in conf::parse(input) {
        match directive {
            Ok(conf::Directive::Executable(path)) => {
                assert!(path.starts_with(b"/") && !path.contains(&0));
            }
            Ok(conf::Directive::Device(entry)) => right(&entry),
            Ok(_) => {}
            Err(error) => {
                assert!((1..=lines).contains(&error.line));
                plain(&error.to_string());
            }
        }
    }
});

fn one(text: &[u8]) {
    match Entry::parse(text) {
        Ok(entry) => right(&entry),
        Err(error) => plain(&error.to_string()),
    }
}

/// An entry that was accepted keeps what its fields promise.
fn right(entry: &Entry<'_>) {
    assert!(entry.path.starts_with(b"/") && !entry.path.contains(&0) && entry.path.len() < 4096);
    let printable = |text: &[u8]| text.iter().all(|byte| (b' '..=b'~').contains(byte));
    for (text, longest) in [(entry.serial, 20), (entry.model, 40)] {
        assert!(text.is_none_or(|text| (1..=longest).contains(&text.len()) && printable(text)));
    }
    if let Some(geometry) = entry.geometry {
        assert!((1..=0xffff).contains(&geometry.cylinders) && geometry.heads > 0);
        assert!((1..=63).contains(&geometry.sectors));
    }
    assert!([None, Some(512), Some(4096)].contains(&entry.sector));
    assert!(printable(&identity::serial(entry)) && printable(&identity::model(entry)));
    plain(&entry.printed_path().to_string());
    if entry.kind != Kind::Scsi {
        let capacity = Capacity::new(1 << 40, entry.sector.unwrap_or(512));
        let words = identify(entry, capacity, &Features::fresh(entry.kind, 4096));
        let sum = words.iter().flat_map(|word| word.to_le_bytes()).fold(0u8, u8::wrapping_add);
        assert_eq!(sum, 0, "the integrity word");
        assert_eq!(u32::from(words[1]), identify_geometry(capacity.sectors()).cylinders);
    }
}

/// What is written to a terminal must not control it.
fn plain(text: &str) {
    assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
}
