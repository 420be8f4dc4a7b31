//! The benchmark runs: every case, with few repeats, and the object it prints has what it promises. Figures are not judged.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use anyhow::Result;
use tap_tests::bench::{self, CASES, Options};
use tap_tests::need;

#[test]
fn every_case_of_the_benchmark_is_measured() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    for tool in ["xdp-filter", "bpftool", "tcpdump"] {
        if need::tool(tool).is_none() {
            return Ok(());
        }
    }
    if std::thread::available_parallelism()?.get() < 2 {
        need::absent("it needs two CPUs");
        return Ok(());
    }
    // Delivery takes minutes even so, and has tests of its own.
    let names = || CASES.into_iter().map(|(name, ..)| name).filter(|name| !name.starts_with("delivery_"));
    let report = bench::run(&Options { rounds: 1, quick: true, cases: names().map(str::to_owned).collect() })?;
    assert_eq!(report.failed, Vec::<String>::new());
    assert_eq!(report.not_measured, Vec::<String>::new());
    let object = serde_json::to_value(&report)?;
    for name in names() {
        let case = &object["cases"][name];
        assert!(case["ns"].as_f64().unwrap() > 0.0, "{name}: {case}");
        // Two cases compare nothing.
        let alone = ["swap_1m_selectors", "ring_records_per_second"].contains(&name);
        assert_eq!(case["ratio"].as_f64().is_some(), !alone, "{name}: {case}");
    }
    for name in ["floor_ns", "base_ns"] {
        assert!(object[name].as_f64().unwrap() > 0.0, "{name}");
    }
    Ok(())
}

#[test]
fn an_unknown_case_is_refused_with_the_known_ones() {
    let options = Options { rounds: 1, quick: true, cases: vec!["not_a_case".to_owned()] };
    let error = bench::run(&options).err().unwrap().to_string();
    assert!(error.contains("not_a_case") && error.contains("not_sampled"), "{error}");
}
