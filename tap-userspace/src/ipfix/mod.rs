//! IPFIX (RFC 7011) as the records leave the host and as they lie on disk (RFC 5655): the information elements, our
//! templates, an encoder for what we send and a decoder for what anybody sends.
//!
//! In: [`crate::path::PseudonymisedRecord`] and octets of a peer. Out: sets, messages, typed records. It must never see
//! a clear address that the order does not clear: the only record type it takes is the pseudonymised one. Everything is
//! pure: no socket, no clock.

pub mod decode;
pub mod element;
pub mod encode;
pub mod message;
pub mod selection;
pub mod template;
pub mod time;
pub mod typed;

#[cfg(test)]
mod tests;
