//! When a measure is over. In: what taps said of its begin and end. Out: the order under which it ended last. Pure.
//!
//! Several taps may serve one measure, and their orders may end at different times: one is extended, another is not. The measure
//! is over when each tap that opened it has said its end, or its order's end has passed; it ends once, under the order that ends
//! last. Another chain of orders is another measure's life, though its name be the same. Bound: one entry a measure, chain and tap.

use super::{Event, Receipt};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A measure under one chain of orders.
pub(crate) type Life = (String, String);

/// What a tap said last of a measure's begin and end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Opened {
    pub(crate) not_after: Timestamp,
    pub(crate) receipt: Receipt,
    pub(crate) receipt_sha256: String,
    /// When the tap said that it was over.
    #[serde(default)]
    pub(crate) ended: Option<Timestamp>,
}

/// What all taps said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    taps: BTreeMap<Life, BTreeMap<String, Opened>>,
}

/// The life that a receipt is of.
pub(crate) fn life(receipt: &Receipt) -> Life {
    (receipt.measure.clone(), receipt.chain_sha256.clone())
}

impl Ends {
    /// What is known of the receipt's tap after this receipt, where that is something else than before.
    pub(crate) fn change(&self, receipt: &Receipt, receipt_sha256: &str) -> Option<Opened> {
        let known = self.taps.get(&life(receipt)).and_then(|taps| taps.get(&receipt.host_key));
        let said = |not_after, ended| Opened {
            not_after,
            receipt: receipt.clone(),
            receipt_sha256: receipt_sha256.to_owned(),
            ended,
        };
        match (&receipt.event, known) {
            (Event::Day { .. }, _) => None,
            (Event::Opened { not_after }, known) => {
                // An extension's order ends later, and is the one that counts then.
                known.is_none_or(|known| known.not_after < *not_after).then(|| said(*not_after, None))
            }
            (Event::Ended { .. }, None) => Some(said(receipt.time, Some(receipt.time))),
            (Event::Ended { .. }, Some(known)) => {
                // What an older order's end says again, after the extension, is none.
                let is_stale = receipt.order_sha256 != known.receipt.order_sha256 && receipt.time < known.receipt.time;
                (known.ended.is_none() && !is_stale).then(|| Opened { ended: Some(receipt.time), ..known.clone() })
            }
        }
    }

    /// Notes what [`Ends::change`] gave.
    pub(crate) fn note(&mut self, opened: Opened) {
        let taps = self.taps.entry(life(&opened.receipt)).or_default();
        let known = taps.get(&opened.receipt.host_key);
        if known.is_none_or(|known| known.not_after <= opened.not_after) {
            taps.insert(opened.receipt.host_key.clone(), opened);
        }
    }

    /// The last of a life, where it was over at `time`: every tap has said so, or its order had ended.
    pub(crate) fn over(&self, life: &Life, time: Timestamp) -> Option<&Opened> {
        let taps = self.taps.get(life)?;
        let is_over = taps.values().all(|tap| tap.ended.is_some() || tap.not_after <= time);
        let last = || taps.values().max_by_key(|tap| (tap.not_after, &tap.receipt.order_sha256));
        is_over.then(last).flatten()
    }

    /// The last of each life that was over `wait` before `now`, or of which every tap has said so.
    pub(crate) fn all_over(&self, wait: SignedDuration, now: Timestamp) -> Vec<&Opened> {
        let Ok(time) = now.checked_sub(wait) else { return Vec::new() };
        // A tap has a while to say it itself.
        let time = time.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MIN);
        let lives: BTreeSet<&Life> = self.taps.keys().collect();
        lives.into_iter().filter_map(|life| self.over(life, time)).collect()
    }
}
