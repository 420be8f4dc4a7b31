//! The judgement of clocks, in simulated time.

use super::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_800_000_000 * SECOND;

fn at(boot_s: u64, wall_offset_ns: i64) -> Reading {
    let boot_ns = boot_s * SECOND;
    Reading {
        unix_ns: (START + boot_ns).saturating_add_signed(wall_offset_ns),
        boot_ns,
        synchronised: true,
        error_ns: 0,
    }
}

#[test]
fn a_steady_clock_is_accepted_second_after_second() {
    let mut watch = Watch::new(true, 0);
    for second in 1..100_000 {
        // The jitter of reading two clocks.
        let jitter = i64::try_from(second % 7).unwrap() * 100_000;
        let now = watch.judge(&at(second, jitter)).unwrap();
        assert_eq!(now.forward_ns, None);
        assert_eq!(now.boot_to_unix_ns, START.cast_signed() + 100_000, "records keep one offset");
    }
}

#[test]
fn a_step_back_is_refused_until_the_clock_is_where_it_was() {
    let mut watch = Watch::new(true, 0);
    watch.judge(&at(100, 0)).unwrap();
    // As far as a correction goes: refused until every time it showed is passed, then it is a correction.
    let bound = CLOCK_BACK_NS_MAX.cast_signed();
    assert_eq!(watch.judge(&at(101, -bound)), Err(ClockError::SetBack { back_ns: CLOCK_BACK_NS_MAX }));
    watch.judge(&at(103, -bound)).unwrap();
    watch.judge(&at(104, -bound)).unwrap();
}

#[test]
fn a_step_back_counts_from_where_the_clock_had_crept_to() {
    let mut watch = Watch::new(true, 0);
    let crept = CLOCK_STEP_NS.cast_signed();
    watch.judge(&at(100, 0)).unwrap();
    watch.judge(&at(101, crept)).unwrap();
    // The second after it would have shown 102 s and what it crept; every moment up to there has been lived through.
    let back_ns = SECOND + crept.unsigned_abs();
    assert_eq!(watch.judge(&at(102, -SECOND.cast_signed())), Err(ClockError::SetBack { back_ns }));
    assert_eq!(
        watch.judge(&at(103, -SECOND.cast_signed())),
        Err(ClockError::SetBack { back_ns: crept.unsigned_abs() })
    );
    watch.judge(&at(104, -SECOND.cast_signed())).unwrap();
    // Two of them that no single one would be.
    let mut watch = Watch::new(true, 0);
    watch.judge(&at(100, 0)).unwrap();
    watch.judge(&at(101, crept)).unwrap();
    watch.judge(&at(102, -1)).unwrap_err();
}

#[test]
fn a_clock_that_was_set_back_and_left_wrong_stays_refused() {
    let mut watch = Watch::new(true, 0);
    watch.judge(&at(100, 0)).unwrap();
    let hour = 3_600 * SECOND.cast_signed();
    for wrong in [hour, CLOCK_BACK_NS_MAX.cast_signed() + 1] {
        // Far beyond the moment at which it has passed every time that it ever showed.
        for second in (101..20_000).chain(400_000..400_010) {
            let refused = watch.judge(&at(second, -wrong)).unwrap_err();
            let ClockError::SetBack { back_ns } = refused else { panic!("{refused}") };
            assert!(back_ns >= wrong.unsigned_abs(), "{second}: {back_ns}");
        }
    }
    watch.judge(&at(400_011, 0)).unwrap();
    // Somebody says that the time is right now by starting the agent anew; what was seen stays a bound.
    let mut watch = Watch::new(true, at(400_011, 0).unix_ns);
    assert!(matches!(watch.judge(&at(400_012, -hour)), Err(ClockError::BeforeKept { .. })));
    watch.judge(&at(400_011 + 3_600, -hour)).unwrap();
}

#[test]
fn corrections_that_led_forward_may_be_taken_back() {
    let mut watch = Watch::new(true, 0);
    let bound = CLOCK_FORWARD_NS_MAX.cast_signed();
    for hour in 0..5_i64 {
        watch.judge(&at(100 + 3_600 * hour.cast_unsigned(), bound * hour)).unwrap();
    }
    watch.judge(&at(20_000, 0)).unwrap_err();
    watch.judge(&at(20_100, 0)).unwrap();
}

#[test]
fn a_step_back_shorter_than_the_renewal_is_noticed_too() {
    let mut watch = Watch::new(true, 0);
    watch.judge(&at(10, 0)).unwrap();
    // The wall clock still shows a later time than at the last reading; all the same it was set back.
    let refused = watch.judge(&at(11, -200_000_000)).unwrap_err();
    assert_eq!(refused, ClockError::SetBack { back_ns: 200_000_000 });
    watch.judge(&at(12, -200_000_000)).unwrap();
}

#[test]
fn many_small_steps_back_add_up() {
    let mut watch = Watch::new(true, 0);
    watch.judge(&at(1, 0)).unwrap();
    let step = 2_000_000;
    let refused = (2..10).find(|second| watch.judge(&at(*second, -step * (second.cast_signed() - 1))).is_err());
    assert_eq!(refused, Some(4), "6 ms in all are over the 5 ms that reading may cost");
}

#[test]
fn correcting_a_step_back_ends_the_refusal() {
    let mut watch = Watch::new(true, 0);
    watch.judge(&at(100, 0)).unwrap();
    watch.judge(&at(101, -90 * SECOND.cast_signed())).unwrap_err();
    watch.judge(&at(102, 0)).unwrap();
}

#[test]
fn a_step_forward_is_taken_and_told() {
    let mut watch = Watch::new(true, 0);
    watch.judge(&at(100, 0)).unwrap();
    let now = watch.judge(&at(101, SECOND.cast_signed())).unwrap();
    assert_eq!(now.forward_ns, Some(SECOND), "a leap second");
    assert_eq!(watch.judge(&at(102, SECOND.cast_signed())).unwrap().forward_ns, None);
}

#[test]
fn a_time_before_the_last_run_is_refused_after_a_restart() {
    let last = START + 5_000 * SECOND;
    let mut watch = Watch::new(true, last);
    assert_eq!(watch.judge(&at(4_000, 0)), Err(ClockError::BeforeKept { back_ns: 1_000 * SECOND }));
    assert_eq!(watch.highest_unix_ns(), last);
    watch.judge(&at(5_000, 0)).unwrap();
}

#[test]
fn an_unsynchronised_clock_is_refused_only_where_it_is_required() {
    let reading = Reading { synchronised: false, ..at(1, 0) };
    assert_eq!(Watch::new(true, 0).judge(&reading), Err(ClockError::Unsynchronised));
    Watch::new(false, 0).judge(&reading).unwrap();
}

#[test]
fn the_machines_clocks_can_be_read() {
    let first = read().unwrap();
    let second = read().unwrap();
    assert!(second.boot_ns >= first.boot_ns);
    assert!(first.unix_ns > 1_700_000_000 * SECOND);
    assert!(boot_ns().unwrap() >= second.boot_ns - CLOCK_READ_NS_MAX);
}

#[test]
fn a_step_forward_past_the_bound_is_refused_until_it_is_put_right() {
    let mut watch = Watch::new(true, 0);
    watch.judge(&at(100, 0)).unwrap();
    let ahead = CLOCK_FORWARD_NS_MAX + 1;
    for second in 101..20_000 {
        let refused = watch.judge(&at(second, ahead.cast_signed())).unwrap_err();
        assert_eq!(refused, ClockError::SetForward { forward_ns: ahead }, "time alone does not make it right");
    }
    assert_eq!(watch.highest_unix_ns(), at(100, 0).unix_ns, "a time that is not trusted is not kept");
    watch.judge(&at(20_000, 0)).unwrap();
}

#[test]
fn small_steps_forward_are_summed_over_an_hour() {
    let mut watch = Watch::new(true, 0);
    let step = SECOND.cast_signed() / 2;
    let refused = (0_i64..100).find(|n| watch.judge(&at(100 + 10 * (*n).cast_unsigned(), step * n)).is_err());
    assert_eq!(refused, Some(5), "four half seconds are the bound");
    let mut watch = Watch::new(true, 0);
    for n in 0_i64..100 {
        watch.judge(&at(100 + 3_600 * n.cast_unsigned(), step * n)).unwrap();
    }
}

#[test]
fn an_inexact_clock_is_refused_only_where_it_is_required() {
    let reading = |error_ns| Reading { error_ns, ..at(1, 0) };
    Watch::new(true, 0).judge(&reading(CLOCK_ERROR_NS_MAX)).unwrap();
    let error_ns = CLOCK_ERROR_NS_MAX + 1;
    assert_eq!(Watch::new(true, 0).judge(&reading(error_ns)), Err(ClockError::Inexact { error_ns }));
    Watch::new(false, 0).judge(&reading(error_ns)).unwrap();
}

#[test]
fn every_doubt_has_a_name_of_the_list() {
    let doubts = [
        ClockError::SetBack { back_ns: 1 },
        ClockError::BeforeKept { back_ns: 1 },
        ClockError::SetForward { forward_ns: 1 },
        ClockError::Inexact { error_ns: 1 },
        ClockError::Unsynchronised,
    ];
    let mut names: Vec<_> = doubts.iter().map(ClockError::name).collect();
    names.push(UNREADABLE);
    assert_eq!(names, DOUBTS);
}

proptest::proptest! {
    #[test]
    fn what_is_accepted_never_goes_back(steps in proptest::collection::vec((1_u64..3_000, -5_000_000_000_i64..5_000_000_000), 1..60)) {
        let mut watch = Watch::new(false, 0);
        let (mut boot_ms, mut offset, mut last) = (1_000_000_u64, 0_i64, 0);
        for (elapsed_ms, step) in steps {
            boot_ms += elapsed_ms;
            offset += if step.unsigned_abs() < 2_500_000_000 { 0 } else { step };
            let boot_ns = boot_ms * 1_000_000;
            let reading = Reading { unix_ns: (START + boot_ns).saturating_add_signed(offset), boot_ns, synchronised: true, error_ns: 0 };
            if let Ok(now) = watch.judge(&reading) {
                proptest::prop_assert!(now.unix_ns > last);
                last = now.unix_ns;
            }
            proptest::prop_assert!(watch.highest_unix_ns() >= last);
        }
    }
}
