//! What the core answers, on a host in memory.

use disk::abi::{HdBigGeometry, HdGeometry};
use disk::request::*;
use disk::{Answer, Caller, Errno, Medium, Settings};
use memory_disk::host::{BASE, MEMORY, MemoryHost, POISON};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const DONE: Answer = Answer::Value(0);
const KINDS: [&str; 3] = ["/x=scsi", "/x=ide", "/x=sata"];
const MEDIA: [Medium; 2] = [Medium::BlockDevice, Medium::ImageFile];

fn long(host: &MemoryHost) -> u64 {
    u64::from_ne_bytes(host.got())
}

fn int(host: &MemoryHost) -> u32 {
    u32::from_ne_bytes(host.got())
}

#[test]
fn the_size_is_whole_blocks_at_every_request() {
    for medium in MEDIA {
        let mut host = MemoryHost::new(medium, MIB + 4095);
        for (entry, block, bytes) in [
            ("/x=scsi", 512, MIB + 7 * 512),
            ("/x=scsi,sector=512", 512, MIB + 7 * 512),
            ("/x=ide,sector=4096", 4096, MIB),
        ] {
            assert_eq!(host.ask(entry, BLKGETSIZE64), DONE);
            assert_eq!(long(&host), bytes);
            assert_eq!(host.ask(entry, BLKGETSIZE64_32), DONE);
            assert_eq!(long(&host), bytes);
            assert_eq!(host.ask(entry, BLKGETSIZE), DONE);
            assert_eq!(long(&host), bytes / 512);
            assert_eq!(host.ask(entry, BLKSSZGET), DONE);
            assert_eq!(int(&host), block);
            for request in [BLKPBSZGET, BLKIOMIN, BLKBSZGET] {
                assert_eq!(host.ask(entry, request), DONE);
                assert_eq!(int(&host), block, "never below the logical block");
            }
        }
        host.bytes = 3 * MIB;
        assert_eq!(host.ask("/x=scsi", BLKGETSIZE64), DONE);
        assert_eq!(long(&host), 3 * MIB, "growth is seen by whoever asks again");
        // A device of 4096-byte blocks cannot be had in smaller ones.
        host.logical = 4096;
        assert_eq!(host.ask("/x=scsi,sector=512", BLKSSZGET), DONE);
        assert_eq!(int(&host), 4096);
    }
}

#[test]
fn sizes_up_to_the_largest() {
    for bytes in [0, 1, 511, 512, 513, (1 << 41) + 512, 1 << 62, (1 << 63) - 512, u64::MAX] {
        let host = MemoryHost::new(Medium::ImageFile, bytes);
        for kind in KINDS {
            assert_eq!(host.ask(kind, BLKGETSIZE64), DONE);
            assert_eq!(long(&host), bytes / 512 * 512);
            assert_eq!(host.ask(kind, HDIO_GETGEO), DONE);
            let HdGeometry { heads, sectors, cylinders, _pad, start } =
                host.fetch(BASE).expect("it is there");
            assert!(heads > 0 && sectors > 0 && cylinders > 0, "{bytes}: {kind}");
            assert_eq!((_pad, start), (0, 0));
        }
    }
}

#[test]
fn cylinders_never_wrap() {
    // 4 TiB: 534,700 cylinders of 255 heads and 63 sectors; 16 bits would make 10,412 of them.
    let host = MemoryHost::new(Medium::ImageFile, 1 << 42);
    for kind in KINDS {
        assert_eq!(host.ask(kind, HDIO_GETGEO), DONE);
        assert_eq!(host.got::<4>(), [255, 63, 0xff, 0xff]);
        assert_eq!(host.ask(kind, HDIO_GETGEO_BIG), DONE);
        let geometry = HdBigGeometry { heads: 255, sectors: 63, cylinders: 534_698, ..Default::default() };
        assert_eq!(host.fetch(BASE), Ok(geometry));
    }
}

#[test]
fn a_geometry_needs_an_address() {
    let host = MemoryHost::new(Medium::BlockDevice, MIB);
    for (address, errno) in [(0, Errno::EINVAL), (8, Errno::EFAULT)] {
        let answer = host.ask_at("/x=ide", &Settings::default(), HDIO_GETGEO, address);
        assert_eq!(answer, Answer::Error(errno));
    }
}

#[test]
fn a_fixed_geometry_holds() {
    let host = MemoryHost::new(Medium::BlockDevice, MIB);
    for kind in KINDS {
        assert_eq!(host.ask(&format!("{kind},geometry=4870/240/62"), HDIO_GETGEO), DONE);
        let geometry = HdGeometry { heads: 240, sectors: 62, cylinders: 4870, ..Default::default() };
        assert_eq!(host.fetch(BASE), Ok(geometry));
    }
}

#[test]
fn write_protection_is_said_and_kept() {
    for medium in MEDIA {
        let mut host = MemoryHost::new(medium, MIB);
        assert_eq!(host.ask("/x=scsi", BLKROGET), DONE);
        assert_eq!(int(&host), 0);
        assert_eq!(host.ask("/x=scsi,ro", BLKROGET), DONE);
        assert_eq!(int(&host), 1);
        for request in [BLKDISCARD, BLKZEROOUT, BLKSECDISCARD, BLKRESETZONE, BLKFINISHZONE, BLKROSET] {
            host.writable = true;
            assert_eq!(host.ask("/x=scsi,ro", request), Answer::Error(Errno::EPERM));
            host.writable = false;
            assert_eq!(host.ask("/x=scsi,ro", request), Answer::Error(Errno::EBADF));
        }
        assert_eq!(host.changed.get(), None);
        host.read_only = true;
        assert_eq!(host.ask("/x=scsi", BLKROGET), DONE);
        assert_eq!(int(&host), 1);
    }
}

#[test]
fn discard_and_zero_of_an_image() {
    let range = |start: u64, length: u64| [start.to_ne_bytes(), length.to_ne_bytes()].concat();
    let mut host = MemoryHost::new(Medium::ImageFile, MIB + 100);
    for (request, what) in [(BLKDISCARD, "discard"), (BLKZEROOUT, "zero")] {
        for (start, length) in [(0, 512), (512, MIB - 512), (0, MIB)] {
            host.put(&range(start, length));
            assert_eq!(host.ask("/x=scsi", request), DONE);
            assert_eq!(host.changed.take(), Some((what, start, length)));
        }
        for (start, length) in [
            (0, 0),
            (1, 512),
            (0, 513),
            (MIB, 512),
            (0, MIB + 512),
            (u64::MAX - 511, 512),
            (512, u64::MAX - 511),
            (1 << 63, 1 << 63),
        ] {
            host.put(&range(start, length));
            assert_eq!(host.ask("/x=scsi", request), Answer::Error(Errno::EINVAL), "{start}+{length}");
        }
        host.put(&range(512, 512));
        assert_eq!(host.ask("/x=scsi,sector=4096", request), Answer::Error(Errno::EINVAL));
        host.writable = false;
        assert_eq!(host.ask("/x=scsi", request), Answer::Error(Errno::EBADF));
        host.writable = true;
    }
    assert_eq!(host.changed.get(), None);
}

/// As blkdev_bszset and set_blocksize of the kernel check it; nothing is set, for a file has no page cache of its own.
#[test]
fn the_block_size_of_the_page_cache() {
    let mut host = MemoryHost::new(Medium::ImageFile, MIB);
    let set = |host: &MemoryHost, entry, size: u32| {
        host.put(&size.to_ne_bytes());
        host.ask(entry, BLKBSZSET)
    };
    for entry in KINDS {
        for size in [512, 1024, 2048, 4096] {
            assert_eq!(set(&host, entry, size), DONE, "{size}");
        }
        for size in [0, 1, 256, 511, 513, 768, 4097, 8192, 1 << 31, u32::MAX] {
            assert_eq!(set(&host, entry, size), Answer::Error(Errno::EINVAL), "{size}");
        }
        let at = |address| host.ask_at(entry, &Settings::default(), BLKBSZSET, address);
        assert_eq!(at(0), Answer::Error(Errno::EINVAL));
        assert_eq!(at(8), Answer::Error(Errno::EFAULT));
    }
    // No less than a logical block.
    for (size, answer) in [(4096, DONE), (2048, Answer::Error(Errno::EINVAL))] {
        assert_eq!(set(&host, "/x=scsi,sector=4096", size), answer);
    }
    // Without the privilege nothing else is looked at.
    host.root = false;
    assert_eq!(host.ask_at("/x=scsi", &Settings::default(), BLKBSZSET, 0), Answer::Error(Errno::EACCES));
}

#[test]
fn settings_are_the_devices_own_and_start_fresh() {
    let host = MemoryHost::new(Medium::ImageFile, MIB);
    let (one, other) = (Settings::default(), Settings::default());
    host.put(&4321i32.to_ne_bytes());
    for kind in ["/x=scsi", "/x=sata"] {
        assert_eq!(host.ask_at(kind, &other, SG_GET_TIMEOUT, 0), DONE);
        assert_eq!(host.ask_at(kind, &one, SG_SET_TIMEOUT, BASE), DONE);
        assert_eq!(host.ask_at(kind, &one, SG_GET_TIMEOUT, 0), Answer::Value(4321));
    }
    for (get, set, default, value) in [
        (HDIO_GET_MULTCOUNT, HDIO_SET_MULTCOUNT, 0, 16),
        (HDIO_GET_DMA, HDIO_SET_DMA, 1, 0),
        (HDIO_GET_32BIT, HDIO_SET_32BIT, 0, 3),
        (HDIO_GET_ACOUSTIC, HDIO_SET_ACOUSTIC, 0, 254),
        (HDIO_GET_NICE, HDIO_SET_NICE, 0, 8),
    ] {
        for state in [&one, &other] {
            assert_eq!(host.ask_at("/x=ide", state, get, BASE), DONE);
            assert_eq!(long(&host), default);
        }
        assert_eq!(host.ask_at("/x=ide", &one, set, value), DONE);
        assert_eq!(host.ask_at("/x=ide", &one, get, BASE), DONE);
        assert_eq!(long(&host), value);
        for wrong in [value + 1000, u64::from(u32::MAX), u64::MAX] {
            assert!(matches!(host.ask_at("/x=ide", &one, set, wrong), Answer::Error(_)), "{set:#x}");
        }
        assert_eq!(host.ask_at("/x=ide", &one, get, BASE), DONE);
        assert_eq!(long(&host), value, "a refused setting changes nothing");
    }
}

#[test]
fn what_needs_a_privilege_is_refused_without_it() {
    let mut host = MemoryHost::new(Medium::ImageFile, MIB);
    host.root = false;
    for (kind, request) in [
        ("/x=scsi", SG_SCSI_RESET),
        ("/x=sata", SG_SCSI_RESET),
        ("/x=sata", HDIO_DRIVE_CMD),
        ("/x=sata", HDIO_DRIVE_TASK),
        ("/x=ide", HDIO_DRIVE_CMD),
        ("/x=ide", HDIO_DRIVE_TASK),
        ("/x=ide", HDIO_DRIVE_TASKFILE),
        ("/x=ide", HDIO_DRIVE_RESET),
        ("/x=ide", HDIO_SET_DMA),
        ("/x=ide", HDIO_SET_PIO_MODE),
        ("/x=ide", HDIO_GET_BUSSTATE),
        ("/x=scsi", BLKFLSBUF),
        ("/x=scsi", BLKRRPART),
        ("/x=scsi", BLKPG),
    ] {
        assert_eq!(host.ask(kind, request), Answer::Error(Errno::EACCES), "{kind} {request:#x}");
    }
    assert_eq!(host.ask("/x=scsi", IOC_PR_REGISTER), Answer::Error(Errno::EPERM));
    assert!(host.untouched() && host.changed.get().is_none());
}

#[test]
fn each_device_has_its_own_address() {
    let host = MemoryHost::new(Medium::ImageFile, MIB);
    assert_eq!(host.ask("/x=scsi", SCSI_IOCTL_GET_IDLUN), DONE);
    assert_eq!(host.got::<8>(), [3, 0, 0, 127, 127, 0, 0, 0]);
    assert_eq!(host.ask("/x=scsi", SCSI_IOCTL_GET_BUS_NUMBER), DONE);
    assert_eq!(int(&host), 127);
    for (room, wanted) in
        [(0u32, &b"\0\0\0\0"[..]), (3, b"vmw"), (64, b"vmware-bdwrapper\0"), (!0, b"vmware-bdwrapper\0")]
    {
        let host = MemoryHost::new(Medium::ImageFile, MIB);
        host.put(&room.to_ne_bytes());
        assert_eq!(host.ask("/x=scsi", SCSI_IOCTL_PROBE_HOST), Answer::Value(1));
        assert_eq!(&host.got::<17>()[..wanted.len()], wanted);
        assert_eq!(host.memory.borrow()[wanted.len().max(4)], POISON, "no byte more");
    }
}

#[test]
fn reset_is_what_the_adapter_has() {
    let host = MemoryHost::new(Medium::ImageFile, MIB);
    for (what, scsi, sata) in [
        (0u32, true, true),
        (1, true, true),
        (4, true, true),
        (3, true, true),
        (0x100, true, true),
        (0x101, true, false),
        (0x103, true, true),
        (5, false, false),
        (!0, false, false),
    ] {
        host.put(&what.to_ne_bytes());
        for (kind, succeeds) in [("/x=scsi", scsi), ("/x=sata", sata)] {
            let wanted = if succeeds { DONE } else { Answer::Error(Errno::EIO) };
            assert_eq!(host.ask(kind, SG_SCSI_RESET), wanted, "{kind} {what:#x}");
        }
    }
}

#[test]
fn numbers_and_names_stand_once() {
    for (at, row) in REQUESTS.iter().enumerate() {
        for other in &REQUESTS[..at] {
            assert!(row.number != other.number && row.name() != other.name(), "{}", row.name());
        }
        let known = !matches!(family(row.number), None | Some(Family::Unknown));
        assert!(known || row.number == FIGETBSZ, "{} would be forwarded", row.name());
        assert!(is_disk_request(row.number), "{}", row.name());
    }
}

/// Requests of drivers that a disk underneath may have; numbers as in the drivers' headers.
#[test]
fn no_drivers_own_request_is_forwarded() {
    for (name, number) in [
        ("MMC_IOC_CMD", 0xc048_b300),
        ("FSACTL_SENDFIB", 0x42008),
        ("FSACTL_SEND_RAW_SRB", 0x4204c),
        ("FSACTL_OPEN_GET_ADAPTER_FIB", 0x420d0),
        ("FSACTL_DELETE_DISK", 0x163),
        ("FSACTL_QUERY_DISK", 0x173),
        ("EXPRESS_IOCTL_RW_FIRMWARE", 0x4500),
        ("CCISS_PASSTHRU", 0xc058_420b),
        ("IDAPASSTHRU", 0x2828_2929),
        ("BIODASDRSRV", 0x4402),
        ("IOC_OPAL_LOCK_UNLOCK", 0x4118_70dd),
        ("NVME_URING_CMD_IO", 0xc048_4e80),
        ("DM_DEV_REMOVE", 0xc138_fd04),
        ("CXLFLASH", 0xca80),
        ("nobody's", 0xdead_beef),
    ] {
        let host = MemoryHost::new(Medium::BlockDevice, MIB);
        for (kind, errno) in KINDS.into_iter().zip([Errno::EINVAL, Errno::EINVAL, Errno::ENOTTY]) {
            assert!(is_disk_request(number), "{name}");
            let refused = [Answer::Error(errno), Answer::Error(Errno::EACCES)];
            assert!(refused.contains(&host.ask(kind, number)), "{name} of {kind}");
        }
        assert!(host.untouched());
    }
}

/// What programs ask other devices all the time costs no look at the descriptor.
#[test]
fn frequent_requests_are_no_disks() {
    // FIONREAD, SIOCGIFFLAGS, vmmon's RUN_VM, KVM_RUN, DRM_IOCTL_MODE_PAGE_FLIP.
    for number in [0x541b, 0x8913, 2008, 0xae80, 0xc018_64b0] {
        assert!(!is_disk_request(number), "{number:#x}");
    }
}

/// A request: one that is known, one of a family that is, or any.
fn requests() -> impl Strategy<Value = u32> {
    let known = prop::sample::select(REQUESTS).prop_map(|row| row.number);
    let same_family = (prop::sample::select(REQUESTS), any::<u8>(), any::<u16>())
        .prop_map(|(row, low, high)| row.number & 0xff00 | u32::from(low) | u32::from(high) << 16);
    prop_oneof![known, same_family, any::<u32>()]
}

fn arguments() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(BASE),
        (0..MEMORY as u64 + 32).prop_map(|at| BASE + at),
        prop::sample::select(vec![0, 1, 8, !0, !7, BASE - 1, 1 << 47]),
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No request does harm, whoever asks what with which argument; what a driver would carry out is never forwarded.
    #[test]
    fn no_request_does_harm(
        request in requests(),
        argument in arguments(),
        memory in prop::collection::vec(any::<u8>(), 32),
        entry in prop::sample::select(vec!["/x=scsi", "/x=ide", "/x=sata", "/x=scsi,ro", "/x=ide,sector=4096"]),
        block_device: bool,
        bytes: u64,
        writable: bool,
        root: bool,
    ) {
        let medium = if block_device { Medium::BlockDevice } else { Medium::ImageFile };
        let host = MemoryHost { writable, root, ..MemoryHost::new(medium, bytes) };
        host.put(&memory);
        let before = *host.memory.borrow();
        let answer = host.ask_at(entry, &Settings::default(), request, argument);
        let block_layer = request >> 8 & 0xff == 0x12;
        match answer {
            Answer::Forward => {
                let no_driver = family(request).is_none();
                let known = find(request).is_some();
                let file_systems = !block_device && family(request) == Some(Family::Unknown);
                let fibmap = !block_device && request == FIBMAP;
                prop_assert!(no_driver || file_systems || fibmap || block_device && block_layer && known, "{request:#x}");
                prop_assert_eq!(before, *host.memory.borrow());
            }
            Answer::CallerGone => prop_assert!(false, "the caller stays"),
            Answer::Error(errno) => {
                prop_assert!(errno.0 > 0);
                // A failed command leaves its registers.
                if matches!(request, HDIO_DRIVE_CMD | HDIO_DRIVE_TASK | HDIO_DRIVE_TASKFILE) {
                    return Ok(());
                }
                prop_assert_eq!(before, *host.memory.borrow(), "a failed request wrote something");
            }
            Answer::Value(value) => prop_assert!(value >= 0),
        }
        if let Some((what, start, length)) = host.changed.get() {
            prop_assert!(what == "flush" || writable && !entry.contains("ro") && start + length <= bytes);
        }
    }
}
