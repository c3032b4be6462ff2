//! Requests for a tracer: as text, and as records.

pub mod capture;
pub mod describe;
pub mod record;

pub use describe::{DecodedArgument, Input, Output, RequestName, ReturnValue, geometry};
