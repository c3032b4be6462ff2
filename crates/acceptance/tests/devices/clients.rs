//! Command lines that no recorded table has, on the machine's own SCSI and AHCI disks and on listed devices beside them.

use std::path::{Path, PathBuf};

use acceptance::machine::{disk, looped};
use acceptance::{Outcome, Run, Scratch, Trial, trial};

use super::entry;

/// The disks that nothing else uses: serial number, kind.
const DISKS: [(&str, &str); 2] = [("SCSI-4", "scsi"), ("SATA-5", "sata")];

pub fn trials() -> Vec<Trial> {
    DISKS.map(|(serial, kind)| trial(format!("clients/{kind}"), &[], move || same(serial, kind))).into()
}

/// The invocations; `DEV` is the disk. Those that may leave a real disk in another state come last.
const LINES: &str = "\
sg_write_x --normal --lba=0 --num=1 --in=/dev/zero DEV
sg_bg_ctl DEV
sg_copy_results DEV
sg_emc_trespass DEV
sg_get_config DEV
sg_get_elem_status DEV
sg_ident DEV
sg_map26 DEV
sg_rbuf --size=4096 DEV
sg_rdac -a DEV
sg_read_attr DEV
sg_read_block_limits DEV
sg_read_buffer --length=64 DEV
sg_read_long --lba=0 DEV
sg_reassign --grown DEV
sg_referrals DEV
sg_rep_pip DEV
sg_rep_zones DEV
sg_reset_wp --all DEV
sg_rmsn DEV
sg_safte DEV
sg_seek --lba=0 DEV
sg_ses DEV
sg_ses_microcode DEV
sg_stpg --active DEV
sg_stream_ctl --get DEV
sg_test_rwbuf --size=512 DEV
sg_timestamp DEV
sg_wr_mode --page=8 --contents=08,12 DEV
sg_write_buffer --mode=dmc_offs_defer DEV
sg_write_long --lba=0 DEV
sg_write_verify --lba=0 --num=1 --in=/dev/zero DEV
sg_xcopy if=DEV of=DEV bs=512 count=1 seek=8
sg_zone --all DEV
sg_raw DEV 0b 00 00 00 00 00
sg_raw DEV 1e 00 00 00 01 00
sg_raw DEV 1b 00 00 00 02 00
sg_raw DEV 1b 00 00 00 00 00
sg_raw DEV 1b 00 00 00 01 00
sg_raw -r 12 DEV bd 00 00 00 00 00 00 00 00 0c 00 00
sg_raw -r 12 DEV 43 00 00 00 00 00 00 00 0c 00
sg_raw -r 34 DEV 51 00 00 00 00 00 00 00 22 00
sg_raw -r 8 DEV 5c 00 00 00 00 00 00 00 08 00
sg_raw -r 6 DEV 05 00 00 00 00 00
sg_raw -r 20 DEV 34 00 00 00 00 00 00 00 00 00
sg_raw DEV 00 00 00 00 00 40
sg_raw -r 96 DEV 12 00 00 00 60 40
sg_raw -r 96 DEV 12 02 00 00 60 00
sg_raw -r 96 DEV 12 e0 00 00 60 00
sg_raw -r 18 DEV 03 00 00 00 00 00
sg_raw DEV 01 00 00 00 00 00
sg_raw -r 12 DEV 4d 01 6f 00 00 00 00 00 0c 00
sg_raw -r 512 DEV 85 0c 0e 00 00 00 01 00 00 00 00 00 00 00 ec 00
sg_raw -r 512 DEV 85 08 0e 00 00 00 01 00 00 00 00 00 00 40 c8 00
sg_raw DEV 85 06 20 00 00 00 01 00 00 00 00 00 00 00 ec 00
smartctl -d scsi -l ssd DEV
smartctl -d scsi -x DEV
hdparm --idle-immediate DEV
hdparm --idle-unload DEV
hdparm -y DEV
hdparm --sanitize-status DEV
hdparm --dco-setmax 1000 DEV
hdparm --prefer-ata12 -I DEV
hdparm -Np1000 --yes-i-know-what-i-am-doing DEV
hdparm --repair-sector 3 --yes-i-know-what-i-am-doing DEV
hdparm --make-bad-sector f3 --yes-i-know-what-i-am-doing DEV
hdparm -J DEV
hdparm -Z DEV";

/// A command line that ends otherwise on a listed device than on the real disk, on purpose.
struct Difference {
    line: &'static str,
    kinds: &'static [&'static str],
    why: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        line: "sg_get_config DEV",
        kinds: &["scsi"],
        why: "GET CONFIGURATION is a CD drive's; that disk has the operation code and refuses the medium",
    },
    Difference {
        line: "sg_raw -r 12 DEV bd 00 00 00 00 00 00 00 00 0c 00 00",
        kinds: &["scsi"],
        why: "MECHANISM STATUS is a CD drive's, too",
    },
    Difference {
        line: "sg_raw -r 34 DEV 51 00 00 00 00 00 00 00 22 00",
        kinds: &["scsi"],
        why: "READ DISC INFORMATION is a CD drive's, too",
    },
    Difference {
        line: "sg_raw -r 12 DEV 43 00 00 00 00 00 00 00 0c 00",
        kinds: &["scsi"],
        why: "READ TOC is a CD drive's; that disk answers it",
    },
    Difference {
        line: "sg_ident DEV",
        kinds: &["scsi"],
        why: "the operation code exists here for other service actions, so the service action is refused",
    },
    Difference { line: "sg_rep_pip DEV", kinds: &["scsi"], why: "the service action is refused, too" },
    Difference { line: "sg_timestamp DEV", kinds: &["scsi"], why: "the service action is refused, too" },
    Difference { line: "sg_stpg --active DEV", kinds: &["scsi"], why: "listed devices have it" },
    Difference {
        line: "sg_reassign --grown DEV",
        kinds: &["scsi", "sata"],
        why: "listed devices have READ DEFECT DATA",
    },
    Difference {
        line: "sg_map26 DEV",
        kinds: &["scsi", "sata"],
        why: "it looks for another node of the disk in /sys, and finds the backing device",
    },
    Difference {
        line: "sg_rep_zones DEV",
        kinds: &["sata"],
        why: "libata sends the command to a disk without zones, which aborts it; listed devices do not know it",
    },
    Difference {
        line: "sg_reset_wp --all DEV",
        kinds: &["sata"],
        why: "libata sends the command to a disk without zones, which aborts it; listed devices do not know it",
    },
    Difference {
        line: "sg_raw DEV 1b 00 00 00 02 00",
        kinds: &["scsi"],
        why: "that disk ignores LOEJ; nothing can be ejected, and libata refuses it",
    },
    Difference {
        line: "sg_raw DEV 1e 00 00 00 01 00",
        kinds: &["sata"],
        why: "listed devices have PREVENT ALLOW MEDIUM REMOVAL",
    },
    Difference {
        line: "sg_raw -r 20 DEV 34 00 00 00 00 00 00 00 00 00",
        kinds: &["scsi", "sata"],
        why: "listed devices have PRE-FETCH(10)",
    },
    Difference {
        line: "sg_raw -r 12 DEV 4d 01 6f 00 00 00 00 00 0c 00",
        kinds: &["scsi", "sata"],
        why: "listed devices have LOG SENSE",
    },
    Difference {
        line: "sg_raw DEV 00 00 00 00 00 40",
        kinds: &["scsi", "sata"],
        why: "bits that the command does not have are refused",
    },
    Difference {
        line: "sg_raw -r 96 DEV 12 00 00 00 60 40",
        kinds: &["scsi", "sata"],
        why: "bits that the command does not have are refused",
    },
    Difference {
        line: "sg_raw -r 96 DEV 12 02 00 00 60 00",
        kinds: &["scsi"],
        why: "CMDDT is obsolete since SPC-3; libata refuses it",
    },
    Difference {
        line: "sg_raw -r 96 DEV 12 e0 00 00 60 00",
        kinds: &["scsi", "sata"],
        why: "bits that the command does not have are refused",
    },
    Difference {
        line: "sg_raw -r 18 DEV 03 00 00 00 00 00",
        kinds: &["sata"],
        why: "libata ends REQUEST SENSE with CHECK CONDITION; SPC-4, 6.39: as data",
    },
    Difference {
        line: "hdparm -Np1000 --yes-i-know-what-i-am-doing DEV",
        kinds: &["sata"],
        why: "the registers of a failed command are returned in their descriptor, where hdparm finds the error",
    },
    Difference {
        line: "hdparm --make-bad-sector f3 --yes-i-know-what-i-am-doing DEV",
        kinds: &["sata"],
        why: "the registers of a failed command are returned in their descriptor, where hdparm finds the error",
    },
    Difference {
        line: "hdparm -J DEV",
        kinds: &["sata"],
        why: "the registers of a failed command are returned in their descriptor, where hdparm finds the error",
    },
    Difference {
        line: "hdparm -Z DEV",
        kinds: &["sata"],
        why: "the registers of a failed command are returned in their descriptor, where hdparm finds the error",
    },
];

fn run(path: &Path, line: &str, listed: Option<(&Scratch, &str)>) -> Outcome {
    let words = line.replace("DEV", path.to_str().expect("names are ASCII"));
    // Some utilities wait for a disk that does not answer.
    let run = Run::new("timeout").arg("60");
    let run = match listed {
        Some((scratch, kind)) => run.with(&scratch.library(), entry(path, kind)),
        None => run,
    };
    run.args(words.split(' ')).output()
}

/// docs/differences.md names every difference, and why.
fn documented() {
    let rows = DIFFERENCES.iter().map(|Difference { line, kinds, why }| {
        format!("| `{}` | {} | {why} |\n", line.replace(" DEV", ""), kinds.join(", "))
    });
    let table: String = rows.collect();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/differences.md");
    let text = std::fs::read_to_string(file).expect("it is part of the sources");
    assert!(text.contains(&table), "docs/differences.md is to have this table:\n{table}");
}

/// Each command line ends with the same exit status. What is said is the disk's own: identity, capabilities and settings.
fn same(serial: &str, kind: &'static str) {
    documented();
    let (real, ours, scratch) = (PathBuf::from(disk(serial)), PathBuf::from(looped(64)), Scratch::new());
    let mut wrong = Vec::new();
    for line in LINES.lines() {
        let (there, here) = (run(&real, line, None), run(&ours, line, Some((&scratch, kind))));
        let difference = DIFFERENCES.iter().find(|known| known.line == line && known.kinds.contains(&kind));
        match (there.code() == here.code(), difference) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(known)) => {
                wrong.push(format!("{line}: the difference is none any more ({})", known.why))
            }
            (false, None) => wrong.push(format!(
                "{line}: {} where the real disk says {}\n  {}{}\n  real: {}{}",
                here.code(),
                there.code(),
                here.out(),
                here.err(),
                there.out(),
                there.err()
            )),
        }
    }
    assert!(wrong.is_empty(), "{kind}: {} lines\n{}", wrong.len(), wrong.join("\n"));
}
