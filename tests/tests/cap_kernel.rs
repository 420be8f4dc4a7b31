//! The cap in the kernel, on all CPUs of this machine, with a load well above it: measured from the records of a rule that
//! selects everything, not from the program's own counter.
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss, reason = "helpers of a test")]

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tap_common::abi::record::Record;
use tap_tests::kernel::{lease_from_now, now_ns, tables, udp_frame};
use tap_tests::lab::Host;
use tap_tests::lab::traffic::FrameSender;
use tap_tests::need;
use tap_userspace::load::{Attach, Tap, TapConfig, cap_policy};
use tap_userspace::path::ring::RingConsumer;

/// Of a line 30 % may be admitted.
const SHARE_PPM: u32 = 300_000;
/// Sizes of the frames that are offered, up to the usual jumbo frame.
const SIZES: [usize; 4] = [64, 590, 1_514, 9_000];
/// Length of an epoch of the cap.
const EPOCH_NS: u64 = 5_000_000;
/// A stretch of time in which use is measured, if the load was above the cap in each of its epochs.
const STEADY_NS: u64 = 20_000_000;

/// A line of 800 Mbit/s, 30 MB/s to admit; an emulated machine overloads a twentieth of that.
fn capacity_bits_per_second() -> u64 {
    if need::inside_machine() { 40_000_000 } else { 800_000_000 }
}

/// How the load is spread over the CPUs.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    /// Every CPU as much as it can.
    Even,
    /// Of ten frames nine are the first CPU's.
    Skewed,
}

fn pin_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Sends as fast as it goes on one CPU until told to stop; gives the bytes sent in each epoch.
fn flood(host: &Host, cpu: usize, load: Load, first: &AtomicU64, stop: &AtomicBool) -> Result<BTreeMap<u64, u64>> {
    let sender = FrameSender::open(host, "router")?;
    let frames: Vec<Vec<u8>> = SIZES.iter().map(|bytes| udp_frame(443, *bytes)).collect();
    host.enter(|| -> Result<_> {
        pin_to(cpu)?;
        let mut offered = BTreeMap::new();
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            if load == Load::Skewed && cpu > 0 && sent * 9 > first.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            for frame in &frames {
                sender.send(frame)?;
                *offered.entry(now_ns()? / EPOCH_NS).or_default() += frame.len() as u64;
                sent += 1;
            }
            if cpu == 0 {
                first.store(sent, Ordering::Relaxed);
            }
        }
        Ok(offered)
    })?
}

/// Bytes recorded in the stretches in whose every epoch the load was well above the cap, and how many such stretches.
fn used_at_steady_load(records: &[(u64, u64)], offered: &BTreeMap<u64, u64>, share: u64) -> (u64, u64) {
    let above = share * EPOCH_NS / 1_000_000_000 * 3 / 2;
    let epochs = STEADY_NS / EPOCH_NS;
    let is_steady = |stretch: &u64| {
        // One epoch on either side too: sending and arriving are not the same instant.
        (stretch * epochs - 1..=(stretch + 1) * epochs)
            .all(|epoch| offered.get(&epoch).is_some_and(|bytes| *bytes >= above))
    };
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return (0, 0) };
    let steady: BTreeSet<u64> = (first.0 / STEADY_NS + 2..last.0 / STEADY_NS).filter(is_steady).collect();
    let used = records.iter().filter(|(time, _)| steady.contains(&(time / STEADY_NS))).map(|(_, bytes)| bytes).sum();
    (used, steady.len() as u64)
}

/// The most bytes in any window of `window_ns`.
fn most(records: &[(u64, u64)], window_ns: u64) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for (time, bytes) in records {
        sum += bytes;
        while records[first].0 + window_ns <= *time {
            sum -= records[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

#[test]
fn admitted_bytes_stay_within_the_share_in_every_window() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    measured("cap", Load::Even)?;
    measured("skewed", Load::Skewed)
}

/// Offers the load, and holds what was recorded against the share.
fn measured(name: &'static str, load: Load) -> Result<()> {
    let seconds = if need::long() { 30 } else { 3 };
    let host = Host::with_bpf(name)?;
    host.run("ip", ["link", "add", "mirror", "type", "veth", "peer", "name", "router"])?;
    host.run("ip", ["link", "set", "mirror", "up"])?;
    host.run("ip", ["link", "set", "router", "up"])?;
    for port in ["mirror", "router"] {
        host.run("ip", ["link", "set", port, "mtu", "9000"])?;
    }
    let capacity = capacity_bits_per_second();
    let share = capacity * u64::from(SHARE_PPM) / 1_000_000 / 8;
    let (first, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let cpus = std::thread::available_parallelism()?.get();
    let (records, offered, counters) = host.enter(|| -> Result<_> {
        let mut tap = Tap::open(TapConfig {
            interface: "mirror".into(),
            pin_directory: "/sys/fs/bpf/gwtap".into(),
            inline: false,
            attach: Attach::Native,
            cap_policy: cap_policy(capacity, SHARE_PPM)?,
            log_reasons: false,
            transport: None,
        })?;
        tap.set_sampling(0, 1 << 32);
        tap.swap(&tables(None)?, 1)?;
        let mut rings = RingConsumer::of_cpus(tap.rings()?)?;
        let (records, offered) = std::thread::scope(|scope| -> Result<_> {
            let floods: Vec<_> = (0..cpus)
                .map(|cpu| {
                    scope.spawn({
                        let (host, first, stop) = (&host, &first, &stop);
                        move || flood(host, cpu, load, first, stop)
                    })
                })
                .collect();
            let mut records: Vec<Record> = Vec::new();
            let end = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < end {
                tap.set_lease(0, lease_from_now()?);
                for ring in &mut rings {
                    ring.drain(&mut records, usize::MAX);
                    ring.release();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            stop.store(true, Ordering::Relaxed);
            let mut offered = BTreeMap::<u64, u64>::new();
            for flood in floods {
                let sent = flood.join().ok().context("a sender panicked")??;
                assert!(!sent.is_empty(), "a CPU sent nothing");
                sent.into_iter().for_each(|(epoch, bytes)| *offered.entry(epoch).or_default() += bytes);
            }
            for ring in &mut rings {
                ring.drain(&mut records, usize::MAX);
                ring.release();
            }
            Ok((records, offered))
        })?;
        let counters = tap.counters()?;
        tap.detach()?;
        Ok((records, offered, counters))
    })??;

    let measure = counters.measures[0];
    assert_eq!(counters.observed_packets, counters.judged_packets(), "conservation");
    assert_eq!(records.len() as u64 + measure.ring_lost, measure.verdicts[6], "every selected packet has a record");
    let mut times: Vec<(u64, u64)> =
        records.iter().map(|record| (record.time_ns, u64::from(record.line_bytes))).collect();
    times.sort_unstable();
    let bytes: u64 = times.iter().map(|(_, bytes)| bytes).sum();
    println!(
        "{cpus} CPUs, {seconds} s: observed {} bytes ({:.1} × the share), recorded {bytes} bytes, {} over the cap, {} lost by rings",
        counters.observed_bytes,
        counters.observed_bytes as f64 / (share * seconds) as f64,
        measure.verdicts[1],
        measure.ring_lost,
    );
    for window_ms in [1, 10, 100, 1_000, 2_000, 10_000] {
        let beyond_ms = if window_ms < 1_000 { 20 } else { 0 };
        let bound = share * (window_ms + beyond_ms) / 1_000;
        let most = most(&times, window_ms * 1_000_000);
        println!("window of {window_ms} ms: at most {most} bytes, allowed {bound} ({:.3})", most as f64 / bound as f64);
        assert!(most <= bound, "{most} bytes in a window of {window_ms} ms; {bound} are allowed");
    }
    let (used, stretches) = used_at_steady_load(&times, &offered, share);
    let allowed = share * STEADY_NS / 1_000_000_000 * stretches;
    println!(
        "{stretches} stretches of steady load: {used} bytes, {:.4} of the cap",
        used as f64 / allowed.max(1) as f64
    );
    // A machine that is busy with other things may have no such stretch; an emulated one asserts no rates; what rings lost was admitted too.
    let exempt = need::inside_machine() || measure.ring_lost > 0;
    assert!(exempt || used * 100 >= allowed * 95, "{used} bytes of {allowed} at steady load");
    let cpus_met: BTreeSet<u32> = records.iter().map(|record| record.cpu).collect();
    assert_eq!(cpus_met.len(), cpus, "the load met CPUs {cpus_met:?}");
    assert!(measure.verdicts[1] > 0, "the load was not above the cap: nothing was shown");
    assert!(bytes >= share * (seconds - 1) / 2, "the share is not used: {bytes} bytes");
    Ok(())
}
