//! What the configuration file lacks for a supervisor that the user starts by sudo.

use std::io;

use disk::conf::{Directive, parse};
use supervisor::User;

use crate::check::config;
use crate::entries::Device;
use crate::say::finding::{Code, Finding};

/// What the configuration file lets a user do.
#[derive(Default)]
pub struct Rights {
    /// Start programs under a supervisor by sudo.
    pub supervise: bool,
    /// Name devices that are not listed.
    pub user_devices: bool,
    /// See the requests.
    pub messages: bool,
}

impl Rights {
    /// Reads them; lines with a mistake are ignored.
    pub fn of(text: &[u8], user: &User) -> Rights {
        let mut rights = Rights::default();
        for line in parse(text).flatten() {
            match line {
                Directive::Supervise(subject) => rights.supervise |= user.is(&subject),
                Directive::AllowUserDevices(yes) => rights.user_devices = yes,
                Directive::Messages(yes) => rights.messages = yes,
                Directive::Device(_) | Directive::Executable(_) => {}
            }
        }
        rights
    }
}

/// Returns the lines that are missing for these devices; where that cannot be told, or the file is ignored, why.
pub fn missing(devices: &[Device<'_>]) -> Result<Vec<String>, Finding> {
    let text = match config::read() {
        Err(absent) if absent.code == Code::NotFound => Vec::new(),
        read => read?,
    };
    let user = User::calling()
        .map_err(|unknown| Finding::io("The user is not known", &io::Error::other(unknown.to_string())))?;
    let rights = Rights::of(&text, &user);
    let listed = config::devices(&text);
    let is_listed = |device: &Device<'_>| {
        listed.iter().any(|other| other.entry.path == device.entry.path)
            || rights.user_devices && device.refused().is_none()
    };
    let mut lines = Vec::new();
    if !rights.supervise {
        lines.push(format!("supervise {}", user.name().to_string_lossy()));
    }
    match devices {
        [] if listed.is_empty() => lines.push("device ENTRY".into()),
        _ => {
            let unlisted = devices.iter().filter(|device| !is_listed(device));
            lines.extend(unlisted.map(|device| config::line_of(device.text)));
        }
    }
    Ok(lines)
}
