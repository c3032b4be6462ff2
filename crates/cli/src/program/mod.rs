//! Finds programs, and tells which ones the library can be loaded into.

pub mod elf;
pub mod find;
pub mod loader;
pub mod secure;
pub mod signals;
