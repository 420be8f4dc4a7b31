use std::time::Duration;

use super::traffic::{FrameSink, Rate, TcpLoad, UdpLoad};
use super::*;
use crate::need;

#[test]
fn traffic_of_every_kind_crosses_the_router_and_its_mirror() {
    if !need::root() || need::tool("tc").is_none() {
        return;
    }
    let lab = Lab::new().unwrap();
    lab.start_mirror().unwrap();
    let mark = b"mark of this test";
    let mirrored = FrameSink::start(&lab.mirror, MIRROR_PORT, mark).unwrap();
    let udp = UdpLoad::start(
        (&lab.foreign, FOREIGN4.parse().unwrap()),
        4_000,
        4,
        (&lab.domestic, format!("{DOMESTIC4}:5000").parse().unwrap()),
        mark,
        Rate::new(1_000_000),
    )
    .unwrap();
    let udp6 = UdpLoad::start(
        (&lab.foreign, FOREIGN6.parse().unwrap()),
        0,
        1,
        (&lab.domestic, format!("[{DOMESTIC6}]:5000").parse().unwrap()),
        mark,
        Rate::new(100_000),
    )
    .unwrap();
    let server = (&lab.foreign, format!("{FOREIGN4}:8443").parse().unwrap());
    let tcp = TcpLoad::start(&lab.domestic, server, b"request", b"answer", Duration::from_millis(1)).unwrap();
    let enough = wait_until("traffic", Duration::from_secs(5), || {
        udp.received() > 100 && udp6.received() > 10 && tcp.exchanges() > 5
    });
    enough.unwrap();
    tcp.stop().unwrap();
    let sent = udp.stop().unwrap() + udp6.stop().unwrap();
    wait_until("copy of every datagram", Duration::from_secs(2), || mirrored.count() >= sent).unwrap();
    // Once each: one leg is mirrored.
    assert_eq!(mirrored.stop().unwrap(), sent);
}

#[test]
fn a_process_inside_a_host_ends_with_its_handle() {
    if !need::root() {
        return;
    }
    let host = Host::with_bpf("alone").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut command = host.command("sleep");
    command.arg("60");
    let process = Process::start("sleep", command, &directory.path().join("log")).unwrap();
    let proc_entry = format!("/proc/{}", process.pid());
    assert!(std::path::Path::new(&proc_entry).exists());
    drop(process);
    assert!(!std::path::Path::new(&proc_entry).exists());
    let links = host.run("ip", ["-o", "link"]).unwrap();
    // A kernel that has loaded a tunnel's module puts that tunnel's fallback device, bound to nothing, into every host.
    let own = links.lines().filter(|line| !line.contains("@NONE: ")).count();
    assert_eq!(own, 1, "a fresh host has its loopback alone: {links}");
    let kind = host.run("stat", ["-f", "-c", "%T", "/sys/fs/bpf"]).unwrap();
    assert_eq!(kind.trim(), "bpf_fs");
}

#[test]
fn a_captures_busiest_conversation_is_replayed_over_the_mirrored_leg() {
    if !need::root() || need::tool("tc").is_none() {
        return;
    }
    let lab = Lab::new().unwrap();
    lab.start_mirror().unwrap();
    let capture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/zeek__ssh.pcap");
    let packets = tap_userspace::laboratory::capture::Capture::open(&capture).unwrap();
    let frames: Vec<Vec<u8>> = packets.map(|packet| packet.unwrap().frame).collect();
    // The source address that the laboratory gives the server, as it stands in the header.
    let mirrored = FrameSink::start(&lab.mirror, MIRROR_PORT, &REPLAY_FOREIGN4.octets()).unwrap();
    let replay = lab.replay(&frames, Rate::new(10_000_000)).unwrap();
    wait_until("replay", Duration::from_secs(5), || mirrored.count() > 500).unwrap();
    let sent = replay.stop().unwrap();
    wait_until("copy of every frame", Duration::from_secs(2), || mirrored.count() >= sent).unwrap();
}
