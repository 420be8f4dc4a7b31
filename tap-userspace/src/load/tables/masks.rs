//! Ports, lengths, protocols, TCP flags, fragment states: for each value the rules it satisfies.

use super::NumberedRule;
use crate::load::sweep::{Classes, Place, Sweep, flip, without};
use std::ops::RangeInclusive;
use tap_common::abi::rule::{ClassMasks, RuleMask};
use tap_common::abi::tables::FixedTables;
use tap_common::limits::IP_LENGTHS;

/// Writes everything that has a fixed place.
pub(super) fn fill(
    fixed: &mut FixedTables,
    rules: &[NumberedRule<'_>],
    all: RuleMask,
    ports: &Classes,
    lengths: &Classes,
    address_masks: &[ClassMasks],
) {
    spread(ports, &mut fixed.port_class);
    spread(lengths, &mut fixed.ip_length_class);
    fixed.port_masks.iter_mut().zip(&ports.masks).for_each(|(place, masks)| *place = *masks);
    fixed.address_masks.iter_mut().zip(address_masks).for_each(|(place, masks)| *place = *masks);
    let named: Vec<_> = rules.iter().filter_map(|rule| Some((rule.bit, rule.rule.protocol.as_ref()?))).collect();
    masks(&mut fixed.protocol_mask, all, &named, |protocols, index| {
        protocols.iter().any(|protocol| usize::from(*protocol) == index)
    });
    let named: Vec<_> = rules.iter().filter_map(|rule| Some((rule.bit, rule.rule.tcp_flags.as_ref()?))).collect();
    masks(&mut fixed.tcp_flags_mask, all, &named, |flags, index| {
        u8::try_from(index).is_ok_and(|value| value & flags.mask == flags.value)
    });
    let named: Vec<_> = rules.iter().filter_map(|rule| Some((rule.bit, rule.rule.fragment.as_ref()?))).collect();
    masks(&mut fixed.fragment_mask, all, &named, |states, index| states.iter().any(|state| *state as usize == index));
}

pub(super) fn ports(rules: &[NumberedRule<'_>], all: RuleMask) -> Classes {
    let mut sweep = Sweep::new(all);
    let wide = |range: &RangeInclusive<u16>| u128::from(*range.start())..=u128::from(*range.end());
    for NumberedRule { bit, rule, .. } in rules {
        let places = [
            (Place::Source, &rule.source_port),
            (Place::Destination, &rule.destination_port),
            (Place::Either, &rule.port),
        ];
        for (place, ranges) in places {
            if let Some(ranges) = ranges {
                sweep.condition(*bit, place, ranges.iter().map(wide));
            }
        }
    }
    sweep.finish(u128::from(u16::MAX))
}

pub(super) fn lengths(rules: &[NumberedRule<'_>], all: RuleMask) -> Classes {
    let mut sweep = Sweep::new(all);
    for NumberedRule { bit, rule, .. } in rules {
        if let Some(range) = &rule.ip_length {
            sweep.condition(*bit, Place::Source, [u128::from(*range.start())..=u128::from(*range.end())]);
        }
    }
    sweep.finish(IP_LENGTHS as u128 - 1)
}

/// Writes the class of each value from 0 on.
fn spread(classes: &Classes, places: &mut [u16]) {
    for (first, last, class) in &classes.ranges {
        let (first, last) = (usize::try_from(*first), usize::try_from(*last));
        if let (Ok(first), Ok(last), Ok(class)) = (first, last, u16::try_from(*class)) {
            places.iter_mut().take(last.saturating_add(1)).skip(first).for_each(|place| *place = class);
        }
    }
}

/// For each value: the rules without a condition here, and those whose condition the value satisfies.
fn masks<T>(places: &mut [RuleMask], all: RuleMask, named: &[(u8, &T)], satisfies: impl Fn(&T, usize) -> bool) {
    let mut named_rules = [0; 4];
    named.iter().for_each(|(rule, _)| flip(&mut named_rules, *rule));
    let free = without(&all, &named_rules);
    for (value, mask) in places.iter_mut().enumerate() {
        *mask = free;
        named.iter().filter(|(_, condition)| satisfies(condition, value)).for_each(|(rule, _)| flip(mask, *rule));
    }
}
