//! Orders, extensions, activations, withdrawals, directives: each against the signatures that it needs and the log entry that names it.
//!
//! In: the documents of a bundle, the log's entries, trust roots. Out: what each measure went by, or which document is
//! missing, strange, another host's or another measure's. Signatures are judged for the moment at which the log has the act.

use super::container::Files;
use super::ledger::Entries;
use super::report::{ActivationReport, DirectiveReport, MeasureReport, OrderReport, SwitchReport, WithdrawalReport};
use super::{Finding, Keys};
use crate::audit::Leaf;
use crate::directive::{self, restriction::Restriction};
use crate::keys::{HostKeyId, TrustRoots, note, sha256};
use crate::order::{self, Order, chain};
use crate::run::documents::{Kind, file_name};
use crate::selectors::{activation, withdrawal};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Where documents stand.
pub(super) const DOCUMENTS: &str = "documents/";
/// Where selector sets stand, by digest.
pub(super) const SETS: &str = "sets/";

/// What was checked so far.
pub(super) struct Checked<'a> {
    roots: &'a TrustRoots,
    host: HostKeyId,
    documents: BTreeMap<&'a str, &'a str>,
    sets: BTreeSet<&'a str>,
    used: BTreeSet<&'a str>,
    /// Orders by measure, in the order of their loading.
    pub(super) orders: BTreeMap<String, Vec<Order>>,
    /// What directives left of this host's share, and since when.
    pub(super) lowered: Vec<Lowered>,
    /// Measures by name.
    pub(super) measures: BTreeMap<String, MeasureReport>,
}

/// A share that a directive lowered.
pub(super) struct Lowered {
    pub(super) measure: String,
    pub(super) since: Timestamp,
    pub(super) share_ppm: u32,
}

/// Judges every document against the log.
pub(super) fn check<'a>(
    files: &'a Files,
    keys: &'a Keys,
    host: HostKeyId,
    entries: &Entries,
    findings: &mut Vec<Finding>,
) -> Checked<'a> {
    let under = |folder: &'static str| {
        files.iter().filter_map(move |(name, bytes)| Some((name.strip_prefix(folder)?, bytes.as_slice())))
    };
    let documents =
        under(DOCUMENTS).map(|(name, bytes)| (name, std::str::from_utf8(bytes).unwrap_or_default())).collect();
    let sets = under(SETS).map(|(name, _)| name).collect();
    let mut checked = Checked {
        roots: &keys.roots,
        host,
        documents,
        sets,
        used: BTreeSet::new(),
        orders: BTreeMap::new(),
        lowered: Vec::new(),
        measures: BTreeMap::new(),
    };
    checked.names(findings);
    for (number, entry) in entries {
        if let Err(what) = checked.act(&entry.act, entry.time) {
            findings.push(Finding::new(format!("entry {number} of the log"), what));
        }
    }
    for name in checked.documents.keys().filter(|name| !checked.used.contains(*name)) {
        let what = "no entry of the log speaks of it: added, or of another host or measure";
        findings.push(Finding::new(format!("{DOCUMENTS}{name}"), what));
    }
    checked.sets(files, findings);
    checked
}

impl<'a> Checked<'a> {
    /// A document by its name.
    pub(super) fn document(&self, name: &str) -> Option<&'a str> {
        self.documents.get(name).copied()
    }

    /// Names are digests.
    fn names(&self, findings: &mut Vec<Finding>) {
        for (name, text) in &self.documents {
            let kinds = [Kind::Order, Kind::Activation, Kind::Withdrawal, Kind::Directive];
            if !kinds.into_iter().any(|kind| file_name(kind, text) == *name) {
                findings.push(Finding::new(format!("{DOCUMENTS}{name}"), "its name is not its digest: altered"));
            }
        }
    }

    /// A set is one that an activation consents to.
    fn sets(&self, files: &Files, findings: &mut Vec<Finding>) {
        for name in &self.sets {
            let full = format!("{SETS}{name}");
            let digest = files.get(&full).map(|bytes| hex::encode(sha256(bytes))).unwrap_or_default();
            let named = self.measures.values().flat_map(|measure| &measure.activations);
            if *name != format!("{digest}.json") || !named.into_iter().any(|it| it.set_sha256 == digest) {
                findings.push(Finding::new(full, "no activation in the bundle consents to it: altered or added"));
            }
        }
    }

    /// Documents of a kind.
    fn of(&self, kind: Kind) -> Vec<(&'a str, &'a str)> {
        let of = self.documents.iter().filter(|(name, _)| name.starts_with(kind.name()));
        of.map(|(name, text)| (*name, *text)).collect()
    }

    fn measure(&mut self, id: &str) -> &mut MeasureReport {
        let measure = self.measures.entry(id.to_owned()).or_default();
        id.clone_into(&mut measure.measure);
        measure
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "acts that no document stands behind")]
    fn act(&mut self, act: &Leaf, time: Timestamp) -> Result<(), String> {
        match act {
            Leaf::Start { host_key, .. } if *host_key != self.host.to_string() => {
                Err(format!("an agent with the host key {host_key} started: of another host"))
            }
            Leaf::OrderLoaded { order_sha256, .. } => self.order(act, order_sha256, time),
            Leaf::Activation { measure, number, set_sha256, rules, .. } => {
                self.activation(measure, *number, (set_sha256, *rules), time)
            }
            Leaf::Withdrawn { measure, number, sha256 } => self.withdrawal(measure, *number, sha256, time),
            Leaf::Directive { measure, number, sha256, .. } => self.directive(measure, *number, sha256, time),
            Leaf::KillSwitch { measure, reason } => {
                self.switch(measure.as_deref(), SwitchReport { time, thrown: true, reason: reason.clone() });
                Ok(())
            }
            Leaf::KillSwitchReleased { measure, reason } => {
                self.switch(measure.as_deref(), SwitchReport { time, thrown: false, reason: reason.clone() });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn switch(&mut self, measure: Option<&str>, switch: SwitchReport) {
        match measure {
            Some(id) => self.measure(id).switches.push(switch),
            None => self.measures.values_mut().for_each(|measure| measure.switches.push(switch.clone())),
        }
    }

    fn order(&mut self, leaf: &Leaf, digest: &str, time: Timestamp) -> Result<(), String> {
        let Leaf::OrderLoaded { measure, basis, share_ppm, not_before, not_after, .. } = leaf else { return Ok(()) };
        let found = self
            .of(Kind::Order)
            .into_iter()
            .find(|(_, note)| note::text(note).is_ok_and(|text| hex::encode(sha256(text.as_bytes())) == digest));
        let Some((name, text)) = found else {
            return Err(format!("order {digest} of measure {measure} is not in the bundle: removed or altered"));
        };
        self.used.insert(name);
        let wrong = |what: String| format!("{DOCUMENTS}{name}, order of measure {measure}: {what}");
        let judged = self.roots.at(time);
        let order = order::verify(text, &judged).map_err(|error| wrong(error.to_string()))?;
        let signed = note::verify(text, &judged).map_err(|error| wrong(error.to_string()))?;
        let signed_by = signed.signers.iter().map(|key| format!("{} ({})", key.name, key.role)).collect();
        let Some(tap) = order.facility.taps.iter().find(|tap| tap.host_key == self.host) else {
            return Err(wrong("names other hosts, not this one: of another host".to_owned()));
        };
        let same = order.measure.id == *measure
            && order.measure.basis.name() == basis
            && order.measure.not_before == *not_before
            && order.measure.not_after == *not_after
            && *share_ppm <= tap.share_ppm;
        if !same {
            return Err(wrong("the log's entry says another measure, basis, time or share than the order".to_owned()));
        }
        let known = self.orders.entry(measure.clone()).or_default();
        if known.iter().any(|known| known.sha256 == order.sha256) {
            return Ok(());
        }
        let parent = known.iter().find(|known| order.measure.previous == Some(known.sha256));
        let extends = parent.map_or(Ok(()), |parent| chain::extends(parent, &order));
        let report = OrderReport {
            sha256: digest.to_owned(),
            basis: basis.clone(),
            approval: match (&order.approval, &order.notification) {
                (Some(approval), _) => Some(approval.id.clone()),
                (None, notification) => notification.as_ref().map(|it| it.id.clone()),
            },
            facility: order.facility.id.clone(),
            capacity_bits_per_second: order.facility.capacity_bits_per_second,
            share_ppm: tap.share_ppm,
            not_before: *not_before,
            not_after: *not_after,
            signed_by,
            loaded: time,
        };
        known.push(order.clone());
        self.measure(measure).orders.push(report);
        extends.map_err(|error| wrong(format!("does not extend the order it names: {error}")))
    }

    fn activation(
        &mut self,
        measure: &str,
        number: u64,
        (set, rules): (&str, u64),
        time: Timestamp,
    ) -> Result<(), String> {
        let found = self.of(Kind::Activation).into_iter().find_map(|(name, text)| {
            let it = activation::Activation::parse_unsigned(text).ok()?;
            let same = it.measure == measure && it.number == number && hex::encode(it.set_sha256) == set;
            same.then_some((name, text, it))
        });
        let Some((name, text, it)) = found else {
            return Err(format!("activation {number} of measure {measure} is not in the bundle: removed or altered"));
        };
        self.used.insert(name);
        let wrong = |what: String| format!("{DOCUMENTS}{name}, activation of measure {measure}: {what}");
        let judged = self.roots.at(time);
        activation::verify(text, &judged).map_err(|error| wrong(error.to_string()))?;
        let signed = note::verify(text, &judged).map_err(|error| wrong(error.to_string()))?;
        let signed_by = signed.signers.iter().map(|key| format!("{} ({})", key.name, key.role)).collect();
        let orders = self.orders.get(measure).map(Vec::as_slice).unwrap_or_default();
        if !orders.iter().any(|order| order.sha256 == it.order_sha256) {
            return Err(wrong("is under an order that was not loaded before it: of another order".to_owned()));
        }
        if time >= it.valid_until {
            return Err(wrong(format!("was over since {}", it.valid_until)));
        }
        let set_in_bundle = self.sets.contains(format!("{set}.json").as_str());
        let activations = &mut self.measure(measure).activations;
        if activations.iter().all(|known| known.number != number) {
            let set_sha256 = set.to_owned();
            activations.push(ActivationReport { number, set_sha256, set_in_bundle, rules, signed_by, loaded: time });
        }
        Ok(())
    }

    /// The document that an act names by its digest.
    fn named(&mut self, kind: Kind, digest: &str, measure: &str, number: u64) -> Result<(&'a str, &'a str), String> {
        let kind = kind.name();
        let name = format!("{kind}-{digest}.note");
        let Some((name, text)) = self.documents.get_key_value(name.as_str()).map(|(name, text)| (*name, *text)) else {
            return Err(format!("{kind} {number} of measure {measure} is not in the bundle: removed or altered"));
        };
        self.used.insert(name);
        Ok((name, text))
    }

    fn withdrawal(&mut self, measure: &str, number: u64, digest: &str, time: Timestamp) -> Result<(), String> {
        let (name, text) = self.named(Kind::Withdrawal, digest, measure, number)?;
        let wrong = |what: String| format!("{DOCUMENTS}{name}, withdrawal of measure {measure}: {what}");
        let judged = self.roots.at(time);
        let it = withdrawal::verify(text, &judged).map_err(|error| wrong(error.to_string()))?;
        let orders = self.orders.get(measure).map(Vec::as_slice).unwrap_or_default();
        it.fits(measure, orders.iter().map(|order| &order.sha256)).map_err(|error| wrong(error.to_string()))?;
        if it.number != number {
            return Err(wrong(format!("is number {}: another one", it.number)));
        }
        let signed = note::verify(text, &judged).map_err(|error| wrong(error.to_string()))?;
        let signed_by = signed.signers.iter().map(|key| format!("{} ({})", key.name, key.role)).collect();
        self.measure(measure).withdrawals.push(WithdrawalReport { number, signed_by, in_force: time });
        Ok(())
    }

    fn directive(&mut self, measure: &str, number: u64, digest: &str, time: Timestamp) -> Result<(), String> {
        let (name, text) = self.named(Kind::Directive, digest, measure, number)?;
        let wrong = |what: String| format!("{DOCUMENTS}{name}, directive of measure {measure}: {what}");
        let it = directive::verify(text, &self.roots.at(time)).map_err(|error| wrong(error.to_string()))?;
        if (it.measure.as_str(), it.number) != (measure, number) {
            return Err(wrong(format!("is number {} of measure {}: of another measure", it.number, it.measure)));
        }
        let orders = self.orders.get(measure).map(Vec::as_slice).unwrap_or_default();
        let Some(order) = orders.iter().find(|order| order.sha256 == it.order_sha256) else {
            return Err(wrong("is for an order that was not loaded before it: of another order".to_owned()));
        };
        if let directive::Kind::LowerShare(left) = it.kind {
            let tap = order.facility.taps.iter().find(|tap| tap.host_key == self.host).map_or(0, |tap| tap.share_ppm);
            let restriction = Restriction { share_ppm: Some(left), ..Restriction::default() };
            let share_ppm = restriction.tap_share_ppm(tap, order.facility.share_ppm);
            self.lowered.push(Lowered { measure: measure.to_owned(), since: time, share_ppm });
        }
        let after_ms = time.duration_since(it.issued).as_millis();
        let directives = &mut self.measure(measure).directives;
        if directives.last().is_some_and(|last| last.number >= number) {
            return Err(wrong("its number is not above the one before: replayed".to_owned()));
        }
        directives.push(DirectiveReport {
            number,
            kind: it.kind.to_string(),
            reason: it.reason,
            issued: it.issued,
            in_force: time,
            after_ms: i64::try_from(after_ms).unwrap_or(i64::MAX),
        });
        Ok(())
    }
}
