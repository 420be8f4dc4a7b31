//! The metrics page as Prometheus' own checker reads it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use tap_userspace::control::status::{MeasureStatus, Status};
use tap_userspace::metrics::encode::encode;

#[test]
fn promtool_accepts_the_metrics_page() {
    let Some(promtool) = tap_tests::need::tool("promtool") else { return };
    let mut status = Status { interface: "mirror0".into(), ..Status::default() };
    for id in ["m-1", "m-2"] {
        let mut measure = MeasureStatus::default();
        measure.order.measure = id.into();
        measure.counters.verdicts = [("selected".to_owned(), 2)].into();
        status.measures.push(measure);
    }
    status.counters.verdicts = [("malformed".to_owned(), 1)].into();
    status.counters.reasons = [("vlan_short".to_owned(), 1)].into();
    let page = encode(&status).unwrap();

    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.trim(), "", "promtool has advice");
}
