//! `gwtap replay`: what would become of the packets of a capture file, and by which rules.

use super::laboratory_world::WorldArgs;
use crate::laboratory::capture::Capture;
use crate::laboratory::cpu::stay_on_this_cpu;
use crate::laboratory::replay::{ReplayError, Show, replay};
use crate::load::{HostWorld, KernelWorld, Laboratory};
use anyhow::Context as _;
use clap::Parser;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs every packet of a capture file through the kernel program (without attaching it) and prints a JSON object each.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gwtap replay traffic.pcap --selectors set.json --order order.toml \\
      --country-table ipv4.csv --country-table ipv6.csv
  gwtap replay traffic.pcapng --selectors set.json --basis foreign-to-domestic \\
      --domestic 192.0.2.0/24 --domestic 2001:db8::/32 --rest foreign --selected
  gwtap replay traffic.pcap --selectors set.json --order draft.toml --rest foreign \\
      --now 2027-12-01T00:00:00Z --host
  gwtap replay erspan.pcap --selectors set.json --basis foreign-to-domestic --rest foreign \\
      --transport erspan,local=192.0.2.10,key=5

The clock follows the capture, so packets before or after the order's time have the verdict
no_lease; --now holds the clock. A basis alone says nothing of sampling and capacity: both stages
are off then. Frames that no driver hands to XDP (shorter than an Ethernet header, or longer than
73,152 bytes) are always decided by the host build. The cap takes a clock that steps back strictly:
it admits nothing until the time it knew.
Exit codes: 0 done, 1 the capture is torn or the kernel program cannot run (the lines before that
are printed), 2 wrong usage, 3 order or selector set refused.")]
pub struct Args {
    /// Capture file: pcap or pcapng; Ethernet, Linux cooked or raw IP
    capture: PathBuf,
    #[command(flatten)]
    world: WorldArgs,
    /// Decide by the host build instead of the kernel program; needs no privilege
    #[arg(long)]
    host: bool,
    /// Print selected packets only
    #[arg(long)]
    selected: bool,
}

/// Runs the verb.
///
/// # Errors
/// An input that cannot be read or is refused, or a capture that is torn.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (setup, config) = args.world.load()?;
    let capture = Capture::open(&args.capture)?;
    let mut world: Box<dyn Laboratory + '_> = if args.host {
        Box::new(HostWorld::new(&setup.tables, config))
    } else {
        stay_on_this_cpu().context("the thread cannot be bound to its CPU")?;
        let kernel = KernelWorld::new(&setup.tables, config);
        Box::new(kernel.context("the kernel program cannot be loaded; --host decides without it")?)
    };
    let now_ns = args.world.now_ns();
    let show = Show { selected_only: args.selected, now_ns };
    let mut out = BufWriter::new(io::stdout().lock());
    let result = replay(capture, &mut *world, &setup.labels(), show, &mut out);
    let result = result.and_then(|()| out.flush().map_err(ReplayError::from));
    match result {
        // Whoever reads the lines has seen enough.
        Err(ReplayError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => {
            out.flush()?;
            Err(error.into())
        }
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}
