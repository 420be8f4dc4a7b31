//! What lies under `deploy/` is judged by the tools that will read it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tap_tests::need;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn succeeds(command: &mut Command) {
    let outcome = tap_tests::gwtap::of(command);
    assert!(outcome.as_ref().is_ok_and(|outcome| outcome.code == Some(0)), "{command:?}: {outcome:?}");
}

#[test]
fn promtool_accepts_the_alerts_and_they_fire_when_they_should() {
    let Some(promtool) = need::tool("promtool") else { return };
    let directory = deploy().join("prometheus");
    succeeds(Command::new(&promtool).args(["check", "rules", "gwtap.rules.yml"]).current_dir(&directory));
    succeeds(Command::new(&promtool).args(["test", "rules", "gwtap.rules.test.yml"]).current_dir(&directory));
}

#[test]
fn systemd_accepts_the_units() {
    let Some(analyze) = need::tool("systemd-analyze") else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for name in ["gwtap.service", "gwtap-receive.service"] {
        let unit = std::fs::read_to_string(deploy().join("systemd").join(name)).unwrap();
        // The program is not installed where the tests run; everything else is judged as it stands.
        let unit = unit.replace("/usr/bin/gwtap", "/bin/true");
        assert!(unit.contains("/bin/true"), "{name} starts /usr/bin/gwtap");
        let file = directory.path().join(name);
        std::fs::write(&file, unit).unwrap();
        units.push(file);
    }
    succeeds(Command::new(analyze).arg("verify").args(units));
}

#[test]
fn the_receiving_sides_example_is_a_configuration() {
    let example = deploy().join("receive.example.toml");
    let config = tap_userspace::receive::config::ReceiveConfig::read(&example).unwrap();
    assert_eq!(config.hosts.len(), 1);
    assert!(config.jetstream.is_none(), "it takes from no stream without being told to");
    let config = tap_userspace::receive::config::ReceiveConfig::read_for(&example, true).unwrap();
    assert_eq!(config.jetstream.unwrap().servers.len(), 1);
    assert!(config.tls.ca_file.is_absolute() || config.tls.ca_file.starts_with(deploy()), "paths are the file's own");
}

/// Tenths of systemd's exposure level that the units were measured at; what it counts against them is explained in them.
const EXPOSURE: [(&str, &str); 2] = [("gwtap.service", "26"), ("gwtap-receive.service", "14")];

#[test]
fn the_units_are_no_more_exposed_than_they_were_measured() {
    let Some(analyze) = need::tool("systemd-analyze") else { return };
    for (unit, threshold) in EXPOSURE {
        let file = deploy().join("systemd").join(unit);
        succeeds(
            Command::new(&analyze)
                .args(["security", "--no-pager", "--offline=true"])
                .arg(format!("--threshold={threshold}"))
                .arg(file),
        );
    }
}
