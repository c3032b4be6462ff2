//! What the preload library does for READ and WRITE. A crate of its own, because a crate is what is
//! compiled for speed or for size (`[profile.release.package]` in Cargo.toml): generic functions of
//! the core that are called here are compiled here.
#![no_std]

mod process;

use disk::{Answer, Device, ExecuteCommand, Outcome, sg_io};
use engine::call::Call;

pub use process::OwnProcess;

/// Carries out a command and returns its outcome and how many bytes were transferred.
pub type Execute = fn(&Device<'_>, &Call<OwnProcess>, ExecuteCommand) -> (Outcome, u64);

/// Answers `SG_IO`; `others` carries out the commands other than READ and WRITE.
pub fn answer_sg_io(device: &Device<'_>, call: &Call<OwnProcess>, argument: u64, others: Execute) -> Answer {
    sg_io::answer(device, call, argument, |device, call, command| {
        call.look_again();
        others(device, call, command)
    })
}
