//! Encoder: what leaves a host, as sets that a message header is put in front of when they are sent.
//!
//! In: pseudonymised records. Out: octets. It cannot see a clear address that the order does not clear, because it takes
//! no other record than the pseudonymised one:
//!
//! ```compile_fail,E0308
//! fn leak(record: tap_common::abi::record::Record) {
//!     tap_userspace::ipfix::encode::record_sets(&[record], Default::default(), &[0; 16]);
//! }
//! ```

use super::element::{self as e, ENTERPRISE, OWN};
use super::message::SET_HEADER_BYTES;
use super::template::{self, RecordTemplate, Template};
use super::time::to_ntp;
use super::typed::{Acknowledgement, Identity, flags};
use crate::limits::{BODY_BYTES_MAX, NOTICE_BYTES_MAX, TEXT_BYTES_MAX};
use crate::path::PseudonymisedRecord;

/// Permutation (RFC 6235, section 7.2.1): every address has its own pseudonym.
pub const TECHNIQUE_PERMUTATION: u16 = 5;
/// Structured permutation: prefixes are kept.
pub const TECHNIQUE_STRUCTURED_PERMUTATION: u16 = 6;

/// How a session's addresses are pseudonymised, as RFC 6235 declares it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymisation {
    /// Deterministic pseudonyms of 128 bits.
    #[default]
    Deterministic,
    /// Prefix-preserving pseudonyms.
    PrefixPreserving,
}

/// A generation's rules, as the records name them.
#[derive(Clone, Debug)]
pub struct RuleTable<'a> {
    /// Slot of the measure.
    pub measure: u8,
    /// Id of the measure.
    pub measure_id: &'a str,
    /// The generation.
    pub generation: u64,
    /// SHA-256 of the selector set.
    pub set_sha256: [u8; 32],
    /// Rule ids by index.
    pub rules: &'a [String],
}

/// What a selector observed and let through (RFC 5476).
#[derive(Clone, Debug, PartialEq)]
pub struct SelectorStatistics<'a> {
    /// Number of the selector in the domain.
    pub id: u64,
    /// Its name: our hash is none of the algorithms that have a number.
    pub name: &'a str,
    /// Its rate in parts per million.
    pub sampling_ppm: u32,
    /// Packets it saw.
    pub observed: u64,
    /// Packets it let through.
    pub selected: u64,
}

/// Bodies for `records` that `instance` numbered: each says the instance and holds a data set of `template`, and fits a
/// message with [`BODY_BYTES_MAX`] octets. What is no record in a body is shorter than one: its length divided by the
/// template's is the number of its records.
#[must_use]
pub fn record_sets(records: &[PseudonymisedRecord], template: RecordTemplate, instance: &[u8; 16]) -> Vec<Vec<u8>> {
    let head = instance_set(instance);
    let record_bytes = template.template().record_bytes_min();
    let per_body = ((BODY_BYTES_MAX - head.len() - SET_HEADER_BYTES) / record_bytes).max(1);
    records
        .chunks(per_body)
        .map(|chunk| {
            let data = data_set(template.id(), chunk.len() * record_bytes, |out| {
                for record in chunk {
                    put_record(out, record, template);
                }
            });
            [head.as_slice(), &data].concat()
        })
        .collect()
}

/// The set that says which instance of the kernel's maps the rest of the body is of.
pub(super) fn instance_set(instance: &[u8; 16]) -> Vec<u8> {
    data_set(template::ID_INSTANCE, 17, |out| {
        out.push(0);
        out.extend_from_slice(instance);
    })
}

/// Bodies that say which rule stands behind each bit of a generation's records. They go to the spool before them.
#[must_use]
pub fn rule_table(table: &RuleTable<'_>) -> Vec<Vec<u8>> {
    let records: Vec<Vec<u8>> = (0u16..)
        .zip(table.rules)
        .map(|(index, id)| {
            let mut out = vec![table.measure];
            out.extend_from_slice(&table.generation.to_be_bytes());
            out.extend_from_slice(&index.to_be_bytes());
            put_text(&mut out, id);
            put_text(&mut out, table.measure_id);
            out.extend_from_slice(&table.set_sha256);
            out
        })
        .collect();
    pack(template::ID_RULE, &records)
}

/// Body with selectors' names, rates and counts.
#[must_use]
pub fn selector_statistics(selectors: &[SelectorStatistics<'_>]) -> Vec<Vec<u8>> {
    let records: Vec<Vec<u8>> = selectors
        .iter()
        .map(|selector| {
            let (interval, space) = interval_and_space(selector.sampling_ppm);
            let mut out = selector.id.to_be_bytes().to_vec();
            put_text(&mut out, selector.name);
            out.extend_from_slice(&(f64::from(selector.sampling_ppm) / 1e6).to_be_bytes());
            out.extend_from_slice(&interval.to_be_bytes());
            out.extend_from_slice(&space.to_be_bytes());
            out.extend_from_slice(&one_in(selector.sampling_ppm).to_be_bytes());
            out.extend_from_slice(&selector.observed.to_be_bytes());
            out.extend_from_slice(&selector.selected.to_be_bytes());
            out
        })
        .collect();
    pack(template::ID_SELECTOR, &records)
}

/// Sets that open an exporter's session: its elements described, its templates, its anonymisation declared. The
/// description comes first, so that one pass over the session knows the names of the templates' elements.
#[must_use]
pub fn session_sets(anonymisation: Anonymisation) -> Vec<Vec<u8>> {
    let (describing, described): (Vec<_>, Vec<_>) =
        template::exporter().into_iter().partition(|template| template.id == template::ID_ELEMENT_TYPE);
    let mut sets = template_sets(&describing);
    sets.extend(element_types());
    sets.extend(template_sets(&described));
    sets.push(anonymisation_set(anonymisation));
    sets
}

/// Template sets and options template sets for `templates`.
#[must_use]
pub fn template_sets(templates: &[Template]) -> Vec<Vec<u8>> {
    templates
        .chunk_by(|one, other| one.set_id() == other.set_id())
        .filter_map(|chunk| {
            let records: Vec<u8> = chunk.iter().flat_map(Template::to_bytes).collect();
            chunk.first().map(|first| data_set(first.set_id(), records.len(), |out| out.extend_from_slice(&records)))
        })
        .collect()
}

/// The set that says whose message it is; it stands in front of the body.
#[must_use]
pub fn identity_set(identity: &Identity) -> Vec<u8> {
    data_set(template::ID_IDENTITY, 128, |out| {
        // The scope is the message itself; its value is always 0 (RFC 5655).
        out.push(0);
        out.extend_from_slice(&identity.host);
        out.extend_from_slice(&identity.spool);
        out.extend_from_slice(&identity.sequence.to_be_bytes());
        out.extend_from_slice(&identity.first_sequence.to_be_bytes());
    })
}

/// The set that acknowledges.
#[must_use]
pub fn acknowledgement_set(acknowledgements: &[Acknowledgement]) -> Vec<u8> {
    data_set(template::ID_ACKNOWLEDGEMENT, acknowledgements.len() * 56, |out| {
        for acknowledgement in acknowledgements {
            out.extend_from_slice(&acknowledgement.host);
            out.extend_from_slice(&acknowledgement.spool);
            out.extend_from_slice(&acknowledgement.through.to_be_bytes());
        }
    })
}

/// The set that says why a session ends.
#[must_use]
pub fn refusal_set(reason: &str) -> Vec<u8> {
    data_set(template::ID_REFUSAL, reason.len() + 4, |out| {
        out.push(0);
        put_text(out, reason);
    })
}

/// Body with a receipt: a signed note. `None` when it is longer than [`NOTICE_BYTES_MAX`], which no receipt is.
#[must_use]
pub fn receipt_set(note: &str) -> Option<Vec<u8>> {
    let length = u16::try_from(note.len()).ok().filter(|length| u64::from(*length) <= NOTICE_BYTES_MAX)?;
    Some(data_set(template::ID_RECEIPT, note.len() + 4, |out| {
        out.extend_from_slice(&[0, u8::MAX]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(note.as_bytes());
    }))
}

fn element_types() -> Vec<Vec<u8>> {
    let records: Vec<Vec<u8>> = OWN
        .iter()
        .map(|element| {
            let mut out = ENTERPRISE.to_be_bytes().to_vec();
            out.extend_from_slice(&element.id.to_be_bytes());
            out.push(element.data_type as u8);
            out.push(element.semantics as u8);
            out.extend_from_slice(&(element.units as u16).to_be_bytes());
            put_text(&mut out, element.name);
            put_text(&mut out, element.description);
            out
        })
        .collect();
    pack(template::ID_ELEMENT_TYPE, &records)
}

/// The flags stay 0: the mapping is stable for a key epoch, which may begin within a session; `gwtapKeyEpoch` of each
/// record says which one, and the kind elements which addresses an order clears.
fn anonymisation_set(anonymisation: Anonymisation) -> Vec<u8> {
    let technique = match anonymisation {
        Anonymisation::Deterministic => TECHNIQUE_PERMUTATION,
        Anonymisation::PrefixPreserving => TECHNIQUE_STRUCTURED_PERMUTATION,
    };
    data_set(template::ID_ANONYMISATION, 32, |out| {
        for template in [template::ID_PSAMP, template::ID_FLOW] {
            for element in [e::SOURCE_IPV6_ADDRESS, e::DESTINATION_IPV6_ADDRESS] {
                for word in [template, element.id, 0, technique] {
                    out.extend_from_slice(&word.to_be_bytes());
                }
            }
        }
    })
}

/// Fields in the order of [`RecordTemplate::template`].
fn put_record(out: &mut Vec<u8>, record: &PseudonymisedRecord, template: RecordTemplate) {
    out.extend_from_slice(&to_ntp(record.time).to_be_bytes());
    match template {
        RecordTemplate::Psamp => out.extend_from_slice(&u64::from(record.ip_length).to_be_bytes()),
        RecordTemplate::Flow => {
            let milliseconds = (record.time.0 / 1_000_000).to_be_bytes();
            for number in [milliseconds, milliseconds, u64::from(record.ip_length).to_be_bytes(), 1u64.to_be_bytes()] {
                out.extend_from_slice(&number);
            }
        }
    }
    out.extend_from_slice(&record.source.bytes);
    out.extend_from_slice(&record.destination.bytes);
    out.extend_from_slice(&[record.ip_version, record.protocol]);
    out.extend_from_slice(&record.source_port.unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&record.destination_port.unwrap_or(0).to_be_bytes());
    out.push(record.tcp_flags.unwrap_or(0));
    out.push(flags(record));
    out.extend_from_slice(&[record.source.kind as u8, record.destination.kind as u8, record.direction]);
    out.extend_from_slice(&record.line_bytes.to_be_bytes());
    out.extend_from_slice(&[record.fragment, record.measure]);
    out.extend_from_slice(&record.generation.to_be_bytes());
    for word in record.rules {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&record.cpu.to_be_bytes());
    out.extend_from_slice(&record.sequence.to_be_bytes());
    out.extend_from_slice(&record.key_epoch.to_be_bytes());
}

/// A set with its header. The content that `fill` writes is below 65,531 octets by construction of every caller.
pub(super) fn data_set(id: u16, bytes: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(SET_HEADER_BYTES + bytes);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    fill(&mut out);
    let length = u16::try_from(out.len()).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(2..4) {
        place.copy_from_slice(&length);
    }
    out
}

/// Data sets of records of differing length, none above [`BODY_BYTES_MAX`].
fn pack(id: u16, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut sets = Vec::new();
    let mut content: Vec<u8> = Vec::new();
    for record in records {
        if !content.is_empty() && SET_HEADER_BYTES + content.len() + record.len() > BODY_BYTES_MAX {
            sets.push(data_set(id, content.len(), |out| out.extend_from_slice(&content)));
            content.clear();
        }
        content.extend_from_slice(record);
    }
    if !content.is_empty() {
        sets.push(data_set(id, content.len(), |out| out.extend_from_slice(&content)));
    }
    sets
}

/// Text with its length in front, cut at a character where it is longer than [`TEXT_BYTES_MAX`].
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default().as_bytes();
    match u8::try_from(text.len()) {
        Ok(length) if length < u8::MAX => out.push(length),
        _ => {
            out.push(u8::MAX);
            out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

/// The rate as packets taken and packets left out between them, exactly.
fn interval_and_space(ppm: u32) -> (u32, u32) {
    let ppm = ppm.min(1_000_000);
    let (mut a, mut b) = (1_000_000, ppm);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    (ppm / a, (1_000_000 - ppm) / a)
}

/// The rate as one packet in so many, rounded; 0 where nothing is taken.
fn one_in(ppm: u32) -> u32 {
    (1_000_000 + ppm / 2).checked_div(ppm).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_exact_as_interval_and_space() {
        assert_eq!(interval_and_space(1_000_000), (1, 0));
        assert_eq!(interval_and_space(100_000), (1, 9));
        assert_eq!(interval_and_space(300_000), (3, 7));
        assert_eq!(interval_and_space(0), (0, 1));
        assert_eq!((one_in(1_000_000), one_in(100_000), one_in(300_000), one_in(0)), (1, 10, 3, 0));
    }

    #[test]
    fn long_text_takes_the_long_form_and_is_cut_at_a_character() {
        let mut out = Vec::new();
        put_text(&mut out, &"é".repeat(TEXT_BYTES_MAX));
        assert_eq!(out[0], 255);
        let length = usize::from(u16::from_be_bytes([out[1], out[2]]));
        assert!(length <= TEXT_BYTES_MAX && std::str::from_utf8(&out[3..]).is_ok());
        assert_eq!(out.len(), 3 + length);
    }
}
