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
pub(super) struct Prepared {
    pub(super) tables: Tables,
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
    pub(super) fn prepare(
        &self,
        host_key: &HostKeyId,
        documents: &[Documents],
        seed: u64,
    ) -> Result<Prepared, RunError> {
        let orders = self.orders(host_key, documents.iter().map(|of| of.orders.as_slice()))?;
        let firsts = orders.iter().filter_map(|(chain, _)| chain.first());
        let excluded: Vec<_> = firsts.flat_map(Order::prefixes_excluded).copied().collect();
        let country = self.country.without(&excluded);
        let mut sets = Vec::with_capacity(orders.len());
        for ((chain, bounds), documents) in orders.into_iter().zip(documents) {
            sets.push(self.set(chain, bounds, documents, &country)?);
        }
        let measures: Vec<_> =
            sets.iter().map(|(order, _, set, _)| MeasureSet { set, parameters: parameters(order, seed) }).collect();
        let tables = Tables::compile_measures(&measures, seed, &country)
            .map_err(|error| RunError::refused("selector set", error))?;
        let activations = sets.iter().map(|(_, _, set, number)| (*number, set.sha256)).collect();
        Ok(Prepared { tables, activations, bounds: sets.into_iter().map(|(_, bounds, ..)| bounds).collect() })
    }

    fn set(
        &self,
        chain: Vec<Order>,
        mut bounds: Bounds,
        documents: &Documents,
        country: &CountryTable,
    ) -> Result<(Order, Bounds, CheckedSet, u64), RunError> {
        if documents.set.is_empty() {
            return self.withdrawn(chain, bounds, &documents.activation);
        }
        let roots = self.roots.at(Timestamp::now());
        // A set is for the order that its activation names: the first, or one that extends it.
        let named = Activation::parse_unsigned(&documents.activation).ok().map(|activation| activation.order_sha256);
        let order = chain.iter().find(|order| Some(order.sha256) == named).or(chain.first()).cloned();
        let order = order.ok_or_else(|| RunError::Refused("a measure has no order".into()))?;
        let what = |what: &str| format!("measure {}: {what}", order.measure.id);
        let refused = |error: &dyn std::fmt::Display| RunError::refused(what("selector set"), error);
        let set = SelectorSet::from_json(documents.set.as_bytes()).map_err(|error| refused(&error))?;
        let context = CheckContext::from_order(&order).with_country_table(country.clone());
        let set = check::check(&set, &context)
            .map_err(|refusals| refused(&refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
        let refused = |error: &dyn std::fmt::Display| RunError::refused(what("activation"), error);
        let activation = activation::verify(&documents.activation, &roots).map_err(|error| refused(&error))?;
        activation.fits(&order.measure.id, &order.sha256, &set.sha256).map_err(|error| refused(&error))?;
        let signed = keys::note::verify(&documents.activation, &roots).map_err(|error| refused(&error))?;
        // What is over does not decide; what is over next must not decide from then on.
        let now = Timestamp::now();
        let rules_end = set.next_end(now).or(set.last_end());
        let set = set.at(now);
        let ends = [Some(activation.valid_until), rules_end, roots.signed_until(&signed.signers)];
        let end = ends.into_iter().flatten().min().unwrap_or(activation.valid_until);
        bounds.window = Some(Window { not_before_ns: 0, not_after_ns: unix_ns(end)? });
        Ok((order, bounds, set, activation.number))
    }

    /// A measure that looks for nothing: no rule, and no window in which it could have a lease.
    fn withdrawn(
        &self,
        chain: Vec<Order>,
        mut bounds: Bounds,
        note: &str,
    ) -> Result<(Order, Bounds, CheckedSet, u64), RunError> {
        let refused =
            |error: &dyn std::fmt::Display| RunError::refused(format!("measure {}: withdrawal", bounds.measure), error);
        let it = withdrawal::verify(note, &self.roots.at(Timestamp::now())).map_err(|error| refused(&error))?;
        it.fits(&bounds.measure, chain.iter().map(|order| &order.sha256)).map_err(|error| refused(&error))?;
        bounds.window = None;
        let set = CheckedSet::withdrawn(bounds.measure.clone());
        let order = chain.into_iter().next().ok_or_else(|| RunError::Refused("a measure has no order".into()))?;
        Ok((order, bounds, set, it.number))
    }
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
