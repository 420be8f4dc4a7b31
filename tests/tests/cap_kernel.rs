//! The cap in the kernel, on all CPUs of this machine, with a load well above it: measured from the records of a rule that
//! selects everything, not from the program's own counter.
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss, reason = "helpers of a test")]

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tap_common::abi::record::Record;
use tap_common::limits::RING_BYTES;
use tap_tests::kernel::{lease_from_now, tables, udp_frame};
use tap_tests::lab::Host;
use tap_tests::lab::traffic::FrameSender;
use tap_tests::need;
use tap_userspace::load::{Attach, Tap, TapConfig, cap_policy};
use tap_userspace::path::ring::RingConsumer;

/// Of a line 30 % may be admitted.
const SHARE_PPM: u32 = 300_000;
/// Sizes of the frames that are offered.
const SIZES: [usize; 3] = [64, 590, 1_514];

/// A line of 800 Mbit/s, 30 MB/s to admit; an emulated machine overloads a twentieth of that.
fn capacity_bits_per_second() -> u64 {
    if need::inside_machine() { 40_000_000 } else { 800_000_000 }
}

fn pin_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Sends as fast as it goes on one CPU until told to stop.
fn flood(host: &Host, cpu: usize, stop: &AtomicBool) -> Result<u64> {
    let sender = FrameSender::open(host, "router")?;
    let frames: Vec<Vec<u8>> = SIZES.iter().map(|bytes| udp_frame(443, *bytes)).collect();
    host.enter(|| -> Result<u64> {
        pin_to(cpu)?;
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            for frame in &frames {
                sender.send(frame)?;
                sent += 1;
            }
        }
        Ok(sent)
    })?
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
    let seconds = if need::long() { 20 } else { 4 };
    let host = Host::with_bpf("cap")?;
    host.run("ip", ["link", "add", "mirror", "type", "veth", "peer", "name", "router"])?;
    host.run("ip", ["link", "set", "mirror", "up"])?;
    host.run("ip", ["link", "set", "router", "up"])?;
    let capacity = capacity_bits_per_second();
    let share = capacity * u64::from(SHARE_PPM) / 1_000_000 / 8;
    let stop = AtomicBool::new(false);
    let cpus = std::thread::available_parallelism()?.get();
    let (records, counters) = host.enter(|| -> Result<_> {
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
        let mut rings = tap
            .rings()?
            .into_iter()
            .map(|ring| RingConsumer::new(ring, RING_BYTES as usize))
            .collect::<Result<Vec<_>, _>>()?;
        let records = std::thread::scope(|scope| -> Result<Vec<Record>> {
            let floods: Vec<_> = (0..cpus)
                .map(|cpu| {
                    scope.spawn({
                        let (host, stop) = (&host, &stop);
                        move || flood(host, cpu, stop)
                    })
                })
                .collect();
            let mut records = Vec::new();
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
            for flood in floods {
                let sent = flood.join().ok().context("a sender panicked")??;
                assert!(sent > 0);
            }
            for ring in &mut rings {
                ring.drain(&mut records, usize::MAX);
                ring.release();
            }
            Ok(records)
        })?;
        let counters = tap.counters()?;
        tap.detach()?;
        Ok((records, counters))
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
    assert!(measure.verdicts[1] > 0, "the load was not above the cap: nothing was shown");
    assert!(bytes >= share * (seconds - 1) / 2, "the share is not used: {bytes} bytes");
    Ok(())
}
