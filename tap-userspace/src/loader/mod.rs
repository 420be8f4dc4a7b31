//! The loader: the small process that keeps the capabilities, beside the agent that has none.
//!
//! In: the agent's messages over two socket pairs, from a fixed set (`message`). Out: generations, leases, samples and caps
//! in the kernel, never more than the signed documents allow, which the loader verifies itself (`verify`, `stage`, `bounds`);
//! counters and the rings' descriptors back. It opens no network socket and reads no key. It ends with the agent: the
//! leases then end by themselves. The agent's side is `client`; `channel` carries messages.

mod bounds;
mod channel;
mod client;
mod counters;
mod kernel;
mod message;
mod serve;
mod stage;
mod verify;

pub use client::{Compiler, Loader, Reading, Tap};
pub use message::{Documents, Ticket, ticket};
pub use serve::serve;

use crate::run::RunError;

/// Why the loader does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// The rules refuse it.
    #[error("{0}")]
    Refused(String),
    /// The machine did not do it, or the loader is gone.
    #[error("{0}")]
    Failed(String),
}

impl From<RunError> for LoaderError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Refused(reason) => Self::Refused(reason),
            RunError::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl From<LoaderError> for RunError {
    fn from(error: LoaderError) -> Self {
        match error {
            LoaderError::Refused(reason) => Self::Refused(reason),
            LoaderError::Failed(reason) => Self::Failed(reason),
        }
    }
}
