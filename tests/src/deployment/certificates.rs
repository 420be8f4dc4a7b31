//! Certificates of a laboratory's deployment: one authority, one certificate for the receiving facility, one for the mirror
//! host. In: names. Out: PEM files. They live as long as the laboratory's directory.

use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use sha2::{Digest as _, Sha256};

/// An authority that signs the deployment's certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new authority of this name.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Writes the authority's certificate.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, &self.pem).with_context(|| file.display().to_string())
    }

    /// Writes `NAME.pem`, `NAME.key` and `NAME.sha256` (of the certificate) for `name` into `directory`; valid for both ends of a session.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn issue(&self, name: &str, directory: &Path) -> Result<()> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let digest = hex::encode(Sha256::digest(certificate.der()));
        super::write(&directory.join(format!("{name}.sha256")), &digest)?;
        super::write_secret(&directory.join(format!("{name}.key")), &key.serialize_pem())?;
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, certificate.pem()).with_context(|| file.display().to_string())
    }
}
