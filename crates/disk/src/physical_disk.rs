//! Recognises physical disks, so that the running system's disk is not listed by mistake.

/// Majors of IDE disks, 64 minors each (Documentation/admin-guide/devices.txt).
const IDE: [u32; 10] = [3, 22, 33, 34, 56, 57, 88, 89, 90, 91];

/// The major of NVMe namespaces and of devices that do not fit into their own (`BLOCK_EXT_MAJOR`).
pub const BLOCK_EXT_MAJOR: u32 = 259;

/// Returns whether a device number is that of a whole SCSI or IDE disk.
pub fn is_physical_disk_number(major: u32, minor: u32) -> bool {
    match major {
        8 | 65..=71 | 128..=135 => minor % 16 == 0,
        _ => IDE.contains(&major) && minor % 64 == 0,
    }
}

/// Returns whether a device of [`BLOCK_EXT_MAJOR`] is a whole SCSI disk (`sda`) or NVMe namespace
/// (`nvme0n1`), by the target of `/sys/dev/block/MAJOR:MINOR`.
pub fn is_physical_disk_link(link: &[u8]) -> bool {
    let name = link.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if let Some(letters) = name.strip_prefix(b"sd") {
        return !letters.is_empty() && letters.iter().all(u8::is_ascii_lowercase);
    }
    name.strip_prefix(b"nvme").is_some_and(|rest| rest.contains(&b'n') && !rest.contains(&b'p'))
}
