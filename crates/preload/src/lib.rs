//! The preload engine.
#![no_std]
mod panic;
