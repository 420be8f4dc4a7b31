//! Direction: from the classes of the two addresses to the Act's four directions.
//!
//! In: the two addresses and the order's country table. Out: the direction, and whether the measure may select in it.
//! Special-purpose and multicast ranges were taken out when the table was compiled: they are always unlisted.

use super::parse::Headers;
use super::world::World;

/// Where an address belongs, by the order's country table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum AddressClass {
    /// Special-purpose, multicast, or not in the table: never selected.
    #[default]
    Unlisted = 0,
    /// Inside Japan.
    Domestic = 1,
    /// Outside Japan.
    Foreign = 2,
}

/// Direction of a packet, judged from its two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// An address is unlisted.
    Unlisted = 0,
    /// 外外, Art. 17.
    ForeignToForeign = 1,
    /// 外内, Art. 32 and agreements.
    ForeignToDomestic = 2,
    /// 内外, Art. 33.
    DomesticToForeign = 3,
    /// 内内: never lawful to select.
    DomesticToDomestic = 4,
}

/// Names of the directions, by number, as `replay`, metrics and records show them.
pub const DIRECTION_NAMES: [&str; 5] =
    ["unlisted", "foreign-to-foreign", "foreign-to-domestic", "domestic-to-foreign", "domestic-to-domestic"];

/// The direction of a packet.
#[inline(always)]
pub fn direction<W: World>(world: &W, headers: &Headers) -> Direction {
    let source = world.country_class(headers.ip_version, headers.source);
    let destination = world.country_class(headers.ip_version, headers.destination);
    from_classes(source, destination)
}

/// The truth table; numbers as in [`AddressClass`], any other is unlisted.
#[inline(always)]
#[must_use]
pub fn from_classes(source: u32, destination: u32) -> Direction {
    const DOMESTIC: u32 = AddressClass::Domestic as u32;
    const FOREIGN: u32 = AddressClass::Foreign as u32;
    match (source, destination) {
        (FOREIGN, FOREIGN) => Direction::ForeignToForeign,
        (FOREIGN, DOMESTIC) => Direction::ForeignToDomestic,
        (DOMESTIC, FOREIGN) => Direction::DomesticToForeign,
        (DOMESTIC, DOMESTIC) => Direction::DomesticToDomestic,
        _ => Direction::Unlisted,
    }
}

/// Whether `direction` is one of a measure's `directions` (a bit set by number). The two that are never lawful are
/// not, whatever the bit set says.
#[inline(always)]
#[must_use]
pub fn is_allowed(direction: Direction, directions: u32) -> bool {
    let never = matches!(direction, Direction::Unlisted | Direction::DomesticToDomestic);
    !never && directions & (1 << (direction as u32)) != 0
}
