//! Admission: everything that is checked before the kernel is touched.
//!
//! In: the configuration's files and one reading of the clocks. Out: what may be loaded, or the refusal. It attaches
//! nothing and writes nothing. Order of the checks: clock, host key, trust roots, country table, then for each measure
//! order, receiving facility, pseudonym key; whether the orders agree; for each measure selector set, activation.

use super::error::RunError;
use super::facility::{self, Facility};
use super::lease::Window;
use super::measure::Active;
use super::{orders, sealed};
use crate::clock::{Now, Reading, Watch};
use crate::config::{Config, CountryFormat, Export};
use crate::keys::note::SecretKey;
use crate::keys::pseudonym::{PseudonymKey, SealingSecret};
use crate::keys::{self, HostKeyId, TrustRoots};
use crate::order::Order;
use crate::path::pseudonymise::ClearPolicy;
use crate::prefixes::country::CountryTable;
use crate::prefixes::special::Special;
use crate::selectors::activation::{self, Activation, ActivationError};
use crate::selectors::check::{self, CheckContext};
use crate::selectors::set::SelectorSet;
use crate::selectors::{CheckedSet, edited, withdrawal};
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;

/// What is the host's, and stays the same for as long as the agent runs.
pub(super) struct Host {
    pub(super) host_key: HostKeyId,
    pub(super) roots: TrustRoots,
    pub(super) sealing: SealingSecret,
    pub(super) facility: Facility,
    /// What the orders named, less what any of their approvals excludes.
    pub(super) country: CountryTable,
}

/// What is one measure's, and stays the same for as long as the agent runs.
pub(super) struct Admitted {
    pub(super) order: Order,
    /// The order and those that extend it, as they were when the agent started.
    pub(super) chain: Vec<Order>,
    /// Their notes, in the same order.
    pub(super) notes: Vec<String>,
    /// This tap's part of the facility's capacity, in parts per million.
    pub(super) share_ppm: u32,
    pub(super) pseudonym_key: PseudonymKey,
}

/// A selector set that may be loaded, or its end.
pub(super) struct Candidate {
    /// None where the selectors are withdrawn.
    pub(super) content: Option<(CheckedSet, Activation)>,
    /// The activation's or the withdrawal's number.
    pub(super) number: u64,
    /// The set's text and the note's, as they were signed.
    pub(super) texts: Arc<sealed::Texts>,
    /// Which addresses its records show.
    pub(super) policy: Arc<ClearPolicy>,
}

impl Candidate {
    /// Digest of the set, or what stands for it where there is none.
    pub(super) fn set_sha256(&self) -> [u8; 32] {
        self.content.as_ref().map_or(withdrawal::NO_SET, |(set, _)| set.sha256)
    }
}

/// Everything but the selector sets: the host's part, and each measure's by slot.
pub(super) fn admit(
    config: &Config,
    last_unix_ns: u64,
    reading: &Reading,
) -> Result<(Host, Vec<Admitted>, Watch), RunError> {
    let mut watch = Watch::new(!config.clock_not_required(), last_unix_ns);
    let now = watch.judge(reading).map_err(|error| RunError::refused("clock", error))?;
    let now = timestamp(&now)?;
    let host_key =
        SecretKey::from_file(&config.host.key_file).map_err(|error| RunError::refused("host.key_file", error))?;
    let host_key = HostKeyId::of(&host_key.public());
    let roots = TrustRoots::from_toml(&text(&config.trust.roots_file)?)
        .map_err(|error| RunError::refused(config.trust.roots_file.display(), error))?;
    let judged = roots.at(now);
    let country = country_table(config)?;
    let sealing = SealingSecret::read(&config.host.sealing_key_file)
        .map_err(|error| RunError::refused("host.sealing_key_file", error))?;
    let mut admitted = Vec::with_capacity(config.measures.len());
    for measure in &config.measures {
        let file = measure.order_file.display();
        let (chain, notes) = orders::chain(measure, &config.state.directory, &judged, now)?;
        let Some(order) = chain.first().cloned() else { continue };
        let tap = order
            .tap(&host_key, &config.mirror.interface, &country.sha256)
            .map_err(|error| RunError::refused(&file, error))?;
        let share_ppm = tap.share_ppm;
        order.admit_country_table(&country).map_err(|error| RunError::refused(&file, error))?;
        check_receiver(&measure.export, &order).map_err(|error| RunError::refused(&file, error))?;
        let pseudonym_key = pseudonym_key(&measure.pseudonym_key_file, &sealing, &order, now)?;
        admitted.push(Admitted { order, chain, notes, share_ppm, pseudonym_key });
    }
    let files = config.measures.iter().map(|measure| measure.order_file.display().to_string());
    let orders: Vec<_> = files.zip(admitted.iter().map(|admitted| &admitted.order)).collect();
    let facility = facility::of(&orders)?;
    let excluded: Vec<_> = orders.iter().flat_map(|(_, order)| order.prefixes_excluded()).copied().collect();
    let country = country.without(&excluded);
    Ok((Host { host_key, roots, sealing, facility, country }, admitted, watch))
}

/// The text of a set that was handed over sealed, or as an edit of the one that decides.
///
/// # Errors
/// It is sealed to somebody else, or an edit of another set.
pub(super) fn opened(host: &Host, decides: &Active, text: String) -> Result<String, RunError> {
    let refused = |error: &dyn std::fmt::Display| RunError::refused("selector set", error);
    let text = crate::selectors::sealed::open(text, &host.sealing).map_err(|error| refused(&error))?;
    let base = decides.texts.as_ref().map_or("", |texts| texts.set.as_str());
    edited::apply(text, base).map_err(|error| refused(&error))
}

/// A set and its activation, against the order: the checks are the same at start and at run time, but for the number.
pub(super) fn candidate(
    host: &Host,
    chain: &[Order],
    texts: sealed::Texts,
    now: Timestamp,
) -> Result<Candidate, RunError> {
    let (set, named) = checked(host, chain, &texts, now)?;
    let clears = chain.first().is_some_and(|order| order.addresses.clear_addresses);
    let policy = Arc::new(ClearPolicy::from_rules(&set.rules, clears));
    activated(host, named, (set, policy), Arc::new(texts), now)
}

/// The same for a set that was checked before: its text and order are what they were; only time and keys can speak against it.
pub(super) fn again(host: &Host, chain: &[Order], candidate: Candidate, now: Timestamp) -> Result<Candidate, RunError> {
    let Candidate { content: Some((set, activation)), texts, policy, .. } = candidate else {
        return Err(RunError::Failed("a withdrawal waits for no call".into()));
    };
    let named = chain.iter().find(|order| order.sha256 == activation.order_sha256).or(chain.first());
    let named = named.ok_or_else(|| RunError::Failed("a measure has no order".into()))?;
    wanted(&set, now)?;
    activated(host, named, (set, policy), texts, now)
}

fn activated(
    host: &Host,
    named: &Order,
    (set, policy): (CheckedSet, Arc<ClearPolicy>),
    texts: Arc<sealed::Texts>,
    now: Timestamp,
) -> Result<Candidate, RunError> {
    let activation_name = format!("measure {}: activation", named.measure.id);
    let roots = host.roots.at(now);
    let refused = |error: String| RunError::refused(&activation_name, error);
    let mut activation = activation::verify(&texts.activation, &roots).map_err(|error| refused(error.to_string()))?;
    activation.admit(&named.measure.id, &named.sha256, &set.sha256, now).map_err(|error| refused(error.to_string()))?;
    let signed = keys::note::verify(&texts.activation, &roots).map_err(|error| refused(error.to_string()))?;
    if let Some(end) = roots.signed_until(&signed.signers) {
        activation.valid_until = activation.valid_until.min(end);
    }
    if let Some(end) = set.last_end() {
        activation.valid_until = activation.valid_until.min(end);
    }
    Ok(Candidate { number: activation.number, content: Some((set, activation)), texts, policy })
}

/// A set and its author's word, as far as they go before the other person has signed.
pub(super) fn proposed(
    host: &Host,
    chain: &[Order],
    texts: &sealed::Texts,
    now: Timestamp,
) -> Result<(CheckedSet, Activation), RunError> {
    let (set, named) = checked(host, chain, texts, now)?;
    let refused =
        |error: ActivationError| RunError::refused(format!("measure {}: activation", named.measure.id), error);
    let begun = activation::begun(&texts.activation, &host.roots.at(now)).map_err(refused)?;
    begun.admit(&named.measure.id, &named.sha256, &set.sha256, now).map_err(refused)?;
    Ok((set, begun))
}

/// A set against the order that its activation names: the first, or one that extends it.
fn checked<'a>(
    host: &Host,
    chain: &'a [Order],
    texts: &sealed::Texts,
    now: Timestamp,
) -> Result<(CheckedSet, &'a Order), RunError> {
    let order = chain.first().ok_or_else(|| RunError::Failed("a measure has no order".into()))?;
    let set_name = format!("measure {}: selector set", order.measure.id);
    let set = SelectorSet::from_json(texts.set.as_bytes()).map_err(|error| RunError::refused(&set_name, error))?;
    let named = Activation::parse_unsigned(&texts.activation)
        .ok()
        .and_then(|activation| chain.iter().find(|order| order.sha256 == activation.order_sha256))
        .unwrap_or(order);
    let context = CheckContext::from_order(named).with_country_table(host.country.clone());
    let set = check::check(&set, &context).map_err(|refusals| {
        let refusals: Vec<_> = refusals.iter().map(ToString::to_string).collect();
        RunError::refused(&set_name, refusals.join("; "))
    })?;
    wanted(&set, now)?;
    Ok((set, named))
}

/// A rule that is over is left out of what decides; the last one ends the set.
fn wanted(set: &CheckedSet, now: Timestamp) -> Result<(), RunError> {
    if set.last_end().is_some_and(|end| now >= end) {
        let set_name = format!("measure {}: selector set", set.measure);
        return Err(RunError::refused(set_name, "valid_until of every rule is over; activate another set"));
    }
    Ok(())
}

/// What was kept of a run before: a set, or the withdrawal where there is none.
pub(super) fn kept(host: &Host, chain: &[Order], texts: sealed::Texts, now: Timestamp) -> Result<Candidate, RunError> {
    if texts.set.is_empty() { withdrawn(host, chain, texts, now) } else { candidate(host, chain, texts, now) }
}

/// One person's word that the measure looks for nothing any more.
pub(super) fn withdrawn(
    host: &Host,
    chain: &[Order],
    texts: sealed::Texts,
    now: Timestamp,
) -> Result<Candidate, RunError> {
    let refused = |error: ActivationError| RunError::refused("withdrawal", error);
    let it = withdrawal::verify(&texts.activation, &host.roots.at(now)).map_err(refused)?;
    let id = chain.first().map_or("", |order| &order.measure.id);
    it.fits(id, chain.iter().map(|order| &order.sha256)).map_err(refused)?;
    Ok(Candidate { content: None, number: it.number, texts: Arc::new(texts), policy: Arc::default() })
}

/// When a set may select, whatever the order says: activation and pseudonym key must both be in force.
pub(super) fn window(admitted: &Admitted, activation: &Activation) -> Result<Window, RunError> {
    let key = &admitted.pseudonym_key;
    let key = Window { not_before_ns: unix_ns(key.not_before)?, not_after_ns: unix_ns(key.not_after)? };
    let activation = Window { not_before_ns: 0, not_after_ns: unix_ns(activation.valid_until)? };
    Ok(key.intersect(activation))
}

/// UTC of a judged moment.
pub(super) fn timestamp(now: &Now) -> Result<Timestamp, RunError> {
    Timestamp::from_nanosecond(i128::from(now.unix_ns)).map_err(|error| RunError::refused("clock", error))
}

/// A moment in nanoseconds since 1970.
pub(super) fn unix_ns(time: Timestamp) -> Result<u64, RunError> {
    u64::try_from(time.as_nanosecond()).map_err(|_out_of_range| RunError::Refused(format!("{time} is out of range")))
}

/// The receiving facility is the order's: a configuration cannot send records elsewhere.
fn check_receiver(export: &Export, order: &Order) -> Result<(), String> {
    let facility = &order.receiving_facility;
    for (endpoint, server_name) in export.receivers() {
        if facility.endpoint != endpoint && !facility.further_endpoints.iter().any(|further| further == endpoint) {
            return Err(format!(
                "measure.export.endpoint: {endpoint} is not the order's receiving facility, {}",
                facility.endpoint
            ));
        }
        if !facility.names.iter().any(|name| name == server_name) {
            return Err(format!(
                "measure.export.server_name: {server_name} is not among the order's receiving_facility.names ({})",
                facility.names.join(", ")
            ));
        }
    }
    Ok(())
}

pub(crate) fn country_table(config: &Config) -> Result<CountryTable, RunError> {
    let table = &config.country_table;
    let name = table.file.display();
    let bytes = std::fs::read(&table.file).map_err(|error| RunError::refused(&name, error))?;
    let special = if table.documentation_prefixes { Special::DocumentationAllowed } else { Special::TakenOut };
    let read = match table.format {
        CountryFormat::Csv => {
            let date = table.date.as_ref().map(|date| date.parse()).transpose();
            let date = date.map_err(|error: jiff::Error| RunError::refused("country_table.date", error))?;
            CountryTable::from_csv(&bytes, date, special)
        }
        CountryFormat::Delegated => CountryTable::from_delegated(&bytes),
    };
    read.map_err(|error| RunError::refused(&name, error))
}

fn pseudonym_key(
    file: &Path,
    sealing: &SealingSecret,
    order: &Order,
    now: Timestamp,
) -> Result<PseudonymKey, RunError> {
    let key = PseudonymKey::open(&text(file)?, sealing).map_err(|error| RunError::refused(file.display(), error))?;
    key.check(&order.measure.id, now, order.addresses.key_epoch_days)
        .map_err(|error| RunError::refused(file.display(), error))?;
    Ok(key)
}

/// A file that must be there for the agent to start: its absence is a refusal, not a failure.
pub(crate) fn text(path: &Path) -> Result<String, RunError> {
    std::fs::read_to_string(path).map_err(|error| RunError::refused(path.display(), error))
}
