//! Checking a selector set: in comes a set as it was read and what the order says, out goes what may be compiled for the
//! kernel, or every reason against it.
//!
//! Control flow only: what a condition is worth stands in [`super::count`], what its values are in [`super::values`].
//! Refusals name rule, condition and field, never a value.

use super::count::{self, Weighed};
use super::field::{Field, Item};
use super::rule::{AddressItem, AddressValues, CheckedRule, CheckedSet};
use super::set::{Condition, Rule, SelectorSet};
use super::values::Values;
use crate::limits::ID_BYTES_MAX;
use crate::order::{Basis, Order};
use crate::prefixes;
use crate::prefixes::country::CountryTable;
use ipnetwork::IpNetwork;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fmt;
use tap_common::abi::rule::ConditionKind;
use tap_common::limits::RULES_MAX;

/// What the order says about the sets that may be activated under it.
#[derive(Clone, Debug)]
pub struct CheckContext {
    /// Legal basis: how many conditions count and which list they must be on.
    pub basis: Basis,
    /// Counted conditions a rule needs: the basis's, or more where the approval says so.
    pub conditions_min: u8,
    /// Rules a set may have: the ABI's, or fewer where the approval says so.
    pub rules_max: usize,
    /// What only an order can say; in the laboratory there is none.
    pub order: Option<OrderTerms>,
    /// The table that tells domestic addresses; without it conditions are not asked whether they name any.
    pub country: Option<CountryTable>,
}

/// Terms of an order that a set must keep.
#[derive(Clone, Debug)]
pub struct OrderTerms {
    /// Id of the measure.
    pub measure: String,
    /// The selection standard that the order names.
    pub standard: String,
    /// Target acts.
    pub acts: Vec<String>,
    /// First moment of the order.
    pub not_before: Timestamp,
    /// First moment after the order.
    pub not_after: Timestamp,
    /// Arts 32 and 33: approved facilities.
    pub approved_facilities: Vec<IpNetwork>,
    /// Arts 32 and 33: approved machine information.
    pub approved_machine_information: Vec<(Field, Values)>,
    /// Agreements: the party's prefixes.
    pub party_prefixes: Vec<IpNetwork>,
    /// Offsets that payload conditions may look at.
    pub payload_offsets: Vec<u16>,
    /// Prefixes that no address condition may touch.
    pub prefixes_excluded: Vec<IpNetwork>,
    /// Fields that no condition may be about.
    pub fields_excluded: Vec<Field>,
    /// Whether address conditions may name domestic addresses.
    pub domestic_conditions: bool,
}

impl CheckContext {
    /// What an order says. Add the country table where the set is to be loaded: an order that does not allow domestic
    /// addresses in conditions can only be kept with it.
    #[must_use]
    pub fn from_order(order: &Order) -> Self {
        let conditions = order.approval.as_ref().map(|approval| &approval.conditions);
        let rules_max = conditions.and_then(|conditions| conditions.rules_at_most);
        Self {
            basis: order.measure.basis,
            conditions_min: order.conditions_min(),
            rules_max: rules_max.map_or(RULES_MAX, |most| usize::try_from(most).unwrap_or(RULES_MAX).min(RULES_MAX)),
            order: Some(OrderTerms {
                measure: order.measure.id.clone(),
                standard: order.selection.standard.clone(),
                acts: order.measure.acts.clone(),
                not_before: order.measure.not_before,
                not_after: order.measure.not_after,
                approved_facilities: order.selection.approved_facilities.clone(),
                approved_machine_information: order.selection.approved_machine_information.clone(),
                party_prefixes: order.selection.party_prefixes.clone(),
                payload_offsets: order.selection.payload_offsets.clone(),
                prefixes_excluded: order.prefixes_excluded().to_vec(),
                fields_excluded: conditions.map(|conditions| conditions.fields_excluded.clone()).unwrap_or_default(),
                domestic_conditions: order.addresses.domestic_conditions,
            }),
            country: None,
        }
    }

    /// For `replay`: a basis alone; measure, acts, times and approved lists are not asked for.
    #[must_use]
    pub fn laboratory(basis: Basis) -> Self {
        Self { basis, conditions_min: basis.conditions_min(), rules_max: RULES_MAX, order: None, country: None }
    }

    /// The same, with the table that tells domestic addresses.
    #[must_use]
    pub fn with_country_table(mut self, table: CountryTable) -> Self {
        self.country = Some(table);
        self
    }
}

/// One reason against a set: where, and which rule it breaks. Holds no value of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Id of the rule, if it is about one.
    pub rule: Option<String>,
    /// Index of the condition in its rule, if it is about one.
    pub condition: Option<usize>,
    /// Key or field it is about.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = &self.rule {
            write!(f, "rule {rule:?}: ")?;
        }
        match self.condition {
            Some(index) => write!(f, "conditions[{index}] ({}): {}", self.field, self.reason),
            None => write!(f, "{}: {}", self.field, self.reason),
        }
    }
}

impl std::error::Error for Refusal {}

/// Checks a set against what the order says.
///
/// # Errors
/// Every reason against it; there is at least one.
pub fn check(set: &SelectorSet, context: &CheckContext) -> Result<CheckedSet, Vec<Refusal>> {
    let content = &set.content;
    let mut refusals = Vec::new();
    let mut refuse = |field: &str, reason: String| {
        refusals.push(Refusal { rule: None, condition: None, field: field.to_owned(), reason });
    };
    if let Some(order) = &context.order {
        if content.measure != order.measure {
            refuse("measure", format!("{:?} is another measure than the order's {:?}", content.measure, order.measure));
        }
        if content.standard != order.standard {
            refuse("standard", format!("{:?} is not the order's {:?}", content.standard, order.standard));
        }
    }
    let overrides = content.provenance.iter().flat_map(|provenance| &provenance.overrides);
    for (index, word) in overrides.enumerate() {
        if word.reason.trim().is_empty() || word.by.trim().is_empty() {
            let reason = "an entry of a warning list needs a person's name (by) and reason".to_owned();
            refuse(&format!("provenance.overrides[{index}]"), reason);
        }
    }
    if content.rules.is_empty() {
        refuse("rules", "the set has none".to_owned());
    }
    if content.rules.len() > context.rules_max {
        refuse("rules", format!("{} are more than the {} allowed", content.rules.len(), context.rules_max));
    }
    let mut ids = BTreeSet::new();
    for rule in &content.rules {
        if !ids.insert(rule.id.as_str()) {
            refuse("rules", format!("id {:?} stands twice", rule.id));
        }
    }
    let mut rules = Vec::with_capacity(content.rules.len());
    let mut ends = Vec::with_capacity(content.rules.len());
    for rule in &content.rules {
        let mut checker = Checker { context, rule, refusals: &mut refusals };
        ends.extend(checker.terms());
        rules.extend(checker.conditions());
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let scope = match (&context.order, context.basis) {
        (Some(order), Basis::Agreement) => Some(order.party_prefixes.clone()),
        _ => None,
    };
    Ok(CheckedSet {
        measure: content.measure.clone(),
        version: content.version,
        sha256: set.sha256,
        rules,
        scope,
        ends,
    })
}

/// Checks one rule.
struct Checker<'a> {
    context: &'a CheckContext,
    rule: &'a Rule,
    refusals: &'a mut Vec<Refusal>,
}

impl Checker<'_> {
    fn refuse(&mut self, condition: Option<usize>, field: &str, reason: impl Into<String>) {
        self.refusals.push(Refusal {
            rule: Some(self.rule.id.clone()),
            condition,
            field: field.to_owned(),
            reason: reason.into(),
        });
    }

    /// Everything but the conditions; gives the moment until which the rule is wanted.
    fn terms(&mut self) -> Option<Timestamp> {
        let rule = self.rule;
        if rule.id.is_empty() || rule.id.len() > ID_BYTES_MAX || rule.id.chars().any(char::is_control) {
            self.refuse(None, "id", format!("must have 1 to {ID_BYTES_MAX} bytes and no control characters"));
        }
        if rule.reason.trim().is_empty() {
            self.refuse(None, "reason", "is empty: say why the rule is needed");
        }
        let order = self.context.order.as_ref()?;
        if !order.acts.contains(&rule.act) {
            self.refuse(None, "act", "is not one of the order's target acts");
        }
        let Ok(valid_until) = rule.valid_until.parse::<Timestamp>() else {
            self.refuse(None, "valid_until", "is not a moment with its offset (2026-12-01T00:00:00+09:00)");
            return None;
        };
        if valid_until <= order.not_before || valid_until > order.not_after {
            self.refuse(None, "valid_until", "does not lie within the order");
        }
        Some(valid_until)
    }

    /// The conditions, and whether enough of them count.
    fn conditions(&mut self) -> Option<CheckedRule> {
        let rule = self.rule;
        let before = self.refusals.len();
        let mut weighed: Vec<Weighed> = Vec::with_capacity(rule.conditions.len());
        for (index, condition) in rule.conditions.iter().enumerate() {
            let field = condition.field;
            if weighed.iter().any(|other| other.field == field) {
                self.refuse(
                    Some(index),
                    field.name(),
                    "this field stands twice in the rule; alternatives go into `any`",
                );
                continue;
            }
            match read(condition).and_then(|values| self.permitted(field, &values).map(|()| values)) {
                Ok(values) => weighed.push(Weighed { index, item: condition.item, field, values }),
                Err(reason) => self.refuse(Some(index), field.name(), reason),
            }
        }
        if self.refusals.len() > before {
            return None;
        }
        match count::counted_kinds(&weighed, self.context) {
            Ok(counted) => Some(assemble(rule, weighed, counted)),
            Err(reason) => {
                let condition = reason.condition;
                self.refuse(condition, reason.field, reason.reason);
                None
            }
        }
    }

    /// What the order forbids whatever it counts for.
    fn permitted(&self, field: Field, values: &Values) -> Result<(), String> {
        let Some(order) = &self.context.order else { return Ok(()) };
        if order.fields_excluded.contains(&field) {
            return Err("approval.conditions.fields_excluded forbids this field".to_owned());
        }
        if let Values::Payload(payload) = values
            && !order.payload_offsets.iter().any(|offset| u32::from(*offset) == payload.offset)
        {
            return Err("offset is not one of the order's selection.payload_offsets".to_owned());
        }
        let Values::Addresses { prefixes, .. } = values else { return Ok(()) };
        if !prefixes::intersect(prefixes, &order.prefixes_excluded).is_empty() {
            return Err("holds addresses that approval.conditions.prefixes_excluded excludes".to_owned());
        }
        let names_domestic = self.context.country.as_ref().is_some_and(|table| table.names_domestic(prefixes));
        if names_domestic && !order.domestic_conditions {
            return Err(
                "holds domestic addresses; addresses.domestic_conditions of the order does not allow them".into()
            );
        }
        Ok(())
    }
}

/// Reads a condition's values; the field binds the item (Art. 22(2)).
fn read(condition: &Condition) -> Result<Values, String> {
    let items: &[Item] = match condition.field.kind() {
        ConditionKind::Address => &[Item::FacilityAddress, Item::Aid],
        ConditionKind::Payload => &[Item::Command],
        ConditionKind::Port
        | ConditionKind::Protocol
        | ConditionKind::TcpFlags
        | ConditionKind::IpLength
        | ConditionKind::Fragment => &[Item::Aid],
    };
    if !items.contains(&condition.item) {
        let names: Vec<_> = items.iter().map(|item| item.name()).collect();
        return Err(format!("item {} does not go with this field; it takes {}", condition.item, names.join(" or ")));
    }
    Values::parse(condition.field, condition.written())
}

/// Puts each condition into its place. Every field stands once at most.
fn assemble(rule: &Rule, weighed: Vec<Weighed>, counted: Vec<ConditionKind>) -> CheckedRule {
    let mut checked = CheckedRule { counted, ..CheckedRule::without_conditions(rule.id.clone(), rule.act.clone()) };
    for condition in weighed {
        let is_facility = condition.item == Item::FacilityAddress;
        match condition.values {
            Values::Addresses { prefixes, entries } => {
                let item = if is_facility { AddressItem::FacilityAddress } else { AddressItem::Aid };
                let values = Some(AddressValues { item, prefixes, entries });
                if condition.field == Field::SourceAddress {
                    checked.source_address = values;
                } else if condition.field == Field::DestinationAddress {
                    checked.destination_address = values;
                } else {
                    checked.address = values;
                }
            }
            Values::Ports(ranges) => {
                if condition.field == Field::SourcePort {
                    checked.source_port = Some(ranges);
                } else if condition.field == Field::DestinationPort {
                    checked.destination_port = Some(ranges);
                } else {
                    checked.port = Some(ranges);
                }
            }
            Values::Protocols(protocols) => checked.protocol = Some(protocols),
            Values::TcpFlags(flags) => checked.tcp_flags = Some(flags),
            Values::IpLength(range) => checked.ip_length = Some(range),
            Values::Fragments(states) => checked.fragment = Some(states),
            Values::Payload(payload) => checked.payload = Some(payload),
        }
    }
    checked
}

#[cfg(test)]
mod tests;
