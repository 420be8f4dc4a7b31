//! Information elements: the ones of the IANA registry that we use, and our own under an enterprise number.
//!
//! Numbers, types and semantics of the former are those of the IANA "IPFIX Information Elements" registry (RFC 7012);
//! ours are described on the wire by RFC 5610 type records, so that a collector can name them without this table.

use std::fmt;

/// The enterprise number for documentation (RFC 5612), until one is assigned.
pub const ENTERPRISE: u32 = 32_473;
/// A field length that says: the length stands before each value (RFC 7011, section 7).
pub const VARIABLE_LENGTH: u16 = 65_535;

/// Abstract data types (RFC 7012, section 3.1) with their numbers in RFC 5610.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DataType {
    /// Octets without further structure.
    OctetArray = 0,
    /// One octet.
    Unsigned8 = 1,
    /// Two octets, network order.
    Unsigned16 = 2,
    /// Four octets, network order.
    Unsigned32 = 3,
    /// Eight octets, network order.
    Unsigned64 = 4,
    /// IEEE 754, eight octets.
    Float64 = 10,
    /// UTF-8.
    String = 13,
    /// Milliseconds since 1970 in eight octets.
    DateTimeMilliseconds = 15,
    /// NTP timestamp: 32 bits of seconds since 1900, 32 bits of fraction.
    DateTimeNanoseconds = 17,
    /// Sixteen octets.
    Ipv6Address = 19,
}

/// Semantics (RFC 7012, section 3.2) with their numbers in RFC 5610.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Semantics {
    /// None apply.
    Default = 0,
    /// A measured number.
    Quantity = 1,
    /// A count from the beginning on.
    TotalCounter = 2,
    /// A count since the last report.
    DeltaCounter = 3,
    /// A name in form of a number.
    Identifier = 4,
    /// A bit set.
    Flags = 5,
}

/// Units (RFC 5610) of our own elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Units {
    /// Without one.
    None = 0,
    /// Octets.
    Octets = 2,
}

/// One information element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// Number in its registry, without the enterprise bit.
    pub id: u16,
    /// Enterprise number; `None` is the IANA registry.
    pub enterprise: Option<u32>,
    /// Name in its registry.
    pub name: &'static str,
    /// Abstract data type.
    pub data_type: DataType,
    /// Semantics.
    pub semantics: Semantics,
    /// Units, for our own elements (IANA's need none on the wire).
    pub units: Units,
    /// What our own elements say, for RFC 5610 records and the documentation.
    pub description: &'static str,
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name, self.id)
    }
}

impl Element {
    const fn iana(id: u16, name: &'static str, data_type: DataType, semantics: Semantics) -> Self {
        Self { id, enterprise: None, name, data_type, semantics, units: Units::None, description: "" }
    }

    const fn own(
        id: u16,
        name: &'static str,
        data_type: DataType,
        semantics: Semantics,
        description: &'static str,
    ) -> Self {
        Self { id, enterprise: Some(ENTERPRISE), name, data_type, semantics, units: Units::None, description }
    }

    const fn in_octets(mut self) -> Self {
        self.units = Units::Octets;
        self
    }
}

/// Declares elements as constants and the list of them, so that none can miss in the list.
macro_rules! elements {
    ($(#[$list_doc:meta])* $list:ident; $($constant:ident = $make:expr;)*) => {
        $(#[doc = concat!("The element that `", stringify!($constant), "` names; its own fields say the rest.")]
          pub const $constant: Element = $make;)*
        $(#[$list_doc])*
        pub const $list: &[Element] = &[$($constant),*];
    };
}

use DataType as T;
use Semantics as S;

elements! {
    /// The elements of the IANA registry that we send.
    IANA;
    OCTET_DELTA_COUNT = Element::iana(1, "octetDeltaCount", T::Unsigned64, S::DeltaCounter);
    PACKET_DELTA_COUNT = Element::iana(2, "packetDeltaCount", T::Unsigned64, S::DeltaCounter);
    PROTOCOL_IDENTIFIER = Element::iana(4, "protocolIdentifier", T::Unsigned8, S::Identifier);
    TCP_CONTROL_BITS = Element::iana(6, "tcpControlBits", T::Unsigned16, S::Flags);
    SOURCE_TRANSPORT_PORT = Element::iana(7, "sourceTransportPort", T::Unsigned16, S::Identifier);
    DESTINATION_TRANSPORT_PORT = Element::iana(11, "destinationTransportPort", T::Unsigned16, S::Identifier);
    SOURCE_IPV6_ADDRESS = Element::iana(27, "sourceIPv6Address", T::Ipv6Address, S::Default);
    DESTINATION_IPV6_ADDRESS = Element::iana(28, "destinationIPv6Address", T::Ipv6Address, S::Default);
    SAMPLING_INTERVAL = Element::iana(34, "samplingInterval", T::Unsigned32, S::Quantity);
    IP_VERSION = Element::iana(60, "ipVersion", T::Unsigned8, S::Identifier);
    OBSERVATION_POINT_ID = Element::iana(138, "observationPointId", T::Unsigned64, S::Identifier);
    TEMPLATE_ID = Element::iana(145, "templateId", T::Unsigned16, S::Identifier);
    FLOW_START_MILLISECONDS = Element::iana(152, "flowStartMilliseconds", T::DateTimeMilliseconds, S::Default);
    FLOW_END_MILLISECONDS = Element::iana(153, "flowEndMilliseconds", T::DateTimeMilliseconds, S::Default);
    IP_TOTAL_LENGTH = Element::iana(224, "ipTotalLength", T::Unsigned64, S::Quantity);
    MESSAGE_SCOPE = Element::iana(263, "messageScope", T::Unsigned8, S::Default);
    ANONYMIZATION_FLAGS = Element::iana(285, "anonymizationFlags", T::Unsigned16, S::Flags);
    ANONYMIZATION_TECHNIQUE = Element::iana(286, "anonymizationTechnique", T::Unsigned16, S::Identifier);
    SELECTION_SEQUENCE_ID = Element::iana(301, "selectionSequenceId", T::Unsigned64, S::Identifier);
    SELECTOR_ID = Element::iana(302, "selectorId", T::Unsigned64, S::Identifier);
    INFORMATION_ELEMENT_ID = Element::iana(303, "informationElementId", T::Unsigned16, S::Identifier);
    SAMPLING_PACKET_INTERVAL = Element::iana(305, "samplingPacketInterval", T::Unsigned32, S::Quantity);
    SAMPLING_PACKET_SPACE = Element::iana(306, "samplingPacketSpace", T::Unsigned32, S::Quantity);
    SAMPLING_PROBABILITY = Element::iana(311, "samplingProbability", T::Float64, S::Quantity);
    SELECTOR_ID_TOTAL_PKTS_OBSERVED =
        Element::iana(318, "selectorIdTotalPktsObserved", T::Unsigned64, S::TotalCounter);
    SELECTOR_ID_TOTAL_PKTS_SELECTED =
        Element::iana(319, "selectorIdTotalPktsSelected", T::Unsigned64, S::TotalCounter);
    OBSERVATION_TIME_NANOSECONDS =
        Element::iana(325, "observationTimeNanoseconds", T::DateTimeNanoseconds, S::Default);
    SELECTOR_NAME = Element::iana(335, "selectorName", T::String, S::Default);
    INFORMATION_ELEMENT_DATA_TYPE = Element::iana(339, "informationElementDataType", T::Unsigned8, S::Default);
    INFORMATION_ELEMENT_DESCRIPTION = Element::iana(340, "informationElementDescription", T::String, S::Default);
    INFORMATION_ELEMENT_NAME = Element::iana(341, "informationElementName", T::String, S::Default);
    INFORMATION_ELEMENT_SEMANTICS = Element::iana(344, "informationElementSemantics", T::Unsigned8, S::Default);
    INFORMATION_ELEMENT_UNITS = Element::iana(345, "informationElementUnits", T::Unsigned16, S::Default);
    PRIVATE_ENTERPRISE_NUMBER = Element::iana(346, "privateEnterpriseNumber", T::Unsigned32, S::Identifier);
}

elements! {
    /// Our own elements, under [`ENTERPRISE`].
    OWN;
    RECORD_FLAGS = Element::own(1, "gwtapRecordFlags", T::Unsigned8, S::Flags,
        "1 source port present, 2 destination port present, 4 TCP flags present, 8 the mirror cut the packet");
    SOURCE_ADDRESS_KIND = Element::own(2, "gwtapSourceAddressKind", T::Unsigned8, S::Identifier,
        "source address: 0 clear, 1 deterministic pseudonym, 2 prefix-preserving pseudonym");
    DESTINATION_ADDRESS_KIND = Element::own(3, "gwtapDestinationAddressKind", T::Unsigned8, S::Identifier,
        "destination address: 0 clear, 1 deterministic pseudonym, 2 prefix-preserving pseudonym");
    DIRECTION = Element::own(4, "gwtapDirection", T::Unsigned8, S::Identifier,
        "1 foreign to foreign, 2 foreign to domestic, 3 domestic to foreign");
    LINE_BYTES = Element::own(5, "gwtapLineOctets", T::Unsigned32, S::Quantity,
        "octets on the line, with frame check sequence, preamble and gap").in_octets();
    FRAGMENT = Element::own(6, "gwtapFragment", T::Unsigned8, S::Identifier,
        "0 not a fragment, 1 first, 2 later");
    MEASURE_SLOT = Element::own(7, "gwtapMeasureSlot", T::Unsigned8, S::Identifier,
        "slot of the measure on its host");
    GENERATION = Element::own(8, "gwtapGeneration", T::Unsigned64, S::Identifier,
        "generation of the selector set that decided");
    RULES = Element::own(9, "gwtapRules", T::OctetArray, S::Default,
        "rules that fired: four 64-bit words in network order, bit i modulo 64 of word i / 64 is rule i");
    CPU = Element::own(10, "gwtapCpu", T::Unsigned32, S::Identifier, "CPU that saw the packet");
    RECORD_SEQUENCE = Element::own(11, "gwtapRecordSequence", T::Unsigned64, S::Identifier,
        "number of the record on its CPU, from 0");
    KEY_EPOCH = Element::own(12, "gwtapKeyEpoch", T::Unsigned32, S::Identifier, "epoch of the pseudonym key");
    HOST_KEY = Element::own(20, "gwtapHostKey", T::OctetArray, S::Default,
        "SHA-256 of the mirror host's Ed25519 public key");
    SPOOL = Element::own(21, "gwtapSpool", T::OctetArray, S::Default, "UUID of the host's spool");
    SPOOL_SEQUENCE = Element::own(22, "gwtapSpoolSequence", T::Unsigned64, S::Identifier,
        "number of the message in its spool, from 0");
    SPOOL_FIRST_SEQUENCE = Element::own(23, "gwtapSpoolFirstSequence", T::Unsigned64, S::Identifier,
        "the lowest number that the spool still holds");
    INSTANCE = Element::own(24, "gwtapInstance", T::OctetArray, S::Default,
        "instance of the kernel's maps that numbered the records");
    ACKNOWLEDGED_SEQUENCE = Element::own(25, "gwtapAcknowledgedSequence", T::Unsigned64, S::Identifier,
        "every message of the spool through this number is stored durably");
    REFUSAL = Element::own(26, "gwtapRefusal", T::String, S::Default, "why the receiving facility ends the session");
    RULE_INDEX = Element::own(30, "gwtapRuleIndex", T::Unsigned16, S::Identifier, "index of a rule in its generation");
    RULE_ID = Element::own(31, "gwtapRuleId", T::String, S::Default, "the rule's id in its selector set");
    SET_DIGEST = Element::own(32, "gwtapSelectorSetDigest", T::OctetArray, S::Default,
        "SHA-256 of the selector set");
    MEASURE_ID = Element::own(33, "gwtapMeasureId", T::String, S::Default, "id of the measure in its order");
    RECEIPT = Element::own(34, "gwtapReceipt", T::String, S::Default,
        "a receipt for the notices of Art. 30, as a C2SP note signed by the host");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_in_their_registry_and_small_enough_for_the_enterprise_bit() {
        for list in [IANA, OWN] {
            for (index, element) in list.iter().enumerate() {
                assert!(element.id > 0 && element.id < 0x8000, "{element:?}");
                assert!(list[..index].iter().all(|other| other.id != element.id && other.name != element.name));
            }
        }
        assert!(OWN.iter().all(|element| !element.description.is_empty()));
    }

    #[test]
    fn the_hash_seed_has_no_element() {
        assert!(IANA.iter().all(|element| element.id != 334), "hashInitialiserValue must never be sent");
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let documentation = include_str!("../../../docs/export.md");
        for element in OWN {
            let line = documentation
                .lines()
                .find(|line| line.starts_with(&format!("| {} | {} |", element.id, element.name)))
                .unwrap_or_else(|| panic!("docs/export.md lacks {element:?}"));
            let data_type = format!("{:?}", element.data_type);
            assert!(line.to_lowercase().contains(&format!("| {} |", data_type.to_lowercase())), "{line}");
            assert!(line.contains(element.description), "{line}");
        }
    }
}
