//! Bill of materials: every crate that is in the program, and the kernel program. In: `cargo tree` and `Cargo.lock`. Out:
//! CycloneDX 1.5, the same bytes for the same tree: no serial number, no machine's path.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Edition, Role};
use crate::command::{cargo, root};

/// What a line of `cargo tree` holds: name and version, then the licence.
const FORMAT: &str = "{p}|{l}";

pub(super) fn bill(role: Role, edition: &Edition) -> Result<String> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--package", "tap-userspace", "--edges", "normal,build", "--prefix", "none"]);
    tree.args(["--no-dedupe", "--format", FORMAT]);
    if !role.laboratory() {
        tree.arg("--no-default-features");
    }
    let output = tree.output().context("cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    }
    let crates = parse(&String::from_utf8(output.stdout)?)?;
    let checksums = checksums(&std::fs::read_to_string(root().join("Cargo.lock"))?)?;
    let object = std::fs::read(root().join("tap-ebpf/gwtap.bpf.o"))?;
    let mut components: Vec<Value> = crates.iter().map(|(id, licence)| component(id, licence, &checksums)).collect();
    components.push(json!({
        "type": "firmware", "name": "gwtap.bpf.o", "version": edition.version,
        "description": "the XDP program that gwtap loads",
        "hashes": [{"alg": "SHA-256", "content": hex::encode(Sha256::digest(object))}],
    }));
    let document = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "application", "name": role.name(), "version": edition.version}},
        "components": components,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// Name and version.
type Id = (String, String);

/// `name v1.2.3 (proc-macro)|LICENCE`, once for each place in the tree.
fn parse(tree: &str) -> Result<BTreeMap<Id, String>> {
    let mut crates = BTreeMap::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (package, licence) = line.rsplit_once('|').with_context(|| format!("cargo tree: `{line}`"))?;
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next().and_then(|word| word.strip_prefix('v'))) else {
            bail!("cargo tree: `{line}`");
        };
        crates.insert((name.to_owned(), version.to_owned()), licence.to_owned());
    }
    Ok(crates)
}

/// SHA-256 of what a registry served, by crate.
fn checksums(lock: &str) -> Result<BTreeMap<Id, String>> {
    let lock: toml::Table = lock.parse().context("Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock: no packages")?;
    let text = |package: &toml::Value, key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    Ok(packages
        .iter()
        .filter_map(|package| Some(((text(package, "name")?, text(package, "version")?), text(package, "checksum")?)))
        .collect())
}

fn component(id: &Id, licence: &str, checksums: &BTreeMap<Id, String>) -> Value {
    let (name, version) = id;
    let mut component = json!({"type": "library", "name": name, "version": version});
    if let Value::Object(fields) = &mut component {
        if !licence.is_empty() {
            // Old manifests write `/` for OR.
            let expression = licence.replace('/', " OR ");
            fields.insert("licenses".into(), json!([{"expression": expression}]));
        }
        if let Some(checksum) = checksums.get(id) {
            fields.insert("purl".into(), json!(format!("pkg:cargo/{name}@{version}")));
            fields.insert("hashes".into(), json!([{"alg": "SHA-256", "content": checksum}]));
        }
    }
    component
}
