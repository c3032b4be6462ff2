//! `vmware-bdwrapper link --list`: the links, where they lead, and whether they persist.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::rules::Rules;
use crate::host::scan::Host;
use crate::say::failure::{Failure, print, shown};
use crate::say::{json, terminal};

/// The directories of links.
const PLACES: [&str; 2] = ["/dev/sd", "/dev/hd"];

/// A link in the JSON document.
#[derive(Serialize)]
struct Link {
    /// Its path.
    name: String,
    /// The text of the link; null if only a rule names it.
    target: Option<String>,
    /// The kernel's name of the device that it leads to; null if there is none.
    device: Option<String>,
    /// The kind of the device.
    kind: Option<&'static str>,
    /// Whether a rule of this command makes it.
    persistent: bool,
    /// `ok`; `stale`: it leads to no device; `missing`: its rule has found no device.
    state: &'static str,
}

/// Prints the links that exist and those that rules would make.
pub fn list(json: bool) -> Result<(), Failure> {
    let host = Host::running()?;
    let rules = Rules::read()?;
    let ruled: Vec<PathBuf> = rules.links().map(|name| Path::new("/dev").join(name)).collect();
    let mut names = Vec::new();
    for place in PLACES {
        walk(Path::new(place), &mut names);
    }
    names.extend(ruled.iter().cloned());
    names.sort();
    names.dedup();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let links = names.iter().map(|path| {
        let target = fs::read_link(path).ok();
        let block = host.by_path(path).filter(|_| target.is_some());
        Link {
            name: text(path),
            target: target.as_deref().map(text),
            device: block.map(|block| text(&block.path())),
            kind: block.map(|block| block.kind.name()),
            persistent: ruled.contains(path),
            state: match (&target, block) {
                (Some(_), Some(_)) => "ok",
                (Some(_), None) => "stale",
                (None, _) => "missing",
            },
        }
    });
    let links: Vec<Link> = links.collect();
    if json {
        return print(json::list("links", &links)?);
    }
    if links.is_empty() {
        return print("There are no links in /dev/sd and /dev/hd, and no rules for any.\n");
    }
    let rows: Vec<[String; 5]> = links.into_iter().map(Link::cells).collect();
    print(terminal::table(["Link", "Device", "Kind", "Persistent", "State"], &rows, 5, str::to_owned))
}

impl Link {
    fn cells(self) -> [String; 5] {
        let device = self.device.or(self.target).unwrap_or_default();
        let [name, device] = [&self.name, &device].map(|name| shown(name).to_string());
        let persistent = if self.persistent { "yes" } else { "no" };
        [name, device, self.kind.unwrap_or_default().into(), persistent.into(), self.state.into()]
    }
}

fn walk(directory: &Path, names: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() => names.push(entry.path()),
            Ok(kind) if kind.is_dir() => walk(&entry.path(), names),
            _ => {}
        }
    }
}
