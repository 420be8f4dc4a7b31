//! `cargo xtask fuzz`: coverage-guided fuzzing of the packet's decision. In: seeds from captures, cases and generators, and what
//! earlier runs found worth keeping (`target/fuzz/corpus`). Out: success, or each finding as a file in `tests/regressions/`,
//! which every later `cargo test` replays.
//!
//! The programs of `tests/fuzz` are built by the stable compiler with LLVM's coverage instrumentation, for libFuzzer; no
//! sanitizer is needed where nothing of the decision is `unsafe`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use clap::builder::PossibleValuesParser;
use sha2::{Digest as _, Sha256};
use tap_tests::fuzz::planted::PLANTED;
use tap_tests::fuzz::seeds::seeds;
use tap_tests::fuzz::{DECIDING, INPUT_BYTES_MAX, TARGETS};

use crate::command::{cargo, root, run, shown, target};

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long, all targets together
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// One target instead of all
    #[arg(long, value_parser = PossibleValuesParser::new(TARGETS))]
    target: Option<String>,
    /// Plants a bound that is off by one, and succeeds only if each target finds it in time; nothing is kept
    #[arg(long)]
    planted: bool,
}

/// What rustc is told about our own crates so that libFuzzer sees which edges an input takes and what it is compared with.
/// One unit of code for each crate: with several, linkers have dropped sections of the coverage.
const INSTRUMENTATION: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Set for the build of the fuzz programs, in which cargo calls this program in rustc's place (see [`compile`]).
pub(crate) const COMPILES: &str = "GWTAP_FUZZ_COMPILES";

/// Seconds one input may take: a hundred times what the slowest needs.
const INPUT_SECONDS_MAX: u64 = 10;

pub(crate) fn fuzz(args: &Args) -> Result<ExitCode> {
    let targets: Vec<&str> = TARGETS
        .into_iter()
        .filter(|t| args.target.as_ref().is_none_or(|only| only == t))
        .filter(|t| !args.planted || DECIDING.contains(t))
        .collect();
    let programs = build()?;
    let seconds = (args.seconds / targets.len() as u64).max(1);
    let mut clean = true;
    for target in targets {
        clean &= fuzz_target(target, &programs.join(target), seconds, args.planted)?;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the programs; returns their folder. Only our own crates are instrumented, by a wrapper around rustc that cargo keeps
/// apart from the usual builds; what they depend on is what the tests were built with.
fn build() -> Result<PathBuf> {
    let here = std::env::current_exe().context("this program's file")?;
    run(cargo()
        .args(["build", "--locked", "--package", "tap-fuzz", "--features", "libfuzzer", "--bins"])
        .env("RUSTC_WORKSPACE_WRAPPER", here)
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "3")
        .env("CARGO_INCREMENTAL", "0")
        .env(COMPILES, "1"))
    .context("a C++ compiler is needed for libFuzzer; `cargo xtask setup --test` installs one")?;
    Ok(target().join("debug"))
}

/// In rustc's place: `arguments` are rustc's file and what it is told. Instruments what is not run while building. Returns only
/// where rustc could not be started.
pub(crate) fn compile(arguments: Vec<OsString>) -> Result<ExitCode> {
    let mut arguments = arguments.into_iter();
    let mut rustc = Command::new(arguments.next().context("no compiler named")?);
    let arguments: Vec<OsString> = arguments.collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    // A question about the compiler compiles nothing; build scripts and macros would not link.
    let is_ours = has("--crate-name") && !has("build_script_build") && !has("proc-macro");
    rustc.args(&arguments);
    if is_ours {
        rustc.args(INSTRUMENTATION);
    }
    if has("tap_userspace") {
        // Its build is most of the wait; the decision is fast enough without.
        rustc.arg("-Copt-level=1");
    }
    Err(rustc.exec()).context("rustc")
}

/// Runs one program; whether all is well.
fn fuzz_target(target: &str, program: &Path, seconds: u64, planted: bool) -> Result<bool> {
    let work = crate::command::target().join("fuzz").join(if planted { "planted" } else { "corpus" }).join(target);
    let (kept, given, found) = (work.join("kept"), work.join("seeds"), work.join("found"));
    for fresh in [&given, &found] {
        if fresh.exists() {
            std::fs::remove_dir_all(fresh).with_context(|| fresh.display().to_string())?;
        }
    }
    for folder in [&kept, &given, &found] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    for seed in seeds(target)? {
        let file = given.join(digest(&seed));
        std::fs::write(&file, &seed).with_context(|| file.display().to_string())?;
    }
    let mut command = Command::new(program);
    command
        .arg(&kept)
        .arg(&given)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-print_final_stats=1", "-verbosity=1", "-reload=0", "-len_control=0"])
        // Tables of a megabyte come and go: without this the kernel would clear their pages each time, six times as slow.
        .envs(["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"].map(|name| (name, "268435456")))
        .env(PLANTED, if planted { "1" } else { "0" });
    println!("+ {}", shown(&command));
    let status = command.status().with_context(|| program.display().to_string())?;
    let inputs = listed(&found)?;
    if planted {
        ensure!(!inputs.is_empty(), "{target}: the planted fault was not found in {seconds} s");
        println!("{target}: the planted fault was found, in {}", shown_paths(&inputs));
        return Ok(true);
    }
    if status.success() && inputs.is_empty() {
        println!("{target}: {seconds} s, nothing found");
        return Ok(true);
    }
    if inputs.is_empty() {
        bail!("{target}: the fuzzer ended with {status} and left no input");
    }
    for input in &inputs {
        keep(target, input)?;
    }
    Ok(false)
}

/// A finding becomes a case; its name is to be said better by whoever understands it.
fn keep(target: &str, input: &Path) -> Result<()> {
    let bytes = std::fs::read(input).with_context(|| input.display().to_string())?;
    let folder = root().join("tests/regressions").join(target);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = folder.join(format!("found-{}", digest(&bytes)));
    std::fs::write(&file, &bytes).with_context(|| file.display().to_string())?;
    println!(
        "{target}: found {}; rename it to what it shows; `cargo test -p tap-tests --test regressions` replays it",
        file.display()
    );
    Ok(())
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

fn shown_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn digest(bytes: &[u8]) -> String {
    let mut name = hex::encode(Sha256::digest(bytes));
    name.truncate(16);
    name
}
