//! TCP between two hosts: a client that connects, sends a request, reads the answer and closes, over and over.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Crew, PATIENCE};
use crate::lab::Host;

/// A running client and server.
#[derive(Debug)]
pub struct TcpLoad {
    crew: Crew,
    exchanges: Arc<AtomicU64>,
}

impl TcpLoad {
    /// `client` asks `server`, which listens on `address`, again after each `pause`; the request is `request`, the answer
    /// `answer`.
    ///
    /// # Errors
    /// Where the server cannot listen or a thread cannot be made; later failures come out of [`TcpLoad::stop`].
    pub fn start(
        client: &Host,
        (server, address): (&Host, SocketAddr),
        request: &[u8],
        answer: &[u8],
        pause: Duration,
    ) -> Result<Self> {
        let mut crew = Crew::default();
        let exchanges = Arc::new(AtomicU64::new(0));
        let listener = server.enter(|| TcpListener::bind(address).with_context(|| format!("TCP {address}")))??;
        listener.set_nonblocking(true)?;
        let (stop, answer) = (Arc::clone(&crew.stop), answer.to_vec());
        crew.threads.push(server.spawn("tcp-server", move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that went away is the client's failure.
                    Ok((stream, _)) => serve(stream, &answer).unwrap_or(()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        })?);
        let (stop, count, request) = (Arc::clone(&crew.stop), Arc::clone(&exchanges), request.to_vec());
        crew.threads.push(client.spawn("tcp-client", move || {
            while !stop.load(Ordering::Relaxed) {
                // Loss under load is part of the exercise: an exchange that fails is not counted, and the next follows.
                if ask(address, &request).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(pause);
            }
            Ok(())
        })?);
        Ok(Self { crew, exchanges })
    }

    /// Exchanges that were answered completely.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.exchanges.load(Ordering::Relaxed)
    }

    /// Ends it; gives the exchanges that were answered.
    ///
    /// # Errors
    /// What failed in its threads.
    pub fn stop(mut self) -> Result<u64> {
        self.crew.stop()?;
        Ok(self.exchanges())
    }
}

fn serve(mut stream: TcpStream, answer: &[u8]) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    stream.read_to_end(&mut request)?;
    stream.write_all(answer)?;
    Ok(())
}

fn ask(address: SocketAddr, request: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(request)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(())
}
