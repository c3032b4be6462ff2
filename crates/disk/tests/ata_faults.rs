//! What the sender of an ATA command learns of an error of the device behind the disk: by its registers, and where it did not
//! come to an end as commands do, by errno or by the host status.

use disk::ata::Registers;
use disk::ata::command::Protocol::{DmaIn, DmaOut, PioIn, PioOut};
use disk::request::{HDIO_GET_WCACHE, HDIO_SET_WCACHE};
use disk::{Answer, Errno};
use memory_disk::ata::*;
use memory_disk::host::POISON;
use memory_disk::sg_io::{BUSY, DATA, NO_CONNECT};
use memory_disk::{Call, Disk, ERRNOS, Fault, numbered_blocks, sense};

const BLOCKS: usize = 16;
const FIRST: u64 = 7;

/// A disk whose commands READ MULTIPLE and the like are allowed.
fn disk(entry: &'static str) -> Disk {
    let disk = Disk { entry, ..Disk::new(numbered_blocks(BLOCKS)) };
    let set = set_multiple_mode(8);
    disk.ata(Way::Cmd, &set).holds(set.leaves(DONE));
    disk
}

/// Commands on two blocks, each with what it does with the device.
fn cases() -> Vec<(Ata, &'static [Call])> {
    let mut cases: Vec<(Ata, &[Call])> = Vec::new();
    for (code, protocol, extended) in [
        (0x20, PioIn, false),
        (0x21, PioIn, false),
        (0xc4, PioIn, false),
        (0xc8, DmaIn, false),
        (0xc9, DmaIn, false),
        (0x24, PioIn, true),
        (0x25, DmaIn, true),
        (0x29, PioIn, true),
    ] {
        let command = Ata { extended, ..Ata::gives(code, protocol, 1024) };
        cases.push((command.on(FIRST, 2), &[Call::Limit, Call::Read]));
    }
    for (code, protocol, extended) in [
        (0x30, PioOut, false),
        (0x31, PioOut, false),
        (0xc5, PioOut, false),
        (0xca, DmaOut, false),
        (0xcb, DmaOut, false),
        (0x34, PioOut, true),
        (0x35, DmaOut, true),
        (0x39, PioOut, true),
        (0x3d, DmaOut, true),
        (0xce, PioOut, true),
    ] {
        let command = Ata { extended, ..Ata::takes(code, protocol, vec![0x99; 1024]) };
        cases.push((command.on(FIRST, 2), &[Call::Limit, Call::Write]));
    }
    for (code, extended) in [(0x40, false), (0x41, false), (0x42, true)] {
        let command = Ata { extended, ..Ata::new(code) }.on(FIRST, 2);
        cases.push((command, &[Call::Limit, Call::BounceBuffer, Call::Read]));
    }
    for (code, extended) in [(0xe0, false), (0xe2, false), (0xe6, false), (0xe7, false), (0xea, true)] {
        cases.push((Ata { extended, ..Ata::new(code) }, &[Call::Limit, Call::Sync]));
    }
    cases.push((set_features(0x82, 0), &[Call::Limit, Call::Sync]));
    cases.push((trim(&[(FIRST, 2)]), &[Call::Limit, Call::Discard]));
    cases.push((Ata::new(0xe5), &[Call::Limit]));
    cases.push((Ata { extended: true, ..Ata::new(0x27) }, &[Call::Limit]));
    cases.push((Ata { lba: SMART_SIGNATURE, features: 0xda, ..Ata::new(0xb0) }, &[Call::Limit]));
    cases
}

/// How a command is to end when a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// STATUS and ERROR, and the block in LBA.
    Registers((u8, u8), Option<u64>),
    Status(u8),
    HostStatus(u16),
    Errno(Errno),
}

fn expected(call: Call, errno: Errno) -> Ending {
    let writing = matches!(call, Call::Write | Call::Discard | Call::Sync);
    match errno {
        Errno::ENOMEM => Ending::Status(BUSY),
        Errno::ENODEV | Errno::ENXIO => Ending::HostStatus(NO_CONNECT),
        // A descriptor that cannot carry requests.
        Errno::EBADF if call == Call::Limit => Ending::Errno(errno),
        Errno::EROFS | Errno::EPERM | Errno::EACCES | Errno::EBADF if writing => {
            Ending::Registers(ABORTED, None)
        }
        Errno::EPERM | Errno::EACCES | Errno::EBADF if call == Call::Read => Ending::Registers(ABORTED, None),
        Errno::ENOSPC | Errno::EDQUOT => Ending::Registers(FAULT, None),
        Errno::EFBIG if writing => Ending::Registers(FAULT, None),
        _ => match call {
            Call::Read => Ending::Registers(UNREADABLE, Some(FIRST)),
            Call::Write | Call::Discard => Ending::Registers(FAULT, Some(FIRST)),
            // Nobody knows which block it is, or it is not the medium's fault.
            _ => Ending::Registers(FAULT, None),
        },
    }
}

#[test]
fn every_error_of_every_call_of_every_command() {
    for (command, calls) in cases() {
        for (kind, way) in WHOLE {
            disk(kind).ata(way, &command);
            for (&call, errno) in calls.iter().flat_map(|call| ERRNOS.map(|errno| (call, errno))) {
                // Of memory alone there is another cause.
                if call == Call::BounceBuffer && errno != Errno::ENOMEM {
                    continue;
                }
                let disk = disk(kind);
                disk.host.fault.set(Some(Fault::new(call, errno)));
                let got = disk.ata(way, &command);
                let name = format!("{kind} {:02x} {call:?} {errno}", command.command);
                let ending = expected(call, errno);
                if let Ending::Registers(ended, block) = ending {
                    let registers = command.leaves(ended);
                    let lba = block.unwrap_or(registers.lba);
                    let (registers_got, _) = got.registers.unwrap_or_else(|| panic!("{name}: {got:?}"));
                    assert_eq!(registers_got, Registers { lba, ..registers }, "{name}");
                }
                match (ending, &got.reply) {
                    (Ending::Registers(ended, _), Some(reply)) => {
                        let expected = match ended {
                            FAULT => sense::INTERNAL_TARGET_FAILURE,
                            UNREADABLE => sense::UNRECOVERED_READ_ERROR,
                            _ => sense::ABORTED_COMMAND,
                        };
                        let found = reply.check();
                        assert_eq!((found.key, found.asc_ascq), (expected.key, expected.asc_ascq), "{name}");
                    }
                    (Ending::Registers(..), None) => assert_eq!(got.result, Err(Errno::EIO), "{name}"),
                    (Ending::Errno(errno), _) => {
                        assert_eq!((got.result, got.registers), (Err(errno), None), "{name}");
                    }
                    (Ending::Status(status), Some(reply)) => {
                        assert_eq!((reply.status, reply.host_status), (status, 0), "{name}");
                    }
                    (Ending::HostStatus(status), Some(reply)) => {
                        assert_eq!((reply.status, reply.host_status), (0, status), "{name}");
                    }
                    // The request failed; its registers are as the caller gave them.
                    (Ending::Status(_) | Ending::HostStatus(_), None) => {
                        assert_eq!((got.result, got.registers), (Err(Errno::EIO), None), "{name}");
                    }
                }
                assert!(got.data.iter().all(|&byte| byte == POISON), "nothing came from the disk: {name}");
                assert!(
                    *disk.host.content.borrow() == numbered_blocks(BLOCKS),
                    "nothing was written: {name}"
                );
                // The next command finds all in order.
                disk.host.fault.set(None);
                disk.ata(way, &command).holds(match command.command {
                    0xe5 => Registers { count: 0xff, ..command.leaves(DONE) },
                    0x27 => Registers { lba: BLOCKS as u64 - 1, ..command.leaves(DONE) },
                    _ => command.leaves(DONE),
                });
            }
        }
    }
}

/// Who the disk is can be said whatever has become of it, but not through a descriptor that carries no requests.
#[test]
fn a_disk_without_a_size_still_says_who_it_is() {
    let identify = Ata::gives(0xec, PioIn, 512);
    for (kind, ways) in WAYS {
        for &way in ways.iter().filter(|&&way| identify.goes(way)) {
            let disk = disk(kind);
            let before = disk.ata(way, &identify).data;
            for errno in ERRNOS {
                disk.host.fault.set(Some(Fault::new(Call::Limit, errno)));
                let got = disk.ata(way, &identify);
                if errno == Errno::EBADF {
                    assert_eq!(got.result, Err(errno), "{way:?}");
                    continue;
                }
                got.holds(identify.leaves(DONE));
                assert_eq!(got.data[20..94], before[20..94], "serial number, revision, model");
                assert_eq!(got.data[200..208], [0; 8], "no blocks");
                assert_eq!(got.data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
            }
        }
    }
}

/// A signal is no error of the medium.
#[test]
fn interrupted_calls_are_repeated() {
    for (command, calls) in cases() {
        if !matches!(calls, [Call::Limit, Call::Read | Call::Write]) {
            continue;
        }
        for (kind, way) in WHOLE {
            let disk = disk(kind);
            disk.host.failure.set(Some(Errno::EINTR));
            let got = disk.ata(way, &command);
            got.holds(command.leaves(DONE));
            assert!(disk.host.failure.get().is_none());
            let mut after = numbered_blocks(BLOCKS);
            if command.room > 0 {
                assert!(got.data == after[512 * 7..512 * 9]);
            } else {
                after[512 * 7..512 * 9].fill(0x99);
            }
            assert!(*disk.host.content.borrow() == after);
        }
    }
}

/// A cache that could not be written stays on, whoever turns it off.
#[test]
fn a_write_cache_that_cannot_be_written() {
    for (kind, way) in WHOLE {
        let disk = disk(kind);
        disk.host.fault.set(Some(Fault::new(Call::Sync, Errno::EIO)));
        disk.ata(way, &set_features(0x82, 0)).holds(set_features(0x82, 0).leaves(FAULT));
        if kind == "/x=ide" {
            let ask = |request, argument| {
                disk.host.ask_through(&disk.nexus, kind, &disk.settings, request, argument)
            };
            assert_eq!(ask(HDIO_SET_WCACHE, 0), Answer::Error(Errno::EIO));
            assert_eq!(ask(HDIO_GET_WCACHE, DATA), Answer::Value(0));
            assert_eq!(disk.got(DATA, 8), 1u64.to_ne_bytes());
        }
        let write = Ata::takes(0xca, DmaOut, vec![1; 512]).on(FIRST, 1);
        disk.ata(way, &write).holds(write.leaves(DONE));
        assert_eq!(disk.host.changed.get(), Some(("write", 512 * FIRST, 512)));
    }
}

#[test]
fn a_range_in_the_middle_that_cannot_be_given_back() {
    for (kind, way) in WHOLE {
        let disk = disk(kind);
        disk.host.fault.set(Some(Fault { call: Call::Discard, errno: Errno::EIO, at: Some(512 * 9) }));
        let command = trim(&[(1, 2), (8, 3), (12, 1)]);
        disk.ata(way, &command).holds(Registers { lba: 8, ..command.leaves(FAULT) });
        let mut after = numbered_blocks(BLOCKS);
        after[512..512 * 3].fill(0);
        assert!(*disk.host.content.borrow() == after, "what came before it is done, no more");
        // Whether space can be given back is not known: then there is no such command.
        disk.host.fault.set(Some(Fault::new(Call::Provisioning, Errno::EIO)));
        disk.ata(way, &command).holds(command.leaves(ABORTED));
        let sector = disk.ata(Way::Cmd, &Ata::gives(0xec, PioIn, 512)).data;
        assert_eq!((sector[338], sector[210]), (0, 0), "words 169 and 105");
    }
}
