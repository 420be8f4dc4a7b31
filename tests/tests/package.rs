//! The Debian packages: what is in them, how they install, upgrade and go, and what their judges say. They are packed around
//! a program that is there already: what the packages hold beside it is what is asked here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;

use tap_tests::gwtap::{Outcome, binary, of};
use tap_tests::need;

const ROLES: [&str; 3] = ["gwtap", "gwtap-receive", "gwtap-laboratory"];

/// A program of Debian's own in place of gwtap.
const PROGRAM: &str = "/bin/true";

fn works(command: &mut Command) -> Outcome {
    let outcome = of(command).unwrap();
    assert_eq!(outcome.code, Some(0), "{command:?}: {}{}", outcome.stdout, outcome.stderr);
    outcome
}

/// Packs all roles under this version.
fn pack(out: &Path, version: &str) -> bool {
    if need::tool("dpkg-deb").is_none() {
        return false;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // Built beside the program under test with all the rest; where that is another one, cargo makes it.
    let built = binary().unwrap().with_file_name("xtask");
    let mut xtask = if built.exists() {
        Command::new(built)
    } else {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["run", "--quiet", "--package", "xtask", "--"]);
        cargo
    };
    xtask.args(["package", "--program", PROGRAM]);
    xtask.args(["--package-version", version, "--out"]).arg(out);
    works(xtask.current_dir(workspace).env("SOURCE_DATE_EPOCH", "1800000000"));
    true
}

fn deb(out: &Path, role: &str, version: &str) -> PathBuf {
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    out.join(format!("{role}_{version}_{architecture}.deb"))
}

fn contents(deb: &Path) -> Vec<String> {
    let listed = works(Command::new("dpkg-deb").arg("--contents").arg(deb)).stdout;
    listed.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn packages_hold_their_roles_files_and_are_the_same_bytes_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    if !pack(&first, "1.0") || !pack(&second, "1.0") {
        return;
    }
    for role in ROLES {
        let (one, other) = (deb(&first, role, "1.0"), deb(&second, role, "1.0"));
        assert!(std::fs::read(&one).unwrap() == std::fs::read(other).unwrap(), "{role}: two packings differ");
        let files = contents(&one);
        let has = |name: &str| files.iter().any(|line| line.ends_with(&format!(" .{name}")));
        let laboratory = role == "gwtap-laboratory";
        assert_eq!(has("/usr/share/man/man1/gwtap-replay.1.gz"), laboratory, "{role}");
        for name in [
            "/usr/bin/gwtap",
            "/usr/share/man/man1/gwtap.1.gz",
            "/usr/share/man/man1/gwtap-doctor.1.gz",
            "/usr/share/bash-completion/completions/gwtap",
            "/usr/share/zsh/vendor-completions/_gwtap",
        ] {
            assert!(has(name), "{role} has no {name}");
        }
        assert!(!has("/usr/share/man/man1/gwtap-loader.1.gz"), "{role}: nobody types `gwtap loader`");
        assert!(has(&format!("/usr/share/doc/{role}/sbom.cdx.json")), "{role}");
        assert_eq!(has("/usr/lib/systemd/system/gwtap.service"), role == "gwtap");
        assert_eq!(has("/usr/lib/systemd/system/gwtap-receive.service"), role == "gwtap-receive");
        for line in &files {
            assert!(line.contains(" root/root "), "{role}: {line}");
            assert!(line.contains("2027-01-15"), "{role}: not of the packages' date: {line}");
        }
    }
}

#[test]
fn the_bill_of_materials_has_each_library_and_no_path_of_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    if !pack(directory.path(), "1.0") {
        return;
    }
    let mut of_roles = Vec::new();
    for role in ROLES {
        let tree = directory.path().join(role);
        works(Command::new("dpkg-deb").arg("--extract").arg(deb(directory.path(), role, "1.0")).arg(&tree));
        let text = std::fs::read_to_string(tree.join(format!("usr/share/doc/{role}/sbom.cdx.json"))).unwrap();
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR").trim_end_matches("tests")), "{role}");
        let bill: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(bill["bomFormat"], "CycloneDX");
        let names: Vec<_> =
            bill["components"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        for name in ["rustls", "aya", "ed25519-dalek", "gwtap.bpf.o"] {
            assert!(names.iter().any(|there| there == name), "{role}: {name}");
        }
        of_roles.push(names.contains(&"pcap-parser".to_owned()));
    }
    assert_eq!(of_roles, [false, false, true], "captures are read in the laboratory alone");
}

#[test]
fn an_upgrade_keeps_what_was_edited_and_a_purge_leaves_the_data_alone() {
    if !need::root() {
        return;
    }
    let Some(dpkg) = need::tool("dpkg") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (packages, root) = (directory.path().join("packages"), directory.path().join("root"));
    if !pack(&packages, "1.0") || !pack(&packages, "1.1") {
        return;
    }
    std::fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
    std::fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let dpkg = |words: &[&str], deb: Option<PathBuf>| {
        let mut command = Command::new(&dpkg);
        command.arg(format!("--root={}", root.display()));
        command.args(["--force-script-chrootless", "--force-depends", "--force-confold"]).args(words).args(deb);
        works(&mut command)
    };
    for (role, file, data) in [
        ("gwtap", "etc/gwtap/gwtap.toml", "var/lib/gwtap/state/state.json"),
        ("gwtap-receive", "etc/gwtap/receive.toml", "var/lib/gwtap-receive/store/a"),
    ] {
        dpkg(&["--install"], Some(deb(&packages, role, "1.0")));
        let configuration = root.join(file);
        let example = std::fs::read_to_string(&configuration).unwrap();
        let edited = example + "# edited\n";
        std::fs::write(&configuration, &edited).unwrap();
        let kept = [root.join(data), root.join("etc/gwtap/keys/mirror-1.key")];
        for file in &kept {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "data").unwrap();
        }
        dpkg(&["--install"], Some(deb(&packages, role, "1.1")));
        assert_eq!(
            std::fs::read_to_string(&configuration).unwrap(),
            edited,
            "{role}: an upgrade keeps what was edited"
        );
        dpkg(&["--remove", role], None);
        assert!(configuration.exists(), "{role}: removed, the configuration stays");
        assert!(!root.join("usr/bin/gwtap").exists());
        dpkg(&["--purge", role], None);
        let left = files(&root).into_iter().filter(|file| !file.starts_with(root.join("var/lib/dpkg")));
        let mut left: Vec<_> = left.filter(|file| !file.starts_with(root.join("var/log"))).collect();
        left.sort();
        let mut expected = kept.to_vec();
        expected.sort();
        assert_eq!(left, expected, "{role}: purged");
        for file in &kept {
            std::fs::remove_file(file).unwrap();
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn lintian_has_no_complaint() {
    let Some(lintian) = need::tool("lintian") else { return };
    let directory = tempfile::tempdir().unwrap();
    if !pack(directory.path(), "1.0") {
        return;
    }
    let mut command = Command::new(lintian);
    command.args(["--allow-root", "--fail-on", "error,warning"]);
    // Who publishes packages names himself with --maintainer; without it they are a machine's own, of its root.
    command.args(["--suppress-tags", "bogus-mail-host,bogus-mail-host-in-debian-changelog,root-in-contact"]);
    works(command.args(ROLES.map(|role| deb(directory.path(), role, "1.0"))));
}
