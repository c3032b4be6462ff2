//! What this system knows about its block devices.

pub mod block;
mod names;
pub mod scan;
pub mod udev;
pub mod uses;
