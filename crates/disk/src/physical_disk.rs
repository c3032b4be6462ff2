//! Which block devices are physical disks already: naming one would hand the running system's disk to a client.

/// Majors of whose minors every 64th is a whole IDE disk (Documentation/admin-guide/devices.txt).
const IDE: [u32; 10] = [3, 22, 33, 34, 56, 57, 88, 89, 90, 91];

/// The major that NVMe namespaces, and what found no room in its own, have (`BLOCK_EXT_MAJOR`).
pub const BLOCK_EXT_MAJOR: u32 = 259;

/// Whether a device number is that of a whole SCSI or IDE disk.
pub fn is_disk_number(major: u32, minor: u32) -> bool {
    match major {
        8 | 65..=71 | 128..=135 => minor % 16 == 0,
        _ => IDE.contains(&major) && minor % 64 == 0,
    }
}

/// Whether the kernel's name is that of a whole SCSI disk (`sda`) or NVMe namespace (`nvme0n1`), and not of a
/// partition.
///
/// For [`BLOCK_EXT_MAJOR`], of whose numbers none says what it is; `link` is where `/sys/dev/block/MAJOR:MINOR`
/// leads.
pub fn is_disk_link(link: &[u8]) -> bool {
    let name = link.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if let Some(letters) = name.strip_prefix(b"sd") {
        return !letters.is_empty() && letters.iter().all(u8::is_ascii_lowercase);
    }
    name.strip_prefix(b"nvme").is_some_and(|rest| rest.contains(&b'n') && !rest.contains(&b'p'))
}
