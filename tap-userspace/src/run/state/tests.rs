//! What the state keeps and refuses.

use super::*;
use crate::run::generations::{Generation, SetNumbers};

const SET: [u8; 32] = [1; 32];
const OTHER: [u8; 32] = [2; 32];

#[test]
fn the_highest_activation_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = State::open(directory.path()).unwrap();
    state.admit_start("m-1", 5, &SET).unwrap();
    state.keep_activation("m-1", 5, &SET).unwrap();

    let state = State::open(directory.path()).unwrap();
    let lower = state.admit_start("m-1", 4, &SET).unwrap_err().to_string();
    assert!(lower.contains("number 4 is below 5") && lower.contains("number 6"), "{lower}");
    let reused = state.admit_start("m-1", 5, &OTHER).unwrap_err();
    assert!(matches!(reused, StateError::Reused { next: 6, .. }), "{reused}");
    state.admit_start("m-1", 5, &SET).unwrap();
    state.admit_start("m-1", 6, &OTHER).unwrap();
    state.admit_start("m-2", 1, &OTHER).unwrap();
}

#[test]
fn at_run_time_only_the_next_number_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = State::open(directory.path()).unwrap();
    state.keep_activation("m-1", 5, &SET).unwrap();
    for number in [0, 4, 5, 7, u64::MAX] {
        assert!(matches!(state.admit_next("m-1", number), Err(StateError::NotNext { next: 6, .. })));
    }
    state.admit_next("m-1", 6).unwrap();
}

#[test]
fn wall_time_only_grows() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = State::open(directory.path()).unwrap();
    assert_eq!(state.last_unix_ns(), 0);
    state.keep_time(500).unwrap();
    state.keep_time(400).unwrap();
    assert_eq!(State::open(directory.path()).unwrap().last_unix_ns(), 500);
}

#[test]
fn the_highest_head_of_a_log_is_kept_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = State::open(directory.path()).unwrap();
    assert_eq!(state.log_head("host.log").unwrap().0, 0);
    state.keep_log("host.log", 7, &[7; 32]).unwrap();
    state.keep_log("host.log", 6, &[6; 32]).unwrap();
    let state = State::open(directory.path()).unwrap();
    assert_eq!(state.log_head("host.log").unwrap(), (7, [7; 32]));
    assert_eq!(state.log_head("other.log").unwrap().0, 0);
}

#[test]
fn a_damaged_state_is_refused_and_told() {
    let directory = tempfile::tempdir().unwrap();
    for text in ["", "{", "{\"version\":9,\"last_unix_ns\":0,\"activations\":{}}"] {
        std::fs::write(directory.path().join(FILE_NAME), text).unwrap();
        let message = State::open(directory.path()).unwrap_err().to_string();
        assert!(message.contains("state.json") && message.contains("restore it from a backup"), "{message}");
    }
}

#[test]
fn what_an_interrupted_write_leaves_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = State::open(directory.path()).unwrap();
    state.keep_time(7).unwrap();
    std::fs::write(directory.path().join("state.json.new"), "{\"vers").unwrap();
    let mut state = State::open(directory.path()).unwrap();
    assert_eq!(state.last_unix_ns(), 7);
    state.keep_time(8).unwrap();
    assert_eq!(State::open(directory.path()).unwrap().last_unix_ns(), 8);
}

#[test]
fn slots_belong_to_their_measures_as_long_as_the_maps_live() {
    let directory = tempfile::tempdir().unwrap();
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let mut state = State::open(directory.path()).unwrap();
    state.take_slots(&[1; 16], &ids(&["m-1", "m-2"])).unwrap();

    let mut state = State::open(directory.path()).unwrap();
    state.take_slots(&[1; 16], &ids(&["m-1", "m-2"])).unwrap();
    for other in [&["m-2", "m-1"][..], &["m-1"], &["m-1", "m-2", "m-3"]] {
        let refused = state.take_slots(&[1; 16], &ids(other)).unwrap_err().to_string();
        assert!(refused.contains("m-1, m-2") && refused.contains(&other.join(", ")), "{refused}");
    }
    state.take_slots(&[2; 16], &ids(&["m-2", "m-1"])).unwrap();
}

#[test]
fn generations_outlive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = State::open(directory.path()).unwrap();
    let mut generations = Generations::default();
    generations.push(Generation { number: 7, sets: vec![SetNumbers { activation: 3, rules: 2 }] });
    state.keep_generations(&generations).unwrap();
    state.keep_activation("m-1", 3, &SET).unwrap();
    assert_eq!(State::open(directory.path()).unwrap().generations(), &generations);
}

#[test]
fn an_order_that_a_later_one_replaced_is_refused_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second, third] = [[1; 32], [2; 32], [3; 32]];
    let mut state = State::open(directory.path()).unwrap();
    state.admit_orders("m-1", None, &[first]).unwrap();
    state.keep_orders("m-1", &[first]).unwrap();
    state.admit_orders("m-1", Some(first), &[second]).unwrap();
    state.keep_orders("m-1", &[second]).unwrap();

    let mut state = State::open(directory.path()).unwrap();
    let replayed = state.admit_orders("m-1", None, &[first]).unwrap_err();
    assert!(matches!(replayed, StateError::OlderOrder { .. }), "{replayed}");
    state.admit_orders("m-1", None, &[second]).unwrap();
    state.admit_orders("m-1", None, &[first, second]).unwrap();
    state.admit_orders("m-1", Some(second), &[third]).unwrap();
    state.admit_orders("m-1", None, &[third]).unwrap();
    state.admit_orders("m-2", None, &[first]).unwrap();
    state.keep_orders("m-1", &[first, second, third]).unwrap();
    state.admit_orders("m-1", None, &[first, second]).unwrap_err();
}

#[test]
fn what_narrows_counts_although_the_disk_does_not_take_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = State::open(directory.path()).unwrap();
    state.keep_time(1).unwrap();
    let stopped = Restriction { number: 4, stopped: Some("why".into()), ..Restriction::default() };
    state.narrow("m-1", &stopped).unwrap();
    assert_eq!(State::open(directory.path()).unwrap().restriction("m-1"), stopped);

    // A directory in the way of the file that is written beside: as a full disk would be.
    std::fs::create_dir(directory.path().join("state.json.new")).unwrap();
    let killed = Restriction { number: 5, ..stopped.clone() };
    state.narrow("m-1", &killed).unwrap_err();
    assert_eq!(state.restriction("m-1"), killed, "in memory it counts");
    state.widen("m-1", &Restriction::default()).unwrap_err();
    assert_eq!(state.restriction("m-1"), killed, "what widens is on disk or is not");
    std::fs::remove_dir(directory.path().join("state.json.new")).unwrap();
    state.keep_time(2).unwrap();
    assert_eq!(State::open(directory.path()).unwrap().restriction("m-1"), killed, "written with what comes next");
}
