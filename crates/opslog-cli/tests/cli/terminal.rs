//! What people see: tables, sentences, colour. `--table` asks for it where there is no terminal.

use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::{EXPORTED, Place};

#[test]
fn a_table_has_the_columns_that_were_asked_for() {
    let place = Place::with_documents();
    let table = place.output(&["--table", "list", "-n", "2", "--columns", "n,size.width"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows,
        [
            vec!["id", "n", "size.width"],
            vec!["a", "1"],
            vec!["b", "2", "3"]
        ]
    );
}

#[test]
fn a_table_cannot_play_tricks_on_the_terminal() {
    let place = Place::new();
    place.output(&["set", "evil\u{1b}[31m\u{9b}", "{\"x\":\"\u{9b}2J\"}"]);
    for verb in [&["list"][..], &["log"], &["get", "evil\u{1b}[31m\u{9b}"]] {
        let text = place.run(&["--table"]).args(verb).assert().success();
        let text = String::from_utf8(text.get_output().stdout.clone()).unwrap();
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
    }
    place
        .run(&["get", "missing\u{1b}[31m"])
        .assert()
        .stderr(contains("\u{1b}").not());
}

#[test]
fn colour_is_for_terminals_unless_it_is_asked_for() {
    let place = Place::with_documents();
    let table = ["--table", "list"];
    place.run(&table).assert().stdout(contains("\u{1b}").not());
    place
        .run(&table)
        .args(["--color", "always"])
        .assert()
        .stdout(contains("\u{1b}[1m"));
    place
        .run(&table)
        .env("CLICOLOR_FORCE", "1")
        .env("NO_COLOR", "1")
        .assert()
        .stdout(contains("\u{1b}").not());
    place
        .run(&["--color", "always", "export"])
        .assert()
        .stdout(EXPORTED);
}

#[test]
fn a_document_is_laid_out_with_its_digits() {
    let place = Place::with_documents();
    let text = place.output(&["--table", "get", "b"]);
    assert_eq!(
        text,
        "{\n  \"n\": 2,\n  \"size\": {\n    \"width\": 3\n  }\n}\n"
    );
    assert!(place.output(&["--table", "get", "a"]).contains("1.50"));
}

#[test]
fn what_was_done_is_said_in_a_sentence() {
    let place = Place::new();
    place
        .run(&["--table", "import", "-"])
        .write_stdin(EXPORTED)
        .assert()
        .success()
        .stdout("imported 3, updated 0, skipped 0\n")
        .stderr("note: 'opslog undo' takes this import back\n");
    assert_eq!(place.output(&["--table", "delete", "a"]), "deleted 1\n");
    assert_eq!(place.output(&["--table", "undo"]), "took back 1 commit\n");
}

#[test]
fn the_log_is_a_line_an_operation() {
    let place = Place::with_documents();
    place.output(&["set", "a", "{}"]);
    let text = place.output(&["--table", "history", "a"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].contains("  create  a (1 of 3)  {\"n\":1"),
        "{text}"
    );
    assert!(lines[1].ends_with("  update  a  {}"), "{text}");
}

#[test]
fn figures_and_segments_are_tables() {
    let place = Place::with_documents();
    place.output(&["archive", "--all", "-s", "old"]);
    assert!(
        place
            .output(&["--table", "stats"])
            .contains("3 in 1 segment")
    );
    assert!(place.output(&["--table", "segments"]).contains("old"));
    assert!(
        place
            .output(&["--table", "segments", "old"])
            .contains("document")
    );
    let verify = place.output(&["--table", "verify"]);
    let archived = verify.lines().last().unwrap().split_whitespace();
    let archived: Vec<&str> = archived.collect();
    assert_eq!(archived[0], "archive/archive-old.json");
    assert_eq!(archived[2..], ["3", "ok"]);
}
