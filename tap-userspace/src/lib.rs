//! gwtap: the agent on the mirror host and the receiving facility.

pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod directive;
pub mod inspect;
pub mod ipfix;
pub mod keys;
#[cfg(feature = "laboratory")]
pub mod laboratory;
pub mod limits;
pub mod load;
pub mod loader;
pub mod metrics;
pub mod notice;
pub mod order;
pub mod path;
pub mod prefixes;
pub mod privilege;
pub mod receive;
pub mod report;
pub mod run;
pub mod selectors;
pub mod statement;
pub mod transport;
