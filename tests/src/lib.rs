//! The laboratory: namespaces with a real mirror port, generators and peers for the integration tests and the demo.

pub mod bench;
pub mod clock;
pub mod deployment;
pub mod fuzz;
pub mod generate;
pub mod gwtap;
pub mod kernel;
pub mod lab;
pub mod mirrored;
pub mod nats;
pub mod need;
pub mod oracle;
pub mod packet;
pub mod prometheus;
pub mod random;
pub mod told;
pub mod vm;
pub mod world;
