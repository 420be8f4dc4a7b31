//! Verdict: what became of one packet. It is counted once; it is never the action (see the two modes of `tap-ebpf`).

use super::direction::Direction;
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
    /// Bytes of the captured frame, mirror transport removed.
    pub frame_bytes: u32,
    /// Slots that were live, as bits.
    pub live: u8,
    /// Slots whose sample the flow is in.
    pub sampled: u8,
    /// Slots whose cap admitted the packet.
    pub admitted: u8,
    /// Slots with a rule that matched.
    pub matched: u8,
    /// Slots that select the packet: a record is made for each.
    pub selected: u8,
    /// The facility's verdict, or that of the first live slot.
    pub outcome: Outcome,
    /// A [`Reason`] as number, or [`NO_REASON`].
    pub reason: u8,
    /// A [`super::direction::Direction`] as number; meaningful when a rule matched.
    pub direction: u8,
    /// 1 when the headers were read.
    pub parsed: u8,
    /// Always 0.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<Decision>() == 120);

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
            frame_bytes: 0,
            live: 0,
            sampled: 0,
            admitted: 0,
            matched: 0,
            selected: 0,
            outcome: Outcome::facility(FacilityVerdict::NoLease),
            reason: NO_REASON,
            direction: 0,
            parsed: 0,
            reserved: [0; 7],
        }
    }

    /// Forgets an earlier packet's verdicts.
    #[inline(always)]
    pub fn clear_verdicts(&mut self) {
        self.sampled = 0;
        self.admitted = 0;
        self.matched = 0;
        self.selected = 0;
        self.reason = NO_REASON;
        self.direction = 0;
        self.parsed = 0;
    }

    /// The verdict of a measure's slot; `None` when the facility's verdict is all there is, or the slot was not live.
    #[inline(always)]
    #[must_use]
    pub fn verdict(&self, slot: u32) -> Option<Verdict> {
        let bit = 1u8 << (slot & 7);
        if (self.outcome.0 as usize) < FACILITY_VERDICTS || self.live & bit == 0 {
            None
        } else if self.sampled & bit == 0 {
            Some(Verdict::NotSampled)
        } else if self.admitted & bit == 0 {
            Some(Verdict::OverCap)
        } else if self.matched & bit == 0 {
            Some(Verdict::NotMatched)
        } else if self.direction == Direction::Unlisted as u8 {
            Some(Verdict::Unlisted)
        } else if self.direction == Direction::DomesticToDomestic as u8 {
            Some(Verdict::DomesticToDomestic)
        } else if self.selected & bit == 0 {
            Some(Verdict::WrongDirection)
        } else {
            Some(Verdict::Selected)
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
