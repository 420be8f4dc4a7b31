//! What is deployed for Prometheus and Grafana, held against a real Prometheus that scraped a real tap: every query of the
//! dashboard and of the rules runs, names series that exist, and has an answer where there must be one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tap_tests::deployment::{Deployment, Plan, Remote, rule};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab, Process};
use tap_tests::prometheus::{self, Prometheus, Rule};
use tap_tests::{gwtap, need};

/// Where the packages put the documentation that alerts lead to.
const INSTALLED: &str = "file:///usr/share/doc/gwtap/";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

#[test]
fn every_query_of_dashboard_and_rules_runs_and_has_its_answer() {
    let Some(program) = need::tool("prometheus") else { return };
    if need::root() && need::tool("tc").is_some() {
        queries(&program).unwrap();
    }
}

fn queries(program: &Path) -> Result<()> {
    let lab = Lab::new()?;
    let plan = Plan {
        capacity_bits_per_second: 10_000_000,
        sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]],
        ..Plan::default()
    };
    let deployment = Deployment::new(plan)?;
    let _remote = Remote::new(&deployment)?;
    let _receiver = deployment.start_receiver(&lab.receiving)?;
    let _agent = deployment.start_agent(&lab.mirror)?;
    let _beside = receiver_beside(&deployment, &lab)?;
    let prometheus = Prometheus::start(&lab.mirror, program, 60)?;
    lab.start_mirror()?;
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    let rate = Rate::new(6_000_000);
    let load = UdpLoad::start((&lab.foreign, FOREIGN4.parse()?), 0, 8, (&lab.domestic, to), b"beacon", rate)?;
    // Longer than the longest range of a query below.
    std::thread::sleep(Duration::from_secs(4));

    let names: BTreeSet<String> = prometheus.names()?.into_iter().collect();
    let mut asked = 0;
    let rules = prometheus.rules()?;
    ensure!(
        rules.iter().filter(|rule| rule.alerting).count() > 20 && rules.iter().any(|rule| !rule.alerting),
        "{rules:?}"
    );
    for Rule { name, alerting, query, health, .. } in &rules {
        ensure!(health == "ok", "{name}: {health}");
        answers(&prometheus, &names, query).with_context(|| name.clone())?;
        if !alerting {
            ensure!(!prometheus.ask(name)?.is_empty(), "{name} records nothing");
        }
        asked += 1;
    }
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(deploy().join("grafana/gwtap.json"))?)?;
    let mut expressions = Vec::new();
    collect(&dashboard, "expr", &mut expressions);
    ensure!(expressions.len() > 30, "the dashboard was not understood: {expressions:?}");
    for expression in &expressions {
        let query = substituted(expression);
        ensure!(!query.contains('$'), "{expression}: a variable that the test does not know");
        answers(&prometheus, &names, &query)?;
        ensure!(!prometheus.ask(&query)?.is_empty(), "{query}: no answer");
        asked += 1;
    }
    let mut variables = Vec::new();
    collect(&dashboard, "definition", &mut variables);
    ensure!(variables.len() == 2, "{variables:?}");
    for variable in variables {
        let inside = variable.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (series, label) = inside.and_then(|inside| inside.split_once(", ")).context(variable.clone())?;
        let values = prometheus.ask(&format!("count by ({label}) ({series})"))?;
        ensure!(values.iter().any(|sample| sample.labels.contains_key(label)), "{variable} has no value");
    }
    println!("{asked} queries, {} series", names.len());
    load.stop()?;
    Ok(())
}

/// A receiving side on the mirror host, for its page alone.
fn receiver_beside(deployment: &Deployment, lab: &Lab) -> Result<Process> {
    let text = std::fs::read_to_string(deployment.file("receive.toml"))?;
    let line = |line: &str| match line.split_once(" = ") {
        Some(("address", _)) => "address = \"127.0.0.1:0\"".to_owned(),
        Some(("directory", _)) => "directory = \"store-beside\"".to_owned(),
        _ => line.to_owned(),
    };
    let text = text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n[metrics]\nlisten = \"127.0.0.1:9465\"\n";
    let file = deployment.file("receive-beside.toml");
    std::fs::write(&file, text)?;
    let mut command = lab.mirror.command(gwtap::binary()?);
    command.args(["receive", "--config"]).arg(file);
    let mut process = Process::start("gwtap receive", command, &deployment.file("receive-beside.log"))?;
    let log = deployment.file("receive-beside.log");
    let is_up = || std::fs::read_to_string(&log).is_ok_and(|said| said.contains("metrics on"));
    process.wait_until("page", Duration::from_secs(20), is_up)?;
    Ok(process)
}

/// Every series that the query names exists, with the matchers that it names them with; and the query runs.
fn answers(prometheus: &Prometheus, names: &BTreeSet<String>, query: &str) -> Result<()> {
    for (name, selector) in prometheus::selectors(query) {
        ensure!(names.contains(&name), "{query}: there is no series {name}");
        let found = prometheus.ask(&selector)?;
        ensure!(!found.is_empty(), "{query}: nothing is {selector}");
    }
    prometheus.ask(query).map(drop)
}

/// The dashboard's variables as it sets them itself, for any host and measure.
fn substituted(expression: &str) -> String {
    let values = [("$__rate_interval", "2s"), ("$__range", "4s"), ("$instance", ".*"), ("$measure", ".*")];
    values.iter().fold(expression.to_owned(), |text, (variable, value)| text.replace(variable, value))
}

/// Every text under `key`, however deep.
fn collect(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            found.extend(entries.get(key).and_then(Value::as_str).map(str::to_owned));
            entries.values().for_each(|value| collect(value, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_alert_leads_to_a_section_of_the_runbooks() {
    let rules = std::fs::read_to_string(prometheus::rules_file()).unwrap();
    let mut alerts = Vec::new();
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alerts.push((name.to_owned(), None));
        } else if let Some(link) = line.strip_prefix("runbook_url: ") {
            alerts.last_mut().unwrap().1 = Some(link.trim_matches('"').to_owned());
        }
    }
    assert!(alerts.len() > 20, "the rules were not understood: {alerts:?}");
    let mut sections = BTreeSet::new();
    for (name, link) in &alerts {
        let link = link.as_deref().unwrap_or_else(|| panic!("{name} has no runbook_url"));
        let (file, section) = link.strip_prefix(INSTALLED).and_then(|link| link.split_once('#')).unwrap();
        let text = std::fs::read_to_string(deploy().join("prometheus").join(file)).unwrap_or_else(|_| panic!("{link}"));
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert!(headings.iter().any(|heading| heading.to_lowercase() == section), "{name}: {link} leads nowhere");
        assert_eq!(section, name.to_lowercase(), "{name} leads to another alert's section");
        sections.extend(headings.into_iter().map(str::to_owned));
    }
    let names: BTreeSet<String> = alerts.into_iter().map(|(name, _)| name).collect();
    assert_eq!(sections, names, "sections without an alert, or the other way round");
}
