//! What the rows say of a command's effect is true: those that change nothing leave the medium and every setting.

use std::cell::RefCell;

use disk::ata::command as ata;
use disk::sat;
use disk::scsi::command::{COMMANDS, DataPhase, Effect, Operation as O, find};
use disk::{Medium, Nexus};
use memory_disk::Disk;
use memory_disk::ata::{Ata, LBA, SMART_SIGNATURE, Way};
use memory_disk::sg_io::{DATA, FROM_DEV, NONE, TO_DEV, TO_FROM_DEV, sg_io_hdr};
use proptest::prelude::*;
use proptest::sample::select;

const BYTES: usize = 1 << 16;

/// A CDB of any command of the table, most of whose reserved bits are 0.
fn cdb() -> impl Strategy<Value = Vec<u8>> {
    let rows = 0..COMMANDS.len();
    (rows, any::<[u8; 16]>(), select(ata::COMMANDS.iter().collect::<Vec<_>>()), 0..8u8).prop_map(
        |(row, bytes, ata, choice)| {
            let row = &COMMANDS[row];
            let mut cdb: Vec<u8> = row.usage.iter().zip(bytes).map(|(usage, byte)| usage & byte).collect();
            cdb[0] = row.operation_code();
            if let Some(action) = row.action() {
                cdb[1] = action;
            }
            match row.operation {
                O::AtaPassThrough => pass_through(&mut cdb, ata, bytes[0]),
                // Near enough, and few enough, to be there.
                _ if choice > 0 && cdb.len() > 6 => {
                    let end = cdb.len() - 1;
                    cdb[2..end - 1].iter_mut().for_each(|byte| *byte = 0);
                    cdb[end - 1] = bytes[15] & 7 & row.usage[end - 1];
                }
                _ => {}
            }
            cdb
        },
    )
}

/// A pass-through of this ATA command by its protocol, with one block of data.
fn pass_through(cdb: &mut Vec<u8>, command: &ata::Command, bits: u8) {
    use ata::Protocol as T;
    let (protocol, from_disk) = match command.protocol {
        T::NonData => (3, false),
        T::PioIn => (4, true),
        T::PioOut => (5, false),
        T::DmaIn => (6, true),
        T::DmaOut => (6, false),
    };
    let length = if command.protocol == T::NonData { 0 } else { 0x06 | if from_disk { 0x08 } else { 0 } };
    let features = command.subcommand.unwrap_or(bits & 1);
    let (code, extended) = (command.code, command.extended && cdb.len() == 16);
    let signature = if code == ata::SMART { SMART_SIGNATURE } else { 0 };
    let lba = signature | u64::from(bits >> 4);
    let whole = Ata { features: features.into(), count: 1, lba, device: LBA, extended, ..Ata::new(code) };
    let way = if cdb.len() == 12 { Way::Twelve } else { Way::Sixteen };
    *cdb = whole.pass_through(way, protocol, length);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    #[test]
    fn what_changes_nothing_changes_nothing(
        cdb in cdb(),
        entry in select(vec!["/x=scsi", "/x=sata", "/x=sata,ro"]),
        shared in any::<bool>(),
        direction in select(vec![NONE, TO_DEV, FROM_DEV, TO_FROM_DEV]),
        data in any::<[u8; 32]>(),
    ) {
        let content: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8 + 1).collect();
        let mut disk = Disk::new(content.clone());
        disk.entry = entry;
        disk.host.medium = Medium::ImageFile;
        disk.host.shared = shared.then(RefCell::default);
        disk.nexus = Nexus::new(1);
        // The size is seen, and reported, once.
        disk.none(&[0; 6]);
        let state = |disk: &Disk| format!("{:?}", (&disk.settings, &disk.nexus, &disk.host.shared));
        let before = state(&disk);
        let mut whole = [0; 16];
        whole[..cdb.len()].copy_from_slice(&cdb);
        let row = find(cdb[0], cdb[1] & 0x1f).expect("it is in the table");
        let data = data.repeat(128);
        let length = if direction == NONE { 0 } else { data.len() };
        disk.put(DATA, &data);
        let _ = disk.try_send(&cdb, &sg_io_hdr(cdb.len(), direction, length));
        let medium_changed = *disk.host.content.borrow() != content || disk.host.changed.get().is_some();
        let may_change_medium = matches!(row.effect, Effect::ChangesMedium | Effect::OfAtaCommand);
        prop_assert!(!medium_changed || may_change_medium, "{}", row.name);
        let changed = medium_changed
            || state(&disk) != before;
        prop_assert!(!changed || !sat::changes_nothing(row, &whole), "{}", row.name);
    }
}

#[test]
fn what_changes_something_says_so() {
    let changes = |cdb: &[u8]| {
        let mut whole = [0; 16];
        whole[..cdb.len()].copy_from_slice(cdb);
        let command = find(cdb[0], cdb[1] & 0x1f).expect("it is in the table");
        !sat::changes_nothing(command, &whole)
    };
    for (cdb, wanted) in [
        (&[0x12, 0, 0, 0, 36, 0][..], false),
        (&[0x1b, 0, 0, 0, 1, 0], true),
        (&[0x1d, 0x04, 0, 0, 0, 0], true),
        (&[0x1e, 0, 0, 0, 1, 0], true),
        (&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], true),
        (&[0x4d, 0, 0x4d, 0, 0, 0, 0, 0, 16, 0], false),
        (&[0x4d, 1, 0x4d, 0, 0, 0, 0, 0, 16, 0], true),
        (&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], true),
        // IDENTIFY DEVICE, DATA SET MANAGEMENT, SMART READ DATA, SMART DISABLE OPERATIONS, SET FEATURES, an unknown one.
        (&[0xa1, 8, 0x0e, 0, 1, 0, 0, 0, 0x40, 0xec, 0, 0], false),
        (&[0xa1, 12, 0x06, 1, 1, 0, 0, 0, 0x40, 0x06, 0, 0], true),
        (&[0xa1, 8, 0x0e, 0xd0, 1, 0, 0x4f, 0xc2, 0, 0xb0, 0, 0], false),
        (&[0xa1, 6, 0, 0xd9, 0, 0, 0x4f, 0xc2, 0, 0xb0, 0, 0], true),
        (&[0xa1, 6, 0, 0x02, 0, 0, 0, 0, 0, 0xef, 0, 0], true),
        (&[0xa1, 6, 0, 0, 0, 0, 0, 0, 0, 0xf4, 0, 0], true),
        (&[0x85, 8, 0x0e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 0xec, 0], false),
        (&[0x85, 13, 0x06, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 0x06, 0], true),
    ] {
        assert_eq!(changes(cdb), wanted, "{cdb:02x?}");
    }
}

/// A trace is public: no row allows logical blocks in it.
#[test]
fn no_blocks_are_recorded() {
    for row in COMMANDS {
        let moves_blocks = matches!(row.data, DataPhase::BlocksIn | DataPhase::BlocksOut);
        assert!(!moves_blocks || !row.recorded, "{}", row.name);
    }
    for row in ata::COMMANDS {
        assert!(!row.moves_sectors() || !row.recorded, "{}", row.name);
    }
}
