//! A page of metrics: families with one row for each set of labels. In: name, help, labels, value. Out: Prometheus text. It
//! refuses a label name that is not on the closed list.

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Every label name there may be. None of them can hold an address, a port, an AS or a rule.
pub(super) const LABEL_NAMES: [&str; 12] = [
    "measure",
    "facility",
    "verdict",
    "reason",
    "interface",
    "version",
    "program_sha256",
    "order_sha256",
    "set_sha256",
    "host_key",
    "map_instance",
    "outcome",
];

type Labels<'a> = [(&'a str, &'a str)];
type Families<T> = RefCell<BTreeMap<String, T>>;

/// Families of one page.
#[derive(Default)]
pub(super) struct Page {
    registry: Registry,
    counters: Families<IntCounterVec>,
    gauges: Families<GaugeVec>,
    integers: Families<IntGaugeVec>,
}

impl Page {
    /// The text of the page.
    pub(super) fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// The family of this name, made with its first row.
    fn family<T: Collector + Clone + 'static>(
        &self,
        families: &Families<T>,
        (name, help): (&str, &str),
        labels: &Labels<'_>,
        make: impl FnOnce(Opts, &[&str]) -> Result<T, prometheus::Error>,
    ) -> Result<T, prometheus::Error> {
        let mut families = families.borrow_mut();
        if let Some(family) = families.get(name) {
            return Ok(family.clone());
        }
        let family = make(Opts::new(name, help), &checked(&names(labels))?)?;
        self.registry.register(Box::new(family.clone()))?;
        families.insert(name.to_owned(), family.clone());
        Ok(family)
    }

    /// A row of a counter.
    pub(super) fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &Labels<'_>,
        value: u64,
    ) -> Result<(), prometheus::Error> {
        let family = self.family(&self.counters, (name, help), labels, IntCounterVec::new)?;
        family.get_metric_with_label_values(&values(labels))?.inc_by(value);
        Ok(())
    }

    /// A row of a gauge.
    pub(super) fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: &Labels<'_>,
        value: f64,
    ) -> Result<(), prometheus::Error> {
        let family = self.family(&self.gauges, (name, help), labels, GaugeVec::new)?;
        family.get_metric_with_label_values(&values(labels))?.set(value);
        Ok(())
    }

    /// A row of a moment, in seconds since 1970.
    pub(super) fn time(
        &self,
        name: &str,
        help: &str,
        labels: &Labels<'_>,
        seconds: i64,
    ) -> Result<(), prometheus::Error> {
        let family = self.family(&self.integers, (name, help), labels, IntGaugeVec::new)?;
        family.get_metric_with_label_values(&values(labels))?.set(seconds);
        Ok(())
    }

    /// A row of a whole number.
    pub(super) fn integer(
        &self,
        name: &str,
        help: &str,
        labels: &Labels<'_>,
        value: u64,
    ) -> Result<(), prometheus::Error> {
        self.time(name, help, labels, i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A row of yes (1) or no (0).
    pub(super) fn flag(
        &self,
        name: &str,
        help: &str,
        labels: &Labels<'_>,
        value: bool,
    ) -> Result<(), prometheus::Error> {
        self.time(name, help, labels, i64::from(value))
    }
}

/// Label names, all of them on the closed list.
pub(super) fn checked<'a>(labels: &[&'a str]) -> Result<Vec<&'a str>, prometheus::Error> {
    match labels.iter().find(|name| !LABEL_NAMES.contains(name)) {
        Some(name) => Err(prometheus::Error::Msg(format!("label {name} is not on the closed list"))),
        None => Ok(labels.to_vec()),
    }
}

fn names<'a>(labels: &Labels<'a>) -> Vec<&'a str> {
    labels.iter().map(|(name, _)| *name).collect()
}

fn values<'a>(labels: &Labels<'a>) -> Vec<&'a str> {
    labels.iter().map(|(_, value)| *value).collect()
}

/// For display only: nothing is decided by it.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are floats")]
pub(super) fn as_float(value: u64) -> f64 {
    value as f64
}
