//! `cargo xtask check`: formatting, lints as errors, licences, bans, sources and advisories. In: the working tree. Out: the
//! first failure, or success.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::command::{cargo, root, run, succeeds};

/// Arguments of `cargo xtask check`.
#[derive(clap::Args)]
pub(crate) struct Args {}

fn all() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    if root().join("tap-ebpf/Cargo.toml").exists() {
        // Outside the workspace: it has another compiler; its formatting is ours all the same.
        run(cargo().args(["fmt", "--manifest-path", "tap-ebpf/Cargo.toml", "--check"]))?;
    }
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // The mirror host's package is built without the laboratory verbs.
    run(cargo().args(["clippy", "-p", "tap-userspace", "--no-default-features", "--", "-D", "warnings"]))?;
    deny()
}

/// Licences and sources always; advisories where the database can be had.
fn deny() -> Result<()> {
    if !succeeds(cargo().args(["deny", "--version"])) {
        bail!("cargo-deny is not installed: cargo xtask setup --test");
    }
    run(cargo().args(["deny", "check", "licenses", "bans", "sources"]))?;
    if succeeds(cargo().args(["deny", "fetch", "db"])) {
        run(cargo().args(["deny", "check", "--disable-fetch", "advisories"]))
    } else {
        println!("advisories: NOT CHECKED, the advisory database cannot be fetched from here");
        Ok(())
    }
}

pub(crate) fn check(_args: &Args) -> Result<ExitCode> {
    all()?;
    println!("formatting, lints, licences: all as they should be");
    Ok(ExitCode::SUCCESS)
}
