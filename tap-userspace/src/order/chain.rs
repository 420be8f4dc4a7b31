//! Extension (Art. 19): an order that names the one before it by hash, and goes on where that one ends.
//!
//! In: orders whose signatures and content were verified. Out: that the later extends the earlier without a gap and changes
//! nothing but its time and its authority, or the field that stands against it. It reads no clock.
//!
//! An extension that changes more is an order of its own: it comes with the configuration, at a start.

use super::window::in_jst;
use super::{Order, OrderError};
use jiff::Timestamp;

/// Whether `next` extends `last`.
///
/// # Errors
/// The field that stands against it.
pub fn extends(last: &Order, next: &Order) -> Result<(), OrderError> {
    match next.measure.previous {
        None => return refuse("measure.previous", "is missing: an extension names the order that it extends"),
        Some(previous) if previous != last.sha256 => {
            let reason = format!("is not {}, the order in force", hex::encode(last.sha256));
            return refuse("measure.previous", reason);
        }
        Some(_) => {}
    }
    let (begins, ended) = (next.measure.not_before, last.measure.not_after);
    if begins > ended {
        let reason = format!("{} leaves a gap: the order it extends ends {}", in_jst(begins), in_jst(ended));
        return refuse("measure.not_before", reason);
    }
    if begins < last.measure.not_before {
        return refuse("measure.not_before", "is before the order that it extends");
    }
    if next.measure.not_after <= ended {
        return refuse("measure.not_after", format!("extends nothing: the order before ends {}", in_jst(ended)));
    }
    let conditions = |order: &Order| {
        order.approval.as_ref().map(|approval| approval.conditions.clone()).map(|mut of| {
            // A bound of the order's own time, kept when the order was read.
            of.ends_by = None;
            of
        })
    };
    for (field, same) in [
        ("measure.id", last.measure.id == next.measure.id),
        ("measure.basis", last.measure.basis == next.measure.basis),
        ("measure.acts", last.measure.acts == next.measure.acts),
        ("approval.conditions", conditions(last) == conditions(next)),
        ("facility", last.facility == next.facility),
        ("selection", last.selection == next.selection),
        ("addresses", last.addresses == next.addresses),
        ("receiving_facility", last.receiving_facility == next.receiving_facility),
    ] {
        if !same {
            return refuse(field, "an extension changes time and authority only; start with this order instead");
        }
    }
    Ok(())
}

/// Whether the measure is in force at `now` under its order and those that extend it.
///
/// # Errors
/// `measure.not_before` or `measure.not_after`.
pub fn is_live(chain: &[Order], now: Timestamp) -> Result<(), OrderError> {
    match (chain.first(), chain.last()) {
        (Some(first), Some(last)) => {
            let whole = super::Measure { not_after: last.measure.not_after, ..first.measure.clone() };
            whole.is_live(now)
        }
        _ => refuse("measure", "there is no order"),
    }
}

fn refuse<T>(field: &str, reason: impl Into<String>) -> Result<T, OrderError> {
    Err(OrderError::field(field, reason))
}
