//! Our own records out of decoded ones. In: a data record and its template. Out: a typed value, or which octet of the
//! message contradicts it. Whatever other exporters send is none of ours and gives `None`.

use super::decode::{DataRecord, DecodeError, Reason, value};
use super::element::{self as e, Element};
use super::template::Template;
use super::time::from_ntp;
use crate::path::{AddressKind, ExportedAddress, PseudonymisedRecord};
use tap_common::path::direction::DIRECTION_NAMES;
use tap_common::path::parse::FRAGMENT_NAMES;

/// Bit of `gwtapRecordFlags`: there is a source port.
pub const FLAG_SOURCE_PORT: u8 = 1;
/// Bit of `gwtapRecordFlags`: there is a destination port.
pub const FLAG_DESTINATION_PORT: u8 = 2;
/// Bit of `gwtapRecordFlags`: there are TCP flags.
pub const FLAG_TCP_FLAGS: u8 = 4;
/// Bit of `gwtapRecordFlags`: the mirror cut the packet.
pub const FLAG_SLICED: u8 = 8;

/// `gwtapRecordFlags` of a record.
#[must_use]
pub fn flags(record: &PseudonymisedRecord) -> u8 {
    [
        (record.source_port.is_some(), FLAG_SOURCE_PORT),
        (record.destination_port.is_some(), FLAG_DESTINATION_PORT),
        (record.tcp_flags.is_some(), FLAG_TCP_FLAGS),
        (record.sliced, FLAG_SLICED),
    ]
    .iter()
    .filter(|(set, _)| *set)
    .fold(0, |flags, (_, bit)| flags | bit)
}

/// Whose message it is, and which one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// SHA-256 of the host's public key.
    pub host: [u8; 32],
    /// The spool's UUID.
    pub spool: [u8; 16],
    /// Number of the message in the spool.
    pub sequence: u64,
    /// The lowest number that the spool still holds: everything below is acknowledged, or will never come.
    pub first_sequence: u64,
}

/// What the receiving facility has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The host whose messages they are.
    pub host: [u8; 32],
    /// The spool.
    pub spool: [u8; 16],
    /// Every message through this number.
    pub through: u64,
}

/// One line of a rule table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Slot of the measure.
    pub measure: u8,
    /// Generation of the selector set.
    pub generation: u64,
    /// Index of the rule.
    pub index: u16,
    /// Id of the rule.
    pub id: String,
    /// Id of the measure.
    pub measure_id: String,
    /// SHA-256 of the selector set.
    pub set_sha256: [u8; 32],
}

/// A record of ours, `None` when the template is another exporter's or an options template.
///
/// # Errors
/// A value that its element does not have.
pub fn record(template: &Template, data: &DataRecord<'_>) -> Result<Option<PseudonymisedRecord>, DecodeError> {
    if template.scope > 0 || template.position(&e::RECORD_FLAGS).is_none() {
        return Ok(None);
    }
    let fields = Fields { template, data };
    let flags = fields.u8(&e::RECORD_FLAGS)?;
    let present = |bit: u8| flags & bit != 0;
    let source_port = fields.u16(&e::SOURCE_TRANSPORT_PORT)?;
    let destination_port = fields.u16(&e::DESTINATION_TRANSPORT_PORT)?;
    let tcp_flags = fields.u8(&e::TCP_CONTROL_BITS)?;
    let length =
        if template.position(&e::IP_TOTAL_LENGTH).is_some() { e::IP_TOTAL_LENGTH } else { e::OCTET_DELTA_COUNT };
    Ok(Some(PseudonymisedRecord {
        time: from_ntp(fields.u64(&e::OBSERVATION_TIME_NANOSECONDS)?),
        source: fields.address(&e::SOURCE_IPV6_ADDRESS, &e::SOURCE_ADDRESS_KIND)?,
        destination: fields.address(&e::DESTINATION_IPV6_ADDRESS, &e::DESTINATION_ADDRESS_KIND)?,
        source_port: present(FLAG_SOURCE_PORT).then_some(source_port),
        destination_port: present(FLAG_DESTINATION_PORT).then_some(destination_port),
        protocol: fields.u8(&e::PROTOCOL_IDENTIFIER)?,
        tcp_flags: present(FLAG_TCP_FLAGS).then_some(tcp_flags),
        ip_version: fields.u8(&e::IP_VERSION)?,
        direction: fields.below(&e::DIRECTION, DIRECTION_NAMES.len())?,
        line_bytes: fields.u32(&e::LINE_BYTES)?,
        ip_length: fields.u32(&length)?,
        fragment: fields.below(&e::FRAGMENT, FRAGMENT_NAMES.len())?,
        sliced: present(FLAG_SLICED),
        measure: fields.u8(&e::MEASURE_SLOT)?,
        generation: fields.u64(&e::GENERATION)?,
        rules: fields.rules()?,
        cpu: fields.u32(&e::CPU)?,
        sequence: fields.u64(&e::RECORD_SEQUENCE)?,
        key_epoch: fields.u32(&e::KEY_EPOCH)?,
    }))
}

/// A message's identity, `None` when the record is another one.
///
/// # Errors
/// A field of another length than ours.
pub fn identity(template: &Template, data: &DataRecord<'_>) -> Result<Option<Identity>, DecodeError> {
    if template.scope == 0 || template.position(&e::SPOOL_SEQUENCE).is_none() {
        return Ok(None);
    }
    let fields = Fields { template, data };
    Ok(Some(Identity {
        host: fields.array(&e::HOST_KEY)?,
        spool: fields.array(&e::SPOOL)?,
        sequence: fields.u64(&e::SPOOL_SEQUENCE)?,
        first_sequence: fields.u64(&e::SPOOL_FIRST_SEQUENCE)?,
    }))
}

/// The instance that numbered the records that follow in the message, `None` when the record is another one.
///
/// # Errors
/// A field of another length than ours.
pub fn instance(template: &Template, data: &DataRecord<'_>) -> Result<Option<[u8; 16]>, DecodeError> {
    if template.scope == 0 || template.position(&e::INSTANCE).is_none() {
        return Ok(None);
    }
    Fields { template, data }.array(&e::INSTANCE).map(Some)
}

/// An acknowledgement, `None` when the record is another one.
///
/// # Errors
/// A field of another length than ours.
pub fn acknowledgement(template: &Template, data: &DataRecord<'_>) -> Result<Option<Acknowledgement>, DecodeError> {
    if template.scope == 0 || template.position(&e::ACKNOWLEDGED_SEQUENCE).is_none() {
        return Ok(None);
    }
    let fields = Fields { template, data };
    Ok(Some(Acknowledgement {
        host: fields.array(&e::HOST_KEY)?,
        spool: fields.array(&e::SPOOL)?,
        through: fields.u64(&e::ACKNOWLEDGED_SEQUENCE)?,
    }))
}

/// The reason of a refusal, `None` when the record is another one.
///
/// # Errors
/// Text that is not UTF-8.
pub fn refusal(template: &Template, data: &DataRecord<'_>) -> Result<Option<String>, DecodeError> {
    if template.scope == 0 || template.position(&e::REFUSAL).is_none() {
        return Ok(None);
    }
    Fields { template, data }.text(&e::REFUSAL).map(Some)
}

/// The note of a receipt, `None` when the record is another one. Nothing of it is verified: what is not UTF-8 is replaced, so
/// that it is refused where it is read and not the message with it.
///
/// # Errors
/// It has no text.
pub fn receipt(template: &Template, data: &DataRecord<'_>) -> Result<Option<String>, DecodeError> {
    if template.scope == 0 || template.position(&e::RECEIPT).is_none() {
        return Ok(None);
    }
    let bytes = Fields { template, data }.bytes(&e::RECEIPT)?;
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

/// A line of a rule table, `None` when the record is another one.
///
/// # Errors
/// A field of another length than ours, or text that is not UTF-8.
pub fn rule(template: &Template, data: &DataRecord<'_>) -> Result<Option<Rule>, DecodeError> {
    if template.scope == 0 || template.position(&e::RULE_ID).is_none() {
        return Ok(None);
    }
    let fields = Fields { template, data };
    Ok(Some(Rule {
        measure: fields.u8(&e::MEASURE_SLOT)?,
        generation: fields.u64(&e::GENERATION)?,
        index: fields.u16(&e::RULE_INDEX)?,
        id: fields.text(&e::RULE_ID)?,
        measure_id: fields.text(&e::MEASURE_ID)?,
        set_sha256: fields.array(&e::SET_DIGEST)?,
    }))
}

/// Access to a record's values by element.
struct Fields<'t, 'a> {
    template: &'t Template,
    data: &'t DataRecord<'a>,
}

impl<'a> Fields<'_, 'a> {
    fn error(&self, reason: Reason) -> DecodeError {
        DecodeError { offset: self.data.offset, reason }
    }

    fn bytes(&self, element: &Element) -> Result<&'a [u8], DecodeError> {
        value(self.template, self.data, element).ok_or_else(|| self.error(Reason::Missing(element.name)))
    }

    fn array<const N: usize>(&self, element: &Element) -> Result<[u8; N], DecodeError> {
        let bytes = self.bytes(element)?;
        bytes
            .try_into()
            .ok()
            .ok_or_else(|| self.error(Reason::ValueLength { element: element.name, length: bytes.len() }))
    }

    /// An unsigned number of any size up to eight octets (reduced-size encoding, RFC 7011, section 6.2).
    fn u64(&self, element: &Element) -> Result<u64, DecodeError> {
        let bytes = self.bytes(element)?;
        if bytes.is_empty() || bytes.len() > 8 {
            return Err(self.error(Reason::ValueLength { element: element.name, length: bytes.len() }));
        }
        Ok(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn number<T: TryFrom<u64>>(&self, element: &Element) -> Result<T, DecodeError> {
        let number = self.u64(element)?;
        T::try_from(number).ok().ok_or_else(|| self.error(Reason::Value { element: element.name, value: number }))
    }

    fn u32(&self, element: &Element) -> Result<u32, DecodeError> {
        self.number(element)
    }

    fn u16(&self, element: &Element) -> Result<u16, DecodeError> {
        self.number(element)
    }

    fn u8(&self, element: &Element) -> Result<u8, DecodeError> {
        self.number(element)
    }

    fn below(&self, element: &Element, bound: usize) -> Result<u8, DecodeError> {
        match self.u8(element)? {
            number if usize::from(number) < bound => Ok(number),
            number => Err(self.error(Reason::Value { element: element.name, value: u64::from(number) })),
        }
    }

    fn text(&self, element: &Element) -> Result<String, DecodeError> {
        let bytes = self.bytes(element)?.to_vec();
        String::from_utf8(bytes).ok().ok_or_else(|| self.error(Reason::Text(element.name)))
    }

    fn address(&self, address: &Element, kind: &Element) -> Result<ExportedAddress, DecodeError> {
        let kind = match self.u8(kind)? {
            0 => AddressKind::Clear,
            1 => AddressKind::Deterministic,
            2 => AddressKind::PrefixPreserving,
            other => return Err(self.error(Reason::Value { element: kind.name, value: u64::from(other) })),
        };
        Ok(ExportedAddress { bytes: self.array(address)?, kind })
    }

    fn rules(&self) -> Result<[u64; 4], DecodeError> {
        let bytes: [u8; 32] = self.array(&e::RULES)?;
        let mut rules = [0; 4];
        for (rule, word) in rules.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *rule = u64::from_be_bytes(*word);
        }
        Ok(rules)
    }
}
