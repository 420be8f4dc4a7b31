//! Rotating: certificates, keys and revocations that change while the process runs. In: the files. Out: the configuration of the last files that
//! fitted together. A file that is missing or does not fit changes nothing, and is named once: certificate and key are two
//! files, and between the two changes they do not fit.

use std::sync::Arc;

use tokio::time::Instant;

use super::tls::{TlsError, TlsFiles};
use crate::keys::sha256;
use crate::limits::CREDENTIALS_CHECK_INTERVAL;

/// How one side's configuration is made of its files.
type Make<C> = fn(&TlsFiles) -> Result<Arc<C>, TlsError>;

/// One side's configuration, made anew when its files change.
#[derive(Debug)]
pub struct Rotating<C> {
    files: TlsFiles,
    make: Make<C>,
    current: Arc<C>,
    /// Of the files that were looked at last, whether they fitted or not.
    seen: [u8; 32],
    look_at: Instant,
}

impl<C> Rotating<C> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// A file that is missing or does not fit.
    pub fn new(files: TlsFiles, make: Make<C>) -> Result<Self, TlsError> {
        // In this order: what changes in between is seen as a change.
        let seen = digest(&files);
        Ok(Self { current: make(&files)?, files, make, seen, look_at: Instant::now() + CREDENTIALS_CHECK_INTERVAL })
    }

    /// The configuration.
    pub fn current(&self) -> Arc<C> {
        Arc::clone(&self.current)
    }

    /// Looks at the files; whether the configuration is another now.
    ///
    /// # Errors
    /// Changed files that do not fit, once for each change; the configuration stays what it was.
    pub fn refresh(&mut self) -> Result<bool, TlsError> {
        let digest = digest(&self.files);
        if digest == self.seen {
            return Ok(false);
        }
        self.seen = digest;
        self.current = (self.make)(&self.files)?;
        Ok(true)
    }

    /// Returns when the configuration has become another.
    pub async fn changed(&mut self) {
        loop {
            // Whoever waits for this beside other things begins anew each time, and must not put the look off.
            tokio::time::sleep_until(self.look_at).await;
            self.look_at = Instant::now() + CREDENTIALS_CHECK_INTERVAL;
            match self.refresh() {
                Ok(true) => {
                    return tracing::info!("certificates have changed: what begins now begins with the new ones");
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "changed certificates do not fit; the former ones go on"),
            }
        }
    }
}

/// Over all files' contents; an absent file differs from an empty one.
fn digest(files: &TlsFiles) -> [u8; 32] {
    let mut all = Vec::new();
    for file in [Some(&files.ca), Some(&files.certificate), Some(&files.key), files.revocations.as_ref()] {
        let contents = file.and_then(|file| std::fs::read(file).ok());
        all.extend(contents.map_or([0; 32], |contents| sha256(&zeroize::Zeroizing::new(contents))));
    }
    sha256(&all)
}
