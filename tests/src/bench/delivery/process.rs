//! What a process takes of the machine, as the kernel counts it.

use std::fs;

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};

use super::{MEGA, float};

/// Processor time of a process and its children that live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used(f64);

impl Used {
    pub(super) fn by(pid: u32) -> Result<Self> {
        let ticks = sysconf(SysconfVar::CLK_TCK)?.context("ticks")?;
        let mut all = 0;
        for pid in std::iter::once(pid).chain(children(pid)) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The name is in parentheses and may hold anything; user and system time are the 12th and 13th field behind it.
            let (_, fields) = stat.rsplit_once(')').context("a process's state")?;
            let fields = fields.split_whitespace().skip(11).take(2);
            all += fields.map(|field| field.parse::<i64>().unwrap_or_default()).sum::<i64>();
        }
        #[allow(clippy::cast_precision_loss, reason = "seconds of a run")]
        let seconds = all as f64 / ticks as f64;
        Ok(Self(seconds))
    }

    pub(super) fn seconds(self) -> f64 {
        self.0
    }

    pub(super) fn since(self, before: Self) -> f64 {
        self.0 - before.0
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Seconds that each process took for a million of `count`.
pub(super) fn per_million<const N: usize>(before: [f64; N], after: [f64; N], count: u64) -> [f64; N] {
    let mut before = before.into_iter();
    after.map(|after| (after - before.next().unwrap_or(after)) * MEGA / float(count.max(1)))
}

/// Bytes of memory that a process holds, without the kernel's maps that it sees.
pub(super) fn resident_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let (mut bytes, mut of_a_map) = (0, false);
    for line in text.lines() {
        if let Some(kilobytes) = line.strip_prefix("Rss:") {
            let kilobytes = kilobytes.trim().trim_end_matches(" kB").trim().parse::<u64>()?;
            bytes += if of_a_map { 0 } else { kilobytes << 10 };
        } else if line.split(' ').next().is_some_and(|word| word.contains('-')) {
            of_a_map = line.contains("bpf");
        }
    }
    Ok(bytes)
}
