//! Checks what has been added, as the user who is to have it.

use std::process::{Command, Stdio};

use serde::Deserialize;

use super::step::{Addition, find_user};
use crate::say::failure::{Failure, cause, quoted};
use crate::say::finding::{Code, Finding};

/// What `probe --json` says.
#[derive(Deserialize)]
struct Probed {
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    vmware: Conclusion,
    findings: Vec<Found>,
}

#[derive(Deserialize)]
struct Conclusion {
    accepted: bool,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Found {
    verdict: String,
    text: String,
}

/// Fails unless `probe`, run by the user, says that VMware would accept the device.
pub fn as_user(addition: &Addition) -> Result<(), Failure> {
    let user = find_user(&addition.user)?;
    let probe = format!("vmware-bdwrapper probe --device {}", quoted(&addition.entry));
    let failed = |why: String| {
        let finding = Finding::problem(Code::Refused, why).of(&addition.name);
        Failure::from(finding.hint(format!("as {}, '{probe}' shows more", addition.user)))
    };
    let not_run = |why: String| {
        let finding =
            Finding::problem(Code::Io, format!("could not be checked as {} ({why})", addition.user));
        Failure::from(
            finding
                .of(&addition.name)
                .hint(format!("see what 'setpriv --reuid {} --clear-groups true' says", addition.user)),
        )
    };
    let own = std::env::current_exe().map_err(|error| not_run(cause(&error)))?;
    let done = Command::new("setpriv")
        .arg(format!("--reuid={}", user.number()))
        .arg(format!("--regid={}", user.group()))
        .args(["--init-groups", "--"])
        .arg(own)
        .args(["probe", "--json", "--device", &addition.entry])
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| not_run(format!("setpriv: {}", cause(&error))))?;
    let Ok(Probed { devices }) = serde_json::from_slice(&done.stdout) else {
        let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
        return Err(not_run(if said.is_empty() { done.status.to_string() } else { said }));
    };
    for Device { vmware, findings } in devices {
        if !vmware.accepted {
            return Err(failed(format!("VMware would refuse it ({})", vmware.reason.unwrap_or_default())));
        }
        if let Some(found) = findings.into_iter().find(|found| found.verdict == "problem") {
            return Err(failed(found.text));
        }
    }
    Ok(())
}
