//! Fixtures of the tests with real programs, real devices and the built library.
//!
//! Each file of `tests/` is a [libtest-mimic](libtest_mimic) program: a list of [`trial`]s that is given to
//! [`main`]. A trial that lacks what it [needs](Need) is shown as ignored and counted; with `CI=true` it
//! fails instead. To add a file, write it and add its `[[test]]` section with `harness = false` to
//! `Cargo.toml`.
//!
//! As root, a test program runs in mounts and a `/dev` of its own, and the kernel detaches its loop devices when it ends; as an
//! ordinary user, each trial that needs root, but no devices, runs in a user namespace.
//!
//! A trial fails by panicking: cargo builds test programs with unwinding, whatever the profile says, so
//! the fixtures (temporary files, loop devices, links, processes) are removed on every way out.
#![forbid(unsafe_code)]

mod build;
pub mod clients;
mod data;
mod documents;
mod engine;
mod finding;
mod fixture;
mod harness;
mod isolation;
pub mod layouts;
pub mod machine;
mod run;
mod sgio;
mod terminal;

pub use build::{built_command, i386_program, library, program, program_with, python, statically_linked};
pub use clients::command;
pub use data::{assert_same, assert_same_lines, pattern};
pub use documents::{documents, split_blocks};
pub use engine::{Engine, by_engine, engine, test_engine};
pub use finding::{Finding, commands};
pub use fixture::{Disk, Loop, Medium, Name, Scratch, wait_for_detached};
pub use harness::{Need, disk_trials, group, is_root, kernel_trial, main, needs, trial};
pub use isolation::PRIVILEGE;
pub use libtest_mimic::Trial;
pub use run::{Outcome, Run, Session, parent, wait_for};
pub use sgio::{Sgio, hex};
pub use terminal::Terminal;
