//! The filter: which system calls of the tree the supervisor is notified of.
//!
//! It looks at the architecture, at the number of the system call and, of ioctl(2) alone, at the
//! request: where its second byte is that of a disk driver's requests, as the core's table has them,
//! but for some that no disk driver has. The kernel remembers which system calls the filter allows
//! whatever their arguments are.

use disk::request::{FIGETBSZ, is_disk_request};
use libc::sock_filter;

/// An architecture as the filter sees it (include/uapi/linux/audit.h), and the number of ioctl(2) there.
struct Architecture {
    number: u32,
    ioctl: u32,
}

/// 64-bit programs.
#[cfg(target_arch = "x86_64")]
const NATIVE: Architecture = Architecture { number: 0xc000_003e, ioctl: 16 };
#[cfg(target_arch = "aarch64")]
const NATIVE: Architecture = Architecture { number: 0xc000_00b7, ioctl: 29 };

/// `AUDIT_ARCH_I386`
pub const I386: u32 = 0x4000_0003;

/// Those whose requests are answered. What others ask is left to the kernel.
const ARCHITECTURES: &[Architecture] = if cfg!(target_arch = "x86_64") {
    &[NATIVE, Architecture { number: I386, ioctl: 54 }]
} else {
    &[NATIVE]
};

/// Offsets in `struct seccomp_data`: of the call's number, of the architecture, and of the low half
/// of the second argument, which is what the kernel looks at.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const REQUEST: u32 = 24;

/// Instructions (include/uapi/linux/bpf_common.h).
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const SHIFT_RIGHT: u16 = 0x74;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Second bytes that no driver of a block device answers, though the core's table does not know that:
/// USB (usbfs) and sound, HID and Bluetooth, joysticks, SPI, IPMI and sensors, watchdogs, VFIO. Some of
/// these requests are very frequent, and a notification takes ten times as long as most of them.
///
/// In Linux 6.1 none of the `block_device_operations` in drivers/{block,ata,cdrom,md,memstick,mmc,mtd,
/// nvdimm,nvme,s390/block,scsi}, nor of the `scsi_host_template` there, has one of these. `R` is not
/// among them: it is the second byte of amiflop's `IOCTL_RAW_TRACK` (drivers/block/amiflop.c).
const OTHER_DRIVERS: &[u8] = b"UHjkiW;";

/// Returns whether the supervisor is notified of a request.
fn is_notified(request: u32) -> bool {
    let [_, second, _, _] = request.to_le_bytes();
    is_disk_request(request) && !OTHER_DRIVERS.contains(&second)
}

/// Where to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// Behind the next instructions.
    Skip(u8),
    /// The part that looks at the request.
    Request,
    Allow,
}

enum Step {
    Do(u16, u32),
    If(u32, To, To),
}

/// Returns the filter.
pub fn program() -> Vec<sock_filter> {
    let mut steps = vec![Step::Do(LOAD, ARCHITECTURE)];
    for (place, Architecture { number, ioctl }) in ARCHITECTURES.iter().enumerate() {
        let is_last = place + 1 == ARCHITECTURES.len();
        steps.push(Step::If(*number, To::Next, if is_last { To::Allow } else { To::Skip(2) }));
        steps.push(Step::Do(LOAD, NUMBER));
        steps.push(Step::If(*ioctl, To::Request, To::Allow));
    }
    let request = steps.len();
    steps.push(Step::Do(LOAD, REQUEST));
    // Its second byte is a driver's, but no driver sees it.
    steps.push(Step::If(FIGETBSZ, To::Allow, To::Next));
    steps.push(Step::Do(SHIFT_RIGHT, 8));
    steps.push(Step::Do(AND, 0xff));
    // Terminals are asked most often.
    let mut others: Vec<u32> = (0..256).filter(|byte| !is_notified(byte << 8)).collect();
    others.sort_by_key(|byte| *byte != u32::from(b'T'));
    steps.extend(others.iter().map(|byte| Step::If(*byte, To::Allow, To::Next)));
    steps.push(Step::Do(RETURN, libc::SECCOMP_RET_USER_NOTIF));
    let allow = steps.len();
    steps.push(Step::Do(RETURN, libc::SECCOMP_RET_ALLOW));

    let instruction = |(place, step): (usize, &Step)| {
        let distance = |to: To| match to {
            To::Next => 0,
            To::Skip(steps) => steps,
            To::Request => (request - place - 1) as u8,
            To::Allow => (allow - place - 1) as u8,
        };
        match *step {
            Step::Do(code, k) => sock_filter { code, jt: 0, jf: 0, k },
            Step::If(k, then, otherwise) => {
                sock_filter { code: IF_EQUAL, jt: distance(then), jf: distance(otherwise), k }
            }
        }
    };
    // A jump has eight bits.
    debug_assert!(allow < 256);
    steps.iter().enumerate().map(instruction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter on a system call.
    fn notifies(program: &[sock_filter], architecture: u32, number: u32, request: u64) -> bool {
        let (mut place, mut word) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[place];
            place += 1;
            match code {
                LOAD => {
                    word = match k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        REQUEST => request as u32,
                        other => panic!("offset {other}"),
                    }
                }
                SHIFT_RIGHT => word >>= k,
                AND => word &= k,
                IF_EQUAL => place += usize::from(if word == k { jt } else { jf }),
                RETURN => return k == libc::SECCOMP_RET_USER_NOTIF,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn requests_of_disks_alone() {
        let program = program();
        for architecture in ARCHITECTURES {
            for request in (0..=0xffff).chain([0x8008_1272, 0xffff_ffff_0000_5382]) {
                let is_others = matches!(request as u32 >> 8, 0x55 | 0x48 | 0x6a | 0x6b | 0x69 | 0x57 | 0x3b);
                let wanted = disk::request::family(request as u32).is_some() && !is_others;
                let found = notifies(&program, architecture.number, architecture.ioctl, request);
                assert_eq!(found, wanted, "{request:#x}");
            }
            for number in (0..600).filter(|number| *number != architecture.ioctl) {
                assert!(!notifies(&program, architecture.number, number, 0x5382), "{number}");
            }
        }
    }

    #[test]
    fn other_architectures() {
        let program = program();
        // ARM's 32-bit programs; x32's ioctl(2).
        assert!(!notifies(&program, 0x4000_0028, 54, 0x5382));
        assert!(!notifies(&program, NATIVE.number, 0x4000_0000 | 514, 0x5382));
    }
}
