//! Versions of a set beside each other: what one has and another has not.
//!
//! In: two sets as they were read. Out: counts of indicators, and where they are wanted their texts. An indicator is one
//! address of a rule's only address condition with everything else the rule says but its id; a rule without one is one
//! indicator. So sets that were imported anew compare by what they select, not by how rules are numbered.

use super::field::Field;
use super::set::{Condition, Content, Rule};
use super::values::Values;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};

/// What two sets share and what not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Indicators that the second has and the first has not.
    pub added: u64,
    /// Indicators that the first has and the second has not.
    pub removed: u64,
    /// Indicators that both have.
    pub kept: u64,
}

/// Indicators of a set: what rules say beside the open addresses, and these.
type Indicators = BTreeMap<String, BTreeSet<Option<IpNetwork>>>;

/// How many indicators a set has.
#[must_use]
pub fn count(content: &Content) -> u64 {
    indicators(content).values().map(|of_rule| of_rule.len() as u64).sum()
}

/// Compares two sets; `tell` gets each indicator that only one has, in order: whether it was added, what the rule says beside
/// the address (JSON, then the rule's end), the address.
pub fn difference(
    first: &Content,
    second: &Content,
    tell: &mut dyn FnMut(bool, &str, Option<&IpNetwork>),
) -> Difference {
    let (first, second) = (indicators(first), indicators(second));
    let none = BTreeSet::new();
    let mut found = Difference::default();
    let rules: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    for rule in rules {
        let (before, after) = (first.get(rule).unwrap_or(&none), second.get(rule).unwrap_or(&none));
        for gone in before.difference(after) {
            found.removed += 1;
            tell(false, rule, gone.as_ref());
        }
        for new in after.difference(before) {
            found.added += 1;
            tell(true, rule, new.as_ref());
        }
        found.kept += before.intersection(after).count() as u64;
    }
    found
}

fn indicators(content: &Content) -> Indicators {
    let mut all = Indicators::new();
    for rule in &content.rules {
        let (rest, addresses) = opened(rule);
        let key = format!("{} until {}", serde_json::to_string(&rest).unwrap_or_default(), rule.valid_until);
        let place = all.entry(key).or_default();
        match addresses {
            Some(addresses) => place.extend(addresses.into_iter().map(Some)),
            None => drop(place.insert(None)),
        }
    }
    all
}

/// A rule's conditions in one order, without the addresses of its only address condition, and these.
fn opened(rule: &Rule) -> (Vec<Condition>, Option<Vec<IpNetwork>>) {
    let mut rest = rule.conditions.clone();
    rest.sort_by_key(|condition| condition.field);
    let is_address = |field: Field| matches!(field, Field::SourceAddress | Field::DestinationAddress | Field::Address);
    let mut of_addresses = rest.iter_mut().filter(|condition| is_address(condition.field));
    let (Some(open), None) = (of_addresses.next(), of_addresses.next()) else { return (rest, None) };
    // What cannot be read is compared as it is written.
    let Ok(Values::Addresses { entries, .. }) = Values::parse(open.field, open.written()) else { return (rest, None) };
    open.any = Some(Vec::new());
    (rest, Some(entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selectors::SelectorSet;
    use serde_json::json;

    fn content(rules: &[(&str, &[&str], &str, &str)]) -> Content {
        let rules: Vec<_> = rules
            .iter()
            .map(|(id, addresses, port, end)| {
                json!({"id": id, "act": "a", "reason": "why", "valid_until": end, "conditions": [
                    {"item": "aid", "field": "destination-port", "any": [port]},
                    {"item": "facility-address", "field": "address", "any": addresses}]})
            })
            .collect();
        let set = json!({"measure": "m-1", "version": 1, "standard": "s-1", "rules": rules}).to_string();
        SelectorSet::from_json(set.as_bytes()).unwrap().content
    }

    #[test]
    fn sets_compare_by_what_they_select_and_not_by_their_rules_numbers() {
        let end = "2027-01-01T00:00:00Z";
        let first =
            content(&[("r1", &["198.51.100.1", "198.51.100.2"], "443", end), ("r2", &["203.0.113.0/24"], "80", end)]);
        let second = content(&[
            ("i1", &["203.0.113.0/24"], "80", end),
            ("i2", &["198.51.100.2/32", "198.51.100.3"], "443", end),
            ("i3", &["198.51.100.4"], "443", "2026-12-24T00:00:00Z"),
        ]);
        let mut told = Vec::new();
        let found =
            difference(&first, &second, &mut |added, _, address| told.push((added, address.unwrap().to_string())));
        assert_eq!(found, Difference { added: 2, removed: 1, kept: 2 });
        told.sort();
        let expected = [(false, "198.51.100.1/32"), (true, "198.51.100.3/32"), (true, "198.51.100.4/32")];
        assert_eq!(told, expected.map(|(added, text)| (added, text.to_owned())));
        assert_eq!((count(&first), count(&second)), (3, 4));
        assert_eq!(difference(&first, &first, &mut |_, _, _| panic!("nothing differs")).kept, 3);
        let back = difference(&second, &first, &mut |_, _, _| ());
        assert_eq!(back, Difference { added: 1, removed: 2, kept: 2 });
    }
}
