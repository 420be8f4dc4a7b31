//! Exporter and receiving facility over loopback, with certificates made on the spot.

mod changes;
mod delivery;
mod falsehoods;
mod kit;
mod power;
mod refusals;
