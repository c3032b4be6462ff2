//! Checks of devices, programs, the library and the configuration file.

pub mod config;
pub mod confinement;
pub mod device;
pub mod library;
pub mod script;
