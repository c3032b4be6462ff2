//! The common part of the engines that catch ioctl(2) calls: system calls, the backing device, and
//! the recognition of listed devices.
//!
//! Nothing here knows how a call was caught; `ioctl` is for programs that make such calls. Nothing
//! allocates on the heap or waits for a lock; COMPARE AND WRITE and ORWRITE try theirs until their
//! timeout.
#![no_std]

mod backing;
pub mod call;
pub mod discard;
pub mod errno;
pub mod exclusion;
pub mod ioctl;
pub mod listed;
pub mod rights;
pub mod sys;
pub mod task;
