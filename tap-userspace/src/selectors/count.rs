//! What counts as a condition (Arts 22(2) and 35(2), the strict reading of this project): in come a rule's conditions,
//! out go the kinds that count, or why they are not enough.
//!
//! - A condition whose values cover over 1/256 of an address family, or over half of all ports, lengths or protocols,
//!   judged on their union, is trivial: it may stand, it does not count. So does a condition that every packet satisfies.
//! - Source and destination are one kind. Protocol does not count beside ports or flags, which imply it.
//! - Under Arts 32 and 33 only what the order's approved list holds counts: the facility as source (32) or as
//!   destination (33), and approved machine information.
//! - A payload condition needs an address or port condition beside it that is not trivial: no search of all traffic.
//! - At least one counted condition is the address of a facility or command information.

use super::check::{CheckContext, OrderTerms};
use super::field::{Field, Item};
use super::values::Values;
use crate::order::Basis;
use crate::prefixes;
use std::collections::BTreeSet;
use tap_common::abi::rule::ConditionKind;

/// A condition that has been read.
pub(super) struct Weighed {
    /// Index in the rule.
    pub(super) index: usize,
    /// Item.
    pub(super) item: Item,
    /// Field.
    pub(super) field: Field,
    /// Values.
    pub(super) values: Values,
}

/// Why a rule's conditions are not enough.
pub(super) struct TooFew {
    /// The condition that should have counted, if one is to blame.
    pub(super) condition: Option<usize>,
    /// Its field, or `conditions`.
    pub(super) field: &'static str,
    /// Why.
    pub(super) reason: String,
}

/// The kinds that count, sorted, each once.
pub(super) fn counted_kinds(conditions: &[Weighed], context: &CheckContext) -> Result<Vec<ConditionKind>, TooFew> {
    let has = |kind| conditions.iter().any(|condition| condition.field.kind() == kind);
    if let Some(payload) = conditions.iter().find(|condition| condition.field.kind() == ConditionKind::Payload)
        && !conditions.iter().any(narrows)
    {
        return Err(TooFew {
            condition: Some(payload.index),
            field: payload.field.name(),
            reason: "needs an address or port condition beside it that is not trivial".to_owned(),
        });
    }
    let implies_protocol = has(ConditionKind::Port) || has(ConditionKind::TcpFlags);
    let worth: Vec<(&Weighed, Option<&str>)> =
        conditions.iter().map(|condition| (condition, why_not(condition, implies_protocol, context))).collect();
    let counted = || worth.iter().filter(|(_, why_not)| why_not.is_none()).map(|(condition, _)| condition);
    let kinds: BTreeSet<ConditionKind> = counted().map(|condition| condition.field.kind()).collect();
    let needed = usize::from(context.conditions_min);
    let counts = kinds.len();
    let not_counted = worth.iter().find_map(|(condition, why_not)| Some((*condition, (*why_not)?)));
    if counts < needed {
        let reason = format!("{counts} counted condition(s), {needed} needed");
        return Err(blame(not_counted, reason));
    }
    if !counted().any(|condition| matches!(condition.item, Item::FacilityAddress | Item::Command)) {
        let is_facility = |condition: &Weighed| matches!(condition.item, Item::FacilityAddress | Item::Command);
        let to_blame = not_counted.filter(|(condition, _)| is_facility(condition));
        return Err(blame(to_blame, "no counted condition is of item facility-address or command".to_owned()));
    }
    Ok(kinds.into_iter().collect())
}

/// Whether a condition says whose packets' payload is looked at.
fn narrows(condition: &Weighed) -> bool {
    matches!(condition.field.kind(), ConditionKind::Address | ConditionKind::Port) && !condition.values.is_trivial()
}

fn blame(not_counted: Option<(&Weighed, &str)>, reason: String) -> TooFew {
    match not_counted {
        Some((condition, why_not)) => TooFew {
            condition: Some(condition.index),
            field: condition.field.name(),
            reason: format!("does not count, it {why_not}; {reason}"),
        },
        None => TooFew { condition: None, field: "conditions", reason },
    }
}

/// Why a condition does not count; nothing if it does.
fn why_not(condition: &Weighed, implies_protocol: bool, context: &CheckContext) -> Option<&'static str> {
    if condition.values.is_trivial() {
        return Some(match condition.field.kind() {
            ConditionKind::Address => "is trivial: more than 1/256 of an address family",
            ConditionKind::Port | ConditionKind::Protocol | ConditionKind::IpLength => {
                "is trivial: more than half of all there are"
            }
            ConditionKind::TcpFlags | ConditionKind::Fragment | ConditionKind::Payload => {
                "is trivial: every packet satisfies it"
            }
        });
    }
    if condition.field.kind() == ConditionKind::Protocol && implies_protocol {
        return Some("stands beside ports or flags, which imply it");
    }
    let order = context.order.as_ref().filter(|_| context.basis.has_approved_list())?;
    if is_approved(condition, context.basis, order) { None } else { Some("is not on the order's approved list") }
}

/// Whether the order's approved list holds everything the condition names.
fn is_approved(condition: &Weighed, basis: Basis, order: &OrderTerms) -> bool {
    if let Values::Addresses { prefixes, .. } = &condition.values {
        let side = if basis == Basis::ForeignToDomestic { Field::SourceAddress } else { Field::DestinationAddress };
        return condition.field == side
            && condition.item == Item::FacilityAddress
            && !prefixes::leaves(prefixes, &order.approved_facilities);
    }
    order
        .approved_machine_information
        .iter()
        .any(|(field, approved)| *field == condition.field && condition.values.is_within(approved))
}
