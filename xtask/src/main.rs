//! What a developer, a newcomer and CI run: `cargo xtask VERB`, one verb a file.

mod bench;
mod build_ebpf;
mod check;
mod command;
mod demo;
mod fuzz;
mod package;
mod setup;
mod test;
mod test_programs;
mod test_record;
mod test_vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", version, about = "What a developer, a newcomer and CI run")]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs what building the BPF object and the complete tests need (Debian; needs root)
    Setup(setup::Args),
    /// Builds and runs every test; says what could not run and why
    Test(test::Args),
    /// Fuzzes the packet's decision, guided by coverage (needs a C++ compiler)
    Fuzz(fuzz::Args),
    /// Shows the whole product on real traffic in network namespaces (needs root)
    Demo(demo::Args),
    /// Builds the XDP program from its source, or checks that the committed object is what its source builds
    BuildEbpf(build_ebpf::Args),
    /// Nanoseconds for each packet, beside a drop and beside xdp-filter (needs root)
    Bench(bench::Args),
    /// Debian packages: mirror host, receiving facility, laboratory
    Package(package::Args),
    /// Man pages and completions
    Pages(package::pages::Args),
    /// Formatting, lints, licences, advisories
    Check(check::Args),
}

fn main() -> ExitCode {
    if std::env::var_os(fuzz::COMPILES).is_some() {
        return ended(fuzz::compile(std::env::args_os().skip(1).collect()));
    }
    ended(match Line::parse().verb {
        Verb::Setup(args) => setup::setup(&args),
        Verb::Test(args) => test::test(&args),
        Verb::Fuzz(args) => fuzz::fuzz(&args),
        Verb::Demo(args) => demo::demo(&args),
        Verb::BuildEbpf(args) => build_ebpf::build_ebpf(&args),
        Verb::Bench(args) => bench::bench(&args),
        Verb::Package(args) => package::package(&args),
        Verb::Pages(args) => package::pages::pages(&args),
        Verb::Check(args) => check::check(&args),
    })
}

fn ended(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
