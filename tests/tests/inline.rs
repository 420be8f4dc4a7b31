//! Inline mode: the tap sits in the carrier's own link and must never lose a frame of it, whatever the verdict, whoever died.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tap_tests::deployment::{Deployment, KernelCounters, Plan, rule};
use tap_tests::lab::traffic::{FrameSender, FrameSink};
use tap_tests::lab::{InlineLab, wait_until};
use tap_tests::need;

/// Stands in every frame that is sent.
const MARK: &[u8] = b"mark of an inline frame";
/// A lease lasts 5 s at most.
const LEASE_MAX: Duration = Duration::from_secs(5);
/// How long a phase with a live lease lasts.
const LIVE: Duration = Duration::from_secs(2);

#[test]
fn no_frame_of_any_verdict_is_lost_while_the_lease_lapses_and_the_agent_dies() {
    if !need::root() || need::tool("ip").is_none() {
        return;
    }
    inline().unwrap();
}

fn inline() -> Result<()> {
    let lab = InlineLab::new()?;
    let deployment = Deployment::new(Plan {
        // So small a facility that most of the flood is over its cap.
        capacity_bits_per_second: 5_000_000,
        sampling_ppm: 800_000,
        sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]],
        inline: true,
        interface: InlineLab::PORT,
        ..Plan::default()
    })?;
    let mut agent = deployment.start_agent(&lab.carrier)?;
    let arrived = FrameSink::start(&lab.carrier, InlineLab::PORT, MARK)?;
    let sender = FrameSender::open(&lab.far, InlineLab::FAR_PORT)?;
    let flood = flood();

    let mut sent = flood_for(&sender, &flood, LIVE)?;
    let status = deployment.status()?;
    let own = status.measures.into_iter().flat_map(|measure| measure.counters.verdicts);
    let verdicts: BTreeMap<String, u64> = own.chain(status.counters.verdicts).collect();
    let reached = ["malformed", "unsupported", "not_sampled", "over_cap", "not_matched", "selected"];
    for name in reached {
        ensure!(verdicts.get(name) > Some(&0), "the flood did not reach {name}: {verdicts:?}");
    }

    agent.kill()?;
    sent += flood_for(&sender, &flood, LEASE_MAX + LIVE)?;
    let KernelCounters { observed, no_lease, .. } = deployment.kernel_counters(&lab.carrier)?;
    ensure!(no_lease > 0, "the flood did not outlast the lease");
    ensure!(observed == sent, "{observed} frames observed of {sent}");

    let mut agent = deployment.start_agent(&lab.carrier)?;
    sent += flood_for(&sender, &flood, LIVE)?;
    wait_until("arrival of every frame", Duration::from_secs(5), || arrived.count() >= sent).unwrap_or(());
    ensure!(arrived.count() == sent, "{} frames arrived of {sent}", arrived.count());
    agent.kill()
}

/// One frame of every kind that a verdict exists for, in several flows.
fn flood() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for flow in 0..32 {
        frames.push(udp([198, 51, 100, 7], [192, 0, 2, 7], 4_000 + flow, 5_000));
        frames.push(udp([203, 0, 113, 7], [192, 0, 2, 7], 4_000 + flow, 6_000));
        frames.push(udp([192, 0, 2, 8], [192, 0, 2, 7], 4_000 + flow, 6_000));
    }
    // An IPv4 header shorter than any may be, and an EtherType that is not IP.
    let mut malformed = udp([198, 51, 100, 7], [192, 0, 2, 7], 4_000, 5_000);
    if let Some(byte) = malformed.get_mut(14) {
        *byte = 0x43;
    }
    let mut unsupported = udp([198, 51, 100, 7], [192, 0, 2, 7], 4_000, 5_000);
    if let Some(ether_type) = unsupported.get_mut(12..14) {
        ether_type.copy_from_slice(&[0x88, 0xb5]);
    }
    frames.extend([malformed, unsupported]);
    frames
}

fn flood_for(sender: &FrameSender, frames: &[Vec<u8>], time: Duration) -> Result<u64> {
    let until = Instant::now() + time;
    let mut sent = 0;
    while Instant::now() < until {
        for frame in frames {
            sender.send(frame)?;
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(sent)
}

/// An Ethernet frame with a UDP datagram that carries the mark.
fn udp(source: [u8; 4], destination: [u8; 4], source_port: u16, destination_port: u16) -> Vec<u8> {
    const DATAGRAM_BYTES: u16 = 8 + 23;
    const _: () = assert!(MARK.len() == 23);
    let mut frame = vec![0xff; 6];
    frame.extend([0x02, 0, 0, 0, 0, 1, 0x08, 0x00]);
    frame.extend([0x45, 0]);
    frame.extend((20 + DATAGRAM_BYTES).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source);
    frame.extend(destination);
    for word in [source_port, destination_port, DATAGRAM_BYTES, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend(MARK);
    frame
}
