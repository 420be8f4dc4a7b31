//! What a virtual machine of the tests is told and what it reports: the two texts that its first process and the machine
//! outside exchange. The plan goes in as a file of the initial RAM disk, the report comes out of the second serial port.

pub mod plan;
pub mod report;
