//! The supervisor engine: answers the block-device ioctls of a whole process tree through seccomp
//! user notification (seccomp_unotify(2)), so that static and 32-bit programs see the listed devices
//! too.
//!
//! Three processes take part. The *front* is the process that the user started: it stands for the
//! program in the shell's job and ends as the program ends. The *supervisor* is its child, in a
//! process group of its own, and stays until the last process of the tree has ended. The *program*
//! is the supervisor's child, in the front's process group; it installs the filter that all its
//! descendants inherit.
//!
//! `unsafe` is allowed in `attempt`, `launch::fork`, `launch::program`, `launch::signals`,
//! `launch::supervisor`, `notify`, `shared`, `target` and `user`, and nowhere else.
#![deny(unsafe_code)]

mod attempt;
mod call;
mod client;
mod filter;
mod launch;
mod notify;
mod policy;
mod pool;
mod refusals;
mod registry;
mod shared;
mod target;
mod trace;
mod user;

pub use attempt::available;
pub use launch::{Ended, Event, Failure, run};
pub use policy::{Policy, loses_privileges};
pub use refusals::Refused;
pub use registry::Registry;
pub use trace::{Missing, Records, Shown};
pub use user::{Unknown, User};
