//! What this system knows about its block devices and users.

pub mod block;
mod names;
pub mod scan;
pub mod tool;
pub mod udev;
pub mod users;
pub mod uses;
