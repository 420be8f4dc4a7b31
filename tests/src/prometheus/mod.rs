//! A real Prometheus beside a tap, on the mirror host's loopback. In: the rules of `deploy/prometheus`, a speed. Out: answers
//! to PromQL, the state of every rule and alert. What bounds it: the server ends with its handle, its data with its directory.
//!
//! Time may run faster: [`faster`] divides every duration of the rules (how long a condition lasts before it is an alarm, the
//! ranges of rates) by the speed, and the scrape interval alike, so that a range holds as many samples as in service. Nothing
//! else of a rule changes. Bounds that are dates (an order that ends within a week) are not durations of a rule and stay.

mod expression;
mod http;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::deployment::METRICS_PORT;
use crate::lab::{Host, Process, wait_until};

pub use expression::{faster, selectors, series_names};

/// Where the server listens, on the loopback of its host.
const PORT: u16 = 9090;
/// Where a receiving side's page is, on the loopback of its host.
const RECEIVE_METRICS_PORT: u16 = 9465;
/// Scrape and evaluation interval of a carrier's Prometheus as `deploy/README.md` advises it.
pub const INTERVAL_MS: u64 = 15_000;
/// How long it may take to come up.
const START_MAX: Duration = Duration::from_secs(20);

/// A running Prometheus that scrapes the agent of its host, or the receiving side.
#[derive(Debug)]
pub struct Prometheus {
    host: Host,
    process: Process,
    _directory: tempfile::TempDir,
}

/// One element of an instant vector.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its labels, the name included.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A rule as the server has it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Of the alert, or the series it records.
    pub name: String,
    /// Whether it is an alert.
    pub alerting: bool,
    /// Its expression, as the server prints it.
    pub query: String,
    /// `ok`, or why the last evaluation failed.
    pub health: String,
    /// Annotations of an alert.
    pub annotations: BTreeMap<String, String>,
}

impl Prometheus {
    /// Starts `program` on `host` with the deployed rules, `speed` times as fast as in service, and waits for the first
    /// scrape.
    ///
    /// # Errors
    /// Where it does not start, or reaches no agent.
    pub fn start(host: &Host, program: &Path, speed: u64) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("gwtap-prometheus-").tempdir()?;
        let interval = INTERVAL_MS / speed;
        std::fs::write(directory.path().join("gwtap.rules.yml"), faster(&rules_text()?, speed)?)?;
        std::fs::write(
            directory.path().join("prometheus.yml"),
            format!(
                "global: {{scrape_interval: {interval}ms, scrape_timeout: {interval}ms, evaluation_interval: {interval}ms}}\n\
                 rule_files: [gwtap.rules.yml]\n\
                 scrape_configs:\n  - job_name: gwtap\n    static_configs: [{{targets: ['127.0.0.1:{METRICS_PORT}']}}]\n  \
                 - job_name: gwtap-receive\n    static_configs: [{{targets: ['127.0.0.1:{RECEIVE_METRICS_PORT}']}}]\n"
            ),
        )?;
        let mut command = host.command(program);
        // Entering the host's namespaces changes the working directory: whole paths.
        let at = |name: &str| directory.path().join(name).display().to_string();
        command.args([
            format!("--config.file={}", at("prometheus.yml")),
            format!("--storage.tsdb.path={}", at("data")),
            format!("--web.listen-address=127.0.0.1:{PORT}"),
            "--log.level=warn".to_owned(),
        ]);
        let process = Process::start("prometheus", command, &directory.path().join("log"))?;
        let mut server = Self { host: host.clone(), process, _directory: directory };
        let host = server.host.clone();
        server.process.wait_until("scrape", START_MAX, || {
            let up = vector(&host, "up == 1", None);
            up.is_ok_and(|up| !up.is_empty())
        })?;
        Ok(server)
    }

    /// The answer to `query` now.
    ///
    /// # Errors
    /// What the server says of a query that it does not run; an answer that is no vector.
    pub fn ask(&self, query: &str) -> Result<Vec<Sample>> {
        vector(&self.host, query, None)
    }

    /// The answer as of a time, seconds since 1970.
    ///
    /// # Errors
    /// As [`Prometheus::ask`].
    pub fn ask_at(&self, query: &str, time: f64) -> Result<Vec<Sample>> {
        vector(&self.host, query, Some(time))
    }

    /// The one value of `query`.
    ///
    /// # Errors
    /// As [`Prometheus::ask`]; where the answer has not exactly one element.
    pub fn value(&self, query: &str) -> Result<f64> {
        let answer = self.ask(query)?;
        match answer.as_slice() {
            [one] => Ok(one.value),
            other => bail!("{query}: one value is expected, {} came: {other:?}", other.len()),
        }
    }

    /// Every series name that the server knows.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn names(&self) -> Result<Vec<String>> {
        let names = self.data("/api/v1/label/__name__/values")?;
        Ok(names.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Every rule.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let data = self.data("/api/v1/rules")?;
        let groups = data.get("groups").and_then(Value::as_array).context("groups of rules")?;
        let rules = groups.iter().filter_map(|group| group.get("rules")?.as_array()).flatten();
        rules.map(|rule| read_rule(rule).with_context(|| format!("{rule}"))).collect()
    }

    /// Names of the alerts that fire now, with the labels of each.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub fn firing(&self) -> Result<Vec<BTreeMap<String, String>>> {
        let data = self.data("/api/v1/alerts")?;
        let alerts = data.get("alerts").and_then(Value::as_array).context("alerts")?;
        let fires = |alert: &&Value| alert.get("state").and_then(Value::as_str) == Some("firing");
        Ok(alerts.iter().filter(fires).map(|alert| texts(alert.get("labels"))).collect())
    }

    /// Waits until an alert fires, or does not.
    ///
    /// # Errors
    /// When `at_most` passed; says what fires then.
    pub fn wait_for(&self, alert: &str, fires: bool, at_most: Duration) -> Result<()> {
        let is = |labels: &BTreeMap<String, String>| labels.get("alertname").is_some_and(|name| name == alert);
        let state = || self.firing().is_ok_and(|firing| firing.iter().any(is) == fires);
        let what = if fires { format!("firing {alert}") } else { format!("end of {alert}") };
        wait_until(&what, at_most, state).with_context(|| format!("firing: {:?}", self.firing()))
    }

    /// What the server printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    fn data(&self, path: &str) -> Result<Value> {
        data(&http::get(&self.host, PORT, path)?).with_context(|| path.to_owned())
    }
}

/// The file of the rules.
#[must_use]
pub fn rules_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/gwtap.rules.yml")
}

fn rules_text() -> Result<String> {
    std::fs::read_to_string(rules_file()).context("the rules")
}

fn vector(host: &Host, query: &str, time: Option<f64>) -> Result<Vec<Sample>> {
    let time = time.map(|time| format!("&time={time}")).unwrap_or_default();
    let answer = http::get(host, PORT, &format!("/api/v1/query?query={}{time}", http::encoded(query)))?;
    let data = data(&answer).with_context(|| query.to_owned())?;
    let result = data.get("result").and_then(Value::as_array).context("a result")?;
    match data.get("resultType").and_then(Value::as_str) {
        Some("vector") => result.iter().map(|sample| read_sample(sample).context("a sample")).collect(),
        // A number is a vector of one without labels.
        Some("scalar") => {
            Ok(vec![Sample { labels: BTreeMap::new(), value: number(result.get(1)).context("a scalar")? }])
        }
        other => bail!("{query}: not a vector but {other:?}"),
    }
}

fn data(answer: &str) -> Result<Value> {
    let answer: Value = serde_json::from_str(answer).with_context(|| answer.to_owned())?;
    ensure!(answer.get("status").and_then(Value::as_str) == Some("success"), "{answer}");
    Ok(answer.get("data").cloned().unwrap_or_default())
}

fn read_sample(sample: &Value) -> Option<Sample> {
    Some(Sample { labels: texts(sample.get("metric")), value: number(sample.get("value")?.get(1))? })
}

fn number(value: Option<&Value>) -> Option<f64> {
    value?.as_str()?.parse().ok()
}

fn texts(object: Option<&Value>) -> BTreeMap<String, String> {
    let entries = object.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn read_rule(rule: &Value) -> Option<Rule> {
    let text = |key: &str| rule.get(key).and_then(Value::as_str).map(str::to_owned);
    let health = text("health")?;
    Some(Rule {
        name: text("name")?,
        alerting: text("type")? == "alerting",
        query: text("query")?,
        health: text("lastError").filter(|error| !error.is_empty()).unwrap_or(health),
        annotations: texts(rule.get("annotations")),
    })
}
