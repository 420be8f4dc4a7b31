//! softflowd, which reads the same packets from a port and exports flows, to nfcapd and to pmacct's nfacctd. It exports a line for a
//! flow, the tap one for a packet: what compares is the processor time for the packets that were read.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::process::{Used, per_million};
use super::scene::{self, Scene};
use crate::bench::{Bencher, Case, Outcome, median, round};
use crate::lab::{Host, Process, link, wait_until};
use crate::need;

/// Packets a second: what softflowd reads without loss on a busy machine.
const RATE: u64 = 100_000;
/// Packets of one measurement.
const PACKETS: u64 = 1_000_000;
/// Ends of the veth, and the collectors' ports.
const OUT: &str = "flows-out";
const IN: &str = "flows";
const PORTS: [u16; 2] = [9_995, 9_996];
const PATIENCE: Duration = Duration::from_secs(120);

/// Processor seconds of exporter and collector for a million packets.
type Costs = [f64; 2];

pub(in crate::bench) fn vs_softflowd(bencher: &mut Bencher) -> Result<Outcome> {
    let tools = ["softflowd", "softflowctl", "nfcapd", "nfacctd"].map(|name| need::find(name).ok_or(name));
    if let Some(name) = tools.iter().find_map(|tool| tool.as_ref().err()) {
        return Ok(Outcome::Absent(format!("{name} is not installed (cargo xtask setup --test)")));
    }
    let Some((cpu, _)) = scene::two_cpus()? else {
        return Ok(Outcome::Absent("this machine has one CPU".to_owned()));
    };
    let packets = if bencher.quick { PACKETS / 10 } else { PACKETS };
    let mut samples: [Vec<f64>; 6] = Default::default();
    for _ in 0..bencher.few_rounds() {
        let ours = ours(bencher, packets, cpu)?;
        let nfcapd = theirs(bencher, packets, cpu, &nfcapd)?;
        let nfacctd = theirs(bencher, packets, cpu, &nfacctd)?;
        let now = ours.into_iter().chain(nfcapd).chain(nfacctd);
        samples.iter_mut().zip(now).for_each(|(samples, now)| samples.push(now));
    }
    let [agent, receiver, softflowd, nfcapd, softflowd_too, nfacctd] = samples.map(median);
    let mut case = Case::new(agent * 1e3, softflowd * 1e3, "softflowd");
    for (name, seconds) in [
        ("agent_cpu_s_per_million", agent),
        ("receiver_cpu_s_per_million", receiver),
        ("softflowd_cpu_s_per_million_to_nfcapd", softflowd),
        ("nfcapd_cpu_s_per_million", nfcapd),
        ("softflowd_cpu_s_per_million_to_nfacctd", softflowd_too),
        ("nfacctd_cpu_s_per_million", nfacctd),
    ] {
        case.further.insert(name, round(seconds, 1_000.0));
    }
    Ok(Outcome::Measured(case))
}

fn ours(bencher: &mut Bencher, packets: u64, cpu: usize) -> Result<Costs> {
    let mut scene = Scene::new(bencher)?;
    let receiver = scene.receiver()?;
    let agent = scene.agent(None)?;
    let used = || -> Result<[f64; 2]> { Ok([Used::by(agent.pid())?.seconds(), Used::by(receiver.pid())?.seconds()]) };
    let before = used()?;
    let enough = || scene.measure().is_ok_and(|measure| measure.delivery.acknowledged_records >= packets);
    scene.under_load(RATE, cpu, || wait_until("acknowledged records", PATIENCE, enough))?;
    let acknowledged = scene.measure()?.delivery.acknowledged_records;
    let after = used()?;
    Ok(per_million(before, after, acknowledged))
}

/// A collector on a host with its files in a directory, and its port.
type Collector = dyn Fn(&Host, &Path) -> Result<(Command, u16)>;

fn nfcapd(host: &Host, directory: &Path) -> Result<(Command, u16)> {
    let mut command = host.command("nfcapd");
    let [port, _] = PORTS;
    command.args(["-b", "127.0.0.1", "-t", "3600", "-p", &port.to_string(), "-w"]).arg(directory);
    Ok((command, port))
}

fn nfacctd(host: &Host, directory: &Path) -> Result<(Command, u16)> {
    let [_, port] = PORTS;
    let file = directory.join("nfacctd.conf");
    let flows = directory.join("flows").display().to_string();
    fs::write(
        &file,
        format!(
            "nfacctd_ip: 127.0.0.1\nnfacctd_port: {port}\nplugins: print\nprint_refresh_time: 3600\nprint_output_file: {flows}\n\
             aggregate: src_host, dst_host, src_port, dst_port, proto\n"
        ),
    )?;
    let mut command = host.command("nfacctd");
    command.arg("-f").arg(file);
    Ok((command, port))
}

fn theirs(bencher: &mut Bencher, packets: u64, cpu: usize, collector: &Collector) -> Result<Costs> {
    let host = Host::with_bpf("flows")?;
    host.run("ip", ["link", "add", OUT, "type", "veth", "peer", "name", IN])?;
    for name in [OUT, IN] {
        link::silence(&host, name)?;
    }
    // Without a program the veth takes redirected frames only while its NAPI runs, which merging of segments asks for.
    host.enter(|| link::receive_merging(IN, true))??;
    let generator = scene::generator(bencher, &host, OUT)?;
    let directory = tempfile::tempdir()?;
    let place = directory.path();
    let (command, port) = collector(&host, place)?;
    let mut collector = Process::start("collector", command, &place.join("collector.log"))?;
    let bound = format!(":{port:04X} ");
    collector.wait_until("the collector's port", PATIENCE, || {
        host.enter(|| fs::read_to_string("/proc/thread-self/net/udp").is_ok_and(|text| text.contains(&bound)))
            .unwrap_or(false)
    })?;
    let control = place.join("softflowd.ctl").display().to_string();
    let mut command = host.command("softflowd");
    command.args([
        "-d",
        "-i",
        IN,
        "-v",
        "10",
        "-m",
        "200000",
        "-n",
        &format!("127.0.0.1:{port}"),
        "-c",
        &control,
        "-p",
    ]);
    command.arg(place.join("softflowd.pid"));
    let mut exporter = Process::start("softflowd", command, &place.join("softflowd.log"))?;
    let said = |word: &str| host.run("softflowctl", ["-c", &control, word]);
    exporter.wait_until("softflowd", PATIENCE, || said("statistics").is_ok())?;
    let before = [Used::by(exporter.pid())?.seconds(), Used::by(collector.pid())?.seconds()];
    host.enter(|| scene::send(&generator, RATE, cpu, |sent| sent >= packets))??;
    std::thread::sleep(Duration::from_secs(1));
    let read = packets_read(&said("statistics")?)?;
    ensure!(read * 100 >= packets * 95, "softflowd read {read} of {packets} packets");
    // All flows go out, as at their end.
    said("expire-all")?;
    std::thread::sleep(Duration::from_secs(2));
    let after = [Used::by(exporter.pid())?.seconds(), Used::by(collector.pid())?.seconds()];
    Ok(per_million(before, after, read))
}

fn packets_read(statistics: &str) -> Result<u64> {
    let line = statistics.lines().find_map(|line| line.trim().strip_prefix("Packets processed:"));
    let Some(line) = line else { bail!("softflowd says no number of packets: {statistics}") };
    line.trim().parse().with_context(|| statistics.to_owned())
}
