//! Findings about descriptors, partition tables and virtual machines' files: what is wrong comes from the format, and what to do
//! about it stands here.

use std::path::Path;

use bdwrapper_vmdk::descriptor;
use bdwrapper_vmdk::table;
use bdwrapper_vmdk::vmx;

use crate::say::failure::quoted;
use crate::say::finding::{Code, Finding};

/// What to do about a GPT that was made for sectors of another size.
pub const LEAVE: &str = "leave the table as it is, because programs that repair or make one would destroy it";

/// Says why a file is not a descriptor that can be used.
pub fn of_descriptor(error: descriptor::Error, file: &Path) -> Finding {
    let hint = match error {
        descriptor::Error::Binary => "name the small text file that describes the disk",
        descriptor::Error::NoKey(_) => "name one that VMware or 'vmware-bdwrapper vmdk create' wrote",
        descriptor::Error::Snapshot => "name the descriptor of the disk, without snapshots",
        descriptor::Error::Extent { .. } => "correct it",
        descriptor::Error::NoExtents => "create another with 'vmware-bdwrapper vmdk create'",
    };
    Finding::problem(Code::Malformed, error.to_string()).of(file).hint(hint)
}

/// Says why a disk cannot be added to a virtual machine.
pub fn of_vmx(error: vmx::Error, file: &Path) -> Finding {
    let (code, hint) = match error {
        vmx::Error::NotAVmx => (Code::Malformed, "name one of a virtual machine"),
        vmx::Error::Encrypted => (Code::Unsupported, "add the disk in VMware"),
        vmx::Error::Suspended => (Code::InUse, "resume the virtual machine, and shut it down"),
        vmx::Error::OldHardware { .. } => (
            Code::Unsupported,
            "change its hardware compatibility in VMware, or choose a slot of another kind with --slot",
        ),
        vmx::Error::NoFreeSlot(_) => (Code::InUse, "remove a disk, or choose a slot with --slot"),
        vmx::Error::SlotTaken(_) => (Code::InUse, "remove them, or choose another slot"),
        vmx::Error::ControllerOff(_) => (Code::Unsupported, "choose a slot on another controller"),
    };
    Finding::problem(code, error.to_string()).of(file).hint(hint)
}

/// Says why a partition table cannot be used.
pub fn of_table(error: &table::Error, device: &Path) -> Finding {
    use table::Error;
    let code = match error {
        Error::Read { .. } => Code::Io,
        Error::GptSectorSize { .. } => Code::SectorSize,
        _ => Code::PartitionTable,
    };
    let restore = format!("'sgdisk --move-second-header {}'", quoted(device));
    let hint = match error {
        Error::Read { .. } => "use another device".into(),
        Error::NoMark => "use the whole device, or make partitions first if it is empty".into(),
        Error::NoPartitions => "make some, or use the whole device".into(),
        Error::TooLong { .. } | Error::LargerDevice => "give the device its former size again".into(),
        Error::NoProtectiveMbr { has_backup: true } => format!("write the protective MBR: {restore}"),
        Error::NoProtectiveMbr { has_backup: false } => {
            "write the protective MBR and the backup by hand in gdisk(8)".into()
        }
        Error::GptSectorSize { .. } => LEAVE.into(),
        Error::PrimaryGpt(_) => format!("restore the primary one: {restore}"),
        Error::BackupGpt(_) => format!("restore the backup: {restore}"),
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
    };
    Finding::problem(code, error.to_string()).of(device).hint(hint)
}
