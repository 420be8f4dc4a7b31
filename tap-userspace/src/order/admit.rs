//! Whether an order lets this host do something now: time, tap entry, country table.

use super::window::in_jst;
use super::{Measure, Order, OrderError, Tap};
use crate::keys::HostKeyId;
use crate::prefixes::country::CountryTable;
use ipnetwork::IpNetwork;
use jiff::Timestamp;

impl Order {
    /// This host's own tap entry, if the order is live at `now` and names the host, its interface and the country table.
    ///
    /// # Errors
    /// The field that stands against it.
    pub fn admit(
        &self,
        now: Timestamp,
        host: &HostKeyId,
        interface: &str,
        country_table_sha256: &[u8; 32],
    ) -> Result<&Tap, OrderError> {
        self.is_live(now)?;
        self.tap(host, interface, country_table_sha256)
    }

    /// This host's own tap entry, whenever the order is in force.
    ///
    /// # Errors
    /// The field that stands against it.
    pub fn tap(&self, host: &HostKeyId, interface: &str, country_table_sha256: &[u8; 32]) -> Result<&Tap, OrderError> {
        let of_host = || self.facility.taps.iter().filter(|tap| tap.host_key == *host);
        let tap = of_host().find(|tap| tap.interface == interface);
        let tap = tap.ok_or_else(|| match of_host().next() {
            None => OrderError::field("facility.tap.host_key", format!("no entry for this host ({host})")),
            Some(other) => OrderError::field(
                "facility.tap.interface",
                format!("{interface:?} is not the declared mirror port of this host, {:?} is", other.interface),
            ),
        })?;
        if self.addresses.country_table_sha256 != *country_table_sha256 {
            let (named, given) = (hex::encode(self.addresses.country_table_sha256), hex::encode(country_table_sha256));
            return Err(OrderError::field(
                "addresses.country_table_sha256",
                format!("the order names another country table: {named}, this one is {given}"),
            ));
        }
        Ok(tap)
    }

    /// Whether the order is in force at `now`: not before its first moment, before its end.
    ///
    /// # Errors
    /// `measure.not_before` or `measure.not_after`.
    pub fn is_live(&self, now: Timestamp) -> Result<(), OrderError> {
        self.measure.is_live(now)
    }

    /// Whether this is the country table that the order names, and new enough.
    ///
    /// # Errors
    /// The digest differs, or the table's date is unknown or before the oldest allowed.
    pub fn admit_country_table(&self, table: &CountryTable) -> Result<(), OrderError> {
        if self.addresses.country_table_sha256 != table.sha256 {
            return Err(OrderError::field("addresses.country_table_sha256", "the order names another country table"));
        }
        let oldest = self.addresses.country_table_oldest_date;
        match table.date {
            Some(date) if date >= oldest => Ok(()),
            Some(date) => Err(OrderError::field(
                "addresses.country_table_oldest_date",
                format!("the table is of {date}, the order wants {oldest} or later"),
            )),
            None => Err(OrderError::field("addresses.country_table_oldest_date", "the table's date is not known")),
        }
    }

    /// Counted conditions a rule needs: the basis's, or more where the approval says so.
    #[must_use]
    pub fn conditions_min(&self) -> u8 {
        let wanted = self.approval.as_ref().and_then(|approval| approval.conditions.conditions_at_least);
        self.measure.basis.conditions_min().max(wanted.unwrap_or(0))
    }

    /// Part of the flows that may be looked at, in parts per million: the approval's condition included.
    #[must_use]
    pub fn sampling_ppm_max(&self) -> u32 {
        let at_most = self.approval.as_ref().and_then(|approval| approval.conditions.sampling_at_most);
        self.facility.sampling_ppm.min(at_most.unwrap_or(u32::MAX))
    }

    /// Prefixes that the approval excludes: take them out of the country table ([`CountryTable::without`]), and whatever
    /// they hold is unlisted, so never selected.
    #[must_use]
    pub fn prefixes_excluded(&self) -> &[IpNetwork] {
        self.approval.as_ref().map_or(&[], |approval| &approval.conditions.prefixes_excluded)
    }
}

impl Measure {
    /// Whether `now` is in the measure's window.
    ///
    /// # Errors
    /// `measure.not_before` or `measure.not_after`.
    pub fn is_live(&self, now: Timestamp) -> Result<(), OrderError> {
        let (first, end) = (self.not_before, self.not_after);
        if now < first {
            return Err(OrderError::field("measure.not_before", format!("not yet valid: begins {}", in_jst(first))));
        }
        if now >= end {
            return Err(OrderError::field("measure.not_after", format!("expired: ended {}", in_jst(end))));
        }
        Ok(())
    }
}
