//! A year of leases in simulated time: orders that are extended in time or too late, activations that end, clocks that are
//! stepped and lose their synchronisation, agents that are killed; by seeds.
//!
//! The judgement of the clock, the window, the lease and the decision are the product's own; the kernel's part is the host's
//! build of it. What is expected is said again here, from the readings alone. A seed repeats a run: `GWTAP_SEED`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]

use serde_json::json;
use std::collections::VecDeque;
use tap_common::abi::policy::Lease;
use tap_common::limits::LEASE_NS_MAX;
use tap_tests::need;
use tap_tests::packet::build;
use tap_tests::random::Random;
use tap_tests::world::WorldFile;
use tap_userspace::clock::{Reading, Watch};
use tap_userspace::laboratory::setup::Setup;
use tap_userspace::limits::{
    CLOCK_BACK_NS_MAX, CLOCK_ERROR_NS_MAX, CLOCK_FORWARD_NS_MAX, CLOCK_FORWARD_PERIOD_NS, STATE_WRITE_NS,
};
use tap_userspace::load::{HostWorld, Laboratory};
use tap_userspace::run::lease::{Window, lease};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
const START: u64 = 1_800_000_000 * SECOND;
/// The machine was started so long before.
const BOOTED: u64 = 900 * SECOND;

/// An order: its window, and what an extension makes of its end from some moment on.
struct Order {
    window: Window,
    extended: Option<(u64, u64)>,
}

/// What is ordered and activated in the year.
struct Year {
    orders: Vec<Order>,
    activations: Vec<Window>,
}

impl Year {
    fn new(random: &mut Random) -> Self {
        let (mut orders, mut activations) = (Vec::new(), Vec::new());
        let mut at = START + random.below(0..3 * DAY);
        while at < START + 365 * DAY {
            let end = at + random.below(5 * DAY..90 * DAY);
            // Signed before the order ends: the window goes on without a gap. One that comes later is another order.
            let extended =
                random.chance(60).then(|| (end - random.below(1..4 * DAY), end + random.below(DAY..60 * DAY)));
            orders.push(Order { window: Window { not_before_ns: at, not_after_ns: end }, extended });
            at = extended.map_or(end, |(_, end)| end) + random.below(1..10 * DAY);
        }
        let mut at = START;
        while at < START + 365 * DAY {
            let end = at + random.below(DAY..30 * DAY);
            activations.push(Window { not_before_ns: at, not_after_ns: end });
            at = end + if random.chance(50) { 0 } else { random.below(1..DAY) };
        }
        Self { orders, activations }
    }

    /// What an agent is told at `true_ns`.
    fn window(&self, true_ns: u64) -> Option<Window> {
        let order = self.orders.iter().rev().find(|order| order.window.not_before_ns <= true_ns + DAY)?;
        let mut window = order.window;
        if let Some((_, end)) = order.extended.filter(|(signed, _)| *signed <= true_ns) {
            window.not_after_ns = end;
        }
        let activation = self.activations.iter().rev().find(|window| window.not_before_ns <= true_ns)?;
        Some(window.intersect(*activation))
    }

    /// Moments at which something begins or ends, and some at which nothing does.
    fn moments(&self, random: &mut Random) -> Vec<u64> {
        let mut moments = Vec::new();
        for order in &self.orders {
            moments.extend([order.window.not_before_ns, order.window.not_after_ns]);
            moments.extend(order.extended.into_iter().flat_map(|(signed, end)| [signed, end]));
        }
        moments.extend(self.activations.iter().flat_map(|window| [window.not_before_ns, window.not_after_ns]));
        moments.extend((0..60).map(|_| START + random.below(DAY..365 * DAY)));
        moments.sort_unstable();
        moments
    }
}

/// A reading as the naive model remembers it: the agent's question, and whether it may be answered.
struct Asked {
    boot_ns: u64,
    wall_ns: u64,
    window: Option<Window>,
    trusted: bool,
}

/// The rule said again, from what one agent has read so far.
#[derive(Debug)]
struct Naive {
    highest_ns: u64,
    /// Boot time and offset of a trusted reading of the last hour.
    anchor: Option<(u64, i128)>,
    /// Of all of them the lowest offset.
    lowest: Option<i128>,
    previous_offset: Option<i128>,
    reached_ns: u64,
}

impl Naive {
    fn after(kept_ns: u64) -> Self {
        Self { highest_ns: kept_ns, anchor: None, lowest: None, previous_offset: None, reached_ns: 0 }
    }

    fn trusts(&mut self, reading: &Reading) -> bool {
        let offset = i128::from(reading.unix_ns) - i128::from(reading.boot_ns);
        let ahead = self.anchor.is_some_and(|(_, anchor)| offset > anchor + i128::from(CLOCK_FORWARD_NS_MAX));
        if ahead {
            return false;
        }
        if self.previous_offset.is_some_and(|previous| offset + 5_000_000 < previous) {
            let reached = i128::from(reading.boot_ns) + self.previous_offset.unwrap();
            self.reached_ns = self.reached_ns.max(u64::try_from(reached).unwrap());
        }
        self.previous_offset = Some(offset);
        let left_behind = self.lowest.is_some_and(|lowest| offset + i128::from(CLOCK_BACK_NS_MAX) < lowest);
        if left_behind || reading.unix_ns < self.highest_ns.max(self.reached_ns) {
            return false;
        }
        self.highest_ns = reading.unix_ns;
        if !reading.synchronised || reading.error_ns > CLOCK_ERROR_NS_MAX {
            return false;
        }
        if self.anchor.is_none_or(|(boot_ns, _)| reading.boot_ns >= boot_ns + CLOCK_FORWARD_PERIOD_NS) {
            self.anchor = Some((reading.boot_ns, offset));
            self.lowest = Some(self.lowest.unwrap_or(offset).min(offset));
        }
        true
    }
}

/// What came of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    selected: u64,
    refused_with_a_good_clock_and_window: u64,
    in_doubt: u64,
    kills: u64,
    digest: u64,
}

struct Agent {
    watch: Watch,
    naive: Naive,
}

struct Run<'a> {
    random: Random,
    year: Year,
    world: HostWorld<'a>,
    frame: Vec<u8>,
    true_ns: u64,
    wall_error_ns: i64,
    synchronised: bool,
    error_ns: u64,
    agent: Option<Agent>,
    kept_ns: u64,
    asked: VecDeque<Asked>,
    /// Nothing was wrong since.
    well_since_ns: u64,
    outcome: Outcome,
}

impl Run<'_> {
    fn boot_ns(&self) -> u64 {
        self.true_ns - START + BOOTED
    }

    fn reading(&self) -> Reading {
        Reading {
            unix_ns: self.true_ns.saturating_add_signed(self.wall_error_ns),
            boot_ns: self.boot_ns(),
            synchronised: self.synchronised,
            error_ns: self.error_ns,
        }
    }

    fn year(&mut self) {
        let moments = self.year.moments(&mut self.random);
        for moment in moments {
            let begin = moment.saturating_sub(self.random.below(SECOND..20 * SECOND));
            // Between the moments the agent goes on asking, and nothing changes.
            self.true_ns = self.true_ns.max(begin);
            self.repair();
            for _ in 0..self.random.below(20..50) {
                self.fault();
                self.renew();
                let step = if self.random.chance(3) { self.random.below(SECOND..9 * SECOND) } else { SECOND };
                let until = self.true_ns + step;
                for share in [1, 3, 5, 9] {
                    self.packet(until - step + step * share / 10);
                }
                self.true_ns = until;
            }
        }
    }

    fn repair(&mut self) {
        if self.wall_error_ns != 0 || !self.synchronised || self.error_ns != 0 {
            (self.wall_error_ns, self.synchronised, self.error_ns) = (0, true, 0);
            self.well_since_ns = self.true_ns;
        }
    }

    fn fault(&mut self) {
        if !self.random.chance(8) {
            return;
        }
        self.well_since_ns = self.true_ns;
        let bound = CLOCK_FORWARD_NS_MAX.cast_signed();
        match self.random.below(0..9) {
            0 => self.wall_error_ns -= self.random.below(1..3 * DAY).cast_signed(),
            1 => self.wall_error_ns -= self.random.below(SECOND / 50..20 * SECOND).cast_signed(),
            2 => self.wall_error_ns += self.random.below(1..3 * DAY).cast_signed(),
            3 => self.wall_error_ns += self.random.pick([bound / 4, bound / 2, bound, bound + 1]),
            4 => self.synchronised = false,
            5 => self.error_ns = self.random.below(0..2 * CLOCK_ERROR_NS_MAX),
            6 => {
                self.agent = None;
                self.outcome.kills += 1;
            }
            _ => self.repair(),
        }
    }

    /// What the agent does every second; a dead one is started again now and then.
    fn renew(&mut self) {
        let reading = self.reading();
        let window = self.year.window(self.true_ns);
        if self.agent.is_none() && self.random.chance(30) {
            let mut watch = Watch::new(true, self.kept_ns);
            if watch.judge(&reading).is_ok() {
                self.world.set_slot_lease(0, Lease::default()).unwrap();
                self.agent = Some(Agent { watch: Watch::new(true, self.kept_ns), naive: Naive::after(self.kept_ns) });
                self.well_since_ns = self.true_ns;
            }
        }
        let Some(agent) = &mut self.agent else { return };
        let trusted = agent.naive.trusts(&reading);
        self.asked.push_back(Asked { boot_ns: reading.boot_ns, wall_ns: reading.unix_ns, window, trusted });
        let judged = agent.watch.judge(&reading);
        // What the rule refuses is refused; the product may be stricter.
        assert!(trusted || judged.is_err(), "{reading:?} after {:?} was trusted: {judged:?}", agent.naive);
        match judged {
            Ok(now) => {
                if now.unix_ns.saturating_sub(self.kept_ns) >= STATE_WRITE_NS {
                    self.kept_ns = now.unix_ns;
                }
                let given = window.and_then(|window| lease(&now, &window).ok()).unwrap_or_default();
                self.world.set_slot_lease(0, given).unwrap();
            }
            // Not renewed: what was given ends by itself.
            Err(_) => self.outcome.in_doubt += 1,
        }
    }

    fn packet(&mut self, true_ns: u64) {
        let boot_ns = true_ns - START + BOOTED;
        while self.asked.front().is_some_and(|asked| boot_ns - asked.boot_ns > LEASE_NS_MAX) {
            self.asked.pop_front();
        }
        let selected = self.world.decide(&self.frame, boot_ns).unwrap().selected == 1;
        let live = self.asked.iter().any(|asked| {
            let shown = asked.wall_ns + (boot_ns - asked.boot_ns);
            asked.trusted && asked.window.is_some_and(|w| w.not_before_ns <= shown && shown < w.not_after_ns)
        });
        assert!(!selected || live, "a packet at {true_ns} was selected outside a live window");
        if self.wall_error_ns == 0 && selected && true_ns.saturating_sub(self.well_since_ns) > LEASE_NS_MAX {
            let window = self.year.window(true_ns).unwrap();
            assert!(
                window.not_before_ns <= true_ns && true_ns < window.not_after_ns,
                "{true_ns} is outside {window:?}"
            );
        }
        // The other way round, so that a tap that never selects does not pass.
        let window = self.year.window(self.true_ns);
        let calm = window.is_some_and(|w| w.not_before_ns + SECOND < self.true_ns && true_ns + SECOND < w.not_after_ns);
        let fresh = self.asked.back().is_some_and(|asked| asked.trusted && boot_ns - asked.boot_ns < LEASE_NS_MAX);
        let asking = self.agent.is_some() && self.wall_error_ns == 0;
        if asking && calm && fresh && !selected {
            self.outcome.refused_with_a_good_clock_and_window += 1;
        }
        self.outcome.selected += u64::from(selected);
        self.outcome.digest = self.outcome.digest.rotate_left(5) ^ (true_ns << 1 | u64::from(selected));
    }
}

fn setup() -> Setup {
    let world = json!({
        "basis": "foreign-to-domestic", "domestic": ["203.0.113.0/24"], "foreign": ["198.51.100.0/24"], "rest": "unlisted",
        "set": {"measure": "m-laboratory", "version": 1, "standard": "s-laboratory", "rules": [{
            "id": "r", "act": "a-1", "reason": "laboratory", "valid_until": "2199-01-01T00:00:00Z", "conditions": [
                {"item": "facility-address", "field": "source-address", "any": ["198.51.100.0/25"]},
                {"item": "aid", "field": "source-port", "any": ["1000-1999"]}]}]}
    });
    serde_json::from_value::<WorldFile>(world).unwrap().setup().unwrap()
}

fn run(setup: &Setup, seed: u64) -> Outcome {
    let packet = json!([{"ethernet": {}}, {"ipv4": {"source": "198.51.100.127", "destination": "203.0.113.9"}},
        {"tcp": {"source_port": 1000, "destination_port": 7, "flags": 0}}]);
    let mut world = HostWorld::new(&setup.tables, tap_userspace::load::LaboratoryConfig::default());
    world.set_slot_lease(0, Lease::default()).unwrap();
    let mut random = Random::from_seed(seed);
    let mut run = Run {
        year: Year::new(&mut random),
        random,
        world,
        frame: build(&serde_json::from_value::<Vec<_>>(packet).unwrap()).unwrap(),
        true_ns: START,
        wall_error_ns: 0,
        synchronised: true,
        error_ns: 0,
        agent: None,
        kept_ns: 0,
        asked: VecDeque::new(),
        well_since_ns: START,
        outcome: Outcome::default(),
    };
    run.year();
    run.outcome
}

fn check(setup: &Setup, seed: u64) -> Outcome {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(setup, seed)));
    let outcome = outcome.unwrap_or_else(|_| panic!("the year of seed {seed} failed"));
    assert_eq!(outcome.refused_with_a_good_clock_and_window, 0, "seed {seed}: the tap does not select when it may");
    assert!(
        outcome.selected > 100 && outcome.in_doubt > 10 && outcome.kills > 0,
        "seed {seed}: {outcome:?} shows little"
    );
    outcome
}

/// In this year a clock that had crept forward is set back: what it had reached was once taken for a nanosecond less.
const CREPT: u64 = 3_396;

#[test]
fn never_in_a_year_is_a_packet_selected_outside_a_live_window() {
    let setup = setup();
    for seed in (0..if need::long() { 10_000 } else { 100 }).chain([CREPT]) {
        check(&setup, seed);
    }
    // A fresh one, or that of the run that `GWTAP_SEED` repeats.
    let seed = Random::printed("a fresh year").bits();
    check(&setup, seed);
}

#[test]
fn a_seed_repeats_its_year() {
    let setup = setup();
    assert_eq!(run(&setup, 7), run(&setup, 7));
    assert_ne!(run(&setup, 7).digest, run(&setup, 8).digest);
}
