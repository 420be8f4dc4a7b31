//! What we send and store, as independent programs read it: tshark for a session (taken behind socat, which ends the
//! TLS), ipfixDump of libfixbuf for a stored file. Every record and every field is compared. Times are compared by
//! tshark: ipfixDump prints nanoseconds without their fraction.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helper reports by panicking"
)]
#![allow(dead_code, reason = "the parts are shared with the other interoperation tests")]

mod interop;

use std::path::{Path, PathBuf};
use std::process::Command;

use interop::expected::{self, Values};
use interop::kit::{Kit, records};
use interop::pcap;
use tap_userspace::ipfix::template::RecordTemplate;

#[test]
fn tshark_reads_every_record_and_field_of_a_session() {
    let (Some(tshark), Some(socat)) = (tap_tests::need::tool("tshark"), tap_tests::need::tool("socat")) else { return };
    for template in [RecordTemplate::Psamp, RecordTemplate::Flow] {
        let kit = Kit::new();
        // More than fit one message.
        let records = records(700);
        let (session, spool) = kit.session_through_socat(&socat, &records, template);
        let capture = kit.path("session.pcap");
        pcap::write(&capture, &session);
        let fields = expected::tshark_fields(&records, template, &spool);
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        for ((field, values), found) in fields.iter().zip(tshark_values(&tshark, &capture, &names)) {
            assert_eq!(found.len(), values.len(), "{template:?}: occurrences of {field}");
            for (number, (found, value)) in found.iter().zip(values).enumerate() {
                assert_eq!(found, value, "{template:?}: {field}, occurrence {number}");
            }
        }
    }
}

#[test]
fn ipfix_dump_reads_every_record_and_field_of_a_stored_file() {
    let Some(ipfix_dump) = tap_tests::need::tool("ipfixDump") else { return };
    for template in [RecordTemplate::Psamp, RecordTemplate::Flow] {
        let kit = Kit::new();
        let records = records(300);
        let file = kit.stored_file(&records, template);
        let elements = registry();
        let output = Command::new(&ipfix_dump)
            .args(["--data", "--hexdump=64", "--element-file"])
            .args([&elements, Path::new("--in"), &file])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("rror") && !said.contains("arning"), "{said}");
        let found = expected::dumped(&String::from_utf8(output.stdout).unwrap(), template.id());
        let values: Vec<Values> = records.iter().map(|record| expected::ipfix_dump_values(record, template)).collect();
        assert_eq!(found.len(), values.len(), "{template:?}: records");
        for (number, (found, value)) in found.iter().zip(&values).enumerate() {
            assert_eq!(found, value, "{template:?}: record {number}");
        }
    }
}

/// The registry file of our elements, which goes to whoever reads our records with tools of their own.
fn registry() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gwtap-elements.xml")
}

#[test]
fn the_registry_file_has_every_element_as_the_encoder_has_it() {
    let wanted = expected::element_file();
    assert_eq!(std::fs::read_to_string(registry()).unwrap(), wanted, "docs/gwtap-elements.xml should be:\n{wanted}");
}

/// All occurrences of each of `fields`, in the order of the session.
fn tshark_values(tshark: &Path, capture: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let output = Command::new(tshark)
        .env("TZ", "UTC")
        .arg("-r")
        .arg(capture)
        .args(["-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|"])
        .args(fields.iter().flat_map(|field| ["-e", field]))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut values = vec![Vec::new(); fields.len()];
    for line in text.lines() {
        for (values, column) in values.iter_mut().zip(line.split('\t')) {
            values.extend(column.split('|').filter(|value| !value.is_empty()).map(str::to_owned));
        }
    }
    values
}
