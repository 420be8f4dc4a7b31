//! One measure of a deployment, its file names, and rules for its selector sets.

use jiff::Timestamp;
use serde_json::Value;

use super::{ACT, MEASURE, Plan, documents, running};

/// One measure: the first is a plan's own, others stand beside it.
#[derive(Clone, Debug)]
pub struct MeasurePlan {
    /// Its id; files of a measure that is not the first begin with it.
    pub id: String,
    /// The order's basis; the first's is `foreign-to-domestic`.
    pub basis: &'static str,
    /// Part of the facility's capacity that may be admitted, in parts per million.
    pub share_ppm: u32,
    /// Part of the flows that is looked at at most, in parts per million.
    pub sampling_ppm: u32,
    /// Rules of each selector set, in order of their versions from 1.
    pub sets: Vec<Vec<Value>>,
    /// When the order ends, if not with the deployment's.
    pub not_after: Option<Timestamp>,
    /// Port of its receiving side.
    pub port: u16,
}

impl MeasurePlan {
    /// The plan's own.
    pub(super) fn first(plan: &Plan) -> Self {
        Self {
            id: MEASURE.to_owned(),
            basis: "foreign-to-domestic",
            share_ppm: plan.share_ppm,
            sampling_ppm: plan.sampling_ppm,
            sets: plan.sets.clone(),
            not_after: None,
            port: running::PORT,
        }
    }

    /// A file or directory of this measure.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        if self.id == MEASURE { name.to_owned() } else { format!("{}-{name}", self.id) }
    }
}

/// A rule for foreign traffic from `source` (a prefix) to the UDP or TCP port `port`; `protocol` is `tcp` or `udp`.
#[must_use]
pub fn rule(id: &str, source: &str, field: &str, port: u16, protocol: &str) -> Value {
    rule_on(id, ("source-address", source), (field, port), protocol)
}

/// The same rule with a payload condition: `bytes` at the payload's beginning.
#[must_use]
pub fn with_payload(mut rule: Value, bytes: &[u8]) -> Value {
    let payload = serde_json::json!({"item": "command", "field": "payload", "offset": 0, "bytes": hex::encode(bytes)});
    if let Some(conditions) = rule.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.push(payload);
    }
    rule
}

/// A rule for traffic with this facility address, this port and this protocol.
#[must_use]
pub fn rule_on(id: &str, address: (&str, &str), port: (&str, u16), protocol: &str) -> Value {
    serde_json::json!({
        "id": id, "act": ACT, "reason": "laboratory", "valid_until": documents::rule_end().to_string(),
        "conditions": [
            {"item": "facility-address", "field": address.0, "any": [address.1]},
            {"item": "aid", "field": port.0, "any": [port.1.to_string()]},
            {"item": "aid", "field": "protocol", "any": [protocol]},
        ],
    })
}
