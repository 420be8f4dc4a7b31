//! How rules are laid out for the kernel: every dimension of the conditions yields a mask of the rules it satisfies.

use crate::limits::RULE_WORDS;

/// One bit per rule of a generation.
pub type RuleMask = [u64; RULE_WORDS];

/// What a value (an address, a port) satisfies, by the side it stands on.
///
/// Rules without a condition in that place have their bit set in it, so that the AND of all places is the answer.
/// Class 0 is the class of everything that no condition names, and of a field that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ClassMasks {
    /// Rules satisfied when the value stands at the source.
    pub source: RuleMask,
    /// Rules satisfied when the value stands at the destination.
    pub destination: RuleMask,
    /// Rules whose condition on either side is satisfied.
    pub either: RuleMask,
}

/// Kinds of condition as Art. 22(2) counts them; the number is the index in [`super::policy::MeasurePolicy::counted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ConditionKind {
    /// An address, on whichever side.
    Address = 0,
    /// A port, on whichever side.
    Port = 1,
    /// The protocol number.
    Protocol = 2,
    /// TCP flags.
    TcpFlags = 3,
    /// IP length.
    IpLength = 4,
    /// Fragment state.
    Fragment = 5,
    /// Payload bytes.
    Payload = 6,
}
