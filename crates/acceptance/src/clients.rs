//! What real programs were asked to do on real disks; `golden/clients` says what came of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::fixture::Disk;
use crate::harness::Need;
use crate::run::Run;

/// The invocations that all tables of `golden/clients` have, in an order in which each finds the device as it did there;
/// `DEV` is the device.
pub const LIST: &str = "\
parted -s DEV unit s print
blkid -p DEV
mdadm --examine DEV
blockdev --flushbufs DEV
blockdev --getsz DEV
blockdev --report DEV
blockdev --rereadpt DEV
fdisk -l DEV
sfdisk -l DEV
sgdisk -p DEV
lsblk -O DEV
nvme list
/lib/udev/ata_id --export DEV
/lib/udev/scsi_id --export --whitelisted -d DEV
/lib/udev/scsi_id --page=0x80 --whitelisted -d DEV
hdparm DEV
hdparm --Istdout DEV
hdparm --dco-identify DEV
hdparm --fibmap /etc/hostname
hdparm --please-destroy-my-drive --trim-sector-ranges 0:8 DEV
hdparm --read-sector 0 DEV
hdparm --security-freeze DEV
hdparm --user-master u --security-disable X DEV
hdparm --user-master u --security-set-pass X DEV
hdparm --yes-i-know-what-i-am-doing --write-sector 0 DEV
hdparm -A DEV
hdparm -B DEV
hdparm -C DEV
hdparm -H DEV
hdparm -I DEV
hdparm -M DEV
hdparm -N DEV
hdparm -S 120 DEV
hdparm -W1 DEV
hdparm -W DEV
hdparm -f DEV
hdparm -g DEV
hdparm -i DEV
hdparm -r DEV
hdparm -z DEV
sdparm --clear=WCE DEV
sdparm --command=capacity DEV
sdparm --command=ready DEV
sdparm --command=sync DEV
sdparm --get=WCE DEV
sdparm --set=WCE DEV
sdparm -a DEV
sdparm -i DEV
sg_bg_ctl DEV
sg_compare_and_write --lba=0 --num=1 --in=/dev/zero DEV
sg_dd if=DEV of=/dev/null bs=512 count=16 blk_sgio=1
sg_emc_trespass DEV
sg_get_lba_status DEV
sg_ident DEV
sg_inq -A DEV
sg_inq DEV
sg_logs -a DEV
sg_luns DEV
sg_map -i
sg_modes -a DEV
sg_opcodes -t DEV
sg_opcodes DEV
sg_persist --out --register --param-sark=abc DEV
sg_persist -k DEV
sg_persist --out --reserve --param-rk=abc --prout-type=1 DEV
sg_persist -r DEV
sg_persist -s DEV
sg_persist -c DEV
sg_persist --out --release --param-rk=abc --prout-type=1 DEV
sg_persist --out --register --param-rk=abc --param-sark=0 DEV
sg_prevent -a DEV
sg_raw -r 512 DEV 85 08 0e 00 00 00 01 00 00 00 00 00 00 00 ec 00
sg_raw -r 96 DEV 12 00 00 00 60 00
sg_rdac DEV
sg_read_block_limits DEV
sg_read_buffer --id=0 --mode=desc DEV
sg_read if=DEV bs=512 count=16 blk_sgio=1
sg_readcap -16 DEV
sg_readcap DEV
sg_reassign --dummy -a 1 DEV
sg_referrals DEV
sg_rep_zones DEV
sg_requests DEV
sg_reset -n DEV
sg_rtpg DEV
sg_sat_identify --len=12 DEV
sg_sat_identify DEV
sg_sat_phy_event DEV
sg_sat_read_gplog DEV
sg_sat_set_features --feature=0x2 DEV
sg_scan -i
sg_seek DEV
sg_senddiag -t DEV
sg_ses DEV
sg_stpg DEV
sg_sync DEV
sg_timestamp DEV
sg_turs DEV
sg_unmap --lba=0 --num=8 DEV --force
sg_verify -l 0 -c 8 DEV
sg_vpd -l DEV
sg_vpd -p bl DEV
sg_vpd -p di DEV
sg_write_buffer --mode=data --in=/etc/hostname DEV
sg_write_same --16 --unmap --lba=0 --num=8 --xferlen=512 DEV
sg_write_same --lba=0 --num=8 --xferlen=512 --in=/dev/zero DEV
sg_xcopy if=DEV of=DEV bs=512 count=1 seek=8
sg_z_act_query DEV
smartctl --scan
smartctl -H DEV
smartctl -a DEV
smartctl -d sat -i DEV
smartctl -d scsi -a DEV
smartctl -g all DEV
smartctl -i DEV
smartctl -s on DEV
smartctl -t short DEV
smartctl -x DEV
dd if=/dev/zero of=DEV bs=4096 count=4 oflag=direct conv=notrunc
parted -s DEV mklabel msdos
parted -s DEV mkpart primary 1MiB 100%
partprobe DEV
wipefs -a DEV
blkdiscard DEV
blkdiscard -z -o 0 -l 1048576 DEV
mkfs.ext4 -F -q DEV
e2fsck -fn DEV
pvcreate -ff -y DEV
pvremove -ff -y DEV
sg_start --stop DEV
sg_start --start DEV
";

/// Some releases of sg3_utils have it; it failed on every target.
const NOT_IN_EVERY_RELEASE: &str = "sg_z_act_query";

/// What releases of clients do wrong by themselves: how the invocations begin, the release as the client says it for `-V`, and what is
/// wrong.
const BROKEN: [(&str, &str, &str); 3] = [
    ("sg_wr_mode -p 0xa -c", "1.30 20230623", "sg_wr_mode of sg3_utils 1.48 refuses every --contents"),
    ("sgp_dd bs=512 thr=4", "5.93 20230717", "sgp_dd of sg3_utils 1.48 corrupts what several threads copy"),
    ("vmdkinfo", "20240510", "vmdkinfo 20240510 ends at an extent without a file"),
];

/// Whether an invocation is left out because this machine's release of the client is broken. Says so on a line that scripts/test counts.
pub fn left_out(invocation: &str) -> bool {
    let program = invocation.split(' ').next().unwrap_or_default();
    let Some((_, release, reason)) = BROKEN.iter().find(|(start, ..)| invocation.starts_with(start)) else {
        return false;
    };
    let said = Run::new(program).arg("-V").output();
    let is_broken = (said.out() + &said.err()).contains(release);
    if is_broken {
        println!("left out: {reason}");
    }
    is_broken
}

/// Whether a client says something, which its releases word differently: the alternatives are divided by `|`.
pub fn says(text: &str, wordings: &str) -> bool {
    wordings.split('|').any(|wording| text.contains(wording))
}

/// The exit status of a program of sg3_utils as releases before 1.48 have it: later ones tell INVALID FIELD IN PARAMETER LIST (19) from
/// other illegal requests (5).
pub fn status(program: &str, code: i32) -> i32 {
    if program.starts_with("sg_") && code == 19 { 5 } else { code }
}

/// A command of several words on the device, which is `DEV` in it.
pub fn command(disk: &Disk, command: &str) -> Run {
    let path = disk.path().to_str().expect("test names are ASCII");
    let mut words = command.split(' ').map(|word| word.replace("DEV", path));
    disk.run(words.next().expect("a program stands first")).args(words)
}

/// The name of an invocation in the tables, which cut it off.
pub fn name(command: &str) -> String {
    command.replace([' ', '/'], "_").chars().take(40).collect()
}

/// The exit statuses in a table, by name.
pub fn recorded(table: &str) -> BTreeMap<String, i32> {
    let table = format!("{}/golden/clients/{table}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&table).unwrap_or_else(|error| panic!("{table}: {error}"));
    text.lines()
        .map(|line| {
            let (name, rest) = line.split_once(" rc=").expect("a name and an exit status");
            let status = rest.split(' ').next().and_then(|status| status.parse().ok());
            (name.to_owned(), status.expect("an exit status"))
        })
        .collect()
}

/// What a trial with invocations cannot do without.
pub fn needs(invocations: &'static str) -> Vec<Need> {
    let tools = invocations.lines().map(|line| line.split(' ').next().expect("a program stands first"));
    let tools: BTreeSet<&str> = tools.filter(|tool| *tool != NOT_IN_EVERY_RELEASE).collect();
    tools.into_iter().map(Need::Tool).chain([Need::Devices]).collect()
}
