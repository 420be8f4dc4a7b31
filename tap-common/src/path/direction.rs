//! Direction: from the classes of the two addresses to the Act's four directions.

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
