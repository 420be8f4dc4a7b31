//! What an inspector is handed: the bundle and the public keys. In: a deployment. Out: files in a directory of his own.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Deployment, HOST_NAME, LOG_NAME};

impl Deployment {
    /// Writes the inspection bundle to `to`, which is not there yet.
    ///
    /// # Errors
    /// What the verb refuses.
    pub fn bundle(&self, to: &Path, more: &[&str]) -> Result<()> {
        let to = to.to_str().context("a path in UTF-8")?;
        let words = ["inspect", "bundle", "--config", "gwtap.toml", "--out", to];
        self.gwtap(words.into_iter().chain(more.iter().copied())).map(drop)
    }

    /// Copies trust roots and public keys, and nothing else, into a new directory `to`.
    ///
    /// # Errors
    /// It is there, or cannot be written.
    pub fn public_keys(&self, to: &Path) -> Result<()> {
        std::fs::create_dir(to).with_context(|| to.display().to_string())?;
        let names = [HOST_NAME, LOG_NAME, "witness", "facility", "commission"]
            .map(|name| PathBuf::from(format!("keys/{name}.pub")));
        for name in names.into_iter().chain([PathBuf::from("roots.toml")]) {
            let (from, name) = (self.path().join(&name), name.file_name().unwrap_or_default().to_owned());
            if from.exists() {
                std::fs::copy(&from, to.join(name)).with_context(|| from.display().to_string())?;
            }
        }
        Ok(())
    }
}
