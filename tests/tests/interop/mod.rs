//! The parts of the interoperation tests.

pub(crate) mod expected;
pub(crate) mod kit;
pub(crate) mod pcap;
