//! Verdict: what became of one packet. It is counted once; it is never the action (see the two modes of `tap-ebpf`).

use super::parse::Headers;
use crate::abi::counter::{
    FACILITY_VERDICT_NAMES, FACILITY_VERDICTS, FacilityVerdict, REASON_NAMES, Reason, VERDICT_NAMES, Verdict,
};
use crate::abi::rule::RuleMask;

/// Any verdict as one number: the facility's first, then the measure's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Outcome(pub u8);

impl Outcome {
    /// A facility verdict.
    #[inline(always)]
    #[must_use]
    pub const fn facility(verdict: FacilityVerdict) -> Self {
        Self(verdict as u8)
    }

    /// A measure's verdict.
    #[inline(always)]
    #[must_use]
    pub const fn measure(verdict: Verdict) -> Self {
        Self(FACILITY_VERDICTS as u8 + verdict as u8)
    }

    /// Name as metrics and `replay` show it; `None` for a number that is no verdict.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let number = usize::from(self.0);
        FACILITY_VERDICT_NAMES
            .get(number)
            .or_else(|| VERDICT_NAMES.get(number.checked_sub(FACILITY_VERDICTS)?))
            .copied()
    }
}

/// [`Decision::reason`] when there is none.
pub const NO_REASON: u8 = 255;

/// Everything the stages found out about one packet. A laboratory program shows it whole; any other keeps it to itself
/// unless the packet is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Decision {
    /// Header fields; meaningful when `parsed` is 1.
    pub headers: Headers,
    /// Rules that matched; after the address and condition checks.
    pub rules: RuleMask,
    /// Time of the decision in the program's clock: exact for a selected packet, else cached.
    pub time_ns: u64,
    /// Bytes on the line.
    pub line_bytes: u32,
    /// The verdict.
    pub outcome: Outcome,
    /// A [`Reason`] as number, or [`NO_REASON`].
    pub reason: u8,
    /// A [`super::direction::Direction`] as number; meaningful when a rule matched or the program is a laboratory's.
    pub direction: u8,
    /// 1 when the headers were read.
    pub parsed: u8,
}

const _: () = assert!(size_of::<Decision>() == 104);

impl Decision {
    /// No verdict yet.
    #[inline(always)]
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: Headers::default(),
            rules: [0; 4],
            time_ns: 0,
            line_bytes: 0,
            outcome: Outcome::facility(FacilityVerdict::NoLease),
            reason: NO_REASON,
            direction: 0,
            parsed: 0,
        }
    }

    /// Name of the reason, if there is one.
    #[must_use]
    pub fn reason_name(&self) -> Option<&'static str> {
        REASON_NAMES.get(usize::from(self.reason)).copied()
    }
}

impl Default for Decision {
    fn default() -> Self {
        Self::new()
    }
}

/// Which verdict a reason belongs to.
#[inline(always)]
#[must_use]
pub fn verdict_of(reason: Reason) -> FacilityVerdict {
    if reason as u8 >= Reason::NotIp as u8 { FacilityVerdict::Unsupported } else { FacilityVerdict::Malformed }
}
