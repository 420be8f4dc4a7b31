//! Verification: the loader believes signatures, not the agent.
//!
//! In: documents as they were signed; trust roots and country table, which the loader read itself. Out: bounds and tables,
//! or the refusal. Time is the lease's matter: a window that has ended or not begun gets none.

use super::bounds::Bounds;
use super::message::Documents;
use crate::config::Config;
use crate::directive::restriction::Restriction;
use crate::directive::{self, Directive};
use crate::keys::{self, HostKeyId, TrustRoots};
use crate::load::{MeasureParameters, MeasureSet, Tables};
use crate::order::{self, Order, OrderError};
use crate::prefixes::country::CountryTable;
use crate::run::lease::Window;
use crate::run::{RunError, admit, facility};
use crate::selectors::activation::{self, Activation};
use crate::selectors::check::{self, CheckContext};
use crate::selectors::set::SelectorSet;
use crate::selectors::{CheckedSet, withdrawal};
use jiff::Timestamp;
use tap_common::path::sample;

/// What documents are held against.
pub(super) struct Terms {
    roots: TrustRoots,
    country: CountryTable,
    interface: String,
}

/// A generation that may be loaded.
pub(super) struct Verified {
    pub(super) tables: Tables,
    pub(super) held: Vec<Held>,
    pub(super) judged: Judged,
}

/// What is known of a slot's set once it was checked: as long as its order stays, only time and keys can speak against it.
pub(super) struct Held {
    /// Digest of the order that its activation names; none after a withdrawal.
    order: Option<[u8; 32]>,
    /// Without its rules: they are in the tables.
    set: CheckedSet,
    /// Rules that are over, and not in the tables.
    over: usize,
}

impl Held {
    pub(super) fn set_sha256(&self) -> [u8; 32] {
        self.set.sha256
    }
}

/// What signatures say at one moment.
pub(super) struct Judged {
    pub(super) bounds: Vec<Bounds>,
    /// Numbers and digests of the activations, by slot.
    pub(super) activations: Vec<(u64, [u8; 32])>,
}

impl Terms {
    /// Reads roots and country table as the configuration names them.
    pub(super) fn read(config: &Config) -> Result<Self, RunError> {
        let file = &config.trust.roots_file;
        let roots = TrustRoots::from_toml(&admit::text(file)?);
        Ok(Self {
            roots: roots.map_err(|error| RunError::refused(file.display(), error))?,
            country: admit::country_table(config)?,
            interface: config.mirror.interface.clone(),
        })
    }

    /// Verifies the orders of a facility, by slot; all of them name this host, its port and its table.
    pub(super) fn orders<'a>(
        &self,
        host_key: &HostKeyId,
        chains: impl Iterator<Item = &'a [String]>,
    ) -> Result<Vec<(Vec<Order>, Bounds)>, RunError> {
        let mut measures = Vec::new();
        for notes in chains {
            measures.push(self.chain(host_key, notes)?);
        }
        let firsts = measures.iter().filter_map(|(chain, _)| chain.first());
        let named: Vec<_> = firsts.map(|order| (order.measure.id.clone(), order)).collect();
        facility::of(&named)?;
        Ok(measures)
    }

    /// Verifies one measure's orders: each one extends the one before it.
    pub(super) fn chain(&self, host_key: &HostKeyId, notes: &[String]) -> Result<(Vec<Order>, Bounds), RunError> {
        let refused = |error: OrderError| RunError::refused("order", error);
        let roots = self.roots.at(Timestamp::now());
        let mut chain: Vec<Order> = Vec::new();
        let mut bounds: Option<Bounds> = None;
        for note in notes {
            let order = order::verify(note, &roots).map_err(refused)?;
            let tap = order.tap(host_key, &self.interface, &self.country.sha256).map_err(refused)?;
            order.admit_country_table(&self.country).map_err(refused)?;
            if let Some(last) = chain.last() {
                order::chain::extends(last, &order).map_err(refused)?;
            }
            let begins = chain.first().unwrap_or(&order).measure.not_before;
            let signed = chain.iter().chain([&order]).filter_map(|order| order.signed_until).min();
            let end = signed.map_or(order.measure.not_after, |end| end.min(order.measure.not_after));
            bounds = Some(Bounds {
                measure: order.measure.id.clone(),
                orders: chain.iter().chain([&order]).map(|order| order.sha256).collect(),
                basis: order.measure.basis,
                share_ppm: tap.share_ppm,
                facility_share_ppm: order.facility.share_ppm,
                capacity_bits_per_second: order.facility.capacity_bits_per_second,
                sampling_max: sample::threshold(order.sampling_ppm_max()),
                ordered: Window { not_before_ns: unix_ns(begins)?, not_after_ns: unix_ns(end)? },
                window: None,
                left: Restriction::default(),
            });
            chain.push(order);
        }
        let bounds = bounds.ok_or_else(|| RunError::Refused("a measure has no order".into()))?;
        Ok((chain, bounds))
    }

    /// Verifies a directive: only the Commission's signature counts.
    pub(super) fn directive(&self, note: &str) -> Result<Directive, RunError> {
        let roots = self.roots.at(Timestamp::now());
        directive::verify(note, &roots).map_err(|error| RunError::refused("directive", error))
    }

    /// Verifies a whole generation and compiles it.
    pub(super) fn verify(
        &self,
        host_key: &HostKeyId,
        documents: &[Documents],
        seed: u64,
    ) -> Result<Verified, RunError> {
        let orders = self.orders(host_key, documents.iter().map(|of| of.orders.as_slice()))?;
        let firsts = orders.iter().filter_map(|(chain, _)| chain.first());
        let excluded: Vec<_> = firsts.flat_map(Order::prefixes_excluded).copied().collect();
        let country = self.country.without(&excluded);
        let now = Timestamp::now();
        let mut sets = Vec::with_capacity(orders.len());
        let mut held = Vec::with_capacity(orders.len());
        for ((chain, _), documents) in orders.iter().zip(documents) {
            let (order, set) = checked(chain, documents, &country)?;
            let ends = set.ends.clone();
            let bare = CheckedSet { ends, sha256: set.sha256, ..CheckedSet::withdrawn(set.measure.clone()) };
            let named = (!documents.set.is_empty()).then_some(order.sha256);
            held.push(Held { order: named, over: set.over(now), set: bare });
            // What is over does not decide.
            sets.push((order, set.at(now)));
        }
        let notes = documents.iter().map(|documents| documents.activation.as_str());
        let judged = self.judge(orders, notes, &held, now)?;
        let measures: Vec<_> =
            sets.iter().map(|(order, set)| MeasureSet { set, parameters: parameters(order, seed) }).collect();
        let tables = Tables::compile_measures(&measures, seed, &country)
            .map_err(|error| RunError::refused("selector set", error))?;
        Ok(Verified { tables, held, judged })
    }

    /// The same for what was verified before: what signatures say now. `None` if it must be compiled anew.
    pub(super) fn verify_again<'a>(
        &self,
        host_key: &HostKeyId,
        notes: impl Iterator<Item = (&'a [String], &'a str)> + Clone,
        held: &[Held],
    ) -> Result<Option<Judged>, RunError> {
        let now = Timestamp::now();
        if held.iter().any(|held| held.set.over(now) != held.over) {
            return Ok(None);
        }
        let orders = self.orders(host_key, notes.clone().map(|(orders, _)| orders))?;
        self.judge(orders, notes.map(|(_, activation)| activation), held, now).map(Some)
    }

    fn judge<'a>(
        &self,
        orders: Vec<(Vec<Order>, Bounds)>,
        notes: impl Iterator<Item = &'a str>,
        held: &[Held],
        now: Timestamp,
    ) -> Result<Judged, RunError> {
        let mut judged = Judged { bounds: Vec::new(), activations: Vec::new() };
        for (((chain, mut bounds), note), held) in orders.into_iter().zip(notes).zip(held) {
            let (number, window) = match &held.order {
                Some(order) => self.activation(&bounds.measure, order, note, &held.set, now)?,
                None => (self.withdrawal(&bounds.measure, &chain, note)?, None),
            };
            bounds.window = window;
            judged.activations.push((number, held.set.sha256));
            judged.bounds.push(bounds);
        }
        Ok(judged)
    }

    /// The number of a set's activation, and when it counts.
    fn activation(
        &self,
        measure: &str,
        order: &[u8; 32],
        note: &str,
        set: &CheckedSet,
        now: Timestamp,
    ) -> Result<(u64, Option<Window>), RunError> {
        let refused =
            |error: &dyn std::fmt::Display| RunError::refused(format!("measure {measure}: activation"), error);
        let roots = self.roots.at(now);
        let activation = activation::verify(note, &roots).map_err(|error| refused(&error))?;
        activation.fits(measure, order, &set.sha256).map_err(|error| refused(&error))?;
        let signed = keys::note::verify(note, &roots).map_err(|error| refused(&error))?;
        // What is over next must not decide from then on.
        let rules_end = set.next_end(now).or(set.last_end());
        let ends = [Some(activation.valid_until), rules_end, roots.signed_until(&signed.signers)];
        let end = ends.into_iter().flatten().min().unwrap_or(activation.valid_until);
        Ok((activation.number, Some(Window { not_before_ns: 0, not_after_ns: unix_ns(end)? })))
    }

    /// The number of a measure's withdrawal: it looks for nothing, and has no window in which it could have a lease.
    fn withdrawal(&self, measure: &str, chain: &[Order], note: &str) -> Result<u64, RunError> {
        let refused =
            |error: &dyn std::fmt::Display| RunError::refused(format!("measure {measure}: withdrawal"), error);
        let it = withdrawal::verify(note, &self.roots.at(Timestamp::now())).map_err(|error| refused(&error))?;
        it.fits(measure, chain.iter().map(|order| &order.sha256)).map_err(|error| refused(&error))?;
        Ok(it.number)
    }
}

/// A set against the order that its activation names: the first, or one that extends it. Nothing where it is withdrawn.
fn checked(chain: &[Order], documents: &Documents, country: &CountryTable) -> Result<(Order, CheckedSet), RunError> {
    let first = chain.first().ok_or_else(|| RunError::Refused("a measure has no order".into()))?;
    if documents.set.is_empty() {
        return Ok((first.clone(), CheckedSet::withdrawn(first.measure.id.clone())));
    }
    let named = Activation::parse_unsigned(&documents.activation).ok().map(|activation| activation.order_sha256);
    let order = chain.iter().find(|order| Some(order.sha256) == named).unwrap_or(first);
    let refused =
        |error: &dyn std::fmt::Display| RunError::refused(format!("measure {}: selector set", order.measure.id), error);
    let set = SelectorSet::from_json(documents.set.as_bytes()).map_err(|error| refused(&error))?;
    let context = CheckContext::from_order(order).with_country_table(country.clone());
    let set = check::check(&set, &context)
        .map_err(|refusals| refused(&refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    Ok((order.clone(), set))
}

fn parameters(order: &Order, sampling_seed: u64) -> MeasureParameters {
    MeasureParameters {
        directions: order.measure.basis.directions(),
        conditions_min: order.conditions_min(),
        sampling_ppm: order.sampling_ppm_max(),
        sampling_seed,
    }
}

fn unix_ns(time: Timestamp) -> Result<u64, RunError> {
    u64::try_from(time.as_nanosecond()).map_err(|_out_of_range| RunError::Refused(format!("{time} is out of range")))
}
