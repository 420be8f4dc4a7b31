//! `gwtap explain`: what becomes of one packet, stage by stage, and which condition of each rule fails first.

use super::laboratory_world::WorldArgs;
use crate::laboratory::capture::{Capture, Packet};
use crate::laboratory::explain::explain;
use anyhow::{Context as _, bail};
use clap::{ArgGroup, Parser};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Explains one packet: the stages it passes, what each saw, and which condition of each rule failed first.
#[derive(Debug, Parser)]
#[command(
    group = ArgGroup::new("packet").required(true).args(["hex", "pcap"]),
    after_help = "Examples:
  gwtap explain --pcap traffic.pcap --number 6 --selectors set.json --order order.toml \\
      --country-table ipv4.csv --country-table ipv6.csv
  gwtap explain --hex 020000000001020000000002080045... --selectors set.json \\
      --basis foreign-to-domestic --domestic 192.0.2.0/24 --rest foreign --json

The packet is decided by itself, by the host build: the cap's bucket is full, as at the beginning of an epoch, where
`replay` judges the packet after all before it. The clock stands at the capture's time, at 1970 for --hex; --now sets it.
Exit codes: 0 done, 1 no such packet or a file that cannot be read, 2 wrong usage, 3 order or selector set refused."
)]
pub struct Args {
    /// The frame as hexadecimal digits, beginning with its Ethernet header; blanks, colons and line ends are skipped
    #[arg(long, value_name = "DIGITS", value_parser = digits)]
    hex: Option<Frame>,
    /// Capture file: pcap or pcapng; Ethernet, Linux cooked or raw IP
    #[arg(long, value_name = "FILE", requires = "number")]
    pcap: Option<PathBuf>,
    /// Number of the packet in the capture, from 1
    #[arg(long, value_name = "N", requires = "pcap", value_parser = clap::value_parser!(u64).range(1..))]
    number: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    world: WorldArgs,
}

/// The bytes of a frame; not shown in the debug form.
#[derive(Clone)]
struct Frame(Vec<u8>);

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} bytes)", self.0.len())
    }
}

/// Runs the verb.
///
/// # Errors
/// An input that cannot be read or is refused, or a packet that is not there.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (setup, config) = args.world.load()?;
    let packet = match (args.hex, &args.pcap, args.number) {
        (Some(Frame(frame)), ..) => Packet { number: 1, time_ns: 0, original_bytes: 0, frame },
        (None, Some(file), Some(number)) => packet(file, number)?,
        _ => bail!("--hex, or --pcap with --number"),
    };
    let now_ns = args.world.now_ns().unwrap_or(packet.time_ns);
    let explanation = explain(&setup, config, &packet.frame, packet.number, now_ns);
    let text = if args.json { serde_json::to_string(&explanation)? + "\n" } else { explanation.to_string() };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Packet `number` of the capture in `file`.
fn packet(file: &Path, number: u64) -> anyhow::Result<Packet> {
    let mut last = 0;
    for packet in Capture::open(file)? {
        let packet = packet.with_context(|| format!("packet {number} was not reached"))?;
        last = packet.number;
        if last == number {
            return Ok(packet);
        }
    }
    bail!("{}: has no packet {number}; its last is {last}", file.display())
}

fn digits(text: &str) -> Result<Frame, String> {
    let digits: String = text.chars().filter(|c| !c.is_ascii_whitespace() && *c != ':').collect();
    if digits.is_empty() {
        return Err("there are no digits".to_owned());
    }
    hex::decode(&digits).map(Frame).map_err(|error| match error {
        hex::FromHexError::InvalidHexCharacter { index, .. } => {
            format!("digit {} of {} is not one of 0-9, a-f", index + 1, digits.len())
        }
        hex::FromHexError::OddLength => format!("{} digits: the last byte has only one", digits.len()),
        hex::FromHexError::InvalidStringLength => error.to_string(),
    })
}
