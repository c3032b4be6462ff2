//! A SCSI disk: a direct access block device (SPC-4, SBC-3) on the backing device.

mod block;
mod buffer;
pub mod command;
mod copy;
pub(crate) mod dispatch;
pub(crate) mod inquiry;
pub mod mode;
mod primary;
pub(crate) mod reservation;
pub(crate) mod response;
mod sanitize;
pub mod sense;
pub(crate) mod task;
