//! Templates: which fields, in which order, of which length. Ours, and the form in which the decoder keeps anybody's.

use super::element::{self as e, Element, VARIABLE_LENGTH};
use super::message::{SET_OPTIONS_TEMPLATE, SET_TEMPLATE};
use super::selection::STEPS;

/// One field of a template, as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Element number without the enterprise bit.
    pub id: u16,
    /// Enterprise number, `None` for the IANA registry.
    pub enterprise: Option<u32>,
    /// Octets, or [`VARIABLE_LENGTH`].
    pub length: u16,
}

impl Field {
    /// Whether this field carries `element`.
    #[must_use]
    pub fn is(&self, element: &Element) -> bool {
        self.id == element.id && self.enterprise == element.enterprise
    }
}

/// A template record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Number, 256 or above.
    pub id: u16,
    /// How many of the first fields are scope; 0 in a template that is no options template.
    pub scope: u16,
    /// The fields in order.
    pub fields: Vec<Field>,
}

impl Template {
    /// Position of `element` among the fields.
    #[must_use]
    pub fn position(&self, element: &Element) -> Option<usize> {
        self.fields.iter().position(|field| field.is(element))
    }

    /// The fewest octets one of its records takes: a field of variable length takes one at least.
    #[must_use]
    pub fn record_bytes_min(&self) -> usize {
        self.fields
            .iter()
            .map(|field| if field.length == VARIABLE_LENGTH { 1 } else { usize::from(field.length) })
            .sum()
    }

    /// Whether all its records have the same length.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.fields.iter().all(|field| field.length != VARIABLE_LENGTH)
    }

    /// The set id that its template record stands under.
    #[must_use]
    pub fn set_id(&self) -> u16 {
        if self.scope == 0 { SET_TEMPLATE } else { SET_OPTIONS_TEMPLATE }
    }

    /// The template record without set header (RFC 7011, sections 3.4.1 and 3.4.2.2).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(6 + self.fields.len() * 8);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&u16::try_from(self.fields.len()).unwrap_or(u16::MAX).to_be_bytes());
        if self.scope > 0 {
            bytes.extend_from_slice(&self.scope.to_be_bytes());
        }
        for field in &self.fields {
            let bit = if field.enterprise.is_some() { 0x8000 } else { 0 };
            bytes.extend_from_slice(&(field.id | bit).to_be_bytes());
            bytes.extend_from_slice(&field.length.to_be_bytes());
            if let Some(enterprise) = field.enterprise {
                bytes.extend_from_slice(&enterprise.to_be_bytes());
            }
        }
        bytes
    }
}

/// What a data record of ours looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordTemplate {
    /// PSAMP vocabulary: one packet, its exact time, its IP length (RFC 5476, RFC 5477).
    #[default]
    Psamp,
    /// A flow of one packet, for flow collectors: start and end in milliseconds, octets and packets beside the rest.
    Flow,
}

impl RecordTemplate {
    /// Number of the template.
    #[must_use]
    pub fn id(self) -> u16 {
        match self {
            Self::Psamp => ID_PSAMP,
            Self::Flow => ID_FLOW,
        }
    }

    /// The template with its fields.
    #[must_use]
    pub fn template(self) -> Template {
        let fields = match self {
            Self::Psamp => &[(e::IP_TOTAL_LENGTH, 8)][..],
            Self::Flow => &[
                (e::FLOW_START_MILLISECONDS, 8),
                (e::FLOW_END_MILLISECONDS, 8),
                (e::OCTET_DELTA_COUNT, 8),
                (e::PACKET_DELTA_COUNT, 8),
            ],
        };
        make(self.id(), 0, &[&[(e::OBSERVATION_TIME_NANOSECONDS, 8)], fields, COMMON].concat())
    }
}

/// Template of [`RecordTemplate::Psamp`].
pub const ID_PSAMP: u16 = 256;
/// Template of [`RecordTemplate::Flow`].
pub const ID_FLOW: u16 = 257;
/// Options: whose message this is, and which one.
pub const ID_IDENTITY: u16 = 260;
/// Options: what is stored durably.
pub const ID_ACKNOWLEDGEMENT: u16 = 261;
/// Options: why a session ends.
pub const ID_REFUSAL: u16 = 262;
/// Options: a generation's rules by index.
pub const ID_RULE: u16 = 263;
/// Options: how addresses are anonymised (RFC 6235).
pub const ID_ANONYMISATION: u16 = 264;
/// Options: our elements described (RFC 5610).
pub const ID_ELEMENT_TYPE: u16 = 265;
/// Options: a selector's name, rate and counts (RFC 5476).
pub const ID_SELECTOR: u16 = 266;
/// Options: which instance of the kernel's maps numbered a message's records.
pub const ID_INSTANCE: u16 = 267;
/// Options: a receipt that the host signed.
pub const ID_RECEIPT: u16 = 268;
/// Options: the steps of a selection sequence, in order (RFC 5476, section 6.5.1).
pub const ID_SELECTION_SEQUENCE: u16 = 269;
/// Options: what each step of a selection sequence was given and let through (RFC 5476, section 6.5.3).
pub const ID_SELECTION_TOTALS: u16 = 270;
/// Options: the name of a selector that has no rate.
pub const ID_SELECTOR_NAME: u16 = 271;

/// What both record templates end with. `tcpControlBits` has one octet: the registry asks for that where bits 8 and
/// above were not observed.
const COMMON: &[(Element, u16)] = &[
    (e::SOURCE_IPV6_ADDRESS, 16),
    (e::DESTINATION_IPV6_ADDRESS, 16),
    (e::IP_VERSION, 1),
    (e::PROTOCOL_IDENTIFIER, 1),
    (e::SOURCE_TRANSPORT_PORT, 2),
    (e::DESTINATION_TRANSPORT_PORT, 2),
    (e::TCP_CONTROL_BITS, 1),
    (e::RECORD_FLAGS, 1),
    (e::SOURCE_ADDRESS_KIND, 1),
    (e::DESTINATION_ADDRESS_KIND, 1),
    (e::DIRECTION, 1),
    (e::LINE_BYTES, 4),
    (e::FRAGMENT, 1),
    (e::MEASURE_SLOT, 1),
    (e::GENERATION, 8),
    (e::RULES, 32),
    (e::CPU, 4),
    (e::RECORD_SEQUENCE, 8),
    (e::KEY_EPOCH, 4),
];

fn make(id: u16, scope: u16, fields: &[(Element, u16)]) -> Template {
    let fields = fields.iter().map(|(element, length)| Field {
        id: element.id,
        enterprise: element.enterprise,
        length: *length,
    });
    Template { id, scope, fields: fields.collect() }
}

/// Whose message this is: attached to every message of a host, in front of its other sets.
#[must_use]
pub fn identity() -> Template {
    make(
        ID_IDENTITY,
        1,
        &[
            (e::MESSAGE_SCOPE, 1),
            (e::HOST_KEY, 32),
            (e::SPOOL, 16),
            (e::SPOOL_SEQUENCE, 8),
            (e::SPOOL_FIRST_SEQUENCE, 8),
        ],
    )
}

/// Who numbered the records of the message. It is spooled with them: the spool outlives the instance.
#[must_use]
pub fn instance() -> Template {
    make(ID_INSTANCE, 1, &[(e::MESSAGE_SCOPE, 1), (e::INSTANCE, 16)])
}

/// What happened to the measure, signed by the host. It is spooled in front of the records it speaks of.
#[must_use]
pub fn receipt() -> Template {
    make(ID_RECEIPT, 1, &[(e::MESSAGE_SCOPE, 1), (e::RECEIPT, VARIABLE_LENGTH)])
}

/// What the receiving facility answers.
#[must_use]
pub fn acknowledgement() -> Template {
    make(ID_ACKNOWLEDGEMENT, 2, &[(e::HOST_KEY, 32), (e::SPOOL, 16), (e::ACKNOWLEDGED_SEQUENCE, 8)])
}

/// What the receiving facility says before it ends a session.
#[must_use]
pub fn refusal() -> Template {
    make(ID_REFUSAL, 1, &[(e::MESSAGE_SCOPE, 1), (e::REFUSAL, VARIABLE_LENGTH)])
}

/// One rule of a generation.
#[must_use]
pub fn rule() -> Template {
    make(
        ID_RULE,
        3,
        &[
            (e::MEASURE_SLOT, 1),
            (e::GENERATION, 8),
            (e::RULE_INDEX, 2),
            (e::RULE_ID, VARIABLE_LENGTH),
            (e::MEASURE_ID, VARIABLE_LENGTH),
            (e::SET_DIGEST, 32),
        ],
    )
}

/// How a field of a template was anonymised (RFC 6235, section 7.2).
#[must_use]
pub fn anonymisation() -> Template {
    make(
        ID_ANONYMISATION,
        2,
        &[
            (e::TEMPLATE_ID, 2),
            (e::INFORMATION_ELEMENT_ID, 2),
            (e::ANONYMIZATION_FLAGS, 2),
            (e::ANONYMIZATION_TECHNIQUE, 2),
        ],
    )
}

/// One of our elements described (RFC 5610, section 3.9).
#[must_use]
pub fn element_type() -> Template {
    make(
        ID_ELEMENT_TYPE,
        2,
        &[
            (e::PRIVATE_ENTERPRISE_NUMBER, 4),
            (e::INFORMATION_ELEMENT_ID, 2),
            (e::INFORMATION_ELEMENT_DATA_TYPE, 1),
            (e::INFORMATION_ELEMENT_SEMANTICS, 1),
            (e::INFORMATION_ELEMENT_UNITS, 2),
            (e::INFORMATION_ELEMENT_NAME, VARIABLE_LENGTH),
            (e::INFORMATION_ELEMENT_DESCRIPTION, VARIABLE_LENGTH),
        ],
    )
}

/// A selector: its name, its rate in every customary way, what it observed and selected.
#[must_use]
pub fn selector() -> Template {
    make(
        ID_SELECTOR,
        1,
        &[
            (e::SELECTOR_ID, 8),
            (e::SELECTOR_NAME, VARIABLE_LENGTH),
            (e::SAMPLING_PROBABILITY, 8),
            (e::SAMPLING_PACKET_INTERVAL, 4),
            (e::SAMPLING_PACKET_SPACE, 4),
            (e::SAMPLING_INTERVAL, 4),
            (e::SELECTOR_ID_TOTAL_PKTS_OBSERVED, 8),
            (e::SELECTOR_ID_TOTAL_PKTS_SELECTED, 8),
        ],
    )
}

/// The steps of a selection sequence, in order.
#[must_use]
pub fn selection_sequence() -> Template {
    let steps = [(e::SELECTOR_ID, 8); STEPS.len()];
    make(
        ID_SELECTION_SEQUENCE,
        1,
        &[&[(e::SELECTION_SEQUENCE_ID, 8), (e::OBSERVATION_POINT_ID, 8)], steps.as_slice()].concat(),
    )
}

/// What each step of a selection sequence was given and let through.
#[must_use]
pub fn selection_totals() -> Template {
    let step = [(e::SELECTOR_ID_TOTAL_PKTS_OBSERVED, 8), (e::SELECTOR_ID_TOTAL_PKTS_SELECTED, 8)];
    make(ID_SELECTION_TOTALS, 1, &[&[(e::SELECTION_SEQUENCE_ID, 8)], [step; STEPS.len()].as_flattened()].concat())
}

/// A selector that is told by its name alone.
#[must_use]
pub fn selector_name() -> Template {
    make(ID_SELECTOR_NAME, 1, &[(e::SELECTOR_ID, 8), (e::SELECTOR_NAME, VARIABLE_LENGTH)])
}

/// Every template that an exporter of ours announces. Both record templates are among them, whichever the session
/// writes: the spool may still hold messages from before a change of configuration.
#[must_use]
pub fn exporter() -> Vec<Template> {
    vec![
        RecordTemplate::Psamp.template(),
        RecordTemplate::Flow.template(),
        identity(),
        instance(),
        rule(),
        anonymisation(),
        element_type(),
        selector(),
        receipt(),
        selection_sequence(),
        selection_totals(),
        selector_name(),
    ]
}

/// Every template that a receiving facility of ours announces.
#[must_use]
pub fn receiver() -> Vec<Template> {
    vec![acknowledgement(), refusal()]
}
