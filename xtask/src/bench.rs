//! `cargo xtask bench`: what the whole way costs for each packet, beside a drop and beside Debian's xdp-filter, in one run.
//!
//! In: nothing but this machine. Out: a table, or one JSON object. Every figure is the median of several measurements that
//! take turns, so that what else the machine does meets all of them alike. Ratios are what counts; nothing here can fail by
//! time.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use tap_tests::bench::{self, Case};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Measurements of each case, of which the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=101))]
    rounds: u32,
}

/// What is printed with `--json`.
#[derive(serde::Serialize)]
struct Report {
    floor_ns: u64,
    base_ns: u64,
    cases: BTreeMap<&'static str, Case>,
    not_measured: Vec<String>,
}

pub(crate) fn bench(args: &Args) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("bench loads programs into the kernel: run it as root");
    }
    let mut report = Report { floor_ns: 0, base_ns: 0, cases: BTreeMap::new(), not_measured: Vec::new() };
    for flows in [1_024, 65_536] {
        let results = bench::pooled(flows, args.rounds)?;
        if flows == 1_024 {
            report.floor_ns = results.bare_ns;
            report.base_ns = results.base_ns;
        }
        report.cases.extend(results.cases);
    }
    match bench::against_xdp_filter(args.rounds)? {
        Ok(case) => {
            report.cases.insert("constant_packet_vs_xdp_filter", case);
        }
        Err(reason) => report.not_measured.push(format!("constant_packet_vs_xdp_filter: {reason}")),
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?)
    } else {
        print(&report, args.rounds)
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report, rounds: u32) {
    println!("XDP_DROP alone: {} ns; behind the pool of flows (base): {} ns", report.floor_ns, report.base_ns);
    println!("{:<42} {:>6} {:>9} {:>7}  ratio to", "case", "ns", "reference", "ratio");
    for (name, case) in &report.cases {
        println!("{name:<42} {:>6} {:>9} {:>7.2}  {}", case.ns, case.reference_ns, case.ratio, case.reference);
    }
    for line in &report.not_measured {
        println!("not measured: {line}");
    }
    println!(
        "medians of {rounds} by BPF_PROG_TEST_RUN on this machine; see BENCHMARKS.md for what they mean on a real port"
    );
}
