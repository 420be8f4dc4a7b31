//! The report in words, for an inspector who is no engineer. In: a report. Out: text. It decides nothing.

use super::report::{ChainReport, MeasureReport, Notices, Report};
use std::fmt;

/// What no bundle can show, whoever made it.
const NOT_SHOWN: &str = "\
What a bundle cannot show
  That the router mirrored everything to this host, or only this facility: that is between carrier and router.
  That the programs named by digest are the ones whose source was published: build the object anew and compare.
  That nothing ran beside the tap. What the host's own keys signed is the host's word: somebody who holds the host's and the
  log's key and is not watched by a witness can write both anew; what a witness cosigned cannot be written anew.
  The maxima in a time that no statement speaks of, after an agent that did not end in order.
  Who held a key, and whether the persons who signed were two: the trust roots say whose key it is.
  The clock: times are the host's own, but for those that a witness or the Commission signed.
";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.good {
            writeln!(f, "THE BUNDLE HOLDS: every entry is signed, and the log names it\n")?;
        } else {
            writeln!(f, "THE BUNDLE DOES NOT HOLD")?;
            self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))?;
            writeln!(f)?;
        }
        if self.host.is_empty() {
            return writeln!(f, "Nothing more is said of it: nobody answers for what is in it.");
        }
        writeln!(f, "Host      {}, key {}", self.host, self.host_key)?;
        log(self, f)?;
        self.measures.iter().try_for_each(|it| measure(it, f))?;
        self.statements.iter().try_for_each(|it| chain(it, f))?;
        writeln!(f, "Programs  object {} in version {}", self.object_sha256, self.program_version)?;
        for program in &self.programs {
            writeln!(
                f,
                "  from {} the kernel ran {} (generation {})",
                program.since, program.sha256, program.generation
            )?;
        }
        match self.machines.len() {
            0 => writeln!(f, "Machines  the log does not say on which machine")?,
            1 => writeln!(f, "Machines  one")?,
            more => writeln!(f, "Machines  {more}, one after another: the host's key was moved")?,
        }
        match self.notices.as_slice() {
            [] => writeln!(f, "Notices   none in the bundle")?,
            notices => notices.iter().try_for_each(|it| notices_of(it, f))?,
        }
        write!(f, "\n{NOT_SHOWN}")
    }
}

fn notices_of(it: &Notices, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (notices, acknowledged) = (it.notices, it.acknowledged);
    writeln!(f, "Notices   {notices} to the Commission by {}, numbered from 1; {acknowledged} acknowledged", it.by)?;
    it.by_measure.iter().try_for_each(|(measure, notices)| writeln!(f, "  {notices} about measure {measure}"))
}

fn log(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let log = &report.log;
    writeln!(f, "Log       {}, {} entries", log.origin, log.entries)?;
    if let (Some(first), Some(last)) = (log.first, log.last) {
        writeln!(f, "  from {first} to {last}; every entry is in the bundle and none is altered")?;
    }
    if log.unknown > 0 {
        writeln!(f, "  {} entries of acts that this version of gwtap does not know", log.unknown)?;
    }
    for size in &log.continues {
        writeln!(f, "  begins with the {size} entries that you saw before: nothing of them was changed")?;
    }
    for it in &log.witnessed {
        writeln!(f, "  {} saw at {} that it had only grown, up to {} entries", it.by, it.time, it.entries)?;
    }
    if log.witnessed.is_empty() {
        writeln!(
            f,
            "  no witness that you named has seen it: that it was never written anew is the host's word alone"
        )?;
    }
    Ok(())
}

fn measure(it: &MeasureReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "Measure   {}", it.measure)?;
    for order in &it.orders {
        writeln!(
            f,
            "  order {} ({}), approval {}",
            order.sha256,
            order.basis,
            order.approval.as_deref().unwrap_or("none")
        )?;
        writeln!(f, "    signed by {}", order.signed_by.join(", "))?;
        writeln!(f, "    from {} until {}, loaded {}", order.not_before, order.not_after, order.loaded)?;
        let share = percent(u64::from(order.share_ppm));
        writeln!(f, "    {share} of {}, {} bit/s", order.facility, order.capacity_bits_per_second)?;
    }
    for activation in &it.activations {
        let set = if activation.set_in_bundle { "in the bundle" } else { "by digest alone" };
        writeln!(f, "  selector set {} ({set}), {} rules", activation.set_sha256, activation.rules)?;
        writeln!(
            f,
            "    number {}, signed by {}, loaded {}",
            activation.number,
            activation.signed_by.join(", "),
            activation.loaded
        )?;
    }
    for withdrawal in &it.withdrawals {
        let by = withdrawal.signed_by.join(", ");
        writeln!(
            f,
            "  selectors withdrawn, number {}, signed by {by}, in force {}",
            withdrawal.number, withdrawal.in_force
        )?;
    }
    for directive in &it.directives {
        writeln!(f, "  directive {}: {} ({})", directive.number, directive.kind, directive.reason)?;
        writeln!(
            f,
            "    issued {}, in force {}: {} ms later",
            directive.issued, directive.in_force, directive.after_ms
        )?;
    }
    for switch in &it.switches {
        let what = if switch.thrown { "stopped by the carrier" } else { "released by the carrier" };
        writeln!(f, "  {what} at {}: {}", switch.time, switch.reason)?;
    }
    Ok(())
}

fn chain(it: &ChainReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "Stated    {}: {} statements", it.of, it.statements)?;
    match (it.from, it.to) {
        (Some(from), Some(to)) => writeln!(f, ", from {from} to {to}")?,
        _ => writeln!(f)?,
    }
    writeln!(f, "  limit at most {}; {} statements with more", percent(u64::from(it.limit_ppm)), it.exceeding)?;
    for (window, most) in ["second", "minute", "hour"].iter().zip(it.most_ppm) {
        match most {
            Some(most) => writeln!(f, "  most in any {window} or longer: {} of the capacity", percent(most))?,
            None => writeln!(f, "  no whole {window} was measured")?,
        }
    }
    for gap in &it.gaps {
        let why = if gap.in_order { "the agent had ended in order" } else { "the agent did not end in order" };
        writeln!(f, "  no statement speaks of {} to {}: {why}", gap.from, gap.to)?;
    }
    Ok(())
}

/// Parts per million as a percentage, exact.
fn percent(ppm: u64) -> String {
    format!("{}.{:04} %", ppm / 10_000, ppm % 10_000)
}
