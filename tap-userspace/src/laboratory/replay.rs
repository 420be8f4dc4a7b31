//! Replay: every packet of a capture through a laboratory world, one line each.
//!
//! In: a capture, a world (the kernel's or the host's) over compiled tables. Out: lines of JSON. Time is the capture's,
//! or one moment for all packets. Bounded by one packet at a time.

use super::capture::{Capture, CaptureError};
use super::line::Line;
use crate::load::{Laboratory, LoadError};
use crate::prefixes::country::CountryTable;
use std::io::{self, Read, Write};

/// What the lines are made with, beside the decisions.
#[derive(Debug)]
pub struct Labels<'a> {
    /// Ids of the set's rules, by index.
    pub rule_ids: &'a [String],
    /// The country table that the world was made with.
    pub country: &'a CountryTable,
}

/// Which packets are shown, and at what time they are judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Show {
    /// Selected packets only.
    pub selected_only: bool,
    /// The clock stands at this time, in nanoseconds since 1970, instead of following the capture.
    pub now_ns: Option<u64>,
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The capture cannot be read any further.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The world failed.
    #[error("packet {packet}: the kernel program could not be run")]
    World {
        /// Number of the packet.
        packet: u64,
        /// What failed.
        source: LoadError,
    },
    /// The lines cannot be written.
    #[error("the result cannot be written")]
    Output(#[from] io::Error),
}

/// Replays `capture` through `world` and writes the lines to `out`.
///
/// # Errors
/// When the capture, the world or the output fails; the lines of the packets before it are written.
pub fn replay<R: Read>(
    capture: Capture<R>,
    world: &mut dyn Laboratory,
    labels: &Labels<'_>,
    show: Show,
    out: &mut dyn Write,
) -> Result<(), ReplayError> {
    for packet in capture {
        let packet = packet?;
        let now_ns = show.now_ns.unwrap_or(packet.time_ns);
        let observation = world
            .decide(&packet.frame, now_ns)
            .map_err(|source| ReplayError::World { packet: packet.number, source })?;
        let line = Line::new(packet.number, &observation, labels.rule_ids, labels.country);
        if line.is_selected() || !show.selected_only {
            serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}
