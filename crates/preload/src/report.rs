//! The report on the listed devices at set-up.

use engine::listed::{Key, Problem};

use crate::log::{self, Level};
use crate::registry::{self, Listed};

/// Reports each entry.
pub fn report() {
    for listed in registry::of_environment() {
        let entry = &listed.entry;
        let path = entry.printed_path();
        let kind = entry.kind.name();
        match listed.initial.get() {
            Some(Ok(key)) => match first(*key) {
                Some(first) if !core::ptr::eq(first, listed) => {
                    let other = (first.entry.printed_path(), first.entry.kind.name());
                    let level = if first.entry.kind == entry.kind { Level::Startup } else { Level::Errors };
                    log::log(
                        level,
                        format_args!(
                            "{path}={kind}: the same device is listed already, as {}={}; this entry is ignored",
                            other.0, other.1
                        ),
                    );
                }
                _ => log::log(Level::Startup, format_args!("{path}: listed as {kind}, {key}")),
            },
            Some(Err(problem @ (Problem::Missing(_) | Problem::Unknown(_)))) => {
                log::log(Level::Startup, format_args!("{path}: {problem}"));
            }
            Some(Err(problem)) => log::log(Level::Errors, format_args!("{path}: {problem}")),
            None => {}
        }
    }
}

/// Returns the first entry whose name led to a device or file.
fn first(key: Key) -> Option<&'static Listed> {
    registry::of_environment().find(|listed| matches!(listed.initial.get(), Some(Ok(found)) if *found == key))
}
