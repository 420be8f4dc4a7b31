//! The controller against a model of the line and the cap, second by second.

use super::controller::{Controller, Reason, Totals};
use crate::limits::{SAMPLING_HOLD_STEPS_MIN, SAMPLING_THRESHOLD_MIN};

const SECOND: u64 = 1_000_000_000;
const WHOLE: u64 = 1 << 32;
/// Bytes a second.
const SHARE: u64 = 1_000_000;

/// A line, a cap that admits 98 % of the share, and the controller between them.
struct Model {
    controller: Controller,
    now_ns: u64,
    totals: Totals,
    flows: u64,
}

impl Model {
    fn new(ceiling: u64, flows: u64) -> Self {
        let mut made =
            Self { controller: Controller::new(ceiling), now_ns: 5 * SECOND, totals: Totals::default(), flows };
        assert_eq!(made.controller.step(made.now_ns, made.totals, SHARE), None, "nothing to compare with");
        made
    }

    /// A second with `offered` bytes in packets of 100; the part of the sampled packets that was refused, and the change.
    fn second(&mut self, offered: u64) -> (f64, Option<(u64, Reason)>) {
        // Whole flows: those whose hash is below the threshold, evenly spread.
        let sampled_flows = (0..self.flows).filter(|flow| flow * (WHOLE / self.flows) < self.controller.threshold());
        let sampled = offered / self.flows * sampled_flows.count() as u64 / 100;
        let admitted = sampled.min(SHARE / 100 * 98 / 100);
        self.totals.admitted_packets += admitted;
        self.totals.admitted_bytes += admitted * 100;
        self.totals.refused_packets += sampled - admitted;
        self.now_ns += SECOND;
        let change = self.controller.step(self.now_ns, self.totals, SHARE);
        ((sampled - admitted) as f64 / sampled.max(1) as f64, change)
    }
}

#[test]
fn overload_is_answered_in_the_next_step_and_settles_close_below_the_share() {
    for overload in [2, 5, 20, 300] {
        let mut model = Model::new(WHOLE, 1 << 15);
        let (refused, change) = model.second(overload * SHARE);
        assert!(refused > 0.4);
        let (threshold, reason) = change.unwrap();
        assert_eq!(reason, Reason::Load);
        let expected = WHOLE as f64 * 0.9 / overload as f64;
        assert!((threshold as f64 / expected - 1.0).abs() < 0.01, "{overload}: {threshold} {expected}");
        for _ in 0..60 {
            let (refused, change) = model.second(overload * SHARE);
            assert!(refused == 0.0 && change.is_none(), "{overload}: {refused} {change:?}");
        }
    }
}

#[test]
fn it_comes_back_slowly_and_never_above_the_order() {
    let ceiling = WHOLE / 2;
    let mut model = Model::new(ceiling, 4_096);
    model.second(10 * SHARE);
    let mut last = model.controller.threshold();
    let mut waited = 0;
    while model.controller.threshold() < ceiling {
        let (refused, change) = model.second(SHARE / 2);
        waited += 1;
        assert!(refused == 0.0 && waited < 300, "{waited}");
        if let Some((threshold, reason)) = change {
            assert_eq!(reason, Reason::Room);
            assert!(threshold > last && threshold <= last + last / 4 && threshold <= ceiling);
            assert_eq!(waited % SAMPLING_HOLD_STEPS_MIN, 0, "ten steps of calm between two rises");
            last = threshold;
        }
    }
    for _ in 0..100 {
        assert_eq!(model.second(SHARE / 2).1, None);
    }
}

#[test]
fn a_load_that_fits_changes_nothing() {
    let mut model = Model::new(WHOLE, 4_096);
    for second in 0..200 {
        let change = model.second(SHARE * (50 + second % 40) / 100).1;
        assert_eq!(change, None);
    }
}

#[test]
fn few_large_flows_do_not_make_it_swing() {
    // Eight flows of a quarter of the share each: three leave room, four are too many, so every rise proves too high.
    let mut model = Model::new(WHOLE, 8);
    let (mut rises, mut falls, mut refused_seconds) = (0, 0, 0);
    for _ in 0..3_600 {
        let (refused, change) = model.second(SHARE * 2);
        rises += u32::from(change.is_some_and(|(_, reason)| reason == Reason::Room));
        falls += u32::from(change.is_some_and(|(_, reason)| reason != Reason::Room));
        refused_seconds += u32::from(refused > 0.0);
    }
    assert!(rises > 3 && falls <= 35, "{rises} rises and {falls} falls in an hour");
    assert!(refused_seconds <= 36, "{refused_seconds} seconds with refusals in an hour");
}

#[test]
fn bursts_lower_it_although_the_mean_fits() {
    let mut controller = Controller::new(WHOLE);
    let mut totals = Totals::default();
    controller.step(0, totals, SHARE);
    totals.admitted_packets += 4_900;
    totals.admitted_bytes += 490_000;
    totals.refused_packets += 100;
    assert_eq!(controller.step(SECOND, totals, SHARE), Some((WHOLE / 10 * 9 + 5, Reason::Bursts)));
}

#[test]
fn floors_and_absurd_inputs() {
    let mut model = Model::new(WHOLE, 1);
    for _ in 0..50 {
        // One flow that never fits: its hash is below every threshold.
        model.second(1_000_000 * SHARE);
    }
    assert_eq!(model.controller.threshold(), SAMPLING_THRESHOLD_MIN);
    let below_the_floor = SAMPLING_THRESHOLD_MIN / 2;
    let mut model = Model::new(below_the_floor, 1);
    model.second(1_000_000 * SHARE);
    assert_eq!(model.controller.threshold(), below_the_floor, "the order's figure holds below the floor too");

    let mut controller = Controller::new(WHOLE);
    let most = Totals { admitted_packets: u64::MAX, admitted_bytes: u64::MAX, refused_packets: u64::MAX };
    controller.step(1, Totals::default(), u64::MAX);
    controller.step(u64::MAX, most, u64::MAX);
    assert_eq!(controller.step(5, Totals::default(), 0), None, "time and counters went back: another beginning");
    assert!(controller.step(6, most, 0).is_some(), "no share at all");
    assert!(controller.threshold() >= SAMPLING_THRESHOLD_MIN);
    let mut refused_all = Controller::new(WHOLE);
    refused_all.step(0, Totals::default(), SHARE);
    let totals = Totals { refused_packets: 9, ..Totals::default() };
    assert!(refused_all.step(SECOND, totals, SHARE).is_some(), "nothing admitted, some refused");
}

proptest::proptest! {
    #[test]
    fn whatever_happens_it_stays_between_floor_and_order(
        ceiling in 0_u64..=WHOLE,
        steps in proptest::collection::vec(
            // Mostly calm with room, so that it rises as far as it can.
            (0_u64..5 * SECOND, 0_u64..1 << 30, 0_u64..1 << 30, proptest::prop_oneof![30 => 0_u64..=0, 1 => 0_u64..1 << 30], 0_u64..1 << 40),
            1..300,
        ),
    ) {
        let mut controller = Controller::new(ceiling);
        let (mut now_ns, mut totals) = (0, Totals::default());
        for (elapsed_ns, bytes, packets, refused, share) in steps {
            now_ns += elapsed_ns;
            totals.admitted_bytes += bytes;
            totals.admitted_packets += packets;
            totals.refused_packets += refused;
            let before = controller.threshold();
            let change = controller.step(now_ns, totals, share);
            let after = controller.threshold();
            proptest::prop_assert!(after <= ceiling && after >= SAMPLING_THRESHOLD_MIN.min(ceiling));
            proptest::prop_assert_eq!(change.map(|(threshold, _)| threshold), (after != before).then_some(after));
        }
    }
}
