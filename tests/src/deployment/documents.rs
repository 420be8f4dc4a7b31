//! The signed documents of a deployment: trust roots, country table, order, selector sets, activations.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{ACT, Deployment, MeasurePlan, SERVER_NAME, STANDARD, window, write};
use crate::lab::RECEIVING;

/// Whose signatures the deployment's hosts trust: role and name.
pub(super) const SIGNATORIES: [(&str, &str); 4] = [
    ("government", "ministry"),
    ("commission", "commission"),
    ("selector-author", "author"),
    ("selector-approver", "approver"),
];

/// The documentation prefixes (RFC 5737, RFC 3849): one country inside, two outside; and one range that is none, without which
/// the table would be empty to an agent that does not take documentation prefixes.
const COUNTRY_TABLE: &str = "\
1.0.0.0,1.0.0.255,AU
192.0.2.0,192.0.2.255,JP
198.51.100.0,198.51.100.255,US
203.0.113.0,203.0.113.255,KR
2001:db8:1::,2001:db8:1:ffff:ffff:ffff:ffff:ffff,JP
2001:db8:2::,2001:db8:2:ffff:ffff:ffff:ffff:ffff,US
";
/// Day of the country table.
pub(super) const COUNTRY_TABLE_DATE: &str = "2026-11-01";

/// When the rules and activations of a deployment end: an hour before its order.
pub(super) fn rule_end() -> Timestamp {
    let [_, end] = window();
    end - SignedDuration::from_hours(1)
}

impl Deployment {
    pub(super) fn documents(&self) -> Result<()> {
        self.trust_roots()?;
        write(&self.file("country.csv"), COUNTRY_TABLE)?;
        for measure in self.measures() {
            let [text, note] = ["order.toml", "order.note"].map(|name| measure.file(name));
            write(&self.file(&text), &self.order_text(measure)?)?;
            self.sign_order(&text, &note)?;
            for (index, rules) in measure.sets.iter().enumerate() {
                let version = index + 1;
                let name = measure.file(&format!("selectors-{version}.json"));
                write(&self.file(&name), &set_text(measure, version, rules)?)?;
                self.activate_for(measure, version)?;
            }
        }
        Ok(())
    }

    fn trust_roots(&self) -> Result<()> {
        let mut text = String::new();
        for (role, name) in SIGNATORIES {
            let public = self.read(&format!("keys/{name}.pub"))?;
            write!(text, "[[key]]\nname = \"{name}\"\nrole = \"{role}\"\npublic = \"{}\"\n\n", public.trim())?;
        }
        write(&self.file("roots.toml"), &text)
    }

    /// The order's text. The laboratory's first measure is one under Art. 32: foreign traffic into the country.
    fn order_text(&self, measure: &MeasurePlan) -> Result<String> {
        let [not_before, not_after] = window();
        let not_after = measure.not_after.unwrap_or(not_after);
        let plan = self.plan();
        let table = hex::encode(Sha256::digest(self.read("country.csv")?));
        let sealing_key = self.read("keys/facility.seal.pub")?;
        Ok(format!(
            r#"[measure]
id = "{id}"
basis = "{basis}"
acts = ["{ACT}"]
not_before = "{not_before}"
not_after = "{not_after}"

[approval]
id = "approval-1"

[facility]
id = "facility-1"
capacity_bits_per_second = {capacity}
share_ppm = {share}
sampling_ppm = {sampling}

[[facility.tap]]
host_key = "{host_key}"
interface = "{interface}"
share_ppm = {share}

[selection]
standard = "{STANDARD}"
approved_facilities = ["198.51.100.0/24", "203.0.113.0/24", "2001:db8:2::/48"]
payload_offsets = [0]

[[selection.approved_machine_information]]
field = "port"
any = ["5000-5099", "8443"]

[addresses]
country_table_sha256 = "{table}"
country_table_oldest_date = "{COUNTRY_TABLE_DATE}"
clear_addresses = true
prefix_preserving = false
domestic_conditions = false
key_epoch_days = 30

[receiving_facility]
endpoint = "{RECEIVING}:{port}"
names = ["{SERVER_NAME}"]
sealing_key = "{sealing_key}"
"#,
            id = measure.id,
            basis = measure.basis,
            port = measure.port,
            capacity = plan.capacity_bits_per_second,
            share = measure.share_ppm,
            sampling = measure.sampling_ppm,
            host_key = self.host_key()?,
            interface = plan.interface,
            sealing_key = sealing_key.trim(),
        ))
    }

    /// Signs the order `from` by government and Commission into the note `to`.
    ///
    /// # Errors
    /// What `gwtap order sign` refuses.
    pub fn sign_order(&self, from: &str, to: &str) -> Result<()> {
        self.gwtap(["order", "sign", from, "--key", "keys/ministry.key", "--out", to])?;
        self.gwtap(["order", "sign", to, "--key", "keys/commission.key"])?;
        Ok(())
    }

    /// Activates the first measure's selector set of `version` by author and approver; the activation's number is the version.
    ///
    /// # Errors
    /// What `gwtap selectors activate` refuses.
    pub fn activate(&self, version: usize) -> Result<()> {
        self.measures().first().map_or(Ok(()), |measure| self.activate_for(measure, version))
    }

    fn activate_for(&self, measure: &MeasurePlan, version: usize) -> Result<()> {
        let [set, activation] = [format!("selectors-{version}.json"), format!("activation-{version}.note")];
        let [set, activation, order] = [&set, &activation, "order.note"].map(|name| measure.file(name));
        let (number, end) = (version.to_string(), measure.not_after.unwrap_or_else(rule_end).to_string());
        let place = ["--order", &order, "--out", &activation];
        let say = ["--number", &number, "--valid-until", &end];
        let keys = ["--key", "keys/author.key", "--key", "keys/approver.key"];
        let words = ["selectors", "activate", set.as_str()];
        self.gwtap(words.iter().chain(&place).chain(&say).chain(&keys).copied())?;
        Ok(())
    }

    fn read(&self, name: &str) -> Result<String> {
        let file = self.file(name);
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    }
}

/// A selector set's text.
fn set_text(measure: &MeasurePlan, version: usize, rules: &[Value]) -> Result<String> {
    let mut rules = rules.to_vec();
    if let Some(end) = measure.not_after {
        for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
            rule.insert("valid_until".into(), end.to_string().into());
        }
    }
    let set = serde_json::json!({"measure": measure.id, "version": version, "standard": STANDARD, "rules": rules});
    serde_json::to_string_pretty(&set).context("a selector set")
}
