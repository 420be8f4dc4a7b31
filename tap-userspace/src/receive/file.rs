//! A stored message as a file of its own (RFC 5655): a first message with the templates it needs and with what its
//! session said about elements and anonymisation, then the message. Pure.

use crate::ipfix::decode::{Body, Message, Templates};
use crate::ipfix::element as e;
use crate::ipfix::encode::template_sets;
use crate::ipfix::message::{HEADER_BYTES, message};
use crate::ipfix::template::Template;
use crate::limits::CONTEXT_BYTES_MAX;

/// What a session says about its templates: RFC 5610 and RFC 6235 records, as the sets they came in.
#[derive(Clone, Debug, Default)]
pub struct Context {
    sets: Vec<(u32, Vec<u8>)>,
    bytes: usize,
}

impl Context {
    /// Keeps what `message` says about templates, up to [`CONTEXT_BYTES_MAX`]; `true` when it says nothing else, so that
    /// there is nothing to store on its own.
    pub fn learn(&mut self, message: &Message<'_>) -> bool {
        let mut nothing_else = true;
        for set in &message.sets {
            match &set.body {
                Body::Templates(_) => {}
                Body::Data(template, _) if describes(template) => self.keep(message.header.domain, set.bytes),
                Body::Data(..) | Body::Unknown => nothing_else = false,
            }
        }
        nothing_else
    }

    fn keep(&mut self, domain: u32, set: &[u8]) {
        let known = self.sets.iter().any(|(of, bytes)| *of == domain && bytes == set);
        if !known && self.bytes + set.len() <= CONTEXT_BYTES_MAX {
            self.bytes += set.len();
            self.sets.push((domain, set.to_vec()));
        }
    }

    fn of_domain(&self, domain: u32) -> impl Iterator<Item = &[u8]> {
        self.sets.iter().filter(move |(of, _)| *of == domain).map(|(_, bytes)| bytes.as_slice())
    }
}

fn describes(template: &Template) -> bool {
    template.scope > 0
        && [e::ANONYMIZATION_TECHNIQUE, e::INFORMATION_ELEMENT_DATA_TYPE]
            .iter()
            .any(|element| template.position(element).is_some())
}

/// The file for `decoded`, whose octets are `bytes`. The sequence numbers are the file's own, since it begins a session
/// of its own. `None` when the templates would not fit a message.
#[must_use]
pub fn contents(bytes: &[u8], decoded: &Message<'_>, templates: &Templates, context: &Context) -> Option<Vec<u8>> {
    let header = decoded.header;
    let context: Vec<&[u8]> = context.of_domain(header.domain).collect();
    let set_ids = |sets: &[&[u8]]| -> Vec<u16> {
        sets.iter().filter_map(|set| set.first_chunk::<2>()).map(|id| u16::from_be_bytes(*id)).collect()
    };
    let mut used: Vec<u16> = decoded.sets.iter().map(|set| set.id).chain(set_ids(&context)).collect();
    used.sort_unstable();
    used.dedup();
    let mut needed: Vec<Template> =
        used.iter().filter_map(|id| templates.get(header.domain, *id)).map(|template| (**template).clone()).collect();
    // Elements are described before a template of records uses them, so that one pass over the file knows their names.
    needed.sort_by_key(|template| (template.scope == 0, template.id));
    let (options, data) = needed.split_at(needed.partition_point(|template| template.scope > 0));

    let mut sets = template_sets(options);
    sets.extend(context.iter().map(|set| set.to_vec()));
    sets.extend(template_sets(data));
    let sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
    let mut file = message(header.export_time, 0, header.domain, &sets)?;
    let mut known = Templates::default();
    let count = crate::ipfix::decode::message(&file, &mut known).ok()?.record_count();
    let body = bytes.get(HEADER_BYTES..)?;
    file.extend(message(header.export_time, u32::try_from(count).ok()?, header.domain, &[body])?);
    Some(file)
}
