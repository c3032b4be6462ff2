//! A virtual disk's descriptor (`.vmdk`) against the listed devices.

use std::path::Path;

use crate::devices::Device;
use crate::finding::Finding;
use crate::vmdk;

/// Compares a descriptor with its device as `vmdk check` does.
pub fn examine(file: &Path, listed: &[Device<'_>]) -> Vec<Finding> {
    vmdk::examine(file, listed).unwrap_or_else(|failure| {
        failure.sentences.iter().map(|sentence| Finding::sentence(sentence)).collect()
    })
}
