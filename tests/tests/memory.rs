//! What is left in the memory of a running agent: no address of a record that it has passed on.
//!
//! In: a real tap with traffic that then rests; its memory, read as root may read it. Out: where the domestic address stands.
//! The kernel's rings, which the agent maps and may not write, keep what was in them until they are written over: there the
//! search must find it, or it would find nothing anywhere.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tap_tests::deployment::{Deployment, Plan, rule, selected};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab, wait_until};
use tap_tests::need;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn no_address_of_a_record_is_left_in_the_agents_memory() {
    if need::root() && need::tool("tc").is_some() {
        run().unwrap();
    }
}

fn run() -> Result<()> {
    let lab = Lab::new()?;
    let set = vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")];
    let deployment = Deployment::new(Plan { sets: vec![set], ..Plan::default() })?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    let from = (&lab.foreign, FOREIGN4.parse()?);
    let load = UdpLoad::start(from, 0, 64, (&lab.domestic, to), b"beacon", Rate::new(2_000_000))?;
    wait_until("selected packets", PATIENCE, || deployment.status().is_ok_and(|status| selected(&status) > 1_000))?;
    load.stop()?;
    let status = deployment.settle(|| Ok(()))?;
    let (private, shared) = found(agent.pid(), DOMESTIC4.parse()?)?;
    ensure!(shared.len() as u64 >= selected(&status) / 2, "the search finds {} in the rings", shared.len());
    ensure!(private.is_empty(), "{} times after {} records: {private:?}", private.len(), selected(&status));
    agent.terminate(PATIENCE)?;
    receiver.terminate(PATIENCE)?;
    Ok(())
}

/// Where the address of a record stands: in the process's own memory, and in what it shares with the kernel.
fn found(pid: u32, address: Ipv4Addr) -> Result<(Vec<String>, Vec<String>)> {
    let mapped = address.to_ipv6_mapped().octets();
    // As bytes of a packet, and as a number of this machine's.
    let forward = mapped.get(8..).context("an address")?.to_vec();
    let patterns = [forward.clone(), forward.into_iter().rev().collect::<Vec<_>>()];
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let (mut private, mut shared) = (Vec::new(), Vec::new());
    for line in std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().context("a range")?, words.next().context("rights")?);
        let is_ring = line.contains("bpf-map");
        if !rights.starts_with("rw") && !is_ring {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        let mut bytes = vec![0; usize::try_from(end - start)?];
        // Not every page of a mapping need be there.
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        let places = bytes.windows(8).enumerate().filter(|(_, window)| patterns.iter().any(|it| it == window));
        let places = places.map(|(offset, _)| format!("{:x} ({line})", start + offset as u64));
        if is_ring { shared.extend(places) } else { private.extend(places) }
    }
    Ok((private, shared))
}
