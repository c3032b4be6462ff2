//! The geometry is the same in every version: `geometry.tsv` must never change.

use disk::entry::Kind;
use disk::geometry::{geometry, identify_geometry};
use proptest::prelude::*;

fn line(sectors: u64) -> String {
    let text = |kind| {
        let found = geometry(kind, sectors);
        format!("{}/{}/{}", found.cylinders, found.heads, found.sectors)
    };
    let identify = identify_geometry(sectors);
    format!(
        "{sectors}\t{}\t{}\t{}/{}/{}",
        text(Kind::Scsi),
        text(Kind::Ide),
        identify.cylinders,
        identify.heads,
        identify.sectors
    )
}

#[test]
fn pinned() {
    let pinned = include_str!("geometry.tsv");
    let rows: Vec<&str> = pinned.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(rows.len() > 40);
    for row in rows {
        let sectors = row.split('\t').next().expect("a row begins with a size");
        assert_eq!(line(sectors.parse().expect("a size is a number")), row);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_zero_and_never_more_than_there_is(sectors in 0..=u64::MAX / 512) {
        for kind in [Kind::Scsi, Kind::Ide, Kind::Sata] {
            let found = geometry(kind, sectors);
            let track = u64::from(found.heads) * u64::from(found.sectors);
            prop_assert!(found.cylinders > 0 && found.heads > 0 && (1..=63).contains(&found.sectors));
            prop_assert!(found.cylinders == 1 || u64::from(found.cylinders) * track <= sectors);
        }
        let found = identify_geometry(sectors);
        prop_assert!((1..=16383).contains(&found.cylinders));
        prop_assert_eq!((found.heads, found.sectors), (16, 63));
    }

    /// Small SCSI disks fit into what the BIOS can address, and lose less than a cylinder.
    #[test]
    fn scsi_fits_the_bios(sectors in 1..=255u64 * 1024 * 62) {
        let found = geometry(Kind::Scsi, sectors);
        let track = u64::from(found.heads) * u64::from(found.sectors);
        prop_assert!(found.cylinders <= 1024 && found.sectors <= 62);
        prop_assert!(sectors - u64::from(found.cylinders) * track < track);
    }
}
