//! The supervisor: the trials of the library on the other engine, and what only a supervisor can do.

#[expect(dead_code, reason = "its main function is not called")]
mod ata;
#[expect(dead_code, reason = "its main function is not called")]
mod golden;
#[expect(dead_code, reason = "its main function is not called")]
mod programs;
#[expect(dead_code, reason = "its main function is not called")]
mod scsi;

use std::process::ExitCode;

use acceptance::{Engine, group, main as harness, test_engine};

fn main() -> ExitCode {
    test_engine(Engine::Supervisor);
    let mut trials = Vec::new();
    trials.extend(group("ata", ata::trials));
    trials.extend(group("golden", golden::trials));
    trials.extend(group("programs", programs::trials));
    trials.extend(group("scsi", scsi::trials));
    harness(trials)
}
