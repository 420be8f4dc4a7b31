//! What bounds a machine of the tests.

use std::time::Duration;

/// How long a machine may take, boot included. Software emulation on a busy CI machine needs half of it, beside another
/// machine; one without a report by then has hung.
pub const RUN_MAX: Duration = Duration::from_secs(1_200);

/// Memory of a machine: twice what the unpacked disk and the largest test take.
pub const MEMORY_MEGABYTES: u32 = 1024;

/// Most CPUs of a machine: more are slower than real ones would be by so much that tests would measure that.
pub const CPUS_MAX: u8 = 2;

/// The kernels that every change is tested on: the oldest that is maintained and the newest. The others are for a release.
pub const CI_KERNELS: [&str; 2] = ["6.1", "7.3"];
