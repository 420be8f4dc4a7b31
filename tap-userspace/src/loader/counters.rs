//! Counters as words, and back.

use tap_common::abi::counter::{Counters, MeasureCounters};

/// Every field in its order.
pub(super) fn words(counters: &Counters) -> Vec<u64> {
    let mut copy = *counters;
    let mut words = Vec::new();
    each(&mut copy, |word| words.push(*word));
    words
}

/// `None` if there are too few or too many words.
pub(super) fn counters(words: &[u64]) -> Option<Counters> {
    let mut counters = Counters::default();
    let mut left = words.iter();
    let mut short = false;
    each(&mut counters, |word| match left.next() {
        Some(value) => *word = *value,
        None => short = true,
    });
    (!short && left.next().is_none()).then_some(counters)
}

/// A field that is added to the counters does not compile here until it is named.
fn each(counters: &mut Counters, mut visit: impl FnMut(&mut u64)) {
    let Counters {
        observed_packets,
        observed_bytes,
        admitted_packets,
        admitted_bytes,
        facility_verdicts,
        reasons,
        measures,
    } = counters;
    for word in [observed_packets, observed_bytes, admitted_packets, admitted_bytes] {
        visit(word);
    }
    facility_verdicts.iter_mut().chain(reasons).for_each(&mut visit);
    for measure in measures {
        let MeasureCounters { verdicts, admitted_packets, admitted_bytes, ring_lost, idle_packets } = measure;
        verdicts.iter_mut().for_each(&mut visit);
        for word in [admitted_packets, admitted_bytes, ring_lost, idle_packets] {
            visit(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_goes_over_and_comes_back() {
        let count = size_of::<Counters>() / 8;
        let sent: Vec<u64> = (1..=count as u64).collect();
        let read = counters(&sent).unwrap();
        assert_eq!(words(&read), sent);
        assert!(counters(&sent[1..]).is_none());
        assert!(counters(&[sent.as_slice(), &[1]].concat()).is_none());
    }
}
