//! Checks of devices, programs, the library and the configuration file.

pub mod config;
pub mod confinement;
pub mod device;
pub mod engine;
pub mod exposure;
pub mod library;
pub mod permit;
pub mod script;

use clap::ValueEnum;
use serde::Serialize;

/// What doctor checks. The names are those of its JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The library.
    Library,
    /// A program, and what it starts.
    Program,
    /// What answers a program: the library, or the supervisor and what it needs.
    Engine,
    /// The configuration file.
    Configuration,
    /// A device.
    Device,
    /// A virtual disk's descriptor.
    Vmdk,
    /// SELinux and AppArmor.
    Confinement,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// vmware-bdwrapper-doctor(1) lists the names, and no other.
    #[test]
    fn names_of_the_manual() {
        let names = Check::value_variants().iter().map(|check| {
            let name = serde_json::to_value(check).expect("it has a name");
            format!("`{}`", name.as_str().expect("it is a string"))
        });
        let names: Vec<String> = names.collect();
        let (last, others) = names.split_last().expect("there are some");
        let listed = format!("`check` ({} or {last})", others.join(", "));
        let page = include_str!("../../../../man/vmware-bdwrapper-doctor.1.md");
        let words: Vec<&str> = page.split_whitespace().collect();
        assert!(words.join(" ").contains(&listed), "the manual does not say: {listed}");
    }
}
