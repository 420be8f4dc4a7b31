//! The selection sequence of a measure (RFC 5476, section 6.5): every step between a packet that its port received and a record in
//! its spool, by name, with what the step was given and what it let through. What a step lost is the difference.
//!
//! In: totals. Out: a body for the spool, and totals out of decoded records. Nothing here is about a single packet.

use super::decode::DataRecord;
use super::encode::{SelectorStatistics, data_set, instance_set, put_text, selector_statistics};
use super::template::{self, Template};

/// The steps, in the order in which a packet takes them.
pub const STEPS: [&str; 4] = [FLOW_HASH, "gwtap-selection", "gwtap-ring", "gwtap-spool"];
/// Name of the first: none of the standard functions (RFC 5475) gives both directions of a flow alike.
const FLOW_HASH: &str = "gwtap-flow-hash";

/// Numbers between those of two steps: one for each measure.
const SELECTORS_PER_STEP: u64 = tap_common::limits::MEASURES_MAX as u64;

/// What a step was given, and what it let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Packets or records that it saw.
    pub observed: u64,
    /// Those that went on.
    pub selected: u64,
}

impl Step {
    /// Those that did not.
    #[must_use]
    pub fn dropped(self) -> u64 {
        self.observed.saturating_sub(self.selected)
    }
}

/// Totals of one measure's steps at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Slot of the measure.
    pub measure: u8,
    /// The sample: packets of the measure's live time, and those in the sample. Since the kernel's maps were made.
    pub sample: Step,
    /// Cap, selectors and direction: packets in the sample, and those selected. Since the kernel's maps were made.
    pub selection: Step,
    /// The rings: packets selected, and records that found room. Since the kernel's maps were made.
    pub ring: Step,
    /// The spool: records taken out of the rings, and those spooled. Since the agent started.
    pub spool: Step,
}

impl Totals {
    fn steps(&self) -> [Step; STEPS.len()] {
        [self.sample, self.selection, self.ring, self.spool]
    }
}

/// Body that says a measure's steps and their totals: whose instance the totals are of, the sample's rate, the names of the other
/// steps, their order, the totals. It says all of it each time, so that whoever has one message understands it.
#[must_use]
pub fn body(totals: &Totals, sampling_ppm: u32, instance: &[u8; 16]) -> Vec<u8> {
    let sequence = u64::from(totals.measure) + 1;
    let selectors: Vec<u64> = (0..).zip(STEPS).map(|(step, _)| sequence + step * SELECTORS_PER_STEP).collect();
    let rate = SelectorStatistics {
        id: sequence,
        name: FLOW_HASH,
        sampling_ppm,
        observed: totals.sample.observed,
        selected: totals.sample.selected,
    };
    let names = data_set(template::ID_SELECTOR_NAME, 128, |out| {
        for (selector, name) in selectors.iter().zip(STEPS).skip(1) {
            out.extend_from_slice(&selector.to_be_bytes());
            put_text(out, name);
        }
    });
    let order = data_set(template::ID_SELECTION_SEQUENCE, 48, |out| {
        out.extend_from_slice(&sequence.to_be_bytes());
        // The one observation point of a host: its mirror port.
        out.extend_from_slice(&1u64.to_be_bytes());
        for selector in &selectors {
            out.extend_from_slice(&selector.to_be_bytes());
        }
    });
    let counts = data_set(template::ID_SELECTION_TOTALS, 72, |out| {
        out.extend_from_slice(&sequence.to_be_bytes());
        for step in totals.steps() {
            out.extend_from_slice(&step.observed.to_be_bytes());
            out.extend_from_slice(&step.selected.to_be_bytes());
        }
    });
    let mut body = instance_set(instance);
    for set in selector_statistics(&[rate]).iter().chain([&names, &order, &counts]) {
        body.extend_from_slice(set);
    }
    body
}

/// Totals of a measure's steps, `None` when the record is another one: other exporters have steps of their own.
#[must_use]
pub fn totals(template: &Template, data: &DataRecord<'_>) -> Option<Totals> {
    if template.scope == 0 || template.fields != template::selection_totals().fields {
        return None;
    }
    let mut numbers = data.values.iter().filter_map(|bytes| Some(u64::from_be_bytes((*bytes).try_into().ok()?)));
    let measure = u8::try_from(numbers.next()?.checked_sub(1)?).ok()?;
    let mut step = || Some(Step { observed: numbers.next()?, selected: numbers.next()? });
    Some(Totals { measure, sample: step()?, selection: step()?, ring: step()?, spool: step()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfix::decode::{self, Body, Templates};
    use crate::ipfix::element as e;
    use crate::ipfix::message::OBSERVATION_DOMAIN;
    use crate::ipfix::typed;

    fn example() -> Totals {
        let step = |observed, selected| Step { observed, selected };
        Totals {
            measure: 2,
            sample: step(1_000, 500),
            selection: step(500, 90),
            ring: step(90, 80),
            spool: step(u64::MAX, 70),
        }
    }

    fn templates() -> Templates {
        let mut templates = Templates::default();
        for template in template::exporter() {
            templates.insert(OBSERVATION_DOMAIN, template);
        }
        templates
    }

    #[test]
    fn totals_come_back_with_their_instance_and_every_step_has_a_name_of_its_own() {
        let body = body(&example(), 500_000, &[4; 16]);
        let (mut found, mut instances, mut names, mut order) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for set in decode::sets(&body, 0, OBSERVATION_DOMAIN, &mut templates()).unwrap() {
            let Body::Data(template, data) = set.body else { panic!("no data") };
            for data in &data {
                instances.extend(typed::instance(&template, data).unwrap());
                found.extend(totals(&template, data));
                let name = decode::value(&template, data, &e::SELECTOR_NAME);
                let id = decode::value(&template, data, &e::SELECTOR_ID).map(<[u8]>::to_vec);
                names.extend(name.zip(id).map(|(name, id)| (String::from_utf8_lossy(name).into_owned(), id)));
                if template.id == template::ID_SELECTION_SEQUENCE {
                    order.extend(data.values.iter().skip(2).map(|id| id.to_vec()));
                }
                // They are nobody else's records.
                assert_eq!((typed::record(&template, data), typed::identity(&template, data)), (Ok(None), Ok(None)));
            }
        }
        assert_eq!((found, instances), (vec![example()], vec![[4; 16]]));
        assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), STEPS);
        assert_eq!(names.into_iter().map(|(_, id)| id).collect::<Vec<_>>(), order);
    }

    #[test]
    fn other_exporters_steps_are_not_ours() {
        let read = |template: &Template, sequence: u64| {
            let values = vec![sequence.to_be_bytes(); template.fields.len()];
            totals(template, &DataRecord { offset: 7, values: values.iter().map(<[u8; 8]>::as_slice).collect() })
        };
        let whole = template::selection_totals();
        assert_eq!(read(&whole, 3).map(|totals| (totals.measure, totals.spool.selected)), Some((2, 3)));
        assert_eq!((read(&whole, 0), read(&whole, 257)), (None, None));
        let with =
            |fields: usize| Template { fields: whole.fields.iter().take(fields).copied().collect(), ..whole.clone() };
        for fields in 1..whole.fields.len() {
            assert_eq!(read(&with(fields), 3), None, "{fields} fields");
        }
        // Another exporter's sequence of five steps, or totals of something else than a sequence.
        let mut longer = whole.clone();
        longer.fields.extend(whole.fields.iter().skip(1).take(2).copied().collect::<Vec<_>>());
        assert_eq!(read(&longer, 3), None);
        let mut other = whole;
        other.fields.iter_mut().take(1).for_each(|scope| scope.id = e::SELECTOR_ID.id);
        assert_eq!(read(&other, 3), None);
    }
}
