//! The laboratory: capture files run through the decision core, in the kernel or on the host.
//!
//! In: capture files, selector sets without activation, unsigned orders. Out: one line a packet. It reads files only:
//! nothing here opens an interface, a ring or a socket, and the mirror host's package is built without it. That is why
//! it may show header fields of packets that no rule selects.

pub mod capture;
pub mod cpu;
pub mod explain;
pub mod line;
pub mod replay;
pub mod setup;
