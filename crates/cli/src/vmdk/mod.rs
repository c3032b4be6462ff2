//! `vmware-bdwrapper vmdk`: the descriptors of virtual disks on devices.

mod attach;
mod check;
mod create;
mod device;
mod difference;
pub mod disk;
mod lock;
mod options;
mod partitioned;
mod problem;
mod refresh;
mod snapshot;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bdwrapper_vmdk::adapter::Adapter;
use bdwrapper_vmdk::descriptor::Descriptor;
use clap::Subcommand;

use crate::file::{self, Place};
use crate::say::failure::{Failure, quoted};
use crate::say::finding::Finding;
use device::Present;

pub use check::examine;

/// The tasks.
#[derive(Subcommand)]
pub enum Vmdk {
    /// Describe a device or image file as a virtual disk
    #[command(
        override_usage = "vmware-bdwrapper vmdk create ENTRY --output FILE [--adapter ADAPTER] [--partitions [--partition N]... | --flat] [--force]"
    )]
    #[command(
        after_help = "Examples:\n  vmware-bdwrapper vmdk create /dev/sd/test -o test.vmdk\n  vmware-bdwrapper vmdk create \
                      /dev/vg0/all=ide -o one.vmdk --partitions --partition 2"
    )]
    Create(create::Create),
    /// Compare a descriptor with its device
    #[command(override_usage = "vmware-bdwrapper vmdk check FILE [--device ENTRY] [--json]")]
    #[command(after_help = "Example:\n  vmware-bdwrapper vmdk check test.vmdk")]
    Check(check::Check),
    /// Update a descriptor after its device has changed
    #[command(override_usage = "vmware-bdwrapper vmdk refresh FILE [--device ENTRY] [--shrink]")]
    #[command(after_help = "Example:\n  vmware-bdwrapper vmdk refresh test.vmdk")]
    Refresh(refresh::Refresh),
    /// Add a disk to a virtual machine
    #[command(override_usage = "vmware-bdwrapper vmdk attach FILE VMX [--slot SLOT]")]
    #[command(after_help = "Example:\n  vmware-bdwrapper vmdk attach test.vmdk Windows.vmx --slot scsi0:1")]
    Attach(attach::Attach),
    /// Remove a disk from a virtual machine
    #[command(override_usage = "vmware-bdwrapper vmdk detach FILE VMX")]
    #[command(after_help = "Example:\n  vmware-bdwrapper vmdk detach test.vmdk Windows.vmx")]
    Detach(attach::Detach),
}

/// Runs a task.
pub fn vmdk(task: Vmdk) -> Result<ExitCode, Failure> {
    let done = match task {
        Vmdk::Check(check) => return check.run(),
        Vmdk::Create(create) => create.run(),
        Vmdk::Refresh(refresh) => refresh.run(),
        Vmdk::Attach(attach) => attach.run(),
        Vmdk::Detach(detach) => detach.run(),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// The keys of the geometry: the disk's own, then the BIOS's.
const GEOMETRY: [&str; 6] = [
    "ddb.geometry.cylinders",
    "ddb.geometry.heads",
    "ddb.geometry.sectors",
    "ddb.geometry.biosCylinders",
    "ddb.geometry.biosHeads",
    "ddb.geometry.biosSectors",
];

/// The values of these keys for a disk.
fn geometry_numbers(disk: &vmware::Disk) -> [u64; 6] {
    let (own, bios) = (disk.physical, disk.bios);
    [own.cylinders, own.heads, own.sectors, bios.cylinders, bios.heads, bios.sectors].map(u64::from)
}

/// Reads a descriptor.
pub fn read_descriptor(place: &mut Place) -> Result<Descriptor, Finding> {
    let bytes = place.read()?;
    Descriptor::parse(&bytes).map_err(|error| problem::of_descriptor(error, place.path()))
}

/// The command that makes a descriptor anew for a device, with the partitions that it has and the adapter that it is for where
/// that suits the device.
fn create_command(descriptor: &Descriptor, file: &Path, text: &OsStr, device: &Present<'_>) -> String {
    let mut command = format!("vmware-bdwrapper vmdk create {} -o {}", quoted(text), quoted(file));
    let adapter = options::adapter(descriptor);
    if adapter != Adapter::of(device.entry.kind) && adapter.suits(device.disk.adapter) {
        command += &format!(" --adapter {}", adapter.name());
    }
    if descriptor.is("partitionedDevice") {
        command += " --partitions";
        command += &match partitioned::partition_numbers(descriptor, device) {
            Some(numbers) => numbers.iter().map(|number| format!(" --partition {number}")).collect(),
            None => " --partition N".to_owned(),
        };
    } else if !descriptor.is_on_device() && !device.is_block {
        command += " --flat";
    }
    command + " --force"
}

/// What a name in a file leads to: where it has no directory, beside that file.
fn path_of_name(file: &Path, name: &[u8]) -> PathBuf {
    file::directory(file).join(OsStr::from_bytes(name))
}

/// The name of a file without its directory, where another file stands in the same.
fn name_beside(path: &Path, other: &Path) -> Option<String> {
    let [own, others] = [path, other].map(|path| file::directory(path).canonicalize().ok());
    let is_same = own.is_some() && own == others;
    is_same.then(|| path.file_name()?.to_str().map(str::to_owned)).flatten()
}
