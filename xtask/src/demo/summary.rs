//! What the demo showed: for people, or as one JSON object. In: the books and what was sent. It decides nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tap_tests::deployment::{Books, lost, selected};
use tap_userspace::control::status::{MeasureStatus, Status};

use super::traffic::Sent;

pub(super) struct Summary {
    pub(super) books: Books,
    pub(super) sent: Sent,
    pub(super) notices: Notices,
    pub(super) inspection: Inspection,
}

/// What the Commission was told (Art. 30).
pub(super) struct Notices {
    /// Both kinds of every day with records, no others, all of them acknowledged.
    pub(super) good: bool,
    pub(super) number: usize,
    pub(super) days: Vec<String>,
}

/// What became of the inspection bundle.
pub(super) struct Inspection {
    pub(super) good: bool,
    pub(super) bytes: u64,
    pub(super) log_entries: u64,
    pub(super) refusal: String,
}

impl Summary {
    pub(super) fn json(&self) -> Value {
        let Status { counters, share, .. } = &self.books.status;
        let measure = self.books.measure();
        let delivery = &measure.delivery;
        json!({
            "observed_packets": counters.observed_packets,
            "interface_packets": self.books.interface_packets,
            "verdicts": self.verdicts(),
            "idle_packets": measure.counters.idle_packets,
            "sampling_ratio": measure.sampling.ratio,
            "sampling_changes": measure.sampling.changes,
            "admitted_bytes": counters.admitted_bytes,
            "capacity_bits_per_second": share.capacity_bits_per_second,
            "share_limit": share.limit,
            "share_used_max": share.used_max,
            "records_selected": selected(&self.books.status),
            "records_delivered": delivery.sent_records,
            "records_acknowledged": delivery.acknowledged_records,
            "records_stored": self.books.records.len(),
            "records_lost": lost(&self.books.status),
            "records_by_generation": self.books.generations().into_iter().map(|(generation, records)| (generation.to_string(), records)).collect::<BTreeMap<_, _>>(),
            "sent": self.sent,
            "program_sha256": self.books.status.program_digest,
            "order_sha256": measure.order.sha256,
            "conservation": self.books.balance(),
            "notices": self.notices.number,
            "notices_acknowledged": self.notices.good,
            "inspection": self.inspection.good,
            "log_entries": self.inspection.log_entries,
        })
    }

    /// The facility's verdicts and the measure's: with its idle packets they are the packets observed.
    fn verdicts(&self) -> BTreeMap<String, u64> {
        let own = self.books.measure().counters.verdicts;
        self.books.status.counters.verdicts.clone().into_iter().chain(own).collect()
    }

    pub(super) fn text(&self) -> String {
        let Status { counters, share, .. } = &self.books.status;
        let MeasureStatus { order, delivery, sampling, .. } = self.books.measure();
        let mut out = String::new();
        let mut line = |name: &str, text: String| writeln!(out, "{name:<14}{text}").unwrap_or_default();
        line("Measure", format!("{} ({}), until {}", order.measure, order.basis, order.not_after));
        line(
            "Facility",
            format!(
                "{} Mbit/s; {:.1} % may be admitted",
                share.capacity_bits_per_second / 1_000_000,
                share.limit * 100.0
            ),
        );
        line("", format!("most admitted in any second or longer: {:.2} %", share.used_max * 100.0));
        line(
            "Sample",
            format!(
                "{:.1} % of the flows at the end, {:.1} % allowed, {} changes",
                sampling.ratio * 100.0,
                sampling.limit * 100.0,
                sampling.changes
            ),
        );
        line(
            "Sent",
            format!(
                "{} TCP exchanges, {} UDP datagrams, {} frames of a capture",
                self.sent.tcp_exchanges, self.sent.udp_datagrams, self.sent.replayed_frames
            ),
        );
        line("Observed", format!("{} packets; each has exactly one verdict:", counters.observed_packets));
        for (verdict, packets) in self.verdicts().into_iter().filter(|(_, packets)| *packets > 0) {
            line("", format!("{packets:>9}  {verdict}"));
        }
        line(
            "Recorded",
            format!(
                "{} header records, no payload byte; {} lost",
                selected(&self.books.status),
                lost(&self.books.status)
            ),
        );
        line(
            "Delivered",
            format!(
                "{}, acknowledged {}, stored {}",
                delivery.sent_records,
                delivery.acknowledged_records,
                self.books.records.len()
            ),
        );
        let generations: Vec<_> = self
            .books
            .generations()
            .into_iter()
            .map(|(generation, records)| format!("{records} under generation {generation}"))
            .collect();
        line("Selectors", format!("changed while traffic flowed: {}", generations.join(", ")));
        let verdict = if self.books.balance() { "holds" } else { "DOES NOT HOLD" };
        line("Conservation", verdict.to_owned());
        for (holds, words) in self.books.equations() {
            line("", format!("{} {words}", if holds { "yes" } else { "NO " }));
        }
        let Notices { good, number, days } = &self.notices;
        let verdict = if *good { "" } else { "NOT " };
        let text =
            format!("{number} for records of {}, {verdict}acknowledged by the Commission's endpoint", days.join(", "));
        writeln!(out, "{:<14}{text}", "Notices").unwrap_or_default();
        let Inspection { good, bytes, log_entries, refusal } = &self.inspection;
        let verdict = if *good { "holds" } else { "DOES NOT HOLD: " };
        let mut line = |name: &str, text: String| writeln!(out, "{name:<14}{text}").unwrap_or_default();
        line("Inspection", format!("a bundle of {bytes} bytes with all {log_entries} entries of the audit log,"));
        line("", format!("verified with public keys alone: {verdict}{refusal}"));
        out
    }
}
