//! Sweep: from the value ranges of many rules' conditions to disjoint ranges with one class each.
//!
//! The same sweep serves addresses, ports and lengths: wherever a range of some rule begins or ends, the masks change.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use tap_common::abi::rule::{ClassMasks, RuleMask};

/// The place a condition speaks of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The source's value.
    Source,
    /// The destination's value.
    Destination,
    /// Either one's.
    Either,
}

/// Ranges with their class, and the masks of each class.
pub struct Classes {
    /// Disjoint, sorted; values in no range have class 0.
    pub ranges: Vec<(u128, u128, u32)>,
    /// Masks by class; class 0 is that of a value which no condition names.
    pub masks: Vec<ClassMasks>,
}

/// What the conditions of one dimension say.
pub struct Sweep {
    edges: Vec<(u128, u8, Place)>,
    named: ClassMasks,
    rules: RuleMask,
}

impl Sweep {
    /// No conditions yet, for the rules whose bits are set.
    #[must_use]
    pub fn new(rules: RuleMask) -> Self {
        Self { edges: Vec::new(), named: ClassMasks::default(), rules }
    }

    /// Rule `rule` asks that the value at `place` lie in one of `ranges`, which must be disjoint.
    pub fn condition(&mut self, rule: u8, place: Place, ranges: impl IntoIterator<Item = RangeInclusive<u128>>) {
        flip(mask_of(&mut self.named, place), rule);
        for range in ranges {
            self.edges.push((*range.start(), rule, place));
            // A range that ends at the last value there is has no end to be noticed.
            if let Some(after) = range.end().checked_add(1) {
                self.edges.push((after, rule, place));
            }
        }
    }

    /// Whether no rule has a condition here.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.named == ClassMasks::default()
    }

    /// The disjoint ranges up to `last`, the largest value there is.
    #[must_use]
    pub fn finish(mut self, last: u128) -> Classes {
        self.edges.sort_unstable_by_key(|(at, _, _)| *at);
        // Rules without a condition in a place are satisfied there by any value.
        let mut masks = ClassMasks {
            source: without(&self.rules, &self.named.source),
            destination: without(&self.rules, &self.named.destination),
            either: without(&self.rules, &self.named.either),
        };
        let mut classes = Classes { ranges: Vec::new(), masks: vec![masks] };
        let mut known: HashMap<[RuleMask; 3], u32> = HashMap::from([(key(&masks), 0)]);
        let mut edges = self.edges.iter().peekable();
        while let Some((at, _, _)) = edges.peek().copied() {
            while let Some((_, rule, place)) = edges.next_if(|(next, _, _)| next == at) {
                flip(mask_of(&mut masks, *place), *rule);
            }
            let end = edges.peek().map_or(last, |(next, _, _)| next - 1);
            let class = *known.entry(key(&masks)).or_insert_with(|| {
                classes.masks.push(masks);
                u32::try_from(classes.masks.len() - 1).unwrap_or(0)
            });
            if class != 0 && *at <= last {
                classes.ranges.push((*at, end, class));
            }
        }
        classes
    }
}

fn key(masks: &ClassMasks) -> [RuleMask; 3] {
    [masks.source, masks.destination, masks.either]
}

fn mask_of(masks: &mut ClassMasks, place: Place) -> &mut RuleMask {
    match place {
        Place::Source => &mut masks.source,
        Place::Destination => &mut masks.destination,
        Place::Either => &mut masks.either,
    }
}

/// Flips the bit of `rule`: at the beginning of a range it sets it, at its end it clears it.
pub fn flip(mask: &mut RuleMask, rule: u8) {
    if let Some(word) = mask.get_mut(usize::from(rule / 64)) {
        *word ^= 1 << (rule % 64);
    }
}

/// `all` without `some`.
#[must_use]
pub fn without(all: &RuleMask, some: &RuleMask) -> RuleMask {
    let mut rest = *all;
    for (word, some) in rest.iter_mut().zip(some) {
        *word &= !some;
    }
    rest
}
