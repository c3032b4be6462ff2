//! Who a disk says it is: the same in every version.

use std::collections::BTreeSet;

use disk::ata::identify::{Features, fill, hd_driveid, identify};
use disk::entry::{Entry, Kind};
use disk::request::{HDIO_GET_IDENTITY, HDIO_OBSOLETE_IDENTITY};
use disk::{Answer, Capacity, Medium, identity};
use memory_disk::host::{MemoryHost, POISON};
use proptest::prelude::*;

fn entry(text: &str) -> Entry<'_> {
    Entry::parse(text.as_bytes()).expect("the entry is right")
}

/// The sector as `HDIO_GET_IDENTITY` gives it.
fn driveid(words: &[u16; 256]) -> [u8; 512] {
    let mut sector = [0; 512];
    fill(words, &mut sector);
    hd_driveid(&mut sector);
    sector
}

#[test]
fn pinned() {
    for (text, serial, wwn) in [
        ("/dev/sd/test", "BDW3AD0FDE9FA050CF9", 0x33ad_0fde_9fa0_50cf),
        ("/dev/sd/my-raid5-volume-for-data", "BDW9EB38FC8FD95E25D", 0x39eb_38fc_8fd9_5e25),
        ("/dev/hdx", "BDWDB3E68B386B8EB9C", 0x3db3_e68b_386b_8eb9),
        ("/dev/vg0/windows=ide", "BDW561B51F860A1A485", 0x3561_b51f_860a_1a48),
    ] {
        let entry = entry(text);
        assert_eq!(identity::serial(&entry), *format!("{serial:20}").as_bytes(), "{text}");
        assert_eq!(identity::wwn(&entry), wwn, "{text}: {:#018x}", identity::wwn(&entry));
        assert_eq!(identity::model(&entry), *b"BDWRAPPER DISK                          ");
    }
}

#[test]
fn options_hold() {
    let entry =
        entry("/x=sata,serial=WD-1234,model=A model of forty characters at the most,wwn=5000c50012345678");
    assert_eq!(identity::serial(&entry), *b"WD-1234             ");
    assert_eq!(identity::model(&entry), *b"A model of forty characters at the most ");
    assert_eq!(identity::wwn(&entry), 0x5000_c500_1234_5678);
}

#[test]
fn distinct_for_each_name() {
    let mut serials = BTreeSet::new();
    let mut wwns = BTreeSet::new();
    for number in 0..100_000 {
        for path in [format!("/dev/sd/{number}"), format!("/dev/hd/{number}")] {
            let entry = entry(&path);
            assert!(serials.insert(identity::serial(&entry)) && wwns.insert(identity::wwn(&entry)), "{path}");
        }
    }
    // The kind and the other options change nothing.
    assert_eq!(identity::serial(&entry("/x=scsi")), identity::serial(&entry("/x=ide,ro,force")));
}

/// The sector of a disk that has just been switched on.
fn fresh(entry: &Entry<'_>, capacity: Capacity, physical: u32) -> [u16; 256] {
    identify(entry, capacity, &Features::fresh(entry.kind, physical))
}

/// The whole sector of a disk of 128 MiB, as HDIO_GET_IDENTITY gives it.
#[test]
fn pinned_sector() {
    for (kind, pinned) in
        [("ide", include_str!("identify-ide.hex")), ("sata", include_str!("identify-sata.hex"))]
    {
        let text = format!("/dev/hd/test={kind}");
        let sector = driveid(&fresh(&entry(&text), Capacity::new(128 << 20, 512), 512));
        let hex: Vec<String> = sector
            .chunks(32)
            .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
            .collect();
        assert_eq!(hex.concat(), pinned, "{kind}");
    }
}

fn quad(words: &[u16; 256], at: usize) -> u64 {
    (0..4).map(|i| u64::from(words[at + i]) << (16 * i)).sum()
}

fn double(words: &[u16; 256], at: usize) -> u32 {
    u32::from(words[at]) | u32::from(words[at + 1]) << 16
}

#[test]
fn capacity_words() {
    let ide = entry("/x=ide");
    for (blocks, short) in [
        (0, 0),
        (1, 1),
        (0x0fff_fffe, 0x0fff_fffe),
        (0x0fff_ffff, 0x0fff_ffff),
        (0x1000_0000, 0x0fff_ffff),
        ((1 << 48) - 1, 0x0fff_ffff),
        (1 << 48, 0x0fff_ffff),
        ((1 << 54) - 1, 0x0fff_ffff),
    ] {
        for block in [512, 4096] {
            let words = fresh(&ide, Capacity { blocks, block_size: block }, 4096);
            assert_eq!((double(&words, 60), quad(&words, 100)), (short, blocks.min((1 << 48) - 1)));
            let geometry = [words[1], words[3], words[6]];
            assert_eq!(geometry, [words[54], words[55], words[56]]);
            assert_eq!(double(&words, 57), geometry.map(u32::from).iter().product::<u32>());
            // Of logical blocks, and none that does not exist, but for a disk of less than a cylinder.
            let cylinders = (blocks / 1008).clamp(1, 16383);
            assert_eq!(double(&words, 57), cylinders as u32 * 1008);
        }
    }
}

#[test]
fn block_size_words() {
    let ide = entry("/x=ide");
    for (logical, physical, word_106, longer, word_209) in [
        (512, 512, 0x4000, 0, 0),
        (512, 4096, 0x6003, 0, 0x4000),
        (4096, 4096, 0x5000, 2048, 0),
        (4096, 16384, 0x7002, 2048, 0x4000),
    ] {
        let words = fresh(&ide, Capacity::new(1 << 30, logical), physical);
        assert_eq!((words[106], double(&words, 117), words[209]), (word_106, longer, word_209));
    }
}

#[test]
fn identity_requests() {
    let host = MemoryHost::new(Medium::ImageFile, 128 << 20);
    assert_eq!(host.ask("/dev/hd/test=ide", HDIO_GET_IDENTITY), Answer::Value(0));
    let whole: [u8; 512] = host.got();
    let host = MemoryHost::new(Medium::ImageFile, 128 << 20);
    assert_eq!(host.ask("/dev/hd/test=ide", HDIO_OBSOLETE_IDENTITY), Answer::Value(0));
    let part: [u8; 143] = host.got();
    assert_eq!(part[..142], whole[..142]);
    assert_eq!(part[142], POISON);
    let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&whole[range]).into_owned();
    assert_eq!(text(54..94).trim_end(), "BDWRAPPER DISK");
    assert_eq!(text(46..54).trim_end(), "1.0");
    assert!(text(20..40).starts_with("BDW"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_bytes_of_a_sector_add_up_to_zero(blocks: u64, big: bool, sata: bool, name in "/[a-z]{1,30}") {
        let kind = if sata { Kind::Sata } else { Kind::Ide };
        let text = format!("{name}={}", kind.name());
        let block = if big { 4096 } else { 512 };
        let words = fresh(&entry(&text), Capacity { blocks, block_size: block }, 4096);
        for bytes in [driveid(&words).to_vec(), words.iter().flat_map(|word| word.to_le_bytes()).collect()] {
            prop_assert_eq!(bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)), 0);
        }
        prop_assert_eq!(words[255] & 0xff, 0xa5);
    }
}
