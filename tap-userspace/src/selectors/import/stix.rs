//! STIX bundles: each `indicator` with a STIX pattern is an entry. `valid_until` shortens it; `valid_from` in the future,
//! `revoked` and patterns of another language refuse it. Objects of other types are no entries.

use super::entry::{Entry, Place, Reading};
use super::pattern;
use crate::selectors::field::Field;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Bundle {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    objects: Vec<Object>,
}

/// What is read of an object. Objects of other types may have keys of these names with anything in them.
#[derive(Deserialize)]
struct Object {
    #[serde(rename = "type")]
    kind: String,
    id: Option<Value>,
    pattern: Option<Value>,
    pattern_type: Option<Value>,
    revoked: Option<Value>,
    valid_from: Option<Value>,
    valid_until: Option<Value>,
}

pub(super) fn read(bytes: &[u8], field: Field, now: Timestamp) -> Result<Reading, String> {
    let bundle: Bundle = serde_json::from_slice(bytes).map_err(|error| place(&error))?;
    if bundle.kind != "bundle" {
        return Err("is no STIX bundle: its type is not \"bundle\"".to_owned());
    }
    let mut reading = Reading::default();
    let mut beginnings = 0_u64;
    for (number, object) in (1..).zip(bundle.objects) {
        if object.kind != "indicator" {
            reading.skip("objects that are no indicators");
            continue;
        }
        let place = Place::object(object.id.as_ref().and_then(Value::as_str), number);
        match indicator(&object, field, now) {
            Ok((pattern, until)) => {
                beginnings += u64::from(pattern.payload_beginnings > 0);
                reading.entries.push(Entry { place, rules: pattern.rules, until });
            }
            Err(reason) => reading.refused.push((place, reason)),
        }
    }
    if beginnings > 0 {
        reading.notes.push(format!("{beginnings} pattern(s) compare a payload: it is looked at from its beginning"));
    }
    Ok(reading)
}

fn indicator(object: &Object, field: Field, now: Timestamp) -> Result<(pattern::Rules, Option<Timestamp>), String> {
    if !matches!(object.revoked, None | Some(Value::Bool(false))) {
        return Err("revoked".to_owned());
    }
    // Before 2.1 there was no other language.
    if object.pattern_type.as_ref().is_some_and(|language| language != "stix") {
        return Err("pattern_type: another language than stix".to_owned());
    }
    if moment("valid_from", object.valid_from.as_ref())?.is_some_and(|from| from > now) {
        return Err("valid_from: has not begun yet".to_owned());
    }
    let until = moment("valid_until", object.valid_until.as_ref())?;
    let text = object.pattern.as_ref().and_then(Value::as_str).ok_or("pattern: is missing")?;
    let rules = pattern::read(text, field).map_err(|error| format!("pattern: {error}"))?;
    Ok((rules, until))
}

fn moment(key: &str, value: Option<&Value>) -> Result<Option<Timestamp>, String> {
    let Some(value) = value else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| format!("{key}: is not a moment"))?;
    text.parse().map(Some).map_err(|_error| format!("{key}: is not a moment"))
}

/// Where the text is not JSON of the form; the parser's message could hold a value.
pub(super) fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}: is not JSON of the format's form", error.line(), error.column())
}
