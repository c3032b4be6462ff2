//! Finds files, and replaces them so that no moment shows half of one.

pub mod replace;
pub mod system;
