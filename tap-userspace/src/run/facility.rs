//! Facility: what the orders of all measures on this tap must agree in, and what they may admit together.
//!
//! In: the admitted orders. Out: the one facility they are all about, or the two that differ; for a set of live measures
//! the share of the facility's bucket. It reads no clock and writes nothing.

use super::error::RunError;
use crate::order::Order;
use crate::order::basis::Basis;
use tap_common::limits::FOREIGN_TO_FOREIGN_SHARE_PPM_MAX;

/// The facility that all orders name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facility {
    pub(crate) id: String,
    pub(crate) capacity_bits_per_second: u64,
}

/// The facility of these orders (name of the file, order).
///
/// # Errors
/// Two of them name the same measure, or another facility, capacity or country table; both files are named.
pub(crate) fn of(orders: &[(String, &Order)]) -> Result<Facility, RunError> {
    let Some((first_file, first)) = orders.first() else {
        return Err(RunError::Refused("measure: there is no [[measure]]".into()));
    };
    for (index, (file, order)) in orders.iter().enumerate() {
        let differs = |field: &str, this: &dyn std::fmt::Display, that: &dyn std::fmt::Display| {
            RunError::Refused(format!(
                "{file}: {field}: {this} is not {that}, which {first_file} names; the measures of one tap are of one \
                 facility, with one capacity and one country table"
            ))
        };
        if order.facility.id != first.facility.id {
            return Err(differs("facility.id", &order.facility.id, &first.facility.id));
        }
        let (this, that) = (order.facility.capacity_bits_per_second, first.facility.capacity_bits_per_second);
        if this != that {
            return Err(differs("facility.capacity_bits_per_second", &this, &that));
        }
        if order.addresses.country_table_sha256 != first.addresses.country_table_sha256 {
            let [this, that] = [order, first].map(|order| hex::encode(order.addresses.country_table_sha256));
            return Err(differs("addresses.country_table_sha256", &this, &that));
        }
        let earlier = orders.iter().take(index).find(|(_, other)| other.measure.id == order.measure.id);
        if let Some((other, _)) = earlier {
            let id = &order.measure.id;
            return Err(RunError::Refused(format!(
                "{file}: measure.id: {id} is that of {other} too; name an order once"
            )));
        }
    }
    Ok(Facility { id: first.facility.id.clone(), capacity_bits_per_second: first.facility.capacity_bits_per_second })
}

/// Share of the facility's bucket while these measures (basis, share at this tap) are live: the largest of theirs, never
/// their sum; as long as one of them is under Art. 17, no more than Art. 17 allows. Nothing without a measure.
pub(crate) fn share_ppm(live: impl IntoIterator<Item = (Basis, u32)>) -> u32 {
    let (mut share, mut ceiling) = (0, u32::MAX);
    for (basis, share_ppm) in live {
        share = share.max(share_ppm);
        if basis == Basis::ForeignToForeign {
            ceiling = FOREIGN_TO_FOREIGN_SHARE_PPM_MAX;
        }
    }
    share.min(ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_never_added_up_and_art_17_holds_for_the_whole_facility() {
        use Basis::{Agreement, DomesticToForeign, ForeignToDomestic, ForeignToForeign};
        for (live, share) in [
            (vec![], 0),
            (vec![(ForeignToDomestic, 200_000)], 200_000),
            (vec![(ForeignToDomestic, 200_000), (DomesticToForeign, 500_000), (Agreement, 400_000)], 500_000),
            (vec![(ForeignToForeign, 300_000), (ForeignToForeign, 250_000)], 300_000),
            (vec![(ForeignToForeign, 100_000), (ForeignToDomestic, 500_000)], 300_000),
            (vec![(ForeignToForeign, 100_000), (ForeignToDomestic, 50_000)], 100_000),
        ] {
            assert_eq!(share_ppm(live.clone()), share, "{live:?}");
            assert_eq!(share_ppm(live.into_iter().rev()), share);
        }
    }
}
