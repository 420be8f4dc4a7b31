//! Decoder: from octets of any exporter to sets of records. In: one message and the templates of its session. Out:
//! borrowed values. An error names the octet where it stands; nothing panics, and the work is bounded by the octets,
//! because a field takes one octet at least.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::element::{Element, VARIABLE_LENGTH};
use super::message::{
    HEADER_BYTES, Header, SET_HEADER_BYTES, SET_OPTIONS_TEMPLATE, SET_TEMPLATE, TEMPLATE_ID_MIN, VERSION,
};
use super::template::{Field, Template};
use crate::limits::{TEMPLATE_FIELDS_MAX, TEMPLATES_MAX};

/// Why octets are not IPFIX, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("octet {offset}: {reason}")]
pub struct DecodeError {
    /// Octet from the beginning of the message.
    pub offset: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// What can be wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Octets are missing.
    #[error("{needed} octets are needed for {what}, {present} are there")]
    Truncated {
        /// What would stand there.
        what: &'static str,
        /// How many octets it takes.
        needed: usize,
        /// How many there are.
        present: usize,
    },
    /// Not IPFIX.
    #[error("version {0}, IPFIX is 10")]
    Version(u16),
    /// The header's length is not the message's.
    #[error("the header says {said} octets, the message has {present}")]
    Length {
        /// The header's length.
        said: usize,
        /// The octets given.
        present: usize,
    },
    /// A set shorter than its own header.
    #[error("a set of {0} octets is shorter than its header")]
    SetLength(usize),
    /// A reserved set.
    #[error("set id {0} is reserved")]
    SetId(u16),
    /// A template number below 256.
    #[error("template id {0} is below 256")]
    TemplateId(u16),
    /// An options template without scope, or with more scope than fields.
    #[error("{scope} scope fields among {fields}")]
    Scope {
        /// Scope fields.
        scope: u16,
        /// All fields.
        fields: u16,
    },
    /// A field without octets.
    #[error("field {0} has length 0")]
    FieldLength(u16),
    /// More fields than we keep.
    #[error("{0} fields in one template, the limit is {TEMPLATE_FIELDS_MAX}")]
    Fields(u16),
    /// More templates than we keep.
    #[error("more than {TEMPLATES_MAX} templates in one session")]
    Templates,
    /// A field of one of our records that must be there.
    #[error("the record has no {0}")]
    Missing(&'static str),
    /// A value outside of what its element allows.
    #[error("{element}: {value} is not among its values")]
    Value {
        /// Element's name.
        element: &'static str,
        /// The value.
        value: u64,
    },
    /// A field of a length that its element does not have.
    #[error("{element}: {length} octets do not fit its type")]
    ValueLength {
        /// Element's name.
        element: &'static str,
        /// The octets given.
        length: usize,
    },
    /// Text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
}

/// Templates of one transport session, by observation domain and number.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    known: BTreeMap<(u32, u16), Arc<Template>>,
}

impl Templates {
    /// The template `id` of `domain`.
    #[must_use]
    pub fn get(&self, domain: u32, id: u16) -> Option<&Arc<Template>> {
        self.known.get(&(domain, id))
    }

    /// All templates of `domain`, by number.
    pub fn of_domain(&self, domain: u32) -> impl Iterator<Item = &Arc<Template>> {
        self.known.range((domain, 0)..=(domain, u16::MAX)).map(|(_, template)| template)
    }

    /// Adds or replaces a template; `false` when there are too many.
    pub fn insert(&mut self, domain: u32, template: Template) -> bool {
        let key = (domain, template.id);
        if self.known.len() >= TEMPLATES_MAX && !self.known.contains_key(&key) {
            return false;
        }
        self.known.insert(key, Arc::new(template));
        true
    }

    /// Withdraws `id` of `domain`; a set id withdraws all templates of its kind (RFC 7011, section 8.1).
    fn withdraw(&mut self, domain: u32, id: u16) {
        match id {
            SET_TEMPLATE | SET_OPTIONS_TEMPLATE => {
                self.known.retain(|(of, _), template| *of != domain || template.set_id() != id);
            }
            _ => {
                self.known.remove(&(domain, id));
            }
        }
    }
}

/// One data record: a value per field of its template, in the template's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRecord<'a> {
    /// Octet of the message where it begins.
    pub offset: usize,
    /// The values' octets.
    pub values: Vec<&'a [u8]>,
}

/// What a set holds.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// Templates; they are already among the session's.
    Templates(Vec<u16>),
    /// Records of a known template.
    Data(Arc<Template>, Vec<DataRecord<'a>>),
    /// Data of a template that this session has not announced: kept as octets.
    Unknown,
}

/// One set.
#[derive(Clone, Debug)]
pub struct Set<'a> {
    /// Octet of the message where it begins.
    pub offset: usize,
    /// Set id.
    pub id: u16,
    /// The whole set with its header.
    pub bytes: &'a [u8],
    /// What it holds.
    pub body: Body<'a>,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Its header.
    pub header: Header,
    /// Its sets in order.
    pub sets: Vec<Set<'a>>,
}

impl<'a> Message<'a> {
    /// All data records with their templates, in order.
    pub fn records(&self) -> impl Iterator<Item = (&Arc<Template>, &DataRecord<'a>)> {
        self.sets.iter().flat_map(|set| {
            match &set.body {
                Body::Data(template, records) => Some(records.iter().map(move |record| (template, record))),
                Body::Templates(_) | Body::Unknown => None,
            }
            .into_iter()
            .flatten()
        })
    }

    /// Data records, as the header's sequence number counts them (those of unknown templates cannot be counted).
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.records().count()
    }
}

/// Decodes one message; the templates in it join `templates`.
///
/// # Errors
/// The first octet that contradicts RFC 7011, and why.
pub fn message<'a>(bytes: &'a [u8], templates: &mut Templates) -> Result<Message<'a>, DecodeError> {
    let header = header(bytes)?;
    let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
    Ok(Message { header, sets: sets(body, HEADER_BYTES, header.domain, templates)? })
}

/// Decodes sets without a message header, as the spool keeps them; `base` is the octet that the first one counts from.
///
/// # Errors
/// As [`message`].
pub fn sets<'a>(
    bytes: &'a [u8],
    base: usize,
    domain: u32,
    templates: &mut Templates,
) -> Result<Vec<Set<'a>>, DecodeError> {
    let mut reader = Reader { rest: bytes, offset: base };
    let mut sets = Vec::new();
    while !reader.rest.is_empty() {
        let offset = reader.offset;
        let whole = reader.rest;
        let id = reader.u16("a set id")?;
        let length = usize::from(reader.u16("a set length")?);
        let content = length
            .checked_sub(SET_HEADER_BYTES)
            .ok_or(DecodeError { offset: offset + 2, reason: Reason::SetLength(length) })?;
        let content = Reader { offset: reader.offset, rest: reader.take(content, "a set")? };
        let body = match id {
            SET_TEMPLATE | SET_OPTIONS_TEMPLATE => {
                Body::Templates(template_set(content, id == SET_OPTIONS_TEMPLATE, domain, templates)?)
            }
            TEMPLATE_ID_MIN.. => match templates.get(domain, id) {
                Some(template) => Body::Data(template.clone(), data_set(content, template)?),
                None => Body::Unknown,
            },
            _ => return Err(DecodeError { offset, reason: Reason::SetId(id) }),
        };
        sets.push(Set { offset, id, bytes: whole.get(..length).unwrap_or(whole), body });
    }
    Ok(sets)
}

/// Records in a message or body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All data records, as sequence numbers count them.
    pub all: u32,
    /// Those that are not options: the packets.
    pub packets: u32,
}

/// Data records in `bytes`, which are sets as the spool keeps them, without decoding those of fixed length.
///
/// # Errors
/// As [`message`].
pub fn count_records(bytes: &[u8], domain: u32, templates: &Templates) -> Result<Counts, DecodeError> {
    let mut reader = Reader { rest: bytes, offset: 0 };
    let mut counts = Counts::default();
    while !reader.rest.is_empty() {
        let offset = reader.offset;
        let (id, length) = (reader.u16("a set id")?, usize::from(reader.u16("a set length")?));
        let Some(content) = length.checked_sub(SET_HEADER_BYTES) else {
            return Err(DecodeError { offset: offset + 2, reason: Reason::SetLength(length) });
        };
        let content = Reader { offset: reader.offset, rest: reader.take(content, "a set")? };
        let Some(template) = templates.get(domain, id) else { continue };
        let count = match template.is_fixed() {
            true => content.rest.len() / template.record_bytes_min().max(1),
            false => data_set(content, template)?.len(),
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        counts.all = counts.all.saturating_add(count);
        if template.scope == 0 {
            counts.packets = counts.packets.saturating_add(count);
        }
    }
    Ok(counts)
}

fn header(bytes: &[u8]) -> Result<Header, DecodeError> {
    let truncated = Reason::Truncated { what: "a message header", needed: HEADER_BYTES, present: bytes.len() };
    let Some((first, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(DecodeError { offset: bytes.len(), reason: truncated });
    };
    let [v0, v1, l0, l1, ..] = *first;
    let (version, said) = (u16::from_be_bytes([v0, v1]), usize::from(u16::from_be_bytes([l0, l1])));
    match Header::read(first) {
        Some(header) if said == bytes.len() => Ok(header),
        _ if version != VERSION => Err(DecodeError { offset: 0, reason: Reason::Version(version) }),
        _ => Err(DecodeError { offset: 2, reason: Reason::Length { said, present: bytes.len() } }),
    }
}

/// Fewer octets than a template header at the end are padding.
fn template_set(
    mut reader: Reader<'_>,
    options: bool,
    domain: u32,
    templates: &mut Templates,
) -> Result<Vec<u16>, DecodeError> {
    let mut ids = Vec::new();
    while reader.rest.len() >= 4 {
        let offset = reader.offset;
        let id = reader.u16("a template id")?;
        let count = reader.u16("a field count")?;
        if count == 0 {
            templates.withdraw(domain, id);
            continue;
        }
        if id < TEMPLATE_ID_MIN {
            return Err(DecodeError { offset, reason: Reason::TemplateId(id) });
        }
        if usize::from(count) > TEMPLATE_FIELDS_MAX {
            return Err(DecodeError { offset: offset + 2, reason: Reason::Fields(count) });
        }
        let scope = if options { reader.u16("a scope field count")? } else { 0 };
        if options && (scope == 0 || scope > count) {
            return Err(DecodeError { offset: offset + 4, reason: Reason::Scope { scope, fields: count } });
        }
        let fields = (0..count).map(|_| reader.field()).collect::<Result<_, _>>()?;
        if !templates.insert(domain, Template { id, scope, fields }) {
            return Err(DecodeError { offset, reason: Reason::Templates });
        }
        ids.push(id);
    }
    Ok(ids)
}

/// Fewer octets than the shortest record at the end are padding.
fn data_set<'a>(mut reader: Reader<'a>, template: &Template) -> Result<Vec<DataRecord<'a>>, DecodeError> {
    let least = template.record_bytes_min();
    let mut records = Vec::with_capacity(reader.rest.len() / least.max(1));
    while reader.rest.len() >= least && !reader.rest.is_empty() {
        let offset = reader.offset;
        let values = template.fields.iter().map(|field| reader.value(field)).collect::<Result<_, _>>()?;
        records.push(DataRecord { offset, values });
    }
    Ok(records)
}

/// Octets not yet read, and where they stand in the message.
#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            let reason = Reason::Truncated { what, needed: count, present: self.rest.len() };
            return Err(DecodeError { offset: self.offset, reason });
        };
        self.rest = rest;
        self.offset += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_be_bytes)
    }

    fn field(&mut self) -> Result<Field, DecodeError> {
        let id = self.u16("a field id")?;
        let offset = self.offset;
        let length = self.u16("a field length")?;
        if length == 0 {
            return Err(DecodeError { offset, reason: Reason::FieldLength(id & 0x7fff) });
        }
        let enterprise = match id & 0x8000 {
            0 => None,
            _ => Some(u32::from_be_bytes(self.array("an enterprise number")?)),
        };
        Ok(Field { id: id & 0x7fff, enterprise, length })
    }

    /// A value with its length in front where the template says so (RFC 7011, section 7).
    fn value(&mut self, field: &Field) -> Result<&'a [u8], DecodeError> {
        if field.length != VARIABLE_LENGTH {
            return self.take(usize::from(field.length), "a field");
        }
        let [short] = self.array("a length")?;
        let length = if short == u8::MAX { self.u16("a long length")? } else { u16::from(short) };
        self.take(usize::from(length), "a field of variable length")
    }
}

/// The octets of `element` in a record of `template`.
#[must_use]
pub fn value<'a>(template: &Template, record: &DataRecord<'a>, element: &Element) -> Option<&'a [u8]> {
    template.position(element).and_then(|position| record.values.get(position)).copied()
}
