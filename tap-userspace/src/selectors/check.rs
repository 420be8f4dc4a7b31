//! What a selector set is checked against.

use super::field::Field;
use super::values::Values;
use crate::order::Basis;
use crate::prefixes::country::CountryTable;
use ipnetwork::IpNetwork;
use jiff::Timestamp;
use tap_common::limits::RULES_MAX;

/// What the order says about the sets that may be activated under it.
#[derive(Clone, Debug)]
pub struct CheckContext {
    /// Legal basis: how many conditions count and which list they must be on.
    pub basis: Basis,
    /// Counted conditions a rule needs: the basis's, or more where the approval says so.
    pub conditions_min: u8,
    /// Rules a set may have: the ABI's, or fewer where the approval says so.
    pub rules_max: usize,
    /// What only an order can say; in the laboratory there is none.
    pub order: Option<OrderTerms>,
    /// The table that tells domestic addresses; without it conditions are not asked whether they name any.
    pub country: Option<CountryTable>,
}

/// Terms of an order that a set must keep.
#[derive(Clone, Debug)]
pub struct OrderTerms {
    /// Id of the measure.
    pub measure: String,
    /// The selection standard that the order names.
    pub standard: String,
    /// Target acts.
    pub acts: Vec<String>,
    /// First moment of the order.
    pub not_before: Timestamp,
    /// First moment after the order.
    pub not_after: Timestamp,
    /// Arts 32 and 33: approved facilities.
    pub approved_facilities: Vec<IpNetwork>,
    /// Arts 32 and 33: approved machine information.
    pub approved_machine_information: Vec<(Field, Values)>,
    /// Agreements: the party's prefixes.
    pub party_prefixes: Vec<IpNetwork>,
    /// Prefixes that no address condition may touch.
    pub prefixes_excluded: Vec<IpNetwork>,
    /// Fields that no condition may be about.
    pub fields_excluded: Vec<Field>,
    /// Whether address conditions may name domestic addresses.
    pub domestic_conditions: bool,
}

impl CheckContext {
    /// For `replay`: a basis alone; measure, acts, times and approved lists are not asked for.
    #[must_use]
    pub fn laboratory(basis: Basis) -> Self {
        Self { basis, conditions_min: basis.conditions_min(), rules_max: RULES_MAX, order: None, country: None }
    }

    /// The same, with the table that tells domestic addresses.
    #[must_use]
    pub fn with_country_table(mut self, table: CountryTable) -> Self {
        self.country = Some(table);
        self
    }
}
