//! What independent programs must show for given records, in their own form.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use tap_userspace::ipfix::element::{self, DataType, Element, Semantics, Units};
use tap_userspace::ipfix::selection::STEPS;
use tap_userspace::ipfix::template::RecordTemplate;
use tap_userspace::ipfix::typed::flags;
use tap_userspace::limits::BODY_BYTES_MAX;
use tap_userspace::path::PseudonymisedRecord;

use super::kit::{HOST, INSTANCE, RULES, SET_SHA256};

/// Values of one record by element name.
pub(crate) type Values = BTreeMap<String, String>;

/// All occurrences of each field of the session, in order, as `tshark -T fields` prints them.
pub(crate) fn tshark_fields(
    records: &[PseudonymisedRecord],
    template: RecordTemplate,
    spool: &[u8; 16],
) -> Vec<(&'static str, Vec<String>)> {
    let all = |value: &dyn Fn(&PseudonymisedRecord) -> String| records.iter().map(value).collect::<Vec<_>>();
    let mut fields = vec![
        ("cflow.observation_time_nanoseconds", all(&|record| time(record.time.0))),
        ("cflow.srcaddrv6", all(&|record| Ipv6Addr::from(record.source.bytes).to_string())),
        ("cflow.dstaddrv6", all(&|record| Ipv6Addr::from(record.destination.bytes).to_string())),
        ("cflow.ip_version", all(&|record| record.ip_version.to_string())),
        ("cflow.protocol", all(&|record| record.protocol.to_string())),
        ("cflow.srcport", all(&|record| record.source_port.unwrap_or(0).to_string())),
        ("cflow.dstport", all(&|record| record.destination_port.unwrap_or(0).to_string())),
        ("cflow.tcpflags", all(&|record| format!("0x{:02x}", record.tcp_flags.unwrap_or(0)))),
        ("cflow.anonymization_technique", vec!["5".to_owned(); 4]),
        ("cflow.selector_name", STEPS.map(str::to_owned).to_vec()),
        // The sequence is the measure's slot and 1; each step has a selector.
        ("cflow.selection_sequence_id", all_of([2, 2])),
        ("cflow.observation_point_id", all_of([1])),
        ("cflow.selector_id", all_of([2, 10, 18, 26, 2, 10, 18, 26])),
        ("cflow.sampling_probability", vec!["0.25".to_owned()]),
        ("cflow.sampling_packet_interval", vec!["1".to_owned()]),
        ("cflow.sampling_packet_space", vec!["3".to_owned()]),
        ("cflow.sampling_interval", vec!["4".to_owned()]),
        ("cflow.selector_id_total_pkts_observed", all_of([1_000, 1_000, 251, 40, 30])),
        ("cflow.selector_id_total_pkts_selected", all_of([251, 251, 40, 31, 30])),
        ("cflow.enterprise_private_entry", own_values(records, template, spool)),
    ];
    match template {
        RecordTemplate::Psamp => {
            fields.push(("cflow.ip_total_length", all(&|record| record.ip_length.to_string())));
        }
        RecordTemplate::Flow => {
            let milliseconds = |record: &PseudonymisedRecord| time(record.time.0 / 1_000_000 * 1_000_000);
            fields.extend([
                ("cflow.octets", all(&|record| record.ip_length.to_string())),
                ("cflow.packets", all(&|_| "1".to_owned())),
                ("cflow.abstimestart", all(&milliseconds)),
                ("cflow.abstimeend", all(&milliseconds)),
            ]);
        }
    }
    fields
}

fn all_of<const N: usize>(numbers: [u64; N]) -> Vec<String> {
    numbers.map(|number| number.to_string()).to_vec()
}

/// Octets of all our own elements, as hex, in the order of the session: rule table, selector, then the records, each
/// message with its identity in front.
fn own_values(records: &[PseudonymisedRecord], template: RecordTemplate, spool: &[u8; 16]) -> Vec<String> {
    // Messages before the records' are trimmed as they are sent, but not within the batch that they are read in.
    let identity = |sequence: u64| {
        [HOST.0.to_vec(), spool.to_vec(), sequence.to_be_bytes().to_vec(), 0u64.to_be_bytes().to_vec()].map(hex::encode)
    };
    let mut values = identity(0).to_vec();
    for (index, rule) in (0u16..).zip(RULES) {
        values.extend([
            "01".to_owned(),
            hex::encode(5u64.to_be_bytes()),
            hex::encode(index.to_be_bytes()),
            hex::encode(rule),
            hex::encode("m-1"),
            hex::encode(SET_SHA256),
        ]);
    }
    values.extend(identity(1));
    values.push(hex::encode(INSTANCE));
    let per_message = BODY_BYTES_MAX / template.template().record_bytes_min();
    for (sequence, chunk) in (2..).zip(records.chunks(per_message)) {
        values.extend(identity(sequence));
        values.push(hex::encode(INSTANCE));
        values.extend(chunk.iter().flat_map(own_record_values));
    }
    values
}

/// A record's own elements, in the template's order, as hex.
fn own_record_values(record: &PseudonymisedRecord) -> Vec<String> {
    let rules: Vec<u8> = record.rules.iter().flat_map(|word| word.to_be_bytes()).collect();
    vec![
        hex::encode([flags(record)]),
        hex::encode([record.source.kind as u8]),
        hex::encode([record.destination.kind as u8]),
        hex::encode([record.direction]),
        hex::encode(record.line_bytes.to_be_bytes()),
        hex::encode([record.fragment]),
        hex::encode([record.measure]),
        hex::encode(record.generation.to_be_bytes()),
        hex::encode(rules),
        hex::encode(record.cpu.to_be_bytes()),
        hex::encode(record.sequence.to_be_bytes()),
        hex::encode(record.key_epoch.to_be_bytes()),
    ]
}

/// A time as tshark prints it with `TZ=UTC`.
fn time(unix_ns: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
    // The day is padded with a space.
    time.strftime("%b %e, %Y %H:%M:%S.%9f UTC").to_string()
}

/// Our elements in the form of IANA's registry of information elements, from the table that the encoder uses: what
/// `docs/gwtap-elements.xml` must say, and ipfixDump reads.
pub(crate) fn element_file() -> String {
    let records: String = element::OWN
        .iter()
        .map(|element| {
            let units = if element.units == Units::Octets { "    <units>octets</units>\n" } else { "" };
            format!(
                "  <record>\n    <name>{}</name>\n    <dataType>{}</dataType>\n    \
                 <dataTypeSemantics>{}</dataTypeSemantics>\n{units}    <cert:enterpriseId>{}</cert:enterpriseId>\n    \
                 <elementId>{}</elementId>\n    <status>current</status>\n    \
                 <description><paragraph>{}</paragraph></description>\n  </record>\n",
                element.name,
                type_name(element),
                semantics_name(element),
                element::ENTERPRISE,
                element.id,
                element.description
            )
        })
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<registry id=\"gwtap\" \
         xmlns=\"http://www.iana.org/assignments\" xmlns:cert=\"http://www.cert.org/ipfix\">\n\
         <title>Information elements of gwtap, under enterprise number {}</title>\n\
         <registry id=\"elements\">\n{records}</registry>\n</registry>\n",
        element::ENTERPRISE
    )
}

fn semantics_name(element: &Element) -> &'static str {
    match element.semantics {
        Semantics::Default => "default",
        Semantics::Quantity => "quantity",
        Semantics::TotalCounter => "totalCounter",
        Semantics::DeltaCounter => "deltaCounter",
        Semantics::Identifier => "identifier",
        Semantics::Flags => "flags",
    }
}

fn type_name(element: &Element) -> &'static str {
    match element.data_type {
        DataType::OctetArray => "octetArray",
        DataType::Unsigned8 => "unsigned8",
        DataType::Unsigned16 => "unsigned16",
        DataType::Unsigned32 => "unsigned32",
        DataType::Unsigned64 => "unsigned64",
        DataType::Float64 => "float64",
        DataType::String => "string",
        DataType::DateTimeMilliseconds => "dateTimeMilliseconds",
        DataType::DateTimeNanoseconds => "dateTimeNanoseconds",
        DataType::Ipv6Address => "ipv6Address",
    }
}

/// The records of template `id` in what ipfixDump printed, in one form: addresses as Rust writes them, times left out.
pub(crate) fn dumped(text: &str, id: u16) -> Vec<Values> {
    text.split("--- data record ")
        .skip(1)
        .filter(|block| block.contains(&format!("tid: {id:>5} ")))
        .map(|block| {
            block
                .lines()
                .filter(|line| {
                    line.starts_with("\t(") && !line.contains("illiseconds") && !line.contains("Nanoseconds")
                })
                .map(|line| {
                    let (name, value) = line.split_once(" : ").unwrap();
                    let name = name.rsplit(' ').next().unwrap().to_owned();
                    let value = match value.trim().parse::<Ipv6Addr>() {
                        Ok(address) if name.ends_with("Address") => address.to_string(),
                        _ => value.trim().rsplit(' ').next().unwrap().to_owned(),
                    };
                    (name, value)
                })
                .collect()
        })
        .collect()
}

/// The same from a record.
pub(crate) fn ipfix_dump_values(record: &PseudonymisedRecord, template: RecordTemplate) -> Values {
    let rules: Vec<u8> = record.rules.iter().flat_map(|word| word.to_be_bytes()).collect();
    let mut values = vec![
        ("sourceIPv6Address", Ipv6Addr::from(record.source.bytes).to_string()),
        ("destinationIPv6Address", Ipv6Addr::from(record.destination.bytes).to_string()),
        ("ipVersion", record.ip_version.to_string()),
        ("protocolIdentifier", record.protocol.to_string()),
        ("sourceTransportPort", record.source_port.unwrap_or(0).to_string()),
        ("destinationTransportPort", record.destination_port.unwrap_or(0).to_string()),
        ("tcpControlBits", record.tcp_flags.unwrap_or(0).to_string()),
        ("gwtapRecordFlags", flags(record).to_string()),
        ("gwtapSourceAddressKind", (record.source.kind as u8).to_string()),
        ("gwtapDestinationAddressKind", (record.destination.kind as u8).to_string()),
        ("gwtapDirection", record.direction.to_string()),
        ("gwtapLineOctets", record.line_bytes.to_string()),
        ("gwtapFragment", record.fragment.to_string()),
        ("gwtapMeasureSlot", record.measure.to_string()),
        ("gwtapGeneration", record.generation.to_string()),
        ("gwtapRules", format!("0x{}", hex::encode(rules))),
        ("gwtapCpu", record.cpu.to_string()),
        ("gwtapRecordSequence", record.sequence.to_string()),
        ("gwtapKeyEpoch", record.key_epoch.to_string()),
    ];
    match template {
        RecordTemplate::Psamp => values.push(("ipTotalLength", record.ip_length.to_string())),
        RecordTemplate::Flow => {
            values.extend([("octetDeltaCount", record.ip_length.to_string()), ("packetDeltaCount", "1".to_owned())])
        }
    }
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
