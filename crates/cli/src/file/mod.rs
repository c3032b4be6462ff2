//! Finds files, and replaces them so that no moment shows half of one.

mod backup;
mod open;
mod replace;
mod rights;
pub mod system;

pub use open::{directory, exists, follow_link, inode, look, open, proc_path, read_start};
pub use replace::{Place, already_exists};
pub use rights::Rights;
