//! The order's TOML, key by key. Whatever is not here is refused.

use super::OrderError;
use crate::selectors::field::Field;
use ipnetwork::IpNetwork;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) measure: Measure,
    pub(super) approval: Option<Approval>,
    pub(super) notification: Option<Notification>,
    pub(super) facility: Facility,
    pub(super) selection: Selection,
    pub(super) addresses: Addresses,
    pub(super) receiving_facility: ReceivingFacility,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measure {
    pub(super) id: String,
    pub(super) basis: String,
    pub(super) acts: Vec<String>,
    #[serde(deserialize_with = "moment")]
    pub(super) not_before: String,
    #[serde(deserialize_with = "moment")]
    pub(super) not_after: String,
    pub(super) previous: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approval {
    pub(super) id: String,
    #[serde(default)]
    pub(super) conditions: Conditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Conditions {
    pub(super) share_at_most: Option<u32>,
    pub(super) sampling_at_most: Option<u32>,
    #[serde(deserialize_with = "optional_moment")]
    pub(super) ends_by: Option<String>,
    pub(super) conditions_at_least: Option<u8>,
    pub(super) prefixes_excluded: Vec<IpNetwork>,
    pub(super) fields_excluded: Vec<Field>,
    pub(super) no_clear_address: bool,
    pub(super) retention_at_most: Option<u32>,
    pub(super) rules_at_most: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Notification {
    pub(super) id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facility {
    pub(super) id: String,
    pub(super) capacity_bits_per_second: u64,
    pub(super) share_ppm: u32,
    pub(super) sampling_ppm: u32,
    pub(super) tap: Vec<Tap>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tap {
    pub(super) host_key: String,
    pub(super) interface: String,
    pub(super) share_ppm: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    pub(super) standard: String,
    #[serde(default)]
    pub(super) approved_facilities: Vec<IpNetwork>,
    #[serde(default)]
    pub(super) approved_machine_information: Vec<MachineInformation>,
    #[serde(default)]
    pub(super) party_prefixes: Vec<IpNetwork>,
    #[serde(default)]
    pub(super) payload_offsets: Vec<u16>,
}

/// The same form as a condition of a selector set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MachineInformation {
    pub(super) field: Field,
    pub(super) any: Option<Vec<String>>,
    pub(super) mask: Option<String>,
    pub(super) value: Option<String>,
    pub(super) range: Option<[u32; 2]>,
    pub(super) offset: Option<u16>,
    pub(super) bytes: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Addresses {
    pub(super) country_table_sha256: String,
    #[serde(deserialize_with = "moment")]
    pub(super) country_table_oldest_date: String,
    pub(super) clear_addresses: bool,
    pub(super) prefix_preserving: bool,
    pub(super) domestic_conditions: bool,
    pub(super) key_epoch_days: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceivingFacility {
    pub(super) endpoint: String,
    #[serde(default)]
    pub(super) further_endpoints: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) sealing_key: String,
}

/// A date or moment as a text or as TOML's own date-time: both are common.
fn moment<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    let text = value.as_str().map(str::to_owned).or_else(|| value.as_datetime().map(ToString::to_string));
    text.ok_or_else(|| serde::de::Error::custom(format!("{} instead of a date and time", value.type_str())))
}

fn optional_moment<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    moment(deserializer).map(Some)
}

/// Reads the TOML.
pub(super) fn read(text: &str) -> Result<File, OrderError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let rest = text.get(start..).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        let line = text.get(line_start..).unwrap_or(rest).lines().next().unwrap_or_default();
        OrderError::Syntax {
            line: before.matches('\n').count() + 1,
            field: field(before, line),
            reason: error.message().trim().replace('\n', "; "),
        }
    })
}

/// Table and key of a line: the last table header before it, and what stands left of its equals sign.
fn field(before: &str, line: &str) -> String {
    let header = |line: &str| {
        let name = line.trim().strip_prefix('[')?.trim_start_matches('[');
        Some(name.split(']').next()?.trim().to_owned())
    };
    if let Some(table) = header(line) {
        return table;
    }
    let table = before.lines().rev().find_map(header);
    let key = line.split('=').next().unwrap_or_default().trim();
    match (table, key) {
        (Some(table), "") => table,
        (Some(table), key) => format!("{table}.{key}"),
        (None, "") => "order".to_owned(),
        (None, key) => key.to_owned(),
    }
}
