//! The tap in the kernel: pinned maps, one generation after another on the link, an agent that dies and its successor.

use anyhow::{Context, Result};
use std::time::Duration;
use tap_common::abi::counter::Reason;
use tap_common::abi::policy::Lease;
use tap_tests::kernel::{lease_from_now, now_ns, tables, udp_frame};
use tap_tests::lab::Host;
use tap_tests::need;
use tap_userspace::load::{Attach, Tap, TapConfig, cap_policy};
use tap_userspace::path::ring::RingConsumer;

const CAPACITY: u64 = 10_000_000_000;

fn config() -> Result<TapConfig> {
    Ok(TapConfig {
        interface: "mirror".into(),
        pin_directory: "/sys/fs/bpf/gwtap".into(),
        inline: false,
        attach: Attach::Native,
        cap_policy: cap_policy(CAPACITY, 300_000)?,
        log_reasons: true,
        transport: None,
    })
}

#[test]
fn generations_replace_each_other_and_survive_their_agent() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    let host = Host::with_bpf("tap")?;
    host.run("ip", ["link", "add", "mirror", "type", "veth", "peer", "name", "router"])?;
    host.run("ip", ["link", "set", "mirror", "up"])?;
    host.run("ip", ["link", "set", "router", "up"])?;
    let sender = tap_tests::lab::traffic::FrameSender::open(&host, "router")?;
    let send = |port: u16, count: usize| -> Result<()> {
        (0..count).try_for_each(|_packet| sender.send(&udp_frame(port, 60)))?;
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    };
    let selected = |tap: &Tap| -> Result<u64> { Ok(tap.counters()?.measures[0].verdicts[6]) };

    let instance = host.enter(|| -> Result<[u8; 16]> {
        let mut tap = Tap::open(config()?)?;
        tap.set_sampling(0, 1 << 32);
        tap.swap(&tables(Some(443))?, 1)?;
        send(443, 3)?;
        assert_eq!(selected(&tap)?, 0, "without a lease nothing is selected");
        tap.set_lease(0, lease_from_now()?);
        std::thread::sleep(Duration::from_millis(20));
        send(443, 5)?;
        send(80, 5)?;
        assert_eq!(selected(&tap)?, 5);
        tap.swap(&tables(Some(80))?, 2)?;
        // A machine without an accelerator takes longer over two generations than a lease lasts.
        tap.set_lease(0, lease_from_now()?);
        std::thread::sleep(Duration::from_millis(20));
        send(443, 7)?;
        send(80, 11)?;
        assert_eq!(selected(&tap)?, 16, "the counters go on, the set is another");
        sender.send(&[0; 60])?;
        std::thread::sleep(Duration::from_millis(20));
        tap.flush_log();
        let counters = tap.counters()?;
        assert!(counters.reasons[Reason::NotIp as usize] > 0, "not_ip is counted by its reason");
        assert_eq!(counters.observed_packets, counters.judged_packets());
        let mut records = Vec::new();
        for mut ring in RingConsumer::of_cpus(tap.rings()?)? {
            ring.drain(&mut records, 1_000);
        }
        assert_eq!(records.iter().filter(|record| record.generation == 1 && record.destination_port == 443).count(), 5);
        assert_eq!(records.iter().filter(|record| record.generation == 2 && record.destination_port == 80).count(), 11);
        assert_eq!(records.len(), 16);
        tap.set_lease(0, lease_from_now()?);
        std::thread::sleep(Duration::from_millis(20));
        // The agent goes without detaching, as one that is killed does.
        Ok(tap.instance().id)
    })??;
    host.enter(|| -> Result<()> {
        send(80, 4)?;
        let mut tap = Tap::open(config()?)?;
        assert_eq!(tap.instance().id, instance, "the successor takes the maps over");
        assert_eq!(selected(&tap)?, 20, "the pinned program went on until its lease ended");
        tap.swap(&tables(Some(443))?, 3)?;
        tap.set_lease(0, lease_from_now()?);
        std::thread::sleep(Duration::from_millis(20));
        send(443, 2)?;
        assert_eq!(selected(&tap)?, 22);
        tap.detach()?;
        let shown = host.run("ip", ["link", "show", "mirror"])?;
        assert!(!shown.contains("xdp"), "{shown}");
        assert!(!std::path::Path::new("/sys/fs/bpf/gwtap/mirror").exists());
        Ok(())
    })??;
    Ok(())
}

#[test]
fn a_lease_that_is_not_renewed_ends_by_itself() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    let host = Host::with_bpf("lease")?;
    host.run("ip", ["link", "add", "mirror", "type", "veth", "peer", "name", "router"])?;
    host.run("ip", ["link", "set", "mirror", "up"])?;
    host.run("ip", ["link", "set", "router", "up"])?;
    let sender = tap_tests::lab::traffic::FrameSender::open(&host, "router")?;
    host.enter(|| -> Result<()> {
        let mut tap = Tap::open(config()?)?;
        tap.set_sampling(0, 1 << 32);
        tap.swap(&tables(Some(443))?, 1).context("swap")?;
        let now = now_ns()?;
        let deadline_ns = now + 400_000_000;
        tap.set_lease(0, Lease { not_before_ns: now + 100_000_000, deadline_ns });
        let mut last_ns = 0;
        while last_ns < deadline_ns + 100_000_000 {
            sender.send(&udp_frame(443, 60))?;
            last_ns = now_ns()?;
        }
        let mut records = Vec::new();
        for mut ring in RingConsumer::of_cpus(tap.rings()?)? {
            ring.drain(&mut records, 1 << 20);
        }
        assert!(!records.is_empty());
        assert!(records.iter().all(|record| record.time_ns >= now + 100_000_000 && record.time_ns < deadline_ns));
        let counters = tap.counters()?;
        assert!(counters.facility_verdicts[0] > 0);
        assert_eq!(counters.observed_packets, counters.judged_packets());
        tap.detach()?;
        Ok(())
    })??;
    Ok(())
}
