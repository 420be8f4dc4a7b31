//! STIX patterns, as far as a packet's header shows what they ask for.
//!
//! In: a pattern's text. Out: rules, each a conjunction of conditions; or what in the pattern is not of the subset:
//!
//! - one observation, or several joined by OR; within one, comparisons joined by AND and OR, with parentheses. OR becomes
//!   several rules.
//! - `ipv4-addr:value`, `ipv6-addr:value`, `network-traffic:src_ref.value`, `dst_ref.value` and their `.type`,
//!   `src_port`, `dst_port`, `protocols[*]`, `src_payload_ref.payload_bin`, `dst_payload_ref.payload_bin`
//! - `=`, `IN`, and `ISSUBSET` for addresses
//!
//! Bounds: the text's length, the depth of parentheses, the rules of one pattern.

mod lexer;
mod parse;
mod rules;

pub use rules::{Rules, read};
