//! Selector sets: what people write ([`set`]), what a condition is about ([`field`], [`values`]), checking it against the
//! order ([`check`]), two persons' consent ([`activation`]) and its end
//! ([`withdrawal`]); how other people's indicators become a set ([`import`]).

pub mod activation;
pub mod check;
mod count;
pub mod edited;
pub mod field;
pub mod import;
mod payload;
pub mod rule;
pub mod sealed;
pub mod set;
pub mod values;
pub mod versions;
pub mod withdrawal;

pub use activation::Activation;
pub use check::CheckContext;
pub use rule::{CheckedRule, CheckedSet, PayloadValues};
pub use set::{SelectorError, SelectorSet};
