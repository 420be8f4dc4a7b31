//! Random numbers from a seed that is printed, so that any run can be repeated.

use std::ops::Range;

/// The environment variable that repeats a run: the seed it printed.
pub const SEED: &str = "GWTAP_SEED";

/// SplitMix64: small, and good enough to choose test packets.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A sequence that is a function of `seed` alone.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The seed that `GWTAP_SEED` gives, or a fresh one; prints it.
    #[must_use]
    pub fn printed(what: &str) -> Self {
        let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(fresh);
        println!("{what}: {SEED}={seed}");
        Self::from_seed(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `range`; its start when the range is empty.
    pub fn below(&mut self, range: Range<u64>) -> u64 {
        match range.end.saturating_sub(range.start) {
            0 => range.start,
            width => range.start + self.bits() % width,
        }
    }

    /// The same for lengths and indices.
    pub fn index(&mut self, range: Range<usize>) -> usize {
        usize::try_from(self.below(range.start as u64..range.end as u64)).unwrap_or(range.start)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.bits().to_le_bytes()[0]
    }

    /// A 16-bit number.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(0..100) < percent
    }

    /// One of `items`.
    pub fn pick<T: Copy, const N: usize>(&mut self, items: [T; N]) -> T {
        const { assert!(N > 0) };
        let chosen = self.index(0..N);
        #[expect(clippy::indexing_slicing, reason = "the index is below N, and N is not 0")]
        items[chosen]
    }

    /// `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

fn fresh() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // Tests that start in the same instant differ by their process.
    now.as_secs().rotate_left(32) ^ u64::from(now.subsec_nanos()) ^ (u64::from(std::process::id()) << 40)
}
