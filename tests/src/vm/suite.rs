//! What runs inside a machine: the tests that speak to the kernel. Others decide the same on every kernel (the decision's
//! cases and properties, the oracle's, the verbs' refusals) or have a foreign program as their judge (IPFIX, units, metrics):
//! those run on this machine alone.

/// A test program of `tests/tests`, or the library's own tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of the file in `tests/tests`; [`LIBRARY`] is the library.
    pub name: &'static str,
    /// Which of its tests; all if empty.
    pub filter: &'static [&'static str],
    /// Whether a second CPU could change what it shows: these run with two as well.
    pub with_two_cpus: bool,
}

/// The tests of the library itself.
pub const LIBRARY: &str = "lab";

const fn member(name: &'static str, with_two_cpus: bool) -> Member {
    Member { name, filter: &[], with_two_cpus }
}

/// In the order in which they run.
pub const SUITE: &[Member] = &[
    // Namespaces, links, mirror and traffic: what the other tests stand on.
    Member { name: LIBRARY, filter: &["lab::"], with_two_cpus: false },
    // What each kernel's verifier made of the program.
    member("verified_instructions", false),
    // The program decides on every kernel as on the host.
    member("host_equals_kernel", false),
    // Drivers and ways of attaching; queues and CPUs.
    member("attach", true),
    // Pins, links, leases: the kernel's objects that outlive an agent.
    member("generations", true),
    // Mirror transports as the kernel itself makes them.
    member("namespaces_transport", false),
    // Per-CPU credit and the bucket that all CPUs share.
    member("cap_kernel", true),
    // Frames that pass the program.
    member("inline", false),
    // The programs as they are deployed.
    member("namespaces_end_to_end", true),
    // Landlock is another one on each kernel; what system calls are made is the C library's, and the same.
    Member { name: "confined", filter: &["files_and_ports", "a_call_outside", "threads_start"], with_two_cpus: false },
    // An agent that is killed or asked to end; refusals are the same on every kernel.
    Member { name: "faults", filter: &["a_killed_agent", "an_agent_that"], with_two_cpus: false },
];
