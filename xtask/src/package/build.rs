//! Build: the program as packages carry it. In: where to build. Out: a stripped program that names no directory of the machine
//! it was built on, so that another machine with the same tools builds the same bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{cargo, root, run};

/// What directories of the building machine are called inside.
const BUILD: &str = "/usr/src/build";
const SOURCE: &str = "/usr/src/gwtap";
const CRATES: &str = "/usr/src/cargo";

/// The date of everything in the packages: `SOURCE_DATE_EPOCH`, else the last commit's.
pub(super) fn epoch() -> Result<u64> {
    let said = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(said) => said,
        Err(_) => {
            let log = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()).output()?;
            String::from_utf8(log.stdout)?
        }
    };
    said.trim().parse().context("the date of the packages: set SOURCE_DATE_EPOCH to seconds since 1970")
}

/// Builds `gwtap` below `place`.
pub(super) fn program(place: &Path, laboratory: bool) -> Result<PathBuf> {
    let crates = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor a home directory")?;
    // The last that fits counts: where it is built may lie below the source.
    let renamed = [(crates, CRATES), (root(), SOURCE), (place.to_owned(), BUILD)];
    let flags =
        |flag: &str| renamed.iter().map(|(from, to)| format!("{flag}={}={to}", from.display())).collect::<Vec<_>>();
    let mut command = cargo();
    command
        .args(["build", "--locked", "--release", "--package", "tap-userspace", "--bin", "gwtap", "--target-dir"])
        .arg(place)
        .env("CARGO_ENCODED_RUSTFLAGS", flags("--remap-path-prefix").join("\x1f"))
        .env("CFLAGS", flags("-ffile-prefix-map").join(" "))
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    if !laboratory {
        command.arg("--no-default-features");
    }
    run(&mut command)?;
    let built = place.join("release/gwtap");
    // The next build for another role replaces it.
    let kept = place.join(if laboratory { "gwtap.laboratory" } else { "gwtap.mirror" });
    std::fs::copy(&built, &kept).with_context(|| built.display().to_string())?;
    Ok(kept)
}
