//! Messages on their way: sent and not acknowledged. Pure; it outlives sessions, so that a record counts once however
//! often it is sent.

use std::collections::BTreeMap;

/// Packet records of the messages on their way, by spool sequence.
#[derive(Debug, Default)]
pub(super) struct Window {
    records: BTreeMap<u64, u32>,
    /// Every number that may have been sent is below.
    sent: u64,
}

impl Window {
    /// Numbers below `recovered` may have been sent by an earlier process.
    pub(super) fn new(recovered: u64) -> Self {
        Self { records: BTreeMap::new(), sent: recovered }
    }

    /// Whether `sequence` was sent, or may have been by an earlier process: only that can be stored anywhere.
    pub(super) fn may_be_stored(&self, sequence: u64) -> bool {
        sequence < self.sent
    }

    /// Notes that `sequence` with `records` was sent; `false` when it was already on its way.
    pub(super) fn sent(&mut self, sequence: u64, records: u32) -> bool {
        self.sent = self.sent.max(sequence.saturating_add(1));
        self.records.insert(sequence, records).is_none()
    }

    /// Takes out everything through `through`; gives the packet records that were in it.
    pub(super) fn acknowledged(&mut self, through: u64) -> u64 {
        let kept = match through.checked_add(1) {
            Some(next) => self.records.split_off(&next),
            None => BTreeMap::new(),
        };
        std::mem::replace(&mut self.records, kept).into_values().map(u64::from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sent_can_be_stored() {
        let mut window = Window::new(3);
        assert!(window.may_be_stored(2) && !window.may_be_stored(3));
        window.sent(3, 10);
        assert!(window.may_be_stored(3) && !window.may_be_stored(4));
        assert_eq!(window.acknowledged(3), 10);
        assert!(window.may_be_stored(3) && !window.may_be_stored(u64::MAX));
    }

    #[test]
    fn each_record_is_acknowledged_once_however_often_it_is_sent() {
        let mut window = Window::default();
        assert!(window.sent(4, 10) && window.sent(5, 20) && window.sent(6, 30));
        assert!(!window.sent(5, 20));
        assert_eq!(window.acknowledged(3), 0);
        assert_eq!(window.acknowledged(5), 30);
        assert_eq!(window.acknowledged(5), 0);
        assert_eq!(window.acknowledged(u64::MAX), 30);
    }
}
