//! Linux routers that mirror into a tunnel: the tap judges the frames inside, byte for byte, and nothing else.

#![allow(clippy::indexing_slicing, reason = "counters are indexed by their own enums")]

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;
use tap_common::abi::counter::{Reason, Verdict};
use tap_common::limits::LINE_OVERHEAD_BYTES;
use tap_tests::deployment::{Deployment, Plan, rule, selected};
use tap_tests::kernel::{lease_from_now, tables, udp_frame};
use tap_tests::lab::traffic::FrameSender;
use tap_tests::lab::{TunnelLab, wait_until};
use tap_tests::need;
use tap_tests::packet::{Layer, build};
use tap_userspace::load::{Attach, Tap, TapConfig, cap_policy};

const LOCAL4: &str = TunnelLab::LOCAL4;
const LOCAL6: &str = TunnelLab::LOCAL6;
const REMOTE4: &str = TunnelLab::REMOTE4;
const REMOTE6: &str = TunnelLab::REMOTE6;
/// Sizes of the mirrored frames; the tunnel's own headers fit into the link's MTU on top.
const SIZES: [usize; 4] = [60, 61, 700, 1_380];
const ROUNDS: u64 = 25;

/// One peer: `ip link` device, its parameters, and the tap's transport.
struct Peer {
    device: &'static str,
    parameters: Vec<&'static str>,
    transport: &'static str,
}

fn peer(device: &'static str, ends: [&'static str; 2], more: &[&'static str], transport: &'static str) -> Peer {
    let [local, remote] = ends;
    let parameters = [&["local", remote, "remote", local], more].concat();
    Peer { device, parameters, transport }
}

const ENDS4: [&str; 2] = [LOCAL4, REMOTE4];
const ENDS6: [&str; 2] = [LOCAL6, REMOTE6];

#[test]
fn linux_vxlan_peers_mirror_to_the_tap() -> Result<()> {
    run(&[
        peer("vxlan", ENDS4, &["id", "5", "dstport", "4789"], "vxlan"),
        peer("vxlan", ENDS4, &["id", "5", "dstport", "8472"], "vxlan,port=8472"),
        peer("vxlan", ENDS6, &["id", "5", "dstport", "4789", "udp6zerocsumtx"], "vxlan"),
    ])
}

#[test]
fn linux_gretap_peers_mirror_to_the_tap() -> Result<()> {
    run(&[
        peer("gretap", ENDS4, &["key", "5"], "gre-teb"),
        peer("gretap", ENDS4, &["key", "5", "seq", "csum"], "gre-teb"),
        peer("ip6gretap", ENDS6, &["key", "5"], "gre-teb"),
    ])
}

#[test]
fn linux_erspan_peers_mirror_to_the_tap() -> Result<()> {
    run(&[
        peer("erspan", ENDS4, &["seq", "key", "5", "erspan_ver", "1", "erspan", "7"], "erspan"),
        peer("erspan", ENDS4, &["seq", "key", "5", "erspan_ver", "2", "erspan_dir", "ingress"], "erspan"),
        peer("ip6erspan", ENDS6, &["seq", "key", "5", "erspan_ver", "1", "erspan", "7"], "erspan"),
        peer("ip6erspan", ENDS6, &["seq", "key", "5", "erspan_ver", "2", "erspan_dir", "egress"], "erspan"),
    ])
}

/// The same from the configuration on: the agent of a mirror host whose router sends VXLAN.
#[test]
fn an_agent_takes_the_configured_transport_off() -> Result<()> {
    if !need::root() || need::tool("ip").is_none() || need::tool("tc").is_none() {
        return Ok(());
    }
    let lab = TunnelLab::new()?;
    let parameters = ["id", "5", "dstport", "4789", "local", REMOTE4, "remote", LOCAL4];
    if !lab.mirror_into("vxlan", &parameters)? {
        need::kernel_without("vxlan device");
        return Ok(());
    }
    let deployment = Deployment::new(Plan {
        sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]],
        interface: TunnelLab::PORT,
        ..Plan::default()
    })?;
    let section = format!("\n[mirror.transport]\nkind = \"vxlan\"\nlocal = [\"{LOCAL4}\"]\nkey = 5\n");
    let mut file = File::options().append(true).open(deployment.path().join("gwtap.toml"))?;
    file.write_all(section.as_bytes())?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    let sender = FrameSender::open(&lab.source, TunnelLab::SOURCE_PORT)?;
    let layers = json!([
        {"ethernet": {}}, {"ipv4": {"source": "198.51.100.9", "destination": "192.0.2.7"}},
        {"ports": {"protocol": 17, "source_port": 4000, "destination_port": 5000}}, {"payload": {"bytes": 100}},
    ]);
    let layers: Vec<Layer> = serde_json::from_value(layers)?;
    let frame = build(&layers)?;
    let bytes = ROUNDS * (frame.len() as u64 + u64::from(LINE_OVERHEAD_BYTES));
    // A neighbour's report may come along: an attempt counts when its packets are ours alone, and then to the byte.
    for _attempt in 0..5 {
        let before = deployment.status()?;
        (0..ROUNDS).try_for_each(|_| sender.send(&frame))?;
        wait_until("the selected packets", Duration::from_secs(10), || {
            deployment.status().is_ok_and(|status| selected(&status) == selected(&before) + ROUNDS)
        })?;
        let status = deployment.status()?;
        ensure!(status.transport.as_deref() == Some("vxlan,local=192.0.2.10,key=5"), "{:?}", status.transport);
        if status.counters.observed_packets == before.counters.observed_packets + ROUNDS {
            let counted = status.counters.observed_bytes - before.counters.observed_bytes;
            ensure!(counted == bytes, "{counted} bytes of {bytes}");
            return agent.kill();
        }
    }
    anyhow::bail!("other frames came along in every attempt")
}

fn run(peers: &[Peer]) -> Result<()> {
    if !need::root() || need::tool("ip").is_none() || need::tool("tc").is_none() {
        return Ok(());
    }
    let lab = TunnelLab::new()?;
    let mut absent = BTreeSet::new();
    for peer in peers {
        if !lab.mirror_into(peer.device, &peer.parameters)? {
            if absent.insert(peer.device) {
                need::kernel_without(&format!("{} device", peer.device));
            }
            continue;
        }
        let sent: u64 = ROUNDS * SIZES.len() as u64;
        let bytes: u64 = ROUNDS * SIZES.iter().map(|size| (size + LINE_OVERHEAD_BYTES as usize) as u64).sum::<u64>();
        let what = format!("{} {}", peer.device, peer.parameters.join(" "));
        let own = tapped(&lab, &format!("{},local={LOCAL4},local={LOCAL6},key=5", peer.transport))?;
        ensure!(own.selected == sent, "{what}: {} selected of {sent}", own.selected);
        ensure!(own.admitted_bytes == bytes, "{what}: {} bytes of {bytes}", own.admitted_bytes);
        let other = tapped(&lab, &format!("{},local={LOCAL4},local={LOCAL6},key=6", peer.transport))?;
        ensure!(own.digest != other.digest, "{what}: the program digest does not tell the session");
        ensure!(other.selected == 0 && other.other == sent, "{what}: another session is none of ours");
        let elsewhere = tapped(&lab, &format!("{},local=192.0.2.11,local=2001:db8:aaaa::11", peer.transport))?;
        ensure!(elsewhere.selected == 0 && elsewhere.address == sent, "{what}: another host's is none of ours");
        println!("{what}: {sent} frames, {bytes} bytes");
        lab.end_mirror()?;
    }
    Ok(())
}

/// What the tap counted.
struct Counted {
    selected: u64,
    admitted_bytes: u64,
    other: u64,
    address: u64,
    digest: [u8; 32],
}

/// Runs a tap with this transport while every frame is sent once.
fn tapped(lab: &TunnelLab, transport: &str) -> Result<Counted> {
    let transport: tap_userspace::config::transport::Transport = transport.parse().map_err(anyhow::Error::msg)?;
    let constants = transport.constants().map_err(|(key, reason)| anyhow::anyhow!("{key}: {reason}"))?;
    let sender = FrameSender::open(&lab.source, TunnelLab::SOURCE_PORT)?;
    let sent: u64 = ROUNDS * SIZES.len() as u64;
    lab.mirror.enter(|| -> Result<Counted> {
        let mut tap = Tap::open(TapConfig {
            interface: TunnelLab::PORT.into(),
            pin_directory: "/sys/fs/bpf/gwtap".into(),
            inline: false,
            attach: Attach::Native,
            cap_policy: cap_policy(100_000_000_000, 300_000)?,
            log_reasons: false,
            transport: Some(constants),
        })?;
        tap.swap(&tables(Some(443))?, 1)?;
        tap.set_sampling(0, 1 << 32);
        tap.set_lease(0, lease_from_now()?);
        // The cached clock follows within a tick.
        std::thread::sleep(Duration::from_millis(20));
        let before = tap.counters()?.observed_packets;
        for _ in 0..ROUNDS {
            SIZES.iter().try_for_each(|size| sender.send(&udp_frame(443, *size)))?;
        }
        wait_until("arrival of every frame", Duration::from_secs(5), || {
            tap.counters().is_ok_and(|counters| counters.judged_packets() >= before + sent)
        })?;
        let counters = tap.counters()?;
        let measure = counters.measures[0];
        let reason = |reason: Reason| counters.reasons[reason as usize];
        let counted = Counted {
            selected: measure.verdicts[Verdict::Selected as usize],
            admitted_bytes: measure.admitted_bytes,
            other: reason(Reason::TransportOther),
            address: reason(Reason::TransportAddress),
            digest: tap.program_info().context("no program")?.digest,
        };
        tap.detach()?;
        Ok(counted)
    })?
}
