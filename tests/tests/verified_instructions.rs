//! How many instructions each kernel's verifier walks through for the program, tracked in `tests/verified-instructions.toml`
//! for each kernel and each set of dimensions: a count that grew fails until the file says so, and the file is what a reviewer
//! sees. The verifier gives up at a million.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tap_tests::lab::Host;
use tap_tests::need;
use tap_tests::vm::kernel;
use tap_tests::world::WorldFile;
use tap_userspace::load::{Attach, Tables, Tap, TapConfig, cap_policy};

/// Instructions after which a verifier gives up (BPF_COMPLEXITY_LIMIT_INSNS of linux/bpf.h), and the part of it that we take
/// at most: kernels differ, and the next one must still load the program.
const LIMIT: u32 = 1_000_000;
const PART: u32 = 2;

/// Counts by set of dimensions, by release of the kernel.
type Tracked = BTreeMap<String, BTreeMap<String, u32>>;

fn tracked() -> Result<Tracked> {
    toml::from_str(include_str!("../verified-instructions.toml")).context("tests/verified-instructions.toml")
}

/// Rules that ask for an address and, one after another, for the conditions of `fields`.
fn tables(fields: &[&str], rules: usize) -> Result<Tables> {
    let condition = |field: &str| match field {
        "tcp-flags" => json!({"item": "aid", "field": field, "mask": "SYN,ACK", "value": "SYN"}),
        "ip-length" => json!({"item": "aid", "field": field, "range": [40, 2000]}),
        "fragment" => json!({"item": "aid", "field": field, "any": ["none"]}),
        "protocol" => json!({"item": "aid", "field": field, "any": ["udp"]}),
        "payload" => {
            json!({"item": "command", "field": field, "offset": 4, "bytes": "aabbccddeeff001122", "mask": "ff".repeat(9)})
        }
        "address" | "destination-address" => {
            json!({"item": "facility-address", "field": field, "any": ["198.51.100.0/25"]})
        }
        _ => json!({"item": "aid", "field": field, "any": ["443"]}),
    };
    let rules: Vec<Value> = fields
        .iter()
        .cycle()
        .take(rules)
        .enumerate()
        .map(|(number, field)| {
            let source = format!("198.51.100.{}/32", number % 128);
            json!({
                "id": format!("r{number}"), "act": "a-1", "reason": "counted", "valid_until": "2199-01-01T00:00:00Z",
                "conditions": [{"item": "facility-address", "field": "source-address", "any": [source]}, condition(field)],
            })
        })
        .collect();
    let world = WorldFile {
        basis: "foreign-to-domestic".to_owned(),
        domestic: vec!["203.0.113.0/24".parse()?, "2001:db8:d::/48".parse()?],
        foreign: vec!["198.51.100.0/25".parse()?, "2001:db8:f::/48".parse()?],
        rest: "unlisted".to_owned(),
        set: json!({"measure": "m-laboratory", "version": 1, "standard": "s-laboratory", "rules": rules}),
        transport: None,
        sampling_ppm: None,
        sampling_seed: 7,
        cap: None,
        lease: None,
    };
    Ok(world.setup()?.tables)
}

/// The counts of the running kernel for every set of dimensions that differs in the program's constants.
fn counts() -> Result<BTreeMap<String, u32>> {
    const ALL: [&str; 5] = ["destination-port", "protocol", "tcp-flags", "ip-length", "fragment"];
    /// Every place of the fields that the brief way decides about.
    const PLACES: [&str; 6] = ["destination-port", "source-port", "port", "protocol", "destination-address", "address"];
    let and_payload = |fields: &[&'static str]| [fields, &["payload"]].concat();
    let sets: [(&str, &[&str], usize); 12] = [
        ("address, port", &["destination-port"], 1),
        ("address, protocol", &["protocol"], 1),
        ("address, TCP flags", &["tcp-flags"], 1),
        ("address, IP length", &["ip-length"], 1),
        ("address, fragment", &["fragment"], 1),
        ("all, 64 rules", &ALL, 64),
        ("all, 128 rules", &ALL, 128),
        ("all, 256 rules", &ALL, 256),
        ("all and payload, 64 rules", &and_payload(&ALL), 64),
        ("all and payload, 256 rules", &and_payload(&ALL), 256),
        ("places, 64 rules", &PLACES, 64),
        ("places and payload, 64 rules", &and_payload(&PLACES), 64),
    ];
    let host = Host::with_bpf("verifier")?;
    host.run("ip", ["link", "add", "mirror", "type", "veth", "peer", "name", "router"])?;
    host.enter(|| -> Result<_> {
        let mut tap = Tap::open(TapConfig {
            interface: "mirror".into(),
            pin_directory: "/sys/fs/bpf/gwtap".into(),
            inline: false,
            attach: Attach::Native,
            cap_policy: cap_policy(1_000_000_000, 300_000)?,
            log_reasons: false,
            transport: None,
        })?;
        let mut counts = BTreeMap::new();
        for (generation, (name, fields, rules)) in (1..).zip(sets) {
            tap.swap(&tables(fields, rules)?, generation).with_context(|| name.to_owned())?;
            let info = tap.program_info().context("no program")?;
            let count = info.verified_instructions.context("the kernel does not tell what it verified")?;
            counts.insert(name.to_owned(), count);
        }
        tap.detach()?;
        Ok(counts)
    })?
}

/// What is wrong with these counts of a kernel, for a reviewer to decide on.
fn growth(counts: &BTreeMap<String, u32>, tracked: &BTreeMap<String, u32>) -> Vec<String> {
    counts
        .iter()
        .filter_map(|(name, &count)| match tracked.get(name) {
            Some(&before) if count > before => Some(format!("{name}: {count}, tracked is {before}")),
            Some(_) => None,
            None => Some(format!("{name}: {count}, not tracked")),
        })
        .collect()
}

#[test]
fn no_count_is_over_the_tracked_one() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    let counts = counts()?;
    let table: String = counts.iter().map(|(name, count)| format!("\"{name}\" = {count}\n")).collect();
    // Past the harness, which would keep the output of a test that passes.
    writeln!(std::io::stdout(), "[\"{release}\"]\n{table}")?;
    let most = counts.values().copied().max().context("no count")?;
    ensure!(most <= LIMIT / PART, "{most} instructions: a kernel that counts a little more would refuse the program");
    let tracked = tracked()?;
    // Of a kernel that nobody pinned there is nothing to compare with but the limit.
    let Some(tracked) = tracked.get(&release) else { return Ok(()) };
    let grown = growth(&counts, tracked);
    ensure!(
        grown.is_empty(),
        "more instructions to verify on {release}: {}. If that is worth it, tests/verified-instructions.toml gets:\n{table}",
        grown.join("; ")
    );
    Ok(())
}

#[test]
fn every_pinned_kernel_is_tracked() -> Result<()> {
    let tracked = tracked()?;
    for pin in kernel::pins()?.kernel {
        let named = |release: &String| pin.package.iter().any(|package| package.name.contains(release.as_str()));
        ensure!(tracked.keys().any(named), "kernel {}: tests/verified-instructions.toml has no counts of it", pin.name);
    }
    Ok(())
}

#[test]
fn growth_is_named_and_shrinking_is_not() {
    let of = |count| BTreeMap::from([("all".to_owned(), count)]);
    assert_eq!(growth(&of(10), &of(10)), [] as [String; 0]);
    assert_eq!(growth(&of(9), &of(10)), [] as [String; 0]);
    assert_eq!(growth(&of(11), &of(10)), ["all: 11, tracked is 10"]);
    assert_eq!(growth(&of(1), &BTreeMap::new()), ["all: 1, not tracked"]);
}
