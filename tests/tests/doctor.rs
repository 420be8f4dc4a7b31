//! `gwtap doctor` on a host of its own with a real port: what it reads is what is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use tap_tests::gwtap::{Outcome, binary, of};
use tap_tests::lab::Host;
use tap_tests::lab::traffic::FrameSender;
use tap_tests::need;

/// The deployed example with the laboratory's places, and the files that it names.
fn deployment(directory: &Path) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/gwtap.example.toml");
    let text = std::fs::read_to_string(example).unwrap();
    let text = text.replace("/var/lib/gwtap", directory.to_str().unwrap());
    std::fs::write(directory.join("gwtap.toml"), text).unwrap();
    for folder in ["keys", "tls"] {
        std::fs::create_dir(directory.join(folder)).unwrap();
    }
    for name in ["keys/mirror-1.key", "keys/mirror-1.seal.key", "keys/mirror-1.log.key", "keys/spool.key"] {
        secret(directory, name, 0o600);
    }
    secret(directory, "keys/pseudonym.toml", 0o600);
    secret(directory, "tls/mirror-1.key", 0o600);
    certificate(directory, "tls/ca.pem", 4000);
    certificate(directory, "tls/mirror-1.pem", 4000);
}

fn secret(directory: &Path, name: &str, mode: u32) {
    let file = directory.join(name);
    std::fs::write(&file, "not read").unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn certificate(directory: &Path, name: &str, until_year: i32) {
    let mut parameters = rcgen::CertificateParams::new(vec!["mirror-1.example".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(directory.join(name), parameters.self_signed(&key).unwrap().pem()).unwrap();
}

fn doctor(host: &Host, directory: &Path, seconds: &str) -> (Outcome, Value) {
    let mut command = host.command(binary().unwrap());
    // Inside, the working directory is the root.
    command.args(["doctor", "--json", "--seconds", seconds, "--config"]).arg(directory.join("gwtap.toml"));
    let outcome = of(&mut command).unwrap();
    let report = serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.stderr));
    (outcome, report)
}

/// State and words of a check; with several of the name, of the one whose words hold `about`.
fn found<'a>(report: &'a Value, check: &str, about: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().unwrap();
    let text = |finding: &'a Value, key: &str| finding[key].as_str().unwrap();
    let of_it = checks.iter().find(|finding| finding["check"] == check && text(finding, "found").contains(about));
    let finding = of_it.unwrap_or_else(|| panic!("{check} with `{about}`: {report}"));
    (text(finding, "state"), text(finding, "found"))
}

#[test]
fn the_doctor_sees_the_port_the_frames_and_the_files_as_they_are() {
    if !need::root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    deployment(directory);
    let host = Host::with_bpf("mirror").unwrap();
    let far = Host::new("router").unwrap();

    let (outcome, report) = doctor(&host, directory, "0");
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert_eq!(found(&report, "interface", "mirror0").0, "failed", "there is no such port yet");

    let there = far.net_path();
    let link = ["link", "add", "mirror0", "type", "veth", "peer", "name", "router", "netns", &there];
    host.run("ip", link).unwrap();
    assert_eq!(found(&doctor(&host, directory, "0").1, "interface", "mirror0 is down").0, "failed");
    host.run("ip", ["link", "set", "mirror0", "up"]).unwrap();
    far.run("ip", ["link", "set", "router", "up"]).unwrap();
    assert_eq!(found(&doctor(&host, directory, "0").1, "interface", "other hosts' addresses").0, "warning");
    host.run("sysctl", ["-qw", "net.ipv6.conf.mirror0.disable_ipv6=1"]).unwrap();
    far.run("sysctl", ["-qw", "net.ipv6.conf.router.disable_ipv6=1"]).unwrap();
    host.run("ip", ["link", "set", "mirror0", "promisc", "on"]).unwrap();

    let (_, report) = doctor(&host, directory, "1");
    assert_eq!(found(&report, "mirror", ""), ("warning", "no frame in 1000 ms"));
    let sender = FrameSender::open(&far, "router").unwrap();
    let frames = std::thread::spawn(move || {
        for _ in 0..150 {
            sender.send(&tap_tests::kernel::udp_frame(443, 100)).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    let (outcome, report) = doctor(&host, directory, "1");
    frames.join().unwrap();
    assert_eq!(found(&report, "mirror", "frames in 1000 ms").0, "ok");
    assert_eq!(found(&report, "interface", "").0, "ok");
    assert_eq!(found(&report, "xdp", "driver veth").0, "ok");
    assert!(found(&report, "queues", "receive queues").1.starts_with("1 of "), "{report}");
    for check in ["kernel", "configuration", "bpf-file-system", "key", "certificate", "disk", "memory-lock", "cpus"] {
        assert_ne!(found(&report, check, "").0, "failed", "{check}: {report}");
    }
    let failed = |report: &Value| {
        report["checks"].as_array().unwrap().iter().filter(|finding| finding["state"] == "failed").count()
    };
    // Clock, swap and core pattern are this machine's; the exit code follows them.
    assert_eq!(outcome.code, Some(if failed(&report) == 0 { 0 } else { 3 }));
    assert_eq!(report["ready"], failed(&report) == 0);

    certificate(directory, "tls/mirror-1.pem", 2021);
    secret(directory, "keys/spool.key", 0o644);
    std::fs::remove_file(directory.join("keys/mirror-1.log.key")).unwrap();
    let before = failed(&report);
    let (outcome, report) = doctor(&host, directory, "0");
    assert_eq!((outcome.code, failed(&report)), (Some(3), before + 3), "{report}");
    assert!(found(&report, "certificate", "tls/mirror-1.pem").1.contains("ended at 2021-01-01T00:00:00Z"));
    assert_eq!(found(&report, "key", "spool.key").0, "failed");
    assert_eq!(found(&report, "key", "mirror-1.log.key").0, "failed");
}

#[test]
fn without_a_configuration_the_doctor_says_so_and_how_to_mend_it() {
    let directory = tempfile::tempdir().unwrap();
    let outcome = tap_tests::gwtap::outcome(directory.path(), ["doctor", "--config", "none.toml"]).unwrap();
    assert_eq!(outcome.code, Some(3));
    assert!(outcome.stdout.contains("FAILED   configuration"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("mend: mend the file, or name another with --config"), "{}", outcome.stdout);
}
