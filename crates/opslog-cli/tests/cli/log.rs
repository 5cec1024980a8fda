//! `log` and `history`.

use predicates::str::contains;
use serde_json::Value;

use crate::{NOT_FOUND, Place, USAGE};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn history_has_each_operation_with_what_was_before() {
    let place = Place::with_documents();
    place.output(&["set", "a", "{\"n\":1.50}"]);
    place.output(&["delete", "a"]);
    let text = place.output(&["history", "a"]);
    assert!(text.contains("\"data\":{\"n\":1.50}"));
    let operations = lines(&text);
    assert_eq!(operations.len(), 3);
    assert_eq!(operations[0]["prev"], Value::Null);
    assert_eq!(operations[1]["prev"]["price"], 1.5);
    assert_eq!(operations[2]["op"], "delete");
    place.run(&["history", "nope"]).assert().code(NOT_FOUND);
}

#[test]
fn log_goes_on_behind_a_cursor_and_after_a_time() {
    let place = Place::with_documents();
    place.output(&["set", "c", "{}"]);
    let all = lines(&place.output(&["log"]));
    assert_eq!(all.len(), 4);
    let cursor = all[2]["cursor"].as_str().unwrap();
    let rest = lines(&place.output(&["log", "--since", cursor]));
    assert_eq!(rest, all[3..]);
    assert_eq!(lines(&place.output(&["log", "-n", "2"])), all[2..]);
    assert_eq!(place.output(&["log", "--since", "2999-01-01"]), "");
    assert_eq!(lines(&place.output(&["log", "--since", "1h"])), all);
    let time = all[3]["ts"].as_str().unwrap();
    assert_eq!(place.output(&["log", "--since", time]), "");
}

#[test]
fn a_since_that_means_nothing_is_refused() {
    let place = Place::with_documents();
    place
        .run(&["log", "--since", "whenever"])
        .assert()
        .code(USAGE)
        .stderr(contains("neither a time nor a cursor"));
}

#[test]
fn a_cursor_of_another_store_is_a_conflict() {
    let place = Place::with_documents();
    place
        .run(&["log", "--since", "0-00000000"])
        .assert()
        .code(8);
}
