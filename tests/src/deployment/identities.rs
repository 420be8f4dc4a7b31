//! Identities: what the store says of the records' numbers. In: a store's directory. Out: how many records there are and which numbers
//! of each CPU of each instance are missing; read record by record, so that millions fit.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use tap_userspace::receive::read::records;

/// Instances and CPUs in one test: a laboratory host is restarted a few dozen times.
const PLACES_MAX: usize = 4_096;

/// What a store holds, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identities {
    /// Records.
    pub stored: u64,
    /// Numbers below the highest of each CPU of each instance that no record has.
    pub missing: u64,
}

/// Reads the store in `directory`, in its own order: that of the spool.
///
/// # Errors
/// A record that comes twice or behind a later one of its CPU, and what cannot be read.
pub fn identities(directory: &Path) -> Result<Identities> {
    let mut next: BTreeMap<([u8; 16], u32), u64> = BTreeMap::new();
    let mut found = Identities::default();
    let mut disorder = None;
    records(directory, |stored| {
        let (cpu, sequence) = (stored.record.cpu, stored.record.sequence);
        let expected = next.entry((stored.instance, cpu)).or_insert(0);
        if sequence < *expected {
            disorder = Some(format!("CPU {cpu}: record {sequence} behind record {}", *expected - 1));
            return false;
        }
        found.stored += 1;
        found.missing += sequence - *expected;
        *expected = sequence + 1;
        true
    })?;
    ensure!(disorder.is_none(), "{}", disorder.unwrap_or_default());
    ensure!(next.len() <= PLACES_MAX, "{} instances and CPUs", next.len());
    Ok(found)
}
