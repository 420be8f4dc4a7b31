//! The log of the verbs that run for long: on stderr, reasons and counts, never an address, port or rule.

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

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
            Self::Text => builder.with_ansi(false).finish().with(filter_fn(told)).try_init(),
            Self::Json => builder.json().finish().with(filter_fn(told)).try_init(),
        };
        set.map_err(|error| anyhow::anyhow!("log: {error}"))
    }
}

/// Whether a line may be written at all, whatever level was asked for: the NATS library shows whole messages at its lowest ones.
fn told(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::WARN || !line.target().starts_with("async_nats")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_level_shows_the_messages_that_the_nats_library_writes() {
        let written = Written::default();
        let writer = written.clone();
        let builder = tracing_subscriber::fmt().with_env_filter("trace,async_nats::connection=trace");
        let subscriber = builder.with_writer(move || writer.clone()).finish().with(filter_fn(told));
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "async_nats::connection", "a record");
            tracing::info!(target: "async_nats", "a greeting");
            tracing::warn!(target: "async_nats", "a warning");
            tracing::trace!("our own");
        });
        let said = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(said.contains("a warning") && said.contains("our own"), "{said}");
        assert!(!said.contains("a record") && !said.contains("a greeting"), "{said}");
    }
}
