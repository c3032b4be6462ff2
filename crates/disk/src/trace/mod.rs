//! What a tracer is told of a request: in words, and as a record.

pub mod capture;
pub mod describe;
pub mod record;

pub use describe::{Decoded, Given, Got, Named, Outcome, geometry};
