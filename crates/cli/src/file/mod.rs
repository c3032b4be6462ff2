//! Finds files, and replaces them so that no moment shows half of one.

mod backup;
mod open;
mod replace;
mod rights;
pub mod system;

pub use open::{directory, followed, inode, look, open, opened, read_start};
pub use replace::{Place, exists};
pub use rights::Rights;
