//! The four bases of a measure: who signs, which directions, how many conditions, how long.

use crate::keys::Role;
use std::fmt;
use std::str::FromStr;
use tap_common::limits::{CONDITIONS_APPROVED_MIN, CONDITIONS_MIN};
use tap_common::path::direction::Direction;

/// Legal basis of a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// Agreement with an operator or user (Arts 11-14).
    Agreement,
    /// Foreign-to-foreign measure (Art. 17).
    ForeignToForeign,
    /// Foreign-to-domestic measure (Art. 32).
    ForeignToDomestic,
    /// Domestic-to-foreign measure (Art. 33).
    DomesticToForeign,
}

impl Basis {
    /// All four, in the Act's order.
    pub const ALL: [Self; 4] =
        [Self::Agreement, Self::ForeignToForeign, Self::ForeignToDomestic, Self::DomesticToForeign];

    /// The basis's name in orders, metrics and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agreement => "agreement",
            Self::ForeignToForeign => "foreign-to-foreign",
            Self::ForeignToDomestic => "foreign-to-domestic",
            Self::DomesticToForeign => "domestic-to-foreign",
        }
    }
}

impl Basis {
    /// Directions the basis may select: a bit set by the number of the [`Direction`].
    #[must_use]
    pub fn directions(self) -> u32 {
        let direction = match self {
            Self::ForeignToForeign => Direction::ForeignToForeign,
            Self::Agreement | Self::ForeignToDomestic => Direction::ForeignToDomestic,
            Self::DomesticToForeign => Direction::DomesticToForeign,
        };
        1 << (direction as u32)
    }

    /// Counted conditions a rule needs (Arts 22(2) and 35(2)).
    #[must_use]
    pub fn conditions_min(self) -> u8 {
        if self.has_approved_list() { CONDITIONS_APPROVED_MIN } else { CONDITIONS_MIN }
    }

    /// Longest period in calendar months (Arts 17(3), 32(2), 33(2)); an agreement has its own.
    #[must_use]
    pub fn months_max(self) -> Option<i32> {
        match self {
            Self::Agreement => None,
            Self::ForeignToForeign => Some(6),
            Self::ForeignToDomestic | Self::DomesticToForeign => Some(3),
        }
    }

    /// Whether only conditions of the order's approved list count (Art. 35(2)).
    #[must_use]
    pub fn has_approved_list(self) -> bool {
        match self {
            Self::ForeignToDomestic | Self::DomesticToForeign => true,
            Self::Agreement | Self::ForeignToForeign => false,
        }
    }

    /// Roles that must all have signed the order.
    #[must_use]
    pub fn signers(self) -> &'static [Role] {
        match self {
            Self::Agreement => &[Role::Government, Role::Party, Role::Carrier],
            Self::ForeignToForeign | Self::ForeignToDomestic | Self::DomesticToForeign => {
                &[Role::Government, Role::Commission]
            }
        }
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Basis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|basis| basis.name() == text)
            .ok_or_else(|| format!("unknown basis {text:?}; known are {}", Self::ALL.map(Self::name).join(", ")))
    }
}
