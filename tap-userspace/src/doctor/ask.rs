//! Ask: a stream's servers, as the agent would connect to them. In: the configuration. Out: what each said. It opens the host's key,
//! whose id stands in the name of the inbox, and the export's; it publishes nothing. Bound: the time that a connection and an answer
//! may take, all servers of a measure at once.

use super::machine::{StreamAnswer, StreamOf, StreamServer, Unreadable};
use crate::config::{Config, Export};
use crate::keys::HostKeyId;
use crate::keys::note::SecretKey;
use crate::transport::nats::named::Credentials;
use crate::transport::nats::{self, Link, NatsError, Server, stream};
use futures_util::future::join_all;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Asks for every measure's stream. Call it before threads are started.
pub(super) fn streams(config: &Config) -> Vec<StreamOf> {
    let exports = config.measures.iter().enumerate();
    let exports: Vec<_> =
        exports.filter_map(|(index, measure)| Some((index, &measure.export, measure.export.stream()?))).collect();
    for (_, export, _) in &exports {
        nats::no_system_authorities(&export.ca_file);
    }
    exports
        .into_iter()
        .map(|(index, export, stream)| StreamOf {
            key: format!("measure[{index}].export"),
            stream: stream.to_owned(),
            servers: servers(config, export, stream),
        })
        .collect()
}

fn servers(config: &Config, export: &Export, stream: &str) -> Result<Vec<StreamServer>, Unreadable> {
    let host = SecretKey::from_file(&config.host.key_file).map_err(|error| format!("host.key_file: {error}"))?;
    let inbox = format!("_INBOX.{}", HostKeyId::of(&host.public()));
    let credentials = Credentials::read(&export.tls_files()).map_err(|error| error.to_string())?;
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    let ask = |(endpoint, name): (&str, &str)| {
        let (endpoint, server) = (endpoint.to_owned(), Server::new(endpoint, name));
        let (credentials, inbox) = (Arc::clone(&credentials), inbox.clone());
        async move {
            let answer = match server {
                Ok(server) => answer(&server, &credentials, &inbox, stream).await,
                Err(error) => StreamAnswer::Unreachable(error.to_string()),
            };
            StreamServer { endpoint, answer }
        }
    };
    Ok(runtime.block_on(join_all(export.receivers().map(ask))))
}

async fn answer(server: &Server, credentials: &Credentials, inbox: &str, stream: &str) -> StreamAnswer {
    let link = match Link::open(server, credentials, inbox).await {
        Ok(link) => link,
        Err(error) => return StreamAnswer::Unreachable(error.to_string()),
    };
    match stream::find(&link.jetstream(), stream).await {
        Ok(_) => StreamAnswer::Good,
        Err(error @ (NatsError::Connect(_) | NatsError::Ended(_))) => StreamAnswer::Unreachable(error.to_string()),
        Err(error) => StreamAnswer::Bad(error.to_string()),
    }
}
