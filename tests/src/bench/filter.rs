//! The product's way on one constant packet beside Debian's xdp-filter with one IPv4 rule, neither selecting it.

use anyhow::{Context as _, Result};
use tap_common::abi::counter::Verdict;
use tap_userspace::load::bench::{Bench, Program, Setup};

use super::pooled::verify;
use super::world::{self, End};
use super::{Bencher, Case, Outcome, cost, unlimited};
use crate::lab::Host;
use crate::need;

/// Runs of one measurement.
const REPEAT: u32 = 1 << 21;

pub(super) fn constant_packet(bencher: &mut Bencher) -> Result<Outcome> {
    let (Some(filter), Some(bpftool)) = (need::find("xdp-filter"), need::find("bpftool")) else {
        return Ok(Outcome::Absent("xdp-filter or bpftool is not installed (cargo xtask setup --test)".to_owned()));
    };
    let host = Host::with_bpf("filter")?;
    host.run("ip", ["link", "add", "port", "type", "veth", "peer", "name", "router"])?;
    host.run("ip", ["link", "set", "port", "up"])?;
    let program = filter.to_string_lossy().into_owned();
    host.run(&program, ["load", "-m", "native", "-f", "ipv4", "port"])?;
    host.run(&program, ["ip", "-m", "src", "192.0.2.77"])?;
    let tool = bpftool.to_string_lossy().into_owned();
    let shown: serde_json::Value = serde_json::from_str(&host.run(&tool, ["-j", "net", "show"])?)?;
    let id = shown
        .pointer("/0/xdp/0/id")
        .and_then(serde_json::Value::as_u64)
        .context("bpftool does not show xdp-filter's program")?;

    let selectors = bencher.world.mixed(10_000)?;
    let flow = bencher.world.elsewhere(1, &selectors);
    let tables = bencher.world.tables(&selectors, End::Either, 1_000_000)?;
    let mut template = world::ipv4();
    flow.iter().for_each(|flow| template.write(flow));
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("frame");
    std::fs::write(&file, &template.frame)?;
    let repeat = bencher.repeat(REPEAT);
    let line =
        ["prog", "run", "id", &id.to_string(), "data_in", &file.to_string_lossy(), "repeat", &repeat.to_string()]
            .map(str::to_owned);
    let programs = &[Program::Bare, Program::Constant];
    let flows = &flow;
    let ours = Bench::new(Setup {
        programs,
        tables: &tables,
        flows,
        template,
        cap_policy: unlimited()?,
        interface: 0,
        kernel_maps: None,
    })?;
    verify(&ours, Program::Constant, Verdict::NotMatched, repeat)?;
    let [bare, mine, theirs] = bencher.medians(|| {
        let bare = cost(&ours, Program::Bare, repeat)?;
        let mine = cost(&ours, Program::Constant, repeat)?;
        let text = host.run(&tool, &line)?;
        // bpftool tells the kernel's mean, a whole number.
        let theirs = text.rsplit_once("(average): ").and_then(|(_, rest)| rest.split("ns").next()?.parse().ok());
        Ok([bare, mine, theirs.with_context(|| format!("bpftool does not tell a duration: {text}"))?])
    })?;
    host.run(&program, ["unload", "port"])?;
    let mut case = Case::new(mine, theirs, "xdp-filter");
    case.further.insert("bare_ns", super::round(bare, 10.0));
    Ok(Outcome::Measured(case))
}
