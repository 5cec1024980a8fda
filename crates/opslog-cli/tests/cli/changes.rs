//! Changing documents one by one: `set`, `delete`, `undo`, `archive`, `compact`.

use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::{EXPORTED, INVALID_INPUT, NOT_FOUND, Place, USAGE};

#[test]
fn set_creates_a_store_and_says_what_it_did() {
    let place = Place::new();
    assert_eq!(
        place.output(&["set", "a", "{ \"n\": 1.50 }"]),
        "{\"id\":\"a\",\"outcome\":\"created\"}\n"
    );
    assert_eq!(
        place.output(&["set", "a", "{\"n\":2e5}"]),
        "{\"id\":\"a\",\"outcome\":\"updated\"}\n"
    );
    assert_eq!(place.output(&["get", "a"]), "{\"n\":2e5}\n");
}

#[test]
fn set_reads_the_standard_input() {
    let place = Place::new();
    place
        .run(&["set", "a", "-"])
        .write_stdin("{\n  \"n\": 1\n}\n")
        .assert()
        .success();
    assert_eq!(place.output(&["get", "a"]), "{\"n\":1}\n");
}

#[test]
fn fields_are_changed_and_the_others_keep_their_text() {
    let place = Place::with_documents();
    place.output(&[
        "set",
        "a",
        "-f",
        "n=true",
        "-f",
        "note=two words",
        "-f",
        "size.width=1.0",
    ]);
    assert_eq!(
        place.output(&["get", "a"]),
        "{\"n\":true,\"tags\":[\"x\",\"y\"],\"price\":1.50,\"note\":\"two words\",\"size\":{\"width\":1.0}}\n"
    );
    place.output(&["set", "new", "-f", "n=1"]);
    assert_eq!(place.output(&["get", "new"]), "{\"n\":1}\n");
}

#[test]
fn what_is_no_document_is_refused_before_a_store_is_made() {
    let place = Place::new();
    for text in ["[1]", "3", "{\"cut", ""] {
        place.run(&["set", "a", text]).assert().code(INVALID_INPUT);
    }
    place
        .run(&["set", "a", "-f", "nothing"])
        .assert()
        .code(USAGE);
    place.run(&["set", "a"]).assert().code(USAGE);
    assert!(!place.store().exists());
}

#[test]
fn what_no_program_could_read_is_refused() {
    let place = Place::new();
    for text in [r#"{"a":"\ud800"}"#, r#"{"a":[1e400]}"#, r#"{"\udc00":1}"#] {
        place
            .run(&["set", "a", text])
            .assert()
            .code(INVALID_INPUT)
            .stderr(contains("document 'a' has half a character, or a number"));
    }
    assert!(!place.store().exists());
    place.output(&[
        "set",
        "a",
        r#"{"n":1e-400,"m":123456789012345678901234567890}"#,
    ]);
    place
        .run(&["set", "a", "--field", "n=1e400"])
        .assert()
        .code(INVALID_INPUT);
    assert_eq!(
        place.output(&["get", "a"]),
        "{\"n\":1e-400,\"m\":123456789012345678901234567890}\n"
    );
    let store = place.open();
    assert_eq!(store.filter(|_, _| true).unwrap().len(), 1);
}

#[test]
fn an_empty_id_is_refused() {
    let place = Place::new();
    place.run(&["set", "", "{}"]).assert().code(INVALID_INPUT);
    assert!(!place.store().exists());
}

#[test]
fn delete_is_all_or_nothing() {
    let place = Place::with_documents();
    place
        .run(&["delete", "a", "nope"])
        .assert()
        .code(NOT_FOUND)
        .stderr(contains("record 'nope' not found"));
    assert_eq!(place.output(&["export"]), EXPORTED);
    assert_eq!(
        place.output(&["delete", "--ignore-missing", "a", "nope", "b", "a"]),
        "{\"deleted\":2}\n"
    );
    assert_eq!(place.output(&["count"]), "1\n");
    assert_eq!(place.output(&["undo"]), "{\"undone\":1}\n");
    assert_eq!(place.output(&["count"]), "3\n");
}

#[test]
fn undo_says_when_there_is_nothing_left() {
    let place = Place::with_documents();
    place
        .run(&["undo", "-n", "5"])
        .assert()
        .success()
        .stdout("{\"undone\":1}\n")
        .stderr(contains("nothing more"));
    place
        .run(&["undo"])
        .assert()
        .code(NOT_FOUND)
        .stdout("{\"undone\":0}\n")
        .stderr("error: there is nothing to undo\n");
}

#[test]
fn archived_documents_leave_the_active_set_and_can_be_shown() {
    let place = Place::with_documents();
    assert_eq!(
        place.output(&["archive", ".n < 3", "--segment", "old"]),
        "{\"archived\":2}\n"
    );
    assert_eq!(place.output(&["count"]), "1\n");
    assert_eq!(
        place.output(&["segments"]),
        "{\"segment\":\"old\",\"documents\":2}\n"
    );
    let documents = place.output(&["segments", "old"]);
    assert_eq!(
        documents,
        EXPORTED.lines().take(2).collect::<Vec<_>>().join("\n") + "\n"
    );
    assert_eq!(
        place.output(&["archive", "--all", "-s", "old"]),
        "{\"archived\":1}\n"
    );
    assert_eq!(place.output(&["segments", "old"]), EXPORTED);
    place.run(&["segments", "new"]).assert().code(NOT_FOUND);
}

#[test]
fn an_archive_says_that_it_ends_undo_and_how_documents_come_back() {
    let place = Place::with_documents();
    place
        .run(&["--table", "archive", ".n < 3", "-s", "old"])
        .assert()
        .success()
        .stderr(contains("undo does not go behind an archive").and(contains("opslog import -")));
    place.run(&["undo"]).assert().code(NOT_FOUND);
    assert_eq!(place.output(&["log"]).lines().count(), 3);
    let documents = place.output(&["segments", "old", "--json"]);
    place
        .run(&["import", "-"])
        .write_stdin(documents)
        .assert()
        .success();
    assert_eq!(place.output(&["count"]), "3\n");
}

#[test]
fn archive_wants_to_be_told_what() {
    let place = Place::with_documents();
    place
        .run(&["archive"])
        .assert()
        .code(USAGE)
        .stderr(contains("--all"));
    place
        .run(&["archive", "--all", "-w", "n=1"])
        .assert()
        .code(USAGE);
    place
        .run(&["archive", "--all", "-s", "../x"])
        .assert()
        .code(INVALID_INPUT);
}

#[test]
fn an_expression_that_fails_archives_nothing() {
    let place = Place::with_documents();
    place
        .run(&["archive", ".size.width > 1 or .n.x"])
        .assert()
        .code(INVALID_INPUT);
    assert_eq!(place.output(&["export"]), EXPORTED);
    assert_eq!(place.output(&["segments"]), "");
}

#[test]
fn compact_writes_a_snapshot() {
    let place = Place::with_documents();
    let facts: serde_json::Value = serde_json::from_str(&place.output(&["compact"])).unwrap();
    assert_eq!(facts["documents"], 3);
    assert_eq!(place.output(&["export"]), EXPORTED);
}
