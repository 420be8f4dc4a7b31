//! Generations: what the numbers in a record mean for its measure.
//!
//! In: a record as the kernel wrote it; its generation is the program's, its rules are bits among those of all measures.
//! Out: the same record as its measure knows it: the number of its own activation, its own set's rule indices. So nothing
//! in a measure's records tells of another measure. Bound: the generations that are kept.

use crate::limits::GENERATIONS_KEPT_MAX;
use serde::{Deserialize, Serialize};
use tap_common::abi::record::Record;
use tap_common::abi::rule::RuleMask;
use tap_common::limits::RULE_WORDS;

/// One generation of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Generation {
    /// The program's number, one more with every swap on this host.
    pub(super) number: u64,
    /// The set of each slot.
    pub(super) sets: Vec<SetNumbers>,
}

/// The set of one slot in a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetNumbers {
    /// Its activation's number.
    pub(super) activation: u64,
    /// Its rules; their bits lie behind those of the slots before.
    pub(super) rules: usize,
}

/// The generations whose records may still come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Generations(Vec<Generation>);

impl Generations {
    /// Takes a new one; the oldest beyond the bound is forgotten.
    pub(super) fn push(&mut self, generation: Generation) {
        self.0.push(generation);
        let beyond = self.0.len().saturating_sub(GENERATIONS_KEPT_MAX);
        self.0.drain(..beyond);
    }

    /// The last one's number; 0 before the first.
    pub(super) fn last_number(&self) -> u64 {
        self.0.last().map_or(0, |generation| generation.number)
    }

    /// Turns a record into its measure's own terms; `None` if no generation that is kept can have written it.
    pub(super) fn own(&self, record: &Record) -> Option<Record> {
        let generation = self.0.iter().rev().find(|generation| generation.number == record.generation)?;
        let slot = usize::from(record.measure);
        let set = generation.sets.get(slot)?;
        let first = generation.sets.iter().take(slot).map(|before| before.rules).sum();
        let rules = cut(&record.rules, first, set.rules);
        // Its kernel program emits no record without a rule of its slot.
        (rules != [0; RULE_WORDS]).then_some(Record { generation: set.activation, rules, ..*record })
    }
}

/// The `count` bits from bit `first` on, as bits from 0 on.
fn cut(mask: &RuleMask, first: usize, count: usize) -> RuleMask {
    let word = |index: usize| mask.get(index).copied().unwrap_or(0);
    let (words, bits) = (first / 64, first % 64);
    let mut own = [0; RULE_WORDS];
    for (index, place) in own.iter_mut().enumerate() {
        let low = word(index + words) >> bits;
        let high = if bits == 0 { 0 } else { word(index + words + 1) << (64 - bits) };
        let left = count.saturating_sub(index * 64);
        let wanted = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
        *place = (low | high) & wanted;
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(generation: u64, measure: u8, bits: &[usize]) -> Record {
        let mut rules = [0; RULE_WORDS];
        bits.iter().for_each(|bit| rules[bit / 64] |= 1 << (bit % 64));
        Record {
            kind: tap_common::abi::record::KIND_RECORD,
            length: 120,
            cpu: 0,
            sequence: 7,
            time_ns: 1,
            generation,
            rules,
            source: [0; 16],
            destination: [0; 16],
            source_port: 0,
            destination_port: 0,
            protocol: 6,
            tcp_flags: 0,
            ip_version: 4,
            direction: 1,
            line_bytes: 84,
            ip_length: 60,
            fragment: 0,
            measure,
            flags: 0,
            reserved: 0,
        }
    }

    fn sets(of: &[(u64, usize)]) -> Vec<SetNumbers> {
        of.iter().map(|(activation, rules)| SetNumbers { activation: *activation, rules: *rules }).collect()
    }

    #[test]
    fn a_record_says_its_own_activation_and_its_own_rules() {
        let mut kept = Generations::default();
        kept.push(Generation { number: 9, sets: sets(&[(1, 60), (40, 70), (5, 126)]) });
        kept.push(Generation { number: 10, sets: sets(&[(1, 60), (41, 1), (5, 126)]) });
        for (generation, slot, bits, activation, own) in [
            (9, 0, vec![0, 59], 1, vec![0, 59]),
            (9, 1, vec![60, 63, 64, 129], 40, vec![0, 3, 4, 69]),
            (9, 2, vec![130, 255], 5, vec![0, 125]),
            (10, 1, vec![60], 41, vec![0]),
            (10, 2, vec![61, 186], 5, vec![0, 125]),
        ] {
            let found = kept.own(&record(generation, slot, &bits)).unwrap();
            assert_eq!((found.generation, found.rules), (activation, record(0, 0, &own).rules), "{generation} {slot}");
        }
        for (generation, slot, bits) in [(8, 0, vec![0]), (9, 3, vec![0]), (9, 0, vec![60]), (9, 1, vec![])] {
            assert!(kept.own(&record(generation, slot, &bits)).is_none(), "{generation} {slot} {bits:?}");
        }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut kept = Generations::default();
        for number in 1..=40 {
            kept.push(Generation { number, sets: sets(&[(number, 1)]) });
        }
        assert_eq!((kept.0.len(), kept.last_number()), (GENERATIONS_KEPT_MAX, 40));
        assert!(kept.own(&record(40, 0, &[0])).is_some() && kept.own(&record(24, 0, &[0])).is_none());
    }
}
