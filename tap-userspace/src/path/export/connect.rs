//! Connection: TCP, then TLS 1.3 with our certificate, then whether the peer acknowledges.

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Acknowledgement, ExportError};
use crate::limits::CONNECT_MAX;
use crate::transport::{ALPN, alive};

/// A receiving facility whose name can be in a certificate.
pub(super) struct Receiver {
    endpoint: String,
    name: ServerName<'static>,
}

/// An open connection.
pub(super) struct Connection {
    pub(super) stream: TlsStream<TcpStream>,
    /// The peer negotiated acknowledgements.
    pub(super) acknowledges: bool,
}

impl Receiver {
    pub(super) fn new(of: &super::Receiver) -> Result<Self, ExportError> {
        let name = ServerName::try_from(of.server_name.clone())
            .map_err(|_invalid| ExportError::ServerName(of.server_name.clone()))?;
        Ok(Self { endpoint: of.endpoint.clone(), name })
    }

    pub(super) async fn connect(
        &self,
        tls: &TlsConnector,
        acknowledgement: Acknowledgement,
    ) -> Result<Connection, ExportError> {
        let tcp = timeout(CONNECT_MAX, TcpStream::connect(&self.endpoint))
            .await
            .map_err(|_elapsed| ExportError::Stalled("connecting"))?
            .map_err(ExportError::io("connecting"))?;
        // A message is written at once; waiting for more would only delay its acknowledgement.
        tcp.set_nodelay(true).map_err(ExportError::io("connecting"))?;
        alive::watched(&tcp).map_err(ExportError::io("connecting"))?;
        let stream = timeout(CONNECT_MAX, tls.connect(self.name.clone(), tcp))
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
