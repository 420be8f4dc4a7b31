//! Alive: whether the other side of a connection is still there. In: a TCP connection. Out: one that its kernel ends when the other side
//! vanished without a word (no power, no route), whether something was under way or not. Bounded by [`LINE_DEAD_MS`] where
//! octets are under way, and about that where nothing is.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

use crate::limits::{LINE_DEAD_MS, LINE_PROBE_SECONDS, LINE_SILENT_SECONDS};

/// Makes the kernel watch over the connection.
///
/// # Errors
/// The kernel's.
pub fn watched(stream: &TcpStream) -> io::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &LINE_SILENT_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &LINE_PROBE_SECONDS)?;
    Ok(setsockopt(stream, sockopt::TcpUserTimeout, &LINE_DEAD_MS)?)
}
