//! Orders: the signed documents that carry a measure to the tap.

pub mod basis;

pub use basis::Basis;
