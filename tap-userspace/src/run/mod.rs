//! The agent: from a signed order to delivered records.

mod batch;
pub mod lease;
pub mod state;
