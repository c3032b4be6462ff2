//! The subcommands, apart from `trace` and `vmdk`.

pub mod completions;
pub mod doctor;
pub mod libdir;
pub mod link;
pub mod list;
pub mod probe;
pub mod run;
pub mod setup;
pub mod supervise;
