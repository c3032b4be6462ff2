//! Names that users, scripts and the parts of this project rely on.

use core::ffi::CStr;

/// The configuration file, as system calls take it.
pub const CONFIGURATION_FILE_C: &CStr = c"/etc/vmware-bdwrapper.conf";

/// The configuration file.
pub const CONFIGURATION_FILE: &str = match CONFIGURATION_FILE_C.to_str() {
    Ok(path) => path,
    Err(_) => "",
};

/// The preload library.
pub const LIBRARY: &str = "libvmware-bdwrapper.so.0";

/// The variable that lists devices.
pub const DEVICES: &str = "VMWARE_BDWRAPPER_DEVICES";

/// The variable that says which messages the library writes.
pub const LOG_LEVEL: &str = "VMWARE_BDWRAPPER_LOG_LEVEL";

/// The variable that says where the records of a trace go: the name of an abstract unix(7) socket
/// of type `SOCK_SEQPACKET`, where each message has a connection of its own, and a secret with
/// which each of them begins. Both have [`TOKEN`](crate::record::TOKEN) bytes.
pub const TRACE: &str = "VMWARE_BDWRAPPER_TRACE";
