//! Why the agent did not start, or ended.

/// Refused by the rules, or failed. The text names file, field or key, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An input that the rules refuse: order, selector set, activation, clock, key, country table. Nothing is attached.
    #[error("{0}")]
    Refused(String),
    /// The machine did not do what was asked.
    #[error("{0}")]
    Failed(String),
}

impl RunError {
    /// `what: error`, as a refusal.
    pub(crate) fn refused(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Refused(format!("{what}: {error}"))
    }

    /// `what: error`, as a failure.
    pub(crate) fn failed(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }
}
