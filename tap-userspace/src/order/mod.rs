//! Orders: the signed documents that carry a measure to the tap.
//!
//! In comes a signed note whose text is TOML; out goes an [`Order`] that keeps every rule which needs neither time nor
//! host, and from it, by [`Order::admit`], the one tap entry that concerns this host now. Numbers that decide are
//! integers; unknown keys and unknown conditions refuse the order.

mod admit;
pub mod basis;
pub mod chain;
mod content;
mod file;
pub mod template;
pub mod window;

pub use crate::keys::TrustRoots;
pub use basis::Basis;

use crate::keys::{self, HostKeyId, KeyError, Role};
use crate::selectors::field::Field;
use crate::selectors::values::Values;
use ipnetwork::IpNetwork;
use jiff::Timestamp;
use jiff::civil::Date;

/// Why an order is refused. Every message names the field.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The text is not TOML of the order's form: unknown, missing or wrongly typed keys.
    #[error("line {line}: {field}: {reason}")]
    Syntax {
        /// Line from 1.
        line: usize,
        /// Table and key, as far as they are known.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// A field breaks a rule.
    #[error("{field}: {reason}")]
    Field {
        /// Table and key.
        field: String,
        /// Which rule, and what to do.
        reason: String,
    },
    /// The note or one of its signatures is wrong.
    #[error("signatures: {0}")]
    Note(#[from] KeyError),
    /// A role that must sign has not.
    #[error("signatures: none by a {missing} key; basis {basis} needs {}", names(basis.signers()))]
    Signer {
        /// The role.
        missing: Role,
        /// The order's basis.
        basis: Basis,
    },
}

impl OrderError {
    pub(crate) fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason: reason.into() }
    }
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ")
}

/// An order whose content keeps every rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is measured, on which basis, when.
    pub measure: Measure,
    /// Arts 17, 32, 33: the Commission's approval.
    pub approval: Option<Approval>,
    /// Agreements: the notification of the Commission.
    pub notification: Option<Notification>,
    /// The facility and its taps.
    pub facility: Facility,
    /// What selector sets may hold.
    pub selection: Selection,
    /// How addresses are told apart and shown.
    pub addresses: AddressPolicy,
    /// Where records go.
    pub receiving_facility: ReceivingFacility,
    /// SHA-256 of the note's text: the order's identity.
    pub sha256: [u8; 32],
    /// First moment at which a signer's key is revoked, if one is to be: the order ends with it.
    pub signed_until: Option<Timestamp>,
    /// The note as it was signed; empty for an order that was read unsigned.
    pub note: String,
}

/// `[measure]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Id: 1 to 64 letters, digits, `.`, `_`, `-`.
    pub id: String,
    /// Legal basis.
    pub basis: Basis,
    /// Target acts; rules name one of them.
    pub acts: Vec<String>,
    /// First moment.
    pub not_before: Timestamp,
    /// First moment after the last.
    pub not_after: Timestamp,
    /// SHA-256 of the order that this one extends.
    pub previous: Option<[u8; 32]>,
}

/// `[approval]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Id of the Commission's approval.
    pub id: String,
    /// Its conditions.
    pub conditions: Conditions,
}

/// `[approval.conditions]`: a closed list (Art. 18); anything else refuses the order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The facility's share, in parts per million.
    pub share_at_most: Option<u32>,
    /// The sampling share, in parts per million.
    pub sampling_at_most: Option<u32>,
    /// The order ends by this moment.
    pub ends_by: Option<Timestamp>,
    /// Counted conditions every rule needs.
    pub conditions_at_least: Option<u8>,
    /// Addresses that are never selected and that no condition names.
    pub prefixes_excluded: Vec<IpNetwork>,
    /// Fields that no condition may be about.
    pub fields_excluded: Vec<Field>,
    /// No address in clear.
    pub no_clear_address: bool,
    /// Days the receiving facility may keep records.
    pub retention_at_most: Option<u32>,
    /// Rules a set may have.
    pub rules_at_most: Option<u32>,
}

/// `[notification]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Id of the notification to the Commission.
    pub id: String,
}

/// `[facility]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facility {
    /// Id of the carrier's transmission facility.
    pub id: String,
    /// Its transmission capacity.
    pub capacity_bits_per_second: u64,
    /// Part of the capacity that may be admitted to selection, in parts per million.
    pub share_ppm: u32,
    /// Part of the flows that is looked at, in parts per million.
    pub sampling_ppm: u32,
    /// The mirror hosts; their shares add up to the facility's at most.
    pub taps: Vec<Tap>,
}

/// `[[facility.tap]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// The mirror host.
    pub host_key: HostKeyId,
    /// Its mirror port.
    pub interface: String,
    /// Its part of the facility's capacity, in parts per million of the capacity.
    pub share_ppm: u32,
}

/// `[selection]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The selection standard that sets name.
    pub standard: String,
    /// Arts 32 and 33: approved facilities.
    pub approved_facilities: Vec<IpNetwork>,
    /// Arts 32 and 33: approved machine information.
    pub approved_machine_information: Vec<(Field, Values)>,
    /// Agreements: the party's prefixes.
    pub party_prefixes: Vec<IpNetwork>,
    /// Payload offsets that payload conditions may look at.
    pub payload_offsets: Vec<u16>,
}

/// `[addresses]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPolicy {
    /// The country table, by digest.
    pub country_table_sha256: [u8; 32],
    /// The table's data must not be older.
    pub country_table_oldest_date: Date,
    /// Whether foreign addresses that a narrow facility-address entry matched are shown in clear.
    pub clear_addresses: bool,
    /// Whether pseudonyms keep common prefixes.
    pub prefix_preserving: bool,
    /// Whether address conditions may name domestic addresses.
    pub domestic_conditions: bool,
    /// Length of a pseudonym key's epoch.
    pub key_epoch_days: u32,
}

/// `[receiving_facility]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivingFacility {
    /// `host:port`.
    pub endpoint: String,
    /// Where it takes records while that cannot be reached.
    pub further_endpoints: Vec<String>,
    /// Names in its certificate, one of which must match.
    pub names: Vec<String>,
    /// Its X25519 public key.
    pub sealing_key: [u8; 32],
}

/// Reads a signed order: signatures of every role that its basis asks for, and the content.
///
/// # Errors
/// What is wrong, by field; the first thing found.
pub fn verify(note: &str, roots: &TrustRoots) -> Result<Order, OrderError> {
    let verified = keys::note::verify(note, roots)?;
    let mut order = content::read(&verified.text)?;
    for role in order.measure.basis.signers() {
        if !verified.signers.iter().any(|key| key.role == *role) {
            return Err(OrderError::Signer { missing: *role, basis: order.measure.basis });
        }
    }
    let signers: Vec<_> =
        verified.signers.into_iter().filter(|key| order.measure.basis.signers().contains(&key.role)).collect();
    order.signed_until = roots.signed_until(&signers);
    note.clone_into(&mut order.note);
    Ok(order)
}

/// Reads an order without asking who signed it: for drafts, for showing, and for `replay`; never for a tap.
///
/// # Errors
/// What is wrong with the content, by field.
pub fn parse_unsigned(text_or_note: &str) -> Result<Order, OrderError> {
    content::read(&keys::note::text(text_or_note)?)
}

#[cfg(test)]
mod tests;
