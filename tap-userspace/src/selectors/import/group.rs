//! From entries to rules: entries that differ in the addresses of one condition alone become one rule.
//!
//! In: entries with their conditions. Out: rules, each of which the order allows, and for each entry whether it is in one
//! of them. A rule that is refused is split until the entries are found that it is refused for. If its halves would pass and
//! the whole does not (the union of its addresses is too wide), all of it is refused: what one rule may not say, two may not.

use super::entry::Fate;
use super::{Known, Terms};
use crate::order::window::jst;
use crate::selectors::check::{CheckContext, check};
use crate::selectors::field::Field;
use crate::selectors::set::{Condition, Content, Rule, SelectorSet};
use crate::selectors::values::Values;
use ipnetwork::IpNetwork;
use jiff::{Timestamp, Unit};
use std::collections::{HashMap, HashSet};

/// A rule that is being made.
struct Group {
    /// Its conditions; the addresses of the condition that members differ in are left out.
    template: Vec<Condition>,
    /// That condition's index.
    open: Option<usize>,
    until: Timestamp,
    members: Vec<Member>,
}

/// What one entry brings.
struct Member {
    entry: usize,
    prefixes: Vec<IpNetwork>,
}

/// Makes the rules. Entries whose fate is not `Loaded` take no part.
pub(super) fn rules(entries: &mut [Known], terms: &Terms, context: &CheckContext, now: Timestamp) -> Vec<Rule> {
    // An entry of several rules that one of them is refused for must leave the others, which are then asked again.
    loop {
        let groups = groups(entries, terms, now);
        let mut refused = Vec::new();
        for group in &groups {
            Judge { group, terms, context, refused: &mut refused }.judge();
        }
        if refused.is_empty() {
            return finish(entries, groups, terms);
        }
        for (entry, reason) in refused {
            if let Some(known) = entries.get_mut(entry) {
                known.fate = Fate::Refused(reason);
            }
        }
    }
}

fn groups(entries: &[Known], terms: &Terms, now: Timestamp) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut by_key: HashMap<String, usize> = HashMap::new();
    for (index, known) in entries.iter().enumerate().filter(|(_, known)| known.fate == Fate::Loaded) {
        let until = end(known.entry.until, terms, now);
        for rule in &known.entry.rules {
            let mut template = rule.clone();
            template.sort_by_key(|condition| condition.field);
            let mut of_addresses =
                template.iter().enumerate().filter(|(_, condition)| is_address(condition)).map(|(index, _)| index);
            let open = of_addresses.next().filter(|_| of_addresses.next().is_none());
            let mut prefixes = Vec::new();
            if let Some(condition) = open.and_then(|open| template.get_mut(open))
                && let Ok(Values::Addresses { entries, .. }) = Values::parse(condition.field, condition.written())
            {
                prefixes = entries;
                condition.any = Some(Vec::new());
            }
            // What differs in nothing but the open addresses is written alike.
            let key = format!("{}\n{until}", serde_json::to_string(&template).unwrap_or_default());
            let place = *by_key.entry(key).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Group { template, open, until, members: Vec::new() });
            }
            if let Some(group) = groups.get_mut(place) {
                group.members.push(Member { entry: index, prefixes });
            }
        }
    }
    groups
}

fn is_address(condition: &Condition) -> bool {
    matches!(condition.field, Field::SourceAddress | Field::DestinationAddress | Field::Address)
}

/// When an entry's rule ends: never after what the source or the import says.
fn end(until: Option<Timestamp>, terms: &Terms, now: Timestamp) -> Timestamp {
    let end = until.map_or(terms.valid_until, |until| until.min(terms.valid_until));
    if !terms.ends_by_day || end == terms.valid_until {
        return end;
    }
    let day = end.to_zoned(jst()).round(jiff::ZonedRound::new().smallest(Unit::Day).mode(jiff::RoundMode::Trunc));
    // What ends within the day keeps its own end: the day's beginning is over.
    day.map_or(end, |day| if day.timestamp() > now { day.timestamp() } else { end })
}

/// Asks the order about one group.
struct Judge<'a> {
    group: &'a Group,
    terms: &'a Terms,
    context: &'a CheckContext,
    refused: &'a mut Vec<(usize, String)>,
}

impl Judge<'_> {
    fn judge(&mut self) {
        self.part(&self.group.members);
    }

    /// Refuses as few of the members as the reason allows.
    fn part(&mut self, members: &[Member]) {
        let Some(reason) = self.refusal(members) else { return };
        let before = self.refused.len();
        if self.group.open.is_some() && members.len() > 1 {
            let (first, second) = members.split_at(members.len() / 2);
            self.part(first);
            self.part(second);
        }
        if self.refused.len() == before {
            self.refused.extend(members.iter().map(|member| (member.entry, reason.clone())));
        }
    }

    fn refusal(&self, members: &[Member]) -> Option<String> {
        let order = self.context.order.as_ref()?;
        let content = Content {
            measure: order.measure.clone(),
            version: self.terms.version,
            standard: order.standard.clone(),
            rules: vec![rule("import".to_owned(), self.group, members, self.terms)],
            provenance: None,
        };
        let refusals = check(&SelectorSet { content, sha256: [0; 32] }, self.context).err()?;
        let first = refusals.first()?;
        Some(format!("{}: {}", first.field, first.reason))
    }
}

fn rule(id: String, group: &Group, members: &[Member], terms: &Terms) -> Rule {
    let mut conditions = group.template.clone();
    if let Some(condition) = group.open.and_then(|open| conditions.get_mut(open)) {
        let mut seen = HashSet::with_capacity(members.len());
        let prefixes = members.iter().flat_map(|member| &member.prefixes).filter(|prefix| seen.insert(**prefix));
        condition.any = Some(prefixes.map(text).collect());
    }
    Rule { id, act: terms.act.clone(), reason: terms.reason.clone(), valid_until: group.until.to_string(), conditions }
}

fn text(prefix: &IpNetwork) -> String {
    let full = if prefix.is_ipv4() { 32 } else { 128 };
    if prefix.prefix() == full { prefix.ip().to_string() } else { prefix.to_string() }
}

/// Writes the rules, and says of each entry that adds nothing that it was merged.
fn finish(entries: &mut [Known], groups: Vec<Group>, terms: &Terms) -> Vec<Rule> {
    let mut adds = vec![false; entries.len()];
    for group in &groups {
        let mut seen = HashSet::with_capacity(group.members.len());
        for (number, member) in group.members.iter().enumerate() {
            let new = if group.open.is_some() {
                // Not `any`: each of them must be remembered.
                member.prefixes.iter().filter(|prefix| seen.insert(**prefix)).count() > 0
            } else {
                number == 0
            };
            if let Some(adds) = adds.get_mut(member.entry) {
                *adds |= new;
            }
        }
    }
    for (known, _) in entries.iter_mut().zip(adds).filter(|(known, adds)| known.fate == Fate::Loaded && !adds) {
        known.fate = Fate::Merged;
    }
    (1..).zip(&groups).map(|(number, group)| rule(format!("i{number}"), group, &group.members, terms)).collect()
}
