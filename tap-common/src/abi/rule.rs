//! How rules are laid out for the kernel: every dimension of the conditions yields a mask of the rules it satisfies.

use crate::limits::{RULE_WORDS, SIGNATURE_BYTES_MAX};

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

/// Kinds of condition as Art. 22(2) counts them; the number is the index in [`super::policy::Policy::counted`].
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

/// Eight bytes of a signature: `(bytes at offset) & mask == value`, both as big-endian numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SignatureWord {
    /// Which bits count.
    pub mask: u64,
    /// What they must be; bits outside the mask are 0.
    pub value: u64,
}

/// Words of a signature: whole ones from its beginning, then one that ends with its last byte.
pub const SIGNATURE_WORDS: usize = SIGNATURE_BYTES_MAX / 8;

/// A payload signature (command information, Art. 22(2)(ii)): up to 32 masked bytes at an offset of the upper layer's
/// payload. Contents are selectors: the debug form shows none.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Signature {
    /// Rules that have this condition.
    pub rules: RuleMask,
    /// The words, in order; those behind `words_used` are 0.
    pub words: [SignatureWord; SIGNATURE_WORDS],
    /// Where each word begins, in bytes from the payload's beginning; the last one may begin before it, for it ends with
    /// the signature.
    pub offsets: [i32; SIGNATURE_WORDS],
    /// Words in use, 1 to [`SIGNATURE_WORDS`]; 0 matches nothing.
    pub words_used: u32,
    /// First byte behind the signature, from the payload's beginning; it must be present.
    pub end: u32,
}

impl core::fmt::Debug for Signature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Signature").finish_non_exhaustive()
    }
}

impl core::fmt::Debug for SignatureWord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SignatureWord").finish_non_exhaustive()
    }
}

const _: () = assert!(size_of::<Signature>() == 32 + 16 * SIGNATURE_WORDS + 4 * SIGNATURE_WORDS + 8);
