//! `cargo xtask bench`: what the kernel's side costs, beside drops, Debian's xdp-filter and other ways to do the same.
//!
//! In: nothing but this machine. Out: a table, or one JSON object. Ratios are what counts; nothing here fails by time.

use std::process::ExitCode;

use anyhow::{Result, bail};
use tap_tests::bench::{self, Options, Report};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// The table as BENCHMARKS.md has it
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Measurements of each case, of which the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=101))]
    rounds: u32,
    /// Only this case; may be given several times
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Few repeats: shows that every case runs; its figures say nothing
    #[arg(long)]
    quick: bool,
}

pub(crate) fn bench(args: &Args) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("bench loads programs into the kernel: run it as root");
    }
    let options = Options { rounds: args.rounds, quick: args.quick, cases: args.cases.clone() };
    let report = bench::run(&options)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?)
    } else if args.markdown {
        markdown(&report)
    } else {
        print(&report, args)
    }
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report, args: &Args) {
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
    println!(
        "XDP_DROP alone: {} ns; behind the pool of flows (base): {} ns",
        shown(report.floor_ns),
        shown(report.base_ns)
    );
    println!("{:<44} {:>9} {:>9} {:>7}  {:<8} ratio to", "case", "ns", "reference", "ratio", "goal");
    for (name, case) in &report.cases {
        let ratio = case.ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let (ns, reference) = (case.ns, shown(case.reference_ns));
        println!("{name:<44} {ns:>9.1} {reference:>9} {ratio:>7}  {:<8} {}", case.goal, case.reference);
        for (what, value) in &case.further {
            println!("{:<44} {value:>9}  {what}", "");
        }
    }
    for line in &report.not_measured {
        println!("not measured: {line}");
    }
    for line in &report.failed {
        println!("failed: {line}");
    }
    let quick = if args.quick { "; --quick: the figures say nothing" } else { "" };
    println!("medians of {}{quick}; see BENCHMARKS.md for what they mean on a real port", args.rounds);
}

fn markdown(report: &Report) {
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    println!("Floor {} ns, base {} ns.\n", shown(report.floor_ns), shown(report.base_ns));
    println!("| case | ns | beside | ratio | goal | |\n|---|---|---|---|---|---|");
    for (name, case) in &report.cases {
        let further: Vec<_> =
            case.further.iter().map(|(what, value)| format!("{} {value}", what.replace('_', " "))).collect();
        let beside = match case.reference_ns {
            Some(ns) => format!("{ns} ({})", case.reference),
            None => "–".to_owned(),
        };
        let (ns, ratio, goal) = (case.ns, shown(case.ratio), case.goal);
        println!("| `{name}` | {ns} | {beside} | {ratio} | {goal} | {} |", further.join(", "));
    }
    for line in report.not_measured.iter().chain(&report.failed) {
        println!("\nNot measured: {line}");
    }
}
