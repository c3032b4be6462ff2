//! What of the kernel can stand in the way: security modules.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use disk::entry::Printed;
use rustix::fs::OFlags;

use crate::check::library;
use crate::entries::Device;
use crate::say::failure::{quoted, shown};
use crate::say::finding::{Code, Finding};

/// How much of a log is read, in bytes.
const MOST: u64 = 8 << 20;

/// How much of a program's name the kernel keeps, in bytes (`TASK_COMM_LEN` without the NUL).
const COMMAND: usize = 15;

/// What the security modules do, and have done, to these programs, the library and the devices.
pub fn confinement(programs: &[PathBuf], listed: &[Device<'_>]) -> Vec<Finding> {
    let mut findings = vec![selinux()];
    findings.extend(apparmor(programs));
    let mut marks: Vec<Vec<u8>> = vec![library::NAME.into()];
    let mut mark =
        |field: &str, name: &OsStr| marks.push([field.as_bytes(), b"=\"", name.as_bytes(), b"\""].concat());
    for program in programs {
        let name = program.file_name().unwrap_or_default().as_bytes();
        mark("comm", OsStr::from_bytes(&name[..name.len().min(COMMAND)]));
    }
    for device in listed {
        mark("name", device.path().as_os_str());
        // SELinux has the last part of the name alone.
        if let Ok(node) = device.path().canonicalize() {
            mark("name", node.file_name().unwrap_or_default());
        }
    }
    findings.extend(denials(&marks));
    findings
}

fn selinux() -> Finding {
    match fs::read("/sys/fs/selinux/enforce").as_deref() {
        Ok(b"1") => {
            let context = fs::read("/proc/self/attr/current").unwrap_or_default();
            let context = context.split(|&byte| byte == 0).next().unwrap_or_default().trim_ascii();
            if context.windows(b"unconfined_t".len()).any(|part| part == b"unconfined_t") {
                return Finding::ok("enforces its policy, but does not confine you").of("SELinux");
            }
            let why = format!("enforces its policy on you ({})", Printed(context));
            Finding::warning(Code::Confined, why).of("SELinux").hint(
                "if the library or a device is refused, look for that as root: 'ausearch -m avc -ts recent'",
            )
        }
        Ok(_) => Finding::ok("enforces nothing").of("SELinux"),
        Err(_) => Finding::ok("is not active").of("SELinux"),
    }
}

fn apparmor(programs: &[PathBuf]) -> Vec<Finding> {
    if !fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y")) {
        return vec![Finding::ok("is not active").of("AppArmor")];
    }
    programs.iter().map(|program| profile(program)).collect()
}

/// Whether AppArmor confines a program.
fn profile(program: &Path) -> Finding {
    let name = program.as_os_str().as_bytes();
    let enforced = match fs::read("/sys/kernel/security/apparmor/profiles") {
        // Lines such as `/usr/bin/x (enforce)`.
        Ok(text) => {
            text.split(|&byte| byte == b'\n').any(|line| line.strip_prefix(name) == Some(b" (enforce)"))
        }
        // Only root can read that; profiles are by custom in files that have their programs' names.
        Err(_) => {
            let file: Vec<u8> =
                name.iter().skip(1).map(|&byte| if byte == b'/' { b'.' } else { byte }).collect();
            Path::new("/etc/apparmor.d").join(OsStr::from_bytes(&file)).exists()
        }
    };
    if !enforced {
        return Finding::ok(format!("has no profile for {}", shown(program))).of("AppArmor");
    }
    let hint = format!(
        "if that happens, run as root: 'aa-complain {}', or allow it in the profile",
        quoted(program)
    );
    Finding::warning(Code::Confined, "is confined by AppArmor, which may refuse it the library or a device")
        .of(program)
        .hint(hint)
}

/// What the logs say was refused.
fn denials(marks: &[Vec<u8>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for log in ["/dev/kmsg", "/var/log/audit/audit.log"] {
        // A log that may not be read says nothing.
        let Ok(text) = lines(Path::new(log)) else { continue };
        let denied = text.split(|&byte| byte == b'\n').rfind(|line| is_denial(line, marks));
        findings.push(match denied {
            Some(line) => {
                let why = format!(
                    "records that a security module refused something ('{}')",
                    Printed(line.trim_ascii())
                );
                Finding::warning(Code::Confined, why).of(log).hint(
                    "if it is still refused, allow it as root in the profile or policy that the line names",
                )
            }
            None => Finding::ok("records no refusal by a security module").of(log),
        });
    }
    findings
}

/// Whether a line is AppArmor's or SELinux's and about one of these.
fn is_denial(line: &[u8], marks: &[Vec<u8>]) -> bool {
    let has = |part: &[u8]| !part.is_empty() && line.windows(part.len()).any(|found| found == part);
    (has(b"apparmor=\"DENIED\"") || has(b"avc:  denied ") || has(b"avc: denied "))
        && marks.iter().any(|mark| has(mark))
}

/// The last of a log. The kernel's gives a record at each reading, and fails once where one was overwritten meanwhile.
fn lines(log: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(log)?;
    let status = file.metadata()?;
    if status.is_file() {
        file.seek(SeekFrom::Start(status.len().saturating_sub(MOST)))?;
    }
    let (mut text, mut record) = (Vec::new(), [0; 8192]);
    while (text.len() as u64) < MOST {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&record[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(text)
}
