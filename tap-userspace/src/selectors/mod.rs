//! Selector sets: parsing, checking against the order, activation.

pub mod rule;
