//! What a physical disk answers to an ioctl.
#![no_std]
#![forbid(unsafe_code)]

pub mod conf;
pub mod entry;
