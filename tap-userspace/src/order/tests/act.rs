//! The Act's rules for an order, written a second time and naively, and the order check held against them: bases ×
//! directions × windows × signatures × conditions. The model below shares no code with what it judges.

use super::*;
use proptest::prelude::*;
use tap_common::path::direction::Direction;

/// A moment in Japan: year, month, day, hour, nanosecond of the hour.
type Moment = (i32, u32, u32, u32, u64);

/// An order as the model sees it.
#[derive(Clone, Debug)]
struct Case {
    /// Article: 13 (agreement), 17, 32, 33.
    article: u32,
    begins: Moment,
    ends: Moment,
    share_ppm: u32,
    tap_ppm: u32,
    sampling_ppm: u32,
    clear: bool,
    /// Who signed: government, Commission, party, carrier.
    signed: [bool; 4],
    condition: Condition,
}

#[derive(Clone, Copy, Debug)]
enum Condition {
    None,
    Unknown,
    ShareAtMost(u32),
    SamplingAtMost(u32),
    EndsBy(Moment),
    NoClearAddress,
    ConditionsAtLeast(u32),
    PrefixExcluded,
    OtherPrefixExcluded,
    FieldExcluded,
    RetentionAtMost(u32),
    RulesAtMost(u32),
}

mod model {
    //! Nothing in here but the text of the law and arithmetic.

    use super::{Case, Condition, Moment};

    fn days_in(year: i32, month: u32) -> u32 {
        match month {
            4 | 6 | 9 | 11 => 30,
            2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
            2 => 28,
            _ => 31,
        }
    }

    /// The same clock time so many calendar months later; a day that the month has not is its last.
    pub(super) fn months_after((year, month, day, hour, ns): Moment, months: u32) -> Moment {
        let count = month - 1 + months;
        let (year, month) = (year + (count / 12) as i32, count % 12 + 1);
        (year, month, day.min(days_in(year, month)), hour, ns)
    }

    pub(super) fn longest(article: u32) -> Option<u32> {
        match article {
            17 => Some(6),
            32 | 33 => Some(3),
            _ => None,
        }
    }

    pub(super) fn lawful(case: &Case) -> bool {
        let [government, commission, party, carrier] = case.signed;
        let signatures = match case.article {
            13 => government && party && carrier,
            _ => government && commission,
        };
        let long = longest(case.article).is_some_and(|months| case.ends > months_after(case.begins, months));
        let window = case.begins < case.ends && !long;
        let share = case.share_ppm >= 1
            && case.share_ppm <= if case.article == 17 { 300_000 } else { 1_000_000 }
            && case.tap_ppm >= 1
            && case.tap_ppm <= case.share_ppm;
        let condition = match case.condition {
            Condition::None => true,
            // The Commission does not approve agreements: there are no conditions of an approval.
            _ if case.article == 13 => false,
            Condition::Unknown => false,
            Condition::ShareAtMost(most) => case.share_ppm <= most,
            Condition::SamplingAtMost(most) => case.sampling_ppm <= most,
            Condition::EndsBy(end) => case.ends <= end,
            Condition::NoClearAddress => !case.clear,
            Condition::ConditionsAtLeast(least) => (1..=7).contains(&least),
            // The approved list of 32 and 33 names an address in it.
            Condition::PrefixExcluded => case.article == 17,
            Condition::OtherPrefixExcluded | Condition::FieldExcluded => true,
            Condition::RetentionAtMost(most) | Condition::RulesAtMost(most) => most > 0,
        };
        signatures && window && share && condition
    }

    /// Whether packets from `foreign_source` to `foreign_destination` may be selected.
    pub(super) fn may_select(article: u32, foreign_source: bool, foreign_destination: bool) -> bool {
        match article {
            13 | 32 => foreign_source && !foreign_destination,
            17 => foreign_source && foreign_destination,
            33 => !foreign_source && foreign_destination,
            _ => false,
        }
    }

    pub(super) fn counted_conditions(article: u32) -> u8 {
        if article == 32 || article == 33 { 1 } else { 2 }
    }
}

fn written((year, month, day, hour, ns): Moment) -> String {
    let (second, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{:02}:{:02}.{ns:09}+09:00", second / 60, second % 60)
}

fn name(article: u32) -> &'static str {
    match article {
        13 => "agreement",
        17 => "foreign-to-foreign",
        32 => "foreign-to-domestic",
        _ => "domestic-to-foreign",
    }
}

/// The case as the text that people would sign.
fn order_text(case: &Case) -> String {
    let basis: Basis = name(case.article).parse().unwrap();
    let condition = match case.condition {
        Condition::None => String::new(),
        Condition::Unknown => "at_night_only = true".into(),
        Condition::ShareAtMost(most) => format!("share_at_most = {most}"),
        Condition::SamplingAtMost(most) => format!("sampling_at_most = {most}"),
        Condition::EndsBy(end) => format!("ends_by = \"{}\"", written(end)),
        Condition::NoClearAddress => "no_clear_address = true".into(),
        Condition::ConditionsAtLeast(least) => format!("conditions_at_least = {least}"),
        Condition::PrefixExcluded => "prefixes_excluded = [\"1.0.0.128/25\"]".into(),
        Condition::OtherPrefixExcluded => "prefixes_excluded = [\"9.9.9.0/24\"]".into(),
        Condition::FieldExcluded => "fields_excluded = [\"ip-length\"]".into(),
        Condition::RetentionAtMost(most) => format!("retention_at_most = {most}"),
        Condition::RulesAtMost(most) => format!("rules_at_most = {most}"),
    };
    let text = text(basis)
        .replace("2026-11-01T00:00:00+09:00", &written(case.begins))
        .replace("2027-02-01T00:00:00+09:00", &written(case.ends))
        // The tap first: its figure stands alone behind the port.
        .replace("\"eth1\"\nshare_ppm = 200000", &format!("\"eth1\"\nshare_ppm = {}", case.tap_ppm))
        .replacen("share_ppm = 300000", &format!("share_ppm = {}", case.share_ppm), 1)
        .replace("sampling_ppm = 1000000", &format!("sampling_ppm = {}", case.sampling_ppm))
        .replace("clear_addresses = true", &format!("clear_addresses = {}", case.clear));
    if condition.is_empty() {
        return text;
    }
    let table = format!("[approval.conditions]\n{condition}\n");
    if case.article == 13 {
        text.replace("[facility]\n", &format!("[approval]\nid = \"c-1\"\n{table}[facility]\n"))
    } else {
        text.replace("[approval.conditions]\n", &table)
    }
}

const ORDER_ROLES: [Role; 4] = [Role::Government, Role::Commission, Role::Party, Role::Carrier];

fn note(case: &Case, keys: &[(Role, SecretKey)]) -> String {
    let roles: Vec<_> =
        ORDER_ROLES.into_iter().zip(case.signed).filter(|(_, signed)| *signed).map(|(role, _)| role).collect();
    signed(&order_text(case), keys, &roles)
}

fn windows(article: u32) -> Vec<(Moment, Moment)> {
    let begins = [(2027, 8, 31, 0, 0), (2026, 11, 30, 23, 1), (2028, 2, 29, 9, 0)];
    let months = model::longest(article).unwrap_or(60);
    begins
        .into_iter()
        .flat_map(|begin| {
            let last = model::months_after(begin, months);
            let over = (last.0, last.1, last.2, last.3, last.4 + 1);
            [(begin, last), (begin, over), (begin, begin), (begin, model::months_after(begin, 1))]
        })
        .collect()
}

fn conditions(end: Moment) -> Vec<Condition> {
    let before = (end.0 - 1, end.1, 1, end.3, end.4);
    vec![
        Condition::None,
        Condition::Unknown,
        Condition::ShareAtMost(300_000),
        Condition::ShareAtMost(299_999),
        Condition::SamplingAtMost(500_000),
        Condition::SamplingAtMost(499_999),
        Condition::EndsBy(end),
        Condition::EndsBy(before),
        Condition::NoClearAddress,
        Condition::ConditionsAtLeast(0),
        Condition::ConditionsAtLeast(3),
        Condition::ConditionsAtLeast(8),
        Condition::PrefixExcluded,
        Condition::OtherPrefixExcluded,
        Condition::FieldExcluded,
        Condition::RetentionAtMost(0),
        Condition::RetentionAtMost(30),
        Condition::RulesAtMost(0),
        Condition::RulesAtMost(1),
    ]
}

fn plain(article: u32) -> Case {
    Case {
        article,
        begins: (2026, 11, 1, 0, 0),
        ends: (2027, 2, 1, 0, 0),
        share_ppm: 300_000,
        tap_ppm: 200_000,
        sampling_ppm: 500_000,
        clear: true,
        signed: [true; 4],
        condition: Condition::None,
    }
}

/// The order check says what the model says; what it admits selects in the model's directions and time only.
fn agrees(case: &Case, keys: &[(Role, SecretKey)], roots: &TrustRoots) -> bool {
    let judged = verify(&note(case, keys), roots);
    let lawful = model::lawful(case);
    assert_eq!(judged.is_ok(), lawful, "{case:?}: {:?}", judged.err().map(|error| error.to_string()));
    let Ok(order) = judged else { return false };
    assert_eq!(order.measure.basis.conditions_min(), model::counted_conditions(case.article));
    for (direction, source, destination) in [
        (Direction::ForeignToForeign, true, true),
        (Direction::ForeignToDomestic, true, false),
        (Direction::DomesticToForeign, false, true),
        (Direction::DomesticToDomestic, false, false),
    ] {
        let selects = order.measure.basis.directions() & 1 << (direction as u32) != 0;
        assert_eq!(selects, model::may_select(case.article, source, destination), "{case:?}");
    }
    for now in [case.begins, case.ends, (1970, 1, 1, 12, 0), (2099, 1, 1, 0, 0)] {
        let live = order.is_live(moment(&written(now))).is_ok();
        assert_eq!(live, case.begins <= now && now < case.ends, "{case:?} at {now:?}");
    }
    true
}

#[test]
fn bases_directions_windows_signatures_and_conditions_are_as_the_act_has_them() {
    let (keys, roots) = keys();
    let (mut lawful, mut unlawful) = (0, 0);
    let mut judge = |case: &Case| if agrees(case, &keys, &roots) { lawful += 1 } else { unlawful += 1 };
    for article in [13, 17, 32, 33] {
        for (begins, ends) in windows(article) {
            for condition in conditions(ends) {
                for signed in [[true; 4], [true, true, false, false], [true, false, true, true]] {
                    judge(&Case { begins, ends, condition, signed, ..plain(article) });
                }
            }
        }
        for bits in 0..16 {
            let signed = [0, 1, 2, 3].map(|bit| bits >> bit & 1 == 1);
            for (share_ppm, tap_ppm) in
                [(300_000, 300_000), (300_001, 300_001), (200_000, 200_001), (0, 1), (1_000_001, 1)]
            {
                judge(&Case { signed, share_ppm, tap_ppm, ..plain(article) });
            }
        }
    }
    assert!(lawful > 200 && unlawful > 500, "both sides are reached: {lawful}, {unlawful}");
}

fn any_moment() -> impl Strategy<Value = Moment> {
    (2026_i32..2032, 1_u32..=12, 1_u32..=28, 0_u32..24, prop_oneof![Just(0_u64), Just(1), 0..3_600_000_000_000_u64])
}

fn any_condition(end: Moment) -> impl Strategy<Value = Condition> {
    prop_oneof![
        (0_u32..500_000).prop_map(Condition::ShareAtMost),
        (0_u32..1_000_000).prop_map(Condition::SamplingAtMost),
        any_moment().prop_map(Condition::EndsBy),
        (0_u32..10).prop_map(Condition::ConditionsAtLeast),
        prop::sample::select(conditions(end)),
    ]
}

fn any_case() -> impl Strategy<Value = Case> {
    let numbers = (1_u32..600_000, 1_u32..600_000, 1_u32..1_000_000);
    (
        prop::sample::select(vec![13_u32, 17, 32, 33]),
        any_moment(),
        0_u32..9,
        0_u64..2,
        numbers,
        any::<[bool; 4]>(),
        any::<bool>(),
    )
        .prop_flat_map(|(article, begins, months, more, (share_ppm, tap_ppm, sampling_ppm), signed, clear)| {
            let end = model::months_after(begins, months);
            let ends = (end.0, end.1, end.2, end.3, (end.4 + more).min(3_599_999_999_999));
            // Mostly signed by all, so that the rest decides.
            let signed = if share_ppm % 4 == 0 { signed } else { [true; 4] };
            any_condition(ends).prop_map(move |condition| Case {
                article,
                begins,
                ends,
                share_ppm,
                tap_ppm,
                sampling_ppm,
                clear,
                signed,
                condition,
            })
        })
}

proptest! {
    #[test]
    fn any_order_is_judged_as_the_naive_model_does(case in any_case()) {
        thread_local!(static KEYS: (Vec<(Role, SecretKey)>, TrustRoots) = keys());
        KEYS.with(|(keys, roots)| agrees(&case, keys, roots));
    }
}
