//! Rules of udev(7): how a device is known again, and how values are written.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::host::block::{Block, Identity, Kind};
use crate::host::tool::run;
use crate::say::failure::shown;
use crate::say::finding::{Code, Finding};

/// The rights to a device.
pub struct Access {
    /// Its user.
    pub owner: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Its mode, octal.
    pub mode: Option<String>,
}

/// The keys by which devices are known again.
const DM_UUID: &str = "ENV{DM_UUID}";
const MD_UUID: &str = "ENV{MD_UUID}";
const BACKING_FILE: &str = "ATTR{loop/backing_file}";
const PART_UUID: &str = "ENV{ID_PART_ENTRY_UUID}";
const SERIAL: &str = "ENV{ID_SERIAL}";
const LINK: &str = "SYMLINK";

/// The rule that gives the device a link below `/dev`, or why there can be none.
pub fn rule(block: &Block, link: &str, access: &Access) -> Result<String, Finding> {
    const RENAME: &str = "rename that, or omit --persist";
    let problem = |why: &str| Finding::problem(Code::Unsupported, why).of(block.path());
    let (key, value) = key(block).ok_or_else(|| {
        problem("has nothing by which udev could recognise it after the next boot").hint("omit --persist")
    })?;
    let name = shown(OsStr::from_bytes(&value));
    if value.contains(&b'|') {
        let why = format!("is recognised by {name}, and a udev rule cannot contain the vertical bar in it");
        return Err(problem(&why).hint(RENAME));
    }
    let known = quoted(&pattern(&value));
    let version = known.starts_with('e').then(version).flatten();
    if let Some((_, version)) = version.filter(|(number, _)| *number < ESCAPES) {
        let why = format!(
            "is recognised by {name}, which needs udev {ESCAPES} or newer in a rule, and this udev is {version}"
        );
        return Err(problem(&why).hint(RENAME));
    }
    let kind = if is_partition(block) { "partition" } else { "disk" };
    let mut rule =
        format!("SUBSYSTEM==\"block\", ENV{{DEVTYPE}}==\"{kind}\", {key}=={known}, SYMLINK+=\"{link}\"");
    for (key, value) in [("OWNER", &access.owner), ("GROUP", &access.group), ("MODE", &access.mode)] {
        if let Some(value) = value {
            // A dollar or percent sign would begin a substitution.
            let plain = value.replace('$', "$$").replace('%', "%%");
            let _ = write!(rule, ", {key}={}", quoted(plain.as_bytes()));
        }
    }
    Ok(rule)
}

/// The first version of systemd whose udev reads C's escapes (`e"..."`).
const ESCAPES: u32 = 247;

/// The version of udev, as a number (systemd's, or that of another udev, which is lower) and in full; none where it does not say.
fn version() -> Option<(u32, String)> {
    let text = run("udevadm", ["--version"]).ok()?.trim().to_owned();
    let number = text.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()?;
    Some((number, text))
}

/// The link that a line makes, where it is one that [`rule`] could have written.
pub fn link_of(line: &str) -> Option<&str> {
    let mut parts = Vec::new();
    let mut rest = line;
    loop {
        let (key, more) = rest.split_once('"')?;
        let (value, more) = more.split_once('"')?;
        // That quote would not be the closing one.
        if value.ends_with('\\') {
            return None;
        }
        parts.push((key.strip_suffix('e').unwrap_or(key), value));
        match more.strip_prefix(", ") {
            Some(more) => rest = more,
            None if more.is_empty() => break,
            None => return None,
        }
    }
    let [
        ("SUBSYSTEM==", "block"),
        ("ENV{DEVTYPE}==", "disk" | "partition"),
        (key, _),
        ("SYMLINK+=", link),
        rights @ ..,
    ] = parts.as_slice()
    else {
        return None;
    };
    let key = key.strip_suffix("==")?;
    let is_ours = [DM_UUID, MD_UUID, BACKING_FILE, PART_UUID, SERIAL, LINK].contains(&key)
        && rights.iter().all(|(key, _)| ["OWNER=", "GROUP=", "MODE="].contains(key));
    is_ours.then_some(link)
}

/// What of a device stays the same, and the key by which udev knows it.
fn key(block: &Block) -> Option<(&'static str, Vec<u8>)> {
    let property = |name: &str| block.properties.get(name).map(|value| value.clone().into_bytes());
    match block.identity() {
        Some(Identity::Dm(uuid)) => return Some((DM_UUID, uuid.clone().into_bytes())),
        Some(Identity::Md(uuid)) => return Some((MD_UUID, uuid.clone().into_bytes())),
        Some(Identity::File(file)) => {
            // As udev reads attributes: without what ends their last line (sd_device_get_sysattr_value).
            let name = file.as_os_str().as_bytes();
            let end = name.iter().rposition(|byte| !b"\n\r".contains(byte)).map_or(0, |last| last + 1);
            return Some((BACKING_FILE, name.get(..end).unwrap_or(name).to_vec()));
        }
        Some(Identity::Link(_)) | None => {}
    }
    let part = property("ID_PART_ENTRY_UUID").filter(|_| is_partition(block));
    let part = part.map(|uuid| (PART_UUID, uuid));
    // A partition has the serial number of its disk.
    let serial = property("ID_SERIAL").filter(|_| !is_partition(block));
    let serial = serial.map(|serial| (SERIAL, serial));
    part.or(serial).or_else(|| match block.identity() {
        // A link that an earlier rule makes.
        Some(Identity::Link(link)) => {
            let name = link.strip_prefix("/dev").unwrap_or(link);
            Some((LINK, name.as_os_str().as_bytes().to_vec()))
        }
        _ => None,
    })
}

/// Whether the kernel made it of a disk; the device mapper's partitions are whole devices to it.
fn is_partition(block: &Block) -> bool {
    block.kind == Kind::Partition && block.dm_uuid.is_none()
}

/// A pattern that matches these bytes alone; a vertical bar, with which another would begin, is not among them.
fn pattern(value: &[u8]) -> Vec<u8> {
    let is_glob = value.iter().any(|byte| b"*?[".contains(byte));
    let mut pattern = Vec::new();
    for &byte in value {
        match byte {
            b'*' | b'?' | b'[' => pattern.extend([b'[', byte, b']']),
            // Without one of these udev compares byte by byte.
            b'\\' if is_glob => pattern.extend(br"\\"),
            _ => pattern.push(byte),
        }
    }
    pattern
}

/// A value between quotes: with C's escapes where it has a character that stands for itself in no other way.
fn quoted(value: &[u8]) -> String {
    let plain = std::str::from_utf8(value).ok();
    // A backslash is one, except before a quote: at the end that would be the closing one.
    let is_plain =
        |plain: &&str| !plain.contains('"') && !plain.ends_with('\\') && !plain.contains(char::is_control);
    if let Some(plain) = plain.filter(is_plain) {
        return format!("\"{plain}\"");
    }
    let mut text = String::from("e\"");
    for &byte in value {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'\\' || byte == b' ' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text + "\""
}

/// The name below `/dev` of a link, where udev can make it and a device entry can hold it.
pub fn link_name(path: &Path) -> Option<&str> {
    // What udev replaces by nothing else, without what separates entries and options of the library.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"#+-.@_/".contains(&byte);
    let name = path.to_str()?.strip_prefix("/dev/")?;
    let rest = name.strip_prefix("sd/").or_else(|| name.strip_prefix("hd/"))?;
    let is_plain = rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    (is_plain && name.bytes().all(fits)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::scan::tests::{at, recorded};

    fn access() -> Access {
        Access { owner: None, group: None, mode: None }
    }

    #[test]
    fn every_kind_of_identity() {
        let (_root, host) = recorded();
        for (device, wanted) in [
            (
                "/dev/vg0/lin",
                "ENV{DM_UUID}==\"LVM-roeq56xq0P3pEvZYXnoBDMN7J2oPDEpBFZ5reJYh6zjWOps9pF5DIVCaVTkNCyRW\"",
            ),
            ("/dev/mapper/secret", "ENV{DM_UUID}==\"CRYPT-LUKS2-b3802c91ad2746189943b272e036cca5-secret\""),
            ("/dev/md/guests", "ENV{MD_UUID}==\"8a23617f:03a1976c:b0f5855a:8009bd1b\""),
            ("/dev/loop1", "ATTR{loop/backing_file}==\"/run/recimg/1\""),
            ("/dev/zvol/tank/guests/windows", "SYMLINK==\"zvol/tank/guests/windows\""),
            ("/dev/rbd/pool/image", "SYMLINK==\"rbd/pool/image\""),
        ] {
            let rule = rule(at(&host, device), "sd/x", &access()).expect("it stays the same");
            let whole =
                format!("SUBSYSTEM==\"block\", ENV{{DEVTYPE}}==\"disk\", {wanted}, SYMLINK+=\"sd/x\"");
            assert_eq!(rule, whole, "{device}");
            assert_eq!(link_of(&rule), Some("sd/x"));
        }
        assert!(rule(at(&host, "/dev/nbd0"), "sd/x", &access()).is_err());
    }

    #[test]
    fn disks_and_partitions() {
        let (_root, host) = recorded();
        let mut disk = at(&host, "/dev/sdb").clone();
        disk.properties.insert("ID_SERIAL".into(), "QEMU_HARDDISK_QIDE1".into());
        let rule_of_disk = rule(&disk, "sd/x", &access()).expect("it has a serial number");
        assert!(
            rule_of_disk.contains("==\"disk\", ENV{ID_SERIAL}==\"QEMU_HARDDISK_QIDE1\", "),
            "{rule_of_disk}"
        );
        let mut part = at(&host, "/dev/loop5p1").clone();
        part.properties.insert("ID_SERIAL".into(), "of-the-disk".into());
        assert!(rule(&part, "sd/x", &access()).is_err());
        part.properties.insert("ID_PART_ENTRY_UUID".into(), "0b0f-01".into());
        let rule_of_part = rule(&part, "sd/x", &access()).expect("it has a UUID");
        assert!(
            rule_of_part.contains("==\"partition\", ENV{ID_PART_ENTRY_UUID}==\"0b0f-01\", "),
            "{rule_of_part}"
        );
    }

    #[test]
    fn rights() {
        let (_root, host) = recorded();
        let access = Access {
            owner: Some("pc$%k".into()),
            group: Some(r"DOM\users".into()),
            mode: Some("0660".into()),
        };
        let rule = rule(at(&host, "/dev/loop1"), "hd/a/b", &access).expect("it stays the same");
        let end = r#", SYMLINK+="hd/a/b", OWNER="pc$$%%k", GROUP="DOM\users", MODE="0660""#;
        assert!(rule.ends_with(end), "{rule}");
        assert_eq!(link_of(&rule), Some("hd/a/b"));
    }

    #[test]
    fn hostile_values() {
        for (value, wanted) in [
            (&b"/a b,c$d%k#e'"[..], r#""/a b,c$d%k#e'""#),
            (b"/\xc3\xa4", "\"/\u{e4}\""),
            (br#"/a", SYMLINK+="sda"#, r#"e"/a\x22, SYMLINK+=\x22sda""#),
            (b"/a\nb\tc", r#"e"/a\x0ab\x09c""#),
            (b"/\xff", r#"e"/\xff""#),
            (br"/a\b", r#""/a\b""#),
            (br"/a\b\", r#"e"/a\x5cb\x5c""#),
            (b"/a*b?c[d]", r#""/a[*]b[?]c[[]d]""#),
            (br"/a\*b", r#""/a\\[*]b""#),
        ] {
            assert_eq!(quoted(&pattern(value)), wanted);
        }
    }

    #[test]
    fn lines_of_ours() {
        const START: &str = r#"SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", "#;
        let line = |rest: &str| link_of(&format!("{START}{rest}")).map(str::to_owned);
        for rest in [
            r#"ENV{DM_UUID}=="a", SYMLINK+="sd/x""#,
            r#"ATTR{loop/backing_file}==e"a\x22", SYMLINK+="sd/x", OWNER="a, b", MODE="0600""#,
        ] {
            assert_eq!(line(rest).as_deref(), Some("sd/x"), "{rest}");
        }
        for rest in [
            "",
            r#"SYMLINK+="sd/x""#,
            r#"ENV{DM_UUID}=="a", SYMLINK+="sd/x", "#,
            r#"ENV{DM_UUID}=="a", SYMLINK+="sd/x", \"#,
            r#"ENV{DM_UUID}=="a", SYMLINK+="sd/x", RUN+="/bin/true""#,
            r#"ENV{DM_UUID}!="a", SYMLINK+="sd/x""#,
            r#"ENV{DM_UUID}=="a",  SYMLINK+="sd/x""#,
            r#"ENV{DM_UUID}=="a", SYMLINK="sd/x""#,
            r#"KERNEL=="sdb", SYMLINK+="sd/x""#,
            r#"ENV{DM_UUID}=="a\", SYMLINK+="sd/x""#,
        ] {
            assert_eq!(line(rest), None, "{rest}");
        }
    }

    #[test]
    fn names_of_links() {
        let name = |path: &str| link_name(Path::new(path)).map(str::to_owned);
        assert_eq!(name("/dev/sd/my-raid5.x").as_deref(), Some("sd/my-raid5.x"));
        assert_eq!(name("/dev/hd/a/b").as_deref(), Some("hd/a/b"));
        for path in [
            "sd/x",
            "/dev/sda",
            "/dev/sd/",
            "/dev/sd",
            "/dev/sd/a//b",
            "/dev/sd/../x",
            "/dev/sd/./x",
            "/dev/sd/a b",
            "/dev/sd/a\"",
            "/dev/sd/a,b",
            "/dev/sd/a:b",
            "/dev/sd/a=b",
            "/dev/sd/a\n",
            "/dev/sd/$k",
            "/dev/sd/%k",
            "/dev/sd/\u{e4}",
            "/dev/mapper/x",
            "/dev/sd/x/",
        ] {
            assert_eq!(name(path), None, "{path:?}");
        }
    }
}
