//! Parse: from the frame's bytes to the header fields that conditions may name.

/// Fragment state of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Fragment {
    /// Not a fragment.
    #[default]
    None = 0,
    /// The first fragment: it has the upper layer's header.
    First = 1,
    /// A later fragment: it has no ports and no TCP flags.
    Later = 2,
}

/// Names of the fragment states, by number.
pub const FRAGMENT_NAMES: [&str; 3] = ["none", "first", "later"];
