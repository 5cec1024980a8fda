//! `query`, `--where`, and the jq expressions.

use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::{EXPORTED, INVALID_INPUT, Place, USAGE};

fn line(number: usize) -> String {
    EXPORTED.lines().nth(number).unwrap().to_owned() + "\n"
}

#[test]
fn query_prints_the_documents_that_the_expression_picks() {
    let place = Place::with_documents();
    assert_eq!(place.output(&["query", ".n == 2"]), line(1));
    assert_eq!(place.output(&["query", "$id == \"a\""]), line(0));
    assert_eq!(place.output(&["query", ".tags"]), line(0));
    assert_eq!(place.output(&["query", "empty"]), "");
    assert_eq!(place.output(&["query", ".n > 1", "-n", "1"]), line(1));
}

#[test]
fn conditions_compare_strings_numbers_lists_and_nested_fields() {
    let place = Place::with_documents();
    for (condition, expected) in [
        ("n=1", line(0)),
        ("n=1.0", line(0)),
        ("tags=y", line(0)),
        ("size.width=3", line(1)),
        ("n=123456789012345678901234567890", line(2)),
        ("n=123456789012345678901234567891", String::new()),
        ("nowhere=1", String::new()),
    ] {
        assert_eq!(
            place.output(&["query", "--where", condition]),
            expected,
            "{condition}"
        );
        assert_eq!(
            place.output(&["list", "--where", condition]),
            expected,
            "{condition}"
        );
        assert_eq!(
            place.output(&["export", "--where", condition]),
            expected,
            "{condition}"
        );
    }
}

#[test]
fn conditions_and_the_expression_must_all_hold() {
    let place = Place::with_documents();
    assert_eq!(place.output(&["count", "-w", "n=1", "-w", "tags=x"]), "1\n");
    assert_eq!(place.output(&["count", "-w", "n=1", "-w", "tags=z"]), "0\n");
    assert_eq!(place.output(&["count", "-w", "n=1", ".price < 2"]), "1\n");
    assert_eq!(place.output(&["count", "-w", "n=1", ".price > 2"]), "0\n");
}

#[test]
fn map_prints_what_the_expression_yields() {
    let place = Place::with_documents();
    assert_eq!(
        place.output(&["query", "--map", ".price, .tags[]?"]),
        "1.50\n\"x\"\n\"y\"\nnull\nnull\n"
    );
    assert_eq!(place.output(&["query", "-mr", "$id", "-w", "n=2"]), "b\n");
    assert_eq!(place.output(&["query", "-m", ".n", "-n", "2"]), "1\n2\n");
}

#[test]
fn a_wrong_expression_is_located() {
    let place = Place::with_documents();
    place
        .run(&["query", ".n | nope(1)"])
        .assert()
        .code(INVALID_INPUT)
        .stdout("")
        .stderr(contains("at character 6").and(contains("no filter 'nope'")));
}

#[test]
fn an_expression_that_fails_names_the_document() {
    let place = Place::with_documents();
    place
        .run(&["query", ".n.deeper"])
        .assert()
        .code(INVALID_INPUT)
        .stderr(contains("document 'a'").and(contains("cannot index")));
    assert_eq!(place.output(&["query", "(.n.deeper)?"]), "");
}

#[test]
fn what_is_not_json_is_not_printed() {
    let place = Place::with_documents();
    place
        .run(&["query", "-m", "nan"])
        .assert()
        .code(INVALID_INPUT)
        .stderr(contains("not JSON"));
}

#[test]
fn a_condition_needs_an_equals_sign() {
    let place = Place::with_documents();
    place
        .run(&["count", "--where", "n"])
        .assert()
        .code(USAGE)
        .stderr(contains("FIELD=VALUE"));
}

#[test]
fn half_a_character_in_one_document_does_not_stop_a_query() {
    let place = Place::with_documents();
    let store = place.open();
    store.set_json("half", r#"{"a":"\ud800","n":4}"#).unwrap();
    store.close().unwrap();
    assert_eq!(
        place.output(&["query", ".n > 1 and .n < 5"]),
        line(1) + "{\"id\":\"half\",\"data\":{\"a\":\"\\ud800\",\"n\":4}}\n"
    );
}
