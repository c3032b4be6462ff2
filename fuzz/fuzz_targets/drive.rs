//! `HDIO_DRIVE_CMD`, `_TASK` and `_TASKFILE`, and requests that set what these look at, one after the other, to a disk in
//! memory.
//!
//! The first byte says what kind of disk it is; see [`disk`]. Requests follow, each as [`Record`] lays it out.
#![no_main]

use disk::abi::{IdeRegValid, IdeTaskRequest};
use disk::request::*;
use disk::{Abi, Answer, Errno, Medium};
use libfuzzer_sys::fuzz_target;
use memory_disk::host::{FAR, POISON};
use memory_disk::sg_io::DATA;
use memory_disk::{Call, Disk, Fault, MemoryHost, numbered_blocks};

/// The 512-byte blocks of the disk.
const BLOCKS: usize = 32;

/// The most bytes of data, and one more: longer ones cost time and find nothing else.
const LONGEST: u16 = 8192;

/// More requests than this find nothing that fewer do not.
const MOST: usize = 16;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, mut rest)) = input.split_first() else { return };
    let disk = disk(kind);
    for _ in 0..MOST {
        let Some(record) = Record::take(&mut rest) else { return };
        record.send(&disk);
    }
});

fn disk(kind: u8) -> Disk {
    let bit = |bit: u8| kind >> bit & 1 != 0;
    let host = MemoryHost {
        logical: if bit(0) { 4096 } else { 512 },
        physical: 4096,
        thin: !bit(1),
        picky: bit(2),
        root: !bit(3),
        sparse: bit(7),
        ..MemoryHost::with_content(numbered_blocks(BLOCKS))
    };
    let entry = match (bit(4), bit(5)) {
        (false, false) => "/x=ide",
        (true, false) => "/x=sata",
        (false, true) => "/x=ide,ro",
        (true, true) => "/x=sata,ro",
    };
    let host =
        if bit(6) { MemoryHost { bytes: u64::MAX, medium: Medium::BlockDevice, ..host } } else { host };
    Disk { entry, ..Disk::on(host) }
}

/// Requests, and how many bytes each has at its argument before the data; 0 where the argument is a number.
const REQUESTS: [(u32, usize); 8] = [
    (HDIO_DRIVE_CMD, 4),
    (HDIO_DRIVE_TASK, 7),
    (HDIO_DRIVE_TASKFILE, 48),
    // As hdparm(8) lays it out.
    (HDIO_DRIVE_TASKFILE, 56),
    (HDIO_SET_MULTCOUNT, 0),
    (HDIO_SET_WCACHE, 0),
    (HDIO_GET_IDENTITY, 512),
    (HDIO_GET_MULTCOUNT, 8),
];

/// A request: five bytes about it, those at its argument, then the data.
struct Record<'a> {
    /// Which request, in the three lowest bits; how many bytes too few there are in the two highest.
    what: u8,
    /// Which call of the device fails, and how.
    fault: u8,
    /// How many bytes of data stand behind the structure, with its low byte first.
    length: u16,
    request: &'a [u8],
    /// How many of them follow; where they end, they begin anew.
    data: &'a [u8],
}

impl<'a> Record<'a> {
    fn take(rest: &mut &'a [u8]) -> Option<Record<'a>> {
        let (&[what, fault, low, high, given], behind) = rest.split_first_chunk()?;
        let (_, size) = REQUESTS[usize::from(what & 7)];
        let (request, behind) = behind.split_at_checked(size.min(56))?;
        let (data, behind) = behind.split_at(behind.len().min(given.into()));
        *rest = behind;
        let length = u16::from_le_bytes([low, high]) % LONGEST;
        Some(Record { what, fault, length, request, data })
    }

    fn send(&self, disk: &Disk) {
        let (request, size) = REQUESTS[usize::from(self.what & 7)];
        let mut memory = self.request.to_vec();
        memory.resize(size, POISON);
        let fill = if self.data.is_empty() { &[POISON][..] } else { self.data };
        memory.extend(fill.iter().cycle().take(self.length.into()));
        memory.truncate(memory.len() - usize::from(self.what >> 6).min(memory.len()));
        let argument = match size {
            0 => u64::from(self.length),
            _ => DATA,
        };
        // The caller's memory ends behind the data.
        let before = (DATA - FAR) as usize;
        disk.host.far.borrow_mut().truncate(before);
        disk.host.far.borrow_mut().extend(&memory);
        let others = disk.host.far.borrow()[..before].to_vec();
        let content = disk.host.content.borrow().clone();
        disk.host.changed.set(None);
        disk.host.fault.set(self.fault());
        let answer = disk.ask(request, argument);
        assert!(disk.host.far.borrow()[..before] == others && disk.host.untouched());
        let same = *disk.host.content.borrow() == content;
        if disk.entry.ends_with("ro") {
            assert!(same && disk.host.changed.get().is_none(), "a protected disk does not change");
        }
        let got = disk.host.far.borrow()[before..].to_vec();
        match answer {
            Answer::Value(0) => {}
            // What has been written before a bad block is met, stays.
            Answer::Error(Errno::EIO) => {}
            Answer::Error(_) => {
                assert!(same);
                // The driver's buffer reaches as far as the data does.
                assert!(got == memory || request == HDIO_DRIVE_CMD);
            }
            other => panic!("{other:?}"),
        }
        if request == HDIO_DRIVE_TASKFILE && self.what & 7 == 2 && got.len() >= 48 {
            let [before, after]: [IdeTaskRequest; 2] = [&memory, &got].map(|bytes| Abi::Native.parse(bytes));
            let IdeTaskRequest { io_ports, hob_ports, in_flags, .. } = after;
            let in_flags = IdeRegValid { all: in_flags.all, ..before.in_flags };
            assert_eq!(after, IdeTaskRequest { io_ports, hob_ports, in_flags, ..before });
            let out = got.len().min(48 + before.out_size as u32 as usize);
            assert!(got[48..out] == memory[48..out], "data to the disk stays");
        }
    }

    fn fault(&self) -> Option<Fault> {
        const CALLS: [Call; 8] = [
            Call::Read,
            Call::Write,
            Call::Sync,
            Call::BounceBuffer,
            Call::Limit,
            Call::Discard,
            Call::Provisioning,
            Call::Read,
        ];
        const ERRNOS: [Errno; 8] = [
            Errno::EIO,
            Errno::ENOSPC,
            Errno::EROFS,
            Errno::ENOMEM,
            Errno::ENODEV,
            Errno::EINVAL,
            Errno::EBADF,
            Errno::EPERM,
        ];
        Fault::of_byte(self.fault, CALLS, ERRNOS)
    }
}
