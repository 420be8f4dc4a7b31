//! A connection to one server. In: the server and this side's credentials. Out: a client, and the first reason why it is of no use
//! any more. It is not mended: whoever holds it begins anew, with what is not acknowledged.

use std::sync::Arc;

use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use rustls::pki_types::ServerName;
use tokio::sync::watch;

use super::NatsError;
use super::named::Credentials;
use crate::limits::{CONNECT_MAX, JETSTREAM_ANSWER_MAX, JETSTREAM_PING_INTERVAL, JETSTREAM_WINDOW_MESSAGES_MAX};

/// A server whose name can be in a certificate.
#[derive(Clone, Debug)]
pub struct Server {
    address: ServerAddr,
    name: ServerName<'static>,
}

impl Server {
    /// A server at `endpoint` (`host:port`) under `server_name`.
    ///
    /// # Errors
    /// One of the two cannot be meant.
    pub fn new(endpoint: &str, server_name: &str) -> Result<Self, NatsError> {
        // An address of the web could say another port or user than the ones that were looked at.
        if endpoint.is_empty() || endpoint.contains(['/', '@', '?', '#', '\\']) {
            return Err(NatsError::Connect(format!("`{endpoint}` is not HOST:PORT")));
        }
        // Under this scheme the client never speaks without TLS, whatever the server offers.
        let address = format!("tls://{endpoint}").parse().map_err(|error| NatsError::Connect(format!("{error}")))?;
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_invalid| NatsError::ServerName(server_name.to_owned()))?;
        Ok(Self { address, name })
    }
}

/// An open connection; it ends with its handle.
#[derive(Debug)]
pub struct Link {
    client: Client,
    ended: watch::Receiver<Option<String>>,
}

impl Link {
    /// Connects as `host`'s agent or receiver, whose answers come in an inbox of its own.
    ///
    /// # Errors
    /// What the system, the handshake or the server said.
    pub async fn open(server: &Server, credentials: &Credentials, inbox: &str) -> Result<Self, NatsError> {
        let (end, ended) = watch::channel(None);
        let end = Arc::new(end);
        let client = ConnectOptions::new()
            .require_tls(true)
            .tls_client_config(credentials.for_name(server.name.clone()))
            .connection_timeout(CONNECT_MAX)
            .request_timeout(Some(JETSTREAM_ANSWER_MAX))
            .ping_interval(JETSTREAM_PING_INTERVAL)
            .custom_inbox_prefix(inbox)
            // What a server says of others is not followed: the order names where records go.
            .ignore_discovered_servers()
            .max_reconnects(1)
            .event_callback(move |event| {
                let end = Arc::clone(&end);
                async move {
                    if let Some(reason) = fault(&event) {
                        end.send_if_modified(|first| first.is_none() && !first.insert(reason).is_empty());
                    }
                }
            })
            .connect(server.address.clone())
            .await
            .map_err(|error| NatsError::Connect(error.to_string()))?;
        Ok(Self { client, ended })
    }

    /// JetStream on this connection.
    #[must_use]
    pub fn jetstream(&self) -> Context {
        ContextBuilder::new()
            .timeout(JETSTREAM_ANSWER_MAX)
            .ack_timeout(JETSTREAM_ANSWER_MAX)
            .max_ack_inflight(JETSTREAM_WINDOW_MESSAGES_MAX)
            .backpressure_on_inflight(true)
            .build(self.client.clone())
    }

    /// Returns when the connection is of no use any more, and says why.
    pub async fn ended(&mut self) -> NatsError {
        let reason = match self.ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_closed) => "closed".to_owned(),
        };
        NatsError::Ended(reason)
    }

    /// Sends what is written, acknowledgements among it.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn flush(&self) -> Result<(), NatsError> {
        self.client.flush().await.map_err(|error| NatsError::Ended(error.to_string()))
    }
}

/// What ends a session: also a word of the server that something is not allowed, since nothing would follow.
fn fault(event: &Event) -> Option<String> {
    match event {
        Event::Connected | Event::SlowConsumer(_) | Event::Draining => None,
        Event::Disconnected | Event::LameDuckMode | Event::Closed | Event::ServerError(_) | Event::ClientError(_) => {
            Some(event.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port_and_a_name() {
        for (endpoint, host) in [
            ("192.0.2.1:4222", "192.0.2.1"),
            ("[2001:db8::1]:4222", "2001:db8::1"),
            ("nats.example:4222", "nats.example"),
        ] {
            let server = Server::new(endpoint, "nats.example").unwrap();
            assert_eq!((server.address.host(), server.address.port()), (host, 4222));
            assert!(server.address.tls_required());
        }
        for endpoint in ["user@nats.example:4222", "nats.example/x:4222", "nats.example:99999", "", "a b:1"] {
            assert!(Server::new(endpoint, "nats.example").is_err(), "{endpoint}");
        }
        assert!(matches!(Server::new("nats.example:4222", "n n"), Err(NatsError::ServerName(_))));
    }

    #[test]
    fn every_fault_ends_a_session_and_a_greeting_does_not() {
        assert_eq!(fault(&Event::Connected), None);
        assert_eq!(fault(&Event::SlowConsumer(1)), None);
        for event in [Event::Disconnected, Event::Closed, Event::LameDuckMode] {
            assert!(fault(&event).is_some_and(|reason| !reason.is_empty()));
        }
    }
}
