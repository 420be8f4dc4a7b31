//! What stands on the page, and what may not.

use super::*;
use crate::control::status::{ApiStatus, MeasureStatus};
use crate::metrics::page::{LABEL_NAMES, checked};
use std::collections::{BTreeMap, BTreeSet};

fn sample() -> Status {
    let mut status = Status { interface: "mirror0".into(), facility: "f-1".into(), ..Status::default() };
    status.counters.observed_packets = 9_007_199_254_740_991;
    status.counters.verdicts = [("malformed".to_owned(), 2)].into();
    status.counters.reasons = BTreeMap::from([("vlan_short".to_owned(), 2)]);
    status.share.used_max = 0.31;
    status.api = Some(ApiStatus { calls: [("role".to_owned(), 3)].into(), turned_away: 4 });
    status.share.capacity_bits_per_second = 100_000_000_004;
    for (id, selected) in [("m-1", 5), ("m-2", 6)] {
        let mut measure = MeasureStatus::default();
        measure.order.measure = id.into();
        measure.counters.verdicts = [("selected".to_owned(), selected)].into();
        measure.counters.idle_packets = selected * 10;
        measure.share.used_max = 0.294;
        measure.sampling.ratio = 0.25;
        status.measures.push(measure);
    }
    status
}

#[test]
fn numbers_stand_on_the_page_exactly() {
    let page = encode(&sample()).unwrap();
    for line in [
        "gwtap_observed_packets_total{interface=\"mirror0\"} 9007199254740991",
        "gwtap_verdict_packets_total{facility=\"f-1\",measure=\"m-1\",verdict=\"selected\"} 5",
        "gwtap_verdict_packets_total{facility=\"f-1\",measure=\"\",verdict=\"malformed\"} 2",
        "gwtap_reason_packets_total{facility=\"f-1\",reason=\"vlan_short\"} 2",
        "gwtap_facility_capacity_bytes_per_second{facility=\"f-1\"} 12500000000.5",
        "gwtap_facility_share_used_max_ratio{facility=\"f-1\"} 0.31",
        "gwtap_share_used_max_ratio{facility=\"f-1\",measure=\"m-2\"} 0.294",
        "gwtap_verdict_packets_total{facility=\"f-1\",measure=\"m-2\",verdict=\"selected\"} 6",
        "gwtap_idle_packets_total{measure=\"m-1\"} 50",
        "gwtap_api_calls_total{outcome=\"role\"} 3",
        "gwtap_api_calls_total{outcome=\"done\"} 0",
        "gwtap_api_turned_away_total 4",
        "gwtap_sampling_threshold_ratio{measure=\"m-2\"} 0.25",
        "gwtap_sampling_changes_total{measure=\"m-1\"} 0",
        "gwtap_lease_live{measure=\"m-1\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not on\n{page}");
    }
}

#[test]
fn no_label_can_tell_of_one_partys_traffic() {
    let page = encode(&sample()).unwrap();
    let mut seen = BTreeSet::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("gwtap_"), "{line}");
        let Some((_, rest)) = line.split_once('{') else { continue };
        let labels = rest.rsplit_once('}').unwrap().0;
        seen.extend(labels.split(',').map(|label| label.split_once('=').unwrap().0.to_owned()));
    }
    let listed: BTreeSet<_> = LABEL_NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(seen, listed, "the closed list and the page differ");
    for forbidden in ["address", "port", "rule", "prefix", "source", "destination", "asn"] {
        assert!(!LABEL_NAMES.iter().any(|name| name.split('_').any(|word| word == forbidden)), "{forbidden}");
    }
    assert!(checked(&["source_address"]).is_err());
}
