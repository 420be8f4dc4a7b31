//! Verification of a bundle: offline, with public keys alone.
//!
//! In: a bundle's bytes, keys, earlier checkpoints of the log that the inspector kept. Out: a report; everything that does not
//! hold is a finding in it. Order: container, manifest, digests; if these hold, the log; then documents, leases, statements
//! and notices against it. No input makes it panic. It reads no clock.

use super::container::{self, Files};
use super::report::Report;
use super::{Finding, Keys, documents, leases, ledger, manifest, notices, statements};
use crate::keys::roles::TrustedKey;
use crate::keys::{HostKeyId, TrustRoots};
use crate::report::by_month;

/// Judges a bundle. `earlier` are checkpoints with the names under which they are spoken of.
#[must_use]
pub fn verify(bundle: &[u8], keys: &Keys, earlier: &[(String, String)]) -> Report {
    let mut report = Report::default();
    match container::read(bundle) {
        Ok(files) => contents(&files, keys, earlier, &mut report),
        Err(finding) => report.findings.push(finding),
    }
    report.good = report.findings.is_empty();
    report
}

fn contents(files: &Files, keys: &Keys, earlier: &[(String, String)], report: &mut Report) {
    let (manifest, host) = match manifest::check(files, keys) {
        Ok(checked) => checked,
        // What nobody answers for is not looked into.
        Err(findings) => return report.findings = findings,
    };
    let mut findings = Vec::new();
    report.host = manifest.host;
    report.host_key = manifest.host_key;
    report.program_version = manifest.program_version;
    report.object_sha256 = manifest.object_sha256;
    for (name, key) in [("keys/host.pub", host.to_string()), ("keys/log.pub", manifest.log_key.clone())] {
        if files.get(name).is_none_or(|bytes| String::from_utf8_lossy(bytes).trim() != key) {
            findings.push(Finding::new(name, "is missing, or is not the key that the manifest goes by"));
        }
    }
    findings.extend(roots(files, keys));
    let (log, entries) = ledger::check(files, keys, &manifest.log_key, earlier, &mut findings);
    report.log = log;
    let checked = documents::check(files, keys, HostKeyId::of(host), &entries, &mut findings);
    leases::check(&entries, &checked, report, &mut findings);
    let (chains, stated) = statements::check(files, host, &entries, &checked, &mut findings);
    report.statements = chains;
    report.notices = notices::check(files, keys, &mut findings);
    let entries: Vec<_> = entries.into_iter().map(|(_, entry)| entry).collect();
    report.months = by_month(&stated, &entries);
    report.measures = checked.measures.into_values().collect();
    findings.extend(strange(files));
    report.findings = findings;
}

/// Keys that the host goes by are keys that the inspector knows, each in the same role.
fn roots(files: &Files, keys: &Keys) -> Vec<Finding> {
    let name = "keys/roots.toml";
    let text = files.get(name).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
    let roots = match TrustRoots::from_toml(&text) {
        Ok(roots) => roots,
        Err(error) => return vec![Finding::new(name, error.to_string())],
    };
    let known = |key: &TrustedKey| {
        keys.roots.keys().iter().any(|known| known.public.bytes == key.public.bytes && known.role == key.role)
    };
    let strange = roots.keys().iter().filter(|key| !known(key));
    let what = |key: &TrustedKey| {
        format!("the host trusts {} as {}, who is not among the keys that you named in that role", key.name, key.role)
    };
    strange.map(|key| Finding::new(name, what(key))).collect()
}

/// Entries that have no place in a bundle of this form.
fn strange(files: &Files) -> Vec<Finding> {
    let folders = [documents::DOCUMENTS, documents::SETS, statements::STATEMENTS, notices::NOTICES, ledger::LOG];
    let known = ["keys/host.pub", "keys/log.pub", "keys/roots.toml", container::MANIFEST, manifest::SUMS];
    let of_log = |name: &str| {
        name.strip_prefix(ledger::LOG)
            .is_none_or(|rest| rest == "checkpoint" || rest.starts_with("tile/") || rest.starts_with(ledger::COSIGNED))
    };
    files
        .keys()
        .filter(|name| {
            let name = name.as_str();
            !known.contains(&name) && !folders.iter().any(|folder| name.starts_with(folder)) || !of_log(name)
        })
        .map(|name| Finding::new(name, "has no place in a bundle: added"))
        .collect()
}

/// The checkpoint of the log in a bundle, to hold a later one against; nothing is verified.
#[must_use]
pub fn checkpoint(bundle: &[u8]) -> Option<String> {
    let files = container::read(bundle).ok()?;
    files.get("log/checkpoint").and_then(|bytes| String::from_utf8(bytes.clone()).ok())
}
