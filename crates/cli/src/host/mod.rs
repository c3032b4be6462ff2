//! What this system knows about its block devices.

pub mod block;
pub mod udev;
