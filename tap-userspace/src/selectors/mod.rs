//! Selector sets: parsing, checking against the order, activation.

pub mod check;
pub mod field;
pub mod rule;
pub mod values;

pub use rule::{CheckedRule, CheckedSet};
