//! The stream: what it must be so that what it acknowledged is not lost by its own rules. In: its configuration, as the server tells
//! it. Out: whether it may be published to, and why not. Pure but for asking the server.

use async_nats::jetstream::context::{Context, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};

use super::{NatsError, subjects};
use crate::limits::{JETSTREAM_DUPLICATE_WINDOW, JETSTREAM_REPLICAS_MIN};

/// The stream `name`, judged.
///
/// # Errors
/// It is not there, does not answer, or could lose what it acknowledged.
pub async fn find(context: &Context, name: &str) -> Result<Stream, NatsError> {
    let stream = context.get_stream(name).await.map_err(NatsError::answer(name, "looking for it"))?;
    judged(stream, name)
}

/// The same; a stream that is not there is made, with `bytes_max` on each server's disk (without it as much as the servers allow).
///
/// # Errors
/// As [`find`].
pub async fn find_or_make(context: &Context, name: &str, bytes_max: Option<i64>) -> Result<Stream, NatsError> {
    match context.get_stream(name).await {
        Ok(stream) => judged(stream, name),
        Err(error) if matches!(error.kind(), GetStreamErrorKind::JetStream(_)) => {
            let made = context.create_stream(wanted(name, bytes_max)).await;
            judged(made.map_err(NatsError::answer(name, "making it"))?, name)
        }
        Err(error) => Err(NatsError::answer(name, "looking for it")(error)),
    }
}

/// As receivers make it.
fn wanted(name: &str, bytes_max: Option<i64>) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![subjects(name)],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: JETSTREAM_REPLICAS_MIN,
        duplicate_window: JETSTREAM_DUPLICATE_WINDOW,
        max_bytes: bytes_max.unwrap_or(-1),
        max_messages: -1,
        max_messages_per_subject: -1,
        ..Config::default()
    }
}

fn judged(stream: Stream, name: &str) -> Result<Stream, NatsError> {
    match fault(&stream.cached_info().config) {
        None => Ok(stream),
        Some(reason) => Err(NatsError::Stream { stream: name.to_owned(), reason: reason.to_owned() }),
    }
}

/// What of a stream would lose messages that it acknowledged, or never hand them out.
fn fault(config: &Config) -> Option<&'static str> {
    if config.storage != StorageType::File {
        Some("it is kept in memory; make it with file storage")
    } else if config.num_replicas < JETSTREAM_REPLICAS_MIN {
        Some("it has fewer than three replicas; one server's disk would take records with it")
    } else if config.retention != RetentionPolicy::WorkQueue {
        Some("it does not keep messages until they are acknowledged; make it with work-queue retention")
    } else if config.discard != DiscardPolicy::New {
        Some("a full stream would drop the oldest messages; let it discard new ones: they stay in their spool")
    } else if !config.max_age.is_zero() || config.max_messages_per_subject > 0 {
        Some("it drops messages by age or for each subject; take max_age and max_msgs_per_subject away")
    } else if config.no_ack {
        Some("it acknowledges nothing")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_could_lose_what_it_acknowledged_is_refused() {
        let good = wanted("gwtap", None);
        assert_eq!(fault(&good), None);
        assert_eq!((good.num_replicas, good.subjects.as_slice()), (3, ["gwtap.records.*".to_owned()].as_slice()));
        for (bad, word) in [
            (Config { storage: StorageType::Memory, ..good.clone() }, "memory"),
            (Config { num_replicas: 1, ..good.clone() }, "replicas"),
            (Config { retention: RetentionPolicy::Limits, ..good.clone() }, "retention"),
            (Config { retention: RetentionPolicy::Interest, ..good.clone() }, "retention"),
            (Config { discard: DiscardPolicy::Old, ..good.clone() }, "oldest"),
            (Config { max_age: std::time::Duration::from_secs(1), ..good.clone() }, "age"),
            (Config { max_messages_per_subject: 1, ..good.clone() }, "max_msgs_per_subject"),
            (Config { no_ack: true, ..good.clone() }, "acknowledges nothing"),
        ] {
            assert!(fault(&bad).is_some_and(|reason| reason.contains(word)), "{word}");
        }
    }
}
