//! Certificates of a laboratory's deployment: one authority, one certificate for the receiving facility, one for the mirror
//! host. In: names. Out: PEM files. They live as long as the laboratory's directory.

use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

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
        self.issue_until(name, directory, date_time_ymd(4096, 1, 1))
    }

    /// As [`Authority::issue`], with the certificate's end.
    ///
    /// # Errors
    /// As there.
    pub fn issue_until(&self, name: &str, directory: &Path, not_after: OffsetDateTime) -> Result<()> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = not_after;
        params.serial_number = Some(serial(name));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let digest = hex::encode(Sha256::digest(certificate.der()));
        super::write(&directory.join(format!("{name}.sha256")), &digest)?;
        super::write_secret(&directory.join(format!("{name}.key")), &key.serialize_pem())?;
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, certificate.pem()).with_context(|| file.display().to_string())
    }

    /// Writes a revocation list of the certificates with these names, current until `next`.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn revoke(&self, names: &[&str], next: OffsetDateTime, file: &Path) -> Result<()> {
        let revocation_time = date_time_ymd(2026, 1, 1);
        let revoked = |name: &&str| RevokedCertParams {
            serial_number: serial(name),
            revocation_time,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: revocation_time,
            next_update: next,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: names.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        std::fs::write(file, list.signed_by(&self.issuer)?.pem()?).with_context(|| file.display().to_string())
    }
}

/// A certificate's number: by its name, so that whoever revokes it need not have it.
fn serial(name: &str) -> SerialNumber {
    SerialNumber::from_slice(Sha256::digest(name).get(1..9).unwrap_or_default())
}
