//! What the configuration file lacks for a supervisor that the user starts by sudo.

use std::io;

use disk::conf::{Directive, parse};
use supervisor::User;

use crate::check::config;
use crate::entries::Device;
use crate::say::finding::{Code, Finding};

/// Returns the lines that are missing for these devices; where that cannot be told, or the file is ignored, why.
pub fn missing(devices: &[Device<'_>]) -> Result<Vec<String>, Finding> {
    let text = match config::read() {
        Err(absent) if absent.code == Code::NotFound => Vec::new(),
        read => read?,
    };
    let user = User::calling()
        .map_err(|unknown| Finding::io("The user is not known", &io::Error::other(unknown.to_string())))?;
    Ok(of_text(&text, devices, &user.name().to_string_lossy(), |line| match line {
        Directive::Supervise(subject) => user.is(subject),
        _ => false,
    }))
}

/// Returns what the text of the file lacks.
fn of_text(
    text: &[u8],
    devices: &[Device<'_>],
    user: &str,
    permits: impl Fn(&Directive<'_>) -> bool,
) -> Vec<String> {
    let (mut is_permitted, mut user_devices) = (false, false);
    for line in parse(text).flatten() {
        is_permitted |= permits(&line);
        if let Directive::AllowUserDevices(yes) = line {
            user_devices = yes;
        }
    }
    let listed = config::devices(text);
    let is_listed = |device: &Device<'_>| {
        listed.iter().any(|other| other.entry.path == device.entry.path)
            || user_devices && device.refused().is_none()
    };
    let mut lines = Vec::new();
    if !is_permitted {
        lines.push(format!("supervise {user}"));
    }
    match devices {
        [] if listed.is_empty() => lines.push("device ENTRY".into()),
        _ => {
            let unlisted = devices.iter().filter(|device| !is_listed(device));
            lines.extend(unlisted.map(|device| config::line_of(device.text)));
        }
    }
    lines
}
