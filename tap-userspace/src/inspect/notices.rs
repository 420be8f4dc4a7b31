//! Notices to the Commission in a bundle: who signed each, and that none of a signer's numbers is left out.
//!
//! In: the bundle's notices as the receiving facility sent them, public keys. Out: how many by whom, or the one that nobody
//! named signed or after which one is missing. Without notices there is nothing to say.

use super::container::Files;
use super::report::Notices;
use super::{Finding, Keys};
use crate::keys::{Role, note, sha256};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Where notices stand.
pub(super) const NOTICES: &str = "notices/";
/// How the Commission's acknowledgement of a notice ends.
const ACKNOWLEDGEMENT: &str = ".ack";

/// What is read of a notice, in JSON: others of its fields are the receiving facility's.
#[derive(Deserialize)]
struct Numbered {
    /// Its number at its sender, from 1.
    number: u64,
    /// SHA-256 of the notice before, as it lies in its file; empty for the first.
    #[serde(default)]
    previous_sha256: String,
    /// Measure.
    #[serde(default)]
    measure: String,
}

/// One signer's notices by number: the entry, its digest, what it says.
type BySigner<'a> = BTreeMap<&'a str, BTreeMap<u64, (&'a str, String, Numbered)>>;

/// Judges every notice.
pub(super) fn check(files: &Files, keys: &Keys, findings: &mut Vec<Finding>) -> Vec<Notices> {
    let mut signers = BySigner::new();
    let mut acknowledged = BTreeSet::new();
    for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with(NOTICES)) {
        if name.ends_with(ACKNOWLEDGEMENT) {
            match acknowledgement(&String::from_utf8_lossy(bytes), keys) {
                Ok(digest) => drop(acknowledged.insert(digest)),
                Err(what) => findings.push(Finding::new(name, what)),
            }
            continue;
        }
        let text = String::from_utf8_lossy(bytes);
        let signed = keys.public.iter().find_map(|key| Some((key, note::verify_one(&text, key).ok()?)));
        let Some((key, signed)) = signed else {
            let what = "no signature of a key that was named fits: altered, or of another sender";
            findings.push(Finding::new(name, what));
            continue;
        };
        let numbered: Numbered = match serde_json::from_str(&signed) {
            Ok(numbered) => numbered,
            Err(error) => {
                findings.push(Finding::new(name, format!("is no notice: {error}")));
                continue;
            }
        };
        let (number, digest) = (numbered.number, hex::encode(sha256(bytes)));
        if signers.entry(&key.name).or_default().insert(number, (name, digest, numbered)).is_some() {
            findings.push(Finding::new(name, format!("number {number} is there twice: added")));
        }
    }
    let known: BTreeSet<&String> = signers.values().flat_map(BTreeMap::values).map(|(_, digest, _)| digest).collect();
    if let Some(strange) = acknowledged.iter().find(|digest| !known.contains(digest)) {
        let what = format!("the notice {strange} was acknowledged and is not in the bundle: removed or altered");
        findings.push(Finding::new(NOTICES, what));
    }
    signers.into_iter().map(|(by, numbered)| of_signer(by, &numbered, &acknowledged, findings)).collect()
}

/// The digest of the notice that the Commission says it has: by a key of its role, or one that was named.
fn acknowledgement(text: &str, keys: &Keys) -> Result<String, String> {
    let commission = keys.roots.keys().iter().filter(|key| key.role == Role::Commission).map(|key| &key.public);
    let signed = commission.chain(&keys.public).find_map(|key| note::verify_one(text, key).ok());
    let signed = signed.ok_or("no signature of the Commission's fits: altered, or its key is not among --keys")?;
    let value: serde_json::Value = serde_json::from_str(&signed).map_err(|error| format!("is none: {error}"))?;
    let digest = value.get("notice_sha256").and_then(serde_json::Value::as_str);
    digest.map(str::to_owned).ok_or_else(|| "names no notice".to_owned())
}

/// A signer's notices are a chain from number 1.
fn of_signer(
    by: &str,
    numbered: &BTreeMap<u64, (&str, String, Numbered)>,
    acknowledged: &BTreeSet<String>,
    findings: &mut Vec<Finding>,
) -> Notices {
    let (mut next, mut before) = (1, "");
    let mut by_measure: BTreeMap<String, u64> = BTreeMap::new();
    for (number, (name, digest, notice)) in numbered {
        if *number != next {
            findings.push(Finding::new(*name, format!("its number is {number}, {next} is missing: removed")));
        } else if notice.previous_sha256 != before {
            findings
                .push(Finding::new(*name, "the notice before it is not the one it names: removed, added or altered"));
        }
        (next, before) = (number.saturating_add(1), digest);
        *by_measure.entry(notice.measure.clone()).or_default() += 1;
    }
    let acknowledged = numbered.values().filter(|(_, digest, _)| acknowledged.contains(digest)).count() as u64;
    Notices { by: by.to_owned(), notices: numbered.len() as u64, acknowledged, by_measure }
}
