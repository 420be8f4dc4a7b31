//! The log of the verbs that run for long: on stderr, reasons and counts, never an address, port or rule.

use tracing_subscriber::EnvFilter;

/// How the log is written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Log {
    /// A line of text each.
    Text,
    /// A JSON object each.
    Json,
}

impl Log {
    /// As it is written on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    /// Begins the log, at the level that `GWTAP_LOG` names (`info` without).
    ///
    /// # Errors
    /// There is a log already.
    pub fn begin(self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_from_env("GWTAP_LOG").unwrap_or_else(|_unset| EnvFilter::new("info"));
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
        let set = match self {
            Self::Text => builder.with_ansi(false).try_init(),
            Self::Json => builder.json().try_init(),
        };
        set.map_err(|error| anyhow::anyhow!("log: {error}"))
    }
}
