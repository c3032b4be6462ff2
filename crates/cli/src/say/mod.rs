//! Messages, findings and documents.

pub mod colour;
pub mod failure;
pub mod finding;
pub mod json;
pub mod terminal;
