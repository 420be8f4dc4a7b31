//! What crosses the kernel line ([`abi`]) and what is decided about a packet ([`path`]).
//!
//! This crate is compiled twice from the same source: into the XDP program for `bpfel-unknown-none` and into the
//! host's programs. The host build is the oracle of the kernel build. It never sees a clock, a socket, a file or a key:
//! whatever it needs of the world it asks through the traits in [`path`].
#![no_std]

pub mod abi;
pub mod limits;
pub mod path;
