//! Swaps under load: each record by the rules of its own generation, none lost, none mixed; what an old generation held is
//! freed; its tables were frozen; a load that fails and an attachment that is not possible change nothing.

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use nix::libc;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tap_common::abi::policy::Lease;
use tap_common::abi::record::Record;
use tap_tests::kernel::{lease_from_now, tables, tables_of_ports, udp_frame};
use tap_tests::lab::traffic::FrameSender;
use tap_tests::lab::{Host, wait_until};
use tap_tests::need;
use tap_userspace::load::{Attach, Tap, TapConfig, cap_policy};
use tap_userspace::path::ring::RingConsumer;

/// The port that sets of odd numbers select, by their first rule.
const ODD: u16 = 443;
/// The port that sets of even numbers select, by their second rule.
const EVEN: u16 = 80;
/// The port that all select.
const ALWAYS: u16 = 8_080;
/// The port that none selects.
const NEVER: u16 = 22;

fn config(interface: &str, attach: Attach) -> Result<TapConfig> {
    Ok(TapConfig {
        interface: interface.into(),
        pin_directory: "/sys/fs/bpf/gwtap".into(),
        inline: false,
        attach,
        cap_policy: cap_policy(10_000_000_000, 300_000)?,
        log_reasons: false,
        transport: None,
    })
}

/// A mirror host whose port `mirror` hears what is sent on `router`.
fn host(name: &'static str) -> Result<Host> {
    let host = Host::with_bpf(name)?;
    host.run("ip", ["link", "add", "mirror", "type", "veth", "peer", "name", "router"])?;
    host.run("ip", ["link", "set", "mirror", "up"])?;
    host.run("ip", ["link", "set", "router", "up"])?;
    Ok(host)
}

/// Sends frames to all four ports in turn until told to stop; how many went to each.
fn load(sender: &FrameSender, stop: &AtomicBool) -> Result<u64> {
    let frames = [ODD, EVEN, ALWAYS, NEVER].map(|port| udp_frame(port, 60));
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        for _round in 0..8 {
            frames.iter().try_for_each(|frame| sender.send(frame))?;
            rounds += 1;
        }
        // Some hundred thousand frames a second would fill the rings while a generation loads; this is a test of swaps.
        std::thread::sleep(Duration::from_micros(300));
    }
    Ok(rounds)
}

/// Ids of the maps of a loaded program; `None` when there is no such program (any more).
fn map_ids(program: u32) -> Result<Option<BTreeSet<u32>>> {
    for info in aya::programs::loaded_programs() {
        // One that goes while the list is read is not the one that is asked for.
        let Ok(info) = info else { continue };
        if info.id() == program {
            return Ok(Some(info.map_ids()?.context("map ids")?.into_iter().collect()));
        }
    }
    Ok(None)
}

/// Whether a map is still there.
fn lives(map: u32) -> bool {
    MapData::from_id(map).is_ok()
}

#[test]
fn every_record_of_a_thousand_swaps_is_of_one_generation() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    let swaps = if need::long() { 1_000 } else { 30 };
    let host = host("swaps")?;
    let sender = FrameSender::open(&host, "router")?;
    let sets = [tables_of_ports(&[&[NEVER + 1], &[EVEN, ALWAYS]])?, tables_of_ports(&[&[ODD, ALWAYS]])?];
    let stop = AtomicBool::new(false);
    let mut programs = Vec::new();
    let (records, counters, rounds) = host.enter(|| -> Result<_> {
        let mut tap = Tap::open(config("mirror", Attach::Native)?)?;
        tap.set_sampling(0, 1 << 32);
        let first = lease_from_now()?;
        tap.set_lease(0, first);
        let mut rings = RingConsumer::of_cpus(tap.rings()?)?;
        let mut records: Vec<Record> = Vec::new();
        tap.swap(&sets[1], 1)?;
        // Each CPU's clock is read once a tick.
        std::thread::sleep(Duration::from_millis(50));
        let mut maps = BTreeMap::new();
        let rounds = std::thread::scope(|scope| -> Result<u64> {
            let load = scope.spawn(|| load(&sender, &stop));
            // Whatever fails here ends the load, or the scope would wait for it for ever.
            let swapped = (2..=swaps).try_for_each(|generation: u64| -> Result<()> {
                let old = tap.program_info().context("a program")?.id;
                maps.insert(old, map_ids(old)?.context("the running program is loaded")?);
                tap.swap(&sets[usize::try_from(generation % 2)?], generation)?;
                programs.push(old);
                // The lease goes on: one that began now would leave a gap of a tick.
                tap.set_lease(0, Lease { not_before_ns: first.not_before_ns, ..lease_from_now()? });
                for ring in &mut rings {
                    ring.drain(&mut records, usize::MAX);
                    ring.release();
                }
                Ok(())
            });
            std::thread::sleep(Duration::from_millis(20));
            stop.store(true, Ordering::Relaxed);
            let rounds = load.join().ok().context("the sender panicked")??;
            swapped.map(|()| rounds)
        })?;
        std::thread::sleep(Duration::from_millis(100));
        for ring in &mut rings {
            ring.drain(&mut records, usize::MAX);
            ring.release();
        }
        let running = tap.program_info().context("a program")?.id;
        let kept = map_ids(running)?.context("the running program is loaded")?;
        let gone = || {
            let programs_gone = programs.iter().all(|old| map_ids(*old).is_ok_and(|maps| maps.is_none()));
            programs_gone && maps.values().flatten().all(|map| kept.contains(map) || !lives(*map))
        };
        // The kernel frees after a grace period.
        wait_until("old generations are freed", Duration::from_secs(20), gone)?;
        let counters = tap.counters()?;
        tap.detach()?;
        Ok((records, counters, rounds))
    })??;

    let measure = counters.measures[0];
    let (mut by_port, mut by_generation) = (BTreeMap::<u16, u64>::new(), BTreeMap::<u64, u64>::new());
    let mut sequences = BTreeMap::<u32, Vec<(u64, u64)>>::new();
    for record in &records {
        let (port, rule) = if record.generation % 2 == 1 { (ODD, 1) } else { (EVEN, 2) };
        let to = record.destination_port;
        assert!(to == port || to == ALWAYS, "generation {} selected port {to}", record.generation);
        assert_eq!(record.rules, [rule, 0, 0, 0], "generation {}", record.generation);
        *by_port.entry(to).or_default() += 1;
        *by_generation.entry(record.generation).or_default() += 1;
        sequences.entry(record.cpu).or_default().push((record.sequence, record.generation));
    }
    let mut gaps = 0;
    for numbers in sequences.values() {
        assert!(numbers.is_sorted_by(|before, after| before.0 < after.0), "a sequence number came twice");
        assert!(
            numbers.is_sorted_by(|before, after| before.1 <= after.1),
            "an old generation decided after a newer one"
        );
        gaps += numbers.last().map_or(0, |last| last.0 + 1) - numbers.len() as u64;
    }
    println!("{swaps} swaps, {rounds} frames a port, {} records of {} generations", records.len(), by_generation.len());
    assert_eq!(gaps, measure.ring_lost, "a gap in the sequence is a record that a full ring lost, and nothing else");
    assert_eq!(records.len() as u64 + measure.ring_lost, measure.verdicts[6], "every selected packet has its record");
    assert_eq!(counters.observed_packets, counters.judged_packets());
    assert_eq!(by_port.get(&ALWAYS).copied().unwrap_or(0) + measure.ring_lost, rounds, "no generation missed a packet");
    assert!(by_port[&ODD] > 0 && by_port[&EVEN] > 0);
    assert!(by_generation.len() as u64 * 2 > swaps, "the load met {} of {swaps} generations", by_generation.len());
    Ok(())
}

/// Tries to write element 0 of a map, as any process with the privilege could.
fn update(map: &MapData, value_bytes: usize) -> nix::Result<()> {
    /// `enum bpf_cmd` of include/uapi/linux/bpf.h.
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    #[repr(C)]
    struct Attributes {
        map: u64,
        key: u64,
        value: u64,
        flags: u64,
    }
    let (key, value) = (0_u32, vec![0_u8; value_bytes.next_multiple_of(8)]);
    let map = u64::try_from(map.fd().as_fd().as_raw_fd()).map_err(|_negative| nix::Error::EBADF)?;
    let attributes = Attributes { map, key: (&raw const key) as u64, value: value.as_ptr() as u64, flags: 0 };
    // SAFETY: the attributes, the key and the value live through the call and have the sizes that the map states.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_ELEM, &raw const attributes, size_of::<Attributes>()) };
    nix::Error::result(result).map(drop)
}

#[test]
fn tables_of_a_running_generation_cannot_be_written() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    let host = host("frozen")?;
    host.enter(|| -> Result<()> {
        let mut tap = Tap::open(config("mirror", Attach::Native)?)?;
        tap.swap(&tables(Some(443))?, 1)?;
        let program = tap.program_info().context("a program")?.id;
        let (mut frozen, mut open) = (BTreeSet::new(), BTreeSet::new());
        for id in map_ids(program)?.context("the running program is loaded")? {
            let map = MapData::from_id(id)?;
            let info = map.info()?;
            let name = info.name_as_str().context("a name")?.to_owned();
            let descriptor = map.fd().as_fd().as_raw_fd();
            let state = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
            if state.lines().any(|line| line == "frozen:\t1") {
                assert_eq!(update(&map, usize::try_from(info.value_size())?), Err(nix::Error::EPERM), "{name}");
                frozen.insert(name);
            } else {
                open.insert(name);
            }
        }
        println!("frozen: {frozen:?}; written while the program runs: {open:?}");
        // What generations share, the log, and the laboratory's two, which code that is dead here refers to: no table.
        let no_tables = ["CPU", "SHARED", "RINGS", "AYA_LOGS", "CLOCK", "SHOWN"];
        assert!(open.iter().all(|name| no_tables.contains(&name.as_str())), "{open:?}");
        assert!(frozen.len() >= 3, "{frozen:?}");
        tap.detach()?;
        Ok(())
    })??;
    Ok(())
}

/// Sets this thread's effective user, and with it its effective capabilities.
fn become_user(user: libc::uid_t) -> Result<()> {
    let same = libc::uid_t::MAX;
    // SAFETY: no pointer is passed; the bare call changes this thread alone.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, same, user, same) };
    Ok(nix::Error::result(result).map(drop)?)
}

#[test]
fn a_load_that_fails_leaves_the_running_generation_alone() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    let host = host("failed")?;
    let sender = FrameSender::open(&host, "router")?;
    host.enter(|| -> Result<()> {
        let mut tap = Tap::open(config("mirror", Attach::Native)?)?;
        tap.set_sampling(0, 1 << 32);
        tap.swap(&tables(Some(443))?, 1)?;
        tap.set_lease(0, lease_from_now()?);
        let before = tap.program_info().context("a program")?.clone();
        let next = tables(Some(80))?;
        // Without its privilege the agent cannot load: the kernel refuses the generation.
        become_user(65_534)?;
        let refused = tap.swap(&next, 2);
        become_user(0)?;
        assert!(refused.is_err(), "a user without privilege loaded a program");
        assert_eq!(tap.program_info(), Some(&before));
        assert!(map_ids(before.id)?.is_some(), "the program is loaded still");
        std::thread::sleep(Duration::from_millis(20));
        for _packet in 0..5 {
            sender.send(&udp_frame(443, 60))?;
            sender.send(&udp_frame(80, 60))?;
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(tap.counters()?.measures[0].verdicts[6], 5, "the running generation selects what it did");
        tap.swap(&next, 2)?;
        sender.send(&udp_frame(80, 60))?;
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(tap.counters()?.measures[0].verdicts[6], 6, "and the next one loads when it may");
        tap.detach()?;
        Ok(())
    })??;
    Ok(())
}

#[test]
fn generic_is_only_what_was_asked_for_by_name() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    let host = host("attach")?;
    host.run("ip", ["link", "set", "lo", "up"])?;
    let shown = |interface: &str| host.run("ip", ["link", "show", interface]);
    host.enter(|| -> Result<()> {
        for (attach, flag) in [(Attach::Native, "xdp"), (Attach::Generic, "xdpgeneric")] {
            let mut tap = Tap::open(config("mirror", attach)?)?;
            tap.swap(&tables(None)?, 1)?;
            assert_eq!(tap.program_info().context("a program")?.attach, attach);
            let shown = shown("mirror")?;
            assert!(shown.split_whitespace().any(|word| word == flag || word == format!("{flag}/id:")), "{shown}");
            tap.detach()?;
        }
        // The loopback device has no native mode: that is an error, not a reason for the other mode.
        let mut tap = Tap::open(config("lo", Attach::Native)?)?;
        let refused = tap.swap(&tables(None)?, 1).err().context("lo took a native program")?;
        println!("{refused}");
        assert!(!shown("lo")?.contains("xdp"), "nothing is attached after a refusal");
        assert!(tap.program_info().is_none());
        tap.detach()?;
        Ok(())
    })??;
    Ok(())
}
