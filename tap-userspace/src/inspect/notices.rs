//! Notices to the Commission in a bundle: who signed each, and that none of a signer's numbers is left out.
//!
//! In: the bundle's notices as the receiving facility sent them, public keys. Out: how many by whom, or the one that nobody
//! named signed or after which one is missing. Without notices there is nothing to say.

use super::container::Files;
use super::report::Notices;
use super::{Finding, Keys};
use crate::keys::note;
use std::collections::BTreeMap;

/// Where notices stand.
pub(super) const NOTICES: &str = "notices/";

/// Judges every notice.
pub(super) fn check(files: &Files, keys: &Keys, findings: &mut Vec<Finding>) -> Vec<Notices> {
    let mut numbers: BTreeMap<&str, BTreeMap<u64, &str>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with(NOTICES)) {
        let text = String::from_utf8_lossy(bytes);
        let signed = keys.public.iter().find_map(|key| Some((key, note::verify_one(&text, key).ok()?)));
        let Some((key, signed)) = signed else {
            findings
                .push(Finding::new(name, "no signature of a key that was named fits: altered, or of another sender"));
            continue;
        };
        *counts.entry(&key.name).or_default() += 1;
        let Some(number) = number(&signed) else { continue };
        if numbers.entry(&key.name).or_default().insert(number, name).is_some() {
            findings.push(Finding::new(name, format!("number {number} is there twice: added")));
        }
    }
    for numbers in numbers.values() {
        for ((before, _), (number, name)) in numbers.iter().zip(numbers.iter().skip(1)) {
            if before + 1 != *number {
                findings
                    .push(Finding::new(*name, format!("its number is {number}, the one before is {before}: removed")));
            }
        }
    }
    counts.into_iter().map(|(by, notices)| Notices { by: by.to_owned(), notices }).collect()
}

/// The number of a notice, in JSON or TOML.
fn number(text: &str) -> Option<u64> {
    let json = serde_json::from_str::<serde_json::Value>(text).ok().and_then(|it| it.get("number")?.as_u64());
    json.or_else(|| u64::try_from(toml::from_str::<toml::Table>(text).ok()?.get("number")?.as_integer()?).ok())
}
