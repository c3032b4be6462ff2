//! The library's own process, and READ and WRITE. A crate of its own, because a crate is what is compiled
//! for speed, as this and crates/engine are, or for size (`[profile.release.package]` in Cargo.toml):
//! generic functions of the core that are called here are compiled here.
#![no_std]

mod process;

use disk::{Answer, Device, sg_io};
use engine::call::Call;

pub use process::OwnProcess;

/// Answers `SG_IO` with READ or WRITE, if that takes one direct transfer and the device is what the call
/// assumes ([`Call::assuming`]); `None` if not: at most a part of the data has been transferred then, and
/// the command can be carried out from the start.
pub fn read_or_write(device: &Device<'_>, call: &Call<OwnProcess>, header: u64) -> Option<Answer> {
    sg_io::read_or_write(device, call, header)
}
