//! Each check over a machine that is as it should be but for one thing.

use super::*;
use crate::clock::Reading;
use crate::privilege::Privilege;

const HEADING: &str = "Filename\tType\tSize\tUsed\tPriority\n";
const NOW_S: i64 = 1_800_000_000;
const DAY_S: i64 = 86_400;

fn port() -> Port {
    Port {
        name: "mirror0".into(),
        driver: Some("ice".into()),
        native: true,
        xdp: Xdp::Driver,
        up: true,
        running: true,
        promiscuous: true,
        addresses: 0,
        queues: Some(Queues { used: 4, most: 64 }),
        ring: Some(ReceiveRing { used: 4096, most: 4096 }),
        arrived: Some((1_000, 2_000)),
        dropped: 0,
        mirror: true,
    }
}

fn certificate(begins: i64, ends: i64) -> Vec<Certificate> {
    vec![Certificate { file: "tls/host.pem".into(), period: Ok((begins, ends)), now_unix_s: NOW_S }]
}

fn key(mode: Result<u32, String>) -> Vec<KeyFile> {
    vec![KeyFile { file: "keys/host.key".into(), mode }]
}

fn directory(free_bytes: Result<u64, String>) -> Vec<Directory> {
    let (least_bytes, most_bytes) = (100, 1_000);
    vec![Directory { key: "measure[0].spool".into(), path: "/spool".into(), free_bytes, least_bytes, most_bytes }]
}

fn machine() -> Machine {
    Machine {
        release: "6.1.0-28-amd64".into(),
        btf: true,
        jit: Some("1\n".into()),
        landlock: 2,
        seccomp: Seccomp::Filter,
        cpus: 4,
        memory: Memory { available_bytes: Some(8 << 30), lock_limit_bytes: None, may_lock: false },
        clock: Ok(Reading {
            unix_ns: 1_800_000_000_000_000_000,
            boot_ns: 1_000,
            synchronised: true,
            error_ns: 1_000_000,
        }),
        clock_not_required: false,
        swaps: Ok(HEADING.into()),
        core_pattern: Ok("core\n".into()),
        privilege: Privilege::default(),
        configuration: Ok("/etc/gwtap/gwtap.toml".into()),
        bpf_file_system: Some(("/sys/fs/bpf/gwtap".into(), true)),
        port: Some(Ok(port())),
        certificates: certificate(0, NOW_S + 90 * DAY_S),
        keys: key(Ok(0o100_600)),
        directories: directory(Ok(1_000)),
        streams: streams(&[StreamAnswer::Good]),
    }
}

fn streams(answers: &[StreamAnswer]) -> Vec<StreamOf> {
    let server = |(index, answer): (usize, &StreamAnswer)| StreamServer {
        endpoint: format!("nats-{index}.example:4222"),
        answer: answer.clone(),
    };
    let servers = Ok(answers.iter().enumerate().map(server).collect());
    vec![StreamOf { key: "measure[0].export".into(), stream: "gwtap".into(), servers }]
}

/// Breaks one thing; the named check must come out like this, every other as it was, and say how to mend it.
fn breaks(check: &str, state: State, change: impl FnOnce(&mut Machine)) -> Finding {
    let mut broken = machine();
    change(&mut broken);
    let report = judge(&broken);
    assert_eq!(report.ready, state != State::Failed, "{check}");
    let (mut of_it, others): (Vec<_>, Vec<_>) = report.checks.into_iter().partition(|finding| finding.check == check);
    assert!(others.iter().all(|finding| finding.state == State::Ok), "{check}: {others:?}");
    let finding = of_it.pop().unwrap();
    assert!(of_it.is_empty(), "{check} stands once");
    assert_eq!(finding.state, state, "{finding:?}");
    assert_eq!(finding.mend.is_some(), state != State::Ok, "{finding:?}");
    finding
}

fn breaks_port(check: &str, state: State, change: impl FnOnce(&mut Port)) -> Finding {
    breaks(check, state, |machine| {
        let mut port = port();
        change(&mut port);
        machine.port = Some(Ok(port));
    })
}

#[test]
fn a_machine_as_it_should_be_is_ready_and_nothing_is_to_be_mended() {
    let report = judge(&machine());
    assert!(report.ready);
    assert_eq!(report.checks.len(), 21);
    for finding in report.checks {
        assert_eq!((finding.state, finding.mend), (State::Ok, None), "{}: {}", finding.check, finding.found);
    }
}

#[test]
fn each_fault_of_the_kernel_and_its_settings_is_named_with_its_mend() {
    use State::{Failed, Ok as Fine, Warning};
    breaks("kernel", Failed, |machine| machine.release = "5.15.0-100-generic".into());
    breaks("kernel", Failed, |machine| machine.release = "6.0.19".into());
    breaks("kernel", Fine, |machine| machine.release = "7.3-rc1".into());
    breaks("kernel", Warning, |machine| machine.release = "unknown".into());
    breaks("btf", Warning, |machine| machine.btf = false);
    breaks("bpf-jit", Warning, |machine| machine.jit = Some("0\n".into()));
    breaks("bpf-jit", Fine, |machine| machine.jit = None);
    breaks("confinement", Warning, |machine| machine.landlock = 0);
    breaks("confinement", Warning, |machine| machine.seccomp = Seccomp::None);
    breaks("memory", Warning, |machine| machine.memory.available_bytes = Some(100 << 20));
    breaks("memory", Warning, |machine| machine.memory.available_bytes = None);
    breaks("memory-lock", Failed, |machine| machine.memory.lock_limit_bytes = Some(8 << 20));
    breaks("memory-lock", Fine, |machine| {
        machine.memory = Memory { lock_limit_bytes: Some(8 << 20), may_lock: true, ..machine.memory };
    });
}

#[test]
fn a_clock_in_doubt_swap_and_piped_cores_fail_unless_somebody_allows_them() {
    use State::{Failed, Ok as Fine, Warning};
    let unsynchronised = |machine: &mut Machine| machine.clock.as_mut().unwrap().synchronised = false;
    breaks("clock", Failed, unsynchronised);
    breaks("clock", Failed, |machine| machine.clock.as_mut().unwrap().error_ns = 6_000_000_000);
    breaks("clock", Failed, |machine| machine.clock = Err("adjtimex: refused".into()));
    breaks("clock", Warning, |machine| {
        unsynchronised(machine);
        machine.clock_not_required = true;
    });
    let swap = |machine: &mut Machine| machine.swaps = Ok(format!("{HEADING}/dev/dm-1 partition 8388604 0 -2\n"));
    let finding = breaks("swap", Failed, swap);
    assert!(finding.found.contains("/dev/dm-1") && finding.mend.unwrap().contains("swap"), "{}", finding.found);
    breaks("swap", Fine, |machine| {
        swap(machine);
        machine.privilege = toml::from_str("swap = \"allowed: encrypted\"").unwrap();
    });
    breaks("swap", Failed, |machine| machine.swaps = Err("/proc/swaps: hidden".into()));
    let finding = breaks("core-pattern", Failed, |machine| machine.core_pattern = Ok("|/usr/bin/apport\n".into()));
    assert!(finding.mend.unwrap().contains("core_pattern"));
}

#[test]
fn each_fault_of_the_mirror_port_is_named_with_its_mend() {
    use State::{Failed, Ok as Fine, Warning};
    breaks("bpf-file-system", Failed, |machine| machine.bpf_file_system = Some(("/pins".into(), false)));
    breaks_port("interface", Failed, |port| port.up = false);
    breaks_port("interface", Failed, |port| port.running = false);
    breaks_port("interface", Warning, |port| port.promiscuous = false);
    breaks_port("interface", Warning, |port| port.addresses = 1);
    breaks_port("interface", Fine, |port| {
        port.mirror = false;
        port.addresses = 1;
        port.promiscuous = false;
    });
    breaks_port("xdp", Failed, |port| port.xdp = Xdp::None);
    breaks_port("xdp", Warning, |port| port.native = false);
    breaks_port("xdp", Fine, |port| port.xdp = Xdp::Unknown);
    breaks_port("xdp", Warning, |port| {
        port.xdp = Xdp::Unknown;
        port.driver = Some("e1000e".into());
    });
    let finding = breaks_port("queues", Warning, |port| port.queues = Some(Queues { used: 1, most: 64 }));
    assert!(finding.mend.unwrap().contains("ethtool -L mirror0 combined 4"));
    breaks_port("queues", Fine, |port| port.queues = Some(Queues { used: 2, most: 2 }));
    breaks_port("queues", Warning, |port| port.queues = None);
    let finding = breaks_port("receive-ring", Warning, |port| port.ring = Some(ReceiveRing { used: 512, most: 4096 }));
    assert!(finding.mend.unwrap().contains("ethtool -G mirror0 rx 4096"));
    breaks_port("receive-ring", Fine, |port| port.ring = None);
    breaks_port("mirror", Warning, |port| port.arrived = Some((0, 2_000)));
    breaks_port("mirror", Warning, |port| port.arrived = None);
    breaks_port("mirror", Warning, |port| port.dropped = 1);
    breaks("interface", Failed, |machine| {
        machine.port = Some(Err("mirror0: no such device".into()));
    });
}

#[test]
fn each_fault_of_certificates_keys_and_disks_is_named_with_its_mend() {
    use State::{Failed, Ok as Fine, Warning};
    breaks("certificate", Failed, |machine| machine.certificates = certificate(NOW_S + 1, NOW_S + 90 * DAY_S));
    breaks("certificate", Failed, |machine| machine.certificates = certificate(0, NOW_S));
    let finding =
        breaks("certificate", Warning, |machine| machine.certificates = certificate(0, NOW_S + 30 * DAY_S - 1));
    assert!(finding.found.contains("2027-02-14T"), "{}", finding.found);
    breaks("certificate", Fine, |machine| machine.certificates = certificate(0, NOW_S + 30 * DAY_S));
    breaks("certificate", Failed, |machine| {
        machine.certificates = vec![Certificate { period: Err("not there".into()), ..certificate(0, 0).remove(0) }];
    });
    let finding = breaks("key", Failed, |machine| machine.keys = key(Ok(0o100_640)));
    assert_eq!(finding.found, "keys/host.key may be read by others (mode 0640)");
    breaks("key", Fine, |machine| machine.keys = key(Ok(0o100_400)));
    breaks("key", Failed, |machine| machine.keys = key(Err("not there".into())));
    breaks("disk", Warning, |machine| machine.directories = directory(Ok(999)));
    breaks("disk", Failed, |machine| machine.directories = directory(Ok(99)));
    breaks("disk", Failed, |machine| machine.directories = directory(Err("not there".into())));
}

#[test]
fn each_fault_of_a_streams_servers_is_named_with_its_mend() {
    let judged = |answers: &[StreamAnswer]| {
        let report = judge(&Machine { streams: streams(answers), ..machine() });
        let states = report.checks.iter().filter(|finding| finding.check == "stream").map(|finding| finding.state);
        (report.ready, states.collect::<Vec<_>>())
    };
    let away = || StreamAnswer::Unreachable("connection refused".into());
    let bad = || StreamAnswer::Bad("it is kept in memory".into());
    use State::{Failed, Ok as Fine, Warning};
    assert_eq!(judged(&[StreamAnswer::Good, StreamAnswer::Good]), (true, vec![Fine, Fine]));
    assert_eq!(judged(&[away(), StreamAnswer::Good]), (true, vec![Warning, Fine]), "another server is there");
    assert_eq!(judged(&[away(), away()]), (false, vec![Failed, Failed]));
    assert_eq!(judged(&[StreamAnswer::Good, bad()]), (false, vec![Fine, Failed]));
    let finding = breaks("stream", Failed, |machine| {
        machine.streams.iter_mut().for_each(|of| of.servers = Err("tls/host.key: not there".into()));
    });
    assert_eq!(finding.found, "measure[0].export: tls/host.key: not there");
    breaks("stream", Failed, |machine| machine.streams = streams(&[bad()]));
}

#[test]
fn without_a_configuration_the_machine_is_judged_and_the_rest_is_not_guessed() {
    let mut bare = machine();
    bare.configuration = Err("gwtap.toml: line 3: unknown field".into());
    bare.bpf_file_system = None;
    bare.port = None;
    (bare.certificates, bare.keys, bare.directories) = (Vec::new(), Vec::new(), Vec::new());
    bare.streams = Vec::new();
    let report = judge(&bare);
    assert!(!report.ready);
    let failed: Vec<_> = report.checks.iter().filter(|finding| finding.state != State::Ok).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].check, failed[0].found.as_str()), ("configuration", "gwtap.toml: line 3: unknown field"));
}

#[test]
fn the_memory_that_is_asked_for_is_that_of_rings_and_two_generations() {
    assert_eq!(kernel::memory_need_bytes(2), ((2 * 16) << 20) + ((2 * 256) << 20));
    assert_eq!(kernel::memory_need_bytes(128), ((128 * 4) << 20) + ((2 * 256) << 20));
}
