//! Connection: TCP, then TLS 1.3 with our certificate, then whether the peer acknowledges.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Acknowledgement, ExportConfig, ExportError};
use crate::limits::CONNECT_MAX;
use crate::transport::ALPN;

/// What every connection is made from.
pub(super) struct Connector {
    endpoint: String,
    name: ServerName<'static>,
    tls: TlsConnector,
}

/// An open connection.
pub(super) struct Connection {
    pub(super) stream: TlsStream<TcpStream>,
    /// The peer negotiated acknowledgements.
    pub(super) acknowledges: bool,
}

impl Connector {
    pub(super) fn new(config: &ExportConfig, tls: Arc<ClientConfig>) -> Result<Self, ExportError> {
        let name = ServerName::try_from(config.server_name.clone())
            .map_err(|_invalid| ExportError::ServerName(config.server_name.clone()))?;
        Ok(Self { endpoint: config.endpoint.clone(), name, tls: TlsConnector::from(tls) })
    }

    pub(super) async fn connect(&self, acknowledgement: Acknowledgement) -> Result<Connection, ExportError> {
        let tcp = timeout(CONNECT_MAX, TcpStream::connect(&self.endpoint))
            .await
            .map_err(|_elapsed| ExportError::Stalled("connecting"))?
            .map_err(ExportError::io("connecting"))?;
        // A message is written at once; waiting for more would only delay its acknowledgement.
        tcp.set_nodelay(true).map_err(ExportError::io("connecting"))?;
        let stream = timeout(CONNECT_MAX, self.tls.connect(self.name.clone(), tcp))
            .await
            .map_err(|_elapsed| ExportError::Stalled("TLS handshake"))?
            .map_err(ExportError::io("TLS handshake"))?;
        let acknowledges = stream.get_ref().1.alpn_protocol() == Some(ALPN);
        if !acknowledges && acknowledgement == Acknowledgement::Required {
            return Err(ExportError::NoAcknowledgement);
        }
        Ok(Connection { stream, acknowledges })
    }
}
