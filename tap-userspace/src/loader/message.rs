//! The fixed set of messages between agent and loader. Anything else ends the loader.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tap_common::abi::policy::{CapPolicy, Lease};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What the agent asks for on the quick channel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Once, first: verify these orders (by slot) and make the maps, or take them over.
    Open {
        /// Id of the host key, told before the agent has spoken to anybody.
        host_key: String,
        /// By slot, the order and those that extend it, as they were signed.
        orders: Vec<Vec<String>>,
    },
    /// A measure's orders, with one that extends them.
    Extend {
        /// The measure's slot.
        slot: u32,
        /// All of them, as they were signed.
        orders: Vec<String>,
    },
    /// A directive of the Commission's: what it takes away is gone at once, and stays away while this loader runs.
    Directive {
        /// As it was signed.
        note: String,
    },
    /// Put the prepared generation onto the mirror port.
    Swap { generation: u64 },
    /// Write a slot's lease.
    SetLease { slot: u32, not_before_ns: u64, deadline_ns: u64 },
    /// Write a slot's sampling threshold.
    SetSampling { slot: u32, threshold: u64 },
    /// Write a cap; no slot: the facility's.
    SetCap { slot: Option<u32>, epoch_credit_bytes: u64, chunk_bytes: u64 },
    /// Read the counters.
    Counters,
    /// Pass on the program's reason codes.
    FlushLog,
    /// Take the program off and remove every pin.
    Detach,
}

/// What the agent asks for on the slow channel, beside leases that are renewed meanwhile.
#[derive(Serialize, Deserialize)]
pub(super) enum Work {
    /// Verify, compile and load a generation, for the next swap.
    Prepare(Prepare),
    /// The same, for a swap that may be asked for later.
    Stage(Prepare),
    /// The staged generation is the one for the next swap, if it is this one and would be verified the same again.
    Take { ticket: Ticket },
    /// Nothing is staged any more.
    Forget,
}

/// A generation.
#[derive(Serialize, Deserialize)]
pub(super) struct Prepare {
    /// The number that its records carry.
    pub(super) generation: u64,
    /// Seed of the flow hash.
    pub(super) seed: u64,
    /// Of every measure, by slot.
    pub(super) measures: Vec<Documents>,
}

/// What was signed for one measure. Its debug form shows nothing.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Documents {
    /// The order and those that extend it.
    pub orders: Vec<String>,
    /// The selector set; empty where it is withdrawn.
    pub set: String,
    /// The set's activation, or the withdrawal.
    pub activation: String,
}

impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Documents(redacted)")
    }
}

/// Names a generation by everything that it is made of: SHA-256.
pub type Ticket = [u8; 32];

/// The ticket of a generation. Of every measure, by slot: its orders, its activation or withdrawal, its set's digest.
pub fn ticket<'a>(
    generation: u64,
    seed: u64,
    measures: impl Iterator<Item = (&'a [String], &'a str, [u8; 32])>,
) -> Ticket {
    let mut hash = Sha256::new();
    let text = |hash: &mut Sha256, text: &str| {
        // The length keeps two texts from being read as two others.
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    hash.update(b"gwtap generation 1\n");
    hash.update(generation.to_le_bytes());
    hash.update(seed.to_le_bytes());
    for (orders, activation, set_sha256) in measures {
        hash.update((orders.len() as u64).to_le_bytes());
        orders.iter().for_each(|order| text(&mut hash, order));
        text(&mut hash, activation);
        hash.update(set_sha256);
    }
    hash.finalize().into()
}

/// What the loader answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Done.
    Done,
    /// What was asked for is not staged.
    NotStaged,
    /// The maps are there; the rings come as descriptors.
    Opened { abi_version: u32, instance: [u8; 16] },
    /// A generation decides.
    Swapped { id: u32, tag: u64, verified_instructions: Option<u32>, digest: [u8; 32], generic: bool },
    /// Counters, word by word, and when they were read, by the clock of `CLOCK_BOOTTIME`.
    Counters { words: Vec<u64>, read_boot_ns: u64 },
    /// The rules refuse it.
    Refused { reason: String },
    /// The machine did not do it.
    Failed { reason: String },
}

impl Request {
    pub(super) fn lease(slot: u32, lease: Lease) -> Self {
        Self::SetLease { slot, not_before_ns: lease.not_before_ns, deadline_ns: lease.deadline_ns }
    }

    pub(super) fn cap(slot: Option<u32>, policy: CapPolicy) -> Self {
        Self::SetCap { slot, epoch_credit_bytes: policy.epoch_credit_bytes, chunk_bytes: policy.chunk_bytes }
    }
}
