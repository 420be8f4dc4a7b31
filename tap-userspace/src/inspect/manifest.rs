//! The manifest: what the bundle is of, signed by the host, and the digest of every entry.
//!
//! In: a host's names and entries. Out: `manifest.note`, a signed note in JSON that holds the digest of `SHA256SUMS`, and
//! `SHA256SUMS` itself, as sha256sum(1) writes and checks it. Nothing in it depends on when it was made.

use super::container::{Files, MANIFEST};
use super::{Finding, Keys};
use crate::keys::{HostKeyId, PublicKey, note, sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Digests of every entry but itself and the manifest.
pub(super) const SUMS: &str = "SHA256SUMS";
/// The form, in its own words.
pub(super) const FORM: &str = "gwtap inspection bundle 1";

/// The signed text, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// [`FORM`].
    pub(super) form: String,
    /// The host's name.
    pub(super) host: String,
    /// SHA-256 of its public key: what orders name.
    pub(super) host_key: String,
    /// The log's public key.
    pub(super) log_key: String,
    /// Version of the program that made the bundle.
    pub(super) program_version: String,
    /// SHA-256 of the BPF object in it, which a reader builds anew from the source.
    pub(super) object_sha256: String,
    /// SHA-256 of `SHA256SUMS`.
    pub(super) sums_sha256: String,
}

/// The text of `SHA256SUMS`.
pub(super) fn sums(files: &Files) -> String {
    let listed = files.iter().filter(|(name, _)| *name != MANIFEST && *name != SUMS);
    listed.map(|(name, bytes)| format!("{}  {name}\n", hex::encode(sha256(bytes)))).collect()
}

/// The manifest, if it is the host's and every entry is the one that it speaks of; with the host's key.
pub(super) fn check<'a>(files: &Files, keys: &'a Keys) -> Result<(Manifest, &'a PublicKey), Vec<Finding>> {
    let one = |part: &str, what: &str| vec![Finding::new(part, what)];
    let text = |name: &str| files.get(name).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let signed = text(MANIFEST).ok_or_else(|| one(MANIFEST, "is missing: removed"))?;
    let host = keys.public.iter().find_map(|key| Some((key, note::verify_one(signed, key).ok()?)));
    let (host, signed_text) = host.ok_or_else(|| {
        one(MANIFEST, "no signature of a key that was named fits: altered, of another host, or the host's key is not among --keys")
    })?;
    // What is not signed in the note (another key's line) is nobody's word.
    let lines = signed.rsplit_once("\n\n").map_or("", |(_, lines)| lines);
    if lines.lines().count() != 1 {
        return Err(one(MANIFEST, "has signature lines beside the host's: added"));
    }
    let manifest: Manifest =
        serde_json::from_str(&signed_text).map_err(|error| one(MANIFEST, &format!("is not one: {error}")))?;
    if manifest.form != FORM {
        return Err(one(MANIFEST, &format!("is of the form {:?}, this program reads {FORM:?}", manifest.form)));
    }
    if manifest.host_key != HostKeyId::of(host).to_string() {
        return Err(one(MANIFEST, "names another host than its signature does"));
    }
    let listed = text(SUMS).ok_or_else(|| one(SUMS, "is missing: removed"))?;
    if hex::encode(sha256(listed.as_bytes())) != manifest.sums_sha256 {
        return Err(one(SUMS, "is not the one that the manifest names: altered"));
    }
    let findings = differences(listed, files);
    if findings.is_empty() { Ok((manifest, host)) } else { Err(findings) }
}

/// Entries that are not the listed ones, by name.
fn differences(listed: &str, files: &Files) -> Vec<Finding> {
    let listed: BTreeMap<&str, &str> =
        listed.lines().filter_map(|line| line.split_once("  ")).map(|(digest, name)| (name, digest)).collect();
    let mut findings = Vec::new();
    for (name, digest) in &listed {
        match files.get(*name) {
            None => findings.push(Finding::new(*name, "is missing: removed")),
            Some(bytes) if hex::encode(sha256(bytes)) != *digest => {
                findings.push(Finding::new(*name, "is not the one that the host signed for: altered"));
            }
            Some(_) => {}
        }
    }
    let added = files.keys().filter(|name| *name != MANIFEST && *name != SUMS && !listed.contains_key(name.as_str()));
    findings.extend(added.map(|name| Finding::new(name, "is not among what the host signed for: added")));
    findings
}
