//! The agent: from a signed order to delivered records.

pub mod lease;
pub mod state;
