//! Reading documents: `export`, `get`, `list`, `count`.

use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::{EXPORTED, NOT_FOUND, Place, USAGE, command};

#[test]
fn export_prints_what_was_imported_to_the_byte() {
    let place = Place::with_documents();
    assert_eq!(place.output(&["export"]), EXPORTED);
}

#[test]
fn an_export_imported_elsewhere_exports_the_same() {
    let place = Place::new();
    let sample = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../opslog/examples/packages.jsonl"
    );
    place
        .run(&["import", "--id", "package", sample])
        .assert()
        .success();
    let exported = place.output(&["export"]);
    let other = Place::new();
    other
        .run(&["import", "-"])
        .write_stdin(exported.clone())
        .assert()
        .success();
    assert_eq!(other.output(&["export"]), exported);
    assert_eq!(exported.lines().count(), 316);
}

#[test]
fn get_prints_the_bare_document() {
    let place = Place::with_documents();
    assert_eq!(
        place.output(&["get", "a"]),
        "{\"n\":1,\"tags\":[\"x\",\"y\"],\"price\":1.50}\n"
    );
}

#[test]
fn get_of_a_missing_document_is_not_found() {
    let place = Place::with_documents();
    place
        .run(&["get", "nope"])
        .assert()
        .code(NOT_FOUND)
        .stdout("")
        .stderr("error: record 'nope' not found\n");
}

#[test]
fn list_stops_at_its_limit() {
    let place = Place::with_documents();
    assert_eq!(place.output(&["list", "-n", "2"]).lines().count(), 2);
    assert_eq!(place.output(&["list", "-n", "0"]), EXPORTED);
    assert_eq!(place.output(&["list"]), EXPORTED);
}

#[test]
fn count_prints_a_bare_number() {
    let place = Place::with_documents();
    assert_eq!(place.output(&["count"]), "3\n");
}

#[test]
fn reading_never_creates_a_store() {
    let place = Place::new();
    for verb in [
        &["export"][..],
        &["list"],
        &["count"],
        &["stats"],
        &["verify"],
        &["log"],
        &["segments"],
        &["undo"],
        &["compact"],
        &["delete", "a"],
        &["archive", "--all"],
    ] {
        place
            .run(verb)
            .assert()
            .code(NOT_FOUND)
            .stderr(contains("error: there is no store"));
        assert!(!place.store().exists(), "{verb:?} made something");
    }
}

#[test]
fn the_directory_may_come_from_the_environment() {
    let place = Place::with_documents();
    command()
        .arg("count")
        .env("OPSLOG_DIR", place.store())
        .assert()
        .success()
        .stdout("3\n");
}

#[test]
fn without_a_directory_the_error_says_how_to_name_one() {
    command()
        .arg("count")
        .assert()
        .code(USAGE)
        .stderr(contains("--data DIR").and(contains("OPSLOG_DIR")));
}

#[test]
fn stats_are_one_object() {
    let place = Place::with_documents();
    let stats: serde_json::Value = serde_json::from_str(&place.output(&["stats"])).unwrap();
    for time in ["created", "lastCheckpoint"] {
        let time = stats[time].as_str().unwrap();
        assert_eq!(time.len(), "2026-01-31T12:00:00.000Z".len(), "{time}");
    }
    assert_eq!(stats["documents"], 3);
    assert_eq!(stats["damage"], 0);
    assert!(stats["bytes"]["total"].as_u64() > Some(100));
}

#[test]
fn completions_need_no_store() {
    command()
        .args(["completions", "bash"])
        .assert()
        .success()
        .stdout(contains("_opslog"));
}

#[test]
fn help_has_the_exit_statuses() {
    command()
        .arg("--help")
        .assert()
        .success()
        .stdout(contains("4  locked").and(contains("Examples:")));
}
