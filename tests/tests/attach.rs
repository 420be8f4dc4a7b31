//! Where the tap can be put: veth and virtio-net, in the driver and, when asked for by name, in the kernel's general path;
//! jumbo frames; every CPU. The same program, the same records.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::links::PinnedLink;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tap_common::abi::record::Record;
use tap_tests::kernel::{lease_from_now, tables, udp_frame};
use tap_tests::lab::traffic::FrameSender;
use tap_tests::lab::{Host, wait_until};
use tap_tests::need;
use tap_userspace::load::{Attach, Tap, TapConfig, cap_policy};
use tap_userspace::path::ring::RingConsumer;

/// A line so wide that no test meets its cap.
const CAPACITY: u64 = 100_000_000_000;
/// How long records may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a frame that fills an MTU of 9000.
const JUMBO_BYTES: usize = 9_014;

/// A link from `far` to the tap's interface `mirror` on `host`.
struct Link {
    host: Host,
    far: Host,
    far_name: String,
}

impl Link {
    fn veth(mtu: &str) -> Result<Self> {
        let link = Self { host: Host::with_bpf("tap")?, far: Host::new("far")?, far_name: "router".into() };
        let there = link.far.net_path();
        link.host.run(
            "ip",
            [
                "link", "add", "mirror", "mtu", mtu, "type", "veth", "peer", "name", "router", "mtu", mtu, "netns",
                &there,
            ],
        )?;
        link.up()
    }

    /// The pair of virtio-net interfaces of a virtual machine, in namespaces as any other; they come back when those end.
    fn virtio([near, far]: &[String; 2]) -> Result<Self> {
        let link = Self { host: Host::with_bpf("tap")?, far: Host::new("far")?, far_name: far.clone() };
        for (host, name) in [(&link.host, near), (&link.far, far)] {
            let moved =
                std::process::Command::new("ip").args(["link", "set", name, "netns", &host.net_path()]).output()?;
            ensure!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
        }
        // The frames are not for this interface's address, as those of a mirror port are not; a card drops them otherwise.
        link.host.run("ip", ["link", "set", near, "name", "mirror", "promisc", "on"])?;
        link.up()
    }

    fn up(self) -> Result<Self> {
        self.host.run("ip", ["link", "set", "mirror", "up"])?;
        self.far.run("ip", ["link", "set", &self.far_name, "up"])?;
        Ok(self)
    }

    /// Whether the kernel says that the program is attached this way.
    fn attached(&self) -> Result<Option<Attach>> {
        let shown = self.host.run("ip", ["-json", "-details", "link", "show", "dev", "mirror"])?;
        let links: serde_json::Value = serde_json::from_str(&shown)?;
        // Of linux/if_link.h: XDP_ATTACHED_DRV and XDP_ATTACHED_SKB.
        Ok(match links.pointer("/0/xdp/mode").and_then(serde_json::Value::as_u64) {
            Some(1) => Some(Attach::Native),
            Some(2) => Some(Attach::Generic),
            _ => None,
        })
    }

    /// Attaches, sends what `send` sends, and gives the records of each CPU once there are `count`.
    fn tapped(
        &self,
        attach: Attach,
        count: usize,
        send: impl FnOnce(&FrameSender) -> Result<()> + Send,
    ) -> Result<Vec<Vec<Record>>> {
        let sender = FrameSender::open(&self.far, &self.far_name)?;
        self.host.enter(|| -> Result<_> {
            let mut tap = open(attach)?;
            tap.swap(&tables(Some(443))?, 1).context("attaching")?;
            ensure!(
                tap.program_info().map(|info| info.attach) == Some(attach),
                "what is reported is what was asked for"
            );
            ensure!(self.attached()? == Some(attach), "{attach:?} was asked for, {:?} is", self.attached()?);
            tap.set_sampling(0, tap_common::path::sample::threshold(1_000_000));
            tap.set_lease(0, lease_from_now()?);
            // The program's own clock is a tick behind.
            std::thread::sleep(Duration::from_millis(20));
            send(&sender)?;
            let mut rings = RingConsumer::of_cpus(tap.rings()?)?;
            let mut records = vec![Vec::new(); rings.len()];
            let arrived = wait_until("records", PATIENCE, || {
                for (ring, records) in rings.iter_mut().zip(&mut records) {
                    ring.drain(records, usize::MAX);
                    ring.release();
                }
                records.iter().map(Vec::len).sum::<usize>() >= count
            });
            let counters = tap.counters()?;
            arrived.with_context(|| format!("{:?}", counters))?;
            ensure!(counters.observed_packets == counters.judged_packets(), "conservation");
            tap.detach()?;
            ensure!(self.attached()?.is_none(), "a detached tap leaves no program");
            Ok(records)
        })?
    }
}

/// A tap on the mirror port of the namespace that the thread is in.
fn open(attach: Attach) -> Result<Tap> {
    Ok(Tap::open(TapConfig {
        interface: "mirror".into(),
        pin_directory: "/sys/fs/bpf/gwtap".into(),
        inline: false,
        attach,
        cap_policy: cap_policy(CAPACITY, 300_000)?,
        log_reasons: false,
        transport: None,
    })?)
}

/// Frames of which the rule selects every second.
fn send_pairs(sender: &FrameSender, count: usize, bytes: usize) -> Result<()> {
    for _ in 0..count {
        sender.send(&udp_frame(443, bytes))?;
        sender.send(&udp_frame(80, bytes))?;
    }
    Ok(())
}

fn check(link: &Link, attach: Attach, bytes: usize) -> Result<()> {
    const COUNT: usize = 40;
    let records = link.tapped(attach, COUNT, |sender| send_pairs(sender, COUNT, bytes))?.concat();
    ensure!(records.len() == COUNT, "{} records of {COUNT} selected frames", records.len());
    let right = |record: &Record| record.destination_port == 443 && record.ip_length as usize == bytes - 14;
    ensure!(records.iter().all(right), "a record of another frame: {:?}", records.iter().find(|record| !right(record)));
    Ok(())
}

#[test]
fn a_veth_is_tapped_in_the_driver() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    check(&Link::veth("1500")?, Attach::Native, 60)
}

#[test]
fn a_veth_is_tapped_in_the_general_path_when_asked_for_by_name() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    check(&Link::veth("1500")?, Attach::Generic, 60)
}

#[test]
fn jumbo_frames_are_tapped_in_the_driver_and_in_the_general_path() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    let link = Link::veth("9000")?;
    for attach in [Attach::Native, Attach::Generic] {
        for bytes in [60, 1_514, 4_110, JUMBO_BYTES] {
            check(&link, attach, bytes).with_context(|| format!("{attach:?}, {bytes} bytes"))?;
        }
    }
    Ok(())
}

#[test]
fn a_detached_tap_is_off_its_port_whoever_still_holds_the_link() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    let link = Link::veth("1500")?;
    link.host.enter(|| -> Result<_> {
        let mut tap = open(Attach::Native)?;
        tap.swap(&tables(Some(443))?, 1).context("attaching")?;
        let held = PinnedLink::from_pin("/sys/fs/bpf/gwtap/mirror/link").context("the link's pin")?;
        ensure!(link.attached()? == Some(Attach::Native), "{:?}", link.attached()?);
        tap.detach()?;
        ensure!(link.attached()?.is_none(), "the program is on the port after it was taken off");
        drop(held);
        Ok(())
    })?
}

#[test]
fn what_comes_in_on_a_cpu_is_in_the_ring_of_that_cpu() -> Result<()> {
    if !need::root() {
        return Ok(());
    }
    const EACH: usize = 20;
    let link = Link::veth("1500")?;
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)).collect();
    let records = link.tapped(Attach::Native, EACH * cpus.len(), |sender| {
        for cpu in &cpus {
            let mut only = CpuSet::new();
            only.set(*cpu)?;
            sched_setaffinity(Pid::from_raw(0), &only)?;
            send_pairs(sender, EACH, 60)?;
        }
        Ok(sched_setaffinity(Pid::from_raw(0), &allowed)?)
    })?;
    ensure!(records.concat().len() == EACH * cpus.len(), "{} records", records.concat().len());
    for cpu in cpus {
        ensure!(records.get(cpu).is_some_and(|of_cpu| !of_cpu.is_empty()), "no record of CPU {cpu}");
    }
    Ok(())
}

#[test]
fn a_virtio_net_interface_is_tapped_in_the_driver_and_in_the_general_path() -> Result<()> {
    if !need::virtual_machine("a pair of virtio-net interfaces that nothing else uses") {
        return Ok(());
    }
    for attach in [Attach::Native, Attach::Generic] {
        for bytes in [60, 1_514] {
            check(&Link::virtio(&virtio_pair()?)?, attach, bytes)
                .with_context(|| format!("{attach:?}, {bytes} bytes"))?;
            // The namespaces end in the kernel's own time; the interfaces are back then.
            wait_until("return of the interfaces", PATIENCE, || virtio_pair().is_ok())?;
        }
    }
    Ok(())
}

/// The two interfaces that the driver virtio_net has, by name.
fn virtio_pair() -> Result<[String; 2]> {
    let driver = |name: &str| std::fs::read_link(PathBuf::from("/sys/class/net").join(name).join("device/driver"));
    let mut names: Vec<String> = std::fs::read_dir("/sys/class/net")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| driver(name).is_ok_and(|driver| driver.ends_with("virtio_net")))
        .collect();
    names.sort_unstable();
    let count = names.len();
    names.try_into().ok().with_context(|| format!("{count} virtio-net interfaces instead of two"))
}
