//! What to do about what is wrong with descriptors, partition tables and virtual machines' files.

use std::path::Path;

use bdwrapper_vmdk::descriptor;
use bdwrapper_vmdk::table;
use bdwrapper_vmdk::vmx;

use crate::say::failure::quoted;

/// What to do about a GPT that was made for sectors of another size.
pub const LEAVE: &str = "leave the table as it is, because programs that repair or make one would destroy it";

/// What to do about a file that is not a descriptor that can be used.
pub fn descriptor_hint(error: &descriptor::Error) -> &'static str {
    match error {
        descriptor::Error::Binary => "name the small text file that describes the disk",
        descriptor::Error::NoKey(_) => "name one that VMware or 'vmware-bdwrapper vmdk create' wrote",
        descriptor::Error::Snapshot => "name the descriptor of the disk, without snapshots",
        descriptor::Error::Extent { .. } => "correct it",
        descriptor::Error::NoExtents => "make another by 'vmware-bdwrapper vmdk create'",
    }
}

/// What to do about a virtual machine's file to which a disk cannot be added.
pub fn vmx_hint(error: &vmx::Error) -> &'static str {
    match error {
        vmx::Error::NotAVmx => "name one of a virtual machine",
        vmx::Error::Encrypted => "add the disk in VMware",
        vmx::Error::Suspended => "resume the virtual machine, and shut it down",
        vmx::Error::OldHardware { .. } => {
            "change its hardware compatibility in VMware, or choose a slot of another kind by --slot"
        }
        vmx::Error::NoFreeSlot(_) => "remove a disk, or choose a slot by --slot",
        vmx::Error::SlotTaken(_) => "remove them, or choose another slot",
        vmx::Error::ControllerOff(_) => "choose a slot on another controller",
    }
}

/// What to do about a partition table that cannot be used.
pub fn table_hint(error: &table::Error, device: &Path) -> String {
    use table::Error;
    let restore = format!("'sgdisk --move-second-header {}'", quoted(device));
    match error {
        Error::Read { .. } => "use another device".into(),
        Error::NoMark => "use the whole device, or divide it first where it is empty".into(),
        Error::NoPartitions => "make some, or use the whole device".into(),
        Error::TooLong { .. } | Error::LargerDevice => "give the device its size again".into(),
        Error::NoProtectiveMbr { has_backup: true } => format!("write the protective MBR by {restore}"),
        Error::NoProtectiveMbr { has_backup: false } => {
            "write the protective MBR and the backup by hand in gdisk(8)".into()
        }
        Error::GptSectorSize { .. } => LEAVE.into(),
        Error::PrimaryGpt(_) => format!("restore the primary one by {restore}"),
        Error::BackupGpt(_) => format!("restore the backup by {restore}"),
        Error::BothGpts(_) => {
            "restore both from a backup of your own (sgdisk(8), --load-backup), or use the whole device"
                .into()
        }
        Error::GptContradiction => "decide which one is right; gdisk(8) shows both".into(),
        Error::NotATable
        | Error::Hybrid
        | Error::ProtectiveStart
        | Error::Overlap { .. }
        | Error::PartitionAtTable(_)
        | Error::PartitionOverlap(_)
        | Error::PartitionNotUsable(_)
        | Error::Logical { .. }
        | Error::EndlessChain => "use the whole device".into(),
    }
}
