//! Laboratory worlds as cases describe them: who is domestic, what is selected, what is sampled, which lease and cap.

use crate::oracle::RuleFile;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use tap_common::abi::policy::{CapPolicy, Lease};
use tap_common::limits::PPM;
use tap_common::path::direction::AddressClass;
use tap_userspace::config::transport::Transport;
use tap_userspace::laboratory::setup::{Sample, Setup};
use tap_userspace::load::LaboratoryConfig;
use tap_userspace::prefixes::country::CountryTable;
use tap_userspace::selectors::check::CheckContext;

/// A world as a case file describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldFile {
    /// The measure's basis.
    pub basis: String,
    /// Domestic prefixes.
    pub domestic: Vec<IpNetwork>,
    /// Foreign prefixes.
    pub foreign: Vec<IpNetwork>,
    /// Class of every other address.
    pub rest: String,
    /// The selector set.
    pub set: serde_json::Value,
    /// Sampling; off if not given.
    #[serde(default)]
    pub sampling_ppm: Option<u32>,
    /// Seed of the flow hash.
    #[serde(default)]
    pub sampling_seed: u64,
    /// The cap; off if not given.
    #[serde(default)]
    pub cap: Option<CapFile>,
    /// The lease; always live if not given.
    #[serde(default)]
    pub lease: Option<LeaseFile>,
    /// Mirror transport; none if not given.
    #[serde(default)]
    pub transport: Option<Transport>,
}

/// A bucket's parameters.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapFile {
    /// Bytes an epoch's refill gives.
    pub epoch_credit_bytes: u64,
    /// Bytes a CPU takes at once.
    pub chunk_bytes: u64,
}

/// A lease.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseFile {
    /// First nanosecond.
    pub not_before_ns: u64,
    /// First nanosecond after the last.
    pub deadline_ns: u64,
}

impl WorldFile {
    /// The world of a rule file: sampling and cap off, always live.
    #[must_use]
    pub fn of_rules(file: &RuleFile) -> Self {
        Self {
            basis: file.basis.clone(),
            domestic: file.domestic.clone(),
            foreign: file.foreign.clone(),
            rest: file.rest.clone(),
            set: file.set.clone(),
            sampling_ppm: None,
            sampling_seed: 0,
            cap: None,
            lease: None,
            transport: None,
        }
    }

    /// Checks and compiles it.
    ///
    /// # Errors
    /// When a name is unknown, the set is refused or does not compile.
    pub fn setup(&self) -> anyhow::Result<Setup> {
        let basis = self.basis.parse().map_err(|error| anyhow::anyhow!("basis {}: {error}", self.basis))?;
        let rest = match self.rest.as_str() {
            "foreign" => AddressClass::Foreign,
            "domestic" => AddressClass::Domestic,
            "unlisted" => AddressClass::Unlisted,
            other => anyhow::bail!("rest {other}"),
        };
        if let Some(Err((key, reason))) = self.transport.as_ref().map(Transport::constants) {
            anyhow::bail!("transport, {key}: {reason}");
        }
        let country = CountryTable::from_flags(&self.domestic, &self.foreign, rest)?;
        let ppm = self.sampling_ppm.map_or(PPM, u64::from);
        let sample = Sample { ppm: u32::try_from(ppm)?, seed: self.sampling_seed };
        let set = serde_json::to_vec(&self.set)?;
        Ok(Setup::new(&set, &CheckContext::laboratory(basis), sample, country)?)
    }

    /// The stages that are on, the lease and the bucket.
    #[must_use]
    pub fn config(&self) -> LaboratoryConfig {
        let always = LaboratoryConfig::default();
        let cap_policy = self.cap.map_or(always.cap_policy, |cap| CapPolicy {
            epoch_credit_bytes: cap.epoch_credit_bytes,
            chunk_bytes: cap.chunk_bytes,
        });
        LaboratoryConfig {
            sampling: self.sampling_ppm.is_some(),
            cap: self.cap.is_some(),
            cap_policy,
            measure_cap_policy: cap_policy,
            lease: self.lease.map_or(always.lease, |lease| Lease {
                not_before_ns: lease.not_before_ns,
                deadline_ns: lease.deadline_ns,
            }),
            transport: self.transport.as_ref().and_then(|transport| transport.constants().ok()),
        }
    }
}
