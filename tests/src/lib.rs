//! The laboratory: namespaces with a real mirror port, generators and peers for the integration tests and the demo.

pub mod gwtap;
pub mod lab;
pub mod need;
