//! MISP events: each attribute with `to_ids` is an entry, also those of objects, each by itself. What an event says about
//! times (`first_seen`, `last_seen`, `valid_until` in objects) is not trusted: the end is the import's.

use super::entry::{Entry, Place, Reading};
use super::stix::place as problem;
use crate::selectors::field::{Field, Item};
use crate::selectors::set::Condition;
use serde::Deserialize;
use serde_json::Value;

const NO_EVENT: &str = "is no MISP event (\"Event\" with \"Attribute\"), and no list of them";

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Attribute", default)]
    attributes: Vec<Attribute>,
    #[serde(rename = "Object", default)]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(rename = "Attribute", default)]
    attributes: Vec<Attribute>,
    #[serde(default)]
    deleted: Value,
}

#[derive(Deserialize)]
struct Attribute {
    uuid: Option<String>,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    to_ids: Value,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    deleted: Value,
}

pub(super) fn read(bytes: &[u8]) -> Result<Reading, String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|error| problem(&error))?;
    let mut all = Vec::new();
    events(file, &mut all)?;
    let mut reading = Reading::default();
    let mut number = 0;
    for event in all {
        let own = event.attributes.iter().map(|attribute| (false, attribute));
        let of_objects = event
            .objects
            .iter()
            .flat_map(|object| object.attributes.iter().map(|attribute| (is_true(&object.deleted), attribute)));
        for (object_deleted, attribute) in own.chain(of_objects) {
            number += 1;
            if !is_true(&attribute.to_ids) {
                reading.skip("attributes without to_ids");
                continue;
            }
            let place = Place::object(attribute.uuid.as_deref(), number);
            if object_deleted || is_true(&attribute.deleted) {
                reading.refused.push((place, "deleted".to_owned()));
                continue;
            }
            match rule(attribute) {
                Ok(rule) => reading.entries.push(Entry { place, rules: vec![rule], until: None }),
                Err(reason) => reading.refused.push((place, reason)),
            }
        }
    }
    Ok(reading)
}

/// What instances and their libraries give: an event, a list of them, either below `response`, or an event without its name.
fn events(file: Value, all: &mut Vec<Event>) -> Result<(), String> {
    let mut object = match file {
        Value::Array(files) => return files.into_iter().try_for_each(|file| events(file, all)),
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(NO_EVENT.to_owned()),
    };
    if let Some(response) = object.remove("response") {
        return events(response, all);
    }
    let event = object.remove("Event").unwrap_or(Value::Object(object));
    if event.get("Attribute").is_none() && event.get("Object").is_none() {
        return Err(NO_EVENT.to_owned());
    }
    all.push(serde_json::from_value(event).map_err(|_form| NO_EVENT.to_owned())?);
    Ok(())
}

/// Instances of different ages write flags as booleans, numbers or texts.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_u64() == Some(1),
        Value::String(text) => text == "1" || text.eq_ignore_ascii_case("true"),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

fn rule(attribute: &Attribute) -> Result<Vec<Condition>, String> {
    let value = attribute.value.as_str().ok_or("value: is not a text")?.trim();
    let (address, port) = match attribute.kind.as_str() {
        "ip-src" => (Field::SourceAddress, None),
        "ip-dst" => (Field::DestinationAddress, None),
        "ip-src|port" => (Field::SourceAddress, Some(Field::SourcePort)),
        "ip-dst|port" => (Field::DestinationAddress, Some(Field::DestinationPort)),
        other => {
            let shown = other.len() <= 40 && other.bytes().all(|byte| byte.is_ascii_graphic());
            let name = if shown { other } else { "that it has" };
            return Err(format!("type {name}: is nothing that a packet's header shows"));
        }
    };
    let Some(port) = port else { return Ok(vec![super::address(address, value.to_owned())]) };
    let (host, number) = value.split_once('|').ok_or("value: has no port after a bar (|)")?;
    Ok(vec![
        super::address(address, host.trim().to_owned()),
        Condition::any(Item::Aid, port, vec![number.trim().to_owned()]),
    ])
}
